"""LAMMPS: text dumps and data files in, data files out.

ASE reads both, but not all of them rightly: it drops the columns radius and diameter, has no atom style sphere, takes types for
chemical elements, and makes a triclinic box too small where xy and xz have opposite signs (as of 3.29). Its rules are few:
docs.lammps.org/dump.html, read_data.html and Howto_triclinic.html.
"""

# Array names carry their axes: n particles, c Cartesian components.

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qlm_hoomd.base.errors import InputError
from qlm_hoomd.formats.reader import Reader, Trajectory, frame_from, resolution_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import gsd.hoomd
    from numpy.typing import NDArray

    from qlm_hoomd.glass import Glass

_GZIP = b"\x1f\x8b"
_DATA = re.compile(rb"[^\n]*\n(\s*(#[^\n]*)?\n)*\s*\d+\s+atoms\b")
_SECTION = re.compile(r"(?P<name>[A-Z][A-Za-z]*( [A-Z][A-Za-z]*)*)\s*(#\s*(?P<style>.*\S))?\s*$")
# Columns of the section Atoms before those of the coordinates, by atom style.
_STYLES = {
    "atomic": ("id", "type"),
    "charge": ("id", "type", "q"),
    "dipole": ("id", "type", "q"),
    "sphere": ("id", "type", "diameter", "density"),
    "bond": ("id", "molecule", "type"),
    "angle": ("id", "molecule", "type"),
    "molecular": ("id", "molecule", "type"),
    "full": ("id", "molecule", "type", "q"),
}


class LammpsDumpReader(Reader):
    """Text dumps (``dump atom``, ``dump custom``), compressed with gzip or not."""

    def knows(self, path: Path, head: bytes) -> bool:
        """Whether this is one of these files."""
        if head.startswith(_GZIP):
            return re.search(r"\.(dump|lammpstrj|lammpsdump)\.gz$", path.name) is not None
        return re.match(rb"ITEM: (TIMESTEP|UNITS|TIME)\b", head) is not None

    def open(self, path: Path) -> Trajectory:
        """The frames of the file."""
        return _Dump(path)


class LammpsDataReader(Reader):
    """Data files (``write_data``) of the atom styles that hold points or spheres."""

    def knows(self, path: Path, head: bytes) -> bool:
        """Whether this is one of these files."""
        return _DATA.match(head) is not None

    def open(self, path: Path) -> Trajectory:
        """The frames of the file."""
        return _Data(path)


class _Dump(Trajectory):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        content = path.read_bytes()
        if content.startswith(_GZIP):
            try:
                content = gzip.decompress(content)
            except (OSError, EOFError) as error:
                raise InputError(f"{path}: damaged ({error}); expected a LAMMPS dump compressed with gzip.") from None
        self._content = content
        self._starts = [match.start() for match in re.finditer(rb"^ITEM: TIMESTEP", content, re.MULTILINE)]

    def __len__(self) -> int:
        return len(self._starts)

    def read(self, index: int) -> gsd.hoomd.Frame:
        start, end = (*self._starts, len(self._content))[index : index + 2]
        return _dump_frame(_items(self._content[start:end].decode("ascii", "replace")))


def _items(text: str) -> dict[str, tuple[str, list[str]]]:
    """Sections of a frame by name: the words behind the name, and the lines."""
    items: dict[str, tuple[str, list[str]]] = {}
    for section in re.split(r"^ITEM: ", text, flags=re.MULTILINE)[1:]:
        header, *lines = section.splitlines()
        match = re.match(r"(TIMESTEP|NUMBER OF ATOMS|BOX BOUNDS|ATOMS|UNITS|TIME)\b\s*(.*)", header)
        if match is not None:
            items[match[1]] = match[2], lines
    return items


