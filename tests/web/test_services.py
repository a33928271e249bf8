"""Web services as they run: real servers, processes and clients; what is counted is what the clients did."""

import http.client
import os
import random
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.cookies import SimpleCookie
from pathlib import Path

import pytest

import helpers
from activity_tracker_hll import HyperLogLog
from activity_tracker_hll.keys import Keys
from helpers.moments import NOON, TODAY
from helpers.servers import back, free_port, left

for _package in ("django", "flask", "gunicorn", "starlette", "uvicorn"):
    pytest.importorskip(_package)

APPS = Path(helpers.__file__).parent / "apps"
PERIODS = [f"daily-{TODAY:%Y%m%d}", f"monthly-{TODAY:%Y%m}"]
THREADS = 4
SESSIONS_PER_USER = 3

pytestmark = pytest.mark.parametrize("real_server", ["valkey"], indirect=True)


class Visitor:
    """A browser, with the cookies of one session."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self.cookies = {}
        self.session = None

    def request(self, method, path):
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        self.connection.request(method, path, headers={"Cookie": cookies} if cookies else {})
        response = self.connection.getresponse()
        body = response.read().decode()
        assert response.status == 200, body
        for header in response.headers.get_all("Set-Cookie", []):
            self.cookies |= {name: morsel.value for name, morsel in SimpleCookie(header).items()}
        return body

    def arrive(self, path):
        """Two requests; the service says what session it made of the first."""
        self.session = self.request("GET", path)
        assert self.request("GET", path) == self.session
        self.connection.close()

    def flush(self):
        """Make whichever worker answers push; returns its process id."""
        with closing(self.connection):
            return self.request("POST", "/flush")

    def sign_in(self, path, user):
        assert self.request("POST", f"/sign-in?user={user}") == "welcome"
        self.request("GET", path)
        self.connection.close()


@pytest.fixture
def serve(real_server, tmp_path):
    """Starts a service on the server under test; what still runs in the end is killed."""
    processes = []

    def start(*arguments, **env):
        port = free_port()
        paths = [str(APPS), os.environ.get("PYTHONPATH", "")]
        env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "APP_URL": f"unix://{real_server.options['unix_socket_path']}",
            "APP_NOW": str(NOON),
            "APP_FLUSH_INTERVAL": "3600",
            **env,
        }
        log = tmp_path / "service.log"
        with log.open("wb") as output:
            command = [sys.executable, "-m", *(argument.format(port=port) for argument in arguments)]
            process = subprocess.Popen(command, env=env, stdout=output, stderr=output, start_new_session=True)
        processes.append(process)
        until(lambda: answers(port) or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        return process, port, log

    yield start
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def until(condition):
    limit = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.02)


def in_threads(work):
    """Run all of it, in any order."""
    random.Random(1).shuffle(work)
    with ThreadPoolExecutor(THREADS) as threads:
        for done in [threads.submit(*call) for call in work]:
            done.result()


def stop(process, log, status):
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == status, log.read_text()
    assert "Traceback" not in log.read_text(), log.read_text()


class Counted:
    """What the server holds, read past the library."""

    def __init__(self, server):
        self.client, self.keys = server.client, Keys().bucket

    def sketch(self, period, bucket, part="hll"):
        held = self.client.get(getattr(self.keys(period, bucket), part))
        return HyperLogLog.from_bytes(held) if held else HyperLogLog()

    def left(self, period, bucket):
        return {id.decode() for id in left(self.client, self.keys(period, bucket))}

    def back(self, period, bucket):
        return {id.decode() for id in back(self.client, self.keys(period, bucket))}


def load(server, service, users, *, workers, status, strangers=40, path="/"):
    """Sessions arrive, some sign in; the service is stopped with the last response.

    It pushes when it is told to and when it is stopped, so that it is seen what either pushes.
    """
    process, port, log = service
    counted = Counted(server)
    visitors = [Visitor(port) for _ in range(len(users) * SESSIONS_PER_USER + strangers)]
    signing_in = visitors[strangers:]
    in_threads([(visitor.arrive, path) for visitor in visitors])
    arrived = {visitor.session for visitor in visitors}
    assert len(arrived) == len(visitors)
    assert server.names() == []
    # Processes push in no order: what one holds of a session has to be there before another moves it.
    flushed = set()
    until(lambda: flushed.add(Visitor(port).flush()) or len(flushed) == workers)
    for period in PERIODS:
        assert counted.sketch(period, "anon") == HyperLogLog(arrived)

    late = [Visitor(port) for _ in range(strangers)]
    in_threads(
        [
            (visitor.sign_in, path, user)
            for visitor, user in zip(signing_in, users * SESSIONS_PER_USER, strict=True)
        ]
        + [(visitor.arrive, path) for visitor in late]
    )
    stop(process, log, status)

    moved = {visitor.session for visitor in signing_in}
    arrived |= {visitor.session for visitor in late}
    for period in PERIODS:
        assert counted.sketch(period, "anon") == HyperLogLog(arrived)
        assert counted.sketch(period, "anon", "moved") == HyperLogLog(moved)
        assert counted.left(period, "anon") == moved
        assert counted.back(period, "anon") == set()
        assert counted.sketch(period, "member") == HyperLogLog(users)
        assert counted.left(period, "member") == set()
    with server.tracker(["daily"]) as tracker:
        counts = tracker.lookup(buckets=["anon", "member"], live=True)[-1][1]
    for bucket, truth in (("anon", len(arrived - moved)), ("member", len(users))):
        # What a few ids are off by are the registers that two of them share: a Poisson variable of a variance
        # below 1, which is ten or more once in 10^7 times.
        assert abs(counts[bucket] - truth) < 10


USERS = [f"user-{n}" for n in range(30)]
GUNICORN = ("gunicorn", "--bind", "127.0.0.1:{port}", "--log-level", "warning", "--no-control-socket")
UVICORN = ("uvicorn", "--host", "127.0.0.1", "--port", "{port}", "--log-level", "warning")


@pytest.mark.parametrize("kind", [pytest.param("threads", marks=pytest.mark.extended), "async"])
def test_starlette_under_uvicorn(real_server, serve, kind):
    service = serve(*UVICORN, "starlette_app:app", APP_WRITER=kind)
    load(real_server, service, USERS, workers=1, status=-signal.SIGTERM)


@pytest.mark.parametrize(
    "options",
    [(), ("--preload",)],
    ids=["each worker", "preloaded"],
)
@pytest.mark.extended
def test_flask_under_gunicorn(real_server, serve, options):
    service = serve(*GUNICORN, "--workers", "4", *options, "flask_app:app")
    load(real_server, service, USERS, workers=4, status=0)


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """The Django project's, with its users."""
    path = tmp_path_factory.mktemp("shop") / "db.sqlite3"
    code = (
        "import django, sys; django.setup()\n"
        "from django.contrib.auth.hashers import make_password\n"
        "from django.contrib.auth.models import User\n"
        "from django.core.management import call_command\n"
        "call_command('migrate', verbosity=0)\n"
        "password = make_password('secret')\n"
        "User.objects.bulk_create(User(username=name, password=password) for name in sys.argv[1:])\n"
    )
    paths = [str(APPS), os.environ.get("PYTHONPATH", "")]
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "DJANGO_SETTINGS_MODULE": "shop.settings",
        "APP_DATABASE": str(path),
    }
    subprocess.run([sys.executable, "-c", code, *USERS], env=env, check=True)
    return {"APP_DATABASE": str(path), "DJANGO_SETTINGS_MODULE": "shop.settings"}


@pytest.mark.extended
def test_django_under_gunicorn(real_server, serve, database):
    service = serve(*GUNICORN, "--workers", "2", "--threads", "4", "shop.wsgi", **database)
    load(real_server, service, USERS, workers=2, status=0)


@pytest.mark.extended
def test_django_under_uvicorn(real_server, serve, database):
    service = serve(*UVICORN, "shop.asgi:application", **database)
    load(real_server, service, USERS, workers=1, status=-signal.SIGTERM, path="/async")
