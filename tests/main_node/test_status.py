"""Status nodes, as AML-IP's, and `mnist-status`: who is seen as what."""

from __future__ import annotations

import json
import math
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from computing_node import AsyncComputingNode
from console.exits import Exit
from main_node import AsyncMainNode, ConfigError, NodeError, StatusListener, StatusNode
from protocol import JobDataType, JobSolutionDataType
from protocol.carrier import keys
from protocol.carrier.discovery import Found
from protocol.carrier.monitor import address_of
from protocol.carrier.sockets import make_pair
from protocol.machine.watching import Overview
from protocol.wire.messages import Heartbeat, NodeStatus

from ..conftest import Heard, upper
from ..processes import MAIN, Start, free_port, here, run

SECONDS = 20
STATUS = (str(Path(sys.executable).with_name("mnist-status")),)
STATUS_HERE = "status_node.command:main"
Mains = Callable[..., AsyncMainNode]
Nodes = Callable[..., AsyncComputingNode]


class Seen(StatusListener):
    """Every status that was received, for a test to wait for."""

    def __init__(self) -> None:
        self.all: list[NodeStatus] = []
        self._more = threading.Condition()

    def status_received(self, status: NodeStatus) -> None:
        with self._more:
            self.all.append(status)
            self._more.notify_all()

    def states(self, node: str) -> list[str]:
        return [status.state for status in self.all if status.id == node]

    def wait_for(self, node: str, *states: str) -> None:
        """Wait until a node has been in exactly these states, in this order."""
        with self._more:
            assert self._more.wait_for(lambda: self.states(node) == [*states], SECONDS), (
                f"{node}: {[(s.state, s.reason) for s in self.all if s.id == node]}, not {states}"
            )

    def wait_until(self, node: str, state: str) -> None:
        """Wait until a node is in this state."""
        with self._more:
            assert self._more.wait_for(lambda: self.states(node)[-1:] == [state], SECONDS), (
                self.states(node)
            )


@pytest.fixture
def watch() -> Iterator[Callable[..., tuple[StatusNode, Seen]]]:
    """Make status nodes that watch; they are stopped at the end."""
    made: list[StatusNode] = []

    def make(
        *mains: AsyncMainNode, name: str = "watcher", **options: Any
    ) -> tuple[StatusNode, Seen]:
        node = StatusNode(name, address=[main.address for main in mains], **options)
        made.append(node)
        seen = Seen()
        node.process_status_async(listener=seen)
        return node, seen

    yield make
    for node in made:
        node.stop_processing()


def until(node: StatusNode, true: Callable[[Overview], bool]) -> Overview:
    """Wait until what a status node knows of its only main node is such, and return it."""
    deadline = time.monotonic() + SECONDS
    while True:
        (view,) = node.overviews()
        if view.main.id and true(view):
            return view
        assert time.monotonic() < deadline, view
        time.sleep(0.05)


Watch = Callable[..., tuple[StatusNode, Seen]]


def test_a_status_node_runs_and_stops(main_node: Mains) -> None:
    """AML-IP's `run_and_stop`, with a stop before the end and without."""
    main = main_node()
    for stops in (True, False):
        with StatusNode("TestStatusNode", address=main.address) as node:
            assert str(node.state.value) == "stopped"
            node.process_status_async(callback=lambda status: None)
            assert str(node.state.value) == "running"
            with pytest.raises(ConfigError, match="already"):
                node.process_status_async()
            if stops:
                node.stop_processing()
                assert str(node.state.value) == "stopped"
    assert re.fullmatch(r"TestStatusNode\.[0-9a-f]{8}", node.get_id())


def test_a_stopped_node_is_seen_as_stopped_and_a_killed_one_as_dropped(
    main_node: Mains, computing_node: Nodes, watch: Watch, program: Any
) -> None:
    """AML-IP's `process_status_parent`."""
    main = main_node()
    _, seen = watch(main)
    seen.wait_for(main.get_id(), "running")
    stopped = computing_node(main)
    seen.wait_for(stopped.get_id(), "running")
    stopped.stop()
    seen.wait_for(stopped.get_id(), "running", "stopped")
    killed = program("upper.py", main.address)
    node = killed.stdout.readline().split()[1]
    seen.wait_for(node, "running")
    killed.kill()
    seen.wait_for(node, "running", "dropped")
    kinds = {status.id: status.kind for status in seen.all}
    assert (kinds[main.get_id()], kinds[node]) == ("main", "computing")


