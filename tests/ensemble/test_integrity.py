"""Storage: checksums, what verify finds, full disks, growth, and archives there and back."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qlm_hoomd.base import provenance as provenance_module
from qlm_hoomd.base.files import storage_problem
from qlm_hoomd.base.provenance import code_fingerprint, machine
from qlm_hoomd.ensemble import archive, integrity, runner
from qlm_hoomd.ensemble.integrity import set_aside, verify
from qlm_hoomd.ensemble.realisation import CHECKSUMS
from qlm_hoomd.ensemble.runner import run_protocol
from qlm_hoomd.ensemble.workspace import Workspace
from qlm_hoomd.errors import InputError, StorageFull
from qlm_hoomd.protocol import Protocol, build_protocol
from qlm_hoomd.stages import StageContext
from qlm_hoomd.testing.tiny import HereExecutor, WalkStage, installed

QLM = Path(sys.executable).with_name("qlm")


@pytest.fixture(autouse=True)
def tiny(tmp_path: Path) -> Any:
    with installed(tmp_path / "site") as folder:
        yield folder


def make_protocol(realisations: int = 2, tally: bool = True, **walk: Any) -> Protocol:
    stages = [{"kind": "walk", **walk}, *([{"kind": "tally"}] if tally else [])]
    return build_protocol(
        {
            "name": "t",
            "seed": 5,
            "ensemble": {"n_particles": [100], "preparations": ["rapid"], "realisations": realisations},
            "stages": stages,
        }
    )


def make_run(folder: Path, **walk: Any) -> Workspace:
    return run_protocol(make_protocol(**walk), folder, HereExecutor())


def states(workspace: Workspace) -> list[str]:
    return [realisation.state(workspace.protocol) for realisation in workspace.realisations]


# ---- checksums ----


def test_every_product_is_recorded_and_an_intact_run_is_proved(tmp_path: Path) -> None:
    workspace = make_run(tmp_path / "run")
    for realisation in workspace.realisations:
        record = json.loads((realisation.directory / CHECKSUMS).read_text())
        assert set(record) == {"walk.parquet", "tally.json"}
        for name, entry in record.items():
            content = (realisation.directory / name).read_bytes()
            assert (entry["sha256"], entry["bytes"]) == (hashlib.sha256(content).hexdigest(), len(content))
        assert record["walk.parquet"]["stage"] == "walk"
    proof = verify(workspace)
    assert not proof.findings
    assert proof.n_files == 4
    assert not proof.edited


def test_what_a_stage_wrote_before_it_failed_is_no_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WalkStage, "products", lambda _: ("walk.parquet", "late.json"))
    workspace = make_run(tmp_path / "run", tally=False)
    assert states(workspace) == ["failed", "failed"]
    folder = workspace.realisations[0].directory
    assert (folder / "walk.parquet").is_file()
    assert not verify(workspace).findings
    (folder / "walk.parquet").write_bytes(b"torn")
    assert [finding.kind for finding in verify(workspace).findings] == ["unreadable"]
    (folder / "late.json").write_text("{}")  # as if the process had died before it could record what it had written
    (folder / "walk.parquet").write_bytes((workspace.realisations[1].directory / "walk.parquet").read_bytes())
    assert [finding.kind for finding in verify(workspace).findings] == ["unrecorded", "unrecorded"]


def damage(kind: str, folder: Path) -> None:
    product = folder / "walk.parquet"
    content = product.read_bytes()
    if kind == "missing":
        product.unlink()
    elif kind == "truncated":
        product.write_bytes(content[: len(content) // 2])
    elif kind == "flipped":
        product.write_bytes(content[:100] + bytes([content[100] ^ 4]) + content[101:])
    elif kind == "foreign file":
        (folder / "notes.txt").write_text("mine")
    elif kind == "foreign folder":
        (folder.parent / "mine").mkdir()
    elif kind == "unreadable checksums":
        (folder / CHECKSUMS).write_text("{")
    elif kind == "no checksums":
        (folder / CHECKSUMS).unlink()
    elif kind == "state point":
        (folder / "signac_statepoint.json").write_text('{"seed": 6}')
    elif kind == "torn state point":
        (folder / "signac_statepoint.json").write_text('{"seed"')
    elif kind == "no folder":
        shutil.rmtree(folder)
    elif kind == "product unrecorded and torn":
        (folder / CHECKSUMS).unlink()
        product.write_bytes(content[:50])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("missing", ["missing walk.parquet"]),
        ("truncated", ["truncated walk.parquet"]),
        ("flipped", ["changed walk.parquet"]),
        ("foreign file", ["foreign notes.txt"]),
        ("foreign folder", ["foreign mine"]),
        ("unreadable checksums", ["unreadable checksums.json", "unrecorded tally.json", "unrecorded walk.parquet"]),
        ("no checksums", ["unrecorded tally.json", "unrecorded walk.parquet"]),
        ("state point", ["changed signac_statepoint.json"]),
        ("torn state point", ["unreadable signac_statepoint.json"]),
        ("no folder", ["missing ID"]),
        ("product unrecorded and torn", ["unreadable walk.parquet", "unrecorded tally.json"]),
    ],
)
def test_what_is_not_as_it_was_written_is_named(tmp_path: Path, kind: str, expected: list[str]) -> None:
    workspace = make_run(tmp_path / "run")
    folder = workspace.realisations[1].directory
    damage(kind, folder)
    findings = verify(workspace).findings
    assert sorted(f"{each.kind} {each.path.name.replace(folder.name, 'ID')}" for each in findings) == expected
    assert all(each.text for each in findings)


def test_damaged_products_are_set_aside_and_made_again(tmp_path: Path) -> None:
    workspace = make_run(tmp_path / "run")
    before = {
        path: path.read_bytes() for path in (tmp_path / "run" / "workspace").glob("*/*.[pj]*") if "costs" not in path.name
    }
    damage("flipped", workspace.realisations[0].directory)
    moved = set_aside(verify(workspace))
    assert moved == [workspace.realisations[0].directory / "walk.parquet.damaged"]
    again = make_run(tmp_path / "run")
    assert not verify(again).findings
    assert {path: path.read_bytes() for path in before} == before


def test_old_runs_without_checksums_are_recorded_by_the_next_run(tmp_path: Path) -> None:
    workspace = make_run(tmp_path / "run")
    for realisation in workspace.realisations:
        (realisation.directory / CHECKSUMS).unlink()
    damage("truncated", workspace.realisations[0].directory)  # torn, and nobody knows: it is made again
    make_run(tmp_path / "run")
    proof = verify(workspace)
    assert not proof.findings
    assert proof.n_files == 4


def test_code_that_was_edited_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make_run(tmp_path / "run", realisations=1)
    assert not caplog.messages
    monkeypatch.setattr(runner, "code_of", lambda _: "0123456789abcdef")
    workspace = make_run(tmp_path / "run", realisations=2)
    (message,) = caplog.messages
    assert "the code was edited since" in message
    proof = verify(workspace)
    assert not proof.findings
    ((_, codes),) = proof.edited.items()
    assert sorted(codes.values()) == [2, 2]


def test_fingerprint_changes_with_code_that_makes_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "lib" / "qlm_some_plugin"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("A = 1\n")
    monkeypatch.syspath_prepend(tmp_path / "lib")
    found = []
    for text in ("A = 1\n", "A = 2\n", "A = 1\n"):
        (package / "__init__.py").write_text(text)
        code_fingerprint.cache_clear()
        found.append(code_fingerprint(("qlm_some_plugin",)))
    assert found[0] == found[2] != found[1]
    assert code_fingerprint(("no_such_package",)) == code_fingerprint()


# ---- what a product was made from ----


def other_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands for other versions of libraries, or another processor: from here on the walk is another one."""
    rng = StageContext.rng
    monkeypatch.setattr(StageContext, "rng", lambda self, stage: rng(self, f"{stage}, otherwise"))


