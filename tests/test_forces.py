"""The laws behind HOOMD-blue's pair forces against the forces themselves, on the real HOOMD-blue."""

# Array names carry their axes: n particles, c Cartesian components.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from qlm_hoomd.errors import InputError
from qlm_hoomd.mechanics import bonds_of
from qlm_hoomd.potentials.hoomd_laws import HOOMDPotential
from tests.potentials.test_hoomd_laws import FACTORS, PARAMETERS

if TYPE_CHECKING:
    from qlm_hoomd.glass import Glass
    from qlm_hoomd.model import GlassModel

hoomd = pytest.importorskip("hoomd", reason="HOOMD-blue is not installed in this interpreter")
pytest.importorskip("hoomd.md")

from qlm_hoomd import pair  # noqa: E402  (it needs HOOMD-blue)
from qlm_hoomd.engines.hoomd import snapshot_of  # noqa: E402
from qlm_hoomd.forces import potential_of  # noqa: E402

pytestmark = pytest.mark.hoomd

PAIRS = {("A", "A"): FACTORS[0][0], ("A", "B"): FACTORS[0][1], ("B", "B"): FACTORS[1][1]}
XX_XY_XZ_YY_YZ_ZZ = ((0, 0, 0, 1, 1, 2), (0, 1, 2, 1, 2, 2))
CASES = [
    (name, mode)
    for name in PARAMETERS
    for mode in getattr(hoomd.md.pair, name)._accepted_modes
    if name != "ZBL" or mode == "none"
]


def force_named(name: str, mode: str = "none") -> Any:
    kind = getattr(hoomd.md.pair, name)
    force = kind(nlist=hoomd.md.nlist.Cell(buffer=0.2), default_r_cut=1.9)
    if mode != "none":
        force.mode = mode
    for types, factor in PAIRS.items():
        given = {key: value * factor for key, value in PARAMETERS[name].items()}
        if name == "Fourier":
            given = {key: [given[f"{key}{order}"] for order in (2, 3, 4)] for key in "ab"}
        force.params[types] = given
        force.r_cut[types] = 1.9 * factor
        if "xplor" in kind._accepted_modes:
            # One pair of types is smoothed, one not at all, and one shifted, as HOOMD-blue does beyond the cut-off.
            force.r_on[types] = {("A", "A"): 1.5, ("A", "B"): 1.9 * factor, ("B", "B"): 2.3}[types]
    return force


def simulation_of(glass: Glass, forces: list[Any]) -> Any:
    simulation = hoomd.Simulation(hoomd.device.CPU(), seed=1)
    simulation.create_state_from_snapshot(snapshot_of(glass))
    simulation.always_compute_pressure = True
    simulation.operations.integrator = hoomd.md.Integrator(dt=0.001, forces=forces)
    simulation.run(0)
    return simulation


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_energy_forces_and_virial_are_hoomds(name: str, mode: str, liquid: Glass) -> None:
    glass = liquid.sheared(0.13)
    force = force_named(name, mode)
    before = potential_of(force)
    assert isinstance(before, HOOMDPotential)
    simulation = simulation_of(glass, [force])
    after = potential_of(force)
    assert after.model_dump(exclude={"parameters"}) == before.model_dump(exclude={"parameters"})
    for key, matrix in before.parameters.items():
        np.testing.assert_allclose(after.parameters[key], matrix, rtol=1e-15)
    bonds = bonds_of(glass, before, 1)
    virial_c = -bonds.virial[XX_XY_XZ_YY_YZ_ZZ]
    size = abs(bonds.forces).max()
    assert size > 0.0
    assert simulation.timestep == 0
    assert force.energy == pytest.approx(bonds.energy, rel=1e-12)
    np.testing.assert_allclose(force.forces, bonds.forces, rtol=0.0, atol=1e-12 * size)
    np.testing.assert_allclose(force.virials.sum(axis=0), virial_c, rtol=0.0, atol=1e-12 * abs(virial_c).max())


