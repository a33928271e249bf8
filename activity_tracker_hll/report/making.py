"""Making a report: asks the reader, draws the page, and puts it in its place in one step."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import arguments
from ..driving import run, run_awaiting
from ..errors import ArgumentTypeError, ReportError
from ..keys import check_bucket
from ..messages import plain_text, shown
from ..paths import Place
from .facts import Facts, Source, Wanted
from .gather import gather
from .page import page
from .questions import Question, put, put_awaiting

__all__ = ["Report"]


@dataclass(frozen=True, slots=True)
class Report:
    """A report that is to be made.

    Attributes:
        place: where the file is put.
        wanted: what it is about.
        progress: is called with what is asked next.
    """

    place: Place
    wanted: Wanted
    progress: Callable[[str], object] | None = None

    @classmethod
    def of(
        cls,
        source: Source,
        path: object,
        *,
        start: Any,
        end: Any,
        buckets: object,
        bucket: object,
        title: object,
        progress: Any,
        shard: int,
    ) -> Report:
        """One of arguments as they were given, see :meth:`.Reader.report`.

        Raises:
            ArgumentTypeError, ArgumentValueError: naming the argument.
        """
        for bound, name in ((start, "start"), (end, "end")):
            if bound is not None:
                source.calendar.moment(bound, name)
        names = None if buckets is None else arguments.bucket_list(buckets)
        heading = plain_text(title)
        if heading is None:
            raise ArgumentTypeError(f"title must be a str, got {shown(title)}")
        arguments.check_callable(progress, "progress")
        about = ... if bucket is ... else check_bucket(bucket)
        wanted = Wanted(source, names, about, start, end, heading, shard)
        return cls(Place.of(path, "a file"), wanted, progress)

    def make(self, reader: Any) -> Path:
        """Ask a reader, and write the file."""
        return self._write(run(gather(self.wanted), lambda question: put(reader, self._told(question))))

    async def make_awaiting(self, reader: Any) -> Path:
        """:meth:`make` for asyncio: the event loop goes on while the page is drawn."""
        facts = await run_awaiting(
            gather(self.wanted), lambda question: put_awaiting(reader, self._told(question))
        )
        return await asyncio.to_thread(self._write, facts)

    def _told(self, question: Question) -> Question:
        """The question, after `progress` has heard of it."""
        if self.progress is not None:
            self.progress(question.about)
        return question

    def _write(self, facts: Facts) -> Path:
        """Write the page.

        Raises:
            ReportError: it cannot be written.
        """
        text = page(facts).encode()
        try:
            place = Path(os.path.realpath(self.place.path))  # what a link leads to: it stays a link
            if place.exists() and not place.is_file():  # a pipe or a device, which nobody may replace
                place.write_bytes(text)
            else:
                _replace(place, text)
        except OSError as error:
            why = self.place.why(error)
            raise ReportError(f"the report cannot be written to {self.place.shown}: {why}") from error
        return self.place.path


def _replace(place: Path, text: bytes) -> None:
    """Write a file beside its place and rename it, so that there is always a whole one."""
    # In the same folder, as only within a file system renaming is one step.
    beside = place.with_name(f".report-{secrets.token_hex(8)}")
    try:
        with beside.open("xb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())  # or a crash of the machine may leave the name and no text
        beside.replace(place)
    finally:
        beside.unlink(missing_ok=True)
