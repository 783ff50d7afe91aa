"""Glasses in GSD files: float64 in log chunks, GSD's own float32 positions for OVITO and friends."""

# Array names carry their axes: n particles, c Cartesian components.

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import gsd.hoomd
import numpy as np

from qlm_hoomd.base.display import Displayed, in_words
from qlm_hoomd.base.errors import InputError, QlmError
from qlm_hoomd.base.files import replacing
from qlm_hoomd.box import Box, as_written
from qlm_hoomd.glass import Glass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from qlm_hoomd.engines.base import Observables

_POSITION = "particles/qlm/position"
_AXES = "qlm/axes"
_NOTE = "qlm/provenance"
# The beginning of the header of a GSD file: magic number, place and number of entries of the index and of the list of names;
# and the sizes of these entries [bytes].
_HEADER = struct.Struct("<QQQQQ")
_MAGIC = 0x65DF65DF65DF65DF
_INDEX_ENTRY, _NAME_ENTRY = 32, 64


@dataclass(frozen=True, slots=True, repr=False)
class Frame(Displayed):
    """One frame of a GSD file.

    Args:
        glass: positions, types, box, strain.
        exact: whether the positions and box are float64; if not they are rounded to float32 and the glass is no minimum.
        log: the frame's other ``log/qlm`` scalars.
        axes: which axes of the sample as it was quenched are x, y and z here (``log/qlm/axes``); another order than 0, 1, 2
            where another plane than xy was sheared.
    """

    glass: Glass
    exact: bool
    log: dict[str, float]
    axes: tuple[int, int, int] = (0, 1, 2)

    def _headline(self) -> str:
        return f"{in_words(self.glass)}, {'exact' if self.exact else 'positions rounded to float32'}"


def write_glasses(
    path: Path,
    glasses: Iterable[tuple[Glass, Observables]],
    provenance: Mapping[str, Any],
    types: Sequence[str] = ("A", "B"),
    *,
    axes: tuple[int, int, int] | None = None,
    travelled: Sequence[float] | None = None,
    diameters: Iterable[float] | None = None,
) -> None:
    """Write one frame for each glass, whole or not at all.

    Args:
        path: the GSD file; replaced if it exists.
        glasses: glasses with what was measured of them.
        provenance: goes into the first frame as JSON (``qlm/provenance``, no log chunk: viewers list those number by number).
        types: names of the particle types.
        axes: which axes of the sample as it was quenched are x, y and z in the frames (``log/qlm/axes``).
        travelled: strain travelled up to each glass (``log/qlm/travelled``); on a path that turns back it tells the
            passages of one strain apart.
        diameters: at which viewers draw particles of these types, which they take for chemical elements otherwise [length].
    """
    with replacing(path) as temporary, gsd.hoomd.open(str(temporary), "w") as trajectory:
        for step, (glass, observables) in enumerate(glasses):
            scalars = {"strain": glass.strain} | asdict(observables)
            if travelled is not None:
                scalars["travelled"] = travelled[step]
            frame = _frame(step, glass, scalars, list(types))
            if diameters is not None:
                frame.particles.type_shapes = _spheres(diameters)
            if axes is not None:
                frame.log[_AXES] = np.array(axes, dtype=np.int32)
            if step == 0:
                _write_note(trajectory, provenance)
            trajectory.append(frame)


def _write_note(trajectory: gsd.hoomd.HOOMDTrajectory, provenance: Mapping[str, Any]) -> None:
    """Write the note into the frame that is appended next."""
    note = np.frombuffer(json.dumps(provenance, sort_keys=True).encode(), dtype=np.uint8)
    trajectory.file.write_chunk(_NOTE, note)


def _spheres(diameters: Iterable[float]) -> list[dict[str, Any]]:
    return [{"type": "Sphere", "diameter": float(diameter)} for diameter in diameters]


