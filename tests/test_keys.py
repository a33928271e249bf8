import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from activity_tracker_hll.errors import ArgumentTypeError, ArgumentValueError
from activity_tracker_hll.keys import Found, Keys, check_bucket
from activity_tracker_hll.periods import Calendar
from activity_tracker_hll.scripts import calls
from helpers.moments import YESTERDAY

bucket_names = st.text(
    st.characters(blacklist_categories=("Cc", "Cs"), blacklist_characters="{}"), min_size=1, max_size=50
).filter(lambda name: name != "raw" and not name.startswith("raw:"))
buckets = st.none() | bucket_names
periods = st.sampled_from(["daily-20261123", "hourly-2026112315", "quarterly-2026Q4"])


def test_the_keys_of_the_layout():
    keys = Keys().bucket("daily-20261123", "anon")
    assert keys.counted == "active:daily-20261123:anon"
    assert keys.stderr == "{active:daily-20261123:anon}:stderr"
    assert keys.hll == "{active:daily-20261123:anon}:hll"
    assert keys.moved == "{active:daily-20261123:anon}:moved"
    assert keys.moves == "{active:daily-20261123:anon}:moves"
    assert keys.raw == "active:daily-20261123:raw:anon"
    unnamed = Keys().bucket("monthly-202611", None)
    assert unnamed.counted == "active:monthly-202611"
    assert unnamed.stderr == "{active:monthly-202611}:stderr"
    assert unnamed.hll == "{active:monthly-202611}:hll"
    assert unnamed.raw == "active:monthly-202611:raw"
    assert Keys().counts("daily-20261123", ["anon", None]) == [
        "active:daily-20261123:anon",
        "active:daily-20261123",
    ]
    assert (Keys("shop").meta, Keys("shop").open) == ("shop:{meta}", "shop:{open}")


@given(periods, buckets, st.sampled_from(["active", "a:b", "ä*?"]))
def test_every_key_is_parsed_back(period, bucket, namespace):
    keys = Keys(namespace)
    built = keys.bucket(period, bucket)._asdict()
    built["count"] = built.pop("counted")
    assert keys.parse(built.pop("announced")) is None  # it is temporary
    for part, key in built.items():
        assert keys.parse(key) == Found(part, period, bucket)
        assert keys.owns(key)
    assert keys.counts(period, [bucket]) == [built["count"]]
    assert keys.counts_and_sketches([period], [bucket]) == [built["count"], built["hll"]]
    assert keys.stderrs([built["count"]]) == [built["stderr"]]
    assert keys.parse(keys.temporary(period, bucket, "x")) is None
    for key in (keys.temporary(period, bucket, "x"), keys.meta, keys.open):
        assert keys.owns(key)
    for key in built.values():
        assert not Keys("other").owns(key)
        assert Keys("other").parse(key) is None


@pytest.mark.parametrize(
    "key",
    [
        *("", "{", "}", "{}", "active", "active:", "{active:", "{active:daily-20261123"),
        *(f"{{active:daily-20261123}}{rest}" for rest in ("", ":", ":out", ":hll:x", "x:hll")),
        *("active:{daily-20261123}:hll", "active:{meta}", "active:{open}", "active:{meta}:tmp:1"),
        "x{active:daily-20261123}:hll",
    ],
)
def test_what_is_no_key_of_a_bucket_is_about_no_period(key):
    """Keys of the older layout, and those of the settings, among them."""
    found = Keys().parse(key)
    assert found is None or Calendar().parse(found.period) is None


@given(st.tuples(periods, buckets), st.tuples(periods, buckets))
def test_no_two_buckets_share_a_key(one, other):
    mine, theirs = Keys().bucket(*one), Keys().bucket(*other)
    assert (one == other) == bool(set(mine) & set(theirs))


def test_colons_never_collide():
    assert not set(Keys().bucket("daily-20261123", "a:b")) & set(Keys().bucket("daily-20261123", "a"))
    assert Keys().parse("other:daily-20261123") is None


@pytest.mark.parametrize(
    ("bucket", "error"),
    [
        ("", ArgumentValueError),
        ("x" * 201, ArgumentValueError),
        ("ü" * 101, ArgumentValueError),
        ("a\nb", ArgumentValueError),
        ("a\x00b", ArgumentValueError),
        ("a\x85b", ArgumentValueError),
        ("a{b", ArgumentValueError),
        ("a}b", ArgumentValueError),
        ("raw", ArgumentValueError),
        ("raw:x", ArgumentValueError),
        ("\ud800", ArgumentValueError),
        (7, ArgumentTypeError),
        (b"x", ArgumentTypeError),
        (["x"], ArgumentTypeError),
    ],
)
def test_bad_buckets(bucket, error):
    with pytest.raises(error, match="bucket"):
        check_bucket(bucket)


