"""The numbers of a mesh over the last interval, row by row. Pure: histories in, rows out.

Where a number is None, there is nothing to tell it from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from specfuse.cli.top.history import History
from specfuse.cli.top.intervals import Whole

_REQUESTS: Final = "specfuse_request_duration_seconds_count"
_FAILED: Final = ("unavailable", "deadline_exceeded", "resource_exhausted", "internal")
"""Outcomes that are the mesh's to answer for, as for the alerts."""
_REFUSED: Final = ("invalid_argument", "unauthenticated", "forbidden", "not_found", "rate_limited")
_LOST: Final = ("failed", "rejected", "straggler")
"""Why members leave that should not."""
_UNKNOWN: Final = "unknown"
"""Stands for the ensemble of requests for none that there is."""


@dataclass(frozen=True, slots=True)
class EnsembleRow:
    """How an ensemble answers. Rates are a second, times are in seconds.

    `rounds` of an answer and `active` members of a round are means; so is `per_token`. `name` is
    None for all ensembles together.
    """

    name: str | None
    answers: float
    degraded: float
    failed: float
    refused: float
    first_p50: float | None
    first_p99: float | None
    per_token: float | None
    rounds: float | None
    active: float | None


@dataclass(frozen=True, slots=True)
class Calls:
    """Calls of a kind to a member: how many a second, and how long half of them took at most."""

    rate: float
    p50: float | None


@dataclass(frozen=True, slots=True)
class MemberRow:
    """What a member does for the answers, as the fusers see it. Rates are a second.

    `wins` is its share of the committed segments, `avoided` that of the calls to it that were not
    made. `watched` are rounds in which it judged and was not asked to draft. `exits` are those of
    members that kept losing or watched in silence, `lost` are for all other reasons.
    """

    name: str
    state: str
    wins: float | None
    propose: Calls
    score: Calls
    watched: float
    avoided: float | None
    exits: float
    lost: float
    recalls: float
    sessions: float


@dataclass(frozen=True, slots=True)
class ModelRow:
    """How a model's services are doing, all its replicas together. Rates are a second.

    `kv_use` is that of the fullest replica. `server` are requests to the server that it runs on.
    """

    name: str
    replicas: int
    running: float
    waiting: float
    batch: float | None
    passes: float
    kv_use: float | None
    kv_hits: float | None
    server: float | None


@dataclass(frozen=True, slots=True)
class Board:
    """All there is to see. `seconds` is the interval, None before there is one.

    `in_flight`, `waiting` (for a place) and `waking` (waiting for members to wake) are requests.
    """

    seconds: float | None
    in_flight: float
    waiting: float
    waking: float
    ensembles: tuple[EnsembleRow, ...]
    members: tuple[MemberRow, ...]
    models: tuple[ModelRow, ...]
    troubles: tuple[str, ...]


def board_of(histories: Sequence[History]) -> Board:
    """The mesh, as far as its endpoints could be read."""
    fusers = _whole(histories, "fuser")
    models = _whole(histories, "model")
    parts = (*fusers.parts, *models.parts)
    return Board(
        seconds=sum(part.seconds for part in parts) / len(parts) if parts else None,
        in_flight=sum(fusers.gauges("specfuse_requests_in_flight")),
        waiting=sum(fusers.gauges("specfuse_requests_waiting")),
        waking=sum(fusers.gauges("specfuse_requests_waking")),
        ensembles=_ensembles(fusers),
        members=tuple(
            _member(fusers, name)
            for name in fusers.named("model_name", "specfuse_member_calls_total")
        ),
        models=tuple(
            _model(models, name)
            for name in models.named("model_name", "specfuse_model_requests_waiting")
        ),
        troubles=tuple(f"{one.target} {one.trouble}" for one in histories if one.trouble),
    )


def _whole(histories: Sequence[History], kind: str) -> Whole:
    return Whole(
        [one.interval for one in histories if one.target.kind == kind and one.interval is not None]
    )


