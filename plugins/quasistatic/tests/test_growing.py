"""A shear run that is asked to go further: it goes on from where it was, to the bytes of a run that was made at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from qlm_quasistatic.stage import ShearStage
from qlm_quasistatic.stepper import Stepper
from qlm_quasistatic.strains import Reach, StrainGrid, WatchedGrid

from qlm_hoomd.base.interrupt import Interrupted, request_stop
from qlm_hoomd.ensemble import archive
from qlm_hoomd.ensemble.integrity import set_aside, verify
from qlm_hoomd.ensemble.runner import run_protocol
from qlm_hoomd.errors import InputError
from qlm_hoomd.protocol import build_protocol
from qlm_hoomd.testing.tiny import HereExecutor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from qlm_hoomd.ensemble.workspace import Workspace
    from qlm_hoomd.protocol import Protocol

FOLD = {"kind": "fold", "max_increment": 5e-4, "overlaps": []}
THRESHOLD = {"kind": "threshold"}


def make_protocol(realisations: int = 1, stages: tuple[dict[str, Any], ...] = (), **shear: Any) -> Protocol:
    return build_protocol(
        {
            "name": "growing",
            "seed": 7,
            "ensemble": {
                "n_particles": [100],
                "preparations": {"short": {"quench": "rapid", "equilibration_time": 1.0}},
                "realisations": realisations,
            },
            "stages": [{"kind": "prepare"}, {"kind": "shear", "increment": 5e-4, **shear}, *stages],
        }
    )


@pytest.fixture
def relaxations(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The strains from which steps were made."""
    made: list[float] = []
    original = Stepper._told

    def told(self: Stepper, step: Any) -> Any:
        made.append(step.before.strain)
        return original(self, step)

    monkeypatch.setattr(Stepper, "_told", told)
    return made


def run(protocol: Protocol, directory: Path) -> Workspace:
    workspace = run_protocol(protocol, directory, HereExecutor())
    assert [each.state(protocol) for each in workspace.realisations] == ["done"] * len(workspace.realisations)
    return workspace


def products(workspace: Workspace) -> dict[str, bytes]:
    (realisation, *_) = workspace.realisations
    names = ("steps.parquet", "events.parquet", "trials.parquet", "sheared.gsd", "modes.parquet", "moduli.parquet")
    return {name: (realisation.directory / name).read_bytes() for name in names if (realisation.directory / name).exists()}


CASES = {
    "fold": ({"detector": FOLD, "strain_max": 0.05}, {"strain_max": 0.1}),
    "threshold": ({"detector": THRESHOLD, "strain_max": 0.05}, {"strain_max": 0.1}),
    "the figure's rule": ({"detector": THRESHOLD | {"rule": "figure"}, "strain_max": 0.05}, {"strain_max": 0.1}),
    "no detector": ({"detector": None, "strain_max": 0.03}, {"strain_max": 0.05}),
    "no instability yet": ({"detector": FOLD, "strain_max": 0.004}, {"strain_max": 0.05}),
    "an end off the grid": ({"detector": FOLD, "strain_max": 0.0503}, {"strain_max": 0.1}),
    "threshold, an end off the grid": ({"detector": THRESHOLD, "strain_max": 0.0503}, {"strain_max": 0.0911}),
    "another plane": ({"detector": FOLD, "strain_max": 0.04, "plane": "zx"}, {"strain_max": 0.06}),
    "frames": (
        {"detector": FOLD, "strain_max": 0.05, "frames": [0.02, 0.05]},
        {"strain_max": 0.1, "frames": [0.02, 0.05, 0.07, 0.1]},
    ),
    "threshold, frames": (
        {"detector": THRESHOLD, "strain_max": 0.05, "frames": [0.02, 0.05]},
        {"strain_max": 0.1, "frames": [0.02, 0.05, 0.0723, 0.1]},
    ),
    "to the next event": ({"detector": FOLD, "strain_max": 0.05, "to_next_event": True}, {"strain_max": 0.1}),
    "threshold, to the next event": ({"detector": THRESHOLD, "strain_max": 0.05, "to_next_event": True}, {"strain_max": 0.1}),
    "more events": ({"detector": FOLD, "strain_max": 0.1, "max_events": 2}, {"max_events": 4}),
}


