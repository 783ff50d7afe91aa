"""Expansion of the energy along modes: finite differences, dense linear algebra, the closed forms of the theory, a real event."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import pyplot as plt

from qlm_hoomd.anharmonic import (
    EXPANSION_COLUMNS,
    AnharmonicModes,
    JointDistribution,
    ModeExpansion,
    curvature_rate,
    distance_to_instability,
    expand,
    mean_curvature,
)
from qlm_hoomd.engines.cpu import CPUEngineSettings
from qlm_hoomd.errors import InputError, QlmError
from qlm_hoomd.hessian import Hessian
from qlm_hoomd.mechanics import SHEAR_XY, Mechanics, bonds_of
from qlm_hoomd.minimize import newton
from qlm_hoomd.modes import LowestModes
from qlm_hoomd.nonlinear import QuarticForm
from qlm_hoomd.potentials import InversePowerLaw

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qlm_hoomd.glass import Glass
    from qlm_hoomd.model import GlassModel

POSITIVE = st.floats(1e-3, 1e2)
ANY = st.just(0.0) | POSITIVE | POSITIVE.map(lambda value: -value)


def _mode(glass: Glass, seed: int = 3) -> NDArray[np.float64]:
    mode_nc = np.random.default_rng(seed).normal(size=(glass.n_particles, 3))
    return mode_nc / np.linalg.norm(mode_nc)


@pytest.fixture(scope="module")
def minimum(model: GlassModel, small_liquid: Glass) -> Glass:
    """A minimum of 100 particles."""
    return CPUEngineSettings().build(model).descend(small_liquid)[0]


@pytest.fixture(scope="module")
def approach(model: GlassModel, quenched: Glass) -> list[Glass]:
    """States of a glass of 500 particles under forward shear, up to its first instability, to which the last is closest."""
    mechanics = Mechanics(model.potential, quenched.typeid)
    states, step = [quenched], 2e-3
    while step > 1e-7:
        try:
            states.append(newton(mechanics, states[-1].sheared(step))[0])
        except QlmError:
            step /= 4.0
    return states


# --- derivatives ------------------------------------------------------------------------------------------------------------


def test_fourth_contraction_is_the_derivative_of_the_third(model: GlassModel, small_liquid: Glass) -> None:
    # q = 6: with q = 3 the derivative jumps where a pair crosses its cut-off, and differences do not converge.
    assert isinstance(model.potential, InversePowerLaw)
    potential = model.potential.model_copy(update={"q": 6})
    mode_nc, step = _mode(small_liquid), 1e-5
    bonds = bonds_of(small_liquid, potential, 4)
    above, below = (
        bonds_of(small_liquid.moved(small_liquid.positions + sign * step * mode_nc), potential, 3).third_contraction(mode_nc)
        for sign in (1.0, -1.0)
    )
    contraction_nc = QuarticForm(bonds).contraction(mode_nc)
    np.testing.assert_allclose(
        contraction_nc, (above - below) / (2.0 * step), rtol=1e-6, atol=1e-6 * np.abs(contraction_nc).max()
    )
    assert np.vdot(mode_nc, contraction_nc) == pytest.approx(bonds.chi(mode_nc), rel=1e-12)


def test_curvature_rate_is_the_derivative_of_the_curvature(model: GlassModel, small_liquid: Glass) -> None:
    mode_nc, step = _mode(small_liquid), 1e-6
    above, below = (bonds_of(small_liquid.sheared(sign * step), model.potential).curvature(mode_nc) for sign in (1.0, -1.0))
    rate = curvature_rate(bonds_of(small_liquid, model.potential, 3), mode_nc, SHEAR_XY)
    assert rate == pytest.approx((above - below) / (2.0 * step), rel=1e-6)


def test_mean_curvature_is_that_of_the_matrix(model: GlassModel, small_liquid: Glass) -> None:
    bonds = bonds_of(small_liquid, model.potential)
    assert mean_curvature(bonds) == pytest.approx(bonds.hessian().diagonal().mean(), rel=1e-12)


@pytest.mark.parametrize("harmonic", [True, False])
def test_relaxed_coefficients_against_dense_algebra(harmonic: bool, model: GlassModel, minimum: Glass) -> None:
    hessian = Hessian(model.potential, order=4).compute(minimum)
    bonds = hessian.bonds
    mode_nc = LowestModes(1).compute(hessian).vectors[0] if harmonic else _mode(minimum)
    mode_nc = mode_nc - mode_nc.mean(axis=0)
    z_d = mode_nc.ravel() / np.linalg.norm(mode_nc)
    project_dd = np.eye(len(z_d)) - np.outer(z_d, z_d)
    inverse_dd = np.linalg.pinv(project_dd @ bonds.hessian().toarray() @ project_dd, rcond=1e-8)
    unit_nc = z_d.reshape(-1, 3)
    found = expand(bonds, 5.0 * mode_nc, tolerance=1e-10)
    tangent_d = z_d - inverse_dd @ bonds.hessian() @ z_d
    tangent_nc = tangent_d.reshape(-1, 3)
    v_d = bonds.third_contraction(tangent_nc).ravel()
    assert found.curvature == pytest.approx(bonds.curvature(unit_nc), rel=1e-9)
    assert found.chi == pytest.approx(bonds.chi(unit_nc), rel=1e-9)
    assert found.chi_relaxed == pytest.approx(
        bonds.chi(tangent_nc) - 3.0 * v_d @ inverse_dd @ v_d, abs=1e-5 * bonds.chi(tangent_nc)
    )
    assert found.chi_relaxed is not None
    assert found.chi_relaxed < found.chi
    xi_d = bonds.mixed_derivative().ravel()
    assert found.curvature_rate == pytest.approx(
        curvature_rate(bonds, tangent_nc) - v_d @ inverse_dd @ xi_d, abs=1e-5 * np.abs(curvature_rate(bonds, tangent_nc))
    )
    path = found.curvature_relaxed, found.kappa_relaxed, found.coupling_relaxed
    if harmonic:
        assert path == (None, None, None)
    else:
        expected = tangent_d @ bonds.hessian() @ tangent_d, bonds.kappa(tangent_nc), tangent_d @ xi_d
        assert path == pytest.approx(expected, rel=1e-4)


def test_relaxed_coefficients_are_those_of_the_relaxed_glass(model: GlassModel, minimum: Glass) -> None:
    """Against the force that holds a glass at s = z . r while all else is minimised, in a sheared box too."""
    assert isinstance(model.potential, InversePowerLaw)
    mechanics = Mechanics(model.potential.model_copy(update={"q": 6}), minimum.typeid)
    glass = newton(mechanics, minimum)[0]
    # Something of a place: a random direction of the whole glass has coefficients that are sums of cancelling terms.
    mode_nc = (
        _mode(glass) * np.exp(-np.linalg.norm(glass.box.minimum_image(glass.positions - glass.positions[0]), axis=1))[:, None]
    )
    mode_nc -= mode_nc.mean(axis=0)
    z_d = mode_nc.ravel() / np.linalg.norm(mode_nc)

    def force(s: float, strain: float) -> float:
        sheared = glass.sheared(strain)
        moved_d, border_d = s * z_d, np.append(z_d, 0.0)
        for _ in range(30):
            bonds = mechanics.bonds(sheared.positions + moved_d.reshape(-1, 3), sheared.box)
            gradient_d = -mechanics.energy_forces(sheared.positions + moved_d.reshape(-1, 3), sheared.box)[1].ravel()
            held_dd = np.block([[bonds.hessian().toarray(), z_d[:, None]], [border_d]])
            step_d = np.linalg.lstsq(held_dd, np.append(-gradient_d, 0.0), rcond=1e-10)[0][:-1]
            moved_d = moved_d + step_d
            if np.abs(step_d).max() < 1e-13:
                break
        assert z_d @ moved_d == pytest.approx(s, abs=1e-12)
        return float(z_d @ gradient_d)

    h, strain = 4e-3, 1e-4
    ahead, back, far, behind = (force(s, 0.0) for s in (h, -h, 2.0 * h, -2.0 * h))
    found = expand(bonds_of(glass, mechanics.potential, 4), mode_nc, tolerance=1e-10)
    third = (far - 2.0 * ahead + 2.0 * back - behind) / (2.0 * h**3)
    assert found.curvature_relaxed == pytest.approx((8.0 * (ahead - back) - far + behind) / (12.0 * h), rel=1e-4)
    assert found.kappa_relaxed == pytest.approx((16.0 * (ahead + back) - far - behind) / (12.0 * h**2), rel=1e-2)
    assert found.chi_relaxed == pytest.approx(third, rel=5e-2)
    assert found.coupling_relaxed == pytest.approx((force(0.0, strain) - force(0.0, -strain)) / (2.0 * strain), rel=1e-4)
    corners = [force(sign * h / 4.0, turn * strain) * sign * turn for sign in (1.0, -1.0) for turn in (1.0, -1.0)]
    assert found.curvature_rate == pytest.approx(sum(corners) / (h * strain), rel=1e-2)


# --- the theory -------------------------------------------------------------------------------------------------------------


@given(curvature=POSITIVE, ratio=st.floats(1.001, 1e6))
def test_distance_is_that_of_the_paper(curvature: float, ratio: float) -> None:
    """(D1), (D2), and (D3) on the parabola of reinsertion; chi = 1."""
    kappa = np.sqrt(2.0 * curvature * ratio)
    phi = kappa**2 - 2.0 * curvature
    distance = distance_to_instability(curvature, -kappa, phi)
    d1 = (curvature * kappa - (kappa - np.sqrt(phi)) * phi) / 3.0
    assert distance == pytest.approx(d1, abs=1e-12 * kappa**3)
    assert distance == pytest.approx(curvature**2 / (2.0 * kappa), rel=1.0 / ratio)
    on_parabola = np.sqrt(8.0 * curvature / 3.0)
    phi = on_parabola**2 - 2.0 * curvature
    assert distance_to_instability(curvature, on_parabola, phi) == pytest.approx(on_parabola**3 / 12.0, rel=1e-12)
    assert distance_to_instability(curvature, on_parabola, phi) == pytest.approx(2.0 / 3.0 * phi**1.5, rel=1e-12)


def test_distance_exists_for_active_modes_of_a_minimum_alone() -> None:
    distances = distance_to_instability([1.0, 1.0, -1.0, 0.0, 1.0], [1.0, 2.0, 2.0, 2.0, 0.0], [-1.0, 2.0, 6.0, 4.0, 0.0])
    np.testing.assert_array_equal(np.isnan(distances), [True, False, True, False, True])
    assert distances[3] == 0.0


@given(curvature=POSITIVE, kappa=ANY, chi=POSITIVE, coupling=ANY)
def test_signs_and_units_of_the_theory(curvature: float, kappa: float, chi: float, coupling: float) -> None:
    mode = ModeExpansion(curvature, kappa, chi, coupling)
    mirror = ModeExpansion(curvature, -kappa, chi, -coupling)
    assert mode.kappa_theory is not None
    assert mode.phi_theory == pytest.approx(mode.kappa_theory**2 - 2.0 * curvature, rel=1e-9, abs=1e-9 * curvature)
    assert (mode.cubic_strain, mode.quartic_strain) == (mirror.cubic_strain, mirror.quartic_strain)
    if coupling != 0.0:
        assert mode.kappa_theory == mirror.kappa_theory
    if mode.quartic_strain:
        # Modes that forward shear softens have a negative kappa in the theory's orientation.
        assert mode.quartic_strain * mode.kappa_theory < 0.0
        assert mode.quartic_strain * mode.cubic_strain > 0.0
        # sigma' = -C sqrt(chi) gamma is the distance x of the theory's dimensionless block.
        assert mode.distance_theory is not None
        assert abs(mode.quartic_strain) == pytest.approx(mode.distance_theory / (abs(coupling) * chi**0.5), rel=1e-6)
    assert (mode.quartic_strain is None) == (mode.phi < 0.0 or coupling == 0.0 or kappa == 0.0)


def _event_by_following(mode: ModeExpansion, direction: float) -> float | None:
    """Strain at which the minimum of V(s, gamma) ends, found by walking along it in s: gamma(s) from V' = 0, up to its turn."""
    chi, rate, coupling = mode.chi_relaxed, mode.curvature_rate, mode.shear_coupling
    assert chi is not None
    assert rate is not None
    s = -np.sign(coupling) * direction * np.geomspace(1e-6, 1e4, 200_001)
    tilt = coupling + rate * s
    with np.errstate(all="ignore"):
        gamma = -(mode.curvature * s + mode.kappa * s**2 / 2.0 + chi * s**3 / 6.0) / tilt * direction
    turn = np.flatnonzero((np.diff(gamma) <= 0.0) | (tilt[1:] * coupling <= 0.0))
    if not len(turn) or tilt[turn[0] + 1] * coupling <= 0.0:
        return None
    return float(gamma[turn[0]]) * direction


