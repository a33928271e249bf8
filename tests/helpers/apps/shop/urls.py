"""A page, once synchronous and once not, and signing in."""

import os
from uuid import uuid4

from django.contrib.auth import authenticate, login
from django.http import HttpResponse
from django.urls import path
from writers import writer


def page(request):
    if request.user.is_authenticated:
        return HttpResponse("hello")
    return HttpResponse(request.session.setdefault("visitor", uuid4().hex))


async def page_async(request):
    if (await request.auser()).is_authenticated:
        return HttpResponse("hello")
    return HttpResponse(await request.session.asetdefault("visitor", uuid4().hex))


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
