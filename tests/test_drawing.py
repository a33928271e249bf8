"""The drawing of the imports, made by docs/draw_imports.py."""

import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
DRAWING = runpy.run_path(str(DOCS / "draw_imports.py"))


def test_the_drawing_is_that_of_the_code():
    drawn = (DOCS / "imports.svg").read_text("utf-8")
    assert drawn == DRAWING["draw"](), "run python docs/draw_imports.py"


def test_arrows_point_inwards():
    heights = DRAWING["layers"](DRAWING["imports"]())
    inwards = [
        "cli/",
        "tracker.py",
        "writer/",
        "planner.py",
        "operations/",
        "backends/",
        "keys.py",
        "errors.py",
    ]
    assert [*map(heights.get, inwards)] == sorted((heights[room] for room in inwards), reverse=True)
    assert heights["hll/"] == heights["errors.py"] + 1


def test_a_circle_is_an_error():
    with pytest.raises(ValueError, match="a -> b -> c -> a"):
        DRAWING["layers"]({"a": {"b"}, "b": {"c"}, "c": {"a"}})


def test_an_arrow_is_left_out_where_a_longer_way_leads_there():
    graph = {"a": frozenset("bc"), "b": frozenset("c"), "c": frozenset(), "d": frozenset("c")}
    assert DRAWING["reduced"](graph) == {"a": ["b"], "b": ["c"], "c": [], "d": ["c"]}


def test_all_kinds_of_import_are_found(tmp_path):
    (tmp_path / "inner").mkdir()
    files = {
        "a.py": "from . import b\nfrom .inner import c",
        "b.py": "import json\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .d import D",
        "d.py": "import importlib\nimportlib.import_module('.inner.c', __package__)",
        "inner/__init__.py": "",
        "inner/c.py": "def later():\n    from ..e import f",
        "e.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    found = DRAWING["imports"](tmp_path)
    assert found == {
        "a.py": {"b.py", "inner/"},
        "b.py": {"d.py"},
        "d.py": {"inner/"},
        "inner/": {"e.py"},
        "e.py": set(),
    }
