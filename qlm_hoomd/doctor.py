"""What is installed here, what works, and which engine a protocol gets."""

from __future__ import annotations

import importlib
import os
import platform
from pathlib import Path
from typing import NamedTuple

from qlm_hoomd.base.errors import QlmError


class Finding(NamedTuple):
    """One line of the doctor: what was looked at, whether it is well, and what was found."""

    subject: str
    well: bool
    fact: str


def examine() -> list[Finding]:
    """All findings: versions, processors, HOOMD-blue, engines, the cache of compiled kernels, plugins."""
    return [_versions(), _processors(), _hoomd(), *_engines(), _numba_cache(), *_plugins()]


def _versions() -> Finding:
    from qlm_hoomd.base.provenance import versions

    return Finding("versions", True, ", ".join(f"{name} {version}" for name, version in versions().items()))


def _processors() -> Finding:
    from qlm_hoomd.base.processes import n_cores

    return Finding("processors", True, f"{n_cores()} cores of {platform.machine()}: `qlm run` starts as many workers")


def _hoomd() -> Finding:
    try:
        hoomd = importlib.import_module("hoomd")
    except ImportError as error:
        return Finding(
            "HOOMD-blue",
            False,
            f"not importable ({error}). It is optional; it comes from conda-forge and not from PyPI: "
            "`conda install -c conda-forge hoomd`, or `conda env create -f environment.yml`",
        )
    devices = "GPU and CPU" if hoomd.version.gpu_enabled else "CPU only"
    return Finding("HOOMD-blue", True, f"{hoomd.version.version}, {devices}")


def _engines() -> list[Finding]:
    from qlm_hoomd.base.registry import ENGINES
    from qlm_hoomd.model import GlassModel
    from qlm_hoomd.protocol import Protocol

    default = Protocol.model_fields["engine"].default
    findings = []
    for name in ENGINES.plugins:
        use = "used unless the protocol says otherwise" if name == default else f"used where the protocol says `engine: {name}`"
        try:
            ENGINES.load(name)().build(GlassModel())
        except Exception as error:  # noqa: BLE001  (a stranger's engine may fail in any way)
            fact = str(error) if isinstance(error, QlmError) else f"{type(error).__name__}: {error}"
            findings.append(Finding(f"engine {name}", False, fact))
        else:
            findings.append(Finding(f"engine {name}", True, f"works; {use}"))
    return findings


def _numba_cache() -> Finding:
    import numba

    def probe() -> int:
        return 1

    try:
        # Numba picks the folder by the source file alone, and this file lies where the kernels lie.
        folder = Path(str(numba.njit(cache=True)(probe).stats.cache_path))
    except RuntimeError as error:
        return Finding(
            "kernel cache", False, f"{error}. Kernels are compiled anew in every process: set NUMBA_CACHE_DIR to a folder"
        )
    well = os.access(folder, os.W_OK) or not folder.exists()
    advice = "" if well else ", not writable. Kernels are compiled anew in every process: set NUMBA_CACHE_DIR to a folder"
    return Finding("kernel cache", well, f"{folder}{advice}")


def _plugins() -> list[Finding]:
    from qlm_hoomd.base.registry import GROUPS

    broken = [error for group in GROUPS for error in group.load_all()[1].values()]
    if not broken:
        return [Finding("plugins", True, f"{sum(len(group.plugins) for group in GROUPS)} found, all load")]
    return [Finding("plugins", False, str(error)) for error in broken]
