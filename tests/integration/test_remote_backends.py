"""What holds for every backend whose model runs on another project's server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from model_service.backends.remote import watch
from model_service.backends.remote.backend import RemoteBackend
from model_service.core.types import (
    Candidate,
    Context,
    Message,
    ProposeRequest,
    Role,
    Sampling,
    Score,
    ScoreRequest,
    SegmentFinish,
)
from model_service.ports import RemoteOutcome
from specfuse.deadline import Deadline
from specfuse.errors import (
    ContextTooLong,
    DeadlineExceeded,
    InvalidArgument,
    Misconfigured,
    ModelFailure,
    Overloaded,
    SpecFuseError,
    Unavailable,
)
from tests.support import tiny_models
from tests.support.gguf_models import write_gguf
from tests.support.http_between import Between, between
from tests.support.llama_server import llama_server, needs_llama_server
from tests.support.meddling import MEDDLED, refusing
from tests.support.observers import RecordingObserver
from tests.support.remote_subjects import ARCHITECTURE, Regrets, Subject, made_up

T = TypeVar("T")

PATIENCE = 60.0
EXACT = 2e-5
CHAT = (Message(Role.SYSTEM, "Be brief."), Message(Role.USER, "What is up, 42 times?"))
CONTEXTS = {
    "chat": Context(CHAT, session_id="chat"),
    "chat that goes on": Context(CHAT, ("It is", " a", " wörld", ", 你"), "chat"),
    "raw": Context("The quick brown fox", session_id="raw"),
    "raw that goes on": Context("def area(w, h):", ("\n    return", " w * h", "\n"), "raw"),
    "no session": Context("Once upon a time", (" there",)),
}
ABOUT_ITSELF = frozenset(
    {
        "/health",
        "/info",
        "/metrics",
        "/model_info",
        "/props",
        "/server_info",
        "/v1/models",
        "/version",
    }
)
"""What servers are asked about themselves."""

CANDIDATES = {
    "words": Candidate(" the fox jumps", finished=False),
    "an end": Candidate(" over.", finished=True),
    "only the end": Candidate("", finished=True),
    "one token": Candidate(" the", finished=False),
    "a space": Candidate(" ", finished=False),
    "lines": Candidate("\n\n\n  ", finished=False),
    "characters of several tokens": Candidate(" 🙂🙃 é 你好", finished=True),
    "control characters": Candidate("\x00\x07\x1b", finished=False),
    "special tokens' names": Candidate("</s><|user|><s>", finished=True),
    "many": Candidate(" word" * 60, finished=False),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the tiny model."""
    directory = tmp_path_factory.mktemp(ARCHITECTURE)
    tiny_models.save(ARCHITECTURE, directory)
    return directory


