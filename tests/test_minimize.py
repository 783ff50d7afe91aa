"""Minimisers: all reach the bottom and say how; the overdamped one follows the path of steepest descent."""

from __future__ import annotations

import math
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest

from qlm_hoomd.box import Box
from qlm_hoomd.errors import ConvergenceError
from qlm_hoomd.glass import Glass
from qlm_hoomd.mechanics import Mechanics, bonds_of
from qlm_hoomd.minimize import descent, fire, newton
from qlm_hoomd.minimize.descent import _OverdampedPath
from qlm_hoomd.minimize.surface import EnergySurface, max_norm
from qlm_hoomd.numerics import steps
from qlm_hoomd.potentials import InversePowerLaw, PairPotential

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from qlm_hoomd.minimize import MinimizeReport
    from qlm_hoomd.model import GlassModel

# The package's name for the module is that of its function.
descent_module = import_module("qlm_hoomd.minimize.descent")


@pytest.fixture
def mechanics(model: GlassModel, small_liquid: Glass) -> Mechanics:
    return Mechanics(model.potential, small_liquid.typeid, 0.3)


@pytest.fixture(scope="module")
def small_glass(model: GlassModel, small_liquid: Glass) -> Glass:
    return descent(Mechanics(model.potential, small_liquid.typeid, 0.3), small_liquid)[0]


def _shaken(glass: Glass, amplitude: float) -> Glass:
    return glass.moved(glass.positions + np.random.default_rng(8).normal(scale=amplitude, size=glass.positions.shape))


def _assert_minimum(model: GlassModel, start: Glass, end: Glass, report: MinimizeReport) -> None:
    bonds = bonds_of(end, model.potential)
    assert report.criterion == "max_force < 1e-10"
    assert report.max_force < 1e-10
    assert max_norm(bonds.forces) < 2e-10  # the same state in another order of summation
    assert report.energy == pytest.approx(bonds.energy, rel=1e-13)
    assert report.energy < bonds_of(start, model.potential).energy
    assert report.iterations > 0
    assert end.box == start.box
    assert end.strain == start.strain
    eigenvalues = np.linalg.eigvalsh(bonds.hessian().toarray())
    assert np.abs(eigenvalues[:3]).max() < 1e-9
    assert eigenvalues[3] > 1e-3


@pytest.mark.parametrize("strain", [0.0, 0.45])
@pytest.mark.parametrize("minimiser", [fire, descent])
def test_from_the_liquid(minimiser: Callable[..., Any], strain: float, model: GlassModel, small_liquid: Glass) -> None:
    start = small_liquid.at_strain(strain)
    mechanics = Mechanics(model.potential, start.typeid, 0.3)
    end, report = minimiser(mechanics, start)
    _assert_minimum(model, start, end, report)
    assert report.force_evaluations == mechanics.force_evaluations
    assert report.method == {fire: "fire", descent: "descent+newton"}[minimiser]


@pytest.mark.parametrize("minimiser", [fire, descent, newton])
def test_inside_a_basin_all_find_the_same_minimum(
    minimiser: Callable[..., Any], model: GlassModel, mechanics: Mechanics, small_glass: Glass
) -> None:
    start = _shaken(small_glass, 1e-3)
    end, report = minimiser(mechanics, start)
    _assert_minimum(model, start, end, report)
    moved_nc = end.nonaffine_displacement(small_glass)
    np.testing.assert_allclose(moved_nc - moved_nc.mean(axis=0), 0.0, atol=1e-8)
    if minimiser is newton:
        assert report.hessian_products > 0
        assert report.notes == ()


def test_a_minimum_is_left_alone(mechanics: Mechanics, small_glass: Glass) -> None:
    for minimiser in (fire, newton):
        end, report = minimiser(mechanics, small_glass, tolerance=1e-9)
        np.testing.assert_array_equal(end.positions, small_glass.positions)
        assert report.iterations == 0


