"""What the README and the pages of docs/ show works as it stands there."""

import bz2
import gzip
import hashlib
import inspect
import json
import lzma
import pydoc
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from activity_tracker_hll import ActivityTracker
from activity_tracker_hll.backends.base import DEFAULT_KEEP
from activity_tracker_hll.backends.embedded import EmbeddedServer
from activity_tracker_hll.keys import BucketKeys
from activity_tracker_hll.periods import PERIODS
from helpers.moments import TODAY, YESTERDAY
from helpers.servers import free_port, missing
from helpers.snippets import Desk, snippets

NAMES = [*PERIODS, "Hourly"]
ROOT = Path(__file__).parents[1]
README = ROOT / "README.rst"
TEXT = README.read_text("utf-8")
PAGES = sorted((ROOT / "docs").rglob("*.rst"))
RUNS = re.compile(r"code-block:: (?:python|bash|console)\n")


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """In an empty directory, with a server on a port of its own."""
    if not (shutil.which("redis-server") and shutil.which("redis-cli")):
        missing("Debian's redis-server")
    monkeypatch.chdir(tmp_path)
    server = EmbeddedServer(executable="redis-server", port=free_port())
    server.open()
    desk = Desk(tmp_path, server.port)
    desk.instead["9108"] = str(free_port())  # where a service is scraped
    yield desk
    desk.close()
    server.close()


def sections():
    """Titles of the sections of the README, and where they begin and end."""
    starts = [(found[1], found.start()) for found in re.finditer(r"^(.+)\n---+\n", TEXT, re.MULTILINE)]
    ends = [start for _, start in starts[1:]] + [len(TEXT)]
    return {title: (start, end) for (title, start), end in zip(starts, ends, strict=True)}


def section(title, desk, **given):
    """The snippets of a section of the README, which share what is given."""
    start, end = sections()[title]
    found = [example for example in snippets(README, desk) if start < example.start < end]
    found[0].namespace.update(given)
    return found


def tables(page):
    """Tables that a page shows, each in a literal block of its own."""
    blocks = re.findall(r"^::\n\n((?: {4}.+\n)+)", page.read_text("utf-8"), re.MULTILINE)
    return [textwrap.dedent(block).strip() for block in blocks if "───" in block]


@pytest.mark.parametrize("page", [page for page in PAGES if RUNS.search(page.read_text("utf-8"))], ids=str)
def test_a_page(page, desk, tmp_path, capsys):
    for file in page.parent.glob("*.csv"):  # beside the page, for download
        shutil.copy(file, tmp_path)
    for example in snippets(page, desk):
        example.evaluate()
    printed = "\n".join(map(str.rstrip, capsys.readouterr().out.splitlines()))
    for table in tables(page):
        assert table in printed, "print it again"


def test_the_tour(desk, capsys):
    [tour] = section("The five-minute tour", desk)
    tour.evaluate()
    shown = re.search(r"# \(.*?(\{.*\})\)", tour.parsed)[1]
    tracker = tour.namespace["tracker"]
    assert str(tracker.lookup("daily", live=True)[-1][1]) == shown
    printed = re.findall(r"^ *# (2026-.*)$", tour.parsed, re.MULTILINE)
    assert capsys.readouterr().out.splitlines() == printed
    assert len(printed) == 2
    tracker.close()


def test_web_services_and_metrics(desk, server, monkeypatch):
    starlette = pytest.importorskip("starlette.applications")
    flask, client = pytest.importorskip("flask"), pytest.importorskip("prometheus_client")

    asgi, wsgi, settings, django, lifespan = section(
        "Web services", desk, tracker=server.tracker(), app=starlette.Starlette()
    )
    names = asgi.namespace
    asgi.evaluate()
    signed_in = {"session": {"visitor": "s", "user": "ann"}, "state": {"visitor": "s"}}
    assert names["identify"](signed_in) == ("ann", "member", "s", "anonymous")
    assert names["identify"]({"session": {"visitor": "s"}}) == ("s", "anonymous", None, None)
    assert names["identify"]({"session": {}}) is None

    names["app"] = app = flask.Flask("app")
    app.secret_key = "not a secret"  # noqa: S105
    app.add_url_rule("/<name>", view_func=lambda name: flask.session.setdefault(*name.split("=")))
    wsgi.evaluate()
    browser = app.test_client()
    for path in ("visitor=s", "user=ann", "user=ann"):
        browser.get(f"/{path}")
    names["writer"].flush(20)
    counts = names["tracker"].lookup(buckets=["anonymous", "member"], live=True)[-1][1]
    assert counts == {"anonymous": 1, "member": 1}

    settings.evaluate()  # tests/web/test_django_project.py runs a project with these two
    django.evaluate()

    names["get_asgi_application"] = lambda: app
    monkeypatch.setitem(sys.modules, "project", ModuleType("project"))
    monkeypatch.setitem(sys.modules, "project.activity", SimpleNamespace(writer=names["writer"]))
    lifespan.evaluate()
    [metrics] = section("Metrics", desk, writer=names["writer"])
    registered = []
    client.REGISTRY.register, register = registered.append, client.REGISTRY.register
    try:
        metrics.evaluate()
    finally:
        client.REGISTRY.register = register
    shown = {family.name for family in registered[0].collect()}
    described = re.findall(r"``(?:\.\.\.|activity_tracker_hll)_(\w+?)(?:_total)?``", TEXT)
    assert {f"activity_tracker_hll_{name}" for name in described} == shown


