"""Is an ensemble well, and what does fusing buy and cost."""

from __future__ import annotations

from typing import Final

from deploy.monitoring.boards.board import (
    ENSEMBLE,
    HERE,
    MEMBER,
    NAMESPACE,
    OF_BOTH,
    OF_ENSEMBLE,
    OF_MEMBER,
    Board,
    Panel,
    Query,
    Row,
    mean,
    quantiles,
    rate,
)

_REQUESTS: Final = "specfuse_request_duration_seconds"
_ANSWERED: Final = 'outcome=~"ok|degraded"'
_FAILED: Final = 'outcome!~"ok|degraded|rate_limited"'
_BURN: Final = (
    "max by (ensemble) (specfuse:request_errors:ratio_rate{window}{{" + OF_ENSEMBLE + "}})"
    " / (1 - $objective)"
)

_WELL: Final = Row(
    "Is it well",
    (
        Panel(
            "Can be asked",
            "Whether the fusers reach a quorum of the members, or wake it.",
            (
                Query(
                    f"max by (ensemble) (specfuse_ensemble_ready{{{OF_ENSEMBLE}}})", "{{ensemble}}"
                ),
            ),
            kind="number",
            width=6,
            words=("no", "yes"),
            runbooks=("QuorumLost",),
        ),
        Panel(
            "Members and quorum",
            "Members that every fuser reaches, and how many must answer.",
            (
                Query(
                    f"min by (ensemble) (specfuse_ensemble_ready_members{{{OF_ENSEMBLE}}})",
                    "{{ensemble}} reachable",
                ),
                Query(
                    f"max by (ensemble) (specfuse_ensemble_quorum{{{OF_ENSEMBLE}}})",
                    "{{ensemble}} quorum",
                ),
            ),
            kind="number",
            width=6,
            runbooks=("QuorumLost", "MemberDown"),
        ),
        Panel(
            "Error budget",
            "How many times faster than the objective allows requests fail, over an hour, six, and"
            " three days: 1 uses the budget up in its 30 days, 14.4 in two. From recorded series.",
            tuple(
                Query(_BURN.format(window=window), f"{{{{ensemble}}}} {window}")
                for window in ("1h", "6h", "3d")
            ),
            width=12,
            runbooks=("ErrorBudgetBurn",),
        ),
        Panel(
            "Answers a second",
            "Complete answers; degraded ones came about without a member.",
            (
                Query(
                    rate(f"{_REQUESTS}_count", f"{OF_ENSEMBLE}, {_ANSWERED}", "ensemble, outcome"),
                    "{{ensemble}} {{outcome}}",
                ),
            ),
            unit="reqps",
            kind="stack",
            runbooks=("EnsembleDegraded", "NoTraffic"),
        ),
        Panel(
            "Requests that failed",
            "Requests without a complete answer, by why, and those for no ensemble that there is."
            " Those of teams at their limit are on the board Teams.",
            (
                Query(
                    rate(
                        f"{_REQUESTS}_count",
                        f'{HERE}, ensemble=~"$ensemble|unknown", {_FAILED}',
                        "outcome",
                    ),
                    "{{outcome}}",
                ),
            ),
            unit="reqps",
            runbooks=("ErrorBudgetBurn", "OverloadRefusals"),
        ),
        Panel(
            "Requests now",
            "Requests of all ensembles that are being answered or wait for a place, and those that"
            " wait for members to wake.",
            (
                Query(f"sum (specfuse_requests_in_flight{{{HERE}}})", "in flight"),
                Query(f"sum (specfuse_requests_waiting{{{HERE}}})", "waiting"),
                Query(
                    f"sum by (ensemble) (specfuse_requests_waking{{{OF_ENSEMBLE}}})",
                    "{{ensemble}} waking",
                ),
            ),
            runbooks=("OverloadRefusals", "FirstSegmentSlow"),
        ),
    ),
)

