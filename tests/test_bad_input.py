"""DESIGN section 9 row by row: what a user sees who gives something that is not accepted.

Every case must raise one of the package's errors, name the argument and what was expected, and
leave nothing on the server.
"""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import fakeredis
import numpy as np
import pytest

from activity_tracker_hll import ActivityTracker, ActivityTrackerError, ArgumentTypeError, ArgumentValueError
from helpers.errors import raises
from helpers.moments import NOON, TODAY, day

T, V = ArgumentTypeError, ArgumentValueError
LONG = "x" * 1025


def check(tracker, act, error, words):
    with pytest.raises(error, match=words) as caught:
        act(tracker)
    assert isinstance(caught.value, ActivityTrackerError)
    assert isinstance(caught.value, TypeError if error is T else ValueError)


IDS = [
    ("None", lambda t: t.track(id=None), T, r"^id must be .*None"),
    ("nothing at all", lambda t: t.track(), T, r"^id must be .*None"),
    ("bool", lambda t: t.track(id=True), T, r"^id must be .*True"),
    ("float", lambda t: t.track(id=1.0), T, r"^id must be .*float 1\.0"),
    ("Decimal", lambda t: t.track(id=Decimal(1)), T, "^id must be .*Decimal"),
    ("object", lambda t: t.track(id=object()), T, "^id must be .*object"),
    ("list", lambda t: t.track(id=[1]), T, "^id must be .*list"),
    ("empty", lambda t: t.track(id=""), V, "^id must not be empty"),
    ("over 1 KiB", lambda t: t.track(id=LONG), V, "^id must be at most 1024 bytes, got 1025"),
    ("lone surrogate", lambda t: t.track(id="\udc80"), V, "^id cannot be encoded"),
    ("bad old id", lambda t: t.track(id=1, old_id=1.5), T, "^old_id must be .*float"),
    ("empty old id", lambda t: t.track(id=1, old_id=""), V, "^old_id must not be empty"),
    ("None in bulk", lambda t: t.track_many([1, None]), T, r"^ids\[1\] must be .*None"),
    ("bad in bulk", lambda t: t.track_many(iter(["a", "b", 2.5])), T, r"^ids\[2\] must be .*float"),
    ("long in bulk", lambda t: t.track_many({LONG}), V, r"^ids\[0\] must be at most"),
]
BULK = [
    ("bare str", lambda t: t.track_many("abc"), T, "^ids must be a list.*str 'abc'"),
    ("bare bytes", lambda t: t.track_many(b"abc"), T, "^ids must be a list.*bytes"),
    ("one int", lambda t: t.track_many(7), T, "^ids must be a list.*int"),
    ("None", lambda t: t.track_many(None), T, "^ids must be a list.*None"),
    ("dict", lambda t: t.track_many({"a": 1}), T, "^ids must be a list.*dict"),
    ("float array", lambda t: t.track_many(np.array([1.0])), T, "^ids must be a one-dimensional.*float64"),
    ("bool array", lambda t: t.track_many(np.array([True])), T, "^ids must be a one-dimensional.*bool"),
    ("two dimensions", lambda t: t.track_many(np.zeros((2, 2), int)), T, "^ids must be .*2 dimensions"),
    ("events str", lambda t: t.import_events("abc"), T, "^events must be an iterable of"),
    ("events None", lambda t: t.import_events(None), T, "^events must be an iterable of"),
    ("event no tuple", lambda t: t.import_events([7]), T, r"^events\[0\] must be a tuple"),
    ("event of two", lambda t: t.import_events([(1, None)]), T, r"^events\[0\] must be a tuple"),
    ("event's id", lambda t: t.import_events([(None, None, TODAY)]), T, r"^events\[0\] id must be"),
    ("event's bucket", lambda t: t.import_events([(1, 7, TODAY)]), T, r"^events\[0\] bucket must be a str"),
    ("event's date", lambda t: t.import_events([(1, None, "2026-01-01")]), T, r"^events\[0\] date must be"),
]
BUCKETS = [
    ("empty", lambda t: t.track(id=1, bucket=""), V, "^bucket must not be empty"),
    ("int", lambda t: t.track(id=1, bucket=7), T, "^bucket must be a str, got 7"),
    ("bytes", lambda t: t.track(id=1, bucket=b"x"), T, "^bucket must be a str"),
    ("too long", lambda t: t.track(id=1, bucket="b" * 201), V, "^bucket must be at most 200 bytes, got 201"),
    ("control character", lambda t: t.track(id=1, bucket="a\nb"), V, "^bucket must not contain"),
    ("brace", lambda t: t.track(id=1, bucket="a{b"), V, "^bucket must not contain braces"),
    ("closing brace", lambda t: t.track_many([1], bucket="}"), V, "^bucket must not contain braces"),
    ("raw", lambda t: t.track(id=1, bucket="raw"), V, "^bucket must not be 'raw'"),
    ("old bucket", lambda t: t.track(id=1, old_id=1, old_bucket=""), V, "^old_bucket must not be empty"),
    ("buckets str", lambda t: t.collapse(buckets="abc"), T, "^buckets must be a list, got 'abc'"),
    ("buckets int", lambda t: t.lookup("daily", buckets=7), T, "^buckets must be a list, got 7"),
    ("buckets empty str", lambda t: t.collapse(buckets=""), T, "^buckets must be a list, got ''"),
    ("buckets zero", lambda t: t.lookup("daily", buckets=0), T, "^buckets must be a list, got 0"),
    ("buckets dict", lambda t: t.lookup("daily", buckets={}), T, "^buckets must be a list, got {}"),
    ("buckets array", lambda t: t.collapse(buckets=np.array([1, 2])), T, "^buckets must be a str, got"),
    ("in buckets", lambda t: t.lookup("daily", buckets=["a", ""]), V, "^buckets must not be empty"),
    (
        "aggregate with a bucket's name",
        lambda t: t.collapse(buckets=["a", "b"], aggregate_buckets={"a": ["b"]}),
        V,
        r"^aggregate_buckets\['a'\] bears the name of a bucket",
    ),
    (
        "aggregate of itself",
        lambda t: t.collapse(aggregate_buckets={"a": ["a"]}),
        V,
        r"^aggregate_buckets\['a'\] bears the name of a bucket",
    ),
    (
        "aggregate of an unknown bucket",
        lambda t: t.collapse(buckets=["a"], aggregate_buckets={"t": ["a", "b"]}),
        V,
        r"^aggregate_buckets\['t'\] lists unknown buckets: \['b'\]",
    ),
    (
        "aggregate of nothing",
        lambda t: t.collapse(buckets=["a"], aggregate_buckets={"t": []}),
        V,
        r"^aggregate_buckets\['t'\] lists no buckets",
    ),
    (
        "aggregate as a str",
        lambda t: t.collapse(buckets=["a"], aggregate_buckets={"t": "a"}),
        T,
        r"^aggregate_buckets\['t'\] must be a list",
    ),
    (
        "aggregates list",
        lambda t: t.collapse(aggregate_buckets=["t"]),
        T,
        "^aggregate_buckets must be a dict",
    ),
    ("nameless aggregate", lambda t: t.collapse(aggregate_buckets={None: ["a"]}), T, "^aggregate_buckets"),
]


