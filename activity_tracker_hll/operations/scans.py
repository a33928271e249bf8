"""Scans that find all there is, also if servers restart, fail over, or hand on slots meanwhile.

A cursor is a place in a table of one process. Another process goes on from it as if it were its own, and
leaves out what it keeps elsewhere, and no reply tells. So who answers is asked before and after: a server for
its run id, each master of a cluster besides for the slots that it serves and those that it hands on. What
differs is scanned again. What is found is a set, so it does no harm to find it twice.

Whatever is there from the beginning to the end is found. Only what changes there and back between two looks
is not noticed: a slot that is opened, whose keys are moved, moved back, and that is closed again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..backends.base import AT_NODE, NODES, SLOTS, Command
from ..backends.slots import slot_of
from ..errors import BackendError, BackendResponseError
from .base import Operation, by_node, items, unwrap

__all__ = ["scan", "scan_keys"]

_WHO: Command = ("INFO", "server")
_RUN_ID = "run_id:"
_KEYS_PER_SCAN = 2000
_PASSES = 10
_OPEN = re.compile(r"\[(\d+)-([<>])-(\w+)\]$")
_RESTLESS = "servers changed during each of {} scans, so none is known to have found everything"

Take = Callable[[list[Any]], object]
"""Takes what a page holds; some of it may come twice."""


class _Holder(NamedTuple):
    """Who has the keys of a slot, or of a whole server.

    Attributes:
        node: the address of a master; empty for a single server.
        run_id: of its process; None = it does not tell.
        target: the address of the node to which the slot is being moved.
    """

    node: str = ""
    run_id: str | None = None
    target: str = ""

    @property
    def passes(self) -> int:
        """How many scans without a change are needed.

        While a slot is open, its keys go one after the other, each once: what one scan leaves out as it was
        on its way, is at rest during another.
        """
        return 2 if self.target else 1


_NOBODY = _Holder()
_Slots = NDArray[np.intp]
"""The number of the holder of each slot; a single server has but one."""


class _Holders:
    """Who is or was the holder of a slot, each with a number, so that all slots can be compared at once.

    Attributes:
        silent: the nodes with slots that told nothing when they were last looked at.
    """

    def __init__(self) -> None:
        self.silent: set[str] = set()
        self._holders = [_NOBODY]
        self._numbers = {_NOBODY: 0}

    def __getitem__(self, number: int) -> _Holder:
        return self._holders[number]

    def number(self, holder: _Holder) -> int:
        """The number of a holder."""
        if holder not in self._numbers:
            self._numbers[holder] = len(self._holders)
            self._holders.append(holder)
        return self._numbers[holder]

    def passes(self) -> NDArray[np.int8]:
        """How many scans without a change are needed, by number."""
        return np.array([holder.passes for holder in self._holders], np.int8)

    def nodes(self, slots: _Slots) -> set[str]:
        """The nodes that hold some slots, or are being given them."""
        chosen = [self._holders[number] for number in np.unique(slots)]
        return {node for holder in chosen for node in (holder.node, holder.target) if node}


def scan(
    command: Callable[[int], Command], take: Take, *, is_cluster: bool, key: str = ""
) -> Operation[None]:
    """Hand on all that a key holds; without a key, all that a single server does.

    One page is of one moment, so that who answers matters only if there are more.

    Args:
        command: makes the command of a cursor.
        take: is called for each page.
        is_cluster: whether the key may go to another server.
        key: what is scanned.

    Raises:
        BackendError: the server refuses, or never stays the same for as long as it takes.
    """
    # One server tells it along with the first page, over the same connection; what the nodes of a cluster
    # tell at once need not be of one moment.
    holders = _Holders()
    page, *told = yield [command(0)] if is_cluster else [command(0), _WHO]
    cursor = _taken(page, take)
    if not cursor:
        return
    if is_cluster:
        slot, cursor = slot_of(key), 0
        before = (yield from _look(holders, is_cluster=True))[slot]
    else:
        slot, before = 0, holders.number(_of_one(told[0]))
    passes = 0
    for _ in range(_PASSES):
        while True:
            [page] = yield [command(cursor)]
            cursor = _taken(page, take)
            if not cursor:
                break
        after = (yield from _look(holders, is_cluster=is_cluster))[slot]
        passes = passes + 1 if after == before else 0
        if passes >= holders[after].passes:
            return
        before = after
    raise BackendResponseError(f"{key}: {_RESTLESS.format(_PASSES)}".removeprefix(": "))


def scan_keys(
    pattern: str, take: Take, *, is_cluster: bool, missing: dict[str, BackendError] | None = None
) -> Operation[None]:
    """Hand on all keys that a server has, or all masters of a cluster.

    Masters that have no slots yet, and are being given some, are among them.

    Args:
        pattern: of the keys.
        take: is called for each page.
        is_cluster: whether there are several masters.
        missing: takes the masters that do not answer, by their addresses, and why; the keys of all others
            are found. None = that is an error.

    Raises:
        BackendError: a server does not answer, or slots do not stay where they are for as long as it takes.
    """

    def command(cursor: int) -> Command:
        return ("SCAN", cursor, "MATCH", pattern, "COUNT", _KEYS_PER_SCAN)

    if not is_cluster:
        yield from scan(command, take, is_cluster=False)
        return
    holders = _Holders()
    before = yield from _look(holders, is_cluster=True)
    passes = np.zeros(SLOTS, np.int8)  # in a row, in which nothing changed
    unfound = np.ones(SLOTS, bool)
    for _ in range(_PASSES):
        failed = yield from _walk(holders.nodes(before[unfound]), command, take)
        after = yield from _look(holders, is_cluster=True)
        is_same = before == after
        unfinished = holders.nodes(after[unfound & is_same])
        lost = unfinished & failed.keys()
        if lost and missing is None:
            raise failed[min(lost)]
        silent = unfinished & holders.silent
        if silent and missing is None:
            raise BackendResponseError(f"{min(silent)} does not tell where its keys go (CLUSTER NODES)")
        if missing is not None:
            missing |= {node: failed[node] for node in lost}
        passes = np.where(is_same, passes + 1, 0)
        unfound &= passes < holders.passes()[after]
        if not unfound.any():
            unserved = np.count_nonzero(after == holders.number(_NOBODY))
            if unserved and missing is None:
                raise BackendResponseError(f"no node serves {unserved:,} slots of the cluster")
            return
        before = after
    raise BackendResponseError(_RESTLESS.format(_PASSES))


def _walk(
    nodes: Iterable[str], command: Callable[[int], Command], take: Take
) -> Operation[dict[str, BackendError]]:
    """Scan some masters at once; returns those that did not answer."""
    cursors = dict.fromkeys(sorted(nodes), 0)
    failed: dict[str, BackendError] = {}
    while cursors:
        replies = yield [(AT_NODE, node, *command(cursor)) for node, cursor in cursors.items()]
        for node, reply in zip(list(cursors), replies, strict=True):
            if isinstance(reply, BackendError):
                failed[node] = reply
                cursors[node] = 0
            else:
                cursors[node] = _taken(reply, take)
        cursors = {node: cursor for node, cursor in cursors.items() if cursor}
    return failed


def _taken(page: Any, take: Take) -> int:
    """Hand on what a page holds; returns the next cursor."""
    cursor, found = items(unwrap([page])[0])
    take(found)
    return int(cursor)


def _look(holders: _Holders, *, is_cluster: bool) -> Operation[_Slots]:
    """Who has which slots at the moment; of a single server, who it is."""
    if not is_cluster:
        [told] = yield [_WHO]
        return np.array([holders.number(_of_one(told))])
    nodes, servers = yield [NODES, _WHO]
    return _slots(holders, by_node(unwrap([nodes])[0]), by_node(servers))


def _of_one(told: Any) -> _Holder:
    """Who a single server is; a double of one need not know, and not all may ask."""
    return _Holder(run_id=_run_id(by_node(told)[""]))


def _run_id(lines: Iterable[str]) -> str | None:
    return next((line.removeprefix(_RUN_ID) for line in lines if line.startswith(_RUN_ID)), None)


class _Line(NamedTuple):
    """What a node tells of one.

    Attributes:
        id: the node's.
        address, hostname: where it is; a cluster gives clients either of these.
        flags: what it is.
        epoch: of two that claim a slot, the higher one has it.
        slots: first and last ones.
        moving: slots that are open, each with the id of the node to which they are moved; only of itself.
    """

    id: str
    address: str
    hostname: str
    flags: tuple[str, ...]
    epoch: int
    slots: tuple[tuple[int, int], ...]
    moving: tuple[tuple[int, str], ...]


def _lines(told: Iterable[str]) -> Iterator[_Line]:
    for line in told:
        fields = line.split()
        if line.startswith("#") or len(fields) < _FIELDS:
            continue
        id, at, flags, epoch, served = fields[0], fields[1], fields[2], fields[6], fields[_FIELDS:]
        address, _, names = at.partition(",")
        slots = [each.partition("-") for each in served if not each.startswith("[")]
        opened = [found for each in served if (found := _OPEN.match(each))]
        yield _Line(
            id,
            address.partition("@")[0],
            names.partition(",")[0],
            tuple(flags.split(",")),
            int(epoch),
            tuple((int(first), int(last or first)) for first, _, last in slots),
            tuple(
                (int(slot), id if way == "<" else other) for slot, way, other in (o.groups() for o in opened)
            ),
        )


_FIELDS = 8
"""Of a node without slots."""


def _slots(
    holders: _Holders, nodes: Mapping[str, Iterable[str]], servers: Mapping[str, Iterable[str]]
) -> _Slots:
    """Who has which slot, by what all masters tell.

    Args:
        holders: takes whom they name.
        nodes: the lines of CLUSTER NODES, by the address of who told them.
        servers: those of INFO.
    """
    told = {address: list(_lines(lines)) for address, lines in nodes.items()}
    themselves = {
        address: line for address, lines in told.items() for line in lines if "myself" in line.flags
    }
    by_hostname = any(line.hostname and address == _named(line) for address, line in themselves.items())
    lines = [line for of_one in told.values() for line in of_one]
    addresses = {line.id: _named(line) if by_hostname and line.hostname else line.address for line in lines}
    addresses |= {line.id: address for address, line in themselves.items()}
    result = np.zeros(SLOTS, np.intp)
    runs = {address: _run_id(lines) for address, lines in servers.items()}
    by_epoch = sorted({(line.epoch, line.id, line.slots) for line in lines})  # of two, the last has a slot
    for _, id, slots in by_epoch:
        number = holders.number(_Holder(addresses[id], runs.get(addresses[id])))
        for first, last in slots:
            result[first : last + 1] = number
    for line in themselves.values():
        for slot, id in line.moving:
            source, target = holders[result[slot]], addresses.get(id, "")
            if source.node != target:
                result[slot] = holders.number(source._replace(target=target))
    serving = {holders[number].node for number in np.unique(result)} - {_NOBODY.node}
    holders.silent = serving - themselves.keys()
    return result


def _named(line: _Line) -> str:
    return f"{line.hostname}:{line.address.rpartition(':')[2]}"
