"""A quasi-localised mode of one glass of the ensemble, to be looked at in three dimensions.

Arrays are those of the view of a mode.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import polars as pl
from markupsafe import Markup
from matplotlib.figure import Figure
from pydantic import ValidationError

from qlm_hoomd.base.errors import InputError, QlmError
from qlm_hoomd.report.axes import STYLE
from qlm_hoomd.report.drawn import mark
from qlm_hoomd.report.markup import note
from qlm_hoomd.report.numbers import STRAIN_TOLERANCE
from qlm_hoomd.report.results import Results, SectionFigure

MOST_PARTICLES = 8000
"""Largest glass that is shown: more particles fill the page, and hide each other."""
_SAME = 1e-5  # relative difference of an eigenvalue from the one in the table, which is of the same glass


def localised_mode(results: Results) -> SectionFigure | Markup | None:
    """The figure, a note why there is none, or None where there are no modes to choose from.

    Of the first preparation and strain that have one, and the largest size up to :data:`MOST_PARTICLES`, the mode that moves
    the fewest particles: the smallest N e among those that pass the filter and lie in the fit window, or below the softest
    phonons where the window is empty. Vectors are not kept by most runs, so that it is diagonalised again; the eigenvalue must
    be that of the table.
    """
    found = results.analysis.samples.filter(
        pl.col("quantity") == "omega_min", ~pl.col("censored"), pl.col("n_particles") <= MOST_PARTICLES
    )
    if found.is_empty():
        return None
    preparation, strain = found.row(0, named=True)["preparation"], found.row(0, named=True)["strain"]
    size = max(found.filter(preparation=preparation, strain=strain)["n_particles"])
    own = results.tables["modes"].filter(
        (pl.col("strain") - strain).abs() < STRAIN_TOLERANCE,
        pl.col("participation_ratio") < results.settings.threshold(size),
        pl.col("frequency") > 0,
        preparation=preparation,
        n_particles=size,
    )
    spectrum = next(
        s for s in results.analysis.spectra if (s.preparation, s.strain, s.n_particles) == (preparation, strain, size)
    )
    low = own.filter(pl.col("frequency") <= spectrum.window.upper)
    row = (low if not low.is_empty() else own).sort("participation_ratio", "realisation", "index").row(0, named=True)
    index = int(row["realisation"])
    try:
        return _drawn(results, row, strain)
    except (QlmError, ValidationError, OSError) as error:
        # Where the run lies on this machine is nobody's business who gets the page.
        reason = str(error).splitlines()[0].replace(f"{results.run_of(preparation).directory}/", "")
        return note(
            "The most localised mode, of {}, N = {}, realisation {}, is not shown: {}", preparation, size, index, reason
        )


def _drawn(results: Results, row: Mapping[str, Any], strain: float) -> SectionFigure:
    # Numba comes with these, which no other part of a report needs.
    from qlm_hoomd.gsdio import read_glasses
    from qlm_hoomd.hessian import Hessian
    from qlm_hoomd.model import GlassModel
    from qlm_hoomd.modes import LowestModes
    from qlm_hoomd.view import ModeView

    preparation, size, index = key = (str(row["preparation"]), int(row["n_particles"]), int(row["realisation"]))
    path: Path = next(r.directory for r in results.realisations if r.key == key)
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
            f"{path.name}: eigenvalue {eigenvalue:.6g} of mode {number}; the table has {row['eigenvalue']:.6g}. The glass "
            "in the folder is not the one that was diagonalised."
        )
    title = f"{preparation}, $N={size}$, $\\gamma={strain:g}$: realisation {index}"
    view = ModeView(
        positions=glass.positions,
        diameters=potential.drawn_diameters(glass),
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
        "The most localised of the low modes: of all glasses of {}, <i>N</i> = {}, strain {}, the quasi-localised mode of "
        "the fit window with the smallest participation ratio. Realisation {}, <i>ω</i> = {:.4g}, <i>e</i> = {:.3g}, <i>N "
        "e</i> = {:.0f}, {}. Arrows: displacements."
    ).format(
        preparation,
        size,
        f"{strain:g}",
        index,
        float(view.frequencies[number]),
        float(view.participation_ratios[number]),
        size * float(view.participation_ratios[number]),
        what,
    )
    return SectionFigure(
        "localised_mode", figure, caption, results.glasses_anchor(preparation, size), view.data(number, [number])
    )
