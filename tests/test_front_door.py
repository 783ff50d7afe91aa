"""``import qlm_hoomd as qlm`` is quick, and has what the API page says."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import qlm_hoomd as qlm

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", qlm.__all__)
def test_every_public_name_is_there_documented_and_on_the_api_page(name: str) -> None:
    assert getattr(qlm, name).__doc__
    assert name in dir(qlm)
    assert f"{name} <qlm_hoomd." in (ROOT / "docs/reference/api.md").read_text()


def test_a_type_checker_sees_the_names_that_are_there_at_run_time() -> None:
    tree = ast.parse(Path(qlm.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    declared = {(node.module, alias.name) for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert declared == {(qlm._MODULE_OF[name], name) for name in qlm.__all__}


def test_importing_it_loads_no_library() -> None:
    """Nor does asking for its version; a name that does not exist is an AttributeError, as anywhere."""
    code = "import sys, qlm_hoomd; qlm_hoomd.__version__; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "scipy", "numba", "pydantic", "polars", "gsd", "freud", "matplotlib"} & set(loaded)
    with pytest.raises(AttributeError, match="no attribute 'Glas'"):
        qlm.Glas  # type: ignore[attr-defined]  # noqa: B018
    assert qlm.statistics.phonons is not None
