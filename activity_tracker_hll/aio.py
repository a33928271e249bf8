"""AsyncActivityTracker: the calls of ActivityTracker, awaited.

What is sent, and what replies mean, is the same code; here is only the waiting.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Generator, Iterable
from contextlib import aclosing
from functools import wraps
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, ParamSpec, Self, TypeVar, cast

from .awaiting import in_own_thread
from .backends.async_base import AsyncBaseBackend
from .base_tracker import BaseTracker
from .columns import EventColumns
from .ids import Id
from .operations import Access, DataSettings, Imported, Operation, awaited_batches, run, run_awaiting
from .periods import PeriodKind
from .shorthands import of_kind
from .tables import ArrowStream, TableLayout, is_table
from .tracker import ActivityTracker
from .writer import BaseWriter, BufferedTracker, Statistics

if TYPE_CHECKING:
    from .report import Report

__all__ = ["AsyncActivityTracker", "AsyncBufferedTracker"]

T = TypeVar("T")
P = ParamSpec("P")


def _awaited(
    call: Callable[Concatenate[ActivityTracker, P], T],
) -> Callable[Concatenate[AsyncActivityTracker, P], Coroutine[Any, Any, T]]:
    """The same call for asyncio: what it hands on is awaited where the other one waits."""

    @wraps(call)
    async def awaited(self: AsyncActivityTracker, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await cast("Any", call)(self, *args, **kwargs)  # type: ignore[no-any-return]

    return awaited


def _awaited_of_kind(
    kind: PeriodKind,
) -> Callable[
    [Callable[Concatenate[ActivityTracker, Any, P], T]],
    Callable[Concatenate[AsyncActivityTracker, P], Coroutine[Any, Any, T]],
]:
    """A shorthand, see :func:`.of_kind`, for asyncio. In one step, else pyright takes no overloads."""

    def shorten(
        call: Callable[Concatenate[ActivityTracker, Any, P], T],
    ) -> Callable[Concatenate[AsyncActivityTracker, P], Coroutine[Any, Any, T]]:
        return _awaited(of_kind(kind)(call))

    return shorten


class _Done:
    """What need not be awaited, and may be."""

    def __await__(self) -> Generator[None, None, None]:
        yield from ()


_DONE = _Done()


def _awaitable(
    call: Callable[Concatenate[BufferedTracker, P], None],
) -> Callable[Concatenate[AsyncBufferedTracker, P], Awaitable[None]]:
    """A call that returns at once, made awaitable so that it reads as its unbuffered sister."""

    @wraps(call)
    def awaitable(self: AsyncBufferedTracker, /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[None]:
        cast("Any", call)(self, *args, **kwargs)
        return _DONE

    return awaitable


class AsyncActivityTracker(BaseTracker[AsyncBaseBackend]):
    """:class:`.ActivityTracker` for asyncio: the same arguments, the same calls, awaited.

    An operation that is cancelled may have been done, in part or in whole; whatever it is, doing it again
    changes nothing twice. Connections stay sound.

    Args:
        periods: kinds of period to count by, such as ``["daily", "monthly"]``; the default of
            track() and collapse().
        backend: ``"redis"``, ``"embedded"``, ``"package.module.Class"``, or an instance of a backend for
            asyncio.
        buckets: default buckets of collapse() and lookup(); None = the one unnamed bucket.
        aggregate_buckets: default aggregates of collapse(), such as
            ``{"total": ["site1", "site2"]}``. They are stored with the data, so that all who collapse know
            them.
        timezone: IANA name or tzinfo that days begin by; None = as the data have it, and the machine's local
            time where there are none.
        week_start: 0 = Monday ... 6 = Sunday; None = as the data have it, and Monday where there are none.
        clock: seconds since the epoch; for tests.

    Any other keyword argument is passed to the backend's constructor.

    Raises:
        ArgumentTypeError, ArgumentValueError: naming the argument and what was expected.
        MissingExtraError: the backend needs an extra that is not installed.
    """

    _BACKENDS: ClassVar = {
        "redis": "activity_tracker_hll.backends.async_redis.AsyncRedisBackend",
        "embedded": "activity_tracker_hll.backends.async_embedded.AsyncEmbeddedBackend",
    }
    _BACKEND = AsyncBaseBackend

    track = _awaited(ActivityTracker.track)
    track_many = _awaited(ActivityTracker.track_many)
    collapse = _awaited(ActivityTracker.collapse)
    lookup = _awaited(ActivityTracker.lookup)
    unique = _awaited(ActivityTracker.unique)
    rolling = _awaited(ActivityTracker.rolling)
    stickiness = _awaited(ActivityTracker.stickiness)
    overlap = _awaited(ActivityTracker.overlap)
    retention = _awaited(ActivityTracker.retention)
    lifecycle = _awaited(ActivityTracker.lifecycle)
    sketch = _awaited(ActivityTracker.sketch)
    report = _awaited(ActivityTracker.report)
    collapse_due = _awaited(ActivityTracker.collapse_due)
    read_settings = _awaited(ActivityTracker.read_settings)
    change_settings = _awaited(ActivityTracker.change_settings)
    inventory = _awaited(ActivityTracker.inventory)
    examine = _awaited(ActivityTracker.examine)
    archive = _awaited(ActivityTracker.archive)
    restore = _awaited(ActivityTracker.restore)

    track_hourly = _awaited_of_kind("hourly")(ActivityTracker.track)
    track_daily = _awaited_of_kind("daily")(ActivityTracker.track)
    track_weekly = _awaited_of_kind("weekly")(ActivityTracker.track)
    track_monthly = _awaited_of_kind("monthly")(ActivityTracker.track)
    track_quarterly = _awaited_of_kind("quarterly")(ActivityTracker.track)
    track_yearly = _awaited_of_kind("yearly")(ActivityTracker.track)
    collapse_hourly = _awaited_of_kind("hourly")(ActivityTracker.collapse)
    collapse_daily = _awaited_of_kind("daily")(ActivityTracker.collapse)
    collapse_weekly = _awaited_of_kind("weekly")(ActivityTracker.collapse)
    collapse_monthly = _awaited_of_kind("monthly")(ActivityTracker.collapse)
    collapse_quarterly = _awaited_of_kind("quarterly")(ActivityTracker.collapse)
    collapse_yearly = _awaited_of_kind("yearly")(ActivityTracker.collapse)
    lookup_hourly = _awaited_of_kind("hourly")(ActivityTracker.lookup)
    lookup_daily = _awaited_of_kind("daily")(ActivityTracker.lookup)
    lookup_weekly = _awaited_of_kind("weekly")(ActivityTracker.lookup)
    lookup_monthly = _awaited_of_kind("monthly")(ActivityTracker.lookup)
    lookup_quarterly = _awaited_of_kind("quarterly")(ActivityTracker.lookup)
    lookup_yearly = _awaited_of_kind("yearly")(ActivityTracker.lookup)

    def buffered(
        self,
        *,
        flush_interval: float = 1.0,
        close_timeout: float = 10.0,
        refresh_interval: float = 60.0,
        max_sketches: int = 8192,
        max_moves: int = 100_000,
        on_error: Callable[[Exception], object] | None = None,
    ) -> AsyncBufferedTracker:
        """Make a writer for high volume: the same track calls, which return at once.

        Use it in ``async with``, or close() it; one that is open when the process exits is closed then. Its
        threads have a connection of their own and do not wait for the event loop, nor it for them. Only a
        client that was handed in is shared: buffered() is called in a coroutine then.

        Args:
            flush_interval: the most seconds between pushes to the server. They follow sooner while they are
                cheap: some 30 ms apart with a few buckets, and the less often the more they take.
            close_timeout: how long close() and the end of the process wait for the server, in seconds.
            refresh_interval: seconds, in the mean, after which even registers that the server has
                acknowledged are sent again, in case it lost them; longer if that were more than ten buckets a
                second.
            max_sketches: buckets in periods that are kept at once; see :meth:`.ActivityTracker.buffered`.
            max_moves: ids on the move that are kept at once; see :meth:`.ActivityTracker.buffered`.
            on_error: called with each new problem, from a thread of the writer.

        Returns:
            The writer.

        Raises:
            ArgumentTypeError, ArgumentValueError: naming the argument.
        """
        writer = AsyncBufferedTracker(
            self._planner,
            self._backend.blocking(),
            flush_interval=flush_interval,
            close_timeout=close_timeout,
            refresh_interval=refresh_interval,
            max_sketches=max_sketches,
            max_moves=max_moves,
            on_error=on_error,
        )
        self._writers.add(writer)
        return writer

    @property
    def settings(self) -> Awaitable[DataSettings]:
        """See :attr:`.ActivityTracker.settings`: ``await tracker.settings``."""
        return self.read_settings()

    async def close(self) -> None:
        """Close its writers, and give back the backend's connections and processes."""
        for writer in list(self._writers):
            await in_own_thread(writer.close_within)
        await self._backend.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def import_events(
        self,
        events: Iterable[tuple[Id, str | None, dt.date] | EventColumns]
        | AsyncIterable[tuple[Id, str | None, dt.date] | EventColumns]
        | tuple[Any, Any, Any]
        | ArrowStream,
        periods: Iterable[PeriodKind] | None = None,
        *,
        id_column: str | None = None,
        time_column: str | None = None,
        bucket_column: str | None = None,
        bucket: str | None = None,
        timezone: str | dt.tzinfo | None = None,
        progress: Callable[[int], object] | None = None,
        shard: int = 0,
    ) -> Imported:
        """:meth:`.ActivityTracker.import_events`, also of an asynchronous iterable.

        Args:
            events: what the other takes; or an asynchronous iterable of (id, bucket, date or datetime)
                tuples, of EventColumns, or of both.
            periods: kinds of period; None = the tracker's.
            id_column: a table's column of ids.
            time_column: its column of times.
            bucket_column: its column of buckets.
            bucket: one bucket for all events of a table; None = the unnamed bucket.
            timezone: IANA name or tzinfo that times without a zone in a table are in; None = the tracker's.
            progress: called with the number of events sent so far.
            shard: the data set, by its place in the backend's `shards` option.

        Returns:
            The same.

        Raises:
            ArgumentTypeError, ArgumentValueError: a bad event, by its place; those before it may count.
            MissingExtraError: a table needs pyarrow, of the extra ``arrow``.
            BackendError: the server or the way to it failed.
        """
        if is_table(events) or not isinstance(events, AsyncIterable):
            return await cast("Any", ActivityTracker.import_events)(  # type: ignore[no-any-return]
                self,
                events,
                periods,
                id_column=id_column,
                time_column=time_column,
                bucket_column=bucket_column,
                bucket=bucket,
                timezone=timezone,
                progress=progress,
                shard=shard,
            )
        TableLayout.of(events, id_column, time_column, bucket_column, bucket, timezone)
        begun = self._planner.begin_import(periods, progress, shard)
        is_first = True
        async with aclosing(awaited_batches(events, begun.due)) as batches:
            async for batch in batches:
                if is_first:
                    begun.check(batch)
                is_first = False
                await self._run(begun.add(batch), shard, Access.TRACK)
        return await self._run(self._planner.finish_import(begun), shard, Access.TRACK)

    async def _report(self, report: Report) -> Path:
        return await report.make_awaiting(self)

    async def _run(self, operation: Operation[T], shard: int, access: Access | None = Access.READ) -> T:
        await self._shake_hands(shard, access)
        send = self._backend.read if access is Access.READ else self._backend.execute
        return await run_awaiting(operation, lambda batch: send(batch, shard))

    async def _run_with_file(self, operation: Operation[T], shard: int, access: Access | None) -> T:
        """Run an operation that waits for a disk, too: in a thread, beside the event loop."""
        await self._shake_hands(shard, access)
        backend = self._backend.blocking()
        send = backend.read if access is Access.READ else backend.execute
        return await asyncio.to_thread(run, operation, lambda batch: send(batch, shard))

    async def _shake_hands(self, shard: int, access: Access | None) -> None:
        handshake = None if access is None else self._planner.handshake(shard, access)
        if handshake is not None:
            await run_awaiting(handshake, lambda batch: self._backend.execute(batch, shard))


