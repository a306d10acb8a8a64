"""lowtide: every task on the cheapest lane that still meets its deadline, answered once, with a receipt."""

__version__ = "0.1.0"
"""The same as in pyproject.toml: the deployed zip holds no package data to read it from."""
