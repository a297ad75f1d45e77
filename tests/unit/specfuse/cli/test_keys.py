"""`specfuse keys`: a key is shown once, and only its hash is kept."""

from __future__ import annotations

import json
import stat
from datetime import UTC, datetime, timedelta

import pytest

from fuser_service.tenancy.key_file import read_file
from fuser_service.tenancy.keys import digest_of, id_of, is_key
from specfuse.cli.app import main


@pytest.fixture
def file(tmp_path):
    return tmp_path / "keys.yaml"


def made(capsys, file, *more, team="search"):
    assert main(["keys", "new", "--file", str(file), "--team", team, *more]) == 0
    return capsys.readouterr().out.removesuffix("\n")


def test_a_new_key_is_shown_and_its_hash_is_kept(capsys, file):
    key = made(capsys, file)
    other = made(capsys, file, team="batch")
    assert is_key(key)
    assert [(entry.id, entry.sha256, entry.team) for entry in read_file(file).keys] == [
        (id_of(key), digest_of(key), "search"),
        (id_of(other), digest_of(other), "batch"),
    ]
    assert key not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("expires", "seconds"),
    [("90d", 90 * 86_400), ("9999-12-31", None), ("9999-12-31T12:00:00+02:00", None)],
)
def test_a_key_may_end(capsys, file, expires, seconds):
    made(capsys, file, "--expires", expires)
    (entry,) = read_file(file).keys
    if seconds is None:
        assert entry.expires.year == 9999
    else:
        left = entry.expires - datetime.now(UTC)
        assert timedelta(seconds=seconds - 60) < left <= timedelta(seconds=seconds)


def test_the_list_has_what_may_be_shown(capsys, file):
    key = made(capsys, file, "--expires", "1d")
    assert main(["keys", "list", "--file", str(file)]) == 0
    shown = capsys.readouterr().out
    assert id_of(key) in shown
    assert "search" in shown
    assert main(["keys", "list", "--file", str(file), "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed.keys() == {"id", "team", "created", "expires"}
    for text in (shown, json.dumps(listed)):
        assert key not in text
        assert digest_of(key) not in text


def test_a_key_that_is_revoked_is_gone(capsys, file):
    first, second = made(capsys, file), made(capsys, file)
    assert main(["keys", "revoke", "--file", str(file), id_of(first)]) == 0
    assert [entry.id for entry in read_file(file).keys] == [id_of(second)]
    assert main(["keys", "revoke", "--file", str(file), first]) == 2
    said = capsys.readouterr().err
    assert f"there is no key {id_of(first)}" in said
    assert first not in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["new", "--team", "a b"], "--team: 'a b' is no name"),
        (["new", "--team", "x", "--expires", "soon"], "--expires: 'soon': must be a date"),
        (["new", "--team", "x", "--expires", "2020-01-01"], "--expires: 2020-01-01 has passed"),
        (["new", "--team", "x", "--expires", "0d"], "--expires: 0d has passed"),
        (["new", "--team", "x", "--expires", "99999999d"], "--expires: '99999999d'"),
        (["list"], "--file: there is no"),
        (["revoke", "sf-aaaaaaaa"], "--file: there is no"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(capsys, file, arguments, says):
    assert main(["keys", *arguments, "--file", str(file)]) == 2
    written = capsys.readouterr()
    assert says in written.err
    assert written.out == ""
    assert not file.exists()


def test_a_file_that_is_wrong_stays_as_it_is(capsys, file):
    file.write_text("keys:\n- id: 7\n")
    for command in (["new", "--team", "x"], ["list"], ["revoke", "sf-aaaaaaaa"]):
        assert main(["keys", *command, "--file", str(file)]) == 2
        assert f"{file}:2: keys[0].id: 7: must be" in capsys.readouterr().err
    assert file.read_text() == "keys:\n- id: 7\n"


def test_a_file_that_cannot_be_written_is_named(capsys, tmp_path):
    file = tmp_path / "missing" / "keys.yaml"
    assert main(["keys", "new", "--file", str(file), "--team", "x"]) == 2
    assert f"{file}: cannot be written: No such file" in capsys.readouterr().err
