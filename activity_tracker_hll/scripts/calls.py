"""The calls of the Lua scripts: the one place where Python and Lua agree on keys, arguments and replies.

Each script is declared here once. The declaration names the keys and arguments, both for the source (the
``.lua`` file of that name beside this one) and for the order in which a call sends them. It also lists the
states that a reply may begin with; a test compares them with the source. Every source begins with
``common.lua``.

A script runs on the server in one atomic step. The keys of a bucket and period share a cluster slot, but
:data:`COLLAPSE` and :data:`STORE` can be called for several buckets, and :data:`AGGREGATE` takes any buckets
as sources. Every script may be run again after a lost reply: it returns the state, not what it changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import BackendDataError, BackendError
from ..keys import BucketKeys

__all__ = [
    "ABSORB",
    "AGGREGATE",
    "AWAITED",
    "AWAITED_FROM",
    "BACKDATED_US",
    "COLLAPSE",
    "EMPTY_TABLE",
    "EXPIRE",
    "LENGTHEN",
    "RESTORE",
    "SCRIPTS",
    "SOURCES",
    "STORE",
    "STORE_UNION",
    "UNITE",
    "UNKNOWN",
    "WRITE",
    "Call",
    "Count",
    "Due",
    "Readings",
    "Script",
    "Stored",
    "TableState",
    "answer",
    "answers",
    "call_absorb",
    "call_aggregate",
    "call_collapse",
    "call_expire",
    "call_lengthen",
    "call_restore",
    "call_store",
    "call_store_union",
    "call_unite",
    "call_write",
    "read_stamp",
]

_FOLDER = Path(__file__).parent
_COMMON = (_FOLDER / "common.lua").read_text("utf-8")

BACKDATED_US = 10_000_000
"""A leaving is backdated if it is older than the newest event of the side table, or than now, by so much when
it is merged. Who knows the table reads only what is newer, unless one is announced."""
_ANNOUNCED_S = 86_400

AWAITED = 4_102_444_800
"""When sketches that an aggregate still needs expire, in 2100: that they do shows that they were counted."""
AWAITED_FROM = 4_070_908_800
"""An expiry from 2099 on is that one; how long a key has left is told only to about a second."""

_CONSTANTS = f"local BACKDATED_US, ANNOUNCED_S, AWAITED_FROM = {BACKDATED_US}, {_ANNOUNCED_S}, {AWAITED_FROM}"

_FARTHEST = 2.0**53
"""Scores are exact up to here."""

Call = tuple[str | bytes | float, ...]
"""A command of the server."""


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script, which the server knows by the digest of its source.

    Attributes:
        name: of its file, without the extension.
        keys: their names, in the order in which they are sent; further keys begin at ``KEYS[EXTRA_KEYS]``.
        arguments: the same for arguments; further ones begin at ``ARGV[EXTRA_ARGS]``.
        states: what a reply may begin with. Any script may also reply BROKEN and a message: a key holds
            something that does not belong there.
        each: names of arguments given for each bucket. A script that has them can be called for several
            buckets: it is sent the keys of all buckets, `arguments`, and the `each` of all buckets, and
            replies with a list.
    """

    name: str
    keys: tuple[str, ...]
    arguments: tuple[str, ...]
    states: tuple[bytes, ...]
    each: tuple[str, ...] = ()
    source: str = field(init=False, repr=False)
    sha: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        body = (_FOLDER / f"{self.name}.lua").read_text("utf-8")
        keys, each = len(self.keys), len(self.each)
        arguments = _named("ARGV", self.arguments)
        if each:
            begin = [
                arguments,
                "local results = {}",
                f"for i = 0, #KEYS / {keys} - 1 do",
                _named("KEYS", self.keys, f"i * {keys} + "),
                _named("ARGV", self.each, f"i * {each} + {len(self.arguments)} + "),
                "local result = guarded(function()",
            ]
            end = [
                "end)",
                "if result.err then return result end",
                "results[i + 1] = result",
                "end",
                "return results",
            ]
        else:
            extra = f"local EXTRA_KEYS, EXTRA_ARGS = {keys + 1}, {len(self.arguments) + 1}"
            begin = [_named("KEYS", self.keys), arguments, extra, "return guarded(function()"]
            end = ["end)"]
        source = "\n".join([_CONSTANTS, _COMMON, *begin, body, *end, ""])
        object.__setattr__(self, "source", source)
        digest = hashlib.sha1(source.encode(), usedforsecurity=False)
        object.__setattr__(self, "sha", digest.hexdigest())

    def call(self, keys: Sequence[str], *arguments: str | bytes | float) -> Call:
        """The command that runs the script."""
        return ("EVALSHA", self.sha, len(keys), *keys, *arguments)


