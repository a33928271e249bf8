"""Draws the rooms of the package, in layers, with arrows for what imports what: ``imports.svg``.

A room is a folder, or a module beside the folders. Each stands above all that it imports. An arrow is left
out where a longer way leads to the same room: ``errors`` is imported nearly everywhere.

Run it after a change of imports; a test compares the drawing with what is made now.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from html import escape
from itertools import accumulate, pairwise
from pathlib import Path
from statistics import fmean

__all__ = ["draw", "imports", "layers", "reduced"]

DOCS = Path(__file__).parent
PACKAGE = DOCS.parent / "activity_tracker_hll"
Graph = Mapping[str, frozenset[str]]
"""Rooms, and what each imports."""
Node = tuple[str, str]
"""A room, twice; or an arrow that passes a layer: from where to where."""
Rows = list[list[Node]]
"""What stands in each layer, from the top."""
Gaps = list[list[tuple[Node, Node]]]
"""What is joined between each layer and the one below it."""

BOX, GAP, ARROW = 132, 16, 8  # widths: of a room, between two, and of an arrow that passes one
LINE, BETWEEN, MARGIN = 16, 42, 12  # heights: of a line of text, between two layers, and around all
LETTERS = 19  # in a line of a room
SWEEPS = 24  # more change nothing
TEMPLATE = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"
 font-family="system-ui, sans-serif" text-anchor="middle">
<title>What imports what in activity_tracker_hll</title>
<defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">
<path d="M0 0 8 4 0 8Z" fill="#667"/></marker></defs>
<rect width="{width}" height="{height}" fill="#fff"/>
{boxes}
<g fill="none" stroke="#667" stroke-width="1.2">
{arrows}
</g>
</svg>
"""


# Rooms


def imports(package: Path = PACKAGE) -> dict[str, frozenset[str]]:
    """What each room imports of the others, from the syntax of its modules."""
    found: dict[str, set[str]] = {}
    for path in sorted(package.rglob("*.py")):
        room = _room(package, path)
        found.setdefault(room, set()).update(_room(package, other) for other in _imported(package, path))
    return {room: frozenset(others - {room}) for room, others in found.items()}


def _room(package: Path, path: Path) -> str:
    first = path.relative_to(package).parts[0]
    return first if first.endswith(".py") else f"{first}/"


