"""The YAML file of a local mesh: the settings of its models and of its fuser, in one place.

    models:
      llama:
        torch: {model: models/llama}
      qwen:
        torch: {model: models/qwen}
    fuser:
      listen: 127.0.0.1:50050
      ensembles:
        assistant: {members: [llama, qwen]}

Each section holds the settings of `specfuse model serve` or `specfuse fuser serve`. What follows
from the file itself is left out: a model's name, and the fuser's members. A service without
`listen` or `metrics_listen` takes free ports, and a fuser without `http` has that door at one, too.
Relative paths start at the file's directory.

A model whose backend asks a server may say how to start that, in place of where it is:

    models:
      mistral:
        backend: llama_cpp
        command: llama-server --model mistral.gguf --port {port}
        llama_cpp: {tokenizer: models/mistral}
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import Field, model_validator

from fuser_service.settings.settings import Settings as FuserSettings
from model_service.backends.registry import BACKENDS, backend_module, section_type
from model_service.settings import Settings as ModelSettings
from specfuse.cli.mesh_command import Command, check_found, free_ports, on_port, url_of
from specfuse.config import settings_file
from specfuse.config.settings_file import Contradictions, Problem
from specfuse.config.types import LogFormat, Name, Seconds, Section
from specfuse.localmesh import Plan, Program, ServiceAddresses
from specfuse.localmesh.program import RUN_MODULE
from specfuse.observability.tracing.settings import EdgeTracing, Tracing
from specfuse.serving.listening import check_free

FUSER = "fuser"
"""The fuser's name in a local mesh. No model may have it."""

_COMMAND = (*RUN_MODULE, "specfuse.cli")
"""`specfuse`."""
_SERVING = ("specfuse.cli.serve", "specfuse.serving.logs")
_FUSER_IMPORTS = (*_SERVING, "fuser_service.main")
"""What the command for the fuser imports."""
_FREE_PORTS = {"listen": "127.0.0.1:0", "metrics_listen": "127.0.0.1:0"}
_FREE_HTTP = {"http": {"listen": "127.0.0.1:0"}}
_NOT_KNOWN_YET = "127.0.0.1:1"
_DEFAULT_BACKEND = ModelSettings.model_fields["backend"].default


class MeshModel(ModelSettings):
    """A model of a local mesh."""

    command: Command | None = None
    """Starts the server that the model runs on. `{port}` in it stands for a free port, from which
    the backend's `url` follows. A list, or one line that is cut like a shell would. It runs in the
    file's directory, and is stopped with the mesh."""