def total_of_walk(folder: Path) -> float:
    return float(pl.read_parquet(folder / "walk.parquet")["position"].sum())


def total(folder: Path) -> float:
    return float(json.loads((folder / "tally.json").read_text())["total"])


def without_inputs(folder: Path) -> None:
    """The record as versions before 0.2 wrote it."""
    record = json.loads((folder / CHECKSUMS).read_text())
    for entry in record.values():
        entry.pop("inputs", None)
    (folder / CHECKSUMS).write_text(json.dumps(record))


@pytest.mark.parametrize("old_record", [False, True])
def test_product_made_anew_makes_what_was_made_from_it_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old_record: bool
) -> None:
    workspace = make_run(tmp_path / "run", realisations=1)
    folder = workspace.realisations[0].directory
    before = total(folder)
    if old_record:
        without_inputs(folder)
    (folder / "walk.parquet").unlink()
    other_numbers(monkeypatch)
    make_run(tmp_path / "run", realisations=1)
    assert total(folder) == pytest.approx(total_of_walk(folder), abs=1e-12)
    assert total(folder) != before
    assert "stage tally is run again: walk.parquet is not the file that it was made from" in (folder / "log.txt").read_text()
    assert not verify(workspace).findings


def test_product_made_anew_with_the_same_bytes_costs_nothing_more(tmp_path: Path) -> None:
    workspace = make_run(tmp_path / "run", realisations=1)
    folder = workspace.realisations[0].directory
    inode = (folder / "tally.json").stat().st_ino
    (folder / "walk.parquet").unlink()
    make_run(tmp_path / "run", realisations=1)
    assert (folder / "tally.json").stat().st_ino == inode
    assert not verify(workspace).findings


