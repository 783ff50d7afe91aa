"""The examples in docstrings run, and print what stands there."""

from __future__ import annotations

import doctest
from importlib import import_module

import pytest

MODULES = (
    "box",
    "glass",
    "model",
    "modes",
    "potentials.inverse_power_law",
    "potentials.lennard_jones",
    "statistics.exponents",
    "statistics.plane_waves",
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module_run_as_they_stand(name: str) -> None:
    result = doctest.testmod(import_module(f"qlm_hoomd.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
