"""Measures how exact llama-server's log-probabilities are: `python bench/llama_precision.py`.

Ten tokens are forced after contexts of some lengths, with several ways of keeping and reading the
cache, and compared with what transformers gives them in single precision.
"""

from __future__ import annotations

import sys
import tempfile
from itertools import islice
from pathlib import Path

import torch
import typer
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

import specfuse.demo
from bench.report import LEFT_OUT
from tests.support import tiny_models
from tests.support.gguf_models import write_gguf
from tests.support.llama_server import executable, llama_server, post
from tests.support.tokenizers import TEXTS

EXPERTS = Path(specfuse.demo.__file__).parent / "models"
TINY = "llama_served"
CONTEXTS = (50, 300, 900)
FORCED_TOKENS = 10
_F16 = ("--cache-type-k", "f16", "--cache-type-v", "f16")
_Q8 = ("--cache-type-k", "q8_0", "--cache-type-v", "q8_0")
WAYS = {
    "-ctk f32 -ctv f32 -fa off": (),
    "-fa off": _F16,
    "no flags": (*_F16, "--flash-attn", "auto"),
    "-ctk f32 -ctv f32": ("--flash-attn", "auto"),
    "-ctk q8_0 -ctv q8_0 -fa on": (*_Q8, "--flash-attn", "on"),
}
"""What a user would write, and what to add to the flags of the tests' servers for it."""


class Subject:
    """A model as transformers runs it, and a long text in its tokens."""

    def __init__(self, directory: Path) -> None:
        self._model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            directory, dtype=torch.float32
        ).eval()
        tokenizer = AutoTokenizer.from_pretrained(directory)
        ids = tokenizer(TEXTS["english"]).input_ids
        self._ids = ids * (2 * max(CONTEXTS) // len(ids))
        self._special = set(tokenizer.all_special_ids)
        self._is_ascii = {id_: tokenizer.decode([id_]).isascii() for id_ in ids}

    def error(self, address: str, tokens: int) -> float:
        """The largest of the forced tokens after so many of context."""
        context, rest = self._ids[:tokens], self._ids[tokens:]
        plain = (id_ for id_ in rest if self._is_ascii[id_] and id_ not in self._special)
        forced = list(islice(plain, FORCED_TOKENS))
        body = {
            "prompt": context,
            "n_predict": len(forced),
            "n_probs": 1,
            "return_tokens": True,
            "cache_prompt": False,
            "grammar": "root ::= " + " ".join(f"<[{id_}]>" for id_ in forced),
        }
        answer = post(address, "/completion", body)
        if answer["tokens"] != forced:
            raise AssertionError("other tokens were generated")
        told = torch.tensor([one["logprob"] for one in answer["completion_probabilities"]])
        return float((told - self._logprobs(context, forced)).abs().max())

    @torch.inference_mode()
    def _logprobs(self, context: list[int], forced: list[int]) -> torch.Tensor:
        logits = self._model(torch.tensor([context + forced])).logits[0, len(context) - 1 : -1]
        return logits.log_softmax(-1).gather(1, torch.tensor(forced)[:, None])[:, 0]


def measured(name: str, place: Path) -> dict[str, list[float]]:
    """The errors of a model, by way, a number for each length of context."""
    directory = EXPERTS / name
    if not directory.exists():
        directory = place / name
        tiny_models.save(name, directory)
    file = place / f"{name}.gguf"
    write_gguf(directory, file)
    subject = Subject(directory)
    errors = {}
    for way, flags in WAYS.items():
        with llama_server(file, *flags, "--ctx-size", "2048", "--parallel", "1") as address:
            errors[way] = [subject.error(address, tokens) for tokens in CONTEXTS]
    return errors


def main() -> None:
    """Measure how exact llama-server's log-probabilities are."""
    if not executable().exists():
        print(f"left out: there is no {executable()}; make servers", file=sys.stderr)
        raise typer.Exit(LEFT_OUT)
    with tempfile.TemporaryDirectory(prefix="specfuse-bench-") as place:
        models = [measured(name, Path(place)) for name in (TINY, "capitals", "sums")]
    print(f"| cache and attention | {' | '.join(map(str, CONTEXTS))} |")
    print(f"| --- |{' ---: |' * len(CONTEXTS)}")
    for way in WAYS:
        worst = [max(errors) for errors in zip(*(model[way] for model in models), strict=True)]
        print(f"| `{way}` | {' | '.join(f'{error:.1e}' for error in worst)} |")


if __name__ == "__main__":
    typer.run(main)
