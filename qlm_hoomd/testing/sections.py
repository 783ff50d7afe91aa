"""What every section of the report must do."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

from qlm_hoomd.base.registry import REPORT_SECTIONS
from qlm_hoomd.ensemble.workspace import Workspace
from qlm_hoomd.protocol import build_protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qlm_hoomd.report.results import Section

_VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
_FROM_OUTSIDE = re.compile(r"""(?:\bsrc\s*=|@import|url\()\s*["']?(?!["'\s#]|data:)|<link\b""", re.IGNORECASE)


class ReportSectionConformance:
    """Suite for sections of the report.

    Attributes:
        name: what the section is registered as.
        stages: stages of the protocol whose empty run the section is shown.
        directory: folder of a finished run that the section is shown too, or None.
    """

    name: ClassVar[str]
    stages: ClassVar[Sequence[Mapping[str, Any]]] = ({"kind": "prepare"},)
    directory: ClassVar[Path | None] = None

    def test_copes_with_a_run_that_has_not_begun(self) -> None:
        """A report can be asked for at any time: the section then says what is missing, or is left out."""
        with TemporaryDirectory() as folder:
            protocol = build_protocol(
                {
                    "name": "conformance",
                    "seed": 1,
                    "ensemble": {"n_particles": [200, 400], "preparations": ["rapid"], "realisations": 2},
                    "stages": list(self.stages),
                }
            )
            Workspace.create(protocol, Path(folder))
            self._assert_well_made(Path(folder))

    def test_shows_a_finished_run(self) -> None:
        """The section of a finished run is well-formed, self-contained, and the same each time."""
        if self.directory is not None:
            first, second = (self._assert_well_made(self.directory) for _ in range(2))
            assert first is not None, "the section of a finished run is left out"
            assert second is not None
            assert first.html == second.html, "two reports of the same run differ"

    def _assert_well_made(self, directory: Path) -> Section | None:
        from qlm_hoomd.report.results import Results, Section

        section = REPORT_SECTIONS.load(self.name)(Results.load(directory))
        if section is None:
            return None
        assert isinstance(section, Section), f"the section is a {type(section).__name__}; expected a Section or None"
        assert section.title, "the section has no title"
        for text in (section.html, *(figure.caption for figure in section.figures)):
            _Balance().check(text)
            outside = _FROM_OUTSIDE.search(text)
            assert outside is None, (
                f"'{outside and outside[0]}...' loads something from outside; expected one self-contained page"
            )
        names = [figure.name for figure in section.figures]
        assert len(set(names)) == len(names), f"two figures have one name: {names}"
        return section


class _Balance(HTMLParser):
    """Checks that elements are closed in the order they are opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def check(self, text: str) -> None:
        self.feed(text)
        self.close()
        assert not self.open, f"<{self.open[-1]}> is not closed" if self.open else ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """``<path ... />`` of inline SVG opens and closes."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>"
        self.open.pop()
