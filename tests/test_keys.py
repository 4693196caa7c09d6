"""Keys: who has the right one works, and nobody else is ever given a job."""

from __future__ import annotations

import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from computing_node import AsyncComputingNode, Refused
from main_node import AsyncMainNode
from protocol import InsecureAddress, JobDataType, KeysError
from protocol.carrier import keys
from protocol.carrier.sockets import make_pair
from protocol.wire.addresses import is_loopback
from protocol.wire.codec import decode, encode
from protocol.wire.messages import Hello, Refuse, SolutionReady

from .conftest import ANY_PORT, Heard, upper
from .processes import COMPUTE, MAIN, SECONDS, Process, Start, has, here, run

KEYS = "main_node.commands.keys:main"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a main node's keys, with nodes `good` and `other`."""
    keys.create(tmp_path / "keys", ["good", "other"], make_pair)
    return tmp_path / "keys"


@pytest.fixture
def main(folder: Path) -> Iterator[AsyncMainNode]:
    with AsyncMainNode("main", address=ANY_PORT, keys=folder) as node:
        yield node


Nodes = Callable[..., AsyncComputingNode]


def test_a_right_key_works(main: AsyncMainNode, computing_node: Nodes, folder: Path) -> None:
    computing_node(main, keys=folder / "nodes" / "good")
    future = main.submit(JobDataType("hello"))
    assert future.result(SECONDS).to_string() == "HELLO"


def test_large_arrays_travel_encrypted(
    main: AsyncMainNode, computing_node: Nodes, folder: Path
) -> None:
    import numpy as np

    from protocol import JobSolutionDataType

    def twice(job: JobDataType, task_id: int, client_id: str) -> JobSolutionDataType:
        return JobSolutionDataType({"x": job.arrays["x"] * 2})

    computing_node(main, keys=folder / "nodes" / "good", callback=twice)
    array = np.arange(1 << 20, dtype=np.float32)
    solution = main.submit(JobDataType({"x": array})).result(SECONDS)
    assert np.array_equal(solution.arrays["x"], array * 2)


@pytest.fixture(params=["wrong main", "not allowed", "revoked", "without keys"])
def stranger(request: pytest.FixtureRequest, folder: Path, tmp_path: Path) -> tuple[object, str]:
    """Return the keys of somebody who is not let in, and what the main node says of it."""
    if request.param == "without keys":
        return None, "without keys"
    keys.create(tmp_path / "elsewhere", ["node"], make_pair)
    own = tmp_path / "elsewhere" / "nodes" / "node"
    if request.param == "wrong main":
        return own, "it holds another main node's public key"
    if request.param == "revoked":
        keys.revoke(folder, "other")
        return folder / "nodes" / "other", "the key of other was revoked"
    shutil.copy(folder / "main.pub", own / "main.pub")
    return own, "its key is not in the allow-list"


def test_a_stranger_gets_no_job_and_is_named_on_both_sides(
    main: AsyncMainNode, computing_node: Nodes, folder: Path, stranger: tuple[object, str],
    heard: Heard,
) -> None:  # fmt: skip
    own, cause = stranger
    solved: list[str] = []

    def never(job: JobDataType, task_id: int, client_id: str) -> str:
        solved.append("by a stranger")
        return "a lie"

    odd = computing_node(main, name="odd", callback=never, **({"keys": own} if own else {}))
    heard.event(
        "connection.refused", peer=has("127.0.0.1"), cause=has(cause)
    )  # or as it tries again
    if "revoked" in cause:
        with pytest.raises(Refused, match="this node's key was revoked"):
            odd.wait(SECONDS)
    else:
        heard.event("connection.failed", address=main.address, says="still trying")
    futures = [main.submit(JobDataType(str(n))) for n in range(20)]
    computing_node(main, name="good", keys=folder / "nodes" / "good")
    assert [f.result(SECONDS).to_string() for f in futures] == [str(n) for n in range(20)]
    assert all(future.server_id.startswith("good.") for future in futures)
    assert not solved
    assert all(odd.get_id() != node.name for node in main.view().nodes)


