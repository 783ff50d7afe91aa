"""An ensemble for publication: tables, protocol, exponents, versions, citation and checksums in one ZIP file, and back.

The same results give the same bytes. Configurations (GSD) stay where they are; their checksums are in the archive, so that they
can be published beside it. What is read back was written by others: nothing of it is executed, no name is there but those that
`qlm export` packs, no file is much larger than what is packed, and every file is compared with its checksum before any is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qlm_hoomd.base.errors import InputError
from qlm_hoomd.base.files import (
    is_plain_name,
    read_json,
    read_table,
    read_table_metadata,
    replacing,
    storage_problem,
    table_size,
)
from qlm_hoomd.base.provenance import versions
from qlm_hoomd.base.version import PACKAGE
from qlm_hoomd.ensemble import integrity
from qlm_hoomd.ensemble.realisation import CHECKSUMS, sha256
from qlm_hoomd.ensemble.workspace import IMPORTED, REALISATIONS, Workspace
from qlm_hoomd.protocol import build_protocol
from qlm_hoomd.stages.base import KEYS, RESERVED_TABLES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polars import DataFrame

    from qlm_hoomd.protocol import Protocol

CHECKSUM_FILE = "SHA256SUMS"
"""In the archive: checksums of its files, as `sha256sum --check` reads them."""
_FORMAT = 1
_PROVENANCE = "provenance.json"
_MAX_BYTES = 2_000_000_000
_MAX_FILES = 200_000
# Largest size over that of what is packed, beyond some bytes that every file may have: JSON of our own is packed to a
# twentieth, and of tables, which are packed in themselves, the columns that tell a realisation's rows take next to nothing.
_MAX_RATIO, _MAX_TABLE_RATIO, _FREE_BYTES = 100, 300, 10_000_000
_CHUNK = 1 << 20
_NAMES = re.compile(
    r"README\.txt|CITATION\.cff|SHA256SUMS|(protocol|realisations|provenance)\.json|results/(exponents\.json|\w[\w.-]*\.parquet)|workspace/[0-9a-f]{32}/\w[\w.-]*",
    re.ASCII,
)
_EPOCH = (1980, 1, 1, 0, 0, 0)
_README = """\
Results of an ensemble of computer glasses, packed by `qlm export` of qlm_hoomd.

protocol.json      what was run: model, engine, sizes, preparations, stages
results/           tables (parquet) of all realisations together, exponents.json
workspace/         what the realisations have beyond these tables, configurations (GSD) and checkpoints left out
realisations.json  state point of each realisation, the stages that are done, and checksums of all its files, those left out too
provenance.json    versions of the code
CITATION.cff       how to cite
SHA256SUMS         checksums of these files: sha256sum --check SHA256SUMS

`qlm import FILE.zip DIR` reads it back; `qlm report DIR` then makes the report.
"""


def export_run(directory: Path, target: Path) -> Path:
    """Pack the results of a run into ``target``. The tables and exponents are those of the last `qlm report`.

    Args:
        directory: folder of a run with a report, or one that was imported.
        target: the ZIP file; it is replaced.

    Returns:
        ``target``.

    Raises:
        InputError: if there is no report, or a file cannot be written.
    """
    workspace = Workspace.open(directory)
    results = directory / "results"
    if not (results / "exponents.json").is_file():
        raise InputError(f"{results} holds no exponents.json; expected the results of `qlm report {directory}`.")
    files = dict(_files(workspace))
    sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(files.items()))
    files[CHECKSUM_FILE] = sums.encode()
    try:
        with replacing(target) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for name, content in sorted(files.items()):
                entry = zipfile.ZipInfo(name, _EPOCH)
                entry.create_system, entry.external_attr = 3, 0o644 << 16
                # Parquet is compressed already.
                entry.compress_type = zipfile.ZIP_STORED if name.endswith(".parquet") else zipfile.ZIP_DEFLATED
                archive.writestr(entry, content, compresslevel=9)
    except OSError as error:
        full = storage_problem(error, target.parent)
        raise full or InputError(f"{target} cannot be written ({error.strerror or error}).") from error
    return target


def import_run(file: Path, directory: Path) -> Path:
    """Unpack what :func:`export_run` packed into a new folder, of which `qlm status` and `qlm report` can be asked.

    Args:
        file: the ZIP file.
        directory: a folder that does not exist, or is empty.

    Returns:
        ``directory``.

    Raises:
        InputError: if the file is not such an archive, was changed, or the folder is in use.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise InputError(f"{directory} is not empty; expected a new folder.")
    # A folder beside it, renamed at the end: what was interrupted leaves nothing that looks like a run.
    draft = directory.with_name(f".{directory.name}.{os.getpid()}.tmp")
    try:
        _unpack(file, draft)
        try:
            protocol = build_protocol(_mapping(draft, "protocol.json"))
            realisations = _realisations(draft, protocol.hash)
            _check_names(draft, protocol, realisations)
            for identity, realisation in realisations.items():
                folder = draft / "workspace" / identity
                _write(folder / "signac_statepoint.json", json.dumps(realisation["statepoint"]).encode())
                for name, record in realisation["failed"].items():
                    _write(folder / "failed" / name, json.dumps(record, indent=2).encode())
            _split(draft, realisations, protocol)
        except InputError as error:
            raise InputError(f"{file}: {error}") from None
        _write(draft / ".signac" / "config", b"schema_version = 2\n")
        _write(draft / IMPORTED, (json.dumps({"file": file.name, "sha256": sha256(file)}) + "\n").encode())
        if directory.is_dir():
            directory.rmdir()
        draft.rename(directory)
    except OSError as error:
        full = storage_problem(error, directory.parent)
        raise full or InputError(f"{directory} cannot be written ({error.strerror or error}).") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return directory


