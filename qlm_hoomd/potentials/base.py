"""What a pair potential is."""

# Array names carry their axes: p pairs, k order of the derivative, l power of w in the smoothing, t particle types
# (one t: pairs of types in the order of pairtype), x distances in units of the cut-off.

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import AfterValidator, BeforeValidator, ConfigDict
from pydantic_core import PydanticCustomError

from qlm_hoomd.base.settings import Settings
from qlm_hoomd.numerics.laws import ScaledLaw

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_ORDER = 4


def _rows(value: Any) -> Any:
    if not (isinstance(value, list | tuple) and all(isinstance(row, list | tuple) for row in value)):
        raise PydanticCustomError(
            "matrix_type",
            "Input should be a matrix, a row and a column for each type of particle: [[1]], [[1, 1.2], [1.2, 1.4]]",
        )
    return value


def _symmetric(value: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
    if not value or {len(row) for row in value} != {len(value)}:
        raise ValueError("expected a square matrix, one row for each particle type")
    matrix_tt = np.array(value)
    if not (np.isfinite(matrix_tt).all() and (matrix_tt > 0).all()):
        raise ValueError("expected a matrix of positive numbers")
    if not np.array_equal(matrix_tt, matrix_tt.T):
        raise ValueError("expected a symmetric matrix")
    return value


Matrix = Annotated[tuple[tuple[float, ...], ...], BeforeValidator(_rows), AfterValidator(_symmetric)]
"""A positive number for each pair of particle types, symmetric."""


class PairPotential(Settings):
    """A pair potential phi(r; type pair), cut off at a finite distance.

    Subclasses are pydantic models with a literal ``kind`` (the name in protocols), :meth:`cutoffs` and :meth:`derivatives`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    type_names: ClassVar[tuple[str, ...]] = ()
    """Names of the particle types 0, 1, ... where the law has names for them: files of others are read by these."""

    @abstractmethod
    def cutoffs(self) -> NDArray[np.float64]:
        """((T, T) ndarray) symmetric matrix of cut-off distances [length] of the T particle types."""

    @abstractmethod
    def derivatives(self, r2_p: NDArray[np.float64], pairtype_p: NDArray[np.uint8], order: int) -> NDArray[np.float64]:
        """Energy and its derivatives with respect to w = r^2.

        Args:
            r2_p: ((P,) ndarray) squared distances [length^2].
            pairtype_p: ((P,) ndarray of uint8) type of the first particle * T + type of the second.
            order: highest derivative, 0 to 4.

        Returns:
            ((order + 1, P) ndarray) d^k phi / dw^k [energy / length^(2k)]; zero beyond the cut-off.
        """

    def scaled_law(self) -> ScaledLaw | None:
        """Energy and force as a law that compiled loops can hold, which makes molecular dynamics many times as quick.

        None where there is no such law; :meth:`derivatives` gives the forces then.
        """
        return None

    def jumps_at_cutoff(self, order: int) -> bool:
        """Whether the derivative of this order (1: force, 2: Hessian) of phi(r) jumps at the cut-off of a pair of types.

        What counts as a jump is 1e-4 of what the derivative is further in.
        """
        return bool((np.abs(self._end_of(order)) > 1e-4).any())

    def repels_up_to_cutoff(self) -> bool:
        """Whether two particles of some types repel each other up to the cut-off, where the force ends in a jump.

        The energy then has a kink at the cut-off, and a convex one: minima lie in it, where the force is either too large or
        missing, so that a glass never comes to rest. Where the particles attract each other at the cut-off the kink is concave
        and holds no minimum.
        """
        return bool((self._end_of(1) < -1e-4).any())

    def _end_of(self, order: int) -> NDArray[np.float64]:
        """((T^2,) ndarray) d^order phi / dr^order just within the cut-off, by its largest size further in."""
        x_x = np.array([1.0 - 1e-10, *np.linspace(0.6, 0.95, 15)])
        cutoff_t = self.cutoffs().ravel()
        r_tx = cutoff_t[:, None] * x_x
        pairtype_tx = np.repeat(np.arange(len(cutoff_t), dtype=np.uint8), len(x_x))
        _, first_p, second_p = self.derivatives(r_tx.ravel() ** 2, pairtype_tx, 2)
        # From derivatives with respect to r^2 to those with respect to r.
        derivative_tx = 2.0 * first_p.reshape(r_tx.shape) * (r_tx if order == 1 else 1.0)
        if order == 2:
            derivative_tx += 4.0 * r_tx**2 * second_p.reshape(r_tx.shape)
        return derivative_tx[:, 0] / np.maximum(np.abs(derivative_tx[:, 1:]).max(axis=1), np.finfo(float).tiny)

    def diameters(self) -> NDArray[np.float64]:
        """((T,) ndarray) size of a particle of each type in a picture [length]; the physics does not use it."""
        return np.diagonal(self.cutoffs()).copy()

    @property
    def n_types(self) -> int:
        """Number of particle types T."""
        return len(self.cutoffs())

    @property
    def largest_cutoff(self) -> float:
        """Largest cut-off distance of all type pairs [length]."""
        return float(self.cutoffs().max())
