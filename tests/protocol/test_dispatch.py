"""The dispatcher, an event at a time: effects are values, and each test tells a tale."""

from __future__ import annotations

import gc
import time
import weakref
from collections import deque
from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from protocol import JobDataType, JobSolutionDataType, LocalProtocolError, RemoteProtocolError
from protocol.carrier.patience import Patience, Pool
from protocol.machine.dispatch import MAX_CANCELS, UNCONFIRMED_SECONDS, Dispatcher
from protocol.machine.effects import (
    Accept,
    Benched,
    Doubled,
    Effect,
    Fail,
    Joined,
    Keep,
    Left,
    Offered,
    Refused,
    Retry,
    Send,
    Superseded,
)
from protocol.machine.ledger import JOB_TRANSITIONS, Attempt, Job, JobState, Ledger
from protocol.machine.limits import Limits
from protocol.machine.pace import GROUPS, TRANSFER_SECONDS
from protocol.machine.session import Session
from protocol.wire.codec import decode, encode, packed_bytes, specify
from protocol.wire.key import Key
from protocol.wire.limits import (
    CHUNK_BYTES,
    FIRST_TASKS,
    HELD_SOLUTION_BYTES,
    MAX_REPEATS,
    OWN_WINDOW,
    PLAIN_EXPANSION,
    SHARED_WINDOW,
    TASK_BYTES,
    UNASKED_BYTES,
    UNHEARD_OFFER_BYTES,
    WINDOW,
)
from protocol.wire.messages import (
    REFUSE_ID,
    Accepted,
    ArraySpec,
    Busy,
    Bye,
    Cancel,
    Chunk,
    Heartbeat,
    Hello,
    JobOffer,
    Message,
    Need,
    Ready,
    Recall,
    Refuse,
    Reject,
    Returned,
    SolutionReady,
    Stop,
    TaskFailed,
    Unknown,
    Waiting,
    Welcome,
)
from protocol.wire.transfer import answer

HELLO = Hello("id-a", "a", 0, ("",), {}, 2, 1 << 30, "", tasks=1, credit=2)


class Table:
    """A dispatcher with a clock, and what it said."""

    def __init__(self, **options: Any) -> None:
        limits = {
            each.name: options.pop(each.name) for each in fields(Limits) if each.name in options
        }
        self.dispatcher = Dispatcher("main", limits=Limits(**limits), **options)
        self.now = 100.0
        self.effects: list[Effect] = []

    def hello(
        self, peer: bytes, key: Key | None = None, host: str = "", **changes: Any
    ) -> list[Effect]:
        name = peer.decode()
        hello = replace(HELLO, **{"node": f"id-{name}", "name": name, **changes})
        self.effects = self.dispatcher.receive(peer, hello, self.now, key, host)
        return self.effects

    def hear(self, peer: bytes, message: Message) -> list[Effect]:
        self.effects = self.dispatcher.receive(peer, message, self.now)
        return self.effects

    def submit(self, number: int, data: JobDataType | None = None) -> list[Effect]:
        job = Job.of(number, data or JobDataType(str(number)))
        self.effects = self.dispatcher.submit(job, self.now)
        return self.effects

    def tick(self, seconds: float, step: float = 0.5) -> list[Effect]:
        """Let time pass in steps; return what was said, heartbeats left out."""
        self.effects = []
        for _ in range(round(seconds / step)):
            self.now += step
            said = self.dispatcher.tick(self.now)
            self.effects += [
                e for e in said if not (isinstance(e, Send) and e.message == Heartbeat())
            ]
        return self.effects

    def offers(self) -> dict[int, tuple[bytes, int]]:
        """Return what was offered last: job -> (peer, task)."""
        return {
            e.message.job: (e.peer, e.message.task)
            for e in self.effects
            if isinstance(e, Send) and isinstance(e.message, JobOffer)
        }

    def in_hand(self, peer: bytes) -> int:
        """Return the one task that a node has in hand."""
        (task,) = self.dispatcher._nodes[peer].tasks
        return task

    def said(self, kind: type[Any]) -> list[Any]:
        return [e.message for e in self.effects if isinstance(e, Send) and type(e.message) is kind]


def solved(task: int) -> SolutionReady:
    return SolutionReady(task, {}, b"done", {})


def test_a_job_goes_out_and_its_solution_is_accepted_before_it_is_receipted() -> None:
    table = Table()
    assert [type(e) for e in table.hello(b"a")] == [Send, Joined]
    assert table.said(Welcome) == [Welcome("main", 1.0)]
    table.submit(1)
    _, task = table.offers()[1]
    accept, receipt = table.hear(b"a", solved(task))
    assert isinstance(accept, Accept)
    assert (accept.job, accept.node, accept.solution.to_bytes()) == (1, "a.id-a", b"done")
    assert receipt == Send(b"a", Accepted((task,)))
    assert table.dispatcher.open == 0


def test_a_repeated_solution_is_receipted_and_not_accepted_again() -> None:
    table = Table()
    table.hello(b"a")
    table.submit(1)
    _, task = table.offers()[1]
    table.hear(b"a", solved(task))
    assert table.hear(b"a", solved(task)) == [Send(b"a", Accepted((task,)))]


def test_idle_nodes_come_before_waiting_places() -> None:
    table = Table()
    for peer in (b"a", b"b", b"c"):
        table.hello(peer)
    peers = []
    for number in range(1, 7):
        table.submit(number)
        peers.append(table.offers()[number][0])
    assert sorted(peers[:3]) == sorted(peers[3:]) == [b"a", b"b", b"c"]
    assert table.submit(7) == []  # nobody has credit left


def test_a_job_waits_for_a_node_that_can_solve_it() -> None:
    table = Table()
    table.hello(b"a", kinds=("neural",))
    assert table.submit(1) == []
    table.submit(2, JobDataType("x", kind="neural"))
    assert table.offers()[2][0] == b"a"
    table.hello(b"b")
    assert table.offers()[1][0] == b"b"


def test_a_silent_nodes_jobs_go_to_another_and_its_late_solution_is_welcome() -> None:
    table = Table()
    table.hello(b"a")
    table.submit(1)
    _, first = table.offers()[1]
    table.hear(b"a", Heartbeat((first,), {first: 0.2}))
    table.tick(10.5)
    assert any(isinstance(e, Left) and "silent" in e.reason for e in table.effects)
    assert [e.attempt.kind for e in table.effects if isinstance(e, Retry)] == ["lost"]
    table.hello(b"b")
    _, second = table.offers()[1]
    # The first one was frozen, not dead: it is told to say hello, and then it is first.
    assert table.hear(b"a", Heartbeat((first,))) == [
        Send(b"a", Refuse("unknown", table.said(Refuse)[0].reason))
    ]
    table.hello(b"a2", node="id-a", main="main", holds=(first,))
    table.hear(b"a2", solved(first))
    assert [e.job for e in table.effects if isinstance(e, Accept)] == [1]
    assert Send(b"b", Cancel(second)) in table.effects


def test_a_lost_offer_is_repeated_once_the_node_does_not_confirm_it() -> None:
    table = Table()
    table.hello(b"a")
    table.submit(1)
    _, task = table.offers()[1]
    assert table.hear(b"a", Heartbeat(())) == []  # maybe they crossed
    table.now += UNCONFIRMED_SECONDS + 0.1
    table.hear(b"a", Heartbeat(()))
    assert table.offers() == {1: (b"a", task)}
    assert table.hear(b"a", Heartbeat((task,))) == []


def test_a_heartbeat_from_before_does_not_bring_a_failed_task_back() -> None:
    """Found in review: the failed task was adopted, then offered again to where it failed."""
    table = Table()
    table.hello(b"a")
    table.submit(1)
    _, first = table.offers()[1]
    table.hear(b"a", TaskFailed(first, "raised", "no"))
    _, second = table.offers()[1]
    assert table.hear(b"a", Heartbeat((first, second))) == []  # it has been told
    table.now += UNCONFIRMED_SECONDS + 1
    assert table.hear(b"a", Heartbeat((first, second))) == [Send(b"a", Cancel(first))]


def test_a_job_fails_with_its_story_after_so_many_attempts() -> None:
    table = Table(max_attempts=2)
    table.hello(b"a")
    table.submit(1)
    _, task = table.offers()[1]
    table.hear(b"a", TaskFailed(task, "raised", "first", "trace"))
    _, task = table.offers()[1]
    table.hear(b"a", TaskFailed(task, "crashed", "second"))
    (failure,) = [e for e in table.effects if isinstance(e, Fail)]
    assert [(a.node, a.kind, a.message) for a in failure.story] == [
        ("a.id-a", "raised", "first"), ("a.id-a", "crashed", "second")
    ]  # fmt: skip
    assert table.dispatcher.open == 0


def test_a_node_that_says_goodbye_costs_no_attempt() -> None:
    table = Table()
    table.hello(b"a")
    table.submit(1)
    table.hear(b"a", Bye("going home"))
    assert not [e for e in table.effects if isinstance(e, Retry)]
    table.hello(b"b")
    assert table.offers()[1][0] == b"b"


def test_a_node_of_another_domain_is_refused_and_not_counted() -> None:
    table = Table(domain=1)
    refuse, note = table.hello(b"a", domain=2)
    assert isinstance(refuse, Send)
    assert isinstance(refuse.message, Refuse)
    assert isinstance(note, Refused)
    assert "domain 1, not 2" in note.reason
    assert table.dispatcher.peers == []


