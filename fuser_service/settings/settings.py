"""What a fuser service is told at its start: one YAML file, one frozen object.

    listen: 0.0.0.0:50050
    metrics_listen: 0.0.0.0:9090
    tenancy:
      keys: /etc/specfuse/keys.yaml
      teams: {search: {requests_in_flight: 16}}
    http: {listen: 0.0.0.0:8000}
    members:
      llama:
        endpoints: [llama-0:50051, llama-1:50051]
      qwen:
        endpoints: [qwen-0:50051]
      phi:
        dns: {name: phi.models.svc.cluster.local, port: 50051}
      gemma:
        kubernetes: {selector: specfuse.io/member=gemma}
    ensembles:
      assistant:
        members: [llama, qwen]
        exit: {patience: 16}

Relative paths, of whatever file, start at the directory that the service is started in; of a mesh
that `specfuse up` runs, at the directory of its file. Everything left out has a default, and
`Settings.model_json_schema()` describes every key. An unknown key, a value out of range and a
contradiction are each reported with line and remedy.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import Field, model_validator

from fuser_service.core.rules import (
    ExitKind,
    ExitRules,
    ObjectionRules,
    Rules,
    SelfJudgement,
    Statistic,
    Vote,
    Weighting,
)
from fuser_service.fusion.query import Timings
from fuser_service.mesh.discovery.registry import Discoveries
from fuser_service.settings.presets import Preset, completed
from fuser_service.tenancy.settings import Tenancy
from specfuse.config import settings_file
from specfuse.config.addresses import is_loopback
from specfuse.config.settings_file import Contradictions, Key, Problem
from specfuse.config.types import Address, Count, Flag, LogFormat, Name, Seconds, Section, ServerTls
from specfuse.observability.tracing.settings import EdgeTracing

Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]

_MOST_LISTED: Final = 20
"""Members that a message names."""

_EXIT: Final = ExitRules()
_RULES: Final = Rules(members=(), max_tokens=1)
_OBJECTIONS: Final = ObjectionRules()
_TIMINGS: Final = Timings()
"""A query's defaults: those of core and fusion, not repeated here."""


class MemberTls(Section):
    """How a member's replicas are authenticated, and the certificate they are shown."""

    ca: Path | None = None
    """PEM file of the authorities behind the replicas' certificates. Absent: the public ones."""
    certificate: Path | None = None
    """PEM file of the certificate chain shown to replicas that ask for one. Needs `key`."""
    key: Path | None = None
    """PEM file of its private key. Needs `certificate`."""
    server_name: str = ""
    """The name in the replicas' certificates, where that is not the host of the endpoint."""


class Member(Discoveries):
    """A model and where its replicas listen: one of the ways to find them, and how to call them."""

    tls: MemberTls | None = None
    """Absent means plain text: for loopback, or a mesh that encrypts by itself."""


class Limits(Section):
    """What one process takes on. Beyond them a request is refused."""

    requests_in_flight: Count = 64
    """Most queries answered at the same time; further ones wait, or get RESOURCE_EXHAUSTED."""
    requests_waiting: Annotated[int, Field(strict=True, ge=0, le=100_000)] = 0
    """Most queries that wait for one of these to end, those of teams with priority in front."""
    waiting_seconds: Seconds = 5.0
    """How long a query waits; then it gets RESOURCE_EXHAUSTED."""
    prompt_bytes: Count = 1_048_576
    """Most UTF-8 bytes of a prompt, all messages together."""
    committed_segments: Annotated[int, Field(strict=True, ge=1, le=4096)] = _RULES.max_segments
    """An answer ends with this many segments. A resumed query must bring fewer."""
    committed_bytes: Count = _RULES.max_bytes
    """An answer ends once it has this many UTF-8 bytes. A resumed query must bring fewer."""


class Sampling(Section):
    """How members draw their tokens when a request does not say."""

    temperature: Annotated[float, Field(strict=True, ge=0, le=2)] = 0.0
    """0 is greedy."""
    top_p: Annotated[float, Field(strict=True, gt=0, le=1)] = 1.0
    """Nucleus mass; 1 cuts nothing off."""
    top_k: Annotated[int, Field(strict=True, ge=0, le=1000)] = 0
    """Keep this many most probable tokens; 0 keeps all."""


