"""Which version this is, and where its files are."""

from pathlib import Path

__version__ = "0.1.0"

PACKAGE = Path(__file__).parents[1]
"""The folder of the package, with what it ships beside code."""
