"""The shipped experts in a mesh of processes: alone as transformers has them, and fused."""

from __future__ import annotations

import asyncio
import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from specfuse.cli import demo
from specfuse.cli.app import main
from specfuse.client import Client
from specfuse.demo.experts import EXPERTS
from specfuse.demo.skills import generate_questions, score
from specfuse.localmesh import MeshAddresses
from tests.support.command import running_mesh, specfuse

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

NAMES = [expert.name for expert in EXPERTS]
MANY_PARTS = (
    *generate_questions(seed=11, count=6, parts=2),
    *generate_questions(seed=12, count=3, parts=4),
)


@pytest.fixture(scope="module")
def mesh():
    with running_mesh("--demo") as mesh:
        yield mesh


@pytest.fixture(scope="module")
def client(mesh):
    with Client(mesh.address) as client:
        yield client


# --- alone ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("expert", EXPERTS, ids=NAMES)
def test_an_ensemble_of_one_writes_what_transformers_writes(client, expert):
    tokenizer = AutoTokenizer.from_pretrained(expert.path)
    model = AutoModelForCausalLM.from_pretrained(expert.path, dtype=torch.float32).eval()
    for question in generate_questions(seed=5, count=3):
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": question.prompt}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )
        with torch.inference_mode():
            drawn = model.generate(**ids, do_sample=False, max_new_tokens=400)
        tokens = drawn[0, ids["input_ids"].shape[1] :]

        answer = client.generate(question.prompt, ensemble=expert.name, max_tokens=400)

        assert answer.text == tokenizer.decode(tokens, skip_special_tokens=True)
        assert answer.output_tokens == len(tokens) - 1  # all but the end token
        assert answer.members == (expert.name,)


# --- fused ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fused(client):
    """The answers of all experts together."""
    return [client.generate(question.prompt, ensemble="experts") for question in MANY_PARTS]


def exact(answers) -> int:
    """How many of the answers are right, word for word."""
    asked = zip(MANY_PARTS, answers, strict=True)
    return sum(score(question, answer.text).exact for question, answer in asked)


def test_questions_of_many_parts_are_answered_that_no_expert_answers_alone(client, fused):
    assert exact(fused) >= len(MANY_PARTS) - 1
    for answer in fused:
        assert answer.members == tuple(NAMES)
        assert answer.calls_avoided > 0
        assert not answer.degraded
    for name in NAMES:
        alone = (client.generate(question.prompt, ensemble=name) for question in MANY_PARTS)
        assert exact(alone) <= 1  # by a lucky guess


def test_the_order_of_the_members_changes_no_answer(client, fused):
    for question, answer in zip(MANY_PARTS, fused, strict=True):
        back = client.generate(question.prompt, ensemble="reversed")
        assert back.members == answer.members[::-1]
        assert back.text == answer.text


# --- the command ----------------------------------------------------------------------------------


def test_a_question_to_the_demo_is_answered_with_one_json_object_and_nothing_else():
    question = "What is the capital of France? Also, how much is 17 plus 25?"
    done = specfuse("demo", "--question", question, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1
    assert set(report) == {
        "text",
        "rounds",
        "calls_made",
        "calls_avoided",
        "members",
        "finish_reason",
        "lost",
        "absent",
        "resumed",
        "request_ids",
    }
    assert "Paris" in report["text"]
    assert "42" in report["text"]
    assert report["members"] == NAMES
    assert report["finish_reason"] == "stop"
    assert "".join(each["text"] for each in report["rounds"]) == report["text"]


@pytest.fixture
def in_the_mesh(mesh, monkeypatch):
    """Has the demo use the mesh that is there already."""

    def with_mesh(_options, work):
        return asyncio.run(work(MeshAddresses(mesh.fuser, mesh.models)))

    monkeypatch.setattr(demo, "with_mesh", with_mesh)


@pytest.mark.usefixtures("in_the_mesh")
def test_the_demo_shows_each_experts_answer_beside_the_fused_one(capsys):
    assert main(["demo"]) == 0
    shown = capsys.readouterr().out
    for question in demo.QUESTIONS:
        assert question.prompt.split("\n")[0][:40] in shown
    *_, fused = shown.splitlines()
    assert fused.split() == ["fused", *"✓" * len(demo.QUESTIONS)]
    assert shown.count("✗") > shown.count("✓")


@pytest.mark.usefixtures("in_the_mesh")
def test_the_demo_as_json(capsys, monkeypatch):
    monkeypatch.setattr(demo, "QUESTIONS", demo.QUESTIONS[:2])
    assert main(["demo", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [asked["question"] for asked in report["questions"]] == [
        question.prompt for question in demo.QUESTIONS
    ]
    for asked in report["questions"]:
        assert list(asked["alone"]) == NAMES
        assert asked["fused"]["exact"]
        assert asked["fused"]["text"] == asked["right_answer"]
