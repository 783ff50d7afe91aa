"""The slow suite: what every test compares goes into a ledger, which the summary prints whether the test passes or not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from _pytest.terminal import TerminalReporter
    from numpy.typing import ArrayLike

_PROPERTY = "ledger"
# The suite's criterion: agreement within two joint standard errors.
_LARGEST_Z = 2.0
# Samples behind a reference that comes without an error of its own.
_REFERENCE_SAMPLES = 24


class Ledger:
    """Comparisons of measured means with references, each with its z-score."""

    def __init__(self, record: Callable[[str, object], None]) -> None:
        self._record = record
        self.failures: list[str] = []

    def compare(self, name: str, samples: ArrayLike, reference: float, reference_error: float | None) -> None:
        """Compare the mean of independent samples with ``reference`` +- ``reference_error``.

        None says that the reference has no error of its own; it is then taken to be as uncertain as 24 of the samples.
        """
        samples_s = np.asarray(samples, dtype=float)
        spread = samples_s.std(ddof=1)
        if reference_error is None:
            reference_error = float(spread / np.sqrt(_REFERENCE_SAMPLES))
        self.compare_mean(name, samples_s.mean(), spread / np.sqrt(len(samples_s)), reference, reference_error)

    def compare_mean(self, name: str, mean: float, error: float, reference: float, reference_error: float = 0.0) -> None:
        """The same for a mean whose standard error is known, against a reference that may be exact."""
        z = (mean - reference) / np.hypot(error, reference_error)
        line = f"{name}: {mean:.6g} +- {error:.2g}, reference {reference:.6g} +- {reference_error:.2g}, z = {z:+.2f}"
        self._record(_PROPERTY, line)
        if not abs(z) < _LARGEST_Z:
            self.failures.append(line)

    def note(self, line: str) -> None:
        """Put a line into the ledger that compares nothing."""
        self._record(_PROPERTY, line)


@pytest.fixture
def ledger(record_property: Callable[[str, object], None]) -> Ledger:
    return Ledger(record_property)


@pytest.fixture
def ensemble_directory(tmp_path: Path) -> Callable[[str], Path]:
    """Where an ensemble is made: under QLM_PHYSICS_DIR, if set, so that a long run can be resumed; else thrown away."""
    kept = os.environ.get("QLM_PHYSICS_DIR")
    return lambda name: (Path(kept) if kept else tmp_path) / name


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    reports: list[Any] = [report for key in ("passed", "failed") for report in terminalreporter.stats.get(key, [])]
    for report in reports:
        lines = [value for name, value in getattr(report, "user_properties", []) if name == _PROPERTY]
        if lines:
            terminalreporter.section(f"{report.nodeid} {report.outcome}", sep="-")
            for line in lines:
                terminalreporter.write_line(str(line))
