"""Moves: exact small cases on every server, statistics on the real ones."""

import random
import time
from datetime import UTC, datetime, timedelta
from math import sqrt

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from activity_tracker_hll import ActivityTrackerError, BackendDataError, CollapseError
from activity_tracker_hll.hll.estimators import standard_error
from activity_tracker_hll.scripts import calls
from helpers.moments import NOON, TODAY, YESTERDAY, skip_if_tomorrow

NAME = f"daily-{TODAY:%Y%m%d}"


def counts(tracker, *buckets):
    row = tracker.lookup(start=TODAY, buckets=buckets, live=True)[-1][1]
    return [row[bucket] for bucket in buckets]


def stamps(server, bucket):
    """A bucket's side table: of each id the stamp of its newest event, negative if it left."""
    held = server.client.zrange(f"{{active:{NAME}:{bucket}}}:moves", 0, -1, withscores=True)
    return {member.decode(): int(score) for member, score in held}


def table(server, bucket):
    """(out, back) of a bucket."""
    held = stamps(server, bucket)
    assert 0 not in held.values()
    return {id for id, stamp in held.items() if stamp < 0}, {id for id, stamp in held.items() if stamp > 0}


@pytest.fixture(params=[1, 2], ids=["once", "every command twice"])
def tracker(request, server, monkeypatch):
    """Clients send again what was executed if only the reply was lost."""
    tracker = server.tracker()
    execute = tracker.backend.execute

    def repeated(commands, shard=0):
        for _ in range(request.param):
            replies = execute(commands, shard)
        return replies

    monkeypatch.setattr(tracker.backend, "execute", repeated)
    return tracker


def test_a_login_moves_the_session(tracker, server):
    tracker.track_many(["s1", "s2", "s3"], bucket="anon")
    tracker.track(id="ann", bucket="member", old_id="s1", old_bucket="anon")
    assert counts(tracker, "anon", "member") == [2, 1]
    assert table(server, "anon") == ({"s1"}, set())


def test_return_of_a_moved_id(tracker, server):
    tracker.track(id="x", bucket="a")
    tracker.track(id="x", bucket="b", old_id="x", old_bucket="a")
    assert counts(tracker, "a", "b") == [0, 1]
    tracker.track(id="x", bucket="a")
    assert counts(tracker, "a", "b") == [1, 1]
    assert table(server, "a") == (set(), {"x"})
    tracker.track(id="x", bucket="b", old_id="x", old_bucket="a")
    assert counts(tracker, "a", "b") == [0, 1]
    assert table(server, "a") == ({"x"}, set())


@pytest.mark.parametrize("how", ["track_many", "import_events"])
def test_return_in_bulk(tracker, how):
    tracker.track_many(["x", "y"], bucket="a")
    for id in ("x", "y"):
        tracker.track(old_id=id, old_bucket="a")
    if how == "track_many":
        tracker.track_many(["z", "x"], bucket="a")
    else:
        tracker.import_events([("z", "a", TODAY), ("x", "a", TODAY)])
    assert counts(tracker, "a") == [2]


def test_chain_there_and_back(tracker, server):
    for bucket, old in (("a", None), ("b", "a"), ("a", "b")):
        tracker.track(id="x", bucket=bucket, old_id=old and "x", old_bucket=old)
    assert counts(tracker, "a", "b") == [1, 0]
    assert table(server, "a") == (set(), {"x"})
    assert table(server, "b") == ({"x"}, set())


def test_same_id_new_bucket_and_same_bucket_new_id(tracker):
    tracker.track(id=1, bucket="a")
    tracker.track(id=1, bucket="b", old_id=1, old_bucket="a")
    tracker.track(id=2, bucket="b", old_id=1, old_bucket="b")
    assert counts(tracker, "a", "b") == [0, 1]


def test_a_move_to_where_it_is_changes_nothing(tracker, server):
    tracker.track(id=1, bucket="a")
    tracker.track(id=1, bucket="a", old_id="1", old_bucket="a")
    assert counts(tracker, "a") == [1]
    assert table(server, "a") == (set(), set())


def test_an_old_id_never_seen(tracker):
    tracker.track(id="ann", bucket="member", old_id="never", old_bucket="anon")
    assert counts(tracker, "member", "anon") == [1, 0]


