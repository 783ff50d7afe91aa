"""SLURM's and row's commands as shell scripts, for what no cluster at hand has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def fake_slurm(folder: Path, monkeypatch: pytest.MonkeyPatch, **commands: str) -> None:
    """Put shell scripts in the place of commands: SLURM's, which take everything and know of nothing, and ``commands``."""
    folder.mkdir(exist_ok=True)
    for name, text in {"sbatch": "echo 77", "squeue": "true", "scontrol": "echo MaxArraySize = 1001", **commands}.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
