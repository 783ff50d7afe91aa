"""The numerical twins: right potentials pass and say how smooth they are, wrong ones are named with what is wrong."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import pytest

from qlm_hoomd.errors import InputError, PluginError
from qlm_hoomd.model import GlassModel
from qlm_hoomd.potentials import Harmonic, Hertzian, InversePowerLaw, KobAndersen, PairPotential
from qlm_hoomd.testing import check_potential


@pytest.mark.parametrize(
    ("potential", "closest", "continuous_to"),
    [
        (GlassModel().potential, 0.55, 3),
        (InversePowerLaw(n=10, q=4, x_c=1.5, lengths=((1.0,),)), 0.55, 4),
        (KobAndersen(q=2), 0.34, 2),
        (KobAndersen(q=0), 0.34, 0),  # its force jumps, as its users know
        (Harmonic(sigma=((1.0, 1.2), (1.2, 1.4))), 0.55, 1),
        (Hertzian(epsilon=3.0, sigma=((1.0, 1.2), (1.2, 1.4))), 0.55, 2),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, PairPotential) else str(value),
)
def test_right_potentials_pass_and_say_how_smooth_they_are(
    potential: PairPotential, closest: float, continuous_to: int
) -> None:
    found = check_potential(potential, closest=closest)
    assert found.continuous_to == continuous_to
    assert set(found.errors) >= {"derivative 4", "forces", "shear stress", "pressure", "Hessian", "fourth derivative"}
    assert max(found.errors.values()) < 1e-6
    assert found.max_force > 1e-3  # no minimum, where errors of the force would not show
    assert f"derivatives continuous to order {continuous_to}" in repr(found)


class Crooked(InversePowerLaw):
    """The paper's potential with one fault at a time."""

    kind: Literal["inverse_power_law"] = "inverse_power_law"
    fault: str = ""

    def cutoffs(self) -> Any:
        cutoffs_tt = super().cutoffs()
        if self.fault == "cutoffs":
            cutoffs_tt[0, 1] *= 1.01
        if self.fault == "no interaction":
            cutoffs_tt *= 0.0
        return cutoffs_tt

    def derivatives(self, r2_p: Any, pairtype_p: Any, order: int) -> Any:
        out_kp = super().derivatives(r2_p, pairtype_p, order)
        if self.fault.startswith("order ") and order >= int(self.fault[-1]):
            out_kp[int(self.fault[-1])] *= 1 + 1e-5
        if self.fault == "large systems" and len(r2_p) > 100:
            out_kp[1:] *= 1 + 1e-5
        if self.fault == "tail":
            out_kp[0] += 1e-3
        if self.fault == "asymmetry":
            out_kp *= 1 + 1e-3 * (pairtype_p == 1)
        if self.fault == "jump":
            out_kp[0] += np.where(out_kp[0] != 0, 1e-3, 0)
        if self.fault == "jump within":
            out_kp[0] += 1e-3 * (r2_p < (0.81111 * self.cutoffs().ravel()[pairtype_p]) ** 2)
        if self.fault == "single precision":
            out_kp = out_kp.astype(np.float32)
        if self.fault == "writes":
            r2_p *= 1.0 + 1e-9
        if self.fault == "derivative of r":
            out_kp[1:2] *= 2 * np.sqrt(r2_p)
        if self.fault == "not a number":
            out_kp[0] = np.nan
        if self.fault == "shape":
            return out_kp[:, :1]
        if self.fault == "raises":
            raise RuntimeError("no licence")
        return out_kp


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("order 1", "derivative 1 of phi with respect to w = r"),
        ("order 2", "derivative 2 of phi .* for types 0 and 0"),
        ("order 3", "derivative 3 of phi"),
        ("order 4", "derivative 4 of phi"),
        ("derivative of r", "derivative 1 of phi"),
        ("large systems", "forces of a disordered frame of 64 particles is off by"),
        ("tail", "pair type 0 interacts beyond its cut-off"),
        ("asymmetry", "types 1 and 0 interact otherwise than 0 and 1"),
        ("jump", "the energy jumps at the cut-off"),
        ("cutoffs", "the matrix of cut-offs is not symmetric"),
        ("no interaction", "all cut-offs are 0"),
        ("jump within", r"the energy jumps at r = 1\.(2|41|6)\d* for types"),
        ("not a number", "a derivative is not finite"),
        ("single precision", "is off by"),
        ("writes", "derivatives writes to the distances that it is handed"),
        ("shape", "have the shape"),
        ("raises", "RuntimeError from its methods .no licence."),
    ],
)
def test_wrong_potentials_are_named_with_what_is_wrong(fault: str, sentence: str) -> None:
    wrong = Crooked(**GlassModel().potential.model_dump(), fault=fault)
    with pytest.raises(PluginError, match=rf"^Crooked: .*{sentence}"):
        check_potential(wrong)


