"""Where a power law is read off: the window of frequencies for alpha by a stated rule, and what moving its ends does (App. H).

Array suffixes: ``_r`` realisations, ``_m`` modes, ``_b`` bootstrap samples, ``_w`` windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from qlm_hoomd.base.display import Result, span
from qlm_hoomd.statistics.errors import SEED, Floats
from qlm_hoomd.statistics.exponent import new_axes
from qlm_hoomd.statistics.plane_waves import PHONON_MARGIN, Phonons
from qlm_hoomd.statistics.power_law import alpha_of, fit_power_law, inside, log_length
from qlm_hoomd.statistics.spectra import MIN_MODES, OMEGA_MAX

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GOODNESS = 0.05
"""p-value below which a power law is said not to describe the modes of a window."""
GOODNESS_SAMPLES = 999
"""Samples of the parametric bootstrap behind a p-value: 0.05 is then known to 0.007."""
LOWER_ENDS = tuple(i / 20 for i in range(16))
"""Lower ends that are tried, in units of the upper one."""
UPPER_ENDS = tuple(i / 20 for i in range(8, 33))
"""Upper ends of the scan, in units of the chosen one; those above 1 are there to be seen and decide nothing."""
DECIDES_Z = 3.0
"""Standard deviations of the difference by which alpha must move for the window to decide the answer."""
MIN_DIFFERENCE = 10
"""Two windows that differ by fewer modes are not compared: the difference of their alphas is far from normal then."""
FILTERED_SHARE = 0.2
"""Share of the modes of a window that a filter may take out as plane waves before they are said to reach into it."""
_MIN_SCAN_MODES = 10
_GOODNESS_MODES = 400  # the distribution of the statistic no longer depends on the number of modes beyond


@dataclass(frozen=True, repr=False)
class CutoffScan(Result):
    """alpha for a range of windows: the robustness check of App. H.

    Args:
        lower, upper: ends of each window.
        alpha: maximum-likelihood estimate in it.
        error: its standard error for independent modes.
        n_modes: modes in it.
    """

    lower: tuple[float, ...]
    upper: tuple[float, ...]
    alpha: tuple[float, ...]
    error: tuple[float, ...]
    n_modes: tuple[int, ...]

    def _headline(self) -> str:
        return f"alpha = {span(self.alpha)} in {len(self.alpha)} windows"


class UpperEnd(NamedTuple):
    """Upper end of a window of frequencies, and what set it, in words."""

    omega: float
    limited_by: str


@dataclass(frozen=True, repr=False)
class WindowChoice(Result):
    """The window in which alpha is read off, and what other windows say.

    Args:
        lower, upper: its ends.
        rule: how it was chosen, in words.
        p_value: of the goodness of a power law in it; NaN without enough modes to ask.
        n_modes: modes in it.
        lower_scan: windows that end at ``upper``.
        upper_scan: windows that start at ``lower``.
        p_values: goodness of the windows of ``lower_scan`` that were tried, from 0 upwards: the last is the chosen one.
        other: where the lower end had to be raised, the widest window from 0 in which a power law passes as well, with its
            alpha and standard error: (upper end, alpha, error); else None.
        decided_by: a sentence that says which other window contradicts the chosen one; None where none does.
        refusal: why no window is good enough; None where the chosen one is.
    """

    _also: ClassVar[tuple[str, ...]] = ("decides",)

    lower: float
    upper: float
    rule: str
    p_value: float
    n_modes: int
    lower_scan: CutoffScan
    upper_scan: CutoffScan
    p_values: tuple[float, ...]
    other: tuple[float, float, float] | None
    decided_by: str | None
    refusal: str | None

    def _headline(self) -> str:
        return f"{self.lower:.4g} to {self.upper:.4g}, {self.n_modes} modes: {self.refusal or self.decided_by or self.rule}"

    @property
    def decides(self) -> bool:
        """Whether alpha depends on the window by more than its error allows, so that the window decides the answer."""
        return self.decided_by is not None

    def plot(self, ax: Axes | None = None, **style: Any) -> Axes:
        """Draw alpha against the end that moves, with standard errors; the chosen window is the horizontal line.

        Windows that hold a tenth of the chosen one's modes or fewer say nothing and are left out.

        Args:
            ax: where to draw; a new figure by default.
            style: passed to both calls of ``Axes.errorbar``.

        Returns:
            The axes.
        """
        ax = new_axes() if ax is None else ax
        for scan, ends, marker, label in (
            (self.lower_scan, self.lower_scan.lower, "o", "lower end moved"),
            (self.upper_scan, self.upper_scan.upper, "s", "upper end moved"),
        ):
            kept = [w for w, n in enumerate(scan.n_modes) if n > 0.1 * self.n_modes]
            x, y, error = ([column[w] for w in kept] for column in (ends, scan.alpha, scan.error))
            ax.errorbar(x, y, yerr=error, **{"fmt": marker, "markersize": 4, "capsize": 2, "label": label, **style})
        for w, (lower, upper) in enumerate(zip(self.lower_scan.lower, self.lower_scan.upper, strict=True)):
            if (lower, upper) == (self.lower, self.upper):
                ax.axhline(self.lower_scan.alpha[w], color="0.3", linewidth=1)
        for end in (self.lower, self.upper):
            ax.axvline(end, color="0.6", linestyle=":", linewidth=1)
        ax.set(xlabel=r"end of the window $\omega$", ylabel=r"$\alpha$")
        ax.legend()
        return ax


def window_scan(frequencies: ArrayLike, windows: Sequence[tuple[float, float]]) -> CutoffScan:
    """Maximum-likelihood alpha in each of ``windows``, for a power law that is cut at both ends (App. H).

    Args:
        frequencies: ((n,) array) modes of all realisations together.
        windows: (lower, upper) ends, lower >= 0. Windows with fewer than 10 modes are left out.
    """
    rows = []
    for lower, upper in windows:
        omega_m = inside(frequencies, lower, upper)
        if omega_m.size >= _MIN_SCAN_MODES:
            rows.append((lower, upper, *fit_power_law(omega_m, lower, upper), omega_m.size))
    columns = tuple(zip(*rows, strict=True)) or ((),) * 5
    return CutoffScan(*columns)


def upper_end(complete: float, plane_waves: Phonons | None, omega_max: float | None = None) -> UpperEnd:
    """Upper end of the window: the smallest of what is known completely, what is free of phonons, and what is a power law at all.

    Args:
        complete: frequency up to which every realisation's modes are known.
        plane_waves: of the glass, whose first band times 0.9 is a limit; None where its moduli are unknown.
        omega_max: the user's end, which replaces all limits but completeness; None for the default, omega = 1.
    """
    limits = [UpperEnd(complete, "completeness")]
    if omega_max is not None:
        limits.append(UpperEnd(omega_max, "omega_max"))
    else:
        limits.append(UpperEnd(OMEGA_MAX, f"omega = {OMEGA_MAX:g}"))
        if plane_waves is not None:
            limits.append(UpperEnd(PHONON_MARGIN * plane_waves.first_frequency, "first phonon"))
    return min(limits)


def phonons_reach_in(upper: float, plane_waves: Phonons | None, *, n_modes: int = 0, n_filtered: int = 0) -> str | None:
    """Whether plane waves lie below ``upper``, by two signs; None where neither shows.

    Used for the upper end of a window of the spectrum, and for the frequencies of the softest modes of one size (give their
    upper quantile): a size whose softest quasi-localised modes lie among plane waves hybridises them away.

    Args:
        upper: frequency below which there should be none.
        plane_waves: of the glass; None where its moduli are unknown, so that only the filter can tell.
        n_modes: modes below ``upper``, plane waves included.
        n_filtered: those of them that the filter took out.

    Returns:
        The reason to refuse, or None.
    """
    if plane_waves is not None and upper > PHONON_MARGIN * plane_waves.first_frequency * (1.0 + 1e-9):
        return (
            f"phonons reach into the window: it ends at omega = {upper:.3g}, and the first band at "
            f"{plane_waves.first_frequency:.3g}, broadened by disorder, begins at "
            f"{PHONON_MARGIN * plane_waves.first_frequency:.3g}"
        )
    if n_filtered > FILTERED_SHARE * n_modes > 0:
        return (
            f"phonons reach into the window: the filter took out {n_filtered} of {n_modes} modes below omega = {upper:.3g} "
            f"where at most {100 * FILTERED_SHARE:g} % may be plane waves"
        )
    return None


def power_law_p_value(frequencies: ArrayLike, lower: float, upper: float) -> float:
    """Goodness of a power law on ``lower`` < omega <= ``upper``: its exponent fitted, Anderson-Darling, parametric bootstrap.

    Anderson and Darling's distance between the empirical distribution and the fitted one weighs both ends of the window, where
    strays from a power law begin. The p-value is the share of samples of the fitted law, each with its own fit, that lie at
    least as far from it; modes count as independent.

    Args:
        frequencies: ((n,) array) modes of all realisations together.
        lower: lower end, at least 0.
        upper: upper end.

    Returns:
        The p-value, NaN with fewer than 10 modes.
    """
    omega_m = np.sort(inside(frequencies, lower, upper))
    if omega_m.size < _MIN_SCAN_MODES:
        return np.nan
    length = log_length(lower, upper)
    depth_m = np.log(upper / omega_m[::-1])
    alpha = float(alpha_of(depth_m.mean(), length))
    if not np.isfinite(alpha):
        return 0.0
    rng = np.random.default_rng(SEED)
    n = min(omega_m.size, _GOODNESS_MODES)
    depth_bm = _depths(np.sort(rng.random((GOODNESS_SAMPLES, n)), axis=1), alpha, length)
    distance_b = _anderson_darling(depth_bm, length)
    return float((1 + np.count_nonzero(distance_b >= _anderson_darling(depth_m[None, :], length)[0])) / (1 + GOODNESS_SAMPLES))


def choose_window(
    frequencies: Sequence[ArrayLike], upper: float, *, complete: float | None = None, lower: float | None = None
) -> WindowChoice:
    """The window for alpha: it ends at ``upper``, and starts at the smallest of a row of lower ends from which a power law holds.

    The rule. The upper end is what :func:`upper_end` says. The lower ends tried are 0, 0.05, ..., 0.75 of it, in this order;
    the first one is taken for which the modes above it pass a goodness test of a power law cut at both ends
    (:func:`power_law_p_value`, p >= 0.05), as long as 50 modes stay. Where none passes, the window from 0 is given with a
    refusal.

    The window decides the answer where another window contradicts it: one of the scans inside the chosen window that has at
    least 50 modes and at least 10 fewer than the chosen one, or, where the lower end was raised, the widest window from 0 to a
    lower upper end in which a power law passes too. It contradicts where its alpha differs from the chosen one's by more than
    the 95 % half width of that and by more than 3 standard deviations of the difference. The variance of the difference is the
    sum of the squares of the modes' influence on it; for nested windows its expectation is the difference of the variances.

    What was measured, on 15 kinds of synthetic glasses with alpha of 3, 3.5 and 4, N = 4000 and 16000, 20 to 200 realisations
    and 70 to 720 modes in the window, 500 ensembles each (``tests/physics/coverage_alpha.py``): the lower end is raised in vain
    in 2 to 6 % of them, the window is said to decide in 0 to 3 %, and the intervals of what is then quoted cover the truth in
    93.1 to 95.5 %, where those of the window from 0 without any choice do in 93.6 to 96.0 %. A bend of the spectrum is found
    once its effect on alpha is several times the error, not before: with 300 modes, 3 % more modes at low frequency go
    unnoticed and lower alpha by 0.2.

    Args:
        frequencies: for each realisation its quasi-localised modes ((n,) array each, empty where there are none).
        upper: upper end.
        complete: frequency up to which every realisation's modes are known; the scan goes up to there, or to ``upper``.
        lower: the user's lower end in place of the rule's; the modes above it must pass the same test. The window from 0 is
            given, with a refusal, where they do not or where it is not below ``upper``.

    Raises:
        ValueError: unless ``upper`` is positive and not beyond ``complete``.
    """
    complete = upper if complete is None else complete
    if not 0.0 < upper <= complete:
        raise ValueError(f"{upper=:g}, {complete=:g}; expected 0 < upper <= complete.")
    parts = [np.asarray(values, dtype=np.float64) for values in frequencies]
    omega_m = np.sort(np.concatenate(parts)) if parts else np.empty(0)
    test = f"a power law passes (Anderson-Darling, parametric bootstrap, p >= {GOODNESS:g})"
    if lower is None:
        rule = (
            f"upper end {upper:.3g} given; lower end the smallest of 0, 0.05, ..., 0.75 of it above which {test} and "
            f"{MIN_MODES} modes stay"
        )
    else:
        rule = f"ends {lower:.3g} and {upper:.3g} given; between them {test}"
    chosen_by_rule = lower is None
    lower, p_values, refusal = _lower_end(omega_m, upper) if lower is None else _given_end(omega_m, lower, upper)
    lower_scan = window_scan(omega_m, [(fraction * upper, upper) for fraction in LOWER_ENDS])
    upper_scan = window_scan(
        omega_m, [(lower, end * upper) for end in UPPER_ENDS if lower < end * upper <= max(complete, upper)]
    )
    other = _other_remedy(omega_m, upper) if lower > 0.0 and chosen_by_rule else None
    chosen = window_scan(omega_m, [(lower, upper)])
    return WindowChoice(
        lower=lower,
        upper=upper,
        rule=rule,
        p_value=p_values[-1] if p_values and refusal is None else (p_values[0] if p_values else np.nan),
        n_modes=inside(omega_m, lower, upper).size,
        lower_scan=lower_scan,
        upper_scan=upper_scan,
        p_values=p_values,
        other=other,
        decided_by=_contradiction(omega_m, chosen, (lower_scan, upper_scan), other) if chosen.alpha else None,
        refusal=refusal,
    )


def _lower_end(omega_m: Floats, upper: float) -> tuple[float, tuple[float, ...], str | None]:
    """The smallest lower end from which a power law passes, the p-values on the way to it, and a refusal where there is none."""
    p_values: list[float] = []
    for fraction in LOWER_ENDS:
        lower = fraction * upper
        if inside(omega_m, lower, upper).size < MIN_MODES:
            break
        p_values.append(power_law_p_value(omega_m, lower, upper))
        if p_values[-1] >= GOODNESS:
            return lower, tuple(p_values), None
    if not p_values:
        return 0.0, (), None  # too few modes to ask; the fit itself refuses them
    tried = f"from {LOWER_ENDS[len(p_values) - 1] * upper:.3g} " if len(p_values) > 1 else ""
    return (
        0.0,
        tuple(p_values),
        (
            f"no power law up to omega = {upper:.3g} (p = {p_values[0]:.2g}), nor above any lower end {tried}that leaves "
            f"{MIN_MODES} modes"
        ),
    )


def _given_end(omega_m: Floats, lower: float, upper: float) -> tuple[float, tuple[float, ...], str | None]:
    """The same for a lower end that is given."""
    if lower >= upper:
        return 0.0, (), f"omega_min = {lower:.3g} is not below the upper end of the window, {upper:.3g}"
    if inside(omega_m, lower, upper).size < MIN_MODES:
        return lower, (), None  # too few modes to ask; the fit itself refuses them
    p_value = power_law_p_value(omega_m, lower, upper)
    refusal = f"no power law in {lower:.3g} < omega <= {upper:.3g} (p = {p_value:.2g})" if p_value < GOODNESS else None
    return lower, (p_value,), refusal


def _other_remedy(omega_m: Floats, upper: float) -> tuple[float, float, float] | None:
    """The widest window from 0 to below ``upper`` in which a power law passes and 50 modes stay: its end, alpha, error."""
    for end in (fraction * upper for fraction in reversed(UPPER_ENDS) if fraction < 1.0):
        inside_m = inside(omega_m, 0.0, end)
        if inside_m.size < MIN_MODES:
            break
        if power_law_p_value(inside_m, 0.0, end) >= GOODNESS:
            return (end, *fit_power_law(inside_m, 0.0, end))
    return None


def _contradiction(
    omega_m: Floats, chosen: CutoffScan, scans: Sequence[CutoffScan], other: tuple[float, float, float] | None
) -> str | None:
    """What the worst of the windows that contradict the chosen one says."""
    (lower,), (upper,), (alpha,), (error,), (n_chosen,) = (
        chosen.lower, chosen.upper, chosen.alpha, chosen.error, chosen.n_modes,
    )  # fmt: skip
    rivals = [
        (low, high, value, sigma)
        for scan in scans
        for low, high, value, sigma, n in zip(scan.lower, scan.upper, scan.alpha, scan.error, scan.n_modes, strict=True)
        if lower <= low and high <= upper and MIN_MODES <= n <= n_chosen - MIN_DIFFERENCE
    ]
    if other is not None:
        rivals.append((0.0, *other))
    worst, sentence = DECIDES_Z, None
    own_m = _influence(omega_m, lower, upper, error)
    for low, high, value, sigma in rivals:
        spread = float(np.sqrt(np.sum((own_m - _influence(omega_m, low, high, sigma)) ** 2)))
        z = abs(value - alpha) / spread if spread > 0.0 else 0.0
        if z > worst and abs(value - alpha) > 1.96 * error:
            worst = z
            sentence = (
                f"the window decides the answer: alpha is {alpha:.2f} ± {error:.2f} in ({lower:.2g}, {upper:.2g}], but "
                f"{value:.2f} ± {sigma:.2f} in ({low:.2g}, {high:.2g}], {z:.1f} standard deviations of the difference away"
            )
    return sentence


def _influence(omega_m: Floats, lower: float, upper: float, error: float) -> Floats:
    """By how much each mode moves alpha of a window: (ln omega - <ln omega>) / (n var(ln omega)), and 0 outside."""
    inside_m = (omega_m > lower) & (omega_m <= upper)
    log_m = np.log(np.where(inside_m, omega_m, 1.0))
    return np.where(inside_m, (log_m - log_m[inside_m].mean()) * error**2, 0.0)


def _depths(u: Floats, alpha: float, length: float) -> Floats:
    """Quantiles of the depth at probability ``u``."""
    p = _not_zero(1.0 + alpha)
    return np.asarray(-np.log1p(u * np.expm1(-p * length)) / p)


def _anderson_darling(depth_bm: Floats, length: float) -> Floats:
    """Anderson-Darling distance of each row of depths, ascending, from the power law fitted to it."""
    n = depth_bm.shape[1]
    p = _not_zero(1.0 + alpha_of(depth_bm.mean(axis=1, keepdims=True), length))
    whole = np.expm1(-p * length)
    tiny = np.finfo(np.float64).tiny
    below = np.maximum(np.expm1(-p * depth_bm) / whole, tiny)
    above = np.maximum(np.exp(-p * depth_bm) * np.expm1(-p * (length - depth_bm)) / whole, tiny)
    rank = 2.0 * np.arange(1, n + 1) - 1.0
    return np.asarray(-n - ((np.log(below) + np.log(above[:, ::-1])) @ rank) / n)


def _not_zero(p: ArrayLike) -> Floats:
    """p, moved off the removable singularity at 0 of a distribution that is flat in ln(omega)."""
    p = np.asarray(p, dtype=np.float64)
    return np.where(np.abs(p) < 1e-9, 1e-9, p)
