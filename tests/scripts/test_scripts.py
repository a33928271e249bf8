"""Python and Lua agree: scripts/calls.py is compared with the sources, and with what real servers answer."""

import random
import re
from pathlib import Path

import pytest

from activity_tracker_hll import BackendDataError, BackendResponseError, HyperLogLog
from activity_tracker_hll.backends.trouble import translated
from activity_tracker_hll.scripts import calls
from activity_tracker_hll.scripts.calls import (
    SCRIPTS,
    UNKNOWN,
    Count,
    Due,
    Readings,
    TableState,
    answer,
    answers,
)
from helpers.moments import YESTERDAY

FOLDER = Path(calls.__file__).parent
NAME = f"daily-{YESTERDAY:%Y%m%d}"
FAR = str(calls.AWAITED)
DENSE = HyperLogLog(range(20_000)).to_bytes()
SPARSE = HyperLogLog(range(30)).to_bytes()
NONE = HyperLogLog().to_bytes()


def body(script):
    return (FOLDER / f"{script.name}.lua").read_text("utf-8")


def opening(script):
    """The comment that a script begins with."""
    return re.match(r"(--.*\n)*", body(script))[0]


def code(script):
    """A script without its comments."""
    return re.sub(r"--.*", "", body(script))


def returned(script):
    """What it returns; functions within it return no tables."""
    return re.findall(r"return\s*({[^{}]*})", re.sub(r"redis\.call\([^()]*\)", "", code(script)))


each_script = pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)


def test_every_file_is_declared_and_every_declaration_has_a_call():
    assert {file.stem for file in FOLDER.glob("*.lua")} == {script.name for script in SCRIPTS} | {
        "common",
        "rights",
    }
    assert len({script.sha for script in SCRIPTS}) == len(SCRIPTS)
    assert {script.sha: script.source for script in SCRIPTS} == calls.SOURCES
    for script in SCRIPTS:
        assert getattr(calls, script.name.upper()) is script
        assert script.name.upper() in calls.__all__
        assert f"call_{script.name}" in calls.__all__


@each_script
def test_a_script_returns_the_states_that_are_declared_and_no_others(script):
    states = {state for reply in returned(script) for state in re.findall(r"'([A-Z]+)'", reply)}
    assert states == {state.decode() for state in script.states}
    assert len(script.states) == len(set(script.states))


@each_script
def test_every_declared_name_is_used(script):
    names = [*script.keys, *script.arguments, *script.each]
    assert len(names) == len(set(names))
    for name in names:
        assert re.search(rf"\b{name}\b", code(script)), f"{name} of {script.name}.lua"
    # What is not declared is reached by what follows the declared ones, and by nothing else.
    assert not re.findall(r"\b(?:KEYS|ARGV)\s*\[\s*\d", code(script))
    if script.each:
        assert not re.search(r"\b(?:KEYS|ARGV|EXTRA_ARGS|EXTRA_KEYS)\b", code(script))


@each_script
def test_an_opening_comment_tells_every_state(script):
    assert len(opening(script)) > 60
    for state in script.states:
        assert re.search(rf"\b{state.decode()}\b", opening(script)), f"{state} of {script.name}.lua"
    documented = getattr(calls, f"call_{script.name}").__doc__
    if "as :func:" in documented:
        documented = getattr(calls, re.search(r"as :func:`(\w+)`", documented)[1]).__doc__
    if len(script.states) > 1:
        for state in script.states:
            assert re.search(rf"\b{state.decode()}\b", documented)


@each_script
def test_comments_of_arguments_name_what_there_is(script):
    """As in "-- limit: members the side table has at most"."""
    named = re.findall(
        r"(?:^-- |[.;] )([a-z][a-z_]*(?:, [a-z][a-z_]*)*):", opening(script), flags=re.MULTILINE
    )
    for names in named:
        for name in names.split(", "):
            assert name in (*script.keys, *script.arguments, *script.each), f"{name} of {script.name}.lua"


@each_script
def test_the_server_knows_a_script_by_its_digest(real_server, script):
    assert real_server.client.script_load(script.source) == script.sha


