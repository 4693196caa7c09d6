"""What people see of a run: a file or folder here that has a function `view` is a view.

    @dataclass(frozen=True, kw_only=True)
    class Options: ...                      # of mnist-main, beside all others

    def view(options: Options) -> View | None: ...

Nothing else has to know of it. What a view needs that is large it imports when it is made. One that
fails, whenever, is said and left out; the run goes on.
"""

from __future__ import annotations

import logging
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from protocol.wire.entry import Entry

if TYPE_CHECKING:
    from ..run.events import Event

log = logging.getLogger("mnist.main")


class View(Protocol):
    """Somebody who is told what happens in a run; closed with it, where there is a `close`."""

    def on(self, event: Event, /) -> None:
        """Take an event; from any thread of the run's, one at a time."""


def every() -> list[Any]:
    """Return the modules of all views, each with `Options` and `view`."""
    names = (found.name for found in pkgutil.iter_modules(__path__))
    modules = (import_module(f".{name}", __name__) for name in names)
    return [module for module in modules if hasattr(module, "view")]


@contextmanager
def opened(options: Callable[[type], Any]) -> Iterator[list[View]]:
    """Make the views that are wanted, and close them.

    Args:
        options: returns those that a view's `Options` declare.
    """
    views: list[View] = []
    for module in every():
        with _said(module.__name__):
            view = module.view(options(module.Options))
            if view is not None:
                views.append(view)
    try:
        yield views
    finally:
        for view in reversed(views):
            with _said(type(view).__name__):
                getattr(view, "close", bool)()


@contextmanager
def _said(name: str) -> Iterator[None]:
    """Say of what a block raises that a view did, and go on."""
    try:
        yield
    except (Exception, SystemExit):
        log.exception(Entry("view.failed", view=name))