def test_newton_does_not_drift(mechanics: Mechanics, small_glass: Glass) -> None:
    start = _shaken(small_glass, 1e-3)
    end, _ = newton(mechanics, start)
    np.testing.assert_allclose(end.positions.mean(axis=0), start.positions.mean(axis=0), atol=1e-13)


def test_newton_refuses_a_liquid(mechanics: Mechanics, small_liquid: Glass) -> None:
    with pytest.raises(ConvergenceError, match="newton stopped after") as caught:
        newton(mechanics, small_liquid)
    report = caught.value.report
    assert report.method == "newton"
    assert report.criterion == "none"
    assert report.max_force > 1.0
    assert report.notes
    assert report.notes[-1] in str(caught.value)


def test_newton_refuses_a_saddle() -> None:
    """A straight chain under compression is in equilibrium and buckles: negative curvature, whatever its forces."""
    chain_nc = np.zeros((8, 3))
    chain_nc[:, 0] = 1.25 * np.arange(8)
    start = _shaken(Glass(chain_nc, np.zeros(8, dtype=int), Box(10.0)), 1e-4)
    one_type = InversePowerLaw(n=10, q=3, x_c=1.48, lengths=((1.0,),))
    with pytest.raises(ConvergenceError, match="negative curvature"):
        newton(Mechanics(one_type, start.typeid), start)


def test_newton_keeps_its_reach(mechanics: Mechanics, small_glass: Glass) -> None:
    start = _shaken(small_glass, 5e-3)
    assert newton(mechanics, start, reach=0.1)[1].max_force < 1e-10
    with pytest.raises(ConvergenceError, match=r"displacement beyond 0\.001"):
        newton(mechanics, start, reach=1e-3)


@pytest.mark.parametrize(
    ("minimiser", "limit"), [(fire, {"max_iterations": 10}), (descent, {"max_steps": 3}), (newton, {"max_iterations": 1})]
)
def test_giving_up_raises_with_the_report(
    minimiser: Callable[..., Any], limit: dict[str, int], mechanics: Mechanics, small_liquid: Glass, small_glass: Glass
) -> None:
    start = _shaken(small_glass, 1e-3) if minimiser is newton else small_liquid
    with pytest.raises(ConvergenceError, match="expected less than 1e-10") as caught:
        minimiser(mechanics, start, **limit)
    assert caught.value.report.criterion == "none"
    assert caught.value.report.force_evaluations > 0


def test_descent_says_when_newton_took_over(mechanics: Mechanics, small_liquid: Glass) -> None:
    _, report = descent(mechanics, small_liquid, switch_force=1e-3)
    assert "descent to max|F|" in report.notes[-1]
    assert float(report.notes[-1].split("max|F| = ")[1].split(" ")[0]) < 1e-3


def test_descent_without_newton_reaches_the_bottom_too(mechanics: Mechanics, small_liquid: Glass) -> None:
    """With Newton never in its range the path itself ends at the same minimum."""
    end, report = descent(mechanics, small_liquid, tolerance=1e-6, switch_force=1e-6)
    assert report.method == "descent"
    assert report.max_force < 1e-6
    assert report.criterion == "max_force < 1e-06"
    short, _ = descent(mechanics, small_liquid)
    np.testing.assert_allclose(end.nonaffine_displacement(short), 0.0, atol=1e-5)


def _runge_kutta(mechanics: Mechanics, start: Glass, positions_nc: NDArray[np.float64], duration: float) -> NDArray[np.float64]:
    """dr/dt = F by the classical fourth-order method with steps of at most 2.5e-4: far more accurate than what it checks."""
    n_steps = math.ceil(duration / 2.5e-4)
    dt = duration / n_steps

    def force(r_nc: NDArray[np.float64]) -> NDArray[np.float64]:
        return mechanics.energy_forces(r_nc, start.box)[1]

    for _ in range(n_steps):
        k1 = force(positions_nc)
        k2 = force(positions_nc + 0.5 * dt * k1)
        k3 = force(positions_nc + 0.5 * dt * k2)
        k4 = force(positions_nc + dt * k3)
        positions_nc = positions_nc + dt / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4)
    return positions_nc