def test_a_waiting_task_is_recalled_for_an_idle_node_and_given_to_it() -> None:
    table = Table()
    table.hello(b"a")
    table.submit(1)
    table.submit(2)
    _, waiting = table.offers()[2]
    table.hear(b"a", Waiting((waiting,)))
    table.hello(b"b")
    assert table.said(Recall) == [Recall(waiting)]
    assert table.tick(1) == []  # asked once
    table.hear(b"a", Returned(waiting))
    assert table.offers()[2][0] == b"b"
    assert table.dispatcher.retries == 0


def test_a_task_that_waits_everywhere_does_not_go_to_and_fro_at_any_speed() -> None:
    """Found by a user: nodes that were starting up gave one job back 288 times."""
    table = Table()
    table.hello(b"a")
    table.hello(b"b")
    table.submit(1)
    began = table.now
    times: list[float] = []
    peer, task = table.offers()[1]
    table.hear(peer, Waiting((task,)))
    while table.now - began < 30 and len(times) < 100:
        if not table.said(Recall):
            for each in (b"a", b"b"):
                table.dispatcher.receive(each, Heartbeat(), table.now)
            table.effects = table.tick(0.1, step=0.1)
            continue
        times.append(table.now - began)
        table.hear(peer, Returned(task))
        peer, task = table.offers()[1]
        table.hear(peer, Waiting((task,)))
    assert times[0] == 0  # at once, the first time
    assert 16 <= len(times) <= 24
    assert all(later - before < 4.5 for before, later in pairwise(times))
    assert table.dispatcher.retries == 0


def test_a_task_is_not_recalled_for_a_node_that_would_not_get_it() -> None:
    """Found in review: such a task went to and fro for as long as its node was busy."""
    table = Table()
    table.hello(b"b")
    table.submit(1)
    table.hear(b"b", TaskFailed(table.in_hand(b"b"), "raised", "not here"))
    table.hello(b"a")
    table.hear(b"b", Returned(table.in_hand(b"b")))
    assert table.offers()[1][0] == b"a"
    table.hear(b"a", Waiting((table.in_hand(b"a"),)))
    assert table.said(Recall) == []


def test_a_node_that_is_busy_for_others_comes_last() -> None:
    table = Table()
    table.hello(b"a")
    table.hello(b"b")
    table.hear(b"a", Busy(1))
    table.submit(1)
    assert table.offers()[1][0] == b"b"


def test_credit_bounds_what_a_node_holds() -> None:
    table = Table()
    table.hello(b"a")
    table.hear(b"a", Ready(5))
    given = sum(bool(table.submit(number)) for number in range(1, 9))
    assert given == 2  # a node that has solved nothing yet is not given more than it can run soon
    table.hear(b"a", SolutionReady(1, {}, b"", {}))
    assert len(table.offers()) == 3  # in the place of the one that is solved, and two more
    table.hear(b"a", SolutionReady(2, {}, b"", {}))
    assert len(table.offers()) == 2  # and five is what it asked for
    table.hear(b"a", Ready(6))
    assert len(table.offers()) == 1


def test_jobs_go_where_their_arrays_are() -> None:
    table = Table()
    arrays = [np.full(CHUNK_BYTES, n, np.uint8) for n in range(4)]
    arrays = [np.concatenate([a, a, a]) for a in arrays]
    peers = {}
    for peer in (b"a", b"b"):
        table.hello(peer, credit=1)
    for number, array in enumerate(arrays[:2], 1):
        table.submit(number, JobDataType({"x": array}))
        peer, _ = table.offers()[number]
        peers[number] = peer
        table.hear(peer, Need(specify(array).digest, 0, 9))
        assert [len(chunk.data) for chunk in table.said(Chunk)] == [3 * CHUNK_BYTES]
    first, second = peers[1], peers[2]
    table.submit(3, JobDataType({"x": arrays[1]}))
    table.submit(4, JobDataType({"x": arrays[0]}))
    table.hear(first, solved(table.in_hand(first)))
    assert table.offers()[4][0] == first
    table.hear(second, solved(table.in_hand(second)))
    assert table.offers()[3][0] == second


def test_an_array_that_nobody_needs_any_more_is_said_not_to_be_held() -> None:
    table = Table()
    table.hello(b"a")
    table.hear(b"a", Need(b"x" * 16, 0, 4))
    assert table.said(Chunk) == [Chunk(b"x" * 16, 0, b"")]


def test_two_solutions_with_one_array_are_both_had_though_one_is_cancelled() -> None:
    """Found in review: cancelling the first forgot the array that the second waited for."""
    table = Table()
    table.hello(b"a")
    table.submit(1)
    (_, first) = table.offers()[1]
    table.submit(2)
    (_, second) = table.offers()[2]
    array = np.arange(CHUNK_BYTES + 1, dtype=np.uint8)
    for task in (first, second):
        table.hear(b"a", SolutionReady(task, {}, b"", {"x": specify(array)}))
    table.dispatcher.cancel(1, table.now)
    digest = specify(array).digest
    table.hear(b"a", Chunk(digest, 0, array[:CHUNK_BYTES].data))
    table.hear(b"a", Chunk(digest, 1, array[CHUNK_BYTES:].data))
    (accept,) = [e for e in table.effects if isinstance(e, Accept)]
    np.testing.assert_array_equal(accept.solution.arrays["x"], array)


def test_one_digest_for_two_sizes_is_the_peers_mistake() -> None:
    table = Table()
    table.hello(b"a")
    table.submit(1)
    spec = specify(np.zeros(4, np.uint8))
    lie = SolutionReady(table.offers()[1][1], {}, b"", {"x": spec, "y": replace(spec, shape=(5,))})
    with pytest.raises(RemoteProtocolError, match="two sizes"):
        table.hear(b"a", lie)


def test_a_main_node_that_was_paused_does_not_blame_its_nodes() -> None:
    table = Table()
    table.hello(b"a")
    table.tick(1)
    table.now += 3600
    assert table.dispatcher.tick(table.now) == [Send(b"a", Heartbeat())]


def test_a_strangers_message_is_answered_with_a_request_to_say_hello() -> None:
    table = Table()
    table.hear(b"ghost", Heartbeat((1,)))
    assert table.said(Refuse)[0].code == "unknown"
    assert table.hear(b"ghost", Bye("never mind")) == []


def test_someone_elses_task_is_not_accepted() -> None:
    table = Table()
    table.hello(b"a")
    table.submit(1)
    _, task = table.offers()[1]
    table.hello(b"b")
    assert not [e for e in table.hear(b"b", solved(task)) if isinstance(e, Accept)]
    assert table.dispatcher.open == 1


def test_messages_of_kinds_that_are_not_for_it_are_counted_and_ignored() -> None:
    table = Table()
    table.hello(b"a")
    assert table.hear(b"a", Unknown(99)) == table.hear(b"a", Welcome("x", 1.0)) == []
    assert table.dispatcher.ignored == 2


def test_closing_tells_every_node() -> None:
    table = Table()
    table.hello(b"a")
    table.hello(b"b")
    assert table.dispatcher.close("done") == [Send(b"a", Stop("done")), Send(b"b", Stop("done"))]


def kept(table: Table) -> list[Keep]:
    return [effect for effect in table.effects if isinstance(effect, Keep)]


def keeping() -> Table:
    """Return a table whose dispatcher keeps, with two nodes that both run job 1."""
    table = Table(keeps=True)
    table.hello(b"a")
    table.submit(1)
    table.tick(11)  # a falls silent, and b gets its job
    table.hello(b"b")
    table.hello(b"a", main="main", holds=(1,))
    return table


def test_a_solution_is_kept_before_it_is_accepted_or_receipted() -> None:
    table = Table(keeps=True)
    table.hello(b"a")
    table.submit(1)
    table.hear(b"a", SolutionReady(1, {}, b"one", {}))
    (keep,) = kept(table)
    assert table.effects == [keep]
    assert table.hear(b"a", SolutionReady(1, {}, b"one", {})) == []  # a repeat is not kept twice
    light = JobSolutionDataType(b"")
    assert table.dispatcher.kept(1, light, table.now) == [
        Accept(1, light, "a.id-a"), Send(b"a", Accepted((1,))),
    ]  # fmt: skip


def test_a_solution_counts_though_its_node_dies_while_it_is_kept() -> None:
    table = Table(keeps=True)
    table.hello(b"a")
    table.submit(1)
    table.hear(b"a", SolutionReady(1, {}, b"one", {}))
    (keep,) = kept(table)
    effects = table.dispatcher.unreachable(b"a", table.now)
    assert effects == [Left("a.id-a", "connection lost")]
    table.hello(b"b")
    assert not table.offers()  # nobody else has to solve it
    assert table.dispatcher.kept(1, keep.solution, table.now) == [
        Accept(1, keep.solution, "a.id-a")
    ]


def test_an_unfit_solution_is_a_failed_attempt_at_whose_end_the_next_is_looked_at() -> None:
    table = keeping()
    table.hear(b"b", SolutionReady(2, {}, b"bad", {}))
    (bad,) = kept(table)
    assert table.hear(b"a", SolutionReady(1, {}, b"good", {})) == []  # waits for what comes of it
    effects = table.dispatcher.unfit(bad.task, "bad", table.now)
    attempt = Attempt("b.id-b", "unfit", "bad")
    assert Retry(1, attempt) in effects
    assert Send(b"b", Reject(2, "bad")) in effects  # its node is told in words
    (good,) = [effect for effect in effects if isinstance(effect, Keep)]
    assert good.solution.to_bytes() == b"good"


