"""HyperLogLog mathematics: no sockets, clocks or threads in here."""

from .estimators import difference, standard_error, union_of_remainders

__all__ = ["difference", "standard_error", "union_of_remainders"]
