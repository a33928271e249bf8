"""The laws of the side table: the newest event of an id wins, whatever becomes of messages.

But for one test, which holds the scripts and the model of them together, there is no server.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activity_tracker_hll.bulk import hashes_of_bytes
from activity_tracker_hll.hll import codec
from activity_tracker_hll.keys import Keys
from activity_tracker_hll.operations import run
from activity_tracker_hll.operations.tracking import side_table
from activity_tracker_hll.operations.tracking.side_table import LEFT, Range, Seen, SideTable, read_members
from activity_tracker_hll.operations.tracking.stamps import ServerClock
from activity_tracker_hll.scripts import calls
from activity_tracker_hll.writer.moves import Moves
from helpers.model import Bucket, ModelServer, newer, registers_of
from helpers.worlds import IDS, NO_LIMIT

Events = list[tuple[bytes, int]]


def some_events(rng: random.Random, most: int = 12) -> Events:
    """Signed stamps, many of them equal but for the sign."""
    return [
        (rng.choice(IDS[:6]), rng.randrange(1, 8) * rng.choice((-1, 1))) for _ in range(rng.randrange(most))
    ]


def merged(*parts: Iterable[tuple[bytes, int]], limit: int = NO_LIMIT) -> dict[bytes, int]:
    bucket = Bucket()
    for events in parts:
        bucket.write(limit, (), events)
    return bucket.table


@pytest.mark.parametrize("seed", range(20))
def test_merging_is_commutative_associative_and_idempotent(seed):
    rng = random.Random(seed)
    for _ in range(200):
        a, b, c = some_events(rng), some_events(rng), some_events(rng)
        assert merged(a, b) == merged(b, a)
        assert merged(merged(a, b).items(), c) == merged(a, merged(b, c).items())
        assert merged(a, a) == merged(a) == merged(merged(a).items())


@pytest.mark.parametrize("seed", range(20))
def test_the_newest_event_of_each_id_stays_in_any_order_and_however_often_it_is_sent(seed):
    rng = random.Random(seed)
    for _ in range(200):
        events = some_events(rng)
        newest: dict[bytes, int] = {}
        for id, stamp in events:
            newest[id] = max(stamp, newest.get(id, 0), key=lambda stamp: (abs(stamp), stamp))
        sent = events + rng.choices(events, k=5) if events else []
        rng.shuffle(sent)
        assert merged(sent) == newest


@pytest.mark.parametrize("seed", range(20))
def test_a_full_table_keeps_its_bound_and_what_got_in_is_right(seed):
    rng = random.Random(seed)
    for _ in range(200):
        events, limit = some_events(rng, 30), rng.randrange(6)
        rng.shuffle(events)
        bucket = Bucket()
        bucket.write(limit, (), events)
        unbounded = merged(events)
        assert len(bucket.table) == min(limit, len(unbounded))
        assert bucket.table.items() <= unbounded.items()
        assert bucket.tracked == unbounded.keys()
        left = {id for id, stamp in events if stamp < 0}
        assert bucket.moved == left | bucket.table.keys()


@pytest.mark.parametrize("seed", range(20))
def test_events_of_one_process_keep_their_order_whatever_its_clock_learns(seed):
    rng = random.Random(seed)
    for _ in range(20):
        now, ahead = 1_000_000, 1_800_000_000_000_000
        clock = ServerClock(lambda: now, lambda: now + ahead)  # noqa: B023 (what they are by then)
        moves, bucket, last = Moves(), Bucket(), {}
        for _ in range(40):
            now += rng.choice((1, 1, 10, 1000))
            if rng.random() < 0.2:
                ahead += rng.randrange(-2000, 2000)
                clock.sample(now - 100, divmod(now + ahead, 1_000_000))
            id = rng.choice(IDS[:3])
            hashes = hashes_of_bytes([id])
            last[id] = rng.random() < 0.5 and id in last
            if last[id]:
                moves.observe([Seen(hashes, now)])
            else:
                moves.leave(id, int(hashes[0]), now)
            if rng.random() < 0.5:  # sent, but nobody heard of it
                bucket.write(NO_LIMIT, (), moves.stamps(clock).items())
        bucket.write(NO_LIMIT, (), moves.stamps(clock).items())
        assert {id: stamp > 0 for id, stamp in bucket.table.items()} == last


def test_newer():
    assert newer(2, 1)
    assert newer(-2, 1)
    assert newer(2, -1)
    assert newer(1, -1)
    assert newer(-1, 0)
    assert not newer(-1, 1)
    assert not newer(1, 1)
    assert not newer(-1, 2)


# What a process knows of a table


KEYS = Keys().bucket("daily-20260101", "a")
NOW = 1_000_000_000


def test_who_left_is_found_although_all_numbers_are_as_they_were():
    """One came back and another left, both before the newest event."""
    server, known = ModelServer(lambda: NOW), SideTable()
    server.bucket.write(
        NO_LIMIT, (), [(b"newest", -NOW), (b"leaves", NOW - 400), (b"returns", 100 - NOW)], NOW
    )
    before = server.bucket.state(NOW)
    run(known.update(KEYS.moves, before), server.execute)
    server.bucket.write(NO_LIMIT, (), [(b"leaves", 300 - NOW), (b"returns", NOW - 90)], NOW)
    assert server.bucket.state(NOW)[:3] == before[:3]
    run(known.update(KEYS.moves, server.bucket.state(NOW)), server.execute)
    leaves, returns = hashes_of_bytes([b"leaves"]), hashes_of_bytes([b"returns"])
    assert known.returned([Seen(leaves, NOW - 200)])[0] == leaves
    assert not len(known.returned([Seen(returns, NOW)])[0])
    sent: list[Any] = []
    run(known.update(KEYS.moves, server.bucket.state(NOW)), sent.append)
    assert sent == []


@given(st.data())
def test_whatever_is_merged_all_who_have_left_are_known_and_when(data):
    """Somebody who came back may go unnoticed, which does no harm; and all is read once in a while only.

    Clocks of processes may be ahead, or that of the server be set back by less than what is read again.
    """
    now, known = 1_800_000_000_000_000, SideTable()
    ids, ago = (
        st.sampled_from(IDS[:5]),
        st.sampled_from((-3_000_000, 0, 1, 999, 9_999_999, 10_000_000, 10**9)),
    )
    step = st.sampled_from((-5_000_000, 0, 1, 1_000, 5_000_000, 20_000_000))
    server = ModelServer(lambda: now)

    def happen() -> None:
        nonlocal now
        now += data.draw(step)
        events = data.draw(st.lists(st.tuples(ids, ago, st.sampled_from((1, -1))), max_size=4))
        server.bucket.write(NO_LIMIT, (), [(id, sign * (now - ago)) for id, ago, sign in events], now)
        if data.draw(st.booleans()):
            server.bucket.raise_stamp(data.draw(ids), now)

    def execute(commands: Any) -> Any:
        if data.draw(st.booleans()):
            happen()
        return server.execute(commands)

    for _ in range(data.draw(st.integers(1, 8))):
        for _ in range(data.draw(st.integers(0, 3))):
            happen()
        table = dict(server.bucket.table)
        run(known.update(KEYS.moves, server.bucket.state(now)), execute)
        gone = [id for id, stamp in table.items() if stamp < 0 and server.bucket.table[id] == stamp]
        hashes, left, _ = known.returned([Seen(hashes_of_bytes(gone), 2**60)])
        assert dict(zip(hashes.tolist(), left.tolist(), strict=True)) == {
            hash: -table[id] for id, hash in zip(gone, hashes_of_bytes(gone).tolist(), strict=True)
        }


@given(st.data())
def test_a_member_that_changes_meanwhile_moves_no_other_to_where_it_is_not_seen(data):
    """Whatever the pages are, and however many members have one score."""
    server = ModelServer(lambda: NOW)
    scores = st.integers(1, data.draw(st.integers(1, 40)))
    table = {b"%d" % number: -data.draw(scores) for number in range(data.draw(st.integers(0, 30)))}
    server.bucket.table, changed = dict(table), set()

    def execute(commands: Any) -> Any:
        replies = server.execute(commands)
        for id in data.draw(st.lists(st.sampled_from(sorted(table)), max_size=3)) if table else ():
            server.bucket.table[id] = data.draw(scores) * data.draw(st.sampled_from((1, -1, -100)))
            changed.add(id)
        return replies

    found: set[bytes] = set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(side_table, "_PAGE", data.draw(st.integers(1, 5)))
        run(read_members([Range(KEYS.moves, *LEFT)], lambda _, ids, _scores: found.update(ids)), execute)
    assert table.keys() - changed <= found


# The scripts


TEMPORARY = Keys().temporary("daily-20260101", "a", "unite")
STAMPS = (*range(1, 9), 1_700_000_000_000_000, 1_700_000_000_000_001, 1_700_000_009_999_999, 2**53 - 1)


def some_command(rng: random.Random) -> calls.Call:
    def events(signs: tuple[int, ...]) -> Events:
        ids = rng.choices(IDS[:20], k=rng.randrange(4))
        return [(id, rng.choice(STAMPS) * rng.choice(signs)) for id in ids]

    low, high = sorted((rng.choice(STAMPS) * rng.choice((1, -1)), rng.choice(STAMPS)))
    return rng.choice(
        (
            calls.call_write(KEYS, rng.choice((5, 10, 15)), events((1,)), events((1, -1))),
            calls.call_unite(KEYS, TEMPORARY, codec.encode(registers_of(rng.choices(IDS, k=3)))),
            calls.call_unite(KEYS, TEMPORARY, b""),
            ("PFADD", KEYS.hll, rng.choice(IDS)),
            ("ZADD", KEYS.moves, "XX", "GT", rng.choice(STAMPS), rng.choice(IDS[:20])),
            ("ZRANGEBYSCORE", KEYS.moves, f"({low}", str(high), "WITHSCORES", "LIMIT", rng.randrange(3), 4),
            ("ZRANGEBYSCORE", KEYS.moves, str(low), f"({high}", "WITHSCORES", "LIMIT", rng.randrange(3), 4),
        )
    )


def executed(client: Any, command: calls.Call) -> Any:
    """The reply of a real server, as the model gives it."""
    if command[0] == "ZRANGEBYSCORE":
        _, key, low, high, _, _, start, count = command
        members = client.zrangebyscore(key, low, high, start, count, withscores=True)
        return [part for id, score in members for part in (id, b"%d" % score)]
    reply = client.execute_command(*command)
    if command[0] != "EVALSHA":
        return 0
    if reply[0] == b"SPARSE":
        registers = np.maximum(codec.decode(command[-2]), codec.decode(reply[1]))
        return executed(client, calls.call_unite(KEYS, TEMPORARY, codec.encode(registers), reply[1]))
    return [*reply[:-5], *calls.TableState.read(reply)]


class Comparable:
    """Makes replies of two servers comparable: what is announced has but to change when it must."""

    def __init__(self) -> None:
        self._words: tuple[dict[bytes, int], ...] = ({}, {})

    def __call__(self, command: calls.Call, reply: Any) -> Any:
        if command[0] != "EVALSHA":
            return reply
        *others, newest, since, announced = reply
        words = zip(self._words, announced.split(), strict=True)
        numbers = [known.setdefault(word, len(known)) for known, word in words]
        return [*others, newest, since == newest - calls.BACKDATED_US, *numbers]


@pytest.mark.parametrize("seed", range(20))
def test_the_model_of_the_server_is_true(real_server, seed):
    client, rng = real_server.client, random.Random(seed)
    for script in (calls.WRITE, calls.UNITE):
        client.script_load(script.source)
    model = ModelServer(lambda: client.time()[0] * 1_000_000)
    of_server, of_model = Comparable(), Comparable()
    for _ in range(100):
        command = some_command(rng)
        real = of_server(command, executed(client, command))
        assert real == of_model(command, model.execute([command])[0]), command
    assert dict(client.zrange(KEYS.moves, 0, -1, withscores=True)) == model.bucket.table
    for key, registers in (
        (KEYS.hll, model.bucket.registers),
        (KEYS.moved, registers_of(model.bucket.moved)),
    ):
        assert (codec.decode(client.get(key)) == registers).all()
