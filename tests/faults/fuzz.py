"""Fuzzing of everything that qlm reads: protocols, GSD files, and the files of a run's folder, its archives included.

Each input is a valid file that was changed: bytes, parts of its text, values of its tree, chunks, members. It is given to the
readers in this process and, where it decides the exit code, to the command line. Demanded of each input:

* nothing but an error that is meant for the user comes out of a reader, and no traceback out of the command;
* the exit code is 0 or 1, or 2 where the reader refused the input;
* it is over in time, by the processor's clock and by the one on the wall;
* nothing is executed, no process is started, nothing is connected to, and no file is written outside the folder of the test.

The inputs are those of hypothesis, from a fixed seed. A target whose process dies (a reader in C that crashes) fails too.
"""

from __future__ import annotations

import copy
import io
import json
import mmap
import os
import random
import shutil
import signal
import sys
import time
import traceback
import zipfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gsd.fl
import gsd.hoomd
import numpy as np
import polars as pl
from ensemble import make_run
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from qlm_hoomd.base import checkpoint as checkpoint_module
from qlm_hoomd.base.registry import POTENTIALS
from qlm_hoomd.box import Box
from qlm_hoomd.checkpoint import Checkpoint, packed
from qlm_hoomd.cli import app
from qlm_hoomd.ensemble.archive import CHECKSUM_FILE, export_run, import_run
from qlm_hoomd.ensemble.claims import Claims, place
from qlm_hoomd.ensemble.runner import note_code
from qlm_hoomd.ensemble.workspace import Workspace
from qlm_hoomd.errors import ConvergenceError, InputError, QlmError
from qlm_hoomd.frames import FrameLoader
from qlm_hoomd.glass import Glass
from qlm_hoomd.gsdio import read_glass
from qlm_hoomd.modes import LowestModes
from qlm_hoomd.potentials import Harmonic, KobAndersen
from qlm_hoomd.protocol import load_protocol
from qlm_hoomd.standing import at_rest, standing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

CPU_S = 10.0
WALL_S = 120.0
TRAVERSAL = ("../../outside", "/tmp/outside", "..", "a/../../b")
# What parsers, numbers and shells stumble over.
WORDS = [
    *("", "null", "~", "true", "no", "-1", "0", "1e999", "-1e-320", "nan", ".nan", ".inf", "NaN", "Infinity", "0x1F", "1_000", "0o7", "12:30:45"),
    *("2001-13-45", "9" * 400, "\x00", "\ufeff", "\u2028", "\ud7ff", "é", "[", "]", "{", "}", "&a", "*a", "<<: *a", "!!python/object/apply:os.system [id]"),
    *("!!binary aa", "? ", "- ", ": ", "|\n", ">\n", "%YAML 9.9\n", "---\n", "...\n", "\t", "'", '"', "#", "$(id)", "__import__('os').system('id')"),
    *TRAVERSAL,
]  # fmt: skip
VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**400, 0.5, -0.0, 1e308, 1e-320, float("nan"), float("inf"), "", "x" * 5000, "\x00", "é\u2028"),
    *([], {}, [[]], [None], {"": None}, {"kind": "prepare"}, {"a": {"b": []}}, [1, "a", None], ["../../outside"], *TRAVERSAL),
]  # fmt: skip


class Hang(BaseException):
    """An input took too long."""


class Executed(BaseException):
    """An input led to what no input may lead to."""


@dataclass
class Target:
    """A kind of input: what is read, and what came of it.

    Args:
        name: of the kind.
        share: of all inputs.
        body: takes the ``draw`` of hypothesis, returns whether the input was refused.
        beat: number of inputs so far, for the process that watches.
    """

    name: str
    share: float
    body: Callable[[Any], bool]
    beat: mmap.mmap = field(default_factory=lambda: mmap.mmap(-1, 8))
    n_inputs: int = 0
    n_refused: int = 0
    errors: list[str] = field(default_factory=list)


# ---- what no input may lead to ----

_FORBIDDEN = (
    "pickle.find_class",
    "os.system",
    "subprocess.Popen",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "socket.connect",
    "ctypes.dlopen",
)
_watching: Path | None = None


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching is None:
        return
    if event.startswith(_FORBIDDEN):
        raise Executed(f"{event} {arguments!r:.200}")
    if event == "open" and isinstance(arguments[0], str) and isinstance(arguments[2], int):
        writes = arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        inside = Path(os.path.realpath(arguments[0])).is_relative_to(_watching) or arguments[0] == os.devnull
        if writes and not inside:
            raise Executed(f"a file is written outside the folder: {arguments[0]}")