@pytest.fixture(scope="module")
def llama_cpp(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real llama-server."""
    file = tmp_path_factory.mktemp("gguf") / "model.gguf"
    write_gguf(model, file)
    with llama_server(file, "--ctx-size", "4096", "--parallel", "4", "--metrics") as url:
        yield url


@pytest.fixture(
    params=[pytest.param("llama_cpp", marks=needs_llama_server), "sglang", "tgi", "vllm"]
)
async def subject(request: pytest.FixtureRequest, model: Path) -> AsyncIterator[Subject]:
    """Each kind of server in turn: a real llama-server, and others that are made up."""
    kind = request.param
    if kind == "llama_cpp":
        yield Subject(kind, request.getfixturevalue(kind), model)
        return
    async with made_up(kind) as url:
        yield Subject(kind, url, model)


@pytest.fixture
async def proxy(subject: Subject) -> AsyncIterator[Between]:
    """What stands between a backend and the server. Nothing befalls what identifies it."""
    async with between(subject.url) as proxy:
        yield proxy


def candidates_for(subject: Subject) -> tuple[Candidate, ...]:
    """Whatever can be sent to a server of the kind: some take text alone."""
    left_out = {"special tokens' names"} if subject.kind == "tgi" else set()
    return tuple(one for name, one in CANDIDATES.items() if name not in left_out)


async def unless_it_fails(call: Awaitable[T]) -> T | None:
    """The answer, or None if that is refused because the server's makes no sense."""
    try:
        return await call
    except (ModelFailure, Unavailable) as error:
        if "not ready" in error.message:  # the server was not even asked
            raise
        return None


def soon() -> Deadline:
    return Deadline.after(PATIENCE)


async def test_proposals_are_the_models_own(subject: Subject, subtests: pytest.Subtests) -> None:
    async with subject.opened() as backend:
        for name, context in CONTEXTS.items():
            with subtests.test(name):
                await check_proposal(subject, backend, context)


async def check_proposal(subject: Subject, backend: RemoteBackend, context: Context) -> None:
    proposal = await backend.propose(ProposeRequest(context, 12), soon())
    assert proposal.text == subject.drafted(backend, context, 12)
    assert proposal.usage.context_tokens == len(backend._encoder.context_ids(context, 1))
    if proposal.own_score is not None:
        candidate = Candidate(proposal.text, proposal.finish is SegmentFinish.END)
        expected = subject.scored(backend, context, candidate)
        assert proposal.own_score.token_logprobs == pytest.approx(expected, abs=EXACT)


async def test_scores_are_the_models_own_cold_and_warm(
    subject: Subject, subtests: pytest.Subtests
) -> None:
    async with subject.opened() as backend:
        for name, context in CONTEXTS.items():
            with subtests.test(name):
                await check_scores(subject, backend, context)


async def check_scores(subject: Subject, backend: RemoteBackend, context: Context) -> None:
    request = ScoreRequest(context, candidates_for(subject))
    for _ in range(2):
        scores = (await backend.score(request, soon())).scores
        for candidate, score in zip(request.candidates, scores, strict=True):
            expected = subject.scored(backend, context, candidate)
            assert score.token_logprobs == pytest.approx(expected, abs=EXACT)
            assert score.byte_count == len(candidate.text.encode())


async def test_evidence_is_the_models_own_where_the_server_tells_the_most_probable_tokens(
    subject: Subject, subtests: pytest.Subtests
) -> None:
    async with subject.opened() as backend:
        tells = subject.kind != "tgi"
        assert backend.model.capabilities.evidence == tells
        for name, context in CONTEXTS.items():
            with subtests.test(name):
                candidates = candidates_for(subject)
                proposal = await backend.propose(ProposeRequest(context, 12), soon())
                scores = (await backend.score(ScoreRequest(context, candidates), soon())).scores
                if not tells:
                    assert not any(
                        score.evidence for score in (*scores, proposal.own_score) if score
                    )
                    continue
                for candidate, score in zip(candidates, scores, strict=True):
                    check_evidence(score, subject.regrets(backend, context, candidate))
                if proposal.own_score is not None:
                    candidate = Candidate(proposal.text, proposal.finish is SegmentFinish.END)
                    check_evidence(proposal.own_score, subject.regrets(backend, context, candidate))


def check_evidence(score: Score, regrets: Regrets) -> None:
    found = score.evidence
    assert found is not None
    largest = max(regret for _, regret in regrets)
    off = 2 * EXACT  # of two numbers
    summed = sum(regret for _, regret in regrets)
    assert found.regret_sum == pytest.approx(summed, abs=off * len(regrets))
    assert found.regret_max == pytest.approx(largest, abs=off)
    assert found.regret_offset in [offset for offset, regret in regrets if regret > largest - off]
    assert found.entropy is None
    assert found.weakest_logprob == min(score.token_logprobs)


async def test_calls_at_once_do_not_disturb_each_other(subject: Subject) -> None:
    async with subject.opened() as backend:
        requests = [
            ScoreRequest(context, (candidate,))
            for context in CONTEXTS.values()
            for candidate in candidates_for(subject)
        ]
        answers = await asyncio.gather(*(backend.score(request, soon()) for request in requests))
        for request, answer in zip(requests, answers, strict=True):
            expected = subject.scored(backend, request.context, request.candidates[0])
            found = answer.scores[0].token_logprobs
            assert found == pytest.approx(expected, abs=EXACT)


async def test_a_stop_string_ends_a_segment_and_is_kept(subject: Subject) -> None:
    async with subject.opened() as backend:
        context = CONTEXTS["raw"]
        whole = (await backend.propose(ProposeRequest(context, 24), soon())).text
        assert len(whole) > 4
        stop = whole[2:4]
        cut = await backend.propose(ProposeRequest(context, 24, stop=(stop,)), soon())
        assert cut.finish is SegmentFinish.STOP
        assert cut.text == whole[: whole.index(stop) + len(stop)]


async def test_sampling_repeats_itself_with_the_seed(subject: Subject) -> None:
    async with subject.opened() as backend:

        async def drawn(seed: int) -> str:
            sampling = Sampling(temperature=1.5, top_p=0.95, top_k=50, seed=seed)
            request = ProposeRequest(CONTEXTS["raw"], 12, sampling)
            return (await backend.propose(request, soon())).text

        texts = [await drawn(seed) for seed in (1, 2, 3, 2**64 - 1)]
        assert len(set(texts)) > 1
        assert [await drawn(seed) for seed in (1, 2, 3, 2**64 - 1)] == texts


async def test_own_scores_of_what_was_drawn_are_the_models(subject: Subject) -> None:
    async with subject.opened() as backend:
        for seed in range(8):
            sampling = Sampling(temperature=2.0, top_p=0.7, seed=seed)
            proposal = await backend.propose(ProposeRequest(CONTEXTS["chat"], 8, sampling), soon())
            if proposal.own_score is not None:
                candidate = Candidate(proposal.text, proposal.finish is SegmentFinish.END)
                expected = subject.scored(backend, CONTEXTS["chat"], candidate)
                found = proposal.own_score.token_logprobs
                assert found == pytest.approx(expected, abs=EXACT)


async def test_what_does_not_fit_is_refused_before_the_server_is_asked(
    subject: Subject, proxy: Between
) -> None:
    async with subject.opened(proxy.url) as backend:
        proxy.asked.clear()
        window = backend.model.context_window
        long = Context("x " * window)
        with pytest.raises(ContextTooLong):
            await backend.propose(ProposeRequest(long, 4), soon())
        with pytest.raises(ContextTooLong):
            await backend.score(ScoreRequest(long, (Candidate("a", finished=True),)), soon())
        with pytest.raises(InvalidArgument, match="candidates"):
            await backend.score(ScoreRequest(CONTEXTS["raw"], ()), soon())
        assert not [path for path in proxy.asked if path not in ("/health", "/metrics", "/props")]


async def test_a_context_can_fill_the_window(subject: Subject) -> None:
    async with subject.opened() as backend:
        window, encoder = backend.model.context_window, backend._encoder
        text = "word " * window
        while len(encoder.tokenizer.context_ids(Context(text))) > window - 2:
            text = text[: -max(1, len(text) // 500)]
        context = Context(text)
        room = window - len(encoder.tokenizer.context_ids(context))
        proposal = await backend.propose(ProposeRequest(context, room), soon())
        assert proposal.text or proposal.finish is SegmentFinish.END
        end = Candidate("", finished=True)
        (score,) = (await backend.score(ScoreRequest(context, (end,)), soon())).scores
        expected = subject.scored(backend, context, end)
        # Single precision adds up to more over a thousand tokens.
        assert score.token_logprobs == pytest.approx(expected, abs=1e-3)


async def test_a_server_that_hangs_costs_no_more_than_the_deadline(
    subject: Subject, proxy: Between
) -> None:
    async with subject.opened(proxy.url) as backend:
        proxy.hangs = True
        with pytest.raises(DeadlineExceeded):
            await backend.propose(ProposeRequest(CONTEXTS["raw"], 4), Deadline.after(0.2))
        await proxy.until_working(0)


async def test_cancelling_a_call_ends_it_at_the_server(subject: Subject, proxy: Between) -> None:
    async with subject.opened(proxy.url) as backend:
        proxy.hangs = True
        call = asyncio.create_task(backend.propose(ProposeRequest(CONTEXTS["raw"], 4), soon()))
        await proxy.until_working(1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await proxy.until_working(0)


async def test_an_overloaded_server_is_no_failure_and_says_when_to_come_back(
    subject: Subject, proxy: Between
) -> None:
    observer = RecordingObserver()
    async with subject.opened(proxy.url, observer) as backend:
        proxy.meddle = refusing(429, {"error": "busy"}, retry_after="7")
        with pytest.raises(Overloaded) as caught:
            await backend.propose(ProposeRequest(CONTEXTS["raw"], 4), soon())
        assert caught.value.metadata["retry_after_seconds"] == "7"
        assert observer.requests[-1][1] == "overloaded"


async def test_an_odd_answer_is_never_a_wrong_score(
    subject: Subject, proxy: Between, subtests: pytest.Subtests
) -> None:
    context, candidates = CONTEXTS["chat"], candidates_for(subject)
    proxy.spared = ABOUT_ITSELF
    async with subject.opened(proxy.url) as backend:
        scores = (await backend.score(ScoreRequest(context, candidates), soon())).scores
        right = [score.token_logprobs for score in scores]
        for wrong, proxy.meddle in MEDDLED.items():
            for candidate, expected in zip(candidates, right, strict=True):
                with subtests.test(wrong, candidate=candidate.text):
                    request = ScoreRequest(context, (candidate,))
                    found = await unless_it_fails(backend.score(request, soon()))
                    if found is not None:
                        assert found.scores[0].token_logprobs == pytest.approx(expected, abs=EXACT)


async def test_an_odd_answer_is_never_a_wrong_own_score(
    subject: Subject, proxy: Between, subtests: pytest.Subtests
) -> None:
    proxy.spared = ABOUT_ITSELF
    async with subject.opened(proxy.url) as backend:
        for wrong, proxy.meddle in MEDDLED.items():
            for name, context in CONTEXTS.items():
                with subtests.test(wrong, context=name):
                    request = ProposeRequest(context, 8)
                    proposal = await unless_it_fails(backend.propose(request, soon()))
                    if proposal is not None and proposal.own_score is not None:
                        candidate = Candidate(proposal.text, proposal.finish is SegmentFinish.END)
                        expected = subject.scored(backend, context, candidate)
                        found = proposal.own_score.token_logprobs
                        assert found == pytest.approx(expected, abs=EXACT)


async def test_an_answer_that_breaks_off_is_no_answer(subject: Subject, proxy: Between) -> None:
    async with subject.opened(proxy.url) as backend:
        request = ProposeRequest(CONTEXTS["raw"], 4)
        before = await backend.propose(request, soon())
        proxy.breaks_off = True
        with pytest.raises(Unavailable):
            await backend.propose(request, soon())
        proxy.breaks_off = False
        assert (await backend.propose(request, soon())).text == before.text


async def test_a_connection_that_was_closed_while_idle_is_made_again(
    subject: Subject, proxy: Between
) -> None:
    observer = RecordingObserver()
    async with subject.opened(proxy.url, observer) as backend:
        request = ProposeRequest(CONTEXTS["raw"], 4)
        before = await backend.propose(request, soon())
        proxy.drop_connections()
        assert (await backend.propose(request, soon())).text == before.text


async def test_health_follows_the_server(
    subject: Subject, proxy: Between, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_EVERY_SECONDS", 0.05)
    said: asyncio.Queue[bool] = asyncio.Queue()
    async with subject.opened(proxy.url, on_ready=said.put_nowait) as backend:
        request = ProposeRequest(CONTEXTS["raw"], 4)
        before = await backend.propose(request, soon())
        proxy.retarget("http://127.0.0.1:1")
        assert await asyncio.wait_for(said.get(), PATIENCE) is False
        with pytest.raises(Unavailable, match="not ready"):
            await backend.propose(request, soon())
        proxy.retarget(subject.url)
        assert await asyncio.wait_for(said.get(), PATIENCE) is True
        assert (await backend.propose(request, soon())).text == before.text


class Looked(RecordingObserver):
    """Says when the server was asked how busy it is."""

    def __init__(self) -> None:
        super().__init__()
        self.times: asyncio.Queue[str] = asyncio.Queue()

    def requested(self, operation: str, outcome: RemoteOutcome, seconds: float) -> None:
        super().requested(operation, outcome, seconds)
        if operation == "metrics":
            self.times.put_nowait(outcome)


async def test_who_does_not_tell_how_busy_it_is_is_ready_all_the_same(
    subject: Subject, proxy: Between, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_EVERY_SECONDS", 0.05)
    observer, said = Looked(), list[bool]()
    async with subject.opened(proxy.url, observer, said.append) as backend:
        before = set(proxy.asked) - {"/metrics"}
        proxy.spared = frozenset(before)
        proxy.meddle = refusing(500)
        async with asyncio.timeout(PATIENCE):
            while await observer.times.get() == "ok":
                pass
            await observer.times.get()  # so the first look has been settled
        assert await backend.propose(ProposeRequest(CONTEXTS["raw"], 4), soon())
        assert not said


async def test_another_model_in_its_place_is_not_taken_for_it(
    subject: Subject, proxy: Between
) -> None:
    async with subject.opened(proxy.url) as backend:
        # Between two looks at it, the server is replaced; the call itself would succeed.
        changed = MEDDLED["other tokens"]
        calls = {"/completion", "/v1/completions", "/generate"}
        proxy.spared = frozenset(calls)
        proxy.meddle = changed
        proxy.drop_connections()
        with pytest.raises(Unavailable, match="not what it was"):
            await backend.propose(ProposeRequest(CONTEXTS["raw"], 4), soon())


async def test_a_key_goes_to_the_server_and_no_other_secret(
    subject: Subject, proxy: Between, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    key = tmp_path / "key"
    key.write_text("the-key\n")
    async with subject.opened(proxy.url, api_key_file=str(key)) as backend:
        await backend.propose(ProposeRequest(CONTEXTS["raw"], 4), soon())
    assert proxy.headers
    for headers in proxy.headers:
        assert headers["authorization"] == "Bearer the-key"
        assert "secret" not in str(headers)


async def test_a_refused_key_is_named(subject: Subject, proxy: Between) -> None:
    proxy.meddle = refusing(401, {"error": "Unauthorized"})
    with pytest.raises(Misconfigured, match=rf"{subject.kind}\.api_key_file.*401.*Unauthorized"):
        async with subject.opened(proxy.url):
            pass


async def test_a_server_of_another_kind_is_named(subject: Subject, proxy: Between) -> None:
    proxy.meddle = refusing(404, {"detail": "Not Found"})
    with pytest.raises(Misconfigured, match=rf"{subject.kind}\.url.*404"):
        async with subject.opened(proxy.url):
            pass


async def test_a_server_that_is_not_there_is_waited_for_and_named(subject: Subject) -> None:
    with pytest.raises(
        Misconfigured, match=rf"{subject.kind}\.url: http://127.0.0.1:1 was not .*be reached"
    ):
        async with subject.opened("http://127.0.0.1:1", start_seconds=0.8):
            pass


async def test_a_server_that_is_loading_is_waited_for(subject: Subject, proxy: Between) -> None:
    refusals = iter([refusing(503, {"error": {"message": "Loading model", "code": 503}})] * 2)

    def meddle(answer: object) -> None:
        for refuse in refusals:
            refuse(answer)  # type: ignore[arg-type]
            return

    proxy.meddle = meddle
    async with subject.opened(proxy.url) as backend:
        assert backend.model.backend == subject.kind


async def test_another_models_tokenizer_is_refused(subject: Subject, tmp_path: Path) -> None:
    tiny_models.save("qwen2", tmp_path)
    with pytest.raises(Misconfigured, match=rf"{subject.kind}\.tokenizer: it is not the one"):
        async with subject.opened(tokenizer=str(tmp_path)):
            pass


async def test_a_window_larger_than_the_servers_is_refused(subject: Subject) -> None:
    with pytest.raises(
        Misconfigured, match=rf"{subject.kind}\.max_context_tokens: 5000: .* no more than 10[12]\d"
    ):
        async with subject.opened(max_context_tokens=5000):
            pass
    async with subject.opened(max_context_tokens=100) as backend:
        assert backend.model.context_window == 100


async def test_all_that_is_asked_is_told(subject: Subject) -> None:
    observer = RecordingObserver()
    async with subject.opened(observer=observer) as backend:
        await backend.propose(ProposeRequest(CONTEXTS["chat"], 4), soon())
        await backend.score(ScoreRequest(CONTEXTS["chat"], (CANDIDATES["words"],)), soon())
    assert {outcome for _, outcome in observer.requests} == {"ok"}
    assert {"generate", "judge"} <= {operation for operation, _ in observer.requests}
    assert observer.misses > 0


async def test_errors_never_quote_the_prompt(subject: Subject, proxy: Between) -> None:
    async with subject.opened(proxy.url) as backend:
        for status in (400, 404, 422, 424, 500, 503):
            body = {"error": {"message": "bad prompt: The quick brown fox", "type": "bad quick"}}
            proxy.meddle = refusing(status, body)
            with pytest.raises(SpecFuseError) as caught:
                await backend.propose(ProposeRequest(CONTEXTS["raw"], 4), soon())
            assert "brown" not in caught.value.message