def test_status_nodes_see_each_other(main_node: Mains, watch: Watch) -> None:
    """AML-IP's `process_status_state`: of one that watches and one that does not."""
    main = main_node()
    own, seen = watch(main)
    first = StatusNode("StN1Test", address=main.address)
    second = StatusNode("StN2Test", address=main.address)
    first.process_status_async(callback=lambda status: None)
    seen.wait_for(first.get_id(), "running")
    first.stop_processing()
    seen.wait_for(first.get_id(), "running", "stopped")
    first.process_status_async(callback=lambda status: None)  # again
    seen.wait_for(first.get_id(), "running", "stopped", "running")
    first.close()
    seen.wait_for(first.get_id(), "running", "stopped", "running", "stopped")
    assert not seen.states(second.get_id())
    assert {status.kind for status in seen.all if status.id == first.get_id()} == {"status"}
    # Who only looked on is not remembered: a health check looks every few seconds.
    assert set(own.overviews()[0].nodes) == {own.get_id()}


def test_a_status_node_says_nothing_after_its_goodbye(main_node: Mains, watch: Watch) -> None:
    """Found here: a sign of life that was due then made a newcomer of it, which was dropped."""
    main = main_node()
    _, seen = watch(main)
    node, _ = watch(main, name="leaver")
    seen.wait_for(node.get_id(), "running")
    observer = node._observer
    assert observer is not None

    def leave_late() -> None:
        """Say goodbye in a turn in which a sign of life is due."""
        for watching in observer.watchings():
            watching._said = -math.inf
        observer._tick_at = 0.0
        observer.leave()

    observer.call(leave_late)
    last, _ = watch(main, name="last")
    seen.wait_for(last.get_id(), "running")  # what was said before that is known, and told
    observer.end()
    seen.wait_for(node.get_id(), "running", "stopped")
    last.stop_processing()
    seen.wait_for(last.get_id(), "running", "stopped")  # and so is the end of the connection
    assert seen.states(node.get_id()) == ["running", "stopped"]


@pytest.mark.parametrize("kind", ["status", "computing"])
def test_a_goodbye_that_waits_to_be_read_is_heard_though_its_connection_is_over(
    main_node: Mains, computing_node: Nodes, watch: Watch, kind: str
) -> None:
    """Found here: what could not be sent any more told of the end first, and was believed."""
    main = main_node()
    _, seen = watch(main)
    node = watch(main, name="leaver")[0] if kind == "status" else computing_node(main)
    seen.wait_for(node.get_id(), "running")
    router = main._router
    flush, (*_, peer) = router._flush, router._peers.values()
    assert peer.connection is not None
    descriptor = peer.connection.descriptor

    def leave_first(*arguments: Any) -> None:
        """Have it go in a turn in which it is told something, after its words were read."""
        router._flush = flush  # type: ignore[method-assign]
        node.stop()
        deadline = time.monotonic() + SECONDS
        while address_of(descriptor):
            assert time.monotonic() < deadline
        router._tell(peer, Heartbeat())
        flush(*arguments)

    router.call(lambda: setattr(router, "_flush", leave_first))
    seen.wait_until(node.get_id(), "stopped")  # meanwhile the main node may have seemed silent
    assert "dropped" not in seen.states(node.get_id())


def test_who_comes_later_is_told_of_everybody_who_was_there(
    main_node: Mains, computing_node: Nodes, watch: Watch
) -> None:
    main = main_node()
    gone, here = computing_node(main), computing_node(main)
    main.wait_for_nodes(2, SECONDS)
    gone.stop()
    node, seen = watch(main)
    seen.wait_for(gone.get_id(), "stopped")
    seen.wait_for(here.get_id(), "running")
    assert node.wait(SECONDS)


