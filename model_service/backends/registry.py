"""Every backend there is. A new one is a folder beside this file and a field of `Backends`.

The field is named like the folder and has the type of its section of the settings, a
`BackendSection`. In the folder there are

    settings.py   the section
    backend.py    `async open_backend(section, host)`, which returns a `Backend`; imported when used
"""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import Annotated, Final, get_args

from pydantic import BeforeValidator, Field

from model_service.backends.llama_cpp.settings import LlamaCppSection
from model_service.backends.scripted.settings import ScriptedSection
from model_service.backends.section import BackendSection
from model_service.backends.sglang.settings import SglangSection
from model_service.backends.tgi.settings import TgiSection
from model_service.backends.torch.settings import TorchSection
from model_service.backends.vllm.settings import VllmSection
from model_service.ports import Backend, BackendHost
from specfuse.config.types import Section
from specfuse.errors import Misconfigured


class Backends(Section):
    """A section for every backend, of which a model's settings have one."""

    torch: TorchSection | None = None
    """For `backend: torch`, which runs a Hugging Face causal language model in this process."""
    llama_cpp: LlamaCppSection | None = None
    """For `backend: llama_cpp`, which asks llama.cpp's llama-server."""
    sglang: SglangSection | None = None
    """For `backend: sglang`, which asks SGLang's server."""
    tgi: TgiSection | None = None
    """For `backend: tgi`, which asks Hugging Face's text-generation-inference."""
    vllm: VllmSection | None = None
    """For `backend: vllm`, which asks vLLM's OpenAI-compatible server."""
    scripted: ScriptedSection | None = None
    """For `backend: scripted`: no model, answers from a script, to test everything around it."""

    def section(self, backend: str) -> BackendSection | None:
        """The section of a backend, if there is one."""
        section: BackendSection | None = getattr(self, backend)
        return section


BACKENDS: Final = tuple(Backends.model_fields)
"""Their names."""

_SECTIONS: Final[dict[str, type[BackendSection]]] = {
    name: get_args(field.annotation)[0] for name, field in Backends.model_fields.items()
}


def _known(name: object) -> object:
    if name not in BACKENDS:
        *others, last = (repr(one) for one in BACKENDS)
        raise ValueError(f"must be {', '.join(others)} or {last}")
    return name


BackendName = Annotated[
    str, BeforeValidator(_known), Field(json_schema_extra={"enum": list(BACKENDS)})
]


async def open_backend(name: str, section: BackendSection, host: BackendHost) -> Backend:
    """Opens a backend: its model is loaded, or its server answers.

    Raises:
        Misconfigured: what it needs is not installed, or the section asks for the impossible.
    """
    try:
        module = await asyncio.to_thread(import_module, backend_module(name))
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == __package__.partition(".")[0]:
            raise  # a mistake of ours, which nothing that can be installed would mend
        extras = ",".join(dict.fromkeys((BackendSection.extra, section.extra)))
        raise Misconfigured(
            f"backend: {name} needs what is not installed ({error.name}); "
            f'pip install "specfuse[{extras}]"'
        ) from error
    backend: Backend = await module.open_backend(section, host)
    return backend


def backend_module(name: str) -> str:
    """The module that opens the backend of this name."""
    return f"{__package__}.{name}.backend"


def section_type(name: str) -> type[BackendSection]:
    """The section of the backend of this name."""
    return _SECTIONS[name]


def extra_for(package: str) -> str:
    """The extra that installs a package: a backend's, or else the services' own."""
    extras = (section.extra for section in _SECTIONS.values() if package in section.packages)
    return next(extras, BackendSection.extra)
