"""The planner on workspaces: what it asks for, what it says it costs, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from ruamel.yaml import YAML
from signac.job import calc_id
from typer.testing import CliRunner, Result

from qlm_hoomd.cli import app
from qlm_hoomd.ensemble.costs import Costs, seconds_left
from qlm_hoomd.ensemble.local import LocalExecutor
from qlm_hoomd.ensemble.status import status_of
from qlm_hoomd.ensemble.workspace import Workspace
from qlm_hoomd.errors import InputError
from qlm_hoomd.planning import plan as planning
from qlm_hoomd.planning.forecast import make_forecast
from qlm_hoomd.planning.plan import make_plan, parse_targets
from qlm_hoomd.planning.result import Plan
from qlm_hoomd.protocol import Protocol, build_protocol
from qlm_hoomd.statistics.samples import leverage, weibull_scatter
from tests.synthetic_ensemble import Ensemble

SIZES = (500, 1000, 2000, 4000)
SHARES = {"prepare": 0.2, "shear": 0.5, "modes": 0.25, "structure": 0.05}


def cpu_seconds(size: int) -> float:
    return 10.0 * (size / 500) ** 1.6


def planted(directory: Path, ensemble: Ensemble, *, costs: tuple[int, ...] = SIZES, **changes: Any) -> Protocol:
    """A synthetic ensemble under the state points of a real protocol, with ``costs`` at some sizes."""
    protocol = build_protocol(ensemble.protocol | changes)
    ensemble.write(directory)
    settings = {name: preparation.model_dump(mode="json") for name, preparation in protocol.ensemble.preparations.items()}
    for path in (directory / "workspace").iterdir():
        record = path / "signac_statepoint.json"
        point = json.loads(record.read_text())
        size = point["n_particles"]
        record.write_text(
            json.dumps(point | {"protocol_hash": protocol.hash, "preparation_settings": settings[point["preparation"]]})
        )
        for stage in protocol.stages:
            for product in stage.products():
                (path / product).touch()
        if size in costs:
            seconds = {kind: {"cpu_s": share * cpu_seconds(size), "wall_s": 1.0} for kind, share in SHARES.items()}
            (path / "costs.json").write_text(json.dumps(seconds))
    return protocol


def protocol_file(protocol: Protocol, path: Path) -> Path:
    with path.open("w") as stream:
        YAML(typ="safe").dump(json.loads(protocol.canonical()), stream)
    return path


def qlm(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def pilot(tmp_path_factory: pytest.TempPathFactory) -> tuple[Protocol, Path]:
    """60 realisations of each size, of theta = 1/2."""
    directory = tmp_path_factory.mktemp("pilot")
    return planted(directory, Ensemble(sizes=SIZES, realisations=60)), directory


@pytest.fixture(scope="module")
def plan(pilot: tuple[Protocol, Path]) -> Plan:
    return make_plan(*pilot, {"theta": 0.1})


# ---- from what has run ----


def test_plan_rests_on_the_scatter_and_the_costs_so_far(plan: Plan) -> None:
    (demand,) = plan.demands
    assert demand.scatter.n_minima == 240
    assert demand.scatter.relative == pytest.approx(weibull_scatter(1.5), rel=0.2)
    assert demand.scatter.exponent == pytest.approx(0.5, abs=0.3)
    assert demand.half_width == pytest.approx(demand.scatter.half_width(leverage(SIZES, [60] * 4)), rel=0.2)
    assert plan.there == {(size, "rapid"): 60 for size in SIZES}
    assert plan.core_seconds == {(size, "rapid"): pytest.approx(cpu_seconds(size)) for size in SIZES}
    assert plan.core_seconds_done == pytest.approx(60 * sum(map(cpu_seconds, SIZES)))


def test_both_ways_reach_the_target_and_the_cheapest_costs_least(plan: Plan) -> None:
    for option in (plan.cheapest, plan.equal):
        numbers = [option.numbers[size] for size in SIZES]
        assert leverage(SIZES, numbers) >= plan.deciding.leverage * (1 - 1e-5)
        assert option.missing == {size: number - 60 for size, number in option.numbers.items()}
        missing = sum((option.numbers[size] - 60) * cpu_seconds(size) for size in SIZES)
        assert option.core_seconds is not None
        middle, low, high = option.core_seconds
        assert middle == pytest.approx(missing)
        assert low < middle < high
        assert all(option.low[size] <= option.high[size] for size in SIZES)
    assert plan.cheapest.core_seconds is not None
    assert plan.equal.core_seconds is not None
    assert plan.cheapest.core_seconds[0] < plan.equal.core_seconds[0]
    assert len(set(plan.equal.numbers.values())) == 1


def test_directions_make_the_same_target_cheaper(tmp_path: Path) -> None:
    """Before anything has run by the correlations that are known, afterwards by those found; not where a strain above 0 counts."""
    six = Ensemble(sizes=SIZES, realisations=60, directions=True)
    protocol = planted(tmp_path / "six", six)
    needs = {}
    for name, settings in (("six", six.protocol), ("one", Ensemble(sizes=SIZES, realisations=60).protocol)):
        (tmp_path / f"empty_{name}").mkdir()
        needs[name] = make_plan(build_protocol(settings), tmp_path / f"empty_{name}", {"theta": 0.1}).deciding.leverage
    assert needs["one"] / needs["six"] == pytest.approx(3.0)
    measured = make_plan(protocol, tmp_path / "six", {"theta": 0.1}).deciding
    assert measured.scatter.n_minima == 240
    assert measured.scatter.relative == pytest.approx(weibull_scatter(1.5) / 3**0.5, rel=0.15)
    strained = build_protocol(six.protocol | {"analysis": {"strains": [0.0, 0.02]}})
    (tmp_path / "strained").mkdir()
    assert make_plan(strained, tmp_path / "strained", {"theta": 0.1}).deciding.leverage == pytest.approx(needs["one"])


def test_never_fewer_than_are_there(pilot: tuple[Protocol, Path]) -> None:
    plan = make_plan(*pilot, {"theta": 5.0})
    assert plan.cheapest.numbers == plan.equal.numbers == dict.fromkeys(SIZES, 60)
    assert plan.cheapest.missing == dict.fromkeys(SIZES, 0)
    assert plan.cheapest.core_seconds == (0.0, 0.0, 0.0)


def test_the_folder_is_only_read(pilot: tuple[Protocol, Path]) -> None:
    before = {path: path.stat().st_mtime_ns for path in pilot[1].rglob("*")}
    make_plan(*pilot, {"theta": 0.2, "alpha": 1.0})
    assert {path: path.stat().st_mtime_ns for path in pilot[1].rglob("*")} == before


def test_tighter_targets_cost_more(pilot: tuple[Protocol, Path]) -> None:
    costs = [option.core_seconds[0] for t in (0.4, 0.1) if (option := make_plan(*pilot, {"theta": t}).cheapest).core_seconds]
    assert costs[0] < costs[1]


def test_larger_protocol_and_other_analysis_plan_from_the_same_run(pilot: tuple[Protocol, Path], plan: Plan) -> None:
    protocol, directory = pilot
    ensemble = protocol.ensemble.model_copy(update={"realisations": 10})
    smaller = protocol.model_copy(update={"ensemble": ensemble})
    assert make_plan(smaller, directory, {"theta": 0.1}).cheapest == plan.cheapest


def test_other_physics_does_not_count(pilot: tuple[Protocol, Path]) -> None:
    protocol, directory = pilot
    other = build_protocol(json.loads(protocol.canonical()) | {"seed": 8})
    plan = make_plan(other, directory, {"theta": 0.1})
    assert plan.there == {(size, "rapid"): 0 for size in SIZES}
    assert any(note.startswith("240 realisations in") and "do not count" in note for note in plan.notes)


def test_worst_strain_and_preparation_decide(tmp_path: Path) -> None:
    ensemble = Ensemble(
        sizes=SIZES,
        realisations=30,
        preparations=(("rapid", 0.5, 4.0, 0.55), ("slow", 0.2, 4.0, 0.7)),
        analysis=(("strains", [0.0, 0.03]),),
    )
    protocol = planted(tmp_path / "run", ensemble)
    plan = make_plan(protocol, tmp_path / "run", {"theta": 0.2})
    assert {(d.preparation, d.strain) for d in plan.demands} == {(p, s) for p in ("rapid", "slow") for s in (0.0, 0.03)}
    assert plan.deciding.leverage == max(demand.leverage for demand in plan.demands)
    text = "\n".join(part for part in plan.report() if isinstance(part, str))
    assert f"{plan.deciding.label} takes most: it decides." in text
    # Two preparations are made of each number that the protocol names.
    assert plan.cheapest.missing[500] == 2 * (plan.cheapest.numbers[500] - 30)


def test_costs_of_a_size_that_has_none_follow_the_power_law(tmp_path: Path) -> None:
    """A least-squares line through the logarithms, to which the stage's own power, known to 0.2, is one more measurement."""
    protocol = planted(tmp_path, Ensemble(sizes=SIZES, realisations=50), costs=(500, 1000))
    plan = make_plan(protocol, tmp_path, {"theta": 0.2})
    weight = np.sqrt(50) / 0.3
    expected = 0.0
    for stage in protocol.stages:
        rows = np.array([[weight, weight * np.log(500)], [weight, weight * np.log(1000)], [0.0, 1 / 0.2]])
        times = [weight * np.log(SHARES[stage.kind] * cpu_seconds(size)) for size in (500, 1000)]
        (_, power), *_ = np.linalg.lstsq(rows, np.array([*times, stage.cost_power / 0.2]))
        expected += SHARES[stage.kind] * cpu_seconds(1000) * 4.0**power
    assert plan.core_seconds[4000, "rapid"] == pytest.approx(expected, rel=1e-6)
    assert plan.core_seconds[4000, "rapid"] == pytest.approx(cpu_seconds(4000), rel=0.1)
    assert any("at N = 2000, 4000 follow power laws from N = 500, 1000: prepare N^1.5" in n for n in plan.notes)


