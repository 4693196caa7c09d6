"""Merges arrays by Flower's strategies; for Flower's own Python, which has not this project.

Usage: flower.py INPUT OUTPUT, files of arrays. `CASES` in the input is JSON, a list of `[name,
class, options]`; `start/NAME` are the arrays to begin with, `ROUND/CLIENT/NAME` the solutions,
`examples` of the clients. The output has `CASE/ROUND/NAME`.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np


def replies(solutions: dict[int, dict[str, Any]], examples: Any) -> list[Any]:
    """Return solutions as nodes of Flower's answer."""
    app = import_module("flwr.app")
    told = []
    for client, arrays in sorted(solutions.items()):
        content = app.RecordDict(
            {
                "arrays": app.ArrayRecord({n: app.Array(a) for n, a in arrays.items()}),
                "metrics": app.MetricRecord({"num-examples": int(examples[client])}),
            }
        )
        told.append(SimpleNamespace(content=content, has_error=lambda: False))
    return told


def one_by_one(solutions: dict[int, dict[str, Any]], liars: int) -> dict[str, Any]:
    """Return what Bulyan comes to as the paper has it: Krum is asked again of what is left."""
    module = import_module("flwr.server.strategy.aggregate")
    names = sorted(solutions[0])
    results = [([arrays[n] for n in names], 1) for _, arrays in sorted(solutions.items())]
    merged = module.aggregate_bulyan(results, liars, module.aggregate_krum, to_keep=0)
    return dict(zip(names, merged, strict=True))


def main(source: str, target: str) -> None:
    file = np.load(source)
    start, rounds = {}, defaultdict(lambda: defaultdict(dict))  # type: ignore[var-annotated]
    for path in file.files:
        first, _, name = path.partition("/")
        if first == "start":
            start[name] = file[path]
        elif name:
            client, _, name = name.partition("/")
            rounds[int(first)][int(client)][name] = file[path]
    app, strategies = import_module("flwr.app"), import_module("flwr.serverapp.strategy")
    merged: dict[str, Any] = {}
    for case, kind, options in json.loads(str(file["CASES"])):
        model = dict(start)
        strategy = None if kind == "one by one" else getattr(strategies, kind)(**options)
        for number, solutions in sorted(rounds.items()):
            if strategy is None:
                model = one_by_one(solutions, **options)
            else:
                whole = app.ArrayRecord({n: app.Array(a) for n, a in model.items()})
                # As each strategy of Flower's keeps it when a round begins.
                plain = kind in ("FedAdagrad", "FedAdam", "FedYogi")
                strategy.current_arrays = model if plain else whole
                told, _ = strategy.aggregate_train(number, replies(solutions, file["examples"]))
                model = {n: a.numpy() for n, a in told.items()}
            merged |= {f"{case}/{number}/{name}": array for name, array in model.items()}
    np.savez(target, **merged)


if __name__ == "__main__":
    main(*sys.argv[1:])
