"""`qlm modes` on files of all kinds: our own, HOOMD-blue's, saddles, rattlers, and everything that can be wrong with one."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import gsd.hoomd
import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from typer.testing import CliRunner, Result

from qlm_hoomd import gsdio, postanalysis
from qlm_hoomd.base.interrupt import Interrupted, interruptible
from qlm_hoomd.box import Box
from qlm_hoomd.cli import app
from qlm_hoomd.engines.cpu import CPUEngine, CPUEngineSettings
from qlm_hoomd.errors import ConvergenceError, InputError
from qlm_hoomd.frames import frames_from_text
from qlm_hoomd.glass import Glass
from qlm_hoomd.hessian import Hessian
from qlm_hoomd.mechanics import bonds_of
from qlm_hoomd.model import GlassModel
from qlm_hoomd.modes import LowestModes
from qlm_hoomd.postanalysis import (
    modes_of_file,
    modes_of_frame,
)
from qlm_hoomd.potentials import Harmonic, InversePowerLaw, KobAndersen, LennardJones, SoftSpheres
from qlm_hoomd.preparation import random_start
from qlm_hoomd.protocol.potential_spec import potential_from_spec
from qlm_hoomd.standing import rattlers

FCC = np.array([(0.0, 0.0, 0.0), (0.5, 0.5, 0.0), (0.5, 0.0, 0.5), (0.0, 0.5, 0.5)])
HARMONIC = Harmonic(sigma=((1.0, 0.6), (0.6, 0.3)))


@pytest.fixture(scope="module")
def glass(model: GlassModel) -> Glass:
    engine, rng = CPUEngineSettings().build(model), np.random.default_rng(9)
    liquid, _ = engine.run(random_start(model, 150, rng), duration=1.0, temperature=model.T0, rng=rng)
    return engine.descend(liquid)[0]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def qlm_modes(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["modes", *map(str, arguments)])


def ours(path: Path, model: GlassModel, *glasses: Glass) -> Path:
    engine = CPUEngineSettings().build(model)
    gsdio.write_glasses(path, [(glass, engine.measure(glass)) for glass in glasses], {})
    return path


def foreign(path: Path, *glasses: Glass, change: Callable[[gsd.hoomd.Frame], None] = lambda _: None) -> Path:
    """A file as HOOMD-blue writes it: float32, and nothing of ours in it."""
    with gsd.hoomd.open(str(path), "w") as trajectory:
        for glass in glasses:
            frame = gsd.hoomd.Frame()
            frame.configuration.box = glass.box.to_gsd()
            frame.particles.N = glass.n_particles
            frame.particles.types = ["A", "B"]
            frame.particles.typeid = glass.typeid.copy()
            frame.particles.position = glass.box.wrap(glass.positions).astype(np.float32)
            change(frame)
            trajectory.append(frame)
    return path


def crystal(cells: int, b_particles: tuple[int, ...] = ()) -> Glass:
    """Harmonic spheres on an FCC lattice under pressure; those named are so small that they touch nothing."""
    edge = 0.95 * np.sqrt(2.0)
    positions_nc = (np.array(list(product(range(cells), repeat=3)))[:, None] + FCC).reshape(-1, 3) * edge
    typeid_n = np.zeros(len(positions_nc), dtype=np.int32)
    typeid_n[list(b_particles)] = 1
    return Glass(positions_nc, typeid_n, Box(cells * edge))


# ---- what comes out ----


def test_a_file_of_ours_is_taken_as_it_is(here: Path, model: GlassModel, glass: Glass) -> None:
    path = ours(here / "glass.gsd", model, glass, glass.at_strain(0.0))
    result = modes_of_file(path, potential=model.potential, k=6, as_is=True, out=here / "out")
    expected = LowestModes(6).compute(Hessian(model.potential).compute(glass))
    np.testing.assert_allclose(result.modes.filter(frame=1)["eigenvalue"], expected.eigenvalues, rtol=1e-9)
    assert result.moduli["relaxation"].to_list() == ["", ""]
    assert result.moduli["max_displacement"].to_list() == [0.0, 0.0]
    assert result.notes == ()
    assert pl.read_parquet(here / "out" / "modes.parquet").equals(result.modes)
    assert pl.read_parquet(here / "out" / "moduli.parquet").equals(result.moduli)
    provenance = json.loads(pl.read_parquet_metadata(here / "out" / "modes.parquet")["qlm_hoomd"])
    assert provenance["potential"] == model.potential.model_dump(mode="json")
    assert provenance["source"] == "glass.gsd"
    assert provenance["versions"]["qlm_hoomd"]


def test_a_foreign_file_is_relaxed_and_the_output_says_so(here: Path, model: GlassModel, glass: Glass) -> None:
    foreign(here / "foreign.gsd", glass)
    result = qlm_modes("foreign.gsd", "--k", 5)
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith("potential: kind = inverse_power_law, epsilon = 1.0, n = 10, q = 3, ")
    assert "frame 0: relaxed from max|F| = " in result.stderr
    assert "newton" in result.stdout
    table = pl.read_parquet(here / "foreign-modes" / "modes.parquet")
    assert table["relaxed"].all()
    # The box itself is rounded to float32.
    np.testing.assert_allclose(
        table["eigenvalue"], LowestModes(5).compute(Hessian(model.potential).compute(glass)).eigenvalues, rtol=1e-4
    )
    moved = pl.read_parquet(here / "foreign-modes" / "moduli.parquet")["max_displacement"][0]
    assert 0.0 < moved < 1e-5
    for name in ("modes.parquet", "moduli.parquet", "modes.gsd"):
        assert f"wrote {Path('foreign-modes') / name}" in result.stdout
    again = qlm_modes("foreign.gsd", "--k", 5)
    assert again.exit_code == 2
    assert "exists; expected a new folder (--out). Nothing is overwritten." in again.stderr


def test_mode_vectors_go_back_into_gsd_as_velocities(here: Path, model: GlassModel, glass: Glass) -> None:
    def sizes(frame: gsd.hoomd.Frame) -> None:
        frame.particles.diameter = 1.0 + 0.4 * glass.typeid

    foreign(here / "f.gsd", glass, glass, change=sizes)
    modes_of_file(here / "f.gsd", potential=model.potential, k=3, out=here / "out")
    with gsd.hoomd.open(str(here / "out" / "modes.gsd")) as trajectory:
        assert len(trajectory) == 6
        for number, frame in enumerate(trajectory):
            mode_nc = frame.log["particles/qlm/mode"]
            assert (mode_nc.dtype, mode_nc.shape) == (np.float64, (150, 3))
            assert np.linalg.norm(mode_nc) == pytest.approx(1.0, rel=1e-12)
            np.testing.assert_allclose(frame.particles.velocity, mode_nc, atol=1e-7)
            assert (frame.log["qlm/frame"][0], frame.log["qlm/index"][0]) == divmod(number, 3)
            np.testing.assert_array_equal(frame.particles.typeid, glass.typeid)
            np.testing.assert_allclose(frame.particles.diameter, 1.0 + 0.4 * glass.typeid, rtol=1e-6)
            here_ = gsdio.read_glass(here / "out" / "modes.gsd", number)
            assert here_.exact
            bonds = bonds_of(here_.glass, model.potential)
            assert bonds.curvature(mode_nc) == pytest.approx(frame.log["qlm/eigenvalue"][0], rel=1e-9)
            # Viewers would draw a type B as boron.
            assert [shape["diameter"] for shape in frame.particles.type_shapes] == pytest.approx([1.0, 1.4])
            # OVITO lists what stands in a log, number by number.
            assert not any("provenance" in name for name in frame.log)
    assert gsdio.read_glass(here / "out" / "modes.gsd", 2).glass.provenance["source"] == "f.gsd"


def test_a_liquid_is_led_to_its_inherent_structure(model: GlassModel, small_liquid: Glass) -> None:
    result = modes_of_frame(small_liquid, model.potential, 4)
    assert "descent" in result.relaxation
    assert result.max_force_found > 1.0
    assert result.max_displacement > 0.05
    assert "no minimum close by: a liquid, or not the potential that made the file?" in result.notes
    assert (result.modes.eigenvalues > 0).all()
    with pytest.raises(InputError, match=r"max\|F\| = .* expected at most 1e-08 with --as-is"):
        modes_of_frame(small_liquid, model.potential, 4, as_is=True)


def test_frames_are_chosen_by_range_and_step(here: Path, model: GlassModel, glass: Glass) -> None:
    path = ours(here / "g.gsd", model, *[glass] * 7)
    for text, every, expected in (
        (":", 3, [0, 3, 6]), ("1:5", 2, [1, 3]), ("-2:", 1, [5, 6]), (":2", 1, [0, 1]), ("4", 1, [4]), ("-1", 1, [6]),
    ):  # fmt: skip
        table = modes_of_file(path, potential=model.potential, k=1, frames=frames_from_text(text, every)).modes
        assert table["frame"].to_list() == expected, text


def test_a_saddle_is_kept_and_flagged(here: Path) -> None:
    """A stretched FCC crystal of Lennard-Jones particles: no force acts, and it would rather fall apart."""
    edge = 1.9
    positions_nc = (np.array(list(product(range(4), repeat=3)))[:, None] + FCC).reshape(-1, 3) * edge
    path = foreign(here / "saddle.gsd", Glass(positions_nc - 3.8, np.zeros(256, dtype=np.int32), Box(4 * edge)))
    result = qlm_modes(
        path, "--potential", "lennard_jones:epsilon=[[1]],sigma=[[1]],q=3", "--k", 5, "--as-is", "--force-tolerance", 1e-4
    )
    assert result.exit_code == 1, result.output
    assert "a saddle: 5 of its 5 lowest eigenvalues are negative (kept" in result.stderr
    assert "qlm: frame 0: this is no solid: all 5 of its lowest eigenvalues are negative." in result.stderr
    table = pl.read_parquet("saddle-modes/modes.parquet")
    assert (table["eigenvalue"] < 0).all()
    assert (table["frequency"] < 0).all()


def test_rattlers_are_reported_with_their_zero_modes_and_can_be_removed() -> None:
    packing, without = crystal(3, (5, 50)), crystal(3)
    reported = modes_of_frame(packing, HARMONIC, 8)
    assert np.flatnonzero(reported.rattlers).tolist() == [5, 50]
    assert reported.zero_modes == 6
    assert any("2 rattlers" in note and "--remove-rattlers" in note for note in reported.notes)
    removed = modes_of_frame(packing, HARMONIC, 8, remove_rattlers=True)
    assert removed.zero_modes == 0
    assert removed.rattlers_removed
    assert removed.vectors.shape == (8, 108, 3)
    assert not removed.vectors[:, [5, 50]].any()
    # The crystal with two vacancies, made by hand.
    kept = [n for n in range(108) if n not in (5, 50)]
    vacancies = replace(without, positions=packing.positions[kept], typeid=packing.typeid[kept])
    expected = modes_of_frame(vacancies, HARMONIC, 8)
    np.testing.assert_allclose(removed.modes.eigenvalues, expected.modes.eigenvalues, rtol=1e-7)
    np.testing.assert_allclose(removed.modes.eigenvalues[:2], reported.modes.eigenvalues[6:], rtol=1e-7)
    assert removed.row["shear_modulus"] == pytest.approx(reported.row["shear_modulus"], rel=1e-6)


def test_a_cluster_too_loose_to_hold_itself_is_all_rattlers() -> None:
    """Contacts with rattlers hold nobody: of five particles in a square pyramid no four contacts are left in the end."""
    packing = crystal(3)
    assert not rattlers(bonds_of(packing, HARMONIC, 1)).any()
    pyramid_nc = 0.9 * np.array([(0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0), (0.5, 0.5, 0.6)], dtype=float)
    pyramid = Glass(pyramid_nc, np.zeros(5, dtype=np.int32), Box(10.0))
    bonds = bonds_of(pyramid, HARMONIC, 1)
    contacts_n = np.bincount(np.concatenate([bonds.i_p, bonds.j_p]))
    assert contacts_n.tolist() == [3, 3, 3, 3, 4]
    assert rattlers(bonds).all()
    lonely = replace(packing, typeid=np.ones(108, dtype=np.int32))
    assert rattlers(bonds_of(lonely, HARMONIC, 1)).all()
    with pytest.raises(InputError, match="every particle is a rattler"):
        modes_of_frame(lonely, HARMONIC, 3, remove_rattlers=True)


def test_frames_that_fail_are_named_and_the_rest_is_kept(here: Path, glass: Glass, monkeypatch: pytest.MonkeyPatch) -> None:
    from qlm_hoomd import postanalysis

    path = foreign(here / "g.gsd", glass, glass)
    real, calls = postanalysis.modes_of_frame, []

    def second_fails(*arguments: Any, **named: Any) -> Any:
        calls.append(named["frame"])
        if named["frame"] == 1:
            raise ConvergenceError("no way down")
        return real(*arguments, **named)

    monkeypatch.setattr(postanalysis, "modes_of_frame", second_fails)
    result = qlm_modes(path, "--k", 2, "--out", "some")
    assert result.exit_code == 1
    assert "frame 1 failed: no way down" in result.stderr
    assert "1 frames failed, the others are kept: 1" in result.stderr
    assert pl.read_parquet("some/modes.parquet")["frame"].unique().to_list() == [0]
    result = qlm_modes(path, "--k", 2, "--out", "none", "--frames", 1)
    assert result.exit_code == 1
    assert not Path("none").exists()


@pytest.mark.hoomd
@pytest.mark.usefixtures("here")
def test_a_trajectory_of_hoomd_goes_through() -> None:
    """Kob-Andersen particles at finite temperature, as a user's own script writes them, type B first."""
    import hoomd

    simulation = hoomd.Simulation(hoomd.device.CPU(), seed=3)
    grid_nc = np.array(list(product(range(6), repeat=3)), dtype=float)
    snapshot = hoomd.Snapshot()
    length = (216 / 1.2) ** (1 / 3)
    snapshot.configuration.box = [length, length, length, 0.1, 0, 0]
    snapshot.particles.N = 216
    snapshot.particles.types = ["B", "A"]
    snapshot.particles.position[:] = Box(length, 0.1).wrap(grid_nc * length / 6)
    snapshot.particles.typeid[:] = np.random.default_rng(0).permutation(np.repeat([0, 1], [43, 173]))
    simulation.create_state_from_snapshot(snapshot)
    force = hoomd.md.pair.LJ(hoomd.md.nlist.Cell(buffer=0.3), mode="shift")
    for pair, epsilon, sigma in ((("A", "A"), 1.0, 1.0), (("A", "B"), 1.5, 0.8), (("B", "B"), 0.5, 0.88)):
        force.params[pair] = {"epsilon": epsilon, "sigma": sigma}
        force.r_cut[pair] = 2.5 * sigma
    langevin = hoomd.md.methods.Langevin(hoomd.filter.All(), kT=0.8)
    simulation.operations.integrator = hoomd.md.Integrator(dt=0.003, methods=[langevin], forces=[force])
    simulation.operations.writers.append(hoomd.write.GSD(trigger=hoomd.trigger.Periodic(200), filename="ka.gsd", mode="xb"))
    simulation.run(601)
    simulation.operations.writers[0].flush()
    result = qlm_modes("ka.gsd", "--potential", "kob_andersen:q=2", "--types", "A,B", "-k", 6, "--frames", "1:", "--every", 2)
    assert result.exit_code == 0, result.output
    moduli = pl.read_parquet("ka-modes/moduli.parquet")
    assert moduli["frame"].to_list() == [1]
    assert "descent" in moduli["relaxation"][0]
    # The smoothing lifts the wells of Kob and Andersen's glass, -6.9 a particle, by some 0.8.
    assert moduli["energy"][0] == pytest.approx(-6.1, abs=0.2)
    modes = pl.read_parquet("ka-modes/modes.parquet")
    assert len(modes) == 6
    assert modes["eigenvalue"].min() > 0  # type: ignore[operator]
    with gsd.hoomd.open("ka-modes/modes.gsd") as trajectory:
        assert trajectory[0].particles.types == ["B", "A"]
        assert np.bincount(trajectory[0].particles.typeid).tolist() == [43, 173]
    # The law has names for its types, so that --types says nothing new; the wrong way round they are another system.
    assert qlm_modes("ka.gsd", "--potential", "kob_andersen:q=2", "-k", 6, "--frames", 1, "--out", "named").exit_code == 0
    assert pl.read_parquet("named/modes.parquet").equals(modes)
    wrong = qlm_modes("ka.gsd", "--potential", "kob_andersen:q=2", "--types", "B,A", "-k", 2, "--frames", 1, "--out", "wrong")
    assert wrong.exit_code == 0
    assert pl.read_parquet("wrong/moduli.parquet")["energy"][0] > -5.0


