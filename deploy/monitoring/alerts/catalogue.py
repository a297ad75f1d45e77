"""Every rule. Runbooks are `docs/runbooks/NAME.md`; thresholds are values of the chart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from deploy.monitoring.alerts.rules import Alert, Group, Recording, Severity

_MESH: Final = "namespace, app_kubernetes_io_instance"
"""What tells meshes apart. A series without one of these labels is like one where it is empty."""

_ENSEMBLE: Final = f"({_MESH}, ensemble)"
_MODEL: Final = f"({_MESH}, model_name)"
_REPLICA: Final = f"({_MESH}, model_name, pod, instance)"
_BY_ENSEMBLE: Final = f"by {_ENSEMBLE}"
_BY_MODEL: Final = f"by {_MODEL}"
_BY_REPLICA: Final = f"by {_REPLICA}"

_FAILED: Final = "unavailable|deadline_exceeded|resource_exhausted|internal"
"""Outcomes that are ours to answer for. Wrong, forbidden and cancelled requests are not."""
_COUNTS: Final = f"ok|degraded|{_FAILED}"

BURN_WINDOWS: Final = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")

_WHOLE_ROUND: Final = 'phase="total"'

_ERROR_RATIO: Final = "specfuse:request_errors:ratio_rate"


def requests(outcome: str, window: str) -> str:
    """Requests of each ensemble a second that ended so; every request, if `outcome` is empty."""
    matcher = f'outcome=~"{outcome}"' if outcome else ""
    counted = f"specfuse_request_duration_seconds_count{{${{where}}{matcher}}}"
    return f"sum {_BY_ENSEMBLE} (rate({counted}[{window}]))"


def _arrivals(window: str) -> str:
    counted = f"specfuse_request_duration_seconds_count{{${{where}}}}[${{{window}}}]"
    return f"sum by ({_MESH}) (increase({counted}))"


def _quantile(metric: str, matchers: str = "") -> str:
    counted = f"rate({metric}_bucket{{${{where}}{matchers}}}[${{window}}])"
    return f"histogram_quantile(0.95, sum by ({_MESH}, ensemble, le) ({counted}))"


def _rate(metric: str, by: str = _BY_ENSEMBLE, matchers: str = "") -> str:
    return f"sum {by} (rate({metric}{{${{where}}{matchers}}}[${{window}}]))"


def _wins(by: str) -> str:
    return f"sum {by} (increase(specfuse_segment_wins_total{{${{where}}}}[${{longWindow}}]))"


def _burns(factor: str, *windows: str) -> str:
    """Whether the budget burns so many times too fast, over both windows."""
    limit = f"{factor} * (1 - ${{objective}})"
    return " and ".join(f"{_ERROR_RATIO}{window}{{${{where}}}} > {limit}" for window in windows)


def _enough_failed(window: str) -> str:
    counted = f'specfuse_request_duration_seconds_count{{${{where}}outcome=~"{_FAILED}"}}'
    return (
        f"and on {_ENSEMBLE} "
        f"sum {_BY_ENSEMBLE} (increase({counted}[{window}])) > ${{failedRequests}}"
    )


def _error_ratios() -> Iterator[Recording]:
    for window in BURN_WINDOWS:
        ratio = f"{requests(_FAILED, window)}\n/\n{requests(_COUNTS, window)}"
        yield Recording(f"{_ERROR_RATIO}{window}", ratio)


RECORDED: Final = tuple(_error_ratios())

ENSEMBLES: Final = Group(
    "specfuse.ensembles",
    (
        Alert(
            "QuorumLost",
            f"max {_BY_ENSEMBLE} (specfuse_ensemble_ready{{${{where}}}}) == 0",
            lasting="1m",
            severity="critical",
            summary="No fuser reaches a quorum of the members of {{ $labels.ensemble }}.",
            description="The ensemble {{ $labels.ensemble }} cannot be asked: every request for it"
            " ends"
            " with UNAVAILABLE, until as many members as its quorum can be reached again.",
        ),
        Alert(
            "EnsembleDegraded",
            f"{requests('degraded', '${window}')}\n/\n{requests('ok|degraded', '${window}')}\n"
            "> ${degradedShare}",
            lasting="10m",
            severity="warning",
            summary="Answers of {{ $labels.ensemble }} come about without some of its members.",
            description="{{ $value | humanizePercentage }} of the answers of {{ $labels.ensemble"
            " }} were"
            " degraded: a member was lost or late. They are complete, but worse.",
        ),
        Alert(
            "NoTraffic",
            "absent(specfuse_requests_in_flight{${where}})",
            lasting="5m",
            severity="critical",
            summary="No fuser is there, or none is scraped.",
            description="There are no series of any fuser. Either none runs, or Prometheus does"
            " not find"
            " them; all other alerts of fusers are blind.",
        ),
        Alert(
            "NoTraffic",
            f"""
{_arrivals("window")} == 0
and
{_arrivals("longWindow")} > ${{busyRequests}}
""",
            lasting="5m",
            severity="warning",
            summary="Requests no longer reach the fusers.",
            description="Fusers are there and nobody asks them any more, though there were many"
            " requests"
            " within the hour. Something before them may be broken.",
        ),
        Alert(
            "OverloadRefusals",
            f"{requests('resource_exhausted', '${window}')}\n/\n{requests('', '${window}')}\n"
            "> ${refusedShare}",
            lasting="5m",
            severity="warning",
            summary="{{ $labels.ensemble }} refuses requests for want of room.",
            description="{{ $value | humanizePercentage }} of the requests for {{ $labels.ensemble"
            " }} were"
            " refused with RESOURCE_EXHAUSTED: all places were taken.",
        ),
        Alert(
            "WinShareCollapse",
            f"""
{_wins(f"by ({_MESH}, ensemble, model_name)")}
/ on {_ENSEMBLE} group_left ()
{_wins(_BY_ENSEMBLE)}
> ${{winShare}}
and on {_ENSEMBLE} {_wins(_BY_ENSEMBLE)} > ${{winSegments}}
and on {_ENSEMBLE} count {_BY_ENSEMBLE} (
  group by ({_MESH}, ensemble, model_name) (specfuse_segment_wins_total{{${{where}}}})
) > 1
""",
            lasting="30m",
            severity="info",
            summary="{{ $labels.model_name }} writes the answers of {{ $labels.ensemble }} alone.",
            description="{{ $value | humanizePercentage }} of the segments of {{ $labels.ensemble"
            " }} are"
            " by {{ $labels.model_name }}. The others cost calls and bring nothing.",
        ),
        Alert(
            "RecallStorm",
            f"""
{_rate("specfuse_member_recalls_total")}
/
{_rate("specfuse_round_duration_seconds_count", matchers=_WHOLE_ROUND)}
> ${{recallsPerRound}}
""",
            lasting="15m",
            severity="warning",
            summary="Members of {{ $labels.ensemble }} leave and are called back again and again.",
            description="{{ $value | humanize }} members a round are called back into answers of"
            " {{ $labels.ensemble }}: their contexts are computed late, and rounds take longer.",
        ),
        Alert(
            "WastedDraftsHigh",
            f"""
{_rate("specfuse_discarded_tokens_total")}
/
({_rate("specfuse_discarded_tokens_total")} + {_rate("specfuse_output_tokens_total")})
> ${{discardedShare}}
""",
            lasting="30m",
            severity="info",
            summary="Most of what the members of {{ $labels.ensemble }} draft is thrown away.",
            description="{{ $value | humanizePercentage }} of the tokens drafted for"
            " {{ $labels.ensemble }} were not committed.",
        ),
    ),
)

LATENCY: Final = Group(
    "specfuse.latency",
    (
        Alert(
            "RoundLatencyHigh",
            f"{_quantile('specfuse_round_duration_seconds', _WHOLE_ROUND)} > ${{roundSeconds}}",
            lasting="10m",
            severity="warning",
            summary="Rounds of {{ $labels.ensemble }} are slow.",
            description="One round in twenty of {{ $labels.ensemble }} takes more than"
            " {{ $value | humanizeDuration }}.",
        ),
        Alert(
            "FirstSegmentSlow",
            f"{_quantile('specfuse_time_to_first_segment_seconds')} > ${{firstSegmentSeconds}}",
            lasting="10m",
            severity="warning",
            summary="Callers of {{ $labels.ensemble }} wait long for the first words.",
            description="One answer in twenty of {{ $labels.ensemble }} shows its first segment"
            " after more"
            " than {{ $value | humanizeDuration }}.",
        ),
        Alert(
            "StragglerDominates",
            f"""
{_rate("specfuse_straggler_wait_seconds_sum")}
/
{_rate("specfuse_round_duration_seconds_sum", matchers=_WHOLE_ROUND)}
> ${{stragglerShare}}
""",
            lasting="15m",
            severity="warning",
            summary="Rounds of {{ $labels.ensemble }} are spent on waiting for a late member.",
            description="{{ $value | humanizePercentage }} of the time of rounds of {{"
            " $labels.ensemble }}"
            " passes after the quorum has answered.",
        ),
    ),
)

BUDGET: Final = Group(
    "specfuse.budget",
    (
        *RECORDED,  # in the group of who asks for them, so that they are never of the last time
        Alert(
            "ErrorBudgetBurn",
            f"({_burns('14.4', '1h', '5m')} {_enough_failed('1h')})\n"
            f"or\n({_burns('6', '6h', '30m')} {_enough_failed('6h')})",
            lasting="2m",
            severity="critical",
            summary="{{ $labels.ensemble }} fails so many requests that the month's budget ends"
            " within days.",
            description="{{ $value | humanizePercentage }} of the requests for {{ $labels.ensemble"
            " }} failed"
            " over the last hour, or six.",
        ),
        Alert(
            "ErrorBudgetBurn",
            f"({_burns('3', '1d', '2h')} {_enough_failed('1d')})\n"
            f"or\n({_burns('1', '3d', '6h')} {_enough_failed('3d')})",
            lasting="15m",
            severity="warning",
            summary="{{ $labels.ensemble }} fails more requests than the month's budget allows.",
            description="{{ $value | humanizePercentage }} of the requests for {{ $labels.ensemble"
            " }} failed"
            " over the last day, or three.",
        ),
    ),
)

_COMPUTED: Final = 'outcome="miss"'

_QUEUED: Final = (
    f'sum {_BY_MODEL} ({{__name__=~"specfuse_model_(server_)?requests_waiting",${{where}}}})'
)
_WANTED: Final = f"sum {_BY_MODEL} (specfuse_member_sessions{{${{where}}}})"


def _autoscaled(metric: str) -> str:
    """A number of the autoscaler of each model, by the end of its name the model's."""
    found = f'{metric}{{${{whereScaled}}horizontalpodautoscaler=~"${{scalers}}-model-.+"}}'
    by_name = f"max by (namespace, horizontalpodautoscaler) ({found})"
    return (
        f"max {_BY_MODEL} (label_replace({by_name},"
        ' "model_name", "$$1", "horizontalpodautoscaler", ".*-model-(.+)"))'
    )


