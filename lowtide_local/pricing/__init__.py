"""Writes ``functions/lowtide/prices.json`` from two public price tables, cross-checked. See docs/costs.md."""
