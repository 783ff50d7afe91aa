"""What goes wrong here, said as fact, expectation, and what to do."""

from __future__ import annotations

from typing import Any


class ModelError(ValueError):
    """An argument that the model cannot take; the message says what it is, what was expected and what to do."""


class InsufficientStatistics(ModelError):
    """Too few events or blocks for the answer that was asked for.

    Args:
        message: fact, expectation, what to do.
        found: how many there are.
        needed: how many it takes.
    """

    def __init__(self, message: str, found: int, needed: int) -> None:
        super().__init__(message)
        self.found = found
        self.needed = needed


class RunawayAvalanche(ModelError):  # noqa: N818
    """An avalanche did not stop: the noise is too strong for the model to be stable, or the stress is beyond yielding.

    Args:
        message: fact, expectation, what to do.
        failures: how many failures it had when it was stopped.
        stress: applied stress at that moment.
        run: what was recorded until the avalanche began to run away, a :class:`qlm_mesoscopic.meanfield.Run` or its like.
    """

    def __init__(self, message: str, failures: int, stress: float, run: Any = None) -> None:
        super().__init__(message)
        self.failures = failures
        self.stress = stress
        self.run = run