@contextmanager
def guarded(folder: Path) -> Iterator[None]:
    """A block that must be over in time, and execute and write nothing that it should not."""
    global _watching  # noqa: PLW0603  (audit hooks are the process's)

    def over(signum: int, _: Any) -> None:
        raise Hang(signal.Signals(signum).name)

    signal.signal(signal.SIGPROF, over)
    signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_PROF, CPU_S)
    signal.setitimer(signal.ITIMER_REAL, WALL_S)
    _watching = folder
    try:
        yield
    finally:
        _watching = None
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.setitimer(signal.ITIMER_REAL, 0.0)


# ---- changes ----

_changes = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 2**32 - 1), st.integers(0, 2**16 - 1)), min_size=1, max_size=6)


def changed_bytes(draw: Any, content: bytes) -> bytes:
    """The content with bits flipped, parts cut, doubled, swapped and words put in."""
    data = bytearray(content)
    for kind, where, what in draw(_changes):
        at = where % (len(data) + 1)
        length = what % 64
        if kind == 0 and at < len(data):
            data[at] ^= 1 << what % 8
        elif kind == 1 and at < len(data):
            data[at] = what % 256
        elif kind == 2:
            del data[at : at + length]
        elif kind == 3:
            data[at:at] = data[at : at + length]
        elif kind == 4:
            data[at:at] = WORDS[what % len(WORDS)].encode()
        elif kind == 5:
            data[at : at + length] = WORDS[what % len(WORDS)].encode()
        elif kind == 6 and what % 4 == 0:
            del data[at:]
        elif kind == 7:
            data[at : at + 8] = (what << 48 | what).to_bytes(8, "little")
    return bytes(data)


def changed_tree(draw: Any, tree: Any) -> Any:
    """The tree with one to three of its values, or keys, replaced, removed or doubled."""
    tree = copy.deepcopy(tree)
    for kind, where, what in draw(_changes)[:3]:
        dice = random.Random(where)
        replacement = copy.deepcopy(VALUES[what % len(VALUES)])
        node, value = None, tree
        while isinstance(value, (dict, list)) and value and (node is None or dice.random() < 0.85):
            node = value
            key = dice.choice(list(node)) if isinstance(node, dict) else dice.randrange(len(node))
            value = node[key]
        if node is None:
            return replacement
        if kind < 4:
            node[key] = replacement
        elif kind == 4:
            del node[key]
        elif kind == 5 and isinstance(node, dict):
            node[str(VALUES[what % len(VALUES)])[:20]] = node.pop(key)
        elif kind == 6 and isinstance(node, list):
            node.append(copy.deepcopy(value))
        else:
            node[key] = [value] if what % 2 else {"x": value}
    return tree


def text_of(tree: Any) -> bytes:
    """JSON of a tree, with what Python adds to JSON."""
    return json.dumps(tree).encode("utf-8", "surrogatepass")


def json_or_bytes(draw: Any, content: bytes) -> bytes:
    """A JSON file that was changed as a tree or, one time in three, as bytes; now and then one that is very deep."""
    how = draw(st.integers(0, 11))
    if how == 0:
        return b"[" * 20_000 + b"]" * 20_000
    if how < 4:
        return changed_bytes(draw, content)
    return text_of(changed_tree(draw, json.loads(content)))


# ---- the command line ----

_runner = CliRunner()


def command(*arguments: Any) -> int:
    """Exit code of a command in this process, after a look at everything that it said."""
    result = _runner.invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    if "Traceback" in result.output:
        raise AssertionError(f"a traceback reached the user:\n{result.output[-2000:]}")
    if result.exit_code not in (0, 1, 2):
        raise AssertionError(f"exit code {result.exit_code} of qlm {arguments[0]}")
    if result.exit_code and not result.output.strip():
        raise AssertionError(f"exit code {result.exit_code} of qlm {arguments[0]} without a word")
    return int(result.exit_code)


def refuses(*arguments: Any) -> None:
    """Run a command whose input is wrong."""
    code = command(*arguments)
    if code != 2:
        raise AssertionError(f"exit code {code} of qlm {arguments[0]} on input that its reader refuses; expected 2")


