"""track_daily, lookup_monthly...: methods whose first argument, the period or the periods, is given."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import Any, Concatenate, ParamSpec, TypeVar

from .periods import PeriodKind

__all__ = ["of_kind"]

T = TypeVar("T")
S = TypeVar("S")
P = ParamSpec("P")

# The entry of the argument in a docstring, with the deeper lines that belong to it.
_ENTRY = re.compile(r"^( +)periods?: .*\n(?:\1 +.*\n)*", re.MULTILINE)


def of_kind(
    kind: PeriodKind,
) -> Callable[[Callable[Concatenate[S, Any, P], T]], Callable[Concatenate[S, P], T]]:
    """Make a method of `period` or `periods` into one of this kind of period alone.

    In two steps, ``of_kind("daily")(lookup)``, as a decorator's: so type checkers keep a method's overloads.
    """

    def shorten(method: Callable[Concatenate[S, Any, P], T]) -> Callable[Concatenate[S, P], T]:
        whole = signature(method)
        argument: Any = [kind] if "periods" in whole.parameters else kind

        @wraps(method)
        def shorthand(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
            return method(self, argument, *args, **kwargs)

        # For help(), editors and the like: what is left of the signature, and of the text.
        described: Any = shorthand
        first, _, *others = whole.parameters.values()
        described.__name__ += f"_{kind}"
        described.__qualname__ += f"_{kind}"
        del described.__wrapped__
        described.__signature__ = whole.replace(parameters=[first, *others])
        described.__doc__ = _ENTRY.sub("", method.__doc__ or "").replace(
            "\n", f" Short for ``{method.__name__}({argument!r}, ...)``.\n", 1
        )
        return shorthand

    return shorten