def test_what_is_made_from_something_else_is_pending_named_and_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run was killed when it had made the walk anew and not yet come to the tally."""
    workspace = make_run(tmp_path / "run", realisations=1)
    (realisation,) = workspace.realisations
    walk, tally = workspace.protocol.stages
    (realisation.directory / "walk.parquet").unlink()
    other_numbers(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(integrity, "clear", lambda _, stage, __: stage.kind == "walk" or killed())
        with pytest.raises(KeyboardInterrupt):
            make_run(tmp_path / "run", realisations=1)
    assert realisation.stage_states((walk, tally)) == ["done", "pending"]
    assert realisation.has_products(tally)
    (finding,) = verify(workspace).findings
    assert (finding.kind, finding.path.name) == ("outdated", "tally.json")
    assert finding.text.startswith("it was made from another walk.parquet than what is there now")


def killed() -> None:
    raise KeyboardInterrupt


def test_stage_killed_before_its_record_is_not_taken_for_what_was_there_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = make_run(tmp_path / "run", realisations=1)
    folder = workspace.realisations[0].directory
    (folder / "walk.parquet").unlink()
    other_numbers(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(integrity, "record", lambda *_: killed())
        with pytest.raises(KeyboardInterrupt):
            make_run(tmp_path / "run", realisations=1)
    assert (folder / "walk.parquet").is_file()
    make_run(tmp_path / "run", realisations=1)
    assert total(folder) == pytest.approx(total_of_walk(folder), abs=1e-12)
    assert not verify(workspace).findings


def test_file_that_somebody_exchanged_is_read_once_and_named(tmp_path: Path) -> None:
    """verify names it; a run that is made from it is not made again and again."""
    workspace = make_run(tmp_path / "run", realisations=1)
    folder = workspace.realisations[0].directory
    (folder / "tally.json").unlink()
    pl.DataFrame({"position": [1.0, 2.0]}).write_parquet(folder / "walk.parquet")
    for _ in range(2):
        make_run(tmp_path / "run", realisations=1)
        assert total(folder) == 3.0
        assert states(workspace) == ["done"]
    assert [finding.kind for finding in verify(workspace).findings] in (["changed"], ["truncated"])
    set_aside(verify(workspace))
    make_run(tmp_path / "run", realisations=1)
    assert total(folder) == pytest.approx(total_of_walk(folder), abs=1e-12)
    assert not verify(workspace).findings


def test_records_that_do_not_tell_are_accepted_and_said_once(tmp_path: Path) -> None:
    workspace = make_run(tmp_path / "run")
    for realisation in workspace.realisations:
        without_inputs(realisation.directory)
    inodes = {path: path.stat().st_ino for path in (tmp_path / "run").glob("workspace/*/[wt]a*")}
    make_run(tmp_path / "run")
    assert {path: path.stat().st_ino for path in inodes} == inodes
    proof = verify(workspace)
    assert (proof.findings, proof.n_untold) == ([], 2)  # the walk needs nothing


def test_products_carry_processor_and_linear_algebra(tmp_path: Path) -> None:
    workspace = make_run(tmp_path / "run", realisations=1)
    carried = json.loads(pl.read_parquet_metadata(workspace.realisations[0].directory / "walk.parquet")["qlm_hoomd"])
    assert carried["versions"].items() >= machine().items()
    assert "openblas" in carried["versions"]["blas"] or "mkl" in carried["versions"]["blas"]
    code = "from qlm_hoomd.base.provenance import machine; print(machine()['cpu'])"
    said = [
        subprocess.run(
            [sys.executable, "-c", code], env=os.environ | extra, capture_output=True, text=True, check=True
        ).stdout.strip()
        for extra in ({}, {"NUMBA_CPU_NAME": "generic"})
    ]
    assert said == [carried["versions"]["cpu"], "generic"]


def test_state_of_a_stage_is_good_on_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The nodes of a cluster are not all alike, and a job that goes on lands on any of them."""
    protocol = make_protocol(realisations=1)
    (realisation,) = Workspace.create(protocol, tmp_path / "run").realisations
    keys = []
    for cpu in ("zen4", "skylake-avx512"):
        monkeypatch.setattr(provenance_module, "machine", lambda cpu=cpu: {"cpu": cpu, "blas": ""})
        context = runner._context(protocol, realisation, runner._LatestLine(Workspace(tmp_path / "run", protocol), realisation))
        assert context.provenance["versions"]["cpu"] == cpu
        keys.append(runner._key(protocol, protocol.stages[0], context, "code", {}))
    assert keys[0] == keys[1]


