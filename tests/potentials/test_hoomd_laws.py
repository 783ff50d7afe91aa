"""Every law of HOOMD-blue's pair forces: derivatives against differences, sums, what is refused. No HOOMD-blue is needed."""

from __future__ import annotations

from decimal import Decimal, getcontext
from typing import Any

import numpy as np
import pytest

from qlm_hoomd.errors import InputError
from qlm_hoomd.potentials import MAX_ORDER, Harmonic
from qlm_hoomd.potentials.hoomd_laws import LAWS, HOOMDPotential, SumPotential
from qlm_hoomd.potentials.series import Series
from qlm_hoomd.testing import check_potential
from qlm_hoomd.testing.potentials import derivative_errors

PARAMETERS: dict[str, dict[str, float]] = {
    "Buckingham": {"A": 20.0, "rho": 0.3, "C": 0.5},
    "DLVO": {"kappa": 1.2, "Z": 3.0, "A": 2.0, "a1": 0.4, "a2": 0.3},
    "DPDConservative": {"A": 3.0},
    "ExpandedGaussian": {"epsilon": 1.3, "sigma": 0.4, "delta": 0.3},
    "ExpandedLJ": {"epsilon": 1.3, "sigma": 0.9, "delta": 0.1},
    "ExpandedMie": {"epsilon": 1.3, "sigma": 0.9, "delta": 0.1, "n": 10.5, "m": 5.0},
    "ForceShiftedLJ": {"epsilon": 1.3, "sigma": 0.9},
    "Fourier": {"a2": 0.3, "a3": 0.2, "a4": 0.1, "b2": 0.5, "b3": -0.2, "b4": 0.3},
    "Gaussian": {"epsilon": 1.3, "sigma": 0.5},
    "LJ": {"epsilon": 1.3, "sigma": 0.9},
    "LJ0804": {"epsilon": 1.3, "sigma": 0.9},
    "LJ1208": {"epsilon": 1.3, "sigma": 0.9},
    "LJGauss": {"epsilon": 1.3, "sigma": 0.3, "r0": 1.3},
    "Mie": {"epsilon": 1.3, "sigma": 0.9, "n": 11.0, "m": 4.5},
    "Moliere": {"qi": 1.3, "qj": 0.9, "aF": 1.1},
    "Morse": {"D0": 1.2, "alpha": 3.0, "r0": 1.1},
    "OPP": {"C1": 1.1, "C2": 0.7, "eta1": 15.0, "eta2": 3.0, "k": 7.0, "phi": 1.2},
    "ReactionField": {"epsilon": 1.2, "eps_rf": 3.0},
    "TWF": {"epsilon": 1.3, "sigma": 0.6, "alpha": 50.0},
    "Yukawa": {"epsilon": 1.3, "kappa": 1.7},
    "ZBL": {"qi": 1.3, "qj": 0.9, "aF": 1.1},
}
# Of the three pairs of two types: by how much the parameters, and the cut-off, are larger than those of the first.
FACTORS = ((1.0, 1.08), (1.08, 1.15))
CLOSEST = 0.6


def matrix(value: float) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(value * factor for factor in row) for row in FACTORS)


def potential_named(name: str, mode: Any = "none", **changes: Any) -> HOOMDPotential:
    parameters = {name: matrix(value) for name, value in PARAMETERS[name].items()}
    given = {"law": name, "mode": mode, "parameters": parameters, "r_cut": matrix(1.9), "r_on": matrix(1.5)}
    return HOOMDPotential(**(given | changes))


def test_every_law_is_tested() -> None:
    assert set(PARAMETERS) == set(LAWS)


@pytest.mark.parametrize("law", LAWS)
def test_derivatives_are_those_of_the_energy(law: str) -> None:
    potential = potential_named(law)
    for first, second in ((0, 0), (0, 1), (1, 1)):
        errors = derivative_errors(potential, first, second, potential.cutoffs()[first, second], CLOSEST)
        assert len(errors) == MAX_ORDER
        assert max(errors) < 1e-6


