"""Runs what a document shows: its Python in one namespace, its shell commands in one bash."""

import ast
import asyncio
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sybil import Example, Sybil
from sybil.evaluators.python import pad
from sybil.parsers.rest import CodeBlockParser

__all__ = ["Desk", "snippets"]

_END = "-- the end of what a command printed --"


class Desk:
    """Where snippets run.

    Args:
        folder: working directory of the shell, and home.
        port: of a server of the test's own, for what is said to one on localhost.

    Attributes:
        instead: what is read instead of some texts.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self.instead = {"localhost:6379": f"localhost:{port}", 'host="localhost"': f"port={port}"}
        self._bash = subprocess.Popen(
            ["/bin/bash"],
            cwd=folder,
            env={"HOME": str(folder), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[2])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.shell(f'redis-cli() {{ command redis-cli --no-raw -p {port} "$@"; }}')
        self.shell(f'activity-tracker-hll() {{ {sys.executable} -m activity_tracker_hll "$@"; }}')

    def close(self) -> None:
        """End the shell."""
        self._bash.communicate()

    def python(self, example: Example) -> None:
        """Run a snippet; what it awaits is awaited."""
        source = pad(self._read(example.parsed), example.line + example.parsed.line_offset)
        code = compile(source, example.path, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        found = eval(code, example.namespace)  # noqa: S307 (our own text)
        if inspect.iscoroutine(found):
            asyncio.run(found)

    def script(self, example: Example) -> None:
        """Run commands up to the first that fails."""
        self.shell(f"( set -e\n{self._read(example.parsed)}\n)")

    def session(self, example: Example) -> None:
        """Run the commands after a $, and compare what they print with the lines below, if there are any."""
        for command, shown in _commands(example.parsed):
            printed = self.shell(self._read(command)).splitlines()
            assert not shown or printed == shown, f"{example.path}:{example.line}: {command} prints {printed}"

    def shell(self, command: str) -> str:
        """What a command prints.

        Raises:
            AssertionError: it fails.
        """
        bash: Any = self._bash
        bash.stdin.write(f"{{ {command}\n}} </dev/null\necho $? '{_END}'\n")
        bash.stdin.flush()
        printed: list[str] = []
        for line in bash.stdout:
            if line.endswith(f"{_END}\n"):
                assert line == f"0 {_END}\n", f"{command} fails: {''.join(printed)}"
                return "".join(printed)
            printed.append(line)
        raise AssertionError(f"the shell ended by {command}")

    def _read(self, text: str) -> str:
        for shown, own in self.instead.items():
            text = text.replace(shown, own)
        return text


def snippets(path: Path, desk: Desk) -> list[Example]:
    """What can be run of a document, in its order."""
    parsers = [
        CodeBlockParser("python", desk.python),
        CodeBlockParser("bash", desk.script),
        CodeBlockParser("console", desk.session),
    ]
    return list(Sybil(parsers).parse(path).examples())


def _commands(session: str) -> Iterator[tuple[str, list[str]]]:
    for part in f"\n{session}".split("\n$ ")[1:]:
        lines = part.rstrip("\n").split("\n")
        end = next(at for at, line in enumerate(lines, 1) if not line.endswith("\\"))
        yield "\n".join(lines[:end]), lines[end:]
