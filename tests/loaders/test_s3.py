"""Data in buckets, against two real servers of S3."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

import pytest

from console.exits import Exit
from loaders import (
    CorruptDataset,
    DatasetNotFound,
    Rows,
    SourceUnreachable,
    make_dataset,
    open_source,
    places,
)
from loaders import buckets as buckets_
from loaders.remote import READ_SECONDS
from loaders.sources import walk

from ..alone import running as node
from ..conftest import make_idx_folder
from ..processes import MAIN_HERE, PREDICT_HERE, Relay, here, run
from ..stores import STORES, JuiceFS, Store
from .conftest import BUCKET

ROOT = Path(__file__).parent.parent.parent

pytestmark = pytest.mark.lane("machines")


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small data set in the layout of seed 000: a folder for each split."""
    made = tmp_path_factory.mktemp("digits")
    flat = make_idx_folder(made / "flat")
    for file in flat.iterdir():
        folder = made / "seed" / ("train" if file.name.startswith("train") else "test")
        folder.mkdir(parents=True, exist_ok=True)
        file.rename(folder / file.name)
    return made / "seed"


def in_parts(folder: Path, made: Path, parts: int = 12) -> Path:
    """Return a copy whose images are in parts, with what stores leave beside them."""
    for file in folder.rglob("*-ubyte"):
        target = made / file.relative_to(folder)
        content = file.read_bytes()
        target.mkdir(parents=True)
        size = -(-len(content) // parts)
        for number in range(parts):
            (target / f"part-{number + 1}").write_bytes(content[number * size :][:size])
        (target / "xl.meta").write_bytes(b"XL2 this is no data")
        (target / "_SUCCESS").write_bytes(b"")
    return made


# What is there.


@pytest.mark.lane("fast")
def test_a_bucket_is_a_folder_to_whoever_may_look(
    tmp_path: Path, digits: Path, alone: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the other tests here look at more closely, with two stores."""
    store = JuiceFS(tmp_path / "store")
    try:
        store.start()
        store.fs.mkdir(BUCKET)
        name = store.upload(in_parts(digits, tmp_path / "parts"), f"{BUCKET}/mnist")
        for each, value in store.environment.items():
            monkeypatch.setenv(each, value)
        assert open_source(name).digest == open_source(digits).digest
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "guessed")
        with pytest.raises(DatasetNotFound, match="access is refused"):
            open_source(name)
    finally:
        store.kill()


def test_the_layout_of_the_seed_is_read_whole_and_in_parts(
    store: Store, digits: Path, tmp_path: Path
) -> None:
    wanted = open_source(digits).digest
    whole = store.upload(digits, f"{BUCKET}/whole/mnist")
    parts = store.upload(in_parts(digits, tmp_path / "parts"), f"{BUCKET}/parts/mnist")
    assert open_source(whole).digest == wanted
    said: list[str] = []
    assert open_source(parts, said.append).digest == wanted
    assert sum("in the order of their numbers" in line for line in said) == 4
    assert open_source(tmp_path / "parts").digest == wanted


def test_a_listing_goes_on_where_a_page_ends(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(buckets_, "_PAGE", 7)
    for number in range(30):
        (tmp_path / f"{number:02}").write_bytes(b"x" * number)
    name = store.upload(tmp_path, f"{BUCKET}/paged")
    found = places.entries(places.at(name), 1_000)
    assert sorted(each.name for each in found) == [f"{number:02}" for number in range(30)]
    assert [places.size(each) for each in sorted(found, key=str)] == list(range(30))
    assert len(places.entries(places.at(name), 11)) == 11


def test_many_files_are_read_in_their_order_here_and_there(store: Store, tmp_path: Path) -> None:
    here_ = tmp_path / "here"
    here_.mkdir()
    for number in range(60):
        (here_ / f"{number} [*]?").write_bytes(f"{number}".encode() * number)
    there = places.at(store.upload(here_, f"{BUCKET}/many"))
    wanted = [f"{number}".encode() * number for number in range(60)]
    local: list[places.Where] = [here_ / f"{number} [*]?" for number in range(60)]
    remote: list[places.Where] = [there / f"{number} [*]?" for number in range(60)]
    assert list(places.read_each(local)) == wanted
    assert list(places.read_each(remote)) == wanted
    mixed = [each for pair in zip(local, remote, strict=True) for each in pair]
    assert list(places.read_each(mixed)) == [each for one in wanted for each in (one, one)]
    assert list(places.read_each([remote[3], remote[3]])) == [wanted[3]] * 2
    with pytest.raises(DatasetNotFound, match="many/gone: nothing is there"):
        list(places.read_each([*remote, there / "gone"]))
    with pytest.raises(DatasetNotFound, match="here/gone: no such file"):
        list(places.read_each([*local, here_ / "gone"]))


def test_a_process_that_is_forked_off_leaves_the_connections_alone(
    store: Store, tmp_path: Path
) -> None:
    """It let the other one's go, which then heard nothing from the store any more."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "a").write_bytes(b"a")
    folder = store.upload(tmp_path / "here", f"{BUCKET}/forked")

    def reads() -> bool:
        return [each.name for each in places.entries(places.at(folder), 9)] == ["a"]

    assert reads()
    for _ in range(3):
        child = multiprocessing.get_context("fork").Process(target=lambda: os._exit(not reads()))
        child.start()
        child.join()
        begun = time.monotonic()
        assert (child.exitcode, reads()) == (0, True)
        assert time.monotonic() - begun < READ_SECONDS / 2


@pytest.mark.lane("fast")
def test_what_is_read_ahead_fits_in_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(places, "_CHUNK_BYTES", 1_000)
    files: list[places.Where] = []
    for number in range(20):
        files.append(tmp_path / f"{number}")
        (tmp_path / f"{number}").write_bytes(b"x" * 300)
    assert [len(some) for some in places._chunks(files)] == [3] * 6 + [2]
    assert len(list(places.read_each(files))) == 20


def test_files_of_a_source_come_together_and_each_once(
    store: Store, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, each was asked for when the one before it had been read."""
    whole = store.upload(digits, f"{BUCKET}/together/whole")
    parts = store.upload(in_parts(digits, tmp_path / "parts"), f"{BUCKET}/together/parts")
    asked: list[list[str]] = []
    ask = buckets_.Buckets.ask

    def counted(way: buckets_.Buckets, paths: Sequence[str]) -> Any:
        asked.append([*paths])
        return ask(way, paths)

    monkeypatch.setattr(buckets_.Buckets, "ask", counted)
    monkeypatch.setattr(buckets_.Buckets, "get", None)  # and none by itself
    for name, files in ((whole, 4), (parts, 4 * 12)):
        asked.clear()
        assert open_source(name).digest == open_source(digits).digest
        assert [len(each) for each in asked] == [files]
        assert len({*asked[0]}) == files


def test_of_files_that_come_together_that_which_fails_is_named(
    store: Store, digits: Path, tmp_path: Path
) -> None:
    name = store.upload(in_parts(digits, tmp_path / "parts"), f"{BUCKET}/named")
    folder = f"{name.removeprefix('s3://')}/train/train-labels-idx1-ubyte"
    with places.ahead([places.at(f"s3://{folder}/part-{n}") for n in (1, 99, 2)]) as coming:
        assert places.read(coming[0])
        with pytest.raises(DatasetNotFound, match="train-labels-idx1-ubyte/part-99: nothing is th"):
            places.read(coming[1])
        assert places.read(coming[2])  # by itself
    store.fs.pipe({f"{folder}/part-7": b"x" * 1000})
    with pytest.raises(CorruptDataset, match="train-labels-idx1-ubyte: too long"):
        open_source(name)


def test_files_that_are_not_opened_in_turn_are_read_all_the_same(
    store: Store, tmp_path: Path
) -> None:
    for number in range(5):
        (tmp_path / f"{number}").write_bytes(f"{number}".encode())
    there = places.at(store.upload(tmp_path, f"{BUCKET}/turns"))
    with places.ahead([there / f"{number}" for number in range(5)]) as coming:
        assert [places.read(coming[n]) for n in (0, 3, 3, 1, 0, 2)] == [
            b"0", b"3", b"3", b"1", b"0", b"2"
        ]  # fmt: skip


#: Objects in each of the folders of `Listing`.
EACH = 1_500


class Listing(BaseHTTPRequestHandler):
    """A bucket with ten folders of objects, that counts who asks."""

    protocol_version = "HTTP/1.1"
    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        query = {name: each[0] for name, each in parse_qs(urlsplit(self.path).query).items()}
        before, first = query["prefix"], int(query.get("continuation-token", 0))
        below = before.removeprefix("digits/")
        names = [f"{n}/" for n in range(10)] if not below else [f"{n}.png" for n in range(EACH)]
        some = names[first : first + int(query["max-keys"])]
        more = first + len(some) < len(names)
        told = "".join(
            f"<CommonPrefixes><Prefix>{escape(before + name)}</Prefix></CommonPrefixes>"
            if name.endswith("/")
            else f"<Contents><Key>{escape(before + name)}</Key><Size>7</Size></Contents>"
            for name in some
        )
        more_told = f"<NextContinuationToken>{first + len(some)}</NextContinuationToken>" * more
        body = (
            f"<ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated>{more_told}{told}"
            "</ListBucketResult>"
        ).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_HEAD(self) -> None:
        type(self).asked += 1
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.lane("fast")
def test_a_folder_of_many_objects_is_some_requests(
    alone: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One for a thousand of them; each object cost one, and 0.3 ms to be called by its name."""
    monkeypatch.setattr("loaders.sources.MOST_ENTRIES", 1 << 20)
    with ThreadingHTTPServer(("127.0.0.1", 0), Listing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        where = places.at("s3://bucket/digits")
        assert places.is_folder(where)
        assert sum(1 for _ in walk(where, 3)) == 10 * EACH
        server.shutdown()
    assert Listing.asked == 2 + 1 + 10 * 2


# What is not.


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "guessed"}, "access is refused at .*look at AWS_ACCESS_KEY_ID"),
        ({"AWS_ACCESS_KEY_ID": "stranger"}, "access is refused at .*look at AWS_ACCESS_KEY_ID"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "there are no credentials: set"),
        ({"AWS_ENDPOINT_URL": "not an address"}, "Invalid endpoint: not an address"),
    ],
)
def test_who_may_not_have_it_is_told_why(
    store: Store, digits: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str],
    told: str,
) -> None:  # fmt: skip
    name = store.upload(digits, f"{BUCKET}/kept/mnist")
    for each, value in variables.items():
        monkeypatch.setenv(each, value)
        if not value:
            monkeypatch.delenv(each)
    with pytest.raises(DatasetNotFound, match=f"s3://{BUCKET}/kept/mnist: .*{told}"):
        open_source(name)
    with pytest.raises(DatasetNotFound, match=told):
        places.write(places.at(f"s3://{BUCKET}/kept/new"), b"x")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("s3://nobodys/mnist", "s3://nobodys/mnist: there is no such bucket at http://127"),
        ("s3://No_Bucket!/mnist", "Invalid bucket name"),
        (f"s3://{BUCKET}/nowhere/mnist", "no such file or folder"),
        ("s3://", "Invalid bucket name"),
    ],
)
def test_what_is_not_there_is_told(store: Store, name: str, told: str) -> None:
    with pytest.raises(DatasetNotFound, match=told):
        open_source(name)


