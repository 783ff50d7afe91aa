"""Stage ``prepare``: random start, equilibration, quench, minimum."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field

from qlm_hoomd import gsdio
from qlm_hoomd.base.errors import InputError
from qlm_hoomd.box import Box
from qlm_hoomd.engines.base import DynamicsReport, DynamicsState
from qlm_hoomd.glass import Glass
from qlm_hoomd.preparation import Preparation, check_that_it_rests, equilibrate, quench, random_start
from qlm_hoomd.stages.base import Stage, StageContext

if TYPE_CHECKING:
    from qlm_hoomd.base.checkpoint import Waypoint
    from qlm_hoomd.model import GlassModel


@dataclass(frozen=True)
class _Progress:
    """How far a preparation is: in the equilibration that began at ``start``, or, once that is over, in the cooling."""

    start: Glass
    equilibration: DynamicsReport | None
    dynamics: DynamicsState


class PrepareStage(Stage):
    """Prepare the glass: random start, equilibration at T0, quench, minimum."""

    cost_power: ClassVar[float] = 1.0
    kind: Literal["prepare"] = "prepare"
    tolerance: Annotated[float, Field(ge=1e-11, le=1e-6)] = Field(
        default=1e-10, description="largest force left in the glass [energy/length]"
    )

    def work(self, preparation: BaseModel) -> float:
        """Time of the dynamics [t_c]."""
        assert isinstance(preparation, Preparation)
        cooling = (1.0 - preparation.final_temperature) / preparation.cooling_rate if preparation.quench == "slow" else 0.0
        return preparation.equilibration_time + cooling

    def check(self, model: GlassModel, n_particles: list[int]) -> None:
        """Refuse a glass that never comes to rest."""
        try:
            check_that_it_rests(model)
        except InputError as error:
            raise ValueError(str(error)) from None

    def reaches(self, strain: float) -> bool:
        """The quenched glass alone."""
        return strain == 0.0

    def requires(self) -> tuple[str, ...]:
        """Nothing: it is the first stage."""
        return ()

    def products(self) -> tuple[str, ...]:
        """The glass, and how it came to be."""
        return ("prepare.json", "quenched.gsd")

    def run(self, context: StageContext) -> None:
        """Prepare one glass; see :func:`quench`."""
        settings = context.preparation
        assert isinstance(settings, Preparation)
        rng = context.rng(self.kind)
        saved: _Progress | None = context.checkpoint.load(_Progress, Glass, Box, DynamicsReport, DynamicsState)

        def waypoint_of(start: Glass, equilibration: DynamicsReport | None) -> Waypoint:
            return lambda dynamics: context.checkpoint.waypoint(lambda: _Progress(start, equilibration, dynamics()))

        resume = None if saved is None else saved.dynamics
        if saved is not None and saved.equilibration is not None:
            liquid, equilibration = saved.start, saved.equilibration
        else:
            context.progress(f"equilibrating at T0 = {context.model.T0:g}")
            start = random_start(context.model, context.n_particles, rng) if saved is None else saved.start
            liquid, equilibration = equilibrate(
                context.engine, start, context.model, settings, rng, resume=resume, waypoint=waypoint_of(start, None)
            )
            resume = None
        context.progress(f"{settings.quench} quench")
        quenched, cooling, minimisation = quench(
            context.engine,
            liquid,
            context.model,
            settings,
            rng,
            tolerance=self.tolerance,
            resume=resume,
            waypoint=waypoint_of(liquid, equilibration),
        )
        observables = context.engine.measure(quenched)
        reports: dict[str, Any] = {
            "equilibration": asdict(equilibration),
            "cooling": asdict(cooling) if cooling else None,
            "minimisation": asdict(minimisation),
            "glass": asdict(observables),
            "provenance": context.provenance,
        }
        with context.product("prepare.json") as temporary:
            temporary.write_text(json.dumps(reports, indent=1, sort_keys=True) + "\n")
        gsdio.write_glasses(
            context.path("quenched.gsd"),
            [(quenched, observables)],
            context.provenance,
            diameters=context.model.potential.diameters(),
        )
