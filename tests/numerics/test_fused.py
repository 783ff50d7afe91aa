"""Forces and overdamped steps by the loop of molecular dynamics are those of the pairs, one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from qlm_hoomd.errors import BlowUpError
from qlm_hoomd.glass import Glass
from qlm_hoomd.mechanics import Mechanics, bonds_of
from qlm_hoomd.minimize import descent
from qlm_hoomd.minimize.descent import _coefficients
from qlm_hoomd.potentials import Hertzian, LennardJones, PairPotential
from tests.stand_ins import without_law

if TYPE_CHECKING:
    from qlm_hoomd.model import GlassModel


def _agree(mechanics: Mechanics, glass: Glass, shift_nc: np.ndarray | float = 0.0) -> None:
    """The forces on the glass, whose particles may be given in other images, against those of its pairs from scratch."""
    energy, force_nc = mechanics.energy_forces(glass.positions + shift_nc, glass.box)
    bonds = bonds_of(glass, mechanics.potential, 1)
    assert energy == pytest.approx(bonds.energy, rel=1e-13)
    assert np.abs(force_nc - bonds.forces).max() < 1e-12 * np.abs(bonds.forces).max()


def test_forces_while_the_box_is_sheared_and_particles_leave_it(model: GlassModel, small_liquid: Glass) -> None:
    mechanics, rng = Mechanics(model.potential, small_liquid.typeid, 0.15), np.random.default_rng(0)
    glass = small_liquid
    for _ in range(40):
        glass = glass.sheared(0.013)
        glass = glass.moved(glass.positions + rng.normal(scale=0.02, size=glass.positions.shape))
        _agree(mechanics, glass, rng.integers(-2, 3, size=glass.positions.shape) @ glass.box.matrix)
    # The test would be empty if no list had been used twice, or none been made anew.
    assert mechanics.neighbors.n_builds > 1
    kept = mechanics.neighbors.n_builds
    for _ in range(3):
        glass = glass.sheared(1e-3)
        _agree(mechanics, glass)
    assert mechanics.neighbors.n_builds <= kept + 1


@pytest.mark.parametrize(
    "potential",
    [
        Hertzian(sigma=((1.1, 1.3), (1.3, 1.5)), epsilon=200.0),
        LennardJones(epsilon=((1.0, 0.9), (0.9, 1.2)), sigma=((1.0, 1.1), (1.1, 1.2)), q=2, x_c=1.6, n=9, m=5),
    ],
    ids=["one energy", "an energy for each pair of types"],
)
@pytest.mark.parametrize("n_particles", [100, 93], ids=["", "not a multiple of eight"])
def test_forces_of_other_laws(potential: PairPotential, n_particles: int, small_liquid: Glass) -> None:
    glass = Glass(small_liquid.positions[:n_particles], small_liquid.typeid[:n_particles], small_liquid.box).at_strain(0.3)
    _agree(Mechanics(potential, glass.typeid, 0.2), glass)


def test_forces_do_not_depend_on_what_was_asked_before(model: GlassModel, small_liquid: Glass) -> None:
    """A list made for the same positions gives the same bits, whether pairs were asked for meanwhile or not."""
    glass, moved = small_liquid, small_liquid.sheared(2e-3)
    one, other = (Mechanics(model.potential, glass.typeid, 0.3) for _ in range(2))
    one.energy_forces(glass.positions, glass.box)
    one.bonds(glass.positions, glass.box)
    other.recall(one.memory)
    answers = [mechanics.energy_forces(moved.positions, moved.box) for mechanics in (one, other)]
    assert answers[0][0] == answers[1][0]
    assert answers[0][1].tobytes() == answers[1][1].tobytes()


@pytest.mark.parametrize("skin", [0.3, 0.01], ids=["one list", "many lists in a step"])
@pytest.mark.parametrize("stages", [2, 3, 17])
def test_a_step_is_that_of_forces_from_outside(stages: int, skin: float, model: GlassModel, small_liquid: Glass) -> None:
    """In a box that was sheared since the list was made, too."""
    glass = small_liquid.at_strain(0.2)
    moved = glass.sheared(5e-4)
    # As far as the stages are stable.
    step = (stages - 1) ** 2 / 1.54 / (1.2 * bonds_of(moved, model.potential).largest_eigenvalue())
    ends = []
    for potential in (model.potential, without_law(model.potential)):
        mechanics = Mechanics(potential, glass.typeid, skin)
        mechanics.energy_forces(glass.positions, glass.box)
        _, force_nc = mechanics.energy_forces(moved.positions, moved.box)
        before = mechanics.force_evaluations
        ends.append(mechanics.chebyshev_step(moved.positions, force_nc, moved.box, _coefficients(stages), step))
        assert mechanics.force_evaluations - before == stages - 1
    assert np.abs(ends[0] - ends[1]).max() < 1e-11
    assert np.abs(ends[0] - moved.positions).max() > 0.02 * stages / 17


def test_a_step_that_blows_up_says_so(model: GlassModel, small_liquid: Glass) -> None:
    mechanics = Mechanics(model.potential, small_liquid.typeid, 0.3)
    _, force_nc = mechanics.energy_forces(small_liquid.positions, small_liquid.box)
    with pytest.raises(BlowUpError):
        mechanics.chebyshev_step(small_liquid.positions, force_nc, small_liquid.box, _coefficients(60), 1e6)


def test_descents_end_alike_and_in_the_same_bytes(model: GlassModel, small_liquid: Glass) -> None:
    potentials = model.potential, model.potential, without_law(model.potential)
    ends = [descent(Mechanics(potential, small_liquid.typeid, 0.3), small_liquid)[0] for potential in potentials]
    assert ends[0].positions.tobytes() == ends[1].positions.tobytes()
    assert np.abs(ends[0].positions - ends[2].positions).max() < 1e-8
