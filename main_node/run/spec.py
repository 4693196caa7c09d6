"""The options of `mnist-main`, in one place."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from protocol.carrier.sockets import DEFAULT_ADDRESS

from ..errors import ConfigError

#: Sources of data that are names, and not folders, whatever folders there are.
NAMES = ("mnist",)


@dataclass(frozen=True, kw_only=True)
class MainConfig:
    """The options of `mnist-main`; each field is the option of its name."""

    jobs: int = 4
    data: str = "mnist"
    limit: int | None = None
    sharding: str = "disjoint"
    learner: str = "neural"
    rounds: int = 5
    epochs: int = 3
    batch_size: int = 16
    lr: float = 0.02
    batches: int = 30
    levels: int = 1
    shifts: int = 1
    target_digit: int | None = None
    count: str = "main"
    seed: int = 0
    threads: int = 1
    local_nodes: int = 0
    min_nodes: int = 1
    bind: str = DEFAULT_ADDRESS
    keys: str | None = None
    insecure: bool = False
    announce: bool = False
    domain: int = 0
    run_dir: str = "runs"
    timeout_seconds: float | None = None
    deadline_seconds: float | None = None
    stall_seconds: float | None = 120.0
    silence_seconds: float = 10.0
    max_attempts: int = 3
    partial: bool = False
    json: bool = False
    quiet: bool = False
    log_level: str = "warning"

    def resolved(self) -> dict[str, Any]:
        """Return the options by name, so that they mean the same in every folder."""
        values = asdict(self)
        values["run_dir"] = str(Path(self.run_dir).absolute())
        if self.keys is not None:
            values["keys"] = str(Path(self.keys).absolute())
        if self.data not in NAMES and _is_folder(self.data):
            values["data"] = str(Path(self.data).absolute())
        return values

    def shape(self) -> str:
        """Return the options that shape the model, in one text: equal models have equal ones."""
        values = {name: value for name, value in asdict(self).items() if name not in FREE}
        return json.dumps(values, sort_keys=True)

    def as_yaml(self) -> str:
        """Return the options as a file that `--config` reads."""
        import yaml

        return yaml.safe_dump(self.resolved(), sort_keys=False)


def _is_folder(name: str) -> bool:
    try:
        return Path(name).is_dir()
    except OSError:  # too long, say
        return False


#: What may be given anew when a run goes on: nothing of it shows in the model.
FREE = frozenset(
    ["count", "data", "run_dir", "local_nodes", "min_nodes", "bind", "domain", "timeout_seconds",
     "deadline_seconds", "stall_seconds", "silence_seconds", "max_attempts", "partial", "json",
     "quiet", "log_level", "keys", "insecure", "announce"]
)  # fmt: skip


def find_run(name: str, runs: Path) -> Path:
    """Return the directory of a run that is named by its path, or by its name in `runs`.

    Raises:
        ConfigError: there is none.
    """
    if not name.strip():
        raise ConfigError("name a run; `mnist-runs list` shows them")
    from ..store.directory import is_run

    for path in (Path(name), runs / name):
        if is_run(path):
            return path.absolute()
    raise ConfigError(f"{name}: no run, neither here nor in {runs}; `mnist-runs list` shows them")


def cut_short(config: MainConfig) -> Path | None:
    """Return the newest run with these options that was cut short, if there is one."""
    from ..store.directory import finished, locked, runs_in

    for run in reversed(runs_in(Path(config.run_dir))):
        try:
            stored = MainConfig(**read_config(run / "config.yaml"))
        except (ConfigError, TypeError):  # of another release, or damaged
            continue
        same = stored.shape() == config.shape() and all(
            stored.resolved()[name] == config.resolved()[name] for name in ("data", "domain")
        )
        if same and not locked(run) and finished(run) is None:
            return run
    return None


def resumed(config: MainConfig, given: set[str], path: Path) -> MainConfig:
    """Return the options to go on with a run: its own, but for free ones that are given anew.

    Args:
        config: the options of the command.
        given: names of those that stand on the command line.
        path: directory of the run.

    Raises:
        ConfigError: its own can't be read, or one that is given would change the model.
    """
    stored = {**read_config(path / "config.yaml"), "run_dir": str(path.parent)}
    missing = {field.name for field in fields(MainConfig)} - stored.keys()
    if missing:
        raise ConfigError(f"{path / 'config.yaml'}: not whole: no {', '.join(sorted(missing)[:3])}")
    stored |= {"json": config.json, "quiet": config.quiet}  # of this start only
    for name in sorted(given & stored.keys()):
        value = config.resolved()[name]
        if name == "run_dir":
            continue
        if name in FREE:
            stored[name] = value
        elif value != stored[name]:
            option = name.replace("_", "-")
            raise ConfigError(
                f"--{option} {value} can't be: run {path.name} began with {stored[name]}, and"
                " its model would be another; leave it out, or begin a new run"
            )
    return MainConfig(**stored)


def read_config(path: Path) -> dict[str, Any]:
    """Return the options that a YAML file sets.

    Raises:
        ConfigError: it can't be read, or sets what is no option, or to what it can't be.
    """
    import yaml

    try:
        values = yaml.safe_load(path.read_text()) or {}
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: there is none; it says what the options are. That of a run can be written"
            " anew, with the options that it began with"
        ) from error
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:  # and its dates
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{where}: not YAML: {getattr(error, 'problem', error)}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: not options by name, one a line, like 'jobs: 4'")
    return dict(_option(path, str(name), value) for name, value in values.items())


def _option(path: Path, name: str, value: Any) -> tuple[str, Any]:
    """Return an option as the configuration has it, or raise."""
    name = name.replace("-", "_")
    name = f"{name}_seconds" if name in ("timeout", "deadline", "stall", "silence") else name
    kinds = {field.name: str(field.type) for field in fields(MainConfig)}
    if name not in kinds:
        raise ConfigError(f"{path}: no such option: {name}")
    wanted, *rest = kinds[name].split(" | ")  # as annotated: "int", "float | None", ...
    if value is None and rest:
        return name, None
    if wanted == "float" and isinstance(value, str):  # YAML takes 1e-2 for a text
        with contextlib.suppress(ValueError):
            value = float(value)
    fits = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,)}[wanted]
    if not isinstance(value, fits) or (isinstance(value, bool) and wanted != "bool"):
        meant = {"int": "a whole number", "float": "a number", "str": "a text",
                 "bool": "true or false"}[wanted]  # fmt: skip
        raise ConfigError(f"{path}: {name} is {value!r}, not {meant}")
    return name, value
