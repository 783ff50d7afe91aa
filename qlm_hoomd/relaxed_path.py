"""The way from a minimum over a mode, the rest of the glass following, and the strain at which it fails as that tells.

Along the path s is the distance travelled. At each s the glass is at rest on the hyperplane across the path, so that the force
that is left points along it, and the path passes through every saddle on its way, should there be one. With the slope E'(s) of
the energy, T'(s) of V sigma and K'(s) of V d sigma / d gamma, each relaxed on the hyperplane, the minimum lies under a strain
gamma where

    E'(s) + gamma T'(s) + gamma^2 K'(s) / 2 = 0.

The gamma(s) that solves this rises from 0; where it turns, minimum and saddle meet: that is the fold. Nothing is expanded in s,
as it is in :class:`~qlm_hoomd.anharmonic.ModeExpansion`, whose first terms are those of E' and T' here; only the strain is
thought small. No saddle has to exist at zero strain: most of those at which a slowly quenched glass fails do not.
"""

# Array names carry their axes: n particles, c Cartesian components, k points of a path, x points of a fine grid.

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.interpolate import CubicSpline

from qlm_hoomd.base.errors import ConvergenceError
from qlm_hoomd.base.interrupt import stop_if_overdue
from qlm_hoomd.minimize.linear import LinearSystem
from qlm_hoomd.minimize.surface import max_norm, without_drift

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qlm_hoomd.glass import Glass
    from qlm_hoomd.mechanics import Bonds, Mechanics

# Longest displacement of a particle in one step [length]; the first one is this part of the way to where the cubic energy turns.
_STEP, _FIRST = 0.02, 0.2
_GROWTH = 1.2
_MOST_POINTS, _MOST_HALVINGS = 80, 5
# A step that brings less than this part of itself has lost the path.
_LEAST_ADVANCE = 0.3
# A path that has come so far is at another place [length].
_FARTHEST = 0.5
# The strain to first order has turned for good where it has sunk to this part of its maximum.
_TURNED = 0.6
# The hyperplane is turned where its normal and the path part so far, as a cosine.
_ALIGNED = 0.3
_MOST_ITERATIONS = 10
# A glass is at rest across the path where the force there is this part of the one along it, or of one that does not matter
# [energy / length]; near the fold it has to be less.
_AT_REST, _AT_REST_NEAR_FOLD, _SMALL_FORCE = 0.02, 1e-3, 1e-3
# Eigenvalue that is added along the normal [energy / length^2]: beyond the curvature of any barrier.
_LIFT = 200.0
_MAX_PRODUCTS = 3000
_ACCURATE, _LOOSE = 1e-4, 1e-2
_FEWEST_POINTS = 4
_FINE = 800
# Steps in strain of a glass that is held, and how many; moves along the path, the first one of this length [length].
_STRAIN_STEP, _MOST_STRAINS = 0.004, 80
_PROBE, _MOST_MOVES = 0.004, 20
_STRAIN_ACCURACY = 1e-6
# No glass is elastic so far.
_LARGEST_STRAIN = 0.3
# Nothing but the rounding of the forces at the minimum.
_NO_STRAIN = 1e-8


