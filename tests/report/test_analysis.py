"""What takes part in an exponent, and what is said of it: windows, sizes, steady flow, values that the theory does not have."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from qlm_hoomd.errors import InputError
from qlm_hoomd.protocol import Analysis as Settings
from qlm_hoomd.protocol import build_protocol
from qlm_hoomd.report.means import drift_of_stress
from qlm_hoomd.report.results import Results
from qlm_hoomd.report.words import card, number_with_interval, remarks
from tests.synthetic_ensemble import Ensemble

if TYPE_CHECKING:
    from pathlib import Path

    from qlm_hoomd.report.numbers import Analysis

NO_SHEAR = ("structure", "structure_functions", "steps", "events")
NO_MODES = ("structure", "structure_functions", "modes", "moduli")


def analysis(directory: Path, ensemble: Ensemble, without: tuple[str, ...], **settings: Any) -> Analysis:
    """Of a synthetic ensemble, under these settings."""
    if not directory.exists():
        ensemble.write(directory, without=without)
    results = Results.load(directory)
    object.__setattr__(results, "settings", Settings.model_validate({"strains": results.settings.strains, **settings}))
    return results.analysis


# ---- the lower end of the window ----


def test_the_users_lower_end_is_that_of_the_fit(tmp_path: Path) -> None:
    ensemble = Ensemble(sizes=(2000,), realisations=60)
    by_rule = analysis(tmp_path / "run", ensemble, NO_SHEAR)
    given = analysis(tmp_path / "run", ensemble, NO_SHEAR, omega_min=0.45)
    assert by_rule.spectra[0].window.lower < 0.45
    window = given.spectra[0].window
    assert (window.lower, window.upper) == (0.45, by_rule.spectra[0].window.upper)
    (alpha,) = given.find(method="spectrum")
    modes = Results.load(tmp_path / "run").tables["modes"]
    local = modes.filter(pl.col("participation_ratio") < given.spectra[0].threshold)["frequency"]
    assert alpha.fit.n_modes == ((local > 0.45) & (local <= window.upper)).sum()
    assert alpha.exponent.window == (0.45, window.upper)
    assert given.to_dict()["settings"]["omega_min"] == 0.45
    beyond = analysis(tmp_path / "run", ensemble, NO_SHEAR, omega_min=1.2).find(method="spectrum")[0]
    assert beyond.status == "withheld"
    assert "omega_min = 1.2 is not below the upper end of the window" in beyond.refusal


def test_a_lower_end_that_is_not_set_leaves_no_trace_in_a_protocol() -> None:
    protocol = Ensemble().protocol
    assert "omega_min" not in build_protocol(protocol).canonical()
    given = build_protocol(protocol | {"analysis": {"omega_min": 0.2}})
    assert '"omega_min": 0.2' in given.canonical()
    assert given.hash == build_protocol(protocol).hash
    with pytest.raises(InputError, match=r"omega_min = -0\.1; expected a number greater than or equal to 0"):
        Settings(omega_min=-0.1)


# ---- sizes that have left the power law ----


def test_sizes_whose_softest_modes_lie_beyond_the_power_law_leave_the_scaling(tmp_path: Path) -> None:
    ensemble = Ensemble(sizes=(500, 1000, 2000, 4000), realisations=24)
    ensemble.write(tmp_path / "run", without=NO_SHEAR)
    before = analysis(tmp_path / "run", ensemble, NO_SHEAR).find(method="omega_min")[0]
    small = before.fit.sizes[0]
    factor = 1.02 / before.fit.means[0]  # the mean then is beyond omega = 1
    for path in (tmp_path / "run" / "workspace").iterdir():
        if f'"n_particles": {small}' in (path / "signac_statepoint.json").read_text():
            table = pl.read_parquet(path / "modes.parquet").with_columns(pl.col("frequency") * factor)
            table.write_parquet(path / "modes.parquet", metadata={"qlm_hoomd": "{}"})
    after = analysis(tmp_path / "run", ensemble, NO_SHEAR).find(method="omega_min")[0]
    assert after.fit.sizes == before.fit.sizes[1:]
    (said,) = [text for text in after.left_out if text.startswith(f"N = {small} ")]
    assert "the mean frequency of its softest modes, 1.02 ± " in said
    assert f"N = {small} is left out: the mean frequency" in card(after).sample
    assert "below ω = 1, where the power law of D_L ends" in card(after).sample
    assert f"N = {small} is left out" in remarks(after)
    assert said in after.to_dict()["left_out"]
    wider = analysis(tmp_path / "run", ensemble, NO_SHEAR, omega_max=1.3).find(method="omega_min")[0]
    assert small in wider.fit.sizes


# ---- steady flow ----


def steps(rng: np.random.Generator, slope: float, n: int = 24, end: float = 0.12) -> pl.DataFrame:
    """Stress about a line, with a level of its own in each realisation."""
    strain = np.linspace(0.0, end, 61)
    return pl.concat(
        pl.DataFrame(
            {
                "preparation": "rapid", "n_particles": (500, 1000)[r % 2], "realisation": r, "strain": strain,
                "stress_xy": 0.5 + slope * strain + 0.05 * rng.standard_normal() + 0.05 * rng.standard_normal(strain.size),
            }
        )
        for r in range(n)
    )  # fmt: skip


def test_a_stress_that_rises_is_not_steady_and_a_flat_one_is() -> None:
    rng = np.random.default_rng(3)
    flat = [drift_of_stress(steps(rng, 0.0), 0.08, 0.12) is None for _ in range(60)]
    assert sum(flat) >= 51  # two standard errors: 95 %
    rising = drift_of_stress(steps(rng, 3.0), 0.08, 0.12)
    assert rising is not None
    found = re.fullmatch(r"the mean stress changes by \+(\S+) ± (\S+) from strain 0.08 to 0.12", rising)
    assert found is not None
    # A line through 21 points of noise 0.05: its change over the range is known to 0.035 in each of 24 realisations.
    assert abs(float(found[1]) - 0.12) < 3.5 * float(found[2])
    assert 0.004 < float(found[2]) < 0.012
    short = drift_of_stress(steps(rng, 0.0, end=0.1), 0.08, 0.12)
    assert short is not None
    assert "0 realisations were sheared from strain 0.08 to 0.12, too few" in short
    assert drift_of_stress(None, 0.0, 0.1) is not None


def test_nothing_is_pooled_where_the_flow_is_not_steady_unless_the_user_says_so(tmp_path: Path) -> None:
    ensemble = Ensemble(realisations=24, strain_max=0.04, analysis=(("strains", [0.0, 0.02, 0.03]),))
    found = analysis(tmp_path / "run", ensemble, NO_MODES)
    assert "the mean stress changes by +" in found.unsteady["rapid"]
    assert found.pooled("rapid") == []
    assert found.steady("rapid") is None
    assert found.to_dict()["unsteady"] == found.unsteady
    told = analysis(tmp_path / "run", ensemble, NO_MODES, steady_from=0.02)
    assert told.unsteady == {}
    assert told.steady("rapid") == (0.02, 0.03)
    assert {e.quantity for e in told.pooled("rapid")} >= {"theta"}


# ---- outside the theory ----


def test_a_theta_below_zero_says_that_it_is_outside_the_theory_wherever_it_stands(tmp_path: Path) -> None:
    ensemble = Ensemble(
        sizes=(500, 1000, 2000, 4000), realisations=240, strain_max=0.004, preparations=(("rapid", -0.3, 4.0, 0.55),)
    )
    found = analysis(tmp_path / "run", ensemble, NO_MODES)
    (theta,) = found.find(quantity="theta", method="gamma_min")
    assert theta.exponent.value < 0
    assert theta.status == "measured"
    assert card(theta).interval.endswith("], outside the theory (θ ≥ 0)")
    assert "outside the theory (θ ≥ 0)" in number_with_interval(theta)
    assert theta.to_dict()["outside_theory"] == "outside the theory (theta >= 0)"
    assert theta.to_dict()["exponent"]["outside_theory"] == "outside the theory (theta >= 0)"
    assert "outside the theory (theta >= 0)" in theta.alternatives.verdict
    (alpha,) = found.find(quantity="alpha", method="prediction")
    assert alpha.exponent is None
    assert "outside the theory" in alpha.refusal
