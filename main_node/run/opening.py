"""A training run: opened whole or not at all, seen through, and closed whatever happens."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from console.interrupts import Interrupts
from learning import LearningError, merging
from learning.contract import Learner
from learning.errors import told_of
from learning.first import data_digest
from learning.metrics import MOST_TABLED
from learning.model import EXAMPLES, sha256
from learning.registry import kind_of
from loaders import OneAgainstRest, Rows, Source, SourceOptions, open_source, rows_of, shard
from loaders.rows import Array, Arrays, Labels, RowNumbers
from loaders.sharding import skew
from loaders.splits import with_test, with_validation, without_contradictions
from protocol import AddressError
from protocol.wire.addresses import is_loopback
from protocol.wire.secrets import shown
from protocol.wire.words import plural, safe_line

from ..controls import STOP, Handler, Order
from ..errors import ConfigError, DataChanged, NoNode, StorageError, TrialFailed
from ..node import AsyncMainNode
from ..options import JobOptions, ListenOptions
from ..store.database import RunDatabase
from ..store.directory import RunDirectory
from ..store.memory import RunMemory
from ..store.results import Result
from .asking import LOOK_SECONDS, Asking
from .company import Company, invitation
from .ending import GOAL, ROUNDS, Ending, EndOptions, Why
from .engine import Engine
from .evaluation import Evaluated, Evaluation
from .events import Ended, Listener, Listeners, Opened
from .label import Label
from .leftout import LeftOut
from .progress import Looks, Progress
from .rounds import Learning, Rounds
from .spec import CompanyOptions, MergeOptions, RunSpec
from .telling import Telling

#: Files of a user's code in a line.
_TOLD_FILES = 8
#: Names of classes in a line.
_TOLD_CLASSES = 8
#: From so skewed shards on, what helps is said.
SKEWED = 0.2
#: How long a run has taken is kept so often, where that may end it; else with each round.
_KEPT_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that a run needs to be told.

    Args:
        spec: what shapes its model.
        source: where its data is.
        merge, company, listen, job: of how it goes.
        runs: where runs are kept.
        config: the options as a file, to be kept with the run.
        engine: starts computing nodes; None: they come by themselves.
        end: when it ends before its last round.
        is_over: whether it ends after a round whose model is worth this, asked once of each round
            that is tried; never unless given.
    """

    spec: RunSpec
    source: SourceOptions
    merge: MergeOptions = field(default_factory=MergeOptions)
    company: CompanyOptions = field(default_factory=CompanyOptions)
    listen: ListenOptions = field(default_factory=ListenOptions)
    job: JobOptions = field(default_factory=JobOptions)
    runs: Path = Path("runs")
    config: str = ""
    engine: Engine | None = None
    end: EndOptions = field(default_factory=EndOptions)
    is_over: Callable[[int, Evaluated], bool] | None = None


def _seconds(fact: str | None) -> float:
    """Return seconds as they were kept; 0 where that is damaged."""
    try:
        found = float(fact or 0)
    except ValueError:
        return 0.0
    return found if 0 <= found < math.inf else 0.0


class Stopwatch:
    """Seconds spent in each phase."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._begun = time.perf_counter()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time of a block as this phase's."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - begun
            self._seconds[name] = self._seconds.get(name, 0.0) + spent

    def read(self) -> dict[str, float]:
        """Return the seconds of each phase, and in all since this clock was made."""
        seconds = {"total": time.perf_counter() - self._begun, **self._seconds}
        return {name: round(value, 3) for name, value in seconds.items()}


@dataclass(frozen=True, kw_only=True)
class _Data:
    """What a run learns from, and what its models are tried on."""

    train: Rows
    test: Rows
    #: What each round's model is tried on: rows kept aside, or the test set.
    tried: Rows
    shards: Sequence[Rows]
    #: The digest of the test set, whatever became of the training rows since.
    tested: str

    @property
    def digest(self) -> str:
        each = (self.train, self.test, *((self.tried,) * self.keeps_aside))
        return "+".join(rows.digest for rows in each)

    @property
    def keeps_aside(self) -> bool:
        """Whether each round's model is tried on other rows than the test set."""
        return self.tried is not self.test

    @property
    def first_digest(self) -> str:
        """What the first release called it."""
        return f"{data_digest(self.train)}+{data_digest(self.test)}"


