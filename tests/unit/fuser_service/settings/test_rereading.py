"""What a fuser takes from a settings file that changed, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from fuser_service.settings.rereading import Rereading
from fuser_service.settings.settings import Settings
from specfuse.errors import Misconfigured

START: dict[str, Any] = {
    "members": {"a": {"endpoints": ["a:1"]}, "b": {"endpoints": ["b:1"]}},
    "ensembles": {"one": {"members": ["a"]}},
}


def parsed(document: dict[str, Any]) -> Settings:
    return Settings.parse(yaml.safe_dump(document), source="fuser.yaml")


class Reread:
    """Settings that are read again, and the ensembles that were taken of them."""

    def __init__(self) -> None:
        self.document = START
        self.taken: list[list[str]] = []
        self._rereading = Rereading(
            parsed(START), lambda: parsed(self.document), lambda them: self.taken.append([*them])
        )

    def after(self, **changes: Any) -> list[list[str]]:
        self.document = START | changes
        self._rereading.run()
        return self.taken


def test_ensembles_are_taken_once() -> None:
    reread = Reread()
    assert reread.after() == []
    two = {"two": {"members": ["b", "a"]}}
    assert reread.after(ensembles=two) == [["two"]]
    assert reread.after(ensembles=two) == [["two"]]
    assert reread.after() == [["two"], ["one"]]


def test_a_file_that_is_wrong_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    assert Reread().after(ensembles={"two": {"members": ["b"], "quorum": 2}}) == []
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert "fuser.yaml:5: ensembles.two.quorum: 2 is more than" in record.message


def test_a_file_that_is_gone_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    def read() -> Settings:
        raise Misconfigured("fuser.yaml: cannot be read")

    Rereading(parsed(START), read, lambda _: pytest.fail("taken")).run()
    assert "settings not taken: fuser.yaml: cannot be read" in caplog.text


def test_an_ensemble_of_a_new_member_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    members = START["members"] | {"c": {"endpoints": ["c:1"]}}
    ensembles = {"one": {"members": ["a"]}, "two": {"members": ["b", "c"]}}
    assert Reread().after(members=members, ensembles=ensembles) == []
    assert "ensembles.two.members[1]: c is new, and a restart is needed for it" in caplog.text


def test_what_needs_a_restart_is_named(caplog: pytest.LogCaptureFixture) -> None:
    members = START["members"] | {"b": {"endpoints": ["b:2"]}}
    two = {"two": {"members": ["b"]}}
    assert Reread().after(members=members, tenancy={"anonymous": "allow"}, ensembles=two) == [
        ["two"]
    ]
    assert "a restart is needed for what changed in: tenancy, members" in caplog.text
