"""The numbers of docs/results are those that the present code finds in the tables beside them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "results"


@pytest.fixture(scope="module")
def renew() -> Any:
    spec = importlib.util.spec_from_file_location("renew_of_docs_results", FOLDER / "renew.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_page_and_exponents_are_made_by_the_present_code_from_the_tables(renew: Any) -> None:
    found = renew.analysis()
    page = (FOLDER / "index.md").read_text(encoding="utf-8")
    slow = page.index("## Slow quench")
    for name, part in (("rapid", page[:slow]), ("slow", page[slow:])):
        for strain in found.settings.strains:
            assert renew.row(found, name, strain) in part
    kept = json.loads((FOLDER / "exponents.json").read_text(encoding="utf-8"))
    keys = ("quantity", "method", "preparation", "strain", "detector", "pooled", "status")
    now = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert [[e[key] for key in keys] for e in now["estimates"]] == [[e[key] for key in keys] for e in kept["estimates"]]
    assert now["unsteady"] == kept["unsteady"]
    assert set(kept["unsteady"]) == {"slow"}  # whose stress falls after its overshoot
