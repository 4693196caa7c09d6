"""Words as a screen shows them."""

from __future__ import annotations

#: Columns of a terminal below which a table's cells move together.
_NARROW = 72


def gap(width: int) -> int:
    """Return how many spaces are on each side of a table's cells in a terminal of some width."""
    return 2 if width >= _NARROW else 1


def shortened(name: str, letters: int = 28) -> str:
    """Return a name cut in the middle if it is long: its end tells nodes of one host apart."""
    if len(name) <= letters:
        return name
    return f"{name[: letters - 13]}…{name[-12:]}"
