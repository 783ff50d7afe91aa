"""What a stage is handed, and the stages that measure a sheared glass, run on a folder."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

import gsd.hoomd
import numpy as np
import polars as pl
import pytest

from qlm_hoomd import gsdio
from qlm_hoomd.box import Box
from qlm_hoomd.elasticity import elastic_moduli, residual_shear_stress
from qlm_hoomd.engines.cpu import CPUEngineSettings
from qlm_hoomd.errors import InputError
from qlm_hoomd.glass import Glass
from qlm_hoomd.hessian import Hessian
from qlm_hoomd.model import GlassModel, Preparation
from qlm_hoomd.modes import LowestModes
from qlm_hoomd.postanalysis import modes_of_frame
from qlm_hoomd.potentials import Harmonic
from qlm_hoomd.preparation import random_start
from qlm_hoomd.stages import StageContext, replacing
from qlm_hoomd.stages.modes import MODE_SCALARS, ModesStage

if TYPE_CHECKING:
    from pathlib import Path

PROVENANCE = {"protocol_hash": "f" * 16, "versions": {}}


@pytest.fixture(scope="module")
def small_glass(model: GlassModel, small_liquid: Glass) -> Glass:
    return CPUEngineSettings().build(model).descend(small_liquid)[0]


@pytest.fixture
def context(tmp_path: Path, model: GlassModel, small_glass: Glass) -> StageContext:
    """A realisation whose glass is quenched, and sheared to 0.01 and 0.02."""
    engine = CPUEngineSettings().build(model)
    sheared = [engine.relax(small_glass.at_strain(strain))[0] for strain in (0.01, 0.02)]
    gsdio.write_glasses(tmp_path / "quenched.gsd", [(small_glass, engine.measure(small_glass))], PROVENANCE)
    gsdio.write_glasses(tmp_path / "sheared.gsd", [(glass, engine.measure(glass)) for glass in sheared], PROVENANCE)
    pl.DataFrame({"strain": [0.0, 0.01, 0.02]}).write_parquet(tmp_path / "steps.parquet")
    return StageContext(
        directory=tmp_path,
        statepoint={"n_particles": 100, "preparation": "rapid", "realisation": 0, "seed": 1, "protocol_hash": "f" * 16},
        model=model,
        preparation=Preparation(quench="rapid"),
        engine=engine,
        provenance=PROVENANCE,
        progress=lambda _: None,
    )


def test_products_appear_whole_or_not_at_all(context: StageContext) -> None:
    with context.product("note.txt") as temporary:
        temporary.write_text("first")
        assert not context.path("note.txt").exists()
    with pytest.raises(UnicodeEncodeError), context.product("note.txt") as temporary:
        temporary.write_text("half a note \udc80", encoding="utf-8")
    assert context.path("note.txt").read_text() == "first"
    assert not list(context.directory.glob(".*"))


def test_a_file_that_was_never_written_does_not_replace_anything(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "old"):
        pass
    assert (tmp_path / "old").read_text() == "old"


def test_tables_carry_their_provenance(context: StageContext) -> None:
    context.write_table("table.parquet", pl.DataFrame({"x": [1.0]}))
    metadata = pl.read_parquet_metadata(context.path("table.parquet"))
    assert json.loads(metadata["qlm_hoomd"]) == PROVENANCE


def test_stream_of_a_stage_depends_on_the_state_point_alone(context: StageContext) -> None:
    def draw(stage: str = "prepare", **changes: object) -> float:
        return float(replace(context, statepoint={**context.statepoint, **changes}).rng(stage).random())

    draws = [draw(), draw("shear"), draw(n_particles=121), draw(preparation="slow"), draw(realisation=4), draw(seed=8)]
    assert len(set(draws)) == len(draws)
    assert draw(protocol_hash="1" * 16) == draw()


def test_modes_stage_at_every_strain_asked_for(context: StageContext) -> None:
    stage = ModesStage(count=5, strains=(0.0, 0.02))
    assert stage.requires() == ("quenched.gsd", "sheared.gsd", "steps.parquet")
    assert ModesStage().requires() == ("quenched.gsd",)
    stage.run(context)
    modes = pl.read_parquet(context.path("modes.parquet"))
    moduli = pl.read_parquet(context.path("moduli.parquet"))
    assert modes.columns[:6] == ["strain", "index", "eigenvalue", "frequency", "participation_ratio", "residual"]
    assert modes["index"].dtype == pl.Int32
    assert modes["strain"].to_list() == [0.0] * 5 + [0.02] * 5
    assert modes["index"].to_list() == [0, 1, 2, 3, 4] * 2
    assert moduli["strain"].to_list() == [0.0, 0.02]
    for strain, name, frame in ((0.0, "quenched.gsd", 0), (0.02, "sheared.gsd", 1)):
        glass = gsdio.read_glass(context.path(name), frame).glass
        hessian = Hessian(context.engine.potential).compute(glass)
        rows = modes.filter(pl.col("strain") == strain)
        np.testing.assert_allclose(rows["eigenvalue"], LowestModes(5).compute(hessian).eigenvalues, rtol=1e-9)
        row = moduli.filter(pl.col("strain") == strain).row(0, named=True)
        expected = elastic_moduli(hessian.bonds)
        assert row["shear_modulus"] == pytest.approx(expected.shear_modulus, rel=1e-9)
        assert row["born_shear_modulus"] == pytest.approx(expected.born_shear_modulus, rel=1e-12)
        assert row["bulk_modulus"] == pytest.approx(expected.bulk_modulus, rel=1e-9)
        assert row["energy"] == pytest.approx(hessian.bonds.energy / 100, rel=1e-12)
        assert row["stress_xy"] == pytest.approx(hessian.bonds.stress_xy, rel=1e-10)
        assert row["softest_shear_modulus"] == pytest.approx(expected.softest_shear_modulus, rel=1e-9)
        assert row["residual_shear_stress"] == pytest.approx(residual_shear_stress(hessian.bonds), rel=1e-9)
    # Nobody recorded instabilities here: how far the last one lies back is unknown.
    assert moduli["strain_since_event"].to_list() == [0.0, None]


def test_modes_stage_labels_the_strain_since_the_last_instability(context: StageContext) -> None:
    events = pl.DataFrame({"strain_c": [0.004, 0.0171, 0.0203]})
    events.write_parquet(context.path("events.parquet"))
    try:
        ModesStage(count=3, strains=(0.0, 0.02)).run(context)
        assert pl.read_parquet(context.path("moduli.parquet"))["strain_since_event"].to_list() == pytest.approx([0.0, 0.0029])
    finally:
        context.path("events.parquet").unlink()


def test_modes_stage_gives_the_same_bytes_again(context: StageContext, model: GlassModel) -> None:
    stage = ModesStage(count=3, keep_vectors=True)
    runs = []
    for _ in range(2):
        stage.run(replace(context, engine=CPUEngineSettings().build(model)))
        runs.append([context.path(name).read_bytes() for name in stage.products()])
        frames = gsdio.read_glasses(context.path("modes.gsd"))
        table = pl.read_parquet(context.path("modes.parquet"))
        assert [frame.log for frame in frames] == table.select(MODE_SCALARS).cast(pl.Float64).rows(named=True)
    assert runs[0] == runs[1]


def test_modes_stage_lists_nonlinear_modes(context: StageContext) -> None:
    stage = ModesStage(count=4, strains=(0.0, 0.02), nonlinear=("pseudo_harmonic", "cubic"), random_starts=2)
    assert stage.products() == ("qlms.parquet", "moduli.parquet", "modes.parquet")
    stage.run(context)
    qlms = pl.read_parquet(context.path("qlms.parquet"))
    assert set(qlms["kind"]) == {"PseudoHarmonic", "Cubic"}
    assert sorted(set(qlms["strain"])) == [0.0, 0.02]
    assert (qlms["residual"] <= 1e-8).all()
    softest = pl.read_parquet(context.path("modes.parquet")).group_by("strain").agg(pl.col("frequency").min())
    lowest = qlms.group_by("strain").agg(pl.col("frequency").min().alias("found")).join(softest, on="strain")
    # No direction is softer than the softest eigenvector.
    assert (lowest["found"] >= lowest["frequency"] * (1.0 - 1e-9)).all()
    before = context.path("qlms.parquet").read_bytes()
    stage.run(context)
    assert context.path("qlms.parquet").read_bytes() == before
    context.path("qlms.parquet").unlink()


def test_modes_stage_follows_its_modes(context: StageContext, model: GlassModel) -> None:
    """With `paths` the table has two columns more, the strain of each mode's path, and is else as before."""
    plain, followed = (ModesStage(count=4, nonlinear=("cubic",), random_starts=2, paths=paths) for paths in (False, True))
    tables = []
    for stage in (plain, followed):
        stage.check(model, [100])
        stage.run(context)
        tables.append(pl.read_parquet(context.path("qlms.parquet")))
    assert tables[1].drop("path_strain", "path_fold").equals(tables[0])
    strains = tables[1].select("path_strain", "path_fold")
    assert strains["path_strain"].drop_nulls().len() > 0
    assert strains.unpivot()["value"].drop_nulls().is_between(0.0, 0.3, closed="none").all()
    with pytest.raises(ValueError, match=r"paths = true without modes to follow; expected nonlinear: \[cubic\]"):
        ModesStage(paths=True).check(model, [100])
    context.path("qlms.parquet").unlink()


