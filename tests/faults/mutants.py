"""Mutation run: is there a test for every number that is made here?

A mutant is the program with one operator, comparison, condition or number changed. Mutants are drawn at random, by a seed, in equal
numbers from each group of :data:`GROUPS`, and the tests that execute the changed line are run on each. One that fails kills the
mutant; a mutant that survives shows a number, or a rule, that no test guards, or a change that changes nothing. Survivors for which
there is a reason are listed in ``docs/mutants.md``; any other makes the exit code 1.

All of it happens in a copy of the tree. The tests run once on the copy as it is: they must pass, and tell which of them execute
which line. Lines that only other processes execute, or that are executed on import, count as executed by all tests of their file.
"""

from __future__ import annotations

import ast
import json
import os
import random
import shutil
import signal
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
LISTED = ROOT / "docs" / "mutants.md"
LINES_VARIABLE = "QLM_MUTANTS_LINES"
WALL_S = 300.0
"""Wall time that the tests of a mutant may take, beyond ten times their processor time [s]: it may be one that never ends."""
PLUGINS = ("quasistatic", "rewind", "mesoscopic")
GROUPS = {
    "statistics": (["qlm_hoomd/statistics"], ["tests/statistics"]),
    "report": (
        [f"qlm_hoomd/report/{name}.py" for name in ("analysis", "results", "means")],
        [f"tests/report/test_{name}.py" for name in ("analysis", "directions", "report", "sections")],
    ),
    "rewind": (["plugins/rewind/qlm_rewind"], ["plugins/rewind/tests"]),
    "ensemble": (
        [f"qlm_hoomd/ensemble/{name}.py" for name in ("claims", "integrity")],
        [f"tests/ensemble/test_{name}.py" for name in ("claims", "integrity", "faults", "sharing")],
    ),
}
"""The files of each group, and the tests that are to guard them."""

_OPERATORS: dict[type[ast.AST], Callable[[], ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult, ast.FloorDiv: ast.Div,
    ast.Mod: ast.Add, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
# What is said to people is not a number that a test has to guard, nor is how wide a line is.
_TEXT = (ast.Raise, ast.JoinedStr, ast.Assert)
_DRAWN = ("plot", "_headline", "_facts")


@dataclass(frozen=True)
class Mutant:
    """One change.

    Args:
        path: the file, from the root of the tree.
        lines: of the expression that is changed.
        inside: name of the function or class around it, empty at the top level.
        before: the part of its statement that changes.
        after: what that becomes.
        source: the whole changed file.
    """

    path: str
    lines: range
    inside: str
    before: str
    after: str
    source: str

    @property
    def key(self) -> str:
        """What the list in the documentation knows it by: that outlives changes elsewhere in the file."""
        return f"{self.path} {self.inside}: {self.before} -> {self.after}"


def number_of_mutants(source: str) -> int:
    """How many mutants a file has."""
    return sum(1 for _ in _changes(ast.parse(source)))


def mutant_of(path: str, source: str, number: int) -> Mutant:
    """One of the mutants of a file, by its number."""
    tree = ast.parse(source)
    node, statement, inside, change = next(islice(_changes(tree), number, None))
    lines, before = range(node.lineno, (node.end_lineno or node.lineno) + 1), _first_line(statement)
    change()
    after = _first_line(statement)
    same = next((at for at, pair in enumerate(zip(before, after, strict=False)) if pair[0] != pair[1]), 0)
    before, after = (
        text[max(same - 50, 0) : same + 40].replace("`", "'").replace("|", "\\|").strip() for text in (before, after)
    )
    return Mutant(path, lines, inside, before, after, ast.unparse(tree))


def _first_line(statement: ast.stmt) -> str:
    """A statement, of a compound one what stands before its colon."""
    return next(line for line in ast.unparse(statement).splitlines() if not line.startswith("@"))


def _changes(tree: ast.Module) -> Iterator[tuple[Any, ast.stmt, str, Callable[[], None]]]:
    """Each expression that can be changed, its statement, the name of what it is in, and what changes it."""

    def visit(node: ast.AST, statement: ast.stmt, inside: str) -> Iterator[tuple[Any, ast.stmt, str, Callable[[], None]]]:
        if isinstance(node, _TEXT) or getattr(node, "name", "") in _DRAWN:
            return
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            inside = f"{inside}.{node.name}".lstrip(".")
        for name, value in ast.iter_fields(node):
            if name in {"annotation", "returns", "decorator_list"}:
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from visit(child, child if isinstance(child, ast.stmt) else statement, inside)
        yield from ((changed, statement, inside, change) for changed, change in _changes_of(node))

    for statement in tree.body:
        yield from visit(statement, statement, "")


def _changes_of(node: ast.AST) -> Iterator[tuple[Any, Callable[[], None]]]:
    if isinstance(node, ast.Compare):
        for index, operator in enumerate(node.ops):
            if type(operator) in _OPERATORS:
                yield node, partial(node.ops.__setitem__, index, _OPERATORS[type(operator)]())
    elif isinstance(node, (ast.BinOp, ast.AugAssign, ast.BoolOp)) and type(node.op) in _OPERATORS:
        yield node, lambda: setattr(node, "op", _OPERATORS[type(node.op)]())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Not)):
        to = ast.UAdd() if isinstance(node.op, ast.USub) else None
        yield node, lambda: setattr(node, "op", to) if to else setattr(node, "operand", ast.UnaryOp(ast.Not(), node.operand))
    elif isinstance(node, (ast.If, ast.IfExp, ast.While)) and ast.unparse(node.test) != "TYPE_CHECKING":
        test = node.test
        if not isinstance(test, (ast.Compare, ast.UnaryOp, ast.BoolOp)):
            yield test, lambda: setattr(node, "test", ast.UnaryOp(ast.Not(), test))
    elif isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float)):
        value = node.value
        changed = not value if isinstance(value, bool) else value + 1 if isinstance(value, int) else 2.0 * value or 1.0
        yield node, lambda: setattr(node, "value", changed)