def remembering(**tasks: tuple[int, str]) -> Table:
    """Return a table whose dispatcher remembers tasks, by number, from before a restart."""
    old = {int(number[1:]): place for number, place in tasks.items()}
    return Table(keeps=True, ledger=Ledger(1000, old))


def test_what_a_node_held_before_a_restart_is_waited_for_and_then_taken() -> None:
    table = remembering(t7=(1, "id-a"))
    table.hello(b"a", main="main", holds=(7,))
    assert not any(isinstance(e, Send) and isinstance(e.message, Cancel) for e in table.effects)
    assert table.hear(b"a", SolutionReady(7, {}, b"one", {})) == []  # its job is not here yet
    table.submit(1)
    (keep,) = kept(table)
    assert (keep.task, keep.solution.to_bytes()) == (7, b"one")
    assert not table.offers()


def test_a_job_that_a_node_may_come_back_with_is_given_away_last() -> None:
    table = remembering(t7=(1, "id-a"))
    table.submit(1)
    table.submit(2)
    table.submit(3)
    table.hello(b"b", credit=1)
    assert list(table.offers()) == [2]
    table.hello(b"c", credit=1)
    assert list(table.offers()) == [3]
    table.hello(b"d", credit=1)
    assert list(table.offers()) == [1]  # nothing else is left to do


def test_nobody_else_may_claim_what_a_node_held() -> None:
    table = remembering(t7=(1, "id-a"))
    table.hello(b"b", main="main", holds=(7,))
    assert Send(b"b", Cancel(7)) in table.effects
    assert table.hear(b"b", SolutionReady(7, {}, b"a lie", {})) == [Send(b"b", Accepted((7,)))]
    table.submit(1)
    assert not kept(table)


def begin(table: Table, peer: bytes, task: int, fraction: float = 0.0) -> None:
    table.hear(peer, Heartbeat((task,), {task: fraction}))


def after_four_jobs_of_two_seconds(**options: Any) -> Table:
    """Return a table with one node, which has solved four jobs and was given a fifth."""
    table = Table(**options)
    table.hello(b"a")
    for number in range(1, 6):
        table.submit(number)
    for task in range(1, 5):
        begin(table, b"a", task)
        table.now += 2
        table.hear(b"a", SolutionReady(task, {}, b"", {}))
    return table


def test_a_slow_job_goes_to_an_idle_node_as_well_and_the_first_solution_counts() -> None:
    table = after_four_jobs_of_two_seconds()
    begin(table, b"a", 5)
    table.hello(b"b")
    assert not table.offers()
    table.tick(2.4)
    assert not table.offers()
    table.hear(b"b", Heartbeat())
    table.tick(1)
    assert Doubled(5, "a.id-a", "b.id-b") in table.effects
    assert table.offers() == {5: (b"b", 6)}
    table.tick(3)
    assert not table.offers()  # two runners are enough
    table.hear(b"b", SolutionReady(6, {}, b"", {}))
    assert Send(b"a", Cancel(5)) in table.effects


def test_a_job_that_is_nearly_done_gets_no_second_runner() -> None:
    table = after_four_jobs_of_two_seconds()
    table.hello(b"b")
    begin(table, b"a", 5)
    for fraction in (0.3, 0.6, 0.9):  # in all it takes 5 seconds, the others took 2
        table.now += 1
        begin(table, b"a", 5, fraction)
        table.hear(b"b", Heartbeat())
        table.tick(0.5)
        assert not table.offers()


def test_a_job_without_progress_is_given_up_and_one_with_some_is_not() -> None:
    table = Table()
    table.hello(b"a")
    table.submit(1, JobDataType("slow", stall_seconds=5))
    for tenth in range(10):
        begin(table, b"a", 1, tenth / 10)
        table.tick(3)
    assert not any(isinstance(effect, Retry) for effect in table.effects)
    for _ in range(3):
        begin(table, b"a", 1, 0.9)
        table.tick(1)
    assert Send(b"a", Cancel(1)) in table.effects
    (retry,) = [effect for effect in table.effects if isinstance(effect, Retry)]
    assert (retry.attempt.kind, retry.attempt.message) == ("stalled", "no progress for 5.5 s")


def test_a_job_that_a_node_never_begins_is_given_up() -> None:
    table = Table()
    table.hello(b"a")
    table.submit(1, JobDataType("slow", stall_seconds=5))
    for _ in range(11):
        table.hear(b"a", Heartbeat((1,), {}))
        table.tick(0.5)
    (retry,) = [effect for effect in table.effects if isinstance(effect, Retry)]
    assert retry.attempt.message == "not begun, and nothing of it sent, for 5.5 s"


def test_a_solution_that_stops_arriving_is_given_up() -> None:
    table = Table()
    table.hello(b"a")
    table.submit(1)
    spec = specify(np.zeros(CHUNK_BYTES * 2, np.uint8))
    table.hear(b"a", SolutionReady(1, {}, b"", {"x": spec}))
    stories = []
    for _ in range(65):
        table.hear(b"a", Heartbeat((1,), {}))
        stories += [e.attempt for e in table.tick(1) if isinstance(e, Retry)]
    (attempt,) = stories
    assert attempt.kind == "transfer"


def test_a_node_that_fails_time_and_again_gets_nothing_while_another_can() -> None:
    table = Table(max_attempts=1)
    table.hello(b"bad", credit=1)
    benched = []
    for number in range(1, 4):
        table.submit(number)
    for task in range(1, 4):
        table.hear(b"bad", TaskFailed(task, "raised", f"no {task}"))
        benched += [effect for effect in table.effects if isinstance(effect, Benched)]
    (bench,) = benched
    assert bench.node == "bad.id-bad"
    assert bench.seconds == 60
    assert bench.reason == "3 jobs in a row failed there, the last: raised: no 3"
    assert table.dispatcher.view(table.now).nodes[0].benched == bench.reason
    table.hello(b"good", credit=9)
    for number in range(4, 12):
        table.submit(number)
        assert all(peer == b"good" for peer, _ in table.offers().values())
    offers: dict[int, tuple[bytes, int]] = {}
    for _ in range(65):
        table.hear(b"bad", Heartbeat())
        table.hear(b"good", Heartbeat(tuple(range(20))))
        table.tick(1)
        offers |= table.offers()
    assert any(peer == b"bad" for peer, _ in offers.values())


def test_a_job_that_failed_at_many_idle_nodes_goes_to_the_one_that_is_left() -> None:
    """More nodes should not have it than are looked at in the first place."""
    table = Table(max_attempts=99)
    for number in range(30):
        table.hello(b"n%02d" % number, credit=1)
    table.submit(1)
    seen = set()
    for _ in range(30):
        (peer, task) = table.offers()[1]
        assert peer not in seen
        seen.add(peer)
        table.hear(peer, TaskFailed(task, "raised", "no"))


def test_a_benched_node_is_better_than_none() -> None:
    table = Table(max_attempts=9)
    table.hello(b"bad", credit=1)
    for number in range(1, 4):
        table.submit(number)
    for task in range(1, 5):
        table.hear(b"bad", TaskFailed(task, "raised", "no"))
        assert table.offers(), "nobody works, and somebody could"


def test_a_broken_node_does_not_use_up_a_jobs_attempts_while_the_good_one_is_away() -> None:
    """Seen on a terminal: one broken node, one killed and one frozen ended a run."""
    table = Table()
    table.hello(b"bad", credit=1)
    table.hello(b"good", credit=1)
    for number in range(1, 9):
        table.submit(number)
    effects = []
    for _ in range(3):
        (task,) = table.dispatcher._nodes[b"bad"].tasks
        effects += table.hear(b"bad", TaskFailed(task, "raised", "broken"))
    assert any(isinstance(effect, Benched) for effect in effects)
    effects = table.dispatcher.unreachable(b"good", table.now)
    for _ in range(50):
        table.effects = []
        for task in list(table.dispatcher._nodes[b"bad"].tasks):
            effects += table.hear(b"bad", TaskFailed(task, "raised", "broken"))
        table.hear(b"bad", Heartbeat())
        effects += table.tick(1)
    assert not any(isinstance(effect, Fail) for effect in effects)
    table.hello(b"good", credit=1)
    assert table.offers()


def test_a_benched_node_does_not_use_up_the_attempts_of_a_job_that_failed_once_elsewhere() -> None:
    """Seen in a test: a good node's process crashed once, and a broken one ended the run."""
    table = Table()
    table.hello(b"bad", credit=1)
    for number in range(1, 4):
        table.submit(number)
        table.hear(b"bad", TaskFailed(table.in_hand(b"bad"), "raised", "broken"))
        table.dispatcher.cancel(number, table.now)
    assert table.dispatcher._nodes[b"bad"].benched
    table.hello(b"good", credit=1)
    table.submit(4)
    table.hear(b"good", TaskFailed(table.in_hand(b"good"), "crashed", "killed"))
    retried = table.in_hand(b"bad")
    table.submit(5)
    assert table.offers()[5][0] == b"good"
    table.hear(b"bad", TaskFailed(retried, "raised", "broken"))
    assert not table.offers()  # it waits for the good one, which is at work
    table.hear(b"good", solved(table.in_hand(b"good")))
    assert table.offers()[4][0] == b"good"


