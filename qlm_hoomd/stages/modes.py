"""Stage ``modes``: what vibrates in a glass at chosen strains, how stiff the glass is, and which of its modes are soft spots."""

# Array names carry their axes: n particles, c Cartesian components.

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import polars as pl
from pydantic import BaseModel, Field

from qlm_hoomd import gsdio
from qlm_hoomd.anharmonic import EXPANSION_COLUMNS, AnharmonicModes
from qlm_hoomd.base.errors import InputError
from qlm_hoomd.base.files import read_table
from qlm_hoomd.base.settings import Later
from qlm_hoomd.elasticity import STATE_COLUMNS, moduli_row, stress_row
from qlm_hoomd.mechanics import Mechanics
from qlm_hoomd.modes import LowestModes, Solver
from qlm_hoomd.nonlinear import NONLINEAR_COLUMNS, CubicModes, NonlinearModes, PseudoHarmonicModes, QuarticModes
from qlm_hoomd.relaxed_path import relaxed_path
from qlm_hoomd.stages.base import Stage, StageContext
from qlm_hoomd.standing import standing

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from qlm_hoomd.glass import Glass
    from qlm_hoomd.hessian import Hessian
    from qlm_hoomd.model import GlassModel

_log = logging.getLogger(__name__)

_NONLINEAR: dict[str, type[NonlinearModes]] = {
    "pseudo_harmonic": PseudoHarmonicModes,
    "cubic": CubicModes,
    "quartic": QuarticModes,
}

_MODE_COLUMNS = {
    "strain": pl.Float64,
    "index": pl.Int32,
    "eigenvalue": pl.Float64,
    "frequency": pl.Float64,
    "participation_ratio": pl.Float64,
    "residual": pl.Float64,
    **{name: kind for name, kind in EXPANSION_COLUMNS.items() if name != "curvature"},
}
MODE_SCALARS = ("strain", "index", "eigenvalue", "frequency", "participation_ratio")
"""Columns of modes.parquet that the frame of a mode in modes.gsd has as well."""
_MODULI_COLUMNS = {
    "strain": pl.Float64,
    **dict.fromkeys(STATE_COLUMNS, pl.Float64),
    "strain_since_event": pl.Float64,
    "solver": pl.String,
    "completeness": pl.String,
}


_QLM_COLUMNS = {"strain": pl.Float64, **NONLINEAR_COLUMNS}
_PATH_COLUMNS = {"path_strain": pl.Float64, "path_fold": pl.Float64}


def mode_rows(modes: LowestModes, hessian: Hessian, strain: float) -> list[dict[str, Any]]:
    """One row for each mode: eigenpair, participation ratio, and the energy along it (:class:`~qlm_hoomd.anharmonic.ModeExpansion`).

    ``chi`` is U'''' along the frozen harmonic mode, ``chi_relaxed`` that with the rest of the glass following. phi'''' of the
    default potential (q = 3) jumps at the cut-off, so chi jumps when a pair crosses it. ``shear_coupling`` is Xi . psi with
    Xi = d2U/(dr dgamma). The curvature of the expansion is the eigenvalue.
    """
    expansions = AnharmonicModes().compute(hessian, modes.vectors)
    return [
        {
            "strain": strain,
            "index": index,
            "eigenvalue": float(modes.eigenvalues[index]),
            "frequency": float(modes.frequencies[index]),
            "participation_ratio": float(modes.participation_ratios[index]),
            "residual": float(modes.residuals[index]),
            **{name: value for name, value in expansion.row().items() if name != "curvature"},
        }
        for index, expansion in enumerate(expansions)
    ]


