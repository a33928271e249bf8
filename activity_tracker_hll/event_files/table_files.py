"""Parquet and Arrow IPC files to record batches of the columns that are needed. Needs ``arrow``.

Some ten thousand rows are read at a time, of Parquet fewer where values may be long: a small file can have a
large value in all of its rows. Of Arrow's format, a record batch is read as a whole, as its writer made it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..arrow import check, is_text
from ..ids import MAX_ID_BYTES
from .layout import FieldError
from .lines import escape_unprintable

__all__ = ["ROWS", "Batches", "Column", "ahead", "find_column", "opened"]

ROWS = 65_536
"""The most rows of a Parquet file that are read at once."""

_BYTES = 1 << 23  # of rows that are read at once
_COPIES = 4  # of text while it is decoded
_CODED_BYTES = 1 << 26  # of pages
_ROWS_OF_ANY_SIZE = 256  # that are read at once where it cannot be told how long text may be
_BUFFER = 1 << 20
_NAMES_SHOWN = 500

Batches = Iterator[tuple[Any, int]]
"""Record batches, and the bytes of the file up to the end of each."""


class Column(NamedTuple):
    """Where a column is.

    Attributes:
        name: its name, or that of the struct that it is in.
        which: its place among those of that name.
        inside: the names that lead to it in structs.
    """

    name: str
    which: int = 0
    inside: tuple[str, ...] = ()

    def place(self, schema: Any) -> int:
        """Its place, or that of its struct, in a schema that has all of that name."""
        place: int = schema.get_all_field_indices(self.name)[self.which]
        return place

    @property
    def path(self) -> str:
        """Its name in the metadata of Parquet."""
        return ".".join([self.name, *self.inside])

    def is_text(self, schema: Any) -> bool:
        """Whether it is text or bytes of any length, and the only one of its name."""
        kind = schema.field(self.place(schema)).type
        for name in self.inside:
            kind = kind.field(name).type
        is_binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
        return schema.names.count(self.name) == 1 and (is_text(kind) or is_binary)

    def array(self, batch: Any) -> Any:
        """Its values in a batch."""
        array = batch.column(self.place(batch.schema))
        return pc.struct_field(array, self.inside) if self.inside else array


def find_column(field: str, schema: Any) -> Column:
    """The column that a field is: by its name, names with dots between for one in a struct, or its number."""
    names = list(schema.names)
    if names.count(field) == 1:
        return Column(field)
    first, *others = field.split(".")
    if others and names.count(first) == 1:
        kind = schema.field(first).type
        for name in others:
            if not pa.types.is_struct(kind) or kind.get_field_index(name) < 0:
                break
            kind = kind.field(name).type
        else:
            return Column(first, inside=tuple(others))
    if field.isdecimal() and 0 < int(field) <= len(names):
        before = names[: int(field)]
        return Column(before[-1], before.count(before[-1]) - 1)
    has = escape_unprintable(", ".join(names))
    has = has if len(has) <= _NAMES_SHOWN else f"{has[:_NAMES_SHOWN]}..."
    problem = "several columns are called" if field in names else "there is no column"
    raise FieldError(f"{problem} {field!r} in this table, which has: {has}")


@contextmanager
def opened(path: str) -> Iterator[tuple[Any, Callable[[list[Column]], Batches]]]:
    """The schema of a file, and a function that reads columns of it."""
    size = Path(path).stat().st_size
    with Path(path).open("rb") as stream:
        if stream.read(4) == b"PAR1":
            with _parquet_file(path) as file:
                yield file.schema_arrow, lambda columns: _Parquet(path, file, columns).batches(size)
        else:
            with pa.OSFile(path) as source:
                yield pa.ipc.open_file(source).schema, lambda columns: _ipc_batches(source, columns, size)


def _parquet_file(path: str, **options: Any) -> Any:
    # Without its own buffers, what is ahead in the file is not kept in memory.
    return pq.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER, **options)


class _Reading(NamedTuple):
    """How rows of a Parquet file are read.

    Attributes:
        coded: the columns that are read as dictionaries.
        rows: how many at once.
        part: which rows they are; groups of few are read together.
    """

    coded: tuple[str, ...]
    rows: int
    part: int


class _Parquet:
    """Reads a Parquet file, in not much more memory than its own pages take.

    A text in the dictionary of a group of rows may be long, and stand in all of them: where one is, text is
    read as dictionaries. Elsewhere ids are not, which would take three times as long. Text that is in no
    page's dictionary is put into one that grows up to the end of the group; so no text is read like that
    which is much itself. Nor is what Arrow cannot read like that, of an encoding by differences; where such
    leaves out what a text has in common with the one before, few rows may be long.

    Args:
        path: the file.
        file: the same, opened.
        columns: what is read: the first and the last one, and maybe one between them which has few values.
    """

    def __init__(self, path: str, file: Any, columns: list[Column]) -> None:
        self._path = path
        self._file = file
        texts = [column for column in columns if column.is_text(file.schema_arrow)]
        self._texts = {column.path: column for column in texts}
        self._few = [column.path for column in columns[1:-1] if column in texts]
        self._leaves = [column.path for column in columns]
        # That of a struct and one with dots in its name are asked for alike.
        paths = [file.schema.column(place).path for place in range(len(file.schema))]
        for leaf in self._leaves:
            if "." in leaf and paths.count(leaf) > 1:
                raise FieldError(f"several columns are called {leaf!r} in this table")

    def batches(self, size: int) -> Batches:
        """All batches of a file of so many bytes."""
        about, rows = self._file.metadata, 0
        sizes = [about.row_group(group).num_rows for group in range(about.num_row_groups)]
        begins = [0, *accumulate(sizes)]
        readers: dict[tuple[str, ...], Any] = {}
        with ExitStack() as stack:

            def reader(coded: tuple[str, ...]) -> Any:
                if coded not in readers:
                    file = _parquet_file(self._path, metadata=about, read_dictionary=coded)
                    readers[coded] = stack.enter_context(file)
                return readers[coded]

            def reading(group: int) -> _Reading:
                return self._reading(group, begins[group] // ROWS, reader)

            for how, groups in groupby(range(len(sizes)), reading):
                file = reader(how.coded)
                batches = file.iter_batches(how.rows, columns=self._leaves, row_groups=list(groups))
                for batch in _together(batches) if how.rows <= _ROWS_OF_ANY_SIZE else batches:
                    rows += len(batch)
                    yield batch, size * rows // max(about.num_rows, 1)

    def _longest_text(self, file: Any, paths: Sequence[str], group: int) -> int:
        """The bytes of the longest text in dictionaries, which come as a whole with the first row."""
        first = next(file.iter_batches(1, columns=paths, row_groups=[group]), None)
        texts = [] if first is None else [self._texts[path].array(first).dictionary for path in paths]
        return max((pc.max(pc.binary_length(text)).as_py() or 0 for text in texts), default=0)

    def _reading(self, group: int, part: int, reader: Callable[[tuple[str, ...]], Any]) -> _Reading:
        about = self._file.metadata.row_group(group)
        pages, of_each, most = dict.fromkeys(self._leaves, 0), 1, ROWS
        codable = tuple(self._texts)
        for place in range(about.num_columns):
            chunk = about.column(place)
            path = chunk.path_in_schema
            if path in pages:
                pages[path] += chunk.total_uncompressed_size
                of_each = max(of_each, self._file.schema.column(place).length)
            if path in self._texts and _is_delta(chunk):
                codable = tuple(each for each in codable if each != path)
                if _may_be_of_any_size(chunk):
                    most = _ROWS_OF_ANY_SIZE
        longest = self._longest_text(reader(codable), codable, group) if codable else 0
        texts = self._texts if longest > MAX_ID_BYTES else self._few
        # Arrow cannot join dictionaries in structs.
        able = (path for path in texts if path in codable and not self._texts[path].inside)
        coded = tuple(path for path in able if pages[path] <= _CODED_BYTES)
        of_each = max(of_each, sum(pages.values()) // max(about.num_rows, 1))
        if len(coded) < len(self._texts):
            of_each = max(of_each, longest if longest <= MAX_ID_BYTES else _COPIES * longest)
        return _Reading(coded, min(most, max(1, _BYTES // of_each)), part)


def _together(batches: Iterable[Any]) -> Iterator[Any]:
    """The same rows in batches that are large enough to be handled fast."""
    waiting: list[Any] = []
    rows = size = 0
    for batch in batches:
        waiting.append(batch)
        rows, size = rows + len(batch), size + _bytes_of(batch)
        if rows >= ROWS or _COPIES * size >= _BYTES:
            yield _joined(waiting)
            waiting, rows, size = [], 0, 0
    if waiting:
        yield _joined(waiting)


def _bytes_of(batch: Any) -> int:
    try:
        return int(batch.nbytes)
    except pa.ArrowTypeError:  # before 24 it does not know that of views, of which it reads no parts
        return int(batch.get_total_buffer_size())


def _joined(batches: list[Any]) -> Any:
    if len(batches) == 1:
        return batches[0]
    [joined] = pa.Table.from_batches(batches).combine_chunks().to_batches()
    return joined


def _is_delta(chunk: Any) -> bool:
    """Whether some values of a column are encoded by differences, not in dictionaries."""
    return any(encoding.startswith("DELTA_") for encoding in chunk.encodings)


def _may_be_of_any_size(chunk: Any) -> bool:
    """Whether the pages and dictionaries of one with differences do not tell how long a text is."""
    return "DELTA_BYTE_ARRAY" in chunk.encodings or chunk.has_dictionary_page


def _ipc_batches(source: Any, columns: list[Column], size: int) -> Batches:
    schema = pa.ipc.open_file(source).schema
    wanted = [
        place
        for column in {column.name for column in columns}
        for place in schema.get_all_field_indices(column)
    ]
    file = pa.ipc.open_file(source, options=pa.ipc.IpcReadOptions(included_fields=wanted))
    count = file.num_record_batches
    dictionaries: dict[Column, Any] = {}
    for index in range(count):
        batch = file.get_batch(index)
        for whole in batch.columns:
            whole.validate()  # or structs could not be looked into
        for column in columns:
            array = column.array(batch)
            check(array, dictionaries.get(column))
            if pa.types.is_dictionary(array.type):
                dictionaries[column] = array.dictionary
        yield batch, size * (index + 1) // count


def ahead(batches: Batches) -> Generator[tuple[Any, int], None, None]:
    """The same, each decoded in another thread while the one before is in use: Arrow needs no lock for it."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = thread.submit(next, batches, None)
            yield batch
