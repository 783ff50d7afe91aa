"""Exceptions of qlm_hoomd: what a plugin raises. They live in :mod:`qlm_hoomd.base.errors`."""

from qlm_hoomd.base.errors import (
    BasinLost,
    BlowUpError,
    ConvergenceError,
    InputError,
    InsufficientStatistics,
    NotComputedError,
    PluginError,
    ProtocolError,
    QlmError,
    StorageFull,
    did_you_mean,
)

__all__ = [
    "BasinLost",
    "BlowUpError",
    "ConvergenceError",
    "InputError",
    "InsufficientStatistics",
    "NotComputedError",
    "PluginError",
    "ProtocolError",
    "QlmError",
    "StorageFull",
    "did_you_mean",
]
