"""Measurements: each runs the thing and its limit, or its peer, in one go. See docs/benchmarks.md."""
