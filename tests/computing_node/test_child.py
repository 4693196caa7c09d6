"""The child process: arrays shared, crashes told, cancelled at once, never left behind."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest

from computing_node import ChildDied, SourceUnreachable, sharing
from computing_node.children import ChildReplier, TaskRaised
from computing_node.replier import Task
from computing_node.scratch import Scratch
from computing_node.sharing import Channel, allocate
from learning import Turn, create
from learning.actions import CODE, Fit, Predict
from learning.own.code import Code, gather
from learning.own.kinds import shipped, told_of_code
from main_node import AsyncMainNode
from mnist_merge import ONE_THREAD
from protocol import JobDataType

from ..learning.common import carry, images
from ..processes import COMPUTE, Start, forked, run, templates
from .common import bring, linear_fit

SECONDS = 60


@pytest.fixture
def replier() -> Iterator[ChildReplier]:
    made = ChildReplier(1)
    yield made
    made.close()


def work(steps: int = 1, rows: int = 64) -> tuple[dict[str, Any], dict[str, Any]]:
    return linear_fit(images(rows), steps)


def task(values: dict[str, Any], arrays: Any, learner: str = "linear") -> Task:
    made = Task((0, 1), JobDataType(arrays, values, kind=learner), 1, "main")
    assert made.begin()
    return made


def test_arrays_go_through_a_channel_and_large_ones_are_shared() -> None:
    here, there = (Channel(end) for end in socket.socketpair())
    large = allocate(1_000_000)
    large[:] = 7
    arrays = {
        "large": large,
        "small": np.arange(5.0),
        "empty": np.zeros((0, 3)),
        "flag": np.array(True),
    }
    here.send({"n": 1, "deep": [1, {"a": None}]}, arrays)
    values, received = there.receive()
    assert values == {"n": 1, "deep": [1, {"a": None}]}
    for name, array in arrays.items():
        np.testing.assert_array_equal(received[name], array)
        assert received[name].dtype == array.dtype
    large[0] = 9  # the same memory on both sides
    assert received["large"][0] == 9
    here.close()
    with pytest.raises(EOFError):
        there.receive()
    with pytest.raises(EOFError):
        there.send({}, {})


def test_nothing_is_left_of_shared_arrays() -> None:
    before = set(Path("/dev/shm").iterdir()) if Path("/dev/shm").exists() else set()
    descriptors = psutil.Process().num_fds()
    here, there = (Channel(end) for end in socket.socketpair())
    for _ in range(50):
        here.send({}, {"x": np.ones(100_000)})
        there.receive()
    here.close()
    there.close()
    assert psutil.Process().num_fds() <= descriptors + 1
    if before:
        assert set(Path("/dev/shm").iterdir()) <= before


def exchanged(nbytes: int) -> Any:
    """Return an array that went through a channel."""
    here, there = (Channel(end) for end in socket.socketpair())
    here.send({}, {"x": np.arange(nbytes, dtype=np.uint8)})
    _, arrays = there.receive()
    here.close()
    there.close()
    return arrays["x"]


#: Sends an array of a megabyte, where the system's folder for shared memory has room for none.
SMALL = """
mount -t tmpfs -o size=64k tmpfs /dev/shm || exit 77
exec "$0" -c "
import numpy
from tests.computing_node.test_child import exchanged
assert (exchanged(1 << 20) == numpy.arange(1 << 20, dtype=numpy.uint8)).all()
"
"""


@pytest.mark.lane("machines")
def test_a_container_with_little_shared_memory_is_large_enough() -> None:
    """Found in the field: a plain container has 64 MB there, and MNIST failed in it."""
    done = run("unshare", "--mount", "bash", "-c", SMALL, sys.executable)
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr


def no_memory(name: str) -> int:
    raise PermissionError(1, "Operation not permitted")


def test_where_there_is_no_memory_without_a_name_another_folder_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "memfd_create", no_memory)
    monkeypatch.setattr(sharing, "_MEMORY", tmp_path / "not" / "there")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert exchanged(100_000)[1000] == 1000 % 256
    assert not any(tmp_path.iterdir())


def test_a_folder_that_is_full_is_left_for_another_and_named_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (small := tmp_path / "shm").mkdir()
    (spare := tmp_path / "tmp").mkdir()
    free = {small: 70_000, spare: 1 << 30}
    used: list[Path] = []

    def temporary(dir: Path) -> Any:
        used.append(dir)
        return made(dir=dir)

    made = tempfile.TemporaryFile
    monkeypatch.setattr(os, "memfd_create", no_memory)
    monkeypatch.setattr(sharing, "_MEMORY", small)
    monkeypatch.setattr(tempfile, "tempdir", str(spare))
    monkeypatch.setattr(tempfile, "TemporaryFile", temporary)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free[path]))
    exchanged(70_001)
    exchanged(70_000)
    assert used == [spare, small]
    free[spare] = 0
    with pytest.raises(OSError, match=f"100,000 bytes in {small} or {spare};.*TMPDIR"):
        exchanged(100_000)


def test_a_child_fits_and_predicts_and_is_reused(replier: ChildReplier) -> None:
    shard = images(64)
    start = create("neural", {}).initial(shard.form)
    fit = carry(Fit(rows=shard, start=start, seed=1, turn=Turn()), {"epochs": 1})
    solution = replier.solve(task(*fit, learner="neural"))
    assert solution.metrics["examples"] == 64
    (pid,) = [child.pid for child in forked()]
    ten = Predict(rows=images(10), model=solution.arrays, loss=False)
    labels = replier.solve(task(*carry(ten, {}), learner="neural"))
    assert labels.arrays["labels"].shape == (10,)
    assert [child.pid for child in forked()] == [pid]


def test_what_raises_in_a_child_is_told_with_its_traceback(replier: ChildReplier) -> None:
    with pytest.raises(TaskRaised, match="no learner 'psychic'") as caught:
        replier.solve(task(*work(), learner="psychic"))
    assert "Traceback" not in caught.value.remote_traceback  # it is said on purpose
    values, arrays = work()
    arrays["start/layer.weights"] = np.zeros((1, 1))
    with pytest.raises(TaskRaised) as caught:
        replier.solve(task(values, arrays))
    _, first, *_ = caught.value.remote_traceback.splitlines()
    assert "brought/linear.py" in first  # where it is somebody's to mend
    again = replier.solve(task(*work()))
    assert again.arrays


def test_a_killed_child_is_a_failed_task_and_another_takes_its_place(
    replier: ChildReplier,
) -> None:
    made = task(*work(10_000))
    killer = threading.Thread(target=_when_busy, args=(made, kill_child))
    killer.start()
    with pytest.raises(ChildDied, match="killed .SIGKILL."):
        replier.solve(made)
    killer.join()
    solution = replier.solve(task(*work()))
    assert solution.arrays
    assert len(forked()) == 1


def kill_child() -> None:
    forked()[0].kill()


def _when_busy(made: Task, act: Callable[[], object]) -> None:
    """Act once the task has told progress."""
    done = threading.Event()
    for _ in range(SECONDS * 100):
        if made.fraction > 0:
            break
        done.wait(0.01)
    act()


def test_a_cancelled_task_is_stopped_at_once(replier: ChildReplier) -> None:
    made = task(*work(100_000))
    canceller = threading.Thread(target=_when_busy, args=(made, made.cancel))
    canceller.start()
    with pytest.raises(Exception, match="cancelled"):
        replier.solve(made)
    canceller.join()


def test_no_memory_to_share_is_an_error_and_not_a_wait(
    replier: ChildReplier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found in review: with /dev/shm full, the node waited for a child that was well."""

    def full(nbytes: int) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sharing, "allocate", full)
    with pytest.raises(OSError, match="No space left"):
        replier.solve(task(*work(rows=1000)))
    monkeypatch.undo()
    assert replier.solve(task(*work())).arrays


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_survives_its_node(
    main_node: Callable[..., AsyncMainNode], start: Start, how: int
) -> None:
    main = main_node(kinds=("linear",))
    node = start(*COMPUTE, "--connect", main.address).popen
    main.wait_for_nodes(1, SECONDS)
    values, arrays = work(10_000)
    future = main.submit(JobDataType(arrays, values, kind="linear"))
    look = threading.Event()
    while not any(fraction for _, fraction in main.view().nodes[0].running):
        look.wait(0.02)
    (template,), (child,) = templates(node.pid), forked(node.pid)
    node.send_signal(how)
    node.wait(SECONDS)
    for each in (template, child):
        each.wait(SECONDS)  # gone, or a TimeoutExpired
    assert not future.done()
    assert node.returncode == (-how if how == signal.SIGKILL else 0)


