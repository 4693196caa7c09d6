"""Values that do not change: what is said, and what is to be done.

A frozen dataclass takes five times as long to be made as another, and several are made for each
job. So that they are frozen is seen to where it costs nothing: by the type checker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as record
else:
    from dataclasses import dataclass

    def record(*, frozen: bool, slots: bool) -> Any:
        """Decorate a class as `dataclass` does, and let type checkers alone see to `frozen`."""
        return dataclass(slots=slots, unsafe_hash=frozen)


__all__ = ["record"]
