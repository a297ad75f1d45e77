"""`specfuse ask` against a mesh: what it prints, and how it refuses what cannot be asked."""

from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import time

import pytest

from specfuse.cli.app import main
from tests.support.command import COMMAND, metrics_of, running_mesh
from tests.support.scripted_mesh import (
    ANSWER,
    NEVER,
    QUESTION,
    SLOWLY,
    mesh_of,
    scripted,
    write_mesh,
)

MEMBERS = ["alpha", "beta"]


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    file = mesh_of(*MEMBERS)
    file["fuser"]["ensembles"]["one"] = {"members": ["beta"], "max_tokens_limit": 600}
    file["models"]["gamma"] = scripted(context_window=12)
    file["fuser"]["ensembles"]["short"] = {"members": ["gamma"]}
    file["fuser"]["limits"] = {"prompt_bytes": 2000}
    with running_mesh(str(write_mesh(tmp_path_factory.mktemp("ask"), file))) as mesh:
        yield mesh


@pytest.fixture
def ask(mesh, capsys):
    """Asks in this process; returns exit code, stdout and stderr."""

    def ask(*arguments: str) -> tuple[int, str, str]:
        code = main(["ask", "--address", mesh.address, *arguments])
        written = capsys.readouterr()
        return code, written.out, written.err

    return ask


@pytest.fixture
def stdin(monkeypatch):
    """Sets what standard input holds."""

    def hold(content: bytes) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))

    return hold


# --- answers --------------------------------------------------------------------------------------


def test_the_answer_and_nothing_else_goes_to_stdout(ask):
    assert ask("--ensemble", "all", QUESTION) == (0, f"{ANSWER}\n", "")


def test_a_dash_reads_the_question_from_stdin(ask, stdin):
    stdin(f"{QUESTION}\n".encode())
    assert ask("--ensemble", "one", "-") == (0, f"{ANSWER}\n", "")


def test_the_address_may_come_from_the_environment(mesh, monkeypatch, capsys):
    monkeypatch.setenv("SPECFUSE_ADDRESS", mesh.address)
    assert main(["ask", "--ensemble", "one", QUESTION]) == 0
    assert capsys.readouterr().out == f"{ANSWER}\n"


def test_options_reach_the_ensemble(ask):
    assert ask("--ensemble", "all", "--max-tokens", "4", QUESTION)[1] == "In France, Paris is\n"
    assert ask("--ensemble", "all", "--stop", " Adding", "--stop", "!", QUESTION)[1] == (
        "In France, Paris is the capital city.\n"
    )
    code, out, _ = ask("--ensemble", "all", "--segment-tokens", "2", "--json", QUESTION)
    assert (code, json.loads(out)["rounds"][0]["text"]) == (0, "In France,")


def test_json_is_one_object_that_adds_up(ask):
    code, out, err = ask("--ensemble", "all", "--json", "--stop", "House", QUESTION)
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert report["text"] == ANSWER[: ANSWER.index("House")]
    assert report["members"] == MEMBERS
    assert report["finish_reason"] == "stop"
    assert report["lost"] == []
    assert "".join(each["text"] for each in report["rounds"]) == report["text"]
    assert report["calls_made"] + report["calls_avoided"] == 2 * 2 * len(report["rounds"])
    for each in report["rounds"]:
        assert set(each) == {
            "text", "winner", "shares", "active", "watched", "objected", "milliseconds"
        }  # fmt: skip
        assert sum(each["shares"].values()) == pytest.approx(1)
        assert each["winner"] == max(each["shares"], key=each["shares"].get)
        assert sorted(each["active"] + each["watched"]) == MEMBERS
        assert each["milliseconds"] > 0


def test_the_trace_shows_rounds_proposers_shares_and_what_it_all_took(ask):
    code, out, err = ask("--ensemble", "all", "--trace", QUESTION)
    assert (code, err) == (0, "")
    assert out.startswith("all: alpha, beta\n")
    assert "● alpha, beta  1.00  In France, Paris is" in out
    assert f"\n{ANSWER}\n" in out
    assert "calls made" in out.splitlines()[-1]


