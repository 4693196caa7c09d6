"""A model that is elsewhere, brought here for as long as it is used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from loaders import LoaderError, places

NAME = "model.safetensors"


@contextmanager
def at_hand(model: str) -> Iterator[Path]:
    """Have a model on this machine; what is wrong with it is told by the name it was given by.

    Args:
        model: a path, or a place: a file there, or a folder with a model.safetensors.

    Raises:
        ModelError: it can't be had.
    """
    from learning import ModelError

    try:
        where = places.at(model)
    except LoaderError as error:
        raise ModelError(str(error)) from error
    if isinstance(where, Path):
        yield where
        return
    with TemporaryDirectory(prefix="mnist-model-") as folder:
        path = Path(folder) / NAME
        try:
            if places.is_folder(where):
                where = where / NAME
            path.write_bytes(places.read(where))
        except LoaderError as error:
            raise ModelError(str(error)) from error
        except OSError as error:
            raise ModelError(f"{model}: can't be kept while it is used: {error}") from error
        try:
            yield path
        except ModelError as error:
            raise ModelError(str(error).replace(str(path), str(where))) from error
