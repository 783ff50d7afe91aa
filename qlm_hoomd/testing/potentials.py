"""What every pair potential must do."""

# Array names carry their axes: p pairs, k order of the derivative, t particle types.

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from qlm_hoomd.base.registry import POTENTIALS
from qlm_hoomd.numerics.jit import compiled
from qlm_hoomd.numerics.laws import evaluate, mixed
from qlm_hoomd.potentials import MAX_ORDER
from qlm_hoomd.testing.settings import SettingsConformance

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from pydantic import BaseModel

    from qlm_hoomd.potentials import PairPotential


class PotentialConformance(SettingsConformance):
    """Suite for pair potentials.

    Attributes:
        potential: the potential to test.
        closest: smallest distance tested, in units of the cut-off of the type pair.
    """

    group = POTENTIALS
    potential: ClassVar[PairPotential]
    closest: ClassVar[float] = 0.55

    def settings_under_test(self) -> BaseModel:
        """The potential."""
        return self.potential

    def test_cutoffs_are_a_symmetric_positive_matrix(self) -> None:
        """One finite cut-off for each pair of types, whichever comes first."""
        cutoffs_tt = self.potential.cutoffs()
        n_types = self.potential.n_types
        assert cutoffs_tt.shape == (n_types, n_types), f"cutoffs has the shape {cutoffs_tt.shape}; expected a square matrix"
        assert np.array_equal(cutoffs_tt, cutoffs_tt.T), "the matrix of cut-offs is not symmetric"
        assert np.isfinite(cutoffs_tt).all(), "a cut-off is not finite"
        assert (cutoffs_tt >= 0).all(), "a cut-off is negative"

    def test_derivatives_match_numerical_ones_of_the_order_below(self) -> None:
        """Central differences of fourth order in w = r^2, to a relative 1e-6 of each derivative."""
        for pairtype, cutoff in self._pairs():
            types = divmod(pairtype, self.potential.n_types)
            for order, error in enumerate(derivative_errors(self.potential, *types, cutoff, self.closest), 1):
                assert error < 1e-6, f"derivative {order} of types {types[0]} and {types[1]} is off by {error:.3g} of its size"

    def test_lower_orders_are_the_first_rows(self) -> None:
        """Asking for fewer derivatives changes none of them."""
        for pairtype, cutoff in self._pairs():
            w_p = (cutoff * np.linspace(self.closest, 1.2, 20)) ** 2
            full_kp = self._derivatives(w_p, pairtype, MAX_ORDER)
            assert np.isfinite(full_kp).all(), f"pair type {pairtype}: a derivative is not finite"
            for order in range(MAX_ORDER + 1):
                part_kp = self._derivatives(w_p, pairtype, order)
                assert part_kp.shape == (order + 1, len(w_p)), (
                    f"derivatives to order {order} of {len(w_p)} pairs have the shape {part_kp.shape}; expected "
                    f"{(order + 1, len(w_p))}"
                )
                # A compiler may add in another order; close to the cut-off, where sums cancel, that shows.
                error_kp = np.abs(part_kp - full_kp[: order + 1])
                assert (error_kp <= 1e-12 * np.abs(part_kp).max(axis=1, keepdims=True)).all(), (
                    f"derivatives asked for to order {order} differ from those to order {MAX_ORDER}, pair type {pairtype}"
                )

    def test_is_zero_beyond_the_cutoff(self) -> None:
        """No interaction beyond the cut-off, in any order."""
        for pairtype, cutoff in self._pairs():
            w_p = (cutoff * np.array([1 + 1e-9, 1.01, 1.5, 10.0])) ** 2
            assert not self._derivatives(w_p, pairtype, MAX_ORDER).any(), f"pair type {pairtype} interacts beyond its cut-off"

    def test_energy_and_force_are_continuous_at_the_cutoff(self) -> None:
        """A jump there would keep every minimisation from converging."""
        for pairtype, cutoff in self._pairs():
            types = divmod(pairtype, self.potential.n_types)
            order = order_of_contact(self.potential, *types, cutoff, self.closest)
            assert order >= 1, (
                f"types {types[0]} and {types[1]}: the {'force' if order == 0 else 'energy'} jumps at the cut-off"
            )

    def test_energy_and_force_are_continuous_within_the_cutoff(self) -> None:
        """Nor may they jump where two pieces of a potential meet."""
        for pairtype, cutoff in self._pairs():
            types = divmod(pairtype, self.potential.n_types)
            for order, name in enumerate(("energy", "force")):
                where = jump_within(self.potential, *types, cutoff, self.closest, order)
                assert where is None, f"types {types[0]} and {types[1]}: the {name} jumps at r = {where:.6g}"

    def test_is_symmetric_in_the_two_types(self) -> None:
        """A pair is the same pair the other way round."""
        n_types = self.potential.n_types
        for first in range(n_types):
            for second in range(first):
                w_p = (self.potential.cutoffs()[first, second] * np.linspace(self.closest, 0.99, 10)) ** 2
                there_kp = self._derivatives(w_p, first * n_types + second, MAX_ORDER)
                back_kp = self._derivatives(w_p, second * n_types + first, MAX_ORDER)
                assert np.array_equal(there_kp, back_kp), (
                    f"types {first} and {second} interact otherwise than {second} and {first}"
                )

    def test_scaled_law_says_what_the_derivatives_say(self) -> None:
        """Where there is a law for compiled loops: the same energy, slope and cut-off for each pair of types."""
        law = self.potential.scaled_law()
        if law is None:
            return
        for pairtype, cutoff in self._pairs():
            length2 = 1.0 / law.inverse_length2[pairtype]
            assert abs(law.cutoff2 * length2 / cutoff**2 - 1.0) < 1e-12, f"pair type {pairtype}: another cut-off"
            w_p = (cutoff * np.linspace(self.closest, 0.999, 40)) ** 2
            scale = 1.0 if law.energy is None else law.energy[pairtype]
            law_p2 = np.array([evaluate(law.function, w / length2, law.constants) for w in w_p])
            law_kp = scale * law_p2.T / np.array([[1.0], [length2]])
            exact_kp = self._derivatives(w_p, pairtype, 1)
            # Close to the cut-off, where sums cancel, their rounding is what counts.
            error_k = np.abs(law_kp - exact_kp).max(axis=1) / np.abs(exact_kp).max(axis=1)
            assert (error_k < 1e-12).all(), (
                f"pair type {pairtype}: energy and dU/dw are off by {error_k} of their largest values"
            )

    def test_sizes_make_lengths(self) -> None:
        """Where the law knows sizes: one type, lengths that do not depend on the order, and none longer than those of likes."""
        rule = self.potential.mixing()
        if rule is None:
            return
        assert self.potential.n_types == 1, f"{self.potential.n_types} types of a law that knows sizes; expected one"
        size_n = np.linspace(0.7, 1.6, 19)
        length_nn = self.potential.pair_length(size_n[:, None], size_n)
        assert length_nn.shape == (19, 19), "lengths of a table of sizes are no such table"
        assert np.array_equal(length_nn, length_nn.T), "the length depends on which of two particles comes first"
        own_n = np.diagonal(length_nn)
        assert (np.diff(own_n) > 0.0).all(), "pairs of larger particles are not longer"
        assert (length_nn <= np.maximum(own_n[:, None], own_n) * (1.0 + 1e-12)).all(), (
            "a pair is longer than the larger of its particles with its like"
        )
        in_loops_nn = [[_length(rule.function, a, b, rule.constants) for b in size_n] for a in size_n]
        assert np.allclose(length_nn, in_loops_nn, rtol=1e-14), "lengths in compiled loops are others"

    def test_leaves_its_arguments_alone(self) -> None:
        """The caller's arrays are not written to."""
        w_p = np.linspace(0.5, 1.0, 5) * self.potential.largest_cutoff**2
        pairtype_p = np.zeros(5, dtype=np.uint8)
        before_p = w_p.copy()
        self.potential.derivatives(w_p, pairtype_p, MAX_ORDER)
        assert np.array_equal(w_p, before_p), "derivatives writes to the distances that it is handed"
        assert not pairtype_p.any(), "derivatives writes to the pair types that it is handed"

    def _pairs(self) -> Iterator[tuple[int, float]]:
        """Pair types that interact, each with its cut-off."""
        for pairtype, cutoff in enumerate(self.potential.cutoffs().ravel()):
            if cutoff > 0:
                yield pairtype, float(cutoff)

    def _derivatives(self, w_p: NDArray[np.float64], pairtype: int, order: int) -> NDArray[np.float64]:
        return _of_pair(self.potential, *divmod(pairtype, self.potential.n_types), w_p, order)


