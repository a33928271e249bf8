"""Results as pandas data frames. Needs the extra ``pandas``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from .errors import MissingExtraError

try:
    import pandas as pd
except ImportError as error:
    raise MissingExtraError(
        "data frames need pandas, of the extra 'pandas': pip install 'activity-tracker-hll[pandas]'"
    ) from error

__all__ = ["frame"]

_DATES = ("date", "cohort")
_FLAGS = ("suspect", "complete")
_NAMES = ("of",)


def frame(
    records: Sequence[Mapping[str, Any]], index: Sequence[str], shares: Collection[str]
) -> pd.DataFrame:
    """A data frame of records: dates are timestamps, buckets categories, numbers that are missing NA.

    The type of a column is that of what it is of, whatever its values: a share of 1 is no whole number.

    Args:
        records: the rows.
        index: which of their keys the index has.
        shares: which of them are shares.
    """
    names = list(records[0]) if records else []
    made = pd.DataFrame(
        {name: _column(name, [each[name] for each in records], is_share=name in shares) for name in names}
    )
    return made.set_index(list(index)) if len(made) else made


def _column(name: str, values: list[Any], *, is_share: bool) -> Any:
    if name in _DATES:
        return pd.to_datetime(values)
    if name == "bucket":
        return pd.Categorical(values, categories=list(dict.fromkeys(values)))
    if name in _NAMES:
        return values
    if name in _FLAGS:
        return pd.array(values, dtype="bool")
    return pd.array(values, dtype="Float64" if is_share else "Int64")
