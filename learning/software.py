"""The versions and the processor that numbers depend on: others give other last bits."""

from __future__ import annotations

import platform
from contextlib import suppress
from functools import cache
from pathlib import Path

#: Their arithmetic is in every model; what is not installed computes nothing.
_PACKAGES = ("numpy", "torch", "numba")
_CPUINFO = Path("/proc/cpuinfo")


def software() -> dict[str, str]:
    """Return what computes here, by name: Python, the packages that calculate, the processor."""
    return dict(_software())


@cache  # nothing of it changes while a process runs
def _software() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version  # takes as long as the rest

    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    found["cpu"] = _processor()
    return found


def _processor() -> str:
    with suppress(OSError):
        for line in _CPUINFO.read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def differences(before: dict[str, str], now: dict[str, str]) -> str:
    """Return what has changed, `numpy 2.1.0 (was 2.0.2)`; empty if nothing has."""
    names = [*now, *(name for name in before if name not in now)]
    return ", ".join(
        f"{name} {now.get(name, 'none')} (was {before.get(name, 'none')})"
        for name in names
        if now.get(name) != before.get(name)
    )
