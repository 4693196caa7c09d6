"""Who may come, and whom to trust, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from ..errors import KeysError
from .keys import MainKeys, NodeKeys

Keys = TypeVar("Keys", MainKeys, NodeKeys)


@dataclass(frozen=True, slots=True)
class Security(Generic[Keys]):
    """What stands between a node and strangers.

    Args:
        keys: its own, and those of whom it talks with; None: it has none.
        insecure: whether it talks with other machines without keys.
    """

    keys: Keys | None = None
    insecure: bool = False

    def __post_init__(self) -> None:
        if self.keys is not None and not isinstance(self.keys, MainKeys | NodeKeys):
            raise KeysError(f"{self.keys!r:.80} are no keys; read them with MainKeys or NodeKeys")

    @property
    def stays_home(self) -> bool:
        """Whether it talks with this machine only."""
        return self.keys is None and not self.insecure
