"""Roles of keys: who may work, watch, and stop a run from outside; and who can't, and tries."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import zmq

from computing_node import AsyncComputingNode, Refused
from loaders import SourceOptions
from main_node import AsyncMainNode, ConfigError, JobFuture, Order, StatusNode
from main_node.options import ListenOptions
from main_node.run.opening import Plan, open_run
from main_node.run.spec import RunSpec
from main_node.store.directory import RunDirectory
from main_node.store.results import Result
from protocol import JobDataType, JobSolutionDataType, KeysError
from protocol.carrier import keys
from protocol.carrier.control import control
from protocol.carrier.keys import MainKeys, NodeKeys
from protocol.carrier.sockets import make_pair
from protocol.errors import ControlRefused, NoAnswer, NodeError
from protocol.wire.codec import MAGIC, VERSION, decode, encode
from protocol.wire.key import ALL_ROLES, CONTROL, DEFAULT_ROLES, NO_ROLES, WATCH, WORK
from protocol.wire.messages import (
    REFUSE_KEY,
    REFUSE_UNKNOWN,
    Control,
    Controlled,
    Hello,
    Message,
    Refuse,
    Status,
    Watch,
)
from relay_node import RelayNode

from .alone import Threads
from .brought.linear import GATE
from .conftest import ANY_PORT, Heard, make_idx_folder, upper
from .processes import MAIN, SECONDS, Process, Start, free_port, here, run

KEYS_HERE = "main_node.commands.keys:main"
RUNS_HERE = "main_node.commands.runs:main"
RUNS = (MAIN[0], "-c", "import mnist_merge; mnist_merge.runs()")
STATUS_HERE = "status_node.command:main"
Nodes = Callable[..., AsyncComputingNode]
Mains = Callable[..., AsyncMainNode]
ROLES = {
    "worker": frozenset([WORK]), "watcher": frozenset([WATCH]), "boss": frozenset([CONTROL]),
    "usual": DEFAULT_ROLES, "everything": ALL_ROLES,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a main node's keys, with a node for each of some roles."""
    keys.create(tmp_path / "keys", [], make_pair)
    for name, roles in ROLES.items():
        keys.add(tmp_path / "keys", name, make_pair, roles)
    return tmp_path / "keys"


def of(folder: Path, name: str) -> NodeKeys:
    return keys.node_keys(folder / "nodes" / name)


class Raw:
    """A connection that says whatever it likes, with a key or without."""

    def __init__(self, address: str, own: NodeKeys | None) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.linger = 0
        if own is not None:
            self._socket.curve_publickey, self._socket.curve_secretkey = own.public, own.secret
            self._socket.curve_serverkey = own.main
        self._socket.connect(address)
        self._heard: deque[Message] = deque()

    def say(self, *messages: Message) -> None:
        self._socket.send_multipart(encode(messages))

    def hear(self, *kinds: type[Any]) -> Any:
        """Wait for a message of one of these kinds."""
        while True:
            while self._heard:
                if isinstance(message := self._heard.popleft(), kinds):
                    return message
            assert self._socket.poll(SECONDS * 1000), f"no {kinds}"
            self._heard += decode(self._socket.recv_multipart())

    def hears_nothing(self) -> bool:
        return not self._socket.poll(300)  # nothing tells that nothing happens

    def close(self) -> None:
        self._socket.close()
        self._context.term()


@pytest.fixture
def raw() -> Iterator[Callable[..., Raw]]:
    made: list[Raw] = []

    def make(address: str, own: NodeKeys | None = None) -> Raw:
        made.append(Raw(address, own))
        return made[-1]

    yield make
    for each in made:
        each.close()


Raws = Callable[..., Raw]
STOP = Control("a" * 32, 0, "", "stop", "because")
WATCHES = Watch("00000000", "w", 0)


def hello(node: str) -> Hello:
    return Hello(node, node, 0, ("",), {}, 1, 1, "", 1, 0)


@dataclass
class Target:
    """A main node in the middle of something.

    Args:
        node: it.
        folder: its keys.
        orders: that it has performed.
        future: of a job that a node works on.
        go_on: lets that node finish.
    """

    node: AsyncMainNode
    folder: Path
    orders: list[Order]
    future: JobFuture = field(repr=False)
    go_on: threading.Event = field(repr=False)

    @property
    def address(self) -> str:
        return self.node.address

    def keys(self, name: str) -> NodeKeys:
        return of(self.folder, name)

    def goes_on(self) -> None:
        """Check that nobody has stopped it: what was ordered before has been performed by now."""
        assert control(self.address, "ping", keys=self.keys("everything")) == "pong"
        assert [order.verb for order in self.orders] == ["ping"]
        assert not self.future.done()
        self.go_on.set()
        assert self.future.result(SECONDS).to_string() == "MINE"
        assert self.node.submit(JobDataType("next")).result(SECONDS).to_string() == "NEXT"


