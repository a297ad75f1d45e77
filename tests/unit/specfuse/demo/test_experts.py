"""The shipped experts: small, of five kinds, exact in their own skill, honest about the others."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from specfuse.demo.architectures import GEMMA2_WINDOW, MISTRAL_WINDOW
from specfuse.demo.evaluation import honesty
from specfuse.demo.experts import EXPERTS, MODELS_DIRECTORY, Architecture
from specfuse.demo.skills import SkillName, generate_questions, score

MEBIBYTE = 2**20


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small matrices are multiplied fastest by one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=EXPERTS, ids=lambda expert: expert.name)
def expert(request):
    return request.param


@pytest.fixture(scope="module")
def tokenizer(expert):
    return AutoTokenizer.from_pretrained(expert.path)


@pytest.fixture(scope="module")
def model(expert):
    return AutoModelForCausalLM.from_pretrained(expert.path, dtype=torch.float32).eval()


def answers(model, tokenizer, questions):
    """What the model answers on its own, greedily, to all questions at once."""
    chats = [[{"role": "user", "content": question.prompt}] for question in questions]
    inputs = tokenizer.apply_chat_template(
        chats, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
    )
    with torch.inference_mode():
        ids = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            do_sample=False,
            max_new_tokens=256,
        )
    return tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def test_the_experts_are_small():
    assert sum(f.stat().st_size for f in MODELS_DIRECTORY.rglob("*.*")) < 40 * MEBIBYTE


def test_an_expert_is_what_the_registry_says(expert, model):
    assert model.config.model_type == expert.architecture
    assert 1e6 <= model.num_parameters() <= 4e6
    saved = AutoModelForCausalLM.from_pretrained(expert.path)
    assert saved.dtype is torch.float16
    assert all(torch.isfinite(weight).all() for weight in saved.parameters())


def test_its_end_token_ends_generation(model, tokenizer):
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.generation_config.pad_token_id == tokenizer.pad_token_id


@pytest.mark.parametrize(
    ("architecture", "window"),
    [(Architecture.MISTRAL, MISTRAL_WINDOW), (Architecture.GEMMA2, GEMMA2_WINDOW)],
)
def test_a_sliding_window_slides(architecture, window):
    """It is configured, shorter than the longest answers need, and changes what the model says."""
    path = next(e.path for e in EXPERTS if e.architecture is architecture)
    windowed = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    assert windowed.config.sliding_window == window
    unbounded = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, sliding_window=4096)
    tokenizer = AutoTokenizer.from_pretrained(path)
    questions = generate_questions(1, 20, parts=5)
    longest = max((f"{q.prompt} {q.answer}" for q in questions), key=len)
    ids = torch.tensor([tokenizer(longest)["input_ids"]])
    assert ids.shape[1] > window
    with torch.inference_mode():
        differs = (windowed(ids).logits - unbounded(ids).logits).abs().amax(-1)[0] > 1e-3
    assert not differs[:window].any()
    assert differs[window:].any()


def test_an_expert_is_exact_in_its_own_skill(expert, model, tokenizer):
    questions = generate_questions(21, 16, parts=1, skills=[expert.skill], sums="held_out")
    given = answers(model, tokenizer, questions)
    assert [q.answer for q in questions] == given


def test_an_expert_answers_every_part_in_form_and_its_own_rightly(expert, model, tokenizer):
    questions = generate_questions(22, 4, parts=5)
    for question, given in zip(questions, answers(model, tokenizer, questions), strict=True):
        assert given.count(". ") == 4
        own = [part.skill is expert.skill for part in question.parts]
        right = score(question, given).parts
        assert all(is_right for is_right, is_own in zip(right, own, strict=True) if is_own)


def test_an_expert_is_unsure_of_other_skills(expert, model, tokenizer):
    for other in SkillName:
        if other is not expert.skill:
            assert honesty(model, tokenizer, other, seed=5, count=1) > 0.9


def test_an_expert_is_sure_of_its_own_skill(expert, model, tokenizer):
    assert honesty(model, tokenizer, expert.skill, seed=5, count=1) < 0.05
