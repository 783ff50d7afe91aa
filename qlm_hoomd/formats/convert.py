"""Frames of one file written into a file of another format."""

# Array names carry their axes: n particles, c Cartesian components.

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import gsd.hoomd
import numpy as np

from qlm_hoomd import gsdio
from qlm_hoomd.base.errors import InputError
from qlm_hoomd.base.files import replacing
from qlm_hoomd.formats.lammps import data_text
from qlm_hoomd.formats.reader import open_trajectory
from qlm_hoomd.formats.xyz import xyz_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

WRITTEN = {".gsd": "GSD in double precision", ".data": "a LAMMPS data file", ".lmp": "a LAMMPS data file"} | dict.fromkeys(
    (".extxyz", ".exyz", ".xyz"), "extended XYZ"
)
"""What is written, by the suffix of the new file."""


def convert(path: Path, out: Path, frames: slice = slice(None)) -> list[str]:
    """Write frames of a file into a new one, whose suffix names the format (:data:`WRITTEN`).

    Positions, box, types, diameters and velocities are kept, with all their digits; particles are wrapped into the cell, whose tilts
    are reduced. A GSD file keeps the frame's log too.

    Args:
        path: the file, of any format that a reader knows.
        out: the new file.
        frames: which frames; a LAMMPS data file holds one.

    Returns:
        What the user should know of the frames, a sentence each.

    Raises:
        InputError: if it cannot be read, ``out`` exists already or has another suffix, or no frame or too many are asked for;
            nothing is written then.
    """
    if out.suffix not in WRITTEN:
        raise InputError(f"{out}: suffix '{out.suffix}'; expected one of {', '.join(WRITTEN)}, which names the format.")
    if out.exists():
        raise InputError(f"{out} exists; expected the name of a new file. Nothing is overwritten.")
    notes: dict[str, None] = {}
    with open_trajectory(path) as trajectory:
        chosen = range(*frames.indices(len(trajectory)))
        if not chosen:
            raise InputError(f"{path}: none of its {len(trajectory)} frames is asked for; see --frames.")
        data = WRITTEN[out.suffix] == WRITTEN[".data"]
        if data and len(chosen) > 1:
            raise InputError(
                f"{path}: {len(chosen)} frames; expected one, as a LAMMPS data file holds. Choose it with --frames."
            )
        with replacing(out) as temporary:
            if out.suffix == ".gsd":
                with gsd.hoomd.open(str(temporary), "w", precision="double") as written:
                    for index in chosen:
                        frame, source = trajectory.frame(index)
                        written.append(_as_gsd(frame, source))
                        notes |= dict.fromkeys(frame.notes)
            else:
                with temporary.open("w") as text:
                    for index in chosen:
                        frame, source = trajectory.frame(index)
                        size_n = _diameters(source) if frame.glass.sizes is None else frame.glass.sizes
                        parts = frame.glass, list(source.particles.types), size_n, _velocities(source)
                        text.write(data_text(*parts) if data else xyz_text(*parts))
                        notes |= dict.fromkeys(frame.notes)
    return list(notes)


def _as_gsd(read: gsdio.Frame, source: gsd.hoomd.Frame) -> gsd.hoomd.Frame:
    glass, frame = read.glass, gsd.hoomd.Frame()
    frame.configuration.step = source.configuration.step
    frame.configuration.dimensions = glass.box.dimensions
    frame.configuration.box = glass.box.to_gsd()
    frame.particles = source.particles
    frame.particles.position = glass.box.wrap(glass.positions)
    frame.particles.image = None
    frame.log = dict(source.log)
    if read.exact:
        # GSD rounds the box to single precision, in double precision too.
        frame.log |= gsdio.state_chunks(glass)
    return frame


def _diameters(source: gsd.hoomd.Frame) -> NDArray[np.float64] | None:
    """Those of a file that says any."""
    return np.asarray(source.particles.diameter, dtype=np.float64) if source.says_diameters else None


def _velocities(source: gsd.hoomd.Frame) -> NDArray[np.float64] | None:
    velocity_nc = source.particles.velocity
    return None if velocity_nc is None or not velocity_nc.any() else np.asarray(velocity_nc, dtype=np.float64)
