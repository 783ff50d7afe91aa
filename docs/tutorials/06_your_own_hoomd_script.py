r"""
6. Your own HOOMD script
========================

Questions: How does a glass in a ``hoomd.Simulation`` of one's own get sheared quasi-statically? How do its minima reach disk without losing digits?

Objectives: put the paper's pair force into a simulation, drive it through strain with an instability detector, log every accepted state, and
diagonalise the Hessian of a frame of that file.

Needs HOOMD-blue 4.8.2 or newer (conda-forge); the other tutorials do not.
"""

# %%
# A glass
# -------
# The embedded engine makes one in a second; ``HOOMDEngineSettings().build(model)`` makes one with HOOMD-blue.

import gsd.hoomd
import hoomd
import numpy as np
import qlm_quasistatic.hoomd
from qlm_rewind import FoldDetector

import qlm_hoomd as qlm
from qlm_hoomd.engines.hoomd import snapshot_of

model, rng = qlm.GlassModel(), np.random.default_rng(1)
engine = qlm.CPUEngine(model.potential)
start = qlm.random_start(model, 200, rng)
liquid, _ = engine.run(start, duration=5.0, temperature=1.0, rng=rng)
glass, report = engine.descend(liquid)
print(f"{report.criterion}, max|F| = {report.max_force:.1e}")

# %%
# The simulation
# --------------
# One object drives the forces here and the Hessian below. ``repr`` says how the force is computed: compiled, as an exact sum of Mie potentials, or from a
# table.

simulation = hoomd.Simulation(device=hoomd.device.auto_select(), seed=1)
simulation.create_state_from_snapshot(snapshot_of(glass))
simulation.operations.tuners.clear()
ipl = qlm.pair.InversePowerLaw(nlist=hoomd.md.nlist.Cell(buffer=0.12), n=10, smooth=3, default_x_cut=1.48)
for types, sigma in {("A", "A"): 1.0, ("A", "B"): 1.18, ("B", "B"): 1.4}.items():
    ipl.params[types] = {"epsilon": 1.0, "sigma": sigma}
print(ipl)

# %%
# Shear
# -----
# The driver stands outside the run loop, because it calls ``run`` itself. ``on_accept`` is a trigger that fires once for each state that stands; steps that
# the detector takes back are not seen by it. Log ``position`` and ``box``: they are float64, which HOOMD-blue's own chunks are not before version 7.

shear = qlm_quasistatic.hoomd.AthermalQuasistatic(simulation, forces=[ipl], increment=1e-3, detector=FoldDetector())
logger = hoomd.logging.Logger(categories=["scalar", "sequence", "particle"])
logger.add(shear, quantities=["strain", "stress_xy", "energy", "q", "position", "box"])
writer = hoomd.write.GSD(trigger=shear.on_accept, filename="aqs.gsd", mode="wb", logger=logger)
simulation.operations.writers.append(writer)
shear.run(strain=0.06)
writer.flush()
print(shear.events.select("strain_c", "gamma_min", "stress_drop", "max_jump", "detector"))

# %%
# What the file holds
# -------------------
# A stress-strain curve, and minima exact enough for a Hessian.

log = gsd.hoomd.read_log("aqs.gsd", scalar_only=True)
largest = int(np.argmax(log["log/qlm/stress_xy"]))
frame = qlm.read_glass("aqs.gsd", largest)
lowest = qlm.LowestModes(k=5).compute(qlm.Hessian(ipl.potential).compute(frame.glass))
print(f"strain {frame.glass.strain:.6f}: stress {frame.log['stress_xy']:.4f}, eigenvalues {lowest.eigenvalues}")

# %%
from matplotlib import pyplot as plt

figure, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
ax.plot(log["log/qlm/strain"], log["log/qlm/stress_xy"], ".-", lw=1, ms=4)
ax.set(xlabel=r"strain $\gamma$", ylabel=r"stress $\Sigma$")

# %%
# Summary
# -------
# ``qlm modes aqs.gsd --frames 10:20`` reads the same file. Shear at a finite rate, checkpoints and what happens after an interrupt: :doc:`/hoomd` and the README of
# ``plugins/quasistatic``.
