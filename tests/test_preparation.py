"""Random start, equilibration, both quenches, and the stage that strings them together."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from pydantic import ValidationError

from qlm_hoomd import gsdio
from qlm_hoomd.base.interrupt import Interrupted
from qlm_hoomd.engines.cpu import CPUEngine, CPUEngineSettings
from qlm_hoomd.errors import ConvergenceError, InputError, ProtocolError
from qlm_hoomd.mechanics import Mechanics, bonds_of
from qlm_hoomd.minimize import descent
from qlm_hoomd.model import GlassModel, Preparation
from qlm_hoomd.potentials import Harmonic, InversePowerLaw, KobAndersen, PairPotential
from qlm_hoomd.preparation import equilibrate, quench, random_start
from qlm_hoomd.protocol import build_protocol
from qlm_hoomd.stages import StageContext
from qlm_hoomd.stages.prepare import PrepareStage
from qlm_hoomd.testing.checkpoints import StoppingCheckpoint

if TYPE_CHECKING:
    from pathlib import Path

    from qlm_hoomd.glass import Glass

QUICK = Preparation(quench="rapid", equilibration_time=0.5)
# A hundred times faster than the paper's slow quench: 9 t_c of cooling.
QUICK_SLOW = Preparation(quench="slow", equilibration_time=0.5, cooling_rate=0.1)


@pytest.fixture
def engine(model: GlassModel) -> CPUEngine:
    return CPUEngineSettings().build(model)


@pytest.fixture
def context(tmp_path: Path, model: GlassModel, engine: CPUEngine) -> StageContext:
    return StageContext(
        directory=tmp_path,
        statepoint={"n_particles": 120, "preparation": "quick", "realisation": 3, "seed": 7, "protocol_hash": "0" * 16},
        model=model,
        preparation=QUICK,
        engine=engine,
        provenance={"protocol_hash": "0" * 16},
        progress=lambda _: None,
    )


@pytest.mark.parametrize("n_particles", [82, 500, 2001])
def test_random_start_is_no_worse_than_a_liquid(n_particles: int, model: GlassModel) -> None:
    start = random_start(model, n_particles, np.random.default_rng(n_particles))
    bonds = bonds_of(start, model.potential)
    assert np.linalg.norm(bonds.forces, axis=1).max() < 100.0
    assert start.n_particles / start.box.volume == pytest.approx(model.density)
    assert np.bincount(start.typeid).tolist() in (
        [n_particles // 2, n_particles - n_particles // 2],
        [(n_particles + 1) // 2, n_particles // 2],
    )
    assert start.strain == 0.0
    # Types are mixed, positions fill the box.
    assert len(np.unique(start.typeid[: n_particles // 2])) == 2
    assert np.abs(start.positions.mean(axis=0)).max() < 0.15 * start.box.length


def test_random_start_is_the_generator_s(model: GlassModel) -> None:
    starts = [random_start(model, 100, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert starts[0].positions.tobytes() == starts[1].positions.tobytes()
    assert starts[0].positions.tobytes() != starts[2].positions.tobytes()


def test_too_few_particles_are_refused(model: GlassModel) -> None:
    with pytest.raises(InputError, match=r"N = 81; expected at least 82, so that the box holds twice the cut-off 2\.07"):
        random_start(model, 81, np.random.default_rng(0))


@pytest.mark.parametrize(
    "changes", [{"density": 0.4}, {"density": 1.3}, {"density": 2.0}, {"potential": {"epsilon": 10.0}}], ids=str
)
def test_random_start_of_other_models(changes: dict[str, object]) -> None:
    """Softer, denser, stiffer: the steps adapt."""
    model = GlassModel.model_validate(changes)
    start = random_start(model, 2 * model.smallest_system(), np.random.default_rng(0))
    assert np.linalg.norm(bonds_of(start, model.potential).forces, axis=1).max() < 100.0


def test_random_start_parts_particles_on_one_spot(model: GlassModel) -> None:
    class OneSpot(np.random.Generator):
        def random(self, size: tuple[int, int]) -> np.ndarray:  # type: ignore[override]
            positions_nc = super().random(size)
            positions_nc[1] = positions_nc[0]
            return positions_nc

    start = random_start(model, 100, OneSpot(np.random.PCG64(0)))
    assert np.linalg.norm(bonds_of(start, model.potential).forces, axis=1).max() < 100.0


def test_equilibration_is_at_the_parent_temperature(model: GlassModel, engine: CPUEngine) -> None:
    hot = model.model_copy(update={"T0": 1.3})
    settings = Preparation(quench="rapid", equilibration_time=8.0)
    rng = np.random.default_rng(1)
    liquid, report = equilibrate(engine, random_start(hot, 200, rng), hot, settings, rng)
    assert report.n_steps == 1600
    assert report.temperature == pytest.approx(1.3, rel=0.08)
    assert liquid.n_particles == 200


def test_rapid_quench_is_the_descent_of_the_liquid(model: GlassModel, engine: CPUEngine, small_liquid: Glass) -> None:
    glass, cooling, report = quench(engine, small_liquid, model, QUICK, np.random.default_rng(0))
    assert cooling is None
    assert glass.positions.tobytes() == engine.descend(small_liquid)[0].positions.tobytes()
    assert report.max_force < 1e-10


def test_slow_quench_cools_on_a_line_first(model: GlassModel, small_liquid: Glass) -> None:
    # At a hundred times the paper's rate the liquid lags behind the thermostat, unless that is strong.
    engine = CPUEngineSettings(tau=0.01).build(model)
    glass, cooling, report = quench(engine, small_liquid, model, QUICK_SLOW, np.random.default_rng(0))
    assert cooling is not None
    # From T0 to 0.1 T0 at 0.1 T0 / t_c: 9 t_c.
    assert cooling.n_steps == round(9.0 / 0.005)
    # The second half of the ramp runs from 0.55 to 0.1.
    assert cooling.temperature == pytest.approx(0.325, abs=0.03)
    assert report.max_force < 1e-10
    assert engine.measure(glass).max_force < 2e-10


def test_rate_and_temperatures_scale_with_the_parent_temperature(small_liquid: Glass) -> None:
    cold = GlassModel(T0=0.5)
    engine = CPUEngineSettings(tau=0.01).build(cold)
    _, cooling, _ = quench(engine, small_liquid, cold, QUICK_SLOW, np.random.default_rng(0))
    assert cooling is not None
    assert cooling.n_steps == round(9.0 / 0.005)
    assert cooling.temperature == pytest.approx(0.5 * 0.325, abs=0.03)


def test_defaults_are_the_paper_s() -> None:
    paper = Preparation(quench="slow")
    assert (paper.cooling_rate, paper.final_temperature) == (1e-3, 0.1)
    for wrong in ({"final_temperature": 1.0}, {"cooling_rate": 0.0}, {"equilibration_time": -1.0}, {"speed": 1}):
        with pytest.raises(ValidationError):
            Preparation.model_validate({"quench": "slow"} | wrong)


def test_stage_writes_a_glass_at_rest_and_how_it_came_to_be(context: StageContext, engine: CPUEngine) -> None:
    stage = PrepareStage()
    assert stage.requires() == ()
    stage.run(context)
    assert sorted(entry.name for entry in context.directory.iterdir()) == sorted(stage.products())
    frame = gsdio.read_glass(context.path("quenched.gsd"))
    assert frame.exact
    assert frame.glass.n_particles == 120
    assert frame.glass.strain == 0.0
    assert frame.glass.provenance == {"protocol_hash": "0" * 16}
    assert engine.measure(frame.glass).max_force < 2e-10
    report = json.loads(context.path("prepare.json").read_text())
    assert report["equilibration"]["n_steps"] == 100
    assert report["cooling"] is None
    assert report["minimisation"]["criterion"] == "max_force < 1e-10"
    assert report["glass"]["energy"] == frame.log["energy"]
    assert report["provenance"]["protocol_hash"] == "0" * 16


def test_stage_gives_the_same_bytes_again(context: StageContext, model: GlassModel, tmp_path: Path) -> None:
    def products(directory: Path, **changes: object) -> list[bytes]:
        directory.mkdir()
        fresh = CPUEngineSettings().build(model)
        PrepareStage().run(replace(context, directory=directory, engine=fresh, **changes))  # type: ignore[arg-type]
        return [(directory / name).read_bytes() for name in PrepareStage().products()]

    first = products(tmp_path / "first")
    assert products(tmp_path / "second") == first
    other = products(tmp_path / "third", statepoint={**context.statepoint, "realisation": 4})
    assert all(one != another for one, another in zip(first, other, strict=True))


@pytest.mark.parametrize("settings", [QUICK, QUICK_SLOW.model_copy(update={"cooling_rate": 0.5})], ids=["rapid", "slow"])
def test_interrupted_anywhere_it_ends_in_the_same_bytes(
    settings: Preparation, context: StageContext, model: GlassModel, tmp_path: Path
) -> None:
    """Stopped at every second waypoint, each time gone on with by a new engine, from the file."""

    def attempt(directory: Path, stop_at: int) -> StoppingCheckpoint:
        directory.mkdir(exist_ok=True)
        checkpoint = StoppingCheckpoint(directory / ".prepare.checkpoint", stop_at)
        fresh = CPUEngineSettings().build(model)
        PrepareStage().run(replace(context, directory=directory, preparation=settings, engine=fresh, checkpoint=checkpoint))
        return checkpoint

    n_waypoints = attempt(tmp_path / "quiet", 0).passed
    assert n_waypoints >= 4
    n_stops = 0
    while True:
        try:
            attempt(tmp_path / "disturbed", 2)
            break
        except Interrupted:
            n_stops += 1
    assert n_stops == n_waypoints // 2
    for name in PrepareStage().products():
        assert (tmp_path / "disturbed" / name).read_bytes() == (tmp_path / "quiet" / name).read_bytes()


def test_tolerance_is_passed_on(context: StageContext) -> None:
    PrepareStage(tolerance=1e-7).run(context)
    report = json.loads(context.path("prepare.json").read_text())
    assert report["minimisation"]["criterion"] == "max_force < 1e-07"


REPELS = InversePowerLaw(n=10, q=0, x_c=1.48, lengths=((1.0, 1.18), (1.18, 1.4)))


def test_a_minimum_lies_where_a_repulsive_force_jumps() -> None:
    """A third particle pushes one of a pair against the other: between the two sides of the cut-off no place has no force."""
    potential = InversePowerLaw(n=10, q=0, x_c=1.48, lengths=((1.0,),))
    energy_x = [potential.derivatives(np.array([r * r]), np.zeros(1, dtype=np.uint8), 0)[0, 0] for r in (1.45, 1.48, 1.51)]
    assert energy_x[0] - energy_x[1] > 0.0 == energy_x[2]  # convex: it falls, and then no more
    push = 0.5 * (energy_x[0] - energy_x[1]) / 0.03
    total_x = [energy + push * r for energy, r in zip(energy_x, (1.45, 1.48, 1.51), strict=True)]
    assert total_x[1] < min(total_x[0], total_x[2])


@pytest.mark.parametrize(
    ("potential", "repels"),
    [(REPELS, True), (REPELS.model_copy(update={"q": 1}), False), (KobAndersen(q=0), False), (KobAndersen(q=2), False),
     (Harmonic(sigma=((1.0, 1.2), (1.2, 1.4))), False), (GlassModel().potential, False)],
)  # fmt: skip
def test_glasses_that_never_come_to_rest_are_refused(potential: PairPotential, repels: bool) -> None:
    assert potential.repels_up_to_cutoff() == repels
    model = GlassModel(potential=potential)
    settings = {"name": "t", "seed": 1, "model": {"potential": potential.model_dump()}, "stages": ["prepare"]}
    settings["ensemble"] = {"n_particles": [1000], "preparations": ["rapid"], "realisations": 1}
    if not repels:
        build_protocol(settings)
        return
    liquid = random_start(model, 100, np.random.default_rng(1))
    with pytest.raises(InputError, match=r"never comes to rest. Expected .* \(q: 1 or more\)"):
        quench(CPUEngine(potential), liquid, model, "rapid", np.random.default_rng(1))
    with pytest.raises(ProtocolError, match="repulsive up to the cut-off and ends there in a jump"):
        build_protocol(settings)


def test_what_is_refused_does_not_come_to_rest() -> None:
    model = GlassModel(potential=REPELS)
    rng = np.random.default_rng(1)
    liquid, _ = equilibrate(
        CPUEngine(REPELS), random_start(model, 100, rng), model, Preparation(quench="rapid", equilibration_time=1.0), rng
    )
    with pytest.raises(ConvergenceError):
        descent(Mechanics(REPELS, liquid.typeid), liquid, max_steps=2000)
