"""llama-server runs what we write as GGUF as transformers runs the original.

All that is tested against a real llama-server rests on this.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from tests.support import tiny_models
from tests.support.gguf_models import write_gguf
from tests.support.llama_server import llama_server, needs_llama_server, post
from tests.support.repository import REPOSITORY
from tests.support.tokenizers import TEXTS

EXPERTS = REPOSITORY / "specfuse" / "demo" / "models"
EXACT = 2e-5
HALF_PRECISION_GELU = 1e-2
"""llama.cpp looks GPT-NeoX's activation up in a table of half precision."""

pytestmark = needs_llama_server


@dataclass(frozen=True, slots=True)
class Served:
    """A model, where it is served, and how far its log-probabilities may be off."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    address: str
    tolerance: float


@pytest.fixture(
    scope="module",
    params=[
        ("llama", EXACT),
        ("llama_served", EXACT),
        ("capitals", EXACT),
        ("sums", EXACT),
        ("colours", HALF_PRECISION_GELU),
    ],
    ids=lambda param: param[0],
)
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    name, tolerance = request.param
    place = tmp_path_factory.mktemp(name)
    directory = EXPERTS / name
    if not directory.exists():
        directory = place / "model"
        tiny_models.save(name, directory)
    write_gguf(directory, place / "model.gguf")
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    with llama_server(place / "model.gguf") as address:
        yield Served(model, AutoTokenizer.from_pretrained(directory), address, tolerance)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_it_cuts_text_into_the_same_tokens(served: Served, text: str) -> None:
    expected = served.tokenizer(text).input_ids
    answer = post(served.address, "/tokenize", {"content": text, "add_special": True})
    assert answer["tokens"] == expected


def test_forced_tokens_have_the_log_probabilities_of_the_original(served: Served) -> None:
    ids = served.tokenizer(TEXTS["english"]).input_ids[:60]
    context, candidate = ids[:-10], ids[-10:]
    answer = post(
        served.address,
        "/completion",
        {
            "prompt": context,
            "n_predict": len(candidate),
            "n_probs": 1,
            "return_tokens": True,
            "grammar": "root ::= " + " ".join(f"<[{id_}]>" for id_ in candidate),
        },
    )
    assert answer["tokens"] == candidate
    scored = torch.tensor([one["logprob"] for one in answer["completion_probabilities"]])
    assert scored.tolist() == pytest.approx(
        _log_probabilities(served.model, context, candidate).tolist(), abs=served.tolerance, rel=0
    )


@torch.no_grad()
def _log_probabilities(
    model: PreTrainedModel, context: list[int], candidate: list[int]
) -> torch.Tensor:
    """What transformers gives each token of the candidate after the context and those before it."""
    logits = model(torch.tensor([context + candidate])).logits[0, len(context) - 1 : -1]
    return logits.log_softmax(-1).gather(1, torch.tensor(candidate)[:, None])[:, 0]


@pytest.mark.parametrize("expert", ["spanish", "opposites"])
def test_what_llama_cpp_would_run_as_something_else_is_refused(expert: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be written as GGUF"):
        write_gguf(EXPERTS / expert, tmp_path / "model.gguf")
