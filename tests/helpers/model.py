"""The server's part of tracking, in plain Python, command by command."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from activity_tracker_hll.bulk import hashes_of_bytes
from activity_tracker_hll.hll import codec
from activity_tracker_hll.hll.registers import Registers, empty, fold
from activity_tracker_hll.scripts import calls

Stamped = Iterable[tuple[bytes, int]]


def registers_of(ids: Iterable[bytes]) -> Registers:
    """The registers of encoded ids."""
    registers = empty()
    fold(registers, hashes_of_bytes(list(ids)))
    return registers


def newer(stamp: int, other: int) -> bool:
    """Whether a signed stamp takes the place of another: newest by absolute value, active wins a tie."""
    return abs(stamp) > abs(other) or stamp == -other > 0


class Bucket:
    """One bucket and period.

    Attributes:
        tracked: encoded ids that were added as ids; `united`: registers that were added.
        moved: encoded ids that ever left.
        table: of those who ever left, the signed stamp of the newest event.
        backdated, leavings: how often scripts announced that somebody may have left long ago, or at all.
        announced_at: when they did last, in microseconds.
    """

    def __init__(self) -> None:
        self.tracked: set[bytes] = set()
        self.united: Registers | None = None
        self.moved: set[bytes] = set()
        self.table: dict[bytes, int] = {}
        self.backdated = self.leavings = self.announced_at = 0

    @property
    def registers(self) -> Registers:
        """H."""
        registers = registers_of(self.tracked)
        return registers if self.united is None else np.maximum(registers, self.united)

    def state(self, now: int) -> calls.TableState:
        """What scripts say of the side table."""
        if not self.table:
            return calls.EMPTY_TABLE
        if not self.leavings:
            self._announce(now, backdated=True)
        left = sum(stamp < 0 for stamp in self.table.values())
        since = min(self.newest, self.announced_at) - calls.BACKDATED_US
        announced = b"%d %d" % (self.backdated, self.leavings)
        return calls.TableState(len(self.table), left, self.newest, since, announced)

    @property
    def newest(self) -> int:
        """The newest stamp of the side table."""
        return max(map(abs, self.table.values()), default=0)

    def raise_stamp(self, id: bytes, stamp: int) -> None:
        """ZADD XX GT."""
        if id in self.table:
            self.table[id] = max(self.table[id], stamp)

    def write(self, limit: int, actives: Stamped, moves: Stamped, now: int = 0) -> tuple[int, int, int]:
        """As ``scripts/write.lua``; what there was before."""
        before = self.existed, int(bool(self.moved)), len(self.table)
        for id, stamp in actives:
            self.tracked.add(id)
            if id in self.table:
                self._merge(id, stamp)
        left = []
        for id, stamp in moves:
            self.tracked.add(id)
            room = len(self.table) < limit
            if stamp < 0 or id in self.table or room:
                self.moved.add(id)
            if (id in self.table or room) and self._merge(id, stamp) and stamp < 0:
                left.append(-stamp)
        if left:
            long_ago = max(self.newest, now) - calls.BACKDATED_US
            self._announce(now, backdated=min(left) <= long_ago or not self.leavings)
        return before

    def _announce(self, now: int, *, backdated: bool) -> None:
        self.announced_at = max(now, self.announced_at + 1)
        self.leavings += 1
        self.backdated += backdated

    @property
    def existed(self) -> int:
        """Whether there is a sketch."""
        return int(bool(self.tracked) or self.united is not None)

    def _merge(self, id: bytes, stamp: int) -> bool:
        """Whether it was the newer event."""
        is_newer = newer(stamp, self.table.get(id, 0))
        if is_newer:
            self.table[id] = stamp
        return is_newer

    def unite(self, sketch: bytes) -> tuple[int, int]:
        """As ``scripts/unite.lua``; whether there was a sketch, and whether ids were moved out."""
        existed = self.existed
        if sketch:
            registers = codec.decode(sketch)
            self.united = registers if self.united is None else np.maximum(self.united, registers)
        return existed, int(bool(self.moved))


class ModelServer:
    """Executes what trackers and writers send while they track in one bucket and period.

    Args:
        now: microseconds since 1970.
    """

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._runs = 1
        self._meta: dict[str, str] = {}
        self.bucket = Bucket()

    def restart(self, *, empty: bool) -> None:
        """Another run, with the data or without."""
        self._runs += 1
        if empty:
            self.lose()

    def lose(self, *parts: str) -> None:
        """Parts of the data, or all."""
        if not parts:
            self.bucket, self._meta = Bucket(), {}
        if "hll" in parts:
            self.bucket.tracked, self.bucket.united = set(), None
        if "moved" in parts:
            self.bucket.moved = set()
        if "moves" in parts:
            self.bucket.table = {}

    def execute(self, commands: Sequence[Any]) -> list[Any]:
        """The replies to some commands."""
        return [getattr(self, f"_{command[0].lower()}")(*command[1:]) for command in commands]

    def _time(self) -> tuple[int, int]:
        return divmod(self._now(), 1_000_000)

    def _info(self, _section: str) -> bytes:
        return b"# Server\r\nrun_id:%040x\r\n" % self._runs

    def _exists(self, key: str) -> int:
        return self.bucket.existed if key.endswith("hll") else int(bool(self._meta))

    def _hscan(self, _key: str, *_how: Any) -> list[Any]:
        return [b"0", [part.encode() for field in self._meta.items() for part in field]]

    def _hsetnx(self, _key: str, field: str, value: str) -> int:
        self._meta.setdefault(field, value)
        return 0

    def _hset(self, _key: str, *fields: str) -> int:
        self._meta.update(zip(fields[::2], fields[1::2], strict=True))
        return 0

    def _set(self, _key: str, *_rest: Any) -> bytes:
        return b"OK"

    def _pfcount(self, _key: str) -> int:
        return 1

    def _del(self, _key: str) -> int:
        return 1

    def _sadd(self, _key: str, *names: str) -> int:
        return len(names)

    def _pfadd(self, _key: str, *ids: bytes) -> int:
        self.bucket.tracked.update(ids)
        return 0

    def _zcard(self, _key: str) -> int:
        return len(self.bucket.table)

    def _zadd(self, _key: str, _xx: str, _gt: str, stamp: int, id: bytes) -> int:
        self.bucket.raise_stamp(id, stamp)
        return 0

    def _zrangebyscore(self, _key: str, low: str, high: str, *options: Any) -> list[Any]:
        _, _, offset, count = options
        least, most = _bound(low, -1), _bound(high, +1)
        found = sorted((stamp, id) for id, stamp in self.bucket.table.items() if least <= stamp <= most)
        return [part for stamp, id in found[offset : offset + count] for part in (id, b"%d" % stamp)]

    def _zcount(self, _key: str, low: str, high: str) -> int:
        least, most = _bound(low, -1), _bound(high, +1)
        return sum(least <= stamp <= most for stamp in self.bucket.table.values())

    def _evalsha(self, sha: str, keys: int, *rest: Any) -> list[Any]:
        arguments = rest[keys:]
        if sha == calls.UNITE.sha:
            return [b"OK", *self.bucket.unite(arguments[0]), *self.bucket.state(self._now())]
        assert sha == calls.WRITE.sha
        limit, actives, *parts = arguments
        events = list(zip(parts[::2], parts[1::2], strict=True))
        before = self.bucket.write(limit, events[:actives], events[actives:], self._now())
        return [b"OK", *before, *self.bucket.state(self._now())]


def _bound(text: str, inwards: int) -> float:
    """A bound of a range of integers; one that begins with a parenthesis is not in the range."""
    return float(text[1:]) - inwards if text.startswith("(") else float(text)
