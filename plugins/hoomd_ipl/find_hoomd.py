"""For CMakeLists.txt: where the interpreter's HOOMD-blue is and what it is. Runs while the component is being built.

Prints four items separated by semicolons: the folder of HOOMD's CMake files, HOOMD's package folder, the folder of the
installed pybind11's CMake files (empty if there is none), and the pybind11 ABI number of HOOMD's library (empty if it does not
show).
"""

# A script of the build, no part of the package; what it prints is what CMake reads.
# ruff: noqa: INP001, T201

from __future__ import annotations

import argparse
import json
import re
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

HOW_TO_INSTALL = (
    "HOOMD-blue is on conda-forge and not on PyPI: `conda install -c conda-forge hoomd`, or build it from source with "
    "`cmake --install`. Then run the same pip command with that environment's Python."
)


def main() -> None:
    """Look, print, and write the build file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compiler", required=True, help="name and version of the C++ compiler, for the build file")
    parser.add_argument("--write", required=True, type=Path, help="build file to write (JSON)")
    arguments = parser.parse_args()

    build = runpy.run_path(str(Path(__file__).parent / "qlm_hoomd_ipl" / "build.py"))
    try:
        hoomd = build["running"]()
    except ImportError as error:
        sys.exit(
            f"qlm_hoomd_ipl is a component of HOOMD-blue, and {sys.executable} cannot import it ({error}). "
            f"Expected HOOMD-blue 4.8.2 or newer. {HOW_TO_INSTALL}"
        )

    package = _folder("hoomd")
    assert package is not None  # it has just been imported
    configs = [parent / "lib" / "cmake" / "hoomd" for parent in package.parents]
    config = next((folder for folder in configs if (folder / "hoomd-config.cmake").is_file()), None)
    if config is None:
        sys.exit(
            f"HOOMD-blue {hoomd['version']} in {package} has no CMake files (lib/cmake/hoomd/hoomd-config.cmake) in any folder "
            f"above it; they belong to every installation, not to a build tree. {HOW_TO_INSTALL}"
        )

    pybind11 = _folder("pybind11")
    cmake_of_pybind11 = pybind11 / "share" / "cmake" / "pybind11" if pybind11 else None
    libraries = sorted(package.glob("_hoomd*.so"))
    abi = re.search(rb"__pybind11_internals_v(\d+)", libraries[0].read_bytes()) if libraries else None

    arguments.write.write_text(
        json.dumps(
            {
                "hoomd": hoomd,
                "python": sys.version.split()[0],
                "compiler": arguments.compiler,
                "pybind11_abi": int(abi[1]) if abi else None,
            },
            indent=2,
        )
        + "\n",
        encoding="utf-8",
    )
    print(
        config,
        package,
        cmake_of_pybind11 if cmake_of_pybind11 and cmake_of_pybind11.is_dir() else "",
        abi[1].decode() if abi else "",
        sep=";",
    )


def _folder(package: str) -> Path | None:
    spec = find_spec(package)
    return Path(spec.origin).resolve().parent if spec is not None and spec.origin else None


main()
