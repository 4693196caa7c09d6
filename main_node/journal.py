"""What a main node needs of a memory that outlives it, and the thread that writes it."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

from protocol import JobSolutionDataType
from protocol.machine.effects import Effect, Keep
from protocol.wire.entry import Entry

from .errors import RefusedSolution

log = logging.getLogger("mnist.main")


class Journal(Protocol):
    """A main node's memory: with it a node that is started again goes on where one died.

    `note` and `keep` are called from one thread of the main node's, in the order in which
    things happen; they may take their time, and what they raise (but `RefusedSolution`) ends the
    main node before anything is accepted that is not kept.
    """

    @property
    def main(self) -> str:
        """Id of the main node: the same in every life."""

    @property
    def first_task(self) -> int:
        """A number above every task id of earlier lives."""

    @property
    def tasks(self) -> Mapping[int, tuple[int, str]]:
        """Tasks of unsolved jobs from earlier lives: task id -> (job id, id of its node)."""

    def number(self, name: str) -> int:
        """Return the id of the job of this name: the same in every life, another for each."""

    def note(self, effects: Sequence[Effect]) -> None:
        """Remember what happened: tasks that were made, nodes that came and went, failures."""

    def keep(self, job: int, solution: JobSolutionDataType, node: str) -> JobSolutionDataType:
        """Look at a solution and keep it so that nothing can lose it.

        Args:
            job: its id.
            solution: as it came.
            node: name of the node that solved it.

        Returns:
            What the future or the listener gets: the solution, or less, to save memory.

        Raises:
            RefusedSolution: it is none; that was a failed attempt.
        """


class Scribe:
    """The thread that writes a journal, so that heartbeats never wait for a disk.

    Args:
        name: of the thread.
        journal: is written.
        kept: told the task of each solution that is kept, and what of it is handed over.
        unfit: told the task of each solution that is none, why, and whether that is a lie.
        broken: told what the journal raised; nothing is written any more.
    """

    def __init__(
        self,
        name: str,
        journal: Journal,
        kept: Callable[[int, JobSolutionDataType], None],
        unfit: Callable[[int, str, bool], None],
        broken: Callable[[Exception], None],
    ) -> None:
        self._journal = journal
        self._kept, self._unfit, self._broken = kept, unfit, broken
        self._effects: queue.SimpleQueue[Effect | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name=f"{name} scribe", daemon=True)
        self._thread.start()

    def put(self, effect: Effect) -> None:
        """Write this when there is time."""
        self._effects.put(effect)

    @property
    def is_current(self) -> bool:
        """Whether the thread that asks is the scribe's."""
        return threading.current_thread() is self._thread

    def close(self) -> None:
        """Write what is left, and end."""
        self._effects.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _write(self) -> None:
        noting: list[Effect] = []
        try:
            while (effects := self._take()) is not None:
                noting = [effect for effect in effects if type(effect) is not Keep]
                self._journal.note(noting)
                noting = []
                for effect in effects:
                    if type(effect) is Keep:
                        self._keep(effect)
        except BaseException as error:  # sys.exit() too: nobody would write any more
            log.info(Entry("journal.broken", reason=str(error)))
            broken = error if isinstance(error, Exception) else RuntimeError(repr(error))
            self._broken(broken)
            self._note_last(noting)

    def _note_last(self, noting: list[Effect]) -> None:
        """Write down what nodes were given meanwhile, as long as that can be, until the end.

        Whoever goes on would not know of it, and have it computed once more.
        """
        with suppress(Exception):
            self._journal.note(noting)
            while (effects := self._take()) is not None:
                self._journal.note([effect for effect in effects if type(effect) is not Keep])

    def _take(self) -> list[Effect] | None:
        """Return all that is there to be written; None at the end."""
        effects = []
        effect = self._effects.get()
        while effect is not None:
            effects.append(effect)
            if self._effects.empty():
                return effects
            effect = self._effects.get()
        if effects:
            self._effects.put(None)  # the end comes again, after these
            return effects
        return None

    def _keep(self, effect: Keep) -> None:
        try:
            solution = self._journal.keep(effect.job, effect.solution, effect.node)
        except RefusedSolution as error:
            self._unfit(effect.task, str(error), error.lie)
        else:
            if not isinstance(solution, JobSolutionDataType):
                raise TypeError(f"the journal's keep() returned {solution!r:.80}, not a solution")
            self._kept(effect.task, solution)
