"""The Hessian's gate and the linear solver."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from qlm_hoomd.errors import ConvergenceError, InputError, NotComputedError
from qlm_hoomd.glass import Glass
from qlm_hoomd.hessian import Hessian, solve
from qlm_hoomd.mechanics import bonds_of

if TYPE_CHECKING:
    from qlm_hoomd.mechanics import Bonds
    from qlm_hoomd.model import GlassModel


@pytest.fixture(scope="module")
def bonds(model: GlassModel, quenched: Glass) -> Bonds:
    return bonds_of(quenched, model.potential)


def test_a_glass_that_is_not_at_rest_is_refused(model: GlassModel, quenched: Glass) -> None:
    positions_nc = quenched.positions.copy()
    positions_nc[0, 0] += 1e-6
    moved = quenched.moved(positions_nc)
    with pytest.raises(InputError, match=r"max\|F\| = .* expected at most 1e-08 for a Hessian\. Relax it first"):
        Hessian(model.potential).compute(moved)
    loose = Hessian(model.potential, force_tolerance=1e-2).compute(moved)
    assert loose.matrix.shape == (1500, 1500)


def test_nothing_to_ask_before_compute(model: GlassModel) -> None:
    hessian = Hessian(model.potential, order=3)
    with pytest.raises(NotComputedError, match=r"call of compute\(glass\) first"):
        _ = hessian.matrix
    assert "order=3" in repr(hessian)


def test_order_decides_which_contractions_there_are(model: GlassModel, quenched: Glass) -> None:
    for order in (2, 3, 4):
        assert Hessian(model.potential, order=order).compute(quenched).bonds.phi_kp.shape[0] == order + 1


def test_a_quenched_glass_is_a_minimum(bonds: Bonds) -> None:
    assert np.linalg.norm(bonds.forces, axis=1).max() < 2e-10
    eigenvalues = np.linalg.eigvalsh(bonds.hessian().toarray())
    assert np.abs(eigenvalues[:3]).max() < 1e-9
    assert eigenvalues[3] > 1e-2


def test_solve_inverts_the_hessian(bonds: Bonds) -> None:
    right_nc = np.random.default_rng(0).normal(size=(bonds.n_particles, 3)) + 1.0
    solution_nc = solve(bonds, right_nc, tolerance=1e-12)
    np.testing.assert_allclose(solution_nc.mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(bonds.product(solution_nc), right_nc - right_nc.mean(axis=0), atol=1e-9)


def test_solve_with_nothing_on_the_right(bonds: Bonds) -> None:
    """A crystal has no mixed derivative at all: the answer is zero, not an error."""
    np.testing.assert_array_equal(solve(bonds, np.zeros((bonds.n_particles, 3))), 0.0)
    np.testing.assert_allclose(solve(bonds, np.ones((bonds.n_particles, 3))), 0.0, atol=1e-12)


def test_solve_says_when_there_is_no_minimum(model: GlassModel, liquid: Glass) -> None:
    right_nc = np.random.default_rng(0).normal(size=liquid.positions.shape)
    with pytest.raises(ConvergenceError, match="saddle"):
        solve(bonds_of(liquid, model.potential), right_nc)


def test_solve_says_when_it_gives_up(bonds: Bonds) -> None:
    with pytest.raises(ConvergenceError, match="no convergence in 5 products"):
        solve(bonds, np.random.default_rng(0).normal(size=(bonds.n_particles, 3)), max_products=5)
