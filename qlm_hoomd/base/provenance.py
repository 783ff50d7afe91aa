"""Where a product comes from: versions of code and dependencies, and the hash of the protocol."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from qlm_hoomd.base.version import __version__

_DEPENDENCIES = ("numpy", "scipy", "numba", "vesin", "gsd", "freud-analysis", "polars", "hoomd")
_NO_NUMBERS = tuple(
    f"qlm_hoomd/{room}"
    for room in ("cli.py", "doctor.py", "ensemble/", "postanalysis.py", "report/", "statistics/", "testing/", "view.py")
)


@cache
def versions() -> dict[str, str]:
    """Versions of qlm_hoomd, Python and the libraries that touch the numbers; those not installed are left out."""
    found = {"qlm_hoomd": __version__, "python": platform.python_version()}
    for name in _DEPENDENCIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def provenance(protocol_hash: str, engine: dict[str, Any]) -> dict[str, Any]:
    """What every product carries. No dates and no paths: the same protocol and seed give the same bytes."""
    return {"protocol_hash": protocol_hash, "engine": engine, "versions": versions()}


@cache
def code_fingerprint(packages: tuple[str, ...] = ()) -> str:
    """16 hex digits that change with the code that makes numbers: two codes of one version are told apart by it.

    It covers the Python files of qlm_hoomd, but for the rooms that only watch, spread or report, and those of ``packages``.

    Args:
        packages: top-level packages of the plugins at work.
    """
    digest = hashlib.sha256()
    for package in ("qlm_hoomd", *sorted(set(packages) - {"qlm_hoomd"})):
        specification = find_spec(package)
        folders = specification.submodule_search_locations if specification is not None else None
        module = specification.origin if specification is not None else None
        for origin in folders or ([module] if module else []):
            root = Path(origin)
            for path in sorted(root.rglob("*.py")) if root.is_dir() else [root]:
                name = path.relative_to(root.parent).as_posix()
                if not name.startswith(_NO_NUMBERS):
                    digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