def _frame(step: int, glass: Glass, scalars: Mapping[str, float], types: list[str]) -> gsd.hoomd.Frame:
    wrapped_nc = glass.box.wrap(glass.positions)
    frame = gsd.hoomd.Frame()
    frame.configuration.step = step
    frame.configuration.box = glass.box.to_gsd()
    frame.particles.N = glass.n_particles
    frame.particles.types = types
    frame.particles.typeid = glass.typeid
    frame.particles.position = wrapped_nc
    frame.log[_POSITION] = wrapped_nc
    frame.log["qlm/box"] = glass.box.to_gsd()
    for name, value in scalars.items():
        frame.log[f"qlm/{name}"] = np.array([float(value)])
    return frame


class ModeFile:
    """Writes modes into a GSD file, one frame a mode; a context manager, which closes the file.

    The vector stands in ``log/particles/qlm/mode`` in float64 and, so that OVITO draws its arrows, as the velocity.

    Args:
        path: the GSD file; replaced if it exists.
        provenance: goes into the first frame as JSON (``qlm/provenance``, no log chunk: viewers list those number by number).
    """

    def __init__(self, path: Path, provenance: Mapping[str, Any]) -> None:
        self._trajectory = gsd.hoomd.open(str(path), "w")
        self._provenance = provenance

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._trajectory.close()

    def append(
        self,
        glass: Glass,
        vector_nc: NDArray[np.float64],
        scalars: Mapping[str, float],
        *,
        particles: Any = None,
        rattler_n: NDArray[np.bool_] | None = None,
        diameter_n: NDArray[np.float64] | None = None,
    ) -> None:
        """Add a frame.

        Args:
            glass: the state.
            vector_nc: ((N, 3) ndarray) the mode.
            scalars: what goes into ``log/qlm``: ``strain``, ``index``, ``eigenvalue``, ``frequency``, ``participation_ratio``,
                ...
            particles: types and diameters as another file has them (``gsd.hoomd.ParticleData``); by default types A and B.
            rattler_n: ((N,) ndarray) particles that were left out as rattlers (``log/particles/qlm/rattler``); by default no
                word.
            diameter_n: ((N,) ndarray) at which viewers draw the particles, by type [length]; by default no word.
        """
        if not len(self._trajectory):
            _write_note(self._trajectory, self._provenance)
        frame = _frame(len(self._trajectory), glass, scalars, ["A", "B"])
        if particles is not None:
            for name in ("types", "typeid", "diameter"):
                setattr(frame.particles, name, getattr(particles, name))
        if diameter_n is not None:
            of_type = [diameter_n[frame.particles.typeid == number] for number in range(len(frame.particles.types))]
            frame.particles.type_shapes = _spheres(each.mean() if len(each) else 1.0 for each in of_type)
        frame.particles.velocity = vector_nc
        frame.log["particles/qlm/mode"] = vector_nc
        if rattler_n is not None:
            frame.log["particles/qlm/rattler"] = rattler_n.astype(np.uint8)
        self._trajectory.append(frame)


def read_glass(path: Path | str, frame: int = -1) -> Frame:
    """One frame of a GSD file as a glass.

    Float64 log chunks are used where they are; otherwise GSD's own positions, and ``exact`` says whether those are float64.

    Raises:
        InputError: if the file is missing, truncated, no GSD file, or holds no three-dimensional cube under xy shear.
    """
    with _open(path) as trajectory:
        if not -len(trajectory) <= frame < len(trajectory):
            raise InputError(f"{path}: frame {frame} asked for; the file has {len(trajectory)} frames.")
        return _read(path, trajectory, frame)


def read_glasses(path: Path | str) -> list[Frame]:
    """All frames of a GSD file.

    Raises:
        InputError: as :func:`read_glass`.
    """
    with _open(path) as trajectory:
        return [_read(path, trajectory, index) for index in range(len(trajectory))]