def test_a_node_with_keys_does_not_work_for_a_main_node_without(
    main_node: Callable[..., AsyncMainNode], computing_node: Nodes, folder: Path,
    heard: Heard,
) -> None:  # fmt: skip
    main = main_node()
    computing_node(main, keys=folder / "nodes" / "good")
    heard.event("connection.failed", address=main.address, cause=has("it has no keys"))
    heard.event("connection.refused")
    assert main.view().nodes == ()


def test_a_node_that_is_added_while_the_main_node_runs_is_let_in(
    main: AsyncMainNode, computing_node: Nodes, folder: Path, tmp_path: Path,
    heard: Heard,
) -> None:  # fmt: skip
    """It had tried before, and was refused; ZeroMQ alone would never try again."""
    keys.create(tmp_path / "copy", ["late"], make_pair)
    own = tmp_path / "copy" / "nodes" / "late"
    shutil.copy(folder / "main.pub", own / "main.pub")
    node = computing_node(main, keys=own)
    heard.event(
        "connection.failed", address=main.address, cause=has("does not let this node's key in")
    )
    shutil.copy(own / "node.pub", folder / "allowed" / "late.pub")
    future = main.submit(JobDataType("late"))
    assert future.result(SECONDS).to_string() == "LATE"
    assert future.server_id == node.get_id()


def test_a_node_that_is_revoked_while_it_works_loses_its_job_to_another(
    main: AsyncMainNode, computing_node: Nodes, folder: Path
) -> None:
    began, go_on = threading.Event(), threading.Event()

    def slow(job: JobDataType, task_id: int, client_id: str) -> object:
        began.set()
        go_on.wait(SECONDS)
        return upper(job, task_id, client_id)

    revoked = computing_node(main, name="bad", callback=slow, keys=folder / "nodes" / "other")
    future = main.submit(JobDataType("secret"))
    assert began.wait(SECONDS)
    keys.revoke(folder, "other")
    good = computing_node(main, name="good", keys=folder / "nodes" / "good")
    assert future.result(SECONDS).to_string() == "SECRET"
    assert future.server_id == good.get_id()
    with pytest.raises(Refused, match="the key of other was revoked"):
        revoked.wait(SECONDS)
    go_on.set()


def dangling(path: Path) -> None:
    path.symlink_to("/nowhere/at/all.pub")


def damaged(path: Path) -> None:
    path.write_bytes(b"\xff" * 40)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


ODD = [Path.mkdir, dangling, os.mkfifo, damaged, endless]


@pytest.mark.parametrize("make_odd", ODD, ids=lambda make: make.__name__)
def test_an_odd_entry_keeps_no_revocation_from_counting(
    main: AsyncMainNode, computing_node: Nodes, folder: Path, heard: Heard,
    make_odd: Callable[[Path], None],
) -> None:  # fmt: skip
    """Found in a red team's hands: the list was read no more, and a revoked key got jobs."""
    bad = computing_node(main, name="bad", keys=folder / "nodes" / "other")
    main.wait_for_nodes(1, SECONDS)
    make_odd(folder / "allowed" / "backup.pub")
    heard.event("keys.damaged", cause=has("backup.pub", "skipped"))
    assert keys.names(folder) == ["good", "other"]
    assert "backup.pub" in keys.complaints(folder)[0]
    assert here(KEYS, "revoke", str(folder), "other").returncode == 0
    with pytest.raises(Refused, match="revoked"):
        bad.wait(SECONDS)
    computing_node(main, name="good", keys=folder / "nodes" / "good")
    again = computing_node(main, name="again", keys=folder / "nodes" / "other")
    with pytest.raises(Refused, match="this node's key was revoked"):
        again.wait(SECONDS)
    assert main.submit(JobDataType("a")).result(SECONDS).to_string() == "A"