@pytest.fixture
def target(folder: Path, computing_node: Nodes) -> Iterator[Target]:
    orders: list[Order] = []
    began, go_on = threading.Event(), threading.Event()

    def ping(order: Order) -> str:
        orders.append(order)
        return "pong"

    def slow(job: JobDataType, task_id: int, client_id: str) -> JobSolutionDataType:
        began.set()
        go_on.wait(SECONDS)
        return upper(job, task_id, client_id)

    with AsyncMainNode(
        "main", address=ANY_PORT, keys=folder, controls={"stop": orders.append, "ping": ping}
    ) as node:
        computing_node(node, name="honest", callback=slow, keys=folder / "nodes" / "worker")
        future = node.submit(JobDataType("mine"))
        assert began.wait(SECONDS)
        yield Target(node, folder, orders, future, go_on)
        go_on.set()


# Who can't stop a run.


def a_work_key(target: Target, raw: Raws) -> None:
    words = (
        r"the key of worker lacks the role control; .*"
        r"`mnist-keys roles DIR worker work,control` gives it"
    )
    with pytest.raises(ControlRefused, match=words):
        control(target.address, "stop", keys=target.keys("worker"))


def a_watch_key(target: Target, raw: Raws) -> None:
    with pytest.raises(ControlRefused, match="the key of watcher lacks the role control"):
        control(target.address, "stop", keys=target.keys("watcher"))


def a_key_of_an_old_list(target: Target, raw: Raws) -> None:
    with pytest.raises(ControlRefused, match="the key of usual lacks .* work,watch,control"):
        control(target.address, "stop", keys=target.keys("usual"))


def a_key_that_is_not_in_the_list(target: Target, raw: Raws) -> None:
    public, secret = make_pair()
    with pytest.raises(NoAnswer, match="does not let this node's key in"):
        control(target.address, "stop", keys=NodeKeys(public, secret, target.keys("boss").main))


def a_key_of_a_node_that_the_main_node_started(target: Target, raw: Raws) -> None:
    with pytest.raises(ControlRefused, match="started itself lacks the role control"):
        control(target.address, "stop", keys=target.node.invite())


def a_watcher_that_was_welcomed(target: Target, raw: Raws) -> None:
    watcher = raw(target.address, target.keys("watcher"))
    watcher.say(WATCHES)
    assert watcher.hear(Status).main == target.node.get_id()
    watcher.say(STOP)
    answer = watcher.hear(Controlled)
    assert (answer.request, answer.ok) == (STOP.request, False)
    assert "lacks the role control" in answer.words
    target.node.tell(news=1)
    while "news" not in watcher.hear(Status).about:  # it is told as before
        watcher.say(Watch("00000000", "w", 0, 100))


def a_worker_that_says_it_is_the_boss(target: Target, raw: Raws) -> None:
    """With his id and name, and with the number of an order of his."""
    boss = raw(target.address, target.keys("everything"))
    boss.say(hello("everything"), Control("of the boss", 0, "", "nothing", ""))
    assert "can't be told to 'nothing'" in boss.hear(Controlled).words
    eve = raw(target.address, target.keys("worker"))
    eve.say(hello("everything"), STOP, Control("of the boss", 0, "", "stop", ""))
    for _ in range(2):
        answer = eve.hear(Controlled)
        assert not answer.ok
        assert "the key of worker lacks the role control" in answer.words


def a_forged_message_without_encryption(target: Target, raw: Raws) -> None:
    plain = raw(target.address)
    plain.say(STOP)
    assert plain.hears_nothing()


def a_connection_whose_role_was_taken_away(target: Target, raw: Raws) -> None:
    boss = raw(target.address, target.keys("boss"))
    boss.say(Control("before", 0, "", "nothing", ""))
    assert "can't be told" in boss.hear(Controlled).words
    keys.set_roles(target.folder, "boss", frozenset([WATCH]))
    boss.say(STOP)
    answer = boss.hear(Controlled)
    assert not answer.ok
    assert "the key of boss lacks the role control" in answer.words


