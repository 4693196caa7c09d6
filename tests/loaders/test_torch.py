"""Classes for programs that train with torch: over a real store, in workers, on several nodes."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

import loaders
from loaders import (
    CorruptDataset,
    DatasetNotFound,
    DatasetNotFoundError,
    IterableWrapper,
    KubeDataset,
    LoaderError,
    S3FileLoader,
    S3ImageFolder,
    S3Stream,
    make_dataset,
)

from ..stores import JuiceFS, Store
from ..vision import torchvision
from .conftest import BUCKET

#: Of those with a store, and with processes that import torch.
MACHINES = pytest.mark.lane("machines")
CLASSES = ("n01443537", "n01440764", "n01484850")
EACH = 7


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of pictures by class; the names end in what seed 004 takes for a label."""
    folder = tmp_path_factory.mktemp("pictures") / "train"
    random = np.random.default_rng(0)
    for number, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for k in range(EACH):
            pixels = random.integers(0, 255, (8, 6, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{name}_{k}_{number}.png")
    return folder


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Iterator[Store]:
    """Return a store that has the pictures."""
    made = JuiceFS(tmp_path_factory.mktemp("store"))
    try:
        made.start()
        made.fs.mkdir(BUCKET)
        made.upload(pictures, f"{BUCKET}/imagenet/train")
        yield made
    finally:
        made.kill()


@pytest.fixture
def told(kept: Store, alone: None, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Have the environment tell how to reach it."""
    for name, value in kept.environment.items():
        monkeypatch.setenv(name, value)
    return kept


# Pictures by class.


def seeds_class(fs: Any) -> type[Any]:
    """Return seed 004's class, over a client that is not ours."""

    class SeedsImageFolder(Dataset[Any]):
        def __init__(self, bucket_name: str, prefix: str, transform: Any = None) -> None:
            self.transform, self.s3 = transform, fs
            self.classes: list[str] = []
            self.class_to_idx: dict[str, int] = {}
            self.samples: list[tuple[str, int]] = []
            for i, class_dir in enumerate(self.s3.ls("s3://" + bucket_name + "/" + prefix)):
                class_name = class_dir.split("/")[-1]
                self.classes.append(class_name)
                self.class_to_idx[class_name] = i
                for file in self.s3.ls("s3://" + class_dir):
                    self.samples.append((file, i))

        def __getitem__(self, index: int) -> tuple[Any, int]:
            filename, class_index = self.samples[index]
            with self.s3.open("s3://" + filename, "rb") as f:
                img = Image.open(f).convert("RGB")
                return (img if self.transform is None else self.transform(img)), class_index

    return SeedsImageFolder


def as_array(picture: Any) -> Any:
    """Return a picture's pixels: a transform that a process that was spawned finds, too."""
    return np.array(picture)


@MACHINES
def test_pictures_are_those_of_seed_004s_own_class(told: Store) -> None:
    ours = S3ImageFolder(BUCKET, "imagenet/train", as_array)
    theirs = seeds_class(told.fs)(BUCKET, "imagenet/train", as_array)
    assert ours.classes == theirs.classes == sorted(CLASSES)
    assert ours.class_to_idx == theirs.class_to_idx
    assert ours.samples == theirs.samples
    assert len(ours) == len(CLASSES) * EACH
    for index in range(0, len(ours), 5):
        (mine, label), (wanted, number) = ours[index], theirs[index]
        assert label == number
        assert (mine == wanted).all()
    plain, _ = S3ImageFolder(BUCKET, "imagenet/train/")[0]
    assert plain.mode == "RGB"


@pytest.mark.parametrize("context", ["fork", "spawn", ""])
@MACHINES
def test_pictures_are_read_by_workers(told: Store, context: str) -> None:
    folder = S3ImageFolder(BUCKET, "imagenet/train", as_array)
    before = folder[0][0]  # this process is connected already
    workers: dict[str, Any] = {"num_workers": 2, "multiprocessing_context": context}
    loader = DataLoader(folder, batch_size=4, **(workers if context else {}))
    batches = list(loader)
    labels = torch.cat([labels for _, labels in batches])
    assert labels.tolist() == [number for _, number in folder.samples]
    assert (batches[0][0][0].numpy() == before).all()


@MACHINES
def test_a_picture_that_is_none_is_named(told: Store, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "torn.png").write_bytes(b"\x89PNG\r\n")
    told.upload(tmp_path, f"{BUCKET}/torn")
    with pytest.raises(CorruptDataset, match=f"s3://{BUCKET}/torn/a/torn.png: no picture"):
        S3ImageFolder(BUCKET, "torn")[0]
    with pytest.raises(DatasetNotFound, match=f"s3://{BUCKET}/torn/a: no folders in it"):
        S3ImageFolder(BUCKET, "torn/a")


# Streams.


def name_and_size(sample: tuple[str, Any]) -> tuple[str, int]:
    """Return what a file is called, and how long it is."""
    url, file = sample
    return url, len(file.read())


def urls(stream: Any) -> list[str]:
    """Return the addresses of a stream of `name_and_size`, in order."""
    return [url for url, _ in stream]


WHOLE = f"s3://{BUCKET}/imagenet/"


@MACHINES
def test_a_stream_has_each_file_once(told: Store, pictures: Path) -> None:
    stream = S3Stream([WHOLE]).map(name_and_size)
    wanted = {
        f"{WHOLE}train/{file.relative_to(pictures)}": file.stat().st_size
        for file in pictures.rglob("*.png")
    }
    assert dict(stream) == wanted
    assert urls(stream) == sorted(wanted)
    once, again = (urls(stream.shuffle(seed=3)) for _ in range(2))
    assert once == again != sorted(wanted)
    assert sorted(once) == sorted(wanted)
    assert urls(stream.shuffle(seed=4)) != once
    later = stream.shuffle(seed=3)
    later.set_epoch(1)
    assert urls(later) != once
    one = S3Stream([once[0]])
    assert [(url, file.read()[:4]) for url, file in one] == [(once[0], b"\x89PNG")]
    with pytest.raises(DatasetNotFound, match="gone.png: nothing is there"):
        list(S3Stream([f"{WHOLE}gone.png"]))


@pytest.mark.parametrize("context", ["fork", "spawn"])
@MACHINES
def test_workers_and_nodes_share_a_stream(
    told: Store, context: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = urls(S3Stream([WHOLE]).map(name_and_size))
    stream = S3Stream([WHOLE]).shuffle().sharding_filter().map(name_and_size)
    seen: Counter[str] = Counter()
    for rank in range(2):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "2")
        loader = DataLoader(stream, batch_size=None, num_workers=2, multiprocessing_context=context)
        seen.update(urls(loader))
    assert seen == Counter(everything)


@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.lane("deep"))])
def test_folders_of_a_stream_are_listed_once_for_all_workers(
    pictures: Path, tmp_path: Path, context: str
) -> None:
    """Each worker listed anew: what came between was a file of two workers, or of none."""
    folder = Path(shutil.copytree(pictures, tmp_path / "some"))
    everything = sorted(map(str, folder.rglob("*.png")))
    streams = (
        S3Stream([f"{folder}/"]).map(name_and_size),
        IterableWrapper([f"{folder}/"]).list_files_by_s3().load_files_by_s3().map(name_and_size),
    )
    new = folder / "0.png"
    shutil.copy(everything[0], new)
    for number, stream in enumerate(streams):
        assert urls(stream) == everything
        assert urls(pickle.loads(pickle.dumps(stream))) == everything  # as one that is spawned has
        if context == "spawn" and number:
            continue  # each worker imports torch
        loader = DataLoader(stream, batch_size=None, num_workers=2, multiprocessing_context=context)
        assert sorted(urls(loader)) == everything
    assert str(new) in urls(S3Stream([f"{folder}/"]).map(name_and_size))