class NoMoment(datetime):
    """As pandas' NaT is."""

    def timestamp(self):
        return float("nan")


DATES = [
    ("str", lambda t: t.track(id=1, date="2026-01-01"), T, "^date must be a date or a datetime, got '2026"),
    ("number", lambda t: t.track(id=1, date=1.0), T, "^date must be a date or a datetime, got 1.0"),
    ("bool", lambda t: t.collapse(date=True), T, "^date must be a date or a datetime, got True"),
    ("timedelta", lambda t: t.collapse(date=timedelta(1)), T, "^date must be a date or a datetime"),
    ("start str", lambda t: t.lookup("daily", start="x"), T, "^start must be a date or a datetime, got 'x'"),
    ("end number", lambda t: t.lookup("daily", end=5), T, "^end must be a date or a datetime, got 5"),
    ("start > end", lambda t: t.lookup("daily", start=TODAY, end=day(1)), V, "^start must not be after end"),
    ("start > now", lambda t: t.lookup("daily", start=day(-1)), V, "^start must not be after end"),
    (
        "hour of a date",
        lambda t: t.track(["hourly"], id=1, date=TODAY),
        T,
        "^date must be a datetime for hourly",
    ),
    (
        "hourly collapse",
        lambda t: t.collapse(["hourly"], date=TODAY),
        T,
        "^date must be a datetime for hourly",
    ),
    ("hourly event", lambda t: t.import_events([(1, None, TODAY)], ["hourly"]), T, "date must be a datetime"),
    ("year 1", lambda t: t.track(id=1, date=date(1, 1, 1)), V, "^date must lie in the years 1000-9998"),
    ("the first datetime", lambda t: t.track(id=1, date=datetime(1, 1, 1)), V, "^date must lie in the years"),
    ("of many", lambda t: t.track_many([1], date=datetime(1, 1, 1)), V, "^date must lie in the years"),
    ("no moment", lambda t: t.track(id=1, date=NoMoment(2026, 1, 1)), V, "^date is no moment: "),
    ("year 9999", lambda t: t.track(id=1, date=date(9999, 12, 31)), V, "^date must lie in the years"),
    (
        "out of range when converted",
        lambda t: t.track(id=1, date=datetime(1, 1, 1, tzinfo=UTC)),
        V,
        "^date (is out of range|must lie in the years)",
    ),
]
PERIODS = [
    ("unknown", lambda t: t.track(["dayly"], id=1), V, "^periods must be one of hourly, daily.*got 'dayly'"),
    ("str", lambda t: t.track("daily", id=1), T, "^periods must be a list, got 'daily'"),
    ("number", lambda t: t.track([1], id=1), T, "^periods must be one of .*got 1"),
    ("none", lambda t: t.track([], id=1), V, "^periods must be given"),
    ("lookup unknown", lambda t: t.lookup("dayly"), V, "^period must be one of .*got 'dayly'"),
    ("lookup list", lambda t: t.lookup(["daily"]), T, "^period must be one of"),
    ("lookup undecided", lambda t: t.lookup(), V, "^period must be given: one of daily, monthly"),
    ("zero periods", lambda t: t.collapse(max_periods=0), V, "^max_periods must be at least 1, got 0"),
    ("negative periods", lambda t: t.collapse(max_periods=-1), V, "^max_periods must be at least 1"),
    ("half periods", lambda t: t.collapse(max_periods=1.5), T, "^max_periods must be an int"),
    ("bool periods", lambda t: t.collapse(max_periods=True), T, "^max_periods must be an int"),
    ("many digits", lambda t: t.collapse(max_periods=-(10**5000)), V, "^max_periods .* of many digits"),
    ("no callable", lambda t: t.import_events([], progress=3), T, "^progress must be callable, got 3"),
    ("nor here", lambda t: t.collapse_due(progress=3), T, "^progress must be callable, got 3"),
    ("negative missing", lambda t: t.lookup("daily", missing=-1), V, "^missing must be at least 0"),
    ("missing str", lambda t: t.lookup("daily", missing="x"), T, "^missing must be an int"),
    ("unknown shard", lambda t: t.track(id=1, shard=1), V, "^shard must be below 1, got 1"),
    ("negative shard", lambda t: t.track(id=1, shard=-1), V, "^shard must be at least 0, got -1"),
    ("shard str", lambda t: t.track(id=1, shard="a"), T, "^shard must be an int"),
]


