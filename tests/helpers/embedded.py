"""Users of an embedded server, in this process and in others, and what they leave."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from activity_tracker_hll import ActivityTracker
from helpers.servers import eventually

USER = textwrap.dedent(
    """
    import sys
    from activity_tracker_hll import ActivityTracker
    tracker = ActivityTracker(["daily"], backend="embedded", path=sys.argv[1], timezone="UTC")
    for n in range(int(sys.argv[2])):
        tracker.track(id=f"{sys.argv[3]}-{n}")
    print("ready", flush=True)
    sys.stdin.readline()
    """
)


def embedded(path: Any = None, **options: Any) -> ActivityTracker:
    return ActivityTracker(["daily"], backend="embedded", path=path, timezone="UTC", **options)


def count(tracker: ActivityTracker) -> Any:
    return tracker.lookup(live=True)[-1][1][None]


def wait_until_written(path: Path) -> None:
    """Wait until the server on a directory, which others hold open, has put all in its file.

    While it waits for a disk, up to two seconds are only in its memory, and die with it.
    """
    wanted = {b"aof_buffer_length:0", b"aof_pending_bio_fsync:0"}
    with embedded(path) as tracker:
        eventually(
            lambda: wanted <= set(tracker.backend.execute([("INFO", "persistence")])[0].split()),
        )


def servers(path: Path) -> list[int]:
    """Live server processes on a directory."""
    return [
        process.pid
        for process in psutil.process_iter(["cwd", "status"])
        if process.info["cwd"] == str(path) and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


@contextlib.contextmanager
def user(
    path: Path, events: int, name: str, *, before: str = "", source: str = USER, **options: Any
) -> Iterator[Any]:
    """Another process that uses the directory until it is told to end.

    Args:
        path: the directory.
        events: how many it tracks.
        name: the first part of its ids.
        before: code that it runs first.
        source: its program.
        options: of Popen.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", f"{before}\n{source}", str(path), str(events), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def command_line(path: Any, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command on a directory, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "activity_tracker_hll", "--timezone", "UTC", "--data", str(path), *arguments],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
