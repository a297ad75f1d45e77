"""From settings to a backend: wait for the server, compare tokenizers, try it out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import astuple
from typing import Final

from model_service.backends.remote.backend import Connection, RemoteBackend
from model_service.backends.remote.client import ServerClient
from model_service.backends.remote.refusals import Refusal, Translate
from model_service.backends.remote.server import Identity, Server
from model_service.backends.remote.settings import RemoteSection
from model_service.backends.remote.trials import Abilities, tried
from model_service.backends.remote.watch import Watch
from model_service.backends.text.contexts import ContextEncoder
from model_service.backends.text.files import ModelFiles
from model_service.backends.text.loading import load_tokenizer
from model_service.backends.text.tokenizer import SegmentTokenizer
from model_service.core.types import Capabilities, ModelDescription
from model_service.ports import BackendHost
from specfuse.deadline import Deadline
from specfuse.errors import (
    DeadlineExceeded,
    Misconfigured,
    Overloaded,
    SpecFuseError,
    Unavailable,
)

_PAUSE_SECONDS: Final = 0.5
_SHORTEST_TRY_SECONDS: Final = 0.5
"""With less left it is not asked again, which would hide what the last answer was."""

_TOLD_EVERY_SECONDS: Final = 10.0
_ANSWER_SECONDS: Final = 5.0
_TRIAL_SECONDS: Final = 120.0
_SHORTEST_WINDOW: Final = 2
_logger = logging.getLogger(__name__)

MakeServer = Callable[[ServerClient, SegmentTokenizer], Server]
"""A server of one kind, asked by a client, whose model has this tokenizer."""


async def open_remote(
    section: RemoteSection,
    host: BackendHost,
    make_server: MakeServer,
    translate: Translate,
) -> RemoteBackend:
    """Opens a backend once its server is ready. The kind of server is that of the section.

    Raises:
        Misconfigured: the server is not there in time, is not what the settings say, or lacks
            what a flag of its would give it.
    """
    async with AsyncExitStack() as stack:
        with _naming(section.kind):
            client = ServerClient(section, translate, host.observer, host.tracer)
            stack.push_async_callback(client.close)
            tokenizer = await asyncio.to_thread(load_tokenizer, _files(section))
            server = make_server(client, tokenizer)
            identity = await _ready(server, section)
            encoder = ContextEncoder(tokenizer, _window(section, identity))
            abilities = await tried(server, tokenizer, Deadline.after(_TRIAL_SECONDS))
        _tell(section.url, identity, abilities)
        watch = Watch(server, client, identity, host)
        model = _description(host.name, section, identity, encoder, abilities)
        connection = Connection(server, client, watch, abilities)
        backend = RemoteBackend(model, encoder, connection, host.observer)
        stack.pop_all()
    return backend


def _files(section: RemoteSection) -> ModelFiles:
    return ModelFiles("tokenizer", section.tokenizer, section.revision, section.local_files_only)


async def _ready(server: Server, section: RemoteSection) -> Identity:
    """What the server runs, once it answers."""
    until = Deadline.after(section.start_seconds)
    tell_at = Deadline.after(0.0)
    while True:
        try:
            return await server.identify(until.within(_ANSWER_SECONDS))
        except (Unavailable, Overloaded, DeadlineExceeded) as error:
            if until.remaining < _PAUSE_SECONDS + _SHORTEST_TRY_SECONDS:
                raise Misconfigured(
                    f"url: {section.url} was not ready within {section.start_seconds:g} s "
                    f"({error.message}); start it, or correct the address"
                ) from error
            if tell_at.passed:
                _logger.info("waiting for %s: %s", section.url, error.message)
                tell_at = Deadline.after(_TOLD_EVERY_SECONDS)
        await asyncio.sleep(_PAUSE_SECONDS)


def _window(section: RemoteSection, identity: Identity) -> int:
    """The most tokens of context and segment together."""
    wanted, there = section.max_context_tokens, identity.window
    if wanted is None and there is None:
        raise Misconfigured(
            "max_context_tokens: the server does not say how long its context is; set this"
        )
    if wanted is not None and there is not None and wanted > there:
        raise Misconfigured(
            f"max_context_tokens: {wanted}: the server takes no more than {there}; "
            "lower this, or start the server with more"
        )
    window = min(known for known in (wanted, there) if known is not None)
    if window < _SHORTEST_WINDOW:
        raise Misconfigured(f"max_context_tokens: a context of {window} tokens is of no use")
    return window


def _description(
    name: str, section: RemoteSection, identity: Identity, encoder: ContextEncoder, able: Abilities
) -> ModelDescription:
    return ModelDescription(
        name=name,
        revision=section.revision or ", ".join(filter(None, (identity.model, identity.version))),
        tokenizer_fingerprint=encoder.tokenizer.fingerprint,
        context_window=encoder.window,
        backend=section.kind,
        capabilities=Capabilities(
            tree_scoring=False,
            own_scores=able.exact,
            prefix_cache=able.caches,
            evidence=able.evidence,
        ),
    )


def _tell(url: str, identity: Identity, abilities: Abilities) -> None:
    _logger.info(
        "%s runs %s; own scores: %s; own scores when sampling: %s; keeps contexts: %s; "
        "evidence: %s",
        url,
        identity,
        *("yes" if able else "no" for able in astuple(abilities)),
    )


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Whatever goes wrong at the start is a matter of the settings; says of which section.

    There are no prompts yet, so a server may be quoted.
    """
    try:
        yield
    except SpecFuseError as error:
        setting = "" if isinstance(error, Misconfigured) else "url: "
        said = f" (it says: {error.__cause__})" if isinstance(error.__cause__, Refusal) else ""
        raise Misconfigured(f"{name}.{setting}{error.message}{said}") from error
