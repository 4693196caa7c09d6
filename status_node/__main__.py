"""`python -m status_node`: `mnist-status`."""

from __future__ import annotations

from mnist_merge import status

if __name__ == "__main__":
    status()