@pytest.mark.parametrize(
    ("act", "error", "words"),
    [
        pytest.param(*case[1:], id=f"{row}: {case[0]}")
        for row, cases in (
            ("ids", IDS),
            ("bulk", BULK),
            ("buckets", BUCKETS),
            ("dates", DATES),
            ("periods", PERIODS),
        )
        for case in cases
    ],
)
def test_calls(server, act, error, words):
    tracker = server.tracker(["daily", "monthly"])
    check(tracker, act, error, words)
    assert server.names() == []


CONSTRUCTOR = [
    ({"periods": ["dayly"]}, V, "^periods must be one of"),
    ({"periods": "daily"}, T, "^periods must be a list"),
    ({"timezone": "Mars/Olympus"}, V, "^timezone must be an IANA name.*'Mars/Olympus'"),
    ({"timezone": "../etc"}, V, "^timezone must be an IANA name"),
    ({"timezone": 1}, T, "^timezone must be an IANA name"),
    ({"week_start": 7}, V, "^week_start must lie from 0"),
    ({"week_start": True}, T, "^week_start must be an int"),
    ({"week_start": "monday"}, T, "^week_start must be an int"),
    ({"buckets": "abc"}, T, "^buckets must be a list"),
    ({"aggregate_buckets": {"t": ["x"]}, "buckets": ["a"]}, V, "unknown buckets"),
    ({"keep_sketches": timedelta(days=-1)}, V, "^keep_sketches must not be negative"),
    ({"keep_sketches": 35}, T, "^keep_sketches must be a timedelta or None, got 35"),
    ({"keep_sketches": "35 days"}, T, "^keep_sketches must be a timedelta or None"),
    ({"keep_sketches": True}, T, "^keep_sketches must be a timedelta or None"),
    ({"keep_sketches": ["daily"]}, T, "^keep_sketches must be a timedelta or None"),
    (
        {"keep_sketches": timedelta(days=7), "periods": ["daily", "monthly"]},
        V,
        "^keep_sketches must be at least 31 days.*monthly",
    ),
    (
        {"keep_sketches": {"monthly": timedelta(days=30)}, "periods": ["daily", "monthly"]},
        V,
        "^keep_sketches must be at least 31 days.*monthly",
    ),
    ({"keep_sketches": {"daily": 35}}, T, r"^keep_sketches\['daily'\] must be a timedelta or None, got 35"),
    ({"keep_sketches": {"daily": timedelta(-1)}}, V, r"^keep_sketches\['daily'\] must not be negative"),
    ({"keep_sketches": {"dayly": None}}, V, r"^keep_sketches\['dayly'\] must be one of hourly, daily"),
    ({"keep_sketches": {1: None}}, T, r"^keep_sketches\[1\] must be one of hourly, daily"),
    ({"moved_limit": -1}, V, "^moved_limit must be at least 0, got -1"),
    ({"moved_limit": 100_001}, V, "^moved_limit must be at most 100000"),
    ({"moved_limit": 1e4}, T, "^moved_limit must be an int"),
    ({"moved_limit": True}, T, "^moved_limit must be an int"),
    ({"secret": ""}, V, "^secret must not be empty"),
    ({"secret": 7}, T, "^secret must be a str, bytes or None"),
    ({"namespace": ""}, V, "^namespace must not be empty"),
    ({"namespace": "a{b"}, V, "^namespace must not contain braces"),
    ({"namespace": 1}, T, "^namespace must be a str"),
    ({"socket_timeout": 0}, V, "^socket_timeout must be a positive"),
    ({"socket_timeout": float("nan")}, V, "^socket_timeout must be a positive"),
    ({"socket_timeout": float("inf")}, V, "^socket_timeout must be a positive"),
    ({"socket_timeout": "5"}, T, "^socket_timeout must be a number"),
    ({"socket_timeout": True}, T, "^socket_timeout must be a number"),
    ({"socket_timeout": 1e10}, V, "^socket_timeout must be a positive number of seconds, 31536000 at most"),
    ({"socket_timeout": 10**400}, V, "^socket_timeout must be a positive"),
    ({"retries": -1}, V, "^retries must be at least 0"),
    ({"retries": 1.5}, T, "^retries must be an int"),
    ({"shards": []}, V, "^shards must not be empty"),
    ({"shards": {}}, T, "^shards must be a list of dicts"),
    ({"shards": ["redis://x"]}, T, r"^shards\[0\] must be a dict"),
    ({"url": "redis://localhost", "port": 5}, V, "^url cannot be combined with port"),
    ({"client": "localhost"}, T, "^client must be a synchronous client"),
    ({"backend": "nonsense"}, V, "^backend must be 'redis', 'embedded'"),
    ({"backend": "no.such.Class"}, V, "^backend must be .*no.such.Class"),
    ({"backend": "os.path"}, T, "^backend 'os.path' is not a subclass"),
    ({"backend": 7}, T, "^backend must be"),
    ({"backend": "embedded", "path": 7}, T, "^path must be a directory"),
    ({"backend": "embedded", "path": ""}, V, "^path must not be empty"),
    ({"backend": "embedded", "host": "x"}, V, "^host is of no use"),
    ({"backend": "embedded", "start_timeout": 0}, V, "^start_timeout must be a positive"),
]