@pytest.mark.parametrize("seed", range(30))
def test_relaxed_strain_is_where_the_minimum_ends(seed: int) -> None:
    rng = np.random.default_rng(seed)
    curvature, kappa, chi, coupling, rate = rng.normal(size=5) * [1.0, 5.0, 20.0, 3.0, 20.0]
    mode = ModeExpansion(abs(curvature), kappa, 50.0, coupling, chi, rate)
    for direction, found in ((1.0, mode.relaxed_strain_forward), (-1.0, mode.relaxed_strain_backward)):
        expected = _event_by_following(mode, direction)
        assert found == (None if expected is None else pytest.approx(expected, rel=1e-4))


def test_relaxed_strain_becomes_the_quartic_one() -> None:
    mode = ModeExpansion(0.3, -4.0, 20.0, -3.0, chi_relaxed=20.0, curvature_rate=0.0)
    assert mode.relaxed_strain_forward == pytest.approx(mode.quartic_strain, rel=1e-12)
    assert mode.relaxed_strain_backward is None
    soft = ModeExpansion(0.3, -4.0, 20.0, -3.0, chi_relaxed=-20.0, curvature_rate=0.0)
    assert soft.relaxed_strain_backward is not None
    assert soft.relaxed_strain_backward < 0.0 < soft.relaxed_strain_forward < -soft.relaxed_strain_backward  # type: ignore[operator]