class AsyncBufferedTracker(BaseWriter):
    """:class:`.BufferedTracker` for asyncio, made by :meth:`AsyncActivityTracker.buffered`.

    Its track calls append and return at once. Whether their result is awaited makes no difference, so that
    they can be called where nothing can be awaited.
    """

    track = _awaitable(BufferedTracker.track)
    track_many = _awaitable(BufferedTracker.track_many)
    track_hourly = _awaitable(BufferedTracker.track_hourly)
    track_daily = _awaitable(BufferedTracker.track_daily)
    track_weekly = _awaitable(BufferedTracker.track_weekly)
    track_monthly = _awaitable(BufferedTracker.track_monthly)
    track_quarterly = _awaitable(BufferedTracker.track_quarterly)
    track_yearly = _awaitable(BufferedTracker.track_yearly)

    async def flush(self, timeout: float | None = None) -> Statistics:  # noqa: ASYNC109 (as of the other writer)
        """Push everything that was tracked before, and wait until the server has it.

        The event loop goes on meanwhile.

        Args:
            timeout: seconds to wait; None = as long as close() does.

        Returns:
            The statistics; where `pending` is not 0, time was up, or what is left waits for somebody to mend
            what `last_error` names.

        Raises:
            ArgumentTypeError, ArgumentValueError: a timeout that is not a positive number.
        """
        return await in_own_thread(self.flush_within, self.limit(timeout))

    async def close(self, timeout: float | None = None) -> Statistics:  # noqa: ASYNC109
        """Push everything and end the threads; what is still pending then is lost, and logged.

        If it is cancelled, a thread brings it to its end.

        Args:
            timeout: seconds to wait; None = the writer's `close_timeout`.

        Returns:
            The statistics; where `pending` is not 0, time was up.

        Raises:
            ArgumentTypeError, ArgumentValueError: a timeout that is not a positive number.
        """
        return await in_own_thread(self.close_within, self.limit(timeout))

    async def __aenter__(self) -> Self:
        if not self.is_settled:
            await in_own_thread(self.settle)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()
