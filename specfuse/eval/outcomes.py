"""Results of several families on one page, by family, kind and number of parts. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from specfuse.eval.proportions import Proportion
from specfuse.eval.records import System, SystemKind
from specfuse.eval.tables import INVENTED_LEGEND, KINDS_LEGEND, briefly, label_of, markdown_table

BEST_ALONE: Final = "best member alone"
ALL_ALONE: Final = "all members alone"
_COLUMNS_LEGEND: Final = f"""\
`{BEST_ALONE}` is, in each family, the member that alone is right most often over all its questions;
`{ALL_ALONE}` are the answers of all of them together.
"""

Place = tuple[str, str, str]
"""A row: family, kind, number of parts. `all` stands for any."""
Table = dict[Place, dict[str, Proportion]]


def page(documents: Sequence[Mapping[str, Any]]) -> str:
    """The page in Markdown, from reports as JSON objects (`Report.to_document`).

    Raises:
        AttributeError, KeyError, TypeError, ValueError: one of them is none, or not of a family.
    """
    if not all(document["kinds"] for document in documents):
        raise ValueError("a report without kinds of questions")
    names = ", ".join(document["suite"].partition("@")[0] for document in documents)
    seeds = ", ".join(sorted({str(document["seed"]) for document in documents}))
    return "\n".join(
        [
            f"# Families {names}; questions of seed {seeds}\n",
            KINDS_LEGEND,
            _COLUMNS_LEGEND,
            markdown_table(_rows(table_of(documents, "exact"))),
            INVENTED_LEGEND,
            markdown_table(_rows(table_of(documents, "invents"))),
        ]
    )


def table_of(documents: Iterable[Mapping[str, Any]], share: str) -> Table:
    """Shares by row and column. `share` is `exact` or `invents`."""
    table: defaultdict[Place, defaultdict[str, list[Proportion]]]
    table = defaultdict(lambda: defaultdict(list))
    for document in documents:
        family = document["suite"].partition("@")[0]
        best = _best_alone(document["kinds"])
        for one in document["kinds"]:
            kind, parts = one["kind"], str(one["parts"])
            found = Proportion(one[share], one["asked"])
            for column in _columns(
                System(SystemKind(one["system"]["kind"]), one["system"]["name"]), best
            ):
                for place in (
                    (family, kind, parts),
                    (family, "all", "all"),
                    ("all", kind, "all"),
                    ("all", "all", "all"),
                ):
                    table[place][column].append(found)
    return {
        place: {column: _together(found) for column, found in columns.items()}
        for place, columns in sorted(table.items(), key=lambda row: _order(row[0]))
    }


def _best_alone(rows: Iterable[Mapping[str, Any]]) -> str:
    """The member that alone is right most often."""
    right: defaultdict[str, int] = defaultdict(int)
    for one in rows:
        if one["system"]["kind"] == SystemKind.SINGLE:
            right[one["system"]["name"]] += one["exact"]
    return max(right, key=lambda name: right[name], default="")


def _columns(system: System, best: str) -> tuple[str, ...]:
    """The columns in which a system's answers count."""
    if system.kind is not SystemKind.SINGLE:
        return (label_of(system),)
    return (ALL_ALONE, BEST_ALONE) if system.name == best else (ALL_ALONE,)


def _order(place: Place) -> tuple[bool, str, bool]:
    """Families first, and what is of all of them last; kinds as they come."""
    family, kind, _ = place
    return family == "all", family if family != "all" else "", kind == "all"


def _together(shares: Sequence[Proportion]) -> Proportion:
    return Proportion(sum(one.hits for one in shares), sum(one.total for one in shares))


def _rows(table: Table) -> list[list[str]]:
    found = dict.fromkeys(column for columns in table.values() for column in columns)
    columns = [BEST_ALONE, *(one for one in found if one != BEST_ALONE)]
    nothing = Proportion(0, 0)
    return [
        ["family", "kind", "parts", "asked", *columns],
        *(
            [
                *place,
                str(shares.get(BEST_ALONE, nothing).total),
                *(briefly(shares.get(column, nothing)) for column in columns),
            ]
            for place, shares in table.items()
        ),
    ]