@dataclass(frozen=True, slots=True, eq=False)
class RelaxedPath:
    """Points of a path under forward shear, the first one the minimum.

    Args:
        distance_k: ((K,) ndarray) s, along the path in the space of all particles [length].
        slope_k: ((K,) ndarray) E' = dU/ds [energy / length].
        coupling_k: ((K,) ndarray) T' = d(V sigma)/ds [energy / length]; negative, for shear drives forward.
        stiffness_k: ((K,) ndarray) K = d(V sigma)/dgamma, the rest following at fixed s [energy].
        energy_k: ((K,) ndarray) U [energy].
        work_rate_k: ((K,) ndarray) V sigma [energy].
        end: why it ends where it does.
    """

    distance_k: NDArray[np.float64]
    slope_k: NDArray[np.float64]
    coupling_k: NDArray[np.float64]
    stiffness_k: NDArray[np.float64]
    energy_k: NDArray[np.float64]
    work_rate_k: NDArray[np.float64]
    end: str
    points: tuple[_Point, ...] = ()

    @property
    def strain(self) -> float | None:
        """Strain to the fold, to second order in strain; None if this path shows none."""
        turn = self._turn(2)
        return None if turn is None else turn[1]

    def fold_strain(self, mechanics: Mechanics) -> float | None:
        """Strain of the fold itself, looked for from where this path expects it; None if there is none to be found.

        The glass is held at its place on the path while it is sheared to the expected strain, and the strain is then moved to
        where it stands there without being held. From there it goes along the path to where its stiffness along the path
        vanishes.

        Args:
            mechanics: evaluates the potential.
        """
        turn = self._turn(2) or self._turn(1)
        if turn is None or not self.points:
            return None
        point = self.points[int(np.argmin(np.abs(self.distance_k - turn[0])))]
        try:
            return _fold_near(mechanics, point, turn[1])
        except ConvergenceError:
            return None

    def _turn(self, order: int) -> tuple[float, float] | None:
        """Where the strain turns, (s, gamma), to first or second order in strain."""
        if len(self.distance_k) < _FEWEST_POINTS:
            return None
        at_x = np.linspace(0.0, self.distance_k[-1], _FINE)
        slope_x, coupling_x = (CubicSpline(self.distance_k, each)(at_x) for each in (self.slope_k, self.coupling_k))
        bend_x = CubicSpline(self.distance_k, self.stiffness_k)(at_x, 1) if order > 1 else np.zeros(_FINE)
        square_x = coupling_x**2 - 2.0 * bend_x * slope_x
        with np.errstate(divide="ignore", invalid="ignore"):
            strain_x = 2.0 * slope_x / (np.sqrt(np.maximum(square_x, 0.0)) - coupling_x)
        # Where there is no strain that holds the glass at s, or shear does not drive any more, the path says nothing beyond.
        lost_x = (square_x < 0.0) | (coupling_x >= 0.0) | (strain_x > _LARGEST_STRAIN)
        strain_x = strain_x[: int(np.argmax(lost_x))] if lost_x.any() else strain_x
        turns = np.flatnonzero((np.diff(strain_x) < 0.0) & (strain_x[:-1] > _NO_STRAIN))
        return (float(at_x[turns[0]]), float(strain_x[turns[0]])) if turns.size else None


