"""The device that a net computes on: found, made exact, and asked how much it holds.

`python mnist_merge.py learning.neural.device` prints the names of the GPUs that torch finds here,
as a JSON list: a process of its own, for those that don't import torch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils import deterministic

from .. import devices
from ..errors import LearningError

#: Beside a shard, a job takes this for net, gradients and graphs, and some batches.
MARGIN_BYTES, MARGIN_BATCHES = 1 << 28, 4


def computing() -> torch.device:
    """Return the device that the job under way computes on, ready to give equal bits.

    Raises:
        LearningError: torch can't use it here.
    """
    kind = devices.device()
    if kind == devices.CUDA:
        os.environ.setdefault(*devices.WORKSPACE)
        if not torch.cuda.is_available():
            raise LearningError(f"torch {torch.__version__} can't use a GPU here")
        _be_exact()
    elif kind == devices.MPS and not torch.backends.mps.is_available():
        raise LearningError(f"torch {torch.__version__} can't use Metal here")
    return torch.device(kind)


def _be_exact() -> None:
    """Have torch compute the same on GPUs of one model, each time: it costs nothing here."""
    torch.use_deterministic_algorithms(True)
    deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def check_room(device: torch.device, nbytes: int, batch_bytes: int) -> None:
    """Raise unless a shard fits into what is free on a GPU, beside what its job takes.

    Args:
        device: that computes.
        nbytes: of the shard as it is to lie there.
        batch_bytes: of its largest batch, as floats.

    Raises:
        TooLarge: it does not.
    """
    if device.type != devices.CUDA:
        return
    free, _ = torch.cuda.mem_get_info(device)
    wanted = nbytes + MARGIN_BYTES + MARGIN_BATCHES * batch_bytes
    if wanted > free:
        raise devices.TooLarge(
            f"too large for this node: the shard and what learning takes beside it are {wanted:,}"
            f" bytes on the GPU, which has {free:,} free"
        )


@contextmanager
def at_work(device: torch.device) -> Iterator[None]:
    """Have what is done inside be done on a GPU's stream of its own, which can be captured.

    Raises:
        TooLarge: the GPU has not enough memory.
    """
    if device.type != devices.CUDA:
        yield
        return
    try:
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            yield
        stream.synchronize()
    except torch.cuda.OutOfMemoryError as error:
        raise devices.TooLarge(f"too large for this node: {error}") from error


def wait(device: torch.device) -> None:
    """Wait until what a GPU was asked for is done: it is asked for more than it does at once."""
    if device.type == devices.CUDA:
        torch.cuda.current_stream(device).synchronize()


def names() -> list[str]:
    """Return the models of the GPUs that torch finds here, in its order."""
    return [torch.cuda.get_device_name(each) for each in range(torch.cuda.device_count())]


if __name__ == "__main__":
    print(json.dumps(names()))