@pytest.mark.parametrize("case", CASES)
def test_more_strain_goes_on_to_the_bytes_of_a_run_made_at_once(case: str, tmp_path: Path, relaxations: list[float]) -> None:
    small, more = CASES[case]
    before = run(make_protocol(**small), tmp_path / "grown")
    old = products(before)
    del relaxations[:]
    grown = run(make_protocol(**(small | more)), tmp_path / "grown")
    went_on = relaxations[:]
    at_once = run(make_protocol(**(small | more)), tmp_path / "at_once")
    assert products(grown) == products(at_once)
    assert set(products(grown)) >= {"steps.parquet", "events.parquet", "trials.parquet"}
    assert products(before) == old
    # It began at the last instability that the small run came by, and not at zero.
    strains = pl.read_parquet(before.realisations[0].directory / "events.parquet")["strain_after"].to_list()
    end = small["strain_max"]
    last = max((strain for strain in strains if strain < end), default=0.5 * end)
    if "max_events" in small:
        last = strains[-2]
    assert min(went_on) >= last
    assert len(went_on) < len(relaxations) - len(went_on)
    assert not verify(grown).findings


@pytest.mark.parametrize("frame", [0.0123, 0.0499999])
def test_strains_below_the_end_are_not_guessed(frame: float, tmp_path: Path, relaxations: list[float]) -> None:
    """A frame where the earlier run passed without a stop changes its steps: the shear begins anew, or where the stop changes nothing."""
    small = {"detector": FOLD, "strain_max": 0.05}
    run(make_protocol(**small), tmp_path / "grown")
    del relaxations[:]
    grown = run(make_protocol(**small, frames=[frame]), tmp_path / "grown")
    assert (min(relaxations) == 0.0) == (frame == 0.0123)
    assert products(grown) == products(run(make_protocol(**small, frames=[frame]), tmp_path / "at_once"))


