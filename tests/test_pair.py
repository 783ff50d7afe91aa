"""HOOMD-blue's pair force in its three ways, against the mechanics of qlm_hoomd, on the real HOOMD-blue."""

# Array names carry their axes: n particles, c Cartesian components, p pairs.

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qlm_hoomd.box import Box
from qlm_hoomd.errors import InputError
from qlm_hoomd.glass import Glass
from qlm_hoomd.mechanics import bonds_of
from qlm_hoomd.model import GlassModel
from qlm_hoomd.potentials import InversePowerLaw

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

hoomd = pytest.importorskip("hoomd", reason="HOOMD-blue is not installed in this interpreter")
pytest.importorskip("hoomd.md")

from qlm_hoomd import pair  # noqa: E402  (it needs HOOMD-blue)

pytestmark = pytest.mark.hoomd

# Largest deviation of energy, forces and virials, each relative to its largest: round-off, or the table's interpolation.
TOLERANCES = {"component": 1e-11, "mie": 1e-11, "table": 1e-8}
XX_XY_XZ_YY_YZ_ZZ = ((0, 0, 0, 1, 1, 2), (0, 1, 2, 1, 2, 2))
NO_COMPONENT = "the compiled component is not installed (pip install ./plugins/hoomd_ipl)"


def _component_reason() -> str | None:
    try:
        import qlm_hoomd_ipl  # noqa: F401
    except ImportError as error:
        return f"{NO_COMPONENT}: {error}"
    return None


COMPONENT_REASON = _component_reason()
needs_component = pytest.mark.skipif(COMPONENT_REASON is not None, reason=str(COMPONENT_REASON))
backends = pytest.mark.parametrize("backend", [pytest.param("component", marks=needs_component), "mie", "table"])
exact_backends = pytest.mark.parametrize("backend", [pytest.param("component", marks=needs_component), "mie"])


def _law(**changes: Any) -> InversePowerLaw:
    return InversePowerLaw(**{"n": 10, "q": 3, "x_c": 1.48, "lengths": ((1.0, 1.18), (1.18, 1.4))} | changes)


def _same(one: InversePowerLaw, other: InversePowerLaw) -> bool:
    return one.model_dump() == other.model_dump()


def _nlist() -> Any:
    return hoomd.md.nlist.Cell(buffer=0.2)


def _simulation(glass: Glass, types: tuple[str, ...] = ("A", "B")) -> Any:
    simulation = hoomd.Simulation(hoomd.device.CPU(), seed=1)
    snapshot = hoomd.Snapshot()
    snapshot.configuration.box = glass.box.to_gsd()
    snapshot.particles.N = glass.n_particles
    snapshot.particles.types = list(types)
    snapshot.particles.typeid[:] = glass.typeid
    snapshot.particles.position[:] = glass.box.wrap(glass.positions)
    simulation.create_state_from_snapshot(snapshot)
    simulation.always_compute_pressure = True
    return simulation


def _integrator(forces: list[Any], dt: float = 0.002) -> Any:
    return hoomd.md.Integrator(dt=dt, forces=forces, methods=[hoomd.md.methods.ConstantVolume(hoomd.filter.All())])


def _deviations(force: Any, glass: Glass, potential: InversePowerLaw) -> tuple[float, float, float]:
    """Energy, forces and virials of HOOMD against the mechanics, relative to the largest of each."""
    bonds = bonds_of(glass, potential, 1)
    assert bonds.energy > 0.0
    assert abs(bonds.forces).max() > 1.0
    # HOOMD's virial is force times distance, ours dU/dE.
    virial_c = -bonds.virial[XX_XY_XZ_YY_YZ_ZZ]
    return (
        abs(force.energy / bonds.energy - 1.0),
        abs(force.forces - bonds.forces).max() / abs(bonds.forces).max(),
        abs(force.virials.sum(axis=0) - virial_c).max() / abs(virial_c).max(),
    )


@backends
@pytest.mark.parametrize("strain", [0.0, 0.31, 0.5])
def test_agrees_with_mechanics(backend: str, strain: float, model: GlassModel, liquid: Glass) -> None:
    glass = liquid.sheared(strain)
    force = pair.InversePowerLaw.from_potential(model.potential, _nlist(), backend=backend)
    simulation = _simulation(glass)
    simulation.operations.integrator = _integrator([force])
    simulation.run(0)
    assert force.backend == backend
    assert max(_deviations(force, glass, model.potential)) < TOLERANCES[backend]
    # The known error of the table is there: were it exact, it would not be the table.
    if backend == "table":
        assert _deviations(force, glass, model.potential)[1] > 1e-12


