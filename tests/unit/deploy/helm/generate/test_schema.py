"""The schema that follows from documented values."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft7Validator

from deploy.helm.generate.schema import schema
from deploy.helm.generate.values import Faults, parse


def schema_of(document: str) -> dict[str, Any]:
    made = schema(parse(document, "values.yaml"))
    Draft7Validator.check_schema(made)
    return made


def takes(document: str, values: object) -> bool:
    return bool(Draft7Validator(schema_of(document)).is_valid(values))


@pytest.mark.parametrize(
    ("default", "right", "wrong"),
    [
        ("true", False, "false"),
        ("1", 2, "2"),
        ("0.5", 1, "1"),
        ("text", "", 1),
        ("[]", ["a"], {}),
        ("{}", {"a": 1}, []),
    ],
)
def test_a_value_has_the_type_of_its_default(default: str, right: object, wrong: object) -> None:
    document = f"# Said.\na: {default}\n"
    assert takes(document, {"a": right})
    assert not takes(document, {"a": wrong})


def test_a_default_of_nothing_says_no_type() -> None:
    for value in (None, 1, "text", {}):
        assert takes("# Said.\na: null\n", {"a": value})


def test_a_fragment_is_laid_over_what_the_default_says() -> None:
    document = "# Said.\n# @schema {minimum: 1}\na: 2\n# Said.\n# @schema {enum: [x, 1]}\nb: x\n"
    assert takes(document, {"a": 1, "b": 1})
    assert not takes(document, {"a": 0, "b": 1})
    assert not takes(document, {"a": "1", "b": 1})
    assert not takes(document, {"a": 1, "b": "y"})


def test_a_section_that_nothing_is_left_of_is_refused() -> None:
    """Of an empty `a:` Helm leaves nothing, and not its defaults."""
    document = '# Said.\na:\n  # Said.\n  b:\n    # Said.\n    c: ""\n  # Said.\n  d: ""\n'
    assert takes(document, {"a": {"b": {}}})
    assert not takes(document, {"a": {"d": "x"}})
    assert not takes(document, {})


@pytest.mark.parametrize(
    "value",
    [
        "a: text",
        'a: ""',
        "a: [1]",
        "a: {b: c}",
        "# @schema {type: [integer, 'null']}\na: null",
        '# @schema {pattern: "^(x.*)?$"}\na: xy',
        '# @schema {$ref: "model#/$defs/TorchSection?"}\na: {}',
    ],
)
def test_what_may_be_empty_may_be_missing(value: str) -> None:
    assert takes(f"# Said.\n{value}\n", {})


@pytest.mark.parametrize(
    "value",
    [
        "a: true",
        "a: 1",
        "a: 0.5",
        "# @schema {enum: [x, y]}\na: x",
        "# @schema {minLength: 1}\na: x",
        "# @schema {items: {type: string}, minItems: 1}\na: [x]",
        '# @schema {type: [integer, string], pattern: "^[1-9]+%$"}\na: 1',
    ],
)
def test_what_cannot_be_empty_cannot_be_missing(value: str) -> None:
    assert not takes(f"# Said.\n{value}\n", {})


def test_what_has_the_schema_of_another_key_need_not_say_everything() -> None:
    document = """\
# Said.
# @schema {additionalProperties: {$ref: "#/properties/defaults"}}
entries: {}
# Said.
defaults:
  # Said.
  a:
    # Said.
    b: 1
"""
    assert takes(document, {"entries": {"one": {"a": {}}}, "defaults": {"a": {"b": 2}}})
    assert not takes(document, {"entries": {"one": {}}, "defaults": {"a": {}}})
    assert not takes(document, {"entries": {"one": {}}})


def test_unknown_keys_are_refused_but_in_maps_of_any_keys() -> None:
    document = "# Said.\na:\n  # Said.\n  b: 1\n# Said.\nfree: {}\n"
    assert takes(document, {"a": {"b": 2}, "free": {"any": {"thing": 1}}})
    assert not takes(document, {"a": {"b": 2, "c": 2}})
    assert not takes(document, {"a": {"b": 2}, "c": 2})


def test_what_helm_hands_down_from_a_parent_chart_is_taken() -> None:
    assert takes('# Said.\na: ""\n', {"global": {"any": 1}, "enabled": True})


def test_an_ensemble_is_what_the_fuser_takes() -> None:
    document = """\
# Said.
# @schema {additionalProperties: {$ref: "fuser#/$defs/Ensemble"}}
ensembles: {}
"""
    assert takes(document, {"ensembles": {"all": {"members": ["a"], "exit": {"tau0": 0.2}}}})
    assert not takes(document, {"ensembles": {"all": {"members": ["a"], "exit": {"tau": 0.2}}}})
    assert not takes(document, {"ensembles": {"all": {"members": ["not a name"]}}})
    assert not takes(document, {"ensembles": {"all": {}}})
    assert {"fuser.Ensemble", "fuser.Exit", "fuser.Sampling"} <= schema_of(document)[
        "definitions"
    ].keys()


def test_a_reference_beside_a_default_counts() -> None:
    document = '# Said.\n# @schema {$ref: "model#/$defs/TorchSection?"}\ntorch: {}\n'
    assert takes(document, {"torch": {}})
    assert not takes(document, {"torch": {"modle": "x"}})


def test_only_a_question_mark_makes_required_keys_optional() -> None:
    document = '# Said.\n# @schema {$ref: "model#/$defs/TorchSection"}\ntorch: {}\n'
    assert not takes(document, {"torch": {}})


def test_a_value_may_be_like_another() -> None:
    document = """\
# Said.
defaults:
  # Said.
  a: 1
# Said.
# @schema {additionalProperties: {$ref: "#/properties/defaults"}}
entries: {}
"""
    assert takes(document, {"defaults": {"a": 1}, "entries": {"x": {"a": 2}}})
    assert not takes(document, {"defaults": {"a": 1}, "entries": {"x": {"b": 2}}})


def test_a_reference_to_nothing_is_named() -> None:
    with pytest.raises(Faults, match=r"fuser#/\$defs/Nothing: there is no such thing"):
        schema_of('# Said.\n# @schema {$ref: "fuser#/$defs/Nothing"}\na: {}\n')
