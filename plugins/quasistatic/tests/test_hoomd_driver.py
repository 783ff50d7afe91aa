"""The driver on the user's own HOOMD simulation, against the CPU engine and against HOOMD's bytes."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import gsd.hoomd
import numpy as np
import pytest
from qlm_quasistatic import Instability, ShearState, Stepper
from qlm_quasistatic.strains import StrainGrid

from qlm_hoomd import gsdio
from qlm_hoomd.box import Box
from qlm_hoomd.engines.cpu import CPUEngine, CPUEngineSettings
from qlm_hoomd.errors import ConvergenceError, InputError
from qlm_hoomd.glass import Glass
from qlm_hoomd.model import GlassModel
from qlm_hoomd.potentials import InversePowerLaw as PaperLaw
from qlm_hoomd.preparation import random_start

hoomd = pytest.importorskip("hoomd")
pytest.importorskip("qlm_rewind")

# They need HOOMD-blue.
from qlm_quasistatic.hoomd import AthermalQuasistatic, ShearRate  # noqa: E402
from qlm_rewind import FoldDetector, ThresholdDetector  # noqa: E402

from qlm_hoomd.engines.hoomd import snapshot_of  # noqa: E402
from qlm_hoomd.pair import InversePowerLaw, mie_terms  # noqa: E402

pytestmark = pytest.mark.hoomd
hears_ctrl_c = pytest.mark.skipif(
    signal.getsignal(signal.SIGINT) == signal.SIG_IGN,
    reason="this process was born deaf to Ctrl-C, as jobs in the background of a script are",
)


@pytest.fixture(scope="module")
def small(model: GlassModel) -> Glass:
    """A rapidly quenched glass of 200 particles; its first instability is at strain 0.0455."""
    engine, rng = CPUEngineSettings().build(model), np.random.default_rng(1)
    liquid, _ = engine.run(random_start(model, 200, rng), duration=5.0, temperature=model.T0, rng=rng)
    return engine.descend(liquid)[0]


def _simulation(glass: Glass, **changes: Any) -> Any:
    simulation = hoomd.Simulation(device=hoomd.device.CPU(), seed=1)
    snapshot = snapshot_of(glass)
    for name, value in changes.items():
        getattr(snapshot.particles, name)[:] = value
    simulation.create_state_from_snapshot(snapshot)
    simulation.operations.tuners.clear()
    return simulation


def _force(model: GlassModel, backend: str = "auto") -> InversePowerLaw:
    return InversePowerLaw.from_potential(model.potential, hoomd.md.nlist.Cell(buffer=0.12), backend=backend)


def _driver(model: GlassModel, glass: Glass, **settings: Any) -> tuple[Any, AthermalQuasistatic]:
    simulation = _simulation(glass)
    return simulation, AthermalQuasistatic(simulation, [_force(model)], **{"increment": 1e-3} | settings)


def _bytes(simulation: Any) -> tuple[bytes, ...]:
    snapshot = simulation.state.get_snapshot()
    particles = snapshot.particles
    box = np.array(snapshot.configuration.box)
    return tuple(array.tobytes() for array in (particles.position, particles.image, particles.velocity, particles.typeid, box))


def _unwrapped(simulation: Any) -> np.ndarray:
    snapshot = simulation.state.get_snapshot()
    box = Box.from_gsd(snapshot.configuration.box)
    return np.asarray(snapshot.particles.position + snapshot.particles.image @ box.matrix)


class _Record(hoomd.custom.Action):
    """What a writer of the user's finds when the trigger fires."""

    def __init__(self, simulation: Any, shear: AthermalQuasistatic) -> None:
        super().__init__()
        self.simulation, self.shear = simulation, shear
        self.seen: list[tuple[float, bytes, float]] = []

    def act(self, timestep: int) -> None:
        positions = self.simulation.state.get_snapshot().particles.position
        energy = self.simulation.operations.integrator.forces[0].energy
        self.seen.append((self.shear.strain, positions.tobytes(), energy))


def _recorded(simulation: Any, shear: AthermalQuasistatic) -> _Record:
    record = _Record(simulation, shear)
    simulation.operations.writers.append(hoomd.write.CustomWriter(action=record, trigger=shear.on_accept))
    return record


@pytest.fixture(scope="module")
def on_cpu(model: GlassModel, small: Glass) -> tuple[list[ShearState], list[Instability]]:
    """The same way with the CPU engine."""
    stepper = Stepper(CPUEngine(model.potential))
    states, events = [stepper.start(small)], []
    for item in ThresholdDetector().follow(stepper, states[0], StrainGrid(1e-3, 0.05)):
        if isinstance(item, Instability):
            events.append(item)
        else:
            states.append(item.after)
    return states, events