def a_connection_whose_key_was_revoked(target: Target, raw: Raws) -> None:
    boss = raw(target.address, target.keys("boss"))
    boss.say(Control("before", 0, "", "nothing", ""))
    boss.hear(Controlled)
    keys.revoke(target.folder, "boss")
    boss.say(STOP)
    answer = boss.hear(Controlled, Refuse)
    assert (isinstance(answer, Refuse) and answer.code == REFUSE_KEY) or not answer.ok


def a_connection_whose_role_can_not_be_read_any_more(target: Target, raw: Raws) -> None:
    boss = raw(target.address, target.keys("boss"))
    boss.say(Control("before", 0, "", "nothing", ""))
    boss.hear(Controlled)
    allowed = target.folder / "allowed" / "boss.pub"
    good = allowed.read_bytes()
    allowed.write_bytes(good.replace(b"control", b"contrl"))
    boss.say(STOP)
    assert not boss.hear(Controlled).ok
    allowed.write_bytes(good)


ATTACKS = [
    a_work_key, a_watch_key, a_key_of_an_old_list, a_key_that_is_not_in_the_list,
    a_key_of_a_node_that_the_main_node_started, a_watcher_that_was_welcomed,
    a_worker_that_says_it_is_the_boss, a_forged_message_without_encryption,
    a_connection_whose_role_was_taken_away, a_connection_whose_key_was_revoked,
    a_connection_whose_role_can_not_be_read_any_more,
]  # fmt: skip
Attack = Callable[[Target, Raws], None]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_who_may_not_control_can_not_stop_a_run(target: Target, raw: Raws, attack: Attack) -> None:
    attack(target, raw)
    target.goes_on()


def test_the_node_whose_key_was_refused_goes_on(target: Target, heard: Heard) -> None:
    """It works with the key that somebody else tried to stop the run with, a hundred times."""
    for _ in range(100):
        with pytest.raises(ControlRefused, match="the key of worker"):
            control(target.address, "stop", keys=target.keys("worker"))
    heard.event("role.missing", cause=lambda cause: "the key of worker" in cause)
    target.goes_on()
    assert [node.name.partition(".")[0] for node in target.node.view().nodes] == ["honest"]


# Who can.


@pytest.mark.parametrize("name", ["boss", "everything"])
def test_a_key_with_the_role_has_it_done_once(target: Target, name: str) -> None:
    words = control(target.address, "stop", "enough", keys=target.keys(name), domain=0)
    assert words == "done"
    assert target.orders == [Order("stop", name, "enough")]


def test_an_order_is_performed_once_and_answered_to_whoever_repeats_it(
    target: Target, raw: Raws
) -> None:
    first, second = (raw(target.address, target.keys("boss")) for _ in range(2))
    first.say(STOP, STOP)
    second.say(STOP)
    for connection in (first, second):
        assert connection.hear(Controlled) == Controlled(STOP.request, True, "done")
    second.say(STOP)
    assert second.hear(Controlled) == Controlled(STOP.request, True, "done")
    other = raw(target.address, target.keys("everything"))
    other.say(STOP)  # another's order, though its number is the same
    assert other.hear(Controlled).ok
    assert [order.by for order in target.orders] == ["boss", "everything"]


def test_a_role_counts_as_soon_as_it_is_given(target: Target, raw: Raws) -> None:
    boss = raw(target.address, target.keys("watcher"))
    boss.say(STOP)
    assert not boss.hear(Controlled).ok
    keys.set_roles(target.folder, "watcher", frozenset([WATCH, CONTROL]))
    boss.say(STOP)
    assert boss.hear(Controlled) == Controlled(STOP.request, True, "done")


def test_without_keys_this_machine_may_control_and_nobody_else(
    main_node: Mains, relay: Any
) -> None:
    orders: list[Order] = []
    main = main_node(controls={"stop": orders.append})
    assert control(main.address, "stop") == "done"
    assert orders == [Order("stop", "somebody on this machine")]
    with AsyncMainNode(
        "open", address="tcp://0.0.0.0:0", insecure=True, controls={"stop": orders.append}
    ) as main:
        here = main.address.replace("0.0.0.0", "127.0.0.1")
        with pytest.raises(ControlRefused, match="stopping from outside needs keys"):
            control(here, "stop")  # who knows who is behind an address of this machine
    assert len(orders) == 1


