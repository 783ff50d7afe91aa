"""The chosen frames of anybody's file, each looked at before the first is worked on."""

# Array names carry their axes: n particles, c Cartesian components, p pairs.

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gsd.hoomd
import numpy as np

from qlm_hoomd import gsdio
from qlm_hoomd.base.errors import InputError
from qlm_hoomd.formats import Trajectory, open_trajectory
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
    """Reads frames of one file, with the file's particle types as the potential numbers them.

    Args:
        path: the file, of any format that a reader knows.
        potential: the pair potential.
        types: the file's names of the potential's types 0, 1, ...; None for the potential's own names, or the order in the
            file where it has none of them.
        ignore_diameters: whether the diameters in the file are of no account, where the potential knows types alone.
    """

    def __init__(
        self, path: Path, potential: PairPotential, types: tuple[str, ...] | None, *, ignore_diameters: bool = False
    ) -> None:
        self._path = path
        self._potential = potential
        self._law = type(potential).__name__
        self._n_types = potential.n_types
        self._types = types
        self._ignore_diameters = ignore_diameters

    @cached_property
    def _trajectory(self) -> Trajectory:
        return open_trajectory(self._path)

    def __getstate__(self) -> dict[str, Any]:
        # A worker opens the file for itself.
        return {name: value for name, value in self.__dict__.items() if name != "_trajectory"}

    def check(self, frames: slice, k: int) -> tuple[list[int], list[str]]:
        """Indices of the frames wanted, all of which can be loaded, and what the user should know of them."""
        path = self._path
        if self._potential.sized and (self._types is not None or self._ignore_diameters):
            option = "--types" if self._types is not None else "--ignore-diameters"
            raise InputError(f"{option} given; expected no such thing with {self._law}, which knows sizes and no types.")
        n_frames = len(self._trajectory)
        if not n_frames:
            raise InputError(f"{path}: the file has no frames; expected at least one.")
        chosen = list(range(*frames.indices(n_frames)))
        if not chosen:
            raise InputError(f"{path}: none of its {n_frames} frames (0 to {n_frames - 1}) is asked for; see --frames.")
        notes: dict[str, None] = {}
        n_particles = 0
        for index in chosen:
            frame, source = self._frame(index)
            glass = frame.glass
            n_particles = n_particles or glass.n_particles
            if glass.n_particles != n_particles:
                raise InputError(
                    f"{path}: frame {index} has {glass.n_particles} particles, frame {chosen[0]} has {n_particles}; "
                    "expected the same particles in all. Choose frames of one kind with --frames."
                )
            d = glass.box.dimensions
            if k > d * n_particles - d:
                raise InputError(
                    f"--k {k}; expected at most {d}N - {d} = {d * n_particles - d}, the modes of N = {n_particles}."
                )
            notes |= dict.fromkeys((*self._of_types(glass, source), *frame.notes))
        return chosen, list(notes)

    def load(self, index: int) -> tuple[Glass, gsd.hoomd.Frame]:
        """The frame as a glass, and as the file has it."""
        frame, source = self._frame(index)
        return frame.glass, source

    def _frame(self, index: int) -> tuple[gsdio.Frame, gsd.hoomd.Frame]:
        path = self._path
        sized = True if self._potential.sized else False if self._ignore_diameters else None
        frame, source = self._trajectory.frame(index, sized=sized)
        with said_of(path, index):
            self._potential.sizes_of(frame.glass.sizes, frame.glass.n_particles)
            if self._potential.sized:
                return frame, source  # types are names
            typeid_n = self._typeid(frame.glass.typeid, list(source.particles.types or []))
        return replace(frame, glass=replace(frame.glass, typeid=typeid_n)), source

    def _wanted(self, typeid_n: NDArray[np.int32], names: list[str]) -> list[str]:
        """The file's names of the potential's types 0, 1, ..."""
        if self._types is not None:
            return list(self._types)
        own = self._potential.type_names
        present = [names[number] for number in np.unique(typeid_n) if number < len(names)]
        strange = [name for name in present if name not in own]
        if own and present and not strange:
            return list(own)
        if len(strange) < len(present):
            raise InputError(
                f"particles of type '{strange[0]}'; expected the types of {self._law}, {', '.join(own)}. Say with "
                "--types which is which."
            )
        return names

    def _of_types(self, glass: Glass, source: gsd.hoomd.Frame) -> Iterator[str]:
        """Which type of the file was taken for which of the potential, where no name says so, and sizes that say otherwise."""
        if self._potential.sized:
            return
        wanted = self._wanted(source.particles.typeid, list(source.particles.types or []))[: self._n_types]
        # Our own files name the types of a law without names by letters.
        usual = list(self._potential.type_names) or [chr(ord("A") + number) for number in range(len(wanted))]
        if self._types is None and self._n_types > 1 and wanted != usual:
            own = self._potential.type_names or range(1, self._n_types + 1)
            pairs = ", ".join(f"'{name}' for {of}" for name, of in zip(wanted, own, strict=False))
            yield f"types by their order in the file: {pairs} of {self._law}; --types says otherwise"
        diameter_n, size_t = source.particles.diameter, self._potential.diameters()
        if not (diameter_n == diameter_n[0]).all() and not gsdio.uneven_diameters(source):
            present = np.unique(glass.typeid)
            found = np.array([diameter_n[glass.typeid == number].mean() for number in present])
            if not np.allclose(found * size_t[present[0]], size_t[present] * found[0], rtol=0.01):
                yield (
                    f"diameters of the types {', '.join(wanted[number] for number in present)} are "
                    f"{', '.join(f'{size:.4g}' for size in found)} in the file, and of another ratio in {self._law}: "
                    f"{', '.join(f'{size:.4g}' for size in size_t[present])}; those of the file are ignored"
                )

    def _typeid(self, typeid_n: NDArray[np.int32], names: list[str]) -> NDArray[np.int32]:
        wanted = self._wanted(typeid_n, names)
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
