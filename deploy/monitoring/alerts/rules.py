"""What rules are. Their texts have places for values, such as `${window}`.

`${where}` is what every series of ours is asked for, `${whereScaled}` what those of autoscalers
are, and `${scalers}` how their names begin. `{{ $labels.ensemble }}` is for Prometheus, later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from string import Template
from typing import Any, Final, Literal

Severity = Literal["critical", "warning", "info"]
"""`critical` wakes somebody, `warning` waits for the morning, `info` for whoever looks."""

WHERE: Final = "where"
WHERE_SCALED: Final = "whereScaled"
SCALERS: Final = "scalers"


@dataclass(frozen=True, slots=True)
class Recording:
    """A series that is computed as time goes by, for queries that would be slow."""

    record: str
    expr: str


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that a person should know. `lasting` is for how long it must have been so."""

    name: str
    expr: str
    lasting: str
    severity: Severity
    summary: str
    """A sentence for a person."""
    description: str
    """What it means for callers, with the number."""

    @property
    def runbook(self) -> str:
        """The file with what to do, within the folder of runbooks."""
        return f"{self.name}.md"


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that are evaluated one after the other."""

    name: str
    rules: tuple[Recording | Alert, ...]


@dataclass(frozen=True, slots=True)
class Placed:
    """What is put into the places of rules."""

    values: Mapping[str, str]
    """By the names of the places."""
    lasting: Callable[[Alert], str]
    runbooks: str
    """Where the runbooks are, without a slash at the end."""
    labels: Mapping[str, str]
    """What every alert has beside its severity."""
    for_prometheus: Callable[[str], str] = str
    """What becomes of texts that Prometheus fills in itself."""

    def group(self, group: Group) -> dict[str, Any]:
        """The group as Prometheus reads it."""
        return {"name": group.name, "rules": [self.rule(rule) for rule in group.rules]}

    def rule(self, rule: Recording | Alert) -> dict[str, Any]:
        """The rule as Prometheus reads it."""
        if isinstance(rule, Recording):
            return {"record": rule.record, "expr": self._filled(rule.expr)}
        return {
            "alert": rule.name,
            "expr": self._filled(rule.expr),
            "for": self.lasting(rule),
            "labels": {"severity": rule.severity, **self.labels},
            "annotations": {
                "summary": self.for_prometheus(rule.summary),
                "description": self.for_prometheus(rule.description),
                "runbook_url": f"{self.runbooks}/{rule.runbook}",
            },
        }

    def _filled(self, expr: str) -> str:
        """The query with its values.

        Raises:
            KeyError: it has a place for which there is no value.
        """
        return Template(expr.strip()).substitute(self.values).replace("{}", "").replace(",}", "}")