# ---- frames of others ----

LENGTH = 5.0
_ODD = {
    "diameter": lambda rng, n: [np.ones(n), rng.uniform(0.8, 1.2, n), np.zeros(n), np.full(n, np.nan)][rng.integers(4)],
    "mass": lambda rng, n: [rng.uniform(0.0, 2.0, n), np.full(n, np.inf)][rng.integers(2)],
    "charge": lambda rng, n: rng.normal(size=n),
    "body": lambda _, n: np.arange(n),
    "moment_inertia": lambda _, n: np.ones((n, 3)),
    "image": lambda rng, n: rng.integers(-9, 10, size=(n, 3)),
}
_BONDED = {"bonds": 2, "angles": 3, "dihedrals": 4, "impropers": 4, "pairs": 2}
N_FIELDS, N_BONDED = 2 ** len(_ODD), 2 ** len(_BONDED)


def write_frame(path: Path, frame: gsd.hoomd.Frame, odd: int, rng: np.random.Generator, precision: str) -> None:
    """A GSD file of one frame, with what the bits of ``odd`` say beside it: first the fields of particles, then bonded groups."""
    frame, n_particles = copy.deepcopy(frame), frame.particles.N
    for bit, name in enumerate((*_ODD, *_BONDED)):
        if odd >> bit & 1 and name in _ODD:
            setattr(frame.particles, name, _ODD[name](rng, n_particles))
        elif odd >> bit & 1 and n_particles >= _BONDED[name]:
            groups = getattr(frame, name)
            groups.N, groups.types, groups.typeid, groups.group = 1, ["g"], [0], [list(range(_BONDED[name]))]
    with gsd.hoomd.open(str(path), "w", precision=precision) as file:
        file.append(frame)


@cache
def packing(kind: str, seed: int, n_particles: int, fraction: float) -> tuple[gsd.hoomd.Frame, str, NDArray[np.float64] | None]:
    """Equal contact spheres in a sheared cell, relaxed from random places, at a packing fraction.

    Returns:
        The frame, the potential as the command line names it, and the lowest four eigenvalues where the packing is at rest.
    """
    diameter = (6.0 * fraction * LENGTH**3 / (np.pi * n_particles)) ** (1 / 3)
    potential = POTENTIALS.load(kind)(sigma=((diameter,),))
    rng = np.random.default_rng(seed)
    glass = Glass(
        rng.uniform(-2.5, 2.5, size=(n_particles, 3)), np.zeros(n_particles, dtype=np.int32), Box(LENGTH, xy=0.25), 0.25
    )
    eigenvalues = None

    def enough(steps: int, _: float) -> None:
        if steps > 3000:
            raise ConvergenceError("it takes long")

    with suppress(QlmError):
        glass = at_rest(glass, potential, force_tolerance=1e-10, falling=enough)[0]
        eigenvalues = LowestModes(min(4, 3 * n_particles - 3)).compute(standing(glass, potential).hessian).eigenvalues
    frame = gsd.hoomd.Frame()
    frame.configuration.box = [LENGTH, LENGTH, LENGTH, 0.25, 0.0, 0.0]
    frame.particles.N, frame.particles.types, frame.particles.position = n_particles, ["A"], glass.positions
    return frame, f"{kind}:sigma=[[{diameter!r}]]", eigenvalues


# ---- the targets ----

HOLDER = {"place": place(), "host": "here", "pid": os.getpid(), "started": "1"}


def valid_files(folder: Path) -> None:
    """Make the files that are changed later: a run, and an archive of it."""
    from qlm_hoomd.report.collect import collect, realisations

    workspace = make_run(folder / "run", realisations=2)
    # The report itself is no input: what is packed of it are tables and exponents.
    results = folder / "run" / "results"
    names = [name for stage in workspace.protocol.stages for name in stage.tables()]
    collect(realisations(folder / "run"), names, results, {})
    (results / "exponents.json").write_text("{}\n")
    export_run(folder / "run", folder / "run.zip")
    shutil.rmtree(results)
    first, second = workspace.realisations
    (folder / "whole.gsd").write_bytes((first.directory / "quenched.gsd").read_bytes())
    # Everything that a run may leave: a stage undone, its failure, claims of the living and of another machine's process.
    known = json.loads((second.directory / "checksums.json").read_bytes())
    for name in workspace.protocol.stages[-1].products():
        (second.directory / name).unlink()
        del known[name]
    (second.directory / "checksums.json").write_text(json.dumps(known))
    (second.directory / "failed").mkdir()
    (second.directory / "failed" / "modes.json").write_text(
        json.dumps({"stage": "modes", "error": "ConvergenceError", "message": "it does not", "traceback": "line"})
    )
    note_code(workspace)
    (folder / "run" / ".claims" / f"{first.id}.1").write_text(json.dumps(HOLDER))
    (folder / "run" / ".claims" / f"{second.id}.1").write_text(json.dumps(HOLDER | {"place": "node7 x", "host": "node7"}))
    (folder / "run" / ".running" / second.id).write_text("N=84 modes: 3 of 6 (process 77)\n")


