"""The tracker for asyncio: the same calls, the same results, and what only asyncio can do to it."""

import asyncio
import gc
import inspect
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import fakeredis
import numpy as np
import pytest
import redis.asyncio

from activity_tracker_hll import (
    ActivityTracker,
    ArgumentTypeError,
    ArgumentValueError,
    BackendConnectionError,
    BackendTimeoutError,
    BufferedTracker,
    Imported,
    SettingsMismatchError,
    WriterClosedError,
)
from activity_tracker_hll.aio import AsyncActivityTracker, AsyncBufferedTracker
from activity_tracker_hll.backends.async_redis import AsyncRedisBackend
from activity_tracker_hll.columns import EventColumns
from activity_tracker_hll.operations.tracking.gathered import Gathered
from helpers.errors import raises
from helpers.faults import CUT_REPLY, FORWARD, HOLD, LOSE_REPLY, Proxy
from helpers.moments import NOON, TODAY, YESTERDAY
from helpers.servers import eventually, free_port

FAST = 0.02


def options_of(server):
    if server.name == "fakeredis":
        client = fakeredis.FakeAsyncRedis(host=server.client.connection_pool.connection_kwargs["host"])
        return {"client": client}
    return server.options


def async_tracker(server, periods=("daily",), **options):
    settings = {"timezone": "UTC", "clock": lambda: NOON, **options_of(server), **options}
    return AsyncActivityTracker(periods, **settings)


def public(cls):
    return {
        name: value
        for name in dir(cls)
        if not name.startswith("_") and callable(value := inspect.getattr_static(cls, name))
    }


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(AsyncActivityTracker, ActivityTracker), (AsyncBufferedTracker, BufferedTracker)],
    ids=["tracker", "writer"],
)
def test_the_calls_have_the_same_names_and_signatures(ours, theirs):
    ours, theirs = public(ours), public(theirs)
    assert ours.keys() == theirs.keys()
    assert len(ours) > 8
    for name, call in ours.items():
        mine, other = (dict(inspect.signature(each).parameters) for each in (call, theirs[name]))
        if name == "import_events":  # of one kind more
            other["events"] = other["events"].replace(annotation=mine["events"].annotation)
        assert mine == other, name


def test_the_constructors_have_the_same_signature():
    assert inspect.signature(AsyncActivityTracker) == inspect.signature(ActivityTracker)


@pytest.mark.parametrize("name", [name for name in public(AsyncActivityTracker) if name != "buffered"])
def test_every_call_but_buffered_is_awaited(name):
    tracker = AsyncActivityTracker(["daily"], client=fakeredis.FakeAsyncRedis())
    bound = inspect.signature(getattr(tracker, name)).parameters
    arguments = {"ids": [1]} if "ids" in bound else {"events": []} if "events" in bound else {}
    if name.startswith("track") and "ids" not in bound:
        arguments = {"id": 1}
    made = getattr(tracker, name)(**arguments)
    assert inspect.iscoroutine(made)
    made.close()


async def awaited(events):
    for number, event in enumerate(events):
        if number % 1000 == 0:
            await asyncio.sleep(0)
        yield event


def test_events_that_are_awaited(server):
    """Of any number, mixed with columns; and the data are those of a list."""
    rows = [(f"i{n}", ("x", "y")[n % 2], YESTERDAY) for n in range(70_000)]
    columns = EventColumns(np.arange(5000), "x", YESTERDAY)
    server.tracker().import_events([*rows, *columns.rows()])
    wanted = server.tracker().lookup(start=YESTERDAY, end=TODAY, buckets=["x", "y"])
    server.client.flushall()
    sent = []

    async def main():
        async with async_tracker(server) as tracker:
            events = awaited([*rows[:5], columns, *rows[5:]])
            done = await tracker.import_events(events, progress=sent.append)
            assert done == Imported(75_000, 0)
            assert await tracker.import_events(awaited([])) == Imported(0, 0)
            with raises(ArgumentTypeError, "id_column is for events in a table, got <async_generator>"):
                await tracker.import_events(awaited(rows), id_column="id")
            return await tracker.lookup(start=YESTERDAY, end=TODAY, buckets=["x", "y"])

    assert asyncio.run(main()) == wanted
    assert sent[-1] == 75_000


def test_what_was_awaited_is_sent_while_the_events_pause(server):
    async def main():
        async with async_tracker(server, clock=time.time) as tracker:
            ended = []

            async def events():
                try:
                    for number in range(100):
                        yield (number, "x", YESTERDAY)
                    await asyncio.sleep(3600)
                finally:
                    ended.append(True)

            task = asyncio.create_task(tracker.import_events(events()))
            count = 0
            while count < 95:
                await asyncio.sleep(0.02)
                [row] = await tracker.lookup(start=YESTERDAY, end=TODAY, buckets=["x"]) or [(0, {"x": 0})]
                count = row[1]["x"]
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert ended

    asyncio.run(asyncio.wait_for(main(), 60))


