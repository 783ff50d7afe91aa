"""The folder of a run: one signac job per realisation, and a status that is read from files alone."""

from __future__ import annotations

import errno
import json
import os
import socket
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from qlm_hoomd.base.display import Displayed, in_words
from qlm_hoomd.base.errors import InputError
from qlm_hoomd.base.files import is_plain_name, read_json, replacing, storage_problem
from qlm_hoomd.ensemble.claims import Claims, place
from qlm_hoomd.ensemble.realisation import Realisation
from qlm_hoomd.protocol import Protocol, build_protocol, stored_protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from qlm_hoomd.ensemble.realisation import Failure, State

IMPORTED = "imported.json"
"""In a folder that `qlm import` made: where its tables come from."""
REALISATIONS = "realisations.json"
"""In an archive, and in a folder that `qlm import` made: what every realisation had where it was run."""


@dataclass(frozen=True, repr=False)
class Workspace(Displayed):
    """The folder of a run.

    A folder may hold realisations of several protocols side by side (their state points carry the protocol's hash), where that
    was asked for or the later one grew out of the earlier. The protocol that was run last is stored as ``protocol.json``, and
    only its realisations are run, shown and reported.

    Args:
        directory: the folder.
        protocol: the protocol that was run in it last.
        missing: what of it is not installed here, a sentence each; nothing where there is work to be done by it.
    """

    directory: Path
    protocol: Protocol
    missing: tuple[str, ...] = ()

    def _headline(self) -> str:
        return f"{in_words(self.protocol)}, in {self.directory}"

    def _facts(self) -> Mapping[str, Any]:
        return {"hash": self.protocol.hash, "stages": tuple(stage.kind for stage in self.protocol.stages)}

    @classmethod
    def create(cls, protocol: Protocol, directory: Path) -> Workspace:
        """The workspace in ``directory`` with a folder for every realisation of ``protocol``; what exists is kept.

        What the folder holds of another protocol is left alone: :func:`qlm_hoomd.ensemble.growth.begin` looks at it first.

        Args:
            protocol: what is to be run.
            directory: the folder; it may hold a run already, and others may be at work in it.

        Raises:
            InputError: if the folder cannot be written to, holds a signac project of another version, or imported tables.
            StorageFull: if the disk is full, or a quota is reached.
        """
        with writing(directory):
            workspace = cls(directory, protocol)
            workspace.lay_out()
            workspace.store_protocol()
        return workspace

    def lay_out(self) -> None:
        """Make the signac project, and a folder with its state point for every realisation.

        Raises:
            InputError: as :meth:`create`.
            OSError: if something cannot be written.
        """
        import signac

        directory = self.directory
        if (directory / IMPORTED).exists():
            raise InputError(f"{directory} holds imported tables; expected another folder for a run: choose one with --out.")
        directory.mkdir(parents=True, exist_ok=True)
        if not os.access(directory, os.W_OK):  # where everything is there already, nothing below would notice
            raise PermissionError(errno.EACCES, "no right to write, or a read-only disk")
        _write_configuration(directory / ".signac" / "config")
        try:
            signac.get_project(str(directory), search=False)
        except (signac.errors.Error, LookupError, ValueError, AssertionError) as error:
            fact = str(error).splitlines()[0]
            raise InputError(
                f"{directory} is no signac project of ours ({fact}); expected a new folder, or one of qlm."
            ) from error
        for realisation in self.realisations:
            _write_statepoint(realisation)

    def store_protocol(self) -> None:
        """Write ``protocol.json``: from here on the folder is that of this protocol.

        Raises:
            OSError: if it cannot be written.
        """
        content = self.protocol.canonical().encode()
        stored = self.directory / "protocol.json"
        if not stored.is_file() or stored.read_bytes() != content:
            with replacing(stored) as temporary:
                temporary.write_bytes(content)

    @classmethod
    def open(cls, directory: Path) -> Workspace:
        """The workspace that an earlier ``qlm run`` made.

        Raises:
            InputError: if there is none, or its protocol needs a plugin that is gone.
        """
        settings, path = _stored(directory)
        return cls(directory, build_protocol(settings, path=path))

    @classmethod
    def read(cls, directory: Path) -> Workspace:
        """The same, to be looked at only: plugins of its protocol may be gone, and :attr:`missing` names them.

        Raises:
            InputError: if there is none.
        """
        return cls(directory, *stored_protocol(*_stored(directory)))

    @cached_property
    def realisations(self) -> list[Realisation]:
        """The realisations of the protocol, by size, preparation and index."""
        from signac.job import calc_id

        workspace, left_out = self.directory / "workspace", left_out_of(self.directory)
        points = {calc_id(statepoint): statepoint for statepoint in self.protocol.statepoints()}
        return [Realisation(workspace / name, point, left_out.get(name, frozenset())) for name, point in points.items()]

    def realisation(self, job_id: str) -> Realisation:
        """The realisation with that id.

        Raises:
            InputError: if there is none, its state point is not its own, or it belongs to another protocol than the one in
                ``protocol.json``.
        """
        from signac.job import calc_id

        directory = self.directory / "workspace" / job_id
        try:
            statepoint = read_json(directory / "signac_statepoint.json")
        except (OSError, ValueError):
            raise InputError(
                f"{directory} holds no readable state point; expected a realisation that `qlm run` made."
            ) from None
        if not isinstance(statepoint, dict) or "protocol_hash" not in statepoint or calc_id(statepoint) != job_id:
            raise InputError(
                f"{directory} holds the state point of something else; expected a realisation that `qlm run` made. The same "
                "`qlm run` writes it anew."
            )
        if statepoint["protocol_hash"] != self.protocol.hash:
            raise InputError(
                f"realisation {job_id} belongs to protocol {statepoint['protocol_hash']}; expected {self.protocol.hash}, "
                f"the protocol that was run last in {self.directory}."
            )
        return Realisation(directory, statepoint)

    def counts(self) -> dict[tuple[int, str], dict[str, dict[State, int]]]:
        """Number of realisations in each state, by (N, preparation) and by stage."""
        counts: dict[tuple[int, str], dict[str, dict[State, int]]] = {}
        for realisation in self.realisations:
            group = counts.setdefault((realisation.n_particles, realisation.statepoint["preparation"]), {})
            for stage, state in zip(self.protocol.stages, realisation.stage_states(self.protocol.stages), strict=True):
                states = group.setdefault(stage.kind, {"done": 0, "failed": 0, "pending": 0})
                states[state] += 1
        return counts

    def failures(self) -> list[tuple[Realisation, Failure]]:
        """The realisations that failed, each with its reason."""
        return [
            (realisation, failure)
            for realisation in self.realisations
            for stage, state in zip(self.protocol.stages, realisation.stage_states(self.protocol.stages), strict=True)
            if state == "failed" and (failure := realisation.failure(stage))
        ]

    @cached_property
    def claims(self) -> Claims:
        """Who is at work at which realisation."""
        return Claims(self.directory / ".claims")

    def running(self) -> dict[str, str]:
        """What the processes at work said last, by the id of their realisation.

        Those of other machines have the machine's name.
        """
        lines = {}
        for name, holder in sorted(self.claims.live().items()):
            path = self.running_directory / name
            with suppress(OSError, ValueError):
                line = path.read_text(encoding="utf-8").strip()
                lines[name] = line if holder.get("place") == place() else f"{line} on {holder.get('host', 'another machine')}"
        return lines

    @property
    def running_directory(self) -> Path:
        """Where each process at work keeps a file with its latest line, named after its realisation."""
        return self.directory / ".running"


