"""One realisation of a run: its folder, what its stages made there, and what went wrong."""

from __future__ import annotations

import hashlib
import json
import math
import os
import traceback
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from qlm_hoomd.base.display import Displayed
from qlm_hoomd.base.files import is_plain_name, read_json, replacing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from qlm_hoomd.protocol import Protocol
    from qlm_hoomd.stages.base import Stage

State = Literal["done", "failed", "pending"]
CHECKSUMS = "checksums.json"
"""In the folder of a realisation: SHA-256, size, stage and code of every file that its stages wrote."""
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
    """One realisation. All truth about it is in its folder.

    Args:
        directory: the folder.
        statepoint: ``protocol_hash``, ``n_particles``, ``preparation``, ``seed``, ``realisation``, ...
        left_out: of one that `qlm import` laid down the files that are no part of an archive: they count as products that are
            there.
    """

    directory: Path
    statepoint: Mapping[str, Any]
    left_out: frozenset[str] = frozenset()

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
    def key(self) -> tuple[str, int, int]:
        """(preparation, N, index): what rows in the tables of all realisations are known by."""
        return str(self.statepoint["preparation"]), self.n_particles, int(self.statepoint["realisation"])

    @property
    def label(self) -> str:
        """Name for people, e.g. ``N=500 rapid #3``."""
        return f"N={self.n_particles} {self.statepoint['preparation']} #{self.statepoint['realisation']}"

    def checksums(self) -> dict[str, dict[str, Any]]:
        """What is recorded of the files here, by name.

        ``sha256``, ``bytes``, ``stage``, ``version`` and ``code``; ``inputs``, the SHA-256 of each file that the stage
        required, by name, is missing in records of versions that did not keep it.

        Raises:
            ValueError: if the record cannot be read.
        """
        try:
            content = read_json(self.directory / CHECKSUMS)
        except FileNotFoundError:
            return {}
        if not isinstance(content, dict) or not all(
            # `qlm verify --set-aside` renames files by these names: none may lead out of the folder.
            is_plain_name(name)
            and isinstance(entry, dict)
            and isinstance(entry.get("sha256"), str)
            and isinstance(entry.get("bytes"), int)
            for name, entry in content.items()
        ):
            raise ValueError("not a record of checksums")
        return content

    @property
    def recorded(self) -> dict[str, dict[str, Any]]:
        """:meth:`checksums`; nothing where the record cannot be read."""
        try:
            return self.checksums()
        except (OSError, ValueError):
            return {}

    def files_of(self, kind: str) -> tuple[str, ...]:
        """The files that the stage ``kind`` is recorded to have written."""
        return tuple(name for name, entry in self.recorded.items() if entry.get("stage") == kind)

    def is_recorded(self, stages: Sequence[Stage]) -> bool:
        """Whether there are checksums of all products of these stages."""
        return self.recorded.keys() >= {product for stage in stages for product in stage.products()}

    def is_done(self, stage: Stage) -> bool:
        """Whether all products of ``stage`` are there, and none is :meth:`outdated`."""
        return self.stage_states((stage,))[0] == "done"

    def has(self, product: str) -> bool:
        """Whether the file of that name is there."""
        return (self.directory / product).is_file()

    def made_from_others(self, product: str, known: Mapping[str, Mapping[str, Any]] | None = None) -> tuple[str, ...]:
        """The files from which ``product`` was made and that others have replaced since; none where its record does not tell.

        Args:
            product: name of the file.
            known: what :attr:`recorded` gave; by default it is read.
        """
        known = self.recorded if known is None else known
        inputs = known.get(product, {}).get("inputs")
        if not isinstance(inputs, dict):
            return ()
        # The record first: it is there for nothing, and a file that somebody exchanged by hand is no reason to do the same work
        # twice.
        return tuple(
            name
            for name, digest in inputs.items()
            if name in known
            and known[name]["sha256"] != digest
            and not (self.has(name) and sha256(self.directory / name) == digest)
        )

    def products_of(self, stage: Stage, known: Mapping[str, Mapping[str, Any]] | None = None) -> tuple[str, ...]:
        """The products of ``stage``; of one that cannot tell, what is recorded as its own (:class:`AbsentStage`).

        Args:
            stage: the stage.
            known: what :attr:`recorded` gave; by default it is read.
        """
        if products := stage.products():
            return products
        known = self.recorded if known is None else known
        return tuple(name for name, entry in known.items() if entry.get("stage") == stage.kind)

    def outdated(self, stage: Stage, known: Mapping[str, Mapping[str, Any]] | None = None) -> tuple[str, ...]:
        """The files that ``stage`` read and that others have replaced since: its products are those of something else.

        Args:
            stage: the stage.
            known: what :attr:`recorded` gave; by default it is read.
        """
        if stage.products() and not stage.requires():
            return ()
        known = self.recorded if known is None else known
        products = self.products_of(stage, known)
        return tuple(dict.fromkeys(name for product in products for name in self.made_from_others(product, known)))

    def has_products(self, stage: Stage) -> bool:
        """Whether all products of ``stage`` are there, whatever they were made from."""
        return all(map(self.has, stage.products()))

    def checkpoint(self, stage: Stage) -> Path:
        """Where ``stage`` saves its state while it is at work."""
        return self.directory / f".{stage.kind}.checkpoint"

    def failure(self, stage: Stage) -> Failure | None:
        """The record of a failure of ``stage``, or None."""
        return _failure(self._record(stage))

    def failures(self) -> tuple[Failure, ...]:
        """The records of all failures, by stage."""
        records = sorted((self.directory / "failed").glob("*.json"))
        return tuple(failure for record in records if (failure := _failure(record)) is not None)

    def stage_states(self, stages: Sequence[Stage]) -> list[State]:
        """The state of each stage: done if the products are there and not outdated, failed if a record says so, else pending.

        From one look at the folder: there may be thousands of them on a slow disk.
        """
        files, folders = _file_names(self.directory)
        files |= self.left_out
        asked = any(stage.requires() or not stage.products() for stage in stages)
        known = self.recorded if CHECKSUMS in files and asked else {}
        records = _file_names(self.directory / "failed")[0] if "failed" in folders else frozenset()
        return [
            "done"
            if (products := self.products_of(stage, known)) and files.issuperset(products) and not self.outdated(stage, known)
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


def sha256(path: Path) -> str:
    """SHA-256 of a file of any size, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _failure(record: Path) -> Failure | None:
    """What the record of a failure says; None where there is none."""
    try:
        content = read_json(record)
        return Failure(**{str(name): str(text) for name, text in content.items()})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        return Failure(record.stem, type(error).__name__, f"the record of the failure cannot be read: {error}")


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
