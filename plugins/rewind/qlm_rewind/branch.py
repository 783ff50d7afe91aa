"""The elastic branch behind a state: where it leads, and whether anything was dissipated on the way."""

# Array names carry their axes: n particles, c Cartesian components, k nodes of an interpolation.

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from qlm_hoomd.errors import ConvergenceError
from qlm_hoomd.mechanics import Bonds, Mechanics
from qlm_hoomd.minimize.linear import LinearSystem
from qlm_hoomd.minimize.surface import max_norm, without_drift

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from qlm_quasistatic.events import Fold
    from qlm_quasistatic.stepper import ShearState

    from qlm_hoomd.glass import Glass

# Nodes of the quadrature and of the extrapolation, each with its slope: more gain nothing.
_MOST_NODES = 4
_MOST_IN_GUESS = 3
# The error estimate is the difference from the rule of two orders less, which errs far more.
_CAUTION = 10.0
# Largest residual of the velocity over the largest force that drives it; the slope of the stress errs by its square.
_VELOCITY_ACCURACY = 1e-5
_MAX_PRODUCTS = 5000
# Of the nodes behind, those are dropped that stand closer together than this fraction of their distance from the last one.
_SPACING = 0.2


@dataclass(frozen=True, slots=True)
class Balance:
    """First law over a stretch of strain: work done less energy stored, which is zero on an elastic branch.

    An instability dissipates: what it adds is positive and cannot be cancelled by another one.

    Args:
        dissipated: V int sigma dgamma - dU [energy].
        error: estimate of the error of the quadrature [energy].
    """

    dissipated: float
    error: float

    def holds(self, bound: float) -> bool:
        """Whether nothing beyond ``bound`` [energy] was dissipated, as far as the quadrature can tell."""
        return max(abs(self.dissipated), self.error / _CAUTION) < bound

    def broken(self, bound: float) -> bool:
        """Whether more than ``bound`` [energy] was dissipated for sure."""
        return self.dissipated > bound + 3.0 * self.error

    def growth(self, bound: float) -> float:
        """Factor by which the next step may be longer for the balance to hold to ``bound``.

        Errors grow as its seventh power.
        """
        worst = max(abs(self.dissipated), self.error / _CAUTION, 1e-6 * bound)
        return 0.8 * (bound / worst) ** (1.0 / 7.0)