def exit_policy_of(vote: Vote) -> ExitKind:
    """The exit policy where none is said."""
    return ExitKind.WATCH if vote is Vote.WORDS else ExitKind.ENTROPY_SOFTMAX


class Exit(Section):
    """When members leave a query early, and come back."""

    policy: ExitKind | None = None
    """`watch`: members that do not win stop drafting, go on judging, and are heard if they object.
    `entropy_softmax`: members that keep losing leave. `none`: nobody does either. Absent: `watch`
    where the vote is on words, or else `entropy_softmax`."""
    patience: Count = _EXIT.patience
    """Members that watch leave after so many rounds in a row without an objection."""
    tau0: Positive = _EXIT.tau0
    """Temperature of the softmax over cumulative quality. Lower makes losers leave sooner.

    The default was measured (docs/results/exit-tuning.md) with recall. Without recall, raise it: a
    member that leaves is then gone, and 0.02 sends away members that the next part of an answer
    needs.
    """
    alpha: Annotated[float, Field(strict=True, gt=0, le=1)] = _EXIT.alpha
    """A member leaves when its share is below alpha / (active members)."""
    min_rounds: Annotated[int, Field(strict=True, ge=0)] = _EXIT.min_rounds
    """Nobody leaves before this many rounds are committed."""
    min_models: Count = _EXIT.min_models
    """Nobody leaves when only this many members are active."""
    recall: Flag = _EXIT.recall
    """Whether members that left come back when the others become unsure."""
    recall_ratio: Annotated[float, Field(strict=True, gt=0, le=1)] = _EXIT.recall_ratio
    """Unsure: below this share of the mean confidence of the query's earlier rounds."""


class Objections(Section):
    """When a member that judges a draft objects to it, and is heard before it is committed."""

    regret: Positive = _OBJECTIONS.regret
    """How much likelier, in nats, it must find another token in some place."""
    entropy: Positive = _OBJECTIONS.entropy
    """How unsure it may be there: most entropy of its own distribution, in nats."""


