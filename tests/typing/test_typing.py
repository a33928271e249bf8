"""What type checkers say of programs that use the library: of right ones nothing, of wrong ones enough."""

import importlib.util
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from helpers.servers import missing

pytestmark = pytest.mark.extended

HERE = Path(__file__).parent
FILES = [HERE / name for name in ("client.py", "web_client.py", "misuses.py")]


@cache
def mypy():
    """Lines with errors: (file, line, message)."""
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--no-error-summary",
        *FILES,
        HERE / "mypy_client.py",
    ]
    said = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE.parents[1])
    assert said.returncode in (0, 1), said.stderr
    found = re.findall(r"^(?:.*/)?(.+?):(\d+): error: (.*)$", said.stdout, re.MULTILINE)
    assert bool(found) == said.returncode, said.stdout
    return {(name, int(line), message) for name, line, message in found}


@cache
def pyright():
    """The same."""
    if importlib.util.find_spec("pyright") is None:
        missing("pyright")
    options = ["--outputjson", "--level", "error", "--pythonpath", sys.executable]
    command = [sys.executable, "-m", "pyright", *options, *FILES]
    said = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE.parents[1])
    assert said.returncode in (0, 1), said.stderr
    report = json.loads(said.stdout)
    assert report["summary"]["filesAnalyzed"] == len(FILES)
    return {
        (Path(item["file"]).name, item["range"]["start"]["line"] + 1, item["message"])
        for item in report["generalDiagnostics"]
    }


CHECKERS = pytest.mark.parametrize("check", [mypy, pyright], ids=lambda check: check.__name__)


@CHECKERS
def test_a_program_that_uses_every_call_passes(check):
    assert {error for error in check() if error[0] != "misuses.py"} == set()


@CHECKERS
def test_each_misuse_is_refused(check):
    lines = (HERE / "misuses.py").read_text().splitlines()
    wrong = {number for number, line in enumerate(lines, 1) if line.endswith("# refused")}
    assert len(wrong) > 30
    assert {number for name, number, _ in check() if name == "misuses.py"} == wrong


def test_the_program_does_use_every_call():
    from activity_tracker_hll import ActivityTracker, BufferedTracker, HyperLogLog
    from activity_tracker_hll.aio import AsyncActivityTracker, AsyncBufferedTracker

    text = (HERE / "client.py").read_text()
    at_asyncio = text.index("async def awaited")
    for kind, part in (
        (ActivityTracker, text[:at_asyncio]),
        (BufferedTracker, text[:at_asyncio]),
        (AsyncActivityTracker, text[at_asyncio:]),
        (AsyncBufferedTracker, text[at_asyncio:]),
        (HyperLogLog, text),
    ):
        calls = {name for name, member in vars(kind).items() if name[0] != "_" and callable(member)}
        assert calls
        assert {name for name in calls if f".{name}(" not in part} == set()