def test_modes_stage_misses_a_strain_loudly(context: StageContext) -> None:
    """A strain that was passed and has no frame is an error of this realisation, not a table without it."""
    with pytest.raises(InputError, match=r"no configuration at strains \[0\.015\]; expected them among the `frames`"):
        ModesStage(count=3, strains=(0.0, 0.015)).run(context)
    assert not context.path("modes.parquet").exists()
    # A run that ended at an instability before that strain has nothing there, and that is no fault.
    ModesStage(count=3, strains=(0.0, 0.03)).run(context)
    assert pl.read_parquet(context.path("modes.parquet"))["strain"].unique().to_list() == [0.0]


def test_modes_stage_checks_its_count_against_the_sizes(model: GlassModel) -> None:
    ModesStage(count=297).check(model, [100, 500])
    with pytest.raises(ValueError, match="count = 298; expected at most 297"):
        ModesStage(count=298).check(model, [100, 500])


def test_moduli_of_a_force_that_jumps_are_withheld_with_the_reason(
    context: StageContext, caplog: pytest.LogCaptureFixture
) -> None:
    model = GlassModel(potential={"kind": "kob_andersen", "q": 0}, density=1.2, fraction_large=0.2)
    engine = CPUEngineSettings().build(model)
    glass, _ = engine.descend(random_start(model, 230, np.random.default_rng(0)))
    gsdio.write_glasses(context.path("quenched.gsd"), [(glass, engine.measure(glass))], PROVENANCE)
    ModesStage(count=4).run(replace(context, model=model, engine=engine))
    row = pl.read_parquet(context.path("moduli.parquet")).row(0, named=True)
    assert row["shear_modulus"] is row["softest_shear_modulus"] is row["poisson_ratio"] is None
    assert row["pressure"] == pytest.approx(engine.measure(glass).pressure)
    assert "no elastic moduli: the force of KobAndersen jumps at the cut-off" in caplog.text
    assert len(pl.read_parquet(context.path("modes.parquet"))) == 4


