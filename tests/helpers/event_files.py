"""Reading text as events."""

import io

import numpy as np

from activity_tracker_hll.event_files.layout import Layout
from activity_tracker_hll.event_files.lines import Lines, Rejected
from activity_tracker_hll.event_files.opening import opened
from activity_tracker_hll.event_files.readers import read_stream
from activity_tracker_hll.periods import Calendar

UTC = Calendar("UTC")
COMBINED = b'10.0.0.1 - ann [17/May/2015:10:05:03 +0200] "GET / HTTP/1.1" 200 5 "http://x/" "Agent 1.0"\n'
COMMON = b'10.0.0.2 - - [17/May/2015:23:59:59 -0200] "GET / HTTP/1.1" 404 -\n'


def events(text, layout=None, *, name="in", calendar=UTC, hourly=False, **fields):
    rejected = Rejected()
    with opened("-", io.BytesIO(text), lambda _: None) as stream:
        found = list(read_stream(stream, name, layout or Layout(**fields), calendar, rejected, hourly=hourly))
    return found, rejected


def ids(text, **fields):
    found, rejected = events(text, **fields)
    assert rejected.count == 0, rejected.first
    return [id for id, _, _ in found]


def read_opened(path, stdin=b""):
    sizes, rejected = [], Rejected()
    with opened(str(path), io.BytesIO(stdin), sizes.append) as stream:
        return list(Lines.of(stream, str(path), rejected)), sum(sizes), rejected


def rows(columns):
    """The events in columns, one by one."""
    for part in columns:
        buckets = (
            part.buckets if part.buckets is None or isinstance(part.buckets, str) else list(part.buckets)
        )
        if buckets is None or isinstance(buckets, str):
            buckets = [buckets] * len(part)
        yield from zip(part.ids, buckets, np.asarray(part.dates, "datetime64[us]").tolist(), strict=True)
