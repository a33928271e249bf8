"""Threads that are started when they are needed, and how they are woken and waited for.

Whoever does so may be a signal handler, or be interrupted by one that raises, at any moment. What Python's
``Event`` and ``Condition`` hold then they hold for ever, as they are written in Python. What is used here is
written in C: it is done as a whole or not at all, also by who interrupts it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

__all__ = ["Bell", "Duty"]


class Bell:
    """Wakes the one thread that waits for it, or will; anybody may ring."""

    def __init__(self) -> None:
        self._rings: SimpleQueue[None] = SimpleQueue()

    def ring(self) -> None:
        """Wake it, after what it is to find has been noted."""
        # If there is one, the thread has not looked yet.
        if self._rings.empty():
            self._rings.put(None)

    def wait(self, seconds: float) -> bool:
        """Wait so long at most, before looking for what was noted; returns whether it was rung."""
        try:
            self._rings.get(timeout=seconds)
        except Empty:
            return False
        while not self._rings.empty():
            self._rings.get()
        return True


class Duty:
    """What is done by one thread at a time.

    Args:
        name: of the thread.
        do: done by it until it returns.
    """

    def __init__(self, name: str, do: Callable[[], object]) -> None:
        self._name = name
        self._do = do
        self._held = threading.Lock()
        """By the thread that does it. That takes it itself: whom an exception interrupts while he starts
        one does not know whether there will be one."""
        self._started: threading.Thread | None = None
        self._on_duty: threading.Thread | None = None

    @property
    def is_started(self) -> bool:
        """Whether one was ever to be started."""
        return self._started is not None

    @property
    def is_done(self) -> bool:
        """Whether a thread is at it, or about to."""
        return self._held.locked() or (self._started is not None and self._started.is_alive())

    @property
    def is_mine(self) -> bool:
        """Whether the calling thread is the one."""
        return threading.current_thread() is self._on_duty

    def start(self) -> None:
        """Start a thread, unless there is one.

        Raises:
            RuntimeError: there can be no more threads.
        """
        if not self.is_done:
            self._started = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._started.start()

    def _run(self) -> None:
        if self._held.acquire(blocking=False):  # else one that was taken for lost has begun after all
            try:
                self._on_duty = threading.current_thread()
                self._do()
            finally:
                self._held.release()

    def join(self, deadline: float) -> None:
        """Wait for it to end.

        Args:
            deadline: by the monotonic clock.
        """
        for thread in (self._started, self._on_duty):
            if thread is not None and thread.is_alive() and thread is not threading.current_thread():
                thread.join(max(deadline - time.monotonic(), 0))
