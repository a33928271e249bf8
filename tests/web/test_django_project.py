"""A Django project as the README has it: every request of every visitor counts, and signing in moves once."""

import random
import sys
from types import SimpleNamespace
from uuid import UUID

import pytest

pytest.importorskip("django")

from asgiref.sync import async_to_sync
from django.core.management import call_command
from django.db import connections
from django.test import AsyncClient, Client, override_settings

from helpers import django_project
from helpers.adapters import Noted


@pytest.fixture(scope="module")
def users():
    """Primary keys by name, in a database that lives as long as the process."""
    from django.contrib.auth import get_user_model

    call_command("migrate", verbosity=0)
    users = get_user_model().objects
    yield {name: users.get_or_create(username=name)[0].pk for name in ("ann", "bob")}
    connections.close_all()


@pytest.fixture
def project(monkeypatch):
    """The module that the settings name; its writer notes what it is told.

    Visitors are the same ones in each run: one run in 2,000 would have two that share a register.
    """
    chance = random.Random(1)
    monkeypatch.setitem(
        django_project.identify.__globals__, "uuid4", lambda: UUID(int=chance.getrandbits(128))
    )
    module = SimpleNamespace(writer=Noted(), identify=django_project.identify)
    monkeypatch.setitem(sys.modules, "project.activity", module)
    return module


@pytest.fixture(params=["db", "cache", "signed_cookies"])
def sessions(request, users):
    """Where sessions are."""
    with override_settings(SESSION_ENGINE=f"django.contrib.sessions.backends.{request.param}"):
        yield request.param


class Browser:
    """Keeps cookies; what it gets under ASGI is answered by views that are asynchronous."""

    def __init__(self, kind="wsgi", **options):
        self.client = Client(**options) if kind == "wsgi" else AsyncClient(**options)
        self.root = "/" if kind == "wsgi" else "/async/"

    def get(self, page=""):
        get = self.client.get if self.root == "/" else async_to_sync(self.client.get)
        return get(self.root + page)


KINDS = pytest.mark.parametrize("kind", ["wsgi", "asgi"])


@KINDS
@pytest.mark.parametrize("every_request", [False, True])
def test_a_visitor_who_signs_in_and_out(project, sessions, users, kind, every_request):
    told = project.writer.told
    with override_settings(SESSION_SAVE_EVERY_REQUEST=every_request):
        ann = Browser(kind)
        for page in (
            "",
            "",
            "sign-in?user=ann",
            "",
            "sign-out",
            "",
            "sign-in?user=ann",
            "",
            "sign-in?user=bob",
        ):
            assert ann.get(page).status_code == 200
    first, second = told[0][0], told[4][0]
    assert first != second
    assert told == [
        (first, "anonymous", None, None),
        (first, "anonymous", None, None),
        (users["ann"], "member", first, "anonymous"),
        (users["ann"], "member", None, "anonymous"),
        (second, "anonymous", None, None),
        (second, "anonymous", None, None),
        (users["ann"], "member", second, "anonymous"),
        (users["ann"], "member", None, "anonymous"),
        (users["bob"], "member", None, "anonymous"),
    ]


@KINDS
def test_what_is_counted(project, server, sessions, users, kind):
    tracker = server.tracker(buckets=["anonymous", "member"])
    with tracker.buffered() as project.writer:
        browsers = [Browser(kind) for _ in range(5)]
        for _ in range(2):
            for browser in browsers:
                browser.get()
        browsers[0].get("sign-in?user=ann")
        browsers[1].get("sign-in?user=ann")
        Browser(kind).get("sign-in?user=bob")  # with the first request of all
        browsers[0].get()
    [(_, counts)] = tracker.lookup(live=True)[-1:]
    assert counts == {"anonymous": 3, "member": 2}


def test_a_session_that_is_gone(project, users):
    browser = Browser()
    browser.get()
    for cookie in browser.client.cookies.values():
        cookie.set(cookie.key, "no-such-session", "no-such-session")
    browser.get()
    browser.get()
    [one, other, again] = [id for id, *_ in project.writer.told]
    assert one != other == again


def test_those_who_have_a_session_anyway(project, sessions, users):
    """The line that the README has for this."""
    assert "``if session.is_empty(): return None``" in django_project.README.read_text("utf-8")

    def identify(request):
        is_empty = not request.user.is_authenticated and request.session.is_empty()
        return None if is_empty else django_project.identify(request)

    project.identify = identify
    browser = Browser()
    for page in ("", "sign-in?user=ann", "", "sign-out", ""):
        assert browser.get(page).status_code == 200
    assert [id for id, *_ in project.writer.told] == [users["ann"], users["ann"]]
    assert browser.client.session.is_empty()


def test_requests_that_fail(project, sessions, users):
    """Nothing of them stays: the visitor has no session, and nobody is signed in."""
    browser = Browser(raise_request_exception=False)
    assert browser.get("failing").status_code == 500
    assert browser.get("sign-in-failing?user=ann").status_code == 503
    assert project.writer.told == []
    browser.get()
    assert browser.get("sign-in-failing?user=ann").status_code == 503
    browser.get()
    assert [bucket for _, bucket, *_ in project.writer.told] == ["anonymous", "anonymous"]
    browser.get("no-such-page")
    assert len(project.writer.told) == 3