def _dump_frame(items: dict[str, tuple[str, list[str]]]) -> gsd.hoomd.Frame:
    for name in ("NUMBER OF ATOMS", "BOX BOUNDS", "ATOMS"):
        if name not in items:
            raise InputError(f"no section '{name}'; expected a whole frame of a LAMMPS dump. The file may be truncated.")
    n_particles = int(items["NUMBER OF ATOMS"][1][0])
    vectors_cc, origin_c = _dump_cell(items["BOX BOUNDS"][1])
    header, lines = items["ATOMS"]
    names = header.split()
    rows = [line.split() for line in lines if line.strip()]
    if len(rows) != n_particles or any(len(row) != len(names) for row in rows):
        raise InputError(
            f"{len(rows)} rows of atoms; expected {n_particles} of {len(names)} columns. The file may be truncated."
        )
    column = {name: np.array([row[place] for row in rows]) for place, name in enumerate(names)}
    if "id" in column:
        order_n = np.argsort(column["id"].astype(np.int64), kind="stable")
        column = {name: values[order_n] for name, values in column.items()}
    boundaries = [word for word in items["BOX BOUNDS"][0].split() if re.fullmatch(r"[pfsm]{1,2}", word)]
    positions_nc, off = _dump_positions(column, vectors_cc, origin_c)
    typeid_n, types = _types(column.get("type"), column.get("element"))
    number = {name: values.astype(np.float64) for name, values in column.items() if name in _KNOWN}
    if "radius" in number:
        number.setdefault("diameter", 2.0 * number["radius"])
    particles = {ours: number[theirs] for theirs, ours in _NUMBERS.items() if theirs in number}
    if all(name in number for name in _VELOCITY):
        particles["velocity"] = np.column_stack([number[name] for name in _VELOCITY])
    return frame_from(
        positions_nc, vectors_cc, typeid_n=typeid_n, types=types, step=int(items["TIMESTEP"][1][0]), particles=particles,
        periodic=[boundary in {"p", "pp"} for boundary in boundaries], resolution=off,
    )  # fmt: skip


_NUMBERS = {"diameter": "diameter", "mass": "mass", "q": "charge"}
_VELOCITY = ("vx", "vy", "vz")
_KNOWN = {*_NUMBERS, *_VELOCITY, "radius"}


