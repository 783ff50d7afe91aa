"""Forecasts of a run: counts from the folder, times from what ended or from a benchmark, and nothing written."""

from __future__ import annotations

import json
import math
import multiprocessing
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qlm_hoomd.base.interrupt import Interrupted
from qlm_hoomd.base.processes import n_cores
from qlm_hoomd.ensemble.costs import Costs
from qlm_hoomd.ensemble.local import LocalExecutor
from qlm_hoomd.ensemble.row import RowExecutor
from qlm_hoomd.ensemble.runner import run_protocol
from qlm_hoomd.ensemble.workspace import Workspace
from qlm_hoomd.errors import InputError
from qlm_hoomd.planning import benchmark as benchmarking
from qlm_hoomd.planning import forecast as module
from qlm_hoomd.planning.forecast import Forecast, make_forecast
from qlm_hoomd.protocol import Protocol, build_protocol, load_protocol
from qlm_hoomd.testing.tiny import HereExecutor, installed


@pytest.fixture(autouse=True)
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(benchmarking, "LIMIT_S", 300.0)  # the machine may be busy
    monkeypatch.setattr(benchmarking, "_SHARE", 0.001)
    with installed(tmp_path / "site"):
        yield


def protocol(sizes: dict[int, int] | None = None, **walk: Any) -> Protocol:
    sizes = sizes or {100: 3, 400: 2}
    return build_protocol(
        {
            "name": "t",
            "seed": 5,
            "ensemble": {"n_particles": list(sizes), "preparations": ["rapid"], "realisations": sizes},
            "stages": [{"kind": "walk", **walk}, {"kind": "tally"}],
        }
    )


def forecast(wanted: Protocol, directory: str = "x", workers: int = 1, **more: Any) -> Forecast:
    return make_forecast(wanted, Path(directory), LocalExecutor(workers), **more)


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def text(made: Forecast) -> str:
    return "\n".join(str(part) for part in made.report())


def test_sizes_of_folders_lie_on_a_line() -> None:
    def size(n_particles: int, points: dict[int, int]) -> float | None:
        return module._expected_bytes({("rapid", n): [n_bytes] for n, n_bytes in points.items()}, "rapid", n_particles)

    assert size(100, {}) is None
    assert size(1100, {100: 1000, 300: 2000}) == pytest.approx(6000.0)
    assert size(300, {100: 1000, 300: 2000}) == 2000.0
    assert size(200, {100: 1000}) == 2000.0  # at most: one size tells nothing of the constant part


def test_an_empty_folder_is_forecast_from_a_benchmark_and_nothing_is_written(tmp_path: Path) -> None:
    before = files(tmp_path)
    said: list[str] = []
    made = forecast(protocol(pause=0.02), workers=2, progress=said.append)
    assert files(tmp_path) == before
    assert not Path("x").exists()
    assert [(part.n_particles, part.n_realisations, part.n_unfinished) for part in made.parts] == [(100, 3, 3), (400, 2, 2)]
    assert all(part.left == {"walk": 3, "tally": 3} for part in made.parts if part.n_particles == 100)
    assert said[0].startswith("benchmark of rapid: N = 100")
    assert made.core_seconds is not None
    assert made.wall_seconds is not None
    assert made.core_seconds / 2 <= made.wall_seconds <= made.core_seconds
    assert made.n_bytes is not None
    assert made.n_bytes > 1000
    assert made.factor > 1.5
    assert "5 realisations in x (a new folder)" in text(made)
    assert "N = 100" in made.notes[0]


def test_what_is_done_is_not_counted_again_and_times_are_those_measured() -> None:
    run_protocol(protocol({100: 2}), Path("x"), HereExecutor())
    workspace = Workspace.open(Path("x"))
    for realisation in workspace.realisations:
        for stage, seconds in zip(workspace.protocol.stages, (20.0, 4.0), strict=True):
            realisation.record_cost(stage, seconds, 99.0)
    (workspace.realisations[1].directory / "tally.json").unlink()
    before = files(Path("x"))
    made = forecast(protocol({100: 6}), workers=4)
    assert files(Path("x")) == before
    (part,) = made.parts
    assert part.left == {"walk": 4, "tally": 5}
    assert part.n_unfinished == 5
    assert part.each == pytest.approx(24.0)
    assert made.core_seconds == pytest.approx(4 * 20.0 + 5 * 4.0)
    assert made.wall_seconds == pytest.approx(100.0 / min(4, n_cores()))
    assert made.notes == ("times and sizes are those of realisations that ended in the folder",)
    assert "1 of them done" in text(made)
    # With one known size, the other is its power law.
    larger = forecast(protocol({100: 2, 400: 1}))
    assert larger.parts[1].core_seconds == pytest.approx(24.0 * 4**1.5)


