"""What something of a user's is: a net, a model in KubeML's form, a learner, or a way to merge.

    mnist-main --learner net.py:Net
    mnist-main --learner package.module:Net
    mnist-main --merge merging.py:Mine

A main node reads the code from where its user has named it. A node gets its name and digest with a
job, and looks for the same: in what came with the job, where its owner takes that; in folders that
its owner names; and in what is installed.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from functools import cache, partial
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, TypeVar

from loaders.errors import SourceUnreachable
from loaders.running import NotThere, Place, module_at, place_of, running
from protocol.options import declared
from protocol.wire.words import from_json

from ..contract import Learner
from ..errors import LearningError, UnknownLearner, UnknownStrategy, told_of
from .code import Code, CodeError, check_named, read, same

if TYPE_CHECKING:
    from loaders.rows import Array

    from ..merging.strategy import Strategy

T = TypeVar("T")
#: Bytes of code that travel with a job, at most.
MOST_SHIPPED = 1 << 20
_DIGEST = re.compile("[0-9a-f]{32}")


def is_place(name: str) -> bool:
    """Whether a learner is called as a user's own is."""
    return place_of(name) is not None


def learner_at(name: str) -> type[Learner]:
    """Return the learner that a user has named, here, at the main node; it is run.

    Raises:
        UnknownLearner: it can't be found, fails, or is nothing that learns.
    """
    place = place_of(name)
    if place is None:
        raise UnknownLearner(f"{name!r:.200}: not FILE.py:NAME or package.module:NAME")
    return _learner_at(place.lasting)


@cache
def _learner_at(name: str) -> type[Learner]:
    place, code = _named("--learner", name, UnknownLearner)
    return _run(name, place, partial(_learner_of, code), UnknownLearner)


def strategy_at(name: str) -> type[Strategy]:
    """Return the strategy that a user has named, here, at the main node; it is run.

    Raises:
        UnknownStrategy: it can't be found, fails, or is nothing that merges.
    """
    place = place_of(name)
    assert place is not None
    return _strategy_at(place.lasting)


@cache
def _strategy_at(name: str) -> type[Strategy]:
    place, code = _named("--merge", name, UnknownStrategy)
    return _run(name, place, partial(_strategy_of, code), UnknownStrategy)


def _named(flag: str, name: str, error: type[LearningError]) -> tuple[Place, Code]:
    """Return where a user's code is, and the code, that may be run."""
    place = place_of(name)
    assert place is not None
    try:
        code = read(place)
        check_named(code)
    except CodeError as raised:
        raise error(f"{flag} {name}: {raised}") from raised
    return place, code


def _run(name: str, place: Place, use: Callable[[object], T], error: type[LearningError]) -> T:
    """Return what something of a user's is, once its module is run."""
    try:
        with running(name, place.file, error):
            return use(getattr(module_at(place), place.name))
    except NotThere as raised:
        raise error(str(raised)) from raised


def _learner_of(code: Code, found: object) -> type[Learner]:
    base = _base(found, code)
    kind: type[Learner] = type(
        base.__name__, (base,), {"name": code.called, "code": code, "kind": OWN_CODE}
    )
    options = getattr(kind, "options", None)
    if not isinstance(options, type) or not is_dataclass(options):
        raise UnknownLearner(f"{code.called}: the learner's options are no dataclass")
    if not hasattr(options, "lesson"):
        raise UnknownLearner(f"{code.called}: its options don't say what a job does: no lesson")
    declared(options)
    return kind


def _strategy_of(code: Code, found: object) -> type[Strategy]:
    from ..merging.strategy import Strategy  # which needs this

    if not (isinstance(found, type) and issubclass(found, Strategy)):
        raise UnknownStrategy(
            f"{code.called} is a {type(found).__name__}; a class of Strategy is wanted (from"
            " learning.merging import Strategy)"
        )
    kind: type[Strategy] = type(found.__name__, (found,), {"name": code.called, "code": code})
    if not is_dataclass(kind.options):
        raise UnknownStrategy(f"{code.called}: the strategy's options are no dataclass")
    declared(kind.options)
    return kind


