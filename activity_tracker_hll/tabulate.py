"""Tables of text and HTML, for results that are printed or shown in a notebook.

With rich (extra ``cli``) they are its tables; without it, plain columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from .messages import printable

__all__ = ["html", "text"]

Rows = Sequence[Sequence[str]]
_WIDTH = 1000  # what prints it folds lines itself


def text(title: str, headers: Sequence[str], rows: Rows) -> str:
    """A table of text below its title: the first column is of labels, the others of numbers."""
    cells = [[printable(cell) for cell in row] for row in (headers, *rows)]
    try:
        lines = _lines(cells)
    except ImportError:
        lines = _plain_lines(cells)
    return "\n".join([printable(title), *(line.rstrip() for line in lines)])


def _lines(cells: Rows) -> list[str]:
    # An extra, which takes a while to load.
    from rich import box  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for index, header in enumerate(cells[0]):
        table.add_column(Text(header), justify="right" if index else "left", no_wrap=True)
    for row in cells[1:]:
        table.add_row(*map(Text, row))
    console = Console(width=_WIDTH, color_system=None)
    with console.capture() as captured:
        console.print(table)
    return captured.get().splitlines()


def _plain_lines(cells: Rows) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join([label.ljust(widths[0]), *map(str.rjust, numbers, widths[1:])]) for label, *numbers in cells
    ]


def html(title: str, headers: Sequence[str], rows: Rows) -> str:
    """The table for a notebook."""
    head = "".join(f"<th>{escape(header)}</th>" for header in headers)
    body = "".join(
        f"<tr><th>{escape(label)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
        for label, *cells in rows
    )
    caption = f"<caption>{escape(title)}</caption>"
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
