"""Frames of a file of any format: the first reader that knows how the file begins opens it.

A reader is a plugin (entry point group ``qlm_hoomd.readers``). It hands each frame over as a ``gsd.hoomd.Frame``, the form in which
HOOMD-blue's users know a configuration, so that everything that is looked for in a GSD file is looked for in any other too.
"""

# Array names carry their axes: n particles, c Cartesian components.

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import gsd.hoomd
import numpy as np

from qlm_hoomd import gsdio
from qlm_hoomd.base.errors import InputError
from qlm_hoomd.base.registry import READERS
from qlm_hoomd.box import Box

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

_HEAD = 4096
# Digits from which on a decimal number is as good as the float64 it came from.
_ALL_DIGITS = 15


class Trajectory(ABC):
    """The frames of an open file. A context manager, which closes the file.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def __len__(self) -> int:
        """Number of frames."""

    @abstractmethod
    def read(self, index: int) -> gsd.hoomd.Frame:
        """Frame ``index`` (from 0) as the file has it; :func:`frame_from` makes one of arrays.

        Raises:
            InputError: if it says something that cannot be; the file and the frame are named by :meth:`source`.
            ValueError, IndexError, KeyError, OverflowError: if what is there is not of this format.
        """

    def source(self, index: int) -> gsd.hoomd.Frame:
        """Frame ``index`` (from 0) as the file has it.

        Raises:
            InputError: if it cannot be read.
        """
        try:
            return self.read(index)
        except InputError as error:
            raise InputError(f"{self.path}, frame {index}: {error}") from None
        except (ValueError, IndexError, KeyError, OverflowError) as error:
            raise InputError(
                f"{self.path}, frame {index}: cannot be read ({error}); the file may be damaged or truncated."
            ) from None

    def frame(self, index: int, *, sized: bool | None = None) -> tuple[gsdio.Frame, gsd.hoomd.Frame]:
        """Frame ``index`` as a glass, and as the file has it; ``sized`` as :func:`qlm_hoomd.gsdio.read_glass` has it.

        Raises:
            InputError: if it cannot be read, or holds no particles in a box.
        """
        source = self.source(index)
        frame = gsdio.frame_of(self.path, index, source, sized=sized)
        exact = frame.exact and not source.resolution
        return replace(frame, exact=exact, notes=(*frame.notes, *source.notes)), source

    def close(self) -> None:  # noqa: B027  (most readers hold no file open)
        """Close the file; nothing is read from it afterwards."""


class Reader(ABC):
    """A format that can be read. Subclasses are registered under ``qlm_hoomd.readers``."""

    @abstractmethod
    def knows(self, path: Path, head: bytes) -> bool:
        """Whether this is a file of the format.

        Args:
            path: the file, for its suffix.
            head: its first 4096 bytes.
        """

    @abstractmethod
    def open(self, path: Path) -> Trajectory:
        """The frames of a file that this reader knows.

        Raises:
            InputError: if it is damaged, or cannot be read here.
        """


class GSDReader(Reader):
    """HOOMD-blue's own files, and those of this program."""

    def knows(self, path: Path, head: bytes) -> bool:
        """Whether this is one of these files."""
        return gsdio.is_gsd(head)

    def open(self, path: Path) -> Trajectory:
        """The frames of the file."""
        return _GSDTrajectory(path)


class _GSDTrajectory(Trajectory):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._trajectory = gsdio.open_file(path)

    def __len__(self) -> int:
        return len(self._trajectory)

    def read(self, index: int) -> gsd.hoomd.Frame:
        return gsdio.source_of(self.path, self._trajectory, index)

    def source(self, index: int) -> gsd.hoomd.Frame:
        return self.read(index)  # whose errors name file and frame

    def frame(self, index: int, *, sized: bool | None = None) -> tuple[gsdio.Frame, gsd.hoomd.Frame]:
        source = self.source(index)
        return gsdio.frame_of(self.path, index, source, gsdio.provenance_of(self._trajectory), sized=sized), source

    def close(self) -> None:
        self._trajectory.close()


