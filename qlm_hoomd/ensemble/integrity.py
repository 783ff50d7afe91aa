"""Checksums of products: recorded when a stage has written them, proved by ``qlm verify``."""

from __future__ import annotations

import json
import os
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qlm_hoomd.base.files import read_json, read_table, replacing
from qlm_hoomd.base.provenance import versions
from qlm_hoomd.ensemble.realisation import CHECKSUMS, Realisation, sha256
from qlm_hoomd.stages.base import RESERVED_FILES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from qlm_hoomd.ensemble.workspace import Workspace
    from qlm_hoomd.stages.base import Stage

_SUFFIX_SET_ASIDE = ".damaged"


@dataclass(frozen=True)
class Finding:
    """Something in a workspace that is not as it was written.

    Args:
        path: the file or folder.
        kind: ``missing``, ``truncated``, ``changed``, ``unreadable``, ``unrecorded``, ``outdated`` or ``foreign``.
        text: the fact, for people.
    """

    path: Path
    kind: str
    text: str


@dataclass
class Proof:
    """What ``qlm verify`` found.

    Args:
        findings: everything that is not as it was written.
        n_files: files whose checksum was right.
        n_bytes: their size [bytes].
        codes: number of files by (versions, code) that wrote them; more than one code of the same versions: it was edited.
        n_untold: files of which it is not recorded what they were made from, by versions that did not keep it.
    """

    findings: list[Finding]
    n_files: int
    n_bytes: int
    codes: Counter[tuple[str, str]]
    n_untold: int = 0

    @property
    def edited(self) -> dict[str, dict[str, int]]:
        """Versions of which more than one code wrote files: number of files by code."""
        found: dict[str, dict[str, int]] = {}
        for (version, code), number in sorted(self.codes.items()):
            found.setdefault(version, {})[code] = number
        return {version: numbers for version, numbers in found.items() if len(numbers) > 1}


def record(realisation: Realisation, stage: Stage, stages: Sequence[Stage], code: str, inputs: Mapping[str, str]) -> None:
    """Record the checksums of what ``stage`` has just written: its products, and files that no other stage accounts for.

    Args:
        realisation: whose folder it is.
        stage: the stage.
        stages: all stages of the protocol.
        code: fingerprint of the code, :func:`~qlm_hoomd.base.provenance.code_fingerprint`.
        inputs: SHA-256 of each file that it required, by name.
    """
    folder = realisation.directory
    kind = stage.kind
    # Where the record cannot be read, the stages that it stood for are recorded again when they are looked at.
    kept = {
        name: entry for name, entry in realisation.recorded.items() if entry.get("stage") != kind and (folder / name).is_file()
    }
    made: dict[str, Any] = {"stage": kind, "version": versions()["qlm_hoomd"], "code": code}
    if inputs:
        made["inputs"] = dict(sorted(inputs.items()))
    others = [other for other in stages if other.kind != kind]
    of_others = {name for other in others for name in (*other.products(), *other.optional_products())}
    for name in sorted(_products(folder) - kept.keys() - of_others | set(stage.products())):
        path = folder / name
        kept[name] = {"sha256": sha256(path), "bytes": path.stat().st_size, **made}
    _write(folder, kept)


def inputs_of(realisation: Realisation, stage: Stage) -> dict[str, str]:
    """SHA-256 of each file that ``stage`` requires, as far as they are there."""
    return {name: sha256(realisation.directory / name) for name in stage.requires() if realisation.has(name)}


def adopt(realisation: Realisation, stage: Stage, stages: Sequence[Stage], code: str) -> bool:
    """Record the products of a stage that is done but unrecorded: its process was killed in between, or they are older than records.

    Before any other stage of the realisation is run again: what it was made from is taken to be what was there until now.

    Returns:
        Whether all can be read; what cannot is no product, and the stage is to be run again.
    """
    known = realisation.recorded
    unrecorded = [name for name in stage.products() if name not in known]
    if any(unreadable(realisation.directory / name) for name in unrecorded):
        return False
    if unrecorded:
        before = {name: known[name]["sha256"] for name in stage.requires() if name in known}
        record(realisation, stage, stages, code, inputs_of(realisation, stage) | before)
    return True


