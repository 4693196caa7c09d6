"""Options as YAML: read as version 1.2 has it, within limits, and written so that both read it.

PyYAML reads 1.1, where `010` is eight, `1:30` ninety, `no` false and `1e-3` a text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, Node, ScalarNode

#: Of a file with options; all of them take two thousand.
MAX_BYTES = 64 << 10
#: Lists in lists: no option is more than a list.
MAX_DEPTH = 16
#: Places that stand for another one. A few that stand for each other are a billion.
MAX_ALIASES = 16

_TAG = "tag:yaml.org,2002:"
#: What a plain word is, in this order, and the letters that it may begin with: YAML 1.2, 10.3.2.
_KINDS = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
}  # fmt: skip
_PATTERNS = {kind: re.compile(rf"(?:{pattern})\Z") for kind, (pattern, _) in _KINDS.items()}


class _Loader(yaml.SafeLoader):
    """Builds plain values, and refuses a name that is there twice, of which one would win."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # none of those of 1.1
    yaml_constructors: ClassVar[dict[Any, Any]] = {}

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._aliases = 0

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        """Return the next node; not too deep, and not too often the same."""
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        if self.check_event(yaml.AliasEvent):
            self._aliases += 1
            if self._aliases > MAX_ALIASES:
                raise ConstructorError(None, None, f"more than {MAX_ALIASES} aliases", mark)
        if self._depth >= MAX_DEPTH:
            raise ConstructorError(None, None, f"more than {MAX_DEPTH} lists in lists", mark)
        self._depth += 1
        try:
            node: Node | None = super().compose_node(parent, index)
        finally:
            self._depth -= 1
        return node

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return values by name."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key, ScalarNode):
                if key.value in seen:
                    what = f"{key.value} is there twice; leave one out"
                    raise ConstructorError(None, None, what, key.start_mark)
                seen.add(key.value)
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found

    def plain(self, node: ScalarNode) -> object:
        """Return what a word means."""
        kind, text = node.tag.removeprefix(_TAG), str(self.construct_scalar(node))
        if not _PATTERNS[kind].match(text):
            raise ConstructorError(None, None, f"{text!r:.80} is no {kind}", node.start_mark)
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        if kind == "float":
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        return int(text[2:] if base != 10 else text, base)

    def refuse(self, node: Node) -> None:
        """Raise: there is nothing else in options."""
        raise ConstructorError(None, None, f"no option is a {node.tag!r:.80}", node.start_mark)


class _Dumper(yaml.SafeDumper):
    """Puts whatever one of the two versions would take for something else into quotes."""


for _kind, (_, _first) in _KINDS.items():
    _Loader.add_implicit_resolver(_TAG + _kind, _PATTERNS[_kind], _first)
    _Loader.add_constructor(_TAG + _kind, _Loader.plain)
_Dumper.add_implicit_resolver(_TAG + "float", _PATTERNS["float"], _KINDS["float"][1])
_Dumper.add_implicit_resolver(_TAG + "int", _PATTERNS["int"], _KINDS["int"][1])
for _kind in ("str", "seq", "map"):
    _Loader.add_constructor(_TAG + _kind, getattr(yaml.SafeLoader, f"construct_yaml_{_kind}"))
_Loader.add_constructor(None, _Loader.refuse)


def load(text: str) -> object:
    """Return what a text says.

    Raises:
        yaml.YAMLError, ValueError, TypeError, RecursionError: it is no YAML, or says too much.
    """
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def dump(values: Mapping[str, object]) -> str:
    """Return values by name as a text."""
    return str(yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False))
