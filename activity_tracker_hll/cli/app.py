"""The command group, and how errors and interrupts are reported."""

from __future__ import annotations

import datetime as dt
import io
import logging
import re
import sys
from collections.abc import Callable
from typing import Any

import click

from .. import __version__
from ..errors import ActivityTrackerError
from .commands.archive import archive, restore
from .commands.collapse import collapse
from .commands.demo import demo
from .commands.doctor import doctor
from .commands.import_ import import_
from .commands.lifecycle import lifecycle
from .commands.lookup import lookup
from .commands.metrics import metrics
from .commands.overlap import overlap
from .commands.report import report
from .commands.retention import retention
from .commands.rolling import rolling
from .commands.settings import settings
from .commands.stickiness import stickiness
from .commands.track import track
from .commands.unique import unique
from .display import LogHandler, console
from .options import global_options

__all__ = ["cli"]

_INTERRUPTED = 130
_MOMENT = re.compile(r"datetime\.(date|datetime)\((\d+(?:, \d+){2,6})\)")
_DAYS = re.compile(r"datetime\.timedelta\(days=(-?\d+)\)")


class _Group(click.Group):
    """Reports errors through the console, the library's in one line, and explains what Ctrl-C means."""

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        run: Callable[..., Any] = super().main
        if not standalone_mode:
            return run(*args, standalone_mode=False, **extra)
        try:
            sys.exit(run(*args, standalone_mode=False, **extra))
        except click.ClickException as error:
            message = io.StringIO()
            error.show(message)
            console(stderr=True).print(message.getvalue(), end="")
            sys.exit(error.exit_code)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ActivityTrackerError as error:
            raise click.ClickException(_as_typed(" ".join(str(error).split()))) from error
        except KeyboardInterrupt:
            console(stderr=True).print(
                "\nInterrupted. Running the same command again is harmless: nothing is counted twice."
            )
            ctx.exit(_INTERRUPTED)


def _as_typed(message: str) -> str:
    """A message of the library with dates and days as options take them."""
    return _DAYS.sub(r"\1 days", _MOMENT.sub(_iso, message))


def _iso(found: re.Match[str]) -> str:
    numbers = map(int, found[2].split(", "))
    moment: dt.date = getattr(dt, found[1])(*numbers)
    return moment.isoformat()


@click.group(
    cls=_Group,
    params=global_options(),
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="These options may stand before or after the command; of the same one twice the later one holds.",
)
@click.version_option(__version__)
def cli() -> None:
    """Daily, weekly, monthly... active users, counted with HyperLogLog in Redis or Valkey."""
    logging.basicConfig(handlers=[LogHandler()], level=logging.WARNING)


for _command in (track, import_, collapse, lookup, settings, metrics, doctor, demo, archive, restore):
    cli.add_command(_command)
for _command in (unique, rolling, stickiness, overlap, retention, lifecycle, report):
    cli.add_command(_command)
