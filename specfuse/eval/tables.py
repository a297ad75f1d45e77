"""The report for people: a table on a terminal, or in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from rich.table import Table

from specfuse.eval.proportions import Proportion
from specfuse.eval.records import BEST_RESPONSE, System, SystemKind
from specfuse.eval.report import Cell, Outcome, Report, Summary

_LEGEND: Final = """\
`asked` is how many questions the system has answered so far; `exact` the share of whole answers
that are exactly right, with its 95 % interval (Wilson); `passes` are those through models per
question, one for each token drafted and one for each call to score; `calls` are those to models,
proposals and scores; `avoided` is the share of the full two calls a member and round that was not
needed; `active` the mean number of members that draft in a round. Times are medians on the machine
that made this.
"""
_PARTS_LEGEND: Final = """\
The mean number of members that draft, and the share of calls avoided, by a question's number of
parts.
"""
_ERRORS_LEGEND: Final = """\
Of the fused answers, how many had a wrong answer word, said not to know what somebody knows, ended
too early, did not end, or had the wrong form. Then the share of drafted tokens that was not
committed, the rounds that members came back for, and the scores that were not needed because all
proposals agreed.
"""
KINDS_LEGEND: Final = """\
By kind of question and number of parts: how many were asked, and of the answers the percentage that
is exactly right, with its 95 % interval (Wilson). `alone`: one member knows all of it and nobody
else any. `shared`: several know each part. `several`: no member knows all of it. `mid-sentence`: of
one sentence, one member knows the first answer and another the second. `contested`: somebody knows,
somebody else is as sure of something wrong. `unknown`: nobody knows one of the parts, and saying so
is right.
"""
INVENTED_LEGEND: Final = """\
The percentage of answers that invent a fact: a sentence that is whole states what is not true, or
what nobody knows.
"""
_LABELS: Final = {
    SystemKind.SINGLE: "alone: ",
    SystemKind.FUSED: "fused: ",
    SystemKind.ORACLE: "best choice of ",
}


def label_of(system: System) -> str:
    """What a system is called in tables and charts."""
    if system == BEST_RESPONSE:
        return "best whole response"
    return f"{_LABELS[system.kind]}{system.name}"


def main_rows(report: Report) -> list[list[str]]:
    """Quality and calls, a row per system under one of headings."""
    parts = sorted({p for summary in report.summaries.values() for p in summary.by_parts})
    by_parts = [f"{count} part{'s' if count > 1 else ''}" for count in parts] if parts[1:] else []
    rows = [
        [
            "system",
            "asked",
            "exact",
            *by_parts,
            "passes",
            "calls",
            "avoided",
            "active",
            "rounds",
            "first s",
            "ms/token",
        ]
    ]
    for system, one in report.summaries.items():
        shares = [_percent_of(one.by_parts.get(count)) for count in parts]
        fused = system.kind is SystemKind.FUSED
        rows.append(
            [
                label_of(system),
                str(one.exact.total),
                with_interval(one.exact),
                *(shares if by_parts else []),
                f"{one.passes_per_question:.0f}",
                f"{one.calls_per_question:.1f}",
                f"{one.avoided_share:.0%}" if fused else "",
                f"{one.mean_active:.2f}" if fused else "",
                f"{one.mean_rounds:.1f}" if one.mean_rounds else "",
                f"{one.first_segment_seconds:.2f}",
                _milliseconds(one.seconds_per_token),
            ]
        )
    return rows


def error_rows(report: Report) -> list[list[str]]:
    """What was wrong with the fused answers, what was drafted in vain, and who came back."""
    kinds = ("word", "declined", "stopped", "ran_on", "form")
    rows = [["system", *kinds, "discarded tokens", "recalls", "saved by consensus"]]
    rows += [
        [
            f"fused: {name}",
            *(str(one.errors.get(kind, 0)) for kind in kinds),
            f"{one.discarded_tokens / max(1, one.discarded_tokens + one.output_tokens):.0%}",
            str(one.recalls),
            str(one.consensus_calls_avoided),
        ]
        for name, one in report.of_kind(SystemKind.FUSED).items()
    ]
    return rows


def skill_rows(report: Report) -> list[list[str]]:
    """One-part questions by skill: fused should be no worse than the skill's expert alone."""
    skills = sorted({skill for one in report.summaries.values() for skill in one.by_skill})
    return [
        ["system", *skills],
        *(
            [label_of(system), *(_percent_of(one.by_skill.get(skill)) for skill in skills)]
            for system, one in report.summaries.items()
            if one.by_skill
        ),
    ]