class Ensemble(Section):
    """Members that answer together, and by which rules."""

    members: Annotated[tuple[Name, ...], Field(min_length=1, max_length=64)]
    """Names from `members` above. Their order breaks ties and nothing else."""
    preset: Preset = Preset.DEFAULT
    """The values used where this ensemble says nothing: ours, or a published method's."""
    segment_tokens: Count = _RULES.segment_tokens
    """Most tokens a member drafts a round, unless the request says otherwise."""
    segment_tokens_limit: Annotated[int, Field(strict=True, ge=1, le=512)] = 64
    """Most that a request may ask for."""
    stretch: Annotated[int, Field(strict=True, ge=1, le=64)] = 1
    """How many times `segment_tokens` are drafted at most while all agree with who drafts alone: it
    doubles after each round in which they did. Fewer round trips, and longer waits between
    segments. Only with `exit: {policy: watch}`."""
    max_tokens: Count = 512
    """Most tokens of an answer, unless the request says otherwise."""
    max_tokens_limit: Annotated[int, Field(strict=True, ge=1, le=32_768)] = 4096
    """Most that a request may ask for."""
    sampling: Sampling = Sampling()
    """How members draw their tokens, unless the request says otherwise."""
    vote: Vote = _RULES.vote
    """What members vote on: `words`, the first in which drafts differ, or whole `segments`."""
    sharpness: Annotated[float, Field(strict=True, ge=0, le=64)] = _RULES.sharpness
    """In a vote on words, how much more those count who are sure: a member's say is this power of
    the largest probability that it gives a candidate. 0: all count alike."""
    foresight: Annotated[float, Field(strict=True, ge=0, le=256)] = _RULES.foresight
    """In a vote on words, how much it counts what a word leads to: a candidate's share is times
    this power of how sure the surest member is of the rest of its sentence. 0: not at all."""
    objections: Objections = Objections()
    """When members that judge a draft object to it. Only in a vote on words."""
    statistic: Statistic = _RULES.statistic
    """What stands for a verifier's opinion in a vote on segments: `geometric`, `mean_probability`
    or `per_byte`."""
    weighting: Weighting = _RULES.weighting
    """Verifiers' weights: `uniform` (SpecFuse), or `hedge`, which rewards winners (SpecEM)."""
    eta: Positive = _RULES.eta
    """Learning rate of `hedge`."""
    self_judgement: SelfJudgement = _RULES.self_judgement
    """Whether a member's score of its own candidate counts: `include` or, in a vote on segments,
    `drop`."""
    fast_finish: Flag = _RULES.fast_finish
    """Whether a candidate that ends the answer is taken without scoring."""
    exit: Exit = Exit()
    """When members leave a query early, and come back."""
    draft_ahead: Flag = False
    """Whether a member that drafts alone is asked for what comes next while the others judge what
    it drafted. Saves time where judging takes long; what is drafted in vain is lost. Only with
    `exit: {policy: watch}`."""
    quorum: Count = _RULES.quorum
    """Fewest members that must answer a round. With fewer left, the query ends in UNAVAILABLE."""
    straggler_grace_seconds: Seconds = _TIMINGS.straggler_grace_seconds
    """How long a round waits for the others once the quorum has answered."""
    max_misses: Count = _RULES.max_misses
    """Rounds a member may be late before it leaves the query."""
    round_timeout_seconds: Seconds = _TIMINGS.round_timeout_seconds
    """Most time for one phase of a round, proposing or scoring. Who drafts while others watch is
    relieved by them sooner: after `straggler_grace_seconds` more than it took before."""
    request_timeout_seconds: Seconds = 600.0
    """Most time for an answer. The caller's own deadline counts if it is earlier."""
    wake_seconds: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)] = 0.0
    """How long a request waits while fewer members than the quorum have replicas that serve; then
    it gets UNAVAILABLE, and when to ask again. For members that are scaled to nothing, which such
    requests wake. 0 does not wait."""
    wake_grace_seconds: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)] = (
        _TIMINGS.wake_grace_seconds
    )
    """How much of that the other members have once a quorum is awake, so that the first to wake do
    not answer alone."""

    @property
    def exit_policy(self) -> ExitKind:
        """The exit policy, said or not."""
        return self.exit.policy or exit_policy_of(self.vote)

    @model_validator(mode="before")
    @classmethod
    def _upon_its_preset(cls, document: Any) -> Any:  # noqa: ANN401 (whatever the file holds)
        return completed(document) if isinstance(document, dict) else document


class Http(Section):
    """The OpenAI-compatible door."""

    listen: Address = "127.0.0.1:8000"
    """`host:port` of the API, which is at `/v1`. Port 0 takes a free one."""
    tls: ServerTls | None = None
    """Absent means plain text."""
    body_bytes: Count = 4_194_304
    """Most bytes of a request. It is JSON, so a prompt may take more of them than of its own."""
    page: Flag = True
    """Whether there is a page at `/` on which people ask, and see who wrote what of an answer."""


class Settings(Section):
    """Everything a fuser service is told."""

    listen: Address = "127.0.0.1:50050"
    """`host:port` of the gRPC service. Port 0 takes a free one."""
    metrics_listen: Address = "127.0.0.1:9090"
    """`host:port` of the Prometheus endpoint, `/metrics` over HTTP. Port 0 takes a free one."""
    tls: ServerTls | None = None
    """Absent means plain text."""
    http: Http | None = None
    """The OpenAI-compatible door. Absent means there is none; `http: {}` opens it as it is."""
    limits: Limits = Limits()
    """What one process takes on."""
    tenancy: Tenancy | None = None
    """Who may ask, and how much. Absent: everybody, for which both doors must be on loopback."""
    tracing: EdgeTracing | None = None
    """Where traces go. Absent means there are none."""
    log_format: LogFormat = "text"
    """How lines of the log, on stderr, are written: `text` for people, `json` an object each."""
    drain_seconds: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)] = 30.0
    """How long answers in flight may take to finish at shutdown."""
    members: Annotated[dict[Name, Member], Field(min_length=1, max_length=1024)]
    """The models, by name."""
    ensembles: Annotated[dict[Name, Ensemble], Field(min_length=1, max_length=1024)]
    """What can be asked, by name."""

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        problems = tuple(_contradictions(self))
        if problems:
            raise Contradictions(problems)
        return self

    @classmethod
    def read(cls, path: Path, overrides: Mapping[str, object] | None = None) -> Self:
        """The settings in the YAML file at `path`; `overrides` replace its top-level keys.

        Raises:
            Misconfigured: the file cannot be read, or its content is wrong.
        """
        return settings_file.read(path, cls, overrides)

    @classmethod
    def parse(cls, text: str, *, source: str) -> Self:
        """The settings that the YAML document `text` holds; `source` names it in errors.

        Raises:
            Misconfigured: the content is wrong.
        """
        return settings_file.parse(text, cls, source=source)