def test_strain_grows_again_and_again_and_what_was_interrupted_goes_on(
    tmp_path: Path, relaxations: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted before and after the small run met its end, by way of a protocol that has only more realisations."""
    monkeypatch.setenv("QLM_CHECKPOINT_INTERVAL", "0")
    ends = (0.03, 0.05, 0.08)
    original = Stepper.waypoint
    stop_at: list[Callable[[], bool]] = [lambda: False]

    def waypoint(self: Stepper, memory: Callable[[], Any]) -> None:
        if stop_at[0]():
            request_stop(15)
        original(self, memory)

    monkeypatch.setattr(Stepper, "waypoint", waypoint)
    run(make_protocol(detector=FOLD, strain_max=ends[0]), tmp_path / "grown")
    stop_at[0] = lambda: bool(relaxations) and relaxations[-1] > 0.045
    with pytest.raises(Interrupted):
        run(make_protocol(detector=FOLD, strain_max=ends[1]), tmp_path / "grown")
    stop_at[0] = lambda: False
    del relaxations[:]
    two = make_protocol(realisations=2, detector=FOLD, strain_max=ends[2])
    grown = run(two, tmp_path / "grown")
    assert relaxations[0] > 0.03
    assert products(grown) == products(run(two, tmp_path / "at_once"))


def test_kept_states_are_small_and_stay_at_home(tmp_path: Path) -> None:
    grown = run(make_protocol(detector=FOLD, strain_max=0.05), tmp_path / "run")
    kept = grown.realisations[0].directory / "shear.checkpoint"
    assert kept.stat().st_size < 60_000
    (tmp_path / "run" / "results").mkdir()
    (tmp_path / "run" / "results" / "exponents.json").write_text("{}")
    names = [name for name, _ in archive._files(grown)]
    assert not any("checkpoint" in name for name in names)
    # A stage more is growth as well: the state goes along.
    more = run(make_protocol(detector=FOLD, strain_max=0.05, stages=({"kind": "modes", "count": 3},)), tmp_path / "run")
    assert (more.realisations[0].directory / "shear.checkpoint").stat().st_ino == kept.stat().st_ino


def test_damaged_state_costs_no_more_than_time(tmp_path: Path, relaxations: list[float]) -> None:
    small = run(make_protocol(detector=FOLD, strain_max=0.03), tmp_path / "grown")
    kept = small.realisations[0].directory / "shear.checkpoint"
    content = bytearray(kept.read_bytes())
    content[len(content) // 2] ^= 1
    kept.write_bytes(content)
    proof = verify(small)
    assert [finding.path for finding in proof.findings] == [kept]
    set_aside(proof)
    assert not verify(small).findings  # no result is missing without it
    kept.write_bytes(content)
    del relaxations[:]
    large = make_protocol(detector=FOLD, strain_max=0.05)
    grown = run(large, tmp_path / "grown")
    assert relaxations[0] == 0.0
    assert products(grown) == products(run(large, tmp_path / "at_once"))


def test_path_begins_anew(tmp_path: Path, relaxations: list[float]) -> None:
    small = {"detector": FOLD, "path": [0.0, 0.02, -0.01]}
    run(make_protocol(**small), tmp_path / "grown")
    del relaxations[:]
    grown = run(make_protocol(**small, frames=[-0.01]), tmp_path / "grown")
    assert relaxations[0] == 0.0
    assert products(grown) == products(run(make_protocol(**small, frames=[-0.01]), tmp_path / "at_once"))


def test_settings_that_make_other_states_are_no_growth(tmp_path: Path) -> None:
    assert {name for name in ShearStage.model_fields if name in ShearStage.growing} == {"strain_max", "frames", "max_events"}
    run(make_protocol(detector=FOLD, strain_max=0.02), tmp_path)
    with pytest.raises(InputError, match=r"increment was 0\.0005 and is 0\.0004"):
        run(make_protocol(detector=FOLD, strain_max=0.04, increment=4e-4), tmp_path)


def test_a_watched_grid_answers_as_any_other_and_notes_what_it_was_asked() -> None:
    settings: Any = (1e-3, 0.02, (0.0105, 0.02))
    plain = StrainGrid(*settings)
    for strain, increment in [(0.0, None), (0.0042, None), (0.0102, None), (0.0042, 1e-4), (0.0102, 1e-3), (0.0042, 2e-3)]:
        reach = Reach()
        target = WatchedGrid(*settings, 0.02, reach).next_strain(strain, increment)
        assert target == plain.next_strain(strain, increment)
        assert not reach.met_end
        assert reach.strain > target
        # A stop there, or beyond, would have changed nothing; one just below would have.
        assert StrainGrid(1e-3, 0.02, (0.0105, reach.strain, 0.02)).next_strain(strain, increment) == target
        if target != 0.0105:
            at = target + 0.5e-3 * (increment or 1e-3)
            assert StrainGrid(1e-3, 0.02, (0.0105, at, 0.02)).next_strain(strain, increment) == at
    asked: list[tuple[Callable[[StrainGrid], object], bool]] = [
        (lambda grid: grid.done(0.0199), False),
        (lambda grid: grid.beyond(0.02), False),
        (lambda grid: grid.done(0.02), True),
        (lambda grid: grid.beyond(0.03), True),
        (lambda grid: grid.next_strain(0.011, 0.5), True),
        (lambda grid: grid.next_strain(0.0195), True),
    ]
    for ask, met_end in asked:
        reach = Reach()
        ask(WatchedGrid(*settings, 0.02, reach))
        assert reach.met_end == met_end