def _largest_error(mechanics: Mechanics, start: Glass, accuracy: float) -> tuple[float, int]:
    """Largest distance of a particle from the true path at five times up to 1, and the number of steps."""
    path = _OverdampedPath(EnergySurface(mechanics, start), start.positions, accuracy)
    true_nc, time, error = start.positions.copy(), 0.0, 0.0
    for checkpoint in (0.01, 0.03, 0.1, 0.3, 1.0):
        while path.time < checkpoint:
            path.advance()
        true_nc, time = _runge_kutta(mechanics, start, true_nc, path.time - time), path.time
        error = max(error, float(np.linalg.norm(path.positions_nc - true_nc, axis=1).max()))
    return error, path.n_steps


def test_descent_follows_the_steepest_descent_path(mechanics: Mechanics, small_liquid: Glass) -> None:
    """On the way down particles move by tenths; the error is some local errors, and falls about as the square of the step."""
    coarse, coarse_steps = _largest_error(mechanics, small_liquid, 1e-2)
    fine, fine_steps = _largest_error(mechanics, small_liquid, 1e-4)
    assert coarse < 3e-2
    assert fine < 3e-3
    assert math.log(coarse / fine) > 1.6 * math.log(fine_steps / coarse_steps)


def test_descent_ends_where_small_euler_steps_end(mechanics: Mechanics, small_liquid: Glass) -> None:
    """The paper's overdamped dynamics, dt = 3e-4, down to max|F| = 1e-3: the same minimum."""
    positions_nc = small_liquid.positions.copy()
    force_nc = mechanics.energy_forces(positions_nc, small_liquid.box)[1]
    while max_norm(force_nc) > 1e-3:
        positions_nc += 3e-4 * force_nc
        force_nc = mechanics.energy_forces(positions_nc, small_liquid.box)[1]
    reference, _ = newton(mechanics, small_liquid.moved(positions_nc))
    end, _ = descent(mechanics, small_liquid)
    np.testing.assert_allclose(end.nonaffine_displacement(reference), 0.0, atol=1e-6)
    assert np.linalg.norm(end.nonaffine_displacement(small_liquid), axis=1).max() > 0.1


def _assert_same(end: Glass, reference: Glass, largest: float = 1e-6) -> None:
    moved_nc = end.nonaffine_displacement(reference)
    np.testing.assert_allclose(moved_nc - moved_nc.mean(axis=0), 0.0, atol=largest)


def test_after_an_instability_descent_ends_where_small_euler_steps_end(
    mechanics: Mechanics, small_glass: Glass, beyond_instability: Callable[[Glass, float], Glass]
) -> None:
    start = beyond_instability(small_glass, 3e-4)
    end, report = descent(mechanics, start)
    time = float(report.notes[-1].split("t = ")[1].split(",")[0])
    positions_nc = start.positions.copy()
    for _ in range(round(1.1 * time / 5e-4)):
        positions_nc += 5e-4 * mechanics.energy_forces(positions_nc, start.box)[1]
    reference, _ = newton(mechanics, start.moved(positions_nc), reach=0.02)
    _assert_same(end, reference)
    assert np.linalg.norm(end.nonaffine_displacement(start), axis=1).max() > 0.05