def test_columns_that_are_awaited_are_pushed_as_seldom_as_others(server, monkeypatch):
    parts = [EventColumns(np.arange(n, n + 500), "x", YESTERDAY) for n in range(0, 20_000, 500)]
    pushes = []
    push = Gathered.push
    monkeypatch.setattr(Gathered, "push", lambda gathered: pushes.append(1) or push(gathered))

    async def main():
        async with async_tracker(server) as tracker:
            assert await tracker.import_events(awaited(parts)) == Imported(20_000, 0)

    asyncio.run(main())
    assert len(pushes) <= 2


@pytest.mark.parametrize("where", [0, 3, 5000])
@pytest.mark.parametrize("bad", [None, 7, (None, "x", YESTERDAY), ValueError("of theirs")])
def test_a_bad_event_that_is_awaited_is_named_and_those_before_it_count(server, where, bad):
    rows = [(n, "x", YESTERDAY) for n in range(where)]

    async def events():
        async for row in awaited(rows):
            yield row
        if isinstance(bad, Exception):
            raise bad
        yield bad
        yield ("never", "x", YESTERDAY)

    async def main():
        async with async_tracker(server) as tracker:
            if isinstance(bad, Exception):
                with pytest.raises(ValueError, match="of theirs") as caught:
                    await tracker.import_events(events())
                assert caught.value is bad
            else:
                with pytest.raises(ArgumentTypeError, match=rf"^events\[{where}\] "):
                    await tracker.import_events(events())
            return await tracker.lookup(start=YESTERDAY, end=TODAY, buckets=["x"])

    [row] = asyncio.run(main()) or [(None, {"x": 0})]
    assert row[1]["x"] == pytest.approx(where, rel=0.05)


@pytest.mark.parametrize("kind", ["generator", "asynchronous generator"])
@pytest.mark.parametrize("how", ["cancel", "wait_for", "timeout"])
def test_an_import_can_be_cancelled(real_server, kind, how):
    """Also where the client's own wait, amid work of the processor, has just ended."""
    stop = time.monotonic() + 20

    def endless():
        while time.monotonic() < stop:
            yield ("i", "x", YESTERDAY)

    async def main():
        async with async_tracker(real_server) as tracker:
            await tracker.track(id=1)
            events = endless() if kind == "generator" else awaited(endless())
            importing = tracker.import_events(events)
            if how == "cancel":
                task = asyncio.create_task(importing)
                await asyncio.sleep(0.1)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            elif how == "wait_for":
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(importing, 0.1)
            else:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await importing
            await tracker.track(id=2)

    asyncio.run(main())
    assert time.monotonic() < stop


def test_the_same_as_the_other_tracker(server):
    def events(name):
        return [(f"{name}-{n}", ("x", None)[n % 2], YESTERDAY) for n in range(300)]

    plain = server.tracker(["daily", "monthly"], namespace="plain")
    plain.track(id=1, bucket="x")
    plain.track(id=2, bucket="y", old_id=1, old_bucket="x", date=YESTERDAY)
    plain.track_many(range(100), bucket="x", date=YESTERDAY)
    plain.track_daily(id="d", bucket="y", date=YESTERDAY)
    plain_imported = plain.import_events(events("i"))
    options = {"buckets": ["x", "y", None], "aggregate_buckets": {"all": ["x", "y", None]}}
    plain_collapsed = plain.collapse(["daily"], **options)
    plain_rows = plain.lookup("daily", start=YESTERDAY, buckets=["x", "y", "all"], live=True)

    async def main():
        async with async_tracker(server, ["daily", "monthly"]) as tracker:
            await tracker.track(id=1, bucket="x")
            await tracker.track(id=2, bucket="y", old_id=1, old_bucket="x", date=YESTERDAY)
            await tracker.track_many(range(100), bucket="x", date=YESTERDAY)
            await tracker.track_daily(id="d", bucket="y", date=YESTERDAY)
            assert await tracker.import_events(events("i")) == plain_imported
            assert await tracker.collapse(["daily"], **options) == plain_collapsed
            rows = await tracker.lookup("daily", start=YESTERDAY, buckets=["x", "y", "all"], live=True)
            assert rows == plain_rows
            assert await tracker.lookup_daily(start=YESTERDAY, buckets=["x"]) == plain.lookup_daily(
                start=YESTERDAY, buckets=["x"]
            )
            assert len(await tracker.inventory()) == len(plain.inventory())

    asyncio.run(main())


