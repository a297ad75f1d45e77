"""How a request becomes a query. Most refusals are tested at the door, over gRPC."""

from __future__ import annotations

from typing import Any

import pytest

from fuser_service.core.rules import ExitKind, SelfJudgement, Vote
from fuser_service.core.types import Message, Role, Sampling
from fuser_service.settings.settings import Ensemble, Exit, Limits
from fuser_service.settings.settings import Sampling as SamplingSettings
from fuser_service.validation import GenerateRequest, Overrides, resolve
from specfuse.errors import InvalidArgument

ENSEMBLE = Ensemble(members=("a", "b"), sampling=SamplingSettings(temperature=0.7, top_k=5))


def resolved(ensemble: Ensemble = ENSEMBLE, **fields: Any) -> Any:
    return resolve(GenerateRequest(**{"prompt": "?", **fields}), "both", ensemble, Limits())


def test_sampling_is_the_ensembles_unless_the_request_has_its_own() -> None:
    assert resolved(seed=4).sampling == Sampling(temperature=0.7, top_k=5, seed=4)
    assert resolved(sampling=Sampling(top_p=0.5), seed=4).sampling == Sampling(top_p=0.5, seed=4)


def test_overrides_replace_only_what_they_name() -> None:
    ensemble = ENSEMBLE.model_copy(update={"vote": Vote.SEGMENTS})
    plain = resolved(ensemble).rules
    rules = resolved(ensemble, overrides=Overrides(self_judgement=False, recall=False)).rules
    assert rules.self_judgement is SelfJudgement.DROP
    assert not rules.exit.recall
    assert rules.exit.kind is plain.exit.kind
    assert rules.statistic is plain.statistic


def test_recall_contradicts_an_ensemble_where_nobody_leaves() -> None:
    ensemble = Ensemble(members=("a",), exit=Exit(policy=ExitKind.NONE))
    with pytest.raises(InvalidArgument, match=r"overrides\.recall: is true, which contradicts"):
        resolved(ensemble, overrides=Overrides(recall=True))
    policy = ExitKind.ENTROPY_SOFTMAX
    query = resolved(ensemble, overrides=Overrides(recall=True, exit_policy=policy))
    assert query.rules.exit.recall


def test_the_default_session_tells_prompts_apart() -> None:
    def turns(*contents: str) -> tuple[Message, ...]:
        roles = (Role.USER, Role.ASSISTANT, Role.USER)
        return tuple(map(Message, roles, contents))

    prompts = ["ab", turns("ab"), turns("a", "b", "c"), turns("a", "bc", "c"), turns("ab", "", "c")]
    sessions = [resolved(prompt=prompt).session_id for prompt in prompts]
    assert len(set(sessions)) == len(prompts)
    assert sessions == [resolved(prompt=prompt).session_id for prompt in prompts]
    assert resolved(session_id="mine").session_id == "mine"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"prompt": "\ud800"}, "raw_prompt"),
        ({"prompt": (Message(Role.USER, "a\ud800"),)}, "conversation.messages[0].content"),
        ({"stop": ("ok", "\udfff")}, "stop[1]"),
        ({"committed_segments": ("\udfff",)}, "committed_segments[0]"),
        ({"session_id": "\udfff"}, "session_id"),
    ],
)
def test_text_without_utf8_is_refused_wherever_it_comes(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument, match="not valid Unicode") as raised:
        resolved(**fields)
    assert raised.value.field == field


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_that_the_contract_cannot_carry_is_refused(seed: int) -> None:
    with pytest.raises(InvalidArgument, match="seed: is"):
        resolved(seed=seed)


def test_refusals_say_value_and_limit_to_machines_too() -> None:
    with pytest.raises(InvalidArgument) as raised:
        resolved(max_tokens=5000)
    assert raised.value.metadata == {"field": "max_tokens", "value": "5000", "limit": "4096"}


@pytest.mark.parametrize("limits", [Limits(committed_segments=3), Limits(committed_bytes=3)])
def test_what_is_committed_already_must_leave_room_for_more(limits: Limits) -> None:
    def asked(count: int) -> Any:
        request = GenerateRequest(prompt="?", committed_segments=("x",) * count)
        return resolve(request, "both", ENSEMBLE, limits)

    assert asked(2).committed_segments == ("x", "x")
    with pytest.raises(InvalidArgument, match=r"committed_segments: is 3 .* at most 2") as raised:
        asked(3)
    assert raised.value.metadata["limit"] == "2"


def test_more_tokens_than_an_answer_can_have_spent_are_refused() -> None:
    def asked(tokens: int) -> Any:
        return resolved(committed_segments=("x",), committed_tokens=tokens, max_tokens=100)

    most = 100 + ENSEMBLE.segment_tokens_limit
    assert asked(most).committed_tokens == most
    problem = f"committed_tokens: is {most + 1}; with max_tokens 100 at most {most} can be spent"
    with pytest.raises(InvalidArgument, match=problem) as raised:
        asked(most + 1)
    assert raised.value.metadata["limit"] == str(most)


def test_an_answer_may_grow_as_long_as_members_take_it() -> None:
    limits = Limits(committed_segments=3, committed_bytes=70)
    rules = resolve(GenerateRequest(prompt="?"), "both", ENSEMBLE, limits).rules
    assert (rules.max_segments, rules.max_bytes) == (3, 70)


def test_refusals_do_not_repeat_the_text() -> None:
    secret = "my password is hunter2"
    limits = Limits(prompt_bytes=3, committed_bytes=3)
    for fields in (
        {"prompt": secret},
        {"prompt": (Message(Role.USER, secret),)},
        {"stop": (secret * 30,)},
        {"committed_segments": (secret,)},
        {"session_id": secret * 30},
    ):
        request = GenerateRequest(**{"prompt": "?", **fields})
        with pytest.raises(InvalidArgument) as raised:
            resolve(request, "both", ENSEMBLE, limits)
        assert "hunter2" not in f"{raised.value.message} {raised.value.metadata}"
