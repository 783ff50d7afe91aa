"""Theta of glasses that are sheared in six directions: the error that their correlations promise, the number of a single one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from qlm_hoomd.ensemble.local import LocalExecutor
from qlm_hoomd.ensemble.runner import run_protocol
from qlm_hoomd.protocol import build_protocol
from qlm_hoomd.report.results import Results
from qlm_hoomd.statistics import FiniteSizeScaling
from qlm_hoomd.statistics.planning import ACROSS, OPPOSITE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Ledger

pytestmark = pytest.mark.physics

SIZES, GLASSES = (500, 1000, 2000), 60
SETTINGS: dict[str, Any] = {
    "name": "directions",
    "seed": 1606,
    "ensemble": {
        "n_particles": list(SIZES),
        "preparations": {"rapid": {"quench": "rapid", "equilibration_time": 20}},
        "realisations": GLASSES,
    },
    "stages": [
        {"kind": "prepare"},
        {
            "kind": "shear",
            "strain_max": 1e-3,
            "to_next_event": True,
            "detector": {"kind": "fold", "overlaps": []},
            "directions": "all",
        },
    ],
}


def slope(values_s: dict[int, np.ndarray]) -> float:
    """-d ln<gamma_min> / d ln N, on equally many glasses of each size ((R, D) arrays)."""
    return -float(np.polyfit(np.log(list(values_s)), [np.log(x_rd.mean()) for x_rd in values_s.values()], 1)[0])


def jackknife(values_s: dict[int, np.ndarray], statistic: Callable[[dict[int, np.ndarray]], float]) -> float:
    """Standard error by leaving out one glass after the other."""
    variance = 0.0
    for size, x_rd in values_s.items():
        left_r = [statistic(values_s | {size: np.delete(x_rd, r, axis=0)}) for r in range(len(x_rd))]
        variance += (len(x_rd) - 1) * float(np.var(left_r))
    return float(np.sqrt(variance))


def scaling(results: Results, method: str) -> FiniteSizeScaling:
    (estimate,) = results.analysis.find(quantity="theta", method=method, detector="fold")
    assert isinstance(estimate.fit, FiniteSizeScaling)
    assert (estimate.fit.sizes, estimate.fit.n_realisations) == (SIZES, (GLASSES,) * 3)
    return estimate.fit


def test_six_directions_are_worth_what_their_correlations_promise(
    ledger: Ledger, ensemble_directory: Callable[[str], Path]
) -> None:
    """60 rapidly quenched glasses of each size: a quarter of an hour of one core."""
    directory = ensemble_directory(SETTINGS["name"])
    workspace = run_protocol(build_protocol(SETTINGS), directory, LocalExecutor())
    assert not workspace.failures(), workspace.failures()
    results = Results.load(directory)
    six, one = scaling(results, "gamma_min"), scaling(results, "one_direction")
    several = results.analysis.directions["rapid"]
    values_s = dict(several.values)

    # The run and the table of directions know the same first instability.
    alone_s = {size: x_rd[:, [several.names.index("+xy")]] for size, x_rd in values_s.items()}
    assert one.slope == pytest.approx(slope(alone_s), rel=1e-6)
    assert six.slope == pytest.approx(slope(values_s), rel=1e-9)

    # No direction is special: each mean against that of the others, all sizes together, glass by glass.
    for d, name in enumerate(several.names):
        apart_r = np.concatenate(
            [(x_rd[:, d] - np.delete(x_rd, d, axis=1).mean(axis=1)) / x_rd.mean() for x_rd in values_s.values()]
        )
        error = float(apart_r.std(ddof=1) / np.sqrt(apart_r.size))
        ledger.note(f"{name}: mean gamma_min less that of the others {apart_r.mean():+.3f} +- {error:.3f} of it")
        assert abs(apart_r.mean()) < 3.5 * error

    for name, (value, error) in several.correlations.items():
        assumed = {"opposite": OPPOSITE, "across": ACROSS}[name]
        ledger.note(f"correlation {name}: {value:.3f} +- {error:.3f}, the planner's {assumed:g}")
        assert abs(value - assumed) < 3.0 * error
    # Variance of a mean of six: each with itself, one opposite to it, four across.
    alike = (1.0 + several.correlations["opposite"][0] + 4.0 * several.correlations["across"][0]) / 6.0
    scatter = np.mean([np.mean(x_rd.std(axis=0, ddof=1)) / x_rd.mean() for x_rd in values_s.values()])
    offset_s = np.log(SIZES) - np.mean(np.log(SIZES))
    promised = scatter * np.sqrt(alike / (GLASSES * np.sum(offset_s**2)))
    found = jackknife(values_s, slope)
    ledger.note(f"standard error of the slope: promised by the correlations {promised:.4f}, jackknife {found:.4f}")
    ledger.note(
        f"the same in the report: {six.slope_error:.4f}, by the design {six.promised_error:.4f}; one direction {one.slope_error:.4f}"
    )
    ledger.note(f"a glass is worth {several.n_independent:.2f} independent values")
    assert found == pytest.approx(promised, rel=0.15)
    assert six.slope_error == pytest.approx(found, rel=0.05)
    assert 0.45 < six.slope_error / one.slope_error < 0.75

    difference = jackknife(values_s, lambda x_s: slope(x_s) - slope({n: x_rd[:, :1] for n, x_rd in x_s.items()}))
    ledger.note(f"{six.exponent}; one direction {one.exponent}")
    ledger.compare_mean("slope of six directions less that of one", six.slope - one.slope, difference, 0.0)
    # 206 glasses of an independent code, N = 500 to 2000, in six directions: theta = 0.66 [0.39, 1.07].
    ledger.compare_mean("slope", six.slope, six.slope_error, 1 / 1.66, (1 / 1.39 - 1 / 2.07) / 3.92)
    assert not ledger.failures, ledger.failures