def test_while_the_list_can_not_be_read_nobody_new_is_let_in_and_who_is_here_goes_on(
    main: AsyncMainNode, computing_node: Nodes, folder: Path, heard: Heard
) -> None:
    computing_node(main, name="good", keys=folder / "nodes" / "good")
    main.wait_for_nodes(1, SECONDS)
    (folder / "allowed").rename(folder / "aside")
    (folder / "allowed").write_text("no folder")
    heard.event("keys.damaged", cause=has("allowed can't be read", "nobody new is let in"))
    late = computing_node(main, name="late", keys=folder / "nodes" / "other")
    heard.event("connection.refused", cause=has("the allow-list can't be read"))
    assert main.submit(JobDataType("a")).result(SECONDS).to_string() == "A"
    (folder / "allowed").unlink()
    (folder / "aside").rename(folder / "allowed")
    main.wait_for_nodes(2, SECONDS)
    assert late.get_id() in {node.name for node in main.view().nodes}


def test_a_list_that_is_gone_lets_nobody_in(folder: Path) -> None:
    shutil.rmtree(folder / "allowed")
    lists = keys.MainKeys(folder)
    assert lists.who(keys.node_keys(folder, "good").public) is None
    assert "is gone: it lets nobody in" in lists.complaints()[0]
    assert not lists.complaints()  # once


def test_a_revoked_key_is_kept_out_wherever_else_it_stands(folder: Path) -> None:
    shutil.copy(folder / "allowed" / "good.pub", folder / "allowed" / "old-backup.pub")
    public = keys.node_keys(folder, "good").public
    done = here(KEYS, "revoke", str(folder), "good")
    assert done.returncode == 0
    assert "the same key stood there as old-backup, too" in done.stdout
    lists = keys.MainKeys(folder)
    assert lists.who(public) is None
    assert lists.describe(public) == "the key of good was revoked"
    assert keys.names(folder) == ["other"]


def test_a_revocation_that_does_not_take_effect_is_an_error(folder: Path) -> None:
    shutil.rmtree(folder / "revoked")
    (folder / "revoked").write_text("no folder")
    done = here(KEYS, "revoke", str(folder), "good")
    assert done.returncode == 2
    assert "can't be revoked" in done.stderr
    (folder / "revoked").unlink()
    (folder / "allowed" / "good.pub").write_bytes(b"no key")
    done = here(KEYS, "revoke", str(folder), "good")
    assert done.returncode == 2
    assert "holds no key" in done.stderr


def test_a_name_may_be_revoked_twice_and_both_keys_stay_out(folder: Path) -> None:
    first = keys.node_keys(folder, "good").public
    keys.revoke(folder, "good")
    keys.add(folder, "good", make_pair)
    second = keys.node_keys(folder, "good").public
    assert keys.MainKeys(folder).who(second) is not None
    keys.revoke(folder, "good")
    lists = keys.MainKeys(folder)
    assert lists.revoked(first)
    assert lists.revoked(second)


def test_a_revoked_node_ends_with_the_code_of_the_refused(
    main: AsyncMainNode, folder: Path
) -> None:
    keys.revoke(folder, "other")
    done = run(
        *COMPUTE, "--connect", main.address, "--keys", str(folder / "nodes" / "other"),
    )  # fmt: skip
    assert done.returncode == 6
    assert "this node's key was revoked" in done.stderr.splitlines()[-1]


