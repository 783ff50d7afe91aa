"""Lowest vibrational modes of a glass: eigenpairs of the Hessian with residuals, translations deflated, filtered by size."""

# Array names carry their axes: m modes, n particles, c Cartesian components.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from qlm_hoomd.base.display import Computation, counted, span
from qlm_hoomd.base.errors import ConvergenceError, InputError, NotComputedError
from qlm_hoomd.numerics import eigensolvers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from qlm_hoomd.hessian import Hessian
    from qlm_hoomd.mechanics import Bonds

Solver = Literal["auto", "dense", "factor", "filter"]
# Where LAPACK is as quick as the filter.
_LARGEST_DENSE = 150
# Up to this many particles a sparse factor, whose pivots count the eigenvalues, takes seconds; beyond it grows too fast.
_LARGEST_INERTIA = 4000
# Residual |H psi - lambda psi| over the largest eigenvalue beyond which a pair is no eigenpair.
_RESIDUAL_TOLERANCE = 1e-8


def participation_ratio(modes_mnc: NDArray[np.float64]) -> NDArray[np.float64]:
    """((M,) ndarray) e = 1 / (N sum_j |psi_j|^4) for normalised modes ((M, N, 3) ndarray): 1 / N for one particle, 1 for all.

    Source: the paper, section III (after Mizuno, Shiba, Ikeda, PNAS 114, E9767 (2017)), with sum_j |psi_j|^2 = 1.

    Examples:
        A translation moves all particles alike:

        >>> participation_ratio(np.ones((1, 4, 3)))
        array([1.])
    """
    square_mn = np.einsum("mnc,mnc->mn", modes_mnc, modes_mnc)
    norm_m = square_mn.sum(axis=1)
    return np.asarray(norm_m**2 / (square_mn.shape[1] * (square_mn**2).sum(axis=1)))


class LowestModes(Computation):
    """The k lowest eigenpairs of a Hessian, uniform translations left out.

    Args:
        k: number of modes.
        solver: "filter" (block Lanczos on a Chebyshev polynomial of the Hessian; memory grows as N), "factor" (scipy's
            shift-invert Lanczos with a sparse factor), "dense" (LAPACK) or "auto" ("dense" for small systems and large k).
        check_completeness: count the eigenvalues below the end of the window in another way than the solver: up to 4000
            particles by Sylvester's law of inertia, beyond with a fresh block of random vectors.

    After :meth:`compute`:

    * ``eigenvalues`` ((M,) ndarray [energy / length^2]), ascending, negative at a saddle;
    * ``frequencies`` ((M,) ndarray [1 / t_c]), negative for negative eigenvalues;
    * ``vectors`` ((M, N, 3) ndarray, orthonormal);
    * ``residuals`` ((M,) ndarray [energy / length^2]), at most 1e-8 of the largest eigenvalue;
    * ``participation_ratios`` ((M,) ndarray);
    * ``solver_used``: "dense", "factor", "filter" or "warm start";
    * ``completeness``: how it was made sure that no mode was missed. "all" (LAPACK finds every eigenvalue), "inertia"
      (counted), "random block" (a fresh block of random vectors showed no further mode; the filter always does that), "none".

    Examples:
        >>> modes = LowestModes(k=5)
        >>> hasattr(modes, "frequencies")
        False
    """

    eigenvalues: NDArray[np.float64]
    frequencies: NDArray[np.float64]
    vectors: NDArray[np.float64]
    residuals: NDArray[np.float64]
    participation_ratios: NDArray[np.float64]
    solver_used: str
    completeness: str

    def __init__(self, k: int = 20, solver: Solver = "auto", *, check_completeness: bool = False) -> None:
        if k < 1:
            raise InputError(f"k = {k}; expected at least one mode.")
        if solver not in get_args(Solver):
            raise InputError(f"solver = {solver!r}; expected one of {', '.join(get_args(Solver))}.")
        self.k = k
        self.solver = solver
        self.check_completeness = check_completeness

    def _settings(self) -> Mapping[str, Any]:
        return {"k": self.k, "solver": self.solver, "check_completeness": self.check_completeness}

    def _headline(self) -> str:
        if not hasattr(self, "frequencies"):
            return ""
        return f"{counted(len(self.frequencies), 'mode')}, frequencies {span(self.frequencies)}"

    def _facts(self) -> Mapping[str, Any]:
        found = vars(self)
        results = {name: found[name] for name in LowestModes.__annotations__ if name in found}
        return {**self._settings(), **{n: span(v) if np.ndim(v) == 1 else v for n, v in results.items()}}

    def compute(self, hessian: Hessian, *, start: Sequence[LowestModes] = ()) -> LowestModes:
        """Find the modes.

        Args:
            hessian: the Hessian of a glass.
            start: modes of nearby states of the same particles, such as the last two or three along a strain branch, which they
                then extrapolate. Used by the solver "filter"; where they are of no help it starts cold.

        Raises:
            InputError: if there are fewer than k modes, or ``start`` belongs to other particles.
            ConvergenceError: if an eigenpair's residual is too large, or if a mode was missed.
        """
        try:
            bonds = hessian.bonds
        except NotComputedError:
            raise
        except AttributeError:
            raise InputError(f"modes of {hessian!r}; expected a Hessian: compute(Hessian(potential).compute(glass)).") from None
        n_particles = bonds.n_particles
        d = bonds.dimensions
        if self.k > d * n_particles - d:
            raise InputError(f"k = {self.k}; expected at most {d}N - {d} = {d * n_particles - d} modes.")
        if any(modes.vectors.shape[1] != n_particles for modes in start):
            raise InputError(f"the modes to start from are of another number of particles; expected N = {n_particles}.")
        guess_mnc, largest, solver = self._guess(bonds, start)
        eigenvalue_m, vector_mnc, residual_m = eigensolvers.rayleigh_ritz(bonds, guess_mnc)
        if not (residual_m <= _RESIDUAL_TOLERANCE * largest).all():
            raise ConvergenceError(
                f"an eigenpair has residual {residual_m.max():.3g}; expected at most {_RESIDUAL_TOLERANCE * largest:.3g} "
                f"(solver '{solver}'). Try another solver."
            )
        completeness = {"dense": "all", "factor": "none"}.get(solver, "random block")
        if self.check_completeness and solver != "dense":
            completeness = _check_completeness(bonds, eigenvalue_m, vector_mnc, float(residual_m.max()))
        self.eigenvalues = eigenvalue_m
        self.residuals = residual_m
        self.vectors = vector_mnc
        self.frequencies = np.sign(eigenvalue_m) * np.sqrt(np.abs(eigenvalue_m))
        self.participation_ratios = participation_ratio(self.vectors)
        self.solver_used = solver
        self.completeness = completeness
        return self

    def _guess(self, bonds: Bonds, start: Sequence[LowestModes]) -> tuple[NDArray[np.float64], float, str]:
        """Vectors that span the window, a bound of the largest eigenvalue, and the solver."""
        solver = self.solver
        if solver == "auto":
            # Lanczos wants room: near the full spectrum only the dense solver is safe.
            solver = "dense" if bonds.n_particles <= _LARGEST_DENSE or self.k > bonds.n_particles // 4 else "filter"
        if solver == "filter" and start:
            warm = eigensolvers.by_warm_start(bonds, self.k, [modes.vectors for modes in start])
            if warm is not None:
                return *warm, "warm start"
        find = {"dense": eigensolvers.by_lapack, "factor": eigensolvers.by_factor, "filter": eigensolvers.by_filter}
        try:
            return *find[solver](bonds, self.k), solver
        except ConvergenceError:
            # Where few particles touch, blocks run out of dimensions.
            if self.solver != "auto" or bonds.n_particles > _LARGEST_INERTIA:
                raise
            return *eigensolvers.by_lapack(bonds, self.k), "dense"

    def plot(self, ax: Axes | None = None) -> Axes:
        """Participation ratio against frequency."""
        from matplotlib import pyplot as plt

        if ax is None:
            _, ax = plt.subplots()
        ax.semilogy(self.frequencies, self.participation_ratios, "o")
        ax.set_xlabel(r"frequency $\omega$ [$1/t_c$]")
        ax.set_ylabel("participation ratio $e$")
        return ax


