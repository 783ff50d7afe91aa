"""What later code must not change: hashes and ids of protocols.

``tests/golden/`` was recorded with the code of commit b446ea3.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from signac.job import calc_id

from qlm_hoomd.protocol import Protocol, build_protocol, load_protocol

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
SMOKE = ROOT / ".ci" / "smoke.yaml"


def read(name: str) -> Any:
    return json.loads((GOLDEN / name).read_text(encoding="utf-8"))


# ---- hashes and ids ----


def identity(protocol: Protocol) -> dict[str, Any]:
    ids = [calc_id(statepoint) for statepoint in protocol.statepoints()]
    return {
        "hash": protocol.hash,
        "n_realisations": len(ids),
        "first_ids": ids[:3],
        "all_ids": hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest(),
    }


@pytest.mark.parametrize("name", read("protocols.json")["shipped"])
def test_shipped_protocol_keeps_its_hash_and_the_ids_of_its_realisations(name: str) -> None:
    assert identity(load_protocol(ROOT / name)) == read("protocols.json")["shipped"][name]


@pytest.mark.parametrize("name", read("protocols.json")["variants"])
def test_protocol_with_settings_of_its_own_keeps_its_hash_and_the_ids_of_its_realisations(name: str) -> None:
    recorded = read("protocols.json")["variants"][name]
    assert identity(build_protocol(recorded["settings"])) == {key: recorded[key] for key in recorded if key != "settings"}


def test_every_shipped_protocol_is_recorded() -> None:
    shipped = {path.relative_to(ROOT).as_posix() for path in [*(ROOT / "protocols").glob("*.yaml"), SMOKE]}
    assert shipped == set(read("protocols.json")["shipped"])
