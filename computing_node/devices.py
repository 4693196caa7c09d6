"""What a computing node has for its jobs to run on: the processor, or GPUs, one for each place.

What GPUs there are is asked of torch itself, in a process of its own that ends again: it knows what
a container, a driver or `CUDA_VISIBLE_DEVICES` lets it use, and a node has no torch. Where no GPU's
driver is loaded, nobody is asked.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from learning.devices import CPU, CUDA, MPS
from mnist_merge import command
from protocol.wire.entry import Entry
from protocol.wire.words import safe_line

from .errors import ConfigError

log = logging.getLogger("mnist.compute")

AUTO = "auto"
#: What `mnist-compute --device` may be.
CHOICES = AUTO, CPU, CUDA, MPS
#: One of these is there where a GPU's driver is loaded: NVIDIA's, WSL's, AMD's.
_DRIVERS = tuple(map(Path, ("/dev/nvidiactl", "/proc/driver/nvidia", "/dev/dxg", "/dev/kfd")))
#: To import torch and to begin with CUDA may take so long.
_SECONDS = 120.0
_VISIBLE = "CUDA_VISIBLE_DEVICES"


class Gpu(NamedTuple):
    """A GPU that torch can use.

    Args:
        name: its model.
        visible: what `CUDA_VISIBLE_DEVICES` is for a process that is to see it alone.
    """

    name: str
    visible: str


@dataclass(frozen=True)
class Devices:
    """What jobs run on.

    Args:
        kind: `cpu`, `cuda` or `mps`.
        gpus: the GPUs, in the order in which places get them.
    """

    kind: str = CPU
    gpus: tuple[Gpu, ...] = ()

    def __str__(self) -> str:
        models = " and ".join(dict.fromkeys(gpu.name for gpu in self.gpus))
        return f"{self.kind}: {models}" if models else self.kind

    def at(self, place: int) -> str:
        """Return what `CUDA_VISIBLE_DEVICES` is for a place; empty: it is left as it is."""
        return self.gpus[place % len(self.gpus)].visible if self.gpus else ""


def find(wanted: str, seat: int = 0) -> Devices:
    """Return what a node offers.

    Args:
        wanted: one of `CHOICES`.
        seat: which of several nodes on this machine it is: each begins with another GPU.

    Raises:
        ConfigError: GPUs are wanted, and torch can use none.
    """
    if wanted in (CPU, MPS):
        return Devices(wanted)
    if wanted == AUTO and not any(driver.exists() for driver in _DRIVERS):
        return Devices()
    names, why = _ask()
    if names:
        visible = [each for each in os.environ.get(_VISIBLE, "").split(",") if each]
        visible = visible or list(map(str, range(len(names))))
        gpus = list(map(Gpu, names, visible))
        first = seat % len(gpus)
        return Devices(CUDA, (*gpus[first:], *gpus[:first]))
    if wanted == CUDA:
        raise ConfigError(f"--device cuda: torch finds no GPU that it can use here ({why})")
    log.warning(
        Entry("gpu.unusable", "there is a GPU's driver; jobs run on the processor", why=why)
    )
    return Devices()


def _ask() -> tuple[list[str], str]:
    """Return the models of the GPUs that torch finds, or why there are none."""
    try:
        done = subprocess.run(
            command("learning.neural.device"), stdin=subprocess.DEVNULL, capture_output=True,
            text=True, errors="backslashreplace", timeout=_SECONDS, check=False,
        )  # fmt: skip
        lines = done.stderr.strip().splitlines()
        if done.returncode:
            return [], safe_line(lines[-1]) if lines else f"exit code {done.returncode}"
        names = [str(name) for name in json.loads(done.stdout.splitlines()[-1])]
    except (OSError, ValueError, TypeError, IndexError, subprocess.TimeoutExpired) as error:
        return [], safe_line(str(error))
    return names, "it sees none"
