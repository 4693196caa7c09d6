"""Data behind HTTP: folders that a server lists, single files, and servers that do their worst."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from console.exits import Exit
from learning.model import Model, save
from loaders import DatasetNotFound, LoaderError, SourceUnreachable, open_source, places, web
from loaders.rows import Field, Form, Numbered

from ..brought.linear import GATE, LinearLearner
from ..processes import MAIN, MAIN_HERE, PREDICT_HERE, Start, here

Answer = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """Serve a folder as `python -m http.server` does."""
    folder = tmp_path / "served"
    folder.mkdir()
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        port = process.stdout.readline().partition("port ")[2].split()[0]
        yield folder, f"http://127.0.0.1:{port}"
        process.kill()


@pytest.fixture
def answering() -> Iterator[Callable[[Answer], str]]:
    """Serve whatever a function answers; return where."""
    with ExitStack() as stack:
        yield lambda answer: stack.enter_context(_answering(answer))


@contextmanager
def _answering(answer: Answer) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def say(
    handler: BaseHTTPRequestHandler, body: bytes, length: int | None = None, status: int = 200,
    **headers: str,
) -> None:  # fmt: skip
    """Answer with a body, and say that it is so long."""
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body)


def test_a_folder_that_is_served_is_a_source(served: tuple[Path, str], idx_folder: Path) -> None:
    folder, address = served
    for file in idx_folder.iterdir():
        target = folder / "a set" / ("train" if file.name.startswith("train") else "test")
        target.mkdir(parents=True, exist_ok=True)
        (target / file.name).write_bytes(file.read_bytes())
    (folder / "a set" / "read & me.txt").write_text("not of it")
    wanted = open_source(idx_folder).digest
    for name in ("a set", "a%20set", "a set/"):
        assert open_source(f"{address}/{name}").digest == wanted
    found = places.entries(places.at(f"{address}/a set"), 100)
    told = {each.name: places.is_folder(each) for each in found}
    assert told == {"train": True, "test": True, "read & me.txt": False}
    (text,) = (each for each in found if each.name.endswith(".txt"))
    assert list(places.read_each([text, text])) == [b"not of it"] * 2
    assert places.head(text, 3) == b"not"
    assert places.size(places.at(str(text))) == 9


def test_a_single_file_is_told_by_what_it_is(served: tuple[Path, str], idx_folder: Path) -> None:
    folder, address = served
    (folder / "page").write_text("<!DOCTYPE html><p>Sign in")
    with pytest.raises(DatasetNotFound, match="page: an HTML page, not data"):
        open_source(f"{address}/page")
    with pytest.raises(DatasetNotFound, match="nothing: no such file or folder"):
        open_source(f"{address}/nothing")
    assert places.read(places.at(f"{address}/page?signed=%2Fby%3Dus")).endswith(b"Sign in")


def test_a_model_is_used_from_where_it_is_served(
    served: tuple[Path, str], idx_folder: Path
) -> None:
    folder, address = served
    form = Form({"image": Field("uint8", (28, 28))}, Numbered(10))
    model = Model(LinearLearner().initial(form), "linear", form, {"descents": 8})
    save(model, folder / "model.safetensors")
    done = here(PREDICT_HERE, f"{address}/model.safetensors", "--data", str(idx_folder))
    assert done.returncode == 0, done.stderr
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-1] + b"\1")
    done = here(PREDICT_HERE, f"{address}/model.safetensors", "--data", str(idx_folder))
    assert done.returncode == Exit.USAGE
    assert f"{address}/model.safetensors: damaged" in done.stderr
    done = here(PREDICT_HERE, f"{address}/nothing", "--data", str(idx_folder))
    assert done.returncode == Exit.USAGE
    assert f"{address}/nothing: nothing is there: 404" in done.stderr


@pytest.mark.parametrize(
    ("status", "told"),
    [(401, "access is refused: 401"), (403, "access is refused: 403"), (418, "418")],
)
def test_what_a_server_refuses_is_told_at_once(
    answering: Callable[[Answer], str], status: int, told: str
) -> None:
    address = answering(lambda handler: say(handler, b"no", status=status))
    with pytest.raises(DatasetNotFound, match=told):
        open_source(f"{address}/mnist")
    with pytest.raises(DatasetNotFound, match=told):
        places.read(places.at(f"{address}/mnist"))


def test_where_a_server_leads_is_gone_to(answering: Callable[[Answer], str]) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        target = {"/old": "/new", "/round": "/round", "/away": "file:///etc/hostname"}
        if handler.path in target:
            say(handler, b"", status=302, Location=target[handler.path])
        else:
            say(handler, b"there")

    address = answering(answer)
    assert places.read(places.at(f"{address}/old")) == b"there"
    with pytest.raises(DatasetNotFound, match="round: .*without an end"):
        places.read(places.at(f"{address}/round"))
    with pytest.raises(DatasetNotFound, match="away: .*no address of HTTP"):
        places.read(places.at(f"{address}/away"))


def test_a_server_that_is_not_up_to_it_is_asked_again(
    answering: Callable[[Answer], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "PAUSES", (0.01,) * 3)
    asked: list[str] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        if len(asked) == 1:
            say(handler, b"", status=503)
        elif len(asked) == 2:
            say(handler, b"half of", length=100)  # and closes
        else:
            say(handler, b"all of it")

    assert places.read(places.at(f"{answering(answer)}/file")) == b"all of it"
    assert len(asked) == 3


@pytest.mark.parametrize("length", [1 << 40, 500])
def test_a_file_that_is_shorter_than_was_said_counts_for_nothing(
    answering: Callable[[Answer], str], monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    monkeypatch.setattr(places, "PAUSES", (0.01,))
    address = answering(lambda handler: say(handler, b"x" * 100, length))
    with pytest.raises(SourceUnreachable, match=r"file can't be reached.*payload"):
        places.read(places.at(f"{address}/file"))


def test_a_file_that_is_longer_than_was_said_is_found_out(
    answering: Callable[[Answer], str], idx_folder: Path
) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        content = (idx_folder / handler.path.rpartition("/")[2]).read_bytes()
        say(handler, content, len(content) // 2)

    from loaders.idx import read_images

    address = answering(answer)
    # By what is in it; or on the way, where all of it arrives at once.
    with pytest.raises(LoaderError, match=r"truncated|speaks no HTTP"):
        read_images(places.at(f"{address}/train-images-idx3-ubyte"))


def test_a_server_that_is_slow_is_waited_for_and_one_that_is_silent_is_not(
    answering: Callable[[Answer], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "READ_SECONDS", 0.3)
    monkeypatch.setattr(places, "PATIENCE_SECONDS", 0.5)
    more, enough = threading.Event(), threading.Event()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "10")
        handler.end_headers()
        for _ in range(10):  # longer in all than it may be silent
            handler.wfile.write(b"x")
            handler.wfile.flush()
            more.wait(0.1)

    assert places.read(places.at(f"{answering(answer)}/slow")) == b"x" * 10

    def silent(_: BaseHTTPRequestHandler) -> None:
        enough.wait(10)

    address = answering(silent)
    with pytest.raises(SourceUnreachable, match="silent can't be reached"):
        places.read(places.at(f"{address}/silent"))
    enough.set()


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "PAUSES", (0.01,))
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(SourceUnreachable, match=f"{address}/mnist can't be reached"):
        open_source(f"{address}/mnist")


def test_links_that_lead_out_of_a_folder_are_none_of_its_files(
    answering: Callable[[Answer], str],
) -> None:
    page = b"""<a href="../">up</a> <a href="?C=N;O=D">by name</a> <a href="/folder/b.png">b</a>
        <a href="a%20b.png">a</a> <a href="a%20b.png">again</a> <a href="sub/">sub</a>
        <a href="sub/deep.png">deep</a> <a href="https://elsewhere.org/folder/x">x</a>
        <a href="#top">top</a> <a name="none">none</a> <a href="./">here</a>"""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        say(handler, page, Content_Type="text/html; charset=utf-8")

    where = places.at(f"{answering(answer)}/folder/")
    assert places.is_folder(where / "") is False  # no slash at the end, and not led to one
    found = {each.name: places.is_folder(each) for each in places.entries(where, 100)}
    assert found == {"b.png": False, "a b.png": False, "sub": True}
    assert len(places.entries(where, 2)) == 2


SECRETS = "hunter2", "5ecret"


def with_secrets(address: str, name: str) -> str:
    """Return an address that a password and a signature are in."""
    word, secret = SECRETS
    return f"{address.replace('://', f'://me:{word}@')}/{name}?X-Amz-Signature={secret}"


def test_an_error_tells_nothing_that_gives_access_to_data(served: tuple[Path, str]) -> None:
    folder, address = served
    (folder / "half.npz").write_bytes(b"PK\3\4 and no more")
    told = ""
    for name in ("nothing", "half.npz"):
        source = with_secrets(address, name)
        told += here(MAIN_HERE, "--data", source).stderr
        told += here("main_node.commands.datasets:main", "check", source).stderr
        told += here(PREDICT_HERE, source, "--data", source).stderr
    told += here(MAIN_HERE, "--data", "mnist", "--publish", with_secrets(address, "out")).stderr
    assert told.count("//***@127.0.0.1") == 7
    assert not any(each in told for each in SECRETS)


@pytest.mark.lane("deep")
def test_a_run_keeps_nothing_that_gives_access_to_data_and_tells_nobody(
    served: tuple[Path, str], start: Start, tmp_path: Path
) -> None:
    folder, address = served
    rows = np.arange(160 * 64).reshape(160, 8, 8) % 251
    np.savez(folder / "d.npz", x_train=rows.astype(np.uint8), y_train=np.arange(160) % 4)
    source, runs = with_secrets(address, "d.npz"), tmp_path / "runs"
    command = (
        *MAIN, "--run-dir", str(runs), "--local-nodes", "1", "--rounds", "1", "--learner", "linear",
        "--bind", "tcp://127.0.0.1:0", "--json", "--log-level", "debug",
    )  # fmt: skip
    (tmp_path / "gate").mkdir()
    first = start(*command, "--data", source, env={**os.environ, GATE: str(tmp_path / "gate")})
    opened = first.event("run.opened")
    first.kill()
    run = Path(opened["directory"])
    refused = here(MAIN_HERE, "--resume", str(run))
    assert refused.returncode == Exit.USAGE
    assert "not kept: give it again, with --data" in refused.stderr
    # With another signature it is the same address.
    result = start(*command, "--data", f"{source}2", "--continue").result()
    assert (result["run"], result["starts"]) == (run.name, 2)
    told = json.dumps([opened, result]) + refused.stderr
    kept = [each.read_bytes() for each in run.rglob("*") if each.is_file()]
    assert told.count("//***@127.0.0.1") == 3
    for each in SECRETS:
        assert each not in told
        assert not any(each.encode() in content for content in kept)