def _ensembles(fusers: Whole) -> tuple[EnsembleRow, ...]:
    """A row each, and one for all if there are several."""
    names = fusers.named("ensemble", _REQUESTS)
    rows = [
        _ensemble(fusers, name)
        for name in names
        if name != _UNKNOWN or fusers.increase(_REQUESTS, ensemble=name)
    ]
    return tuple(rows) if len(rows) <= 1 else (*rows, _ensemble(fusers, None))


def _ensemble(fusers: Whole, name: str | None) -> EnsembleRow:
    of = {} if name is None else {"ensemble": name}

    def ended(*outcomes: str) -> float:
        return sum(fusers.rate(_REQUESTS, **of, outcome=outcome) for outcome in outcomes)

    first = fusers.distribution("specfuse_time_to_first_segment_seconds", **of)
    return EnsembleRow(
        name=name,
        answers=ended("ok", "degraded"),
        degraded=ended("degraded"),
        failed=ended(*_FAILED),
        refused=ended(*_REFUSED),
        first_p50=first.quantile(0.5),
        first_p99=first.quantile(0.99),
        per_token=fusers.distribution("specfuse_time_per_output_token_seconds", **of).mean,
        rounds=fusers.distribution("specfuse_rounds_per_request", **of).mean,
        active=fusers.distribution("specfuse_active_members", **of).mean,
    )


def _member(fusers: Whole, name: str) -> MemberRow:
    def left(*reasons: str) -> float:
        return sum(
            fusers.rate("specfuse_member_exits_total", model_name=name, reason=reason)
            for reason in reasons
        )

    made = fusers.increase("specfuse_member_calls_total", model_name=name)
    avoided = fusers.increase("specfuse_member_calls_avoided_total", model_name=name)
    won = fusers.increase("specfuse_segment_wins_total", model_name=name)
    return MemberRow(
        name=name,
        state=_state(fusers, name),
        wins=_share(won, fusers.increase("specfuse_segment_wins_total")),
        propose=_calls(fusers, name, "propose"),
        score=_calls(fusers, name, "score"),
        watched=fusers.rate("specfuse_member_calls_avoided_total", model_name=name, reason="watch"),
        avoided=_share(avoided, made + avoided),
        exits=left("exit"),
        lost=left(*_LOST),
        recalls=fusers.rate("specfuse_member_recalls_total", model_name=name),
        sessions=sum(fusers.gauges("specfuse_member_sessions", model_name=name)),
    )


def _state(fusers: Whole, member: str) -> str:
    """Whether every fuser reaches the member: ready, asleep, down; unknown before any says so."""
    ready = fusers.gauges("specfuse_member_ready", model_name=member)
    if not ready:
        return "unknown"
    if all(ready):
        return "ready"
    return (
        "asleep" if all(fusers.gauges("specfuse_member_may_sleep", model_name=member)) else "down"
    )


def _calls(fusers: Whole, member: str, rpc: str) -> Calls:
    durations = fusers.distribution(
        "specfuse_member_call_duration_seconds", model_name=member, rpc=rpc
    )
    rate = fusers.rate("specfuse_member_calls_total", model_name=member, rpc=rpc)
    return Calls(rate, durations.quantile(0.5))


def _model(models: Whole, name: str) -> ModelRow:
    hit, miss = (
        models.increase("specfuse_model_kv_tokens_total", model_name=name, outcome=outcome)
        for outcome in ("hit", "miss")
    )
    requests = "specfuse_model_server_request_duration_seconds_count"
    waiting = models.gauges("specfuse_model_requests_waiting", model_name=name)
    return ModelRow(
        name=name,
        replicas=len(waiting),
        running=sum(models.gauges("specfuse_model_requests_running", model_name=name)),
        waiting=sum(waiting),
        batch=models.distribution("specfuse_model_batch_size", model_name=name).mean,
        passes=models.rate("specfuse_model_forward_duration_seconds_count", model_name=name),
        kv_use=max(
            models.gauges("specfuse_model_kv_cache_usage_ratio", model_name=name), default=None
        ),
        kv_hits=_share(hit, hit + miss),
        server=models.rate(requests, model_name=name)
        if models.gauges(requests, model_name=name)
        else None,
    )


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None