# --- a real event -----------------------------------------------------------------------------------------------------------


def test_predicted_strain_is_that_of_the_event(model: GlassModel, approach: list[Glass]) -> None:
    """The relaxed estimate is exact to next order: its error falls faster than that of the cubic one."""
    event = approach[-1].strain
    errors = []
    for glass in approach:
        distance = event - glass.strain
        if not 1e-5 < distance < 2e-4:
            continue
        hessian = Hessian(model.potential, order=4).compute(glass)
        modes = AnharmonicModes().compute(hessian, LowestModes(4).compute(hessian).vectors)
        softest = modes[0]
        assert modes.nearest_strain() == softest.relaxed_strain_forward
        assert softest.relaxed_strain_forward == pytest.approx(distance, rel=0.05)
        assert softest.cubic_strain == pytest.approx(distance, rel=0.5)
        assert softest.kappa_theory is not None
        assert softest.kappa_theory < 0.0
        errors.append((abs(softest.relaxed_strain_forward / distance - 1.0), abs(softest.cubic_strain / distance - 1.0)))
    assert len(errors) >= 3
    assert all(relaxed < cubic for relaxed, cubic in errors[:2])


def test_curvature_vanishes_as_the_square_root(model: GlassModel, approach: list[Glass]) -> None:
    event = approach[-1].strain
    points = [(event - glass.strain, glass) for glass in approach if 1e-5 < event - glass.strain < 1e-4]
    slopes = [
        LowestModes(1).compute(Hessian(model.potential).compute(glass)).eigenvalues[0] ** 2 / distance
        for distance, glass in points
    ]
    assert len(slopes) >= 2
    assert all(abs(first / second - 1.0) < 0.35 for first, second in pairwise(slopes))


