"""What the compiled code was built with, and whether the running HOOMD-blue is the same.

A HOOMD component reads HOOMD's own C++ objects, whose layout no version promises to keep. Loaded into another build it would
crash or, worse, compute something else; so anything but the same build is refused before the compiled code is loaded.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

REINSTALL: Final = (
    "Compile the component again for the HOOMD-blue you use: "
    "`pip install --force-reinstall --no-deps ./plugins/hoomd_ipl` in the qlm_hoomd checkout"
)

_BUILD_FILE = Path(__file__).parent / "build.json"

# HOOMD as it was when the component was compiled, and the compilers. Empty where the package was never built.
BUILD: Final[dict[str, Any]] = json.loads(_BUILD_FILE.read_text(encoding="utf-8")) if _BUILD_FILE.is_file() else {}


class IncompatibleHOOMDError(ImportError):
    """The running HOOMD-blue is not the one that the component was compiled for, or there is none."""


def running() -> dict[str, Any]:
    """The running HOOMD-blue, in the same terms as ``BUILD["hoomd"]``.

    Raises:
        ImportError: if HOOMD-blue cannot be imported.
    """
    import hoomd.version

    return {
        "version": hoomd.version.version,
        "git_sha1": hoomd.version.git_sha1,
        "compile_flags": hoomd.version.compile_flags.strip(),
        "floating_point_precision": list(hoomd.version.floating_point_precision),
        "gpu_enabled": hoomd.version.gpu_enabled,
        "gpu_platform": hoomd.version.gpu_platform,
        "mpi_enabled": hoomd.version.mpi_enabled,
    }


def mismatch() -> str | None:
    """Why the component cannot be used with the running HOOMD-blue; None if it can."""
    if not BUILD:
        return f"qlm_hoomd_ipl holds no compiled code: this is its source folder. {REINSTALL}."
    try:
        found = running()
    except ImportError as error:
        return f"HOOMD-blue cannot be imported ({error}); qlm_hoomd_ipl is a component of it. Install it from conda-forge."
    built_for = BUILD["hoomd"]
    different = [
        f"{name} is {found[name]!r}, compiled for {built_for.get(name)!r}"
        for name in found
        if found[name] != built_for.get(name)
    ]
    if different:
        return f"the running HOOMD-blue is not the one qlm_hoomd_ipl was compiled for: {'; '.join(different)}. {REINSTALL}."
    return None