class World:
    """One bucket of a real server, brought into any state, and the states that scripts answered with."""

    def __init__(self, server, seed=0):
        self.client = server.client
        self.tracker = server.tracker()
        self.keys = self.tracker.backend.keys.bucket(NAME, "b")
        self.other = self.tracker.backend.keys.bucket(NAME, "c")
        self.temporary = self.tracker.backend.keys.temporary(NAME, "b", "x")
        self.seen = set()
        self.dice = random.Random(seed)

    def send(self, script, call, buckets=1):
        """The parsed replies of a call, one for each bucket."""
        assert call[:2] == ("EVALSHA", script.sha)
        [reply] = self.tracker.backend.execute([call])
        replies = answers(reply, buckets) if script.each else [reply]
        assert len(replies) == buckets
        found = []
        for one in replies:
            state, rest = answer(one)
            assert state in script.states, (script.name, state)
            self.seen.add((script.name, state))
            found.append((state, rest))
        return found

    def state(self):
        """The side table's state, by plain commands: how many, how many left, the newest stamp."""
        held = self.client.zrange(self.keys.moves, 0, -1, withscores=True)
        scores = [int(score) for _, score in held]
        return len(held), sum(score < 0 for score in scores), max(map(abs, scores), default=0)

    def unite(self, sketch, base=b""):
        existed, moved = (self.client.exists(key) for key in (self.keys.hll, self.keys.moved))
        [(state, rest)] = self.send(calls.UNITE, calls.call_unite(self.keys, self.temporary, sketch, base))
        if state == b"OK":
            assert rest[:2] == [existed, moved]
            assert TableState.read(rest)[:3] == self.state()
        elif state == b"SPARSE":
            assert rest == [self.client.get(self.keys.hll)]
        else:
            assert rest == []
        assert not self.client.exists(self.temporary)
        return state

    def write(self, limit=5, actives=(), moves=()):
        existed, moved = (self.client.exists(key) for key in (self.keys.hll, self.keys.moved))
        before = [existed, moved, self.client.zcard(self.keys.moves)]
        [(state, rest)] = self.send(calls.WRITE, calls.call_write(self.keys, limit, actives, moves))
        if state == b"OK":
            assert rest[:3] == before
            assert TableState.read(rest)[:3] == self.state()
        else:
            assert rest == []
        return state

    def collapse(self, *, recount=False, error="", expiry=FAR):
        """Of this bucket, between another and one that is not there."""
        absent = self.tracker.backend.keys.bucket(NAME, "absent")
        buckets = [Due(self.other, FAR), Due(self.keys, expiry, error), Due(absent, FAR)]
        call = calls.call_collapse(buckets, recount=recount)
        _, (state, rest), last = self.send(calls.COLLAPSE, call, 3)
        assert last == (b"NONE", [])
        if state == b"READ":
            readings = Readings(*rest)
            assert readings.hll == self.client.get(self.keys.hll)
            assert readings.moved_hll == (self.client.get(self.keys.moved) or b"")
            assert readings.tracked == self.client.pfcount(self.keys.hll)
            assert readings.moved == self.client.pfcount(self.keys.moved)
            assert readings.back == self.client.zcount(self.keys.moves, "(0", "+inf")
            return state, readings
        if state == b"COUNTED":
            assert int(self.client.get(self.keys.counted)) == rest[0] == self.client.pfcount(self.keys.hll)
            assert self.client.get(self.keys.stderr) == (error.encode() or None)
        if state == b"CHANGED":
            assert error == UNKNOWN
            assert self.client.exists(self.keys.hll)
        if state in (b"DONE", b"TEXT", b"FOREIGN"):
            assert rest[0] == self.client.get(self.keys.counted)
        assert len(rest) == {b"COUNTED": 1, b"DONE": 1, b"TEXT": 1, b"FOREIGN": 2}.get(state, 0)
        return state, rest

    def store(self, readings, ids=7, error="", expiry=FAR):
        counts = [Count(self.other, Readings(9, 9, 9, b"", b""), 1, "", FAR)]
        counts.append(Count(self.keys, readings, ids, error, expiry))
        (first, _), (state, rest) = self.send(calls.STORE, calls.call_store(counts), 2)
        assert first == b"CHANGED"
        if state == b"STORED":
            assert self.client.get(self.keys.counted) == b"%d" % ids
            assert self.client.get(self.keys.stderr) == (error.encode() or None)
        assert rest == []
        return state

    def absorb(self, ids, seen=b""):
        keys, client = self.keys, self.client
        expected = self.sketch(keys.hll)
        expected.update(ids)
        [(state, rest)] = self.send(calls.ABSORB, calls.call_absorb(keys, seen, ids))
        if state == b"OPEN":
            assert self.sketch(keys.hll) == expected
            assert not client.exists(keys.counted, keys.stderr)
            assert {client.ttl(key) for key in (keys.hll, keys.moved, keys.moves)} <= {-1, -2}
        assert rest == []
        return state

    def aggregate(self, sources, seen=b"", expiry=FAR):
        call = calls.call_aggregate(self.keys, self.temporary, sources, seen, expiry)
        [(state, rest)] = self.send(calls.AGGREGATE, call)
        if state == b"COUNTED":
            assert rest == [int(self.client.get(self.keys.counted))]
            assert rest == [self.client.pfcount(*(source.hll for source in sources))]
        assert not self.client.exists(self.temporary)
        return state

    def store_union(self, seen=b"", ids=7, error="", sketch=b"", expiry=FAR):
        call = calls.call_store_union(self.keys, seen, ids, error, sketch, expiry)
        [(state, rest)] = self.send(calls.STORE_UNION, call)
        if state == b"STORED":
            assert self.client.get(self.keys.counted) == b"%d" % ids
            assert self.client.get(self.keys.stderr) == (error.encode() or None)
            assert self.client.get(self.keys.hll) == (sketch or None)
        assert rest == []
        return state

    def expire(self, expiry=FAR):
        [(state, rest)] = self.send(calls.EXPIRE, calls.call_expire(self.keys, expiry))
        assert rest == []
        return state

    def lengthen(self):
        return self.send(calls.LENGTHEN, calls.call_lengthen("settings", {"daily": "70"}))[0][0]

    def restore(self, n="", error="", sketch=b"", moved=b"", expiry=FAR):
        keys, client = self.keys, self.client
        given = dict(zip((keys.hll, keys.moved), (sketch, moved), strict=True))
        expected = {
            key: self.sketch(key) | HyperLogLog.from_bytes(data or NONE) for key, data in given.items()
        }
        stored, existed = client.get(keys.counted), client.exists(keys.hll)
        was_counted = self.is_counted()
        call = calls.call_restore(keys, self.temporary, calls.Stored(n, error, sketch, moved), expiry)
        [(state, [is_open])] = self.send(calls.RESTORE, call)
        assert {key: self.sketch(key) for key in given} == expected
        if was_counted or existed or not n:
            assert client.get(keys.counted) == stored
        else:
            assert client.get(keys.counted) == n.encode()
        if self.is_counted() and not (was_counted and existed) and expiry != "keep":
            assert client.ttl(keys.hll) != -1
        if not self.is_counted():
            assert is_open == any(each.count() for each in expected.values())
        assert not client.exists(self.temporary)
        return state, is_open

    def sketch(self, key):
        return HyperLogLog.from_bytes(self.client.get(key) or NONE)

    def is_counted(self):
        stored = self.client.get(self.keys.counted)
        return stored is not None and (stored != b"0" or self.client.exists(self.keys.stderr) == 1)

    def shake(self):
        """Bring about something that no script does."""
        keys, client, dice = self.keys, self.client, self.dice
        id = dice.randrange(40)
        dice.choice(
            [
                lambda: client.pfadd(keys.hll, *range(id)),
                lambda: client.set(keys.hll, DENSE),
                lambda: client.set(keys.hll, SPARSE),
                lambda: client.delete(keys.hll),
                lambda: client.delete(keys.moved, keys.moves),
                lambda: client.zadd(keys.moves, {str(id): id * dice.choice([-1, 1]) + 0.0}) if id else None,
                lambda: client.set(
                    keys.counted, dice.choice(["0", "7", "many", str(client.pfcount(keys.hll))])
                ),
                lambda: client.delete(keys.counted),
                lambda: client.delete(keys.stderr),
                lambda: client.persist(keys.hll),
                lambda: client.expire(keys.hll, 1000),
                lambda: client.pfadd(self.other.hll, *range(id)),
                lambda: client.delete(*keys, *self.other),
                client.script_flush,
            ]
        )()

    def call(self):
        """Any call, with any arguments."""
        dice, keys = self.dice, self.keys
        stamps = [
            (b"%d" % dice.randrange(9), dice.choice([-1, 1]) * dice.randrange(1, 2**53)) for _ in range(4)
        ]
        actives = [(id, abs(stamp)) for id, stamp in stamps[: dice.randrange(5)]]
        expiry = dice.choice([FAR, "keep"])
        seen = dice.choice([b"", self.client.get(keys.counted) or b""])
        readings = Readings(
            self.client.pfcount(keys.hll) + dice.choice([0, 0, 1]),
            self.client.pfcount(keys.moved),
            self.client.zcount(keys.moves, "(0", "+inf"),
            b"",
            b"",
        )
        base = dice.choice([b"", self.client.get(keys.hll) or b""])
        recount, error = dice.random() < 0.5, dice.choice(["", "inf", UNKNOWN])
        dice.choice(
            [
                lambda: self.unite(dice.choice([b"", SPARSE, DENSE]), base),
                lambda: self.write(dice.randrange(6), actives, stamps[: dice.randrange(5)]),
                lambda: self.collapse(recount=recount, error=error, expiry=expiry),
                lambda: self.store(readings, error=dice.choice(["", "1.5"]), expiry=expiry),
                lambda: self.absorb([b"%d" % dice.randrange(40)], seen),
                lambda: self.aggregate([self.other], seen, expiry),
                lambda: self.store_union(seen, sketch=dice.choice([b"", SPARSE]), expiry=expiry),
                lambda: self.expire(expiry),
                self.lengthen,
                lambda: self.restore(
                    dice.choice(["", "0", "30"]),
                    dice.choice(["", "1.5"]),
                    dice.choice([b"", SPARSE]),
                    dice.choice([b"", SPARSE]),
                    expiry,
                ),
            ]
        )()