@dataclass(frozen=True, slots=True)
class Listening:
    """Where a fuser listens, `host:port`, if not where its file says."""

    grpc: str | None = None
    """The option `--listen`."""
    http: str | None = None
    """The option `--http-listen`."""

    @property
    def options(self) -> dict[str, Listening]:
        """The options that were given, each on its own."""
        given = {}
        if self.grpc is not None:
            given["--listen"] = Listening(grpc=self.grpc)
        if self.http is not None:
            given["--http-listen"] = Listening(http=self.http)
        return given

    def applied(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """A fuser's settings with this, and all else as it was."""
        changed = dict(settings)
        if self.grpc is not None:
            changed["listen"] = self.grpc
        if self.http is not None:
            changed["http"] = {**(changed.get("http") or {}), "listen": self.http}
        return changed


AS_THE_FILE_SAYS = Listening()


class MeshFile(Section):
    """Everything a local mesh is told."""

    models: Annotated[dict[Name, MeshModel], Field(min_length=1)]
    """The models' settings, by name."""
    fuser: FuserSettings
    """The fuser's settings."""
    tracing: EdgeTracing | None = None
    """Where traces go, of each service that does not say so itself."""
    log_format: LogFormat = "text"
    """How each service logs that does not say so itself: `text` for people, or `json`."""
    start_timeout_seconds: Seconds = 300.0
    """How long the services may take to get ready, loading and downloading models included."""

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, document: Any) -> Any:  # noqa: ANN401 (whatever the file holds)
        """Adds what follows from the file itself."""
        if not isinstance(document, dict):
            return document
        problems = tuple(_contradictions(document))
        if problems:
            raise Contradictions(problems)
        models, fuser = document.get("models"), document.get("fuser")
        complete = dict(document)
        if isinstance(models, dict):
            complete["models"] = {name: _complete_model(name, models) for name in models}
        if isinstance(fuser, dict):
            names = models if isinstance(models, dict) else ()
            members = {name: {"endpoints": [_NOT_KNOWN_YET]} for name in names}
            complete["fuser"] = _FREE_PORTS | _FREE_HTTP | fuser | {"members": members}
        return complete

    @classmethod
    def read(cls, path: Path, overrides: Mapping[str, object] | None = None) -> Self:
        """The mesh in the file at `path`; `overrides` replace its top-level keys.

        Raises:
            Misconfigured: the file cannot be read, or its content is wrong.
        """
        return settings_file.read(path, cls, overrides)

    @classmethod
    def read_checked(cls, path: Path, elsewhere: Listening, directory: Path) -> Self:
        """The mesh in the file at `path`, if it can run here: relative paths start at `directory`.

        Raises:
            Misconfigured: as `read`; an address is taken, or a program is not there.
        """
        file = cls.read(path)
        check_free(file.addresses(elsewhere))
        file.check_listening(elsewhere)
        check_found(file.commands, directory)
        return file

    @property
    def drain_seconds(self) -> float:
        """The most that any of the services needs to linger and drain."""
        models = (m.linger_seconds + m.drain_seconds for m in self.models.values())
        return max(self.fuser.drain_seconds, *models)

    def addresses(self, elsewhere: Listening = AS_THE_FILE_SAYS) -> dict[str, str]:
        """Where the services are to listen, by the setting, or the option, that says so."""
        sections: dict[str, ModelSettings | FuserSettings] = {
            f"models.{name}": settings for name, settings in self.models.items()
        }
        sections["fuser"] = self.fuser
        addresses = {
            f"{section}.{key}": getattr(settings, key)
            for section, settings in sections.items()
            for key in _FREE_PORTS
        }
        if self.fuser.http is not None:
            addresses["fuser.http.listen"] = self.fuser.http.listen
        if elsewhere.grpc is not None:
            del addresses["fuser.listen"]
            addresses["--listen"] = elsewhere.grpc
        if elsewhere.http is not None:
            addresses.pop("fuser.http.listen", None)
            addresses["--http-listen"] = elsewhere.http
        return addresses

    def check_listening(self, elsewhere: Listening) -> None:
        """Checks that the fuser may listen there, as who may ask depends on it.

        Raises:
            Misconfigured: it may not.
        """
        for option, listening in elsewhere.options.items():
            text = yaml.safe_dump(listening.applied(_document(self.fuser)), sort_keys=False)
            FuserSettings.parse(text, source=option)

    @property
    def commands(self) -> dict[str, Command]:
        """What starts the models' servers, by the setting that says so."""
        return {f"models.{name}.command": command for name, command in self._commands().items()}

    def plan(
        self, directory: Path, workspace: Path, elsewhere: Listening = AS_THE_FILE_SAYS
    ) -> Plan:
        """How to run the mesh. Ports of the models' servers are free now, and no longer held.

        Args:
            directory: Where its relative paths start.
            workspace: Where each service's own settings file is written.
            elsewhere: Where the fuser listens, if not where the file says.
        """

        def program(
            name: str, service: str, settings: Mapping[str, object], imports: tuple[str, ...]
        ) -> Program:
            file = workspace / f"{name}.yaml"
            complete = self._shared_with(service) | dict(settings)
            file.write_text(yaml.safe_dump(complete, sort_keys=False), encoding="utf-8")
            argv = (*_COMMAND, service, "serve", str(file))
            return Program(name, argv, directory, imports)

        def fuser(endpoints: Mapping[str, ServiceAddresses]) -> Program:
            members = {name: {"endpoints": [at.address]} for name, at in endpoints.items()}
            settings = elsewhere.applied(_document(self.fuser) | {"members": members})
            return program(FUSER, "fuser", settings, _FUSER_IMPORTS)

        commands = self._commands()
        ports = free_ports(commands)
        models = (
            program(
                name, "model", _served(settings, directory, ports.get(name)), _imports(settings)
            )
            for name, settings in self.models.items()
        )
        servers = {
            name: Program(server_name(name), on_port(command, ports[name]), directory)
            for name, command in commands.items()
        }
        return Plan(tuple(models), fuser, servers, _FUSER_IMPORTS)

    def _shared_with(self, service: str) -> dict[str, Any]:
        """What is the same for all services, unless they say otherwise."""
        document = _document(self)
        keys = ("tracing", "log_format")
        shared: dict[str, Any] = {key: document[key] for key in keys if key in document}
        if service == "model" and shared.get("tracing"):
            told = shared["tracing"].items()
            shared["tracing"] = {key: value for key, value in told if key in Tracing.model_fields}
        return shared

    def _commands(self) -> dict[str, Command]:
        """What starts the models' servers, by the model."""
        given = {name: settings.command for name, settings in self.models.items()}
        return {name: command for name, command in given.items() if command is not None}


