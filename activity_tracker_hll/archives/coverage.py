"""Coverage: of which time an archive knows all that there was, for kinds of period and buckets.

What an archive does not hold may never have been, or may not have been archived. Only where it covers the
whole period is it the former.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ..periods import Period

__all__ = ["ALWAYS", "Coverage"]

ALWAYS = datetime(1, 1, 1)
"""Where what is not bounded begins."""

_ALL = "all"
_Of = tuple[str, str, str | None]
"""A kind of period; "all" buckets, or "one", which it is."""
_Span = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class Coverage:
    """Stretches of time, which do not touch, oldest first; naive wall-clock time in the zone of the data."""

    spans: Mapping[_Of, tuple[_Span, ...]] = field(default_factory=dict)

    def with_span(
        self, kind: str, buckets: Iterable[str | None] | None, start: datetime, end: datetime
    ) -> Coverage:
        """The same, and a stretch of time: of all buckets (None) or of some."""
        if not start < end:
            return self
        keys: list[_Of] = [(kind, _ALL, None)]
        if buckets is not None:
            keys = [(kind, "one", bucket) for bucket in buckets]
        return Coverage(
            {**self.spans, **{of: _joined([*self.spans.get(of, ()), (start, end)]) for of in keys}}
        )

    def has_all_of(self, period: Period, bucket: str | None) -> bool:
        """Whether a period is covered from its start to its end."""
        return not self.lacks(period.kind, bucket, period.start, period.next().start)

    def lacks(self, kind: str, bucket: str | None, start: datetime, end: datetime) -> bool:
        """Whether any moment from start on and before end is not covered."""
        return self.lacking(kind, bucket, [(start, end)])[0]

    def lacking(self, kind: str, bucket: str | None, asked: Iterable[_Span]) -> list[bool]:
        """:meth:`lacks` of many stretches of time."""
        spans = _joined([*self.spans.get((kind, _ALL, None), ()), *self.spans.get((kind, "one", bucket), ())])
        return [
            start < end and not any(first <= start and end <= last for first, last in spans)
            for start, end in asked
        ]

    def to_json(self) -> list[list[Any]]:
        """As lists, for a file."""
        return [
            [*of, [[first.isoformat(), last.isoformat()] for first, last in spans]]
            for of, spans in self.spans.items()
        ]

    @classmethod
    def from_json(cls, stored: Iterable[Any]) -> Coverage:
        """From such lists.

        Raises:
            ValueError, TypeError: they make no sense.
        """
        spans: dict[_Of, tuple[_Span, ...]] = {}
        for kind, which, bucket, listed in stored:
            read = [(datetime.fromisoformat(first), datetime.fromisoformat(last)) for first, last in listed]
            spans[kind, which, bucket] = _joined(read)
        return cls(spans)


def _joined(spans: Iterable[_Span]) -> tuple[_Span, ...]:
    """Stretches of time, where they touch as one."""
    joined: list[_Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return tuple(joined)
