"""Relays and switches that die, with everybody behind them; and jobs that nobody survives."""

from __future__ import annotations

import random
import time
from typing import Any

import numpy as np
import pytest

from protocol import JobDataType
from protocol.machine.absence import HOPE_SECONDS, RETURN_SECONDS, RETURNS_SECONDS
from protocol.machine.bench import Bench
from protocol.machine.effects import Accept, Benched, Fail, Keep, Send
from protocol.machine.ledger import Job
from protocol.wire.codec import specify
from protocol.wire.limits import CHUNK_BYTES, PARKED_BYTES
from protocol.wire.messages import (
    Accepted,
    ArraySpec,
    Cancel,
    Heartbeat,
    JobOffer,
    Need,
    SolutionReady,
)
from protocol.wire.transfer import answer

from .test_dispatch import Table, begin, solved

RELAY = "10.0.0.9"


def crowd(nodes: int, host: str = RELAY, **options: Any) -> tuple[Table, list[bytes]]:
    """Return a table of nodes at one host, the first of which runs the only job."""
    table = Table(**options)
    peers = [b"n%d" % n for n in range(nodes)]
    table.hello(peers[0], host=host)
    table.submit(1)
    begin(table, peers[0], table.in_hand(peers[0]))
    for peer in peers[1:]:
        table.hello(peer, host=host)
    return table, peers


def lose(table: Table, peers: list[bytes]) -> list[Any]:
    """Cut nodes off, one after another, and those that are told something meanwhile."""
    effects: list[Any] = []
    for peer in peers:
        effects += table.dispatcher.unreachable(peer, table.now)
    return effects


@pytest.mark.parametrize("nodes", [2, 3, 10, 40])
@pytest.mark.parametrize("max_attempts", [1, 3])
def test_a_job_does_not_hop_over_nodes_that_are_as_dead(nodes: int, max_attempts: int) -> None:
    """Found in review: with forty nodes behind a relay it failed for good, every time."""
    table, peers = crowd(nodes, max_attempts=max_attempts)
    order = peers[:1] + random.Random(nodes).sample(peers[1:], nodes - 1)
    effects = lose(table, order)
    assert not [e for e in effects if isinstance(e, Fail)]
    assert not [e for e in effects if isinstance(e, Send) and isinstance(e.message, JobOffer)]
    # Its node has gone on with it, and brings the solution, last of all.
    table.now += 2
    for number, peer in enumerate([*order[:0:-1][:20], order[0]]):
        table.hello(b"back-" + peer, **_same(peer, holds=(1,) if peer == order[0] else ()))
        table.tick(0.5)
        assert not table.offers()
        if peer == order[0]:
            break
        assert number < nodes
    table.hear(b"back-" + order[0], SolutionReady(1, {}, b"", {}))
    assert [e for e in table.effects if isinstance(e, Accept)]


def _same(peer: bytes, **changes: Any) -> dict[str, Any]:
    """Return how a node that was here before introduces itself over another connection."""
    name = peer.decode()
    return {"node": f"id-{name}", "name": name, "main": "main", "host": RELAY, **changes}


@pytest.mark.parametrize("seed", range(20))
def test_a_switch_that_dies_is_found_by_silence_and_no_job_hops(seed: int) -> None:
    """Each node, wherever it is, was heard last at another moment of the second before."""
    chance = random.Random(seed)
    table = Table()
    last = {b"n%d" % n: table.now + 2 + chance.random() for n in range(30)}
    for number, peer in enumerate(last):
        table.hello(peer, host=f"10.0.0.{number}")
    table.submit(1)
    (first,) = [peer for peer in last if table.dispatcher._nodes[peer].tasks]
    begin(table, first, 1)
    offers = []
    while table.dispatcher._nodes:
        for peer, until in last.items():
            if table.now < until and peer in table.dispatcher._nodes:
                table.hear(peer, Heartbeat((1,) if peer == first else ()))
        table.tick(0.25, 0.25)
        offers += list(table.offers())
        assert not [e for e in table.effects if isinstance(e, Fail)]
    assert not offers


