"""The documentation: tutorials run, the reference has every key, links hold. `make docs` builds the pages themselves."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from qlm_hoomd.protocol import schema
from tests.browser import CHROMIUM, WHY_NOT, opened
from tests.stand_ins import fake_slurm

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
TUTORIALS = sorted((DOCS / "tutorials").glob("[0-9]*.py"))
PAGES = sorted({*DOCS.glob("*.md"), *DOCS.glob("reference/*.md")})


def module(name: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    loaded = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(loaded)
    return loaded


@pytest.mark.parametrize(
    "path",
    # The sixth is run where the driver is tested.
    [pytest.param(path, id=path.stem) for path in TUTORIALS if not path.stem.startswith("06")],
)
def test_tutorial_runs(path: Path, tmp_path: Path) -> None:
    environment = os.environ | {
        "MPLBACKEND": "agg",
        "OMP_NUM_THREADS": "1",
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))),
    }
    done = subprocess.run(
        [sys.executable, str(path)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr, done.stderr
    assert done.stdout.strip()
    assert not list(tmp_path.iterdir()), "a tutorial cleans up"


@pytest.mark.skipif(CHROMIUM is None, reason=WHY_NOT)
def test_formulas_have_no_scroll_bars_of_their_own_on_a_telephone(tmp_path: Path) -> None:
    """Those too wide for it scroll sideways, none up and down, and the page not at all."""
    convert = pytest.importorskip("latex2mathml.converter", reason="make docs installs it").convert
    formulas = [
        text
        for page in PAGES
        for text in re.findall(r"^\$\$(.+?)\$\$$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    ]
    assert len(formulas) >= 8
    style = (DOCS / "_static" / "qlm.css").read_text(encoding="utf-8")
    body = "".join(f'<div class="math">{convert(text, display="block")}</div>' for text in formulas)
    (tmp_path / "page.html").write_text(
        f"<!doctype html><style>{style}</style><meta charset=utf-8><body>{body}", encoding="utf-8"
    )
    with opened(tmp_path / "profile") as browser:
        browser.show(width=400)
        browser.open(tmp_path / "page.html")
        sizes = browser.ask("[...document.querySelectorAll('.math')].map((e) => [e.scrollHeight, e.clientHeight])")
        assert browser.ask("document.documentElement.scrollWidth") <= 400
    assert len(sizes) == len(formulas)
    assert [pair for pair in sizes if pair[0] > pair[1]] == []


def test_tutorials_are_numbered_and_have_what_a_reader_needs() -> None:
    assert [path.stem[:2] for path in TUTORIALS] == [f"{number:02}" for number in range(1, len(TUTORIALS) + 1)]
    for path in TUTORIALS:
        text = path.read_text(encoding="utf-8")
        title = text.splitlines()[1]
        assert title.startswith(f"{int(path.stem[:2])}. ")
        assert set(text.splitlines()[2]) == {"="}
        assert len(text.splitlines()[2]) >= len(title)
        for word in ("Questions:", "Objectives:", "# Summary\n"):
            assert word in text, f"{path.name}: no {word}"


def test_reference_has_every_key_of_the_schema(tmp_path: Path) -> None:
    reference = module("protocol_reference")
    reference.write(tmp_path / "protocol.md")
    text = (tmp_path / "protocol.md").read_text(encoding="utf-8")
    document = schema()
    missing = [key for key in reference.keys(document) - {"kind"} if f"| `{key}` |" not in text]
    assert not missing
    for definition in document["$defs"].values():
        kind = definition.get("properties", {}).get("kind", {}).get("const")
        assert kind is None or f"### `kind: {kind}`" in text
    # A default that the page shows is the schema's.
    density = document["$defs"]["GlassModel"]["properties"]["density"]["default"]
    assert f"| `density` | a number > 0 | `{json.dumps(density)}` |" in text


def test_links_of_the_pages_lead_somewhere() -> None:
    pages = module("repository_pages")
    broken = []
    for page in PAGES:
        for path in re.findall(r"\]\((?![a-z]+:|#)([^)#\s]+)", page.read_text(encoding="utf-8")):
            target = (page.parent / path).resolve()
            generated = target.relative_to(DOCS).with_suffix("").as_posix() if target.is_relative_to(DOCS) else ""
            if not (target.exists() or generated == "generated/tutorials/index" or generated in pages.PAGES.values()):
                broken.append(f"{page.name}: {path}")
    assert not broken


def test_links_are_seen_from_the_page_that_shows_them() -> None:
    relinked = module("repository_pages").relinked
    assert relinked("[a](docs/concepts.md#words)", "README.md", "generated/readme") == "[a](../concepts.md#words)"
    assert relinked("[a](../README.md)", "docs/index.md", "index") == "[a](generated/readme.md)"
    assert relinked("![a](docs/overview.png)", "README.md", "generated/readme") == "![a](../overview.png)"
    assert relinked("[a](CITATION.cff)", "README.md", "generated/readme") == "a (`CITATION.cff`)"
    tutorial = "docs/tutorials/05_write_a_plugin.py"
    assert relinked(f"[a]({tutorial})", "README.md", "generated/readme") == "[a](tutorials/05_write_a_plugin.rst)"
    assert relinked("[a](https://example.org/x)", "README.md", "generated/readme") == "[a](https://example.org/x)"


def test_tables_of_contents_lose_only_what_does_not_exist() -> None:
    text = "```{toctree}\n:hidden:\n\nconcepts\nREADME <generated/readme>\nno_such_page\n```\n"
    left = "```{toctree}\n:hidden:\n\nconcepts\nREADME <generated/readme>\n```\n"
    assert module("repository_pages").existing_only(text, "index") == left


def test_every_public_module_is_in_the_api_reference() -> None:
    shown = set(re.findall(r"automodule:: (\S+)", "".join(page.read_text() for page in (DOCS / "reference").glob("api_*.md"))))
    # Loops behind the interface, assembly of the report, and what only the command line speaks to.
    for name in shown:
        assert importlib.util.find_spec(name.split(".")[0]) is not None
    assert {"qlm_hoomd.glass", "qlm_hoomd.modes", "qlm_hoomd.potentials", "qlm_quasistatic.stepper", "qlm_rewind.fold"} <= shown


def test_pictures_in_the_repository_are_small() -> None:
    pictures = [path for path in DOCS.glob("*.*") if path.suffix in {".png", ".svg"}]
    assert pictures
    assert all(path.stat().st_size < 200_000 for path in pictures)


SMALL_RUN = """\
name: first
seed: 3
ensemble: {n_particles: [84], preparations: [rapid], realisations: 2}
stages:
  - kind: prepare
  - {kind: shear, strain_max: 0.002}
