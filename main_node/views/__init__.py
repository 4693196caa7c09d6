"""What people see of a run: a file or folder here that has a function `view` is a view.

    @dataclass(frozen=True, kw_only=True)
    class Options: ...                      # of mnist-main, beside all others

    def view(options: Options) -> View | None: ...

Nothing else has to know of it. What a view needs that is large it imports when it is made.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ..run.events import Event


class View(Protocol):
    """Somebody who is told what happens in a run, and opened and closed with it."""

    def on(self, event: Event, /) -> None:
        """Take an event; from any thread of the run's, one at a time."""

    def __enter__(self) -> View: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None: ...


def every() -> list[Any]:
    """Return the modules of all views, each with `Options` and `view`."""
    names = (found.name for found in pkgutil.iter_modules(__path__))
    modules = (import_module(f".{name}", __name__) for name in names)
    return [module for module in modules if hasattr(module, "view")]