@pytest.mark.parametrize("after", [3.0, 8.0])
@pytest.mark.parametrize("place", [0, 2, 4])
def test_after_a_silence_who_is_back_first_does_not_get_what_the_others_may_bring(
    place: int, after: float
) -> None:
    """Found by a tester: an idle node got the job that its neighbour was still running."""
    table = Table()
    table.hello(b"n%d" % place, host=f"10.0.0.{place}")
    table.submit(1)
    begin(table, b"n%d" % place, 1)
    for number in range(5):
        if number != place:
            table.hello(b"n%d" % number, host=f"10.0.0.{number}")
    for number in range(5):  # each is heard a last time, a little later than the one before
        table.now += 0.1
        table.hear(b"n%d" % number, Heartbeat((1,) if number == place else ()))
    while table.dispatcher._nodes:
        table.tick(0.25, 0.25)
        assert not table.offers()
    table.tick(after, 0.25)
    idle = (place + 1) % 5
    table.hello(b"back", **_same(b"n%d" % idle, host=f"10.0.0.{idle}"))
    for _ in range(16):
        assert not table.offers()
        table.tick(0.25, 0.25)
        table.hear(b"back", Heartbeat())
    table.hello(b"holder", **_same(b"n%d" % place, host=f"10.0.0.{place}", holds=(1,)))
    assert not table.offers()
    table.hear(b"holder", solved(1))
    assert [effect for effect in table.effects if isinstance(effect, Accept)]


def test_many_nodes_with_many_jobs_come_back_in_no_time() -> None:
    """Found by a tester: each who came back looked at every job of all the others."""
    table = Table()
    hello: dict[str, Any] = {"tasks": 64, "credit": 64, "host": RELAY}
    peers = [b"n%d" % number for number in range(200)]
    for peer in peers:
        table.hello(peer, **hello)
    for number in range(200 * 60):
        table.dispatcher.submit(Job.of(number, JobDataType("x")), table.now)
    holds = {peer: tuple(table.dispatcher._nodes[peer].tasks) for peer in peers}
    lose(table, peers)
    begun = time.process_time()
    for peer in peers:
        table.hello(b"back-" + peer, **_same(peer, **hello, holds=holds[peer]))
    assert time.process_time() - begun < 3
    assert table.dispatcher.view(table.now).running == 200 * 60


def test_a_late_return_hides_no_later_deaths() -> None:
    bench = Bench()
    for at, process in enumerate(("p1", "p2", "p3")):
        benched = bench.died("lab", process, float(at))
    assert benched
    assert not bench.died("lab", "n1", 64.0)
    bench.came_back("lab", "p1")
    assert not bench.died("lab", "n2", 123.0)
    assert bench.died("lab", "n3", 123.5)


def test_what_one_node_lost_goes_to_its_neighbour_as_soon_as_that_is_heard() -> None:
    table, (first, other) = crowd(2)
    table.effects = lose(table, [first])
    assert not table.offers()  # it may be as dead
    table.now += 0.3
    table.effects = table.dispatcher.tick(table.now)
    assert table.said(type(Heartbeat()))  # and it is asked for a word
    table.hear(other, Heartbeat())
    assert table.offers()[1][0] == other


def test_what_was_lost_alone_goes_to_another_host_at_once() -> None:
    table, (first,) = crowd(1)
    table.hello(b"elsewhere", host="10.0.0.1")
    table.effects = lose(table, [first])
    assert table.offers()[1][0] == b"elsewhere"


def test_what_was_lost_with_a_relay_waits_for_its_nodes_and_then_goes_to_others() -> None:
    table, peers = crowd(10)
    table.hello(b"elsewhere", host="10.0.0.1")
    lose(table, peers)
    waited = 0.0
    while not table.offers():
        waited += 0.5
        table.hear(b"elsewhere", Heartbeat())
        table.tick(0.5)
    assert RETURN_SECONDS <= waited <= RETURN_SECONDS + 1
    assert table.offers()[1][0] == b"elsewhere"


def test_who_is_back_first_does_not_get_what_the_others_may_bring() -> None:
    """Even where the relay was away for longer than anybody waits for it."""
    table, peers = crowd(10)
    lose(table, peers)
    for _ in range(40):
        table.tick(0.5)
    table.hello(b"back", **_same(peers[1]))
    assert not table.offers()
    table.tick(1)
    assert not table.offers()
    table.hello(b"back-too", **_same(peers[0], holds=(1,)))
    assert not table.offers()
    table.hear(b"back-too", SolutionReady(1, {}, b"", {}))
    assert [e for e in table.effects if isinstance(e, Accept)]


