"""Plans of the calls that write and read archives: arguments are checked, an operation is returned."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta

from . import arguments
from .archives import ArchiveFile, Head
from .errors import ArgumentValueError
from .messages import shown
from .operations import Archived, Chosen, Examination, Operation, Restored, archive, restore, unarchived
from .operations.base import Context
from .periods import PERIODS, PeriodKind
from .planner import Planner

__all__ = ["Archiving", "Path"]

Path = str | os.PathLike[str]
_SOON = timedelta(days=7)


class Archiving:
    """Plans calls about archives for one tracker."""

    def __init__(self, planner: Planner) -> None:
        self._planner = planner

    def archive(
        self,
        path: Path,
        periods: Iterable[PeriodKind] | None,
        start: dt.date | None,
        end: dt.date | None,
        buckets: arguments.Buckets | None,
        moves: bool | None,
        shard: int,
    ) -> Operation[Archived]:
        """See :meth:`.ActivityTracker.archive`."""
        planner = self._planner
        file, context = ArchiveFile(path), planner.data_set(shard).context
        tables = None if moves is None else arguments.flag(moves, "moves")
        choose = self._choice(periods, start, end, buckets)

        def operation() -> Operation[Archived]:
            now = planner.clock()
            new = Head(context.keys.namespace, shard, has_tables=tables is not False, archived_at=now)
            return (yield from archive(context, choose(), file, new, tables, planner.calendar.local(now)))

        return operation()

    def restore(
        self,
        path: Path,
        periods: Iterable[PeriodKind] | None,
        start: dt.date | None,
        end: dt.date | None,
        buckets: arguments.Buckets | None,
        keep: timedelta | None,
        shard: int,
    ) -> Operation[Restored]:
        """See :meth:`.ActivityTracker.restore`."""
        file, data = ArchiveFile(path), self._planner.data_set(shard)
        if keep is not None and not arguments.duration(keep, "keep"):
            raise ArgumentValueError(f"keep must be positive, got {shown(keep)}")
        choose = self._choice(periods, start, end, buckets)
        return restore(data, choose, file, keep, self._planner.clock)

    def examine(self, shard: int, role: str | None, path: Path | None) -> Operation[Examination]:
        """See :meth:`.ActivityTracker.examine`."""
        examination = self._planner.examine(shard, role)
        if path is None:
            return examination
        return _with_archive(self._planner.data_set(shard).context, examination, ArchiveFile(path))

    def _choice(
        self,
        periods: Iterable[PeriodKind] | None,
        start: dt.date | None,
        end: dt.date | None,
        buckets: arguments.Buckets | None,
    ) -> Callable[[], Chosen]:
        """What is chosen, once it is known in which zone dates are."""
        kinds = PERIODS if periods is None else arguments.kinds(periods)
        if not kinds:
            raise ArgumentValueError("periods lists no kinds of period: name one, or leave it out")
        names = None if buckets is None else arguments.bucket_list(buckets)
        calendar = self._planner.calendar

        def choose() -> Chosen:
            first, last = (
                None if bound is None else calendar.moment(bound, name)
                for bound, name in ((start, "start"), (end, "end"))
            )
            if first is not None and last is not None and first > last:
                raise ArgumentValueError(f"start must not be after end, got {shown(start)} and {shown(end)}")
            return Chosen(kinds, first, last, names)

        choose()
        return choose


def _with_archive(
    context: Context, examination: Operation[Examination], file: ArchiveFile
) -> Operation[Examination]:
    found = yield from examination
    warnings = yield from unarchived(context, found.entries, file, _SOON)
    return replace(found, warnings=(*found.warnings, *warnings))
