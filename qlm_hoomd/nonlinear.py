"""Modes beyond the harmonic approximation: pseudo-harmonic, cubic and quartic modes, and the list of a glass's QLMs.

Each kind is a local minimum, over directions z, of a cost that rewards softness and localisation. They differ in a form F of
degree n in z whose contraction D (gradient over n, so that z . D = F) stands on the right of the condition of stationarity

    H . z = (lambda / F) D(z),        lambda = H : zz.

=================  =====================  =========  ======================================================================
kind               F                      n          cost, |z| = 1
=================  =====================  =========  ======================================================================
pseudo-harmonic    sum |z_ij|^4 (pairs)   4          lambda^2 / F      Richard et al., PRL 126, 015501 (2021)
cubic              U''' : zzz = kappa     3          2 lambda^3 / (3 kappa^2), the barrier of lambda s^2/2 + kappa s^3/6
quartic            U'''' : zzzz = chi     4          lambda^2 / chi    Gartner and Lerner, arXiv:1610.03410, for both
=================  =====================  =========  ======================================================================

A harmonic mode that hybridises with phonons is no minimum of these costs: extended fields have a small F. All three are
minimised alike: as ell(z) = log lambda - (2 / n) log |F|, whose gradient is 2 (H . z / lambda - D / F), by nonlinear conjugate
gradients (Polak and Ribiere) preconditioned with a sweep of symmetric Gauss-Seidel on H. Along a line lambda and F are
polynomials, so the nearest minimum on the line is a root of another polynomial and costs one pass over the pairs. Stationarity
is measured by the residual |H . z - (lambda / F) D| / |H . z|. A start takes some 150 steps to 1e-8, three quarters of them to
settle where it has long come to; where that is a mode that another start has found, it ends there. Iterating z <- H^-1 . D(z)
with inexact linear solves took as long as the diagonal blocks of H for a preconditioner, and need not descend for cubic and
quartic modes; L-BFGS took several times as long and stalled at 1e-7.

Starts are competed for: mixing a second, far mode into z costs nothing beyond an amplitude of about the ratio of the two
curvatures, so that a very soft mode attracts most starts, and a QLM much stiffer than its neighbours may be no minimum at all.
"""

# One file: three kinds of modes that differ in the form they minimise, and the one search for its minima.
# Array names carry their axes: m modes, a attempts, n particles, c Cartesian components, p pairs.

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from qlm_hoomd.anharmonic import EXPANSION_COLUMNS, AnharmonicModes, mean_curvature
from qlm_hoomd.base.display import Computation, counted, span
from qlm_hoomd.base.errors import ConvergenceError, InputError
from qlm_hoomd.base.interrupt import stop_if_overdue
from qlm_hoomd.minimize.linear import LinearSystem
from qlm_hoomd.modes import LowestModes, participation_ratio
from qlm_hoomd.numerics import forms, solve, vectors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from qlm_hoomd.glass import Glass
    from qlm_hoomd.hessian import Hessian
    from qlm_hoomd.mechanics import Bonds

# H . z is updated along the line search; a fresh product this often keeps rounding from adding up.
_REFRESH = 50
# A start that overlaps so far with a mode found before would end there: 20 of 20 that were followed on did, from 0.9 on. And
# every how many steps that is looked at.
_ARRIVED, _LOOK = 0.999, 10
# A curvature below this fraction of the mean one is that of a loose particle, or of no minimum.
_NO_CURVATURE = 1e-10


@dataclass(frozen=True, slots=True)
class Attempt:
    """What became of one start.

    Args:
        start: "harmonic 3" or "random 0": the given field or the random one of that index.
        converged: whether the residual came below the tolerance, or the start came to a mode that another one had found.
        iterations: conjugate-gradient steps, one Hessian product each.
        residual: |H . z - (lambda / F) D| / |H . z| at the end.
        cost: cost at the end, in the units of the kind.
        mode: index of the mode of the list that it ended in; None if it did not converge.
    """

    start: str
    converged: bool
    iterations: int
    residual: float
    cost: float
    mode: int | None


