"""The part of the chart's README that lists its values."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from deploy.helm.generate import services
from deploy.helm.generate.values import Value

MARKER: Final = "<!-- values -->"
"""What is below this line is made from `values.yaml`."""

_LONGEST_DEFAULT: Final = 60
"""Longer ones are in values.yaml, and a table of them could not be read."""


def completed(page: str, values: Iterable[Value]) -> str:
    """The page with what its generated part should be.

    Raises:
        ValueError: the page has no marker.
    """
    head, marker, _ = page.partition(MARKER)
    if not marker:
        raise ValueError(f"README.md has no line {MARKER}: what is below it lists the values")
    parts = [head + marker, "", *(line for value in values for line in _section(value))]
    return "\n".join(parts).rstrip() + "\n"


def _section(value: Value) -> Iterator[str]:
    yield from (f"### `{value.name}`", "", value.prose, "")
    if value.children:
        yield from _table("Value", "Default", _rows(value.children))
    else:
        yield from (f"Default: {_shown(value.default)}", "")
    if reference := _of_a_service(value.fragment):
        yield from _table("Key", "Default", _keys(services.fragment(reference)))


def _table(what: str, default: str, rows: Iterable[tuple[str, str, str]]) -> Iterator[str]:
    yield f"| {what} | {default} | |"
    yield "|---|---|---|"
    for name, shown, prose in rows:
        yield f"| `{name}` | {shown} | {_in_a_cell(prose)} |"
    yield ""


def _rows(values: Iterable[Value]) -> Iterator[tuple[str, str, str]]:
    for value in values:
        yield value.name, "" if value.children else _shown(value.default), value.prose
        yield from _rows(value.children)


def _of_a_service(fragment: Mapping[str, Any]) -> str:
    """What every entry of a map is, where a service's settings say it; empty elsewhere."""
    entries = fragment.get("additionalProperties")
    reference = entries.get("$ref", "") if isinstance(entries, dict) else ""
    return reference.removesuffix("?") if services.known(reference) else ""


def _keys(fragment: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    required = fragment.get("required", ())
    for name, key in fragment["properties"].items():
        default = "required" if name in required else _shown(key.get("default"))
        yield name, default, key.get("description", "")


def _shown(default: object) -> str:
    text = json.dumps(default, ensure_ascii=False)
    return "see `values.yaml`" if len(text) > _LONGEST_DEFAULT else f"`{_escaped(text)}`"


def _in_a_cell(prose: str) -> str:
    """Markdown in one line: paragraphs and items stay apart."""
    paragraphs = (
        paragraph.replace("\n- ", "<br>- ").replace("\n", " ") for paragraph in prose.split("\n\n")
    )
    return _escaped("<br><br>".join(paragraphs))


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
