"""The entry of every command; it looks at the installation where an import fails."""

from __future__ import annotations

import errno
import importlib
import sys
from typing import Any


def run(place: str) -> None:
    """Run a command, and end with its exit code.

    Args:
        place: `package.module:command`, a `click.Command`.
    """
    module, _, name = place.partition(":")
    try:
        command = getattr(importlib.import_module(module), name)
    except ImportError:
        _explain()
        raise
    except KeyboardInterrupt:  # before the command could say anything about it
        sys.exit(130)
    _run(command)


def _explain() -> None:
    """Say so if another distribution has overwritten one of our packages."""
    from importlib.metadata import packages_distributions

    for name, distributions in packages_distributions().items():
        others = set(distributions) - {"mnist-merge"}
        if others and "mnist-merge" in distributions:
            sys.exit(
                f"package {name!r} was overwritten by {', '.join(sorted(others))}: uninstall that"
                " and install mnist-merge again, best in an environment of its own"
            )


def _run(command: Any) -> None:
    """Run a command; a path that no system takes is the user's mistake, whichever option it is."""
    import click

    from protocol.errors import ConfigError
    from protocol.wire.words import safe_line

    from .environment import check_environment
    from .exits import Exit

    try:
        check_environment(command)
        code = command.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except ConfigError as error:
        print(f"Error: {error}", file=sys.stderr)  # as click tells what else is wrong with options
        code = Exit.USAGE
    except (click.Abort, KeyboardInterrupt):  # before the command could say anything about it
        code = Exit.INTERRUPTED
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        path = safe_line(str(error.filename))
        print(f"the path is too long: {path[:60]}... ({len(path):,} letters)", file=sys.stderr)
        code = Exit.USAGE
    sys.exit(code if isinstance(code, int) else Exit.DONE)