# --- refusals -------------------------------------------------------------------------------------

LONG = "long " * 500


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([QUESTION], "ensemble: is empty; name one of: all, one, short"),
        (["--ensemble", "nobody", QUESTION], "nobody"),
        (["--ensemble", "all", ""], "messages[0].content: is empty"),
        (["--ensemble", "all", LONG], "2000"),
        (["--ensemble", "all", "--max-tokens", "0", QUESTION], "max_tokens"),
        (["--ensemble", "one", "--max-tokens", "601", QUESTION], "600"),
        (["--ensemble", "all", "--max-tokens", "-1", QUESTION], "max_tokens"),
        (["--ensemble", "all", "--temperature", "9", QUESTION], "temperature"),
        (["--ensemble", "all", "--top-p", "0.5", QUESTION], "top_p"),
        (["--ensemble", "all", "--stop", "", QUESTION], "stop[0]"),
        (["--ensemble", "all", "--segment-tokens", "1000", QUESTION], "segment_tokens"),
        (["--ensemble", "all", "--exit-policy", "none", "--recall", QUESTION], "recall"),
        (["--ensemble", "all", "--trace", "--json", QUESTION], "--trace: --json"),
        (["--ensemble", "all", b"caf\xe9".decode(errors="surrogateescape")], "QUESTION: not UTF-8"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line_that_names_it(ask, arguments, says):
    code, out, err = ask(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("specfuse: ")
    assert says in err
    assert err.count("\n") == 1
    assert "long long" not in err


def test_a_prompt_beyond_the_models_window_is_refused(ask):
    code, out, err = ask("--ensemble", "short", QUESTION * 3)
    assert (code, out) == (2, "")
    assert "context" in err
    assert "window of 12" in err


def test_stdin_that_is_not_utf8_is_refused(ask, stdin):
    stdin(b"caf\xe9")
    assert ask("--ensemble", "all", "-") == (2, "", "specfuse: QUESTION: not UTF-8 at byte 3\n")


def test_nobody_at_the_address_is_said_so(capsys):
    assert main(["ask", "--address", "127.0.0.1:1", QUESTION]) == 1
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.startswith("specfuse: ")
    assert "127.0.0.1:1" in written.err
    assert written.err.count("\n") == 1


def test_time_that_is_up_is_said_so(ask):
    code, out, err = ask("--ensemble", "all", "--timeout", "0.3", NEVER + QUESTION)
    assert (code, out) == (1, "")
    assert re.fullmatch(r"specfuse: .+ \(request [0-9a-f]{32}\)\n", err)


def test_an_interrupted_question_frees_its_work_and_harms_no_other(mesh, ask):
    trace = ["ask", "--address", mesh.address, "--ensemble", "all", "--trace"]
    with subprocess.Popen(
        [*COMMAND, *trace, NEVER + QUESTION], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as asking:
        assert asking.stdout is not None
        assert asking.stdout.readline() == b"all: alpha, beta\n", "it waits for the first round"
        until_running(mesh, 1)
        asking.send_signal(signal.SIGINT)
        out, err = asking.communicate(timeout=20)
    assert (asking.returncode, out) == (130, b"")
    assert re.fullmatch(rb"specfuse: interrupted \(request [0-9a-f]{32}\)\n", err)
    until_running(mesh, 0)
    assert ask("--ensemble", "all", QUESTION) == (0, f"{ANSWER}\n", "")


def test_a_reader_that_had_enough_ends_the_answer_without_complaint(mesh):
    with subprocess.Popen(
        [*COMMAND, "ask", "--address", mesh.address, "--ensemble", "all", SLOWLY + QUESTION],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as asking:
        assert asking.stdout is not None
        assert asking.stdout.read(4) == b"In F"
        asking.stdout.close()
        _, err = asking.communicate(timeout=20)
    assert (asking.returncode, err) == (1, b"")


def until_running(mesh, calls: int) -> None:
    """Waits until the member alpha works on so many calls."""
    expected = f'specfuse_model_requests_running{{model_name="alpha"}} {calls}.0'
    deadline = time.monotonic() + 20
    while expected not in metrics_of(mesh.models["alpha"]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