def open_run(
    plan: Plan,
    listeners: Sequence[Listener] = (),
    directory: RunDirectory | None = None,
    interrupts: Interrupts | None = None,
) -> Run:
    """Return a run that is ready to begin, or to go on; it listens from now on.

    Args:
        plan: all about it.
        listeners: told what happens.
        directory: of a run to go on with, closed with this one, or with what is raised; None: a
            new one.
        interrupts: signals that end it; None: there are none.

    Raises:
        LoaderError: the data.
        LearningError: no such learner, or it can't learn from such data.
        ConfigError: the run directory, or the data is not what the run began with.
        AddressError: the address to bind.
        StorageError: the run directory can't be written.
        KeyboardInterrupt: a signal has come; nothing is left of a new run.
    """
    clock, telling = Stopwatch(), Telling()
    heard = Listeners([*listeners, telling])
    interrupts = interrupts or Interrupts()
    with clock.phase("setup"), ExitStack() as stack:
        if directory is not None:
            stack.callback(directory.close)
        learner = plan.spec.learner_at(plan.spec.turn(0))
        begun = stack.enter_context(ExitStack())
        if plan.engine is not None:
            begun.callback(plan.engine.stop)
            plan.engine.begin(kind_of(plan.spec.learner))
        data = _load(plan, learner, heard)
        with told_of(f"the {learner.name} learner can't say whether it takes this data"):
            learner.check_form(data.train.form)
            learner.check_data(data.train)
        plan.spec.strategy.check()
        interrupts.hold()  # from here on, not in the middle of anything
        stack.callback(interrupts.let)
        interrupts.check()
        new = directory is None
        if directory is None:
            directory = RunDirectory.make(plan.runs)
            stack.callback(directory.close)
        on_failure = stack.enter_context(ExitStack())
        if new:
            on_failure.callback(directory.remove)
            directory.write_config(plan.config)
            directory.write_code(plan.spec.files)
        database = RunDatabase(directory.path / "run.db")
        stack.callback(database.close)
        database.keep_spare()
        spec = plan.spec.as_begun(database.fact("options") or "").suited(data.train)
        plan = replace(plan, spec=spec)
        _tell_code(plan, heard)
        memory = _remember(plan, directory, database, data, heard, new)
        node = _listen(plan, database, memory, heard, _controls(interrupts))
        listening = stack.enter_context(ExitStack())
        listening.callback(node.close)
        telling.begin(node.tell_event)
        memory.begin()
        digests = data.train.digest, partial(data_digest, data.train)
        learning = Learning(spec=spec, rows=data.train, digests=digests, shards=data.shards)
        held = ExitStack()
        run = Run(plan, learning, data, directory, database, memory, node, heard, telling,
                  interrupts, clock, held)  # fmt: skip
        for only_now in (on_failure, listening, begun):
            only_now.pop_all()
        held.push(stack.pop_all())
        return run


def _tell_code(plan: Plan, heard: Listeners) -> None:
    """Say which version of users' code it is, of which files, and whether they travel."""
    strategy = plan.spec.strategy
    for code in plan.spec.codes:
        few = sorted(code.files)[:_TOLD_FILES]
        more = f" and {len(code.files) - len(few):,} more" if len(code.files) > len(few) else ""
        sent = f"; sent with jobs, {sum(map(len, code.files.values())):,} bytes"
        goes = plan.job.ship_code and not (code == strategy.code and strategy.client is None)
        heard.note(
            f"{code.called} is version {code.digest[:8]}, of {', '.join(few)}{more}"
            f"{sent if goes else ''}"
        )


