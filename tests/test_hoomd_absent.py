"""Without HOOMD-blue everything but its engine works, and the engine says what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from qlm_hoomd.engines.hoomd import HOOMDEngineSettings
from qlm_hoomd.errors import InputError
from qlm_hoomd.model import GlassModel

PROTOCOL = """
name: absent
seed: 1
engine: hoomd
ensemble: {n_particles: [200], preparations: [rapid], realisations: 1}
stages: [{kind: prepare}]
"""


def test_the_engine_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hoomd", None)
    with pytest.raises(InputError, match=r"conda-forge.*engine: cpu"):
        HOOMDEngineSettings().build(GlassModel())


def test_the_command_line_says_so(tmp_path: Path) -> None:
    # A module of that name which cannot be imported, as in an environment without HOOMD-blue.
    (tmp_path / "hoomd.py").write_text("raise ImportError('no HOOMD-blue in this test')\n")
    protocol = tmp_path / "absent.yaml"
    protocol.write_text(PROTOCOL)
    result = subprocess.run(
        [sys.executable, "-c", "from qlm_hoomd.cli import main; main()", "run", str(protocol), "--out", str(tmp_path / "out")],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert "conda-forge" in result.stderr
    assert "engine: cpu" in result.stderr
    assert "Traceback" not in result.stderr
