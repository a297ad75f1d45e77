"""A YAML document, read within bounds: no file may cost more than a moment, or end in a traceback.

It holds mappings, lists, text, numbers, booleans and nothing. Dates are text, tags are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import yaml
from yaml.reader import ReaderError

from specfuse.errors import Misconfigured

MOST_BYTES: Final = 1_048_576
_MOST_LEVELS: Final = 100
_MOST_VALUES: Final = 50_000
_LONGEST_NUMBER: Final = 100
_INTEGERS: Final = range(-(2**63), 2**64)
"""What fits in 64 bits, with a sign or without."""

_PREFIX: Final = "tag:yaml.org,2002:"
_TEXT_NONETHELESS: Final = (f"{_PREFIX}timestamp", f"{_PREFIX}value")
_UNWANTED: Final = re.compile("[\0\ud800-\udfff]")
"""Escapes can say them; but no path, name or message can hold them."""


def compose(text: str, source: str) -> yaml.Node | None:
    """The document's nodes, with what aliases refer to in their place; None if it is empty.

    Raises:
        Misconfigured: it is no YAML, has what settings have no use for, or is beyond the bounds.
            The message begins with the source and, where it is known, the line.
    """
    if len(text.encode(errors="replace")) > MOST_BYTES:
        raise too_large(source)
    with _errors_of(source):
        root = _read(text)
        _refuse_endless(root)
        return root


def construct(root: yaml.Node | None, source: str) -> Any:  # noqa: ANN401 (whatever it holds)
    """The value of composed nodes, which are of no use afterwards.

    Raises:
        Misconfigured: a value cannot be what it looks like.
    """
    with _errors_of(source):
        return None if root is None else _Loader("").construct_document(root)


def children(node: yaml.Node | None) -> Iterator[tuple[str | int, yaml.Node, yaml.Node]]:
    """Per key or list position: what it is, the node it stands at, and its value."""
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            yield str(name.value), name, value
    elif isinstance(node, yaml.SequenceNode):
        for position, value in enumerate(node.value):
            yield position, value, value


def too_large(source: str) -> Misconfigured:
    """The error for a file of more than `MOST_BYTES`."""
    return Misconfigured(
        f"{source}: is larger than {MOST_BYTES} bytes, the most that settings may have; "
        "is it the right file?",
        source=source,
    )


class _Refused(yaml.MarkedYAMLError):
    """It is YAML, but no settings."""


class _Loader(yaml.SafeLoader):
    """Composes within bounds; knows no dates, and takes no tags."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (as its base has it)
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in _TEXT_NONETHELESS]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._levels = 0
        self._values = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:  # noqa: ANN401
        """The next node; the base's is recursive, which the count of levels bounds."""
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        self._values += 1
        if self._values > _MOST_VALUES:
            raise _refused(f"more than {_MOST_VALUES} values; leave some out", event)
        if self._levels > _MOST_LEVELS:
            raise _refused(f"nested more than {_MOST_LEVELS} levels deep; flatten it", event)
        if (tag := getattr(event, "tag", None)) is not None:
            raise _refused(f"tags are not taken; leave out {tag}", event)
        self._levels += 1
        node = super().compose_node(parent, index)
        self._levels -= 1
        if isinstance(node, yaml.ScalarNode) and _UNWANTED.search(node.value):
            raise _refused("holds a NUL or half a surrogate pair; leave that out", node)
        return node

    def integer(self, node: yaml.ScalarNode) -> int:
        """The whole number that the node looks like."""
        if len(node.value) <= _LONGEST_NUMBER:
            with suppress(ValueError):  # 0x_ looks like one, too
                value: int = self.construct_yaml_int(node)
                if value in _INTEGERS:
                    return value
        raise _refused("not a whole number of 64 bits; make it smaller", node)

    def number(self, node: yaml.ScalarNode) -> float:
        """The number that the node looks like."""
        if len(node.value) <= _LONGEST_NUMBER:
            value: float = self.construct_yaml_float(node)
            return value
        raise _refused(f"a number of over {_LONGEST_NUMBER} characters; round it", node)


_Loader.add_constructor(f"{_PREFIX}int", _Loader.integer)
_Loader.add_constructor(f"{_PREFIX}float", _Loader.number)


def _read(text: str) -> yaml.Node | None:
    try:
        loader = _Loader(text)
    except ReaderError as error:
        line = text.count("\n", 0, error.position)
        mark = yaml.Mark("", error.position, line, 0, None, 0)
        problem = f"the character U+{error.character:04X} is not allowed"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark) from error
    try:
        return loader.get_single_node()
    except (ValueError, OverflowError) as error:  # an escape, or a directive's number, beyond sense
        raise yaml.MarkedYAMLError(problem=str(error), problem_mark=loader.get_mark()) from error


def _refuse_endless(root: yaml.Node | None) -> None:
    """Aliases may refer to themselves, or multiply a short file into an endless one."""
    waiting, seen = [(root, 0)], 0
    while waiting:
        node, levels = waiting.pop()
        seen += 1
        if node is not None and (levels > _MOST_LEVELS or seen > _MOST_VALUES):
            problem = f"more than {_MOST_VALUES} values, or {_MOST_LEVELS} levels"
            raise _refused(f"{problem}; do its aliases refer to themselves?", node)
        for _, name, value in children(node):
            if not isinstance(name, yaml.ScalarNode) and isinstance(node, yaml.MappingNode):
                raise _refused("a key that is a mapping or a list; keys are text", name)
            waiting.append((value, levels + 1))


def _refused(text: str, at: yaml.Event | yaml.Node) -> _Refused:
    mark: Any = at.start_mark  # the stubs' type is also that of libyaml's
    return _Refused(problem=text, problem_mark=mark)


@contextmanager
def _errors_of(source: str) -> Iterator[None]:
    """Makes what is wrong with the document an error about the source."""
    try:
        yield
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = "" if mark is None else f":{mark.line + 1}"
        kind = None if isinstance(error, _Refused) else "not YAML"
        said = ": ".join(part for part in (kind, error.context, error.problem) if part)
        raise Misconfigured(f"{source}{line}: {said}", source=source) from error