_FAST: Final = Row(
    "How fast",
    (
        Panel(
            "First segment",
            "From a request's arrival to its first words.",
            quantiles(
                "specfuse_time_to_first_segment_seconds", OF_ENSEMBLE, "ensemble", "{{ensemble}}"
            ),
            unit="s",
            width=6,
            runbooks=("FirstSegmentSlow",),
        ),
        Panel(
            "Time per token",
            "The mean of each answer, after its first segment.",
            quantiles(
                "specfuse_time_per_output_token_seconds", OF_ENSEMBLE, "ensemble", "{{ensemble}}"
            ),
            unit="s",
            width=6,
        ),
        Panel(
            "Whole answers",
            "How long complete answers took.",
            quantiles(_REQUESTS, f"{OF_ENSEMBLE}, {_ANSWERED}", "ensemble", "{{ensemble}}"),
            unit="s",
            width=6,
        ),
        Panel(
            "Rounds an answer",
            "The mean of complete answers.",
            (Query(mean("specfuse_rounds_per_request", OF_ENSEMBLE, "ensemble"), "{{ensemble}}"),),
            width=6,
        ),
    ),
)

_WINS: Final = rate("specfuse_segment_wins_total", OF_BOTH, "ensemble, model_name")
_ALL_WINS: Final = rate("specfuse_segment_wins_total", OF_ENSEMBLE, "ensemble")

_WORTH: Final = Row(
    "What fusing buys and costs",
    (
        Panel(
            "Wins by member",
            "Whose proposals are committed. One member that wins all is an ensemble of one.",
            (
                Query(
                    f"{_WINS} / on (ensemble) group_left () {_ALL_WINS}",
                    "{{ensemble}} {{model_name}}",
                ),
            ),
            unit="percentunit",
            kind="stack",
            runbooks=("WinShareCollapse",),
        ),
        Panel(
            "Active members",
            "The mean number of members that a round began with, those that watch among them.",
            (Query(mean("specfuse_active_members", OF_ENSEMBLE, "ensemble"), "{{ensemble}}"),),
        ),
        Panel(
            "Calls made and avoided",
            "Two calls for each member and round, or less.",
            (
                Query(rate("specfuse_team_calls_total", OF_ENSEMBLE), "made"),
                Query(rate("specfuse_team_calls_avoided_total", OF_ENSEMBLE), "avoided"),
            ),
            unit="cps",
            kind="stack",
        ),
        Panel(
            "Calls avoided by why",
            "It watched, kept a draft or had left; all agreed, or it had scored. All ensembles.",
            (
                Query(
                    rate("specfuse_member_calls_avoided_total", OF_MEMBER, "reason"), "{{reason}}"
                ),
            ),
            unit="cps",
            kind="stack",
            width=6,
        ),
        Panel(
            "Exits and recalls",
            "Members that lost, or watched in silence, and left; members that were called back.",
            (
                Query(
                    rate("specfuse_member_exits_total", f'{OF_BOTH}, reason="exit"', "model_name"),
                    "{{model_name}} left",
                ),
                Query(
                    rate("specfuse_member_recalls_total", OF_BOTH, "model_name"),
                    "{{model_name}} back",
                ),
            ),
            unit="cps",
            width=6,
            runbooks=("RecallStorm",),
        ),
        Panel(
            "Discarded tokens",
            "Tokens that were drafted and not committed, and those that were.",
            (
                Query(
                    rate("specfuse_discarded_tokens_total", OF_BOTH, "model_name"),
                    "{{model_name}} discarded",
                ),
                Query(rate("specfuse_output_tokens_total", OF_ENSEMBLE), "committed"),
            ),
            unit="cps",
            width=6,
            runbooks=("WastedDraftsHigh",),
        ),
        Panel(
            "Drafts made ahead",
            "Used by the next round, or dropped as the answer went on otherwise: up to a segment of"
            " work for nothing. Where most are dropped, turn draft_ahead off.",
            (
                Query(
                    rate("specfuse_drafts_ahead_total", OF_ENSEMBLE, "ensemble, outcome"),
                    "{{ensemble}} {{outcome}}",
                ),
            ),
            unit="cps",
            kind="stack",
            width=6,
            needs="an ensemble with draft_ahead",
            runbooks=("WastedDraftsHigh",),
        ),
    ),
)

BOARD: Final = Board(
    "ensemble",
    "SpecFuse / Ensemble",
    "Is it well, how fast is it, and what does fusing buy and cost.",
    (NAMESPACE, ENSEMBLE, MEMBER),
    (_WELL, _FAST, _WORTH),
)
