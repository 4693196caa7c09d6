"""The entry of this side's commands; it looks at the installation where an import fails."""

from __future__ import annotations

import sys


def run() -> None:
    """Run the command."""
    try:
        from console.command import run_command

        from .command import main
    except ImportError:
        _explain()
        raise
    except KeyboardInterrupt:  # before the command could say anything about it
        sys.exit(130)
    run_command(main)


def _explain() -> None:
    """Say so if another distribution has overwritten one of our packages."""
    from importlib.metadata import packages_distributions

    for name in ("protocol", "loaders", "learning", "main_node", "computing_node", "relay_node"):
        others = set(packages_distributions().get(name, ())) - {"mnist-merge"}
        if others:
            sys.exit(
                f"package {name!r} was overwritten by {', '.join(sorted(others))}: uninstall that"
                " and install mnist-merge again, best in an environment of its own"
            )


if __name__ == "__main__":
    run()
