"""The API as a page for people. It loads nothing but how it looks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final

_HEAD: Final = (
    '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    '<link rel="icon" href="page/icon.svg" type="image/svg+xml">'
    '<link rel="stylesheet" href="page/theme.css"><link rel="stylesheet" href="page/reference.css">'
)
_LINK: Final = '<nav><a href=".">Ask</a></nav>'


def page(description: str, *, asks: bool) -> str:
    """The page of a description. With `asks` it links to the one on which people ask."""
    document = json.loads(description)
    info = document["info"]
    routes = "".join(
        _route(method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    )
    objects = "".join(
        _object(name, schema) for name, schema in sorted(document["components"]["schemas"].items())
    )
    title = f"{escape(info['title'])} {escape(info['version'])}"
    return (
        f'<!doctype html><html lang="en"><head><title>{title}</title>{_HEAD}</head>'
        f'<body><header><h1><img src="page/icon.svg" alt="" width="28" height="28"> {title}</h1>'
        f"{_LINK if asks else ''}</header>"
        f"<p>{_text(info['description'])} For machines: "
        '<a href="openapi.json">/openapi.json</a>.</p>'
        f"<h2>Routes</h2>{routes}<h2>Objects</h2>{objects}</body></html>"
    )


def _route(method: str, path: str, operation: Mapping[str, Any]) -> str:
    rows = "".join(
        _row(status, f"{_text(answer['description'])} {_types(answer.get('content', {}))}")
        for status, answer in operation["responses"].items()
    )
    asked = operation.get("requestBody", {}).get("content", {})
    body = f"<p>Body: {_types(asked)}</p>" if asked else ""
    return (
        f"<h3><code>{method.upper()} {escape(path)}</code></h3>"
        f"<p>{_text(operation['summary'])}</p>{body}<table>{rows}</table>"
    )


def _object(name: str, schema: Mapping[str, Any]) -> str:
    required = schema.get("required", ())
    rows = "".join(
        _row(
            f"{field}{'' if field in required else '?'}",
            f"{_type(of)} {_text(of.get('description', ''))}",
        )
        for field, of in schema.get("properties", {}).items()
    )
    said = _text(schema.get("description", ""))
    return f'<h3 id="{escape(name)}">{escape(name)}</h3><p>{said}</p><table>{rows}</table>'


def _row(name: str, said: str) -> str:
    return f"<tr><th><code>{escape(name)}</code></th><td>{said}</td></tr>"


def _types(content: Mapping[str, Any]) -> str:
    return ", ".join(_type(one["schema"]) for one in content.values())


def _type(schema: Mapping[str, Any]) -> str:
    return " or ".join(dict.fromkeys(_names(schema)))


def _names(schema: Mapping[str, Any]) -> Iterator[str]:
    """What a value may be."""
    alternatives = schema.get("anyOf") or schema.get("oneOf")
    if alternatives:
        for one in alternatives:
            yield from _names(one)
    elif "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        yield f'<a href="#{name}">{name}</a>'
    elif "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        yield " or ".join(f"<code>{escape(json.dumps(value))}</code>" for value in values)
    elif schema.get("type") == "array":
        yield f"list of {_type(schema.get('items', {}))}"
    else:
        yield escape(str(schema.get("type", "anything")))


def _text(said: str) -> str:
    """The text with its `code` marked."""
    parts = escape(said).split("`")
    return "".join(f"<code>{one}</code>" if at % 2 else one for at, one in enumerate(parts))