@pytest.mark.parametrize(
    ("options", "error", "words"), CONSTRUCTOR, ids=[str(case[0]) for case in CONSTRUCTOR]
)
def test_constructor(options, error, words):
    with pytest.raises(error, match=words) as caught:
        ActivityTracker(**{"periods": ["daily"], **options})
    assert isinstance(caught.value, ActivityTrackerError)


def test_unknown_options_of_the_backend():
    with pytest.raises(ArgumentTypeError, match="no_such_option"):
        ActivityTracker(["daily"], no_such_option=1)
    with pytest.raises(ArgumentValueError, match=r"instance.*host"):
        ActivityTracker(["daily"], backend=ActivityTracker(["daily"]).backend, host="x")


@pytest.mark.parametrize("keep", [timedelta(days=2), {"weekly": timedelta(days=2)}])
def test_a_period_longer_than_sketches_are_kept_is_refused_where_it_is_first_used(server, keep):
    tracker = server.tracker(["daily"], keep_sketches=keep)
    for act in (
        lambda: tracker.track(["weekly"], id=1),
        lambda: tracker.track_many([1], ["weekly"]),
        lambda: tracker.import_events([(1, None, TODAY)], ["weekly"]),
        lambda: tracker.collapse(["weekly"]),
        lambda: tracker.track_weekly(id=1),
    ):
        with pytest.raises(ArgumentValueError, match="keep_sketches must be at least 7 days"):
            act()
    assert server.client.keys() == []
    tracker.track(id=1)
    assert tracker.lookup("weekly") != []  # what is stored can be read


