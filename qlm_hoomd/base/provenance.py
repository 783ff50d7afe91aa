"""Where a product comes from: versions of code and dependencies, and the hash of the protocol."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Collection
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from qlm_hoomd.base.version import PACKAGE, __version__

_DEPENDENCIES = ("numpy", "scipy", "numba", "gsd", "freud-analysis", "polars", "hoomd")
WITHOUT_NUMBERS = (
    *("ensemble", "formats", "planning", "protocol", "report", "statistics", "testing"),
    *("__init__.py", "cli.py", "doctor.py", "frames.py", "kept.py", "postanalysis.py", "view.py"),
    *("checkpoint.py", "display.py", "errors.py", "files.py", "registry.py", "settings.py"),
    *(
        f"base/{name}.py"
        for name in (
            "__init__",
            "display",
            "errors",
            "files",
            "interrupt",
            "processes",
            "provenance",
            "registry",
            "settings",
            "version",
        )
    ),
)
"""Folders and files of qlm_hoomd that make no product of a stage: they read, spread, watch, plan, report, or only pass names.

All others count as makers of numbers. A plugin's package says the same of itself by an attribute of this name; without it, all
of its files count.
"""


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


@cache
def machine() -> dict[str, str]:
    """What rounds: ``cpu``, for which numba compiles, and ``blas``, the kernels of the linear algebra libraries of numpy and scipy."""
    import llvmlite.binding
    import scipy.linalg  # noqa: F401  (brings a library of its own)
    from numba.core import config
    from threadpoolctl import threadpool_info

    kernels = {
        f"{library['internal_api']} {library['version']} {library.get('architecture') or 'unknown'}"
        for library in threadpool_info()
        if library["user_api"] == "blas"
    }
    return {
        "cpu": str(getattr(config, "CPU_NAME", None) or llvmlite.binding.get_host_cpu_name()),
        "blas": ", ".join(sorted(kernels)) or "unknown",
    }


def provenance(protocol_hash: str, engine: dict[str, Any]) -> dict[str, Any]:
    """What every product carries: versions, and with them processor and linear algebra, which round too (:func:`machine`).

    No dates and no paths: the same protocol and seed give the same bytes on one kind of machine.
    """
    return {"protocol_hash": protocol_hash, "engine": engine, "versions": versions() | machine()}


@cache
def code_fingerprint(packages: tuple[str, ...] = ()) -> str:
    """16 hex digits that change with the code that makes numbers: two codes of one version are told apart by it.

    It covers the contents of Python files, whatever their names: those of qlm_hoomd and of ``packages``, but for what these
    name in :data:`WITHOUT_NUMBERS`.

    Args:
        packages: top-level packages of the plugins at work.
    """
    digests = contents(PACKAGE, WITHOUT_NUMBERS)
    for package in sorted(set(packages) - {"qlm_hoomd"}):
        specification = find_spec(package)
        if specification is not None:
            without = getattr(import_module(package), "WITHOUT_NUMBERS", ())
            for origin in specification.submodule_search_locations or filter(None, [specification.origin]):
                digests += contents(Path(origin), without)
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()[:16]


def contents(root: Path, without: Collection[str]) -> list[bytes]:
    """The SHA-256 of every Python file in ``root``, or of that file, but for the files and folders ``without`` in it."""
    paths = root.rglob("*.py") if root.is_dir() else [root]
    left_out = {root / name for name in without}
    return [hashlib.sha256(path.read_bytes()).digest() for path in paths if not {path, *path.parents} & left_out]