def test_report_leaves_out_what_is_not_as_it_was_written_and_names_it(reported: Any, tmp_path: Path) -> None:
    from qlm_hoomd.report import Results, make_report

    shutil.copytree(reported[0], tmp_path / "run")
    victim = min((tmp_path / "run").glob("workspace/*/modes.parquet"))
    pl.read_parquet(victim).with_columns(pl.col("frequency") * 2.0).write_parquet(victim)
    results = Results.load(tmp_path / "run")
    (((_, _, index), (failure,)),) = results.unreadable.items()
    assert (failure.stage, failure.error) == ("modes.parquet", "NotAsWritten")
    assert index not in results.tables["modes"]["realisation"]
    assert index in results.tables["moduli"]["realisation"]
    page = make_report(tmp_path / "run").read_text(encoding="utf-8")
    assert "its bytes are not those that its stage wrote: it is left out of everything" in page


# ---- nothing more can be written ----


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_is_told_from_failures_of_a_realisation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    protocol = make_protocol()
    workspace = Workspace.create(protocol, tmp_path / "run")

    def full(*_: object, **__: object) -> None:
        raise RuntimeError("a library's own words") from OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(pl.DataFrame, "write_parquet", full)
        with pytest.raises(StorageFull, match=f"{os.strerror(code)}. What is finished is kept"):
            run_protocol(protocol, tmp_path / "run", HereExecutor())
    assert states(workspace) == ["pending"] * 2
    assert not workspace.failures()
    assert not workspace.claims.left()
    assert states(run_protocol(protocol, tmp_path / "run", HereExecutor())) == ["done"] * 2
    assert not verify(workspace).findings


