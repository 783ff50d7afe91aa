"""The pictures of the documentation, all drawn by the tool itself.

`python docs/pictures.py` renews overview.png, which the README shows.
"""

# Array names carry their axes: m modes, n particles, c Cartesian components.

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
import polars as pl
from matplotlib import pyplot as plt
from qlm_mesoscopic import plots
from qlm_quasistatic import Instability, Stepper
from qlm_quasistatic.strains import StrainGrid
from qlm_rewind import FoldDetector

from qlm_hoomd.engines.cpu import CPUEngine
from qlm_hoomd.hessian import Hessian
from qlm_hoomd.model import GlassModel
from qlm_hoomd.modes import LowestModes, participation_ratio
from qlm_hoomd.preparation import Preparation, equilibrate, quench, random_start
from qlm_hoomd.view import ModeView

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from qlm_hoomd.glass import Glass

MODEL = GlassModel()
ENGINE = CPUEngine(MODEL.potential)


def draw(folder: Path) -> None:
    """Draw what is not there yet into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "flow.svg").exists():
        plots.flow().savefig(folder / "flow.svg")
    if not (folder / "alpha.svg").exists():
        plots.alpha_of_theta().savefig(folder / "alpha.svg")
    if not (folder / "fold.svg").exists():
        _fold(folder / "fold.svg")
    if not (folder / "prediction.svg").exists():
        _prediction(folder / "prediction.svg")


def glass_of(n_particles: int, seed: int) -> Glass:
    """A rapidly quenched glass of the paper's model."""
    rng = np.random.default_rng(seed)
    rapid = Preparation(quench="rapid", equilibration_time=10)
    liquid, _ = equilibrate(ENGINE, random_start(MODEL, n_particles, rng), MODEL, rapid, rng)
    return quench(ENGINE, liquid, MODEL, rapid, rng)[0]


def view_of(glass: Glass, fields_mnc: np.ndarray, frequencies_m: np.ndarray) -> ModeView:
    """Fields of a glass, ready to be drawn."""
    return ModeView(
        glass.positions,
        MODEL.potential.diameters()[glass.typeid],
        glass.typeid,
        glass.box,
        fields_mnc,
        frequencies_m,
        participation_ratio(fields_mnc),
        "",
    )


def overview(path: Path) -> None:
    """A quasi-localised mode, the stress of that glass under shear, and the mode's curvature on the way to its instability."""
    glass = glass_of(2000, 7)
    modes = LowestModes(k=20).compute(Hessian(MODEL.potential).compute(glass))
    softest = int(modes.participation_ratios[:3].argmin())
    stepper = Stepper(ENGINE)
    start = stepper.start(glass)
    strains, stresses, events = [0.0], [start.observables.stress_xy], []
    for item in FoldDetector(overlaps=()).follow(stepper, start, StrainGrid(1e-4, 0.03)):
        if isinstance(item, Instability):
            events.append(item.strain_c)
        else:
            strains.append(item.after.strain)
            stresses.append(item.after.observables.stress_xy)
    with mpl.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4.9), layout="constrained", width_ratios=(1, 1.05))
        view_of(glass, modes.vectors, modes.frequencies).plot(softest, left)
        size = modes.participation_ratios[softest] * glass.n_particles
        left.set_title(
            f"A quasi-localised mode, N = {glass.n_particles}\nω = {modes.frequencies[softest]:.2f}, N e = {size:.0f}",
            loc="left",
            fontsize=11,
        )
        _stress(right, strains, stresses, events)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _stress(ax: Axes, strains: list[float], stresses: list[float], events: list[float]) -> None:
    for strain in events:
        ax.axvline(strain, color="#d55e00", lw=0.8, alpha=0.5, zorder=0)
    ax.plot(strains, stresses, lw=1.2, color="#1f4e79")
    ax.set(xlabel="strain γ", ylabel="shear stress Σ")
    ax.set_title(
        f"The same glass under shear:\n{len(events)} instabilities, each located to 1e-10 in strain", loc="left", fontsize=11
    )


def _fold(path: Path) -> None:
    """The energy along the critical mode at four distances from a fold, and the curvature on the way."""
    glass = glass_of(500, 8)
    stepper = Stepper(ENGINE)
    start = stepper.start(glass)
    _, fold = FoldDetector().locate_next(stepper, start, StrainGrid(1e-4, 0.2))
    assert fold is not None
    distances = np.geomspace(2e-3, 1e-6, 10)
    stops = tuple(float(strain) for strain in fold.strain_c - distances)
    followed = FoldDetector().follow(stepper, start, StrainGrid(1e-4, stops[-1], stops))
    states = [step.after for step in followed if not isinstance(step, Instability) and step.after.strain in stops]
    lambda_s = [LowestModes(1).compute(Hessian(MODEL.potential).compute(state.glass)).eigenvalues[0] for state in states]
    s = np.linspace(-0.3, 0.3, 400)
    with mpl.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "svg.fonttype": "path"}):
        figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
        for tilt, label in ((4e-4, "4e-4"), (1.5e-4, "1.5e-4"), (0.0, "0, the fold")):
            left.plot(s, fold.kappa * s**3 / 6 - fold.coupling * tilt * s, label=label)
        left.set(xlabel="displacement s along the critical mode", ylabel="energy", ylim=(-0.02, 0.02))
        left.legend(title="strain to the fold", frameon=False)
        right.loglog(distances, lambda_s, "o", color="#1f4e79", label="lowest eigenvalue")
        right.loglog(distances, np.sqrt(2 * fold.kappa * fold.coupling * distances), "k-", lw=1, label="normal form")
        right.set(xlabel="strain to the fold", ylabel="lowest eigenvalue λ of the Hessian")
        right.legend(frameon=False)
    figure.savefig(path)
    plt.close(figure)


def _prediction(path: Path) -> None:
    """Where the glasses of prediction.csv failed, against where their cubic modes are to fail."""
    glasses = pl.read_csv(Path(__file__).with_name("prediction.csv"))
    series = (
        ("cubic", "x", "#999999", "λ²/(2κC)"),
        ("path", "+", "#d55e00", "path over the mode, at rest"),
        ("fold", "o", "#1f4e79", "fold found from the path"),
    )
    with mpl.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "svg.fonttype": "path"}):
        figure, axes = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained", sharex=True, sharey=True)
        for ax, preparation in zip(axes, ("rapid", "slow"), strict=True):
            own = glasses.filter(preparation=preparation)
            for name, marker, colour, label in series:
                some = own.drop_nulls(name)
                ax.loglog(some[name], some["observed"], marker, color=colour, ms=5, alpha=0.8, label=f"{label} ({some.height})")
            ax.loglog([5e-4, 0.15], [5e-4, 0.15], color="black", lw=0.8, ls="--", zorder=0)
            ax.set(xlabel="predicted strain to the first instability", title=f"{own.height} glasses, {preparation} quench")
            ax.legend(frameon=False, fontsize=8)
        axes[0].set(ylabel="observed", xlim=(2e-4, 0.3), ylim=(5e-4, 0.15))
    figure.savefig(path)
    plt.close(figure)


if __name__ == "__main__":
    mpl.use("agg")
    overview(Path(__file__).parent / "overview.png")