def test_what_was_given_to_a_node_that_was_as_lost_waits_for_the_one_that_has_it() -> None:
    """Seen on a busy machine: what a relay had carried was read after it was known to be gone."""
    table = Table()
    for peer in (b"a", b"b", b"c"):
        table.hello(peer, host="relay")
    for number, peer in ((1, b"c"), (2, b"a"), (3, b"b")):
        table.submit(number, JobDataType("", group=f"{number}"))
        assert table.offers()[number][0] == peer
    held = {peer: table.in_hand(peer) for peer in (b"a", b"b", b"c")}
    for peer, task in held.items():
        begin(table, peer, task)
    table.dispatcher.unreachable(b"a", table.now)
    table.now += 0.05
    begin(table, b"b", held[b"b"])  # said before the relay died
    assert table.offers()[2][0] == b"b"
    for peer in (b"b", b"c"):
        table.dispatcher.unreachable(peer, table.now)
    table.now += 1
    table.hello(b"b", host="relay", main="main", holds=(held[b"b"],))
    table.tick(1)
    assert table.in_hand(b"b") == held[b"b"]  # the other is with who is not back yet
    table.hello(b"a", host="relay", main="main", holds=(held[b"a"],))
    assert table.in_hand(b"a") == held[b"a"]
    assert table.dispatcher.open == 3


def test_what_was_given_to_a_node_that_was_as_lost_does_not_wait_for_ever() -> None:
    table = Table()
    for peer in (b"a", b"b", b"c"):
        table.hello(peer, host="relay")
    for number in (1, 2, 3):
        table.submit(number, JobDataType("", group=f"{number}"))
        begin(table, *table.offers()[number])
    held = {peer: table.in_hand(peer) for peer in (b"b", b"c")}
    table.dispatcher.unreachable(b"a", table.now)
    table.now += 0.05
    begin(table, b"b", held[b"b"])
    for peer in held:
        table.dispatcher.unreachable(peer, table.now)
    for peer, task in held.items():
        table.hello(peer, host="relay", main="main", holds=(task,))
    assert not table.offers()
    for _ in range(6):
        for peer, task in held.items():
            begin(table, peer, task)
        table.tick(1)
    assert sum(len(table.dispatcher._nodes[peer].tasks) for peer in held) == 3


def test_a_node_on_a_bad_line_is_neither_benched_nor_shunned_nor_is_its_job_given_up() -> None:
    """Seen in a test that took a minute: the only node was not trusted any more."""
    table = Table(max_attempts=3)
    for number in range(20):
        peer = b"p%d" % number
        table.hello(peer, node="id-a", name="a")
        if not number:
            table.submit(1)
        assert table.offers()[1][0] == peer
        begin(table, peer, number + 1)
        table.dispatcher.unreachable(peer, table.now)
        table.now += 0.1


def test_a_node_that_dies_time_and_again_is_benched_by_name() -> None:
    table = Table(max_attempts=9)
    benched = []
    for life in range(3):
        table.hello(b"p%d" % life, node=f"id-{life}", name="lab")
        table.submit(life + 1)
        benched += [
            effect
            for effect in table.dispatcher.unreachable(b"p%d" % life, table.now)
            if isinstance(effect, Benched)
        ]
        table.now += 10
    (bench,) = benched
    assert (bench.node, bench.reason) == ("lab", "it was lost 3 times within 20 s")
    table.hello(b"p3", node="id-3", name="lab")
    assert table.dispatcher.view(table.now).nodes[0].benched


def test_a_welcome_after_a_refusal_is_no_business_of_the_dispatcher() -> None:
    """Found by the fuzzer: a session that was refused broke on a Welcome."""
    session = Session(HELLO)
    session.greet(0.0)
    session.receive(Refuse("domain", "no"), 0.0)
    assert session.receive(Welcome("main", 1.0), 0.0) == []


# Found in review: ways to hold a job for ever, to lose one, or to break the dispatcher.


def with_an_idle_node(**options: Any) -> Table:
    """Return a table whose job 1 is at `a`, and with `b` idle."""
    table = Table()
    table.hello(b"a")
    table.submit(1, JobDataType("x", **options))
    table.hello(b"b")
    return table


def given_to_b(table: Table, say: Any, seconds: float, step: float = 1.0) -> bool:
    """Whether `b` is given the job while `a` says something again and again."""
    for number in range(round(seconds / step)):
        say(number)
        table.hear(b"b", Heartbeat(tuple(table.dispatcher._nodes[b"b"].tasks)))
        table.tick(step)
        if 1 in table.offers():
            return True
    return False


def test_a_recall_that_is_ignored_is_not_waited_for() -> None:
    table = with_an_idle_node()
    assert given_to_b(table, lambda n: table.hear(b"a", Waiting((1,))), 20)


def test_progress_that_goes_up_and_down_is_none() -> None:
    table = with_an_idle_node(stall_seconds=10)

    def flicker(number: int) -> None:
        table.hear(b"a", Heartbeat((1,), {1: 0.99 if number % 2 else 1.0}))

    assert given_to_b(table, flicker, 30)


def test_a_job_that_is_nearly_done_for_ever_gets_a_second_runner() -> None:
    table = with_an_idle_node()
    assert given_to_b(
        table, lambda n: table.hear(b"a", Heartbeat((1,), {1: 1 - 0.5 / (n + 1)})), 200
    )


def test_a_chunk_that_comes_again_and_again_is_no_progress() -> None:
    table = with_an_idle_node()
    spec = specify(np.zeros(CHUNK_BYTES * 3, np.uint8))
    table.hear(b"a", SolutionReady(1, {}, b"", {"x": spec}))

    def repeat(number: int) -> None:
        table.hear(b"a", Heartbeat((1,)))
        table.hear(b"a", Chunk(spec.digest, 0, bytes(CHUNK_BYTES)))

    assert given_to_b(table, repeat, 60)


def test_a_deadline_counts_across_new_connections() -> None:
    table = Table()
    table.hello(b"a")
    table.submit(1, JobDataType("x", timeout_seconds=20))
    begin(table, b"a", 1)
    stories = []
    for number in range(6):
        peer = b"a%d" % number
        table.hello(peer, node="id-a", name="a", main="main", holds=(1,))
        begin(table, peer, 1)
        stories += [e.attempt.kind for e in table.tick(5) if isinstance(e, Retry)]
        if stories:
            break
    assert stories == ["deadline"]


def test_a_node_that_takes_nothing_keeps_nobody_else_from_trying_again() -> None:
    table = Table()
    table.hello(b"a", credit=1)
    table.hello(b"lazy", credit=0)
    table.submit(1)
    table.hear(b"a", TaskFailed(1, "raised", "no"))
    assert table.offers() == {1: (b"a", 2)}


def test_the_last_attempts_unfit_solution_does_not_hide_a_good_one() -> None:
    table = Table(keeps=True, max_attempts=1)
    table.hello(b"a")
    table.submit(1)
    begin(table, b"a", 1)
    table.hello(b"b")
    for _ in range(40):
        table.hear(b"a", Heartbeat((1,), {1: 0.0}))
        table.hear(b"b", Heartbeat(tuple(table.dispatcher._nodes[b"b"].tasks)))
        table.tick(1)
    table.hear(b"a", SolutionReady(1, {}, b"bad", {}))
    table.hear(b"b", SolutionReady(2, {}, b"good", {}))
    effects = table.dispatcher.unfit(1, "bad", table.now)
    assert not any(isinstance(effect, Fail) for effect in effects)
    (good,) = [effect for effect in effects if isinstance(effect, Keep)]
    assert good.task == 2


def test_an_unfit_solution_is_one_attempt_though_its_node_connects_anew_meanwhile() -> None:
    table = Table(keeps=True)
    table.hello(b"a")
    table.submit(1)
    table.hear(b"a", SolutionReady(1, {}, b"bad", {}))
    table.hello(b"a2", node="id-a", name="a", main="main", holds=(1,))
    table.hear(b"a2", SolutionReady(1, {}, b"bad", {}))
    effects = table.dispatcher.unfit(1, "bad", table.now)
    assert [type(e) for e in effects if isinstance(e, (Keep, Retry))] == [Retry]
    assert Send(b"a2", Reject(1, "bad")) in effects


def test_tasks_from_before_that_fail_make_room_for_others() -> None:
    table = remembering(t7=(1, "id-a"), t8=(2, "id-a"))
    table.hello(b"a", main="main", holds=(7, 8))
    for task in (7, 8):
        table.hear(b"a", TaskFailed(task, "raised", "no"))
    table.submit(3)
    assert 3 in table.offers()


def test_tasks_from_before_whose_jobs_never_come_are_let_go() -> None:
    table = remembering(t7=(1, "id-a"), t8=(2, "id-a"))
    table.hello(b"a", main="main", holds=(7, 8))
    table.submit(3)
    assert not table.offers()
    for _ in range(601):
        table.hear(b"a", Heartbeat((7, 8)))
        table.tick(1)
        if table.offers():
            break
    assert 3 in table.offers()
    assert Send(b"a", Cancel(7)) in table.effects


def test_what_was_announced_before_its_job_and_can_not_be_fetched_is_a_failed_attempt() -> None:
    table = remembering(t7=(1, "id-a"), t8=(2, "id-a"))
    table.hello(b"a", main="main", holds=(7, 8))
    spec = specify(np.zeros(CHUNK_BYTES * 2, np.uint8))
    other = replace(spec, shape=(CHUNK_BYTES * 3,))
    table.hear(b"a", SolutionReady(7, {}, b"", {"x": spec}))
    table.hear(b"a", SolutionReady(8, {}, b"", {"x": other}))
    table.submit(1)
    table.submit(2)
    (retry,) = [effect for effect in table.effects if isinstance(effect, Retry)]
    assert (retry.job, retry.attempt.kind) == (2, "transfer")


