"""Pictures in folders by class, with or without `train/` and `test/` above these."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from protocol.wire.words import plural, safe_line

from ..decoding import ENDINGS
from ..errors import CorruptDataset, DatasetNotFound, LoaderError
from ..places import entries, is_folder, naturally, read_each
from . import DEEP, Asked, some

if TYPE_CHECKING:
    from ..places import Where
    from ..rows import Array, ArraySource, Labels, Numbered

WHAT = "a folder of pictures by class"
ORDER = 50
NAMES = ()
#: Names of folders that are splits, in small letters: what is tried is the first that is there.
_TRAIN, _TEST = ("train", "training"), ("test", "testing", "val", "valid", "validation")
#: What macOS packs beside folders into an archive: a copy of these, of files without a picture.
_NO_CLASS = "__MACOSX"
#: Of one folder.
_MOST_ENTRIES = 10_000_000
#: Pictures of several sizes are scaled to one, of so many pixels a side at most.
_MOST_SIDE = 64
#: Pictures that are read together; damaged ones that are told.
_TOGETHER, _TOLD = 1000, 5
#: Bytes of decoded pictures that are held until it is known what all are made; others are read
#: again then: a folder of photographs has more pixels than memory has room for.
_HELD = 1 << 29


class _Labelled(NamedTuple):
    """A picture and its class."""

    file: Where
    class_: str


class _Look(NamedTuple):
    """What a picture is.

    Args:
        size: height and width.
        grey: whether it has no colours, though it may be kept in some.
        pixels: (height, width), or (height, width, 3); None: it is to be read again.
    """

    size: tuple[int, int]
    grey: bool
    pixels: Array | None


def knows(asked: Asked) -> bool:
    """Whether there are pictures in folders below the one that is named."""
    return any(_is_picture(file) and file.parent != asked.where for file in asked.files)


def almost(asked: Asked) -> str:
    """Return what to do with pictures that are in no folders of classes; empty: there are none."""
    alone = [each for each in asked.files if _is_picture(each)]
    if not alone:
        return ""
    where = safe_line(asked.name.rstrip("/"))
    return (
        "pictures are put into a folder for each class, whose name is the class's:"
        f" {where}/cat/{safe_line(alone[0].name)}, {where}/dog/... (or {where}/train/cat/... and"
        f" {where}/test/cat/...)"
    )


def open_source(asked: Asked) -> ArraySource:
    """Return the pictures of a folder as a source; the folders' names are the classes'.

    They are in the order of their own names, numbers in these as numbers, whatever their class: so
    that files that were numbered before they were put into folders keep their order.

    Raises:
        DatasetNotFound: a class or a split has no picture.
        CorruptDataset: some can't be read.
    """
    import numpy as np

    from ..rows import ArraySource, Field, Form

    found = {split: _labelled(folder, asked) for split, folder in _splits(asked).items()}
    names = sorted({each.class_ for split in found.values() for each in split})
    if not names:
        raise DatasetNotFound(f"{asked.name}: no picture in any folder of a class")
    classes = _numbered(names)
    numbers = {name: number for number, name in enumerate(classes)}
    looks: dict[str, list[_Look]] = {}
    room = _HELD
    for split, files in found.items():
        looks[split] = _looked(files, room)
        room -= sum(each.pixels.nbytes for each in looks[split] if each.pixels is not None)
    arrays = _alike(asked, found, looks)
    splits: dict[str, tuple[Mapping[str, Array], Labels]] = {}
    for split, files in found.items():
        truth = np.array([numbers[each.class_] for each in files], np.int64)
        splits[split] = {"image": arrays[split]}, truth
    shape = next(iter(arrays.values())).shape[1:]
    source = ArraySource(asked.name, Form({"image": Field("uint8", shape)}, classes), splits)
    above = len(asked.where.parts)
    source.called = lambda split, number: "/".join(found[split][number].file.parts[above:])
    return source


def _is_picture(file: Where) -> bool:
    return file.suffix.lower() in ENDINGS and not file.name.startswith(".")


def _folders(folder: Where) -> list[Where]:
    there = [
        each for each in entries(folder, _MOST_ENTRIES)
        if each.name[:1] != "." and each.name != _NO_CLASS
    ]  # fmt: skip
    return sorted(filter(is_folder, there), key=lambda each: each.name)


def _home(asked: Asked) -> Where:
    """Return the folder that has those of classes or splits: the one that is named, or below.

    An archive that is unpacked is often a folder alone in another, and `images` above `train`: a
    folder that is the only one of its own, and has others and no picture, is none of a class.
    """
    home = asked.where
    for _ in range(DEEP):  # as deep as is looked, whether there are any pictures
        below = _folders(home)
        if len(below) != 1 or below[0].name.lower() in (*_TRAIN, *_TEST) or not _folders(below[0]):
            break
        if any(map(_is_picture, entries(below[0], _MOST_ENTRIES))):
            break
        home = below[0]
    if home != asked.where:
        asked.say(f"{asked.name}: its pictures are in {home}")
    return home


def _splits(asked: Asked) -> dict[str, Where]:
    """Return the folder of each split: those below, or the one that has them all."""
    home = _home(asked)
    below = {each.name.lower(): each for each in _folders(home)}
    train = next((below[name] for name in _TRAIN if name in below), None)
    test = next((below[name] for name in _TEST if name in below), None)
    if train is None:
        return {"train": home}
    if test is None:
        return {"train": train}
    left = [
        name for name in below if name in (*_TRAIN, *_TEST) and below[name] not in (train, test)
    ]
    if left or test.name.lower() not in _TEST[:2]:
        rest = f"; {some(left)} is not read" if left else ""
        asked.say(f"{asked.name}: {test.name} is the test set{rest}")
    return {"train": train, "test": test}


def _labelled(folder: Where, asked: Asked) -> list[_Labelled]:
    """Return the pictures below a folder, and their classes, in order.

    Raises:
        DatasetNotFound: the folder of a class has none.
    """
    found: list[_Labelled] = []
    left = 0
    for class_ in _folders(folder):
        there = entries(class_, _MOST_ENTRIES)
        pictures = [each for each in there if _is_picture(each)]
        if not pictures:
            raise DatasetNotFound(
                f"{class_}: a class without a picture ({', '.join(ENDINGS)}); it holds"
                f" {some(sorted(each.name for each in there)) or 'nothing'}"
            )
        found += [_Labelled(each, class_.name) for each in pictures]
        left += len(there) - len(pictures)
    if left:
        asked.say(
            f"{folder}: {plural(left, 'file')} in its folders of classes no picture, left out"
        )
    return sorted(found, key=lambda each: (naturally(each.file), each.class_))


def _numbered(names: list[str]) -> tuple[str, ...] | Numbered:
    """Return classes, by their numbers where these are just their names."""
    from ..rows import Numbered

    whole = [str(number) for number in range(len(names))]
    return Numbered(len(names)) if sorted(names) == sorted(whole) else tuple(names)


def _looked(files: list[_Labelled], room: int) -> list[_Look]:
    """Return what the pictures of files are, and their pixels while there is room for them.

    Args:
        files: of pictures.
        room: bytes.

    Raises:
        CorruptDataset: some can't be read; they are named.
        LoaderError: they can't be reached.
    """
    from ..decoding import pixels_of, quiet

    looks: list[_Look] = []
    damaged: list[str] = []
    with quiet():
        for file, content in _contents(files):
            try:
                pixels = pixels_of(content, str(file))
            except LoaderError as error:
                damaged.append(str(error))
                continue
            room -= pixels.nbytes
            looks.append(_look(pixels, keep=room >= 0))
    if damaged:
        more = f"; and {len(damaged) - _TOLD:,} more" if len(damaged) > _TOLD else ""
        raise CorruptDataset(
            f"{'; '.join(damaged[:_TOLD])}{more}: replace {plural(len(damaged), 'such file')}, or"
            " take them away"
        )
    return looks


def _contents(files: list[_Labelled]) -> Iterator[tuple[Where, bytes]]:
    """Yield files, and all bytes of each."""
    for first in range(0, len(files), _TOGETHER):
        together = [each.file for each in files[first : first + _TOGETHER]]
        yield from zip(together, read_each(together), strict=True)


def _look(pixels: Array, keep: bool) -> _Look:
    grey = pixels.ndim == 2 or _is_grey(pixels)
    return _Look((pixels.shape[0], pixels.shape[1]), grey, pixels if keep else None)


def _pixels(files: list[_Labelled], looks: list[_Look]) -> Iterator[Array]:
    """Yield the pixels of pictures in order; of those that were not held, by reading them again.

    Raises:
        CorruptDataset: one is another by now.
    """
    from ..decoding import pixels_of

    again = _contents(
        [file for file, look in zip(files, looks, strict=True) if look.pixels is None]
    )
    for look in looks:
        if look.pixels is not None:
            yield look.pixels
            continue
        file, content = next(again)
        pixels = pixels_of(content, str(file))
        if _look(pixels, keep=False) != look:
            raise CorruptDataset(f"{file}: it has changed while it was read; read it again")
        yield pixels


def _alike(
    asked: Asked, files: Mapping[str, list[_Labelled]], looks: Mapping[str, list[_Look]]
) -> dict[str, Array]:
    """Return pictures of one size and of one kind, as one array a split.

    They are grey if all are, though some may be in colours that are all grey.
    """
    import numpy as np

    every = [each for split in looks.values() for each in split]
    grey = all(each.grey for each in every)
    sizes = {each.size for each in every}
    size = next(iter(sizes)) if len(sizes) == 1 else _common([each.size for each in every])
    if len(sizes) > 1:
        asked.say(
            f"{asked.name}: pictures of {len(sizes):,} sizes, from {_told(min(sizes))} to"
            f" {_told(max(sizes))} pixels; all are scaled to {_told(size)}"
        )
    made: dict[str, Array] = {}
    for split, some_ in looks.items():
        made[split] = np.empty((len(some_), *size, *(() if grey else (3,))), np.uint8)
        for row, each in enumerate(_as_kind(_pixels(files[split], some_), grey)):
            made[split][row] = each if each.shape[:2] == size else _scaled(each, size)
    return made


def _is_grey(picture: Array) -> bool:
    red = picture[..., 0]
    return bool((red == picture[..., 1]).all() and (red == picture[..., 2]).all())


def _as_kind(pictures: Iterable[Array], grey: bool) -> Iterator[Array]:
    for each in pictures:
        if grey:
            yield each if each.ndim == 2 else each[..., 0]
        else:
            yield each if each.ndim == 3 else each[..., None].repeat(3, axis=2)


def _common(sizes: list[tuple[int, int]]) -> tuple[int, int]:
    """Return one size for pictures of several: a square of their middle side."""
    sides = sorted(map(min, sizes))
    side = min(_MOST_SIDE, sides[len(sides) // 2])
    return side, side


def _told(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _scaled(picture: Array, size: tuple[int, int]) -> Array:
    from PIL import Image

    from ..decoding import fitted

    return fitted(Image.fromarray(picture), size)
