"""The one state that flows through qlm_hoomd."""

# Array names carry their axes: n particles, c Cartesian components.

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from qlm_hoomd.base.display import Displayed
from qlm_hoomd.base.errors import InputError
from qlm_hoomd.box import Box

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


def checked_sizes(sizes: Any, n_particles: int) -> NDArray[np.float64]:
    """((N,) ndarray) these sizes, not to be changed any more.

    Raises:
        InputError: if they are no positive number for each particle.
    """
    try:
        size_n = np.array(sizes, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError("sizes are not numbers; expected a positive number for each particle.") from None
    if size_n.shape != (n_particles,):
        raise InputError(f"sizes.shape = {size_n.shape}; expected ({n_particles},).")
    bad_n = ~(np.isfinite(size_n) & (size_n > 0.0))
    if bad_n.any():
        raise InputError(
            f"{int(bad_n.sum())} of {n_particles} sizes are not positive and finite (the first: {size_n[bad_n][0]:g}); expected "
            "positive lengths."
        )
    size_n.flags.writeable = False
    return size_n


def range_of(sizes: NDArray[np.float64]) -> str:
    """From the smallest to the largest, in words."""
    return f"{sizes.min():.6g} to {sizes.max():.6g}" if sizes.size else "none"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Glass(Displayed):
    """Positions, types and box of a glass, with the strain it has travelled. A plain value: keeping one is the rewind.

    Args:
        positions: ((N, 3) ndarray of float64) positions [length], in any periodic image; z = 0 in two dimensions.
        typeid: ((N,) ndarray of int) type of each particle, 0 for the small ones.
        box: periodic box, at the tilt that belongs to ``strain``.
        strain: accumulated shear strain since the quench; equal to the box tilt xy modulo Lx / Ly, 1 in a cube.
        provenance: how the glass came to be (seed, preparation, versions).
        sizes: ((N,) ndarray of float64) size of each particle [length], for potentials that make the length of a pair of two
            sizes; None where the types say it all.

    Examples:
        >>> glass = Glass(np.zeros((2, 3)), np.array([0, 1]), Box(5.0))
        >>> glass
        <Glass: 2 particles (1 + 1), L = 5, strain 0>
        >>> glass.sheared(0.02).strain
        0.02
    """

    positions: NDArray[np.float64]
    typeid: NDArray[np.int32]
    box: Box
    strain: float = 0.0
    provenance: Mapping[str, Any] = field(default_factory=dict)
    sizes: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        positions_nc = np.array(self.positions, dtype=np.float64)
        typeid_n = np.array(self.typeid, dtype=np.int32)
        if positions_nc.ndim != 2 or positions_nc.shape[1] != 3:
            raise InputError(f"positions.shape = {positions_nc.shape}; expected (N, 3).")
        if typeid_n.shape != positions_nc.shape[:1]:
            raise InputError(f"typeid.shape = {typeid_n.shape}; expected ({positions_nc.shape[0]},).")
        if not np.isfinite(positions_nc).all():
            bad = int((~np.isfinite(positions_nc).all(axis=1)).sum())
            raise InputError(f"{bad} of {len(positions_nc)} positions are not finite; expected finite numbers.")
        if typeid_n.size and typeid_n.min() < 0:
            raise InputError(f"typeid goes down to {typeid_n.min()}; expected types from 0 up.")
        if not math.isfinite(self.strain):
            raise InputError(f"strain = {self.strain}; expected a finite number.")
        turns = (self.strain - self.box.xy) / self.box.flip
        if not abs(turns - round(turns)) < 1e-9:
            raise InputError(
                f"strain = {self.strain:.12g} and box tilt xy = {self.box.xy:.12g}; expected them equal modulo "
                f"{self.box.flip:.12g}."
            )
        if self.box.dimensions == 2 and positions_nc[:, 2].any():
            raise InputError(
                f"{int((positions_nc[:, 2] != 0.0).sum())} of {len(positions_nc)} particles have z other than 0 in a "
                "two-dimensional box; expected z = 0."
            )
        # Frozen arrays make the value a value: nobody can change a checkpoint by accident.
        positions_nc.flags.writeable = False
        typeid_n.flags.writeable = False
        object.__setattr__(self, "positions", positions_nc)
        object.__setattr__(self, "typeid", typeid_n)
        if self.sizes is not None:
            object.__setattr__(self, "sizes", checked_sizes(self.sizes, len(positions_nc)))

    def _headline(self) -> str:
        what = f"{self.n_particles} particles ({' + '.join(str(count) for count in np.bincount(self.typeid))})"
        if self.sizes is not None:
            what = f"{self.n_particles} particles of sizes {range_of(self.sizes)}"
        return f"{what}, {self.box.edges_in_words}, strain {self.strain:.6g}"

    def _facts(self) -> Mapping[str, Any]:
        return {"density": self.n_particles / self.box.volume, "box": self.box, "strain": self.strain, **self.provenance}

    @property
    def n_particles(self) -> int:
        """Number of particles N."""
        return len(self.positions)

    def moved(self, positions_nc: NDArray[np.float64]) -> Glass:
        """The same glass with its particles at ``positions_nc`` ((N, 3) ndarray [length])."""
        return replace(self, positions=positions_nc)

    def among(self, chosen_n: NDArray[Any]) -> Glass:
        """The glass of some of its particles, by their numbers or a mask ((N,) ndarray of bool)."""
        sizes = None if self.sizes is None else self.sizes[chosen_n]
        return replace(self, positions=self.positions[chosen_n], typeid=self.typeid[chosen_n], sizes=sizes)

    def sheared(self, increment: float) -> Glass:
        """The glass after the affine simple shear x += increment * y; a cube flips when abs(xy) passes 1/2."""
        return self.at_strain(self.strain + increment)

    def at_strain(self, strain: float) -> Glass:
        """The glass sheared affinely to the accumulated ``strain``; the increment is the difference of the strains."""
        increment = strain - self.strain
        box = self.box.sheared(strain, increment)
        positions_nc = self.positions.copy()
        positions_nc[:, 0] += increment * positions_nc[:, 1]
        flipped = abs(box.xy - self.box.xy - increment) > 0.5 * box.flip
        if flipped or abs(box.xz - self.box.xz - increment * box.yz) * box.lz > 0.5 * box.lx:
            # The lattice is the same after a flip; wrapping keeps the unwrapped coordinates from growing.
            positions_nc = box.wrap(positions_nc)
        return replace(self, positions=positions_nc, box=box, strain=strain)

    def mirrored(self) -> Glass:
        """The mirror image y -> -y: tilt, strain and shear stress change sign, energies do not.

        Mirrored twice it is the same.
        """
        positions_nc = self.positions * np.array([1.0, -1.0, 1.0])
        box = replace(self.box, xy=0.0 - self.box.xy, yz=0.0 - self.box.yz)
        return replace(self, positions=positions_nc, box=box, strain=0.0 - self.strain)

    def turned(self, axes: tuple[int, int, int]) -> Glass:
        """The glass with its axes exchanged, so that another plane of it is sheared.

        Args:
            axes: which axis of this glass becomes x (flow), y (gradient) and z.

        Raises:
            InputError: if the axes change and the glass is strained or its box tilted: the tilt would then lie in another plane
                than it does; or if they leave the plane of two dimensions.
        """
        if axes == (0, 1, 2):
            return self
        if sorted(axes) != [0, 1, 2]:
            raise InputError(f"axes = {axes}; expected 0, 1 and 2 in some order.")
        if self.strain != 0.0 or self.box.xy != 0.0:
            raise InputError(
                f"the glass is at strain {self.strain:g} of the plane xy; expected strain 0 where another plane is to be "
                "sheared. Start from the quenched glass."
            )
        if self.box.xz != 0.0 or self.box.yz != 0.0:
            raise InputError(
                f"a box with the tilts xz = {self.box.xz:g}, yz = {self.box.yz:g}; expected none where another plane than xy is "
                "to be sheared."
            )
        if self.box.dimensions == 2 and axes[2] != 2:
            raise InputError(f"axes = {axes} in two dimensions; expected z last.")
        edges = (self.box.lx, self.box.ly, self.box.lz)
        lx, ly, lz = (edges[axis] for axis in axes)
        return replace(self, positions=self.positions[:, list(axes)], box=Box(lx=lx, ly=ly, lz=lz))

    def nonaffine_displacement(self, reference: Glass) -> NDArray[np.float64]:
        """((N, 3) ndarray) displacement since ``reference`` beyond the affine shear between the two strains [length].

        Source: definition of delta r' in Appendix F of the paper; the minimum image is taken in the box of ``self``.
        """
        affine_nc = reference.positions.copy()
        affine_nc[:, 0] += (self.strain - reference.strain) * affine_nc[:, 1]
        return self.box.minimum_image(self.positions - affine_nc)
