"""Results say what they are in a line, however many numbers they hold."""

from __future__ import annotations

import numpy as np
from qlm_mesoscopic.kinds import ModeBlocks
from qlm_mesoscopic.master import MasterEquation
from qlm_mesoscopic.meanfield import MeanField
from qlm_mesoscopic.observables import Exponent


def test_results_in_a_line() -> None:
    model = MeanField(400, 0.1, blocks=ModeBlocks(), seed=1)
    run = model.steady_state(0.2, skip=0.1)
    assert f"failures = {run.failures}" in repr(run)
    assert f"load_a = array {run.load_a.shape}" in repr(run)
    assert f"{len(run.snapshots)} of ModeSnapshot" in repr(run)
    for shown in (run, model.snapshot(), MasterEquation(0.2).steady()):
        assert repr(shown).startswith(f"<{type(shown).__name__}: ")
        assert len(repr(shown)) < 500
        assert shown._repr_html_().count("<tr>") == len(shown._facts())


def test_numbers_are_rounded_and_markup_escaped() -> None:
    exponent = Exponent(np.float64(0.123456789), 0.1, 0.05, 0.05, (0.01, 0.1), 7)
    assert repr(exponent).startswith("<Exponent: value = 0.123457, error = 0.1")
    assert "window = (0.01, 0.1)" in repr(exponent)
    assert '<th scope="row">window</th><td>(0.01, 0.1)</td>' in exponent._repr_html_()
