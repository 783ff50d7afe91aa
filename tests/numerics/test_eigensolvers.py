"""The filter where it is hard: crystals, rattlers, loose clusters; its operator against the plain one; inertia counts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from qlm_hoomd.box import Box
from qlm_hoomd.errors import ConvergenceError
from qlm_hoomd.glass import Glass
from qlm_hoomd.mechanics import bonds_of
from qlm_hoomd.numerics import eigensolvers

if TYPE_CHECKING:
    from qlm_hoomd.mechanics import Bonds
    from qlm_hoomd.model import GlassModel


@pytest.fixture(scope="module")
def bonds(model: GlassModel, quenched: Glass) -> Bonds:
    return bonds_of(quenched, model.potential)


@pytest.fixture(scope="module")
def crystal(model: GlassModel) -> Bonds:
    """500 equal particles on the sites of a face-centred cubic crystal."""
    cells = np.stack(np.meshgrid(*[np.arange(5)] * 3, indexing="ij"), axis=-1).reshape(-1, 1, 3)
    corners = np.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.0, 0.5, 0.5]])
    box = Box((500 / model.density) ** (1.0 / 3.0))
    positions_nc = (cells + corners).reshape(-1, 3) * box.length / 5.0
    return bonds_of(Glass(box.wrap(positions_nc), np.zeros(500, np.int32), box), model.potential)


def _cut_loose(bonds: Bonds, particles: list[int]) -> Bonds:
    """Without the pairs between ``particles`` and the others."""
    kept = np.isin(bonds.i_p, particles) == np.isin(bonds.j_p, particles)
    run_p = np.repeat(np.arange(len(bonds.owner_r)), np.diff(bonds.first_r))[kept]
    first_r = np.concatenate([[0], np.cumsum(np.bincount(run_p, minlength=len(bonds.owner_r)))])
    return replace(
        bonds, i_p=bonds.i_p[kept], j_p=bonds.j_p[kept], first_r=first_r, r_pc=bonds.r_pc[kept], phi_kp=bonds.phi_kp[:, kept]
    )


def _all_but_translations(bonds: Bonds) -> np.ndarray:
    matrix_dd = bonds.hessian().toarray()
    matrix_dd += 1e4 * np.tile(np.eye(3), (bonds.n_particles, bonds.n_particles)) / bonds.n_particles
    return np.linalg.eigvalsh(matrix_dd)


def test_block_products_are_those_of_the_bonds(bonds: Bonds) -> None:
    hessian = eigensolvers.BlockHessian(bonds)
    vector_mnc = np.random.default_rng(0).normal(size=(11, bonds.n_particles, 3))
    vector_mnc -= vector_mnc.mean(axis=1, keepdims=True)
    expected = np.stack([bonds.product(vector_nc) for vector_nc in vector_mnc])
    np.testing.assert_allclose(hessian.embedded(hessian.product(hessian.ordered(vector_mnc))), expected, atol=1e-10)


def test_the_filter_is_its_polynomial(bonds: Bonds) -> None:
    hessian = eigensolvers.BlockHessian(bonds)
    low, cut, top = 0.0, 30.0, 1.05 * bonds.largest_eigenvalue()
    polynomial = eigensolvers.Chebyshev.above(low, cut, top)
    vector_mnc, _ = eigensolvers.by_lapack(bonds, 20)
    eigenvalue_m, vector_mnc, _ = eigensolvers.rayleigh_ritz(bonds, vector_mnc)
    x_m = (polynomial.centre - eigenvalue_m) / polynomial.half
    expected_m = np.cosh(polynomial.degree * np.arccosh(x_m))
    filtered_md = hessian.filtered(hessian.ordered(vector_mnc), polynomial)
    np.testing.assert_allclose(filtered_md, expected_m[:, None] * hessian.ordered(vector_mnc), atol=1e-9 * expected_m[0])
    assert expected_m[0] > 20.0


def test_degenerate_levels_are_complete(crystal: Bonds) -> None:
    """The lowest level of the crystal has twelve modes, more than a block has vectors; 30 cuts through a level."""
    expected = _all_but_translations(crystal)
    assert np.ptp(expected[:12]) < 1e-9 * expected[0]
    assert expected[12] > 1.01 * expected[0]
    for k in (5, 12, 30):
        eigenvalue_m, vector_mnc, residual_m = eigensolvers.rayleigh_ritz(crystal, eigensolvers.by_filter(crystal, k)[0])
        np.testing.assert_allclose(eigenvalue_m, expected[:k], rtol=1e-10)
        vector_md = vector_mnc.reshape(k, -1)
        np.testing.assert_allclose(vector_md @ vector_md.T, np.eye(k), atol=1e-10)
        assert eigensolvers.missed_by_inertia(crystal, eigenvalue_m, residual_m.max()) == 0
    assert eigensolvers.missed_by_inertia(crystal, expected[3:30], 1e-9) == 3


@pytest.mark.parametrize("loose", [[[7], [100], [101], [499]], [[3, 4], [9]]])
def test_rattlers_and_loose_clusters_have_their_zero_modes(loose: list[list[int]], bonds: Bonds) -> None:
    cut = bonds
    for particles in loose:
        cut = _cut_loose(cut, particles)
    expected = _all_but_translations(cut)
    for k in (2, 3 * len(loose), 30):
        eigenvalue_m, vector_mnc, residual_m = eigensolvers.rayleigh_ritz(cut, eigensolvers.by_filter(cut, k)[0])
        np.testing.assert_allclose(eigenvalue_m, expected[:k], rtol=1e-9, atol=1e-9)
        vector_md = vector_mnc.reshape(k, -1)
        np.testing.assert_allclose(vector_md @ vector_md.T, np.eye(k), atol=1e-10)
        assert np.abs(vector_mnc.sum(axis=1)).max() < 1e-9
        assert residual_m.max() < 1e-6


def test_particles_that_never_meet_have_nothing_but_zero_modes(model: GlassModel) -> None:
    box = Box(40.0)
    gas = Glass(box.wrap(np.random.default_rng(1).permutation(27)[:, None] * [5.0, 5.0, 1.0]), np.zeros(27, np.int32), box)
    empty = bonds_of(gas, model.potential)
    assert empty.n_pairs == 0
    vector_mnc, _ = eigensolvers.by_filter(empty, 9)
    vector_md = vector_mnc.reshape(9, -1)
    np.testing.assert_allclose(vector_md @ vector_md.T, np.eye(9), atol=1e-12)
    assert np.abs(vector_mnc.sum(axis=1)).max() < 1e-12


def test_inertia_counts_what_is_missing(bonds: Bonds) -> None:
    expected = _all_but_translations(bonds)
    assert eigensolvers.missed_by_inertia(bonds, expected[:40], 1e-8) == 0
    assert eigensolvers.missed_by_inertia(bonds, np.delete(expected, [0, 17])[:38], 1e-8) == 2
    # A window of one mode leaves the count at everything below it.
    assert eigensolvers.missed_by_inertia(bonds, expected[:1], 1e-8) == 0
    assert eigensolvers.missed_by_inertia(bonds, expected[5:6], 1e-8) == 5


@pytest.mark.parametrize("k", [1, 6, 11, 14])
def test_inertia_counts_beside_the_zero_modes_of_rattlers(k: int, bonds: Bonds) -> None:
    """The window ends among them, or above."""
    cut = _cut_loose(_cut_loose(_cut_loose(_cut_loose(bonds, [7]), [100]), [101]), [499])
    eigenvalue_m, _, residual_m = eigensolvers.rayleigh_ritz(cut, eigensolvers.by_filter(cut, k)[0])
    assert eigensolvers.missed_by_inertia(cut, eigenvalue_m, residual_m.max()) == 0
    stiff_m = np.array([value for value in _all_but_translations(cut) if value > 1e-6])
    assert eigensolvers.missed_by_inertia(cut, stiff_m[:3], 1e-9) >= 12


def test_a_factor_that_does_not_exist_says_so(bonds: Bonds) -> None:
    empty = replace(bonds, phi_kp=np.zeros_like(bonds.phi_kp))
    assert empty.largest_eigenvalue() == 0.0
    with pytest.raises(ConvergenceError, match="singular"):
        eigensolvers._factored(empty.hessian().tocsc(), 0.0)


def test_inertia_refuses_what_the_factor_cannot_tell(bonds: Bonds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eigensolvers, "_factor_error", lambda *_: 1.0)
    with pytest.raises(ConvergenceError, match="too inaccurate to count"):
        eigensolvers.missed_by_inertia(bonds, _all_but_translations(bonds)[:5], 1e-8)


def test_a_window_too_large_for_blocks_says_so(bonds: Bonds) -> None:
    with pytest.raises(ConvergenceError, match="dense"):
        eigensolvers.by_filter(bonds, 1300)