def _base(found: object, code: Code) -> type[Learner]:
    """Return the learner's class that something is, or is made into."""
    if isinstance(found, type) and issubclass(found, Learner):
        return found
    if isinstance(found, type) and _is_a(found, "torch.nn", "Module"):
        from .net import learner_of

        return learner_of(found, code.called)
    if isinstance(found, FunctionType) or _is_a(found, "learning.kube.model", "KubeModel"):
        from ..kube.learner import KubeLearner, check_unit

        with told_of(f"--learner {code.called}"):
            check_unit(found)
        assert callable(found)
        return type("Kube", (KubeLearner,), {"unit": staticmethod(found)})
    raise UnknownLearner(
        f"{code.called} is a {type(found).__name__}; a class of torch's nn.Module is wanted, of"
        " KubeModel, of Learner, or a function that returns a KubeModel's start()"
    )


def _is_a(found: object, module: str, name: str) -> bool:
    """Whether it is a class of another's that is imported, if it is."""
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(found, type) and isinstance(kind, type) and issubclass(found, kind)


#: What jobs of users' own learners are called, whichever they are.
OWN_CODE = "own"


class Finder:
    """Finds users' code at a node, in the process that runs jobs.

    Args:
        folders: that the node's owner has named.
        scratch: where code that comes with jobs is put; None: none is taken.
        merges: whether strategies are taken; learners are, where there are jobs for them.
    """

    def __init__(
        self, folders: tuple[Path, ...] = (), scratch: Path | None = None, merges: bool = True
    ) -> None:
        self._folders, self._scratch, self._merges = folders, scratch, merges
        self._learners: dict[tuple[str, str], type[Learner]] = {}
        self._strategies: dict[tuple[str, str], type[Strategy]] = {}

    def learner(self, told: object, shipped_: Array | None) -> type[Learner]:
        """Return the learner that a job is for.

        Args:
            told: of the code, as `told_of_code` tells it, from whomever.
            shipped_: its files, as `shipped` packs them, if they came.

        Raises:
            UnknownLearner: that is no code, or it fails.
            SourceUnreachable: it is not here, or another version is.
        """
        return self._found(told, shipped_, self._learners, _learner_of, UnknownLearner)

    def strategy(self, told: object, shipped_: Array | None) -> type[Strategy]:
        """Return the strategy whose client part a job is for; as `learner`.

        Raises:
            UnknownStrategy: that is no code, or it fails.
            SourceUnreachable: it is not here, another version is, or none is taken.
        """
        if not self._merges:
            module, name, digest = _read(told)
            raise SourceUnreachable(
                source_of(f"{module}:{name}", digest),
                "jobs with code of users' own are not taken here; --learners own does",
            )
        return self._found(told, shipped_, self._strategies, _strategy_of, UnknownStrategy)

    def _found(
        self, told: object, shipped_: Array | None, known: dict[tuple[str, str], T],
        use: Callable[[Code, object], T], error: type[LearningError],
    ) -> T:  # fmt: skip
        module, name, digest = _read(told)
        at = f"{module}:{name}", digest
        if at not in known:
            code = self._code(module, name, digest, shipped_)
            try:
                check_named(code)
            except CodeError as raised:
                raise error(str(raised)) from raised
            sys.path.insert(0, str(code.root))  # for as long as this process lives
            known[at] = _run(code.called, code.place, partial(use, code), error)
        return known[at]

    def _code(self, module: str, name: str, digest: str, shipped_: Array | None) -> Code:
        code, why = same(module, name, digest, self._folders)
        if code is not None:
            return code
        if shipped_ is not None and self._scratch is not None:
            return self._unpacked(module, name, digest, shipped_, self._scratch)
        way = "copy the same files there (mnist-compute --code FOLDER, or PYTHONPATH)"
        if shipped_ is not None:
            why, way = f"{why}, and it takes no code that comes with jobs", "--accept-code does"
        source = source_of(f"{module}:{name}", digest)
        raise SourceUnreachable(source, f"{why}; {way}")

    @staticmethod
    def _unpacked(module: str, name: str, digest: str, shipped_: Array, scratch: Path) -> Code:
        """Write code that came with a job into a folder of its own, and work there; return it.

        Raises:
            UnknownLearner: it is not what it says that it is.
        """
        root = Path(tempfile.mkdtemp(prefix=f"{digest[:8]}-", dir=scratch))
        for path, content in _files(shipped_).items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content)
        code, why = same(module, name, digest, [root])
        if code is None or code.root != root:
            raise UnknownLearner(f"the code that came with the job is not what it says: {why}")
        os.chdir(root)
        return code