# ---- what is no solid ----


@pytest.mark.parametrize("flag", [False, True])
def test_where_hardly_anything_touches_one_sentence_says_so(here: Path, flag: bool) -> None:
    """No contact at all, and 400 particles of which only a few touch: with or without the flag that removes rattlers."""
    rng = np.random.default_rng(4)
    gas = foreign(here / "gas.gsd", crystal(3, tuple(range(108))))
    dust_nc = rng.uniform(-6.0, 6.0, (400, 3))
    dust_nc[1] = dust_nc[0] + (0.9, 0.0, 0.0)
    dust = foreign(here / "dust.gsd", Glass(dust_nc, np.zeros(400, dtype=np.int32), Box(12.0)))
    for path, potential in ((gas, "harmonic:sigma=[[1,0.6],[0.6,0.3]]"), (dust, "harmonic:sigma=[[0.5]]")):
        result = qlm_modes(path, "--potential", potential, "--k", 3, *["--remove-rattlers"] * flag)
        assert result.exit_code == 2, result.output
        assert result.stderr.count("every particle is a rattler") == 1


def test_more_rattlers_than_others_are_no_solid(here: Path) -> None:
    """A crystal that holds itself, and a particle in each of its octahedral and tetrahedral holes that touches nothing."""
    solid, edge = crystal(3), 0.95 * np.sqrt(2.0)
    holes = [np.array(hole) * edge for hole in ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25), (0.75, 0.75, 0.75))]
    filled = Glass(
        solid.box.wrap(np.concatenate([solid.positions, *(solid.positions + hole for hole in holes)])),
        np.repeat(np.array([0, 1], dtype=np.int32), [108, 324]), solid.box,
    )  # fmt: skip
    arguments = foreign(here / "filled.gsd", filled), "--potential", "harmonic:sigma=[[1,0.5],[0.5,0.3]]", "--k", 3
    result = qlm_modes(*arguments, "--remove-rattlers")
    assert result.exit_code == 1, result.output
    assert "qlm: frame 0: this is no solid: 324 of its 432 particles are rattlers." in result.stderr
    assert "wrote" in result.stdout


