"""A checkpoint that stops a stage where a test wants it to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qlm_hoomd.base.checkpoint import Checkpoint
from qlm_hoomd.base.interrupt import listening, request_stop

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class StoppingCheckpoint(Checkpoint):
    """Saves and stops the stage at one of its waypoints, as a signal would.

    Args:
        path: file of the checkpoint.
        stop_at: number of the waypoint, from 1; 0 for none.
    """

    def __init__(self, path: Path, stop_at: int) -> None:
        super().__init__(path, {}, interval=1e9)
        self.stop_at, self.passed = stop_at, 0

    def waypoint(self, state: Callable[[], Any]) -> None:
        """See :meth:`Checkpoint.waypoint`; counts in ``passed``."""
        self.passed += 1
        with listening():
            if self.passed == self.stop_at:
                request_stop(15)
            super().waypoint(state)
