"""The row executor: writes ``workflow.toml``, with which the runner `row` of the signac ecosystem does the work.

One action for each size, whose products are those of the last stages: the same files that decide for `qlm`. Its command is
``qlm work``, which claims each realisation, so that `row` and `qlm run` may be at work in one folder.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, ClassVar

from qlm_hoomd.base.files import replacing
from qlm_hoomd.ensemble.costs import seconds_left
from qlm_hoomd.ensemble.executor import Executor, work_command
from qlm_hoomd.ensemble.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from qlm_hoomd.ensemble.workspace import Outcome, Realisation

WORKFLOW = "workflow.toml"
_CHUNK_S = 5400.0
_SHORTEST_S = 60
# Wall time that is asked for, in units of what the work is expected to take.
_RESERVE = 2.0


class RowExecutor(Executor):
    """Writes ``workflow.toml`` into the folder of the run, says what to type, and returns.

    Args:
        workers: realisations that a job has at work at a time, one core each; None for one.
    """

    runs_here: ClassVar[bool] = False

    def run(self, directory: Path, ids: Sequence[str], finished: Callable[[Outcome], None]) -> None:
        """See :meth:`Executor.run`."""
        workspace = Workspace.open(directory)
        with replacing(directory / WORKFLOW) as temporary:
            temporary.write_text(workflow(workspace, self.workers or 1, self.checkpoint_interval), encoding="utf-8")
        sys.stderr.write(
            f"wrote {directory / WORKFLOW}. Now type: cd {directory} && row show status && row submit\n"
            "row submits what has no products yet; run `row scan` after work that it did not start itself.\n"
        )


def workflow(workspace: Workspace, workers: int, checkpoint_interval: float | None) -> str:
    """The text of ``workflow.toml`` for a run."""
    protocol = workspace.protocol
    by_size: dict[int, list[Realisation]] = {}
    for realisation in workspace.realisations:
        by_size.setdefault(realisation.n_particles, []).append(realisation)
    products = sorted({product for stage in protocol.stages for product in stage.products()})
    expected = seconds_left(workspace, workspace.realisations)
    lines = [
        "# Written by `qlm run --executor row`; the next one writes it anew.",
        "[workspace]",
        'value_file = "signac_statepoint.json"',
        "",
        "[default.action]",
        # The folder is row's own: it runs commands from where workflow.toml is.
        f"command = {_text(work_command('. {directories}', workers, checkpoint_interval))}",
        f"products = {json.dumps(products)}",
    ]
    for size in sorted(by_size, reverse=True):
        members = by_size[size]
        seconds = max(expected[each.id] for each in members)
        number = max(workers, int(_CHUNK_S * workers // max(seconds, 1.0)))
        wall = max(_SHORTEST_S, int(_RESERVE * seconds * number / workers))
        lines += [
            "",
            "[[action]]",
            'name = "qlm"',
            "[action.group]",
            f"maximum_size = {min(number, len(members))}",
            "[[action.group.include]]",
            f'all = [["/protocol_hash", "==", "{protocol.hash}"], ["/n_particles", "==", {size}]]',
            "[action.resources]",
            "processes.per_submission = 1",
            f"threads_per_process = {workers}",
            *(["gpus_per_process = 1"] if protocol.engine.wants_gpu else []),
            f'walltime.per_submission = "{_duration(wall)}"',
        ]
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    """A TOML string; JSON's escapes are among TOML's."""
    return json.dumps(value)


def _duration(seconds: int) -> str:
    days, rest = divmod(seconds, 86400)
    clock = f"{rest // 3600:02d}:{rest % 3600 // 60:02d}:{rest % 60:02d}"
    return f"{days} days, {clock}" if days else clock