def test_the_same_stress_and_the_same_instability_as_the_cpu_engine(
    model: GlassModel, small: Glass, on_cpu: tuple[list[ShearState], list[Instability]], tmp_path: Path
) -> None:
    """And what HOOMD's writer made of it reads back without loss."""
    states, (event,) = on_cpu
    simulation, shear = _driver(model, small, detector=ThresholdDetector())
    logger = hoomd.logging.Logger(categories=["scalar", "sequence", "particle"])
    logger.add(shear, quantities=["strain", "stress_xy", "energy", "max_force", "q", "increment", "position", "box"])
    path = tmp_path / "aqs.gsd"
    writer = hoomd.write.GSD(trigger=shear.on_accept, filename=str(path), mode="xb", logger=logger)
    simulation.operations.writers.append(writer)
    record = _recorded(simulation, shear)
    shear.run(strain=0.05)
    writer.flush()

    assert shear.events.height == 1
    assert shear.events["gamma_min"][0] == pytest.approx(event.strain_c, abs=1e-6)
    assert shear.events["stress_drop"][0] > 0.01
    assert shear.events["detector"][0] == "threshold"
    frames = gsdio.read_glasses(path)
    assert [frame.glass.strain for frame in frames] == [state.strain for state in states]
    for frame, state in zip(frames, states, strict=True):
        if state.strain < event.strain_c:
            assert frame.log["stress_xy"] == pytest.approx(state.observables.stress_xy, abs=1e-8)
            assert np.abs(frame.glass.nonaffine_displacement(state.glass)).max() < 1e-7

    # Each frame is a minimum to the last bit, and what HOOMD had when the trigger fired.
    cpu = CPUEngine(model.potential)
    assert len(frames) == len(record.seen)
    for frame, (strain, positions, energy) in zip(frames, record.seen, strict=True):
        assert frame.exact
        assert frame.glass.strain == strain
        assert frame.glass.positions.tobytes() == positions
        assert frame.log["energy"] == pytest.approx(energy / 200, rel=1e-13)
        assert cpu.measure(frame.glass).max_force < 2e-10
    log = gsd.hoomd.read_log(str(path), scalar_only=True)
    assert log["log/qlm/strain"].tolist() == [strain for strain, _, _ in record.seen]
    assert log["log/qlm/q"][0] == 0.0
    assert log["log/qlm/q"].max() > 100.0
    assert log["log/qlm/increment"].min(initial=1.0, where=log["log/qlm/increment"] > 0) == pytest.approx(1e-6, rel=1e-6)


@pytest.mark.parametrize("backend", ["component", "mie"])
def test_both_exact_pair_forces_give_the_same_branch(
    model: GlassModel, small: Glass, on_cpu: tuple[list[ShearState], list[Instability]], backend: str
) -> None:
    try:
        force = _force(model, backend)
    except InputError as error:
        pytest.skip(str(error))
    shear = AthermalQuasistatic(_simulation(small), [force], increment=1e-3)
    shear.run(strain=0.003)
    assert shear.stress_xy == pytest.approx(on_cpu[0][3].observables.stress_xy, abs=1e-8)
    assert shear.strain == 0.003
    assert shear.events.is_empty()


def test_with_the_particle_sorter_too(
    model: GlassModel, small: Glass, on_cpu: tuple[list[ShearState], list[Instability]]
) -> None:
    """Which HOOMD has at work in every simulation: it permutes the particles every 200 time steps."""
    simulation = _simulation(small)
    simulation.operations.tuners.append(hoomd.tune.ParticleSorter())
    shear = AthermalQuasistatic(simulation, [_force(model)], increment=1e-3)
    shear.run(strain=0.004)
    assert shear.stress_xy == pytest.approx(on_cpu[0][4].observables.stress_xy, abs=1e-8)
    assert np.abs(shear.checkpoint.state.glass.nonaffine_displacement(on_cpu[0][4].glass)).max() < 1e-7


def test_a_run_goes_on_from_a_frame(model: GlassModel, small: Glass, tmp_path: Path) -> None:
    simulation, shear = _driver(model, small)
    logger = hoomd.logging.Logger(categories=["scalar", "sequence", "particle"])
    logger.add(shear)
    writer = hoomd.write.GSD(trigger=shear.on_accept, filename=str(tmp_path / "aqs.gsd"), mode="xb", logger=logger)
    simulation.operations.writers.append(writer)
    shear.run(strain=0.003)
    writer.flush()
    frame = gsdio.read_glass(tmp_path / "aqs.gsd")
    shear.run(strain=0.005)
    _, again = _driver(model, frame.glass, strain=frame.glass.strain)
    again.run(strain=0.005)
    assert again.strain == shear.strain == 0.005
    assert again.stress_xy == pytest.approx(shear.stress_xy, abs=1e-9)