def test_one_size_with_costs_takes_the_powers_of_the_stages(tmp_path: Path) -> None:
    protocol = planted(tmp_path, Ensemble(sizes=SIZES, realisations=8), costs=(500,))
    plan = make_plan(protocol, tmp_path, {"theta": 0.2})
    expected = sum(10.0 * SHARES[stage.kind] * 4.0**stage.cost_power for stage in protocol.stages)
    assert plan.core_seconds[2000, "rapid"] == pytest.approx(expected)
    assert any("from N = 500: prepare N^1.00+-0.20, shear N^1.50+-0.20" in note for note in plan.notes)


@pytest.mark.parametrize("costs", [(500,), (500, 1000), (500, 1000, 2000), SIZES])
def test_plan_dry_run_and_status_say_the_same_cost_for_the_same_work(tmp_path: Path, costs: tuple[int, ...]) -> None:
    ensemble = Ensemble(sizes=SIZES, realisations=20)
    run = planted(tmp_path, ensemble, costs=costs)
    for path in list((tmp_path / "workspace").iterdir()):
        path.rename(path.with_name(calc_id(json.loads((path / "signac_statepoint.json").read_text()))))
    plan = make_plan(run, tmp_path, {"theta": 0.2})
    settings = json.loads(run.canonical())
    settings["ensemble"] |= {"realisations": plan.cheapest.numbers}
    wanted = build_protocol(settings)
    # More than half of those in the folder count no more: what they took is still known.
    settings["ensemble"] |= {"realisations": 7}
    for protocol in (wanted, build_protocol(settings)):
        # Fewer glasses than are there are another run beside theirs.
        forecast = make_forecast(protocol, tmp_path, LocalExecutor(1), limit_s=0, alongside=True)
        for part in forecast.parts:
            assert part.each == pytest.approx(plan.core_seconds[part.n_particles, part.preparation], rel=1e-12)
    forecast = make_forecast(wanted, tmp_path, LocalExecutor(1), limit_s=0)
    assert plan.cheapest.core_seconds is not None
    assert forecast.core_seconds == pytest.approx(plan.cheapest.core_seconds[0], rel=1e-12)
    assert forecast.core_seconds > 0.0
    (tmp_path / "protocol.json").write_text(wanted.canonical())
    groups = {
        (group["n_particles"], group["preparation"]): group["core_seconds_left"] for group in status_of(tmp_path)["groups"]
    }
    assert groups == {(part.n_particles, part.preparation): pytest.approx(part.core_seconds) for part in forecast.parts}
    workspace = Workspace.open(tmp_path)
    left = seconds_left(workspace, workspace.realisations)
    assert sum(left.values()) == pytest.approx(forecast.core_seconds)


