"""Measures what starting takes, and what memory is taken then: `python bench/start.py`.

- what commands take that need not import much: help, and files that are wrong;
- the demo's mesh until it is ready, its memory then, and after many questions;
- a member on llama-server (`make servers`), and which big libraries it has loaded;
- a model service whose model has 268M random parameters and a vocabulary of 262,144, beside a
  program that only has transformers load that model; and an answer by both.

With `--beside TREE`, another checkout is measured in turns with this one. Processor seconds are of
all processes together; they say more than the clock's where others use the machine. Memory that
processes share is counted in part (PSS), so it adds up.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated

import torch
import typer
from member import tokenizer
from transformers import AutoModelForCausalLM, Gemma3TextConfig

from specfuse.client import AsyncClient
from specfuse.demo.skills import generate_questions
from specfuse.rpc.channels import open_channel
from specfuse.v1 import model_service_pb2 as pb
from specfuse.v1.model_service_pb2_grpc import ModelServiceStub
from tests.support import tiny_models
from tests.support.gguf_models import write_gguf
from tests.support.llama_server import executable, llama_server

HERE = Path(__file__).parents[1]
VOCABULARY = 262_144
ANSWER_TOKENS = 24
WRONG = "colour: red\n"
COMMANDS = {
    "specfuse --help": ("--help",),
    "model serve, wrong file": ("model", "serve", "{wrong}"),
    "fuser serve, wrong file": ("fuser", "serve", "{wrong}"),
    "up, wrong file": ("up", "{wrong}"),
}
PORTS = ("--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0")
BIG = ("torch", "transformers", "numpy")
_MIB = 1 << 10
"""In the kibibytes that the kernel tells."""

PLAIN = f"""
import sys, time, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
torch.set_num_threads(1)
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
print("ready", flush=True)
for prompt in sys.stdin:
    ids = tokenizer(prompt[:-1], return_tensors="pt").input_ids
    began = time.process_time()
    tokens = dict(max_new_tokens={ANSWER_TOKENS}, min_new_tokens={ANSWER_TOKENS})
    model.generate(ids, **tokens, do_sample=False)
    print(time.process_time() - began, flush=True)
"""
"""A program that loads a model, and answers the prompts that it is sent."""


@dataclass(frozen=True, slots=True)
class Started:
    """What serves: seconds until it did, of the clock and of processors, and its processes."""

    seconds: float
    processor_seconds: float
    pids: tuple[int, ...]
    ready: dict[str, object]

    @property
    def mebibytes(self) -> float:
        """The memory of all processes now."""
        return sum(map(_mebibytes, self.pids))


def _mebibytes(pid: int) -> float:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    (kibibytes,) = re.findall(r"^Pss:\s+(\d+) kB$", rollup, re.MULTILINE)
    return int(kibibytes) / _MIB


def _processor_seconds(pid: int) -> float:
    """What a process has used so far, with its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _environment(tree: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(tree)}


