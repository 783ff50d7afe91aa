"""Settings that a later version brings: they leave the hash of what exists alone until somebody uses them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from pydantic import BaseModel, Field
from qlm_quasistatic.stage import ShearStage
from typer.testing import CliRunner

from qlm_hoomd.box import Box
from qlm_hoomd.cli import app
from qlm_hoomd.engines.cpu import CPUEngineSettings
from qlm_hoomd.engines.hoomd import HOOMDEngineSettings
from qlm_hoomd.errors import InputError
from qlm_hoomd.glass import Glass
from qlm_hoomd.hessian import Hessian
from qlm_hoomd.model import GlassModel, Preparation
from qlm_hoomd.modes import LowestModes
from qlm_hoomd.potentials import KobAndersen
from qlm_hoomd.preparation import equilibrate
from qlm_hoomd.protocol import Analysis, Ensemble, build_protocol, load_protocol
from qlm_hoomd.registry import ENGINES, POTENTIALS, STAGES
from qlm_hoomd.settings import Later, OfKind, for_hash
from qlm_hoomd.stages.modes import ModesStage
from qlm_hoomd.stages.prepare import PrepareStage
from qlm_hoomd.testing.tiny import installed


class Part(BaseModel):
    weight: float = 1.0
    colour: Annotated[str | None, Later()] = None


class Whole(BaseModel):
    kind: str = "whole"
    part: Part = Part()
    parts: tuple[Part, ...] = ()
    named: dict[int, Part] = Field(default_factory=dict)
    extra: Annotated[Part, Later()] = Part(weight=2.0)
    engine: Annotated[CPUEngineSettings, OfKind(ENGINES, CPUEngineSettings, shorthand=True), Later()] = Field(
        default="cpu", validate_default=True
    )


@pytest.mark.parametrize(
    ("settings", "plain"),
    [
        ({}, {}),
        ({"part": {"weight": 3.0}}, {"part": {"weight": 3.0}}),
        ({"part": {"colour": "red"}}, {"part": {"weight": 1.0, "colour": "red"}}),
        ({"parts": [{}, {"colour": "red"}]}, {"parts": [{"weight": 1.0}, {"weight": 1.0, "colour": "red"}]}),
        (
            {"named": {7: {"colour": None}, 8: {"colour": ""}}},
            {"named": {"7": {"weight": 1.0}, "8": {"weight": 1.0, "colour": ""}}},
        ),
        # What is later and not at its default counts without what in it is later and is.
        ({"extra": {"weight": 2.0, "colour": None}}, {}),
        ({"extra": {"weight": 1.0}}, {"extra": {"weight": 1.0}}),
        ({"engine": "cpu"}, {}),
        ({"engine": {"kind": "cpu", "dt": 0.005}}, {}),
    ],
)
def test_what_is_later_and_at_its_default_is_left_out_at_any_depth(settings: dict[str, Any], plain: dict[str, Any]) -> None:
    at_default = {"kind": "whole", "part": {"weight": 1.0}, "parts": [], "named": {}}
    assert for_hash(Whole.model_validate(settings)) == at_default | plain


def test_later_setting_that_is_used_is_part_of_what_is_hashed() -> None:
    assert for_hash(Whole.model_validate({"engine": {"kind": "cpu", "dt": 0.004}}))["engine"]["dt"] == 0.004
    assert for_hash(Whole(part=Part(colour="red")), include={"part"}) == {"part": {"weight": 1.0, "colour": "red"}}


def test_deprecated_settings_are_hashed_without_a_word(recwarn: pytest.WarningsRecorder) -> None:
    class Former(BaseModel):
        old: float = Field(default=1.0, deprecated=True)
        new: Annotated[float, Later()] = Field(default=2.0, deprecated=True)

    assert for_hash(Former()) == {"old": 1.0}
    assert for_hash(Former(new=1.0)) == {"old": 1.0, "new": 1.0}
    assert not recwarn.list


class Pair(BaseModel):
    """Two ways to say one thing, one of which came later."""

    number: int | None = None
    text: Annotated[str | None, Later()] = None

    def model_post_init(self, _: Any) -> None:
        if (self.number is None) == (self.text is None):
            raise ValueError("expected number or text")


def test_later_setting_that_the_others_cannot_do_without_is_hashed() -> None:
    assert for_hash(Pair(number=1)) == {"number": 1}
    assert for_hash(Pair(text="one")) == {"number": None, "text": "one"}


# ---- a plugin that gains settings, as its users see it ----

PLUGIN = """
from typing import Annotated, Literal
from pydantic import BaseModel, ConfigDict, Field
from qlm_hoomd.potentials import InversePowerLaw
from qlm_hoomd.settings import Later
from qlm_hoomd.stages import Stage

