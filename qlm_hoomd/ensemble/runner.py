"""Runs the stages of realisations, in any process, any number of times: what is done is skipped, what failed is tried again."""

from __future__ import annotations

import logging
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from qlm_hoomd.ensemble.progress import Progress
from qlm_hoomd.ensemble.workspace import Failure, Outcome, Workspace, locked
from qlm_hoomd.errors import PluginError
from qlm_hoomd.protocol import Preparation, stage_kind
from qlm_hoomd.provenance import provenance
from qlm_hoomd.stages import StageContext

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from qlm_hoomd.ensemble.executor import Executor
    from qlm_hoomd.ensemble.workspace import Realisation
    from qlm_hoomd.protocol import Protocol
    from qlm_hoomd.stages import Stage

_SECONDS_BETWEEN_LINES = 1.0


def run_protocol(protocol: Protocol, directory: Path, executor: Executor) -> Workspace:
    """Run all realisations of ``protocol`` that are not done, in ``directory``, the largest first. Running again resumes.

    Returns:
        The workspace, from which the outcome is read.

    Raises:
        InputError: if the engine is not installed, or the folder cannot be written to or is in use.
    """
    protocol.engine.build(protocol.model)
    with locked(directory):
        workspace = Workspace.create(protocol, directory)
        # Nobody else is at work here: what a killed run left behind is void.
        for leftover in workspace.running_directory.glob("*"):
            leftover.unlink(missing_ok=True)
        # The largest first, so that no worker is left alone with a long one at the end.
        unfinished = sorted(
            (realisation for realisation in workspace.realisations if realisation.state(protocol) != "done"),
            key=lambda realisation: -realisation.n_particles,
        )
        with Progress(workspace, unfinished) as progress:
            if unfinished:
                executor.run(directory, [realisation.id for realisation in unfinished], progress.finished)
    return workspace


def run_realisation(directory: Path, job_id: str) -> Outcome:
    """Run the stages of one realisation that are not done, in order, up to the first that fails.

    A failure of any kind is recorded in ``failed/<stage>.json``; it is removed when a later attempt succeeds. Log messages
    and warnings of the stages go to ``log.txt``.
    """
    start = time.monotonic()
    workspace = Workspace.open(directory)
    realisation = workspace.realisation(job_id)
    for leftover in realisation.directory.glob(".*.tmp"):
        leftover.unlink(missing_ok=True)
    with _logged(realisation.directory / "log.txt"), _Voice(workspace, realisation) as voice:
        failure = _run_stages(workspace.protocol, realisation, voice)
    return Outcome(job_id, time.monotonic() - start, failure)


def record_death(directory: Path, job_id: str, message: str) -> Outcome:
    """Record that the process of a realisation died in the stage that it was at."""
    workspace = Workspace.open(directory)
    realisation = workspace.realisation(job_id)
    stage = next(stage for stage in workspace.protocol.stages if not realisation.is_done(stage))
    failure = Failure(stage_kind(stage), "ProcessDied", message)
    realisation.record_failure(stage, failure)
    (workspace.running_directory / job_id).unlink(missing_ok=True)
    return Outcome(job_id, 0.0, failure)


def _run_stages(protocol: Protocol, realisation: Realisation, voice: _Voice) -> Failure | None:
    for stage in protocol.stages:
        if not realisation.is_done(stage):
            voice.stage = stage_kind(stage)
            voice.say("started")
            try:
                # A new engine for every stage: what one keeps between calls must not make a resumed run differ in its last digits.
                context = _context(protocol, realisation, voice)
                clock = time.process_time(), time.perf_counter()
                stage.run(context)
                _check_products(stage, context)
                realisation.record_cost(stage, time.process_time() - clock[0], time.perf_counter() - clock[1])
            except Exception as error:  # noqa: BLE001  (a stage may be a stranger's: whatever it raises costs this realisation alone)
                failure = Failure.of(stage, error)
                realisation.record_failure(stage, failure)
                return failure
        realisation.forget_failure(stage)
    return None


def _check_products(stage: Stage, context: StageContext) -> None:
    missing = [product for product in stage.products() if not context.path(product).is_file()]
    if missing:
        raise PluginError(f"stage '{stage_kind(stage)}' ended without writing {', '.join(missing)}.")


def _context(protocol: Protocol, realisation: Realisation, voice: _Voice) -> StageContext:
    engine = protocol.engine.build(protocol.model)
    return StageContext(
        directory=realisation.directory,
        statepoint=realisation.statepoint,
        model=protocol.model,
        preparation=Preparation.model_validate(realisation.statepoint["preparation_settings"]),
        engine=engine,
        provenance=provenance(protocol.hash, engine.describe()),
        progress=voice.say,
    )


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    """Send log messages and Python's warnings to the end of the file ``path``, which is made by the first of them."""
    handler = logging.FileHandler(path, encoding="utf-8", delay=True)
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


class _Voice:
    """Keeps the latest line of a realisation at work in a file, for those who watch."""

    def __init__(self, workspace: Workspace, realisation: Realisation) -> None:
        self.path = workspace.running_directory / realisation.id
        self.label = realisation.label
        self.stage = ""
        self.next_time = 0.0

    def __enter__(self) -> Self:
        self.path.parent.mkdir(exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.path.unlink(missing_ok=True)

    def say(self, line: str) -> None:
        """Take one line; the file is written at most once a second."""
        now = time.monotonic()
        if now >= self.next_time:
            self.next_time = now + _SECONDS_BETWEEN_LINES
            self.path.write_text(f"{self.label} {self.stage}: {line} (process {os.getpid()})\n", encoding="utf-8")
