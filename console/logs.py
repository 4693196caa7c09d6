"""The log lines of commands, and what else they say on standard error: for people, or as JSON."""

from __future__ import annotations

import json
import logging
import sys
import threading
from datetime import datetime, timezone
from typing import IO

from protocol.wire.entry import Entry
from protocol.wire.secrets import shown
from protocol.wire.words import in_words, safe_block, sendable

LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("text", "json")
#: What `--log-format` is, wherever there is one.
FORMAT_HELP = (
    "How things are said on standard error: as lines for people, or each as one JSON object in a"
    " line, with nothing else between them."
)


_LINE = "%(asctime)s %(levelname)-7s %(message)s"


class _OneLine(logging.Formatter):
    """Lines that are what they seem: printable, and what belongs to one is set in below it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Return the text of a record without its traceback; a story is not set in yet."""
        if isinstance(record.msg, Entry):
            record.message = "\n".join([record.msg.line, *record.msg.story_lines])
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record."""
        first, *rest = safe_block(shown(super().format(record))).split("\n")
        return "\n".join([first, *(f"    {line}" for line in rest)])


class _Json(logging.Formatter):
    """An object in a line; what is no `Entry` is one with the event `log`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as JSON: ASCII, one line, whatever it is about."""
        at = datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds")
        head = {"at": at.replace("+00:00", "Z"), "level": record.levelname.lower()}
        try:
            told = self._told(record)
            if record.exc_info and record.exc_info[0] is not None:
                told["traceback"] = sendable(self.formatException(record.exc_info))
            return shown(json.dumps({**head, **told}, allow_nan=False))
        except Exception as error:  # a mistake here must not end what is logged
            return json.dumps(
                {**head, "event": "log", "says": f"not to be said: {in_words(error)}"}
            )

    @staticmethod
    def _told(record: logging.LogRecord) -> dict[str, object]:
        if isinstance(record.msg, Entry):
            return record.msg.plain()
        try:
            text = record.getMessage()
        except Exception:  # words that do not fit into its line
            text = str(record.msg)
        return Entry("log", text, logger=record.name).plain()


def set_up_logs(level: str, stream: IO[str] | None = None, format: str = "text") -> None:
    """Send the log lines of all packages to `stream` (standard error).

    Args:
        level: one of `LOG_LEVELS`.
        stream: where to.
        format: one of `LOG_FORMATS`; `json` takes the log lines and warnings of other packages,
            too.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    _speak(handler, format)
    logger = logging.getLogger("mnist")
    logger.handlers[:] = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False


def speak(format: str) -> None:
    """Have `say` speak so, before there are log lines, one of `LOG_FORMATS`."""
    if (format == "json") is not speaks_json():
        _speak(logging.StreamHandler(sys.stderr), format)


def speaks_json() -> bool:
    """Whether all that is said on standard error is to be JSON."""
    return isinstance(_voice[0].formatter, _Json) if _voice else False


def in_detail() -> bool:
    """Whether somebody looks for a mistake in a program: the level is `debug`, or Python's own
    development mode is on, where a command has no `--log-level`.
    """
    return sys.flags.dev_mode or logging.getLogger("mnist").isEnabledFor(logging.DEBUG)


def say(
    entry: Entry,
    text: str,
    level: int = logging.INFO,
    *,
    at: float | None = None,
    error: BaseException | None = None,
) -> None:
    """Say something on standard error, whatever the level of log lines is.

    Args:
        entry: what, where it is JSON.
        text: the same for people.
        level: of the JSON.
        at: when it was, seconds since 1970; now.
        error: whose traceback belongs to the JSON, and for people to what they asked `in_detail`.
    """
    if not speaks_json():
        if sys.stderr is not None:  # closed by whoever started this; print would take the other
            if error is not None and in_detail():
                print(_traceback(error), file=sys.stderr, flush=True)
            print(shown(text), file=sys.stderr, flush=True)
        return
    exc_info = None if error is None else (type(error), error, error.__traceback__)
    record = logging.LogRecord("mnist", level, "", 0, entry, None, exc_info)
    if at is not None:
        record.created = at
    _voice[0].handle(record)


def _traceback(error: BaseException) -> str:
    import traceback

    return safe_block(shown("".join(traceback.format_exception(error)).rstrip()))


#: What writes to standard error, once that is known.
_voice: list[logging.Handler] = []


def _speak(handler: logging.Handler, format: str) -> None:
    root = logging.getLogger()
    for each in _voice:
        root.removeHandler(each)
    _voice[:] = [handler]
    handler.setFormatter(_Json() if format == "json" else _OneLine(_LINE, "%H:%M:%S"))
    if format == "json":
        root.addHandler(handler)
        logging.captureWarnings(True)
        threading.excepthook = _unexpected
    elif threading.excepthook is _unexpected:
        logging.captureWarnings(False)
        threading.excepthook = threading.__excepthook__


def _unexpected(broken: threading.ExceptHookArgs) -> None:
    """Say what has ended a thread."""
    if broken.exc_type is not SystemExit:
        name = broken.thread.name if broken.thread else None
        say(Entry("thread.broken", thread=name), "", logging.ERROR, error=broken.exc_value)
