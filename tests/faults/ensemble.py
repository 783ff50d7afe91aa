"""The small ensemble of real glasses that the faults befall: three stages, a fifth of a second of processor time a realisation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qlm_hoomd.ensemble.runner import run_realisation
from qlm_hoomd.ensemble.workspace import Workspace
from qlm_hoomd.protocol import build_protocol

if TYPE_CHECKING:
    from pathlib import Path

    from qlm_hoomd.protocol import Protocol


def make_protocol(realisations: int) -> Protocol:
    """Glasses of 84 particles: quenched, sheared past their first instabilities, and their modes."""
    return build_protocol(
        {
            "name": "faults",
            "seed": 5,
            "ensemble": {
                "n_particles": [84],
                "preparations": {"short": {"quench": "rapid", "equilibration_time": 1.0}},
                "realisations": realisations,
            },
            "stages": [
                {"kind": "prepare"},
                {
                    "kind": "shear",
                    "strain_max": 0.01,
                    "increment": 2.5e-4,
                    "detector": {"kind": "fold", "max_increment": 2.5e-4, "overlaps": []},
                },
                {"kind": "modes", "count": 6},
            ],
        }
    )


def make_slow_protocol(realisations: int) -> Protocol:
    """The same with a slow quench: more than half a second in the liquid at T0, and as much in cooling."""
    settings = make_protocol(realisations).model_dump(mode="json")
    settings["ensemble"]["preparations"] = {"slow": {"quench": "slow", "equilibration_time": 300.0, "cooling_rate": 3e-3}}
    return build_protocol(settings)


def make_run(directory: Path, protocol: Protocol) -> Workspace:
    """The ensemble, run in this process without any disturbance."""
    workspace = Workspace.create(protocol, directory)
    for realisation in workspace.realisations:
        failure = run_realisation(directory, realisation.id).failure
        if failure is not None:
            raise RuntimeError(f"the undisturbed run fails: {failure}")
    return workspace


def products(workspace: Workspace) -> dict[str, bytes]:
    """The bytes of all products, by realisation and name; those that are missing are left out."""
    names = [name for stage in workspace.protocol.stages for name in stage.products()]
    paths = [each.directory / name for each in workspace.realisations for name in names]
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in paths if path.is_file()}
