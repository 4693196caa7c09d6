"""On what a job computes: the processor, or what its node has beside it.

Whoever runs a job says so; a learner that can compute on more than the processor asks. In a
process where nobody has said anything, it is the processor.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

CPU, CUDA, MPS = "cpu", "cuda", "mps"
#: What cuBLAS needs in the environment to give equal bits, before CUDA begins.
WORKSPACE = "CUBLAS_WORKSPACE_CONFIG", ":4096:8"


class TooLarge(MemoryError):
    """A job takes more memory than its device has; another node's may have more."""


_device: ContextVar[str] = ContextVar("device", default=CPU)


def device() -> str:
    """Return the kind of device that the job under way computes on."""
    return _device.get()


@contextmanager
def computing_on(kind: str) -> Iterator[None]:
    """Have what is done inside compute on such a device.

    Args:
        kind: `CPU`, `CUDA` or `MPS`.
    """
    token = _device.set(kind)
    try:
        yield
    finally:
        _device.reset(token)