@pytest.fixture
def world(real_server):
    return World(real_server)


def write_everything(world):
    """Leaves a dense sketch and a side table."""
    keys, client = world.keys, world.client
    assert world.unite(b"") == b"OK"
    assert world.unite(SPARSE) == b"OK"
    held = HyperLogLog(range(20, 50)).to_bytes()
    assert world.unite(held) == b"SPARSE"
    assert client.get(keys.hll) == SPARSE
    united = (HyperLogLog.from_bytes(held) | HyperLogLog.from_bytes(SPARSE)).to_bytes()
    assert world.unite(united, SPARSE) == b"OK"
    assert client.get(keys.hll) == united
    assert world.unite(DENSE) == b"OK"
    assert world.write(actives=[(b"x", 5)], moves=[(b"x", -7), (b"y", -(2**53 - 1))]) == b"OK"
    assert world.state() == (2, 2, 2**53 - 1)


def test_every_declared_state_occurs(world):
    keys, client = world.keys, world.client
    write_everything(world)
    state, readings = world.collapse()
    assert state == b"READ"
    client.pfadd(keys.hll, "another")
    assert world.store(readings) == b"CHANGED"
    _, readings = world.collapse()
    assert world.store(readings, 20_000, "1.5") == b"STORED"
    assert client.get(keys.counted) == b"20000"
    assert {client.expiretime(key) for key in (keys.hll, keys.moved, keys.moves)} == {int(FAR)}
    assert world.collapse()[0] == b"DONE"
    client.delete(keys.hll, keys.moved, keys.moves)
    assert world.collapse(recount=True)[0] == b"GONE"
    assert world.unite(SPARSE) == world.write(actives=[(b"x", 1)]) == b"LATE"
    assert not client.exists(keys.hll)

    client.set(keys.counted, "many")
    assert world.collapse() == (b"TEXT", [b"many"])
    client.delete(keys.stderr)
    client.set(keys.counted, "3")
    client.set(keys.hll, SPARSE)
    assert world.collapse() == (b"FOREIGN", [b"3", 30])
    client.delete(keys.counted)
    assert world.collapse(error=UNKNOWN) == (b"CHANGED", [])
    client.pfadd(keys.hll, "one more")
    assert world.collapse(error="inf") == (b"COUNTED", [31])
    client.set(keys.hll, SPARSE)
    client.delete(keys.counted)
    assert world.collapse() == (b"COUNTED", [30])
    assert world.absorb([b"late"], b"29") == b"CHANGED"
    assert world.absorb([b"late"], b"30") == b"OPEN"
    assert world.absorb([b"later"]) == b"OPEN"
    client.set(keys.counted, 32)
    assert world.expire() == b"OK"
    assert client.expiretime(keys.hll) == int(FAR)
    client.delete(*keys)
    assert world.collapse() == (b"NONE", [])
    assert world.lengthen() == b"OK"

    client.pfadd(world.other.hll, 1, 2, 3)
    assert world.aggregate([world.other], b"5") == b"CHANGED"
    assert world.aggregate([world.other]) == b"COUNTED"
    assert world.store_union(b"", 4) == b"CHANGED"
    assert world.store_union(b"3", 4, "0.5", SPARSE) == b"STORED"

    client.delete(*keys)
    assert world.restore("30", "", SPARSE, b"") == (b"OK", 0)
    assert client.expiretime(keys.hll) == int(FAR)
    assert world.restore("30", "", DENSE, SPARSE) == (b"OK", 1)
    client.delete(keys.counted, keys.moved)
    assert world.restore("30", "", SPARSE, b"") == (b"OK", 1)
    assert world.seen == {(script.name, state) for script in SCRIPTS for state in script.states}


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.extended) for n in (1, 2, 3))])
def test_every_reply_is_one_that_is_declared(real_server, seed):
    """Any calls, in any order, on a bucket in any state."""
    world = World(real_server, seed)
    damaged = 0
    for _ in range(700):
        if world.dice.random() < 0.4:
            world.shake()
        try:
            world.call()
        except BackendDataError as error:  # moved ids without a sketch
            assert "CORRUPT" in str(error)  # noqa: PT017
            damaged += 1
            world.client.delete(world.keys.moved, world.keys.moves)
    assert damaged < 200
    assert world.seen >= {(script.name, script.states[-1]) for script in SCRIPTS}


