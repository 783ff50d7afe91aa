"""Lowest modes of anybody's file: any frames, any registered pair potential, tables and mode vectors out.

Everything that can be wrong with the file is looked for in all chosen frames before the first mode is computed. A frame that is
not at rest is relaxed and the tables say so; a frame that fails later is named and the others are kept.
"""

# Array names carry their axes: m modes, n particles, c Cartesian components, p pairs.

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import polars as pl

from qlm_hoomd import gsdio
from qlm_hoomd.base.display import Displayed, counted, in_words
from qlm_hoomd.base.errors import ConvergenceError, InputError, QlmError, did_you_mean
from qlm_hoomd.base.files import replacing, write_table
from qlm_hoomd.base.processes import results_of
from qlm_hoomd.base.provenance import versions
from qlm_hoomd.elasticity import STATE_COLUMNS, moduli_row, stress_row
from qlm_hoomd.frames import FrameLoader, said_of
from qlm_hoomd.glass import Glass
from qlm_hoomd.kept import Kept, digest_of
from qlm_hoomd.modes import LowestModes
from qlm_hoomd.stages.modes import MODE_SCALARS, mode_rows
from qlm_hoomd.standing import Standing, at_rest, standing
from qlm_hoomd.view import ModeView

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from qlm_hoomd.potentials import PairPotential

FORCE_TOLERANCE = 1e-8
"""Largest force of a frame that counts as at rest [energy / length]."""

TableFormat = Literal["parquet", "csv"]

_SECONDS_BETWEEN_LINES = 10.0


# ---- what comes out ----


@dataclass(frozen=True, eq=False, repr=False)
class FrameModes(Displayed):
    """The lowest modes of one frame, and what was done to it.

    Args:
        frame: index in the file.
        glass: the configuration whose modes these are, all particles, at rest.
        relaxation: how it was brought to rest ("newton", "descent+newton"); empty where it was at rest.
        max_force_found: largest force in the file [energy / length].
        max_displacement: how far the relaxation moved a particle at most [length].
        rattlers: ((N,) ndarray of bool) particles with too few contacts to be held.
        rattlers_removed: whether they were left out of the Hessian.
        modes: the modes of the particles that the Hessian holds.
        vectors: ((M, N, 3) ndarray) normalised modes of all particles; rattlers that were removed do not move.
        negative_modes: number of negative eigenvalues among the modes: a saddle.
        zero_modes: number of eigenvalues among the modes that are zero to rounding.
        no_solid: why this is no solid; empty where nothing speaks against one.
        mode_rows: a row for each mode, as ``modes.parquet`` has it.
        row: the frame's row in ``moduli.parquet``.
        notes: what the user should know, in order.
    """

    frame: int
    glass: Glass
    relaxation: str
    max_force_found: float
    max_displacement: float
    rattlers: NDArray[np.bool_]
    rattlers_removed: bool
    modes: LowestModes
    vectors: NDArray[np.float64]
    negative_modes: int
    zero_modes: int
    no_solid: str
    mode_rows: list[dict[str, Any]]
    row: dict[str, Any]
    notes: tuple[str, ...]

    def _headline(self) -> str:
        return f"frame {self.frame}, {in_words(self.glass)}; {in_words(self.modes)}"


