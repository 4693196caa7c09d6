"""Measurements: each runs the thing and its limit or peer in one go. See docs/benchmarks.md."""