@pytest.mark.extended
def test_the_command_line(desk, tmp_path):
    line = '192.0.2.{} - - [17/May/2015:10:05:{:02} +0000] "GET / HTTP/1.1" 200 9 "-" "-"\n'
    log = "".join(line.format(visitor, visitor) for visitor in range(1, 51))
    (tmp_path / "access.log").write_text(log)
    (tmp_path / "access.log.1.gz").write_bytes(gzip.compress(log.replace("17/May", "18/May").encode()))
    (tmp_path / "visits.csv").write_text("user,when,site\nann,23.11.2025,shop\nbob,24.11.2025,blog\n")
    event = {"user": {"id": 7}, "site": "shop", "ts": 1767312000}
    (tmp_path / "events.jsonl.gz").write_bytes(gzip.compress(json.dumps(event).encode()))
    pytest.importorskip("helpers.tables").write_example(tmp_path / "events.parquet")
    desk.instead["demo --days 60"] = "demo --days 2"
    [commands] = section("Command line", desk)
    commands.evaluate()


GUIDE = ROOT / "docs" / "file_formats.rst"
IMPORTS = re.findall(r"``(.*activity-tracker-hll import .*)``", GUIDE.read_text("utf-8"))


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The files that the guide of formats reads, in the working directory."""
    zstd = pytest.importorskip("backports.zstd")
    for path in (ROOT / "tests" / "event_files" / "cases").iterdir():
        shutil.copy(path, tmp_path)
    log = b'192.0.2.1 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 9 "-" "Firefox"\n'
    made = {
        "access.log": log,
        "access.log.gz": gzip.compress(log),
        "access.log.bz2": bz2.compress(log),
        "access.log.xz": lzma.compress(log),
        "access.log.zst": zstd.compress(log),
        "list.jsonl": b'{"id": "ann", "time": "2026-01-02"}\n',
        "visits.csv": b"user,when,site\nann,2026-01-02,shop\n",
        "visits_1252.csv": "user,when,site\nMüller,2026-01-02,shop\n".encode("cp1252"),
        "two_columns.csv": b"id,day,clock\nann,02.01.2026,10:30\n",
    }
    for name, content in made.items():
        (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", IMPORTS)
@pytest.mark.parametrize("added", [["--dry-run"], pytest.param([], marks=pytest.mark.extended)], ids=str)
def test_a_command_of_the_guide_of_formats(command, added, files):
    from helpers.command_line import invoke  # here, as it needs packages that may be missing

    before, _, after = command.partition("activity-tracker-hll ")
    text = subprocess.check_output(shlex.split(before.rstrip("| "))) if before else None
    done = invoke(["--data", str(files / "data"), *shlex.split(after), *added], input=text)
    # Lines of which it says that they are bad are left out.
    assert done.exit_code == (3 if "--null" in after else 0), done.output
    assert done.exception is None or isinstance(done.exception, SystemExit)


def test_the_guide_of_formats_has_all_names_and_options():
    from activity_tracker_hll.cli.commands.import_ import import_
    from activity_tracker_hll.event_files.layout import FORMATS
    from activity_tracker_hll.event_files.logs import LOG_FORMATS

    text = GUIDE.read_text("utf-8")
    assert len(IMPORTS) > 20
    assert not [name for name in (*FORMATS[1:], *LOG_FORMATS) if f"``{name}``" not in text]
    own = {name for option in import_.params for name in option.opts if not getattr(option, "hidden", True)}
    unsaid = {"--header", "--delimiter", "--bucket", "--period", "--format"}  # their help says all
    assert not [name for name in own - unsaid if name not in " ".join([text, *IMPORTS])]


SHOWN = {title for title, (start, end) in sections().items() if RUNS.search(TEXT, start, end)}
OF_THEIR_OWN = {"The five-minute tour", "Web services", "Metrics", "Command line"}
"""Sections that have tests above."""


@pytest.mark.parametrize("title", sorted(SHOWN - OF_THEIR_OWN))
def test_a_section_of_the_readme(title, desk):
    with ActivityTracker(["daily"], port=desk.port) as tracker:
        for example in section(title, desk, tracker=tracker):
            example.evaluate()


def test_nothing_that_can_be_run_is_shown_otherwise():
    for path in (README, *PAGES):
        languages = re.findall(r"code-block::\s*(\S*)", path.read_text("utf-8"))
        # Tables of cron and units of systemd: the next tests run their commands.
        schedules = {"text", "ini"} if path.name in {"operations.rst", "archives.rst"} else set()
        assert set(languages) <= {"python", "bash", "console", "diff"} | schedules, path


def test_what_cron_systemd_and_celery_run(desk, tmp_path):
    page = ROOT / "docs" / "operations.rst"
    text = page.read_text("utf-8").replace("localhost:6379", f"localhost:{desk.port}")
    cron = re.findall(r"^    \d+ \S+ \* \* \*  \w+  (activity-tracker-hll .*)$", text, re.MULTILINE)
    [unit] = re.findall(r"^    ExecStart=\S+/(activity-tracker-hll .*)$", text, re.MULTILINE)
    [url] = re.findall(r"^    Environment=(ACTIVITY_TRACKER_URL=\S+)$", text, re.MULTILINE)
    collapse, doctor = cron
    [celery] = [example for example in snippets(page, desk) if "Celery" in example.parsed]
    # In a process of its own, as celery keeps tasks for good.
    script = celery.parsed.replace("localhost:6379", f"localhost:{desk.port}")
    script += (
        "\napp.conf.task_always_eager = True\n[entry] = app.conf.beat_schedule.values()\n"
        "assert app.tasks[entry['task']].delay().successful()\n"
    )
    (tmp_path / "tasks.py").write_text(script)

    def by_celery():
        desk.shell(f"{sys.executable} {tmp_path / 'tasks.py'}")

    ways = [lambda: desk.shell(collapse), lambda: desk.shell(f"{url} {unit}"), by_celery]
    with ActivityTracker(["daily"], port=desk.port, buckets=["a", "b", "c"]) as tracker:
        for run, bucket in zip(ways, ("a", "b", "c"), strict=True):
            tracker.track(id="ann", bucket=bucket, date=YESTERDAY)
            run()
            assert tracker.lookup(start=YESTERDAY)[0][1][bucket] == 1
    desk.shell(f"{doctor} || [ $? = 1 ]")


def test_what_cron_runs_for_an_archive(desk, tmp_path):
    text = (ROOT / "docs" / "archives.rst").read_text("utf-8").replace("/var/lib/shop", str(tmp_path))
    archive, doctor = re.findall(r"^    \d+ \d+ \* \* \S+  (.*)$", text, re.MULTILINE)
    desk.shell(f"export ACTIVITY_TRACKER_URL=redis://localhost:{desk.port}")
    with ActivityTracker(["daily"], port=desk.port) as tracker:
        tracker.track(id="ann", date=YESTERDAY)
        desk.shell(archive)
        assert (tmp_path / "activity.archive").exists()
        assert tracker.lookup(start=YESTERDAY, live=False)[0][1][None] == 1
    assert "the archive does not have" not in desk.shell(f"{doctor} || [ $? = 1 ]")


def test_files_that_the_architecture_names_are_there():
    text = (ROOT / "docs" / "architecture.rst").read_text("utf-8")
    named = set(re.findall(r"``([\w/]+\.(?:py|lua)|\w+/)``", text)) - {"docs/draw_imports.py"}
    assert len(named) > 40, "the names were not found"
    package = ROOT / "activity_tracker_hll"
    assert not [name for name in named if not list(package.rglob(name.rstrip("/")))]


def of_the_reference():
    """Classes and methods that the reference shows; but for classes with (), which users do not make."""
    shown = {}
    for page in sorted((ROOT / "docs" / "reference").glob("*.rst")):
        text = page.read_text("utf-8")
        directives = re.findall(r"autoclass:: ([\w.]+)(\(\))?(?:\(.+\))?\n((?:   .*\n)*)", text)
        assert len(directives) == text.count("autoclass"), page
        for name, not_made, options in directives:
            kind = pydoc.locate(name)
            if not not_made:
                shown[name] = kind
            members = re.search(r":members:((?:.|\n)*?)(?:\n   :|\Z)", options)
            listed = re.findall(r"\w+", members[1]) if members else []
            for member in listed or (vars(kind) if members else ()):
                if not member.startswith("_") and inspect.isroutine(getattr(kind, member)):
                    shown[f"{name}.{member}"] = getattr(kind, member)
    return shown


@pytest.mark.parametrize("name", of_the_reference())
def test_every_argument_is_described(name):
    call = inspect.unwrap(of_the_reference()[name])
    found = inspect.signature(call).parameters.values()
    wanted = {one.name for one in found if one.name != "self" and one.kind not in (2, 4)}
    _, _, arguments = inspect.getdoc(call).partition("s:\n")  # Args or Attributes
    described = re.findall(r"^ +((?:\w+, )*\w+): ", arguments, re.MULTILINE)
    assert wanted <= {argument for line in described for argument in line.split(", ")}


@pytest.mark.parametrize("secret", [None, "pepper"])
def test_a_service_in_another_language(real_server, secret):
    """The three commands of the section on keys, with today's period."""
    text = TEXT.split("\nKeys\n----")[1].split("\nMeasured\n")[0]
    commands = [line.split() for line in text.splitlines() if re.match(r"    (PFADD|ZADD|SADD) ", line)]
    assert [command[0] for command in commands] == ["PFADD", "ZADD", "SADD"]
    tracker = real_server.tracker(secret=secret, buckets=["anon"])
    id = b"session-1"
    if secret is not None:
        key = hashlib.blake2b(secret.encode(), person=b"activity-hll").digest()
        id = hashlib.blake2b(id, key=key, digest_size=16).digest()

    def track():
        seconds, microseconds = real_server.client.time()
        now = {"1795435200000000": f"{seconds}{microseconds:06}", "session-1": id}
        for command in commands:
            words = [now.get(word, word.replace("daily-20261123", period)) for word in command]
            real_server.client.execute_command(*words)

    period = f"daily-{TODAY:%Y%m%d}"
    track()
    assert real_server.client.smembers("active:{open}") == {period.encode()}
    tracker.track(id="session-1", bucket="anon")
    assert tracker.lookup(live=True)[-1][1] == {"anon": 1}
    tracker.track(old_id="session-1", old_bucket="anon")
    assert tracker.lookup(live=True)[-1][1] == {"anon": 0}
    track()
    assert tracker.lookup(live=True)[-1][1] == {"anon": 1}


