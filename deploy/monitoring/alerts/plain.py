"""The rules as a file for Prometheus, where there is no operator."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import yaml

from deploy.monitoring.alerts.catalogue import ALERTS, GROUPS
from deploy.monitoring.alerts.rules import SCALERS, WHERE, WHERE_SCALED, Alert, Group, Placed
from deploy.monitoring.alerts.values import RuleValues

_HEAD: Final = """\
# Made by `make monitoring`. What each alert means and what to do is in docs/runbooks. For others:
#   python -m deploy.monitoring.alerts --values thresholds.yaml > specfuse.rules.yaml
# where thresholds.yaml has what there is under monitoring.rules in the values of the chart.
"""


def text(values: RuleValues) -> str:
    """The file.

    Raises:
        ValueError: a duration is given, or an alert disabled, of a name that no alert has.
    """
    dumped = yaml.dump(rules(values), Dumper=_Dumper, sort_keys=False, width=1000)
    return _HEAD + dumped


def rules(values: RuleValues) -> dict[str, Any]:
    """What is in the file.

    Raises:
        ValueError: as `text`.
    """
    _check_names(values)
    placed = Placed(
        values={
            WHERE: "",
            WHERE_SCALED: "",
            SCALERS: ".*",
            "window": values.window,
            "longWindow": values.longWindow,
            **{name: str(value) for name, value in values.thresholds.items()},
        },
        lasting=lambda alert: values.durations.get(alert.name, alert.lasting),
        runbooks=values.runbooks,
        labels=values.labels,
    )
    groups = (_without(group, values.disabled) for group in GROUPS)
    return {"groups": [placed.group(group) for group in groups if group.rules]}


def _without(group: Group, disabled: tuple[str, ...]) -> Group:
    kept = (one for one in group.rules if not (isinstance(one, Alert) and one.name in disabled))
    return replace(group, rules=tuple(kept))


def _check_names(values: RuleValues) -> None:
    known = dict.fromkeys(alert.name for alert in ALERTS)
    for key, named in (("for", values.durations), ("disabled", values.disabled)):
        for name in named:
            if name not in known:
                there_are = ", ".join(known)
                raise ValueError(f"monitoring.rules.{key}: no alert {name}; there are: {there_are}")


class _Dumper(yaml.SafeDumper):
    """Writes queries as they are read: over several lines."""


def _string(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _string)
