"""SLURM's and row's commands as shell scripts, for what no cluster at hand has; potentials without a compiled law."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import pytest

from qlm_hoomd.potentials import InversePowerLaw, PairPotential


class WithoutLaw(InversePowerLaw):
    """A potential of which nothing is known but its derivatives."""

    kind: Literal["without_law"] = "without_law"  # type: ignore[assignment]  # a kind of its own

    def scaled_law(self) -> None:
        return None


def without_law(potential: PairPotential) -> WithoutLaw:
    """The inverse power law with these parameters, by its derivatives alone."""
    return WithoutLaw(**potential.model_dump(exclude={"kind"}))


def fake_slurm(folder: Path, monkeypatch: pytest.MonkeyPatch, **commands: str) -> None:
    """Put shell scripts in the place of commands: SLURM's, which take everything and know of nothing, and ``commands``."""
    folder.mkdir(exist_ok=True)
    for name, text in {"sbatch": "echo 77", "squeue": "true", "scontrol": "echo MaxArraySize = 1001", **commands}.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
