"""The periodic box of a glass: a cube under simple shear (Lees-Edwards = tilted periodic box)."""

# Array names carry their axes: n particles, c Cartesian components.

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qlm_hoomd.base.display import Displayed
from qlm_hoomd.base.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, slots=True)
class Box(Displayed):
    """A cube of edge ``length`` whose second lattice vector is tilted by ``xy``.

    The lattice vectors are (L, 0, 0), (xy L, L, 0) and (0, 0, L), HOOMD-blue's convention for a triclinic box. A box at
    strain gamma and one at gamma - 1 have the same lattice, so xy is kept in [-1/2, 1/2] ("flip").

    Args:
        length: edge of the cube [length].
        xy: tilt factor [dimensionless].

    Examples:
        >>> Box.at_strain(8.0, 0.75)
        Box(length=8.0, xy=-0.25)
    """

    length: float
    xy: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.length) and self.length > 0.0):
            raise InputError(f"box length = {self.length}; expected a positive number.")
        if not math.isfinite(self.xy):
            raise InputError(f"box tilt xy = {self.xy}; expected a finite number.")

    def _headline(self) -> str:
        return f"L = {self.length:.6g}, xy = {self.xy:.6g}"

    @classmethod
    def at_strain(cls, length: float, strain: float) -> Box:
        """The box of edge ``length`` [length] at the accumulated shear ``strain``, flipped so that abs(xy) <= 1/2.

        Raises:
            InputError: if the strain is not finite.
        """
        if not math.isfinite(strain):
            raise InputError(f"strain = {strain}; expected a finite number.")
        return cls(length, strain - _nearest_integer(strain))

    @property
    def volume(self) -> float:
        """Volume [length^3]; simple shear conserves it."""
        return self.length**3

    @property
    def matrix(self) -> NDArray[np.float64]:
        """((3, 3) ndarray) lattice vectors as rows [length]."""
        length = self.length
        return np.array([[length, 0.0, 0.0], [self.xy * length, length, 0.0], [0.0, 0.0, length]])

    @property
    def nearest_plane_distance(self) -> float:
        """Smallest distance between opposite faces [length]; twice the cut-off must stay below it."""
        return self.length / math.sqrt(1.0 + self.xy**2)

    def images(self, vectors_nc: ArrayLike) -> NDArray[np.float64]:
        """((n, 3) ndarray) the integers k for which vectors - k . matrix lies in the cell centred on the origin."""
        vectors_nc = np.asarray(vectors_nc, dtype=np.float64)
        images_nc = np.empty_like(vectors_nc)
        images_nc[..., 2] = np.rint(vectors_nc[..., 2] / self.length)
        images_nc[..., 1] = np.rint(vectors_nc[..., 1] / self.length)
        images_nc[..., 0] = np.rint((vectors_nc[..., 0] - self.xy * vectors_nc[..., 1]) / self.length)
        return images_nc

    def wrap(self, positions_nc: ArrayLike) -> NDArray[np.float64]:
        """((n, 3) ndarray) the positions [length] brought into the cell centred on the origin."""
        positions_nc = np.asarray(positions_nc, dtype=np.float64)
        return np.asarray(positions_nc - self.images(positions_nc) @ self.matrix)

    def minimum_image(self, vectors_nc: ArrayLike) -> NDArray[np.float64]:
        """((n, 3) ndarray) the periodic image of each difference vector nearest to zero [length].

        Unique for vectors shorter than half the nearest plane distance. The shift along y comes first, so that the
        x component is reduced by the tilt that goes with it.
        """
        vectors_nc = np.array(vectors_nc, dtype=np.float64)
        length = self.length
        vectors_nc[..., 2] -= length * np.rint(vectors_nc[..., 2] / length)
        image_n = np.rint(vectors_nc[..., 1] / length)
        vectors_nc[..., 1] -= length * image_n
        vectors_nc[..., 0] -= self.xy * length * image_n
        vectors_nc[..., 0] -= length * np.rint(vectors_nc[..., 0] / length)
        return vectors_nc

    def to_gsd(self) -> NDArray[np.float64]:
        """((6,) ndarray) Lx, Ly, Lz, xy, xz, yz as HOOMD-blue and GSD write a box."""
        return np.array([self.length, self.length, self.length, self.xy, 0.0, 0.0])

    @classmethod
    def from_gsd(cls, box: ArrayLike) -> Box:
        """The box of a GSD frame.

        Raises:
            InputError: if the box is no cube under xy shear.
        """
        lx, ly, lz, xy, xz, yz = (float(value) for value in np.asarray(box, dtype=np.float64))
        if not (math.isclose(lx, ly, rel_tol=1e-6) and math.isclose(lx, lz, rel_tol=1e-6)) or abs(xz) + abs(yz) > 1e-7:
            if lz == 0.0:
                missing = "Two-dimensional boxes are"
            elif abs(xz) + abs(yz) > 1e-7:
                missing = "Boxes tilted in xz or yz are"
            else:
                missing = "Boxes of unequal edges are"
            raise InputError(
                f"box = [{lx:g}, {ly:g}, {lz:g}, {xy:g}, {xz:g}, {yz:g}]; expected a three-dimensional cube under xy shear "
                f"(Lx = Ly = Lz, xz = yz = 0). {missing} not there yet."
            )
        return cls(lx, xy)


def reduced(box: ArrayLike) -> NDArray[np.float64]:
    """((6,) ndarray) Lx, Ly, Lz, xy, xz, yz of the same lattice with each side's tilt as small as it can be.

    Lattice vectors are HOOMD-blue's, (Lx, 0, 0), (xy Ly, Ly, 0), (xz Lz, yz Lz, Lz); whole multiples of an earlier one are
    taken off a later one, so that in a cube every tilt ends in [-1/2, 1/2]. A box that is no lattice is left as it is.
    """
    lx, ly, lz, xy, xz, yz = (float(value) for value in np.asarray(box, dtype=np.float64))
    if not (np.isfinite([lx, ly, lz, xy, xz, yz]).all() and lx > 0.0 and ly > 0.0):
        return np.array([lx, ly, lz, xy, xz, yz])
    if lz > 0.0:
        turns = _nearest_integer(yz * lz / ly) * ly / lz
        yz, xz = yz - turns, xz - turns * xy
        xz -= _nearest_integer(xz * lz / lx) * lx / lz
    xy -= _nearest_integer(xy * ly / lx) * lx / ly
    return np.array([lx, ly, lz, xy, xz, yz])


def as_written(tilt: float) -> float:
    """A tilt that may have gone through single precision, as it was written: 0.01 for 0.009999999776."""
    single = np.float32(tilt)
    return float(str(single)) if float(single) == tilt else tilt


def _nearest_integer(value: float) -> float:
    """Nearest integer; halves go towards zero, so that a box flips only beyond abs(xy) = 1/2."""
    return math.copysign(math.ceil(abs(value) - 0.5), value) if abs(value) > 0.5 else 0.0
