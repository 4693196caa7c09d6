"""The environment's part in options: a variable that nobody reads is a mistake, and said."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import import_module

import click

from protocol.errors import ConfigError

from .options import meant

PREFIX = "MNIST"
#: Read by others than the commands: docker-compose.yml, and what is fetched to a place.
OTHERS = frozenset(
    ["MNIST_CACHE", "MNIST_CPUS", "MNIST_GID", "MNIST_IMAGE", "MNIST_MAIN",
     "MNIST_MEMORY", "MNIST_RESTART", "MNIST_RUNS", "MNIST_UID"]
)  # fmt: skip
#: The group of entry points that names every command: `mnist-main = package.module:command`.
GROUP = "mnist_merge.commands"


def check_environment(command: click.Command) -> None:
    """Raise if a variable begins as ours do, and no command, nor anybody else, reads it.

    Raises:
        ConfigError: there is one; a name that may have been meant is told.
    """
    own = set(_variables(command)) | OTHERS
    unknown = sorted(
        name for name in os.environ if name.startswith(f"{PREFIX}_") and name not in own
    )
    if not unknown:
        return  # mostly; the other commands are imported for what is left only
    others = known()
    every = own | others
    for name in unknown if others else ():
        if name not in every:
            hint = meant(name, sorted(every), f"{PREFIX}_")
            raise ConfigError(
                f"the environment has {name}, which nothing here reads{hint}; unset it"
            )


def known() -> set[str]:
    """Return the name of every variable that a command, or anybody else here, reads.

    None at all where the commands are not known: run from a folder, without being installed.
    """
    from importlib.metadata import PackageNotFoundError, distribution

    names = set(OTHERS)
    try:
        entries = distribution("mnist-merge").entry_points.select(group=GROUP)
    except PackageNotFoundError:
        return set()
    if not entries:  # of a release that named none
        return set()
    for entry in entries:
        command = getattr(import_module(entry.module), entry.attr)
        names |= set(_variables(command))
    return names


def _variables(command: click.Command) -> Iterator[str]:
    """Yield the variables that a command reads, those of its subcommands too."""
    for parameter in command.params:
        variables = parameter.envvar or ()
        yield from (variables,) if isinstance(variables, str) else variables
    if isinstance(command, click.Group):
        for below in command.commands.values():
            yield from _variables(below)
