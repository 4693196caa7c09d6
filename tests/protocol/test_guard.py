"""The guard's events and words may come in any order, and descriptors are used again."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from protocol.carrier import traffic
from protocol.carrier.guard import Connection, Guard
from protocol.carrier.monitor import Event, Happened

pytestmark = pytest.mark.skipif(not traffic.KNOWN, reason="only Linux tells of its connections")


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


@pytest.fixture
def guard() -> Iterator[Guard]:
    made = Guard("test", lambda _: 1 << 20, lambda *_: None, lambda _: None)
    yield made
    made.close()


def accepted(listener: socket.socket) -> tuple[socket.socket, socket.socket, Event]:
    """Return both ends of a new connection, and the event that tells of it."""
    far = socket.create_connection(listener.getsockname())
    near, (host, port) = listener.accept()
    return near, far, Event(Happened.OPENED, near.fileno(), peer=f"{host}:{port}")


def ended(event: Event) -> Event:
    return Event(Happened.DISCONNECTED, event.descriptor, peer=event.peer)


def yes() -> bool:
    return True


def no() -> bool:
    return False


def never() -> bool:
    raise AssertionError("there was no doubt")


def test_a_word_belongs_to_the_connection_that_brought_it(
    guard: Guard, listener: socket.socket
) -> None:
    near, far, opened = accepted(listener)
    with near, far:
        assert guard.take([opened], 0.0) == ([], [])
        connection, gone = guard.introduce(b"a", near.fileno(), 0.1, never)
        assert connection is not None
        assert (connection.peer, connection.address, gone) == (b"a", opened.peer, [])
        assert guard.take([ended(opened)], 0.2) == ([connection], [])


@pytest.mark.parametrize("told", [0, 1, 2, 3])
def test_the_last_word_of_one_is_not_put_down_to_the_next_with_its_descriptor(
    guard: Guard, listener: socket.socket, told: int
) -> None:
    """Else an honest node would be cut off for what somebody said who was there before it."""
    first, far_first, opened = accepted(listener)
    descriptor = first.fileno()
    guard.take([opened][:told], 0.0)
    first.close()
    far_first.close()
    near, far, again = accepted(listener)
    with near, far:
        assert near.fileno() == descriptor, "the system gives the lowest free one"
        events = [opened, ended(opened), again]
        guard.take(events[1:told], 0.0)
        if told:  # else nobody can know that there was another
            assert guard.introduce(b"first", descriptor, 0.1, no) == (None, [])
        connection, gone = guard.introduce(b"next", descriptor, 0.2, yes)
        assert connection is not None
        assert gone == []
        guard.take(events[told:], 0.3)
        assert connection.peer == b"next"
        assert connection.cookie == traffic.cookie(descriptor)


def test_one_that_said_a_word_and_is_gone_is_told_of_once(
    guard: Guard, listener: socket.socket
) -> None:
    first, far_first, opened = accepted(listener)
    descriptor = first.fileno()
    guard.take([opened], 0.0)
    before, _ = guard.introduce(b"first", descriptor, 0.1, never)
    first.close()
    far_first.close()
    near, far, again = accepted(listener)
    with near, far:
        connection, gone = guard.introduce(b"next", descriptor, 0.2, never)
        assert isinstance(connection, Connection)
        assert gone == [before]
        assert guard.take([ended(opened), again], 0.3) == ([], [])
        assert guard.take([ended(again)], 0.4) == ([connection], [])


def test_a_guard_goes_on_after_an_exception(guard: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    turns = threading.Semaphore(0)

    def stumble(now: float) -> None:
        turns.release()
        raise RuntimeError("a bug")

    monkeypatch.setattr(guard, "_turn", stumble)
    guard.start()
    assert all(turns.acquire(timeout=10) for _ in range(3))
