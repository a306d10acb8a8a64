"""Decisions: pure functions over frozen values, with ``now`` passed in. No I/O, no clock, no cloud."""