def verify_import(directory: Path) -> list[integrity.Finding]:
    """What in an imported folder is not as it was packed."""
    findings = []
    try:
        sums = _sums((directory / CHECKSUM_FILE).read_bytes())
    except (OSError, InputError) as error:
        return [integrity.Finding(directory / CHECKSUM_FILE, "unreadable", str(error))]
    for name, digest in sums.items():
        path = directory / name
        # The report is made anew, and exponents and tables with it: by other versions they may come out different.
        if name.startswith("results/"):
            continue
        try:
            if sha256(path) != digest:
                findings.append(integrity.Finding(path, "changed", "its bytes are not those that were packed"))
        except FileNotFoundError:
            findings.append(integrity.Finding(path, "missing", "it was packed, and is gone"))
        except OSError as error:
            findings.append(integrity.Finding(path, "unreadable", error.strerror or str(error)))
    for realisation in Workspace.read(directory).realisations if not findings else ():
        for name, entry in realisation.recorded.items():
            finding = integrity.compare(realisation.directory / name, entry)
            if finding is not None:
                findings.append(finding)
    return findings


def _files(workspace: Workspace) -> Iterator[tuple[str, bytes]]:
    """Name and content of everything that is packed, but for the checksums."""
    directory = workspace.directory
    yield "README.txt", _README.encode()
    yield "CITATION.cff", _citation()
    yield "protocol.json", (directory / "protocol.json").read_bytes()
    yield "results/exponents.json", (directory / "results" / "exponents.json").read_bytes()
    # A table that no report has gathered yet goes along with its realisation.
    gathered = [name for name in _table_names(workspace.protocol) if (directory / "results" / f"{name}.parquet").is_file()]
    for name in (*gathered, *sorted(RESERVED_TABLES)):
        path = directory / "results" / f"{name}.parquet"
        if path.is_file():
            yield f"results/{path.name}", path.read_bytes()
    imported = (directory / IMPORTED).exists()
    if imported:  # what it says of the folders' files cannot be found out here
        yield REALISATIONS, (directory / REALISATIONS).read_bytes()
        yield _PROVENANCE, (directory / _PROVENANCE).read_bytes()
    written = _written_by(workspace.protocol)
    in_tables = {f"{name}.parquet" for name in gathered}
    entries = []
    provenances: list[str] = []
    codes: set[str] = set()
    for realisation in workspace.realisations:
        folder = realisation.directory
        known = realisation.recorded
        present = [name for name in sorted(written | known.keys()) if (folder / name).is_file()]
        for name in present:
            if name in written and name not in in_tables and not name.endswith((".gsd", ".checkpoint")):
                yield f"workspace/{realisation.id}/{name}", (folder / name).read_bytes()
        carried = {name: _carried(folder / name) for name in present if name in in_tables}
        provenances += sorted(set(carried.values()) - set(provenances))
        codes.update(str(entry["code"]) for entry in known.values() if "code" in entry)
        entries.append(
            {
                "id": realisation.id,
                "statepoint": dict(realisation.statepoint),
                "stages": dict(
                    zip(
                        (stage.kind for stage in workspace.protocol.stages),
                        realisation.stage_states(workspace.protocol.stages),
                        strict=True,
                    )
                ),
                "files": present,
                "provenance": {name: provenances.index(text) for name, text in carried.items()},
                "checksums": {name: entry["sha256"] for name, entry in sorted(known.items())},
                "failed": {path.name: _plain(path) for path in sorted((folder / "failed").glob("*.json"))},
            }
        )
    if not imported:
        yield REALISATIONS, _json(entries)
        yield _PROVENANCE, _json(
            {
                "format": _FORMAT,
                "protocol_hash": workspace.protocol.hash,
                "packed_by": versions(),
                "codes": sorted(codes),
                "tables": provenances,
            }
        )  # fmt: skip