def test_a_job_that_kills_its_nodes_fails_for_good_when_none_of_them_comes_back() -> None:
    """In its first moments, one after another: before anything is heard of it."""
    table = Table()
    killed, waited = 0, 0.0
    failed: list[Fail] = []
    table.submit(1)
    while not failed and waited < 1000:
        peer = b"n%d" % killed
        table.hello(peer, host=f"10.0.0.{killed}")
        while peer in table.dispatcher._nodes and not failed and waited < 1000:
            if table.dispatcher._nodes[peer].tasks:
                table.effects = table.dispatcher.unreachable(peer, table.now)
                killed += 1
            else:
                table.hear(peer, Heartbeat())
                table.tick(0.5)
                waited += 0.5
            failed += [e for e in table.effects if isinstance(e, Fail)]
    assert 3 <= killed <= 6
    assert HOPE_SECONDS - 1 <= waited <= HOPE_SECONDS + 1
    assert len(failed) == 1


def test_nothing_fails_for_good_while_a_node_that_had_it_may_bring_it() -> None:
    table = Table(max_attempts=2)
    for peer in (b"a", b"b"):
        table.hello(peer, host=peer.decode())
    table.submit(1)
    for _ in range(2):
        (holder,) = [p for p, node in table.dispatcher._nodes.items() if node.tasks]
        task = table.in_hand(holder)
        begin(table, holder, task)
        table.effects = table.dispatcher.unreachable(holder, table.now)
        assert not [e for e in table.effects if isinstance(e, Fail)]
    table.tick(HOPE_SECONDS / 2)
    assert not [e for e in table.effects if isinstance(e, Fail)]
    name = holder.decode()
    table.hello(b"back", node=f"id-{name}", name=name, main="main", host=name, holds=(task,))
    table.hear(b"back", solved(task))
    assert [e for e in table.effects if isinstance(e, Accept)]
    assert Send(b"back", Accepted((task,))) in table.effects


def test_a_job_that_is_cancelled_while_it_waits_for_its_nodes_is_gone() -> None:
    table, peers = crowd(5)
    lose(table, peers)
    table.effects = table.dispatcher.cancel(1, table.now)
    table.tick(100)
    table.hello(b"back", **_same(peers[0], holds=(1,)))
    assert Send(b"back", Cancel(1)) in table.effects
    assert table.dispatcher.open == 0


def test_somebody_who_comes_and_goes_does_not_keep_work_from_his_neighbours() -> None:
    table = Table()
    table.hello(b"good", host=RELAY)
    done, waited = 0, 0.0
    for number in range(1, 1000):
        table.submit(number)
    for turn in range(400):
        bad = b"bad%d" % turn
        table.hello(bad, host=RELAY)
        table.effects = table.dispatcher.unreachable(bad, table.now)
        table.tick(0.1, 0.1)
        waited += 0.1
        table.hear(b"good", Heartbeat(tuple(table.dispatcher._nodes[b"good"].tasks)))
        for task in list(table.dispatcher._nodes[b"good"].tasks):
            table.hear(b"good", solved(task))
            done += 1
    assert done > 400 * 0.6


@pytest.mark.parametrize("every", [1.0, 2.0, 4.0, 4.9, 6.0])
@pytest.mark.parametrize("busy", [False, True])
def test_somebody_who_comes_and_goes_keeps_no_job_waiting(every: float, busy: bool) -> None:
    """Found by a tester: a job that was lost at the same host waited for ever."""
    table = Table()
    table.hello(b"holder", host=RELAY)
    table.submit(1)
    begin(table, b"holder", table.in_hand(b"holder"))
    table.hello(b"good", host=RELAY)
    table.hello(b"elsewhere", host="10.0.0.1")
    table.now += 1
    lost, turn, due = 0.0, 0, table.now
    while not any(table.dispatcher._nodes[peer].tasks for peer in (b"good", b"elsewhere")):
        if table.now >= due:
            due += every
            turn += 1
            peer = b"bad%d" % turn
            table.hello(peer, host=RELAY)
            if busy:  # it has taken something, and is the death of that too
                table.dispatcher._absence.lose(
                    table.dispatcher._nodes[peer], RELAY, [1000 + turn], table.now
                )
            table.effects = table.dispatcher.unreachable(peer, table.now)
            if turn == 3:
                table.effects = table.dispatcher.unreachable(b"holder", table.now)
                lost = table.now
        table.tick(0.25, 0.25)
        for peer in (b"good", b"elsewhere", b"holder")[: 2 if lost else 3]:
            table.hear(peer, Heartbeat(tuple(table.dispatcher._nodes[peer].tasks)))
        assert not lost or table.now - lost < 1  # its neighbour is well
    assert lost


