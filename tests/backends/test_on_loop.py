"""A backend by which threads use the client of an event loop, without a server."""

import asyncio

import pytest

from activity_tracker_hll import BackendConnectionError
from activity_tracker_hll.backends.async_base import AsyncBaseBackend
from helpers.errors import raises


class Answering(AsyncBaseBackend):
    """Answers by what it was asked for; or raises."""

    def __init__(self, error=None):
        super().__init__()
        self.error = error

    async def execute(self, commands, shard=0):
        if self.error:
            raise self.error
        return [("executed", *commands, shard)]

    async def read(self, commands, shard=0):
        return [("read", *commands, shard)]

    async def close(self):
        pass


def in_a_thread(backend, call):
    async def run():
        return await asyncio.wait_for(asyncio.to_thread(call, backend.blocking()), 10)

    return asyncio.run(run())


def test_who_reads_reads():
    """As replicas may be asked for that."""
    assert in_a_thread(Answering(), lambda backend: backend.read(["GET"], 2)) == [("read", "GET", 2)]
    assert in_a_thread(Answering(), lambda backend: backend.execute(["GET"], 2)) == [("executed", "GET", 2)]


def test_a_backend_s_own_timeout_is_raised():
    error = TimeoutError("of the backend")
    with pytest.raises(TimeoutError, match="of the backend"):
        in_a_thread(Answering(error), lambda backend: backend.execute(["GET"]))


def test_a_loop_that_has_ended():
    async def made():
        return Answering().blocking()

    backend = asyncio.run(made())
    for call in (backend.execute, backend.read):
        with raises(BackendConnectionError, "event loop of the client does not run"):
            call(["GET"])
