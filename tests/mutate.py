"""Mutation testing: changes the package in one place at a time, and runs the tests that cover that place.

    python tests/mutate.py --count 200 --seed 1 --jobs 2

First all tests are run once, to learn which lines each covers and how long it takes; that is kept in a file
of its own (`--coverage`), to be used again. Then places are drawn at random, each is changed in a copy of the
repository, and the tests that cover it are run, one of each function first, the quickest before the others,
until one fails or `--budget` is spent. A test that fails is run once more without the change: if it fails
then too, it tells nothing. What no test notices is listed: either a test is missing, or the change changes
nothing that can be observed.
"""

from __future__ import annotations

import ast
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Any
from xml.etree import ElementTree as ET

import click
from coverage import CoverageData
from rich.console import Console
from rich.progress import track

ROOT = Path(__file__).parent.parent
PACKAGE = "activity_tracker_hll"
TARGETS = (
    "hll/*.py", "operations/**/*.py", "writer/*.py", "scripts/*.py", "scripts/*.lua",
    "keys.py", "ids.py", "periods.py", "estimates.py",
)  # fmt: skip
LONGEST_FILE_S = 900
START_S = 60
PATIENCE = 5
"""Tests that take so many times as long as without a change hang."""
MOST_TESTS = 60
"""So many tests of one file are remembered for a line."""


