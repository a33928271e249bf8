"""The adapter for Django around tiny views, among them such that fail."""

import asyncio
from inspect import iscoroutinefunction

import pytest

from helpers.adapters import ANN, Noted, awaited, fault

pytest.importorskip("django")

import asgiref.sync
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponse
from django.test import RequestFactory, override_settings

import helpers.django_project  # noqa: F401 (configures Django)
from activity_tracker_hll.web.django import ActivityMiddleware as DjangoMiddleware

noted = Noted()


def identify(request):
    return (request.user, "member")


def page(request):
    request.user = "ann"
    return HttpResponse("hello")


async def page_async(request):
    return page(request)


def call_django(view, **setting):
    with override_settings(ACTIVITY_TRACKER=setting):
        middleware = DjangoMiddleware(view)
    request = RequestFactory().get("/")
    assert asgiref.sync.iscoroutinefunction(middleware) == iscoroutinefunction(view)
    response = middleware(request)
    return asyncio.run(response) if asyncio.iscoroutine(response) else response


@pytest.mark.parametrize("view", [page, page_async])
@pytest.mark.parametrize("dotted", [False, True])
def test_django_knows_what_the_view_found_out(view, dotted):
    noted.told.clear()
    given = (
        {"writer": f"{__name__}.noted", "identify": f"{__name__}.identify"}
        if dotted
        else {"writer": noted, "identify": identify}
    )
    assert call_django(view, **given).content == b"hello"
    assert noted.told == [ANN]


@pytest.mark.parametrize("view", [page, page_async])
def test_django_a_fault_of_identify(writer, caplog, view):
    assert call_django(view, writer=writer, identify=fault).content == b"hello"
    assert "my own" in caplog.text


async def fault_async(_request):
    raise RuntimeError("my own")


@pytest.mark.parametrize("view", [fault, fault_async])
def test_django_an_application_that_raises(writer, view):
    with pytest.raises(RuntimeError, match="my own"):
        call_django(view, writer=writer, identify=identify)
    assert writer.told == []


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (None, "writer and identify"),
        ("project.writer", "writer and identify"),
        ({}, "writer and identify"),
        ({"writer": noted}, "writer and identify"),
        ({"writer": noted, "tracker": "no.such.module"}, "writer and identify"),
        ({"writer": noted, "identify": identify, "idnetify": 1}, "tracker, writer, identify.*idnetify"),
        ({"writer": "no.such.module", "identify": identify}, "'writer'.*no.such|'writer'.*No module"),
        ({"writer": "writer", "identify": identify}, "'writer'.*imported"),
        ({"writer": noted, "identify": f"{__name__}.no_such"}, "'identify'.*no_such"),
        ({"writer": identify, "identify": identify}, "writer must"),
        ({"writer": noted, "identify": None}, "identify must"),
        ({"writer": noted, "identify": awaited}, "identify must"),
    ],
)
def test_django_settings_that_are_wrong(setting, words):
    with override_settings(ACTIVITY_TRACKER=setting):
        with pytest.raises(ImproperlyConfigured, match=f"ACTIVITY_TRACKER.*({words})"):
            DjangoMiddleware(page)


def test_django_the_middleware_does_not_need_the_tracker():
    assert call_django(page, writer=noted, identify=identify, tracker="no.such.module").content == b"hello"


def test_django_without_the_setting():
    with override_settings():
        del settings.ACTIVITY_TRACKER
        with pytest.raises(ImproperlyConfigured, match="ACTIVITY_TRACKER"):
            DjangoMiddleware(page)
