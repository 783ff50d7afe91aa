"""The folder of a run: one signac job per realisation, and a status that is read from files alone."""

from __future__ import annotations

import errno
import json
import math
import os
import socket
import traceback
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from qlm_hoomd.base.display import Displayed, in_words
from qlm_hoomd.base.errors import InputError
from qlm_hoomd.base.files import read_json, replacing
from qlm_hoomd.ensemble import growth, integrity
from qlm_hoomd.ensemble.claims import Claims, place
from qlm_hoomd.protocol import Protocol, build_protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from qlm_hoomd.stages.base import Stage

State = Literal["done", "failed", "pending"]
IMPORTED = "imported.json"
"""In a folder that `qlm import` made: where its tables come from."""
COSTS = "costs.json"
"""In the folder of a realisation: the time that each of its stages took."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a stage of a realisation failed, as ``failed/<stage>.json`` keeps it.

    Args:
        stage: kind of the stage.
        error: class of the error.
        message: what it said.
        traceback: where it was raised; empty if the process died.
    """

    stage: str
    error: str
    message: str
    traceback: str = ""

    @classmethod
    def of(cls, stage: Stage, error: BaseException) -> Failure:
        """The failure of ``stage`` by ``error``."""
        return cls(stage.kind, type(error).__name__, str(error), "".join(traceback.format_exception(error)))


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run of a realisation ended.

    Args:
        id: id of the realisation.
        seconds: wall time of the call.
        failure: why it failed, or None.
        elsewhere: whether nothing was done, as another process is at work at it.
    """

    id: str
    seconds: float
    failure: Failure | None = None
    elsewhere: bool = False


@dataclass(frozen=True, repr=False)
class Realisation(Displayed):
    """One realisation: its folder and its state point. All truth about it is in the folder."""

    directory: Path
    statepoint: Mapping[str, Any]

    def _headline(self) -> str:
        return f"{self.label} in {self.directory}"

    def _facts(self) -> Mapping[str, Any]:
        return self.statepoint

    @property
    def id(self) -> str:
        """The signac job id, which is the name of the folder."""
        return self.directory.name

    @property
    def n_particles(self) -> int:
        """Number of particles."""
        return int(self.statepoint["n_particles"])

    @property
    def label(self) -> str:
        """Name for people, e.g. ``N=500 rapid #3``."""
        return f"N={self.n_particles} {self.statepoint['preparation']} #{self.statepoint['realisation']}"

    def is_recorded(self, stages: Sequence[Stage]) -> bool:
        """Whether there are checksums of all products of these stages."""
        try:
            known = read_json(self.directory / integrity.CHECKSUMS)
        except (OSError, ValueError):
            return False
        return isinstance(known, dict) and known.keys() >= {product for stage in stages for product in stage.products()}

    def is_done(self, stage: Stage) -> bool:
        """Whether all products of ``stage`` are there."""
        return all((self.directory / product).is_file() for product in stage.products())

    def checkpoint(self, stage: Stage) -> Path:
        """Where ``stage`` saves its state while it is at work."""
        return self.directory / f".{stage.kind}.checkpoint"

    def failure(self, stage: Stage) -> Failure | None:
        """The record of a failure of ``stage``, or None."""
        try:
            content = read_json(self._record(stage))
            return Failure(**{str(name): str(text) for name, text in content.items()})
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, AttributeError) as error:
            return Failure(stage.kind, type(error).__name__, f"the record of the failure cannot be read: {error}")

    def stage_state(self, stage: Stage) -> State:
        """Done if the products are there, failed if a record says so, else pending."""
        return self.stage_states((stage,))[0]

    def stage_states(self, stages: Sequence[Stage]) -> list[State]:
        """The state of each stage, from one look at the folder: there may be thousands of them on a slow disk."""
        files, folders = _file_names(self.directory)
        records = _file_names(self.directory / "failed")[0] if "failed" in folders else frozenset()
        return [
            "done"
            if all(product in files for product in stage.products())
            else "failed"
            if f"{stage.kind}.json" in records
            else "pending"
            for stage in stages
        ]

    def state(self, protocol: Protocol) -> State:
        """Done if all stages are, failed if one of them is, else pending."""
        states = self.stage_states(protocol.stages)
        if all(state == "done" for state in states):
            return "done"
        return "failed" if "failed" in states else "pending"

    def first_failure(self, protocol: Protocol) -> Failure | None:
        """The record of the first stage that failed and is not done, or None."""
        states = zip(protocol.stages, self.stage_states(protocol.stages), strict=True)
        return next((self.failure(stage) for stage, state in states if state == "failed"), None)

    def record_failure(self, stage: Stage, failure: Failure) -> None:
        """Write ``failed/<stage>.json``."""
        record = self._record(stage)
        record.parent.mkdir(exist_ok=True)
        with replacing(record) as temporary:
            temporary.write_text(json.dumps(asdict(failure), indent=2) + "\n", encoding="utf-8")

    def forget_failure(self, stage: Stage) -> None:
        """Remove the record of a failure that is overcome."""
        record = self._record(stage)
        record.unlink(missing_ok=True)
        with suppress(OSError):  # not there, or other stages have records in it
            record.parent.rmdir()

    def costs(self) -> dict[str, dict[str, float]]:
        """What each stage took, ``cpu_s`` and ``wall_s`` [s], by its kind; stages of which nothing is known are left out."""
        try:
            content = read_json(self.directory / COSTS)
            return {kind: {clock: _seconds(spent[clock]) for clock in ("cpu_s", "wall_s")} for kind, spent in content.items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return {}

    def record_cost(self, stage: Stage, cpu_s: float, wall_s: float) -> None:
        """Write what ``stage`` took to :data:`COSTS`, which is no product: it differs from run to run."""
        costs = self.costs() | {stage.kind: {"cpu_s": round(cpu_s, 3), "wall_s": round(wall_s, 3)}}
        with replacing(self.directory / COSTS) as temporary:
            temporary.write_text(json.dumps(costs, indent=2) + "\n", encoding="utf-8")

    def _record(self, stage: Stage) -> Path:
        return self.directory / "failed" / f"{stage.kind}.json"


@dataclass(frozen=True, repr=False)
class Workspace(Displayed):
    """The folder of a run.

    A folder may hold realisations of several protocols side by side (their state points carry the protocol's hash), where that
    was asked for or the later one grew out of the earlier. The protocol that was run last is stored as ``protocol.json``, and
    only its realisations are run, shown and reported.

    Args:
        directory: the folder.
        protocol: the protocol that was run in it last.
    """

    directory: Path
    protocol: Protocol

    def _headline(self) -> str:
        return f"{in_words(self.protocol)}, in {self.directory}"

    def _facts(self) -> Mapping[str, Any]:
        return {"hash": self.protocol.hash, "stages": tuple(stage.kind for stage in self.protocol.stages)}

    @classmethod
    def create(cls, protocol: Protocol, directory: Path, *, alongside: bool = False) -> Workspace:
        """The workspace in ``directory`` with a folder for every realisation of ``protocol``; what exists is kept.

        Args:
            protocol: what is to be run.
            directory: the folder; it may hold a run already, and others may be at work in it.
            alongside: whether a protocol of other physics may be put beside the one that the folder holds.

        Raises:
            InputError: if the folder cannot be written to, holds a signac project of another version, imported tables, or a
                protocol of other physics.
            StorageFull: if the disk is full, or a quota is reached.
        """
        import signac

        former = former_protocol(directory)
        if former is not None and former.hash != protocol.hash:
            growth.check(former, protocol, directory, alongside=alongside)
        with _writing(directory):
            if (directory / IMPORTED).exists():
                raise InputError(
                    f"{directory} holds imported tables; expected another folder for a run: choose one with --out."
                )
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
            workspace = cls(directory, protocol)
            for realisation in workspace.realisations:
                _write_statepoint(realisation)
            if former is not None and former.hash != protocol.hash:
                growth.take_over(cls(directory, former), workspace)
            content = protocol.canonical().encode()
            stored = directory / "protocol.json"
            if not stored.is_file() or stored.read_bytes() != content:
                with replacing(stored) as temporary:
                    temporary.write_bytes(content)
        return workspace

    @classmethod
    def open(cls, directory: Path) -> Workspace:
        """The workspace that an earlier ``qlm run`` made.

        Raises:
            InputError: if there is none, or its protocol needs a plugin that is gone.
        """
        path = directory / "protocol.json"
        try:
            settings = read_json(path)
        except (OSError, ValueError):
            raise InputError(f"{directory} holds no readable protocol.json; expected a folder that `qlm run` made.") from None
        return cls(directory, build_protocol(settings, path=path))

    @cached_property
    def realisations(self) -> list[Realisation]:
        """The realisations of the protocol, by size, preparation and index."""
        from signac.job import calc_id

        workspace = self.directory / "workspace"
        return [Realisation(workspace / calc_id(statepoint), statepoint) for statepoint in self.protocol.statepoints()]

    def realisation(self, job_id: str) -> Realisation:
        """The realisation with that id.

        Raises:
            InputError: if there is none, its state point is not its own, or it belongs to another protocol than the one in ``protocol.json``.
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
        """What the processes at work said last, by the id of their realisation; those of other machines have the machine's name."""
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
def _writing(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = integrity.storage_problem(error, directory)
        if full is not None:
            raise full from error
        raise InputError(
            f"{directory} cannot be written to ({error.strerror or error}); expected a folder of your own."
        ) from error


def former_protocol(directory: Path) -> Protocol | None:
    """The protocol that was run last in ``directory``; None where there is none, or none that this program can read."""
    try:
        return Workspace.open(directory).protocol
    except InputError:
        return None


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


def _seconds(value: Any) -> float:
    try:
        seconds = float(value)
    except OverflowError as error:
        raise ValueError("no time") from error
    if not 0.0 <= seconds < math.inf:
        raise ValueError("no time")
    return seconds


def _file_names(folder: Path) -> tuple[frozenset[str], frozenset[str]]:
    """Names of the files in a folder, and of the folders; nothing where there is no folder."""
    files: set[str] = set()
    folders: set[str] = set()
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            (files if entry.is_file() else folders).add(entry.name)
    return frozenset(files), frozenset(folders)
