"""What a tracker is, whether its calls wait or are awaited: its settings, its backend, its writers.

The calls are in :mod:`.tracker` and :mod:`.aio`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import tzinfo
from typing import Any, ClassVar, Final, Generic, Literal, TypedDict, TypeVar, Unpack, overload
from weakref import WeakSet

from . import arguments
from .archiving import Archiving
from .arguments import AggregateBuckets, Buckets
from .backends.base import BackendSettings
from .backends.loading import load
from .backends.options import DataOptions, EmbeddedOptions, RedisOptions
from .periods import Calendar, PeriodKind
from .planner import Planner
from .reading import Reading
from .writer import BaseWriter

__all__ = ["BaseTracker"]

T = TypeVar("T")
B = TypeVar("B", bound=BackendSettings)
_Kinds = tuple[PeriodKind, ...]  # a name of its own, as Sphinx cannot show that of PeriodKind in a property


class _TrackerOptions(TypedDict, total=False):
    buckets: Buckets | None
    aggregate_buckets: AggregateBuckets | None
    timezone: str | tzinfo | None
    week_start: int | None
    clock: Callable[[], float]


class _RedisTrackerOptions(_TrackerOptions, RedisOptions, total=False):
    pass


class _EmbeddedTrackerOptions(_TrackerOptions, EmbeddedOptions, total=False):
    pass


class _OtherTrackerOptions(_TrackerOptions, DataOptions, total=False):
    pass


class BaseTracker(Generic[B]):
    """Settings, and what calls are planned with."""

    _BACKENDS: ClassVar[Mapping[str, str]]
    _BACKEND: type[B]

    PERIOD_HOURLY: Final[PeriodKind] = "hourly"
    PERIOD_DAILY: Final[PeriodKind] = "daily"
    PERIOD_WEEKLY: Final[PeriodKind] = "weekly"
    PERIOD_MONTHLY: Final[PeriodKind] = "monthly"
    PERIOD_QUARTERLY: Final[PeriodKind] = "quarterly"
    PERIOD_YEARLY: Final[PeriodKind] = "yearly"

    # What options there are depends on the backend; of each but the default one, by place and by name.

    @overload
    def __init__(
        self,
        periods: Iterable[PeriodKind] | None = None,
        backend: Literal["redis"] = "redis",
        **options: Unpack[_RedisTrackerOptions],
    ) -> None: ...

    @overload
    def __init__(
        self,
        periods: Iterable[PeriodKind] | None,
        backend: Literal["embedded"],
        **options: Unpack[_EmbeddedTrackerOptions],
    ) -> None: ...

    @overload
    def __init__(
        self,
        periods: Iterable[PeriodKind] | None = None,
        *,
        backend: Literal["embedded"],
        **options: Unpack[_EmbeddedTrackerOptions],
    ) -> None: ...

    @overload
    def __init__(
        self,
        periods: Iterable[PeriodKind] | None,
        backend: str | B,
        **options: Unpack[_OtherTrackerOptions],
    ) -> None: ...

    @overload
    def __init__(
        self,
        periods: Iterable[PeriodKind] | None = None,
        *,
        backend: str | B,
        **options: Unpack[_OtherTrackerOptions],
    ) -> None: ...

    def __init__(
        self,
        periods: Iterable[PeriodKind] | None = None,
        backend: str | B = "redis",
        *,
        buckets: Buckets | None = None,
        aggregate_buckets: AggregateBuckets | None = None,
        timezone: str | tzinfo | None = None,
        week_start: int | None = None,
        clock: Callable[[], float] = time.time,
        **backend_options: Any,
    ) -> None:
        kinds = None if periods is None else arguments.kinds(periods)
        known = None if buckets is None else arguments.default_buckets(buckets)
        aggregates = {} if aggregate_buckets is None else arguments.aggregates(aggregate_buckets, known)
        calendar = Calendar(timezone, week_start)
        arguments.check_clock(clock, "clock")
        self._backend: B = load(backend, backend_options, self._BACKENDS, self._BACKEND)
        self._planner = Planner(self._backend, calendar, kinds, known, aggregates, clock)
        self._reading = Reading(self._planner)
        self._archiving = Archiving(self._planner)
        self._writers: WeakSet[BaseWriter] = WeakSet()
        self._options: _TrackerOptions = {
            "buckets": known,
            "aggregate_buckets": aggregates,
            "timezone": timezone,
            "week_start": week_start,
            "clock": clock,
        }

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._planner.described()} backend={self._backend!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """In another process it is made anew, with the same arguments.

        Raises:
            ArgumentTypeError: one of them cannot be sent there.
        """
        for name, value in self._options.items():
            arguments.picklable(value, name)
        return _made_anew, (type(self), self._planner.periods, self._backend, self._options)

    @property
    def backend(self) -> B:
        """The backend in use."""
        return self._backend

    @property
    def periods(self) -> _Kinds | None:
        """The kinds of period that were given, in that order."""
        return self._planner.periods

    @property
    def buckets(self) -> tuple[str | None, ...] | None:
        """The buckets that were given; None = none, so that calls are about the unnamed one."""
        return self._planner.buckets

    @property
    def calendar(self) -> Calendar:
        """Finds periods in the tracker's time zone, which is adopted from the data if it was not given."""
        return self._planner.calendar


def _made_anew(cls: Callable[..., T], periods: object, backend: object, options: Mapping[str, object]) -> T:
    return cls(periods, backend, **options)