def test_what_everybody_left_is_counted_once_and_a_skipped_hour_is_none(server):
    options = {"buckets": ["a", "b"], "aggregate_buckets": {"t": ["a", "b"]}, "keep_sketches": None}
    skipped = datetime(2026, 3, 29, 2), datetime(2026, 3, 29, 3)

    async def main():
        async with async_tracker(server, ["daily", "hourly"], timezone="Europe/Berlin", **options) as tracker:
            await tracker.track(id=1, bucket="a", date=skipped[0])
            await tracker.track(id=1, bucket="b", old_id=1, old_bucket="a", date=skipped[1])
            assert {(each.bucket, each.count) for each in await tracker.collapse(["daily"])} == {
                ("a", 0),
                ("b", 1),
                ("t", 1),
            }
            assert await tracker.collapse(["daily"]) == []
            with raises(ArgumentValueError, "no whole hourly period"):
                await tracker.unique(*skipped, buckets=["b"])

    asyncio.run(main())


def test_many_calls_at_once(real_server):
    async def main():
        async with async_tracker(real_server) as tracker:
            await asyncio.gather(*(tracker.track(id=n) for n in range(200)))
            [(_, counts)] = await tracker.lookup(start=TODAY, live=True)
            plain = real_server.tracker(namespace="plain")
            plain.track_many(range(200))
            assert counts == plain.lookup(start=TODAY, live=True)[0][1]

    asyncio.run(main())


def test_the_embedded_backend(tmp_path):
    async def main(path):
        async with AsyncActivityTracker(["daily"], "embedded", path=path, timezone="UTC") as tracker:
            await tracker.track(id="a")
            async with tracker.buffered(flush_interval=FAST) as writer:
                writer.track(id="b")
            [*_, (_, counts)] = await tracker.lookup(live=True, start=TODAY)
            assert counts == {None: 2}

    asyncio.run(main(tmp_path))
    with ActivityTracker(["daily"], "embedded", path=tmp_path, timezone="UTC") as tracker:
        assert tracker.lookup(live=True, start=TODAY)[-1][1] == {None: 2}
    asyncio.run(main(None))


def test_bad_input_is_reported_by_name():
    async def main():
        async with AsyncActivityTracker(["daily"], client=fakeredis.FakeAsyncRedis()) as tracker:
            with raises(ArgumentTypeError, "id", "None"):
                await tracker.track()
            with raises(ArgumentValueError, "bucket"):
                await tracker.track(id=1, bucket="{")
            with raises(ArgumentTypeError, "ids"):
                await tracker.track_many("abc")
            with raises(ArgumentValueError, "max_periods"):
                await tracker.collapse(max_periods=0)
            with raises(ArgumentValueError, "flush_interval"):
                tracker.buffered(flush_interval=0)
            with raises(ArgumentTypeError, "on_error"):
                tracker.buffered(on_error=1)

    asyncio.run(main())
    with raises(ArgumentTypeError, "client", "asyncio"):
        AsyncActivityTracker(["daily"], client=fakeredis.FakeRedis())
    with raises(ArgumentTypeError, "AsyncBaseBackend"):
        AsyncActivityTracker(["daily"], "activity_tracker_hll.backends.redis.RedisBackend")
    with raises(ArgumentTypeError, "BaseBackend"):
        ActivityTracker(["daily"], AsyncRedisBackend())


def test_no_server():
    async def main():
        options = {"port": free_port(), "retries": 0, "socket_timeout": 1.0}
        async with AsyncActivityTracker(["daily"], **options) as tracker:
            with pytest.raises(BackendConnectionError) as caught:
                await tracker.track(id=1)
            assert caught.value.__cause__ is not None

    asyncio.run(main())


def test_settings_that_differ_are_refused(server):
    server.tracker().track(id=1)

    async def main():
        async with async_tracker(server, secret="other") as tracker:
            with raises(SettingsMismatchError, "secret"):
                await tracker.track(id=1)

    asyncio.run(main())


def test_one_tracker_in_one_loop_after_the_other(real_server):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # connections that nobody closed in their loop
        tracker = async_tracker(real_server)
        for n in range(3):
            asyncio.run(tracker.track(id=n))
        assert asyncio.run(tracker.lookup(live=True, start=TODAY))[0][1] == {None: 3}
        asyncio.run(tracker.close())
        gc.collect()


# Faults


