"""The options of `mnist-main`, in one place."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from protocol.sockets import DEFAULT_ADDRESS

from .errors import ConfigError


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
    seed: int = 0
    threads: int = 1
    local_nodes: int = 0
    min_nodes: int = 1
    bind: str = DEFAULT_ADDRESS
    domain: int = 0
    run_dir: str = "runs"
    timeout_seconds: float | None = None
    json: bool = False
    quiet: bool = False
    log_level: str = "warning"

    def as_yaml(self) -> str:
        """Return the options as a file that `--config` reads."""
        import yaml

        return yaml.safe_dump(asdict(self), sort_keys=False)


def read_config(path: Path) -> dict[str, Any]:
    """Return the options that a YAML file sets.

    Raises:
        ConfigError: it can't be read, or sets what is no option.
    """
    import yaml

    try:
        values = yaml.safe_load(path.read_text()) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: can't be read as YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: not options by name, one a line, like 'jobs: 4'")
    unknown = sorted(set(map(str, values)) - {field.name for field in fields(MainConfig)})
    if unknown:
        raise ConfigError(f"{path}: no such option: {', '.join(unknown)}")
    return values