def _load(plan: Plan, learner: Learner, heard: Listeners) -> _Data:
    """Return the data; with a target digit, of two classes: 1 is the digit, 0 the rest."""
    options, seed = plan.spec.data, plan.spec.plan.seed
    source: Source = open_source(plan.source.data, heard.note, options.reading)
    if options.target_digit is not None:
        source = OneAgainstRest(source, options.target_digit)
    source = with_test(source, options.reading.test_fraction, seed, heard.note)
    tested = rows_of(source, "test").digest  # or say that there is none
    rows_of(source, "train")
    source = without_contradictions(
        source, options.reading.contradictions, partial(_seen, learner), heard.warn
    )
    source = with_validation(source, options.validation, seed)
    train, test = rows_of(source, "train", options.limit), rows_of(source, "test")
    tried = rows_of(source, "validation") if options.validation else test
    _say_if_unknown(source, heard)
    cut = shard(train.labels, options.jobs, options.sharding, seed, options.shared_rows)
    _say_if_skewed(plan, train.labels, cut, learner, heard)
    shards = [train.of(rows) for rows in cut]
    return _Data(train=train, test=test, tried=tried, shards=shards, tested=tested)


def _say_if_skewed(
    plan: Plan, labels: Labels, cut: Sequence[RowNumbers], learner: Learner, heard: Listeners
) -> None:
    """Say what helps where jobs have other classes than the whole, and models have a mean."""
    if plan.spec.data.shared_rows or learner.parts != "numbers":
        return
    found = skew(labels, cut)
    if found < SKEWED:
        return
    few = plural(min(len(np.unique(labels[rows])) for rows in cut), "class", "es")
    heard.note(
        f"the jobs' classes are skewed: {found:.0%} of the rows would have to change places, and"
        f" one job has {few} of {len(np.unique(labels))}. --shared-rows 0.02,"
        " if it may be, gives each job 2 % of all rows, and makes most of the harm good"
    )


def _seen(learner: Learner, rows: Rows) -> Array:
    """Return what a learner sees of rows, if it can learn from such rows at all."""
    with told_of(f"the {learner.name} learner can't say whether it takes this data"):
        learner.check_form(rows.form)
        return learner.seen(rows)


def _say_if_unknown(source: Source, heard: Listeners) -> None:
    """Tell of classes that only the test set has: no model can know them."""
    tested = source.labels("test")
    new = np.setdiff1d(tested, source.labels("train"))
    if len(new):
        rows = np.count_nonzero(np.isin(tested, new))
        names = ", ".join(safe_line(source.form.classes[each]) for each in new[:_TOLD_CLASSES])
        heard.warn(
            f"{source.name}: {rows:,} of {len(tested):,} test rows are of classes that the training"
            f" rows have not, and that no model can know: {names}"
            + " and others"
            * (len(new) > _TOLD_CLASSES)
        )


def _remember(
    plan: Plan, directory: RunDirectory, database: RunDatabase, data: _Data, heard: Listeners,
    new: bool,
) -> RunMemory:  # fmt: skip
    """Open the run's memory, and see that it is of the same run and data."""
    damage = database.damage
    if damage or not (new or database.fact("main")):
        what = f"was damaged ({damage}) and is put aside" if damage else "is gone, or empty"
        heard.warn(f"run.db {what}: the run's history is lost, its solutions are not")
    before = database.fact("data")
    if before not in (None, data.digest) and before != data.first_digest:
        raise DataChanged(
            f"the data is not what run {directory.run_id} began with:"
            f" {shown(plan.source.data)} has changed since; begin a new run"
        )
    began = database.fact("options")
    changed = "" if began is None else plan.spec.other_code(began)
    if changed:
        raise ConfigError(
            f"{getattr(plan.spec, changed)} has been changed since run {directory.run_id} began, or"
            " a module that it imports: its model would be another. As it was it is in"
            f" {directory.path / 'code'}: name it there, with --{changed}, or begin a new run"
        )
    if began is not None and not plan.spec.is_that_of(began):
        raise ConfigError(
            f"{directory.path / 'config.yaml'} has been changed since the run began:"
            " its model would be another; change it back, or begin a new run"
        )
    memory = RunMemory(directory, database, heard.warn)
    database.state(data=before or data.digest, options=began or plan.spec.text())
    return memory


