"""What a server says of itself, the memory, the sketches without expiry. No output in here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from ..backends.base import BaseBackend, Command
from ..errors import BackendError
from ..operations import Entry
from ..operations.base import batched, items
from ..periods import LONGEST
from .held import ENDLESS, kinds_of

__all__ = ["Forecast", "Server", "examine_server", "forecasts", "with_expiry", "without_expiry"]

WORST_SKETCH = 14_500
"""Memory of a dense sketch: 12,304 bytes of Redis's format, in jemalloc's class of 14 KiB, and the key."""

_SAMPLE = 200
_RECENT = 7
_KEYS_PER_BATCH = 1000
_UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Server:
    """What a server says of itself; "unknown" or None where it does not."""

    product: str
    role: str
    policy: str
    limit: int | None
    used: int | None
    persistence: str

    def warnings(self) -> Iterator[str]:
        """What endangers counts."""
        if self.policy.startswith(("allkeys", "volatile")):
            victims = "any sketch" if self.policy.startswith("allkeys") else "collapsed sketches"
            when = "once maxmemory is set" if self.limit == 0 else "when the memory is full"
            yield f"maxmemory-policy {self.policy} evicts {victims} {when}: set noeviction"
        if self.persistence == "none":
            yield "no persistence: a restart loses every count and sketch (appendonly yes, or save)"
        if self.role in ("slave", "replica"):
            yield "this is a replica: it refuses writes"


def examine_server(backend: BaseBackend) -> Server:
    """Ask INFO, and CONFIG where that is allowed."""
    reply, *configs = backend.execute(
        [
            ("INFO",),
            *(("CONFIG", "GET", name) for name in ("maxmemory-policy", "maxmemory", "appendonly", "save")),
        ]
    )
    info = _info(reply)
    config: dict[str, str] = {}
    for found in configs:
        if not isinstance(found, BackendError):
            name_value = [part.decode("utf-8", "replace") for part in items(found)]
            config.update(zip(name_value[::2], name_value[1::2], strict=True))
    limit = config.get("maxmemory", info.get("maxmemory", ""))
    used = info.get("used_memory", "")
    return Server(
        product=_product(info),
        role=info.get("role", _UNKNOWN),
        policy=config.get("maxmemory-policy", info.get("maxmemory_policy", _UNKNOWN)),
        limit=int(limit) if limit.isdecimal() else None,
        used=int(used) if used.isdecimal() else None,
        persistence=_persistence(config, info),
    )


def _info(reply: Any) -> dict[str, str]:
    if not isinstance(reply, bytes):
        return {}
    pairs = (line.partition(":") for line in reply.decode("utf-8", "replace").splitlines())
    return {name: value for name, colon, value in pairs if colon}


def _product(info: Mapping[str, str]) -> str:
    # Valkey reports a redis_version too, for old clients.
    if "valkey_version" in info:
        return f"Valkey {info['valkey_version']}"
    name = info.get("server_name", "redis").capitalize()
    return f"{name} {info['redis_version']}" if "redis_version" in info else _UNKNOWN


def _persistence(config: Mapping[str, str], info: Mapping[str, str]) -> str:
    found = []
    if config.get("appendonly") == "yes" or info.get("aof_enabled") == "1":
        found.append("append-only file")
    if config.get("save"):
        found.append(f"snapshots ({config['save']})")
    if found:
        return ", ".join(found)
    return "none" if "save" in config else _UNKNOWN


@dataclass(frozen=True, slots=True)
class Forecast:
    """Memory of the sketches of one kind of period.

    Attributes:
        sketches: how many there are.
        mean: bytes of one, measured on a sample.
        per_period: sketches a period, of late.
        kept_periods: of how many periods sketches are kept; None = all.
        days: length of a period.
    """

    kind: str
    sketches: int
    mean: float
    per_period: float
    kept_periods: float | None
    days: float

    @property
    def now(self) -> float:
        """Bytes in use."""
        return self.sketches * self.mean

    @property
    def per_day(self) -> float:
        """Bytes that a day adds."""
        return self.per_period * self.mean / self.days

    @property
    def expected(self) -> float | None:
        """Bytes once so many periods are there; None if they are kept for ever."""
        return None if self.kept_periods is None else self.per_period * self.kept_periods * self.mean

    @property
    def worst(self) -> float | None:
        """The same if every sketch becomes dense."""
        return None if self.kept_periods is None else self.per_period * self.kept_periods * WORST_SKETCH


def forecasts(backend: BaseBackend, entries: Sequence[Entry]) -> list[Forecast]:
    """One a kind that has sketches."""
    result = []
    for kind in kinds_of(entries):
        keys = list(_sketch_keys(backend, [entry for entry in entries if entry.period.kind == kind]))
        if not keys:
            continue
        recent = sorted({start for start, _ in keys})[-_RECENT:]
        in_recent = sum(start in recent for start, _ in keys)
        keep, length = backend.keep_of(kind), LONGEST[kind]
        result.append(
            Forecast(
                kind=kind,
                sketches=len(keys),
                mean=_mean_size(backend, [key for _, key in keys]),
                per_period=in_recent / len(recent),
                # The running period, and those whose end is not longer ago than that.
                kept_periods=None if keep is None else 1 + keep / length,
                days=length / timedelta(days=1),
            )
        )
    return result


def _sketch_keys(backend: BaseBackend, entries: Sequence[Entry]) -> Iterator[tuple[Any, str]]:
    for entry in entries:
        keys = backend.keys.bucket(entry.period.name, entry.bucket)
        for part, key in (("hll", keys.hll), ("moved", keys.moved)):
            if part in entry.parts:
                yield entry.period.start, key


def _mean_size(backend: BaseBackend, keys: Sequence[str]) -> float:
    sample = keys[:: max(1, len(keys) // _SAMPLE)]
    replies = backend.execute([("MEMORY", "USAGE", key) for key in sample])
    sizes = [reply for reply in replies if isinstance(reply, int)]
    return sum(sizes) / len(sizes) if sizes else WORST_SKETCH


def without_expiry(backend: BaseBackend, entries: Sequence[Entry]) -> list[Entry]:
    """Collapsed sketches that stay for ever though they should end."""
    collapsed = [
        entry
        for entry in entries
        if {"hll", "count"}.issubset(entry.parts) and backend.keep_of(entry.period.kind) is not None
    ]
    result = []
    for batch in batched(collapsed, _KEYS_PER_BATCH):
        commands: list[Command] = [
            ("TTL", backend.keys.bucket(entry.period.name, entry.bucket).hll) for entry in batch
        ]
        replies = backend.execute(commands)
        result += [entry for entry, reply in zip(batch, replies, strict=True) if reply == -1]
    return result


def with_expiry(backend: BaseBackend, entries: Sequence[Entry]) -> list[Entry]:
    """The entries, with the part ENDLESS where it applies."""
    endless = set(without_expiry(backend, entries))
    return [replace(entry, parts=entry.parts | {ENDLESS}) if entry in endless else entry for entry in entries]
