"""The page on glasses of one's own: its commands, one after the other, on such files."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import gsd.hoomd
import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from qlm_hoomd.cli import app
from qlm_hoomd.engines.cpu import CPUEngine
from qlm_hoomd.formats.xyz import xyz_text
from qlm_hoomd.glass import Glass
from qlm_hoomd.hessian import Hessian
from qlm_hoomd.model import GlassModel
from qlm_hoomd.modes import LowestModes
from qlm_hoomd.potentials import KobAndersen, PairPotential, SoftSpheres
from qlm_hoomd.preparation import random_start

PAGE = Path(__file__).parents[2] / "docs" / "my_own_glass.md"


def at_rest(model: GlassModel, n_particles: int, seed: int) -> Glass:
    return CPUEngine(model.potential).descend(random_start(model, n_particles, np.random.default_rng(seed)))[0]


def lowest(glass: Glass, law: PairPotential) -> np.ndarray:
    return LowestModes(20).compute(Hessian(law).compute(glass)).eigenvalues


def test_its_commands_find_the_modes_of_such_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    law, disks_law = KobAndersen(q=2), SoftSpheres(q=3)
    glass = at_rest(GlassModel(potential=law, density=1.2, fraction_large=0.2), 220, 1)
    disks = at_rest(GlassModel(potential=disks_law, density=1.0, dimensions=2), 150, 2)
    rows = [
        f"{n + 1} {t + 1} {x!r} {y!r} {z!r}"
        for n, (t, (x, y, z)) in enumerate(zip(glass.typeid, glass.positions.tolist(), strict=True))
    ]
    header = [
        "ITEM: TIMESTEP",
        "0",
        "ITEM: NUMBER OF ATOMS",
        "220",
        "ITEM: BOX BOUNDS pp pp pp",
        *[f"0.0 {glass.box.length!r}"] * 3,
    ]
    Path("glass.lammpstrj").write_text("\n".join([*header, "ITEM: ATOMS id type x y z", *rows]) + "\n")
    Path("glass.extxyz").write_text(xyz_text(glass, ["A", "B"]))
    frame = gsd.hoomd.Frame()
    frame.configuration.box, frame.configuration.dimensions = disks.box.to_gsd(), 2
    frame.particles.N, frame.particles.position, frame.particles.diameter = 150, disks.box.wrap(disks.positions), disks.sizes
    with gsd.hoomd.open("disks.gsd", "w", precision="double") as file:
        file.append(frame)
    commands = [
        line
        for block in re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
        for line in block.splitlines()
    ]
    assert len(commands) == 5
    for command in commands:
        done = CliRunner().invoke(app, shlex.split(command)[1:])
        assert done.exit_code == 0, f"{command}\n{done.output}"
    for folder, expected in (
        ("glass", lowest(glass, law)),
        ("from-xyz", lowest(glass, law)),
        ("disks", lowest(disks, disks_law)),
    ):
        table = next(Path().glob(f"{folder}*/modes.parquet"))
        np.testing.assert_allclose(pl.read_parquet(table)["eigenvalue"], expected, rtol=1e-5)  # GSD rounds the box to float32
    assert Path("mode.extxyz").read_text().splitlines()[1].endswith('velo:R:3 pbc="T T T"')
