"""Where a round's time goes."""

from __future__ import annotations

from typing import Final

from deploy.monitoring.boards.board import (
    ENSEMBLE,
    MEMBER,
    NAMESPACE,
    OF_ENSEMBLE,
    OF_MEMBER,
    Board,
    Panel,
    Query,
    Row,
    heat,
    mean,
    quantile,
    rate,
)

_ROUND: Final = "specfuse_round_duration_seconds"
_WAIT: Final = "specfuse_straggler_wait_seconds"
_CALL: Final = "specfuse_member_call_duration_seconds"
_WHOLE: Final = f'{OF_ENSEMBLE}, phase="total"'
_LATENCY: Final = ("RoundLatencyHigh", "StragglerDominates")

_A_ROUND: Final = rate(f"{_ROUND}_count", _WHOLE, "ensemble")

_ROUNDS: Final = Row(
    "Rounds",
    (
        Panel(
            "Rounds by duration",
            "How long whole rounds took, and how many took so long.",
            heat(_ROUND, _WHOLE),
            unit="s",
            kind="heatmap",
            width=12,
            runbooks=_LATENCY,
        ),
        Panel(
            "Where a round's time goes",
            "The mean of a round: all propose, all score; and the part of both that passes after"
            " the quorum has answered.",
            (
                Query(
                    f"{rate(f'{_ROUND}_sum', OF_ENSEMBLE, 'ensemble, phase')}"
                    f" / on (ensemble) group_left () {_A_ROUND}",
                    "{{ensemble}} {{phase}}",
                ),
                Query(
                    f"{rate(f'{_WAIT}_sum', OF_ENSEMBLE, 'ensemble')} / {_A_ROUND}",
                    "{{ensemble}} waiting for the late",
                ),
            ),
            unit="s",
            width=12,
            runbooks=_LATENCY,
        ),
        Panel(
            "Slow rounds by phase",
            "What one round in twenty exceeds. Its dots lead to traces once those are configured.",
            (
                Query(
                    quantile(0.95, _ROUND, OF_ENSEMBLE, "ensemble, phase"),
                    "{{ensemble}} {{phase}} 95 %",
                ),
            ),
            unit="s",
            exemplars=True,
            runbooks=_LATENCY,
        ),
        Panel(
            "Waiting for the late",
            "The part of rounds' time after a quorum has answered.",
            (
                Query(
                    f"{rate(f'{_WAIT}_sum', OF_ENSEMBLE, 'ensemble')}"
                    f" / {rate(f'{_ROUND}_sum', _WHOLE, 'ensemble')}",
                    "{{ensemble}}",
                ),
            ),
            unit="percentunit",
            runbooks=("StragglerDominates",),
        ),
        Panel(
            "Rounds a second",
            "Committed rounds.",
            (Query(_A_ROUND, "{{ensemble}}"),),
            unit="cps",
        ),
    ),
)

_MEMBERS: Final = Row(
    "By member",
    (
        Panel(
            "Slowest member",
            "What one call in twenty exceeds, as the fusers see it. Of all ensembles.",
            (Query(quantile(0.95, _CALL, OF_MEMBER, "model_name, rpc"), "{{model_name}} {{rpc}}"),),
            unit="s",
            width=12,
            runbooks=("StragglerDominates",),
        ),
        Panel(
            "Mean call",
            "The mean duration of a call, however it ended.",
            (Query(mean(_CALL, OF_MEMBER, "model_name, rpc"), "{{model_name}} {{rpc}}"),),
            unit="s",
            width=12,
        ),
        Panel(
            "Proposing",
            "How long calls of the chosen members took to propose.",
            heat(_CALL, f'{OF_MEMBER}, rpc="propose"'),
            unit="s",
            kind="heatmap",
        ),
        Panel(
            "Scoring",
            "How long calls of the chosen members took to score.",
            heat(_CALL, f'{OF_MEMBER}, rpc="score"'),
            unit="s",
            kind="heatmap",
        ),
        Panel(
            "Waits for the late",
            "How long rounds waited after a quorum had answered, and how many waited so long.",
            heat(_WAIT, OF_ENSEMBLE),
            unit="s",
            kind="heatmap",
        ),
        Panel(
            "Calls that did not end well",
            "Calls to members by how else they ended.",
            (
                Query(
                    rate(
                        "specfuse_member_calls_total",
                        f'{OF_MEMBER}, outcome!="ok"',
                        "model_name, outcome",
                    ),
                    "{{model_name}} {{outcome}}",
                ),
            ),
            unit="cps",
            width=12,
            runbooks=("EnsembleDegraded", "MemberDown"),
        ),
        Panel(
            "Calls made again",
            "Calls that were moved to another replica, repeated, or hedged as the first was late.",
            (
                Query(
                    rate("specfuse_member_second_calls_total", OF_MEMBER, "model_name, reason"),
                    "{{model_name}} {{reason}}",
                ),
            ),
            unit="cps",
            width=12,
        ),
    ),
)

BOARD: Final = Board(
    "rounds",
    "SpecFuse / Rounds",
    "Where a round's time goes, and who takes it.",
    (NAMESPACE, ENSEMBLE, MEMBER),
    (_ROUNDS, _MEMBERS),
)
