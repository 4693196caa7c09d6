"""The commands as processes, their lines as they come, and a bad network between them."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any
from unittest import mock

import psutil

from console import entry
from console.logs import speak

SECONDS = 90
MAIN = (sys.executable, "-m", "main_node")
COMPUTE = (sys.executable, "-m", "computing_node")


def run(
    *command: str, timeout: float = SECONDS, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, check=False, **options
    )


#: A user that the system knows nothing of, and how root starts a command as one.
STRANGER = 54321
AS_STRANGER = (
    "setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups",
    # The interpreter and the packages may be in root's home: they may be read, not written.
    "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search",
)  # fmt: skip
#: The commands that `here` runs.
MAIN_HERE = "main_node.commands.train:main"
PREDICT_HERE = "main_node.commands.predict:main"
MERGE_HERE = "main_node.commands.merge:main"
RUNS_HERE = "main_node.commands.runs:main"


def here(
    place: str, *arguments: str, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end in this process, as its entry does.

    It takes hundredths of a second, not a whole one: for what ends before there is any node, and
    for runs whose node is a process of its own.

    Args:
        place: `package.module:command`.
        arguments: of it.
        env: added to the environment.
    """
    logger, output, errors = logging.getLogger("mnist"), io.StringIO(), io.StringIO()
    signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    logs = logger.handlers[:], logger.level, logger.propagate
    try:
        with (
            mock.patch.object(sys, "argv", [place, *arguments]),
            mock.patch.dict(os.environ, env or {}),
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(errors),
        ):
            entry.run(place)
    except SystemExit as end:
        code = end.code
    finally:
        speak("text")
        for number, handler in signals.items():
            signal.signal(number, handler)
        logger.handlers[:], logger.level, logger.propagate = logs
    assert isinstance(code, int)
    return subprocess.CompletedProcess(arguments, code, output.getvalue(), errors.getvalue())


def templates(node: int | None = None) -> list[psutil.Process]:
    """Return the processes that a node, or this process, has its children forked from.

    Args:
        node: its process; None: this one.
    """
    return [
        each for each in psutil.Process(node).children()
        if each.status() != psutil.STATUS_ZOMBIE and "computing_node.template" in each.cmdline()
    ]  # fmt: skip


def forked(node: int | None = None) -> list[psutil.Process]:
    """Return the processes in which a node, or this process, trains."""
    return [each for template in templates(node) for each in template.children()]


class Told:
    """What somebody logs, each entry as its values by name, for a test to wait for."""

    def __init__(self) -> None:
        self._entries: list[dict[str, Any]] = []
        self._more = threading.Condition()
        self._over = False

    def event(self, name: str | None, /, *, times: int = 1, **fields: Any) -> dict[str, Any]:
        """Wait until something has happened so many times; return its last entry.

        Args:
            name: of the event; None for any.
            times: how often.
            fields: what it has, as it has it; a function is asked whether that will do.
        """
        with self._more:
            self._more.wait_for(
                lambda: self._over or len(self._found(name, fields)) >= times, SECONDS
            )
            found = self._found(name, fields)
            assert len(found) >= times, (
                f"{len(found)} of {times} {name} with {fields} in\n"
                + "\n".join(map(str, self._entries))
            )
            return found[times - 1]

    def events(self, name: str | None = None, /, **fields: Any) -> list[dict[str, Any]]:
        """Return what has happened so far, all of it or one event, that has these fields."""
        with self._more:
            return self._found(name, fields)

    def never(self, name: str, /, **fields: Any) -> bool:
        """Whether something has not happened so far."""
        return not self.events(name, **fields)

    def _found(self, name: str | None, fields: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [
            entry for entry in self._entries
            if name in (None, entry.get("event"))
            and all(each in entry and _fits(entry[each], fields[each]) for each in fields)
        ]  # fmt: skip


class has:  # noqa: N801
    """A condition of `event`: a field's text holds each of these, a list's items are among them."""

    def __init__(self, *words: str) -> None:
        self._words = words

    def __call__(self, value: Any) -> bool:
        return all(word in value for word in self._words)

    def __repr__(self) -> str:
        return f"has{self._words}"


def _fits(value: object, wanted: Any) -> bool:
    return bool(wanted(value) if callable(wanted) else value == wanted)


class Process(Told):
    """A process whose standard error is read, line by line, in the background.

    Args:
        command: what to run.
        entries: whether it logs JSON, so that its events can be waited for; lines for people if
            not.
        options: of `subprocess.Popen`.
    """

    def __init__(self, *command: str, entries: bool = True, **options: Any) -> None:
        super().__init__()
        if entries:
            variables = ("MNIST_LOG_FORMAT", "MNIST_RELAY_LOG_FORMAT")
            told = options.get("env")
            options["env"] = {**(os.environ if told is None else told)}
            options["env"] |= dict.fromkeys(variables, "json")
        self.popen = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
        )
        self.seen: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.popen.stderr is not None
        for line in self.popen.stderr:
            with self._more:
                self.seen.append(line)
                with contextlib.suppress(ValueError):
                    if isinstance(entry := json.loads(line), dict):
                        self._entries.append(entry)
                self._more.notify_all()
        with self._more:
            self._over = True
            self._more.notify_all()

    def send(self, number: int) -> None:
        """Send a signal."""
        self.popen.send_signal(number)

    def kill(self) -> None:
        """Kill it, and wait until it is gone."""
        self.popen.kill()
        self.popen.wait()

    def end(self) -> tuple[int, str]:
        """Wait for its end; return its exit code and its output."""
        assert self.popen.stdout is not None
        output = self.popen.stdout.read()
        code = self.popen.wait(SECONDS)
        with self._more:
            self._more.wait_for(lambda: self._over, SECONDS)
        return code, output

    def result(self) -> dict[str, Any]:
        """Wait for its end; return the JSON that it printed."""
        code, output = self.end()
        assert code == 0, "".join(self.seen)
        result: dict[str, Any] = json.loads(output)
        return result

    def close(self) -> None:
        """End it, whatever it does, stopped or not; show what it said, for a test that failed."""
        print(f"--- {self.popen.args!r} had {self.popen.poll()}", *self.seen[-200:], sep="\n")
        self.popen.kill()
        with contextlib.suppress(ProcessLookupError):
            self.popen.send_signal(signal.SIGCONT)
        self.popen.wait()
        assert self.popen.stdout is not None
        self.popen.stdout.close()


