"""Clients that disagree on what the keys mean are refused."""

from datetime import timedelta

import pytest

from activity_tracker_hll import BackendDataError, SettingsMismatchError
from activity_tracker_hll.planner import Planner
from helpers.errors import raises
from helpers.moments import TODAY, YESTERDAY

CALLS = {
    "track": lambda tracker: tracker.track(id=1),
    "track_many": lambda tracker: tracker.track_many([1]),
    "import_events": lambda tracker: tracker.import_events([(1, None, TODAY)]),
    "collapse": lambda tracker: tracker.collapse(),
    "lookup": lambda tracker: tracker.lookup(),
    "inventory": lambda tracker: tracker.inventory(),
}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"timezone": "Asia/Tokyo"}, ["timezone 'UTC' there, 'Asia/Tokyo' here"]),
        ({"week_start": 6}, ["week_start 0 there, 6 here"]),
        ({"secret": "s"}, ["secret", "none there"]),
        ({"secret": "s", "week_start": 6}, ["secret", "week_start"]),
    ],
)
@pytest.mark.parametrize("act", CALLS.values(), ids=CALLS)
def test_a_client_that_disagrees_is_refused(server, options, words, act):
    server.tracker().track(id=1)
    before = server.names()
    other = server.tracker(**options)
    for _ in range(2):
        with raises(SettingsMismatchError, r"active:\{meta\}", *words):
            act(other)
    assert server.names() == before


def test_what_must_agree_is_stored_by_the_first_writer(server):
    server.tracker(secret="s", week_start=3).track(id=1)
    meta = server.client.hgetall("active:{meta}")
    assert meta[b"layout"] == b"2"
    assert meta[b"timezone"] == b"UTC"
    assert meta[b"week_start"] == b"3"
    assert b"s" != meta[b"secret"] != b""


def test_a_secret_mismatch_shows_no_secret(server):
    server.tracker(secret="first secret").track(id=1)
    with raises(SettingsMismatchError) as caught:
        server.tracker(secret="second secret").track(id=1)
    assert "first" not in str(caught.value)
    assert "second" not in str(caught.value)


def test_zones_that_behave_alike_agree(server):
    server.tracker(timezone="Europe/Berlin").track(id=1)
    rome = server.tracker(timezone="Europe/Rome")
    rome.track(id=2)
    assert rome.lookup(live=True)[-1][1] == {None: 2}


def test_other_options_may_differ(server):
    server.tracker().track(id=1)
    other = server.tracker(["monthly"], keep_sketches=timedelta(days=99), moved_limit=5, buckets=["x"])
    other.track(id=1, bucket="x")
    assert other.lookup(live=True)[-1][1] == {"x": 1}


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        ("1", ["layout 1", "older version", "collapse", r"delete active:\{meta\}", "counts stay"]),
        ("0", ["layout 0", "older version"]),
        ("3", ["layout '3'", "newer version"]),
        ("10", ["layout '10'", "newer version"]),
        ("", ["layout ''", "does not know"]),
        ("-1", ["layout '-1'", "does not know"]),
        ("two", ["layout 'two'", "does not know"]),
        ("\x1b[31m", [r"layout '\\x1b\[31m'", "does not know"]),
    ],
)
@pytest.mark.parametrize("act", CALLS.values(), ids=CALLS)
def test_another_layout_is_refused_with_a_sentence(server, act, layout, words):
    server.client.hset("active:{meta}", "layout", layout)
    tracker = server.tracker()
    for _ in range(2):
        with raises(SettingsMismatchError, r"active:\{meta\}", *words) as caught:
            act(tracker)
        assert len(str(caught.value)) < 400
    assert server.client.hgetall("active:{meta}") == {b"layout": layout.encode()}
    assert server.client.keys() == [b"active:{meta}"]


def test_data_of_the_older_layout_with_their_settings_are_refused_with_a_sentence(server):
    server.client.hset("active:{meta}", mapping={"layout": "1", "week_start": "0"})
    tracker = server.tracker()
    for call in (lambda: tracker.track(id=1), tracker.lookup, tracker.collapse):
        with raises(SettingsMismatchError, "older version", "delete active:{meta}"):
            call()


