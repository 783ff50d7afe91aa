"""First instabilities in six directions of shear: against runs in each plane, against symmetry, on every engine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError
from qlm_quasistatic.directions import ALL_DIRECTIONS, DIRECTION_COLUMNS, first_instability, plane_of
from qlm_quasistatic.path import axes_of
from qlm_quasistatic.stage import ShearStage
from qlm_rewind import FoldDetector, ThresholdDetector

from qlm_hoomd import gsdio
from qlm_hoomd.engines.cpu import CPUEngine
from qlm_hoomd.glass import Glass
from qlm_hoomd.model import GlassModel, Preparation
from qlm_hoomd.settings import for_hash
from qlm_hoomd.stages import StageContext

if TYPE_CHECKING:
    from collections.abc import Mapping

FRAME = 0.01
FOLD = FoldDetector(overlaps=())


@pytest.fixture(scope="module")
def glass(model: GlassModel) -> Glass:
    read = gsdio.read_glass(Path(__file__).parent / "data" / "fall_400.gsd").glass
    return CPUEngine(model.potential).relax(read)[0]


def _six(glass: Glass, model: GlassModel) -> dict[str, dict[str, Any]]:
    engine = CPUEngine(model.potential)
    return {
        direction: first_instability(engine, glass.turned(axes_of(plane_of(direction))), direction, FOLD, increment=1e-3)
        for direction in ALL_DIRECTIONS
    }


@pytest.fixture(scope="module")
def six(glass: Glass, model: GlassModel) -> dict[str, dict[str, Any]]:
    return _six(glass, model)


def _run(directory: Path, glass: Glass, model: GlassModel, **settings: Any) -> StageContext:
    engine = CPUEngine(model.potential)
    gsdio.write_glasses(directory / "quenched.gsd", [(glass, engine.measure(glass))], {})
    context = StageContext(
        directory=directory,
        statepoint={"n_particles": 400, "preparation": "rapid", "realisation": 1, "seed": 1, "protocol_hash": "a" * 16},
        model=model,
        preparation=Preparation(quench="rapid"),
        engine=engine,
        provenance={},
        progress=lambda _: None,
    )
    stage = ShearStage.model_validate({"increment": 1e-3, "detector": FOLD.model_dump(), **settings})
    stage.check(model, [400])
    stage.run(context)
    assert set(stage.products()) <= {path.name for path in directory.iterdir()}
    return context


def _same(row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    assert row["gamma_min"] == pytest.approx(other["gamma_min"], abs=1e-9)
    assert abs(row["strain_c"]) == pytest.approx(abs(other["strain_c"]), abs=1e-9)
    assert row["kappa"] == pytest.approx(other["kappa"], rel=1e-5)
    assert row["coupling"] == pytest.approx(other["coupling"], rel=1e-5)
    return True


@pytest.mark.parametrize("direction", ALL_DIRECTIONS)
def test_each_direction_is_that_of_a_run_in_its_plane(
    direction: str, glass: Glass, model: GlassModel, six: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    way = {"strain_max": 0.4} if direction[0] == "+" else {"path": [0, -0.4]}
    context = _run(tmp_path, glass, model, plane=direction[1:], max_events=1, **way)
    event = pl.read_parquet(context.path("events.parquet")).row(0, named=True)
    assert _same(six[direction], event)
    assert six[direction]["strain_c"] == pytest.approx(event["strain_c"], abs=1e-9)
    assert six[direction]["gamma_min"] == pytest.approx(abs(event["strain_c"]), abs=1e-12)


def test_directions_go_with_the_sample(glass: Glass, model: GlassModel, six: dict[str, dict[str, Any]]) -> None:
    """Half a turn about x, y or z exchanges the two signs of the planes that hold that axis once more or less than the other."""
    for axis, flipped in ((0, "xy xz"), (1, "xy yz"), (2, "xz yz")):
        signs_c = -np.ones(3)
        signs_c[axis] = 1.0
        turned = _six(glass.moved(glass.positions * signs_c), model)
        for direction, row in turned.items():
            sign = direction[0] if direction[1:] not in flipped else {"+": "-", "-": "+"}[direction[0]]
            assert _same(row, six[sign + direction[1:]])


def test_a_third_of_a_turn_takes_planes_to_planes(glass: Glass, model: GlassModel, six: dict[str, dict[str, Any]]) -> None:
    """The new x, y, z are the old y, z, x.

    What was flow and gradient stays so: the new xz is the old yx, another shear than xy.
    """
    turned = _six(glass.moved(glass.positions[:, [1, 2, 0]]), model)
    assert _same(turned["+xy"], six["+yz"])
    assert _same(turned["-xy"], six["-yz"])
    old_yx = first_instability(CPUEngine(model.potential), glass.turned(axes_of("yx")), "+xy", FOLD, increment=1e-3)
    assert _same(turned["+xz"], old_yx)
    # To the second order in strain only.
    assert old_yx["gamma_min"] != pytest.approx(six["+xy"]["gamma_min"], abs=1e-9)
    assert old_yx["gamma_min"] == pytest.approx(six["+xy"]["gamma_min"], rel=0.1)


def test_the_stage_writes_them_as_a_product_of_its_own(
    glass: Glass, model: GlassModel, six: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    context = _run(tmp_path, glass, model, strain_max=0.03, frames=[FRAME], directions="all", directions_at=[FRAME])
    table = pl.read_parquet(context.path("directions.parquet"))
    assert dict(table.schema) == DIRECTION_COLUMNS
    assert table["direction"].to_list() == [*ALL_DIRECTIONS, "+xy", "-xy"]
    assert table["strain"].to_list() == [0.0] * 6 + [FRAME] * 2
    rows = table.rows(named=True)
    for row in rows[:6]:
        assert _same(row, six[row["direction"]])
    event = pl.read_parquet(context.path("events.parquet")).row(0, named=True)
    assert _same(rows[0], event)
    # No instability lies between: from the frame on the first one of +xy is the same, and that much closer.
    assert rows[6]["strain_c"] == pytest.approx(event["strain_c"], abs=1e-9)
    assert rows[6]["gamma_min"] == pytest.approx(event["strain_c"] - FRAME, abs=1e-9)
    # Elastic: on the way back the glass comes through its quenched state.
    assert rows[7]["strain_c"] == pytest.approx(six["-xy"]["strain_c"], abs=1e-9)
    assert rows[7]["gamma_min"] == pytest.approx(FRAME + six["-xy"]["gamma_min"], abs=1e-9)


def test_a_detector_that_locates_no_fold_gives_the_strain_alone(
    glass: Glass, model: GlassModel, six: dict[str, dict[str, Any]]
) -> None:
    row = first_instability(CPUEngine(model.potential), glass, "+xy", ThresholdDetector(), increment=1e-4)
    assert row["gamma_min"] == pytest.approx(six["+xy"]["gamma_min"], abs=1e-6)
    assert row["kappa"] is row["coupling"] is None


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"directions": ["+yx"]}, r"\+yx|Input should be"),
        ({"directions": "some"}, "Input should be"),
        ({"directions": ["+xy", "+xy"]}, "names one twice"),
        ({"directions": "all", "detector": None}, "directions need a detector"),
        ({"directions": "all", "directions_at": [0.02]}, "no strains of frames"),
        ({"directions": "all", "directions_at": [0.01], "path": [0, 0.1, 0], "strain_max": None}, "goes with strain_max"),
        ({"directions": ["+xz"], "directions_at": [0.01]}, r"needs \+xy or -xy among the directions"),
        ({"directions_at": [0.01]}, r"needs \+xy or -xy among the directions"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises((ValidationError, ValueError), match=says):
        ShearStage.model_validate({"strain_max": 0.1, "frames": [0.01], **settings}).check(GlassModel(), [400])


def test_at_their_defaults_they_are_in_no_hash_and_in_no_product() -> None:
    stage = ShearStage.model_validate({"strain_max": 0.1})
    assert not {"directions", "directions_at"} & set(for_hash(stage))
    assert "directions.parquet" not in stage.products()
    asked = ShearStage.model_validate({"strain_max": 0.1, "directions": "all"})
    assert for_hash(asked)["directions"] == "all"
    assert "directions.parquet" in asked.products()


@pytest.mark.hoomd
def test_the_driver_finds_them_and_leaves_the_simulation_alone(
    glass: Glass, model: GlassModel, six: dict[str, dict[str, Any]]
) -> None:
    hoomd = pytest.importorskip("hoomd")
    from qlm_quasistatic.hoomd import AthermalQuasistatic

    from qlm_hoomd.engines.hoomd import snapshot_of
    from qlm_hoomd.errors import InputError
    from qlm_hoomd.pair import InversePowerLaw

    simulation = hoomd.Simulation(device=hoomd.device.CPU(), seed=1)
    simulation.create_state_from_snapshot(snapshot_of(glass))
    force = InversePowerLaw.from_potential(model.potential, hoomd.md.nlist.Cell(buffer=0.12))
    shear = AthermalQuasistatic(simulation, [force], increment=1e-3, detector=FOLD)
    shear.relax()
    before = simulation.state.get_snapshot().particles.position.tobytes()
    table = shear.first_instabilities(["-xy", "+yz"])
    assert simulation.state.get_snapshot().particles.position.tobytes() == before
    assert table["direction"].to_list() == ["-xy", "+yz"]
    for row in table.rows(named=True):
        assert row["strain_c"] == pytest.approx(six[row["direction"]]["strain_c"], abs=1e-8)
        assert row["kappa"] == pytest.approx(six[row["direction"]]["kappa"], rel=1e-4)
    shear.run(strain=0.005)
    assert shear.first_instabilities(["-xy"])["gamma_min"].item() == pytest.approx(0.005 + six["-xy"]["gamma_min"], abs=1e-8)
    with pytest.raises(InputError, match="strain 0 where another plane"):
        shear.first_instabilities(["+xz"])
    with pytest.raises(InputError, match=r"directions = \['xy'\]; expected some of \+xy"):
        shear.first_instabilities(["xy"])  # type: ignore[list-item]
