"""The chosen frames of anybody's GSD file, each looked at before the first is worked on."""

# Array names carry their axes: n particles, c Cartesian components, p pairs.

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import gsd.hoomd
import numpy as np

from qlm_hoomd import gsdio
from qlm_hoomd.base.errors import InputError
from qlm_hoomd.glass import Glass

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qlm_hoomd.potentials import PairPotential


def frames_from_text(text: str, every: int = 1) -> slice:
    """``a:b`` as in Python, ``a:``, ``:b``, or one frame; of those every ``every``-th.

    Raises:
        InputError: if the text is none of these.
    """
    match = re.fullmatch(r"\s*(-?\d+)?\s*(?:(:)\s*(-?\d+)?)?\s*", text)
    if match is None or not text.strip():
        raise InputError(f"--frames {text}; expected a:b (from a to before b), a:, :b, or one frame.")
    if every < 1:
        raise InputError(f"--every {every}; expected 1 or more.")
    start = int(match[1]) if match[1] else None
    if match[2] is None and start is not None:
        return slice(start, start + 1 if start != -1 else None, 1)
    return slice(start, int(match[3]) if match[3] else None, every)


@contextmanager
def said_of(path: Path, index: int) -> Iterator[None]:
    """Errors of the user's input carry the file and the frame."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}, frame {index}: {error}") from None


class FrameLoader:
    """Reads frames of one file, with the file's particle types as the potential numbers them."""

    def __init__(self, path: Path, potential: PairPotential, types: tuple[str, ...] | None) -> None:
        self._path = path
        self._n_types = potential.n_types
        self._types = types

    def check(self, frames: slice, k: int) -> tuple[list[int], list[str]]:
        """Indices of the frames wanted, all of which can be loaded, and what the user should know of them."""
        path = self._path
        with _open(path) as trajectory:
            n_frames = len(trajectory)
        if not n_frames:
            raise InputError(f"{path}: the file has no frames; expected at least one.")
        chosen = list(range(*frames.indices(n_frames)))
        if not chosen:
            raise InputError(f"{path}: none of its {n_frames} frames (0 to {n_frames - 1}) is asked for; see --frames.")
        notes: dict[str, None] = {}
        n_particles = 0
        for index in chosen:
            glass, source = self.load(index)
            n_particles = n_particles or glass.n_particles
            if glass.n_particles != n_particles:
                raise InputError(
                    f"{path}: frame {index} has {glass.n_particles} particles, frame {chosen[0]} has {n_particles}; "
                    "expected the same particles in all. Choose frames of one kind with --frames."
                )
            if k > 3 * n_particles - 3:
                raise InputError(f"--k {k}; expected at most 3N - 3 = {3 * n_particles - 3}, the modes of N = {n_particles}.")
            if source.particles.mass is not None and not np.allclose(source.particles.mass, 1.0):
                notes["masses other than 1 are ignored: frequencies are those of unit mass"] = None
            if source.bonds.N or source.constraints.N:
                notes["bonds and constraints of the file are ignored: forces are those of the pair potential alone"] = None
        return chosen, list(notes)

    def load(self, index: int) -> tuple[Glass, gsd.hoomd.Frame]:
        """The frame as a glass, and as the file has it."""
        path = self._path
        with _open(path) as trajectory:
            try:
                source = gsdio.checked_frame(trajectory, index)
            except Exception as error:  # noqa: BLE001  (the reader fails in every way on bytes that are not its own)
                raise InputError(f"{path}, frame {index}: cannot be read ({error}); the file may be truncated.") from None
        if source.configuration.dimensions == 2:
            raise InputError(
                f"{path}, frame {index}: a two-dimensional system; expected three dimensions, the only ones known."
            )
        glass = gsdio.read_glass(path, index).glass
        with said_of(path, index):
            return replace(glass, typeid=self._typeid(glass.typeid, list(source.particles.types or []))), source

    def _typeid(self, typeid_n: NDArray[np.int32], names: list[str]) -> NDArray[np.int32]:
        wanted = names if self._types is None else list(self._types)
        if len(set(wanted)) < len(wanted):
            raise InputError(f"--types {','.join(wanted)}; expected each type once.")
        known = wanted[: self._n_types]
        out_n = np.empty_like(typeid_n)
        for number in np.unique(typeid_n):
            name = names[number] if number < len(names) else f"number {number}"
            if name not in known:
                raise InputError(
                    f"{int((typeid_n == number).sum())} particles of type '{name}'; the potential knows {self._n_types} "
                    f"types, here {', '.join(known) or 'none'}. Name a potential of all types, or say with --types which is "
                    "which."
                )
            out_n[typeid_n == number] = known.index(name)
        return out_n


def _open(path: Path) -> gsd.hoomd.HOOMDTrajectory:
    try:
        gsdio.check_layout(path)
        return gsd.hoomd.open(str(path), "r")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected a GSD file.") from None
    except Exception as error:  # noqa: BLE001  (the same)
        raise InputError(
            f"{path}: not a readable GSD file ({error}); expected one written by HOOMD-blue or qlm_hoomd."
        ) from None
