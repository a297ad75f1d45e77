"""Who asks how much, and what of it is refused."""

from __future__ import annotations

from typing import Final

from deploy.monitoring.boards.board import (
    ENSEMBLE,
    HERE,
    NAMESPACE,
    OF_TEAM,
    TEAM,
    Board,
    Panel,
    Query,
    Row,
    rate,
)


def _in_all(metric: str) -> str:
    return f"sum by (team) (increase({metric}{{{OF_TEAM}}}[$__range]))"


_ASKED: Final = Row(
    "Who asks",
    (
        Panel(
            "Requests by team",
            "However they ended.",
            (Query(rate("specfuse_team_requests_total", OF_TEAM, "team"), "{{team}}"),),
            unit="reqps",
            kind="stack",
            runbooks=("OverloadRefusals",),
        ),
        Panel(
            "Refused",
            "Requests of teams at their limit; of callers who are not known, or may not ask that.",
            (
                Query(
                    rate(
                        "specfuse_team_requests_total",
                        f'{HERE}, ensemble=~"$ensemble|unknown", team=~"$team|unknown",'
                        ' outcome=~"rate_limited|forbidden|unauthenticated"',
                        "team, outcome",
                    ),
                    "{{team}} {{outcome}}",
                ),
            ),
            unit="reqps",
            runbooks=("TeamAtLimit",),
        ),
        Panel(
            "Part at the limit",
            "The part of each team's requests that are refused as it has had what it may have.",
            (
                Query(
                    rate(
                        "specfuse_team_requests_total", f'{OF_TEAM}, outcome="rate_limited"', "team"
                    )
                    + f" / {rate('specfuse_team_requests_total', OF_TEAM, 'team')}",
                    "{{team}}",
                ),
            ),
            unit="percentunit",
            runbooks=("TeamAtLimit",),
        ),
    ),
)

_TAKEN: Final = Row(
    "What it takes",
    (
        Panel(
            "Tokens",
            "Committed tokens a second, and those of what answers began with.",
            (
                Query(rate("specfuse_output_tokens_total", OF_TEAM, "team"), "{{team}} output"),
                Query(rate("specfuse_prompt_tokens_total", OF_TEAM, "team"), "{{team}} prompt"),
            ),
            unit="cps",
            runbooks=("TeamAtLimit",),
        ),
        Panel(
            "Calls",
            "Calls to members that were made for each team, and those that were not needed.",
            (
                Query(rate("specfuse_team_calls_total", OF_TEAM, "team"), "{{team}} made"),
                Query(
                    rate("specfuse_team_calls_avoided_total", OF_TEAM, "team"), "{{team}} avoided"
                ),
            ),
            unit="cps",
        ),
        Panel(
            "By ensemble",
            "Requests of the chosen teams, by what they asked.",
            (Query(rate("specfuse_team_requests_total", OF_TEAM, "ensemble"), "{{ensemble}}"),),
            unit="reqps",
            kind="stack",
        ),
        Panel(
            "In all",
            "Over the time that is shown.",
            (
                Query(_in_all("specfuse_team_requests_total"), "requests"),
                Query(_in_all("specfuse_prompt_tokens_total"), "prompt tokens"),
                Query(_in_all("specfuse_output_tokens_total"), "output tokens"),
                Query(_in_all("specfuse_team_calls_total"), "calls"),
                Query(_in_all("specfuse_team_calls_avoided_total"), "calls avoided"),
            ),
            kind="table",
            width=24,
        ),
    ),
)

_BOOKS: Final = Row(
    "Keys and books",
    (
        Panel(
            "Keys",
            "Keys of the fuser's teams in the file that was read last.",
            (Query(f"max (specfuse_keys{{{HERE}}})", "keys"),),
            kind="number",
            width=6,
        ),
        Panel(
            "Callers without a key",
            "Whether any fuser lets in callers that nobody knows.",
            (Query(f"max (specfuse_anonymous_allowed{{{HERE}}})", "anonymous"),),
            kind="number",
            width=6,
            words=("refused", "let in"),
        ),
        Panel(
            "Store of limits",
            "Times that the store could not be asked: replicas count by themselves then.",
            (Query(rate("specfuse_limit_store_failures_total", HERE), "failures"),),
            unit="cps",
            width=6,
            runbooks=("TeamAtLimit",),
        ),
        Panel(
            "Lines lost",
            "Lines of the accounts that could not be written: bills lack them.",
            (Query(rate("specfuse_accounting_lines_lost_total", HERE), "lines"),),
            unit="cps",
            width=6,
        ),
    ),
)

BOARD: Final = Board(
    "teams",
    "SpecFuse / Teams",
    "Who asks how much, and what of it is refused.",
    (NAMESPACE, ENSEMBLE, TEAM),
    (_ASKED, _TAKEN, _BOOKS),
)