def _imported(package: Path, path: Path) -> Iterator[Path]:
    """Modules of the package that a module imports; it does so nowhere by the package's full name."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        match node:
            case ast.ImportFrom(names=names, level=level) if level:
                folder = path.parents[level - 1].joinpath(*(node.module or "").split("."))
                for name in names:
                    yield _module(package, folder / name.name) or _module(package, folder) or path
            case ast.Call(func=ast.Attribute(attr="import_module"), args=[ast.Constant(value=str(name)), _]):
                yield _module(package, package.joinpath(*name.split("."))) or path


def _module(package: Path, place: Path) -> Path | None:
    """The file of a module or folder of that name, if there is one."""
    files = (place.with_name(f"{place.name}.py"), place / "__init__.py")
    return next((file for file in files if file.exists() and package in file.parents), None)


def layers(graph: Graph) -> dict[str, int]:
    """How far up each room stands: one above the highest of what it imports.

    Raises:
        ValueError: rooms import each other in a circle.
    """
    heights: dict[str, int] = {}

    def height(room: str, above: tuple[str, ...] = ()) -> int:
        if room in above:
            raise ValueError(f"a circle of imports: {' -> '.join((*above, room))}")
        if room not in heights:
            heights[room] = max((height(other, (*above, room)) + 1 for other in graph[room]), default=0)
        return heights[room]

    return {room: height(room) for room in graph}


def reduced(graph: Graph) -> dict[str, list[str]]:
    """The same without what is imported in a roundabout way too."""

    @cache
    def below(room: str) -> frozenset[str]:
        return graph[room].union(*map(below, graph[room]))

    return {
        room: sorted(other for other in others if not any(other in below(another) for another in others))
        for room, others in graph.items()
    }


# Places


def _arranged(graph: Graph) -> tuple[Rows, Gaps]:
    """Layers of rooms, and of arrows that pass; in the order of names."""
    heights = layers(graph)
    top = max(heights.values())
    rows: Rows = [[] for _ in range(top + 1)]
    gaps: Gaps = [[] for _ in range(top)]
    for room, height in sorted(heights.items()):
        rows[top - height].append((room, room))
    for room, others in sorted(reduced(graph).items()):
        for other in others:
            first, last = top - heights[room], top - heights[other]
            way = [(room, room), *[(room, other)] * (last - first - 1), (other, other)]
            for at, (upper, lower) in enumerate(pairwise(way), first):
                gaps[at].append((upper, lower))
                if not _is_room(upper):
                    rows[at].append(upper)
    return rows, gaps


def _is_room(node: Node) -> bool:
    return node[0] == node[1]


def _width(node: Node) -> int:
    return BOX if _is_room(node) else ARROW


def _spread(wanted: Sequence[float], widths: Sequence[int]) -> list[float]:
    """Places as near as may be to those wanted, in this order, none over another (least squares)."""
    steps = [0.0, *accumulate((a + b) / 2 + GAP for a, b in pairwise(widths))]
    blocks: list[list[float]] = []
    for place, step in zip(wanted, steps, strict=True):
        blocks.append([place - step])
        while len(blocks) > 1 and fmean(blocks[-2]) > fmean(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    placed = [fmean(block) for block in blocks for _ in block]
    return [place + step for place, step in zip(placed, steps, strict=True)]


def _placed(rows: Rows, gaps: Gaps) -> list[dict[Node, float]]:
    """The middle of each room and passing arrow, a layer each: near what it is joined to."""
    places = [dict(zip(row, _spread([0.0] * len(row), list(map(_width, row))), strict=True)) for row in rows]
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for at in range(1, len(rows)) if down else reversed(range(len(rows) - 1)):
            joined: dict[Node, list[float]] = {}
            for upper, lower in gaps[at - 1] if down else gaps[at]:
                own, other = (lower, upper) if down else (upper, lower)
                joined.setdefault(own, []).append(places[at - 1 if down else at + 1][other])
            wanted = {node: fmean(joined.get(node, [place])) for node, place in places[at].items()}
            order = sorted(wanted, key=lambda node: (wanted[node], node))
            spread = _spread([wanted[node] for node in order], list(map(_width, order)))
            places[at] = dict(zip(order, spread, strict=True))
    return places


# Lines


def draw(package: Path = PACKAGE) -> str:
    """The drawing, as SVG."""
    graph = imports(package)
    rows, gaps = _arranged(graph)
    places = _placed(rows, gaps)
    edges = [
        place + side * _width(node) / 2 for row in places for node, place in row.items() for side in (-1, 1)
    ]
    left = min(edges) - MARGIN
    texts = {room: _text(package, room) for room in graph}
    deep = [max(_height(texts[node[0]]) for node in row if _is_room(node)) for row in rows]
    tops = list(accumulate((each + BETWEEN for each in deep), initial=MARGIN))
    boxes: list[str] = []
    arrows: list[str] = []
    for row, top in zip(places, tops, strict=False):
        for (room, other), place in sorted(row.items()):
            if room == other:
                boxes += _box(texts[room], round(place - left), top)
    for at, gap in enumerate(gaps):
        for upper, lower in gap:
            x, end = round(places[at][upper] - left), round(places[at + 1][lower] - left)
            begin = tops[at] + (_height(texts[upper[0]]) if _is_room(upper) else 0)
            line = f"M{x} {begin}{_curve(x, tops[at] + deep[at], end, tops[at + 1])}"
            head = ' marker-end="url(#head)"' if _is_room(lower) else ""
            arrows.append(f'<path d="{line}"{head}/>')
    return TEMPLATE.format(
        width=round(max(edges) - left) + MARGIN,
        height=tops[-1] - BETWEEN + MARGIN,
        boxes="\n".join(boxes),
        arrows="\n".join(arrows),
    )


def _text(package: Path, room: str) -> list[str]:
    """What stands in a room: its name, and what is in it."""
    if not room.endswith("/"):
        return [room]
    inside = [path for path in sorted((package / room).iterdir()) if not path.name.startswith("__")]
    folders = [f"{path.name}/" for path in inside if (path / "__init__.py").exists()]
    modules = [path.stem for path in inside if path.suffix == ".py"]
    scripts = [path.name for path in inside if path.suffix == ".lua"]
    return [room, *textwrap.wrap(" ".join([*folders, *modules, *scripts]), LETTERS)]


def _height(text: Sequence[str]) -> int:
    return len(text) * LINE + LINE // 2


def _box(text: Sequence[str], x: int, top: int) -> Iterator[str]:
    fill = "#e7eefb" if text[0].endswith("/") else "#f4f2ea"
    size = f'width="{BOX}" height="{_height(text)}"'
    yield f'<rect x="{x - BOX // 2}" y="{top}" {size} rx="5" fill="{fill}" stroke="#99a"/>'
    for at, line in enumerate(text):
        style = 'font-size="12" fill="#445"' if at else 'font-size="14" font-weight="600" fill="#112"'
        yield f'<text x="{x}" y="{top + (at + 1) * LINE + 1}" {style}>{escape(line)}</text>'


def _curve(x: int, y: int, end: int, bottom: int) -> str:
    """Straight down to the end of a layer, and over to a place in the next."""
    middle = (y + bottom) // 2
    return f"V{y}C{x} {middle} {end} {middle} {end} {bottom}"


if __name__ == "__main__":
    (DOCS / "imports.svg").write_text(draw(), "utf-8")
