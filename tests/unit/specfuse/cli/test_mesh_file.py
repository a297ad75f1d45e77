"""The file of a local mesh: what follows from it, and what it must not say."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from model_service.backends.torch import settings as torch_settings
from model_service.settings import Settings
from specfuse.cli.mesh_file import Listening, MeshFile
from specfuse.cli.up import DEMO_MESH
from specfuse.demo.experts import EXPERTS
from specfuse.errors import Misconfigured
from specfuse.localmesh import ServiceAddresses
from tests.support.scripted_mesh import mesh_of, write_mesh


def torch_mesh() -> dict:
    return {
        "models": {
            "llama": {"torch": {"model": "models/llama"}},
            "qwen": {"torch": {"model": "Qwen/Qwen3", "threads": 3}, "listen": "127.0.0.1:7001"},
        },
        "fuser": {"listen": "127.0.0.1:7000", "ensembles": {"all": {"members": ["llama", "qwen"]}}},
    }


def served_mesh(**model: object) -> dict:
    """A mesh of two models, of which one runs on a server that the mesh starts."""
    mesh = mesh_of("alpha", "beta")
    command = ["./llama-server", "--port", "{port}", "--alias", "p{port}"]
    served = {"backend": "llama_cpp", "command": command, "llama_cpp": {"tokenizer": "models/beta"}}
    mesh["models"]["beta"] = served | model
    return mesh


def settings_in(program) -> dict:
    return yaml.safe_load(Path(program.argv[-1]).read_text())


def test_services_that_import_the_same_can_be_forked_from_one_process(tmp_path, monkeypatch):
    monkeypatch.setattr(torch_settings, "_CUDA_DRIVER", tmp_path / "no driver")
    llama, qwen = MeshFile.read(write_mesh(tmp_path, torch_mesh())).plan(tmp_path, tmp_path).models
    plan = MeshFile.read(write_mesh(tmp_path, served_mesh())).plan(tmp_path, tmp_path)
    alpha, beta = plan.models
    assert llama.imports == qwen.imports
    assert llama.imports[-1] == "model_service.backends.torch.backend"
    assert alpha.imports[-1] == "model_service.backends.scripted.backend"
    assert beta.imports[-1] == "model_service.backends.llama_cpp.backend"
    assert plan.fuser({}).imports == plan.fuser_imports != ()
    assert len({llama.imports, alpha.imports, beta.imports, plan.fuser_imports}) == 4
    for modules in (llama.imports, alpha.imports, beta.imports, plan.fuser_imports):
        assert all(map(find_spec, modules)), "they are there"


def test_models_that_may_use_cuda_are_not_forked(tmp_path, monkeypatch):
    monkeypatch.setattr(torch_settings, "_CUDA_DRIVER", tmp_path)
    document = torch_mesh()
    document["models"]["llama"]["torch"]["device"] = "cpu"
    llama, qwen = MeshFile.read(write_mesh(tmp_path, document)).plan(tmp_path, tmp_path).models
    assert llama.imports
    assert not qwen.imports


def test_each_service_gets_its_own_settings_file_with_what_follows_from_the_mesh(tmp_path):
    mesh = MeshFile.read(write_mesh(tmp_path, torch_mesh()))
    plan = mesh.plan(Path("/meshes"), tmp_path)

    llama, qwen = plan.models
    assert (llama.name, llama.directory, llama.argv[-3:-1]) == (
        "llama",
        Path("/meshes"),
        ("model", "serve"),
    )
    free = {"listen": "127.0.0.1:0", "metrics_listen": "127.0.0.1:0"}
    threads = max(1, (os.cpu_count() or 1) // 2)
    assert settings_in(llama) == free | {
        "name": "llama",
        "torch": {"model": "models/llama", "threads": threads},
    }
    assert settings_in(qwen) == free | {
        "name": "qwen",
        "listen": "127.0.0.1:7001",
        "torch": {"model": "Qwen/Qwen3", "threads": 3},
    }

    endpoints = {
        name: ServiceAddresses(f"127.0.0.1:{at}", "") for name, at in (("llama", 5), ("qwen", 6))
    }
    fuser = plan.fuser(endpoints)
    assert settings_in(fuser) == {
        "listen": "127.0.0.1:7000",
        "metrics_listen": "127.0.0.1:0",
        "http": {"listen": "127.0.0.1:0"},
        "members": {
            "llama": {"endpoints": ["127.0.0.1:5"]},
            "qwen": {"endpoints": ["127.0.0.1:6"]},
        },
        "ensembles": {"all": {"members": ["llama", "qwen"]}},
    }


def test_where_the_fuser_listens_may_be_said_when_the_mesh_is_run(tmp_path):
    mesh = MeshFile.read(write_mesh(tmp_path, mesh_of("alpha")))
    fuser = mesh.plan(tmp_path, tmp_path, Listening("127.0.0.1:7000", "127.0.0.1:8000")).fuser({})
    assert settings_in(fuser)["listen"] == "127.0.0.1:7000"
    assert settings_in(fuser)["http"] == {"listen": "127.0.0.1:8000"}


def test_where_it_listens_is_all_that_such_an_option_changes(tmp_path):
    mesh = MeshFile.read(write_mesh(tmp_path, mesh_of("alpha", http={"page": False})))
    fuser = mesh.plan(tmp_path, tmp_path, Listening(http="127.0.0.1:8000")).fuser({})
    assert settings_in(fuser)["http"] == {"page": False, "listen": "127.0.0.1:8000"}


def test_a_fuser_of_a_mesh_may_do_without_http(tmp_path):
    file = mesh_of("alpha", http=None)
    mesh = MeshFile.read(write_mesh(tmp_path, file))
    assert mesh.fuser.http is None
    assert "fuser.http.listen" not in mesh.addresses()


def test_where_the_fuser_is_to_listen_goes_with_who_may_ask(tmp_path):
    mesh = MeshFile.read(write_mesh(tmp_path, mesh_of("alpha")))
    mesh.check_listening(Listening(grpc="127.0.0.1:7000", http="[::1]:8000"))
    with pytest.raises(Misconfigured, match=r"--listen: tenancy: is absent, .* 0\.0\.0\.0:7000"):
        mesh.check_listening(Listening(grpc="0.0.0.0:7000"))
    with pytest.raises(Misconfigured, match=r"--http-listen.*http.listen: 0.0.0.0:7000"):
        mesh.check_listening(Listening(http="0.0.0.0:7000"))


def test_a_command_is_a_server_on_a_free_port_which_is_where_the_model_asks(tmp_path):
    (tmp_path / "models" / "beta").mkdir(parents=True)
    mesh = MeshFile.read(write_mesh(tmp_path, served_mesh()))
    plan = mesh.plan(tmp_path, tmp_path)
    server = plan.servers["beta"]
    assert plan.servers.keys() == {"beta"}
    assert (server.name, server.directory) == ("beta-server", tmp_path)
    port = server.argv[2]
    assert server.argv == ("./llama-server", "--port", port, "--alias", f"p{port}")
    _, beta = plan.models
    assert settings_in(beta) == {
        "name": "beta",
        "listen": "127.0.0.1:0",
        "metrics_listen": "127.0.0.1:0",
        "backend": "llama_cpp",
        "llama_cpp": {
            "url": f"http://127.0.0.1:{port}",
            "tokenizer": str(tmp_path / "models" / "beta"),
        },
    }
    Settings.read(Path(beta.argv[-1]))  # the service takes it


def test_every_server_has_a_port_of_its_own(tmp_path):
    mesh = served_mesh()
    for number in range(20):
        mesh["models"][f"model{number}"] = mesh["models"]["beta"]
    servers = MeshFile.read(write_mesh(tmp_path, mesh)).plan(tmp_path, tmp_path).servers
    assert len({server.argv[2] for server in servers.values()}) == 21


def test_a_mesh_ends_as_long_as_its_slowest_service(tmp_path):
    file = mesh_of("alpha", "beta", drain_seconds=2)
    file["models"]["alpha"]["drain_seconds"] = 7
    file["models"]["beta"]["drain_seconds"] = 3
    assert MeshFile.read(write_mesh(tmp_path, file)).drain_seconds == 7
    file["models"]["beta"]["linger_seconds"] = 5
    assert MeshFile.read(write_mesh(tmp_path, file)).drain_seconds == 8


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m.update(modls=1), ": modls: unknown key; did you mean models?"),
        (lambda m: m.update(models={}), "models"),
        (lambda m: m.update(models=[]), "models: must be a mapping"),
        (lambda m: m.update(fuser=None), "fuser: None: must be a mapping"),
        (lambda m: m.pop("fuser"), "fuser: is required"),
        (lambda m: m["models"].update({"a b": m["models"]["llama"]}), "models.a b"),
        (lambda m: m["models"].update(llama=None), "models.llama"),
        (lambda m: m["models"].update(fuser={}), "models.fuser: is what the fuser is called"),
        (lambda m: m["models"]["llama"].update(name="x"), "models.llama.name: follows from"),
        (lambda m: m["models"]["llama"].update(tls={}), "models.llama.tls: a local mesh speaks"),
        (lambda m: m["models"]["llama"].update(torch=None), "models.llama.torch: is required"),
        (lambda m: m["models"]["llama"]["torch"].update(modl=1), "modl: unknown key; did you mean"),
        (lambda m: m["fuser"].update(members={}), "fuser.members: follow from"),
        (lambda m: m["fuser"].update(tls={}), "fuser.tls: a local mesh speaks plain text"),
        (
            lambda m: m["fuser"].update(http={"tls": {}}),
            "fuser.http.tls: a local mesh speaks plain text",
        ),
        (
            lambda m: m["fuser"].update(http={"listen": "here"}),
            "fuser.http.listen: 'here': must be host:port",
        ),
        (lambda m: m["fuser"].update(listen="here"), "fuser.listen: 'here': must be host:port"),
        (
            lambda m: m["fuser"]["ensembles"]["all"].update(members=["llama", "x"]),
            "fuser.ensembles.all.members[1]: there is no member x; members: llama, qwen",
        ),
        (
            lambda m: m["fuser"]["ensembles"]["all"].update(quorum=3),
            "fuser.ensembles.all.quorum: 3",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_key_and_the_remedy(tmp_path, change, says):
    file = torch_mesh()
    change(file)
    with pytest.raises(Misconfigured) as caught:
        MeshFile.read(write_mesh(tmp_path, file))
    assert says in caught.value.message
    assert caught.value.message.startswith(f"{tmp_path}/mesh.yaml")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"command": "run {port}", "backend": "scripted", "scripted": {"lines": [{}]}},
            "beta.command: backend: scripted runs on no server; drop it, or choose",
        ),
        (
            {"llama_cpp": {"tokenizer": "x", "url": "http://127.0.0.1:1"}},
            "mesh.yaml:35: models.beta.llama_cpp.url: follows from the model's command; drop one",
        ),
        ({"command": []}, "models.beta.command: a list: must begin with the program to run"),
        ({"command": ""}, "models.beta.command: '': must begin with the program to run"),
        ({"command": "run"}, "models.beta.command: 'run': must say where the port goes"),
        ({"command": "run '{port}"}, "No closing quotation"),
        ({"command": 3}, "models.beta.command: 3: must be a list of arguments, or one line"),
        ({"command": ["x", "{port}", False]}, "models.beta.command[2]: is not text; put it in"),
        ({"command": ["x", {"port": None}]}, "models.beta.command[1]: is not text; put it in"),
        ({"comand": "run {port}"}, "models.beta.comand: unknown key; did you mean command?"),
        ({"backend": "lama"}, "models.beta.backend: 'lama': must be"),
        ({"llama_cpp": None}, "models.beta.llama_cpp: is required by backend: llama_cpp"),
    ],
)
def test_what_is_wrong_with_a_command_is_named(tmp_path, change, says):
    with pytest.raises(Misconfigured) as caught:
        MeshFile.read(write_mesh(tmp_path, served_mesh(**change)))
    assert says in caught.value.message


def test_no_model_may_have_the_name_of_anothers_server(tmp_path):
    mesh = served_mesh()
    mesh["models"]["beta-server"] = mesh["models"]["alpha"]
    with pytest.raises(Misconfigured, match=r"models\.beta-server: is what the server of beta is"):
        MeshFile.read(write_mesh(tmp_path, mesh))


def test_the_demo_mesh_runs_every_shipped_expert_alone_and_all_of_them_in_both_orders():
    mesh = MeshFile.read(DEMO_MESH)
    names = tuple(expert.name for expert in EXPERTS)
    assert tuple(mesh.models) == names
    for expert in EXPERTS:
        torch = mesh.models[expert.name].torch
        assert torch is not None
        assert DEMO_MESH.parent / torch.model == expert.path
    ensembles = {name: ensemble.members for name, ensemble in mesh.fuser.ensembles.items()}
    assert ensembles == {name: (name,) for name in names} | {
        "experts": names,
        "reversed": names[::-1],
    }


def test_the_addresses_are_those_that_the_services_will_listen_on(tmp_path):
    mesh = MeshFile.read(write_mesh(tmp_path, torch_mesh()))
    addresses = mesh.addresses()
    assert addresses["models.qwen.listen"] == "127.0.0.1:7001"
    assert addresses["fuser.listen"] == "127.0.0.1:7000"
    for free in ("models.llama.listen", "models.qwen.metrics_listen", "fuser.metrics_listen"):
        assert addresses[free] == "127.0.0.1:0"
    assert addresses["fuser.http.listen"] == "127.0.0.1:0"
    elsewhere = mesh.addresses(Listening("h:1", "h:2"))
    assert addresses.keys() - elsewhere.keys() == {"fuser.listen", "fuser.http.listen"}
    assert elsewhere["--listen"] == "h:1"
    assert elsewhere["--http-listen"] == "h:2"


@pytest.mark.parametrize("models", ["models:\n", "models: {}\n", "models: 3\n"])
def test_without_models_that_is_all_there_is_to_say(tmp_path, models):
    file = tmp_path / "mesh.yaml"
    file.write_text(models + "fuser: {ensembles: {all: {members: [a]}}}\n")
    with pytest.raises(Misconfigured) as caught:
        MeshFile.read(file)
    (line,) = caught.value.message.splitlines()
    assert line.endswith("models: must be a mapping of at least one model, by name")


def test_where_traces_go_and_how_is_logged_is_said_once_for_all_services(tmp_path):
    mesh = torch_mesh()
    mesh["tracing"] = {"endpoint": "127.0.0.1:4317"}
    mesh["log_format"] = "json"
    mesh["models"]["qwen"] |= {"log_format": "text", "tracing": {"endpoint": "127.0.0.1:4318"}}
    plan = MeshFile.read(write_mesh(tmp_path, mesh)).plan(Path("/meshes"), tmp_path)
    services = [*plan.models, plan.fuser({})]
    said = [(one["log_format"], one["tracing"]) for one in map(settings_in, services)]
    shared = ("json", {"endpoint": "127.0.0.1:4317"})
    assert said == [shared, ("text", {"endpoint": "127.0.0.1:4318"}), shared]


def test_which_requests_are_recorded_is_the_fusers_to_say_as_models_are_called_by_it(tmp_path):
    mesh = torch_mesh()
    mesh["tracing"] = {"endpoint": "127.0.0.1:4317", "trust_callers": False, "sample_ratio": 1.0}
    plan = MeshFile.read(write_mesh(tmp_path, mesh)).plan(Path("/meshes"), tmp_path)
    *models, fuser = (settings_in(one)["tracing"] for one in (*plan.models, plan.fuser({})))
    assert models == [{"endpoint": "127.0.0.1:4317"}] * len(plan.models)
    assert fuser == mesh["tracing"]
