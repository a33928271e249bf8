"""What a server holds may be anybody's: none of it reaches a message as something that a terminal obeys."""

from datetime import timedelta

import pytest

from activity_tracker_hll import ActivityTrackerError, SettingsMismatchError
from helpers.moments import TODAY, YESTERDAY

EVIL = "\x1b]0;evil\x07\x1b[2J\u202ecod\u2066e\r\n\u2028"
DAY = f"{YESTERDAY:%Y%m%d}"


def message_of(call):
    with pytest.raises(ActivityTrackerError) as caught:
        call()
    shown = f"{caught.value}"
    assert shown.isprintable(), ascii(shown)
    assert len(shown) < 1000
    return shown


@pytest.mark.parametrize("field", ["layout", "timezone", "week_start", "secret"])
@pytest.mark.parametrize("value", [EVIL, EVIL * 1000, "\udcff\udc80"], ids=["evil", "long", "no text"])
def test_settings(server, field, value):
    server.client.hset("active:{meta}", field, value.encode("utf-8", "surrogateescape"))
    server.client.hset("active:{meta}", "timezone_rules", value.encode("utf-8", "surrogateescape"))
    tracker = server.tracker()
    for call in (lambda: tracker.track(id="a"), tracker.lookup, tracker.collapse, tracker.inventory):
        message_of(call)
    with pytest.raises(SettingsMismatchError):
        tracker.track(id="a")
    if server.name != "fakeredis":
        [*_, warning] = tracker.examine().warnings
        assert warning.isprintable()


@pytest.mark.parametrize("suffix", ["", ":stderr"])
def test_values_where_counts_belong(server, suffix):
    key = f"active:daily-{DAY}"
    server.client.set(key, 5)
    server.client.set(f"{{{key}}}{suffix}" if suffix else key, EVIL * 100)
    tracker = server.tracker()
    assert key in message_of(lambda: tracker.lookup(start=YESTERDAY))


def test_sketches_and_tables(real_server):
    tracker = real_server.tracker()
    tracker.track(id="a", old_id="b", date=YESTERDAY)
    for part in ("hll", "moved", "moves"):
        key = f"{{active:daily-{DAY}}}:{part}"
        real_server.client.rename(key, "kept")
        real_server.client.set(key, EVIL)
        message_of(lambda: tracker.lookup(live=True, start=YESTERDAY))
        message_of(tracker.collapse)
        real_server.client.rename("kept", key)


def test_names(server):
    """Of keys and of periods: what no call would have accepted is no bucket of ours."""
    for name in (f"active:daily-{DAY}:{EVIL}", f"{{active:daily-{DAY}:{EVIL}}}:hll", f"active:{EVIL}"):
        server.client.set(name, 1)
    server.client.sadd("active:{open}", EVIL, f"daily-{EVIL}", f"daily-{DAY}\n")
    server.client.set(f"active:daily-{DAY}:a\u200bb", 1)
    tracker = server.tracker()
    assert [entry.bucket for entry in tracker.inventory()] == ["a\u200bb"]
    tracker.collapse_due()
    shown = message_of(lambda: tracker.collapse_due(buckets=["nobody"]))
    assert shown == r"no such bucket 'nobody' (there are: a\u200bb)"
    tracker.track(id="a", date=TODAY - timedelta(days=3))
    tracker.collapse()
