"""Measures a member whose model runs on a server elsewhere: `python bench/member.py`.

What it takes until it serves, its server being ready, and what memory it then has, after a draft
and two scores. The server is a made-up text-generation-inference with a random model; vocabularies
of the sizes that models have are made up, too: words of four letters.
"""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from statistics import median
from string import ascii_lowercase
from typing import Annotated

import torch
import typer
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from specfuse.localmesh import ServiceAddresses
from specfuse.rpc.channels import open_channel
from specfuse.v1 import model_service_pb2 as pb
from specfuse.v1.model_service_pb2_grpc import ModelServiceStub
from tests.support.command import running
from tests.support.fakes.tgi import FakeTgi

VOCABULARIES = (2_000, 32_000, 128_000)
WINDOW = 256
REPEATS = 3
_ENDS = ("<s>", "</s>")
_CONTEXT = pb.Context(raw_prompt="some words")


@dataclass(frozen=True, slots=True)
class Member:
    """A member that serves: seconds until then, of the clock and of processors, and its memory.

    Memory that it shares with other processes is counted in part (PSS), but in `most_mebibytes`,
    the most that it ever had (RSS).
    """

    seconds: float
    processor_seconds: float
    mebibytes: float
    most_mebibytes: float


def tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with so many tokens."""
    letters = [*product(ascii_lowercase, repeat=2)]
    pairs = ["".join(pair) for pair in letters]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    room = vocabulary - len(_ENDS) - len(alphabet) - len(pairs)
    merges = [*letters, *islice(product(pairs, repeat=2), room)]
    tokens = (*_ENDS, *alphabet, *map("".join, merges))
    backend = Tokenizer(models.BPE({token: at for at, token in enumerate(tokens)}, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")


def save(vocabulary: int, directory: Path) -> None:
    """A model with so many tokens, and its tokenizer."""
    shape = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=4,
        max_position_embeddings=WINDOW,
        bos_token_id=0,
        eos_token_id=1,
    )
    torch.manual_seed(7)
    LlamaForCausalLM(shape).save_pretrained(directory)
    tokenizer(vocabulary).save_pretrained(directory)


async def started(file: Path) -> Member:
    """What a member is like that the settings in a file make."""
    ports = ("--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0")
    with ExitStack() as stack:
        began = time.perf_counter()
        serving = running("model", "serve", str(file), *ports)
        member = await asyncio.to_thread(stack.enter_context, serving)
        seconds, processor_seconds = time.perf_counter() - began, _processor_seconds(member.pid)
        await _asked(ServiceAddresses(**member.ready).address)
        memory = _mebibytes(member.pid), _most_mebibytes(member.pid)
        result = Member(seconds, processor_seconds, *memory)
        await asyncio.to_thread(stack.close)
    return result


async def _asked(address: str) -> None:
    async with open_channel(address) as channel:
        stub = ModelServiceStub(channel)
        await stub.ProposeSegment(pb.ProposeSegmentRequest(context=_CONTEXT, max_tokens=5))
        candidates = [pb.Candidate(text=" so"), pb.Candidate(text=" not so")]
        await stub.ScoreSegments(pb.ScoreSegmentsRequest(context=_CONTEXT, candidates=candidates))


def _processor_seconds(pid: int) -> float:
    """What a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def _mebibytes(pid: int) -> float:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    (kibibytes,) = re.findall(r"^Pss:\s+(\d+) kB$", rollup, re.MULTILINE)
    return int(kibibytes) / 1024


def _most_mebibytes(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    (kibibytes,) = re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(kibibytes) / 1024


async def measured(vocabulary: int, repeats: int) -> list[Member]:
    """Members on one server whose model has so many tokens, one after another."""
    with tempfile.TemporaryDirectory(prefix="specfuse-bench-") as name:
        directory = Path(name)
        save(vocabulary, directory / "model")
        async with FakeTgi(directory=directory / "model", window=WINDOW) as server:
            section = {"url": server.url, "tokenizer": str(directory / "model")}
            file = directory / "member.yaml"
            file.write_text(yaml.safe_dump({"name": "a", "backend": "tgi", "tgi": section}))
            return [await started(file) for _ in range(repeats)]


def table(rows: dict[int, list[Member]]) -> Iterator[str]:
    """What was measured, as Markdown."""
    yield (
        "| tokens in the vocabulary | memory, PSS | most it ever had, RSS | ready after "
        "| of that, processor |"
    )
    yield "| ---: | ---: | ---: | ---: | ---: |"
    for vocabulary, members in rows.items():
        memory = median(member.mebibytes for member in members)
        most = median(member.most_mebibytes for member in members)
        seconds = median(member.seconds for member in members)
        processor = median(member.processor_seconds for member in members)
        cells = f"{memory:.0f} MiB | {most:.0f} MiB | {seconds:.1f} s | {processor:.1f} s"
        yield f"| {vocabulary:,} | {cells} |"


def main(
    repeats: Annotated[int, typer.Option(min=1, help="How often all is measured.")] = REPEATS,
) -> None:
    """Measure the memory and the start of a member whose model runs on a server elsewhere."""
    load = " ".join(f"{load:.1f}" for load in os.getloadavg())
    rows = {each: asyncio.run(measured(each, repeats)) for each in VOCABULARIES}
    print("\n".join(table(rows)))
    print(f"\nMedians of {repeats}, load average at the start {load}.")


if __name__ == "__main__":
    typer.run(main)
