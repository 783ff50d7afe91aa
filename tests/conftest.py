"""What all tests share: the rule for HOOMD-blue, a line on it in the summary, and hypothesis without a stop-watch."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

NO_HOOMD = "HOOMD-blue is not installed in this interpreter (it is on conda-forge: environment.yml)"

# The first call of a compiled kernel takes seconds, the next ones microseconds: time says nothing about a property.
hypothesis.settings.register_profile("qlm", deadline=None)
hypothesis.settings.load_profile("qlm")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs HOOMD-blue where there is none."""
    if find_spec("hoomd") is not None:
        return
    for item in items:
        if item.get_closest_marker("hoomd") is not None:
            item.add_marker(pytest.mark.skip(reason=NO_HOOMD))


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Say how many tests met the real HOOMD-blue, so that a green run cannot hide that none did."""
    ran, skipped = set(), set()
    for outcome, reports in terminalreporter.stats.items():
        for report in reports:
            if "hoomd" in getattr(report, "keywords", {}):
                (skipped if outcome == "skipped" else ran).add(report.nodeid)
    why = f" ({NO_HOOMD})" if skipped and find_spec("hoomd") is None else ""
    terminalreporter.write_line(f"tests with HOOMD-blue: {len(ran)} ran, {len(skipped)} skipped{why}")
