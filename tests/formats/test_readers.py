"""One glass in every format: what is read is what was written, and its modes are the same."""

# Array names carry their axes: n particles, c Cartesian components.

from __future__ import annotations

import gzip
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import ase
import ase.io
import gsd.hoomd
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import qlm_hoomd as qlm
from qlm_hoomd import gsdio
from qlm_hoomd.box import Box
from qlm_hoomd.engines.base import Observables
from qlm_hoomd.engines.cpu import CPUEngineSettings
from qlm_hoomd.errors import InputError
from qlm_hoomd.formats import frame_from, open_trajectory
from qlm_hoomd.formats.convert import convert
from qlm_hoomd.formats.lammps import data_text
from qlm_hoomd.formats.reader import resolution_of
from qlm_hoomd.formats.xyz import xyz_text
from qlm_hoomd.glass import Glass
from qlm_hoomd.mechanics import bonds_of
from qlm_hoomd.model import GlassModel
from qlm_hoomd.preparation import random_start
from qlm_hoomd.registry import READERS
from qlm_hoomd.testing.tiny import installed

NOTHING = Observables(energy=0.0, stress_xy=0.0, pressure=0.0, max_force=0.0)


@pytest.fixture(scope="module")
def glass(model: GlassModel) -> Glass:
    """At rest, at strain 0.1."""
    engine, rng = CPUEngineSettings().build(model), np.random.default_rng(20)
    return engine.descend(random_start(model, 150, rng).sheared(0.1))[0]


def dump(glass: Glass, columns: str = "x y z", *, form: str = "{!r}", order: NDArray[np.int64] | None = None) -> str:
    """A frame as LAMMPS writes it, its rows in any order, with bounds of the tilted cell from -1 on."""
    xy = glass.box.xy * glass.box.length
    lattice_cc, origin = glass.box.matrix, -1.0
    values_nc = {
        "x": glass.positions,
        "xu": glass.positions + np.arange(glass.n_particles)[:, None] % 3 @ np.ones((1, 3)) @ lattice_cc,
        "xs": np.linalg.solve(lattice_cc.T, (glass.positions - origin).T).T,
        "xsu": np.linalg.solve(lattice_cc.T, (glass.positions - origin).T).T + 2.0,
    }[columns.split(maxsplit=1)[0]]
    rows = [
        f"{n + 1} {glass.typeid[n] + 1} {' '.join(form.format(float(value)) for value in values_nc[n])}"
        for n in (range(glass.n_particles) if order is None else order)
    ]
    low, high = origin + min(0.0, xy), origin + glass.box.length + max(0.0, xy)
    straight = f"{origin!r} {origin + glass.box.length!r} 0.0"
    return "\n".join([
        "ITEM: UNITS", "lj", "ITEM: TIMESTEP", "70", "ITEM: NUMBER OF ATOMS", str(glass.n_particles),
        "ITEM: BOX BOUNDS xy xz yz pp pp pp", f"{low!r} {high!r} {xy!r}", straight, straight,
        f"ITEM: ATOMS id type {columns}", *rows, "",
    ])  # fmt: skip


def same_lattice(found: Glass, glass: Glass, tolerance: float = 1e-13) -> None:
    """The same particles in the same lattice, but for a common translation."""
    assert found.box.to_gsd() == pytest.approx(glass.box.to_gsd(), rel=1e-13, abs=1e-13)
    np.testing.assert_array_equal(found.typeid, glass.typeid)
    moved_nc = found.positions - glass.positions
    apart_nc = glass.box.minimum_image(moved_nc - moved_nc[0])
    assert np.abs(apart_nc).max() < tolerance * glass.box.length


