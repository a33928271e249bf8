"""Processes that track as they are told."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import random
import time
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from activity_tracker_hll import ActivityTracker
from activity_tracker_hll.backends.base import BaseBackend
from activity_tracker_hll.errors import BackendError, LateEventError


class Process:
    """A process that tracks as it is told; see :func:`serve`."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=serve, args=(other,), daemon=True)
        self._process.start()
        other.close()

    def ask(self, name: str, *arguments: object) -> None:
        """Begin."""
        self._pipe.send((name, arguments))

    def answer(self) -> Any:
        """What came of it."""
        assert self._pipe.poll(120), "no answer"
        error, result = self._pipe.recv()
        assert not error, error
        return result

    def end(self) -> None:
        self._pipe.close()
        self._process.join(30)


def serve(pipe: Connection) -> None:
    """The other side of a :class:`Process`."""
    logging.disable()  # of the library, which says what the network does
    process: Any = None
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            name, arguments = pipe.recv()
            try:
                if name == "open":
                    process, result = _Tracking(*arguments), None
                else:
                    result = getattr(process, name)(*arguments)
            except Exception:
                pipe.send((traceback.format_exc(), None))
            else:
                pipe.send((None, result))


class _Tracking:
    """A tracker, or a writer of one.

    Args:
        options: of the tracker.
        ahead: by how many seconds the clock on the wall is wrong.
        buffered: options of a writer, or None.
    """

    def __init__(self, options: dict[str, Any], ahead: float, buffered: dict[str, Any] | None) -> None:
        self._tracker = ActivityTracker(clock=lambda: time.time() + ahead, **options)
        self._for_writer = self._tracker.backend.for_writer
        self._tracker.backend.for_writer = self._recording  # type: ignore[method-assign]
        self._sent: list[Any] = []
        self._writer = None if buffered is None else self._tracker.buffered(**buffered)

    def _recording(self, patience: float) -> BaseBackend:
        backend = self._for_writer(patience)
        self._execute, backend.execute = backend.execute, self._recorded  # type: ignore[method-assign]
        return backend

    def _recorded(self, commands: Sequence[Any], shard: int = 0) -> Any:
        self._sent += [command for command in commands if command[0] == "EVALSHA"]
        return self._execute(commands, shard)

    def do(self, events: Sequence[tuple[str, dict[str, Any]]]) -> list[object]:
        """Make some calls in turn; their results, but for lists."""
        return [self._do(*event) for event in events]

    def _do(self, name: str, arguments: dict[str, Any]) -> object:
        target = self._tracker if self._writer is None else self._writer
        deadline = time.monotonic() + 60
        while True:
            try:
                result = getattr(target, name)(**arguments)
                return None if isinstance(result, list) else result
            except LateEventError:
                return "late"
            except BackendError:  # as an application would that wants its event counted
                if time.monotonic() > deadline:
                    raise

    def flush(self) -> dict[str, int]:
        """Push everything; the statistics."""
        assert self._writer is not None
        statistics = self._writer.flush(60)
        return {
            name: getattr(statistics, name) for name in ("tracked", "pushed", "pending", "dropped", "late")
        }

    def replay(self, seed: int) -> None:
        """Send again some of what was pushed, in any order, as a network would that held it up."""
        rng = random.Random(seed)
        if self._sent:
            self._tracker.backend.execute(rng.choices(self._sent, k=5))

    def close(self) -> None:
        self._tracker.close()
