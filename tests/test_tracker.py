"""What a tracker is, whatever it counts: how it shows itself, goes to another process, is called in short."""

import asyncio
import inspect
import multiprocessing
import pickle
from datetime import UTC, date, datetime, timedelta

import pytest
import redis

from activity_tracker_hll import ActivityTracker, ActivityTrackerError, BufferedTracker
from activity_tracker_hll.aio import AsyncActivityTracker, AsyncBufferedTracker
from activity_tracker_hll.backends.redis import RedisBackend
from activity_tracker_hll.periods import PERIODS

TRACKERS = pytest.mark.parametrize("kind", [ActivityTracker, AsyncActivityTracker])
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp()


def noon():
    return NOON


@TRACKERS
def test_a_tracker_shows_where_it_leads_and_no_secret(kind):
    password, secret = "pass-word", "se-cret"
    tracker = kind(
        ["daily", "weekly"],
        url=f"redis://user:{password}@example.org:7000/3",
        secret=secret,
        namespace="shop",
    )
    sharded = kind(shards=[{"host": "one", "password": password}, {"unix_socket_path": "/run/two"}])
    client = (redis if kind is ActivityTracker else redis.asyncio).Redis(host="third", password=password)
    shown = [repr(tracker), repr(sharded), repr(kind(client=client, secret=secret))]
    assert f"<{kind.__name__} periods=('daily', 'weekly')" in shown[0]
    assert "example.org:7000/3 namespace='shop'" in shown[0]
    assert "one:6379/0, /run/two" in shown[1]
    assert "third:6379/0" in shown[2]
    assert not any(word in text for word in (password, secret, "user") for text in shown)


def test_a_tracker_by_sentinel_shows_the_name_of_the_service():
    client = redis.Sentinel([("localhost", 1)], password="pass-word").master_for("mymaster")
    shown = repr(ActivityTracker(client=client))
    assert "mymaster" in shown
    assert "pass-word" not in shown


def test_a_writer_shows_itself_also_while_its_lock_is_held():
    tracker = ActivityTracker(["daily"], port=1, secret="se-cret", timezone="Asia/Tokyo")
    writer = tracker.buffered()
    for lock in writer.locks():
        lock.acquire()
    try:
        assert repr(writer) == "<BufferedTracker open periods=('daily',) buckets=None timezone='Asia/Tokyo'>"
    finally:
        for lock in writer.locks():
            lock.release()
    writer.close()
    assert "closed" in repr(writer)


@TRACKERS
def test_a_pickled_tracker_is_made_anew_with_the_same_arguments(kind):
    given = kind(
        iter(["daily", "monthly"]),
        url="redis://:pass-word@example.org/3",
        buckets=(name for name in "ab"),
        aggregate_buckets={"all": ["a", "b"]},
        timezone="Europe/Berlin",
        week_start=6,
        clock=noon,
        secret="se-cret",
        namespace="shop",
        moved_limit=7,
        keep_sketches={"daily": timedelta(90)},
        socket_timeout=2.5,
    )
    made = pickle.loads(pickle.dumps(given))
    assert type(made) is kind
    assert repr(made) == repr(given)
    assert made.calendar.week_start == 6
    assert made.backend is not given.backend
    assert made.backend.ids.fingerprint == given.backend.ids.fingerprint
    assert made.backend.moved_limit == 7
    assert made.backend.keep_given == {"daily": timedelta(90)}
    options = made.backend.client().connection_pool.connection_kwargs
    assert (options["password"], options["socket_timeout"]) == ("pass-word", 2.5)


@TRACKERS
def test_a_pickled_tracker_has_the_clock_and_the_aggregates(real_server, kind):
    given = kind(
        ["daily"],
        buckets=["a", "b"],
        aggregate_buckets={"all": ["a", "b"]},
        timezone="UTC",
        clock=noon,
        **real_server.options,
    )
    made = pickle.loads(pickle.dumps(given))

    async def main():
        for bucket in ("a", "b"):
            await done(made.track(id=bucket, bucket=bucket))
        collapsed = await done(made.collapse(date=date(2026, 1, 2)))
        await done(made.close())
        return {(of.period.date, of.bucket): of.count for of in collapsed}

    day = date(2026, 1, 1)
    assert asyncio.run(main()) == {(day, "a"): 1, (day, "b"): 1, (day, "all"): 2}