@pytest.mark.parametrize("columns", ["x y z", "xu yu zu", "xs ys zs", "xsu ysu zsu"])
def test_a_dump_is_read_whatever_its_coordinates_and_the_order_of_its_rows(tmp_path: Path, glass: Glass, columns: str) -> None:
    order = np.random.default_rng(1).permutation(glass.n_particles)
    (tmp_path / "a.dump").write_text(dump(glass, columns) + dump(glass.sheared(0.05), columns, order=order))
    first, second = qlm.read_glasses(tmp_path / "a.dump")
    assert first.exact
    same_lattice(first.glass, glass, 1e-12)
    same_lattice(second.glass, glass.sheared(0.05), 1e-12)
    assert first.notes == second.notes == ()
    (tmp_path / "a.dump.gz").write_bytes(gzip.compress((tmp_path / "a.dump").read_bytes()))
    np.testing.assert_array_equal(qlm.read_glass(tmp_path / "a.dump.gz").glass.positions, second.glass.positions)


def test_a_general_triclinic_dump_is_turned_into_the_form_of_hoomd(tmp_path: Path, glass: Glass, model: GlassModel) -> None:
    turned_cc = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    lattice_cc = glass.box.matrix @ turned_cc
    rows = [
        f"{n + 1} {t + 1} {' '.join(repr(float(value)) for value in position_c)}"
        for n, (t, position_c) in enumerate(zip(glass.typeid, glass.positions @ turned_cc, strict=True))
    ]
    bounds = [" ".join(repr(float(value)) for value in (*vector_c, 0.0)) for vector_c in lattice_cc]
    header = ["ITEM: TIMESTEP", "0", "ITEM: NUMBER OF ATOMS", str(glass.n_particles), "ITEM: BOX BOUNDS abc origin pp pp pp"]
    (tmp_path / "a.dump").write_text("\n".join([*header, *bounds, "ITEM: ATOMS id type x y z", *rows]) + "\n")
    frame = qlm.read_glass(tmp_path / "a.dump")
    assert "the cell was turned" in frame.notes[0]
    assert ("mirrored" in frame.notes[0]) == (np.linalg.det(turned_cc) < 0.0)
    energy = bonds_of(glass, model.potential).energy
    assert bonds_of(frame.glass, model.potential).energy == pytest.approx(energy, rel=1e-12)


@pytest.mark.parametrize("tilts", [(0.3, 0.2, 0.1), (0.3, -0.2, 0.1), (-0.4, 0.25, -0.3), (-0.1, -0.2, -0.3)])
def test_bounds_of_a_tilted_dump_give_the_edges_back_whatever_the_signs(tmp_path: Path, tilts: tuple[float, ...]) -> None:
    # Where xy and xz have opposite signs ASE's rule gives other edges; these are those of Howto_triclinic.
    xy, xz, yz = (5.0 * tilt for tilt in tilts)
    corners_xc = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) @ np.array(
        [[5, 0, 0], [xy, 5, 0], [xz, yz, 5]]
    )
    low_c, high_c = corners_xc.min(axis=0), corners_xc.max(axis=0)
    bounds = [
        f"{low!r} {high!r} {tilt!r}" for low, high, tilt in zip(low_c.tolist(), high_c.tolist(), (xy, xz, yz), strict=True)
    ]
    text = ["ITEM: TIMESTEP", "0", "ITEM: NUMBER OF ATOMS", "1", "ITEM: BOX BOUNDS xy xz yz pp pp pp", *bounds]
    (tmp_path / "a.dump").write_text("\n".join([*text, "ITEM: ATOMS id type x y z", "1 1 0.5 0.5 0.5"]) + "\n")
    with open_trajectory(tmp_path / "a.dump") as trajectory:
        box = trajectory.source(0).configuration.box
    np.testing.assert_allclose(box, [5.0, 5.0, 5.0, *tilts], rtol=1e-13)


