"""The lowest versions that the distributions here allow, as pins: `python constraints/lowest.py` renews lowest.txt beside it.

`make lowest` installs just these and runs the tests. Where a distribution asks for more than another, the larger version
stands.
"""

from __future__ import annotations

import re
import tomllib
from itertools import chain
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PROJECTS = sorted([HERE.parent / "pyproject.toml", *HERE.parent.glob("plugins/*/pyproject.toml")])

_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:>=([0-9.]+))?")


def floors() -> dict[str, str]:
    """Lowest version by the normal name of each requirement, extras included.

    Raises:
        ValueError: a requirement is not a name with a lower bound and nothing else.
    """
    projects = [_project(path) for path in PROJECTS]
    ours = {_normal(project["name"]) for project in projects}
    found: dict[str, str] = {}
    for project in projects:
        extras = project.get("optional-dependencies", {}).values()
        for requirement in chain(project["dependencies"], *extras):
            match = _REQUIREMENT.fullmatch(requirement)
            name = _normal(match[1] if match else requirement)
            if name in ours:
                continue
            if match is None or match[2] is None:
                raise ValueError(
                    f"{project['name']} requires {requirement!r}; expected a lower bound and nothing else: name>=version"
                )
            found[name] = max(found.get(name, "0"), match[2], key=_number)
    return dict(sorted(found.items()))


def pins() -> str:
    """The text of lowest.txt."""
    return "".join(f"{name}=={version}\n" for name, version in floors().items())


def _project(path: Path) -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    return project


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


if __name__ == "__main__":
    (HERE / "lowest.txt").write_text(pins(), encoding="utf-8")