@pytest.mark.parametrize("bucket", [None, "a", "a:b", "ü" * 100, "rawest", "with space", "日本"])
def test_good_buckets(bucket):
    assert check_bucket(bucket) == bucket


# Letters of all alphabets, emoji, quotes, invisible characters, and what other formats mean something by.
LETTERS = "äßøéñçłžğşđőαβжыקأ日本語한국어ไทยहिन्दी🎉👩‍💻🇩🇪\u200b\u00a0\u3000\ufeff\ufffd"
ODD = [*set(string.printable[:95] + LETTERS) - set("{}"), "e\u0301", "::", "raw"]
NAMES = {
    *("raw2", "rawer:x", "x:raw", ":raw", ":", "::", "a:b", "a:b:c", "'", '"', "*", "?", "[a]", "\\"),
    *("tmp", "tmp:unite", "hll", ":hll", "x:hll", "x:moved", "moves", "meta", "open", "count", "None", "0"),
    *("daily-20261123", "%7B%7D", "$(id)", "../.."),
    *(" ", "raw 2", "a b\u3000c", "x" * 200, "ü" * 100, "日" * 66, "🎉" * 50, "." * 200),
}


def odd_names(count):
    """Names that people could give their buckets, those above among them."""
    source = random.Random(7)
    names, pool = set(NAMES), sorted(ODD)
    while len(names) < count:
        name = "".join(source.choices(pool, k=source.randrange(1, 40)))
        while len(name.encode()) > 200:
            name = name[:-1]
        if name != "raw" and not name.startswith("raw:"):
            names.add(name)
    return sorted(names)


def test_all_keys_of_a_bucket_and_period_share_one_slot():
    """And the count's own, which has no tag; so a script that writes to all of them runs on a cluster."""
    source = random.Random(11)
    kinds = ["hourly-2026112315", "daily-20261123", "weekly-20261123", "monthly-202611", "quarterly-2026Q4"]
    names = odd_names(10_000)
    assert len(names) == 10_000
    slots = set()
    for bucket in (None, *names):
        period = source.choice([*kinds, "yearly-2026"])
        namespace = source.choice(["active", "a:b", "ä*?", "active:daily-20261123"])
        check_bucket(bucket)
        keys = Keys(namespace).bucket(period, bucket)
        temporary = Keys(namespace).temporary(period, bucket, "unite")
        [slot] = {key_slot(key.encode()) for key in (*keys[:5], temporary)}
        assert slot == key_slot(keys.counted.encode())
        slots.add(slot)
        for call in (
            calls.call_unite(keys, temporary, b""),
            calls.call_write(keys, 5),
            calls.call_collapse([calls.Due(keys, "keep")], recount=False),
            calls.call_store([calls.Count(keys, calls.Readings(1, 1, 1, b"", b""), 1, "", "keep")]),
            calls.call_aggregate(keys, temporary, [], b"", "keep"),
            calls.call_store_union(keys, b"", 1, "", b"", "keep"),
            calls.call_expire(keys, "keep"),
        ):
            assert {key_slot(key.encode()) for key in call[3 : 3 + int(call[2])]} == {slot}
    assert len(slots) > 6000  # of 16,384: buckets are spread


def test_whatever_a_bucket_is_called_all_that_it_leaves_is_found_by_its_name(real_server):
    names = odd_names(120)[::2]
    tracker = real_server.tracker(buckets=names, aggregate_buckets={"all of them": names})
    tracker.import_events([(1, name, YESTERDAY) for name in names])
    for name in names:
        tracker.track(id=2, bucket=name, old_id=1, old_bucket=name, date=YESTERDAY)
    tracker.collapse()
    built = {
        key
        for name in (*names, "all of them")
        for key in tracker.backend.keys.bucket(f"daily-{YESTERDAY:%Y%m%d}", name)
    }
    assert set(real_server.names()) <= built
    assert {entry.bucket for entry in tracker.inventory()} == {*names, "all of them"}
    [(_, counts)] = tracker.lookup(start=YESTERDAY, buckets=[*names, "all of them"])
    assert set(counts.values()) == {1}
