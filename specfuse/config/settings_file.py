"""Reading a YAML file into a typed settings object, with errors a person can act on.

Every problem of a file is reported at once, each with its line, its key, and what to write instead.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from specfuse.errors import Misconfigured

Key = tuple[str | int, ...]
"""Where a value is: the keys and list positions that lead to it."""

Model = TypeVar("Model", bound=BaseModel)

_MOST_VALUES = 100_000

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


def read(path: Path, model: type[Model], overrides: Mapping[str, object] | None = None) -> Model:
    """The settings in the file at `path`; `overrides` replace its top-level keys.

    Raises:
        Misconfigured: the file cannot be read, or its content is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{path}: cannot be read: {error}", source=str(path)) from error
    return parse(text, model, source=str(path), overrides=overrides)


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
    document, lines, problems = _load(text, source)
    try:
        settings = model.model_validate(document | dict(overrides or {}))
    except ValidationError as error:
        problems += _problems(error, model)
    if problems:
        raise _misconfigured(source, problems, lines)
    return settings


def _load(text: str, source: str) -> tuple[dict[str, Any], dict[Key, int], list[Problem]]:
    """The document, the line of each of its keys, and the keys that are given twice."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        _refuse_endless(root, source)
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise Misconfigured(f"{source}: not YAML: {error}", source=source) from error
    if not isinstance(document, dict):
        raise Misconfigured(f"{source}: must be a mapping of settings", source=source)
    lines: dict[Key, int] = {}
    problems: list[Problem] = []
    _locate(root, (), lines, problems)
    if unquoted := list(_keys_that_are_no_text(root, ())):
        raise _misconfigured(source, unquoted, lines)
    return document, lines, problems


def _refuse_endless(root: yaml.Node | None, source: str) -> None:
    """Aliases may refer to themselves, or multiply a short file into an endless one."""
    waiting, seen = [root], 0
    while waiting:
        waiting += [value for _, _, value in _children(waiting.pop())]
        seen += 1
        if seen > _MOST_VALUES:
            problem = f"more than {_MOST_VALUES} values; do its aliases refer to themselves?"
            raise Misconfigured(f"{source}: {problem}", source=source)


def _locate(
    node: yaml.Node | None, key: Key, lines: dict[Key, int], problems: list[Problem]
) -> None:
    """Notes the line of every key and list item below `node`, and the keys that are given twice."""
    for part, position, value in _children(node):
        inner = (*key, part)
        line = position.start_mark.line + 1
        if inner in lines:
            problems.append(Problem(inner, f"given twice, on lines {lines[inner]} and {line}"))
        else:
            lines[inner] = line
            _locate(value, inner, lines, problems)


def _keys_that_are_no_text(node: yaml.Node | None, key: Key) -> Iterator[Problem]:
    """Keys such as 1, no and null, which YAML reads as something other than what they look like."""
    for part, position, value in _children(node):
        if isinstance(node, yaml.MappingNode) and position.tag not in _TEXT_TAGS:
            read_as = _READ_AS.get(position.tag.rpartition(":")[2], "something else than text")
            remedy = f"keys are text, so put it in quotes: '{part}'"
            yield Problem((*key, part), f"this key is read as {read_as}; {remedy}")
        yield from _keys_that_are_no_text(value, (*key, part))


def _children(node: yaml.Node | None) -> Iterator[tuple[str | int, yaml.Node, yaml.Node]]:
    """Per key or list position: what it is, the node it stands at, and its value."""
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            yield str(name.value), name, value
    elif isinstance(node, yaml.SequenceNode):
        for position, value in enumerate(node.value):
            yield position, value, value


def _problems(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    problems: list[Problem] = []
    for details in error.errors():
        if _follows_from_another(details):
            continue
        cause = details.get("ctx", {}).get("error")
        if isinstance(cause, Contradictions):
            inside = details["loc"]
            problems += [
                Problem((*inside, *problem.key), problem.text) for problem in cause.problems
            ]
        else:
            # "[key]" is pydantic's word for what is wrong with the key itself.
            key = tuple(part for part in details["loc"] if part != "[key]")
            problems.append(Problem(key, _said(details, model)))
    return problems


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
    return said if kind == "too_short" else f"{_shown(value)}: {said}"


def _shown(value: object) -> str:
    """The value as a message names it."""
    if isinstance(value, dict):
        return "a mapping"
    return "a list" if isinstance(value, list | tuple) else repr(value)


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


def _misconfigured(source: str, problems: list[Problem], lines: dict[Key, int]) -> Misconfigured:
    rows = [
        f"{source}{_line(problem.key, lines)}: {_dotted(problem.key)}: {problem.text}"
        for problem in problems
    ]
    return Misconfigured("\n".join(rows), source=source, key=_dotted(problems[0].key))


def _line(key: Key, lines: dict[Key, int]) -> str:
    """`:12` for the line of the key, or of the nearest mapping around it that is in the file."""
    for length in range(len(key), 0, -1):
        if key[:length] in lines:
            return f":{lines[key[:length]]}"
    return ""


def _dotted(key: Key) -> str:
    """`ensembles.experts.members[2]`."""
    dotted = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key)
    return dotted.removeprefix(".")
