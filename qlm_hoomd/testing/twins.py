"""Numerical twins: everything that the program derives from a pair potential, computed a second time from the energy alone."""

# Array names carry their axes: n particles, c Cartesian components, t particle types, s steps of a difference.

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from qlm_hoomd.base.display import Displayed
from qlm_hoomd.base.errors import InputError, PluginError
from qlm_hoomd.box import Box
from qlm_hoomd.glass import Glass
from qlm_hoomd.mechanics import bonds_of
from qlm_hoomd.potentials import MAX_ORDER, Harmonic
from qlm_hoomd.testing.potentials import PotentialConformance, derivative_errors, jump_within, order_of_contact

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qlm_hoomd.mechanics import Bonds
    from qlm_hoomd.potentials import PairPotential

_CHECKS = (
    "test_cutoffs_are_a_symmetric_positive_matrix",
    "test_leaves_its_arguments_alone",
    "test_lower_orders_are_the_first_rows",
    "test_is_zero_beyond_the_cutoff",
    "test_is_symmetric_in_the_two_types",
    "test_sizes_make_lengths",
)
# Of the frame: strain, largest displacement of a particle from its lattice site over the lattice constant, and number of tries.
_STRAIN, _DISORDER, _TRIES = 0.13, 0.08, 200
# Of a potential that knows sizes, from the smallest to the largest.
_SIZES = 0.9, 1.0
# Over the largest cut-off: pairs need not come closer than this in the frame, whose size grows as its third power.
_CLOSE = 0.4
# Displacement of the differences over the largest cut-off. So small that in some frame no pair crosses its cut-off, where
# derivatives may jump; the rounding of the energy, 1e-16, then leaves ten digits of its derivative.
_STEP = 1e-5


@dataclass(frozen=True, repr=False)
class PotentialCheck(Displayed):
    """What :func:`check_potential` found.

    Args:
        errors: by quantity how far the analytical value is from the numerical one, relative to the size of the quantity.
        continuous_to: highest derivative that is continuous at all cut-offs and closer: 1 for the force, 2 for the Hessian; 4
            for all.
        n_particles: size of the frame.
        n_pairs: interacting pairs in it.
        max_force: largest force in it [energy / length].
    """

    errors: Mapping[str, float]
    continuous_to: int
    n_particles: int
    n_pairs: int
    max_force: float

    def _headline(self) -> str:
        worst = max(self.errors, key=lambda name: self.errors[name])
        return (
            f"largest relative error {self.errors[worst]:.1e} ({worst}), derivatives continuous to order {self.continuous_to}; "
            f"{self.n_pairs} pairs of {self.n_particles} particles"
        )

    def _facts(self) -> Mapping[str, Any]:
        return {**self.errors, "continuous to": self.continuous_to, "max|F|": self.max_force}


