"""What a run is: all that shapes its model, and what a user says of how it goes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from learning import UnknownStrategy, create, merging
from learning import learner as learner_class
from learning.contract import Learner, Turn
from learning.errors import told_of
from learning.merging import Strategy
from learning.registry import settings_of
from loaders import DataOptions, Rows
from protocol.errors import ConfigError
from protocol.options import Checked, carried, declared, flat, make, option
from protocol.wire.limits import MAX_COUNT
from protocol.wire.words import from_json

if TYPE_CHECKING:
    from learning.own.code import Code


#: Of rounds that nobody asked for, so many are tried, about: to try one costs as much as to learn
#: from some thousand rows.
_TRIED = 8


@dataclass(frozen=True, kw_only=True)
class PlanOptions(Checked):
    """How often shards are learned from and merged."""

    rounds: int | None = option(
        None, "How often to merge; the merged model starts the next round.", least=1,
        most=MAX_COUNT, unset="the learner's own: of neural the preset's, else 5",
    )  # fmt: skip
    seed: int = option(
        0, "Of everything random: same seed, data and jobs, same model.", least=0, most=MAX_COUNT
    )
    validate_every: int | None = option(
        None, "Try the model of each so many-th round, and the last one's, on the test set, or on"
        " the rows that --validation keeps aside.",
        least=1, most=MAX_COUNT, metavar="ROUNDS", added=True, before=1,
        unset="each; about eight of the rounds that nobody asked for",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class MergeOptions(Checked):
    """What is merged, and where shards are asked about it."""

    count: str = option(
        "main",
        "algebraic: where to count what contradicts the merged atoms; the model is the same.",
        choices=("main", "nodes"),
    )
    partial: bool = option(
        False, "Merge what there is when a job fails for good, instead of ending."
    )


@dataclass(frozen=True, kw_only=True)
class CompanyOptions(Checked):
    """How many computing nodes a run wants, and for how long it waits for them."""

    min_nodes: int = option(
        1, "Begin when so many computing nodes are here.", least=1, most=MAX_COUNT
    )
    max_nodes: int | None = option(
        None, "Give jobs to so many computing nodes at once, at most; one that goes is followed by"
        " another.", least=1, most=MAX_COUNT, unset="all that are here",
    )  # fmt: skip
    timeout_seconds: float | None = option(
        None, "Give up after so long without enough computing nodes.", flag="--timeout", least=0,
        most=1e9, metavar="SECONDS", unset="never",
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_nodes is not None and self.min_nodes > self.max_nodes:
            raise ConfigError(
                f"--min-nodes {self.min_nodes} and --max-nodes {self.max_nodes}: it would wait for"
                " more nodes than it may use"
            )


def _texts(value: object) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, tuple | list) else ()


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """All that shapes a run's model: of equal ones, on equal data, the models are equal.

    Args:
        data: which rows, and how they are cut.
        learner: its name.
        made: what the learner is made with: the dataclass of its options.
        merge: the strategy that merges, as `learning.merging.told` tells it; of a user's own with
            the place where it is.
        plan: of the rounds.
    """

    data: DataOptions
    learner: str
    made: Any
    merge: str
    plan: PlanOptions

    @classmethod
    def of(cls, values: Mapping[str, object]) -> RunSpec:
        """Return the run that options by name describe.

        Raises:
            UnknownLearner: there is no such learner.
            UnknownStrategy: there is no such way to merge, or not such models.
            MergeError: it needs more solutions than there are jobs.
        """
        learner, plan = str(values["learner"]), make(PlanOptions, values)
        kind = learner_class(learner)
        given = settings_of(kind, _texts(values.get("settings")))
        made = make(kind.options, {**values, **given})
        named = str(values.get("merge") or kind.merging)
        merger = merging.parse(named)
        if merger.parts != kind.parts:
            raise UnknownStrategy(
                f"models of --learner {kind.name} are {kind.parts}; --merge {merger.name} merges"
                f" {merger.parts}. Leave it out: it is {kind.merging} then"
            )
        data = make(DataOptions, values)
        merger.check_count(data.jobs, f" (--jobs {data.jobs})")
        if merger.judges and not data.validation:
            raise UnknownStrategy(
                f"--merge {merger.name} tries solutions on rows that are kept aside: say how many,"
                " --validation 0.1 say"
            )
        merge = merging.lasting(named) if merging.is_own(named) else merging.told(merger)
        found = cls(data=data, learner=learner, made=made, merge=merge, plan=plan)
        found.files  # noqa: B018  # or say that they can't be kept beside each other
        return found

    @property
    def codes(self) -> tuple[Code, ...]:
        """Users' own code, as it was when this was begun: the learner's, and the strategy's."""
        every = learner_class(self.learner).code, self.strategy.code
        return tuple(code for code in every if code is not None)

    @property
    def files(self) -> dict[str, bytes]:
        """The files of that, by path, of such as is where somebody works on it.

        Raises:
            UnknownStrategy: two of them have one name.
        """
        found: dict[str, bytes] = {}
        for code in self.codes:
            files = {} if code.is_installed else code.files
            odd = [path for path in files if found.get(path, files[path]) != files[path]]
            if odd:
                raise UnknownStrategy(
                    f"--merge {self.merge}: its {odd[0]} is another than the learner's: give it"
                    " another name"
                )
            found |= files
        return found

    @property
    def rounds(self) -> int:
        """How often shards are learned from and merged; there is a number once it is `suited`."""
        return self.plan.rounds or 1

    def suited(self, rows: Rows) -> RunSpec:
        """Return it with everything that nobody has said, for the rows that it learns from.

        Raises:
            LearningError: the learner can't learn from such rows.
        """
        learner = self.learner_at(self.turn(0))
        with told_of(f"the {self.learner} learner can't say how to learn from this data"):
            made, rounds = learner.suited(rows.form, len(rows), self.data.jobs, self.plan.rounds)
        every = 1 if self.plan.rounds is not None else max(1, round(rounds / _TRIED))
        if self.plan.validate_every is not None:
            every = self.plan.validate_every
        plan = replace(self.plan, rounds=rounds, validate_every=every)
        return replace(self, made=made, plan=plan)

    @property
    def validate_every(self) -> int:
        """Which rounds' models are tried; there is a number once it is `suited`."""
        return self.plan.validate_every or 1

    def as_begun(self, text: str) -> RunSpec:
        """Return it with what nobody has said as a text of `text` has it: so the run began."""
        try:
            stored = from_json(text)
        except ValueError:
            return self
        if not isinstance(stored, dict):
            return self
        stored = {**self._added, **stored}
        made, plan = (
            make(type(part), {**stored, **{n: v for n, v in flat(part).items() if v is not None}})
            for part in (self.made, self.plan)
        )
        return replace(self, made=made, plan=plan)

    def learner_at(self, turn: Turn) -> Learner:
        """Return the learner, as it is at some place in the run."""
        return create(self.learner, flat(self.made), turn)

    @property
    def strategy(self) -> Strategy:
        """What merges."""
        return merging.parse(self.merge)

    @property
    def make(self) -> dict[str, object]:
        """What the learner is made with, by name, whatever the round, as jobs carry it."""
        return carried(self.made)

    def turn(self, round_: int) -> Turn:
        """Return where in the run a round, counted from 0, is."""
        return Turn(round_, self.rounds, self.plan.seed)

    @property
    def shape(self) -> dict[str, object]:
        """All of it by name; of users' code its digest, wherever it is."""
        kind, strategy = learner_class(self.learner), self.strategy
        every = {"code": kind.code, "merge_code": strategy.code}
        digests = {name: code.digest for name, code in every.items() if code is not None}
        return {
            **flat(self.data), "learner": kind.name, **digests, **flat(self.made),
            "merge": merging.told(strategy), **flat(self.plan),
        }  # fmt: skip

    def text(self) -> str:
        """Return all of it in one text."""
        return json.dumps(self.shape, sort_keys=True)

    def is_that_of(self, text: str) -> bool:
        """Whether a text of `text`, maybe an earlier release's, is of an equal run."""
        try:
            stored = from_json(text)
        except ValueError:
            return False
        mine, added = (json.loads(json.dumps(each)) for each in (self.shape, self._added))
        return isinstance(stored, dict) and mine.items() <= {**added, **stored}.items()

    def other_code(self, text: str) -> str:
        """Return which option names code of a user's that was another in a text of `text`.

        Empty: none does.
        """
        mine = self.shape
        try:
            stored = from_json(text)
        except ValueError:
            return ""
        if not isinstance(stored, dict):
            return ""
        for option_, code in (("learner", "code"), ("merge", "merge_code")):
            if stored.get(option_) == mine[option_] and stored.get(code) != mine.get(code):
                return option_
        return ""

    @property
    def _added(self) -> dict[str, object]:
        """What runs that know nothing of an option had instead."""
        parts = (DataOptions, type(self.made), PlanOptions)
        added = {each.name: each.before for part in parts for each in declared(part)
                 if each.about.added}  # fmt: skip
        kind = learner_class(self.learner)
        return {**added, "merge": merging.told(merging.parse(kind.merging))}