def test_a_silent_node_is_unknown_until_it_is_heard_again(
    main_node: Mains, watch: Watch, program: Any
) -> None:
    main = main_node(heartbeat_seconds=0.2, dead_seconds=60)
    _, seen = watch(main)
    process = program("upper.py", main.address)
    node = process.stdout.readline().split()[1]
    seen.wait_for(node, "running")
    process.send_signal(signal.SIGSTOP)
    seen.wait_for(node, "running", "unknown")
    process.send_signal(signal.SIGCONT)
    seen.wait_for(node, "running", "unknown", "running")


def test_without_its_main_node_nothing_is_known_of_a_node(
    main_node: Mains, computing_node: Nodes, watch: Watch
) -> None:
    main = main_node()
    node = computing_node(main)
    _, seen = watch(main)
    seen.wait_for(node.get_id(), "running")
    main.close()
    seen.wait_for(main.get_id(), "running", "stopped")
    seen.wait_for(node.get_id(), "running", "unknown")


def test_a_main_node_that_dies_is_dropped_and_found_again(
    start: Start, idx_folder: Path, tmp_path: Path
) -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    command = (*MAIN, "--bind", address, "--data", str(idx_folder), "--run-dir", str(tmp_path),
               "--continue", "--rounds", "1", "--learner", "linear")  # fmt: skip
    with StatusNode("watcher", address=address) as watcher:
        seen = Seen()
        watcher.process_status_async(listener=seen)
        main = start(*command)
        assert watcher.wait(SECONDS)
        main_id = watcher.overviews()[0].main.id
        seen.wait_for(main_id, "running")
        main.kill()
        seen.wait_for(main_id, "running", "dropped")
        start(*command).event("run.opened")
        seen.wait_for(main_id, "running", "dropped", "running")  # it is the same run's again


def test_jobs_and_throughput_are_told(
    main_node: Mains, computing_node: Nodes, watch: Watch
) -> None:
    main = main_node()
    began, release = threading.Event(), threading.Event()

    def work(job: JobDataType, task_id: int, client_id: str) -> JobSolutionDataType:
        if job.to_string() == "wait":
            began.set()
            release.wait(SECONDS)
        return upper(job, task_id, client_id)

    node = computing_node(main, callback=work)
    for future in [main.submit(JobDataType("x")) for _ in range(100)]:
        future.result(SECONDS)
    watcher, _ = watch(main)
    main.tell(purpose="a test")
    last = main.submit(JobDataType("wait"), "the last")
    assert began.wait(SECONDS)
    queued = [main.submit(JobDataType("x")) for _ in range(3)]
    view = until(watcher, lambda view: view.jobs.get("queued", 0) + view.jobs["running"] == 4)
    assert view.jobs["done"] == 100
    assert view.jobs["per_second"] > 0
    assert view.about == {"purpose": "a test"}
    told = view.nodes[node.get_id()]
    assert (told.running, told.solved, told.tasks) == ((("the last", 0.0),), 100, 1)
    release.set()
    for future in [last, *queued]:
        future.result(SECONDS)


def test_a_listener_that_raises_is_told_the_next_all_the_same(
    main_node: Mains, computing_node: Nodes, heard: Heard
) -> None:
    main = main_node()
    told: list[str] = []

    def callback(status: NodeStatus) -> None:
        told.append(status.kind)
        raise ValueError("a bad listener")

    with StatusNode("w", address=main.address) as node:
        node.process_status_async(callback=callback)
        assert node.wait(SECONDS)
        heard.event("listener.raised", node=main.get_id())
        heard.event("listener.raised", node=node.get_id())
    assert {"main", "status"} <= set(told)