def clear(realisation: Realisation, stage: Stage, stages: Sequence[Stage]) -> None:
    """Remove what ``stage`` wrote before it is run again, and the record of it.

    So that whatever is there later was written by that run. Records of other stages that do not tell what they were made from
    are completed first: it was what is recorded now.
    """
    known = realisation.recorded
    old = {*stage.products(), *realisation.files_of(stage.kind)}
    if not known.keys() & old:  # it never came to its end
        return
    for other in stages:
        for name in other.products():
            if name in known and "inputs" not in known[name]:
                inputs = {read: known[read]["sha256"] for read in other.requires() if read in known}
                known[name] |= {"inputs": inputs} if inputs else {}
    for name in old:  # before the record: a product without one would be taken for good
        (realisation.directory / name).unlink(missing_ok=True)
    _write(realisation.directory, {name: entry for name, entry in known.items() if name not in old})


def _write(folder: Path, entries: Mapping[str, Any]) -> None:
    with replacing(folder / CHECKSUMS) as temporary:
        temporary.write_text(json.dumps(dict(sorted(entries.items())), indent=1) + "\n", encoding="utf-8")


def unreadable(path: Path) -> str | None:
    """Why a product cannot be what a stage wrote, as far as its format tells; None if nothing speaks against it."""
    try:
        if path.suffix == ".parquet":
            read_table(path)
        elif path.suffix == ".gsd":
            import gsd.hoomd

            from qlm_hoomd.gsdio import check_layout, checked_frame

            check_layout(path)
            with gsd.hoomd.open(str(path), "r") as trajectory:
                for frame in range(len(trajectory)):
                    checked_frame(trajectory, frame)
        elif path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
    except Exception as error:  # noqa: BLE001  (readers fail in every way on bytes that are not theirs)
        return _line(error)
    return None


def verify(workspace: Workspace, progress: Callable[[int, int], None] | None = None) -> Proof:
    """Compare every file of a workspace with its record.

    Realisations at work are compared as far as they are recorded. Of another protocol's realisations in the same folder the
    files are compared too.

    Args:
        workspace: the folder of the run.
        progress: called with the number of folders that are done, and of all.
    """
    proof = Proof([], 0, 0, Counter())
    at_work = workspace.claims.live().keys()
    expected = {realisation.id: realisation for realisation in workspace.realisations}
    root = workspace.directory / "workspace"
    names = sorted({path.name for path in root.iterdir()} | expected.keys()) if root.is_dir() else sorted(expected)
    for number, name in enumerate(names):
        if progress is not None:
            progress(number, len(names))
        folder = root / name
        if name in expected and not folder.exists():
            proof.findings.append(Finding(folder, "missing", "the folder of a realisation of the protocol is not there"))
            continue
        statepoint = _statepoint(folder, proof)
        if statepoint is not None:
            _verify_folder(Realisation(folder, statepoint), workspace, proof, at_work=name in at_work)
    return proof


def set_aside(proof: Proof) -> list[Path]:
    """Rename files that are not as they were written to ``NAME.damaged``, so that the next run makes them again.

    Returns:
        The new names.
    """
    moved = []
    for finding in proof.findings:
        if finding.kind in {"truncated", "changed", "unreadable"} and finding.path.is_file():
            target = finding.path.with_name(finding.path.name + _SUFFIX_SET_ASIDE)
            finding.path.replace(target)
            moved.append(target)
    return moved


def _statepoint(folder: Path, proof: Proof) -> Mapping[str, Any] | None:
    """The state point of a folder in the workspace; a finding is added where it is no realisation's."""
    from signac.job import calc_id

    path = folder / "signac_statepoint.json"
    if not folder.is_dir() or not path.is_file():
        proof.findings.append(Finding(folder, "foreign", "no realisation: it has no state point"))
        return None
    try:
        statepoint = read_json(path)
        identity = calc_id(statepoint) if isinstance(statepoint, dict) else "no realisation"
    except (OSError, ValueError, TypeError) as error:
        proof.findings.append(Finding(path, "unreadable", f"the state point cannot be read: {_line(error)}"))
        return None
    if identity != folder.name:
        proof.findings.append(Finding(path, "changed", f"the state point is that of {identity}"))
        return None
    return statepoint


