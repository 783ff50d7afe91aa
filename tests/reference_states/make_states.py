"""Makes reference states from nothing, with no line of qlm_hoomd: ``python tests/reference_states/make_states.py FAMILY ...``.

Everything is dense and quadratic in the number of particles, in numpy's extended precision where the processor has one. Derivatives
of a law are those of its formula (closed forms of sums of powers and of contact laws); minima are found by scipy's L-BFGS and
Newton's method, eigenvalues by LAPACK and then as Rayleigh quotients in extended precision, instabilities by Newton's method on
the extended system F = 0, H z = 0, z.z = 1 for positions, mode and strain.

A family takes some ten minutes of one core. The same seed gives the same states up to rounding; what lies here is what this wrote once. The tests need
nothing of it.
"""

# Array names carry their axes: n particles, p pairs, c Cartesian components, d degrees of freedom, k order of the derivative.

from __future__ import annotations

import gzip
import json
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg
import scipy.optimize

Long = np.longdouble
SEED = 20261129


# ---- laws ----


def smoothed(n: int, q: int, x_c: float) -> dict[str, Any]:
    """x^-n plus the even polynomial of order 2q that takes it and q derivatives to zero at x_c, by solving for it."""
    # With u = x^2: u^(-n/2) + sum_l c_l u^l = 0 with q derivatives at u_c; in units of u_c the equations are rational.
    from sympy import Matrix, Rational, ff, rf

    size = q + 1
    left = Matrix(size, size, lambda k, power: ff(power, k))
    right = Matrix(size, 1, lambda k, _: -((-1) ** k) * rf(Rational(n, 2), k))
    unit = left.LUsolve(right)
    return {
        "form": "powers",
        "exponents": [-n, *(2 * power for power in range(size))],
        "coefficients": [1.0, *(float(unit[power]) * x_c ** -(n + 2 * power) for power in range(size))],
        "x_c": x_c,
    }


def difference(first: dict[str, Any], second: dict[str, Any], depth: float) -> dict[str, Any]:
    """depth (first - second), two smoothed powers with one cut-off."""
    factor: dict[int, float] = {}
    for law, sign in ((first, depth), (second, -depth)):
        for exponent, coefficient in zip(law["exponents"], law["coefficients"], strict=True):
            factor[exponent] = factor.get(exponent, 0.0) + sign * coefficient
    exponents = sorted(factor)
    return first | {"exponents": exponents, "coefficients": [factor[exponent] for exponent in exponents]}


def derivatives(law: dict[str, Any], w_p: np.ndarray, length_p: np.ndarray, epsilon_p: np.ndarray, order: int) -> np.ndarray:
    """((order + 1, P) ndarray) d^k phi / dw^k of w = r^2; zero beyond the cut-off."""
    u_p = w_p / length_p**2
    out_kp = np.zeros((order + 1, len(w_p)), dtype=w_p.dtype)
    if law["form"] == "powers":
        inside_p = u_p < Long(law["x_c"]) ** 2
        for k in range(order + 1):
            for exponent, coefficient in zip(law["exponents"], law["coefficients"], strict=True):
                factor = Long(coefficient)
                for step in range(k):
                    factor *= Long(exponent) / 2 - step
                if factor:
                    out_kp[k] += factor * u_p ** (Long(exponent) / 2 - k)
    else:
        inside_p = u_p < 1
        alpha = Long(law["alpha"])
        x_p = np.sqrt(u_p)
        gap_p = np.where(inside_p, 1 - x_p, 1)
        # d/du = (1 / 2x) d/dx, applied k times to (1 - x)^alpha / alpha: sums of gap^(alpha - i) / x^j.
        terms = {(0, 0): 1 / alpha}
        for k in range(order + 1):
            out_kp[k] = sum(factor * gap_p ** (alpha - i) / x_p**j for (i, j), factor in terms.items())
            new: dict[tuple[int, int], Any] = {}
            for (i, j), factor in terms.items():
                new[i + 1, j + 1] = new.get((i + 1, j + 1), 0) - factor * (alpha - i) / 2
                if j:
                    new[i, j + 2] = new.get((i, j + 2), 0) - factor * j / Long(2)
            terms = new
    for k in range(order + 1):
        out_kp[k] = np.where(inside_p, epsilon_p * out_kp[k] / length_p ** (2 * k), 0)
    return out_kp


