"""Events over real sockets: none is lost by a cut, a stop or a restart, none comes twice."""

from __future__ import annotations

import json
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from computing_node import AsyncComputingNode
from console.exits import Exit
from main_node import AsyncMainNode, Happening, MainNode, NodeClosed, StatusNode
from main_node.news import News
from main_node.run.events import Ended, Event, Noted, Opened, RoundEvaluated, Stood, Warned
from main_node.run.label import Label
from main_node.run.opening import open_run
from main_node.run.telling import Telling, plain
from protocol import JobDataType, LocalProtocolError
from protocol.carrier import keys
from protocol.carrier.sockets import make_pair
from protocol.machine.chronicle import Chronicle
from protocol.wire.codec import decode, encode, pack_event
from protocol.wire.limits import (
    ANSWER_BYTES,
    ANSWER_EVENTS,
    EVENT_BYTES,
    EVENTS_KEPT,
    MIB,
)
from protocol.wire.messages import Follow, Happened, Watch

from ..conftest import ANY_PORT, Heard, make_idx_folder
from ..processes import Process, Relay, Start, free_port, here
from ..test_hostile import growth
from .test_run import Heard as Local
from .test_run import plan

SECONDS = 30
STATUS = (str(Path(sys.executable).with_name("mnist-status")),)
#: What happens in a busy minute: a thousand jobs that are started, get on, and are solved.
MINUTE = 30_000
Mains = Callable[..., AsyncMainNode]


class Following:
    """What a status node was told, for a test to wait for."""

    def __init__(self) -> None:
        self.all: list[Happening] = []
        self._more = threading.Condition()

    def __call__(self, happening: Happening) -> None:
        with self._more:
            self.all.append(happening)
            self._more.notify_all()

    def wait_for(self, number: int, log: str | None = None) -> None:
        """Wait until an event of this number, or a later one, is here."""

        def here() -> bool:
            last = self.all[-1] if self.all else None
            return last is not None and last.number >= number and log in (None, last.log)

        with self._more:
            assert self._more.wait_for(here, SECONDS), self.all[-1:]

    def check(self, *numbers: range) -> None:
        """Assert that exactly these were told, in order, and none is missed."""
        with self._more:
            told = [happening.number for happening in self.all]
            assert told == [number for each in numbers for number in each]
            assert not any(happening.missed for happening in self.all)
            assert all(happening.event["n"] == happening.number for happening in self.all)


@pytest.fixture
def follow() -> Iterator[Callable[..., Following]]:
    """Make status nodes that follow; they are stopped at the end."""
    made: list[StatusNode] = []

    def make(*addresses: str, **options: Any) -> Following:
        following = Following()
        node = StatusNode("w", address=addresses, on_event=following, **options)
        made.append(node)
        node.process_status_async()
        return following

    yield make
    for node in made:
        node.stop_processing()


Follows = Callable[..., Following]


def tell(main: AsyncMainNode, numbers: range) -> None:
    for n in numbers:
        main.tell_event({"kind": "job-progressed", "n": n, "label": "round-001-job-0001"})


def test_events_come_to_who_was_there_and_to_who_comes_later(
    main_node: Mains, follow: Follows
) -> None:
    main = main_node()
    first = follow(main.address)
    tell(main, range(1, 101))
    first.wait_for(100)
    later = follow(main.address)
    later.wait_for(100)
    tell(main, range(101, 201))
    for following in (first, later):
        following.wait_for(200)
        following.check(range(1, 201))
    assert {h.main for h in first.all} == {main.get_id()}
    assert first.all[0].event == {
        "kind": "job-progressed", "n": 1, "label": "round-001-job-0001"
    }  # fmt: skip


def test_a_watcher_that_was_cut_off_for_a_busy_minute_misses_no_event(
    main_node: Mains, follow: Follows, relay: Callable[[str], Relay]
) -> None:
    main = main_node()
    between = relay(main.address)
    following = follow(between.address)
    tell(main, range(1, 11))
    following.wait_for(10)
    between.cut(refuse=True)
    tell(main, range(11, MINUTE))
    between.mend()
    following.wait_for(MINUTE - 1)
    following.check(range(1, MINUTE))


