"""A batch of commands in flight: what to send, and what came back.

Nothing here touches a connection, so that synchronous and asynchronous backends share it.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hiredis import pack_command

from ..errors import BackendError
from ..scripts.calls import SOURCES
from ..scripts.rights import call_rights, commands_of
from .base import Command, Reply
from .trouble import check_reply, code_of, is_denied_in_silence, naming

__all__ = ["PASSING", "Batch"]

PASSING = {"TRYAGAIN", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "READONLY"}
"""Codes of what a server answers while it, or its cluster, changes."""

# While the server works on one chunk, the next is packed and sent. Few commands of many keys are one, too.
_CHUNK_COMMANDS = 128
_CHUNK_WORDS = 256
_CHUNKS_IN_FLIGHT = 4


class Batch:
    """Commands, and the replies to the last attempt to send them.

    It notes the indexes of error replies while reading, so that no other reply has to be checked again.

    Attributes:
        replies: the replies read so far; an exception where a command failed.
        attempts: how often it was begun to be sent.
        demoted: the exception raised by :meth:`end` if the server is no longer a master.
    """

    __slots__ = ("_commands", "_failed", "attempts", "demoted", "replies")

    def __init__(self, commands: Sequence[Command]) -> None:
        self._commands = commands
        self._failed: list[int] = []
        self.attempts = 0
        self.replies: list[Any] = []
        self.demoted: Exception | None = None

    def rounds(self) -> Iterator[Batch]:
        """The batches to exchange, in order: this one, then the scripts that the server did not know.

        Last comes a question, where a script was denied something, and the server does not say what.
        """
        yield self
        unknown = [
            index
            for index in self._failed
            if code_of(self.replies[index]) == "NOSCRIPT" and self._commands[index][1] in SOURCES
        ]
        if unknown:
            sources = Batch(list(self._with_sources(unknown)))
            yield sources
            for index, reply in zip(unknown, sources.replies, strict=True):
                self.replies[index] = reply
        denied = [index for index in self._failed if is_denied_in_silence(self.replies[index])]
        called = {command for index in denied for command in commands_of(self._commands[index][1])}
        if called:
            question = Batch([call_rights(sorted(called))])
            yield question
            [lacking] = question.replies
            names = [line[1:] for line in lacking.decode().splitlines()] if isinstance(lacking, bytes) else []
            for index in denied:
                self.replies[index] = naming(self.replies[index], [name for name in names if name in called])

    def begin(self) -> bool:
        """Begin an attempt; returns whether there was one before, in which case its connection is closed."""
        self.attempts += 1
        self.replies, self._failed, self.demoted = [], [], None
        return self.attempts > 1

    def chunks(self) -> Iterator[tuple[bytes, int]]:
        """The bytes to send, each with the number of replies to read before sending the next."""
        commands = self._commands
        ends = deque([0] * (_CHUNKS_IN_FLIGHT - 1), _CHUNKS_IN_FLIGHT - 1)
        end = 0
        while end < len(commands):
            start, words = end, 0
            for command in commands[start : start + _CHUNK_COMMANDS]:
                end += 1
                words += len(command)
                if words >= _CHUNK_WORDS:
                    break
            packed = b"".join([pack_command(command) for command in commands[start:end]])  # type: ignore[arg-type]
            yield packed, ends[0] if end < len(commands) else end
            ends.append(end)

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
            if code_of(reply) == "READONLY":
                self.demoted = sys.modules[type(reply).__module__].ConnectionError(str(reply))
                raise self.demoted

    def is_put_off(self) -> bool:
        """Whether the server cannot answer all of it for the moment."""
        return any(code_of(self.replies[index]) in PASSING for index in self._failed)

    def results(self, translate: Callable[[Exception, str], BackendError], address: str) -> list[Reply]:
        """The replies, with errors as a backend returns them."""
        for index in self._failed:
            if isinstance(self.replies[index], Exception):
                self.replies[index] = translate(self.replies[index], address)
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