def test_what_a_handler_says_or_raises_is_answered(main_node: Mains) -> None:
    def odd(order: Order) -> object:
        raise SystemExit("no\x1b[31m way")

    main = main_node(controls={"tell": lambda order: f"told {order.reason}", "odd": odd})
    assert control(main.address, "tell", "this\nand that") == "told this and that"
    with pytest.raises(ControlRefused, match=r"it raised SystemExit\('no"):
        control(main.address, "odd")
    with pytest.raises(ControlRefused, match="can't be told to 'stop'; it can be told: odd, tell"):
        control(main.address, "stop")
    with pytest.raises(ControlRefused, match="serves domain 0, not 3"):
        control(main.address, "tell", domain=3)
    with pytest.raises(ControlRefused, match=r"this is main node main\..*, and other is meant"):
        control(main.address, "tell", main="other")
    with pytest.raises(ControlRefused, match="it can be told: nothing"):
        control(main_node().address, "tell")


def test_a_handler_may_close_its_node_and_that_is_answered(main_node: Mains) -> None:
    main: list[AsyncMainNode] = []
    main.append(main_node(controls={"stop": lambda order: main[0].close()}))
    assert control(main[0].address, "stop") in ("done", "the main node has ended")


def test_an_order_that_does_not_end_holds_up_no_end(main_node: Mains) -> None:
    began, go_on = threading.Event(), threading.Event()

    def slow(order: Order) -> None:
        began.set()
        go_on.wait(SECONDS)

    main = main_node(controls={"wait": slow})
    refused: list[str] = []

    def ask() -> None:
        with pytest.raises(ControlRefused) as raised:
            control(main.address, "wait")
        refused.append(str(raised.value))

    asking = threading.Thread(target=ask)
    asking.start()
    assert began.wait(SECONDS)
    closing = threading.Thread(target=main.close)
    closing.start()
    asking.join(SECONDS)
    assert refused == ["the main node has ended before that was done"]
    go_on.set()
    closing.join(SECONDS)


@pytest.mark.parametrize("controls", [{"": print}, {"stop": 3}, {"a\x1b": print}])
def test_controls_that_can_not_be_are_refused(main_node: Mains, controls: Any) -> None:
    with pytest.raises(ConfigError, match="controls: "):
        main_node(controls=controls)


def test_nobody_there_is_told_in_words(folder: Path) -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    with pytest.raises(NoAnswer, match=f"no answer from {address}: nothing listens there"):
        control(address, "stop", timeout=0.3)
    with AsyncMainNode("main", address=ANY_PORT, keys=folder) as main:
        with pytest.raises(NoAnswer, match="wants? keys"):
            control(main.address, "stop")
        wrong = NodeKeys(*make_pair(), main=make_pair()[0])
        with pytest.raises(NoAnswer, match=r"main\.pub here is another main node's"):
            control(main.address, "stop", keys=wrong)


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([MAGIC[:3] + b"\x07" + bytes(8), b"\x90"], f"protocol version 7 is not {VERSION}"),
        (encode([Refuse(REFUSE_UNKNOWN, "who?")]), "a release that can't be told to do anything"),
        (encode([Refuse("full", "not now")]), "not now"),
    ],
)
def test_a_main_node_of_another_release_is_told_in_words(frames: list[bytes], words: str) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    router = context.socket(zmq.ROUTER)
    port = router.bind_to_random_port("tcp://127.0.0.1")

    def answer() -> None:
        router.send_multipart([router.recv_multipart()[0], *frames])

    answering = threading.Thread(target=answer)
    answering.start()
    with pytest.raises(ControlRefused, match=words):
        control(f"tcp://127.0.0.1:{port}", "stop")
    answering.join(SECONDS)
    router.close(0)
    context.term()


def test_an_order_reaches_through_a_connection_that_breaks(main_node: Mains, relay: Any) -> None:
    """It is said again, and done once."""
    orders: list[Order] = []
    main = main_node(controls={"stop": orders.append})
    between = relay(main.address)
    between.cut_after["to_node"] = 200  # the answer is lost
    assert control(between.address, "stop") == "done"
    assert len(orders) == 1


# Work and watching.


def test_who_may_only_watch_does_not_work(target: Target, computing_node: Nodes) -> None:
    solved: list[str] = []

    def never(job: JobDataType, task_id: int, client_id: str) -> str:
        solved.append("by a watcher")
        return "a lie"

    node = computing_node(
        target.node, name="w", callback=never, keys=target.folder / "nodes" / "watcher"
    )
    with pytest.raises(Refused, match="the key of watcher lacks the role work; .* work,watch"):
        node.wait(SECONDS)
    target.goes_on()
    assert not solved
    with StatusNode("w", address=target.address, keys=target.folder / "nodes" / "watcher") as other:
        other.process_status_async()
        assert other.wait(SECONDS)


