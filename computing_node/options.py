"""The options of `mnist-compute`."""

from __future__ import annotations

from dataclasses import dataclass

from console.logs import FORMAT_HELP, LOG_FORMATS, LOG_LEVELS
from protocol.options import Checked, option
from protocol.wire.addresses import DEFAULT_ADDRESS
from protocol.wire.limits import MAX_COUNT

from .devices import AUTO, CHOICES

#: For --max-memory, in bytes.
LEAST_MEMORY = 10 << 20


@dataclass(frozen=True, kw_only=True)
class ComputeOptions(Checked):
    """Which main nodes a computing node serves, and what of this machine it gives them."""

    connect: tuple[str, ...] = option(
        (), "Where a main node listens; repeat it to serve several. They may start later.",
        metavar="ADDRESS", unset=f"{DEFAULT_ADDRESS}, or none with --discover",
    )  # fmt: skip
    discover: bool = option(
        False,
        "Find the main nodes of the domain that announce themselves in this network (mnist-main"
        " --announce), those that come later too.",
    )
    domain: int = option(0, "Work with main nodes of this domain only.", least=0, most=MAX_COUNT)
    keys: str | None = option(
        None, "This node's keys, as mnist-keys makes them: to reach main nodes that have some.",
        metavar="DIR", path=True,
    )  # fmt: skip
    insecure: bool = option(
        False,
        "With --discover and without keys, serve main nodes on other machines too: in a network"
        " where you trust everybody.",
    )
    name: str = option("", "What people see.", unset="this host's name", may_be_empty=True)
    tasks: int = option(
        1,
        "How many jobs to run at once; each uses the threads that the main node says (1).",
        least=1, most=1024,
    )  # fmt: skip
    device: str = option(
        AUTO,
        "What jobs run on, unless they want the processor: auto, an NVIDIA GPU where torch can use"
        " one, else the processor; each of --tasks has its own GPU, in turn; mps (of a Mac) is"
        " untried.",
        choices=CHOICES,
    )  # fmt: skip
    max_jobs: int | None = option(None, "Leave after so many jobs.", least=1, unset="never")
    max_memory: int | None = option(
        None,
        "What the jobs may take together, e.g. 4GB: half of it for their arrays, half for the"
        " work itself (beside 0.3 GB for each of --tasks, for its libraries). A job that wants more"
        " fails, and main nodes give it to others.",
        size=True, least=LEAST_MEMORY, metavar="SIZE", unset="half of this machine's",
    )  # fmt: skip
    max_job_seconds: float | None = option(
        None, "Stop a job after so long; main nodes give it to others.", least=0, most=1e9,
        above=True, metavar="SECONDS", unset="never",
    )  # fmt: skip
    learners: tuple[str, ...] = option(
        (), "Take jobs of this learner only: neural, algebraic, what an installed package"
        " brings, or own, which is users' own nets, learners and ways to merge; repeat it for"
        " several.",
        metavar="NAME", unset="all",
    )  # fmt: skip
    code: tuple[str, ...] = option(
        (), "Look for users' own code (mnist-main --learner FILE.py:NAME, --merge FILE.py:NAME) in"
        " this folder, too, beside what is installed; repeat it for several.",
        metavar="FOLDER", path=True, unset="none",
    )  # fmt: skip
    accept_code: bool = option(
        False,
        "Take code that comes with jobs (mnist-main --ship-code) and run it, as this user: anybody"
        " who may send jobs here decides then what this process does. From other machines only with"
        " --keys.",
    )
    pulse: str | None = option(
        None,
        "Change this file's time every second, for a health check. (systemd's watchdog is told"
        " where there is one.)",
        metavar="FILE",
        path=True,
    )
    log_level: str = option(
        "info", "Say things of this importance and above, on standard error.", choices=LOG_LEVELS
    )
    log_format: str = option("text", FORMAT_HELP, choices=LOG_FORMATS)
