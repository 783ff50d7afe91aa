"""Watching a run: rates, time left, and failures by reason."""

from __future__ import annotations

import json
import math
import time
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from qlm_hoomd.ensemble import progress as watching
from qlm_hoomd.ensemble.costs import Costs
from qlm_hoomd.ensemble.progress import Progress, duration, grouped_failures
from qlm_hoomd.ensemble.realisation import Failure, Outcome
from qlm_hoomd.ensemble.workspace import Workspace
from qlm_hoomd.protocol import build_protocol
from qlm_hoomd.testing.tiny import installed


@pytest.fixture(autouse=True)
def tiny(tmp_path: Path) -> Any:
    with installed(tmp_path / "site") as folder:
        yield folder


def workspace_of(tmp_path: Path, sizes: tuple[int, ...] = (100, 400), realisations: int = 4) -> Workspace:
    protocol = build_protocol(
        {
            "name": "t",
            "seed": 5,
            "ensemble": {"n_particles": list(sizes), "preparations": ["rapid"], "realisations": realisations},
            "stages": [{"kind": "walk"}, {"kind": "tally"}],
        }
    )
    return Workspace.create(protocol, tmp_path / "run")


def do(workspace: Workspace, index: int, *, walk: float | None, tally: float | None) -> str:
    """Give a realisation its products and costs, and return its id."""
    realisation = workspace.realisations[index]
    for stage, seconds, product in zip(workspace.protocol.stages, (walk, tally), ("walk.parquet", "tally.json"), strict=True):
        if seconds is not None:
            (realisation.directory / product).touch()
            realisation.record_cost(stage, seconds, 2 * seconds)
    return realisation.id


# ---- costs ----


def costs_of(workspace: Workspace) -> Costs:
    return Costs.of_folder(workspace.directory, workspace.protocol)


def test_mean_cost_of_a_stage(tmp_path: Path) -> None:
    workspace = workspace_of(tmp_path)
    do(workspace, 0, walk=10.0, tally=1.0)
    do(workspace, 1, walk=20.0, tally=None)
    costs = costs_of(workspace)
    costs.add(workspace.realisations[0], ["walk", "tally"])  # once more: nothing changes
    assert costs.measured("walk", "rapid", 100) == 15.0
    assert costs.measured("walk", "rapid", 100, "wall_s") == 30.0
    assert costs.measured("walk", "rapid", 400) is None
    assert costs.measured("walk", "slow", 100) is None
    assert costs.total([(stage, 3) for stage in workspace.protocol.stages], "rapid", 100) == (
        pytest.approx(3 * 16.0),
        pytest.approx(3 * (15.0 * 0.3 / 2**0.5 + 1.0 * 0.3)),
    )


def test_unknown_sizes_follow_the_power_law(tmp_path: Path) -> None:
    workspace = workspace_of(tmp_path, (100, 200, 400), 1)
    walk, tally = workspace.protocol.stages
    costs = costs_of(workspace)
    assert not costs.any_known
    assert costs.expected(walk, "rapid", 400) is None
    do(workspace, 0, walk=1.0, tally=None)
    costs = costs_of(workspace)
    assert costs.power(walk, "rapid") == (walk.cost_power, pytest.approx(0.2))
    seconds, error = costs.expected(walk, "rapid", 400) or (0.0, 0.0)
    assert seconds == pytest.approx(4**walk.cost_power)
    assert error == pytest.approx(seconds * math.hypot(0.3, 0.2 * math.log(4)))
    do(workspace, 1, walk=3.0, tally=None)
    costs = costs_of(workspace)
    power, power_error = costs.power(walk, "rapid")
    assert walk.cost_power < power < math.log2(3.0)
    assert power_error < 0.2
    assert costs.expected(walk, "rapid", 400) == (
        pytest.approx(3.0 * 2**power),
        pytest.approx(3.0 * 2**power * math.hypot(0.3, power_error * math.log(2))),
    )
    assert costs.expected(walk, "rapid", 200) == (3.0, pytest.approx(0.9))  # as it ran
    assert costs.expected(tally, "rapid", 200) is None
    assert costs.total([(walk, 1), (tally, 1)], "rapid", 400) is None
    assert costs.total([(walk, 1), (tally, 0)], "rapid", 200) == (3.0, pytest.approx(0.9))


def test_many_realisations_outweigh_the_power_that_the_stage_names(tmp_path: Path) -> None:
    (walk, _), costs = workspace_of(tmp_path, (100,), 1).protocol.stages, Costs()
    rng = np.random.default_rng(3)
    for n in (100, 400, 1600):
        for index, seconds in enumerate(n**0.9 * rng.lognormal(0.0, 0.3, 400)):
            costs.note("walk", "rapid", n, str(index), {"cpu_s": seconds, "wall_s": 0.0})
    power, error = costs.power(walk, "rapid")
    assert power == pytest.approx(0.9, abs=4 * error)
    assert error < 0.02


def test_costs_are_those_of_what_the_protocol_would_do(tmp_path: Path) -> None:
    """Of realisations that it does not ask for any more, too; not of other settings of the preparation or of a stage."""
    workspace = workspace_of(tmp_path, (100,))
    do(workspace, 3, walk=10.0, tally=1.0)
    settings = json.loads(workspace.protocol.canonical())

    def measured(**changes: Any) -> tuple[float | None, float | None]:
        costs = Costs.of_folder(tmp_path / "run", build_protocol(settings | changes))
        return costs.measured("walk", "rapid", 100), costs.measured("tally", "rapid", 100)

    assert measured(ensemble=settings["ensemble"] | {"realisations": 1}, seed=6) == (10.0, 1.0)
    slow = {"rapid": settings["ensemble"]["preparations"]["rapid"] | {"equilibration_time": 99.0}}
    assert measured(ensemble=settings["ensemble"] | {"preparations": slow}) == (None, None)
    walk, tally = settings["stages"]
    assert measured(stages=[walk | {"steps": 11}, tally]) == (None, None)
    assert measured(stages=[walk]) == (10.0, None)  # the protocol that was run last has this stage, too


