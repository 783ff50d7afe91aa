"""Templates of protocols: whatever `qlm new` writes is valid, explained, and can be planned."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from qlm_hoomd.ensemble.local import LocalExecutor
from qlm_hoomd.errors import InputError
from qlm_hoomd.planning.forecast import make_forecast
from qlm_hoomd.protocol import explain, load_protocol, schema, templates


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_there_is_one_for_each_way_of_working() -> None:
    assert templates.names()[0] == "quickstart"
    assert set(templates.names()) >= {"quickstart", "cyclic", "frames", "mesoscopic", "paper_rapid", "paper_slow"}


@pytest.mark.parametrize("name", templates.names())
def test_a_new_protocol_means_what_its_template_means_and_can_be_planned(name: str, folder: Path) -> None:
    path = templates.write(name)
    assert path == Path(f"{name}.yaml")
    protocol = load_protocol(path)
    original = load_protocol(templates._path(name))
    assert protocol == original
    forecast = make_forecast(protocol, Path("runs") / name, LocalExecutor(3), limit_s=0)
    assert forecast.n_unfinished == sum(original.ensemble.count(n) for n in original.ensemble.n_particles) * len(
        original.ensemble.preparations
    )
    assert {part.n_particles for part in forecast.parts} == set(original.ensemble.n_particles)
    assert sorted(folder.iterdir()) == [folder / path]


@pytest.mark.parametrize("name", templates.names())
def test_every_key_is_explained_above_its_line(name: str) -> None:
    path = templates.write(name)
    lines = path.read_text(encoding="utf-8").splitlines()
    explained = explain(path)
    assert {"name", "seed", "ensemble", "n_particles", "stages", "kind"} <= {key for _, key, _ in explained}
    for number, key, text in explained:
        above: list[str] = []
        for line in reversed(lines[: number - 1]):
            if not line.strip().startswith("#"):
                break
            above.insert(0, line.strip().removeprefix("#").strip())
        assert text in " ".join(above), f"{path}, line {number}: {key}"
    assert max(map(len, lines)) <= 140


def test_explanations_are_the_schema_s() -> None:
    said = {key: text for _, key, text in explain(templates.write("quickstart"))}
    properties = schema()["$defs"]["ShearStage"]["properties"]
    assert said["to_next_event"] == properties["to_next_event"]["description"]
    assert said["seed"] == schema()["properties"]["seed"]["description"]


def test_a_protocol_is_named_after_its_file(folder: Path) -> None:
    (folder / "sub").mkdir()
    path = templates.write("quickstart", Path("sub/mine.yaml"))
    assert load_protocol(path).name == "mine"
    text = path.read_text(encoding="utf-8")
    assert "qlm run sub/mine.yaml" in text
    assert "runs/mine/results/report.html" in text
    assert not re.search(r"runs/quickstart|protocols/", text)
    # A stem that cannot name a folder leaves the name alone.
    assert load_protocol(templates.write("quickstart", Path("my study.yaml"))).name == "quickstart"


def test_the_paper_s_ensembles_may_be_called_by_what_they_are() -> None:
    assert load_protocol(templates.write("slow")).ensemble == load_protocol(templates._path("paper_slow")).ensemble


def test_nothing_is_overwritten() -> None:
    path = templates.write("quickstart")
    path.write_text("mine")
    with pytest.raises(
        InputError, match=r"quickstart.yaml is there already; expected a new file. Name another one with --out."
    ):
        templates.write("quickstart")
    assert path.read_text() == "mine"
    with pytest.raises(InputError, match="cannot be written"):
        templates.write("quickstart", Path("nowhere/q.yaml"))


def test_an_unknown_template_is_answered_by_the_nearest() -> None:
    with pytest.raises(
        InputError, match=r"unknown template 'quikstart'; expected one of: quickstart, .* Did you mean 'quickstart'\?"
    ):
        templates.write("quikstart")
    with pytest.raises(InputError, match=r"Did you mean 'rapid'\?"):
        templates.write("rapd")


def test_summaries_say_something_and_differ() -> None:
    said = [templates.summary(name) for name in templates.names()]
    assert all(10 < len(text) < 100 for text in said)
    assert len(set(said)) == len(said)
