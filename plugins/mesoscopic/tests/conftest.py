"""Settings for all tests of the model."""

from __future__ import annotations

import hypothesis

# A shared machine may stall for longer than hypothesis allows one example.
hypothesis.settings.register_profile("qlm", deadline=None)
hypothesis.settings.load_profile("qlm")