@pytest.mark.parametrize("name", ["LJ", "Yukawa", "OPP"])
def test_hessian_is_the_difference_of_hoomds_forces(name: str, small_liquid: Glass) -> None:
    def forces(sign: float) -> Any:
        force = force_named(name, "xplor")
        for types in PAIRS:
            force.r_cut[types], force.r_on[types] = 1.5, 1.2
        simulation = simulation_of(small_liquid.moved(small_liquid.positions + sign * step * direction_nc), [force])
        return force.forces, potential_of(force), simulation

    step, direction_nc = 1e-6, np.random.default_rng(2).normal(size=small_liquid.positions.shape)
    (above_nc, potential, _), (below_nc, _, _) = forces(1.0), forces(-1.0)
    product_n = bonds_of(small_liquid, potential, 2).hessian() @ direction_nc.ravel()
    difference_n = (below_nc - above_nc).ravel() / (2.0 * step)
    np.testing.assert_allclose(difference_n, product_n, rtol=0.0, atol=1e-6 * abs(product_n).max())


def test_several_forces_are_their_sum_ours_among_them(liquid: Glass, model: GlassModel) -> None:
    ours = pair.InversePowerLaw.from_potential(model.potential, hoomd.md.nlist.Cell(buffer=0.2), backend="mie")
    yukawa = force_named("Yukawa", "shift")
    simulation = simulation_of(liquid, [ours, yukawa])
    bonds = bonds_of(liquid, potential_of(ours, yukawa), 1)
    assert ours.energy + yukawa.energy == pytest.approx(bonds.energy, rel=1e-12)
    assert simulation.timestep == 0
    assert potential_of(ours).model_dump() == ours.potential.model_dump()


def test_types_are_those_of_the_simulation_or_as_told() -> None:
    force = force_named("LJ")
    ours = pair.InversePowerLaw(nlist=_nlist(), backend="mie")
    for types, factor in PAIRS.items():
        ours.params[types] = {"epsilon": 1.0, "sigma": factor}
    assert potential_of(ours, types=["B", "A"]).cutoffs().tolist() == ours.potential.cutoffs()[::-1, ::-1].tolist()
    assert potential_of(force, types=["B", "A"]).cutoffs().tolist() == potential_of(force).cutoffs()[::-1, ::-1].tolist()


def _no_parameters() -> Any:
    force = force_named("LJ")
    force.params[("A", "C")] = {"epsilon": 1.0, "sigma": 1.0}
    return force


def _no_cutoff() -> Any:
    force = hoomd.md.pair.LJ(nlist=hoomd.md.nlist.Cell(buffer=0.2))
    force.params[("A", "A")] = {"epsilon": 1.0, "sigma": 1.0}
    return force


def _charged() -> Any:
    force = force_named("ReactionField")
    force.params[("A", "B")] = {"epsilon": 1.0, "eps_rf": 1.0, "use_charge": True}
    return force


def _nlist() -> Any:
    return hoomd.md.nlist.Cell(buffer=0.2)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: hoomd.md.pair.Table(_nlist(), default_r_cut=1.5), "interpolated linearly"),
        (lambda: hoomd.md.pair.Ewald(_nlist(), default_r_cut=1.5), "charges"),
        (lambda: hoomd.md.pair.DPD(_nlist(), kT=1.0, default_r_cut=1.5), "DPDConservative is its conservative part"),
        (lambda: hoomd.md.pair.LJ(_nlist(), default_r_cut=1.5, tail_correction=True), "tail_correction"),
        (hoomd.md.bond.Harmonic, "none of hoomd.md.pair"),
        (lambda: 3, "int has no potential"),
        (_no_parameters, r"no epsilon for the types \('B', 'C'\)"),
        (_no_cutoff, "no r_cut for the types"),
        (_charged, "use_charge=False"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_has_no_such_potential_is_refused_with_the_reason(make: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        potential_of(make())


def test_no_forces_are_refused() -> None:
    with pytest.raises(InputError, match="at least one pair force"):
        potential_of()
