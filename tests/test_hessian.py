"""The Hessian's gate, the linear solver, and elastic moduli against the response of the relaxed glass."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pytest

from qlm_hoomd.box import Box
from qlm_hoomd.errors import ConvergenceError, InputError
from qlm_hoomd.glass import Glass
from qlm_hoomd.hessian import ElasticModuli, Hessian, elastic_moduli, solve
from qlm_hoomd.mechanics import DILATION, SHEAR_XY, SHEAR_XZ, SHEAR_YZ, Mechanics, bonds_of
from qlm_hoomd.minimize import newton

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
    with pytest.raises(InputError, match=r"call compute\(glass\) first"):
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


def _deformed(glass: Glass, model: GlassModel, gradient_cc: np.ndarray, step: float) -> Bonds:
    """The glass deformed in a lattice that the box class does not know, relaxed there: pairs by brute force on a copy."""
    mechanics = Mechanics(model.potential, glass.typeid, 0.2)
    if gradient_cc is SHEAR_XY:
        glass = glass.sheared(step)
    elif gradient_cc is DILATION:
        glass = Glass(glass.positions * (1.0 + step), glass.typeid, Box(glass.box.length * (1.0 + step)))
    else:
        # Rename the axes so that the shear plane becomes xy: the energy does not know their names.
        axes = {"xz": [0, 2, 1], "yz": [1, 2, 0]}["xz" if gradient_cc is SHEAR_XZ else "yz"]
        glass = Glass(glass.positions[:, axes], glass.typeid, glass.box).sheared(step)
    relaxed, _ = newton(mechanics, glass)
    return mechanics.bonds(relaxed.positions, relaxed.box)


def test_shear_modulus_is_the_slope_of_the_stress(model: GlassModel, quenched: Glass, bonds: Bonds) -> None:
    moduli, step = elastic_moduli(bonds), 2e-6
    slopes = []
    for plane in (SHEAR_XY, SHEAR_XZ, SHEAR_YZ):
        up, down = (_deformed(quenched, model, plane, sign * step).stress_xy for sign in (1, -1))
        slopes.append((up - down) / (2 * step))
    assert moduli.shear_modulus == pytest.approx(slopes[0], rel=1e-5)
    assert moduli.shear_modulus_mean == pytest.approx(np.mean(slopes), rel=1e-5)
    assert moduli.shear_modulus_mean < moduli.born_shear_modulus


def test_bulk_modulus_is_the_slope_of_the_pressure(model: GlassModel, quenched: Glass, bonds: Bonds) -> None:
    step = 1e-6
    up, down = (_deformed(quenched, model, DILATION, sign * step).pressure for sign in (1, -1))
    # V = V0 (1 + eps)^3, so -V dp/dV = -(dp/deps) / 3.
    assert elastic_moduli(bonds).bulk_modulus == pytest.approx(-(up - down) / (2 * step) / 3.0, rel=1e-5)


def test_moduli_of_a_crystal_are_affine(model: GlassModel) -> None:
    """Every particle of a cubic lattice is a centre of symmetry: no non-affine part, and three equal shear moduli."""
    offsets_nc = np.array(list(product(range(4), repeat=3)), dtype=float)
    basis_nc = np.array([(0.0, 0.0, 0.0), (0.5, 0.5, 0.0), (0.5, 0.0, 0.5), (0.0, 0.5, 0.5)])
    positions_nc = (offsets_nc[:, None, :] + basis_nc).reshape(-1, 3)
    length = (len(positions_nc) / 0.82) ** (1 / 3)
    crystal = Glass(positions_nc * length / 4, np.ones(len(positions_nc), dtype=int), Box(length))
    moduli = elastic_moduli(bonds_of(crystal, model.potential))
    assert moduli.shear_modulus == pytest.approx(moduli.born_shear_modulus, rel=1e-9)
    assert moduli.shear_modulus_mean == pytest.approx(moduli.shear_modulus, rel=1e-9)
    assert moduli.shear_modulus > 0.0
    step = 1e-5
    up, down = (
        bonds_of(
            Glass(crystal.positions * (1.0 + sign * step), crystal.typeid, Box(length * (1.0 + sign * step))), model.potential
        ).pressure
        for sign in (1, -1)
    )
    assert moduli.bulk_modulus == pytest.approx(-(up - down) / (2 * step) / 3.0, rel=1e-7)


def test_moduli_of_a_saddle_are_refused(model: GlassModel, liquid: Glass) -> None:
    with pytest.raises(ConvergenceError, match="saddle"):
        elastic_moduli(bonds_of(liquid, model.potential))


def test_sound_speeds() -> None:
    transverse, longitudinal = ElasticModuli(3.0, 2.0, 9.0, 10.0).sound_speeds(0.5)
    assert transverse == pytest.approx(2.0)
    assert longitudinal == pytest.approx(np.sqrt((10.0 + 8.0 / 3.0) / 0.5))
