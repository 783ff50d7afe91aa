"""Molecular dynamics as one compiled loop, eight particles at a time.

Particles lie in cell order (:mod:`~qlm_hoomd.numerics.cells`), in rows of x, y, z and type; periodic images that somebody has as a
neighbour follow as rows of their own, so that the loop over neighbours knows of no box. Each particle has the list of all its
neighbours: nothing is added to another one's force, and the forces on eight particles are summed in registers.

A list is made for where particles will be in the middle of its life, a few steps ahead, and holds while everybody is within half a skin
of there: nearly twice as long as one made for where they are.
"""

# Array names carry their axes: n particles, s particles in cell order, c Cartesian components, t types or pairs of types, g groups of
# eight particles, m neighbours of a group, i images, k steps; l for lanes. Arrays without axes are flat views of rows of four numbers, (x, y, z, type)
# for positions, (x, y, z, 0) for the rest: those of particles in cell order, then so many that eight divides their number, then, for positions
# alone, the filler and the images.

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qlm_hoomd.numerics.cells import (
    FAR,
    cells_per_side,
    find_neighbors,
    image_shifts,
    lists_by_eight,
    sort_into_cells,
    with_images,
)
from qlm_hoomd.numerics.jit import Bytes, Floats, Ints, compiled, index
from qlm_hoomd.numerics.laws import Function, evaluate
from qlm_hoomd.numerics.simd import (
    LANES,
    ROW,
    any_beyond,
    gather_rows,
    load,
    scatter_rows,
    splat,
    store,
    sums_of_rows,
    total,
    where,
)

# The list is made for the time when the fastest particle, flying freely, is so much of half a skin away.
_AHEAD = 0.8
# Nobody's expected place is farther away than so much of half a skin: the list must hold where it is made.
_AT_MOST = 0.9


class Particles(NamedTuple):
    """Where all particles are and whom they have as neighbours."""

    rows: Floats
    velocities: Floats
    forces: Floats
    reference: Floats
    order_s: Ints
    owner_i: Ints
    code_i: Bytes
    member_m: Ints
    first_g: NDArray[np.int64]
    entry_m: Ints
    skin: float


@compiled
def arranged(
    reference_nc: Floats, skin: float, positions_nc: Floats, velocities_nc: Floats, typeid_n: Ints, length: float, xy: float,
    n_types: int, cutoff_t: Floats,
) -> Particles:  # fmt: skip
    """The particles in cell order of ``reference``, which lies in the box, with lists that hold within half a skin of there."""
    n_particles = len(positions_nc)
    reach_t = cutoff_t + skin
    cells_c = cells_per_side(length, xy, reach_t.max())
    shift_ic = image_shifts(length, xy)
    order_s, first_k = sort_into_cells(reference_nc, typeid_n, n_types, length, xy, cells_c)
    n_rows = (n_particles + LANES - 1) // LANES * LANES
    x_ce, owner_i, code_i, begin_ka = with_images(reference_nc, order_s, first_k, cells_c, n_types, shift_ic, n_rows + 1)
    typeid_s = typeid_n[order_s]
    first_s, place_m = find_neighbors(x_ce, typeid_s, owner_i, first_k, cells_c, begin_ka, n_types, reach_t, False)
    member_m, first_g, entry_m = lists_by_eight(first_s, place_m, n_rows, ROW)
    rows_e4 = np.zeros((n_rows + 1 + len(owner_i), ROW))
    velocity_s4, force_s4, reference_s4 = np.zeros((n_rows, ROW)), np.zeros((n_rows, ROW)), np.zeros((n_rows, ROW))
    for s in range(n_particles):
        n = order_s[s]
        for c in range(3):
            rows_e4[s, c] = positions_nc[n, c]
            velocity_s4[s, c] = velocities_nc[n, c]
            reference_s4[s, c] = reference_nc[n, c]
        rows_e4[s, 3] = reference_s4[s, 3] = typeid_n[n]
    # Those that fill up the last eight rest far away, and not where the filler is: a distance of zero has no force.
    for s in range(n_particles, n_rows):
        rows_e4[s, 0] = reference_s4[s, 0] = FAR
    rows_e4[n_rows, 0] = -FAR
    for i in range(len(owner_i)):
        rows_e4[n_rows + 1 + i, 3] = typeid_s[owner_i[i]]
    return Particles(
        rows_e4.reshape(-1), velocity_s4.reshape(-1), force_s4.reshape(-1), reference_s4.reshape(-1),
        order_s, owner_i, code_i, member_m, first_g, entry_m, skin,
    )  # fmt: skip


