"""The computing side of `mean_images_main.py`; start it as often as you like, stop it by Ctrl-C."""

import json
import signal
import sys

import numpy as np

from computing_node import AsyncComputingNode, JobReplier
from protocol import JobSolutionDataType
from protocol.wire.addresses import DEFAULT_ADDRESS

DOMAIN_ID = 2


class CustomJobReplier(JobReplier):
    def process_job(self, job, task_id, client_id):
        data = job.to_string()
        x_index, y_index = data.find("x: "), data.find(" y: ")
        x = np.array(json.loads(data[x_index + len("x: ") : y_index]))
        y = np.array(json.loads(data[y_index + len(" y: ") :]))
        print(f"task {task_id} of {client_id}: {len(y)} images")
        means = [x[y == digit].mean(axis=0).tolist() for digit in range(10)]
        return JobSolutionDataType(json.dumps({"means": means}))


def main(address):
    computing_node = AsyncComputingNode(
        "PyTestAsyncComputingNode", listener=CustomJobReplier(), domain=DOMAIN_ID, address=address
    )
    print(
        f"Node created: {computing_node.get_id()}. Already processing jobs. Waiting SIGINT (C^)..."
    )
    computing_node.run()

    def handler(signum, frame):
        pass

    signal.signal(signal.SIGINT, handler)
    signal.pause()
    computing_node.stop()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else DEFAULT_ADDRESS)
