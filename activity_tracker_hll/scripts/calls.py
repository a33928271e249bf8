"""The calls of the Lua scripts: the one place where Python and Lua agree on keys, arguments and replies.

Each script is declared here once. From the declaration come the names that its source, the ``.lua`` file of
that name beside this one, knows its keys and arguments by, and the order in which a call sends them; the
states that it may answer with are listed, and a test compares them with the source. ``common.lua`` is put
before each.

A script runs on the server in one atomic step. Keys of a bucket and period share a cluster slot;
:data:`COLLAPSE` and :data:`STORE` may be called for several buckets, and :data:`AGGREGATE` takes sources of
any. Each may be run again after a lost reply: it returns state, not change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import BackendDataError, BackendError
from ..keys import BucketKeys

__all__ = [
    "AGGREGATE",
    "COLLAPSE",
    "EMPTY_TABLE",
    "EXPIRE",
    "SCRIPTS",
    "SOURCES",
    "STORE",
    "STORE_UNION",
    "UNITE",
    "WRITE",
    "Call",
    "Count",
    "Readings",
    "Script",
    "TableState",
    "answer",
    "answers",
    "call_aggregate",
    "call_collapse",
    "call_expire",
    "call_store",
    "call_store_union",
    "call_unite",
    "call_write",
    "read_stamp",
]

_FOLDER = Path(__file__).parent
_COMMON = (_FOLDER / "common.lua").read_text("utf-8")

_FARTHEST = 2.0**53
"""Scores are exact up to here."""

Call = tuple[str | bytes | float, ...]
"""A command of the server."""


@dataclass(frozen=True, slots=True)
class Script:
    """A script as the server knows it: by the digest of its source.

    Attributes:
        name: of its file.
        keys, arguments: names, in the order in which they are sent; what follows them is
            ``KEYS[REST_KEYS]``, ``ARGV[REST]`` and so on.
        states: what a reply may begin with. Besides these it can be BROKEN and a message: a key holds what
            does not belong there.
        each: names of arguments that a bucket has. A script with such may be called for several buckets: it
            is sent the keys of each, then `arguments`, then `each` of each bucket, and answers with a list.
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
            rest = f"local REST_KEYS, REST = {keys + 1}, {len(self.arguments) + 1}"
            begin = [_named("KEYS", self.keys), arguments, rest, "return guarded(function()"]
            end = ["end)"]
        source = "\n".join([_COMMON, *begin, body, *end, ""])
        object.__setattr__(self, "source", source)
        digest = hashlib.sha1(source.encode(), usedforsecurity=False)
        object.__setattr__(self, "sha", digest.hexdigest())

    def call(self, keys: Sequence[str], *arguments: str | bytes | float) -> Call:
        """The command that runs it."""
        return ("EVALSHA", self.sha, len(keys), *keys, *arguments)


def _named(table: str, names: Sequence[str], offset: str = "") -> str:
    """Lua that gives elements of a table, from that place on, their names."""
    if not names:
        return ""
    values = ", ".join(f"{table}[{offset}{at}]" for at in range(1, len(names) + 1))
    return f"local {', '.join(names)} = {values}"


_BUCKET = ("count", "stderr", "hll", "moved", "moves")

UNITE = Script(
    "unite", ("count", "hll", "moved", "moves", "temporary"), ("sketch", "base"), (b"LATE", b"SPARSE", b"OK")
)
WRITE = Script("write", ("count", "hll", "moved", "moves"), ("limit", "actives"), (b"LATE", b"OK"))
COLLAPSE = Script(
    "collapse",
    _BUCKET,
    ("recount", "look"),
    (b"NONE", b"DONE", b"GONE", b"TEXT", b"FOREIGN", b"COUNTED", b"READ"),
    each=("expiry",),
)
STORE = Script(
    "store",
    _BUCKET,
    (),
    (b"STORED", b"CHANGED"),
    each=("tracked", "left", "back", "n", "error_text", "expiry"),
)
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

SCRIPTS = (UNITE, WRITE, COLLAPSE, STORE, AGGREGATE, STORE_UNION, EXPIRE)
SOURCES = {script.sha: script.source for script in SCRIPTS}
"""Source by digest, for a server that does not know a script yet."""


def read_stamp(score: Any) -> int:
    """A score of a side table as a stamp; what nobody's clock can have made becomes the farthest there is."""
    return round(max(-_FARTHEST, min(float(score), _FARTHEST)))


class TableState(NamedTuple):
    """What a bucket's side table holds, as :data:`UNITE` and :data:`WRITE` answer.

    Attributes:
        members: how many ids.
        left: how many of them left last.
        newest: newest stamp by absolute value, in microseconds; 0 for an empty table.
    """

    members: int
    left: int
    newest: int

    @classmethod
    def read(cls, parts: Sequence[Any]) -> TableState:
        """From the end of a reply."""
        members, left, newest = parts
        return cls(int(members), int(left), abs(read_stamp(newest)))