def open_trajectory(path: Path | str) -> Trajectory:
    """The frames of a file, to be closed by the caller.

    The reader named ``gsd`` is asked first, then the others in alphabetical order, the one for everything else (``ase``) last.

    Raises:
        InputError: if the file is missing or damaged, or no reader knows it.
        PluginError: if a reader that is asked cannot be loaded.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected a GSD file, or one of another program.") from None
    except OSError as error:
        raise InputError(
            f"{path}: not a readable file ({error.strerror}); expected a GSD file, or one of another program."
        ) from None
    for name in sorted(READERS.plugins, key=lambda name: (name != "gsd", name == "ase", name)):
        reader: Reader = READERS.load(name)()
        if reader.knows(path, head):
            return reader.open(path)
    if path.suffix == ".gsd":
        return GSDReader().open(path)  # which says what is wrong with it
    raise InputError(
        f"{path}: of no format that is known here (readers: {', '.join(READERS.plugins)}); expected a GSD file, or one of these. OVITO "
        f"converts what it can open: export_file(import_file('{path.name}'), '{path.stem}.gsd', 'gsd/hoomd', multiple_frames=True) of "
        "ovito.io."
    )


def read_glass(path: Path | str, frame: int = -1, *, sized: bool | None = None) -> gsdio.Frame:
    """One frame of a file of any format that a reader knows, as a glass; of GSD files as :func:`qlm_hoomd.gsdio.read_glass`.

    Args:
        path: the file.
        frame: its number; negative ones from the end.
        sized: whether the diameters in the file are sizes of the particles: True for a potential that knows sizes, False drops
            them; None takes them where a type has more than one.

    Raises:
        InputError: if the file is missing or damaged, no reader knows it, or the frame holds no particles in a
            box.
    """
    with open_trajectory(path) as trajectory:
        n_frames = len(trajectory)
        if not -n_frames <= frame < n_frames:
            raise InputError(f"{path}: frame {frame} asked for; the file has {n_frames} frames.")
        return trajectory.frame(frame % n_frames, sized=sized)[0]


def read_glasses(path: Path | str) -> list[gsdio.Frame]:
    """All frames of a file, as :func:`read_glass`."""
    with open_trajectory(path) as trajectory:
        return [trajectory.frame(index)[0] for index in range(len(trajectory))]


def frame_from(
    positions_nc: NDArray[np.float64],
    vectors_cc: NDArray[np.float64],
    *,
    typeid_n: NDArray[np.int32],
    types: Sequence[str],
    periodic: Sequence[bool] = (True, True, True),
    step: int = 0,
    particles: Mapping[str, Any] | None = None,
    resolution: float | None = None,
) -> gsd.hoomd.Frame:
    """A frame of arrays, in HOOMD-blue's form, for readers.

    Args:
        positions_nc: ((N, 3) ndarray) positions, in any periodic image [length].
        vectors_cc: ((3, 3) ndarray) lattice vectors as rows, in any direction [length]. They are turned so that the first lies
            along x and the second in the xy plane (a left-handed cell is also mirrored), and positions and velocities with them.
            The third is zero in two dimensions; where it lies along z and all particles have one z, there are two as well.
        typeid_n: ((N,) ndarray of int) type of each particle.
        types: names of the types.
        periodic: whether the file says so of the cell, for each lattice vector.
        step: time step.
        particles: what else is known: ``diameter``, ``mass``, ``charge`` ((N,) ndarrays), ``velocity`` ((N, 3) ndarray).
        resolution: how far a coordinate can be off [length]; by default it follows from the digits of the numbers.

    Raises:
        InputError: if the lattice vectors are no cell, or one that is not periodic.
    """
    positions_nc, vectors_cc = np.asarray(positions_nc, dtype=np.float64), np.asarray(vectors_cc, dtype=np.float64)
    others = dict(particles or {})
    off = resolution_of(positions_nc) if resolution is None else resolution
    notes = []
    flat = _is_flat(positions_nc, vectors_cc)
    for axis, through in zip("xy" if flat else "xyz", periodic, strict=False):
        if not through:
            raise InputError(f"the cell is not periodic along {axis}; expected periodic boundaries.")
    if flat:
        positions_nc = positions_nc - [0.0, 0.0, positions_nc[0, 2]]
        if vectors_cc[2].any():
            notes.append("all particles have the same z: taken as two-dimensional")
        vectors_cc = vectors_cc[:2, :2]
    box, rotation_cc = _box_and_rotation(vectors_cc)
    if rotation_cc is not None:
        positions_nc = positions_nc @ rotation_cc.T
        if others.get("velocity") is not None:
            others["velocity"] = np.asarray(others["velocity"]) @ rotation_cc.T
        mirrored = np.linalg.det(rotation_cc) < 0.0
        notes.append(
            "the cell was turned so that its first vector lies along x and its second in the xy plane"
            + (", and mirrored, as it is left-handed" if mirrored else "")
        )
    if off:
        notes.append(f"coordinates are written with few digits, which places particles to within {off:.1g} [length]")
    frame = gsd.hoomd.Frame()
    frame.configuration.step = step
    frame.configuration.dimensions = 2 if flat else 3
    frame.configuration.box = box
    frame.particles.N = len(positions_nc)
    frame.particles.types = list(types)
    n_particles = len(positions_nc)
    frame.particles.typeid = np.asarray(typeid_n, dtype=np.uint32)
    frame.particles.position = positions_nc
    # What GSD says of particles of which a file says nothing.
    silent: dict[str, Any] = {
        "mass": np.ones(n_particles), "charge": np.zeros(n_particles), "diameter": np.ones(n_particles),
        "velocity": np.zeros((n_particles, 3)), "body": np.full(n_particles, -1), "moment_inertia": np.zeros((n_particles, 3)),
    }  # fmt: skip
    for name, value in (silent | {name: np.asarray(value) for name, value in others.items()}).items():
        setattr(frame.particles, name, value)
    frame.notes = tuple(notes)
    frame.says_diameters = others.get("diameter") is not None
    frame.resolution = off
    return frame


def _is_flat(positions_nc: NDArray[np.float64], vectors_cc: NDArray[np.float64]) -> bool:
    """Whether a frame has two dimensions: no third lattice vector, or one along z and all particles (more than one) at one z."""
    if not vectors_cc[2].any():
        return True
    upright = not (vectors_cc[2, :2].any() or vectors_cc[:2, 2].any())
    return upright and len(positions_nc) > 1 and not np.ptp(positions_nc[:, 2])


def _box_and_rotation(vectors_cc: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Lx, Ly, Lz, xy, xz, yz, and what :meth:`~qlm_hoomd.box.Box.from_vectors` turns; None and all digits where nothing is turned.

    Raises:
        InputError: if the vectors are no cell.
    """
    box, rotation_cc = Box.from_vectors(vectors_cc)
    if np.triu(vectors_cc, 1).any() or (np.diag(vectors_cc) < 0.0).any():
        return box.to_gsd(), rotation_cc
    whole_cc = np.zeros((3, 3))
    whole_cc[: len(vectors_cc), : len(vectors_cc)] = vectors_cc
    lx, ly, lz = np.diag(whole_cc)
    return np.array([lx, ly, lz, whole_cc[1, 0] / ly, *(whole_cc[2, :2] / (lz or 1.0))]), None


def resolution_of(values_nc: NDArray[np.float64]) -> float:
    """How far decimal numbers can be off, by the digits they have; 0 where they have all digits of a float64."""
    finite_x = values_nc[np.isfinite(values_nc) & (values_nc != 0.0)]
    if not finite_x.size:
        return 0.0
    exponent_x = np.floor(np.log10(np.abs(finite_x)))
    for digits in range(1, _ALL_DIGITS):
        unit_x = 10.0 ** (exponent_x - digits + 1)
        steps_x = finite_x / unit_x
        if np.abs(steps_x - np.rint(steps_x)).max() < 10.0 ** (digits - 15.0):
            return float(0.5 * unit_x.max())
    return 0.0
