"""Structure: known lattices, an ideal gas, a real disordered packing, and the verdicts on them."""

from __future__ import annotations

import json
from itertools import pairwise

import matplotlib as mpl
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from vesin import NeighborList

from qlm_hoomd.box import Box
from qlm_hoomd.engines.base import Engine
from qlm_hoomd.errors import InputError, QlmError
from qlm_hoomd.glass import Glass
from qlm_hoomd.gsdio import write_glasses
from qlm_hoomd.model import GlassModel
from qlm_hoomd.registry import ENGINES
from qlm_hoomd.stages import StageContext
from qlm_hoomd.stages.structure import StructureStage
from qlm_hoomd.structure import LocalOrder, RadialDistribution, StructureFactor

mpl.use("agg")

MODEL = GlassModel()
FCC = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
CSCL = [[0, 0, 0], [0.5, 0.5, 0.5]]


def lattice(basis: list[list[float]], cells: int, *, types: list[int], noise: float = 0.0, xy: float = 0.0) -> Glass:
    """A crystal of ``cells``^3 cubic cells at the model's density in the box of tilt ``xy``.

    The crystal itself is not sheared: where xy * cells is whole, it fits the tilted box as well as the cube.
    """
    rng = np.random.default_rng(1)
    cell_nc = np.stack(np.meshgrid(*[np.arange(cells)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    positions_nc = (cell_nc[:, None] + np.array(basis)).reshape(-1, 3)
    length = MODEL.box_length(len(positions_nc))
    positions_nc = positions_nc * length / cells + noise * rng.standard_normal(positions_nc.shape)
    box = Box(length, xy)
    return Glass(box.wrap(positions_nc), np.tile(types, cells**3), box, xy)


def ideal_gas(n_particles: int, *, xy: float = 0.0) -> Glass:
    length = MODEL.box_length(n_particles)
    positions_nc = np.random.default_rng(2).random((n_particles, 3)) @ Box(length, xy).matrix
    return Glass(positions_nc, MODEL.typeid(n_particles), Box(length, xy), xy)


def packed(start: Glass) -> Glass:
    """The minimum of the model's potential below ``start``: a real disordered packing."""
    n, potential = start.n_particles, MODEL.potential
    neighbours = NeighborList(cutoff=potential.largest_cutoff, full_list=False)

    def energy_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        first, second, distance_pc = neighbours.compute(
            points=flat.reshape(-1, 3), box=start.box.matrix, periodic=True, quantities="ijD"
        )
        first, second = first.astype(np.intp), second.astype(np.intp)  # numpy 2.0 does not count unsigned integers
        # The floor tames the overlaps of a random start.
        w_p = np.maximum((distance_pc**2).sum(axis=1), 0.3)
        derivative_kp = potential.derivatives(w_p, (start.typeid[first] * 2 + start.typeid[second]).astype(np.uint8), 1)
        force_pc = 2 * derivative_kp[1][:, None] * distance_pc
        gradient_cn = [np.bincount(second, f_p, n) - np.bincount(first, f_p, n) for f_p in force_pc.T]
        return derivative_kp[0].sum(), np.stack(gradient_cn, axis=1).ravel()

    found = minimize(energy_and_gradient, start.positions.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 300})
    return start.moved(found.x.reshape(-1, 3))


@pytest.fixture(scope="module")
def glass() -> Glass:
    return packed(ideal_gas(500))


@pytest.fixture(scope="module")
def demixed_glass() -> Glass:
    gas = ideal_gas(500)
    order = np.argsort(gas.box.wrap(gas.positions)[:, 2])
    return packed(gas.moved(gas.positions[order]))


@pytest.mark.parametrize("xy", [0.0, 0.4, -0.4])
def test_rdf_of_an_ideal_gas_is_one(xy: float) -> None:
    rdf = RadialDistribution(r_max=6.0, bin_width=0.25).compute(ideal_gas(4000, xy=xy))
    shells_b = 4 * np.pi * rdf.r**2 * 0.25
    for g_b, pairs in ((rdf.total, 4000 * 0.82 / 2), (rdf.partials["AA"], 2000 * 0.41 / 2), (rdf.partials["AB"], 2000 * 0.41)):
        sigma_b = 1 / np.sqrt(pairs * shells_b)
        assert (np.abs(g_b - 1) < 4.5 * sigma_b).all()
    assert set(rdf.partials) == {"AA", "AB", "BB"}


def test_rdf_is_normalised_for_few_particles() -> None:
    """Mean over many gases of 20 particles: without the 1 / N correction the like partials would be at 0.9."""
    box = Box(4.0)
    rng = np.random.default_rng(5)
    gases = [Glass(rng.random((20, 3)) * 4, np.repeat([0, 1], 10), box) for _ in range(2000)]
    partials = [RadialDistribution(r_max=1.9, bin_width=1.9).compute(gas).partials for gas in gases]
    for name in ("AA", "AB", "BB"):
        values = [float(partial[name][0]) for partial in partials]
        assert np.mean(values) == pytest.approx(1, abs=4 * np.std(values) / np.sqrt(len(values)))


@pytest.mark.parametrize("xy", [0.0, 0.4, -0.4])
def test_rdf_of_fcc_has_its_shells(xy: float) -> None:
    crystal = lattice(FCC, 5, types=[0] * 4, xy=xy)
    cell = crystal.box.length / 5
    rdf = RadialDistribution(r_max=1.8 * cell, bin_width=0.01).compute(crystal)
    shells = np.sqrt([0.5, 1.0, 1.5, 2.0, 2.5, 3.0]) * cell
    filled = rdf.r[rdf.total > 0]
    assert np.abs(filled[:, None] - shells).min(axis=1).max() <= 0.0051
    counts_b = rdf.total * 0.82 * (499 / 500) * 4 * np.pi / 3 * ((rdf.r + 0.005) ** 3 - (rdf.r - 0.005) ** 3)
    inside = [counts_b[np.abs(rdf.r - shell) < 0.02].sum() for shell in shells]
    assert np.allclose(inside, [12, 6, 24, 12, 24, 8], rtol=1e-3)


def test_partial_rdf_of_cscl_has_its_shells() -> None:
    crystal = lattice(CSCL, 6, types=[0, 1])
    cell = crystal.box.length / 6
    partials = RadialDistribution(r_max=1.3 * cell, bin_width=0.01).compute(crystal)
    r = partials.r
    assert np.abs(r[partials.partials["AB"] > 0] - np.sqrt(3) / 2 * cell).max() <= 0.0051
    for like in ("AA", "BB"):
        assert np.abs(r[partials.partials[like] > 0] - cell).max() <= 0.0051


@pytest.mark.parametrize("xy", [0.0, 0.3, -0.4])
def test_structure_factor_is_the_sum_over_all_wavevectors(xy: float) -> None:
    """All wavevectors taken, the bin means are those of the plain sum over both halves of q space."""
    gas = ideal_gas(300, xy=xy)
    ours = StructureFactor(q_max=5.0, bin_width=0.5, vectors_per_bin=10**6).compute(gas)
    reciprocal = 2 * np.pi * np.linalg.inv(gas.box.matrix).T
    q_vc = (np.array(list(np.ndindex(21, 21, 21))) - 10) @ reciprocal
    q_v = np.linalg.norm(q_vc, axis=1)
    s_v = np.abs(np.exp(-1j * q_vc @ gas.positions.T).sum(axis=1)) ** 2 / 300
    bins = [(q_v >= low) & (q_v < low + 0.5) & (q_v > 0.01) for low in np.arange(0.0, 5.0, 0.5)]
    assert ours.q == pytest.approx([q_v[inside].mean() for inside in bins if inside.any()], rel=1e-5)
    assert ours.s == pytest.approx([s_v[inside].mean() for inside in bins if inside.any()], rel=1e-3)


def test_structure_factor_of_an_ideal_gas_is_one() -> None:
    factor = StructureFactor().compute(ideal_gas(4000))
    # |sum exp(i q r)|^2 / N is exponential with mean 1, and 64 wavevectors make a bin.
    late = factor.s[-60:]
    assert late.mean() == pytest.approx(1, abs=4 / np.sqrt(64 * 60))
    assert late.std() == pytest.approx(1 / 8, rel=0.5)


@pytest.mark.parametrize("xy", [0.0, 0.4, -0.4])
def test_structure_factor_of_fcc_has_its_bragg_peaks(xy: float) -> None:
    crystal = lattice(FCC, 5, types=[0] * 4, xy=xy)
    unit = 2 * np.pi * 5 / crystal.box.length
    factor = StructureFactor(q_max=2.5 * unit, bin_width=0.1, vectors_per_bin=10**6).compute(crystal)
    peaks = factor.q[factor.s > 1]
    bragg = unit * np.sqrt([3, 4])
    assert np.abs(peaks[:, None] - bragg).min(axis=1).max() < 0.1
    assert np.abs(peaks[:, None] - bragg).min(axis=0).max() < 0.1
    # Between the peaks a perfect crystal does not scatter.
    assert factor.s[np.abs(factor.q[:, None] - bragg).min(axis=1) > 0.1].max() < 1e-6


def test_structure_factor_repeats_bit_for_bit(glass: Glass) -> None:
    first, second = (StructureFactor().compute(glass) for _ in range(2))
    assert np.array_equal(first.s, second.s)
    assert first.q[0] < 2 * np.pi / glass.box.length + 0.1
    assert (np.diff(first.q) > 0).all()


def test_q6_of_perfect_crystals() -> None:
    """Steinhardt, Nelson and Ronchetti (1983): q6 = 0.57452 for FCC."""
    order = LocalOrder().compute(lattice(FCC, 5, types=[0] * 4))
    assert order.q6 == pytest.approx(0.57452, abs=2e-4)


@pytest.mark.parametrize("noise", [0.03, 0.08])
@pytest.mark.parametrize(("basis", "types"), [(FCC, [0] * 4), (FCC, [0, 1, 0, 1]), (CSCL, [0, 1])])
@pytest.mark.parametrize("xy", [0.0, 0.4, -0.4])
def test_crystals_are_flagged(basis: list[list[float]], types: list[int], noise: float, xy: float) -> None:
    order = LocalOrder().compute(lattice(basis, 5, types=types, noise=noise, xy=xy))
    assert order.crystal_fraction > 0.95
    assert order.largest_cluster > 0.95
    assert not order.is_glass
    assert order.reason.startswith("crystallised")


def test_crystals_stay_flagged_under_affine_shear() -> None:
    crystal = lattice(FCC, 5, types=[0] * 4, noise=0.03)
    for strain in (0.2, -0.2, 1.1):
        assert LocalOrder().compute(crystal.sheared(strain)).crystal_fraction > 0.95


def test_a_crystalline_half_is_flagged_and_measured(glass: Glass) -> None:
    """A crystal fills the lower half of the box, the glass the upper one."""
    crystal = lattice(FCC, 5, types=[0] * 4, noise=0.03)
    lower = crystal.box.wrap(crystal.positions)[:, 2] < 0
    upper = glass.box.wrap(glass.positions)[:, 2] >= 0
    both = Glass(
        np.concatenate([crystal.box.wrap(crystal.positions)[lower], glass.box.wrap(glass.positions)[upper]]),
        np.concatenate([crystal.typeid[lower], glass.typeid[upper]]),
        glass.box,
    )
    order = LocalOrder().compute(both)
    assert 0.3 < order.crystal_fraction < 0.6
    assert order.largest_cluster == pytest.approx(order.crystal_fraction, abs=0.05)
    assert "crystallised" in order.reason


def test_a_disordered_packing_passes(glass: Glass) -> None:
    order = LocalOrder().compute(glass)
    assert order.is_glass
    assert order.reason == ""
    assert order.crystal_fraction < 0.01
    assert -0.15 < order.demixing < 0.05
    rdf = RadialDistribution().compute(glass)
    contact = {name: rdf.r[g_b.argmax()] for name, g_b in rdf.partials.items()}
    assert contact == pytest.approx({"AA": 1.02, "AB": 1.15, "BB": 1.33}, abs=0.06)


@pytest.mark.parametrize("strain", [0.4, -0.4])
def test_a_sheared_packing_passes(glass: Glass, strain: float) -> None:
    assert LocalOrder().compute(packed(glass.at_strain(strain))).is_glass


def test_a_demixed_packing_is_flagged(demixed_glass: Glass) -> None:
    for sample in (demixed_glass, demixed_glass.at_strain(0.4), demixed_glass.at_strain(-0.4)):
        order = LocalOrder().compute(sample)
        assert order.demixing > 0.5
        assert order.crystal_fraction < 0.05
        assert order.reason.startswith("demixed")


def test_a_demixed_crystal_has_both_reasons() -> None:
    crystal = lattice(FCC, 5, types=[0] * 4, noise=0.03)
    types_n = (crystal.positions[:, 0] > 0).astype(np.int32)
    reason = LocalOrder().compute(Glass(crystal.positions, types_n, crystal.box)).reason
    assert "crystallised" in reason
    assert "; demixed" in reason


def test_demixing_error_is_the_scatter_of_shuffled_types(glass: Glass) -> None:
    rng = np.random.default_rng(3)
    values = []
    for _ in range(200):
        order = LocalOrder().compute(Glass(glass.positions, rng.permutation(glass.typeid), glass.box))
        values.append(order.demixing)
    assert np.std(values) == pytest.approx(order.demixing_error, rel=0.2)
    assert np.mean(values) == pytest.approx(0, abs=4 * order.demixing_error / np.sqrt(200) + 2 / 500)


def test_one_type_cannot_demix() -> None:
    order = LocalOrder().compute(lattice(FCC, 5, types=[0] * 4, noise=0.3))
    assert np.isnan(order.demixing)
    assert "demixed" not in order.reason


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), turns=st.integers(-2, 2))
def test_verdict_ignores_origin_order_and_image(glass: Glass, demixed_glass: Glass, seed: int, turns: int) -> None:
    rng = np.random.default_rng(seed)
    for sample in (glass, demixed_glass):
        chosen = rng.permutation(sample.n_particles)
        images_nc = rng.integers(-3, 4, size=(sample.n_particles, 3))
        positions_nc = (sample.positions + images_nc @ sample.box.matrix + rng.normal(size=3))[chosen]
        moved = Glass(positions_nc, sample.typeid[chosen], sample.box, sample.strain + turns)
        before, after = LocalOrder().compute(sample), LocalOrder().compute(moved)
        # Single precision: a neighbour at the edge may change places.
        assert after.q6 == pytest.approx(before.q6[chosen], abs=0.05)
        assert after.q6.mean() == pytest.approx(before.q6.mean(), abs=1e-3)
        assert after.demixing == pytest.approx(before.demixing, abs=5e-3)
        assert after.is_glass == before.is_glass