async def done(result):
    """What a call of either kind of tracker comes to."""
    return await result if inspect.isawaitable(result) else result


def test_a_pickled_tracker_counts_in_a_process_started_anew(real_server):
    tracker = ActivityTracker(["daily"], timezone="UTC", secret="se-cret", **real_server.options)
    event = {"bucket": "a", "date": date(2026, 1, 1)}
    context = multiprocessing.get_context("spawn")
    started = context.Process(target=tracker.track, kwargs={"id": "x", **event})
    started.start()
    started.join()
    assert started.exitcode == 0
    tracker.track(id="x", **event)
    tracker.track(id="y", **event)
    assert tracker.lookup_daily(start=date(2026, 1, 1), end=date(2026, 1, 2), buckets=["a"], live=True) == [
        (date(2026, 1, 1), {"a": 2})
    ]


def test_a_tracker_of_a_backend_given_as_an_instance_is_pickled_with_it():
    made = pickle.loads(
        pickle.dumps(ActivityTracker(backend=RedisBackend(host="example.org", namespace="n")))
    )
    assert "example.org:6379/0 namespace='n'" in repr(made)


@pytest.mark.parametrize(
    ("named", "options"),
    [
        ("clock", {"clock": lambda: NOON}),
        ("client", {"client": redis.Redis()}),
        ("shards", {"shards": [{"client": redis.Redis()}]}),
        ("redis_client", {"redis_client": lambda **options: redis.Redis(port=1, **options)}),
        ("embedded server without a path", {"backend": "embedded"}),
    ],
)
def test_a_tracker_that_cannot_be_pickled_says_why(named, options):
    with ActivityTracker(["daily"], **options) as tracker:
        with pytest.raises(TypeError, match=named) as caught:
            pickle.dumps(tracker)
    assert isinstance(caught.value, ActivityTrackerError)


def test_an_asynchronous_tracker_says_why_it_cannot_be_pickled():
    for tracker in (
        AsyncActivityTracker(client=redis.asyncio.Redis()),
        AsyncActivityTracker(backend="embedded"),
    ):
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(tracker)


@TRACKERS
def test_a_writer_is_not_pickled(kind):
    writer = kind(["daily"], port=1).buffered()
    with pytest.raises(TypeError, match=r"BufferedTracker cannot be pickled.* pickle its tracker") as caught:
        pickle.dumps(writer)
    assert isinstance(caught.value, ActivityTrackerError)


@pytest.mark.parametrize(
    ("kind", "verbs"),
    [
        (ActivityTracker, {"track": "periods", "collapse": "periods", "lookup": "period"}),
        (AsyncActivityTracker, {"track": "periods", "collapse": "periods", "lookup": "period"}),
        (BufferedTracker, {"track": "periods"}),
        (AsyncBufferedTracker, {"track": "periods"}),
    ],
)
def test_a_shorthand_has_the_signature_and_the_text_that_are_left(kind, verbs):
    for verb, argument in verbs.items():
        whole = getattr(kind, verb)
        for period in PERIODS:
            short = getattr(kind, f"{verb}_{period}")
            assert short.__name__ == f"{verb}_{period}"
            assert inspect.iscoroutinefunction(short) == inspect.iscoroutinefunction(whole)
            left = dict(inspect.signature(whole).parameters)
            assert left.pop(argument)
            assert dict(inspect.signature(short).parameters) == left
            assert f"Short for ``{verb}(" in short.__doc__.splitlines()[0]
            assert repr(period) in short.__doc__.splitlines()[0]
            assert "Raises:" in short.__doc__
            assert f" {argument}:" not in short.__doc__
            assert [line for line in whole.__doc__.splitlines()[1:] if line in short.__doc__.splitlines()]


def test_a_shorthand_refuses_what_its_verb_refuses():
    with pytest.raises(TypeError, match="bukcet"):
        ActivityTracker(["daily"]).track_daily(id=1, bukcet="x")
