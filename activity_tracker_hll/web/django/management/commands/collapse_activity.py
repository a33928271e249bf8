"""The management command ``collapse_activity``: from sketches to stored counts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from inspect import iscoroutinefunction
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from .....arguments import attribute
from .....errors import ActivityTrackerError, CollapseError
from .....messages import shown
from .....operations import Collapsed
from .....periods import PERIODS
from .....words import many
from ... import SETTING, configured

__all__ = ["Command"]


class Command(BaseCommand):  # type: ignore[misc]  # Django has no types
    """Collapses all that is over and not counted, in the buckets of the project's tracker."""

    help = (
        "Store the counts of every period that is over and not counted, in the buckets of the tracker that"
        f" {SETTING} names. Can be interrupted and run again; with --verbosity 0 it says only what failed."
    )

    def add_arguments(self, parser: Any) -> None:
        """Add the options to Django's own."""
        parser.add_argument(
            "--period",
            action="append",
            choices=PERIODS,
            dest="periods",
            help="Only this kind of period; can be repeated. Default: those of the tracker.",
        )
        parser.add_argument(
            "--recount", action="store_true", help="Count again what was counted, where sketches are kept."
        )

    def handle(
        self, *, periods: Sequence[str] | None, recount: bool, verbosity: int, **_options: Any
    ) -> None:
        """Run the command.

        Raises:
            CommandError: saying what failed; all else is done.
        """
        done: Sequence[Collapsed] = ()
        failure = None
        try:
            done = _collapse()(periods, recount=recount)
        except CollapseError as error:
            done, failure = error.collapsed, error
        except (ActivityTrackerError, ImproperlyConfigured) as error:
            raise CommandError(str(error)) from error
        if verbosity:
            for line in _lines(done):
                self.stdout.write(line)
        if failure is not None:
            # The library's message names an argument, which is an option here.
            raise CommandError(str(failure).replace("recount=True", "--recount")) from failure
        if verbosity and not done:
            self.stdout.write("Nothing to collapse in the tracker's buckets.")


def _collapse() -> Any:
    """The method of the tracker in the settings."""
    [tracker] = configured("tracker")
    collapse = attribute(tracker, "collapse")
    if not callable(collapse) or iscoroutinefunction(collapse):
        raise ImproperlyConfigured(f"{SETTING}['tracker'] must be an ActivityTracker, got {shown(tracker)}")
    return collapse


def _lines(done: Sequence[Collapsed]) -> Iterator[str]:
    """What was stored, a line for each kind of period and bucket."""
    stored = defaultdict(list)
    for collapsed in done:
        stored[PERIODS.index(collapsed.period.kind), collapsed.bucket or ""].append(collapsed)
    for (kind, bucket), counts in sorted(stored.items()):
        last = max(counts, key=lambda collapsed: collapsed.period.start)
        yield (
            f"{PERIODS[kind]} {bucket or '(unnamed)'}: {many(len(counts), 'count')},"
            f" the last {last.count:,} ({last.period.date.isoformat()})"
        )
