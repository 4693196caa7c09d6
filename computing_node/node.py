"""The computing node: AML-IP's interface, for any job."""

from __future__ import annotations

import math
import os
import platform
import secrets
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import TimeoutError as FutureTimeout  # its own class before 3.11
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from protocol.carrier.discovery import Browser
from protocol.carrier.sockets import node_security
from protocol.machine.limits import NodeLimits
from protocol.options import check_names, check_value
from protocol.wire.addresses import DEFAULT_ADDRESS
from protocol.wire.limits import MAX_COUNT
from protocol.wire.messages import Hello
from protocol.wire.transfer import Memory
from protocol.wire.words import safe_name

from .dealer import Dealer
from .errors import ConfigError, NoJob
from .replier import Callback, CallbackReplier, JobReplier

SLICE_SECONDS = 0.5
#: `stop` waits so long for the thread that keeps the connections.
STOP_SECONDS = 10.0
#: Of arrays, where the system does not tell how much memory there is.
DEFAULT_BYTES = 1 << 30
_CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)  # fmt: skip


class AsyncComputingNode:
    """Solves the jobs of one or more main nodes, from `run()` until `stop()`.

    Args:
        name: for people; `get_id()` is unique.
        domain: it works with main nodes of this domain only.
        listener: solves the jobs.
        callback: solves them instead of a listener: (job, task id, client id) -> solution.
        address: of the main node, or of several; they may start later.  [default: this machine's
            usual one, or none with `discover`]
        discover: find the main nodes of the domain that announce themselves, now and later.
        insecure: without keys, take those on other machines, too.
        tasks: how many jobs to solve at once.
        max_jobs: leave after so many; None: never.
        kinds: the kinds of job that it solves; ``""`` is any program's own.
        accelerator: the kind of device that jobs run on here, and its model: ``cuda: NVIDIA A100``;
            empty: the processor. Jobs that want a kind go only to nodes that have it.
        dead_seconds: a main node silent for this long is connected to anew.
        max_job_seconds: stop a job after so long; None: never.
        max_bytes: what the arrays of all jobs in hand may take, for each main node; None: a quarter
            of this machine's memory.
        cache_bytes: how much of each main node's arrays to keep for later jobs, half of
            `max_bytes` at most.
        memory: where arrays arrive; None: in this process's own.
        keys: folder with this node's keys, as `mnist-keys` makes it; for every main node.
        pulse: called with the time (monotonic), once a second or oftener, by the thread that keeps
            the connections: while it comes, this node is alive.
        versions: of what computes here, by name, to be told.

    Raises:
        ConfigError: neither a listener nor a callback, or both; less than one task.
        AddressError: an address is malformed.
        KeysError: the keys can't be used.
    """

    def __init__(
        self,
        name: str,
        domain: int = 0,
        listener: JobReplier | None = None,
        callback: Callback | None = None,
        *,
        address: str | Sequence[str] | None = None,
        discover: bool = False,
        insecure: bool = False,
        tasks: int = 1,
        max_jobs: int | None = None,
        kinds: tuple[str, ...] = ("",),
        accelerator: str = "",
        dead_seconds: float = 10.0,
        max_job_seconds: float | None = None,
        max_bytes: int | None = None,
        cache_bytes: int = 1 << 30,
        memory: Memory | None = None,
        keys: str | Path | None = None,
        pulse: Callable[[float], None] | None = None,
        versions: Mapping[str, str] | None = None,
    ) -> None:
        if (listener is None) == (callback is None):
            raise ConfigError("give a listener or a callback to solve jobs with, and not both")
        check_value("domain", domain, int, least=0, most=MAX_COUNT)
        check_value("tasks", tasks, int, least=1)
        check_value("max_jobs", max_jobs, int, optional=True, least=1)
        check_value("max_job_seconds", max_job_seconds, float, optional=True, least=0, above=True)
        check_value("max_bytes", max_bytes, int, optional=True, least=0)
        check_value("cache_bytes", cache_bytes, int, least=0)
        check_names("kinds", kinds)
        name = safe_name(name)
        replier = listener if listener is not None else CallbackReplier(callback)  # type: ignore[arg-type]
        if max_bytes is None:
            max_bytes = memory_bytes() // 4 or DEFAULT_BYTES
        credit = tasks + 1 if max_jobs is None else min(tasks + 1, max_jobs)
        hello = Hello(
            uuid.uuid4().hex[:8], name, domain, kinds,
            {"python": platform.python_version(), **(versions or {})},
            os.cpu_count() or 1, memory_bytes(), accelerator, tasks, credit,
            secret=secrets.token_bytes(16), max_job_bytes=max_bytes,
            max_job_seconds=max_job_seconds or 0.0,
        )  # fmt: skip
        if address is None:
            address = [] if discover else DEFAULT_ADDRESS
        addresses = [address] if isinstance(address, str) else list(address)
        self._security = node_security(keys, name, insecure)
        self._domain, self._discover = domain, discover
        self._browser: Browser | None = None
        self._id = f"{name}.{hello.node}"
        self._dealer = Dealer(
            hello, addresses, replier,
            NodeLimits(
                dead_seconds=dead_seconds, cache_bytes=min(cache_bytes, max_bytes // 2),
                max_bytes=max_bytes, max_jobs=max_jobs,
            ),
            keys=self._security.keys, memory=memory, discovers=discover, pulse=pulse,
        )  # fmt: skip

    def get_id(self) -> str:
        """Return this node's unique id, `name.` and eight hexadecimal digits."""
        return self._id

    def run(self) -> None:
        """Begin to connect and to solve jobs, in the background."""
        dealer = self._dealer
        if self._discover:
            self._browser = Browser(
                self._domain,
                lambda main: dealer.call_soon(partial(dealer.found, main)),
                lambda name: dealer.call_soon(partial(dealer.lost, name)),
                self._security,
                patient=True,
            )
        try:
            dealer.start()
        except BaseException:
            self.stop()
            raise

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until there is nothing more to do; return False after `timeout` seconds.

        There is nothing more to do once every main node has refused this node, or `max_jobs`
        are solved and accepted.

        Raises:
            Refused: every main node has refused this node.
            NodeError: the node broke down, by a mistake of this project.
        """
        until = math.inf if timeout is None else time.monotonic() + timeout
        # In slices: the main thread handles a signal that the system gave to another thread
        # only when it wakes up.
        while not (ended := self._dealer.ended.wait(min(SLICE_SECONDS, until - time.monotonic()))):
            if time.monotonic() >= until:
                break
        if self._dealer.failure is not None:
            raise self._dealer.failure
        return ended

    def stop(self) -> None:
        """Hand back what is not solved, say goodbye, and let go; twice is once."""
        dealer = self._dealer
        if self._browser is not None:
            self._browser.close()
            self._browser = None
        if dealer.alive:
            with suppress(FutureTimeout):  # it hangs; whoever stops it must not
                dealer.call(lambda: dealer.leave("the node was stopped"), STOP_SECONDS)
        dealer.end()

    def __enter__(self) -> AsyncComputingNode:
        self.run()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def memory_bytes() -> int:
    """Return how much memory there is for this process, as far as the system tells; else 0."""
    try:
        found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0
    for limit in _CGROUP_LIMITS:  # of a container
        with suppress(OSError, ValueError):
            found = min(found, int(limit.read_text()))
    return found


class ComputingNode:
    """Solves one job at a time, when asked to.

    Args:
        name, domain, listener, callback: those of `AsyncComputingNode`.
        options: its other arguments.
    """

    def __init__(
        self,
        name: str,
        domain: int = 0,
        listener: JobReplier | None = None,
        callback: Callback | None = None,
        **options: Any,
    ) -> None:
        self._name, self._domain, self._options = name, domain, options
        self._listener, self._callback = listener, callback
        self._id = ""

    def get_id(self) -> str:
        """Return the id under which the last job was solved; empty before the first."""
        return self._id

    def process_job(
        self,
        listener: JobReplier | None = None,
        callback: Callback | None = None,
        timeout: float | None = None,
    ) -> None:
        """Wait for one job, solve it, and return once its main node has the solution.

        Args:
            listener, callback: solve it; those of the constructor where not given.
            timeout: seconds to wait for it all; None: for ever.

        Raises:
            NoJob: there was none within `timeout` seconds.
            Refused: every main node has refused this node.
        """
        if listener is None and callback is None:
            listener, callback = self._listener, self._callback
        node = AsyncComputingNode(
            self._name, self._domain, listener, callback, max_jobs=1, **self._options
        )
        self._id = node.get_id()
        with node:
            if not node.wait(timeout):
                raise NoJob(f"no job within {timeout:g} s; is there a main node at its address?")