def test_too_few_minima_take_the_theorys_scatter_and_say_so(tmp_path: Path) -> None:
    protocol = planted(tmp_path, Ensemble(sizes=SIZES, realisations=3))
    plan = make_plan(protocol, tmp_path, {"theta": 0.2})
    assert plan.deciding.scatter.n_minima == 0
    assert plan.deciding.scatter.relative == weibull_scatter(1.5)
    assert any("Weibull distribution of shape 1.5" in note for note in plan.notes)
    assert plan.cheapest.low == plan.cheapest.numbers == plan.cheapest.high


def test_failed_realisations_are_planned_for(tmp_path: Path) -> None:
    ensemble = Ensemble(sizes=SIZES, realisations=40)
    protocol = planted(tmp_path, ensemble)
    without = make_plan(protocol, tmp_path, {"theta": 0.2})
    for path in sorted((tmp_path / "workspace").iterdir()):
        if json.loads((path / "signac_statepoint.json").read_text())["realisation"] % 4 == 0:
            (path / "events.parquet").unlink()
            (path / "steps.parquet").unlink()
            (path / "failed").mkdir()
            (path / "failed" / "shear.json").write_text("{}")
    plan = make_plan(protocol, tmp_path, {"theta": 0.2})
    assert plan.deciding.share == 0.75
    assert plan.deciding.leverage == pytest.approx(plan.deciding.scatter.needed_leverage(0.2) / 0.75)
    assert any("75 % of the realisations that ended give a minimum" in note for note in plan.notes)
    assert without.deciding.share == 1.0


