"""Runs the stages of realisations, in any process, any number of times: what is done is skipped, what failed is tried again."""

from __future__ import annotations

import json
import logging
import os
import re
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel

from qlm_hoomd.base.checkpoint import Checkpoint, interval_from_environment
from qlm_hoomd.base.errors import InputError, PluginError
from qlm_hoomd.base.files import read_json, replacing, storage_named, storage_problem
from qlm_hoomd.base.interrupt import listening, stop_if_requested
from qlm_hoomd.base.provenance import code_fingerprint, machine, provenance, versions
from qlm_hoomd.base.settings import for_hash
from qlm_hoomd.ensemble import growth, integrity
from qlm_hoomd.ensemble.claims import remove_leftovers
from qlm_hoomd.ensemble.progress import Progress
from qlm_hoomd.ensemble.realisation import Failure, Outcome
from qlm_hoomd.ensemble.workspace import Workspace, former_protocol
from qlm_hoomd.model import Preparation
from qlm_hoomd.stages.base import StageContext

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from qlm_hoomd.ensemble.claims import Claim
    from qlm_hoomd.ensemble.executor import Executor
    from qlm_hoomd.ensemble.realisation import Realisation
    from qlm_hoomd.protocol import Protocol
    from qlm_hoomd.stages.base import Stage

_SECONDS_BETWEEN_LINES = 1.0
_SECONDS_BETWEEN_LOOKS = 1.0
_log = logging.getLogger(__name__)


def run_protocol(protocol: Protocol, directory: Path, executor: Executor, *, alongside: bool = False) -> Workspace:
    """Run all realisations of ``protocol`` that are not done, in ``directory``, the largest first. Running again resumes.

    Others may be at work in the folder at the same time, on this machine or on others that share it: each realisation is
    computed once, and all of them end when everything has ended.

    Args:
        protocol: what is to be run.
        directory: the folder.
        executor: where realisations run.
        alongside: whether the folder may hold realisations of other physics too.

    Returns:
        The workspace, from which the outcome is read.

    Raises:
        InputError: if the engine is not installed, a variable of the environment is wrong, or the folder cannot be written to
            or holds other physics.
        StorageFull: if the disk is full, or a quota is reached.
    """
    if executor.checkpoint_interval is None:
        interval_from_environment()
    check_folder(protocol, directory)
    if executor.runs_here:
        protocol.engine.build(protocol.model)
    workspace = growth.begin(protocol, directory, alongside=alongside)
    with storage_named(directory):
        note_code(workspace)
        workspace.claims.sweep()
        for pattern in (".*.tmp", "workspace/*/.*.tmp", "workspace/*/failed/.*.tmp"):
            remove_leftovers(directory.glob(pattern))
        left = workspace.claims.left()
        for leftover in workspace.running_directory.glob("*"):
            if leftover.name not in left:
                leftover.unlink(missing_ok=True)
        # The largest first, so that no worker is left alone with a long one at the end.
        unfinished = sorted(
            (each for each in workspace.realisations if _is_unfinished(each, protocol, left)),
            key=lambda realisation: -realisation.n_particles,
        )
        with Progress(workspace, unfinished) as progress:
            if unfinished:
                work_through(workspace, [realisation.id for realisation in unfinished], executor, progress.finished)
    return workspace


def check_folder(protocol: Protocol, directory: Path) -> None:
    """Refuse a folder in which ``protocol`` cannot be run now.

    Raises:
        InputError: if its name is no UTF-8, or others are at work in it for another protocol: theirs would be taken from them.
    """
    try:
        str(directory).encode()
    except UnicodeEncodeError:
        name = str(directory).encode(errors="replace").decode()
        raise InputError(
            f"folder {name}: its name is no UTF-8; expected one that is, as GSD files have no other names."
        ) from None
    former = former_protocol(directory)
    if former is not None and former.hash != protocol.hash and (held := Workspace(directory, former).claims.live()):
        holder = next(iter(held.values()))
        raise InputError(
            f"{directory}: others are at work in it for protocol {former.name} with other stages, model or engine ({len(held)} "
            f"realisations, e.g. process {holder.get('pid')} on {holder.get('host')}). Expected that they have ended: wait, or "
            "stop them first; they save their state."
        )


