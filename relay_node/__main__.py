"""`python -m relay_node`: `mnist-relay`."""

from __future__ import annotations

from mnist_merge import relay

if __name__ == "__main__":
    relay()