def parts_rows(report: Report) -> list[list[str]]:
    """How many members were active, and which share of calls was avoided, by number of parts."""
    fused = report.of_kind(SystemKind.FUSED)
    parts = sorted({count for one in fused.values() for count in one.active_by_parts})
    return [
        ["system", *(f"active, {n}" for n in parts), *(f"avoided, {n}" for n in parts)],
        *(
            [
                f"fused: {name}",
                *(
                    f"{one.active_by_parts[n]:.2f}" if n in one.active_by_parts else ""
                    for n in parts
                ),
                *(_avoided_of(one.calls_by_parts.get(n)) for n in parts),
            ]
            for name, one in fused.items()
        ),
    ]


def wins_rows(summary: Summary) -> list[list[str]]:
    """Committed segments by member, and by the skill of the part that was being answered."""
    skills = sorted({skill for wins in summary.wins.values() for skill in wins})
    return [
        ["winner", *(skill or "-" for skill in skills)],
        *(
            [member, *(str(wins.get(skill, 0)) for skill in skills)]
            for member, wins in summary.wins.items()
        ),
    ]


def kind_rows(report: Report, share: Callable[[Outcome], Proportion]) -> list[list[str]]:
    """A share of the answers by kind and number of parts, a column per system, and all together."""
    systems = list(report.outcomes)
    cells = list(dict.fromkeys(cell for one in report.outcomes.values() for cell in one))
    rows = [["kind", "parts", "asked", *map(label_of, systems)]]
    for cell in cells:
        shares = [_share_in(report.outcomes[system], [cell], share) for system in systems]
        asked = str(max(one.total for one in shares))
        rows.append([cell.kind, str(cell.parts), asked, *map(briefly, shares)])
    totals = [_share_in(report.outcomes[system], cells, share) for system in systems]
    asked = str(max((one.total for one in totals), default=0))
    return [*rows, ["all", "", asked, *map(briefly, totals)]]


def _share_in(
    outcomes: Mapping[Cell, Outcome],
    cells: Iterable[Cell],
    share: Callable[[Outcome], Proportion],
) -> Proportion:
    """The share in several cells together."""
    found = [share(outcomes[cell]) for cell in cells if cell in outcomes]
    return Proportion(sum(one.hits for one in found), sum(one.total for one in found))


def exactly(outcome: Outcome) -> Proportion:
    """The answers that are exactly right."""
    return outcome.exact


def inventing(outcome: Outcome) -> Proportion:
    """The answers that invent a fact."""
    return outcome.invents


def terminal_table(rows: Sequence[Sequence[str]]) -> Table:
    """The rows under their heading as a terminal shows them."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for index, heading in enumerate(rows[0]):
        table.add_column(heading, justify="right" if index else "left", no_wrap=True)
    for row in rows[1:]:
        table.add_row(*row)
    return table


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """The rows under their heading in Markdown."""
    ruler = ["---", *["---:"] * (len(rows[0]) - 1)]
    return "".join(f"| {' | '.join(row)} |\n" for row in (rows[0], ruler, *rows[1:]))


def markdown(report: Report, command: str, charts: Mapping[str, str]) -> str:
    """The whole report in Markdown; `charts` are file names by what they show."""
    fused = report.of_kind(SystemKind.FUSED)
    blocks = [
        f"# Suite {report.suite}, {report.questions} questions, seed {report.seed}\n",
        f"Made by\n\n    {command}\n",
        _LEGEND,
        markdown_table(main_rows(report)),
        *(f"![{shows}]({name})\n" for shows, name in charts.items()),
    ]
    if any(one.by_skill for one in report.summaries.values()):
        blocks += ["One-part questions, by skill.\n", markdown_table(skill_rows(report))]
    if report.outcomes:
        blocks += [KINDS_LEGEND, markdown_table(kind_rows(report, exactly))]
        blocks += [INVENTED_LEGEND, markdown_table(kind_rows(report, inventing))]
    if fused:
        blocks += [_PARTS_LEGEND, markdown_table(parts_rows(report))]
        blocks += [_ERRORS_LEGEND, markdown_table(error_rows(report))]
    for name, summary in list(fused.items())[:1]:
        blocks += [
            f"Segments of `{name}` by winner, and by the skill of the part being answered.\n",
            markdown_table(wins_rows(summary)),
        ]
    return "\n".join(blocks)


def with_interval(share: Proportion) -> str:
    """`97.2 % (96.1-98.0)`."""
    low, high = share.interval
    return f"{_percent(share)} ({low * 100:.1f}-{high * 100:.1f})"


def briefly(share: Proportion) -> str:
    """`97 (96-98)`, in percent; empty of nothing."""
    if not share.total:
        return ""
    low, high = share.interval
    return f"{share.value * 100:.0f} ({low * 100:.0f}-{high * 100:.0f})"


def _avoided_of(calls: tuple[int, int] | None) -> str:
    return "" if calls is None else f"{calls[1] / max(1, sum(calls)):.0%}"


def _percent_of(share: Proportion | None) -> str:
    return "" if share is None else _percent(share)


def _percent(share: Proportion) -> str:
    return f"{share.value * 100:.1f} %"


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1000:.1f}"