def test_a_run_that_is_done_costs_nothing() -> None:
    run_protocol(protocol({100: 2}), Path("x"), HereExecutor())
    made = forecast(protocol({100: 2}))
    assert (made.n_unfinished, made.core_seconds, made.n_bytes) == (0, 0.0, 0.0)
    assert "Everything is done" in text(made)


def test_the_counts_of_a_forecast_are_what_the_run_then_does() -> None:
    run_protocol(protocol({100: 2}), Path("x"), HereExecutor())
    wanted = protocol({100: 3, 400: 2})
    expected = forecast(wanted, limit_s=0).n_unfinished
    done: list[str] = []

    class Counting(HereExecutor):
        def run(self, directory: Path, ids: Any, finished: Any) -> None:
            done.extend(ids)
            super().run(directory, ids, finished)

    run_protocol(wanted, Path("x"), Counting())
    assert len(done) == expected == 3


def test_stages_that_a_grown_protocol_takes_over_are_done() -> None:
    settings = json.loads(protocol({100: 2}).canonical())
    small = build_protocol(settings | {"stages": settings["stages"][:1]})
    run_protocol(small, Path("x"), HereExecutor())
    made = forecast(protocol({100: 3}), limit_s=0)
    assert made.parts[0].left == {"walk": 1, "tally": 3}


def test_a_folder_of_other_physics_is_refused_as_the_run_would() -> None:
    run_protocol(protocol({100: 1}), Path("x"), HereExecutor())
    with pytest.raises(InputError, match=r"other physics: stages.walk.steps was 10 and is 11"):
        forecast(protocol({100: 1}, steps=11))
    made = forecast(protocol({100: 1}, steps=11), alongside=True, limit_s=0)
    assert made.n_unfinished == 1


def test_a_benchmark_that_fails_leaves_the_time_unknown_and_says_why() -> None:
    made = forecast(protocol({100: 2}, fail=[0, 1]))
    assert made.core_seconds is None
    assert made.wall_seconds is None
    assert "time unknown; disk space unknown (" in text(made)
    assert "ConvergenceError in stage walk" in made.notes[0]


def test_a_benchmark_that_takes_too_long_is_ended_whatever_it_is_at() -> None:
    made = forecast(protocol({100: 2}, pause=1e6), limit_s=5.0)
    assert made.core_seconds is None
    assert made.notes[0].startswith("the benchmark was ended after 5 s; ")


def test_a_benchmark_that_is_interrupted_leaves_no_process_and_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    main = threading.main_thread().ident
    assert main is not None

    def interrupt(_: str) -> None:
        signal.pthread_kill(main, signal.SIGTERM)

    with pytest.raises(Interrupted):
        forecast(protocol({100: 2}, pause=1e6), progress=interrupt)
    assert multiprocessing.active_children() == []
    assert list(tmp_path.glob("qlm-*")) == []


def test_what_fails_in_a_small_system_is_tried_in_a_larger_one() -> None:
    said: list[str] = []
    made = forecast(protocol({200: 2}, steps=150), progress=said.append)
    assert [line.partition(",")[0] for line in said] == ["benchmark of rapid: N = 100", "benchmark of rapid: N = 200"]
    assert made.core_seconds is not None


@pytest.mark.parametrize("strain_max", [2.0, 10.0])
def test_long_runs_are_cut_short_and_scaled(strain_max: float) -> None:
    settings = {
        "name": "t",
        "seed": 5,
        "ensemble": {"n_particles": [500], "preparations": ["rapid", "slow"], "realisations": 2},
        "stages": [
            {"kind": "prepare"},
            {"kind": "shear", "strain_max": strain_max, "frames": [0.01, 0.5, 1.0]},
            {"kind": "modes", "strains": [0.0, 0.01, 0.5, 1.0]},
        ],
    }
    wanted = build_protocol(settings)
    for name, dynamics, cut in (("rapid", 50.0, 20.0), ("slow", 950.0, 40.0)):
        small = benchmarking._small(wanted, name, 100, 1.0)
        _, shear, modes = small.stages
        assert (shear.strain_max, shear.frames) == (0.02, (0.01, 0.02))
        assert modes.strains == (0.0, 0.01, 0.02)
        factors = [
            whole.work(wanted.ensemble.preparations[name]) / short.work(small.ensemble.preparations[name])
            for whole, short in zip(wanted.stages, small.stages, strict=True)
        ]
        assert factors == pytest.approx([dynamics / cut, strain_max / 0.02, 4 / 3])
    # Long enough for all: nothing is changed.
    assert benchmarking._small(wanted, "slow", 500, 1e302).stages == wanted.stages
    assert benchmarking._small(wanted, "slow", 500, 1e302).ensemble.preparations["slow"] == wanted.ensemble.preparations["slow"]