def _verify_folder(realisation: Realisation, workspace: Workspace, proof: Proof, *, at_work: bool) -> None:
    folder = realisation.directory
    try:
        known = realisation.checksums()
    except (OSError, ValueError) as error:
        proof.findings.append(Finding(folder / CHECKSUMS, "unreadable", f"the checksums cannot be read: {_line(error)}"))
        known = {}
    for name, entry in known.items():
        finding = compare(folder / name, entry)
        if finding is not None and at_work:  # it may have been written anew between the two looks
            with suppress(OSError, ValueError):
                entry = realisation.checksums().get(name, entry)  # noqa: PLW2901
                finding = compare(folder / name, entry)
        if finding is not None and finding.kind == "missing" and finding.path.suffix == ".checkpoint":
            continue  # no result: only where a longer run goes on, and anybody's to remove
        if finding is not None:
            proof.findings.append(finding)
        else:
            proof.n_files += 1
            proof.n_bytes += entry["bytes"]
            proof.codes[str(entry.get("version")), str(entry.get("code"))] += 1
    if at_work:
        return
    for stage in workspace.protocol.stages if realisation.statepoint.get("protocol_hash") == workspace.protocol.hash else ():
        for name in realisation.products_of(stage, known):
            others = realisation.made_from_others(name, known)
            if others and realisation.has(name):
                fact = f"it was made from another {' and '.join(others)} than what is there now; the next run makes it again"
                proof.findings.append(Finding(folder / name, "outdated", fact))
            proof.n_untold += bool(stage.requires()) and name in known and "inputs" not in known[name]
    stages = workspace.protocol.stages
    possible = {name for stage in stages for name in (*stage.products(), *stage.optional_products())}
    # Of a stage that failed or was stopped half-way there is nothing to prove: the next run writes all of it.
    under_way = [stage for stage in stages if not realisation.is_done(stage)]
    half_way = {name for stage in under_way for name in (*stage.products(), *stage.optional_products())}
    # What one that is not installed writes is not known before it has come to its end.
    unknown = any(not stage.products() for stage in under_way)
    for name in sorted(_products(folder) - known.keys()):
        path = folder / name
        problem = unreadable(path)
        if problem:
            proof.findings.append(Finding(path, "unreadable", problem))
        elif name in half_way or (unknown and name not in possible):
            continue
        elif name in possible:
            proof.findings.append(Finding(path, "unrecorded", "no checksum was recorded of it, so that nothing can be proved"))
        else:
            proof.findings.append(Finding(path, "foreign", "no stage of the protocol writes it"))


def compare(path: Path, entry: Mapping[str, Any]) -> Finding | None:
    """What is wrong with a file beside its record; None if nothing is."""
    try:
        size = path.stat().st_size
        if size != entry["bytes"]:
            kind = "truncated" if size < entry["bytes"] else "changed"
            return Finding(path, kind, f"{size} bytes; {entry['bytes']} were written")
        if sha256(path) != entry["sha256"]:
            return Finding(path, "changed", "its bytes are not those that were written")
    except FileNotFoundError:
        return Finding(path, "missing", f"stage {entry.get('stage')} wrote it, and it is gone")
    except OSError as error:
        return Finding(path, "unreadable", error.strerror or str(error))
    return None


def _products(folder: Path) -> set[str]:
    """Names of the files in a folder that a stage may have written."""
    with os.scandir(folder) as entries:
        return {
            entry.name
            for entry in entries
            if entry.name not in RESERVED_FILES
            and not entry.name.startswith(".")
            and not entry.name.endswith(_SUFFIX_SET_ASIDE)
            and not entry.is_dir()
        }


def _line(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__
