"""What happens and who follows, without sockets: each event once and in order, or counted."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from functools import cache
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import LocalProtocolError, RemoteProtocolError
from protocol.machine.chronicle import (
    MORE_SECONDS,
    NEWS_SECONDS,
    REPEAT_SECONDS,
    Chronicle,
    Follower,
    Happening,
)
from protocol.machine.effects import Effect, Send
from protocol.machine.watching import MAX_WATCHERS, Board
from protocol.wire.codec import decode, encode, pack_event
from protocol.wire.limits import (
    ANSWER_BYTES,
    ANSWER_EVENTS,
    ANSWERS_BYTES,
    ANSWERS_SECONDS,
    EVENT_BYTES,
    EVENT_COST_BYTES,
    TOLD_NOISE,
)
from protocol.wire.messages import Follow, Happened, Message, Watch


def chronicle(log: str = "main.1:a", **options: int) -> Chronicle:
    return Chronicle(log, count(1).__next__, **options)


@cache  # the worlds below make the same few thousand again and again
def event(n: int, nbytes: int = 0) -> bytes:
    return pack_event({"n": n, "pad": "x" * nbytes})


def sent(effects: list[Effect]) -> list[Happened]:
    messages = []
    for effect in effects:
        assert isinstance(effect, Send)
        assert isinstance(effect.message, Happened)
        messages.append(effect.message)
    return messages


class Talk:
    """A chronicle and one that follows it, over a line that loses nothing."""

    def __init__(self, told: Chronicle, follower: Follower | None = None) -> None:
        self.told, self.follower = told, follower or Follower()
        self.follower.greet()
        self.news: list[Happening] = []
        self.said = self.answered = 0
        self.noise = 0.0

    def settle(self, now: float) -> None:
        """Let both talk until neither has anything to say at this moment."""
        while asked := self.follower.say(now):
            for message in asked:
                assert isinstance(message, Follow)
                self.said += 1
                effects, noise = self.told.receive(b"w", message, now)
                self.noise += noise
                self.take(effects)
            if now >= self.told.due:
                self.take(self.told.publish(now))

    def take(self, effects: list[Effect]) -> None:
        for message in sent(effects):
            self.answered += 1
            assert len(encode([message])[1]) < ANSWER_BYTES + 8 * ANSWER_EVENTS
            self.news += self.follower.receive(decode(encode([message]))[0])

    def numbers(self) -> list[int]:
        return [happening.number for happening in self.news]


def test_who_follows_is_told_what_was_and_then_what_comes() -> None:
    told = chronicle()
    for n in (1, 2):
        told.put(event(n))
    talk = Talk(told)
    talk.settle(0.0)
    assert talk.news == [
        Happening(n, {"n": n, "pad": ""}, 0, "main.1:a") for n in (1, 2)
    ]  # fmt: skip
    assert talk.news[0].main == "main.1"
    told.put(event(3))
    assert told.due <= 0.0
    talk.take(told.publish(0.0))  # a moment ago it was told something: together with what comes
    assert talk.numbers() == [1, 2]
    assert told.due == NEWS_SECONDS
    told.put(event(4))
    talk.take(told.publish(NEWS_SECONDS))
    assert talk.numbers() == [1, 2, 3, 4]
    talk.settle(NEWS_SECONDS)
    told.put(event(5))
    talk.take(told.publish(9.0))  # at once
    assert talk.numbers() == [1, 2, 3, 4, 5]


def test_events_that_nobody_follows_cost_the_ring_and_nobody_is_due() -> None:
    told = chronicle(kept=10)
    for n in range(1, 100):
        told.put(event(n))
    assert told.due == float("inf")
    assert (told.first, told.last, told.followed) == (90, 99, False)
    talk = Talk(told)
    talk.settle(0.0)
    assert talk.numbers() == list(range(90, 100))
    assert [h.missed for h in talk.news] == [89] + [0] * 9


def test_the_ring_is_bounded_in_bytes() -> None:
    limit = 100 * (1000 + EVENT_COST_BYTES)
    told = chronicle(kept_bytes=limit)
    for n in range(1, 1000):
        told.put(event(n, 980 + n % 7))
        assert sum(len(e) + EVENT_COST_BYTES for e in told._events.values()) == told._nbytes
        assert told._nbytes <= limit
    assert told.last - told.first > 90


def test_what_is_lost_before_it_is_kept_is_counted() -> None:
    told = chronicle()
    talk = Talk(told)
    told.put(event(1))
    talk.settle(0.0)
    told.lose(5)
    told.put(event(7))
    talk.take(told.publish(1.0))
    assert [(h.number, h.missed) for h in talk.news] == [(1, 0), (7, 5)]


def test_a_new_log_begins_anew_and_an_old_one_goes_on() -> None:
    old, new = chronicle("m:1"), chronicle("m:2")
    talk = Talk(old)
    for n in (1, 2, 3):
        old.put(event(n))
    talk.settle(0.0)
    old.put(event(4))
    old.leave(b"w")
    talk.follower.greet()
    talk.settle(1.0)
    assert talk.numbers() == [1, 2, 3, 4]
    for n in range(1, 7):
        new.put(event(n))
    talk.follower.greet()
    talk.told = new
    talk.settle(2.0)
    assert [(h.log, h.number) for h in talk.news[4:]] == [("m:2", n) for n in range(1, 7)]


def test_catching_up_is_fast_and_makes_little_noise() -> None:
    """As much as is kept comes within seconds, and its watcher is not taken for a flood."""
    told = chronicle()
    for n in range(1, 30_001):
        told.put(event(n, 300))
    first = told.first
    talk, now = Talk(told), 0.0
    while talk.numbers()[-1:] != [told.last]:
        now += MORE_SECONDS
        talk.settle(now)
        if now >= told.due:
            talk.take(told.publish(now))
    assert talk.numbers() == list(range(first, told.last + 1))
    assert now < 2.0
    assert talk.noise <= 1 + TOLD_NOISE * talk.said + 1e-9


def test_who_lives_on_news_makes_little_noise() -> None:
    """A thousand events a second, for a minute, are ten answers a second."""
    told = chronicle()
    talk = Talk(told)
    for n in range(1, 60_001):
        told.put(event(n))
        now = n / 1000
        if now >= told.due:
            talk.take(told.publish(now))
        talk.settle(now)
    assert talk.numbers() == list(range(1, talk.numbers()[-1] + 1))
    assert talk.numbers()[-1] > 59_800
    assert talk.answered <= 60 / NEWS_SECONDS + 2
    assert talk.noise < 60


def test_who_does_not_read_gets_one_answer_whatever_it_says() -> None:
    """It can't guess the receipt of what it has not read."""
    told = chronicle()
    for n in range(1, 20_001):
        told.put(event(n, 100))
    (hello,) = sent(told.receive(b"w", Follow("", 0, ANSWER_BYTES, 0), 0.0)[0])
    assert not hello.events
    told.receive(b"w", Follow(told.log, 0, ANSWER_BYTES, hello.receipt), 0.0)
    answers, noise = sent(told.publish(0.0)), 0.0
    assert len(answers) == 1
    assert answers[0].events
    choose = random.Random(0)
    for n in range(10_000):
        receipt = choose.choice([0, hello.receipt, 1 << 50, 10_000 + n])
        follow = Follow(choose.choice(["", told.log]), choose.randrange(30_000), 1 << 40, receipt)
        effects, heard = told.receive(b"w", follow, n / 100)
        noise += heard
        assert not any(answer.events for answer in sent(effects))
        assert not sent(told.publish(n / 100))
    assert noise == 10_000  # and it is dropped for that
    assert len(told._wishes) == 1