# ---- states ----


@dataclass(frozen=True)
class State:
    """A configuration; positions in any image, box (Lx, Ly, Lz, xy, xz, yz), Lz = 0 in two dimensions."""

    law: dict[str, Any]
    box: np.ndarray
    positions: np.ndarray
    types: np.ndarray
    sizes: np.ndarray | None = None

    @property
    def d(self) -> int:
        """Number of dimensions."""
        return 2 if self.box[2] == 0.0 else 3

    @property
    def matrix(self) -> np.ndarray:
        """Lattice vectors as rows."""
        lx, ly, lz, xy, xz, yz = self.box.astype(Long)
        return np.array([[lx, 0, 0], [xy * ly, ly, 0], [xz * lz, yz * lz, lz]], dtype=Long)[: self.d, : self.d]

    @property
    def volume(self) -> Any:
        """Volume, or area."""
        return np.prod(np.diag(self.matrix))

    def sheared(self, increment: float) -> State:
        """After the affine simple shear x += increment y."""
        positions, box = self.positions.astype(Long).copy(), self.box.astype(Long).copy()
        positions[:, 0] += Long(increment) * positions[:, 1]
        box[3] += Long(increment)
        box[4] += Long(increment) * box[5]
        return replace(self, positions=positions, box=box)


class Evaluation:
    """All pairs of a state, by brute force over lattice vectors, and sums over them."""

    def __init__(self, state: State, order: int = 3) -> None:
        self.state = state
        n, d = len(state.positions), state.d
        x_nc = state.positions.astype(Long)[:, :d]
        i_p, j_p = np.triu_indices(n, 1)
        r_pc = x_nc[j_p] - x_nc[i_p]
        matrix = state.matrix
        for axis in reversed(range(d)):
            r_pc = r_pc - np.rint(r_pc[:, axis : axis + 1] / matrix[axis, axis]) * matrix[axis]
        found = []
        shifts = np.array(np.meshgrid(*[[-1, 0, 1]] * d, indexing="ij")).reshape(d, -1).T
        length_p, epsilon_p = self._parameters(i_p, j_p)
        reach_p = length_p * Long(state.law.get("x_c", 1.0))
        for shift in shifts:
            image_pc = r_pc + shift.astype(Long) @ matrix
            inside_p = np.einsum("pc,pc->p", image_pc, image_pc) < reach_p**2
            found.append((i_p[inside_p], j_p[inside_p], image_pc[inside_p], length_p[inside_p], epsilon_p[inside_p]))
        self.i_p, self.j_p, self.r_pc, length_p, epsilon_p = (np.concatenate(parts) for parts in zip(*found, strict=True))
        w_p = np.einsum("pc,pc->p", self.r_pc, self.r_pc)
        self.phi = derivatives(state.law, w_p, length_p, epsilon_p, order)
        self.n, self.d = n, d

    def _parameters(self, i_p: np.ndarray, j_p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        state, law = self.state, self.state.law
        t, u = state.types[i_p], state.types[j_p]
        epsilon_p = np.array(law["epsilon"], dtype=Long)[t, u]
        if state.sizes is None:
            return np.array(law["length"], dtype=Long)[t, u], epsilon_p
        a, b = state.sizes.astype(Long)[i_p], state.sizes.astype(Long)[j_p]
        return (a + b) / 2 * (1 - Long(law["nonadditivity"]) * np.abs(a - b)), epsilon_p

    @property
    def energy(self) -> Any:
        """U."""
        return self.phi[0].sum()

    @property
    def forces(self) -> np.ndarray:
        """-dU/dr."""
        pull_pc = 2 * self.phi[1][:, None] * self.r_pc
        out = np.zeros((self.n, self.d), dtype=Long)
        np.add.at(out, self.i_p, pull_pc)
        np.add.at(out, self.j_p, -pull_pc)
        return out

    @property
    def stress(self) -> np.ndarray:
        """dU/dE / V for r -> (1 + E) r."""
        return np.einsum("p,pa,pb->ab", 2 * self.phi[1], self.r_pc, self.r_pc) / self.state.volume

    def _assembled(self, block_pcc: np.ndarray) -> np.ndarray:
        out = np.zeros((self.n, self.d, self.n, self.d), dtype=Long)
        for a in range(self.d):
            for b in range(self.d):
                for left, right, sign in (
                    (self.i_p, self.i_p, 1),
                    (self.j_p, self.j_p, 1),
                    (self.i_p, self.j_p, -1),
                    (self.j_p, self.i_p, -1),
                ):
                    np.add.at(out[:, a, :, b], (left, right), sign * block_pcc[:, a, b])
        return out.reshape(self.n * self.d, -1)

    @property
    def hessian(self) -> np.ndarray:
        """d2U / dr dr."""
        rr = np.einsum("pa,pb->pab", self.r_pc, self.r_pc)
        one = np.eye(self.d, dtype=Long)
        return self._assembled(2 * self.phi[1][:, None, None] * one + 4 * self.phi[2][:, None, None] * rr)

    def third(self, z_nc: np.ndarray) -> np.ndarray:
        """U''' . z, a matrix."""
        z_pc = z_nc[self.j_p] - z_nc[self.i_p]
        a_p = np.einsum("pc,pc->p", self.r_pc, z_pc)
        rr = np.einsum("pa,pb->pab", self.r_pc, self.r_pc)
        rz = np.einsum("pa,pb->pab", self.r_pc, z_pc)
        one = np.eye(self.d, dtype=Long)
        block = 4 * self.phi[2][:, None, None] * (a_p[:, None, None] * one + rz + rz.transpose(0, 2, 1))
        return self._assembled(block + 8 * (self.phi[3] * a_p)[:, None, None] * rr)

    def _along_shear(self) -> np.ndarray:
        er_pc = np.zeros_like(self.r_pc)
        er_pc[:, 0] = self.r_pc[:, 1]
        return er_pc

    @property
    def mixed(self) -> np.ndarray:
        """d2U / dr dgamma, for r -> r + gamma y of all vectors."""
        er_pc = self._along_shear()
        b_p = np.einsum("pc,pc->p", self.r_pc, er_pc)
        term_pc = 2 * self.phi[1][:, None] * er_pc + 4 * (self.phi[2] * b_p)[:, None] * self.r_pc
        out = np.zeros((self.n, self.d), dtype=Long)
        np.add.at(out, self.j_p, term_pc)
        np.add.at(out, self.i_p, -term_pc)
        return out.ravel()

    @property
    def hessian_rate(self) -> np.ndarray:
        """dH/dgamma at positions that follow the shear."""
        er_pc = self._along_shear()
        b_p = np.einsum("pc,pc->p", self.r_pc, er_pc)
        rr = np.einsum("pa,pb->pab", self.r_pc, self.r_pc)
        re = np.einsum("pa,pb->pab", self.r_pc, er_pc)
        one = np.eye(self.d, dtype=Long)
        block = 4 * (self.phi[2] * b_p)[:, None, None] * one + 8 * (self.phi[3] * b_p)[:, None, None] * rr
        return self._assembled(block + 4 * self.phi[2][:, None, None] * (re + re.transpose(0, 2, 1)))


def solve(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Dense solution in double precision, refined in extended."""
    factor = scipy.linalg.lu_factor(matrix.astype(np.float64))
    out = scipy.linalg.lu_solve(factor, right.astype(np.float64)).astype(Long)
    for _ in range(4):
        out += scipy.linalg.lu_solve(factor, (right - matrix @ out).astype(np.float64)).astype(Long)
    return out


def without_translations(hessian: np.ndarray, d: int) -> np.ndarray:
    """The Hessian with the translations lifted to its mean diagonal."""
    out, n = hessian.copy(), len(hessian) // d
    lift = np.trace(hessian) / len(hessian) / n
    for c in range(d):
        out[c::d, c::d] += lift
    return out


def at_rest(state: State) -> State:
    """The minimum that L-BFGS and Newton's method reach."""
    d = state.d

    def value(x: np.ndarray) -> tuple[float, np.ndarray]:
        moved = replace(state, positions=np.pad(x.reshape(-1, d), ((0, 0), (0, 3 - d))))
        there = Evaluation(moved, 1)
        return float(there.energy), -there.forces.ravel().astype(np.float64)

    found = scipy.optimize.minimize(value, state.positions[:, :d].ravel().astype(np.float64), jac=True, method="L-BFGS-B",
                                    options={"maxiter": 20000, "maxfun": 40000, "ftol": 1e-16, "gtol": 1e-6, "maxcor": 30})  # fmt: skip
    state = replace(state, positions=np.pad(found.x.reshape(-1, d), ((0, 0), (0, 3 - d))).astype(Long))
    return newton(state)


def newton(state: State, steps: int = 40, goal: float = 1e-14) -> State:
    """The zero of the forces close by."""
    d = state.d
    for _ in range(steps):
        there = Evaluation(state, 2)
        force = there.forces
        matrix = without_translations(there.hessian, d)
        idle = np.abs(np.diag(matrix)) < 1e-12
        matrix[idle, idle] = 1
        step = solve(matrix, force.ravel()).reshape(-1, d)
        biggest = np.abs(step).max()
        if biggest > 0.05:
            step *= Long(0.05) / biggest
        state = replace(state, positions=state.positions + np.pad(step, ((0, 0), (0, 3 - d))))
        if np.abs(force).max() < goal:
            break
    return state


def lowest(state: State, count: int = 10) -> list[float]:
    """The lowest eigenvalues but for the translations, as Rayleigh quotients in extended precision."""
    hessian = Evaluation(state, 2).hessian
    lifted = without_translations(hessian, state.d)
    # Lift them far out of the way.
    scale = np.trace(hessian)
    for c in range(state.d):
        lifted[c :: state.d, c :: state.d] += scale
    _, vectors = np.linalg.eigh(lifted.astype(np.float64))
    quotients = [float(vector @ hessian @ vector / (vector @ vector)) for vector in vectors.T[:count].astype(Long)]
    return sorted(quotients)


def first_instability(state: State, step: float = 5e-4, most: float = 0.3) -> dict[str, float]:
    """Strain from here to where the smallest eigenvalue vanishes, kappa and coupling there; by small steps, then Newton."""
    d = state.d
    strain, last = Long(0), newton(state)
    level = lowest(last, 1)[0]
    while True:
        if strain > most:
            raise RuntimeError("no instability")
        tried = newton(last.sheared(step))
        moved = np.abs(tried.positions - last.sheared(step).positions).max()
        here = lowest(tried, 1)[0]
        if moved > 0.1 or here <= 0.0 or np.abs(Evaluation(tried, 1).forces).max() > 1e-12:
            step /= 4
            if level < 0.02 or step < 1e-8:
                break
            continue
        last, level = tried, here
        strain += Long(step)
        if level < 0.01:
            break
    # Unknowns: positions, mode, strain.
    lifted = without_translations(Evaluation(last, 2).hessian, d)
    scale = np.trace(lifted)
    for c in range(d):
        lifted[c::d, c::d] += scale
    z = np.linalg.eigh(lifted.astype(np.float64))[1][:, 0].astype(Long)
    current, size = last, len(z)
    for _ in range(60):
        there = Evaluation(current, 3)
        hessian = without_translations(there.hessian, d)
        residual = np.concatenate([-there.forces.ravel(), there.hessian @ z, [(z @ z - 1) / 2]])
        if np.abs(residual).max() < 1e-15:
            break
        z_nc = z.reshape(-1, d)
        jacobian = np.zeros((2 * size + 1, 2 * size + 1), dtype=Long)
        jacobian[:size, :size] = hessian
        jacobian[:size, -1] = there.mixed
        jacobian[size : 2 * size, :size] = there.third(z_nc)
        jacobian[size : 2 * size, size : 2 * size] = hessian
        jacobian[size : 2 * size, -1] = there.hessian_rate @ z
        jacobian[-1, size : 2 * size] = z
        change = solve(jacobian, -residual)
        biggest = np.abs(change[:size]).max()
        change *= min(Long(1), Long(0.05) / biggest) if biggest > 0 else Long(1)
        current = replace(current, positions=current.positions + np.pad(change[:size].reshape(-1, d), ((0, 0), (0, 3 - d))))
        current = current.sheared(change[-1])
        z = z + change[size : 2 * size]
        strain += change[-1]
    else:
        raise RuntimeError("no fold")
    there = Evaluation(current, 3)
    if lowest(current, 2)[1] < 1e-6:
        raise RuntimeError("two modes at once")
    z = z / np.sqrt(z @ z)
    kappa = z @ there.third(z.reshape(-1, d)) @ z
    coupling = z @ there.mixed
    if kappa < 0:
        kappa, coupling = -kappa, -coupling
    return {"gamma_c": float(strain), "kappa": float(kappa), "coupling": float(coupling)}


# ---- which states ----

IPL = smoothed(10, 3, 1.48) | {"epsilon": [[1.0, 1.0], [1.0, 1.0]], "length": [[1.0, 1.18], [1.18, 1.4]]}
KOB_ANDERSEN = difference(smoothed(12, 2, 2.5), smoothed(6, 2, 2.5), 4.0) | {
    "epsilon": [[1.0, 1.5], [1.5, 0.5]],
    "length": [[1.0, 0.8], [0.8, 0.88]],
}
TERNARY = difference(smoothed(12, 2, 2.5), smoothed(6, 2, 2.5), 4.0) | {
    "epsilon": [[1.0, 1.5, 0.75], [1.5, 0.5, 1.5], [0.75, 1.5, 0.75]],
    "length": [[1.0, 0.8, 0.9], [0.8, 0.88, 0.8], [0.9, 0.8, 0.94]],
}
LENNARD_JONES = difference(smoothed(12, 3, 2.5), smoothed(6, 3, 2.5), 4.0) | {"epsilon": [[1.0]], "length": [[1.0]]}
CONTACTS = [[1.0, 1.2], [1.2, 1.4]]
HARMONIC = {"form": "contact", "alpha": 2.0, "epsilon": [[1.0, 1.0], [1.0, 1.0]], "length": CONTACTS}
HERTZIAN = {"form": "contact", "alpha": 2.5, "epsilon": [[1.0, 1.0], [1.0, 1.0]], "length": CONTACTS}
SWAP = smoothed(12, 2, 1.25) | {"epsilon": [[1.0]], "nonadditivity": 0.2}
SMOOTH_SWAP = smoothed(12, 3, 1.25) | {"epsilon": [[1.0]], "nonadditivity": 0.2}
ADDITIVE = smoothed(10, 3, 1.48) | {"epsilon": [[1.0]], "nonadditivity": 0.0}

CUBE = (1.0, 1.0, 1.0, 0.0, 0.0, 0.0)
BRICK = (1.1, 0.95, 1.0, 0.0, 0.0, 0.0)
SKEW = (1.0, 1.05, 0.98, 0.12, -0.2, 0.15)
SQUARE = (1.0, 1.0, 0.0, 0.0, 0.0, 0.0)
LONG = (1.4, 0.8, 0.0, -0.3, 0.0, 0.0)
# name: law, particles of each type (or how many of a spread of sizes), density, shape of the box.
FAMILIES = {
    "ipl": (IPL, (64, 64), 0.82, CUBE),
    "ipl_brick": (IPL, (80, 80), 0.82, BRICK),
    "ipl_skew": (IPL, (80, 80), 0.82, SKEW),
    "kob_andersen": (KOB_ANDERSEN, (152, 38), 1.2, CUBE),
    "kob_andersen_skew": (KOB_ANDERSEN, (172, 43), 1.2, SKEW),
    "lennard_jones": (LENNARD_JONES, (180,), 1.0, CUBE),
    "harmonic": (HARMONIC, (54, 54), 0.72, CUBE),
    "hertzian": (HERTZIAN, (54, 54), 0.75, CUBE),
    "swap": (SWAP, (120,), 1.0, CUBE),
    "smooth_swap": (SMOOTH_SWAP, (120,), 1.0, SKEW),
    "additive": (ADDITIVE, (150,), 0.8, BRICK),
    "ipl_2d": (IPL, (60, 60), 0.86, SQUARE),
    "ipl_2d_long": (IPL, (70, 70), 0.86, LONG),
    "ternary_2d": (TERNARY, (60, 33, 36), 1.19206, SQUARE),
    "swap_2d": (SWAP, (130,), 1.0, SQUARE),
    "smooth_swap_2d": (SMOOTH_SWAP, (130,), 1.0, LONG),
    "harmonic_2d": (HARMONIC, (60, 60), 0.84, SQUARE),
    "hertzian_2d": (HERTZIAN, (60, 60), 0.86, LONG),
}


def start(family: str, rng: np.random.Generator) -> State:
    """Random positions, not too close, of this family."""
    law, counts, density, shape = FAMILIES[family]
    n, flat = sum(counts), shape[2] == 0.0
    cell = shape[0] * shape[1] * (1.0 if flat else shape[2])
    edge = (n / density / cell) ** (1.0 / (2 if flat else 3))
    box = np.array([edge * shape[0], edge * shape[1], edge * shape[2], *shape[3:]])
    types = np.repeat(np.arange(len(counts)), counts) if "length" in law else np.zeros(n, dtype=np.int64)
    sizes = None
    if "length" not in law:
        # Quantiles of s^-3 between 0.725 and 1.6095 (mean 1), in any order.
        a, b = 0.72532672374943677, 1.6095
        u = (np.arange(n) + 0.5) / n
        sizes = rng.permutation((a**-2 - u * (a**-2 - b**-2)) ** -0.5)
    state = State(law, box, np.zeros((n, 3)), types, sizes)
    fractions = rng.uniform(-0.5, 0.5, (n, state.d))
    positions = np.pad(fractions @ state.matrix.astype(np.float64), ((0, 0), (0, 3 - state.d)))
    # Soft repulsion first: a hard law at random positions leaves double precision.
    soft = {"form": "contact", "alpha": 2.0, "epsilon": law["epsilon"]}
    soft |= {"length": law["length"]} if "length" in law else {"nonadditivity": law["nonadditivity"]}
    loose = replace(state, positions=positions, law=soft)

    def value(x: np.ndarray) -> tuple[float, np.ndarray]:
        there = Evaluation(replace(loose, positions=np.pad(x.reshape(n, -1), ((0, 0), (0, 3 - state.d)))), 1)
        return float(there.energy), -there.forces.ravel().astype(np.float64)

    x = scipy.optimize.minimize(value, positions[:, : state.d].ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
    return replace(state, positions=np.pad(x.reshape(n, -1), ((0, 0), (0, 3 - state.d))))


def rounded(state: State) -> State:
    """The state as it is shipped: float64, and what is measured is measured of these numbers."""
    return replace(state, positions=state.positions.astype(np.float64), box=state.box.astype(np.float64))


def entry(name: str, state: State, kind: str, instability: dict[str, float] | None) -> dict[str, Any]:
    """What is shipped of a state."""
    state = rounded(state)
    there = Evaluation(state, 2)
    values: dict[str, Any] = {
        "energy": float(there.energy),
        "forces": there.forces.astype(np.float64).tolist(),
        "stress": there.stress.astype(np.float64).tolist(),
        "eigenvalues": lowest(state),
    }
    if instability:
        values["instability"] = instability
    return {
        "name": name,
        "kind": kind,
        "dimensions": state.d,
        "box": state.box.tolist(),
        "positions": state.positions[:, : state.d].tolist(),
        "types": state.types.tolist(),
        "sizes": None if state.sizes is None else state.sizes.tolist(),
        "law": state.law,
        "values": values,
    }


def states_of(family: str) -> list[dict[str, Any]]:
    """At rest; sheared and at rest again; away from rest; one step before the first instability, where it has one."""
    rng = np.random.default_rng([SEED, sum(map(ord, family))])
    contact = FAMILIES[family][0]["form"] == "contact"
    out: list[dict[str, Any]] = []
    rest = at_rest(start(family, rng))
    # Laws whose Hessian jumps have no fold that Newton's method finds for certain.
    fold = None if contact or family == "lennard_jones" else first_instability(rest)
    out.append(entry(f"{family}_rest", rest, "at rest", fold))
    shaken = replace(
        rest, positions=rest.positions + np.pad(rng.normal(0, 0.03, (len(rest.positions), rest.d)), ((0, 0), (0, 3 - rest.d)))
    )
    out.append(entry(f"{family}_moved", shaken.sheared(0.37), "moved, strained by 0.37", None))
    if fold and fold["gamma_c"] > 1e-3:
        gap = 1e-4
        near = newton(rest)
        steps = max(4, math.ceil((fold["gamma_c"] - gap) / 2e-4))
        for _ in range(steps):
            near = newton(near.sheared((fold["gamma_c"] - gap) / steps))
        found = first_instability(near, step=gap / 50)
        out.append(entry(f"{family}_before_fold", near, "1e-4 of strain before its first instability", found))
    return out


def main(families: list[str]) -> None:
    """Write ``<family>.json.gz`` beside this file."""
    folder = Path(__file__).parent
    for family in families:
        found = states_of(family)
        with gzip.GzipFile(folder / f"{family}.json.gz", "wb", mtime=0) as file:
            file.write(json.dumps(found).encode())


if __name__ == "__main__":
    main(sys.argv[1:] or list(FAMILIES))
