r"""
2. Shear, and one instability followed through the fold
=======================================================

Questions: At which strain does a sheared glass become unstable? What happens to its softest mode before? How well is the instability predicted?

Objectives: shear a glass quasi-statically, locate the saddle-node at which its minimum disappears, follow the mode that vanishes there, let the
glass fall, and look at the rearrangement.
"""

# %%
# A glass to shear, as in tutorial 1.

import numpy as np

import qlm_hoomd as qlm


model = qlm.GlassModel()
engine = qlm.CPUEngine(model.potential)
rng = np.random.default_rng(8)
rapid = qlm.Preparation(quench="rapid", equilibration_time=10)
liquid, _ = qlm.equilibrate(engine, qlm.random_start(model, 500, rng), model, rapid, rng)
glass, _, _ = qlm.quench(engine, liquid, model, rapid, rng)

# %%
# The instability
# ---------------
# Athermal quasi-static shear is an affine strain step and a relaxation, again and again. A
# :class:`~qlm_quasistatic.Stepper` makes such steps; a detector drives it. :class:`~qlm_rewind.FoldDetector` follows the elastic branch to the
# point where the minimum meets a saddle, the *fold*, and finds it by Newton's method on positions, strain and critical mode
# together.

from qlm_quasistatic import Stepper
from qlm_quasistatic.strains import StrainGrid
from qlm_rewind import FoldDetector

stepper = Stepper(engine)
start = stepper.start(glass)
steps, fold = FoldDetector().locate_next(stepper, start, StrainGrid(increment=1e-4, largest=0.2))
assert fold is not None
print(f"{len(steps)} elastic steps, then a fold at strain {fold.strain_c:.10f}, error about {fold.error:.0e}")
print(
    f"there: max|F| = {fold.observables.max_force:.1e}, lambda_min = {fold.eigenvalue:.1e}, kappa = {fold.kappa:.2f}, C = {fold.coupling:.2f}"
)

# %%
# The soft mode on the way
# ------------------------
# Close to a fold only one mode matters, and its curvature follows :math:`\lambda^2 = 2\kappa C(\gamma_c - \gamma)`. Strains that are asked for as *stops* are
# hit exactly; here they lie at ever smaller distances before the fold.

from matplotlib import pyplot as plt

from qlm_quasistatic import ShearStep

distances = np.geomspace(0.9 * fold.strain_c, 1e-6, 14)
stops = tuple(float(strain) for strain in fold.strain_c - distances)
grid = StrainGrid(1e-4, stops[-1], stops)
states = [
    step.after
    for step in FoldDetector().follow(stepper, start, grid)
    if isinstance(step, ShearStep) and step.after.strain in stops
]

curvature, overlap, predicted = [], [], {"cubic": [], "relaxed": []}
for state in states:
    hessian = qlm.Hessian(model.potential, order=4).compute(state.glass)
    softest = qlm.LowestModes(k=6).compute(hessian)
    curvature.append(softest.eigenvalues[0])
    overlap.append(abs(np.vdot(softest.vectors[0], fold.mode)))
    anharmonic = qlm.AnharmonicModes().compute(hessian, softest.vectors)
    for estimate, values in predicted.items():
        values.append(anharmonic.nearest_strain(1, estimate))

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
left.loglog(distances, curvature, "o", label="softest mode")
left.loglog(
    distances, np.sqrt(2 * fold.kappa * fold.coupling * distances), "k-", lw=1, label=r"$[2\kappa C(\gamma_c-\gamma)]^{1/2}$"
)
left.set(xlabel=r"$\gamma_c-\gamma$", ylabel=r"$\lambda_{\min}$")
left.legend(frameon=False)
for estimate, marker in (("cubic", "s"), ("relaxed", "o")):
    right.loglog(distances, np.array(predicted[estimate]) / distances, marker, fillstyle="none", label=estimate)
right.axhline(1, color="k", lw=1)
right.set(xlabel=r"$\gamma_c-\gamma$", ylabel="predicted / true distance")
right.legend(frameon=False)
for distance, value in list(zip(distances, overlap, strict=True))[::3]:
    print(f"{distance:.0e} before the fold: overlap of the softest mode with the critical one {value:.3f}")

# %%
# Far from the fold the softest mode is another one: several soft modes mix, and the prediction from one state is a matter of luck. Close to
# it the square root holds over decades, and both predictions become exact.
#
# The fall, and on
# ----------------
# ``follow`` goes on: the glass falls along its overdamped path into another minimum, and is sheared from there.

from qlm_quasistatic import Instability
from qlm_quasistatic.detector import event_row

curve, events = [(0.0, start.observables.stress_xy)], []
for item in FoldDetector().follow(stepper, start, StrainGrid(1e-4, 0.06)):
    if isinstance(item, Instability):
        events.append(item)
    else:
        curve.append((item.after.strain, item.after.observables.stress_xy))

figure, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
ax.plot(*np.array(curve).T, lw=1)
for event in events:
    ax.axvline(event.strain_c, color="0.85", zorder=0)
ax.set(xlabel=r"strain $\gamma$", ylabel=r"stress $\Sigma$")
last = 0.0
for event in events:
    row = event_row(event, last, None)
    print(
        f"strain {event.strain_c:.6f}: gamma_min {row['gamma_min']:.2e}, stress drop {row['stress_drop']:.4f}, largest jump {row['max_jump']:.2f}, "
        f"N e = {row['participation_ratio'] * glass.n_particles:.0f}"
    )
    last = event.strain_c

# %%
# What moved
# ----------
# The displacement field of the first event, drawn as a mode is drawn, beside the critical mode at its fold. Each is seen along the axis in which it moves least. The event begins along the mode and ends
# elsewhere.

from qlm_hoomd.modes import participation_ratio

field = events[0].displacement / np.linalg.norm(events[0].displacement)
fields = np.stack([fold.mode, field])
view = qlm.ModeView(
    fold.glass.positions, model.potential.diameters()[glass.typeid], glass.typeid, fold.glass.box,
    fields, np.zeros(2), participation_ratio(fields), f"first event, at strain {fold.strain_c:.4f}",
)  # fmt: skip
figure, axes = plt.subplots(1, 2, figsize=(12, 6.4), layout="constrained")
for index, (ax, name) in enumerate(zip(axes, ("critical mode", "displacement of the event"), strict=True)):
    view.plot(index, ax)
    ax.set_title(name, loc="left")
print(f"overlap of the event with its critical mode: {abs(np.vdot(field, fold.mode)):.2f}")

# %%
# Summary
# -------
# In a protocol this is the stage ``shear`` with ``detector: fold``; ``events.parquet`` has a row for every instability. ``detector: threshold`` is the paper's own procedure,
# which brackets an instability instead of locating it, and does not see small ones: see :doc:`/paper`.
