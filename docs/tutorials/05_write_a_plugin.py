r"""
5. Write a plugin
=================

Questions: How does another potential, a detector or a stage get into protocols, and its results into the report? How do I know that it does what is
expected of it?

Objectives: write one of each, register them, check them, run the conformance suites on them, and use them in a protocol.
"""

# %%
# Three classes and a function
# ----------------------------
# A plugin is a class in any installed distribution. Its settings are the fields of a pydantic model with a literal ``kind``, the name in protocols; each field
# has a description, which ``qlm schema`` shows. This is the whole module:
#
# .. literalinclude:: ../../tutorials/my_plugins.py
#    :language: python
#    :lines: 9-
#
# The potential gives derivatives with respect to :math:`w = r^2`, to fourth order: forces, Hessian, :math:`\kappa` and :math:`\chi` of a mode all follow from them. The detector
# drives the stepper and says which steps stand; ``cannot_see`` tells the report which events escape it. The stage reads products of other stages and writes its
# own, and is done when they are there. A product that ends in ``.parquet`` is a table: ``results/contacts.parquet`` has those of all realisations together, after columns that
# say whose row it is, and ``qlm export`` packs it. A section of the report is a function of the results, where that table is ``results.tables["contacts"]``.
#
# Register them
# -------------
# In the distribution's ``pyproject.toml``:
#
# .. code-block:: toml
#
#    [project.entry-points."qlm_hoomd.potentials"]
#    smooth_sphere = "my_plugins:SmoothSphere"
#
#    [project.entry-points."qlm_hoomd.detectors"]
#    stress_drop = "my_plugins:StressDropDetector"
#
#    [project.entry-points."qlm_hoomd.stages"]
#    contacts = "my_plugins:ContactsStage"
#
#    [project.entry-points."qlm_hoomd.report_sections"]
#    contacts = "my_plugins:contacts"
#
# ``pip install -e .`` makes them known; the folders in ``plugins/`` are such distributions. So that this script can run anywhere, it makes a distribution in a
# temporary folder instead, which is what an installed one is to the registry.

import os
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

temporary = TemporaryDirectory()
folder = Path(temporary.name)
(folder / "site").mkdir()
shutil.copy(find_spec("my_plugins").origin, folder / "site")
entry_points = {
    "qlm_hoomd.potentials": {"smooth_sphere": "my_plugins:SmoothSphere"},
    "qlm_hoomd.detectors": {"stress_drop": "my_plugins:StressDropDetector"},
    "qlm_hoomd.stages": {"contacts": "my_plugins:ContactsStage"},
    "qlm_hoomd.report_sections": {"contacts": "my_plugins:contacts"},
}

# %%
# Test them
# ---------
# Whether a potential is right, one line tells, registered or not: it compares derivatives, forces, stress, Hessian and what lies beyond with finite differences, and ends in
# an error that says what is wrong.

from my_plugins import SmoothSphere, StressDropDetector

from qlm_hoomd.testing import check_potential

check = check_potential(SmoothSphere(sigma=((1.2, 1.4), (1.4, 1.7))), closest=0.7)  # as far as particles come together
print(check)
print({name: f"{error:.0e}" for name, error in check.errors.items()})

# %%
# ``qlm_hoomd.testing`` has a suite for each group: derivatives against numerical ones, products that come out in the same bytes again, settings that survive JSON.
# In a test file it is three lines for each class, and pytest finds the methods.

from qlm_hoomd.testing import DetectorConformance, PotentialConformance, ReportSectionConformance, StageConformance
from qlm_hoomd.testing.tiny import installed

PROTOCOL = {
    "name": "mine",
    "seed": 1,
    "model": {"potential": {"kind": "smooth_sphere", "epsilon": 100.0, "sigma": [[1.2, 1.4], [1.4, 1.7]]}},
    "ensemble": {
        "n_particles": [100],
        "preparations": {"rapid": {"quench": "rapid", "equilibration_time": 1}},
        "realisations": 1,
    },
    "stages": [{"kind": "prepare"}, {"kind": "contacts"}],
}


class TestSmoothSphere(PotentialConformance):
    """The potential."""

    potential = SmoothSphere(sigma=((1.2, 1.4), (1.4, 1.7)))
    closest = 0.7


class TestStressDrop(DetectorConformance):
    """The detector."""

    detector = StressDropDetector()


class TestContacts(StageConformance):
    """The stage."""

    protocol = PROTOCOL


class TestContactsSection(ReportSectionConformance):
    """The section of the report."""

    name = "contacts"
    stages = PROTOCOL["stages"]


with installed(folder / "site", entry_points, name="my_plugins"):
    for suite in (TestSmoothSphere(), TestStressDrop(), TestContacts(), TestContactsSection()):
        tests = [name for name in dir(suite) if name.startswith("test_")]
        for name in tests:
            getattr(suite, name)()
        print(f"{type(suite).__name__}: {len(tests)} tests passed")

# %%
# And to look at: energy and force between two small particles, beside the paper's potential.

import numpy as np
from matplotlib import pyplot as plt

from qlm_hoomd.model import GlassModel

r = np.linspace(0.85, 1.6, 300)
figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
for potential, name in ((TestSmoothSphere.potential, "smooth sphere"), (GlassModel().potential, "the paper's")):
    energy, slope = potential.derivatives(r**2, np.zeros(r.size, dtype=np.uint8), 1)  # phi, d phi / d(r^2)
    for ax, values in zip(axes, (energy, -2 * r * slope), strict=True):
        ax.semilogy(r, np.where(values > 0, values, np.nan), label=name)
axes[0].set(xlabel="distance $r$", ylabel=r"energy $\varphi$", ylim=(1e-6, 20))
axes[1].set(xlabel="distance $r$", ylabel=r"force $-d\varphi/dr$", ylim=(1e-5, 200))
_ = axes[0].legend(frameon=False)

# %%
# Use them
# --------
# As any other; ``qlm plugins`` lists them with the distribution that they are from, and a wrong setting is an error that names its line.

(folder / "mine.yaml").write_text("""\
name: mine
seed: 1
model:
  potential: {kind: smooth_sphere, epsilon: 100, sigma: [[1.2, 1.4], [1.4, 1.7]]}
ensemble:
  n_particles: [100]
  preparations: {rapid: {quench: rapid, equilibration_time: 1}}
  realisations: 2
stages:
  - kind: prepare
  - kind: contacts
  - kind: shear
    strain_max: 0.05
    increment: 1.0e-3
    detector: {kind: stress_drop, smallest: 1.0e-3}
""")
environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(folder / "site"), os.environ.get("PYTHONPATH", "")))}
for command in (["plugins"], ["run", "mine.yaml", "--workers", "1"]):
    done = subprocess.run(["qlm", *command], cwd=folder, env=environment, capture_output=True, text=True, check=True)
    shown = [
        line for line in done.stdout.splitlines() if command[0] != "plugins" or "my_plugins" in line or line.startswith("group")
    ]
    print(f"$ qlm {' '.join(command)}", *shown, sep="\n", end="\n\n")

import polars as pl

results = folder / "runs/mine/results"  # where report.html is, too
print(pl.read_parquet(results / "contacts.parquet").group_by("realisation").agg(pl.col("contacts").mean()).sort("realisation"))
print(pl.read_parquet(results / "events.parquet").group_by("realisation").len("stress drops").sort("realisation"))
temporary.cleanup()

# %%
# Summary
# -------
# Engines and executors are plugins too: :doc:`/architecture`. A plugin that cannot be loaded is reported with the name of its distribution, and takes
# nothing down.
