"""A Django project with the settings and the function that the README shows; importing it configures Django.

Django is configured once a process, so all tests share this.
"""

import re
from pathlib import Path
from textwrap import dedent

import django
from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import get_user_model, login, logout
from django.http import HttpResponse
from django.urls import path

README = Path(__file__).parents[2] / "README.rst"


def shown(mark):
    """What a snippet of the README defines, found by a text in it."""
    text = README.read_text("utf-8")
    snippets = re.findall(r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)", text)
    [snippet] = [snippet for snippet in snippets if mark in snippet]
    names = {}
    exec(dedent(snippet), names)  # noqa: S102 (our own text)
    return names


SETTINGS = {name: value for name, value in shown("MIDDLEWARE = [").items() if name.isupper()}
identify = shown("def identify(request):")["identify"]


def page(_request):
    return HttpResponse("hello")


async def page_async(_request):
    return HttpResponse("hello")


def sign_in(request):
    user = get_user_model().objects.get(username=request.GET["user"])
    login(request, user, "django.contrib.auth.backends.ModelBackend")
    return HttpResponse("welcome")


def sign_out(request):
    logout(request)
    return HttpResponse("goodbye")


async def sign_in_async(request):
    return await sync_to_async(sign_in)(request)


async def sign_out_async(request):
    return await sync_to_async(sign_out)(request)


def failing(_request):
    raise RuntimeError("my own")


def sign_in_failing(request):
    sign_in(request)
    return HttpResponse("sorry", status=503)


urlpatterns = [
    path("", page),
    path("sign-in", sign_in),
    path("sign-out", sign_out),
    path("async/", page_async),
    path("async/sign-in", sign_in_async),
    path("async/sign-out", sign_out_async),
    path("failing", failing),
    path("sign-in-failing", sign_in_failing),
]

settings.configure(
    **SETTINGS,
    SECRET_KEY="not a secret",
    ROOT_URLCONF=__name__,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
)
django.setup()