#: Of this process; whoever runs jobs says what it may do.
finder = Finder()


def allow(folders: tuple[Path, ...], scratch: Path | None, merges: bool = True) -> None:
    """Say where this process looks for users' code; as for `Finder`."""
    global finder  # noqa: PLW0603
    finder = Finder(folders, scratch, merges)


def told_of_code(code: Code) -> dict[str, object]:
    """Return what a job says of the code that it needs."""
    return {"module": code.module, "name": code.name, "digest": code.digest}


def source_of(called: str, digest: str) -> str:
    """Return what code is called where a node can't have it."""
    return f"the code of {called} ({digest[:8]})"


def shipped(code: Code) -> Array:
    """Return the files of code as one array of bytes: JSON, by path.

    Raises:
        UnknownLearner: they are too large to travel.
    """
    import numpy as np

    nbytes = sum(map(len, code.files.values()))
    if nbytes > MOST_SHIPPED:
        raise UnknownLearner(
            f"--ship-code: the {len(code.files):,} files of {code.called} have {nbytes:,} bytes;"
            f" {MOST_SHIPPED >> 20} MB may travel. Install them at the nodes"
        )
    text = json.dumps({path: content.decode("latin-1") for path, content in code.files.items()})
    return np.frombuffer(text.encode(), np.uint8)


def _files(packed: Array) -> dict[str, bytes]:
    """Return what `shipped` packed, from whomever.

    Raises:
        UnknownLearner: it is nothing of the kind, or would be written elsewhere.
    """
    if packed.dtype != "uint8" or packed.ndim != 1 or packed.size > 8 * MOST_SHIPPED:
        raise UnknownLearner(f"{packed.dtype} of {packed.shape} is no code that came with a job")
    try:
        read_ = from_json(packed.tobytes().decode())
        if not isinstance(read_, dict):
            raise ValueError("not files by path")
        found = {str(path): str(text).encode("latin-1") for path, text in read_.items()}
    except ValueError as error:
        raise UnknownLearner(f"the code that came with the job can't be read: {error}") from error
    for path in found:
        parts = path.removesuffix(".py").split("/")
        if not (path.endswith(".py") and all(part.isidentifier() for part in parts)):
            raise UnknownLearner(f"{path!r:.80} can't be a file of code")
    if sum(map(len, found.values())) > MOST_SHIPPED:
        raise UnknownLearner(f"more code came with the job than {MOST_SHIPPED >> 20} MB")
    return found


def _read(told: object) -> tuple[str, str, str]:
    """Return module, name and digest, from whomever."""
    if not isinstance(told, Mapping):
        raise UnknownLearner(f"not code: {told!r:.80}")
    module, name, digest = (str(told.get(each, "")) for each in ("module", "name", "digest"))
    place = place_of(f"{module}:{name}")
    if place is None or place.file is not None or len(module) > 200:
        raise UnknownLearner(f"{module!r:.80} can't be the name of a module")
    if not _DIGEST.fullmatch(digest):  # it becomes part of a path
        raise UnknownLearner(f"{digest!r:.80} can't be the digest of code")
    return module, name, digest
