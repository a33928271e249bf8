"""What happens to writers when their process forks or ends.

Invariant established here: a fork sends no event twice and waits for no lock of a thread that has vanished. A
fork may come while threads of the parent are in the middle of something; the child has none of them. So that
what the child finds is whole, the process forks with the locks of all buffers held, and the child makes them
anew. Threads that fork at the same time get there one after the other, behind a lock of their own. A thread
that forks in a signal handler may have interrupted a fork of its own: that lock is reentrant, and each fork
releases what it has acquired itself. Clients are made anew by the backends.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import threading
import weakref
from functools import cache
from importlib import import_module
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
        """Whether it is gone, as a daemon's parent is: what it did not push is left to the child."""
        return os.getppid() != self._parent


_writers: weakref.WeakSet[_Writer] = weakref.WeakSet()
_forking = threading.RLock()
_acquired: list[list[Any]] = []
"""Locks of buffers, a list for each fork of the thread that holds `_forking`: the last one interrupted the
others. Used by that thread alone."""
_parent = 0


def register(writer: _Writer) -> None:
    """Look after a writer until it is closed."""
    # numpy puts off this import to where it first needs it, which may be in a thread. A process that is
    # forked amid that finds the module without its contents, and waits for ever where it imports it itself.
    import_module("numpy.ma")
    _writers.add(writer)
    _close_at_exit()


def unregister(writer: _Writer) -> None:
    """The writer is closed."""
    _writers.discard(writer)


def _before_fork() -> None:
    global _parent  # noqa: PLW0603 (what these three share)
    _forking.acquire()
    locks: list[Any] = []
    _acquired.append(locks)
    _parent = os.getpid()
    for writer in list(_writers):
        for lock in writer.locks():
            lock.acquire()
            locks.append(lock)


def _after_fork_in_parent() -> None:
    for lock in reversed(_acquired.pop()):
        lock.release()
    # The lock may be new, and not held: in the child of a fork that interrupted this one.
    with contextlib.suppress(RuntimeError):
        _forking.release()


def _after_fork_in_child() -> None:
    global _forking  # noqa: PLW0603
    _acquired.pop()
    _forking = threading.RLock()
    for locks in _acquired:  # of forks that this one interrupted: they go on here too, with new locks
        _forking.acquire()
        locks.clear()
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