def test_a_repeated_wish_is_noise_and_is_answered_once() -> None:
    told = chronicle()
    (hello,) = sent(told.receive(b"w", Follow("", 0, ANSWER_BYTES, 0), 0.0)[0])
    wish = Follow(told.log, 0, ANSWER_BYTES, hello.receipt)
    assert told.receive(b"w", wish, 0.0) == ([], TOLD_NOISE)
    for _ in range(100):
        assert told.receive(b"w", wish, 0.0) == ([], 1.0)
    told.put(event(1))
    assert len(told.publish(0.0)) == 1
    assert told.publish(1.0) == []


def test_many_watchers_share_what_is_sent_and_each_has_its_turn() -> None:
    told = chronicle()
    for n in range(1, 2001):
        told.put(event(n, 6000))
    talks = {b"%d" % n: Talk(told) for n in range(40)}
    total, now = 0, 0.0
    answered = dict.fromkeys(talks, 0)
    for step in range(100):
        now = step * ANSWERS_SECONDS
        for peer, talk in talks.items():
            for message in talk.follower.say(now):
                assert isinstance(message, Follow)
                for effect in told.receive(peer, message, now)[0]:
                    assert isinstance(effect, Send)
                    talk.follower.receive(effect.message)
        bytes_now = 0
        for effect in told.publish(now):
            assert isinstance(effect, Send)
            assert isinstance(effect.message, Happened)
            bytes_now += sum(map(len, effect.message.events))
            answered[effect.peer] += 1
            assert talks[effect.peer].follower.receive(effect.message)
        assert bytes_now <= ANSWERS_BYTES + ANSWER_BYTES
        total += bytes_now
    assert total > 50 * ANSWERS_BYTES
    assert max(answered.values()) - min(answered.values()) <= 2


