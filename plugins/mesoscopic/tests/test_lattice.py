from __future__ import annotations

import numpy as np
import pytest
from qlm_mesoscopic import block, observables
from qlm_mesoscopic.errors import ModelError, RunawayAvalanche
from qlm_mesoscopic.lattice import BlockSites, Lattice, ThresholdSites, propagator

SHAPES = [(32, 32), (16, 24), (9, 11), (12, 12, 12), (8, 10, 12)]


@pytest.mark.parametrize("shape", SHAPES)
def test_propagator_keeps_its_convention(shape: tuple[int, ...]) -> None:
    stress, strain = propagator(shape, "stress"), propagator(shape, "strain")
    for kernel in (stress, strain):
        assert kernel.flat[0] == pytest.approx(-1.0, abs=1e-14)
    assert stress.sum() == pytest.approx(0.0, abs=1e-12)
    assert strain.sum() == pytest.approx(-1.0, abs=1e-12)
    # Even in every direction.
    for axis in range(len(shape)):
        mirrored = np.roll(np.flip(stress, axis), 1, axis)
        assert mirrored == pytest.approx(stress, abs=1e-14)


@pytest.mark.parametrize("shape", [(32, 32), (12, 12, 12)])
def test_a_yielding_row_or_plane_costs_no_stress_elsewhere(shape: tuple[int, ...]) -> None:
    # G vanishes along q_x = 0 (q_z = 0): a plane across x that yields as a whole leaves every other plane alone.
    kernel = propagator(shape)
    across = kernel.sum(axis=tuple(range(1, len(shape))))
    assert across == pytest.approx(np.zeros(shape[0]), abs=1e-12)


@pytest.mark.parametrize("shape", [(512, 512), (64, 64, 64)])
def test_propagator_is_a_quadrupole_that_decays_as_the_dimension_says(shape: tuple[int, ...]) -> None:
    dimension = len(shape)
    kernel = propagator(shape)
    rest = (0,) * (dimension - 2)
    radii = np.array([8, 16] if dimension == 2 else [5, 8])
    along = np.array([kernel[(r, 0, *rest)] for r in radii])
    other = np.array([kernel[(0, r, *rest)] for r in radii])
    diagonal = np.array([kernel[(r, r, *rest)] for r in radii])
    assert np.all(along > 0)
    assert np.all(diagonal < 0)
    assert along == pytest.approx(other, rel=1e-10)
    decay = -np.diff(np.log(along)) / np.diff(np.log(radii))
    assert decay == pytest.approx(dimension, abs=0.12 if dimension == 2 else 0.35)
    if dimension == 2:
        # cos 4 phi / r^2: the diagonal at distance r sqrt(2) has half the size.
        assert diagonal / along == pytest.approx(-0.5, abs=0.05)


def test_in_two_dimensions_the_far_field_is_the_continuum_one() -> None:
    # FT of -sin^2(2 phi) = (cos 4 phi - 1) / 2 is cos(4 phi) / (pi r^2), in units in which the lattice has G(q) = -sin^2.
    size = 512
    squares = 2 - 2 * np.cos(2 * np.pi * np.fft.fftfreq(size))
    x, y = np.meshgrid(squares, squares, indexing="ij")
    with np.errstate(invalid="ignore"):
        scale = np.nanmean(np.nan_to_num(4 * x * y / (x + y) ** 2))
    kernel = propagator((size, size))
    assert kernel[32, 0] * scale * np.pi * 32**2 == pytest.approx(1.0, abs=0.03)


def test_both_updates_add_the_same_kernel() -> None:
    one, other = (Lattice((12, 16), ThresholdSites(), update=update, seed=3) for update in ("sequential", "synchronous"))
    site, drop = np.array([5, 100]), np.array([0.7, -0.3])
    for lattice in (one, other):
        lattice._redistribute(site, drop)
    assert one.sigma_n == pytest.approx(other.sigma_n, abs=1e-13)
    expected = ThresholdSites().start(np.random.default_rng(3), 192)[0].reshape(12, 16)
    for index, amount in zip(site, drop, strict=True):
        expected = expected + amount * np.roll(propagator((12, 16), "strain"), divmod(int(index), 16), axis=(0, 1))
    assert one.sigma_n == pytest.approx(expected.ravel(), abs=1e-13)


