"""What holds for all tests."""

from __future__ import annotations

from hypothesis import settings

# A busy machine is no defect: no example fails for the time that it took.
settings.register_profile("lowtide", deadline=None)
settings.load_profile("lowtide")
