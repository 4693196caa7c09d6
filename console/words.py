"""Words as a screen shows them."""

from __future__ import annotations


def shortened(name: str, letters: int = 28) -> str:
    """Return a name cut in the middle if it is long: its end tells nodes of one host apart."""
    if len(name) <= letters:
        return name
    return f"{name[: letters - 13]}…{name[-12:]}"
