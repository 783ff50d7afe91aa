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
from qlm_hoomd.box import Box, as_written, reduced
from qlm_hoomd.glass import Glass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from qlm_hoomd.engines.base import Observables

_POSITION = "particles/qlm/position"
_DIAMETER = "particles/qlm/diameter"
_AXES = "qlm/axes"
_NOTE = "qlm/provenance"
# The beginning of the header of a GSD file: magic number, place and number of entries of the index and of the list of names;
# and the sizes of these entries [bytes].
_HEADER = struct.Struct("<QQQQQ")
_MAGIC = 0x65DF65DF65DF65DF
_INDEX_ENTRY, _NAME_ENTRY = 32, 64
# Coordinates that are known to less than this part of the distance of two particles place none.
_COARSEST = 0.05


@dataclass(frozen=True, slots=True, repr=False)
class Frame(Displayed):
    """One frame of a GSD file.

    Args:
        glass: positions, types, box, strain.
        exact: whether positions, box and sizes are those of float64; if not they are rounded to float32 and the glass is no
            minimum.
        log: the frame's other ``log/qlm`` scalars.
        axes: which axes of the sample as it was quenched are x, y and z here (``log/qlm/axes``); another order than 0, 1, 2
            where another plane than xy was sheared.
        notes: what of the file is not in the glass, or not as it stands in the file, a sentence each.
    """

    glass: Glass
    exact: bool
    log: dict[str, float]
    axes: tuple[int, int, int] = (0, 1, 2)
    notes: tuple[str, ...] = ()

    def _headline(self) -> str:
        return f"{in_words(self.glass)}, {'exact' if self.exact else 'positions or box rounded to float32'}"


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
        diameters: at which viewers draw particles of these types, which they take for chemical elements otherwise [length];
            particles with sizes of their own are drawn at those.
    """
    with replacing(path) as temporary, gsd.hoomd.open(str(temporary), "w") as trajectory:
        for step, (glass, observables) in enumerate(glasses):
            scalars = {"strain": glass.strain} | asdict(observables)
            if travelled is not None:
                scalars["travelled"] = travelled[step]
            frame = _frame(step, glass, scalars, list(types))
            if diameters is not None and glass.sizes is None:
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
    frame.configuration.dimensions = glass.box.dimensions
    frame.configuration.box = glass.box.to_gsd()
    frame.particles.N = glass.n_particles
    frame.particles.types = types
    frame.particles.typeid = glass.typeid
    frame.particles.position = wrapped_nc
    if glass.sizes is not None:
        frame.particles.diameter = glass.sizes
    frame.log |= state_chunks(glass)
    for name, value in scalars.items():
        frame.log[f"qlm/{name}"] = np.array([float(value)])
    return frame


def state_chunks(glass: Glass) -> dict[str, NDArray[np.float64]]:
    """The log chunks that hold a glass in double precision."""
    sizes = {} if glass.sizes is None else {_DIAMETER: glass.sizes}
    return {
        **sizes,
        _POSITION: glass.box.wrap(glass.positions), "qlm/box": glass.box.to_gsd(), "qlm/strain": np.array([glass.strain]),
    }  # fmt: skip


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
        if diameter_n is not None and glass.sizes is None:
            of_type = [diameter_n[frame.particles.typeid == number] for number in range(len(frame.particles.types))]
            frame.particles.type_shapes = _spheres(each.mean() if len(each) else 1.0 for each in of_type)
        frame.particles.velocity = vector_nc
        frame.log["particles/qlm/mode"] = vector_nc
        if rattler_n is not None:
            frame.log["particles/qlm/rattler"] = rattler_n.astype(np.uint8)
        self._trajectory.append(frame)


def read_glass(path: Path | str, frame: int = -1, *, sized: bool | None = None) -> Frame:
    """One frame of a GSD file as a glass.

    Float64 log chunks are used where they are; otherwise GSD's own positions, folded into the box, whose tilts are reduced to
    those of the equivalent cell. ``exact`` says whether all are float64, and ``notes`` what the glass does not carry.

    Args:
        path: the file.
        frame: its number; negative ones from the end.
        sized: whether the diameters in the file are sizes of the particles: True for a potential that knows sizes, False drops
            them; None takes them where a type has more than one.

    Raises:
        InputError: if the file is missing, truncated, no GSD file, or holds no particles in a box.
    """
    with open_file(path) as trajectory:
        if not -len(trajectory) <= frame < len(trajectory):
            raise InputError(f"{path}: frame {frame} asked for; the file has {len(trajectory)} frames.")
        return frame_of(path, frame, source_of(path, trajectory, frame), provenance_of(trajectory), sized=sized)


def read_glasses(path: Path | str) -> list[Frame]:
    """All frames of a GSD file.

    Raises:
        InputError: as :func:`read_glass`.
    """
    with open_file(path) as trajectory:
        note = provenance_of(trajectory)
        return [frame_of(path, index, source_of(path, trajectory, index), note) for index in range(len(trajectory))]


def is_gsd(head: bytes) -> bool:
    """Whether a file that begins so is a GSD file."""
    return head[:8] == _MAGIC.to_bytes(8, "little")


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


def open_file(path: Path | str) -> gsd.hoomd.HOOMDTrajectory:
    """The frames of a GSD file, to be closed by the caller.

    Raises:
        InputError: if it is missing, damaged or of another format.
    """
    try:
        check_layout(path)
        return gsd.hoomd.open(str(path), "r")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected a GSD file.") from None
    except Exception as error:  # noqa: BLE001  (the reader fails in every way on bytes that are not its own)
        raise InputError(
            f"{path}: not a readable GSD file ({error}); expected one written by HOOMD-blue or qlm_hoomd."
        ) from None


def source_of(path: Path | str, trajectory: gsd.hoomd.HOOMDTrajectory, index: int) -> gsd.hoomd.Frame:
    """A frame as the file has it.

    Raises:
        InputError: if it cannot be read.
    """
    try:
        frame = checked_frame(trajectory, index)
        # GSD gives 1 where a file has no word of diameters.
        frame.says_diameters = any(trajectory.file.chunk_exists(frame=at, name="particles/diameter") for at in {0, index})
    except Exception as error:  # noqa: BLE001  (the same; chunks of other shapes than the format's among them)
        raise InputError(f"{path}, frame {index}: cannot be read ({error}); the file may be truncated.") from None
    return frame


def frame_of(
    path: Path | str,
    index: int,
    frame: gsd.hoomd.Frame,
    provenance: Mapping[str, Any] | None = None,
    *,
    sized: bool | None = None,
) -> Frame:
    """The glass in a frame that was read, from this file or from another program's; ``sized`` as :func:`read_glass` has it.

    Raises:
        InputError: if it holds no particles in a box.
    """
    log = frame.log
    ours = _POSITION in log and "qlm/box" in log
    positions_nc = log[_POSITION] if ours else frame.particles.position
    box = log["qlm/box"] if ours else frame.configuration.box
    if positions_nc is None or box is None or not len(positions_nc):
        raise InputError(f"{path}, frame {index}: no particles or no box; expected a glass.")
    try:
        notes: list[str] = []
        positions_nc, box = _flattened(frame, positions_nc, box, notes)
        if ours:
            cell = Box.from_gsd(box)
            strain = _scalar(log["qlm/strain"]) if "qlm/strain" in log else cell.xy
        else:
            positions_nc, cell, strain = _normal_form(positions_nc, box, notes)
        size_n = _sizes(frame, sized=sized)
        glass = Glass(positions_nc, frame.particles.typeid, cell, strain, provenance or {}, size_n)
        x, y, z = (int(axis) for axis in log.get(_AXES, (0, 1, 2)))
        notes += _left_out(frame)
        if size_n is None and (uneven := uneven_diameters(frame)):
            notes.append(f"{uneven}; ignored: all particles of a type are the same size here")
    except (QlmError, ValueError, TypeError, IndexError) as error:
        raise InputError(f"{path}, frame {index}: {error}") from None
    scalars = {
        name.removeprefix("qlm/"): _scalar(value)
        for name, value in log.items()
        if name.startswith("qlm/") and getattr(value, "dtype", None) == np.float64 and value.size == 1
    }
    exact = ours or not (_is_rounded(frame.particles.position) or _is_rounded(frame.configuration.box))
    exact &= size_n is None or _DIAMETER in log or not _is_rounded(frame.particles.diameter)
    return Frame(glass, exact, scalars, (x, y, z), tuple(notes))


def _sizes(frame: gsd.hoomd.Frame, *, sized: bool | None) -> NDArray[Any] | None:
    """The sizes of the particles of a frame; None where it has none, or they are not wanted."""
    if sized is False:
        return None
    if _DIAMETER in frame.log:
        return np.asarray(frame.log[_DIAMETER])
    wanted = frame.says_diameters if sized else uneven_diameters(frame)
    return np.asarray(frame.particles.diameter) if wanted else None


def _flattened(
    frame: gsd.hoomd.Frame, positions_nc: NDArray[Any], box: NDArray[Any], notes: list[str]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Positions and box as they are; of a two-dimensional frame with z = 0 and Lz = 0, and a note of what z there was."""
    if frame.configuration.dimensions != 2 and box[2] != 0.0:
        return positions_nc, box
    outside = int((positions_nc[:, 2] != 0.0).sum())
    if outside:
        notes.append(
            f"two dimensions, and z of {outside} particles is not 0 (up to {np.abs(positions_nc[:, 2]).max():.3g}): set to 0"
        )
        positions_nc = positions_nc.copy()
        positions_nc[:, 2] = 0.0
    return positions_nc, np.array([box[0], box[1], 0.0, box[3], 0.0, 0.0], dtype=box.dtype)