@contextmanager
def writing(directory: Path) -> Iterator[None]:
    """Turn the system's errors on writing to the folder of a run into ours.

    Raises:
        InputError: if it cannot be written to.
        StorageFull: if the disk is full, or a quota is reached.
    """
    try:
        yield
    except OSError as error:
        full = storage_problem(error, directory)
        if full is not None:
            raise full from error
        raise InputError(
            f"{directory} cannot be written to ({error.strerror or error}); expected a folder of your own."
        ) from error


def left_out_of(directory: Path) -> dict[str, frozenset[str]]:
    """The files that were no part of the archive which `qlm import` laid down in ``directory``, by realisation.

    Of a workspace that was not imported, nothing.
    """
    if not (directory / IMPORTED).exists():
        return {}
    try:
        entries = {str(entry["id"]): map(str, entry["files"]) for entry in read_json(directory / REALISATIONS)}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {
        name: frozenset(file for file in files if not (directory / "workspace" / name / file).exists())
        for name, files in entries.items()
        if is_plain_name(name)
    }


def former_protocol(directory: Path) -> Protocol | None:
    """The protocol that was run last in ``directory``; None where there is none, or none that this program can read."""
    try:
        return Workspace.open(directory).protocol
    except InputError:
        return None


def _stored(directory: Path) -> tuple[Any, Path]:
    """What ``protocol.json`` holds, and where it is.

    Raises:
        InputError: if it cannot be read.
    """
    path = directory / "protocol.json"
    try:
        return read_json(path), path
    except (OSError, ValueError):
        raise InputError(f"{directory} holds no readable protocol.json; expected a folder that `qlm run` made.") from None


def _write_configuration(path: Path) -> None:
    """What makes the folder a signac project, in one step: signac's own function fails where two processes begin at once."""
    if not path.is_file() or not path.stat().st_size:
        path.parent.mkdir(exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text("schema_version = 2\n", encoding="ascii")


def _write_statepoint(realisation: Realisation) -> None:
    """Write the state point where it is not there, or not whole: other processes may read it at any time."""
    path = realisation.directory / "signac_statepoint.json"
    try:
        if read_json(path) == realisation.statepoint:
            return
    except (OSError, ValueError):
        pass
    realisation.directory.mkdir(parents=True, exist_ok=True)
    # Not flushed to the disk, as a product is: there are thousands, and a lost one is written again by the next run.
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(realisation.statepoint), encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