@pytest.mark.parametrize("measurement", [RadialDistribution(), StructureFactor(), LocalOrder()])
def test_measurements_say_what_they_are(measurement: RadialDistribution | StructureFactor | LocalOrder, glass: Glass) -> None:
    result = {RadialDistribution: "total", StructureFactor: "s", LocalOrder: "q6"}[type(measurement)]
    with pytest.raises(QlmError, match=r"compute\(glass\) first"):
        getattr(measurement, result)
    call = repr(measurement)
    assert eval(call) == type(measurement)()
    assert measurement.compute(glass) is measurement
    assert repr(measurement).startswith(f"{call}: ")
    axes = measurement.plot()
    assert axes.get_xlabel()
    assert measurement.plot(axes) is axes


def test_unmeasurable_input_is_refused(glass: Glass) -> None:
    few = Glass(glass.positions[:10], glass.typeid[:10], glass.box)
    with pytest.raises(InputError, match="expected more than the 12 neighbours"):
        LocalOrder().compute(few)
    with pytest.raises(InputError, match="bin_width"):
        RadialDistribution(bin_width=50.0).compute(glass)
    with pytest.raises(InputError, match="q_max"):
        StructureFactor(q_max=0.1).compute(glass)


@pytest.mark.parametrize(
    ("setting", "sizes", "fact"),
    [
        ({"solid_bonds": 20}, [500], "at most neighbors"),
        ({}, [500, 12], "more than neighbors"),
        ({"r_bin": 4.0}, [500], "r_bin"),
        ({"q_max": 0.5}, [500], "q_max"),
    ],
)
def test_stage_refuses_settings_that_cannot_work(setting: dict[str, float], sizes: list[int], fact: str) -> None:
    with pytest.raises(ValueError, match=fact):
        StructureStage.model_validate(setting).check(MODEL, sizes)
    StructureStage().check(MODEL, [500, 64000])


