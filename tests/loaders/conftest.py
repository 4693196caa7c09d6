"""Stores that the tests of this folder share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from ..stores import STORES, Store

BUCKET = "datasets"


@pytest.fixture(scope="session", params=STORES)
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    """Return a real server with an empty bucket, each kind in turn."""
    made = STORES[request.param](tmp_path_factory.mktemp(request.param))
    try:
        made.start()
        made.fs.mkdir(BUCKET)
        yield made
    finally:
        made.kill()


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nobody's endpoint and credentials in the environment."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "S3_PREFIX"))]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def store(running: Store, alone: None, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Return a server that the environment tells how to reach."""
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    return running
