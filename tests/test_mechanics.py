"""Energy, forces, stress and all derivatives against exact arithmetic and finite differences, on disordered stressed frames.

The oracle is independent of the code: pairs from brute force, the potential's formula written out in 100-digit decimals, and
central differences with a step of 1e-15, whose error is far below double precision.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal, localcontext
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from qlm_hoomd.box import Box
from qlm_hoomd.errors import BlowUpError, InputError, QlmError
from qlm_hoomd.glass import Glass
from qlm_hoomd.mechanics import DILATION, SHEAR_XY, SHEAR_XZ, SHEAR_YZ, Mechanics, bonds_of
from qlm_hoomd.potentials import InversePowerLaw, SoftSpheres

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from qlm_hoomd.mechanics import Bonds
    from qlm_hoomd.model import GlassModel

# A tilt of either sign, none, and both sides of the flip at 1/2.
STRAINS = (0.0, 0.21, -0.37, 0.4999, 0.5001)
# Two dimensions, a tilt at the flip among them, unequal edges, and all tilts.
BOXES = {
    "square": Box(11.0, 0.3, lz=0.0),
    "flat, at the flip": Box(lx=13.0, ly=9.0, lz=0.0, xy=0.722),
    "edges": Box(lx=5.0, ly=6.0, lz=7.0),
    "triclinic": Box(lx=6.5, ly=5.5, lz=6.0, xy=0.4, xz=-0.45, yz=0.3),
}
# Particles of sizes of their own; types are names there.
OF_SIZES = {
    "sizes, square": (Box(9.0, 0.3, lz=0.0), SoftSpheres(n=12, q=2)),
    "sizes, triclinic": (Box(lx=5.2, ly=4.6, lz=5.0, xy=0.4, xz=-0.45, yz=0.3), SoftSpheres(n=12, q=3, x_c=1.3)),
}
STEP = Decimal("1e-15")
DIGITS = 100


class ExactEnergy:
    """U as a function of the pair vectors, in decimals."""

    def __init__(self, potential: InversePowerLaw | SoftSpheres, glass: Glass, pairs_within: Callable[..., Any]) -> None:
        i_p, j_p, r_pc = pairs_within(glass.positions, glass.box, potential.reach(glass.sizes))
        if isinstance(potential, SoftSpheres):
            a_p, b_p = glass.sizes[i_p], glass.sizes[j_p]
            length_p = (a_p + b_p) / 2 * (1 - potential.nonadditivity * np.maximum(a_p - b_p, b_p - a_p))
        else:
            length_p = np.array(potential.lengths)[glass.typeid[i_p], glass.typeid[j_p]]
        inside = np.linalg.norm(r_pc, axis=1) < potential.x_c * length_p
        self.i_p, self.j_p, self.r_pc = i_p[inside], j_p[inside], r_pc[inside]
        self._potential = potential
        self._length2_p = [Decimal(length) ** 2 for length in length_p[inside].tolist()]
        self._coefficients = [Decimal(c) for c in potential.coefficients.tolist()]

    def of_mode(self, mode_nc: NDArray[np.float64]) -> NDArray[np.float64]:
        """Rate of change of every pair vector along a displacement of the particles."""
        return mode_nc[self.j_p] - mode_nc[self.i_p]

    def of_strain(self, gradient_cc: NDArray[np.float64]) -> NDArray[np.float64]:
        """Rate of change of every pair vector under an affine deformation."""
        return self.r_pc @ gradient_cc.T

    def surface(self, *rates: NDArray[np.float64]) -> Callable[..., Decimal]:
        """U(r + s a + t b ...) as a function of s, t, ..."""
        decimal_pc = _decimals(self.r_pc)
        rate_decimals = [_decimals(rate_pc) for rate_pc in rates]

        def energy(*steps: Decimal) -> Decimal:
            total = Decimal(0)
            for pair, vector in enumerate(decimal_pc):
                w = Decimal(0)
                for c in range(3):
                    w += (vector[c] + sum(s * rate_pc[pair][c] for s, rate_pc in zip(steps, rate_decimals, strict=True))) ** 2
                total += self._phi(w / self._length2_p[pair])
            return total

        return energy

    def _phi(self, w: Decimal) -> Decimal:
        polynomial = Decimal(0)
        for coefficient in reversed(self._coefficients):
            polynomial = polynomial * w + coefficient
        return Decimal(self._potential.epsilon) * ((1 / w) ** (self._potential.n // 2) + polynomial)

    def derivatives(self, rate_pc: NDArray[np.float64]) -> list[float]:
        """U, U', U'', U''', U'''' along one direction."""
        with localcontext() as context:
            context.prec = DIGITS
            energy = self.surface(rate_pc)
            f = {k: energy(k * STEP) for k in (-2, -1, 0, 1, 2)}
            return [
                float(f[0]),
                float((f[1] - f[-1]) / (2 * STEP)),
                float((f[1] - 2 * f[0] + f[-1]) / STEP**2),
                float((f[2] - 2 * f[1] + 2 * f[-1] - f[-2]) / (2 * STEP**3)),
                float((f[2] - 4 * f[1] + 6 * f[0] - 4 * f[-1] + f[-2]) / STEP**4),
            ]

    def mixed(self, a_pc: NDArray[np.float64], b_pc: NDArray[np.float64]) -> tuple[float, float]:
        """d2U / ds dt and d3U / ds2 dt."""
        h = STEP
        with localcontext() as context:
            context.prec = DIGITS
            energy = self.surface(a_pc, b_pc)
            f = {(k, m): energy(k * h, m * h) for k in (-1, 0, 1) for m in (-1, 1)}
            second = (f[1, 1] - f[1, -1] - f[-1, 1] + f[-1, -1]) / (4 * h**2)
            bend = {m: f[1, m] - 2 * f[0, m] + f[-1, m] for m in (-1, 1)}
            return float(second), float((bend[1] - bend[-1]) / (2 * h**3))


def _decimals(array_pc: NDArray[np.float64]) -> list[list[Decimal]]:
    return [[Decimal(value) for value in row] for row in array_pc.tolist()]


class Case:
    """A frame, its bonds and its oracle."""

    def __init__(self, potential: InversePowerLaw | SoftSpheres, glass: Glass, pairs_within: Callable[..., Any]) -> None:
        self.potential, self.glass = potential, glass
        self._pairs_within = pairs_within
        self.rng = np.random.default_rng(5)

    @cached_property
    def bonds(self) -> Bonds:
        return bonds_of(self.glass, self.potential, 4)

    @cached_property
    def exact(self) -> ExactEnergy:
        return ExactEnergy(self.potential, self.glass, self._pairs_within)

    def mode(self) -> NDArray[np.float64]:
        mode_nc = self.rng.normal(size=self.glass.positions.shape)
        mode_nc[:, self.glass.box.dimensions :] = 0.0
        return np.asarray(mode_nc / np.linalg.norm(mode_nc))


@pytest.fixture(scope="module", params=[*STRAINS, *BOXES, *OF_SIZES])
def case(
    request: pytest.FixtureRequest,
    model: GlassModel,
    small_liquid: Glass,
    disordered: Callable[..., Glass],
    pairs_within: Callable[..., Any],
) -> Case:
    assert isinstance(model.potential, InversePowerLaw)
    if request.param in BOXES:
        return Case(model.potential, disordered(BOXES[request.param], 1.1, 3), pairs_within)
    if request.param in OF_SIZES:
        box, potential = OF_SIZES[request.param]
        glass = disordered(box, 1.0, 3)
        size_n = np.random.default_rng(2).uniform(0.7, 1.3, glass.n_particles)
        return Case(potential, replace(glass, sizes=size_n), pairs_within)
    return Case(model.potential, small_liquid.at_strain(request.param), pairs_within)


def test_the_oracle_sees_a_stressed_frame_far_from_a_minimum(case: Case) -> None:
    assert np.linalg.norm(case.bonds.forces, axis=1).max() > 10.0
    assert abs(case.bonds.stress_xy) > 0.1
    assert case.bonds.n_pairs == len(case.exact.i_p)


def test_energy_forces_and_all_contractions_along_a_mode(case: Case) -> None:
    bonds, mode_nc = case.bonds, case.mode()
    energy, slope, curvature, third, fourth = case.exact.derivatives(case.exact.of_mode(mode_nc))
    assert bonds.energy == pytest.approx(energy, rel=1e-12)
    assert -np.vdot(bonds.forces, mode_nc) == pytest.approx(slope, rel=1e-11)
    assert bonds.curvature(mode_nc) == pytest.approx(curvature, rel=1e-11)
    assert bonds.kappa(mode_nc) == pytest.approx(third, rel=1e-10)
    assert bonds.chi(mode_nc) == pytest.approx(fourth, rel=1e-10)
    assert np.vdot(mode_nc, bonds.product(mode_nc)) == pytest.approx(curvature, rel=1e-11)
    assert np.vdot(mode_nc, bonds.third_contraction(mode_nc)) == pytest.approx(third, rel=1e-10)


def test_every_force_component(case: Case) -> None:
    particle = int(case.rng.integers(case.glass.n_particles))
    for axis in range(case.glass.box.dimensions):
        unit_nc = np.zeros_like(case.glass.positions)
        unit_nc[particle, axis] = 1.0
        assert -case.bonds.forces[particle, axis] == pytest.approx(
            case.exact.derivatives(case.exact.of_mode(unit_nc))[1], rel=1e-11
        )


def test_hessian_and_third_derivative_between_two_modes(case: Case) -> None:
    first_nc, second_nc = case.mode(), case.mode()
    second, third = case.exact.mixed(case.exact.of_mode(first_nc), case.exact.of_mode(second_nc))
    assert np.vdot(second_nc, case.bonds.product(first_nc)) == pytest.approx(second, rel=1e-10)
    assert np.vdot(second_nc, case.bonds.third_contraction(first_nc)) == pytest.approx(third, rel=1e-10)


@pytest.mark.parametrize("gradient_cc", [SHEAR_XY, SHEAR_XZ, SHEAR_YZ, DILATION], ids=["xy", "xz", "yz", "dilation"])
def test_strain_derivatives(case: Case, gradient_cc: NDArray[np.float64]) -> None:
    bonds, mode_nc = case.bonds, case.mode()
    rate_pc = case.exact.of_strain(gradient_cc)
    _, slope, curvature, _, _ = case.exact.derivatives(rate_pc)
    assert np.vdot(gradient_cc, bonds.virial) == pytest.approx(slope, rel=1e-11)
    assert bonds.affine_curvature(gradient_cc) == pytest.approx(curvature, rel=1e-11)
    mixed, _ = case.exact.mixed(rate_pc, case.exact.of_mode(mode_nc))
    assert np.vdot(bonds.mixed_derivative(gradient_cc), mode_nc) == pytest.approx(mixed, rel=1e-10)
    if gradient_cc is SHEAR_XY:
        assert bonds.stress_xy == pytest.approx(slope / case.glass.box.volume, rel=1e-11)
    if gradient_cc is DILATION:
        assert bonds.pressure == pytest.approx(-slope / (case.glass.box.dimensions * case.glass.box.volume), rel=1e-11)


def test_stress_is_the_derivative_along_the_shear_of_the_glass_itself(case: Case) -> None:
    """dU/dgamma / V through Glass.sheared, across the flip where the frame sits at one."""
    step = 2e-4
    energies = [bonds_of(case.glass.sheared(k * step), case.potential, 0).energy for k in (-2, -1, 1, 2)]
    slope = (energies[0] - 8 * energies[1] + 8 * energies[2] - energies[3]) / (12 * step)
    assert case.bonds.stress_xy == pytest.approx(slope / case.glass.box.volume, rel=1e-7)


def test_hessian_matrix_against_differences_of_forces(case: Case) -> None:
    """Every entry, by the five-point rule."""
    mechanics = Mechanics(case.potential, case.glass.typeid, 0.1, case.glass.sizes)
    positions_nc, step, dimensions = case.glass.positions, 1e-4, case.glass.box.dimensions
    matrix = case.bonds.hessian().toarray()
    assert len(matrix) == dimensions * case.glass.n_particles
    numerical = np.empty_like(matrix)
    for d in range(matrix.shape[0]):
        shift_nc = np.zeros_like(positions_nc)
        shift_nc[d // dimensions, d % dimensions] = step
        shifted = [mechanics.energy_forces(positions_nc + k * shift_nc, case.glass.box)[1] for k in (-2, -1, 1, 2)]
        assert not any(force_nc[:, dimensions:].any() for force_nc in shifted)
        force = [force_nc[:, :dimensions].ravel() for force_nc in shifted]
        numerical[d] = -(force[0] - 8 * force[1] + 8 * force[2] - force[3]) / (12 * step)
    np.testing.assert_allclose(matrix, numerical, atol=2e-8 * np.abs(matrix).max())
    np.testing.assert_array_equal(matrix, matrix.T)
    # Translations cost nothing.
    assert np.abs(matrix.reshape(matrix.shape[0], -1, dimensions).sum(axis=1)).max() < 1e-10 * np.abs(matrix).max()


def test_hessian_matrix_equals_the_matrix_free_product(case: Case) -> None:
    mode_nc, dimensions = case.mode(), case.glass.box.dimensions
    product_nc = case.bonds.product(mode_nc)
    assert not product_nc[:, dimensions:].any()
    np.testing.assert_allclose(
        (case.bonds.hessian() @ mode_nc[:, :dimensions].ravel()).reshape(-1, dimensions),
        product_nc[:, :dimensions],
        atol=1e-11 * 1e3,
    )
    assert case.bonds.hessian().has_sorted_indices


@pytest.mark.parametrize("q", [4, 6])
def test_other_smoothness(q: int, model: GlassModel, small_liquid: Glass, pairs_within: Callable[..., Any]) -> None:
    assert isinstance(model.potential, InversePowerLaw)
    potential = InversePowerLaw(**(model.potential.model_dump() | {"q": q, "n": 12}))
    case = Case(potential, small_liquid.at_strain(0.1), pairs_within)
    mode_nc = case.mode()
    energy, slope, curvature, third, fourth = case.exact.derivatives(case.exact.of_mode(mode_nc))
    measured = [case.bonds.energy, -np.vdot(case.bonds.forces, mode_nc), case.bonds.curvature(mode_nc)]
    np.testing.assert_allclose(measured, [energy, slope, curvature], rtol=1e-10)
    assert case.bonds.kappa(mode_nc) == pytest.approx(third, rel=1e-9)
    assert case.bonds.chi(mode_nc) == pytest.approx(fourth, rel=1e-9)


@pytest.mark.parametrize("strain", [0.5, -0.5, 0.45])
def test_nothing_changes_at_a_flip(strain: float, model: GlassModel, small_liquid: Glass) -> None:
    """The same configuration seen in the two boxes of one lattice."""
    before = small_liquid.at_strain(strain)
    turn = 1.0 if strain > 0.0 else -1.0
    flipped_box = Box(before.box.length, before.box.xy - turn)
    after = Glass(flipped_box.wrap(before.positions), before.typeid, flipped_box, before.strain)
    one, other = (bonds_of(glass, model.potential, 4) for glass in (before, after))
    mode_nc = np.random.default_rng(0).normal(size=before.positions.shape)
    for name in ("energy", "stress_xy", "pressure"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-12)
    for contraction in ("curvature", "kappa", "chi"):
        assert getattr(one, contraction)(mode_nc) == pytest.approx(getattr(other, contraction)(mode_nc), rel=1e-11)
    largest = np.abs(one.forces).max()
    np.testing.assert_allclose(one.forces, other.forces, atol=1e-12 * largest)
    eigenvalues = [np.linalg.eigvalsh(bonds.hessian().toarray()) for bonds in (one, other)]
    np.testing.assert_allclose(eigenvalues[0], eigenvalues[1], atol=1e-12 * eigenvalues[0].max())


def test_energy_forces_equals_bonds(case: Case) -> None:
    mechanics = Mechanics(case.potential, case.glass.typeid, 0.3, case.glass.sizes)
    energy, force_nc = mechanics.energy_forces(case.glass.positions, case.glass.box)
    assert energy == pytest.approx(case.bonds.energy, rel=1e-13)
    np.testing.assert_allclose(force_nc, case.bonds.forces, atol=1e-12 * np.abs(force_nc).max())
    assert mechanics.force_evaluations == 1


@pytest.mark.parametrize("strain", [0.0, 0.21])
def test_against_matscipy(strain: float, model: GlassModel, quenched: Glass) -> None:
    """The Polydisperse calculator of matscipy gives our pair lengths exactly: 1.2 (1 - 0.4 / 24) = 1.18."""
    polydisperse = pytest.importorskip("matscipy.calculators.polydisperse", reason="matscipy is not installed")
    ase = pytest.importorskip("ase", reason="ase is not installed")
    glass = quenched.at_strain(strain)
    glass = glass.moved(glass.positions + np.random.default_rng(3).normal(scale=0.02, size=glass.positions.shape))
    atoms = ase.Atoms("H" * glass.n_particles, positions=glass.positions, cell=glass.box.matrix, pbc=True)
    atoms.set_array("size", np.array([1.0, 1.4])[glass.typeid])
    atoms.set_masses(np.ones(glass.n_particles))
    atoms.calc = polydisperse.Polydisperse(
        polydisperse.InversePowerLawPotential(epsilon=1.0, cutoff=1.48, na=1.0 / 24.0, q=3, minSize=1.0, maxSize=1.4)
    )
    bonds = bonds_of(glass, model.potential)
    assert bonds.energy == pytest.approx(atoms.get_potential_energy(), rel=1e-10)
    forces_nc = atoms.get_forces()
    np.testing.assert_allclose(bonds.forces, forces_nc, atol=1e-10 * np.abs(forces_nc).max())
    stress_cc = atoms.get_stress(voigt=False)
    np.testing.assert_allclose(bonds.virial / bonds.volume, stress_cc, atol=1e-10 * np.abs(stress_cc).max())
    matrix = atoms.calc.get_property("hessian", atoms).todense()
    np.testing.assert_allclose(bonds.hessian().toarray(), matrix, atol=1e-10 * np.abs(matrix).max())


@pytest.mark.parametrize("strain", [0.0, 0.21])
def test_particles_of_all_sizes_against_matscipy(strain: float, quenched: Glass) -> None:
    polydisperse = pytest.importorskip("matscipy.calculators.polydisperse", reason="matscipy is not installed")
    ase = pytest.importorskip("ase", reason="ase is not installed")
    glass = replace(quenched, sizes=np.random.default_rng(4).uniform(0.8, 1.6, quenched.n_particles)).at_strain(strain)
    potential = SoftSpheres(n=10, q=3, x_c=1.4, nonadditivity=0.1)
    atoms = ase.Atoms("H" * glass.n_particles, positions=glass.positions, cell=glass.box.matrix, pbc=True)
    atoms.set_array("size", np.array(glass.sizes))
    atoms.set_masses(np.ones(glass.n_particles))
    atoms.calc = polydisperse.Polydisperse(
        polydisperse.InversePowerLawPotential(epsilon=1.0, cutoff=1.4, na=0.1, q=3, minSize=0.8, maxSize=1.6)
    )
    bonds = bonds_of(glass, potential)
    assert bonds.energy == pytest.approx(atoms.get_potential_energy(), rel=1e-10)
    forces_nc = atoms.get_forces()
    np.testing.assert_allclose(bonds.forces, forces_nc, atol=1e-10 * np.abs(forces_nc).max())
    stress_cc = atoms.get_stress(voigt=False)
    np.testing.assert_allclose(bonds.virial / bonds.volume, stress_cc, atol=1e-10 * np.abs(stress_cc).max())
    matrix = atoms.calc.get_property("hessian", atoms).todense()
    np.testing.assert_allclose(bonds.hessian().toarray(), matrix, atol=1e-10 * np.abs(matrix).max())


def test_a_mechanics_object_is_reusable_for_other_states(model: GlassModel, small_liquid: Glass) -> None:
    mechanics = Mechanics(model.potential, small_liquid.typeid, 0.2)
    for strain in (0.0, 0.3, 0.7, 0.0):
        glass = small_liquid.at_strain(strain)
        assert mechanics.bonds(glass.positions, glass.box).energy == pytest.approx(
            bonds_of(glass, model.potential).energy, rel=1e-12
        )


def test_types_unknown_to_the_potential_are_refused(model: GlassModel, small_liquid: Glass) -> None:
    with pytest.raises(InputError, match="typeid goes up to 2"):
        Mechanics(model.potential, small_liquid.typeid + 1)


def test_a_blown_up_state_is_refused(model: GlassModel, small_liquid: Glass) -> None:
    positions_nc = small_liquid.positions.copy()
    mechanics = Mechanics(model.potential, small_liquid.typeid)
    mechanics.energy_forces(positions_nc, small_liquid.box)
    positions_nc[7, 1] = np.nan
    with pytest.raises(QlmError, match="not finite"):
        mechanics.energy_forces(positions_nc, small_liquid.box)


def test_the_last_answer_is_kept(model: GlassModel, small_liquid: Glass) -> None:
    mechanics = Mechanics(model.potential, small_liquid.typeid, 0.3)
    positions_nc = small_liquid.positions.copy()
    bonds = mechanics.bonds(positions_nc, small_liquid.box, 2)
    assert mechanics.bonds(small_liquid.positions, small_liquid.box, 1) is bonds
    assert mechanics.bonds(small_liquid.positions, small_liquid.box, 3).phi_kp.shape[0] == 4
    # Neither a changed array nor another box is the same configuration.
    positions_nc[0, 0] += 1e-9
    moved = mechanics.bonds(positions_nc, small_liquid.box, 2)
    assert not np.array_equal(moved.r_pc, bonds.r_pc)
    sheared = small_liquid.sheared(1e-9)
    assert mechanics.bonds(positions_nc, sheared.box, 2) is not moved
    positions_nc[:] = np.nan
    with pytest.raises(BlowUpError):
        mechanics.bonds(positions_nc, small_liquid.box, 2)