# --- tables and pictures ----------------------------------------------------------------------------------------------------


def test_table_has_a_row_for_each_mode(model: GlassModel, minimum: Glass) -> None:
    hessian = Hessian(model.potential, order=4).compute(minimum)
    modes = LowestModes(5).compute(hessian)
    found = AnharmonicModes().compute(hessian, modes.vectors)
    assert dict(found.table.schema) == EXPANSION_COLUMNS
    assert len(found) == len(found.table) == 5
    np.testing.assert_allclose(found.table["curvature"], modes.eigenvalues, rtol=1e-8)
    assert [mode.kappa for mode in found] == found.table["kappa"].to_list()
    rigid = AnharmonicModes(relaxed=False).compute(hessian, modes.vectors)
    assert rigid.table["chi_relaxed"].null_count() == 5
    assert rigid.nearest_strain() == np.inf
    assert repr(rigid).startswith("AnharmonicModes(relaxed=False, gradient_cc=[[0.0, 1.0, 0.0]")


def test_what_does_not_exist_is_null(model: GlassModel, minimum: Glass, small_liquid: Glass) -> None:
    saddle = bonds_of(small_liquid, model.potential, 4)
    assert expand(saddle, _mode(small_liquid)).chi_relaxed is None
    assert expand(bonds_of(minimum, model.potential, 4), _mode(minimum), max_products=2).chi_relaxed is None
    uncoupled = expand(saddle, np.ones((100, 3)), relaxed=False)
    assert uncoupled.shear_coupling == 0.0
    assert uncoupled.cubic_strain is None
    assert ModeExpansion(1.0, 3.0, -1.0, 1.0).kappa_theory is None
    assert ModeExpansion(1.0, 3.0, -1.0, 1.0).phi_theory is None
    assert ModeExpansion(1.0, 3.0, -1.0, 1.0).distance_theory is None