@compiled
def in_own_order(order_s: Ints, some: Floats, out_nc: Floats) -> None:
    """Rows in cell order as rows in the order of the particles."""
    for s in range(len(order_s)):
        n = order_s[s]
        for c in range(3):
            out_nc[n, c] = some[index(ROW * s + c)]


@compiled
def expect(positions_nc: Floats, velocities_nc: Floats, force_nc: Floats, length: float, xy: float, skin: float) -> Floats:
    """Where particles will be in the middle of the list's life, in the box; the positions are brought to the same images."""
    n_particles = len(positions_nc)
    square = 0.0
    for n in range(n_particles):
        square = max(square, velocities_nc[n, 0] ** 2 + velocities_nc[n, 1] ** 2 + velocities_nc[n, 2] ** 2)
    time = _AHEAD * 0.5 * skin / np.sqrt(square) if square > 0.0 else 0.0
    reference_nc = np.empty_like(positions_nc)
    for n in range(n_particles):
        d0 = time * (velocities_nc[n, 0] + 0.5 * time * force_nc[n, 0])
        d1 = time * (velocities_nc[n, 1] + 0.5 * time * force_nc[n, 1])
        d2 = time * (velocities_nc[n, 2] + 0.5 * time * force_nc[n, 2])
        far = np.sqrt(d0 * d0 + d1 * d1 + d2 * d2)
        share = min(1.0, _AT_MOST * 0.5 * skin / far) if far > 0.0 else 0.0
        x, y, z = positions_nc[n, 0] + share * d0, positions_nc[n, 1] + share * d1, positions_nc[n, 2] + share * d2
        i0, i1, i2 = np.rint((x - xy * y) / length), np.rint(y / length), np.rint(z / length)
        shift0, shift1, shift2 = length * (i0 + xy * i1), length * i1, length * i2
        reference_nc[n, 0], reference_nc[n, 1], reference_nc[n, 2] = x - shift0, y - shift1, z - shift2
        positions_nc[n, 0] -= shift0
        positions_nc[n, 1] -= shift1
        positions_nc[n, 2] -= shift2
    return reference_nc


@compiled
def move_images(rows: Floats, n_rows: int, owner_i: Ints, code_i: Bytes, shift_ic: Floats) -> None:
    """Put the images where their owners are."""
    place = index(ROW * (n_rows + 1))
    for i in range(index(len(owner_i))):
        own, code = index(ROW) * index(owner_i[i]), index(code_i[i])
        rows[place] = rows[own] + shift_ic[code, 0]
        rows[place + index(1)] = rows[own + index(1)] + shift_ic[code, 1]
        rows[place + index(2)] = rows[own + index(2)] + shift_ic[code, 2]
        place += index(ROW)