class ModesStage(Stage):
    """Lowest modes and elastic moduli of the glass at chosen strains."""

    growing: ClassVar[frozenset[str]] = frozenset({"strains", "count"})
    cost_power: ClassVar[float] = 1.15
    kind: Literal["modes"] = "modes"
    count: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=20, description="number of lowest modes, translations not counted"
    )
    strains: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] = Field(
        default=(0.0,),
        description="strains at which modes are computed; those other than 0 must be frames of the shear stage, and where "
        "its path passes one several times the first passage counts",
    )
    solver: Solver = Field(default="auto", description="eigensolver; auto chooses by size")
    check_completeness: Literal["never", "first", "always"] = Field(
        default="first",
        description="count the modes below the end of the window a second time (up to N = 4000 by the inertia of a sparse "
        "factor): in the first realisation of each size and preparation, never or always",
    )
    nonlinear: tuple[Literal["pseudo_harmonic", "cubic", "quartic"], ...] = Field(
        default=(),
        description="modes beyond the harmonic one to look for, free of hybridisation with phonons; they go to qlms.parquet",
    )
    random_starts: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=10, description="random starts of that search, beside the harmonic modes"
    )
    keep_vectors: bool = Field(default=False, description="write the mode vectors to modes.gsd (one frame a mode)")
    force_tolerance: Annotated[float, Field(gt=0)] = Field(
        default=1e-8, description="largest force of a glass at rest [energy/length]"
    )
    remove_rattlers: Annotated[bool, Later()] = Field(
        default=False,
        description="leave particles with fewer than four contacts out of the Hessian; else each has up to three zero modes",
    )
    paths: Annotated[bool, Later()] = Field(
        default=False,
        description="follow the glass over each of the modes of `nonlinear`; the strain at which it is to fail there goes to "
        "qlms.parquet, as path_strain by what is known at rest, as path_fold where the fold itself was found from there",
    )

    def check(self, model: GlassModel, n_particles: list[int]) -> None:
        """Refuse more modes than the smallest system has, and paths along none."""
        most = model.dimensions * (min(n_particles) - 1)
        if self.count > most:
            raise ValueError(f"count = {self.count}; expected at most {most}, the modes of N = {min(n_particles)}")
        if self.paths and not self.nonlinear:
            raise ValueError("paths = true without modes to follow; expected nonlinear: [cubic] beside it")

    def work(self, preparation: BaseModel) -> float:
        """Number of glasses whose modes are computed."""
        return float(len(self.strains))

    def shortened(self, strain: float) -> Self:
        """Modes up to that strain."""
        kept = tuple(each for each in self.strains if abs(each) <= strain)
        return self if kept == self.strains else self.model_copy(update={"strains": tuple(dict.fromkeys((*kept, strain)))})

    def check_after(self, before: Sequence[Stage]) -> None:
        """Refuse strains of which the stage that shears keeps no frame."""
        frames = next((getattr(stage, "frames", None) for stage in before if "sheared.gsd" in stage.products()), None)
        if frames is None:
            return
        missing = [strain for strain in self.strains if strain != 0.0 and strain not in frames]
        if missing:
            raise ValueError(
                f"strains = {missing} are no frames; expected 0 and some of the frames {list(frames)} of the shear"
            )

    def reaches(self, strain: float) -> bool:
        """See :meth:`Stage.reaches`."""
        return strain in self.strains

    def requires(self) -> tuple[str, ...]:
        """The quenched glass, and the sheared ones where a strain asks for them."""
        sheared = any(strain != 0.0 for strain in self.strains)
        return ("quenched.gsd", "sheared.gsd", "steps.parquet") if sheared else ("quenched.gsd",)

    def products(self) -> tuple[str, ...]:
        """Modes and moduli, and the vectors if they are kept."""
        vectors = ("modes.gsd",) if self.keep_vectors else ()
        qlms = ("qlms.parquet",) if self.nonlinear else ()
        return (*vectors, *qlms, "moduli.parquet", "modes.parquet")

    def run(self, context: StageContext) -> None:
        """Diagonalise the frames at the wanted strains."""
        frames = gsdio.read_glasses(context.path("quenched.gsd"))
        if "sheared.gsd" in self.requires():
            sheared = gsdio.read_glasses(context.path("sheared.gsd"))
            if sheared:
                # Another plane than xy is sheared with the axes of the sample exchanged: the quenched glass is seen the same
                # way.
                frames = [replace(frame, glass=frame.glass.turned(sheared[0].axes)) for frame in frames]
            frames += sheared
            self._check_frames(context, {frame.glass.strain for frame in frames})
        rows: list[dict[str, Any]] = []
        moduli: list[dict[str, Any]] = []
        qlms: list[pl.DataFrame] = []
        events = _travelled_to_events(context.path("events.parquet"))
        first = self.check_completeness == "first" and context.statepoint["realisation"] == 0
        pictures: list[tuple[Glass, NDArray[np.float64], dict[str, float]]] = []
        for frame in frames:
            glass = frame.glass
            if glass.strain not in self.strains or any(row["strain"] == glass.strain for row in moduli):
                continue
            context.progress(f"{self.count} lowest modes at strain {glass.strain:g}")
            what = standing(
                glass,
                context.engine.potential,
                remove_rattlers=self.remove_rattlers,
                force_tolerance=self.force_tolerance,
            )
            hessian = what.hessian
            if what.n_rattlers:
                _log.warning(
                    "strain %g: %d of %d particles are rattlers, %s.", glass.strain, what.n_rattlers, glass.n_particles,
                    "left out" if what.removed else "each with as many zero modes as there are dimensions among the lowest; remove_rattlers leaves "
                    "them out",
                )  # fmt: skip
            # Once is enough to know: the frames of a realisation differ little.
            check = self.check_completeness == "always" or (first and not moduli)
            modes = LowestModes(self.count, self.solver, check_completeness=check).compute(hessian)
            found = mode_rows(modes, hessian, glass.strain)
            rows += found
            qlms += [self._nonlinear(kind, context, hessian, modes, what.held) for kind in self.nonlinear]
            stiffness, withheld = moduli_row(hessian.bonds, context.engine.potential)
            if withheld:
                _log.warning("strain %g: %s.", glass.strain, withheld)
            label = {"solver": modes.solver_used, "completeness": modes.completeness}
            moduli.append(
                {"strain": glass.strain, "strain_since_event": _since_event(events, frame)}
                | label
                | stress_row(what.bonds)
                | stiffness
            )
            if self.keep_vectors:
                pictures += [
                    (what.glass, vector_nc, {name: row[name] for name in MODE_SCALARS})
                    for vector_nc, row in zip(what.embedded(modes.vectors), found, strict=True)
                ]
        if self.keep_vectors:
            with context.product("modes.gsd") as temporary, gsdio.ModeFile(temporary, context.provenance) as file:
                for glass, vector_nc, scalars in pictures:
                    file.append(glass, vector_nc, scalars, diameter_n=context.model.potential.drawn_diameters(glass))
        if self.nonlinear:
            columns = _QLM_COLUMNS | (_PATH_COLUMNS if self.paths else {})
            context.write_table("qlms.parquet", pl.concat([pl.DataFrame(schema=columns), *qlms]))
        context.write_table("moduli.parquet", pl.DataFrame(moduli, schema=_MODULI_COLUMNS, orient="row"))
        context.write_table("modes.parquet", pl.DataFrame(rows, schema=_MODE_COLUMNS, orient="row"))

    def _nonlinear(self, kind: str, context: StageContext, hessian: Hessian, modes: LowestModes, glass: Glass) -> pl.DataFrame:
        """The distinct nonlinear modes of one glass."""
        context.progress(f"{kind} modes at strain {glass.strain:g}")
        seed = int(context.rng(f"{self.kind}.{kind}").integers(2**32))
        found = _NONLINEAR[kind](random=self.random_starts, seed=seed).compute(hessian, modes)
        if found.n_unconverged:
            _log.warning(
                "strain %g: %d of %d starts of %s modes did not converge.",
                glass.strain,
                found.n_unconverged,
                len(found.attempts),
                kind,
            )
        table = found.table(glass).select(pl.lit(glass.strain).alias("strain"), pl.all())
        if not self.paths:
            return table
        mechanics = Mechanics(context.engine.potential, glass.typeid, sizes=glass.sizes)
        paths = [relaxed_path(mechanics, glass, vector_nc) for vector_nc in found.vectors]
        return table.with_columns(
            pl.Series("path_strain", [path.strain for path in paths], pl.Float64),
            pl.Series("path_fold", [path.fold_strain(mechanics) for path in paths], pl.Float64),
        )

    def _check_frames(self, context: StageContext, found: set[float]) -> None:
        # A run that was told to end at an instability may not have come as far; one that passed a strain has no excuse.
        passed = read_table(context.path("steps.parquet"))["strain"].to_numpy()
        missing = [strain for strain in self.strains if strain not in found and passed.min() <= strain <= passed.max()]
        if missing:
            raise InputError(f"no configuration at strains {missing}; expected them among the `frames` of the shear stage.")


def _travelled_to_events(path: Path) -> list[float] | None:
    """Strain travelled to each instability of the shear run; None where nobody recorded any."""
    if not path.exists():
        return None
    events = read_table(path)
    return events["travelled" if "travelled" in events.columns else "strain_c"].to_list()


def _since_event(events: list[float] | None, frame: gsdio.Frame) -> float | None:
    """Strain travelled since the last instability, or since the quench; None where it is unknown."""
    if frame.glass.strain == 0.0:
        return 0.0
    travelled = frame.log.get("travelled", frame.glass.strain)
    return None if events is None else travelled - max((event for event in events if event <= travelled), default=0.0)
