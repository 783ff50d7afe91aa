"""The compiled pair force against qlm_hoomd, against HOOMD-blue's own pair loop, and when it must refuse."""

# Array names carry their axes: n particles, c Cartesian components, p pairs.

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

from qlm_hoomd.box import Box
from qlm_hoomd.glass import Glass
from qlm_hoomd.mechanics import bonds_of
from qlm_hoomd.potentials import InversePowerLaw

if TYPE_CHECKING:
    from numpy.typing import NDArray

hoomd = pytest.importorskip("hoomd", reason="HOOMD-blue is not installed in this interpreter")
pytest.importorskip("hoomd.md")
qlm_hoomd_ipl = pytest.importorskip(
    "qlm_hoomd_ipl", reason="not compiled for this HOOMD-blue: pip install ./plugins/hoomd_ipl", exc_type=ImportError
)

pytestmark = pytest.mark.hoomd

XX_XY_XZ_YY_YZ_ZZ = ((0, 0, 0, 1, 1, 2), (0, 1, 2, 1, 2, 2))
LENGTHS = ((1.0, 1.18), (1.18, 1.4))
LAWS = [(10, 3, 1.48), (10, 2, 1.48), (12, 2, 1.25), (8, 4, 1.6), (2, 0, 1.3), (64, 8, 1.1), (10, 8, 1.48)]


def _law(n: int, q: int, x_c: float, epsilon: float = 1.0) -> InversePowerLaw:
    return InversePowerLaw(n=n, q=q, x_c=x_c, lengths=LENGTHS, epsilon=epsilon)


def _force(law: InversePowerLaw, types: str = "AB") -> Any:
    force = qlm_hoomd_ipl.InversePowerLaw(hoomd.md.nlist.Cell(buffer=0.2), n=law.n, smooth=law.q, default_x_cut=law.x_c)
    for (i, a), (j, b) in product(enumerate(types), repeat=2):
        force.params[a, b] = {"epsilon": law.epsilon, "sigma": law.lengths[i][j]}
    return force


def _simulation(glass: Glass, forces: list[Any], types: str = "AB", *, pressure: bool = True) -> Any:
    simulation = hoomd.Simulation(hoomd.device.CPU(), seed=1)
    snapshot = hoomd.Snapshot()
    snapshot.configuration.box = glass.box.to_gsd()
    snapshot.particles.N = glass.n_particles
    snapshot.particles.types = list(types)
    snapshot.particles.typeid[:] = glass.typeid
    snapshot.particles.position[:] = glass.box.wrap(glass.positions)
    simulation.create_state_from_snapshot(snapshot)
    simulation.always_compute_pressure = pressure
    simulation.operations.integrator = hoomd.md.Integrator(
        dt=1e-4, forces=forces, methods=[hoomd.md.methods.ConstantVolume(hoomd.filter.All())]
    )
    simulation.run(0)
    return simulation


class Evaluated(NamedTuple):
    """What HOOMD makes of a configuration."""

    energy: float
    energies: NDArray[np.float64]
    forces: NDArray[np.float64]
    virials: NDArray[np.float64] | None


def _evaluate(force: Any, glass: Glass, types: str = "AB", *, pressure: bool = True) -> Evaluated:
    # The force lives as long as its simulation.
    simulation = _simulation(glass, [force], types, pressure=pressure)
    evaluated = Evaluated(force.energy, force.energies, force.forces, force.virials)
    assert simulation.timestep == 0
    return evaluated


def _shaken_lattice(cells: int, spacing: float, strain: float, seed: int = 5) -> Glass:
    """Particles of two types around the sites of a cubic lattice: disordered, sheared and under stress."""
    rng = np.random.default_rng(seed)
    box = Box(cells * spacing)
    sites_nc = np.array(list(product(range(cells), repeat=3))) * spacing
    positions_nc = sites_nc + rng.uniform(-0.2, 0.2, sites_nc.shape) * spacing
    return Glass(box.wrap(positions_nc), rng.integers(0, 2, len(sites_nc)), box).sheared(strain)