def _table_names(protocol: Protocol) -> tuple[str, ...]:
    """The tables that the stages may write."""
    return tuple(dict.fromkeys(name for stage in protocol.stages for name in stage.tables()))


def _written_by(protocol: Protocol) -> set[str]:
    """The files that the stages may write."""
    return {name for stage in protocol.stages for name in (*stage.products(), *stage.optional_products())}


def _carried(path: Path) -> str:
    """The provenance in the metadata of a table, as JSON; empty if there is none."""
    import polars as pl

    try:
        return read_table_metadata(path).get("qlm_hoomd", "{}")
    except (pl.exceptions.PolarsError, OSError):
        return "{}"


def _citation() -> bytes:
    root = PACKAGE
    for path in (root / "CITATION.cff", root.parent / "CITATION.cff"):
        if path.is_file():
            return path.read_bytes()
    raise InputError(f"CITATION.cff is not in {root}; expected a whole installation of qlm_hoomd. Install it again.")


def _unpack(file: Path, draft: Path) -> None:
    """Write the files of an archive to ``draft``, piece by piece, and compare them with their checksums.

    Raises:
        InputError: if it is no archive of ours, or was changed.
        OSError: if a file cannot be written.
    """
    found: dict[str, str] = {}
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            _check(file, entries)
            for entry in entries:
                target = draft / entry.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                digest = hashlib.sha256()
                with archive.open(entry) as source, target.open("wb") as out:
                    while piece := source.read(_CHUNK):
                        digest.update(piece)
                        out.write(piece)
                found[entry.filename] = digest.hexdigest()
    except InputError:
        raise
    except OSError as error:
        if storage_problem(error, draft.parent) is not None:
            raise
        raise InputError(f"{file} cannot be read ({error.strerror or error}); expected an archive of `qlm export`.") from None
    except Exception as error:  # noqa: BLE001  (decompressors fail in many ways on bytes that are not their own)
        raise InputError(
            f"{file} is no whole ZIP file ({type(error).__name__}); expected an archive of `qlm export`."
        ) from None
    if found.pop(CHECKSUM_FILE, None) is None:
        raise InputError(f"{file} holds no {CHECKSUM_FILE}; expected an archive of `qlm export`.")
    sums = _sums((draft / CHECKSUM_FILE).read_bytes())
    for name in sorted(found.keys() | sums.keys()):
        if name not in found or sums.get(name) != found[name]:
            raise InputError(f"{file}: {name} is not what was packed; expected an archive as `qlm export` wrote it.")


def _check(file: Path, entries: Sequence[zipfile.ZipInfo]) -> None:
    if len(entries) > _MAX_FILES or sum(entry.file_size for entry in entries) > _MAX_BYTES:
        raise InputError(f"{file} is larger than any archive of `qlm export`; nothing was written.")
    for entry in entries:
        if entry.file_size > _MAX_RATIO * entry.compress_size + _FREE_BYTES:
            raise InputError(
                f"{file}: {entry.filename[:100]} is packed to less than a {_MAX_RATIO}th, as nothing of `qlm export` is; "
                "nothing was written."
            )
    names = [entry.filename for entry in entries]
    for name in names:
        if not _NAMES.fullmatch(name):
            raise InputError(f"{file} holds '{name[:100]}', which `qlm export` packs nowhere; nothing was written.")
    if len(set(names)) < len(names):
        raise InputError(f"{file} holds a file twice; expected an archive of `qlm export`. Nothing was written.")


def _sums(content: bytes) -> dict[str, str]:
    sums = {}
    for line in content.decode("utf-8", errors="replace").splitlines():
        digest, _, name = line.partition("  ")
        sums[name] = digest
    if not sums:
        raise InputError(f"it holds no {CHECKSUM_FILE}; expected an archive of `qlm export`.")
    return sums