@pytest.fixture(scope="module")
def engine() -> Engine:
    return ENGINES.load("cpu")().build(MODEL)


def test_stage_writes_both_tables(
    glass: Glass, demixed_glass: Glass, engine: Engine, tmp_path_factory: pytest.TempPathFactory
) -> None:
    verdicts = []
    for sample in (glass, demixed_glass):
        directory = tmp_path_factory.mktemp("realisation")
        write_glasses(directory / "quenched.gsd", [(sample, engine.measure(sample))], {})
        context = StageContext(
            directory=directory,
            statepoint={"n_particles": 500, "preparation": "rapid", "seed": 1, "realisation": 0, "protocol_hash": "0"},
            model=MODEL,
            preparation=StructureStage(),
            engine=engine,
            provenance={"protocol_hash": "0"},
            progress=lambda _: None,
        )
        stage = StructureStage()
        stage.run(context)
        assert sorted(path.name for path in directory.iterdir()) == sorted([*stage.requires(), *stage.products()])
        verdicts.append(pl.read_parquet(directory / "structure.parquet"))
        functions = pl.read_parquet(directory / "structure_functions.parquet")
        assert set(functions["kind"]) == {"rdf", "rdf_AA", "rdf_AB", "rdf_BB", "sq"}
        for kind in ("rdf", "sq"):
            x = functions.filter(kind=kind)["x"].to_list()
            assert all(low < high for low, high in pairwise(x))
        assert json.loads(pl.read_parquet_metadata(directory / "structure.parquet")["qlm_hoomd"]) == {"protocol_hash": "0"}
        before = (directory / "structure_functions.parquet").read_bytes(), (directory / "structure.parquet").read_bytes()
        stage.run(context)
        assert before == (
            (directory / "structure_functions.parquet").read_bytes(),
            (directory / "structure.parquet").read_bytes(),
        )
    assert [verdict["is_glass"].item() for verdict in verdicts] == [True, False]
    assert verdicts[0]["reason"].item() == ""
    assert "demixed" in verdicts[1]["reason"].item()
    assert verdicts[0].columns[:4] == ["strain", "crystal_fraction", "largest_cluster", "q6_mean"]


