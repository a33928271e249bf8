"""Servers that can be killed, and proxies that do to a connection what networks and machines do."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import hiredis
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from helpers.servers import free_port
from helpers.tls import Certificates

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
    """Listens on a Unix socket of its own and forwards to another.

    It forwards whole commands, so that a test can say after which command what happens.
    """

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


class TcpProxy:
    """Listens on a TCP port of its own and forwards bytes to another, as long as they let it."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.dead = False
        self.refuses = False
        self.cut_after: int | None = None
        self._connections: list[socket.socket] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(10)
        for connection in self._connections:
            connection.close()

    def black_hole(self) -> None:
        """From now on all bytes vanish, and no end is told; connections of before stay dead for ever."""
        self.dead = True

    def heal(self) -> None:
        """New connections reach the target again."""
        self.dead = self.refuses = False
        self.cut_after = None

    def cut_replies(self, after: int) -> None:
        """Let each connection send back so many bytes more, then cut it: 0 = the whole reply is lost."""
        self.cut_after = after

    def cut(self) -> None:
        """Cut every connection."""
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                if self.refuses:
                    raise ConnectionError
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            with self._lock:
                self._connections += [client, server]
            for ends, limited in (((client, server), False), ((server, client), True)):
                thread = threading.Thread(target=self._pump, args=(*ends, limited), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _pump(self, source: socket.socket, sink: socket.socket, limited: bool) -> None:
        was_dead = self.dead
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                was_dead = was_dead or self.dead
                if was_dead:
                    continue
                if limited and self.cut_after is not None:
                    sink.sendall(data[: self.cut_after])
                    break
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Node:
    """A server process on a port of its own, for tests that kill, stop and configure it."""

    def __init__(
        self, executable: str, directory: Path, tls: Certificates | None = None, **config: object
    ) -> None:
        self.port = free_port()
        listens = {"port": self.port} if tls is None else tls.of_server(self.port)
        # A master waits five seconds for more replicas, if it is not told to begin with the first.
        config = {**listens, "repl_diskless_sync_delay": 0, **config}
        self._command = [executable, "--bind", "127.0.0.1", "--dir", str(directory)]
        self._command += ["--save", "", "--enable-debug-command", "yes"]
        for name, value in config.items():
            self._command += [f"--{name.replace('_', '-')}", str(value)]
        self.process: subprocess.Popen[bytes] | None = None
        # Of the tests themselves: patient, and on no proxy.
        options = {} if tls is None else {"ssl": True, **tls.of_client}
        self.client = redis.Redis(
            port=self.port, socket_timeout=60, protocol=2, retry=Retry(NoBackoff(), 0), **options
        )

    def start(self, *config: str, wait: bool = True) -> None:
        """Start the process; waits until it answers."""
        self.process = subprocess.Popen([*self._command, *config], stdout=subprocess.DEVNULL)
        if wait:
            self.wait()

    def wait(self) -> None:
        """Wait until it answers."""
        while True:
            try:
                self.client.ping()
            except redis.ConnectionError:
                if self.process is None or self.process.poll() is not None:
                    raise
                time.sleep(0.01)
            else:
                return

    def kill(self) -> None:
        """SIGKILL: nothing is written, nobody is told."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(30)

    def pause(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.client.close()
        if self.process is not None and self.process.poll() is None:
            self.kill()
