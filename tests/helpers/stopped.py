"""A writer without threads: whoever has it drains and pushes."""

from __future__ import annotations

from typing import Any

from activity_tracker_hll.backends.base import BaseBackend
from activity_tracker_hll.operations import Operation
from activity_tracker_hll.planner import Planner
from activity_tracker_hll.writer import BufferedTracker
from activity_tracker_hll.writer.buffer import Buffer


class Stopped(BufferedTracker):
    """As a subclass it may use what a writer is made of: buffers, and a worker whose threads do not start."""

    def __init__(self, planner: Planner, backend: BaseBackend, **options: Any) -> None:
        super().__init__(planner, backend, **options)
        self._worker.start = lambda: None

    @property
    def buffer(self) -> Buffer:
        """Of the first data set."""
        return self._buffers[0]

    def seed(self, seed: float) -> None:
        """Let refreshes come at times that the seed decides."""
        self._worker.random.seed(seed)

    def drain_buffer(self) -> None:
        """What the drainer does now and then."""
        self._worker.drain(self.buffer)

    def pushing(self) -> Operation[list[Any]]:
        """A push, step by step; it returns what went wrong."""
        return self._worker.pushing(self.buffer, 0)

    def push_all(self, *, everything: bool = False) -> list[Exception]:
        """What the pusher does now and then, or for a flush; returns what went wrong."""
        return self._worker.push(everything=everything)