def test_the_energy_means_the_same_with_and_without_rattlers() -> None:
    packing = crystal(3, (5, 50))
    with_them, without = (modes_of_frame(packing, HARMONIC, 3, remove_rattlers=flag) for flag in (False, True))
    assert without.row["n_particles"] == with_them.row["n_particles"] == 108
    for name in ("energy", "pressure", "stress_xy", "shear_modulus"):
        assert without.row[name] == pytest.approx(with_them.row[name], rel=1e-7, abs=1e-12)
    assert with_them.row["energy"] == pytest.approx(bonds_of(with_them.glass, HARMONIC, 1).energy / 108, rel=1e-12)


def test_a_long_fall_is_told_of_and_can_be_bounded(here: Path, model: GlassModel, small_liquid: Glass) -> None:
    path = foreign(here / "liquid.gsd", small_liquid)
    lines: list[str] = []
    with pytest.raises(ConvergenceError, match=r"still falling after 0 steps .* expected a minimum within --relax-limit 0\."):
        modes_of_file(path, potential=model.potential, k=2, relax_limit=0.0)
    modes_of_file(path, potential=model.potential, k=2, progress=lines.append)
    assert re.match(r"frame 0: no minimum close by, falling: step 0, max\|F\| = \d", lines[1])


# ---- interrupts, and several at a time ----


