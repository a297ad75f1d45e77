"""`specfuse up` on scripted models: what it prints, how it ends, what it survives."""

from __future__ import annotations

import signal
import socket
import time
from contextlib import closing, suppress

import pytest
from openai import OpenAI

from specfuse.client import Client, Finished, Segment, Started
from specfuse.errors import QuorumLost, Unavailable
from tests.support.command import metrics_of, running, running_mesh, specfuse
from tests.support.scripted_mesh import ANSWER, NEVER, QUESTION, SLOWLY, mesh_of, write_mesh

MEMBERS = ("alpha", "beta")


@pytest.fixture
def mesh_file(tmp_path):
    # What lies beside the file must not be imported in place of what has the same name.
    (tmp_path / "yaml.py").write_text("raise ImportError")
    return write_mesh(tmp_path, mesh_of(*MEMBERS))


@pytest.fixture
def mesh(mesh_file, tmp_path):
    with running_mesh(str(mesh_file), "--log-dir", str(tmp_path / "logs")) as mesh:
        yield mesh


def begun(client: Client, question: str):
    """An answer's stream, begun: its first segment came."""
    events = client.stream(question)
    for event in events:
        if isinstance(event, Segment):
            return events, event.text
    raise AssertionError("no segment came")


def until_it_takes_no_more(client: Client) -> None:
    """Waits for the fuser to drain: it takes no more calls then."""
    with suppress(Unavailable):
        while True:
            client.ensembles(timeout=5)


def until_ready(client: Client, member: str) -> None:
    """Waits for the fuser to see that the member is back."""
    while member not in client.ensembles(timeout=5)[0].ready_members:
        time.sleep(0.05)


# --- a good life ----------------------------------------------------------------------------------


def test_a_mesh_answers_shows_its_endpoints_and_ends_in_order(mesh, tmp_path):
    done = specfuse("ask", "--address", mesh.address, QUESTION)
    assert (done.stdout, done.stderr, done.returncode) == (f"{ANSWER}\n", "", 0)

    for endpoint in (mesh.fuser, *mesh.models.values()):
        assert "specfuse_" in metrics_of(endpoint)

    base = f"http://{mesh.fuser.http_address}/v1"
    with OpenAI(base_url=base, api_key="any") as sdk:
        messages = [{"role": "user", "content": QUESTION}]
        answer = sdk.chat.completions.create(model="all", messages=messages)
    assert answer.choices[0].message.content == ANSWER

    code, stdout, stderr = mesh.up.end(signal.SIGINT)
    assert code == 0
    assert f'OpenAI(base_url="{base}")' in stdout
    for name, endpoint in {"fuser": mesh.fuser, **mesh.models}.items():
        row = next(line.split() for line in stdout.splitlines() if line.startswith(name))
        assert row == [name, endpoint.address, f"http://{endpoint.metrics_address}/metrics"]
    assert f"specfuse ask --address {mesh.address}" in stdout
    stopped = [line.split()[1] for line in stderr.splitlines() if line.endswith("stopped")]
    assert stopped == ["fuser", *MEMBERS]
    mesh.wait_until_gone()
    assert {file.name for file in (tmp_path / "logs").glob("*.log")} == {
        f"{name}.log" for name in ("fuser", *MEMBERS)
    }


def test_where_the_fuser_listens_may_be_said(mesh_file):
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with running("up", str(mesh_file), "--http-listen", address) as up:
        assert up.ready["fuser"]["http_address"] == address
    taken = specfuse("up", str(mesh_file), "--http-listen", "127.0.0.1:99999")
    assert (taken.returncode, taken.stdout) == (2, "")
    assert "--http-listen: '127.0.0.1:99999' is not host:port" in taken.stderr


