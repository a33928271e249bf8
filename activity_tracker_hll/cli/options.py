"""Option types, options that several commands share, and the global ones, which all commands take."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from ..keys import DEFAULT_NAMESPACE
from ..periods import PERIODS
from ..result import UNNAMED
from . import PROGRAM
from .settings import Settings

__all__ = [
    "AGGREGATE",
    "DATE",
    "DAYS",
    "FILE",
    "KEEP",
    "PERIOD",
    "Command",
    "aggregate_option",
    "bucket_option",
    "examples",
    "global_options",
    "one_bucket",
    "period_option",
]

F = TypeVar("F", bound=Callable[..., Any])
PERIOD = click.Choice(PERIODS)
FILE = click.Path(dir_okay=False, readable=False)
"""A file, which may be one that cannot be read: what uses it says so, and goes on if there is more to do."""


class _Date(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4
    """A date, or a date and time, in ISO 8601."""

    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dt.date:
        if isinstance(value, dt.date):
            return value
        try:
            return dt.date.fromisoformat(value)
        except ValueError:
            try:
                return dt.datetime.fromisoformat(value)
            except ValueError:
                self.fail(f"{value!r} is not a date such as 2026-11-23 or 2026-11-23T15:00", param, ctx)


class _Days(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4
    """A number of days."""

    name = "days"
    _refusal = "is no number of days"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, dt.timedelta):
            return value
        try:
            days = int(value)
            return dt.timedelta(days=days)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} {self._refusal}", param, ctx)


class _Keep(_Days):
    """A number of days; or 'forever', which is None."""

    _refusal = "is neither a number of days nor 'forever'"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return None if value == "forever" else super().convert(value, param, ctx)


class _Aggregate(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4
    """name=bucket,bucket."""

    name = "aggregate"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, list[str | None]]:
        if isinstance(value, tuple):
            return value
        name, equals, sources = value.partition("=")
        buckets = [source.strip() for source in sources.split(",") if source.strip()]
        if not (name and equals and buckets):
            self.fail(f"{value!r} is not of the form total=site1,site2", param, ctx)
        return name, [one_bucket(bucket) for bucket in buckets]


DATE = _Date()
DAYS = _Days()
KEEP = _Keep()
AGGREGATE = _Aggregate()


def one_bucket(name: str) -> str | None:
    """A bucket, by the name that people see."""
    return None if name == UNNAMED else name


def period_option(help: str, default: tuple[str, ...] = ()) -> Callable[[F], F]:
    """--period, which can be repeated."""
    return click.option(
        "--period",
        "periods",
        type=PERIOD,
        multiple=True,
        default=default,
        show_default=bool(default),
        help=help,
    )


def bucket_option(help: str) -> Callable[[F], F]:
    """--bucket, which can be repeated."""
    return click.option("--bucket", "buckets", type=one_bucket, multiple=True, metavar="NAME", help=help)


def aggregate_option(help: str) -> Callable[[F], F]:
    """--aggregate, which can be repeated."""
    return click.option(
        "--aggregate", "aggregates", type=AGGREGATE, multiple=True, metavar="NAME=BUCKET,BUCKET...", help=help
    )


def global_options(*, hidden: bool = False) -> list[click.Option]:
    """The options that say where the data are and how they are kept: attributes of the settings.

    Args:
        hidden: make those that stand after a command; the environment is looked at before it.
    """

    def option(*names: str, envvar: str | None = None, **attributes: Any) -> click.Option:
        return click.Option(
            names,
            expose_value=False,
            callback=_set,
            hidden=hidden,
            envvar=None if hidden else envvar,
            show_envvar=True,
            **attributes,
        )

    return [
        option(
            "--url",
            envvar="ACTIVITY_TRACKER_URL",
            help="Redis or Valkey server: redis://host:6379/0, rediss://..., unix://path.",
        ),
        option(
            "--data",
            metavar="DIR",
            type=click.Path(file_okay=False, readable=False),
            help="Keep the data in this directory, with an embedded server. Default without --url:"
            f" {click.get_app_dir(PROGRAM)}",
        ),
        option(
            "--archive",
            metavar="FILE",
            type=FILE,
            help="Read this archive, without a server: see the command archive.",
        ),
        option("--namespace", default=DEFAULT_NAMESPACE, show_default=True, help="First part of every key."),
        option(
            "--timezone",
            metavar="ZONE",
            help="Where days begin, such as Europe/Berlin. Default: as the data have it, else local time.",
        ),
        option(
            "--week-start",
            type=click.IntRange(0, 6),
            help="0 = Monday ... 6 = Sunday. Default: as the data have it, else Monday.",
        ),
        option(
            "--secret",
            envvar="ACTIVITY_TRACKER_SECRET",
            help="Hash ids with it. Better set in the environment: others can see a command's arguments.",
        ),
        option(
            "--keep-sketches",
            type=KEEP,
            metavar="DAYS|forever",
            help="How long sketches are kept after their period, once collapsed, if that is longer than what"
            " was said before: see the command settings. Default: for ever in --data; at --url 8 days of"
            " hourly, 62 of daily periods, 26 weeks, 13 months, 5 quarters, 2 years.",
        ),
    ]


def _set(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Take an option into the settings; after the command it replaces the same one before it."""
    settings, name = ctx.ensure_object(Settings), str(param.name)
    source = ctx.get_parameter_source(name)
    if source is ParameterSource.COMMANDLINE:
        ctx.obj = settings.typed(name, value)
    elif source is ParameterSource.ENVIRONMENT:
        ctx.obj = settings.found(name, value)
    elif os.environ.get(str(param.envvar)) == "":  # which click takes for one that is not set
        ctx.obj = settings.found(name, "")


class Command(click.Command):
    """A command after which the global options may stand, too; its help only says so."""

    def __init__(self, *, params: list[click.Parameter], epilog: str, **attributes: Any) -> None:
        params = [*params, *global_options(hidden=True)]
        epilog += "\n\nThe global options, such as --data and --url, may stand here, too."
        super().__init__(params=params, epilog=epilog, **attributes)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Also complete the names of the global options."""
        found = super().shell_complete(ctx, incomplete)
        if ctx.parent is not None:
            found += click.Command.shell_complete(ctx.parent.command, ctx.parent, incomplete)
        return found


def examples(*lines: str) -> str:
    """The examples in the help of a command, as they are to be typed."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])
