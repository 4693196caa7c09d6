"""Keys as files: a main node's pair, its computing nodes' pairs, and who is allowed in.

    DIR/main.key              the main node's secret key; never leaves it
    DIR/main.pub              its public key
    DIR/allowed/NAME.pub      public keys of the nodes that are let in: this is the allow-list;
                              a second line says what for, unless it is `roles: work, watch`
    DIR/revoked/NAME.pub      of those that were, and are not any more, wherever else they stand
    DIR/nodes/NAME/           what a computing node needs: node.key, node.pub and main.pub;
                              copy it to that host

Keys are CURVE's (Curve25519), 40 characters of Z85 in a line. Secret ones are readable by their
owner only (mode 0600), and refused if they are not.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from shlex import quote

from ..errors import KeysError
from ..files import read_small
from ..wire.key import DEFAULT_ROLES, WATCH, Key, Roles, in_order
from .allowlist import KEY, MOST_BYTES, AllowList, read_entry

_NAME = re.compile(r"[\w][\w.-]{0,60}")

#: Returns a new pair, public and secret; `sockets.make_pair` is one.
MakePair = Callable[[], tuple[bytes, bytes]]


@dataclass(frozen=True)
class NodeKeys:
    """What a computing node needs to reach a main node that has keys."""

    public: bytes
    secret: bytes = field(repr=False)
    main: bytes


def node_keys(folder: Path, name: str = "", any_of: bool = False) -> NodeKeys:
    """Return a computing node's keys.

    Args:
        folder: the node's own (`nodes/NAME`), or the main node's whole one.
        name: of the node, to choose by in a whole one that has several.
        any_of: take some if there are none of this name, such as may watch where there are any.

    Raises:
        KeysError: there are none, which to take is not clear, or others can read the secret.
    """
    if not (folder / "node.key").exists():
        folder = _choose(folder, name, any_of)
    return NodeKeys(
        _read(folder / "node.pub"), _read_secret(folder / "node.key"), _read(folder / "main.pub")
    )


def keys_for(folder: Path, role: str) -> NodeKeys:
    """Return the keys of a node that may do something; arguments and errors as for `node_keys`.

    Args:
        folder: the node's own (`nodes/NAME`), or the main node's whole one: then those of the
            first node that has the role.
        role: `control`, say.
    """
    if (folder / "node.key").exists() or not (folder / "allowed").is_dir():
        return node_keys(folder, any_of=True)
    able = _able(folder, role)
    if able:
        return node_keys(folder / "nodes" / able[0])
    raise KeysError(
        f"{folder}: no node's keys in there have the role {role}; make some:"
        f" mnist-keys add {quote(str(folder))} NAME --role {role}"
    )


def _names(folder: Path) -> list[str]:
    return sorted(path.parent.name for path in (folder / "nodes").glob("*/node.key"))


def _able(folder: Path, role: str) -> list[str]:
    """Return the names of the nodes whose keys are in a main node's folder and have a role."""
    lists, nodes = AllowList(folder), folder / "nodes"
    return [n for n in _names(folder) if role in lists.roles(_read(nodes / n / "node.pub"))]


def _choose(folder: Path, name: str, any_of: bool) -> Path:
    names = _names(folder)
    if not names:
        raise KeysError(
            f"{folder}: no keys of a computing node (node.key, node.pub, main.pub) in there;"
            " make some where the main node is: mnist-keys new DIR NAME"
        )
    if name in names:
        return folder / "nodes" / name
    if len(names) == 1 or any_of:
        able = _able(folder, WATCH) if any_of else []
        return folder / "nodes" / (able or names)[0]
    raise KeysError(f"{folder} holds keys of {', '.join(names)}; choose one: --name NAME")


def main_public(folder: Path) -> bytes:
    """Return the main node's public key, from its folder or a computing node's.

    Raises:
        KeysError: there is none.
    """
    return _read(folder / "main.pub")


def read_secret(path: Path) -> bytes:
    """Return a secret of relays that meet.

    Raises:
        KeysError: there is none, or others can read it.
    """
    try:
        secret, mode = read_small(path, MOST_BYTES).strip(), stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise KeysError(f"{path}: can't be read: {error.strerror}") from error
    if not re.fullmatch(rb"[0-9a-f]{64}", secret):
        raise KeysError(f"{path}: no secret of relays; make one with mnist-keys secret FILE")
    if mode & 0o077:
        raise KeysError(f"{path}: others can read it (mode {mode:04o}); chmod 600 {path}")
    return secret


