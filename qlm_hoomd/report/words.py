"""Numbers in words: an exponent with its interval, where it comes from, what is to be said of it. No arrays."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isfinite
from typing import Any

from markupsafe import Markup

from qlm_hoomd.report.markup import ALPHA, GAMMA_MIN, OMEGA_MIN, THETA, N, link
from qlm_hoomd.report.numbers import Estimate
from qlm_hoomd.report.results import Results
from qlm_hoomd.statistics import Exponent, FiniteSizeScaling, SpectrumFit


def quoted(results: Results, preparation: str, strain: float) -> list[Estimate]:
    """Theta, the alpha predicted from it, and the two measurements of alpha. With two detectors the first speaks."""
    analysis = results.analysis
    scaled = [
        analysis.find(quantity=quantity, method=name, preparation=preparation, strain=strain)[0]
        for quantity, name in (("theta", "gamma_min"), ("alpha", "prediction"), ("alpha", "omega_min"))
    ]
    return [*scaled, analysis.spectrum_estimate(preparation, strain)]


def source(estimate: Estimate) -> Markup:
    """Where a quoted exponent comes from, in a word or two."""
    return {
        "gamma_min": Markup("from {}").format(GAMMA_MIN),
        "prediction": Markup("predicted"),
        "omega_min": Markup("from {}").format(OMEGA_MIN),
        "spectrum": Markup("from <i>D</i><sub>L</sub>"),
    }[estimate.method]


def where(estimate: Estimate) -> str:
    """The strain, or the range of strains."""
    return f"{estimate.strain:g}" if estimate.pooled is None else f"{estimate.pooled[0]:.3g}–{estimate.pooled[1]:.3g}"


def dimmed(text: str, *, faint: bool) -> Markup:
    """``text``, in grey where it is faint."""
    return Markup('<span class="weak">{}</span>').format(text) if faint else Markup("{}").format(text)


SYMBOLS = {"theta": THETA, "alpha": ALPHA, "theta_prime": Markup("<i>θ′</i>"), "alpha_prime": Markup("<i>α′</i>")}


def method(estimate: Estimate) -> Markup:
    """How an exponent was obtained, in a few words."""
    told = [text for text in (estimate.detector, estimate.directions and several_directions(estimate)) if text]
    by = Markup(" ({})").format(", ".join(told)) if told else Markup("")
    size = Markup(", {} = {}").format(N, estimate.n_particles) if estimate.n_particles else Markup("")
    if estimate.method == "prediction":
        primed = estimate.quantity == "alpha_prime"
        return Markup("{}, from {}{}").format(
            "App. G" if primed else "eq. (9)", SYMBOLS["theta_prime" if primed else "theta"], by
        )
    if estimate.method == "distribution":
        of = Markup("<i>γ</i><sub>min</sub>") if estimate.quantity == "theta_prime" else Markup("<i>ω</i><sub>min</sub>")
        return Markup("distribution of single {}{}").format(of, by)
    return {
        "gamma_min": Markup("scaling of {}{}").format(GAMMA_MIN, by),
        "one_direction": Markup("scaling of {} in the direction of the run alone{}").format(GAMMA_MIN, by),
        "omega_min": Markup("scaling of {}").format(OMEGA_MIN),
        "spectrum": Markup("<i>D</i><sub>L</sub>(<i>ω</i>){}").format(size),
        "unfiltered": Markup("<i>D</i><sub>G</sub>(<i>ω</i>) below the first phonon: no filter{}").format(size),
        "excess": Markup("<i>D</i><sub>G</sub>(<i>ω</i>) above it{}").format(size),
    }[estimate.method]


def several_directions(estimate: Estimate) -> str:
    """How many gamma_min each glass has."""
    return f"{len(estimate.directions)} directions of shear per glass"


def number_with_interval(estimate: Estimate) -> str:
    """The value with its interval, or a dash."""
    return with_interval(estimate.exponent) if estimate.exponent is not None else "–"


def with_interval(exponent: Exponent) -> str:
    """The value with its interval, and with that the theory has no such value where it has none."""
    outside = f", {in_symbols(exponent.outside_theory)}" if exponent.outside_theory else ""
    return f"{two_decimals(exponent.value)} [{two_decimals(exponent.low)}, {two_decimals(exponent.high)}]{outside}"


def two_decimals(value: float) -> str:
    """Two decimals, or infinity for what is as good as it; adding zero turns a rounded -0.0 into 0.0."""
    text = f"{round(value, 2) + 0.0:.2f}" if abs(value) < 100 else f"{'-' * (value < 0)}∞"
    return text.replace("-", "−")


def counts(results: Results, estimate: Estimate) -> Markup:
    """How many realisations are behind an exponent, with links to the lists of them."""
    numbers = estimate.exponent.n_realisations if estimate.exponent is not None else 0

    def listed(size: int, words: Any) -> Markup:
        known = size in results.sizes
        return link(results.glasses_anchor(estimate.preparation, size), words) if known else Markup("{}").format(words)

    if isinstance(numbers, int):
        return listed(estimate.n_particles, numbers) if estimate.n_particles else Markup("{}").format(numbers)
    if len(set(numbers.values())) == 1 and len(numbers) > 1:
        sizes = Markup(", ").join(listed(size, size) for size in numbers)
        return Markup("{} at each {} = {}").format(next(iter(numbers.values())), N, sizes)
    return Markup(", ").join(listed(size, f"{n} at {size}") for size, n in numbers.items())


def remarks(estimate: Estimate) -> str:
    """Why an exponent is withheld, what is behind it, and its warnings."""
    said = []
    if estimate.refusal is not None:
        said.append(
            ("withheld: " if estimate.status == "withheld" else "weak, shown at the protocol's wish: ") + estimate.refusal
        )
    elif isinstance(estimate.fit, SpectrumFit) and estimate.fit.exponent.window is not None:
        lower, upper = estimate.fit.exponent.window
        said.append(f"{estimate.fit.n_modes} modes with {lower:.3g} < ω ≤ {upper:.3g}")
    said.extend(estimate.left_out)
    if estimate.exponent is not None and estimate.method != "prediction":
        said.extend(estimate.exponent.warnings)
    return in_symbols("; ".join(said))


def in_symbols(text: str) -> str:
    """``text`` with Greek letters for their names, as a page can show them; names of settings (omega_max) stay."""
    greek = {"omega": "ω", "theta": "θ", "alpha": "α"}
    return re.sub(r"\b(omega|theta|alpha)\b", lambda found: greek[found[1]], text.replace(">=", "≥").replace("<=", "≤"))


@dataclass(frozen=True)
class Card:
    """What the first screen says of an exponent.

    Args:
        symbol: of the exponent, HTML.
        kind: ``measured`` or ``predicted``.
        status: ``measured``, ``insisted`` or ``withheld``.
        value, interval: in words; without an exponent a dash and nothing. A value that the theory does not have says so behind
            its interval.
        slope: of the log means with its interval, for an exponent that they do not carry.
        method: how it was obtained, HTML.
        sample: how many realisations are behind it, and which sizes were left out.
        refusal: why it is withheld, or weak.
    """

    symbol: Markup
    kind: str
    status: str
    value: str
    interval: str
    slope: str
    method: Markup
    sample: str
    refusal: str


def card(estimate: Estimate) -> Card:
    """The one place that turns an exponent into what the first screen says: what may be quoted, and how, is decided here."""
    value, _, interval = number_with_interval(estimate).partition(" ")
    slope = ""
    if isinstance(fit := estimate.fit, FiniteSizeScaling) and estimate.status == "withheld":
        slope = f"{two_decimals(fit.slope)} [{two_decimals(fit.slope_low)}, {two_decimals(fit.slope_high)}]"
    numbers = estimate.exponent.n_realisations if estimate.exponent else None
    if isinstance(numbers, dict):
        least, most = min(numbers.values()), max(numbers.values())
        each = f"{least if least == most else f'{least}–{most}'} realisations at "
        sample = each + (f"each N = {', '.join(map(str, numbers))}" if len(numbers) > 1 else f"N = {next(iter(numbers))}")
        sample += f", {several_directions(estimate)}" if estimate.directions else ""
    else:
        sample = f"{numbers} realisations" if numbers else ""
    sample = in_symbols("; ".join(filter(None, [sample, *estimate.left_out])))
    return Card(
        symbol=SYMBOLS[estimate.quantity],
        kind="predicted" if estimate.method == "prediction" else "measured",
        status=estimate.status,
        value=value,
        interval=interval,
        slope=slope,
        method=method(estimate),
        sample=sample,
        refusal=in_symbols(estimate.refusal or ""),
    )


def percent(results: Results) -> str:
    """The probability content of the intervals."""
    return f"{100 * results.settings.confidence:g}"


def probability(p: float) -> str | None:
    """A p-value in two digits, None where it is unknown."""
    if not isfinite(p):  # unknown
        return None
    return f"{p:.2g}" if p >= 0.001 else "< 0.001"


def threshold_rule(results: Results) -> Markup:
    """Where the threshold of the participation ratio comes from."""
    if results.settings.participation_threshold is not None:
        return Markup("The protocol sets the threshold.")
    return Markup(
        "The threshold is the paper's, <i>N</i> <i>e</i><sub>c</sub> = 2000, but at most 1/3, half of what a standing plane "
        "wave has."
    )


def window_rule(results: Results) -> Markup:
    """Where the fit window of the spectra ends."""
    complete = Markup("the frequency up to which the modes of <em>every</em> realisation are known")
    if results.settings.omega_max is not None:
        return Markup("The fit window ends at the protocol's omega_max, {:g}, or, if that is lower, at {}.").format(
            results.settings.omega_max, complete
        )
    return Markup(
        "The fit window ends at the lowest of 0.9 of the first phonon frequency, <i>ω</i> = 1 (beyond, the density of this "
        "glass leaves its low-frequency power law), and {}."
    ).format(complete)
