"""JSON lines, read one by one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from .layout import Layout
from .lines import Lines

__all__ = ["json_value", "read_json"]


def read_json(lines: Lines, layout: Layout) -> Iterator[tuple[Any, Any, Any]]:
    """The id, bucket and time of each record, not yet checked or converted."""
    fields = layout.fields("id", "time")
    for line in lines:
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            id, bucket, time = (None if field is None else json_value(record, field) for field in fields)
        except (ValueError, RecursionError) as error:
            lines.reject(str(error))
        else:
            yield id, bucket, time


def json_value(record: Any, field: str) -> Any:
    """The value of a key; dots lead into nested objects, unless the key itself contains them."""
    if isinstance(record, dict) and field in record:
        return record[field]
    value = record
    for key in field.split("."):
        if not isinstance(value, dict) or key not in value:
            raise ValueError(f"no field {field!r}")
        value = value[key]
    return value
