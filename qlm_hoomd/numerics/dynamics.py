"""Molecular dynamics as one compiled loop, eight particles at a time.

Particles lie in cell order (:mod:`~qlm_hoomd.numerics.cells`), in rows of x, y, z and type, or size where each has one of its
own; periodic images that somebody has as a neighbour follow as rows of their own, so that the loop over neighbours knows of
no box. Each particle has the list of all its neighbours: nothing is added to another one's force, and the forces on eight
particles are summed in registers.

A list is made for where particles will be in the middle of its life, a few steps ahead, and holds while everybody is within
half a skin of there: nearly twice as long as one made for where they are.
"""

# Array names carry their axes: n particles, s particles in cell order, c Cartesian components, t types or pairs of types, g
# groups of eight particles, m neighbours of a group, i images, k steps; l for lanes. Arrays without axes are flat views of rows
# of four numbers, (x, y, z, type or size) for positions, (x, y, z, 0) for the rest: those of particles in cell order, then so many that
# eight divides their number, then, for positions alone, the filler and the images.

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qlm_hoomd.base.errors import BlowUpError
from qlm_hoomd.numerics.cells import (
    FAR,
    Lattice,
    cells_per_side,
    find_neighbors,
    lists_by_eight,
    own_reach,
    sort_into_cells,
    with_images,
)
from qlm_hoomd.numerics.jit import Bytes, Floats, Ints, compiled, index
from qlm_hoomd.numerics.laws import Function, Mixing, Sizes, evaluate, mixed
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


class Forces(NamedTuple):
    """A scaled law as the loops take it: the numbers of the types from 0 on, and what :class:`~qlm_hoomd.numerics.laws.ScaledLaw` holds.

    All but its energies, and how sizes are mixed: whether there are any decides what is compiled, and only an argument of its
    own can do that.
    """

    types: tuple[int, ...]
    inverse_length2_t: Floats
    function: Function
    constants: tuple[float, ...]
    cutoff2: float