def test_runs_that_end_too_early_are_pointed_out(tmp_path: Path) -> None:
    protocol = planted(tmp_path, Ensemble(sizes=SIZES, realisations=30, strain_max=0.03))
    plan = make_plan(protocol, tmp_path, {"theta": 0.2})
    assert any("no minimum within what was looked at" in note and "N = 500" in note for note in plan.notes)


def test_strain_without_data_is_left_out_with_the_reason(tmp_path: Path) -> None:
    protocol = planted(tmp_path, Ensemble(sizes=SIZES, realisations=25, analysis=(("strains", [0.0, 0.05]),)))
    plan = make_plan(protocol, tmp_path, {"alpha": 1.0})
    assert {demand.strain for demand in plan.demands} == {0.0}
    assert any(note.startswith("alpha of rapid at strain 0.05 is left out: no modes at strain 0.05") for note in plan.notes)


def test_alpha_from_the_spectrum_is_told_beside(tmp_path: Path) -> None:
    protocol = planted(tmp_path, Ensemble(sizes=SIZES, realisations=40))
    notes = make_plan(protocol, tmp_path, {"alpha": 0.5}).notes
    (note,) = [note for note in notes if "from a spectrum alone" in note]
    modes, number, size = map(int, re.search(r"about (\d+) modes .*: (\d+) realisations of N = (\d+)", note).groups())
    assert modes == pytest.approx((1.96 * 5 / 0.5) ** 2, rel=0.3)
    low = pl.concat(
        pl.read_parquet(path / "modes.parquet")
        for path in (tmp_path / "workspace").iterdir()
        if json.loads((path / "signac_statepoint.json").read_text())["n_particles"] == size
    ).filter((pl.col("frequency") < 1.0) & (pl.col("participation_ratio") < 1 / 3))
    assert number == pytest.approx(modes * 40 / len(low), rel=1.0)


# ---- where nothing has run ----