def test_stage_whose_checksums_found_no_room_is_recorded_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its claim was given back in good order, so nothing else tells that there is something left to do."""
    record = integrity.record

    def full(realisation: Any, stage: Any, *rest: Any) -> None:
        if stage.kind == "tally":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        record(realisation, stage, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(integrity, "record", full)
        with pytest.raises(StorageFull):
            make_run(tmp_path / "run", realisations=1)
    workspace = Workspace.open(tmp_path / "run")
    assert states(workspace) == ["done"]
    assert not workspace.claims.left()
    assert [finding.kind for finding in verify(workspace).findings] == ["unrecorded"]
    (realisation,) = workspace.realisations
    inode = (realisation.directory / "tally.json").stat().st_ino
    make_run(tmp_path / "run", realisations=1)
    assert not verify(workspace).findings
    assert (realisation.directory / "tally.json").stat().st_ino == inode


def test_process_that_died_when_all_was_done_leaves_nothing_to_do(tmp_path: Path) -> None:
    workspace = make_run(tmp_path / "run", realisations=1)
    (realisation,) = workspace.realisations
    walk, tally = workspace.protocol.stages
    known = json.loads((realisation.directory / CHECKSUMS).read_text())
    del known["tally.json"]
    (realisation.directory / CHECKSUMS).write_text(json.dumps(known))
    realisation.record_failure(tally, runner.Failure("tally", "ProcessDied", "the first time"))
    realisation.checkpoint(walk).write_bytes(b"")
    assert runner.record_death(tmp_path / "run", realisation.id, "the second time").failure is None
    assert not verify(workspace).findings
    assert not (realisation.directory / "failed").exists()
    assert not realisation.checkpoint(walk).exists()
    (realisation.directory / "tally.json").unlink()
    failure = runner.record_death(tmp_path / "run", realisation.id, "the third time").failure
    assert failure is not None
    assert (failure.stage, failure.message) == ("tally", "the third time")


def test_other_errors_are_no_full_disk(tmp_path: Path) -> None:
    assert storage_problem(OSError(errno.EACCES, "denied"), tmp_path) is None
    assert storage_problem(None, tmp_path) is None


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k,nr_inodes=400", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small tmpfs cannot be mounted here (root's right)")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_disk_that_fills_up_ends_the_run_with_one_message_and_nothing_torn(
    small_disk: Path, tmp_path: Path, tiny: Path
) -> None:
    (tmp_path / "p.yaml").write_text(
        "name: t\nseed: 5\nensemble: {n_particles: [9000], preparations: [rapid], realisations: 12}\n"
        "stages:\n  - {kind: walk, steps: 9000}\n  - {kind: tally}\n"
    )
    command = [QLM, "run", tmp_path / "p.yaml", "--out", small_disk / "run", "--workers", "1"]
    environment = os.environ | {"PYTHONPATH": str(tiny)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("No space left on device") == 1
    assert done.stderr.splitlines()[-1].startswith("qlm: ")
    workspace = Workspace.open(small_disk / "run")
    n_done = states(workspace).count("done")
    assert 0 < n_done < 12
    assert not workspace.failures()
    # Whole products alone; a stage whose checksums found no room is recorded by the next run.
    assert {finding.kind for finding in verify(workspace).findings} <= {"unrecorded"}
    assert not [path for path in small_disk.rglob("*.tmp") if path.stat().st_size > 300]
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    again = run_protocol(workspace.protocol, small_disk / "run", HereExecutor())
    assert states(again) == ["done"] * 12
    assert not verify(again).findings


def test_folder_that_cannot_be_written_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(InputError, match="cannot be written to"):
        run_protocol(make_protocol(), tmp_path / "run", HereExecutor())


# ---- growth ----


def test_stages_that_did_not_change_are_taken_over(tmp_path: Path) -> None:
    first = make_run(tmp_path / "run", tally=False)
    before = {path: path.read_bytes() for path in (tmp_path / "run" / "workspace").glob("*/*")}
    # One stage more is growth: no flag, and the walk is not walked again.
    second = make_run(tmp_path / "run", realisations=3)
    assert second.protocol.hash != first.protocol.hash
    assert states(second) == ["done"] * 3
    for old, new in zip(first.realisations, second.realisations, strict=False):
        assert (new.directory / "walk.parquet").stat().st_ino == (old.directory / "walk.parquet").stat().st_ino
        assert json.loads((new.directory / CHECKSUMS).read_text())["walk.parquet"]["from"] == old.id
        assert set(new.costs()) == {"walk", "tally"}
    assert {path: path.read_bytes() for path in before} == before
    assert not verify(second).findings


def test_what_was_interrupted_while_it_was_taken_over_is_taken_over_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path / "run", tally=False)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", interrupt)
        with pytest.raises(KeyboardInterrupt):
            make_run(tmp_path / "run")
    assert Workspace.open(tmp_path / "run").protocol == make_protocol(tally=False)
    monkeypatch.setattr(os, "link", refuse_links)  # copies where there are no links
    again = make_run(tmp_path / "run")
    assert states(again) == ["done"] * 2
    assert not verify(again).findings


def refuse_links(*_: object) -> None:
    raise PermissionError("no links here")


def test_growing_settings_may_rise_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from qlm_hoomd.ensemble.growth import is_growth
    from qlm_hoomd.testing.tiny import WalkStage

    assert not is_growth(make_protocol(steps=10), make_protocol(steps=20))
    monkeypatch.setattr(WalkStage, "growing", frozenset({"steps", "warn"}))
    assert is_growth(make_protocol(steps=10), make_protocol(steps=20, warn=[1]))
    assert not is_growth(make_protocol(steps=20), make_protocol(steps=10))
    assert not is_growth(make_protocol(warn=[1]), make_protocol(warn=[2]))
    assert not is_growth(make_protocol(), make_protocol(pause=0.1))
    assert not is_growth(make_protocol(), make_protocol(tally=False))
    make_run(tmp_path / "run", steps=10)
    again = make_run(tmp_path / "run", steps=20)
    assert states(again) == ["done"] * 2
    assert pl.read_parquet(again.realisations[0].directory / "walk.parquet").height == 20
    with pytest.raises(InputError, match="steps was 20 and is 10"):
        make_run(tmp_path / "run", steps=10)


# ---- archives ----


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A small real run with a report: folder and archive."""
    folder = tmp_path_factory.mktemp("reported")
    protocol = build_protocol(
        {
            "name": "small",
            "seed": 1,
            "ensemble": {
                "n_particles": [100],
                "preparations": {"quick": {"quench": "rapid", "equilibration_time": 1.0}},
                "realisations": 2,
            },
            "stages": [{"kind": "prepare"}, {"kind": "modes", "count": 3}, {"kind": "structure"}],
        }
    )
    run_protocol(protocol, folder / "run", HereExecutor())
    from qlm_hoomd.report import make_report

    make_report(folder / "run")
    return folder / "run", archive.export_run(folder / "run", folder / "small.zip")


