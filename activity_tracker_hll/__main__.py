"""The entry point of the command line: checks that its optional packages are installed, and runs it.

Neither click, rich nor the command line is imported before :func:`main` is called.
"""

from __future__ import annotations

import importlib
import io
import sys
from collections.abc import Callable

from .errors import MissingExtraError

__all__ = ["main"]

PROGRAM = "activity-tracker-hll"
_INTERRUPTED = 130


def main() -> None:
    """Run the command line with the arguments of the process."""
    try:
        command = _command()
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                # A character that a terminal cannot show is no reason for a traceback.
                stream.reconfigure(errors="backslashreplace")
        command(prog_name=PROGRAM)
    except MissingExtraError as error:
        sys.stderr.write(f"Error: {error}\n")
        sys.exit(2)
    except KeyboardInterrupt:  # before there was a command that could report it
        sys.exit(_INTERRUPTED)


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
