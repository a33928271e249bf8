"""What happens to writers when their process forks or ends.

A fork may come while threads of the parent are in the middle of something; the child has none of them. So
that what it inherits is whole, the locks of all buffers are held while the process forks, and made anew in
the child. Several threads may fork at once: one after the other gets that far, behind a lock of its own.
Clients are made anew by the backends themselves.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import threading
import weakref
from functools import cache
from multiprocessing import util
from typing import Any, Protocol

__all__ = ["ForkedFrom", "register", "unregister"]


class _Writer(Protocol):
    """What is asked of a writer here."""

    def locks(self) -> list[Any]:
        """The locks that have to be held during a fork."""

    def after_fork(self, parent: int) -> None:
        """In the child."""

    def close_within(self) -> object:
        """Push and end."""


class ForkedFrom:
    """The process that a writer was forked from.

    Args:
        parent: its id.
    """

    def __init__(self, parent: int) -> None:
        self._parent = parent

    @property
    def has_ended(self) -> bool:
        """Whether it is gone, as a daemon's is: what it did not push is the child's to push."""
        return os.getppid() != self._parent


_writers: weakref.WeakSet[_Writer] = weakref.WeakSet()
_forking = threading.Lock()
_held: list[Any] = []
"""Locks of buffers, held by the thread that holds `_forking`."""
_parent = 0


def register(writer: _Writer) -> None:
    """Look after a writer until it is closed."""
    _writers.add(writer)
    _close_at_exit()


def unregister(writer: _Writer) -> None:
    """It is closed."""
    _writers.discard(writer)


def _before_fork() -> None:
    global _parent  # noqa: PLW0603 (what these three share)
    _forking.acquire()
    _parent = os.getpid()
    for writer in list(_writers):
        for lock in writer.locks():
            lock.acquire()
            _held.append(lock)


def _after_fork_in_parent() -> None:
    while _held:
        _held.pop().release()
    _forking.release()


def _after_fork_in_child() -> None:
    global _forking  # noqa: PLW0603
    _forking = threading.Lock()
    _held.clear()
    for writer in list(_writers):
        writer.after_fork(_parent)


def _close_all() -> None:
    for writer in list(_writers):
        writer.close_within()


@cache
def _close_at_exit() -> None:
    """Close every writer when the process ends.

    Processes of multiprocessing do not run what atexit has, only finalizers of their own, and those that are
    forked forget the ones of their parent.
    """
    atexit.register(_close_all)

    def finalize(_set: object = None) -> None:
        util.Finalize(None, _close_all, exitpriority=0)

    if multiprocessing.parent_process() is not None:
        finalize()
    util.register_after_fork(_writers, finalize)


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
)
