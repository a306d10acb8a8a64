"""The ``lowtide`` command."""
