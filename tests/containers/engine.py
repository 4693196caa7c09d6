"""A Docker engine for the tests, and an image of the project in it.

Where one runs already it is used. Else, as root, one is started for the tests alone, and since it
may have no registry to pull from, `python:3.11-slim` is made from Debian's packages.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
BASE = "python:3.11-slim"
IMAGE = "mnist-merge:under-test"
PACKAGES = "python3.11,python3.11-venv,python3-pip,ca-certificates"
NEEDED = ("dockerd", "docker", "docker-compose", "iptables", "debootstrap", "nsenter", "tc")

PAUSE_TRIES = 20


class NoEngine(Exception):
    """There is no Docker engine, and none can be started; says why."""


def call(*command: str, timeout: float = 60, **environment: str) -> str:
    """Run a command that must succeed; return its output."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout


def pause(container: str) -> None:
    """Freeze a container; runc gives up where its processes are too busy to be stopped at once."""
    for _ in range(PAUSE_TRIES):
        done = subprocess.run(
            ["docker", "pause", container], capture_output=True, text=True, timeout=60, check=False
        )
        if done.returncode == 0:
            return
        assert "unable to freeze" in done.stderr, done.stderr
    raise AssertionError(f"{container} can't be paused: {done.stderr}")


def _answers() -> bool:
    done = subprocess.run(["docker", "info"], capture_output=True, timeout=30, check=False)
    return done.returncode == 0


@contextmanager
def engine(folder: Path) -> Iterator[None]:
    """Have an engine that answers `docker`, and the project's image in it.

    Args:
        folder: where an engine of its own keeps everything.

    Raises:
        NoEngine: there is none.
    """
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        raise NoEngine(
            f"no {', '.join(missing)}: apt-get install docker.io docker-compose iptables"
            " debootstrap iproute2"
        )
    if os.geteuid() != 0:
        raise NoEngine("only root may disturb containers' networks")
    if _answers():
        _build(folder)
        yield
        return
    host = f"unix://{folder}/socket"
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(
            ["dockerd", "--data-root", folder / "data", "--exec-root", folder / "exec",
             "--pidfile", folder / "pid", "-H", host],
            stdout=log, stderr=log,
        )  # fmt: skip
    os.environ["DOCKER_HOST"] = host
    try:
        until = time.monotonic() + 60
        while not _answers():
            if daemon.poll() is not None or time.monotonic() > until:
                tail = (folder / "log").read_text()[-600:]
                raise NoEngine(f"dockerd does not start here: {tail}")
            time.sleep(0.1)
        _build(folder)
        yield
    finally:
        del os.environ["DOCKER_HOST"]
        daemon.terminate()
        daemon.wait(60)
        shutil.rmtree(folder / "data", ignore_errors=True)


def _build(folder: Path) -> None:
    """Make the image as a user does; where pip has settings here, with them."""
    if not call("docker", "images", "-q", BASE):
        try:
            call("docker", "pull", "-q", BASE, timeout=60)
        except (AssertionError, subprocess.TimeoutExpired):  # no registry can be reached
            _make_base(folder)
    # The tests' torch is to be the image's, whatever else could be had.
    call("docker", "build", "--build-arg", "TORCH_INDEX=", "-t", IMAGE, str(ROOT), timeout=600)


def _make_base(folder: Path) -> None:
    """Make a stand-in of Python's image from Debian's packages: the same Python, 3.11."""
    root = folder / "base"
    sites = call("apt-get", "indextargets", "--format", "$(SITE)").split()
    call(
        "debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(root),
        *sites[:1], timeout=600,
    )  # fmt: skip
    (root / "usr/bin/python").symlink_to("python3")
    (root / "usr/lib/python3.11/EXTERNALLY-MANAGED").unlink()
    bundle = Path("/etc/ssl/certs/ca-certificates.crt")  # a machine may have some of its own
    if bundle.exists():
        shutil.copy(bundle, root / "etc/ssl/certs/ca-certificates.crt")
    _copy_pip_settings(root)
    for cache in ("var/cache/apt/archives", "var/lib/apt/lists"):
        shutil.rmtree(root / cache)
    with subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE) as tar:
        subprocess.run(
            ["docker", "import", "-", BASE], stdin=tar.stdout, check=True, capture_output=True
        )
    shutil.rmtree(root)


def _copy_pip_settings(root: Path) -> None:
    """Let pip find in the image what it finds here: its folders of wheels."""
    settings = ["[global]", "cert = /etc/ssl/certs/ca-certificates.crt"]
    for line in call("pip", "config", "list").splitlines():
        name, _, value = line.partition("=")
        folder = Path(value.strip("'\""))
        if name.endswith(".find-links") and folder.is_dir():
            shutil.copytree(folder, root / "opt/wheels", dirs_exist_ok=True)
            settings.append("find-links = /opt/wheels")
    (root / "etc/pip.conf").write_text("\n".join([*dict.fromkeys(settings), ""]))
