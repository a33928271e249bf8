"""Mutation testing: changes the package in one place at a time, and runs the tests that cover that place.

    python tests/mutate.py --count 200 --seed 1 --jobs 2

First each test file is run once, to learn which lines it covers and how long it takes; that is kept in a file
of its own (`--coverage`), to be used again. Then places are drawn at random, each is changed in a copy of the
repository, and the test files that cover it are run, the quickest first, until one fails. What none of them
notices is listed: either a test is missing, or the change changes nothing that can be observed.
"""

from __future__ import annotations

import ast
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Any

import click
from rich.console import Console
from rich.progress import track

ROOT = Path(__file__).parent.parent
PACKAGE = "activity_tracker_hll"
TARGETS = (
    "hll/*.py", "operations/**/*.py", "writer/*.py", "scripts/*.py", "scripts/*.lua",
    "keys.py", "ids.py", "periods.py", "estimates.py",
)  # fmt: skip
LONGEST_FILE_S = 600
PATIENCE = 5
"""A test file that takes so many times as long as without a change hangs."""


@dataclass(frozen=True)
class Mutant:
    """One change.

    Attributes:
        file: relative to the package.
        line: in the file as it is.
        what: the change, for people.
        source: of the whole file, changed.
    """

    file: str
    line: int
    what: str
    source: str


# Changes of Python: from a node, what might stand in its place


_COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitOr, ast.Pow: ast.Mult,
}  # fmt: skip
_NAMES = {"min": "max", "max": "min", "all": "any", "any": "all", "minimum": "maximum", "maximum": "minimum"}


def changed(node: ast.AST) -> Iterator[ast.AST]:
    """What might stand in the place of a node."""
    other: Any = deepcopy(node)
    match node:
        case ast.Compare(ops=[op]):
            other.ops = [_COMPARED[type(op)]()]
        case ast.BinOp(op=op) | ast.AugAssign(op=op) if type(op) in _COMPUTED:
            other.op = _COMPUTED[type(op)]()
        case ast.BoolOp(op=op):
            other.op = ast.And() if isinstance(op, ast.Or) else ast.Or()
        case ast.UnaryOp(op=ast.Not()):
            other = other.operand
        case ast.UnaryOp(op=ast.USub()):
            other = other.operand
        case ast.Constant(value=bool(value)):
            other.value = not value
        case ast.Constant(value=int(value) | float(value)):
            other.value = value + 1
        case ast.If() | ast.While() | ast.IfExp():
            other.test = ast.UnaryOp(ast.Not(), other.test)
        case ast.Name(id=name) if name in _NAMES:
            other.id = _NAMES[name]
        case ast.Attribute(attr=name) if name in _NAMES:
            other.attr = _NAMES[name]
        case ast.Expr(value=ast.Call() | ast.YieldFrom()) | ast.AugAssign() | ast.Delete():
            other = ast.Pass()
        case ast.Return(value=value) if value is not None and not isinstance(value, ast.Constant):
            other.value = ast.Constant(None)
        case ast.Continue():
            other = ast.Break()
        case ast.Break():
            other = ast.Continue()
        case _:
            return
    yield other


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self._old, self._new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return ast.copy_location(self._new, node) if node is self._old else super().generic_visit(node)


