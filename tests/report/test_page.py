"""The page: whatever buckets are called, it is text; nothing but the page's own script may run."""

import csv
import hashlib
import io
import re
from base64 import b64encode
from dataclasses import replace
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("jinja2")

from activity_tracker_hll import Estimate
from activity_tracker_hll.report.facts import Facts, Shares
from activity_tracker_hll.report.page import page
from activity_tracker_hll.report.tables import Row, Table, link
from activity_tracker_hll.report.wording import safe
from activity_tracker_hll.sketch import HyperLogLog
from helpers.facts import facts, reach
from helpers.pages import Page

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "\" onmouseover='alert(1)'",
    "'; --",
    "&lt;b&gt; &amp;",
    "\u202egnp.exe\u2066",
    "\u05e9\u05dc\u05d5\u05dd",
    '=HYPERLINK("http://x")',
    "@SUM(1)",
    "{{ 7 * 7 }}{% raw %}",
    "-->",
    "x" * 200,
    "\N{ROLLING ON THE FLOOR LAUGHING}" * 50,
)


def shown(names):
    """A page with buckets of these names, wherever a name can stand."""
    both = HyperLogLog(range(900)).overlap(HyperLogLog(range(600)))
    counts = {name: [1000] * 10 + [500 + 100 * at] * 10 for at, name in enumerate(names)}
    found = facts(
        counts,
        title=names[0],
        reach=replace(reach(20), together=False, bucket=names[0], problem=names[-1]),
        unread={names[0]: names[-1]},
    )
    groups = replace(found.groups, bucket=names[0])
    shares = Shares(tuple(names[:2]), found.days[0], found.days[-1], {tuple(names[:2]): both})
    return page(replace(found, groups=groups, shares=shares))


def test_hostile_names_are_text():
    html = shown(HOSTILE[:12])
    assert len(re.findall("<script", html)) == 1
    read = Page(html)
    assert read.tables["days"][0][1:] == [safe(name) for name in HOSTILE[:12]]
    assert not [name for _, name, _ in read.attributes if name.startswith("on")]
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", html)
    assert read.tables["Overlap"][0][2:] == [safe(name) for name in HOSTILE[:2]]
    assert [
        cell for cell in next(csv.reader(io.StringIO(read.files["days.csv"]))) if cell[:1] in set("=+-@")
    ] == []
    # Each in an element of its own, so that what it begins does not go on round it.
    assert html.count("<bdi>") == html.count("</bdi>") >= 24


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)


@settings(max_examples=10)
@given(st.lists(names, min_size=2, max_size=3, unique=True))
def test_any_names_are_text(given_names):
    html = shown(given_names)
    read = Page(html)
    # A cell is stripped here; a browser folds blanks as well.
    assert [each.split() for each in read.tables["days"][0][1:]] == [
        safe(name).split() for name in given_names
    ]
    assert {name for _, name, _ in read.attributes} == USUAL
    assert len(re.findall("<script", html)) == 1
    rows = list(csv.reader(io.StringIO(read.files["days.csv"])))
    assert {len(row) for row in rows} == {2 + 3 * len(given_names)}
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "@"))]


USUAL = {name for _, name, _ in Page(shown(["a", "b", "c"])).attributes}
"""Attributes of a page whose names are no attempts to add some."""


def test_the_policy_lets_in_one_script():
    read = Page(page(facts({"a": [5] * 20})))
    digest = b64encode(hashlib.sha256(read.script.encode()).digest()).decode()
    assert read.policy == (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    )


def test_nothing_is_loaded():
    html = page(facts({"a": [5] * 20}))
    read = Page(html)
    elements = {tag for tag, _, _ in read.attributes}
    assert not elements & {"link", "img", "iframe", "object", "embed", "base", "form"}
    targets = [value for _, name, value in read.attributes if name in {"src", "href", "action", "xlink:href"}]
    assert all(target.startswith(("#", "data:text/csv")) for target in targets)
    assert "http://" not in html.replace("http-equiv", "")
    assert "https://" not in html
    assert "innerHTML" not in read.script
    assert "url(" not in html
    assert "@import" not in html


def test_every_label_and_id_is_there_once():
    read = Page(shown(["a", "b"]))
    ids = [value for _, name, value in read.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    referred = [value for _, name, value in read.attributes if name == "aria-labelledby"]
    assert set(referred) <= set(ids)
    assert {value[1:] for _, name, value in read.attributes if name == "href" and value[0] == "#"} <= set(ids)


def test_it_is_made_when_it_says():
    assert "Made 1 May 2026, 09:30." in page(facts({"a": [5]}))


def test_without_days():
    read = Page(page(Facts("x", facts({"a": [5]}).made, "UTC", unread={"a": "it is broken"})))
    assert read.findings[None] == "There are no counts of days to show."
    assert "a: it is broken" in read.problems


@pytest.mark.extended
def test_a_thousand_buckets_are_about_a_megabyte():
    """Of a year: twelve panels with all their days, and a list."""
    counts = {f"bucket number {at}": [1000 + at + day for day in range(365)] for at in range(1000)}
    html = page(facts(counts, reach=reach(365)))
    assert len(html) < 1_500_000
    assert len(Page(html).tables["list"]) == 1001


def test_csv():
    text = link(["=a", "b,c"], [["+x", 1], ["-y", -1], ['q"', None]])
    assert text.startswith("data:text/csv;charset=utf-8,")
    table = Table(
        "t", "", "day", ["n"], [Row("l", "2026-01-01", [Estimate(5)]), Row("l", "k", [None], complete=False)]
    )
    assert unquote(text.partition(",")[2]) == '\'=a,"b,c"\n\'+x,1\n\'-y,-1\n"q""",\n'
    assert (
        unquote(table.csv.partition(",")[2])
        == "day,n,n low,n high,complete\n2026-01-01,5,5,5,True\nk,,,,False\n"
    )
