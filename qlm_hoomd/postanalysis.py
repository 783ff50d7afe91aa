"""Lowest modes of anybody's GSD file: any frames, any registered pair potential, tables and mode vectors out.

Everything that can be wrong with the file is looked for in all chosen frames before the first mode is computed. A frame that is
not at rest is relaxed and the tables say so; a frame that fails later is named and the others are kept.
"""

# Array names carry their axes: m modes, n particles, c Cartesian components, p pairs.

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from qlm_hoomd import gsdio
from qlm_hoomd.base.display import Displayed, counted, in_words
from qlm_hoomd.base.errors import ConvergenceError, InputError, QlmError
from qlm_hoomd.base.files import replacing, write_table
from qlm_hoomd.base.provenance import versions
from qlm_hoomd.elasticity import STATE_COLUMNS, moduli_row, stress_row
from qlm_hoomd.frames import FrameLoader, said_of
from qlm_hoomd.glass import Glass
from qlm_hoomd.hessian import Hessian
from qlm_hoomd.mechanics import Mechanics, bonds_of
from qlm_hoomd.minimize import descent, newton
from qlm_hoomd.minimize.surface import max_norm
from qlm_hoomd.modes import LowestModes
from qlm_hoomd.stages.modes import MODE_SCALARS, mode_rows
from qlm_hoomd.view import ModeView

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from qlm_hoomd.mechanics import Bonds
    from qlm_hoomd.potentials import PairPotential

FORCE_TOLERANCE = 1e-8
"""Largest force of a frame that counts as at rest [energy / length]."""