@compiled
def _length(function: Any, a: float, b: float, constants: Any) -> Any:
    return mixed(function, a, b, constants)


_HALVINGS = 30
"""Of an interval, a 200th of the cut-off wide: they leave some 1e-12 of it."""


def derivative_errors(potential: PairPotential, first: int, second: int, cutoff: float, closest: float) -> list[float]:
    """Error of each derivative from 1 to 4 beside the central difference of fourth order of the one below, relative to its size.

    What half the step changes of a difference is its own error, and not held against the derivative: close to where a smooth
    potential ends any step is long.

    Args:
        potential: the potential.
        first: type of the first particle.
        second: type of the second.
        cutoff: of the two types [length].
        closest: smallest distance, over the cut-off.
    """
    w_p = (cutoff * np.linspace(closest, max(0.98, 0.5 * (1.0 + closest)), 40)) ** 2
    step_p = np.minimum(5e-4 * w_p, 0.2 * (cutoff**2 - w_p.max()))
    exact_kp = _of_pair(potential, first, second, w_p, MAX_ORDER)
    shifted_kp = {s: _of_pair(potential, first, second, w_p + s * step_p, MAX_ORDER - 1) for s in (-4, -2, -1, 1, 2, 4)}
    wide_kp, narrow_kp = (
        (8 * (shifted_kp[s] - shifted_kp[-s]) - (shifted_kp[2 * s] - shifted_kp[-2 * s])) / (12 * s * step_p) for s in (2, 1)
    )
    # Close to the cut-off derivatives vanish; there the size of the differences' own rounding is what counts.
    rounding_kp = 1e-14 * np.abs(exact_kp[:-1]).max(axis=1, keepdims=True) / step_p
    size_kp = np.abs(exact_kp[1:]) + 1e6 * rounding_kp
    error_kp = np.maximum(np.abs(narrow_kp - exact_kp[1:]) - np.abs(narrow_kp - wide_kp), 0.0)
    return [float(error_p.max()) for error_p in error_kp / np.maximum(size_kp, np.finfo(float).tiny)]


