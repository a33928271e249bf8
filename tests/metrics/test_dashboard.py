"""The dashboard is one that Grafana's schema knows, and is drawn anew after a change."""

import json
import runpy
from pathlib import Path

import pytest

pytest.importorskip("grafana_foundation_sdk")

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "grafana_dashboard.json").read_text("utf-8")


@pytest.fixture(scope="module", autouse=True)
def plugins():
    register_default_plugins()  # what panels of a kind, and queries of a data source, have


def read(dashboard):
    """A dashboard as what the schema knows of it."""
    return json.loads(json.dumps(Dashboard.from_json(dashboard), cls=JSONEncoder))


def test_it_is_drawn_anew():
    drawn = runpy.run_path(str(DOCS / "draw_dashboard.py"))["drawn"]
    assert drawn() == TEXT, "run docs/draw_dashboard.py"


def test_the_schema_knows_all_of_it():
    assert read(json.loads(TEXT)) == json.loads(TEXT)


@pytest.mark.parametrize("place", [(), ("panels", 0), ("panels", 6, "targets", 0), ("panels", 6, "options")])
def test_what_the_schema_does_not_know_would_be_found(place):
    part = dashboard = json.loads(TEXT)
    for step in place:
        part = part[step]
    part["whatever"] = 1
    assert read(dashboard) == json.loads(TEXT)


def test_panels_lie_beside_each_other():
    """Within the grid of 24 columns, without overlaps."""
    taken = set()
    for panel in json.loads(TEXT)["panels"]:
        place = panel["gridPos"]
        columns = range(place["x"], place["x"] + place["w"])
        cells = {(x, y) for x in columns for y in range(place["y"], place["y"] + place["h"])}
        assert columns.stop <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
