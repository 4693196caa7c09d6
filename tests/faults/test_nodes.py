"""Computing nodes die, freeze, are cut off and come back: the model is the same, bit for bit."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil

from ..processes import SECONDS, Relay, templates
from .conftest import (
    TRIAL,
    Cluster,
    Gate,
    child_of,
    first_of_all,
    fits,
    named,
    no_traceback,
    of_round,
)


def test_a_node_is_killed_idle(cluster: Cluster) -> None:
    main = cluster.main("--min-nodes", "2")
    idle = cluster.node("idle")
    idle.event("main.joined")
    # A second one whose arrival begins the run; the first has nothing to do before that.
    idle.kill()
    main.event("node.left", node=named("idle"))
    cluster.node("a")
    cluster.node("b")
    assert cluster.same(main)["retries"] == 0


def test_a_node_is_killed_while_it_receives_a_job(cluster: Cluster) -> None:
    main = cluster.main()
    victim, relay = cluster.between("victim")
    relay.bytes_per_second = 200_000  # a shard is 160 kB
    main.event("job.offered", job=of_round(1))
    relay.wait_for("to_node", relay.carried["to_node"] + 50_000)
    victim.kill()
    main.event("node.left", node=named("victim"))
    assert not fits(victim)
    cluster.node("b")
    cluster.same(main)


def test_a_node_is_killed_while_it_trains(cluster: Cluster) -> None:
    main = cluster.main()
    victim = cluster.node("victim")
    victim.event("task.started", action="fit")
    victim.kill()
    cluster.node("b")
    assert cluster.same(main)["retries"] >= 1


def test_a_node_is_killed_between_finishing_and_sending(cluster: Cluster) -> None:
    main = cluster.main()
    victim, relay = cluster.between("victim")
    victim.event("task.started", action="fit")
    relay.freeze("to_main")
    victim.event("task.solved", times=2)
    victim.kill()
    relay.cut()
    assert cluster.solved() == {TRIAL}
    cluster.node("b")
    cluster.same(main)


def test_a_node_is_killed_after_sending(cluster: Cluster) -> None:
    main = cluster.main()
    victim = cluster.node("victim")
    main.event("job.accepted", job=of_round(1))
    victim.kill()
    before = cluster.solved()
    cluster.node("b")
    cluster.same(main)
    tasks = cluster.tasks()
    assert before > {TRIAL}
    assert all(len(tasks[name]) == 1 for name in before), "a finished job was computed again"


def test_the_child_of_a_node_is_killed(cluster: Cluster) -> None:
    main = cluster.main()
    node = cluster.node("a")
    node.event("task.started", action="fit")
    child_of(node).send_signal(signal.SIGKILL)
    retried = main.event("job.retried", kind="crashed")
    assert retried["message"].startswith("its process was killed (SIGKILL)")
    assert cluster.same(main)["retries"] == 1


def test_local_nodes_share_a_template_and_go_on_where_it_is_killed(cluster: Cluster) -> None:
    """What was forked goes on; who needs another has it from a template of its own."""
    main = cluster.main("--local-nodes", "2")
    main.event("job.accepted", job=TRIAL)
    nodes = [
        each for each in psutil.Process(main.popen.pid).children()
        if "computing_node.template" not in each.cmdline()
    ]  # fmt: skip
    assert len(nodes) == 2
    assert not any(templates(each.pid) for each in nodes)
    (template,) = templates(main.popen.pid)
    template.kill()
    template.wait(SECONDS)
    assert cluster.same(main)["retries"] == 0


def test_a_node_is_frozen_and_thawed_later(cluster: Cluster) -> None:
    main = cluster.main()
    victim = cluster.node("victim")
    victim.event("task.started", action="fit")
    victim.send(signal.SIGSTOP)
    assert main.event("node.left", node=named("victim"))["reason"].startswith("silent for")
    cluster.node("b")
    main.event("node.joined", node=named("b"))
    victim.send(signal.SIGCONT)
    cluster.same(main)


def test_a_frozen_node_answers_a_job_that_was_given_to_another(cluster: Cluster) -> None:
    """The job is solved twice, and counts once."""
    main = cluster.main()
    victim, relay = cluster.between("victim")
    victim.event("task.started", action="fit")
    relay.freeze("to_main", "to_node")
    victim.event("task.solved", times=2)  # the trial was before
    main.event("node.left", node=named("victim"))
    cluster.node("b").event("task.started", action="fit")
    relay.thaw()
    cluster.same(main)
    assert max(len(tasks) for tasks in cluster.tasks().values()) >= 2


def test_a_node_is_cut_off_and_reconnects(cluster: Cluster) -> None:
    main = cluster.main()
    node, relay = cluster.between("a")
    node.event("task.started", action="fit")
    relay.cut(refuse=True)
    main.event("node.left", node=named("a"))
    relay.mend()
    node.event("main.joined", times=2)
    cluster.same(main)
    assert len(node.events("task.started")) == 17, (
        "what was under way at the cut was not begun again"
    )


def test_a_link_is_slow(cluster: Cluster) -> None:
    main = cluster.main()
    node, relay = cluster.between("slow")
    relay.bytes_per_second, relay.delay_seconds = 1_000_000, 0.01
    cluster.same(main)
    assert main.never("node.left", node=named("slow"))
    assert no_traceback(node)


def test_every_stream_is_halved_time_and_again(cluster: Cluster) -> None:
    """The connection breaks in the middle of messages, at ever later places."""
    main = cluster.main()
    node, relay = cluster.between("a")
    for nbytes in (10, 1000, 100_000, 170_000):
        relay.cut_after = {"to_node": nbytes}
        relay.cut()
        relay.wait_for("to_node", relay.carried["to_node"] + nbytes)
    for nbytes in (300, 100_000, 340_000):
        relay.cut_after = {"to_main": nbytes}
        relay.cut()
    cluster.same(main)
    assert no_traceback(node)


def test_all_nodes_are_killed_and_new_ones_started_later(cluster: Cluster) -> None:
    main = cluster.main()
    victims = [cluster.node("a"), cluster.node("b")]
    main.event("job.accepted", job=of_round(1))
    for victim in victims:
        victim.kill()
    told = main.event("run.nodes-missing")["text"]
    invitation = f"start computing nodes: mnist-compute --connect {cluster.address} "
    assert told.startswith(f"no computing node is left; {invitation}")
    cluster.node("c")
    cluster.same(main)


def test_a_node_joins_at_the_end(cluster: Cluster, gate: Gate) -> None:
    main = cluster.main()
    cluster.node("a", env=gate.env)
    main.event("run.round-merged", round=0)
    late = cluster.node("late")
    late.event("main.joined")
    gate.open()
    cluster.same(main)


def broken(folder: Path) -> dict[str, str]:
    """Return an environment in which no job of the learner can be done."""
    (folder / "sitecustomize.py").write_text(
        "import linear\n"
        "def fail(*arguments, **options):\n"
        "    raise ImportError('a library is broken')\n"
        "for name in ('initial', 'fit', 'evaluate'):\n"
        "    setattr(linear.LinearLearner, name, fail)\n"
    )
    return first_of_all(folder)


def test_a_job_hangs_and_makes_no_progress(cluster: Cluster) -> None:
    """The node is well and says so every second; what it works on does not move."""
    main = cluster.main("--stall", "3")
    node = cluster.node("a")
    node.event("task.started", action="fit")
    child_of(node).send_signal(signal.SIGSTOP)
    retried = main.event("job.retried", kind="stalled")
    assert retried["message"].startswith("no progress for")
    assert main.never("node.left")
    cluster.same(main)


def test_a_job_is_not_done_within_its_deadline(cluster: Cluster) -> None:
    main = cluster.main("--deadline", "3", "--stall", "60")
    node = cluster.node("a")
    node.event("task.started", action="fit")
    child_of(node).send_signal(signal.SIGSTOP)
    main.event("job.retried", kind="deadline", message="not done within 3 s")
    cluster.same(main)


def test_a_slow_job_gets_a_second_runner_and_the_first_solution_counts(cluster: Cluster) -> None:
    main = cluster.main("--min-nodes", "2")
    slow, quick = cluster.node("slow"), cluster.node("quick")
    for node in (slow, quick):
        node.event("task.started", action="fit")
    main.event("job.accepted", job=of_round(1), times=3)
    child = child_of(slow)
    child.send_signal(signal.SIGSTOP)
    main.event("job.doubled")
    child.send_signal(signal.SIGCONT)
    cluster.same(main)
    assert max(len(tasks) for tasks in cluster.tasks().values()) >= 2


def test_jobs_raise_at_one_node_which_is_benched_and_another_solves_them(
    cluster: Cluster, tmp_path: Path
) -> None:
    main = cluster.main("--min-nodes", "2")
    cluster.node("bad", env=broken(tmp_path))
    cluster.node("good")
    raised = "ImportError: a library is broken"
    main.event("job.retried", node=named("bad"), kind="raised", message=raised)
    reason = main.event("node.benched", node=named("bad"))["reason"]
    assert f"3 jobs in a row failed there, the last: raised: {raised}" in reason
    result = cluster.same(main)
    assert all(name.startswith("good.") for name in result["nodes"])
    assert 3 <= result["retries"] <= 4  # it may have had one more in hand


def test_relays_carry_what_they_are_given(cluster: Cluster) -> None:
    """The tests above are worth nothing if the relay changes what it carries in calm weather."""
    main = cluster.main()
    relay: Relay = cluster.relay(cluster.address)
    cluster.node("a", address=relay.address)
    assert cluster.same(main)["retries"] == 0
    assert relay.carried["to_node"] > 800 * 784
