"""Programs that others wrote for OpenAI's API, run as they are against a mesh of processes.

Each is installed in an environment of its own: `make test-clients`.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import openai
import pytest
import yaml
from openai import OpenAI

from specfuse.cli.mesh_command import free_ports
from tests.support.command import RunningMesh, running_mesh
from tests.support.repository import REPOSITORY
from tests.support.scripted_mesh import ANSWER, QUESTION, mesh_of, write_mesh

pytestmark = [pytest.mark.clients, pytest.mark.timeout(600)]

LM_EVAL = REPOSITORY / ".venv-clients" / "lm-eval" / "bin" / "lm_eval"
LITELLM_PYTHON = REPOSITORY / ".venv-clients" / "litellm" / "bin" / "python"
TASK = "answers"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    file = write_mesh(tmp_path_factory.mktemp("mesh"), mesh_of("alpha", "beta"))
    with running_mesh(str(file)) as mesh:
        yield mesh


def base_of(mesh: RunningMesh) -> str:
    return f"http://{mesh.fuser.http_address}/v1"


def run(*command: str) -> str:
    """What a program prints; it must end well."""
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "OPENAI_API_KEY": "none",
        "PYTHONPATH": "",
    }
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=500, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """A folder with a task of two questions, of which the mesh knows the answer to one."""
    questions = [{"question": QUESTION, "answer": ANSWER}, {"question": QUESTION, "answer": "?"}]
    data = tmp_path / "questions.jsonl"
    data.write_text("".join(json.dumps(one) + "\n" for one in questions))
    description: dict[str, Any] = {
        "task": TASK,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": ["\n\n"], "max_gen_toks": 64, "temperature": 0},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(description))
    return tmp_path


@pytest.mark.parametrize(
    ("model", "path", "options"),
    [
        ("local-chat-completions", "chat/completions", ["--apply_chat_template"]),
        ("local-completions", "completions", []),
    ],
)
def test_lm_evaluation_harness_scores_an_ensemble(
    mesh: RunningMesh, task: Path, model: str, path: str, options: list[str]
) -> None:
    arguments = f"model=all,base_url={base_of(mesh)}/{path},tokenizer_backend=None"
    run(
        *(str(LM_EVAL), "--model", model, "--tasks", TASK),
        *("--model_args", f"{arguments},tokenized_requests=False,num_concurrent=1,max_retries=1"),
        *("--include_path", str(task), "--output_path", str(task / "out"), *options),
    )
    (results,) = (task / "out").rglob("results_*.json")
    assert json.loads(results.read_text())["results"][TASK]["exact_match,none"] == 0.5


def test_litellm_understands_answers_and_errors(mesh: RunningMesh) -> None:
    calls = Path(__file__).parent / "litellm_calls.py"
    said = json.loads(run(str(LITELLM_PYTHON), str(calls), base_of(mesh), QUESTION))
    assert said["whole"] == said["streamed"] == said["raw"] == ANSWER
    assert said["finish_reason"] == "stop"
    assert said["completion_tokens"] == said["streamed_tokens"] == len(ANSWER.split())
    assert said["wrong field"] == "BadRequestError"
    assert said["no such model"] == "NotFoundError"
    assert said["too long"] == "ContextWindowExceededError"


@pytest.fixture
def litellm_proxy(mesh: RunningMesh, tmp_path: Path) -> Iterator[str]:
    """The address of LiteLLM's proxy in front of the mesh."""
    config = tmp_path / "config.yaml"
    where = {"api_base": base_of(mesh), "api_key": "none", "model": "openai/all"}
    model = {"model_name": "fused", "litellm_params": where}
    settings = {"telemetry": False, "num_retries": 0}
    config.write_text(yaml.safe_dump({"model_list": [model], "litellm_settings": settings}))
    program = LITELLM_PYTHON.with_name("litellm")
    port = free_ports(["proxy"])["proxy"]
    process = subprocess.Popen(
        [program, "--config", config, "--host", "127.0.0.1", "--port", str(port)],
        env=os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONPATH": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        assert process.stdout is not None
        written = []
        for line in process.stdout:
            written.append(line)
            if "Uvicorn running on" in line:
                break
        else:
            pytest.fail("".join(written))
        drain = Thread(target=process.stdout.read)
        drain.start()
        try:
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.kill()
            drain.join()


def test_litellms_proxy_passes_answers_streams_and_errors_on(litellm_proxy: str) -> None:
    asked: Any = {"model": "fused", "messages": [{"role": "user", "content": QUESTION}]}
    with OpenAI(base_url=litellm_proxy, api_key="none", max_retries=0) as sdk:
        whole = sdk.chat.completions.create(**asked)
        assert whole.choices[0].message.content == ANSWER
        assert whole.usage is not None
        assert whole.usage.completion_tokens == len(ANSWER.split())
        usage = {"include_usage": True}
        chunks = list(sdk.chat.completions.create(**asked, stream=True, stream_options=usage))
        texts = [one.choices[0].delta.content or "" for one in chunks if one.choices]
        assert "".join(texts) == ANSWER
        assert [one.usage.completion_tokens for one in chunks if one.usage] == [len(ANSWER.split())]
        with pytest.raises(openai.BadRequestError, match="n: "):
            sdk.chat.completions.create(**asked, n=2)
