"""Examining a server and its data: what endangers the counts, and how much memory they will take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from ..backends.base import AT_NODE, NODES, SLOTS, Command
from ..errors import (
    BackendAuthError,
    BackendConnectionError,
    BackendError,
    BackendTimeoutError,
    SettingsMismatchError,
)
from ..messages import printable
from ..periods import LONGEST
from ..result import named
from ..words import did_you_mean, many
from .base import Context, Operation, about_outgrown, batched, by_node, items
from .counting import outgrown
from .counting.overdue import marked_in
from .due import UNEXPIRING, is_due, kinds_of, looked_into
from .inventory import Entry, inventory
from .rights import Lack, about_lacking, lacking

__all__ = ["Examination", "Forecast", "Server", "ServerNode", "examine", "in_the_long_run"]

WORST_SKETCH = 14_500
"""Bytes of memory that a dense sketch takes: 12,304 in jemalloc's size class of 14 KiB, and the key."""

_SAMPLE = 200
_RECENT = 7
_FULL = 0.8
"""Share of maxmemory from which on its expected use is a reason to warn."""
_UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ServerNode:
    """A master of a cluster.

    Attributes:
        address: host and port.
        used: bytes of memory in use; None where it does not tell.
        limit: maxmemory in bytes; 0 = no limit.
        replicas: how many are connected to it; None where it does not tell.
        policy: maxmemory-policy.
        persistence: how its data are kept on disk, in words.
    """

    address: str
    used: int | None
    limit: int | None
    replicas: int | None
    policy: str
    persistence: str


@dataclass(frozen=True, slots=True)
class Server:
    """What a server reports about itself, or a cluster; "unknown" or None where it does not tell.

    Attributes:
        product: name and version.
        role: master, slave...
        policy: maxmemory-policy; of a cluster all that there are.
        limit: maxmemory in bytes, of all nodes; 0 = no limit.
        used: bytes of memory in use, of all nodes.
        persistence: how the data are kept on disk, in words; of a cluster all ways that there are.
        nodes: the masters of a cluster that answer; empty for a single server.
        unserved: the number of slots of a cluster that no node serves.
        missing: the addresses of masters that do not answer, or deny access.
    """

    product: str
    role: str
    policy: str
    limit: int | None
    used: int | None
    persistence: str
    nodes: tuple[ServerNode, ...] = ()
    unserved: int = 0
    missing: tuple[str, ...] = ()

    def warnings(self) -> Iterator[str]:
        """The settings that endanger counts, a sentence each."""
        for policy in sorted({node.policy for node in self.masters}):
            if policy.startswith(("allkeys", "volatile")):
                evicting = [node for node in self.masters if node.policy == policy]
                victims = "any sketch" if policy.startswith("allkeys") else "collapsed sketches"
                is_limited = any(node.limit != 0 for node in evicting)
                when = "when the memory is full" if is_limited else "once maxmemory is set"
                where = self._where(evicting)
                yield f"maxmemory-policy {policy}{where} evicts {victims} {when}: set noeviction"
        forgetful = [node for node in self.masters if node.persistence == "none"]
        if forgetful:
            yield (
                f"no persistence{self._where(forgetful)}:"
                " a restart loses every count and sketch (appendonly yes, or save)"
            )
        if self.role in ("slave", "replica"):
            yield "this is a replica: it refuses writes"
        bare = [node.address for node in self.nodes if node.replicas == 0]
        if bare:
            are = many(len(bare), "master has", "masters have")
            yield f"{are} no replica ({', '.join(bare)}): if one is lost, so are its counts"
        if self.unserved:
            yield f"no node serves {self.unserved:,} of the cluster's slots: their data cannot be used"
        yield from about_missing(self.missing)

    @property
    def masters(self) -> tuple[ServerNode, ...]:
        """The nodes; of a single server this one, without an address."""
        alone = ServerNode("", self.used, self.limit, None, self.policy, self.persistence)
        return self.nodes or (alone,)

    def _where(self, nodes: Sequence[ServerNode]) -> str:
        """Which nodes something is said of, unless it is true of all."""
        if len(nodes) == len(self.masters) and not self.missing:
            return ""
        return f" on {', '.join(node.address for node in nodes)}"


