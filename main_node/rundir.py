"""A run's directory: its configuration, its solutions, its model, its metrics."""

from __future__ import annotations

import json
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from learning import Solution
from learning.model import Model, save

from .errors import ConfigError


class RunDirectory:
    """The directory of one run, made when this is.

    Args:
        parent: where runs are kept.

    Raises:
        ConfigError: it can't be made or written.
    """

    def __init__(self, parent: Path) -> None:
        self.run_id = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        self.path = parent / self.run_id
        self._solutions = self.path / "solutions"
        try:
            self._solutions.mkdir(parents=True)
        except OSError as error:
            raise ConfigError(
                f"the run directory {self.path} can't be made ({error.strerror});"
                " name another with --run-dir"
            ) from error

    def drop_if_empty(self) -> bool:
        """Remove the directory if no job has left anything in it; return whether it did."""
        if any(self._solutions.iterdir()):
            return False
        shutil.rmtree(self.path, ignore_errors=True)
        return True

    def write_config(self, text: str) -> None:
        """Keep the options as they were resolved."""
        (self.path / "config.yaml").write_text(text)

    def write_solution(self, round_: int, job: int, solution: Solution) -> None:
        """Keep the solution of a round's job, both counted from 0."""
        from safetensors.numpy import save_file

        metadata = {
            "examples": str(solution.examples), "metrics": json.dumps(dict(solution.metrics)),
        }  # fmt: skip
        path = self._solution(round_, job)
        part = path.with_name(f".{path.name}.part")
        save_file(dict(solution.arrays), part, metadata)
        part.replace(path)

    def solutions(self, round_: int, jobs: int) -> Iterator[Solution]:
        """Yield a round's solutions in job order, one in memory at a time."""
        from safetensors import safe_open

        for job in range(jobs):
            with safe_open(self._solution(round_, job), framework="numpy") as file:
                metadata = file.metadata()
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            yield Solution(arrays, int(metadata["examples"]), json.loads(metadata["metrics"]))

    def _solution(self, round_: int, job: int) -> Path:
        return self._solutions / f"round-{round_ + 1:03d}-job-{job + 1:04d}.safetensors"

    def write_model(self, model: Model) -> Path:
        """Keep the merged model; return its file."""
        path = self.path / "model.safetensors"
        save(model, path)
        return path

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        """Keep the result."""
        (self.path / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
