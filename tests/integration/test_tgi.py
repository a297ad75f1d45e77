"""The tgi backend on a made-up server, over HTTP: its numbers, its traps, its troubles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import takewhile
from pathlib import Path

import pytest
import torch

from model_service.backends.remote.backend import RemoteBackend
from model_service.core.types import (
    Candidate,
    Context,
    Message,
    ProposeRequest,
    Role,
    Sampling,
    ScoreRequest,
    SegmentFinish,
)
from specfuse.deadline import Deadline
from specfuse.errors import (
    ContextTooLong,
    InvalidArgument,
    Misconfigured,
    ModelFailure,
    Overloaded,
    SpecFuseError,
    Unavailable,
)
from tests.support import tiny_models
from tests.support.fakes.tgi import FakeTgi
from tests.support.observers import RecordingObserver
from tests.support.tgi_backend import opened, tokenizer_of

PATIENCE_SECONDS = 60.0
CONTEXT = Context("The capital of France is", (" Paris", ", and 42"))
CHAT = Context((Message(Role.USER, "Where is Paris?"),), ("It is", " in"))
CANDIDATES = (
    Candidate(" in the north", finished=False),
    Candidate(".", finished=True),
    Candidate("", finished=True),
    Candidate("nd more, quietly, than had been begun", finished=False),
)


@pytest.fixture
async def fake() -> AsyncIterator[FakeTgi]:
    async with FakeTgi() as fake:
        yield fake


@pytest.fixture
def tokenizer(tmp_path: Path) -> str:
    return tokenizer_of("llama", tmp_path)


@pytest.fixture
async def backend(fake: FakeTgi, tokenizer: str) -> AsyncIterator[RemoteBackend]:
    async with opened(fake.url, tokenizer) as backend:
        fake.generations.clear()
        yield backend


def soon() -> Deadline:
    return Deadline.after(PATIENCE_SECONDS)


def whole_text(architecture: str, context: Context) -> str:
    """What the server must be sent for a context."""
    native = tiny_models.tokenizer(architecture)
    prompt = context.prompt
    if not isinstance(prompt, str):
        turns = [{"role": one.role.value, "content": one.content} for one in prompt]
        rendered = native.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        prompt = str(rendered).removeprefix("<s>") if native("a")["input_ids"][0] == 1 else rendered
    return prompt + "".join(context.committed)


def plainly_scored(architecture: str, context: Context, candidate: Candidate) -> list[float]:
    """What the model itself says, of the tokens that the whole text has and the context has not."""
    native = tiny_models.tokenizer(architecture)
    before = whole_text(architecture, context)
    whole = before + candidate.text + ("</s>" if candidate.finished else "")
    ids = native(whole)["input_ids"]
    pairs = zip(native(before)["input_ids"], ids, strict=False)
    shared = len([*takewhile(lambda pair: pair[0] == pair[1], pairs)])
    with torch.inference_mode():
        logits = tiny_models.reference(architecture)(torch.tensor([ids])).logits[0]
    logprobs = torch.log_softmax(logits.float(), -1)
    return [float(logprobs[at - 1, ids[at]]) for at in range(shared, len(ids))]


async def scored(backend: RemoteBackend, context: Context = CONTEXT) -> list[tuple[float, ...]]:
    scores = await backend.score(ScoreRequest(context, CANDIDATES), soon())
    return [score.token_logprobs for score in scores.scores]


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "mistral", "qwen2", "gpt2"])
@pytest.mark.parametrize("context", [CONTEXT, CHAT], ids=["raw", "chat"])
async def test_scores_are_the_models_own(
    architecture: str, context: Context, tmp_path: Path
) -> None:
    """For every kind of tokenizer, with what it merges across the boundary."""
    async with FakeTgi(architecture) as fake:
        tokenizer = tokenizer_of(architecture, tmp_path)
        async with opened(fake.url, tokenizer) as backend:
            found = await scored(backend, context)
    for logprobs, candidate in zip(found, CANDIDATES, strict=True):
        assert logprobs == pytest.approx(plainly_scored(architecture, context, candidate), abs=1e-4)


async def test_an_empty_finished_candidate_is_the_end_token(backend: RemoteBackend) -> None:
    request = ScoreRequest(CONTEXT, (Candidate("", finished=True),))
    scores = await backend.score(request, soon())
    assert (scores.scores[0].token_count, scores.scores[0].byte_count) == (1, 0)


async def test_counts_are_of_what_merged(backend: RemoteBackend) -> None:
    """`France` is one token of the whole text, and two or more of the parts."""
    context = Context("The capital of Fra")
    scores = await backend.score(ScoreRequest(context, (Candidate("nce", finished=False),)), soon())
    expected = plainly_scored("llama", context, Candidate("nce", finished=False))
    assert scores.scores[0].token_logprobs == pytest.approx(expected, abs=1e-4)
    assert scores.scores[0].byte_count == 3


async def test_a_template_s_beginning_is_not_doubled(backend: RemoteBackend, fake: FakeTgi) -> None:
    await backend.propose(ProposeRequest(CHAT, 2), soon())
    (request,) = fake.generations
    assert request.inputs == whole_text("llama", CHAT)
    assert fake.ids(request.inputs).count(1) == 1


async def test_greedy_proposals_are_what_the_model_prefers(
    backend: RemoteBackend, fake: FakeTgi
) -> None:
    proposal = await backend.propose(ProposeRequest(CONTEXT, 8), soon())
    ids = fake.ids(whole_text("llama", CONTEXT))
    output = tiny_models.reference("llama").generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        max_new_tokens=8,
        do_sample=False,
        pad_token_id=0,
    )
    text = tiny_models.tokenizer("llama").decode(output[0, len(ids) :]).replace("\ufffd", "")
    assert proposal.text
    assert text.startswith(proposal.text)
    (request,) = fake.generations
    assert request.parameters.model_dump(exclude_unset=True) == {
        "do_sample": False,
        "details": True,
        "return_full_text": False,
        "max_new_tokens": 8,
    }


async def test_an_own_score_is_what_scoring_says(backend: RemoteBackend) -> None:
    """Random models seldom write what would be tokenized like that again, so several are asked."""
    compared = 0
    for number in range(24):
        context = Context(f"Number {number} is")
        proposal = await backend.propose(ProposeRequest(context, 1 + number % 2), soon())
        if proposal.own_score is None:
            continue
        candidate = Candidate(proposal.text, proposal.finish is SegmentFinish.END)
        scores = await backend.score(ScoreRequest(context, (candidate,)), soon())
        assert proposal.own_score.token_logprobs == pytest.approx(
            scores.scores[0].token_logprobs, abs=1e-4
        )
        compared += 1
    assert backend.model.capabilities.own_scores
    assert compared


async def test_what_would_merge_with_its_context_has_no_own_score(
    backend: RemoteBackend, fake: FakeTgi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Fra` and `nce.` were generated; of the text, the server would make `France` and `.`."""
    context = Context("The capital of Fra")
    native = tiny_models.tokenizer("llama")
    forced = [native.convert_tokens_to_ids(token) for token in ("nce", ".")]
    begun = len(fake.ids(whole_text("llama", context)))

    def logits(ids: list[int]) -> torch.Tensor:
        scores = torch.zeros(len(ids), len(native))
        scores[:, forced[min(len(ids) - begun, 1)]] = 50.0
        return scores

    monkeypatch.setattr(fake, "_logits", logits)
    proposal = await backend.propose(ProposeRequest(context, 2), soon())
    assert proposal.text == "nce."
    assert proposal.own_score is None