def test_sizes_of_particles_are_read_wherever_a_format_has_them(tmp_path: Path, glass: Glass) -> None:
    diameter_n = np.linspace(0.8, 1.3, glass.n_particles)
    rows = dump(glass).splitlines()
    at = rows.index("ITEM: ATOMS id type x y z") + 1
    sized = [
        *rows[: at - 1],
        rows[at - 1] + " radius",
        *(f"{row} {float(d) / 2!r}" for row, d in zip(rows[at:], diameter_n, strict=True)),
    ]
    (tmp_path / "a.dump").write_text("\n".join(sized) + "\n")
    (tmp_path / "a.data").write_text(data_text(glass, ["A", "B"], diameter_n))
    (tmp_path / "a.extxyz").write_text(xyz_text(glass, ["A", "B"], diameter_n))
    for name in ("a.dump", "a.data", "a.extxyz"):
        with open_trajectory(tmp_path / name) as trajectory:
            frame, source = trajectory.frame(0)
        np.testing.assert_allclose(source.particles.diameter, diameter_n, rtol=1e-15)
        assert frame.glass.sizes is not None
        np.testing.assert_array_equal(frame.glass.sizes, source.particles.diameter)
    convert(tmp_path / "a.dump", tmp_path / "a.gsd")
    convert(tmp_path / "a.gsd", tmp_path / "b.extxyz")
    np.testing.assert_allclose(qlm.read_glass(tmp_path / "b.extxyz").glass.sizes, diameter_n, rtol=1e-15)


def test_ase_reads_what_is_written_for_lammps_and_as_xyz(tmp_path: Path, glass: Glass) -> None:
    # Types must be chemical elements for ASE.
    (tmp_path / "a.data").write_text(data_text(glass, ["He", "Ar"]))
    (tmp_path / "a.extxyz").write_text(xyz_text(glass, ["He", "Ar"]))
    data, xyz = ase.io.read(tmp_path / "a.data", format="lammps-data"), ase.io.read(tmp_path / "a.extxyz")
    for atoms in (data, xyz):
        assert isinstance(atoms, ase.Atoms)
        np.testing.assert_allclose(np.array(atoms.cell), glass.box.matrix, atol=1e-13)
        apart_nc = glass.box.minimum_image(atoms.positions - glass.positions)
        assert np.abs(apart_nc).max() < 1e-12
    assert (data.arrays["type"] == glass.typeid + 1).all()
    assert xyz.get_chemical_symbols() == [("He", "Ar")[t] for t in glass.typeid]


@pytest.mark.parametrize("name", ["POSCAR", "a.cif", "a.traj"])
def test_what_ase_reads_is_read(tmp_path: Path, glass: Glass, name: str) -> None:
    symbols = [("He", "Ar")[t] for t in glass.typeid]
    atoms = ase.Atoms(symbols, positions=glass.positions, cell=glass.box.matrix, pbc=True)
    ase.io.write(tmp_path / name, atoms)
    frame = qlm.read_glass(tmp_path / name)
    # ASE sorts nothing here, and rounds to the digits of the format.
    with open_trajectory(tmp_path / name) as trajectory:
        assert list(trajectory.source(0).particles.types) == ["Ar", "He"]
    same_lattice(frame.glass, replace(glass, typeid=1 - glass.typeid), 1e-5)


def test_a_machine_without_ase_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "POSCAR").write_text("glass\n1.0\n5 0 0\n0 5 0\n0 0 5\nAr\n1\nDirect\n0 0 0\n")
    monkeypatch.setitem(sys.modules, "ase.io", None)
    monkeypatch.setitem(sys.modules, "ase.io.formats", None)
    with pytest.raises(
        InputError, match=r"a POSCAR file, which is read with the help of ASE; .* pip install 'qlm_hoomd\[io\]'"
    ):
        open_trajectory(tmp_path / "POSCAR")


def test_conversion_through_every_format_keeps_all_digits(tmp_path: Path, glass: Glass) -> None:
    engine_free = [(glass, NOTHING), (glass.sheared(0.01), NOTHING)]
    gsdio.write_glasses(tmp_path / "a.gsd", engine_free, {})
    assert convert(tmp_path / "a.gsd", tmp_path / "b.extxyz") == []
    convert(tmp_path / "b.extxyz", tmp_path / "c.data", slice(0, 1))
    convert(tmp_path / "c.data", tmp_path / "d.gsd")
    frames = qlm.read_glasses(tmp_path / "b.extxyz")
    assert len(frames) == 2
    for name in ("b.extxyz", "c.data", "d.gsd"):
        frame = qlm.read_glass(tmp_path / name, 0)
        assert frame.exact
        same_lattice(frame.glass, glass, 1e-14)
        assert frame.glass.strain == pytest.approx(0.1, rel=1e-14)


