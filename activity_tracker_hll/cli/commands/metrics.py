"""The command `metrics`: counts as Prometheus reads them, from a file of node_exporter's or a pipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ...errors import BackendError
from ...keys import check_bucket
from ...operations.due import kinds_of
from ...paths import Place
from ...periods import PeriodKind
from ..display import write
from ..options import FILE, Command, bucket_option, examples, period_option
from ..results import known_buckets
from ..settings import Settings

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

__all__ = ["metrics"]


@click.command(
    cls=Command,
    epilog=examples(
        "activity-tracker-hll metrics",
        "activity-tracker-hll metrics --output /var/lib/prometheus/node-exporter/active_users.prom",
        "activity-tracker-hll metrics --period daily --bucket shop --bucket blog",
    ),
)
@period_option("Only this kind of period; can be repeated. Default: all that there are.")
@bucket_option(
    "Only this bucket or aggregate, (all) for the unnamed bucket; can be repeated. Default: all that there"
    " are. Where buckets and kinds of period are given, the server is not searched for them."
)
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="Show so many buckets of each kind of period, those with the largest counts.",
)
@click.option(
    "--output",
    type=FILE,
    metavar="FILE.prom",
    help="Replace this file, in one step, in the directory that node_exporter's textfile collector reads.",
)
@click.option(
    "--openmetrics", is_flag=True, help="OpenMetrics instead of the text format, which files have to have."
)
@click.pass_obj
def metrics(
    settings: Settings,
    *,
    periods: tuple[PeriodKind, ...],
    buckets: tuple[str | None, ...],
    limit: int,
    output: str | None,
    openmetrics: bool,
) -> None:
    """Show live and collapsed counts as metrics of Prometheus.

    They have the names that CountsCollector gives them in a service. If the server fails, only
    activity_tracker_hll_up is there, which is 0, and the exit status is 1.
    """
    if output is not None and openmetrics:
        raise click.UsageError(
            "--output and --openmetrics exclude each other: node_exporter takes the text format"
        )
    place = None if output is None else Place.of(output, "a file", "--output")
    if place is not None and place.path.suffix != ".prom":
        raise click.UsageError(f"node_exporter reads *.prom alone, not {place.path.name}")
    for bucket in buckets:
        check_bucket(bucket)
    from ...metrics import answers, exposition  # noqa: PLC0415 (an extra)

    answer, failure = None, None
    try:
        with settings.tracker() as tracker:
            there = [] if periods and buckets else tracker.inventory()
            kinds = periods or tuple(kinds_of(there))
            names = buckets or tuple(known_buckets(tracker, None, (), inventory=there))
            answer = answers.Question(tracker, kinds, names).ask(settings.clock())
    except BackendError as error:
        failure = error
    _write(
        exposition.Exposition(answer, settings.clock(), limit, is_up=failure is None),
        place,
        openmetrics=openmetrics,
    )
    if failure is not None:
        raise failure


def _write(found: Collector, place: Place | None, *, openmetrics: bool) -> None:
    from prometheus_client import generate_latest, write_to_textfile  # noqa: PLC0415 (an extra)
    from prometheus_client.openmetrics import exposition as of_openmetrics  # noqa: PLC0415

    registry: Any = found  # of a registry only that is asked which a collector has
    if place is None:
        write((of_openmetrics.generate_latest if openmetrics else generate_latest)(registry).decode())
        return
    try:
        write_to_textfile(str(place.path), registry)
    except OSError as error:
        raise click.ClickException(f"{place.shown} cannot be written: {place.why(error)}") from error
