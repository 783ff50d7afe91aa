"""What every executor must do."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, ClassVar

from qlm_hoomd.base.registry import EXECUTORS
from qlm_hoomd.ensemble.executor import Executor
from qlm_hoomd.ensemble.workspace import Workspace
from qlm_hoomd.protocol import build_protocol
from qlm_hoomd.testing.tiny import installed

if TYPE_CHECKING:
    from qlm_hoomd.ensemble.realisation import Outcome


class ExecutorConformance:
    """Suite for executors that run the realisations before :meth:`Executor.run` returns.

    Attributes:
        name: what the executor is registered as.
        workers: realisations at a time.
    """

    name: ClassVar[str]
    workers: ClassVar[int] = 2

    def test_is_registered(self) -> None:
        """The registry finds the executor, and it takes the number of workers."""
        executor = EXECUTORS.load(self.name)(workers=self.workers)
        assert isinstance(executor, Executor)
        assert executor.workers == self.workers

    def test_runs_all_and_survives_those_that_fail_or_die(self) -> None:
        """Each realisation ends done or recorded as failed, whatever the others do."""
        with TemporaryDirectory() as folder, installed(Path(folder) / "site"):
            protocol = build_protocol(
                {
                    "name": "conformance",
                    "seed": 1,
                    "ensemble": {"n_particles": [100], "preparations": ["rapid"], "realisations": 3},
                    "stages": [{"kind": "walk", "fail": [0], "crash": [1]}, {"kind": "tally"}],
                }
            )
            directory = Path(folder) / "run"
            workspace = Workspace.create(protocol, directory)
            outcomes: list[Outcome] = []
            EXECUTORS.load(self.name)(workers=self.workers).run(
                directory, [realisation.id for realisation in workspace.realisations], outcomes.append
            )
            ids = sorted(realisation.id for realisation in workspace.realisations)
            assert sorted(outcome.id for outcome in outcomes) == ids, "expected each realisation reported once"
            failed = {outcome.id for outcome in outcomes if outcome.failure is not None}
            for realisation in workspace.realisations:
                expected = "done" if realisation.statepoint["realisation"] == 2 else "failed"
                assert realisation.state(protocol) == expected, f"{realisation.label} is {realisation.state(protocol)}"
                assert (realisation.id in failed) == (expected == "failed")
