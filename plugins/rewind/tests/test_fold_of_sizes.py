"""Folds of glasses whose particles have sizes of their own, beside dense algebra that shares no code with the project."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest
from qlm_quasistatic.stepper import Stepper
from qlm_quasistatic.strains import StrainGrid
from qlm_rewind import FoldDetector

from qlm_hoomd.engines.cpu import CPUEngine
from qlm_hoomd.model import GlassModel
from qlm_hoomd.potentials import SoftSpheres
from qlm_hoomd.preparation import random_start

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from qlm_quasistatic.events import Fold

    Array = NDArray[np.float64]

N = {2: 90, 3: 130}


@dataclass(frozen=True)
class Dense:
    """Energy and its derivatives from all pairs, by the published formula; the smoothing from a linear system."""

    size_n: Array
    length: float
    dimensions: int
    q: int

    def pairs(self, x_d: Array, strain: float) -> tuple[Array, ...]:
        """i, j, r_ij, distance, length and the first three derivatives of phi with respect to r of all pairs within reach."""
        d, box = self.dimensions, self.length
        i, j = np.triu_indices(len(self.size_n), 1)
        r = x_d.reshape(-1, d)[j] - x_d.reshape(-1, d)[i]
        for axis in range(d - 1, -1, -1):
            turns = np.round(r[:, axis] / box) if axis else np.round((r[:, 0] - strain * r[:, 1]) / box)
            if axis == 1:
                r[:, 0] -= strain * box * turns
                r[:, 1] -= box * turns
            else:
                r[:, axis] -= box * turns
        sigma = 0.5 * (self.size_n[i] + self.size_n[j]) * (1.0 - 0.2 * np.abs(self.size_n[i] - self.size_n[j]))
        distance = np.sqrt((r**2).sum(axis=1))
        near = distance < 1.25 * sigma
        i, j, r, distance, sigma = i[near], j[near], r[near], distance[near], sigma[near]
        powers = np.array([-12, *range(0, 2 * self.q + 1, 2)])
        factor = np.ones((4, len(powers)))
        for k in range(3):
            factor[k + 1] = factor[k] * (powers - k)
        at_end = np.array([factor[k] * 1.25 ** (powers - k) for k in range(min(self.q, 3) + 1)])
        c = np.append(1.0, np.linalg.solve(at_end[:, 1:], -at_end[:, 0]))
        x = (distance / sigma)[:, None]
        slopes = [(factor[k] * c * x ** (powers - float(k))).sum(axis=1) / sigma**k for k in range(3)]
        return i, j, r, distance, *slopes

    def energy(self, x_d: Array, strain: float) -> float:
        return float(self.pairs(x_d, strain)[4].sum())

    def gradient(self, x_d: Array, strain: float) -> Array:
        i, j, r, distance, _, first, _ = self.pairs(x_d, strain)
        out = np.zeros((len(self.size_n), self.dimensions))
        pull = (first / distance)[:, None] * r
        np.add.at(out, j, pull)
        np.subtract.at(out, i, pull)
        return out.ravel()

    def hessian(self, x_d: Array, strain: float) -> Array:
        d, n = self.dimensions, len(self.size_n)
        i, j, r, distance, _, first, second = self.pairs(x_d, strain)
        unit = r / distance[:, None]
        along = unit[:, :, None] * unit[:, None, :]
        block = second[:, None, None] * along + (first / distance)[:, None, None] * (np.eye(d) - along)
        out = np.zeros((n, n, d, d))
        for a, b, sign in ((i, i, 1), (j, j, 1), (i, j, -1), (j, i, -1)):
            np.add.at(out, (a, b), sign * block)
        return out.transpose(0, 2, 1, 3).reshape(d * n, d * n)

    def sheared(self, x_d: Array, increment: float) -> Array:
        moved = x_d.reshape(-1, self.dimensions).copy()
        moved[:, 0] += increment * moved[:, 1]
        return moved.ravel()

    def minimum(self, x_d: Array, strain: float) -> Array:
        """By Newton steps, translations left out."""
        for _ in range(60):
            gradient = self.gradient(x_d, strain)
            if np.abs(gradient).max() < 1e-12:
                return x_d
            value, vector = np.linalg.eigh(self.hessian(x_d, strain))
            keep = np.argsort(np.abs(value))[self.dimensions :]
            step = vector[:, keep] @ ((vector[:, keep].T @ gradient) / value[keep])
            x_d = x_d - step * min(1.0, 0.02 / np.abs(step).max())
        assert np.abs(gradient).max() < 1e-10
        return x_d

    def lowest(self, x_d: Array, strain: float) -> float:
        """The lowest eigenvalue but for translations."""
        projector = np.kron(np.ones((len(self.size_n),) * 2) / len(self.size_n), np.eye(self.dimensions))
        return float(np.linalg.eigvalsh(self.hessian(x_d, strain) + 1e3 * projector)[0])


@pytest.fixture(scope="module", params=[(2, 2), (3, 3)], ids=["2D, q = 2", "3D, q = 3"])
def found(request: pytest.FixtureRequest) -> tuple[Dense, Fold]:
    """The first fold of a rapidly quenched glass, and the other program for its particles."""
    dimensions, q = request.param
    model = GlassModel(potential=SoftSpheres(q=q), density=1.0, T0=0.5, dimensions=dimensions)
    engine, rng = CPUEngine(model.potential), np.random.default_rng(8)
    liquid = engine.run(random_start(model, N[dimensions], rng), duration=2.0, temperature=0.5, rng=rng)[0]
    glass = engine.descend(liquid, tolerance=1e-11)[0]
    stepper = Stepper(engine, 1e-11)
    first = FoldDetector().first(stepper, stepper.start(glass), StrainGrid(1e-3, 0.2))
    assert first is not None
    assert first[1] is not None
    assert glass.sizes is not None
    return Dense(np.array(glass.sizes), glass.box.length, dimensions, q), first[1]


def test_the_state_is_a_saddle_node(found: tuple[Dense, Fold]) -> None:
    dense, fold = found
    d = dense.dimensions
    x_d, z_d = fold.glass.positions[:, :d].ravel(), fold.mode[:, :d].ravel()
    assert np.abs(dense.gradient(x_d, fold.strain_c)).max() < 1e-9
    values, vectors = np.linalg.eigh(dense.hessian(x_d, fold.strain_c))
    assert np.abs(values[: d + 1]).max() < 1e-5 < 1e-2 * values[d + 1]
    assert np.linalg.norm(vectors[:, : d + 1].T @ z_d) == pytest.approx(1.0, abs=1e-6)


def test_kappa_and_coupling_are_differences_of_the_other_programs(found: tuple[Dense, Fold]) -> None:
    dense, fold = found
    d, strain = dense.dimensions, fold.strain_c
    x_d, z_d, step = fold.glass.positions[:, :d].ravel(), fold.mode[:, :d].ravel(), 1e-5
    up, down = (z_d @ dense.hessian(x_d + sign * step * z_d, strain) @ z_d for sign in (1, -1))
    assert fold.kappa == pytest.approx((up - down) / (2.0 * step), rel=1e-5)
    up, down = (z_d @ dense.gradient(dense.sheared(x_d, sign * step), strain + sign * step) for sign in (1, -1))
    assert fold.coupling == pytest.approx((up - down) / (2.0 * step), rel=1e-5)


def test_the_strain_is_where_the_other_programs_branch_ends(found: tuple[Dense, Fold]) -> None:
    """lambda^2 falls to zero there: its values so close that no pair crosses its cut-off, extrapolated in the distance's root."""
    dense, fold = found
    d = dense.dimensions
    x_d = fold.glass.positions[:, :d].ravel()
    # From the side of the minimum, along the mode by what the saddle-node law says.
    distances, squares = np.array([1e-8, 3e-8, 1e-7]), []
    for distance in distances:
        along = np.sqrt(2.0 * abs(fold.coupling / fold.kappa) * distance) * np.sign(fold.kappa)
        start = dense.sheared(x_d, -distance) + along * fold.mode[:, :d].ravel()
        minimum = dense.minimum(start, fold.strain_c - distance)
        lowest = dense.lowest(minimum, fold.strain_c - distance)
        assert lowest > 0.0
        squares.append(lowest**2)
    powers = np.array([0.0, 1.0, 1.5])
    terms = np.linalg.solve((distances[:, None] / 1e-8) ** powers, np.array(squares))
    assert abs(terms[0] / terms[1]) * 1e-8 < 1e-10
    assert terms[1] / 1e-8 == pytest.approx(2.0 * abs(fold.kappa * fold.coupling), rel=1e-3)
