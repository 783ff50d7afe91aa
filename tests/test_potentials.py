"""The pair potentials against exact values, against arithmetic of 90 digits, against other codes, and at their cut-offs."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from qlm_hoomd.box import Box
from qlm_hoomd.glass import Glass
from qlm_hoomd.mechanics import bonds_of
from qlm_hoomd.model import PARAMETERS, GlassModel
from qlm_hoomd.potentials import MAX_ORDER, Harmonic, Hertzian, InversePowerLaw, KobAndersen, LennardJones, PairPotential

PAPERS = GlassModel().potential
assert isinstance(PAPERS, InversePowerLaw)

# (n, q, x_c): c_0, c_2, ..., solved symbolically from the vanishing of phi ... phi^(q) at x_c.
COEFFICIENTS = {
    (10, 3, 1.48): (-1.1106337662511795, 1.2676152372297063, -0.49604060728492109, 0.066051182641573221),
    (10, 3, 1.40): (-1.9360103298820351, 2.4694009309719835, -1.0799129435737537, 0.16070133088895145),
    (10, 2, 1.48): (-0.41648766234419231, 0.31690380930742658, -0.062005075910615136),
    (12, 2, 1.25): (-1.924145348608, 2.11106232532992, -0.5910974510923776),
}


def _single(n: int = 10, q: int = 3, x_c: float = 1.48, length: float = 1.0, epsilon: float = 1.0) -> InversePowerLaw:
    return InversePowerLaw(n=n, q=q, x_c=x_c, lengths=((length,),), epsilon=epsilon)


def _in_w(potential: PairPotential, r: float, order: int = MAX_ORDER, pairtype: int = 0) -> np.ndarray:
    return potential.derivatives(np.array([r * r]), np.array([pairtype], dtype=np.uint8), order)[:, 0]


def _in_r(potential: PairPotential, r: float, pairtype: int = 0) -> np.ndarray:
    """phi, phi', ..., phi'''' with respect to r, from those with respect to w = r^2."""
    f0, f1, f2, f3, f4 = _in_w(potential, r, 4, pairtype)
    return np.array(
        [
            f0,
            2 * r * f1,
            2 * f1 + 4 * r**2 * f2,
            12 * r * f2 + 8 * r**3 * f3,
            12 * f2 + 48 * r**2 * f3 + 16 * r**4 * f4,
        ]
    )


def _exact(potential: InversePowerLaw, w: Fraction, order: int) -> tuple[list[float], list[float]]:
    """d^k phi / dw^k in rational arithmetic, from the given binary coefficients, and the sums of their terms' moduli."""
    scale = 1 / Fraction(potential.lengths[0][0]) ** 2
    reduced, half = w * scale, potential.n // 2
    values, moduli = [], []
    for k in range(order + 1):
        power = Fraction((-1) ** k * math.prod(range(half, half + k))) / reduced ** (half + k)
        terms = [
            Fraction(c) * math.perm(index, k) * reduced ** (index - k)
            for index, c in enumerate(potential.coefficients)
            if index >= k
        ]
        factor = Fraction(potential.epsilon) * scale**k
        values.append(float(factor * sum(terms, power)))
        moduli.append(float(factor * sum(map(abs, terms), abs(power))))
    return values, moduli


@pytest.mark.parametrize(("shape", "expected"), COEFFICIENTS.items())
def test_coefficients_of_the_smoothing_polynomial(shape: tuple[int, int, float], expected: tuple[float, ...]) -> None:
    n, q, x_c = shape
    np.testing.assert_allclose(_single(n, q, x_c).coefficients, expected, rtol=1e-12)


def test_values_at_the_pair_length() -> None:
    expected = (0.72699204633517897, -9.0526248588308323, 108.56427866628756, -1323.9788326578493)
    np.testing.assert_allclose(_in_r(_single(), 1.0)[:4], expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("pairtype", "length", "slope"),
    [(0, 1.0, -2.718849125157007), (1, 1.18, -2.304109428099159), (2, 1.18, -2.304109428099159), (3, 1.4, -1.942035089397863)],
)
def test_values_at_a_tenth_beyond_the_pair_length(pairtype: int, length: float, slope: float) -> None:
    energy, force = _in_r(PAPERS, 1.1 * length, pairtype)[:2]
    assert energy == pytest.approx(0.199484606272132, rel=1e-12)
    assert force == pytest.approx(slope, rel=1e-12)


def _lattice(basis: list[tuple[float, float, float]], cells: int, typeid: list[int]) -> Glass:
    """Cubic cells with these particles in each, at N / V = 0.82."""
    offsets_nc = np.array(list(product(range(cells), repeat=3)), dtype=float)
    positions_nc = (offsets_nc[:, None, :] + np.array(basis)).reshape(-1, 3)
    length = (len(positions_nc) / 0.82) ** (1 / 3)
    return Glass(positions_nc * length / cells, np.tile(typeid, len(offsets_nc)), Box(length))


FCC = [(0.0, 0.0, 0.0), (0.5, 0.5, 0.0), (0.5, 0.0, 0.5), (0.0, 0.5, 0.5)]
CSCL = [(0.0, 0.0, 0.0), (0.5, 0.5, 0.5)]


@pytest.mark.parametrize(
    ("basis", "typeid", "energy", "pressure"),
    [
        (FCC, [0, 0, 0, 0], 0.27274618945800866, 1.4833266261798645),
        (FCC, [1, 1, 1, 1], 25.793689132914405, 76.18706468838568),
        (CSCL, [0, 1], 5.140593759875081, 17.057491245433987),
    ],
    ids=["FCC of small", "FCC of large", "CsCl"],
)
def test_perfect_lattices(basis: list[tuple[float, float, float]], typeid: list[int], energy: float, pressure: float) -> None:
    glass = _lattice(basis, 4, typeid)
    bonds = bonds_of(glass, PAPERS, 1)
    assert bonds.energy / glass.n_particles == pytest.approx(energy, rel=1e-12)
    assert bonds.pressure == pytest.approx(pressure, rel=1e-12)
    assert np.abs(bonds.forces).max() < 1e-11
    assert abs(bonds.stress_xy) < 1e-12


shapes = st.tuples(
    st.integers(1, 16).map(lambda half: 2 * half),
    st.integers(0, 8),
    st.floats(1.1, 2.0),
    st.floats(0.5, 2.0),
    st.floats(0.1, 5.0),
)


@given(shapes, st.floats(0.6, 0.999))
def test_derivatives_against_rational_arithmetic(shape: tuple[int, int, float, float, float], place: float) -> None:
    n, q, x_c, length, epsilon = shape
    potential = _single(n, q, x_c, length, epsilon)
    r = place * x_c * length
    # Towards the cut-off the power law and the polynomial cancel: rounding is relative to their terms.
    exact, terms = _exact(potential, Fraction(r * r), MAX_ORDER)
    assert (np.abs(_in_w(potential, r) - exact) < 1e-13 * np.array(terms)).all()


@given(st.floats(0.5, 1.47), st.integers(0, 3), st.integers(0, 3))
def test_the_loop_of_the_force_call_equals_the_general_one(r: float, q: int, pairtype: int) -> None:
    potential = PAPERS.model_copy(update={"q": q})
    potential = InversePowerLaw(**potential.model_dump())
    np.testing.assert_allclose(_in_w(potential, r, 1, pairtype), _in_w(potential, r, 2, pairtype)[:2], rtol=1e-11, atol=1e-11)


@given(shapes)
def test_derivatives_up_to_q_vanish_at_the_cutoff(shape: tuple[int, int, float, float, float]) -> None:
    n, q, x_c, length, epsilon = shape
    potential = _single(n, q, x_c, length, epsilon)
    cutoff = x_c * length
    inside = math.nextafter(math.sqrt((1 - 1e-15) * cutoff**2), 0.0)
    scale = epsilon * x_c**-n * math.prod(range(n // 2, n // 2 + MAX_ORDER)) * 4**q
    values = _in_w(potential, inside) * cutoff ** (2 * np.arange(MAX_ORDER + 1))
    assert np.abs(values[: min(q, MAX_ORDER) + 1]).max() < 1e-12 * scale
    assert (_in_w(potential, math.nextafter(cutoff, 9.0) * (1 + 1e-15)) == 0.0).all()


def test_fourth_derivative_jumps_at_the_cutoff_for_q_3_only() -> None:
    just_inside = 1.48 * (1 - 1e-12)
    assert _in_r(_single(q=3), just_inside)[4] == pytest.approx(111.1130960, rel=1e-8)
    assert abs(_in_r(_single(q=4), just_inside)[4]) < 1e-6
    assert abs(_in_r(_single(q=3), just_inside)[3]) < 1e-6


def test_parameters_of_the_paper_are_the_default() -> None:
    assert PAPERS.cutoffs().tolist() == pytest.approx(1.48 * np.array([[1.0, 1.18], [1.18, 1.4]]))
    assert PAPERS.largest_cutoff == pytest.approx(2.072)
    assert PAPERS.n_types == 2
    assert all(parameter.source for parameter in PARAMETERS.values())
    model = GlassModel()
    assert (model.density, model.fraction_large, model.T0) == (0.82, 0.5, 1.0)
    assert model.box_length(820) == pytest.approx(10.0)
    assert np.bincount(model.typeid(501)).tolist() in ([250, 251], [251, 250])
    smallest = model.smallest_system()
    for n_particles, fits in ((smallest, True), (smallest - 1, False)):
        assert (Box(model.box_length(n_particles), 0.5).nearest_plane_distance >= 2 * PAPERS.largest_cutoff) is fits


@pytest.mark.parametrize(
    "wrong",
    [
        {"n": 0},
        {"n": 10.5},
        {"q": -1},
        {"q": 9},
        {"x_c": 0.0},
        {"x_c": math.inf},
        {"epsilon": -1.0},
        {"lengths": ((1.0, 1.2), (1.3, 1.4))},
        {"lengths": ((1.0, 1.2),)},
        {"lengths": ()},
        {"lengths": ((-1.0,),)},
        {"lengths": ((math.nan,),)},
        {"colour": "red"},
    ],
    ids=str,
)
def test_wrong_parameters_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        InversePowerLaw.model_validate({"n": 10, "q": 3, "x_c": 1.48, "lengths": ((1.0,),)} | wrong)


def test_one_type_only_needs_a_fraction_of_zero() -> None:
    single = {"kind": "inverse_power_law", "lengths": [[1.0]]}
    with pytest.raises(ValidationError, match="fraction_large = 0"):
        GlassModel.model_validate({"potential": single})
    assert GlassModel.model_validate({"potential": single, "fraction_large": 0.0}).typeid(3).tolist() == [0, 0, 0]


# ---- the other potentials, and odd exponents ----


def _numerically(energy: Callable[[Decimal], Decimal], w: float, order: int) -> list[float]:
    """d^k f / dw^k by central differences with a step of 1e-12, in arithmetic of 90 digits: exact to 1e-20."""
    with localcontext() as context:
        context.prec = 90
        step = Decimal("1e-12")
        found = []
        for k in range(order + 1):
            places = [Decimal(w) + (Decimal(k) / 2 - i) * step for i in range(k + 1)]
            terms = [(-1) ** i * math.comb(k, i) * energy(place) for i, place in enumerate(places)]
            found.append(float(sum(terms, Decimal(0)) / step**k))
        return found


def _smoothed(n: int, q: int, x_c: float) -> Callable[[Decimal], Decimal]:
    """x^-n less its Taylor polynomial in w = x^2 about the cut-off: what vanishes there with q derivatives, from the definition."""

    def energy(w: Decimal) -> Decimal:
        cut, power = Decimal(x_c) ** 2, -Decimal(n) / 2
        total, factor = w**power, Decimal(1)
        for k in range(q + 1):
            total -= factor * cut ** (power - k) * (w - cut) ** k
            factor *= (power - k) / (k + 1)
        return total

    return energy


def _close(
    potential: PairPotential, r: float, energy: Callable[[Decimal], Decimal], rounding: float, pairtype: int = 0
) -> None:
    """All derivatives equal the numerical ones, but for the rounding of terms of this size."""
    expected = np.array(_numerically(energy, r * r, MAX_ORDER))
    np.testing.assert_allclose(_in_w(potential, r, pairtype=pairtype), expected, rtol=1e-11, atol=1e-13 * rounding)


@given(st.integers(1, 33), st.integers(0, 8), st.floats(1.2, 2.0), st.floats(0.7, 0.999))
def test_inverse_power_law_of_any_exponent(n: int, q: int, x_c: float, place: float) -> None:
    # The alternating polynomial sets the rounding; its terms grow with q.
    rounding = (n + 2.0 * q) ** MAX_ORDER * 3.0**q
    _close(_single(n, q, x_c), place * x_c, _smoothed(n, q, x_c), rounding)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 5), st.floats(1.5, 3.0), st.floats(0.4, 0.999))
def test_mie_potentials_of_any_exponents(m: int, more: int, q: int, x_c: float, place: float) -> None:
    n = m + more
    depth = n / (n - m) * (n / m) ** (m / (n - m))
    repulsion, attraction = _smoothed(n, q, x_c), _smoothed(m, q, x_c)
    potential = LennardJones(epsilon=((0.75,),), sigma=((1.0,),), x_c=x_c, q=q, n=n, m=m)
    rounding = depth * (n + 2.0 * q) ** MAX_ORDER * 3.0**q * max(1.0, (place * x_c) ** -(n + 2 * MAX_ORDER))
    _close(
        potential, place * x_c, lambda w: Decimal("0.75") * Decimal(depth) * (repulsion(w) - attraction(w)), rounding
    )  # fmt: skip


@pytest.mark.parametrize("sphere", [Harmonic, Hertzian])
@given(r=st.floats(0.3, 1.49))
def test_soft_spheres(sphere: type[Harmonic | Hertzian], r: float) -> None:
    potential = sphere(epsilon=2.5, sigma=((1.0, 1.2), (1.2, 1.5)))
    alpha = Decimal(sphere.alpha)
    # Close to contact 1 - r/sigma keeps few digits of r; how few the power says.
    rounding = 1e2 * (1.0 - r / 1.5) ** (sphere.alpha - MAX_ORDER - 1)
    _close(potential, r, lambda w: Decimal("2.5") / alpha * (1 - w.sqrt() / Decimal("1.5")) ** alpha, rounding, pairtype=3)


def test_a_well_is_epsilon_deep_and_zero_at_sigma() -> None:
    """With a cut-off so far that the smoothing is nothing."""
    for n, m in ((12, 6), (9, 3), (36, 18), (13, 7)):
        potential = LennardJones(epsilon=((0.5,),), sigma=((1.1,),), x_c=1e6, q=0, n=n, m=m)
        bottom = 1.1 * (n / m) ** (1 / (n - m))
        energy, slope = _in_r(potential, bottom)[:2]
        assert energy == pytest.approx(-0.5, rel=1e-12)
        assert slope == pytest.approx(0.0, abs=1e-12)
        assert _in_r(potential, 1.1)[0] == pytest.approx(0.0, abs=1e-12)


def test_cut_and_shifted_lennard_jones_against_matscipy() -> None:
    calculator = pytest.importorskip("matscipy.calculators.pair_potential.calculator")
    potential = KobAndersen(q=0)
    for pairtype, (epsilon, sigma) in enumerate([(1.0, 1.0), (1.5, 0.8), (1.5, 0.8), (0.5, 0.88)]):
        theirs = calculator.LennardJonesCut(epsilon, sigma, 2.5 * sigma)
        for r in np.linspace(0.85, 2.4, 9) * sigma:
            expected = [theirs(r), theirs.first_derivative(r), theirs.second_derivative(r)]
            np.testing.assert_allclose(_in_r(potential, float(r), pairtype)[:3], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.hoomd
@pytest.mark.parametrize("name", ["kob_andersen", "harmonic"])
def test_energy_forces_and_pressure_against_hoomd(name: str) -> None:
    """HOOMD-blue's own Lennard-Jones, cut and shifted, and its conservative DPD force, which is a harmonic sphere's."""
    import hoomd

    rng = np.random.default_rng(8)
    grid_nc = np.array(list(product(range(7), repeat=3)), dtype=float)
    length = 7.0 * (1.05 if name == "kob_andersen" else 0.9)
    glass = Glass(
        grid_nc * length / 7 + rng.normal(scale=0.05, size=grid_nc.shape), rng.integers(0, 2, 343), Box(length, 0.2), 0.2
    )
    nlist = hoomd.md.nlist.Cell(buffer=0.2)
    potential: PairPotential
    if name == "kob_andersen":
        potential = KobAndersen(q=0)
        force = hoomd.md.pair.LJ(nlist, mode="shift")
        for pair, epsilon, sigma in ((("A", "A"), 1.0, 1.0), (("A", "B"), 1.5, 0.8), (("B", "B"), 0.5, 0.88)):
            force.params[pair] = {"epsilon": epsilon, "sigma": sigma}
            force.r_cut[pair] = 2.5 * sigma
    else:
        potential = Harmonic(epsilon=3.0, sigma=((1.0, 1.2), (1.2, 1.4)))
        force = hoomd.md.pair.DPDConservative(nlist)
        for pair, sigma in ((("A", "A"), 1.0), (("A", "B"), 1.2), (("B", "B"), 1.4)):
            force.params[pair] = {"A": 3.0 / sigma}
            force.r_cut[pair] = sigma
    simulation = hoomd.Simulation(hoomd.device.CPU(), seed=1)
    snapshot = hoomd.Snapshot()
    snapshot.configuration.box = glass.box.to_gsd()
    snapshot.particles.N = glass.n_particles
    snapshot.particles.types = ["A", "B"]
    snapshot.particles.position[:] = glass.box.wrap(glass.positions)
    snapshot.particles.typeid[:] = glass.typeid
    simulation.create_state_from_snapshot(snapshot)
    simulation.operations.integrator = hoomd.md.Integrator(dt=0.0, forces=[force])
    simulation.run(0)
    bonds = bonds_of(glass, potential, 1)
    assert bonds.energy == pytest.approx(force.energy, rel=1e-11)
    np.testing.assert_allclose(bonds.forces, force.forces, rtol=1e-10, atol=1e-10 * np.abs(force.forces).max())


@pytest.mark.parametrize(
    ("kind", "settings", "says"),
    [
        (LennardJones, {"epsilon": ((1.0,),), "sigma": ((1.0,),), "q": 2, "n": 6, "m": 6}, "n > m"),
        (LennardJones, {"epsilon": ((1.0,),), "sigma": ((1.0, 1.0), (1.0, 1.0)), "q": 2}, "epsilon is for 1 particle types"),
        (LennardJones, {"epsilon": ((1.0, 2.0),), "sigma": ((1.0,),), "q": 2}, "square"),
        (KobAndersen, {}, "q"),
        (Harmonic, {"sigma": ((0.0,),)}, "positive"),
        (Hertzian, {"sigma": ((1.0,),), "alpha": 3}, "alpha"),
    ],
)
def test_wrong_parameters_of_the_others_are_refused(kind: type[PairPotential], settings: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        kind.model_validate(settings)


def test_pictures_draw_particles_at_their_contact_size() -> None:
    assert KobAndersen(q=0).diameters().tolist() == [1.0, 0.88]
    assert PAPERS.diameters().tolist() == [1.0, 1.4]
    assert Hertzian(sigma=((1.0, 1.2), (1.2, 1.4))).diameters().tolist() == [1.0, 1.4]