def _normal_form(positions_nc: NDArray[Any], box: NDArray[Any], notes: list[str]) -> tuple[NDArray[np.float64], Box, float]:
    """Positions folded into the cell of small tilts, that cell and the strain; what was changed is added to ``notes``.

    Raises:
        InputError: if there is no box, or the coordinates are so large that they place no particle.
    """
    small = reduced(box)
    cell = Box.from_gsd(small)
    names = "xy", "xz", "yz"
    turned = [name for name, was, now in zip(names, box[3:], small[3:], strict=True) if abs(was - now) > 1e-6]
    if turned:
        was, now = (dict(zip(names, tilts, strict=True)) for tilts in (box[3:], small[3:]))
        notes.append(
            f"the box has the tilt {', '.join(f'{name} = {was[name]:g}' for name in turned)}; its lattice is that of the cell "
            f"with {', '.join(f'{name} = {tilt:g}' for name, tilt in now.items() if tilt or name == 'xy')}, used here"
        )
    tilt = as_written(float(box[3]))
    # A tilt in another plane leaves no other trace than its lattice.
    turns = (tilt - small[3]) / cell.flip
    strain = tilt if abs(turns - round(turns)) < 1e-6 else as_written(float(small[3]))
    cell = cell.sheared(strain, 0.0)
    largest = np.abs(positions_nc).max()
    if not np.isfinite(largest):
        return positions_nc, cell, strain  # the glass says which
    # The distance of two neighbouring numbers is how far a coordinate can be off.
    apart = float(np.spacing(largest))
    spacing = (cell.volume / len(positions_nc)) ** (1.0 / cell.dimensions)
    if apart > _COARSEST * spacing:
        raise InputError(
            f"coordinates up to {largest:.3g} in {positions_nc.dtype}, which are known to {apart:.2g} "
            f"only, where particles are {spacing:.2g} apart; expected positions in the box (or not far from it)."
        )
    if apart > 1e-6 * spacing and positions_nc.dtype != np.float64:
        notes.append(f"coordinates are as large as {largest:.3g}, which rounds them to {apart:.1g}; folded into the box")
    return cell.wrap(positions_nc), cell, strain


