"""Draws the dashboard for Grafana: ``grafana_dashboard.json``.

It is built with Grafana's own types (``grafana-foundation-sdk``), which are made from the schema of
dashboards of Grafana 10.1, so a type checker knows that it is a valid one; later versions take these, too.

Run it after a change; a test compares the file with what is made now.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models import dashboard as models

__all__ = ["drawn"]

FILE = Path(__file__).with_name("grafana_dashboard.json")
SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
OF_JOB, OF_BUCKET = 'job=~"$job"', 'job=~"$job",bucket=~"$bucket"'
COLOR = "semi-dark-blue"
PANEL_HEIGHT, STAT_HEIGHT, WIDTH = 9, 4, 24

COUNTED_IN = {"daily": "DAU", "weekly": "WAU", "monthly": "MAU"}
MEANING = (
    "Distinct ids of the newest collapsed period, in a band of 95 %, and so far in the running one."
    " Weeks and months are those of the calendar."
)


# Queries


def counted(name: str, period: str, state: str = "collapsed") -> str:
    """The counts by bucket: the largest, where several instances of a service export them."""
    labels = f'{OF_BUCKET},period="{period}",state="{state}"'
    return f"max by (bucket) (activity_tracker_hll_{name}{{{labels}}})"


def of_writers(name: str, *, is_counter: bool) -> str:
    """A number of all writers, by the value of their label; of counters, the increase a second."""
    series = f"activity_tracker_hll_{name}{{{OF_JOB}}}"
    return f"sum by (writer) ({f'rate({series}[$__rate_interval])' if is_counter else series})"


STICKINESS = f"{counted('active_users', 'daily')} / {counted('active_users', 'monthly')}"
AGE_OF_COLLAPSE = (
    f"time() - max by (period) (activity_tracker_hll_collapsed_until_timestamp_seconds{{{OF_JOB}}})"
)
AGE_OF_COUNTS = f"time() - max(activity_tracker_hll_counts_updated_timestamp_seconds{{{OF_JOB}}})"


# Panels


def target(expression: str, legend: str) -> prometheus.Dataquery:
    """A query over the range that is shown."""
    return prometheus.Dataquery().expr(expression).legend_format(legend).range()


def number(
    title: str, expression: str, unit: str, *, legend: str = "", bad_from: float | None = None
) -> stat.Panel:
    """The last value, large; red from some value on."""
    panel = (
        stat.Panel()
        .title(title)
        .datasource(SOURCE)
        .height(STAT_HEIGHT)
        .span(4)
        .unit(unit)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .graph_mode(kinds.BigValueGraphMode.NONE)
        .with_target(target(expression, legend))
    )
    if bad_from is not None:
        steps = [models.Threshold(value=None, color="green"), models.Threshold(value=bad_from, color="red")]
        panel.thresholds(dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps))
    return panel


def lines(title: str, queries: Mapping[str, str], unit: str, width: int, text: str = "") -> timeseries.Panel:
    """Lines, by what they are called."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(text)
        .datasource(SOURCE)
        .height(PANEL_HEIGHT)
        .span(width)
        .unit(unit)
        .min(0)
        .show_points(kinds.VisibilityMode.NEVER)
        .tooltip(common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.MULTI))
    )
    for legend, expression in queries.items():
        panel.with_target(target(expression, legend))
    return panel


