"""The errors of qlm_hoomd. Every message says the fact, what was expected, and what to do."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class QlmError(Exception):
    """Base of every error that qlm_hoomd raises on purpose."""


class InputError(QlmError):
    """The user's input is wrong (exit code 2 on the command line)."""


class ProtocolError(InputError):
    """A protocol file is wrong.

    Args:
        path: the protocol file, or None for a protocol that was built in Python.
        problems: (line, message) pairs; the line is None where it is unknown.
    """

    def __init__(self, path: Path | None, problems: list[tuple[int | None, str]]) -> None:
        self.path = path
        self.problems = problems
        name = str(path) if path is not None else "protocol"
        super().__init__(
            "\n".join(f"{name}, line {line}: {text}" if line is not None else f"{name}: {text}" for line, text in problems)
        )


class NotComputedError(QlmError, AttributeError):
    """A result was read before the call of ``compute`` that gives it; for ``hasattr`` it is not there."""


class ConvergenceError(QlmError):
    """A minimisation or another iteration did not reach its criterion.

    Args:
        message: the fact.
        report: the report of the iteration as far as it came.
    """

    def __init__(self, message: str, report: Any = None) -> None:
        self.report = report
        super().__init__(message)


class BasinLost(ConvergenceError):  # noqa: N818
    """The basin in which a relaxation started holds no minimum any more, or none within its reach: an instability was passed."""


class BlowUpError(QlmError):
    """A state left the region where its numbers mean anything: an integration step was too long."""


class InsufficientStatistics(QlmError):
    """The data do not carry the number that was asked for.

    Args:
        reason: why the estimate is withheld.
        estimate: the estimate all the same, for the eyes of those who insist.
    """

    def __init__(self, reason: str, estimate: Any = None) -> None:
        self.reason = reason
        self.estimate = estimate
        super().__init__(reason)


class PluginError(QlmError):
    """A plugin could not be loaded or does not keep its contract."""


class NotAsWritten(QlmError):  # noqa: N818
    """A file of a run is not what its stage wrote, or was made from what is no longer there."""


class StorageFull(QlmError):  # noqa: N818
    """The disk is full, or a quota is reached: no realisation can go on, and none is to blame."""


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """' Did you mean '...'?' where a word of ``known`` is close to ``word``, or has it for its initials, else nothing."""
    known = list(known)
    matches = get_close_matches(str(word), known, n=1)
    matches += [each for each in known if "_" in each and "".join(part[:1] for part in each.split("_")) == word]
    return f" Did you mean '{matches[0]}'?" if matches else ""
