"""Where a product comes from: versions of code and dependencies, and the hash of the protocol."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import qlm_hoomd

_DEPENDENCIES = ("numpy", "scipy", "numba", "vesin", "gsd", "freud-analysis", "polars", "hoomd")


@cache
def versions() -> dict[str, str]:
    """Versions of qlm_hoomd, Python and the libraries that touch the numbers; those not installed are left out."""
    found = {"qlm_hoomd": qlm_hoomd.__version__, "python": platform.python_version()}
    for name in _DEPENDENCIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def provenance(protocol_hash: str, engine: dict[str, Any]) -> dict[str, Any]:
    """What every product carries. No dates and no paths: the same protocol and seed give the same bytes."""
    return {"protocol_hash": protocol_hash, "engine": engine, "versions": versions()}
