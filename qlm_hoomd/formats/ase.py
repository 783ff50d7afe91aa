"""Whatever else ASE reads that holds a periodic cell (extra ``io``)."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qlm_hoomd.base.errors import InputError
from qlm_hoomd.formats.reader import Reader, Trajectory, frame_from

if TYPE_CHECKING:
    import gsd.hoomd

# How files that people have begin, for a machine without ASE.
_BEGINNINGS = {
    rb"CDF[\x01\x02\x05]": "a NetCDF file",
    rb"\x89HDF\r\n": "an HDF5 file",
    rb"....CORD": "a DCD file",
    rb"(HEADER|TITLE|REMARK|CRYST1|ATOM  )": "a PDB file",
    rb"data_": "a CIF file",
    rb"[^\n]*\n\s*[\d.]+\s*\n(\s*[-+.\deE]+){9}": "a POSCAR file",
}


class AseReader(Reader):
    """Formats by ASE; it is asked last."""

    def knows(self, path: Path, head: bytes) -> bool:
        """Whether this is one of these files."""
        try:
            from ase.io.formats import UnknownFileTypeError, filetype
        except ImportError:
            return _by_beginning(head) is not None
        try:
            filetype(str(path), read=True, guess=False)
        except UnknownFileTypeError:
            return False
        return True

    def open(self, path: Path) -> Trajectory:
        """The frames of the file."""
        return _Ase(path)


def _by_beginning(head: bytes) -> str | None:
    return next((words for pattern, words in _BEGINNINGS.items() if re.match(pattern, head, re.DOTALL)), None)


class _Ase(Trajectory):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            from ase.io import read
        except ImportError:
            words = _by_beginning(path.read_bytes()[:4096])
            raise InputError(
                f"{path}: {words}, which is read with the help of ASE; expected it to be installed: pip install 'qlm_hoomd[io]'."
            ) from None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                images: Any = read(str(path), index=":")
        except Exception as error:  # noqa: BLE001  (a parser for each of seventy formats, each with errors of its own)
            raise InputError(f"{path}: ASE cannot read it ({type(error).__name__}: {error}); expected a whole file.") from None
        self._images = images if isinstance(images, list) else [images]

    def __len__(self) -> int:
        return len(self._images)

    def read(self, index: int) -> gsd.hoomd.Frame:
        atoms = self._images[index]
        types, typeid_n = np.unique(atoms.get_chemical_symbols(), return_inverse=True)
        return frame_from(
            atoms.positions, np.array(atoms.cell), typeid_n=typeid_n.astype(np.int32), types=[str(name) for name in types],
            periodic=atoms.pbc, particles={"velocity": atoms.get_velocities()} if atoms.has("momenta") else {},
        )  # fmt: skip
