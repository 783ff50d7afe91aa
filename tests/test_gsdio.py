"""GSD in and out: float64 survives to the bit, and whatever is no glass is refused with a sentence."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import gsd.hoomd
import numpy as np
import pytest

from qlm_hoomd import gsdio
from qlm_hoomd.box import Box
from qlm_hoomd.engines.base import Observables
from qlm_hoomd.errors import InputError
from qlm_hoomd.glass import Glass

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OBSERVABLES = Observables(energy=5.5, stress_xy=-0.125, pressure=18.25, max_force=3e-11)
PROVENANCE = {"protocol_hash": "0123", "versions": {"qlm_hoomd": "0"}, "name": "Zürich"}


@pytest.fixture
def glasses(quenched: Glass) -> list[Glass]:
    """At rest, sheared, and beyond a flip, in unwrapped coordinates."""
    far = quenched.at_strain(0.123456789012345)
    return [quenched, far.moved(far.positions + 30.0), quenched.at_strain(0.7)]


def _foreign(path: Path, **particles: Any) -> gsd.hoomd.Frame:
    frame = gsd.hoomd.Frame()
    frame.configuration.box = particles.pop("box", [10.0, 10.0, 10.0, 0.25, 0.0, 0.0])
    for name, value in ({"N": 3, "position": np.eye(3), "typeid": [0, 1, 0], "types": ["A", "B"]} | particles).items():
        setattr(frame.particles, name, value)
    with gsd.hoomd.open(str(path), "w") as trajectory:
        trajectory.append(frame)
    return frame


def test_round_trip_is_exact_to_the_bit(tmp_path: Path, glasses: list[Glass]) -> None:
    path = tmp_path / "glasses.gsd"
    gsdio.write_glasses(path, [(glass, OBSERVABLES) for glass in glasses], PROVENANCE)
    frames = gsdio.read_glasses(path)
    assert len(frames) == 3
    for glass, frame in zip(glasses, frames, strict=True):
        assert frame.exact
        assert frame.glass.positions.tobytes() == glass.box.wrap(glass.positions).tobytes()
        assert frame.glass.typeid.tolist() == glass.typeid.tolist()
        assert frame.glass.box == glass.box
        assert frame.glass.strain == glass.strain
        assert frame.glass.provenance == PROVENANCE
        assert frame.log == asdict(OBSERVABLES) | {"strain": glass.strain}


def test_axes_and_strain_travelled(tmp_path: Path, glasses: list[Glass]) -> None:
    path = tmp_path / "glasses.gsd"
    gsdio.write_glasses(
        path, [(glass, OBSERVABLES) for glass in glasses], PROVENANCE, axes=(2, 0, 1), travelled=[0.0, 0.5, 0.9]
    )
    frames = gsdio.read_glasses(path)
    assert [frame.axes for frame in frames] == [(2, 0, 1)] * 3
    assert [frame.log["travelled"] for frame in frames] == [0.0, 0.5, 0.9]
    gsdio.write_glasses(path, [(glass, OBSERVABLES) for glass in glasses], PROVENANCE)
    assert gsdio.read_glass(path).axes == (0, 1, 2)


def test_writing_what_was_read_changes_nothing(tmp_path: Path, glasses: list[Glass]) -> None:
    first, second = tmp_path / "first.gsd", tmp_path / "second.gsd"
    gsdio.write_glasses(first, [(glass, OBSERVABLES) for glass in glasses], PROVENANCE)
    gsdio.write_glasses(second, [(frame.glass, OBSERVABLES) for frame in gsdio.read_glasses(first)], PROVENANCE)
    for one, other in zip(gsdio.read_glasses(first), gsdio.read_glasses(second), strict=True):
        assert one.glass.positions.tobytes() == other.glass.positions.tobytes()


def test_chunks_are_where_the_format_says(tmp_path: Path, quenched: Glass) -> None:
    gsdio.write_glasses(tmp_path / "glass.gsd", [(quenched.at_strain(0.1), OBSERVABLES)], PROVENANCE)
    with gsd.hoomd.open(str(tmp_path / "glass.gsd"), "r") as trajectory:
        frame = trajectory[0]
    assert frame.log["particles/qlm/position"].dtype == np.float64
    assert frame.log["particles/qlm/position"].shape == (500, 3)
    assert frame.log["qlm/box"].tolist() == [quenched.box.length] * 3 + [0.1, 0.0, 0.0]
    assert {name for name in frame.log if name.startswith("qlm/")} >= {
        "qlm/strain",
        "qlm/stress_xy",
        "qlm/energy",
        "qlm/max_force",
    }
    # OVITO and friends see the glass too.
    np.testing.assert_allclose(frame.particles.position, frame.log["particles/qlm/position"], atol=1e-6)
    assert frame.particles.types == ["A", "B"]


def test_single_frames(tmp_path: Path, glasses: list[Glass]) -> None:
    path = tmp_path / "glasses.gsd"
    gsdio.write_glasses(path, [(glass, OBSERVABLES) for glass in glasses], {})
    assert gsdio.read_glass(path).glass.strain == 0.7
    assert gsdio.read_glass(path, 0).glass.strain == 0.0
    assert gsdio.read_glass(str(path), -2).glass.strain == glasses[1].strain
    for frame in (3, -4):
        with pytest.raises(InputError, match=f"frame {frame} asked for; the file has 3 frames"):
            gsdio.read_glass(path, frame)


def test_modes_round_trip(tmp_path: Path, quenched: Glass) -> None:
    vector_nc = np.random.default_rng(0).normal(size=(500, 3))
    with gsdio.ModeFile(tmp_path / "modes.gsd", PROVENANCE) as file:
        file.append(quenched, vector_nc, {"strain": 0.0, "eigenvalue": 0.1})
    with gsd.hoomd.open(str(tmp_path / "modes.gsd"), "r") as trajectory:
        frame = trajectory[0]
    assert frame.log["particles/qlm/mode"].tobytes() == vector_nc.tobytes()
    np.testing.assert_allclose(frame.particles.velocity, vector_nc, rtol=1e-6)
    assert gsdio.read_glass(tmp_path / "modes.gsd").log == {"strain": 0.0, "eigenvalue": 0.1}


def test_a_foreign_frame_is_not_exact(tmp_path: Path) -> None:
    written = _foreign(tmp_path / "foreign.gsd")
    frame = gsdio.read_glass(tmp_path / "foreign.gsd")
    assert not frame.exact
    assert frame.log == {}
    assert frame.glass.strain == 0.25
    assert frame.glass.box == Box(10.0, 0.25)
    assert frame.glass.provenance == {}
    np.testing.assert_array_equal(frame.glass.positions, written.particles.position)


def test_log_of_others_is_left_alone(tmp_path: Path) -> None:
    frame = _foreign(tmp_path / "foreign.gsd")
    frame.log["md/compute/Thermo/potential_energy"] = np.array([1.0])
    frame.log["qlm/provenance"] = np.array([1, 2, 3], dtype=np.uint8)
    with gsd.hoomd.open(str(tmp_path / "foreign.gsd"), "w") as trajectory:
        trajectory.append(frame)
    read = gsdio.read_glass(tmp_path / "foreign.gsd")
    assert read.log == {}
    assert read.glass.provenance == {}


def test_provenance_is_read_from_where_older_files_have_it(tmp_path: Path) -> None:
    frame = _foreign(tmp_path / "old.gsd")
    frame.log["qlm/provenance"] = np.frombuffer(json.dumps(PROVENANCE).encode(), dtype=np.uint8)
    with gsd.hoomd.open(str(tmp_path / "old.gsd"), "w") as trajectory:
        trajectory.append(frame)
    assert gsdio.read_glass(tmp_path / "old.gsd").glass.provenance == PROVENANCE


def test_viewers_draw_our_diameters_and_list_no_provenance(tmp_path: Path, quenched: Glass) -> None:
    gsdio.write_glasses(tmp_path / "g.gsd", [(quenched, OBSERVABLES)] * 2, PROVENANCE, diameters=(1.0, 1.4))
    with gsd.hoomd.open(str(tmp_path / "g.gsd"), "r") as trajectory:
        assert [shape["diameter"] for shape in trajectory[1].particles.type_shapes] == [1.0, 1.4]
        assert not any("provenance" in name for name in trajectory.file.find_matching_chunk_names("log/"))
    assert gsdio.read_glass(tmp_path / "g.gsd", 1).glass.provenance == PROVENANCE


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, quenched: Glass) -> None:
    path = tmp_path / "glass.gsd"
    gsdio.write_glasses(path, [(quenched, OBSERVABLES)], PROVENANCE)
    before = path.read_bytes()

    def broken() -> Any:
        yield quenched, OBSERVABLES
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        gsdio.write_glasses(path, broken(), PROVENANCE)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["glass.gsd"]


@pytest.mark.parametrize("read", [gsdio.read_glass, gsdio.read_glasses])
def test_missing_empty_and_other_files_are_refused(tmp_path: Path, read: Any) -> None:
    (tmp_path / "empty.gsd").write_bytes(b"")
    (tmp_path / "text.gsd").write_text("U = 5.7\n" * 1000)
    (tmp_path / "folder.gsd").mkdir()
    for name, message in (
        ("missing.gsd", r"no such file"),
        ("empty.gsd", r"not a readable GSD file"),
        ("text.gsd", r"not a readable GSD file"),
        ("folder.gsd", r"not a readable GSD file"),
    ):
        with pytest.raises(InputError, match=rf"{name}: {message}.*expected"):
            read(tmp_path / name)


def test_a_file_cut_short_anywhere_is_refused_or_read_whole(tmp_path: Path, quenched: Glass) -> None:
    path, cut = tmp_path / "glass.gsd", tmp_path / "cut.gsd"
    gsdio.write_glasses(path, [(quenched, OBSERVABLES), (quenched.at_strain(0.1), OBSERVABLES)], PROVENANCE)
    data = path.read_bytes()
    refused = 0
    for size in [*range(0, 600, 60), *np.linspace(600, len(data) - 1, 60, dtype=int).tolist()]:
        cut.write_bytes(data[:size])
        try:
            frames = gsdio.read_glasses(cut)
        except InputError:
            refused += 1
        else:
            assert [frame.glass.positions.shape for frame in frames] == [(500, 3)] * len(frames)
    assert refused > 50


@pytest.mark.parametrize(
    "wrong",
    [
        {"box": [10.0, -10.0, 12.0, 0.0, 0.0, 0.0]},
        {"box": [10.0, 0.0, 0.0, 0.0, 0.0, 0.0]},
        {"box": [10.0, 10.0, 10.0, 0.0, np.inf, 0.0]},
        {"N": 0, "position": np.zeros((0, 3)), "typeid": []},
        {"position": np.full((3, 3), np.nan)},
    ],
    ids=["negative edge", "one dimension", "infinite tilt", "no particles", "not finite"],
)
def test_frames_that_are_no_glass_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    _foreign(tmp_path / "wrong.gsd", **wrong)
    with pytest.raises(InputError, match=r"wrong\.gsd, frame -?\d+: .*expected"):
        gsdio.read_glass(tmp_path / "wrong.gsd")


BOXES = [Box(11.0, 0.2, lz=0.0), Box(lx=13.0, ly=9.0, lz=0.0, xy=-0.7), Box(lx=6.5, ly=5.5, lz=6.0, xy=0.4, xz=-0.45, yz=0.3)]


@pytest.mark.parametrize("box", BOXES, ids=["square", "flat", "triclinic"])
def test_any_box_comes_back_to_the_bit(tmp_path: Path, box: Box, disordered: Callable[..., Glass]) -> None:
    glass = disordered(box, 1.1, 3)
    gsdio.write_glasses(tmp_path / "glass.gsd", [(glass, OBSERVABLES)], PROVENANCE)
    again = gsdio.read_glass(tmp_path / "glass.gsd").glass
    assert (again.box, again.strain) == (box, box.xy)
    assert again.positions.tobytes() == box.wrap(glass.positions).tobytes()
    with gsd.hoomd.open(str(tmp_path / "glass.gsd"), "r") as trajectory:
        assert trajectory[0].configuration.dimensions == box.dimensions
        np.testing.assert_allclose(trajectory[0].configuration.box, box.to_gsd(), rtol=1e-6)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_flat_file_lies_in_the_plane(tmp_path: Path, dimensions: int) -> None:
    """By its number of dimensions or by Lz = 0, as old and new HOOMD-blue say it."""
    frame = _foreign(tmp_path / "flat.gsd", box=[10.0, 8.0, 1.0 if dimensions == 2 else 0.0, 0.25, 0.0, 0.0])
    frame.configuration.dimensions = dimensions
    with gsd.hoomd.open(str(tmp_path / "flat.gsd"), "w") as trajectory:
        trajectory.append(frame)
    read = gsdio.read_glass(tmp_path / "flat.gsd")
    assert read.glass.box == Box(lx=10.0, ly=8.0, lz=0.0, xy=0.25)
    assert not read.glass.positions[:, 2].any()
    assert read.notes == ("two dimensions, and z of 1 particles is not 0 (up to 1): set to 0",)


def test_tilts_of_a_foreign_box_are_reduced_in_every_plane(tmp_path: Path) -> None:
    _foreign(tmp_path / "tilted.gsd", box=[10.0, 8.0, 5.0, 1.5, -2.25, 1.6])
    read = gsdio.read_glass(tmp_path / "tilted.gsd")
    # yz: 1.6 less one of 8 / 5; xz: -2.25 less 1.5 * 8 / 5, and then two of 10 / 5; xy: 1.5 less one of 10 / 8.
    np.testing.assert_allclose(read.glass.box.to_gsd(), [10.0, 8.0, 5.0, 0.25, -0.65, 0.0], atol=1e-6)
    assert read.glass.strain == 1.5
    assert "xy = 1.5, xz = -2.25, yz = 1.6" in read.notes[0]


def test_no_frames(tmp_path: Path) -> None:
    gsdio.write_glasses(tmp_path / "none.gsd", [], {})
    assert gsdio.read_glasses(tmp_path / "none.gsd") == []
    with pytest.raises(InputError, match="the file has 0 frames"):
        gsdio.read_glass(tmp_path / "none.gsd")


def test_float64_chunks_of_the_wrong_shape_are_refused(tmp_path: Path) -> None:
    frame = _foreign(tmp_path / "wrong.gsd")
    frame.log["particles/qlm/position"] = np.zeros((3, 2))
    frame.log["qlm/box"] = np.array([10.0, 10.0, 10.0, 0.0, 0.0, 0.0])
    with gsd.hoomd.open(str(tmp_path / "wrong.gsd"), "w") as trajectory:
        trajectory.append(frame)
    with pytest.raises(InputError, match=r"expected \(N, 3\)"):
        gsdio.read_glass(tmp_path / "wrong.gsd")
    frame.log["particles/qlm/position"] = np.zeros((3, 3))
    frame.log["qlm/box"] = np.array([10.0, 10.0])
    with gsd.hoomd.open(str(tmp_path / "wrong.gsd"), "w") as trajectory:
        trajectory.append(frame)
    with pytest.raises(InputError, match=r"wrong\.gsd"):
        gsdio.read_glass(tmp_path / "wrong.gsd")


@pytest.mark.parametrize(
    ("box", "exact"),
    [
        # The GSD library rounds the box to float32, whatever the precision of its file: 7.10365941 becomes 7.10365963.
        ([7.10365941, 7.10365941, 7.10365941, 0.0, 0.0, 0.0], False),
        ([6.0, 6.0, 6.0, 0.5, 0.0, 0.0], True),
        ([6.0, 6.0, 6.0, 0.1, 0.0, 0.0], False),
    ],
)
def test_a_box_rounded_to_single_precision_is_not_exact(tmp_path: Path, box: list[float], exact: bool) -> None:
    frame = _foreign(tmp_path / "a.gsd")
    frame.configuration.box = box
    frame.particles.position = np.random.default_rng(1).uniform(-2.0, 2.0, size=(3, 3))
    with gsd.hoomd.open(str(tmp_path / "a.gsd"), "w", precision="double") as trajectory:
        trajectory.append(frame)
    assert gsdio.read_glass(tmp_path / "a.gsd").exact is exact


def test_float32_positions_in_a_double_file_are_not_exact(tmp_path: Path) -> None:
    frame = _foreign(tmp_path / "a.gsd", box=[6.0, 6.0, 6.0, 0.0, 0.0, 0.0])
    for dtype, exact in ((np.float64, True), (np.float32, False)):
        frame.particles.position = np.random.default_rng(1).uniform(-2.0, 2.0, size=(3, 3)).astype(dtype).astype(np.float64)
        with gsd.hoomd.open(str(tmp_path / "a.gsd"), "w", precision="double") as trajectory:
            trajectory.append(frame)
        assert gsdio.read_glass(tmp_path / "a.gsd").exact is exact


def test_foreign_positions_are_folded_and_tilts_reduced(tmp_path: Path) -> None:
    positions_nc = np.random.default_rng(1).uniform(-300.0, 300.0, size=(3, 3))
    _foreign(tmp_path / "a.gsd", box=[8.0, 8.0, 8.0, 2.75, 1.25, -1.0], position=positions_nc)
    frame = gsdio.read_glass(tmp_path / "a.gsd")
    # The second lattice vector, (22, 8, 0), and the third, (10, -8, 8), add up to (32, 0, 8): four edges, and straight up.
    assert frame.glass.box == Box(8.0, -0.25)
    assert frame.glass.strain == 2.75
    apart_nc = frame.glass.positions - positions_nc.astype(np.float32)
    counts_nc = apart_nc @ np.linalg.inv(frame.glass.box.matrix)
    np.testing.assert_allclose(counts_nc, np.rint(counts_nc), atol=1e-9)
    assert np.abs(frame.glass.positions @ np.linalg.inv(frame.glass.box.matrix)).max() <= 0.5
    assert frame.notes[0].startswith("the box has the tilt xy = 2.75, xz = 1.25, yz = -1; its lattice is that of the cell")