def test_logs_that_nobody_asked_for_are_gone_after_a_good_end(mesh_file, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with running("up", str(mesh_file)) as up:
        assert list(tmp_path.glob("specfuse-*/alpha.log"))
        assert up.end()[0] == 0
    assert not list(tmp_path.glob("specfuse-*"))


def test_a_first_signal_lets_answers_finish(mesh):
    with Client(mesh.address) as client:
        events, text = begun(client, SLOWLY + QUESTION)
        mesh.up.process.send_signal(signal.SIGTERM)
        rest = list(events)
    assert isinstance(rest[-1], Finished)
    assert text + "".join(event.text for event in rest) == ANSWER
    assert mesh.up.wait()[0] == 0


def test_a_second_signal_does_not_wait_for_them(mesh):
    with Client(mesh.address) as client:
        events = client.stream(NEVER + QUESTION)
        assert isinstance(next(events), Started)
        mesh.up.process.send_signal(signal.SIGINT)
        until_it_takes_no_more(client)
        code, _, stderr = mesh.up.end(signal.SIGINT)
        with pytest.raises(Unavailable):
            list(events)
    assert code == 0
    assert "fuser did not end in time and was killed" in stderr
    mesh.wait_until_gone()


def test_a_killed_launcher_takes_its_services_along(mesh):
    mesh.up.process.kill()
    mesh.wait_until_gone()


# --- trouble --------------------------------------------------------------------------------------


def test_a_member_killed_in_mid_answer_degrades_it_and_is_reported(mesh):
    with Client(mesh.address) as client:
        events, text = begun(client, SLOWLY + QUESTION)
        mesh.kill("beta")
        rest = list(events)
    finished = rest[-1]
    assert isinstance(finished, Finished)
    assert text + "".join(event.text for event in rest) == ANSWER
    assert finished.degraded
    assert [departure.member for departure in finished.lost] == ["beta"]

    done = specfuse("ask", "--address", mesh.address, QUESTION)
    assert (done.stdout, done.returncode) == (f"{ANSWER}\n", 0)
    assert "degraded: lost beta (failed" in done.stderr

    code, _, stderr = mesh.up.end()
    assert code == 0
    report = stderr[stderr.index("✗ beta ended: killed by SIGKILL") :]
    assert "beta.log" in report.splitlines()[0]
    assert "serving specfuse.v1.ModelService" in report


def test_all_members_killed_leave_an_answer_that_can_be_resumed(mesh, tmp_path):
    with Client(mesh.address) as client:
        events, text = begun(client, SLOWLY + QUESTION)
        mesh.kill(*MEMBERS)
        with pytest.raises(QuorumLost) as caught:
            list(events)
        stands = caught.value.resume
        assert stands is not None
        assert "".join(stands.committed_segments).startswith(text)
        assert ANSWER.startswith(stands.text)
        assert 0 < len(stands.text) < len(ANSWER)

        settings, at = tmp_path / "logs" / "alpha.yaml", mesh.models["alpha"].address
        with running("model", "serve", str(settings), "--listen", at):
            until_ready(client, "alpha")
            answer = client.generate(SLOWLY + QUESTION, resume=stands, timeout=30)
        assert answer.text == ANSWER
        assert [departure.member for departure in answer.lost] == ["beta"]


def test_the_mesh_ends_with_its_fuser(mesh):
    mesh.kill("fuser")
    code, _, stderr = mesh.up.wait()
    assert code == 1
    assert "✗ fuser ended: killed by SIGKILL" in stderr
    assert stderr.splitlines()[-1] == "specfuse: the fuser ended, and with it the mesh"
    mesh.wait_until_gone()


def test_a_model_that_cannot_be_loaded_is_named_and_nothing_stays_behind(tmp_path):
    mesh = mesh_of("alpha", "beta")
    mesh["models"]["beta"] = {"torch": {"model": str(tmp_path / "nowhere"), "threads": 1}}
    done = specfuse("up", str(write_mesh(tmp_path, mesh)), TMPDIR=str(tmp_path))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("specfuse: beta: ")
    assert str(tmp_path / "nowhere") in last
    assert "✓ alpha stopped" in done.stderr
    assert list(tmp_path.glob("specfuse-*/beta.log"))  # kept, since somebody will want it


def test_a_port_in_use_is_named_before_anything_starts(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        mesh = write_mesh(tmp_path, mesh_of("alpha"))
        done = specfuse("up", str(mesh), "--listen", address, TMPDIR=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.startswith(f"specfuse: --listen: cannot bind {address}")
    assert "✓" not in done.stderr


def test_a_program_that_is_not_there_is_named_before_anything_starts(tmp_path):
    mesh = mesh_of("alpha")
    command = {"command": "no-such-server --port {port}", "llama_cpp": {"tokenizer": "x"}}
    mesh["models"]["beta"] = {"backend": "llama_cpp"} | command
    done = specfuse("up", str(write_mesh(tmp_path, mesh)), TMPDIR=str(tmp_path))
    assert done.returncode == 2
    problem = "specfuse: models.beta.command: there is no program no-such-server here; install it"
    assert done.stderr.startswith(problem)
    assert "✓" not in done.stderr


def test_a_wrong_file_starts_nothing(tmp_path):
    mesh = mesh_of("alpha")
    mesh["models"]["alpha"]["listn"] = "127.0.0.1:0"
    mesh["fuser"]["ensembles"]["all"]["members"] = ["alpha", "beta"]
    file = write_mesh(tmp_path, mesh)
    done = specfuse("up", str(file))
    assert (done.returncode, done.stdout) == (2, "")
    assert "models.alpha.listn: unknown key; did you mean listen?" in done.stderr
    assert "✓" not in done.stderr


def test_a_log_directory_that_cannot_be_made_is_named(mesh_file):
    done = specfuse("up", str(mesh_file), "--log-dir", f"{mesh_file}/logs")
    assert done.returncode == 2
    assert done.stderr.startswith(f"specfuse: --log-dir {mesh_file}/logs: cannot be made")
