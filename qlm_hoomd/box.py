"""The periodic box of a glass in two or three dimensions, HOOMD-blue's, and what simple shear xy makes of it (Lees-Edwards)."""

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


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Box(Displayed):
    """A triclinic box as HOOMD-blue and GSD have it: lattice vectors (Lx, 0, 0), (xy Ly, Ly, 0) and (xz Lz, yz Lz, Lz).

    ``Box(8.0, 0.25)`` is a cube of edge 8 whose second lattice vector is tilted by 0.25. A box with Lz = 0 has two dimensions:
    its particles are at z = 0, its volume is an area. A box at shear strain gamma and one at gamma - Lx / Ly have the same
    lattice; shear keeps xy in [-1/2, 1/2] Lx / Ly ("flip").

    Args:
        length: edge of every side that is not given by itself [length].
        xy: tilt factor [dimensionless].
        lx: edge along x [length].
        ly: height along y [length].
        lz: height along z [length]; 0 for two dimensions.
        xz: tilt factor [dimensionless].
        yz: tilt factor [dimensionless].

    Examples:
        >>> Box.at_strain(8.0, 0.75)
        Box(length=8.0, xy=-0.25)
        >>> Box(8.0, ly=4.0, lz=0.0).volume
        32.0
    """

    lx: float
    ly: float
    lz: float
    xy: float
    xz: float
    yz: float

    def __init__(
        self, length: float = math.nan, xy: float = 0.0, *, lx: float | None = None, ly: float | None = None,
        lz: float | None = None, xz: float = 0.0, yz: float = 0.0,
    ) -> None:  # fmt: skip
        edges = {name: length if edge is None else edge for name, edge in (("lx", lx), ("ly", ly), ("lz", lz))}
        for name, edge in edges.items():
            if not (math.isfinite(edge) and (edge > 0.0 or (name == "lz" and edge == 0.0))):
                raise InputError(f"box length {name} = {edge}; expected a positive number (or lz = 0 for two dimensions).")
        for name, tilt in (("xy", xy), ("xz", xz), ("yz", yz)):
            if not math.isfinite(tilt):
                raise InputError(f"box tilt {name} = {tilt}; expected a finite number.")
        if edges["lz"] == 0.0 and (xz != 0.0 or yz != 0.0):
            raise InputError(f"box tilts xz = {xz:g}, yz = {yz:g} in two dimensions (lz = 0); expected 0.")
        for name, value in {**edges, "xy": xy, "xz": xz, "yz": yz}.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        if self.is_cube:
            return f"Box(length={self.lx!r}, xy={self.xy!r})"
        return f"Box(lx={self.lx!r}, ly={self.ly!r}, lz={self.lz!r}, xy={self.xy!r}, xz={self.xz!r}, yz={self.yz!r})"

    def _headline(self) -> str:
        tilts = f"xy = {self.xy:.6g}" + "".join(
            f", {name} = {tilt:.6g}" for name, tilt in (("xz", self.xz), ("yz", self.yz)) if tilt
        )
        return f"{self.edges_in_words}, {tilts}"

    @property
    def edges_in_words(self) -> str:
        """``L = 8`` for a cube or a square, else the edges by name."""
        if self.has_one_edge:
            return f"L = {self.lx:.6g}"
        edges = (self.lx, self.ly, self.lz)[: self.dimensions]
        return ", ".join(f"L{axis} = {edge:.6g}" for axis, edge in zip("xyz", edges, strict=False))

    @classmethod
    def at_strain(cls, length: float, strain: float) -> Box:
        """The cube of edge ``length`` [length] at the accumulated shear ``strain``, flipped so that abs(xy) <= 1/2.

        Raises:
            InputError: if the strain is not finite.
        """
        return cls(length).sheared(strain, strain)

    def sheared(self, strain: float, increment: float) -> Box:
        """The box after a simple shear xy by ``increment`` that ends at the accumulated ``strain``, tilts reduced.

        Raises:
            InputError: if the strain is not finite.
        """
        if not math.isfinite(strain):
            raise InputError(f"strain = {strain}; expected a finite number.")
        turn = self.flip
        xz = self.xz
        if self.yz != 0.0:
            xz += increment * self.yz
            xz -= self.lx / self.lz * _nearest_integer(xz * self.lz / self.lx)
        xy = strain - turn * _nearest_integer(strain / turn)
        return Box(lx=self.lx, ly=self.ly, lz=self.lz, xy=xy, xz=xz, yz=self.yz)

    @property
    def dimensions(self) -> int:
        """2 where lz = 0, else 3."""
        return 2 if self.lz == 0.0 else 3

    @property
    def flip(self) -> float:
        """Strain after which the lattice is the same again, Lx / Ly; 1 in a cube."""
        return float(self.lx / self.ly)

    @property
    def has_one_edge(self) -> bool:
        """Whether all edges are alike: a cube or a square, tilted or not."""
        return self.lx == self.ly and self.lz in (self.lx, 0.0)

    @property
    def is_cube(self) -> bool:
        """Whether it is a cube, tilted in xy alone if at all."""
        return self.lx == self.ly == self.lz and self.xz == 0.0 and self.yz == 0.0

    @property
    def length(self) -> float:
        """The edge of a cube or a square [length].

        Raises:
            InputError: if the edges differ, so that there is no such length.
        """
        if not self.has_one_edge:
            raise InputError(f"a box with the edges {self.edges_in_words}; expected a cube (or, in two dimensions, a square).")
        return self.lx

    @property
    def mean_edge(self) -> float:
        """Edge of the cube, or the square, of the same volume [length]."""
        return self.lx if self.has_one_edge else float(self.volume ** (1.0 / self.dimensions))

    @property
    def volume(self) -> float:
        """Volume [length^3], or area [length^2] in two dimensions; simple shear conserves it."""
        if self.has_one_edge:
            return self.lx**self.dimensions
        return self.lx * self.ly * (self.lz or 1.0)

    @property
    def matrix(self) -> NDArray[np.float64]:
        """((3, 3) ndarray) lattice vectors as rows [length]; the third is zero in two dimensions."""
        return np.array(
            [[self.lx, 0.0, 0.0], [self.xy * self.ly, self.ly, 0.0], [self.xz * self.lz, self.yz * self.lz, self.lz]]
        )

    @property
    def faces_apart(self) -> tuple[float, float, float]:
        """Distances between opposite faces [length]: those that the first, second and third lattice vector leads across."""
        skew = self.xy * self.yz - self.xz
        return (self.lx / math.sqrt(1.0 + self.xy**2 + skew**2), self.ly / math.sqrt(1.0 + self.yz**2), self.lz)

    @property
    def nearest_plane_distance(self) -> float:
        """Smallest distance between opposite faces [length]; twice the cut-off must stay below it."""
        return min(self.faces_apart[: self.dimensions])

    def fractional(self, vectors_nc: ArrayLike) -> NDArray[np.float64]:
        """((n, 3) ndarray) coordinates k for which vectors = k . matrix; the third is 0 in two dimensions."""
        vectors_nc = np.asarray(vectors_nc, dtype=np.float64)
        x_n, y_n, z_n = vectors_nc[..., 0], vectors_nc[..., 1], vectors_nc[..., 2]
        out_nc = np.zeros_like(vectors_nc)
        if self.lz != 0.0:
            out_nc[..., 2] = z_n / self.lz
        out_nc[..., 1] = (y_n - self.yz * z_n) / self.ly
        out_nc[..., 0] = (x_n - self.xy * y_n - (self.xz - self.xy * self.yz) * z_n) / self.lx
        return out_nc

    def images(self, vectors_nc: ArrayLike) -> NDArray[np.float64]:
        """((n, 3) ndarray) the integers k for which vectors - k . matrix lies in the cell centred on the origin."""
        return np.rint(self.fractional(vectors_nc))

    def wrap(self, positions_nc: ArrayLike) -> NDArray[np.float64]:
        """((n, 3) ndarray) the positions [length] brought into the cell centred on the origin."""
        positions_nc = np.asarray(positions_nc, dtype=np.float64)
        return np.asarray(positions_nc - self.images(positions_nc) @ self.matrix)

    def minimum_image(self, vectors_nc: ArrayLike) -> NDArray[np.float64]:
        """((n, 3) ndarray) the periodic image of each difference vector nearest to zero [length].

        Unique for vectors shorter than half the nearest plane distance. The shifts along z and y come first, so that the
        other components are reduced by the tilts that go with them.
        """
        vectors_nc = np.array(vectors_nc, dtype=np.float64)
        matrix = self.matrix
        if self.lz != 0.0:
            image_n = np.rint(vectors_nc[..., 2] / self.lz)
            for c in range(3):
                vectors_nc[..., c] -= matrix[2, c] * image_n
        image_n = np.rint(vectors_nc[..., 1] / self.ly)
        vectors_nc[..., 1] -= self.ly * image_n
        vectors_nc[..., 0] -= matrix[1, 0] * image_n
        vectors_nc[..., 0] -= self.lx * np.rint(vectors_nc[..., 0] / self.lx)
        return vectors_nc

    def to_gsd(self) -> NDArray[np.float64]:
        """((6,) ndarray) Lx, Ly, Lz, xy, xz, yz as HOOMD-blue and GSD write a box."""
        return np.array([self.lx, self.ly, self.lz, self.xy, self.xz, self.yz])

    @classmethod
    def from_gsd(cls, box: ArrayLike) -> Box:
        """The box of a GSD frame. Edges that differ by no more than single precision (1e-6) are taken for one edge.

        Raises:
            InputError: if the numbers are those of no box.
        """
        lx, ly, lz, xy, xz, yz = (float(value) for value in np.asarray(box, dtype=np.float64))
        if math.isclose(lx, ly, rel_tol=1e-6) and (lz == 0.0 or math.isclose(lx, lz, rel_tol=1e-6)):
            ly, lz = lx, lx if lz else 0.0
        if lz == 0.0 or abs(xz) + abs(yz) <= 1e-7:
            xz = yz = 0.0
        return cls(lx=lx, ly=ly, lz=lz, xy=xy, xz=xz, yz=yz)

    @classmethod
    def from_vectors(cls, vectors_cc: ArrayLike) -> tuple[Box, NDArray[np.float64]]:
        """The box of any cell, and the rotation or reflection that brings it there.

        Args:
            vectors_cc: ((3, 3) ndarray) lattice vectors as rows [length], right- or left-handed; ((2, 2) ndarray) in two
                dimensions.

        Returns:
            the box, tilts reduced, and ((3, 3) ndarray) the orthogonal matrix Q with which a position r of the cell is
            ``r @ Q.T`` in the box, up to lattice vectors; det Q = -1 where the cell is left-handed.

        Raises:
            InputError: if the vectors are not finite or dependent.
        """
        vectors_cc = np.asarray(vectors_cc, dtype=np.float64)
        if vectors_cc.shape not in ((3, 3), (2, 2)):
            raise InputError(f"cell vectors of shape {vectors_cc.shape}; expected (3, 3), or (2, 2) in two dimensions.")
        dimensions = len(vectors_cc)
        sizes = np.linalg.norm(vectors_cc, axis=1)
        if not np.isfinite(vectors_cc).all() or not abs(np.linalg.det(vectors_cc)) > 1e-9 * sizes.prod():
            raise InputError(f"cell vectors {vectors_cc.tolist()}; expected {dimensions} finite, independent vectors.")
        # vectors = lower . orthogonal, the lower triangle with a positive diagonal.
        orthogonal, upper = np.linalg.qr(vectors_cc.T)
        signs = np.sign(np.diag(upper))
        lower_cc, rotation_cc = np.zeros((3, 3)), np.eye(3)
        lower_cc[:dimensions, :dimensions] = (signs[:, None] * upper).T
        rotation_cc[:dimensions, :dimensions] = (orthogonal * signs).T
        lx, ly, lz = np.diag(lower_cc)
        tilts = lower_cc[1, 0] / ly, lower_cc[2, 0] / (lz or 1.0), lower_cc[2, 1] / (lz or 1.0)
        return cls.from_gsd(reduced([lx, ly, lz, *tilts])), rotation_cc


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
