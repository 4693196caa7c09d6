"""A program in the style of AML-IP's tutorial: jobs are text, solutions come to a listener.

Two jobs, each a random sample of MNIST; each solution the mean image of every digit; the means
are merged, and a test image is the digit whose mean is nearest (some 80 % right).

Usage: start this (with an address, and how many rows, if you like), and `mean_images_computing.py`
in other terminals, as often as you like.
"""

import json
import random
import sys

import numpy as np

from loaders import load
from main_node import AsyncMainNode, IntWaitHandler, SolutionListener
from protocol import JobDataType
from protocol.wire.addresses import DEFAULT_ADDRESS

DOMAIN_ID = 2
N_JOBS = 2
ROWS = 4000

waiter_job = IntWaitHandler(True)
solutions = []


class CustomSolutionListener(SolutionListener):
    def solution_received(self, solution, task_id, server_id):
        print(f"solution of task {task_id} from {server_id}")
        solutions.append(json.loads(solution.to_string()))
        waiter_job.increase()


def main(address, rows=ROWS):
    main_node = AsyncMainNode(
        "PyTestAsyncMainNode", listener=CustomSolutionListener(), domain=DOMAIN_ID, address=address
    )
    print(f"Node created: {main_node.get_id()}, listening at {main_node.address}", flush=True)
    training = load("mnist", limit=rows)
    pairs = list(zip(training.arrays["image"].tolist(), training.labels.tolist(), strict=True))
    for _ in range(N_JOBS):
        x, y = zip(*random.sample(pairs, len(pairs) // N_JOBS), strict=True)
        main_node.request_job_solution(JobDataType("x: " + json.dumps(x) + " y: " + json.dumps(y)))

    waiter_job.wait_equal(N_JOBS)

    means = np.mean([solution["means"] for solution in solutions], axis=0)
    test = load("mnist", "test", limit=1000)
    distances = ((test.arrays["image"][:, None] - means[None]) ** 2).sum(axis=(2, 3))
    print(f"accuracy {(distances.argmin(1) == test.labels).mean():.1%}")
    main_node.stop()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else DEFAULT_ADDRESS, *map(int, sys.argv[2:]))
