"""API pages where HOOMD-blue is not installed: its names stand in for it while the modules that build on its classes are imported.

Classes stay classes and what is logged stays a property, so that the pages are those that a machine with HOOMD-blue builds.
Nothing can be run with it.
"""

from __future__ import annotations

import importlib
import sys
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MODULES = ("qlm_hoomd.pair", "qlm_quasistatic.hoomd")
"""The modules that cannot be imported without HOOMD-blue."""


def import_modules() -> None:
    """Import them. What asks for ``hoomd`` later finds none, as before."""
    with _names_of_hoomd():
        for name in MODULES:
            importlib.import_module(name)


class _Names(ModuleType):
    """A module or package of HOOMD-blue: a class for each name in capitals, a module for each other one."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        thing = type(name, (), {"__module__": self.__name__}) if name[0].isupper() else _Names(f"{self.__name__}.{name}")
        setattr(self, name, thing)
        return thing


class _Finder(MetaPathFinder, Loader):
    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self, is_package=True) if fullname.partition(".")[0] == "hoomd" else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Names(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        if module.__name__ == "hoomd":
            module.logging = logging = _Names("hoomd.logging")  # type: ignore[attr-defined]
            logging.Loggable = type
            logging.log = _logged
            logging.modify_namespace = lambda _namespace: lambda owner: owner


def _logged(method: Any = None, **_category: str) -> Any:
    return property if method is None else property(method)


@contextmanager
def _names_of_hoomd() -> Iterator[None]:
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.partition(".")[0] == "hoomd"]:
            del sys.modules[name]