CALLS = {
    "unite": lambda w: calls.call_unite(w.keys, w.temporary, DENSE),
    "look": lambda w: calls.call_unite(w.keys, w.temporary, b""),
    "write": lambda w: calls.call_write(w.keys, 5, [(b"x", 1)], [(b"y", -1)]),
    "collapse": lambda w: calls.call_collapse([Due(w.keys, FAR)], recount=False),
    "store": lambda w: calls.call_store([Count(w.keys, Readings(2, 1, 0, b"", b""), 1, "", FAR)]),
    "absorb": lambda w: calls.call_absorb(w.keys, b"", [b"x"]),
    "aggregate": lambda w: calls.call_aggregate(w.other, w.temporary, [w.keys], b"", FAR),
    "store_union": lambda w: calls.call_store_union(w.keys, b"", 1, "", b"", FAR),
}
# Which parts a call does not look at, or only whether they are there.
BLIND = {
    "unite": {"stderr", "moved"},
    "look": {"stderr", "moved"},
    "write": {"stderr"},
    "collapse": {"stderr"},
    "store": {"stderr", "counted"},
    "absorb": {"stderr", "moved", "moves"},
    "aggregate": {"stderr", "counted", "moved", "moves"},
    "store_union": {"stderr", "hll", "moved", "moves"},
}


