"""The statistics of writers, which are read from this process's memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from prometheus_client.registry import Collector

from ..arguments import attribute, entries
from ..errors import ArgumentTypeError
from ..messages import shown
from ..writer import Statistics
from .families import Family, counter, gauge

__all__ = ["HasStatistics", "WriterCollector"]

_LABELS = ("writer",)


class HasStatistics(Protocol):
    """A writer, asynchronous or not."""

    @property
    def statistics(self) -> Statistics:
        """What became of its events."""


class WriterCollector(Collector):
    """Exports the statistics of this process's writers; register one, with all writers.

    An event is counted once for each of its periods, and a move once for each bucket, as in
    :class:`.Statistics`.

    Args:
        writers: the writers, by the value of the label ``writer``.

    Raises:
        ArgumentTypeError: not a mapping of writers.
    """

    def __init__(self, writers: Mapping[str, HasStatistics]) -> None:
        self._writers: dict[str, HasStatistics] = {}
        for name, writer in entries(writers, "writers", "a dict of name: writer"):
            if not isinstance(name, str) or not isinstance(attribute(writer, "statistics"), Statistics):
                raise ArgumentTypeError(
                    f"writers must be a dict of name: writer, got {shown(name)}: {shown(writer)}"
                )
            self._writers[str.__str__(name)] = writer

    def describe(self) -> Iterable[Family]:
        """The metrics without values."""
        return _families()

    def collect(self) -> Iterable[Family]:
        """The metrics with their present values."""
        families = _families()
        for name, writer in self._writers.items():
            for family, value in zip(families, _values(writer.statistics), strict=True):
                family.add_metric([name], value)
        return families


def _families() -> list[Family]:
    return [
        counter("events_tracked", "Events taken by the writer, once for each period.", _LABELS),
        counter("events_pushed", "Events the server has acknowledged.", _LABELS),
        counter("events_dropped", "Events lost: too many buckets or moves at once, or no valid id.", _LABELS),
        counter(
            "events_late",
            "Events refused by periods that were collapsed and whose sketches are gone.",
            _LABELS,
        ),
        counter("sent_bytes", "Size of all that was sent to the server.", _LABELS),
        gauge("events_pending", "Events the server has not acknowledged yet.", _LABELS),
        gauge(
            "healthy",
            "1 if all is well, 0 if something went wrong and has not been made good since.",
            _LABELS,
        ),
    ]


def _values(statistics: Statistics) -> list[int]:
    return [
        statistics.tracked,
        statistics.pushed,
        statistics.dropped,
        statistics.late,
        statistics.bytes,
        statistics.pending,
        statistics.last_error is None,
    ]