class LinesOfTests:
    """Plugin of pytest: notes which lines of the files under mutation each test executes, and how long it takes.

    What a fixture of several tests executes counts for all tests of the file.
    """

    def __init__(self, files: set[str]) -> None:
        self.files = files
        self.lines: dict[str, dict[int, set[str]]] = {file: defaultdict(set) for file in files}
        self.seconds: dict[str, float] = {}
        self.current = ""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Trace a test with its fixtures."""
        self.current = item.nodeid
        start = time.process_time()
        sys.settrace(self._enter)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            self.seconds[item.nodeid] = time.process_time() - start

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[Any]:
        """Note for whom a fixture works."""
        test = self.current
        if fixturedef.scope != "function":
            self.current = test.partition("::")[0]
        try:
            return (yield)
        finally:
            self.current = test

    def _enter(self, frame: Any, event: str, argument: Any) -> Any:
        return self._line if frame.f_code.co_filename in self.files else None

    def _line(self, frame: Any, event: str, argument: Any) -> Any:
        self.lines[frame.f_code.co_filename][frame.f_lineno].add(self.current)
        return self._line

    def pytest_sessionfinish(self) -> None:
        """Keep it for the process that asked."""
        lines = {file: {line: sorted(tests) for line, tests in of.items()} for file, of in self.lines.items()}
        Path(os.environ[LINES_VARIABLE]).write_text(json.dumps({"lines": lines, "seconds": self.seconds}))


def pytest_configure(config: pytest.Config) -> None:
    """As a plugin (``-p mutants``), where lines are asked for."""
    if (out := os.environ.get(LINES_VARIABLE)) is not None:
        config.pluginmanager.register(LinesOfTests(set(json.loads(Path(out).read_text()))))


class Mutation:
    """A copy of the tree, and what its tests say of mutants.

    Args:
        folder: an empty folder.
        groups: names in :data:`GROUPS`.
    """

    def __init__(self, folder: Path, groups: tuple[str, ...]) -> None:
        self.tree = folder / "tree"
        kept = {"qlm_hoomd", "plugins", "tests", "protocols", "docs", "benchmarks"}
        aside = shutil.ignore_patterns("*.pyc", "_build", "generated", ".*")  # what numba compiled comes along
        self.tree.mkdir()
        for path in ROOT.iterdir():
            if path.name in kept:
                shutil.copytree(path, self.tree / path.name, ignore=aside)
            elif path.is_file() and not path.name.startswith("."):
                shutil.copy2(path, self.tree / path.name)
        self.tests = sorted({test for group in groups for test in GROUPS[group][1]})
        self.files = {group: [file for part in GROUPS[group][0] for file in self._python(part)] for group in groups}
        self.lines_file = folder / "lines.json"
        self.lines: dict[str, dict[str, list[str]]] = {}
        self.seconds: dict[str, float] = {}

    def _python(self, part: str) -> list[str]:
        paths = [self.tree / part] if part.endswith(".py") else sorted((self.tree / part).glob("*.py"))
        return [str(path.relative_to(self.tree)) for path in paths]

    def pytest(self, tests: list[str], timeout: float | None = None) -> int | None:
        """Exit code of the tests, None where they take too long; what they say goes to ``said.log``.

        In a process that is forked from this one, where the libraries are loaded already.
        """
        pid = os.fork()
        if pid == 0:
            try:
                os.setsid()
                said = os.open(self.tree.parent / "said.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(said, 1)
                os.dup2(said, 2)
                os.chdir(self.tree)
                paths = [str(path) for path in (self.tree, *(self.tree / "plugins" / name for name in PLUGINS))]
                sys.path[:0] = paths
                os.environ["PYTHONPATH"] = os.pathsep.join(paths)  # of processes that the tests start
                sys.dont_write_bytecode = True
                os._exit(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "mutants", *tests]))
            finally:
                os._exit(70)
        end = None if timeout is None else time.monotonic() + timeout
        while (ended := os.waitpid(pid, os.WNOHANG))[0] == 0:
            if end is not None and time.monotonic() > end:
                os.killpg(pid, signal.SIGKILL)  # with what it started
                os.waitpid(pid, 0)
                return None
            time.sleep(0.05)
        return os.waitstatus_to_exitcode(ended[1])

    def measure(self) -> None:
        """Run all tests on the tree as it is.

        Raises:
            RuntimeError: if they fail.
        """
        files = [str(self.tree / file) for files in self.files.values() for file in files]
        self.lines_file.write_text(json.dumps(files))
        os.environ[LINES_VARIABLE] = str(self.lines_file)
        code = self.pytest(self.tests)
        del os.environ[LINES_VARIABLE]
        if code != 0:
            raise RuntimeError("the tests fail on the tree as it is:\n" + (self.tree.parent / "said.log").read_text()[-3000:])
        found = json.loads(self.lines_file.read_text())
        self.lines = {str(Path(file).relative_to(self.tree)): of for file, of in found["lines"].items()}
        self.seconds = found["seconds"]

    def tests_of(self, mutant: Mutant) -> list[str]:
        """The tests that execute a line of the mutant, the quickest first."""
        of = self.lines[mutant.path]
        found = {test for line in mutant.lines for test in of.get(str(line), ())}
        found = found or {test for each in of.values() for test in each}
        tests = {test for test in self.seconds if test in found or test.partition("::")[0] in found}
        return sorted(tests, key=lambda test: self.seconds[test])

    def survives(self, mutant: Mutant) -> bool:
        """Whether no test notices."""
        path = self.tree / mutant.path
        before, stat = path.read_text(encoding="utf-8"), path.stat()
        tests = self.tests_of(mutant)
        try:
            path.write_text(mutant.source, encoding="utf-8")
            return bool(tests) and self.pytest(tests, WALL_S + 10.0 * sum(self.seconds[test] for test in tests)) == 0
        finally:
            path.write_text(before, encoding="utf-8")
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # what is compiled stays good


def listed() -> set[str]:
    """Keys of the survivors for which the documentation has a reason."""
    rows = (line.split("`") for line in LISTED.read_text(encoding="utf-8").splitlines() if line.startswith("| `"))
    return {row[1] for row in rows}


def run_mutants(folder: Path, number: int, root_seed: int, minutes: float, only: str | None = None) -> int:
    """Try ``number`` mutants, or as many as ``minutes`` allow; the exit code."""
    groups = (only,) if only else tuple(GROUPS)
    start = time.monotonic()
    _load()
    mutation = Mutation(folder, groups)
    mutation.measure()
    print(f"{time.monotonic() - start:6.0f} s: the tests pass on the tree as it is", flush=True)
    dice = random.Random(root_seed)
    drawn = {group: _drawn([mutation.tree / file for file in files], dice) for group, files in mutation.files.items()}
    known = listed()
    tried, survivors = 0, []
    end = start + 60.0 * minutes
    while tried < number and any(drawn.values()) and time.monotonic() < end:
        mutants = drawn[groups[tried % len(groups)]]
        tried += 1
        if not mutants:
            continue
        path, index = mutants.pop()
        mutant = mutant_of(str(path.relative_to(mutation.tree)), path.read_text(encoding="utf-8"), index)
        if mutation.survives(mutant):
            survivors.append(mutant)
            word = "survived, as listed" if mutant.key in known else "SURVIVED"
            print(f"{time.monotonic() - start:6.0f} s: {tried}. {word}: line {mutant.lines[0]} {mutant.key}", flush=True)
    new = [mutant for mutant in survivors if mutant.key not in known]
    print(f"mutants {tried}, survived {len(survivors)}, of them not listed in docs/mutants.md {len(new)}")
    return int(bool(new))


def _drawn(paths: list[Path], dice: random.Random) -> list[tuple[Path, int]]:
    """All mutants of these files in random order, each as its file and its number."""
    drawn = [(path, number) for path in paths for number in range(number_of_mutants(path.read_text(encoding="utf-8")))]
    dice.shuffle(drawn)
    return drawn


def _load() -> None:
    """Load here what the tests need and no mutant changes, for all processes to come."""
    for name in (
        "gsd.hoomd",
        "hypothesis",
        "matplotlib.figure",
        "numba",
        "polars",
        "pydantic",
        "scipy.sparse.linalg",
        "scipy.stats",
        "signac",
        "typer",
    ):
        import_module(name)
