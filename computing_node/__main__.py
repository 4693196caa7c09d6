"""`python -m computing_node`: `mnist-compute`."""

from __future__ import annotations

from mnist_merge import compute

if __name__ == "__main__":
    compute()
