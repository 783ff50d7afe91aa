"""Settings that plugins define. They live in :mod:`qlm_hoomd.base.settings`."""

from qlm_hoomd.base.settings import OfKind

__all__ = ["OfKind"]