def test_who_may_only_work_does_not_watch(target: Target) -> None:
    with StatusNode("w", address=target.address, keys=target.folder / "nodes" / "worker") as node:
        node.process_status_async()
        with pytest.raises(NodeError, match="the key of worker lacks the role watch"):
            node.wait(SECONDS)
    done = here(
        STATUS_HERE, "--connect", target.address, "--keys", str(target.folder / "nodes" / "worker"),
        "--once",
    )  # fmt: skip
    assert done.returncode == 6
    assert "the key of worker lacks the role watch" in done.stderr
    target.goes_on()


def test_who_watches_with_the_whole_folder_takes_keys_that_may(target: Target) -> None:
    """And not the first: the boss may not watch."""
    assert sorted(ROLES)[0] == "boss"
    with StatusNode("status", address=target.address, keys=target.folder) as node:
        node.process_status_async()
        assert node.wait(SECONDS)


def test_who_may_only_work_may_ask_which_main_node_it_is(target: Target, raw: Raws) -> None:
    """A node that finds several addresses must know whose they are."""
    worker = raw(target.address, target.keys("worker"))
    worker.say(Watch("", "", 0))
    answer = worker.hear(Status)
    assert (answer.main, answer.nodes, answer.about) == (target.node.get_id(), (), {})


def test_a_session_that_never_said_hello_needs_the_role_too(target: Target, raw: Raws) -> None:
    from protocol.wire.messages import REFUSE_ROLE, Ready

    watcher = raw(target.address, target.keys("watcher"))
    watcher.say(Ready(5))
    assert watcher.hear(Refuse).code == REFUSE_ROLE


def test_a_role_that_is_taken_away_ends_what_it_was_for(
    target: Target, computing_node: Nodes, raw: Raws
) -> None:
    """Its job goes to another node; who watches with that key goes on."""
    watcher = raw(target.address, target.keys("usual"))
    watcher.say(WATCHES)
    watcher.hear(Status)
    began, never = threading.Event(), threading.Event()

    def slow(job: JobDataType, task_id: int, client_id: str) -> str:
        began.set()
        never.wait(SECONDS)
        return "too late"

    node = computing_node(
        target.node, name="usual", callback=slow, keys=target.folder / "nodes" / "usual"
    )
    future = target.node.submit(JobDataType("other"))
    assert began.wait(SECONDS)
    keys.set_roles(target.folder, "usual", frozenset([WATCH]))
    with pytest.raises(Refused, match="the key of usual lacks the role work"):
        node.wait(SECONDS)
    never.set()
    target.goes_on()
    assert future.result(SECONDS).to_string() == "OTHER"
    watcher.say(Watch("00000000", "w", 0, 100))
    watcher.hear(Status)
    keys.set_roles(target.folder, "usual", frozenset([WORK]))
    assert "the key of usual lacks the role watch" in watcher.hear(Refuse).reason


# The list.


def test_an_old_list_lets_in_to_work_and_watch(folder: Path) -> None:
    public = of(folder, "boss").public
    for content in (public, public + b"\n", b"  " + public + b"\r\n\r\n"):
        (folder / "allowed" / "boss.pub").write_bytes(content)
        assert MainKeys(folder).roles(public) == DEFAULT_ROLES
    written = (folder / "allowed" / "usual.pub").read_bytes()
    assert written == of(folder, "usual").public + b"\n"  # as every release reads it


@pytest.mark.parametrize(
    ("line", "roles"),
    [
        ("roles: work, watch, control", ALL_ROLES), ("roles:control", {CONTROL}),
        ("roles : watch ,work", DEFAULT_ROLES), ("roles: work, work\r\n\r\n", {WORK}),
    ],
)  # fmt: skip
def test_a_line_says_what_a_key_is_let_in_for(folder: Path, line: str, roles: set[str]) -> None:
    public = of(folder, "boss").public
    (folder / "allowed" / "boss.pub").write_bytes(public + b"\n" + line.encode())
    lists = MainKeys(folder)
    assert lists.roles(public) == roles
    assert lists.admits(public)
    assert lists.complaints() == []


GARBLED = {
    "roles: work, contrl": "there is no role 'contrl'; those that there are: work, watch, control",
    "roles:": "a role is missing",
    "roles: work,,watch": "a role is missing",
    "roles: Control": "there is no role 'Control'",
    "control": "what it is let in for is wanted, like 'roles: work, watch', not 'control'",
    "role: control": "not 'role'",
    "roles: work\nroles: control": "not more lines than that",
    "roles: \xff\x1b": "there is no role",
}


