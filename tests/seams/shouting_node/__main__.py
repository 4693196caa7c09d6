"""`python -m shouting_node`."""

from __future__ import annotations

from mnist_merge import run

if __name__ == "__main__":
    run("shouting_node.command:main")