@pytest.mark.parametrize(
    "options",
    [
        dict,
        lambda: {"url": "redis://localhost"},
        lambda: {"backend": "embedded"},
        lambda: {"client": fakeredis.FakeRedis()},
    ],
    ids=["redis", "url", "embedded", "client"],
)
def test_an_option_that_was_called_otherwise_is_none(options):
    """keep_sketches was called retention: nobody's sketches may end early without a word."""
    with pytest.raises(ArgumentTypeError, match="retention"):
        ActivityTracker(["daily"], retention=None, **options())


def test_one_bad_id_never_poisons_a_batch(server):
    tracker = server.tracker()
    with pytest.raises(ArgumentTypeError):
        tracker.track_many([*range(5000), 1.5])
    assert server.names() == []
    with pytest.raises(ArgumentTypeError, match=r"^events\[3\] id"):
        tracker.import_events([*((n, None, TODAY) for n in range(3)), (None, None, TODAY), (9, None, TODAY)])
    assert tracker.lookup(live=True)[-1][1] == {None: 3}


def test_unusual_but_good_input(server):
    tracker = server.tracker()
    good = [
        "\x00",
        "a\r\nb",
        "*1\r\n$4\r\nPING\r\n",
        "日本",
        "é",
        "e\u0301",
        " ",
        "x" * 1024,
        b"\xff\xfe",
        10**30,
        -1,
    ]
    for id in good:
        tracker.track(id=id, bucket="a:b")
    tracker.track_many(good, bucket="a:b")
    assert tracker.lookup(buckets=["a:b", "a", "b"], live=True)[-1][1] == {"a:b": len(good), "a": 0, "b": 0}


