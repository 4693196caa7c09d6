"""What a computing node does with main nodes that are announced, true or not, and with two ways."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from computing_node import AsyncComputingNode, JobReplier
from main_node import AsyncMainNode
from protocol import JobDataType, JobSolutionDataType
from protocol.carrier.discovery import Found
from relay_node import RelayNode

from ..conftest import Heard, upper
from ..processes import free_port

SECONDS = 30
Mains = Callable[..., AsyncMainNode]
Nodes = Callable[..., AsyncComputingNode]


def announce(node: AsyncComputingNode, main_id: str, *addresses: str, name: str = "") -> None:
    """Let a node discover a main node."""
    found = Found(name or main_id, main_id, addresses)
    node._dealer.call_soon(partial(node._dealer.found, found))


def withdraw(node: AsyncComputingNode, name: str) -> None:
    node._dealer.call_soon(partial(node._dealer.lost, name))


def dead() -> str:
    return f"tcp://127.0.0.1:{free_port()}"


@pytest.fixture
def node() -> Iterator[AsyncComputingNode]:
    """Make a node that serves whom it is told of, and nobody else."""
    made = AsyncComputingNode("n", callback=upper, address=[])
    made.run()
    yield made
    made.stop()


def test_no_announcement_ends_a_node(
    node: AsyncComputingNode, main_node: Mains, heard: Heard
) -> None:
    main = main_node()
    announce(node, "nowhere")
    announce(node, "strange", "not an address")
    heard.event("main.ignored", id="strange")
    announce(node, main.get_id(), main.address)
    assert main.submit(JobDataType("x")).result(SECONDS).to_string() == "X"


def test_a_flood_of_announcements_does_not_keep_the_right_main_node_out(
    node: AsyncComputingNode, main_node: Mains
) -> None:
    main = main_node()
    nobody = dead()
    for n in range(400):
        announce(node, f"nobody{n}", nobody)
    announce(node, main.get_id(), main.address)
    assert main.submit(JobDataType("x")).result(SECONDS).to_string() == "X"


def test_another_main_node_at_one_of_the_addresses_is_not_disturbed(
    node: AsyncComputingNode, main_node: Mains, heard: Heard
) -> None:
    """Found in review: every Docker host has 172.17.0.1; greeted there, it lost the node's work."""
    wanted, other = main_node("wanted"), main_node("other")
    announce(node, other.get_id(), other.address)
    other.wait_for_nodes(1, SECONDS)
    # The same place by another name, so that nothing but an answer tells who is there.
    alias = other.address.replace("127.0.0.1", "localhost")
    announce(node, wanted.get_id(), alias, wanted.address)
    assert wanted.submit(JobDataType("x")).result(SECONDS).to_string() == "X"
    assert other.submit(JobDataType("y")).result(SECONDS).to_string() == "Y"
    assert len(heard.events("node.joined")) == 2  # one each


def test_a_main_node_that_is_served_already_is_not_greeted_again(
    node: AsyncComputingNode, main_node: Mains, heard: Heard
) -> None:
    main = main_node()
    announce(node, "", main.address, name="relay")  # somebody who does not say who it is
    main.wait_for_nodes(1, SECONDS)
    assert main.submit(JobDataType("x")).result(SECONDS).to_string() == "X"
    announce(node, main.get_id(), main.address)
    heard.event("main.found", id=main.get_id())
    assert main.submit(JobDataType("y")).result(SECONDS).to_string() == "Y"
    assert len(heard.events("node.joined")) == 1


class Slow(JobReplier):
    """Solves a job when it is told to, and counts how often it began."""

    def __init__(self) -> None:
        self.began, self.release, self.times = threading.Event(), threading.Event(), 0

    def process_job(self, job: JobDataType, task_id: int, client_id: str) -> JobSolutionDataType:
        self.times += 1
        self.began.set()
        assert self.release.wait(SECONDS)
        return upper(job, task_id, client_id)


def test_of_two_ways_to_a_main_node_the_other_is_taken_when_one_ends(
    main_node: Mains, heard: Heard
) -> None:
    """Found in review: the first was given up for ever. What runs meanwhile goes on."""
    main = main_node()
    slow = Slow()
    relay = RelayNode(bind="tcp://127.0.0.1:0", connect=main.address)
    node = AsyncComputingNode("n", listener=slow, address=main.address)
    with node:
        main.wait_for_nodes(1, SECONDS)
        announce(node, "", relay.addresses[0], name="relay")
        heard.event("main.twice")
        future = main.submit(JobDataType("x"))
        assert slow.began.wait(SECONDS)
        relay.stop()
        withdraw(node, "relay")
        heard.event("main.other_way")
        slow.release.set()
        assert future.result(SECONDS).to_string() == "X"
        assert slow.times == 1
        heard.event("main.gone")
        deadline = time.monotonic() + SECONDS
        while len(main.view().nodes) != 1:
            assert time.monotonic() < deadline
        assert main.submit(JobDataType("y")).result(SECONDS).to_string() == "Y"
