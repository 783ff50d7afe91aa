r"""
7. A cluster
============

Questions: How does an ensemble get onto many machines? What happens to what a job could not finish? Is everything there in the end, and whole?

Objectives: see what is handed to a scheduler, do by hand what a job does, add realisations, and prove the files.

Settings of clusters, and what was tried on which: docs/cluster.md.
"""

# %%
# All that several machines have to share is the folder of the run. A realisation is a folder in it, and a stage is done when its products are there. So nobody needs to
# know who did what, and nothing is lost when a job ends early.

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

PROTOCOL = """\
name: big
seed: 1
ensemble:
  n_particles: [100]
  preparations:
    rapid: {quench: rapid, equilibration_time: 1}
  realisations: 4
stages:
  - kind: prepare
  - kind: modes
    count: 3
"""

temporary = TemporaryDirectory()
folder = Path(temporary.name)
(folder / "big.yaml").write_text(PROTOCOL)


def qlm(*arguments: str) -> None:
    """What one types into a terminal, in ``folder``."""
    done = subprocess.run(["qlm", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    print(f"$ qlm {' '.join(arguments)}\n{done.stdout}")


# %%
# With a scheduler
# ----------------
# On a machine with SLURM, ``qlm run big.yaml --executor slurm --slurm partition=short --slurm time=02:00:00`` submits arrays of jobs and returns; the same line again submits
# what is left. For the runner *row* there is an executor that writes its ``workflow.toml``. It needs no scheduler to be shown:

qlm("run", "big.yaml", "--executor", "row")
print((folder / "runs/big/workflow.toml").read_text().replace(f"{Path(sys.executable).parent}/", ""))

# %%
# What a job does
# ---------------
# The command in that file does what is left to do of some realisations. Any number may be at work in one folder: each claims what it works on, and passes over what is
# done or claimed. Stopped by a signal shortly before its time is over it saves its state, and the same command goes on from there.

ids = sorted(path.name for path in (folder / "runs/big/workspace").iterdir())
qlm("work", "runs/big", *ids[:2])
qlm("status", "runs/big")

# %%
# Here, on one machine, ``qlm run`` does the rest, and reports. The protocol asks for one realisation more by now; what is done stays.

(folder / "big.yaml").write_text(PROTOCOL.replace("realisations: 4", "realisations: 5"))
qlm("run", "big.yaml", "--workers", "1")

# %%
# Is it whole?
# ------------
# Every product is recorded with its checksum when it is written. ``verify`` reads all of it again, and names what is damaged or was edited.

qlm("verify", "runs/big")

# %%
# What it took
# ------------
# Each realisation notes the time of its stages, wherever it ran. The wall time that is asked of a scheduler follows from it, and ``qlm plan big.yaml --target-error theta=0.1``
# says how many realisations an exponent takes and how long that is.

import json

from matplotlib import pyplot as plt

costs = [json.loads(path.read_text()) for path in sorted(folder.glob("runs/big/workspace/*/costs.json"))]
figure, ax = plt.subplots(figsize=(6, 3), layout="constrained")
start = [0.0] * len(costs)
for stage in ("prepare", "modes"):
    seconds = [cost[stage]["cpu_s"] for cost in costs]
    ax.barh(range(1, len(costs) + 1), seconds, left=start, label=stage)
    start = [before + more for before, more in zip(start, seconds, strict=True)]
ax.set(xlabel="processor time [s]", ylabel="realisation", yticks=range(1, len(costs) + 1))
_ = ax.legend(frameon=False)

# %%
temporary.cleanup()

# %%
# Summary
# -------
# ``qlm export runs/big`` packs tables, protocol, versions and checksums for publication, and ``qlm import`` reads them back.