def test_what_the_sentence_about_an_older_layout_says_can_be_done(server):
    """Data as the layout before had them: stored counts stay, sketches are left alone."""
    name = f"daily-{YESTERDAY:%Y%m%d}"
    server.client.hset("active:{meta}", mapping={"layout": "1", "week_start": "0", "timezone": "UTC"})
    server.client.mset({f"active:{name}": 7, f"active:{name}:a": 5})
    server.client.hset(f"active:{{{name}}}:stderr", "a", "2.5")
    server.client.pfadd(f"active:{{daily-{TODAY:%Y%m%d}:a}}:hll", 1, 2, 3)
    server.client.sadd(f"active:{{daily-{TODAY:%Y%m%d}:a}}:out", 1)
    old = {name for name in server.names() if "{" in name}
    tracker = server.tracker(buckets=["a", None])
    with raises(SettingsMismatchError, "delete"):
        tracker.track(id=1)
    server.client.delete("active:{meta}")
    tracker.track(id=1, bucket="a")
    tracker.collapse()
    assert tracker.lookup(start=YESTERDAY, live=True) == [
        (YESTERDAY, {"a": 5, None: 7}),
        (TODAY, {"a": 1, None: 0}),
    ]
    assert {entry.period.date for entry in tracker.inventory()} == {YESTERDAY, TODAY}
    assert old <= set(server.names())


@pytest.mark.parametrize("act", CALLS.values(), ids=CALLS)
def test_settings_that_are_none_are_named(server, act):
    server.client.set("active:{meta}", "no hash")
    with raises(BackendDataError, r"active:\{meta\}"):
        act(server.tracker())
    assert server.client.keys() == [b"active:{meta}"]


def test_the_check_costs_one_round_trip_once(server, monkeypatch):
    server.tracker().track(id=1)
    tracker = server.tracker()
    batches, execute = [], tracker.backend.execute
    monkeypatch.setattr(
        tracker.backend,
        "execute",
        lambda commands, shard=0: batches.append(commands) or execute(commands, shard),
    )
    for _ in range(3):
        tracker.track(id=1)
    assert len(batches) == 4


def test_a_reader_stores_nothing(server):
    server.tracker().lookup()
    server.tracker(week_start=6).lookup()
    assert server.client.keys() == []


def test_settings_that_a_server_lost_are_stored_again_within_a_minute(server, monkeypatch):
    """A process that only tracks would else let another one in that disagrees."""
    tracker = server.tracker(secret="one")
    ticks = [0]
    monkeypatch.setattr(Planner, "ticks", lambda _planner: ticks[0])
    tracker.track(id=1)
    server.client.flushall()
    tracker.track(id=1)
    assert not server.client.exists("active:{meta}")
    ticks[0] = 60_000_000
    tracker.track(id=1)
    assert server.client.exists("active:{meta}")
    with raises(SettingsMismatchError, "secret"):
        server.tracker(secret="another").track(id=1)


@pytest.mark.parametrize("act", [lambda t: t.track(id=1), lambda t: t.lookup(), lambda t: t.collapse()])
@pytest.mark.parametrize("layout", ["²", "1" * 5000, "", "\x1b[2J"])
def test_a_layout_that_is_none_is_told_in_a_line(server, act, layout):
    server.client.hset("active:{meta}", "layout", layout)
    with raises(SettingsMismatchError, "which this version does not know") as caught:
        act(server.tracker())
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


def test_what_others_stored_reaches_nobodys_terminal(server):
    tracker = server.tracker(secret="s")
    tracker.track(id=1)
    for field in ("week_start", "timezone_rules", "timezone", "secret"):
        server.client.hset("active:{meta}", field, "\x1b[2J" * 100)
    with raises(SettingsMismatchError, "week_start", "secret") as caught:
        server.tracker(secret="s").track(id=1)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500
