"""How objects show themselves, for plugins. It lives in :mod:`qlm_hoomd.base.display`."""

from qlm_hoomd.base.display import Computation, Displayed, counted, in_words, span

__all__ = ["Computation", "Displayed", "counted", "in_words", "span"]
