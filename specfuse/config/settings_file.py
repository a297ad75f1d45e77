"""Reading a YAML file into a typed settings object, with errors a person can act on.

Every problem of a file is reported at once, each with its line, its key, and what to write instead.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from specfuse.config import document
from specfuse.config.document import children
from specfuse.errors import Misconfigured

Key = tuple[str | int, ...]
"""Where a value is: the keys and list positions that lead to it."""

Model = TypeVar("Model", bound=BaseModel)

_MOST_PROBLEMS: Final = 50
"""More are not told; nobody mends so many at once."""
_PASSWORD: Final = re.compile(r"(?<=://)[^/\s]*@")
"""What is before the host of a URL may be a password, and is not shown."""

_LONGEST_SHOWN: Final = 100
"""Longer values and keys are cut in messages."""

_TEXT_TAGS = frozenset({"tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"})
_READ_AS = {"int": "a whole number", "float": "a number", "bool": "a boolean", "null": "nothing"}
"""What YAML takes a word for, if not for text, by the last part of its tag."""

_WORDS = (
    ("Value error, ", ""),
    ("Input should be ", "must be "),
    ("Input should ", "must "),
    ("Tuple should ", "must "),
    ("Dictionary should ", "must "),
    ("String should ", "must "),
    (" after validation", ""),
    ("valid tuple", "list"),
    ("valid dictionary", "mapping"),
    ("valid integer", "whole number"),
    ("valid number", "number"),
    ("valid boolean", "boolean: true or false"),
)
"""pydantic's words, and ours. The author of the file need not know what a tuple is."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with the value at `key`, and what would be right."""

    key: Key
    text: str