# A particle held by contacts alone needs d + 1 of them.
_FEWEST_CONTACTS = 4
# Eigenvalues below this part of the largest are zero to the rounding of a float64 Hessian.
_ZERO = 1e-10


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
        notes: what the user should know, in order.
        files: what was written.
    """

    modes: pl.DataFrame
    moduli: pl.DataFrame
    failures: dict[int, str] = field(default_factory=dict)
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


def rattlers(bonds: Bonds) -> NDArray[np.bool_]:
    """((N,) ndarray of bool) particles with fewer than four contacts, those with other rattlers not counted.

    A contact is a pair that pushes or pulls. Only short-ranged potentials leave a particle with so few.
    """
    held_n = np.ones(bonds.n_particles, dtype=np.bool_)
    i_p, j_p = bonds.i_p[bonds.phi_kp[1] != 0.0], bonds.j_p[bonds.phi_kp[1] != 0.0]
    while True:
        alive_p = held_n[i_p] & held_n[j_p]
        contacts_n = np.bincount(i_p[alive_p], minlength=len(held_n)) + np.bincount(j_p[alive_p], minlength=len(held_n))
        loose_n = held_n & (contacts_n < _FEWEST_CONTACTS)
        if not loose_n.any():
            return ~held_n
        held_n &= ~loose_n


def modes_of_frame(
    glass: Glass,
    potential: PairPotential,
    k: int,
    *,
    frame: int = 0,
    as_is: bool = False,
    remove_rattlers: bool = False,
    force_tolerance: float = FORCE_TOLERANCE,
) -> FrameModes:
    """The k lowest modes of a glass, relaxed first where it is not at rest.

    Args:
        glass: the configuration.
        potential: its pair potential.
        k: number of modes, translations not counted.
        frame: index that the result carries.
        as_is: refuse a glass that is not at rest, instead of relaxing it.
        remove_rattlers: leave particles with fewer than four contacts out of the Hessian.
        force_tolerance: largest force of a glass at rest [energy / length].

    Raises:
        InputError: if the glass is not at rest and ``as_is``, or has fewer than k modes.
        ConvergenceError: if it cannot be relaxed, or the eigensolver fails.
    """
    rest, relaxation, found = _at_rest(glass, potential, as_is=as_is, force_tolerance=force_tolerance)
    moved = float(np.sqrt((glass.box.minimum_image(rest.positions - glass.positions) ** 2).sum(axis=1).max()))
    notes = [f"relaxed from max|F| = {found:.2g} ({relaxation}); a particle moved by {moved:.2g} at most"] if relaxation else []
    if relaxation.startswith("descent"):
        notes.append("no minimum close by: a liquid, or not the potential that made the file?")
    rattler_n = rattlers(bonds_of(rest, potential, 1))
    n_rattlers = int(rattler_n.sum())
    whole, kept_n = rest, np.ones(len(rattler_n), dtype=np.bool_)
    if n_rattlers and remove_rattlers:
        kept_n = ~rattler_n
        notes.append(f"{n_rattlers} rattlers removed; participation ratios count the other {kept_n.sum()} particles")
        if not kept_n.any():
            raise InputError("every particle is a rattler; expected a solid. Is it the potential of these particles?")
        rest = replace(rest, positions=rest.positions[kept_n], typeid=rest.typeid[kept_n])
        # A rattler may lean on the others within the tolerance.
        rest = _at_rest(rest, potential, as_is=False, force_tolerance=force_tolerance)[0]
        positions_nc = whole.positions.copy()
        positions_nc[kept_n] = rest.positions
        whole = whole.moved(positions_nc)
    elif n_rattlers:
        notes.append(f"{n_rattlers} rattlers, each with up to 3 zero modes; --remove-rattlers leaves them out")
    hessian = Hessian(potential, order=4, force_tolerance=force_tolerance).compute(rest)
    modes = LowestModes(k).compute(hessian)
    vectors_mnc = np.zeros((k, len(kept_n), 3))
    vectors_mnc[:, kept_n] = modes.vectors
    zero = _ZERO * hessian.bonds.largest_eigenvalue()
    negative_modes = int((modes.eigenvalues < -zero).sum())
    zero_modes = int((np.abs(modes.eigenvalues) <= zero).sum())
    if negative_modes:
        notes.append(
            f"a saddle: {negative_modes} of its {k} lowest eigenvalues are negative (kept; frequency = -sqrt(-lambda))"
        )
    if zero_modes:
        notes.append(f"{zero_modes} of its {k} lowest eigenvalues are zero to rounding")
    moduli, note = _moduli(hessian.bonds, potential)
    row = {
        "frame": frame,
        "strain": glass.strain,
        "n_particles": glass.n_particles,
        "relaxation": relaxation,
        "max_force_found": found,
        "max_displacement": moved,
        "rattlers": n_rattlers,
        "rattlers_removed": bool(n_rattlers and remove_rattlers),
        "negative_modes": negative_modes,
        "zero_modes": zero_modes,
    }
    return FrameModes(
        frame=frame,
        glass=whole,
        relaxation=relaxation,
        max_force_found=found,
        max_displacement=moved,
        rattlers=rattler_n,
        rattlers_removed=bool(n_rattlers and remove_rattlers),
        modes=modes,
        vectors=vectors_mnc,
        negative_modes=negative_modes,
        zero_modes=zero_modes,
        mode_rows=mode_rows(modes, hessian, glass.strain),
        row=row | moduli,
        notes=(*notes, *note),
    )


def _at_rest(glass: Glass, potential: PairPotential, *, as_is: bool, force_tolerance: float) -> tuple[Glass, str, float]:
    """The glass at rest, how it was brought there, and the largest force that it had."""
    mechanics = Mechanics(potential, glass.typeid)
    found = max_norm(mechanics.energy_forces(glass.positions, glass.box)[1])
    if not np.isfinite(found):
        raise InputError("forces are not finite; expected no two particles at the same place.")
    if found <= force_tolerance:
        return glass, "", found
    if as_is:
        raise InputError(
            f"max|F| = {found:.3g}; expected at most {force_tolerance:g} with --as-is (float32 positions alone leave about "
            "1e-4). Leave --as-is out to relax it, or raise --force-tolerance."
        )
    tolerance = 0.01 * force_tolerance
    try:
        rest, report = newton(mechanics, glass, tolerance=tolerance)
    except ConvergenceError:
        # No minimum close by: a liquid, say. Its inherent structure is where steepest descent leads.
        rest, report = descent(mechanics, glass, tolerance=tolerance)
    return rest, report.method, found


def _moduli(bonds: Bonds, potential: PairPotential) -> tuple[dict[str, Any], tuple[str, ...]]:
    row: dict[str, Any] = stress_row(bonds)
    try:
        moduli, withheld = moduli_row(bonds, potential)
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
    out: Path | None = None,
    view: int | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> FileModes:
    """Lowest modes of the frames of a GSD file, written by HOOMD-blue or anybody else.

    Args:
        path: the GSD file.
        potential: the pair potential of its particles.
        k: modes a frame.
        frames: which frames.
        types: the file's names of the potential's particle types 0, 1, ...; None for the potential's own names, or the order
            in the file where it has none.
        as_is: refuse frames that are not at rest, instead of relaxing them.
        remove_rattlers: leave particles with fewer than four contacts out of the Hessian.
        force_tolerance: largest force of a frame at rest [energy / length].
        ignore_diameters: take particles of one type that differ in diameter as one size, instead of refusing them.
        out: folder for ``modes.parquet``, ``moduli.parquet``, ``modes.gsd``; None writes nothing.
        view: mode of which to write a picture (PNG) and an interactive view (HTML), from the first frame.
        progress: takes one line for each frame.

    Raises:
        InputError: if the file is no three-dimensional glass of this potential, or products exist already; nothing is written.
        ConvergenceError: if no frame at all could be analysed.
    """
    if view is not None and not 0 <= view < k:
        raise InputError(f"--view {view}; expected one of the modes 0 to {k - 1} that --k asks for.")
    pictures = () if view is None else (f"mode-{view}.png", f"mode-{view}.html")
    files = () if out is None else tuple(out / name for name in ("modes.parquet", "moduli.parquet", "modes.gsd", *pictures))
    for file in files:
        if file.exists():
            raise InputError(f"{file} exists; expected a new folder (--out). Nothing is overwritten.")
    loader = FrameLoader(path, potential, types, ignore_diameters=ignore_diameters)
    chosen, notes = loader.check(frames, k)
    for note in notes:
        progress(note)
    if as_is:
        for index in chosen:
            with said_of(path, index):
                _at_rest(loader.load(index)[0], potential, as_is=True, force_tolerance=force_tolerance)
    provenance = {
        "source": path.name,
        "potential": potential.model_dump(mode="json"),
        "as_is": as_is,
        "remove_rattlers": remove_rattlers,
        "force_tolerance": force_tolerance,
        "versions": versions(),
    }
    mode_table: list[dict[str, Any]] = []
    moduli_table: list[dict[str, Any]] = []
    failures: dict[int, QlmError] = {}
    picture: ModeView | None = None
    with ExitStack() as stack:
        vectors: gsdio.ModeFile | None = None
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            vectors = stack.enter_context(gsdio.ModeFile(stack.enter_context(replacing(out / "modes.gsd")), provenance))
        for index in chosen:
            glass, source = loader.load(index)
            try:
                result = modes_of_frame(
                    glass, potential, k, frame=index, as_is=as_is,
                    remove_rattlers=remove_rattlers, force_tolerance=force_tolerance,
                )  # fmt: skip
            except QlmError as error:
                failures[index] = error
                progress(f"frame {index} failed: {error}")
                continue
            notes += [f"frame {index}: {note}" for note in result.notes]
            progress(f"frame {index}: {'; '.join(result.notes) or 'at rest'}")
            mode_table += [{"frame": index, "relaxed": bool(result.relaxation)} | row for row in result.mode_rows]
            moduli_table.append(result.row)
            if vectors is not None:
                for row, vector_nc in zip(result.mode_rows, result.vectors, strict=True):
                    scalars = {"frame": index, **{name: row[name] for name in MODE_SCALARS}}
                    vectors.append(result.glass, vector_nc, scalars, particles=source.particles, rattler_n=result.rattlers)
            if picture is None and view is not None:
                picture = _picture(result, potential, f"{path.name}, frame {index}")
        if not moduli_table:
            first, failure = next(iter(failures.items()))
            raise type(failure)(f"{path}, frame {first}: {failure}")
    analysis = FileModes(
        modes=pl.DataFrame(mode_table, schema_overrides={"frame": pl.Int32, "index": pl.Int32}, infer_schema_length=None),
        moduli=pl.DataFrame(moduli_table, schema=_FRAME_COLUMNS, orient="row"),
        failures={index: str(error) for index, error in failures.items()},
        notes=tuple(notes),
        files=files,
    )
    if out is not None:
        write_table(out / "modes.parquet", analysis.modes, provenance)
        write_table(out / "moduli.parquet", analysis.moduli, provenance)
        if picture is not None and view is not None:
            picture.write_png(out / f"mode-{view}.png", view)
            picture.write_html(out / f"mode-{view}.html", view)
    return analysis


def _picture(result: FrameModes, potential: PairPotential, title: str) -> ModeView:
    return ModeView(
        positions=result.glass.positions,
        diameters=potential.diameters()[result.glass.typeid],
        typeid=result.glass.typeid,
        box=result.glass.box,
        modes=result.vectors,
        frequencies=result.modes.frequencies,
        participation_ratios=result.modes.participation_ratios,
        title=title,
    )