def test_only_remove(tracker):
    tracker.track_many([1, 2, 3])
    tracker.track(id=None, old_id=2)
    tracker.track(old_id=2)
    assert counts(tracker, None) == [2]


def test_a_full_table_still_counts_right(tracker, server):
    small = server.tracker(moved_limit=3)
    small.track_many(range(10), bucket="a")
    for id in range(8):
        small.track(old_id=id, old_bucket="a")
    assert counts(small, "a") == [2]
    out, back = table(server, "a")
    assert (out, back) == ({"0", "1", "2"}, set())
    small.track(id=0, bucket="a")
    assert counts(small, "a") == [3]
    small.track(old_id=0, old_bucket="a")
    assert counts(small, "a") == [2]
    small.track(id=7, bucket="a")  # not in the table: its return cannot be seen
    assert counts(small, "a") == [2]
    assert sum(map(len, table(server, "a"))) == 3


def test_a_stamp_is_the_servers_time_to_the_microsecond(server):
    """By which all processes agree on what came last; the client's clock only says which period runs."""
    tracker = server.tracker(clock=lambda: NOON - 11 * 3600)

    def now():
        seconds, microseconds = server.client.time()
        return 1_000_000 * seconds + microseconds

    before = now()
    for n in range(50):
        tracker.track(old_id=n, old_bucket="a")
    left = stamps(server, "a")
    assert all(before <= -stamp <= now() + 1_000_000 for stamp in left.values())
    assert sorted(left, key=left.__getitem__, reverse=True) == [str(n) for n in range(50)]
    assert len(set(left.values())) == 50
    tracker.track(id=7, bucket="a")
    assert stamps(server, "a")["7"] > max(-stamp for stamp in left.values())


@pytest.mark.parametrize("how", ["track", "track_many", "large", "import", "large import"])
def test_only_what_came_after_a_move_is_a_return(tracker, server, how):
    """An event with a moment is as old as that: a log that is imported again undoes no move."""
    midnight = datetime.combine(TODAY, datetime.min.time())
    filler = range(10**6, 10**6 + (300 if "large" in how else 0))
    write = {
        "track": lambda ids, when: [tracker.track(id=id, bucket="a", date=when) for id in ids],
        "import": lambda ids, when: tracker.import_events([(id, "a", when) for id in ids]),
        "track_many": lambda ids, when: tracker.track_many(ids, bucket="a", date=when),
    }["import" if "import" in how else "track" if how == "track" else "track_many"]
    write([*range(10), *filler], midnight)
    for id in range(5):
        tracker.track(old_id=id, old_bucket="a")
    left = table(server, "a")
    assert left == ({"0", "1", "2", "3", "4"}, set())
    [before] = counts(tracker, "a")
    write([*range(10), *filler], midnight)
    assert table(server, "a") == left
    assert counts(tracker, "a") == [before]
    write([*range(2), *filler], TODAY)  # a day says nothing of when: now
    assert table(server, "a") == ({"2", "3", "4"}, {"0", "1"})


@pytest.mark.parametrize("when", [datetime(1965, 5, 17, 12), datetime(1970, 1, 1), datetime(1001, 1, 1, 5)])
def test_events_from_before_stamps_begin_are_events(tracker, when):
    """Their order is not known; that they happened is."""
    tracker.import_events([(id, "a", when) for id in range(5)])
    tracker.track(id="x", bucket="b", old_id=0, old_bucket="a", date=when)
    tracker.track(old_id=1, old_bucket="a", date=when.date())
    tracker.track(id=7, bucket="a", date=when)
    row = tracker.lookup(
        start=when.date(), end=when.date() + timedelta(days=1), buckets=["a", "b"], live=True
    )
    assert row[0][1]["b"] == 1
    assert row[0][1]["a"] in (4, 5)  # active wins a tie
    tracker.import_events([(id, "a", when) for id in (1, 2)])
    tracker.track(id=1, bucket="a", date=when.date())
    row = tracker.lookup(start=when.date(), end=when.date() + timedelta(days=1), buckets=["a"], live=True)
    assert row[0][1]["a"] in (5, 6)


