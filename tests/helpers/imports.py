"""Events to import, in every form, and the sketches that PFADD makes of them."""

import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from activity_tracker_hll import (
    HyperLogLog,
)
from activity_tracker_hll.ids import IdEncoder
from activity_tracker_hll.periods import Calendar
from helpers.moments import day

BUCKETS = ["anon", "member", None, "é"]
COUNT = 5000


def sample(seed, count=COUNT, days=4):
    """Events of several buckets, at any second of a few days."""
    source = random.Random(seed)
    first = datetime.combine(day(days), datetime.min.time())
    return [
        (
            f"user-{source.randrange(2000)}",
            source.choice(BUCKETS),
            first + timedelta(seconds=source.randrange(days * 86400)),
        )
        for _ in range(count)
    ]


def expected(server, tracker, events, kinds, zone="UTC", secret=None):
    """The sketches that PFADD makes of each event, by key."""
    calendar, encoder = Calendar(zone), IdEncoder(secret)
    ids = {}
    for id, bucket, moment in events:
        for kind in kinds:
            period = calendar.containing(kind, calendar.moment(moment, "date")).name
            key = tracker.backend.keys.bucket(period, bucket).hll.encode()
            ids.setdefault(key, set()).add(encoder.one(id))
    result = {}
    for key, members in ids.items():
        server.client.delete("oracle")
        server.client.pfadd("oracle", *members)
        result[key] = HyperLogLog.from_bytes(server.client.get("oracle"))
    server.client.delete("oracle")
    return result


def columns(events, unit="s"):
    ids, buckets, moments = zip(*events, strict=True)
    return np.array(ids), list(buckets), np.array(moments, f"datetime64[{unit}]")


FORMS = {
    "tuples": lambda events: events,
    "lists": lambda events: [list(event) for event in events],
    "generator": lambda events: (event for event in events),
    "columns": columns,
    "columns of bytes": lambda events: (columns(events)[0].astype("S"), *columns(events)[1:]),
    "columns, nanoseconds": lambda events: columns(events, "ns"),
    "columns, list of moments": lambda events: (*columns(events)[:2], [event[2] for event in events]),
    "columns, objects": lambda events: tuple(
        np.array(column, object) for column in zip(*events, strict=True)
    ),
    "aware, UTC": lambda events: [(id, bucket, moment.replace(tzinfo=UTC)) for id, bucket, moment in events],
    "aware, elsewhere": lambda events: [
        (id, bucket, moment.replace(tzinfo=UTC).astimezone(ZoneInfo("Asia/Kathmandu")))
        for id, bucket, moment in events
    ],
    "mixed": lambda events: [
        (id.encode() if number % 2 else id, bucket, moment.replace(tzinfo=UTC) if number % 3 else moment)
        for number, (id, bucket, moment) in enumerate(events)
    ],
}