def work_through(
    workspace: Workspace, ids: Sequence[str], executor: Executor, finished: Callable[[Outcome], None], *, wait: bool = True
) -> None:
    """Run realisations; those that another process is at work at are waited for, and run if it dies or stops.

    Args:
        workspace: the folder of the run.
        ids: the realisations.
        executor: where they run.
        finished: called for every realisation that ends, here or elsewhere.
        wait: whether to wait for the end of those that others are at work at. If not, they are left alone as soon as it is
            certain that the others live; finding out that one on another machine is dead takes some minutes.
    """
    busy: list[str] = []

    def take_note(outcome: Outcome) -> None:
        if outcome.elsewhere:
            busy.append(outcome.id)
        else:
            finished(outcome)

    executor.run(workspace.directory, ids, take_note)
    while busy:
        states = workspace.claims.states()
        free: list[str] = []
        for job_id in tuple(busy):
            state = states.get(job_id, "free")
            if state == "unknown" or (state == "alive" and wait):
                continue
            busy.remove(job_id)
            if state == "alive":
                continue
            realisation = workspace.realisation(job_id)
            failure = realisation.first_failure(workspace.protocol) if state == "free" else None
            if failure is not None or (state == "free" and realisation.state(workspace.protocol) == "done"):
                finished(Outcome(job_id, 0.0, failure))
                continue
            if state == "void" and (claim := workspace.claims.take(job_id)) is not None:
                claim.release()  # only who watched it for long knows that it is void
            free.append(job_id)
        if free:
            executor.run(workspace.directory, free, take_note)
        elif busy:
            time.sleep(_SECONDS_BETWEEN_LOOKS)


def _is_unfinished(realisation: Realisation, protocol: Protocol, left: set[str]) -> bool:
    """Whether there is anything to do for a realisation.

    Looked at again, and recorded, are also those whose last product is there: those of which a dead process left a claim, for
    it did not bring them to their end, and those without all their checksums, as the disk was full when the last ones were to
    be written, or as they were made before there were any.
    """
    return realisation.id in left or realisation.state(protocol) != "done" or not realisation.is_recorded(protocol.stages)


def run_chunk(directory: Path, ids: Sequence[str], executor: Executor, say: Callable[[str], None]) -> int:
    """Run these realisations of the run in ``directory``, and say how each ended: the work of a scheduler's task.

    Args:
        directory: folder of the run.
        ids: the realisations.
        executor: where they run.
        say: takes a line for each.

    Returns:
        Number of those that failed.

    Raises:
        InputError: if one is none of the run's, or the engine is not installed.
        StorageFull: if the disk is full, or a quota is reached.
    """
    workspace = Workspace.open(directory)
    left = workspace.claims.left()
    realisations = [workspace.realisation(_checked_id(job_id)) for job_id in dict.fromkeys(ids)]
    labels = {each.id: each.label for each in realisations if _is_unfinished(each, workspace.protocol, left)}
    if len(labels) < len(realisations):
        say(f"{len(realisations) - len(labels)} of {len(realisations)} realisations were done before")
    workspace.protocol.engine.build(workspace.protocol.model)
    failed: list[str] = []

    def finished(outcome: Outcome) -> None:
        label = labels.pop(outcome.id)
        if outcome.failure is None:
            say(f"done: {label} in {outcome.seconds:.1f} s")
        else:
            failed.append(outcome.id)
            say(f"failed: {label}, stage {outcome.failure.stage}: {outcome.failure.error}: {outcome.failure.message}")

    with storage_named(directory):
        note_code(workspace)
        work_through(workspace, list(labels), executor, finished, wait=False)
    for label in labels.values():
        say(f"left alone, as another process is at work at it: {label}")
    return len(failed)