def create_secret(path: Path) -> None:
    """Write a new secret for two relays that meet.

    Raises:
        KeysError: there is a file already, or it can't be written.
    """
    if path.exists():
        raise KeysError(f"{path} is there already; copy it to the other relay's host, or remove it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, secrets.token_hex(32).encode(), 0o600)
    except OSError as error:
        raise KeysError(f"{path}: can't be written: {error.strerror}") from error


class MainKeys(AllowList):
    """A main node's keys, and whom it lets in.

    Args:
        folder: as `create` made it.

    Raises:
        KeysError: there are none, or others can read the secret.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        _check_main(folder)
        self.public = _read(folder / "main.pub")
        self.secret = _read_secret(folder / "main.key")
        self._guests: set[bytes] = set()
        super().__init__(folder)

    def who(self, public: bytes) -> Key | None:
        """Return the key of a node that is connected, if it is let in; also a guest's."""
        return Key(public, "") if public in self._guests else super().who(public)

    def roles(self, public: bytes) -> Roles:
        """Return what a key is let in for; a guest's for no more than work and watching."""
        return DEFAULT_ROLES if public in self._guests else super().roles(public)

    def admits(self, public: bytes) -> bool:
        """Whether somebody new with this key is let in; a guest always is."""
        return public in self._guests or super().admits(public)

    def invite(self, make_pair: MakePair) -> NodeKeys:
        """Return new keys that this main node lets in and that are on no disk."""
        public, secret = make_pair()
        self._guests.add(public)
        return NodeKeys(public, secret, self.public)


def create(folder: Path, names: list[str], make_pair: MakePair) -> None:
    """Make a folder with a main node's keys, and those of nodes.

    Raises:
        KeysError: there are keys in it already, a name that can't be, or it can't be written.
    """
    if (folder / "main.key").exists():
        raise KeysError(
            f"{folder} holds keys already; add nodes with mnist-keys add {quote(str(folder))} NAME"
        )
    for name in names:
        _check_name(name)
    if len(set(names)) < len(names):
        raise KeysError("the same name twice; nodes may share a pair, made once")
    try:
        if not folder.exists():
            folder.mkdir(parents=True)
            folder.chmod(0o700)
        for name in ("allowed", "revoked", "nodes"):
            (folder / name).mkdir(exist_ok=True)
        public, secret = make_pair()
        _write(folder / "main.pub", public, 0o644)
        _write(folder / "main.key", secret, 0o600)
    except OSError as error:
        raise KeysError(f"{folder}: can't be written: {error.strerror}") from error
    for name in names:
        add(folder, name, make_pair)


def add(folder: Path, name: str, make_pair: MakePair, roles: Roles = DEFAULT_ROLES) -> Path:
    """Make the keys of another node and let it in; return its folder.

    Args:
        folder: the main node's.
        name: of the node.
        make_pair: makes the keys.
        roles: what it is let in for.

    Raises:
        KeysError: there is one of this name, the name can't be, or it can't be written.
    """
    _check_main(folder)
    main = _read(folder / "main.pub")
    _check_name(name)
    if (folder / "allowed" / f"{name}.pub").exists():
        raise KeysError(f"{name} is let in already; revoke it first, or choose another name")
    if not (folder / "allowed").is_dir():
        raise KeysError(f"{folder / 'allowed'}: no such folder: who is let in is read from it")
    public, secret = make_pair()
    own = folder / "nodes" / name
    try:
        own.mkdir(parents=True, exist_ok=True)
        write_node_keys(own, NodeKeys(public, secret, main))
        _write(folder / "allowed" / f"{name}.pub", _entry(public, roles), 0o644)
    except OSError as error:
        raise KeysError(f"{error.filename or own}: can't be written: {error.strerror}") from error
    return own


def _entry(public: bytes, roles: Roles) -> bytes:
    """Return what stands in the allow-list; what all releases read, where that says it."""
    return public if roles == DEFAULT_ROLES else public + f"\nroles: {in_order(roles)}".encode()


def set_roles(folder: Path, name: str, roles: Roles) -> None:
    """Let a node in for something else than before.

    Args:
        folder: the main node's.
        name: of the node.
        roles: what it is let in for from now on.

    Raises:
        KeysError: there is none of this name, it can't be written, or it did not take effect.
    """
    allowed = _allowed(folder, name)
    public, _ = read_entry(allowed)
    try:
        _write(allowed, _entry(public, roles), 0o644)
    except OSError as error:
        raise KeysError(f"{allowed}: can't be written: {error.strerror}") from error
    lists = AllowList(folder)  # as a main node reads them
    if lists.roles(public) != roles:
        others = [each for key, each in lists.entries() if key == public and each != name]
        why = f"its key stands there as {', '.join(others)}, too" if others else ""
        why = why or "; ".join(lists.complaints()) or lists.describe(public)
        raise KeysError(f"{name} has other roles for a main node that runs: {why}")


def _allowed(folder: Path, name: str) -> Path:
    """Return the file that lets a node in.

    Raises:
        KeysError: there is none of this name.
    """
    _check_main(folder)
    allowed = folder / "allowed" / f"{name}.pub"
    if not _NAME.fullmatch(name) or not os.path.lexists(allowed):
        there = ", ".join(AllowList(folder).names())
        raise KeysError(f"{name} is not let in; those are: {there or 'none'}")
    return allowed


def _check_main(folder: Path) -> None:
    """Raise unless a folder holds a main node's keys."""
    if (folder / "node.key").exists():
        raise KeysError(f"{folder}: the keys of a computing node, not of a main node")
    if not (folder / "main.key").exists():
        raise KeysError(
            f"{folder}: no main node's keys in there; make some:"
            f" mnist-keys new {quote(str(folder))} NAME..."
        )


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise KeysError(f"{name!r} can't be a node's name: letters, digits, '-', '_' and '.'")


def write_node_keys(folder: Path, keys: NodeKeys) -> None:
    """Write a node's keys into a folder of their own.

    Raises:
        OSError: they can't be written.
    """
    folder.chmod(0o700)
    _write(folder / "main.pub", keys.main, 0o644)
    _write(folder / "node.pub", keys.public, 0o644)
    _write(folder / "node.key", keys.secret, 0o600)


def revoke(folder: Path, name: str) -> list[str]:
    """Let a node in no more; return the other names under which its key was let in, too.

    Raises:
        KeysError: there is none of this name, it can't be written, or it did not take effect.
    """
    allowed = _allowed(folder, name)
    public, _ = read_entry(allowed)
    try:
        (folder / "revoked").mkdir(exist_ok=True)
        _write(_free(folder / "revoked", name, public), public, 0o644)  # this alone keeps it out
        allowed.unlink()
    except OSError as error:
        raise KeysError(f"{allowed}: can't be revoked: {error.strerror}") from error
    lists = AllowList(folder)  # as a main node reads them
    if lists.who(public) is not None or not lists.revoked(public) or not lists.readable:
        why = "; ".join(lists.complaints()) or f"look at {folder / 'revoked'}"
        raise KeysError(f"{name} is still let in by a main node that runs: {why}")
    return [other for key, other in lists.entries() if key == public]


def _free(folder: Path, name: str, public: bytes) -> Path:
    """Return where a key can be put: an older one of the same name stays."""
    for number in count(1):
        path = folder / (f"{name}.pub" if number == 1 else f"{name}.{number}.pub")
        if not os.path.lexists(path) or _holds(path, public):
            return path
    raise AssertionError("numbers do not end")


def _holds(path: Path, public: bytes) -> bool:
    try:
        return read_small(path, MOST_BYTES).strip() == public
    except OSError:
        return False


def names(folder: Path) -> list[str]:
    """Return the names of the nodes that are let in.

    Raises:
        KeysError: there are no keys.
    """
    _check_main(folder)
    return AllowList(folder).names()


def roles_by_name(folder: Path) -> dict[str, Roles]:
    """Return what each node that is let in is let in for, by its name.

    Raises:
        KeysError: there are no keys.
    """
    _check_main(folder)
    lists = AllowList(folder)
    there = set(lists.names())
    return {name: lists.roles(key) for key, name in lists.entries() if name in there}


def complaints(folder: Path) -> list[str]:
    """Return what is wrong with a main node's lists, for people."""
    return AllowList(folder).complaints()


def _read(path: Path) -> bytes:
    try:
        key = read_small(path, MOST_BYTES).strip()
    except OSError as error:
        raise KeysError(f"{path}: can't be read: {error.strerror}") from error
    if not KEY.fullmatch(key):
        raise KeysError(f"{path}: no key: one is 40 characters, as mnist-keys writes it")
    return key


def _read_secret(path: Path) -> bytes:
    key = _read(path)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise KeysError(f"{path}: others can read it (mode {mode:04o}); chmod 600 {path}")
    return key


def _write(path: Path, key: bytes, mode: int) -> None:
    """Write a key aside, never readable by others for a moment, and put it in place."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key + b"\n")
    part.replace(path)