def test_only_watchers_follow_and_who_leaves_is_forgotten() -> None:
    told = chronicle()
    board = Board("main.1", 0, 1.0, told)
    wish = Follow("", 0, ANSWER_BYTES, 0)
    assert board.follow(b"s", wish, 0.0) == ([], 1.0)
    for n in range(MAX_WATCHERS + 20):
        board.receive(b"%d" % n, Watch(f"{n:08}", "w", 0), 0.0)
        board.follow(b"%d" % n, wish, 0.0)
    assert len(told._wishes) == MAX_WATCHERS
    for n in range(MAX_WATCHERS):
        board.leave(b"%d" % n, "gone")
    assert not told.followed


def test_a_wish_that_nobody_answers_is_said_again_and_not_oftener() -> None:
    follower = Follower()
    follower.greet()
    assert len(follower.say(0.0)) == 1
    assert follower.say(REPEAT_SECONDS - 0.1) == []
    assert len(follower.say(REPEAT_SECONDS)) == 1
    assert follower.say(REPEAT_SECONDS + 0.1) == []


def test_what_nobody_asked_for_is_not_heard() -> None:
    """A main node can't fill its watcher's memory: an answer is asked for, and so is the next."""
    follower = Follower()
    follower.greet()
    follower.say(0.0)
    many = tuple(map(event, range(1, 11)))
    assert len(follower.receive(Happened("l", 1, many, 0, 10, 5))) == 10
    for first in range(11, 1000, 10):
        assert follower.receive(Happened("l", first, many, 0, 10_000, first)) == []
    follower.say(0.1)
    assert follower.receive(Happened("l", 501, many, 0, 10_000, 9)) == []  # after what it has not
    assert follower.receive(Happened("other", 1, many, 0, 10, 9)) == []  # not in one connection
    assert len(follower.receive(Happened("l", 11, many, 0, 20, 9))) == 10


def test_an_event_is_plain_and_small() -> None:
    with pytest.raises(LocalProtocolError, match="say less of it"):
        pack_event({"text": "x" * EVENT_BYTES})
    with pytest.raises(LocalProtocolError, match="plain values"):
        pack_event({"what": object()})
    with pytest.raises(LocalProtocolError, match="by name, not list"):
        pack_event([1])  # type: ignore[arg-type]
    with pytest.raises(LocalProtocolError, match="a text is wanted"):
        pack_event({1: 2})  # type: ignore[dict-item]


