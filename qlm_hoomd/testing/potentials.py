"""What every pair potential must do."""

# Array names carry their axes: p pairs, k order of the derivative, t particle types.

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from qlm_hoomd.base.registry import POTENTIALS
from qlm_hoomd.numerics.laws import evaluate
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
        assert cutoffs_tt.shape == (self.potential.n_types, self.potential.n_types)
        assert np.array_equal(cutoffs_tt, cutoffs_tt.T)
        assert np.isfinite(cutoffs_tt).all()
        assert (cutoffs_tt >= 0).all()

    def test_derivatives_match_numerical_ones_of_the_order_below(self) -> None:
        """Central differences of fourth order in w = r^2, to a relative 1e-6 of each derivative."""
        for pairtype, cutoff in self._pairs():
            w_p = (cutoff * np.linspace(self.closest, 0.98, 40)) ** 2
            step_p = 1e-3 * w_p
            exact_kp = self._derivatives(w_p, pairtype, MAX_ORDER)
            shifted_kp = {shift: self._derivatives(w_p + shift * step_p, pairtype, MAX_ORDER - 1) for shift in (-2, -1, 1, 2)}
            numerical_kp = (8 * (shifted_kp[1] - shifted_kp[-1]) - (shifted_kp[2] - shifted_kp[-2])) / (12 * step_p)
            for order in range(1, MAX_ORDER + 1):
                # Close to the cut-off derivatives vanish; there the size of the differences' own rounding is what counts.
                rounding_p = 1e-14 * np.abs(exact_kp[order - 1]).max() / step_p
                error_p = np.abs(numerical_kp[order - 1] - exact_kp[order])
                worst = float((error_p / (1e-6 * np.abs(exact_kp[order]) + rounding_p)).max())
                assert worst < 1, f"derivative {order} of pair type {pairtype} is off by {worst:.3g} times the tolerance"

    def test_lower_orders_are_the_first_rows(self) -> None:
        """Asking for fewer derivatives changes none of them."""
        for pairtype, cutoff in self._pairs():
            w_p = (cutoff * np.linspace(self.closest, 1.2, 20)) ** 2
            full_kp = self._derivatives(w_p, pairtype, MAX_ORDER)
            for order in range(MAX_ORDER + 1):
                part_kp = self._derivatives(w_p, pairtype, order)
                assert part_kp.shape == (order + 1, len(w_p))
                # A compiler may add in another order; close to the cut-off, where sums cancel, that shows.
                error_kp = np.abs(part_kp - full_kp[: order + 1])
                assert (error_kp <= 1e-12 * np.abs(part_kp).max(axis=1, keepdims=True)).all(), (
                    f"order {order}, pair type {pairtype}"
                )

    def test_is_zero_beyond_the_cutoff(self) -> None:
        """No interaction beyond the cut-off, in any order."""
        for pairtype, cutoff in self._pairs():
            w_p = (cutoff * np.array([1 + 1e-9, 1.01, 1.5, 10.0])) ** 2
            assert not self._derivatives(w_p, pairtype, MAX_ORDER).any(), f"pair type {pairtype}"

    def test_energy_and_force_are_continuous_at_the_cutoff(self) -> None:
        """A jump there would keep every minimisation from converging."""
        for pairtype, cutoff in self._pairs():
            inside_kp = self._derivatives(np.array([(cutoff * self.closest) ** 2, (cutoff * (1 - 1e-7)) ** 2]), pairtype, 1)
            jump_k = np.abs(inside_kp[:, 1]) / np.maximum(np.abs(inside_kp[:, 0]), 1e-300)
            assert (jump_k < 1e-5).all(), f"pair type {pairtype}: energy and dU/dw jump by {jump_k} of their values inside"

    def test_is_symmetric_in_the_two_types(self) -> None:
        """A pair is the same pair the other way round."""
        n_types = self.potential.n_types
        for first in range(n_types):
            for second in range(first):
                w_p = (self.potential.cutoffs()[first, second] * np.linspace(self.closest, 0.99, 10)) ** 2
                there_kp = self._derivatives(w_p, first * n_types + second, MAX_ORDER)
                back_kp = self._derivatives(w_p, second * n_types + first, MAX_ORDER)
                assert np.array_equal(there_kp, back_kp), f"types {first} and {second}"

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

    def test_leaves_its_arguments_alone(self) -> None:
        """The caller's arrays are not written to."""
        w_p = np.linspace(0.5, 1.0, 5) * self.potential.largest_cutoff**2
        pairtype_p = np.zeros(5, dtype=np.uint8)
        before_p = w_p.copy()
        self.potential.derivatives(w_p, pairtype_p, MAX_ORDER)
        assert np.array_equal(w_p, before_p)
        assert not pairtype_p.any()

    def _pairs(self) -> Iterator[tuple[int, float]]:
        """Pair types that interact, each with its cut-off."""
        for pairtype, cutoff in enumerate(self.potential.cutoffs().ravel()):
            if cutoff > 0:
                yield pairtype, float(cutoff)

    def _derivatives(self, w_p: NDArray[np.float64], pairtype: int, order: int) -> NDArray[np.float64]:
        return self.potential.derivatives(w_p, np.full(len(w_p), pairtype, dtype=np.uint8), order)