def test_save_shear_restore_gives_identical_bytes(model: GlassModel, small: Glass) -> None:
    simulation, shear = _driver(model, small)
    simulation.state.set_snapshot(_with_images(simulation))
    shear.run(strain=0.005)
    saved, here = shear.checkpoint, _bytes(simulation)
    shear.run(strain=0.06)
    there = _bytes(simulation)
    assert there != here
    shear.restore(saved)
    assert _bytes(simulation) == here
    shear.run(strain=0.06)
    assert _bytes(simulation) == there


def test_down_is_up_in_the_mirror(
    model: GlassModel, small: Glass, on_cpu: tuple[list[ShearState], list[Instability]], tmp_path: Path
) -> None:
    """The mirror image sheared down goes where the glass goes when it is sheared up; and the simulation is never mirrored."""
    states, (event,) = on_cpu
    simulation, shear = _driver(model, small.mirrored(), detector=ThresholdDetector())
    logger = hoomd.logging.Logger(categories=["scalar", "sequence", "particle"])
    logger.add(shear)
    path = tmp_path / "aqs.gsd"
    writer = hoomd.write.GSD(trigger=shear.on_accept, filename=str(path), mode="xb", logger=logger)
    simulation.operations.writers.append(writer)
    record = _recorded(simulation, shear)
    shear.run(strain=-0.03)
    shear.run(strain=-0.05)
    writer.flush()
    row = shear.events.row(0, named=True)
    assert row["strain_c"] == pytest.approx(-event.strain_c, abs=1e-6)
    assert row["strain_before"] > row["strain_c"] > row["strain_after"]
    # Both runs are one leg.
    assert row["gamma_min"] == row["travelled"] == pytest.approx(event.strain_c, abs=1e-6)
    assert row["stress_drop"] > 0.01
    frames = gsdio.read_glasses(path)
    assert [frame.glass.strain for frame in frames] == [strain for strain, _, _ in record.seen]
    assert [-frame.glass.strain for frame in frames[:40]] == [state.strain for state in states[:40]]
    for frame, state, (_, positions, _) in zip(frames[:40], states[:40], record.seen[:40], strict=True):
        assert frame.glass.positions.tobytes() == positions
        assert frame.log["stress_xy"] == pytest.approx(-state.observables.stress_xy, abs=1e-8)
        assert frame.log["travelled"] == pytest.approx(state.strain, abs=1e-12)
        assert np.abs(frame.glass.mirrored().nonaffine_displacement(state.glass)).max() < 1e-7
        assert frame.log["increment"] <= 0.0


def test_to_and_fro(model: GlassModel, small: Glass) -> None:
    """Back along an elastic branch the states are the same; a turn starts gamma_min anew; checkpoints know their events."""
    simulation, shear = _driver(model, small, detector=ThresholdDetector(min_increment=1e-4))
    simulation.state.set_snapshot(_with_images(simulation))
    shear.run(strain=0.01)
    there, energy = _unwrapped(simulation), shear.energy
    shear.run(strain=0.02)
    shear.run(strain=0.01)
    assert shear.travelled == pytest.approx(0.03)
    assert shear.energy == pytest.approx(energy, rel=1e-12)
    moved_nc = _unwrapped(simulation) - there
    assert np.abs(moved_nc - moved_nc.mean(axis=0)).max() < 1e-7
    shear.run(strain=0.05)
    assert shear.events.height == 1
    assert shear.events["gamma_min"][0] == pytest.approx(shear.events["strain_c"][0] - 0.01)
    assert shear.events["travelled"][0] == pytest.approx(0.03 + shear.events["gamma_min"][0])
    fallen, beyond = shear.checkpoint, _bytes(simulation)
    shear.run(strain=-0.01)
    # The glass has yielded: it does not come back to what it was.
    assert abs(shear.energy - energy) > 1e-4
    shear.restore(fallen)
    assert shear.events.height == 1
    assert _bytes(simulation) == beyond