@pytest.mark.parametrize("part", ["counted", "stderr", "hll", "moved", "moves"])
@pytest.mark.parametrize("name", CALLS)
def test_what_does_not_belong_in_a_key_is_told_from_errors_that_pass(world, name, part):
    world.write(actives=[(b"1", 1), (b"2", 1)], moves=[(b"1", -2)])
    if name == "aggregate":
        world.client.delete(world.keys.moved, world.keys.moves)
    world.client.delete(getattr(world.keys, part))
    world.client.rpush(getattr(world.keys, part), "a list")
    [reply] = world.tracker.backend.execute([CALLS[name](world)])
    if name in ("collapse", "store") and not isinstance(reply, Exception):
        [reply] = answers(reply, 1)
    if part in BLIND[name]:
        assert answer(reply)
    else:
        with pytest.raises(BackendDataError, match="WRONGTYPE"):
            answer(reply)


@pytest.mark.parametrize("name", ["unite", "write"])
def test_an_error_that_passes_is_told_from_what_stays(world, name):
    """A script that has written something is let go on."""
    world.client.pfadd(world.keys.hll, 1, 2)
    world.client.config_set("maxmemory", 1)
    try:
        [reply] = world.tracker.backend.execute([CALLS[name](world)])
    finally:
        world.client.config_set("maxmemory", 0)
    with pytest.raises(BackendResponseError, match="memory") as caught:
        answer(reply)
    assert not isinstance(caught.value, BackendDataError)