def test_replies_that_are_lost_or_cut_are_asked_for_again(real_server, tmp_path):
    what = iter([FORWARD] * 5 + [LOSE_REPLY, FORWARD, CUT_REPLY])

    async def main():
        options = {"unix_socket_path": proxy.path, "timezone": "UTC", "clock": lambda: NOON}
        async with AsyncActivityTracker(["daily"], **options) as tracker:
            for n in range(20):
                await tracker.track(id=n, bucket="b", old_id=n, old_bucket="a")
            [(_, counts)] = await tracker.lookup(live=True, start=TODAY, buckets=["a", "b"])
            assert counts == {"a": 0, "b": 20}

    path = real_server.options["unix_socket_path"]
    with Proxy(tmp_path / "p", path, lambda _n, _c: next(what, FORWARD)) as proxy:
        asyncio.run(main())
    assert next(what, None) is None


def test_a_server_that_does_not_answer(real_server, tmp_path):
    async def main():
        options = {"unix_socket_path": proxy.path, "retries": 0, "socket_timeout": 0.2}
        async with AsyncActivityTracker(["daily"], **options) as tracker:
            with pytest.raises(BackendTimeoutError):
                await tracker.track(id=1)

    with Proxy(
        tmp_path / "p",
        real_server.options["unix_socket_path"],
        lambda _n, c: HOLD if c[0] == b"HSCAN" else FORWARD,
    ) as proxy:
        asyncio.run(main())


@pytest.mark.parametrize("most", [None, 1], ids=["pool", "blocking pool of one"])
def test_cancelled_anywhere(real_server, tmp_path, most):
    """A call is cancelled at each of its commands; what comes after it reads its own replies."""

    async def main():
        reached = asyncio.Event()
        loop = asyncio.get_running_loop()
        at = 0

        def decide(number, _command):
            if number == at:
                loop.call_soon_threadsafe(reached.set)
                return HOLD
            return FORWARD

        pool = None
        for stop in range(12):
            at = stop
            reached.clear()
            with Proxy(tmp_path / f"p{stop}", real_server.options["unix_socket_path"], decide) as proxy:
                if most is None:
                    options = {"unix_socket_path": proxy.path}
                else:
                    pool = redis.asyncio.BlockingConnectionPool(
                        connection_class=redis.asyncio.UnixDomainSocketConnection,
                        max_connections=most,
                        timeout=5,
                        path=proxy.path,
                    )
                    options = {"client": redis.asyncio.Redis(connection_pool=pool)}
                tracker = AsyncActivityTracker(["daily"], timezone="UTC", clock=lambda: NOON, **options)

                async def work(tracker=tracker):
                    for n in range(3):
                        await tracker.track(id=n, bucket="b", old_id=n, old_bucket="a")
                    return await tracker.lookup(live=True, start=TODAY, buckets=["a", "b"])

                task = asyncio.ensure_future(work())
                await asyncio.wait(
                    {task, asyncio.ensure_future(reached.wait())}, return_when="FIRST_COMPLETED"
                )
                if task.done():
                    break
                task.cancel()
                await asyncio.sleep(0)
                task.cancel()  # and again, while it cleans up
                with pytest.raises(asyncio.CancelledError):
                    await task
                [(_, counts)] = await work()
                assert counts == {"a": 0, "b": 3}
                await tracker.close()
                if pool is not None:
                    await pool.disconnect()
        assert stop > 5

    asyncio.run(main())


# The writer


def test_the_writer(server):
    async def main():
        async with async_tracker(server, ["daily", "monthly"]) as tracker:
            async with tracker.buffered(flush_interval=FAST) as writer:
                writer.track(id="a")
                await writer.track(id="b")
                await writer.track_many(["c", "d"], bucket="x")
                writer.track_daily(id="e")
                await writer.track(id="f", bucket="x", old_id="a")
                statistics = await writer.flush(20)
                assert statistics.pending == 0
                assert statistics.pushed == statistics.tracked == 2 * 4 + 1 + 4
                [(_, counts)] = await tracker.lookup("daily", live=True, start=TODAY, buckets=[None, "x"])
                assert counts == {None: 2, "x": 3}
                writer.track(id="g")
            [(_, counts)] = await tracker.lookup("daily", live=True, start=TODAY)
            assert counts == {None: 3}
            with pytest.raises(WriterClosedError):
                writer.track(id="h")

    asyncio.run(main())


def test_the_tracker_closes_its_writers(server, unhurried):
    async def main():
        tracker = async_tracker(server)
        writer = tracker.buffered(flush_interval=3600)
        writer.track(id=1)
        await tracker.close()
        assert writer.statistics.pushed == 1

    asyncio.run(main())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("activity-tracker-hll")]