@pytest.mark.parametrize("packed", [b"", b"\xc1", b"\x01", b"\x81\x01\x02", b"\xd4\x05\x00"])
def test_an_event_that_is_none_is_the_main_nodes_mistake(packed: bytes) -> None:
    follower = Follower()
    follower.greet()
    follower.say(0.0)
    with pytest.raises(RemoteProtocolError):
        follower.receive(Happened("l", 1, (event(1), packed), 0, 2, 1))
    assert len(follower.receive(Happened("l", 1, (event(1),), 0, 1, 1))) == 1  # nothing was taken


class World:
    """A main node and a watcher, with a line between them that may do anything to messages.

    Args:
        seed: of everything that happens.
    """

    def __init__(self, seed: int) -> None:
        self.choose = choose = random.Random(seed)
        self.now = 0.0
        self.kept = choose.choice([3, 20, 100, 1 << 16])
        self.logs = count(1)
        self.restarts = 0
        self.begin()
        self.follower = Follower()
        self.connected, self.peer = False, count()
        self.id = b""
        self.line: list[tuple[float, int, bool, list[bytes]]] = []  # at, order, to main, frames
        self.order = itertools.count()
        self.loss, self.repeat = choose.choice([0, 0.1, 0.4]), choose.choice([0, 0.1, 0.3])
        self.damage, self.delay = choose.choice([0, 0.1]), choose.choice([0.0, 0.05, 2.0])
        self.news: list[Happening] = []
        self.told: dict[str, int] = {}
        self.lost = 0

    def begin(self) -> None:
        """The main node starts."""
        log = f"m:{next(self.logs)}"
        self.chronicle = Chronicle(
            log, lambda: self.choose.randrange(1, 1 << 53), self.kept,
            self.choose.choice([2_000, 1 << 24]),
        )  # fmt: skip
        self.board = Board("m", 0, 1.0, self.chronicle)

    def send(self, message: Message, to_main: bool) -> None:
        if self.choose.random() < self.loss:
            return
        for _ in range(1 + (self.choose.random() < self.repeat)):
            frames = [bytes(frame) for frame in encode([message])]
            if self.choose.random() < self.damage:
                part = self.choose.randrange(len(frames))
                where = self.choose.randrange(len(frames[part]))
                flipped = bytearray(frames[part])
                flipped[where] ^= 1 << self.choose.randrange(8)
                frames[part] = bytes(flipped)
            at = self.now + self.delay * self.choose.random()
            heapq.heappush(self.line, (at, next(self.order), to_main, frames))

    def carry(self) -> None:
        """Deliver what is due."""
        while self.line and self.line[0][0] <= self.now:
            _, _, to_main, frames = heapq.heappop(self.line)
            try:
                (message,) = decode(frames)
            except RemoteProtocolError:
                continue
            if to_main:
                if isinstance(message, Watch):
                    self.board.receive(self.id, message, self.now)
                elif isinstance(message, Follow):
                    self.perform(self.board.follow(self.id, message, self.now)[0])
            else:
                self.news += self.follower.receive(message)

    def perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            assert isinstance(effect, Send)
            assert effect.peer == self.id
            self.send(effect.message, to_main=False)

    def cut(self) -> None:
        self.connected = False
        self.line.clear()
        self.board.leave(self.id, "connection lost")

    def connect(self) -> None:
        self.connected, self.id = True, b"%d" % next(self.peer)
        self.follower.greet()

    def happen(self, many: int) -> None:
        log = self.chronicle.log
        for _ in range(many):
            self.told[log] = self.told.get(log, 0) + 1
            self.chronicle.put(event(self.told[log], self.choose.randrange(30)))

    def step(self) -> None:
        choose = self.choose
        self.now += choose.random() / 4
        match choose.randrange(12):
            case 0 | 1 | 2 | 3:
                self.happen(choose.choice([1, 1, 1, 5, 50]))
            case 4 if self.connected:
                self.cut()
            case 5 if choose.random() < 0.2:
                self.cut()
                self.begin()
                self.restarts += 1
            case 6 if choose.random() < 0.2:
                lost = choose.randrange(1, 9)
                log = self.chronicle.log
                self.chronicle.lose(lost)
                self.told[log] = self.told.get(log, 0) + lost
                self.happen(1)
            case 7 if not self.connected:
                self.connect()
            case _:
                pass
        self.talk()

    def talk(self) -> None:
        if self.connected:
            self.send(Watch("0" * 8, "w", 0), to_main=True)
            self.carry()
            if self.choose.random() < 0.8:  # else its user is slow
                for message in self.follower.say(self.now):
                    self.send(message, to_main=True)
        if self.now >= self.chronicle.due:
            self.perform(self.chronicle.publish(self.now))

    def rest(self) -> None:
        """Nothing happens any more but what the line does to messages."""
        if not self.connected:
            self.connect()
        for _ in range(4000):
            self.now += 0.1
            self.talk()
            last = self.news[-1] if self.news else None
            seen = (last.log, last.number) if last is not None else None
            if self.chronicle.last == 0 or seen == (self.chronicle.log, self.chronicle.last):
                return
        raise AssertionError(f"{self.chronicle.last} events, told {seen}")