@pytest.mark.parametrize("seed", [None, 5])
def test_nodes_share_a_stream_of_local_files(
    pictures: Path, seed: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = urls(S3Stream([f"{pictures}/"]).map(name_and_size))
    assert everything == sorted(map(str, pictures.rglob("*.png")))
    monkeypatch.setenv("WORLD_SIZE", "4")
    before, after = (
        S3Stream([f"{pictures}/"]).shuffle(seed).sharding_filter().map(name_and_size),
        S3Stream([f"{pictures}/"]).sharding_filter().map(name_and_size).shuffle(seed),
    )
    for stream in (before, after):
        seen = []
        for rank in range(4):
            monkeypatch.setenv("RANK", str(rank))
            seen += urls(stream)
        assert sorted(seen) == everything != seen
    for told in ("4", "-1", "first"):
        monkeypatch.setenv("RANK", told)
        with pytest.raises(LoaderError, match=f"RANK={told} WORLD_SIZE=4"):
            list(before)


@MACHINES
def test_without_a_seed_each_epoch_is_in_another_order(told: Store) -> None:
    stream = S3Stream([WHOLE]).shuffle().map(name_and_size)
    loader = DataLoader(stream, batch_size=None, num_workers=2, multiprocessing_context="fork")
    orders = [urls(loader) for _ in range(3)]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(orders[2])
    assert len({tuple(order) for order in orders}) == 3


PROCESS = """
import os, sys, torch
from loaders import S3Stream
torch.distributed.init_process_group("gloo")
print(*(url for url, _ in S3Stream([sys.argv[1]]).shuffle(seed=1).sharding_filter()))
torch.distributed.destroy_process_group()
"""


@MACHINES
def test_processes_of_torch_distributed_share_a_stream(told: Store, tmp_path: Path) -> None:
    """Their numbers are torch's, whatever the environment has said since."""
    from ..stores import free_ports

    (port,) = free_ports(1)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, WHOLE], stdout=subprocess.PIPE, text=True,
            env={**os.environ, "RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
                 "MASTER_PORT": str(port)},
        ) for rank in range(2)
    ]  # fmt: skip
    seen = [process.communicate(timeout=60)[0].split() for process in processes]
    assert all(process.returncode == 0 for process in processes)
    assert sorted(seen[0] + seen[1]) == urls(S3Stream([WHOLE]))
    assert abs(len(seen[0]) - len(seen[1])) <= 1