def test_who_is_let_in_can_be_nobody_else(
    main: AsyncMainNode, computing_node: Nodes, folder: Path, heard: Heard
) -> None:
    """Found in a red team's hands: a node took another's id, dropped it, and answered for it."""
    began, go_on = threading.Event(), threading.Event()

    def slow(job: JobDataType, task_id: int, client_id: str) -> object:
        began.set()
        go_on.wait(SECONDS)
        return upper(job, task_id, client_id)

    victim = computing_node(main, name="good", callback=slow, keys=folder / "nodes" / "good")
    future = main.submit(JobDataType("mine"))
    assert began.wait(SECONDS)
    (_, node) = victim.get_id().split(".")
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    eve = context.socket(zmq.DEALER)
    eve.linger = 0
    own = keys.node_keys(folder / "nodes" / "other")
    eve.curve_publickey, eve.curve_secretkey, eve.curve_serverkey = own.public, own.secret, own.main
    eve.connect(main.address)
    hello = Hello(node, "good", 0, ("",), {}, 1, 1, "", 1, 0, main.get_id(), (1, 2, 3))
    eve.send_multipart(encode([hello, *[SolutionReady(task, {}, b"a lie", {}) for task in (1, 2)]]))
    assert eve.poll(SECONDS * 1000)
    refuse = next(m for m in decode(eve.recv_multipart()) if isinstance(m, Refuse))
    assert refuse.code == "id"
    heard.event("node.refused", reason=has("another node's", "the key of other"))
    go_on.set()
    assert future.result(SECONDS).to_string() == "MINE"
    assert future.server_id == victim.get_id()
    eve.close()
    context.term()


def test_no_connection_without_keys_gets_a_word_through(main: AsyncMainNode) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    raw = context.socket(zmq.DEALER)
    raw.linger = 0
    raw.connect(main.address)
    for _ in range(100):
        raw.send_multipart([b"MNM\x02" + bytes(8), b"\x90"])
    assert not raw.poll(300)
    assert main.view().nodes == ()
    raw.close()
    context.term()


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("tcp://127.0.0.1:1", True), ("tcp://127.3.2.1:1", True), ("tcp://localhost:1", True),
        ("tcp://[::1]:1", True), ("tcp://0.0.0.0:1", False), ("tcp://*:1", False),
        ("tcp://192.168.1.5:1", False), ("tcp://lab:1", False), ("tcp://eth0:1", False),
    ],
)  # fmt: skip
def test_only_this_machines_own_addresses_need_no_keys(address: str, loopback: bool) -> None:
    assert is_loopback(address) is loopback
    if not loopback:
        with pytest.raises(InsecureAddress, match="mnist-keys new DIR"):
            AsyncMainNode("main", address=address)


def test_it_can_be_said_that_strangers_are_trusted(computing_node: Nodes) -> None:
    with AsyncMainNode("main", address="tcp://0.0.0.0:0", insecure=True) as main:
        computing_node(main)
        assert main.submit(JobDataType("a")).result(SECONDS).to_string() == "A"


# The files, and the command.


def test_secret_keys_are_for_their_owner_only(folder: Path) -> None:
    for path in folder.rglob("*.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    secret = folder / "nodes" / "good" / "node.key"
    secret.chmod(0o640)
    with pytest.raises(KeysError, match=r"others can read it \(mode 0640\); chmod 600"):
        keys.node_keys(folder / "nodes" / "good")
    (folder / "main.key").chmod(0o604)
    with pytest.raises(KeysError, match="others can read it"):
        AsyncMainNode("main", address=ANY_PORT, keys=folder)


@pytest.mark.parametrize("what", ["pipe", "/dev/zero", "folder", "large"])
def test_what_is_no_file_of_a_key_is_told_at_once(what: str, folder: Path, tmp_path: Path) -> None:
    """A pipe was waited for, and no signal ended that; a device was read without an end."""
    odd = tmp_path / "odd"
    for path in (odd, folder / "nodes" / "good" / "node.pub", folder / "main.pub"):
        path.unlink(missing_ok=True)
        if what == "pipe":
            os.mkfifo(path)
        elif what == "folder":
            path.mkdir()
        elif what == "large":
            path.write_bytes(bytes(2_000))
        else:
            path.symlink_to(what)
    for read in (
        lambda: keys.read_secret(odd),
        lambda: keys.node_keys(folder, "good"),
        lambda: keys.main_public(folder),
    ):
        with pytest.raises(KeysError, match="can't be read"):
            read()


def test_no_secret_is_ever_shown(folder: Path) -> None:
    own = keys.node_keys(folder / "nodes" / "good")
    assert own.secret.decode() not in repr(own)
    assert {path.name for path in (folder / "nodes" / "good").iterdir()} == {
        "node.key", "node.pub", "main.pub",
    }  # fmt: skip


def test_a_node_finds_its_own_among_several(folder: Path) -> None:
    own = keys.node_keys(folder / "nodes" / "good")
    assert keys.node_keys(folder, "good") == own
    with pytest.raises(KeysError, match="holds keys of good, other; choose one: --name NAME"):
        keys.node_keys(folder, "third")
    with pytest.raises(KeysError, match="no keys of a computing node"):
        keys.node_keys(folder / "allowed")


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 40, b"x" * 41])
def test_a_damaged_key_is_named_and_lets_nobody_in(folder: Path, content: bytes) -> None:
    (folder / "allowed" / "good.pub").write_bytes(content)
    assert keys.names(folder) == ["other"]
    (folder / "main.pub").write_bytes(content)
    with pytest.raises(KeysError, match=r"main\.pub: no key: one is 40 characters"):
        keys.MainKeys(folder)