def server_name(model: str) -> str:
    """What the server that a model runs on is called in a local mesh."""
    return f"{model}-server"


def _imports(settings: MeshModel) -> tuple[str, ...]:
    """What the command for the model imports; nothing if that cannot be shared."""
    if not settings.chosen.forks():
        return ()
    return (*_SERVING, "model_service.main", backend_module(settings.backend))


def _document(settings: Section) -> dict[str, Any]:
    """The settings as their file says them."""
    return settings.model_dump(mode="json", exclude_unset=True)


def _served(settings: MeshModel, directory: Path, port: int | None) -> dict[str, Any]:
    """The settings as a file of the service says them, which may lie anywhere.

    `port` is the one of the server that is started for the model, if any.
    """
    document = _document(settings)
    document.pop("command", None)
    section = document[settings.backend]
    if port is not None:
        section["url"] = url_of(port)
    located = section_type(settings.backend).located(section, directory)
    return document | {settings.backend: located}


def _complete_model(name: str, models: dict[str, Any]) -> Any:  # noqa: ANN401
    """A model's section with its name, free ports, and its backend's settings for sharing."""
    section = models[name]
    if not isinstance(section, dict):
        return section
    complete: dict[str, Any] = _FREE_PORTS | section | {"name": name}
    share = max(1, (os.cpu_count() or 1) // len(models))
    for backend in section.keys() & BACKENDS:
        if isinstance(section[backend], dict):
            complete[backend] = section_type(backend).sharing(section[backend], share)
            if "command" in section and _asks_server(backend):
                complete[backend] = {"url": url_of(port=1)} | complete[backend]
    return complete


def _asks_server(backend: str) -> bool:
    """Whether the backend's section says where a server is."""
    return "url" in section_type(backend).model_fields


def _contradictions(document: dict[str, Any]) -> Iterator[Problem]:
    """What the file must not say because it follows from the file itself, or is impossible."""
    models, fuser = document.get("models"), document.get("fuser")
    if isinstance(fuser, dict) and "members" in fuser:
        yield Problem(("fuser", "members"), "follow from the models of this file; drop it")
    if isinstance(fuser, dict) and "tls" in fuser:
        yield Problem(("fuser", "tls"), "a local mesh speaks plain text; drop it")
    if isinstance(fuser, dict) and isinstance(fuser.get("http"), dict) and "tls" in fuser["http"]:
        yield Problem(("fuser", "http", "tls"), "a local mesh speaks plain text; drop it")
    if isinstance(models, dict) and models:
        yield from _model_contradictions(models)
    elif "models" in document:
        yield Problem(("models",), "must be a mapping of at least one model, by name")


def _model_contradictions(models: dict[str, Any]) -> Iterator[Problem]:
    if FUSER in models:
        yield Problem(("models", FUSER), "is what the fuser is called; choose another name")
    for name, section in models.items():
        if not isinstance(section, dict):
            continue
        if "name" in section:
            yield Problem(("models", name, "name"), "follows from the key of this section; drop it")
        if "tls" in section:
            yield Problem(("models", name, "tls"), "a local mesh speaks plain text; drop it")
        if "command" in section:
            yield from _command_contradictions(name, section)
            if server_name(name) in models:
                yield Problem(
                    ("models", server_name(name)),
                    f"is what the server of {name} is called; choose another name",
                )


def _command_contradictions(name: str, section: dict[str, Any]) -> Iterator[Problem]:
    backend = section.get("backend", _DEFAULT_BACKEND)
    if backend not in BACKENDS:
        return  # which is reported of the backend itself
    if not _asks_server(backend):
        able = ", ".join(filter(_asks_server, BACKENDS))
        yield Problem(
            ("models", name, "command"),
            f"backend: {backend} runs on no server; drop it, or choose a backend that does: {able}",
        )
    elif isinstance(section.get(backend), dict) and "url" in section[backend]:
        yield Problem(
            ("models", name, backend, "url"), "follows from the model's command; drop one of them"
        )
