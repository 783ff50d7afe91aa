"""The softest quasi-localised mode of one glass of the ensemble, to be looked at in three dimensions."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import polars as pl
from markupsafe import Markup
from matplotlib.figure import Figure
from pydantic import ValidationError

from qlm_hoomd.base.errors import InputError, QlmError
from qlm_hoomd.report.drawn import mark
from qlm_hoomd.report.figures import STYLE
from qlm_hoomd.report.markup import note
from qlm_hoomd.report.numbers import STRAIN_TOLERANCE
from qlm_hoomd.report.results import Results, SectionFigure

MOST_PARTICLES = 8000
"""Largest glass that is shown: more particles fill the page, and hide each other."""
_SAME = 1e-5  # relative difference of an eigenvalue from the one in the table, which is of the same glass


def softest_mode(results: Results) -> SectionFigure | Markup | None:
    """The figure, a note why there is none, or None where there are no modes to choose from.

    Which glass: of the first preparation and strain that have one, the largest size up to :data:`MOST_PARTICLES`, and of its
    realisations the one whose softest quasi-localised mode has the median frequency: a typical one, not the best. Vectors are not kept
    by most runs, so that it is diagonalised again; the eigenvalue must be that of the table.
    """
    found = results.analysis.samples.filter(
        pl.col("quantity") == "omega_min", ~pl.col("censored"), pl.col("n_particles") <= MOST_PARTICLES
    )
    if found.is_empty():
        return None
    preparation, strain = found.row(0, named=True)["preparation"], found.row(0, named=True)["strain"]
    own = found.filter(pl.col("preparation") == preparation, pl.col("strain") == strain)
    size = max(own["n_particles"])
    own = own.filter(pl.col("n_particles") == size).sort("value", "realisation")
    index = int(own["realisation"][(own.height - 1) // 2])
    try:
        return _drawn(results, preparation, size, index, strain)
    except (QlmError, ValidationError, OSError) as error:
        # Where the run lies on this machine is nobody's business who gets the page.
        reason = str(error).splitlines()[0].replace(f"{results.run_of(preparation).directory}/", "")
        return note("The softest mode of {}, N = {}, realisation {} is not shown: {}", preparation, size, index, reason)


def _drawn(results: Results, preparation: str, size: int, index: int, strain: float) -> SectionFigure:
    # Numba comes with these, which no other part of a report needs.
    from qlm_hoomd.gsdio import read_glasses
    from qlm_hoomd.hessian import Hessian
    from qlm_hoomd.model import GlassModel
    from qlm_hoomd.modes import LowestModes
    from qlm_hoomd.view import ModeView

    path: Path = next(r.directory for r in results.realisations if r.key == (preparation, size, index))
    modes = results.tables["modes"].filter(
        pl.col("preparation") == preparation,
        pl.col("n_particles") == size,
        pl.col("realisation") == index,
        (pl.col("strain") - strain).abs() < STRAIN_TOLERANCE,
    )
    local = modes.filter(pl.col("participation_ratio") < results.settings.threshold(size), pl.col("frequency") > 0)
    row = local.sort("eigenvalue").row(0, named=True)
    at_rest = strain == 0.0
    frames = [frame.glass for frame in read_glasses(path / ("quenched.gsd" if at_rest else "sheared.gsd"))]
    glass = next((glass for glass in frames if abs(glass.strain - strain) < STRAIN_TOLERANCE), None)
    if glass is None:
        raise InputError(f"{path.name}: no frame at strain {strain:g}; the mode cannot be computed again.")
    potential = GlassModel.model_validate(dict(results.protocol.get("model") or {})).potential
    tolerance = float((results.stage("modes") or {}).get("force_tolerance", 1e-8))
    number = int(row["index"])
    computed = LowestModes(number + 1).compute(Hessian(potential, force_tolerance=tolerance).compute(glass))
    eigenvalue = float(computed.eigenvalues[number])
    if abs(eigenvalue - row["eigenvalue"]) > _SAME * abs(row["eigenvalue"]):
        raise InputError(
            f"{path.name}: eigenvalue {eigenvalue:.6g} of mode {number}; the table has {row['eigenvalue']:.6g}. The glass in the folder "
            "is not the one that was diagonalised."
        )
    title = f"{preparation}, $N={size}$, $\\gamma={strain:g}$: realisation {index}"
    view = ModeView(
        positions=glass.positions,
        diameters=potential.diameters()[glass.typeid],
        typeid=glass.typeid,
        box=glass.box,
        modes=computed.vectors,
        frequencies=computed.frequencies,
        participation_ratios=computed.participation_ratios,
        title=title,
    )
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 4.9), layout="constrained")
        ax = figure.subplots()
        view.plot(number, ax)
        ax.title.set_fontsize(STYLE["font.size"])
        for artist in ax.collections:
            mark(artist, 1)
    core = len(view.core(number))
    what = (
        f"a core of {core} particles that move at least half as far as the one that moves most"
        if core
        else "no core: it is extended"
    )
    caption = Markup(
        "The softest quasi-localised mode of one glass: {}, <i>N</i> = {}, strain {}, realisation {}, the one whose softest mode has the "
        "median frequency. <i>ω</i> = {:.4g}, participation ratio <i>e</i> = {:.3g}, {}. Arrows: displacements."
    ).format(
        preparation, size, f"{strain:g}", index, float(view.frequencies[number]), float(view.participation_ratios[number]), what
    )
    return SectionFigure(
        "softest_mode", figure, caption, results.glasses_anchor(preparation, size), view.data(number, [number])
    )
