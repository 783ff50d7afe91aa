"""The lowest modes of a glass at rest, residuals below 1e-8 of the largest eigenvalue, against scipy, PRIMME and CHOLMOD.

Usage: python benchmarks/modes.py [N ...] [--modes 50] [--turns 3] [--cache DIR] [--peers NAME ...] [--cubic]
"""

# Array names carry their axes: d = 3N degrees of freedom, m modes, n particles, c Cartesian components.

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spl
from _common import LAW, command_line, ended, glass_of, introduce, note
from numpy.typing import NDArray

from qlm_hoomd import gsdio
from qlm_hoomd.base.provenance import versions
from qlm_hoomd.engines.cpu import CPUEngine
from qlm_hoomd.glass import Glass
from qlm_hoomd.hessian import Hessian
from qlm_hoomd.mechanics import Bonds
from qlm_hoomd.modes import LowestModes
from qlm_hoomd.nonlinear import CubicModes
from qlm_hoomd.numerics import eigensolvers

_RESIDUAL = 1e-8  # of the largest eigenvalue
_DEVIATION = 1e-8  # of an eigenvalue, relative
_SHIFT = 1e-3
_LARGEST_SUPERLU = 4000
_LARGEST_COMPARED = 16_000
_INCREMENT, _STATES = 1e-5, 5
_SMALL = 100
_RANDOM = 10

# Makes the modes of a Hessian: vectors ((3N, M) ndarray).
Solver = Callable[[Bonds, int], NDArray[np.float64]]


def _glass(n_particles: int, cache: Path) -> Glass:
    """A glass at rest.

    Beyond 16000 particles a periodic copy, shaken by 0.05 and relaxed: in the bare one every mode is eightfold.
    """
    if n_particles <= _LARGEST_COMPARED:
        return glass_of(n_particles, cache)
    path = cache / f"shaken_copy_N{n_particles}.gsd"
    if not path.exists():
        copied = glass_of(n_particles, cache)
        shake_nc = np.random.default_rng(n_particles).normal(scale=0.05, size=copied.positions.shape)
        engine = CPUEngine(LAW)
        glass = engine.descend(copied.moved(copied.box.wrap(copied.positions + shake_nc)))[0]
        gsdio.write_glasses(path, [(glass, engine.measure(glass))], {"versions": versions()})
    return gsdio.read_glass(path).glass


def _superlu(bonds: Bonds, k: int) -> NDArray[np.float64]:
    matrix = bonds.hessian().tocsc()
    start_d = np.random.default_rng(0).normal(size=matrix.shape[0])
    return np.asarray(spl.eigsh(matrix, k=k + 3, sigma=-_SHIFT, which="LM", v0=start_d)[1])


def _superlu_symmetric(bonds: Bonds, k: int) -> NDArray[np.float64]:
    return eigensolvers.by_factor(bonds, k)[0].reshape(k, -1).T


def _cholmod(bonds: Bonds, k: int) -> NDArray[np.float64]:
    from sksparse.cholmod import cholesky  # type: ignore[import-not-found,unused-ignore]

    matrix = bonds.hessian().tocsc()
    size = matrix.shape[0]
    factor = cholesky(sp.csc_matrix(matrix + _SHIFT * sp.eye_array(size, format="csc")))
    inverse = spl.LinearOperator((size, size), matvec=factor.solve_A, dtype=np.float64)
    start_d = np.random.default_rng(0).normal(size=size)
    return np.asarray(spl.eigsh(matrix, k=k + 3, sigma=-_SHIFT, which="LM", OPinv=inverse, v0=start_d)[1])


def _primme(bonds: Bonds, k: int) -> NDArray[np.float64]:
    import primme  # type: ignore[import-not-found,unused-ignore]

    size = 3 * bonds.n_particles
    translation_dc = np.tile(np.eye(3), (bonds.n_particles, 1)) / np.sqrt(bonds.n_particles)
    # Its own estimate of the residual is a little low. With our product, which is three to eight times as fast as the one of
    # scipy's sparse matrix.
    operator = spl.LinearOperator((size, size), matvec=lambda x_d: bonds.product(x_d.reshape(-1, 3)).ravel(), dtype=np.float64)
    return np.asarray(primme.eigsh(operator, k=k, which="SA", tol=0.8 * _RESIDUAL, lock=translation_dc)[1])


