"""What is imported for traces: nothing but the API's few modules, unless they are configured."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

SERVES = """
import asyncio, json, sys
from {module} import start
from {settings} import Settings

async def main():
    service = await start(Settings.parse(sys.argv[1], source="s.yaml"))
    await service.stop()

asyncio.run(main())
print(json.dumps([name for name in sys.modules if name.startswith("opentelemetry")]))
"""
FUSER = {"members": {"a": {"endpoints": ["127.0.0.1:1"]}}, "ensembles": {"all": {"members": ["a"]}}}
MODEL = {"name": "a", "backend": "scripted", "scripted": {"lines": [{"answer": " Yes."}]}}
LISTEN = {"listen": "127.0.0.1:0", "metrics_listen": "127.0.0.1:0"}
SERVICES = {
    "fuser": (FUSER, "fuser_service.main", "fuser_service.settings.settings"),
    "model": (MODEL, "model_service.main", "model_service.settings"),
}
OF_SENDING = ("opentelemetry.sdk", "opentelemetry.exporter", "opentelemetry.proto")


def run_of(program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def imported(program: str, *arguments: str, **environment: str) -> list[str]:
    """The modules of OpenTelemetry that the program ended with."""
    run = run_of(program, *arguments, **environment)
    assert run.returncode == 0, run.stderr
    modules: list[str] = json.loads(run.stdout.splitlines()[-1])
    return modules


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("configured", [False, True])
def test_a_service_without_tracing_has_no_sdk_and_no_exporter(
    service: str, *, configured: bool
) -> None:
    document, module, settings = SERVICES[service]
    tracing = {"tracing": {"endpoint": "127.0.0.1:1"}} if configured else {}
    program = SERVES.format(module=module, settings=settings)
    modules = imported(program, json.dumps({**document, **LISTEN, **tracing}))
    assert any(name.startswith(OF_SENDING) for name in modules) is configured


def traced_model() -> tuple[str, str]:
    """The program of a model service that traces, and its settings."""
    document, module, settings = SERVICES["model"]
    tracing = {"tracing": {"endpoint": "127.0.0.1:1"}}
    program = SERVES.format(module=module, settings=settings)
    return program, json.dumps({**document, **LISTEN, **tracing})


def test_nonsense_in_the_environment_is_not_read() -> None:
    nonsense = {
        "OTEL_ATTRIBUTE_COUNT_LIMIT": "many",
        "OTEL_SPAN_EVENT_COUNT_LIMIT": "many",
        "OTEL_PYTHON_METER_PROVIDER": "none that there is",
        "OTEL_BSP_MAX_QUEUE_SIZE": "long",
        "OTEL_TRACES_SAMPLER": "luck",
    }
    assert imported(*traced_model(), **nonsense)


def test_where_the_sdk_itself_refuses_the_environment_that_is_said() -> None:
    run = run_of(*traced_model(), OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT="many")
    assert "Misconfigured: tracing: OpenTelemetry's SDK refuses the environment" in run.stderr
    assert "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT must be a non-negative integer" in run.stderr


def test_a_client_has_nothing_of_it() -> None:
    program = (
        "import json, sys, specfuse.client\n"
        "print(json.dumps([one for one in sys.modules if one.startswith('opentelemetry')]))"
    )
    assert imported(program) == []