@pytest.mark.parametrize("line", GARBLED)
def test_a_garbled_line_is_named_and_lets_nobody_new_in(folder: Path, line: str) -> None:
    lists, boss = MainKeys(folder), of(folder, "boss").public
    (folder / "allowed" / "boss.pub").write_bytes(boss + b"\n" + line.encode("latin-1"))
    lists.look()
    (told,) = lists.complaints()
    assert "boss.pub, line 2" in told
    assert GARBLED[line] in told
    assert told.isprintable()
    assert not MainKeys(folder).roles(boss) & {CONTROL}
    assert not lists.admits(of(folder, "usual").public)
    done = here(KEYS_HERE, "list", str(folder))
    assert done.returncode == 0
    assert GARBLED[line] in done.stderr


def test_while_a_line_is_garbled_who_is_here_goes_on_and_nobody_comes(
    target: Target, computing_node: Nodes, heard: Heard
) -> None:
    allowed = target.folder / "allowed" / "boss.pub"
    good, line = allowed.read_bytes(), "roles: \xff\x1b"
    allowed.write_bytes(target.keys("boss").public + b"\n" + line.encode("latin-1"))
    told = heard.event("keys.damaged", cause=lambda cause: "boss.pub, line 2" in cause)
    assert GARBLED[line] in told["cause"]
    late = computing_node(target.node, name="late", keys=target.folder / "nodes" / "usual")
    why = "what a key there is let in for can't be read"
    heard.event("connection.refused", cause=lambda cause: why in cause)
    target.go_on.set()  # who is here goes on
    assert target.future.result(SECONDS).to_string() == "MINE"
    allowed.write_bytes(good)
    target.node.wait_for_nodes(2, SECONDS)
    assert late.get_id() in {node.name for node in target.node.view().nodes}
    assert target.orders == []
    assert all(line.isprintable() for line in heard.lines)


def test_a_garbled_line_keeps_no_revocation_from_counting(folder: Path) -> None:
    lists = MainKeys(folder)
    boss, usual = (of(folder, name).public for name in ("boss", "usual"))
    (folder / "allowed" / "worker.pub").write_bytes(b"roles: what")
    (folder / "allowed" / "watcher.pub").write_bytes(of(folder, "watcher").public + b"\nroles: x")
    keys.revoke(folder, "usual")
    (folder / "allowed" / "boss.pub").rename(folder / "revoked" / "boss.pub")  # by hand, both lines
    lists.look()
    for public in (boss, usual):
        assert lists.who(public) is None
        assert lists.roles(public) == NO_ROLES
    assert not lists.admits(of(folder, "everything").public)
    assert lists.roles(of(folder, "everything").public) == ALL_ROLES  # who is here goes on


def test_a_key_that_stands_there_twice_has_the_roles_that_both_say(folder: Path) -> None:
    public = of(folder, "everything").public
    (folder / "allowed" / "a-copy.pub").write_bytes(public)
    assert MainKeys(folder).roles(public) == DEFAULT_ROLES
    with pytest.raises(KeysError, match="its key stands there as a-copy, too"):
        keys.set_roles(folder, "everything", ALL_ROLES)
    keys.set_roles(folder, "everything", frozenset([WORK]))
    assert MainKeys(folder).roles(public) == {WORK}


def test_the_commands_make_and_change_roles(folder: Path) -> None:
    done = here(KEYS_HERE, "add", str(folder), "chief", "--role", "control", "--role", "watch")
    assert done.returncode == 0, done.stderr
    assert "mnist-runs stop --keys chief" in done.stdout
    assert here(KEYS_HERE, "roles", str(folder), "usual", "control,work").stdout == (
        "usual: work, control\n"
    )
    listed = here(KEYS_HERE, "list", str(folder)).stdout.splitlines()
    assert listed == [
        "boss        control", "chief       watch, control", "everything  work, watch, control",
        "usual       work, control", "watcher     watch", "worker      work",
    ]  # fmt: skip
    assert MainKeys(folder).roles(of(folder, "chief").public) == {WATCH, CONTROL}
    assert not list((folder / "allowed").glob(".*"))  # nothing is left half written


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["add", "{folder}", "x", "--role", "king"], "'king' is not one of"),
        (["roles", "{folder}", "usual", "work,king"], "there is no role 'king'"),
        (["roles", "{folder}", "usual", ""], "a role is missing"),
        (["roles", "{folder}", "nobody", "work"], "nobody is not let in; those are: boss"),
        (["roles", "{folder}", "../main", "work"], "is not let in"),
        (["roles", "/nowhere", "usual", "work"], "no main node's keys in there"),
    ],
)
def test_mistakes_with_roles_are_told(folder: Path, arguments: list[str], words: str) -> None:
    before = keys.roles_by_name(folder)
    done = here(KEYS_HERE, *[argument.format(folder=folder) for argument in arguments])
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert keys.roles_by_name(folder) == before