def _listen(
    plan: Plan, database: RunDatabase, memory: RunMemory, heard: Listeners,
    controls: Mapping[str, Handler],
) -> AsyncMainNode:  # fmt: skip
    """Listen at the address of the options, or where nodes of the last start look for it."""
    options = plan.listen

    def at(address: str) -> AsyncMainNode:
        node = AsyncMainNode(
            "main", options.domain, address=address, kinds=(kind_of(plan.spec.learner),),
            dead_seconds=options.silence_seconds, max_attempts=plan.job.max_attempts,
            keys=options.keys, insecure=options.insecure, announce=options.announce,
            journal=memory, controls=controls, max_nodes=plan.company.max_nodes,
        )  # fmt: skip
        keys = "" if options.keys is None else Path(options.keys).absolute()
        try:  # for who wants to reach it
            database.state(address=node.address, domain=options.domain, keys=keys)
        except BaseException:
            node.close()
            raise
        return node

    before = database.fact("address")
    if before is not None and options.bind.endswith(":0") and _same_host(before, options.bind):
        try:
            return at(before)
        except AddressError:
            heard.warn(f"{before}, where this run listened before, is taken")
    return at(options.bind)


def _controls(interrupts: Interrupts) -> dict[str, Handler]:
    """Return what a run can be told to do from outside."""

    def stop(order: Order) -> str:
        why = f": {order.reason}" if order.reason else ""
        interrupts.stop(f"stopped from outside by {order.by}{why}")
        return "it stops, and can be resumed"

    return {STOP: stop}


def _same_host(before: str, bind: str) -> bool:
    """Whether an address was got by binding another, of which the port was free to choose."""
    hosts = {address.rpartition(":")[0] for address in (before, bind)}
    return len(hosts) == 1 or (is_loopback(before) and is_loopback(bind))