def _looked_at(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes that run: no annotations, no messages of errors, no assertions for the type checker."""
    if isinstance(node, (ast.Raise, ast.Assert, ast.Import, ast.ImportFrom, ast.JoinedStr)):
        return
    yield node
    for name, value in ast.iter_fields(node):
        if name in {
            "annotation",
            "returns",
            "type_params",
            "decorator_list",
            "slice" if _is_type(node) else "",
        }:
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _looked_at(child)


def _is_type(node: ast.AST) -> bool:
    return isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id[0].isupper()


def python_mutants(file: str, source: str) -> Iterator[Callable[[], Mutant]]:
    """All changes of a file; each is made when it is asked for."""
    tree = ast.parse(source)
    for node in _looked_at(tree):
        for other in changed(node):

            def make(node: Any = node, other: ast.AST = other) -> Mutant:
                before, after = ast.unparse(node), ast.unparse(ast.fix_missing_locations(other))
                mutated = deepcopy(tree)
                # The same node of the copy, by its place among all.
                at = next(n for n, one in enumerate(ast.walk(tree)) if one is node)
                old = next(one for n, one in enumerate(ast.walk(mutated)) if n == at)
                mutated = ast.fix_missing_locations(_Replace(old, other).visit(mutated))
                what = f"{_short(before)} -> {_short(after)}"
                return Mutant(file, node.lineno, what, ast.unparse(mutated))

            yield make


def _short(source: str) -> str:
    first, newline, _ = source.partition("\n")
    return first[:70] + (" ..." if newline or len(first) > 70 else "")


# Changes of Lua: by its text


_LUA = (
    (r"==", "~="), (r"~=", "=="), (r"(?<![<>=])>(?!=)", ">="), (r"(?<!=)<(?!=)", "<="), (r">=", ">"),
    (r"<=", "<"), (r"\band\b", "or"), (r"\bor\b", "and"), (r"\bnot ", ""), (r" \+ ", " - "), (r" - ", " + "),
    (r"\b0\b", "1"), (r"\b1\b", "2"), (r"\btrue\b", "false"), (r"\bfalse\b", "true"),
    (r"^(\s*)redis\.call\(.*$", r"\1"), (r"^(\s*)each_chunk\(.*$", r"\1"), (r"^(\s*)expire\(.*$", r"\1"),
)  # fmt: skip


def lua_mutants(file: str, source: str) -> Iterator[Callable[[], Mutant]]:
    """All changes of a script."""
    lines = source.split("\n")
    for number, line in enumerate(lines):
        code = line.partition("--")[0]
        for pattern, replacement in _LUA:
            for found in re.finditer(pattern, code):
                new = code[: found.start()] + found.expand(replacement) + code[found.end() :]

                def make(number: int = number, line: str = line, new: str = new) -> Mutant:
                    whole = "\n".join([*lines[:number], new, *lines[number + 1 :]])
                    return Mutant(file, number + 1, f"{line.strip()} -> {new.strip() or '(nothing)'}", whole)

                yield make


# Coverage


def learn(path: Path, workers: list[Path], console: Console) -> dict[str, Any]:
    """By test file: seconds, and the lines of each file that it covers."""
    known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    files = sorted(str(file.relative_to(ROOT)) for file in (ROOT / "tests").rglob("test_*.py"))
    free: Queue[Path] = Queue()
    for worker in workers:
        free.put(worker)

    def run(file: str) -> None:
        worker = free.get()
        report = worker / "coverage.json"
        report.unlink(missing_ok=True)
        began = time.monotonic()
        _pytest(worker, file, f"--cov={PACKAGE}", f"--cov-report=json:{report}", limit=LONGEST_FILE_S)
        seconds = time.monotonic() - began
        lines = {}
        if report.exists():
            found = json.loads(report.read_text())["files"]
            lines = {name.partition(f"{PACKAGE}/")[2]: one["executed_lines"] for name, one in found.items()}
        known[file] = {"seconds": seconds, "lines": lines}
        path.write_text(json.dumps(known))
        free.put(worker)

    with ThreadPoolExecutor(len(workers)) as pool:
        missing = [file for file in files if file not in known]
        list(track(pool.map(run, missing), "Coverage", len(missing), console=console))
    return {file: known[file] for file in files}


def covering(mutant: Mutant, known: dict[str, Any]) -> list[tuple[str, float]]:
    """Test files that cover a change, the quickest first, with their seconds."""
    if mutant.file.endswith(".lua"):  # whoever calls scripts
        wanted, lines = "scripts/calls.py", None
    else:
        wanted, lines = mutant.file, mutant.line
    found = [
        (file, one["seconds"])
        for file, one in known.items()
        if wanted in one["lines"] and (lines is None or _near(lines, one["lines"][wanted]))
    ]
    return sorted(found, key=lambda one: one[1])


def _near(line: int, executed: list[int]) -> bool:
    """A statement of several lines is known by its first."""
    return any(line - 12 <= one <= line for one in executed)


# Running


def _pytest(worker: Path, *arguments: str, limit: float) -> bool:
    """Whether the tests pass."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-n", "0", *arguments]
    try:
        done = subprocess.run(
            command, cwd=worker, capture_output=True, timeout=limit, check=False, env=_environment(worker)
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode in (0, 5)


def _environment(worker: Path) -> dict[str, str]:

    return {**os.environ, "PYTHONPATH": str(worker), "PYTHONDONTWRITEBYTECODE": "1"}


def _is_killed(mutant: Mutant, worker: Path, known: dict[str, Any]) -> str | None:
    """The test file that notices a change; None if none does."""
    target = worker / PACKAGE / mutant.file
    original = target.read_text()
    target.write_text(mutant.source)
    try:
        for file, seconds in covering(mutant, known):
            if not _pytest(worker, file, limit=PATIENCE * seconds + 30):
                return file
        return None
    finally:
        target.write_text(original)


@click.command(help="Change the package in one place at a time, and see whether a test fails.")
@click.option("--count", type=int, default=200, show_default=True)
@click.option("--seed", type=int, default=None, help="Default: another one each time; it is printed.")
@click.option("--jobs", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--only", default="", help="Only files whose path begins so.")
@click.option("--coverage", type=click.Path(path_type=Path), default=ROOT / ".mutation-coverage.json")
def main(count: int, seed: int | None, jobs: int, only: str, coverage: Path) -> None:
    """Draw, change, run, print."""
    seed = random.randrange(2**32) if seed is None else seed
    console = Console(highlight=False, markup=False)
    console.print(f"seed {seed}")
    files = sorted({file for pattern in TARGETS for file in (ROOT / PACKAGE).glob(pattern)})
    makers: list[Callable[[], Mutant]] = []
    for file in files:
        name = str(file.relative_to(ROOT / PACKAGE))
        if name.startswith(only):
            makers += (lua_mutants if file.suffix == ".lua" else python_mutants)(name, file.read_text())
    console.print(f"{len(makers)} changes are possible")
    drawn = [make() for make in random.Random(seed).sample(makers, min(count, len(makers)))]
    survivors: list[Mutant] = []
    with tempfile.TemporaryDirectory() as folder:
        workers = [Path(folder) / str(number) for number in range(jobs)]
        for worker in workers:
            shutil.copytree(ROOT, worker, ignore=shutil.ignore_patterns(".*", "*.egg-info", "__pycache__"))
        known = learn(coverage, workers, console)
        free: Queue[Path] = Queue()
        for worker in workers:
            free.put(worker)

        def judge(mutant: Mutant) -> None:
            worker = free.get()
            killer = _is_killed(mutant, worker, known)
            free.put(worker)
            by = f"killed by {killer}" if killer else "SURVIVED"
            console.print(f"{mutant.file}:{mutant.line}: {mutant.what}: {by}", soft_wrap=True)
            if killer is None:
                survivors.append(mutant)

        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(judge, drawn))
    console.print(f"{len(drawn) - len(survivors)} of {len(drawn)} killed. Survivors:")
    for mutant in sorted(survivors, key=lambda one: (one.file, one.line)):
        console.print(f"  {mutant.file}:{mutant.line}: {mutant.what}", soft_wrap=True)


if __name__ == "__main__":
    main()
