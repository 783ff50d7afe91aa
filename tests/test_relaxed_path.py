"""The relaxed path over a mode: its derivatives against differences, its strain against known energies."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.interpolate import CubicSpline

from qlm_hoomd.anharmonic import ModeExpansion
from qlm_hoomd.hessian import Hessian
from qlm_hoomd.mechanics import Mechanics
from qlm_hoomd.modes import LowestModes
from qlm_hoomd.nonlinear import CubicModes
from qlm_hoomd.relaxed_path import RelaxedPath, relaxed_path

if TYPE_CHECKING:
    from qlm_hoomd.glass import Glass
    from qlm_hoomd.model import GlassModel


def path_of(slope: np.polynomial.Polynomial, coupling: float, bend: float, end: float, points: int = 30) -> RelaxedPath:
    """The path of a known energy with E' = slope, T' = coupling and K' = bend."""
    s_k = np.linspace(0.0, end, points)
    rest_k = np.zeros(points)
    return RelaxedPath(s_k, slope(s_k), np.full(points, coupling), bend * s_k, rest_k, rest_k, "made")


@pytest.mark.parametrize(
    ("curvature", "kappa", "chi", "coupling"), [(2.0, 6.0, 1.5, 4.0), (0.5, 9.0, -3.0, 2.0), (1.0, 3.0, 0.0, 7.0)]
)
def test_strain_of_a_known_energy_is_that_of_its_expansion(curvature: float, kappa: float, chi: float, coupling: float) -> None:
    """lambda s^2/2 - kappa s^3/6 + chi s^4/24 - C gamma s; with chi = 0 its saddle lies at 2 lambda / kappa."""
    slope = np.polynomial.Polynomial([0.0, curvature, -kappa / 2.0, chi / 6.0])
    found = path_of(slope, -coupling, 0.0, 2.0 * curvature / kappa).strain
    mode = ModeExpansion(curvature, kappa, chi, coupling)
    assert found == pytest.approx(mode.cubic_strain if chi == 0.0 else mode.quartic_strain, rel=1e-4)


@pytest.mark.parametrize("bend", [-20.0, 20.0])
def test_second_order_in_strain_counts(bend: float) -> None:
    """E' = s - 3 s^2, at most 1/12, less 2 gamma and with a stiffness K' = bend: 1/12 - 2 gamma + bend gamma^2 / 2 = 0 at the fold."""
    found = path_of(np.polynomial.Polynomial([0.0, 1.0, -3.0]), -2.0, bend, 0.3).strain
    assert found == pytest.approx((2.0 - np.sqrt(4.0 - bend / 6.0)) / bend, rel=1e-3)
    assert found != pytest.approx(1.0 / 24.0, rel=0.1)


def test_a_path_without_an_end_has_no_strain() -> None:
    stiffening = np.polynomial.Polynomial([0.0, 1.0, 0.0, 5.0])
    assert path_of(stiffening, -1.0, 0.0, 1.0).strain is None
    softening = np.polynomial.Polynomial([0.0, 1.0, -3.0])
    assert path_of(softening, -1.0, 0.0, 0.3).strain is not None
    assert path_of(softening, -1.0, 0.0, 0.3, points=3).strain is None


@pytest.fixture(scope="module")
def paths(model: GlassModel, quenched: Glass) -> list[RelaxedPath]:
    hessian = Hessian(model.potential, order=4).compute(quenched)
    modes = CubicModes().compute(hessian, LowestModes(6).compute(hessian))
    mechanics = Mechanics(model.potential, quenched.typeid)
    return [relaxed_path(mechanics, quenched, vector_nc) for vector_nc in modes.vectors]


def test_slopes_of_a_path_are_those_of_its_energy_and_stress(paths: list[RelaxedPath]) -> None:
    long = [path for path in paths if len(path.distance_k) > 7]
    assert long
    for path in long:
        # Up to where the force back is largest; the last points may lie beyond a jump of something else.
        top = int(np.argmax(path.slope_k))
        for values_k, slopes_k in ((path.energy_k, path.slope_k), (path.work_rate_k, path.coupling_k)):
            rise = float(CubicSpline(path.distance_k, slopes_k).integrate(0.0, path.distance_k[top]))
            assert values_k[top] - values_k[0] == pytest.approx(rise, rel=0.01)
        assert all(below < above for below, above in pairwise(path.distance_k))
        assert path.coupling_k[0] < 0.0
        assert abs(path.slope_k[0]) < 1e-6


def test_the_sign_of_a_mode_does_not_matter(model: GlassModel, quenched: Glass) -> None:
    hessian = Hessian(model.potential).compute(quenched)
    mode_nc = LowestModes(1).compute(hessian).vectors[0]
    one, other = (relaxed_path(Mechanics(model.potential, quenched.typeid), quenched, sign * mode_nc) for sign in (2.0, -1.0))
    assert one.end == other.end
    assert one.slope_k == pytest.approx(other.slope_k, rel=1e-6, abs=1e-9)
