"""Elastic moduli against the response of the relaxed glass, a crystal, and matscipy."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pytest

from qlm_hoomd.box import Box
from qlm_hoomd.elasticity import ElasticModuli, elastic_moduli, moduli_row, nonaffine_velocity, residual_shear_stress
from qlm_hoomd.engines.cpu import CPUEngineSettings
from qlm_hoomd.errors import ConvergenceError
from qlm_hoomd.glass import Glass
from qlm_hoomd.mechanics import DILATION, SHEAR_XY, SHEAR_XZ, SHEAR_YZ, Mechanics, bonds_of
from qlm_hoomd.minimize import newton
from qlm_hoomd.model import GlassModel
from qlm_hoomd.potentials import Harmonic, KobAndersen
from qlm_hoomd.preparation import random_start

if TYPE_CHECKING:
    from qlm_hoomd.mechanics import Bonds


@pytest.fixture(scope="module")
def bonds(model: GlassModel, quenched: Glass) -> Bonds:
    return bonds_of(quenched, model.potential)


def _deformed(glass: Glass, model: GlassModel, gradient_cc: np.ndarray, step: float) -> Bonds:
    """The glass deformed in a lattice that the box class does not know, relaxed there: pairs by brute force on a copy."""
    mechanics = Mechanics(model.potential, glass.typeid, 0.2)
    if gradient_cc is SHEAR_XY:
        glass = glass.sheared(step)
    elif gradient_cc is DILATION:
        glass = Glass(glass.positions * (1.0 + step), glass.typeid, Box(glass.box.length * (1.0 + step)))
    else:
        # Rename the axes so that the shear plane becomes xy: the energy does not know their names.
        axes = {"xz": [0, 2, 1], "yz": [1, 2, 0]}["xz" if gradient_cc is SHEAR_XZ else "yz"]
        glass = Glass(glass.positions[:, axes], glass.typeid, glass.box).sheared(step)
    relaxed, _ = newton(mechanics, glass)
    return mechanics.bonds(relaxed.positions, relaxed.box)


def test_shear_modulus_is_the_slope_of_the_stress(model: GlassModel, quenched: Glass, bonds: Bonds) -> None:
    moduli, step = elastic_moduli(bonds), 2e-6
    slopes = []
    for plane in (SHEAR_XY, SHEAR_XZ, SHEAR_YZ):
        up, down = (_deformed(quenched, model, plane, sign * step).stress_xy for sign in (1, -1))
        slopes.append((up - down) / (2 * step))
    assert moduli.shear_modulus == pytest.approx(slopes[0], rel=1e-5)
    assert moduli.shear_modulus_mean == pytest.approx(np.mean(slopes), rel=1e-5)
    assert moduli.shear_modulus_mean < moduli.born_shear_modulus


def test_bulk_modulus_is_the_slope_of_the_pressure(model: GlassModel, quenched: Glass, bonds: Bonds) -> None:
    step = 1e-6
    up, down = (_deformed(quenched, model, DILATION, sign * step).pressure for sign in (1, -1))
    # V = V0 (1 + eps)^3, so -V dp/dV = -(dp/deps) / 3.
    assert elastic_moduli(bonds).bulk_modulus == pytest.approx(-(up - down) / (2 * step) / 3.0, rel=1e-5)


def test_moduli_of_a_crystal_are_affine(model: GlassModel) -> None:
    """Every particle of a cubic lattice is a centre of symmetry: no non-affine part, and three equal shear moduli."""
    crystal = _crystal(model)
    length = crystal.box.length
    moduli = elastic_moduli(bonds_of(crystal, model.potential))
    assert moduli.shear_modulus == pytest.approx(moduli.born_shear_modulus, rel=1e-9)
    assert moduli.shear_modulus_mean == pytest.approx(moduli.shear_modulus, rel=1e-9)
    assert moduli.shear_modulus > 0.0
    step = 1e-5
    up, down = (
        bonds_of(
            Glass(crystal.positions * (1.0 + sign * step), crystal.typeid, Box(length * (1.0 + sign * step))), model.potential
        ).pressure
        for sign in (1, -1)
    )
    assert moduli.bulk_modulus == pytest.approx(-(up - down) / (2 * step) / 3.0, rel=1e-7)


def test_moduli_of_a_saddle_are_refused(model: GlassModel, liquid: Glass) -> None:
    with pytest.raises(ConvergenceError, match="saddle"):
        elastic_moduli(bonds_of(liquid, model.potential))


def test_sound_speeds() -> None:
    transverse, longitudinal = ElasticModuli(3.0, 2.0, 9.0, 10.0, 1.0).sound_speeds(0.5)
    assert transverse == pytest.approx(2.0)
    assert longitudinal == pytest.approx(np.sqrt((10.0 + 8.0 / 3.0) / 0.5))


def test_elastic_constants_against_matscipy(quenched: Glass, bonds: Bonds) -> None:
    """matscipy's C is that of the Green-Lagrange strain eta; every modulus here follows from it.

    A deformation F has eta = (F^T F - 1) / 2 and the energy V (stress : eta + eta : C : eta / 2); the second derivatives for
    F = 1 + gamma E, 1 + epsilon and exp(epsilon D) follow by the chain rule.
    """
    polydisperse = pytest.importorskip("matscipy.calculators.polydisperse", reason="matscipy is not installed")
    ase = pytest.importorskip("ase", reason="ase is not installed")
    elasticity = pytest.importorskip("matscipy.elasticity", reason="matscipy is not installed")
    atoms = ase.Atoms("H" * quenched.n_particles, positions=quenched.positions, cell=quenched.box.matrix, pbc=True)
    atoms.set_array("size", np.array([1.0, 1.4])[quenched.typeid])
    atoms.set_masses(np.ones(quenched.n_particles))
    atoms.calc = polydisperse.Polydisperse(
        polydisperse.InversePowerLawPotential(epsilon=1.0, cutoff=1.48, na=1.0 / 24.0, q=3, minSize=1.0, maxSize=1.4)
    )
    stress_cc = atoms.get_stress(voigt=False)
    precise = {"x0": None, "rtol": 1e-10, "maxiter": None, "M": None, "callback": None, "atol": 0.0}
    born_cccc = atoms.calc.get_property("born_constants", atoms)
    c_cccc = born_cccc + elasticity.nonaffine_elastic_contribution(atoms, cg_parameters=precise)

    def pure(left_cc: np.ndarray, right_cc: np.ndarray) -> float:
        second = np.einsum("ij,ijkl,kl", left_cc, c_cccc, right_cc)
        return float(second + np.trace(stress_cc @ (left_cc @ right_cc + right_cc @ left_cc)))

    def simple(gradient_cc: np.ndarray, constants_cccc: np.ndarray) -> float:
        first_cc = 0.5 * (gradient_cc + gradient_cc.T)
        second = np.einsum("ij,ijkl,kl", first_cc, constants_cccc, first_cc)
        return float(second + np.trace(stress_cc @ gradient_cc.T @ gradient_cc))

    moduli = elastic_moduli(bonds)
    planes = (SHEAR_XY, SHEAR_XZ, SHEAR_YZ)
    assert moduli.shear_modulus == pytest.approx(simple(SHEAR_XY, c_cccc), rel=1e-6)
    assert moduli.shear_modulus_mean == pytest.approx(np.mean([simple(plane, c_cccc) for plane in planes]), rel=1e-6)
    assert moduli.born_shear_modulus == pytest.approx(np.mean([simple(plane, born_cccc) for plane in planes]), rel=1e-9)
    assert moduli.bulk_modulus == pytest.approx(np.einsum("iijj", c_cccc) / 9.0 - np.trace(stress_cc) / 9.0, rel=1e-6)
    # Another basis of the traceless strains than the one in the code: the eigenvalues do not know it.
    rotation_cc = np.linalg.qr(np.random.default_rng(7).normal(size=(3, 3)))[0]
    basis = [0.5 * (plane + plane.T) for plane in planes]
    basis += [np.diag([1.0, 1.0, -2.0]) / np.sqrt(12.0), np.diag([0.5, -0.5, 0.0])]
    basis = [rotation_cc @ strain_cc @ rotation_cc.T for strain_cc in basis]
    tensor_ss = np.array([[pure(left, right) for right in basis] for left in basis])
    assert moduli.softest_shear_modulus == pytest.approx(np.linalg.eigvalsh(tensor_ss)[0], rel=1e-6)
    assert moduli.shear_stable
    assert moduli.poisson_ratio == pytest.approx(
        0.5 - 1.5 * moduli.shear_modulus_mean / (3 * moduli.bulk_modulus + moduli.shear_modulus_mean)
    )


def test_nonaffine_velocity_is_how_the_particles_move(model: GlassModel, quenched: Glass, bonds: Bonds) -> None:
    step = 1e-6
    mechanics = Mechanics(model.potential, quenched.typeid)
    up, down = (newton(mechanics, quenched.sheared(sign * step))[0] for sign in (1, -1))
    moved_nc = (up.nonaffine_displacement(quenched) - down.nonaffine_displacement(quenched)) / (2 * step)
    moved_nc -= moved_nc.mean(axis=0)
    np.testing.assert_allclose(nonaffine_velocity(bonds), moved_nc, atol=1e-4 * np.abs(moved_nc).max())


def test_residual_stress_of_a_sheared_crystal_is_its_shear_stress(model: GlassModel) -> None:
    """Normal stresses differ in second order of the strain only."""
    bonds = bonds_of(_crystal(model).sheared(1e-4), model.potential)
    assert abs(bonds.stress_xy) > 1e-4
    assert residual_shear_stress(bonds) == pytest.approx(abs(bonds.stress_xy), rel=1e-3)


def _crystal(model: GlassModel) -> Glass:
    offsets_nc = np.array(list(product(range(4), repeat=3)), dtype=float)
    basis_nc = np.array([(0.0, 0.0, 0.0), (0.5, 0.5, 0.0), (0.5, 0.0, 0.5), (0.0, 0.5, 0.5)])
    positions_nc = (offsets_nc[:, None, :] + basis_nc).reshape(-1, 3)
    length = (len(positions_nc) / model.density) ** (1 / 3)
    return Glass(positions_nc * length / 4, np.ones(len(positions_nc), dtype=int), Box(length))


def test_a_force_that_jumps_at_the_cutoff_has_no_modulus_but_a_slope_that_falls_with_the_strain() -> None:
    model = GlassModel(potential=KobAndersen(q=0), density=1.2, fraction_large=0.2)
    engine, rng = CPUEngineSettings().build(model), np.random.default_rng(0)
    liquid, _ = engine.run(random_start(model, 400, rng), duration=2.0, temperature=1.0, rng=rng)
    glass, _ = engine.descend(liquid)
    bonds = bonds_of(glass, model.potential)

    def slope(strain: float) -> float:
        stress = [
            engine.measure(engine.relax(glass.turned(axes).sheared(sign * strain), tolerance=1e-9)[0]).stress_xy
            for axes in ((0, 1, 2), (0, 2, 1), (1, 2, 0))
            for sign in (1.0, -1.0)
        ]
        return float(np.mean(np.subtract(stress[::2], stress[1::2]))) / (2.0 * strain)

    tangent = elastic_moduli(bonds).shear_modulus_mean
    assert slope(1e-6) == pytest.approx(tangent, rel=1e-5)
    assert slope(1e-3) < 0.97 * tangent
    row, reason = moduli_row(bonds, model.potential)
    assert set(row) == set(elastic_moduli(bonds).row())
    assert set(row.values()) == {None}
    assert reason.startswith("no elastic moduli: the force of KobAndersen jumps at the cut-off")


@pytest.mark.parametrize(
    ("potential", "jumps"),
    [(KobAndersen(q=0), (True, True)), (KobAndersen(q=1), (False, True)), (KobAndersen(q=2), (False, False)),
     (Harmonic(sigma=((1.0,),)), (False, True))],
)  # fmt: skip
def test_what_jumps_at_the_cutoff(potential: KobAndersen | Harmonic, jumps: tuple[bool, bool]) -> None:
    assert (potential.jumps_at_cutoff(1), potential.jumps_at_cutoff(2)) == jumps


def test_a_continuous_force_has_its_moduli(bonds: Bonds, model: GlassModel) -> None:
    assert moduli_row(bonds, model.potential) == (elastic_moduli(bonds).row(), "")
