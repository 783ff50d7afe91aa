"""Protocol files: what is accepted, what is refused with which words, and what the hash depends on."""

from __future__ import annotations

import json
import os
import re
import threading
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from qlm_hoomd.errors import ProtocolError
from qlm_hoomd.protocol import Protocol, build_protocol, load_protocol, read_settings, schema
from qlm_hoomd.testing.tiny import installed

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "protocols").glob("*.yaml"))

GOOD = """\
name: tiny
seed: 1
ensemble:
  n_particles: [100, 200]
  preparations: [rapid]
  realisations: 3
stages:
  - kind: walk
    steps: 5
  - kind: tally
"""


@pytest.fixture(autouse=True)
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with installed(tmp_path_factory.mktemp("site") / "tiny") as folder:
        yield folder


def load(tmp_path: Path, content: str | bytes) -> Protocol:
    path = tmp_path / "p.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load_protocol(path)


def swapped(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


# (what is wrong, the file, the line that is to be blamed, what the message must say)
BAD: list[tuple[str, str | bytes, int | None, str]] = [
    # unknown keys, each with the key that was meant
    ("misspelt key", GOOD + "engin: cpu\n", 11, r"unknown key 'engin'.*Did you mean 'engine'\?"),
    ("misspelt key of a plugin", swapped("steps: 5", "stepps: 5"), 9, r"unknown key 'stepps' in stages\[0\]; .*'steps'\?"),
    ("misspelt key of a potential", GOOD + "model:\n  potential:\n    xc: 2\n", 13, r"'xc' in model.potential; .*'x_c'\?"),
    ("unknown key of an engine", GOOD + "engine: {kind: cpu, ghost: 1}\n", 11, r"'ghost' in engine; expected one of: kind, dt"),
    ("misspelt key of the analysis", GOOD + "analysis: {strain: [0]}\n", 11, r"'strain' in analysis.*'strains'\?"),
    ("number for a key", GOOD + "1: 2\n", 11, "unknown key '1'"),
    ("list for a key", GOOD + "[a, b]: 2\n", 11, "unknown key"),
    # unknown plugins
    ("unknown stage", swapped("kind: walk", "kind: wolk"), 8, r"unknown stage 'wolk'; installed: .*walk.*Did you mean 'walk'\?"),
    ("unknown engine", GOOD + "engine: gpu\n", 11, "unknown engine 'gpu'; installed: cpu"),
    ("unknown potential", GOOD + "model:\n  potential:\n    kind: lj\n", 13, "unknown potential 'lj'; installed: .*inverse_power"),
    ("stage without kind", swapped("kind: walk", "kid: walk"), 8, r"stages\[0\]: kind is missing; expected one of: .*walk"),
    ("stage with a number for kind", swapped("kind: walk", "kind: 7"), 8, "kind is not a name; expected one of"),
    ("unknown stage as a word", swapped("- kind: tally", "- tallly"), 10, r"unknown stage 'tallly'; .*Did you mean 'tally'\?"),
    ("stage that is a number", swapped("- kind: tally", "- 3"), 10, r"stages\[1\] = 3; expected a name, or a mapping"),
    ("a potential that needs more than its name", GOOD + "model:\n  potential: kob_andersen\n", 12, r"potential = 'kob_andersen', which needs more than its name: q is missing; expected highest derivative"),
    ("a misspelt potential", GOOD + "model:\n  potential: kob_anderson\n", 12, r"unknown potential 'kob_anderson'; .*'kob_andersen'\?"),
    ("a misspelt word", GOOD + "  - kind: prepare\n  - {kind: shear, strain_max: 0.1, directions: al}\n", 12, r"^stages\[3\].directions = 'al'; expected 'all' or a list\. Did you mean 'all'\?$"),
    ("a strain that nothing measures", GOOD[: GOOD.index("  - kind: walk")] + "  - prepare\n  - {kind: shear, strain_max: 0.1, frames: [0.02]}\n  - {kind: modes, strains: [0.0, 0.02]}\nanalysis: {strains: [0.0, 0.02, 0.1, 0.11]}\n", 11, r"^analysis\.strains\[3\]: strain 0\.11 is measured by no stage"),
    ("a strain without modes or shear", GOOD[: GOOD.index("  - kind: walk")] + "  - prepare\n  - {kind: modes}\nanalysis: {strains: [0.02]}\n", 10, r"strain 0\.02 is measured by no stage"),
    ("modes where there is no frame", GOOD[: GOOD.index("  - kind: walk")] + "  - prepare\n  - {kind: shear, strain_max: 0.1, frames: [0.02]}\n  - {kind: modes, strains: [0.0, 0.03]}\n", 10, r"strains = \[0\.03\] are no frames; expected 0 and some of the frames \[0\.02\]"),
    ("a size beyond integers", swapped("[100, 200]", "[100, 1e300]"), 4, r"n_particles\[1\] = 1e\+300; expected a smaller integer"),
    ("directions from the quenched glass", GOOD + "  - kind: prepare\n  - {kind: shear, strain_max: 0.1, directions_at: [0.0]}\n", 12, "strain 0, that of the quenched glass, for which directions alone is enough"),
    ("directions without frames", GOOD + "  - kind: prepare\n  - {kind: shear, strain_max: 0.1, directions_at: [0.1]}\n", 12, r"directions_at = \[0\.1\], and there are no frames"),
    # values
    ("negative T0", GOOD + "model: {T0: -1}\n", 11, r"model.T0 = -1; expected a number greater than 0"),
    ("T0 not a number", GOOD + "model: {T0: .nan}\n", 11, "T0 = NaN; expected"),
    ("exponent too large", GOOD + "model: {potential: {n: 65}}\n", 11, "model.potential.n = 65; expected a number less than"),
    ("infinite cut-off", GOOD + "model: {potential: {x_c: 1.0e+300}}\n", 11, "cut-off .*; expected one that a box can hold"),
    ("size below the cut-off", swapped("100,", "81,"), 4, r"n_particles\[0\]: half the box of N = 81 is .*; expected N >= 82"),
    ("cut-off beyond half the box", GOOD + "model: {density: 8.0}\n", 4, r"too small for the cut-off.*; expected N >= 796"),
    ("no steps", swapped("steps: 5", "steps: 0"), 9, r"stages\[0\].steps = 0; expected a number greater than 0"),
    ("settings at odds with the sizes", swapped("steps: 5", "steps: 101"), 8, "steps = 101; expected at most N = 100"),
    ("words for a number", swapped("seed: 1", "seed: one"), 2, "seed = 'one'; expected an integer"),
    ("boolean for a number", swapped("seed: 1", "seed: true"), 2, "seed = true; expected an integer"),
    ("fraction for an integer", swapped("seed: 1", "seed: 1.5"), 2, "seed = 1.5; expected an integer"),
    ("negative seed", swapped("seed: 1", "seed: -1"), 2, "seed = -1; expected a number greater than or equal to 0"),
    ("date for a number", swapped("seed: 1", "seed: 2019-02-18"), 2, "YAML type date"),
    ("number for a word", swapped("name: tiny", "name: 3"), 1, "name = 3; expected text"),
    ("name that leaves the folder", swapped("name: tiny", "name: ../../etc"), 1, "cannot name a folder"),
    ("one size", swapped("[100, 200]", "100"), 4, "n_particles = 100; expected a list"),
    ("size twice", swapped("[100, 200]", "[100, 100]"), 4, "a size stands twice"),
    ("a word for a size", swapped("[100, 200]", "[100, many]"), 4, r"n_particles\[1\] = 'many'; expected an integer"),
    ("no sizes", swapped("[100, 200]", "[]"), 4, "n_particles has 0 entries; expected at least 1"),
    ("no realisations", swapped("realisations: 3", "realisations: 0"), 6, "realisations = 0; expected"),
    ("too many realisations", swapped("realisations: 3", "realisations: 1e12"), 6, "less than or equal to 1000000"),
    ("a size without number", swapped("realisations: 3", "realisations: {100: 3}"), 6, r"expected exactly \[100, 200\]"),
    ("no number for a size", swapped("realisations: 3", "realisations: {100: 3, 200: none}"), 6, r"\[200\] = 'none'"),
    ("no size for a number", swapped("realisations: 3", "realisations: {a: 3}"), 6, "key 'a' of ensemble.realisations"),
    ("unknown quench", swapped("[rapid]", "[rappid]"), 5, "= 'rappid'; expected 'rapid' or 'slow'"),
    ("preparation as a word", swapped("[rapid]", "rapid"), 5, "expected a list of names of quenches, or a mapping"),
    ("preparation twice", swapped("[rapid]", "[rapid, rapid]"), 5, "stands twice"),
    ("preparation without settings", swapped("[rapid]", "{mine: }"), 5, "preparations.mine is empty; expected a mapping"),
    ("misspelt setting", swapped("[rapid]", "{mine: {quench: slow, cooling: 1}}"), 5, "'cooling' in .*mine.*'cooling_rate'"),
    ("confidence of 1.5", GOOD + "analysis: {confidence: 1.5}\n", 11, "confidence = 1.5; expected a number less than 1"),
    ("threshold of 2", GOOD + "analysis: {participation_threshold: {100: 2}}\n", 11, r"threshold\[100\] = 2; expected"),
    # structure
    ("no seed", swapped("seed: 1\n", ""), 1, "seed is missing; expected an integer >= 0"),
    ("empty section", "name: a\nseed: 1\nensemble:\nstages: []\n", 3, "ensemble is empty; expected a mapping"),
    ("no stages", GOOD[: GOOD.index("stages")] + "stages: []\n", 7, "stages has 0 entries"),
    ("stages as a mapping", GOOD[: GOOD.index("  - kind: walk")] + "  walk: {}\n", 7, "stages is a mapping; expected a list"),
    ("stage before its input", swapped("  - kind: walk\n    steps: 5\n", ""), 8, "'tally' reads walk.parquet; expected a stage"),
    ("stage twice", GOOD + "  - kind: tally\n", 11, "'tally' stands twice"),
    ("key twice", GOOD + "seed: 2\n", 11, "key 'seed' stands twice; expected each key once"),
    # not a protocol, not YAML, not text
    ("empty file", "", None, "empty; expected a mapping with the keys name, seed"),
    ("comment alone", "# nothing\n", None, "empty; expected"),
    ("list", "- a\n", 1, "the top level is a list; expected a mapping"),
    ("word", "hello\n", 1, "the top level is a single value"),
    ("no YAML", "a: b: c\n", 1, "mapping values are not allowed here; expected valid YAML"),
    ("open bracket", "a: [1, 2\nb: 3\n", 2, "expected valid YAML"),
    ("tabulator", "a:\n\t- b\n", 2, "expected valid YAML"),
    ("two documents", GOOD + "---\n" + GOOD, 11, "another document; expected valid YAML"),
    ("tag on a mapping", GOOD + "model: !!python/object:os.system {}\n", 11, "YAML tag"),
    ("tag on a value", swapped("seed: 1", "seed: !foo 1"), 2, "YAML tag !foo"),
    ("impossible date", swapped("seed: 1", "seed: 2019-99-18"), None, "expected valid YAML"),
    ("number of 5000 digits", swapped("seed: 1", "seed: " + "9" * 5000), None, "expected valid YAML"),
    ("binary", bytes(range(256)), 2, "byte 128 is not UTF-8; expected a YAML text file"),
    ("control character", "name: a\nseed: \x01\n", 2, "expected a YAML text file"),
    ("UTF-16", b"\xff\xfe" + GOOD.encode("utf-16-le"), 1, "not UTF-8"),
    ("nested beyond the parser", "[\n" * 2000, None, "nested too deeply"),
    ("nested", "a: " + "[" * 60 + "]" * 60, 1, "nested too deeply; expected at most 40 levels"),
    ("billion laughs", "a: &a [x,x]\n" + "".join(f"b{i}: &b{i} [{'*a,' * 40 if not i else f'*b{i - 1},' * 40}]\n" for i in range(9)), 1, "more than 100000 values"),
    ("far too large", "# " + "x" * 300_000, None, "larger than 200 kB"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "line", "pattern"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_protocol_is_refused_with_file_line_fact_and_expectation(
    tmp_path: Path, content: str | bytes, line: int | None, pattern: str
) -> None:
    with pytest.raises(ProtocolError) as caught:
        load(tmp_path, content)
    problems = caught.value.problems
    hits = [at for at, text in problems if re.search(pattern, text, re.DOTALL)]
    assert hits, problems
    assert line in hits
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'p.yaml'}")
    for phrase in ("Input should", "valid dictionary", "unable to parse", "{message}"):
        assert phrase not in message


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (swapped("[100, 200]", "[-200]"), "n_particles[0] = -200; expected a number greater than 0."),
        (swapped("[100, 200]", "[many]"), "n_particles[0] = 'many'; expected an integer."),
        (swapped("[rapid]", "{mine: {quench: rapid, cooling: 1}}"), "unknown key 'cooling'"),
        (GOOD[: GOOD.index("  - kind: walk")] + "  - 3\n", "stages[0] = 3; expected a name, or a mapping with the key 'kind'."),
        (GOOD + "  - kind: prepare\n  - {kind: shear, strain_max: 0.1, directions: al}\n", "directions = 'al'"),
        (GOOD + "  - kind: prepare\n  - {kind: shear, strain_max: 0.1, directions: [xx]}\n", "directions[0] = 'xx'"),
        (GOOD + "  - kind: prepare\n  - {kind: shear, strain_max: 0.1, detector: 3}\n", "detector = 3"),
    ],
)
def test_one_mistake_is_one_message(tmp_path: Path, content: str, says: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        load(tmp_path, content)
    ((_, text),) = caught.value.problems
    assert says in text


def test_a_plain_name_stands_for_a_mapping_with_that_kind() -> None:
    spelled = {"model": {"potential": {"kind": "inverse_power_law"}}, "engine": {"kind": "cpu"}}
    short = build_protocol(
        plain(model={"potential": "inverse_power_law"}, engine="cpu", stages=[{"kind": "walk", "steps": 5}, "tally"])
    )
    assert short == build_protocol(plain(**spelled, stages=[{"kind": "walk", "steps": 5}, {"kind": "tally"}]))


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    content = GOOD.replace("seed: 1", "seed: one").replace("steps: 5", "steps: 0") + "engin: cpu\n"
    with pytest.raises(ProtocolError) as caught:
        load(tmp_path, content)
    assert [line for line, _ in caught.value.problems] == [2, 9, 11]


def test_very_many_problems_are_cut_short(tmp_path: Path) -> None:
    with pytest.raises(ProtocolError, match="more problems; correct these first") as caught:
        load(tmp_path, GOOD + "".join(f"key{index}: 1\n" for index in range(9000)))
    assert len(caught.value.problems) == 21


@pytest.mark.parametrize("name", ["nowhere.yaml", "."])
def test_file_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(ProtocolError, match=r"cannot be read .*; expected a YAML protocol file"):
        load_protocol(tmp_path / name)


def test_what_yaml_has_for_convenience_works(tmp_path: Path) -> None:
    protocol = load(
        tmp_path,
        b"\xef\xbb\xbf"  # a byte order mark, as some editors write
        b"name: t\r\nseed: 0x10\r\nensemble: {n_particles: [1e2], preparations: [slow], realisations: {100: 2}}\r\n"
        b"engine: &e {kind: cpu, dt: 1e-3}\r\nstages: [{kind: walk, steps: 5}]\r\n",
    )
    assert (protocol.seed, protocol.ensemble.n_particles, protocol.ensemble.count(100)) == (16, (100,), 2)
    assert protocol.engine.model_dump()["dt"] == 0.001
    assert protocol.ensemble.preparations["slow"].quench == "slow"


def test_engine_by_name_is_the_engine_with_its_defaults(tmp_path: Path) -> None:
    by_default, by_name, by_mapping = (load(tmp_path, GOOD + line) for line in ("", "engine: cpu\n", "engine: {kind: cpu}\n"))
    assert by_default.engine == by_name.engine == by_mapping.engine
    assert by_default.hash == by_name.hash == by_mapping.hash


def plain(**changes: Any) -> dict[str, Any]:
    return {
        "name": "t",
        "seed": 1,
        "ensemble": {"n_particles": [100], "preparations": ["rapid"], "realisations": 2},
        "stages": [{"kind": "walk", "steps": 5}],
        **changes,
    }


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"stages": [{"kind": "walk", "steps": 5, "pause": 0}]}, True),
        ({"model": {"density": 0.82}}, True),
        ({"model": {"potential": {"kind": "inverse_power_law", "n": 10}}}, True),
        ({"name": "other", "seed": 2}, True),
        ({"ensemble": {"n_particles": [100, 200], "preparations": ["slow"], "realisations": 9}}, True),
        ({"analysis": {"insist": True}}, True),
        ({"stages": [{"kind": "walk", "steps": 6}]}, False),
        ({"stages": [{"kind": "walk", "steps": 5}, {"kind": "tally"}]}, False),
        ({"model": {"T0": 1.1}}, False),
        ({"model": {"potential": {"x_c": 1.4}}}, False),
        ({"engine": {"kind": "cpu", "dt": 0.004}}, False),
    ],
)
def test_hash_changes_with_model_engine_and_stages_and_with_nothing_else(changes: dict[str, Any], same: bool) -> None:
    assert (build_protocol(plain(**changes)).hash == build_protocol(plain()).hash) is same
    assert re.fullmatch("[0-9a-f]{16}", build_protocol(plain()).hash)