def check_layout(path: Path | str) -> None:
    """Refuse a file whose index or list of names would reach beyond its end: the GSD library dies of some (2^59 entries of 32 bytes).

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is no GSD file, or damaged in this way.
    """
    with open(path, "rb") as file:  # noqa: PTH123  (a path or a text)
        header = file.read(_HEADER.size)
        size = file.seek(0, 2)
    if len(header) < _HEADER.size:
        raise ValueError("too short")
    magic, index, n_index, names, n_names = _HEADER.unpack(header)
    if magic != _MAGIC:
        raise ValueError("not a GSD file")
    if index + n_index * _INDEX_ENTRY > size or names + n_names * _NAME_ENTRY > size:
        raise ValueError("its index reaches beyond its end")


def checked_frame(trajectory: gsd.hoomd.HOOMDTrajectory, index: int) -> gsd.hoomd.Frame:
    """The frame, unless it claims more particles than the file has bytes: the GSD library would fill arrays of that length.

    Raises:
        ValueError: if it does.
        Exception: whatever the reader raises on a damaged frame.
    """
    file = trajectory.file
    size = Path(file.name).stat().st_size
    for at in {0, index}:
        if file.chunk_exists(frame=at, name="particles/N"):
            n_particles = int(file.read_chunk(frame=at, name="particles/N").flat[0])
            if n_particles > size:
                raise ValueError(f"{n_particles} particles in a file of {size} bytes")
    return trajectory[index]


def _open(path: Path | str) -> gsd.hoomd.HOOMDTrajectory:
    try:
        check_layout(path)
        trajectory = gsd.hoomd.open(str(path), "r")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected a GSD file.") from None
    except Exception as error:  # noqa: BLE001  (the reader fails in every way on bytes that are not its own)
        raise InputError(
            f"{path}: not a readable GSD file ({error}); expected one written by HOOMD-blue or qlm_hoomd."
        ) from None
    return trajectory


def _read(path: Path | str, trajectory: gsd.hoomd.HOOMDTrajectory, index: int) -> Frame:
    try:
        frame = checked_frame(trajectory, index)
    except Exception as error:  # noqa: BLE001  (the same; chunks of other shapes than the format's among them)
        raise InputError(f"{path}, frame {index}: cannot be read ({error}); the file may be truncated.") from None
    log = frame.log
    exact = _POSITION in log and "qlm/box" in log
    positions_nc = log[_POSITION] if exact else frame.particles.position
    box = log["qlm/box"] if exact else frame.configuration.box
    if positions_nc is None or box is None or not len(positions_nc):
        raise InputError(f"{path}, frame {index}: no particles or no box; expected a three-dimensional glass.")
    try:
        cube = Box.from_gsd(box)
        if not exact:
            cube = Box(cube.length, as_written(cube.xy))
        strain = _scalar(log["qlm/strain"]) if exact and "qlm/strain" in log else cube.xy
        glass = Glass(positions_nc, frame.particles.typeid, cube, strain, _provenance(trajectory))
        x, y, z = (int(axis) for axis in log.get(_AXES, (0, 1, 2)))
    except (QlmError, ValueError, TypeError, IndexError) as error:
        raise InputError(f"{path}, frame {index}: {error}") from None
    scalars = {
        name.removeprefix("qlm/"): _scalar(value)
        for name, value in log.items()
        if name.startswith("qlm/") and getattr(value, "dtype", None) == np.float64 and value.size == 1
    }
    exact = exact or getattr(positions_nc, "dtype", None) == np.float64
    return Frame(glass, exact, scalars, (x, y, z))


def _scalar(value: NDArray[np.float64]) -> float:
    return float(np.asarray(value).reshape(-1)[0])


def _provenance(trajectory: gsd.hoomd.HOOMDTrajectory) -> dict[str, Any]:
    """The note in the first frame; that chunk alone is read, not the frame."""
    try:
        for name in (_NOTE, f"log/{_NOTE}"):  # the second in older files
            if trajectory.file.chunk_exists(frame=0, name=name):
                chunk = trajectory.file.read_chunk(frame=0, name=name)
                return dict(json.loads(np.asarray(chunk, dtype=np.uint8).tobytes()))
    except Exception:  # noqa: BLE001  (a note: whatever stands there instead is not used)
        return {}
    return {}
