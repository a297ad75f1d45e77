"""The API as OpenAPI describes it, made of the models by which it is read and written."""

from __future__ import annotations

import json
from functools import cache
from importlib.metadata import version
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from fuser_service.doors.openai import responses
from fuser_service.doors.openai.requests import ChatRequest, CompletionRequest

_REFERENCE: Final = "#/components/schemas/{model}"
_READ: Final[tuple[type[BaseModel], ...]] = (ChatRequest, CompletionRequest)
_SENT: Final[tuple[type[BaseModel], ...]] = (
    responses.ChatCompletion,
    responses.ChatCompletionChunk,
    responses.Completion,
    responses.ModelList,
    responses.Model,
    responses.Health,
    responses.ErrorBody,
)
_ERRORS: Final = {
    400: "A field is wrong; `param` names it.",
    401: "Who is asking is not known.",
    403: "Who is asking may not, or asks under a name that is not answered to.",
    404: "There is no such model.",
    408: "The time is up.",
    413: "The body is too large.",
    415: "The body is not said to be JSON, or is encoded.",
    422: "The models cannot take the prompt.",
    429: "The caller has had its share for now.",
    500: "A bug.",
    503: "There is no room, or too few models can be reached.",
}
_OF_LISTS: Final = (401, 403, 503)
_SECURITY: Final[dict[str, Any]] = {"security": [{"key": []}, {}]}
"""A key, or none where the fuser asks for none or knows callers by their certificates."""
_SUMMARIES: Final = {
    "chat": "Asks an ensemble for the next message of a conversation.",
    "completion": "Asks an ensemble to go on with a text, which its models get as it is.",
}


@cache
def description() -> str:
    """The description, as JSON."""
    modes = [(model, "validation") for model in _READ]
    modes += [(model, "serialization") for model in _SENT]
    _, schemas = models_json_schema(modes, ref_template=_REFERENCE)  # type: ignore[arg-type]
    return json.dumps(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "SpecFuse",
                "version": version("specfuse"),
                "description": "Answers fused from several language models. OpenAI's API, with "
                "what is ours under `specfuse`.",
            },
            "paths": _paths(),
            "components": {
                "schemas": schemas["$defs"],
                "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            },
        }
    )


def _paths() -> dict[str, Any]:
    return {
        "/v1/chat/completions": {
            "post": _asking(
                "chat", ChatRequest, responses.ChatCompletion, responses.ChatCompletionChunk
            )
        },
        "/v1/completions": {
            "post": _asking(
                "completion", CompletionRequest, responses.Completion, responses.Completion
            )
        },
        "/v1/models": {"get": _reading("models", "Lists the ensembles.", responses.ModelList)},
        "/v1/models/{model}": {
            "get": _reading("model", "Describes an ensemble.", responses.Model, 404)
            | {"parameters": [_parameter("model", "path", "The ensemble's name.")]}
        },
        "/healthz": {
            "get": {
                "operationId": "health",
                "summary": "Whether the process serves.",
                "responses": {"200": _content("It does.", responses.Health)},
            }
        },
        "/readyz": {
            "get": {
                "operationId": "readiness",
                "summary": "Whether any ensemble, or the one asked for, has its quorum, or can be "
                "woken.",
                "parameters": [_parameter("ensemble", "query", "The one to ask for.")],
                "responses": {
                    "200": _content("It has.", responses.Health),
                    "404": _content("There is no such ensemble.", responses.ErrorBody),
                    "503": {
                        "description": "It has not, or the service shuts down.",
                        "content": {
                            "application/json": {
                                "schema": {
                                    "anyOf": [
                                        _schema(responses.Health),
                                        _schema(responses.ErrorBody),
                                    ]
                                }
                            }
                        },
                    },
                },
            }
        },
    }


def _asking(
    name: str, read: type[BaseModel], whole: type[BaseModel], chunk: type[BaseModel]
) -> dict[str, Any]:
    answered = _content("The answer; with `stream`, events that each hold a chunk.", whole)
    answered["content"]["text/event-stream"] = {"schema": {"type": "string"}}
    answered["description"] += f" A chunk is a {chunk.__name__}."
    return {
        "operationId": name,
        "summary": _SUMMARIES[name],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _schema(read)}},
        },
        "responses": {"200": answered} | _errors(*_ERRORS),
    } | _SECURITY


def _reading(name: str, summary: str, answer: type[BaseModel], *errors: int) -> dict[str, Any]:
    answered = {"200": _content(summary, answer)}
    return {
        "operationId": name,
        "summary": summary,
        "responses": answered | _errors(*_OF_LISTS, *errors),
    } | _SECURITY


def _errors(*statuses: int) -> dict[str, Any]:
    return {str(one): _content(_ERRORS[one], responses.ErrorBody) for one in sorted(statuses)}


def _content(said: str, model: type[BaseModel]) -> dict[str, Any]:
    return {"description": said, "content": {"application/json": {"schema": _schema(model)}}}


def _parameter(name: str, where: str, said: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": where,
        "required": where == "path",
        "description": said,
        "schema": {"type": "string"},
    }


def _schema(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(model=model.__name__)}