@MACHINES
def test_seed_004s_block_runs_with_its_imports_changed(told: Store) -> None:
    """`from loaders import` where it has `from torchdata.datapipes.iter import`."""
    dp_s3_urls = IterableWrapper([WHOLE]).list_files_by_s3()
    assert len(list(dp_s3_urls)) == len(CLASSES) * EACH
    sharded_s3_urls = dp_s3_urls.shuffle().sharding_filter()
    dp_s3_files = S3FileLoader(sharded_s3_urls)

    def train_transforms(picture: Any) -> torch.Tensor:
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255

    def process(sample: tuple[str, Any]) -> tuple[torch.Tensor, int]:
        url, fd = sample
        label = int(url.split("_")[-1][0])
        image = Image.open(fd).convert("RGB")
        return train_transforms(image), label

    dp_s3_files_mapped = dp_s3_files.map(process)
    assert {img.size() for img, _ in dp_s3_files_mapped} == {torch.Size([3, 8, 6])}
    dl = DataLoader(dp_s3_files_mapped, batch_size=8)
    counted = Counter(label for _, labels in dl for label in labels.tolist())
    assert counted == {0: EACH, 1: EACH, 2: EACH}


@MACHINES
def test_addresses_may_be_made_before_they_are_read(told: Store) -> None:
    names = [f"imagenet/train/{CLASSES[0]}/{CLASSES[0]}_{k}_0.png" for k in range(3)]
    made = IterableWrapper(names).map(lambda name: f"s3://{BUCKET}/{name}")
    assert list(made) == [f"s3://{BUCKET}/{name}" for name in names]
    assert urls(made.load_files_by_s3()) == list(made)
    assert [url for url, _ in S3Stream([str(told.folder / "log")])] == [str(told.folder / "log")]


# Tensors, and KubeML's form.


def test_a_source_is_tensors(idx_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_PREFIX", str(idx_folder))
    made, rows = make_dataset("train"), loaders.load(idx_folder)
    images, labels = made.tensors
    assert images.shape == (200, 1, 28, 28)
    assert images.dtype == torch.float32
    assert (images.numpy()[:, 0] == rows.arrays["image"].astype(np.float32) / 255).all()
    assert labels.dtype == torch.int64
    assert (labels.numpy() == rows.labels).all()
    assert len(make_dataset("test", str(idx_folder))) == 50
    monkeypatch.delenv("S3_PREFIX")
    with pytest.raises(DatasetNotFound, match="set S3_PREFIX"):
        make_dataset("train")


def test_a_data_set_in_kubemls_form_has_this_workers_minibatches(
    idx_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, rows = str(idx_folder), loaders.load(idx_folder)
    whole = KubeDataset(name)
    assert len(whole) == 200
    assert (whole.data == rows.arrays["image"]).all()
    assert (whole.labels == rows.labels).all()
    monkeypatch.setenv("WORLD_SIZE", "3")
    shares = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        shares.append(KubeDataset(name))
    assert [len(each) for each in shares] == [128, 64, 8]  # 2, 1 and 1 minibatches
    assert (np.concatenate([each.data for each in shares]) == whole.data).all()
    assert (np.concatenate([each.labels for each in shares]) == whole.labels).all()
    monkeypatch.setenv("RANK", "0")
    some = KubeDataset(name, k=1)
    assert (some.periods, len(some)) == (2, 64)
    some.load(1)
    assert (some.labels == whole.labels[64:128]).all()
    monkeypatch.setenv("WORLD_SIZE", "9")
    monkeypatch.setenv("RANK", "8")
    assert len(KubeDataset(name)) == 0
    with pytest.raises(DatasetNotFoundError):
        KubeDataset("unheard-of")


def test_seed_003s_class_runs_with_its_import_changed(idx_folder: Path) -> None:
    torchvision()
    from torchvision import transforms  # type: ignore[import-not-found,unused-ignore]

    class MnistDataset(KubeDataset):
        def __init__(self) -> None:
            super().__init__(str(idx_folder))
            self.transf = transforms.Compose(
                [transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))]
            )

        def __getitem__(self, index: int) -> tuple[Any, Any]:
            x = self.data[index]
            y = self.labels[index]
            return self.transf(x), y.astype("int64")

        def __len__(self) -> int:
            return len(self.data)

    made = MnistDataset()
    (x, y), *_ = DataLoader(made, batch_size=64)
    assert x.shape == (64, 1, 28, 28)
    assert x.dtype == torch.float32
    assert y.dtype == torch.int64
    wanted = (made.data[0].astype(np.float32) / 255 - 0.1307) / 0.3081
    assert np.allclose(x[0, 0].numpy(), wanted, atol=1e-6)


@MACHINES
def test_a_file_of_a_stream_may_be_sought_in(told: Store) -> None:
    ((_, file), *_) = S3Stream([WHOLE])
    assert isinstance(file, io.BytesIO)
    assert file.seekable()
