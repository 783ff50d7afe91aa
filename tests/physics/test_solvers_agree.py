"""Two eigensolvers that share nothing but the Hessian find the same modes of a large glass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from qlm_hoomd.engines.cpu import CPUEngineSettings
from qlm_hoomd.hessian import Hessian
from qlm_hoomd.modes import LowestModes
from qlm_hoomd.preparation import random_start

if TYPE_CHECKING:
    from qlm_hoomd.model import GlassModel

pytestmark = pytest.mark.physics


def test_filter_and_sparse_factor_agree_at_16000(model: GlassModel) -> None:
    """The factor takes minutes and gigabytes, which is why the filter exists."""
    engine = CPUEngineSettings().build(model)
    glass, _ = engine.descend(random_start(model, 16_000, np.random.default_rng(16)))
    hessian = Hessian(model.potential).compute(glass)
    filtered, factored = LowestModes(20, "filter").compute(hessian), LowestModes(20, "factor").compute(hessian)
    np.testing.assert_allclose(filtered.eigenvalues, factored.eigenvalues, rtol=1e-10)
    for modes in (filtered, factored):
        vectors_md = modes.vectors.reshape(20, -1)
        np.testing.assert_allclose(vectors_md @ vectors_md.T, np.eye(20), atol=1e-10)
        assert modes.residuals.max() < 1e-8 * hessian.bonds.largest_eigenvalue()
