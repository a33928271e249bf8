"""track_daily, lookup_monthly...: methods whose first argument, the period, is given."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

__all__ = ["of"]

T = TypeVar("T")
S = TypeVar("S")
A = TypeVar("A")
P = ParamSpec("P")


def of(method: Callable[Concatenate[S, A, P], T], period: A) -> Callable[Concatenate[S, P], T]:
    """A method whose first argument, the period or periods, is given."""

    @wraps(method)
    def shorthand(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return method(self, period, *args, **kwargs)

    del shorthand.__wrapped__  # whose signature offers the argument that is given
    shorthand.__doc__ = "Shorthand; see the method without the period in its name."
    return shorthand
