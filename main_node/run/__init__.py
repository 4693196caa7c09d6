"""A training run on top of the main node."""
