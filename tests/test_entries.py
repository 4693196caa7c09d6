"""What is logged: entries as text and as JSON, and what commands say on standard error."""

from __future__ import annotations

import ast
import io
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.exits import Exit
from console.logs import LOG_FORMATS, set_up_logs
from main_node.commands import train
from protocol.wire.entry import RESERVED, Entry

from .processes import MAIN, MAIN_HERE, Process, here
from .test_house import ROOT, TOP

Start = Callable[..., Process]
TEXTS = st.text(st.characters(), max_size=30)  # lone surrogates, too
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
VALUES = st.recursive(
    PLAIN, lambda each: st.lists(each, max_size=3) | st.dictionaries(TEXTS, each, max_size=3)
)
NAMES = st.from_regex(r"[a-z_]{1,8}", fullmatch=True).filter(lambda name: name not in RESERVED)
FIELDS = st.dictionaries(NAMES, VALUES, max_size=4)

#: A field: quoted, or with nothing in it that looks like more than a value.
FIELD = r""" (\w+)=('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^ '"=]*[^ '"=:])"""


class Odd:
    """Nobody can say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def read_back(line: str) -> tuple[str, dict[str, str], str]:
    """Return event, fields and sentence as somebody reads them who knows the rules only."""
    event, fields = line, {}
    if match := re.match("[^ :]+", line):
        event, line = match[0], line[match.end() :]
    while match := re.match(FIELD, line):
        name, value = match.groups()
        fields[name] = ast.literal_eval(value) if value[0] in "'\"" else value
        line = line[match.end() :]
    return event, fields, line.removeprefix(": ")


def test_an_entry_reads_as_a_line() -> None:
    entry = Entry(
        "node.left", "it may come back", node="a", key=None, reason="connection lost",
        seconds=0.25, jobs=3, well=True, ways=("b", "c"), note="",
    )  # fmt: skip
    assert str(entry) == (
        "node.left node=a reason='connection lost' seconds=0.25 jobs=3 well=true ways=b,c note='':"
        " it may come back"
    )


@given(FIELDS, TEXTS)
def test_whatever_the_values_are_it_is_one_line(fields: dict[str, object], says: str) -> None:
    text = str(Entry("node.left", says, **fields))  # type: ignore[arg-type]
    assert text.isprintable()


@given(st.dictionaries(NAMES, TEXTS, max_size=4), TEXTS)
def test_no_value_can_be_taken_for_another_field_or_a_sentence(
    fields: dict[str, str], says: str
) -> None:
    event, read, said = read_back(str(Entry("node.left", says, **fields)))
    assert (event, read) == ("node.left", fields)
    assert len(said) == len(says)


@given(FIELDS, TEXTS, TEXTS)
def test_as_json_it_comes_back_as_it_was_said(
    fields: dict[str, object], says: str, story: str
) -> None:
    plain = Entry("node.left", says, story, **fields).plain()
    written = json.dumps(plain, allow_nan=False)
    assert json.loads(written) == plain
    written.encode("utf-8")
    assert set(plain) - RESERVED == {name for name, value in fields.items() if value is not None}


@given(FIELDS, FIELDS)
def test_entries_are_equal_if_they_say_the_same(
    fields: dict[str, object], others: dict[str, object]
) -> None:
    one, same, other = (Entry("a.b", **each) for each in (fields, dict(fields), others))  # type: ignore[arg-type]
    assert one == same
    assert hash(one) == hash(same)
    alike = {n: v for n, v in fields.items() if v is not None} == {
        n: v for n, v in others.items() if v is not None
    }
    assert (one == other) is alike
    assert one != Entry("a.c", **fields)  # type: ignore[arg-type]


def test_an_entry_can_not_be_changed_or_take_a_name_that_all_have() -> None:
    entry = Entry("a.b", places=(places := [1]))
    places.append(2)
    with pytest.raises(AttributeError):
        entry.event = "a.c"
    with pytest.raises(TypeError):
        entry.fields["places"] = ()  # type: ignore[index]
    assert entry == Entry("a.b", places=[1])
    for name in ("event", "at", "level", "traceback"):
        with pytest.raises(ValueError, match=name):
            Entry("a.b", **{name: 1})  # type: ignore[arg-type]


def test_odd_values_are_logged_all_the_same() -> None:
    nested: list[object] = []
    nested.append(nested)
    entry = Entry("a.b", odd=Odd(), many=10**5000, deep=nested, number=float("nan"), inner=[Odd()])
    assert str(entry).startswith("a.b odd=Odd many=int ")
    plain = json.loads(json.dumps(entry.plain(), allow_nan=False))
    assert (plain["odd"], plain["number"], plain["inner"]) == ("Odd", "nan", ["Odd"])
    assert plain["many"].startswith("0x")


@pytest.fixture
def told() -> Iterator[Callable[[str], io.StringIO]]:
    """Set logs up for a stream; they are as they were at the end."""
    logger = logging.getLogger("mnist")
    before = logger.handlers[:], logger.level, logger.propagate

    def begin(format_: str) -> io.StringIO:
        stream = io.StringIO()
        set_up_logs("info", stream, format_)
        return stream

    yield begin
    set_up_logs("info", format="text")
    logger.handlers[:], logger.level, logger.propagate = before


def test_a_record_is_an_object(told: Callable[[str], io.StringIO]) -> None:
    stream, log = told("json"), logging.getLogger("mnist.main")
    log.info(Entry("job.failed", "a\nb", "one\n  two", job=3, name="a\nb=c"))
    log.debug(Entry("job.accepted"))
    log.warning("%d plain words", 3)
    log.warning("%d plain words", "no")
    try:
        raise OSError("disk\nfull")
    except OSError:
        log.exception(Entry("view.failed", view="x"))
    logging.getLogger("zeroconf").warning("another package")
    first, *others, broken, stranger = map(json.loads, stream.getvalue().splitlines())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first.pop("at"))
    assert first == {
        "level": "info", "event": "job.failed", "says": "a\nb", "story": "one\n  two", "job": 3,
        "name": "a\nb=c",
    }  # fmt: skip
    assert [(each["event"], each["level"], each["says"]) for each in others] == [
        ("log", "warning", "3 plain words"), ("log", "warning", "%d plain words"),
    ]  # fmt: skip
    assert (broken["event"], broken["level"], broken["view"]) == ("view.failed", "error", "x")
    assert broken["traceback"].endswith("OSError: disk\nfull")
    assert (stranger["says"], stranger["logger"]) == ("another package", "zeroconf")


def test_a_story_stands_below_its_line(told: Callable[[str], io.StringIO]) -> None:
    stream = told("text")
    logging.getLogger("mnist.main").error(Entry("job.failed", story="one:\n  two", job=3))
    line, *story = stream.getvalue().splitlines()
    assert line.endswith(" ERROR   job.failed job=3")
    assert story == ["    one:", "      two"]
    assert str(Entry("job.failed", story="one:\n  two", job=3)).splitlines()[1:] == story


@pytest.mark.parametrize("format_", LOG_FORMATS)
@pytest.mark.parametrize(("level", "told_"), [("info", False), ("debug", True)])
def test_what_the_system_refuses_has_a_traceback_for_who_looks_for_a_mistake(
    format_: str, level: str, told_: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found in review: an OSError that is our own mistake was told as the machine's, for ever."""

    def mistaken() -> None:
        set_up_logs(level, format=format_)
        os.close(9999)

    monkeypatch.setattr(train.main, "callback", lambda **_: mistaken())
    done = here(MAIN_HERE)
    assert done.returncode == Exit.STORAGE
    *before, line = done.stderr.splitlines()
    assert "this machine does not let it: Bad file descriptor" in line
    text = json.loads(line).get("traceback", "") if format_ == "json" else "\n".join(before)
    assert ("in mistaken" in text) is told_