def _check_names(draft: Path, protocol: Protocol, realisations: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse files that no stage of the protocol writes, or that the archive's own list does not have."""
    tables = {*_table_names(protocol), *RESERVED_TABLES}
    written = _written_by(protocol)
    for path in sorted((draft / "results").glob("*.parquet")):
        if path.stem not in tables:
            raise InputError(f"it holds results/{path.name}, which no stage of its protocol writes; nothing was written.")
    for path in sorted(draft.glob("workspace/*/*")):
        identity, name = path.parent.name, path.name
        if identity not in realisations or name not in written or name not in realisations[identity]["files"]:
            raise InputError(
                f"it holds {name} of {identity}, which no stage of its protocol writes there; nothing was written."
            )


def _mapping(draft: Path, name: str) -> dict[str, Any]:
    content = _parsed(draft, name)
    if not isinstance(content, dict):
        raise InputError(f"{name} holds no mapping; expected an archive of `qlm export`.")
    return content


def _parsed(draft: Path, name: str) -> Any:
    try:
        return read_json(draft / name)
    except FileNotFoundError:
        raise InputError(f"{name} is not in it; expected an archive of `qlm export`.") from None
    except ValueError as error:
        raise InputError(f"{name} cannot be read ({type(error).__name__}); expected an archive of `qlm export`.") from None


def _realisations(draft: Path, protocol_hash: str) -> dict[str, dict[str, Any]]:
    """The entries of realisations.json by id, after a look at everything that is used of them."""
    from signac.job import calc_id

    entries = _parsed(draft, REALISATIONS)
    provenances = _mapping(draft, _PROVENANCE).get("tables")
    n_provenances = len(provenances) if isinstance(provenances, list) else 0
    found: dict[str, dict[str, Any]] = {}
    for entry in entries if isinstance(entries, list) else [{}]:
        try:
            statepoint, names, failed = entry["statepoint"], entry["files"], entry["failed"]
            whole = (
                calc_id(statepoint) == entry["id"]
                and statepoint["protocol_hash"] == protocol_hash
                and isinstance(names, list)
                and isinstance(failed, dict)
                and isinstance(entry["provenance"], dict)
                and all(is_plain_name(name) for name in (*names, *failed))
                and all(isinstance(statepoint.get(key), (str, int)) for key in KEYS)
                and all(isinstance(at, int) and 0 <= at < n_provenances for at in entry["provenance"].values())
                and all(name in entry["provenance"] for name in names if (draft / "results" / name).exists())
            )
        except (KeyError, TypeError, ValueError, RecursionError, AttributeError):
            whole = False
        if not whole:
            raise InputError(f"{REALISATIONS} is not that of the protocol beside it; expected an archive of `qlm export`.")
        found[entry["id"]] = entry
    return found


def _split(draft: Path, realisations: Mapping[str, Mapping[str, Any]], protocol: Protocol) -> None:
    """Write the tables of each realisation, from those of all, and the checksums of what is in its folder."""
    provenances = [str(text) for text in _mapping(draft, _PROVENANCE).get("tables", ())]
    by_key = {
        tuple(realisation["statepoint"].get(key) for key in KEYS): identity for identity, realisation in realisations.items()
    }
    for name in _table_names(protocol):
        source, product = draft / "results" / f"{name}.parquet", f"{name}.parquet"
        if not source.exists():
            continue
        try:
            table = _bounded(source)
            parts = {tuple(key): part for key, part in table.partition_by(*KEYS, as_dict=True, include_key=False).items()}
            empty = table.drop(*KEYS).clear()
        except Exception as error:  # noqa: BLE001  (polars fails in many ways on bytes that are not its own)
            raise InputError(f"results/{product} cannot be read ({type(error).__name__}: {str(error)[:100]}).") from None
        for key, identity in by_key.items():
            if product in realisations[identity]["files"]:
                carried = provenances[realisations[identity]["provenance"][product]]
                parts.get(key, empty).write_parquet(draft / "workspace" / identity / product, metadata={"qlm_hoomd": carried})
    kinds = {name: stage.kind for stage in protocol.stages for name in (*stage.products(), *stage.optional_products())}
    for identity in realisations:
        folder = draft / "workspace" / identity
        _write(folder / CHECKSUMS, _json({
            path.name: {"sha256": sha256(path), "bytes": path.stat().st_size, "stage": kinds[path.name]}
            for path in sorted(folder.iterdir())
            if path.name in kinds
        }))  # fmt: skip


def _bounded(path: Path) -> DataFrame:
    """The table, unless it would take up far more room than its file."""
    n_values, n_bytes = table_size(path), path.stat().st_size
    if 8 * n_values > _MAX_TABLE_RATIO * n_bytes + _FREE_BYTES:
        raise ValueError(f"{n_values} values in {n_bytes} bytes")
    return read_table(path)


def _plain(path: Path) -> Any:
    try:
        return read_json(path)
    except (OSError, ValueError):
        return {}


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
