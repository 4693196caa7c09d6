"""Stopping a run from outside: which one, where it is, and with which keys."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

from protocol.errors import NoAnswer
from protocol.options import Checked, option
from protocol.wire.addresses import is_loopback, split_address
from protocol.wire.key import CONTROL
from protocol.wire.limits import MAX_COUNT

from ..controls import STOP
from ..errors import ConfigError
from .options import find_run


@dataclass(frozen=True, kw_only=True)
class StopOptions(Checked):
    """How a run is reached that is to stop."""

    connect: str | None = option(
        None, "Where the run's main node, or a relay to it, listens.", metavar="ADDRESS",
        unset="as the run directory says",
    )  # fmt: skip
    domain: int | None = option(
        None, "Of the main node.", least=0, most=MAX_COUNT, unset="as the run directory says, or 0"
    )
    keys: str | None = option(
        None, "Keys with the role control, as mnist-keys makes them: a node's own, or the main"
        " node's whole folder.", metavar="DIR", path=True,
        unset="the whole folder that the run was started with",
    )  # fmt: skip
    reason: str = option(
        "",
        "Why; people are shown it where the run is.",
        metavar="TEXT",
        may_be_empty=True,
        unset="none",
    )
    timeout_seconds: float = option(
        10.0, "Give up if the main node has not answered after so long.", flag="--timeout", least=0,
        most=1e6, metavar="SECONDS",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a run's main node is; what is empty is not known.

    Args:
        run: its name, for people.
        address: where it listens, as it is reached from here.
        main: its id.
        domain: its own.
        keys: its folder of keys.
    """

    run: str = "the run"
    address: str = ""
    main: str = ""
    domain: int = 0
    keys: str = ""


def stopped(run: str | None, runs: Path, options: StopOptions) -> str:
    """Have a run stop; return what there is to say.

    Args:
        run: its directory, or its name in `runs`; None: the only one that is under way, or the one
            at `options.connect`.
        runs: where runs are kept.
        options: how it is reached.

    Raises:
        ConfigError: no such run, none that is under way, or several.
        StorageError: what it keeps can't be read.
        AddressError, KeysError: they can't be used.
        NoAnswer: its main node does not answer.
        ControlRefused: it does not stop.
    """
    from protocol.carrier.control import control
    from protocol.carrier.keys import keys_for

    from ..store.directory import locked

    path = _under_way(run, runs) if run is not None or options.connect is None else None
    place = _Place() if path is None else _place(path, anywhere=options.connect is not None)
    keys = options.keys or place.keys
    try:
        words = control(
            options.connect or place.address, STOP, options.reason,
            keys=keys_for(Path(keys), CONTROL) if keys else None,
            domain=place.domain if options.domain is None else options.domain,
            main=place.main, timeout=options.timeout_seconds,
        )  # fmt: skip
    except NoAnswer:
        if path is None or locked(path):
            raise
        words = "it has ended meanwhile; `mnist-runs list` shows how"
    return f"{place.run}: {words}"


def _under_way(run: str | None, runs: Path) -> Path:
    """Return the directory of a run whose main node works in it."""
    from ..store.directory import locked, runs_in

    if run is not None:
        path = find_run(run, runs)
        if not locked(path):
            raise ConfigError(
                f"run {path.name} is not under way; `mnist-runs list` shows how it is"
            )
        return path
    found = [path for path in runs_in(runs) if locked(path)]
    if not found:
        raise ConfigError(f"no run in {runs} is under way; name its directory, or --connect")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ConfigError(f"{len(found)} runs are under way, name one: {names}")
    return found[0]


def _place(path: Path, anywhere: bool) -> _Place:
    """Return what a run's directory says of its main node.

    Args:
        path: of the directory.
        anywhere: whether the main node is reached by another address than its own.
    """
    from ..store.database import RunHistory
    from ..store.directory import host_of

    facts = RunHistory(path / "run.db").facts
    address, main, domain = (facts.get(name, "") for name in ("address", "main", "domain"))
    if not (address and main and domain.isdecimal()):
        raise ConfigError(f"run {path.name} does not listen yet; try again in a moment")
    return _Place(
        run=path.name, address="" if anywhere else _from_here(address, host_of(path), path.name),
        main=main, domain=int(domain), keys=facts.get("keys", ""),
    )  # fmt: skip


def _from_here(address: str, host: str, run: str) -> str:
    """Return where an address is reached, from here, that was bound at a host."""
    elsewhere = host not in ("", socket.gethostname())
    if elsewhere and is_loopback(address):
        raise ConfigError(
            f"run {run} is under way on {host}, and listens there only; stop it there, or through a"
            " relay with --connect"
        )
    bound, port = split_address(address, 1)
    if bound not in ("0.0.0.0", "::"):
        return address
    home = "[::1]" if bound == "::" else "127.0.0.1"
    return f"tcp://{host if elsewhere else home}:{port}"
