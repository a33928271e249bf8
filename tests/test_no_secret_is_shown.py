"""A canary in every place where a password or a secret can be: it must sing nowhere."""

import asyncio
import logging
import pickle
import traceback
from urllib.parse import quote

import pytest
import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from activity_tracker_hll import ActivityTracker, ActivityTrackerError
from activity_tracker_hll.aio import AsyncActivityTracker
from helpers.servers import free_port

CANARY = "canary7f3a"
ODD = f"{CANARY[:5]}#{CANARY[5:]}"
"""A # ends what a URL says of the server, so that the beginning of a password looks like its port."""


class Provider(redis.CredentialProvider):
    def get_credentials(self):
        return "default", CANARY

    async def get_credentials_async(self):
        return self.get_credentials()

    def __repr__(self):
        return CANARY


class FailingProvider(Provider):
    def get_credentials(self):
        raise ValueError(f"{CANARY} has expired")


URLS = [
    f"redis://:{CANARY}@127.0.0.1:1",
    f"redis://{CANARY}:{CANARY}@127.0.0.1:1/0",
    f"redis://:{ODD}@127.0.0.1",
    f"redis://:12#{CANARY}@127.0.0.1",
    f"redis://:{quote(ODD, safe='')}@127.0.0.1:1",
    f"redis://:{CANARY}@127.0.0.1:x",
    f"redis://:{CANARY}@127.0.0.1:99999",
    f"redis://:{CANARY}/x@127.0.0.1",
    f"redis://:12/{CANARY}@127.0.0.1",
    f"redis://:{CANARY}?x@127.0.0.1",
    f"redis://:12?{CANARY}@127.0.0.1",
    f"redis://:{CANARY}[@127.0.0.1",
    f"redis://:{CANARY}\u2100@127.0.0.1",
    f"redis://:{CANARY}\n@127.0.0.1",
    f"redis://:{CANARY}@127.0.0.1:1/x",
    f"redis://:{CANARY}@127.0.0.1:1?bogus=1",
    f"redis://:{CANARY}@127.0.0.1:1?socket_timeout=x",
    f"redis://127.0.0.1:1?password={CANARY}&bogus=1",
    f"redis://127.0.0.1:1?db={CANARY}",
    f"redis://127.0.0.1:{CANARY}",
    f"http://:{CANARY}@127.0.0.1",
    f"unix://:{CANARY}@/no/such.sock",
    f"{CANARY}@127.0.0.1",
]
OPTIONS = [
    *({"url": url} for url in URLS),
    *({"shards": [{"port": 1}, {"url": url}]} for url in URLS),
    *({"backend": url} for url in URLS[:4]),
    *({"host": url} for url in URLS[:4]),
    *({"periods": [url]} for url in URLS[:2]),
    {"periods": URLS[0]},
    {"host": f"user:{CANARY}@127.0.0.1"},
    {"password": CANARY},
    {"username": CANARY, "password": CANARY},
    {"password": f"{CANARY}\ud800"},
    {"username": f"{CANARY}\ud800"},
    {"password": [CANARY]},
    {"password": CANARY, "port": "x"},
    {"password": CANARY, "bogus": 1},
    {"password": CANARY, "protocol": CANARY},
    {"password": CANARY, "ssl": True, "ssl_cert_reqs": CANARY},
    {"password": CANARY, "credential_provider": CANARY},
    {"ssl": True, "ssl_password": f"{CANARY}\ud800"},
    {"secret": f"{CANARY}\ud800"},
    {"secret": [CANARY]},
    {"secret": CANARY, "namespace": "{"},
    {"credential_provider": CANARY},
    {"credential_provider": Provider()},
    {"credential_provider": FailingProvider()},
    {"shards": CANARY},
    {"shards": [CANARY]},
    {"shards": [[CANARY]]},
    {"shards": {"password": CANARY}},
    {"shards": [{"password": CANARY, "bogus": 1}]},
    {"shards": [{"password": CANARY, "port": "x"}]},
    {"shards": [{"password": [CANARY]}]},
    {"client": CANARY},
    {"client": redis.Redis(port=1, password=CANARY, retry=Retry(NoBackoff(), 0))},
    {"client": redis.asyncio.Redis(port=1, password=CANARY, retry=AsyncRetry(NoBackoff(), 0))},
    {"client": redis.ConnectionPool(port=1, password=CANARY)},
    {"client": {"password": CANARY}},
    {"client": redis.Redis(port=1, password=CANARY, username=CANARY, encoding="utf-16")},
    {"redis_client": lambda **_: CANARY},
]
TRACKERS = pytest.mark.parametrize("make", [ActivityTracker, AsyncActivityTracker], ids=["waits", "asyncio"])


def calls(make, options):
    """What is shown of a tracker, and of the errors that come out."""
    where = {} if options.keys() & {"url", "host", "client", "backend", "shards"} else {"port": 1}
    retries = {} if options.keys() & {"client", "backend"} else {"retries": 0}
    try:
        tracker = make(**{"periods": ["daily"], **where, **retries, **options})
        yield repr(tracker), str(tracker), repr(tracker.backend)
        done = tracker.track(id="a")
        if make is AsyncActivityTracker:
            asyncio.run(done)
    except ActivityTrackerError as error:
        yield str(error), repr(error)
        # What came before, as Python shows it, without the lines of code; a provider's own words are its own.
        if not isinstance(options.get("credential_provider"), FailingProvider):
            yield [line for line in traceback.format_exc().splitlines() if not line.startswith("  ")]
    else:
        raise AssertionError("there is no server, so this cannot have been")


@TRACKERS
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # redis-py 5 leaves sockets open
@pytest.mark.parametrize("options", OPTIONS, ids=map(str, range(len(OPTIONS))))
def test_errors_and_reprs(make, options, caplog):
    caplog.set_level(logging.DEBUG, "activity_tracker_hll")
    for shown in calls(make, options):
        # Not the first letters either.
        assert CANARY[:5] not in "".join(shown)
    assert CANARY[:5] not in caplog.text


def test_a_writer(caplog):
    options = {"url": f"redis://{CANARY}:{CANARY}@127.0.0.1:{free_port()}", "secret": CANARY}
    told = []
    with ActivityTracker(["daily"], **options) as tracker:
        writer = tracker.buffered(flush_interval=0.02, close_timeout=0.5, on_error=told.append)
        writer.track(id="a")
        assert writer.close().pending == 1
    assert told
    assert (
        CANARY[:5]
        not in f"{writer!r} {told!r} {told[0]} {told[0].__cause__} {writer.statistics!r} {caplog.text}"
    )


def test_a_client_cannot_be_pickled_and_does_not_show_why():
    tracker = ActivityTracker(["daily"], client=redis.Redis(port=1, password=CANARY))
    with pytest.raises(ActivityTrackerError) as caught:
        pickle.dumps(tracker)
    assert CANARY not in f"{caught.value} {caught.value.__cause__}"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (f"redis://:{ODD}@127.0.0.1", "percent-encoded"),
        ("redis://:12#x@127.0.0.1", "percent-encoded"),
        ("redis://:12/x@127.0.0.1", "percent-encoded"),
        ("redis://127.0.0.1:x", "a number for the port"),
        ("redis://127.0.0.1/x", "the database must be a number"),
        (f"redis://{'a' * 70}", "the host is no name that a host can have"),
        (b"redis://127.0.0.1", "must be a str, got <bytes>"),
    ],
)
def test_urls_that_would_be_taken_for_others(url, words):
    with pytest.raises(ActivityTrackerError, match=f"^url.*{words}"):
        ActivityTracker(["daily"], url=url)
