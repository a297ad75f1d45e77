"""Whatever the values are, Helm says in words what is wrong with them: no template breaks on them.

Every key of `values.yaml` is tried, whatever keys there are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import pytest
import yaml
from jsonschema import Draft7Validator

from deploy.helm.generate import made
from deploy.helm.generate.values import Value
from tests.chart.keys import KEYS, LEAVES, SECTIONS, layer, likeliest_first, nested
from tests.chart.release import (
    BASE,
    OF_THE_SCHEMA,
    SCENARIOS,
    every_scenario,
    needs_helm,
    nulls,
    outcome,
    render,
)

TAKEN: Final = Draft7Validator(json.loads((made.CHART / "values.schema.json").read_text()))
DEFAULTS: Final = yaml.safe_load((made.CHART / "values.yaml").read_text())
EMPTY: Final = ("", [], {})
BROKEN: Final = re.compile(r"executing |error calling|YAML parse error|error converting|panic")
"""How Helm tells of a template that failed, not of values that were refused."""
NOT_SAID: Final = re.compile(r"<nil>|<no value>|%!")
"""What Go writes for what is not there."""

LIKE_YAML: Final = 'x: "y" #{z'
ANYTHING: Final = ("text", 7, True, [7], {"text": 7})


def laid_over(values: Any, change: Any) -> Any:
    """As Helm does it: of a `null` nothing is left."""
    if not isinstance(values, dict) or not isinstance(change, dict):
        return change
    laid = {key: laid_over(values.get(key), one) for key, one in change.items()}
    return {key: one for key, one in {**values, **laid}.items() if one is not None}


def is_refused(change: Mapping[str, Any]) -> bool:
    """Whether the schema refuses the chart's own values with this change."""
    return not TAKEN.is_valid(laid_over(DEFAULTS, change))


MAY_BE_NOTHING: Final = {
    name: value for name, value in LEAVES.items() if not is_refused(nested(value.path, None))
}
"""What may be `null`, and is empty then."""


def test_what_may_be_nothing_is_what_may_be_empty() -> None:
    """Sections, numbers and choices have no empty one, and of text and lists some must not be."""
    assert 50 < len(MAY_BE_NOTHING) < len(LEAVES) - 50
    assert not SECTIONS.keys() & MAY_BE_NOTHING.keys()
    for name, value in MAY_BE_NOTHING.items():
        if "null" not in value.fragment.get("type", ()):
            (empty,) = [one for one in EMPTY if type(one) is type(value.default)]
            assert not is_refused(nested(value.path, empty)), name
            assert "enum" not in value.fragment, name


@needs_helm
@pytest.mark.parametrize("name", [one for one in KEYS if one not in MAY_BE_NOTHING])
def test_nothing_in_the_place_of_what_cannot_be_empty_is_refused_by_its_name(name: str) -> None:
    said = outcome(BASE, nested(KEYS[name].path, None))
    assert OF_THE_SCHEMA in said
    above = "/".join(("", *KEYS[name].path[:-1]))
    assert re.search(rf"at '{above}': missing propert(y|ies) .*'{KEYS[name].path[-1]}'", said)


@needs_helm
@pytest.mark.parametrize("name", sorted(one for one in KEYS if one.startswith("modelDefaults.")))
def test_nothing_in_a_model_s_own_entry_is_refused_by_its_name_or_taken(name: str) -> None:
    change = {"models": {"llama": nested(KEYS[name].path[1:], None)}}
    said = outcome(BASE, change)
    assert not BROKEN.search(said)
    if OF_THE_SCHEMA in said:
        at = "/".join(KEYS[name].path[1:])
        assert re.search(f"at '/models/llama/{at}': (got null, want|value must be one of) ", said)
    else:
        assert not NOT_SAID.search(said)


def unsaid(scenario: str, values: Mapping[str, Value]) -> dict[str, Value]:
    """Those that a scenario says nothing of."""
    files = [yaml.safe_load(file.read_text()) for file in SCENARIOS[scenario]]
    return {
        name: value
        for name, value in values.items()
        if not any(says(file, value.path) for file in files)
    }


def says(values: Any, path: tuple[str, ...]) -> bool:
    if not path:
        return True
    return isinstance(values, dict) and path[0] in values and says(values[path[0]], path[1:])


def all_nothing(values: Mapping[str, Value]) -> dict[str, Any]:
    """Values that say `null` of each."""
    change: dict[str, Any] = {}
    for value in values.values():
        change = merged(change, nested(value.path, None))
    return change


def merged(one: Any, other: Any) -> Any:
    if not isinstance(one, dict) or not isinstance(other, dict):
        return other
    return {**one, **{key: merged(one.get(key), value) for key, value in other.items()}}


@needs_helm
@every_scenario
def test_nothing_is_as_good_as_what_is_empty_anyway(scenario: str) -> None:
    empty = {name: one for name, one in MAY_BE_NOTHING.items() if one.default in (*EMPTY, None)}
    change = all_nothing(unsaid(scenario, empty))
    assert outcome(*SCENARIOS[scenario], change) == outcome(*SCENARIOS[scenario])


@needs_helm
@every_scenario
def test_of_what_is_nothing_nothing_is_written(scenario: str) -> None:
    """Not even of what has a default that is not empty."""
    release = render(*SCENARIOS[scenario], all_nothing(unsaid(scenario, MAY_BE_NOTHING)))
    assert not NOT_SAID.search(release.text)
    for one in release.objects:
        assert list(nulls(one)) == [], one["metadata"]["name"]


@pytest.mark.parametrize("name", KEYS)
def test_a_value_of_another_type_is_refused_by_the_schema(name: str) -> None:
    value = KEYS[name]
    types = {type(one) for one in ANYTHING if not is_refused(nested(value.path, one))}
    assert len(types) <= 2, types
    if isinstance(value.default, (list, str)) and name != "extraObjects":
        assert types <= {type(value.default)}


TEXTS: Final = {name: one for name, one in LEAVES.items() if isinstance(one.default, str)}
NUMBERS: Final = {
    name: one
    for name, one in LEAVES.items()
    if isinstance(one.default, (int, float)) and not isinstance(one.default, bool)
}
LISTS: Final = {name: one for name, one in LEAVES.items() if isinstance(one.default, list)}


@needs_helm
@pytest.mark.parametrize("name", TEXTS)
def test_text_that_yaml_takes_for_something_else_stays_what_it_is(name: str) -> None:
    told_or_taken(LEAVES[name], LIKE_YAML)


@needs_helm
@pytest.mark.parametrize("name", TEXTS)
def test_empty_text_is_told_or_taken(name: str) -> None:
    told_or_taken(LEAVES[name], "")


@needs_helm
@pytest.mark.parametrize("name", LISTS)
def test_an_empty_list_is_told_or_taken(name: str) -> None:
    told_or_taken(LEAVES[name], [])


@needs_helm
@pytest.mark.parametrize("number", [10**6, 10**30])
@pytest.mark.parametrize("name", NUMBERS)
def test_a_huge_number_is_told_or_taken(name: str, number: int) -> None:
    said = told_or_taken(LEAVES[name], number)
    assert not re.search(r": \d[\d.]*e\+", said), "as no whole number is written"


def told_or_taken(value: Value, given: Any) -> str:
    """What comes of it, which no template has broken on."""
    scenario = likeliest_first(value)[0]
    said = outcome(*scenario, layer(value, given, scenario))
    assert not BROKEN.search(said)
    assert not NOT_SAID.search(said)
    return said