@pytest.mark.parametrize("every", [1.0, 2.0, 4.0, 4.9, 6.0])
def test_where_nobody_was_there_all_the_time_a_job_waits_a_moment(every: float) -> None:
    """The same with nobody at that host who could show that only one node is gone."""
    table = Table()
    table.hello(b"holder", host=RELAY)
    table.submit(1)
    begin(table, b"holder", table.in_hand(b"holder"))
    table.hello(b"elsewhere", host="10.0.0.1")
    lost, due, turn = table.now, table.now, 0
    table.hello(b"bad", host=RELAY)
    table.effects = lose(table, [b"holder"])
    while not table.dispatcher._nodes[b"elsewhere"].tasks:
        if table.now >= due:  # the same one, each time
            due += every
            turn += 1
            table.effects = lose(table, [b"bad"])
            table.hello(b"bad", **_same(b"bad"))
        table.tick(0.25, 0.25)
        table.hear(b"elsewhere", Heartbeat(tuple(table.dispatcher._nodes[b"elsewhere"].tasks)))
        assert table.now - lost < RETURNS_SECONDS + 1


def test_who_is_here_again_over_another_connection_was_never_away() -> None:
    """Found by a tester: one such node every few seconds, and what its neighbours lost waited."""
    table, (first, other) = crowd(2)
    table.hello(b"elsewhere", host="10.0.0.1")
    for turn in range(5):
        table.hello(b"anew%d" % turn, **_same(other))
        table.now += 2
    assert not table.dispatcher._absence._outages
    table.effects = lose(table, [first])
    table.hear(b"anew4", Heartbeat())
    table.tick(0.5)
    table.hear(b"anew4", Heartbeat())
    assert table.offers()


def test_what_a_silent_node_lost_goes_on_as_soon_as_those_that_were_silent_too_are_heard() -> None:
    table = Table()
    for number, peer in enumerate((b"a", b"b", b"c")):
        table.hello(peer, host=f"10.0.0.{number}")
    table.submit(1)
    (holder,) = [peer for peer in (b"a", b"b", b"c") if table.dispatcher._nodes[peer].tasks]
    begin(table, holder, 1)
    fine, quiet = (peer for peer in (b"a", b"b", b"c") if peer != holder)
    begun, gone = table.now, None
    while not table.dispatcher._nodes[fine].tasks and not table.dispatcher._nodes[quiet].tasks:
        table.tick(0.25, 0.25)
        if holder not in table.dispatcher._nodes:
            gone = table.now if gone is None else gone
            assert table.now - gone < 2
        table.hear(fine, Heartbeat(tuple(table.dispatcher._nodes[fine].tasks)))
        if not 7 < table.now - begun < 10.6:
            table.hear(quiet, Heartbeat(tuple(table.dispatcher._nodes[quiet].tasks)))
    assert gone is not None


def test_a_job_that_waits_for_its_last_hope_goes_to_whoever_is_new() -> None:
    """Found by a tester: it waited a minute, though somebody else's node had come."""
    table = Table(max_attempts=2)
    for peer in (b"a", b"b"):
        table.hello(peer, host="10.0.0.1")
    table.submit(1)
    for _ in range(2):
        (holder,) = [peer for peer, node in table.dispatcher._nodes.items() if node.tasks]
        begin(table, holder, table.in_hand(holder))
        table.effects = table.dispatcher.unreachable(holder, table.now)
        for _ in range(30):
            table.tick(0.25, 0.25)
            for peer, node in table.dispatcher._nodes.items():
                table.hear(peer, Heartbeat(tuple(node.tasks)))
    assert table.dispatcher._absence.last_hopes
    table.hello(b"new", host="10.0.0.2")
    table.tick(1.0)
    table.hear(b"new", Heartbeat())
    assert table.dispatcher._nodes[b"new"].tasks


def test_one_accident_benches_those_who_share_a_name_once_and_their_return_undoes_it() -> None:
    """Found by a tester: nine nodes behind a relay were three accidents of one name."""
    table = Table()
    peers = [b"n%d" % number for number in range(9)]
    for number, peer in enumerate(peers):
        table.hello(peer, name="lab", host=RELAY)
        table.submit(number)
    tasks = {peer: table.in_hand(peer) for peer in peers}
    benched = [effect for effect in lose(table, peers) if isinstance(effect, Benched)]
    assert [effect.seconds for effect in benched] == [60.0]
    table.now += 2
    for number, peer in enumerate(peers):
        same = _same(peer, name="lab", holds=(tasks[peer],))
        table.hello(b"back-" + peer, **same)
        table.tick(0.25, 0.25)
        assert bool(table.dispatcher._nodes[b"back-" + peer].benched) == (number < 6)
    assert not any(node.benched for node in table.dispatcher._nodes.values())
    # And the next one is a first one again.
    assert table.dispatcher._bench._records["lab"].seconds == 60.0