def test_wrong_input_is_refused(model: GlassModel, minimum: Glass) -> None:
    hessian = Hessian(model.potential, order=4).compute(minimum)
    with pytest.raises(InputError, match=r"order 2; expected 4"):
        AnharmonicModes().compute(Hessian(model.potential).compute(minimum), np.zeros((1, 100, 3)))
    with pytest.raises(InputError, match=r"\(M, 100, 3\)"):
        AnharmonicModes().compute(hessian, np.zeros((1, 99, 3)))
    with pytest.raises(InputError, match="norm 0"):
        AnharmonicModes().compute(hessian, np.zeros((1, 100, 3)))
    with pytest.raises(QlmError, match="no result yet"):
        _ = AnharmonicModes().table
    modes = AnharmonicModes(relaxed=False).compute(hessian, _mode(minimum)[None])
    wrong: Any = 0
    with pytest.raises(InputError, match="direction = 0"):
        modes.nearest_strain(wrong)
    with pytest.raises(InputError, match="estimate = 0"):
        modes.nearest_strain(1, wrong)
    with pytest.raises(InputError, match="bins = 1"):
        JointDistribution(bins=1)
    with pytest.raises(InputError, match="kappa_theory"):
        JointDistribution().compute(pl.DataFrame({"eigenvalue": [1.0]}))
    with pytest.raises(InputError, match="no mode has positive curvature"):
        JointDistribution().compute(pl.DataFrame({"eigenvalue": [-1.0], "kappa_theory": [1.0]}))


@pytest.mark.parametrize("n_modes", [4, 4000])
def test_joint_distribution(n_modes: int) -> None:
    """Modes between the parabolas are counted where they are; a picture shows modes, or their normalised density."""
    ratio = np.tile([0.5, 2.5, 2.9, 4.0], n_modes // 4)
    curvature = np.linspace(0.5, 1.5, n_modes)
    table = pl.DataFrame({"eigenvalue": curvature, "kappa_theory": np.sqrt(ratio * curvature)})
    extra = pl.DataFrame({"eigenvalue": [-1.0, 1.0], "kappa_theory": [1.0, None]})
    joint = JointDistribution(bins=30).compute(pl.concat([table, extra]))
    assert joint.left_out == 2
    assert joint.fractions == {"passive": 0.25, "one minimum": 0.25, "two minima": 0.5}
    ax = joint.plot()
    parabolas = [line for line in ax.lines if len(line.get_xdata()) == 400]
    squares = sorted(float(line.get_ydata()[-1] ** 2 / line.get_xdata()[-1]) for line in parabolas)
    np.testing.assert_allclose(squares, [2.0, 2.0, 8.0 / 3.0, 8.0 / 3.0])
    assert len(ax.collections) == (n_modes > 1000)
    plt.close(ax.figure)