# A training run.

SHAPE = ("--jobs", "4", "--rounds", "2", "--learner", "linear", "--json")


def plan(data: Path, runs: Path = Path("runs")) -> Plan:
    """Return what such a run is told, for one in this process."""
    return Plan(
        spec=RunSpec.of({"jobs": 4, "rounds": 2, "learner": "linear"}), engine=Threads(1),
        source=SourceOptions(data=str(data)), listen=ListenOptions(bind=ANY_PORT),
        runs=runs,
    )  # fmt: skip


@dataclass
class Training:
    """A training run of `mnist-main`, and what it comes to when nobody disturbs it."""

    start: Start
    data: Path
    runs: Path
    gate: Path
    calm: str

    def main(self, *options: str, bind: str = ANY_PORT) -> Process:
        """Start it; it does not end before there is `open` in the gate."""
        self.gate.mkdir()
        return self.start(
            *MAIN, "--bind", bind, "--data", str(self.data), "--run-dir", str(self.runs), *SHAPE,
            "--local-nodes", "1", "--log-level", "debug", *options,
            env={**os.environ, GATE: str(self.gate)},
        )  # fmt: skip

    @property
    def run(self) -> Path:
        (path,) = self.runs.iterdir()
        return path

    def was_stopped(self, main: Process, by: str, by_command: bool = False) -> None:
        """Check that a run was stopped as by Ctrl-C, that it is told why, and that it goes on."""
        nodes = psutil.Process(main.popen.pid).children(recursive=True)
        assert main.end()[0] == 130
        why = f"interrupted: stopped from outside by {by}: too hot here"
        told = main.event("command.failed", command="mnist-main", code=130)
        assert told["says"] == f"{why}; go on with: mnist-main --resume {self.run}"
        assert not any("traceback" in entry for entry in main.events())
        _, left = psutil.wait_procs(nodes, SECONDS)
        assert not left, "a local node is left"
        listed = here(RUNS_HERE, "list", "--run-dir", str(self.runs), "--json")
        (summary,) = json.loads(listed.stdout)
        assert (summary["state"], summary["ending"]) == ("interrupted", why)
        shown = here(RUNS_HERE, "show", str(self.run)).stdout
        assert f"interrupted (stopped from outside by {by}: too hot here)" in shown
        before = set((self.run / "solutions").iterdir())
        assert before
        if by_command:
            again = self.start(*MAIN, "--resume", str(self.run), "--json", "--local-nodes", "1")
            sha = again.result()["model_sha256"]
        else:
            sha = self.goes_on().model_sha256
        assert sha == self.calm
        assert before <= set((self.run / "solutions").iterdir())

    def goes_on(self) -> Result:
        """Go on with it in this process."""
        return open_run(plan(self.data), directory=RunDirectory(self.run, new=False)).see_through()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_idx_folder(tmp_path_factory.mktemp("control") / "idx", 160, 40)