def test_cuts_in_the_middle_of_answers_lose_and_repeat_nothing(
    main_node: Mains, follow: Follows, relay: Callable[[str], Relay]
) -> None:
    main = main_node()
    between = relay(main.address)
    tell(main, range(1, MINUTE))
    between.cut_after["to_node"] = 100_000
    following = follow(between.address)
    for nbytes in (300_000, 500_000, 700_000):
        between.wait_for("to_node", between.carried["to_node"] + 50_000)
        between.cut_after["to_node"] = nbytes
        between.cut()
    tell(main, range(MINUTE, MINUTE + 100))
    following.wait_for(MINUTE + 99)
    following.check(range(1, MINUTE + 100))


def test_a_line_that_stands_still_for_a_while_loses_nothing(
    main_node: Mains, follow: Follows, relay: Callable[[str], Relay]
) -> None:
    """The connection stays, and nobody hears of anything."""
    main = main_node()
    between = relay(main.address)
    following = follow(between.address)
    tell(main, range(1, 11))
    following.wait_for(10)
    between.freeze("to_node", "to_main")
    tell(main, range(11, MINUTE))
    between.thaw()
    following.wait_for(MINUTE - 1)
    following.check(range(1, MINUTE))


def test_a_stopped_process_goes_on_where_it_was(main_node: Mains, start: Start) -> None:
    main = main_node()
    process = start(*STATUS, "--connect", main.address, "--events", "--json")
    lines = _lines(process)
    tell(main, range(1, 11))
    told = [next(lines) for _ in range(10)]
    process.send(signal.SIGSTOP)
    tell(main, range(11, MINUTE))
    process.send(signal.SIGCONT)
    told += [next(lines) for _ in range(11, MINUTE)]
    assert [line["number"] for line in told] == list(range(1, MINUTE))
    assert {line["missed"] for line in told} == {0}
    assert told[-1] == {
        "main": main.get_id(), "log": told[0]["log"], "number": MINUTE - 1, "missed": 0,
        "event": {"kind": "job-progressed", "n": MINUTE - 1, "label": "round-001-job-0001"},
    }  # fmt: skip
    process.send(signal.SIGINT)
    assert process.popen.wait(SECONDS) == 0


def _lines(process: Process) -> Iterator[dict[str, Any]]:
    assert process.popen.stdout is not None
    for line in process.popen.stdout:
        yield json.loads(line)


def test_what_is_not_kept_any_more_is_said(
    main_node: Mains, follow: Follows, relay: Callable[[str], Relay]
) -> None:
    main = main_node()
    between = relay(main.address)
    following = follow(between.address)
    tell(main, range(1, 11))
    following.wait_for(10)
    between.cut(refuse=True)
    total = EVENTS_KEPT + 5000
    tell(main, range(11, total + 1))
    between.mend()
    following.wait_for(total)
    (gap,) = [h for h in following.all if h.missed]
    assert gap.missed == total - EVENTS_KEPT - 10
    assert [h.number for h in following.all] == [
        *range(1, 11), *range(gap.number, total + 1)
    ]  # fmt: skip
    assert gap.number == 10 + gap.missed + 1


def test_a_main_node_that_starts_again_begins_anew(follow: Follows) -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    following = follow(address)
    logs: list[str] = []
    for many in (30, 20, 40):
        with AsyncMainNode("main", address=address) as main:
            tell(main, range(1, many + 1))
            following.wait_for(many, _log_of(following, main))
            logs.append(following.all[-1].log)
    assert len(set(logs)) == 3
    following.check(range(1, 31), range(1, 21), range(1, 41))


def _log_of(following: Following, main: AsyncMainNode) -> str:
    """Wait for the first event of a main node, and return its log."""
    with following._more:
        found: list[str] = []

        def here() -> bool:
            found[:] = [h.log for h in following.all if h.main == main.get_id()]
            return bool(found)

        assert following._more.wait_for(here, SECONDS)
        return found[0]


