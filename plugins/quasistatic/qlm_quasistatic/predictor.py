"""Where a state on an elastic branch will be at another strain, from where it was before."""

# Array names carry their axes: n particles, c Cartesian components.

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qlm_hoomd.numerics import vectors

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

# Beyond this the pairs that cross the cut-off, where the forces are smooth to third order only, leave nothing to gain.
_HIGHEST_ORDER = 7


def pulled_back(vector_nc: NDArray[np.float64], strain: float) -> NDArray[np.float64]:
    """A displacement ((N, 3) ndarray) of the glass at ``strain`` in the coordinates (x - strain y, y, z) of the unsheared one."""
    back_nc = vector_nc.copy()
    back_nc[:, 0] -= strain * vector_nc[:, 1]
    return back_nc


def pushed_forward(vector_nc: NDArray[np.float64], strain: float) -> NDArray[np.float64]:
    """The inverse of :func:`pulled_back`."""
    return pulled_back(vector_nc, -strain)


@dataclass(frozen=True, slots=True, eq=False)
class Branch:
    """The last states of an elastic branch, as divided differences of their positions q(gamma) in unsheared coordinates.

    The polynomial through them is Newton's: q(gamma) = q_0 + sum over k of difference_k (gamma - gamma_0) ... (gamma -
    gamma_k-1), gamma_0 being the strain of the last state, gamma_1 of the one before. What a polynomial that stops at order p
    leaves out is measured by the terms that follow, so the series is stopped before its smallest terms: no more than the
    branch is smooth, and no more than the differences of states converged to a finite force are accurate.

    Args:
        strains: of the states, the last one first.
        differences: ((N, 3) ndarrays) divided differences of order 1, 2, ... ending at the last state [length / strain^k].
        sizes: root sum of squares of each difference.
    """

    strains: tuple[float, ...]
    differences: tuple[NDArray[np.float64], ...] = ()
    sizes: tuple[float, ...] = ()

    def extended(self, strain: float, displacement_nc: NDArray[np.float64]) -> Branch:
        """The branch with one more state.

        Args:
            strain: of the new state.
            displacement_nc: ((N, 3) ndarray) its non-affine displacement since the last one [length].
        """
        difference_nc = pulled_back(displacement_nc, strain) / (strain - self.strains[0])
        differences = [difference_nc]
        for older_nc, older_strain in zip(self.differences[: _HIGHEST_ORDER - 1], self.strains[1:], strict=False):
            difference_nc = (difference_nc - older_nc) / (strain - older_strain)
            differences.append(difference_nc)
        strains = (strain, *self.strains)[: _HIGHEST_ORDER + 1]
        return Branch(
            strains, tuple(differences), tuple(math.sqrt(vectors.inner_product(array_nc, array_nc)) for array_nc in differences)
        )

    def displacement(self, strain: float) -> NDArray[np.float64] | None:
        """((N, 3) ndarray) non-affine displacement from the last state to the one at ``strain`` [length].

        None without a past.
        """
        factors = list(itertools.accumulate((strain - known for known in self.strains), lambda a, b: a * b))
        sum_nc = self._sum(factors)
        return None if sum_nc is None else pushed_forward(sum_nc, strain)

    def velocity(self) -> NDArray[np.float64] | None:
        """((N, 3) ndarray) non-affine displacement per strain at the last state [length]; None without a past."""
        gaps = (self.strains[0] - known for known in self.strains[1:])
        sum_nc = self._sum([1.0, *itertools.accumulate(gaps, lambda a, b: a * b)])
        return None if sum_nc is None else pushed_forward(sum_nc, self.strains[0])

    def _sum(self, factors: Sequence[float]) -> NDArray[np.float64] | None:
        """The terms difference_k factor_k up to where the series is best stopped."""
        if not self.differences:
            return None
        terms = [abs(factor) * size for factor, size in zip(factors, self.sizes, strict=False)]
        order = _order(terms)
        sum_nc = factors[0] * self.differences[0]
        for factor, difference_nc in itertools.islice(zip(factors, self.differences, strict=False), 1, order):
            sum_nc += factor * difference_nc
        return sum_nc


def _order(terms: Sequence[float]) -> int:
    """How many terms to sum: the error is about the larger of the first two terms left out, as one may be small by chance."""
    errors = [max(terms[order : order + 2]) for order in range(1, len(terms))]
    # Where the series ends still falling, its next term would have been smaller yet.
    falling = len(terms) == 1 or terms[-1] < 0.5 * terms[-2]
    errors.append(0.5 * terms[-1] if falling else math.inf)
    return 1 + min(range(len(errors)), key=lambda k: errors[k] if math.isfinite(errors[k]) else math.inf)
