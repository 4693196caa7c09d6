"""Who is let in, and what for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

#: What a key may be let in for: to solve jobs, to be told how the nodes are, to have the main node
#: do something (`Control`).
WORK, WATCH, CONTROL = "work", "watch", "control"
#: In the order in which they are written and told.
ROLES = (WORK, WATCH, CONTROL)

Roles = frozenset[str]
#: Of a key of which the allow-list says nothing more.
DEFAULT_ROLES: Roles = frozenset([WORK, WATCH])
NO_ROLES: Roles = frozenset()
ALL_ROLES: Roles = frozenset(ROLES)


class Key(NamedTuple):
    """A computing node's key as a main node knows it.

    Args:
        public: the key.
        name: under which it is let in; empty for a guest (`MainKeys.invite`).
    """

    public: bytes
    name: str


def in_order(roles: Iterable[str], between: str = ", ") -> str:
    """Return roles as they are written and told: `work, watch`."""
    there = set(roles)
    return between.join(role for role in ROLES if role in there)


def as_roles(text: str) -> Roles:
    """Return the roles that a text names, with commas between them.

    Raises:
        ValueError: it names none, or one that there is not; the message says which.
    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in ROLES:
            what = f"there is no role {name!r:.40}" if name else "a role is missing"
            raise ValueError(f"{what}; those that there are: {in_order(ROLES)}")
    return frozenset(names)