def test_an_import_before_the_server_has_told_its_time_sets_no_clock(server):
    """That of this machine, which may be ahead, stamps nothing."""
    tracker = server.tracker(["yearly"], clock=lambda: time.time() + 30)
    tracker.import_events([(1, "a", datetime.now(UTC))])
    tracker.track(old_id=2, old_bucket="a")
    moves = tracker.backend.keys.bucket(f"yearly-{TODAY.year}", "a").moves
    [(_, stamp)] = server.client.zrange(moves, 0, -1, withscores=True)
    assert -stamp <= server.client.time()[0] * 1e6 + 1e6


def test_an_event_is_never_newer_than_the_call(server):
    """Who gives a moment to come would keep the id from ever leaving."""
    skip_if_tomorrow()
    tracker = server.tracker()
    soon = datetime.combine(TODAY, datetime.max.time())
    tracker.track(old_id="x", old_bucket="a")
    for _ in range(2):
        tracker.track(id="x", bucket="a", date=soon)
        assert table(server, "a") == (set(), {"x"})
        tracker.track(old_id="x", old_bucket="a")
        assert table(server, "a") == ({"x"}, set())
    tracker.track(old_id="x", old_bucket="a", date=soon)
    tracker.track(id="x", bucket="a")
    assert table(server, "a") == (set(), {"x"})


NO_STAMPS = ["inf", "-inf", "1e300", "-1e300", "0", "0.5", "-0.5", "-9007199254740993"]


@pytest.mark.parametrize("score", NO_STAMPS)
@pytest.mark.parametrize(
    "act",
    [
        lambda tracker: tracker.track(id="x", bucket="bad", date=YESTERDAY),
        lambda tracker: tracker.track(id="good", bucket="good", old_id="x", old_bucket="bad", date=YESTERDAY),
        lambda tracker: tracker.track_many([*range(300), "x"], bucket="bad", date=YESTERDAY),
        lambda tracker: tracker.import_events(
            [(id, bucket, YESTERDAY) for bucket in ("bad", "good") for id in (*range(300), "x", "good")]
        ),
        lambda tracker: tracker.collapse(),
        lambda tracker: tracker.lookup(start=YESTERDAY, live=True),
        lambda tracker: tracker.lookup(start=YESTERDAY, buckets=["t"], live=True),
    ],
    ids=["track", "move", "track_many", "import", "collapse", "live", "aggregate"],
)
def test_a_stamp_that_nobody_can_have_made_harms_no_other_bucket(real_server, act, score):
    """At most it is an error that says where it is."""
    tracker = real_server.tracker(buckets=["bad", "good"], aggregate_buckets={"t": ["bad", "good"]})
    tracker.track_many(["x", "y"], bucket="bad", date=YESTERDAY)
    tracker.track(id="good", bucket="good", old_id="y", old_bucket="bad", date=YESTERDAY)
    name = f"active:daily-{YESTERDAY:%Y%m%d}:bad"
    real_server.client.execute_command("ZADD", f"{{{name}}}:moves", score, "x")
    try:
        act(tracker)
    except ActivityTrackerError as error:
        assert isinstance(error, (BackendDataError, CollapseError))  # noqa: PT017
        assert "'bad'" in str(error) or name in str(error)  # noqa: PT017
    row = tracker.lookup(start=YESTERDAY, buckets=["good"], live=True)[0][1]
    assert row["good"] in (1, pytest.approx(302, abs=4 * row["good"].stderr))


@pytest.mark.parametrize("score", NO_STAMPS)
def test_a_stamp_that_nobody_can_have_made_holds_up_no_writer(real_server, score):
    tracker = real_server.tracker(buckets=["bad", "good"])
    tracker.track(old_id="x", old_bucket="bad")
    real_server.client.execute_command("ZADD", f"{{active:{NAME}:bad}}:moves", score, "x")
    with tracker.buffered(flush_interval=0.05, close_timeout=0.2) as writer:
        writer.track(id="another", bucket="good")
        writer.track(id="x", bucket="bad")
        writer.track(old_id="z", old_bucket="bad")
        assert writer.flush(0.5).pushed >= 1
        assert counts(tracker, "good") == [1]
        writer.track(id="one more", bucket="good")
        assert writer.flush(0.5).pushed >= 2
    assert counts(tracker, "good") == [2]