class Guide(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = Field(default="", description="name")
    {guide}

class StrollStage(Stage):
    kind: Literal["stroll"] = "stroll"
    steps: int = Field(default=3, description="steps")
    guides: tuple[Guide, ...] = Field(default=(Guide(),), description="guides")
    {stage}

    def requires(self): return ()
    def products(self): return ("stroll.json",)
    def run(self, context): ...

class Ramp(InversePowerLaw):
    kind: Literal["ramp"] = "ramp"
    {potential}
"""
FORMER = {"guide": "", "stage": "", "potential": ""}
LATER = {
    "guide": "pace: Annotated[str | None, Later()] = Field(default=None, description='pace')",
    "stage": "noise: Annotated[float, Later(), Field(ge=0)] = Field(default=0.0, description='noise')",
    "potential": "slope: Annotated[float, Later()] = Field(default=1.0, description='slope')",
}
UNMARKED = FORMER | {"stage": "noise: Annotated[float, Field(ge=0)] = Field(default=0.0, description='noise')"}
YAML = """\
name: walk
seed: 1
model:
  potential: {kind: ramp, n: 10, q: 3, x_c: 1.48, lengths: [[1.0, 1.18], [1.18, 1.4]]}
ensemble: {n_particles: [100], preparations: [rapid], realisations: 2}
stages:
  - {kind: stroll, steps: 4}
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Any:
    """Installs one of the versions of the plugin for a block."""

    def install(version: str, code: dict[str, str]) -> Any:
        module = f"stroll_{version}_{tmp_path.name}"
        folder = tmp_path / version
        folder.mkdir()
        (folder / f"{module}.py").write_text(PLUGIN.format(**code), encoding="utf-8")
        points = {STAGES.name: {"stroll": f"{module}:StrollStage"}, POTENTIALS.name: {"ramp": f"{module}:Ramp"}}
        return installed(folder, points, name="qlm_stroll")

    return install


def run_that_only_writes_state_points(protocol: Path, run: Path) -> str:
    """`qlm run` with an executor that leaves the work to others; what it says where it refuses."""
    done = CliRunner().invoke(app, ["run", str(protocol), "--out", str(run), "--executor", "row"])
    return "" if done.exit_code == 0 else " ".join(done.output.split())


def test_run_of_a_plugin_goes_on_when_the_plugin_gains_settings(tmp_path: Path, plugin: Any) -> None:
    path, run = tmp_path / "walk.yaml", tmp_path / "run"
    path.write_text(YAML, encoding="utf-8")
    with plugin("former", FORMER):
        former = load_protocol(path)
        assert not run_that_only_writes_state_points(path, run)
    stored = json.loads((run / "protocol.json").read_text(encoding="utf-8"))
    assert stored == json.loads(former.canonical())
    folders = sorted(folder.name for folder in (run / "workspace").iterdir())
    with plugin("later", LATER):
        # The stored protocol has no such keys; at their defaults it is the same.
        assert build_protocol(stored) == load_protocol(path)
        assert build_protocol(stored).hash == load_protocol(path).hash == former.hash
        assert not run_that_only_writes_state_points(path, run)
        assert sorted(folder.name for folder in (run / "workspace").iterdir()) == folders
        shown = CliRunner().invoke(app, ["status", str(run), "--json"])
        assert json.loads(shown.stdout)["protocol_hash"] == former.hash


@pytest.mark.parametrize(
    ("old", "new", "difference"),
    [
        ("steps: 4", "steps: 4, noise: 0.5", "stages.stroll.noise was 0.0 and is 0.5"),
        ("steps: 4", "steps: 4, guides: [{pace: slow}]", "stages.stroll.guides was "),
        ("kind: ramp", "kind: ramp, slope: 2.0", "model.potential.slope was 1.0 and is 2.0"),
    ],
)
def test_setting_that_is_used_makes_other_realisations(
    tmp_path: Path, plugin: Any, old: str, new: str, difference: str
) -> None:
    path, run = tmp_path / "walk.yaml", tmp_path / "run"
    path.write_text(YAML, encoding="utf-8")
    with plugin("former", FORMER):
        former = load_protocol(path)
        assert not run_that_only_writes_state_points(path, run)
    path.write_text(YAML.replace(old, new), encoding="utf-8")
    with plugin("later", LATER):
        assert load_protocol(path).hash != former.hash
        assert difference in run_that_only_writes_state_points(path, run)


def test_setting_without_the_mark_orphans_what_exists(tmp_path: Path, plugin: Any) -> None:
    """What the mark is for."""
    path = tmp_path / "walk.yaml"
    path.write_text(YAML, encoding="utf-8")
    with plugin("former", FORMER):
        former = load_protocol(path)
    with plugin("unmarked", UNMARKED):
        assert load_protocol(path).hash != former.hash


def test_schema_shows_later_settings_as_any_other(plugin: Any) -> None:
    with plugin("later", LATER):
        document = json.loads(CliRunner().invoke(app, ["schema"]).stdout)
    noise = document["$defs"]["StrollStage"]["properties"]["noise"]
    assert noise == {"default": 0.0, "description": "noise", "minimum": 0, "title": "Noise", "type": "number"}


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: GlassModel(densty=1), "GlassModel: unknown key 'densty'; expected one of: potential, density, .* Did you mean 'density'.$"),
        (lambda: GlassModel(density=-1), r"GlassModel: density = -1; expected a number greater than 0\.$"),
        (lambda: GlassModel(potential="kob_anderson"), "GlassModel: .*unknown potential 'kob_anderson'"),
        (Preparation, "Preparation: quench is missing; expected rapid: overdamped"),
        (lambda: Preparation(quench="rapd"), r"Preparation: quench = 'rapd'; expected 'rapid' or 'slow'\.$"),
        (KobAndersen, "KobAndersen: q is missing; expected highest derivative"),
        (lambda: KobAndersen(q="two"), r"KobAndersen: q = 'two'; expected an integer\.$"),
        (lambda: ModesStage(cont=3), "ModesStage: unknown key 'cont'; expected one of: .* Did you mean 'count'.$"),
        (lambda: PrepareStage(tolerance=1), r"PrepareStage: tolerance = 1; expected a number less than or equal to 0.000001\.$"),
        (lambda: ShearStage(strain_mx=0.1), "ShearStage: unknown key 'strain_mx'; .* Did you mean 'strain_max'.$"),
        (lambda: ShearStage(strain_max=0.1, detector="fald"), "ShearStage: .*unknown detector 'fald'; .* Did you mean 'fold'.$"),
        (lambda: CPUEngineSettings(dtt=1), "CPUEngineSettings: unknown key 'dtt'; expected one of: dt, "),
        (lambda: HOOMDEngineSettings(device="gpus"), "HOOMDEngineSettings: device = 'gpus'; expected 'cpu' or 'gpu'"),
        (lambda: Analysis(strain=[0.0]), "Analysis: unknown key 'strain'; .* Did you mean 'strains'.$"),
        (lambda: Ensemble(preparations=["rapid"], realisations=1), "Ensemble: n_particles is missing; expected system sizes N"),
        (lambda: equilibrate(None, None, GlassModel(), "rapd", None), "quench = 'rapd'; expected 'rapid' or 'slow'"),
        (lambda: equilibrate(None, None, GlassModel(), 3, None), "preparation 3; expected a Preparation, or the name of a quench"),
        (lambda: Hessian(GlassModel()), "the potential is a GlassModel; expected a PairPotential, as GlassModel.potential is one"),
        (lambda: LowestModes().compute(Glass(np.zeros((2, 3)), np.zeros(2), Box(5.0))), "modes of <Glass: .*; expected a Hessian"),
    ],
)  # fmt: skip
def test_what_a_script_gets_wrong_is_said_in_our_words(call: Callable[[], object], says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        call()
    assert "Input should" not in str(caught.value)
