"""What holds in a dispatcher and a session after every step, whatever happened."""

from __future__ import annotations

from collections import Counter

from protocol.machine.dispatch import Dispatcher
from protocol.machine.ledger import Job, JobState
from protocol.machine.session import Session
from protocol.wire.limits import OWN_WINDOW, SHARED_WINDOW
from protocol.wire.transfer import Inbox


def check(dispatcher: Dispatcher) -> None:
    """Assert that everybody's books agree with each other."""
    ledger, placement, absence = dispatcher._ledger, dispatcher._placement, dispatcher._absence
    nodes = dispatcher._nodes
    queued: Counter[Job] = Counter()
    for where, queue in placement._queues.items():
        assert queue or not where.back, "an empty queue is left"
        assert all(
            (-job.data.priority, job.data.kind) == (where.back, where.kind)
            for job in queue.values()
        )
        queued.update(queue.values())
    queued.update(placement._stranded.values())
    hands = Counter(task.job for node in nodes.values() for task in node.tasks.values())
    for job in (*queued, *hands):
        assert ledger.jobs.get(job.id) is job, f"job {job.id} is not open"
    for job in ledger.jobs.values():
        places = queued[job] + absence.waits(job)
        in_work = hands[job] > 0 or job.keeping is not None
        assert len(job.tasks) == hands[job], f"job {job.id}: {job.tasks}"
        assert (places, in_work) == ((1, False) if job.state is JobState.QUEUED else (0, True)), (
            f"job {job.id} is {job.state}: in {places} queues, at {hands[job]} nodes"
        )
    assert absence._where.keys() <= ledger.jobs.keys(), "a closed job waits"
    running = sum(job.state is JobState.RUNNING for job in ledger.jobs.values())
    assert ledger.running == running
    used = 0
    for node in nodes.values():
        count(node.inbox)
        used += max(node.inbox._asked - OWN_WINDOW, 0)
        lacking = {digest for task in node.tasks.values() for digest in task.lacking}
        assert lacking == node.inbox._arrivals.keys()
        hungry = node.peer in placement._idle or node.peer in placement._loaded
        assert hungry == (node.spare > 0), f"{node.name}: {node.spare} places"
    most = dispatcher.limits.max_nodes
    if most is not None:
        holders = {peer for peer, node in nodes.items() if node.holds_tasks}
        assert placement._holders.keys() == holders
        working = [node for node in nodes.values() if node.works or None in node.unclaimed.values()]
        assert len(working) <= most, f"{len(working)} nodes have tasks"
    assert dispatcher._window.left == SHARED_WINDOW - used
    tasks = {task_id for node in nodes.values() for task_id in node.tasks}
    assert dispatcher._held.keys() <= tasks, "room is held for a solution that does not come"
    assert set(dispatcher._peers.values()) == nodes.keys()
    assert sum(map(len, dispatcher._hosts.values())) == len(nodes)


def check_session(session: Session) -> None:
    """Assert that what a node fetches is counted right."""
    count(session._inbox)


def count(inbox: Inbox) -> None:
    """Assert that what is under way is counted right, in chunks and bytes."""
    arrivals = inbox._arrivals.values()
    assert inbox._asked == sum(arrival.under_way for arrival in arrivals)
    assert inbox._missing == sum(arrival.missing for arrival in arrivals)
    for arrival in arrivals:
        assert 0 <= arrival.hashed <= arrival.asked <= arrival.total
        waits = arrival.spec.digest in inbox._small or arrival.spec.digest in inbox._large
        assert waits == (arrival.asked < arrival.total)
