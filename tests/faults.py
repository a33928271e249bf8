"""A proxy in front of a server that can do to a connection what networks and machines do.

It forwards whole commands, so that a test can say after which command what happens.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import hiredis

Decision = Callable[[int, list[bytes]], str]
"""(number of the command, the command) -> what to do with it, one of the names below"""

FORWARD = "forward"
"""send it on, and the reply back"""
DROP = "drop"
"""cut the connection before the server sees it"""
LOSE_REPLY = "lose reply"
"""let the server execute it, then cut the connection"""
CUT_REPLY = "cut reply"
"""let the server execute it, send back half of the reply, then cut the connection"""
HOLD = "hold"
"""take it and never answer"""


class Proxy:
    """Listens on a Unix socket of its own and forwards to another."""

    def __init__(self, path: Path, target: str, decide: Decision = lambda _n, _c: FORWARD) -> None:
        self.path = str(path)
        self.decide = decide
        self.commands: list[list[bytes]] = []
        self._target = target
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._target)
            self._open += [client, server]
            thread = threading.Thread(target=self._serve, args=(client, server), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        commands = hiredis.Reader()
        with client, server, contextlib.suppress(OSError):
            while data := client.recv(65536):
                commands.feed(data)
                while (command := commands.gets()) is not False:
                    if not self._one(client, server, command):
                        return

    def _one(self, client: socket.socket, server: socket.socket, command: Any) -> bool:
        with self._lock:
            number = len(self.commands)
            self.commands.append(command)
            what = self.decide(number, command)
        if what == DROP:
            return False
        if what == HOLD:
            return True
        server.sendall(hiredis.pack_command(tuple(command)))
        reply = _reply(server)
        if what == LOSE_REPLY:
            return False
        client.sendall(reply[: len(reply) // 2] if what == CUT_REPLY else reply)
        return what != CUT_REPLY


def _reply(server: socket.socket) -> bytes:
    """The bytes of one reply."""
    reader, received = hiredis.Reader(), b""
    while True:
        data = server.recv(65536)
        if not data:
            raise OSError("server gone")
        received += data
        reader.feed(data)
        if reader.gets() is not False:
            return received
