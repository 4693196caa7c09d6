"""How far a run is, and the looks that are taken at it several times a second."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from protocol.machine.views import View

from ..errors import NodeBusy
from ..node import AsyncMainNode
from .company import Company
from .events import Listeners, Stood
from .label import Label

#: A look at the nodes is skipped if it takes longer.
VIEW_SECONDS = 2.0


@dataclass
class Progress:
    """How far a run is.

    Args:
        round: the one that is trained, from 0; -1 before the first; as many as there are rounds
            while only tests are left.
        done: jobs of it that are solved.
    """

    round: int = -1
    done: int = 0


class Looks:
    """Looks at a run, and lets everybody see it who is to.

    Args:
        node: of the run.
        progress: of the run.
        labels: of its jobs, by job id.
        company: sees who is here.
        listeners: are told how it stands.
        about: returns what whoever watches over the network may know.
        checks: called first; may raise to end the run.
    """

    def __init__(
        self,
        node: AsyncMainNode,
        progress: Progress,
        labels: Mapping[int, Label],
        company: Company,
        listeners: Listeners,
        about: Callable[[], dict[str, object]],
        checks: list[Callable[[], object]],
    ) -> None:
        self._node, self._progress, self._labels = node, progress, labels
        self._company, self._listeners, self._about = company, listeners, about
        self._checks = checks
        self._blind = False  # whether the last look got no answer

    def look(self) -> None:
        """Look once.

        Raises:
            NoNode: there have been too few nodes for too long.
            NodeError: those that this run started end time and again.
            KeyboardInterrupt: a signal has come.
        """
        for check in self._checks:
            check()
        view = self._view()
        if view is None:
            return
        progress, labels = self._progress, MappingProxyType(dict(self._labels))
        self._listeners.tell(
            Stood(round=progress.round, done=progress.done, view=view, labels=labels)
        )
        self._node.tell(**self._about())
        self._company.look(view, self._labels, begun=progress.round >= 0)

    def _view(self) -> View | None:
        """Return what the nodes are doing; None if that can't be known."""
        try:
            view = self._node.view(VIEW_SECONDS)
        except NodeBusy as error:  # nothing is known, and so nothing is wrong
            if not self._blind:
                self._listeners.warn(f"{error}; going on")
            self._blind = True
            return None
        self._blind = False
        return view
