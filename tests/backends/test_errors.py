"""What the errors of clients and servers mean."""

import pytest
import redis
import redis.asyncio.retry

from activity_tracker_hll import (
    BackendAuthError,
    BackendConnectionError,
    BackendDataError,
    BackendError,
    BackendResponseError,
    BackendTimeoutError,
)
from activity_tracker_hll.backends.redis import RedisBackend, translated


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("WRONGTYPE Operation against a key holding the wrong kind of value", BackendDataError),
        ("INVALIDOBJ Corrupted HLL object detected", BackendDataError),
        ("WRONGTYPE Operation against a key script: 4a59, on @user_script:1.", BackendDataError),
        # Redis 6.2, of a command in a script; the client takes the code ERR away
        ("Error running script (call to f_4a59): @user_script:12: WRONGTYPE Operation", BackendDataError),
        ("ERR Error running script (call to f_4a59): @user_script:1: INVALIDOBJ Corrupted", BackendDataError),
        ("Error running script (call to f_4a59): @user_script:?: WRONGTYPE of fakeredis", BackendDataError),
        ("Error running script (call to f_4a59): @user_script:3: NOPERM this user", BackendAuthError),
        ("Error running script (call to f_4a59): @user_script:3: OOM command not", BackendResponseError),
        ("Error running script (call to f_4a59): @user_script:3: no WRONGTYPE", BackendResponseError),
        ("MISCONF Redis is configured to save RDB snapshots, WRONGTYPE", BackendResponseError),
        ("BUSY Redis is busy running a script", BackendResponseError),
        ("no INVALIDOBJ or corrupt thing", BackendResponseError),
        ("", BackendResponseError),
    ],
)
def test_codes_tell_what_stays_from_what_passes(reply, expected):
    error = translated(redis.ResponseError(reply))
    assert type(error) is expected
    assert isinstance(error.__cause__, redis.ResponseError)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("OutOfMemoryError", BackendResponseError),
        ("ReadOnlyError", BackendResponseError),
        ("TryAgainError", BackendResponseError),
        ("ClusterDownError", BackendResponseError),
        ("BusyLoadingError", BackendConnectionError),
        ("ConnectionError", BackendConnectionError),
        ("TimeoutError", BackendTimeoutError),
        ("AuthenticationError", BackendAuthError),
        ("NoPermissionError", BackendAuthError),
        ("RedisClusterException", BackendError),
    ],
)
def test_classes_of_clients(name, expected):
    assert type(translated(getattr(redis.exceptions, name)("WRONGTYPE or so"))) is expected


def test_what_a_key_holds_is_named(server):
    client, backend = server.client, RedisBackend(**server.options)
    client.rpush("list", "x")
    client.set("text", "x")
    commands = [
        ("PFADD", "list", "x"),
        ("GET", "text"),
        ("EVAL", "return redis.call('LPUSH', KEYS[1], 'x')", 1, "text"),
    ]
    if server.name != "fakeredis":  # keeps no sketches
        client.pfadd("sketch", "x")
        client.setrange("sketch", 16, b"\xff" * 3)
        commands += [
            ("PFCOUNT", "text"),
            ("PFCOUNT", "sketch"),
            ("EVAL", "return redis.call('PFCOUNT', KEYS[1])", 1, "sketch"),
        ]
    replies = backend.execute(commands)
    assert replies.pop(1) == b"x"
    assert [type(reply) for reply in replies] == [BackendDataError] * len(replies)