Start = Callable[..., Process]


def free_port() -> int:
    """Return a port that is free now, and that no system gives to who asks for any."""
    while True:
        port = random.randrange(10_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class Relay:
    """A TCP relay on loopback that delays, slows, freezes, cuts and halves what it carries.

    `to_main` and `to_node` are the two directions; a node connects to `address`.

    Args:
        target: `tcp://127.0.0.1:port` of the main node; may be set later.
    """

    def __init__(self, target: str = "") -> None:
        self.target = target
        self.delay_seconds = 0.0
        self.bytes_per_second = 0.0
        #: Carry so many bytes of the next connection in a direction and then cut it.
        self.cut_after: dict[str, int] = {}
        self.carried = {"to_main": 0, "to_node": 0}
        self._frozen: dict[str, bool] = {"to_main": False, "to_node": False}
        self._refuses = False
        self._changed = threading.Condition()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thaw = asyncio.Event()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(SECONDS)

    def _serve(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)

        async def begin() -> None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
            self.address = f"tcp://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
            ready.set()

        self._loop.run_until_complete(begin())
        self._loop.run_forever()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = int(self.target.rpartition(":")[2] or 0)
        try:
            if self._refuses:
                raise ConnectionRefusedError
            there, back = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.close()
            return
        self._writers |= {writer, back}
        for direction, source, sink in (("to_main", reader, back), ("to_node", there, writer)):
            task = asyncio.ensure_future(self._carry(direction, source, sink, writer, back))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(
        self, direction: str, source: asyncio.StreamReader, sink: asyncio.StreamWriter,
        *both: asyncio.StreamWriter,
    ) -> None:  # fmt: skip
        left = self.cut_after.pop(direction, None)
        try:
            while data := await source.read(1 << 14):
                if self.delay_seconds:
                    await asyncio.sleep(self.delay_seconds)
                if self.bytes_per_second:
                    await asyncio.sleep(len(data) / self.bytes_per_second)
                while self._frozen[direction]:
                    self._thaw.clear()
                    await self._thaw.wait()
                if left is not None:
                    data, left = data[:left], left - len(data)
                sink.write(data)
                await sink.drain()
                with self._changed:
                    self.carried[direction] += len(data)
                    self._changed.notify_all()
                if left is not None and left <= 0:
                    break
        except (OSError, asyncio.IncompleteReadError):
            pass
        for writer in both:
            self._writers.discard(writer)
            writer.close()

    def _call(self, function: Callable[[], object]) -> None:
        done = threading.Event()

        def call() -> None:
            function()
            done.set()

        self._loop.call_soon_threadsafe(call)
        assert done.wait(SECONDS)

    def wait_for(self, direction: str, nbytes: int) -> None:
        """Wait until so many bytes have been carried in a direction."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.carried[direction] >= nbytes, SECONDS)

    def freeze(self, *directions: str) -> None:
        """Carry nothing more in these directions; the connections stay."""
        self._call(lambda: self._frozen.update(dict.fromkeys(directions, True)))

    def thaw(self) -> None:
        """Go on."""
        self._call(self._go_on)

    def _go_on(self) -> None:
        self._frozen.update(to_main=False, to_node=False)
        self._thaw.set()

    def cut(self, refuse: bool = False) -> None:
        """End every connection at once; where it is said, let no new one through."""

        def cut() -> None:
            self._refuses = refuse
            for writer in list(self._writers):
                writer.transport.abort()

        self._call(cut)

    def mend(self) -> None:
        """Let new connections through."""
        self._refuses = False

    def close(self) -> None:
        """End it."""

        async def end() -> None:
            self._server.close()
            for task in list(self._tasks):
                task.cancel()
            for writer in list(self._writers):
                writer.transport.abort()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(SECONDS)
        self._loop.close()