def test_the_loop_runs_while_the_writer_waits(real_server, tmp_path):
    held = threading.Event()

    def decide(_number, _command):
        held.set()
        return HOLD

    async def main():
        options = {"unix_socket_path": proxy.path, "retries": 0, "socket_timeout": 30}
        tracker = AsyncActivityTracker(["daily"], **options)
        writer = tracker.buffered(flush_interval=FAST)
        writer.track(id=1)
        await asyncio.to_thread(held.wait, 20)
        closing = asyncio.ensure_future(writer.close(0.5))
        turns = 0
        while not closing.done():
            writer_is_closed = turns
            await asyncio.sleep(0.001)
            turns = writer_is_closed + 1
        assert turns > 20
        assert (await closing).pending == 1
        await tracker.close()

    with Proxy(tmp_path / "p", real_server.options["unix_socket_path"], decide) as proxy:
        asyncio.run(main())


def test_a_flush_that_is_cancelled_loses_nothing(real_server, unhurried):
    async def main():
        async with async_tracker(real_server) as tracker:
            writer = tracker.buffered(flush_interval=3600)
            for n in range(50):
                writer.track(id=n)
                flushing = asyncio.ensure_future(writer.flush())
                await asyncio.sleep(0)
                flushing.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await flushing
            assert (await writer.close()).pushed == 50

    asyncio.run(main())
    assert real_server.tracker().lookup(live=True, start=TODAY)[0][1] == {None: 50}


def test_a_body_that_is_cancelled_loses_nothing(real_server, unhurried):
    async def body():
        async with async_tracker(real_server) as tracker, tracker.buffered(flush_interval=3600) as writer:
            for n in range(50):
                writer.track(id=n)
            await asyncio.sleep(3600)

    async def main():
        task = asyncio.ensure_future(body())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert real_server.tracker().lookup(live=True, start=TODAY)[0][1] == {None: 50}


def test_an_executor_that_is_busy_or_gone_holds_up_no_writer(real_server, unhurried):
    """Nor one that is closed by somebody who is cancelled."""
    free = threading.Event()

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        loop.run_in_executor(None, free.wait)
        try:
            async with async_tracker(real_server) as tracker:
                cancelled, last = (tracker.buffered(flush_interval=3600) for _ in range(2))
                for n, writer in enumerate((cancelled, last)):
                    writer.track(id=n)
                    assert (await asyncio.wait_for(writer.flush(), 20)).pending == 0
                closing = asyncio.ensure_future(cancelled.close())
                await asyncio.sleep(0)
                closing.cancel()
                eventually(lambda: "closed" in repr(cancelled))
                free.set()
                await loop.shutdown_default_executor()
                assert (await last.close()).pushed == 1
        finally:
            free.set()

    asyncio.run(main())


def test_a_loop_that_is_busy_delays_no_push(real_server):
    async def main():
        async with async_tracker(real_server) as tracker, tracker.buffered(flush_interval=FAST) as writer:
            writer.track(id=1)
            until = time.monotonic() + 30
            while writer.statistics.pushed == 0 and time.monotonic() < until:
                time.sleep(0.01)  # noqa: ASYNC251 (that is the point)
            assert writer.statistics.pushed == 1

    asyncio.run(main())


def test_a_client_that_was_handed_in_is_shared(real_server, unhurried):
    async def main():
        client = redis.asyncio.Redis(**real_server.options, client_name="handed-in")
        async with AsyncActivityTracker(["daily"], client=client, timezone="UTC") as tracker:
            before = len(real_server.client.client_list())
            async with tracker.buffered(flush_interval=FAST) as writer:
                await asyncio.gather(*(tracker.track(id=n) for n in range(20)))
                await writer.track_many(range(20, 40))
                await writer.flush()
                there = [connection["name"] for connection in real_server.client.client_list()]
                assert there.count("handed-in") >= max(1, len(there) - before)
            [*_, (_, counts)] = await tracker.lookup(live=True, start=TODAY)
            assert counts == {None: 40}
            left = tracker.buffered(flush_interval=3600, close_timeout=2)
            left.track(id="left behind")
        assert left.statistics.pushed == 1
        lost = AsyncActivityTracker(["daily"], client=client, timezone="UTC").buffered(flush_interval=3600)
        lost.track(id="lost")
        await client.aclose()
        return lost

    lost = asyncio.run(main())
    statistics = lost.close_within(0.2)
    assert statistics.pending == 1
    assert isinstance(statistics.last_error, BackendConnectionError)
    with raises(ArgumentValueError, "coroutine"):
        AsyncActivityTracker(["daily"], client=redis.asyncio.Redis()).buffered()
