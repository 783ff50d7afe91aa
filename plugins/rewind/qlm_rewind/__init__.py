"""Instability detectors that rewind: states are kept, and shearing goes back to one by taking it up again."""

from qlm_rewind.fold import FoldDetector
from qlm_rewind.threshold import ThresholdDetector

__all__ = ["FoldDetector", "ThresholdDetector"]
__version__ = "0.1.0"