def arranged(
    reference_nc: Floats,
    skin: float,
    positions_nc: Floats,
    velocities_nc: Floats,
    typeid_n: Ints,
    cutoff_t: Floats,
    lattice: Lattice,
    sizes: Sizes | None,
) -> Particles:
    """The particles in cell order of ``reference``, which lies in the box, with lists that hold within half a skin of there."""
    n_particles, n_types = len(positions_nc), math.isqrt(len(cutoff_t))
    reach_t = cutoff_t * (1.0 if sizes is None else sizes.longest) + skin
    cells_c = cells_per_side(lattice, float(reach_t.max()))
    order_s, first_k = sort_into_cells(reference_nc, typeid_n, n_types, lattice, cells_c)
    typeid_s = typeid_n[order_s]
    n_rows = -(-n_particles // LANES) * LANES
    x_ce, owner_i, code_i, begin_ka = with_images(reference_nc, order_s, first_k, cells_c, n_types, lattice, n_rows + 1)
    own = own_reach(sizes, float(cutoff_t.max()), skin, order_s, owner_i, x_ce)
    first_s, place_m = find_neighbors(x_ce, typeid_s, owner_i, first_k, cells_c, begin_ka, n_types, reach_t, False, own)
    member_m, first_g, entry_m = lists_by_eight(first_s, place_m, n_rows, ROW)
    label_s = typeid_s.astype(np.float64) if sizes is None else sizes.size_n[order_s]
    rows, velocities, reference = _laid_out(order_s, label_s, owner_i, n_rows, positions_nc, velocities_nc, reference_nc)
    return Particles(
        rows, velocities, np.zeros_like(velocities), reference, order_s, owner_i, code_i, member_m, first_g, entry_m, skin
    )


@compiled
def _laid_out(
    order_s: Ints,
    label_s: Floats,
    owner_i: Ints,
    n_rows: int,
    positions_nc: Floats,
    velocities_nc: Floats,
    reference_nc: Floats,
) -> tuple[Floats, Floats, Floats]:
    """Positions, velocities and reference as rows in cell order; images have their labels, types or sizes, only."""
    rows = np.zeros(ROW * (n_rows + 1 + len(owner_i)))
    velocities, reference = np.zeros(ROW * n_rows), np.zeros(ROW * n_rows)
    for s in range(len(order_s)):
        n = order_s[s]
        for c in range(3):
            rows[ROW * s + c] = positions_nc[n, c]
            velocities[ROW * s + c] = velocities_nc[n, c]
            reference[ROW * s + c] = reference_nc[n, c]
        rows[ROW * s + 3] = reference[ROW * s + 3] = label_s[s]
    # Those that fill up the last eight rest far away, and not where the filler is: a distance of zero has no force.
    for s in range(len(order_s), n_rows):
        rows[ROW * s] = reference[ROW * s] = FAR
    rows[ROW * n_rows] = -FAR
    for i in range(len(owner_i)):
        rows[ROW * (n_rows + 1 + i) + 3] = label_s[owner_i[i]]
    return rows, velocities, reference


def rearranged(
    particles: Particles, skin: float, typeid_n: Ints, cutoff_t: Floats, lattice: Lattice, sizes: Sizes | None
) -> Particles:
    """The particles with new lists.

    Raises:
        BlowUpError: if positions are not finite.
    """
    positions_nc, velocities_nc, force_nc = (
        in_own_order(particles.order_s, some) for some in (particles.rows, particles.velocities, particles.forces)
    )
    # Beyond a million boxes rounding eats the digits that matter.
    if not np.abs(positions_nc).max() < 1e6 * lattice.edges[0]:
        raise BlowUpError("positions are not finite or far outside the box: the state blew up. Use a smaller time step.")
    reference_nc = expect(positions_nc, velocities_nc, force_nc, lattice, skin)
    return arranged(reference_nc, skin, positions_nc, velocities_nc, typeid_n, cutoff_t, lattice, sizes)


@compiled
def in_own_order(order_s: Ints, some: Floats) -> Floats:
    """((N, 3) ndarray) rows in cell order in the order of the particles."""
    out_nc = np.empty((len(order_s), 3))
    for s in range(len(order_s)):
        for c in range(3):
            out_nc[order_s[s], c] = some[ROW * s + c]
    return out_nc


@compiled
def expect(positions_nc: Floats, velocities_nc: Floats, force_nc: Floats, lattice: Lattice, skin: float) -> Floats:
    """Where particles will be in the middle of the list's life, in the box; the positions are brought to the same images."""
    n_particles = len(positions_nc)
    lx, ly, lz = lattice.edges
    xy, xz, yz = lattice.tilts
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
        i0 = np.rint((x - xy * y - (xz - xy * yz) * z) / lx)
        i1, i2 = np.rint((y - yz * z) / ly), np.rint(z / lz)
        shift0 = lx * (i0 + xy * (ly / lx) * i1 + xz * (lz / lx) * i2)
        shift1, shift2 = ly * (i1 + yz * (lz / ly) * i2), lz * i2
        reference_nc[n, 0], reference_nc[n, 1], reference_nc[n, 2] = x - shift0, y - shift1, z - shift2
        positions_nc[n, 0] -= shift0
        positions_nc[n, 1] -= shift1
        positions_nc[n, 2] -= shift2
    return reference_nc


@compiled
def _move_images(rows: Floats, n_rows: int, owner_i: Ints, code_i: Bytes, shift_ic: Floats) -> None:
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
    particles: Particles, lattice: Lattice, law: Forces, energy_t: Floats | None, mixing: Mixing | None, measured: bool | None
) -> tuple[float, float]:
    """Forces -dU/dr of all particles.

    Also the energy U and the trace of the virial, sum of 2 phi' r^2 over the pairs, unless ``measured`` is None.

    The images are put where their owners are.
    """
    rows, member_m, first_g, entry_m = particles.rows, particles.member_m, particles.first_g, particles.entry_m
    inverse_length2_t, cutoff2, n_types = law.inverse_length2_t, law.cutoff2, len(law.types)
    _move_images(rows, len(particles.velocities) // ROW, particles.owner_i, particles.code_i, lattice.shift_ic)
    scale_tl, weight_tl = np.empty(LANES * n_types), np.empty(LANES * n_types)
    energy, virial = splat(0.0), splat(0.0)
    for g in range(index(len(first_g) - 1)):
        x0, x1, x2, own = gather_rows(rows, member_m, index(LANES) * g)
        for t in range(n_types):
            if mixing is None:
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
            if mixing is None:
                scale = load(scale_tl, index(0))
                for t in range(1, n_types):
                    scale = where(other == float(t), load(scale_tl, index(LANES * t)), scale)
            else:
                length = mixed(mixing.function, own, other, mixing.constants)
                scale = 1.0 / (length * length)
            w = square * scale
            value, slope = evaluate(law.function, w, law.constants)
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
        scatter_rows(particles.forces, member_m, index(LANES) * g, 2.0 * f0, 2.0 * f1, 2.0 * f2, splat(0.0))
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
def _scale_velocities(velocities: Floats, factor: float) -> None:
    """v <- factor v."""
    for d in range(len(velocities)):
        velocities[d] *= factor


@compiled
def rescaling(square: float, temperature: float, keep: float, first: float, others: float) -> float:
    """Factor on all velocities that brings the kinetic energy one step along its canonical stochastic evolution.

    Eq. (A7) of Bussi, Donadio, Parrinello, J. Chem. Phys. 126, 014101 (2007), with ``square`` = sum v^2, ``keep`` =
    exp(-dt/tau), a standard normal number and the sum of the squares of as many as there are other degrees of freedom.
    """
    if not square > 0.0:
        return 1.0
    fresh = (1.0 - keep) * temperature / square
    factor2 = keep + fresh * (first * first + others) + 2.0 * first * np.sqrt(keep * fresh)
    sign = 1.0 if first + np.sqrt(keep / fresh) >= 0.0 else -1.0
    return sign * np.sqrt(factor2)


@compiled
def advance(
    particles: Particles, lattice: Lattice, law: Forces, energy_t: Floats | None, mixing: Mixing | None, start: int, drifted: bool,
    step: float, keep: float, target_k: Floats, first_k: Floats, others_k: Floats, measured_k: NDArray[np.bool_], out_k3: Floats,
) -> int:  # fmt: skip
    """Steps of velocity Verlet with velocity rescaling, from ``start`` on, as many as there are targets.

    ``out`` gets the energy and the trace of the virial of each step that is measured, and sum v^2 of each. Returns the number
    of targets, or of the step in which particles have drifted to where the lists do not hold any more: it goes on, ``drifted``,
    with new ones.
    """
    # The thermostat's factor waits for the next drift, which passes over the velocities anyway.
    factor = 1.0
    for k in range(start, len(target_k)):
        if not (drifted and k == start) and _drift(particles, factor, 0.5 * step, step):
            return k
        if measured_k[k]:
            out_k3[k, 0], out_k3[k, 1] = add_up_forces(particles, lattice, law, energy_t, mixing, True)
        else:
            add_up_forces(particles, lattice, law, energy_t, mixing, None)
        square = _kick(particles.velocities, particles.forces, 0.5 * step)
        factor = rescaling(square, target_k[k], keep, first_k[k], others_k[k])
        out_k3[k, 2] = factor * factor * square
    _scale_velocities(particles.velocities, factor)
    return len(target_k)
