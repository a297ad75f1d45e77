"""What a fuser service tells Prometheus. Every number is counted here and nowhere else.

Label values are bounded: members, ensembles and teams are those of the settings, the rest are fixed
words. Counters exist at 0 from the start, so that rates and alerts see the first event; only
requests over HTTP, and a team's requests that ended in another way than with an answer or at its
limit, begin with the first one that ended so.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import product
from typing import Final, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from fuser_service.core.commit import AvoidedBecause
from fuser_service.core.types import Departure, DepartureReason, MemberName
from fuser_service.fusion.ports import Outcome, Phase, Rpc
from fuser_service.mesh.attempts import SecondCall
from fuser_service.reports import RequestOutcome
from fuser_service.service import EnsembleStatus
from fuser_service.tenancy.account import Account
from fuser_service.tenancy.caller import ANONYMOUS
from specfuse.observability.buckets import (
    COUNTS,
    MEMBERS,
    PER_TOKEN_SECONDS,
    REQUEST_SECONDS,
    SHORT_SECONDS,
)
from specfuse.observability.exemplars import exemplar
from specfuse.observability.series import series

UNKNOWN: Final = "unknown"
"""The team of a caller that is not known, and the ensemble of a request for none that there is."""

_TEAM_OUTCOMES: Final[tuple[RequestOutcome, ...]] = ("ok", "degraded", "rate_limited")
"""How a team's requests end as they should, and how its alert sees them end."""


