"""Learners made of what users bring: their own nets, KubeML's models, learners in a file."""