def test_who_was_cut_off_while_his_solution_was_kept_has_not_died() -> None:
    table = Table(keeps=True)
    benched: list[Benched] = []
    table.hello(b"other", host="10.0.0.1", credit=0)
    for turn in range(4):
        peer = b"p%d" % turn
        table.hello(peer, node="id-p", name="p", main="main", host=RELAY)
        table.submit(turn)
        task = table.in_hand(peer)
        begin(table, peer, task)
        table.hear(peer, solved(task))
        (keep,) = [effect for effect in table.effects if isinstance(effect, Keep)]
        table.effects = table.dispatcher.unreachable(peer, table.now)
        benched += [effect for effect in table.effects if isinstance(effect, Benched)]
        table.effects = table.dispatcher.kept(task, keep.solution, table.now)
        table.now += 5
    assert not benched


def test_an_idle_process_lifts_nobody_elses_bench() -> None:
    """Found in review: it was cut off for a moment, and three deaths of others were forgiven."""
    table = Table()
    benched = []
    for number in range(4):
        peer = b"w%d" % number
        table.hello(peer, name="lab1", host=f"10.0.0.{number}")
        if number < 3:
            table.submit(number + 1)
            table.effects = table.dispatcher.unreachable(peer, table.now)
            benched += [e for e in table.effects if isinstance(e, Benched)]
            table.dispatcher.cancel(number + 1, table.now)
        table.now += 5
    assert len(benched) == 1
    assert table.dispatcher._nodes[b"w3"].benched
    table.dispatcher.unreachable(b"w3", table.now)
    table.hello(b"again", node="id-w3", name="lab1", host="10.0.0.3")
    assert table.dispatcher._nodes[b"again"].benched


def test_a_bench_is_forgotten_after_a_good_day() -> None:
    """Found in review: on the fourth day a bad minute cost sixteen."""
    table = Table()
    lengths = []
    for day in range(6):
        for number in range(3):
            peer = b"d%d-%d" % (day, number)
            table.hello(peer, name="lab1", host=peer.decode())
            table.submit(10 * day + number)
            table.effects = table.dispatcher.unreachable(peer, table.now)
            lengths += [e.seconds for e in table.effects if isinstance(e, Benched)]
            table.dispatcher.cancel(10 * day + number, table.now)
        table.now += 86_400
    assert lengths == [60.0] * 6


def test_what_has_come_of_a_solution_need_not_come_again_over_a_new_connection() -> None:
    """A slow line that breaks every few minutes: else nothing large would ever arrive."""
    table = Table()
    table.hello(b"a", host=RELAY)
    table.submit(1)
    array = np.random.default_rng(0).integers(0, 255, 40 * CHUNK_BYTES, dtype=np.uint8)
    ready = SolutionReady(1, {}, b"", {"x": specify(array)})
    table.hear(b"a", ready)
    peer, carried = b"a", 0
    accepted: list[Accept] = []
    for life in range(100):
        needs = table.said(Need)
        for _ in range(3):  # some come, and then the line breaks
            for chunk in answer(needs.pop(0), array) if needs else []:
                table.now += 1.0  # it is a slow one
                table.hear(peer, chunk)
                carried += len(chunk.data)
                needs += table.said(Need)
                accepted += [e for e in table.effects if isinstance(e, Accept)]
        if accepted:
            break
        table.effects = table.dispatcher.unreachable(peer, table.now)
        peer = b"a%d" % life
        table.hello(peer, node="id-a", name="a", main="main", host=RELAY, holds=(1,))
        table.hear(peer, ready)
    np.testing.assert_array_equal(accepted[0].solution.arrays["x"], array)
    assert carried == array.nbytes


def test_what_has_come_in_part_is_not_kept_for_ever_nor_without_limit() -> None:
    table = Table()
    absence = table.dispatcher._absence
    for number in range(20):
        peer = b"n%d" % number
        table.hello(peer, host=peer.decode())
        table.submit(number)
        size = PARKED_BYTES // 4
        spec = ArraySpec("uint8", (size,), bytes([number]) * 16)
        task = table.in_hand(peer)
        table.hear(peer, SolutionReady(task, {}, b"", {"x": spec}))
        table.dispatcher._nodes[peer].inbox._arrivals[spec.digest].hashed = size // CHUNK_BYTES - 1
        table.effects = table.dispatcher.unreachable(peer, table.now)
        table.dispatcher.cancel(number, table.now)
    assert 0 < len(absence._parked) <= 4
    table.tick(HOPE_SECONDS + 1)
    assert not absence._parked
