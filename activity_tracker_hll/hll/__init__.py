"""HyperLogLog itself: hash, registers, format, estimators. No sockets, clocks or threads in here."""

from .estimators import difference, standard_error, union_of_remainders
from .sketch import HyperLogLog

__all__ = ["HyperLogLog", "difference", "standard_error", "union_of_remainders"]
