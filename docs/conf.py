"""Configuration of the documentation. `make docs` builds it, offline, with warnings as errors."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from sphinx_gallery.sorting import FileNameSortKey

import qlm_hoomd

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
# Tutorials type `qlm` into a terminal; it is the one of this environment.
os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
# Glasses are small here: threads would wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What a reader sees must not depend on the width of the terminal in which the pages were built.
os.environ["COLUMNS"] = "100"

project = "qlm_hoomd"
author = "The qlm_hoomd developers"
copyright = "2026, the qlm_hoomd developers"  # noqa: A001 Sphinx's name
release = version = qlm_hoomd.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "mathml",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "tutorials"]
nitpicky = False
# A word in brackets that is the name of two attributes is no link; the sorting key of the gallery cannot be pickled.
suppress_warnings = ["config.cache", "ref.python"]
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings give shapes and units; annotated types would drown them
autodoc_default_options = {"members": True, "exclude-members": "model_config"}  # pydantic's settings say nothing to a reader
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"qlm_hoomd {release}"
html_static_path = ["_static"]
html_css_files = ["qlm.css"]
html_math_renderer = "mathml"
html_show_sourcelink = False
highlight_language = "text"  # formulas in docstrings; code says which language it is
pygments_style = "friendly"
pygments_dark_style = "native"
copybutton_prompt_text = "$ "

try:
    import hoomd  # noqa: F401 whether it can be imported
except ImportError:
    HOOMD_IS_HERE = False
    import without_hoomd

    without_hoomd.import_modules()
else:
    HOOMD_IS_HERE = True
sphinx_gallery_conf = {
    "examples_dirs": ["tutorials"],
    "gallery_dirs": ["generated/tutorials"],
    # Tutorial 6 is shown everywhere, and runs where HOOMD-blue is installed.
    "filename_pattern": r"/\d\d_" if HOOMD_IS_HERE else r"/\d\d_(?!your_own_hoomd_script)",
    "ignore_pattern": r"my_plugins\.py$",
    "within_subsection_order": FileNameSortKey,
    "abort_on_example_error": True,
    "download_all_examples": False,
    "write_computation_times": False,
    "show_signature": False,
    "show_memory": False,
    "min_reported_time": 1e9,
    "remove_config_comments": True,
    "plot_gallery": True,
    # Tutorial 6 where it cannot run: a glass under shear and its instabilities, as it draws them.
    "default_thumb_file": str(HERE / "overview.png"),
    "image_srcset": ["2x"],
    "capture_repr": (),
}


_BORDER = re.compile(r"=+( +=+)+")


def _plain(_app: object, _what: str, _name: str, _object: object, _options: object, lines: list[str]) -> None:
    """Docstrings are plain text with formulas in it: what reStructuredText would take for markup stays what it is.

    Indented formulas and tables are shown as they stand.
    """
    out: list[str] = []
    literal = table = False
    for line in lines:
        border = _BORDER.fullmatch(line) is not None
        above = next((text for text in reversed(out) if text.strip()), "")
        if border and not table:
            table, borders = True, 1
            out += ["", "::", ""]
        elif border:
            borders += 1
        if not table and line.startswith("    ") and not literal and not (out and out[-1].strip()):
            plain = above and not above.startswith((" ", ":", "..", "* ", "- ")) and not above.endswith("::")
            if plain:
                out += ["::", ""]
            literal = bool(plain)
        elif line.strip() and not line.startswith("    "):
            literal = False
        if table:
            out.append("    " + line)
            if border and borders == 3:
                table = False
                out.append("")
        else:
            out.append(line if literal else _escaped(line))
    lines[:] = out


def _escaped(line: str) -> str:
    parts = re.split(r"(``[^`]*``|:[a-z:]+:`[^`]*`|`[^`]*`_*)", line)
    parts[::2] = [re.sub(r"(?<!\\)([|]|(?<!^)\*(?!\*|\s*$)|(?<=\w)_(?=\W|$))", r"\\\1", part) for part in parts[::2]]
    return "".join(parts)


def _generate(_app: object) -> None:
    import pictures
    import protocol_reference
    import repository_pages

    folder = HERE / "generated"
    folder.mkdir(exist_ok=True)
    repository_pages.write(HERE)
    pictures.draw(folder / "pictures")
    protocol_reference.write(folder / "protocol.md")


def _relink(_app: object, document: str, source: list[str]) -> None:
    """Links hold in the repository, where these pages are read too; here they lead to what is shown here."""
    import repository_pages

    if (HERE / f"{document}.md").exists() and not document.startswith("generated/"):
        source[0] = repository_pages.relinked(
            repository_pages.existing_only(source[0], document), f"docs/{document}.md", document
        )


def _copy_results(app: Any, exception: Exception | None) -> None:
    """The shipped report links to the files beside it: they are copied beside the page."""
    if exception is None:
        shutil.copytree(
            HERE / "results", Path(app.outdir) / "results", ignore=shutil.ignore_patterns("*.md"), dirs_exist_ok=True
        )


def setup(app: object) -> None:
    """Hook what is made at build time into the build."""
    app.connect("builder-inited", _generate, priority=100)  # type: ignore[attr-defined]
    app.connect("source-read", _relink)  # type: ignore[attr-defined]
    app.connect("autodoc-process-docstring", _plain, priority=900)  # type: ignore[attr-defined]
    app.connect("build-finished", _copy_results)  # type: ignore[attr-defined]