def test_several_main_nodes_are_followed_each_for_itself(main_node: Mains, follow: Follows) -> None:
    mains = [main_node("one"), main_node("two")]
    following = follow(*(main.address for main in mains))
    for many, main in zip((50, 70), mains, strict=True):
        tell(main, range(1, many + 1))
    for many, main in zip((50, 70), mains, strict=True):
        with following._more:
            assert following._more.wait_for(lambda: len(_of(following, main)) == many, SECONDS)  # noqa: B023
        assert _of(following, main) == list(range(1, many + 1))


def _of(following: Following, main: AsyncMainNode) -> list[int]:
    return [h.number for h in following.all if h.main == main.get_id()]


def test_a_slow_user_holds_up_what_comes_and_loses_nothing(main_node: Mains) -> None:
    """What waits for the user's code is bounded: so much is asked for as it takes."""
    main = main_node()
    following, go_on, came = Following(), threading.Event(), threading.Event()

    def slow(happening: Happening) -> None:
        came.set()
        assert go_on.wait(SECONDS)
        following(happening)

    with StatusNode("w", address=main.address, on_event=slow) as node:
        node.process_status_async()
        tell(main, range(1, MINUTE))
        assert came.wait(SECONDS)
        observer = node._observer
        assert observer is not None
        turns = [observer.call(node._news.qsize) for _ in range(200)]
        assert max(turns) <= 3 * ANSWER_EVENTS
        go_on.set()
        following.wait_for(MINUTE - 1)
    following.check(range(1, MINUTE))


def test_one_that_raises_is_told_the_next(main_node: Mains, heard: Heard) -> None:
    main = main_node()
    following = Following()

    def failing(happening: Happening) -> None:
        following(happening)
        raise ValueError("a bad listener")

    with StatusNode("w", address=main.address, on_event=failing) as node:
        node.process_status_async()
        tell(main, range(1, 4))
        following.wait_for(3)
        heard.event("listener.raised", node=lambda log: main.get_id() in log)


def test_who_does_not_follow_is_told_nothing_and_costs_nothing(main_node: Mains) -> None:
    main = main_node()
    with StatusNode("w", address=main.address) as node:
        node.process_status_async()
        assert node.wait(SECONDS)
        tell(main, range(1, 101))
        main.view()  # its thread has had a turn
        assert not main._router._chronicle.followed
        assert node._news.qsize() < 10


def test_strangers_may_not_follow(main_node: Mains, follow: Follows, tmp_path: Path) -> None:
    keys.create(tmp_path / "keys", ["w"], make_pair)
    main = main_node(keys=tmp_path / "keys")
    stranger = follow(main.address)
    known = follow(main.address, keys=tmp_path / "keys")
    tell(main, range(1, 11))
    known.wait_for(10)
    assert not stranger.all


def test_an_event_that_can_not_be_told_is_refused(main_node: Mains) -> None:
    main = main_node()
    with pytest.raises(LocalProtocolError, match="only plain values"):
        main.tell_event({"what": object()})
    with pytest.raises(LocalProtocolError, match="say less of it"):
        main.tell_event({"text": "x" * EVENT_BYTES})
    main.close()
    with pytest.raises(NodeClosed):
        main.tell_event({"kind": "late"})


def test_the_simple_main_node_tells_too(follow: Follows) -> None:
    with MainNode("main", address=ANY_PORT) as main:
        following = follow(main.address)
        main.tell_event({"n": 1})
        following.wait_for(1)


def test_what_is_told_at_the_end_is_heard_before_it(main_node: Mains, follow: Follows) -> None:
    """Again and again: the last word comes, though its main node closes at once."""
    for _ in range(20):
        main = main_node()
        following = follow(main.address)
        tell(main, range(1, 3))
        following.wait_for(2)
        tell(main, range(3, 5001))
        main.close()
        following.wait_for(5000)
        following.check(range(1, 5001))