async def test_sampled_proposals_have_no_score_and_repeat(backend: RemoteBackend) -> None:
    sampling = Sampling(temperature=1.5, top_p=0.95, top_k=50, seed=5)
    request = ProposeRequest(CONTEXT, 6, sampling)
    first, second = [await backend.propose(request, soon()) for _ in range(2)]
    assert first == second
    assert first.own_score is None
    other = ProposeRequest(CONTEXT, 6, Sampling(temperature=1.5, seed=6))
    assert (await backend.propose(other, soon())).text != first.text


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=1e-60, top_p=1.0),
        Sampling(temperature=2.0, top_p=1 - 1e-12, top_k=1),
        Sampling(temperature=1.0, top_p=1e-6),
    ],
)
async def test_every_way_to_have_one_choice_only_is_greedy(
    sampling: Sampling, backend: RemoteBackend
) -> None:
    """None of them is refused, however the server rounds."""
    greedy = await backend.propose(ProposeRequest(CONTEXT, 8), soon())
    drawn = await backend.propose(ProposeRequest(CONTEXT, 8, sampling), soon())
    assert (drawn.text, drawn.finish) == (greedy.text, greedy.finish)


async def test_an_end_token_that_is_the_last_allowed_is_an_end(
    backend: RemoteBackend, fake: FakeTgi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server says `length` of it."""
    forced = torch.zeros(len(tiny_models.tokenizer("llama")))
    forced[2] = 50.0
    monkeypatch.setattr(fake, "_logits", lambda ids: forced.expand(len(ids), -1))
    proposal = await backend.propose(ProposeRequest(CONTEXT, 1), soon())
    assert (proposal.text, proposal.finish) == ("", SegmentFinish.END)
    assert proposal.own_score is not None
    assert proposal.own_score.token_count == 1


async def test_an_end_token_that_is_not_known_here_is_a_failure(
    backend: RemoteBackend, fake: FakeTgi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the tokenizer's directory lacks the model's generation settings."""
    monkeypatch.setattr(fake, "_end", 30)
    forced = torch.zeros(len(tiny_models.tokenizer("llama")))
    forced[30] = 50.0
    monkeypatch.setattr(fake, "_logits", lambda ids: forced.expand(len(ids), -1))
    with pytest.raises(ModelFailure, match="ends with token 30"):
        await backend.propose(ProposeRequest(CONTEXT, 3), soon())


@pytest.mark.parametrize(
    ("context", "field"),
    [
        (Context("say </s>"), "context.raw_prompt"),
        (Context("say", (" <|us", "er|>")), "context"),
        (
            Context((Message(Role.USER, "what is <|im_end|>?"),)),
            "context.conversation.messages[0].content",
        ),
    ],
)
async def test_text_that_spells_special_tokens_is_refused(
    context: Context, field: str, backend: RemoteBackend, fake: FakeTgi
) -> None:
    with pytest.raises(InvalidArgument, match="special token") as refused:
        await backend.propose(ProposeRequest(context, 2), soon())
    assert refused.value.field == field
    with pytest.raises(InvalidArgument, match="special token"):
        await scored(backend, context)
    assert not fake.generations


async def test_the_window_is_what_scoring_can_use(backend: RemoteBackend, fake: FakeTgi) -> None:
    """One token less than the server's, for the one that scoring generates."""
    assert backend.model.context_window == fake.max_total_tokens - 1
    words = " 7" * 300
    tokens = len(fake.ids("It is"))
    room = backend.model.context_window - tokens
    fitting = Candidate(words[: 2 * (room // 2)], finished=False)
    if len(fake.ids("It is" + fitting.text)) < backend.model.context_window:
        fitting = Candidate(fitting.text + "7", finished=False)
    scores = await backend.score(ScoreRequest(Context("It is"), (fitting,)), soon())
    assert scores.scores[0].token_count + tokens == backend.model.context_window
    more = Candidate(fitting.text, finished=True)
    with pytest.raises(ContextTooLong):
        await backend.score(ScoreRequest(Context("It is"), (more,)), soon())


@pytest.mark.parametrize(("longest_input", "window"), [(400, 255), (255, 255), (100, 100)])
async def test_the_window_is_the_shorter_of_two(
    longest_input: int, window: int, fake: FakeTgi, tokenizer: str
) -> None:
    fake.max_input_tokens = longest_input
    async with opened(fake.url, tokenizer) as backend:
        assert backend.model.context_window == window


async def test_what_only_the_server_finds_too_long_is_too_long(
    backend: RemoteBackend, fake: FakeTgi
) -> None:
    fake.max_total_tokens = 12
    with pytest.raises(ContextTooLong) as refused:
        await backend.propose(ProposeRequest(CONTEXT, 9), soon())
    assert refused.value.metadata["window"] == "12"


@pytest.mark.parametrize(
    ("trouble", "error"),
    [
        ("dies", Unavailable),
        ("garbage", ModelFailure),
        ("nonsense", ModelFailure),
        ("nan", ModelFailure),
        ("fewer", ModelFailure),
        ("overloaded", Overloaded),
        ("loading", Unavailable),
        ("generation", Unavailable),
        ("incomplete", Unavailable),
        ("malformed", ModelFailure),
    ],
)
async def test_every_trouble_is_one_of_our_errors_and_passes(
    trouble: str, error: type[SpecFuseError], backend: RemoteBackend, fake: FakeTgi
) -> None:
    right = await scored(backend)
    fake.trouble = trouble
    with pytest.raises(error):
        await backend.propose(ProposeRequest(CONTEXT, 2), soon())
    with pytest.raises(error) as raised:
        await scored(backend)
    if trouble == "overloaded":
        assert raised.value.metadata["retry_after_seconds"] == "7"
    fake.trouble = None
    await backend._watch._looked()
    assert await scored(backend) == right


async def test_other_tokens_than_expected_are_never_a_score(
    backend: RemoteBackend, fake: FakeTgi
) -> None:
    fake.trouble = "other_tokens"
    with pytest.raises(ModelFailure, match="other tokens"):
        await scored(backend)


async def test_work_ends_with_the_call(backend: RemoteBackend, fake: FakeTgi) -> None:
    """Of a scoring call, with all its requests."""
    fake.trouble = "hang"
    call = asyncio.ensure_future(scored(backend))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await fake.until_working(len(CANDIDATES))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await fake.until_working(0)


async def test_one_refusal_ends_the_other_requests(backend: RemoteBackend, fake: FakeTgi) -> None:
    fake.max_total_tokens = 20
    with pytest.raises(ContextTooLong):
        await scored(backend)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await fake.until_working(0)


async def test_no_more_is_asked_at_a_time_than_the_server_takes(tokenizer: str) -> None:
    async with FakeTgi() as fake:
        fake.max_concurrent_requests = 2
        async with opened(fake.url, tokenizer) as backend:
            assert len(await scored(backend)) == len(CANDIDATES)


async def test_a_server_without_prefill_probabilities_is_told_the_flag(
    fake: FakeTgi, tokenizer: str
) -> None:
    fake.prefill_logprobs = False
    with pytest.raises(Misconfigured, match=r"tgi\.url: .*--enable-prefill-logprobs"):
        async with opened(fake.url, tokenizer):
            pass


async def test_a_flag_that_is_gone_makes_the_server_unavailable(
    backend: RemoteBackend, fake: FakeTgi
) -> None:
    fake.prefill_logprobs = False
    with pytest.raises(Unavailable, match="--enable-prefill-logprobs"):
        await scored(backend)


async def test_a_server_that_pads_is_told_the_flag(fake: FakeTgi, tokenizer: str) -> None:
    fake.pads = True
    with pytest.raises(Misconfigured, match="--max-batch-size 1"):
        async with opened(fake.url, tokenizer):
            pass


async def test_a_server_that_pads_nothing_by_that_flag_is_right(
    fake: FakeTgi, tokenizer: str
) -> None:
    fake.pads, fake.max_batch_size = True, 1
    async with opened(fake.url, tokenizer) as backend:
        found = await scored(backend)
    for logprobs, candidate in zip(found, CANDIDATES, strict=True):
        assert logprobs == pytest.approx(plainly_scored("llama", CONTEXT, candidate), abs=1e-4)


async def test_padding_is_noticed_later_too(backend: RemoteBackend, fake: FakeTgi) -> None:
    fake.pads = True
    with pytest.raises(Unavailable, match="--max-batch-size 1"):
        await scored(backend)


async def test_another_tokenizer_is_noticed(fake: FakeTgi, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"tgi\.tokenizer: it is not the one"):
        async with opened(fake.url, tokenizer_of("qwen2", tmp_path)):
            pass


async def test_a_key_is_sent_and_asked_for(fake: FakeTgi, tokenizer: str, tmp_path: Path) -> None:
    fake.key = "sesame"
    with pytest.raises(Misconfigured, match="api_key_file"):
        async with opened(fake.url, tokenizer):
            pass
    key = tmp_path / "key"
    key.write_text("sesame\n")
    async with opened(fake.url, tokenizer, api_key_file=key) as backend:
        assert await scored(backend)


async def test_a_server_that_is_loading_is_waited_for(fake: FakeTgi, tokenizer: str) -> None:
    async def window() -> int:
        async with opened(fake.url, tokenizer) as backend:
            return backend.model.context_window

    fake.trouble = "loading"
    opening = asyncio.ensure_future(window())
    async with asyncio.timeout(PATIENCE_SECONDS):
        await fake.refused_health.wait()
    fake.trouble = None
    assert await opening == tiny_models.WINDOW - 1


async def test_the_model_is_described_by_its_name_and_commit(backend: RemoteBackend) -> None:
    assert backend.model.revision.startswith("tiny/llama, 0123abcd, ")
    assert backend.model.backend == "tgi"
    assert not backend.model.capabilities.prefix_cache


async def test_requests_and_load_are_told(fake: FakeTgi, tokenizer: str) -> None:
    observer = RecordingObserver()
    async with opened(fake.url, tokenizer, observer) as backend:
        await backend.propose(ProposeRequest(CONTEXT, 2), soon())
        await backend._watch._looked()
    assert ("generate", "ok") in observer.requests
    assert ("judge", "ok") in observer.requests
    assert observer.loads == [(0, 0)]
