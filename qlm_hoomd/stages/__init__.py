"""Stages of a protocol: what one is and what it is handed (:mod:`qlm_hoomd.stages.base`), and those that come along."""

from qlm_hoomd.base.files import replacing
from qlm_hoomd.stages.base import Stage, StageContext

__all__ = ["Stage", "StageContext", "replacing"]
