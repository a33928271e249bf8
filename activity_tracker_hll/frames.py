"""Results as pandas data frames. Needs the extra ``pandas``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def frame(records: Sequence[Mapping[str, Any]], index: Sequence[str]) -> pd.DataFrame:
    """A data frame of records: dates are timestamps, buckets categories, numbers that are missing NA.

    Args:
        records: the rows.
        index: which of their keys the index has.
    """
    made = pd.DataFrame.from_records(list(records))
    for name in made.columns:
        if name in _DATES:
            made[name] = pd.to_datetime(made[name])
        elif name == "bucket":
            made[name] = pd.Categorical(made[name], categories=made[name].unique())
        elif pd.api.types.is_numeric_dtype(made[name]) and not pd.api.types.is_bool_dtype(made[name]):
            made[name] = made[name].convert_dtypes()  # None among integers does not make them floats
    return made.set_index(list(index)) if len(made) else made