def _contradictions(settings: Settings) -> Iterator[Problem]:
    """Values that are right one by one and wrong together."""
    yield from _tenancy_contradictions(settings)
    for name, member in settings.members.items():
        yield from _member_contradictions(name, member)
    for name, ensemble in settings.ensembles.items():
        for problem in (
            *_membership(ensemble, settings.members),
            *_defaults_above_limits(ensemble),
            *_exit_contradictions(ensemble),
            *_vote_contradictions(ensemble),
            *_lone_drafter_contradictions(ensemble),
            *_waking_contradictions(ensemble),
        ):
            yield Problem(("ensembles", name, *problem.key), problem.text)


def _tenancy_contradictions(settings: Settings) -> Iterator[Problem]:
    if settings.tenancy is not None:
        problems = settings.tenancy.contradictions(
            settings.ensembles,
            certificates=_asks_for_certificates(settings),
            line=settings.limits.requests_waiting > 0,
        )
        for problem in problems:
            yield Problem(("tenancy", *problem.key), problem.text)
    elif reachable := _reachable(settings):
        remedy = (
            "say who may ask, with tenancy: {keys: FILE, teams: {NAME: {}}}, or let everybody, "
            "with tenancy: {anonymous: allow}"
        )
        where = f"is absent, and others than this machine reach {reachable}"
        yield Problem(("tenancy",), f"{where}; {remedy}")


def _asks_for_certificates(settings: Settings) -> bool:
    """Whether callers have to show a certificate at one of the doors."""
    https = None if settings.http is None else settings.http.tls
    return any(tls is not None and tls.client_ca is not None for tls in (settings.tls, https))


def _reachable(settings: Settings) -> str:
    """What others than this machine can reach, as the file says it; empty if nothing."""
    listening = {"listen": settings.listen}
    if settings.http is not None:
        listening["http.listen"] = settings.http.listen
    return next((f"{k}: {v}" for k, v in listening.items() if not is_loopback(v)), "")


def _member_contradictions(name: str, member: Member) -> Iterator[Problem]:
    for problem in member.contradictions():
        yield Problem(("members", name, *problem.key), problem.text)
    if member.tls and (member.tls.certificate is None) != (member.tls.key is None):
        yield Problem(
            ("members", name, "tls"), "certificate and key go together; give both or neither"
        )
    found_by = "dns" if member.dns else "kubernetes" if member.kubernetes else None
    if found_by and member.tls and not member.tls.server_name:
        yield Problem(
            ("members", name, "tls"),
            f"server_name is required with {found_by}, as endpoints are addresses; give the name "
            "in the replicas' certificates",
        )


def _membership(ensemble: Ensemble, known: Mapping[str, Member]) -> Iterator[Problem]:
    for position, member in enumerate(ensemble.members):
        if member not in known:
            yield Problem(
                ("members", position), f"there is no member {member}; members: {_listed(known)}"
            )
    for position in _repeated(ensemble.members):
        yield Problem(("members", position), f"{ensemble.members[position]} is listed twice")
    size = len(ensemble.members)
    asked: tuple[tuple[Key, int], ...] = (
        (("quorum",), ensemble.quorum),
        (("exit", "min_models"), ensemble.exit.min_models),
    )
    for key, value in asked:
        if value > size:
            yield Problem(key, f"{value} is more than the ensemble's members; use 1 to {size}")


def _listed(names: Collection[str]) -> str:
    """The names; of many, the first ones."""
    more = [] if len(names) <= _MOST_LISTED else ["..."]
    return ", ".join([*islice(names, _MOST_LISTED), *more])


