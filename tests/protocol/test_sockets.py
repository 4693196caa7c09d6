"""Sockets and their contexts, where somebody forgets them."""

from __future__ import annotations

import gc
import threading

from protocol.carrier.sockets import make_context


def test_a_context_that_is_rubbish_keeps_nobody_waiting() -> None:
    """Found here: collected with its sockets it waited for them, in another node's thread."""

    def forget() -> None:
        import zmq

        context = make_context()
        held: list[object] = [context, context.socket(zmq.ROUTER), context.socket(zmq.DEALER)]
        held.append(held)

    def collect() -> None:
        forget()
        gc.collect()

    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