def test_archive_has_the_same_bytes_twice_and_what_it_takes_to_publish(reported: Any, tmp_path: Path) -> None:
    run, packed = reported
    assert archive.export_run(run, tmp_path / "again.zip").read_bytes() == packed.read_bytes()
    with zipfile.ZipFile(packed) as content:
        names = set(content.namelist())
        content.extractall(tmp_path / "plain")
    assert {"CITATION.cff", "README.txt", "SHA256SUMS", "protocol.json", "provenance.json", "results/exponents.json"} <= names
    assert not [name for name in names if name.endswith(".gsd")]
    assert "results/modes.parquet" in names
    assert (
        subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=tmp_path / "plain", check=False).returncode == 0
    )
    realisations = json.loads((tmp_path / "plain" / "realisations.json").read_text())
    assert all("quenched.gsd" in realisation["checksums"] for realisation in realisations)
    assert json.loads((tmp_path / "plain" / "provenance.json").read_text())["packed_by"]["qlm_hoomd"]


def test_archive_comes_back_and_reports_the_same(reported: Any, tmp_path: Path) -> None:
    run, packed = reported
    from qlm_hoomd.report import make_report

    imported = archive.import_run(packed, tmp_path / "back")
    for name in ("modes.parquet", "moduli.parquet", "prepare.json"):
        for realisation in Workspace.open(run).realisations:
            ours, theirs = (folder / "workspace" / realisation.id / name for folder in (run, imported))
            if name.endswith("parquet"):
                assert pl.read_parquet(ours).equals(pl.read_parquet(theirs))
            else:
                assert ours.read_bytes() == theirs.read_bytes()
    exponents = (imported / "results" / "exponents.json").read_bytes()
    make_report(imported)
    assert (imported / "results" / "exponents.json").read_bytes() == exponents
    assert not archive.verify_import(imported)
    (imported / "protocol.json").write_text("{}")
    assert [finding.path.name for finding in archive.verify_import(imported)] == ["protocol.json"]
    with pytest.raises(InputError, match="is not empty"):
        archive.import_run(packed, imported)


def test_an_imported_folder_is_not_run_and_packs_to_the_same(reported: Any, tmp_path: Path) -> None:
    _, packed = reported
    imported = archive.import_run(packed, tmp_path / "back")
    with pytest.raises(InputError, match="holds imported tables"):
        run_protocol(Workspace.open(imported).protocol, imported, HereExecutor())
    assert archive.export_run(imported, tmp_path / "again.zip").read_bytes() == packed.read_bytes()