def _named(table: str, names: Sequence[str], offset: str = "") -> str:
    """A Lua statement that assigns the elements of a table, from `offset` on, to variables."""
    if not names:
        return ""
    values = ", ".join(f"{table}[{offset}{index}]" for index in range(1, len(names) + 1))
    return f"local {', '.join(names)} = {values}"


_BUCKET = ("count", "stderr", "hll", "moved", "moves")

UNITE = Script(
    "unite",
    (*_BUCKET, "announced", "temporary"),
    ("sketch", "base"),
    (b"LATE", b"SPARSE", b"OK"),
)
WRITE = Script("write", (*_BUCKET, "announced"), ("limit", "actives"), (b"LATE", b"OK"))
COLLAPSE = Script(
    "collapse",
    _BUCKET,
    ("recount",),
    (b"NONE", b"DONE", b"GONE", b"TEXT", b"FOREIGN", b"CHANGED", b"COUNTED", b"READ"),
    each=("error_text", "expiry"),
)
STORE = Script(
    "store",
    _BUCKET,
    (),
    (b"STORED", b"CHANGED"),
    each=("tracked", "left", "back", "n", "error_text", "expiry"),
)
ABSORB = Script("absorb", _BUCKET, ("seen",), (b"CHANGED", b"OPEN"))
AGGREGATE = Script(
    "aggregate", ("count", "stderr", "hll", "temporary"), ("seen", "expiry"), (b"CHANGED", b"COUNTED")
)
STORE_UNION = Script(
    "store_union",
    ("count", "stderr", "hll"),
    ("seen", "n", "error_text", "sketch", "expiry"),
    (b"STORED", b"CHANGED"),
)
EXPIRE = Script("expire", ("hll",), ("expiry",), (b"OK",))
LENGTHEN = Script("lengthen", ("settings",), (), (b"OK",))
RESTORE = Script(
    "restore",
    (*_BUCKET, "temporary"),
    ("n", "error_text", "sketch", "moved_sketch", "is_part", "expiry"),
    (b"OK",),
)

SCRIPTS = (UNITE, WRITE, COLLAPSE, STORE, ABSORB, AGGREGATE, STORE_UNION, EXPIRE, LENGTHEN, RESTORE)
SOURCES = {script.sha: script.source for script in SCRIPTS}
"""Sources by digest, for a server that does not know a script yet."""


def read_stamp(score: Any) -> int:
    """A score of a side table as a stamp, limited to the range in which scores are exact."""
    return round(max(-_FARTHEST, min(float(score), _FARTHEST)))


class TableState(NamedTuple):
    """A summary of a bucket's side table, from a reply of :data:`UNITE` or :data:`WRITE`.

    Attributes:
        members: the number of ids in it.
        left: the number of those whose newest event is that they left.
        newest: the newest stamp by absolute value, in microseconds; 0 for an empty table.
        since: a stamp; every later leaving that is not newer than that will be announced as backdated.
        announced: another text after each leaving; its first word changes with backdated ones, see
            :data:`BACKDATED_US`.
    """

    members: int
    left: int
    newest: int
    since: int
    announced: bytes

    @classmethod
    def read(cls, reply: Sequence[Any]) -> TableState:
        """The summary from the end of a reply."""
        members, left, newest, since, announced = reply[-5:]
        return cls(int(members), int(left), abs(read_stamp(newest)), int(since), announced)

    def backdated_since(self, known: TableState) -> bool:
        """Whether there may have been backdated leavings since another summary was made."""
        return self.announced.split()[0] != known.announced.split()[0]


