"""The sound speeds from the elastic moduli say where the phonons of a large glass are."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from qlm_hoomd.elasticity import elastic_moduli
from qlm_hoomd.engines.cpu import CPUEngineSettings
from qlm_hoomd.hessian import Hessian
from qlm_hoomd.model import GlassModel
from qlm_hoomd.modes import LowestModes
from qlm_hoomd.preparation import random_start
from qlm_hoomd.statistics import phonons

pytestmark = pytest.mark.physics

MODEL = GlassModel()
N_PARTICLES = 16_000


def _transverse_waves(positions_nc: np.ndarray, length: float) -> np.ndarray:
    """((12, 3N) ndarray) the normalised transverse plane waves of the longest wavelength: three directions, two polarisations, two phases."""
    waves = []
    for axis, polarisation, phase in product(range(3), range(2), (np.cos, np.sin)):
        field_nc = np.zeros_like(positions_nc)
        field_nc[:, (axis + 1 + polarisation) % 3] = phase(2.0 * np.pi / length * positions_nc[:, axis])
        field_nc -= field_nc.mean(axis=0)
        waves.append((field_nc / np.linalg.norm(field_nc)).ravel())
    return np.array(waves)


def test_the_first_band_is_where_the_shear_modulus_says(ledger: Any) -> None:
    rng = np.random.default_rng(16)
    engine = CPUEngineSettings().build(MODEL)
    liquid, _ = engine.run(random_start(MODEL, N_PARTICLES, rng), duration=5.0, temperature=MODEL.T0, rng=rng)
    glass, _ = engine.descend(liquid)
    hessian = Hessian(MODEL.potential).compute(glass)
    moduli = elastic_moduli(hessian.bonds)
    expected = phonons(moduli.shear_modulus_mean, moduli.bulk_modulus, MODEL.density, N_PARTICLES).first_frequency
    modes = LowestModes(60).compute(hessian)
    waves_wd = _transverse_waves(glass.positions, glass.box.length)
    weight_m = ((modes.vectors.reshape(modes.k, -1) @ waves_wd.T) ** 2).sum(axis=1)
    # Most of the twelve waves is in the modes at hand, so their mean frequency is that of the band.
    assert weight_m.sum() > 9.0
    found = float(weight_m @ modes.frequencies / weight_m.sum())
    ledger.note(
        f"first phonon band at N = {N_PARTICLES}: {found:.4f}, expected {expected:.4f} from G = {moduli.shear_modulus_mean:.2f}"
    )
    assert found == pytest.approx(expected, rel=0.02)