def test_a_mode_goes_along_as_velocities(tmp_path: Path, glass: Glass) -> None:
    mode_nc = np.random.default_rng(3).normal(size=glass.positions.shape)
    with gsdio.ModeFile(tmp_path / "modes.gsd", {}) as file:
        file.append(glass, mode_nc, {"strain": 0.1})
    for name in ("m.extxyz", "m.data"):
        convert(tmp_path / "modes.gsd", tmp_path / name)
        with open_trajectory(tmp_path / name) as trajectory:
            np.testing.assert_allclose(trajectory.source(0).particles.velocity, mode_nc, rtol=1e-6)


def test_what_cannot_be_converted_is_one_sentence_and_no_file(tmp_path: Path, glass: Glass) -> None:
    (tmp_path / "a.dump").write_text(dump(glass) * 2)
    (tmp_path / "there.gsd").write_text("mine")
    for out, says in (
        ("a.png", "suffix '.png'; expected one of .gsd"),
        ("there.gsd", "exists"),
        ("a.data", "2 frames; expected one"),
    ):
        with pytest.raises(InputError, match=says):
            convert(tmp_path / "a.dump", tmp_path / out)
    with pytest.raises(InputError, match="none of its 2 frames"):
        convert(tmp_path / "a.dump", tmp_path / "b.gsd", slice(5, 9))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.dump", "there.gsd"]
    assert (tmp_path / "there.gsd").read_text() == "mine"


def test_few_digits_are_said_and_the_frame_is_not_exact(tmp_path: Path, glass: Glass) -> None:
    (tmp_path / "a.dump").write_text(dump(glass, form="{:.6g}"))
    frame = qlm.read_glass(tmp_path / "a.dump")
    assert not frame.exact
    assert frame.notes[-1] == "coordinates are written with few digits, which places particles to within 5e-06 [length]"


@given(st.integers(3, 14), st.floats(0.01, 1000.0))
def test_resolution_is_that_of_the_last_digit(digits: int, size: float) -> None:
    values_nc = np.random.default_rng(digits).uniform(-size, size, (50, 3))
    written_nc = np.array([[float(f"{value:.{digits}g}") for value in row] for row in values_nc])
    off = resolution_of(written_nc)
    assert np.abs(written_nc - values_nc).max() <= off * (1.0 + 1e-3)
    assert off <= 0.5 * 10.0 ** (np.floor(np.log10(np.abs(written_nc).max())) - digits + 1) * (1.0 + 1e-9)
    assert resolution_of(values_nc) == 0.0


def test_an_upright_cell_keeps_its_bits() -> None:
    vectors_cc = np.array([[7.871945, 0.0, 0.0], [0.9, 7.1, 0.0], [-0.3, 0.2, 6.3]])
    frame = frame_from(np.zeros((1, 3)), vectors_cc, typeid_n=np.zeros(1, dtype=np.int32), types=["A"])
    np.testing.assert_array_equal(frame.configuration.box, [7.871945, 7.1, 6.3, 0.9 / 7.1, -0.3 / 6.3, 0.2 / 6.3])


