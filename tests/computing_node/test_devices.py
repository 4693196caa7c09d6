"""What a node has for its jobs to run on: found without torch, and handed to its places."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from computing_node import child, devices
from computing_node.children import ChildReplier, TaskRaised
from computing_node.devices import Devices, Gpu, find
from computing_node.errors import ConfigError
from computing_node.replier import Task
from learning import Turn, create
from learning.actions import Fit
from protocol import JobDataType

from ..conftest import Heard
from ..learning.common import carry, images
from ..processes import COMPUTE, Start, here

COMPUTE_HERE = "computing_node.command:main"
#: Stands in for torch where there are GPUs: what a node asks it, and no more.
FAKE = """
import os

names = {names!r}
seen = os.environ.get("CUDA_VISIBLE_DEVICES")


class cuda:
    class OutOfMemoryError(Exception):
        pass

    def device_count():
        if {broken!r}:
            raise RuntimeError("the driver is too old")
        return len(names if seen is None else [each for each in seen.split(",") if each])

    def get_device_name(number):
        return names[number if seen is None else int(seen.split(",")[number])]


class device:
    pass
"""


def fake_torch(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *names: str, broken: bool = False
) -> None:
    """Have processes that are started from now on find such GPUs."""
    package = folder / "torch"
    (package / "utils").mkdir(parents=True)
    (package / "__init__.py").write_text(FAKE.format(names=names, broken=broken))
    (package / "utils" / "__init__.py").write_text("deterministic = None\n")
    before = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{before}" if before else str(folder))
    monkeypatch.setattr(devices, "_DRIVERS", (folder,))


def test_every_gpu_that_torch_can_use_is_found_and_each_place_gets_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    fake_torch(tmp_path, monkeypatch, "A 1", "A 1", "B 2")
    found = find("auto")
    assert (
        found
        == find("cuda")
        == Devices("cuda", (Gpu("A 1", "0"), Gpu("A 1", "1"), Gpu("B 2", "2")))
    )
    assert str(found) == "cuda: A 1 and B 2"
    assert [found.at(place) for place in range(4)] == ["0", "1", "2", "0"]
    assert [find("auto", seat=1).at(place) for place in range(3)] == ["1", "2", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,0")
    assert find("auto") == Devices("cuda", (Gpu("B 2", "2"), Gpu("A 1", "0")))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert find("auto") == Devices()
    assert find("cpu") == Devices()
    assert str(find("mps")) == "mps"


def test_a_gpu_that_can_not_be_used_is_told_and_the_processor_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heard: Heard
) -> None:
    fake_torch(tmp_path, monkeypatch, broken=True)
    assert str(find("auto")) == "cpu"
    assert "the driver is too old" in heard.event("gpu.unusable")["why"]
    with pytest.raises(ConfigError, match="torch finds no GPU .* the driver is too old"):
        find("cuda")


def test_where_no_driver_is_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_DRIVERS", ())
    monkeypatch.setattr(devices, "_ask", None)
    assert find("auto") == Devices()


def test_a_node_that_is_to_have_a_gpu_and_has_none_ends_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_torch(tmp_path, monkeypatch)
    done = here(COMPUTE_HERE, "--device", "cuda")
    assert done.returncode == 2
    assert "--device cuda: torch finds no GPU that it can use here (it sees none)" in done.stderr


def test_torch_tells_what_it_finds_in_a_process_of_its_own() -> None:
    import torch

    from mnist_merge import command

    done = subprocess.run(
        command("learning.neural.device"), capture_output=True, text=True, check=True
    )
    assert len(json.loads(done.stdout)) == torch.cuda.device_count()


def test_a_node_knows_its_gpus_without_torch() -> None:
    code = "import sys, computing_node.devices; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_node_says_what_it_has(start: Start) -> None:
    node = start(*COMPUTE, "--device", "cpu", "--log-format", "json")
    assert node.event("node.looking")["device"] == "cpu"


def test_a_job_runs_on_what_it_wants_or_on_what_its_node_has() -> None:
    """Here is no GPU: a job that is to run on one says so, in its own attempt."""
    shard = images(64)
    start = create("neural", {}).initial(shard.form)
    values, arrays = carry(Fit(rows=shard, start=start, seed=1, turn=Turn()), {"epochs": 1})

    def task(device: str) -> Task:
        made = Task((0, 1), JobDataType(arrays, values, kind="neural", device=device), 1, "main")
        assert made.begin()
        return made

    replier = ChildReplier(1, devices=Devices("mps"))
    try:
        assert replier.solve(task("cpu")).metrics["examples"] == 64
        with pytest.raises(TaskRaised, match="torch .* can't use Metal here"):
            replier.solve(task(""))
        assert replier.solve(task("cpu")).metrics["examples"] == 64
    finally:
        replier.close()


def test_a_child_sees_its_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CUDA_VISIBLE_DEVICES", "CUBLAS_WORKSPACE_CONFIG"):
        monkeypatch.setenv(name, "before")
        monkeypatch.delenv(name)
    child._take_gpu("")
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    child._take_gpu("GPU-1234")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-1234"
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_a_child_that_takes_the_place_of_another_gets_its_gpu() -> None:
    gpus = tuple(Gpu("A", str(number)) for number in range(3))
    replier = ChildReplier(3, devices=Devices("cuda", gpus))
    children = [replier._start() for _ in gpus]
    try:
        assert [each.seat for each in children] == [0, 1, 2]
        children[1].close()
        made = Task((0, 1), JobDataType("x"), 1, "main")
        replier._lost(children[1], made)
        children.append(replier._idle.get_nowait())
        assert children[-1].seat == 1
    finally:
        for each in children:
            each.close()
