"""The neighbour candidates: no pair is ever lost, whatever moves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qlm_hoomd.box import Box
from qlm_hoomd.errors import InputError, QlmError
from qlm_hoomd.glass import Glass
from qlm_hoomd.mechanics import Mechanics, bonds_of
from qlm_hoomd.numerics.neighbors import NeighborCandidates
from qlm_hoomd.potentials import InversePowerLaw

if TYPE_CHECKING:
    from collections.abc import Callable

    from qlm_hoomd.model import GlassModel

ONE_TYPE = InversePowerLaw(n=10, q=3, x_c=1.48, lengths=((1.0,),))

# What may happen to a glass between two force calls: (operation, amount).
moves = st.one_of(
    st.tuples(st.just("displace"), st.sampled_from([1e-4, 0.02, 0.06, 0.3])),
    st.tuples(st.just("shear"), st.sampled_from([1e-4, -1e-3, 0.02, -0.1, 0.45, -0.8])),
    st.tuples(st.just("wrap"), st.just(0.0)),
    st.tuples(st.just("translate all"), st.sampled_from([0.05, 3.0, -40.0])),
    st.tuples(st.just("translate by lattice vectors"), st.just(0.0)),
    st.tuples(st.just("flip"), st.just(0.0)),
)


def _applied(glass: Glass, move: tuple[str, float], rng: np.random.Generator) -> Glass:
    kind, amount = move
    shape = glass.positions.shape
    if kind == "displace":
        # One particle alone, or all of them.
        mask = np.arange(shape[0])[:, None] == 0 if rng.random() < 0.3 else np.ones((shape[0], 1))
        return glass.moved(glass.positions + mask * rng.normal(scale=amount, size=shape))
    if kind == "shear":
        return glass.sheared(amount)
    if kind == "wrap":
        return glass.moved(glass.box.wrap(glass.positions))
    if kind == "translate all":
        return glass.moved(glass.positions + amount)
    if kind == "translate by lattice vectors":
        return glass.moved(glass.positions + rng.integers(-2, 3, size=shape) @ glass.box.matrix)
    xy = glass.box.xy - np.sign(glass.box.xy) if abs(glass.box.xy) > 0.45 else glass.box.xy
    return Glass(glass.positions, glass.typeid, Box(glass.box.length, float(xy)), glass.strain)


@settings(max_examples=30)
@given(st.lists(moves, min_size=1, max_size=8), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.1, 0.4]))
def test_energy_is_that_of_all_pairs(
    model: GlassModel,
    small_liquid: Glass,
    pairs_within: Callable[..., Any],
    sequence: list[tuple[str, float]],
    seed: int,
    skin: float,
) -> None:
    rng = np.random.default_rng(seed)
    mechanics = Mechanics(model.potential, small_liquid.typeid, skin)
    glass = small_liquid
    for move in sequence:
        glass = _applied(glass, move, rng)
        i_p, j_p, r_pc = pairs_within(glass.positions, glass.box, model.potential.largest_cutoff)
        pairtype_p = (2 * glass.typeid[i_p] + glass.typeid[j_p]).astype(np.uint8)
        expected = model.potential.derivatives(np.einsum("pc,pc->p", r_pc, r_pc), pairtype_p, 2)[0].sum()
        energy, _ = mechanics.energy_forces(glass.positions, glass.box)
        assert energy == pytest.approx(expected, rel=1e-10), move


def _two_particles(apart: tuple[float, float]) -> tuple[np.ndarray, Box]:
    """A pair across the face of the box in y, the nearest image of the second being ``apart`` in x and y from the first."""
    box = Box(10.0)
    first = np.array([0.3, 4.7, 0.0])
    return np.stack([first, first + np.array([*apart, 0.0]) - box.matrix[1]]), box


@pytest.mark.parametrize("skin", [0.0, 0.15, 0.3])
@pytest.mark.parametrize("affine", [True, False], ids=["particles follow the shear", "particles stay where they are"])
def test_pure_shear_never_loses_a_pair(affine: bool, skin: float, pairs_within: Callable[..., Any]) -> None:
    """A check of displacements alone is blind to the tilt; then the pair's energy stays 0 while it should grow."""
    # Just out of the list's reach at first. Under affine shear a pair along this direction comes closest.
    reach = ONE_TYPE.largest_cutoff + skin
    apart = (-0.73 * (reach + 0.01), 0.69 * (reach + 0.01)) if affine else (-3.0, 0.4)
    positions_nc, box = _two_particles(apart)
    assert np.hypot(*apart) > reach
    mechanics = Mechanics(ONE_TYPE, np.zeros(2, dtype=np.int32), skin)
    energies = []
    for strain in np.arange(0.0, 0.5, 0.0025):
        sheared = Box.at_strain(box.length, strain)
        moved_nc = positions_nc + affine * strain * positions_nc[:, 1:2] * np.array([1.0, 0.0, 0.0])
        energy, _ = mechanics.energy_forces(moved_nc, sheared)
        _, _, r_pc = pairs_within(moved_nc, sheared, ONE_TYPE.largest_cutoff)
        r2_p = np.einsum("pc,pc->p", r_pc, r_pc)
        assert energy == pytest.approx(ONE_TYPE.derivatives(r2_p, np.zeros(len(r2_p), np.uint8), 2)[0].sum(), rel=1e-12)
        energies.append(energy)
    # The test would be empty if the pair never came together.
    assert energies[0] == 0.0
    assert max(energies) > 1e-5


