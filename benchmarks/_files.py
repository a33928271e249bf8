"""Event files made for a benchmark, and what else counts distinct ids in them, each in its own process."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

__all__ = ["Contestant", "Events", "contestants", "make_events", "write"]

DAYS = 30
BUCKETS = 3
_STEP = 200_000
_BEGIN = np.datetime64("2026-06-01T00:00:00", "s")
_LOG_LINE = (
    '{id} - - [{time} +0000] "GET /articles/{n}/some-title?page=3 HTTP/1.1" 200 {n}00'
    ' "https://example.com/articles/{n}/" "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36'
    ' (KHTML, like Gecko) Chrome/{n}.0.0.0 Safari/537.36"\n'
)
_OURS = "from activity_tracker_hll.__main__ import main; main()"
_WITHOUT_MSGSPEC = f"import sys; sys.modules['msgspec'] = None; {_OURS}"
_DUCKDB = (
    'import duckdb, sys; print(len(duckdb.sql("select time::date, bucket, count(distinct id) from'
    ' read_{}(\'" + sys.argv[1] + "\') group by all").fetchall()))'
)
_POLARS = (
    "import polars as pl, sys; days = pl.col('time').str.slice(0, 10);"
    " print(pl.scan_{}(sys.argv[1]).group_by(days, 'bucket').agg(pl.col('id').n_unique()).collect().height)"
)
_PANDAS = (
    "import pandas as pd, sys; f = pd.read_csv(sys.argv[1]);"
    " print(len(f.groupby([f['time'].str[:10], 'bucket'])['id'].nunique()))"
)
# What a process is said to have taken at most is no less than what the one that started it had: a small one
# starts it, waits and tells.
_LAUNCHER = """
import json, os, sys
silent = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
process = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=silent)
_, status, usage = os.wait4(process, 0)
print(json.dumps([os.waitstatus_to_exitcode(status), usage.ru_maxrss]))
"""
_AWK = "awk '{print substr($4, 2, 11), $1}' | sort -u | wc -l"


@dataclass(frozen=True, slots=True)
class Events:
    """Some events, as columns."""

    ids: NDArray[np.str_]
    buckets: NDArray[np.str_]
    times: NDArray[np.datetime64]


def make_events(kind: str, count: int, known: int) -> Iterator[Events]:
    """Events of a month, in the order of time in a log, else of chance."""
    source = np.random.default_rng(1)
    numbers = source.integers(0, 2**32 if kind == "log" else 2**63, known).tolist()
    as_address = "{0[0]}.{0[1]}.{0[2]}.{0[3]}".format
    ids = np.array([as_address(n.to_bytes(4, "big")) if kind == "log" else f"u{n:016x}" for n in numbers])
    names = np.array([f"site{number}" for number in range(BUCKETS)])
    for start in range(0, count, _STEP):
        size = min(_STEP, count - start)
        span = DAYS * 86_400
        seconds = (
            np.arange(start, start + size) * span // count
            if kind == "log"
            else source.integers(0, span, size)
        )
        yield Events(source.choice(ids, size), source.choice(names, size), _BEGIN + seconds)


def write(path: Path, kind: str, parts: Iterator[Events]) -> Iterator[Events]:
    """Write events to a file, and hand them on."""
    with path.open("w", encoding="ascii") as file:
        if kind == "csv":
            file.write("id,bucket,time\n")
        for part in parts:
            columns = part.ids.tolist(), part.buckets.tolist(), part.times.astype(str).tolist()
            if kind == "log":
                times = [time.strftime("%d/%b/%Y:%H:%M:%S") for time in part.times.tolist()]
                numbers = (n % 1000 + 1 for n in range(len(times)))
                file.writelines(
                    _LOG_LINE.format(id=id, time=time, n=n)
                    for id, time, n in zip(columns[0], times, numbers, strict=True)
                )
            elif kind == "csv":
                file.writelines(f"{id},{bucket},{time}\n" for id, bucket, time in zip(*columns, strict=True))
            else:
                line = '{{"id": "{}", "bucket": "{}", "time": "{}"}}\n'.format
                file.writelines(map(line, *columns))
            yield part
    if kind == "log":
        with path.open("rb") as file, gzip.open(f"{path}.gz", "wb", 6) as packed:
            shutil.copyfileobj(file, packed)


@dataclass(slots=True)
class Contestant:
    """A process that counts the ids in a file.

    Attributes:
        file: what it reads, for the table.
        what: its name.
        command: the process; None if it is not installed.
        goal: how many times as fast as it ours is to be; None for none.
        is_ours: whether it leaves sketches on the server.
        peak: the most memory that it took, in bytes.
    """

    file: str
    what: str
    command: Sequence[str] | None
    goal: float | None = None
    is_ours: bool = False
    peak: int = 0

    def run(self) -> None:
        """Run the process to its end.

        Raises:
            click.ClickException: it failed.
        """
        if self.command is None:
            return
        launched = [sys.executable, "-I", "-S", "-c", _LAUNCHER, *self.command]
        run = subprocess.run(launched, capture_output=True, check=True)  # noqa: S603 (the benchmark's own)
        status, peak = json.loads(run.stdout)
        self.peak = max(self.peak, peak * 1024)
        if status:
            raise click.ClickException(f"{self.what} failed: {run.stderr.decode()[-500:]}")


def contestants(path: Path, kind: str, url: str) -> list[Contestant]:
    """All that count the ids of a file of a kind: log, log.gz, csv or jsonl. The first one is ours."""
    fields = [] if kind.startswith("log") else ["--bucket-field", "bucket"]
    options = ["--timezone", "UTC", "--url", url, "import", str(path), *fields]

    def ours(what: str, code: str = _OURS) -> Contestant:
        return Contestant(kind, what, [sys.executable, "-c", code, *options], is_ours=True)

    def module(name: str, code: str, goal: float | None = None) -> Contestant:
        return Contestant(
            kind, name, [sys.executable, "-c", code, str(path)] if find_spec(name) else None, goal
        )

    if kind.startswith("log"):
        show = "zcat" if kind.endswith(".gz") else "cat"
        goaccess = ["goaccess", str(path), "--log-format=COMBINED", "--no-progress", "-o", f"{path}.json"]
        if kind.endswith(".gz"):
            goaccess = [
                "sh",
                "-c",
                f"zcat {path} | goaccess - --log-format=COMBINED --no-progress -o {path}.json",
            ]
        return [
            ours("import"),
            Contestant(kind, "GoAccess", goaccess if shutil.which("goaccess") else None, 6),
            Contestant(kind, "awk | sort -u", ["sh", "-c", f"{show} {path} | {_AWK}"], 0.4),
        ]
    if kind == "csv":
        return [
            ours("import"),
            module("duckdb", _DUCKDB.format("csv"), 0.5),
            module("polars", _POLARS.format("csv")),
            module("pandas", _PANDAS),
        ]
    return [
        *([ours("import")] if find_spec("msgspec") else []),
        ours("import, standard library", _WITHOUT_MSGSPEC),
        module("duckdb", _DUCKDB.format("json"), 0.35),
        module("polars", _POLARS.format("ndjson")),
    ]
