"""The environment that make makes: it sees the interpreter's packages where HOOMD-blue is among them, and only there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def make_environment(tmp_path: Path) -> Callable[..., str]:
    """Makes or follows up an environment in a folder of the test, told whether HOOMD-blue can be imported: what make printed."""

    def make(*, hoomd: bool, python: str = sys._base_executable) -> str:  # type: ignore[attr-defined]
        (tmp_path / "hoomd.py").write_text("" if hoomd else "raise ImportError('no HOOMD-blue in this test')\n")
        target = tmp_path / "environment"
        done = subprocess.run(
            ["make", "-C", str(ROOT), f"VENV={target}", f"PYTHON={python}", f"{target}/pyvenv.cfg"],
            env=os.environ | {"PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout if done.returncode == 0 else done.stderr

    return make


def sees_system_packages(folder: Path) -> bool:
    return "include-system-site-packages = true" in (folder / "environment/pyvenv.cfg").read_text()


def test_environment_follows_hoomd_and_keeps_what_is_installed(make_environment: Callable[..., str], tmp_path: Path) -> None:
    assert "isolated" in make_environment(hoomd=False)
    assert not sees_system_packages(tmp_path)
    (site,) = (tmp_path / "environment/lib").glob("python3*/site-packages")
    assert (site / "pip").is_dir()
    (site / "installed.py").write_text("")
    written = (tmp_path / "environment/pyvenv.cfg").stat().st_mtime_ns

    assert "environment" not in make_environment(hoomd=False)
    # Not newer, so nothing is installed again.
    assert (tmp_path / "environment/pyvenv.cfg").stat().st_mtime_ns == written

    assert "Changing" in make_environment(hoomd=True)
    assert sees_system_packages(tmp_path)
    assert (tmp_path / "environment/pyvenv.cfg").stat().st_mtime_ns > written
    assert (site / "pip").is_dir()
    assert (site / "installed.py").is_file()

    assert "isolated" in make_environment(hoomd=False)
    assert not sees_system_packages(tmp_path)
    assert (site / "installed.py").is_file()


def test_environment_needs_python_3_11(make_environment: Callable[..., str], tmp_path: Path) -> None:
    said = make_environment(hoomd=False, python="no-such-python")
    assert "no-such-python is missing or older than 3.11" in said
    assert not (tmp_path / "environment").exists()
