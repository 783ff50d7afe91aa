"""Quasi-localised modes and plastic instabilities of computer glasses."""

__version__ = "0.1.0"