@compiled
def add_up_forces(
    rows: Floats, member_m: Ints, first_g: NDArray[np.int64], entry_m: Ints, types: tuple[int, ...], inverse_length2_t: Floats,
    energy_t: Floats | None, function: Function, constants: tuple[float, ...], cutoff2: float, measured: bool | None, forces: Floats,
) -> tuple[float, float]:  # fmt: skip
    """Forces -dU/dr of all particles; the energy U and the trace of the virial, sum of 2 phi' r^2 over the pairs, unless ``measured`` is None.

    ``types`` are the numbers from 0 on; ``energy_t`` is None where it is 1 for all.
    """
    n_types = len(types)
    scale_tl, weight_tl = np.empty(LANES * n_types), np.empty(LANES * n_types)
    energy, virial = splat(0.0), splat(0.0)
    for g in range(index(len(first_g) - 1)):
        x0, x1, x2, own = gather_rows(rows, member_m, index(LANES) * g)
        for t in range(n_types):
            scale = splat(inverse_length2_t[t])
            for kind in range(1, n_types):
                scale = where(own == float(kind), inverse_length2_t[kind * n_types + t], scale)
            store(scale_tl, index(LANES * t), scale)
            if energy_t is not None:
                weight = splat(energy_t[t])
                for kind in range(1, n_types):
                    weight = where(own == float(kind), energy_t[kind * n_types + t], weight)
                store(weight_tl, index(LANES * t), weight)
        f0, f1, f2 = splat(0.0), splat(0.0), splat(0.0)
        for m in range(index(first_g[g]), index(first_g[g + index(1)])):
            y0, y1, y2, other = gather_rows(rows, entry_m, index(LANES) * m)
            d0, d1, d2 = y0 - x0, y1 - x1, y2 - x2
            square = d0 * d0 + d1 * d1 + d2 * d2
            scale = load(scale_tl, index(0))
            for t in range(1, n_types):
                scale = where(other == float(t), load(scale_tl, index(LANES * t)), scale)
            w = square * scale
            value, slope = evaluate(function, w, constants)
            inside = w < cutoff2
            if energy_t is not None:
                weight = load(weight_tl, index(0))
                for t in range(1, n_types):
                    weight = where(other == float(t), load(weight_tl, index(LANES * t)), weight)
                value, scale = value * weight, scale * weight
            slope = where(inside, slope * scale, 0.0)
            if measured is not None:
                energy = energy + where(inside, value, 0.0)
                virial = virial + slope * square
            f0 = f0 + slope * d0
            f1 = f1 + slope * d1
            f2 = f2 + slope * d2
        scatter_rows(forces, member_m, index(LANES) * g, 2.0 * f0, 2.0 * f1, 2.0 * f2, splat(0.0))
    # Every pair was met from both ends.
    return 0.5 * total(energy), total(virial)


@compiled
def _drift(particles: Particles, factor: float, half_step: float, step: float) -> bool:
    """v <- factor v + F dt/2, r += v dt (unit mass); whether the lists do not hold any more, or a position is no number."""
    rows, velocities, forces, reference = particles.rows, particles.velocities, particles.forces, particles.reference
    limit = 0.25 * particles.skin * particles.skin
    left = False
    for d in range(index(0), index(len(velocities)), index(LANES)):
        velocity = factor * load(velocities, d) + half_step * load(forces, d)
        place = load(rows, d) + step * velocity
        store(velocities, d, velocity)
        store(rows, d, place)
        away = place - load(reference, d)
        left |= any_beyond(sums_of_rows(away * away), limit)
    return left


@compiled
def _kick(velocities: Floats, forces: Floats, half_step: float) -> float:
    """v += F dt/2; returns sum v^2."""
    square = splat(0.0)
    for d in range(index(0), index(len(velocities)), index(LANES)):
        velocity = load(velocities, d) + half_step * load(forces, d)
        store(velocities, d, velocity)
        square = square + velocity * velocity
    return total(square)


@compiled
def scale_velocities(velocities: Floats, factor: float) -> None:
    """v <- factor v."""
    for d in range(len(velocities)):
        velocities[d] *= factor


