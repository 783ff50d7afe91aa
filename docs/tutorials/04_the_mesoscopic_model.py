r"""
4. The mesoscopic model
=======================

Questions: What does the theory say, and where does :math:`\alpha = \min(4, 3 + 4\theta)` come from? How far from that limit is a spectrum that can be
measured?

Objectives: follow one block through its instability, find :math:`\theta` of the mean field without sampling, sample blocks that are modes, and compare
their spectrum with the theory's.

Needs ``qlm_mesoscopic`` and numpy alone; matplotlib for the figures.
"""

# %%
# One block
# ---------
# A block stands for its softest mode, with the energy :math:`\lambda s^2/2 + \kappa s^3/6 + s^4/24 - s\,\delta\sigma`. Stress moves :math:`(\lambda, \kappa)` along a parabola on which
# :math:`\Phi = \kappa^2 - 2\lambda` does not change. Where :math:`\Phi > 0` the parabola reaches :math:`\lambda = 0`: the block is a shear transformation. Where :math:`\Phi < 0` it
# never does: the mode is passive. This is figure 1 of the paper, drawn by the program:

from qlm_mesoscopic import block, plots

figure = plots.flow()

# %%
# Finite stress increments are done in closed form, because the differential equations are singular at the instability. :math:`x` is the stress that is
# missing to it.

phi = 0.25
for x in (0.05, 0.01, 0.001, 0.0):
    sigma = block.limit(phi) - x
    kappa = block.kappa(sigma, phi, -1)
    print(f"x = {x:5.3f}: lambda = {block.curvature(kappa, phi):.4f}, kappa = {kappa:+.4f}")
print(f"it falls by s = {block.jump(phi):.2f} to kappa = {block.kappa(block.limit(phi), phi, +1):+.2f}")

# %%
# Many blocks: the pseudo-gap
# ---------------------------
# Each failure kicks all other blocks, with a broad distribution of kicks. Blocks close to failure are the most likely to be carried over the edge, and the
# density of distances vanishes there, :math:`P(x) \sim x^\theta`. In the mean field with :math:`\mu = 1`, :math:`\theta = \arctan(\pi A/v)/\pi`, where :math:`A` is the strength of the
# noise and :math:`v` the drift that loading imposes. The master equation gives :math:`P(x)` of infinitely many blocks; its slope is fitted here,
# not put in.

from qlm_mesoscopic.master import MasterEquation

for amplitude in (0.1, 0.2, 0.3):
    flow = MasterEquation(amplitude).steady()
    print(f"A = {amplitude}: v = {flow.drift:.3f}, theta = {flow.theta:.3f}, slope of ln P(x) = {flow.fitted_theta():.3f}")

# %%
# After a quench nothing drifts and :math:`\theta = 1/2`. Loading makes it drop and rise again; the drop is deeper for the better annealed start, with its
# smaller spread of stresses.

equation = MasterEquation(0.2)
starts = {"quenched (spread 1)": equation.quench(1.0), "annealed (spread 0.35)": equation.quench(0.35)}
figure = plots.loading({label: equation.load(start, 1.5) for label, start in starts.items()})

# %%
# Blocks that are modes
# ---------------------
# With the whole :math:`(\lambda, \kappa)` of each block the spectrum follows. 3000 blocks are few; protocols/mesoscopic.yaml has 10000, and several systems.

import numpy as np

from qlm_mesoscopic import MeanField, ModeBlocks

system = MeanField(3000, 0.1, blocks=ModeBlocks(), seed=1)
run = system.steady_state(0.5, skip=0.5, every=0.05)
snapshot = run.snapshots[-1]
settled = snapshot.lam_n <= 1.0  # the last moment may be in the middle of an avalanche
theta = float(np.arctan(np.pi * run.noise_over_drift) / np.pi)
figure = plots.joint_density(theta, snapshot.lam_n[settled], snapshot.kappa_n[settled])
print(f"{run.failures} failures, A / v = {run.noise_over_drift:.3f}, theta = {theta:.3f}")

# %%
# The exponent of the spectrum
# ----------------------------
# Below :math:`\theta = 1/4` shear transformations of finite size dominate the soft modes and :math:`\alpha = 3 + 4\theta`; above, passive modes contribute as much and
# :math:`\alpha = 4`. That is the limit :math:`\omega \to 0`. At a frequency that can be measured the same theory gives less, most of all near
# :math:`\theta = 1/4`: a measured :math:`\alpha` of 3.8 is no contradiction to :math:`\theta = 0.3`.

from qlm_mesoscopic import theory

for exponent in (0.1, 0.25, 0.3, 0.5):
    print(
        f"theta = {exponent}: alpha = {float(theory.alpha(exponent)):.2f}, at omega = 0.1 {float(theory.alpha_at(0.1, exponent)):.2f}"
    )
figure = plots.alpha_of_theta()

# %%
# Summary
# -------
# ``qlm run protocols/mesoscopic.yaml`` samples all of this and writes a report. There is also a lattice in two and three dimensions coupled
# by the elastic propagator, :mod:`qlm_mesoscopic.lattice`.