_DESIRED: Final = _autoscaled("kube_horizontalpodautoscaler_status_desired_replicas")
_MOST: Final = _autoscaled("kube_horizontalpodautoscaler_spec_max_replicas")

MEMBERS: Final = Group(
    "specfuse.members",
    (
        Alert(
            "MemberDown",
            f"""
min {_BY_MODEL} (specfuse_member_ready{{${{where}}}}) == 0
and on {_MODEL} (
  max {_BY_MODEL} (specfuse_member_may_sleep{{${{where}}}}) == 0
  or {_WANTED} > 0
)
""",
            lasting="5m",
            severity="warning",
            summary="No replica of {{ $labels.model_name }} can be reached.",
            description="Answers of its ensembles come about without {{ $labels.model_name }}, or"
            " wait for"
            " it to wake; with more members down they fail.",
        ),
        Alert(
            "KVCacheFull",
            f"""
max {_BY_REPLICA} (specfuse_model_kv_cache_usage_ratio{{${{where}}}}) > ${{kvUsage}}
and on {_REPLICA} (
  {_rate("specfuse_model_kv_tokens_total", _BY_REPLICA, _COMPUTED)}
  /
  {_rate("specfuse_model_kv_tokens_total", _BY_REPLICA)}
  > ${{kvMissShare}}
)
""",
            lasting="10m",
            severity="warning",
            summary="The key-value cache of {{ $labels.model_name }} is too small for its"
            " sessions.",
            description="{{ $value | humanizePercentage }} of the cache of {{ $labels.instance }}"
            " is in use,"
            " and contexts are computed again that should have been in it.",
        ),
        Alert(
            "MixedRevisions",
            f"max {_BY_MODEL} (specfuse_member_revisions{{${{where}}}}) > 1",
            lasting="15m",
            severity="warning",
            summary="Replicas of {{ $labels.model_name }} run {{ $value }} revisions.",
            description="Answers keep to one revision, so part of the replicas of"
            " {{ $labels.model_name }} is of no use to them. A rollout ends within minutes; this"
            " one has not.",
        ),
        Alert(
            "ScalerInert",
            f"""
(
  {_QUEUED} > ${{queuedCalls}}
  and on (namespace, model_name) delta(({_DESIRED})[${{window}}:]) <= 0
  and on (namespace, model_name) {_DESIRED} < {_MOST}
)
or
(
  {_WANTED} > 0
  and on (namespace, model_name) {_DESIRED} == 0
)
""",
            lasting="10m",
            severity="warning",
            summary="{{ $labels.model_name }} needs more replicas, and its autoscaler wants none.",
            description="There is work for {{ $labels.model_name }} that waits ({{ $value |"
            " humanize }}), its"
            " autoscaler is below its maximum, and desired replicas do not rise.",
        ),
    ),
)

