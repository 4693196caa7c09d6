"""The commands as their users run them: real processes, real files, real mistakes."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from safetensors.numpy import load_file

import loaders
from learning.model import sha256
from loaders import SourceOptions
from main_node.commands.options import TrainOptions, read_config
from main_node.commands.predict import read_image
from main_node.errors import ConfigError
from main_node.options import ListenOptions
from main_node.run.company import invitation
from main_node.run.opening import Plan, open_run
from main_node.run.spec import CompanyOptions, RunSpec

from ..alone import Threads
from ..conftest import make_idx_folder, write_idx
from ..processes import (
    COMPUTE,
    MAIN,
    MAIN_HERE,
    PREDICT_HERE,
    RUNS_HERE,
    Process,
    Start,
    free_port,
    here,
    run,
)

BIND = "tcp://127.0.0.1:0"
ANY_PORT = ("--bind", BIND)
COMPUTE_HERE = "computing_node.command:main"
#: Where the net is not what it is about.
LINEAR = ("--learner", "linear")


#: How `mnist-main` is run: as a process, or in this one.
PROCESS, HERE = partial(run, *MAIN), partial(here, MAIN_HERE)


def train(
    folder: Path, runs: Path, *options: str, how: Callable[..., Any] = PROCESS
) -> dict[str, Any]:
    """Run `mnist-main` on a small data set and return its result."""
    done = how(
        *ANY_PORT, "--data", str(folder), "--run-dir", str(runs), "--rounds", "2",
        "--epochs", "3", "--lr", "0.2", "--json", *options,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_idx_folder(tmp_path_factory.mktemp("data") / "idx", 400, 100)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Return where a run finds a node that is there for all of them, with the net loaded."""
    where = f"tcp://127.0.0.1:{free_port()}"
    node = Process(*COMPUTE, "--connect", where, "--name", "helper")
    yield where
    node.send(signal.SIGTERM)
    node.end()
    node.close()


@pytest.fixture(scope="module")
def result(data: Path, runs: Path) -> dict[str, Any]:
    """Return the result of a run with two local nodes."""
    return train(data, runs, "--local-nodes", "2")


def test_the_result_is_what_is_promised(result: dict[str, Any], data: Path) -> None:
    assert set(result) == {
        "run", "data", "learner", "jobs", "rounds", "nodes", "accuracy", "macro_f1", "confusion",
        "examples", "seconds", "starts", "retries", "left_out", "model", "model_sha256",
        "accuracy_by_round", "loss_by_round", "model_parts", "target_digit", "merge", "merged",
        "classes", "shortcoming", "validation_rows", "test_loss", "devices", "model_round",
        "ended_by", "ended", "options",
    }  # fmt: skip
    assert result["test_loss"] == result["loss_by_round"][-1]
    assert set(result["seconds"]) == {"total", "setup", "training", "merging", "evaluating"}
    assert (result["learner"], result["jobs"], result["rounds"]) == ("neural", 4, 2)
    assert result["examples"] == 400
    assert result["retries"] == 0
    assert sum(result["nodes"].values()) == 8
    confusion = np.array(result["confusion"])
    assert confusion.shape == (10, 10)
    assert confusion.sum() == 100
    assert result["accuracy"] == pytest.approx(confusion.trace() / 100)
    assert result["accuracy"] > 0.5
    assert result["shortcoming"] == ""
    assert result["data"]["digest"] == loaders.load(data).digest


def test_the_run_directory_holds_everything(result: dict[str, Any], runs: Path) -> None:
    folder = runs / result["run"]
    assert Path(result["model"]) == folder / "model.safetensors"
    assert json.loads((folder / "metrics.json").read_text()) == result
    assert sha256(load_file(result["model"])) == result["model_sha256"]
    assert yaml.safe_load((folder / "config.yaml").read_text())["lr"] == 0.2
    assert len(list((folder / "solutions").glob("*-job-*.safetensors"))) == 8
    assert not list(folder.rglob(".*"))  # nothing half-written
    done = here(RUNS_HERE, "draw", str(folder))  # with --json it was not drawn
    assert done.stdout.split() == [str(folder / "learning.png"), str(folder / "confusion.png")]
    for picture in ("confusion.png", "learning.png"):
        with Image.open(folder / picture) as image:
            assert min(image.size) > 300


