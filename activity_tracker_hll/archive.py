"""Archive: the calls that read, on a file, without a server."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, tzinfo
from functools import partial
from typing import Any, ClassVar

from .archives import ArchiveBackend
from .archiving import Path
from .arguments import AggregateBuckets, Buckets
from .backends.base import BaseBackend
from .periods import PeriodKind
from .reader import Reader

__all__ = ["Archive"]


class Archive(Reader):
    """Reads what :meth:`.ActivityTracker.archive` wrote, as if it were a server at that moment.

    All calls are those of a tracker that only read. Now is when something was archived for the last time, so
    that the period which ran then is the one that runs. What is not in the archive is an error by name, or
    None where a call is given ``missing="none"``; zero is only what is known to have been none.

    Another process may write to the archive meanwhile: the next call reads what it wrote. An archive can be
    used by several threads, and by the children of a fork.

    Args:
        path: of the file.
        periods: kinds of period that calls choose from; None = all.
        buckets: default buckets of calls; None = the one unnamed bucket.
        aggregate_buckets: aggregates beside those that were stored with the data.
        timezone: that days began by; None = as the data have it.
        week_start: of the data; None = as they have it.
        secret: that ids were hashed with: to look for ids by name in what ``sketch()`` returns.

    Raises:
        ArgumentTypeError, ArgumentValueError: naming the argument and what was expected.
        ArchiveError: it is missing, foreign, newer, damaged, or in use.
    """

    _BACKENDS: ClassVar = {}
    _BACKEND = BaseBackend

    def __init__(
        self,
        path: Path,
        *,
        periods: Iterable[PeriodKind] | None = None,
        buckets: Buckets | None = None,
        aggregate_buckets: AggregateBuckets | None = None,
        timezone: str | tzinfo | None = None,
        week_start: int | None = None,
        secret: str | bytes | None = None,
    ) -> None:
        self._file = ArchiveBackend(path, secret=secret)
        super().__init__(
            periods,
            self._file,
            buckets=buckets,
            aggregate_buckets=aggregate_buckets,
            timezone=timezone,
            week_start=week_start,
            clock=self._file.now,
        )
        self._given: dict[str, Any] = {"path": path, "secret": secret}

    def __reduce__(self) -> tuple[Any, ...]:
        """In another process it is made anew, with the same arguments."""
        options = {name: value for name, value in self._options.items() if name != "clock"}
        return partial(type(self), **{**options, **self._given, "periods": self._planner.periods}), ()

    @property
    def archived_at(self) -> datetime:
        """When something was archived for the last time; in UTC.

        Raises:
            ArchiveError: the file cannot be read.
        """
        return datetime.fromtimestamp(self._file.now(), UTC)