def test_how_the_sample_falls_is_the_users_choice(model: GlassModel, small: Glass) -> None:
    falls = [_driver(model, small, increment=0.002, **choice)[1] for choice in ({}, {"after_event": "fire"})]
    for shear in falls:
        shear.run(strain=0.05)
    cpu = Stepper(CPUEngine(model.potential))
    state = cpu.start(small)
    for count in range(1, 26):
        state = cpu.step(state, 0.002 * count).after
    # The default is the overdamped path, that of the CPU engine.
    assert falls[0].energy == pytest.approx(state.observables.energy, rel=1e-10)
    with pytest.raises(InputError, match="after_event = 'newton'"):
        _driver(model, small, after_event="newton")
    others = [_force(model), hoomd.md.force.Constant(filter=hoomd.filter.All())]
    with pytest.raises(InputError, match="Use after_event='fire'"):
        AthermalQuasistatic(_simulation(small), others, after_event="descent")


def test_hoomds_own_forces_are_sheared_as_ours(model: GlassModel, small: Glass) -> None:
    """The paper's law as a sum of Mie potentials of the user's own: fold, fall and directions, with nothing typed twice."""
    potential = model.potential
    assert isinstance(potential, PaperLaw)
    others = []
    for term in mie_terms(potential):
        force = hoomd.md.pair.Mie(hoomd.md.nlist.Cell(buffer=0.12), mode="shift")
        for types, sigma in zip((("A", "A"), ("A", "B"), ("B", "B")), (1.0, 1.18, 1.4), strict=True):
            force.params[types] = {"n": term.n, "m": term.m, "epsilon": term.epsilon, "sigma": term.sigma * sigma}
            force.r_cut[types] = potential.x_c * sigma
        others.append(force)
    drivers = [_driver(model, small, detector=FoldDetector())[1]]
    drivers.append(AthermalQuasistatic(_simulation(small), others, detector=FoldDetector()))
    tried = [shear.first_instabilities(["+xy", "-xy"])["gamma_min"].to_numpy() for shear in drivers]
    np.testing.assert_allclose(tried[1], tried[0], rtol=1e-8)
    for shear in drivers:
        shear.run(strain=0.05)
    one, other = (shear.events for shear in drivers)
    assert one.height > 0
    np.testing.assert_allclose(other["strain_c"], one["strain_c"], rtol=1e-8)
    np.testing.assert_allclose(other["kappa"], one["kappa"], rtol=1e-4)
    assert drivers[1].energy == pytest.approx(drivers[0].energy, rel=1e-10)


def test_a_box_tilted_in_another_plane_is_refused(model: GlassModel, small: Glass) -> None:
    simulation = _simulation(small)
    simulation.state.set_box([small.box.length] * 3 + [0.0, 0.1, 0.0])
    with pytest.raises(InputError, match="exchange the axes of the sample"):
        AthermalQuasistatic(simulation, [_force(model)])


def test_restore_forgets_the_instabilities_beyond(model: GlassModel, small: Glass) -> None:
    _, shear = _driver(model, small, increment=0.01)
    shear.run(strain=0.01)
    saved = shear.checkpoint
    detecting = _driver(model, small, detector=ThresholdDetector(min_increment=1e-4), increment=1e-3)[1]
    detecting.run(strain=0.05)
    assert detecting.events.height == 1
    detecting.restore(saved)
    assert detecting.events.is_empty()
    assert detecting.strain == 0.01


def _with_images(simulation: Any) -> Any:
    snapshot = simulation.state.get_snapshot()
    snapshot.particles.image[:] = np.random.default_rng(2).integers(-3, 4, size=snapshot.particles.image.shape)
    return snapshot


def test_a_flip_of_the_box_changes_nothing(model: GlassModel, small: Glass) -> None:
    """The energy of one lattice in two boxes; and image flags count on across the flip."""
    near, _ = CPUEngine(model.potential).relax(small.at_strain(0.4995))
    # The last step before and the first after the flip at 1/2.
    simulation, shear = _driver(model, near, increment=2e-4, strain=0.4995)
    simulation.state.set_snapshot(_with_images(simulation))
    shear.relax()
    shear.run(strain=0.5)
    before_nc, before = _unwrapped(simulation), shear.checkpoint.state
    assert simulation.state.box.xy == 0.5
    flipped = Glass(before.glass.positions, small.typeid, Box(small.box.length, -0.5), 0.5)
    there = AthermalQuasistatic(_simulation(flipped), [_force(model)], strain=0.5)
    there.run(strain=0.5)
    assert there.energy == pytest.approx(shear.energy, rel=1e-12)
    assert there.stress_xy == pytest.approx(shear.stress_xy, abs=1e-12)

    shear.run(strain=0.5002)
    assert simulation.state.box.xy == pytest.approx(-0.4998)
    after_nc = _unwrapped(simulation)
    flowed_nc = before_nc.copy()
    flowed_nc[:, 0] += (shear.strain - 0.5) * before_nc[:, 1]
    moved_nc = after_nc - flowed_nc
    assert np.abs(moved_nc).max() < 0.1
    assert shear.q < 100.0


