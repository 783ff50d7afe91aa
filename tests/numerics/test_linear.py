"""The linear system of a Newton step: the true solution to the accuracy asked for, and a warning where there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from qlm_hoomd.box import Box
from qlm_hoomd.glass import Glass
from qlm_hoomd.mechanics import Bonds, Mechanics, bonds_of
from qlm_hoomd.minimize import descent
from qlm_hoomd.minimize.linear import LinearSystem
from qlm_hoomd.minimize.surface import max_norm, without_drift
from qlm_hoomd.potentials import InversePowerLaw

if TYPE_CHECKING:
    from qlm_hoomd.model import GlassModel

ONE_TYPE = InversePowerLaw(n=10, q=3, x_c=1.48, lengths=((1.0,),))


@pytest.fixture(scope="module")
def bonds(model: GlassModel, small_liquid: Glass) -> Bonds:
    return bonds_of(descent(Mechanics(model.potential, small_liquid.typeid, 0.3), small_liquid)[0], model.potential)


def _right(bonds: Bonds) -> np.ndarray:
    return without_drift(np.random.default_rng(1).normal(size=(bonds.n_particles, 3)))


@pytest.mark.parametrize("accuracy", [1e-1, 1e-3, 1e-6, 1e-10])
def test_no_residual_is_longer_than_asked(accuracy: float, bonds: Bonds) -> None:
    right_nc = _right(bonds)
    solution = LinearSystem(bonds).solve(right_nc, accuracy * max_norm(right_nc), 1000)
    assert not solution.negative
    left = max_norm(bonds.product(solution.x_nc) - right_nc)
    # No longer than asked, and not much shorter, which would be work for nothing.
    assert 0.02 * accuracy < left / max_norm(right_nc) < 1.001 * accuracy


def test_solution_is_that_of_dense_algebra(bonds: Bonds) -> None:
    right_nc = _right(bonds)
    expected = np.linalg.pinv(bonds.hessian().toarray(), rcond=1e-10) @ right_nc.ravel()
    x_nc = without_drift(LinearSystem(bonds).solve(right_nc, 1e-11, 1000).x_nc)
    np.testing.assert_allclose(x_nc.ravel(), expected, atol=1e-8 * np.abs(expected).max())


def test_preconditioner_is_the_product_of_its_triangles(bonds: Bonds) -> None:
    n, order_s, right_nc = bonds.n_particles, bonds.owner_r, _right(bonds)
    there_d = (3 * order_s[:, None] + np.arange(3)).ravel()
    dense = bonds.hessian().toarray()[np.ix_(there_d, there_d)]
    same = np.kron(np.eye(n), np.ones((3, 3)))
    lower = np.where(same > 0, dense, np.tril(dense))
    m = lower @ np.linalg.inv(dense * same) @ lower.T
    expected_sc = np.linalg.solve(m, right_nc[order_s].ravel()).reshape(n, 3)
    found_nc = LinearSystem(bonds).preconditioned(right_nc)
    np.testing.assert_allclose(found_nc[order_s], expected_sc, atol=1e-12 * np.abs(expected_sc).max())


def test_tighter_takes_longer_and_the_limit_holds(bonds: Bonds) -> None:
    system, right_nc = LinearSystem(bonds), _right(bonds)
    counts = [system.solve(right_nc, target, 1000).n_products for target in (1e-1, 1e-4, 1e-8)]
    assert 0 < counts[0] < counts[1] < counts[2]
    short = system.solve(right_nc, 1e-8, 5)
    assert (short.n_products, short.negative) == (5, False)


def test_nothing_to_solve(bonds: Bonds) -> None:
    solution = LinearSystem(bonds).solve(np.zeros((bonds.n_particles, 3)), 1e-10, 1000)
    assert (solution.n_products, solution.negative) == (0, False)
    assert not solution.x_nc.any()


def test_a_compressed_chain_is_negative() -> None:
    """Transverse blocks of a straight chain under compression are negative."""
    chain_nc = np.zeros((8, 3))
    chain_nc[:, 0] = 1.25 * np.arange(8)
    chain = bonds_of(Glass(chain_nc, np.zeros(8, dtype=int), Box(10.0)), ONE_TYPE)
    assert LinearSystem(chain).solve(_right(chain), 1e-10, 1000).negative


def test_negative_curvature_behind_positive_blocks_is_met(bonds: Bonds) -> None:
    """Pulling the softest mode below zero leaves every diagonal block positive; conjugate gradients see it all the same."""
    stressed = Bonds(
        bonds.i_p, bonds.j_p, bonds.owner_r, bonds.first_r, bonds.r_pc,
        np.array([bonds.phi_kp[0], 4.0 * bonds.phi_kp[1], bonds.phi_kp[2]]), bonds.n_particles, bonds.volume,
    )  # fmt: skip
    assert np.linalg.eigvalsh(stressed.hessian().toarray())[0] < -1.0
    assert LinearSystem(stressed).solve(_right(stressed), 1e-10, 1000).negative


def test_a_rattler_stays_where_it_is() -> None:
    """Four particles in touch and one far from all: its empty block is no negative curvature."""
    positions_nc = np.array([[0.0, 0.0, 0.0], [1.2, 0.0, 0.0], [0.6, 1.1, 0.0], [0.6, 0.4, 1.0], [4.0, 4.0, 4.0]])
    lone = bonds_of(Glass(positions_nc, np.zeros(5, dtype=int), Box(10.0)), ONE_TYPE)
    # Without pre-stress nothing is negative: the energy is that of springs at rest.
    springs = Bonds(
        lone.i_p, lone.j_p, lone.owner_r, lone.first_r, lone.r_pc,
        np.array([lone.phi_kp[0], np.zeros(lone.n_pairs), lone.phi_kp[2]]), 5, lone.volume,
    )  # fmt: skip
    right_nc = springs.product(np.random.default_rng(3).normal(size=(5, 3)))
    solution = LinearSystem(springs).solve(right_nc, 1e-9, 1000)
    assert not solution.negative
    assert not solution.x_nc[4].any()
    np.testing.assert_allclose(springs.product(solution.x_nc), right_nc, atol=2e-9)
