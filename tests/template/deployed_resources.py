"""Looking things up in a template's resources."""

from __future__ import annotations


def of_type(deployed, kind):
    return {name: resource for name, resource in deployed.items() if resource["Type"] == kind}


def as_list(value):
    return value if isinstance(value, list) else [value]