def test_moves_of_all_periods_in_one_round_trip(server, monkeypatch):
    tracker = server.tracker(["daily", "monthly", "yearly"])
    tracker.track(id=1, bucket="a")
    batches = []
    execute = tracker.backend.execute
    monkeypatch.setattr(
        tracker.backend,
        "execute",
        lambda commands, shard=0: batches.append(commands) or execute(commands, shard),
    )
    tracker.track(id=2, bucket="b", old_id=1, old_bucket="a")
    assert len(batches) == 1
    verbs = [command[0] for command in batches[0]]
    # Every add before any removal; and the other bucket is registered.
    assert verbs == ["PFADD", "ZADD"] * 3 + ["EVALSHA"] * 3 + ["HSET"]
    for kind in ("daily", "monthly", "yearly"):
        assert tracker.lookup(kind, buckets=["a", "b"], live=True)[-1][1] == {"a": 0, "b": 1}


def test_collapsed_counts_after_moves_carry_their_error(server):
    tracker = server.tracker()
    tracker.track_many(range(1000), bucket="a", date=YESTERDAY)
    for id in range(100):
        tracker.track(id=id, bucket="b", old_id=id, old_bucket="a", date=YESTERDAY)
    tracker.collapse(buckets=["a", "b"])
    row = tracker.lookup(start=YESTERDAY, buckets=["a", "b"])[0][1]
    assert row["a"] == pytest.approx(900, abs=4 * row["a"].stderr)
    assert row["a"].stderr != standard_error(row["a"])
    assert row["b"].stderr == standard_error(row["b"])
    stderr = "{{active:daily-{:%Y%m%d}:{}}}:stderr".format
    assert float(server.client.get(stderr(YESTERDAY, "a"))) == row["a"].stderr
    assert server.client.get(stderr(YESTERDAY, "b")) is None


# A small world in which every id's bucket is known: after any sequence of moves the counts are exact
# (a few ids meet no two in one register, at least none of these).
steps = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from("abc"), st.integers(0, 5), st.sampled_from("abc")),
    max_size=25,
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps)
def test_any_sequence_of_moves_is_exact_when_small(server, steps):
    server.client.flushall()
    tracker = server.tracker()
    exact = {bucket: set() for bucket in "abc"}
    for id, bucket, old_id, old_bucket in steps:
        exact[bucket].add(id)
        if (id, bucket) != (old_id, old_bucket):
            exact[old_bucket].discard(old_id)
        tracker.track(id=id, bucket=bucket, old_id=old_id, old_bucket=old_bucket)
    assert counts(tracker, *"abc") == [len(exact[bucket]) for bucket in "abc"]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps)
def test_any_sequence_of_moves_makes_exact_aggregates_when_small(server, steps):
    server.client.flushall()
    unions = {"ab": ["a", "b"], "abc": ["a", "b", "c"], "with plain": ["a", "b", "c", "plain"]}
    tracker = server.tracker(buckets=["a", "b", "c", "plain"], aggregate_buckets=unions)
    exact = {"a": set(), "b": set(), "c": set(), "plain": {4, 5, 6}}
    tracker.track_many(exact["plain"], bucket="plain")
    for id, bucket, old_id, old_bucket in steps:
        exact[bucket].add(id)
        if (id, bucket) != (old_id, old_bucket):
            exact[old_bucket].discard(old_id)
        tracker.track(id=id, bucket=bucket, old_id=old_id, old_bucket=old_bucket)
    expected = [len(set().union(*(exact[source] for source in sources))) for sources in unions.values()]
    assert counts(tracker, *unions) == expected
    server.trackers.clear()


def move_out(tracker, bucket, ids, size=1000):
    """Move many ids out of a bucket of today, through the library's own script."""
    keys = tracker.backend.keys.bucket(NAME, bucket)
    for start in range(0, len(ids), size):
        part = [(b"%d" % id, -(10**15 + id)) for id in ids[start : start + size]]
        [reply] = tracker.backend.execute([calls.call_write(keys, tracker.backend.moved_limit, (), part)])
        assert calls.answer(reply)[0] == b"OK"