@dataclass(frozen=True)
class Mutant:
    """One change.

    Attributes:
        file: relative to the package.
        line: where the statement begins, in the file as it is.
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
    for node, statement in _with_statements(tree):
        for other in changed(node):

            def make(node: Any = node, line: int = statement.lineno, other: ast.AST = other) -> Mutant:
                before, after = ast.unparse(node), ast.unparse(ast.fix_missing_locations(other))
                mutated: ast.AST = deepcopy(tree)
                # The same node of the copy, by its index among all.
                index = next(n for n, one in enumerate(ast.walk(tree)) if one is node)
                old = next(one for n, one in enumerate(ast.walk(mutated)) if n == index)
                mutated = ast.fix_missing_locations(_Replace(old, other).visit(mutated))
                what = f"{_short(before)} -> {_short(after)}"
                return Mutant(file, line, what, ast.unparse(mutated))

            yield make


def _with_statements(tree: ast.Module) -> Iterator[tuple[ast.AST, ast.stmt]]:
    """Nodes that run, each with the innermost statement it is part of."""
    statement_of: dict[ast.AST, ast.stmt] = {}
    for node in _looked_at(tree):
        if isinstance(node, ast.stmt):
            statement_of[node] = node
        for child in ast.iter_child_nodes(node):
            if node in statement_of:
                statement_of[child] = statement_of[node]
        if node in statement_of:
            yield node, statement_of[node]


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


@dataclass
class Known:
    """What was learned of the tests.

    Attributes:
        seconds: that each test takes.
        covering: by file and line of the package, the tests that run it.
        failing: tests that fail without any change.
    """

    seconds: dict[str, float]
    covering: dict[str, dict[int, list[str]]]
    failing: set[str]

    def tests_of(self, mutant: Mutant, budget: float) -> list[str]:
        """The tests to run, in order."""
        by_line = self.covering.get("scripts/calls.py" if mutant.file.endswith(".lua") else mutant.file, {})
        found = by_line.get(mutant.line) or {test for tests in by_line.values() for test in tests}
        rounds: dict[str, int] = {}
        ordered = []
        known = (set(found) & self.seconds.keys()) - self.failing
        for test in sorted(known, key=lambda test: self.seconds[test]):
            function = test.partition("[")[0]
            rounds[function] = rounds.get(function, 0) + 1
            ordered.append((rounds[function], test))
        chosen, spent = [], 0.0
        for _, test in sorted(ordered, key=lambda one: one[0]):
            spent += self.seconds[test]
            if spent > budget:
                break
            chosen.append(test)
        return chosen


def learn(path: Path, workers: list[Path], console: Console) -> Known:
    """Run each test file once, unless it is known already."""
    learned: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    files = sorted(str(file.relative_to(ROOT)) for file in (ROOT / "tests").rglob("test_*.py"))
    free: Queue[Path] = Queue()
    for worker in workers:
        free.put(worker)

    def run(file: str) -> None:
        worker = free.get()
        coverage_file = worker / "coverage.data"
        coverage_file.unlink(missing_ok=True)
        options = [f"--cov={PACKAGE}", "--cov-context=test", "--cov-report="]
        failed, seconds = _pytest(
            worker, [file], *options, limit=LONGEST_FILE_S, COVERAGE_FILE=str(coverage_file)
        )
        lines = _lines(coverage_file) if coverage_file.exists() else {}
        learned[file] = {"failing": failed, "seconds": seconds, "lines": lines}
        path.write_text(json.dumps(learned))
        free.put(worker)

    with ThreadPoolExecutor(len(workers)) as pool:
        missing = [file for file in files if file not in learned]
        list(track(pool.map(run, missing), "Coverage", len(missing), console=console))
    known = Known({}, {}, set())
    for file in files:
        known.seconds |= learned[file]["seconds"]
        known.failing |= set(learned[file]["failing"])
        for name, lines in learned[file]["lines"].items():
            for line, tests in lines.items():
                known.covering.setdefault(name, {}).setdefault(int(line), []).extend(tests)
    # Some names are of what ran within another test, on a pytest of its own.
    names = _collected(workers[0])
    known.seconds = {test: seconds for test, seconds in known.seconds.items() if test in names}
    return known


def _collected(worker: Path) -> set[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "--dist", "no", "--collect-only", "tests"]
    shown = subprocess.run(command, cwd=worker, capture_output=True, text=True, check=True).stdout
    return {line for line in shown.splitlines() if "::" in line}


def _lines(coverage_file: Path) -> dict[str, dict[int, list[str]]]:
    """By file of the package and line, the tests that run it."""
    data = CoverageData(str(coverage_file))
    data.read()
    found: dict[str, dict[int, list[str]]] = {}
    for path in data.measured_files():
        lines = {
            line: sorted({context.partition("|")[0] for context in contexts if context})[:MOST_TESTS]
            for line, contexts in data.contexts_by_lineno(path).items()
        }
        found[path.partition(f"{PACKAGE}/")[2]] = {line: tests for line, tests in lines.items() if tests}
    return found


# Running


def _pytest(
    worker: Path, tests: list[str], *options: str, limit: float, **environment: str
) -> tuple[list[str], dict[str, float]]:
    """Run tests, in the order given; returns those that failed, and how many seconds each took.

    Raises:
        subprocess.TimeoutExpired: they took longer than `limit`.
    """
    report, arguments = worker / "report.xml", worker / "arguments.txt"
    report.unlink(missing_ok=True)
    arguments.write_text("\n".join(tests))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "0", "--dist", "no"]
    own = {"PYTHONPATH": str(worker), "PYTHONDONTWRITEBYTECODE": "1", **environment}
    with subprocess.Popen(
        [*command, f"--junitxml={report}", "-o", "junit_family=xunit1", *options, f"@{arguments}"],
        cwd=worker,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **own},
        start_new_session=True,
    ) as process:
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    failed: list[str] = []
    seconds: dict[str, float] = {}
    cases = ET.parse(report).iter("testcase") if report.exists() else ()  # noqa: S314 (pytest's own)
    for case in cases:
        name = f"{case.get('file')}::{case.get('name')}"
        seconds[name] = seconds.get(name, 0.0) + float(case.get("time", 0))
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(name)
    if process.returncode not in (0, 5) and not failed:
        failed.append("")
    return failed, seconds


def _killer(mutant: Mutant, worker: Path, known: Known, budget: float) -> str | None:
    """The test that notices a change; None if none does."""
    target = worker / PACKAGE / mutant.file
    original = target.read_text()
    tests = known.tests_of(mutant, budget)
    if not tests:
        return None
    limit = START_S + PATIENCE * sum(known.seconds[test] for test in tests)
    try:
        while True:
            target.write_text(mutant.source)
            failed, _ = _pytest(worker, tests, "-x", limit=limit)
            target.write_text(original)
            if not failed:
                return None
            if failed[0] not in tests:  # they could not be collected, and can without the change
                return "whatever imports it"
            again, _ = _pytest(worker, [failed[0]], "-x", limit=limit)
            if not again:
                return failed[0]
            tests.remove(failed[0])
    except subprocess.TimeoutExpired:
        return "a test that hangs"
    finally:
        target.write_text(original)


@click.command(help="Change the package in one place at a time, and see whether a test fails.")
@click.option("--count", type=int, default=200, show_default=True)
@click.option("--seed", type=int, default=None, help="Default: another one each time; it is printed.")
@click.option("--jobs", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--only", default="", help="Only files whose path begins so.")
@click.option("--budget", type=float, default=60.0, show_default=True, help="Seconds of tests for a change.")
@click.option("--coverage", type=click.Path(path_type=Path), default=ROOT / ".mutation-coverage.json")
def main(count: int, seed: int | None, jobs: int, only: str, budget: float, coverage: Path) -> None:
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
        for test in sorted(known.failing):
            console.print(f"fails without a change, so it is not asked: {test}", soft_wrap=True)
        free: Queue[Path] = Queue()
        for worker in workers:
            free.put(worker)

        def judge(mutant: Mutant) -> None:
            worker = free.get()
            try:
                killer = _killer(mutant, worker, known, budget)
            finally:
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
