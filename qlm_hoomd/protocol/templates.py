"""Protocols to start from: the files of the folder ``protocols``, written out with an explanation of every key.

The values and the remarks on them are those of the files, the explanations those of the protocol's schema.
"""

from __future__ import annotations

import re
import textwrap
from itertools import groupby
from pathlib import Path

from qlm_hoomd.base.errors import InputError, did_you_mean
from qlm_hoomd.base.version import PACKAGE
from qlm_hoomd.protocol.reading import explain

_WIDTH = 120


def names() -> list[str]:
    """The names of all templates; ``quickstart`` comes first."""
    return sorted((path.stem for path in _folder().glob("*.yaml")), key=lambda name: (name != "quickstart", name))


def summary(name: str) -> str:
    """What the template is for: the first sentence of its first comment."""
    first = " ".join(line.removeprefix("#").strip() for line in _header(_path(name)))
    return re.split(r"(?<=[.?!]) ", first, maxsplit=1)[0].split(": ", 1)[0].rstrip(".")


def render(name: str, target: Path) -> str:
    """The text of a new protocol.

    Args:
        name: of the template.
        target: the file that it is for: runs go into a folder of its name, and the comments speak of it.

    Raises:
        InputError: if there is no such template.
    """
    source = _path(name)
    lines = source.read_text(encoding="utf-8").splitlines()
    above: dict[int, list[str]] = {}
    for number, group in groupby(explain(source), key=lambda entry: entry[0]):
        entries = [(key, text) for _, key, text in group]
        indent = " " * (len(lines[number - 1]) - len(lines[number - 1].lstrip()))
        alone = len(entries) == 1 and re.match(rf"\s*(- )?{re.escape(entries[0][0])}:", lines[number - 1])
        for key, text in entries:
            said = text if alone else f"{key}: {text}"
            above[number] = above.get(number, []) + textwrap.wrap(
                said, _WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# "
            )
    text = "".join(f"{line}\n" for number, written in enumerate(lines, 1) for line in (*above.get(number, ()), written))
    text = text.replace(f"protocols/{source.name}", str(target))
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", target.stem):  # what a protocol may be called
        text = text.replace(f"runs/{source.stem}", f"runs/{target.stem}")
        text = re.sub(rf"^name: {source.stem}$", f"name: {target.stem}", text, count=1, flags=re.MULTILINE)
    return text


def write(name: str, target: Path | None = None) -> Path:
    """Write a new protocol from the template ``name``.

    Args:
        name: of the template.
        target: the file, which must not be there yet; None for NAME.yaml in the current folder.

    Returns:
        The file.

    Raises:
        InputError: if there is no such template, the file is there already, or it cannot be written.
    """
    path = Path(f"{name}.yaml") if target is None else target
    text = render(name, path)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise InputError(f"{path} is there already; expected a new file. Name another one with --out.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}); expected a file in a folder of your own.") from None
    return path


def _path(name: str) -> Path:
    # The paper's ensembles may be called by what they are.
    for stem in (name, f"paper_{name}"):
        if stem in names():
            return _folder() / f"{stem}.yaml"
    known = [*names(), *(stem.removeprefix("paper_") for stem in names())]
    raise InputError(f"unknown template '{name}'; expected one of: {', '.join(names())}.{did_you_mean(name, known)}")


def _folder() -> Path:
    """The folder of the templates: in the package where it was installed, beside it in a checkout."""
    root = PACKAGE
    for folder in (root / "protocols", root.parent / "protocols"):
        if (folder / "quickstart.yaml").is_file():
            return folder
    raise InputError(f"the templates are not in {root}; expected a whole installation of qlm_hoomd. Install it again.")


def _header(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return lines[: next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))]