def about_missing(addresses: Collection[str]) -> Iterator[str]:
    """What is said of masters that do not answer, or deny access."""
    if addresses:
        masters = many(len(addresses), "master")
        yield f"{masters} cannot be examined ({', '.join(addresses)}): of what is there, nothing is told here"


def _examine_server(context: Context) -> Operation[Server]:
    """Ask the server with INFO, and with CONFIG where that is allowed; of a cluster all masters."""
    # With CLUSTER NODES it is known anew which masters there are.
    reply, *_ = yield [("INFO",), NODES] if context.is_cluster else [("INFO",)]
    told = _info(reply)
    answering = list(told) or [""]
    replies = yield [command for address in answering for command in _asks_config(address)]
    configs = batched(replies, len(_CONFIG))
    nodes = [
        _node(address, told.get(address, {}), _config(found))
        for address, found in zip(answering, configs, strict=True)
    ]
    info = told.get(answering[0], {})
    limits, used = [node.limit for node in nodes], [node.used for node in nodes]
    return Server(
        product=_product(info),
        role=info.get("role", _UNKNOWN),
        policy=", ".join(dict.fromkeys(node.policy for node in nodes)),
        limit=0 if 0 in limits else _total(limits),
        used=_total(used),
        persistence="; ".join(dict.fromkeys(node.persistence for node in nodes)),
        nodes=tuple(nodes) if context.is_cluster and told else (),
        unserved=(yield from _unserved()) if context.is_cluster else 0,
        missing=tuple(address for address in by_node(reply) if address and address not in told),
    )


_CONFIG = ("maxmemory-policy", "maxmemory", "appendonly", "save")


def _asks_config(address: str) -> list[Command]:
    at = (AT_NODE, address) if address else ()
    return [(*at, "CONFIG", "GET", name) for name in _CONFIG]


def _config(replies: Sequence[Any]) -> dict[str, str]:
    config: dict[str, str] = {}
    for found in replies:
        if not isinstance(found, BackendError):
            name_value = [printable(part.decode("utf-8", "replace")) for part in items(found)]
            config.update(zip(name_value[::2], name_value[1::2], strict=True))
    return config


def _node(address: str, info: Mapping[str, str], config: Mapping[str, str]) -> ServerNode:
    return ServerNode(
        address,
        used=_number(info.get("used_memory", "")),
        limit=_number(config.get("maxmemory", info.get("maxmemory", ""))),
        replicas=_number(info.get("connected_slaves", "")),
        policy=config.get("maxmemory-policy", info.get("maxmemory_policy", _UNKNOWN)),
        persistence=_persistence(config, info),
    )


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def _total(numbers: Sequence[int | None]) -> int | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if known and len(known) == len(numbers) else None


def _unserved() -> Operation[int]:
    """The number of slots that no node serves; 0 where that cannot be asked."""
    [reply] = yield [("CLUSTER", "INFO")]
    info = next(iter(_info(reply).values()), {})
    return SLOTS - (_number(info.get("cluster_slots_ok", "")) or SLOTS)


