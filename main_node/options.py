"""What a user says of where a main node listens, and to whom."""

from __future__ import annotations

from dataclasses import dataclass

from learning.devices import CPU, CUDA
from protocol.options import Checked, option
from protocol.wire.addresses import DEFAULT_ADDRESS
from protocol.wire.limits import MAX_COUNT

#: Jobs run on whatever their nodes have.
AUTO = "auto"


@dataclass(frozen=True, kw_only=True)
class ListenOptions(Checked):
    """Where the main node listens, and who may come."""

    bind: str = option(
        DEFAULT_ADDRESS, "Where to listen; port 0 takes a free one and says which.",
        metavar="ADDRESS", may_be_empty=True,  # what an address looks like is said elsewhere
    )  # fmt: skip
    keys: str | None = option(
        None,
        "This main node's keys and whom it lets in, as mnist-keys makes them: for any address but"
        " this machine's own.",
        metavar="DIR",
        path=True,
    )
    insecure: bool = option(
        False,
        "Listen without keys where others can reach it: in a network where you trust everybody.",
    )
    announce: bool = option(
        False,
        "Let computing nodes in this network find this main node (mnist-compute --discover).",
    )
    domain: int = option(
        0, "Work with computing nodes of this domain only.", least=0, most=MAX_COUNT
    )
    silence_seconds: float = option(
        10.0,
        "A computing node that is silent for so long is given up, until it is heard again.",
        flag="--silence", least=2, most=1e9, metavar="SECONDS",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class JobOptions(Checked):
    """How long a job may take, how often it may fail, and what it runs on."""

    deadline_seconds: float | None = option(
        None, "Of one attempt of a job: then it is stopped, and tried at another node.",
        flag="--deadline", least=0, most=1e9, above=True, metavar="SECONDS", unset="never",
    )  # fmt: skip
    stall_seconds: float | None = option(
        120.0, "The same for an attempt that makes no progress for so long.", flag="--stall",
        least=0, most=1e9, above=True, metavar="SECONDS",
    )  # fmt: skip
    max_attempts: int = option(
        3, "A job that fails so often, at different nodes where there are any, fails for good.",
        least=1, most=MAX_COUNT,
    )  # fmt: skip
    device: str = option(
        AUTO,
        "What jobs run on: auto, what each node offers (mnist-compute --device); cpu; or cuda, at"
        " nodes that have a GPU, and no others. One kind of device gives one model.",
        choices=(AUTO, CPU, CUDA),
    )  # fmt: skip
    ship_code: bool = option(
        False,
        "Send the code of --learner FILE.py:NAME, with the modules beside it that it imports, to"
        " nodes that take it (mnist-compute --accept-code). Otherwise a node needs the same files.",
    )
