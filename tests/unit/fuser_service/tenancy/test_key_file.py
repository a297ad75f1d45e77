"""The file of API keys: what it may hold, and how it is changed."""

from __future__ import annotations

import multiprocessing
import os
import stat
from pathlib import Path

import pytest

from fuser_service.tenancy.key_file import KeyEntry, change, read_file, read_keys
from fuser_service.tenancy.keys import digest_of, id_of, new_key
from specfuse.errors import Misconfigured

HASH = "0" * 64
ENTRY = f"{{id: sf-aaaaaaaa, sha256: '{HASH}', team: search}}"


def entry(team: str = "search") -> KeyEntry:
    key = new_key()
    return KeyEntry(id=id_of(key), sha256=digest_of(key), team=team)


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "keys.yaml"
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("keys: [", "keys.yaml:1: not YAML"),
        ("[]", "keys.yaml: must be a mapping"),
        ("key: []", "keys.yaml:1: key: unknown key; did you mean keys?"),
        (f"keys:\n- {ENTRY}\n- 7", "keys.yaml:3: keys[1]: 7: must be a mapping"),
        (f"keys:\n- {ENTRY.replace('sf-', 'sk-')}", "keys.yaml:2: keys[0].id: 'sk-aaaaaaaa'"),
        (f"keys:\n- {ENTRY.replace(HASH, 'abc')}", "keys.yaml:2: keys[0].sha256: 'abc'"),
        (
            f"keys:\n- {ENTRY[:-1]}, expires: soon}}",
            "keys.yaml:2: keys[0].expires: 'soon': must be a date, as in 2027-01-31",
        ),
        (
            f"keys:\n- {ENTRY}\n- {ENTRY}",
            (
                "keys.yaml:3: keys[1].id: is that of keys[0], too; drop one\n"
                "{file}:3: keys[1].sha256: is that of keys[0], too; drop one"
            ),
        ),
    ],
)
def test_every_problem_is_named_with_its_line(tmp_path: Path, text: str, problem: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(Misconfigured) as refused:
        read_keys(file, ["search", "batch"])
    assert problem.format(file=file) in refused.value.message


def test_keys_of_teams_that_there_are_not_are_named_and_the_others_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, good, stray = tmp_path / "keys.yaml", entry("search"), entry("serach")
    change(file, lambda _: [stray, good])
    assert read_keys(file, ["search", "batch"]) == (good.key(),)
    (said,) = caplog.messages
    assert f"{stray.id} of serach; there are: batch, search" in said
    assert good.id not in said
    assert stray.sha256 not in said


def test_a_missing_file_is_a_mistake_of_a_fuser_and_not_of_who_makes_the_first_key(
    tmp_path: Path,
) -> None:
    file = tmp_path / "keys.yaml"
    with pytest.raises(Misconfigured, match="cannot be read"):
        read_keys(file, ["search"])
    assert read_file(file).keys == ()


def test_dates_without_a_zone_are_utc(tmp_path: Path) -> None:
    for text in ("2027-01-31", "2027-01-31T00:00:00", "2027-01-31T01:00:00+01:00"):
        file = written(tmp_path, f"keys: [{ENTRY[:-1]}, expires: '{text}'}}]")
        (key,) = read_keys(file, ["search"])
        assert key.expires is not None
        assert key.expires.isoformat() in ("2027-01-31T00:00:00+00:00", "2027-01-31T01:00:00+01:00")


def test_what_is_written_is_read_again_by_nobody_else(tmp_path: Path) -> None:
    file, first, second = tmp_path / "keys.yaml", entry(), entry("batch")
    change(file, lambda entries: [*entries, first])
    change(file, lambda entries: [*entries, second])
    assert read_file(file).keys == (first, second)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    change(file, lambda entries: entries[1:])
    assert read_file(file).keys == (second,)


def test_whoever_could_read_the_file_still_can(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    change(file, lambda _: [entry()])
    file.chmod(0o640)
    group = [os.getegid(), *os.getgroups()][-1]
    os.chown(file, -1, group)
    change(file, lambda entries: [*entries, entry()])
    there = file.stat()
    assert (stat.S_IMODE(there.st_mode), there.st_gid) == (0o640, group)
    assert len(read_file(file).keys) == 2


def test_a_change_that_fails_changes_nothing_and_leaves_nothing_behind(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    change(file, lambda _: [entry()])
    before = file.read_bytes(), sorted(tmp_path.iterdir())

    def failing(entries: tuple[KeyEntry, ...]) -> list[KeyEntry]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        change(file, failing)
    assert (file.read_bytes(), sorted(tmp_path.iterdir())) == before
    written(tmp_path, "keys: broken")
    with pytest.raises(Misconfigured, match="keys: 'broken'"):
        change(file, lambda _: [])
    assert file.read_text() == "keys: broken"


def test_a_link_goes_on_to_lead_to_the_file(tmp_path: Path) -> None:
    real, link = tmp_path / "real.yaml", tmp_path / "link.yaml"
    real.write_text("keys: []")
    link.symlink_to(real)
    change(link, lambda _: [entry()])
    assert link.is_symlink()
    assert len(read_file(real).keys) == 1


def _add(file: Path) -> None:
    for _ in range(5):
        change(file, lambda entries: [*entries, entry()])


def test_changes_at_the_same_time_are_all_made(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_add, args=(file,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert len(read_file(file).keys) == 15
