"""Neighbour candidates with a Verlet skin that stays valid under shear."""

# Array names carry their axes: n particles, r runs of the half list, p pairs, c Cartesian components, t type pairs, s shifts.

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from qlm_hoomd.base.errors import BlowUpError, InputError
from qlm_hoomd.numerics import cells, pairs, vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qlm_hoomd.box import Box
    from qlm_hoomd.numerics.laws import Sizes

# A pair of types is one byte.
_MOST_TYPES = 16
# Rounding of a tilt.
_SAME_TILT = 1e-12


def check_types(cutoffs: NDArray[np.float64], typeid: NDArray[np.int32]) -> None:
    """Refuse particles of types that the potential does not know, and more types than pairs of them fit a byte.

    Raises:
        InputError: if there are such.
    """
    n_types = len(cutoffs)
    if n_types > _MOST_TYPES:
        raise InputError(f"the potential knows {n_types} particle types; expected at most {_MOST_TYPES}.")
    if typeid.size and int(typeid.max()) >= n_types:
        raise InputError(
            f"typeid goes up to {int(typeid.max())}; expected less than the {n_types} types that the potential knows."
        )


def known_types(cutoffs: NDArray[np.float64], typeid: NDArray[np.int32], sizes: Sizes | None) -> NDArray[np.int32]:
    """((N,) ndarray) the types of the particles as the loops know them: all one where particles have sizes.

    Raises:
        InputError: as :func:`check_types`.
    """
    if sizes is not None:
        return np.zeros(len(typeid), dtype=np.int32)
    check_types(cutoffs, typeid)
    return np.array(typeid, dtype=np.int32)


def check_box(box: Box, cutoff: float) -> None:
    """Refuse a box in which a particle has two images of another one within the cut-off.

    Raises:
        InputError: if the box is too small.
    """
    if box.nearest_plane_distance < 2.0 * cutoff:
        raise InputError(
            f"opposite faces of the box are {box.nearest_plane_distance:.4g} apart; expected at least twice the cut-off, "
            f"{2.0 * cutoff:.4g}. Use more particles."
        )


