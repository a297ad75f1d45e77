"""What Helm says once the release is there: who may ask."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deploy.helm.generate import helm, made
from tests.chart.release import BASE, needs_helm

pytestmark = needs_helm

CERTIFICATES = {
    "tls": {
        "callers": {
            "enabled": True,
            "existingSecret": "public",
            "clientCa": {"existingSecret": "callers"},
        }
    },
    "tests": {"clientCertificate": "tester"},
}
OPEN = {"tenancy": {"anonymous": "allow"}}

EVERYBODY = "Everybody may ask whom the network lets through"
HOLDERS = "Whoever has a certificate of the authority in tls.callers.clientCa may ask"
NOBODY = "NOBODY MAY ASK YET, as there is no key."


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, NOBODY),
        ({"fuser": {"tenancy": None}}, NOBODY),
        (CERTIFICATES, NOBODY),
        ({"fuser": {"keys": {"existingSecret": "keys"}}}, None),
        ({"fuser": OPEN}, EVERYBODY),
        ({"fuser": {**OPEN, "keys": {"existingSecret": "keys"}}}, EVERYBODY),
        ({"fuser": OPEN, **CERTIFICATES}, HOLDERS),
    ],
)
def test_it_is_said_who_may_ask(values: dict[str, Any], said: str | None, tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(json.dumps(values))
    chart = str(made.CHART)
    notes = helm.run("install", "a", chart, "--dry-run=client", f"-f={BASE}", f"-f={file}")
    assert [one for one in (EVERYBODY, HOLDERS, NOBODY) if one in notes] == ([said] if said else [])
