"""`mnist-keys`: make the keys of a main node and its computing nodes, and revoke them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from console.exits import Exit
from protocol import KeysError
from protocol.carrier import keys
from protocol.carrier.sockets import make_pair

_FOLDER = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))


@contextmanager
def _told() -> Iterator[None]:
    """Turn an error into one line and an exit code."""
    try:
        yield
    except KeysError as error:
        click.echo(f"mnist-keys: {error}", err=True)
        sys.exit(Exit.USAGE)


def _say_how(folder: Path, name: str) -> None:
    own = folder / "nodes" / name
    print(f"{name}: copy {own} to its host, then there: mnist-compute --keys {name} --connect ...")


@click.group()
@click.version_option(package_name="mnist-merge", prog_name="mnist-keys")
def main() -> None:
    """Make the keys that let computing nodes in from other machines.

    What is changed counts at once, for a main node that runs too.
    """


@main.command()
@_FOLDER
@click.argument("names", metavar="[NAME]...", nargs=-1)
def new(folder: Path, names: tuple[str, ...]) -> None:
    """Make a main node's keys in DIR, and those of computing nodes ("node" unless named)."""
    with _told():
        keys.create(folder, list(names) or ["node"], make_pair)
    print(f"made {folder}; start the main node with --keys {folder}")
    for name in names or ["node"]:
        _say_how(folder, name)


@main.command()
@_FOLDER
@click.argument("name")
def add(folder: Path, name: str) -> None:
    """Make keys for another computing node, and let it in."""
    with _told():
        keys.add(folder, name, make_pair)
    _say_how(folder, name)


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
def secret(file: Path) -> None:
    """Make a secret for relays that meet (mnist-relay --accept and --dial)."""
    with _told():
        keys.create_secret(file)
    print(f"made {file}; copy it to the other relay's host, readable by its user only (mode 0600)")


@main.command()
@_FOLDER
@click.argument("name")
def revoke(folder: Path, name: str) -> None:
    """Let a computing node in no more; one that is connected is dropped within a second."""
    with _told():
        others = keys.revoke(folder, name)
    print(f"{name} is not let in any more")
    if others:
        print(f"the same key stood there as {', '.join(others)}, too: neither is that")


@main.command("list")
@_FOLDER
def list_(folder: Path) -> None:
    """List the computing nodes that are let in."""
    with _told():
        found = keys.names(folder)
        for complaint in keys.complaints(folder):
            click.echo(f"mnist-keys: {complaint}", err=True)
    print("\n".join(found) if found else "nobody is let in")