# ---- rattlers ----


@pytest.fixture
def packing(tmp_path: Path) -> StageContext:
    """A crystal of harmonic spheres with two particles that touch nothing."""
    model = GlassModel(potential=Harmonic(sigma=((1.0, 0.6), (0.6, 0.3))))
    edge = 0.95 * np.sqrt(2.0)
    corners = np.array([(0.0, 0.0, 0.0), (0.5, 0.5, 0.0), (0.5, 0.0, 0.5), (0.0, 0.5, 0.5)])
    positions_nc = (np.array(list(product(range(4), repeat=3)))[:, None] + corners).reshape(-1, 3) * edge
    typeid_n = np.zeros(256, dtype=np.int32)
    typeid_n[[5, 50]] = 1
    engine = CPUEngineSettings().build(model)
    glass, _ = engine.relax(Glass(positions_nc, typeid_n, Box(4 * edge)))
    gsdio.write_glasses(tmp_path / "quenched.gsd", [(glass, engine.measure(glass))], PROVENANCE)
    statepoint = {"n_particles": 256, "preparation": "rapid", "realisation": 0, "seed": 1, "protocol_hash": "f" * 16}
    return StageContext(tmp_path, statepoint, model, Preparation(quench="rapid"), engine, PROVENANCE, lambda _: None)


@pytest.mark.parametrize("count", [3, 6, 9])
def test_rattlers_are_counted_and_keep_their_zero_modes(
    packing: StageContext, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Wherever the window ends: the count by inertia once met a matrix that is exactly singular."""
    ModesStage(count=count).run(packing)
    table = pl.read_parquet(packing.path("modes.parquet"))
    assert (table["eigenvalue"].abs() < 1e-10).sum() == min(count, 6)
    assert pl.read_parquet(packing.path("moduli.parquet"))["completeness"].to_list() == ["inertia"]
    assert (
        "2 of 256 particles are rattlers, each with as many zero modes as there are dimensions among the lowest" in caplog.text
    )


def test_rattlers_that_are_removed_leave_the_same_glass_as_in_a_file(
    packing: StageContext, caplog: pytest.LogCaptureFixture
) -> None:
    stage = ModesStage(count=4, remove_rattlers=True, keep_vectors=True, nonlinear=("cubic",), random_starts=1)
    stage.run(packing)
    glass = gsdio.read_glass(packing.path("quenched.gsd")).glass
    expected = modes_of_frame(glass, packing.model.potential, 4, remove_rattlers=True)
    np.testing.assert_allclose(
        pl.read_parquet(packing.path("modes.parquet"))["eigenvalue"], expected.modes.eigenvalues, rtol=1e-9
    )
    moduli = pl.read_parquet(packing.path("moduli.parquet")).row(0, named=True)
    for name in ("energy", "shear_modulus", "pressure"):
        assert moduli[name] == pytest.approx(expected.row[name], rel=1e-9)
    assert "2 of 256 particles are rattlers, left out" in caplog.text
    with gsd.hoomd.open(str(packing.path("modes.gsd"))) as trajectory:
        mode_nc = trajectory[0].log["particles/qlm/mode"]
        assert mode_nc.shape == (256, 3)
        assert not mode_nc[[5, 50]].any()
        assert [shape["diameter"] for shape in trajectory[0].particles.type_shapes] == pytest.approx([1.0, 0.3])


def test_nothing_but_rattlers_is_an_error_of_the_input(packing: StageContext) -> None:
    glass = gsdio.read_glass(packing.path("quenched.gsd")).glass
    loose = replace(glass, typeid=np.ones(256, dtype=np.int32))
    gsdio.write_glasses(packing.path("quenched.gsd"), [(loose, packing.engine.measure(loose))], PROVENANCE)
    with pytest.raises(InputError, match="every particle is a rattler"):
        ModesStage(count=3).run(packing)
