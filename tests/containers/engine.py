"""A Docker engine for the tests, and an image of the project in it.

Where one runs already it is used. Else, as root, one is started for the tests alone, and since it
may have no registry to pull from, `python:3.11-slim` is made from Debian's packages. What that
engine keeps, the base and every layer, is kept for the next run in a cache folder: an image is made
anew from the step on whose files have changed.
"""

from __future__ import annotations

import fcntl
import hashlib
import inspect
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

ROOT = Path(__file__).parent.parent.parent
BASE = "python:3.11-slim"
IMAGE = "mnist-merge:under-test"
#: The stage with what is installed; it has a name so that it is kept when what has none is removed.
BUILD = "mnist-merge:under-test-build"
#: What stands in for MinIO's image.
STORE = "mnist-merge:under-test-store"
#: The image, and the learner of `tests/brought` in it.
LINEAR = "mnist-merge:under-test-linear"
RELEASE = "bookworm"
PACKAGES = "python3.11,python3.11-venv,python3-pip,ca-certificates"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
NEEDED = (
    "dockerd", "docker", "docker-compose", "iptables", "debootstrap", "nsenter", "setpriv", "tc",
    "unshare",
)  # fmt: skip

PAUSE_TRIES = 20
#: An engine starts; it ends; another test run makes its image and uses it.
START_SECONDS, END_SECONDS, LOCK_SECONDS = 60, 60, 600


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


@contextmanager
def engine() -> Iterator[None]:
    """Have an engine that answers `docker`, and the project's images in it.

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
        _build()
        yield
        return
    with _folder() as folder, _daemon(folder):
        _tidy()
        _build(folder)
        yield


def _answers() -> bool:
    done = subprocess.run(["docker", "info"], capture_output=True, timeout=30, check=False)
    return done.returncode == 0


@contextmanager
def _folder() -> Iterator[Path]:
    """Have the folder where our engine keeps everything; nobody else has it meanwhile."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    engines = Path(cache) / "mnist-merge-tests" / "engine"
    engines.mkdir(parents=True, exist_ok=True)
    with (engines / "lock").open("w") as lock:
        until = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise NoEngine(f"other tests use {engines} for too long") from None
                time.sleep(0.2)
        _end_engine(engines)  # of a run that was killed
        folder = engines / _digest()
        for other in engines.iterdir():
            if other.is_dir() and other != folder:
                shutil.rmtree(other)
        folder.mkdir(exist_ok=True)
        for left in folder.glob("tmp*"):
            shutil.rmtree(left)
        yield folder


def _digest() -> str:
    """Return a digest of what the base image is made of."""
    made_of = [RELEASE, PACKAGES, inspect.getsource(_make_base)]
    made_of += [CERTIFICATES.read_text() if CERTIFICATES.exists() else ""]
    for folder in _wheels():
        made_of += [f"{each.name} {each.stat().st_size}" for each in sorted(folder.iterdir())]
    return hashlib.sha256("\n".join(made_of).encode()).hexdigest()[:16]


@contextmanager
def _daemon(folder: Path) -> Iterator[None]:
    """Have an engine of our own.

    Its mounts are in a namespace of its own, so that they are gone when it is, and it is asked to
    end when this process does, however that ends.
    """
    shutil.rmtree(folder / "exec", ignore_errors=True)
    (folder / "pid").unlink(missing_ok=True)
    host = f"unix://{folder}/socket"
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", "unshare", "--mount", "dockerd",
             "--data-root", folder / "data", "--exec-root", folder / "exec",
             "--pidfile", folder / "pid", "-H", host, "--shutdown-timeout", "2"],
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    os.environ["DOCKER_HOST"] = host
    try:
        until = time.monotonic() + START_SECONDS
        while not _answers():
            if daemon.poll() is not None or time.monotonic() > until:
                tail = (folder / "log").read_text()[-600:]
                raise NoEngine(f"dockerd does not start here: {tail}")
            time.sleep(0.1)
        yield
    finally:
        del os.environ["DOCKER_HOST"]
        _end_engine(folder)
        daemon.wait()