@pytest.fixture
def trajectory(here: Path, model: GlassModel, glass: Glass) -> Path:
    return ours(here / "t.gsd", model, *[glass.at_strain(0.001 * number) for number in range(6)])


def everything(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_workers_and_interrupts_change_no_byte(here: Path, trajectory: Path) -> None:
    """What is finished stays, the same command goes on from there, and another one is refused."""
    assert qlm_modes(trajectory, "--k", 4, "--out", "straight").exit_code == 0
    assert qlm_modes(trajectory, "--k", 4, "--out", "two", "--workers", 2).exit_code == 0
    assert everything(here / "two") == everything(here / "straight")
    with pytest.MonkeyPatch.context() as patch:
        real = postanalysis.modes_of_frame

        def asked_to_stop(*arguments: Any, **named: Any) -> Any:
            if named["frame"] == 3:
                os.kill(os.getpid(), signal.SIGINT)
            return real(*arguments, **named)

        patch.setattr(postanalysis, "modes_of_frame", asked_to_stop)
        stopped = qlm_modes(trajectory, "--k", 4, "--out", "stopped")
    assert stopped.exit_code == 130
    assert stopped.stderr.endswith("qlm: interrupted. What is finished is kept; the same command goes on from there.\n")
    assert not (here / "stopped" / "modes.parquet").exists()
    refused = qlm_modes(trajectory, "--k", 5, "--out", "stopped")
    assert refused.exit_code == 2
    assert "stopped holds finished frames of another command (k differ)" in refused.stderr
    # A damaged one is made again.
    (here / "stopped" / ".frames" / "1.npz").write_bytes(b"qlm checkpoint 1\nnot")
    resumed = qlm_modes(trajectory, "--k", 4, "--out", "stopped")
    assert resumed.exit_code == 0, resumed.output
    assert "3 of 6 frames were finished before" in resumed.stderr
    assert "[6 of 6, 0 s left]" in resumed.stderr
    assert everything(here / "stopped") == everything(here / "straight")


def test_frames_that_are_no_longer_the_same_are_done_again(here: Path, glass: Glass) -> None:
    kept = postanalysis.Kept(here / "out", {"k": 1})
    kept.save(0, {"input": postanalysis.digest_of(glass), "row": {}})
    assert kept.load(0, glass) == {"input": postanalysis.digest_of(glass), "row": {}}
    assert kept.load(0, glass.at_strain(0.01)) == {}
    assert kept.load(1, glass) == {}


def test_a_worker_that_dies_costs_its_frame(trajectory: Path, model: GlassModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postanalysis._Task, "__reduce__", lambda task: (_Dying, tuple(vars(task).values())))
    result = modes_of_file(trajectory, potential=model.potential, k=1, workers=2, frames=slice(0, 3))
    assert list(result.failures) == [1]
    assert "its process died with exit code 9" in result.failures[1]
    assert result.moduli["frame"].to_list() == [0, 2]


class _Dying(postanalysis._Task):
    def __call__(self, index: int, progress: Callable[[str], None]) -> dict[str, Any]:
        return os._exit(9) if index == 1 else super().__call__(index, progress)


@pytest.mark.parametrize(
    ("workers", "moments"), [(1, 40), (2, 2), pytest.param(1, 200, marks=pytest.mark.faults), pytest.param(2, 20, marks=pytest.mark.faults)]
)  # fmt: skip
def test_a_signal_at_any_moment_ends_in_one_line(trajectory: Path, workers: int, moments: int) -> None:
    """Sent by another process, so that it comes amid compiled calls too. In the end all frames are there."""
    rng = np.random.default_rng(8)
    codes = set()
    for number in range(moments):
        delay = rng.uniform(0.0, 0.6 if workers == 1 else 4.0)
        sender = subprocess.Popen(["/bin/sh", "-c", f"sleep {delay:.4f}; kill -INT {os.getpid()}"])
        try:
            with interruptible():
                result = qlm_modes(trajectory, "--k", 4, "--out", f"out{number // 4}", "--workers", workers)
                sender.wait()
        except Interrupted:
            sender.wait()
        else:
            codes.add(result.exit_code)
            assert result.exit_code in (0, 130, 2), (result.output, result.exception)
            assert result.exit_code != 2 or "exists; expected a new folder" in result.stderr
            assert "Traceback" not in result.output
            if result.exit_code == 130 and result.stderr:  # else before it began
                assert result.stderr.splitlines()[-1].startswith("qlm: interrupted.")
    assert 130 in codes
    last = qlm_modes(trajectory, "--k", 4, "--out", "out0", "--workers", workers)
    assert last.exit_code == 0 or "exists" in last.stderr
    assert pl.read_parquet("out0/modes.parquet")["frame"].n_unique() == 6


# ---- what is printed and written ----


def test_tables_can_be_csv(trajectory: Path) -> None:
    assert qlm_modes(trajectory, "--k", 2, "--out", "p").exit_code == 0
    assert qlm_modes(trajectory, "--k", 2, "--out", "c", "--format", "csv").exit_code == 0
    for name in ("modes", "moduli"):
        assert_frame_equal(
            pl.read_parquet(f"p/{name}.parquet"), pl.read_csv(f"c/{name}.csv"), check_dtypes=False, rel_tol=1e-12
        )
    wrong = qlm_modes(trajectory, "--format", "cvs")
    assert (wrong.exit_code, "--format cvs; expected parquet or csv. Did you mean 'csv'?" in wrong.stderr) == (2, True)


def test_a_terminal_of_eighty_columns_is_enough(trajectory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    brief = qlm_modes(trajectory, "--k", 3, "--frames", 0, "--out", "brief").stdout.splitlines()
    assert brief[0].split() == ["frame", "strain", "relaxation", "rattlers", "negative", "G", "K"]
    assert brief[2].split() == ["index", "omega", "e", "N", "e", "lambda", "kappa"]
    assert max(map(len, brief)) < 80
    table = pl.read_parquet("brief/modes.parquet")
    for line, row in zip(brief[3:6], table.iter_rows(named=True), strict=True):
        e = row["participation_ratio"]
        expected = [row["index"], row["frequency"], e, 150 * e, row["frequency"] ** 2, row["kappa"]]
        np.testing.assert_allclose([float(cell) for cell in line.split()], expected, rtol=1e-5)
    from qlm_hoomd import cli

    monkeypatch.setattr(cli.shutil, "get_terminal_size", lambda *_, **__: os.terminal_size((80, 24)))
    monkeypatch.setattr(cli, "_is_terminal", lambda: True)
    full = qlm_modes(trajectory, "--k", 3, "--frames", 0, "--out", "full", "--all").stdout.splitlines()
    assert max(map(len, full)) <= 80
    assert {*table.columns, "born_shear_modulus"} - {"frame"} <= set(" ".join(full).split())


# ---- naming a potential ----


def test_potentials_from_the_command_line(here: Path) -> None:
    assert potential_from_spec("inverse_power_law") == GlassModel().potential
    assert potential_from_spec("inverse_power_law:n=12,q=2") == InversePowerLaw(
        n=12, q=2, x_c=1.48, lengths=((1.0, 1.18), (1.18, 1.4))
    )
    assert potential_from_spec("kob_andersen:q=2") == potential_from_spec("kob_andersen") == KobAndersen(q=2)
    assert potential_from_spec("harmonic: sigma=[[1, 1.2], [1.2, 1.4]], epsilon=1e-1") == Harmonic(
        epsilon=0.1, sigma=((1.0, 1.2), (1.2, 1.4))
    )
    (here / "lj.yaml").write_text("kind: lennard_jones\nepsilon: [[1]]\nsigma: [[1]]\nq: 1\nn: 9\nm: 3\n")
    assert potential_from_spec("lj.yaml") == LennardJones(epsilon=((1.0,),), sigma=((1.0,),), q=1, n=9, m=3)
    (here / "p.yaml").write_text(
        "name: p\nseed: 1\nensemble: {n_particles: [200], preparations: [rapid], realisations: 1}\n"
        "stages: [{kind: prepare}]\nmodel: {potential: {kind: kob_andersen, q: 3}}\n"
    )
    assert potential_from_spec("p.yaml") == KobAndersen(q=3)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("lj", "unknown potential 'lj'; installed: harmonic"),
        ("lj", "Did you mean 'lennard_jones'?"),
        (
            "lennard_jones:epsilon=1,sigma=[[1]]",
            "epsilon = 1; expected a matrix, a row and a column for each type of particle: [[1]]",
        ),
        ("harmonic:sigma=[[1]],epsilon=-1", "epsilon = -1; expected a number greater than 0."),
        ("harmonic:sigma=[[1]],k=2", "potential harmonic: unknown key 'k'; expected one of: epsilon, sigma"),
        ("harmonic:sigma=[[1,2],[3,4]]", "potential harmonic: sigma: expected a symmetric matrix"),
        ("harmonic:sigma=one", "potential harmonic: sigma = 'one'; expected a matrix"),
        ("harmonic:sigma", "'sigma'; expected name:key=value,key=value with YAML values"),
        ("harmonic:sigma=[[1]", "expected name:key=value,key=value with YAML values"),
        ("lennard_jones:epsilon=[[1]],sigma=[[1]],q=2,n=6", "n = 6, m = 6; expected a repulsion steeper"),
        ("nowhere.yaml", "nowhere.yaml: cannot be read (No such file or directory)"),
        ("list.yaml", "list.yaml: no potential; expected a mapping with the key 'kind'"),
        ("broken.yaml", "broken.yaml: no YAML"),
        ("binary.yaml", "binary.yaml: no YAML"),
        ("", "unknown potential ''"),
    ],
)
def test_a_wrong_potential_is_one_message(here: Path, spec: str, says: str) -> None:
    (here / "list.yaml").write_text("[1, 2]\n")
    (here / "broken.yaml").write_text("{a: [\n")
    (here / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError) as caught:
        potential_from_spec(spec)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