def test_a_main_node_that_stood_still_for_an_hour_notices_silence_at_once() -> None:
    table = Table()
    table.hello(b"a")
    table.now += 3600
    table.hear(b"a", Heartbeat())  # it was drained before the tick
    assert not table.tick(0.25, 0.25)
    left = [effect for effect in table.tick(11) if isinstance(effect, Left)]
    assert left, "a node that is silent now is excused for another hour"


def test_giving_back_what_was_not_asked_for_goes_on_at_the_pace_of_ticks() -> None:
    table = Table()
    table.hello(b"a", credit=1)
    table.submit(1)
    ((_, task),) = table.offers().values()
    table.hear(b"a", Returned(task))
    assert not table.offers()
    table.tick(0.5)
    assert table.offers() == {1: (b"a", task + 1)}


def test_a_nodes_words_are_shown_and_nothing_of_them_is_obeyed() -> None:
    table = Table(max_attempts=1)
    table.hello(b"a")
    table.submit(1)
    said = TaskFailed(1, "lost\n\x1b[2J", "red \x1b[31m\r\nline", "a\n\x07b")
    table.hear(b"a", *decode(encode([said])))
    (fail,) = [effect for effect in table.effects if isinstance(effect, Fail)]
    (attempt,) = fail.story
    assert attempt.kind == "raised"
    assert attempt.message == "red  [31m  line"
    assert attempt.traceback == "a\n b"


def test_a_job_moves_by_the_table_and_no_other_way() -> None:
    events = {event for _, event in JOB_TRANSITIONS}
    for state in JobState:
        for event in events:
            job = Job.of(1, JobDataType("x"))
            job.state = state
            if (state, event) in JOB_TRANSITIONS:
                job.move(event)
                assert job.state is JOB_TRANSITIONS[state, event]
            else:
                with pytest.raises(LocalProtocolError, match=f"is {state.value}: can't {event}"):
                    job.move(event)


# Who somebody is, is what his key says.

LAB1, LAB2 = Key(b"1" * 40, "lab1"), Key(b"2" * 40, "lab2")


def test_nobody_with_another_key_takes_a_nodes_id() -> None:
    table = Table(keeps=True)
    table.hello(b"a", LAB1)
    table.submit(1)
    assert table.in_hand(b"a") == 1
    effects = table.hello(b"eve", LAB2, node="id-a", name="a", main="main", holds=(1,))
    (refuse,) = table.said(Refuse)
    assert refuse.code == REFUSE_ID
    (refused,) = [effect for effect in effects if isinstance(effect, Refused)]
    assert "the id id-a is another node's" in refused.reason
    assert "it came with the key of lab2" in refused.reason
    assert table.in_hand(b"a") == 1  # undisturbed
    table.hear(b"eve", solved(1))
    assert not [effect for effect in table.effects if isinstance(effect, (Keep, Accept))]


def test_nobody_takes_the_id_of_a_node_that_is_away() -> None:
    table = Table()
    table.hello(b"a", LAB1)
    table.submit(1)
    table.dispatcher.unreachable(b"a", table.now)
    table.hello(b"eve", LAB2, node="id-a", name="a", main="main", holds=(1,))
    assert table.said(Refuse)
    table.hello(b"a2", LAB1, node="id-a", name="a", main="main", holds=(1,))
    assert table.said(Welcome)
    assert table.in_hand(b"a2") == 1


def test_what_a_node_held_before_a_restart_is_its_keys_too() -> None:
    before = Table(keeps=True)
    before.hello(b"a", LAB1)
    (offered,) = [effect for effect in before.submit(1) if isinstance(effect, Offered)]
    table = remembering(t1=(1, offered.node))
    table.hello(b"eve", LAB2, node="id-a", name="a", main="main", holds=(1,))
    assert Send(b"eve", Cancel(1)) in table.effects
    table = remembering(t1=(1, offered.node))
    table.hello(b"a", LAB1, main="main", holds=(1,))
    assert table.hear(b"a", solved(1)) == []  # its job is not here yet
    table.submit(1)
    assert kept(table)


def test_two_nodes_with_one_key_are_two_nodes_and_neither_is_the_other() -> None:
    table = Table()
    table.hello(b"a", LAB1, secret=b"a's")
    table.hello(b"b", LAB1, secret=b"b's")
    assert {node.name for node in table.dispatcher.view(table.now).nodes} == {"a.id-a", "b.id-b"}
    table.submit(1)
    table.hello(b"c", LAB1, node="id-a", name="a", secret=b"b's")
    assert table.said(Refuse)
    table.hello(b"c", LAB1, node="id-a", name="a", secret=b"a's")
    assert table.said(Welcome)


def test_without_keys_a_secret_tells_who_is_who() -> None:
    table = Table()
    table.hello(b"a", secret=b"only a knows")
    table.hello(b"eve", node="id-a", name="a", secret=b"a guess")
    assert table.said(Refuse)
    table.hello(b"a2", node="id-a", name="a", secret=b"only a knows")
    assert table.said(Welcome)
    assert table.dispatcher.peers == [b"a2"]


def test_attempts_name_the_key_where_a_node_calls_itself_otherwise() -> None:
    table = Table(max_attempts=1)
    table.hello(b"eve", LAB2, name="lab1")
    table.submit(1)
    table.hear(b"eve", TaskFailed(1, "raised", "no"))
    (fail,) = [effect for effect in table.effects if isinstance(effect, Fail)]
    assert fail.story[0].node == "lab1.id-eve (key lab2)"


def test_a_bad_neighbour_does_not_bench_the_name_that_it_takes() -> None:
    table = Table(max_attempts=99)
    table.hello(b"good", LAB1, name="lab1")
    for number in range(3):
        peer = b"eve%d" % number
        table.hello(peer, LAB2, name="lab1")
        table.submit(number)
        begin(table, peer, next(iter(table.dispatcher._nodes[peer].tasks), 0))
        table.dispatcher.unreachable(peer, table.now)
    assert not table.dispatcher._nodes[b"good"].benched


def test_one_lie_benches_whoever_comes_with_its_key() -> None:
    table = Table(keeps=True)
    table.hello(b"a", LAB1)
    table.submit(1)
    table.hello(b"b", LAB2)
    table.hear(b"a", solved(1))
    effects = table.dispatcher.unfit(1, "labels outside of the 10 classes", table.now, lie=True)
    (benched,) = [effect for effect in effects if isinstance(effect, Benched)]
    assert benched.node == "key lab1"
    assert "it claimed what can't be: labels outside" in benched.reason
    assert Send(b"a", Reject(1, "labels outside of the 10 classes")) in effects
    table.effects = effects
    assert table.offers() == {1: (b"b", 2)}
    table.hello(b"again", LAB1)
    table.submit(2)
    assert table.offers() == {2: (b"b", 3)}


def test_who_diverged_is_not_benched() -> None:
    table = Table(keeps=True)
    table.hello(b"a")
    table.submit(1)
    table.hear(b"a", solved(1))
    effects = table.dispatcher.unfit(1, "numbers that are not finite", table.now)
    assert not [effect for effect in effects if isinstance(effect, Benched)]


# What serves nobody is counted.


def noise_of(table: Table, peer: bytes, message: Message) -> float:
    before = table.dispatcher.noise
    table.hear(peer, message)
    return table.dispatcher.noise - before


def test_work_makes_no_noise_and_everything_else_does() -> None:
    table = Table()
    table.hello(b"a")
    array = np.zeros(3 * CHUNK_BYTES, np.uint8)
    table.submit(1, JobDataType({"x": array}))
    digest = specify(array).digest
    assert noise_of(table, b"a", Need(digest, 0, 3)) == 0
    assert noise_of(table, b"a", Need(digest, 2, 1)) == 0
    assert noise_of(table, b"a", Need(b"z" * 16, 0, 16)) > 0  # none of its arrays
    assert sum(noise_of(table, b"a", Need(digest, 0, 3)) for _ in range(200)) > 1000
    assert noise_of(table, b"a", Chunk(digest, 0, b"x" * 100)) > 0
    assert noise_of(table, b"a", solved(1)) < 0
    for message in (solved(1), solved(9), TaskFailed(9, "raised", "x"), Returned(9), Ready(1),
                    Busy(1), Waiting((1,)), Heartbeat(), Unknown(99), HELLO):  # fmt: skip
        assert noise_of(table, b"a", message) > 0, message
    assert noise_of(table, b"stranger", solved(1)) > 0


def test_tasks_that_nobody_knows_are_cancelled_some_at_a_time() -> None:
    table = Table()
    table.hello(b"a")
    assert noise_of(table, b"a", Heartbeat(tuple(range(1000, 5000)))) > 100
    assert len(table.said(Cancel)) == MAX_CANCELS


def test_nobody_is_told_arrays_of_jobs_that_are_not_its_own() -> None:
    table = Table()
    table.hello(b"a")
    array = np.zeros(CHUNK_BYTES, np.uint8)
    table.submit(1, JobDataType({"x": array}))
    table.hello(b"b")
    table.hear(b"b", Need(specify(array).digest, 0, 1))
    (chunk,) = table.said(Chunk)
    assert chunk.data == b""


# What may be under way.


