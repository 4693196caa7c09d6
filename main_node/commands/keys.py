"""`mnist-keys`: make the keys of a main node and of others, say what for, and revoke them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote

import click

from console.exits import Exit
from console.options import Place
from protocol import KeysError
from protocol.carrier import keys
from protocol.carrier.sockets import make_pair
from protocol.wire.key import CONTROL, DEFAULT_ROLES, ROLES, WATCH, WORK, Roles, as_roles, in_order

_FOLDER = click.argument("folder", metavar="DIR", type=Place())


@contextmanager
def _told() -> Iterator[None]:
    """Turn an error into one line and an exit code."""
    try:
        yield
    except KeysError as error:
        click.echo(f"mnist-keys: {error}", err=True)
        sys.exit(Exit.USAGE)


#: What a role is for.
_USES = {WORK: "mnist-compute", WATCH: "mnist-status", CONTROL: "mnist-runs stop"}


def _say_how(folder: Path, name: str, roles: Roles = DEFAULT_ROLES) -> None:
    own = folder / "nodes" / name
    command = next(_USES[role] for role in ROLES if role in roles)
    print(
        f"{name}: copy {own} to its host, then there: {command} --keys {quote(name)} --connect ..."
    )
    if CONTROL in roles:
        print(f"{name} may stop runs: mnist-runs stop --keys {quote(name)} --connect ...")


def _as_roles(context: click.Context, parameter: click.Parameter, text: str) -> Roles:
    try:
        return as_roles(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


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
    """Make a main node's keys in DIR, and those of computing nodes.

    Of one that is called "node", unless NAMEs are given; each has a folder, DIR/nodes/NAME.
    """
    with _told():
        keys.create(folder, list(names) or ["node"], make_pair)
    print(f"made {folder}; start the main node with --keys {quote(str(folder))}")
    for name in names or ["node"]:
        _say_how(folder, name)


@main.command()
@_FOLDER
@click.argument("name")
@click.option(
    "--role", "given", multiple=True, type=click.Choice(ROLES), metavar="ROLE",
    help="What it is let in for: to solve jobs (work), to be told how the nodes are (watch), to"
    " stop runs (control); repeat it for several.  [default: work, watch]",
)  # fmt: skip
def add(folder: Path, name: str, given: tuple[str, ...]) -> None:
    """Make keys for another node, and let it in.

    It may work and watch, unless --role says other.
    """
    roles = frozenset(given) or DEFAULT_ROLES
    with _told():
        keys.add(folder, name, make_pair, roles)
    _say_how(folder, name, roles)


@main.command("roles")
@_FOLDER
@click.argument("name")
@click.argument("roles", callback=_as_roles)
def roles_(folder: Path, name: str, roles: Roles) -> None:
    """Let a node in for ROLES, and for nothing else from now on.

    ROLES are some of work, watch and control: work,watch,control.
    """
    with _told():
        keys.set_roles(folder, name, roles)
        for complaint in keys.complaints(folder):
            click.echo(f"mnist-keys: {complaint}", err=True)
    print(f"{name}: {in_order(roles)}")


@main.command()
@click.argument("file", type=Place())
def secret(file: Path) -> None:
    """Make a secret for two relays that meet.

    That is for mnist-relay --accept and --dial.
    """
    with _told():
        keys.create_secret(file)
    print(f"made {file}; copy it to the other relay's host, readable by its user only (mode 0600)")


@main.command()
@_FOLDER
@click.argument("name")
def revoke(folder: Path, name: str) -> None:
    """Let a computing node in no more.

    One that is connected is dropped within a second.
    """
    with _told():
        others = keys.revoke(folder, name)
    print(f"{name} is not let in any more")
    if others:
        print(f"the same key stood there as {', '.join(others)}, too: neither is that")


@main.command("list")
@_FOLDER
def list_(folder: Path) -> None:
    """List the nodes that are let in, and what for."""
    with _told():
        found = keys.roles_by_name(folder)
        for complaint in keys.complaints(folder):
            click.echo(f"mnist-keys: {complaint}", err=True)
    width = max(map(len, found), default=0)
    lines = [f"{name:<{width}}  {in_order(roles)}" for name, roles in found.items()]
    print("\n".join(lines) if lines else "nobody is let in")
