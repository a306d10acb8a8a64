"""A day of traffic in seconds: what it brings, what goes wrong in it, and what is left of it."""