@pytest.mark.parametrize("update", ["sequential", "synchronous"])
@pytest.mark.parametrize("control", ["stress", "strain"])
def test_redistribution_sums_to_what_the_control_says(control: str, update: str) -> None:
    lattice = Lattice((16, 16), ThresholdSites(), control=control, update=update, seed=5)
    before = lattice.sigma_n.sum()
    _, yielded = lattice.relax()
    expected = 0.0 if control == "stress" else -yielded
    assert lattice.sigma_n.sum() - before == pytest.approx(expected, abs=1e-10)
    assert lattice.applied * lattice.size == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("control", ["stress", "strain"])
def test_kicks_of_blocks_have_zero_mean_and_leave_the_failing_block_alone(control: str) -> None:
    lattice = Lattice((16, 16), BlockSites(0.3), control=control, seed=1)
    uniform = 0.0 if control == "stress" else 1 / 256
    assert (lattice.kernel_r + uniform).sum() == pytest.approx(0.0, abs=1e-13)
    assert lattice.kernel_r[0, 0] == pytest.approx(-uniform, abs=1e-16)


@pytest.mark.parametrize("update", ["sequential", "synchronous"])
@pytest.mark.parametrize("sites", [ThresholdSites, BlockSites])
def test_loading_never_steps_over_the_weakest_site(sites: type, update: str) -> None:
    lattice = Lattice((16, 16), sites(), update=update, seed=2)
    lattice.relax()
    for _ in range(50):
        x_n = lattice.x_n
        assert x_n.min() > 0
        seen = lattice.load(1)
        assert seen.load_a[0] == x_n.min()


def test_blocks_stay_in_bounds_and_their_curvature_positive() -> None:
    sites = BlockSites(0.2)
    lattice = Lattice((16, 16), sites, control="stress", seed=4)
    lattice.relax()
    seen = lattice.load(600)
    assert (seen.failures_a > 0).any()
    assert (seen.failures_a == 0).any()  # replacements alone
    modes = sites.snapshot(lattice.sigma_n)
    assert np.all(modes.lam_n >= 0.0)
    assert np.all(modes.lam_n <= sites.blocks.replacement.lambda_min * (1 + 1e-9))
    loaded_n = (sites.branch_n < 0) & (sites.phi_n > 0)
    assert modes.distance_n(1)[loaded_n] == pytest.approx(lattice.x_n[loaded_n], abs=1e-12)


def test_a_failing_block_jumps_to_the_other_branch_and_others_feel_its_jump() -> None:
    sites = BlockSites(0.5)
    sites.phi_n, sites.branch_n = np.array([0.25, 0.25]), np.array([-1.0, 1.0])
    limit = float(block.limit(0.25))
    yielded_n, sigma_n, low_n, high_n = sites.fail(
        np.random.default_rng(0), np.array([0, 1]), np.array([limit + 0.001, -limit - 0.001])
    )
    assert yielded_n == pytest.approx([0.75, -0.75])  # 0.5 times 3 sqrt(phi), against the branch
    assert sigma_n == pytest.approx([limit + 0.001, -limit - 0.001])
    assert sites.branch_n == pytest.approx([1.0, -1.0])
    assert np.all((sigma_n > low_n) & (sigma_n < high_n))


def test_same_seed_same_bytes() -> None:
    def stress(seed: int) -> bytes:
        lattice = Lattice((16, 16), BlockSites(0.2), seed=seed)
        lattice.relax()
        lattice.load(50)
        return lattice.sigma_n.tobytes()

    assert stress(1) == stress(1)
    assert stress(1) != stress(2)


