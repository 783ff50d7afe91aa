"""Particles of sizes of their own: published lattices, brute force, the law by types, and the way through files and protocols."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import gsd.hoomd
import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML
from typer.testing import CliRunner

from qlm_hoomd import gsdio
from qlm_hoomd.base.checkpoint import packed, unpacked
from qlm_hoomd.box import Box
from qlm_hoomd.cli import app
from qlm_hoomd.engines.base import Observables
from qlm_hoomd.engines.cpu import CPUEngine
from qlm_hoomd.engines.verlet import Noise, motion
from qlm_hoomd.errors import InputError
from qlm_hoomd.glass import Glass
from qlm_hoomd.kept import digest_of
from qlm_hoomd.mechanics import Mechanics, bonds_of
from qlm_hoomd.model import GlassModel, SizeDistribution
from qlm_hoomd.potentials import Harmonic, InversePowerLaw, SoftSpheres
from qlm_hoomd.preparation import random_start
from qlm_hoomd.protocol import build_protocol
from qlm_hoomd.testing import check_potential

if TYPE_CHECKING:
    from collections.abc import Callable

NBC = SoftSpheres()
BY_TYPES = InversePowerLaw(n=12, q=2, x_c=1.25, lengths=((1.0,),))
SPATIAL = GlassModel(potential=NBC, density=1.0, T0=0.5)
FLAT = GlassModel(potential=NBC, density=1.0, T0=0.5, dimensions=2)


class WithoutLaw(SoftSpheres):
    """Soft spheres of which the loops know nothing but derivatives."""

    kind: Literal["without_law"] = "without_law"  # type: ignore[assignment]  # a kind of its own

    def scaled_law(self) -> Any:
        return None


def liquid_of(model: GlassModel, n_particles: int, seed: int = 1) -> Glass:
    rng = np.random.default_rng(seed)
    start = random_start(model, n_particles, rng)
    return CPUEngine(model.potential).run(start, duration=1.0, temperature=model.T0, rng=rng)[0]


@pytest.fixture(scope="module", params=[SPATIAL, FLAT], ids=["3D", "2D"])
def model(request: pytest.FixtureRequest) -> GlassModel:
    return request.param


@pytest.fixture(scope="module")
def liquid(model: GlassModel) -> Glass:
    return liquid_of(model, 150)


# ---- the law ----


def test_coefficients_and_derivatives_are_those_of_the_papers_formula() -> None:
    """phi = x^-12 + c0 + c2 x^2 + c4 x^4 of Ninarello, Berthier and Coslovich, with numbers of an independent program."""
    np.testing.assert_allclose(NBC.coefficients, [-1.924145348608, 2.11106232532992, -0.5910974510923776], rtol=1e-14)
    table = {
        0.9: (2.938702258719675, -45.133143468086836, 680.3904366725299, -10620.315382111185),
        1.0: (0.5958195256295423, -10.14226515370967, 153.1289552375513, -2198.1863388262173),
        1.1: (0.08344510460720955, -1.9786382707302481, 36.71906533254696, -538.4372085310915),
        1.2: (0.0022413800665455, -0.14068254900485666, 6.158264964116862, -158.77715638868239),
        1.25 - 1e-13: (0.0, 0.0, 0.0, -94.57559217478041),
    }
    x_p = np.array(list(table))
    d0, d1, d2, d3 = NBC.derivatives(x_p**2, np.zeros(len(x_p), np.uint8), 3)
    by_r_kp = d0, 2 * x_p * d1, 2 * d1 + 4 * x_p**2 * d2, 12 * x_p * d2 + 8 * x_p**3 * d3
    for found_p, expected_p in zip(by_r_kp, zip(*table.values(), strict=True), strict=True):
        np.testing.assert_allclose(found_p, expected_p, rtol=1e-11, atol=1e-10)


def _lattice(basis: list[list[float]], cells: int, dimensions: int = 3) -> np.ndarray:
    """Positions of a lattice of one particle per volume, or area, made of cubes or squares."""
    edge = len(basis) ** (1.0 / dimensions)
    corners_nc = np.stack(np.meshgrid(*[np.arange(cells)] * 3, indexing="ij"), axis=-1).reshape(-1, 1, 3).astype(float)
    if dimensions == 2:
        corners_nc = corners_nc[corners_nc[:, 0, 2] == 0]
    return edge * (corners_nc + np.array(basis)).reshape(-1, 3)


FCC = [[0.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.0, 0.5, 0.5]]
BCC = [[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]]


@pytest.mark.parametrize(
    ("basis", "dimensions", "expected"),
    [
        (FCC, 3, 0.2839067822125403),
        (BCC, 3, 0.4100776514806719),
        ([[0.0, 0.0, 0.0]], 3, 1.7874585768886269),
        ([[0.0, 0.0, 0.0]], 2, 1.1916390512590846),
    ],
    ids=["fcc", "bcc", "sc", "square"],
)
def test_energies_of_lattices_of_one_size(basis: list[list[float]], dimensions: int, expected: float) -> None:
    positions_nc = _lattice(basis, 4, dimensions)
    edge = len(positions_nc) ** (1.0 / dimensions)
    n = len(positions_nc)
    glass = Glass(positions_nc, np.zeros(n, int), Box(edge, lz=0.0 if dimensions == 2 else edge), sizes=np.ones(n))
    assert bonds_of(glass, NBC).energy / n == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("dimensions", "expected"), [(2, 0.5665397168805706), (3, 0.8498095753208559)])
def test_energy_of_a_checkerboard_of_two_sizes(dimensions: int, expected: float) -> None:
    """Sizes 0.9 and 1.1 make pairs of 0.96; additive ones of 1 would give 1.19 in two dimensions."""
    positions_nc = _lattice([[0.0, 0.0, 0.0]], 4, dimensions)
    size_n = np.where(positions_nc.sum(axis=1).round() % 2, 0.9, 1.1)
    box = Box(4.0, lz=0.0 if dimensions == 2 else 4.0)
    glass = Glass(positions_nc, np.zeros(len(size_n), int), box, sizes=size_n)
    # Next neighbours are out of reach, so that only unlike ones count; in three dimensions those are 1.414 apart as well.
    assert bonds_of(glass, NBC).energy / len(size_n) == pytest.approx(expected, rel=1e-12)
    # In the loops of the dynamics too.
    assert Mechanics(NBC, glass.typeid, 0.1, glass.sizes).energy_forces(glass.positions, box)[0] / len(size_n) == pytest.approx(
        expected, rel=1e-12
    )


def test_numerical_twins() -> None:
    found = check_potential(NBC)
    assert found.continuous_to == 2
    assert check_potential(SoftSpheres(q=3, nonadditivity=0.0)).continuous_to == 3


def test_what_jumps_at_the_cutoff() -> None:
    assert [NBC.jumps_at_cutoff(order) for order in (1, 2, 3)] == [False, False, True]
    assert [SoftSpheres(q=3).jumps_at_cutoff(order) for order in (1, 2, 3)] == [False, False, False]
    assert Harmonic(sigma=((1.0,),)).jumps_at_cutoff(2)


# ---- one path for all ----


def test_energy_and_forces_are_those_of_all_pairs(model: GlassModel, liquid: Glass, pairs_within: Callable[..., Any]) -> None:
    """Listed within their own reach, in the loops of the dynamics and with pairs stored, while the box is sheared."""
    mechanics, stored = (Mechanics(law, liquid.typeid, 0.2, liquid.sizes) for law in (NBC, WithoutLaw()))
    rng = np.random.default_rng(0)
    for strain in (0.0, 0.03, 0.4, 0.7):
        glass = liquid.at_strain(strain)
        noise_nc = rng.normal(scale=0.02, size=(150, 3))
        noise_nc[:, model.dimensions :] = 0.0
        glass = glass.moved(glass.positions + noise_nc)
        i_p, j_p, r_pc = pairs_within(glass.positions, glass.box, 1.25 * glass.sizes.max())
        a_p, b_p = glass.sizes[i_p], glass.sizes[j_p]
        x2_p = (r_pc**2).sum(axis=1) / (0.5 * (a_p + b_p) * (1 - 0.2 * np.abs(a_p - b_p))) ** 2
        c0, c2, c4 = NBC.coefficients
        energy = np.where(x2_p < 1.5625, x2_p**-6 + c0 + c2 * x2_p + c4 * x2_p**2, 0.0).sum()
        bonds = mechanics.bonds(glass.positions, glass.box)
        assert bonds.n_pairs == (x2_p < 1.5625).sum()
        assert bonds.energy == pytest.approx(energy, rel=1e-11)
        for each in (mechanics, stored):
            found, force_nc = each.energy_forces(glass.positions, glass.box)
            assert found == pytest.approx(energy, rel=1e-11)
            np.testing.assert_allclose(force_nc, bonds.forces, atol=1e-12 * np.abs(force_nc).max())


def test_one_size_is_the_law_by_types_to_the_last_bit(liquid: Glass) -> None:
    by_types = Glass(liquid.positions, np.zeros(150, int), liquid.box)
    of_size = replace(by_types, sizes=np.ones(150))
    one, other = Mechanics(BY_TYPES, by_types.typeid, 0.2), Mechanics(NBC, of_size.typeid, 0.2, of_size.sizes)
    (energy, force_nc), (same, same_nc) = (each.energy_forces(liquid.positions, liquid.box) for each in (one, other))
    assert energy == same
    assert force_nc.tobytes() == same_nc.tobytes()
    for a, b in zip(
        *(
            (bonds.phi_kp, bonds.r_pc, bonds.i_p, bonds.j_p)
            for bonds in (each.bonds(liquid.positions, liquid.box, 4) for each in (one, other))
        ),
        strict=True,
    ):
        assert a.tobytes() == b.tobytes()
    ends = [
        CPUEngine(law).run(glass, duration=0.3, temperature=0.5, rng=np.random.default_rng(2))[0].positions.tobytes()
        for law, glass in ((BY_TYPES, by_types), (NBC, of_size))
    ]
    assert ends[0] == ends[1]


def test_dynamics_conserve_energy(model: GlassModel, liquid: Glass) -> None:
    """Without a thermostat, to the square of the step, over some ten collision times."""
    drifts = []
    for dt in (0.004, 0.002):
        rng = np.random.default_rng(5)
        v_nc = rng.normal(scale=math.sqrt(0.5), size=liquid.positions.shape)
        v_nc[:, model.dimensions :] = 0.0
        moving = motion(NBC, liquid, liquid.positions, v_nc, None, temperature=0.5, dt=dt, keep=1.0)
        n_steps = round(2.0 / dt)
        noise = Noise(np.full(n_steps, 0.5), np.zeros(n_steps), np.zeros(n_steps))
        everywhere = np.ones(n_steps, bool)
        steps = moving.advance(noise, everywhere, everywhere)
        total_k = steps.energy_k + 0.5 * steps.square_k
        drifts.append(np.ptp(total_k) / (0.5 * steps.square_k.mean()))
        # They went places.
        assert np.abs(moving.state()[0] - liquid.positions).max() > 0.3
    assert drifts[1] < 2e-3
    assert drifts[0] / drifts[1] == pytest.approx(4.0, rel=0.5)


def test_steps_of_the_loop_are_those_of_separate_forces(liquid: Glass) -> None:
    ends = [
        CPUEngine(law).run(liquid, duration=0.2, temperature=0.5, rng=np.random.default_rng(3))[0].positions
        for law in (NBC, WithoutLaw())
    ]
    np.testing.assert_allclose(liquid.box.minimum_image(ends[0] - ends[1]), 0.0, atol=1e-9)


def test_descents_end_alike_and_relaxation_goes_on_from_its_memory(liquid: Glass) -> None:
    engine = CPUEngine(NBC)
    glass, report = engine.descend(liquid)
    assert report.max_force < 1e-10
    np.testing.assert_array_equal(glass.sizes, liquid.sizes)
    rest, _ = engine.relax(glass.sheared(1e-4))
    fresh = CPUEngine(NBC)
    fresh.recall(unpacked(packed(engine.memory), (Box,)))
    again = [each.relax(rest.sheared(1e-4))[0].positions.tobytes() for each in (engine, fresh)]
    assert again[0] == again[1]
    # Other sizes are another glass, though the types are the same.
    larger = replace(rest, sizes=1.01 * rest.sizes)
    assert engine.measure(larger).energy == pytest.approx(bonds_of(larger, NBC).energy / 150, rel=1e-12)


# ---- what carries them ----


def test_sizes_go_with_the_glass(liquid: Glass) -> None:
    with pytest.raises(ValueError, match="read-only"):
        liquid.sizes[0] = 2.0
    copies = [liquid.moved(liquid.positions), liquid.sheared(0.1), liquid.mirrored(), liquid.turned((1, 0, 2))]
    for copy in (*copies, unpacked(packed(liquid), (Glass, Box))):
        assert copy.sizes.tobytes() == liquid.sizes.tobytes()
    assert bonds_of(copies[2], NBC).energy == pytest.approx(bonds_of(liquid, NBC).energy, rel=1e-12)
    some_n = liquid.sizes > 1.0
    assert liquid.among(some_n).sizes.tolist() == liquid.sizes[some_n].tolist()
    assert "150 particles of sizes 0.7" in repr(liquid)
    assert digest_of(liquid) != digest_of(replace(liquid, sizes=liquid.sizes * 1.001))


def test_a_file_keeps_all_digits_of_the_sizes(liquid: Glass, tmp_path: Path) -> None:
    path = tmp_path / "g.gsd"
    gsdio.write_glasses(
        path, [(each, Observables(0, 0, 0, 0)) for each in (liquid, liquid.sheared(0.01))], {}, diameters=(1.0,)
    )
    for number in (0, 1):
        frame = gsdio.read_glass(path, number)
        assert frame.exact
        assert frame.glass.sizes.tobytes() == liquid.sizes.tobytes()
    with gsd.hoomd.open(str(path)) as trajectory:
        np.testing.assert_allclose(trajectory[1].particles.diameter, liquid.sizes, rtol=1e-6)
        assert not any(trajectory[1].particles.type_shapes)
    assert gsdio.read_glass(path, sized=False).glass.sizes is None


def test_diameters_of_others_are_sizes_where_a_type_has_several(liquid: Glass, tmp_path: Path) -> None:
    path = tmp_path / "foreign.gsd"
    frame = gsd.hoomd.Frame()
    frame.particles.N, frame.particles.types = 150, ["A", "B"]
    frame.particles.typeid, frame.particles.position = liquid.typeid, liquid.box.wrap(liquid.positions)
    frame.configuration.box, frame.configuration.dimensions = liquid.box.to_gsd(), liquid.box.dimensions
    for name, diameter_n in (("several", liquid.sizes), ("by type", np.array([0.9, 1.2])[liquid.typeid]), ("none", None)):
        frame.particles.diameter = diameter_n
        with gsd.hoomd.open(str(path), "w") as trajectory:
            trajectory.append(frame)
        read = {sized: gsdio.read_glass(path, sized=sized) for sized in (None, True, False)}
        found = {sized: each.glass.sizes is not None for sized, each in read.items()}
        assert found == {None: name == "several", True: name != "none", False: False}, name
        assert not read[None].exact
        if name == "several":
            np.testing.assert_allclose(read[None].glass.sizes, liquid.sizes, rtol=1e-6)
            assert "ignored" in read[False].notes[0]
            assert not read[True].notes


# ---- what is refused ----


def test_law_and_glass_have_to_agree_on_sizes(liquid: Glass) -> None:
    with pytest.raises(InputError, match=r"sizes of their own, 0\.7\d+ to 1\.\d+, and InversePowerLaw knows types alone"):
        bonds_of(liquid, InversePowerLaw(n=12, q=2, x_c=1.25, lengths=((1.0, 1.0), (1.0, 1.0))))
    bare = replace(liquid, sizes=None)
    for wrong in (
        lambda: bonds_of(bare, NBC),
        lambda: CPUEngine(NBC).run(bare, duration=0.1, temperature=1.0, rng=np.random.default_rng(0)),
        lambda: CPUEngine(NBC).descend(bare),
    ):
        with pytest.raises(InputError, match="the particles have no sizes, of which SoftSpheres makes the length"):
            wrong()
    with pytest.raises(InputError, match=r"sizes\.shape = \(3,\); expected \(150,\)"):
        Mechanics(NBC, liquid.typeid, 0.1, np.ones(3))
    with pytest.raises(InputError, match="particles make pairs of length -"):
        bonds_of(replace(liquid, sizes=np.linspace(0.1, 8.0, 150)), NBC)
    with pytest.raises(InputError, match="InversePowerLaw knows types and no sizes"):
        BY_TYPES.pair_length(1.0, 1.0)
    with pytest.raises(InputError, match="expected at least twice the cut-off"):
        bonds_of(replace(liquid, sizes=np.append(liquid.sizes[1:], 0.5 * liquid.box.lx)), SoftSpheres(nonadditivity=0.0))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([1.0, 0.0], "1 of 2 sizes are not positive and finite (the first: 0)"),
        ([-1.0, np.nan], "2 of 2 sizes are not positive and finite (the first: -1)"),
        ([1.0, np.inf], "1 of 2 sizes"),
        ([1.0], "sizes.shape = (1,); expected (2,)"),
        (["a", "b"], "sizes are not numbers"),
    ],
)
def test_sizes_that_are_none_are_refused(sizes: list[Any], message: str) -> None:
    with pytest.raises(InputError) as refused:
        Glass(np.zeros((2, 3)), np.zeros(2, int), Box(5.0), sizes=sizes)
    assert message in str(refused.value)


# ---- the model ----


def test_quantiles_are_exact() -> None:
    """Bounds and moments of s^-3 with a mean of 1, from an independent program, and the formula of the quantiles."""
    sizes = SizeDistribution()
    a, b = sizes.bounds
    assert a == pytest.approx(0.72532672374943677, rel=1e-15)
    assert b == pytest.approx(1.6095, rel=1e-12)
    u_n = (np.arange(1000) + 0.5) / 1000
    drawn_n = sizes.draw(1000, np.random.default_rng(0))
    np.testing.assert_allclose(drawn_n, (a**-2 - u_n * (a**-2 - b**-2)) ** -0.5, rtol=1e-14)
    fine_n = sizes.draw(1_000_000, np.random.default_rng(0))
    assert fine_n.mean() == pytest.approx(1.0, abs=1e-11)
    assert (fine_n**2).mean() == pytest.approx(1.0523893916638725, abs=1e-11)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0, 3.0, 4.5])
def test_any_exponent_has_its_mean_and_its_ratio(exponent: float) -> None:
    sizes = SizeDistribution(exponent=exponent, ratio=3.0, mean=1.3)
    fine_n = sizes.draw(400_000, np.random.default_rng(0))
    assert fine_n.mean() == pytest.approx(1.3, rel=1e-9)
    assert sizes.bounds[1] / sizes.bounds[0] == pytest.approx(3.0)
    # A share of particles is an integral of the law.
    s = np.linspace(*sizes.bounds, 200_001)
    share = np.trapezoid(np.where(s < 1.2, s**-exponent, 0.0), s) / np.trapezoid(s**-exponent, s)
    assert (fine_n < 1.2).mean() == pytest.approx(share, abs=2e-5)


def test_random_sizes_follow_the_same_law_and_the_seed() -> None:
    sizes = SizeDistribution(sampling="random")
    one, same, other = (sizes.draw(5000, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one.tobytes() == same.tobytes() != other.tobytes()
    # Kolmogorov's distance of 5000 samples is beyond 0.028 once in a thousand times.
    shares = np.searchsorted(SizeDistribution().draw(100_000, np.random.default_rng(0)), np.sort(one)) / 100_000
    assert np.abs(shares - (np.arange(5000) + 0.5) / 5000).max() < 0.028


def test_a_start_has_the_sizes_of_its_model(model: GlassModel) -> None:
    one, other = (random_start(model, 150, np.random.default_rng(seed)) for seed in (1, 2))
    assert sorted(one.sizes) == sorted(other.sizes) == SizeDistribution().draw(150, np.random.default_rng(0)).tolist()
    assert one.sizes.tolist() != other.sizes.tolist()
    # Types name the larger half.
    assert one.sizes[one.typeid == 0].max() < one.sizes[one.typeid == 1].min()
    assert (one.typeid == 1).sum() == 75
    drawn = GlassModel(**{**dict(model), "sizes": SizeDistribution(sampling="random")})
    assert sorted(random_start(drawn, 150, np.random.default_rng(1)).sizes) != sorted(one.sizes)


def test_the_smallest_box_holds_the_largest_particles() -> None:
    assert SPATIAL.largest_cutoff == pytest.approx(1.25 * 1.6095, rel=1e-12)
    assert SPATIAL.smallest_system() == math.ceil((2 * 1.25 * 1.6095 * math.sqrt(1.25)) ** 3)
    with pytest.raises(InputError, match=r"expected at least 92, so that the box holds twice the cut-off 2\.01"):
        random_start(SPATIAL, 91, np.random.default_rng(0))


def test_sizes_of_a_model_without_use_for_them_are_refused() -> None:
    with pytest.raises(InputError, match="sizes given, and InversePowerLaw knows types alone"):
        GlassModel(sizes=SizeDistribution())
    with pytest.raises((InputError, ValidationError), match="ratio"):
        SizeDistribution(ratio=0.5)


# ---- a protocol ----

PAGE = Path(__file__).parents[1] / "docs" / "polydisperse.md"


@pytest.mark.parametrize(("dimensions", "size", "q"), [(3, 120, 2), (2, 100, 3)])
def test_a_protocol_runs_to_its_end(dimensions: int, size: int, q: int, tmp_path: Path) -> None:
    """The one of the documentation, in a small form."""
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    settings = YAML(typ="safe").load(text)
    assert build_protocol(settings).model.size_distribution == SizeDistribution()
    settings["model"] |= {"potential": {"kind": "soft_spheres", "q": q}, "dimensions": dimensions, "T0": 0.5}
    settings["model"]["sizes"]["sampling"] = "random"
    quick = {"quench": "rapid", "equilibration_time": 2.0}
    settings["ensemble"] = {"n_particles": [size], "preparations": {"rapid": quick}, "realisations": 1}
    settings["stages"][1] |= {"strain_max": 0.02, "increment": 1e-3, "frames": [0.01]}
    settings["stages"][2] |= {"strains": [0.0, 0.01], "count": 6, "keep_vectors": True}
    settings["stages"][2] |= {"nonlinear": ["cubic"], "random_starts": 0, "paths": True}
    file, run = tmp_path / "poly.json", tmp_path / "run"
    file.write_text(json.dumps(settings), encoding="utf-8")
    done = CliRunner().invoke(app, ["run", str(file), "--out", str(run), "--workers", "1"])
    assert done.exit_code == 0, done.output
    (quenched,) = run.glob("**/quenched.gsd")
    glass = gsdio.read_glass(quenched).glass
    bounds = SizeDistribution().bounds
    assert bounds[0] <= glass.sizes.min() < glass.sizes.max() <= bounds[1]
    sheared = gsdio.read_glass(quenched.with_name("sheared.gsd")).glass
    assert sheared.sizes.tobytes() == glass.sizes.tobytes()
    modes = pl.read_parquet(quenched.with_name("modes.parquet"))
    law = SoftSpheres(q=q)
    for frame in (glass, sheared):
        bonds = bonds_of(frame, law)
        assert np.abs(bonds.forces).max() < 1e-9
        expected = np.linalg.eigvalsh(bonds.hessian().toarray())[dimensions : dimensions + 6]
        found = modes.filter(pl.col("strain") == frame.strain)["eigenvalue"].to_numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-7)
    with gsd.hoomd.open(str(quenched.with_name("modes.gsd"))) as trajectory:
        np.testing.assert_allclose(trajectory[0].particles.diameter, glass.sizes, rtol=1e-6)
    assert pl.read_parquet(quenched.with_name("qlms.parquet"))["path_strain"].drop_nulls().len() > 0
    assert pl.read_parquet(quenched.with_name("structure.parquet")).height == 1
