"""A user's script, for the type checker only: `make types` checks it as strictly as its author might."""

from __future__ import annotations

from typing import assert_type

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from numpy.typing import NDArray
from qlm_quasistatic import Instability
from qlm_quasistatic.stage import ShearStage
from qlm_quasistatic.stepper import ShearStep, Stepper
from qlm_quasistatic.strains import StrainGrid
from qlm_rewind import FoldDetector, ThresholdDetector

import qlm_hoomd as qlm
from qlm_hoomd.anharmonic import AnharmonicModes
from qlm_hoomd.engines.cpu import CPUEngine, CPUEngineSettings
from qlm_hoomd.glass import Glass
from qlm_hoomd.hessian import Hessian
from qlm_hoomd.model import GlassModel
from qlm_hoomd.modes import LowestModes
from qlm_hoomd.potentials import KobAndersen
from qlm_hoomd.preparation import Preparation, equilibrate, quench, random_start
from qlm_hoomd.statistics import Exponent, theta_from_gamma_min

# Settings: every key but those without a default may be left out.
model = GlassModel(density=0.9)
engine: CPUEngine = CPUEngineSettings(dt=0.004).build(model)
ThresholdDetector(q_c=10.0)
ShearStage(kind="shear", strain_max=0.1, detector=FoldDetector())
KobAndersen(q=2)
rapid = Preparation(quench="rapid", equilibration_time=20)

# From a liquid to modes.
rng = np.random.default_rng(1)
liquid, dynamics = equilibrate(engine, random_start(model, 500, rng), model, rapid, rng)
glass, _, report = quench(engine, liquid, model, rapid, rng)
assert_type(glass, Glass)
assert_type(report.max_force, float)
hessian = Hessian(model.potential, order=4).compute(glass)
modes = LowestModes(k=10).compute(hessian)
assert_type(modes.frequencies, NDArray[np.float64])
assert_type(modes.plot(), Axes)
assert_type(AnharmonicModes().compute(hessian, modes.vectors).table, pl.DataFrame)

# Shear.
stepper = Stepper(engine)
for item in FoldDetector().follow(stepper, stepper.start(glass), StrainGrid(1e-4, 0.06)):
    if isinstance(item, Instability):
        assert_type(item.strain_c, float)
    else:
        assert_type(item, ShearStep)

# Statistics.
fit = theta_from_gamma_min({500: [0.01, 0.02], 1000: [0.01], 2000: [0.005]})
assert_type(fit.exponent, Exponent)
assert_type(fit.exponent.low, float)
assert_type(fit._repr_html_(), str)

# The front door gives the same objects.
assert_type(qlm.LowestModes(k=3).compute(qlm.Hessian(qlm.GlassModel().potential).compute(glass)), LowestModes)
assert_type(qlm.theta_from_gamma_min({500: [0.01], 1000: [0.005]}).exponent.low, float)
assert_type(qlm.statistics.predicted_alpha(fit.exponent), Exponent)
