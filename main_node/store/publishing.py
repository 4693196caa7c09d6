"""What a run came to, brought to where others look for it: a bucket, or a folder."""

from __future__ import annotations

import os
from pathlib import Path

from loaders import LoaderError, SourceUnreachable, places
from protocol.wire.secrets import shown

from ..errors import ConfigError, StorageError

#: In this order: whoever finds the last has them all.
FILES = ("model.safetensors", "metrics.json")


def check_place(place: str) -> None:
    """Look whether something could be published at a place, before a run that is to be.

    Raises:
        ConfigError: nothing can be: there is no such bucket, say, or no credentials for it.
        StorageError: nobody answers there.
    """
    try:
        where = places.at(place)
        if isinstance(where, Path):
            if where.exists() and not where.is_dir():
                raise ConfigError(f"--publish {place}: a file; name a folder")
            # The nearest folder that is there is that in which others are made.
            whole = (where, *where.absolute().parents)
            above = next(each for each in whole if os.access(each, os.F_OK))
            if not os.access(above, os.W_OK | os.X_OK):
                raise ConfigError(f"--publish {place}: {above} can't be written to by you")
        elif where.way.scheme != "s3":
            raise ConfigError(
                f"--publish {shown(place)}: there are s3://bucket/prefix and local folders"
            )
        else:
            places.entries(where, 1)
    except SourceUnreachable as error:
        raise StorageError(f"--publish {error}") from error
    except LoaderError as error:
        raise ConfigError(f"--publish {error}") from error


def publish(run: Path, place: str) -> None:
    """Write a run's model, then its metrics, to a place: each whole or not at all.

    Args:
        run: its directory.
        place: a folder, or `s3://bucket/prefix`; what is there under these names is replaced.

    Raises:
        StorageError: they can't be written there.
    """
    try:
        where = places.at(place)
        for name in FILES:
            places.write(where / name, (run / name).read_bytes())
    except (LoaderError, OSError) as error:
        raise StorageError(f"{error}") from error
