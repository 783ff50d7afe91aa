from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from qlm_mesoscopic.errors import ModelError

pytest.importorskip("matplotlib")
from qlm_mesoscopic import plots
from qlm_mesoscopic.master import MasterEquation


def draws(figure) -> None:  # noqa: ANN001
    figure.draw_without_rendering()
    assert all(ax.get_xlabel() for ax in figure.axes if ax.get_label() != "<colorbar>")


def test_flow_has_its_lines_and_states() -> None:
    figure = plots.flow(lambda_min=2.0)
    draws(figure)
    plane, wells = figure.axes
    assert {text.get_text() for text in plane.texts} >= {"A", "B", "C", "D", "B′"}
    assert {text.get_text() for text in wells.texts} == {"A", "B", "C", "D", "B′"}
    phi_0 = plane.lines[0].get_xydata()
    assert phi_0[:, 1] ** 2 == pytest.approx(2 * phi_0[:, 0])
    reinsertion = plane.lines[1].get_xydata()
    assert reinsertion[:, 1] ** 2 == pytest.approx(8 * reinsertion[:, 0] / 3)
    # The marked states are stationary points of the potentials on the right: minima of each curve, but for D.
    for text in wells.texts:
        if text.get_text() != "D":
            curve = min(wells.lines, key=lambda line: np.abs(line.get_xydata() - text.xy).sum(axis=1).min()).get_xydata()
            near = np.abs(curve[:, 0] - text.xy[0]) < 0.2
            assert curve[near, 1].min() == pytest.approx(text.xy[1], abs=1e-3)


def test_curves_show_the_theory_and_the_points() -> None:
    points = plots.Points([0.1, 0.4], [0.1, 0.3], [0.01, 0.02], "measured")
    for figure in (plots.theta_of_noise([points]), plots.alpha_of_theta([points])):
        draws(figure)
        assert "measured" in [text.get_text() for text in figure.axes[0].get_legend().texts]
    slope = np.diff(plots.alpha_of_theta().axes[0].lines[0].get_xydata()[:20], axis=0)
    assert slope[:, 1] / slope[:, 0] == pytest.approx(4.0)
    line = plots.Points([0.1, 0.2, 0.4], [3.5, 3.6, 3.9], None, "an equation")
    legend = plots.alpha_of_theta([points], equation=line).axes[0].get_legend()
    assert "an equation" in [text.get_text() for text in legend.texts]


def test_loading_shows_each_start() -> None:
    equation = MasterEquation(0.1, cells_per_decade=8, widest=0.08)
    curve = equation.load(equation.quench(0.5), 0.5, steps=30)
    figure = plots.loading({"annealed": curve}, {"annealed": (plots.Points([0.1], [0.2]), plots.Points([0.1], [0.05]))})
    draws(figure)
    assert len(figure.axes) == 2


def test_densities_with_and_without_blocks() -> None:
    rng = np.random.default_rng(1)
    lam_n, kappa_n = rng.uniform(0, 1, 1000), rng.uniform(-1, 1, 1000)
    draws(plots.joint_density(0.1))
    both = plots.joint_density(0.1, lam_n, kappa_n)
    draws(both)
    assert "1\u2009000 blocks" in both.axes[1].get_title()
    draws(plots.spectrum(0.1))
    draws(plots.spectrum(0.1, lam_n, kappa_n**2 - 2 * lam_n))
    with pytest.raises(ModelError, match="expected both, of one shape"):
        plots.joint_density(0.1, lam_n)
    with pytest.raises(ModelError, match="expected both, of one shape"):
        plots.spectrum(0.1, lam_n, kappa_n[:-1])
    with pytest.raises(ModelError, match="lambda_min = 0"):
        plots.flow(lambda_min=0.0)


def test_the_model_imports_numpy_alone_and_figures_say_what_they_need() -> None:
    code = """
import sys
for name in ("matplotlib", "scipy", "numba", "qlm_hoomd", "polars", "pydantic"):
    sys.modules[name] = None
import qlm_mesoscopic
from qlm_mesoscopic import block, errors, kinds, lattice, master, meanfield, modes, noise, observables, plots, theory, thermal, witness
try:
    plots.flow()
except errors.ModelError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "matplotlib is not installed; expected it for figures" in done.stdout
