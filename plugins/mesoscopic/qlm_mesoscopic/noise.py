"""Mechanical noise of a failing block: heavy-tailed kicks for all the others, of zero sum by construction.

A kick zeta has the density (A / N) |zeta|^(-1 - mu) between the lower cut-off zeta_c = (2 A / (mu N))^(1 / mu), where one kick
per block and failure is used up, and the upper cut-off; what lies beyond the upper one is put on it, so that the rate of kicks
across any smaller distance is untouched. mu = dimension / decay of the kernel: 1 for the Eshelby kernel in any dimension.

Blocks are kicked in pairs, one by +zeta and the other by -zeta, and the partners change from failure to failure: the stress of
the system is conserved to the last bit of each sum, without the shift of everybody that subtracting a sample mean would bring
(the mean of N Cauchy numbers is as wide as one of them). Nothing is approximated: every kick is drawn, none is lumped into a
Gaussian.
"""

# Array names carry their axes: n blocks, p pairs.

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qlm_mesoscopic.errors import ModelError
from qlm_mesoscopic.theory import check_mu

_FEWEST_BLOCKS = 4
_STEPS = 2.0**31


class LevyKicks:
    """The kicks that one failure gives to all other blocks.

    Args:
        n_blocks: number of blocks N, even, at least 4.
        amplitude: A, at least 0; 0 is a model without interactions.
        mu: exponent of the noise, from 1 to 2.
        upper_cutoff: largest kick; the default crosses the whole range between two yield stresses at -1 and +1.

    Raises:
        ModelError: for values outside these ranges.
    """

    def __init__(self, n_blocks: int, amplitude: float, mu: float = 1.0, upper_cutoff: float = 2.0) -> None:
        if n_blocks < _FEWEST_BLOCKS or n_blocks % 2:
            raise ModelError(
                f"{n_blocks} blocks; expected an even number, at least {_FEWEST_BLOCKS}: they are kicked in pairs."
            )
        if not (np.isfinite(amplitude) and amplitude >= 0.0):
            raise ModelError(f"amplitude A = {amplitude}; expected a finite number, at least 0.")
        check_mu(mu)
        self.amplitude, self.mu, self.upper_cutoff = float(amplitude), float(mu), float(upper_cutoff)
        self.lower_cutoff = (2.0 * amplitude / (mu * n_blocks)) ** (1.0 / mu)
        if not (np.isfinite(upper_cutoff) and upper_cutoff > self.lower_cutoff):
            raise ModelError(
                f"upper cut-off {upper_cutoff}; expected a finite number above the lower one, which is "
                f"{self.lower_cutoff:g} for A = {amplitude:g}, mu = {mu:g} and {n_blocks} blocks."
            )
        self._kick_p = np.empty(n_blocks // 2)

    def __repr__(self) -> str:
        return f"LevyKicks(n_blocks={2 * self._kick_p.size}, amplitude={self.amplitude}, mu={self.mu}, upper_cutoff={self.upper_cutoff})"

    def add(self, rng: np.random.Generator, stress_n: NDArray[np.float64], source: int, strength: float = 1.0) -> None:
        """Kick everybody but the source, and its partner of the moment, in place.

        Args:
            rng: source of randomness.
            stress_n: stresses, shape (N,); changed.
            source: index of the block that failed.
            strength: factor of each kick; the amplitude grows as its power mu.
        """
        if self.amplitude == 0.0:
            return
        kick_p = self._kick_p
        half = kick_p.size
        # A symmetric power law from u uniform on (-1, 1): zeta_c sign(u) |u|^(-1/mu). Four bytes per pair, taken as an integer,
        # are half the cost of a double, and fine enough: at the upper cut-off u still has hundreds of steps for 10^6 blocks. A
        # zero gives infinity, and that the cut-off.
        raw_p = rng.bit_generator.random_raw((half + 1) // 2).view(np.int32)[:half]
        scale = self.lower_cutoff * strength
        with np.errstate(divide="ignore"):
            if self.mu == 1.0:
                np.divide(scale * _STEPS, raw_p, out=kick_p)
            else:
                np.divide(raw_p, _STEPS, out=kick_p)
                np.copysign(scale * np.abs(kick_p) ** (-1.0 / self.mu), kick_p, out=kick_p)
        np.clip(kick_p, -self.upper_cutoff, self.upper_cutoff, out=kick_p)
        turn = int(rng.integers(half))
        kick_p[source if source < half else (source + turn) % half] = 0.0
        # Pair p is block p of the first half and block p - turn of the second.
        first_n, second_n = stress_n[:half], stress_n[half:]
        first_n += kick_p
        second_n[: half - turn] -= kick_p[turn:]
        second_n[half - turn :] -= kick_p[:turn]