def test_nothing_has_run(pilot: tuple[Protocol, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    plan = make_plan(pilot[0], None, {"theta": 0.05})
    assert plan.core_seconds_done is None or plan.core_seconds_done == 0.0
    assert plan.cheapest.core_seconds is None
    assert plan.deciding.strain is None
    assert any("With --measure" in note for note in plan.notes)
    assert leverage(SIZES, list(plan.equal.numbers.values())) == pytest.approx(plan.deciding.leverage, rel=0.01)
    assert not list(tmp_path.iterdir())


def test_measuring_runs_small_realisations_elsewhere(
    tmp_path: Path, pilot: tuple[Protocol, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked: list[tuple[str, ...]] = []

    def small(protocol: Protocol, preparations: list[str], costs: Costs, **_: Any) -> list[str]:
        asked.append(tuple(preparations))
        for stage in protocol.stages:
            costs.note(stage.kind, "rapid", 100, "benchmark", {"cpu_s": 1.0, "wall_s": 1.0})
        return ["ran"]

    # What it does is tested with forecasts, which do the same.
    monkeypatch.setattr(planning, "benchmark", small)
    plan = make_plan(pilot[0], None, {"theta": 0.05}, measure=True)
    assert asked == [("rapid",)]
    assert "ran" in plan.notes
    assert plan.core_seconds[500, "rapid"] == pytest.approx(sum(5.0**stage.cost_power for stage in pilot[0].stages))
    make_plan(*pilot, {"theta": 0.05}, measure=True)
    assert len(asked) == 1  # nothing was unknown


# ---- on the command line ----


def test_output_names_all_that_counts_and_ends_in_the_line_for_the_protocol(
    pilot: tuple[Protocol, Path], tmp_path: Path
) -> None:
    protocol, directory = pilot
    path = protocol_file(protocol, tmp_path / "p.yaml")
    result = qlm("plan", path, "--target-error", "theta=0.1", "--out", directory)
    assert result.exit_code == 0, result.output
    assert "theta to +-0.1 (+- is half the width of the 95 % interval)" in result.stdout
    assert re.search(
        r"^N +preparation +done +core time +cheapest +range +missing +equal +range +missing$", result.stdout, re.MULTILINE
    )
    assert re.search(r"^done: .* of core time$", result.stdout, re.MULTILINE)
    assert re.search(
        r"^equal numbers: \d+ realisations missing, .* of core time, .* cores? of this machine$", result.stdout, re.MULTILINE
    )
    line = result.stdout.splitlines()[-1]
    numbers = YAML(typ="safe").load(line)["realisations"]
    assert list(numbers) == list(SIZES)
    again = json.loads(qlm("plan", path, "--target-error", "theta=0.1", "--out", directory, "--json").stdout)
    assert again["cheapest"]["realisations"] == {str(size): number for size, number in numbers.items()}
    assert again["protocol_line"] == line.strip()
    # The line is what a protocol takes.
    build_protocol(
        json.loads(protocol.canonical())
        | {"ensemble": protocol.model_dump(mode="json")["ensemble"] | {"realisations": numbers}}
    )


def test_folder_of_a_run_stands_for_its_protocol(pilot: tuple[Protocol, Path], plan: Plan) -> None:
    protocol, directory = pilot
    (directory / "protocol.json").write_text(protocol.canonical())
    try:
        result = qlm("plan", directory, "--target-error", "theta=0.1", "--json")
    finally:
        (directory / "protocol.json").unlink()
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == json.loads(json.dumps(plan.to_dict()))
    refused = qlm("plan", directory, "--target-error", "theta=0.1")
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert "holds no readable protocol.json" in refused.stderr


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("beta=0.1", "target 'beta=0.1': unknown quantity 'beta'; expected theta or alpha, e.g. theta=0.05."),
        ("theta", "target 'theta': ''; expected a positive number"),
        ("theta=x", "target 'theta=x': 'x'; expected a positive number"),
        ("theta=0", "target 'theta=0': '0'; expected a positive number"),
        ("theta=-1", "expected a positive number"),
        ("theta=inf", "expected a positive number"),
        ("theta=1e-5", "target theta=1e-05: 1000000 realisations of each size, the most that a protocol takes, give theta of rapid"),
    ],
)  # fmt: skip
def test_impossible_targets_are_refused(pilot: tuple[Protocol, Path], tmp_path: Path, target: str, message: str) -> None:
    result = qlm("plan", protocol_file(pilot[0], tmp_path / "p.yaml"), "--target-error", target, "--out", pilot[1])
    assert result.exit_code == 2
    assert result.stderr.startswith("qlm: ")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_two_targets_for_one_exponent_are_refused() -> None:
    assert parse_targets(["theta = 0.1", "alpha=1"]) == {"theta": 0.1, "alpha": 1.0}
    with pytest.raises(InputError, match="two targets for theta"):
        parse_targets(["theta=0.1", "theta=0.2"])


@pytest.mark.parametrize(
    ("sizes", "kinds", "message"),
    [
        ((500,), None, r"has 1 system size \(N = 500\); expected at least 3 over a factor 3"),
        ((500, 600, 700), None, r"has 3 system sizes \(N = 500, 600, 700\); expected at least 3 over a factor 3"),
        (
            SIZES,
            ("prepare", "modes"),
            r"no stage that writes events\.parquet \(its stages: prepare, modes\); expected one, as theta",
        ),
        (
            SIZES,
            ("prepare", "shear"),
            r"no stage that writes modes\.parquet .* Add one .*, or leave out the target",
        ),
    ],
)
def test_protocols_that_cannot_give_the_exponent_are_refused(
    tmp_path: Path, sizes: tuple[int, ...], kinds: tuple[str, ...] | None, message: str
) -> None:
    ensemble = Ensemble(sizes=sizes)
    stages = [stage for stage in ensemble.protocol["stages"] if kinds is None or stage["kind"] in kinds]
    protocol = build_protocol(ensemble.protocol | {"stages": stages})
    assert [stage.kind for stage in protocol.stages] == [stage["kind"] for stage in stages]
    with pytest.raises(InputError, match=message):
        make_plan(protocol, tmp_path, {"theta": 0.1, "alpha": 0.5})


def test_folder_that_is_not_there_is_refused_when_it_was_named(pilot: tuple[Protocol, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere is no folder; expected that of a run\."):
        make_plan(pilot[0], tmp_path / "nowhere", {"theta": 0.1})


def test_plan_is_plain_json(plan: Plan) -> None:
    plain = json.loads(json.dumps(plan.to_dict(), allow_nan=False))
    assert plain["deciding"]["quantity"] == "theta"
    assert np.isfinite(plain["cheapest"]["core_hours"]).all()
