"""Minimisers. Each ends in a :class:`MinimizeReport`; a failure raises :class:`~qlm_hoomd.base.errors.ConvergenceError`."""

from qlm_hoomd.minimize.descent import descent
from qlm_hoomd.minimize.fire import fire
from qlm_hoomd.minimize.newton import newton
from qlm_hoomd.minimize.report import MinimizeReport

__all__ = ["MinimizeReport", "descent", "fire", "newton"]
