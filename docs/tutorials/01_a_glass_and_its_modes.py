r"""
1. A glass and its modes
========================

Questions: How is a glass made? Is it one? Which of its vibrations are quasi-localised?

Objectives: prepare a glass of the paper's model, measure its elasticity, find its softest modes, look at one, and read its energy
to fourth order.
"""

# %%
# The model
# ---------
# :class:`~qlm_hoomd.model.GlassModel` is the binary mixture of the paper. Each parameter knows where it comes from; those that stand in no text at hand
# say so. Units: the energy scale, the length of the small-small interaction, the mass and Boltzmann's constant are 1.

import qlm_hoomd as qlm
from qlm_hoomd.model import PARAMETERS

model = qlm.GlassModel()
for name, parameter in PARAMETERS.items():
    print(f"{name:15} {parameter.value!s:28} {parameter.source}")

# %%
# A rapid quench
# --------------
# A random start becomes a liquid in equilibrium at ``T0``, and the liquid falls along its overdamped path into a minimum: the paper's rapid quench.
# ``Preparation(quench="slow")`` cools at a finite rate first. All randomness comes from ``rng``.

import numpy as np

engine = qlm.CPUEngine(model.potential)
rng = np.random.default_rng(1)
rapid = qlm.Preparation(quench="rapid", equilibration_time=10)  # the default, 50, is on the safe side
liquid, dynamics = qlm.equilibrate(engine, qlm.random_start(model, 500, rng), model, rapid, rng)
glass, _, report = qlm.quench(engine, liquid, model, rapid, rng)
print(f"liquid: T = {dynamics.temperature:.2f}, U/N = {dynamics.energy:.3f}")
print(f"glass: {report.criterion} after {report.force_evaluations} force evaluations, max|F| = {report.max_force:.1e}")
print(engine.measure(glass))

# %%
# ``glass`` is a value: it cannot be changed, so keeping it is a checkpoint. Is it a glass at all? Local order says whether a sample crystallised or
# demixed.

order = qlm.LocalOrder().compute(glass)
print(f"a glass: {order.is_glass}; crystalline particles: {order.crystal_fraction:.1%}")

# %%
# Elasticity and modes
# --------------------
# The Hessian is the matrix of second derivatives of the energy. One object carries the derivatives to the order that is asked for; moduli, modes and
# anharmonic coefficients are computed from it.

hessian = qlm.Hessian(model.potential, order=4).compute(glass)
moduli = qlm.elastic_moduli(hessian.bonds)
print(
    f"shear modulus {moduli.shear_modulus_mean:.2f}, of it affine {moduli.born_shear_modulus:.2f}; bulk {moduli.bulk_modulus:.1f}"
)

modes = qlm.LowestModes(k=60, check_completeness=True).compute(hessian)
print(f"{modes.solver_used}, completeness: {modes.completeness}, largest residual {modes.residuals.max():.1e}")

# %%
# A mode in which all particles move alike has a participation ratio near 2/3 or 1, one in which a single particle moves has 1/N. The vertical line
# is the frequency of the first phonons that fit into the box, from the modulus just measured. Below it no plane wave exists, and what
# is there is quasi-localised. In so small a box that leaves one or two modes.

sound = qlm.statistics.phonons(moduli.shear_modulus_mean, moduli.bulk_modulus, model.density, glass.n_particles)
first_band = sound.bands(3.0)[0].frequency
ax = modes.plot()
ax.axvline(first_band, color="0.6", lw=1)
ax.set_ylim(1 / glass.n_particles, 1)
print(
    f"softest: omega = {modes.frequencies[0]:.3f}, N e = {modes.participation_ratios[0] * glass.n_particles:.0f}; "
    f"first phonons at {first_band:.2f}"
)

# %%
# A picture
# ---------
# The layer of particles around the middle of the softest mode. Arrows are displacements, anywhere in the box; the particles that move most are the
# core. ``write_html`` makes a page in which the mode can be turned.

view = qlm.ModeView(
    glass.positions, model.potential.diameters()[glass.typeid], glass.typeid, glass.box,
    modes.vectors, modes.frequencies, modes.participation_ratios, f"rapid quench, N = {glass.n_particles}",
)  # fmt: skip
_ = view.plot(0)

# %%
# Beyond the harmonic mode
# ------------------------
# Along a mode the energy is :math:`\lambda s^2/2 + \kappa s^3/6 + \chi s^4/24 + C s \gamma`, where :math:`\gamma` is the shear strain. From these four numbers
# follows the strain at which the mode becomes unstable. ``relaxed`` lets the rest of the glass follow; only that one is of use at a
# distance.

anharmonic = qlm.AnharmonicModes().compute(hessian, modes.vectors[:10])
for mode, row in enumerate(anharmonic.table.head(3).iter_rows(named=True)):
    print(
        f"mode {mode}: lambda = {row['curvature']:.3f}, kappa = {row['kappa']:.2f}, chi = {row['chi']:.1f}, C = {row['shear_coupling']:.1f}"
    )
print(f"next instability under forward shear, predicted: {anharmonic.nearest_strain():.4f}")

# %%
# Tutorial 2 shears a glass and checks such a prediction.
#
# To disk and back
# ----------------
# GSD files hold positions in double precision beside the single precision that viewers read, because a minimum rounded to single precision
# has forces of 1e-4.

from pathlib import Path
from tempfile import TemporaryDirectory


with TemporaryDirectory() as folder:
    file = Path(folder) / "glass.gsd"
    qlm.write_glasses(file, [(glass, engine.measure(glass))], {"example": "tutorial 1"})
    read = qlm.read_glass(file).glass
print("read back to the last bit:", np.array_equal(read.positions, glass.positions))

# %%
# Summary
# -------
# A protocol does the same for a whole ensemble (tutorial 3), and ``qlm modes FILE.gsd`` for any file. For spectra use
# larger glasses: the first phonons stand at a frequency that falls as :math:`N^{-1/3}`, the number of modes below grows.
