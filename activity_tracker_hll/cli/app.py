"""The command group: global options, and how errors and interrupts are reported."""

from __future__ import annotations

import time
from typing import Any

import click
from click.core import ParameterSource

from .. import __version__
from ..errors import ActivityTrackerError
from ..keys import DEFAULT_NAMESPACE
from .commands.collapse import collapse
from .commands.demo import demo
from .commands.doctor import doctor
from .commands.import_ import import_
from .commands.lookup import lookup
from .commands.track import track
from .options import KEEP
from .settings import Settings

__all__ = ["cli"]

_INTERRUPTED = 130


class _Group(click.Group):
    """Reports the library's errors in one line, and explains in one line what Ctrl-C means."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ActivityTrackerError as error:
            raise click.ClickException(" ".join(str(error).split())) from error
        except KeyboardInterrupt:
            click.echo(
                "\nInterrupted. Running the same command again is harmless: nothing is counted twice.",
                err=True,
            )
            ctx.exit(_INTERRUPTED)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
@click.option(
    "--url",
    envvar="ACTIVITY_TRACKER_URL",
    show_envvar=True,
    help="Redis or Valkey server: redis://host:6379/0, rediss://..., unix://path.",
)
@click.option(
    "--data",
    metavar="DIR",
    help="Keep the data in this directory, with an embedded server. Default without --url:"
    f" {click.get_app_dir('activity-tracker-hll')}",
)
@click.option("--namespace", default=DEFAULT_NAMESPACE, show_default=True, help="First part of every key.")
@click.option(
    "--timezone", metavar="ZONE", help="Where days begin, such as Europe/Berlin. Default: local time."
)
@click.option(
    "--week-start", type=click.IntRange(0, 6), default=0, show_default=True, help="0 = Monday ... 6 = Sunday."
)
@click.option(
    "--secret",
    envvar="ACTIVITY_TRACKER_SECRET",
    show_envvar=True,
    help="Hash ids with it. Better set in the environment: others can see a command's arguments.",
)
@click.option(
    "--keep-sketches",
    type=KEEP,
    default="default",
    metavar="DAYS|forever",
    help="How long sketches are kept after their period, once collapsed."
    " Default: 8 days of hourly, 62 of daily periods, 26 weeks, 13 months, 5 quarters, 2 years.",
)
@click.pass_context
def cli(  # click passes each global option as an argument of its own
    ctx: click.Context,
    *,
    url: str | None,
    data: str | None,
    namespace: str,
    timezone: str | None,
    week_start: int,
    secret: str | None,
    keep_sketches: Any,
) -> None:
    """Daily, weekly, monthly... active users, counted with HyperLogLog in Redis or Valkey."""
    explicit = {
        name for name in ("url", "data") if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    if len(explicit) == 2:
        raise click.UsageError("--url and --data are two places for the data: give one of them")
    if "data" in explicit:
        url = None  # what is typed overrides the environment
    ctx.obj = Settings(
        url=url or None,
        data=data,
        namespace=namespace,
        timezone=timezone,
        week_start=week_start,
        secret=secret or None,
        keep_sketches=keep_sketches,
        is_explicit=bool(explicit),
        clock=time.time,
    )


for _command in (track, import_, collapse, lookup, doctor, demo):
    cli.add_command(_command)