def test_the_commands_make_a_cluster_with_keys(
    start: Start, idx_folder: Path, tmp_path: Path
) -> None:
    made = run(str(Path(MAIN[0]).with_name("mnist-keys")), "new", "keys", "lab1", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert "lab1: copy keys/nodes/lab1 to its host, then there: mnist-compute --keys lab1" in (
        made.stdout
    )
    keys_folder = str(tmp_path / "keys")
    main: Process = start(
        *MAIN, "--bind", "tcp://0.0.0.0:0", "--keys", keys_folder, "--data",
        str(idx_folder), "--rounds", "1", "--learner", "linear", "--json", "--run-dir",
        str(tmp_path / "runs"), "--local-nodes", "1", "--min-nodes", "3",
    )  # fmt: skip
    line = main.event("run.noted", text=has("start computing nodes: "))["text"]
    assert "--keys DIR (DIR: a copy of" in line
    address = f"tcp://127.0.0.1:{line.split('--connect ')[1].split()[0].rpartition(':')[2]}"
    assert here(KEYS, "add", keys_folder, "lab2").returncode == 0
    for name in ("lab1", "lab2"):
        start(*COMPUTE, "--connect", address, "--keys", keys_folder, "--name", name)
    nodes = {name.split(".")[0] for name in main.result()["nodes"]}
    assert nodes <= {"lab1", "lab2", "local-1"}
    assert here(KEYS, "list", keys_folder).stdout == "lab1  work, watch\nlab2  work, watch\n"
    assert here(KEYS, "revoke", keys_folder, "lab1").returncode == 0
    assert here(KEYS, "list", keys_folder).stdout == "lab2  work, watch\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["new", "{folder}"], "holds keys already; add nodes with mnist-keys add"),
        (["add", "{folder}", "good"], "good is let in already"),
        (["add", "{folder}", "../evil"], "can't be a node's name"),
        (["add", "/nowhere", "a"], "no main node's keys in there; make some"),
        (["revoke", "{folder}", "nobody"], "nobody is not let in; those are: good, other"),
        (["revoke", "{folder}", "../../main"], "is not let in"),
        (["new", "/proc/keys"], "can't be written"),
        (["list", "{folder}/nodes/good"], "the keys of a computing node, not of a main node"),
        (["new", "{folder}2", "a", "a"], "the same name twice"),
    ],
)
def test_mistakes_with_keys_are_one_line_and_a_code(
    folder: Path, arguments: list[str], words: str
) -> None:
    done = here(KEYS, *[argument.format(folder=folder) for argument in arguments])
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert keys.names(folder) == ["good", "other"]
