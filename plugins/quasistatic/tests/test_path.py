"""Paths that turn back, and planes: the mirror is exact, rows and frames come back from it, and nothing drifts over many flips."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from qlm_quasistatic import ShearStep, Stepper
from qlm_quasistatic.path import Leg, axes_of, check_room, legs_of
from qlm_quasistatic.stage import ShearStage
from qlm_quasistatic.strains import StrainGrid

from qlm_hoomd import gsdio
from qlm_hoomd.box import Box
from qlm_hoomd.engines.base import EngineSettings, Observables
from qlm_hoomd.engines.cpu import CPUEngine, CPUEngineSettings
from qlm_hoomd.engines.hoomd import HOOMDEngineSettings
from qlm_hoomd.errors import InputError
from qlm_hoomd.glass import Glass
from qlm_hoomd.mechanics import bonds_of
from qlm_hoomd.model import Preparation
from qlm_hoomd.preparation import random_start
from qlm_hoomd.stages import StageContext
from qlm_hoomd.stages.modes import ModesStage
from qlm_hoomd.testing import StageConformance

if TYPE_CHECKING:
    from pathlib import Path

    from qlm_hoomd.model import GlassModel

strains = st.floats(-3.0, 3.0)
SIGNED = {"strain", "increment", "stress_xy", "strain_before", "strain_after", "strain_c", "core_y"}
PROVENANCE = {"protocol_hash": "a" * 16}


@pytest.fixture(scope="module")
def small(model: GlassModel) -> Glass:
    """A rapidly quenched glass of 150 particles."""
    engine, rng = CPUEngineSettings().build(model), np.random.default_rng(12)
    liquid, _ = engine.run(random_start(model, 150, rng), duration=1.0, temperature=model.T0, rng=rng)
    return engine.descend(liquid)[0]


def _run(
    directory: Path, model: GlassModel, glass: Glass, engine_settings: EngineSettings | None = None, **settings: Any
) -> StageContext:
    directory.mkdir(exist_ok=True)
    engine = CPUEngineSettings().build(model)
    gsdio.write_glasses(directory / "quenched.gsd", [(glass, engine.measure(glass))], PROVENANCE)
    context = StageContext(
        directory=directory,
        statepoint={"n_particles": 150, "preparation": "rapid", "realisation": 0, "seed": 1, "protocol_hash": "a" * 16},
        model=model,
        preparation=Preparation(quench="rapid"),
        engine=(engine_settings or CPUEngineSettings()).build(model),
        provenance=PROVENANCE,
        progress=lambda _: None,
    )
    stage = ShearStage.model_validate({"increment": 1e-3} | settings)
    stage.check(model, [150])
    stage.run(context)
    return context


def _tables(context: StageContext) -> tuple[pl.DataFrame, pl.DataFrame]:
    return pl.read_parquet(context.path("steps.parquet")), pl.read_parquet(context.path("events.parquet"))


# ---- the mirror ----


def _some_glass(strain: float, seed: int) -> Glass:
    rng = np.random.default_rng(seed)
    box = Box.at_strain(5.0, strain)
    return Glass((rng.random((20, 3)) * 3.0 - 1.5) @ box.matrix, np.arange(20) % 2, box, strain)


@given(strains, st.integers(0, 2**32 - 1), strains, strains)
def test_the_mirror_takes_back_what_it_does(strain: float, seed: int, begin: float, end: float) -> None:
    leg = Leg(begin, end)
    glass = _some_glass(strain, seed)
    twice = leg.glass(leg.glass(glass))
    assert np.array_equal(twice.positions, glass.positions)
    assert (twice.box, twice.strain) == (glass.box, glass.strain)
    assert leg.strain(leg.strain(strain)) == strain
    observables = Observables(energy=1.5, stress_xy=strain, pressure=3.0, max_force=0.1)
    assert leg.observables(leg.observables(observables)) == observables
    row = {"strain": strain, "strain_c": 1.0, "stress_xy": 2.0, "core_y": -0.3, "core_x": 0.2, "strain_c_error": 1e-9}
    assert leg.row(leg.row(row)) == row
    if leg.falls:
        assert leg.row(row) == row | {"strain": -strain, "strain_c": -1.0, "stress_xy": -2.0, "core_y": 0.3}


@given(strains, strains, st.integers(0, 2**32 - 1))
def test_shear_in_the_mirror_is_shear_the_other_way(start: float, end: float, seed: int) -> None:
    glass = _some_glass(start, seed)
    there = glass.mirrored().at_strain(-end).mirrored()
    assert np.array_equal(there.positions, glass.at_strain(end).positions)
    assert there.box == glass.at_strain(end).box
    assert there.strain == end


def test_no_negative_zero_comes_out_of_the_mirror() -> None:
    leg = Leg(0.1, 0.0)
    assert str(leg.strain(0.0)) == "0.0"
    assert str(leg.row({"stress_xy": 0.0})["stress_xy"]) == "0.0"
    assert str(leg.glass(_some_glass(0.0, 1)).strain) == "0.0"


def test_the_mirror_image_has_the_energy_and_the_opposite_stress(model: GlassModel, small: Glass) -> None:
    glass = small.at_strain(0.03)
    seen, mirrored = (bonds_of(one, model.potential, 1) for one in (glass, glass.mirrored()))
    assert mirrored.energy == pytest.approx(seen.energy, rel=1e-13)
    assert mirrored.pressure == pytest.approx(seen.pressure, rel=1e-13)
    assert mirrored.stress_xy == pytest.approx(-seen.stress_xy, rel=1e-11)
    np.testing.assert_allclose(mirrored.forces * [1.0, -1.0, 1.0], seen.forces, atol=1e-10)


def test_a_falling_leg_of_the_mirror_image_is_a_rising_leg_of_the_glass(
    tmp_path: Path, model: GlassModel, small: Glass
) -> None:
    """Bit for bit: the path 0, -0.05 of the mirror image, with its events, is the path 0, 0.05 of the glass."""
    up = _run(tmp_path / "up", model, small, path=[0.0, 0.06], frames=[0.01, 0.06])
    down = _run(tmp_path / "down", model, small.mirrored(), path=[0.0, -0.06], frames=[-0.01, -0.06])
    for there, back in zip(_tables(up), _tables(down), strict=True):
        signed = [name for name in back.columns if name in SIGNED]
        assert there.equals(back.with_columns(-pl.col(name) for name in signed))
    assert _tables(up)[1].height > 0
    for one, other in zip(*(gsdio.read_glasses(context.path("sheared.gsd")) for context in (up, down)), strict=True):
        assert np.array_equal(one.glass.positions, other.glass.mirrored().positions)
        assert one.glass.strain == -other.glass.strain
        assert one.log["stress_xy"] == -other.log["stress_xy"]


def test_a_falling_leg_is_what_steps_of_falling_strain_give(model: GlassModel, small: Glass) -> None:
    """The engine has no mirror in it: on an elastic branch it gives the same states without one."""
    plain, mirrored = (Stepper(CPUEngineSettings().build(model)) for _ in range(2))
    leg = Leg(0.0, -0.003)
    state, seen = plain.start(small), mirrored.start(leg.glass(small))
    for strain in (-0.001, -0.002, -0.003):
        state, seen = plain.step(state, strain).after, mirrored.step(seen, leg.strain(strain)).after
        back = leg.glass(seen.glass)
        assert np.abs(back.nonaffine_displacement(state.glass)).max() < 1e-9
        assert leg.observables(seen.observables).stress_xy == pytest.approx(state.observables.stress_xy, abs=1e-9)
        assert seen.observables.energy == pytest.approx(state.observables.energy, rel=1e-12)


# ---- paths ----


def test_legs_count_the_strain_travelled() -> None:
    legs = legs_of([0.0, 0.1, -0.1, 0.0])
    assert [(leg.begin, leg.end, leg.falls) for leg in legs] == [(0.0, 0.1, False), (0.1, -0.1, True), (-0.1, 0.0, False)]
    assert [leg.travelled for leg in legs] == pytest.approx([0.0, 0.1, 0.3])
    assert legs[1].travelled_at(-0.05) == pytest.approx(0.25)
    # The end belongs to a leg, the beginning to the one before.
    assert [leg.passes(0.1) for leg in legs] == [True, False, False]
    assert [leg.passes(-0.1) for leg in legs] == [False, True, False]
    assert [leg.passes(0.0) for leg in legs] == [False, True, True]


@given(st.lists(strains, min_size=2, max_size=6), st.floats(1e-3, 0.1), st.lists(strains, max_size=3))
def test_a_walk_along_a_path_hits_every_passage(path: list[float], increment: float, stops: list[float]) -> None:
    try:
        legs = legs_of(path)
    except ValueError:
        return
    for leg in legs:
        grid = leg.grid(increment, stops)
        walked = [leg.strain(leg.begin)]
        while not grid.done(walked[-1]):
            walked.append(grid.next_strain(walked[-1]))
        sample = [leg.strain(strain) for strain in walked]
        assert (sample[0], sample[-1]) == (leg.begin, leg.end)
        assert all((b < a) == leg.falls and a != b for a, b in pairwise(sample))
        assert {stop for stop in stops if leg.passes(stop)} <= set(sample)
    assert legs[-1].travelled_at(legs[-1].end) == pytest.approx(sum(abs(b - a) for a, b in pairwise(path)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "neither of strain_max and path"),
        ({"strain_max": 0.1, "path": [0.0, 0.1]}, "both of strain_max and path"),
        ({"path": []}, "expected at least two strains"),
        ({"path": [0.0]}, "expected at least two strains"),
        ({"path": [0.0, 0.1, 0.1, 0.0]}, "leg of zero length at strain 0.1"),
        ({"path": [0.0, 0.05, 0.1]}, "does not turn back at strain 0.05"),
        ({"path": [0.1, 0.0]}, "path begins at strain 0.1; expected 0"),
        ({"path": [0.0, float("inf")]}, "finite"),
    ],
    ids=str,
)
def test_ways_that_are_none_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ShearStage.model_validate(settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"increment": 0.06}, r"increment = 0.06 is larger than a leg of path = \[0.0, 0.1, 0.05\]"),
        ({"frames": [0.05 + 1e-16, 0.02]}, r"strains 0.05 and 0.0500000000000001 are closer than 1e-09"),
        ({"frames": [0.05, -0.01, 0.0]}, r"frames \[-0.01, 0.0\] lie off path = \[0.0, 0.1, 0.05\]"),
    ],
)
def test_paths_that_cannot_work_are_refused(settings: dict[str, Any], message: str, model: GlassModel) -> None:
    stage = ShearStage.model_validate({"path": [0.0, 0.1, 0.05]} | settings)
    with pytest.raises(ValueError, match=message):
        stage.check(model, [500])


def test_a_path_that_begins_elsewhere_than_the_glass_is_refused(tmp_path: Path, model: GlassModel, small: Glass) -> None:
    with pytest.raises(InputError, match=r"at strain 0\.01; expected 0, where the path begins"):
        _run(tmp_path, model, small.at_strain(0.01), path=[0.0, 0.1])


@pytest.mark.parametrize(
    ("path", "tilt"), [([0.0, 0.45], None), ([0.0, 0.5], 0.5), ([0.0, -0.4, 0.6], 0.5), ([0.9, 1.3], 0.3), ([0.0, -0.47], 0.47)]
)
def test_room_on_the_way(path: list[float], tilt: float | None) -> None:
    # Twice this cut-off fits in up to a tilt of 0.46; in the fourth case into a smaller box.
    cutoff = 0.5 * 5.0 / np.sqrt(1.0 + (0.46 if tilt != 0.3 else 0.29) ** 2)
    if tilt is None:
        check_room(Box(5.0), legs_of(path), cutoff)
        return
    with pytest.raises(InputError, match=f"tilt of the box reaches {tilt:g}"):
        check_room(Box(5.0), legs_of(path), cutoff)


@pytest.fixture(scope="module")
def cycled(tmp_path_factory: pytest.TempPathFactory, model: GlassModel, small: Glass) -> StageContext:
    directory = tmp_path_factory.mktemp("cycled")
    return _run(directory, model, small, path=[0.0, 0.08, -0.06, 0.0], frames=[0.05, 0.0, -0.06, 0.0123])


def test_a_cycle(cycled: StageContext) -> None:
    steps, events = _tables(cycled)
    strain, increment, travelled = (steps[name].to_numpy() for name in ("strain", "increment", "travelled"))
    np.testing.assert_allclose(np.diff(strain), increment[1:], atol=1e-15)
    np.testing.assert_allclose(np.cumsum(np.abs(increment)), travelled, atol=1e-12)
    assert travelled[-1] == pytest.approx(0.28)
    turns = np.flatnonzero(np.diff(np.sign(increment[1:]))) + 1
    assert strain[turns].tolist() == [0.08, -0.06]
    assert strain[-1] == 0.0
    # Steps return to the grid of the increment on the way down as on the way up.
    assert {0.05, 0.049, -0.001, 0.0} <= set(strain[turns[0] : turns[1]].tolist())
    assert events.height >= 3


def test_work_is_energy_in_both_directions(cycled: StageContext) -> None:
    """Signs of stress and increment belong together: the elastic work is the change of the energy."""
    steps, _ = _tables(cycled)
    stress, increment, energy, q = (steps[name].to_numpy() for name in ("stress_xy", "increment", "energy", "q"))
    work = 0.5 * (stress[1:] + stress[:-1]) * increment[1:] / 0.82
    elastic = q[1:] < 20.0
    falling = increment[1:] < 0.0
    assert (elastic & falling).sum() > 50
    np.testing.assert_allclose(np.diff(energy)[elastic], work[elastic], atol=2e-5)
    assert np.abs(work[elastic & falling]).max() > 5e-4


def test_events_of_a_cycle(cycled: StageContext) -> None:
    steps, events = _tables(cycled)
    legs = legs_of([0.0, 0.08, -0.06, 0.0])
    fallen = 0
    for leg in legs:
        own = events.filter((pl.col("travelled") > leg.travelled) & (pl.col("travelled") <= leg.travelled_at(leg.end)))
        sign = -1.0 if leg.falls else 1.0
        fallen += own.height if leg.falls else 0
        # A reversal starts gamma_min anew; within a leg it adds up.
        np.testing.assert_allclose(
            np.cumsum(own["gamma_min"].to_numpy()), own["travelled"].to_numpy() - leg.travelled, atol=1e-12
        )
        for event in own.iter_rows(named=True):
            assert sign * event["strain_before"] < sign * event["strain_c"] < sign * event["strain_after"]
            assert event["travelled"] == pytest.approx(leg.travelled_at(event["strain_c"]))
            at = pl.col("travelled") > leg.travelled
            after = steps.filter(at & (pl.col("strain") == event["strain_after"])).row(0, named=True)
            before = steps.filter((pl.col("travelled") >= leg.travelled) & (pl.col("strain") == event["strain_before"])).row(
                0, named=True
            )
            assert event["stress_drop"] == pytest.approx(sign * (before["stress_xy"] - after["stress_xy"]), abs=1e-14)
            assert event["energy_drop"] == before["energy"] - after["energy"] > 0.0
    assert fallen > 0
    assert events["stress_drop"].mean() > 0.0


def test_every_passage_of_a_strain_has_a_frame(cycled: StageContext) -> None:
    frames = gsdio.read_glasses(cycled.path("sheared.gsd"))
    assert [frame.glass.strain for frame in frames] == [0.0123, 0.05, 0.05, 0.0123, 0.0, -0.06, 0.0]
    travelled = [frame.log["travelled"] for frame in frames]
    assert travelled == sorted(set(travelled))
    steps, _ = _tables(cycled)
    for frame in frames:
        row = steps.filter((pl.col("travelled") - frame.log["travelled"]).abs() < 1e-12).row(0, named=True)
        seen = cycled.engine.measure(frame.glass)
        assert seen.max_force < 2e-10
        assert frame.axes == (0, 1, 2)
        for name in ("stress_xy", "energy"):
            assert frame.log[name] == row[name] == pytest.approx(getattr(seen, name), abs=1e-9)


def test_the_first_leg_does_not_know_that_the_path_turns_back(
    tmp_path: Path, model: GlassModel, small: Glass, cycled: StageContext
) -> None:
    plain = _run(tmp_path, model, small, strain_max=0.08, frames=[0.05, 0.0123])
    for once, cycle in zip(_tables(plain), _tables(cycled), strict=True):
        assert once.height > 0
        assert once.equals(cycle.head(once.height))


def test_a_run_ends_after_max_events_on_any_leg(tmp_path: Path, model: GlassModel, small: Glass, cycled: StageContext) -> None:
    _, every = _tables(cycled)
    wanted = 1 + int((every["travelled"] < 0.08).sum())
    context = _run(tmp_path, model, small, path=[0.0, 0.08, -0.06, 0.0], frames=[0.05, 0.0, -0.06, 0.0123], max_events=wanted)
    steps, events = _tables(context)
    assert events.equals(every.head(wanted))
    assert steps["increment"][-1] < 0.0
    assert steps["strain"][-1] == events["strain_after"][-1]


def test_only_the_last_leg_goes_on_to_the_next_event(tmp_path: Path, model: GlassModel, small: Glass) -> None:
    steps, events = _tables(_run(tmp_path, model, small, path=[0.0, 0.002, -0.002], to_next_event=True, frames=[0.001]))
    assert steps["strain"].max() == 0.002
    assert events.height == 1
    assert events["strain_c"][0] < -0.002
    assert steps["strain"][-1] == events["strain_after"][0]
    assert events["gamma_min"][0] == pytest.approx(0.002 - events["strain_c"][0])


def test_modes_on_a_path_are_those_of_the_first_passage(cycled: StageContext) -> None:
    ModesStage(count=3, strains=(0.0, 0.05, -0.06)).run(cycled)
    moduli, modes = pl.read_parquet(cycled.path("moduli.parquet")), pl.read_parquet(cycled.path("modes.parquet"))
    assert moduli["strain"].to_list() == [0.0, 0.05, -0.06]
    assert modes["strain"].to_list() == [0.0] * 3 + [0.05] * 3 + [-0.06] * 3
    steps, events = _tables(cycled)
    for row in moduli.iter_rows(named=True):
        first = steps.filter(pl.col("strain") == row["strain"]).row(0, named=True)
        assert row["stress_xy"] == pytest.approx(first["stress_xy"], abs=1e-9)
        last_event = events.filter(pl.col("travelled") <= first["travelled"])["travelled"].max() or 0.0
        assert row["strain_since_event"] == pytest.approx(first["travelled"] - last_event, abs=1e-12)
    with pytest.raises(InputError, match=r"no configuration at strains \[-0.03\]"):
        ModesStage(count=3, strains=(-0.03,)).run(cycled)


@pytest.mark.hoomd
def test_a_path_with_hoomd_as_the_engine(tmp_path: Path, model: GlassModel, small: Glass) -> None:
    pytest.importorskip("hoomd")
    settings = {"path": [0.0, 0.002, -0.002], "detector": None, "frames": [-0.002], "plane": "yx"}
    on_cpu = _run(tmp_path / "cpu", model, small, **settings)
    on_hoomd = _run(tmp_path / "hoomd", model, small, HOOMDEngineSettings(), **settings)
    cpu, hoomd = _tables(on_cpu)[0], _tables(on_hoomd)[0]
    assert hoomd["strain"].to_list() == cpu["strain"].to_list()
    np.testing.assert_allclose(hoomd["stress_xy"], cpu["stress_xy"], atol=1e-8)
    np.testing.assert_allclose(hoomd["energy"], cpu["energy"], rtol=1e-12)
    frames = [gsdio.read_glass(context.path("sheared.gsd")).glass for context in (on_cpu, on_hoomd)]
    assert np.abs(frames[0].nonaffine_displacement(frames[1])).max() < 1e-7


def test_a_located_fold_comes_out_of_the_mirror(tmp_path: Path, model: GlassModel, small: Glass) -> None:
    """Also from the detector that has a Hessian of its own."""
    detector = pytest.importorskip("qlm_rewind.fold").FoldDetector()
    found = []
    for glass, sign in ((small, 1.0), (small.mirrored(), -1.0)):
        settings = {"path": [0.0, sign * 0.002, sign * -0.002], "to_next_event": True, "detector": detector}
        found.append(_tables(_run(tmp_path / str(sign), model, glass, **settings))[1].row(0, named=True))
    up, down = found
    assert up["strain_c"] < -0.002
    assert down["strain_c"] == -up["strain_c"]
    assert up["gamma_min"] == down["gamma_min"] == pytest.approx(0.002 - up["strain_c"])
    assert up["stress_drop"] == down["stress_drop"] != 0.0
    assert up["energy_drop"] == down["energy_drop"] > 0.0
    assert up["strain_c_error"] == down["strain_c_error"] >= 0.0
    assert (up["core_x"], up["core_y"]) == (down["core_x"], -down["core_y"])


class TestShearStageOnAPath(StageConformance):
    protocol = {  # noqa: RUF012
        "name": "small",
        "seed": 1,
        "ensemble": {
            "n_particles": [100],
            "preparations": {"quick": {"quench": "rapid", "equilibration_time": 1.0}},
            "realisations": 1,
        },
        "stages": [
            {"kind": "prepare"},
            {
                "kind": "shear",
                "path": [0, 0.003, -0.002],
                "increment": 1e-3,
                "frames": [0.002],
                "plane": "zy",
                "after_event": "fire",
            },
        ],
    }


# ---- planes ----


def test_axes_of_planes() -> None:
    assert {plane: axes_of(plane) for plane in ("xy", "xz", "yx", "yz", "zx", "zy")} == {
        "xy": (0, 1, 2), "xz": (0, 2, 1), "yx": (1, 0, 2), "yz": (1, 2, 0), "zx": (2, 0, 1), "zy": (2, 1, 0),
    }  # fmt: skip


@pytest.mark.parametrize("plane", ["xy", "xz", "yx", "yz", "zx", "zy"])
def test_stress_and_strain_of_a_plane(plane: Any, model: GlassModel, small: Glass) -> None:
    """What the turned glass calls xy is the component of that name, and shear displaces the flow by the gradient."""
    axes = axes_of(plane)
    flow, gradient, other = axes
    turned = small.turned(axes)
    virial = bonds_of(small, model.potential, 1).virial
    assert bonds_of(turned, model.potential, 1).stress_xy == pytest.approx(virial[flow, gradient] / small.box.volume, rel=1e-9)
    moved_nc = (turned.at_strain(0.1).positions - turned.positions)[:, np.argsort(axes)]
    np.testing.assert_allclose(moved_nc[:, flow], 0.1 * small.positions[:, gradient], atol=1e-14)
    assert not moved_nc[:, [gradient, other]].any()


def test_a_run_in_another_plane(tmp_path: Path, model: GlassModel, small: Glass) -> None:
    turned = _run(tmp_path / "plane", model, small, strain_max=0.05, frames=[0.05], plane="zx")
    by_hand = _run(tmp_path / "hand", model, small.turned((2, 0, 1)), strain_max=0.05, frames=[0.05])
    for one, other in zip(_tables(turned), _tables(by_hand), strict=True):
        assert one.equals(other)
    assert gsdio.read_glass(turned.path("sheared.gsd")).axes == (2, 0, 1)
    ModesStage(count=3, strains=(0.0, 0.05)).run(turned)
    # The quenched glass too is seen in the plane of the run.
    stress = pl.read_parquet(turned.path("moduli.parquet"))["stress_xy"].to_list()
    assert stress == pytest.approx(_tables(turned)[0]["stress_xy"].to_numpy()[[0, -1]], abs=1e-9)
    plain = _run(tmp_path / "xy", model, small, strain_max=0.05)
    assert abs(_tables(plain)[0]["stress_xy"][-1] - _tables(turned)[0]["stress_xy"][-1]) > 1e-3


def test_a_strained_glass_cannot_be_turned(tmp_path: Path, model: GlassModel, small: Glass) -> None:
    with pytest.raises(InputError, match="expected strain 0 where another plane is to be sheared"):
        _run(tmp_path, model, small.at_strain(0.01), strain_max=0.1, plane="xz")
    with pytest.raises(InputError, match="expected 0, 1 and 2 in some order"):
        small.turned((0, 0, 1))


# ---- far ----


def test_a_flip_in_one_step_and_in_several(model: GlassModel, small: Glass) -> None:
    """The elastic branch goes on where the box flips, whatever the steps across it."""
    near, _ = CPUEngine(model.potential).relax(small.at_strain(0.45))
    ends = []
    for sizes in ([0.0], [0.25, 0.5, 0.75], [0.001, 0.499, 0.501, 0.9]):
        stepper = Stepper(CPUEngine(model.potential))
        state = stepper.start(near)
        while state.strain < 0.4998:
            state = stepper.step(state, min(state.strain + 2e-3, 0.4998)).after
        for fraction in (*sizes[1:], 1.0):
            step = stepper.step(state, 0.4998 + 4e-4 * fraction)
            assert step.q < 100.0
            state = step.after
        assert state.glass.box.xy == pytest.approx(-0.4998)
        ends.append(state)
    for end in ends[1:]:
        assert np.abs(end.glass.nonaffine_displacement(ends[0].glass)).max() < 1e-8
        assert end.observables.energy == pytest.approx(ends[0].observables.energy, rel=1e-13)
        assert end.observables.stress_xy == pytest.approx(ends[0].observables.stress_xy, abs=1e-9)


def _flow(model: GlassModel, glass: Glass, largest: float, increment: float) -> list[ShearStep]:
    """Steady flow, checked step by step."""
    engine = CPUEngineSettings().build(model)
    stepper, grid = Stepper(engine), StrainGrid(increment, largest)
    state, steps, flips, drift_c = stepper.start(glass), [], 0, np.zeros(3)
    while not grid.done(state.strain):
        step = stepper.step(state, grid.next_strain(state.strain))
        before, after = step.before.glass, step.after.glass
        # No rounding adds up: the tilt is the strain modulo 1.
        assert abs(after.box.xy) <= 0.5
        assert after.box == Box.at_strain(glass.box.length, after.strain)
        flips += abs(after.box.xy - before.box.xy) > 0.5
        drift_c += after.nonaffine_displacement(before).mean(axis=0)
        steps.append(step)
        state = step.after
    assert flips == round(largest)
    # Forces sum to zero: the centre of mass goes nowhere.
    assert np.abs(drift_c).max() < 1e-4
    assert state.strain == largest
    length = glass.box.length
    # Wrapped at each flip, the coordinates stay near the cell.
    assert np.abs(state.glass.positions).max() < 2.0 * length
    # A fresh engine that never saw the way finds the state at rest, and the same energy.
    fresh = CPUEngine(model.potential).measure(state.glass.moved(state.glass.box.wrap(state.glass.positions)))
    assert fresh.max_force < 1e-9
    assert fresh.energy == pytest.approx(state.observables.energy, rel=1e-12)
    return steps


def test_flow_across_flips(model: GlassModel, small: Glass) -> None:
    steps = _flow(model, small, 1.6, 0.01)
    assert len(steps) == 160


@pytest.mark.physics
def test_steady_flow(model: GlassModel, quenched: Glass) -> None:
    """Far beyond yielding the stress has a plateau, on which nothing drifts, and flips leave no mark on stress or energy."""
    steps = _flow(model, quenched, 1.6, 5e-4)
    strain = np.array([step.after.strain for step in steps])
    stress = np.array([step.after.observables.stress_xy for step in steps])
    energy = np.array([step.after.observables.energy for step in steps])
    early, late = (strain > 0.4) & (strain <= 1.0), strain > 1.0
    # The plateau: means over windows of 0.6 scatter by a tenth or so at N = 500.
    assert stress[late].mean() == pytest.approx(stress[early].mean(), rel=0.25)
    assert energy[late].mean() == pytest.approx(energy[early].mean(), rel=0.02)
    # Power in, on average, is what events dissipate: elastic work less energy kept is positive, drop by drop.
    jumps = np.array([step.q > 100.0 for step in steps])
    assert jumps.sum() > 20
    across = [k for k, step in enumerate(steps) if abs(step.after.glass.box.xy - step.before.glass.box.xy) > 0.5]
    assert len(across) == 2
    elastic_change = np.abs(np.diff(stress))[~jumps[1:]]
    for k in across:
        if not jumps[k]:
            assert abs(stress[k] - stress[k - 1]) < 3.0 * np.quantile(elastic_change, 0.99)
