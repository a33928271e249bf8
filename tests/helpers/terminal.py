"""A terminal of any width, in which commands run one after another, and what can be read on its screen."""

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyte

__all__ = ["Screen", "Terminal"]

_WIDER, _ROWS = 400, 500  # than all that is shown, so that a line that is too long can be seen to be
_END = re.compile(rb"<the end, status (\d+)>\r\n")
# The command line as its entry point runs it, again and again: a process for each would take a minute.
_DRIVER = """
import json, os, sys
from activity_tracker_hll.__main__ import main
for line in os.fdopen(int(sys.argv[1])):
    sys.argv[1:], status = json.loads(line), 0
    try:
        main()
    except SystemExit as exit:
        status = exit.code or 0
    sys.stdout.flush()
    print(f"<the end, status {status}>", flush=True)
"""


@dataclass
class Screen:
    """What a command printed.

    Attributes:
        status: its exit status.
        lines: what can be read.
        raw: every byte that the terminal was sent.
    """

    status: int
    lines: list[str]
    raw: bytes

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


class Terminal:
    """A real pseudo-terminal.

    Args:
        folder: working directory and home of the commands.
    """

    def __init__(self, folder: Path) -> None:
        self._screen, inner = pty.openpty()
        commands, self._commands = os.pipe()
        env = {name: value for name, value in os.environ.items() if not name.startswith("ACTIVITY_TRACKER_")}
        env.pop("COLUMNS", None)
        env.update(HOME=str(folder), TERM="xterm-256color", PYTHONPATH=str(Path(__file__).parents[2]))
        self._process = subprocess.Popen(
            [sys.executable, "-c", _DRIVER, str(commands)],
            cwd=folder,
            env={**env, "PYTHONUTF8": "1"},
            stdin=inner,
            stdout=inner,
            stderr=inner,
            pass_fds=[commands],
        )
        os.close(inner)
        os.close(commands)

    def run(self, columns: int, *arguments: Any, timeout: float = 120) -> Screen:
        """Run a command on a screen with so many columns."""
        fcntl.ioctl(self._screen, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        os.write(self._commands, json.dumps([*map(str, arguments)]).encode() + b"\n")
        printed, deadline = b"", time.monotonic() + timeout
        while not (end := _END.search(printed)):
            assert select.select([self._screen], [], [], deadline - time.monotonic())[0], printed.decode()
            printed += os.read(self._screen, 1 << 16)
        raw = printed[: end.start()]
        screen = pyte.Screen(_WIDER, _ROWS)
        pyte.ByteStream(screen).feed(raw)
        screen.lines = max(screen.buffer, default=-1) + 1  # all others are empty, and cost time to look at
        lines = [line.rstrip() for line in screen.display]
        while lines and not lines[-1]:
            lines.pop()
        assert len(lines) < _ROWS
        return Screen(int(end[1]), lines, raw)

    def close(self) -> None:
        """End the process."""
        os.close(self._commands)
        self._process.wait(30)
        os.close(self._screen)