def _defaults_above_limits(ensemble: Ensemble) -> Iterator[Problem]:
    for key, value, limit in (
        ("segment_tokens", ensemble.segment_tokens, ensemble.segment_tokens_limit),
        ("max_tokens", ensemble.max_tokens, ensemble.max_tokens_limit),
    ):
        if value > limit:
            yield Problem(
                (key,), f"{value} is above {key}_limit, {limit}; lower it or raise the limit"
            )
    most, limit = ensemble.segment_tokens * ensemble.stretch, ensemble.segment_tokens_limit
    if ensemble.stretch > 1 and most > limit:
        problem = f"{ensemble.stretch} times segment_tokens, {ensemble.segment_tokens}, is above"
        fix = "lower it or raise the limit"
        yield Problem(("stretch",), f"{problem} segment_tokens_limit, {limit}; {fix}")


def _exit_contradictions(ensemble: Ensemble) -> Iterator[Problem]:
    exit_ = ensemble.exit
    if exit_.policy is ExitKind.NONE and exit_.recall and "recall" in exit_.model_fields_set:
        yield Problem(
            ("exit", "recall"), "contradicts policy none, under which nobody leaves; drop it"
        )
    for other, names in _OF_ANOTHER_POLICY.get(ensemble.exit_policy, {}).items():
        for name in sorted(exit_.model_fields_set.intersection(names)):
            problem = f"has no effect with policy {ensemble.exit_policy.value}"
            yield Problem(("exit", name), f"{problem}; say policy: {other.value}, or drop it")


_OF_ANOTHER_POLICY: Final[Mapping[ExitKind, Mapping[ExitKind, tuple[str, ...]]]] = {
    ExitKind.WATCH: {ExitKind.ENTROPY_SOFTMAX: ("tau0", "alpha")},
    ExitKind.ENTROPY_SOFTMAX: {ExitKind.WATCH: ("patience",)},
}


def _vote_contradictions(ensemble: Ensemble) -> Iterator[Problem]:
    """Settings that belong to the other vote. They would do nothing."""
    vote = ensemble.vote
    if vote is Vote.SEGMENTS and ensemble.exit.policy is ExitKind.WATCH:
        problem = "watch needs vote: words; say that, or take another policy"
        yield Problem(("exit", "policy"), problem)
    for other, names in _OF_ONE_VOTE.items():
        for name in names:
            if vote is not other and name in ensemble.model_fields_set:
                problem = f"has no effect with vote: {vote.value}"
                yield Problem((name,), f"{problem}; say vote: {other.value}, or drop it")


def _lone_drafter_contradictions(ensemble: Ensemble) -> Iterator[Problem]:
    """Settings of who drafts while others watch, where nobody does. They would do nothing."""
    if ensemble.exit_policy is ExitKind.WATCH:
        return
    remedy = "vote: words" if ensemble.vote is Vote.SEGMENTS else "exit: {policy: watch}"
    policy = ensemble.exit_policy.value
    problem = f"has no effect with exit policy {policy}, under which nobody drafts alone"
    for name, said in (("stretch", ensemble.stretch > 1), ("draft_ahead", ensemble.draft_ahead)):
        if said:
            yield Problem((name,), f"{problem}; say {remedy}, or drop it")


_OF_ONE_VOTE: Final[Mapping[Vote, tuple[str, ...]]] = {
    Vote.WORDS: ("sharpness", "foresight", "objections"),
    Vote.SEGMENTS: ("statistic", "self_judgement"),
}


def _waking_contradictions(ensemble: Ensemble) -> Iterator[Problem]:
    waking, answering = ensemble.wake_seconds, ensemble.request_timeout_seconds
    if waking >= answering:
        problem = f"{waking:g} leaves no time of request_timeout_seconds, {answering:g}, to answer"
        yield Problem(("wake_seconds",), f"{problem}; lower it or raise the timeout")
    if not waking and "wake_grace_seconds" in ensemble.model_fields_set:
        problem = "has no effect while wake_seconds is 0; raise that, or drop it"
        yield Problem(("wake_grace_seconds",), problem)


def _repeated(values: tuple[str, ...]) -> list[int]:
    """Positions of the values that occurred before."""
    return [position for position, value in enumerate(values) if value in values[:position]]
