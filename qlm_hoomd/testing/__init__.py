"""Conformance suites: what every plugin of a group must do. A plugin's test file inherits one and names what to test.

    from qlm_hoomd.testing import PotentialConformance

    class TestMyPotential(PotentialConformance):
        potential = MyPotential(...)

In a script or a notebook one line tells whether a potential is right, registered or not::

    check_potential(MyPotential(...))

The suites need no test runner but one that calls methods named ``test_*``, such as pytest. They run in an environment in
which the plugin's distribution is installed, since being found there is part of the contract.
"""

from __future__ import annotations

from qlm_hoomd.testing.detectors import DetectorConformance
from qlm_hoomd.testing.engines import EngineConformance
from qlm_hoomd.testing.executors import ExecutorConformance
from qlm_hoomd.testing.potentials import PotentialConformance
from qlm_hoomd.testing.sections import ReportSectionConformance
from qlm_hoomd.testing.settings import SettingsConformance
from qlm_hoomd.testing.stages import StageConformance
from qlm_hoomd.testing.twins import PotentialCheck, check_potential

__all__ = [
    "DetectorConformance",
    "EngineConformance",
    "ExecutorConformance",
    "PotentialCheck",
    "PotentialConformance",
    "ReportSectionConformance",
    "SettingsConformance",
    "StageConformance",
    "check_potential",
]