class Form(ABC):
    """A homogeneous form F(z) of a displacement field, on the interacting pairs of one glass.

    Args:
        bonds: pairs of the glass, to order 4.
    """

    degree: int

    def __init__(self, bonds: Bonds) -> None:
        self._bonds = bonds
        self._pairs = (bonds.owner_r, bonds.first_r, bonds.j_p, bonds.r_pc)
        self._coefficients = self.coefficients(bonds)

    @abstractmethod
    def coefficients(self, bonds: Bonds) -> tuple[NDArray[np.float64], ...]:
        """((P,) ndarrays) coefficients of each pair, as :mod:`qlm_hoomd.numerics.forms` defines them."""

    @abstractmethod
    def cost(self, curvature: float, form: float) -> float:
        """The cost of a unit vector of this curvature lambda and value F."""

    def contraction(self, z_nc: NDArray[np.float64]) -> NDArray[np.float64]:
        """((N, 3) ndarray) D(z), the gradient of F over its degree."""
        out_nc = np.empty_like(z_nc)
        kernel = forms.quartic_contraction if self.degree == 4 else forms.cubic_contraction
        kernel(*self._pairs, *self._coefficients, z_nc, out_nc)
        return out_nc

    def along_line(self, z_nc: NDArray[np.float64], direction_nc: NDArray[np.float64]) -> NDArray[np.float64]:
        """((n + 1,) ndarray) coefficients of the polynomial F(z + s direction) in s, constant first."""
        out = np.empty(self.degree + 1)
        kernel = forms.quartic_along_line if self.degree == 4 else forms.cubic_along_line
        kernel(*self._pairs, *self._coefficients, z_nc, direction_nc, out)
        return out

    def cost_and_gradient(self, z_nc: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """The cost of z / |z| and its gradient ((N, 3) ndarray) with respect to z, which need not be normalised."""
        norm = float(np.linalg.norm(z_nc))
        unit_nc = z_nc / norm
        product_nc, contraction_nc = self._bonds.product(unit_nc), self.contraction(unit_nc)
        curvature, form = float(np.vdot(unit_nc, product_nc)), float(np.vdot(unit_nc, contraction_nc))
        cost = self.cost(curvature, form)
        # Every cost is a power of lambda^(n/2) / |F|: the gradient of its logarithm is that power times n (H.z/lambda - D/F).
        power = 2.0 if self.degree == 3 else 1.0
        gradient_nc = cost * power * self.degree * (product_nc / curvature - contraction_nc / form) / norm
        return cost, gradient_nc


class PseudoHarmonicForm(Form):
    """F = sum over interacting pairs of |z_ij|^4, cost lambda^2 / F [energy^2 / length^4]."""

    degree = 4

    def coefficients(self, bonds: Bonds) -> tuple[NDArray[np.float64], ...]:
        """One for b^2, nothing else."""
        nothing_p = np.zeros(bonds.n_pairs)
        return np.ones(bonds.n_pairs), nothing_p, nothing_p

    def cost(self, curvature: float, form: float) -> float:
        """lambda^2 / F [energy^2 / length^4]."""
        return curvature**2 / form


class CubicForm(Form):
    """F = U''' : zzz = kappa, cost 2 lambda^3 / (3 kappa^2) [energy]."""

    degree = 3

    def coefficients(self, bonds: Bonds) -> tuple[NDArray[np.float64], ...]:
        """Those of U'''."""
        return 12.0 * bonds.phi_kp[2], 8.0 * bonds.phi_kp[3]

    def cost(self, curvature: float, form: float) -> float:
        """2 lambda^3 / (3 kappa^2) [energy], the barrier of the cubic energy."""
        return 2.0 * curvature**3 / (3.0 * form**2)


class QuarticForm(Form):
    """F = U'''' : zzzz = chi, cost lambda^2 / chi [energy]."""

    degree = 4

    def coefficients(self, bonds: Bonds) -> tuple[NDArray[np.float64], ...]:
        """Those of U''''."""
        return 12.0 * bonds.phi_kp[2], 48.0 * bonds.phi_kp[3], 16.0 * bonds.phi_kp[4]

    def cost(self, curvature: float, form: float) -> float:
        """lambda^2 / chi [energy]."""
        return curvature**2 / form


class NonlinearModes(Computation):
    """Local minima of a cost of directions; use :class:`PseudoHarmonicModes`, :class:`CubicModes` or :class:`QuarticModes`.

    Args:
        random: number of random starts beside the given ones; each moves one particle and its neighbours at random.
        seed: seed of the random starts.
        overlap: minima with abs(z1 . z2) above it are one mode; the one of lower cost is kept.
        tolerance: stop at a residual |H . z - (lambda / F) D| / |H . z| below it.
        max_iterations: steps before a start counts as not converged.

    After :meth:`compute`, one entry for each distinct mode, sorted by cost: ``vectors`` ((M, N, 3) ndarray, normalised, free of
    translations), ``costs`` ((M,) ndarray), ``curvatures`` ((M,) ndarray, lambda [energy / length^2]), ``frequencies``
    (sqrt(lambda) [1 / t_c]), ``participation_ratios``, ``residuals``, ``iterations``, ``starts`` (label of the start that
    found it), ``hits`` (how many starts ended there), ``expansions`` (:class:`~qlm_hoomd.anharmonic.AnharmonicModes`); and of
    all starts: ``attempts`` (tuple of :class:`Attempt`), ``n_unconverged``.
    """

    form: type[Form]
    vectors: NDArray[np.float64]
    costs: NDArray[np.float64]
    curvatures: NDArray[np.float64]
    frequencies: NDArray[np.float64]
    participation_ratios: NDArray[np.float64]
    residuals: NDArray[np.float64]
    iterations: NDArray[np.int_]
    starts: tuple[str, ...]
    hits: NDArray[np.int_]
    expansions: AnharmonicModes
    attempts: tuple[Attempt, ...]

    def __init__(
        self,
        *,
        random: int = 0,
        seed: int = 0,
        overlap: float = 0.9,
        tolerance: float = 1e-8,
        max_iterations: int = 10_000,
    ) -> None:
        if random < 0:
            raise InputError(f"random = {random}; expected a number of starts, 0 or more.")
        if not 0.0 < overlap < 1.0:
            raise InputError(f"overlap = {overlap}; expected a number between 0 and 1.")
        if not 0.0 < tolerance < 1.0:
            raise InputError(f"tolerance = {tolerance}; expected a number between 0 and 1.")
        if max_iterations < 1:
            raise InputError(f"max_iterations = {max_iterations}; expected at least 1.")
        self.random = random
        self.seed = seed
        self.overlap = overlap
        self.tolerance = tolerance
        self.max_iterations = max_iterations

    def _settings(self) -> Mapping[str, Any]:
        return {name: getattr(self, name) for name in ("random", "seed", "overlap", "tolerance", "max_iterations")}

    def _headline(self) -> str:
        if not hasattr(self, "attempts"):
            return ""
        starts = f"{len(self.attempts)} starts, {self.n_unconverged} of them lost"
        return f"{counted(len(self), 'mode')} from {starts}; frequencies {span(self.frequencies)}"

    def compute(self, hessian: Hessian, starts: LowestModes | NDArray[np.float64] | None = None) -> NonlinearModes:
        """Minimise the cost from every start and list the distinct minima.

        Args:
            hessian: computed, of order 4.
            starts: harmonic modes, or ((M, N, 3) ndarray) fields to start from; None for random starts alone.

        Raises:
            InputError: without any start, for starts that are no displacement fields of this glass, or a Hessian of lower
                order.
            ConvergenceError: if a direction has no positive curvature (a saddle, or loose particles), or if no start converges;
                it then carries the attempts.
        """
        bonds = hessian.bonds
        if len(bonds.phi_kp) < 5:
            raise InputError(f"the Hessian is of order {len(bonds.phi_kp) - 1}; expected Hessian(..., order=4).")
        search = _Search(bonds, self.form(bonds), self.tolerance, self.max_iterations, max(self.overlap, _ARRIVED))
        found: list[_Minimum] = []
        ends: list[tuple[_Minimum, int | None]] = []
        for label, start_nc in self._starts(bonds, starts, search):
            minimum = search.descend(label, start_nc, found)
            ends.append((minimum, self._enlist(minimum, found) if minimum.converged else None))
        if not ends:
            raise InputError("no start; expected harmonic modes or random > 0.")
        if not found:
            raise ConvergenceError(
                f"none of {len(ends)} starts converged to {self.tolerance:g} in {self.max_iterations} iterations "
                f"(smallest residual {min(minimum.residual for minimum, _ in ends):.3g}). Allow more iterations.",
                tuple(minimum.report(None) for minimum, _ in ends),
            )
        order = sorted(range(len(found)), key=lambda index: found[index].cost)
        rank = {index: place for place, index in enumerate(order)}
        self.attempts = tuple(minimum.report(None if index is None else rank[index]) for minimum, index in ends)
        self._collect(hessian, [found[index] for index in order])
        return self

    def _starts(
        self, bonds: Bonds, starts: LowestModes | NDArray[np.float64] | None, search: _Search
    ) -> Iterator[tuple[str, NDArray[np.float64]]]:
        if starts is not None:
            fields_mnc = np.asarray(starts.vectors if isinstance(starts, LowestModes) else starts, dtype=np.float64)
            if fields_mnc.ndim != 3 or fields_mnc.shape[1:] != (bonds.n_particles, 3):
                raise InputError(f"starts of shape {fields_mnc.shape}; expected (M, {bonds.n_particles}, 3).")
            for index, field_nc in enumerate(fields_mnc):
                if not np.isfinite(field_nc).all() or not np.linalg.norm(search.clean(field_nc)) > 1e-12 * np.linalg.norm(
                    field_nc
                ):
                    raise InputError(f"start {index} is zero, not finite or a translation; expected a displacement field.")
                yield f"harmonic {index}", field_nc
        rng = np.random.default_rng(self.seed)
        owners_p = np.concatenate([bonds.i_p, bonds.j_p])
        partners_p = np.concatenate([bonds.j_p, bonds.i_p])
        for index in range(self.random):
            # A compact start ends in a minimum near it; one that moves everything ends in the softest mode of the glass.
            centre = int(rng.choice(owners_p))
            moved = np.union1d(partners_p[owners_p == centre], [centre])
            field_nc = np.zeros((bonds.n_particles, 3))
            field_nc[moved] = rng.normal(size=(len(moved), 3))
            yield f"random {index}", bonds.in_space(field_nc)

    def _enlist(self, minimum: _Minimum, found: list[_Minimum]) -> int:
        """Index of a minimum in the list: a new one, or that of the mode it overlaps with, which it replaces if it costs less."""
        overlaps = [abs(float(np.vdot(other.vector_nc, minimum.vector_nc))) for other in found]
        index = int(np.argmax(overlaps)) if overlaps else 0
        if not overlaps or overlaps[index] <= self.overlap:
            found.append(minimum)
            return len(found) - 1
        if minimum.at_rest and minimum.cost < found[index].cost:
            found[index] = minimum
        return index

    def _collect(self, hessian: Hessian, found: list[_Minimum]) -> None:
        self.vectors = np.stack([_oriented(minimum.vector_nc) for minimum in found])
        self.costs = np.array([minimum.cost for minimum in found])
        self.curvatures = np.array([minimum.curvature for minimum in found])
        self.frequencies = np.sqrt(self.curvatures)
        self.participation_ratios = participation_ratio(self.vectors)
        self.residuals = np.array([minimum.residual for minimum in found])
        self.iterations = np.array([minimum.iterations for minimum in found])
        self.starts = tuple(minimum.start for minimum in found)
        self.hits = np.bincount([attempt.mode for attempt in self.attempts if attempt.mode is not None], minlength=len(found))
        self.expansions = AnharmonicModes().compute(hessian, self.vectors)

    @property
    def n_unconverged(self) -> int:
        """Number of starts that did not converge."""
        return sum(not attempt.converged for attempt in self.attempts)

    def __len__(self) -> int:
        return len(self.vectors) if self.attempts else 0

    def locations(self, glass: Glass) -> NDArray[np.float64]:
        """((M, 3) ndarray) where the modes sit in ``glass`` [length]; see :func:`mode_locations`."""
        return mode_locations(self.vectors, glass)

    def table(self, glass: Glass | None = None) -> pl.DataFrame:
        """One row for each mode, lowest cost first: cost, frequency, size, expansion of the energy, and how it was found.

        ``participation_number`` is N e. ``x``, ``y``, ``z`` are null without the ``glass``.
        """
        centre_mc = self.locations(glass) if glass is not None else None
        rows = [
            {
                "kind": self.form.__name__.removesuffix("Form"),
                "index": index,
                "cost": float(self.costs[index]),
                "frequency": float(self.frequencies[index]),
                "participation_ratio": float(self.participation_ratios[index]),
                "participation_number": float(self.participation_ratios[index]) * self.vectors.shape[1],
                **dict(zip("xyz", (None, None, None) if centre_mc is None else map(float, centre_mc[index]), strict=True)),
                **self.expansions[index].row(),
                "residual": float(self.residuals[index]),
                "iterations": int(self.iterations[index]),
                "start": self.starts[index],
                "hits": int(self.hits[index]),
            }
            for index in range(len(self))
        ]
        return pl.DataFrame(rows, schema=NONLINEAR_COLUMNS, orient="row")

    def plot(self, ax: Axes | None = None) -> Axes:
        """Participation number against frequency, the area of a marker growing with the number of starts that ended there."""
        from matplotlib import pyplot as plt

        if ax is None:
            _, ax = plt.subplots()
        numbers_m = self.participation_ratios * self.vectors.shape[1]
        ax.scatter(self.frequencies, numbers_m, s=20.0 * (1.0 + self.hits), alpha=0.6, edgecolors="none")
        ax.set_ylim(0.0, 1.1 * float(numbers_m.max()))
        ax.set_xlabel(r"frequency $\sqrt{\lambda}$ [$1/t_c$]")
        ax.set_ylabel("participation number $Ne$")
        ax.set_title(
            f"{type(self).__name__}: {len(self)} modes, {self.n_unconverged} of {len(self.attempts)} starts lost",
            fontsize="medium",
        )
        return ax


class PseudoHarmonicModes(NonlinearModes):
    """Minima of lambda^2 / sum |z_ij|^4 over the interacting pairs (Richard et al., PRL 126, 015501 (2021))."""

    form = PseudoHarmonicForm


class CubicModes(NonlinearModes):
    """Minima of the barrier 2 lambda^3 / (3 kappa^2): the nonlinear plastic modes, which move as a plastic event will."""

    form = CubicForm


class QuarticModes(NonlinearModes):
    """Minima of lambda^2 / chi: localised for the sake of a large fourth derivative."""

    form = QuarticForm


NONLINEAR_COLUMNS = {
    "kind": pl.String,
    "index": pl.Int32,
    "cost": pl.Float64,
    "frequency": pl.Float64,
    "participation_ratio": pl.Float64,
    "participation_number": pl.Float64,
    "x": pl.Float64,
    "y": pl.Float64,
    "z": pl.Float64,
    **EXPANSION_COLUMNS,
    "residual": pl.Float64,
    "iterations": pl.Int32,
    "start": pl.String,
    "hits": pl.Int32,
}


def mode_locations(vectors_mnc: NDArray[np.float64], glass: Glass) -> NDArray[np.float64]:
    """((M, 3) ndarray) periodic centre of each mode [length], wrapped into the box: the circular mean of the particles' phases.

    Particles weigh |z_j|^4, the weights of the participation ratio, so that the core decides and not the far field.

    Raises:
        InputError: if the modes are those of another number of particles.
    """
    if vectors_mnc.shape[1:] != (glass.n_particles, 3):
        raise InputError(
            f"modes of shape {vectors_mnc.shape} for a glass of {glass.n_particles} particles; expected the same glass."
        )
    weight_mn = np.einsum("mnc,mnc->mn", vectors_mnc, vectors_mnc) ** 2
    phase_nc = np.exp(2j * np.pi * glass.box.fractional(glass.positions))
    fraction_mc = np.angle(weight_mn @ phase_nc) / (2.0 * np.pi)
    return glass.box.wrap(fraction_mc @ glass.box.matrix)


@dataclass(frozen=True, eq=False, slots=True)
class _Minimum:
    """Where a descent ended."""

    start: str
    vector_nc: NDArray[np.float64]
    cost: float
    curvature: float
    residual: float
    iterations: int
    converged: bool
    at_rest: bool

    def report(self, mode: int | None) -> Attempt:
        return Attempt(self.start, self.converged, self.iterations, self.residual, self.cost, mode)


class _Search:
    """Descends the cost of one form on one glass."""

    def __init__(self, bonds: Bonds, form: Form, tolerance: float, max_iterations: int, arrived: float) -> None:
        self._bonds, self._form = bonds, form
        self._tolerance, self._max_iterations, self._arrived = tolerance, max_iterations, arrived
        self._system = LinearSystem(bonds)
        self._least_curvature = _NO_CURVATURE * mean_curvature(bonds)
        # A particle without partners has no energy to minimise; it must not move.
        self._bonded_n = (
            np.bincount(bonds.i_p, minlength=bonds.n_particles) + np.bincount(bonds.j_p, minlength=bonds.n_particles) > 0
        )

    def clean(self, field_nc: NDArray[np.float64]) -> NDArray[np.float64]:
        """The field without translations, without particles that have no partner, and in the plane of two dimensions."""
        clean_nc = self._bonds.in_space(np.array(field_nc, dtype=np.float64, order="C"))
        solve.remove_drift(self._bonded_n, clean_nc)
        return clean_nc

    def descend(self, start: str, field_nc: NDArray[np.float64], found: Sequence[_Minimum] = ()) -> _Minimum:
        """The minimum below a field; or, short of it, where the way comes to one of those ``found`` already."""
        bonds, form, dot = self._bonds, self._form, vectors.inner_product
        z_nc = self.clean(field_nc)
        z_nc /= math.sqrt(dot(z_nc, z_nc))
        product_nc = bonds.product(z_nc)
        direction_nc = np.zeros_like(z_nc)
        last_nc = np.zeros_like(z_nc)
        last_square = 1.0
        known = False
        for iteration in range(self._max_iterations + 1):
            stop_if_overdue()
            if iteration % _REFRESH == 0:
                product_nc = bonds.product(z_nc)
            curvature = dot(z_nc, product_nc)
            if not curvature > self._least_curvature:
                raise ConvergenceError(
                    f"a direction of curvature {curvature:.3g} was met from start '{start}'; expected a positive one: the "
                    "state is a saddle, or has loose particles. Minimise it, or remove its rattlers."
                )
            contraction_nc = form.contraction(z_nc)
            value = dot(z_nc, contraction_nc)
            gradient_nc = product_nc / curvature - contraction_nc / value
            residual = curvature * math.sqrt(dot(gradient_nc, gradient_nc) / dot(product_nc, product_nc))
            if residual < self._tolerance or iteration == self._max_iterations or not math.isfinite(residual):
                break
            if iteration % _LOOK == 0 and any(abs(dot(other.vector_nc, z_nc)) > self._arrived for other in found):
                known = True
                break
            # Neither translations nor the length of z matter to the cost; steps along them would only blur the conjugacy.
            downhill_nc = -self.clean(self._system.preconditioned(gradient_nc))
            downhill_nc -= dot(z_nc, downhill_nc) * z_nc
            square = -dot(gradient_nc, downhill_nc)
            beta = max(0.0, (square + dot(last_nc, downhill_nc)) / last_square) if iteration else 0.0
            direction_nc = downhill_nc + beta * (direction_nc - dot(z_nc, direction_nc) * z_nc)
            if not dot(gradient_nc, direction_nc) < 0.0:
                direction_nc = downhill_nc
            last_nc, last_square = gradient_nc, square
            along_nc = bonds.product(direction_nc)
            scale = _nearest_minimum(
                np.array([curvature, 2.0 * dot(z_nc, along_nc), dot(direction_nc, along_nc)]),
                form.along_line(z_nc, direction_nc),
            )
            if math.isfinite(scale):
                z_nc = z_nc + scale * direction_nc
                product_nc = product_nc + scale * along_nc
            else:
                z_nc, product_nc = direction_nc, along_nc
            norm = math.sqrt(dot(z_nc, z_nc))
            z_nc, product_nc = z_nc / norm, product_nc / norm
        cost = form.cost(curvature, value) if value != 0.0 else math.inf
        at_rest = residual < self._tolerance
        return _Minimum(start, z_nc, cost, curvature, residual, iteration, at_rest or known, at_rest)


def _nearest_minimum(curvature: NDArray[np.float64], form: NDArray[np.float64]) -> float:
    """Smallest s > 0 where log lambda(s) - (2 / n) log |F(s)| stops falling; infinite if it falls all the way to s -> infinity.

    Its derivative vanishes with lambda' F - (2 / n) lambda F', whose leading coefficients cancel: a polynomial of degree n.
    """
    degree = len(form) - 1
    slope = np.convolve(curvature[1:] * np.arange(1, 3), form)
    slope -= 2.0 / degree * np.convolve(curvature, form[1:] * np.arange(1, degree + 1))
    root_s = np.roots(slope[degree::-1])
    real_s = root_s.real[np.abs(root_s.imag) < 1e-9 * np.abs(root_s)]
    return float(real_s[real_s > 0.0].min(initial=np.inf))


def _oriented(vector_nc: NDArray[np.float64]) -> NDArray[np.float64]:
    # As with harmonic modes, the largest component is made positive, so that files compare.
    return vector_nc * np.sign(vector_nc.ravel()[np.abs(vector_nc).argmax()])