def band(period: str) -> timeseries.Panel:
    """The counts of one bucket in a kind of period, with low and high."""
    queries = {
        "low": counted("active_users_low", period),
        "high": counted("active_users_high", period),
        "collapsed": counted("active_users", period),
        "so far": counted("active_users", period, "live"),
    }
    hidden = [
        models.DynamicConfigValue(id_val="custom.lineWidth", value=0),
        models.DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": COLOR}),
        models.DynamicConfigValue(
            id_val="custom.hideFrom", value={"legend": True, "tooltip": False, "viz": False}
        ),
    ]
    filled = [
        models.DynamicConfigValue(id_val="custom.fillBelowTo", value="low"),
        models.DynamicConfigValue(id_val="custom.fillOpacity", value=25),
    ]
    line = models.DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": COLOR})
    dashed = models.DynamicConfigValue(id_val="custom.lineStyle", value={"fill": "dash", "dash": [6, 6]})
    return (
        lines(f"{COUNTED_IN[period]} of $bucket", queries, "short", WIDTH // 3, MEANING)
        .override_by_name("low", hidden)
        .override_by_name("high", hidden + filled)
        .override_by_name("collapsed", [line])
        .override_by_name("so far", [dashed])
    )


def overview() -> Iterator[Builder[models.Panel]]:
    """What is looked at first."""
    yield number(
        "Servers that do not answer",
        f"count(activity_tracker_hll_up{{{OF_JOB}}} == 0) or vector(0)",
        "short",
        bad_from=1,
    )
    yield number("Age of the counts", AGE_OF_COUNTS, "s", bad_from=600)
    yield number("Since the newest collapsed period", AGE_OF_COLLAPSE, "s", legend="{{period}}")
    yield number(
        "Suspect counts",
        f"sum(max by (period, bucket, state) (activity_tracker_hll_active_users_suspect{{{OF_BUCKET}}}))",
        "short",
        bad_from=1,
    )
    yield number(
        "Buckets that cannot be read",
        f"max by (period) (activity_tracker_hll_buckets_unreadable{{{OF_JOB}}})",
        "short",
        legend="{{period}}",
        bad_from=1,
    )
    yield number(
        "Smaller buckets left out",
        f"max by (period) (activity_tracker_hll_buckets_left_out{{{OF_JOB}}})",
        "short",
        legend="{{period}}",
    )
    yield lines(
        "DAU by bucket", {"{{bucket}}": counted("active_users", "daily")}, "short", WIDTH // 2, MEANING
    )
    yield lines(
        "Stickiness by bucket",
        {"{{bucket}}": STICKINESS},
        "percentunit",
        WIDTH // 2,
        "DAU / MAU, of the newest collapsed day and month. The command stickiness tells it of trailing"
        " windows, with its error.",
    )


def writers() -> Iterator[Builder[models.Panel]]:
    """What became of events."""
    yield lines(
        "Events a second",
        {
            "{{writer}} tracked": of_writers("events_tracked_total", is_counter=True),
            "{{writer}} pushed": of_writers("events_pushed_total", is_counter=True),
        },
        "ops",
        WIDTH // 3,
    )
    yield lines(
        "Events pending",
        {"{{writer}}": of_writers("events_pending", is_counter=False)},
        "short",
        WIDTH // 3,
        "Not acknowledged by the server yet.",
    )
    yield lines(
        "Events lost a second",
        {
            "{{writer}} dropped": of_writers("events_dropped_total", is_counter=True),
            "{{writer}} late": of_writers("events_late_total", is_counter=True),
        },
        "ops",
        WIDTH // 3,
        "Dropped: too many buckets or moves at once, or no valid id. Late: their period was collapsed.",
    )
    yield number(
        "Writers in trouble",
        f"count(activity_tracker_hll_healthy{{{OF_JOB}}} == 0) or vector(0)",
        "short",
        bad_from=1,
    )
    yield lines(
        "Bytes sent a second",
        {"{{writer}}": of_writers("sent_bytes_total", is_counter=True)},
        "Bps",
        WIDTH // 3,
    )


# All


def variable(name: str, label: str, query: str) -> dashboard.QueryVariable:
    """Values of a label, of which several can be chosen."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query(query)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_CASE_INSENSITIVE_ASC)
        .multi(multi=True)
        .include_all(include_all=True)
        .current(models.VariableOption(selected=True, text="All", value="$__all"))
    )


def drawn() -> str:
    """The dashboard as JSON."""
    board = (
        dashboard.Dashboard("Active users")
        .uid("activity-tracker-hll")
        .description("Counts and writers of activity-tracker-hll.")
        .tags(["activity-tracker-hll"])
        .time("now-90d", "now")
        .refresh("5m")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(variable("job", "Job", "label_values(activity_tracker_hll_up, job)"))
        .with_variable(
            variable(
                "bucket", "Bucket", 'label_values(activity_tracker_hll_active_users{job=~"$job"}, bucket)'
            )
        )
    )
    for panel in overview():
        board.with_panel(panel)
    board.with_row(dashboard.Row("$bucket").repeat("bucket"))
    for period in COUNTED_IN:
        board.with_panel(band(period))
    board.with_row(dashboard.Row("Writers"))
    for panel in writers():
        board.with_panel(panel)
    built = board.build()
    for panel_or_row, number_ in zip(built.panels or (), count(1)):
        panel_or_row.id_val = number_
    return json.dumps(built, cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    FILE.write_text(drawn(), "utf-8")
    print(f"wrote {FILE}")