@pytest.fixture(scope="module")
def calm(small: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return open_run(plan(small, tmp_path_factory.mktemp("calm"))).see_through().model_sha256


@pytest.fixture
def training(start: Start, small: Path, tmp_path: Path, calm: str) -> Training:
    return Training(start, small, tmp_path / "runs", tmp_path / "gate", calm)


def of_round_1(job: str) -> bool:
    """Whether this is the name of a job that is learned from in the first round."""
    return job.startswith("round-001-job-")


def test_a_run_without_keys_is_stopped_from_this_machine(training: Training) -> None:
    main = training.main()
    main.event("job.accepted", job=of_round_1)
    done = run(*RUNS, "stop", "--run-dir", str(training.runs), "--reason", "too hot here")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{training.run.name}: it stops, and can be resumed\n"
    training.was_stopped(main, "somebody on this machine")


def test_a_run_with_keys_is_stopped_with_a_control_key(training: Training, folder: Path) -> None:
    """On the main node's host; the run directory says where it is, and its folder has the key."""
    keys.revoke(folder, "everything")
    main = training.main("--keys", str(folder), bind="tcp://0.0.0.0:0")
    main.event("job.accepted", job=of_round_1)
    done = here(RUNS_HERE, "stop", str(training.run), "--reason", "too hot here")
    assert done.returncode == 0, done.stderr
    training.was_stopped(main, "boss", by_command=True)


def test_a_run_is_stopped_through_a_relay(training: Training, folder: Path) -> None:
    main = training.main("--keys", str(folder))
    address = main.event("run.opened")["address"]
    with RelayNode(bind=ANY_PORT, connect=address) as relay:
        (way,) = relay.addresses
        main.event("job.accepted", job=of_round_1)
        done = here(
            RUNS_HERE, "stop", "--connect", way, "--keys", str(folder / "nodes" / "boss"),
            "--reason", "too hot here",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout == "the run: it stops, and can be resumed\n"
    training.was_stopped(main, "boss")


def test_a_run_that_everybody_tries_to_stop_comes_to_the_same_model(
    training: Training, folder: Path
) -> None:
    main = training.main("--keys", str(folder))
    address = main.event("run.opened")["address"]
    main.event("job.offered", job=of_round_1)
    for name, code, words in [
        ("worker", 6, "the key of worker lacks the role control"),
        ("watcher", 6, "the key of watcher lacks the role control"),
        ("usual", 6, "`mnist-keys roles DIR usual work,watch,control` gives it"),
        ("", 5, "--keys"),
        ("stranger", 5, "does not let this node's key in"),
    ]:
        if name == "stranger":
            shutil.copytree(folder / "nodes" / "usual", folder / "nodes" / "stranger")
            public, secret = make_pair()
            (folder / "nodes" / name / "node.pub").write_bytes(public)
            (folder / "nodes" / name / "node.key").write_bytes(secret)
        own = ("--keys", str(folder / "nodes" / name)) if name else ()
        done = here(RUNS_HERE, "stop", "--connect", address, *own)
        assert done.returncode == code
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    (training.gate / "open").touch()
    assert main.result()["model_sha256"] == training.calm


# The command.


def test_mistakes_in_stopping_are_told(tmp_path: Path) -> None:
    runs = tmp_path / "runs"

    def stop(*arguments: str) -> tuple[int, str]:
        done = here(RUNS_HERE, "stop", "--run-dir", str(runs), *arguments)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stderr

    assert stop() == (2, f"mnist-runs: no run in {runs} is under way; name its directory, or"
                      " --connect\n")  # fmt: skip
    code, words = stop("nothing")
    assert code == 2
    assert "nothing: no run, neither here nor in" in words
    first, second = RunDirectory.make(runs), RunDirectory.make(runs)
    names = f"{first.run_id}, {second.run_id}"
    assert stop() == (2, f"mnist-runs: 2 runs are under way, name one: {names}\n")
    first.close()
    code, words = stop(first.run_id)
    assert (code, f"run {first.run_id} is not under way" in words) == (2, True)
    code, words = stop()
    assert code == 2
    assert "run.db" in words  # which is not there yet
    address = f"tcp://127.0.0.1:{free_port()}"
    code, words = stop("--connect", address, "--timeout", "0.3")
    assert code == 5
    assert f"no answer from {address}: nothing listens there" in words
    code, words = stop("--connect", "nonsense")
    assert code == 2
    assert "is not an address" in words
    second.close()


@pytest.mark.parametrize("other", ["host", "main", "gone"])
def test_a_run_is_not_mistaken_for_another(tmp_path: Path, main_node: Mains, other: str) -> None:
    """Whoever listens now where it did is another main node, or it is on another host."""
    from main_node.store.database import RunDatabase

    orders: list[Order] = []
    main = main_node(controls={"stop": orders.append})
    directory = RunDirectory.make(tmp_path / "runs")
    database = RunDatabase(directory.path / "run.db")
    address = f"tcp://127.0.0.1:{free_port()}" if other == "gone" else main.address
    database.state(address=address, main="main.of-it", domain=0, keys="")
    database.close()
    if other == "host":
        (directory.path / "lock").write_text("process 7 on elsewhere")
    done = here(RUNS_HERE, "stop", str(directory.path), "--timeout", "0.5")
    code, words = {
        "host": (2, "is under way on elsewhere, and listens there only"),
        "main": (6, f"this is main node {main.get_id()}, and main.of-it is meant"),
        "gone": (5, "nothing listens there"),
    }[other]
    assert done.returncode == code
    assert words in done.stderr
    assert not orders
    directory.close()


def test_a_folder_without_a_control_key_says_how_to_make_one(folder: Path) -> None:
    for name in ("boss", "everything"):
        keys.revoke(folder, name)
    done = here(RUNS_HERE, "stop", "--connect", ANY_PORT.replace(":0", ":9"), "--keys", str(folder))
    assert done.returncode == 2
    assert f"mnist-keys add {folder} NAME --role control" in done.stderr
