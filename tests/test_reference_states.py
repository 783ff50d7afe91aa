"""States whose numbers a program without a line of this one found, dense and in extended precision (reference_states/)."""

# Array names carry their axes: n particles, c Cartesian components.

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qlm_hoomd.box import Box
from qlm_hoomd.engines.cpu import CPUEngine
from qlm_hoomd.glass import Glass
from qlm_hoomd.hessian import Hessian
from qlm_hoomd.mechanics import bonds_of
from qlm_hoomd.modes import LowestModes
from qlm_hoomd.potentials import InversePowerLaw, PairPotential, SoftSpheres

FOLDER = Path(__file__).parent / "reference_states"
STATES: list[dict[str, Any]] = [
    state for path in sorted(FOLDER.glob("*.json.gz")) for state in json.loads(gzip.decompress(path.read_bytes()))
]


def glass_of(state: dict[str, Any]) -> Glass:
    lx, ly, lz, xy, xz, yz = state["box"]
    positions_nc = np.array(state["positions"])
    positions_nc = np.pad(positions_nc, ((0, 0), (0, 3 - state["dimensions"])))
    box = Box(lx=lx, ly=ly, lz=lz, xy=xy, xz=xz, yz=yz)
    return Glass(positions_nc, np.array(state["types"]), box, xy, sizes=state["sizes"])


def law_of(state: dict[str, Any]) -> PairPotential:
    law = state["law"]
    n, q = -law["exponents"][0], len(law["exponents"]) - 2
    if state["sizes"] is None:
        return InversePowerLaw(n=n, q=q, x_c=law["x_c"], lengths=law["length"])
    return SoftSpheres(n=n, q=q, x_c=law["x_c"], nonadditivity=law["nonadditivity"])


@pytest.mark.parametrize("state", STATES, ids=lambda state: state["name"])
def test_energy_forces_stress_and_spectrum(state: dict[str, Any]) -> None:
    glass, values, d = glass_of(state), state["values"], state["dimensions"]
    bonds = bonds_of(glass, law_of(state))
    assert bonds.energy == pytest.approx(values["energy"], rel=1e-13)
    np.testing.assert_allclose(bonds.forces[:, :d], values["forces"], atol=1e-11)
    np.testing.assert_allclose(bonds.virial[:d, :d] / bonds.volume, values["stress"], atol=1e-12)
    modes = LowestModes(10).compute(Hessian(law_of(state), force_tolerance=np.inf).compute(glass))
    np.testing.assert_allclose(modes.eigenvalues, values["eigenvalues"], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("state", [each for each in STATES if "instability" in each["values"]], ids=lambda state: state["name"])
def test_first_instability(state: dict[str, Any]) -> None:
    directions = pytest.importorskip("qlm_quasistatic.directions")
    rewind = pytest.importorskip("qlm_rewind")
    expected = state["values"]["instability"]
    engine = CPUEngine(law_of(state))
    found = directions.first_instability(engine, glass_of(state), "+xy", rewind.FoldDetector(), increment=1e-4)
    assert found["gamma_min"] == pytest.approx(expected["gamma_c"], abs=1e-13)
    assert found["kappa"] == pytest.approx(expected["kappa"], rel=1e-6)
    assert found["coupling"] == pytest.approx(expected["coupling"], rel=1e-6)