EMPTY_TABLE = TableState(0, 0, 0, 0, b"0 0")


class Readings(NamedTuple):
    """The data a bucket's count is made from, as returned by :data:`COLLAPSE`.

    Attributes:
        tracked: the server's count of the sketch of tracked ids.
        moved: its count of the sketch of moved ids.
        back: the number of ids in the side table that are active again.
        hll: the sketch of tracked ids; empty if the server has something else there.
        moved_hll: the sketch of moved ids; likewise.
    """

    tracked: int
    moved: int
    back: int
    hll: bytes
    moved_hll: bytes


def answer(reply: Any) -> tuple[bytes, list[Any]]:
    """Split a script's reply into its state and the values that follow.

    Raises:
        BackendError: the reply is one.
        BackendDataError: a key holds something that does not belong there.
    """
    if isinstance(reply, BackendError):
        raise reply
    state, *values = reply
    if state == b"BROKEN":
        raise BackendDataError(values[0].decode("utf-8", "replace"))
    return state, values


def answers(reply: Any, count: int) -> list[Any]:
    """The reply for each bucket of a script that was called for several; an error is that of all."""
    return [reply] * count if isinstance(reply, BackendError) else list(reply)


def call_unite(keys: BucketKeys, temporary: str, sketch: bytes, base: bytes = b"") -> Call:
    """Unite a sketch with that of a bucket; if it is empty, only report what the bucket has.

    Args:
        keys: the bucket's keys.
        temporary: a key in the bucket's slot that nobody else uses.
        sketch: the sketch to unite with the bucket's.
        base: the bucket's own sketch if `sketch` already includes it, else empty.

    Replies: LATE; SPARSE and the bucket's own sketch; OK, whether there was one, whether ids were moved out
    of the bucket, and a :class:`TableState`.
    """
    return UNITE.call((*keys[:5], keys.announced, temporary), sketch, base)


def call_write(
    keys: BucketKeys,
    limit: int,
    actives: Sequence[tuple[bytes, int]] = (),
    moves: Sequence[tuple[bytes, int]] = (),
) -> Call:
    """Add active ids to a bucket, and merge the stamps of ids that moved into its side table.

    Args:
        keys: the bucket's keys.
        limit: the most members that the side table may have.
        actives: ids that were active, each with its stamp.
        moves: ids that moved, each with the stamp of its newest event: negative if it left.

    Replies: LATE; OK, whether there was a sketch before, whether ids were moved out before, the members of
    the side table before, and a :class:`TableState`.
    """
    return WRITE.call(
        (*keys[:5], keys.announced),
        limit,
        len(actives),
        *(part for event in actives for part in event),
        *(part for event in moves for part in event),
    )


UNKNOWN = "?"
"""In place of a standard error: nobody looked at the sketch."""


class Due(NamedTuple):
    """A bucket to be counted.

    Attributes:
        keys: its keys.
        expiry: the Unix time at which its sketch expires, or "keep".
        error: the standard error of the count, as text, if nobody left the bucket; empty for the plain
            formula's; :data:`UNKNOWN` if someone has to look at the sketch before it is counted.
    """

    keys: BucketKeys
    expiry: str
    error: str = ""


def call_collapse(buckets: Sequence[Due], *, recount: bool) -> Call:
    """Store the counts of buckets, or return the data from which to make them, where there were moves.

    Args:
        buckets: which.
        recount: also count what was counted before.

    Replies, for each: NONE, DONE, GONE, TEXT, FOREIGN, CHANGED, COUNTED or READ, see ``collapse.lua``; READ
    comes with :class:`Readings`.
    """
    keys = [key for due in buckets for key in due.keys[:5]]
    each = [argument for _, expiry, error in buckets for argument in (error, expiry)]
    return COLLAPSE.call(keys, int(recount), *each)