@dataclass(frozen=True, repr=False)
class FileModes(Displayed):
    """The analysis of a file.

    Args:
        modes: a row for each mode: frame, relaxed, and the columns of ``modes.parquet``.
        moduli: a row for each frame: what was done to it, rattlers, elastic moduli.
        failures: message by frame, for those that could not be analysed.
        no_solids: why, by frame, for those that were analysed and are no solid.
        notes: what the user should know, in order.
        files: what was written.
    """

    modes: pl.DataFrame
    moduli: pl.DataFrame
    failures: dict[int, str] = field(default_factory=dict)
    no_solids: dict[int, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()

    def _headline(self) -> str:
        lost = f", {len(self.failures)} failed" if self.failures else ""
        return f"{counted(len(self.modes), 'mode')} of {counted(len(self.moduli), 'frame')}{lost}"

    def plot(self, ax: Axes | None = None) -> Axes:
        """Participation ratio against frequency, the frames by colour."""
        from matplotlib import pyplot as plt

        if ax is None:
            _, ax = plt.subplots()
        points = ax.scatter(self.modes["frequency"], self.modes["participation_ratio"], c=self.modes["frame"], s=14)
        if self.modes["frame"].n_unique() > 1:
            ax.figure.colorbar(points, ax=ax, label="frame")
        ax.set(yscale="log", xlabel=r"frequency $\omega$ [$1/t_c$]", ylabel="participation ratio $e$")
        return ax


_FRAME_COLUMNS = {
    "frame": pl.Int32,
    "strain": pl.Float64,
    "n_particles": pl.Int32,
    "relaxation": pl.String,
    "max_force_found": pl.Float64,
    "max_displacement": pl.Float64,
    "rattlers": pl.Int32,
    "rattlers_removed": pl.Boolean,
    "negative_modes": pl.Int32,
    "zero_modes": pl.Int32,
    **dict.fromkeys(STATE_COLUMNS, pl.Float64),
}


# ---- one frame ----


def modes_of_frame(
    glass: Glass,
    potential: PairPotential,
    k: int,
    *,
    frame: int = 0,
    as_is: bool = False,
    remove_rattlers: bool = False,
    force_tolerance: float = FORCE_TOLERANCE,
    falling: Callable[[int, float], None] | None = None,
) -> FrameModes:
    """The k lowest modes of a glass, relaxed first where it is not at rest.

    Args:
        glass: the configuration.
        potential: its pair potential.
        k: number of modes, translations not counted.
        frame: index that the result carries.
        as_is: refuse a glass that is not at rest, instead of relaxing it.
        remove_rattlers: leave particles with fewer than d + 1 contacts out of the Hessian.
        force_tolerance: largest force of a glass at rest [energy / length].
        falling: is told steps and max|F| of a descent from far away; what it raises ends the descent.

    Raises:
        InputError: if the glass is not at rest and ``as_is``, has fewer than k modes, or no particle is held.
        ConvergenceError: if it cannot be relaxed, or the eigensolver fails.
    """
    rest, relaxation, found = at_rest(glass, potential, as_is=as_is, force_tolerance=force_tolerance, falling=falling)
    moved = float(np.sqrt((glass.box.minimum_image(rest.positions - glass.positions) ** 2).sum(axis=1).max()))
    notes = [f"relaxed from max|F| = {found:.2g} ({relaxation}); a particle moved by {moved:.2g} at most"] if relaxation else []
    if relaxation.startswith("descent"):
        notes.append("no minimum close by: a liquid, or not the potential that made the file?")
    what = standing(rest, potential, remove_rattlers=remove_rattlers, force_tolerance=force_tolerance)
    if what.removed:
        notes.append(f"{what.n_rattlers} rattlers removed; participation ratios count the other {what.kept_n.sum()} particles")
    elif what.n_rattlers:
        notes.append(
            f"{what.n_rattlers} rattlers, each with up to {glass.box.dimensions} zero modes; --remove-rattlers leaves them out"
        )
    modes = LowestModes(k).compute(what.hessian)
    negative_modes, zero_modes = what.signs(modes.eigenvalues)
    if negative_modes:
        notes.append(
            f"a saddle: {negative_modes} of its {k} lowest eigenvalues are negative (kept; frequency = -sqrt(-lambda))"
        )
    if zero_modes:
        notes.append(f"{zero_modes} of its {k} lowest eigenvalues are zero to rounding")
    moduli, note = _moduli(what, potential)
    row = {
        "frame": frame,
        "strain": glass.strain,
        "n_particles": glass.n_particles,
        "relaxation": relaxation,
        "max_force_found": found,
        "max_displacement": moved,
        "rattlers": what.n_rattlers,
        "rattlers_removed": what.removed,
        "negative_modes": negative_modes,
        "zero_modes": zero_modes,
    }
    return FrameModes(
        frame=frame,
        glass=what.glass,
        relaxation=relaxation,
        max_force_found=found,
        max_displacement=moved,
        rattlers=what.rattler_n,
        rattlers_removed=what.removed,
        modes=modes,
        vectors=what.embedded(modes.vectors),
        negative_modes=negative_modes,
        zero_modes=zero_modes,
        no_solid=what.no_solid(negative_modes, k),
        mode_rows=mode_rows(modes, what.hessian, glass.strain),
        row=row | moduli,
        notes=(*notes, *note),
    )


def _moduli(what: Standing, potential: PairPotential) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Stress and energy of all particles; moduli, to which rattlers add nothing."""
    row: dict[str, Any] = stress_row(what.bonds)
    try:
        moduli, withheld = moduli_row(what.hessian.bonds, potential)
        return row | moduli, (withheld,) if withheld else ()
    except ConvergenceError as error:
        return row, (f"no elastic moduli: {error}",)


# ---- a file ----


def modes_of_file(
    path: Path,
    *,
    potential: PairPotential,
    k: int = 20,
    frames: slice = slice(None),
    types: tuple[str, ...] | None = None,
    as_is: bool = False,
    remove_rattlers: bool = False,
    force_tolerance: float = FORCE_TOLERANCE,
    ignore_diameters: bool = False,
    relax_limit: float | None = None,
    out: Path | None = None,
    table_format: TableFormat = "parquet",
    view: int | None = None,
    workers: int = 1,
    progress: Callable[[str], None] = lambda _: None,
) -> FileModes:
    """Lowest modes of the frames of a file, written by HOOMD-blue or anybody else.

    Each frame that is finished is kept in the folder ``out``, from which the same call goes on after an interrupt, whatever
    stopped it; the files are made of all frames in the end.

    Args:
        path: the file, of any format that a reader knows.
        potential: the pair potential of its particles.
        k: modes a frame.
        frames: which frames.
        types: the file's names of the potential's particle types 0, 1, ...; None for the potential's own names, or the order
            in the file where it has none.
        as_is: refuse frames that are not at rest, instead of relaxing them.
        remove_rattlers: leave particles with fewer than d + 1 contacts out of the Hessian.
        force_tolerance: largest force of a frame at rest [energy / length].
        ignore_diameters: take particles of one type that differ in diameter as one size, instead of refusing them where the
            potential knows no sizes.
        relax_limit: time after which a frame that still falls has failed [s]; None for no limit but that of the descent.
        out: folder for ``modes``, ``moduli`` and ``modes.gsd``; None writes nothing.
        table_format: of the two tables, "parquet" or "csv".
        view: mode of which to write a picture (PNG) and an interactive view (HTML), from the first frame.
        workers: frames at work at a time, each in a process of its own where it is more than one.
        progress: takes lines on each frame, and on one that falls for long.

    Raises:
        InputError: if the file is no glass of this potential, or products exist already; nothing is written.
        ConvergenceError: if no frame at all could be analysed.
        Interrupted: if a signal asked this process to stop.
    """
    if view is not None and not 0 <= view < k:
        raise InputError(f"--view {view}; expected one of the modes 0 to {k - 1} that --k asks for.")
    if table_format not in get_args(TableFormat):
        raise InputError(
            f"--format {table_format}; expected parquet or csv.{did_you_mean(table_format, get_args(TableFormat))}"
        )
    pictures = () if view is None else (f"mode-{view}.png", f"mode-{view}.html")
    tables = f"modes.{table_format}", f"moduli.{table_format}"
    files = () if out is None else tuple(out / name for name in (*tables, "modes.gsd", *pictures))
    provenance = {
        "source": path.name,
        "potential": potential.model_dump(mode="json"),
        "as_is": as_is,
        "remove_rattlers": remove_rattlers,
        "force_tolerance": force_tolerance,
        "versions": versions(),
    }
    kept = Kept(out, {**provenance, "k": k, "types": types, "ignore_diameters": ignore_diameters})
    for file in files:
        if file.exists() and not kept.begun:
            raise InputError(f"{file} exists; expected a new folder (--out). Nothing is overwritten.")
    loader = FrameLoader(path, potential, types, ignore_diameters=ignore_diameters)
    chosen, notes = loader.check(frames, k)
    if potential.jumps_at_cutoff(2) or potential.jumps_at_cutoff(3):
        notes.append(
            f"kappa is continuous in pieces only: the third derivative of {type(potential).__name__} is not continuous at the "
            "cut-off, and kappa of a mode changes at once where a pair crosses it (q: 3 or more, where the potential has it)"
        )
    for note in notes:
        progress(note)
    progress(f"potential: {', '.join(f'{key} = {value}' for key, value in potential.model_dump().items())}")
    if as_is:
        for index in chosen:
            with said_of(path, index):
                at_rest(loader.load(index)[0], potential, as_is=True, force_tolerance=force_tolerance)
    task = _Task(loader, potential, k, as_is, remove_rattlers, force_tolerance, relax_limit)
    before = [index for index in chosen if kept.load(index, loader.load(index)[0])] if kept.begun else []
    if before:
        progress(f"{len(before)} of {len(chosen)} frames were finished before")
    failures: dict[int, QlmError] = {}
    left = [index for index in chosen if index not in before]
    begun, n_ended = time.monotonic(), 0
    with closing(results_of(task, left, workers, progress)) as outcomes:
        for index, result in outcomes:
            n_ended += 1
            if isinstance(result, QlmError):
                failures[index] = result
                if len(chosen) == 1:
                    continue  # that is the end, and said there
                line = f"frame {index} failed: {result}"
            else:
                kept.save(index, result)
                line = f"frame {index}: {'; '.join(result['notes']) or 'at rest'}"
            seconds = (time.monotonic() - begun) / n_ended * (len(left) - n_ended)
            progress(line if len(chosen) == 1 else f"{line} [{len(before) + n_ended} of {len(chosen)}, {seconds:.0f} s left]")
    done = [index for index in chosen if index not in failures]
    if not done:
        kept.discard()
        first, failure = next(iter(failures.items()))
        raise type(failure)(f"{path}, frame {first}: {failure}")
    mode_table: list[dict[str, Any]] = []
    moduli_table: list[dict[str, Any]] = []
    no_solids: dict[int, str] = {}
    picture: ModeView | None = None
    with ExitStack() as stack:
        vectors: gsdio.ModeFile | None = None
        if out is not None:
            vectors = stack.enter_context(gsdio.ModeFile(stack.enter_context(replacing(out / "modes.gsd")), provenance))
        for index in done:
            glass, source = loader.load(index)
            result = kept.load(index, glass)
            whole = glass.moved(result["positions"])
            notes += [f"frame {index}: {note}" for note in result["notes"]]
            if result["no_solid"]:
                no_solids[index] = result["no_solid"]
            mode_table += [{"frame": index, "relaxed": bool(result["row"]["relaxation"])} | row for row in result["mode_rows"]]
            moduli_table.append(result["row"])
            if vectors is not None:
                for row, vector_nc in zip(result["mode_rows"], result["vectors"], strict=True):
                    scalars = {"frame": index, **{name: row[name] for name in MODE_SCALARS}}
                    vectors.append(
                        whole, vector_nc, scalars, particles=source.particles, rattler_n=result["rattlers"],
                        diameter_n=potential.drawn_diameters(whole),
                    )  # fmt: skip
            if picture is None and view is not None:
                picture = _picture(whole, result, potential, f"{path.name}, frame {index}")
    analysis = FileModes(
        modes=pl.DataFrame(mode_table, schema_overrides={"frame": pl.Int32, "index": pl.Int32}, infer_schema_length=None),
        moduli=pl.DataFrame(moduli_table, schema=_FRAME_COLUMNS, orient="row"),
        failures={index: str(error) for index, error in failures.items()},
        no_solids=no_solids,
        notes=tuple(notes),
        files=files,
    )
    if out is not None:
        for file, table in zip(files, (analysis.modes, analysis.moduli), strict=False):
            _write_table(file, table, provenance)
        if picture is not None and view is not None:
            picture.write_png(out / f"mode-{view}.png", view)
            picture.write_html(out / f"mode-{view}.html", view)
        kept.discard()
    return analysis


def _write_table(path: Path, table: pl.DataFrame, provenance: Mapping[str, Any]) -> None:
    if path.suffix != ".csv":
        write_table(path, table, provenance)
        return
    with replacing(path) as temporary:
        table.write_csv(temporary)


@dataclass(frozen=True)
class _Task:
    """What is done of each frame."""

    loader: FrameLoader
    potential: PairPotential
    k: int
    as_is: bool
    remove_rattlers: bool
    force_tolerance: float
    relax_limit: float | None

    def __call__(self, index: int, progress: Callable[[str], None]) -> dict[str, Any]:
        """What is kept of a frame.

        Raises:
            QlmError: if it cannot be analysed.
        """
        glass, _ = self.loader.load(index)
        begun = time.monotonic()
        said = -math.inf

        def falling(n_steps: int, max_force: float) -> None:
            nonlocal said
            now = time.monotonic()
            if self.relax_limit is not None and now - begun > self.relax_limit:
                raise ConvergenceError(
                    f"still falling after {n_steps} steps and {now - begun:.0f} s, max|F| = {max_force:.2g}; expected a "
                    f"minimum within --relax-limit {self.relax_limit:g}. Raise it, or name the potential that made the file."
                )
            if now - said > _SECONDS_BETWEEN_LINES:
                said = now
                progress(
                    f"frame {index}: {'no minimum close by, ' if not n_steps else ''}falling: step {n_steps}, max|F| = "
                    f"{max_force:.2g}"
                )

        result = modes_of_frame(
            glass, self.potential, self.k, frame=index, as_is=self.as_is, remove_rattlers=self.remove_rattlers,
            force_tolerance=self.force_tolerance, falling=falling,
        )  # fmt: skip
        return {
            "input": digest_of(glass),
            "positions": result.glass.positions,
            "vectors": result.vectors,
            "rattlers": result.rattlers,
            "mode_rows": result.mode_rows,
            "row": result.row,
            "no_solid": result.no_solid,
            "notes": result.notes,
        }


def _picture(glass: Glass, result: Mapping[str, Any], potential: PairPotential, title: str) -> ModeView:
    rows = result["mode_rows"]
    return ModeView(
        positions=glass.positions,
        diameters=potential.drawn_diameters(glass),
        typeid=glass.typeid,
        box=glass.box,
        modes=result["vectors"],
        frequencies=np.array([row["frequency"] for row in rows]),
        participation_ratios=np.array([row["participation_ratio"] for row in rows]),
        title=title,
    )
