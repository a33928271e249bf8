"""The entry point of the command line: checks that its optional packages are installed, and runs it.

Neither click, rich nor a module of the command line is imported before :func:`main` is called.
"""

from __future__ import annotations

import errno
import importlib
import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from .cli import PROGRAM
from .errors import MissingExtraError

__all__ = ["main"]

_INTERRUPTED = 130


def main() -> None:
    """Run the command line with the arguments of the process."""
    _prepare()
    try:
        try:
            _command()(prog_name=PROGRAM)
        finally:
            sys.stdout.flush()  # the interpreter, in the end, would ignore what becomes of it
    except MissingExtraError as error:
        sys.stderr.write(f"Error: {error}\n")
        sys.exit(2)
    except KeyboardInterrupt:  # while commands are imported; those that run report it themselves
        sys.exit(_INTERRUPTED)
    except OSError as error:
        if error.filename is not None:  # not of a stream
            raise
        _discard(sys.stdout)
        if error.errno != errno.EPIPE:  # whoever has seen enough closes the pipe
            _complain(f"Error: the output cannot be written: {error.strerror or error}\n")
        sys.exit(1)


class _Nowhere(io.TextIOBase):
    """In place of a stream for messages that the process was started without."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        return len(text)


class _Closed(_Nowhere):
    """In place of one for results."""

    def write(self, _: str) -> int:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


def _prepare() -> None:
    """Make the streams such that whoever writes need not ask what they are."""
    sys.stdout = sys.stdout or _Closed()
    sys.stderr = sys.stderr or _Nowhere()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A character that a terminal cannot show is no reason for a traceback.
            stream.reconfigure(errors="backslashreplace")


def _complain(message: str) -> None:
    try:
        sys.stderr.write(message)
        sys.stderr.flush()
    except OSError:
        _discard(sys.stderr)


def _discard(stream: TextIO) -> None:
    """Let what a stream still holds go nowhere: the interpreter tries once more to write it."""
    with suppress(OSError), Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


def _command() -> Callable[..., object]:
    try:
        command: Callable[..., object] = importlib.import_module(".cli.app", __package__).cli
    except ImportError as error:
        if (error.name or "").partition(".")[0] == __package__:
            raise
        raise MissingExtraError(
            f"the command line needs {error.name}, of the extra 'cli': pip install '{PROGRAM}[cli]'"
        ) from error
    return command


if __name__ == "__main__":
    main()