def test_what_cannot_be_announced_holds_up_no_answer(world):
    def look():
        [(state, rest)] = world.send(calls.UNITE, calls.call_unite(world.keys, world.temporary, b""))
        assert state == b"OK"
        return TableState.read(rest)

    world.write(moves=[(b"1", -2)])
    known = look()
    assert not look().backdated_since(known)
    for junk in ("9" * 30, "1e400 1e400", "", "7"):
        world.client.set(world.keys.announced, junk)
        assert look().backdated_since(known)
        assert look() == look()
    world.client.delete(world.keys.announced)
    world.client.rpush(world.keys.announced, "a list")
    assert look().backdated_since(known)
    world.client.delete(world.keys.announced)
    world.client.config_set("maxmemory", 1)
    try:
        first, second = look(), look()
    finally:
        world.client.config_set("maxmemory", 0)
    assert first.backdated_since(known)
    assert second.backdated_since(first)


def test_one_broken_bucket_of_a_call_leaves_the_others_their_answers(world):
    world.client.rpush(world.keys.hll, "a list")
    world.client.pfadd(world.other.hll, 1, 2, 3)
    buckets = [Due(world.keys, FAR), Due(world.other, FAR)] * 2
    call = calls.call_collapse(buckets, recount=False)
    [reply] = world.tracker.backend.execute([call])
    first, second, third, fourth = answers(reply, 4)
    for broken in (first, third):
        with pytest.raises(BackendDataError, match="WRONGTYPE"):
            answer(broken)
    assert answer(second) == (b"COUNTED", [3])
    assert answer(fourth) == (b"DONE", [b"3"])


@pytest.mark.parametrize("stamp", [1, 2**31, 10**15 + 1, 1_700_000_000_123_457, 2**53 - 1])
def test_stamps_keep_every_digit(world, stamp):
    for sign in (-1, 1):
        world.client.delete(*world.keys)
        assert world.write(moves=[(b"x", sign * stamp)]) == b"OK"
        assert world.client.zscore(world.keys.moves, "x") == sign * stamp
        assert world.state() == (1, int(sign < 0), stamp)


def test_an_error_of_the_server_is_the_answer_of_each_bucket():
    error = translated(OSError("it is away"))
    assert answers(error, 3) == [error] * 3
    with pytest.raises(type(error)):
        answer(error)
    with pytest.raises(BackendDataError, match="a list, it seems"):
        answer([b"BROKEN", b"a list, it seems"])
    assert answer([b"OK", 1, 2]) == (b"OK", [1, 2])


@pytest.mark.parametrize(
    ("at", "gives_way"),
    [(4_102_444_800, True), (calls.AWAITED_FROM + 1, True), (calls.AWAITED_FROM - 86_400, False)],
)
def test_only_an_expiry_that_stands_for_a_wait_gives_way_to_another(world, at, gives_way):
    assert calls.AWAITED_FROM < calls.AWAITED
    world.client.pfadd(world.keys.hll, 1)
    world.client.expireat(world.keys.hll, at)
    assert world.expire("4000000000") == b"OK"
    assert world.client.expiretime(world.keys.hll) == (4_000_000_000 if gives_way else at)