def check_potential(
    potential: PairPotential, *, closest: float = 0.55, tolerance: float = 1e-6, seed: int = 0
) -> PotentialCheck:
    """Compare all that follows from a pair potential with finite differences of fourth order.

    For each pair of types the derivatives of phi with respect to w = r^2, up to the fourth. In a disordered frame under stress
    and strain, with every type in it: forces, shear stress and pressure from the energy, Hessian from the forces, and the third
    and fourth derivatives of U along a random direction from those below them. Also that cut-offs are symmetric, nothing is
    left beyond them, the energy is continuous there and closer, compiled loops are handed the same law, and that answers depend
    on nothing but the arguments.

    Args:
        potential: an object, registered or not.
        closest: smallest distance that is looked at, in units of the cut-off; where phi is too steep for your particles to
            come, there is nothing to look at.
        tolerance: largest relative error.
        seed: of the frame.

    Raises:
        InputError: for a class in place of a potential, or a ``closest`` that is no part of the cut-off.
        PluginError: with the quantity that is wrong, by how much, and where.
    """
    if isinstance(potential, type):
        raise InputError(
            f"{potential.__name__} is a class; expected a potential, e.g. check_potential({potential.__name__}(...))."
        )
    if not 0.0 < closest < 1.0:
        raise InputError(f"closest = {closest:g}; expected a part of the cut-off, between 0 and 1.")
    name = type(potential).__name__
    suite = type(name, (PotentialConformance,), {"potential": potential, "closest": closest})()
    for check in _CHECKS:
        _held(name, getattr(suite, check))
    errors: dict[str, float] = {}
    contact = MAX_ORDER
    for first, second, cutoff in _interacting(potential):
        found = _held(name, partial(derivative_errors, potential, first, second, cutoff, closest))
        for order, error in enumerate(found, 1):
            key = f"derivative {order}"
            errors[key] = max(errors.get(key, 0.0), error)
            if not error <= tolerance:
                raise PluginError(
                    f"{name}: derivative {order} of phi with respect to w = r^2 is off by {error:.2g} of its size for types "
                    f"{first} and {second}; expected at most {tolerance:g} beside the difference of derivative {order - 1}."
                )
        contact = min(contact, order_of_contact(potential, first, second, cutoff, closest))
        for order in range(MAX_ORDER):
            where = _held(name, partial(jump_within, potential, first, second, cutoff, closest, order))
            if where is not None and order == 0:
                raise PluginError(
                    f"{name}: the energy jumps at r = {where:.6g} for types {first} and {second}; expected a continuous one."
                )
            if where is not None:
                contact = min(contact, order - 1)
    if contact < 0:
        raise PluginError(f"{name}: the energy jumps at the cut-off; expected a shift that brings it to zero there.")
    _held(name, suite.test_scaled_law_says_what_the_derivatives_say)
    frame = _frame(potential, closest, seed)
    bonds = bonds_of(frame, potential, MAX_ORDER)
    for quantity, error in _of_frame(frame, potential, bonds, np.random.default_rng(seed)).items():
        errors[quantity] = error
        if not error <= tolerance:
            raise PluginError(
                f"{name}: {quantity} of a disordered frame of {frame.n_particles} particles is off by {error:.2g} of its "
                f"size; expected at most {tolerance:g} beside its finite difference."
            )
    return PotentialCheck(errors, contact, frame.n_particles, bonds.n_pairs, float(np.abs(bonds.forces).max()))


def _held(name: str, check: Callable[[], Any]) -> Any:
    """What the check gives; its complaint, or whatever the potential raises in it, as ours."""
    try:
        return check()
    except AssertionError as error:
        raise PluginError(f"{name}: {error}.") from None
    except Exception as error:
        raise PluginError(f"{name}: {type(error).__name__} from its methods ({error}); expected arrays of numbers.") from error


def _interacting(potential: PairPotential) -> list[tuple[int, int, float]]:
    """First and second type of each pair of types that interacts, and its cut-off."""
    found = [(int(i), int(j), float(cutoff)) for (i, j), cutoff in np.ndenumerate(potential.cutoffs()) if i <= j and cutoff > 0]
    if not found:
        raise PluginError(f"{type(potential).__name__}: all cut-offs are 0; expected one pair of types that interacts.")
    return found


