"""What operations leave to those who drive them."""

import ast
from pathlib import Path

import pytest

from activity_tracker_hll import operations

FOLDER = Path(operations.__file__).parent
SOURCES = sorted(FOLDER.rglob("*.py"))


def imported(source):
    for node in ast.walk(ast.parse(source.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield str(node.module).partition(".")[0]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: str(source.relative_to(FOLDER)))
def test_an_operation_has_no_sockets_clocks_or_threads(source):
    assert {"multiprocessing", "socket", "threading", "time"}.isdisjoint(imported(source))
