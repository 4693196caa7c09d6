"""torchvision, of which users' data sets take transforms and networks."""

from __future__ import annotations

import importlib
import os
import sys
from functools import cache
from typing import Any

import pytest
import torch

#: Operators that torchvision tells torch of as it is imported, though nobody may ever call them.
_TOLD = ("nms", "qnms")


@cache
def torchvision() -> Any:
    """Return torchvision; skip where it can't be had, but never in CI.

    A registry's torchvision is built beside a torch with CUDA: of one without, it can't load its
    compiled operators, and then not be imported, though transforms and networks need none of them.
    """
    try:
        try:
            return importlib.import_module("torchvision")
        except RuntimeError:
            return _without_operators()
    except ImportError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no torchvision: scripts/setup test brings it ({error})")


_library: list[Any] = []


def _without_operators() -> Any:
    """Import it with operators that are declared, and can't be called."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    torch_library: Any = torch.library
    _library.append(torch_library.Library("torchvision", "DEF"))  # gone with its owner
    for name in _TOLD:
        _library[0].define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return importlib.import_module("torchvision")