def test_the_net_is_the_same_for_any_number_of_nodes(
    result: dict[str, Any], address: str, data: Path, runs: Path
) -> None:
    again = train(data, runs, "--bind", address, "--quiet", how=HERE)
    assert again["model_sha256"] == result["model_sha256"]
    assert len(again["nodes"]) == 1


def test_the_model_is_the_same_for_any_number_of_nodes(data: Path, tmp_path: Path) -> None:
    models = []
    for nodes in (1, 3):
        plan = Plan(
            spec=RunSpec.of({"learner": "linear", "jobs": 7, "rounds": 2}), engine=Threads(nodes),
            source=SourceOptions(data=str(data)), runs=tmp_path, listen=ListenOptions(bind=BIND),
            company=CompanyOptions(min_nodes=nodes),
        )  # fmt: skip
        result = open_run(plan).see_through()
        assert len(result.nodes) == nodes
        models.append(result.model_sha256)
    assert models[0] == models[1]


def test_a_run_can_be_repeated_from_its_configuration(
    result: dict[str, Any], address: str, runs: Path, tmp_path: Path
) -> None:
    config = runs / result["run"] / "config.yaml"
    done = here(
        MAIN_HERE, "--config", str(config), "--run-dir", str(tmp_path), "--quiet", "--bind",
        address, "--local-nodes", "0", env={"MNIST_THREADS": "1", "MNIST_SEED": "7"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (metrics,) = tmp_path.glob("*/metrics.json")
    assert json.loads(done.stdout) == json.loads(metrics.read_text())  # --json was in the file
    other = yaml.safe_load(metrics.with_name("config.yaml").read_text())
    assert other["seed"] == 7  # the environment comes before the file
    assert json.loads(done.stdout)["model_sha256"] != result["model_sha256"]


def test_a_main_node_without_nodes_says_what_to_start_and_goes_on_once_it_is(
    start: Start, data: Path, tmp_path: Path
) -> None:
    main = start(
        *MAIN, *ANY_PORT, "--data", str(data), "--rounds", "1", "--jobs", "2", *LINEAR,
        "--run-dir", str(tmp_path),
    )  # fmt: skip
    address = main.event("run.opened")["address"]
    invited = f"start computing nodes: mnist-compute --connect {address} (on this machine"
    main.event("run.noted", text=lambda text: text.startswith(invited))
    node = start(*COMPUTE, "--connect", address, "--name", "helper", "--max-jobs", "7")
    node.event("main.joined", address=address)
    code, output = main.end()
    assert code == 0
    assert node.end()[0] == 0  # a trial, two jobs, four parts of the test: its seven
    assert "accuracy" in output
    assert "mnist-predict" in output
    main.event("run.node-joined", node=lambda name: name.startswith("helper."))
    main.event("run.round-merged", round=0)


def test_one_node_serves_two_main_nodes(start: Start, data: Path, tmp_path: Path) -> None:
    mains, addresses = [], []
    for _ in range(2):
        main = start(
            *MAIN, *ANY_PORT, "--data", str(data), "--rounds", "1", "--limit", "100", *LINEAR,
            "--run-dir", str(tmp_path), "--json",
        )  # fmt: skip
        mains.append(main)
        addresses.append(main.event("run.opened")["address"])
    start(*COMPUTE, "--connect", addresses[0], "--connect", addresses[1], "--tasks", "2")
    results = [main.result() for main in mains]
    assert results[0]["model_sha256"] == results[1]["model_sha256"]


def test_no_node_in_time_is_exit_code_5(data: Path, tmp_path: Path) -> None:
    done = here(
        MAIN_HERE, *ANY_PORT, "--data", str(data), "--timeout", "0.3", "--run-dir", str(tmp_path)
    )
    assert done.returncode == 5
    assert "0 of 1 computing nodes after 0.3 s; start computing nodes: mnist-compute" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_job_that_fails_for_good_is_exit_code_4_with_its_story(
    address: str, data: Path, tmp_path: Path
) -> None:
    done = here(
        MAIN_HERE, "--bind", address, "--data", str(data), "--run-dir", str(tmp_path),
        "--lr", "1e6", "--jobs", "1", "--limit", "100", "--epochs", "2",
    )  # fmt: skip
    assert done.returncode == 4
    assert "round 1 job 1 failed for good after 3 attempts" in done.stderr
    assert "attempt 3 at helper" in done.stderr
    assert "not finite: its training diverged; try a smaller" in done.stderr


@pytest.mark.parametrize(("tested", "code"), [(range(10), 8), ([3], 0)])
def test_a_model_that_is_not_good_enough_is_exit_code_8(
    address: str, tmp_path: Path, tested: Sequence[int], code: int
) -> None:
    """One that has seen one class takes all for it; which is right where there is but one."""
    folder, runs = make_idx_folder(tmp_path / "data", 40, 30), str(tmp_path / "runs")
    write_idx(folder / "train-labels-idx1-ubyte", np.full(40, 3))
    write_idx(folder / "t10k-labels-idx1-ubyte", np.resize(tested, 30))
    done = here(
        MAIN_HERE, "--bind", address, "--data", str(folder), "--run-dir", runs, *LINEAR, "--json",
        "--rounds", "1", "--jobs", "1",
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    result = json.loads(done.stdout)
    again = here(MAIN_HERE, "--resume", result["run"], "--run-dir", runs, "--json")
    assert (again.returncode, json.loads(again.stdout)) == (code, result)
    assert Path(result["model"]).exists()
    told = "not good enough: it takes every image of the test set for one class, though several"
    assert (told in done.stderr) == (told in again.stderr) == (code == 8)
    unknown = "27 of 30 test rows are of classes that the training rows have not"
    assert (unknown in done.stderr) == (code == 8)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_is_exit_code_130(
    start: Start, data: Path, tmp_path: Path, number: int
) -> None:
    main = start(
        *MAIN, *ANY_PORT, "--data", str(data), "--local-nodes", "1", *LINEAR, "--descents", "1000",
        "--pause", "1", "--run-dir", str(tmp_path),
    )  # fmt: skip
    main.event("run.node-joined")
    main.send(number)
    assert main.end()[0] == 130
    left, told = list(tmp_path.iterdir()), main.event("command.failed", code=130)["says"]
    if number == signal.SIGINT:
        assert told.startswith("interrupted; before any job was done")
        assert left == []
    else:  # the host shuts down: nodes may hold something for the next start
        assert told == f"interrupted; go on with: mnist-main --resume {left[0]}"


def test_a_node_that_every_main_node_refuses_is_exit_code_6(
    start: Start, data: Path, tmp_path: Path
) -> None:
    main = start(*MAIN, *ANY_PORT, "--data", str(data), "--domain", "4", "--run-dir", str(tmp_path))
    address = main.event("run.opened")["address"]
    command = f"mnist-compute --connect {address} --domain 4 "
    main.event("run.noted", text=lambda text: command in text)
    done = run(*COMPUTE, "--connect", address, "--domain", "5")
    assert done.returncode == 6
    assert "serves domain 4, not 5" in done.stderr
    assert "Traceback" not in done.stderr


def _taken() -> tuple[str, Any]:
    import socket

    server = socket.create_server(("127.0.0.1", 0))
    return f"tcp://127.0.0.1:{server.getsockname()[1]}", server


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--jobs", "0"], 2, "not in the range"),
        (["--jobs", "many"], 2, "not a valid integer"),
        (["--sharding", "stripes"], 2, "not one of"),
        (["--learner", "psychic"], 2, "no learner 'psychic'; there is neural, algebraic"),
        (["--bind", "localhost"], 2, "looks like tcp://127.0.0.1:5555"),
        (["--bind", "tcp://8.8.8.8:5555"], 2, "mnist-keys new DIR NAME"),
        (["--bind", "tcp://8.8.8.8:5555", "--insecure"], 2, "not an address of this machine"),
        (["--run-dir", "/proc/runs"], 2, "can't be made"),
        (["--data", "/nowhere"], 3, "no such file or folder"),
        (["--jobs", "9999"], 3, "can't be cut into 9999 jobs"),
        (["--config", "/nowhere"], 2, "/nowhere: no such file"),
        (["--job", "3"], 2, "No such option"),
        (["--bind", "tcp://127.0.0.1:99999"], 2, "there is no port 99999"),
        (["--lr", "nan"], 2, "not a number to work with"),
        (["--seed", "99999999999999999999"], 2, "is more than"),
        (["--data", ""], 2, "it is empty"),
        (["--keys", "/nowhere"], 2, "make some: mnist-keys new /nowhere"),
        (["--learner", "algebraic", "--target-digit", "12"], 3, "no class 12"),
        (["--learner", "algebraic", "--batches", "0"], 2, "not in the range"),
        (["--learner", "algebraic", "--lr", "1"], 2, "--lr is for --learner neural; algebraic"),
        (["--batches", "3"], 2, "--batches is for --learner algebraic; neural takes --batch-size"),
        (["--resume", "nothing"], 2, "no run, neither here nor in"),
        (["--continue", "--learner", "psychic"], 2, "no learner 'psychic'; there is neural"),
        (["--learner", "psychic", "--print-config"], 2, "no learner 'psychic'"),
        (["--continue", "--print-config"], 2, "--print-config is for a new run"),
    ],
)
def test_a_mistake_is_one_line_and_a_code(
    data: Path, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    done = here(
        MAIN_HERE, *ANY_PORT, "--data", str(data), "--run-dir", str(tmp_path), "--timeout", "0",
        *arguments,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("variables", "line", "words"),
    [
        ({"MNIST_JOBS": "many"}, "", "for MNIST_JOBS: 'many' is not a valid integer"),
        ({"MNIST_DEADLINE": "x"}, "", "for MNIST_DEADLINE: 'x' is not a valid number"),
        ({"MNIST_DEADLINE_SECONDS": "x"}, "", "for MNIST_DEADLINE_SECONDS: 'x'"),
        ({"MNIST_PARTIAL": "9"}, "", "for MNIST_PARTIAL: '9' is neither true nor false"),
        ({"MNIST_KEYS": " "}, "", "for MNIST_KEYS: it is empty"),
        ({}, "jobs: -3", "{file}: jobs is -3, less than 1"),
        ({}, "log_level: loud", "{file}: log_level is 'loud', not one of debug, info"),
        ({}, "jobs: many", "{file}: jobs is 'many', not a whole number"),
        ({"MNIST_JOBS": "many"}, "jobs: 3", "for MNIST_JOBS: 'many'"),
        ({"MNIST_JOB": "1"}, "", "MNIST_JOB, which nothing here reads (did you mean MNIST_JOBS?)"),
        ({"MNIST_FOO": "1"}, "", "MNIST_FOO, which nothing here reads; unset it"),
    ],
)
def test_what_can_not_be_is_said_of_where_it_stands(
    tmp_path: Path, variables: dict[str, str], line: str, words: str
) -> None:
    """Not of an option that nobody typed."""
    file = tmp_path / "my.yaml"
    file.write_text(line)
    done = here(MAIN_HERE, "--print-config", "--config", str(file), env=variables)
    assert (done.returncode, done.stdout) == (2, "")
    assert words.format(file=file) in done.stderr


def test_a_taken_port_is_named(data: Path, tmp_path: Path) -> None:
    address, server = _taken()
    with server:
        done = here(MAIN_HERE, "--data", str(data), "--bind", address, "--run-dir", str(tmp_path))
    assert done.returncode == 2
    assert f"{address} is taken by another program" in done.stderr


def test_what_few_people_need_is_set_by_name(tmp_path: Path) -> None:
    def config(*words: str, **variables: str) -> dict[str, Any]:
        done = here(MAIN_HERE, *words, "--print-config", env=variables)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = yaml.safe_load(done.stdout)
        return found

    assert config()["shift"] is None
    assert config("--set", "shift=2", "--set=flip=yes")["shift"] == 2
    assert config("--set", "batch-size=8", "--set", "flip=false")["flip"] is False
    assert config("--set", "lr=0.5", "--set", "lr=0.25")["lr"] == 0.25
    assert config(MNIST_SHIFT="3")["shift"] == 3
    file = tmp_path / "a.yaml"
    file.write_text("shift: 4\nwidth: 8\n")
    found = config("--config", str(file), "--set", "width=9")
    assert (found["shift"], found["width"]) == (4, 9)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--set", "shift"), "--set takes NAME=VALUE; 'shift' is none"),
        (("--set",), "--set takes NAME=VALUE"),
        (("--set", "shfit=1"), "--set shfit=1: neural has no such option (did you mean shift?)"),
        (("--set", "jobs=3"), "--set jobs=3: neural has no such option; it has batch_size"),
        (("--set", "shift=x"), "Invalid value for '--set shift'"),
        (("--set", "shift=-1"), "Invalid value for '--set shift'"),
        (("--set", "flip=maybe"), "'maybe' is neither true nor false"),
        (("--learner", "algebraic", "--set", "shift=1"), "--set shift is for --learner neural"),
    ],
)  # fmt: skip
def test_what_can_not_be_set_is_said(words: tuple[str, ...], told: str) -> None:
    done = here(MAIN_HERE, *words, "--print-config")
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr


