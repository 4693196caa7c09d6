"""Asking for jobs of a run, and waiting for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, wait
from functools import partial
from typing import Any, cast

from learning import DamagedFile, Learner
from learning.actions import CODE, MERGE_CODE, Action, Fit, digest
from learning.devices import CPU
from learning.errors import told_of
from learning.first import job_digest
from learning.own.kinds import shipped, source_of, told_of_code
from loaders.rows import Array
from protocol import JobDataType, JobSolutionDataType, LocalProtocolError
from protocol.options import carried

from ..errors import ConfigError, JobFailed, NodeError, StorageError
from ..futures import JobFuture
from ..node import AsyncMainNode
from ..options import AUTO, JobOptions
from ..store.memory import Expected, RunMemory
from .label import Label

#: Between two looks at the nodes.
LOOK_SECONDS = 0.25


#: What was asked for; None: its solution was kept in an earlier start.
Asked = Mapping[Label, JobFuture | None]


class Asking:
    """Asks for jobs that no solution is kept of, and yields them as they are done.

    Args:
        node: sends them.
        memory: keeps their solutions.
        learner: what learns.
        options: how long a job may take.
        labels: is filled with those of the jobs that are asked for, by job id.
        look: called several times a second while jobs are waited for; may raise to end it all.
        warn: told of a solution that is no good.

    Raises:
        ConfigError: jobs are to run on what the learner can't use.
    """

    def __init__(
        self,
        node: AsyncMainNode,
        memory: RunMemory,
        learner: Learner,
        options: JobOptions,
        labels: dict[int, Label],
        look: Callable[[], object],
        warn: Callable[[str], object],
    ) -> None:
        self._node, self._memory, self._learner, self._options = node, memory, learner, options
        self._make, self._device = carried(learner.made), _device_of(options.device, learner)
        self._look, self._warn = look, warn
        self._kind = learner.kind or learner.name
        self._code: dict[str, object] = {}
        self._shipped: dict[str, Array] = {}
        self._sources: tuple[str, ...] = ()
        if learner.code is not None:
            self._code = {"code": told_of_code(learner.code)}
            self._sources = (source_of(learner.code.called, learner.code.digest),)
            if options.ship_code:
                self._shipped = {CODE: shipped(learner.code)}
        self._labels = labels

    def ask(self, actions: Mapping[Label, Action], check: Callable[[], object]) -> Asked:
        """Submit the jobs that are not solved on disk; first those that are not there at all.

        A solution that is there but no good is said, and asked for again.

        Args:
            actions: what is wanted.
            check: called before each is sent; may raise to end it all.
        """
        self._memory.expect({label.name: self._expected(a) for label, a in actions.items()})
        asked: dict[Label, JobFuture | None] = {}
        for label, action in actions.items():
            check()
            asked[label] = None if self._memory.has(label.name) else self._submit(label, action)
        for label in [label for label, future in asked.items() if future is None]:
            check()
            try:
                self._memory.solution(label.name)
            except DamagedFile as error:
                self._warn(f"{error}; done again")
                self._memory.drop(label.name)
                asked[label] = self._submit(label, actions[label])
        return asked

    def _expected(self, action: Action) -> Expected:
        name, make = self._learner.identity, self._make
        return Expected(
            digest(name, make, action), partial(job_digest, name, make, action),
            partial(self._read, action), self._device, isinstance(action, Fit),
        )  # fmt: skip

    def _read(self, action: Action, solution: JobSolutionDataType) -> object:
        return action.read(self._learner, solution.metrics, solution.arrays)

    def _submit(self, label: Label, action: Action) -> JobFuture:
        options, work, code = self._options, action.pack(), action.code
        sent, sources = self._shipped, self._sources
        if code is not None:
            sources += (source_of(code.called, code.digest),)
            if options.ship_code:
                sent = {**sent, MERGE_CODE: shipped(code)}
        values = {**work.told(), "action": action.name, "make": self._make, **self._code}
        job = JobDataType(
            {**work.carried(), **sent}, values, kind=self._kind,
            timeout_seconds=options.deadline_seconds, stall_seconds=options.stall_seconds,
            group=action.name, max_solution_bytes=self._largest(action), device=self._device,
            sources=sources,
        )  # fmt: skip
        try:
            future = self._node.submit(job, label.name)
        except LocalProtocolError as error:
            raise NodeError(f"{label.title} can't be sent: {error}") from error
        self._labels[future.job_id] = label
        return future

    def _largest(self, action: Action) -> int | None:
        with told_of(f"the {self._learner.name} learner can't say how large a solution may be"):
            return action.largest(self._learner)

    def completed(self, asked: Asked, stops: Callable[[], bool] = lambda: False) -> Iterator[Label]:
        """Yield jobs that are on their way as they are done, looking on meanwhile.

        Args:
            asked: for.
            stops: asked several times a second whether the others are waited for no more.
        """
        pending = {future: label for label, future in asked.items() if future is not None}
        while pending and not stops():
            done, _ = wait(pending, LOOK_SECONDS, FIRST_COMPLETED)
            for future in done:
                yield pending.pop(cast(JobFuture, future))
            self._look()

    def answer(self, label: Label, action: Action) -> Any:
        """Return what came of an action, which was on disk when it was accepted.

        Raises:
            StorageError: it is not any more.
        """
        return self.told(label, action)[0]

    def told(self, label: Label, action: Action) -> tuple[Any, str]:
        """Return what came of an action, and the id of the node that did it; errors as `answer`."""
        try:
            kept = self._memory.solution(label.name)
        except DamagedFile as error:
            raise StorageError(str(error)) from error
        return action.read(self._learner, kept.values, kept.arrays), kept.node

    def withdraw(self, asked: Asked) -> None:
        """Give up what is on its way, and forget what came of it: the run is over before it."""
        for label, future in asked.items():
            if future is not None:
                future.cancel()
            self._memory.forget(label.name)

    def forget(self, labels: Iterable[Label]) -> None:
        """Forget what came of jobs in an earlier start: the run is over before them."""
        for label in labels:
            self._memory.forget(label.name)


def _device_of(wanted: str, learner: Learner) -> str:
    """Return the kind of device that jobs say they want; empty: whichever their node has.

    Raises:
        ConfigError: the learner can't use it.
    """
    if wanted != AUTO and wanted not in learner.devices:
        can = " or ".join(learner.devices)
        raise ConfigError(f"--device {wanted}: the {learner.name} learner computes on {can}")
    if wanted == AUTO:
        return "" if len(learner.devices) > 1 else CPU
    return wanted


def has_failed(future: JobFuture | None) -> bool:
    """Whether a job that is done was not solved."""
    return future is not None and future.exception() is not None


def result_of(label: Label, future: JobFuture) -> str:
    """See that a job was solved; return the id of the node that solved it.

    Raises:
        JobFailed: it was not, told in people's words.
    """
    try:
        future.result()
    except JobFailed as error:
        raise JobFailed(error.job_id, error.story, label.title) from None
    return future.server_id