def _frame(potential: PairPotential, closest: float, seed: int) -> Glass:
    """A simple cubic lattice, every site displaced at random, sheared: no pair is closer than ``closest``, none near its cut-off."""
    cutoffs_tt = potential.cutoffs()
    reach = float(cutoffs_tt.max())
    spacing = max(closest, _CLOSE) * reach / (1.0 - 2.5 * _DISORDER)
    edge = int(np.ceil(2.1 * reach * np.sqrt(1.0 + _STRAIN**2) / spacing))
    sites_nc = spacing * np.stack(np.meshgrid(*[np.arange(edge)] * 3), axis=-1).reshape(-1, 3)
    box = Box(edge * spacing)
    for rng in np.random.default_rng(seed).spawn(_TRIES):
        typeid_n = rng.permutation(np.arange(len(sites_nc)) % len(cutoffs_tt))
        positions_nc = sites_nc + _DISORDER * spacing * rng.uniform(-1.0, 1.0, size=sites_nc.shape)
        size_n = rng.permutation(np.linspace(*_SIZES, len(sites_nc))) if potential.sized else None
        frame = Glass(positions_nc, typeid_n, box, sizes=size_n).at_strain(_STRAIN)
        # As wide as it takes to see the pairs a little beyond their cut-offs, too.
        wide_tt = (1.0 + 10.0 * _STEP) * np.where(cutoffs_tt > 0.0, cutoffs_tt, reach)
        bonds = bonds_of(replace(frame, sizes=None), Harmonic(sigma=tuple(map(tuple, wide_tt.tolist()))), 0)
        distance_p = np.sqrt((bonds.r_pc**2).sum(axis=1))
        cutoff_p = cutoffs_tt[typeid_n[bonds.i_p], typeid_n[bonds.j_p]]
        if size_n is not None:
            cutoff_p = cutoff_p * potential.pair_length(size_n[bonds.i_p], size_n[bonds.j_p])
        if bonds.n_pairs and not (np.abs(distance_p - cutoff_p) < 8.0 * _STEP * reach).any():
            return frame
    raise PluginError(
        f"{type(potential).__name__}: in {_TRIES} tries no frame that has pairs and none of them at its cut-off, with "
        f"closest = {closest:g}; expected one. Choose another closest."
    )


def _of_frame(frame: Glass, potential: PairPotential, bonds: Bonds, rng: np.random.Generator) -> dict[str, float]:
    """Relative errors of what follows from the potential in a frame, each from differences of what stands before it."""
    # Half along the forces: across them a wrong one would hardly show.
    z_nc = sum(v_nc / np.linalg.norm(v_nc) for v_nc in (rng.normal(size=frame.positions.shape), bonds.forces))
    z_nc /= np.abs(z_nc).max()
    step = _STEP * potential.largest_cutoff

    def along(s: float) -> Bonds:
        return bonds_of(frame.moved(frame.positions + s * z_nc), potential, MAX_ORDER)

    def sheared(s: float) -> Bonds:
        return bonds_of(frame.sheared(s), potential, 1)

    def dilated(s: float) -> Bonds:
        larger = Box(frame.box.length * (1.0 + s), frame.box.xy)
        return bonds_of(replace(frame, positions=frame.positions * (1.0 + s), box=larger), potential, 1)

    near_s = [along(s * step) for s in _POINTS]

    def rate(quantity: Callable[[Bonds], Any]) -> Any:
        return _difference([quantity(each) for each in near_s], step)

    energies = {
        "shear stress": _difference([sheared(s * _STEP).energy for s in _POINTS], _STEP) / bonds.volume,
        "pressure": -_difference([dilated(s * _STEP).energy for s in _POINTS], _STEP) / (3.0 * bonds.volume),
    }
    norm = float(np.linalg.norm(bonds.forces)) * float(np.linalg.norm(z_nc))
    stress = float(np.linalg.norm(bonds.virial)) / bonds.volume
    return {
        "forces": abs(rate(lambda each: each.energy) + float(np.vdot(bonds.forces, z_nc))) / norm,
        "shear stress": abs(energies["shear stress"] - bonds.stress_xy) / stress,
        "pressure": abs(energies["pressure"] - bonds.pressure) / stress,
        "Hessian": _relative(-rate(lambda each: each.forces), (bonds.hessian() @ z_nc.ravel()).reshape(-1, 3)),
        "third derivative": _relative(rate(lambda each: each.product(z_nc)), bonds.third_contraction(z_nc)),
        "fourth derivative": _relative(rate(lambda each: each.kappa(z_nc)), bonds.chi(z_nc)),
    }


_POINTS = (-2.0, -1.0, 1.0, 2.0)


def _difference(values_s: list[Any], step: float) -> Any:
    """First derivative from values at -2, -1, 1 and 2 steps; its error is of fourth order."""
    return (8.0 * (values_s[2] - values_s[1]) - (values_s[3] - values_s[0])) / (12.0 * step)


def _relative(numerical: Any, exact: Any) -> float:
    return float(np.linalg.norm(numerical - exact) / max(float(np.linalg.norm(exact)), np.finfo(float).tiny))