@pytest.fixture(scope="module")
def sheared() -> Glass:
    return _shaken_lattice(9, 1.07, 0.37)


@pytest.mark.parametrize(("n", "q", "x_c"), LAWS)
def test_coefficients_are_those_of_qlm_hoomd(n: int, q: int, x_c: float) -> None:
    np.testing.assert_allclose(qlm_hoomd_ipl.coefficients(n, q, x_c), _law(n, q, x_c).coefficients, rtol=1e-14)


@pytest.mark.parametrize(("n", "q", "x_c"), LAWS)
@pytest.mark.parametrize("pair", [(0, 0), (0, 1), (1, 1)])
@pytest.mark.parametrize("x", [0.8, 1.05, 1.09])
def test_two_particles(n: int, q: int, x_c: float, pair: tuple[int, int], x: float) -> None:
    law = _law(n, q, x_c, epsilon=1.7)
    distance = x * law.lengths[pair[0]][pair[1]]
    # Across the face of the box, and beyond the cut-off a second pair.
    positions_nc = np.array([[9.99, 0.0, 0.0], [9.99 + distance, 0.0, 0.0], [0.0, 5.0, 0.0], [0.0, 5.0, 1.401 * x_c]])
    glass = Glass(positions_nc, np.array([*pair, *pair]), Box(20.0))
    found = _evaluate(_force(law), glass)
    r2_p, code_p = np.array([distance**2]), np.array([2 * pair[0] + pair[1]], dtype=np.uint8)
    energy, slope = law.derivatives(r2_p, code_p, 1)[:, 0]
    # Near the cut-off large terms cancel; what is left of round-off is measured by their size.
    terms = law.epsilon * np.array([x**-n, *(abs(law.coefficients) * x ** (2.0 * np.arange(q + 1)))])
    np.testing.assert_allclose(found.energies, [energy / 2, energy / 2, 0, 0], rtol=0, atol=1e-13 * terms.sum())
    push = 2 * distance * slope
    slopes = terms @ [n, *(2 * np.arange(q + 1))] / distance
    np.testing.assert_allclose(found.forces[:, 0], [push, -push, 0, 0], rtol=0, atol=1e-12 * slopes)
    assert not found.forces[:, 1:].any()


@pytest.mark.parametrize(("n", "q", "x_c"), LAWS)
def test_disordered_sheared_stressed_frame(n: int, q: int, x_c: float, sheared: Glass) -> None:
    law = _law(n, q, x_c, epsilon=0.3)
    found = _evaluate(_force(law), sheared)
    bonds = bonds_of(sheared, law, 1)
    assert bonds.n_pairs > 1000
    assert found.energy == pytest.approx(bonds.energy, rel=1e-11)
    np.testing.assert_allclose(found.forces, bonds.forces, rtol=0, atol=1e-11 * abs(bonds.forces).max())
    virial_c = -bonds.virial[XX_XY_XZ_YY_YZ_ZZ]
    np.testing.assert_allclose(found.virials.sum(axis=0), virial_c, rtol=0, atol=1e-11 * abs(virial_c).max())


def _through_hoomds_loop(law: InversePowerLaw, glass: Glass) -> Evaluated:
    """The force as HOOMD's own pair loop computes it, which is the one of the GPU.

    A third type, of which there is no particle, follows another law; batches need one law for all.
    """
    force = _force(law)
    force.params["C", ["A", "B", "C"]] = {"epsilon": 1.0, "sigma": 1.0, "n": law.n - 2 or 4}
    return _evaluate(force, glass, types="ABC")


@pytest.mark.parametrize(("n", "q", "x_c"), LAWS)
def test_agrees_with_hoomds_own_loop(n: int, q: int, x_c: float, sheared: Glass) -> None:
    law = _law(n, q, x_c)
    batches, loop = _evaluate(_force(law), sheared), _through_hoomds_loop(law, sheared)
    largest = abs(loop.forces).max()
    np.testing.assert_allclose(batches.energies, loop.energies, rtol=0, atol=1e-11 * abs(loop.energies).max())
    np.testing.assert_allclose(batches.forces, loop.forces, rtol=0, atol=1e-11 * largest)
    np.testing.assert_allclose(batches.virials, loop.virials, rtol=0, atol=1e-11 * abs(loop.virials).max())