@hears_ctrl_c
def test_an_interrupt_leaves_the_last_accepted_state_and_the_run_goes_on(model: GlassModel, small: Glass) -> None:
    class Interrupt(hoomd.custom.Action):
        calls = 0

        def act(self, timestep: int) -> None:
            self.calls += len(record.seen) == 5
            if self.calls == 100:
                signal.raise_signal(signal.SIGINT)

    straight = _driver(model, small, detector=ThresholdDetector())
    straight[1].run(strain=0.01)
    simulation, shear = _driver(model, small, detector=ThresholdDetector())
    simulation.operations.writers.append(hoomd.write.CustomWriter(action=Interrupt(), trigger=hoomd.trigger.Periodic(1)))
    record = _recorded(simulation, shear)
    with pytest.raises(KeyboardInterrupt):
        shear.run(strain=0.01)
    assert shear.strain == 0.004
    assert simulation.state.get_snapshot().particles.position.tobytes() == shear.position.tobytes() == record.seen[-1][1]
    shear.run(strain=0.01)
    assert _bytes(simulation) == _bytes(straight[0])
    strains = [strain for strain, _, _ in record.seen]
    assert strains == sorted(set(strains)) == [0.0, *(count / 1000 for count in range(1, 11))]


@hears_ctrl_c
def test_an_interrupt_while_a_state_is_written_takes_it_back(model: GlassModel, small: Glass) -> None:
    simulation, shear = _driver(model, small)
    seen: list[float] = []

    class Interrupt(hoomd.custom.Action):
        def act(self, timestep: int) -> None:
            seen.append(shear.strain)
            if len(seen) == 3:
                signal.raise_signal(signal.SIGINT)

    simulation.operations.writers.append(hoomd.write.CustomWriter(action=Interrupt(), trigger=shear.on_accept))
    with pytest.raises(KeyboardInterrupt):
        shear.run(strain=0.003)
    assert shear.strain == 0.001
    assert simulation.state.get_snapshot().particles.position.tobytes() == shear.position.tobytes()
    shear.run(strain=0.003)
    assert seen == [0.0, 0.001, 0.002, 0.002, 0.003]


def test_a_state_that_the_user_changed_is_taken_as_it_is(model: GlassModel, small: Glass) -> None:
    simulation, shear = _driver(model, small, detector=ThresholdDetector(min_increment=1e-4))
    shear.run(strain=0.05)
    assert shear.events.height == 1
    snapshot = simulation.state.get_snapshot()
    snapshot.particles.position[0] += 1e-3
    simulation.state.set_snapshot(snapshot)
    with pytest.raises(InputError, match=r"max\|F\| = .* Call relax\(\) of this driver first"):
        shear.run(strain=0.06)
    report = shear.relax()
    assert report.max_force < 1e-10
    assert shear.strain == 0.05
    assert shear.events.is_empty()
    record = _recorded(simulation, shear)
    shear.run(strain=0.051)
    assert [strain for strain, _, _ in record.seen] == [0.05, 0.051]
    shear.run(strain=0.051)
    assert len(record.seen) == 2


def test_a_relaxation_that_fails_leaves_the_simulation_as_it_was(model: GlassModel, small: Glass) -> None:
    simulation, shear = _driver(model, small, tolerance=1e-30)
    simulation.state.set_snapshot(_with_images(simulation))
    here = _bytes(simulation)
    with pytest.raises(ConvergenceError, match=r"stopped at max\|F\|"):
        shear.relax()
    assert _bytes(simulation) == here


def test_two_dimensions_are_sheared_alike(model: GlassModel) -> None:
    """The driver's states and its first instability are those of the embedded engine, all in the plane, across a flip too."""
    flat = GlassModel(dimensions=2, density=0.86)
    cpu, rng = CPUEngine(model.potential), np.random.default_rng(4)
    glass = cpu.descend(cpu.run(random_start(flat, 200, rng), duration=2.0, temperature=1.0, rng=rng)[0])[0]
    stepper = Stepper(cpu)
    found = FoldDetector().first(stepper, stepper.start(glass), StrainGrid(1e-3, 0.2))
    assert found is not None
    simulation, shear = _driver(model, glass, detector=FoldDetector())
    shear.relax()
    shear.run(strain=found[0] + 2e-3)
    assert shear.events["strain_c"][0] == pytest.approx(found[0], abs=1e-9)
    assert simulation.state.box.is2D
    assert not shear.position[:, 2].any()
    simulation, shear = _driver(model, cpu.relax(glass.at_strain(0.4995))[0], strain=0.4995)
    before_nc = _unwrapped(simulation)
    shear.relax()
    shear.run(strain=0.501)
    assert simulation.state.box.xy == pytest.approx(-0.499)
    assert np.abs(_unwrapped(simulation) - before_nc)[:, 1].max() < 1.0


