"""A user's code as files: which ones there are, found without running any, and their digest.

To a module belong the packages that it is in, and the modules beside it that it imports, and those
that these import. What is installed beside is no part of it.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from loaders.running import Place
from mnist_merge import PACKAGES
from protocol.files import read_small
from protocol.wire.words import safe_line

from ..errors import LearningError

#: Bytes and files that a user's code has, at most.
MOST_BYTES, MOST_FILES = 16 << 20, 1_000
#: What has been imported wherever a net is run, under its own name.
_UNDERNEATH = ("numpy", "torch")


class CodeError(LearningError):
    """A user's code that can't be found, read or used; it says why, and what to do."""


@dataclass(frozen=True)
class Code:
    """What a user has named, and all files that belong to it.

    Args:
        module: its name; of a file, the file's without `.py`.
        name: of what is in it.
        files: content, by path from `root`, with slashes.
        root: folder from which the module is imported.
    """

    module: str
    name: str
    files: Mapping[str, bytes] = field(repr=False)
    root: Path = field(compare=False)

    @property
    def called(self) -> str:
        """How it is named in jobs and models: wherever the files are."""
        return f"{self.module}:{self.name}"

    @property
    def digest(self) -> str:
        """What tells these files from any others, in hexadecimal."""
        hash_ = hashlib.sha256()
        for path in sorted(self.files):
            content = self.files[path]
            hash_.update(f"{path}\0{len(content)}\0".encode() + content)
        return hash_.hexdigest()[:32]

    @property
    def is_installed(self) -> bool:
        """Whether it is where everything is that is installed, and nobody works on it."""
        return _is_installed(self.root)

    @property
    def place(self) -> Place:
        """Where it is imported from."""
        alone = f"{self.module}.py"
        here = "." not in self.module and alone in self.files
        return Place(self.module, self.name, self.root / alone if here else None)


def read(place: Place) -> Code:
    """Return a user's code, here, at the main node.

    Raises:
        CodeError: it is not there, or can't be read.
    """
    root = root_of(place.module) if place.file is None else place.file.absolute().parent
    if root is None:
        raise CodeError(
            f"{place}: there is no module {place.module!r} that is installed or on PYTHONPATH; a"
            " file is named by its path: FILE.py:NAME"
        )
    if place.file is not None:
        _check_file(place.file)
    return Code(place.module, place.name, gather(place.module, root), root)


def _check_file(file: Path) -> None:
    """Raise unless a file is there, and nodes can name it as a module."""
    if not file.is_file():
        raise CodeError(f"{file}: no such file")
    if not file.stem.isidentifier():
        better = re.sub(r"\W+|^(?=\d)", "_", file.stem).rstrip("_")
        raise CodeError(
            f"{file}: nodes look for a file by its name as a module's, which has letters, digits"
            f" and _ only: call it {better}.py, say"
        )


def root_of(module: str) -> Path | None:
    """Return the folder from which a module would be imported; None: there is none. It is not."""
    try:
        spec = importlib.util.find_spec(module.partition(".")[0])
    except (ImportError, ValueError, AttributeError):
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).parent
    return Path(spec.origin).parent if spec.origin and spec.has_location else None


def gather(module: str, root: Path) -> dict[str, bytes]:
    """Return the files that belong to a module, by path from the folder that it is imported from.

    Raises:
        CodeError: it is not there; a file can't be read; there are too many, or one bears a name
            that is taken.
    """
    found: dict[str, bytes] = {}
    wanted, alone = [module], f"{module}.py"
    seen: set[str] = set()
    top = module.partition(".")[0] if _is_installed(root) else ""
    while wanted:
        name = wanted.pop()
        if name in seen or (top and name.partition(".")[0] != top):
            continue
        seen.add(name)
        for path, package in _files(name, root):
            if path in found:
                continue
            _check_name(path, path == alone)
            found[path] = _content(root / path)
            _check_size(module, found)
            wanted += _imported(found[path], root / path, package)
    if not any(path in found for path in _paths(module)):
        raise CodeError(f"{module}: no such module in {root}")
    return found


def _is_installed(root: Path) -> bool:
    """Whether all that is installed is in a folder, and not what somebody has put together."""
    places = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return str(root) in places or root.name in ("site-packages", "dist-packages")


def _paths(module: str) -> tuple[str, str]:
    path = PurePosixPath(*module.split("."))
    return f"{path}.py", f"{path}/__init__.py"


def _files(module: str, root: Path) -> Iterator[tuple[str, str]]:
    """Yield the files of a module and its packages that are there, each with its package."""
    parts = module.split(".")
    for length in range(1, len(parts) + 1):
        name = ".".join(parts[:length])
        alone, package = _paths(name)
        if (root / package).is_file():
            yield package, name
        elif length == len(parts) and (root / alone).is_file():
            yield alone, ".".join(parts[:-1])


def _check_name(path: str, by_path: bool) -> None:
    """Raise if a module can't be imported because of its name: another one would be.

    Args:
        path: of the module.
        by_path: it is imported by it. Then only a name that a net's file imports itself is taken.
    """
    name = PurePosixPath(path).parts[0].removesuffix(".py")
    whose = "this project" if name in PACKAGES else name if name in _UNDERNEATH else "Python"
    taken = name in PACKAGES or name in sys.stdlib_module_names
    if name in _UNDERNEATH or (taken and not by_path):
        raise CodeError(
            f"{path}: {name!r} is the name of a module of {whose}'s, which would be imported"
            " instead; give it another"
        )


def _content(path: Path) -> bytes:
    try:
        return read_small(path, MOST_BYTES)
    except (OSError, ValueError) as error:
        raise CodeError(f"{path}: can't be read: {error}") from error


def _check_size(module: str, files: Mapping[str, bytes]) -> None:
    if len(files) > MOST_FILES or sum(map(len, files.values())) > MOST_BYTES:
        raise CodeError(
            f"{module}: more code belongs to it than {MOST_FILES:,} files or {MOST_BYTES >> 20} MB"
        )


def _imported(content: bytes, path: Path, package: str) -> list[str]:
    """Return the names of modules that a file imports, and of what might be some.

    Raises:
        CodeError: it is no Python.
    """
    found: list[str] = []
    for node in ast.walk(_parsed(content, path)):
        if isinstance(node, ast.Import):
            found += [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, package)
            if base is not None:
                found += [base, *(f"{base}.{each.name}".lstrip(".") for each in node.names)]
    return [name for name in found if name]


def _base(node: ast.ImportFrom, package: str) -> str | None:
    """Return the module that something is imported from; None: it is in no package."""
    if not node.level:
        return node.module or ""
    parts = package.split(".") if package else []
    if node.level > len(parts):
        return None
    return ".".join([*parts[: len(parts) - node.level + 1], *(node.module or "").split(".")]).strip(
        "."
    )


def _parsed(content: bytes, path: Path) -> ast.Module:
    try:
        return ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f", line {error.lineno:,}" if isinstance(error, SyntaxError) and error.lineno else ""
        why = error.msg if isinstance(error, SyntaxError) else str(error)
        raise CodeError(f"{path}{line}: no Python: {safe_line(why)}") from error


def classes_in(file: Path) -> list[str]:
    """Return the names of the classes that a file defines; none if it can't be read."""
    with suppress(CodeError):
        body = _always(_parsed(_content(file), file).body)
        return [each.name for each in body if isinstance(each, ast.ClassDef)]
    return []