# ---- wrong files ----


def _not_a_number(frame: gsd.hoomd.Frame) -> None:
    frame.particles.position[7, 1] = np.nan


def _third_type(frame: gsd.hoomd.Frame) -> None:
    frame.particles.types = ["A", "B", "dust"]
    frame.particles.typeid[:4] = 2


def _squashed(frame: gsd.hoomd.Frame) -> None:
    frame.configuration.box[2] = 4.0


def _negative(frame: gsd.hoomd.Frame) -> None:
    frame.configuration.box[1] *= -1.0


def _tiny(frame: gsd.hoomd.Frame) -> None:
    frame.configuration.box[:3] = 3.0


def _on_top_of_each_other(frame: gsd.hoomd.Frame) -> None:
    frame.particles.position[0] = frame.particles.position[1]


@pytest.fixture(scope="module")
def wrong_files(tmp_path_factory: pytest.TempPathFactory, glass: Glass, small_liquid: Glass) -> Path:
    folder = tmp_path_factory.mktemp("wrong")
    for change in (_not_a_number, _third_type, _squashed, _negative, _tiny, _on_top_of_each_other):
        foreign(folder / f"{change.__name__[1:]}.gsd", glass, change=change)
    foreign(folder / "good.gsd", glass)
    foreign(folder / "mixed.gsd", glass, glass, small_liquid)
    foreign(folder / "none.gsd")
    (folder / "zero.gsd").write_bytes(b"")
    (folder / "text.gsd").write_text("ITEM: TIMESTEP\n0\n" * 100)
    content = foreign(folder / "truncated.gsd", glass).read_bytes()
    (folder / "truncated.gsd").write_bytes(content[: len(content) // 2])
    (folder / "folder.gsd").mkdir()
    with gsd.hoomd.open(str(folder / "void.gsd"), "w") as trajectory:
        void = gsd.hoomd.Frame()
        void.configuration.step = 1
        trajectory.append(void)
    return folder


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere.gsd"], "nowhere.gsd: no such file; expected a GSD file"),
        (["zero.gsd"], "zero.gsd: not a readable GSD file"),
        (["text.gsd"], "text.gsd, frame 0: no section 'NUMBER OF ATOMS'"),
        (["folder.gsd"], "folder.gsd: not a readable file"),
        (["truncated.gsd"], "truncated.gsd"),
        (["none.gsd"], "none.gsd: the file has no frames; expected at least one."),
        (["void.gsd"], "void.gsd, frame 0: no particles or no box"),
        (["not_a_number.gsd"], "not_a_number.gsd, frame 0: 1 of 150 positions are not finite"),
        (["third_type.gsd"], "third_type.gsd, frame 0: 4 particles of type 'dust'; the potential knows 2 types, here A, B."),
        (["good.gsd", "--potential", "lennard_jones:epsilon=[[1]],sigma=[[1]],q=2"], "75 particles of type 'B'; the potential knows"),
        (["good.gsd", "--types", "B,A,A"], "--types B,A,A; expected each type once."),
        (["good.gsd", "--types", "A"], "75 particles of type 'B'; the potential knows 2 types, here A."),
        (["squashed.gsd"], "squashed.gsd, frame 0: opposite faces of the box are 4 apart; expected at least twice the cut-off"),
        (["negative.gsd"], "negative.gsd, frame 0: box length ly = -"),
        (["tiny.gsd"], "tiny.gsd, frame 0: opposite faces of the box are 3 apart; expected at least twice the cut-off"),
        (["on_top_of_each_other.gsd"], "forces are not finite; expected no two particles at the same place"),
        (["mixed.gsd"], "mixed.gsd: frame 2 has 100 particles, frame 0 has 150; expected the same particles in all."),
        (["good.gsd", "--k", "448"], "--k 448; expected at most 3N - 3 = 447, the modes of N = 150."),
        (["good.gsd", "--frames", "5"], "none of its 1 frames (0 to 0) is asked for; see --frames."),
        (["good.gsd", "--frames", "5:2"], "none of its 1 frames"),
        (["good.gsd", "--frames", "one"], "--frames one; expected a:b"),
        (["good.gsd", "--as-is"], "good.gsd, frame 0: max|F| = "),
        (["good.gsd", "--view", "20"], "--view 20; expected one of the modes 0 to 19 that --k asks for."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_wrong_input_is_one_message_and_writes_nothing(
    wrong_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(wrong_files)
    result = qlm_modes(*arguments, "--out", tmp_path / "out")
    assert result.exit_code == 2, result.output
    messages = [line for line in result.stderr.splitlines() if line.startswith("qlm: ")]
    assert len(messages) == 1
    assert says in messages[0]
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


def test_what_the_file_has_beside_a_pair_potential_is_said_to_be_ignored(here: Path, glass: Glass) -> None:
    def molecules(frame: gsd.hoomd.Frame) -> None:
        frame.particles.mass = 1.0 + glass.typeid
        frame.bonds.N = 1
        frame.bonds.types = ["bond"]
        frame.bonds.typeid = [0]
        frame.bonds.group = [[0, 1]]

    def more(frame: gsd.hoomd.Frame) -> None:
        frame.particles.charge = np.linspace(-1.0, 1.0, glass.n_particles)
        frame.particles.body = np.arange(glass.n_particles) // 2
        for groups, members in ((frame.angles, 3), (frame.dihedrals, 4), (frame.pairs, 2)):
            groups.N, groups.types, groups.typeid, groups.group = 1, ["x"], [0], [list(range(members))]

    foreign(here / "molecules.gsd", glass, change=molecules)
    result = qlm_modes("molecules.gsd", "--k", 1)
    assert result.exit_code == 0
    assert "masses other than 1 are ignored" in result.stderr
    assert "bonds of the file are ignored" in result.stderr
    foreign(here / "more.gsd", glass, change=more)
    says = "charges, bodies, angles, dihedrals and special pairs of the file are ignored: forces are those of the pair potential alone"
    assert gsdio.read_glass(here / "more.gsd").notes == (says,)


# ---- what a file means ----


@pytest.fixture(scope="module")
def kob_andersen_at_rest() -> Glass:
    """256 particles of Kob and Andersen in a cube of edge 6."""
    model = GlassModel(potential=KobAndersen(q=2), density=256 / 6.0**3, fraction_large=0.2)
    engine, rng = CPUEngineSettings().build(model), np.random.default_rng(2)
    return engine.descend(random_start(model, 256, rng))[0]


def test_a_law_with_named_types_goes_by_the_names_in_the_file(here: Path, kob_andersen_at_rest: Glass) -> None:
    glass = kob_andersen_at_rest

    def swapped(frame: gsd.hoomd.Frame) -> None:
        frame.particles.types, frame.particles.typeid = ["B", "A"], 1 - glass.typeid

    def strange(frame: gsd.hoomd.Frame) -> None:
        frame.particles.types = ["Ni", "P"]

    def half_strange(frame: gsd.hoomd.Frame) -> None:
        frame.particles.types = ["B", "P"]

    law = KobAndersen(q=2)
    by_name, by_order = (
        modes_of_file(foreign(here / "a.gsd", glass, change=change), potential=law, k=3) for change in (swapped, strange)
    )
    plain = modes_of_file(foreign(here / "a.gsd", glass), potential=law, k=3)
    assert by_name.modes.equals(plain.modes)
    assert by_name.notes == plain.notes
    assert by_order.modes.equals(plain.modes)
    assert by_order.notes[0] == "types by their order in the file: 'Ni' for A, 'P' for B of KobAndersen; --types says otherwise"
    with pytest.raises(InputError, match=r"particles of type 'P'; expected the types of KobAndersen, A, B\. Say with --types"):
        modes_of_file(foreign(here / "a.gsd", glass, change=half_strange), potential=law, k=3)
    named = modes_of_file(foreign(here / "a.gsd", glass, change=half_strange), potential=law, k=3, types=("B", "P"))
    assert named.modes.equals(plain.modes)


def test_a_law_without_names_says_which_type_it_takes_for_which(here: Path, model: GlassModel, glass: Glass) -> None:
    def letters(frame: gsd.hoomd.Frame) -> None:
        frame.particles.types = ["B", "A"]

    path = foreign(here / "a.gsd", glass, change=letters)
    notes = modes_of_file(path, potential=model.potential, k=2).notes
    assert notes[0] == "types by their order in the file: 'B' for 1, 'A' for 2 of InversePowerLaw; --types says otherwise"
    assert "order" not in modes_of_file(path, potential=model.potential, k=2, types=("B", "A")).notes[0]


def test_diameters_that_differ_within_a_type_are_refused_or_ignored_on_demand(here: Path, glass: Glass) -> None:
    def polydisperse(frame: gsd.hoomd.Frame) -> None:
        frame.particles.diameter = np.linspace(0.8, 1.2, glass.n_particles)

    foreign(here / "poly.gsd", glass, change=polydisperse)
    refused = qlm_modes("poly.gsd", "--k", 1)
    assert refused.exit_code == 2
    assert "the particles have sizes of their own, 0.8 to 1.2, and InversePowerLaw knows types alone" in refused.stderr
    assert "drop them: --ignore-diameters" in refused.stderr
    taken = qlm_modes("poly.gsd", "--k", 1, "--ignore-diameters")
    assert taken.exit_code == 0
    assert "diameters of type 'A' from 0.810738 to 1.2, " in taken.stderr.splitlines()[0]


def test_diameters_are_sizes_for_a_law_that_knows_them(here: Path, glass: Glass) -> None:
    """Types are names then; the modes are those of the dense matrix of pairs whose lengths the diameters make."""

    def polydisperse(frame: gsd.hoomd.Frame) -> None:
        frame.particles.diameter = np.linspace(0.9, 1.3, glass.n_particles)
        frame.particles.types = ["small", "any"]

    path = foreign(here / "poly.gsd", glass, change=polydisperse)
    law = SoftSpheres(n=10, q=2, x_c=1.48, nonadditivity=0.0)
    result = modes_of_file(path, potential=law, k=3, out=here / "out", view=0)
    assert any("kappa is continuous in pieces only: the third derivative of SoftSpheres" in note for note in result.notes)
    with gsd.hoomd.open(str(here / "out" / "modes.gsd")) as trajectory:
        frame = trajectory[0]
    whole = gsdio.read_glass(here / "out" / "modes.gsd").glass
    np.testing.assert_allclose(whole.sizes, np.linspace(0.9, 1.3, glass.n_particles), rtol=1e-6)
    np.testing.assert_array_equal(frame.particles.diameter, whole.sizes.astype(np.float32))
    assert frame.particles.types == ["small", "any"]
    # Additive lengths, written down by hand: by types of one particle each it is the inverse power law.
    bonds = bonds_of(replace(whole, sizes=None, typeid=np.zeros(glass.n_particles, int)), Harmonic(sigma=((1.3 * 1.48,),)), 0)
    length_p = 0.5 * (whole.sizes[bonds.i_p] + whole.sizes[bonds.j_p])
    unit = InversePowerLaw(n=10, q=2, x_c=1.48, lengths=((1.0,),))
    w_p = (bonds.r_pc**2).sum(axis=1) / length_p**2
    _, first_p, second_p = unit.derivatives(w_p, np.zeros(len(w_p), np.uint8), 2)
    by_hand = replace(bonds, phi_kp=np.array([0.0 * w_p, first_p / length_p**2, second_p / length_p**4]))
    expected = np.linalg.eigvalsh(by_hand.hessian().toarray())[3:6]
    np.testing.assert_allclose(result.modes["eigenvalue"], expected, rtol=1e-7)
    for option in ("--ignore-diameters", "--types"):
        arguments = [option] if option == "--ignore-diameters" else [option, "small,any"]
        refused = qlm_modes("poly.gsd", "--k", 1, *arguments, "--potential", "soft_spheres")
        assert refused.exit_code == 2
        assert f"{option} given; expected no such thing with SoftSpheres" in refused.stderr


def test_a_law_that_knows_sizes_wants_diameters(here: Path, glass: Glass) -> None:
    foreign(here / "bare.gsd", glass)
    refused = qlm_modes("bare.gsd", "--k", 1, "--potential", "soft_spheres")
    assert refused.exit_code == 2
    assert "bare.gsd, frame 0: the particles have no sizes, of which SoftSpheres makes" in refused.stderr


@pytest.mark.parametrize("wrong", [0.0, -1.0, np.nan])
def test_diameters_that_are_no_sizes_are_refused(wrong: float, here: Path, glass: Glass) -> None:
    def broken(frame: gsd.hoomd.Frame) -> None:
        frame.particles.diameter = np.where(np.arange(glass.n_particles) == 3, wrong, 1.0)

    foreign(here / "broken.gsd", glass, change=broken)
    refused = qlm_modes("broken.gsd", "--k", 1, "--potential", "soft_spheres")
    assert refused.exit_code == 2
    assert f"frame 0: 1 of {glass.n_particles} sizes are not positive and finite" in refused.stderr


@pytest.mark.parametrize(("sizes", "says"), [((1.0, 1.4), False), ((0.5, 0.7), False), ((1.4, 1.0), True), ((1.0, 1.0), False)])
def test_diameters_of_types_in_another_ratio_than_the_potentials_are_said(
    here: Path, model: GlassModel, glass: Glass, sizes: tuple[float, float], says: bool
) -> None:
    def sized(frame: gsd.hoomd.Frame) -> None:
        frame.particles.diameter = np.array(sizes)[glass.typeid]

    notes = modes_of_file(foreign(here / "a.gsd", glass, change=sized), potential=model.potential, k=1).notes
    assert says == (
        "diameters of the types A, B are 1.4, 1 in the file, and of another ratio in InversePowerLaw: 1, 1.4; those of the file "
        "are ignored" in notes
    )


def test_unwrapped_single_precision_coordinates_are_folded(here: Path, kob_andersen_at_rest: Glass) -> None:
    glass, law = kob_andersen_at_rest, KobAndersen(q=2)
    images_nc = np.random.default_rng(3).integers(-2000, 2000, size=(256, 3))

    def far(frame: gsd.hoomd.Frame) -> None:
        frame.particles.position = (glass.positions + images_nc @ glass.box.matrix).astype(np.float32)

    def farther(frame: gsd.hoomd.Frame) -> None:
        frame.particles.position = (glass.positions + 1e6 * images_nc @ glass.box.matrix).astype(np.float32)

    result = modes_of_file(foreign(here / "far.gsd", glass, change=far), potential=law, k=3)
    assert result.notes[0].startswith("coordinates are as large as 1.2e+04, which rounds them to 0.001; folded into the box")
    assert result.moduli["max_displacement"][0] < 2e-3
    expected = modes_of_frame(glass, law, 3)
    np.testing.assert_allclose(result.modes["eigenvalue"], expected.modes.eigenvalues, rtol=1e-6)
    with pytest.raises(
        InputError, match=r"coordinates up to 1\.2e\+10 in float32, which are known to .* only, where particles are 0\.94 apart"
    ):
        modes_of_file(foreign(here / "far.gsd", glass, change=farther), potential=law, k=3)


def test_a_file_of_two_dimensions(here: Path) -> None:
    """Modes, elastic moduli and the view of a flat glass, from the command's own function; rotated by a right angle they stay."""
    model = GlassModel(dimensions=2, density=0.86)
    rng = np.random.default_rng(4)
    engine = CPUEngine(model.potential)
    flat = engine.descend(engine.run(random_start(model, 100, rng), duration=1.0, temperature=1.0, rng=rng)[0])[0]
    quarter_nc = flat.positions[:, [1, 0, 2]] * [-1.0, 1.0, 1.0]
    # The same glass in another cell of its lattice.
    leaning = Glass(flat.positions, flat.typeid, Box(flat.box.length, 1.0, lz=0.0), 1.0)
    results = []
    for name, each in (("flat", flat), ("quarter", flat.moved(quarter_nc)), ("leaning", leaning)):
        gsdio.write_glasses(here / f"{name}.gsd", [(each, engine.measure(each))], {})
        results.append(modes_of_file(here / f"{name}.gsd", potential=model.potential, k=8, out=here / name, view=0))
    for result in results:
        np.testing.assert_allclose(result.modes["eigenvalue"], results[0].modes["eigenvalue"], rtol=1e-9)
        assert result.moduli["bulk_modulus"][0] == pytest.approx(results[0].moduli["bulk_modulus"][0], rel=1e-7)
    with gsd.hoomd.open(str(here / "flat" / "modes.gsd"), "r") as trajectory:
        assert trajectory[0].configuration.dimensions == 2
        assert not np.asarray(trajectory[0].particles.velocity)[:, 2].any()


@pytest.mark.parametrize("tilts", [(1.0, 0.0, 0.0), (-3.0, 0.0, 0.0), (0.0, 1.0, 0.0), (2.0, -1.0, 3.0)])
def test_a_tilt_by_whole_boxes_is_the_cube(here: Path, kob_andersen_at_rest: Glass, tilts: tuple[float, float, float]) -> None:
    glass, law = kob_andersen_at_rest, KobAndersen(q=2)

    def tilted(frame: gsd.hoomd.Frame) -> None:
        frame.configuration.box[3:] = tilts

    result = modes_of_file(foreign(here / "tilted.gsd", glass, change=tilted), potential=law, k=3)
    assert "its lattice is that of the cell with xy = 0, used here" in result.notes[0]
    np.testing.assert_allclose(result.modes["eigenvalue"], modes_of_frame(glass, law, 3).modes.eigenvalues, rtol=1e-6)