def test_more_neighbours_than_a_batch_holds() -> None:
    """Soft and far-reaching: the first particle of HOOMD's half list alone has more than the 1024 pairs of one batch."""
    rng = np.random.default_rng(2)
    law = InversePowerLaw(n=2, q=1, x_c=4.0, lengths=((1.0, 1.0), (1.0, 1.0)))
    box = Box(8.6, xy=0.1)
    glass = Glass(box.length * (rng.random((2600, 3)) - 0.5), rng.integers(0, 2, 2600), box, strain=0.1)
    batches, loop = _evaluate(_force(law), glass), _through_hoomds_loop(law, glass)
    bonds = bonds_of(glass, law, 0)
    assert np.count_nonzero(bonds.i_p == 0) + np.count_nonzero(bonds.j_p == 0) > 1024
    np.testing.assert_allclose(batches.forces, loop.forces, rtol=0, atol=1e-11 * abs(loop.forces).max())
    np.testing.assert_allclose(batches.energies, loop.energies, rtol=1e-11)


def test_forces_are_the_same_to_the_last_bit_with_and_without_virials(sheared: Glass) -> None:
    law = _law(10, 3, 1.48)
    with_virials, without = _evaluate(_force(law), sheared), _evaluate(_force(law), sheared, pressure=False)
    assert without.virials is None
    np.testing.assert_array_equal(with_virials.forces, without.forces)
    np.testing.assert_array_equal(with_virials.energies, without.energies)


def test_energy_is_conserved() -> None:
    """Forces are the slope of the energy, along a trajectory that crosses box faces and cut-offs."""
    simulation = _simulation(_shaken_lattice(8, 1.25, 0.37), [_force(_law(10, 3, 1.48))])
    thermo = hoomd.md.compute.ThermodynamicQuantities(hoomd.filter.All())
    simulation.operations.computes.append(thermo)
    simulation.run(0)
    before = thermo.kinetic_energy + thermo.potential_energy
    simulation.run(1000)
    assert thermo.kinetic_energy > 1000.0
    assert thermo.kinetic_energy + thermo.potential_energy == pytest.approx(before, rel=3e-5)


def test_cutoff_follows_the_parameters(sheared: Glass) -> None:
    force = _force(_law(10, 3, 1.48))
    assert force.r_cut == pytest.approx({("A", "A"): 1.48, ("A", "B"): 1.48 * 1.18, ("B", "B"): 1.48 * 1.4})
    simulation = _simulation(sheared, [force])
    force.params["A", "A"] = {"epsilon": 1.0, "sigma": 1.1, "x_cut": 1.3}
    simulation.run(1)
    assert force.r_cut["A", "A"] == pytest.approx(1.43)
    assert force.params["A", "A"] == {"epsilon": 1.0, "sigma": 1.1, "n": 10, "smooth": 3, "x_cut": 1.3}


def test_zero_epsilon_switches_a_pair_off(sheared: Glass) -> None:
    force = _force(_law(10, 3, 1.48))
    force.params["A", ["A", "B"]] = {"epsilon": 0.0, "sigma": 1.0}
    found = _evaluate(force, sheared)
    assert not found.forces[sheared.typeid == 0].any()
    assert abs(found.forces[sheared.typeid == 1]).max() > 1.0


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"epsilon": -1.0, "sigma": 1.0}, "not negative"),
        ({"epsilon": 1.0, "sigma": 0.0}, "positive"),
        ({"epsilon": 1.0, "sigma": float("nan")}, "positive"),
        ({"epsilon": 1.0, "sigma": 1.0, "n": 9}, "even"),
        ({"epsilon": 1.0, "sigma": 1.0, "n": 66}, "even exponent from 2 to 64"),
        ({"epsilon": 1.0, "sigma": 1.0, "n": 10.5}, "Integral"),
        ({"epsilon": 1.0, "sigma": 1.0, "smooth": 9}, "from 0 to 8"),
        ({"epsilon": 1.0, "sigma": 1.0, "x_cut": -1.48}, "positive"),
    ],
)
def test_bad_parameters_fail_at_assignment(params: dict[str, float], says: str) -> None:
    force = qlm_hoomd_ipl.InversePowerLaw(hoomd.md.nlist.Cell(buffer=0.2))
    with pytest.raises(ValueError, match=says):
        force.params["A", "A"] = params


