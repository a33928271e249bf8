"""What happens to writers when their process forks or ends.

Invariant established here: a fork counts no event twice (what a child sends again of its parent's changes
nothing) and waits for no lock of a thread that has vanished. A fork may come while threads of the parent are
in the middle of something; the child has none of them. So that what the child finds is whole, the process
forks with the locks of all buffers held, and the child makes them anew. Threads that fork at the same time
get there one after the other, behind a lock of their own. A thread that forks in a signal handler may have
interrupted a fork of its own: that lock is reentrant, and each fork releases what it has acquired itself. A
signal handler that raises ends the function that it comes in, and the process forks all the same: so locks
are taken and released all at once, with no step of Python's in between, and what has to be done after a fork
is done by either of two functions. Clients are made anew by the backends.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import threading
import weakref
from collections import deque
from functools import cache
from importlib import import_module
from itertools import compress
from multiprocessing import util
from operator import methodcaller
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


class _Fork:
    """A fork that is under way.

    Args:
        parent: the process.

    Attributes:
        held: locks, behind None.
        to_renew: writers that do not know yet, in the child; None = all.
    """

    def __init__(self, parent: int) -> None:
        self.parent = parent
        self.held: list[Any] = [None]
        self.to_renew: list[_Writer] | None = None

    def hold(self, locks: list[Any]) -> None:
        """Acquire them all."""
        self.held.extend(compress(locks, map(methodcaller("acquire"), locks)))

    def release(self) -> None:
        """Release those that are held still."""
        if self.held:
            deque(map(methodcaller("release"), iter(self.held.pop, None)), maxlen=0)


class _Forks(threading.local):
    """Those of a thread: the last one interrupted the others."""

    def __init__(self) -> None:
        self.under_way: list[_Fork] = []


_forks = _Forks()


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
    fork = _Fork(os.getpid())
    _forks.under_way.append(fork)
    fork.hold([_forking, *(lock for writer in list(_writers) for lock in writer.locks())])


def _release_in_parent() -> None:
    for fork in _forks.under_way[-1:]:
        fork.release()


def _end_in_parent() -> None:
    _release_in_parent()
    del _forks.under_way[-1:]


def _renew_in_child() -> None:
    global _forking  # noqa: PLW0603
    if not _forks.under_way:  # it was interrupted before it had begun
        _forks.under_way.append(_Fork(os.getppid()))
    fork = _forks.under_way[-1]
    fork.release()  # one that this one interrupted may wait for them
    _forking = threading.RLock()
    if fork.to_renew is None:
        fork.to_renew = list(_writers)
    while fork.to_renew:
        fork.to_renew[-1].after_fork(fork.parent)
        fork.to_renew.pop()


def _end_in_child() -> None:
    _renew_in_child()
    del _forks.under_way[-1:]


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


os.register_at_fork(before=_before_fork, after_in_parent=_release_in_parent, after_in_child=_renew_in_child)
os.register_at_fork(after_in_parent=_end_in_parent, after_in_child=_end_in_child)
