"""Measurements; each runs the thing and its limit in one go. See docs/benchmarks.md."""
