"""Pseudo-harmonic, cubic and quartic modes: gradients against differences, stationarity, isolated modes, de-hybridisation."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
from matplotlib import pyplot as plt

from qlm_hoomd.engines.cpu import CPUEngineSettings
from qlm_hoomd.errors import ConvergenceError, InputError, QlmError
from qlm_hoomd.hessian import Hessian
from qlm_hoomd.mechanics import Mechanics, bonds_of
from qlm_hoomd.minimize import newton
from qlm_hoomd.modes import LowestModes, participation_ratio
from qlm_hoomd.nonlinear import (
    NONLINEAR_COLUMNS,
    CubicForm,
    CubicModes,
    NonlinearModes,
    PseudoHarmonicForm,
    PseudoHarmonicModes,
    QuarticForm,
    QuarticModes,
    mode_locations,
)
from qlm_hoomd.preparation import random_start

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qlm_hoomd.glass import Glass
    from qlm_hoomd.model import GlassModel

FORMS = [PseudoHarmonicForm, CubicForm, QuarticForm]
KINDS = [PseudoHarmonicModes, CubicModes, QuarticModes]


@pytest.fixture(scope="module")
def hessian(model: GlassModel, quenched: Glass) -> Hessian:
    return Hessian(model.potential, order=4).compute(quenched)


@pytest.fixture(scope="module")
def harmonic(hessian: Hessian) -> LowestModes:
    return LowestModes(8).compute(hessian)


@pytest.fixture(scope="module", params=KINDS, ids=[kind.__name__ for kind in KINDS])
def found(request: pytest.FixtureRequest, hessian: Hessian, harmonic: LowestModes) -> Any:
    return request.param(random=6).compute(hessian, harmonic)


def _direction(n_particles: int, seed: int) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(n_particles, 3))


# --- the cost functions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form_type", FORMS)
def test_gradient_of_the_cost_is_its_derivative(form_type: Any, model: GlassModel, liquid: Glass) -> None:
    """On a disordered frame under stress, for fields that are neither normalised nor free of translations."""
    form = form_type(bonds_of(liquid, model.potential, 4))
    z_nc = 3.0 * _direction(500, 1) + 1.0
    _, gradient_nc = form.cost_and_gradient(z_nc)
    assert np.vdot(gradient_nc, z_nc) == pytest.approx(0.0, abs=1e-10 * np.linalg.norm(gradient_nc) * np.linalg.norm(z_nc))
    step = 1e-5
    for seed in range(3):
        d_nc = _direction(500, seed + 10)
        above, below = (form.cost_and_gradient(z_nc + sign * step * d_nc)[0] for sign in (1.0, -1.0))
        assert np.vdot(gradient_nc, d_nc) == pytest.approx((above - below) / (2.0 * step), rel=1e-6)
    particle = np.zeros_like(z_nc)
    particle[137, 2] = 1.0
    above, below = (form.cost_and_gradient(z_nc + sign * 1e-3 * particle)[0] for sign in (1.0, -1.0))
    assert gradient_nc[137, 2] == pytest.approx((above - below) / 2e-3, rel=1e-5)


def test_costs_are_what_their_names_say(model: GlassModel, liquid: Glass) -> None:
    bonds = bonds_of(liquid, model.potential, 4)
    z_nc = _direction(500, 4)
    unit_nc = z_nc / np.linalg.norm(z_nc)
    squares_p = ((unit_nc[bonds.j_p] - unit_nc[bonds.i_p]) ** 2).sum(axis=1)
    curvature = bonds.curvature(unit_nc)
    costs = [form(bonds).cost_and_gradient(z_nc)[0] for form in FORMS]
    assert costs[0] == pytest.approx(curvature**2 / (squares_p**2).sum(), rel=1e-10)
    assert costs[1] == pytest.approx(2.0 * curvature**3 / (3.0 * bonds.kappa(unit_nc) ** 2), rel=1e-8)
    assert costs[2] == pytest.approx(curvature**2 / bonds.chi(unit_nc), rel=1e-10)


@pytest.mark.parametrize("form_type", FORMS)
def test_a_form_along_a_line_is_a_polynomial(form_type: Any, model: GlassModel, liquid: Glass) -> None:
    form = form_type(bonds_of(liquid, model.potential, 4))
    z_nc, d_nc = _direction(500, 5), _direction(500, 6)
    coefficients = form.along_line(z_nc, d_nc)
    for s in (-1.3, 0.0, 0.4, 2.0):
        at_nc = z_nc + s * d_nc
        exact = np.vdot(at_nc, form.contraction(at_nc))
        assert np.polynomial.polynomial.polyval(s, coefficients) == pytest.approx(
            exact, rel=1e-9, abs=1e-9 * np.abs(coefficients).max()
        )


# --- the modes --------------------------------------------------------------------------------------------------------------


def test_every_mode_is_a_stationary_minimum(found: Any, hessian: Hessian) -> None:
    bonds = hessian.bonds
    form = found.form(bonds)
    assert found.n_unconverged == 0
    assert len(found) >= 2
    assert (np.diff(found.costs) >= 0.0).all()
    rng = np.random.default_rng(0)
    for index, z_nc in enumerate(found.vectors):
        assert np.linalg.norm(z_nc) == pytest.approx(1.0, abs=1e-12)
        assert np.abs(z_nc.sum(axis=0)).max() < 1e-9
        cost, gradient_nc = form.cost_and_gradient(z_nc)
        product_nc = bonds.product(z_nc)
        assert cost == pytest.approx(found.costs[index], rel=1e-10)
        assert found.curvatures[index] == pytest.approx(bonds.curvature(z_nc), rel=1e-10)
        assert found.residuals[index] < 1e-8
        scale = cost * form.degree * (2.0 if form.degree == 3 else 1.0) / found.curvatures[index]
        assert np.linalg.norm(gradient_nc) <= 1.1e-8 * scale * np.linalg.norm(product_nc)
        for soft_nc in (*found.vectors, _direction(500, int(rng.integers(100)))):
            step_nc = soft_nc - np.vdot(soft_nc, z_nc) * z_nc
            if np.linalg.norm(step_nc) > 1e-3:
                assert form.cost_and_gradient(z_nc + 1e-3 * step_nc / np.linalg.norm(step_nc))[0] > cost


def test_modes_are_distinct_and_all_starts_accounted_for(found: Any) -> None:
    flat_md = found.vectors.reshape(len(found), -1)
    assert np.abs(flat_md @ flat_md.T - np.eye(len(found))).max() <= 0.9
    assert [attempt.start for attempt in found.attempts] == [f"harmonic {i}" for i in range(8)] + [
        f"random {i}" for i in range(6)
    ]
    assert found.hits.sum() == 14
    assert (found.hits > 0).all()
    for attempt in found.attempts:
        assert attempt.converged
        assert attempt.cost >= found.costs[attempt.mode] * (1.0 - 1e-9)
    for index, start in enumerate(found.starts):
        assert next(attempt.mode for attempt in found.attempts if attempt.start == start) == index


def test_expansion_is_that_of_the_energy(found: Any, model: GlassModel, quenched: Glass) -> None:
    """kappa and chi against differences of the force along the mode."""
    mechanics = Mechanics(model.potential, quenched.typeid)
    for z_nc, mode in zip(found.vectors[:2], found.expansions, strict=False):

        def slope(s: float, z_nc: NDArray[np.float64] = z_nc) -> float:
            return -float(np.vdot(mechanics.energy_forces(quenched.positions + s * z_nc, quenched.box)[1], z_nc))

        h = 1e-3
        assert mode.curvature == pytest.approx((slope(h) - slope(-h)) / (2.0 * h), rel=1e-3)
        assert mode.kappa == pytest.approx((slope(h) - 2.0 * slope(0.0) + slope(-h)) / h**2, rel=1e-2, abs=1e-2)
        h = 3e-3
        third = (slope(2.0 * h) - 2.0 * slope(h) + 2.0 * slope(-h) - slope(-2.0 * h)) / (2.0 * h**3)
        assert mode.chi == pytest.approx(third, rel=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_an_isolated_soft_mode_is_found_again(kind: Any, model: GlassModel, quenched: Glass) -> None:
    """Close to an instability the softest harmonic mode stands alone: all definitions agree, the better the softer it is."""
    mechanics = Mechanics(model.potential, quenched.typeid)
    glass, step = quenched, 2e-3
    states = []
    while step > 1e-8:
        try:
            glass = newton(mechanics, glass.sheared(step))[0]
            states.append(glass)
        except QlmError:
            step /= 4.0
    overlaps = []
    for state in states[-1], states[-6], states[-9]:
        hessian = Hessian(model.potential, order=4, force_tolerance=1e-7).compute(state)
        softest = LowestModes(1).compute(hessian)
        mode = kind().compute(hessian, softest)
        overlaps.append((softest.eigenvalues[0], abs(np.vdot(mode.vectors[0], softest.vectors[0]))))
    eigenvalues, overlap = np.array(sorted(overlaps)).T
    assert overlap[0] > 0.999
    assert (np.diff(overlap) < 0.0).all()
    assert (1.0 - overlap < 0.05 * eigenvalues / eigenvalues[-1]).all()


def test_hybrids_with_plane_waves_are_taken_apart(hessian: Hessian, quenched: Glass, harmonic: LowestModes) -> None:
    """A mode mixed half and half with a transverse wave comes back; modes are smaller than the harmonic ones they come from."""
    found = PseudoHarmonicModes().compute(hessian, harmonic)
    phase_n = 2.0 * np.pi * quenched.positions[:, 2] / quenched.box.length
    wave_nc = np.zeros((500, 3))
    wave_nc[:, 0] = np.cos(phase_n)
    wave_nc /= np.linalg.norm(wave_nc)
    assert participation_ratio(wave_nc[None])[0] > 0.6
    hybrid_nc = found.vectors[0] + wave_nc
    again = PseudoHarmonicModes().compute(hessian, hybrid_nc[None])
    assert abs(np.vdot(again.vectors[0], found.vectors[0])) > 1.0 - 1e-6
    assert participation_ratio(hybrid_nc[None])[0] > 2.0 * found.participation_ratios[0]
    for start, attempt in zip(harmonic.participation_ratios, found.attempts, strict=True):
        assert attempt.mode is not None
        assert found.participation_ratios[attempt.mode] < start
    assert 500 * found.participation_ratios.max() < 100


@pytest.mark.physics
def test_modes_stay_localised_where_harmonic_modes_are_phonons(model: GlassModel) -> None:
    """N = 2000: the harmonic modes at the first phonon have hundreds of particles, the pseudo-harmonic ones tens."""
    engine, rng = CPUEngineSettings().build(model), np.random.default_rng(3)
    glass = engine.descend(engine.run(random_start(model, 2000, rng), duration=5.0, temperature=model.T0, rng=rng)[0])[0]
    hessian = Hessian(model.potential, order=4).compute(glass)
    harmonic = LowestModes(30).compute(hessian)
    found = PseudoHarmonicModes(random=10).compute(hessian, harmonic)
    assert found.n_unconverged == 0
    assert np.median(harmonic.participation_ratios) * 2000 > 300
    assert found.participation_ratios.max() * 2000 < 150


def test_same_seed_same_modes(hessian: Hessian) -> None:
    first, second, other = (PseudoHarmonicModes(random=2, seed=seed).compute(hessian) for seed in (4, 4, 5))
    assert first.vectors.tobytes() == second.vectors.tobytes()
    assert first.attempts != other.attempts
    flat_md = first.vectors.reshape(len(first), -1)
    assert (flat_md.max(axis=1) >= -flat_md.min(axis=1)).all()


def test_a_particle_without_partners_takes_no_part(hessian: Hessian, harmonic: LowestModes) -> None:
    alone = SimpleNamespace(bonds=replace(hessian.bonds, n_particles=501))
    starts_mnc = np.concatenate([harmonic.vectors[:2], np.ones((2, 1, 3))], axis=1)
    found = PseudoHarmonicModes().compute(cast("Hessian", alone), starts_mnc)
    assert (found.vectors[:, 500] == 0.0).all()
    expected = PseudoHarmonicModes().compute(hessian, harmonic.vectors[:2])
    np.testing.assert_allclose(found.costs, expected.costs, rtol=1e-9)
    np.testing.assert_allclose(found.expansions.table["chi_relaxed"], expected.expansions.table["chi_relaxed"], rtol=1e-5)


# --- tables, places, pictures -----------------------------------------------------------------------------------------------


def test_table_and_plot(found: Any, quenched: Glass) -> None:
    table = found.table(quenched)
    assert dict(table.schema) == NONLINEAR_COLUMNS
    assert len(table) == len(found)
    np.testing.assert_allclose(table["frequency"] ** 2, table["curvature"], rtol=1e-9)
    np.testing.assert_allclose(table.select("x", "y", "z").to_numpy(), found.locations(quenched))
    assert set(table["kind"]) == {type(found).__name__.removesuffix("Modes")}
    assert found.table()["x"].null_count() == len(found)
    ax = found.plot()
    assert len(ax.collections[0].get_offsets()) == len(found)
    plt.close(ax.figure)
    assert "random=6" in repr(found)


def test_location_is_periodic(quenched: Glass) -> None:
    """A mode across the boundary is where its particles are, not in the middle of the box."""
    glass = quenched.at_strain(0.3)
    length = glass.box.length
    pair_nc = np.zeros((500, 3))
    pair_nc[0] = [0.49 * length + 0.3 * 0.1 * length, 0.1 * length, 0.2 * length]
    pair_nc[1] = [-0.49 * length + 0.3 * 0.1 * length, 0.1 * length, 0.2 * length]
    glass = glass.moved(pair_nc)
    mode_nc = np.zeros((500, 3))
    mode_nc[:2, 1] = 1.0, -1.0
    centre_c = mode_locations(mode_nc[None], glass)[0]
    expected_c = np.array([0.5 * length + 0.3 * 0.1 * length, 0.1 * length, 0.2 * length])
    np.testing.assert_allclose(glass.box.minimum_image(centre_c - expected_c), 0.0, atol=1e-9)


# --- bad input --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_start_ends_where_another_has_been_and_so_it_would_alone(
    kind: type[NonlinearModes], hessian: Hessian, harmonic: LowestModes
) -> None:
    alone = [kind().compute(hessian, harmonic.vectors[[index]]) for index in range(harmonic.k)]
    together = kind().compute(hessian, harmonic)
    assert together.n_unconverged == 0
    for attempt, single in zip(together.attempts, alone, strict=True):
        assert attempt.mode is not None
        assert abs(float(np.vdot(together.vectors[attempt.mode], single.vectors[0]))) > 1.0 - 1e-9
        assert together.costs[attempt.mode] == pytest.approx(single.costs[0], rel=1e-12)
    assert len(together) < len(alone)
    assert sum(attempt.iterations for attempt in together.attempts) < sum(int(single.iterations[0]) for single in alone)


def test_lost_starts_are_counted(hessian: Hessian, harmonic: LowestModes) -> None:
    alone = [PseudoHarmonicModes().compute(hessian, harmonic.vectors[[index]]) for index in range(harmonic.k)]
    limit = min(int(single.iterations[0]) for single in alone)
    found = PseudoHarmonicModes(max_iterations=limit).compute(hessian, harmonic)
    lost = [attempt.iterations == limit and attempt.residual >= 1e-8 for attempt in found.attempts]
    assert found.n_unconverged == sum(lost) > 0
    assert [not attempt.converged for attempt in found.attempts] == lost
    assert [attempt.mode is None for attempt in found.attempts] == [not attempt.converged for attempt in found.attempts]
    with pytest.raises(ConvergenceError, match="none of 8 starts") as raised:
        PseudoHarmonicModes(max_iterations=3).compute(hessian, harmonic)
    assert [attempt.iterations for attempt in raised.value.report] == [3] * 8


@pytest.mark.parametrize(
    ("starts", "message"),
    [
        (np.zeros((1, 500, 3)), "start 0 is zero"),
        (np.ones((1, 500, 3)), "start 0 is zero, not finite or a translation"),
        (np.full((1, 500, 3), np.nan), "start 0"),
        (np.ones((500, 3)), r"expected \(M, 500, 3\)"),
        (None, "no start"),
    ],
)
def test_starts_that_are_none_are_refused(starts: Any, message: str, hessian: Hessian) -> None:
    with pytest.raises(InputError, match=message):
        PseudoHarmonicModes().compute(hessian, starts)


def test_wrong_states_are_refused(model: GlassModel, liquid: Glass, quenched: Glass) -> None:
    with pytest.raises(InputError, match="order 2; expected"):
        CubicModes(random=1).compute(Hessian(model.potential).compute(quenched))
    with pytest.raises(InputError, match="Relax it first"):
        CubicModes(random=1).compute(Hessian(model.potential, order=4).compute(liquid))
    saddle = Hessian(model.potential, order=4, force_tolerance=np.inf).compute(liquid)
    with pytest.raises(ConvergenceError, match="a saddle, or has loose particles"):
        PseudoHarmonicModes(random=1).compute(saddle)
    with pytest.raises(InputError, match="for a glass of 500 particles"):
        mode_locations(np.zeros((1, 100, 3)), liquid)
    with pytest.raises(QlmError, match="no result yet"):
        _ = QuarticModes().attempts


@pytest.mark.parametrize(
    "settings",
    [{"random": -1}, {"overlap": 1.0}, {"tolerance": 0.0}, {"max_iterations": 0}],
    ids=lambda settings: next(iter(settings)),
)
def test_wrong_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(settings))):
        QuarticModes(**settings)