@dataclass(frozen=True, slots=True, eq=False)
class BranchMemory:
    """A branch as plain values.

    Args:
        nodes: those of :attr:`ElasticBranch.nodes`.
        recent: the last ones, without gaps.
        mechanics: :attr:`qlm_hoomd.mechanics.Mechanics.memory`.
    """

    nodes: tuple[Node, ...]
    recent: tuple[Node, ...]
    mechanics: Any


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A state of the branch with its linear response.

    Args:
        state: the state at rest.
        velocity: ((N, 3) ndarray) non-affine velocity dq / dgamma [length].
        energy: U [energy].
        work_rate: dU / dgamma = V sigma [energy].
        stiffness: d2U / dgamma2 = V dsigma / dgamma [energy].
    """

    state: ShearState
    velocity: NDArray[np.float64]
    energy: float
    work_rate: float
    stiffness: float

    @property
    def strain(self) -> float:
        """Accumulated strain."""
        return self.state.strain


class ElasticBranch:
    """The states at rest since the last instability.

    Close to a fold everything is smooth in u = sqrt(strain_c - gamma) and not in the strain. Where a fold is known, u takes the
    place of the strain in all that is interpolated here, and the fold itself is a node.

    Args:
        start: the first state; or the memory of a branch, with new mechanics, to go on as that branch.
        mechanics: evaluates the potential.

    Attributes:
        nodes: the first one, the last one, and some in between, in geometric progression towards the last.
    """

    def __init__(self, start: ShearState | BranchMemory, mechanics: Mechanics) -> None:
        self.mechanics = mechanics
        self._recent: list[Node] = []
        if isinstance(start, BranchMemory):
            mechanics.recall(start.mechanics)
            self.nodes, self._recent = list(start.nodes), list(start.recent)
        else:
            self.nodes = [self.node(start)]
            self._recent = self.nodes[:]

    @property
    def memory(self) -> BranchMemory:
        """All that there is to know of the branch, but for what the stepper's guesses need: this detector makes its own."""
        nodes, recent = (
            tuple(replace(node, state=replace(node.state, branch=None)) for node in some) for some in (self.nodes, self._recent)
        )
        return BranchMemory(nodes, recent, self.mechanics.memory)

    @property
    def last(self) -> Node:
        """The state at the highest strain."""
        return self._recent[-1]

    def bonds(self, glass: Glass) -> Bonds:
        """The interacting pairs of a state, to third order."""
        return self.mechanics.bonds(glass.positions, glass.box, 3)

    def node(self, state: ShearState) -> Node:
        """The linear response of a state: H . velocity = -Xi.

        Raises:
            ConvergenceError: if it is no minimum.
        """
        bonds = self.bonds(state.glass)
        xi_nc = bonds.mixed_derivative()
        velocity_nc = self._expected_velocity(state)
        missing_nc = without_drift(-xi_nc - bonds.product(velocity_nc))
        more_nc, _, negative = LinearSystem(bonds).solve(missing_nc, _VELOCITY_ACCURACY * max_norm(xi_nc), _MAX_PRODUCTS)
        if negative:
            raise ConvergenceError(f"the glass at strain {state.strain:.10f} is no minimum: it has an unstable direction.")
        velocity_nc = without_drift(velocity_nc + more_nc)
        # Stationary in the velocity, so that an error of it counts squared.
        relaxation = np.vdot(2.0 * xi_nc + bonds.product(velocity_nc), velocity_nc)
        stiffness = bonds.affine_curvature() + float(relaxation)
        return Node(state, velocity_nc, bonds.energy, float(bonds.virial[0, 1]), stiffness)

    def extend(self, node: Node) -> None:
        """Go on by an elastic step."""
        self._recent = [*self._recent[1 - _MOST_NODES :], node]
        kept = self.nodes[:1]
        for between, following in zip(self.nodes[1:], [*self.nodes[2:], node], strict=False):
            if following.strain - kept[-1].strain > _SPACING * (node.strain - kept[-1].strain):
                kept.append(between)
        self.nodes = [*kept, node]

    def balance(self, node: Node, fold: Fold | None = None) -> Balance:
        """The first law over the step from the last state to ``node``."""
        return self._balance([*self._recent, node], node.strain, node.energy, fold)

    def balance_to(self, fold: Fold) -> Balance:
        """The first law from the last state to the fold."""
        return self._balance(self._recent, fold.strain_c, fold.glass.n_particles * fold.observables.energy, fold)

    def soft_direction(self) -> NDArray[np.float64]:
        """((N, 3) ndarray) direction in which the response grows fastest: close to a fold its critical mode, of any length.

        The response of each mode is -C / lambda; in its change from one state to the next the critical mode stands out against
        the others by one more power of its lambda.
        """
        velocity_nc = self.last.velocity
        return velocity_nc - self._recent[-2].velocity if len(self._recent) > 1 else velocity_nc

    def extrapolated(self, strain: float) -> Iterator[NDArray[np.float64]]:
        """Positions ((N, 3) ndarray [length]) at ``strain`` beyond the last state, from one, two, ... of the states behind."""
        for count in range(1, min(len(self._recent), _MOST_IN_GUESS) + 1):
            yield _hermite(self.last.state.glass, strain, self._recent[-count:], None)

    def interpolated(self, strain: float, fold: Fold) -> tuple[ShearState, NDArray[np.float64]]:
        """The nearest state kept that is not beyond ``strain``, and the positions ((N, 3) ndarray [length]) between it and the fold."""
        below = max(index for index, node in enumerate(self.nodes) if node.strain <= strain or index == 0)
        nodes = self.nodes[max(below - 1, 0) : below + 2]
        state = self.nodes[below].state
        return state, _hermite(state.glass, strain, nodes, fold)

    def _expected_velocity(self, state: ShearState) -> NDArray[np.float64]:
        """The velocity of a state beyond the last one by the polynomial through it and the states behind; zero without any."""
        velocity_nc = np.zeros_like(state.glass.positions)
        nodes = self._recent[-_MOST_IN_GUESS:]
        if not nodes:
            return velocity_nc
        moves, rates = _relative(state.glass, nodes)
        length = state.strain - nodes[-1].strain
        x_k = np.array([node.strain - state.strain for node in nodes]) / length
        # Values and slopes behind, the value at the state itself (zero), and as the functional the slope there.
        powers, slopes = _powers(x_k, 2 * len(nodes) + 1)
        rules = np.concatenate([powers, slopes, np.eye(1, 2 * len(nodes) + 1)])
        weight = np.linalg.solve(rules.T, np.eye(2 * len(nodes) + 1)[1])
        for move_nc, rate_nc, value, slope in zip(moves, rates, weight, weight[len(nodes) :], strict=False):
            velocity_nc += value / length * move_nc + slope * rate_nc
        return velocity_nc

    def _balance(self, nodes: Sequence[Node], end: float, energy: float, fold: Fold | None) -> Balance:
        start = self.last.strain
        x_k = np.array([node.strain for node in nodes])
        rate_k = np.array([node.work_rate for node in nodes])
        slope_k = np.array([node.stiffness for node in nodes])
        if fold is not None:
            # With x = -u: dU/dx = V sigma dgamma/dx, dgamma/dx = -2 x.
            x_k = -np.sqrt(fold.strain_c - x_k)
            slope_k = 4.0 * x_k**2 * slope_k - 2.0 * rate_k
            rate_k = -2.0 * x_k * rate_k
            x_k, rate_k = np.append(x_k, 0.0), np.append(rate_k, 0.0)
            slope_k = np.append(slope_k, -2.0 * fold.glass.box.volume * fold.observables.stress_xy)
            start, end = -math.sqrt(fold.strain_c - start), -math.sqrt(max(fold.strain_c - end, 0.0))
        work = _integral(x_k, rate_k, slope_k, start, end)
        if len(x_k) > 2:
            rougher = _integral(x_k[1:], rate_k[1:], slope_k[1:], start, end)
        else:
            rougher = 0.5 * (end - start) * float(rate_k.sum())
        return Balance(work - (energy - self.last.energy), abs(work - rougher))


