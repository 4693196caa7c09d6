"""`python -m main_node`: `mnist-main`."""

from __future__ import annotations

from mnist_merge import main

if __name__ == "__main__":
    main()
