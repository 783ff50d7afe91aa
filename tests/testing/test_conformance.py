"""The built-in plugins keep the contracts that `qlm_hoomd.testing` states, and the suites notice those that do not."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest

from qlm_hoomd.engines.cpu import CPUEngine, CPUEngineSettings
from qlm_hoomd.model import GlassModel
from qlm_hoomd.potentials import Harmonic, Hertzian, InversePowerLaw, KobAndersen, LennardJones, SoftSpheres
from qlm_hoomd.report import Section
from qlm_hoomd.testing import (
    EngineConformance,
    ExecutorConformance,
    PotentialConformance,
    ReportSectionConformance,
    StageConformance,
)
from qlm_hoomd.testing.sections import _FROM_OUTSIDE, _Balance
from qlm_hoomd.testing.tiny import installed


class TestInversePowerLaw(PotentialConformance):
    potential = GlassModel().potential


class TestSteeperInversePowerLaw(PotentialConformance):
    potential = InversePowerLaw(n=12, q=4, x_c=1.3, lengths=((1.0,),))


class TestOddInversePowerLaw(PotentialConformance):
    potential = InversePowerLaw(n=9, q=2, x_c=1.5, lengths=((1.0, 1.2), (1.2, 1.4)))


class TestLennardJones(PotentialConformance):
    potential = LennardJones(epsilon=((1.0,),), sigma=((1.0,),), q=1, n=13, m=7)
    closest = 0.3


class TestKobAndersen(PotentialConformance):
    potential = KobAndersen(q=4)
    closest = 0.34


class TestHarmonic(PotentialConformance):
    potential = Harmonic(sigma=((1.0, 1.2), (1.2, 1.4)))


class TestHertzian(PotentialConformance):
    potential = Hertzian(epsilon=3.0, sigma=((1.0, 1.2), (1.2, 1.4)))


class TestSoftSpheres(PotentialConformance):
    potential = SoftSpheres()


class TestSmootherSoftSpheres(PotentialConformance):
    potential = SoftSpheres(n=10, q=3, x_c=1.4, nonadditivity=0.1)


class TestCPUEngine(EngineConformance):
    settings = CPUEngineSettings()
    resumes_bitwise = True


class TestCPUEngineWithParticlesOfAllSizes(EngineConformance):
    settings = CPUEngineSettings()
    model = GlassModel(potential=SoftSpheres(q=3), density=1.0, T0=0.5)
    resumes_bitwise = True
    n_falls = 3


def small(*stages: dict[str, Any]) -> dict[str, Any]:
    quick = {"quick": {"quench": "rapid", "equilibration_time": 1.0}}
    ensemble = {"n_particles": [100], "preparations": quick, "realisations": 1}
    return {"name": "small", "seed": 1, "ensemble": ensemble, "stages": list(stages)}


class TestPrepareStage(StageConformance):
    protocol = small({"kind": "prepare"})


class TestModesStage(StageConformance):
    protocol = small({"kind": "prepare"}, {"kind": "modes", "count": 5})


class TestStructureStage(StageConformance):
    protocol = small({"kind": "prepare"}, {"kind": "structure"})


class TestWalkStage(StageConformance):
    protocol = small({"kind": "walk"})

    @pytest.fixture(autouse=True)
    def tiny(self, tmp_path: Any) -> Any:
        with installed(tmp_path / "site"):
            yield


class TestLocalExecutor(ExecutorConformance):
    name = "local"


class TestOverview(ReportSectionConformance):
    name = "overview"


class TestShear(ReportSectionConformance):
    name = "shear"


class TestInstabilities(ReportSectionConformance):
    name = "instabilities"


class TestSpectrum(ReportSectionConformance):
    name = "spectrum"


class TestExponents(ReportSectionConformance):
    name = "exponents"


class TestStructure(ReportSectionConformance):
    name = "structure"


# ---- the suites notice ----


class Crooked(InversePowerLaw):
    """A potential with one fault at a time."""

    kind: Literal["inverse_power_law"] = "inverse_power_law"
    fault: str = ""

    def derivatives(self, r2_p: Any, pairtype_p: Any, order: int) -> Any:
        out_kp = super().derivatives(r2_p, pairtype_p, order)
        if self.fault == "third derivative" and order >= 3:
            out_kp[3] *= 1 + 1e-5
        if self.fault == "tail":
            out_kp[0] += 1e-3
        if self.fault == "asymmetry":
            out_kp *= 1 + 1e-3 * (pairtype_p == 1)
        if self.fault == "cut":
            out_kp[0] += np.where(out_kp[0] != 0, 1e-3, 0)
        return out_kp


@pytest.mark.parametrize(
    ("fault", "test"),
    [
        ("third derivative", "test_derivatives_match_numerical_ones_of_the_order_below"),
        ("tail", "test_is_zero_beyond_the_cutoff"),
        ("asymmetry", "test_is_symmetric_in_the_two_types"),
        ("cut", "test_energy_and_force_are_continuous_at_the_cutoff"),
        ("", "test_is_registered_under_its_kind"),
        ("", "test_every_setting_is_described"),
    ],
)
def test_potential_suite_notices(fault: str, test: str) -> None:
    suite = TestInversePowerLaw()
    getattr(suite, test)()
    suite.potential = Crooked(**GlassModel().potential.model_dump(), fault=fault)  # type: ignore[misc]
    with pytest.raises(AssertionError):
        getattr(suite, test)()


@pytest.mark.parametrize(
    ("quantity", "test"),
    [
        ("stress_xy", "test_stress_is_the_strain_derivative_of_the_energy"),
        ("pressure", "test_pressure_is_the_volume_derivative_of_the_energy"),
        ("max_force", "test_forces_are_the_gradient_of_the_energy"),
    ],
)
def test_engine_suite_notices(quantity: str, test: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    measure = CPUEngine.measure

    def off_by_a_little(self: CPUEngine, glass: Any) -> Any:
        found = measure(self, glass)
        return replace(found, **{quantity: getattr(found, quantity) * (1 + 1e-5)})

    monkeypatch.setattr(CPUEngine, "measure", off_by_a_little)
    with pytest.raises(AssertionError, match=quantity):
        getattr(TestCPUEngine(), test)()


@pytest.mark.parametrize("html", ["<p>open", "</p>", "<b><i></b></i>"])
def test_section_suite_notices_unbalanced_html(html: str) -> None:
    with pytest.raises(AssertionError):
        _Balance().check(html)


@pytest.mark.parametrize(
    ("html", "outside"),
    [
        ('<img src="figure.png">', True),
        ("<style>@import 'x.css'</style>", True),
        ('<link rel="stylesheet">', True),
        ('<img src="data:image/png;base64,AAAA">', False),
        ('<svg><use href="#a"/><rect fill="url(#b)"/></svg><a href="https://doi.org/x">source</a>', False),
    ],
)
def test_section_suite_notices_what_comes_from_outside(html: str, outside: bool) -> None:
    assert bool(_FROM_OUTSIDE.search(html)) is outside
    assert Section("t", html).html == html
