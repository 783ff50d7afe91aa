"""Witnesses against the equation for modes, which knows nothing of them, and against what is known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from qlm_mesoscopic import theory, witness
from qlm_mesoscopic.block import Replacement
from qlm_mesoscopic.errors import ModelError, NotEnoughDataError
from qlm_mesoscopic.modes import ModeEquation


@pytest.mark.parametrize("amplitude", [0.05, 0.3])
def test_witnesses_see_what_the_equation_says(amplitude: float) -> None:
    """Both parts of P(lambda), absolutely, and the rate of failures; nothing is fitted."""
    exact = ModeEquation(amplitude).steady()
    seen = witness.watch(amplitude, exact.drift, 200_000, window=(1e-3, 0.1), seed=1)
    assert seen.failure_rate[0] == pytest.approx(1.0, abs=0.05)
    for mine_b, its_b in zip(seen.curvature(), exact.curvature(seen.centres), strict=True):
        # Bins are the same witnesses again and again, so that their errors go together; 8 bins each are one number.
        ratio = (mine_b / its_b).reshape(-1, 8).mean(axis=1)
        assert ratio == pytest.approx(1.0, abs=0.15)
    assert seen.alpha().value == pytest.approx(seen.alpha_of(exact.total(seen.centres)), abs=0.1)


def test_alpha_far_below_all_counts() -> None:
    """At lambda from 1e-6 to 1e-4 the limit itself, at theta = 0.02."""
    exact = ModeEquation(0.05).steady()
    found = witness.watch(0.05, exact.drift, 40_000, window=(1e-6, 1e-4), seed=2).alpha()
    assert found.scatter < 0.03
    assert found.value == pytest.approx(float(theory.alpha(exact.theta)), abs=0.04)


def test_hardly_any_noise_is_drift_alone() -> None:
    """Then P(lambda) is lambda [sqrt(high + 2 lambda) + sqrt(8 lambda / 3)] over the time and the width of P_0 (see test_modes.py)."""
    seen = witness.watch(1e-4, 1.0, 20_000, window=(1e-4, 1e-2), seed=3)
    rules = Replacement()
    low, high = rules.p0.support
    lam = seen.centres
    expected = 2.0 * lam / (high - low) * (np.sqrt(high + 2.0 * lam) + np.sqrt(8.0 * lam / 3.0))
    np.testing.assert_allclose(np.add(*seen.curvature()) * seen.life_g.mean(), expected, rtol=0.05)
    # Each mode with phi > 0 fails once, and leaves upwards.
    assert seen.failures_g.mean() == pytest.approx(high / (high - low), rel=1e-3)


def test_the_step_does_not_matter() -> None:
    drift = ModeEquation(0.2).steady().drift
    long, short = (witness.watch(0.2, drift, 40_000, window=(1e-4, 1e-2), step=step, seed=4) for step in (0.2, 0.07))
    assert long.alpha().value == pytest.approx(short.alpha().value, abs=0.1)
    assert long.life_g.mean() == pytest.approx(short.life_g.mean(), rel=0.05)
    assert long.steps < short.steps


def test_same_seed_same_bytes() -> None:
    def record(seed: int) -> bytes:
        seen = witness.watch(0.1, 2.0, 3200, seed=seed)
        return seen.time_gkb.tobytes() + seen.life_g.tobytes()

    assert record(1) == record(1)
    assert record(1) != record(2)


def test_the_callback_is_called_before_every_step_and_may_end_it() -> None:
    calls: list[int] = []
    seen = witness.watch(0.1, 2.0, 3200, seed=1, window=(1e-2, 1e-1), step=0.3, callback=lambda: calls.append(1))
    assert 3200 < seen.steps <= 3200 * len(calls)

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        witness.watch(0.1, 2.0, 3200, callback=stop)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"amplitude": 0.0}, "amplitude = 0.0; expected a positive number"),
        ({"drift": float("nan")}, "drift = nan; expected a positive number"),
        ({"n_witnesses": 100}, "100 witnesses; expected at least 3200"),
        ({"window": (1e-3, 0.5)}, "from 1e-7 to 0.1 of lambda_min"),
        ({"window": (1e-3, 1e-4)}, "expected rising ends"),
        ({"step": 0.5}, "step = 0.5"),
        ({"replacement": Replacement(overshoot="carry")}, "overshoot = 'drop'"),
    ],
)
def test_bad_input_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        witness.watch(**({"amplitude": 0.1, "drift": 1.0, "n_witnesses": 3200} | arguments))  # type: ignore[arg-type]


def test_too_few_witnesses_give_no_exponent() -> None:
    """Strong noise hops over the softest modes nearly always."""
    with pytest.raises(NotEnoughDataError, match="groups saw a witness in the emptiest bin of lambda; expected at least 16"):
        witness.watch(1.0, 1e-3, 3200, window=(1e-7, 1e-6)).alpha()
