"""Option types and options that several commands share."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from ..backends.base import DEFAULT_KEEP
from ..periods import PERIODS

__all__ = ["AGGREGATE", "DATE", "KEEP", "PERIOD", "aggregate_option", "bucket_option", "period_option"]

F = TypeVar("F", bound=Callable[..., Any])
PERIOD = click.Choice(PERIODS)


class _Date(click.ParamType[dt.date]):
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


class _Keep(click.ParamType[Any]):
    """A number of days; 'forever', which is None; or 'default', which is the library's default."""

    name = "days"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "default":
            return DEFAULT_KEEP
        if isinstance(value, (dt.timedelta, Mapping)):
            return value
        if value == "forever":
            return None
        try:
            days = int(value)
            return dt.timedelta(days=days)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is neither a number of days nor 'forever'", param, ctx)


class _Aggregate(click.ParamType[tuple[str, list[str]]]):
    """name=bucket,bucket."""

    name = "aggregate"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, list[str]]:
        if isinstance(value, tuple):
            return value
        name, equals, sources = value.partition("=")
        buckets = [source.strip() for source in sources.split(",") if source.strip()]
        if not (name and equals and buckets):
            self.fail(f"{value!r} is not of the form total=site1,site2", param, ctx)
        return name, buckets


DATE = _Date()
KEEP = _Keep()
AGGREGATE = _Aggregate()


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
    return click.option("--bucket", "buckets", multiple=True, metavar="NAME", help=help)


def aggregate_option(help: str) -> Callable[[F], F]:
    """--aggregate, which can be repeated."""
    return click.option(
        "--aggregate", "aggregates", type=AGGREGATE, multiple=True, metavar="NAME=BUCKET,BUCKET...", help=help
    )
