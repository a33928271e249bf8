"""A batch of commands on its way: what to send, what came back, and what errors of clients mean.

Nothing here touches a connection: the backends that wait and those that are awaited take the same steps.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import redis
from hiredis import pack_command
from redis.exceptions import RedisClusterException

from ..errors import (
    BackendAuthError,
    BackendConnectionError,
    BackendDataError,
    BackendError,
    BackendResponseError,
    BackendTimeoutError,
)
from ..scripts.calls import SOURCES
from .base import Command, Reply

__all__ = ["Batch", "check_reply", "client_errors", "raise_if_denied", "translated"]

# While the server works on one chunk the next is packed and sent.
_CHUNK_COMMANDS = 128
_CHUNKS_IN_FLIGHT = 4
# Clients take these codes off the message, and have a class for each.
_CODES = {"ReadOnlyError": "READONLY", "NoScriptError": "NOSCRIPT", "NoPermissionError": "NOPERM"}
# Redis before 7.0 puts what a command of a script answered into a message of its own.
_IN_SCRIPT = re.compile(r"^(?:ERR )?Error running script \(call to f_\w+\): @user_script: ?[^:]*: ")
# Of commands in a script, Redis 7.0 and Valkey say so without the code NOPERM.
_DENIED_IN_SCRIPT = re.compile("user executing the script can't run|ACL failure in script")
# About what a key holds. All others (OOM, MISCONF, BUSY, CLUSTERDOWN, TRYAGAIN...) are about the server.
_OF_DATA = {"WRONGTYPE", "INVALIDOBJ"}
_DENIED = {"AuthenticationError", "AuthorizationError"}


class Batch:
    """Commands, and the replies of the last attempt to send them.

    Which replies are errors is known from reading them: where none is, none has to be looked at again.

    Attributes:
        replies: what has been read so far, an exception where a command failed.
        demoted: raised by :meth:`end`, where the server is no master any more.
    """

    __slots__ = ("_commands", "_failed", "_tried", "demoted", "replies")

    def __init__(self, commands: Sequence[Command]) -> None:
        self._commands = commands
        self._failed: list[int] = []
        self._tried = False
        self.replies: list[Any] = []
        self.demoted: Exception | None = None

    def rounds(self) -> Iterator[Batch]:
        """What to exchange, one after the other: this, then the scripts that the server did not know."""
        yield self
        unknown = [place for place in self._failed if _code(self.replies[place]) == "NOSCRIPT"]
        if unknown:
            sources = Batch(list(self._with_sources(unknown)))
            yield sources
            for place, reply in zip(unknown, sources.replies, strict=True):
                self.replies[place] = reply

    def begin(self) -> bool:
        """Before each attempt; whether there was one before, whose connection is closed."""
        again, self._tried = self._tried, True
        self.replies, self._failed, self.demoted = [], [], None
        return again

    def chunks(self) -> Iterator[tuple[bytes, int]]:
        """What to send, each with the number of replies that have to be read before the next is sent."""
        commands = self._commands
        for start in range(0, len(commands), _CHUNK_COMMANDS):
            end = start + _CHUNK_COMMANDS
            packed = b"".join([pack_command(command) for command in commands[start:end]])  # type: ignore[arg-type]
            last = end >= len(commands)
            yield packed, len(commands) if last else max(end - (_CHUNKS_IN_FLIGHT - 1) * _CHUNK_COMMANDS, 0)

    def failed(self, error: Exception) -> None:
        """Take an error as the reply to the next command; see :func:`check_reply`."""
        check_reply(error)
        self._failed.append(len(self.replies))
        self.replies.append(error)

    def end(self) -> None:
        """After each attempt.

        Raises:
            Exception: :attr:`demoted`, a ConnectionError of the client's. All may be sent again, on a new
                connection: after a failover the old one reaches what is a replica now.
        """
        for place in self._failed:
            reply = self.replies[place]
            if _code(reply) == "READONLY":
                self.demoted = sys.modules[type(reply).__module__].ConnectionError(str(reply))
                raise self.demoted

    def results(self) -> list[Reply]:
        """The replies, with errors as a backend hands them out."""
        for place in self._failed:
            if isinstance(self.replies[place], Exception):
                self.replies[place] = translated(self.replies[place])
        return self.replies

    def _with_sources(self, places: Sequence[int]) -> Iterator[Command]:
        """Script calls the server did not know: the first of each brings the source along."""
        brought: set[object] = set()
        for place in places:
            command = self._commands[place]
            sha = command[1]
            if sha in brought:
                yield command
            else:
                brought.add(sha)
                yield ("EVAL", SOURCES[str(sha)], *command[2:])


def check_reply(error: Exception) -> None:
    """Raise an error again unless it is the reply to one command; all others concern the connection."""
    if "ResponseError" not in _names(error):
        raise error


def raise_if_denied(error: Exception) -> None:
    """Raise an error again that no other attempt would mend, although it is a ConnectionError to clients."""
    if _is_denied(error):
        raise error


def translated(error: Exception) -> BackendError:
    """The BackendError for a client's exception, which becomes its cause.

    By class name: redis-py and valkey-py have the same names in separate trees.
    """
    names, code = _names(error), _code(error)
    kind: type[BackendError]
    if _is_denied(error) or code == "NOPERM" or _DENIED_IN_SCRIPT.search(str(error)):
        kind = BackendAuthError
    elif "TimeoutError" in names:
        kind = BackendTimeoutError
    elif "ConnectionError" in names or isinstance(error, OSError):
        kind = BackendConnectionError
    elif "ResponseError" in names:
        kind = BackendDataError if code in _OF_DATA else BackendResponseError
    else:
        kind = BackendError
    result = kind(str(error) or type(error).__name__)
    result.__cause__ = error
    return result


def client_errors() -> tuple[type[Exception], ...]:
    """The roots of what clients raise; valkey-py's if that client is in use at all."""
    roots: list[type[Exception]] = [redis.RedisError, RedisClusterException, OSError]
    valkey = sys.modules.get("valkey.exceptions")
    if valkey is not None:
        roots.append(valkey.ValkeyError)
    return tuple(roots)


def _is_denied(error: Exception) -> bool:
    """Also by its cause: on a Unix socket redis-py for asyncio wraps whatever fails when it connects."""
    return any(not _DENIED.isdisjoint(_names(one)) for one in (error, error.__cause__))


def _code(error: Exception) -> str:
    """The code of an error reply: its first word, unless the client has taken it off."""
    name = type(error).__name__
    if name != "ResponseError":
        return _CODES.get(name, "")
    return _IN_SCRIPT.sub("", str(error)).partition(" ")[0]


def _names(error: BaseException | None) -> set[str]:
    return {cls.__name__ for cls in type(error).__mro__}