def test_stages_that_take_no_time_do_no_harm(tmp_path: Path) -> None:
    workspace = workspace_of(tmp_path, (100, 200, 400), 1)
    for index in (0, 1):
        do(workspace, index, walk=0.0, tally=0.0)
    assert costs_of(workspace).expected(workspace.protocol.stages[0], "rapid", 400) == (0.0, 0.0)


# ---- the line ----


def test_line_tells_rate_sizes_and_time_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = workspace_of(tmp_path)
    done = [do(workspace, 4, walk=8.0, tally=2.0), do(workspace, 0, walk=1.0, tally=0.25)]
    (workspace.realisations[5].directory / "walk.parquet").touch()
    waiting = [workspace.realisations[index] for index in (0, 4, 1, 2, 3, 5, 6, 7)]
    watch = Progress(workspace, waiting)
    for job_id in done:
        watch.finished(Outcome(job_id, 1.0))
    watch.start = time.monotonic() - 1800
    # Wall times are twice the others: 3 x 2.5 s of N = 100, and of N = 400 2 x 20 s and a tally of 4 s.
    expected = "2/8, 4 an hour, N=100 rapid 1/4 (2.5 s each), N=400 rapid 1/4 (20 s each), about 52 s left"
    assert watch.summary() == expected
    monkeypatch.setattr(Workspace, "running", lambda _: {"a": "", "b": ""})
    assert watch.summary().endswith("about 26 s left")


def test_time_left_is_reckoned_when_it_is_shown_and_not_for_each_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks at all that is waiting: once for each of thousands that end would be quadratic."""
    reckoned: list[int] = []
    original = Progress._left
    monkeypatch.setattr(Progress, "_left", lambda self: reckoned.append(len(self.waiting)) or original(self))
    workspace = workspace_of(tmp_path)
    watch = Progress(workspace, workspace.realisations)
    for realisation in workspace.realisations:
        watch.finished(Outcome(realisation.id, 1.0))
    assert reckoned == [0]  # in the last line
    watch._render()
    assert reckoned == [0, 0]
    assert watch.bar.tasks[0].completed == 8


def test_line_says_nothing_of_what_is_not_known(tmp_path: Path) -> None:
    workspace = workspace_of(tmp_path)
    watch = Progress(workspace, workspace.realisations)
    assert watch.summary() == "0/8, N=100 rapid 0/4, N=400 rapid 0/4"
    failure = Failure("walk", "ConvergenceError", "no")
    for realisation in workspace.realisations:
        watch.finished(Outcome(realisation.id, 1.0, failure))
    assert watch.summary().startswith("8/8 (8 failed), ")
    assert "left" not in watch.summary()


def test_a_line_comes_at_intervals_where_there_is_no_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(watching, "_SECONDS_BETWEEN_LINES", 0.02)
    workspace = workspace_of(tmp_path)
    lines: list[str] = []
    end = time.monotonic() + 20
    with Progress(workspace, workspace.realisations) as watch:
        while len(lines) < 3 and time.monotonic() < end:
            time.sleep(0.02)
            lines += capsys.readouterr().err.splitlines()
    assert not watch.speaker.is_alive()
    assert lines[1].startswith("0/8, N=100 rapid 0/4")
    capsys.readouterr()
    time.sleep(0.1)
    assert capsys.readouterr().err == ""


# ---- failures ----


def test_failures_of_one_reason_are_one_group(tmp_path: Path) -> None:
    workspace = workspace_of(tmp_path)
    walk, tally = workspace.protocol.stages
    for index in range(4):
        failure = Failure("walk", "ConvergenceError", f"force 1.{index}e-{index + 3} after {100 * index} steps")
        workspace.realisations[index].record_failure(walk, failure)
    workspace.realisations[4].record_failure(walk, Failure("walk", "ConvergenceError", "lost its way"))
    for index in (5, 6):
        workspace.realisations[index].record_failure(tally, Failure("tally", "ConvergenceError", "lost its way"))
    groups = grouped_failures(workspace)
    assert [group.number for group in groups] == [4, 2, 1]
    assert str(groups[0]).startswith("4 x N=100 rapid #0, stage walk: ConvergenceError: force 1.0e-3 after 0 steps (")
    assert Path(str(groups[1]).rpartition("(")[2].rstrip(")")).is_file()
    assert not grouped_failures(workspace_of(tmp_path / "other"))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.86, "0.86 s"),
        (9.46, "9.5 s"),
        (9.6, "10 s"),
        (89, "89 s"),
        (90, "2 min"),
        (5399, "90 min"),
        (5400, "1.5 h"),
        (0, "0 s"),
        (1e300, "3.17e+292 years"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_terminal_shows_the_bar_and_each_size(tmp_path: Path) -> None:
    workspace = workspace_of(tmp_path)
    do(workspace, 0, walk=10.0, tally=5.0)
    watch = Progress(workspace, workspace.realisations[1:])
    console = Console(file=StringIO(), width=100)
    console.print(watch._render())
    bar, *lines = console.file.getvalue().splitlines()
    assert bar.startswith("realisations")
    assert "1/8" in bar
    assert [line.strip() for line in lines] == ["N=100 rapid 1/4 (30 s each)", "N=400 rapid 0/4 (4 min each)"]
