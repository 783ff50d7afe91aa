"""Glasses in two dimensions: the same code with z = 0, against lattices, dense algebra and finite differences."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from qlm_hoomd import gsdio
from qlm_hoomd.anharmonic import AnharmonicModes
from qlm_hoomd.box import Box
from qlm_hoomd.cli import app
from qlm_hoomd.elasticity import elastic_moduli, nonaffine_velocity, residual_shear_stress
from qlm_hoomd.engines.cpu import CPUEngine
from qlm_hoomd.errors import InputError
from qlm_hoomd.glass import Glass
from qlm_hoomd.hessian import Hessian, solve
from qlm_hoomd.mechanics import DILATION, Bonds, Mechanics, bonds_of
from qlm_hoomd.minimize import fire
from qlm_hoomd.model import GlassModel
from qlm_hoomd.modes import LowestModes, Solver
from qlm_hoomd.nonlinear import CubicModes, mode_locations
from qlm_hoomd.potentials import InversePowerLaw
from qlm_hoomd.preparation import Preparation, equilibrate, quench, random_start
from qlm_hoomd.standing import standing

if TYPE_CHECKING:
    from pathlib import Path

MODEL = GlassModel(dimensions=2, density=0.86)
N = 200


@pytest.fixture(scope="module")
def engine() -> CPUEngine:
    return CPUEngine(MODEL.potential)


@pytest.fixture(scope="module")
def glass(engine: CPUEngine) -> Glass:
    """A rapidly quenched glass."""
    rng = np.random.default_rng(4)
    return engine.descend(engine.run(random_start(MODEL, N, rng), duration=2.0, temperature=1.0, rng=rng)[0])[0]


def _lattice(cells: int, spacing: float, rows: float, shift: float, types: int, potential: InversePowerLaw) -> float:
    """Energy per particle of rows of particles, every second one shifted."""
    i, j = (index.ravel() for index in np.meshgrid(np.arange(cells), np.arange(cells)))
    positions_nc = np.stack([(i + shift * (j % 2)) * spacing, j * rows, 0.0 * i], axis=1)
    box = Box(lx=cells * spacing, ly=cells * rows, lz=0.0)
    return bonds_of(Glass(positions_nc, (i + j) % types, box), potential).energy / len(positions_nc)


def test_energies_of_lattices() -> None:
    """At one particle per area, from notes on the soft spheres of Ninarello, Berthier and Coslovich; the last is a checkerboard."""
    spheres = InversePowerLaw(n=12, q=2, x_c=1.25, lengths=((1.0,),))
    mixed = InversePowerLaw(n=12, q=2, x_c=1.25, lengths=((0.9, 0.96), (0.96, 1.1)))
    spacing = (4.0 / 3.0) ** 0.25
    assert _lattice(8, spacing, 1.0 / spacing, 0.5, 1, spheres) == pytest.approx(0.4417335606383277, rel=1e-13)
    assert _lattice(8, 1.0, 1.0, 0.0, 1, spheres) == pytest.approx(1.1916390512590846, rel=1e-13)
    assert _lattice(8, 1.0, 1.0, 0.0, 2, mixed) == pytest.approx(0.5665397168805706, rel=1e-13)


def test_there_are_two_translations_and_nothing_out_of_the_plane(glass: Glass) -> None:
    matrix = Hessian(MODEL.potential).compute(glass).matrix
    assert matrix.shape == (2 * N, 2 * N)
    eigenvalues = np.linalg.eigvalsh(matrix.toarray())
    assert np.abs(eigenvalues[:2]).max() < 1e-9 * eigenvalues[-1]
    assert eigenvalues[2] > 1e-6 * eigenvalues[-1]


@pytest.mark.parametrize("solver", ["dense", "factor", "filter"])
def test_every_solver_finds_the_modes_of_the_plane(solver: Solver, glass: Glass) -> None:
    hessian = Hessian(MODEL.potential).compute(glass)
    expected = np.linalg.eigvalsh(hessian.matrix.toarray())[2:14]
    modes = LowestModes(12, solver, check_completeness=True).compute(hessian)
    np.testing.assert_allclose(modes.eigenvalues, expected, rtol=1e-9)
    assert modes.vectors.shape == (12, N, 3)
    assert not modes.vectors[:, :, 2].any()
    assert modes.completeness == {"dense": "all"}.get(solver, "inertia")


def test_all_modes_of_a_small_glass_and_no_more(glass: Glass) -> None:
    hessian = Hessian(MODEL.potential).compute(glass)
    assert len(LowestModes(2 * N - 2).compute(hessian).eigenvalues) == 2 * N - 2
    with pytest.raises(InputError, match=r"at most 2N - 2 = 398"):
        LowestModes(2 * N - 1).compute(hessian)


def test_linear_response_is_that_of_the_dense_matrix(glass: Glass) -> None:
    bonds = bonds_of(glass, MODEL.potential)
    inverse = np.linalg.pinv(bonds.hessian().toarray(), rcond=1e-10)
    right_nc = bonds.in_space(np.random.default_rng(0).normal(size=(N, 3)))
    right_nc -= right_nc.mean(axis=0)
    found_nc = solve(bonds, right_nc, tolerance=1e-12)
    np.testing.assert_allclose(found_nc[:, :2].ravel(), inverse @ right_nc[:, :2].ravel(), atol=1e-8)
    assert not found_nc[:, 2].any()
    velocity_nc = nonaffine_velocity(bonds)
    np.testing.assert_allclose(velocity_nc[:, :2].ravel(), -inverse @ bonds.mixed_derivative()[:, :2].ravel(), atol=1e-6)


def test_moduli_are_slopes_of_what_the_relaxed_glass_resists(engine: CPUEngine, glass: Glass) -> None:
    moduli, step = elastic_moduli(bonds_of(glass, MODEL.potential)), 2e-6

    def bonds_at(each: Glass) -> Bonds:
        return bonds_of(engine.relax(each, tolerance=1e-11)[0], MODEL.potential)

    up, down = (bonds_at(glass.sheared(sign * step)).stress_xy for sign in (1, -1))
    assert moduli.shear_modulus == pytest.approx((up - down) / (2.0 * step), rel=1e-5)
    up, down = (
        bonds_at(
            replace(
                glass, positions=glass.positions * (1.0 + sign * step), box=Box(glass.box.length * (1.0 + sign * step), lz=0.0)
            )
        ).pressure
        for sign in (1, -1)
    )
    # A = A0 (1 + eps)^2.
    assert moduli.bulk_modulus == pytest.approx(-(up - down) / (4.0 * step), rel=1e-5)
    assert moduli.poisson_ratio == pytest.approx(
        (moduli.bulk_modulus - moduli.shear_modulus) / (moduli.bulk_modulus + moduli.shear_modulus)
    )
    # Pure shear by unequal edges keeps the area too; the softest of the two directions is softer than both.
    energies = []
    for stretch in (-1e-4, 0.0, 1e-4):
        factor_c = np.array([np.exp(0.5 * stretch), np.exp(-0.5 * stretch), 1.0])
        edges = glass.box.length * factor_c
        box = Box(lx=edges[0], ly=edges[1], lz=0.0)
        energies.append(bonds_at(replace(glass, positions=glass.positions * factor_c, box=box)).energy)
    pure = (energies[0] - 2.0 * energies[1] + energies[2]) / (1e-4) ** 2 / glass.box.volume
    assert moduli.softest_shear_modulus < pure + 1e-6
    assert pure < 4.0 * moduli.shear_modulus_mean
    transverse, longitudinal = moduli.sound_speeds(0.86)
    assert longitudinal**2 - transverse**2 == pytest.approx(moduli.bulk_modulus / 0.86)


def test_stress_of_the_plane_alone(glass: Glass) -> None:
    bonds = bonds_of(glass, MODEL.potential)
    stress_cc = (bonds.virial / bonds.volume)[:2, :2]
    assert bonds.pressure == pytest.approx(-0.5 * np.trace(stress_cc), rel=1e-12)
    # Half the difference of the principal stresses.
    assert residual_shear_stress(bonds) == pytest.approx(0.5 * np.ptp(np.linalg.eigvalsh(stress_cc)), rel=1e-9)
    assert np.vdot(DILATION, bonds.virial) == pytest.approx(-2.0 * bonds.pressure * glass.box.volume)


def test_a_mode_to_fourth_order_with_the_rest_following(glass: Glass) -> None:
    hessian = Hessian(MODEL.potential, order=4).compute(glass)
    modes = LowestModes(3).compute(hessian)
    bonds, mode_nc = hessian.bonds, modes.vectors[0]
    expansion = AnharmonicModes().compute(hessian, modes.vectors)[0]
    assert expansion.curvature == pytest.approx(modes.eigenvalues[0], rel=1e-9)
    inverse = np.linalg.pinv(hessian.matrix.toarray(), rcond=1e-10)
    third = bonds.third_contraction(mode_nc)[:, :2].ravel()
    third -= (third @ mode_nc[:, :2].ravel()) * mode_nc[:, :2].ravel()
    assert expansion.chi_relaxed == pytest.approx(bonds.chi(mode_nc) - 3.0 * third @ inverse @ third, rel=1e-5)


def test_cubic_modes_stay_in_the_plane(glass: Glass) -> None:
    hessian = Hessian(MODEL.potential, order=4).compute(glass)
    found = CubicModes(random=3).compute(hessian, LowestModes(5).compute(hessian))
    matrix = hessian.matrix
    for curvature, vector_nc in zip(found.curvatures, found.vectors, strict=True):
        assert not vector_nc[:, 2].any()
        z, third = vector_nc[:, :2].ravel(), hessian.bonds.third_contraction(vector_nc)[:, :2].ravel()
        assert np.linalg.norm(matrix @ z - curvature / (third @ z) * third) < 1e-6 * np.linalg.norm(matrix @ z)
    centres = mode_locations(found.vectors, glass)
    assert not centres[:, 2].any()
    assert np.abs(centres).max() <= 0.5 * glass.box.length


def test_a_disc_is_held_by_three_contacts() -> None:
    """Three discs around one; those outside lean on too few."""
    angle = 2.0 * np.pi * np.arange(3) / 3.0
    ring_nc = 0.95 * np.stack([np.cos(angle), np.sin(angle), 0.0 * angle], axis=1)
    chain = Glass(np.concatenate([np.zeros((1, 3)), ring_nc]), np.zeros(4, int), Box(12.0, lz=0.0))
    with pytest.raises(InputError, match="fewer than three contacts"):
        standing(chain, InversePowerLaw(n=12, q=2, x_c=1.25, lengths=((1.0,),)), force_tolerance=np.inf)


def test_dynamics_keep_to_the_plane_and_to_the_temperature(engine: CPUEngine) -> None:
    rng = np.random.default_rng(7)
    states = []
    start = random_start(MODEL, N, rng)
    end, report = engine.run(start, duration=20.0, temperature=0.7, rng=rng, waypoint=lambda state: states.append(state()))
    assert not end.positions[:, 2].any()
    assert not states[-1].velocities[:, 2].any()
    np.testing.assert_allclose(states[-1].velocities.mean(axis=0), 0.0, atol=1e-12)
    assert report.temperature == pytest.approx(0.7, rel=0.02)
    # The virial theorem: of a power law, n times the energy but for what smoothing adds, and 2 dimensions.
    assert report.pressure == pytest.approx(0.86 * (0.7 + 10.0 / 2.0 * report.energy), rel=0.15)


def test_steps_of_every_potential_are_the_same(engine: CPUEngine, glass: Glass) -> None:
    """The loop with the law compiled in, and the one that any potential takes."""

    class Other(InversePowerLaw):
        def scaled_law(self) -> None:
            return None

    other = CPUEngine(Other(**MODEL.potential.model_dump(exclude={"kind"})))
    ends = [
        each.run(glass, duration=0.2, temperature=0.3, rng=np.random.default_rng(3))[0].positions for each in (engine, other)
    ]
    np.testing.assert_allclose(glass.box.minimum_image(ends[0] - ends[1]), 0.0, atol=1e-9)


def test_a_slow_quench_is_a_glass_at_rest(engine: CPUEngine) -> None:
    rng = np.random.default_rng(2)
    slow = Preparation(quench="slow", equilibration_time=2.0, cooling_rate=0.02)
    liquid, _ = equilibrate(engine, random_start(MODEL, 100, rng), MODEL, slow, rng)
    cooled, cooling, report = quench(engine, liquid, MODEL, slow, rng)
    assert cooling is not None
    assert report.max_force < 1e-10
    assert cooled.box == Box((100 / 0.86) ** 0.5, lz=0.0)
    assert engine.measure(cooled).energy < engine.measure(engine.descend(liquid)[0]).energy


def test_fire_reaches_the_same_minimum(glass: Glass) -> None:
    rng = np.random.default_rng(1)
    moved = glass.moved(glass.positions + 1e-3 * rng.normal(size=(N, 3)) * [1.0, 1.0, 0.0])
    minimum, _ = fire(Mechanics(MODEL.potential, glass.typeid), moved)
    apart_nc = minimum.positions - glass.positions
    np.testing.assert_allclose(apart_nc - apart_nc.mean(axis=0), 0.0, atol=1e-7)


def test_shear_flips_after_a_whole_box() -> None:
    box = Box(lx=6.0, ly=3.0, lz=0.0)
    glass = Glass(np.array([[0.0, 1.0, 0.0], [1.0, 0.5, 0.0]]), np.zeros(2, int), box)
    assert glass.at_strain(0.99).box.xy == pytest.approx(0.99)
    assert glass.at_strain(1.01).box.xy == pytest.approx(-0.99)
    whole = glass.at_strain(2.0)
    assert whole.box == box
    np.testing.assert_allclose(
        box.minimum_image(whole.positions - glass.positions - [[2.0, 0, 0], [1.0, 0, 0]]), 0.0, atol=1e-12
    )


def test_what_leaves_the_plane_is_refused(glass: Glass) -> None:
    with pytest.raises(InputError, match="1 of 200 particles have z other than 0"):
        glass.moved(glass.positions + np.eye(1, N).T * [0.0, 0.0, 0.1])
    with pytest.raises(InputError, match=r"axes = \(0, 2, 1\) in two dimensions"):
        glass.turned((0, 2, 1))
    turned = glass.turned((1, 0, 2))
    assert bonds_of(turned, MODEL.potential).energy == pytest.approx(bonds_of(glass, MODEL.potential).energy, rel=1e-12)


PROTOCOL = """
name: flat
seed: 3
model: {dimensions: 2, density: 0.86}
ensemble: {n_particles: [60], preparations: {rapid: {quench: rapid, equilibration_time: 1}}, realisations: 1}
stages:
  - kind: prepare
  - {kind: shear, strain_max: 0.03, increment: 1.0e-3, frames: [0.01], detector: fold, directions: [+xy, -xy]}
  - {kind: modes, count: 6, strains: [0.0, 0.01], keep_vectors: true, check_completeness: always}
  - {kind: structure, r_max: 3.0}