_PEERS: dict[str, tuple[Solver, int]] = {
    "scipy-superlu": (_superlu, _LARGEST_SUPERLU),
    "scipy-superlu-symmetric": (_superlu_symmetric, _LARGEST_SUPERLU),
    "primme": (_primme, _LARGEST_COMPARED),
    "cholmod": (_cholmod, _LARGEST_COMPARED),
}


def _seconds(run: Callable[[], object], turns: int) -> tuple[float, object]:
    """Smallest processor time of some turns, and the last answer."""
    least, answer = np.inf, None
    for _ in range(turns):
        start = time.process_time()
        answer = run()
        least = min(least, time.process_time() - start)
    return least, answer


def _checked(bonds: Bonds, vector_dm: NDArray[np.float64], k: int) -> tuple[NDArray[np.float64], float]:
    """A peer's eigenvalues without the three of translations, and its largest residual over the largest eigenvalue."""
    vector_mnc = np.ascontiguousarray(vector_dm.T).reshape(vector_dm.shape[1], -1, 3)
    product_mnc = np.stack([bonds.product(vector_nc) for vector_nc in vector_mnc])
    value_m = np.einsum("mnc,mnc->m", vector_mnc, product_mnc)
    residual_m = np.linalg.norm((product_mnc - value_m[:, None, None] * vector_mnc).reshape(len(value_m), -1), axis=1)
    own = np.sort(np.argsort(np.abs(vector_mnc.mean(axis=1)).max(axis=1), kind="stable")[:k])
    return np.sort(value_m[own]), float(residual_m.max() / bonds.largest_eigenvalue())


def _line(benchmark: str, n_particles: int, ours_s: float, peer: str, peer_s: float, agree: float) -> None:
    numbers = {"ours_s": float(f"{ours_s:.4g}"), "peer": peer, "peer_s": float(f"{peer_s:.4g}")}
    ratio = {"ratio": float(f"{peer_s / ours_s:.3g}"), "agree": float(f"{agree:.2g}")}
    print(json.dumps({"benchmark": benchmark, "n_particles": n_particles, **numbers, **ratio}), flush=True)


def _cold(hessian: Hessian, k: int, turns: int, names: list[str]) -> bool:
    bonds = hessian.bonds
    ours_s, modes = _seconds(lambda: LowestModes(k).compute(hessian), turns)
    assert isinstance(modes, LowestModes)
    note(f"\nmodes, N = {bonds.n_particles}, k = {k}: processor seconds{'residual':>25}{'agree':>10}")
    own_residual = modes.residuals.max() / bonds.largest_eigenvalue()
    note(f"{'qlm_hoomd (' + modes.solver_used + ', ' + modes.completeness + ')':40}{ours_s:10.3f}{own_residual:14.1e}")
    best: tuple[float, str, float] | None = None
    agreed = bool(own_residual <= _RESIDUAL)
    for name in names:
        solver, largest = _PEERS[name]
        if bonds.n_particles > largest:
            continue
        try:
            peer_s, vector_dm = _seconds(lambda solver=solver: solver(bonds, k), 1)  # type: ignore[misc]
        except Exception as error:  # whatever a foreign library raises, the other rows are wanted
            note(f"peer {name} does not run here: {type(error).__name__}: {error}")
            continue
        value_m, residual = _checked(bonds, np.asarray(vector_dm), k)
        deviation = float(np.abs(value_m / modes.eigenvalues - 1.0).max())
        note(f"{name:40}{peer_s:10.3f}{residual:14.1e}{deviation:10.1e}{'' if residual <= _RESIDUAL else '  not converged'}")
        if residual > _RESIDUAL:
            continue
        agreed &= deviation <= _DEVIATION
        if best is None or peer_s < best[0]:
            best = peer_s, name, deviation
    if best is not None:
        _line("modes", bonds.n_particles, ours_s, best[1], best[0], best[2])
    return agreed


def _warm(glass: Glass, k: int, turns: int) -> bool:
    engine, states = CPUEngine(LAW), [glass]
    for _ in range(_STATES - 1):
        states.append(engine.relax(states[-1].sheared(_INCREMENT))[0])
    hessians = [Hessian(LAW).compute(state) for state in states]
    former = [LowestModes(k).compute(hessian) for hessian in hessians[:-1]]
    cold_s, cold = _seconds(lambda: LowestModes(k).compute(hessians[-1]), turns)
    warm_s, warm = _seconds(lambda: LowestModes(k).compute(hessians[-1], start=former), turns)
    assert isinstance(cold, LowestModes)
    assert isinstance(warm, LowestModes)
    deviation = float(np.abs(warm.eigenvalues / cold.eigenvalues - 1.0).max())
    note(f"{_STATES - 1} former states, strain {_INCREMENT:g} apart ({warm.solver_used}){warm_s:10.3f} s, cold {cold_s:.3f} s")
    _line("modes_warm_start", glass.n_particles, warm_s, "cold start", cold_s, deviation)
    return deviation <= _DEVIATION and warm.solver_used == "warm start"


