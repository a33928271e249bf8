"""Clients that disagree on what the keys mean are refused."""

from datetime import timedelta

import pytest
from conftest import raises

from activity_tracker_hll import SettingsMismatchError


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"timezone": "Asia/Tokyo"}, ["timezone 'UTC' there, 'Asia/Tokyo' here"]),
        ({"week_start": 6}, ["week_start 0 there, 6 here"]),
        ({"secret": "s"}, ["secret", "none there"]),
        ({"secret": "s", "week_start": 6}, ["secret", "week_start"]),
    ],
)
@pytest.mark.parametrize("act", ["track", "track_many", "import_events", "collapse", "lookup", "inventory"])
def test_a_client_that_disagrees_is_refused(server, options, words, act):
    server.tracker().track(id=1)
    before = server.names()
    other = server.tracker(**options)
    calls = {
        "track": lambda: other.track(id=1),
        "track_many": lambda: other.track_many([1]),
        "import_events": lambda: other.import_events([(1, None, __import__("conftest").TODAY)]),
        "collapse": other.collapse,
        "lookup": other.lookup,
        "inventory": other.inventory,
    }
    for _ in range(2):
        with raises(SettingsMismatchError, r"active:\{meta\}", *words):
            calls[act]()
    assert server.names() == before


def test_what_must_agree_is_stored_by_the_first_writer(server):
    server.tracker(secret="s", week_start=3).track(id=1)
    meta = server.client.hgetall("active:{meta}")
    assert meta[b"layout"] == b"1"
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
    server.tracker(timezone="Europe/Rome").track(id=1)


def test_other_options_may_differ(server):
    server.tracker().track(id=1)
    server.tracker(["monthly"], retention=timedelta(days=99), moved_limit=5, buckets=["x"]).track(id=1)


def test_a_newer_layout_is_refused(server):
    server.client.hset("active:{meta}", "layout", "2")
    with raises(SettingsMismatchError, "layout 2 there, 1 here"):
        server.tracker().track(id=1)


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