def _integral(
    x_k: NDArray[np.float64], y_k: NDArray[np.float64], slope_k: NDArray[np.float64], start: float, end: float
) -> float:
    """Integral from ``start`` to ``end`` of the polynomial through values and slopes at the nodes."""
    length = end - start
    order = np.arange(2 * len(x_k))
    # The moments of the powers over [-1, 0].
    value_k, rate_k = _weights((x_k - end) / length, (-1.0) ** order / (order + 1.0))
    return float(length * (value_k @ y_k + length * (rate_k @ slope_k)))


def _hermite(reference: Glass, strain: float, nodes: Sequence[Node], fold: Fold | None) -> NDArray[np.float64]:
    """Positions ((N, 3) ndarray [length]) at ``strain`` of the polynomial through positions and velocities of the nodes."""
    moves, rates = _relative(reference, nodes)
    x_k = np.array([node.strain for node in nodes])
    x = strain
    if fold is not None:
        x_k, x = -np.sqrt(fold.strain_c - x_k), -math.sqrt(max(fold.strain_c - strain, 0.0))
        rates = [-2.0 * x_node * rate_nc for x_node, rate_nc in zip(x_k, rates, strict=True)]
        # By the normal form s = u sqrt(2 C / kappa) along the critical mode.
        rates.append(-math.sqrt(2.0 * fold.coupling / fold.kappa) * fold.mode)
        moves.append(without_drift(fold.glass.nonaffine_displacement(reference)))
        x_k = np.append(x_k, 0.0)
    scale = float(np.abs(x_k - x).max())
    if scale == 0.0:
        return np.asarray(reference.at_strain(strain).positions + moves[0])
    # The polynomial's value at the origin is its lowest coefficient.
    value_k, slope_k = _weights((x_k - x) / scale, np.eye(2 * len(x_k))[0])
    guess_nc = reference.at_strain(strain).positions.copy()
    for move_nc, rate_nc, value, slope in zip(moves, rates, value_k, slope_k, strict=True):
        guess_nc += value * move_nc + scale * slope * rate_nc
    return guess_nc


def _relative(reference: Glass, nodes: Sequence[Node]) -> tuple[list[NDArray[np.float64]], list[NDArray[np.float64]]]:
    """Non-affine displacement of each node since ``reference`` ((N, 3) ndarrays [length]), and its derivative by the strain."""
    moves = [without_drift(node.state.glass.nonaffine_displacement(reference)) for node in nodes]
    rates = [node.velocity.copy() for node in nodes]
    for rate_nc, move_nc in zip(rates, moves, strict=True):
        # The displacement since the reference is carried along by the shear.
        rate_nc[:, 0] += move_nc[:, 1]
    return moves, rates


def _weights(x_k: NDArray[np.float64], functional: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights ((K,) ndarrays) of values and slopes at the nodes that are exact for polynomials below degree 2 K.

    Args:
        x_k: ((K,) ndarray) the nodes.
        functional: ((2 K,) ndarray) what the rule shall give for the powers 0, 1, ..., 2 K - 1 of x.
    """
    power, derivative = _powers(x_k, 2 * len(x_k))
    weight = np.linalg.solve(np.concatenate([power, derivative]).T, functional)
    return weight[: len(x_k)], weight[len(x_k) :]


def _powers(x_k: NDArray[np.float64], count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """((K, count) ndarrays) the powers 0, 1, ... of the nodes, and their derivatives."""
    order = np.arange(count)
    power = x_k[:, None] ** order
    derivative = np.zeros_like(power)
    derivative[:, 1:] = order[1:] * power[:, :-1]
    return power, derivative