def relaxed_path(mechanics: Mechanics, glass: Glass, mode_nc: NDArray[np.float64]) -> RelaxedPath:
    """The path from a glass at rest along a mode, in the direction in which forward shear drives it.

    Args:
        mechanics: evaluates the potential.
        glass: at rest.
        mode_nc: ((N, 3) ndarray) direction, of any length and sign.
    """
    points: list[_Point] = []
    end = f"{_MOST_POINTS} points"
    try:
        start = _settled(mechanics, glass, without_drift(mode_nc), without_drift(mode_nc))
        points.append(start if start.coupling < 0.0 else start.reversed())
        step = min(_STEP, _FIRST * _length_scale(mechanics, glass, start.normal_nc))
    except ConvergenceError as error:
        end = str(error)
    distances, halvings, best = [0.0], 0, 0.0
    while points and len(points) < _MOST_POINTS:
        stop_if_overdue()
        last = points[-1]
        if not last.coupling < 0.0:
            end = "shear does not drive it any further"
            break
        strain = -last.slope / last.coupling
        best = max(best, strain)
        # Rounding gives the minimum itself a strain of either sign.
        if len(points) > 1 and strain < _TURNED * best:
            end = "the strain has turned"
            break
        if max_norm(without_drift(last.glass.positions - glass.positions)) > _FARTHEST:
            end = "another place"
            break
        move = step / max_norm(last.tangent_nc)
        ahead_nc = move * last.tangent_nc
        if len(points) > 1:
            ahead_nc += 0.5 * move**2 / (distances[-1] - distances[-2]) * (last.tangent_nc - points[-2].tangent_nc)
        try:
            point, advance = _next(mechanics, last, ahead_nc)
        except ConvergenceError as error:
            halvings, step = halvings + 1, 0.5 * step
            if halvings > _MOST_HALVINGS:
                end = str(error)
                break
            continue
        points.append(point)
        distances.append(distances[-1] + advance)
        step = min(_GROWTH * step, _STEP)
    return RelaxedPath(
        distance_k=np.array(distances[: len(points)]),
        slope_k=np.array([point.slope for point in points]),
        coupling_k=np.array([point.coupling for point in points]),
        stiffness_k=np.array([point.stiffness for point in points]),
        energy_k=np.array([point.energy for point in points]),
        work_rate_k=np.array([point.work_rate for point in points]),
        end=end,
        points=tuple(points),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Point:
    """A point of a path, at rest on the hyperplane across ``normal_nc``; ``velocity_nc`` is how it follows shear there."""

    glass: Glass
    normal_nc: NDArray[np.float64]
    tangent_nc: NDArray[np.float64]
    velocity_nc: NDArray[np.float64]
    curvature: float
    slope: float
    coupling: float
    stiffness: float
    energy: float
    work_rate: float

    def reversed(self) -> _Point:
        """The same, looking the other way."""
        return replace(self, tangent_nc=-self.tangent_nc, slope=-self.slope, coupling=-self.coupling)


class _Across:
    """A configuration with one direction, and what follows where the glass is moved along it.

    Raises:
        ConvergenceError: if a direction across it has negative curvature.
    """

    def __init__(self, bonds: Bonds, normal_nc: NDArray[np.float64]) -> None:
        self._system = LinearSystem(bonds)
        self.normal_nc = normal_nc / np.linalg.norm(normal_nc)
        self._answer_nc = self._lifted(self.normal_nc, _ACCURATE)
        self._along = float(np.vdot(self.normal_nc, self._answer_nc))
        length = float(np.linalg.norm(self._answer_nc))
        self.tangent_nc = math.copysign(1.0, self._along) * self._answer_nc / length
        self.curvature = (1.0 / self._along - _LIFT) * (self._along / length) ** 2

    def follow(self, force_nc: NDArray[np.float64], accuracy: float) -> NDArray[np.float64]:
        """((N, 3) ndarray) where the glass goes under a force, across the direction."""
        moved_nc = self._lifted(force_nc, accuracy)
        return moved_nc - float(np.vdot(self.normal_nc, moved_nc)) / self._along * self._answer_nc

    def _lifted(self, right_nc: NDArray[np.float64], accuracy: float) -> NDArray[np.float64]:
        right_nc = without_drift(right_nc)
        target = max(accuracy * float(np.linalg.norm(right_nc)), 1e-12)
        solution = self._system.solve_lifted(self.normal_nc, _LIFT, right_nc, target, _MAX_PRODUCTS)
        if solution.negative or solution.n_products >= _MAX_PRODUCTS:
            raise ConvergenceError("a second soft direction beside the path")
        return without_drift(solution.x_nc)


def _settled(
    mechanics: Mechanics,
    glass: Glass,
    normal_nc: NDArray[np.float64],
    along_nc: NDArray[np.float64],
    at_rest: float = _AT_REST,
) -> _Point:
    """The point at rest across a normal, near ``glass``; its tangent points along ``along_nc``."""
    for _ in range(_MOST_ITERATIONS):
        bonds = mechanics.bonds(glass.positions, glass.box, 2)
        across = _Across(bonds, normal_nc)
        normal_nc = across.normal_nc
        tangent_nc = across.tangent_nc if np.vdot(across.tangent_nc, along_nc) >= 0.0 else -across.tangent_nc
        if abs(float(np.vdot(tangent_nc, normal_nc))) < _ALIGNED:
            normal_nc = tangent_nc
            continue
        force_nc = without_drift(bonds.forces)
        sideways_nc = force_nc - float(np.vdot(normal_nc, force_nc)) * normal_nc
        if max_norm(sideways_nc) < at_rest * max(max_norm(force_nc), _SMALL_FORCE):
            break
        relax_nc = across.follow(sideways_nc, _LOOSE)
        if not max_norm(relax_nc) < 2.0 * _STEP:
            raise ConvergenceError("the path jumps")
        glass = glass.moved(glass.positions + relax_nc)
    else:
        raise ConvergenceError("no rest across the path")
    xi_nc = without_drift(bonds.mixed_derivative())
    velocity_nc = -across.follow(xi_nc, _ACCURATE)
    # The tangent is the direction in which a force along the normal does all the work: what is left of the force across it
    # does not show in the slope.
    return _Point(
        glass,
        normal_nc,
        tangent_nc,
        velocity_nc,
        curvature=across.curvature,
        slope=-float(np.vdot(tangent_nc, force_nc)),
        coupling=float(np.vdot(tangent_nc, xi_nc)),
        stiffness=bonds.affine_curvature() + float(np.vdot(xi_nc, velocity_nc)),
        energy=bonds.energy,
        work_rate=bonds.volume * bonds.stress_xy,
    )


def _length_scale(mechanics: Mechanics, glass: Glass, normal_nc: NDArray[np.float64]) -> float:
    """Displacement of a particle at which the cubic energy along the mode turns, lambda / kappa [length]."""
    bonds = mechanics.bonds(glass.positions, glass.box, 3)
    kappa = abs(bonds.kappa(normal_nc))
    return abs(bonds.curvature(normal_nc)) / kappa * max_norm(normal_nc) if kappa > 0.0 else math.inf


def _next(mechanics: Mechanics, last: _Point, ahead_nc: NDArray[np.float64]) -> tuple[_Point, float]:
    """The point about ``ahead_nc`` ((N, 3) ndarray) from the last one, and how far along the path it is from there.

    Raises:
        ConvergenceError: if there is none ahead.
    """
    point = _settled(mechanics, last.glass.moved(last.glass.positions + ahead_nc), last.normal_nc, last.tangent_nc)
    moved_nc = without_drift(point.glass.positions - last.glass.positions)
    advance = 0.5 * float(np.vdot(last.tangent_nc + point.tangent_nc, moved_nc))
    if not advance > _LEAST_ADVANCE * float(np.linalg.norm(ahead_nc)):
        raise ConvergenceError("the path turns back")
    return point, advance


def _fold_near(mechanics: Mechanics, point: _Point, strain: float) -> float:
    """The strain of the fold that is expected at ``strain``, at about this point of the path.

    Raises:
        ConvergenceError: if there is none, or it is not reached.
    """
    start = point.glass.strain
    step, halvings = _STRAIN_STEP, 0
    while (left := start + strain - point.glass.strain) > 0.1 * _STRAIN_ACCURACY:
        try:
            point = _sheared(mechanics, point, min(left, step))
        except ConvergenceError:
            halvings, step = halvings + 1, 0.5 * step
            if halvings > _MOST_HALVINGS:
                raise
    point = _balanced(mechanics, point)
    move = math.copysign(_PROBE / max_norm(point.tangent_nc), point.curvature)
    for _ in range(_MOST_MOVES):
        glass = point.glass.moved(point.glass.positions + move * point.tangent_nc)
        ahead = _settled(mechanics, glass, point.normal_nc, point.tangent_nc, _AT_REST_NEAR_FOLD)
        ahead = _balanced(mechanics, ahead)
        bend = (ahead.curvature - point.curvature) / move
        # dgamma/ds = -E''/T': what the strain still rises by, were the curvature to fall at this rate.
        rise = ahead.curvature**2 / (2.0 * bend * ahead.coupling)
        if 0.0 <= rise < _STRAIN_ACCURACY:
            found = ahead.glass.strain + rise - start
            if not 0.0 < found < _LARGEST_STRAIN:
                raise ConvergenceError("the fold lies behind")
            return found
        longest = _STEP / max_norm(ahead.tangent_nc)
        # The strain rises along the path as long as the curvature is positive, and falls beyond.
        uphill = math.copysign(longest, ahead.curvature)
        move = min(max(-ahead.curvature / bend, -longest), longest) if bend < 0.0 else uphill
        point = ahead
    raise ConvergenceError("no fold is reached")


def _balanced(mechanics: Mechanics, point: _Point) -> _Point:
    """The point at the strain at which no force is left along the path."""
    for _ in range(_MOST_STRAINS):
        if not point.coupling < 0.0:
            raise ConvergenceError("shear does not drive it any further")
        change = -point.slope / point.coupling
        if abs(change) < 0.1 * _STRAIN_ACCURACY:
            return point
        point = _sheared(mechanics, point, min(max(change, -_STRAIN_STEP), _STRAIN_STEP))
    raise ConvergenceError("no strain holds the glass there")


def _sheared(mechanics: Mechanics, point: _Point, change: float) -> _Point:
    """The point under another strain, held at its place on the path."""
    glass = point.glass.at_strain(point.glass.strain + change)
    glass = glass.moved(glass.positions + change * point.velocity_nc)
    return _settled(mechanics, glass, point.normal_nc, point.tangent_nc, _AT_REST_NEAR_FOLD)