def test_stress_rises_to_a_plateau_under_strain_and_avalanches_run_away_beyond_it_under_stress() -> None:
    flowing = Lattice((24, 24), ThresholdSites(), seed=1)
    flowing.relax()
    while flowing.activity < 1.5:
        flowing.load(20)
    plateau = flowing.load(200).stress_a.mean()
    assert 0.3 < plateau < 0.7
    driven = Lattice((24, 24), ThresholdSites(), control="stress", seed=1, longest=10.0)
    driven.relax()
    with pytest.raises(RunawayAvalanche, match="this is the yield stress") as caught:
        driven.load(100_000)
    assert caught.value.stress == pytest.approx(plateau, abs=0.25)
    assert caught.value.failures > 5 * 576


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: propagator((4, 32)), "at least 8 sites"),
        (lambda: propagator((32,)), "two or three edges"),
        (lambda: propagator((8, 8), "force"), "control = 'force'"),
        (lambda: ThresholdSites(spread=0.0), "spread = 0"),
        (lambda: BlockSites(-0.1), "coupling = -0.1"),
        (lambda: Lattice((8, 8), ThresholdSites(), update="parallel"), "update = 'parallel'"),
        (lambda: Lattice((8, 8), ThresholdSites(spread=3.0)).load(1), "Call relax"),
        (lambda: Lattice((8, 8), ThresholdSites()).load(0), "0 avalanches"),
    ],
)
def test_bad_input_is_refused(call, message: str) -> None:  # noqa: ANN001
    with pytest.raises(ModelError, match=message):
        call()


@pytest.mark.physics
@pytest.mark.parametrize(
    ("shape", "first", "window", "literature"),
    [((256, 256), 100, (0.03, 0.15), (0.57, 0.60)), ((40, 40, 40), 200, (0.02, 0.1), (0.35, 0.40))],
)
def test_theta_in_flow_agrees_with_the_literature(
    shape: tuple[int, ...], first: int, window: tuple[float, float], literature: tuple[float, float]
) -> None:
    """P(x) between an activity of 1, past the overshoot, and 2.5, before the flow gathers in a band of rows.

    The windows were chosen on lattices of 128 x 128 and 28 x 28 x 28, before these larger ones with other seeds were run. P(x)
    is no power law over more than such a window: the rule that serves the mean field reads more, and the smallest x less (next
    test).
    """
    series: list[np.ndarray] = []
    for seed in range(first, first + 4):
        lattice = Lattice(shape, ThresholdSites(), seed=seed)
        lattice.relax()
        due = 1.0
        while lattice.activity < 2.5:
            lattice.load(1)
            if lattice.activity >= due:
                series.append(lattice.x_n)
                due += 0.05
    found = observables.theta_from_distances(series, window=window, order=0)
    other = observables.theta_from_distances(series)
    print(f"{shape}: {found.value:.3f} +- {found.error:.3f}, by the mean field's rule {other.value:.3f} +- {other.error:.3f}")  # noqa: T201 shown by pytest -s
    assert found.error < 0.05
    assert found.value - found.error <= literature[1]
    assert found.value + found.error >= literature[0]
    assert other.value > found.value


@pytest.mark.physics
def test_the_smallest_distances_are_those_of_a_plateau() -> None:
    """P(x) of a finite lattice does not vanish at 0, so that <x_min> ~ N^(-1 / (1 + theta)) reads a theta far below that of P(x).

    x_min, the load before each avalanche in flow, is nearly exponential: <x^2> / <x>^2 is 2 for a plateau, and would be 1.41
    for theta = 0.57 down to the smallest x.
    """
    sizes, minima, moments = [], [], []
    for length, count in ((32, 60), (48, 30), (64, 24), (96, 20)):
        loads = []
        for seed in range(count):
            lattice = Lattice((length, length), ThresholdSites(), seed=10_000 * length + seed)
            lattice.relax()
            while lattice.activity < 1.0:
                lattice.load(1)
            own = []
            while lattice.activity < 2.5:
                own.append(lattice.load(1).load_a[0])
            loads.append(np.array(own))
        sizes.append(length**2)
        # One mean per system: what follows each other within it is not independent.
        minima.append([own.mean() for own in loads])
        moments.append(np.mean([np.mean(own**2) / np.mean(own) ** 2 for own in loads]))
    found = observables.theta_from_minima(sizes, minima)
    print(f"theta = {found.value:.3f} +- {found.error:.3f} from <x_min>, <x^2> / <x>^2 = {np.round(moments, 2)}")  # noqa: T201 shown by pytest -s
    assert found.error < 0.1
    assert 0.0 < found.value < 0.45
    assert min(moments) > 1.75
