"""How far a run is, as plain values: what `qlm status` shows, and prints as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qlm_hoomd.ensemble.costs import Costs
from qlm_hoomd.ensemble.progress import grouped_failures
from qlm_hoomd.ensemble.slurm import describe as scheduler_lines
from qlm_hoomd.ensemble.workspace import IMPORTED, Workspace


def status_of(directory: Path) -> dict[str, Any]:
    """The state of the run in ``directory``.

    Returns:
        ``name``, ``directory``, ``protocol_hash``, ``imported`` (whether `qlm import` made the folder), ``missing`` (what of the
        protocol is not installed here, a sentence each), ``n_realisations``;
        ``groups``, one for each size and preparation, with ``n_particles``, ``preparation``, ``stages`` (by kind, in order: the
        numbers ``done``, ``failed``, ``pending``, and ``core_seconds_each`` or None) and ``core_seconds_left`` (None where
        unknown); ``at_work`` and ``scheduler``, lines for people; ``failures``, grouped by reason, with their ``number``, and
        ``n_particles``, ``preparation``, ``realisation``, ``stage``, ``error``, ``message`` and ``record`` (file) of an
        example.

    Raises:
        InputError: if there is no run.
    """
    workspace = Workspace.read(directory)
    costs, counts = Costs.of_folder(directory, workspace.protocol), workspace.counts()
    groups = [
        {
            "n_particles": size,
            "preparation": preparation,
            "stages": {
                kind: {**states, "core_seconds_each": costs.measured(kind, preparation, size)}
                for kind, states in stages.items()
            },
            "core_seconds_left": None if left is None else left[0],
        }
        for (size, preparation), stages in counts.items()
        for missing in [
            [(stage, stages[stage.kind]["failed"] + stages[stage.kind]["pending"]) for stage in workspace.protocol.stages]
        ]
        for left in [costs.total(missing, preparation, size)]
    ]
    any_failed = any(states["failed"] for stages in counts.values() for states in stages.values())
    return {
        "name": workspace.protocol.name,
        "directory": str(directory),
        "protocol_hash": workspace.protocol.hash,
        "imported": (directory / IMPORTED).exists(),
        "missing": list(workspace.missing),
        "n_realisations": len(workspace.realisations),
        "groups": groups,
        "at_work": list(workspace.running().values()),
        "scheduler": list(scheduler_lines(workspace)),
        "failures": [
            {
                "number": group.number,
                "n_particles": group.realisation.n_particles,
                "preparation": str(group.realisation.statepoint["preparation"]),
                "realisation": int(group.realisation.statepoint["realisation"]),
                "stage": group.failure.stage,
                "error": group.failure.error,
                "message": group.failure.message,
                "record": str(group.realisation.directory / "failed" / f"{group.failure.stage}.json"),
            }
            for group in (grouped_failures(workspace) if any_failed else ())
        ],
    }
