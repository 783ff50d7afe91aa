"""What a pair potential is."""

# Array names carry their axes: p pairs, k order of the derivative, l power of w in the smoothing, t particle types
# (one t: pairs of types in the order of pairtype), x distances in units of the cut-off.

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import AfterValidator, BeforeValidator, ConfigDict
from pydantic_core import PydanticCustomError

from qlm_hoomd.base.errors import InputError
from qlm_hoomd.base.settings import Settings
from qlm_hoomd.glass import checked_sizes, range_of
from qlm_hoomd.numerics.laws import Mixing, ScaledLaw, Sizes, mixed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qlm_hoomd.glass import Glass

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

    A potential that knows the size of each particle says by :meth:`mixing` how two sizes make the length l of a pair. It is
    phi(r) = f(r^2 / l^2) then, and cut-offs, derivatives and law are those of f, at unit length, for the one type 0: types are
    names for it, and nothing more.
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

    def mixing(self) -> Mixing | None:
        """How the sizes of two particles make the length of their pair; None for a law that knows types alone."""
        return None

    @property
    def sized(self) -> bool:
        """Whether this law knows the sizes of single particles."""
        return self.mixing() is not None

    def pair_length(self, a: Any, b: Any) -> Any:
        """The length of pairs of particles of sizes ``a`` and ``b``, numbers or arrays [length].

        Raises:
            InputError: if this law knows types alone.
        """
        rule = self.mixing()
        if rule is None:
            raise InputError(
                f"{type(self).__name__} knows types and no sizes; expected a potential that makes lengths of sizes."
            )
        return mixed(rule.function, a, b, rule.constants)

    def sizes_of(self, sizes: NDArray[np.float64] | None, n_particles: int) -> Sizes | None:
        """The sizes of N particles as the loops know them; None where types say it all. Here they and the law have to agree.

        Args:
            sizes: ((N,) ndarray) those of the glass, or None [length].
            n_particles: N.

        Raises:
            InputError: if the glass has sizes and the law does not know them, or the other way round, or sizes so different
                that they make no length.
        """
        rule, name = self.mixing(), type(self).__name__
        if sizes is None:
            if rule is None:
                return None
            raise InputError(
                f"the particles have no sizes, of which {name} makes the length of each pair; expected a glass with sizes: "
                "Glass(..., sizes=...), or a GSD file with diameters. With lengths by types it is inverse_power_law."
            )
        size_n = checked_sizes(sizes, n_particles)
        if rule is None:
            raise InputError(
                f"the particles have sizes of their own, {range_of(size_n)}, and {name} knows types alone; expected a potential "
                "that knows sizes, e.g. soft_spheres. To take all particles of a type as one size drop them: "
                "--ignore-diameters, or replace(glass, sizes=None) in a script."
            )
        smallest, largest = size_n.min(initial=np.inf), size_n.max(initial=0.0)
        if size_n.size and not self.pair_length(smallest, largest) > 0.0:
            raise InputError(
                f"sizes {range_of(size_n)} of particles make pairs of length {self.pair_length(smallest, largest):.4g} with "
                f"{name}; expected sizes closer to each other, or in other units."
            )
        return Sizes(size_n, rule)

    def reach(self, sizes: NDArray[np.float64] | None = None) -> float:
        """The largest cut-off distance among particles of these sizes ((n,) ndarray), or of all types [length]."""
        if not self.sized or sizes is None:
            return self.largest_cutoff
        largest = sizes.max()
        return self.largest_cutoff * float(self.pair_length(largest, largest))

    def jumps_at_cutoff(self, order: int) -> bool:
        """Whether the derivative of this order (1: force, 2: Hessian, 3: kappa) of phi(r) jumps at the cut-off of a pair.

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
        _, first_tx, second_tx, third_tx = self.derivatives(r_tx.ravel() ** 2, pairtype_tx, 3).reshape(4, *r_tx.shape)
        # From derivatives with respect to r^2 to those with respect to r.
        derivative_tx = {
            1: 2.0 * r_tx * first_tx,
            2: 2.0 * first_tx + 4.0 * r_tx**2 * second_tx,
            3: 12.0 * r_tx * second_tx + 8.0 * r_tx**3 * third_tx,
        }[order]
        return derivative_tx[:, 0] / np.maximum(np.abs(derivative_tx[:, 1:]).max(axis=1), np.finfo(float).tiny)

    def diameters(self) -> NDArray[np.float64]:
        """((T,) ndarray) size of a particle of each type in a picture [length]; the physics does not use it."""
        return np.diagonal(self.cutoffs()).copy()

    def drawn_diameters(self, glass: Glass) -> NDArray[np.float64]:
        """((N,) ndarray) size of each particle in a picture [length]: its own, or that of its type."""
        return self.diameters()[glass.typeid] if glass.sizes is None else glass.sizes

    @property
    def n_types(self) -> int:
        """Number of particle types T."""
        return len(self.cutoffs())

    @property
    def largest_cutoff(self) -> float:
        """Largest cut-off distance of all type pairs [length]; of a law that knows sizes, in units of the length of a pair."""
        return float(self.cutoffs().max())