def test_matches_the_running_hoomd() -> None:
    assert qlm_hoomd_ipl.mismatch() is None
    assert qlm_hoomd_ipl.BUILD["hoomd"]["version"] == hoomd.version.version


@pytest.mark.skipif(not hoomd.version.gpu_enabled, reason="this HOOMD-blue was built for the CPU alone")
def test_every_kernel_of_the_force_is_in_the_library() -> None:
    """HOOMD's pair loop for each way to shift the energy, with and without virial, 1 to 32 threads, with and without the cache."""
    from qlm_hoomd_ipl import _ipl

    assert issubclass(_ipl.PotentialPairIPLGPU, _ipl.BasePairIPLGPU)
    name = rb"gpu_compute_pair_forces_shared_kernelIN3qlm16EvaluatorPairIPLELj([012])ELj([01])ELi(\d+)ELb([01])E"
    found = {tuple(map(int, kernel)) for kernel in re.findall(name, Path(_ipl.__file__).read_bytes())}
    assert found == set(product(range(3), range(2), (1, 2, 4, 8, 16, 32), range(2)))


def _import_of_a_copy(folder: Path, changes: dict[str, Any]) -> str:
    """Import a copy of the installed package that claims to be compiled for a HOOMD with these changes.

    The answer is what it complains of.
    """
    copy = folder / "qlm_hoomd_ipl"
    shutil.copytree(Path(qlm_hoomd_ipl.__file__).parent, copy)
    build = json.loads((copy / "build.json").read_text())
    build["hoomd"] |= changes
    (copy / "build.json").write_text(json.dumps(build))
    return _import_from(folder)


def _import_from(folder: Path, prelude: str = "") -> str:
    command = f"""
import sys
sys.path.insert(0, {str(folder)!r})
{prelude}
try:
    import qlm_hoomd_ipl
except ImportError as error:
    assert type(error).__name__ == "IncompatibleHOOMDError", type(error)
    assert "qlm_hoomd_ipl._ipl" not in sys.modules, "the compiled code was loaded"
    print(error)
"""
    return subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"version": "4.8.1"}, "version is '{version}', compiled for '4.8.1'"),
        ({"floating_point_precision": [32, 32]}, "compiled for [32, 32]"),
        ({"gpu_enabled": "neither"}, "gpu_enabled is"),
        ({"git_sha1": "0000"}, "compiled for '0000'"),
    ],
)
def test_another_hoomd_is_refused_before_loading(changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    complaint = _import_of_a_copy(tmp_path, changes)
    assert says.format(version=hoomd.version.version) in complaint
    assert "pip install --force-reinstall" in complaint


def test_same_hoomd_is_not_refused(tmp_path: Path) -> None:
    assert _import_of_a_copy(tmp_path, {}) == ""


def test_absent_hoomd_is_said_so() -> None:
    installed = Path(qlm_hoomd_ipl.__file__).parent.parent
    complaint = _import_from(installed, prelude="sys.modules['hoomd'] = None")
    assert "HOOMD-blue cannot be imported" in complaint


def test_source_folder_is_not_taken_for_the_compiled_package() -> None:
    assert "holds no compiled code" in _import_from(Path(__file__).parents[1])


def test_example_of_the_readme_runs() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(example, "README.md", "exec"), names)
    assert names["ipl"].r_cut["B", "B"] == pytest.approx(2.072)