def test_what_a_peer_may_have_sent_is_what_it_was_asked_for() -> None:
    table = Table()
    allowance = table.dispatcher.allowance
    assert allowance(b"a") == UNASKED_BYTES
    table.hello(b"a")
    assert allowance(b"a") == UNASKED_BYTES
    table.submit(1)
    assert allowance(b"a") == UNASKED_BYTES + TASK_BYTES
    spec = specify(np.zeros(100 * CHUNK_BYTES, np.uint8))
    table.hear(b"a", SolutionReady(1, {}, b"", {"x": spec}))
    table.hear(b"a", Chunk(spec.digest, 0, bytes(CHUNK_BYTES)))  # the line is fast
    asked = sum(need.count for need in table.said(Need))
    assert asked == 99
    assert allowance(b"a") >= UNASKED_BYTES + TASK_BYTES + asked * CHUNK_BYTES
    table.dispatcher.cancel(1, table.now)
    assert allowance(b"a") >= asked * CHUNK_BYTES  # it may not have heard of that
    for _ in range(70):
        table.hear(b"a", Heartbeat())
        table.tick(0.5)
    assert allowance(b"a") == UNASKED_BYTES


def test_one_window_for_all_arrays_of_a_node_and_one_for_all_nodes() -> None:
    table = Table()
    asked = 0
    for number in range(1, 31):
        peer = b"n%d" % number
        table.hello(peer)
        table.submit(number)
        arrays = {
            str(n): specify(np.full(200 * CHUNK_BYTES, n + number, np.uint8)) for n in range(4)
        }
        table.hear(peer, SolutionReady(number, {}, b"", arrays))
        (need,) = table.said(Need)
        table.hear(peer, Chunk(need.digest, 0, bytes(CHUNK_BYTES)))  # the line is fast
        asked_of_it = sum(need.count for need in table.said(Need))
        assert OWN_WINDOW <= asked_of_it <= WINDOW
        asked += asked_of_it
    assert SHARED_WINDOW < asked <= SHARED_WINDOW + 30 * OWN_WINDOW


def test_solutions_of_many_nodes_arrive_through_the_shared_window() -> None:
    table = Table()
    arrays = {b"n%d" % n: np.full(9 * CHUNK_BYTES + 7, n, np.uint8) for n in range(20)}
    specs = {peer: specify(array) for peer, array in arrays.items()}
    for number, peer in enumerate(arrays, 1):
        table.hello(peer, credit=1)
        table.submit(number)
        table.hear(peer, SolutionReady(number, {}, b"", {"x": specs[peer]}))
    accepted = 0
    owed = {peer: dispatcher_needs(table, peer) for peer in arrays}
    while any(owed.values()):
        for peer, array in arrays.items():
            for index in owed[peer][:3]:
                start = index * CHUNK_BYTES
                table.hear(
                    peer, Chunk(specs[peer].digest, index, array[start : start + CHUNK_BYTES].data)
                )
                accepted += sum(isinstance(effect, Accept) for effect in table.effects)
        table.tick(0.5)
        owed = {peer: dispatcher_needs(table, peer) for peer in arrays}
    assert accepted == 20


def dispatcher_needs(table: Table, peer: bytes) -> list[int]:
    """Return the chunks that a node is asked for and has not sent."""
    node = table.dispatcher._nodes.get(peer)
    if node is None:
        return []
    return [
        index
        for arrival in node.inbox._arrivals.values()
        for index in range(arrival.asked)
        if arrival.lacks(index, 1)
    ]


# What a node's owner allows.


def test_a_job_that_is_too_large_for_a_node_goes_to_another() -> None:
    table = Table()
    table.hello(b"small", max_job_bytes=1 << 20)
    table.submit(1, JobDataType({"x": np.zeros(2 << 20, np.uint8)}))
    assert not table.offers()
    misfit = table.dispatcher.view(table.now).misfit
    assert misfit == (
        "small.id-small takes no job of more than 1,048,576 bytes, and this one has 2,097,152"
    )
    table.submit(2)
    assert table.offers() == {2: (b"small", 1)}
    table.hello(b"large")
    assert table.offers() == {1: (b"large", 2)}


def like(group: str = "g") -> JobDataType:
    return JobDataType("x", group=group)


def test_jobs_like_one_that_a_node_stopped_go_to_others() -> None:
    table = Table()
    table.hello(b"hasty", max_job_seconds=60.0)
    table.submit(1, like())
    begin(table, b"hasty", 1)
    table.now += 59.9  # it is heard of a little late
    table.hear(b"hasty", TaskFailed(1, "limit", "this node stops jobs after 60 s"))
    table.submit(2, like())
    assert not table.offers()
    assert "stops jobs after 60 s" in table.dispatcher.view(table.now).misfit
    table.hello(b"other", max_job_seconds=50.0)
    assert not table.offers()
    table.hello(b"patient")
    assert set(table.offers().values()) == {(b"patient", 2), (b"patient", 3)}
    assert not table.dispatcher._nodes[b"hasty"].benched


def test_a_node_that_stopped_a_job_gets_others_unless_they_are_known_to_be_like_it() -> None:
    """Found by a user: one that was stopped by accident barred its node from all others."""
    table = Table()
    table.hello(b"hasty", max_job_seconds=60.0)
    table.submit(1, like(""))  # of jobs without a group nothing is known
    begin(table, b"hasty", 1)
    table.hear(b"hasty", TaskFailed(1, "limit", "this node stops jobs after 60 s"))
    ((_, task),) = table.offers().values()
    table.hear(b"hasty", solved(task))
    table.submit(2, like(""))
    ((_, task),) = table.offers().values()
    table.hear(b"hasty", solved(task))
    table.submit(3, like())  # and of those with one, what it did with others says more than once
    ((_, task),) = table.offers().values()
    table.hear(b"hasty", solved(task))
    table.submit(4, like())
    ((_, task),) = table.offers().values()
    table.now += 60
    table.hear(b"hasty", TaskFailed(task, "limit", "this node stops jobs after 60 s"))
    ((_, task),) = table.offers().values()
    table.now += 60
    table.hear(b"hasty", TaskFailed(task, "limit", "this node stops jobs after 60 s"))
    assert not table.offers()
    assert table.dispatcher.view(table.now).misfit


def test_why_nobody_takes_what_waits_is_told() -> None:
    table = Table()
    table.submit(1, JobDataType("x", kind="neural"))
    assert not table.dispatcher.view(table.now).misfit
    table.hello(b"a", kinds=("algebraic",))
    table.hello(b"b", kinds=("algebraic",))
    misfit = table.dispatcher.view(table.now).misfit
    assert misfit == "a.id-a takes no neural jobs, only algebraic; nor does another"
    table.hello(b"c", kinds=("", "neural"))
    assert not table.dispatcher.view(table.now).misfit


def test_jobs_are_cancelled_newest_first_in_no_time() -> None:
    """Found in a red team's hands: sixty thousand blocked the main node for ten seconds."""
    table = Table()
    for number in range(1, 60_001):
        table.submit(number)
    begun = time.process_time()
    for number in range(60_000, 0, -1):
        table.dispatcher.cancel(number, table.now)
    assert time.process_time() - begun < 3
    assert not table.dispatcher.open


# What somebody who is let in does to others' jobs, found by others.

RAISED = ("raised", "sorry", "")


@pytest.mark.parametrize("keyed", [True, False])
@pytest.mark.parametrize("how", ["raised", "limit", "lost"])
def test_nobody_alone_makes_a_job_fail(keyed: bool, how: str) -> None:
    """By as many nodes as it likes, with one key or from one host, while another's is here."""
    table = Table()
    mine: dict[str, Any] = {"host": "10.0.0.1"}
    theirs: dict[str, Any] = {"host": "10.0.0.2"}
    if keyed:
        mine["key"], theirs["key"] = Key(b"good", "good"), Key(b"bad", "bad")
    table.hello(b"good", tasks=1, credit=1, **mine)
    for number in range(1, 41):
        table.submit(number)
    for turn in range(50):
        bad = b"bad%d" % turn
        table.hello(bad, tasks=1000, credit=1000, **theirs)
        for task in list(table.dispatcher._nodes[bad].tasks):
            begin(table, bad, task)
        for task in list(table.dispatcher._nodes[bad].tasks):
            if how != "lost":
                table.hear(bad, TaskFailed(task, *(how, "sorry", "")))
            assert not [e for e in table.effects if isinstance(e, Fail)]
        table.effects = table.dispatcher.unreachable(bad, table.now)
        assert not [e for e in table.effects if isinstance(e, Fail)]
    done = 0
    while table.dispatcher._nodes[b"good"].tasks:
        table.hear(b"good", solved(table.in_hand(b"good")))
        done += len([e for e in table.effects if isinstance(e, Accept)])
    assert done == 40


def test_a_job_that_fails_with_three_owners_or_with_all_that_are_here_has_failed() -> None:
    table = Table()
    for name in (b"a", b"b", b"c", b"d"):
        table.hello(name, key=Key(name, name.decode()))
    table.submit(1)
    for _ in range(3):
        ((peer, task),) = table.offers().values()
        table.hear(peer, TaskFailed(task, *RAISED))
    (failed,) = [e for e in table.effects if isinstance(e, Fail)]
    assert len(failed.story) == 3
    table = Table()
    for name in (b"a", b"b", b"c", b"d"):  # all of one owner: what its jobs come to is its affair
        table.hello(name, host="10.0.0.1")
    table.submit(1)
    for _ in range(3):
        ((peer, task),) = table.offers().values()
        table.hear(peer, TaskFailed(task, *RAISED))
    assert [e for e in table.effects if isinstance(e, Fail)]


