"""The board and its watchers, without sockets: what is told is what is."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.machine.effects import Effect, Joined, Left, Send
from protocol.machine.views import NodeView, View
from protocol.machine.watching import (
    DEAD_SECONDS,
    GONE,
    MAX_WATCHERS,
    NEWS_SECONDS,
    PART,
    Board,
    Watching,
)
from protocol.wire.codec import decode, encode
from protocol.wire.limits import UNHEARD_STATUSES
from protocol.wire.messages import (
    REFUSE_DOMAIN,
    Bye,
    Heartbeat,
    Hello,
    NodeStatus,
    Refuse,
    Status,
    Stop,
    Watch,
)

STATES = {"unknown", "running", "stopped", "dropped"}


def hello(name: str) -> Hello:
    return Hello(name, name, 0, ("",), {}, 2, 0, "", 1, 2)


def view(*nodes: NodeView) -> View:
    return View(nodes, queued=1, running=len(nodes), done=5, failed=0, retries=0)


def node(name: str, silent: float = 0.0) -> NodeView:
    return NodeView(name, ((1, 0.5),), 0, 3, silent)


def board(**options: int) -> Board:
    return Board("main.1", options.get("domain", 0), 1.0)


def told(effects: list[Effect], peer: bytes) -> list[Status]:
    sent = [e.message for e in effects if isinstance(e, Send) and e.peer == peer]
    return [message for message in sent if isinstance(message, Status)]


def test_a_watcher_is_told_everything_first_and_then_what_changes() -> None:
    b = board()
    b.note(Joined("a", hello("a")))
    assert not b.due(0.0)  # nobody to tell
    b.receive(b"w", Watch("00000000", "w", 0), 0.0)
    assert b.due(0.0)
    (first,) = told(b.publish(view(node("a")), str, 0.0), b"w")
    assert first.number == 0
    assert [(n.id, n.state) for n in first.nodes] == [("a", "running"), ("w.00000000", "running")]
    assert not b.due(0.1)
    assert b.publish(view(node("a")), str, 0.5) == [Send(b"w", Heartbeat())]  # nothing changed
    b.note(Left("a", "killed"))
    assert b.due(0.6)  # at once
    (second,) = told(b.publish(view(), str, 0.6), b"w")
    assert (second.number, [(n.id, n.state) for n in second.nodes]) == (1, [("a", "dropped")])


@pytest.mark.parametrize(("stopped", "state"), [(True, "stopped"), (False, "dropped")])
def test_how_a_node_went_is_told_until_it_is_back(stopped: bool, state: str) -> None:
    b = board()
    b.receive(b"w", Watch("00000000", "w", 0), 0.0)
    b.note(Joined("a", hello("a")))
    b.publish(view(node("a")), str, 0.0)
    b.note(Left("a", "why", stopped, solved=3))
    (last,) = told(b.publish(view(), str, 1.0), b"w")
    gone = next(n for n in last.nodes if n.id == "a")
    assert (gone.state, gone.reason, gone.solved, gone.cores) == (state, "why", 3, 2)
    b.note(Joined("a", hello("a")))
    (back,) = told(b.publish(view(node("a")), str, 2.0), b"w")
    assert [(n.state, n.solved) for n in back.nodes] == [("running", 6)]  # over both connections


def test_a_watcher_hides_no_node_by_taking_its_name() -> None:
    b = board()
    name = "lab1.00000000"
    b.note(Joined(name, hello("lab1")))
    b.receive(b"liar", Watch("00000000", "lab1", 0), 0.0)
    b.receive(b"w", Watch("11111111", "w", 0), 0.0)
    (first,) = told(b.publish(view(node(name)), str, 0.0), b"w")
    assert [(n.kind, n.state) for n in first.nodes if n.id == name] == [("computing", "running")]
    b.leave(b"liar", "gone")
    assert not told(b.publish(view(node(name)), str, 1.0), b"w")
    b.note(Left(name, "killed", solved=2))
    (last,) = told(b.publish(view(), str, 2.0), b"w")
    assert [(n.kind, n.state, n.solved) for n in last.nodes] == [("computing", "dropped", 2)]


def test_who_only_asks_who_is_there_is_told_once_and_is_no_watcher() -> None:
    b = board()
    (effect,) = b.receive(b"w", Watch("", "", 0), 0.0)
    assert effect == Send(b"w", Status(0, 0, "main.1", (), {}, {}))
    assert not b.peers


def test_what_is_lost_on_the_way_is_told_anew() -> None:
    """A watcher that misses a message connects anew; a new beginning is taken at any time."""
    watching = Watching(Watch("00000000", "w", 0), "tcp://x:1")
    watching.greet(0.0)
    a = NodeStatus("a", "computing", "running")
    watching.receive(Status(0, 0, "m", (a,), {}, {}), 0.0)
    watching.receive(Status(2, 0, "m", (a._replace(state="dropped"),), {}, {}), 0.0)
    assert watching.tick(0.1) == ([], True)
    watching.receive(Status(0, 0, "m", (a._replace(state="stopped"),), {}, {}), 0.2)
    assert watching.overview.nodes["a"].state == "stopped"


def test_a_full_house_is_no_answer() -> None:
    watching = Watching(Watch("00000000", "w", 0), "tcp://x:1")
    watching.greet(0.0)
    watching.receive(Refuse("unknown", "say hello"), 0.0)
    assert not watching.answered
    watching.receive(Refuse("full", "256 are watching already"), 0.0)
    assert watching.refused == "256 are watching already"


def test_a_silent_node_is_unknown_and_a_silent_watcher_forgotten() -> None:
    b = board()
    b.receive(b"w", Watch("00000000", "w", 0), 0.0)
    b.note(Joined("a", hello("a")))
    (first,) = told(b.publish(view(node("a", silent=4.0)), str, 0.0), b"w")
    assert first.nodes[0].state == "unknown"
    b.receive(b"v", Watch("11111111", "v", 0), DEAD_SECONDS)
    effects = b.publish(view(), str, DEAD_SECONDS + 1)
    assert b.peers == [b"v"]
    assert {n.id: n.state for n in told(effects, b"v")[0].nodes}["w.00000000"] == "dropped"


def test_watchers_of_another_domain_and_too_many_are_refused() -> None:
    b = board(domain=2)
    (refused,) = b.receive(b"w", Watch("00000000", "w", 3), 0.0)
    assert isinstance(refused, Send)
    assert isinstance(refused.message, Refuse)
    assert refused.message.code == REFUSE_DOMAIN
    for n in range(MAX_WATCHERS + 10):
        b.receive(b"%d" % n, Watch("00000000", "w", 2), 0.0)
    assert len(b.peers) == MAX_WATCHERS


def test_those_that_went_are_remembered_but_not_for_ever() -> None:
    b = board()
    b.receive(b"w", Watch("00000000", "w", 0), 0.0)
    watching = Watching(Watch("00000000", "w", 0), "tcp://x:1")
    watching.greet(0.0)
    for n in range(3 * GONE):
        b.note(Joined(f"n{n}", hello(f"n{n}")))
        b.note(Left(f"n{n}", "gone"))
        b.receive(b"w", watching.sign(n / 10), n / 10)
        for message in told(b.publish(view(), str, n / 10), b"w"):
            watching.receive(message, n / 10)
    assert len(watching.overview.nodes) <= GONE + 1
    b.receive(b"v", Watch("11111111", "v", 0), 1e4)
    first = told(b.publish(view(), str, 1e4), b"v")
    assert sum(len(message.nodes) for message in first) <= GONE + 2


def test_many_nodes_are_told_in_parts_that_a_watcher_puts_together() -> None:
    b = board()
    nodes = [node(f"n{n}") for n in range(3 * PART + 1)]
    b.receive(b"w", Watch("00000000", "w", 0), 0.0)
    watching = Watching(Watch("00000000", "w", 0), "tcp://x:1")
    watching.greet(0.0)
    messages = told(b.publish(view(*nodes), str, 0.0), b"w")
    assert len(messages) == 4
    for message in messages:
        assert len(message.nodes) <= PART
        assert not watching.answered  # before all is there
        watching.receive(message, 0.0)
    assert watching.answered
    assert len(watching.overview.nodes) == len(nodes) + 1


def test_a_watcher_that_hears_nothing_is_told_no_more_until_it_does_and_then_everything() -> None:
    b = board()
    watching = Watching(Watch("00000000", "w", 0), "tcp://x:1")
    watching.greet(0.0)
    b.receive(b"w", watching.sign(0.0), 0.0)
    unheard: list[Status] = []
    for n in range(100):
        b.note(Joined(f"n{n}", hello(f"n{n}")))
        b.receive(b"w", watching.sign(n), n)
        nodes = [node(f"n{k}") for k in range(n + 1)]
        effects = b.publish(view(*nodes), str, n)
        unheard += told(effects, b"w")
        assert len(effects) <= UNHEARD_STATUSES
    assert len(unheard) == UNHEARD_STATUSES
    for message in unheard:
        watching.receive(message, 100.0)
    assert len(watching.overview.nodes) < 10
    b.receive(b"w", watching.sign(100.0), 100.0)
    (anew,) = told(b.publish(view(*nodes), str, 100.5), b"w")
    assert anew.number == 0
    watching.receive(anew, 100.5)
    assert len(watching.overview.nodes) == 101


def test_a_watcher_says_what_it_hears_in_time() -> None:
    """However much happens in a second, one that reads is not taken to be behind."""
    b = board()
    watching = Watching(Watch("00000000", "w", 0), "tcp://x:1")
    watching.greet(0.0)
    b.receive(b"w", watching.sign(0.0), 0.0)
    states = []
    for n in range(20):
        peer = b"o%d" % n
        b.receive(peer, Watch(f"{n:08}", "o", 0), n / 100)
        for goes in (False, True):
            if goes:
                b.leave(peer, "stopped", stopped=True)
            for message in told(b.publish(view(), str, n / 100), b"w"):
                states += [c.state for c in watching.receive(message, n / 100) if c.id[0] == "o"]
                for said in watching.receipt(n / 100):
                    assert isinstance(said, Watch)
                    b.receive(b"w", said, n / 100)
    assert states == ["running", "stopped"] * 20


@given(st.randoms(use_true_random=False))
def test_a_watcher_that_is_behind_hears_later_how_who_only_looked_on_went(
    dice: random.Random,
) -> None:
    """Found here: a goodbye that was said meanwhile was forgotten, and became a death."""
    b = board()
    ends = {p: Watching(Watch(f"0000000{p}", p, 0), "tcp://x:1") for p in "vw"}
    heard: dict[tuple[str, str], list[str]] = {}
    letters: list[tuple[str, Status]] = []
    for p, end in ends.items():
        end.greet(0.0)
        b.receive(p.encode(), end.sign(0.0), 0.0)

    def publish(now: float) -> None:
        effects = b.publish(view(), str, now)
        for p in ends:
            letters.extend((p, message) for message in told(effects, p.encode()))

    def read(now: float, everything: bool = False) -> None:
        reading = set(ends) if everything else {p for p in ends if dice.random() < 0.3}
        for p, message in [letter for letter in letters if letter[0] in reading]:
            for change in ends[p].receive(message, now):
                if change.id[0] == "o":
                    heard.setdefault((p, change.id), []).append(change.state)
            letters.remove((p, message))
        for p in reading:
            b.receive(p.encode(), ends[p].sign(now), now)

    now = 0.0
    for n in range(20):
        b.receive(b"o", Watch(f"{n:08}", "o", 0), now)
        publish(now)
        read(now)
        b.leave(b"o", "stopped", stopped=True)
        for _ in range(dice.randrange(3)):
            now += 0.1
            publish(now)
            read(now)
    for _ in range(3):
        read(now, everything=True)
        publish(now)
    for states in heard.values():
        assert states == ["running", "stopped"]


def test_who_went_while_nothing_was_told_is_gone_all_the_same() -> None:
    watching = Watching(Watch("00000000", "w", 0), "tcp://x:1")
    watching.greet(0.0)
    a, b = (NodeStatus(name, "status", "running") for name in "ab")
    watching.receive(Status(0, 0, "m", (a, b), {}, {}), 0.0)
    (change,) = watching.receive(Status(0, 0, "m", (b,), {}, {}), 1.0)
    assert (change.id, change.state) == ("a", "dropped")


def test_who_comes_and_goes_all_the_time_is_told_at_a_pace() -> None:
    b = board()
    watching = Watching(Watch("00000000", "w", 0), "tcp://x:1")
    watching.greet(0.0)
    times = 0
    for n in range(10_000):
        now = n / 1000
        b.note(Joined("a", hello("a")))
        b.note(Left("a", "gone"))
        b.receive(b"w", watching.sign(now), now)
        if b.due(now):
            times += 1
            for message in told(b.publish(view(), str, now), b"w"):
                watching.receive(message, now)
    assert times <= 10 / NEWS_SECONDS + 1


@pytest.mark.parametrize("seed", range(200))
def test_a_watcher_knows_what_the_board_knows(seed: int) -> None:
    """Nodes come, go, fall silent, connections are cut, who watches is slow: both say the same."""
    choose = random.Random(seed)
    b, now, peer = board(), 0.0, 0
    here: dict[str, float] = {}
    last: dict[str, str] = {}
    under_way: list[Status] = []
    watching = Watching(Watch("00000000", "w", 0), "tcp://x:1")
    watching.greet(now)
    b.receive(b"%d" % peer, watching.sign(now), now)
    for step in range(66):
        now += choose.random()
        name = f"n{choose.randrange(6)}"
        match choose.randrange(5) if step < 60 else 4:
            case 0 if name not in here:
                here[name] = 0.0
                b.note(Joined(name, hello(name)))
            case 1 if name in here:
                del here[name]
                b.note(Left(name, "gone", choose.random() < 0.5))
            case 2 if name in here:
                here[name] = choose.choice([0.0, 5.0])
            case 3 if step < 50:
                watching.cut()
                b.leave(b"%d" % peer, "connection lost")
                peer += 1
                under_way.clear()
                watching.greet(now)
            case _:
                pass
        b.receive(b"%d" % peer, watching.sign(now), now)
        now_view = view(*(node(name, silent) for name, silent in here.items()))
        under_way += told(b.publish(now_view, str, now), b"%d" % peer)
        assert len(under_way) <= UNHEARD_STATUSES + 1
        if choose.random() < 0.3 or step >= 60:
            for message in under_way:
                for change in watching.receive(decode(encode([message]))[0], now):
                    assert change.state in STATES
                    last[change.id] = change.state
            under_way.clear()
    seen = {n.id: n.state for n in watching.overview.nodes.values() if n.kind == "computing"}
    assert {n for n, state in seen.items() if state in ("running", "unknown")} == set(here)
    for name, silent in here.items():
        assert seen[name] == ("unknown" if silent else "running")
    alive = {
        n for n, state in last.items() if n.startswith("n") and state in ("running", "unknown")
    }
    assert alive == set(here)  # a listener is told of everybody who went, whatever it missed


names = st.text(min_size=1, max_size=3)
statuses = st.builds(NodeStatus, names, names, st.sampled_from(sorted(STATES)) | names)


@given(
    st.lists(
        st.builds(Status, st.integers(0, 3), st.integers(0, 2), names,
                  st.lists(statuses).map(tuple), st.just({}), st.just({}))
        | st.builds(Stop, names) | st.builds(Refuse, names, names) | st.builds(Bye, names)
    )
)  # fmt: skip
def test_a_watcher_survives_whatever_it_is_told(
    messages: list[Status | Stop | Refuse | Bye],
) -> None:
    watching = Watching(Watch("00000000", "w", 0), "tcp://x:1")
    watching.greet(0.0)
    for message in messages:
        watching.receive(message, 0.0)
        watching.tick(1.0)
    watching.cut()