def test_half_an_upload_is_none(store: Store, digits: Path) -> None:
    name = store.upload(digits, f"{BUCKET}/half/mnist")
    fs, key = store.fs, "half/mnist/train/train-images-idx3-ubyte"
    content = fs.cat_file(f"{BUCKET}/{key}")
    fs.rm_file(f"{BUCKET}/{key}")
    begun = fs.call_s3("create_multipart_upload", Bucket=BUCKET, Key=key)
    fs.call_s3(
        "upload_part", Bucket=BUCKET, Key=key, UploadId=begun["UploadId"], PartNumber=1,
        Body=content,
    )  # fmt: skip
    source = open_source(name)
    assert "train" not in source.splits
    assert "train-images-idx3-ubyte" in source.absent["train"]  # type: ignore[attr-defined]
    fs.pipe_file(f"{BUCKET}/{key}", content[: len(content) // 2])
    with pytest.raises(CorruptDataset, match="train-images-idx3-ubyte: truncated"):
        open_source(name)


def test_a_public_bucket_needs_no_credentials(
    store: Store, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = "public"
    fs = store.fs
    fs.mkdir(bucket)
    name = store.upload(digits, f"{bucket}/mnist")
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"AWS": ["*"]}, "Action": action, "Resource": [arn]}
            for action, arn in (
                (["s3:ListBucket"], f"arn:aws:s3:::{bucket}"),
                (["s3:GetObject"], f"arn:aws:s3:::{bucket}/*"),
            )
        ],
    }
    fs.call_s3("put_bucket_policy", Bucket=bucket, Policy=json.dumps(policy))
    for each in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(each)
    assert open_source(name).digest == open_source(digits).digest
    with pytest.raises(DatasetNotFound, match="there are no credentials"):
        places.write(places.at(f"s3://{bucket}/new"), b"x")


