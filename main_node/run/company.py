"""Who computes for a run: those who come and go, and what to say, or do, when nobody is left."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from shlex import quote

from protocol.machine.views import View

from ..errors import NoNode
from ..options import ListenOptions
from .events import JobProgressed, JobStarted, Listeners, NodeJoined, NodeLeft, NodesMissing
from .label import Label
from .spec import CompanyOptions


class Company:
    """Tells who comes and goes and what they begin; a run without nodes does not wait for ever.

    Args:
        options: how many nodes are wanted, and for how long.
        invitation: the sentence that says how to start some.
        listeners: are told.
    """

    def __init__(self, options: CompanyOptions, invitation: str, listeners: Listeners) -> None:
        self.invitation = invitation
        self._wanted = options.min_nodes
        self._limit = math.inf if options.timeout_seconds is None else options.timeout_seconds
        self._listeners = listeners
        self._alone_since: float | None = None
        self._begun = False
        self._misfit = ""
        self._nodes: set[str] = set()
        self._running: dict[tuple[str, int], float] = {}

    def look(self, view: View, labels: Mapping[int, Label], begun: bool) -> None:
        """See who is here.

        Args:
            view: what the nodes are doing.
            labels: of the jobs, by job id.
            begun: whether one node is enough.

        Raises:
            NoNode: there have been too few for too long.
        """
        self._tell(view, labels)
        now, nodes, wanted = time.monotonic(), len(view.nodes), 1 if begun else self._wanted
        if view.misfit != self._misfit:
            self._misfit = view.misfit
            if view.misfit:
                self._listeners.warn(f"no computing node here takes what is left: {view.misfit}")
        if nodes >= wanted and not view.misfit:
            self._alone_since = None
            self._begun = True
            return
        if self._alone_since is None:
            self._alone_since = now
            if self._begun and not nodes:
                text = f"no computing node is left; {self.invitation}"
                self._listeners.tell(NodesMissing(text=text))
        if now - self._alone_since >= self._limit:
            missing = view.misfit or f"{nodes} of {wanted} computing nodes"
            raise NoNode(f"{missing} after {self._limit:g} s; {self.invitation}")

    def _tell(self, view: View, labels: Mapping[int, Label]) -> None:
        nodes = {node.name for node in view.nodes}
        for node in sorted(nodes - self._nodes):
            self._listeners.tell(NodeJoined(node=node))
        for node in sorted(self._nodes - nodes):
            self._listeners.tell(NodeLeft(node=node))
        self._nodes = nodes
        before, self._running = self._running, {
            (node.name, job): fraction for node in view.nodes for job, fraction in node.running
        }  # fmt: skip
        for (name, job), fraction in self._running.items():
            label = labels.get(job)
            if label is None:
                continue
            if (name, job) not in before:
                self._listeners.tell(JobStarted(label=label, node=name))
            elif fraction != before[name, job]:
                self._listeners.tell(JobProgressed(label=label, node=name, fraction=fraction))


def invitation(options: ListenOptions, address: str) -> str:
    """Return the sentence that says how to start computing nodes for a main node.

    Args:
        options: where it listens, and to whom.
        address: where it listens, with its port.
    """
    import socket

    host, _, port = address.removeprefix("tcp://").rpartition(":")
    flag = f" --domain {options.domain}" if options.domain else ""
    if options.keys is not None:
        flag += " --keys DIR"
    if host in ("0.0.0.0", "[::]", "*"):
        address = f"tcp://{socket.gethostname()}:{port}"
    way = "--discover" if options.announce else f"--connect {quote(address)}"
    sentence = f"start computing nodes: mnist-compute {way}{flag}"
    here = host in ("127.0.0.1", "[::1]", "localhost")
    if options.announce and options.keys is None and not here:
        sentence += f" --insecure (or --connect {quote(address)})"
    elif here:
        sentence += f" (on this machine; for other hosts --bind tcp://0.0.0.0:{port} --keys DIR)"
    elif options.keys is not None:
        sentence += f" (DIR: a copy of {Path(options.keys) / 'nodes'}/NAME)"
    return sentence