"""


def test_commands_of_the_pages_run_in_a_small_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page on clusters from top to bottom, with stand-ins for the commands of SLURM and row; then the tables are read."""
    text = (DOCS / "cluster.md").read_text(encoding="utf-8")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    fake_slurm(tmp_path / "bin", monkeypatch, row="true")
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(SMALL_RUN, encoding="utf-8")
    (settings,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    Path("cluster.yaml").write_text(settings, encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == text.count("```sh")
    blocks.insert(1, "qlm run small.yaml --out /scratch/me/other --executor slurm --slurm cluster.yaml")
    for block in blocks:
        script = block.replace("/scratch/me", str(tmp_path)).replace("protocols/paper_rapid.yaml", "small.yaml")
        assert "small.yaml" in script or "paper" not in script
        done = subprocess.run(["/bin/bash", "-euc", script], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        for ids in tmp_path.glob("rapid/.slurm/*/0.ids"):
            shutil.copy(ids, tmp_path)
    assert (tmp_path / "elsewhere" / "results" / "report.html").is_file()
    example = re.findall(r"```python\n(.*?)```", (DOCS / "reference" / "files.md").read_text(encoding="utf-8"), re.DOTALL)[0]
    assert "runs/first/workspace" in example
    names: dict[str, Any] = {}
    exec(example.replace("runs/first", str(tmp_path / "rapid")), names)
    assert "strain_c" in names["events"].columns