def test_what_is_no_potential_or_no_distance_is_said_first() -> None:
    with pytest.raises(InputError, match=r"KobAndersen is a class; expected a potential"):
        check_potential(KobAndersen)  # type: ignore[arg-type]
    for closest in (-1.0, 0.0, 5.0):
        with pytest.raises(InputError, match="expected a part of the cut-off"):
            check_potential(KobAndersen(q=2), closest=closest)


class Power(PairPotential):
    """phi = 10 (1 - r^2)^m [energy] up to r = 1: as smooth as you like, and nothing is left for long before the cut-off."""

    kind: Literal["power"] = "power"
    m: int = 5
    cutoff: float = 1.0

    def cutoffs(self) -> Any:
        return np.array([[self.cutoff]])

    def derivatives(self, r2_p: Any, pairtype_p: Any, order: int) -> Any:
        overlap_p = np.maximum(1.0 - r2_p, 0.0)
        return np.array([10.0 * math.perm(self.m, k) * (-1.0) ** k * overlap_p ** (self.m - k) for k in range(order + 1)])


@pytest.mark.parametrize(("m", "cutoff"), [(5, 1.0), (8, 1.0), (12, 1.0), (5, 1.2), (8, 1.5)])
def test_a_potential_may_fade_as_smoothly_as_it_likes(m: int, cutoff: float) -> None:
    """The steps of the differences are long where it fades, and that is no fault of its own."""
    assert check_potential(Power(m=m, cutoff=cutoff)).continuous_to == 4


@pytest.mark.parametrize("closest", [0.01, 0.3, 0.95])
def test_the_frame_stays_small_wherever_particles_come(closest: float) -> None:
    assert check_potential(Power(m=5), closest=closest).n_particles < 200


class Stiffer(Harmonic):
    """Derivatives of its own, and the law of its parent for molecular dynamics."""

    def derivatives(self, r2_p: Any, pairtype_p: Any, order: int) -> Any:
        return 1.5 * super().derivatives(r2_p, pairtype_p, order)


def test_another_law_in_compiled_loops_is_found() -> None:
    with pytest.raises(PluginError, match=r"^Stiffer: pair type 0: energy and dU/dw are off by"):
        check_potential(Stiffer(sigma=((1.0, 1.2), (1.2, 1.4))))


class Pieces(Power):
    """With another piece close by, whose value and slope go over into the first ones: the curvature jumps."""

    def derivatives(self, r2_p: Any, pairtype_p: Any, order: int) -> Any:
        inner_p = np.maximum(0.5 - r2_p, 0.0)
        powers = np.array([math.perm(2, k) * (-1.0) ** k * (inner_p ** (2 - k) if k < 2 else inner_p > 0) for k in range(3)])
        out_kp = super().derivatives(r2_p, pairtype_p, order)
        out_kp[:3] += powers[: order + 1]
        return out_kp


def test_pieces_may_meet_in_a_kink_of_the_force() -> None:
    assert check_potential(Pieces()).continuous_to == 1