"""


def test_a_protocol_of_two_dimensions_from_liquid_to_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for plugin in ("qlm_quasistatic", "qlm_rewind"):
        pytest.importorskip(plugin)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flat.yaml").write_text(PROTOCOL)
    done = CliRunner().invoke(app, ["run", "flat.yaml"])
    assert done.exit_code == 0, done.output
    folder = next((tmp_path / "runs" / "flat").rglob("quenched.gsd")).parent
    quenched = gsdio.read_glass(folder / "quenched.gsd").glass
    assert quenched.box == Box((60 / 0.86) ** 0.5, lz=0.0)
    expected = np.linalg.eigvalsh(Hessian(MODEL.potential).compute(quenched).matrix.toarray())[2:8]
    modes = pl.read_parquet(folder / "modes.parquet").filter(strain=0.0)
    np.testing.assert_allclose(modes["eigenvalue"], expected, rtol=1e-8)
    assert pl.read_parquet(folder / "moduli.parquet")["completeness"].to_list() == ["all", "all"]
    assert pl.read_parquet(folder / "directions.parquet")["gamma_min"].null_count() == 0
    page = (tmp_path / "runs" / "flat" / "results" / "report.html").read_text(encoding="utf-8")
    assert "dimensions" in page


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("detector: fold", "detector: fold, plane: xz"), "shear in xz in two dimensions; expected the plane xy"),
        (("[+xy, -xy]", "all"), "in two dimensions; expected the plane xy"),
        (("dimensions: 2", "dimensions: 4"), "dimensions"),
        (("count: 6", "count: 119"), "expected at most 118, the modes of N = 60"),
    ],
    ids=["plane", "directions", "four", "modes"],
)
def test_a_protocol_that_leaves_the_plane_is_refused(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    for plugin in ("qlm_quasistatic", "qlm_rewind"):
        pytest.importorskip(plugin)
    (tmp_path / "flat.yaml").write_text(PROTOCOL.replace(*change))
    done = CliRunner().invoke(app, ["run", str(tmp_path / "flat.yaml"), "--dry-run"])
    assert done.exit_code == 2
    assert says in " ".join(done.output.split())