class NeighborCandidates:
    """A half list of all pairs that may interact, rebuilt only when it may have become incomplete.

    A pair left out at the build was farther apart than cut-off + skin. Since then the box was sheared by d and the particles
    moved by at most u beyond that, so the pair is now farther apart than s (cut-off + skin) - 2 u, where
    s = sqrt(1 + d^2/4) - |d|/2 is the smallest singular value of the shear. The list is complete while that exceeds the
    cut-off; a check of distances alone would be blind to the tilt.

    Args:
        cutoffs: ((T, T) ndarray) cut-off distance of each pair of types [length]; ((1, 1) ndarray) in units of the length of a
            pair where particles have sizes.
        typeid: ((N,) ndarray of int32) type of each particle; of no account where they have sizes.
        skin: distance beyond the cut-off up to which pairs are listed [length].
        sizes: the sizes of the particles; None where types say it all.
    """

    def __init__(
        self, cutoffs: NDArray[np.float64], typeid: NDArray[np.int32], skin: float, sizes: Sizes | None = None
    ) -> None:
        if not (np.isfinite(skin) and skin >= 0.0):
            raise InputError(f"skin = {skin}; expected a distance >= 0.")
        self._cutoff = float(cutoffs.max()) * (1.0 if sizes is None else sizes.longest)
        self._cutoff_t = cutoffs.ravel()
        self._n_types = len(cutoffs)
        self._typeid_n = known_types(cutoffs, typeid, sizes)
        self.sizes = sizes
        # 1 / l^2 of all candidate pairs, where sizes make their lengths.
        self.inverse_length2_p: NDArray[np.float64] | None = None
        self.skin = self._wanted_skin = skin
        self.n_builds = self._listed = 0
        self._box: Box | None = None

    @property
    def reference(self) -> tuple[NDArray[np.float64], Box] | None:
        """Positions ((N, 3) ndarray [length]) and box for which the list was built; None before that.

        A list that is updated for these first, and then for others, is the same as this one: pairs in the same order, sums to
        the same bits.
        """
        return None if self._box is None else (self._reference_nc, self._box)

    @property
    def wrapped_reference(self) -> tuple[NDArray[np.float64], Box]:
        """As :attr:`reference`, every particle in the image in which it lies in the box."""
        assert self._box is not None
        return self._reference_nc - self._images_nc @ self._box.matrix, self._box

    @property
    def typeid(self) -> NDArray[np.int32]:
        """((N,) ndarray) type of each particle."""
        return self._typeid_n

    @property
    def cutoffs(self) -> NDArray[np.float64]:
        """((T * T,) ndarray) cut-off of each pair of types [length]; in units of its length where particles have sizes."""
        return self._cutoff_t

    def update(self, positions_nc: NDArray[np.float64], box: Box) -> None:
        """Make the list complete for these positions ((N, 3) ndarray, any image [length]) in this box.

        Raises:
            InputError: if the box is too small for the cut-off.
            BlowUpError: if positions are not finite.
        """
        if not self._complete(positions_nc, box):
            self.rebuild(positions_nc, box)

    def folded(self, positions_nc: NDArray[np.float64], box: Box) -> NDArray[np.float64]:
        """((N, 3) ndarray) these positions in the periodic images for which the list was made."""
        folded_nc = np.empty_like(positions_nc)
        pairs.fold_images(positions_nc, self._images_nc, box.matrix, folded_nc)
        return folded_nc

    def pair_vectors(self, positions_nc: NDArray[np.float64], box: Box) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Vectors ((P, 3) ndarray [length]) and squares ((P,) ndarray) of all candidate pairs, in buffers.

        They are valid until the next call.

        The positions are those of the last :meth:`update`. Only who asks for pairs pays for a list of them.
        """
        if self._listed != self.n_builds:
            wrapped_nc, box_then = self.wrapped_reference
            self.owner_r, self.first_r, self.partner_p, self._code_p, self.pairtype_p = cells.half_lists_of(
                wrapped_nc, self._typeid_n, self._n_types, cells.lattice_of(box_then), self._cutoff_t, self.skin, self.sizes
            )
            if self.sizes is not None:
                self.inverse_length2_p = self.sizes.inverse_length2(
                    np.repeat(self.owner_r, np.diff(self.first_r)), self.partner_p
                )
            self._r_pc = np.empty((len(self.partner_p), 3))
            self._r2_p = np.empty(len(self.partner_p))
            self._listed = self.n_builds
        pairs.pair_vectors(
            self.folded(positions_nc, box), self.owner_r, self.first_r, self.partner_p, self._code_p,
            cells.image_shifts(box), self._r_pc, self._r2_p,
        )  # fmt: skip
        return self._r_pc, self._r2_p

    def _complete(self, positions_nc: NDArray[np.float64], box: Box) -> bool:
        then = self._box
        if then is None or (box.lx, box.ly, box.lz, box.yz) != (then.lx, then.ly, then.lz, then.yz):
            return False
        shear = box.xy - then.xy
        # A shear of the plane xy carries a third lattice vector that leans along y with it.
        if abs(box.xz - then.xz - shear * box.yz) > _SAME_TILT:
            return False
        smallest_stretch = math.sqrt(1.0 + 0.25 * shear**2) - 0.5 * abs(shear)
        slack = smallest_stretch * (self._cutoff + self.skin) - self._cutoff
        if slack <= 0.0:
            return False
        square = vectors.largest_nonaffine_square(positions_nc, self._reference_nc, shear)
        if math.isnan(square):
            return False
        return 4.0 * square <= slack**2

    def rebuild(self, positions_nc: NDArray[np.float64], box: Box) -> None:
        """Forget the list: the next one is made for these positions in this box. Raises what :meth:`update` raises."""
        # Beyond a million boxes rounding eats the digits that matter.
        if not np.abs(positions_nc).max() < 1e6 * box.lx:
            raise BlowUpError("positions are not finite or far outside the box: the state blew up. Use a smaller time step.")
        check_box(box, self._cutoff)
        # Cells hold one image of a particle around them: in the smallest boxes a wide skin is cut to what that allows.
        self.skin = min(self._wanted_skin, box.nearest_plane_distance - self._cutoff)
        self._images_nc = box.images(positions_nc)
        self._reference_nc = positions_nc.copy()
        self._box = box
        self.n_builds += 1
