"""The command `report`."""

import sys
from datetime import date, timedelta

import pytest

from helpers.pages import Page

pytest.importorskip("jinja2")

FIRST = date(2015, 5, 17)


@pytest.fixture
def days(run):
    """Three days in two buckets."""
    lines = ["id,time,bucket"]
    lines += [f"u{n},{FIRST + timedelta(n % 3)},{'shop' if n % 4 else 'blog'}" for n in range(120)]
    run("import", "--bucket-field", "bucket", input="\n".join(lines))
    return run


def test_a_report(days, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = days("report")
    path = tmp_path / "active-users.html"
    assert done.stdout == f"active-users.html: {path.stat().st_size:,} bytes\n"
    page = Page(path.read_text("utf-8"))
    assert page.tables["days"][0] == ["day", "shop", "blog"]
    assert len(page.tables["days"]) == 4

    days("report", "a.html", "--bucket", "blog", "--title", "Our <users>", "--last", "2015-05-18")
    page = Page((tmp_path / "a.html").read_text("utf-8"))
    assert "Our <users>" in page.text
    assert page.tables["days"][0] == ["day", "blog"]
    assert len(page.tables["days"]) == 3

    days("report", "b.html", "--of", "blog", "--start", "2015-05-18")
    page = Page((tmp_path / "b.html").read_text("utf-8"))
    assert page.findings["reach-and-stickiness"].startswith("Of blog: ")


def test_what_cannot_be_done_is_a_sentence(days, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arguments, said in (
        (["--bucket", "shpo"], "no such bucket 'shpo', did you mean 'shop'?"),
        (["--of", "nobody"], "no such bucket 'nobody'"),
        (
            ["not/there.html"],
            "Error: the report cannot be written to 'not/there.html': there is no directory 'not'",
        ),
        (["--start", "2015-05-19", "--last", "2015-05-17"], "Error: start must not be after end"),
    ):
        assert said in run("report", *arguments, status=1).output
    monkeypatch.setitem(sys.modules, "jinja2", None)
    for name in [name for name in sys.modules if name.startswith("activity_tracker_hll.report")]:
        monkeypatch.delitem(sys.modules, name)
    assert "pip install 'activity-tracker-hll[report]'" in run("report", status=1).output
    assert not list(tmp_path.glob("*.html"))


def test_without_data(run, tmp_path):
    run("report", tmp_path / "x.html")
    assert "There are no counts of days to show." in (tmp_path / "x.html").read_text("utf-8")
