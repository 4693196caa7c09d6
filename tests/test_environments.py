"""Every command in every environment: what comes of it, and how it ends.

A row is a command as people use it, a column what it finds where it is started: a standard output
that is closed, say, or a user whom the system does not know. A cell is right where the command's
work is done and its exit code is what the documents promise. In the fast lane several columns are
one, whatever they share; in the deep lane each stands alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from configparser import ConfigParser
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import mnist_merge
from console.exits import Exit
from learning import create
from learning.model import Model, save
from loaders import Rows, load
from main_node import AsyncMainNode
from main_node.commands.options import TrainOptions
from main_node.store.database import RunDatabase
from main_node.store.directory import RunDirectory
from protocol import JobDataType
from status_node import StatusNode

from .computing_node.common import linear_fit
from .conftest import ANY_PORT, make_idx_folder
from .processes import AS_STRANGER, SECONDS, Process
from .test_house import ROOT

#: Of folders, and so of what is printed: a letter that latin-1 has and ascii lacks, and a sign that
#: both lack.
NAME = "é●"
SHOWN = {"utf-8": NAME, "latin-1": "é*", "ascii": r"\xe9*"}
#: What is imported by commands, beside the standard library.
USED = ("msgpack", "zmq", "numpy", "click", "torch", "yaml", "rich", "linear", "PIL", "matplotlib")


@dataclass(frozen=True)
class Environment:
    """Where a command is started.

    Args:
        output: where a shell leads its standard output.
        encoding: of that.
        code: of a command that prints.
        env: variables; None: without it.
        as_root: what only root can do before, and then run the command in its arguments.
        modules: whether it is started where files are named as modules.
    """

    output: str = ""
    encoding: str = "utf-8"
    code: int = Exit.DONE
    env: Mapping[str, str | None] = field(default_factory=dict)
    as_root: tuple[str, ...] = ()
    modules: bool = False

    def __add__(self, other: Environment) -> Environment:
        return Environment(
            self.output + other.output, min(self.encoding, other.encoding),
            max(self.code, other.code), {**self.env, **other.env}, self.as_root + other.as_root,
            self.modules or other.modules,
        )  # fmt: skip


CLOSED = Environment(">&-")
FULL = Environment(">/dev/full", code=Exit.STORAGE)
LEFT = Environment("> >(true)")
LATIN = Environment(encoding="latin-1", env={"PYTHONIOENCODING": "latin-1:strict"})
ASCII = Environment(encoding="ascii", env={"PYTHONIOENCODING": "ascii:strict"})
HOMELESS = Environment(env={"HOME": "/no/home", "XDG_CACHE_HOME": None, "MNIST_CACHE": None})
#: Nobody can make a file in there, not even root.
UNWRITABLE = Environment(env={"HOME": "/proc", "XDG_CACHE_HOME": None, "MNIST_CACHE": None})
NO_SHARED_MEMORY = Environment(
    as_root=(
        "unshare", "--mount", "sh", "-c",
        "mount -t tmpfs -o size=4k tmpfs /dev/shm && head -c 4096 /dev/zero > /dev/shm/full || exit"
        ' 77; exec "$@"', "sh",
    ),
)  # fmt: skip
NOBODY = Environment(
    env={"HOME": None, "USER": None, "LOGNAME": None, "PYTHONDONTWRITEBYTECODE": "1"},
    as_root=AS_STRANGER,
)
MODULES = Environment(modules=True)
COLUMNS = {
    "closed": CLOSED, "full": FULL, "left": LEFT, "latin-1": LATIN, "ascii": ASCII,
    "no home": HOMELESS, "unwritable home": UNWRITABLE, "no shared memory": NO_SHARED_MEMORY,
    "nobody": NOBODY, "modules": MODULES,
}  # fmt: skip
TOGETHER = {
    "full, no home, modules": FULL + HOMELESS + MODULES,
    "ascii, no shared memory, nobody": ASCII + NO_SHARED_MEMORY + NOBODY,
}


@dataclass(frozen=True)
class Things:
    """What there is for the commands, whatever the environment.

    Args:
        folder: where everybody may write; its name is not ASCII.
        shard: rows to learn from.
        main: a main node that has jobs.
    """

    folder: Path
    shard: Rows
    main: AsyncMainNode


@pytest.fixture(scope="module")
def things() -> Iterator[Things]:
    # Under /tmp: pytest's own folders are closed to other users.
    outer = Path(tempfile.mkdtemp(prefix="environments-", dir="/tmp"))
    outer.chmod(0o777)
    folder = outer / NAME
    folder.mkdir()
    try:
        shard = load(make_idx_folder(folder / "digits"))
        _learned(folder, shard)
        _cut_short(folder / "runs", "a-run")
        _named_as_modules(outer / "modules")
        folder.chmod(0o777)
        with AsyncMainNode("main", address=ANY_PORT, kinds=("linear",)) as main:
            yield Things(folder, shard, main)
    finally:
        shutil.rmtree(outer)


def _learned(folder: Path, shard: Rows) -> None:
    """Write a model, and a picture whose class it knows."""
    learner = create("linear", {"descents": 30})
    start = learner.initial(shard.form)
    solution = learner.fit(shard, start, seed=0, progress=lambda *_: None, cancelled=lambda: False)
    save(Model(solution.arrays, "linear", shard.form), folder / "model.safetensors")
    Image.fromarray(shard.read()["image"][0]).save(folder / "digit.png")
    assert learner.predict(solution.arrays, shard)[0] == shard.labels[0]


def _cut_short(runs: Path, name: str) -> None:
    """Write a run that was interrupted."""
    with contextlib.closing(RunDirectory(runs / name, new=True)) as directory:
        directory.write_config(TrainOptions.of(run_dir=str(runs)).as_yaml())
        with contextlib.closing(RunDatabase(runs / name / "run.db")) as database:
            database.state(starts=1, ending="interrupted")


def _named_as_modules(folder: Path) -> None:
    """Write files that say so if they are imported, and end whatever does it."""
    folder.mkdir()
    for name in {*sys.stdlib_module_names, *USED, *mnist_merge.PACKAGES, "mnist_merge"}:
        (folder / f"{name}.py").write_text(
            f"import os\nos.write(2, b'{name} was imported\\n')\nos._exit(99)\n"
        )


class Place:
    """An environment with all that there is; one of its own for each test.

    Args:
        environment: what commands find.
        things: what there is.
        folder: to be written to; its name is not ASCII.
    """

    def __init__(self, environment: Environment, things: Things, folder: Path) -> None:
        self.environment, self.things, self.folder = environment, things, folder
        self.name = SHOWN[environment.encoding]

    def words(self, command: str, *arguments: object) -> list[str]:
        """Return how a command is run here."""
        installed = shlex.quote(str(Path(sys.executable).with_name(command)))
        script = f'exec {installed} "$@" {self.environment.output}'
        return [*self.environment.as_root, "bash", "-c", script, "bash", *map(str, arguments)]

    @property
    def options(self) -> dict[str, Any]:
        """How a process is started here; as for `subprocess.run`."""
        env: dict[str, str | None] = {**os.environ, "TMPDIR": str(self.things.folder.parent)}
        env |= {"PYTHONIOENCODING": "utf-8", **self.environment.env}
        modules = self.things.folder.parent / "modules"
        return {
            "cwd": modules if self.environment.modules else self.folder,
            "env": {name: value for name, value in env.items() if value is not None},
        }

    def run(self, command: str, *arguments: object, prints: bool = True) -> str | None:
        """Run a command to its end, and see how that was.

        Args:
            command: by its name.
            arguments: of it.
            prints: whether it has anything to say on standard output.

        Returns:
            What it printed; None where nobody sees that.
        """
        done = subprocess.run(
            self.words(command, *arguments), capture_output=True, text=True, check=False,
            timeout=SECONDS, encoding=self.environment.encoding, **self.options,
        )  # fmt: skip
        self.look(done.returncode, done.stderr, prints)
        return None if self.environment.output else str(done.stdout)

    def look(self, code: int, said: str, prints: bool) -> None:
        """See how a command ended, and what it said on standard error."""
        expected = self.environment.code if prints else Exit.DONE
        assert code == expected, said
        assert "Traceback" not in said
        assert "was imported" not in said
        if expected == Exit.STORAGE:
            assert "No space left on device" in said.splitlines()[-1]


def train(at: Place) -> None:
    printed = at.run(
        "mnist-main", "--bind", ANY_PORT, "--data", at.things.folder / "digits",
        "--run-dir", at.folder / "runs", "--learner", "linear", "--jobs", "1", "--rounds", "1",
        "--local-nodes", "1",
    )  # fmt: skip
    (run,) = (path for path in (at.folder / "runs").iterdir() if not path.is_symlink())
    result = json.loads((run / "metrics.json").read_text())
    assert result["accuracy"] > 0.5
    assert (run / "learning.png").stat().st_size > 1000
    if printed is not None:
        assert f"{result['accuracy']:.2%}" in printed
        assert at.name in printed


def compute(at: Place) -> None:
    values, arrays = linear_fit(at.things.shard)
    job = at.things.main.submit(JobDataType(arrays, values, kind="linear"))
    at.run(
        "mnist-compute", "--connect", at.things.main.address, "--max-jobs", "1", "--learners",
        "linear", prints=False,
    )  # fmt: skip
    assert job.result(SECONDS).arrays["steps"] == 1


def predict(at: Place) -> None:
    model, picture = at.things.folder / "model.safetensors", at.things.folder / "digit.png"
    printed = at.run("mnist-predict", model, picture)
    if printed is not None:
        told = str(picture).replace(NAME, at.name)
        assert printed.split() == [str(at.things.shard.labels[0]), told]


def merge(at: Place) -> None:
    model, out = at.things.folder / "model.safetensors", at.folder / "merged"
    printed = at.run("mnist-merge", model, model, "--weights", "1,1", "--out", out)
    assert out.stat().st_size > 1000
    if printed is not None:
        assert f"mnist-predict {shlex.quote(str(out))}".replace(NAME, at.name) in printed


def runs(at: Place) -> None:
    listed = at.run("mnist-runs", "list", "--run-dir", at.things.folder / "runs")
    shown = at.run("mnist-runs", "show", at.things.folder / "runs" / "a-run")
    if listed is not None and shown is not None:
        assert listed.split("\n")[1].split()[:2] == ["a-run", "interrupted"]
        assert f"{at.name}/runs/a-run" in shown


def datasets(at: Place) -> None:
    sheet = at.folder / "sheet.png"
    printed = at.run("mnist-datasets", "check", at.things.folder / "digits", "--picture", sheet)
    with Image.open(sheet) as image:
        assert image.format == "PNG"
    listed = at.run("mnist-datasets", "list")
    if printed is not None and listed is not None:
        assert at.name in "".join(printed.split())
        assert "against training" in printed
        assert ("█" in printed) == (at.environment.encoding == "utf-8")
        assert listed.split()[:3] == ["name", "rows", "a"]


def keys(at: Place) -> None:
    printed = at.run("mnist-keys", "new", at.folder / "keys", "lab1")
    assert (at.folder / "keys" / "nodes" / "lab1" / "node.key").exists()
    listed = at.run("mnist-keys", "list", at.folder / "keys")
    if printed is not None and listed is not None:
        assert f"{at.name}/" in printed
        assert listed.split() == ["lab1", "work,", "watch"]


def status(at: Place) -> None:
    printed = at.run("mnist-status", "--connect", at.things.main.address, "--once")
    if printed is not None:
        sign = "●" if at.environment.encoding == "utf-8" else "*"
        assert printed.startswith(f"{sign} {at.things.main.get_id()} at {at.things.main.address}")


def relay(at: Place) -> None:
    words = at.words("mnist-relay", "--bind", ANY_PORT, "--connect", at.things.main.address)
    process = Process(*words, **at.options)
    try:
        address = process.event("relay.ready")["from"]
        with StatusNode("status", address=address) as node:
            node.process_status_async()
            assert node.wait(SECONDS)
            assert node.overviews()[0].main.id == at.things.main.get_id()
        process.popen.terminate()
        code, _ = process.end()
        at.look(code, "".join(process.seen), prints=False)
    finally:
        process.close()


ROWS: dict[str, Callable[[Place], None]] = {
    "mnist-main": train, "mnist-compute": compute, "mnist-predict": predict, "mnist-runs": runs,
    "mnist-merge": merge,
    "mnist-datasets": datasets, "mnist-keys": keys, "mnist-status": status,
    "mnist-relay": relay,
}  # fmt: skip


def test_every_command_has_a_row() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["options.entry_points"]["mnist_merge.commands"].split("\n")
    assert {line.split(" = ")[0] for line in lines if "=" in line} == ROWS.keys()


def check(environment: Environment, things: Things) -> None:
    """Run every command in an environment, some at once."""
    if environment.as_root and not _can(environment):
        assert os.environ.get("CI") != "true", "only root can do this"
        pytest.skip("only root can be somebody else, or mount something")
    outer = Path(tempfile.mkdtemp(prefix="place-", dir=things.folder))
    outer.chmod(0o777)
    place = Place(environment, things, outer)
    with ThreadPoolExecutor(3) as pool:
        cells = [pool.submit(row, place) for row in ROWS.values()]
    for cell in cells:
        cell.result()


def _can(environment: Environment) -> bool:
    try:
        return subprocess.run([*environment.as_root, "true"], check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("column", TOGETHER)
def test_every_command_does_its_work_wherever_it_is_started(column: str, things: Things) -> None:
    check(TOGETHER[column], things)


@pytest.mark.lane("deep")
@pytest.mark.parametrize("column", COLUMNS)
def test_every_command_does_its_work_in_each_environment(column: str, things: Things) -> None:
    check(COLUMNS[column], things)
