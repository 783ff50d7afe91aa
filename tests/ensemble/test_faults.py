"""The fault campaign and the fuzzing in small (``make faults`` is the large form), and what they found."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import gsd.fl
import gsd.hoomd
import numpy as np
import polars as pl
import pytest
from signac.job import calc_id

from qlm_hoomd.ensemble.archive import _realisations
from qlm_hoomd.ensemble.claims import Claims, place
from qlm_hoomd.ensemble.integrity import unreadable
from qlm_hoomd.ensemble.realisation import Realisation
from qlm_hoomd.ensemble.workspace import Workspace
from qlm_hoomd.errors import InputError
from qlm_hoomd.files import is_plain_name, read_json, read_table, read_table_metadata
from qlm_hoomd.gsdio import read_glass
from qlm_hoomd.protocol import build_protocol

FAULTS = Path(__file__).parents[1] / "faults"
DEEP = "[" * 100_000


def run_script(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, FAULTS, *arguments], capture_output=True, text=True, check=False, timeout=900, cwd=FAULTS.parents[1]
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked at in /proc")
@pytest.mark.faults
def test_nothing_is_lost_in_a_small_campaign() -> None:
    said = run_script("campaign", "--kills", "20")
    number, lost = map(int, re.findall(r"^faults injected (\d+), lost (\d+)$", said, re.MULTILINE)[0])
    assert number >= 20
    assert lost == 0


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked at in /proc")
@pytest.mark.faults
def test_runs_stopped_and_killed_in_the_liquid_end_in_the_same_bytes() -> None:
    said = run_script("liquid", "--stops", "5")
    hits = {kind: int(number) for number, kind in re.findall(r"^ *(\d+)  (SIG\w+ in \w+)$", said, re.MULTILINE)}
    assert sorted(hits) == [f"SIG{name} in {phase}" for name in ("KILL", "TERM") for phase in ("cooling", "equilibration")]
    assert min(hits.values()) >= 5
    assert said.endswith("lost 0\n")


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")
@pytest.mark.faults
def test_a_few_hundred_inputs_lead_to_nothing_but_messages() -> None:
    said = run_script("fuzz", "--inputs", "300")
    number, failed = map(int, re.findall(r"^inputs (\d+), kinds of input that failed (\d+)$", said, re.MULTILINE)[0])
    assert number >= 280
    assert failed == 0


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    protocol = build_protocol(
        {
            "name": "t",
            "seed": 5,
            "ensemble": {"n_particles": [100], "preparations": ["rapid"], "realisations": 1},
            "stages": [{"kind": "prepare"}],
        }
    )
    return Workspace.create(protocol, tmp_path / "run")


@pytest.mark.parametrize("pid", [-1, 0, "1", True, None, 1.0, 10**30])
def test_claim_with_a_number_that_is_no_process_leads_to_no_signal(tmp_path: Path, pid: Any) -> None:
    """The system takes 0 and less for groups of processes: such a holder was alive, and was sent signals when a run stopped."""
    (tmp_path / "a.1").write_text(json.dumps({"place": place(), "host": "h", "pid": pid}))
    assert Claims(tmp_path).states() == {"a": "void"}
    assert Claims(tmp_path).live() == {}


def test_claim_of_an_absurd_generation_is_superseded_and_released_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.99999999999999999999").write_text(json.dumps({"place": place(), "host": "h", "pid": 2**22 + 1}))
    claim = Claims(tmp_path).take("a")
    assert claim is not None
    claim.release()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "..", "", "a\0b", "x" * 300, "\ud800"])
def test_checksums_of_files_outside_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    """`qlm verify --set-aside` would have renamed them."""
    assert not is_plain_name(name)
    (tmp_path / "checksums.json").write_text(json.dumps({name: {"sha256": "0", "bytes": 1}}))
    with pytest.raises(ValueError, match="not a record of checksums"):
        Realisation(tmp_path, {}).checksums()


def test_json_that_is_nested_too_deeply_is_unreadable_json(tmp_path: Path, workspace: Workspace) -> None:
    (tmp_path / "deep.json").write_text(DEEP)
    with pytest.raises(ValueError, match="nested too deeply"):
        read_json(tmp_path / "deep.json")
    (realisation,) = workspace.realisations
    (stage,) = workspace.protocol.stages
    (realisation.directory / "failed").mkdir()
    (realisation.directory / "failed" / "prepare.json").write_text(DEEP)
    (realisation.directory / "costs.json").write_text(DEEP)
    workspace.claims.directory.mkdir(exist_ok=True)
    (workspace.claims.directory / f"{realisation.id}.1").write_text(DEEP)
    failure = realisation.failure(stage)
    assert failure is not None
    assert "cannot be read" in failure.message
    assert realisation.costs() == {}
    assert workspace.running() == {}
    (realisation.directory / "signac_statepoint.json").write_text(DEEP)
    with pytest.raises(InputError, match="no readable state point"):
        workspace.realisation(realisation.id)
    (workspace.directory / "protocol.json").write_text(DEEP)
    with pytest.raises(InputError, match="no readable protocol"):
        Workspace.open(workspace.directory)


@pytest.mark.parametrize("content", ["[]", "{}", '{"protocol_hash": 1}', '"x"'])
def test_state_point_that_is_not_the_folders_is_refused(workspace: Workspace, content: str) -> None:
    (realisation,) = workspace.realisations
    (realisation.directory / "signac_statepoint.json").write_text(content)
    with pytest.raises(InputError, match="state point of something else"):
        workspace.realisation(realisation.id)


@pytest.mark.parametrize(
    "costs", ["[]", f'{{"prepare": {{"cpu_s": 1{"0" * 400}, "wall_s": 1}}}}', '{"prepare": 1}', '{"prepare": {"cpu_s": NaN, "wall_s": 1}}', '{"prepare": {"cpu_s": 1}}', '{"prepare": {"cpu_s": "a"}}']
)  # fmt: skip
def test_costs_that_are_no_times_are_not_known(workspace: Workspace, costs: str) -> None:
    (realisation,) = workspace.realisations
    (realisation.directory / "costs.json").write_text(costs)
    assert realisation.costs() == {}


def test_record_of_a_failure_with_other_values_than_texts_is_readable(workspace: Workspace) -> None:
    (realisation,) = workspace.realisations
    (realisation.directory / "failed").mkdir()
    (realisation.directory / "failed" / "prepare.json").write_text('{"stage": 1, "error": null, "message": ["x"]}')
    failure = realisation.failure(workspace.protocol.stages[0])
    assert failure is not None
    assert failure.message == "['x']"


def test_box_of_another_shape_than_the_formats_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.gsd"
    with gsd.fl.open(str(path), "w", "qlm", "hoomd", [1, 4]) as file:
        file.write_chunk("configuration/box", np.zeros(1, dtype=np.float32))
        file.write_chunk("particles/N", np.array([1], dtype=np.uint32))
        file.end_frame()
    with pytest.raises(InputError, match="frame -1: cannot be read"):
        read_glass(path)


def test_index_that_reaches_beyond_the_file_does_not_kill_the_process(tmp_path: Path) -> None:
    path = tmp_path / "x.gsd"
    with gsd.fl.open(str(path), "w", "qlm", "hoomd", [1, 4]) as file:
        file.write_chunk("particles/N", np.array([1], dtype=np.uint32))
        file.end_frame()
    content = bytearray(path.read_bytes())
    content[16:24] = (2**62).to_bytes(8, "little")  # index entries: 32 bytes each, which is 0 in 64 bits
    path.write_bytes(content)
    with pytest.raises(InputError, match="index reaches beyond its end"):
        read_glass(path)
    assert "index reaches beyond its end" in str(unreadable(path))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_finished_folder_that_cannot_be_written_to_is_refused(workspace: Workspace) -> None:
    workspace.directory.chmod(0o555)
    try:
        with pytest.raises(InputError, match="cannot be written to"):
            Workspace.create(workspace.protocol, workspace.directory)
    finally:
        workspace.directory.chmod(0o755)


def test_frame_that_claims_more_particles_than_the_file_has_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge.gsd"
    with gsd.hoomd.open(str(path), "w") as trajectory:
        frame = gsd.hoomd.Frame()
        frame.particles.N = 2
        frame.particles.position = [[0, 0, 0], [1, 0, 0]]
        frame.configuration.box = [5, 5, 5, 0, 0, 0]
        trajectory.append(frame)
        trajectory.file.write_chunk("particles/N", np.array([2**31], dtype=np.uint32))
        trajectory.file.end_frame()
    with pytest.raises(InputError, match="particles in a file of"):
        read_glass(path, 1)


def test_panic_of_the_table_reader_is_an_error_like_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def panics(*_: object, **__: object) -> None:
        raise pl.exceptions.PanicException("index out of bounds")

    monkeypatch.setattr(pl, "read_parquet", panics)
    monkeypatch.setattr(pl, "read_parquet_metadata", panics)
    for read in (read_table, read_table_metadata):
        with pytest.raises(pl.exceptions.PolarsError, match="index out of bounds"):
            read(tmp_path / "t.parquet")


def test_nobody_reads_tables_past_the_guard() -> None:
    """A panic of polars is no Exception: it would pass every handler, and end a worker or the report."""
    root = FAULTS.parents[1]
    sources = [path for part in ("qlm_hoomd", "plugins") for path in (root / part).rglob("*.py") if "tests" not in path.parts]
    past = [
        str(path)
        for path in sources
        if re.search(r"pl\.(read_parquet|scan_parquet)", path.read_text(encoding="utf-8"))
        and path.name != "files.py"
        and "testing" not in path.parts
    ]
    assert len(sources) > 60
    assert not past


@pytest.mark.parametrize(
    "changed",
    [{"failed": "x"}, {"failed": []}, {"files": "ab"}, {"files": {"a": 1}}, {"provenance": ["a"]}, {"provenance": None}],
)
def test_archive_whose_entries_have_other_shapes_is_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    statepoint = {"protocol_hash": "h", "preparation": "rapid", "n_particles": 100, "realisation": 0}
    entry = {"id": calc_id(statepoint), "statepoint": statepoint, "files": [], "failed": {}, "provenance": {}}

    def files(entries: list[dict[str, Any]]) -> Path:
        (tmp_path / "realisations.json").write_text(json.dumps(entries))
        (tmp_path / "provenance.json").write_text('{"tables": []}')
        return tmp_path

    assert _realisations(files([entry]), "h") == {entry["id"]: entry}
    with pytest.raises(InputError, match="is not that of the protocol beside it"):
        _realisations(files([entry | changed]), "h")