def repacked(packed: Path, target: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """The archive with other content, and checksums that fit it."""
    with zipfile.ZipFile(packed) as content:
        files = {name: content.read(name) for name in content.namelist() if name != "SHA256SUMS"}
    change(files)
    files["SHA256SUMS"] = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items()).encode()
    with zipfile.ZipFile(target, "w") as content:
        for name, data in files.items():
            content.writestr(name, data)
    return target


@pytest.mark.parametrize(
    "name",
    [
        "../evil.txt",
        "/tmp/evil.txt",
        "workspace/../../evil",
        "results/.hidden",
        "evil.py",
        "a\\b",
        "results/x/y",
        "workspace/x/y",
    ],
)
def test_names_that_lead_out_of_the_folder_are_refused(reported: Any, tmp_path: Path, name: str) -> None:
    evil = repacked(reported[1], tmp_path / "evil.zip", lambda files: files.update({name: b"x"}))
    with pytest.raises(InputError, match="packs nowhere; nothing was written"):
        archive.import_run(evil, tmp_path / "in" / "back")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil.zip", "site"]


@pytest.mark.parametrize("name", ["results/report.html", "results/figures.svg", "results/index.htm"])
def test_pages_of_others_are_refused(reported: Any, tmp_path: Path, name: str) -> None:
    evil = repacked(reported[1], tmp_path / "evil.zip", lambda files: files.update({name: b"<script>alert(1)</script>"}))
    with pytest.raises(InputError, match="packs nowhere; nothing was written"):
        archive.import_run(evil, tmp_path / "back")


def test_files_that_no_stage_writes_are_refused(reported: Any, tmp_path: Path) -> None:
    def foreign_table(files: dict[str, bytes]) -> None:
        files["results/steps.parquet"] = files["results/modes.parquet"]

    def foreign_product(files: dict[str, bytes]) -> None:
        entries = json.loads(files["realisations.json"])
        entries[0]["files"].append("page.html")
        files["realisations.json"] = json.dumps(entries).encode()
        files[f"workspace/{entries[0]['id']}/page.html"] = b"<script>"

    def unlisted_product(files: dict[str, bytes]) -> None:
        files[f"workspace/{'0' * 32}/prepare.json"] = b"{}"

    for change in (foreign_table, foreign_product, unlisted_product):
        with pytest.raises(InputError, match="which no stage of its protocol writes"):
            archive.import_run(repacked(reported[1], tmp_path / "evil.zip", change), tmp_path / "back")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["evil.zip", "site"]


