"""A plugin distribution for tests: cheap stages with every kind of misfortune, found through real entry points.

:func:`installed` puts a ``dist-info`` folder on ``sys.path``, which is all that an installed distribution is to the registry;
spawned workers inherit the path, other processes get it through PYTHONPATH.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Literal

import polars as pl
from pydantic import Field

from qlm_hoomd.base.errors import ConvergenceError
from qlm_hoomd.base.registry import GROUPS
from qlm_hoomd.ensemble.executor import Executor
from qlm_hoomd.ensemble.runner import run_realisation
from qlm_hoomd.stages.base import Stage, StageContext

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from qlm_hoomd.ensemble.realisation import Outcome
    from qlm_hoomd.model import GlassModel


class HereExecutor(Executor):
    """Runs realisations one after the other in this process."""

    def run(self, directory: Path, ids: Sequence[str], finished: Callable[[Outcome], None]) -> None:
        """See :meth:`Executor.run`."""
        for job_id in ids:
            finished(run_realisation(directory, job_id, self.checkpoint_interval))


class WalkStage(Stage):
    """A random walk: a deterministic table for each realisation and seed, at a chosen price in time."""

    kind: Literal["walk"] = "walk"
    steps: Annotated[int, Field(gt=0)] = Field(default=10, description="number of steps")
    pause: Annotated[float, Field(ge=0)] = Field(default=0.0, description="wall time of a step [s]")
    fail: tuple[int, ...] = Field(default=(), description="realisations that do not converge")
    crash: tuple[int, ...] = Field(default=(), description="realisations whose process is killed at the end of the walk")
    warn: tuple[int, ...] = Field(default=(), description="realisations that log and warn")
    forget: tuple[int, ...] = Field(default=(), description="realisations that do not write their product")

    def check(self, model: GlassModel, n_particles: list[int]) -> None:
        """Refuse more steps than particles, for the sake of an error that depends on the sizes."""
        del model
        if self.steps > min(n_particles):
            raise ValueError(f"steps = {self.steps}; expected at most N = {min(n_particles)}")

    def requires(self) -> tuple[str, ...]:
        """Nothing."""
        return ()

    def products(self) -> tuple[str, ...]:
        """The table of the walk."""
        return ("walk.parquet",)

    def run(self, context: StageContext) -> None:
        """Walk."""
        realisation = context.statepoint["realisation"]
        rng = context.rng(self.kind)
        position, positions = 0.0, []
        for step in range(self.steps):
            position += rng.normal()
            positions.append(position)
            context.progress(f"step {step} of {self.steps}")
            time.sleep(self.pause)
        if realisation in self.warn:
            warnings.warn(f"realisation {realisation} is odd", stacklevel=2)
            logging.getLogger(__name__).warning("realisation %d stumbles", realisation)
        if realisation in self.crash:
            os.kill(os.getpid(), signal.SIGKILL)
        if realisation in self.fail:
            raise ConvergenceError(f"realisation {realisation} does not converge; expected that, as the protocol says so.")
        if realisation not in self.forget:
            context.write_table("walk.parquet", pl.DataFrame({"position": positions}))


class TallyStage(Stage):
    """Sums up the walk: a stage that needs another one."""

    kind: Literal["tally"] = "tally"

    def requires(self) -> tuple[str, ...]:
        """The table of the walk."""
        return ("walk.parquet",)

    def products(self) -> tuple[str, ...]:
        """The sum."""
        return ("tally.json",)

    def run(self, context: StageContext) -> None:
        """Sum up."""
        total = pl.read_parquet(context.path("walk.parquet"))["position"].sum()
        with context.product("tally.json") as temporary:
            temporary.write_text(json.dumps({"total": total}) + "\n", encoding="utf-8")


TINY_STAGES = {
    "qlm_hoomd.stages": {"walk": "qlm_hoomd.testing.tiny:WalkStage", "tally": "qlm_hoomd.testing.tiny:TallyStage"},
}


@contextmanager
def installed(
    folder: Path, entry_points: Mapping[str, Mapping[str, str]] = TINY_STAGES, *, name: str = "qlm_tiny"
) -> Iterator[Path]:
    """Make ``entry_points`` (group -> name -> object) those of an installed distribution ``name`` 1.0, for the block.

    Args:
        folder: an empty folder; it goes on ``sys.path``, so that modules in it can be registered too.
        entry_points: what the distribution registers.
        name: its name.

    Yields:
        The folder, which other processes need on their PYTHONPATH.
    """
    information = folder / f"{name}-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    sections = (
        f"[{group}]\n" + "".join(f"{key} = {target}\n" for key, target in targets.items())
        for group, targets in entry_points.items()
    )
    (information / "entry_points.txt").write_text("\n".join(sections), encoding="utf-8")
    sys.path.insert(0, str(folder))
    _forget_plugins()
    try:
        yield folder
    finally:
        sys.path.remove(str(folder))
        _forget_plugins()


def _forget_plugins() -> None:
    # The registry reads the entry points once per process.
    for group in GROUPS:
        vars(group).pop("plugins", None)
