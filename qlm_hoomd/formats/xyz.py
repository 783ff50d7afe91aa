"""Extended XYZ, in and out.

ASE reads it for molecules: a type that is no chemical element (A, 1, big) ends it, and what it writes has eight decimals. The
format is described at github.com/libAtoms/extxyz: a number of particles, a line of key=value with Lattice and Properties, a row
for each particle; lattice vectors one after the other.
"""

# Array names carry their axes: n particles, c Cartesian components.

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qlm_hoomd.base.errors import InputError
from qlm_hoomd.formats.reader import Reader, Trajectory, frame_from

if TYPE_CHECKING:
    from collections.abc import Sequence

    import gsd.hoomd
    from numpy.typing import NDArray

    from qlm_hoomd.glass import Glass

_HEAD = re.compile(rb"\s*\d+[ \t]*\r?\n[^\n]*\blattice\s*=", re.IGNORECASE)
_PLAIN = re.compile(rb"\s*\d+[ \t]*\r?\n[^\n]*\n\s*\S+(\s+[-+]?[\d.]+([eEdD][-+]?\d+)?){3}")
_PAIR = re.compile(r'([\w.-]+)\s*=\s*(?:"([^"]*)"|\{([^}]*)\}|(\S+))')
# What the columns are called, by what they are.
_NAMES = {
    "type": ("species", "type", "types", "element", "elements", "symbols", "z", "numbers"),
    "position": ("pos", "positions", "position"),
    "velocity": ("velo", "vel", "velocities", "velocity"),
    "diameter": ("diameter", "diameters"),
    "radius": ("radius", "radii"),
    "mass": ("mass", "masses"),
    "charge": ("charge", "charges", "initial_charges"),
}


class XyzReader(Reader):
    """Extended XYZ files; of plain ones it says what they lack."""

    def knows(self, path: Path, head: bytes) -> bool:
        """Whether this is one of these files."""
        return _HEAD.match(head) is not None or _PLAIN.match(head) is not None

    def open(self, path: Path) -> Trajectory:
        """The frames of the file."""
        return _Xyz(path)


class _Xyz(Trajectory):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._lines = path.read_text("utf-8", "replace").splitlines()
        self._starts: list[int] = []
        at = 0
        while at < len(self._lines):
            count = self._lines[at].strip()
            if not count:
                at += 1
                continue
            if not count.isdigit():
                raise InputError(f"{path}, line {at + 1}: {count[:40]!r}; expected the number of particles of the next frame.")
            self._starts.append(at)
            at += 2 + int(count)

    def __len__(self) -> int:
        return len(self._starts)

    def read(self, index: int) -> gsd.hoomd.Frame:
        start = self._starts[index]
        n_particles = int(self._lines[start])
        rows = [line.split() for line in self._lines[start + 2 : start + 2 + n_particles]]
        if len(rows) < n_particles:
            raise InputError(f"{len(rows)} rows; expected {n_particles}. The file may be truncated.")
        return _frame(self._lines[start + 1], rows)