def test_everything_that_a_run_says_is_json(start: Start, idx_folder: Path, tmp_path: Path) -> None:
    main = start(
        *MAIN, "--data", str(idx_folder), "--jobs", "2", "--rounds", "1",
        "--learner", "linear", "--bind", "tcp://127.0.0.1:0", "--local-nodes", "1",
        "--run-dir", str(tmp_path), "--log-level", "debug", entries=True,
    )  # fmt: skip
    joined = main.event("node.joined", tasks=1)
    assert joined["node"].startswith("local-1.")
    main.event("job.accepted", times=2, job=lambda job: job.startswith("round-001-job-"))
    main.event("task.solved", local="local-1")  # what the node says of itself
    assert main.event("run.round-merged")["round"] == 0
    assert main.end()[0] == 0
    assert main.event("run.ended")["ending"] == "done"
    assert main.never("local.said")
    assert main.never("command.failed")
    for line in main.seen:
        assert {"at", "level", "event"} <= json.loads(line).keys(), line


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        ([MAIN_HERE, "--data", "/nowhere", "--log-format", "json"], 3, "/nowhere"),
        ([MAIN_HERE, "--log-format=json", "--jobs", "x"], 2, "--jobs"),
        ([MAIN_HERE, "--log-format", "json", "--nothing"], 2, "--nothing"),
        ([MAIN_HERE, "--log-format=json", "--config", "/nowhere"], 2, "/nowhere"),
        (["computing_node.command:main", "--log-format=json", "--keys", "/no"], 2, "/no"),
        (["relay_node.command:main", "--log-format", "json"], 2, "no way"),
        (
            ["status_node.command:main", "--log-format=json", "--timeout", "0.1",
             "--connect", "tcp://127.0.0.1:1"], 5, "no answer",
        ),
    ],
)  # fmt: skip
def test_why_a_command_ends_is_an_object(command: list[str], code: int, says: str) -> None:
    done = here(*command)
    told = [json.loads(line) for line in done.stderr.splitlines()]
    assert [each["event"] for each in told] == ["command.failed"], done.stderr
    assert (done.returncode, told[0]["code"], told[0]["level"]) == (code, code, "error")
    assert says in told[0]["says"]


#: Where entries are passed on that others have made.
PASSED_ON = {
    "main_node/engine/local.py", "main_node/views/terminal/objects.py", "relay_node/node.py",
}  # fmt: skip


def test_every_event_is_in_the_document() -> None:
    made: dict[str, set[str]] = {}
    for path in [each for package in TOP for each in (ROOT / package).rglob("*.py")]:
        for call in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(call, ast.Call) and ast.unparse(call.func) == "Entry"):
                continue
            if not isinstance(call.args[0], ast.Constant):
                assert str(path.relative_to(ROOT)) in PASSED_ON, f"{path}:{call.lineno}"
                continue
            fields = made.setdefault(str(call.args[0].value), set())
            for word in call.keywords:
                fields |= {word.arg} if word.arg else set(ast.literal_eval(_names(word.value)))
    listed = {}
    document = (ROOT / "docs" / "events.md").read_text().partition("## A run")[0]
    for event, fields_ in re.findall(r"^\| `([^`]+)` \| (.*?) \| .+ \|$", document, re.MULTILINE):
        listed[event] = set(re.findall(r"`(\w+)`", fields_))
    assert listed == {event: fields - RESERVED for event, fields in made.items()}


def _names(literal: ast.expr) -> ast.expr:
    assert isinstance(literal, ast.Dict), "the fields of an entry can't be read here"
    return ast.List([key for key in literal.keys if key is not None], ast.Load())
