"""Who is of no use is borne for a while, and a hundred of them hardly longer than one."""

from __future__ import annotations

from protocol.carrier.patience import Patience, Pool, Pools
from protocol.wire.limits import (
    MAX_HOSTS,
    NOISE_BURST,
    NOISE_PER_JOB,
    NOISE_PER_SECOND,
    OWN_NOISE_BURST,
    OWN_NOISE_PER_SECOND,
)


def borne(peers: list[Patience], seconds: float) -> int:
    """Return how much noise is borne of peers that make as much as they can, by turns."""
    count = 0
    for peer in peers:
        for _ in range(100_000):
            if not peer.bear(1.0, seconds):
                break
            count += 1
    return count


def test_a_hundred_from_one_host_cost_little_more_than_one() -> None:
    alone = Pool(0.0)
    assert borne([Patience(0.0, alone)], 0.0) == NOISE_BURST + OWN_NOISE_BURST
    shared = Pool(0.0)
    crowd = [Patience(0.0, shared) for _ in range(100)]
    assert borne(crowd, 0.0) == NOISE_BURST + 100 * OWN_NOISE_BURST


def test_who_says_little_is_borne_for_ever_whatever_others_do() -> None:
    shared = Pool(0.0)
    quiet, loud = Patience(0.0, shared), Patience(0.0, shared)
    for second in range(1000):
        borne([loud], second)
        for part in range(int(OWN_NOISE_PER_SECOND)):
            assert quiet.bear(1.0, second + part / OWN_NOISE_PER_SECOND)


def test_who_is_of_use_may_say_more_but_not_without_end() -> None:
    shared = Pool(0.0)
    peer = Patience(0.0, shared)
    borne([Patience(0.0, shared)], 0.0)
    for _ in range(100_000):
        assert peer.bear(-NOISE_PER_JOB, 0.0)
    assert borne([peer], 0.0) == NOISE_BURST


def test_a_pool_fills_again_and_old_ones_are_forgotten() -> None:
    pools = Pools()
    mine = pools.of("mine", 0.0)
    assert pools.of("mine", 1.0) is mine
    assert mine.bear(NOISE_BURST, 0.0)
    assert not mine.bear(1.0, 0.0)
    assert mine.bear(NOISE_PER_SECOND, 1.0)
    for number in range(MAX_HOSTS):
        pools.of(str(number), 2.0)
    assert pools.of("mine", 3.0) is not mine
