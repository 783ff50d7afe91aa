"""Shear a glass in a hoomd.Simulation, find its plastic instabilities, and look at the soft modes where the stress is largest."""

import gsd.hoomd
import hoomd
import numpy as np
import qlm_quasistatic.hoomd
from qlm_rewind import ThresholdDetector

from qlm_hoomd import gsdio, hessian, modes, pair, preparation
from qlm_hoomd.engines.cpu import CPUEngineSettings
from qlm_hoomd.engines.hoomd import snapshot_of
from qlm_hoomd.model import GlassModel

# 1. A rapidly quenched glass; HOOMDEngineSettings() makes one as well.
model, rng = GlassModel(), np.random.default_rng(1)
engine = CPUEngineSettings().build(model)
start = preparation.random_start(model, 200, rng)
liquid, _ = engine.run(start, duration=5.0, temperature=1.0, rng=rng)
glass, report = engine.descend(liquid)
print(report)

# 2. A simulation of one's own. One object drives the forces here and the Hessian below.
simulation = hoomd.Simulation(device=hoomd.device.auto_select(), seed=1)
simulation.create_state_from_snapshot(snapshot_of(glass))
simulation.operations.tuners.clear()
ipl = pair.InversePowerLaw(nlist=hoomd.md.nlist.Cell(buffer=0.12), n=10, smooth=3, default_x_cut=1.48)
for types, sigma in {("A", "A"): 1.0, ("A", "B"): 1.18, ("B", "B"): 1.4}.items():
    ipl.params[types] = {"epsilon": 1.0, "sigma": sigma}

# 3. Shear it; every accepted state becomes a frame.
shear = qlm_quasistatic.hoomd.AthermalQuasistatic(simulation, forces=[ipl], increment=1e-3, detector=ThresholdDetector())
logger = hoomd.logging.Logger(categories=["scalar", "sequence", "particle"])
logger.add(shear, quantities=["strain", "stress_xy", "energy", "q", "position", "box"])
writer = hoomd.write.GSD(trigger=shear.on_accept, filename="aqs.gsd", mode="wb", logger=logger)
simulation.operations.writers.append(writer)
shear.run(strain=0.06)
writer.flush()
print(shear.events.select("strain_c", "gamma_min", "stress_drop", "max_jump", "detector"))

# 4. What the file holds: a stress-strain curve, and minima exact enough for a Hessian.
log = gsd.hoomd.read_log("aqs.gsd", scalar_only=True)
largest = int(np.argmax(log["log/qlm/stress_xy"]))
frame = gsdio.read_glass("aqs.gsd", largest)
lowest = modes.LowestModes(k=5).compute(hessian.Hessian(ipl.potential).compute(frame.glass))
print(f"strain {frame.glass.strain:.6f}: stress {frame.log['stress_xy']:.4f}, eigenvalues {lowest.eigenvalues}")