def jump_within(potential: PairPotential, first: int, second: int, cutoff: float, closest: float, order: int) -> float | None:
    """Where a derivative with respect to w jumps closer than the cut-off: a distance [length], None where it does not.

    Between neighbouring distances the derivative changes by the integral of the next one, unless it jumps in between. Halves of
    intervals are halved again until hardly anything but a jump is left; a kink goes with the width.

    Args:
        potential: the potential.
        first: type of the first particle.
        second: type of the second.
        cutoff: of the two types [length].
        closest: smallest distance, over the cut-off.
        order: of the derivative, 0 to 3: 0 for the energy, 1 for the force.
    """
    node_q, weight_q = np.polynomial.legendre.leggauss(6)

    def beyond_integral(left_p: NDArray[np.float64], right_p: NDArray[np.float64]) -> NDArray[np.float64]:
        middle_p, half_p = 0.5 * (left_p + right_p), 0.5 * (right_p - left_p)
        w_pq = middle_p[:, None] + half_p[:, None] * node_q
        slope_p = _of_pair(potential, first, second, w_pq.ravel(), order + 1)[order + 1].reshape(w_pq.shape) @ weight_q
        return value_at(right_p) - value_at(left_p) - half_p * slope_p

    def value_at(w_p: NDArray[np.float64]) -> NDArray[np.float64]:
        return _of_pair(potential, first, second, w_p, order)[order]

    w_p = (cutoff * np.linspace(closest, 1.0 - 1e-7, 200)) ** 2
    largest = np.abs(value_at(w_p)).max()
    left_p, right_p = w_p[:-1], w_p[1:]
    for _ in range(_HALVINGS):
        middle_p = 0.5 * (left_p + right_p)
        in_left_p = np.abs(beyond_integral(left_p, middle_p)) > np.abs(beyond_integral(middle_p, right_p))
        left_p, right_p = np.where(in_left_p, left_p, middle_p), np.where(in_left_p, middle_p, right_p)
    size_p = np.maximum(np.abs(value_at(left_p)), np.abs(value_at(right_p)))
    jumps_p = np.abs(beyond_integral(left_p, right_p)) > 1e-6 * size_p + 1e-12 * largest
    return float(np.sqrt(left_p[jumps_p][0])) if jumps_p.any() else None


def order_of_contact(potential: PairPotential, first: int, second: int, cutoff: float, closest: float) -> int:
    """Highest derivative with respect to w that goes to zero at the cut-off, with all below it; -1 where the energy does not.

    Args:
        potential: the potential.
        first: type of the first particle.
        second: type of the second.
        cutoff: of the two types [length].
        closest: smallest distance over the cut-off; the rounding of what is there is no jump.
    """
    w_p = (cutoff * np.array([closest, 1 - 1e-2, 1 - 1e-7])) ** 2
    closest_k, near_k, end_k = np.abs(_of_pair(potential, first, second, w_p, MAX_ORDER)).T
    # From a hundredth of the cut-off to 1e-7 of it even a root falls by a factor 300.
    jumps_k = end_k > 0.1 * near_k + 1e-12 * closest_k
    return int(np.argmax(jumps_k)) - 1 if jumps_k.any() else MAX_ORDER


def _of_pair(potential: PairPotential, first: int, second: int, w_p: NDArray[np.float64], order: int) -> NDArray[np.float64]:
    pairtype_p = np.full(len(w_p), first * potential.n_types + second, dtype=np.uint8)
    return potential.derivatives(w_p, pairtype_p, order)
