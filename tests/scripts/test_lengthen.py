"""Of all lengths that clients are given, the longest is stored, in whatever order they come."""

import itertools

import pytest

from activity_tracker_hll import BackendDataError
from activity_tracker_hll.operations.settings import DataSettings
from activity_tracker_hll.scripts.calls import answer, call_lengthen

DAILY = "keep_sketches:daily"
LENGTHS = ("0", "5356800", "31622400", "99999999999", "forever")


@pytest.mark.parametrize("stored", [None, *LENGTHS])
def test_the_longest_is_stored_in_whatever_order(server, stored):
    backend = server.tracker().backend
    for given in itertools.permutations(LENGTHS, 2):
        server.client.delete("settings")
        if stored is not None:
            server.client.hset("settings", DAILY, stored)
        for length in given:
            [reply] = backend.execute([call_lengthen("settings", {DAILY: length, "other": length})])
            assert answer(reply) == (b"OK", [])
        kept = max(LENGTHS.index(length) for length in (*given, stored) if length is not None)
        assert server.client.hget("settings", DAILY) == LENGTHS[kept].encode()
        assert server.client.hget("settings", "other") == LENGTHS[max(map(LENGTHS.index, given))].encode()


@pytest.mark.parametrize("stored", ["", "soon", "-", "\x1b"])
def test_what_makes_no_sense_stands_for_ever(server, stored):
    server.client.hset("settings", DAILY, stored)
    server.tracker().backend.execute([call_lengthen("settings", {DAILY: "5356800"})])
    assert server.client.hget("settings", DAILY) == stored.encode()
    assert DataSettings.read("settings", {DAILY: stored}).keep_sketches == {"daily": None}


def test_a_key_of_another_type(real_server):
    real_server.client.set("settings", "x")
    [reply] = real_server.tracker().backend.execute([call_lengthen("settings", {DAILY: "5"})])
    with pytest.raises(BackendDataError, match="WRONGTYPE"):
        answer(reply)
