"""A process that writes to an archive until it is killed."""

from __future__ import annotations

import itertools
import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from activity_tracker_hll.archives import ArchiveFile, Changes, Head, Record, database, file

RECORDS = 60
NEW = Head("active", 0, has_tables=True)
STEPS: dict[str, tuple[Any, str, int]] = {
    "while it is made": (os, "link", 0),
    "amid the records": (file, "fields", RECORDS // 2),
    "before the end": (Changes, "finish", 0),
}
"""Functions in which the process kills itself: at which call."""


def write(path: Path, first: int, pipe: Connection, step: str | None) -> None:
    """Write all records anew, again and again, and say each time that it is done."""
    database.SETTINGS[-1] = "cache_size = -64"  # so that pages reach the disk before the end
    if step is not None:
        _die_in(*STEPS[step])
    pipe.send(None)
    for number in itertools.count(first):
        with ArchiveFile(path).writing(NEW) as changes:
            for bucket in range(RECORDS):
                dice = np.random.default_rng([number, bucket])
                ranks = dice.geometric(0.3, 16384).clip(0, 51).astype(np.uint8)
                changes.put(Record("daily-20260101", str(bucket), number, "", ranks))
        pipe.send(number)


def _die_in(module: Any, name: str, at: int) -> None:
    calls, whole = itertools.count(), getattr(module, name)

    def fatal(*arguments: Any) -> Any:
        if next(calls) >= at:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(*arguments)

    setattr(module, name, fatal)