def test_what_a_node_says_of_how_long_jobs_take_is_believed_as_far_as_it_was_seen() -> None:
    table = Table()
    table.hello(b"liar", max_job_seconds=1e8)
    table.submit(1, like())
    begin(table, b"liar", 1)
    table.hear(b"liar", TaskFailed(1, "limit", "it would take three years"))
    table.dispatcher.unreachable(b"liar", table.now)
    table.hello(b"honest", max_job_seconds=3600.0)
    assert table.offers() == {1: (b"honest", 2)}
    table.hear(b"honest", solved(2))
    table.submit(2, like())
    assert table.offers() == {2: (b"honest", 3)}


def test_a_newcomer_is_given_few_jobs_whatever_it_has_room_for() -> None:
    table = Table()
    table.hello(b"a", tasks=100_000, credit=100_000)
    for number in range(1, 2000):
        table.submit(number)
    assert len(table.dispatcher._nodes[b"a"].tasks) == FIRST_TASKS + 1


def test_a_node_that_does_not_read_its_offers_is_given_no_more() -> None:
    table = Table()
    table.hello(b"a", tasks=64, credit=64)
    for number in range(1, 65):
        table.submit(number, JobDataType("x", {"long": "y" * 300_000}))
    tasks = table.dispatcher._nodes[b"a"].tasks
    assert len(tasks) * 300_000 < UNHEARD_OFFER_BYTES + 600_000
    table.hear(b"a", Heartbeat())  # it says that it has none of them
    table.tick(1.0)
    assert len(tasks) * 300_000 < UNHEARD_OFFER_BYTES + 600_000
    given = len(tasks)
    table.hear(b"a", Heartbeat(tuple(tasks)))
    table.tick(0.5)
    assert len(tasks) > given
    for task in list(tasks):  # a node that solves them gets on
        table.hear(b"a", solved(task))
    table.tick(0.5)
    assert tasks


def test_offers_are_repeated_some_at_a_time() -> None:
    table = Table()
    table.hello(b"a", tasks=64, credit=1024)
    table.dispatcher._nodes[b"a"].solved = 1000
    for number in range(1, 1025):
        table.submit(number)
    assert len(table.dispatcher._nodes[b"a"].tasks) == 1024
    table.now += 4
    table.hear(b"a", Heartbeat())
    assert len(table.said(JobOffer)) == MAX_REPEATS
    table.hear(b"a", Heartbeat())
    assert len(table.said(JobOffer)) == MAX_REPEATS


def test_solutions_whose_arrays_do_not_come_take_no_more_than_they_may() -> None:
    table = Table()
    for number in range(1, 129):
        table.submit(number)
    table.hello(b"a", tasks=64, credit=64)
    table.hello(b"b", tasks=64, credit=64)
    words = {f"{n}": "ab" * 2 for n in range(40_000)}
    spec = ArraySpec("float64", (30_000,), b"d" * 16)
    for peer in (b"a", b"b"):
        for task in list(table.dispatcher._nodes[peer].tasks):
            digest = task.to_bytes(16, "big")
            table.hear(peer, SolutionReady(task, words, b"", {"w": replace(spec, digest=digest)}))
    node = table.dispatcher._nodes
    held = [t for peer in (b"a", b"b") for t in node[peer].tasks.values() if t.solution]
    assert len(held) * PLAIN_EXPANSION * packed_bytes(words) <= HELD_SOLUTION_BYTES
    assert held
    late = next(t for t in node[b"b"].tasks.values() if t.solution is None)
    small = SolutionReady(late.id, {"loss": 0.5}, b"", {"w": replace(spec, digest=b"s" * 16)})
    table.hear(b"b", small)  # what is small is taken in all the same
    assert late.solution is small
    table.tick(TRANSFER_SECONDS + 1)  # and who sends nothing is waited for no longer
    assert not table.dispatcher._held


def test_a_solution_that_claims_too_much_leaves_no_count_behind() -> None:
    """Else a liar could fill up the room that all share, and nobody's solution would be taken."""
    table = Table(max_solution_bytes=1 << 20, max_attempts=10_000)
    table.hello(b"a", tasks=1, credit=1)
    table.submit(1)
    spec = ArraySpec("uint8", (1 << 30,), b"d" * 16)
    for _ in range(20):
        (task,) = table.dispatcher._nodes[b"a"].tasks
        table.hear(b"a", SolutionReady(task, {}, b"x" * 200_000, {"w": spec}))
        assert not table.dispatcher._held


def test_asking_for_what_is_not_there_is_noise_and_no_progress() -> None:
    table = Table()
    table.hello(b"a")
    array = np.zeros(3 * CHUNK_BYTES, np.uint8)
    table.submit(1, JobDataType({"x": array}))
    digest = specify(array).digest
    (task,) = table.dispatcher._nodes[b"a"].tasks.values()
    moved = task.moved
    table.now += 1
    assert noise_of(table, b"a", Need(digest, 1 << 30, 1)) >= 1
    assert task.moved == moved
    assert noise_of(table, b"a", Need(digest, 0, 1)) == 0
    assert task.moved == table.now
    table.now += 1
    for _ in range(300):
        table.hear(b"a", Need(digest, 0, 1))
    assert noise_of(table, b"a", Need(digest, 0, 1)) > 1
    assert task.moved < table.now + 1


def test_jobs_of_nodes_that_were_lost_are_let_go() -> None:
    table = Table()
    for turn in range(50):
        table.hello(b"n%d" % turn)
        data = JobDataType({"x": np.full(1 << 20, turn, np.uint8)})
        alive = weakref.ref(data.arrays["x"])
        table.submit(turn + 1, data)
        for task in list(table.dispatcher._nodes[b"n%d" % turn].tasks):
            begin(table, b"n%d" % turn, task)
        table.dispatcher.unreachable(b"n%d" % turn, table.now)
        table.effects = table.dispatcher.cancel(turn + 1, table.now)
        del data
    gc.collect()
    assert alive() is None


def test_who_was_silent_may_still_send_what_was_asked_of_it() -> None:
    """Frozen while it hands a solution over, and thawed: chunks are on their way."""
    table = Table()
    table.hello(b"a")
    table.submit(1)
    spec = ArraySpec("uint8", (64 * CHUNK_BYTES,), b"d" * 16)
    table.hear(b"a", SolutionReady(1, {}, b"", {"x": spec}))
    before = table.dispatcher.allowance(b"a")
    assert before > 16 * CHUNK_BYTES
    table.tick(12.0)
    assert not table.dispatcher.peers
    assert table.dispatcher.allowance(b"a") >= before
    assert table.dispatcher.allowance(b"b") == UNASKED_BYTES
    table.dispatcher.unreachable(b"a", table.now)
    assert table.dispatcher.allowance(b"a") == UNASKED_BYTES


def test_what_an_old_connection_brings_is_not_heard_any_more() -> None:
    """This main node was frozen: its nodes came anew, and what they said before is still there."""
    table = Table()
    table.hello(b"a", node="same", name="n")
    table.submit(1)
    table.hello(b"b", node="same", name="n", holds=(1,), main="main")
    assert table.dispatcher.peers == [b"b"]
    assert [e.peer for e in table.effects if isinstance(e, Superseded)] == [b"a"]


def test_a_large_solution_may_come_twice() -> None:
    """It is said again after three seconds, and this process may have stood still for longer."""
    table = Table()
    table.hello(b"a")
    table.submit(1)
    table.hear(b"a", solved(1))
    assert table.dispatcher.allowance(b"a") == UNASKED_BYTES
    table.dispatcher.may_repeat(b"a", table.now)
    assert table.dispatcher.allowance(b"a") == UNASKED_BYTES + TASK_BYTES


def test_a_job_fails_for_good_though_somebody_is_here_who_takes_nothing() -> None:
    """Found by a red team: a poisonous job failed thousands of times for a node without credit."""
    table = Table()
    table.hello(b"idle", credit=0, host="10.0.0.1")
    table.hello(b"busy", credit=1, host="10.0.0.2")
    table.submit(1)
    failed = 0
    for _ in range(200):
        if table.dispatcher._nodes[b"busy"].tasks:
            table.hear(b"busy", TaskFailed(table.in_hand(b"busy"), "raised", "poison"))
            failed += 1
        if any(isinstance(effect, Fail) for effect in table.effects):
            break
        table.hear(b"busy", Heartbeat())
        table.hear(b"idle", Heartbeat())
        table.tick(0.5)
    assert failed == 3


def test_jobs_that_are_too_large_for_a_node_hide_none_that_it_could_take() -> None:
    """Found by a red team: behind 32 of them a small one waited for ever."""
    table = Table()
    table.hello(b"small", max_job_bytes=100_000)
    for number in range(1, 200):
        table.submit(number, JobDataType(b"x" * 200_000))
    table.submit(200)
    table.tick(1)
    assert table.dispatcher._nodes[b"small"].tasks


# Second runners, and what is asked back.


def doubled(**options: Any) -> tuple[Table, int, int]:
    """Return a table with a slow job at two nodes, a and b, and its tasks."""
    table = after_four_jobs_of_two_seconds(**options)
    begin(table, b"a", 5)
    table.hello(b"b")
    for _ in range(20):
        begin(table, b"a", 5)
        table.hear(b"b", Heartbeat())
        table.tick(0.5)
        if table.offers():
            return table, 5, table.offers()[5][1]
    raise AssertionError("nobody was given the slow job as well")