def _is_rounded(values: NDArray[Any]) -> bool:
    """Whether all are float32 numbers; in float64, short ones (multiples of 1/1024) may be as they were."""
    if values.dtype != np.float64:
        return True
    with np.errstate(over="ignore"):
        if not (values == values.astype(np.float32)).all():
            return False
        return bool((values * 1024.0 != np.rint(values * 1024.0)).any())


def _left_out(frame: gsd.hoomd.Frame) -> list[str]:
    """What a frame says of its particles and a glass does not hold, a sentence each."""
    particles, notes = frame.particles, []
    if particles.mass is not None and not np.allclose(particles.mass, 1.0):
        notes.append("masses other than 1 are ignored: frequencies are those of unit mass")
    at = {"charges": ("charge", 0.0), "bodies": ("body", -1), "moments of inertia": ("moment_inertia", 0.0)}
    has = [name for name, (field, none) in at.items() if (np.asarray(getattr(particles, field)) != none).any()]
    has += [name for name in ("bonds", "angles", "dihedrals", "impropers", "constraints") if getattr(frame, name).N]
    has += ["special pairs"] if frame.pairs.N else []
    if has:
        all_but_last = ", ".join(has[:-1])
        names = f"{all_but_last} and {has[-1]}" if all_but_last else has[-1]
        notes.append(f"{names} of the file are ignored: forces are those of the pair potential alone")
    return notes


def uneven_diameters(frame: gsd.hoomd.Frame) -> str:
    """Which types of a frame have particles of different diameters, in words; empty where none has."""
    diameter_n, typeid_n = frame.particles.diameter, frame.particles.typeid
    if diameter_n is None or len(diameter_n) != len(typeid_n):
        return ""
    names = list(frame.particles.types or [])
    found = []
    for number in np.unique(typeid_n):
        own_n = diameter_n[typeid_n == number]
        if not np.ptp(own_n) <= 1e-6 * np.abs(own_n).max():
            name = f"'{names[number]}'" if number < len(names) else f"number {number}"
            found.append(f"of type {name} from {own_n.min():.6g} to {own_n.max():.6g}")
    return f"diameters {', '.join(found)}" if found else ""


def _scalar(value: NDArray[np.float64]) -> float:
    return float(np.asarray(value).reshape(-1)[0])


def provenance_of(trajectory: gsd.hoomd.HOOMDTrajectory) -> dict[str, Any]:
    """The note in the first frame; that chunk alone is read, not the frame."""
    try:
        for name in (_NOTE, f"log/{_NOTE}"):  # the second in older files
            if trajectory.file.chunk_exists(frame=0, name=name):
                chunk = trajectory.file.read_chunk(frame=0, name=name)
                return dict(json.loads(np.asarray(chunk, dtype=np.uint8).tobytes()))
    except Exception:  # noqa: BLE001  (a note: whatever stands there instead is not used)
        return {}
    return {}
