"""Lowest modes against LAPACK on the full Hessian, closed forms of the participation ratio, and the stage's tables."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize

from qlm_hoomd import modes as modes_module
from qlm_hoomd.box import Box
from qlm_hoomd.engines.cpu import CPUEngineSettings
from qlm_hoomd.errors import ConvergenceError, InputError, NotComputedError
from qlm_hoomd.glass import Glass
from qlm_hoomd.hessian import Hessian
from qlm_hoomd.mechanics import Bonds, bonds_of
from qlm_hoomd.modes import LowestModes, ParticipationRatioFilter, Solver, participation_ratio
from qlm_hoomd.numerics import eigensolvers
from qlm_hoomd.potentials import Harmonic
from qlm_hoomd.preparation import random_start
from qlm_hoomd.stages.modes import mode_rows

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
    larger = Hessian(model.potential).compute(quenched)
    assert LowestModes(4).compute(larger).solver_used == "filter"
    assert LowestModes(126).compute(larger).solver_used == "dense"


@pytest.mark.parametrize("n_particles", [500, 1000])
def test_filter_agrees_with_numpy_to_ten_digits(n_particles: int, model: GlassModel, quenched: Glass) -> None:
    glass = quenched
    if n_particles != quenched.n_particles:
        rng = np.random.default_rng(3)
        glass = CPUEngineSettings().build(model).descend(random_start(model, n_particles, rng))[0]
    hessian = Hessian(model.potential).compute(glass)
    modes = LowestModes(40, "filter", check_completeness=True).compute(hessian)
    expected = np.linalg.eigvalsh(hessian.matrix.toarray())[3:43]
    np.testing.assert_allclose(modes.eigenvalues, expected, rtol=1e-10)
    vectors_md = modes.vectors.reshape(40, -1)
    np.testing.assert_allclose(vectors_md @ vectors_md.T, np.eye(40), atol=1e-10)
    assert modes.residuals.max() < 1e-8 * hessian.bonds.largest_eigenvalue()
    assert modes.completeness == "inertia"


def test_a_branch_is_followed_from_the_modes_before(model: GlassModel, quenched: Glass) -> None:
    """Three states extrapolate to the fourth; the same modes come out as from a cold start, or else a cold start is made."""
    engine = CPUEngineSettings().build(model)
    states = [quenched]
    for _ in range(4):
        states.append(engine.relax(states[-1].sheared(1e-5))[0])
    hessians = [Hessian(model.potential).compute(state) for state in states]
    before = [LowestModes(30).compute(hessian) for hessian in hessians[:4]]
    warm = LowestModes(20).compute(hessians[4], start=before)
    cold = LowestModes(20).compute(hessians[4])
    assert (warm.solver_used, cold.solver_used) == ("warm start", "filter")
    assert warm.completeness == "random block"
    np.testing.assert_allclose(warm.eigenvalues, cold.eigenvalues, rtol=1e-10)
    np.testing.assert_allclose(np.abs((warm.vectors * cold.vectors).sum(axis=(1, 2))), 1.0, atol=1e-6)
    # One state is not near enough, nor are fewer modes than asked for.
    assert LowestModes(20).compute(hessians[4], start=before[:1]).solver_used == "filter"
    assert LowestModes(40).compute(hessians[4], start=before).solver_used == "filter"


def test_completeness_is_recorded(hessian: Hessian) -> None:
    found = {
        (solver, check): LowestModes(12, solver, check_completeness=check).compute(hessian).completeness
        for solver in get_args(Solver)
        for check in (False, True)
    }
    assert {key: value for key, value in found.items() if value != "inertia"} == {
        ("auto", False): "all",
        ("auto", True): "all",
        ("dense", False): "all",
        ("dense", True): "all",
        ("filter", False): "random block",
        ("factor", False): "none",
    }


@pytest.mark.parametrize("largest", [4000, 0])
def test_a_missing_mode_is_not_passed_over(largest: int, hessian: Hessian, monkeypatch: pytest.MonkeyPatch) -> None:
    """A solver that skips one mode is caught by either proof."""
    found = eigensolvers.by_lapack(hessian.bonds, 21)
    monkeypatch.setattr(eigensolvers, "by_factor", lambda _bonds, _k: (np.delete(found[0], 4, axis=0), found[1]))
    monkeypatch.setattr(modes_module, "_LARGEST_INERTIA", largest)
    assert LowestModes(20, "factor").compute(hessian).completeness == "none"
    with pytest.raises(ConvergenceError, match="missed"):
        LowestModes(20, "factor", check_completeness=True).compute(hessian)


def test_reading_before_computing_says_so() -> None:
    with pytest.raises(NotComputedError, match=r"LowestModes has no result yet; expected a call of compute\(hessian\) first"):
        LowestModes(3).vectors  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'colour'"):
        LowestModes(3).colour  # type: ignore[attr-defined]  # noqa: B018


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
@pytest.mark.parametrize("softest", [1e-6, -1e-6])
def test_next_to_an_instability(solver: Any, softest: float, model: GlassModel, hessian: Hessian) -> None:
    """Pre-stress is turned up until one mode is all but unstable; it must not be taken for a translation, nor they for it."""
    bonds = hessian.bonds

    def stressed(factor: float) -> Bonds:
        return replace(bonds, phi_kp=np.concatenate([bonds.phi_kp[:1], factor * bonds.phi_kp[1:2], bonds.phi_kp[2:]]))

    def lowest(factor: float) -> float:
        matrix_dd = stressed(factor).hessian().toarray()
        matrix_dd += 1e3 * np.tile(np.eye(3), (150, 150)) / 150.0
        return float(scipy.linalg.eigvalsh(matrix_dd, subset_by_index=[0, 0])[0])

    near = Hessian(model.potential)
    near.bonds = stressed(scipy.optimize.brentq(lambda factor: lowest(factor) - softest, 1.0, 1.5, xtol=1e-15, rtol=1e-14))
    modes = LowestModes(6, solver, check_completeness=True).compute(near)
    expected = np.linalg.eigvalsh(near.matrix.toarray())
    expected = np.delete(expected, np.argsort(np.abs(expected))[:3])[:6]
    np.testing.assert_allclose(modes.eigenvalues[0], softest, rtol=1e-4)
    np.testing.assert_allclose(modes.eigenvalues, expected, rtol=1e-10, atol=1e-11)
    assert np.sign(modes.frequencies[0]) == np.sign(softest)
    assert np.abs(modes.vectors.sum(axis=1)).max() < 1e-9


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
    assert repr(LowestModes(7, "factor")) == "LowestModes(k=7, solver='factor', check_completeness=False)"


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


def test_auto_finds_modes_where_few_particles_touch() -> None:
    """Four clusters of five in a gas: blocks run out of dimensions, LAPACK does not."""
    rng = np.random.default_rng(2)
    corner_nc = 0.45 * np.array([(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1), (0, 0, 0)])
    clusters_nc = np.concatenate([corner_nc + centre for centre in ((3, 3, 3), (3, 9, 9), (9, 3, 9), (9, 9, 3))])
    gas_nc = np.array([(x, y, 0.0) for x in range(0, 28, 2) for y in range(0, 28, 2)], dtype=float)
    box = Box(28.0)
    places_nc = np.concatenate([clusters_nc, gas_nc]) + 1e-3 * rng.normal(size=(len(clusters_nc) + len(gas_nc), 3))
    glass = Glass(box.wrap(places_nc), np.zeros(len(places_nc), dtype=np.int32), box)
    hessian = Hessian(Harmonic(sigma=((1.0,),)), force_tolerance=1e9).compute(glass)
    modes = LowestModes(50).compute(hessian)
    expected = LowestModes(50, "dense").compute(hessian)
    np.testing.assert_allclose(modes.eigenvalues, expected.eigenvalues, atol=1e-9)
    with pytest.raises(ConvergenceError, match="out of dimensions"):
        LowestModes(50, "filter").compute(hessian)