def test_the_ghost_of_a_minimum_is_crossed_by_implicit_steps(
    mechanics: Mechanics,
    small_glass: Glass,
    beyond_instability: Callable[[Glass, float], Glass],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A hair beyond the fold the state lingers for thousands of time units: few implicit steps, and the same end."""
    start = beyond_instability(small_glass, 1e-7)
    end, report = descent(mechanics, start)
    time = float(report.notes[-1].split("t = ")[1].split(",")[0])
    monkeypatch.setattr(descent_module, "_FEWEST_STAGES", 10**9)
    explicit, explicit_report = descent(mechanics, start, accuracy=1e-5)
    _assert_same(end, explicit)
    assert report.energy == pytest.approx(explicit_report.energy, rel=1e-12)
    assert time > 300.0
    # Explicit steps are bound by stability: their cost grows with the time, whatever the accuracy.
    assert report.force_evaluations < 0.5 * explicit_report.force_evaluations
    assert report.force_evaluations + 0.5 * report.hessian_products < explicit_report.force_evaluations


def test_fire_finishes_with_newton_where_it_may(mechanics: Mechanics, small_liquid: Glass) -> None:
    plain, _ = fire(mechanics, small_liquid)
    end, report = fire(mechanics, small_liquid, switch_force=1e-4)
    assert report.method == "fire+newton"
    assert report.hessian_products > 0
    _assert_same(end, plain)


@pytest.mark.parametrize("minimiser", [fire, descent])
def test_a_tolerance_below_rounding_ends_in_an_error(
    minimiser: Callable[..., Any], mechanics: Mechanics, small_glass: Glass
) -> None:
    """Nobody can tell rounding from a ghost by the force alone: it must end, and carry the report."""
    limits = {fire: {"switch_force": 1e-4}, descent: {}}[minimiser]
    with pytest.raises(ConvergenceError, match="expected less than 1e-18") as caught:
        minimiser(mechanics, _shaken(small_glass, 1e-3), tolerance=1e-18, **limits)
    assert caught.value.report.max_force < 1e-10
    assert caught.value.report.force_evaluations < 20_000


class Lying(PairPotential):
    """A pair potential whose forces are not those of its energy."""

    kind: Literal["lying"] = "lying"
    truth: InversePowerLaw
    factor: float

    def cutoffs(self) -> NDArray[np.float64]:
        return self.truth.cutoffs()

    def derivatives(self, r2_p: NDArray[np.float64], pairtype_p: NDArray[np.uint8], order: int) -> NDArray[np.float64]:
        phi_kp = self.truth.derivatives(r2_p, pairtype_p, order)
        phi_kp[1] *= self.factor
        return phi_kp


@pytest.mark.parametrize("factor", [-1.0, math.nan])
def test_forces_that_lead_nowhere_end_in_an_error(factor: float, model: GlassModel, small_liquid: Glass) -> None:
    mechanics = Mechanics(Lying(truth=model.potential, factor=factor), small_liquid.typeid, 0.3)
    for minimiser in (descent, fire):
        with pytest.raises(ConvergenceError) as caught:
            minimiser(mechanics, small_liquid, **_LIMITS[minimiser])
        assert caught.value.report.criterion == "none"
        assert caught.value.report.notes


_LIMITS: dict[Callable[..., Any], dict[str, int]] = {descent: {"max_steps": 1000}, fire: {"max_iterations": 2000}}


def test_a_fall_that_never_ends_is_given_up(mechanics: Mechanics, small_liquid: Glass) -> None:
    with pytest.raises(ConvergenceError, match="still falling after 50 evaluations") as caught:
        descent(mechanics, small_liquid, max_evaluations=50)
    assert 50 <= caught.value.report.force_evaluations < 200


def test_a_fall_without_progress_is_given_up(mechanics: Mechanics, small_glass: Glass) -> None:
    """The energy has reached its rounding and the force has not reached the tolerance."""
    with pytest.raises(ConvergenceError, match="too small for rounding"):
        fire(mechanics, small_glass, tolerance=1e-18)


@pytest.mark.parametrize("shift", [1e-3, 1.0, 1e3])
def test_shifted_hessian_is_solved(shift: float, model: GlassModel, small_glass: Glass) -> None:
    bonds = bonds_of(small_glass, model.potential)
    matrix = bonds.hessian().toarray() + shift * np.eye(3 * bonds.n_particles)
    rng = np.random.default_rng(4)
    right_nc, guess_nc = rng.normal(size=(2, bonds.n_particles, 3))
    solution_nc, n_products, definite = descent_module._ShiftedHessian(bonds, shift).solve(right_nc, guess_nc, 1e-7)
    assert definite
    assert n_products > 1
    assert np.linalg.norm(solution_nc.ravel() - np.linalg.solve(matrix, right_nc.ravel())) < 1e-7


def test_shifted_hessian_sees_that_it_is_not_positive(model: GlassModel, small_liquid: Glass) -> None:
    bonds = bonds_of(small_liquid, model.potential)
    lowest = np.linalg.eigvalsh(bonds.hessian().toarray())[0]
    assert lowest < -10.0
    right_nc = np.random.default_rng(4).normal(size=(bonds.n_particles, 3))
    for factor, expected in ((1.1, True), (0.9, False)):
        system = descent_module._ShiftedHessian(bonds, -factor * lowest)
        assert system.solve(right_nc, np.zeros_like(right_nc), 1e-9)[2] is expected


class DenseShifted:
    """H + shift, solved directly."""

    def __init__(self, matrix: NDArray[np.float64]) -> None:
        self.matrix = matrix

    def solve(
        self, right_nc: NDArray[np.float64], _guess_nc: NDArray[np.float64], _error: float
    ) -> tuple[NDArray[np.float64], int, bool]:
        return np.linalg.solve(self.matrix, right_nc.ravel()).reshape(-1, 3), 1, True


class Quadratic:
    """U = x.H.x / 2 with a spectrum as stiff as a glass's, on which dr/dt = F is solved by exp(-H t)."""

    def __init__(self, n_particles: int = 20) -> None:
        rng = np.random.default_rng(0)
        self.vectors, _ = np.linalg.qr(rng.normal(size=(3 * n_particles, 3 * n_particles)))
        self.eigenvalues = np.geomspace(0.1, 1500.0, 3 * n_particles)
        self.matrix = (self.vectors * self.eigenvalues) @ self.vectors.T
        self.start_nc = rng.normal(scale=0.1, size=(n_particles, 3))
        self.force_evaluations = self.hessian_products = 0

    def energy_forces(self, positions_nc: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        force_d = -self.matrix @ positions_nc.ravel()
        return float(-0.5 * force_d @ positions_nc.ravel()), force_d.reshape(-1, 3)

    def chebyshev_step(
        self, start_nc: NDArray[np.float64], force_nc: NDArray[np.float64], coefficients: steps.Coefficients, step: float
    ) -> NDArray[np.float64]:
        return steps.chebyshev_step(lambda there_nc: self.energy_forces(there_nc)[1], start_nc, force_nc, coefficients, step)

    def bonds(self, _positions_nc: NDArray[np.float64]) -> Quadratic:
        return self

    def largest_eigenvalue(self) -> float:
        return float(self.eigenvalues.max())

    def shifted(self, shift: float) -> DenseShifted:
        return DenseShifted(self.matrix + shift * np.eye(len(self.matrix)))

    def solution(self, time: float) -> NDArray[np.float64]:
        amplitudes = np.exp(-self.eigenvalues * time) * (self.vectors.T @ self.start_nc.ravel())
        return np.asarray(self.vectors @ amplitudes).reshape(-1, 3)


@pytest.mark.parametrize("accuracy", [1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("fewest_stages", [5, 10**9], ids=["implicit", "explicit"])
def test_overdamped_path_on_a_quadratic_form(accuracy: float, fewest_stages: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descent_module, "_FEWEST_STAGES", fewest_stages)
    monkeypatch.setattr(descent_module, "_ShiftedHessian", lambda form, shift: form.shifted(shift))
    form = Quadratic()
    path = _OverdampedPath(form, form.start_nc, accuracy)  # type: ignore[arg-type]
    largest_step = 0.0
    while path.time < 5.0:
        before = path.time
        path.advance()
        largest_step = max(largest_step, path.time - before)
        error = np.linalg.norm(path.positions_nc - form.solution(path.time), axis=1).max()
        assert error < 10.0 * accuracy
    assert (form.hessian_products > 0) is (fewest_stages == 5)
    # Stabilised: the steps are far beyond what explicit Euler bears, 2 / 1500.
    assert largest_step > 10.0 * 2.0 / 1500.0