def test_a_generator_is_consumed_once_even_under_retries(real_server):
    import redis

    class Flaky(redis.UnixDomainSocketConnection):
        """Loses the first reply to every second batch."""

        sent = 0

        lose = False

        def send_packed_command(self, command, *args, **kwargs):
            if b"EVAL" in b"".join(part if isinstance(part, bytes) else b"" for part in command):
                type(self).sent += 1
                self.lose = type(self).sent % 2 == 1
            super().send_packed_command(command, *args, **kwargs)

        def read_response(self, *args, **kwargs):
            reply = super().read_response(*args, **kwargs)
            if self.lose:
                self.lose = False
                self.disconnect()
                raise redis.ConnectionError("reply lost")
            return reply

    from redis.backoff import NoBackoff
    from redis.retry import Retry

    pool = redis.ConnectionPool(
        connection_class=Flaky, path=real_server.options["unix_socket_path"], retry=Retry(NoBackoff(), 5)
    )
    tracker = ActivityTracker(
        ["daily"], client=redis.Redis(connection_pool=pool), timezone="UTC", clock=lambda: NOON
    )
    tracker.track_many((f"u{n}" for n in range(5000)), bucket="a")
    tracker.import_events((f"u{n}", "b", TODAY) for n in range(5000))
    assert Flaky.sent == 6  # the ids, the first event, all others; each sent twice
    row = real_server.tracker().lookup(buckets=["a", "b"], live=True)[-1][1]
    assert row["a"] == row["b"] == pytest.approx(5000, rel=0.03)
    pool.disconnect()


def test_what_a_generator_raises_is_raised_after_its_events_are_counted(server):
    tracker = server.tracker()

    def events():
        for n in range(30):
            yield n, None, TODAY
        raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        tracker.import_events(events())
    assert tracker.lookup(live=True)[-1][1] == {None: 30}


@pytest.mark.parametrize(
    "act",
    [
        lambda t: t.track(id=1, bucket="total"),
        lambda t: t.track(id=1, bucket="a", old_id=1, old_bucket="total"),
        lambda t: t.track_many([1], bucket="total"),
        lambda t: t.import_events([(1, "total", TODAY)]),
    ],
)
def test_aggregates_are_not_tracked_under(server, act):
    tracker = server.tracker(aggregate_buckets={"total": ["a"]})
    check(tracker, act, V, "'total' is one of the aggregate_buckets")
    assert server.names() == []


def test_asyncio_clients_are_refused():
    import redis.asyncio

    with pytest.raises(ArgumentTypeError, match="synchronous"):
        ActivityTracker(["daily"], client=redis.asyncio.Redis())


def test_a_writer_is_not_made_to_wait_longer_than_a_machine_can(server):
    tracker = server.tracker()
    for options in ({"flush_interval": 1e10}, {"refresh_interval": 10**400}, {"close_timeout": 1e300}):
        with raises(ArgumentValueError, f"{next(iter(options))} must be a positive number of seconds"):
            tracker.buffered(**options)
    with tracker.buffered() as writer:
        with raises(ArgumentValueError, "timeout must be a positive number of seconds"):
            writer.flush(1e300)
        for bad in ([], {}):
            for track in (
                lambda bucket: writer.track(id="x", bucket=bucket),
                lambda bucket: writer.track(id=1, bucket=bucket),
                lambda bucket: writer.track_many(["x"], bucket=bucket),
            ):
                with raises(ArgumentTypeError, "bucket must be a str"):
                    track(bad)
