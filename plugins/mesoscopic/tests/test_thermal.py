from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qlm_mesoscopic import thermal
from qlm_mesoscopic.errors import ModelError


def energy(s, lam, kappa):  # noqa: ANN001, ANN201
    return lam * s**2 / 2 + kappa * s**3 / 6 + s**4 / 24


@given(lam=st.floats(1e-6, 1.0), ratio=st.floats(2.7, 50.0), sign=st.sampled_from([-1.0, 1.0]))
def test_barrier_and_other_well_agree_with_a_scan_of_the_potential(lam: float, ratio: float, sign: float) -> None:
    kappa = sign * np.sqrt(ratio * lam)
    found = thermal.wells(lam, kappa)
    other = float(found.kappa) - kappa  # s moves as kappa does
    s = np.linspace(0.0, other, 20001)
    u = energy(s, lam, kappa)
    scale = energy(3 * abs(kappa), 0, 0)
    assert float(found.barrier) == pytest.approx(u.max(), abs=1e-7 * scale)
    assert float(found.asymmetry) == pytest.approx(energy(other, lam, kappa), abs=1e-12 * scale)
    # It is a minimum: no force, positive curvature, which is the lambda that is given.
    assert lam * other + kappa * other**2 / 2 + other**3 / 6 == pytest.approx(0.0, abs=1e-12 * abs(kappa) ** 3)
    assert float(found.lam) == pytest.approx(lam + kappa * other + other**2 / 2)
    assert float(found.lam) > 0
    assert found.kappa**2 - 2 * found.lam == pytest.approx(kappa**2 - 2 * lam, abs=1e-9 * kappa**2)


def test_wells_are_equally_deep_on_their_parabola_and_mirror_there() -> None:
    found = thermal.wells(0.4, -np.sqrt(1.2))
    assert float(found.asymmetry) == pytest.approx(0.0, abs=1e-15)
    assert float(found.lam) == pytest.approx(0.4)
    assert float(found.kappa) == pytest.approx(np.sqrt(1.2))


@given(lam=st.floats(1e-4, 1.0), ratio=st.floats(2.7, 20.0))
def test_hopping_back_is_the_inverse_and_obeys_detailed_balance(lam: float, ratio: float) -> None:
    kappa = np.sqrt(ratio * lam)
    there = thermal.wells(lam, kappa)
    back = thermal.wells(there.lam, there.kappa)
    assert float(back.lam) == pytest.approx(lam, rel=1e-6, abs=1e-9)
    assert float(back.kappa) == pytest.approx(kappa, rel=1e-6)
    assert float(back.asymmetry) == pytest.approx(-float(there.asymmetry), abs=1e-9 * kappa**4)
    assert float(there.barrier - back.barrier) == pytest.approx(float(there.asymmetry), abs=1e-9 * kappa**4)


def test_near_the_saddle_node_the_barrier_is_that_of_the_cubic() -> None:
    lam, kappa = 1e-4, 1.0
    assert float(thermal.wells(lam, kappa).barrier) == pytest.approx(2 * lam**3 / (3 * kappa**2), rel=1e-3)


def test_one_well_has_no_rate() -> None:
    found = thermal.wells([0.5, 1.0], [1.0, 0.0])
    assert np.all(np.isinf(found.barrier))
    assert np.all(np.isnan(found.kappa))
    assert thermal.rate([0.5, 1.0], [1.0, 0.0], 0.1) == pytest.approx([0.0, 0.0])


def test_the_depleted_region_grows_from_the_origin_up_to_the_parabola_of_equal_depth() -> None:
    """Its edge is where the barrier is T ln t.

    Barriers on a parabola go with lambda^2, so that it grows as the root of ln t.
    """
    rng = np.random.default_rng(7)
    lam_n, kappa_n = rng.uniform(0.0, 0.1, 200_000), rng.uniform(-0.8, 0.8, 200_000)
    temperature = 1e-4
    upper_n = thermal.in_upper_well(lam_n, kappa_n)
    near_equal_n = upper_n & (kappa_n**2 < 3.3 * lam_n)
    unit = float(thermal.wells(1.0, np.sqrt(3.0)).barrier)
    for time in (1e2, 1e6):
        kept_n = thermal.survival(lam_n, kappa_n, temperature, time)
        assert np.all(kept_n[~upper_n] == 1.0)
        front = np.sqrt(temperature * np.log(time) / unit)
        assert kept_n[near_equal_n & (lam_n < 0.6 * front)].mean() < 0.05
        assert kept_n[near_equal_n & (lam_n > 1.3 * front)].mean() > 0.95


def test_fraction_that_survives_is_that_of_hops_at_random_times() -> None:
    n, time, temperature, lam, kappa = 100_000, 20.0, 0.001, 0.1, 0.6
    wait_n = np.random.default_rng(1).exponential(np.exp(float(thermal.wells(lam, kappa).barrier) / temperature), n)
    expected = float(thermal.survival(lam, kappa, temperature, time))
    assert 0.001 < expected < 0.99
    assert np.mean(wait_n > time) == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / n))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: thermal.wells(-0.1, 1.0), "lambda is negative"),
        (lambda: thermal.rate(0.1, 1.0, 0.0), "temperature = 0"),
        (lambda: thermal.survival(0.1, 1.0, 0.1, -1.0), "time = -1"),
    ],
)
def test_bad_input_is_refused(call, message: str) -> None:  # noqa: ANN001
    with pytest.raises(ModelError, match=message):
        call()
