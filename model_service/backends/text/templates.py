"""Chat templates: programs of their own, which come with a model and run in a sandbox.

What they may use is what those who write them were promised by transformers, whose templates they
are: its globals, its `tojson`, its `generation` blocks, its rules of whitespace.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Never

from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from specfuse.errors import InvalidArgument, Misconfigured


class ChatTemplate:
    """Makes a conversation the text of a prompt. Safe to share between threads."""

    def __init__(self, source: str, special_tokens: dict[str, str]) -> None:
        """Compiles the template; it is handed the special tokens by their names.

        Raises:
            Misconfigured: it is not a template.
        """
        try:
            self._template = _environment().from_string(source)
        except TemplateError as error:
            raise Misconfigured(f"the model's chat template is none: {error}") from error
        self._special_tokens = special_tokens

    def render(self, messages: list[dict[str, str]]) -> str:
        """The text of a conversation, up to where the model's answer begins.

        Args:
            messages: `role` and `content` of each.

        Raises:
            InvalidArgument: the template refuses the conversation.
        """
        try:
            return self._template.render(
                self._special_tokens,
                messages=messages,
                tools=None,
                documents=None,
                add_generation_prompt=True,
            )
        except TemplateError as error:
            raise InvalidArgument(
                "context.conversation", f"the model's chat template refuses it: {error}"
            ) from error


class _Generation(Extension):
    """`{% generation %}`, by which templates mark what a model said. Here it changes nothing."""

    tags = {"generation"}  # noqa: RUF012 (as its base has it)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body).set_lineno(line)


class _Namespace(Namespace):
    """A template's own variables, none of which may look like a part of Python's own."""

    def __setitem__(self, name: str, value: Any) -> None:  # noqa: ANN401 (a template's own)
        _check_name(name)
        super().__setitem__(name, value)


class _Dict:
    """`dict` as far as templates need it: without what Python's own leads to."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:  # noqa: ANN401
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:  # noqa: ANN401
        return dict.fromkeys(*args)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals.update(
        raise_exception=_refuse, strftime_now=_now, namespace=_namespace, dict=_Dict()
    )
    return environment


def _namespace(*args: Any, **kwargs: Any) -> Namespace:  # noqa: ANN401
    variables = dict(*args, **kwargs)
    for name in variables:
        _check_name(name)
    return _Namespace(variables)


def _check_name(name: object) -> None:
    if str(name).startswith("_"):
        raise SecurityError(f"a namespace may have no variable {name!r}; rename it")


def _to_json(
    value: object,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002 (templates may pass it so)
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002
) -> str:
    """JSON that is text, where Jinja's own is a part of a page."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _refuse(message: str) -> Never:
    raise TemplateError(message)


def _now(form: str) -> str:
    """The time where the model runs, by which templates tell it the date."""
    return datetime.now().strftime(form)  # noqa: DTZ005