def test_archives_that_grow_beyond_reason_are_refused(reported: Any, tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(reported[1]) as content, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as target:
        for name in content.namelist():
            padding = b" " * 200_000_000 if name == "protocol.json" else b""
            target.writestr(name, content.read(name) + padding)
    with pytest.raises(InputError, match=r"protocol\.json is packed to less than a 100th"):
        archive.import_run(bomb, tmp_path / "back")

    def constant(files: dict[str, bytes]) -> None:
        buffer = io.BytesIO()
        column = pl.repeat(1.0, 30_000_000, eager=True)
        keys = {"preparation": "quick", "n_particles": 100, "realisation": 0}
        pl.DataFrame({"frequency": column}).select(*(pl.lit(v).alias(k) for k, v in keys.items()), "frequency").write_parquet(
            buffer
        )
        files["results/modes.parquet"] = buffer.getvalue()

    with pytest.raises(InputError, match=r"results/modes\.parquet cannot be read .*120000000 values in"):
        archive.import_run(repacked(reported[1], tmp_path / "bomb.zip", constant), tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_tables_of_an_imported_folder_are_proved_too(reported: Any, tmp_path: Path) -> None:
    imported = archive.import_run(reported[1], tmp_path / "back")
    victim = min(imported.glob("workspace/*/modes.parquet"))
    pl.read_parquet(victim).with_columns(pl.col("frequency") * 2.0).write_parquet(victim)
    assert [finding.path for finding in archive.verify_import(imported)] == [victim]


def test_status_of_an_imported_folder_is_that_of_the_run(reported: Any, tmp_path: Path) -> None:
    imported = archive.import_run(reported[1], tmp_path / "back")
    assert states(Workspace.open(imported)) == states(Workspace.open(reported[0])) == ["done"] * 2


def test_archive_of_lies_is_refused(reported: Any, tmp_path: Path) -> None:
    def lie(files: dict[str, bytes]) -> None:
        entries = json.loads(files["realisations.json"])
        entries[0]["files"] = ["../../evil.parquet"]
        files["realisations.json"] = json.dumps(entries).encode()

    with pytest.raises(InputError, match="is not that of the protocol beside it"):
        archive.import_run(repacked(reported[1], tmp_path / "lie.zip", lie), tmp_path / "back")
    with pytest.raises(InputError, match="cannot be read"):
        archive.import_run(
            repacked(reported[1], tmp_path / "lie.zip", lambda files: files.update({"results/modes.parquet": b"x"})),
            tmp_path / "back",
        )
    with pytest.raises(InputError, match="cannot be read"):
        archive.import_run(tmp_path / "nowhere.zip", tmp_path / "back")
    assert not (tmp_path / "back").exists()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_changed_archives_are_refused_or_harmless(reported: Any, tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(reported[1].read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[at] ^= data.draw(st.integers(1, 255))
    else:
        del content[at:]
    path = tmp_path / "changed.zip"
    path.write_bytes(content)
    try:
        archive.import_run(path, tmp_path / "back")
    except InputError:
        assert not (tmp_path / "back").exists()
    else:  # a byte that ZIP files do not look at, e.g. a time of change
        assert not archive.verify_import(tmp_path / "back")
        shutil.rmtree(tmp_path / "back")


def test_export_needs_a_report(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    with pytest.raises(InputError, match=r"holds no exponents\.json; expected the results of `qlm report"):
        archive.export_run(tmp_path / "run", tmp_path / "x.zip")


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=60)
    | st.recursive(st.none() | st.integers() | st.text(max_size=5), st.lists).map(lambda v: json.dumps(v).encode())
)
def test_any_bytes_for_checksums_are_named_and_never_a_traceback(tmp_path: Path, content: bytes) -> None:
    run = tmp_path / "run"
    workspace = Workspace.open(run) if run.exists() else make_run(run, realisations=1)
    (realisation,) = workspace.realisations
    (realisation.directory / CHECKSUMS).write_bytes(content)
    proof = verify(workspace)
    assert {finding.kind for finding in proof.findings} <= {"unreadable", "unrecorded", "missing"}
    assert proof.findings


def test_verify_export_and_import_on_the_command_line(reported: Any, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from qlm_hoomd.cli import app

    def qlm(*arguments: object) -> Any:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    run = tmp_path / "run"
    workspace = make_run(run)
    result = qlm("verify", run)
    assert result.exit_code == 0
    assert result.stdout.startswith("4 files (")
    folder = workspace.realisations[0].directory
    damage("flipped", folder)
    result = qlm("verify", run, "--set-aside")
    assert result.exit_code == 1
    assert f"  changed: {folder / 'walk.parquet'}: its bytes are not those that were written" in result.stderr
    assert result.stdout.splitlines()[-1] == f"set aside: {folder / 'walk.parquet.damaged'}"
    result = qlm("import", reported[1], tmp_path / "back")
    assert result.exit_code == 0
    assert qlm("verify", tmp_path / "back").stdout == f"{tmp_path / 'back'} was imported: what was packed is as it was\n"
    assert "imported: the tables" in qlm("status", tmp_path / "back").stdout
    assert qlm("import", reported[1], tmp_path / "back").exit_code == 2
    # A name without a suffix gets that of what it is.
    assert f"wrote {tmp_path / 'packed.zip'} (" in qlm("export", reported[0], "--out", tmp_path / "packed").stdout
    assert not (tmp_path / "packed").exists()


def test_what_vanished_is_no_longer_recorded_when_another_stage_ends(tmp_path: Path) -> None:
    """Else a file of that name that comes later would be compared with what somebody else wrote."""
    workspace = make_run(tmp_path / "run", realisations=1)
    (realisation,) = workspace.realisations
    walk, tally = workspace.protocol.stages
    gone = walk.products()[0]
    assert gone in realisation.recorded
    (realisation.directory / gone).unlink()
    integrity.record(realisation, tally, workspace.protocol.stages, "code", {})
    assert gone not in realisation.recorded
    assert set(tally.products()) <= realisation.recorded.keys()