def _command(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-P", "-m", "specfuse.cli", *arguments)


@contextmanager
def serving(tree: Path, *arguments: str) -> Iterator[Started]:
    """A command of a checkout, from when it is ready."""
    read_end, write_end = os.pipe()
    began = time.perf_counter()
    process = subprocess.Popen(
        (*_command(*arguments), "--ready-fd", str(write_end)),
        env=_environment(tree),
        pass_fds=(write_end,),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(write_end)
    try:
        with os.fdopen(read_end) as pipe:
            ready = json.loads(pipe.readline())
        seconds = time.perf_counter() - began
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        pids = (process.pid, *map(int, children))
        yield Started(seconds, sum(map(_processor_seconds, pids)), pids, ready)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def command_seconds(tree: Path, arguments: tuple[str, ...], wrong: Path) -> float:
    """The processor seconds of a command that ends."""
    filled = (argument.format(wrong=wrong) for argument in arguments)
    process = subprocess.Popen(
        _command(*filled),
        env=_environment(tree),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, _, used = os.wait4(process.pid, 0)
    process.returncode = 0
    return used.ru_utime + used.ru_stime


async def ask(address: str, count: int) -> None:
    """Asks the demo's experts so many questions of two parts, two at a time."""
    async with AsyncClient(address) as client:
        questions = iter(generate_questions(seed=5, count=count, parts=2))

        async def caller() -> None:
            for question in questions:
                await client.generate(question.prompt, ensemble="experts")

        await asyncio.gather(caller(), caller())


def commands(trees: list[Path], repeats: int) -> Iterator[str]:
    """A line for each command."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(WRONG)
        file.flush()
        for name, arguments in COMMANDS.items():
            used: dict[Path, list[float]] = {tree: [] for tree in trees}
            for _ in range(repeats):
                for tree in trees:
                    used[tree].append(command_seconds(tree, arguments, Path(file.name)))
            yield _line(name, *(f"{median(used[tree]):.2f} s" for tree in trees))


def mesh(trees: list[Path], questions: int) -> Iterator[str]:
    """Lines for the demo's mesh."""
    rows: list[tuple[str, str, str, str]] = []
    for tree in trees:
        with serving(tree, "up", "--demo") as up:
            before = up.mebibytes
            asyncio.run(ask(up.ready["fuser"]["address"], questions))  # type: ignore[index]
            after = f"{up.mebibytes:.0f} MiB in {len(up.pids)} processes"
            processor, clock = f"{up.processor_seconds:.1f} s", f"{up.seconds:.1f} s"
            rows.append((processor, clock, f"{before:.0f} MiB", after))
    for name, cells in zip(
        ("mesh: processor", "mesh: clock", "mesh: memory", f"mesh: after {questions} questions"),
        zip(*rows, strict=True),
        strict=True,
    ):
        yield _line(name, *cells)


def remote(trees: list[Path]) -> Iterator[str]:
    """Lines for a member on a server of another project."""
    if not executable().exists():
        yield f"\na member on llama-server is left out: there is no {executable()}; make servers"
        return
    with tempfile.TemporaryDirectory(prefix="specfuse-bench-") as name, ExitStack() as stack:
        directory = Path(name)
        tiny_models.save("llama_served", directory)
        write_gguf(directory, directory / "model.gguf")
        url = stack.enter_context(llama_server(directory / "model.gguf"))
        file = directory / "model.yaml"
        file.write_text(
            f"name: a\nbackend: llama_cpp\nllama_cpp: {{url: {url}, tokenizer: {directory}}}\n"
        )
        services = [
            stack.enter_context(serving(tree, "model", "serve", str(file), *PORTS))
            for tree in trees
        ]
        yield _line(
            "on llama-server, start: processor",
            *(f"{one.processor_seconds:.2f} s" for one in services),
        )
        yield _line("on llama-server, start: clock", *(f"{one.seconds:.2f} s" for one in services))
        yield _line("on llama-server, memory", *(f"{one.mebibytes:.0f} MiB" for one in services))
        yield _line("on llama-server, has loaded", *(_big_libraries(one.pids) for one in services))


def _big_libraries(pids: Iterable[int]) -> str:
    maps = "".join(Path(f"/proc/{pid}/maps").read_text() for pid in pids)
    return ", ".join(name for name in BIG if f"/{name}/" in maps) or "none of them"


def save_model(directory: Path) -> float:
    """A model in the shape of Gemma 3 270M. Returns the size of its weights in float32, in MiB."""
    config = Gemma3TextConfig(
        vocab_size=VOCABULARY,
        hidden_size=640,
        intermediate_size=2048,
        num_hidden_layers=18,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=256,
        max_position_embeddings=32_768,
        sliding_window=512,
        bos_token_id=0,
        eos_token_id=1,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(directory)
    tokenizer(VOCABULARY).save_pretrained(directory)
    return sum(weights.numel() * 4 for weights in model.parameters()) / (1 << 20)


def model(trees: list[Path], repeats: int) -> Iterator[str]:
    """Lines for a model service, and for transformers alone."""
    with tempfile.TemporaryDirectory(prefix="specfuse-bench-") as name, ExitStack() as stack:
        directory = Path(name)
        weights = save_model(directory)
        file = directory / "model.yaml"
        file.write_text(f"name: a\ntorch: {{model: {directory}, threads: 1}}\n")
        services = [
            stack.enter_context(serving(tree, "model", "serve", str(file), *PORTS))
            for tree in trees
        ]
        plain = stack.enter_context(Plain.started(directory))
        yield _line(
            "model, start: processor", *(f"{one.processor_seconds:.1f} s" for one in services)
        )
        yield _line("model, start: clock", *(f"{one.seconds:.1f} s" for one in services))
        yield _line("model, memory", *(_in_weights(one.mebibytes, weights) for one in services))
        yield f"\ntransformers alone: {plain.told(weights)}"
        shares = asyncio.run(answers(services, plain, repeats))
        yield _line(f"an answer of {ANSWER_TOKENS} tokens, transformers' = 1", *shares)


class Plain:
    """A program that only has transformers load a model and continue prompts."""

    def __init__(self, process: subprocess.Popen[str], seconds: float) -> None:
        self._process = process
        self._seconds = seconds

    @classmethod
    @contextmanager
    def started(cls, directory: Path) -> Iterator[Plain]:
        """The program, from when the model is loaded."""
        began = time.perf_counter()
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        argv = (sys.executable, "-c", PLAIN, str(directory))
        with subprocess.Popen(argv, text=True, **pipes) as process:  # type: ignore[call-overload]
            process.stdout.readline()
            yield cls(process, time.perf_counter() - began)
            process.kill()

    def told(self, weights: float) -> str:
        """What its start took, and its memory."""
        pid = self._process.pid
        memory = _in_weights(_mebibytes(pid), weights)
        return f"{_processor_seconds(pid):.1f} s, by the clock {self._seconds:.1f} s; {memory}"

    def answer(self, prompt: str) -> float:
        """The processor seconds of an answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{prompt}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())


async def answers(services: list[Started], plain: Plain, repeats: int) -> list[str]:
    """The processor seconds of an answer of each service, as shares of those that it takes alone.

    All answer in turns.
    """
    shares: list[list[float]] = [[] for _ in services]
    for number in range(repeats):
        prompt = f"the question {number} is about so many words"
        own = plain.answer(prompt)
        for service, taken in zip(services, shares, strict=True):
            taken.append(await drafted(service, prompt) / own)
    return [f"{median(taken):.2f}" for taken in shares]


async def drafted(service: Started, prompt: str) -> float:
    """The processor seconds of a draft."""
    before = _processor_seconds(service.pids[0])
    async with open_channel(str(service.ready["address"])) as channel:
        request = pb.ProposeSegmentRequest(
            context=pb.Context(raw_prompt=prompt), max_tokens=ANSWER_TOKENS
        )
        await ModelServiceStub(channel).ProposeSegment(request)
    return _processor_seconds(service.pids[0]) - before


def _in_weights(mebibytes: float, weights: float) -> str:
    return f"{mebibytes:.0f} MiB, {mebibytes / weights:.2f} x the weights"


def _line(name: str, *cells: str) -> str:
    return f"| {name} | {' | '.join(cells)} |"


def main(
    beside: Annotated[
        list[Path] | None, typer.Option(metavar="TREE", help="Another checkout; it comes first.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="How often short things are done.")] = 5,
    questions: Annotated[int, typer.Option(min=0, help="Asked of the mesh.")] = 300,
    only: Annotated[
        list[str] | None, typer.Option(help="commands, mesh, remote or model; all if not given.")
    ] = None,
) -> None:
    """Measure starts and memory, of this checkout and of others."""
    load = " ".join(f"{load:.1f}" for load in os.getloadavg())
    trees = [*(tree.absolute() for tree in beside or ()), HERE]
    print(_line("", *("this checkout" if tree == HERE else tree.name for tree in trees)))
    print(_line("---", *("---:" for _ in trees)))
    parts = {
        "commands": lambda: commands(trees, repeats),
        "mesh": lambda: mesh(trees, questions),
        "remote": lambda: remote(trees),
        "model": lambda: model(trees, repeats),
    }
    for part in only or parts:
        for line in parts[part]():
            print(line, flush=True)
    print(f"\nLoad average at the start {load}.")


if __name__ == "__main__":
    typer.run(main)
