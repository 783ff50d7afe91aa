"""A stage's state on its way, for plugins. It lives in :mod:`qlm_hoomd.base.checkpoint`."""

from qlm_hoomd.base.checkpoint import (
    INTERVAL_VARIABLE,
    Checkpoint,
    Waypoint,
    interval_from_environment,
    kept_path,
    packed,
    unpacked,
)

__all__ = ["INTERVAL_VARIABLE", "Checkpoint", "Waypoint", "interval_from_environment", "kept_path", "packed", "unpacked"]
