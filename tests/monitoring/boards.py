"""The dashboards as Grafana would have them: from their files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from deploy.monitoring import made

FILES = {file.stem: file for file in sorted(made.DASHBOARDS.glob("*.json"))}


@dataclass(frozen=True)
class Shown:
    """A panel of a board's file."""

    board: str
    title: str
    kind: str
    unit: str
    description: str
    links: tuple[str, ...]
    place: Mapping[str, int]
    queries: tuple[tuple[str, str], ...]
    """Each with what its series are called."""

    @property
    def needs_more(self) -> bool:
        """Whether it says that it needs more than a mesh."""
        return self.description.startswith("Needs ")

    def __str__(self) -> str:
        return f"{self.board}: {self.title}"


def read(board: str) -> dict[str, Any]:
    """A board's file."""
    content: dict[str, Any] = json.loads(FILES[board].read_text())
    return content


def shown(board: str) -> Iterator[Shown]:
    """The panels of a board."""
    for panel in read(board)["panels"]:
        if panel["type"] != "row":
            yield Shown(
                board=board,
                title=panel["title"],
                kind=panel["type"],
                unit=panel["fieldConfig"]["defaults"]["unit"],
                description=panel["description"],
                links=tuple(link["url"] for link in panel.get("links", ())),
                place=panel["gridPos"],
                queries=tuple((one["expr"], one["legendFormat"]) for one in panel["targets"]),
            )


def everything() -> list[Shown]:
    """The panels of all boards."""
    return [panel for board in FILES for panel in shown(board)]


def filled(expr: str, window: str, span: str) -> str:
    """A query as Grafana asks it with everything chosen."""
    for variable in ("namespace", "ensemble", "member", "team"):
        expr = expr.replace(f"${variable}", ".*")
    expr = expr.replace("$objective", "0.99").replace("$__rate_interval", window)
    return expr.replace("$__range", span)
