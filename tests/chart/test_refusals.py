"""Wrong values are refused before anything reaches a cluster, with what would be right."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import pytest
import yaml

from deploy.helm.generate import made
from tests.chart.release import BASE, HERE, OF_THE_SCHEMA, needs_helm, outcome, render

REFUSALS: Final[list[dict[str, Any]]] = yaml.safe_load((HERE / "refusals.yaml").read_text())
VALIDATIONS: Final = made.CHART / "templates" / "_validations.tpl"
TEXT: Final = re.compile(r"(?:^|}})([^{}]+)(?={{|$)")

pytestmark = needs_helm


def refused(refusal: dict[str, Any]) -> str:
    version = refusal.get("kubernetes")
    more = () if version is None else (f"--kube-version={version}",)
    return outcome(BASE, refusal["values"], more=more)


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal["says"].split(" ")[0])
def test_wrong_values_are_refused_with_the_remedy(refusal: dict[str, Any]) -> None:
    of_the_schema = refusal["says"].startswith("at '")
    said = refused(refusal)
    assert refusal["says"] in said
    assert (OF_THE_SCHEMA in said) is of_the_schema


def test_all_that_is_wrong_is_told_at_once() -> None:
    said = outcome(BASE, {"tls": {"mesh": {"enabled": True}}, "tests": {"ensemble": "chat"}})
    assert "- tls.mesh: " in said
    assert "- tests.ensemble: " in said


ASKED_FOR: Final[dict[str, Any]] = {
    "tls": {
        "callers": {
            "enabled": True,
            "existingSecret": "public",
            "clientCa": {"existingSecret": "callers"},
        }
    },
    "tests": {"enabled": False},
}
PASSED_ON: Final = {"nginx.ingress.kubernetes.io/ssl-passthrough": "true"}
INGRESS: Final = {"enabled": True, "hosts": ["ask.example"]}
OPEN: Final = {"anonymous": "allow"}


@pytest.mark.parametrize(
    "fuser",
    [
        {"tenancy": OPEN, "service": {"type": "LoadBalancer"}},
        {"tenancy": OPEN, "ingress": {**INGRESS, "annotations": PASSED_ON}},
        {"httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]}},
        {"ingress": INGRESS},
    ],
    ids=["certificates alone", "shown through the way in", "keys by a route", "keys by an ingress"],
)
def test_client_certificates_are_taken_where_they_or_keys_reach_the_fuser(fuser: Any) -> None:
    assert render(BASE, ASKED_FOR, {"fuser": fuser}).objects


def test_every_refusal_that_the_chart_has_is_tried() -> None:
    told = "\n".join(refused(refusal) for refusal in REFUSALS)
    assert [text for text in refusals_of_the_chart() if text not in told] == []


def refusals_of_the_chart() -> Iterator[str]:
    """Of each line that the validations may write, the longest text that is always in it."""
    for line in VALIDATIONS.read_text().splitlines():
        if re.match(r"{{-? ?/\*|\s", line):
            continue
        text = max(TEXT.findall(line), key=len, default="")
        if "; " in line or len(text) > 30:
            yield text