def _info(reply: Any) -> dict[str, dict[str, str]]:
    """What each server told, by its address; that of a single one is empty."""
    told: dict[str, dict[str, str]] = {}
    for address, lines in by_node(reply).items():
        fields = (line.partition(":") for line in map(printable, lines) if not line.startswith("#"))
        found = {name: value for name, colon, value in fields if colon}
        if found:
            told[address] = found
    return told


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
    """The memory of the sketches of one kind of period.

    Attributes:
        kind: the kind of period.
        sketches: the number of sketches that exist.
        mean: the mean bytes of one, measured on a sample.
        per_period: the mean number of sketches in recent periods.
        kept_periods: the number of periods whose sketches are kept; None = all.
        days: the length of a period.
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
        """Bytes added per day."""
        return self.per_period * self.mean / self.days

    @property
    def expected(self) -> float | None:
        """Bytes once `kept_periods` periods exist; None if sketches are kept for ever."""
        return None if self.kept_periods is None else self.per_period * self.kept_periods * self.mean

    @property
    def worst(self) -> float | None:
        """The same if every sketch were dense."""
        return None if self.kept_periods is None else self.per_period * self.kept_periods * WORST_SKETCH


def _forecasts(context: Context, entries: Sequence[Entry]) -> Operation[list[Forecast]]:
    """A forecast for each kind of period that has sketches."""
    result = []
    for kind in kinds_of(entries):
        entries_of_kind = [entry for entry in entries if entry.period.kind == kind]
        keys = list(_sketch_keys(context, entries_of_kind))
        if not keys:
            continue
        recent = sorted({start for start, _ in keys})[-_RECENT:]
        in_recent = sum(start in recent for start, _ in keys)
        keep, length = context.keep(kind), LONGEST[kind]
        forecast = Forecast(
            kind=kind,
            sketches=len(keys),
            mean=(yield from _mean_size([key for _, key in keys])),
            per_period=in_recent / len(recent),
            # The running period, and those that ended no longer ago than `keep`.
            kept_periods=None if keep is None else 1 + keep / length,
            days=length / timedelta(days=1),
        )
        result.append(forecast)
    return result


def _sketch_keys(context: Context, entries: Sequence[Entry]) -> Iterator[tuple[Any, str]]:
    for entry in entries:
        keys = context.keys.bucket(entry.period.name, entry.bucket)
        for part, key in (("hll", keys.hll), ("moved", keys.moved)):
            if part in entry.parts:
                yield entry.period.start, key


def _mean_size(keys: Sequence[str]) -> Operation[float]:
    sample = keys[:: max(1, len(keys) // _SAMPLE)]
    replies = yield [("MEMORY", "USAGE", key) for key in sample]
    sizes = [reply for reply in replies if isinstance(reply, int)]
    return sum(sizes) / len(sizes) if sizes else WORST_SKETCH


@dataclass(frozen=True, slots=True)
class Examination:
    """The result of :meth:`.ActivityTracker.examine`.

    Attributes:
        server: what the server reports about itself.
        entries: what it holds for each bucket and period.
        due: the entries whose period is over and not collapsed.
        forecasts: the memory of the sketches, one for each kind of period.
        agrees: whether the settings agree with those of the data; if not, or if the user may not read them,
            or the master of a cluster that has them does not answer, only the server was examined.
        warnings: what endangers counts or memory, a sentence each.
        lacking: the rights that the user lacks; None = the server does not tell.
    """

    server: Server
    entries: tuple[Entry, ...]
    due: tuple[Entry, ...]
    forecasts: tuple[Forecast, ...]
    agrees: bool
    warnings: tuple[str, ...]
    lacking: tuple[Lack, ...] | None


def examine(
    context: Context, agreement: Operation[None], now: Callable[[], datetime], roles: Collection[str]
) -> Operation[Examination]:
    """Examine a server and its data.

    Args:
        context: what operations are planned with.
        agreement: the operation that compares the settings.
        now: tells the present time in the tracker's zone, which the agreement may change.
        roles: whose rights the user needs.

    Raises:
        BackendError: the server does not answer.
    """
    server = yield from _examine_server(context)
    lacks = yield from lacking(context, roles)
    found = Examination(
        server, (), (), (), agrees=False, warnings=(*server.warnings(), *about_lacking(lacks)), lacking=lacks
    )
    try:
        yield from agreement
        return (yield from _examine_data(context, now, found))
    except SettingsMismatchError as error:
        return replace(found, warnings=(*found.warnings, str(error)))
    except BackendAuthError as error:
        if lacks:
            return found
        return replace(found, warnings=(*found.warnings, str(error)))
    except (BackendConnectionError, BackendTimeoutError) as error:
        if not server.nodes:
            raise
        return replace(found, warnings=(*found.warnings, str(error)))


def _examine_data(
    context: Context, now: Callable[[], datetime], found: Examination
) -> Operation[Examination]:
    """What is found if the data are looked at too."""
    missing: dict[str, BackendError] = {}
    entries = yield from inventory(context, missing)
    running: dict[str, datetime] = {
        kind: context.calendar.containing(kind, now()).start for kind in kinds_of(entries)
    }
    over = [entry for entry in entries if entry.period.start < running[entry.period.kind]]
    ahead = [entry for entry in entries if entry.period.start > running[entry.period.kind]]
    known = dict(zip(over, (yield from looked_into(context, over)), strict=True))
    due = [entry for entry in over if is_due(known[entry].parts - {UNEXPIRING})]
    unexpiring = [entry for entry in over if UNEXPIRING in known[entry].parts]
    forecasts = yield from _forecasts(context, entries)
    [reply] = yield [("SMEMBERS", context.keys.open)]
    counted = {entry.period.name for entry in over}
    marked = counted.intersection(() if missing and isinstance(reply, BackendError) else marked_in(reply))
    places = [(entry.period.name, entry.bucket) for entry in over if entry.period.name in marked]
    grown = yield from outgrown(context, places)
    warnings = [
        *found.warnings,
        *about_missing(sorted(missing.keys() - set(found.server.missing))),
        *_about_memory(found.server, forecasts),
        *_about_data(entries, due, unexpiring),
        *([about_outgrown(sorted(grown))] if grown else []),
        *_about_future(ahead),
        *_about_buckets(context, entries, due),
        *context.agreed.problems,
    ]
    return replace(
        found,
        entries=tuple(entries),
        due=tuple(due),
        forecasts=tuple(forecasts),
        agrees=True,
        warnings=tuple(warnings),
    )


def _about_future(ahead: Sequence[Entry]) -> Iterator[str]:
    names = sorted({entry.period.name for entry in ahead})
    if names:
        lie = many(len(names), "period lies", "periods lie")
        yield f"{lie} in the future, such as {names[0]}: a date or a clock is wrong"


def _about_buckets(context: Context, entries: Sequence[Entry], due: Sequence[Entry]) -> Iterator[str]:
    """Buckets that nobody seems to collapse: misspelled, or forgotten."""
    counted = {entry.period for entry in entries if "count" in entry.parts}
    buckets = {entry.bucket for entry in entries}
    collapsed = {entry.bucket for entry in entries if "count" in entry.parts}
    waiting = Counter(entry.bucket for entry in due if entry.period in counted)
    for bucket in sorted(buckets, key=lambda bucket: bucket or ""):
        name = named(bucket)
        if context.known is not None and bucket not in {*context.known, *context.aggregates}:
            meant = did_you_mean(bucket, context.known)
            hint = meant or ": who collapses it?"
            yield f"bucket {name!r} has data and is none of the tracker's buckets{hint}"
        elif context.known is None and bucket in waiting and bucket not in collapsed:
            periods = many(waiting[bucket], "period in which others are", "periods in which others are")
            meant = did_you_mean(bucket, collapsed)
            yield f"bucket {name!r} is not collapsed in {periods}{meant or ': does nobody know it?'}"


def _about_memory(server: Server, forecasts: Sequence[Forecast]) -> Iterator[str]:
    for node in server.masters:
        expected = in_the_long_run(node, server, forecasts)
        if node.limit and expected > _FULL * node.limit:
            yield (
                f"the memory in the long run, {expected / 1e6:,.0f} MB, comes close to maxmemory,"
                f" {node.limit / 1e6:,.0f} MB{f', of {node.address}' if node.address else ''}"
            )


def in_the_long_run(node: ServerNode, server: Server, forecasts: Sequence[Forecast]) -> float:
    """Bytes of memory that a server, or a master of a cluster, is expected to use, with what it uses now.

    Buckets spread over the masters of a cluster evenly.
    """
    grows = sum(kind.expected - kind.now for kind in forecasts if kind.expected is not None)
    return (node.used or 0) + max(0.0, grows) / max(len(server.nodes), 1)


def _about_data(entries: Sequence[Entry], due: Sequence[Entry], unexpiring: Sequence[Entry]) -> Iterator[str]:
    if due:
        periods = many(
            len({entry.period for entry in due}), "period that is over is", "periods that are over are"
        )
        yield f"{periods} not collapsed ({many(len(due), 'count')}): run collapse"
    stuck = [entry for entry in entries if "raw" in entry.parts and not is_due(entry.parts)]
    if stuck:
        yield (
            f"{many(len(stuck), 'raw set')} of activity-tracker beside a count whose sketch is gone,"
            f" such as {stuck[0].period.name}: not counted"
        )
    if unexpiring:
        first = f"{unexpiring[0].period.name} bucket {named(unexpiring[0].bucket)}"
        yield (
            f"{many(len(unexpiring), 'collapsed sketch never expires', 'collapsed sketches never expire')},"
            f" such as {first}: collapse_due(), at the command line collapse, gives them an end, or says why"
            " not; that this is meant says keep_sketches=None (--keep-sketches forever)"
        )