def test_two_dimensions_are_recognised_and_come_back_from_every_format(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    box = Box(6.0, 0.2, lz=0.0)
    flat = Glass(rng.uniform(-3.0, 3.0, (40, 3)) * [1.0, 1.0, 0.0], rng.integers(0, 2, 40), box, 0.2)
    (tmp_path / "a.extxyz").write_text(xyz_text(flat, ["A", "B"]))
    (tmp_path / "a.data").write_text(data_text(flat, ["A", "B"]))
    rows = [
        f"{n + 1} {t + 1} {x!r} {y!r} 0"
        for n, (t, (x, y, _)) in enumerate(zip(flat.typeid, flat.positions.tolist(), strict=True))
    ]
    bounds = ["0.0 7.2 1.2", "0.0 6.0 0.0", "-0.5 0.5 0.0"]
    header = ["ITEM: TIMESTEP", "0", "ITEM: NUMBER OF ATOMS", "40", "ITEM: BOX BOUNDS xy xz yz pp pp pp", *bounds]
    (tmp_path / "a.dump").write_text("\n".join([*header, "ITEM: ATOMS id type x y z", *rows]) + "\n")
    plane = [f"{'AB'[t]} {x!r} {y!r}" for t, (x, y, _) in zip(flat.typeid, flat.positions.tolist(), strict=True)]
    (tmp_path / "b.exyz").write_text(
        "\n".join(["40", 'Lattice="6 0 0 1.2 6 0 0 0 1" Properties=species:S:1:pos:R:2', *plane]) + "\n"
    )
    convert(tmp_path / "a.extxyz", tmp_path / "c.gsd")
    for name in ("a.extxyz", "a.data", "a.dump", "b.exyz", "c.gsd"):
        found = qlm.read_glass(tmp_path / name).glass
        assert found.box.dimensions == 2, name
        same_lattice(found, flat)


HEADER = "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n2\nITEM: BOX BOUNDS pp pp pp\n0 5\n0 5\n0 5\n"
XYZ = '2\nLattice="5 0 0 0 5 0 0 0 5" Properties=species:S:1:pos:R:3\nA 0 0 0\nB 1 1 1\n'
DATA = "glass\n\n2 atoms\n2 atom types\n0 5 xlo xhi\n0 5 ylo yhi\n0 5 zlo zhi\n\nAtoms # atomic\n\n1 1 0 0 0\n2 2 1 1 1\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (HEADER + "ITEM: ATOMS id type x y z\n1 1 0 0 0\n", "1 rows of atoms; expected 2 of 5 columns"),
        (HEADER + "ITEM: ATOMS id type x y z\n1 1 0 0 0\n2 1 0 0\n", "2 rows of atoms; expected 2 of 5 columns"),
        (HEADER + "ITEM: ATOMS id type x y\n1 1 0 0\n2 1 1 1\n", "expected coordinates x y z, xu yu zu"),
        (HEADER + "ITEM: ATOMS id x y z\n1 0 0 0\n2 1 1 1\n", "neither a column type nor a column element"),
        (HEADER + "ITEM: ATOMS id type x y z\n1 0 0 0 0\n2 1 1 1 1\n", "types down to 0; expected types from 1 up"),
        (HEADER + "ITEM: ATOMS id type x y z\n1 1 a b c\n2 1 1 1 1\n", "cannot be read"),
        (HEADER + "ITEM: ATOMS id type x y z\n1 1 nan 0 0\n2 1 1 1 1\n", "1 of 2 positions are not finite"),
        (HEADER.replace("pp pp pp", "pp pp ff"), "no section 'ATOMS'"),
        (HEADER.replace("pp pp pp", "pp pp ff") + "ITEM: ATOMS id type x y z\n1 1 0 0 0\n2 1 1 1 1\n", "not periodic along z"),
        (
            HEADER.replace("0 5\n0 5\n0 5", "0 5\n0 5\n5 5") + "ITEM: ATOMS id type x y z\n1 1 0 0 0\n2 1 1 1 1\n",
            "expected positive ones",
        ),
        ("ITEM: TIMESTEP\n0\n", "no section 'NUMBER OF ATOMS'"),
        (XYZ.replace("Lattice=", "Cell="), "no Lattice="),
        (XYZ.replace("5 0 0 0 5 0 0 0 5", "5 0 0 0 5"), "Lattice of 5 numbers; expected 9"),
        (XYZ.replace("5 0 0 0 5 0 0 0 5", "5 0 0 0 5 0 5 5 0"), "expected 3 finite, independent vectors"),
        (XYZ.replace("Properties", 'pbc="T T F" Properties'), "not periodic along z"),
        (XYZ.replace("species:S:1:pos:R:3", "species:S:1:pos:R:2"), "row 1 has 4 columns; expected 3"),
        (XYZ.replace("species:S:1:pos:R:3", "x:S:1:pos:R:3"), "expected species:S:1"),
        (XYZ.replace("B 1 1 1\n", ""), "1 rows; expected 2"),
        (XYZ + "and so on\n", "line 5: 'and so on'; expected the number of particles"),
        (DATA.replace("2 2 1 1 1\n", ""), "1 rows in the section Atoms; expected 2"),
        (DATA.replace(" # atomic", ""), ""),
        (DATA.replace("atomic", "body"), "atom style 'body' with 5 columns; expected one of atomic"),
        (DATA.replace("atomic", "sphere"), "of other lengths than atom style sphere has"),
        (DATA.replace(" # atomic", "").replace("1 0 0 0", "1 1 0 0 0").replace("2 1 1 1", "2 1 1 1 1"), "no word of its style"),
        (DATA.replace("0 5 zlo zhi\n", ""), "no line 'zlo zhi'"),
        ("what is this\n", "of no format that is known here"),
        ("", "of no format that is known here"),
    ],
)
def test_damaged_files_are_one_sentence(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "file"
    path.write_text(text)
    if not says:
        assert qlm.read_glass(path).glass.n_particles == 2
        return
    with pytest.raises(InputError) as caught:
        qlm.read_glasses(path)
    assert says in str(caught.value)
    assert str(caught.value).startswith(str(path))


@given(st.data())
def test_no_cut_or_changed_text_ends_in_anything_but_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    text = data.draw(st.sampled_from([HEADER + "ITEM: ATOMS id type x y z\n1 1 0 0 0\n2 2 1 1 1\n", XYZ, DATA]))
    cut = data.draw(st.integers(0, len(text)))
    put = data.draw(st.sampled_from(["", "x", "-1", "\n", "1e999", " ", "nan", "\x00", "9" * 30]))
    path = tmp_path_factory.mktemp("cut") / "file"
    path.write_text(text[:cut] + put + text[cut + data.draw(st.integers(0, 8)) :])
    with suppress(InputError):
        qlm.read_glasses(path)


STRANGER = """
import numpy as np
from qlm_hoomd.formats import Reader, Trajectory, frame_from

class _Numbers(Trajectory):
    def __len__(self):
        return 1
    def read(self, index):
        table = np.loadtxt(self.path, skiprows=1)
        return frame_from(table[:, :3], 5.0 * np.eye(3), typeid_n=table[:, 3].astype(int), types=["A", "B"])

class NumbersReader(Reader):
    def knows(self, path, head):
        return head.startswith(b"numbers")
    def open(self, path):
        return _Numbers(path)
"""


def test_a_strangers_reader_is_asked(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("numbers\n0 0 0 0\n1.5 1 1 1\n")
    with installed(tmp_path / "site", {READERS.name: {"numbers": "qlm_numbers:NumbersReader"}}):
        (tmp_path / "site" / "qlm_numbers.py").write_text(STRANGER)
        glass = qlm.read_glass(tmp_path / "mine").glass
    np.testing.assert_array_equal(glass.positions, [[0, 0, 0], [1.5, 1, 1]])
    with pytest.raises(InputError, match="of no format that is known here"):
        qlm.read_glass(tmp_path / "mine")


def test_a_frame_of_arrays_has_what_gsd_gives_by_default() -> None:
    frame = frame_from(np.zeros((2, 3)), 5.0 * np.eye(3), typeid_n=np.array([0, 1], dtype=np.int32), types=["A", "B"])
    usual = gsd.hoomd.Frame()
    usual.particles.N = 2
    for name, value in usual.particles._default_value.items():
        if name in {"mass", "charge", "diameter", "body", "moment_inertia", "velocity"}:
            assert (getattr(frame.particles, name) == value).all(), name
