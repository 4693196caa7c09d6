"""What several tests share."""

from __future__ import annotations

import gzip
import logging
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

import loaders
from computing_node import AsyncComputingNode
from loaders import DatasetNotFound
from main_node import AsyncMainNode
from protocol import JobDataType, JobSolutionDataType
from protocol.wire.entry import Entry

from .processes import Process, Relay, Told

pytest_plugins = ["tests.lanes"]
# How long a case takes is the machine's: others work beside.
settings.register_profile("beside others", settings(), deadline=None)
settings.load_profile("beside others")

# Whoever runs the tests in the background, or by nohup, has these ignored: so would every command.
for _number, _usual in (
    (signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL),
):  # fmt: skip
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _usual)

ANY_PORT = "tcp://127.0.0.1:0"
PROGRAMS = Path(__file__).parent / "programs"


def upper(job: JobDataType, task_id: int, client_id: str) -> JobSolutionDataType:
    return JobSolutionDataType(job.to_string().upper())


@pytest.fixture
def main_node() -> Iterator[Callable[..., AsyncMainNode]]:
    """Make main nodes on free ports; they are closed at the end."""
    made: list[AsyncMainNode] = []

    def make(name: str = "main", **options: object) -> AsyncMainNode:
        made.append(AsyncMainNode(name, address=ANY_PORT, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for node in made:
        node.close()


@pytest.fixture
def computing_node() -> Iterator[Callable[..., AsyncComputingNode]]:
    """Make running computing nodes; they are stopped at the end."""
    made: list[AsyncComputingNode] = []

    def make(
        *mains: AsyncMainNode, name: str = "node", callback: object = upper, **options: object
    ) -> AsyncComputingNode:
        node = AsyncComputingNode(
            name, callback=callback, address=[main.address for main in mains], **options  # type: ignore[arg-type]
        )  # fmt: skip
        made.append(node)
        node.run()
        return node

    yield make
    for node in made:
        node.stop()


@pytest.fixture
def program() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a program of `tests/programs`; it is killed at the end if it still runs."""
    started: list[subprocess.Popen[str]] = []

    def start(name: str, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(PROGRAMS / name), *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    """Start commands; they are ended at the end."""
    started: list[Process] = []

    def begin(*command: str, **options: Any) -> Process:
        started.append(Process(*command, **options))
        return started[-1]

    yield begin
    for process in started:
        process.close()


@pytest.fixture
def relay() -> Iterator[Callable[[str], Relay]]:
    """Make relays to an address; they are closed at the end."""
    made: list[Relay] = []

    def make(target: str = "") -> Relay:
        made.append(Relay(target))
        return made[-1]

    yield make
    for each in made:
        each.close()


class Heard(Told, logging.Handler):
    """What the nodes of this process log, for a test to wait for."""

    def __init__(self) -> None:
        Told.__init__(self)
        logging.Handler.__init__(self, logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        with self._more:
            self.lines.append(record.getMessage())
            if isinstance(record.msg, Entry):
                self._entries.append({"level": record.levelname.lower(), **record.msg.plain()})
            self._more.notify_all()


@pytest.fixture
def heard() -> Iterator[Heard]:
    """Listen to what is logged."""
    handler, logger = Heard(), logging.getLogger("mnist")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(before)


@pytest.fixture(autouse=True)
def no_thread_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a node's thread behind, after every other fixture has ended."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        if thread.name.endswith(("connections", "users", "results", "deliveries", "scribe")):
            thread.join(5)
            assert not thread.is_alive(), f"{thread.name} is left"


def write_idx(path: Path, array: np.ndarray, magic: int | None = None) -> None:
    """Write an IDX file of unsigned bytes, compressed if its name ends so."""
    head = struct.pack(f">{array.ndim + 1}I", magic or 0x0800 | array.ndim, *array.shape)
    content = head + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def make_idx_folder(folder: Path, train: int = 200, test: int = 50, side: int = 28) -> Path:
    """Write a small data set that can be learned: class n is a bright bar in one of ten places.

    The places are further apart than training images are shifted.
    """
    random = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    for split, rows in (("train", train), ("t10k", test)):
        labels = random.integers(0, 10, rows)
        images = random.integers(0, 60, (rows, side, side))
        for image, label in zip(images, labels, strict=True):
            row, column = 5 * (label % 5) + 2, 14 * (label // 5)
            image[row : row + 3, column + 2 : column + 12] = 250
        write_idx(folder / f"{split}-images-idx3-ubyte", images)
        write_idx(folder / f"{split}-labels-idx1-ubyte", labels)
    return folder


@pytest.fixture(scope="session")
def idx_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_idx_folder(tmp_path_factory.mktemp("idx") / "small")


@pytest.fixture(scope="session")
def compiled() -> None:
    """Have the algebraic learner's loops compiled: once in a checkout, by one process."""
    from learning.algebraic.compiling import prepare

    prepare(lambda text: None)


@pytest.fixture(scope="session")
def mnist() -> loaders.Rows:
    """Return MNIST's training set; skip where it can't be had, but never in CI."""
    try:
        return loaders.load("mnist")
    except DatasetNotFound as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))
