"""Sketches that expire soon, and that an archive does not have, or not with all that came since."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from ...archives import ArchiveFile, Held
from ...backends.base import Command, Reply
from ...hll.estimators import cardinality
from ...result import named
from ...words import duration, many
from ..base import Context, Operation, batched
from ..inventory import Entry
from ..tracking.side_table import ACTIVE

__all__ = ["unarchived"]

_KEYS_PER_BATCH = 1000
_RECORDS_PER_BATCH = 100  # of up to two sketches each

Counts = list[int]
"""Of a bucket: all ids, those that ever moved out, and those of them that are back."""


def unarchived(
    context: Context, entries: Sequence[Entry], file: ArchiveFile, within: timedelta
) -> Operation[list[str]]:
    """Warnings of sketches that expire soon, and are not in an archive as they are; a sentence at most.

    Args:
        context: what operations are planned with.
        entries: what the server holds.
        file: the archive.
        within: how soon.

    Raises:
        ArchiveError: of the file.
    """
    expiring: list[Entry] = []
    for batch in batched((entry for entry in entries if {"count", "hll"} <= entry.parts), _KEYS_PER_BATCH):
        keys = [context.keys.bucket(entry.period.name, entry.bucket).hll for entry in batch]
        for entry, left in zip(batch, (yield [("TTL", key) for key in keys]), strict=True):
            if isinstance(left, int) and 0 <= left <= within.total_seconds():
                expiring.append(entry)
    at_risk: list[Entry] = []
    for batch in batched(expiring, _RECORDS_PER_BATCH):
        with file.reading() as held:
            archived = [_archived(held, entry) for entry in batch]
        replies = batched((yield _questions(context, batch)), 3)
        at_risk += [
            entry
            for entry, known, now in zip(batch, archived, replies, strict=True)
            if known is None or _has_more(now, known)
        ]
    if not at_risk:
        return []
    expire = many(len(at_risk), "sketch expires", "sketches expire")
    first = f"{at_risk[0].period.name} bucket {named(at_risk[0].bucket)}"
    what = f"{expire} within {duration(within)} that the archive does not have, or not with all later events"
    return [f"{what}, such as {first}: archive() or, at the command line, archive keeps them"]


def _archived(held: Held, entry: Entry) -> Counts | None:
    """What a file has of a bucket; None if that is nothing, or only what there was while its period ran."""
    record = held.record(entry.period.name, entry.bucket)
    if record is None or record.tracked is None or not record.is_whole:
        return None
    if not held.head.coverage.has_all_of(entry.period, entry.bucket):
        return None
    sketches = [0 if each is None else cardinality(each) for each in (record.tracked, record.moved)]
    return [*sketches, sum(stamp > 0 for stamp in record.moves.values())]


def _questions(context: Context, entries: Sequence[Entry]) -> list[Command]:
    """What to ask for what :func:`_archived` tells of a file; the server remembers the counts of sketches."""
    keys = [context.keys.bucket(entry.period.name, entry.bucket) for entry in entries]
    return [
        command
        for own in keys
        for command in (("PFCOUNT", own.hll), ("PFCOUNT", own.moved), ("ZCOUNT", own.moves, *ACTIVE))
    ]


def _has_more(now: Sequence[Reply], known: Counts) -> bool:
    """Whether a server holds what a file does not: its sketches only grow, and count as they do here.

    Of those that are back there may be fewer, if they left again. What the server does not tell is no more.
    """
    sketches = list(zip(now[:2], known[:2], strict=True))
    is_same = all(count == of_file for count, of_file in sketches)
    grew = any(isinstance(count, int) and count > of_file for count, of_file in sketches)
    return grew or (is_same and isinstance(now[2], int) and now[2] != known[2])