_CERTIFICATE_DAYS: Final[tuple[tuple[Severity, str], ...]] = (
    ("warning", "${certificateDays}"),
    ("critical", "${certificateLastDays}"),
)


def _asked_by_teams(matchers: str = "") -> str:
    return _rate("specfuse_team_requests_total", f"by ({_MESH}, team)", matchers)


OTHERS: Final = Group(
    "specfuse.others",
    (
        *(
            Alert(
                "CertificateExpiresSoon",
                f"min by ({_MESH}, pod, instance, door)"
                " (specfuse_tls_certificate_expiry_timestamp_seconds{${where}})"
                f" - time() < {days} * 86400",
                lasting="10m",
                severity=severity,
                summary="The certificate of {{ $labels.instance }} expires in"
                " {{ $value | humanizeDuration }}.",
                description="Once it has, nobody can connect to its door {{ $labels.door }}, and"
                " the service"
                " does not start again.",
            )
            for severity, days in _CERTIFICATE_DAYS
        ),
        Alert(
            "TeamAtLimit",
            f"""
{_asked_by_teams('outcome="rate_limited"')}
/
{_asked_by_teams()}
> ${{limitedShare}}
""",
            lasting="10m",
            severity="info",
            summary="The team {{ $labels.team }} is at its limit.",
            description="{{ $value | humanizePercentage }} of the requests of {{ $labels.team }}"
            " are refused,"
            " as it has had what it may have.",
        ),
    ),
)

GROUPS: Final = (ENSEMBLES, LATENCY, BUDGET, MEMBERS, OTHERS)

ALERTS: Final = tuple(rule for group in GROUPS for rule in group.rules if isinstance(rule, Alert))
