"""Runs some of whose nodes lie, over real sockets: what comes of them by how they merge."""

from __future__ import annotations

import re
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from threading import Condition

import numpy as np
import pytest

from benchmarks.liars import ATTACKS, FLIPPED, NONE, lied
from learning import MergeError
from learning.actions import Fit, within
from loaders import SourceOptions
from main_node.commands.options import TrainOptions
from main_node.options import ListenOptions
from main_node.run.events import Event, Warned
from main_node.run.opening import Plan, open_run
from main_node.run.spec import CompanyOptions
from protocol import JobDataType, JobSolutionDataType

from ..alone import Solve, Threads, solve
from ..conftest import ANY_PORT, write_idx

NODES, LIARS, ROUNDS = 8, (3, 7), 4
#: What bears two liars of eight, and of these what can't say who they are.
ROBUST = ("clipping", "median", "trimmed:trim=0.25", "rfa", "krum:liars=2", "multikrum:liars=2")
COORDINATES = ("median", "trimmed:trim=0.25")


def liar(attack: str, job: JobDataType) -> JobSolutionDataType:
    """Solve a job, and lie."""
    if attack == FLIPPED:
        labels = {"label": 9 - job.arrays["label"]}
        return solve(JobDataType({**job.arrays, **labels}, job.parameters, kind=job.kind))
    told, before = solve(job), within("start", job.arrays)
    seed = int(job.parameters["seed"]) % 2**32
    return JobSolutionDataType(lied(attack, told.arrays, before, seed), told.fields)


class Company(Threads):
    """Nodes some of which lie: each of these once in a round, however jobs are given out.

    Args:
        count: how many they are.
        attack: how they lie.
        liars: their numbers.
    """

    def __init__(self, count: int, attack: str, liars: tuple[int, ...]) -> None:
        super().__init__(count)
        self._attack, self._liars = attack, liars
        self._lied: set[tuple[int, int]] = set()
        self._changed = Condition()

    def solving(self, number: int) -> Solve:
        """Return how a node solves jobs, by its number from 1."""
        return partial(self._solve, number)

    def _solve(self, number: int, job: JobDataType) -> JobSolutionDataType:
        if job.parameters["action"] != Fit.name:
            return solve(job)
        round_ = job.parameters["turn"]["round"]
        with self._changed:
            lies = number in self._liars and (round_, number) not in self._lied
            if lies:
                self._lied.add((round_, number))
            self._changed.notify_all()
            # So that each of them has one.
            assert self._changed.wait_for(lambda: self._all_lied(round_), 60)
        return liar(self._attack, job) if lies else solve(job)

    def _all_lied(self, round_: int) -> bool:
        return all((round_, number) in self._lied for number in self._liars)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write classes that overlap: what is far from right shows."""
    folder, random = tmp_path_factory.mktemp("liars"), np.random.default_rng(0)
    likeness = random.normal(0, 30, (10, 8, 8))
    for split, rows in (("train", 1_600), ("t10k", 1_000)):
        labels = random.integers(0, 10, rows)
        images = 128 + likeness[labels] + random.normal(0, 40, (rows, 8, 8))
        write_idx(folder / f"{split}-images-idx3-ubyte", images.clip(0, 255).astype(np.uint8))
        write_idx(folder / f"{split}-labels-idx1-ubyte", labels)
    return folder


class Runs:
    """Runs over the same data.

    Args:
        data, folder: where it is, and where they are.
    """

    def __init__(self, data: Path, folder: Path) -> None:
        self._data, self._folder = data, folder

    def accuracy(
        self, how: str, attack: str, nodes: int = NODES, liars: tuple[int, ...] = LIARS
    ) -> tuple[float, set[str]]:
        """Return how good the model is, and the nodes of which something odd was said."""
        spec = TrainOptions.of(learner="linear", jobs=nodes, rounds=ROUNDS, merge=how).spec
        plan = Plan(
            spec=spec, source=SourceOptions(data=str(self._data)), runs=self._folder,
            listen=ListenOptions(bind=ANY_PORT), company=CompanyOptions(min_nodes=nodes),
            engine=Company(nodes, attack, liars),
        )  # fmt: skip
        heard = Heard()
        result = open_run(plan, [heard]).see_through()
        return result.accuracy, set(re.findall(r"by (local-\d+)", " ".join(heard.warnings)))

    @cached_property
    def honest(self) -> float:
        """How good a model is where nobody lies."""
        return self.accuracy("mean", NONE, liars=())[0]


class Heard:
    """A listener that remembers what it was warned of."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def on(self, event: Event) -> None:
        if isinstance(event, Warned):
            self.warnings.append(event.text)


@pytest.fixture(scope="module")
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(data, tmp_path_factory.mktemp("runs"))


def test_liars_have_their_way_with_a_mean_that_bounds_nothing(runs: Runs) -> None:
    """Else the tests below would show nothing."""
    assert runs.accuracy("mean:bound=0", "scaled x100")[0] < runs.honest - 0.01


@pytest.mark.parametrize("how", ROBUST)
def test_liars_do_not_have_their_way(runs: Runs, how: str) -> None:
    accuracy, odd = runs.accuracy(how, "scaled x100")
    assert accuracy > runs.honest - 0.01
    assert odd == (set() if how in COORDINATES else {f"local-{number}" for number in LIARS})


@pytest.mark.lane("deep")
@pytest.mark.parametrize(
    ("how", "attack"),
    # Clipping takes a way that is as long as honest ones, whereto ever it leads.
    [
        (how, attack) for how, attack in product(ROBUST, ATTACKS)
        if attack not in (NONE, "scaled x100") and (how, attack) != ("clipping", "sign turned")
    ],
)  # fmt: skip
def test_nor_by_other_lies(runs: Runs, how: str, attack: str) -> None:
    assert runs.accuracy(how, attack)[0] > runs.honest - 0.01


def test_too_few_jobs_are_refused_before_a_run_begins() -> None:
    words = r"bulyan with liars=2 needs 11 solutions or more; there are 10 \(--jobs 10\)"
    with pytest.raises(MergeError, match=words):
        TrainOptions.of(jobs=10, merge="bulyan:liars=2").check()
    TrainOptions.of(jobs=11, merge="bulyan:liars=2").check()


@pytest.mark.lane("deep")
@pytest.mark.parametrize("attack", [each for each in ATTACKS if each != NONE])
def test_bulyan_needs_eleven_nodes_to_bear_two(runs: Runs, attack: str) -> None:
    assert runs.accuracy("bulyan:liars=2", attack, 11)[0] > runs.honest - 0.01