def test_another_main_node_at_one_of_the_addresses_is_not_shown(main_node: Mains) -> None:
    wanted, other = main_node("wanted"), main_node("other")
    with StatusNode("w", address=[]) as node:
        node.process_status_async()
        observer = node._observer
        assert observer is not None
        found = Found("m", wanted.get_id(), (other.address, wanted.address))
        observer.call_soon(lambda: observer.found(found))
        assert node.wait(SECONDS)
        view = until(node, lambda view: view.main.state == "running")
        assert (view.main.id, view.address) == (wanted.get_id(), wanted.address)
        for n in range(200):  # a flood does not keep another one out
            nobody = Found(f"nobody{n}", "nobody", ("tcp://127.0.0.1:1",))
            observer.call_soon(partial(observer.found, nobody))
        late = Found("o", other.get_id(), (other.address,))
        observer.call_soon(lambda: observer.found(late))
        deadline = time.monotonic() + SECONDS
        while {wanted.get_id(), other.get_id()} - {v.main.id for v in node.overviews()}:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_strangers_may_not_watch(main_node: Mains, tmp_path: Path) -> None:
    keys.create(tmp_path / "keys", ["n"], make_pair)
    main = main_node(keys=tmp_path / "keys")
    with StatusNode("bare", address=main.address) as bare:
        bare.process_status_async()
        assert not bare.wait(1.0)
    with StatusNode("n", address=main.address, keys=tmp_path / "keys") as known:
        known.process_status_async()
        assert known.wait(SECONDS)
        keys.revoke(tmp_path / "keys", "n")  # and then no more
        until(known, lambda view: view.main.state != "running")


def test_another_domain_is_refused_in_words(main_node: Mains) -> None:
    main = main_node(domain=3)
    with StatusNode("w", 4, address=main.address) as node:
        node.process_status_async()
        with pytest.raises(NodeError, match="domain 3, not 4"):
            node.wait(SECONDS)
    done = run(*STATUS, "--connect", main.address, "--domain", "4", "--once")
    assert done.returncode == Exit.REFUSED
    assert "domain 3, not 4" in done.stderr


def test_the_command_shows_a_table_and_json(main_node: Mains, computing_node: Nodes) -> None:
    main = main_node()
    node = computing_node(main, name="lab1")
    main.wait_for_nodes(1, SECONDS)
    main.submit(JobDataType("x")).result(SECONDS)
    shown = run(*STATUS, "--connect", main.address)
    assert shown.returncode == 0, shown.stderr
    assert re.search(rf"{node.get_id()} +● running +1 +idle", shown.stdout), shown.stdout
    assert "1 done, 0 failed" in shown.stdout
    told = json.loads(run(*STATUS, "--connect", main.address, "--json").stdout)
    (only,) = told["mains"]
    assert (only["id"], only["state"], only["address"]) == (main.get_id(), "running", main.address)
    assert only["jobs"]["done"] == 1
    (told,) = [n for n in only["nodes"] if n["kind"] == "computing"]
    assert (told["id"], told["state"], told["solved"]) == (node.get_id(), "running", 1)


def test_the_command_follows(main_node: Mains, computing_node: Nodes, start: Start) -> None:
    main = main_node()
    follow = start(*STATUS, "--connect", main.address, "--json", "--follow")
    assert follow.popen.stdout is not None
    json.loads(follow.popen.stdout.readline())
    node = computing_node(main)
    for line in follow.popen.stdout:
        nodes = json.loads(line)["mains"][0]["nodes"]
        if any(n["id"] == node.get_id() for n in nodes):
            break
    follow.send(signal.SIGINT)
    assert follow.popen.wait(SECONDS) == 0


def test_nobody_there_is_told_in_time() -> None:
    done = here(STATUS_HERE, "--connect", f"tcp://127.0.0.1:{free_port()}", "--timeout", "0.5")
    assert done.returncode == Exit.NO_NODE
    assert "no answer from tcp://127.0.0.1" in done.stderr
    assert "nothing listens there" in done.stderr
    lost = here(STATUS_HERE, "--connect", "tcp://no.such.host.example:5555", "--timeout", "0.5")
    assert "there is no host no.such.host.example" in lost.stderr
    assert here(STATUS_HERE, "--connect", "nonsense").returncode == Exit.USAGE
    assert here(STATUS_HERE, "--follow").returncode == Exit.USAGE
