"""What people may set of the rules: `monitoring.rules` in the chart's values, defaults included."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

CHART: Final = Path(__file__).parents[3] / "deploy" / "helm" / "specfuse"


@dataclass(frozen=True, slots=True)
class RuleValues:
    """`monitoring.rules`. Keys are the chart's, thresholds by name, durations by alert."""

    runbooks: str
    window: str
    longWindow: str  # noqa: N815 (as in the values)
    thresholds: Mapping[str, float]
    durations: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    disabled: tuple[str, ...] = ()


def read(*overrides: Mapping[str, Any]) -> RuleValues:
    """The chart's own values, and what is laid over them, one after the other.

    Raises:
        ValueError: an override has a key that there is not.
    """
    chart = yaml.safe_load((CHART / "values.yaml").read_text())["monitoring"]["rules"]
    for override in overrides:
        chart = _laid_over(chart, override, "monitoring.rules")
    return RuleValues(
        runbooks=chart["runbooks"],
        window=chart["window"],
        longWindow=chart["longWindow"],
        thresholds=chart["thresholds"],
        durations=chart["for"],
        labels=chart["alertLabels"],
        disabled=tuple(chart["disabled"]),
    )


def _laid_over(base: Any, override: Any, at: str) -> Any:  # noqa: ANN401 (any part of values)
    if not isinstance(base, Mapping) or not isinstance(override, Mapping):
        return override
    unknown = sorted(override.keys() - base.keys()) if base else []
    if unknown:
        raise ValueError(f"{at}: there is no {unknown[0]}; there are: {', '.join(base)}")
    laid = {key: _laid_over(base.get(key), one, f"{at}.{key}") for key, one in override.items()}
    return {**base, **laid}
