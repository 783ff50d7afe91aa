"""What goes wrong here, said as fact, expectation, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, nan
from typing import Any


class ModelError(ValueError):
    """An argument that the model cannot take; the message says what it is, what was expected and what to do."""


class NotEnoughDataError(ModelError):
    """Too few events, blocks or cells for the answer that was asked for.

    Args:
        message: fact, expectation, what to do.
        found: how many there are.
        needed: how many it takes.
    """

    def __init__(self, message: str, found: int = 0, needed: int = 0) -> None:  # defaults: pickle restores from the message
        super().__init__(message)
        self.found = found
        self.needed = needed


class RunawayAvalanche(ModelError):  # noqa: N818 an event of the model, by the name that it has in the field
    """An avalanche did not stop: the noise is too strong for the model to be stable, or the stress is beyond yielding.

    Args:
        message: fact, expectation, what to do.
        failures: how many failures it had when it was stopped.
        stress: applied stress at that moment.
        run: what was recorded until the avalanche began to run away, a :class:`qlm_mesoscopic.meanfield.Run` or its like.
    """

    def __init__(self, message: str, failures: int = 0, stress: float = nan, run: Any = None) -> None:
        super().__init__(message)
        self.failures = failures
        self.stress = stress
        self.run = run


def enough(what: str, found: int, needed: int, advice: str = "Record more, or take more blocks.") -> None:
    """Refuse too little data.

    Raises:
        NotEnoughDataError: if less was found than is needed.
    """
    if found < needed:
        raise NotEnoughDataError(f"{found} {what}; expected at least {needed}. {advice}", found, needed)


def positive(**values: float) -> None:
    """Refuse numbers that are not positive and finite, by their names.

    Raises:
        ModelError: for the first of them.
    """
    for name, value in values.items():
        if not 0.0 < value < inf:
            raise ModelError(f"{name} = {value}; expected a positive number.")


def one_of(options: Sequence[Any], **values: Any) -> None:
    """Refuse values that are none of the options, by their names.

    Raises:
        ModelError: for the first of them.
    """
    for name, value in values.items():
        if value not in options:
            raise ModelError(f"{name} = {value!r}; expected {' or '.join(map(repr, options))}.")