@pytest.mark.parametrize("mode", ["shift", "xplor"])
@pytest.mark.parametrize("law", ["LJ", "Gaussian", "OPP"])
def test_modes_keep_the_contract_and_are_as_smooth_as_they_say(law: str, mode: str) -> None:
    found = check_potential(potential_named(law, mode), closest=CLOSEST)
    assert found.continuous_to == {"shift": 0, "xplor": 1}[mode]


def test_smoothing_begins_at_r_on_and_gives_way_to_a_shift_where_that_is_beyond_the_cutoff() -> None:
    def energies(mode: str, r_on: float, r: float) -> float:
        potential = potential_named("LJ", mode, r_on=matrix(r_on))
        return float(potential.derivatives(np.array([r**2]), np.zeros(1, np.uint8), 0)[0, 0])

    assert energies("xplor", 1.5, 1.49) == energies("none", 1.5, 1.49)
    assert energies("xplor", 1.9, 1.8) == energies("none", 1.9, 1.8)
    assert energies("xplor", 2.0, 1.8) == energies("shift", 2.0, 1.8)
    # S(1.7) in 50 digits.
    getcontext().prec = 50
    cut2, on2, r2 = Decimal("1.9") ** 2, Decimal("1.5") ** 2, Decimal("1.7") ** 2
    factor = (cut2 - r2) ** 2 * (cut2 + 2 * r2 - 3 * on2) / (cut2 - on2) ** 3
    assert energies("xplor", 1.5, 1.7) == pytest.approx(float(factor) * energies("none", 1.5, 1.7), rel=1e-13)


def test_a_sum_is_the_sum_of_its_terms_each_within_its_own_cutoff() -> None:
    lj, contact = potential_named("LJ", "shift"), Harmonic(epsilon=2.0, sigma=matrix(1.0))
    both = SumPotential(terms=(lj, contact))
    np.testing.assert_array_equal(both.cutoffs(), lj.cutoffs())
    r2_p, pairtype_p = np.array([0.8, 1.3, 3.0, 9.0]), np.array([0, 1, 3, 2], np.uint8)
    expected = lj.derivatives(r2_p, pairtype_p, 4) + contact.derivatives(r2_p, pairtype_p, 4)
    np.testing.assert_array_equal(both.derivatives(r2_p, pairtype_p, 4), expected)
    assert check_potential(both, closest=CLOSEST).continuous_to == 0


def test_types_with_cutoff_zero_do_not_interact() -> None:
    potential = potential_named("LJ", "shift", r_cut=((1.9, 0.0), (0.0, 1.9)), r_on=None)
    energy_kp = potential.derivatives(np.array([1.0, 1.0, 1.0]), np.array([0, 1, 2], np.uint8), 4)
    assert energy_kp[0, 0] != 0.0
    assert not energy_kp[:, 1:].any()


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"law": "Nonesuch"}, "expected one of Buckingham, DLVO"), ({"mode": "xplor", "r_on": None}, "without r_on")],
)
def test_wrong_settings_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        potential_named("LJ", **changes)


def test_series_against_closed_forms() -> None:
    x_p = np.array([0.7, 1.9])
    x = Series.variable(x_p, 4)
    root_k = [x_p**0.5, 0.5 * x_p**-0.5, -0.25 * x_p**-1.5, 0.375 * x_p**-2.5, -0.9375 * x_p**-3.5]
    np.testing.assert_allclose((x**0.5).derivatives(), root_k, rtol=1e-14)
    np.testing.assert_allclose(x.log().derivatives(), [np.log(x_p), 1 / x_p, -(x_p**-2), 2 * x_p**-3, -6 * x_p**-4], rtol=1e-14)
    np.testing.assert_allclose((2.0 * x).exp().derivatives(), [2.0**k * np.exp(2.0 * x_p) for k in range(5)], rtol=1e-14)
    sine_k, cosine_k = np.sin(3.0 * x_p), np.cos(3.0 * x_p)
    expected = [sine_k, 3 * cosine_k, -9 * sine_k, -27 * cosine_k, 81 * sine_k]
    np.testing.assert_allclose((3.0 * x).sin().derivatives(), expected, rtol=1e-13)
    np.testing.assert_allclose((1.0 / (1.0 - x * 0.1)).derivatives()[4], 24 * 1e-4 * (1 - 0.1 * x_p) ** -5, rtol=1e-13)
