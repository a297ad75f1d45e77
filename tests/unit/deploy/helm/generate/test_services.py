"""The services' settings as JSON schema of draft 7."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft7Validator

from deploy.helm.generate import services

REFERENCES = (
    "fuser#/$defs/Ensemble",
    "fuser#/$defs/Limits",
    "fuser#/$defs/Tenancy",
    "fuser#/properties/drain_seconds",
    "model#/$defs/Limits",
    "model#/$defs/TorchSection",
)


def mappings(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
    for part in schema.values() if isinstance(schema, dict) else schema:
        if isinstance(part, dict | list):
            yield from mappings(part)


@pytest.mark.parametrize("reference", REFERENCES)
def test_nothing_stands_beside_a_reference_as_draft_7_would_not_see_it(reference: str) -> None:
    for mapping in mappings(services.fragment(reference)):
        if isinstance(mapping.get("$ref"), str):
            assert mapping.keys() == {"$ref"}


@pytest.mark.parametrize("reference", REFERENCES)
def test_references_inside_are_to_the_same_service(reference: str) -> None:
    service = reference.partition("#")[0]
    for mapping in mappings(services.fragment(reference)):
        if isinstance(mapping.get("$ref"), str):
            assert mapping["$ref"].startswith(f"{service}#/$defs/")
            services.fragment(mapping["$ref"])


def test_a_key_keeps_its_prose_and_bounds() -> None:
    key = services.fragment("fuser#/$defs/Ensemble")["properties"]["max_tokens_limit"]
    assert key["type"] == "integer"
    assert (key["minimum"], key["maximum"]) == (1, 32_768)
    assert key["description"].startswith("Most that a request may ask for")


def test_what_is_in_no_service_is_not_known() -> None:
    assert services.known("fuser#/$defs/Ensemble")
    assert not services.known("#/properties/fuser")
    with pytest.raises(KeyError):
        services.fragment("model#/$defs/Ensemble")


def test_a_map_by_name_takes_names_alone() -> None:
    teams = services.fragment("fuser#/$defs/Tenancy")["properties"]["teams"]
    (pattern,) = teams["patternProperties"]
    names = Draft7Validator({**teams, "patternProperties": {pattern: True}})
    assert names.is_valid({"search": {}})
    assert not names.is_valid({"a team": {}})
