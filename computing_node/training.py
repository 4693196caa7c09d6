"""The replier of `mnist-compute`: each job is solved in a child process."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import socket
import subprocess
import sys
import time
from typing import Any

from protocol import JobSolutionDataType

from .errors import ChildDied, NodeError, TaskCancelled
from .replier import JobReplier, Task
from .sharing import Channel

log = logging.getLogger("mnist.compute")


class TaskRaised(NodeError):
    """A job raised in the child; carries the traceback from there."""

    def __init__(self, message: str, remote_traceback: str) -> None:
        super().__init__(message)
        self.remote_traceback = remote_traceback


class Child:
    """One child process and the channel to it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "computing_node.child", str(theirs.fileno())],
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
                env={**os.environ, "OMP_NUM_THREADS": "1"},  # torch sets its own, by the job
            )  # fmt: skip
        self.channel = Channel(ours)

    def kill(self) -> None:
        """Stop it at once."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    def close(self) -> None:
        """Stop it and give everything back."""
        self.kill()
        self.channel.close()
        self.process.wait()

    def epitaph(self) -> str:
        """Return how the process ended, in a sentence."""
        code = self.process.wait()
        if code == -signal.SIGKILL:
            return "its process was killed (SIGKILL): by hand, or by the system for want of memory"
        if code < 0:
            return f"its process was ended by {signal.Signals(-code).name}"
        return f"its process ended with exit code {code}"


class ChildReplier(JobReplier):
    """Solves training jobs in child processes, one for each place of the node.

    Args:
        places: how many children to keep warm.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._idle: queue.SimpleQueue[Child] = queue.SimpleQueue()
        self._learners: list[str] = []
        self._started = 0
        self._closed = False

    def prepare(self, learners: tuple[str, ...]) -> None:
        """Start the children and let them import what they will need."""
        self._learners = [learner for learner in learners if learner]
        while self._learners and self._started < self._places:
            self._idle.put(self._start())

    def _start(self) -> Child:
        self._started += 1
        child = Child()
        if self._learners:
            child.channel.send({"prepare": self._learners}, {})
        return child

    def solve(self, task: Task) -> JobSolutionDataType:
        """Solve a task in a child; kill the child if the task is cancelled."""
        begun = time.monotonic()
        log.info(
            "task.started job=%d learner=%s action=%s main=%s", task.task_id, task.job.learner,
            task.job.parameters.get("action"), task.client_id,
        )  # fmt: skip
        try:
            child = self._idle.get_nowait()
        except queue.Empty:
            child = self._start()
        try:
            task.on_cancel(child.kill)
            child.channel.send(
                {"solve": task.job.learner, "values": dict(task.job.parameters)}, task.job.arrays
            )
            solution = _follow(child, task)
        except TaskRaised:
            self._put_back(child, task)
            raise
        except EOFError as error:
            raise self._lost(child, task) from error
        except BaseException:  # no memory to share arrays in, say: the child may be confused
            child.kill()
            self._lost(child, task)
            raise
        self._put_back(child, task)
        log.info("task.solved job=%d seconds=%.1f", task.task_id, time.monotonic() - begun)
        return solution

    def _put_back(self, child: Child, task: Task) -> None:
        task.on_cancel(_nothing)
        if task.cancelled:  # and so the child is killed, or about to be
            raise self._lost(child, task)
        self._idle.put(child)

    def _lost(self, child: Child, task: Task) -> NodeError:
        if task.cancelled:
            child.kill()
        epitaph = child.epitaph()
        child.channel.close()
        self._started -= 1
        if not self._closed:
            self._idle.put(self._start())  # warm for the next job
        if self._closed:
            self.close()  # this very moment
        if task.cancelled:
            log.info("task.cancelled job=%d", task.task_id)
            return TaskCancelled("cancelled")
        return ChildDied(epitaph)

    def close(self) -> None:
        """End the children."""
        self._closed = True
        with contextlib.suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()


def _nothing() -> None:
    return


def _follow(child: Child, task: Task) -> JobSolutionDataType:
    """Pass progress on until the child has solved the task.

    Raises:
        TaskRaised: the job raised in the child.
        EOFError: the child is gone.
    """
    values: dict[str, Any]
    while True:
        values, arrays = child.channel.receive()
        if "progress" in values:
            task.progress(values["progress"], values["note"])
        elif "failed" in values:
            raise TaskRaised(values["failed"], values["traceback"])
        else:
            return JobSolutionDataType(arrays, values["solved"])
