"""Folds in two dimensions, and of one glass in every cell of its lattice: the instability is that of the glass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import scipy.linalg
from qlm_quasistatic.directions import first_instability
from qlm_quasistatic.path import Leg
from qlm_quasistatic.stepper import Stepper
from qlm_quasistatic.strains import StrainGrid
from qlm_rewind import FoldDetector, ThresholdDetector

from qlm_hoomd.box import Box
from qlm_hoomd.engines.cpu import CPUEngine
from qlm_hoomd.glass import Glass
from qlm_hoomd.mechanics import bonds_of
from qlm_hoomd.model import GlassModel
from qlm_hoomd.preparation import random_start

if TYPE_CHECKING:
    from qlm_quasistatic.events import Fold

FLAT = GlassModel(dimensions=2, density=0.86)


@pytest.fixture(scope="module")
def flat() -> Glass:
    """A rapidly quenched glass in two dimensions."""
    rng = np.random.default_rng(4)
    engine = CPUEngine(FLAT.potential)
    return engine.descend(engine.run(random_start(FLAT, 200, rng), duration=2.0, temperature=1.0, rng=rng)[0])[0]


def _first(glass: Glass, model: GlassModel) -> tuple[float, Fold]:
    stepper = Stepper(CPUEngine(model.potential), 1e-11)
    found = FoldDetector().first(stepper, stepper.start(glass), StrainGrid(1e-3, glass.strain + 0.2))
    assert found is not None
    strain_c, fold = found
    assert fold is not None
    return strain_c - glass.strain, fold


def test_a_fold_in_two_dimensions_is_a_saddle_node(flat: Glass) -> None:
    _, fold = _first(flat, FLAT)
    bonds = bonds_of(fold.glass, FLAT.potential, 3)
    matrix = bonds.hessian().toarray()
    assert matrix.shape == (400, 400)
    # Two translations and the critical mode.
    eigenvalues, vectors = scipy.linalg.eigh(matrix, subset_by_index=[0, 3])
    assert np.abs(eigenvalues[:3]).max() < 1e-5 < 1e-2 * eigenvalues[3]
    assert not fold.mode[:, 2].any()
    in_null = vectors[:, :3].T @ fold.mode[:, :2].ravel()
    assert np.linalg.norm(in_null) == pytest.approx(1.0, abs=1e-6)
    assert np.linalg.norm(bonds.forces, axis=1).max() < 1e-9
    # lambda^2 = 2 kappa C (gamma_c - gamma), and no state at rest beyond.
    engine = CPUEngine(FLAT.potential)
    before = engine.relax(fold.glass.sheared(-1e-6))[0]
    lowest = scipy.linalg.eigh(bonds_of(before, FLAT.potential).hessian().toarray(), subset_by_index=[2, 2], eigvals_only=True)[
        0
    ]
    assert fold.distance(float(lowest)) == pytest.approx(1e-6, rel=0.05)
    assert engine.relax(fold.glass.sheared(1e-6))[1].left_basin


def test_both_detectors_find_it(flat: Glass) -> None:
    gamma_min, _ = _first(flat, FLAT)
    rows = [
        first_instability(CPUEngine(FLAT.potential), flat, "+xy", detector, increment=1e-4)
        for detector in (FoldDetector(), ThresholdDetector(q_c=20.0))
    ]
    assert rows[0]["gamma_min"] == pytest.approx(gamma_min, abs=1e-9)
    assert rows[1]["gamma_min"] == pytest.approx(gamma_min, abs=2e-6)


def test_a_fall_in_two_dimensions_is_followed_to_rest(flat: Glass) -> None:
    """Through three instabilities and on, all in the plane, energy lower after each."""
    stepper = Stepper(CPUEngine(FLAT.potential), 1e-10)
    leg, events = Leg(0.0, 0.12), []
    state = stepper.start(flat)
    for item in FoldDetector().follow(stepper, state, leg.grid(2e-3)):
        if hasattr(item, "strain_c"):
            events.append(item)
        else:
            assert not item.after.glass.positions[:, 2].any()
            assert item.after.observables.max_force < 1e-10
    assert len(events) >= 2
    assert all(event.step.after.observables.energy < event.step.before.observables.energy for event in events)


def _copies(glass: Glass) -> dict[str, Glass]:
    """The same glass turned by half a turn about z, and, on its lattice, in other cells; all are sheared in the same plane."""
    length, positions_nc = glass.box.length, glass.positions
    half_nc = glass.box.wrap(positions_nc * [-1.0, -1.0, 1.0])
    flat = glass.box.dimensions == 2
    boxes = {"flipped": Box(length, 1.0 - 0.0, lz=0.0 if flat else length)}
    if not flat:
        boxes |= {
            "leaning in y": Box(length, yz=1.0),
            "leaning in x": Box(length, xz=-1.0),
            "both": Box(length, xz=1.0, yz=-1.0),
        }
    rng = np.random.default_rng(1)
    order = rng.permutation(glass.n_particles)
    copies = {name: Glass(positions_nc, glass.typeid, box, box.xy) for name, box in boxes.items()}
    return copies | {
        "half a turn": glass.moved(half_nc),
        "renumbered": Glass(positions_nc[order], glass.typeid[order], glass.box),
        "mirrored in z": glass.moved(positions_nc * [1.0, 1.0, -1.0]),
    }


def test_copies_in_two_dimensions_fail_alike(flat: Glass) -> None:
    gamma_min, fold = _first(flat, FLAT)
    spectrum = np.linalg.eigvalsh(bonds_of(flat, FLAT.potential).hessian().toarray())
    for name, copy in _copies(flat).items():
        found, other = _first(copy, FLAT)
        assert found == pytest.approx(gamma_min, abs=1e-10), name
        assert other.kappa == pytest.approx(fold.kappa, rel=1e-5), name
        again = np.linalg.eigvalsh(bonds_of(copy, FLAT.potential).hessian().toarray())
        np.testing.assert_allclose(again, spectrum, atol=1e-9)


def test_copies_in_three_dimensions_fail_alike(quenched: Glass, model: GlassModel) -> None:
    gamma_min, fold = _first(quenched, model)
    spectrum = scipy.linalg.eigh(
        bonds_of(quenched, model.potential).hessian().toarray(), eigvals_only=True, subset_by_index=[0, 40]
    )
    for name, copy in _copies(quenched).items():
        found, other = _first(copy, model)
        assert found == pytest.approx(gamma_min, abs=1e-10), name
        assert other.kappa == pytest.approx(fold.kappa, rel=1e-5), name
        matrix = bonds_of(copy, model.potential).hessian().toarray()
        again = scipy.linalg.eigh(matrix, eigvals_only=True, subset_by_index=[0, 40])
        np.testing.assert_allclose(again, spectrum, atol=1e-9)
