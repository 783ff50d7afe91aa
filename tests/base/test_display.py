"""Objects say what they are: in a line, and as a table for notebooks that is well-formed and escaped."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from qlm_hoomd.anharmonic import AnharmonicModes
from qlm_hoomd.display import Computation, Displayed, counted, in_words, span
from qlm_hoomd.ensemble.workspace import Workspace
from qlm_hoomd.errors import NotComputedError
from qlm_hoomd.glass import Glass
from qlm_hoomd.hessian import Hessian
from qlm_hoomd.model import GlassModel
from qlm_hoomd.modes import LowestModes, ParticipationRatioFilter
from qlm_hoomd.nonlinear import PseudoHarmonicModes
from qlm_hoomd.protocol import build_protocol
from qlm_hoomd.statistics import density_of_states, theta_from_gamma_min
from qlm_hoomd.structure import LocalOrder, RadialDistribution


def table_of(shown: Displayed) -> tuple[str, dict[str, str]]:
    """Caption and rows of the notebook's table, by an XML parser."""
    table = ET.fromstring(shown._repr_html_())  # our own markup
    caption = table.find("caption")
    assert caption is not None
    rows = {"".join(row[0].itertext()): "".join(row[1].itertext()) for row in table.iter("tr")}
    return "".join(caption.itertext()), rows


def test_a_glass_says_its_numbers_and_no_array(quenched: Glass) -> None:
    """Positions of hundreds of particles are no answer to the question what this is."""
    sheared = quenched.sheared(0.02)
    assert f"{quenched.n_particles} particles" in repr(sheared)
    assert "strain 0.02" in repr(sheared)
    assert len(repr(sheared)) < 120
    caption, rows = table_of(sheared)
    assert caption.startswith("Glass: ")
    assert float(rows["density"]) == pytest.approx(quenched.n_particles / quenched.box.volume, rel=1e-5)


def test_computations_show_the_call_and_then_the_result(quenched: Glass) -> None:
    """Before compute the line is the constructor's call; after it, the result follows."""
    hessian = Hessian(GlassModel().potential, order=4)
    modes = LowestModes(k=6)
    assert repr(modes) == "LowestModes(k=6, solver='auto', check_completeness=False)"
    assert repr(hessian).endswith(")")
    hessian.compute(quenched)
    modes.compute(hessian)
    assert f"of {quenched.n_particles} particles" in repr(hessian)
    assert repr(modes).startswith("LowestModes(k=6")
    assert "6 modes" in repr(modes)
    _, rows = table_of(modes)
    assert rows["frequencies"] == span(modes.frequencies)
    assert rows["solver_used"] == modes.solver_used
    kept = ParticipationRatioFilter(0.2).compute(modes)
    assert f"{kept.keep.sum()} of 6 modes kept" in repr(kept)
    expanded = AnharmonicModes(relaxed=False).compute(hessian, modes.vectors)
    assert "6 modes" in repr(expanded)
    assert table_of(expanded[0])[1]["kappa"] == f"{expanded[0].kappa:.6g}"
    assert f"kappa = {expanded[0].kappa:.6g}" in repr(expanded[0])
    assert LocalOrder().compute(quenched).reason in repr(LocalOrder().compute(quenched))


def test_exponents_say_value_interval_and_confidence() -> None:
    """The number that is quoted comes with its error, everywhere."""
    rng = np.random.default_rng(3)
    samples = {n: n ** (-1 / 1.5) * rng.weibull(1.5, 60) for n in (500, 1000, 2000, 4000)}
    fit = theta_from_gamma_min(samples)
    value = f"{fit.exponent.value:.3g} [{fit.exponent.low:.3g}, {fit.exponent.high:.3g}] (95%)"
    assert value in repr(fit.exponent)
    assert value in repr(fit)
    assert value in table_of(fit)[0]
    spectrum = density_of_states([0.5, 0.7, 1.0], n_particles=500, n_realisations=2, omega_max=1.6)
    assert "3 modes of 2 realisations" in repr(spectrum)


@dataclass(frozen=True, repr=False)
class _Strange(Displayed):
    text: str
    values: np.ndarray
    path: Path
    others: tuple[object, ...]

    def _headline(self) -> str:
        return "<script>&"


def test_markup_is_escaped_and_arrays_are_shapes() -> None:
    """Names of files and plugins come from users; a notebook runs what is not escaped."""
    strange = _Strange("<b>", np.zeros((3, 4)), Path("a&b"), tuple(range(20)))
    caption, rows = table_of(strange)
    assert caption == "_Strange: <script>&"
    assert "<script>" not in strange._repr_html_()
    assert rows == {
        "text": "<b>",
        "values": "array of shape (3, 4)",
        "path": "a&b",
        "others": "0, 1, 2, 3, 4, 5, 6, 7, ... (20 in all)",
    }


@dataclass(repr=False)
class _Settled(Computation):
    k: int = 3


def test_words() -> None:
    """Plain values in words."""
    assert repr(_Settled()) == "_Settled(k=3)"
    assert in_words(True) == "yes"
    assert in_words({}) == in_words(()) == in_words(None) == "none"
    assert in_words(("one", "two")) == "one; two"
    assert in_words({"N": 0.1 + 0.2}) == "N: 0.3"
    assert in_words(_Strange("", np.zeros(1), Path(), ())) == "<script>&"
    assert counted(1, "mode") == "1 mode"
    assert counted(0, "mode") == "0 modes"
    assert span([]) == "none"
    assert span([2.0, 2.0]) == "2"
    assert span([1, 3]) == "1 to 3"


def test_runs_say_what_is_asked_for(tmp_path: Path) -> None:
    """A protocol's own repr would be a page; its name, sizes and preparations are a line."""
    protocol = build_protocol(
        {
            "name": "first",
            "seed": 1,
            "ensemble": {"n_particles": [500, 1000], "preparations": ["rapid"], "realisations": 2},
            "stages": [{"kind": "prepare"}],
        }
    )
    assert repr(protocol) == "<Protocol: first, N = 500, 1000, rapid>"
    assert table_of(protocol)[1]["hash"] == protocol.hash
    workspace = Workspace.create(protocol, tmp_path)
    assert repr(workspace) == f"<Workspace: first, N = 500, 1000, rapid, in {tmp_path}>"
    realisation = workspace.realisations[0]
    assert "N=500 rapid #0" in repr(realisation)
    assert table_of(realisation)[1]["n_particles"] == "500"


def test_a_result_read_before_compute_is_missing_in_one_way_for_all() -> None:
    """One error everywhere, which ``hasattr`` takes for "not there"; a name that nobody declared stays an AttributeError."""
    potential = GlassModel().potential
    for computation, result in (
        (Hessian(potential), "bonds"),
        (Hessian(potential), "matrix"),
        (LowestModes(), "eigenvalues"),
        (AnharmonicModes(), "table"),
        (PseudoHarmonicModes(), "attempts"),
        (RadialDistribution(), "total"),
        (LocalOrder(), "crystal_fraction"),
        (ParticipationRatioFilter(0.1), "keep"),
    ):
        with pytest.raises(
            NotComputedError, match=rf"{type(computation).__name__} has no result yet; expected a call of compute\("
        ):
            getattr(computation, result)
        assert not hasattr(computation, result)
        with pytest.raises(AttributeError, match="no attribute 'colour'") as caught:
            computation.colour  # type: ignore[attr-defined]  # noqa: B018
        assert not isinstance(caught.value, NotComputedError)
