"""The report: tables, exponents, figures and one page, from whatever of an ensemble is done."""

from __future__ import annotations

from qlm_hoomd.report.page import make_report
from qlm_hoomd.report.results import Results, Run, Section, SectionFigure

__all__ = ["Results", "Run", "Section", "SectionFigure", "make_report"]