def test_a_path_is_cut_short_to_its_first_strains() -> None:
    settings = json.loads(load_protocol(Path(__file__).parents[2] / "protocols" / "cyclic.yaml").canonical())
    wanted = build_protocol(settings)
    shear = next(stage for stage in wanted.stages if stage.kind == "shear")
    assert shear.work(wanted.ensemble.preparations["rapid"]) == pytest.approx(0.03 + 3 * 0.06 + 0.03)
    short = shear.shortened(0.02)
    assert (short.path, short.strain_max, short.frames, short.work(wanted.ensemble.preparations["rapid"])) == (
        None,
        0.02,
        (0.02,),
        0.02,
    )


@pytest.mark.parametrize("length", [0.01, 0.1, 0.5, 1.0, 5.0])
def test_a_short_run_of_coarse_steps_keeps_the_frames_that_its_modes_read(length: float) -> None:
    shear = {"kind": "shear", "strain_max": 0.1, "frames": [0.02, 0.05], "increment": 5e-3}
    stages = ["prepare", shear, {"kind": "modes", "strains": [0.0, 0.02, 0.05]}]
    ensemble = {"n_particles": [500], "preparations": ["rapid"], "realisations": 3}
    small = benchmarking._small(
        build_protocol({"name": "a", "seed": 1, "ensemble": ensemble, "stages": stages}), "rapid", 500, length
    )
    assert {*small.stages[2].strains} <= {0.0, *small.stages[1].frames}  # type: ignore[attr-defined]


def test_a_scheduler_decides_on_the_time_on_the_clock() -> None:
    made = make_forecast(protocol(), Path("x"), RowExecutor(None))
    assert made.workers is None
    assert made.wall_seconds is None
    assert "on the clock" not in text(made)


def test_the_wall_is_never_shorter_than_one_realisation() -> None:
    part = module.Part(100, "rapid", 2, {"walk": 2}, 2, 10.0, 20.0, 0.1, 1e6)
    made = Forecast("t", Path("x"), ("walk",), (part,), 8, 10**9, ())
    assert made.wall_seconds is not None
    assert made.wall_seconds >= 10.0
    assert made.factor == pytest.approx(math.exp(0.2))


def test_a_disk_that_is_too_small_is_named() -> None:
    part = module.Part(100, "rapid", 2, {"walk": 2}, 2, 10.0, 20.0, 0.1, 2e9)
    assert "That may not fit" in text(Forecast("t", Path("x"), ("walk",), (part,), 8, 10**9, ()))
    assert "That may not fit" not in text(Forecast("t", Path("x"), ("walk",), (part,), 8, 10**10, ()))


def test_the_mesoscopic_template_has_its_time() -> None:
    made = forecast(load_protocol(Path(__file__).parents[2] / "protocols" / "mesoscopic.yaml"))
    assert made.core_seconds is not None
    assert "time unknown" not in text(made)


def test_what_the_benchmark_does_not_reach_is_taken_from_the_other_preparation() -> None:
    slow = {"quench": "slow", "equilibration_time": 10.0, "cooling_rate": 0.01}  # 10 and 90 of cooling, to a tenth of T0
    wanted = build_protocol(
        {
            "name": "t",
            "seed": 5,
            "ensemble": {
                "n_particles": [200],
                "preparations": {"rapid": {"quench": "rapid", "equilibration_time": 10.0}, "slow": slow},
                "realisations": 1,
            },
            "stages": ["prepare"],
        }
    )
    costs, n_bytes = Costs(), {("rapid", 100): [1000]}
    assert list(benchmarking._carry_over(wanted, ["rapid", "slow"], costs, n_bytes)) == []
    costs.note("prepare", "rapid", 100, "benchmark", {"cpu_s": 2.0, "wall_s": 3.0})
    (said,) = benchmarking._carry_over(wanted, ["rapid", "slow"], costs, n_bytes)
    assert "of slow did not end; what it takes is that of rapid" in said
    assert [costs.measured("prepare", "slow", 100, clock) for clock in ("cpu_s", "wall_s")] == pytest.approx([20.0, 30.0])
    assert n_bytes["slow", 100] == [1000]
    assert list(benchmarking._carry_over(wanted, ["rapid", "slow"], costs, n_bytes)) == []