def _check_completeness(
    bonds: Bonds, eigenvalue_m: NDArray[np.float64], vector_mnc: NDArray[np.float64], residual: float
) -> str:
    """How the number of modes below the window's end was counted.

    Raises:
        ConvergenceError: if a mode was missed.
    """
    if bonds.n_particles <= _LARGEST_INERTIA:
        missed = eigensolvers.missed_by_inertia(bonds, eigenvalue_m, residual)
        if missed:
            raise ConvergenceError(
                f"{missed} modes below {eigenvalue_m[-1]:.6g} were missed. Use the solver 'dense', or another k."
            )
        return "inertia"
    if eigensolvers.missed_by_random_block(bonds, vector_mnc, eigenvalue_m):
        raise ConvergenceError(f"a mode below {eigenvalue_m[-1]:.6g} was missed. Use another solver, or another k.")
    return "random block"


class ParticipationRatioFilter(Computation):
    """Keeps the modes of small participation ratio, which are quasi-localised (the paper, section III).

    Args:
        e_c: threshold; modes with e < e_c are kept. The paper: 0.125 at N = 16000, 0.0625 at N = 32000 (2000 particles).
    """

    keep: NDArray[np.bool_]
    frequencies: NDArray[np.float64]
    vectors: NDArray[np.float64]

    def __init__(self, e_c: float) -> None:
        if not 0.0 < e_c <= 1.0:
            raise InputError(f"e_c = {e_c}; expected a participation ratio in (0, 1].")
        self.e_c = e_c

    def _settings(self) -> Mapping[str, Any]:
        return {"e_c": self.e_c}

    def _headline(self) -> str:
        return f"{self.keep.sum()} of {len(self.keep)} modes kept" if hasattr(self, "keep") else ""

    def compute(self, modes: LowestModes) -> ParticipationRatioFilter:
        """Select from ``modes``: ``keep`` ((M,) ndarray of bool), ``frequencies`` and ``vectors`` of those kept."""
        self.keep = modes.participation_ratios < self.e_c
        self.frequencies = modes.frequencies[self.keep]
        self.vectors = modes.vectors[self.keep]
        return self
