"""A batch of commands in flight: what to send, what came back, and what the exceptions of clients mean.

Nothing here touches a connection, so that synchronous and asynchronous backends share it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
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

__all__ = ["Batch", "check_reply", "client_errors", "raise_if_absent", "raise_if_denied", "translated"]

# While the server works on one chunk, the next is packed and sent.
_CHUNK_COMMANDS = 128
_CHUNKS_IN_FLIGHT = 4
# Clients remove these codes from the message, and have a class for each.
_CODES = {"ReadOnlyError": "READONLY", "NoScriptError": "NOSCRIPT", "NoPermissionError": "NOPERM"}
# Redis before 7.0 wraps the error of a command in a script into a message of its own.
_IN_SCRIPT = re.compile(r"^(?:ERR )?Error running script \(call to f_\w+\): @user_script: ?[^:]*: ")
# For commands in a script, Redis 7.0 and Valkey omit the code NOPERM.
_DENIED_IN_SCRIPT = re.compile("user executing the script can't run|ACL failure in script")
# Errors about what a key holds. All others (OOM, MISCONF, BUSY, CLUSTERDOWN, TRYAGAIN...) concern the server.
_ABOUT_DATA = {"WRONGTYPE", "INVALIDOBJ"}
_DENIED = {"AuthenticationError", "AuthorizationError"}
_ABSENT = (ConnectionRefusedError, FileNotFoundError)


class Batch:
    """Commands, and the replies to the last attempt to send them.

    It notes the indexes of error replies while reading, so that no other reply has to be checked again.

    Attributes:
        replies: the replies read so far; an exception where a command failed.
        demoted: the exception raised by :meth:`end` if the server is no longer a master.
    """

    __slots__ = ("_attempted", "_commands", "_failed", "demoted", "replies")

    def __init__(self, commands: Sequence[Command]) -> None:
        self._commands = commands
        self._failed: list[int] = []
        self._attempted = False
        self.replies: list[Any] = []
        self.demoted: Exception | None = None

    def rounds(self) -> Iterator[Batch]:
        """The batches to exchange, in order: this one, then the scripts that the server did not know."""
        yield self
        unknown = [index for index in self._failed if _code(self.replies[index]) == "NOSCRIPT"]
        if unknown:
            sources = Batch(list(self._with_sources(unknown)))
            yield sources
            for index, reply in zip(unknown, sources.replies, strict=True):
                self.replies[index] = reply

    def begin(self) -> bool:
        """Begin an attempt; returns whether there was one before, in which case its connection is closed."""
        again, self._attempted = self._attempted, True
        self.replies, self._failed, self.demoted = [], [], None
        return again

    def chunks(self) -> Iterator[tuple[bytes, int]]:
        """The bytes to send, each with the number of replies to read before sending the next."""
        commands = self._commands
        for start in range(0, len(commands), _CHUNK_COMMANDS):
            end = start + _CHUNK_COMMANDS
            packed = b"".join([pack_command(command) for command in commands[start:end]])  # type: ignore[arg-type]
            last = end >= len(commands)
            yield packed, len(commands) if last else max(end - (_CHUNKS_IN_FLIGHT - 1) * _CHUNK_COMMANDS, 0)

    def failed(self, error: Exception) -> None:
        """Use an exception as the reply to the next command, unless it is none; see :func:`check_reply`."""
        check_reply(error)
        self._failed.append(len(self.replies))
        self.replies.append(error)

    def end(self) -> None:
        """End an attempt.

        Raises:
            Exception: :attr:`demoted`, the client's ConnectionError: after a failover the connection leads to
                a server that is a replica now. Everything may be sent again, on a new connection.
        """
        for index in self._failed:
            reply = self.replies[index]
            if _code(reply) == "READONLY":
                self.demoted = sys.modules[type(reply).__module__].ConnectionError(str(reply))
                raise self.demoted

    def results(self, translate: Callable[[Exception], BackendError]) -> list[Reply]:
        """The replies, with errors as a backend returns them."""
        for index in self._failed:
            if isinstance(self.replies[index], Exception):
                self.replies[index] = translate(self.replies[index])
        return self.replies

    def _with_sources(self, indexes: Sequence[int]) -> Iterator[Command]:
        """The calls of scripts that the server did not know; the first of each sends its source along."""
        sent: set[object] = set()
        for index in indexes:
            command = self._commands[index]
            sha = command[1]
            if sha in sent:
                yield command
            else:
                sent.add(sha)
                yield ("EVAL", SOURCES[str(sha)], *command[2:])


def check_reply(error: Exception) -> None:
    """Re-raise an exception unless it is the reply to one command; all others concern the connection."""
    if "ResponseError" not in _names(error):
        raise error


def raise_if_denied(error: Exception) -> None:
    """Re-raise an exception that no retry can help, although clients treat it as a ConnectionError."""
    if _is_denied(error):
        raise error


def raise_if_absent(error: Exception) -> None:
    """Likewise, and one that says that nobody listens on a Unix socket: time to start the server."""
    raise_if_denied(error)
    if any(isinstance(one, _ABSENT) for one in (error, error.__context__)):
        raise error


def translated(error: Exception) -> BackendError:
    """The BackendError for a client's exception, which becomes its cause.

    Exceptions are recognized by name, as redis-py and valkey-py have classes of the same names.
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
        kind = BackendDataError if code in _ABOUT_DATA else BackendResponseError
    else:
        kind = BackendError
    result = kind(str(error) or type(error).__name__)
    result.__cause__ = error
    return result


def client_errors() -> tuple[type[Exception], ...]:
    """The roots of the exceptions that clients raise; valkey-py's only if that client is in use."""
    roots: list[type[Exception]] = [redis.RedisError, RedisClusterException, OSError]
    valkey = sys.modules.get("valkey.exceptions")
    if valkey is not None:
        roots.append(valkey.ValkeyError)
    return tuple(roots)


def _is_denied(error: Exception) -> bool:
    """Whether access was denied, also by the cause: redis-py for asyncio wraps errors on a Unix socket."""
    return any(not _DENIED.isdisjoint(_names(one)) for one in (error, error.__cause__))


def _code(error: Exception) -> str:
    """The code of an error reply: its first word, unless the client has removed it."""
    name = type(error).__name__
    if name != "ResponseError":
        return _CODES.get(name, "")
    return _IN_SCRIPT.sub("", str(error)).partition(" ")[0]


def _names(error: BaseException | None) -> set[str]:
    return {cls.__name__ for cls in type(error).__mro__}
