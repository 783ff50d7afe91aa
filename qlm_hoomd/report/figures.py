"""Figures of panels: rows of panels, a column for each preparation, and captions that name what was drawn. No arrays."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import matplotlib as mpl
import polars as pl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qlm_hoomd.report import exponent_panels, mode_panels, panels
from qlm_hoomd.report.axes import ALPHA_RANGE, COLOURS, STYLE, THETA_RANGE, TINY, count_range, legend, limits
from qlm_hoomd.report.drawn import drawn_data
from qlm_hoomd.report.exponent_panels import known, limits_with_room
from qlm_hoomd.report.results import Results, SectionFigure

NARROW, WIDE = 3.7, 7.0
"""Widths of a figure of one column, two of which share a line of the page, and of one that has a line for itself [inch]."""
LETTERS = "abcdefghijklmnopqrstuvwxyz"
MAX_COLUMNS = 4
"""Preparations that share a figure; more would be too small to read."""


class MissingDataError(Exception):
    """Why a figure cannot be drawn."""


Sentence = str | tuple[str, str]
"""HTML of a caption; with a pattern before it, a sentence for artists whose label matches that, if there are any."""


Finish = Callable[[Sequence[Axes], Results], None]


@dataclass(frozen=True)
class Row:
    """What a panel shows of a preparation.

    Args:
        draw: draws it on the axes it is given.
        there: whether there is anything to draw.
        says: the caption.
        height: of the panel [inch].
        finish: gives the panels of one row their common range; by default that of them all.
    """

    draw: Callable[[Axes, Results, str], None]
    there: Callable[[Results, str], object]
    says: tuple[Sentence, ...]
    height: float = 2.6
    finish: Finish | None = None


def _one_range(line: Sequence[Axes], *_: object) -> None:
    """The same range in all panels of a row, so that the preparations can be compared."""
    for ax in line:
        ax.set_ylim(min(other.get_ylim()[0] for other in line), max(other.get_ylim()[1] for other in line))


def _own_range(*_: object) -> None:
    """Each panel as it is."""


_FITS: tuple[Sentence, ...] = (
    "Bars: standard errors of the mean.",
    ("^fit, ", "Lines: the fitted power laws, with the {percent} % interval of the exponent in brackets."),
    ("^weak fit, ", "Dotted: power laws whose exponent is withheld."),
)
_SPECTRA: tuple[Sentence, ...] = (
    "Bars: counting errors.",
    ("^fit, ", "Lines: the fits, with the {percent} % interval of <i>α</i>."),
    ("^weak fit, ", "Dotted: fits whose exponent is withheld."),
    ("^fit range$", "Green marks on the axis: the fit range."),
    ("D_G", "Crosses: <i>D</i><sub>G</sub>, from the first phonon on, all modes less the Debye level, without any filter."),
    ("D_G", "Trust it where a bin holds several bands."),
    ("^Debye", "Grey dotted: the Debye level, the density of the plane waves in a large system."),
    ("^first phonon", "Dash-dotted: the first phonon."),
)
_EXPONENTS: tuple[Sentence, ...] = (
    "Bars and bands: {percent} % intervals; those without bound are not drawn.",
    ("withheld", "Open, faint or dotted in colour: withheld."),
    ("^bars go on", "Those that reach the thin line go on beyond it."),
    ("^level 0.25", "Dashed: <i>θ</i> = 1/4."),
    ("^level [34]", "Dotted in grey: 3 and 4."),
)
_SHOWN = "{shown}"


def _strains(quantity: str) -> Callable[[Results, str], bool]:
    """Whether an exponent can be drawn against strain: one strain makes no curve."""

    def there(results: Results, preparation: str) -> bool:
        return len(results.settings.strains) > 1 and bool(
            known(results.analysis.find(quantity=quantity, preparation=preparation))
        )

    return there


def _minima(quantity: str) -> Callable[[Results, str], bool]:
    return lambda results, preparation: not panels.minima_rows(results, preparation, quantity).is_empty()


def _density(*, sizes: bool) -> Callable[[Results, str], object]:
    return lambda results, preparation: mode_panels.spectra_of(results, preparation, results.settings.shown, sizes=sizes)


def _exponent_range(quantity: str, inner: tuple[float, float], outer: tuple[float, float]) -> Finish:
    """A range that holds what was measured, with room for the legend."""
    return lambda line, results: limits_with_room(line, limits(results.analysis.find(quantity=quantity), inner, outer), 0.42)


ROWS: dict[str, Row] = {
    "stress_strain": Row(
        panels.stress_strain,
        lambda results, name: not results.analysis.stress_strain.filter(preparation=name).is_empty(),
        (
            "Mean stress against strain; number of realisations in brackets.",
            ("standard error", "Bands: standard errors of the mean."),
            (r"realisation \d", "Inset: what <i>γ</i><sub>min</sub> is, on one realisation of the largest size."),
            (r"realisation \d", "It is the one whose <i>γ</i><sub>min</sub> at this strain is the median."),
        ),
        2.75,
    ),
    "gamma_min": Row(
        partial(panels.mean_minima, quantity="gamma_min", others=True),
        _minima("gamma_min"),
        (
            "Mean strain to the next instability against size.",
            *_FITS,
            ("^plateau$", "Grey: other laws at the first strain that allows a comparison."),
            (
                "^plateau$",
                (
                    "Dotted: a plateau of <i>P</i>(<i>x</i>) at small <i>x</i> (slope −1); dashed: a power law that crosses "
                    "over to one."
                ),
            ),
            _SHOWN,
        ),
        3.6,
    ),
    "gamma_min_measured": Row(
        partial(panels.mean_minima, quantity="gamma_min"),
        _minima("gamma_min"),
        ("Mean strain to the next instability against size.", *_FITS),
        3.0,
    ),
    "omega_min": Row(
        partial(panels.mean_minima, quantity="omega_min"),
        _minima("omega_min"),
        ("Mean frequency of the softest quasi-localised mode against size.", *_FITS, _SHOWN),
        3.0,
    ),
    "density": Row(
        partial(mode_panels.density, continuum=True),
        _density(sizes=True),
        (
            "Density of quasi-localised modes, normalised to one over all 3<i>N</i> modes; realisations in brackets.",
            *_SPECTRA,
            _SHOWN,
        ),
        3.6,
    ),
    "density_with_inset": Row(
        partial(mode_panels.density, insets=True),
        _density(sizes=False),
        (
            "Density of quasi-localised modes of the largest size; realisations in brackets.",
            ("^threshold", "Insets: participation ratios at the first strain and their threshold <i>e</i><sub>c</sub>."),
            *_SPECTRA,
        ),
        3.0,
    ),
    "participation": Row(
        mode_panels.participation_and_bands,
        mode_panels.first_spectrum,
        (
            "Participation ratio against frequency, all modes of the largest size.",
            ("^threshold", "Horizontal: the threshold <i>e</i><sub>c</sub>."),
            ("^first phonon", "Dash-dotted: the first phonon, <i>c</i><sub>s</sub> 2π/<i>L</i>."),
            (
                "plane waves",
                "Thin: the further bands of plane waves of the box at this strain, from the measured sound speeds.",
            ),
        ),
        2.9,
        _own_range,
    ),
    "predicted": Row(
        panels.predicted,
        lambda results, name: not panels.predictions(results, name).is_empty(),
        (
            "Observed strain to the first instability against the smallest one at which a mode is to fail under forward shear.",
            ("^equal by cubic", "By cubic modes,"),
            ("^equal by [pq]", "By nonlinear modes,"),
            ("^equal by harmonic", "By harmonic modes,"),
            ("^equal by .*alone$", "at the strain λ²/(2<i>κC</i>). Dashed: equal."),
            (
                "^equal by .*fold$",
                "the fold found from the path over each of them. Glasses without one are left out. Dashed: equal.",
            ),
            ("^equal by .*path$", "the glass followed over each of them at rest, to second order in strain. Dashed: equal."),
            (
                "^equal by .*(?<!alone)(?<!path)(?<!fold)$",
                "to fourth order of the energy along them, the rest of the glass following. Dashed: equal.",
            ),
        ),
        3.2,
        _own_range,
    ),
    "joint": Row(
        mode_panels.joint,
        mode_panels.joint_modes,
        (
            "Modes in the plane of the theory's variables, oriented along forward shear, all sizes together; units in which χ = 1.",
            ("^harmonic modes", "Grey: harmonic modes, not the theory's: they mix with phonons and with one another."),
            "On the outer parabola the theory reinserts what has failed; inside the inner one, Φ = 0, modes pass for passive.",
            "χ is that of the frozen mode. With the rest of the glass following it is smaller and often negative.",
            "That is why glasses fail whose modes all have Φ &lt; 0.",
        ),
        3.2,
        _own_range,
    ),
    "theta": Row(
        exponent_panels.thetas,
        _strains("theta"),
        ("<i>θ</i> from finite-size scaling of ⟨<i>γ</i><sub>min</sub>⟩ against strain.", *_EXPONENTS),
        2.5,
        _exponent_range("theta", *THETA_RANGE),
    ),
    "alpha": Row(
        exponent_panels.alphas,
        _strains("alpha"),
        (
            "<i>α</i> against strain.",
            (r"omega_.mathrm", "Blue: from ⟨<i>ω</i><sub>min</sub>⟩."),
            ("D_L", "Red: from a direct fit of <i>D</i><sub>L</sub> at the largest size that carries one."),
            ("^predicted", "Green: predicted from <i>θ</i>."),
            *_EXPONENTS,
        ),
        2.5,
        _exponent_range("alpha", *ALPHA_RANGE),
    ),
    "softest": Row(
        partial(mode_panels.density, fits=False, softest=True),
        lambda results, name: any(s.softest for s in mode_panels.spectra_of(results, name, results.settings.shown)),
        (
            "<i>D</i><sub>L</sub>(<i>ω</i>) of the largest size (filled), per 3<i>N</i> modes; realisations in brackets.",
            ("^softest", "Open: the density of the softest modes alone."),
            *_SPECTRA,
            ("α′", "Marks in the colours of the strains: fit ranges of <i>α′</i>."),
        ),
    ),
    "gamma_min_distribution": Row(
        panels.gamma_min_distribution,
        panels.distributions,
        (
            "Distribution of the single <i>γ</i><sub>min</sub> of all sizes, each over its median; realisations in brackets.",
            "Bars: counting errors; lines: the fits.",
        ),
    ),
    "theta_prime": Row(
        exponent_panels.theta_primes,
        _strains("theta_prime"),
        (
            "<i>θ′</i> of <i>P</i>(<i>γ</i><sub>min</sub>) ~ <i>γ</i><sub>min</sub><sup><i>θ′</i></sup> against strain.",
            "The minima of all sizes, each over the median of its size, are taken together.",
            *_EXPONENTS,
        ),
        2.3,
        _exponent_range("theta_prime", (-0.4, 0.8), (-0.95, 2.0)),
    ),
    "alpha_prime": Row(
        exponent_panels.alpha_primes,
        _strains("alpha_prime"),
        (
            "<i>α′</i> against strain.",
            ("^measured", "Red: measured, of the softest modes."),
            ("theta'", "Blue: 4<i>θ′</i> + 3."),
            *_EXPONENTS,
        ),
        2.3,
        _exponent_range("alpha_prime", (2.0, 5.0), (0.0, 9.0)),
    ),
    **{
        f"{end}_ends": Row(
            partial(exponent_panels.ends, end=end),
            partial(exponent_panels.scanned, end=end),
            (
                (
                    f"<i>α</i> from the direct fit of <i>D</i><sub>L</sub> when the {end} end of its window moves and the "
                    "other one stays."
                ),
                "Bands: standard errors; windows whose error exceeds 1 are left out. Realisations in brackets.",
                "Neighbouring points share modes. Where a curve is flat the result does not hang on the window.",
                ("^quoted", "Red rings: the windows that are quoted."),
                ("^level", "Dotted: 3 and 4."),
            ),
            2.7,
            _own_range,
        )
        for end in ("lower", "upper")
    },
    "steady_theta": Row(
        exponent_panels.steady_theta,
        lambda results, name: any(exponent_panels.steady_thetas(results, name)),
        (
            "<i>θ</i> at large strains.",
            ("^pooled", "Red: pooled over strains {steady}; each realisation enters once, with its mean over these strains."),
            *_EXPONENTS,
        ),
    ),
    "steady_density": Row(
        mode_panels.steady_density,
        mode_panels.steady_spectra,
        (
            "Density of quasi-localised modes at these strains, filtered at <i>e</i><sub>c</sub>; realisations in brackets.",
            *_SPECTRA,
        ),
    ),
}


def draw(results: Results, name: str, *rows: str, only: Sequence[str] | None = None) -> SectionFigure:
    """A figure of these rows, without the panels and the preparations that have no data.

    Args:
        results: what to draw.
        name: of the figure.
        rows: names of :data:`ROWS`, from the top.
        only: the preparations that may have a column; by default the first :data:`MAX_COLUMNS`.

    Raises:
        MissingDataError: if no panel has data.
    """
    there = {
        (row, preparation): bool(ROWS[row].there(results, preparation))
        for row in rows
        for preparation in (results.preparations[:MAX_COLUMNS] if only is None else only)
    }
    names = [p for p in dict.fromkeys(p for _, p in there) if any(there[row, p] for row in rows)]
    shown = [row for row in rows if any(there[row, p] for p in names)]
    if not shown:
        raise MissingDataError("there are no data for it yet")
    with mpl.rc_context(STYLE):
        # A column that is alone stands beside another figure; several have a line of the page.
        width = NARROW if len(names) == 1 else WIDE * max(1.0, len(names) / 2.5)
        heights = [ROWS[row].height for row in shown]
        figure = Figure(figsize=(width, sum(heights) + 0.35), layout="constrained")
        axes = figure.subplots(len(shown), len(names), squeeze=False, height_ratios=heights)
        letters = iter(LETTERS)
        said = []
        for row, line in zip(shown, axes, strict=True):
            own = []
            for preparation, ax in zip(names, line, strict=True):
                if not there[row, preparation]:
                    ax.remove()
                    continue
                ax.set_label(next(letters))
                ROWS[row].draw(ax, results, preparation)
                own.append(ax)
                first = next(r for r in shown if there[r, preparation]) == row
                words = [_title(results, preparation)] if first else []
                if ax.get_title():
                    words.append(ax.get_title())
                ax.set_title("\n".join(words), fontsize=TINY + 1 if len(words) > 1 else None)
            (ROWS[row].finish or _one_range)(own, results)
            said.append(own)
        if sum(map(len, said)) > 1:
            for ax in (ax for line in said for ax in line):
                letter(ax, ax.get_label())
    text = [
        (f"({', '.join(ax.get_label() for ax in line)}) " if sum(map(len, said)) > 1 else "", ROWS[row].says)
        for row, line in zip(shown, said, strict=True)
    ]
    return SectionFigure(name, figure, caption(results, figure, text))


def caption(results: Results, figure: Figure, parts: Sequence[tuple[str, Sequence[Sentence]]]) -> Markup:
    """The sentences of each part, once each, but for those whose artists the figure does not have.

    Args:
        results: for the words in braces: ``percent``, ``shown`` and ``steady``.
        figure: with everything drawn.
        parts: what stands before the first sentence, and the sentences.
    """
    drawn = drawn_data(figure)["series"].unique().to_list()
    strains, shown = results.settings.strains, results.settings.shown
    steady = results.settings.steady
    words = {
        "percent": f"{100 * results.settings.confidence:g}",
        "shown": f"Shown: {len(shown)} of {len(strains)} strains; the tables have all." if len(shown) < len(strains) else "",
        "steady": ""
        if steady is None
        else f"{steady[0]:.3g} to {steady[1]:.3g} "
        + ("(the protocol's choice)" if results.settings.steady_from is not None else "(the last third of the range)"),
    }
    said: dict[str, None] = {}
    for before, sentences in parts:
        for index, sentence in enumerate(sentences):
            pattern, text = sentence if isinstance(sentence, tuple) else ("", sentence)
            if any(re.search(pattern, label) for label in drawn) and text not in said:
                said[(before if not index else "") + text] = None
    return Markup(" ").join(Markup(text).format(**words) for text in said).strip()  # noqa: S704 our own text


def letter(ax: Axes, name: str) -> None:
    """The letter of a panel, at its upper left corner outside the axes."""
    ax.annotate(
        name,
        (0, 1),
        (-6, 3),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontweight="bold",
        fontsize=10,
    )


def _title(results: Results, preparation: str) -> str:
    """Name of a column: preparation, quench and realisations."""
    settings = results.run_of(preparation).preparations[preparation]
    quench = settings.get("quench") if isinstance(settings, dict) else None
    name = f"{preparation} ({quench} quench)" if quench and quench != preparation else preparation + " quench" * bool(quench)
    return (
        f"{name},\n{count_range(results.analysis, preparation)}"
        if len(results.preparations) > 2
        else (f"{name}, {count_range(results.analysis, preparation)}")
    )


def some(results: Results, figures: dict[str, tuple[str, ...]], numbers: dict[str, str] | None = None) -> list[SectionFigure]:
    """The figures of these names and rows that have data, with the anchors of the tables that have their numbers."""
    found = []
    for name, rows in figures.items():
        try:
            figure = draw(results, name, *rows)
        except MissingDataError:
            continue
        found.append(SectionFigure(name, figure.figure, figure.caption, (numbers or {}).get(name, "")))
    return found


def exponents(results: Results) -> SectionFigure | None:
    """Theta and alpha: measured two ways, beside the prediction (Fig. 3).

    Against strain where there are three strains or more, else one line per preparation and strain.
    """
    analysis = results.analysis
    names = [
        p for p in results.preparations if any(known(analysis.find(quantity=q, preparation=p)) for q in ("theta", "alpha"))
    ]
    if not names:
        return None
    if len(analysis.settings.strains) > 2:
        return draw(results, "exponents", "theta", "alpha")
    with mpl.rc_context(STYLE):
        figure = Figure(layout="constrained")
        exponent_panels.side_by_side(figure, analysis, names)
    return SectionFigure("exponents", figure, caption(results, figure, [("", ("<i>θ</i> and <i>α</i>.", *_EXPONENTS))]))


def structure(results: Results) -> SectionFigure | None:
    """Mean g(r) and S(q) of the largest size, a curve per preparation."""
    functions = results.tables.get("structure_functions")
    if functions is None:
        return None
    size = max(functions["n_particles"])
    functions = functions.filter(n_particles=size)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDE, 2.75), layout="constrained")
        left, right = figure.subplots(1, 2)
        for ax, kind in ((left, "rdf"), (right, "sq")):
            for index, preparation in enumerate(results.preparations):
                own = functions.filter(preparation=preparation, kind=kind)
                if own.is_empty():
                    continue
                # Bins of S(q) sit at the mean wavenumber in them, equal for equal boxes up to rounding.
                mean = own.with_columns(pl.col("x").round(9)).group_by("x").agg(pl.col("y").mean()).sort("x")
                label = f"{preparation} ({own['realisation'].n_unique()})"
                colour = COLOURS[index % len(COLOURS)]
                ax.plot(mean["x"].to_numpy(), mean["y"].to_numpy(), color=colour, linewidth=1, label=label)
            legend(ax, title=f"$N={size}$ (realisations)")
        left.set(xlabel="distance $r$", ylabel="$g(r)$", xlim=(0.5, None))
        right.set(xlabel="wavenumber $q$", ylabel="$S(q)$", xlim=(0, None))
    words = "Mean pair correlation and structure factor of the quenched samples; number of realisations in brackets."
    return SectionFigure("structure", figure, words)
