"""The OpenAI-compatible door gets whatever its own description allows, and much that it does not.

Schemathesis makes the requests of the description; the same ones in every run.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from fuser_service.doors.openai.openapi import description
from tests.support.openai_door import STARTED, committed, finished, open_played

SCHEMA = schemathesis.openapi.from_dict(json.loads(description()))
OPERATIONS = {
    f"{operation.ok().method.upper()} {operation.ok().path}": operation.ok()
    for operation in SCHEMA.get_all_operations()
}
ANSWER_SECONDS = 20.0
"""An answer that takes longer is taken for none."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A door in a thread of its own, as the requests here are blocking ones."""
    ready: list[str] = []
    serving, stopped = threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with open_played(STARTED, committed(1, "x\u2028y"), finished()) as door:
            ready.append(door.address)
            ready_loop.append(asyncio.get_running_loop())
            serving.set()
            await stopped.wait()

    ready_loop: list[asyncio.AbstractEventLoop] = []
    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert serving.wait(ANSWER_SECONDS)
    yield ready[0]
    ready_loop[0].call_soon_threadsafe(stopped.set)
    thread.join(ANSWER_SECONDS)


ASKED = {
    f"{name}, {mode.value}": (operation, mode)
    for name, operation in OPERATIONS.items()
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or operation.body  # else there is nothing to get wrong
}


@pytest.mark.slow
@pytest.mark.parametrize(("operation", "mode"), ASKED.values(), ids=ASKED)
def test_whatever_is_asked_the_answer_is_as_described(
    address: str, operation: Any, mode: GenerationMode
) -> None:
    answered: set[int] = set()

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=30,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def asked(case: Any) -> None:
        if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
            case.body["model"] = "all"  # the only one that there is
        response = case.call(base_url=f"http://{address}", timeout=ANSWER_SECONDS)
        case.validate_response(
            response,
            checks=[
                status_code_conformance,
                content_type_conformance,
                response_schema_conformance,
                *([] if case.path == "/readyz" else [not_a_server_error]),
            ],
        )
        assert "Traceback" not in response.text
        answered.add(response.status_code)

    asked()
    expected = {404} if "{model}" in operation.path else {200, 400, 422}
    assert answered & expected, answered


def test_every_route_is_described() -> None:
    assert OPERATIONS.keys() == {
        "POST /v1/chat/completions",
        "POST /v1/completions",
        "GET /v1/models",
        "GET /v1/models/{model}",
        "GET /healthz",
        "GET /readyz",
    }
