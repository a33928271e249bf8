"""Sketches that expire soon, and that an archive does not have."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from ...archives import ArchiveFile
from ...words import duration, many
from ..base import Context, Operation, batched
from ..inventory import Entry

__all__ = ["unarchived"]

_KEYS_PER_BATCH = 1000


def unarchived(
    context: Context, entries: Sequence[Entry], file: ArchiveFile, within: timedelta
) -> Operation[list[str]]:
    """Warnings of sketches that expire soon, and that an archive does not have; a sentence at most.

    Args:
        context: what operations are planned with.
        entries: what the server holds.
        file: the archive.
        within: how soon.

    Raises:
        ArchiveError: of the file.
    """
    with file.reading() as held:
        known, head = held.entries, held.head
    at_risk: list[Entry] = []
    for batch in batched((entry for entry in entries if {"count", "hll"} <= entry.parts), _KEYS_PER_BATCH):
        keys = [context.keys.bucket(entry.period.name, entry.bucket).hll for entry in batch]
        for entry, left in zip(batch, (yield [("TTL", key) for key in keys]), strict=True):
            if isinstance(left, int) and 0 <= left <= within.total_seconds():
                own = known.get((entry.period.name, entry.bucket))
                is_covered = head.coverage.has_all_of(entry.period, entry.bucket)
                if own is None or not own.has_tracked or not own.is_whole or not is_covered:
                    at_risk.append(entry)
    if not at_risk:
        return []
    expire = many(len(at_risk), "sketch expires", "sketches expire")
    first = f"{at_risk[0].period.name} bucket {at_risk[0].bucket or '(all)'}"
    what = f"{expire} within {duration(within)} that the archive does not have, such as {first}"
    return [f"{what}: archive() or, at the command line, archive keeps them"]