# What goes wrong on the way.


@pytest.fixture(params=STORES)
def doomed(
    request: pytest.FixtureRequest, tmp_path: Path, alone: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Store]:
    """Return a server that a test may kill."""
    made = STORES[request.param](tmp_path / "store")
    try:
        made.start()
        made.fs.mkdir(BUCKET)
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        yield made
    finally:
        made.kill()


def test_a_server_that_dies_in_the_middle_and_comes_back_is_asked_again(
    doomed: Store, relay: Callable[[str], Relay], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytes(range(256)) * (1 << 14)  # 4 MB: more than sockets hold
    doomed.fs.pipe_file(f"{BUCKET}/large", content)
    between = relay(doomed.endpoint.replace("http", "tcp"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", between.address.replace("tcp", "http"))
    between.bytes_per_second = 4e6
    with ThreadPoolExecutor(1) as thread:
        read = thread.submit(places.read, places.at(f"s3://{BUCKET}/large"))
        between.wait_for("to_node", 500_000)
        doomed.kill()
        between.cut()
        assert between.carried["to_node"] < len(content)
        between.bytes_per_second = 0
        doomed.start()
        assert read.result(60) == content


def test_a_server_that_is_gone_is_told_in_the_end(
    doomed: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "PAUSES", (0.01, 0.01))
    doomed.kill()
    with pytest.raises(SourceUnreachable, match=f"s3://{BUCKET}/mnist can't be reached") as caught:
        open_source(f"s3://{BUCKET}/mnist")
    assert doomed.endpoint in str(caught.value)


@pytest.mark.lane("fast")
def test_a_server_that_never_answers_is_given_up(
    alone: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was waited for for half an hour: a minute, five times, six times."""
    monkeypatch.setattr(buckets_, "READ_SECONDS", 0.2)
    monkeypatch.setattr(places, "PATIENCE_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        with pytest.raises(SourceUnreachable, match=f"Read timeout.*{port}.*tried for"):
            open_source("s3://bucket/mnist")


# Whole runs: seed 000's two programs as two commands.


def test_a_run_reads_from_a_bucket_and_publishes_to_it(
    store: Store, digits: Path, tmp_path: Path
) -> None:
    source = store.upload(digits, f"{BUCKET}/run/mnist")
    target = f"s3://{BUCKET}/models/digits"
    result = trained(source, tmp_path / "runs", "--publish", target)
    fs = store.fs
    told = json.loads(fs.cat_file(f"{BUCKET}/models/digits/metrics.json"))
    assert told["model_sha256"] == result["model_sha256"]
    model = fs.cat_file(f"{BUCKET}/models/digits/model.safetensors")
    assert model == (tmp_path / "runs" / result["run"] / "model.safetensors").read_bytes()
    local = trained(str(digits), tmp_path / "local")
    assert local["model_sha256"] == result["model_sha256"]
    for name in (target, f"{target}/model.safetensors"):
        done = here(PREDICT_HERE, name, "--data", source, "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["accuracy"] == result["accuracy"]
    fs.pipe_file(f"{BUCKET}/models/digits/model.safetensors", model[:-1] + b"\1")
    done = here(PREDICT_HERE, target, "--data", source)
    assert done.returncode == Exit.USAGE
    assert f"{target}/model.safetensors: damaged" in done.stderr


def test_a_run_that_can_not_be_published_is_kept_and_says_how(
    doomed: Store, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "PAUSES", (0.01,))
    runs, target = tmp_path / "runs", f"s3://{BUCKET}/late"
    result = trained(str(digits), runs)
    doomed.kill()
    command = ["--resume", str(runs / result["run"]), "--publish", target]
    done = here(MAIN_HERE, *command)
    assert done.returncode == Exit.STORAGE
    assert "can't be published" in done.stderr
    assert f"mnist-main {' '.join(command)}" in done.stderr
    doomed.start()
    done = here(MAIN_HERE, *command)
    assert done.returncode == 0, done.stderr
    assert sorted(doomed.fs.ls(f"{BUCKET}/late")) == [
        f"{BUCKET}/late/metrics.json", f"{BUCKET}/late/model.safetensors",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("s3://nobodys/models", "--publish s3://nobodys/models: there is no such bucket"),
        ("https://example.org/models", "there are s3://bucket/prefix and local folders"),
        ("gs://bucket/models", "gs:// is no place"),
    ],
)
def test_where_nothing_can_be_published_no_run_begins(
    store: Store, digits: Path, tmp_path: Path, target: str, told: str
) -> None:
    done = here(
        MAIN_HERE, "--data", str(digits), "--run-dir", str(tmp_path / "runs"), "--publish", target
    )
    assert done.returncode == Exit.USAGE
    assert told in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.lane("fast")
def test_a_run_is_published_to_a_folder(digits: Path, tmp_path: Path) -> None:
    result = trained(str(digits), tmp_path / "runs", "--publish", str(tmp_path / "out" / "digits"))
    run = tmp_path / "runs" / result["run"]
    for name in ("model.safetensors", "metrics.json"):
        assert (tmp_path / "out" / "digits" / name).read_bytes() == (run / name).read_bytes()
    assert len(list((tmp_path / "out" / "digits").iterdir())) == 2


@pytest.mark.lane("fast")
def test_what_is_published_may_be_read_by_whom_this_user_lets(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        places.write(tmp_path / "file", b"content")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_a_store_is_filled_with_mnist(
    store: Store, mnist: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the compose profile `minio` does: a bucket is made, and what is there is left alone."""
    command = (sys.executable, str(ROOT / "deploy" / "fill_store.py"), "s3://filled/mnist")
    first = run(*command)
    assert first.returncode == 0, first.stderr
    before = store.fs.info("filled/mnist/train/train-labels-idx1-ubyte")
    again = run(*command)
    assert again.returncode == 0, again.stderr
    assert store.fs.info("filled/mnist/train/train-labels-idx1-ubyte") == before
    monkeypatch.setenv("S3_PREFIX", "s3://filled/mnist")
    assert open_source("s3://filled/mnist").digest == mnist.source.digest
    images, labels = make_dataset("test").tensors
    assert (images.shape, labels.shape) == ((10_000, 1, 28, 28), (10_000,))


def trained(source: str, runs: Path, *options: str) -> dict[str, Any]:
    """Train the linear learner with a node of this process; return what it came to."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    with node("worker", address):
        done = here(
            MAIN_HERE, "--data", source, "--run-dir", str(runs), "--bind", address, "--jobs", "2",
            "--rounds", "2", "--learner", "linear", "--json", *options,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result
