"""Which of the models that a server lists is meant."""

from __future__ import annotations

from typing import Any

import pytest

from model_service.backends.vllm.models import ServedModel, chosen
from specfuse.errors import Misconfigured, ModelFailure

BASE: dict[str, Any] = {"id": "tiny", "root": "/models/tiny", "max_model_len": 1024}
POET: dict[str, Any] = {"id": "poet", "root": "/adapters/poet", "parent": "tiny"}


@pytest.mark.parametrize(
    ("data", "name", "model"),
    [
        ([BASE], None, ServedModel("tiny", "/models/tiny", 1024)),
        ([BASE], "tiny", ServedModel("tiny", "/models/tiny", 1024)),
        ([BASE, POET], "poet", ServedModel("poet", "/adapters/poet", 1024)),
        ([{"id": "a/b", "max_model_len": 8}], None, ServedModel("a/b", "a/b", 8)),
    ],
)
def test_it_is_found(data: list[Any], name: str | None, model: ServedModel) -> None:
    assert chosen({"data": data}, name) == model


def test_it_is_named_with_its_files() -> None:
    assert f"{chosen({'data': [BASE]}, None)}" == "tiny of /models/tiny"


@pytest.mark.parametrize(
    ("data", "name", "problem"),
    [
        ([BASE, POET], None, "served_model: the server has not just one model.*: tiny, poet"),
        ([], None, "served_model: .* name one: none"),
        ([BASE, POET], "clerk", "served_model: clerk: .* but has: tiny, poet"),
    ],
)
def test_what_is_not_clear_is_said_with_what_there_is(
    data: list[Any], name: str | None, problem: str
) -> None:
    with pytest.raises(Misconfigured, match=problem):
        chosen({"data": data}, name)


@pytest.mark.parametrize(
    "listed",
    [
        None,
        {},
        {"data": {}},
        {"data": ["tiny"]},
        {"data": [BASE | {"id": 7}]},
        {"data": [BASE | {"max_model_len": None}]},
        {"data": [BASE | {"max_model_len": -1}]},
    ],
)
def test_anything_else_is_an_error(listed: object) -> None:
    with pytest.raises(ModelFailure, match="the server's answer has"):
        chosen(listed, None)