def check(news: list[Happening], told: Callable[[str], int]) -> None:
    """Each event once and in order, what is missed is counted, a log comes once."""
    logs = [log for log, _ in itertools.groupby(news, lambda h: h.log)]
    assert len(logs) == len(set(logs))
    for log, group in itertools.groupby(news, lambda h: h.log):
        number = 0
        for happening in group:
            assert happening.missed >= 0
            assert happening.number == number + happening.missed + 1
            assert happening.event["n"] == happening.number
            number = happening.number
        assert number <= told(log)


@pytest.mark.parametrize("seeds", [range(n, n + 100) for n in range(0, 1200, 100)], ids=str)
def test_whatever_the_line_does_each_event_comes_once_and_in_order(seeds: range) -> None:
    for seed in seeds:
        world = World(seed)
        for _ in range(world.choose.randrange(20, 120)):
            world.step()
        world.rest()
        check(world.news, lambda log: world.told[log])  # noqa: B023
        if world.kept == 1 << 16:
            kept = world.chronicle
            missed = sum(h.missed for h in world.news if h.log == kept.log)
            got = [h.number for h in world.news if h.log == kept.log]
            assert missed + len(got) == kept.last


def test_as_long_as_they_are_kept_none_is_missed() -> None:
    """The same worlds, with a ring that holds all."""
    cuts = 0
    for seed in range(400):
        world = World(seed)
        world.kept = 1 << 16
        world.chronicle = Chronicle("m:0", lambda: world.choose.randrange(1, 1 << 53))  # noqa: B023
        world.board = Board("m", 0, 1.0, world.chronicle)
        for _ in range(60):
            world.now += world.choose.random() / 4
            if world.choose.random() < 0.3:
                world.happen(world.choose.choice([1, 5, 50]))
            if world.choose.random() < 0.1:
                cuts += world.connected
                world.cut() if world.connected else world.connect()
            world.talk()
        world.rest()
        assert [h.number for h in world.news] == list(range(1, world.chronicle.last + 1)), seed
        assert not any(h.missed for h in world.news)
    assert cuts > 400


texts = st.text(max_size=3)
numbers = st.integers(0, 4)


@given(
    st.lists(
        st.builds(
            Happened, texts, numbers, st.lists(numbers.map(event), max_size=4).map(tuple), numbers,
            numbers, numbers,
        ) | st.none()
    )
)  # fmt: skip
def test_a_follower_survives_whatever_it_is_told(messages: list[Happened | None]) -> None:
    follower, last = Follower(), 0
    follower.greet()
    log = None
    for message in messages:
        follower.say(0.0)
        for happening in [] if message is None else follower.receive(message):
            assert log in (None, happening.log)  # over one connection there is one
            assert happening.number == last + happening.missed + 1
            log, last = happening.log, happening.number