def test_a_nodes_mistakes_are_one_line_and_a_code() -> None:
    done = here(COMPUTE_HERE, "--connect", "nowhere")
    assert done.returncode == 2
    assert "'nowhere' is not an address; one looks like tcp://" in done.stderr
    assert here(COMPUTE_HERE, "--tasks", "0").returncode == 2


def test_predict_says_how_good_a_model_is_and_what_it_sees(
    address: str, data: Path, tmp_path: Path
) -> None:
    # The small net sees a bar where the other, which normalises, misses the noise around it.
    small = ("--preset", "first", "--lr", "0.05")
    result = train(data, tmp_path, "--bind", address, *small, how=HERE)
    done = here(PREDICT_HERE, result["model"], "--data", str(data), "--json")
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout)
    assert scores["accuracy"] == pytest.approx(result["accuracy"])
    test = loaders.load(data, "test")
    drawn = np.where(test.arrays["image"][0] > 200, np.uint8(250), np.uint8(0))  # on clean paper
    Image.fromarray(drawn).resize((300, 300)).save(tmp_path / "dark.png")
    Image.fromarray(255 - drawn).convert("RGB").save(tmp_path / "light.jpg")
    pictures = [str(tmp_path / name) for name in ("dark.png", "light.jpg")]
    done = here(PREDICT_HERE, result["model"], *pictures)
    (first, second) = done.stdout.splitlines()
    assert first.endswith("dark.png")
    assert first.split()[0] == second.split()[0]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["{model}"], 2, "name images, or a data set"),
        (["/nowhere", "--data", "mnist"], 2, "no such file"),
        (["{data}/t10k-labels-idx1-ubyte", "x.png"], 2, "not a file that can be read"),
        (["{model}", "/nowhere.png"], 3, "no such file"),
        (["{data}", "x.png"], 2, "a folder; name the model.safetensors"),
        (["{model}", "{data}/t10k-labels-idx1-ubyte"], 3, "not a picture"),
        (["{model}", "--data", "/nowhere"], 3, "no such file or folder"),
        (["{model}", "--export", "json"], 2, "a neural model; only an algebraic one"),
        (["{model}", "x.png", "--explain"], 2, "a neural model; only an algebraic one"),
        (["{model}", "x.png", "--export", "json"], 2, "it takes no images"),
    ],
)
def test_mistakes_with_predict_are_one_line_and_a_code(
    result: dict[str, Any], data: Path, arguments: list[str], code: int, words: str
) -> None:
    filled = [a.format(model=result["model"], data=data) for a in arguments]
    done = here(PREDICT_HERE, *filled)
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_picture_is_made_to_look_like_mnist(tmp_path: Path) -> None:
    page = np.full((100, 200, 3), 255, np.uint8)
    page[30:70, 90:110] = (10, 20, 200)
    Image.fromarray(page).save(tmp_path / "page.png")
    pixels = read_image(tmp_path / "page.png", (28, 32))
    assert (pixels.shape, pixels.dtype) == ((28, 32), np.uint8)
    assert pixels[0, 0] < 10
    assert pixels[14, 16] > 150