def _checked_id(job_id: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{32}", job_id):
        raise InputError(f"'{job_id[:100]}' is no id of a realisation; expected the name of a folder in workspace/.")
    return job_id


def run_realisation(directory: Path, job_id: str, checkpoint_interval: float | None = None) -> Outcome:
    """Run the stages of one realisation that are not done, in order, up to the first that fails.

    The realisation is claimed first; if another process is at work at it, nothing is done. A failure of any kind is recorded in
    ``failed/<stage>.json``; it is removed when a later attempt succeeds. Log messages and warnings of the stages go to
    ``log.txt``.

    Where a signal asks for it, the stage at work saves its state and ends (:mod:`qlm_hoomd.base.interrupt`), and the next call
    goes on from there.

    Args:
        directory: folder of the run.
        job_id: id of the realisation.
        checkpoint_interval: seconds between two checkpoints of a stage; None for what the environment says.

    Raises:
        StorageFull: if the disk is full, or a quota is reached.
        Interrupted: if a signal asked this process to stop.
    """
    start = time.monotonic()
    interval = interval_from_environment() if checkpoint_interval is None else checkpoint_interval
    workspace = Workspace.open(directory)
    realisation = workspace.realisation(job_id)
    with storage_named(directory):
        claim = workspace.claims.take(job_id)
        if claim is None:
            return Outcome(job_id, 0.0, elsewhere=True)
        with claim, listening():
            for pattern in (".*.tmp", "failed/.*.tmp"):
                for leftover in realisation.directory.glob(pattern):
                    leftover.unlink(missing_ok=True)
            with _logged(realisation.directory / "log.txt"), _LatestLine(workspace, realisation) as latest:
                failure = _run_stages(workspace.protocol, realisation, latest, claim, interval)
            stop_if_requested()
            return Outcome(job_id, time.monotonic() - start, failure, elsewhere=claim.lost)


def record_death(directory: Path, job_id: str, message: str) -> Outcome:
    """Record that the process of a realisation died in the stage that it was at.

    If it died when all products were there, what it had not come to is done here: their checksums, and the end of old records.
    """
    workspace = Workspace.open(directory)
    realisation = workspace.realisation(job_id)
    claim = workspace.claims.take(job_id)
    if claim is None:  # another run went on with it
        return Outcome(job_id, 0.0, elsewhere=True)
    with claim:
        stages = workspace.protocol.stages
        code = code_of(workspace.protocol)
        stage = next(
            (each for each in stages if not (realisation.is_done(each) and integrity.adopt(realisation, each, stages, code))),
            None,
        )
        if stage is None:
            for each in stages:
                Checkpoint(realisation.checkpoint(each)).discard()
                realisation.forget_failure(each)
            return Outcome(job_id, 0.0)
        failure = Failure(stage.kind, "ProcessDied", message)
        realisation.record_failure(stage, failure)
        (workspace.running_directory / job_id).unlink(missing_ok=True)
        return Outcome(job_id, 0.0, failure)


def code_of(protocol: Protocol) -> str:
    """Fingerprint of the code that makes the numbers of ``protocol``, plugins included."""
    packages: set[str] = set()

    def visit(model: BaseModel) -> None:
        packages.add(type(model).__module__.partition(".")[0])
        for name in type(model).model_fields:
            value = getattr(model, name)
            for part in value if isinstance(value, tuple) else (value,):
                if isinstance(part, BaseModel):
                    visit(part)

    visit(protocol)
    return code_fingerprint(tuple(sorted(packages)))


def note_code(workspace: Workspace) -> None:
    """Note which code is at work in the folder, and warn if another of the same version was before: it was edited in between."""
    code = code_of(workspace.protocol)
    folder = workspace.directory / ".codes"
    folder.mkdir(exist_ok=True)
    if not (folder / code).is_file():
        with replacing(folder / code) as temporary:
            temporary.write_text(json.dumps(versions(), sort_keys=True) + "\n", encoding="utf-8")
    others = 0
    for path in folder.glob("[0-9a-f]*"):
        with suppress(OSError, ValueError, AttributeError):
            same = read_json(path).get("qlm_hoomd") == versions()["qlm_hoomd"]
            others += same and path.name != code
    if others:
        _log.warning(
            "qlm: note: the code was edited since %s was begun, and its version is still %s: results of both will stand "
            "side by side; `qlm verify` counts them.",
            workspace.directory,
            versions()["qlm_hoomd"],
        )


def _run_stages(
    protocol: Protocol, realisation: Realisation, latest: _LatestLine, claim: Claim, checkpoint_interval: float
) -> Failure | None:
    code = code_of(protocol)
    stages = protocol.stages
    # All of them before the first is run: what is made anew below is not what those that are done were made from.
    whole = [realisation.has_products(stage) and integrity.adopt(realisation, stage, stages, code) for stage in stages]
    for stage, is_whole in zip(stages, whole, strict=True):
        if claim.lost:
            return None
        checkpoint = Checkpoint(realisation.checkpoint(stage))
        outdated = realisation.outdated(stage)
        if outdated:
            _log.warning("stage %s is run again: %s is not the file that it was made from.", stage.kind, " and ".join(outdated))
        if not is_whole or outdated:
            stop_if_requested()
            latest.stage = stage.kind
            latest.say("started")
            try:
                integrity.clear(realisation, stage, stages)
                # A new engine for every stage: what one keeps between calls must not make a resumed run differ in its last
                # digits.
                context = _context(protocol, realisation, latest)
                inputs = integrity.inputs_of(realisation, stage)
                key = _key(protocol, stage, context, code, inputs)
                checkpoint = Checkpoint(realisation.checkpoint(stage), key, checkpoint_interval)
                stage.run(replace(context, checkpoint=checkpoint))
                _check_products(stage, context)
                integrity.record(realisation, stage, stages, code, inputs)
                realisation.record_cost(stage, *checkpoint.cost)
            except Exception as error:  # (a stage may be a stranger's: whatever it raises costs this realisation alone)
                if storage_problem(error, realisation.directory) is not None:
                    raise
                if not isinstance(error, (OSError, MemoryError)):
                    # It leads here: the next attempt begins anew.
                    checkpoint.discard()
                failure = Failure.of(stage, error)
                realisation.record_failure(stage, failure)
                return failure
        checkpoint.discard()
        realisation.forget_failure(stage)
    return None


def _key(protocol: Protocol, stage: Stage, context: StageContext, code: str, inputs: Mapping[str, str]) -> dict[str, Any]:
    """What a checkpoint is good for.

    Not the protocol as a whole, but what the state depends on: a stage may go on from what an earlier protocol, which ended at
    smaller strains, has left (:mod:`qlm_hoomd.ensemble.growth`); and on another machine of a cluster, whatever its processor.
    """
    libraries = {name: value for name, value in context.provenance["versions"].items() if name not in machine()}
    physics = for_hash(protocol, include={"model", "engine"})
    going = {name: value for name, value in for_hash(stage).items() if name not in stage.growing}
    return {
        "statepoint": {name: value for name, value in context.statepoint.items() if name != "protocol_hash"},
        "provenance": {"engine": context.provenance["engine"], "versions": libraries},
        "physics": physics | {"stage": going},
        "code": code,
        "inputs": dict(inputs),
    }


def _check_products(stage: Stage, context: StageContext) -> None:
    missing = [product for product in stage.products() if not context.path(product).is_file()]
    if missing:
        raise PluginError(f"stage '{stage.kind}' ended without writing {', '.join(missing)}.")


def _context(protocol: Protocol, realisation: Realisation, latest: _LatestLine) -> StageContext:
    engine = protocol.engine.build(protocol.model)
    return StageContext(
        directory=realisation.directory,
        statepoint=realisation.statepoint,
        model=protocol.model,
        preparation=Preparation.model_validate(realisation.statepoint["preparation_settings"]),
        engine=engine,
        provenance=provenance(protocol.hash, engine.describe()),
        progress=latest.say,
    )


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    """Send log messages and Python's warnings to the end of the file ``path``, which is made by the first of them."""
    handler = _LogFile(path, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.removeHandler(handler)
        handler.close()


class _LogFile(logging.FileHandler):
    """A log file that is given up quietly where it cannot be written, e.g. on a full disk: the stage will say so itself."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (logging's name)
        del record


class _LatestLine:
    """Keeps the latest line of a realisation at work in a file, for those who watch."""

    def __init__(self, workspace: Workspace, realisation: Realisation) -> None:
        self.path = workspace.running_directory / realisation.id
        self.label = realisation.label
        self.stage = ""
        self.next_time = 0.0

    def __enter__(self) -> Self:
        with suppress(OSError):
            self.path.parent.mkdir(exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.path.unlink(missing_ok=True)

    def say(self, line: str) -> None:
        """Take one line; the file is written at most once a second."""
        now = time.monotonic()
        if now >= self.next_time:
            self.next_time = now + _SECONDS_BETWEEN_LINES
            with suppress(OSError):  # nothing depends on it
                self.path.write_text(f"{self.label} {self.stage}: {line} (process {os.getpid()})\n", encoding="utf-8")