def _frame(comment: str, rows: list[list[str]]) -> gsd.hoomd.Frame:
    said = {name.lower(): quoted or braced or bare for name, quoted, braced, bare in _PAIR.findall(comment)}
    if "lattice" not in said:
        raise InputError(
            'no Lattice="ax ay az bx by bz cx cy cz" in its second line; expected the periodic cell, as extended XYZ has it.'
        )
    lattice = [float(word) for word in said["lattice"].split()]
    if len(lattice) != 9:
        raise InputError(f"Lattice of {len(lattice)} numbers; expected 9, three vectors one after the other.")
    vectors_cc = np.reshape(lattice, (3, 3))
    column = _columns(said.get("properties", "species:S:1:pos:R:3"), rows)
    if "position" not in column or column["position"].shape[1] not in {2, 3}:
        raise InputError(f"Properties={said.get('properties')}; expected pos:R:3 among them (or pos:R:2).")
    positions_nc = column["position"].astype(np.float64)
    if positions_nc.shape[1] == 2:
        positions_nc, vectors_cc[2] = np.column_stack([positions_nc, np.zeros(len(positions_nc))]), 0.0
    if "type" not in column:
        raise InputError(
            f"Properties={said.get('properties')}; expected species:S:1 (or type:I:1), to know which particle is which."
        )
    types, typeid_n = np.unique(column["type"][:, 0], return_inverse=True)
    if all(name.isdigit() for name in types):
        types = types[order := np.argsort([int(name) for name in types])]
        typeid_n = np.argsort(order)[typeid_n]
    number: dict[str, NDArray[np.float64]] = {
        name: column[name].astype(np.float64) for name in ("velocity", "diameter", "radius", "mass", "charge") if name in column
    }
    particles: dict[str, Any] = {name: values if name == "velocity" else values[:, 0] for name, values in number.items()}
    if "velocity" in particles and particles["velocity"].shape[1] == 2:
        particles["velocity"] = np.column_stack([particles["velocity"], np.zeros(len(positions_nc))])
    if "radius" in particles:
        particles.setdefault("diameter", 2.0 * particles["radius"])
        del particles["radius"]
    return frame_from(
        positions_nc, vectors_cc, typeid_n=typeid_n.astype(np.int32),
        types=[str(name) for name in types], particles=particles,
        periodic=[word in "Tt1" for word in re.findall(r"[TtFf10]", said.get("pbc", "T T T"))],
    )  # fmt: skip


def _columns(properties: str, rows: list[list[str]]) -> dict[str, NDArray[Any]]:
    """((N, k) ndarrays of str) the columns that are known, by what they are."""
    parts = properties.split(":")
    if len(parts) % 3:
        raise InputError(f"Properties={properties}; expected name:type:number, one after the other.")
    total = sum(int(number) for number in parts[2::3])
    for place, row in enumerate(rows):
        if len(row) != total:
            raise InputError(f"row {place + 1} has {len(row)} columns; expected {total}, as Properties={properties} says.")
    table_nx = np.array(rows)
    column: dict[str, NDArray[Any]] = {}
    at = 0
    for name, number in zip(parts[::3], parts[2::3], strict=True):
        for ours, theirs in _NAMES.items():
            if name.lower() in theirs:
                column.setdefault(ours, table_nx[:, at : at + int(number)])
        at += int(number)
    return column


def xyz_text(
    glass: Glass,
    types: Sequence[str],
    diameter_n: NDArray[np.float64] | None = None,
    velocity_nc: NDArray[np.float64] | None = None,
) -> str:
    """A frame of an extended XYZ file. Numbers have all their digits.

    Args:
        glass: the configuration; it is written wrapped into its cell.
        types: names of the particle types.
        diameter_n: ((N,) ndarray) diameter of each particle [length]; as ``radius``, which viewers draw.
        velocity_nc: ((N, 3) ndarray) velocities, or a mode that stands in their place.
    """
    properties, columns_nx = "species:S:1:pos:R:3", [glass.box.wrap(glass.positions)]
    if diameter_n is not None:
        properties += ":radius:R:1"
        columns_nx.append(0.5 * np.asarray(diameter_n)[:, None])
    if velocity_nc is not None:
        properties += ":velo:R:3"
        columns_nx.append(np.asarray(velocity_nc))
    vectors_cc, periodic = glass.box.matrix, "T T T"
    if glass.box.dimensions == 2:
        vectors_cc[2, 2], periodic = 1.0, "T T F"
    lattice = " ".join(repr(float(value)) for value in vectors_cc.ravel())
    lines = [str(glass.n_particles), f'Lattice="{lattice}" Properties={properties} pbc="{periodic}"']
    for type_, row_x in zip(glass.typeid, np.hstack(columns_nx), strict=True):
        lines.append(" ".join((types[type_], *(repr(float(value)) for value in row_x))))
    return "\n".join(lines) + "\n"
