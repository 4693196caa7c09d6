"""47 MB out and 1 MB back, against a raw TCP connection over loopback.

Usage: python -m benchmarks.transfer
"""

from __future__ import annotations

import multiprocessing
import socket
import time
from itertools import count
from typing import Any

import numpy as np

from main_node import AsyncMainNode
from protocol import JobDataType

from .common import HEAD, Row, alternate, machine, node_process

OUT, BACK = 47_040_000, 1_000_000
_SALT = count(1)


def fresh() -> np.ndarray[Any, Any]:
    """Return an array that no node has seen, in memory that is warm."""
    array = np.full(OUT, next(_SALT) % 251, np.uint8)
    array[:: 1 << 12] = np.random.default_rng().integers(0, 255, len(array[:: 1 << 12]))
    return array


def ours(main: AsyncMainNode) -> float:
    """Return milliseconds."""
    array = fresh()
    begun = time.perf_counter()
    solution = main.submit(JobDataType({"x": array})).result(60)
    took = (time.perf_counter() - begun) * 1e3
    np.testing.assert_array_equal(solution.arrays["x"], array[:BACK])
    return took


def _serve(port: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port.send(server.getsockname()[1])
        connection, _ = server.accept()
        while True:
            array = np.empty(OUT, np.uint8)  # as a node does: each job's array is its own
            if not _fill(connection, array):
                return
            connection.sendall(array[:BACK].data)


def _fill(connection: socket.socket, array: np.ndarray[Any, Any]) -> bool:
    view = array.data
    while view:
        got = connection.recv_into(view)
        if not got:
            return False
        view = view[got:]
    return True


def raw(connection: socket.socket) -> float:
    """Return milliseconds."""
    array = fresh()
    begun = time.perf_counter()
    connection.sendall(array.data)
    back = np.empty(BACK, np.uint8)
    _fill(connection, back)
    return (time.perf_counter() - begun) * 1e3


def measure(runs: int = 15) -> list[Row]:
    here, there = multiprocessing.Pipe()
    server = multiprocessing.Process(target=_serve, args=(there,), daemon=True)
    server.start()
    with (
        AsyncMainNode("bench", address="tcp://127.0.0.1:0") as main,
        node_process(main.address),
        socket.create_connection(("127.0.0.1", here.recv())) as connection,
    ):
        main.wait_for_nodes(1, 20)
        alternate(3, lambda: ours(main), lambda: raw(connection))
        took, raw_took = alternate(runs, lambda: ours(main), lambda: raw(connection))
    server.join(5)
    return [Row("47 MB out, 1 MB back", took, "ms", raw_took, "raw loopback TCP", 25)]


if __name__ == "__main__":
    print(machine(), HEAD, *measure(), sep="\n")
