"""The global options as a value, the tracker that they describe, and commands that repeat them."""

from __future__ import annotations

import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

import click

from ..archive import Archive
from ..backends.base import DEFAULT_KEEP, Keep
from ..errors import ActivityTrackerError
from ..keys import DEFAULT_NAMESPACE
from ..paths import Place
from ..reader import Reader
from ..tracker import ActivityTracker
from . import PROGRAM

__all__ = ["Settings"]

_PLACES = {"url", "data", "archive"}
# In the query of a URL: username, password, ssl_password...
_CREDENTIAL = re.compile("user|pass|secret|cred", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Settings:
    """The global options of the command line.

    Attributes:
        url: the server with the data.
        data: the directory with the data; without either, the user's own data directory.
        archive: the file of an archive, to be read in place of a server.
        namespace: see :class:`~.backends.base.BackendSettings`.
        timezone: an IANA name; None = as the data have it.
        week_start: 0 = Monday ... 6 = Sunday; None = as the data have it.
        secret: see :class:`~.backends.base.BackendSettings`.
        keep_sketches: likewise.
        given: names of the options that were typed, not taken from the environment or a default.
        clock: seconds since the epoch.
    """

    url: str | None = None
    data: str | None = None
    archive: str | None = None
    namespace: str = DEFAULT_NAMESPACE
    timezone: str | None = None
    week_start: int | None = None
    secret: str | None = None
    keep_sketches: Keep = field(default_factory=lambda: DEFAULT_KEEP)
    given: frozenset[str] = frozenset()
    clock: Callable[[], float] = time.time

    def found(self, name: str, value: Any) -> Self:
        """These settings with one from the environment."""
        return replace(self, **{name: value})

    def typed(self, name: str, value: Any) -> Self:
        """These settings with one that was typed.

        Raises:
            click.UsageError: it is empty, or a second place for the data.
        """
        if value == "":
            raise click.UsageError(
                f"--{name} is empty, as if by a variable that is not set: give one, or none"
            )
        given = self.given | {name}
        places = sorted(f"--{place}" for place in given & _PLACES)
        if len(places) > 1:
            raise click.UsageError(f"{' and '.join(places)} are two places for the data: give one of them")
        return replace(self, **{name: value}, given=given)

    @property
    def is_explicit(self) -> bool:
        """Whether the place of the data was typed."""
        return not _PLACES.isdisjoint(self.given)

    @contextmanager
    def reader(self, **overrides: Any) -> Iterator[Reader]:
        """What reads: an archive if one was given, else a tracker, see :meth:`tracker`."""
        if self.archive is None:
            with self.tracker(**overrides) as tracker:
                yield tracker
            return
        _check_found("secret", self.secret)
        options = {"timezone": self.timezone, "week_start": self.week_start, "secret": self.secret}
        with Archive(self.archive, **{**options, **overrides}) as archive:
            yield archive

    @contextmanager
    def tracker(
        self, *, writes: bool = False, creates: bool = False, **overrides: Any
    ) -> Iterator[ActivityTracker]:
        """A tracker, which is closed in the end.

        Args:
            writes: whether it may be the first to write there; it reads the settings of the data before. A
                store of the command line's own, in which files are analysed, keeps its sketches for ever
                unless somebody says otherwise.
            creates: whether the directory that was typed may be a new one.
            overrides: arguments in place of the settings.

        Raises:
            click.UsageError: an archive was given, which is only read; or what the environment has is empty.
            click.ClickException: it is not there.
        """
        if self.archive is not None:
            raise click.UsageError("--archive is only read: this command needs --url or --data")
        url = None if "data" in self.given else self.url  # what is typed overrides the environment
        _check_found("url", url)
        _check_found("secret", self.secret)
        if self.data and not (creates or url) and "data" in self.given and _is_missing(self.data):
            raise click.ClickException(f"there are no data in {self.data}: no such directory")
        options: dict[str, Any] = {
            "backend": "redis" if url else "embedded",
            "namespace": self.namespace,
            "timezone": self.timezone,
            "week_start": self.week_start,
            "secret": self.secret,
            "keep_sketches": self.keep_sketches,
            "clock": self.clock,
        }
        if url:
            options["url"] = url
        else:
            options["path"] = self.data or click.get_app_dir(PROGRAM)
        with ActivityTracker(**{**options, **overrides}) as tracker:
            if writes and tracker.settings.timezone is None and not url and "keep_sketches" not in self.given:
                tracker.change_settings(keep_sketches=None)
            yield tracker

    def command(self, *words: str) -> list[str]:
        """A command with the options that were typed, to be typed next; without secrets."""
        shown: Mapping[str, str | None] = {
            "url": self.url and _without_credentials(self.url),
            "data": self.data,
            "archive": self.archive,
            "namespace": self.namespace,
            "timezone": self.timezone,
            "week_start": None if self.week_start is None else str(self.week_start),
            "keep_sketches": str(self.keep_sketches.days)
            if isinstance(self.keep_sketches, timedelta)
            else "forever",
        }
        options = ((f"--{name.replace('_', '-')}", shown[name]) for name in shown if name in self.given)
        return [_called(), *words, *(word for option in options for word in option if word is not None)]


def _called() -> str:
    """How to call the program: by its name, unless it was called by a path and is not found by its name."""
    path = Path(sys.argv[0])
    found = shutil.which(PROGRAM)
    is_found = found is not None and path.exists() and path.samefile(found)
    return PROGRAM if path.name != PROGRAM or is_found else str(path)


def _check_found(name: str, value: str | None) -> None:
    """Check what may be from the environment: other data than those that were meant are worse than none.

    Raises:
        click.UsageError: it is empty.
    """
    if value == "":
        raise click.UsageError(
            f"ACTIVITY_TRACKER_{name.upper()} is set, but empty: give it a value, or unset it"
        )


def _is_missing(path: str) -> bool:
    try:
        Place.of(path, "a directory", "--data").path.lstat()
    except FileNotFoundError:
        return True
    except (ActivityTrackerError, OSError):  # the backend says so
        pass
    return False


def _without_credentials(url: str) -> str:
    """A URL without user and password, which may stand before the host or in the query."""
    parts = urlsplit(url)
    query = urlencode(
        [(name, value) for name, value in parse_qsl(parts.query) if not _CREDENTIAL.search(name)]
    )
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return f"{shown}?{query}" if query else shown