def test_the_list_is_reused_while_it_is_complete(model: GlassModel, small_liquid: Glass) -> None:
    neighbors = NeighborCandidates(model.potential.cutoffs(), small_liquid.typeid, 0.3)
    rng = np.random.default_rng(0)
    glass = small_liquid
    for _ in range(10):
        glass = glass.sheared(1e-3)
        neighbors.update(glass.positions.copy(), glass.box)
    assert neighbors.n_builds == 1
    # One particle that moves by more than half the skin is enough.
    positions_nc = glass.positions.copy()
    positions_nc[3] += (0.0, 0.0, 0.16)
    neighbors.update(positions_nc, glass.box)
    assert neighbors.n_builds == 2
    neighbors.update(positions_nc + rng.normal(size=3) * 1e-3, glass.box)
    assert neighbors.n_builds == 2


def test_each_pair_is_listed_once(model: GlassModel, small_liquid: Glass, pairs_within: Callable[..., Any]) -> None:
    glass = small_liquid.at_strain(0.4)
    bonds = bonds_of(glass, model.potential)
    i_p, j_p, r_pc = pairs_within(glass.positions, glass.box, model.potential.largest_cutoff)
    inside = np.linalg.norm(r_pc, axis=1) < model.potential.cutoffs()[glass.typeid[i_p], glass.typeid[j_p]]
    ours = {frozenset(pair) for pair in zip(bonds.i_p.tolist(), bonds.j_p.tolist(), strict=True)}
    assert ours == {frozenset(pair) for pair in zip(i_p[inside].tolist(), j_p[inside].tolist(), strict=True)}
    assert len(ours) == bonds.n_pairs
    np.testing.assert_array_equal(np.repeat(bonds.owner_r, np.diff(bonds.first_r)), bonds.i_p)


def test_the_list_depends_on_the_configuration_alone(model: GlassModel, small_liquid: Glass) -> None:
    """Two builds of one state give the same order, and with it the same last digit of every sum."""
    lists = []
    for _ in range(2):
        bonds = bonds_of(small_liquid, model.potential)
        lists.append((bonds.i_p.tolist(), bonds.j_p.tolist()))
    assert lists[0] == lists[1]


def test_box_too_small_for_the_cutoff_is_refused(model: GlassModel) -> None:
    glass = Glass(np.zeros((4, 3)), np.zeros(4, dtype=int), Box(4.0))
    with pytest.raises(InputError, match=r"4 apart; expected at least twice the cut-off, 4\.144"):
        bonds_of(glass, model.potential)
    # Wide enough as a cube, too narrow at full tilt.
    with pytest.raises(InputError, match="twice the cut-off"):
        bonds_of(Glass(np.zeros((4, 3)), np.zeros(4, dtype=int), Box(4.5, 0.5), 0.5), model.potential)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("first", [True, False], ids=["at the first build", "later"])
def test_positions_that_are_not_finite_are_refused(bad: float, first: bool, model: GlassModel, small_liquid: Glass) -> None:
    mechanics = Mechanics(model.potential, small_liquid.typeid, 0.2)
    positions_nc = small_liquid.positions.copy()
    if not first:
        mechanics.energy_forces(positions_nc, small_liquid.box)
    positions_nc[11, 2] = bad
    with pytest.raises(QlmError, match="not finite"):
        mechanics.energy_forces(positions_nc, small_liquid.box)


@pytest.mark.parametrize("skin", [-0.1, np.nan, np.inf])
def test_wrong_skin_is_refused(skin: float, model: GlassModel) -> None:
    with pytest.raises(InputError, match="skin"):
        NeighborCandidates(model.potential.cutoffs(), np.zeros(3, dtype=np.int32), skin)


def test_more_types_than_a_byte_holds_pairs_of_are_refused() -> None:
    with pytest.raises(InputError, match="at most 16"):
        NeighborCandidates(np.ones((17, 17)), np.zeros(3, dtype=np.int32), 0.1)


def test_no_pairs_at_all() -> None:
    bonds = bonds_of(Glass(np.array([[0.0, 0, 0], [4.0, 4, 4]]), np.zeros(2, dtype=int), Box(9.0)), ONE_TYPE)
    assert bonds.n_pairs == 0
    assert bonds.energy == 0.0
    assert not bonds.forces.any()
    assert not bonds.hessian().toarray().any()