# DESIGN section 3, column "PFCOUNT difference", and for 10 % the same theory that gives the others.
SIMULATED = {0.1: None, 0.5: 1.12, 0.9: 2.8}


def remainder_errors(server, total, share, seeds):
    """Relative errors of the remainder, and the standard errors claimed."""
    errors, claimed = [], []
    for seed in range(seeds):
        server.client.flushall()
        tracker = server.tracker(moved_limit=0)
        ids = random.Random(seed).sample(range(10**12), total)
        tracker.track_many(ids, bucket="a")
        move_out(tracker, "a", ids[: round(total * share)])
        [count] = counts(tracker, "a")
        remaining = total - round(total * share)
        errors.append(count / remaining - 1)
        claimed.append(count.stderr / remaining)
        tracker.close()
    return errors, claimed


def rms(values):
    return sqrt(sum(value**2 for value in values) / len(values))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_error_of_the_remainder(real_server, share):
    """The root mean square of n normal errors is within 4 / sqrt(2 n) of its expectation."""
    seeds = 8
    errors, claimed = remainder_errors(real_server, 10_000, share, seeds)
    assert rms(errors) < rms(claimed) * (1 + 4 / sqrt(2 * seeds))


@pytest.mark.long
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_error_of_the_remainder_is_that_of_the_design(real_server, share):
    seeds = 30
    errors, claimed = remainder_errors(real_server, 100_000, share, seeds)
    expected = SIMULATED[share] or 100 * rms(claimed)
    print(
        f"\n{real_server.name} {share:.0%} moved: RMS error {100 * rms(errors):.2f} %, design {expected:.2f}"
    )
    assert 100 * rms(errors) < expected * (1 + 3 / sqrt(2 * seeds))
    assert 100 * rms(claimed) == pytest.approx(expected, rel=0.11)


def remainder_coverage(server, total, remaining, bases, trials):
    """How often the 95 % interval holds what remains; the ids moved out serve many trials."""
    covered = 0
    for base in range(bases):
        server.client.flushall()
        tracker = server.tracker(moved_limit=0)
        source = random.Random(base)
        tracker.track_many(source.sample(range(10**12), total), bucket="moved")
        moved = f"{{active:{NAME}:moved}}:hll"
        for _ in range(trials):
            server.client.copy(moved, f"{{active:{NAME}:a}}:hll", replace=True)
            server.client.copy(moved, f"{{active:{NAME}:a}}:moved", replace=True)
            tracker.track_many(source.sample(range(10**12, 2 * 10**12), remaining), bucket="a")
            low, high = counts(tracker, "a")[0].interval()
            covered += low <= remaining <= high
        tracker.close()
    return covered / (bases * trials)


@pytest.mark.parametrize(
    "remaining", [20, *(pytest.param(remaining, marks=pytest.mark.extended) for remaining in (100, 1000))]
)
def test_intervals_hold_the_little_that_remains(real_server, remaining):
    """Four standard deviations below 94 % for 150 trials; the DESIGN asks for 94-96 %."""
    assert remainder_coverage(real_server, 100_000, remaining, 10, 15) > 0.94 - 4 * sqrt(0.94 * 0.06 / 150)


@pytest.mark.long
@pytest.mark.parametrize("remaining", [20, 100, 1000, 10_000])
def test_intervals_after_moves_cover_as_they_say(real_server, remaining):
    coverage = remainder_coverage(real_server, 100_000, remaining, 30, 30)
    print(f"\n{real_server.name}: {remaining} of 100,000 remain, 95 % intervals cover {coverage:.1%}")
    assert 0.93 < coverage <= 1


@pytest.mark.extended
def test_a_million_moves_into_a_bounded_table(real_server):
    tracker = real_server.tracker()
    ids = range(1_100_000)
    tracker.track_many(ids, bucket="a")
    move_out(tracker, "a", ids[:1_000_000], size=4000)
    assert real_server.client.zcard(f"{{active:{NAME}:a}}:moves") == 10_000
    [count] = counts(tracker, "a")
    assert abs(count - 100_000) < 4 * count.stderr
    move_out(tracker, "a", ids[:10])
    assert counts(tracker, "a") == [count]