def test_a_second_signal_ends_a_node_at_once(start: Start) -> None:
    """The first one waits for the goodbye to be sent; a main node that is frozen never takes it."""
    node = start(*COMPUTE, "--connect", "tcp://127.0.0.1:1")
    node.event("node.looking")
    node.send(signal.SIGINT)
    node.event("node.leaving")
    node.send(signal.SIGINT)
    assert node.end()[0] in (0, 130, -signal.SIGINT)  # it may have been all but gone


def test_a_node_that_finds_nobody_says_so(start: Start) -> None:
    node = start(*COMPUTE, "--connect", "tcp://127.0.0.1:1")
    told = node.event("main.not_found", address="tcp://127.0.0.1:1")
    assert told["says"].startswith("no main node answers there")


def test_a_child_that_a_real_time_signal_ended_is_a_failed_task(replier: ChildReplier) -> None:
    """Found in review: such a signal has no name, and saying so raised."""
    made = task(*work(100_000))
    number = signal.SIGRTMIN + 3

    def end() -> None:
        forked()[0].send_signal(number)

    ender = threading.Thread(target=_when_busy, args=(made, end))
    ender.start()
    with pytest.raises(ChildDied, match=f"ended by signal {number}"):
        replier.solve(made)
    ender.join()


def test_a_child_that_can_not_be_started_is_tried_again(
    replier: ChildReplier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system has no process left, say: the task fails in words, and the node goes on."""
    replier.solve(task(*work()))
    popen = subprocess.Popen

    def none(*arguments: Any, **options: Any) -> Any:
        raise OSError(11, "Resource temporarily unavailable")

    made = task(*work(100_000))

    def end() -> None:
        monkeypatch.setattr(subprocess, "Popen", none)
        kill_both()

    ender = threading.Thread(target=_when_busy, args=(made, end))
    ender.start()
    with pytest.raises(ChildDied, match="gone, as was the one that had started it"):
        replier.solve(made)
    ender.join()
    with pytest.raises(OSError, match="temporarily"):
        replier.solve(task(*work()))
    monkeypatch.setattr(subprocess, "Popen", popen)
    assert replier.solve(task(*work())).arrays
    assert replier._started == 1


def kill_both() -> None:
    """Kill the template, and then the child that it has forked."""
    (template,), (child,) = templates(), forked()
    template.kill()
    template.wait(SECONDS)
    child.kill()


def test_a_child_that_the_system_does_not_let_be_forked_is_tried_again(
    tmp_path: Path, brought: Callable[[str, str], None], replier: ChildReplier
) -> None:
    brought("few", FEW.format(here=tmp_path))
    replier.prepare(("few",))
    with pytest.raises(OSError, match="temporarily"):
        replier.solve(task(*work(), learner="few"))
    (tmp_path / "more").touch()
    assert replier.solve(task(*work(), learner="few")).arrays
    assert replier._started == 1


#: Brings a system that lets no process be forked until there is a file.
FEW = """
import os
from linear import LinearLearner

fork = os.fork


def few():
    if not os.path.exists("{here}/more"):
        raise OSError(11, "Resource temporarily unavailable")
    return fork()


class Learner(LinearLearner):
    name = "few"

    def prepare(self):
        os.fork = few
"""


def test_a_job_goes_on_where_its_template_was_killed_and_the_next_child_has_another(
    replier: ChildReplier,
) -> None:
    made = task(*work(200))
    before: list[psutil.Process] = []

    def end() -> None:
        before.extend(templates())
        before[0].kill()

    ender = threading.Thread(target=_when_busy, args=(made, end))
    ender.start()
    assert replier.solve(made).arrays
    ender.join()
    assert replier.solve(task(*work())).arrays  # the child is well, and nobody is started
    assert not templates()
    orphan = made.place.process.pid
    long = task(*work(100_000))
    killer = threading.Thread(target=_when_busy, args=(long, psutil.Process(orphan).kill))
    killer.start()
    with pytest.raises(ChildDied, match="as was the one that had started it"):
        replier.solve(long)
    killer.join()
    assert replier.solve(task(*work())).arrays
    assert len(templates()) == len(forked()) == 1
    assert before != templates()


@pytest.fixture
def brought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Return what brings a learner to the processes that are started from now on."""
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    return lambda name, code: bring(tmp_path, name, code)


#: Says who has prepared, and what each job finds.
COUNTED = """
import os
from linear import LinearLearner


class Learner(LinearLearner):
    name = "{name}"
    forks = {forks}

    def prepare(self):
        with open("{here}/prepared", "a") as file:
            print(os.getpid(), file=file)

    def fit(self, rows, start, **rest):
        with open("{here}/found", "w") as file:
            pools = [name for name in os.environ if name.endswith("_THREADS")]
            print(*sorted({{os.environ[name] for name in pools}}), len(pools), file=file)
        return super().fit(rows, start, **rest)
"""


def together(replier: ChildReplier, learner: str, count: int) -> None:
    """Have so many children at once, and a job solved by each."""
    tasks = [task(*work(), learner=learner) for _ in range(count)]
    for each in tasks:
        replier.make_ready(each)
    for each in tasks:
        assert replier.solve(each).arrays


def killed(replier: ChildReplier, learner: str) -> None:
    """Have a child killed while it is at work."""
    made = task(*work(100_000), learner=learner)
    replier.make_ready(made)
    killer = threading.Thread(target=_when_busy, args=(made, made.place.kill))
    killer.start()
    with pytest.raises(ChildDied, match="killed .SIGKILL."):
        replier.solve(made)
    killer.join()


def test_all_places_and_every_restart_share_one_preparation(
    tmp_path: Path, brought: Callable[[str, str], None]
) -> None:
    """A child that died took an import, 1.4 s with torch; now nothing is imported again."""
    brought("counted", COUNTED.format(name="counted", forks=True, here=tmp_path))
    replier = ChildReplier(places=3)
    try:
        replier.prepare(("counted",))
        together(replier, "counted", 3)
        (template,) = templates()
        assert len(forked()) == 3
        killed(replier, "counted")
        killed(replier, "counted")
        assert replier.solve(task(*work(), learner="counted")).arrays
        assert templates() == [template]
        assert (tmp_path / "prepared").read_text().split() == [str(template.pid)]
    finally:
        replier.close()
    assert not templates()


def test_a_learner_that_can_not_be_forked_has_a_process_of_its_own_for_each_place(
    tmp_path: Path, brought: Callable[[str, str], None]
) -> None:
    brought("alone", COUNTED.format(name="alone", forks=False, here=tmp_path))
    replier = ChildReplier(places=2)
    try:
        replier.prepare(("alone",))
        together(replier, "alone", 2)
        assert len(templates()) == 2
        assert not forked()
        killed(replier, "alone")
        together(replier, "alone", 2)
        assert len(templates()) == 2
        assert len(set((tmp_path / "prepared").read_text().split())) == 3
    finally:
        replier.close()
    assert not templates()


@pytest.mark.parametrize(
    "what",
    ["import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()",
     "import __main__; __main__._DEVICES = ('/dev/zero',); __main__.held = open('/dev/zero')"],
)  # fmt: skip
def test_a_process_with_threads_or_an_accelerator_is_not_forked(
    what: str, brought: Callable[[str, str], None], replier: ChildReplier
) -> None:
    brought("busy", BUSY.format(what=what))
    replier.prepare(("busy",))
    assert replier.solve(task(*work(), learner="busy")).arrays
    assert len(templates()) == 1
    assert not forked()


BUSY = """
from linear import LinearLearner


class Learner(LinearLearner):
    name = "busy"

    def prepare(self):
        {what}
"""


def test_the_libraries_below_have_one_thread_each(
    tmp_path: Path, brought: Callable[[str, str], None], replier: ChildReplier,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Sixteen children of sixteen threads each lose a third of their time to each other."""
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "16")
    brought("counted", COUNTED.format(name="counted", forks=True, here=tmp_path))
    assert replier.solve(task(*work(), learner="counted")).arrays
    assert (tmp_path / "found").read_text().split() == ["1", str(len(ONE_THREAD))]


def test_a_template_that_is_not_prepared_yet_ends_with_its_node(
    start: Start, main_node: Callable[..., AsyncMainNode], tmp_path: Path,
    brought: Callable[[str, str], None],
) -> None:  # fmt: skip
    brought("slow", SLOW)
    main = main_node(kinds=("slow",))
    node = start(*COMPUTE, "--connect", main.address).popen
    main.wait_for_nodes(1, SECONDS)
    look = threading.Event()
    while not (found := templates(node.pid)):
        look.wait(0.02)
    node.kill()
    found[0].wait(SECONDS)  # gone, or a TimeoutExpired


SLOW = """
import time
from linear import LinearLearner


class Learner(LinearLearner):
    name = "slow"

    def prepare(self):
        time.sleep(3600)
"""


FAR = """
from linear import LinearLearner
from loaders import SourceUnreachable


class Learner(LinearLearner):
    name = "far"

    def fit(self, rows, start, *, seed, progress, cancelled, client=None):
        raise SourceUnreachable("s3://shelf", "no route to it")
"""


def test_a_source_that_a_child_can_not_reach_is_no_failure(
    brought: Callable[[str, str], None], replier: ChildReplier
) -> None:
    brought("far", FAR)
    with pytest.raises(SourceUnreachable, match="s3://shelf.*no route to it") as caught:
        replier.solve(task(*work(), learner="far"))
    assert caught.value.source == "s3://shelf"
    assert replier.solve(task(*work())).arrays  # the same child goes on


def own_job(folder: Path, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a job of a user's own learner, in a file of its own."""
    shutil.copy(Path(__file__).parent.parent / "brought" / "linear.py", folder / f"{name}.py")
    made = create(f"{folder / name}.py:LinearLearner", {})
    assert made.code is not None
    values, arrays = work(rows=8)
    return {**values, "code": told_of_code(made.code)}, arrays


def test_a_process_that_has_run_ones_code_runs_no_others(tmp_path: Path) -> None:
    """Whatever it has changed in it, a later job of somebody else's does not meet it."""
    made = ChildReplier(1, folders=[str(tmp_path)])

    def process(job: tuple[dict[str, Any], dict[str, Any]], learner: str) -> int:
        made.solve(task(*job, learner))
        (child,) = forked()
        return child.pid

    try:
        mine, others = (own_job(tmp_path, name) for name in ("mine", "others"))
        first = process(work(rows=8), "linear")
        assert process(mine, "own") == first  # nothing of anybody's has run in it
        assert process(mine, "own") == first
        second = process(others, "own")
        assert second != first
        assert process(work(rows=8), "linear") not in (first, second)
    finally:
        made.close()


LEAVES = """
import os, subprocess, sys
from pathlib import Path

left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
Path({told!r}).write_text(str(left.pid))
if {crashes}:
    os._exit(3)

class Net:
    pass
"""


@pytest.mark.parametrize("crashes", [False, True], ids=["closed", "crashed"])
def test_what_a_users_code_leaves_running_ends_with_its_child(
    tmp_path: Path, crashes: bool
) -> None:
    told = tmp_path / "told"
    (tmp_path / "leaves.py").write_text(LEAVES.format(told=str(told), crashes=crashes))
    code = Code("leaves", "Net", gather("leaves", tmp_path), tmp_path)
    values, arrays = work(rows=8)
    made = ChildReplier(1, folders=[str(tmp_path)])
    try:
        made.prepare(("linear",))
        with pytest.raises(ChildDied if crashes else TaskRaised):
            made.solve(task({**values, "code": told_of_code(code)}, arrays, "own"))
        left = psutil.Process(int(told.read_text()))
    except psutil.NoSuchProcess:  # it has ended already
        return
    finally:
        made.close()
    left.wait(SECONDS)


def test_what_a_killed_node_has_left_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    script = "import os; from computing_node.scratch import Scratch; Scratch(); os._exit(0)"
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", script], env=env, check=True, timeout=SECONDS)
    (left,) = tmp_path.iterdir()
    (tmp_path / "mnist-code-file").write_text("nobody's folder")
    first = Scratch()
    assert not left.exists()
    second = Scratch()
    assert first.path.is_dir()  # of a node that lives
    for each in (first, second, first):
        each.close()
    assert [each.name for each in tmp_path.iterdir()] == ["mnist-code-file"]


def test_code_of_two_takes_turns_in_two_places_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found in review: a job's code met the other's process each time, and a folder was left."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "mine").mkdir()
    made = ChildReplier(2, accepts_code=True)

    def solved(job: tuple[dict[str, Any], dict[str, Any]]) -> set[int]:
        with pytest.raises(TaskRaised, match="Module is wanted"):
            made.solve(task(*job, "own"))
        return {child.pid for child in forked()}

    try:
        made.prepare(("linear",))
        first, second = (sent(tmp_path / "mine", name) for name in ("one", "two"))
        both = [task(*each, "own") for each in (first, second)]
        for each in both:  # each has a process before it runs
            made.make_ready(each)
        for each in both:
            with pytest.raises(TaskRaised, match="Module is wanted"):
                made.solve(each)
        (scratch,) = tmp_path.glob("mnist-code-*")
        before = {child.pid for child in forked()}
        assert solved(second) == solved(first) == solved(first) == solved(second) == before
        assert len([*scratch.iterdir()]) == 2
        solved(sent(tmp_path / "mine", "three"))  # instead of one of them
        assert len([*scratch.iterdir()]) == 2
    finally:
        made.close()
    assert not scratch.exists()


def sent(folder: Path, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a job of code that comes with it, and is no learner."""
    (folder / f"{name}.py").write_text("class Net:\n    pass\n")
    code = Code(name, "Net", gather(name, folder), folder)
    values, arrays = work(rows=8)
    return {**values, "code": told_of_code(code)}, {**arrays, CODE: shipped(code)}