@compiled
def rescaling(square: float, temperature: float, keep: float, first: float, others: float) -> float:
    """Factor on all velocities that brings the kinetic energy one step along its canonical stochastic evolution.

    Eq. (A7) of Bussi, Donadio, Parrinello, J. Chem. Phys. 126, 014101 (2007), with ``square`` = sum v^2, ``keep`` = exp(-dt/tau), a
    standard normal number and the sum of the squares of as many as there are other degrees of freedom.
    """
    if not square > 0.0:
        return 1.0
    fresh = (1.0 - keep) * temperature / square
    factor2 = keep + fresh * (first * first + others) + 2.0 * first * np.sqrt(keep * fresh)
    sign = 1.0 if first + np.sqrt(keep / fresh) >= 0.0 else -1.0
    return sign * np.sqrt(factor2)


@compiled
def first_forces(
    particles: Particles, length: float, xy: float, types: tuple[int, ...], inverse_length2_t: Floats, energy_t: Floats | None,
    function: Function, constants: tuple[float, ...], cutoff2: float,
) -> None:  # fmt: skip
    """The forces on particles that were arranged anew."""
    move_images(particles.rows, len(particles.velocities) // ROW, particles.owner_i, particles.code_i, image_shifts(length, xy))
    add_up_forces(
        particles.rows, particles.member_m, particles.first_g, particles.entry_m, types, inverse_length2_t, energy_t, function,
        constants, cutoff2, None, particles.forces,
    )  # fmt: skip


@compiled
def advance(
    particles: Particles, typeid_n: Ints, cutoff_t: Floats, length: float, xy: float, types: tuple[int, ...], inverse_length2_t: Floats,
    energy_t: Floats | None, function: Function, constants: tuple[float, ...], cutoff2: float,
    step: float, keep: float, skin_k: Floats, target_k: Floats, first_k: Floats, others_k: Floats, measured_k: NDArray[np.bool_], out_k3: Floats,
) -> Particles:  # fmt: skip
    """Steps of velocity Verlet with velocity rescaling, as many as there are targets.

    ``out`` gets the energy and the trace of the virial of each step that is measured, and sum v^2 of each. Stops at a step that
    leaves a position without a number or far outside the box; its energy is not a number.
    """
    n_types = len(types)
    shift_ic = image_shifts(length, xy)
    factor = 1.0
    for k in range(len(target_k)):
        if _drift(particles, factor, 0.5 * step, step):
            order_s = particles.order_s
            positions_nc, velocities_nc, force_nc = np.empty((3, len(order_s), 3))
            in_own_order(order_s, particles.rows, positions_nc)
            in_own_order(order_s, particles.velocities, velocities_nc)
            in_own_order(order_s, particles.forces, force_nc)
            # Beyond a million boxes rounding eats the digits that matter.
            if not np.abs(positions_nc).max() < 1e6 * length:
                out_k3[k] = np.nan
                return particles
            reference_nc = expect(positions_nc, velocities_nc, force_nc, length, xy, skin_k[k])
            particles = arranged(reference_nc, skin_k[k], positions_nc, velocities_nc, typeid_n, length, xy, n_types, cutoff_t)
        move_images(particles.rows, len(particles.velocities) // ROW, particles.owner_i, particles.code_i, shift_ic)
        if measured_k[k]:
            energy, virial = add_up_forces(
                particles.rows, particles.member_m, particles.first_g, particles.entry_m, types, inverse_length2_t, energy_t,
                function, constants, cutoff2, True, particles.forces,
            )  # fmt: skip
            out_k3[k, 0], out_k3[k, 1] = energy, virial
        else:
            add_up_forces(
                particles.rows, particles.member_m, particles.first_g, particles.entry_m, types, inverse_length2_t, energy_t,
                function, constants, cutoff2, None, particles.forces,
            )  # fmt: skip
        square = _kick(particles.velocities, particles.forces, 0.5 * step)
        factor = rescaling(square, target_k[k], keep, first_k[k], others_k[k])
        out_k3[k, 2] = factor * factor * square
    scale_velocities(particles.velocities, factor)
    return particles
