"""Who comes and goes without a word, over and over, is let in less often; all others are not."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from protocol.carrier import traffic
from protocol.carrier.doorstep import EASE_SECONDS, LEAST_PART, LOOK_SECONDS, Doorstep

pytestmark = pytest.mark.skipif(not traffic.KNOWN, reason="only Linux lets fewer in")
HERE = "127.0.0.1"


@pytest.fixture(params=[socket.AF_INET, socket.AF_INET6])
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    host = HERE if request.param == socket.AF_INET else "::1"
    with socket.create_server((host, 0), family=request.param) as made:
        yield made


def gets_in(listener: socket.socket) -> bool:
    """Whether a connection is made; one that is not let in would be tried again after a second."""
    with socket.socket(listener.family) as made:
        made.settimeout(0.1)
        return not made.connect_ex(listener.getsockname())


def test_only_whom_it_is_meant_for_is_kept_out(listener: socket.socket) -> None:
    own = listener.getsockname()[0]
    descriptor = listener.fileno()
    assert traffic.thin(descriptor, ["192.0.2.1", "2001:db8::1", "", "no address"], 0.0)
    assert gets_in(listener)
    assert traffic.thin(descriptor, ["192.0.2.1", own, "2001:db8::1"], 0.0)
    assert not gets_in(listener)
    traffic.let_all_in(descriptor)
    assert gets_in(listener)


def test_as_many_hosts_as_there_may_be(listener: socket.socket) -> None:
    hosts = [f"2001:db8::{number:x}" for number in range(traffic.MOST_HOSTS)]
    assert traffic.thin(listener.fileno(), hosts, 0.5)


def test_a_connection_that_is_there_is_let_alone(listener: socket.socket) -> None:
    with socket.create_connection(listener.getsockname()[:2]) as made:
        near, _ = listener.accept()
        with near:
            assert traffic.thin(listener.fileno(), [listener.getsockname()[0]], 0.0)
            made.sendall(b"here")
            near.settimeout(5)
            assert near.recv(4) == b"here"


def come_and_go(doorstep: Doorstep, host: str, times: int, now: float) -> list[str]:
    for _ in range(times):
        doorstep.went(host)
    return doorstep.look(now)


def test_a_flood_is_thinned_out_and_all_are_let_in_again_afterwards() -> None:
    with socket.create_server((HERE, 0)) as listener:
        doorstep, now, pause = Doorstep(), 1.0, 2 * LOOK_SECONDS
        doorstep.listener = listener.fileno()
        assert come_and_go(doorstep, HERE, 10, now) == []
        told = [come_and_go(doorstep, HERE, 10_000, now + n * pause) for n in range(1, 11)]
        assert told == [[HERE]] + [[]] * 9  # told once; it goes on
        assert sum(gets_in(listener) for _ in range(30)) < 5
        now += 10 * pause
        quiet = now + EASE_SECONDS / LEAST_PART
        while now < quiet and not all(gets_in(listener) for _ in range(5)):
            now += EASE_SECONDS + LOOK_SECONDS
            doorstep.look(now)
        assert all(gets_in(listener) for _ in range(20))
        assert come_and_go(doorstep, HERE, 10_000, now + pause) == [HERE]  # and anew


def test_who_is_gone_before_it_is_looked_at_is_one_of_the_noisiest() -> None:
    with socket.create_server((HERE, 0)) as listener:
        doorstep = Doorstep()
        doorstep.listener = listener.fileno()
        assert come_and_go(doorstep, "", 10_000, 1.0) == []  # nobody knows who
        doorstep.went("192.0.2.1")
        assert come_and_go(doorstep, "", 10_000, 2.0) == ["192.0.2.1"]