@pytest.mark.parametrize("how", ["raises", "is lost"])
def test_a_second_runner_that_fails_does_not_end_the_first(how: str) -> None:
    """Found in review: the job failed for good, and its healthy runner was cancelled."""
    table, first, second = doubled(max_attempts=1)
    if how == "raises":
        table.hear(b"b", TaskFailed(second, "raised", "no torch here"))
    else:
        table.effects = table.dispatcher.unreachable(b"b", table.now)
    assert not [e for e in table.effects if isinstance(e, Fail)]
    assert not table.said(Cancel)
    for _ in range(40):  # nor is there a third one, that nobody would wait for
        begin(table, b"a", first)
        table.tick(0.5)
        assert not table.offers()
    table.hear(b"a", solved(first))
    assert [e for e in table.effects if isinstance(e, Accept)]


def test_a_job_fails_for_good_when_its_last_runner_has_failed() -> None:
    table, first, second = doubled(max_attempts=1)
    table.hear(b"b", TaskFailed(second, "raised", "no torch here"))
    table.hear(b"a", TaskFailed(first, "raised", "nor here"))
    (fail,) = [e for e in table.effects if isinstance(e, Fail)]
    assert [attempt.message for attempt in fail.story] == ["no torch here", "nor here"]


def test_a_job_that_nobody_can_take_keeps_no_other_from_a_second_runner() -> None:
    """Found in review: one job of another kind in the queue, and no slow job had one."""
    table = after_four_jobs_of_two_seconds()
    table.submit(99, JobDataType("x", kind="algebraic"))
    begin(table, b"a", 5)
    table.hello(b"b")
    for _ in range(8):
        begin(table, b"a", 5)
        table.hear(b"b", Heartbeat())
        table.tick(0.5)
    assert len(table.dispatcher._nodes[b"b"].tasks) == 1


def test_a_solution_that_is_arriving_is_not_asked_back() -> None:
    """Found in review: it was thrown away half a minute long, and its job queued again."""
    table = Table()
    table.hello(b"a", tasks=1, credit=2)
    for number in (1, 2):
        table.submit(number)
    table.hear(b"a", Heartbeat((1, 2), {1: 0.0}))
    table.hear(b"a", Waiting((2,)))
    table.hello(b"b", credit=1)
    assert Send(b"a", Recall(2)) in table.effects
    array = np.zeros(40 * CHUNK_BYTES, np.uint8)  # it had begun that moment
    table.hear(b"a", SolutionReady(2, {}, b"", {"x": specify(array)}))
    needs = deque(table.said(Need))
    while needs:
        need = needs.popleft()
        for chunk in answer(need, array):
            begin(table, b"a", 1, 0.1)
            table.hear(b"b", Heartbeat())
            table.tick(1)
            assert Send(b"a", Cancel(2)) not in table.effects
            assert 2 not in table.offers()
            table.hear(b"a", chunk)
            needs += table.said(Need)
    assert [e.job for e in table.effects if isinstance(e, Accept)] == [2]


def test_an_offer_is_not_made_again_and_again_while_it_is_on_its_way() -> None:
    """Found in review: a slow line had each of them once more every three seconds."""
    table = Table()
    table.hello(b"a", tasks=1, credit=1)
    table.submit(1)
    times = []
    for second in range(1, 61):
        table.tick(1)
        table.hear(b"a", Heartbeat())
        times += [second] * len(table.offers())
    assert 3 <= len(times) <= 4
    assert all(later > 1.5 * sooner for sooner, later in pairwise(times))


def test_an_array_that_waits_behind_others_is_no_task_that_stands_still() -> None:
    table = Table()
    table.hello(b"a", tasks=2, credit=2)
    arrays = [np.full(400 * CHUNK_BYTES, n, np.uint8) for n in range(2)]
    for number, array in enumerate(arrays, 1):
        table.submit(number, JobDataType({"x": array}, stall_seconds=30))
    first = specify(arrays[0]).digest
    for turn in range(100):  # a slow line: the first array takes minutes
        table.hear(b"a", Heartbeat((1, 2)))
        table.hear(b"a", Need(first, 4 * turn, 4))
        table.tick(2)
        assert not table.said(Cancel)


def test_a_solution_that_waits_behind_others_is_no_solution_that_stands_still() -> None:
    table = Table()
    table.hello(b"a", tasks=2, credit=2)
    specs = [ArraySpec("uint8", (400 * CHUNK_BYTES,), bytes([n]) * 16) for n in range(2)]
    for number, spec in enumerate(specs, 1):
        table.submit(number)
        table.hear(b"a", SolutionReady(number, {}, b"", {"x": spec}))
    for turn in range(100):
        table.hear(b"a", Heartbeat((1, 2)))
        table.hear(b"a", Chunk(specs[0].digest, turn, bytes(CHUNK_BYTES)))
        table.tick(2)
        assert not [e for e in table.effects if isinstance(e, Retry)]


def test_what_is_remembered_of_jobs_has_a_limit() -> None:
    """Found in review: a group for each run, and it grew for ever."""
    table = Table()
    table.hello(b"a", tasks=1, credit=1, max_job_seconds=5.0)
    for number in range(1, 3 * GROUPS):
        table.submit(number, JobDataType("x", group=f"run {number}"))
        if number % 2:
            table.hear(b"a", solved(table.in_hand(b"a")))
        else:
            table.hear(b"a", TaskFailed(table.in_hand(b"a"), "limit", "too long"))
            table.dispatcher.cancel(number, table.now)
    pace = table.dispatcher._placement.pace
    assert max(len(pace._durations), len(pace._least), len(pace._records)) <= 3 * GROUPS
    assert max(len(pace._durations), len(pace._least)) <= GROUPS


def test_a_node_that_does_not_know_yet_what_is_accepted_makes_no_noise() -> None:
    """Found by a test that failed at random: a fast node was cut off for a word in between."""
    table = Table()
    table.hello(b"a", tasks=64, credit=1000)
    told: list[int] = []
    for number in range(2000):
        table.submit(number)
        for task in list(table.dispatcher._nodes[b"a"].tasks):
            told.append(task)
            table.hear(b"a", solved(task))
    word = Heartbeat(tuple(told[-1000:]))
    noise = [noise_of(table, b"a", word) for _ in range(3)]
    assert max(noise) < 10
    assert not table.said(Cancel)  # it has been told
    table.now += UNCONFIRMED_SECONDS + 1
    assert sum(noise_of(table, b"a", word) for _ in range(3)) > 100  # by now it knows


def test_a_node_whose_main_node_has_no_time_to_read_is_not_blamed_for_it() -> None:
    """Found in a simulation: 2.8 s in which nothing was read, and an honest node was cut off.

    Its tasks became slow, and it said of each that it runs, and what else it had in hand.
    """
    table = Table()
    table.hello(b"a", credit=1000)
    for number in range(2000):
        table.submit(number)
    in_hand: list[int] = []
    while len(in_hand) < 800:
        in_hand = list(table.dispatcher._nodes[b"a"].tasks)
        for task in in_hand[: len(in_hand) // 2]:
            table.hear(b"a", solved(task))
    in_hand = list(table.dispatcher._nodes[b"a"].tasks)
    said: list[Message] = [solved(task) for task in in_hand[:-100]]
    for task in in_hand[-100:]:
        said += [Heartbeat(tuple(in_hand), {task: 0.5}), solved(task)]
    patience = Patience(table.now, Pool(table.now))
    for message in said:
        assert patience.bear(noise_of(table, b"a", message), table.now)
    assert patience.bear(1000, table.now)


def test_a_job_goes_to_a_node_that_has_the_device_it_wants() -> None:
    table = Table()
    table.hello(b"a", accelerator="cpu")
    table.submit(1, JobDataType("x", device="cuda"))
    table.submit(2, JobDataType("x", device="cpu"))
    assert table.offers().keys() == {2}, "what nobody takes is in nobody's way"
    table.hello(b"b", accelerator="")
    misfit = table.dispatcher.view(table.now).misfit
    assert misfit == "a.id-a has no cuda, only cpu; nor has another"
    table.hello(b"c", accelerator="cuda: NVIDIA H100 80GB HBM3")
    assert table.offers() == {1: (b"c", 2)}
    assert not table.dispatcher.view(table.now).misfit


def test_where_there_is_a_gpu_there_is_a_processor() -> None:
    table = Table()
    table.hello(b"a", accelerator="cuda: NVIDIA H100 80GB HBM3")
    table.submit(1, JobDataType("x", device="cpu"))
    assert table.offers() == {1: (b"a", 1)}
    table.submit(2, JobDataType("x"))
    assert table.offers() == {2: (b"a", 2)}


@pytest.mark.parametrize("accelerator", ["", "cuda: another"])
def test_a_second_runner_has_the_device_too(accelerator: str) -> None:
    table = Table()
    table.hello(b"gpu", accelerator="cuda: one")
    for number in range(1, 6):
        table.submit(number, JobDataType("x", group="g", device="cuda"))
        task = table.in_hand(b"gpu")
        begin(table, b"gpu", task)
        if number < 5:
            table.now += 1
            table.hear(b"gpu", solved(task))
    table.hello(b"other", accelerator=accelerator)
    doubled = 0
    for _ in range(60):
        table.hear(b"gpu", Heartbeat((task,), {task: 0.1}))
        table.hear(b"other", Heartbeat())
        doubled += any(isinstance(effect, Doubled) for effect in table.tick(1))
    assert doubled == bool(accelerator)
