"""Settings that plugins define. They live in :mod:`qlm_hoomd.base.settings`."""

from qlm_hoomd.base.settings import Later, OfKind, Settings, for_hash, is_later

__all__ = ["Later", "OfKind", "Settings", "for_hash", "is_later"]
