"""Which tests run together, and in which order; a plugin of pytest.

A test is in the lane that its marker names (`pytest.mark.lane("machines")`), else in the fast one;
`scripts/test` runs every lane. Simulated runs (`pytest.mark.deep`) are in the deep one too, where
there are sixteen times as many of them. Files begin in the order of what they took when
`durations.tsv` was written, the longest first, so that no worker is left with a long one at the
end; new ones begin before them.

    scripts/test fast --durations-to tests/durations.tsv     # what each file takes at this commit
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Generator
from pathlib import Path

import pytest
from filelock import FileLock

FAST = "fast"
#: And what tests in the others need, beside what the fast one does.
LANES = {
    FAST: "nothing", "machines": "root, a Docker engine, networks or stores of their own",
    "deep": "some minutes more",
}  # fmt: skip
_DEPTH = "TESTS_DEPTH"
#: Whether it is counted which lines are reached, which takes several times as long.
COUNTED = "COVERAGE_DATA" in os.environ
#: A folder: the first worker that reads the tests says there that it has.
_TURN = "TESTS_TURN"
#: Compiles the algebraic learner's loops, or loads them.
_COMPILING = "from learning.algebraic.compiling import prepare; prepare(lambda text: None)"
DURATIONS = Path(__file__).parent / "durations.tsv"
HEAD = "file\tseconds\tCPU seconds\ttests"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("lanes")
    group.addoption("--lane", choices=LANES, help="Run the tests of this lane only.")
    group.addoption(
        "--durations-to", metavar="FILE", type=Path,
        help="Write what each file of tests took, at which commit.",
    )  # fmt: skip


def depth() -> int:
    """Return how many times as many runs are simulated as in the fast lane."""
    return int(os.environ.get(_DEPTH, "1"))


def pytest_configure(config: pytest.Config) -> None:
    # There are hundreds of processes: each would compile every module anew.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    config.addinivalue_line("markers", "deep: simulated runs; the more the better")
    config.addinivalue_line("markers", "cost: says what may be used; not where lines are counted")
    if config.getoption("--lane") == FAST:
        # Starting a pool of threads is a third of what it takes to start a command.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if config.getoption("--lane") == "deep":
        os.environ[_DEPTH] = "16"
    config.addinivalue_line("markers", "lane(name): what a test needs; `fast` if nothing")
    target = config.getoption("--durations-to")
    if hasattr(config, "workerinput"):
        return
    if target is not None:
        config.pluginmanager.register(Durations(target))
    if config.getoption("dist", "no") != "no":
        config.pluginmanager.register(Once())


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Have one worker compile the tests as it reads them: the others wait, and load what it made.

    Pytest itself has each compile everything.
    """
    if not hasattr(session.config, "workerinput"):
        return (yield)
    read = Path(os.environ[_TURN]) / "read"
    with FileLock(read.with_suffix(".lock")) as lock:
        if read.exists():
            lock.release()
        collected = yield
        read.touch()
    return collected


def lane_of(item: pytest.Item) -> str:
    """Return the lane that a test is in."""
    marker = item.get_closest_marker("lane")
    lane = FAST if marker is None else str(marker.args[0])
    assert lane in LANES, f"{item.nodeid}: no lane {lane}"
    return lane


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the lane's tests, in the order in which they are to begin."""
    lane = config.getoption("--lane")
    if lane is not None:
        others = [item for item in items if not _is_in(lane, item)]
        items[:] = [item for item in items if _is_in(lane, item)]
        config.hook.pytest_deselected(items=others)
    took = read(DURATIONS)
    items.sort(key=lambda item: -took.get(_file_of(item.nodeid), float("inf")))


def _is_in(lane: str, item: pytest.Item) -> bool:
    if COUNTED and item.get_closest_marker("cost") is not None:
        return False
    return lane_of(item) == lane or (lane == "deep" and item.get_closest_marker("deep") is not None)


def read(path: Path) -> dict[str, float]:
    """Return the seconds that files of tests took, by their names."""
    lines = path.read_text().splitlines() if path.exists() else []
    rows = [line.split("\t") for line in lines if not line.startswith("#") and line != HEAD]
    return {file: float(seconds) for file, seconds, *_ in rows}


def _file_of(nodeid: str) -> str:
    return nodeid.partition("::")[0]


def _cpu() -> float:
    """Return the CPU seconds of this process, and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    item.user_properties.append(("before", _cpu()))
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    try:
        yield
    finally:
        before = dict(item.user_properties)["before"]
        item.user_properties.append(("cpu", _cpu() - float(before)))  # type: ignore[arg-type]


class Once:
    """Sees that what workers would compile, each for itself, is compiled once.

    The algebraic learner's loops take 20 s of CPU, in a checkout that has none of them: that
    is done beside the workers, while they read the tests.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="tests-")
        os.environ[_TURN] = self._folder.name
        self._compiling = subprocess.Popen([sys.executable, "-c", _COMPILING])

    def pytest_sessionfinish(self) -> None:
        self._compiling.kill()
        self._compiling.wait()
        self._folder.cleanup()


class Durations:
    """Adds up what the tests of each file take, and writes it at the end.

    Args:
        path: where to.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._cpu: defaultdict[str, float] = defaultdict(float)
        self._tests: defaultdict[str, int] = defaultdict(int)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        file = _file_of(report.nodeid)
        self._seconds[file] += report.duration
        if report.when == "teardown":
            self._cpu[file] += float(dict(report.user_properties).get("cpu", 0))  # type: ignore[arg-type]
            self._tests[file] += 1

    def pytest_sessionfinish(self) -> None:
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
        ).stdout.strip()
        order = sorted(self._seconds, key=lambda file: -self._seconds[file])
        rows = [
            f"{file}\t{self._seconds[file]:.1f}\t{self._cpu[file]:.1f}\t{self._tests[file]}"
            for file in order
        ]
        seconds, cpu = sum(self._seconds.values()), sum(self._cpu.values())
        total = f"# at {commit}: {seconds:.0f} s of workers, {cpu:.0f} s of CPU"
        self._path.write_text("\n".join([total, HEAD, *rows, ""]))
