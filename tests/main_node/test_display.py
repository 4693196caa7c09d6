"""What a person sees, on a terminal and elsewhere."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from learning.metrics import Scores
from main_node.commands.options import TrainOptions
from main_node.commands.runs import Summary, _table
from main_node.run.events import (
    NodeJoined,
    NodeLeft,
    Noted,
    Opened,
    RoundEvaluated,
    RoundMerged,
    Stood,
)
from main_node.run.label import Label
from main_node.views.ending.summary import confusion_table, print_confusion, worst
from main_node.views.terminal.lines import Lines, Quiet
from main_node.views.terminal.screen import ConsoleStream, Screen
from protocol.machine.views import NodeView, View

OPENED = Opened(
    spec=TrainOptions.of(jobs=4, rounds=2).spec, source="mnist", rows=60_000, called="image",
    lesson="3 epochs", directory=Path("runs/1"), address="tcp://127.0.0.1:5555", min_nodes=1,
)  # fmt: skip
NODE = NodeView("lab.1234", ((7, 0.5),), 1, 3, 0.2)
VIEW = View((NODE,), 0, 1, 0, 0, 0)
STOOD = Stood(round=0, done=1, view=VIEW, labels={7: Label(0, "job", 3)})


def shown(stood: Stood, width: int = 100) -> str:
    """Return the live display's last frame."""
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    screen = Screen(console)
    for event in (OPENED, stood):
        screen.on(event)
    with console.capture() as capture:
        console.print(screen._render())
    screen.close()
    return capture.get()


@pytest.mark.parametrize("width", [80, 120])
def test_a_frame_says_what_everybody_is_doing(width: int) -> None:
    text = shown(STOOD, width)
    for words in ("round 1/2", "jobs 1/4", "19%", "lab.1234", "round 1 job 3"):
        assert words in text
    assert max(map(len, text.splitlines())) <= width


def test_names_are_shown_as_they_are() -> None:
    """Found in review: a name like [/x] was taken for markup, and ended the run."""
    odd = replace(VIEW, nodes=(replace(NODE, name="[/x] [bold]"),))
    assert "[/x] [bold]" in shown(replace(STOOD, view=odd))
    console = Console(file=io.StringIO(), force_terminal=True, color_system=None)
    Screen(console).say("folder [/r]")
    ConsoleStream(console).write("a log line [/z]\n")


def test_the_bar_is_full_while_only_tests_are_left() -> None:
    text = shown(replace(STOOD, round=2, done=0))
    assert "round 2/2" in text
    assert "jobs 4/4" in text
    assert "100%" in text
    assert "testing" in text


def test_a_silent_node_and_no_node_at_all_are_told() -> None:
    silent = replace(VIEW, nodes=(replace(NODE, silent_seconds=6.0),))
    assert "silent for 6 s" in shown(replace(STOOD, view=silent))
    nobody = replace(STOOD, round=-1, done=0, view=replace(VIEW, nodes=()), labels={})
    assert "waiting for computing nodes: 0 of 1 here" in shown(nobody)


def test_nobody_is_waited_for_while_nodes_enough_are_here() -> None:
    trial = replace(STOOD, round=-1, done=0, labels={7: Label(0, "trial", 1)})
    assert "waiting for" not in shown(trial)
    assert "first a trial" in shown(trial)


def test_a_narrow_terminal_cuts_no_number_and_no_title() -> None:
    text = shown(replace(STOOD, view=replace(VIEW, nodes=(replace(NODE, solved=123_456),))), 60)
    for words in ("waiting", "solved", "123456", "lab.1234", "round 1 job 3"):
        assert words in text
    assert max(map(len, text.splitlines())) <= 60


@pytest.mark.parametrize("width", [30, 40, 60, 76, 80, 100, 200])
def test_runs_are_listed_in_as_many_columns_as_fit(width: int) -> None:
    runs = [
        Summary("20261120-091415-95b1", "interrupted", "interrupted", "algebraic", data, 137, 600,
                0.9936, 2, "runs/x")
        for data in ("mnist", "/home/somebody/a folder/with a long name/" * 3)
    ]  # fmt: skip
    console = Console(file=io.StringIO(), width=width, color_system=None)
    with console.capture() as capture:
        console.print(_table(runs, width))
    text = capture.get()
    assert max(map(len, text.splitlines())) <= width
    assert len(text.splitlines()) == 3
    assert text.count("20261120-091415-95b1") == 2
    if width >= 80:
        for words in ("interrupted", "137/600", "99.36%", "starts", "algebraic", "mnist"):
            assert words in text
    titles = text.splitlines()[0].split()
    assert (
        titles == ["run", "state", "jobs", "accuracy", "starts", "learner", "data"][: len(titles)]
    )


def test_lines_tell_who_comes_and_goes_and_how_it_goes() -> None:
    stream = io.StringIO()
    lines = Lines(stream)
    for event in (
        OPENED, STOOD, NodeJoined(node="lab.1234"),
        RoundMerged(round=0, means={"loss": 0.25, "atoms": 12345.0}),
        RoundEvaluated(round=0, scores=Scores(0.9876, 0.98, ((1,),))),
        NodeLeft(node="lab.1234"), STOOD,
    ):  # fmt: skip
        lines.on(event)
    text = stream.getvalue()
    assert "node lab.1234 is here" in text
    assert "round 1 of 2 merged; by job: loss 0.25, atoms 12,345, " in text
    assert "round 1: accuracy 98.76%" in text
    assert "node lab.1234 is gone" in text
    Quiet(stream).on(Noted(text="nothing"))
    assert "nothing" not in stream.getvalue()


def test_the_confusion_table_holds_every_count() -> None:
    console = Console(file=io.StringIO(), width=80, color_system=None)
    with console.capture() as capture:
        console.print(confusion_table([[5, 0], [3, 7]]))
    assert [line.split() for line in capture.get().splitlines()[-2:]] == [
        ["0", "5", "."], ["1", "3", "7"]
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("classes", "width", "table"),
    [(10, 80, True), (10, 30, False), (27, 80, False), (27, 200, True), (47, 80, False),
     (47, 1000, False)],
)  # fmt: skip
def test_where_the_confusion_table_does_not_fit_the_worst_confusions_are_told(
    classes: int, width: int, table: bool
) -> None:
    confusion = [
        [100 * (true == predicted) for predicted in range(classes)] for true in range(classes)
    ]
    confusion[4][9], confusion[9][4] = 12, 1
    stream = io.StringIO()
    print_confusion(
        Console(file=stream, width=width), confusion, (), "all of them: /a/b/confusion.png"
    )
    lines = [line.split() for line in stream.getvalue().splitlines()]
    if table:
        counts = {line[0]: line[1:] for line in lines}
        assert (counts["4"][9], counts["9"][4], len(counts["0"])) == ("12", "1", classes)
    else:
        assert [" ".join(line) for line in lines] == [
            f"2 kinds of mistakes among {classes} classes; the most frequent:",
            "4 taken for 9: 12 times", "9 taken for 4: 1 time", "all of them: /a/b/confusion.png",
        ]  # fmt: skip


def test_the_worst_confusions_come_first_and_are_few() -> None:
    every = [[true * 20 + predicted for predicted in range(20)] for true in range(20)]
    told = worst(every, [f"class {number}" for number in range(20)])
    assert told[1] == "  class 19 taken for class 18: 398 times"
    assert len(told) == 11
    assert worst([[3, 0], [0, 4]]) == ["no mistake among 2 classes"]