def check_named(code: Code) -> None:
    """Raise unless what is named may be run at a node, by what its files say: they are not run.

    A main node names what nodes import. A class does no harm by being one; a function is called, so
    that it must be from code that says by itself what it is for.

    Raises:
        CodeError: it may not.
    """
    path = next(each for each in _paths(code.module) if each in code.files)
    if code.module.partition(".")[0] in {*PACKAGES, "mnist_merge"}:
        raise CodeError(f"{path}: it has the name of a module of this project's; give it another")
    body = [*_always(_parsed(code.files[path], code.root / path).body)]
    defined = [each for each in body if isinstance(each, ast.ClassDef | ast.FunctionDef)]
    named = [each for each in defined if each.name == code.name]
    if not named:
        there = ", ".join(dict.fromkeys(each.name for each in defined if each.name[0] != "_"))
        raise CodeError(
            f"{path} defines no class or function {code.name!r}; those that it defines:"
            f" {there or 'none'}{_elsewhere(code, path, body)}"
        )
    every = (_imported(content, code.root / path, "") for path, content in code.files.items())
    ours = any(name.partition(".")[0] == "learning" for names in every for name in names)
    if any(isinstance(each, ast.FunctionDef) for each in named) and not ours:
        raise CodeError(
            f"{code.called} is a function, and nothing of {path} is of a KubeModel's (from learning"
            " import KubeModel): name a class of torch's nn.Module, or of Learner"
        )


def _always(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a module, those in its `if`, `try` and `with` among them."""
    for each in body:
        yield each
        if isinstance(each, ast.If | ast.Try | ast.With):
            for inner in ("body", "handlers", "orelse", "finalbody"):
                for part in getattr(each, inner, []):
                    yield from _always(part.body if isinstance(part, ast.ExceptHandler) else [part])


def _elsewhere(code: Code, path: str, body: Iterable[ast.stmt]) -> str:
    """Return where a module has a name from that it does not define, in words."""
    package = code.module if path.endswith("__init__.py") else code.module.rpartition(".")[0]
    for each in body:
        if isinstance(each, ast.ImportFrom):
            for one in each.names:
                if code.name == (one.asname or one.name) and (base := _base(each, package)):
                    return f"; it has it from {base}: name {base}:{one.name}"
    return ""


def same(module: str, name: str, digest: str, roots: Iterable[Path]) -> tuple[Code | None, str]:
    """Return code of a digest, looked for in some folders and where modules are installed.

    Args:
        module: its name.
        name: of what is in it.
        digest: that its files must have.
        roots: folders in which it is looked for first.

    Returns:
        The code, or None and why there is none, in words.
    """
    why = f"there is no module {module!r} here"
    installed = root_of(module)
    for root in [*roots, *([] if installed is None else [installed])]:
        try:
            code = Code(module, name, gather(module, root), root)
        except CodeError as error:
            if any((root / path).exists() for path in _paths(module)):
                why = str(error)
            continue
        if code.digest == digest:
            return code, ""
        why = f"{module!r} is another version here ({code.digest[:8]}, in {root})"
    return None, why