class Raw:
    """A raw DEALER that says it watches and follows."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], address: str, name: str) -> None:
        self.socket = context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.rcvhwm = 1
        self.socket.connect(address)
        self.name = name

    def send(self, *follows: Follow) -> bool:
        """Say this; return whether there was room."""
        try:
            self.socket.send_multipart(encode([Watch(self.name, "w", 0), *follows]), zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def hear(self) -> Happened:
        """Return the next answer."""
        while True:
            assert self.socket.poll(SECONDS * 1000)
            for message in decode(self.socket.recv_multipart()):
                if isinstance(message, Happened):
                    return message


@pytest.fixture
def raws() -> Iterator[Callable[..., Raw]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    made: list[Raw] = []

    def make(main: AsyncMainNode) -> Raw:
        made.append(Raw(context, main.address, f"{len(made):08x}"))
        return made[-1]

    yield make
    for raw in made:
        raw.socket.close()
    context.term()


def test_a_hundred_that_never_read_cost_an_answer_each_and_keep_nobody_waiting(
    main_node: Mains, follow: Follows, computing_node: Callable[..., AsyncComputingNode],
    raws: Callable[..., Raw],
) -> None:  # fmt: skip
    main = main_node()
    computing_node(main)
    main.wait_for_nodes(1, SECONDS)
    tell(main, range(1, MINUTE))
    deaf = [raws(main) for _ in range(100)]
    for raw in deaf:  # they read once, to know the receipt, and then no more
        raw.send(Follow("", 0, ANSWER_BYTES, 0))
    hellos = [raw.hear() for raw in deaf]
    assert not any(hello.events for hello in hellos)
    with growth() as grown:
        for turn in range(15):
            for raw, hello in zip(deaf, hellos, strict=True):
                raw.send(Follow(hello.log, turn, ANSWER_BYTES, hello.receipt))
            assert main.submit(JobDataType("a")).result(SECONDS).to_string() == "A"
        honest = follow(main.address)
        honest.wait_for(MINUTE - 1)
        honest.check(range(1, MINUTE))
        assert main.submit(JobDataType("a")).result(SECONDS).to_string() == "A"
        assert grown() < 100 * ANSWER_BYTES / MIB * 2 + 50


def test_who_floods_is_cut_off_and_who_works_is_not(
    main_node: Mains, computing_node: Callable[..., AsyncComputingNode], raws: Callable[..., Raw],
    heard: Heard,
) -> None:  # fmt: skip
    main = main_node()
    computing_node(main)
    tell(main, range(1, MINUTE))
    flood, over = raws(main), threading.Event()

    words = encode([Watch(flood.name, "w", 0), *[Follow("", 0, ANSWER_BYTES, 0)] * 50])

    def say() -> None:
        while not over.is_set():
            if flood.socket.poll(100, zmq.POLLOUT):  # a thread that spins is itself a nuisance here
                flood.socket.send_multipart(words)

    thread = threading.Thread(target=say)
    with growth() as grown:
        thread.start()
        try:
            for _ in range(200):
                assert main.submit(JobDataType("a")).result(SECONDS).to_string() == "A"
            heard.event("peer.cut")  # for what it says, or for what of it is not read yet
        finally:
            over.set()
            thread.join()
        assert grown() < 60


def test_events_that_come_faster_than_they_are_taken_are_bounded_and_counted() -> None:
    chronicle = Chronicle("m:1", lambda: 1)
    woken: list[int] = []
    news = News(chronicle, lambda: woken.append(1), most=100)
    for n in range(1, 1001):
        news.put(pack_event({"n": n}))
    assert (len(news._waiting), len(woken)) == (100, 0)  # nobody follows, and they are not many
    news.take()
    assert (chronicle.first, chronicle.last) == (901, 1000)
    for n in range(1001, 1011):
        news.put(pack_event({"n": n}))
    news.take()
    assert (chronicle.first, chronicle.last) == (901, 1010)


def test_many_threads_tell_and_each_event_has_a_number(main_node: Mains, follow: Follows) -> None:
    main = main_node()
    following = follow(main.address)

    def say(who: int) -> None:
        for n in range(1000):
            main.tell_event({"who": who, "n": n})

    threads = [threading.Thread(target=say, args=(who,)) for who in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    following.wait_for(8000)
    assert [h.number for h in following.all] == list(range(1, 8001))
    for who in range(8):
        own = [h.event["n"] for h in following.all if h.event["who"] == who]
        assert own == list(range(1000))


# A training run.


def test_a_runs_events_are_those_that_a_local_listener_hears(
    tmp_path: Path, follow: Follows
) -> None:
    data = make_idx_folder(tmp_path / "data", 400, 100)
    local = Local()
    run = open_run(plan(tmp_path, data), [local])
    following = follow(run._node.address)
    run.see_through()
    heard = [event for event in local.all if not isinstance(event, Stood)]
    following.wait_for(len(heard))
    assert [h.event for h in following.all] == [plain(event) for event in heard]
    assert [h.number for h in following.all] == list(range(1, len(heard) + 1))
    kinds = {h.event["kind"] for h in following.all}
    assert {"opened", "node-joined", "job-started", "job-solved", "round-merged",
            "round-evaluated", "ended"} <= kinds  # fmt: skip
    assert following.all[-1].event["ending"] == "done"
    evaluated = [h.event for h in following.all if h.event["kind"] == "round-evaluated"]
    scores = [vars(event)["scores"].accuracy for event in local.of(RoundEvaluated)]
    assert [event["scores"]["accuracy"] for event in evaluated] == scores
    solved = {h.event["label"] for h in following.all if h.event["kind"] == "job-solved"}
    assert {Label(n, "job", part).name for n in range(3) for part in (1, 2)} <= solved
    (opened,) = local.of(Opened)
    (told,) = [h.event for h in following.all if h.event["kind"] == "opened"]
    assert (told["at"], told["rows"], told["spec"]["plan"]["rounds"]) == (opened.at, 400, 3)
    json.dumps([h.event for h in following.all])  # plain indeed


def test_what_is_large_or_strange_in_an_event_is_left_out() -> None:
    class Odd(Ended):
        pass

    long = plain(Warned(text="ä" * 100_000 + "\ud800"))
    assert long["kind"] == "warned"
    assert 100 < len(str(long["text"])) <= 1100
    pack_event(long)
    scores = type("S", (), {})()
    event = RoundEvaluated(round=1, scores=scores, loss=None)
    told = {"kind": "round-evaluated", "at": event.at, "round": 1, "loss": None, "on": "test"}
    assert plain(event) == told
    assert plain(Odd(ending="done"))["kind"] == "odd"


def test_what_happens_before_there_is_a_main_node_is_told_when_there_is_one() -> None:
    told: list[Any] = []
    telling = Telling()
    telling.on(Noted(text="one"))
    telling.begin(told.append)
    telling.on(Noted(text="two"))
    last: Event = Ended(ending="done")
    telling.end(last)
    telling.on(last)  # whoever listens hears of it after the main node has gone
    assert [event.get("text", event["kind"]) for event in told] == ["one", "two", "ended"]


# The command.


def test_the_command_prints_a_line_for_each_event(main_node: Mains, start: Start) -> None:
    main = main_node()
    main.tell_event({"kind": "noted", "at": 0.0, "text": "a \x1b[31mline"})
    main.tell_event({"kind": "job-solved", "label": "round-001-job-0001", "node": "lab1.0"})
    main.tell_event({"score": 0.123456, "deep": {"x": [1, 2]}})
    main.tell_event({})
    main.tell_event({"kind": "round-merged", "round": 3})
    process = start(*STATUS, "--connect", main.address, "--events")
    assert process.popen.stdout is not None
    lines = [process.popen.stdout.readline().rstrip("\n") for _ in range(6)]
    assert lines[0] == f"--- {main.get_id()}"
    assert re.fullmatch(r"\d\d:\d\d:\d\d noted: a  \[31mline", lines[1]), lines
    assert lines[2:] == [
        "job solved: label round-001-job-0001, node lab1.0",
        'score 0.1235, deep {"x": [1, 2]}', "", "round merged: round 3",
    ]  # fmt: skip
    process.popen.stdout.close()  # nobody reads any more: it ends
    main.tell_event({"kind": "noted"})
    main.tell_event({"kind": "noted"})
    assert process.popen.wait(SECONDS) == 0


def test_the_command_says_what_goes_with_what() -> None:
    for other in ("--once", "--follow"):
        done = here("status_node.command:main", "--events", "--json", other)
        assert done.returncode == Exit.USAGE
        assert "--events goes on until Ctrl-C" in done.stderr