class Run:
    """One run of distributed training; `open_run` makes it."""

    def __init__(
        self,
        plan: Plan,
        learning: Learning,
        data: _Data,
        directory: RunDirectory,
        database: RunDatabase,
        memory: RunMemory,
        node: AsyncMainNode,
        listeners: Listeners,
        telling: Telling,
        interrupts: Interrupts,
        clock: Stopwatch,
        stack: ExitStack,
    ) -> None:
        self.directory = directory
        self._plan, self._learning, self._data = plan, learning, data
        self._database, self._memory, self._node = database, memory, node
        self._listeners, self._telling, self._interrupts = listeners, telling, interrupts
        self._clock, self._stack = clock, stack
        self._company = Company(plan.company, invitation(plan.listen, node.address), listeners)
        spec, labels, self._progress = plan.spec, dict[int, Label](), Progress()
        checks: list[Callable[[], object]] = [interrupts.check]
        if plan.engine is not None:
            checks.append(plan.engine.check)
        self._looks = Looks(
            node, self._progress, labels, self._company, listeners, self._about, checks
        )
        self._learner = spec.learner_at(spec.turn(0))
        asking = Asking(
            node, memory, self._learner, plan.job, labels, self._looks.look, listeners.warn
        )
        self._left_out = LeftOut(plan.merge.partial, listeners)
        evaluation = partial(
            Evaluation, asking, loss=self._learner.tells_loss, left_out=self._left_out,
            listeners=listeners,
        )  # fmt: skip
        what = "validation" if data.keeps_aside else "test"
        self._before = _seconds(database.fact("seconds"))
        self._kept_at = 0.0
        self._ending = Ending(
            plan.end, f"{what} {'rows' if data.keeps_aside else 'set'}", self._seconds_so_far,
            listeners.note, plan.is_over,
        )  # fmt: skip
        if plan.end.max_run_seconds is not None:
            checks.append(self._keep_seconds)
        self._evaluation = evaluation(rows=data.tried, what=what)
        #: Of the last model, where those of rounds are tried on other rows.
        self._test = evaluation(rows=data.test, what="test") if data.keeps_aside else None
        checks += [each.look for each in (self._evaluation, self._test) if each is not None]
        self._rounds = Rounds(
            learning, plan.merge.count == "main", self._left_out, directory, memory.starts > 1,
            asking, self._evaluation, self._progress, listeners, interrupts.check, self._ending,
        )  # fmt: skip

    def see_through(self) -> Result:
        """Train, merge and evaluate; leave everything in the run directory, and close the run.

        Raises:
            JobFailed: a job failed for good.
            NoNode: no computing node in time.
            StorageError: the run directory can't be written.
            NodeError: nodes that this run started end time and again.
            KeyboardInterrupt: a signal has come.
        """
        ending, dismiss, forget = "interrupted", True, True
        try:
            self._listeners.tell(self._opened())
            result = self._run()
            ending = "done"
        except StorageError as error:
            ending, dismiss = f"failed: {error}", False
            raise
        except Exception as error:
            ending = f"failed: {error}"
            forget = isinstance(error, NoNode | TrialFailed | LearningError)
            raise
        except KeyboardInterrupt as interrupt:
            # Ctrl-C frees the nodes; a host that shuts down (SIGTERM) will be back.
            dismiss = "SIGTERM" not in interrupt.args
            ending = self._interrupts.told
            raise
        finally:
            self._close(ending, dismiss, forget)
        return result

    def _close(self, ending: str, dismiss: bool, forget: bool) -> None:
        with self._stack as steps:  # the last is the first, and none is left out where one fails
            ended = Ended(ending=ending)
            steps.callback(self._listeners.tell, ended)
            if forget and dismiss and ending != "done" and self._memory.starts == 1:
                steps.callback(self._remove_if_empty)
            steps.callback(self._database.close)
            steps.callback(self._keep_ending, ending)
            if self._plan.engine is not None:
                steps.callback(self._plan.engine.stop)
            steps.callback(self._node.close, dismiss)
            steps.callback(self._telling.end, ended)  # who follows hears of it before that

    def _keep_ending(self, ending: str) -> None:
        with suppress(StorageError):  # a full disk is told by what it broke
            self._database.state(ending=ending, seconds=self._seconds_so_far())

    def _seconds_so_far(self) -> float:
        """Return how long the run has taken, in all its starts."""
        return self._before + self._clock.read()["total"]

    def _keep_seconds(self) -> None:
        """Keep how long the run has taken now and then: it may be killed."""
        now = self._seconds_so_far()
        if now - self._kept_at >= _KEPT_SECONDS:
            self._kept_at = now
            self._database.state(seconds=now)

    def _remove_if_empty(self) -> None:
        if self.directory.empty:
            self.directory.remove()

    def _lesson(self) -> str:
        with told_of(f"the {self._learner.name} learner can't say what a job does"):
            return str(safe_line(str(self._plan.spec.made.lesson)))

    def _opened(self) -> Opened:
        plan, spec = self._plan, self._plan.spec
        return Opened(
            spec=spec, source=shown(plan.source.data), rows=len(self._data.train),
            called=self._data.train.kind,
            lesson=self._lesson(), directory=self.directory.path, address=self._node.address,
            min_nodes=plan.company.min_nodes,
        )  # fmt: skip

    def _run(self) -> Result:
        with self._clock.phase("setup"):
            self._gather()
        self._database.state(ended="", rounds_done=0)
        self.directory.drop_metrics()  # of a start that ended early, where this one goes on
        model, why = self._rounds.run(self._clock.phase), self._why()
        chosen = self._rounds.done - 1
        if self._test is not None:
            chosen, last = self._rounds.best, chosen
            if chosen != last:
                model = self._rounds.model_of(chosen)
            with self._clock.phase("evaluating"):
                self._test.begin(chosen, model, self._interrupts.check)
                self._test.wait()
        return self._finish(model, chosen, why)

    def _why(self) -> Why:
        """Return why the run ends, and say so where it is for more than that it is done."""
        done, why = self._rounds.done, self._ending.why
        if why is None or (done == self._plan.spec.rounds and why.by != GOAL):
            return Why(ROUNDS, "")  # it would have ended anyway
        self._listeners.note(f"the run ends with round {done}: {why.told}")
        return why

    def _gather(self) -> None:
        """Start nodes, if they are to be started, and wait until there are enough."""
        plan, wanted = self._plan, self._plan.company.min_nodes
        started = 0
        if plan.engine is not None:
            started = plan.engine.count
            plan.engine.start(
                self._node.address, plan.listen.domain, self._node.invite(), self._listeners.note
            )
        if started < wanted:
            self._listeners.note(self._company.invitation)
        while True:
            try:
                return self._node.wait_for_nodes(wanted, LOOK_SECONDS)
            except NoNode:
                self._looks.look()

    def _about(self) -> dict[str, object]:
        """Return what whoever watches over the network may know of the run."""
        spec, progress = self._plan.spec, self._progress
        about: dict[str, object] = {"run": self.directory.run_id, "rounds": spec.rounds}
        if 0 <= progress.round < spec.rounds:
            about |= {
                "round": progress.round + 1, "round_done": progress.done,
                "round_jobs": spec.data.jobs,
            }  # fmt: skip
        done = self._evaluation.done
        if done:
            about["accuracy"] = done[max(done)].scores.accuracy
        return about

    def _described(self, model: Arrays) -> dict[str, object]:
        """Return what a learner says that its model is made of: nothing where it fails in that."""
        try:
            parts: dict[str, object] = json.loads(json.dumps(self._learner.describe(model)))
        except Exception as error:  # a model is there, and worth more
            what = f"{type(error).__name__}: {error}"
            self._listeners.warn(f"the {self._learner.name} learner can't describe it: {what}")
            return {}
        return parts

    def _shortcoming(self, last: Evaluated) -> str:
        """Return why nobody should use a model, going by the test set; empty where one may."""
        what = self._data.test.kind
        if last.scores.blind:
            return f"it takes every {what} of the test set for one class, though several are there"
        if last.loss is None and self._learner.tells_loss:
            return f"its loss on the test {what}s is not finite"
        return ""

    def _finish(self, model: Arrays, chosen: int, why: Why) -> Result:
        """Leave the model of a round, and what the run came to."""
        spec, data, rounds = self._plan.spec, self._data.train, self._rounds.done
        examples = sum(len(rows) for rows in self._learning.shards)
        notes = {
            "options": spec.text(), "tested": self._data.tested, "round": str(chosen + 1),
            "chosen": "last" if self._test is None else "best on the validation rows",
            EXAMPLES: str(examples),
        }  # fmt: skip
        path = self.directory.write_model(self._learning.model(model, notes))
        done = [self._evaluation.done.get(round_) for round_ in range(rounds)]
        tested = (self._test or self._evaluation).done[chosen]
        last, classes = tested.scores, data.form.classes
        result = Result(
            run=self.directory.run_id,
            data={
                "source": shown(self._plan.source.data), "digest": data.digest, "rows": len(data),
                "sharding": spec.data.sharding, "kind": data.kind,
            },
            target_digit=spec.data.target_digit, learner=self._learner.name, jobs=spec.data.jobs,
            rounds=rounds, nodes=self._database.solved_by(), accuracy=last.accuracy,
            macro_f1=last.macro_f1, confusion=list(map(list, last.confusion)),
            examples=examples,
            validation_rows=len(self._data.tried) if self._data.keeps_aside else 0,
            test_loss=tested.loss,
            accuracy_by_round=[each and each.scores.accuracy for each in done],
            loss_by_round=[each and each.loss for each in done],
            model_round=chosen + 1, ended_by=why.by, ended=why.told,
            seconds=self._clock.read(), starts=self._memory.starts,
            retries=self._database.failed_attempts(), left_out=self._left_out.titles,
            model=str(path), model_sha256=sha256(model),
            model_parts=self._described(model), merge=merging.told(spec.strategy),
            merged=self._rounds.told,
            classes=list(classes) if len(classes) <= MOST_TABLED else [],
            shortcoming=self._shortcoming(tested), devices=self._memory.devices,
            options=json.loads(spec.text()),
        )  # fmt: skip
        self.directory.write_metrics(result.as_json())
        self._database.state(
            accuracy=last.accuracy, shortcoming=result.shortcoming, ended=why.told,
            rounds_done=rounds,
        )  # fmt: skip
        self._node.tell(
            run=self.directory.run_id, rounds=spec.rounds, accuracy=last.accuracy, done=True
        )
        return result
