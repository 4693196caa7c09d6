"""The entry of every command; it looks at the installation where an import fails."""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

#: What Python says, as a RuntimeError, where the system, or a container, allows no more of them.
_NO_THREAD = "can't start new thread"


def run(place: str) -> None:
    """Run a command, and end with its exit code.

    Args:
        place: `package.module:command`, a `click.Command`.
    """
    from .streams import take

    take()
    _hang_up_ends()
    module, _, name = place.partition(":")
    try:
        command = getattr(importlib.import_module(module), name)
    except ImportError:
        _explain()
        raise
    except KeyboardInterrupt:  # before the command could say anything about it
        sys.exit(130)
    _run(command)


def _hang_up_ends() -> None:
    """Have a terminal that is closed end a command as SIGTERM does, but where that is ignored."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # not with `nohup`
        signal.signal(signal.SIGHUP, lambda number, frame: signal.raise_signal(signal.SIGTERM))


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
    """Run a command; where it speaks JSON, what breaks it is JSON, too."""
    from protocol.wire.words import in_words

    from .exits import Exit, tell_end
    from .logs import speak, speaks_json
    from .streams import OutputFailed

    command.context_settings.setdefault("help_option_names", ["-h", "--help"])
    if _wants_json(command):
        speak("json")
    try:
        code = _code(command)
        sys.stdout.flush()
    except OutputFailed as error:
        code = Exit.DONE
        if not error.unread:
            code = Exit.STORAGE
            tell_end(code, f"standard output can't be written: {error}", _called())
    except OSError as error:
        code = Exit.STORAGE
        tell_end(code, f"this machine does not let it: {_refused(error)}", _called())
    except MemoryError:
        code = Exit.STORAGE
        tell_end(code, "this machine has no memory left for it", _called())
    except Exception as error:
        if str(error) == _NO_THREAD:
            code = Exit.STORAGE
            tell_end(code, "this machine lets it start no more threads (ulimit -u)", _called())
        elif speaks_json():
            code = 1  # as Python ends
            tell_end(code, in_words(error), error=error)
        else:
            raise
    sys.exit(code if isinstance(code, int) else Exit.DONE)


def _code(command: Any) -> Any:
    """Run a command; a path that no system takes is the user's mistake, whichever option it is."""
    import click

    from protocol.errors import ConfigError
    from protocol.wire.words import safe_line

    from .environment import check_environment
    from .exits import Exit, tell_end
    from .logs import speaks_json

    try:
        check_environment(command)
        return command.main(standalone_mode=False)
    except click.ClickException as error:
        if speaks_json():
            tell_end(error.exit_code, error.format_message())
        else:
            error.show()
        return error.exit_code
    except ConfigError as error:
        tell_end(Exit.USAGE, str(error), "Error")  # as click tells what else is wrong with options
        return Exit.USAGE
    except (click.Abort, KeyboardInterrupt):  # before the command could say anything about it
        return Exit.INTERRUPTED
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        path = safe_line(str(error.filename))
        tell_end(Exit.USAGE, f"the path is too long: {path[:60]}... ({len(path):,} letters)")
        return Exit.USAGE


def _called() -> str:
    """Return what people have called this command."""
    return Path(sys.argv[0]).name


def _refused(error: OSError) -> str:
    """Return what the system has refused, and where."""
    from protocol.wire.words import in_words, safe_line

    if error.strerror is None:
        return in_words(error)
    if error.errno == errno.ENOENT and not error.filename and _nowhere():
        return "the current folder is gone; go to one that is there"
    return safe_line(error.strerror + (f": {error.filename}" if error.filename else ""))


def _nowhere() -> bool:
    """Whether the folder in which this was started has been removed."""
    try:
        Path.cwd()
    except OSError:
        return True
    return False


def _wants_json(command: Any) -> bool:
    """Whether JSON is asked for, looked up before the options are read: they may be wrong."""
    for option in command.params:
        if option.name == "log_format":
            words = " ".join(sys.argv[1:]).replace("--log-format=", "--log-format ")
            _, found, rest = words.rpartition("--log-format ")
            told = [os.environ.get(name) for name in option.envvar or ()]
            return "json" in (rest.split()[:1] if found else [each for each in told if each][:1])
    return False
