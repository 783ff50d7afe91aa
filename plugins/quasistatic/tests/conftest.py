"""A real glass to shear, made once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import hypothesis
import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from qlm_hoomd.engines.cpu import CPUEngineSettings
from qlm_hoomd.model import GlassModel
from qlm_hoomd.preparation import random_start

if TYPE_CHECKING:
    from qlm_hoomd.engines.cpu import CPUEngine
    from qlm_hoomd.glass import Glass

hypothesis.settings.register_profile("qlm", deadline=None)
hypothesis.settings.load_profile("qlm")
threadpool_limits(limits=1)


@pytest.fixture(scope="session")
def model() -> GlassModel:
    """The paper's glass."""
    return GlassModel()


@pytest.fixture(scope="session")
def quenched(model: GlassModel) -> Glass:
    """A rapidly quenched glass of 500 particles."""
    # Equilibrated briefly, so that chaos has no time to make the glasses of two processors different ones.
    engine, rng = CPUEngineSettings().build(model), np.random.default_rng(1)
    liquid, _ = engine.run(random_start(model, 500, rng), duration=1.0, temperature=model.T0, rng=rng)
    return engine.descend(liquid)[0]


@pytest.fixture
def engine(model: GlassModel) -> CPUEngine:
    """An engine without a past."""
    return CPUEngineSettings().build(model)
