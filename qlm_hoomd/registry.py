"""The groups of entry points and what is installed in them. They live in :mod:`qlm_hoomd.base.registry`."""

from qlm_hoomd.base.registry import (
    DETECTORS,
    ENGINES,
    EXECUTORS,
    GROUPS,
    POTENTIALS,
    READERS,
    REPORT_SECTIONS,
    STAGES,
    Group,
    Plugin,
    listing,
)

__all__ = [
    "DETECTORS",
    "ENGINES",
    "EXECUTORS",
    "GROUPS",
    "POTENTIALS",
    "READERS",
    "REPORT_SECTIONS",
    "STAGES",
    "Group",
    "Plugin",
    "listing",
]