@exact_backends
@pytest.mark.parametrize(
    "law",
    [
        _law(n=12, q=2, x_c=1.25),
        _law(n=8, q=4, x_c=1.6, epsilon=2.5),
        _law(n=6, q=0, x_c=1.3),
        _law(n=14, q=1),
        _law(n=10, q=8, x_c=1.4),
    ],
    ids=lambda law: f"n{law.n}q{law.q}",
)
def test_agrees_for_other_laws(backend: str, law: InversePowerLaw, small_liquid: Glass) -> None:
    # Twice as many particles along each axis than the smallest box: room for the longer cut-offs.
    glass = _doubled(small_liquid)
    force = pair.InversePowerLaw.from_potential(law, _nlist(), backend=backend)
    simulation = _simulation(glass)
    simulation.operations.computes.append(force)
    simulation.run(0)
    assert max(_deviations(force, glass, law)) < TOLERANCES[backend]


def _doubled(glass: Glass) -> Glass:
    length = glass.box.length
    corners = np.array([(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * length
    positions_nc = (corners[:, None, :] + glass.positions).reshape(-1, 3)
    return Glass(positions_nc, np.tile(glass.typeid, 8), Box(2.0 * length)).sheared(0.17)


@given(half_n=st.integers(1, 12), q=st.integers(0, 8), x_c=st.floats(1.1, 2.0), x=st.floats(0.6, 1.0, exclude_max=True))
@settings(max_examples=200)
def test_mie_terms_add_up_to_the_potential(half_n: int, q: int, x_c: float, x: float) -> None:
    law = _law(n=2 * half_n, q=q, x_c=x_c, lengths=((1.0,),))
    x *= x_c
    parts = []
    for n, m, epsilon, sigma in pair.mie_terms(law):
        prefactor = n / (n - m) * (n / m) ** (m / (n - m)) * epsilon
        parts += [prefactor * (sigma / x) ** n, -prefactor * (sigma / x) ** m]
        parts += [-prefactor * (sigma / x_c) ** n, prefactor * (sigma / x_c) ** m]
    exact = law.derivatives(np.array([x * x]), np.zeros(1, dtype=np.uint8), 0)[0, 0]
    assert len(pair.mie_terms(law)) == 1 + (q + 1) // 2
    assert sum(parts) == pytest.approx(exact, abs=1e-13 * sum(map(abs, parts)))


@exact_backends
def test_one_object_gives_force_and_potential(backend: str, model: GlassModel) -> None:
    force = pair.InversePowerLaw(_nlist(), n=10, smooth=3, default_x_cut=1.48, backend=backend)
    force.params["A", "A"] = {"epsilon": 1.0, "sigma": 1.0}
    force.params["B", "A"] = {"epsilon": 1, "sigma": 1.18}
    force.params["B", "B"] = {"epsilon": 1.0, "sigma": 1.4}
    assert _same(force.potential, model.potential)
    assert force.params["A", "B"] == {"epsilon": 1.0, "sigma": 1.18}
    assert force.r_cut == pytest.approx({("A", "A"): 1.48, ("A", "B"): 1.7464, ("B", "B"): 2.072})
    assert _same(pair.InversePowerLaw.from_potential(model.potential, _nlist(), backend=backend).potential, model.potential)


def test_types_follow_the_simulation(liquid: Glass) -> None:
    law = _law(lengths=((1.3, 1.1), (1.1, 0.9)))
    force = pair.InversePowerLaw.from_potential(law, _nlist(), types=("small", "large"))
    # Before it is attached the alphabet decides, and "large" comes first.
    assert force.potential.lengths == ((0.9, 1.1), (1.1, 1.3))
    simulation = _simulation(liquid, types=("small", "large"))
    simulation.operations.integrator = _integrator([force])
    simulation.run(0)
    assert _same(force.potential, law)
    assert max(_deviations(force, liquid, law)) < 1e-11


def test_types_follow_the_simulation_that_has_the_terms(liquid: Glass) -> None:
    law = _law(lengths=((1.3, 1.1), (1.1, 0.9)))
    force = pair.InversePowerLaw.from_potential(law, _nlist(), types=("small", "large"), backend="mie")
    simulation = _simulation(liquid, types=("small", "large"))
    simulation.operations.integrator = _integrator(force.terms)
    simulation.run(0)
    assert _same(force.potential, law)


def _trajectory(forces: Callable[[Any], list[Any]], force: Any, glass: Glass) -> NDArray[np.float64]:
    simulation = _simulation(glass)
    simulation.always_compute_pressure = False
    simulation.operations.integrator = _integrator(forces(force))
    simulation.run(100)
    return np.asarray(simulation.state.get_snapshot().particles.position)


@needs_component
def test_ways_give_the_same_trajectory(model: GlassModel, quenched: Glass) -> None:
    glass = quenched.sheared(0.01)
    ways: list[tuple[str, Callable[[Any], list[Any]]]] = [
        ("component", lambda force: [force]),
        ("mie", lambda force: [force]),
        ("mie", lambda force: force.terms),
    ]
    reference_nc, *others = (
        _trajectory(forces, pair.InversePowerLaw.from_potential(model.potential, _nlist(), backend=backend), glass)
        for backend, forces in ways
    )
    assert abs(glass.box.minimum_image(reference_nc - glass.positions)).max() > 1e-4
    for positions_nc in others:
        assert abs(glass.box.minimum_image(positions_nc - reference_nc)).max() < 1e-12


@backends
def test_parameters_can_change_in_a_simulation(backend: str, model: GlassModel, liquid: Glass) -> None:
    force = pair.InversePowerLaw.from_potential(model.potential, _nlist(), backend=backend)
    simulation = _simulation(liquid)
    simulation.operations.integrator = _integrator([force], dt=0.0)
    simulation.run(0)
    force.params[("A", ["A", "B"])] = {"epsilon": 1.0, "sigma": 1.05}
    simulation.run(1)
    changed = _law(lengths=((1.05, 1.05), (1.05, 1.4)))
    assert _same(force.potential, changed)
    assert max(_deviations(force, liquid, changed)) < TOLERANCES[backend]


@backends
def test_moves_between_integrators(backend: str, model: GlassModel, liquid: Glass) -> None:
    force = pair.InversePowerLaw.from_potential(model.potential, _nlist(), backend=backend)
    simulation = _simulation(liquid)
    simulation.operations.integrator = _integrator([force], dt=0.0)
    simulation.run(0)
    simulation.operations.integrator.forces.clear()
    with pytest.raises(hoomd.error.DataAccessError):
        _ = force.energy
    simulation.operations.integrator = hoomd.md.minimize.FIRE(
        dt=1e-3,
        force_tol=1e-3,
        angmom_tol=1.0,
        energy_tol=1.0,
        forces=[force],
        methods=[hoomd.md.methods.ConstantVolume(hoomd.filter.All())],
    )
    simulation.run(0)
    assert max(_deviations(force, liquid, model.potential)) < TOLERANCES[backend]


def test_logger_takes_it(model: GlassModel, liquid: Glass) -> None:
    force = pair.InversePowerLaw.from_potential(model.potential, _nlist())
    simulation = _simulation(liquid)
    simulation.operations.integrator = _integrator([force])
    logger = hoomd.logging.Logger(categories=["scalar", "particle"])
    logger.add(force, quantities=["energy", "forces"])
    simulation.run(0)
    logged = logger.log()["qlm_hoomd"]["pair"]["InversePowerLaw"]
    assert logged["energy"][0] == force.energy
    assert logged["forces"][0].shape == (liquid.n_particles, 3)


@backends
def test_provenance_is_plain_data_and_says_the_way(backend: str) -> None:
    force = pair.InversePowerLaw(_nlist(), backend=backend)
    provenance = json.loads(json.dumps(force.provenance))
    assert provenance["backend"] == backend
    assert provenance["hoomd"] == hoomd.version.version
    assert f"backend={backend!r}" in repr(force)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"n": 9}, "even"),
        ({"n": 128}, "less than or equal to 64"),
        ({"smooth": -1}, "smooth"),
        ({"default_x_cut": 0.0}, "default_x_cut"),
        ({"backend": "tables"}, "expected auto, component, mie, table"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        pair.InversePowerLaw(_nlist(), **arguments)


def test_bad_parameters_are_refused() -> None:
    force = pair.InversePowerLaw(_nlist())
    with pytest.raises(InputError, match="all of them"):
        _ = force.potential
    with pytest.raises(ValueError, match="expected a positive number"):
        force.params["A", "A"] = {"epsilon": 1.0, "sigma": 0.0}
    with pytest.raises(InputError, match="expected epsilon and sigma, and nothing else"):
        force.params["A", "A"] = {"epsilon": 1.0}
    force.params["A", "A"] = {"epsilon": 1.0, "sigma": 1.0}
    # A change in place would reach nobody.
    with pytest.raises(TypeError):
        force.params["A", "A"]["sigma"] = 2.0
    with pytest.raises(TypeError, match="cannot be deleted"):
        del force.params["A", "A"]
    force.params["B", ["A", "B"]] = {"epsilon": 2.0, "sigma": 1.0}
    with pytest.raises(InputError, match=r"epsilon = \[1.0, 2.0\]"):
        _ = force.potential


def test_missing_pair_is_refused_when_the_simulation_starts(liquid: Glass) -> None:
    force = pair.InversePowerLaw(_nlist())
    force.params["A", ["A", "B"]] = {"epsilon": 1.0, "sigma": 1.0}
    simulation = _simulation(liquid)
    simulation.operations.integrator = _integrator([force])
    with pytest.raises(InputError, match=r"\('B', 'B'\)"):
        simulation.run(0)


def test_other_potentials_and_types_are_refused(model: GlassModel) -> None:
    from qlm_hoomd.potentials import PairPotential

    class Other(PairPotential):
        def cutoffs(self) -> NDArray[np.float64]:
            return np.ones((1, 1))

        def derivatives(self, r2_p: NDArray[np.float64], pairtype_p: NDArray[np.uint8], order: int) -> NDArray[np.float64]:
            return np.zeros((order + 1, len(r2_p)))

    with pytest.raises(InputError, match="Other; expected an inverse power law"):
        pair.InversePowerLaw.from_potential(Other(), _nlist())
    for types in (("A",), ("A", "A"), ("A", "B", "C")):
        with pytest.raises(InputError, match="2 different names"):
            pair.InversePowerLaw.from_potential(model.potential, _nlist(), types=types)


REPORT = """
import json, hoomd.md
from qlm_hoomd.errors import InputError
from qlm_hoomd.pair import InversePowerLaw
force = InversePowerLaw(hoomd.md.nlist.Cell(buffer=0.2))
try:
    InversePowerLaw(hoomd.md.nlist.Cell(buffer=0.2), backend="component")
except InputError as error:
    refusal = str(error)
print(json.dumps([force.backend, force.provenance["not_used"], repr(force), refusal]))
"""


def _report(prelude: str) -> tuple[str, dict[str, str], str, str]:
    """What a fresh interpreter says after ``prelude``."""
    run = subprocess.run([sys.executable, "-c", f"{prelude}\n{REPORT}"], capture_output=True, text=True, check=True)
    backend, not_used, shown, refusal = json.loads(run.stdout)
    return backend, not_used, shown, refusal


def test_absent_component_is_replaced_and_named() -> None:
    # None in sys.modules is Python's own mark of a module that is not there.
    backend, not_used, shown, refusal = _report("import sys; sys.modules['qlm_hoomd_ipl'] = None")
    assert backend == "mie"
    for text in (not_used["component"], shown, refusal):
        assert "pip install ./plugins/hoomd_ipl" in text


@needs_component
def test_component_for_another_hoomd_is_replaced_and_named(tmp_path: Path) -> None:
    import qlm_hoomd_ipl

    copy = tmp_path / "qlm_hoomd_ipl"
    shutil.copytree(Path(qlm_hoomd_ipl.__file__).parent, copy)
    build = json.loads((copy / "build.json").read_text())
    build["hoomd"]["version"] = "3.0.0"
    (copy / "build.json").write_text(json.dumps(build))
    backend, not_used, shown, refusal = _report(f"import sys; sys.path.insert(0, {str(tmp_path)!r})")
    assert backend == "mie"
    for text in (not_used["component"], shown, refusal):
        assert f"version is {hoomd.version.version!r}, compiled for '3.0.0'" in text


def test_without_hoomd_the_import_says_what_to_do() -> None:
    command = """
import sys
sys.modules["hoomd"] = None
from qlm_hoomd.errors import InputError
try:
    import qlm_hoomd.pair
except InputError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert "conda install -c conda-forge hoomd" in run.stdout
    assert "engine: cpu" in run.stdout


@pytest.mark.parametrize("nlist", [None, 0.2, "cell"])
def test_says_what_is_no_neighbour_list(nlist: Any) -> None:
    with pytest.raises(InputError, match=r"expected a neighbour list of HOOMD-blue, e\.g\. hoomd\.md\.nlist\.Cell"):
        pair.InversePowerLaw(nlist)