def test_the_keys_are_those_that_are_listed(server):
    tracker = server.tracker(buckets=["anon"])
    tracker.track_many(range(50), bucket="anon", date=YESTERDAY)
    tracker.track(old_id=1, old_bucket="anon", date=YESTERDAY)
    tracker.collapse()
    tracker.track(id=1)
    text = TEXT.split("\nKeys\n----")[1].split("\n\nPeriods are called")[0]
    listed = re.findall(r"^``(\S+)``\s+(\S+(?: set)?)", text, re.MULTILINE)
    types = {"HLL": "string", "sorted set": "zset"}
    for key, kind in listed:
        found = server.client.type(key.replace("20261123", f"{YESTERDAY:%Y%m%d}")).decode()
        assert found == types.get(kind, kind) or (kind == "HLL" and server.name == "fakeredis"), key
    assert len(listed) == len(set(BucketKeys._fields) - {"raw", "announced"}) + 2


def test_the_defaults_of_keep_sketches_are_those_that_are_listed():
    table = TEXT.split("``keep_sketches``  ")[1].split("``socket_timeout``")[0]
    listed = re.findall(r"(?:([A-Za-z]+) )?(\d+) ([a-z]+)", " ".join(table.split()).partition("over. ")[2])
    units = {"days": 1, "weeks": 7, "months": 31, "quarters": 92, "years": 366}
    found = {kind.lower(): int(number) * units[unit] for kind, number, unit in listed if kind in NAMES}
    assert found == {kind: keep.days for kind, keep in DEFAULT_KEEP.items()}


def test_ci_runs_the_command_of_the_readme():
    pattern = re.search(r'grep -E "(.*)" README', (ROOT / ".ci" / "run").read_text())[1]
    [command] = [line for line in TEXT.splitlines() if re.search(pattern, line)]
    assert command.strip().endswith(".venv/bin/pytest")


def test_nothing_was_left_to_be_filled_in():
    assert not re.findall(r"^[A-Z_]{4,}$", TEXT, re.MULTILINE)
