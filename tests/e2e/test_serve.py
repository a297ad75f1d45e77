"""`specfuse model serve` and `specfuse fuser serve`: from a file to SIGTERM."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import grpc
import openai
import pytest
import yaml
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from openai import OpenAI

from specfuse.cli.app import main
from specfuse.client import Client, Finished
from specfuse.localmesh import ServiceAddresses
from specfuse.v1 import model_service_pb2 as pb
from specfuse.v1.model_service_pb2_grpc import ModelServiceStub
from tests.support.certificates import OPENSSL, Authority, Mounted
from tests.support.command import (
    COMMAND,
    PATIENCE_SECONDS,
    Running,
    metrics_of,
    running,
    specfuse,
)
from tests.support.scripted_mesh import ANSWER, NEVER, QUESTION, SLOWLY, scripted

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
FREE = {"listen": "127.0.0.1:0", "metrics_listen": "127.0.0.1:0"}


@pytest.fixture
def model_file(tmp_path):
    file = tmp_path / "model.yaml"
    file.write_text(yaml.safe_dump(FREE | {"name": "alpha"} | scripted()))
    return file


@pytest.fixture
def fuser_file(tmp_path):
    """Writes the file of a fuser whose one member is at this address."""

    def write(member: str):
        file = tmp_path / "fuser.yaml"
        members = {"alpha": {"endpoints": [member]}}
        ensembles = {"one": {"members": ["alpha"], "segment_tokens": 4}}
        file.write_text(yaml.safe_dump(FREE | {"members": members, "ensembles": ensembles}))
        return file

    return write


def test_both_services_serve_drain_on_sigterm_and_end_with_code_0(model_file, fuser_file):
    with running("model", "serve", str(model_file)) as model:
        at = ServiceAddresses(**model.ready)
        assert 'model_name="alpha"' in metrics_of(at)
        with (
            running("fuser", "serve", str(fuser_file(at.address))) as fuser,
            Client(str(fuser.ready["address"])) as client,
        ):
            events = client.stream(SLOWLY + QUESTION)
            first = [next(events), next(events)]
            fuser.process.send_signal(signal.SIGTERM)
            rest = list(events)
            assert isinstance(rest[-1], Finished)
            assert "".join(event.text for event in (*first[1:], *rest)) == ANSWER
            assert fuser.wait()[0] == 0
        assert model.end(signal.SIGINT)[0] == 0


def test_streams_over_http_finish_on_sigterm_and_a_second_one_ends_them_at_once(
    model_file, fuser_file
):
    with running("model", "serve", str(model_file)) as model:
        file = fuser_file(ServiceAddresses(**model.ready).address)
        document = yaml.safe_load(file.read_text())
        file.write_text(yaml.safe_dump(document | {"http": {"listen": "127.0.0.1:0"}}))
        with running("fuser", "serve", str(file)) as fuser, sdk_of(fuser) as sdk:
            stream = streamed(sdk, SLOWLY + QUESTION)
            first = next(stream)
            fuser.process.send_signal(signal.SIGTERM)
            assert "".join([first, *stream]) == ANSWER
            assert fuser.wait()[0] == 0
        with running("fuser", "serve", str(file)) as fuser, sdk_of(fuser) as sdk:
            stream = streamed(sdk, SLOWLY + QUESTION)
            told = next(stream)
            fuser.process.send_signal(signal.SIGTERM)
            told += next(stream)
            fuser.process.send_signal(signal.SIGTERM)
            with pytest.raises(openai.APIError, match="the service shuts down") as caught:
                told += "".join(stream)
            assert fuser.wait()[0] == 0
        with running("fuser", "serve", str(file)) as fuser, sdk_of(fuser) as sdk:
            going_on = {"specfuse": caught.value.body["specfuse"]}
            rest = "".join(streamed(sdk, SLOWLY + QUESTION, extra_body=going_on))
            assert told + rest == ANSWER


@pytest.fixture
def lingering(tmp_path):
    """Writes the file of a model that lingers, and drains, for so long."""

    def write(linger_seconds: float, drain_seconds: float = 3600.0):
        file = tmp_path / "lingering.yaml"
        ending = {"linger_seconds": linger_seconds, "drain_seconds": drain_seconds}
        file.write_text(yaml.safe_dump(FREE | {"name": "alpha"} | ending | scripted()))
        return str(file)

    return write


def test_a_model_serves_on_as_before_while_it_lingers_and_a_second_signal_has_it_drain(lingering):
    with (
        running("model", "serve", lingering(3600.0)) as model,
        grpc.insecure_channel(str(model.ready["address"])) as channel,
    ):
        stub, watch = ModelServiceStub(channel), health_watch(channel)
        assert next(watch) == SERVING
        held = stub.ProposeSegment.future(proposing(NEVER))
        model.process.send_signal(signal.SIGTERM)
        wait_for_line(model, "serving on for up to 3600 s")
        assert stub.ProposeSegment(proposing(QUESTION)).segment.text
        assert not held.done()

        model.process.send_signal(signal.SIGTERM)
        assert next(watch) == NOT_SERVING, "nobody heard so while it lingered"
        wait_for_line(model, "calls in flight")
        model.process.send_signal(signal.SIGTERM)
        assert model.wait()[0] == 0
        assert held.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("busy", [False, True])
def test_lingering_ends_when_nobody_calls_or_after_its_seconds(lingering, busy):
    file = lingering(0.2, drain_seconds=0.1) if busy else lingering(3600.0)
    with (
        running("model", "serve", file) as model,
        grpc.insecure_channel(str(model.ready["address"])) as channel,
    ):
        stub = ModelServiceStub(channel)
        assert stub.ProposeSegment(proposing(QUESTION)).segment.text
        held = stub.ProposeSegment.future(proposing(NEVER)) if busy else None
        assert model.end()[0] == 0
        assert held is None or held.code() is grpc.StatusCode.UNAVAILABLE


def proposing(prompt: str) -> pb.ProposeSegmentRequest:
    return pb.ProposeSegmentRequest(context=pb.Context(raw_prompt=prompt), max_tokens=4)


def health_watch(channel: grpc.Channel) -> Iterator[int]:
    """What the process says of itself, from now on."""
    for said in HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=60):
        yield said.status


def wait_for_line(service: Running, text: str) -> None:
    """Returns when the service has logged a line with the text."""
    assert service.process.stderr is not None
    assert any(text in line for line in iter(service.process.stderr.readline, ""))


def sdk_of(fuser) -> OpenAI:
    """The SDK, which asks once."""
    base = f"http://{fuser.ready['http_address']}/v1"
    return OpenAI(base_url=base, api_key="k", max_retries=0)


def streamed(sdk: OpenAI, question: str, **more: object):
    """The texts of a stream."""
    messages = [{"role": "user", "content": question}]
    for chunk in sdk.chat.completions.create(model="one", messages=messages, stream=True, **more):
        yield chunk.choices[0].delta.content or ""


def test_an_answer_outlives_the_fuser_that_began_it(model_file, fuser_file):
    with running("model", "serve", str(model_file)) as model:
        file = str(fuser_file(ServiceAddresses(**model.ready).address))
        with running("fuser", "serve", file) as one, running("fuser", "serve", file) as other:
            addresses = f"{one.ready['address']},{other.ready['address']}"
            with subprocess.Popen(
                [*COMMAND, "ask", "--address", addresses, "--timeout", "60", SLOWLY + QUESTION],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
            ) as asking:
                assert asking.stdout is not None
                begun = asking.stdout.read(4)
                one.process.kill()
                rest, err = asking.communicate(timeout=60)
    assert (begun + rest).decode() == f"{ANSWER}\n"
    assert asking.returncode == 0
    resumed, requests = err.decode().splitlines()
    assert resumed == "specfuse: resumed after 1 interruption"
    assert re.fullmatch("specfuse: requests [0-9a-f]{32}, [0-9a-f]{32}", requests)


def test_a_service_whose_launcher_is_gone_already_does_not_live(model_file):
    """Its parent is another than the one it is to die with."""
    command = [*COMMAND, "model", "serve", str(model_file), "--die-with"]
    with subprocess.Popen([*command, str(os.getppid())], stderr=subprocess.DEVNULL) as service:
        assert service.wait(30) == -signal.SIGKILL


def test_a_full_disk_under_its_log_does_not_disturb_a_service(model_file, fuser_file):
    """Not while it starts, serves or ends."""
    with open("/dev/full", "wb") as full:  # noqa: PTH123 (a device)
        with running("model", "serve", str(model_file), stderr=full) as model:
            file = str(fuser_file(str(model.ready["address"])))
            with running("fuser", "serve", file, stderr=full) as fuser:
                with Client(str(fuser.ready["address"])) as client:
                    assert client.generate(QUESTION).text == ANSWER
                assert fuser.end()[0] == 0
            assert model.end()[0] == 0
        wrong = subprocess.run(
            [*COMMAND, "model", "serve", "nowhere.yaml"], stderr=full, timeout=60, check=False
        )
        assert wrong.returncode == 2


def test_a_service_takes_as_many_descriptors_as_it_may_and_says_if_they_are_few(fuser_file):
    file = str(fuser_file("127.0.0.1:1"))
    few = ("prlimit", "--nofile=100:300")
    with running("fuser", "serve", file, prefix=few) as fuser:
        assert resource.prlimit(fuser.pid, resource.RLIMIT_NOFILE) == (300, 300)
        _, _, log = fuser.end()
    (line,) = (line for line in log.splitlines() if "files can be open" in line)
    assert "at most 300 files can be open, but 1024 connections of callers and 1 to members" in line
    with running("fuser", "serve", file, prefix=("prlimit", "--nofile=100:4000")) as fuser:
        assert resource.prlimit(fuser.pid, resource.RLIMIT_NOFILE) == (4000, 4000)
        assert "files can be open" not in fuser.end()[2]


def test_listen_options_replace_what_the_file_says(model_file):
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    with running("model", "serve", str(model_file), "--listen", f"127.0.0.1:{port}") as model:
        assert model.ready["address"] == f"127.0.0.1:{port}"


@pytest.mark.parametrize("setting", ["listen", "metrics_listen"])
def test_a_port_in_use_is_named_with_its_setting(model_file, capsys, setting):
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        option = f"--{setting.replace('_', '-')}"
        assert main(["model", "serve", str(model_file), option, address]) == 2
    error = capsys.readouterr().err
    assert f"specfuse: {setting}: cannot bind {address}" in error
    assert "Traceback" not in error


def test_a_port_in_use_is_found_out_before_the_model_is_loaded(tmp_path, capsys):
    file = tmp_path / "model.yaml"
    file.write_text(f"name: a\nmetrics_listen: 127.0.0.1:0\ntorch: {{model: {tmp_path}/nowhere}}")
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        assert main(["model", "serve", str(file), "--listen", address]) == 2
    assert f"specfuse: listen: cannot bind {address}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("service", "text", "says"),
    [
        ("model", "name: a\nbackend: scripted\nscripted: {lines: []}", "3: scripted.lines"),
        ("model", "name: a\ntorhc: {}", "2: torhc: unknown key; did you mean torch?"),
        ("model", "name: a\nname: b", "1: name: given twice, on lines 1 and 2"),
        ("model", "- a", "must be a mapping"),
        ("model", "a: [", "not YAML"),
        ("fuser", "ensembles: {}\nmembers: {}", "1: ensembles"),
        (
            "fuser",
            "members: {a: {endpoints: ['a:1']}}\nensembles: {e: {members: [b]}}",
            "2: ensembles.e.members[0]: there is no member b; members: a",
        ),
    ],
)
def test_a_wrong_file_is_named_with_line_key_and_remedy(tmp_path, capsys, service, text, says):
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    assert main([service, "serve", str(file)]) == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.startswith(f"specfuse: {file}:")
    assert says in written.err


@pytest.mark.parametrize("service", ["model", "fuser"])
def test_a_wrong_file_is_told_before_what_serves_is_imported(tmp_path, service):
    file = tmp_path / "settings.yaml"
    file.write_text("listen: 1")
    program = (
        "import sys; from specfuse.cli.app import main; "
        f"code = main(['{service}', 'serve', {str(file)!r}]); "
        "print(code, {'grpc', 'prometheus_client', 'torch', 'transformers'} & sys.modules.keys())"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    assert done.stdout == "2 set()\n"
    assert f"{file}:1: listen: 1: must be a valid string" in done.stderr


def test_an_address_that_is_none_is_named(model_file, capsys):
    assert main(["model", "serve", str(model_file), "--listen", "here"]) == 2
    assert "listen: 'here': must be host:port" in capsys.readouterr().err


@pytest.mark.skipif(OPENSSL is None, reason="needs the openssl program")
def test_sighup_reads_certificates_again_and_ends_nothing(tmp_path, model_file):
    old, new = (Authority.create(tmp_path, name) for name in ("old", "new"))
    mounted = Mounted(tmp_path / "mounted")
    mounted.swap(old.issue("server"))
    at = mounted.identity
    tls = {"tls": {"certificate": str(at.certificate), "key": str(at.key)}}
    model_file.write_text(yaml.safe_dump(yaml.safe_load(model_file.read_text()) | tls))
    with running("model", "serve", str(model_file)) as model:
        assert "specfuse_tls_certificate_expiry" in metrics_of(ServiceAddresses(**model.ready))
        mounted.swap(new.issue("server"))
        model.process.send_signal(signal.SIGHUP)
        assert model.process.stderr is not None
        lines = iter(model.process.stderr.readline, "")
        assert any("read again" in line for line in lines)
        code, _, stderr = model.end(signal.SIGTERM)
    assert (code, "SIGTERM: ending" in stderr) == (0, True)


def test_sighup_does_not_end_a_service_that_is_still_starting(tmp_path):
    """Nor while its model is loaded, which may take minutes."""
    file = tmp_path / "model.yaml"
    os.mkfifo(file)
    with subprocess.Popen([*COMMAND, "model", "serve", str(file)], stderr=subprocess.PIPE) as model:
        with file.open("w") as settings:  # opens once the service does
            model.send_signal(signal.SIGHUP)
            settings.write("name: a\ntorhc: {}")
        _, stderr = model.communicate(timeout=PATIENCE_SECONDS)
    assert (model.returncode, b"torhc: unknown key" in stderr) == (2, True)


def test_sighup_reads_ensembles_again(tmp_path, fuser_file):
    file = fuser_file("127.0.0.1:9")
    with (
        running("fuser", "serve", str(file)) as fuser,
        Client(str(fuser.ready["address"])) as client,
    ):
        assert [one.name for one in client.ensembles()] == ["one"]
        file.write_text(file.read_text().replace("one:", "two:"))
        fuser.process.send_signal(signal.SIGHUP)
        assert fuser.process.stderr is not None
        lines = iter(fuser.process.stderr.readline, "")
        assert any("new queries use these: two" in line for line in lines)
        assert [one.name for one in client.ensembles()] == ["two"]
        assert fuser.end()[0] == 0


def test_a_fuser_that_others_can_reach_says_who_may_ask(fuser_file, capsys):
    file = str(fuser_file("127.0.0.1:1"))
    assert main(["fuser", "serve", file, "--listen", "0.0.0.0:0"]) == 2
    said = capsys.readouterr().err
    assert "tenancy: is absent, and others than this machine reach listen: 0.0.0.0:0" in said


def test_keys_from_the_command_that_makes_them_to_the_one_that_asks(
    model_file, fuser_file, tmp_path
):
    keys = str(tmp_path / "keys.yaml")
    key = specfuse("keys", "new", "--file", keys, "--team", "search").stdout
    key_file = tmp_path / "key"
    key_file.write_text(key)
    with running("model", "serve", str(model_file)) as model:
        file = fuser_file(ServiceAddresses(**model.ready).address)
        document = yaml.safe_load(file.read_text())
        section = {"keys": keys, "teams": {"search": {}}, "accounting": {}}
        file.write_text(yaml.safe_dump(document | {"tenancy": section}))
        with running("fuser", "serve", str(file)) as fuser:
            ask = ("ask", "--address", str(fuser.ready["address"]), QUESTION)
            assert specfuse(*ask, "--api-key-file", str(key_file)).stdout == f"{ANSWER}\n"
            assert specfuse(*ask, SPECFUSE_API_KEY=key.strip()).stdout == f"{ANSWER}\n"
            refused = specfuse(*ask)
            assert (refused.returncode, refused.stdout) == (2, "")
            assert refused.stderr.startswith("specfuse: an API key is needed")
            code, _, logged = fuser.end()
    assert code == 0
    accounts = [json.loads(line) for line in logged.splitlines() if line.startswith("{")]
    assert [(one["team"], one["outcome"]) for one in accounts] == [
        *(("search", "ok"), ("search", "ok")),
    ]
    assert key.strip() not in logged
    assert QUESTION not in logged