def _dump_cell(lines: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lattice vectors as rows, and the cell's corner."""
    number_cx = np.array([line.split() for line in lines if line.strip()], dtype=np.float64)
    if number_cx.shape not in {(3, 2), (3, 3), (3, 4)}:
        raise InputError(f"{len(number_cx)} lines of box bounds; expected three, of two to four numbers.")
    if number_cx.shape == (3, 4):
        return number_cx[:, :3], number_cx[:, 3]
    low_c, high_c = number_cx[:, 0], number_cx[:, 1]
    xy, xz, yz = number_cx[:, 2] if number_cx.shape == (3, 3) else np.zeros(3)
    # What is written are the bounds of the tilted cell (Howto_triclinic).
    low_c = low_c - [min(0.0, xy, xz, xy + xz), min(0.0, yz), 0.0]
    high_c = high_c - [max(0.0, xy, xz, xy + xz), max(0.0, yz), 0.0]
    return _restricted(high_c - low_c, (xy, xz, yz)), low_c


def _restricted(edges_c: NDArray[np.float64], tilts: Sequence[float]) -> NDArray[np.float64]:
    xy, xz, yz = tilts
    if not (edges_c > 0.0).all():
        raise InputError(f"edges of the box {edges_c.tolist()}; expected positive ones.")
    return np.array([[edges_c[0], 0.0, 0.0], [xy, edges_c[1], 0.0], [xz, yz, edges_c[2]]])


def _dump_positions(
    column: dict[str, NDArray[Any]], vectors_cc: NDArray[np.float64], origin_c: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """Positions, and how far they can be off."""
    for suffix in ("u", "", "su", "s"):
        names = [f"{axis}{suffix}" for axis in "xyz"]
        if all(name in column for name in names):
            values_nc = np.column_stack([column[name].astype(np.float64) for name in names])
            off = resolution_of(values_nc)
            if suffix.startswith("s"):
                return origin_c + values_nc @ vectors_cc, off * float(np.abs(vectors_cc).max())
            return values_nc, off
    raise InputError(f"columns {', '.join(column)}; expected coordinates x y z, xu yu zu, xs ys zs, or xsu ysu zsu.")


def _types(type_n: NDArray[Any] | None, element_n: NDArray[Any] | None) -> tuple[NDArray[np.int32], list[str]]:
    """Number of each particle's type from 0, and the types' names."""
    named_n = element_n if type_n is None else type_n
    if named_n is None:
        raise InputError("neither a column type nor a column element; expected one of them, to know which particle is which.")
    if type_n is not None and all(text.isdigit() for text in np.unique(type_n)):
        number_n = type_n.astype(np.int32)
        if number_n.min() < 1:
            raise InputError(f"types down to {number_n.min()}; expected types from 1 up.")
        names = [str(number + 1) for number in range(number_n.max())]
        if element_n is not None:
            # One name for each type, where the file has it so.
            for number in np.unique(number_n):
                own = np.unique(element_n[number_n == number])
                names[number - 1] = str(own[0]) if len(own) == 1 else names[number - 1]
            if len(set(names)) < len(names):
                names = [str(number + 1) for number in range(number_n.max())]
        return number_n - 1, names
    names_u, typeid_n = np.unique(named_n, return_inverse=True)
    return typeid_n.astype(np.int32), [str(name) for name in names_u]


class _Data(Trajectory):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._text = path.read_text("utf-8", "replace")

    def __len__(self) -> int:
        return 1

    def read(self, index: int) -> gsd.hoomd.Frame:
        return _data_frame(self._text)


def _data_frame(text: str) -> gsd.hoomd.Frame:
    header: dict[str, list[float]] = {}
    sections: dict[str, list[list[str]]] = {}
    style, rows = "", None
    for line in text.splitlines()[1:]:
        match = _SECTION.fullmatch(line)
        if match is not None:
            rows = sections.setdefault(match["name"], [])
            style = (match["style"] or "") if match["name"] == "Atoms" else style
            continue
        words = line.partition("#")[0].split()
        if words and rows is not None:
            rows.append(words)
        elif words:
            numbers = [word for word in words if re.fullmatch(r"[-+.\deE]+", word)]
            header[" ".join(words[len(numbers) :])] = [float(word) for word in numbers]
    n_particles = int(header.get("atoms", [0])[0])
    atoms = sections.get("Atoms", [])
    if not n_particles or len(atoms) != n_particles:
        raise InputError(
            f"{len(atoms)} rows in the section Atoms; expected {n_particles or 'some'}. The file may be truncated."
        )
    columns = _columns(style, len(atoms[0]))
    if any(len(row) not in {len(columns) + 3, len(columns) + 6} for row in atoms):
        raise InputError(
            f"rows of the section Atoms of other lengths than atom style {style or 'atomic'} has; expected {', '.join(columns)}, x, y, z."
        )
    order_n = np.argsort([int(row[0]) for row in atoms], kind="stable")
    column = {name: np.array([row[place] for row in atoms])[order_n] for place, name in enumerate(columns)}
    positions_nc = np.array([row[len(columns) : len(columns) + 3] for row in atoms], dtype=np.float64)[order_n]
    labels = {row[1]: row[0] for row in sections.get("Atom Type Labels", [])}
    type_n = np.array([labels.get(name, name) for name in column["type"]])
    typeid_n, types = _types(type_n, None)
    for label, number in labels.items():
        if int(number) <= len(types):
            types[int(number) - 1] = label
    particles: dict[str, Any] = {
        ours: column[theirs].astype(np.float64) for theirs, ours in _NUMBERS.items() if theirs in column
    }
    if "Masses" in sections:
        mass_of = {labels.get(row[0], row[0]): float(row[1]) for row in sections["Masses"]}
        particles["mass"] = np.array([mass_of[str(number)] for number in type_n])
    if "Velocities" in sections:
        by_id = {row[0]: row[1:4] for row in sections["Velocities"]}
        particles["velocity"] = np.array([by_id[number] for number in column["id"]], dtype=np.float64)
    frame = frame_from(positions_nc, _data_cell(header), typeid_n=typeid_n, types=types, particles=particles)
    bonded = [name.lower() for name in ("Bonds", "Angles", "Dihedrals", "Impropers") if sections.get(name)]
    if bonded:
        frame.notes += (f"{' and '.join(bonded)} of the file are ignored: forces are those of the pair potential alone",)
    return frame


def _columns(style: str, n_columns: int) -> tuple[str, ...]:
    if style in _STYLES:
        return _STYLES[style]
    if not style and n_columns in {5, 8}:
        return _STYLES["atomic"]
    raise InputError(
        f"atom style {style!r} with {n_columns} columns; expected one of {', '.join(_STYLES)}, said behind the section's name: "
        "'Atoms # sphere'."
        if style
        else f"{n_columns} columns in the section Atoms and no word of its style; expected 'Atoms # sphere' (or {', '.join(_STYLES)})."
    )


def _data_cell(header: dict[str, list[float]]) -> NDArray[np.float64]:
    if "avec" in header:
        return np.array([header[name] for name in ("avec", "bvec", "cvec")])
    for axis in "xyz":
        if len(header.get(f"{axis}lo {axis}hi", ())) != 2:
            raise InputError(f"no line '{axis}lo {axis}hi'; expected the box in the file's header.")
    edges_c = np.array([high - low for low, high in (header[f"{axis}lo {axis}hi"] for axis in "xyz")])
    return _restricted(edges_c, header.get("xy xz yz", [0.0, 0.0, 0.0]))


def data_text(
    glass: Glass,
    types: Sequence[str],
    diameter_n: NDArray[np.float64] | None = None,
    velocity_nc: NDArray[np.float64] | None = None,
) -> str:
    """A LAMMPS data file: atom style atomic, or sphere where the particles have diameters. Numbers have all their digits.

    Args:
        glass: the configuration; it is written wrapped into its cell.
        types: names of the particle types.
        diameter_n: ((N,) ndarray) diameter of each particle [length].
        velocity_nc: ((N, 3) ndarray) velocities, or a mode that stands in their place.
    """
    box = glass.box.to_gsd()
    lx, ly, lz = (float(edge) for edge in box[:3])
    xy, xz, yz = (float(tilt) * edge for tilt, edge in zip(box[3:], (ly, lz, lz), strict=True))
    lines = ["qlm_hoomd", "", f"{glass.n_particles} atoms", f"{len(types)} atom types", ""]
    # LAMMPS brings particles into its cell, wherever that begins: from 0 on the edges keep their digits.
    lines += [f"0.0 {edge!r} {axis}lo {axis}hi" for axis, edge in zip("xyz", (lx, ly, lz or 1.0), strict=True)]
    if xy or xz or yz:
        lines.append(f"{xy!r} {xz!r} {yz!r} xy xz yz")
    lines += ["", "Atom Type Labels", "", *(f"{number} {name}" for number, name in enumerate(types, 1))]
    lines += ["", "Masses", "", *(f"{number} 1.0" for number in range(1, len(types) + 1))]
    lines += ["", f"Atoms # {'atomic' if diameter_n is None else 'sphere'}", ""]
    for number, (type_, position_c) in enumerate(zip(glass.typeid, glass.box.wrap(glass.positions), strict=True), 1):
        # Mass 1 needs the density 6 / (pi d^3).
        size = (
            "" if diameter_n is None else f"{float(diameter_n[number - 1])!r} {6.0 / (np.pi * diameter_n[number - 1] ** 3)!r} "
        )
        lines.append(f"{number} {type_ + 1} {size}{' '.join(repr(float(value)) for value in position_c)}")
    if velocity_nc is not None:
        turning = " 0.0 0.0 0.0" if diameter_n is not None else ""
        lines += ["", "Velocities", ""]
        for number, velocity_c in enumerate(velocity_nc, 1):
            lines.append(f"{number} {' '.join(repr(float(value)) for value in velocity_c)}{turning}")
    return "\n".join(lines) + "\n"
