"""The main node: AML-IP's interface, and futures, for any job."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import TimeoutError as FutureTimeout  # its own class before 3.11
from contextlib import ExitStack, suppress
from functools import partial
from itertools import count
from pathlib import Path
from shlex import quote
from typing import Any

from protocol import JobDataType, JobSolutionDataType, LocalProtocolError
from protocol.carrier.discovery import Announcement
from protocol.carrier.keys import MainKeys, NodeKeys
from protocol.carrier.security import Security
from protocol.carrier.sockets import make_pair
from protocol.machine.dispatch import Dispatcher
from protocol.machine.effects import Accept, Fail, Stranded
from protocol.machine.ledger import Job, Ledger, first_task
from protocol.machine.limits import Limits
from protocol.machine.views import View
from protocol.options import check_names, check_value, path_at_home
from protocol.wire.addresses import DEFAULT_ADDRESS
from protocol.wire.codec import check_plain, pack_event
from protocol.wire.entry import Entry
from protocol.wire.limits import GIB, LONG_NAME_LETTERS, MAX_COUNT
from protocol.wire.words import is_name

from .controls import Handler
from .deliveries import Deliveries
from .errors import ConfigError, JobFailed, NodeBusy, NodeClosed, NodeError, NoNode
from .futures import Cancelled, JobFuture
from .journal import Journal
from .router import FIRST_UNKEPT, Router

log = logging.getLogger("mnist.main")

Callback = Callable[[JobSolutionDataType, int, str], object]
Unreachable = Callable[[JobFuture, str, str], object]
_CANCELLED = object()
#: At the end, those who follow have so long to read what has happened; longer while they read on.
FOLLOWERS_SECONDS, MOST_FOLLOWERS_SECONDS = 1.0, 10.0


class SolutionListener:
    """Receives solutions; subclass it and override `solution_received`.

    Both methods are called from one thread of the main node, one at a time.
    """

    def solution_received(
        self, solution: JobSolutionDataType, task_id: int, server_id: str
    ) -> None:
        """A job is solved.

        Args:
            solution: what the computing node returned.
            task_id: what `request_job_solution` returned for the job.
            server_id: the computing node's `get_id()`.
        """
        raise NotImplementedError("override solution_received")

    def job_failed(self, error: JobFailed, task_id: int) -> None:
        """A job has failed for good; logs it unless overridden."""
        log.error(Entry("job.failed", story=error.tell(), job=task_id))

    def job_unreachable(self, source: str, reason: str, task_id: int) -> None:
        """No computing node that is here can reach what a job needs; it waits for one that can.

        Called once for a job. That has been logged.

        Args:
            source: its name.
            reason: why one of the nodes can't.
            task_id: what `request_job_solution` returned for the job.
        """


class AsyncMainNode:
    """Sends jobs to computing nodes and receives their solutions without waiting.

    It listens from the moment it is made; jobs may be requested before any computing node
    exists. Close it when done, or use it as a context manager.

    Args:
        name: for people; `get_id()` is unique.
        domain: computing nodes of another domain are refused.
        listener: receives the solutions of `request_job_solution`.
        callback: called instead of a listener, with (solution, task id, server id).
        address: where to listen; port 0 takes a free one, see `address`.
        kinds: kinds of job that are to come, so that nodes can warm up.
        heartbeat_seconds: how often each side signals life.
        dead_seconds: a node silent for this long is given up and its jobs go to others.
        max_attempts: failed attempts after which a job has failed for good.
        max_solution_bytes: a solution whose arrays are larger is a failed attempt.
        keys: folder with this main node's keys and its allow-list, as `mnist-keys` makes it.
        insecure: listen without keys at an address that other machines can reach.
        announce: let nodes of this network find this one (`discover`), by multicast.
        journal: a memory that outlives this node: nothing is accepted that it has not kept, and
            a node made again with it goes on where this one ended.
        max_nodes: so many nodes have jobs at once, at most; one that goes is followed by another;
            None: all that are here.
        controls: what this node can be told to do from outside, by verb: called with an `Order`, in
            the thread of users' code; what it returns, or raises, is answered.

    Raises:
        AddressError: it can't listen there, or can't announce itself.
        InsecureAddress: others can reach the address, and there are no keys.
        KeysError: the keys can't be used.
    """

    def __init__(
        self,
        name: str,
        domain: int = 0,
        listener: SolutionListener | None = None,
        callback: Callback | None = None,
        *,
        address: str = DEFAULT_ADDRESS,
        kinds: tuple[str, ...] = (),
        heartbeat_seconds: float = 1.0,
        dead_seconds: float = 10.0,
        max_attempts: int = 3,
        max_solution_bytes: int = 4 * GIB,
        keys: str | Path | None = None,
        insecure: bool = False,
        announce: bool = False,
        journal: Journal | None = None,
        max_nodes: int | None = None,
        controls: Mapping[str, Handler] | None = None,
    ) -> None:
        if listener is not None and callback is not None:
            raise ConfigError("give a listener or a callback, not both")
        check_value("domain", domain, int, least=0, most=MAX_COUNT)
        check_names("kinds", kinds)
        self._id = f"{name}.{uuid.uuid4().hex[:8]}" if journal is None else journal.main
        self._journal = journal
        self._listener = listener
        self._callback = callback
        self._ids = count(1) if journal is None else count(FIRST_UNKEPT)
        self._futures: dict[int, JobFuture | None] = {}
        self._deliveries = Deliveries(name)
        dispatcher = Dispatcher(
            self._id, domain=domain, kinds=kinds, keeps=journal is not None,
            limits=Limits(
                heartbeat_seconds=heartbeat_seconds, dead_seconds=dead_seconds,
                max_attempts=max_attempts, max_solution_bytes=max_solution_bytes,
                max_nodes=max_nodes,
            ),
            ledger=Ledger(
                first_task(self._id) if journal is None else journal.first_task,
                {} if journal is None else journal.tasks,
                None if journal is None else first_task(uuid.uuid4().hex),
            ),
        )  # fmt: skip
        self._failure: Exception | None = None
        self._security = Security(None if keys is None else MainKeys(path_at_home(keys)), insecure)
        self._router = Router(
            name, address, dispatcher, self._finished, self._give_up, self._name_of, journal,
            self._security, self._deliveries.look, controls, self._deliveries.call,
        )  # fmt: skip
        self._announcement: Announcement | None = None
        with ExitStack() as made:  # of which nothing is left where the rest can't be
            made.callback(self._router.end)
            if announce:
                public = None if self._security.keys is None else self._security.keys.public
                self._announcement = Announcement(self._id, domain, self.address, public)
                made.callback(self._announcement.close)
            made.callback(self._deliveries.close)
            self._deliveries.start()
            self._router.start()
            made.pop_all()
        log.info(Entry("main.listening", address=self.address, domain=domain, id=self._id))

    @property
    def address(self) -> str:
        """Where computing nodes reach this main node."""
        return self._router.address

    def get_id(self) -> str:
        """Return this node's unique id, `name.` and eight hexadecimal digits."""
        return self._id

    def _check_alive(self) -> None:
        """Raise unless jobs can be solved."""
        if isinstance(self._failure, NodeError):
            raise self._failure
        if not self._router.alive:
            raise NodeClosed("this main node was closed; make a new one")

    def invite(self) -> NodeKeys | None:
        """Return keys on no disk that this node lets in while it runs; None if it has none."""
        keys = self._security.keys
        return None if keys is None else keys.invite(make_pair)

    def request_job_solution(self, job: JobDataType) -> int:
        """Queue a job; its solution comes to the listener or callback. Return its task id.

        Raises:
            ConfigError: there is neither listener nor callback; use `submit` for a future.
            NodeClosed: this node was closed.
            LocalProtocolError: the job holds what can't be sent.
        """
        if self._journal is not None and job.kept:
            raise ConfigError("with a journal jobs have names: use submit(job, name)")
        if self._listener is None and self._callback is None:
            raise ConfigError("make the node with a listener or a callback, or use submit(job)")
        return self._submit(next(self._ids), job, None)

    def submit(
        self, job: JobDataType, name: str = "", on_unreachable: Unreachable | None = None
    ) -> JobFuture:
        """Queue a job and return its future.

        Args:
            job: what to solve.
            name: what its failure and a journal call it; one that a journal keeps needs a name.
            on_unreachable: called once, from the thread that calls listeners, with the future, a
                source and why, where no computing node that is here can reach that source. The job
                waits for one that can; or `replace` it by one that needs no such source.

        Raises:
            ConfigError: a journal's job of this name is on its way already.
            NodeClosed: this node was closed.
            LocalProtocolError: the job holds what can't be sent, or its name can't be shown.
        """
        if not isinstance(name, str) or not is_name(name, LONG_NAME_LETTERS):
            raise LocalProtocolError(
                f"{name!r:.80} can't be a job's name: a text is wanted, of at most"
                f" {LONG_NAME_LETTERS} letters that can be shown"
            )
        keeps = self._journal is not None and job.kept
        job_id = self._journal.number(name) if self._journal and keeps else next(self._ids)
        future = JobFuture(job_id, self._cancel, self._why_unsolved)
        future.name = name
        if on_unreachable is not None:
            future.on_unreachable = on_unreachable
        self._submit(job_id, job, future)
        return future

    def _submit(self, job_id: int, data: JobDataType, future: JobFuture | None) -> int:
        self._check_alive()
        if self._futures.setdefault(job_id, future) is not future:  # in one step: others submit too
            assert future is not None
            raise ConfigError(f"job {future.name!r} is submitted already, and not solved yet")
        try:
            job = Job.of(job_id, data)
        except BaseException:
            self._futures.pop(job_id, None)
            raise
        self._router.call_soon(partial(self._router.submit, job))
        if self._router.over and self._futures.pop(job_id, None) is not None:
            assert future is not None
            self._deliveries.settle(future, self._closed(job_id))  # closed at this very moment
        return job_id

    def replace(self, future: JobFuture, job: JobDataType) -> None:
        """Have a job solved in another way, with its arrays inside say, under the same name.

        Nothing happens where it is solved, or a node has it in hand: it can go on as it is.

        Args:
            future: of the job, which stays its future.
            job: the same job, as it is to be sent from now on; kept or not, as before.

        Raises:
            NodeClosed: this node was closed.
            LocalProtocolError: the job holds what can't be sent.
        """
        self._check_alive()
        self._router.call_soon(partial(self._router.replace, Job.of(future.job_id, job)))

    def _cancel(self, future: JobFuture) -> None:
        self._router.call_soon(partial(self._give_back, future))

    def _give_back(self, future: JobFuture) -> None:
        """Have a job forgotten that is not wanted any more; in the router's thread."""
        if self._futures.get(future.job_id) is future:
            del self._futures[future.job_id]
            if not self._router.over:
                self._router.cancel(future.job_id)
        self._deliveries.settle_soon(future, Cancelled())

    def _why_unsolved(self) -> str:
        """Return why jobs may be waiting, as the end of a sentence."""
        try:
            view = self.view(1.0)
        except NodeError as error:
            return f": {error}"
        if not view.nodes:
            return ": no computing node is here"
        return f": {view.misfit}" if view.misfit else ""

    def tell(self, **about: Any) -> None:
        """Say of this program what whoever watches may know: plain values, by name."""
        check_plain(about)
        self._router.call_soon(partial(self._router.tell, about), urgent=False)

    def tell_event(self, event: Mapping[str, Any]) -> None:
        """Say that something has happened to whoever follows, now or later; from any thread.

        It never waits. The last events are kept for those who come later, or were cut off: 65,536,
        and 16 MB; who has not read older ones is told how many there were.

        Args:
            event: plain values by name, 8 KiB at most.

        Raises:
            LocalProtocolError: it is not plain, or too large.
            NodeClosed: this node was closed.
        """
        packed = pack_event(event)
        self._check_alive()
        self._router.tell_event(packed)

    def view(self, timeout: float | None = None) -> View:
        """Return what every node is doing, at this moment.

        Args:
            timeout: seconds to wait for an answer of this node's own thread, which may be busy;
                None: as long as it takes.

        Raises:
            NodeClosed: this node was closed.
            NodeBusy: there was no answer within `timeout` seconds.
        """
        self._check_alive()
        try:
            return self._router.call(
                lambda: self._router.dispatcher.view(time.monotonic()), timeout
            )
        except FutureTimeout:
            raise NodeBusy(f"this main node's thread has not answered for {timeout:g} s") from None

    def wait_for_nodes(self, nodes: int = 1, timeout: float | None = None) -> None:
        """Wait until at least so many computing nodes are here.

        Raises:
            NoNode: they were not after `timeout` seconds.
            NodeClosed: this node was closed meanwhile, or before.
        """
        crowd = self._router.crowd
        if not crowd.wait_for(nodes, timeout):
            raise NoNode(
                f"{crowd.size} of {nodes} computing nodes after {timeout:g} s;"
                f" start some: mnist-compute --connect {quote(self.address)}"
            )
        if crowd.closed:
            self._check_alive()

    def _name_of(self, job_id: int) -> str:
        """Return what people call a job."""
        future = self._futures.get(job_id)
        return future.name if future is not None and future.name else str(job_id)

    def _finished(self, effect: Accept | Fail | Stranded) -> None:
        """Take a result from the router's thread, where no code of the user's may run."""
        if isinstance(effect, Stranded):
            self._unreachable(effect)
            return
        future = self._futures.pop(effect.job, _CANCELLED)
        if future is None:
            self._deliveries.call(partial(self._tell_listener, effect))
        elif isinstance(future, JobFuture):
            self._deliveries.settle(future, effect)

    def _unreachable(self, effect: Stranded) -> None:
        """Have the user told of a job that nobody can solve for now."""
        future = self._futures.get(effect.job, _CANCELLED)
        if isinstance(future, JobFuture):
            if future.on_unreachable is not None:
                call = partial(future.on_unreachable, future, effect.source, effect.reason)
                self._deliveries.call(call)
        elif future is None and self._listener is not None:
            tell = self._listener.job_unreachable
            self._deliveries.call(partial(tell, effect.source, effect.reason, effect.job))

    def _tell_listener(self, effect: Accept | Fail) -> None:
        if isinstance(effect, Fail):
            (self._listener or SolutionListener()).job_failed(
                JobFailed(effect.job, effect.story), effect.job
            )
        elif self._listener is not None:
            self._listener.solution_received(effect.solution, effect.job, effect.node)
        elif self._callback is not None:
            self._callback(effect.solution, effect.job, effect.node)

    def close(self, dismiss: bool = True) -> None:
        """Let go; twice is once. Futures that are not done raise `NodeClosed`.

        Args:
            dismiss: tell the computing nodes that this node has ended; else they keep what they
                hold, and hand it over to a node made again with the same journal.
        """
        # A journal that is written to a slow disk may take its time: what came is kept.
        timeout = 5.0 if self._journal is None else None
        if self._router.writes:  # the journal closes its own node
            timeout = 0.0
        if self._announcement is not None:
            self._announcement.close()
            self._announcement = None
        if timeout != 0.0:
            self._router.await_followers(FOLLOWERS_SECONDS, MOST_FOLLOWERS_SECONDS)
        (self._router.end if dismiss else self._router.leave)(timeout)
        self._give_up_all()
        self._deliveries.close()

    def _give_up(self, error: Exception) -> None:
        """Let nobody wait for what will not come; from any thread of this node's."""
        self._failure = self._failure or error
        self._give_up_all()

    def _give_up_all(self) -> None:
        """Settle whatever is not settled."""
        with suppress(KeyError):  # another thread took the last one
            while self._futures:
                job_id, future = self._futures.popitem()
                if future is not None:
                    self._deliveries.settle(future, self._closed(job_id))

    def _closed(self, job_id: int) -> NodeError:
        """Return why a job will not be solved."""
        error = self._failure
        if isinstance(error, NodeError):
            return error
        why = "was closed" if error is None else f"broke down ({type(error).__name__}: {error})"
        return NodeClosed(f"the main node {why} before job {job_id} was solved")

    stop = close

    def __enter__(self) -> AsyncMainNode:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class MainNode:
    """Sends one job at a time to a computing node and waits for its solution.

    Args: those of `AsyncMainNode`, but for the listener and the callback.
    """

    def __init__(self, name: str, domain: int = 0, **options: Any) -> None:
        self._node = AsyncMainNode(name, domain, **options)

    @property
    def address(self) -> str:
        """Where computing nodes reach this main node."""
        return self._node.address

    def get_id(self) -> str:
        """Return this node's unique id."""
        return self._node.get_id()

    def request_job_solution(
        self, job: JobDataType, timeout: float | None = None
    ) -> tuple[JobSolutionDataType, str]:
        """Have a job solved; return its solution and the id of the node that solved it.

        Args:
            job: what to solve.
            timeout: seconds to wait, whether there is a computing node or not; None: for ever.

        Raises:
            JobFailed: it failed for good; the error tells its story.
            NoNode: it was not solved within `timeout` seconds; it is given up.
        """
        future = self._node.submit(job)
        try:
            return future.result(timeout), future.server_id
        except FutureTimeout:
            future.cancel()
            raise NoNode(
                f"no solution after {timeout:g} s, from {len(self._node.view().nodes)} nodes;"
                f" start some: mnist-compute --connect {quote(self.address)}"
            ) from None

    def tell_event(self, event: Mapping[str, Any]) -> None:
        """Say that something has happened, as `AsyncMainNode.tell_event` does."""
        self._node.tell_event(event)

    def close(self) -> None:
        """Let go; twice is once."""
        self._node.close()

    stop = close

    def __enter__(self) -> MainNode:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