def _end_engine(folder: Path) -> None:
    """End an engine that keeps what it has in a folder or below, and whatever it has started."""

    def ours(name: str) -> list[psutil.Process]:
        return [
            process for process in psutil.process_iter(["name", "cmdline"])
            if process.info["name"].startswith(name)
            and any(f"{folder}/" in word for word in process.info["cmdline"] or ())
        ]  # fmt: skip

    daemons = ours("dockerd")
    for process in daemons:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    psutil.wait_procs(daemons, END_SECONDS)
    left = [*ours("dockerd"), *ours("containerd")]  # and its shims, whose children containers are
    for process in left:
        with suppress(psutil.NoSuchProcess):
            left += process.children(recursive=True)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, END_SECONDS)


def _tidy() -> None:
    """Remove the containers, networks and volumes that a run left when it was killed."""
    if containers := call("docker", "ps", "-aq").split():
        call("docker", "rm", "-f", "-v", *containers)
    call("docker", "network", "prune", "-f")
    if volumes := call("docker", "volume", "ls", "-q").split():
        call("docker", "volume", "rm", *volumes)


def _build(folder: Path | None = None) -> None:
    """Make the images as a user does; where pip has settings here, with them.

    Args:
        folder: of an engine of our own; in others nothing is removed.
    """
    if not call("docker", "images", "-q", BASE):
        try:
            call("docker", "pull", "-q", BASE, timeout=60)
        except (AssertionError, subprocess.TimeoutExpired):  # no registry can be reached
            with TemporaryDirectory(dir=folder) as base:
                _make_base(Path(base))
    # The tests' torch is to be the image's, whatever else could be had.
    build = ("docker", "build", "-q", "--build-arg", "TORCH_INDEX=")
    call(*build, "--target", "build", "-t", BUILD, str(ROOT), timeout=600)
    call(*build, "-t", IMAGE, str(ROOT), timeout=600)
    call(
        "docker", "build", "-q", "-t", LINEAR, "-f", str(Path(__file__).with_name("Dockerfile")),
        str(ROOT / "tests" / "brought"), timeout=60,
    )  # fmt: skip
    if folder is not None:
        call("docker", "image", "prune", "-f", timeout=600)


def build_store(weed: Path) -> None:
    """Make the image that stands in for MinIO's.

    Args:
        weed: SeaweedFS's command.
    """
    with TemporaryDirectory() as context:
        shutil.copytree(Path(__file__).with_name("store"), context, dirs_exist_ok=True)
        shutil.copy(weed, Path(context) / "weed")
        call("docker", "build", "-q", "-t", STORE, context, timeout=300)


def _make_base(root: Path) -> None:
    """Make a stand-in of Python's image from Debian's packages: the same Python, 3.11."""
    sites = call("apt-get", "indextargets", "--format", "$(SITE)").split()
    # What it mounts and starts is gone with it, and it with us.
    call(
        "setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child",
        "debootstrap", "--variant=minbase", f"--include={PACKAGES}", RELEASE, str(root),
        *sites[:1], timeout=600,
    )  # fmt: skip
    (root / "usr/bin/python").symlink_to("python3")
    (root / "usr/lib/python3.11/EXTERNALLY-MANAGED").unlink()
    if CERTIFICATES.exists():  # a machine may have some of its own
        shutil.copy(CERTIFICATES, root / "etc/ssl/certs/ca-certificates.crt")
    settings = ["[global]", "cert = /etc/ssl/certs/ca-certificates.crt"]
    for wheels in _wheels():
        shutil.copytree(wheels, root / "opt/wheels", dirs_exist_ok=True)
        settings.append("find-links = /opt/wheels")
    (root / "etc/pip.conf").write_text("\n".join([*dict.fromkeys(settings), ""]))
    for cache in ("var/cache/apt/archives", "var/lib/apt/lists"):
        shutil.rmtree(root / cache)
    with subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE) as tar:
        subprocess.run(
            ["docker", "import", "-", BASE], stdin=tar.stdout, check=True, capture_output=True
        )


def _wheels() -> list[Path]:
    """Return the folders of wheels that pip looks into here, and so has to in the image."""
    settings = [line.partition("=") for line in call("pip", "config", "list").splitlines()]
    folders = [Path(value.strip("'\"")) for name, _, value in settings if ".find-links" in name]
    return sorted({folder for folder in folders if folder.is_dir()})
