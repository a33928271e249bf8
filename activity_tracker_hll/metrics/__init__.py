"""Writers and counts as Prometheus reads them, when it scrapes.

Needs the extra ``metrics``.
"""

from __future__ import annotations

from ..errors import MissingExtraError

try:
    import prometheus_client as _  # noqa: F401
except ImportError as error:
    raise MissingExtraError(
        "metrics need prometheus_client, of the extra 'metrics': pip install 'activity-tracker-hll[metrics]'"
    ) from error

from .counts import CountsCollector
from .writers import HasStatistics, WriterCollector

__all__ = ["CountsCollector", "HasStatistics", "WriterCollector"]
