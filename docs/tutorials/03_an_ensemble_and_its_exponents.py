r"""
3. An ensemble and its exponents
================================

Questions: How do :math:`\theta` and :math:`\alpha` come from minima that fall with system size? How many glasses does that take? What does the tool say when there are too
few?

Objectives: write a protocol, run it from the command line, read its tables, compute exponents from them, and see a refusal.
"""

# %%
# The protocol
# ------------
# One file says which glasses are made and what is done with each. These are tiny and few; the paper has 1000 glasses of up to 16000 particles (and 5000 of
# 32000). Every key is explained in :doc:`/reference/protocol`; ``protocols/quickstart.yaml`` is a file to copy.

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

PROTOCOL = """\
name: first
seed: 1
ensemble:
  n_particles: [100, 160, 300]
  preparations:
    rapid: {quench: rapid, equilibration_time: 4}
  realisations: 8
stages:
  - kind: prepare
  - kind: shear
    strain_max: 0.001
    to_next_event: true            # on to the first instability: theta needs the distance to it, uncut
    detector: {kind: fold, overlaps: []}
  - kind: modes
    count: 4
"""

temporary = TemporaryDirectory()
folder = Path(temporary.name)
(folder / "first.yaml").write_text(PROTOCOL)


def qlm(*arguments: str) -> None:
    """What one types into a terminal, in ``folder``."""
    done = subprocess.run(["qlm", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    print(f"$ qlm {' '.join(arguments)}\n{done.stdout}")


# %%
# Run it. Stopping it, killing it and running it again costs nothing but the stages that were at work.

qlm("run", "first.yaml")

# %%
# The protocol may ask for more at any time: more realisations, sizes or preparations. What exists stays.

qlm("status", "runs/first")

# %%
# What lies on disk
# -----------------
# Each realisation is a folder of plain files. ``runs/first/results/`` has the tables of all, ``exponents.json``, the figures and
# ``report.html``.

one = next((folder / "runs/first/workspace").iterdir())
print(sorted(path.name for path in one.iterdir()))
print(sorted(path.name for path in (folder / "runs/first/results").iterdir()))

# %%
# From tables to an exponent
# --------------------------
# The report does the following by itself; done by hand it shows what is behind a number. ``gamma_min`` of the first event is the strain from the quenched
# glass to its first instability.

import json

import polars as pl

import qlm_hoomd as qlm

rows = []
for path in (folder / "runs/first/workspace").iterdir():
    state = json.loads((path / "signac_statepoint.json").read_text())
    first_event = pl.read_parquet(path / "events.parquet")["gamma_min"][0]
    softest = pl.read_parquet(path / "modes.parquet")["frequency"][0]
    rows.append({"n_particles": state["n_particles"], "gamma_min": first_event, "omega_min": softest})
minima = pl.DataFrame(rows)
print(minima.group_by("n_particles").mean().sort("n_particles"))

# %%
# :math:`\langle\gamma_{\min}\rangle \sim N^{-1/(1+\theta)}` and :math:`\langle\omega_{\min}\rangle \sim N^{-1/(1+\alpha)}`. Realisations are resampled for the interval, not points of a
# fit.

gamma_min = {size: group["gamma_min"].to_numpy() for (size,), group in minima.group_by("n_particles")}
omega_min = {size: group["omega_min"].to_numpy() for (size,), group in minima.group_by("n_particles")}
for measure, samples in ((qlm.theta_from_gamma_min, gamma_min), (qlm.alpha_from_omega_min, omega_min)):
    try:
        found = measure(samples)
    except qlm.InsufficientStatistics as refusal:
        print(f"refused: {refusal}\n")
        found = refusal.estimate
    exponent = found.exponent
    print(f"{measure.__name__}: {exponent.value:.2f}, 95 % interval {exponent.low:.2f} to {exponent.high:.2f}\n")

# %%
# Intervals this wide say nothing about the theory, and the refusal says so. The estimate travels with it, for those who want to see it anyway. What would be
# enough depends on the exponent: to know :math:`\theta` to 0.1 takes several hundred glasses of each of four sizes.

from matplotlib import pyplot as plt

try:
    scaling = qlm.theta_from_gamma_min(gamma_min)
except qlm.InsufficientStatistics as refusal:
    scaling = refusal.estimate
figure, ax = plt.subplots(figsize=(5.5, 3.8), layout="constrained")
_ = scaling.plot(ax)

# %%
# The theory's prediction, with the error carried over:

print(qlm.predicted_alpha(scaling.exponent))
temporary.cleanup()

# %%
# Summary
# -------
# To make this a measurement: larger systems, four sizes, hundreds of glasses, two preparations. ``protocols/paper_rapid_small.yaml`` and ``paper_slow_small.yaml`` are the
# paper's ensembles in a size of hours. What can still differ from the paper is said in :doc:`/paper`.