class Count(NamedTuple):
    """A count made from what :data:`COLLAPSE` returned.

    Attributes:
        keys: the bucket's keys.
        seen: the data it was made from.
        ids: the estimate.
        error: its standard error as text; empty for the plain formula's.
        expiry: the Unix time at which the sketch expires, or "keep".
    """

    keys: BucketKeys
    seen: Readings
    ids: int
    error: str
    expiry: str


def call_store(counts: Sequence[Count]) -> Call:
    """Store counts.

    Replies, for each: STORED; CHANGED if the bucket is no longer as it was read.
    """
    keys = [key for count in counts for key in count.keys[:5]]
    arguments = [
        argument
        for _, seen, ids, error, expiry in counts
        for argument in (seen.tracked, seen.moved, seen.back, ids, error, expiry)
    ]
    return STORE.call(keys, *arguments)


def call_absorb(keys: BucketKeys, seen: bytes, ids: Sequence[bytes]) -> Call:
    """Add ids that came late to a bucket, and delete its count, which does not have them.

    Args:
        keys: the bucket's keys.
        seen: its count, as read; empty if there was none.
        ids: which.

    Replies: CHANGED if the count is no longer as it was read, or its sketch is gone; OPEN.
    """
    return ABSORB.call(keys[:5], seen, *ids)


def call_aggregate(
    keys: BucketKeys, temporary: str, sources: Sequence[BucketKeys], seen: bytes, expiry: str
) -> Call:
    """Unite and count sources without moves on the server, and store the result.

    Args:
        keys: the aggregate's keys.
        temporary: a key in the aggregate's slot that nobody else uses.
        sources: the keys of the buckets to unite.
        seen: the aggregate's own count, as read; empty if there was none.
        expiry: the Unix time at which the aggregate's sketch expires, or "keep".

    Replies: CHANGED; COUNTED and the count.
    """
    further = [key for source in sources for key in (source.hll, source.moved)]
    return AGGREGATE.call((keys.counted, keys.stderr, keys.hll, temporary, *further), seen, expiry)


def call_store_union(
    keys: BucketKeys, seen: bytes, count: int, error: str, sketch: bytes, expiry: str
) -> Call:
    """Store the count of an aggregate, and its sketch if it has one; replies as :func:`call_store`."""
    return STORE_UNION.call((keys.counted, keys.stderr, keys.hll), seen, count, error, sketch, expiry)


def call_expire(keys: BucketKeys, expiry: str) -> Call:
    """Set the expiry of a sketch that has none."""
    return EXPIRE.call((keys.hll,), expiry)


def call_lengthen(settings: str, lengths: Mapping[str, str]) -> Call:
    """Store for how long sketches are kept, where that is longer than what is stored.

    Args:
        settings: the key of the settings.
        lengths: by field, seconds or "forever".
    """
    return LENGTHEN.call((settings,), *(part for pair in lengths.items() for part in pair))


class Stored(NamedTuple):
    """What an archive has of a bucket, as a server stores it; empty = there is none.

    Attributes:
        n: the count.
        error_text: its standard error; empty for the plain formula's, too.
        hll: the sketch of tracked ids.
        moved_hll: that of moved ids.
        is_part: "1" if ids may have come after it was archived.
    """

    n: str
    error_text: str
    hll: bytes
    moved_hll: bytes
    is_part: str = ""


def call_restore(keys: BucketKeys, temporary: str, stored: Stored, expiry: str) -> Call:
    """Unite a bucket with what an archive has of it.

    Args:
        keys: the bucket's keys.
        temporary: a key in the bucket's slot that nobody else uses.
        stored: what the archive has.
        expiry: the Unix time at which sketches that are counted expire, or "keep".

    Replies: OK, and whether the bucket holds ids that no stored count knows of.
    """
    return RESTORE.call((*keys[:5], temporary), *stored, expiry)