def test_more_sizes_preparations_and_realisations_keep_the_realisations_there_are() -> None:
    more = plain(ensemble={"n_particles": [200, 100], "preparations": ["slow", "rapid"], "realisations": {100: 5, 200: 1}})
    before = list(build_protocol(plain()).statepoints())
    after = list(build_protocol(more).statepoints())
    assert len(before) == 2
    assert len(after) == 12
    assert all(statepoint in after for statepoint in before)


def test_other_settings_of_a_preparation_are_other_realisations() -> None:
    mine = {"n_particles": [100], "preparations": {"rapid": {"quench": "rapid", "equilibration_time": 7}}, "realisations": 2}
    assert not [
        point for point in build_protocol(plain(ensemble=mine)).statepoints() if point in build_protocol(plain()).statepoints()
    ]


def test_canonical_json_reads_back_as_the_same_protocol() -> None:
    protocol = build_protocol(plain(ensemble={"n_particles": [100], "preparations": ["slow"], "realisations": {100: 5}}))
    again = build_protocol(json.loads(protocol.canonical()))
    assert again == protocol
    assert again.canonical() == protocol.canonical()


def test_protocol_built_in_python_is_checked_like_a_file() -> None:
    with pytest.raises(ProtocolError, match=r"protocol: stages\[0\].steps = 0; expected"):
        build_protocol(plain(stages=[{"kind": "walk", "steps": 0}]))