def test_pictures_of_any_kind_look_the_same(data: Path, tmp_path: Path) -> None:
    """Found in review: transparent, 16-bit and float pictures were all black or clipped."""
    grey = loaders.load(data, "test").arrays["image"][0]
    blank = np.zeros_like(grey)
    kinds = {
        "grey.png": Image.fromarray(grey),
        "white-on-nothing.png": Image.fromarray(np.dstack([blank + 255] * 3 + [grey])),
        "black-on-nothing.png": Image.fromarray(np.dstack([blank] * 3 + [grey])),
        "opaque.png": Image.fromarray(np.dstack([grey] * 3 + [blank + 255])),
        "sixteen.png": Image.fromarray(grey.astype(np.uint16) * 257),
        "float.tiff": Image.fromarray(grey.astype(np.float32) / 255),
        "inverted.png": Image.fromarray(255 - grey),
    }
    for name, picture in kinds.items():
        picture.save(tmp_path / name)
        pixels = read_image(tmp_path / name, (28, 28)).astype(int)
        assert np.abs(pixels - grey).max() <= 8, name


def test_a_configuration_file_is_read_or_refused_in_words(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(TrainOptions.of(jobs=7).as_yaml())
    assert read_config(file)["jobs"] == 7
    for text, words in (
        ("jobz: 3", "no such option: jobz .did you mean jobs"), ("- a", "not options by name"),
        ("a: [", "line 1: not YAML"), ("jobs: [1, 2]", "jobs is .1, 2., not a whole number"),
        ("jobs: null", "jobs is None"), ("jobs: 2.5", "2.5, not a whole number"),
        ("json: 1", "not true or false"), ("lr: fast", "'fast', not a number"),
        ("jobs: 4\njobs: 5", "line 2: not YAML: jobs is there twice"),
        ("timeout: 3\ntimeout_seconds: 4", "timeout_seconds is there twice, by another name"),
        (f"lr: 1{'0' * 400}", "more than 1,000,000"), ("lr: .nan", "not a number to work"),
        (f"jobs: 1{'0' * 400}", "more than 9,007,199,254,740,99."), ("jobs: 0", "less than 1"),
        ("lr: 0", "not more than 0"), ("run_dir: ' '", "which is empty"),
        ("sharding: stripes", "not one of disjoint, sample"), ("[]", "not options by name"),
    ):  # fmt: skip
        file.write_text(text)
        with pytest.raises(ConfigError, match=words):
            read_config(file)


def test_the_invitation_names_an_address_that_can_be_reached() -> None:
    import socket

    assert "--connect tcp://127.0.0.1:5555 (on this machine" in invitation(
        ListenOptions(), "tcp://127.0.0.1:5555"
    )
    everywhere = invitation(ListenOptions(domain=3), "tcp://0.0.0.0:5555")
    assert everywhere.endswith(f"--connect tcp://{socket.gethostname()}:5555 --domain 3")
