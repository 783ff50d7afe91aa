"""Lowest modes against LAPACK on the full Hessian, closed forms of the participation ratio, and the stage's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from qlm_hoomd.engines.cpu import CPUEngineSettings
from qlm_hoomd.errors import InputError
from qlm_hoomd.glass import Glass
from qlm_hoomd.hessian import Hessian
from qlm_hoomd.mechanics import bonds_of
from qlm_hoomd.modes import LowestModes, ParticipationRatioFilter, mode_rows, participation_ratio
from qlm_hoomd.preparation import random_start

if TYPE_CHECKING:
    from qlm_hoomd.model import GlassModel

SOLVERS = ("dense", "factor", "filter")


@pytest.fixture(scope="module")
def glass(model: GlassModel) -> Glass:
    """A minimum of 150 particles: LAPACK finds all its modes at once."""
    engine, rng = CPUEngineSettings().build(model), np.random.default_rng(9)
    liquid, _ = engine.run(random_start(model, 150, rng), duration=1.0, temperature=model.T0, rng=rng)
    return engine.descend(liquid)[0]


@pytest.fixture(scope="module")
def hessian(model: GlassModel, glass: Glass) -> Hessian:
    return Hessian(model.potential, order=4).compute(glass)


@pytest.fixture(scope="module")
def spectrum(hessian: Hessian) -> np.ndarray:
    """All eigenvalues but the three of translations, which at this minimum are the smallest by far."""
    eigenvalues = np.linalg.eigvalsh(hessian.matrix.toarray())
    assert np.abs(eigenvalues[:3]).max() < 1e-9
    assert eigenvalues[3] > 1e-2
    return eigenvalues[3:]


def _assert_eigenpairs(modes: LowestModes, hessian: Hessian, spectrum: np.ndarray) -> None:
    k = modes.k
    np.testing.assert_allclose(modes.eigenvalues, spectrum[:k], rtol=1e-8, atol=1e-10)
    vectors_md = modes.vectors.reshape(k, -1)
    np.testing.assert_allclose(vectors_md @ vectors_md.T, np.eye(k), atol=1e-10)
    assert np.abs(modes.vectors.sum(axis=1)).max() < 1e-9
    residual_md = (hessian.matrix @ vectors_md.T).T - modes.eigenvalues[:, None] * vectors_md
    np.testing.assert_allclose(modes.residuals, np.linalg.norm(residual_md, axis=1), atol=1e-9)
    assert modes.residuals.max() < 1e-6
    np.testing.assert_allclose(modes.frequencies**2 * np.sign(modes.frequencies), modes.eigenvalues, rtol=1e-12)


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_agrees_with_numpy(solver: Any, hessian: Hessian, spectrum: np.ndarray) -> None:
    modes = LowestModes(20, solver).compute(hessian)
    _assert_eigenpairs(modes, hessian, spectrum)
    assert modes.solver_used == solver


@pytest.mark.parametrize(("k", "solver"), [(1, "filter"), (75, "filter"), (75, "factor"), (447, "auto")])
def test_any_number_of_modes(k: int, solver: Any, hessian: Hessian, spectrum: np.ndarray) -> None:
    _assert_eigenpairs(LowestModes(k, solver).compute(hessian), hessian, spectrum)


def test_the_solver_is_chosen_by_size_and_number(model: GlassModel, quenched: Glass, hessian: Hessian) -> None:
    assert LowestModes(4).compute(hessian).solver_used == "dense"
    assert LowestModes(4).compute(Hessian(model.potential).compute(quenched)).solver_used == "filter"


def test_eigenvectors_are_those_of_numpy(hessian: Hessian) -> None:
    modes = LowestModes(5, "filter").compute(hessian)
    _, vector_dd = np.linalg.eigh(hessian.matrix.toarray())
    overlap = np.abs(modes.vectors.reshape(5, -1) @ vector_dd[:, 3:8])
    np.testing.assert_allclose(overlap, np.eye(5), atol=1e-5)


@pytest.mark.parametrize("solver", SOLVERS)
def test_same_glass_same_bytes(solver: Any, model: GlassModel, glass: Glass) -> None:
    runs = [LowestModes(4, solver).compute(Hessian(model.potential).compute(glass)) for _ in range(2)]
    assert runs[0].vectors.tobytes() == runs[1].vectors.tobytes()
    assert runs[0].eigenvalues.tobytes() == runs[1].eigenvalues.tobytes()


@pytest.mark.parametrize("solver", SOLVERS)
def test_translations_are_deflated_however_soft_a_true_mode_is(solver: Any, model: GlassModel, hessian: Hessian) -> None:
    """A true mode is pushed down onto the zero modes: H - (lambda_0 - 1e-9) psi psi^T. It must be found all the same."""
    bonds = hessian.bonds
    softest = LowestModes(1, "dense").compute(hessian)
    psi_nc, shift = softest.vectors[0], softest.eigenvalues[0] - 1e-9
    matrix, product = bonds.hessian(), type(bonds).product
    outer_dd = shift * np.outer(psi_nc.ravel(), psi_nc.ravel())

    class Pushed(type(bonds)):  # type: ignore[misc]
        def hessian(self) -> Any:
            return type(matrix)(matrix.toarray() - outer_dd, blocksize=(3, 3))

        def product(self, vectors_nc: np.ndarray) -> np.ndarray:
            return product(self, vectors_nc) - shift * np.vdot(psi_nc, vectors_nc) * psi_nc

    pushed = Hessian(model.potential)
    pushed._bonds = Pushed(**{name: getattr(bonds, name) for name in bonds.__dataclass_fields__})
    modes = LowestModes(4, solver).compute(pushed)
    assert modes.eigenvalues[0] == pytest.approx(1e-9, abs=1e-10)
    assert abs(np.vdot(modes.vectors[0], psi_nc)) == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose(modes.eigenvalues[1:], LowestModes(4, "dense").compute(hessian).eigenvalues[1:], rtol=1e-7)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_saddle_has_negative_frequencies(solver: Any, model: GlassModel, small_liquid: Glass) -> None:
    hessian = Hessian(model.potential, force_tolerance=np.inf).compute(small_liquid)
    expected = np.linalg.eigvalsh(hessian.matrix.toarray())[:5]
    assert expected[0] < -1.0
    modes = LowestModes(5, solver).compute(hessian)
    np.testing.assert_allclose(modes.eigenvalues, expected, rtol=1e-8)
    np.testing.assert_allclose(modes.frequencies, -np.sqrt(-expected), rtol=1e-8)


def test_participation_ratio_in_closed_form() -> None:
    n_particles = 60
    one = np.zeros((1, n_particles, 3))
    one[0, 7, 1] = 1.0
    assert participation_ratio(one)[0] == pytest.approx(1.0 / n_particles)
    everybody = np.ones((1, n_particles, 3)) / np.sqrt(3 * n_particles)
    assert participation_ratio(everybody)[0] == pytest.approx(1.0)
    # sin^2 averages to 1/2 and sin^4 to 3/8: a plane wave of one polarisation has (1/2)^2 / (3/8).
    wave = np.zeros((1, n_particles, 3))
    wave[0, :, 2] = np.sin(2.0 * np.pi * np.arange(n_particles) / n_particles * 7.0)
    assert participation_ratio(wave)[0] == pytest.approx(2.0 / 3.0)
    assert participation_ratio(3.0 * wave)[0] == pytest.approx(2.0 / 3.0)
    half = np.zeros((1, n_particles, 3))
    half[0, : n_particles // 2, 0] = 0.3
    np.testing.assert_allclose(participation_ratio(np.concatenate([one, half])), [1.0 / n_particles, 0.5])


def test_filter_keeps_the_small_ones(hessian: Hessian) -> None:
    modes = LowestModes(30).compute(hessian)
    threshold = float(np.median(modes.participation_ratios))
    kept = ParticipationRatioFilter(threshold).compute(modes)
    assert kept.keep.sum() == 15
    np.testing.assert_array_equal(kept.frequencies, modes.frequencies[modes.participation_ratios < threshold])
    assert kept.vectors.shape == (15, 150, 3)
    for wrong in (0.0, -1.0, 1.5, np.nan):
        with pytest.raises(InputError, match="e_c"):
            ParticipationRatioFilter(wrong)


def test_wrong_settings_are_refused(hessian: Hessian) -> None:
    with pytest.raises(InputError, match="k = 0"):
        LowestModes(0)
    with pytest.raises(InputError, match="solver = 'lanczos'; expected one of"):
        LowestModes(3, "lanczos")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="k = 448; expected at most 3N - 3 = 447"):
        LowestModes(448).compute(hessian)
    assert repr(LowestModes(7, "factor")) == "LowestModes(k=7, solver='factor')"


def test_plot_draws_every_mode(hessian: Hessian) -> None:
    axes = LowestModes(6).compute(hessian).plot()
    assert axes.lines[0].get_xdata().shape == (6,)


def test_rows_carry_the_derivatives_along_the_mode(hessian: Hessian) -> None:
    modes = LowestModes(3).compute(hessian)
    rows = mode_rows(modes, hessian, 0.0)
    bonds = hessian.bonds
    for index, row in enumerate(rows):
        mode_nc = modes.vectors[index]
        assert row["index"] == index
        assert row["eigenvalue"] == pytest.approx(bonds.curvature(mode_nc), rel=1e-8)
        assert row["kappa"] == pytest.approx(bonds.kappa(mode_nc), rel=1e-12)
        assert row["chi"] == pytest.approx(bonds.chi(mode_nc), rel=1e-12)
        assert row["shear_coupling"] == pytest.approx(np.vdot(bonds.mixed_derivative(), mode_nc), rel=1e-12)
    assert all(row["chi"] > 0.0 for row in rows)


def test_moving_a_saddle_mode_lowers_the_energy(model: GlassModel, small_liquid: Glass) -> None:
    """The sign of an eigenvalue means what it says."""
    hessian = Hessian(model.potential, force_tolerance=np.inf).compute(small_liquid)
    mode_nc = LowestModes(1).compute(hessian).vectors[0]
    energies = [
        bonds_of(small_liquid.moved(small_liquid.positions + s * mode_nc), model.potential).energy for s in (-0.02, 0.0, 0.02)
    ]
    assert energies[0] + energies[2] < 2.0 * energies[1]
