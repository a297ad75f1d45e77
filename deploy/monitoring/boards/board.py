"""What a dashboard is: rows of panels, each a question with the queries that answer it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["lines", "stack", "number", "heatmap", "table"]
"""How a panel draws: lines, areas on each other, latest values, buckets over time, or a table."""

Unit = Literal["short", "s", "reqps", "cps", "percentunit", "bytes", "percent", "decmbytes", "d"]
"""Grafana's names of units; `cps` is things a second."""


@dataclass(frozen=True, slots=True)
class Query:
    """A query, and what each of its series is called: `{{label}}` is the label's value."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """A question. `width` is in 24ths of the board."""

    title: str
    description: str
    queries: tuple[Query, ...]
    unit: Unit = "short"
    kind: Kind = "lines"
    width: int = 8
    needs: str = ""
    """What else must be there for it to have data, if not a mesh and Prometheus alone."""
    runbooks: tuple[str, ...] = ()
    """The alerts about what it shows."""
    words: tuple[str, str] | None = None
    """What 0 and 1 are called, where a number says yes or no."""
    exemplars: bool = False
    """Whether its series lead to traces, once there are any."""

    @property
    def said(self) -> str:
        """The description, with what the panel needs in front."""
        return f"Needs {self.needs}. {self.description}" if self.needs else self.description


@dataclass(frozen=True, slots=True)
class Row:
    """Panels that belong together."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """What a person chooses from: the values of a label of a metric."""

    label: str
    metric: str
    name: str = ""
    """By which queries ask for it, if not the label."""

    @property
    def asked(self) -> str:
        """Its name in queries, without the `$`."""
        return self.name or self.label


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard. Its file is NAME.json, its address in Grafana `specfuse-NAME`."""

    name: str
    title: str
    description: str
    variables: tuple[Variable, ...]
    rows: tuple[Row, ...]

    @property
    def panels(self) -> tuple[Panel, ...]:
        """All of them, in their order."""
        return tuple(panel for row in self.rows for panel in row.panels)


NAMESPACE = Variable("namespace", "specfuse_requests_in_flight")
ENSEMBLE = Variable("ensemble", 'specfuse_ensemble_ready{namespace=~"$namespace"}')
MEMBER = Variable("model_name", 'specfuse_member_ready{namespace=~"$namespace"}', "member")
TEAM = Variable("team", 'specfuse_output_tokens_total{namespace=~"$namespace"}')

HERE = 'namespace=~"$namespace"'
OF_ENSEMBLE = f'{HERE}, ensemble=~"$ensemble"'
OF_MEMBER = f'{HERE}, model_name=~"$member"'
OF_BOTH = f'{OF_ENSEMBLE}, model_name=~"$member"'
OF_TEAM = f'{OF_ENSEMBLE}, team=~"$team"'


def rate(metric: str, matchers: str, by: str = "") -> str:
    """So many a second, summed up over what is not in `by`."""
    grouped = f"sum by ({by})" if by else "sum"
    return f"{grouped} (rate({metric}{{{matchers}}}[$__rate_interval]))"


def mean(metric: str, matchers: str, by: str) -> str:
    """The mean of a histogram's observations."""
    return f"{rate(f'{metric}_sum', matchers, by)} / {rate(f'{metric}_count', matchers, by)}"


def quantile(share: float, metric: str, matchers: str, by: str) -> str:
    """What so large a share of a histogram's observations stay below."""
    counted = rate(f"{metric}_bucket", matchers, f"{by}, le")
    return f"histogram_quantile({share:g}, {counted})"


def quantiles(metric: str, matchers: str, by: str, legend: str) -> tuple[Query, ...]:
    """The median, and what one in twenty and one in a hundred exceed."""
    return tuple(
        Query(quantile(share, metric, matchers, by), f"{legend} {share:.0%}".replace("%", " %"))
        for share in (0.5, 0.95, 0.99)
    )


def heat(metric: str, matchers: str) -> tuple[Query, ...]:
    """How many observations fell into each bucket, over time."""
    counted = f"increase({metric}_bucket{{{matchers}}}[$__rate_interval])"
    return (Query(f"sum by (le) ({counted})", "{{le}}"),)