# ---- two dimensions ----


def triangular(cells: int, noise: float = 0.0) -> Glass:
    """A triangular crystal of two rows a cell, at one particle per area."""
    spacing = (4.0 / 3.0) ** 0.25
    i, j = (index.ravel() for index in np.meshgrid(np.arange(cells), np.arange(2 * (cells // 2))))
    positions_nc = np.stack([(i + 0.5 * (j % 2)) * spacing, j / spacing, 0.0 * i], axis=1)
    positions_nc += noise * np.random.default_rng(1).normal(size=positions_nc.shape) * [1.0, 1.0, 0.0]
    box = Box(lx=cells * spacing, ly=2 * (cells // 2) / spacing, lz=0.0)
    return Glass(box.wrap(positions_nc), np.zeros(len(positions_nc), int), box)


def flat_gas(n_particles: int) -> Glass:
    box = Box(lx=n_particles**0.5, ly=1.25 * n_particles**0.5, lz=0.0, xy=0.3)
    fractional_nc = np.random.default_rng(2).random((n_particles, 3))
    return Glass(fractional_nc @ box.matrix, np.arange(n_particles) % 2, box, 0.3)


def test_functions_of_a_gas_in_two_dimensions_are_one() -> None:
    gas = flat_gas(20_000)
    rdf = RadialDistribution(4.0, 0.1).compute(gas)
    np.testing.assert_allclose(rdf.total[5:], 1.0, atol=0.05)
    factor = StructureFactor(3.0, 0.3, vectors_per_bin=10_000).compute(gas)
    np.testing.assert_allclose(factor.s[2:], 1.0, atol=0.2)


def test_rdf_of_a_triangular_crystal_has_its_shells() -> None:
    crystal = triangular(24)
    spacing = (4.0 / 3.0) ** 0.25
    rdf = RadialDistribution(2.5 * spacing, 0.01).compute(crystal)
    shells = {1.0: 6, np.sqrt(3.0): 6, 2.0: 6}
    for distance, count in shells.items():
        near = np.abs(rdf.r - distance * spacing) < 0.02
        # 2 pi r g dr particles in a ring, at one a unit of area.
        assert (2.0 * np.pi * rdf.r * rdf.total * 0.01)[near].sum() == pytest.approx(count, rel=0.02)


def test_structure_factor_in_two_dimensions_is_the_sum_over_all_wavevectors() -> None:
    gas = flat_gas(60)
    factor = StructureFactor(4.0, 0.5, vectors_per_bin=10_000).compute(gas)
    reciprocal = 2.0 * np.pi * np.linalg.inv(gas.box.matrix[:2, :2]).T
    q_vc = np.array([[h, k] for h in range(-20, 21) for k in range(-20, 21) if (h, k) != (0, 0)]) @ reciprocal
    q_v = np.linalg.norm(q_vc, axis=1)
    s_v = np.abs(np.exp(1j * q_vc @ gas.positions[:, :2].T).sum(axis=1)) ** 2 / 60
    for q, s in zip(factor.q, factor.s, strict=True):
        inside = (q_v < 4.0) & (np.floor(q_v / 0.5) == np.floor(q / 0.5))
        assert q == pytest.approx(q_v[inside].mean(), rel=1e-6)
        assert s == pytest.approx(s_v[inside].mean(), rel=1e-4)


def test_hexatic_order_tells_crystal_and_glass() -> None:
    crystal = LocalOrder().compute(triangular(16, noise=0.03))
    assert crystal.q6.min() > 0.8
    assert crystal.crystal_fraction == 1.0
    assert "crystallised: 100.0%" in crystal.reason
    np.testing.assert_allclose(LocalOrder().compute(triangular(16)).q6, 1.0, atol=1e-4)
    gas = LocalOrder().compute(flat_gas(500))
    assert gas.is_glass
    assert gas.crystal_fraction < 0.02
    # By hand: the six nearest of one particle.
    glass = flat_gas(500)
    apart_nc = glass.box.minimum_image(glass.positions - glass.positions[0])
    nearest = np.argsort(np.linalg.norm(apart_nc, axis=1))[1:7]
    psi = np.exp(6j * np.arctan2(apart_nc[nearest, 1], apart_nc[nearest, 0])).mean()
    assert LocalOrder().compute(glass).q6[0] == pytest.approx(abs(psi), abs=1e-4)


def test_a_crystal_in_one_corner_is_one_cluster() -> None:
    """A quarter of a crystal melts: what is left is counted, and connected across the faces."""
    crystal = triangular(20, noise=0.02)
    melted = (crystal.positions[:, 0] > 0.0) & (crystal.positions[:, 1] > 0.0)
    positions_nc = crystal.positions.copy()
    positions_nc[melted] += np.random.default_rng(5).normal(scale=0.4, size=(int(melted.sum()), 3)) * [1.0, 1.0, 0.0]
    order = LocalOrder().compute(crystal.moved(positions_nc))
    assert order.is_solid[melted].mean() < 0.3
    assert 0.6 < order.largest_cluster < 0.85