class FuserMetrics:
    """Implements the observers of fusion, mesh and service as metrics of `registry`."""

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        members: Iterable[MemberName],
        ensembles: Mapping[str, Iterable[MemberName]],
        teams: Iterable[str],
    ) -> None:
        """Registers the metrics of these members, ensembles (of which members) and teams."""
        self._teams = frozenset({*teams, ANONYMOUS})
        self._told: dict[str, EnsembleStatus] = {}
        self._told_members: set[MemberName] = set()
        self._define_round_metrics(registry)
        self._define_member_metrics(registry)
        self._define_standing_metrics(registry)
        self._define_request_metrics(registry)
        self._define_tenancy_metrics(registry)
        self._start_at_zero(tuple(members))
        self.expect(ensembles)

    def expect(self, ensembles: Mapping[str, Iterable[MemberName]]) -> None:
        """Has the numbers of these ensembles begin at 0, where they have not begun yet."""
        for ensemble, members in ensembles.items():
            self._start_ensemble_at_zero(ensemble)
            for team in self._teams:
                self._start_team_at_zero(ensemble, team)
            for member in members:
                self._start_part_at_zero(ensemble, member)

    def standing(self, ensembles: Collection[EnsembleStatus]) -> None:
        """What can be asked now. What is not told of any more has no standing."""
        self._stand_ensembles(ensembles)
        self._stand_members(ensembles)

    def call_ended(self, member: MemberName, rpc: Rpc, outcome: Outcome, seconds: float) -> None:
        """A call to a member ended."""
        self._calls(member, rpc, outcome).inc()
        self._call_seconds(member, rpc).observe(seconds)

    def calls_avoided(self, member: MemberName, because: AvoidedBecause, calls: int) -> None:
        """A round needed `calls` calls fewer of a member than the full two."""
        self._calls_avoided(member, because).inc(calls)

    def second_call(self, member: MemberName, why: SecondCall) -> None:
        """A call to a member was made again."""
        self._second_calls(member, why).inc()

    def revision_lost(self, member: MemberName) -> None:
        """A query lost the member, as only replicas of other revisions were left."""
        self._revisions_lost(member).inc()

    def watch_revisions(self, member: MemberName, revisions: Callable[[], int]) -> None:
        """Has `revisions` say of how many revisions the member's replicas are that serve."""
        self._revisions.labels(member).set_function(revisions)

    def phase_ended(self, ensemble: str, phase: Phase, seconds: float) -> None:
        """A phase of a round, or the whole round, ended."""
        self._round_seconds(ensemble, phase).observe(seconds, exemplar())

    def straggler_waited(self, ensemble: str, seconds: float) -> None:
        """Beyond the quorum's answer, a round waited this long for late members."""
        self._straggler_seconds(ensemble).observe(seconds, exemplar())

    def segment_won(self, ensemble: str, member: MemberName) -> None:
        """A member's proposal was committed."""
        self._wins(ensemble, member).inc()

    def tokens_discarded(self, ensemble: str, member: MemberName, tokens: int) -> None:
        """A member drafted tokens that were not committed."""
        self._discarded_tokens(ensemble, member).inc(tokens)

    def passes_made(self, ensemble: str, member: MemberName, passes: int) -> None:
        """A member's model made so many passes: one a token drafted, and one a call to score."""
        self._passes(ensemble, member).inc(passes)

    def drafted_ahead(self, ensemble: str, *, used: bool) -> None:
        """A draft was asked for ahead, and was what the next round needed, or was given up."""
        self._drafts_ahead(ensemble, "used" if used else "dropped").inc()

    def hold_began(self, ensemble: str) -> None:
        """A query waits for members of the ensemble to wake."""
        self._waking(ensemble).inc()

    def hold_ended(self, ensemble: str) -> None:
        """A query waits for members of the ensemble no longer."""
        self._waking(ensemble).dec()

    def query_began(self, ensemble: str) -> None:
        """There is a query more for the ensemble: it runs, or waits to."""
        self._queries(ensemble).inc()

    def query_ended(self, ensemble: str) -> None:
        """There is a query less for the ensemble."""
        self._queries(ensemble).dec()

    def session_began(self, member: MemberName) -> None:
        """A query counts on a member from now on."""
        self._sessions(member).inc()

    def session_ended(self, member: MemberName) -> None:
        """A query counts on a member no longer."""
        self._sessions(member).dec()

    def member_left(self, ensemble: str, departure: Departure) -> None:
        """A member left a query."""
        self._exits(ensemble, departure.member, departure.reason.value).inc()

    def members_recalled(self, ensemble: str, members: Collection[MemberName]) -> None:
        """Members that the exit policy had sent away came back for a committed round."""
        for member in members:
            self._recalls(ensemble, member).inc()

    def active_members(self, ensemble: str, members: int) -> None:
        """A round began with this many members."""
        self._active_members(ensemble).observe(members)

    def request_started(self) -> None:
        """A request came in."""
        self._in_flight.inc()

    def first_segment(self, ensemble: str, seconds: float) -> None:
        """A request's first segment was committed, this long after it came in."""
        self._first_segment_seconds(ensemble).observe(seconds, exemplar())

    def tokens_committed(self, ensemble: str, team: str, tokens: int) -> None:
        """A segment of this many tokens was committed."""
        self._output_tokens(ensemble, team).inc(tokens)

    def answered(self, ensemble: str, rounds: int, seconds_per_token: float | None) -> None:
        """An answer was completed in this many rounds."""
        self._rounds(ensemble).observe(rounds)
        if seconds_per_token is not None:
            self._token_seconds(ensemble).observe(seconds_per_token)

    def request_ended(self, ensemble: str, outcome: RequestOutcome, seconds: float) -> None:
        """A request ended."""
        self._in_flight.dec()
        labelled = self._request_seconds(ensemble or UNKNOWN, outcome)
        labelled.observe(seconds, exemplar())

    def book(self, account: Account) -> None:
        """A request ended, and came to this."""
        ensemble, team = account.ensemble or UNKNOWN, account.team or UNKNOWN
        self._team_requests(ensemble, team, account.outcome).inc()
        if account.calls_made:
            self._prompt_tokens(ensemble, team).inc(account.prompt_tokens)
            self._team_calls(ensemble, team).inc(account.calls_made)
            self._team_calls_avoided(ensemble, team).inc(account.calls_avoided)

    def anonymous(self, *, allowed: bool) -> None:
        """Whether callers are let in that nobody knows."""
        self._anonymous.set(allowed)

    def keys_in_force(self, keys: int) -> None:
        """Callers are known by so many keys from now on."""
        self._keys.set(keys)

    def watch_waiting(self, waiting: Callable[[], int]) -> None:
        """Has `waiting` say how many requests wait for a place."""
        self._waiting.set_function(waiting)

    def store_failed(self) -> None:
        """The store of limits could not be asked."""
        self._store_failures.inc()

    def line_lost(self) -> None:
        """A line of the accounts could not be written."""
        self._lines_lost.inc()

    def http_responded(self, route: str, status: int) -> None:
        """A request over HTTP was answered. `route` is one of the door's paths, or empty."""
        self._http_responses(route, str(status)).inc()

    def _define_round_metrics(self, registry: CollectorRegistry) -> None:
        self._round_seconds = series(
            Histogram(
                "specfuse_round_duration_seconds",
                "Wall clock of a committed round, by phase: propose, score, or the round in total.",
                ("ensemble", "phase"),
                buckets=SHORT_SECONDS,
                registry=registry,
            )
        )
        self._straggler_seconds = series(
            Histogram(
                "specfuse_straggler_wait_seconds",
                "How long a round waited for late members once its quorum had answered.",
                ("ensemble",),
                buckets=SHORT_SECONDS,
                registry=registry,
            )
        )
        self._active_members = series(
            Histogram(
                "specfuse_active_members",
                "Members that a round began with.",
                ("ensemble",),
                buckets=MEMBERS,
                registry=registry,
            )
        )
        self._rounds = series(
            Histogram(
                "specfuse_rounds_per_request",
                "Rounds of a completed answer.",
                ("ensemble",),
                buckets=COUNTS,
                registry=registry,
            )
        )

    def _define_member_metrics(self, registry: CollectorRegistry) -> None:
        self._call_seconds = series(
            Histogram(
                "specfuse_member_call_duration_seconds",
                "Duration of a call to a member, however it ended.",
                ("model_name", "rpc"),
                buckets=SHORT_SECONDS,
                registry=registry,
            )
        )
        self._calls = series(
            Counter(
                "specfuse_member_calls",
                "Calls to members, by how they ended.",
                ("model_name", "rpc", "outcome"),
                registry=registry,
            )
        )
        self._calls_avoided = series(
            Counter(
                "specfuse_member_calls_avoided",
                "Calls that two per member and round would have taken beyond those "
                "made, by why not.",
                ("model_name", "reason"),
                registry=registry,
            )
        )
        self._second_calls = series(
            Counter(
                "specfuse_member_second_calls",
                "Calls made again: moved to another replica, repeated, or hedged "
                "as the first is late.",
                ("model_name", "reason"),
                registry=registry,
            )
        )
        self._revisions = Gauge(
            "specfuse_member_revisions",
            "Revisions, with tokenizer and backend, of the member's replicas that serve now.",
            ("model_name",),
            registry=registry,
        )
        self._revisions_lost = series(
            Counter(
                "specfuse_member_revisions_lost",
                "Queries that lost the member, as only replicas of other revisions were left.",
                ("model_name",),
                registry=registry,
            )
        )
        self._wins = series(
            Counter(
                "specfuse_segment_wins",
                "Committed segments, by the member that proposed them.",
                ("ensemble", "model_name"),
                registry=registry,
            )
        )
        self._exits = series(
            Counter(
                "specfuse_member_exits",
                "Members that left a query before its end, by why.",
                ("ensemble", "model_name", "reason"),
                registry=registry,
            )
        )
        self._recalls = series(
            Counter(
                "specfuse_member_recalls",
                "Members that had left as losers and came back for a round that was committed.",
                ("ensemble", "model_name"),
                registry=registry,
            )
        )
        self._sessions = series(
            Gauge(
                "specfuse_member_sessions",
                "Queries that count on the member: held, waiting for a place, or under way unless "
                "it left them early.",
                ("model_name",),
                registry=registry,
            )
        )
        self._discarded_tokens = series(
            Counter(
                "specfuse_discarded_tokens",
                "Tokens that were drafted and not committed.",
                ("ensemble", "model_name"),
                registry=registry,
            )
        )
        self._drafts_ahead = series(
            Counter(
                "specfuse_drafts_ahead",
                "Drafts that were asked for while the one before was judged, by whether the next "
                "round used them.",
                ("ensemble", "outcome"),
                registry=registry,
            )
        )
        self._passes = series(
            Counter(
                "specfuse_passes",
                "Passes through models: one for each token drafted, and one for each call "
                "to score.",
                ("ensemble", "model_name"),
                registry=registry,
            )
        )

    def _define_standing_metrics(self, registry: CollectorRegistry) -> None:
        self._ready = Gauge(
            "specfuse_ensemble_ready",
            "1 if the ensemble can be asked: a quorum of its members can be reached, or is woken.",
            ("ensemble",),
            registry=registry,
        )
        self._ready_members = Gauge(
            "specfuse_ensemble_ready_members",
            "Members of the ensemble that can be reached.",
            ("ensemble",),
            registry=registry,
        )
        self._quorum = Gauge(
            "specfuse_ensemble_quorum",
            "Members of the ensemble that must answer in a round.",
            ("ensemble",),
            registry=registry,
        )
        self._member_ready = Gauge(
            "specfuse_member_ready",
            "1 if the member can be reached: a replica says that it serves and is not failing.",
            ("model_name",),
            registry=registry,
        )
        self._may_sleep = Gauge(
            "specfuse_member_may_sleep",
            "1 if all ensembles of the member wait for it to wake: unasked it need not be there.",
            ("model_name",),
            registry=registry,
        )

    def _define_request_metrics(self, registry: CollectorRegistry) -> None:
        self._first_segment_seconds = series(
            Histogram(
                "specfuse_time_to_first_segment_seconds",
                "From a request's arrival to its first committed segment.",
                ("ensemble",),
                buckets=SHORT_SECONDS,
                registry=registry,
            )
        )
        self._token_seconds = series(
            Histogram(
                "specfuse_time_per_output_token_seconds",
                "Mean time per token after the first segment, of a completed answer.",
                ("ensemble",),
                buckets=PER_TOKEN_SECONDS,
                registry=registry,
            )
        )
        self._request_seconds = series(
            Histogram(
                "specfuse_request_duration_seconds",
                "Duration of a request, by how it ended.",
                ("ensemble", "outcome"),
                buckets=REQUEST_SECONDS,
                registry=registry,
            )
        )
        self._in_flight = Gauge(
            "specfuse_requests_in_flight", "Requests being answered now.", registry=registry
        )
        self._queries = series(
            Gauge(
                "specfuse_ensemble_sessions",
                "Queries for the ensemble: held, waiting for a place, or under way.",
                ("ensemble",),
                registry=registry,
            )
        )
        self._waking = series(
            Gauge(
                "specfuse_requests_waking",
                "Requests that wait for members to wake, as fewer than the quorum have replicas.",
                ("ensemble",),
                registry=registry,
            )
        )
        self._http_responses = series(
            Counter(
                "specfuse_http_responses",
                "Responses over HTTP, by path and status; the path is empty where "
                "there is none such.",
                ("route", "status"),
                registry=registry,
            )
        )
        self._output_tokens = series(
            Counter(
                "specfuse_output_tokens",
                "Committed tokens, counted in the winners' tokenizers.",
                ("ensemble", "team"),
                registry=registry,
            )
        )

    def _define_tenancy_metrics(self, registry: CollectorRegistry) -> None:
        by_team = ("ensemble", "team")
        self._team_requests = series(
            Counter(
                "specfuse_team_requests",
                "Requests that ended, by whose they were and how they ended.",
                (*by_team, "outcome"),
                registry=registry,
            )
        )
        self._prompt_tokens = series(
            Counter(
                "specfuse_prompt_tokens",
                "Tokens of what answers began with, counted in the first round's "
                "winner's tokenizer.",
                by_team,
                registry=registry,
            )
        )
        self._team_calls = series(
            Counter(
                "specfuse_team_calls",
                "Calls to members, by whose request they were made for.",
                by_team,
                registry=registry,
            )
        )
        self._team_calls_avoided = series(
            Counter(
                "specfuse_team_calls_avoided",
                "Calls that two per member and round would have taken beyond those made.",
                by_team,
                registry=registry,
            )
        )
        self._waiting = Gauge(
            "specfuse_requests_waiting",
            "Requests that wait for a place among those being answered.",
            registry=registry,
        )
        self._anonymous = Gauge(
            "specfuse_anonymous_allowed",
            "1 if callers that nobody knows are let in, else 0.",
            registry=registry,
        )
        self._keys = Gauge(
            "specfuse_keys",
            "API keys of the fuser's teams in the file that was read last, ended ones included.",
            registry=registry,
        )
        self._store_failures = Counter(
            "specfuse_limit_store_failures",
            "Times that the store of limits could not be asked; the replica counts by itself then.",
            registry=registry,
        )
        self._lines_lost = Counter(
            "specfuse_accounting_lines_lost",
            "Lines of the accounts that could not be written.",
            registry=registry,
        )

    def _stand_ensembles(self, ensembles: Collection[EnsembleStatus]) -> None:
        for gone in self._told.keys() - {one.name for one in ensembles}:
            for gauge in (self._ready, self._ready_members, self._quorum):
                gauge.remove(gone)
            del self._told[gone]
        for one in ensembles:
            if self._told.get(one.name) != one:
                self._told[one.name] = one
                self._ready.labels(one.name).set(one.ready)
                self._ready_members.labels(one.name).set(len(one.ready_members))
                self._quorum.labels(one.name).set(one.quorum)

    def _stand_members(self, ensembles: Collection[EnsembleStatus]) -> None:
        members = {member for one in ensembles for member in one.members}
        for gone in self._told_members - members:
            self._member_ready.remove(gone)
            self._may_sleep.remove(gone)
        self._told_members = members
        waited_for = {member for one in ensembles if not one.wakes for member in one.members}
        reached = {member for one in ensembles for member in one.ready_members}
        for member in members:
            self._member_ready.labels(member).set(member in reached)
            self._may_sleep.labels(member).set(member not in waited_for)

    def _start_at_zero(self, members: tuple[MemberName, ...]) -> None:
        for member in members:
            self._start_member_at_zero(member)

    def _start_ensemble_at_zero(self, ensemble: str) -> None:
        self._queries(ensemble)
        self._waking(ensemble)
        self._straggler_seconds(ensemble)
        self._active_members(ensemble)
        self._rounds(ensemble)
        self._first_segment_seconds(ensemble)
        self._token_seconds(ensemble)
        for phase in get_args(Phase):
            self._round_seconds(ensemble, phase)
        for outcome in ("used", "dropped"):
            self._drafts_ahead(ensemble, outcome)
        for outcome in get_args(RequestOutcome):
            self._request_seconds(ensemble, outcome)

    def _start_team_at_zero(self, ensemble: str, team: str) -> None:
        self._output_tokens(ensemble, team)
        self._prompt_tokens(ensemble, team)
        self._team_calls(ensemble, team)
        self._team_calls_avoided(ensemble, team)
        for outcome in _TEAM_OUTCOMES:
            self._team_requests(ensemble, team, outcome)

    def _start_part_at_zero(self, ensemble: str, member: MemberName) -> None:
        self._wins(ensemble, member)
        self._discarded_tokens(ensemble, member)
        self._passes(ensemble, member)
        self._recalls(ensemble, member)
        for reason in DepartureReason:
            self._exits(ensemble, member, reason.value)

    def _start_member_at_zero(self, member: MemberName) -> None:
        self._sessions(member)
        self._revisions.labels(member)
        self._revisions_lost(member)
        for rpc, outcome in product(get_args(Rpc), get_args(Outcome)):
            self._calls(member, rpc, outcome)
        for because in get_args(AvoidedBecause):
            self._calls_avoided(member, because)
        for why in get_args(SecondCall):
            self._second_calls(member, why)
