"""The folder of a run: one signac job per realisation, and a status that is read from files alone."""

from __future__ import annotations

import json
import traceback
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from qlm_hoomd.errors import InputError
from qlm_hoomd.protocol import Protocol, build_protocol, stage_kind
from qlm_hoomd.stages import replacing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from qlm_hoomd.stages import Stage

State = Literal["done", "failed", "pending"]
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
        return cls(stage_kind(stage), type(error).__name__, str(error), "".join(traceback.format_exception(error)))


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run of a realisation ended.

    Args:
        id: id of the realisation.
        seconds: wall time of the call.
        failure: why it failed, or None.
    """

    id: str
    seconds: float
    failure: Failure | None = None


@dataclass(frozen=True)
class Realisation:
    """One realisation: its folder and its state point. All truth about it is in the folder."""

    directory: Path
    statepoint: Mapping[str, Any]

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

    def is_done(self, stage: Stage) -> bool:
        """Whether all products of ``stage`` are there."""
        return all((self.directory / product).is_file() for product in stage.products())

    def failure(self, stage: Stage) -> Failure | None:
        """The record of a failure of ``stage``, or None."""
        try:
            return Failure(**json.loads(self._record(stage).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            return Failure(stage_kind(stage), type(error).__name__, f"the record of the failure cannot be read: {error}")

    def stage_state(self, stage: Stage) -> State:
        """Done if the products are there, failed if a record says so, else pending."""
        if self.is_done(stage):
            return "done"
        return "failed" if self._record(stage).is_file() else "pending"

    def state(self, protocol: Protocol) -> State:
        """Done if all stages are, failed if one of them is, else pending."""
        states = [self.stage_state(stage) for stage in protocol.stages]
        if all(state == "done" for state in states):
            return "done"
        return "failed" if "failed" in states else "pending"

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
            return dict(json.loads((self.directory / COSTS).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return {}

    def record_cost(self, stage: Stage, cpu_s: float, wall_s: float) -> None:
        """Write what ``stage`` took to :data:`COSTS`, which is no product: it differs from run to run."""
        costs = self.costs() | {stage_kind(stage): {"cpu_s": round(cpu_s, 3), "wall_s": round(wall_s, 3)}}
        with replacing(self.directory / COSTS) as temporary:
            temporary.write_text(json.dumps(costs, indent=2) + "\n", encoding="utf-8")

    def _record(self, stage: Stage) -> Path:
        return self.directory / "failed" / f"{stage_kind(stage)}.json"


@dataclass(frozen=True)
class Workspace:
    """The folder of a run.

    A folder may hold realisations of several protocols side by side (their state points carry the protocol's hash). The
    protocol that was run last is stored as ``protocol.json``, and only its realisations are run, shown and reported.

    Args:
        directory: the folder.
        protocol: the protocol that was run in it last.
    """

    directory: Path
    protocol: Protocol

    @classmethod
    def create(cls, protocol: Protocol, directory: Path) -> Workspace:
        """The workspace in ``directory`` with a job for every realisation of ``protocol``; what exists is kept.

        Raises:
            InputError: if the folder cannot be written to, or holds a signac project of another version.
        """
        import signac

        with _writing(directory):
            configuration = directory / ".signac" / "config"
            if configuration.is_file() and not configuration.stat().st_size:
                configuration.unlink()  # a process that was killed here left it empty, which signac takes for an old version
            try:
                project = signac.init_project(str(directory))
            except (signac.errors.Error, ValueError) as error:
                fact = str(error).splitlines()[0]
                raise InputError(
                    f"{directory} is no signac project of ours ({fact}); expected a new folder, or one of qlm."
                ) from error
            for statepoint in protocol.statepoints():
                # Forced: a state point that a killed process left half-written is written again.
                project.open_job(statepoint).init(force=True)
            with replacing(directory / "protocol.json") as temporary:
                temporary.write_text(protocol.canonical(), encoding="utf-8")
        return cls(directory, protocol)

    @classmethod
    def open(cls, directory: Path) -> Workspace:
        """The workspace that an earlier ``qlm run`` made.

        Raises:
            InputError: if there is none, or its protocol needs a plugin that is gone.
        """
        path = directory / "protocol.json"
        try:
            settings = json.loads(path.read_text(encoding="utf-8"))
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
            InputError: if there is none, or it belongs to another protocol than the one in ``protocol.json``.
        """
        directory = self.directory / "workspace" / job_id
        try:
            statepoint = json.loads((directory / "signac_statepoint.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise InputError(
                f"{directory} holds no readable state point; expected a realisation that `qlm run` made."
            ) from None
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
            for stage in self.protocol.stages:
                states = group.setdefault(stage_kind(stage), {"done": 0, "failed": 0, "pending": 0})
                states[realisation.stage_state(stage)] += 1
        return counts

    def failures(self) -> list[tuple[Realisation, Failure]]:
        """The realisations that failed, each with its reason."""
        return [
            (realisation, failure)
            for realisation in self.realisations
            for stage in self.protocol.stages
            if not realisation.is_done(stage) and (failure := realisation.failure(stage))
        ]

    def running(self) -> dict[str, str]:
        """What the processes at work said last, by the id of their realisation."""
        lines = {}
        for path in sorted(self.running_directory.glob("*")):
            with suppress(OSError):
                lines[path.name] = path.read_text(encoding="utf-8").strip()
        return lines

    @property
    def running_directory(self) -> Path:
        """Where each process at work keeps a file with its latest line, named after its realisation."""
        return self.directory / ".running"


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold ``directory`` against another run; a lock dies with its process.

    Raises:
        InputError: if another process holds it, or the folder cannot be written to.
    """
    from filelock import FileLock, Timeout

    with _writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        lock = FileLock(directory / ".lock", blocking=False)
        try:
            lock.acquire()
        except Timeout:
            raise InputError(
                f"another `qlm run` is at work in {directory}; wait until it ends, or choose another folder with --out."
            ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _writing(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{directory} cannot be written to ({error.strerror or error}); expected a folder of your own."
        ) from error