class Contradictions(ValueError):
    """Values that are right one by one and wrong together. Raised by models' own validators."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(
            "; ".join(f"{_dotted(problem.key)}: {problem.text}" for problem in problems)
        )
        self.problems = tuple(problems)


def read(
    path: Path,
    model: type[Model],
    overrides: Mapping[str, object] | None = None,
) -> Model:
    """The settings in the file at `path`; `overrides` replace its top-level keys.

    Raises:
        Misconfigured: the file cannot be read, or its content is wrong.
    """
    return parse(_text_of(path), model, source=str(path), overrides=overrides)


def read_mapping(path: Path) -> dict[str, Any]:
    """The values in the file at `path`, whatever they mean.

    Raises:
        Misconfigured: the file cannot be read, or is no mapping of settings.
    """
    return parse_mapping(_text_of(path), source=str(path))


def parse_mapping(text: str, *, source: str) -> dict[str, Any]:
    """The same of a text.

    Raises:
        Misconfigured: it is no mapping of settings.
    """
    values, lines, problems = _load(text, source)
    if problems:
        raise _misconfigured(source, problems, lines)
    return values


def _text_of(path: Path) -> str:
    source = str(path)
    try:
        with path.open("rb") as file:
            content = file.read(document.MOST_BYTES + 1)
    except OSError as error:
        raise Misconfigured(f"{source}: cannot be read: {error}", source=source) from error
    if len(content) > document.MOST_BYTES:
        raise document.too_large(source)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        problem = "cannot be read: not UTF-8 text; save it as UTF-8"
        raise Misconfigured(f"{source}:{line}: {problem}", source=source) from error


def parse(
    text: str,
    model: type[Model],
    *,
    source: str,
    overrides: Mapping[str, object] | None = None,
) -> Model:
    """The settings that the YAML document `text` holds; `source` names it in errors.

    Raises:
        Misconfigured: the content is wrong.
    """
    values, lines, problems = _load(text, source)
    try:
        settings = model.model_validate(values | dict(overrides or {}))
    except ValidationError as error:
        problems += islice(_problems(error, model), _MOST_PROBLEMS + 1)
    if problems:
        raise _misconfigured(source, problems, lines)
    return settings


def _load(text: str, source: str) -> tuple[dict[str, Any], dict[Key, int], list[Problem]]:
    """The document, the line of each of its keys, and the keys that are given twice."""
    root = document.compose(text, source)
    lines: dict[Key, int] = {}
    problems: list[Problem] = []
    _locate(root, (), lines, problems)
    if unquoted := list(islice(_keys_that_are_no_text(root, ()), _MOST_PROBLEMS + 1)):
        raise _misconfigured(source, unquoted, lines)
    values = document.construct(root, source)
    if not isinstance(values, dict):
        raise Misconfigured(f"{source}: must be a mapping of settings", source=source)
    return values, lines, problems


def _locate(
    node: yaml.Node | None, key: Key, lines: dict[Key, int], problems: list[Problem]
) -> None:
    """Notes the line of every key and list item below `node`, and the keys that are given twice."""
    for part, position, value in children(node):
        inner = (*key, part)
        line = position.start_mark.line + 1
        if inner in lines:
            problems.append(Problem(inner, f"given twice, on lines {lines[inner]} and {line}"))
        else:
            lines[inner] = line
            _locate(value, inner, lines, problems)


def _keys_that_are_no_text(node: yaml.Node | None, key: Key) -> Iterator[Problem]:
    """Keys such as 1, no and null, which YAML reads as something other than what they look like."""
    for part, position, value in children(node):
        if isinstance(node, yaml.MappingNode) and position.tag not in _TEXT_TAGS:
            read_as = _READ_AS.get(position.tag.rpartition(":")[2], "something else than text")
            remedy = f"keys are text, so put it in quotes: '{_plain(str(part))}'"
            yield Problem((*key, part), f"this key is read as {read_as}; {remedy}")
        yield from _keys_that_are_no_text(value, (*key, part))


def _problems(error: ValidationError, model: type[BaseModel]) -> Iterator[Problem]:
    for details in error.errors():
        if _follows_from_another(details):
            continue
        cause = details.get("ctx", {}).get("error")
        if isinstance(cause, Contradictions):
            inside = details["loc"]
            for problem in cause.problems:
                yield Problem((*inside, *problem.key), problem.text)
        else:
            # "[key]" is pydantic's word for what is wrong with the key itself.
            key = tuple(part for part in details["loc"] if part != "[key]")
            yield Problem(key, _said(details, model))


def _follows_from_another(details: ErrorDetails) -> bool:
    """Whether a list is only too short because its items, each reported, are wrong."""
    if details["type"] != "too_short":
        return False
    return bool(len(details["input"]) >= details["ctx"]["min_length"])


def _said(details: ErrorDetails, model: type[BaseModel]) -> str:
    """What pydantic found, in the terms of the settings file."""
    kind, value = details["type"], details["input"]
    if kind == "extra_forbidden":
        return _unknown_key(details["loc"], model)
    if kind == "missing":
        return "is required"
    if kind == "model_type":
        return f"{_shown(value)}: must be a mapping; known keys: {_listed(details['loc'], model)}"
    said = details["msg"]
    for pydantic_says, we_say in _WORDS:
        said = said.replace(pydantic_says, we_say)
    return said if kind in ("too_short", "too_long") else f"{_shown(value)}: {said}"


def _shown(value: object) -> str:
    """The value as a message names it."""
    if isinstance(value, dict):
        return "a mapping"
    return "a list" if isinstance(value, list | tuple) else _cut(_PASSWORD.sub("***@", repr(value)))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _unknown_key(key: Key, model: type[BaseModel]) -> str:
    around = key[:-1]
    close = difflib.get_close_matches(str(key[-1]), _keys_of(around, model), n=1)
    return (
        f"unknown key; did you mean {close[0]}?"
        if close
        else f"unknown key; known: {_listed(around, model)}"
    )


def _listed(key: Key, model: type[BaseModel]) -> str:
    return ", ".join(_keys_of(key, model))


def _keys_of(key: Key, model: type[BaseModel]) -> list[str]:
    """The keys that the mapping at `key` may have, sorted."""
    schema: dict[str, Any] = model.model_json_schema()
    here = schema
    for part in key:
        here = _inside(here, part, schema["$defs"])
    return sorted(here.get("properties", ()))


def _inside(schema: dict[str, Any], part: str | int, definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema of what `part` leads to, references and optionals resolved."""
    found: dict[str, Any]
    if isinstance(part, int):
        found = schema.get("items", {})
    else:
        by_pattern = schema.get("patternProperties", {}).values()
        found = schema.get("properties", {}).get(part) or next(iter(by_pattern), {})
    for alternative in found.get("anyOf", (found,)):
        if "$ref" in alternative:
            return dict(definitions[alternative["$ref"].rpartition("/")[2]])
        if alternative.get("type") != "null":
            return dict(alternative)
    return {}


def _misconfigured(source: str, found: list[Problem], lines: dict[Key, int]) -> Misconfigured:
    """The error for these problems, told in the order of the file; what it lacks comes last."""
    numbers = {problem.key: _line(problem.key, lines) for problem in found}
    problems = sorted(found, key=lambda problem: numbers[problem.key] or math.inf)
    rows = [
        f"{source}{_at(numbers[problem.key])}: {_dotted(problem.key)}: {problem.text}"
        for problem in problems[:_MOST_PROBLEMS]
    ]
    if len(problems) > _MOST_PROBLEMS:
        rows.append(f"{source}: there are more problems than these {_MOST_PROBLEMS}")
    return Misconfigured("\n".join(rows), source=source, key=_dotted(problems[0].key))


def _line(key: Key, lines: dict[Key, int]) -> int | None:
    """The line of the key, or of the nearest mapping around it that is in the file."""
    for length in range(len(key), 0, -1):
        if key[:length] in lines:
            return lines[key[:length]]
    return None


def _at(line: int | None) -> str:
    return "" if line is None else f":{line}"


def _dotted(key: Key) -> str:
    """`ensembles.experts.members[2]`."""
    dotted = "".join(f"[{part}]" if isinstance(part, int) else f".{_plain(part)}" for part in key)
    return dotted.removeprefix(".")


def _plain(key: str) -> str:
    """The key in one line, without what a terminal would obey."""
    return _cut(key if key.isprintable() else repr(key)[1:-1])
