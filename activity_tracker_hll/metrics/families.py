"""Metrics without values, all of which begin alike."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

__all__ = ["Family", "counter", "gauge"]

Family = CounterMetricFamily | GaugeMetricFamily
_PREFIX = "activity_tracker_hll_"


def counter(name: str, text: str, labels: Sequence[str] = ()) -> CounterMetricFamily:
    """A metric that only grows; its samples are called ``..._total``."""
    return CounterMetricFamily(_PREFIX + name, text, labels=labels)


def gauge(name: str, text: str, labels: Sequence[str] = ()) -> GaugeMetricFamily:
    """A metric that may also fall."""
    return GaugeMetricFamily(_PREFIX + name, text, labels=labels)