def test_nothing_to_log_before_the_first_run(model: GlassModel, small: Glass) -> None:
    _, shear = _driver(model, small)
    with pytest.raises(hoomd.error.DataAccessError, match="stress_xy"):
        _ = shear.stress_xy
    assert "strain=0 " in repr(shear)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"increment": 0.0}, "increment = 0.0; expected a positive number"),
        ({"tolerance": float("nan")}, "tolerance = nan; expected a positive number"),
        ({"fire_dt": 0.1}, r"fire_dt = 0.1: Input should be less than 0.059"),
        ({"strain": 0.3}, r"strain = 0.3 and box tilt xy = 0; expected them equal modulo 1"),
    ],
)
def test_bad_numbers(model: GlassModel, small: Glass, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        _driver(model, small, **settings)


def test_bad_simulations(model: GlassModel, small: Glass, monkeypatch: pytest.MonkeyPatch) -> None:
    force = _force(model)
    with pytest.raises(InputError, match="has no state"):
        AthermalQuasistatic(hoomd.Simulation(hoomd.device.CPU()), [force])
    with pytest.raises(InputError, match="masses from 1 to 2; expected 1"):
        AthermalQuasistatic(_simulation(small, mass=1.0 + (np.arange(200) == 7)), [force])
    oblong = _simulation(small)
    oblong.state.set_box([small.box.length, small.box.length, small.box.length + 1.0, 0, 0, 0])
    with pytest.raises(InputError, match="expected a three-dimensional cube under xy shear"):
        AthermalQuasistatic(oblong, [force])
    with pytest.raises(InputError, match="expected at least one pair force"):
        AthermalQuasistatic(_simulation(small), [])
    with pytest.raises(InputError, match="expected at least one pair force"):
        AthermalQuasistatic(_simulation(small), [hoomd.md.force.Constant(filter=hoomd.filter.All())])
    # This build knows no MPI; the number is all that the driver asks for.
    monkeypatch.setattr(hoomd.communicator.Communicator, "num_ranks", 2)
    with pytest.raises(InputError, match="2 MPI ranks; expected one"):
        AthermalQuasistatic(_simulation(small), [force])


def test_forces_of_another_integrator_are_not_taken_away(model: GlassModel, small: Glass) -> None:
    simulation, force = _simulation(small), _force(model)
    integrator = hoomd.md.Integrator(dt=0.005, forces=[force])
    simulation.operations.integrator = integrator
    with pytest.raises(InputError, match=r"integrator\.forces\.clear\(\)"):
        AthermalQuasistatic(simulation, [force])
    integrator.forces.clear()
    shear = AthermalQuasistatic(simulation, [force], increment=1e-3)
    shear.run(strain=0.001)
    with pytest.raises(InputError, match=r"integrator\.forces\.clear\(\)"):
        AthermalQuasistatic(_simulation(small), [force])
    other = _force(model)
    simulation.operations.integrator = hoomd.md.Integrator(dt=0.005, forces=[other])
    with pytest.raises(InputError, match="forces that are not the driver's"):
        shear.run(strain=0.002)


def test_bad_strains_and_checkpoints(model: GlassModel, small: Glass) -> None:
    _, shear = _driver(model, small)
    shear.run(strain=0.001)
    for strain in (float("nan"), float("inf")):
        with pytest.raises(InputError, match="expected a finite number"):
            shear.run(strain=strain)
    assert shear.strain == 0.001
    _, other = _driver(model, Glass(small.positions, small.typeid[::-1], small.box))
    with pytest.raises(InputError, match="has other particles"):
        other.restore(shear.checkpoint)


def test_finite_rate_shear_is_affine_and_flips(model: GlassModel, small: Glass) -> None:
    """Without a method of integration only the flow moves particles, so that the energy is known."""
    simulation, force, shear = _simulation(small), _force(model), ShearRate(rate=2.0)
    simulation.state.set_snapshot(_with_images(simulation))
    simulation.operations.integrator = hoomd.md.Integrator(dt=0.005, forces=[force])
    simulation.operations.updaters.append(hoomd.update.CustomUpdater(trigger=hoomd.trigger.Periodic(4), action=shear))
    start_nc, cpu = _unwrapped(simulation), CPUEngine(model.potential)
    for _ in range(20):
        simulation.run(4)
        simulation.run(1)
        simulation.run(3)
        # The last call was at the beginning of a step four before the present one.
        assert shear.strain == pytest.approx(2.0 * 0.005 * (simulation.timestep - 4), abs=1e-12)
        expected = cpu.measure(small.at_strain(shear.strain)).energy
        assert force.energy / 200 == pytest.approx(expected, rel=1e-12)
        flowed_nc = start_nc.copy()
        flowed_nc[:, 0] += shear.strain * start_nc[:, 1]
        np.testing.assert_allclose(_unwrapped(simulation), flowed_nc, atol=1e-10)
        assert abs(simulation.state.box.xy) <= 0.5
    assert shear.strain > 1.5


def test_finite_rate_shear_rebuilds_neighbour_lists(model: GlassModel, small: Glass) -> None:
    """Also where no particle moves far enough for HOOMD to notice."""
    simulation, force = _simulation(small), _force(model)
    simulation.operations.integrator = hoomd.md.Integrator(dt=0.005, forces=[force])
    action = ShearRate(rate=1e-6)
    simulation.operations.updaters.append(hoomd.update.CustomUpdater(trigger=hoomd.trigger.Periodic(4), action=action))
    simulation.run(40)
    assert force.nlist.num_builds >= 10


def test_finite_rate_shear_of_a_glass_in_a_thermostat(model: GlassModel, small: Glass) -> None:
    simulation, force, shear = _simulation(small), _force(model), ShearRate(rate=0.02)
    everything = hoomd.filter.All()
    method = hoomd.md.methods.ConstantVolume(everything, thermostat=hoomd.md.methods.thermostats.Bussi(kT=0.1, tau=0.5))
    simulation.operations.integrator = hoomd.md.Integrator(dt=0.005, methods=[method], forces=[force])
    simulation.operations.updaters.append(hoomd.update.CustomUpdater(trigger=hoomd.trigger.Periodic(5), action=shear))
    simulation.state.thermalize_particle_momenta(filter=everything, kT=0.1)
    thermodynamics = hoomd.md.compute.ThermodynamicQuantities(everything)
    simulation.operations.computes.append(thermodynamics)
    simulation.run(6001)
    assert shear.strain == pytest.approx(0.6, abs=1e-12)
    assert simulation.state.box.xy == pytest.approx(-0.4, abs=1e-12)
    assert thermodynamics.kinetic_temperature == pytest.approx(0.1, abs=0.05)
    # The flow holds the glass above its minimum by about 3/2 kT, and by what yielding leaves behind.
    assert CPUEngine(model.potential).measure(small).energy < force.energy / 200 < 7.0


def test_bad_finite_rate_shear(model: GlassModel, small: Glass) -> None:
    with pytest.raises(InputError, match="rate = inf"):
        ShearRate(rate=float("inf"))
    simulation = _simulation(small)
    simulation.operations.updaters.append(hoomd.update.CustomUpdater(trigger=1, action=ShearRate(rate=0.1)))
    with pytest.raises(InputError, match="no integrator with a time step"):
        simulation.run(1)
    oblong = _simulation(small)
    oblong.state.set_box([small.box.length, small.box.length, small.box.length + 1.0, 0, 0, 0])
    oblong.operations.integrator = hoomd.md.Integrator(dt=0.005, forces=[_force(model)])
    oblong.operations.updaters.append(hoomd.update.CustomUpdater(trigger=1, action=ShearRate(rate=0.1)))
    with pytest.raises(InputError, match="expected a three-dimensional cube"):
        oblong.run(1)


def test_the_example_runs_as_it_stands(tmp_path: Path) -> None:
    example = Path(__file__).parents[3] / "docs" / "tutorials" / "06_your_own_hoomd_script.py"
    done = subprocess.run(
        [sys.executable, str(example)], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "eigenvalues [" in done.stdout
    assert "fold" in done.stdout
    frames = gsdio.read_glasses(tmp_path / "aqs.gsd")
    assert all(frame.exact for frame in frames)
    assert frames[-1].glass.strain == 0.06


def test_readme_examples_run(model: GlassModel, small: Glass, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both scripts of the README, one after the other on one simulation, with coarser and fewer steps."""
    driven, rate = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[1] / "README.md").read_text(), re.DOTALL)
    small_form = driven.replace("increment=1e-4", "increment=1e-3").replace("=0.1)", "=0.002)").replace("=-0.1)", "=-0.001)")
    assert small_form.count("0.002") == small_form.count("-0.001") == 1
    monkeypatch.chdir(tmp_path)
    simulation = _simulation(small)
    names: dict[str, Any] = {
        "hoomd": hoomd, "qlm_quasistatic": sys.modules["qlm_quasistatic"], "simulation": simulation, "ipl": _force(model),
        "ThresholdDetector": ThresholdDetector,
    }  # fmt: skip
    exec(compile(small_form, "README.md", "exec"), names)
    assert names["shear"].strain == -0.001
    simulation.operations.writers[0].flush()
    assert gsdio.read_glass(Path("aqs.gsd")).glass.strain == -0.001
    exec(compile(rate, "README.md", "exec"), names)
    assert names["rate"] in [updater.action for updater in simulation.operations.updaters]


def test_refuses_at_construction_what_the_detector_cannot_work_with(small: Glass) -> None:
    """Before anything runs, and with the remedy."""
    simulation = _simulation(small)
    for unknown in (hoomd.md.pair.DPD(hoomd.md.nlist.Cell(buffer=0.12), kT=1.0, default_r_cut=1.5), _tail_corrected()):
        with pytest.raises(InputError, match=r"detector fold needs the Hessian.*detector threshold"):
            AthermalQuasistatic(simulation, [unknown], detector=FoldDetector())
    with pytest.raises(InputError, match=r"Hessian of HOOMDPotential jumps at the cut-off.*threshold"):
        AthermalQuasistatic(simulation, [_lennard_jones()], detector=FoldDetector())
    rough = InversePowerLaw(hoomd.md.nlist.Cell(buffer=0.12), smooth=1)
    for types, sigma in {("A", "A"): 1.0, ("A", "B"): 1.18, ("B", "B"): 1.4}.items():
        rough.params[types] = {"epsilon": 1.0, "sigma": sigma}
    with pytest.raises(InputError, match=r"Hessian of InversePowerLaw jumps at the cut-off.*threshold"):
        AthermalQuasistatic(simulation, [rough], detector=FoldDetector())
    AthermalQuasistatic(simulation, [rough], detector=ThresholdDetector())


def _tail_corrected() -> Any:
    return hoomd.md.pair.LJ(hoomd.md.nlist.Cell(buffer=0.12), default_r_cut=1.5, tail_correction=True)


def _lennard_jones(r_cut: float = 2.5) -> Any:
    force = hoomd.md.pair.LJ(
        nlist=hoomd.md.nlist.Cell(buffer=0.12), default_r_cut=r_cut, mode="xplor", default_r_on=0.8 * r_cut
    )
    for types, sigma in {("A", "A"): 1.0, ("A", "B"): 1.1, ("B", "B"): 1.2}.items():
        force.params[types] = {"epsilon": 1.0, "sigma": sigma}
    return force


def test_says_first_that_the_box_is_too_small(small: Glass) -> None:
    with pytest.raises(
        InputError, match=r"faces of the box are 6\.\d+ apart and the longest cut-off is 4.*least twice their sum, 8\.24"
    ):
        AthermalQuasistatic(_simulation(small), [_lennard_jones(4.0)])


def test_any_forces_are_relaxed_from_outside_any_basin(small: Glass) -> None:
    """What HOOMD-blue alone knows falls as FIRE leads."""
    shear = AthermalQuasistatic(_simulation(small), [_lennard_jones()], increment=1e-3, detector=ThresholdDetector())
    report = shear.relax()
    assert report.left_basin
    assert shear.max_force < 1e-10
    shear.run(strain=0.002)
    assert shear.strain == 0.002


def test_a_strain_beyond_one_is_asked_about(model: GlassModel, small: Glass) -> None:
    _, shear = _driver(model, small)
    with pytest.raises(InputError, match=r"strain = 10, .*0\.1 is 10 %.*allow_large_strain=True"):
        shear.run(strain=10)
    with pytest.raises(TypeError, match="positional"):
        shear.run(0.1)  # type: ignore[misc]


def test_the_strain_of_a_gsd_file_reads_as_it_was_written(model: GlassModel, small: Glass, tmp_path: Path) -> None:
    """GSD keeps the tilt in single precision, as 0.009999999776."""
    glass, _ = CPUEngine(model.potential).relax(small.at_strain(0.01))
    written = _simulation(glass)
    hoomd.write.GSD.write(state=written.state, filename=str(tmp_path / "glass.gsd"), mode="wb")
    assert gsdio.read_glass(tmp_path / "glass.gsd").glass.strain == 0.01
    simulation = hoomd.Simulation(device=hoomd.device.CPU(), seed=1)
    simulation.create_state_from_gsd(str(tmp_path / "glass.gsd"))
    shear = AthermalQuasistatic(simulation, [_force(model)], increment=1e-3)
    shear.relax()
    assert shear.strain == 0.01
    shear.run(strain=0.011)
    assert shear.strain == 0.011
