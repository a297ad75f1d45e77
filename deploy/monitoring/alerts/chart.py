"""The rules as a template of the chart: a PrometheusRule, whose thresholds are values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import yaml

from deploy.monitoring.alerts.catalogue import ALERTS, GROUPS
from deploy.monitoring.alerts.rules import (
    SCALERS,
    WHERE,
    WHERE_SCALED,
    Alert,
    Group,
    Placed,
    Recording,
)

_HEAD: Final = """\
{{/* Made by `make monitoring` from deploy/monitoring/alerts/catalogue.py: change it there. */}}
{{- with .Values.monitoring.rules }}
{{- if .enabled }}
{{- $known := list NAMES }}
{{- $for := .for | default dict }}
{{- range $name := concat (.disabled | default list) (keys $for) }}
{{- if not (has $name $known) }}
{{- $said := printf "monitoring.rules: there is no alert %s to disable, or to say for of" $name }}
{{- fail (printf "%s; there are: %s" $said (join ", " $known)) }}
{{- end }}
{{- end }}
{{- $release := "" }}
{{- if include "specfuse.scaling.ofTheRelease" (dict "root" $) }}
{{- $release = printf ",app_kubernetes_io_instance=%s" (quote $.Release.Name) }}
{{- end }}
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: {{ include "specfuse.fullname" $ }}
  namespace: {{ toYaml $.Release.Namespace }}
  labels:
    {{- include "specfuse.labels" (dict "root" $) | nindent 4 }}
    {{- with .labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  groups:
"""
_TAIL: Final = "{{- end }}\n{{- end }}\n"
_FOR_PROMETHEUS: Final = re.compile(r"{{.*?}}")


def template() -> str:
    """The file `templates/monitoring/prometheusrule.yaml`."""
    names = " ".join(f'"{name}"' for name in dict.fromkeys(alert.name for alert in ALERTS))
    lines = [line for group in GROUPS for line in _group(group)]
    return _HEAD.replace("NAMES", names) + "".join(f"{line}\n" for line in lines) + _TAIL


def _group(group: Group) -> Iterator[str]:
    yield f"    - name: {group.name}"
    yield "      rules:"
    for rule in group.rules:
        if isinstance(rule, Recording):
            yield from _indented(_PLACED.rule(rule))
        else:
            yield f'        {{{{- if not (has "{rule.name}" .disabled) }}}}'
            yield from _alert(rule)
            yield "        {{- end }}"


def _alert(alert: Alert) -> Iterator[str]:
    for line in _indented(_PLACED.rule(alert)):
        yield line
        if line.strip() == f"severity: {alert.severity}":
            yield "            {{- with .alertLabels }}"
            yield "            {{- toYaml . | nindent 12 }}"
            yield "            {{- end }}"


def _indented(rule: Mapping[str, Any]) -> Iterator[str]:
    """A rule as an item of a list, with what Helm fills in left as it is."""
    first = True
    for key, value in rule.items():
        lead = "        - " if first else "          "
        first = False
        if isinstance(value, Mapping):
            yield f"{lead}{key}:"
            yield from (f"            {name}: {_scalar(one)}" for name, one in value.items())
        elif "\n" in value:
            yield f"{lead}{key}: |-"
            yield from (f"            {line}".rstrip() for line in value.splitlines())
        else:
            yield f"{lead}{key}: {_scalar(value)}"


def _scalar(text: str) -> str:
    """The text in YAML, on one line: in quotes wherever braces or others would mislead."""
    dumped: str = yaml.dump(text, default_style="'", width=10_000)
    return text if re.fullmatch(r"[\w:./-]+", text) else dumped.strip()


class _Values(Mapping[str, str]):
    """What Helm has to fill in, by the names of the places."""

    _OWN: Final = {
        WHERE: 'namespace="{{ $.Release.Namespace }}"{{ $release }},',
        WHERE_SCALED: 'namespace="{{ $.Release.Namespace }}",',
        SCALERS: '(keda-hpa-)?{{ include "specfuse.fullname" $ }}',
        "window": "{{ .window }}",
        "longWindow": "{{ .longWindow }}",
    }

    def __getitem__(self, name: str) -> str:
        return self._OWN.get(name) or f"{{{{ .thresholds.{name} }}}}"

    def __iter__(self) -> Iterator[str]:
        return iter(self._OWN)

    def __len__(self) -> int:
        return len(self._OWN)


def _left_to_prometheus(text: str) -> str:
    return _FOR_PROMETHEUS.sub(lambda found: "{{`" + found.group() + "`}}", text)


_PLACED: Final = Placed(
    values=_Values(),
    lasting=lambda alert: f'{{{{ get $for "{alert.name}" | default "{alert.lasting}" }}}}',
    runbooks="{{ .runbooks }}",
    labels={},
    for_prometheus=_left_to_prometheus,
)