# ---- plugins that do not keep their contract ----


def test_broken_plugin_is_nobody_elses_problem(tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    with installed(folder, {"qlm_hoomd.stages": {"ruin": "ruin:Stage"}}, name="qlm_ruin"):
        (folder / "ruin.py").write_text("import no_such_module\n")
        assert load(tmp_path, GOOD).name == "tiny"
        assert '"ruin"' not in json.dumps(schema())
        with pytest.raises(ProtocolError, match=r"line 10: .*'ruin' .*from qlm_ruin 1.0\) cannot be loaded.*no_such_module"):
            load(tmp_path, swapped("kind: tally", "kind: ruin"))


PLUGIN = """
from typing import Literal
from pydantic import field_validator
from qlm_hoomd.stages import Stage

class NoStage: ...

class WrongKind(Stage):
    kind: Literal["something"] = "something"
    def requires(self): return ()
    def products(self): return ("x.json",)
    def run(self, context): ...

class Thrower(WrongKind):
    kind: Literal["thrower"] = "thrower"
    value: int = 0
    @field_validator("value")
    @classmethod
    def fails(cls, value):
        return {}[value]

class Rival(WrongKind):
    kind: Literal["rival"] = "rival"
    def products(self): return ("walk.parquet",)
"""


@pytest.mark.parametrize(
    ("stage", "pattern"),
    [
        ("kind: no_stage", r"stage 'no_stage' \(odd:NoStage, from qlm_odd 1.0\) is not a subclass of Stage"),
        ("kind: wrong_kind", r"does not declare kind: Literal\['wrong_kind'\]"),
        ("{kind: thrower, value: 3}", r"stage 'thrower' \(from qlm_odd 1.0\) fails while it checks its settings: KeyError: 3"),
        ("kind: rival", r"'walk' and 'rival' both write walk.parquet; expected only one"),
    ],
)
def test_plugin_that_breaks_the_contract_is_named(tmp_path: Path, stage: str, pattern: str) -> None:
    folder = tmp_path / "odd"
    kinds = {"no_stage": "NoStage", "wrong_kind": "WrongKind", "thrower": "Thrower", "rival": "Rival"}
    with installed(folder, {"qlm_hoomd.stages": {kind: f"odd:{name}" for kind, name in kinds.items()}}, name="qlm_odd"):
        (folder / "odd.py").write_text(PLUGIN)
        with pytest.raises(ProtocolError, match=pattern):
            load(tmp_path, swapped("kind: tally", stage))


# ---- the schema ----


def test_schema_is_valid_and_knows_the_plugins() -> None:
    document = schema()
    jsonschema.Draft202012Validator.check_schema(document)
    assert document["$defs"]["WalkStage"]["properties"]["steps"]["description"] == "number of steps"
    for key, field in document["properties"].items():
        assert field.get("description"), f"{key} is not described"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_protocols_load_and_satisfy_the_schema(path: Path) -> None:
    load_protocol(path)
    # Keys are text in JSON: YAML's sizes become text, as they do in every editor that uses the schema.
    document = json.loads(json.dumps(YAML(typ="safe", pure=True).load(path.read_text())))
    jsonschema.validate(document, schema())


@pytest.mark.parametrize(
    "change",
    [
        {"seed": "one"},
        {"engine": "gpu"},
        {"stages": [{"kind": "wolk"}]},
        {"stages": [{"steps": 5}]},
        {"extra": 1},
        {"model": {"T0": -1}},
    ],
)
def test_schema_refuses_what_the_loader_refuses(change: dict[str, Any]) -> None:
    jsonschema.validate(plain(), schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(plain(**change), schema())
    with pytest.raises(ProtocolError):
        build_protocol(plain(**change))


# ---- no input whatever gives a traceback ----

_plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_places = st.sampled_from(
    [("name",), ("seed",), ("model",), ("engine",), ("ensemble",), ("stages",), ("analysis",), ("model", "potential"), ("model", "T0"),
     ("ensemble", "n_particles"), ("ensemble", "preparations"), ("ensemble", "realisations"), ("stages", 0), ("stages", 0, "kind"),
     ("stages", 0, "steps"), ("analysis", "participation_threshold"), ("analysis", "strains")]
)  # fmt: skip


@given(place=_places, value=_plain_values)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_value_anywhere_is_accepted_or_refused_properly(place: tuple[str | int, ...], value: Any) -> None:
    document: Any = plain(model={}, analysis={})
    node = document
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    try:
        assert build_protocol(document).hash
    except ProtocolError as error:
        texts = [text.replace(repr(value), "") for _, text in error.problems]
    else:
        return
    for phrase in ("Input should", "nable to parse", "valid dictionary", "valid tuple"):
        assert not [text for text in texts if phrase in text]


@given(content=st.text(max_size=60) | st.binary(max_size=60))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_file_gives_a_traceback(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "p.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode(errors="surrogatepass"))
    with pytest.raises(ProtocolError):
        load_protocol(path)


# ---- pipes ----


def test_pipe_is_read_if_somebody_writes_to_it_and_else_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from qlm_hoomd.protocol import yaml

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    monkeypatch.setattr(yaml, "_PIPE_S", 0.1)
    with pytest.raises(ProtocolError, match=r"a pipe into which nobody wrote for 0.1 s\); expected a YAML protocol file"):
        read_settings(pipe)
    monkeypatch.setattr(yaml, "_PIPE_S", 60.0)
    writer = threading.Thread(target=lambda: pipe.write_text("partition: long\n"))
    writer.start()
    assert read_settings(pipe) == {"partition": "long"}
    writer.join()