class Inputs:
    """The folder with the valid files, and the targets that change them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.run = self.folder / "run"
        self.protocols = [
            path.read_bytes() for path in sorted((Path(__file__).resolve().parents[2] / "protocols").glob("*.yaml"))
        ]
        self.gsd = (self.folder / "whole.gsd").read_bytes()
        self.archive = (self.folder / "run.zip").read_bytes()
        paths = sorted(path for path in self.run.rglob("*") if path.is_file())
        self.products = [path for path in paths if path.suffix in {".parquet", ".gsd", ".checkpoint"}]
        self.files = [path for path in paths if path.suffix in {".json", ".1"} or path.parent.name in {".codes", ".running"}]
        self.saved = {
            "key": {"statepoint": dict(Workspace.open(self.run).realisations[0].statepoint), "code": "abc"},
            "cpu_s": 1.0,
            "wall_s": 2.0,
            "state": {"step": 3, "array": np.arange(12.0).reshape(4, 3), "more": (1, [np.float64(2.0), None, "x"])},
        }

    def targets(self) -> list[Target]:
        """All of them."""
        return [
            Target("protocol", 0.22, self.protocol),
            Target("gsd bytes", 0.12, self.gsd_bytes),
            Target("gsd fields", 0.03, self.gsd_fields),
            Target("gsd chunks", 0.08, self.gsd_chunks),
            Target("modes", 0.02, self.modes),
            Target("workspace", 0.29, self.workspace),
            Target("products", 0.04, self.product),
            Target("claims", 0.05, self.claim),
            Target("checkpoint", 0.07, self.checkpoint),
            Target("archive", 0.08, self.packed),
        ]

    def warm_up(self) -> None:
        """Readers load libraries and read lists of plugins when they are first needed: that is no input's doing."""
        for asked in ("status", "verify"):
            command(asked, self.run)
        shutil.rmtree(self.folder / "imported", ignore_errors=True)
        import_run(self.folder / "run.zip", self.folder / "imported")
        for name in ("absent.yaml", "absent.gsd"):
            refuses(*(("run",) if name.endswith("yaml") else ("modes",)), self.folder / name, "--out", self.folder / "never")
        read_glass(self.folder / "whole.gsd")

    def warm_up_modes(self) -> None:
        """Compile what `qlm modes` needs."""
        for kind, n_particles, fraction in product(("harmonic", "hertzian"), (2, 60), (0.3, 0.7)):
            frame, spec, _ = packing(kind, 0, n_particles, fraction)
            write_frame(self.folder / "f.gsd", frame, 0, np.random.default_rng(0), "single")
            for more in ((), ("--remove-rattlers",)):
                code = command(
                    "modes", self.folder / "f.gsd", "--potential", spec, "--k", 3, *more, "--out", self.folder / "modes"
                )
                if n_particles == 60 and fraction == 0.7 and code != 0:
                    raise AssertionError(f"qlm modes of a jammed packing: exit code {code}")
                shutil.rmtree(self.folder / "modes", ignore_errors=True)

    def protocol(self, draw: Any) -> bool:
        """Protocol files."""
        from ruamel.yaml import YAML

        content = self.protocols[draw(st.integers(0, len(self.protocols) - 1))]
        if draw(st.integers(0, 3)) == 0:
            buffer = io.StringIO()
            tree = changed_tree(draw, YAML(typ="safe", pure=True).load(content))
            with suppress(Exception):  # a value that this writer of YAML does not know
                YAML(typ="safe", pure=True).dump(tree, buffer)
            content = buffer.getvalue().encode("utf-8", "replace")
        else:
            content = changed_bytes(draw, content)
        path = self.folder / "p.yaml"
        path.write_bytes(content)
        with guarded(self.folder):
            try:
                load_protocol(path)
            except InputError:
                if draw(st.integers(0, 9)) == 0:
                    refuses("run", path, "--out", self.folder / "never")
                return True
        return False

    def _glass(self, path: Path, draw: Any) -> bool:
        with guarded(self.folder):
            try:
                read_glass(path)
                read_glass(path, 0)
            except InputError:
                if draw(st.integers(0, 4)) == 0:
                    # The command may still do what it can with frames that are whole.
                    command("modes", path, "--frames", "0:1", "-k", "1", "--as-is", "--out", self.folder / "modes")
                return True
        return False

    def gsd_bytes(self, draw: Any) -> bool:
        """GSD files with other bytes; one time in two in the header and the index."""
        content = self.gsd
        if draw(st.booleans()):
            head = changed_bytes(draw, content[:256])[:256].ljust(256, b"\0")
            content = head + content[256:]
        else:
            content = changed_bytes(draw, content)
        path = self.folder / "g.gsd"
        path.write_bytes(content)
        return self._glass(path, draw)

    def gsd_chunks(self, draw: Any) -> bool:
        """GSD files that are whole, but hold chunks of other types, shapes and values."""
        path = self.folder / "c.gsd"
        source = self.folder / "whole.gsd"
        source.write_bytes(self.gsd)
        kinds = draw(_changes)
        with gsd.fl.open(str(source), "r") as file, gsd.fl.open(str(path), "w", "qlm", "hoomd", [1, 4]) as target:
            names = file.find_matching_chunk_names("")
            chunks = {name: file.read_chunk(frame=0, name=name) for name in names if file.chunk_exists(frame=0, name=name)}
            for kind, where, what in kinds[:3]:
                name = names[where % len(names)]
                if name not in chunks:
                    continue
                array = chunks[name]
                if kind == 0:
                    del chunks[name]
                elif kind == 1:
                    chunks[name] = array.astype([np.float32, np.float64, np.int8, np.uint8, np.int64, np.uint32][what % 6])
                elif kind == 2:
                    chunks[name] = array[: what % (len(array) + 1)] if array.ndim and len(array) > 1 else array
                elif kind == 3:
                    chunks[name] = array.reshape(-1)
                elif kind == 4:
                    chunks[name] = np.resize(array, (what % 300 + 1, what % 5 + 1))
                else:
                    flat = np.array(array, copy=True)
                    values = [0, 1, -1, np.nan, np.inf, -np.inf, 1e300, 1e-300, 2**31 - 1, 7]
                    with np.errstate(all="ignore"), suppress(OverflowError, ValueError):
                        flat.reshape(-1)[where % max(flat.size, 1)] = values[what % len(values)]
                    chunks[name] = flat
            for name, array in chunks.items():
                if array.size and array.ndim <= 2:
                    target.write_chunk(name, array)
            target.end_frame()
        return self._glass(path, draw)

    def gsd_fields(self, draw: Any) -> bool:
        """Whole GSD files with odd fields and all sets of bonded groups, far coordinates and tilts up to 3."""
        one_in = st.sampled_from
        n_particles = draw(st.integers(1, 60))
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        frame = gsd.hoomd.Frame()
        particles = frame.particles
        length = draw(one_in([3.0, 4.0, 4.1, 6.3, 20.0, 1e30]))
        tilts = [draw(one_in([0.0, 0.0, 0.25, 1.0, -3.0, 2.75, 0.1])) for _ in range(3)]
        frame.configuration.box = [length, length * draw(one_in([1.0, 1.0, 1.0, 2.0])), length, *tilts]
        frame.configuration.dimensions = draw(one_in([3, 3, 3, 2]))
        particles.N = n_particles
        particles.types = draw(one_in([["A"], ["A", "B"], ["B", "A"], ["x", "y", "z"], [""]]))
        particles.typeid = rng.integers(0, draw(st.integers(1, 3)), size=n_particles)
        far = draw(one_in([0, 0, 3, 2000, 10**9]))
        particles.position = (
            rng.uniform(-0.5, 0.5, size=(n_particles, 3)) + rng.integers(-far, far + 1, size=(n_particles, 3))
        ) * min(length, 50.0)
        path, precision = self.folder / "f.gsd", draw(one_in(["single", "double"]))
        fields, ignore = draw(one_in(range(N_FIELDS))), draw(st.booleans())
        potential = draw(one_in([Harmonic(sigma=((1.0, 1.2), (1.2, 1.4))), Harmonic(sigma=((1.0,),)), KobAndersen(q=2)]))
        n_refused = 0
        for bonded in range(N_BONDED):
            write_frame(path, frame, fields + N_FIELDS * bonded, rng, precision)
            with guarded(self.folder):
                try:
                    glass = read_glass(path).glass
                    FrameLoader(path, potential, None, ignore_diameters=ignore).check(slice(None), 1)
                except InputError:
                    n_refused += 1
                    continue
            if abs(glass.box.xy) > 0.5 or not np.abs(glass.positions @ np.linalg.inv(glass.box.matrix)).max() <= 0.5 + 1e-6:
                raise AssertionError("the glass is not folded into a cell of small tilt")
        return n_refused == N_BONDED

    def modes(self, draw: Any) -> bool:
        """`qlm modes` of contact spheres at and below jamming, with odd fields, far coordinates and tilts up to 3.

        Where a packing is at rest and the file has all its digits, the eigenvalues are those of the packing in its own cell.
        """
        one_in = st.sampled_from
        kind, seed, n_particles = draw(one_in(["harmonic", "hertzian"])), draw(st.integers(0, 9)), draw(one_in([2, 40, 50, 60]))
        # Equal spheres jam at 0.64.
        frame, spec, eigenvalues = packing(kind, seed, n_particles, draw(one_in([0.05, 0.5, 0.6, 0.63, 0.64, 0.65, 0.68, 0.8])))
        moved, rng = copy.deepcopy(frame), np.random.default_rng(seed)
        tilts = [tilt + draw(st.integers(-3, 2)) for tilt in frame.configuration.box[3:]]
        moved.configuration.box = [*frame.configuration.box[:3], *tilts]
        matrix = LENGTH * np.array([[1.0, 0.0, 0.0], [tilts[0], 1.0, 0.0], [tilts[1], tilts[2], 1.0]])
        far, precision = draw(one_in([0, 1, 30, 2000])), draw(one_in(["single", "double"]))
        moved.particles.position = frame.particles.position + rng.integers(-far, far + 1, size=(n_particles, 3)) @ matrix
        write_frame(self.folder / "f.gsd", moved, draw(st.integers(0, N_FIELDS * N_BONDED - 1)), rng, precision)
        out = self.folder / "modes"
        shutil.rmtree(out, ignore_errors=True)
        more = ("--remove-rattlers",) if (removed := draw(st.booleans())) else ()
        with guarded(self.folder):
            code = command(
                *("modes", self.folder / "f.gsd", "--potential", spec, "--k", 3, "--ignore-diameters", "--relax-limit", 3),
                *(*more, "--out", out),
            )
        if (out / "modes.parquet").exists():
            table = pl.read_parquet(out / "modes.parquet")
            if not all(table[name].is_finite().all() for name in ("eigenvalue", "frequency", "participation_ratio")):
                raise AssertionError(f"modes that are no numbers: {table}")
            if eigenvalues is not None and precision == "double" and not removed:
                np.testing.assert_allclose(table["eigenvalue"], eigenvalues[:3], rtol=1e-5, atol=1e-7)
        return code == 2

    @contextmanager
    def _replaced(self, path: Path, content: bytes) -> Iterator[None]:
        before = path.read_bytes()
        path.write_bytes(content)
        try:
            yield
        finally:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(before)

    def workspace(self, draw: Any) -> bool:
        """Every small file of a folder of a run, one at a time: what is asked of the folder must be answered."""
        path = self.files[draw(st.integers(0, len(self.files) - 1))]
        content = path.read_bytes()
        content = json_or_bytes(draw, content) if content.startswith(b"{") else changed_bytes(draw, content)
        asked = draw(st.sampled_from(("status", "verify", "work", "both")))
        with self._replaced(path, content), guarded(self.folder):
            try:
                workspace = Workspace.read(self.run)
            except InputError:
                refuses("status" if asked == "both" else asked, self.run)
                return True
            if workspace.missing:
                refuses("work", self.run)
            if asked in {"verify", "both"}:
                code = command("verify", self.run)
                if path.name == "checksums.json" and code == 0 and content != path.read_bytes():
                    raise AssertionError("qlm verify finds nothing in a folder whose checksums were changed")
            if asked in {"status", "both"} and command("status", self.run) != 0:
                raise AssertionError("qlm status fails on a folder whose protocol can be read")
            if asked == "work":
                for realisation in workspace.realisations:
                    realisation.costs()
                    for stage in workspace.protocol.stages:
                        realisation.failure(stage)
                    with suppress(InputError):
                        workspace.realisation(realisation.id)
        return False

    def product(self, draw: Any) -> bool:
        """Tables and configurations of a run: verify names the one that was changed, and it alone."""
        path = self.products[draw(st.integers(0, len(self.products) - 1))]
        content = changed_bytes(draw, path.read_bytes())
        if content == path.read_bytes():
            return False
        with self._replaced(path, content), guarded(self.folder):
            result = _runner.invoke(app, ["verify", str(self.run)])
            if result.exit_code != 1 or str(path) not in result.output:
                raise AssertionError(f"qlm verify does not name {path.name}: exit code {result.exit_code}, {result.output!r}")
        return True

    def claim(self, draw: Any) -> bool:
        """Files in the folder of claims."""
        folder = self.folder / "claims"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        name = draw(
            st.sampled_from(("a.1", "a.2", "a.x", "a", ".1", "a.-1", "a.99999999999999999999", "a.1.2", ".a.tmp", "a.²"))
        )
        (folder / name).write_bytes(json_or_bytes(draw, json.dumps(HOLDER).encode()))
        if draw(st.booleans()):
            stamp = draw(st.sampled_from((0, 1, -1, 2**31, 2**33, 10**10)))
            os.utime(folder / name, (stamp, stamp))
        with guarded(self.folder):
            claims = Claims(folder)
            claims.states()
            claims.live()
            claims.left()
            claims.beat()
            taken = claims.take("a")
            if taken is not None:
                taken.release()
        return taken is None

    def checkpoint(self, draw: Any) -> bool:
        """Checkpoints, one time in two with a checksum that is right."""
        path = self.folder / ".shear.checkpoint"
        content = packed(self.saved)
        how = draw(st.integers(0, 3))
        if how == 0:
            content = changed_bytes(draw, content)
        else:
            if how == 1:
                payload = changed_bytes(draw, content.split(b"\n", 2)[2])
            else:
                with np.load(io.BytesIO(content.split(b"\n", 2)[2])) as archive:
                    members = dict(archive)
                tree = changed_tree(draw, json.loads(members["tree"].tobytes()))
                members["tree"] = np.frombuffer(text_of(tree), dtype=np.uint8)
                buffer = io.BytesIO()
                if how == 3:  # a pickle where an array is expected
                    members["a0"] = np.array([{"x": 1}, None], dtype=object)
                np.savez(buffer, **members)
                payload = buffer.getvalue()
            content = b"%s\n%s\n%s" % (checkpoint_module._MAGIC, sha256(payload).hexdigest().encode(), payload)
        path.write_bytes(content)
        with guarded(self.folder):
            state = Checkpoint(path, self.saved["key"]).load()
        return state is None

    def packed(self, draw: Any) -> bool:
        """Archives: other bytes, or other members with checksums that are right."""
        path = self.folder / "a.zip"
        if draw(st.integers(0, 3)) == 0:
            path.write_bytes(changed_bytes(draw, self.archive))
        else:
            with zipfile.ZipFile(io.BytesIO(self.archive)) as archive:
                files = {name: archive.read(name) for name in archive.namelist() if name != CHECKSUM_FILE}
            name = draw(st.sampled_from(sorted(files)))
            if draw(st.integers(0, 4)) == 0:
                files[draw(st.sampled_from((*TRAVERSAL, "protocol.json/x", "workspace/x", "results/../x", "\\x", "C:x")))] = (
                    files.pop(name)
                )
            else:
                files[name] = (json_or_bytes if name.endswith(".json") else changed_bytes)(draw, files[name])
            sums = "".join(f"{sha256(content).hexdigest()}  {each}\n" for each, content in sorted(files.items()))
            with zipfile.ZipFile(path, "w") as archive:
                for each, content in {**files, CHECKSUM_FILE: sums.encode()}.items():
                    archive.writestr(each, content)
        target = self.folder / "imported"
        shutil.rmtree(target, ignore_errors=True)
        with guarded(self.folder):
            try:
                import_run(path, target)
            except InputError:
                if target.exists():
                    raise AssertionError("a refused archive left a folder") from None
                if draw(st.integers(0, 4)) == 0:
                    refuses("import", path, target)
                return True
            if draw(st.integers(0, 2)) == 0:
                if command("status", target) != 0:
                    raise AssertionError("qlm status fails on a folder that was imported")
                command("verify", target)
        return False


