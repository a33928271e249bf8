import pytest
from hypothesis import given
from hypothesis import strategies as st

from activity_tracker_hll.errors import ArgumentTypeError, ArgumentValueError
from activity_tracker_hll.keys import Found, Keys, check_bucket

bucket_names = st.text(
    st.characters(blacklist_categories=("Cc", "Cs"), blacklist_characters="{}"), min_size=1, max_size=50
).filter(lambda name: name != "raw" and not name.startswith("raw:"))
buckets = st.none() | bucket_names
periods = st.sampled_from(["daily-20261123", "hourly-2026112315", "quarterly-2026Q4"])


def test_the_keys_of_the_layout():
    keys = Keys().bucket("daily-20261123", "anon")
    assert keys.counted == "active:daily-20261123:anon"
    assert keys.hll == "active:{daily-20261123:anon}:hll"
    assert keys.moved == "active:{daily-20261123:anon}:moved"
    assert keys.out == "active:{daily-20261123:anon}:out"
    assert keys.back == "active:{daily-20261123:anon}:back"
    assert keys.raw == "active:daily-20261123:raw:anon"
    unnamed = Keys().bucket("monthly-202611", None)
    assert unnamed[:2] == ("active:monthly-202611", "active:{monthly-202611}:hll")
    assert unnamed.raw == "active:monthly-202611:raw"
    assert Keys().stderr("daily-20261123") == "active:{daily-20261123}:stderr"
    assert Keys("shop").meta == "shop:{meta}"


@given(periods, buckets, st.sampled_from(["active", "a:b", "ä*?"]))
def test_every_key_is_parsed_back(period, bucket, namespace):
    keys = Keys(namespace)
    built = keys.bucket(period, bucket)._asdict()
    built["count"] = built.pop("counted")
    for part, key in built.items():
        assert keys.parse(key) == Found(part, period, bucket)
    assert keys.parse(keys.stderr(period)) == Found("stderr", period, None)
    assert keys.parse(keys.temporary(period, bucket, "x")) is None


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
