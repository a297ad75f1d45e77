"""`values.yaml` as a tree: every key with its prose, its default and its fragment of a schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

_MARK: Final = "@schema"
_DECIDES_ON_KEYS: Final = frozenset({"$ref", "properties", "additionalProperties"})


class Faults(Exception):
    """What is wrong with a file, a line for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))


@dataclass(frozen=True, slots=True)
class Value:
    """A key of the file."""

    path: tuple[str, ...]
    """The keys that lead to it, its own last."""
    prose: str
    """What is said of it, in Markdown."""
    default: Any
    fragment: Mapping[str, Any]
    """What is said of its schema; empty where everything follows from the default."""
    children: tuple[Value, ...]
    """The keys below it, in the order of the file; none if it is one value."""

    @property
    def name(self) -> str:
        """`fuser.service.type`."""
        return ".".join(self.path)


def read(path: Path) -> tuple[Value, ...]:
    """The top-level keys of the file.

    Raises:
        Faults: keys without prose, or with a fragment that is no mapping.
    """
    return parse(path.read_text(), str(path))


def parse(text: str, source: str) -> tuple[Value, ...]:
    """The top-level keys of the document `text`; `source` names it in errors.

    Raises:
        Faults: keys without prose, or with a fragment that is no mapping.
    """
    reader = _Reader(text, source)
    root = yaml.compose(text, yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        raise Faults([f"{source}: must be a mapping of values"])
    values = tuple(reader.values(root, ()))
    if reader.problems:
        raise Faults(reader.problems)
    return values


class _Reader:
    """Goes through a document, and notes what is wrong."""

    def __init__(self, text: str, source: str) -> None:
        self.problems: list[str] = []
        self._lines = text.splitlines()
        self._source = source

    def values(self, node: yaml.Node, above: tuple[str, ...]) -> Iterator[Value]:
        for key, value in node.value:
            path = (*above, str(key.value))
            said = _comment(self._lines, key.start_mark.line)
            prose, mark, fragment = said.partition(_MARK)
            if not prose.strip():
                self._wrong(key, path, "has no prose; write a comment directly above it")
            schema = self._fragment(fragment, key, path) if mark else {}
            inside = self.values(value, path) if _has_keys_of_its_own(value, schema) else ()
            default = yaml.safe_load(yaml.serialize(value))
            yield Value(path, prose.strip(), default, schema, tuple(inside))

    def _fragment(self, text: str, key: yaml.Node, path: tuple[str, ...]) -> dict[str, Any]:
        try:
            fragment = yaml.safe_load(text)
        except yaml.YAMLError:
            fragment = None
        if isinstance(fragment, dict):
            return fragment
        self._wrong(key, path, f"{_MARK} {text.strip()}: must be a mapping, as in {{minimum: 1}}")
        return {}

    def _wrong(self, key: yaml.Node, path: tuple[str, ...], problem: str) -> None:
        line = key.start_mark.line + 1
        self.problems.append(f"{self._source}:{line}: {'.'.join(path)}: {problem}")


def _has_keys_of_its_own(node: yaml.Node, fragment: Mapping[str, Any]) -> bool:
    in_block = isinstance(node, yaml.MappingNode) and not node.flow_style
    return in_block and not _DECIDES_ON_KEYS & fragment.keys()


def _comment(lines: Sequence[str], line: int) -> str:
    """The comment that ends right above a line, which is counted from 0."""
    first = line
    while first and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    return "\n".join(
        text.lstrip().removeprefix("#").removeprefix(" ") for text in lines[first:line]
    )
