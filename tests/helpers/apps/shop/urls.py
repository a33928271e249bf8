"""A page, once synchronous and once not, and signing in."""

import os

from django.contrib.auth import authenticate, login
from django.http import HttpResponse
from django.urls import path
from writers import writer


def page(request):
    if request.session.session_key is None:
        request.session.create()
    return HttpResponse(request.session.session_key)


async def page_async(request):
    if request.session.session_key is None:
        await request.session.acreate()
    return HttpResponse(request.session.session_key)


def sign_in(request):
    login(request, authenticate(request, username=request.GET["user"], password="secret"))
    return HttpResponse("welcome")


def flush(_request):
    writer.flush()
    return HttpResponse(str(os.getpid()))


urlpatterns = [
    path("", page),
    path("async", page_async),
    path("sign-in", sign_in),
    path("flush", flush),
]