def fuzz_target(target: Target, number: int, root_seed: int, folder: Path) -> None:
    """Try ``number`` inputs; the first that fails, made small by hypothesis, goes to ``target.errors``."""
    notes = folder.parent / "failed_inputs"

    @seed(root_seed)
    @settings(
        max_examples=number,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
    )
    @given(st.data())
    def attempt(data: st.DataObject) -> None:
        target.n_inputs += 1
        target.beat[:] = target.n_inputs.to_bytes(8, "little")
        try:
            target.n_refused += target.body(data.draw)
        except (Hang, Executed) as problem:
            raise AssertionError(f"{type(problem).__name__}: {problem}") from problem

    try:
        attempt()
    except Exception:  # noqa: BLE001  (whatever an input led to)
        target.errors.append(f"{target.name}: {traceback.format_exc()[-6000:]}")
        notes.mkdir(exist_ok=True)
        for path in folder.iterdir():
            if path.is_file():
                shutil.copy(path, notes / f"{target.name.replace(' ', '_')}-{path.name}")


def _watched(pid: int, beat: mmap.mmap) -> int | None:
    """Status of a process at its end; None if it had to be killed: a reader in another language may be deaf to the clock."""
    seen, since = beat[:], time.monotonic()
    while (ended := os.waitpid(pid, os.WNOHANG))[0] == 0:
        if beat[:] != seen:
            seen, since = beat[:], time.monotonic()
        elif time.monotonic() - since > 2.0 * WALL_S:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return None
        time.sleep(0.05)
    return ended[1]


