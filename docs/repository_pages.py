"""Pages of these documents that live elsewhere in the repository, and links that lead to them or out of the documents."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = {
    "README.md": "generated/readme",
    "CHANGELOG.md": "generated/changelog",
    "benchmarks/RESULTS.md": "generated/benchmarks",
    **{
        f"plugins/{path.parent.name}/README.md": f"generated/plugins/{path.parent.name}"
        for path in REPOSITORY.glob("plugins/*/README.md")
    },
}
"""Files of the repository by the document that shows them."""

_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?\)")
_TUTORIAL = re.compile(r"docs/tutorials/(\d\d_\w+)\.py")


def write(documents: Path) -> None:
    """Copy the pages into the folder of the documents."""
    for source, document in PAGES.items():
        target = documents / f"{document}.md"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(relinked((REPOSITORY / source).read_text(encoding="utf-8"), source, document), encoding="utf-8")


def relinked(text: str, source: str, document: str) -> str:
    """``text`` with its links to files as they are seen from ``document``; where no page shows the file, its name stays.

    Args:
        text: Markdown with links that hold in the repository.
        source: the file it is from, relative to the repository.
        document: name of the document that it becomes.
    """

    def link(match: re.Match[str]) -> str:
        picture, name, path, anchor = match.groups()
        target = os.path.normpath(PurePosixPath(source).parent / path)
        if tutorial := _TUTORIAL.fullmatch(target):
            page = f"generated/tutorials/{tutorial[1]}.rst"
            anchor = ""
        elif target in PAGES:
            page = f"{PAGES[target]}.md"
        elif target.startswith("docs/") and (REPOSITORY / target).is_file():
            page = target.removeprefix("docs/")
        elif target.startswith("generated/"):
            return match[0]
        else:
            return name if name.strip("`") == path else f"{name} (`{target}`)"
        return f"{picture}[{name}]({os.path.relpath(page, PurePosixPath(document).parent)}{anchor or ''})"

    return _LINK.sub(link, text)


def existing_only(text: str, document: str) -> str:
    """A page without the entries of its tables of contents that do not exist: others of the project write them."""
    documents = REPOSITORY / "docs"
    made = {"generated/tutorials/index", *PAGES.values()}

    def exists(entry: str) -> bool:
        titled = re.fullmatch(r".*<(.+)>", entry)
        name = os.path.normpath(PurePosixPath(document).parent / (titled[1] if titled else entry))
        return name in made or (documents / f"{name}.md").exists()

    def block(match: re.Match[str]) -> str:
        lines = match[0].split("\n")
        kept = [line for line in lines if line.startswith(("`", ":")) or not line.strip() or exists(line)]
        return "\n".join(kept) if any(line.strip() and line[0] not in "`:" for line in kept) else ""

    return re.sub(r"```\{toctree\}.*?^```$", block, text, flags=re.DOTALL | re.MULTILINE)
