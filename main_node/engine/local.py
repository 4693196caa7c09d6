"""Computing nodes on this machine: real `mnist-compute` processes that end with this one."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO

from mnist_merge import command, training_environment
from protocol.carrier.keys import NodeKeys, write_node_keys
from protocol.options import Checked, option
from protocol.wire.entry import RESERVED, Entry

from ..errors import NodeError
from ..options import AUTO

log = logging.getLogger("mnist.main")

#: A node that ends by itself is started again, at most so often in all.
MAX_RESTARTS = 3
STOP_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class EngineOptions(Checked):
    """Who provides computing nodes, beside those that come by themselves."""

    local_nodes: int = option(
        0, "Start so many computing nodes on this machine.", least=0, most=1024
    )


class LocalNodes:
    """Starts computing nodes for a main node on this machine, and ends them.

    Args:
        count: how many.
        log_level: of the nodes.
        log_format: the same; what they say as JSON is logged here, with their name as `local`.
        device: that jobs want; each node begins with another GPU where there are several.
        folders: with users' code that jobs need.
        files: of that code, by path, as it is now: nodes that find another version in its folder
            by then, because somebody works on it, use these.
    """

    def __init__(
        self, count: int, log_level: str, log_format: str = "text", device: str = AUTO,
        folders: Sequence[str] = (), files: Mapping[str, bytes] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        self.count = count
        self._log_level = log_level
        self._log_format = log_format
        self._device = device
        self._folders, self._files = list(folders), files
        self._say: Callable[[str], object] = str
        self._arguments: list[str] = []
        self._restarts = 0
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._held = ExitStack()
        #: What the nodes' children are forked from, and each node's end of a socket to it.
        self._template: subprocess.Popen[str] | None = None
        self._ends: list[socket.socket] = []

    def begin(self, learner: str) -> None:
        """Have what jobs need imported, once for all nodes, while the data is read."""
        if sys.platform != "linux":  # there each node has its own
            return
        pairs = [socket.socketpair() for _ in range(self.count)]
        self._ends = [ours for ours, _ in pairs]
        theirs = [there.fileno() for _, there in pairs]
        try:
            self._template = self._run(
                "local", *("computing_node.template", ",".join(map(str, theirs)), learner),
                passing=theirs, env=training_environment(),
            )  # fmt: skip
        finally:
            for _, there in pairs:
                there.close()

    def start(
        self, address: str, domain: int, keys: NodeKeys | None, say: Callable[[str], object]
    ) -> None:
        """Start the nodes, as an engine does."""
        self._say = say
        if self._files:
            copy = self._held.enter_context(tempfile.TemporaryDirectory(prefix="mnist-own-"))
            for path, content in self._files.items():
                Path(copy, path).parent.mkdir(parents=True, exist_ok=True)
                Path(copy, path).write_bytes(content)
            self._folders.append(copy)
        self._arguments = [
            "--connect", address, "--domain", str(domain), "--log-level", self._log_level,
            "--log-format", self._log_format, "--device", self._device,
            *(word for folder in self._folders for word in ("--code", folder)),
        ]  # fmt: skip
        if keys is not None:  # of use to nobody once the main node has ended
            folder = self._held.enter_context(tempfile.TemporaryDirectory(prefix="mnist-keys-"))
            write_node_keys(Path(folder), keys)
            self._arguments += ["--keys", folder]
        # The nodes leave when the last descriptor of the other end is closed: at the latest
        # when this process is gone, however it went.
        self._theirs, ours = os.pipe()
        for end in (self._theirs, ours):
            self._held.callback(os.close, end)
        for number in range(1, self.count + 1):
            self._processes[f"local-{number}"] = self._start(f"local-{number}")

    def _start(self, name: str) -> subprocess.Popen[str]:
        """Start a node; one that is started again prepares by itself."""
        given = [self._ends.pop()] if self._ends else []
        there = [each.fileno() for each in given]
        seat = int(name.rpartition("-")[2]) - 1  # each begins with another GPU
        try:
            return self._run(
                name, *("computing_node", "--name", name, *self._arguments),
                *("--lifeline", str(self._theirs), "--seat", str(seat)),
                *(f"--template={each}" for each in there),
                passing=[self._theirs, *there],
            )  # fmt: skip
        finally:
            for each in given:
                each.close()

    def _run(
        self, name: str, *arguments: str, passing: list[int], env: dict[str, str] | None = None
    ) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command(*arguments),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True, errors="backslashreplace", pass_fds=passing, env=env,
            start_new_session=True,  # Ctrl-C is this process's to handle
        )  # fmt: skip
        threading.Thread(target=self._listen, args=(name, process.stderr), daemon=True).start()
        return process

    def _listen(self, name: str, lines: IO[str]) -> None:
        with lines:
            for line in lines:
                if self._log_format == "json":
                    _pass_on(name, line)
                else:
                    self._say(f"{name}: {line.rstrip()}")

    def check(self) -> None:
        """Start nodes again that ended by themselves.

        Raises:
            NodeError: they end time and again.
        """
        for name, process in self._processes.items():
            code = process.poll()
            if code is None:
                continue
            if self._restarts == MAX_RESTARTS:
                raise NodeError(
                    f"{name} ended by itself (exit code {code}), after {MAX_RESTARTS} restarts of"
                    f" local nodes; try `mnist-compute` by hand to see what is wrong"
                )
            self._restarts += 1
            log.warning(Entry("local.restarted", local=name, code=code))
            self._processes[name] = self._start(name)

    def stop(self) -> None:
        """End the nodes: politely, then by force."""
        for end in self._ends:
            end.close()
        for process in self._processes.values():
            process.terminate()
        ending = list(self._processes.values())
        if self._template is not None:
            ending.append(self._template)  # it goes when all nodes have gone
        for process in ending:
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._held.close()


def _pass_on(name: str, line: str) -> None:
    """Log what a local node has said as JSON; what is none is of its libraries, or its end."""
    try:
        told = json.loads(line)
        event, level = told.pop("event"), logging.getLevelName(told.pop("level").upper())
        says, story = told.pop("says", ""), told.pop("story", told.pop("traceback", ""))
        fields = {each: value for each, value in told.items() if each not in RESERVED}
        entry = Entry(event, says, story, **{**fields, "local": name})
        log.log(level, entry)
    except (ValueError, TypeError, AttributeError, KeyError):
        log.warning(Entry("local.said", line.rstrip(), local=name))