def fuzz(number: int, root_seed: int, folder: Path, only: str | None = None) -> tuple[int, int]:
    """Try ``number`` inputs of all kinds, and say what came of them.

    Each kind has a process of its own, so that one that crashes is noticed.

    Returns:
        Number of inputs, and of kinds that failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sys.addaudithook(_audit)
    (folder / "inputs").mkdir()
    # In a process of their own: the threads of polars do not come along into those that are forked later.
    pid = os.fork()
    if pid == 0:
        done = 1
        try:
            valid_files(folder / "inputs")
            done = 0
        finally:
            os._exit(done)
    if os.waitpid(pid, 0)[1] != 0:
        raise RuntimeError("the valid files cannot be made; see above")
    inputs = Inputs(folder / "inputs")
    total, failed = 0, 0
    for target in inputs.targets():
        if only is not None and target.name != only:
            continue
        start = time.monotonic()
        report = folder / "report.json"
        report.unlink(missing_ok=True)
        share = max(round(number * target.share), 1)
        said = folder / "said.log"
        pid = os.fork()
        if pid == 0:
            try:
                # Warnings, and what libraries in other languages say of damaged files: shown where the process dies.
                os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
                inputs.warm_up()
                if target.name == "modes":
                    inputs.warm_up_modes()
                fuzz_target(target, share, root_seed, inputs.folder)
                report.write_text(json.dumps([target.n_inputs, target.n_refused, target.errors, time.process_time()]))
            except BaseException:  # noqa: BLE001  (this is the end of a process)
                traceback.print_exc()
            finally:
                os._exit(0)
        status = _watched(pid, target.beat)
        try:
            n_inputs, n_refused, errors, cpu_s = json.loads(report.read_text())
        except (OSError, ValueError):
            tail = said.read_text(errors="replace")[-3000:]
            errors = [f"{target.name}: the process {'hangs' if status is None else f'died (status {status})'}\n{tail}"]
            n_inputs, n_refused, cpu_s = int.from_bytes(target.beat[:], "little"), 0, 0.0
        total += n_inputs
        failed += bool(errors)
        print(
            f"{target.name}: {n_inputs} inputs, {n_refused} refused, {len(errors)} failed ({cpu_s:.0f} s of processor time,"
            f" {time.monotonic() - start:.0f} s)",
            flush=True,
        )
        for error in errors:
            print(error, flush=True)
    return total, failed