def _cubic(glass: Glass, k: int) -> None:
    """The cubic modes from k harmonic ones and ten random starts, as the stage ``modes`` looks for them: there is no peer."""
    hessian = Hessian(LAW, order=4).compute(glass)
    harmonic_s, harmonic = _seconds(lambda: LowestModes(k).compute(hessian), 1)
    assert isinstance(harmonic, LowestModes)
    ours_s, cubic = _seconds(lambda: CubicModes(random=_RANDOM).compute(hessian, harmonic), 1)
    assert isinstance(cubic, CubicModes)
    steps = sum(attempt.iterations for attempt in cubic.attempts)
    found = f"{len(cubic)} modes, {cubic.n_unconverged} of {len(cubic.attempts)} starts lost, {steps} steps"
    note(f"cubic modes, N = {glass.n_particles}: {ours_s:.3f} s, {found}; the {k} harmonic ones {harmonic_s:.3f} s")
    row = {"benchmark": "modes_cubic", "n_particles": glass.n_particles, "ours_s": float(f"{ours_s:.4g}")}
    print(json.dumps({**row, "starts": len(cubic.attempts), "steps": steps, "modes": len(cubic)}), flush=True)


def _alone(n_particles: int, k: int, cache: Path) -> None:
    """One cold run in a process that did nothing else: processor seconds and peak memory of the process."""
    # Compiled before anything is timed.
    LowestModes(5, "filter").compute(Hessian(LAW).compute(glass_of(_SMALL, cache)))
    hessian = Hessian(LAW).compute(_glass(n_particles, cache))
    seconds, _ = _seconds(lambda: LowestModes(k).compute(hessian), 1)
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    row = {"benchmark": "modes_memory", "n_particles": n_particles, "ours_s": float(f"{seconds:.4g}")}
    print(json.dumps({**row, "peak_memory_gb": float(f"{gigabytes:.3g}")}), flush=True)


def main() -> bool:
    """Run the benchmark; whether all answers agree."""
    parser = command_line(__doc__ or "", (2000, 4000, 16000, 64000), turns=3)
    parser.add_argument("--modes", type=int, default=50, metavar="K", help="number of modes (default: %(default)s)")
    parser.add_argument("--peers", nargs="*", choices=list(_PEERS), default=list(_PEERS), help="who takes part (default: all)")
    parser.add_argument("--cubic", action="store_true", help="only the cubic modes, from as many harmonic ones")
    parser.add_argument("--alone", action="store_true", help="only one cold run of ours: time and peak memory of the process")
    options = parser.parse_args()
    if options.turns < 1 or options.modes < 1:
        parser.error("--turns and --modes; expected at least 1.")
    if options.alone:
        for n_particles in options.sizes:
            _alone(n_particles, options.modes, options.cache)
        return True
    if options.cubic:
        # Compiled before anything is timed.
        small = Hessian(LAW, order=4).compute(glass_of(_SMALL, options.cache))
        CubicModes(random=1).compute(small, LowestModes(5, "filter").compute(small))
        for n_particles in options.sizes:
            _cubic(_glass(n_particles, options.cache), options.modes)
        return True
    introduce(("primme", "scikit-sparse"))
    # First of all, since a child's peak memory begins at what its parent has when it is started.
    for n_particles in options.sizes:
        alone = [str(n_particles), "--alone", "--modes", str(options.modes), "--cache", str(options.cache)]
        subprocess.run([sys.executable, __file__, *alone], check=True)  # noqa: S603  (ourselves)
    # Compiled before anything is timed, here too.
    LowestModes(5, "filter").compute(Hessian(LAW).compute(glass_of(_SMALL, options.cache)))
    agreed = True
    for n_particles in options.sizes:
        if n_particles <= _LARGEST_COMPARED:
            glass = _glass(n_particles, options.cache)
            agreed &= _cold(Hessian(LAW).compute(glass), options.modes, options.turns, options.peers)
            agreed &= _warm(glass, options.modes, options.turns)
    return agreed


if __name__ == "__main__":
    sys.exit(ended(main))