EMPTY_TABLE = TableState(0, 0, 0)


class Readings(NamedTuple):
    """What a count is made from, as :data:`COLLAPSE` hands it out.

    Attributes:
        tracked, moved: counts of the sketches by the server.
        back: ids of the side table that are active.
        hll, moved_hll: the sketches; empty where the server has something else.
    """

    tracked: int
    moved: int
    back: int
    hll: bytes
    moved_hll: bytes


def answer(reply: Any) -> tuple[bytes, list[Any]]:
    """The state a script answered with, and what follows it.

    Raises:
        BackendError: the reply is one.
        BackendDataError: a key holds what does not belong there.
    """
    if isinstance(reply, BackendError):
        raise reply
    state, *rest = reply
    if state == b"BROKEN":
        raise BackendDataError(rest[0].decode("utf-8", "replace"))
    return state, rest


def answers(reply: Any, count: int) -> list[Any]:
    """The replies of a script that was called for several buckets; an error is that of each."""
    return [reply] * count if isinstance(reply, BackendError) else list(reply)


def call_unite(keys: BucketKeys, temporary: str, sketch: bytes, base: bytes = b"") -> Call:
    """Unite a sketch with a bucket's; without one, only look.

    Args:
        temporary: a key of the bucket's slot that nobody else uses.
        sketch: what is united with the bucket's sketch.
        base: the bucket's own sketch, if `sketch` includes it already.

    Answers: LATE; SPARSE and the bucket's own sketch; OK, whether there was one, whether ids were moved out
    of the bucket, and a :class:`TableState`.
    """
    return UNITE.call((keys.counted, keys.hll, keys.moved, keys.moves, temporary), sketch, base)


def call_write(
    keys: BucketKeys,
    limit: int,
    actives: Sequence[tuple[bytes, int]] = (),
    moves: Sequence[tuple[bytes, int]] = (),
) -> Call:
    """Add ids that were active, each with its stamp; merge stamps of ids that moved, negative if they left.

    Args:
        limit: members that the side table holds at most.

    Answers: LATE; OK, whether there was a sketch before, whether ids were moved out, members of the side
    table before, and a :class:`TableState`.
    """
    return WRITE.call(
        (keys.counted, keys.hll, keys.moved, keys.moves),
        limit,
        len(actives),
        *(part for event in actives for part in event),
        *(part for event in moves for part in event),
    )


def call_collapse(buckets: Sequence[tuple[BucketKeys, str]], *, recount: bool, look: bool) -> Call:
    """Store the counts of buckets, or hand out what they are to be made from.

    Args:
        buckets: keys of each, and the unix time at which its sketch ends, or "keep".
        look: hand out sketches without moves too.

    Answers, for each: NONE, DONE, GONE, TEXT, FOREIGN, COUNTED, READ, see ``collapse.lua``; READ with
    :class:`Readings`.
    """
    keys = [key for of, _ in buckets for key in of[:5]]
    return COLLAPSE.call(keys, int(recount), int(look), *(expiry for _, expiry in buckets))


class Count(NamedTuple):
    """A count made from what :data:`COLLAPSE` handed out.

    Attributes:
        seen: what it was made from.
        ids: the estimate.
        error: its standard error as text; empty for the plain formula's.
        expiry: unix time at which the sketch ends, or "keep".
    """

    keys: BucketKeys
    seen: Readings
    ids: int
    error: str
    expiry: str


def call_store(counts: Sequence[Count]) -> Call:
    """Store counts.

    Answers, for each: STORED and the count; CHANGED, if the bucket is not as it was read.
    """
    keys = [key for of in counts for key in of.keys[:5]]
    arguments = [
        argument
        for of in counts
        for argument in (of.seen.tracked, of.seen.moved, of.seen.back, of.ids, of.error, of.expiry)
    ]
    return STORE.call(keys, *arguments)


def call_aggregate(
    keys: BucketKeys, temporary: str, sources: Sequence[BucketKeys], seen: bytes, expiry: str
) -> Call:
    """Unite, count and store sources without moves, on one server.

    Args:
        seen: the aggregate's own count, as read; empty if there was none.

    Answers: CHANGED; COUNTED and the count.
    """
    further = [key for source in sources for key in (source.hll, source.moved)]
    return AGGREGATE.call((keys.counted, keys.stderr, keys.hll, temporary, *further), seen, expiry)


def call_store_union(
    keys: BucketKeys, seen: bytes, count: int, error: str, sketch: bytes, expiry: str
) -> Call:
    """Store the count of an aggregate, and its sketch if it has one; as :func:`call_store`."""
    return STORE_UNION.call((keys.counted, keys.stderr, keys.hll), seen, count, error, sketch, expiry)


def call_expire(keys: BucketKeys, expiry: str) -> Call:
    """Give a sketch the expiry that it lacks."""
    return EXPIRE.call((keys.hll,), expiry)
