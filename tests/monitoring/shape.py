"""What the mesh under the eyes of Prometheus is made of.

Scripted members, whose troubles are at hand, and two that run models: an expert that is shipped, on
the torch backend with a small cache, and a random one on a stand-in for vLLM's server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from specfuse.demo.experts import expert_named
from tests.robustness import questions
from tests.robustness.mesh import Shape, scripted
from tests.robustness.nodes import free_address
from tests.support import tiny_models
from tests.support.certificates import Identity
from tests.support.fakes.served import ARCHITECTURE

ALL, EXITING, MODELS = "all", "exiting", "models"
"""Ensembles: of all scripted members, of the same with exits and recalls, of those with models."""

EXPERT, SERVED = "sums", "served"
"""The members that run models, and what their models run in: torch, and another's server."""

TEAMS: Mapping[str, Mapping[str, int]] = {"search": {}, "mail": {"requests_per_minute": 5}}
PLACES = 12
"""Answers at a time."""

CACHED_BYTES = 4 << 20
"""Of keys and values: about a thousand tokens of the expert."""

ASKED: Mapping[str, tuple[str, ...]] = {
    ALL: questions.QUESTIONS,
    MODELS: ("What is 20 plus 22?", "What is 31 plus 12?"),
}
"""What each ensemble is asked while all is well."""


def watched_shape(folder: Path, identity: Identity, server: str) -> Shape:
    """One fuser with teams and an HTTP door; `server` is where a vLLM's server listens."""
    shape = scripted(fusers=1, **_fuser(folder, identity))
    patient = {"straggler_grace_seconds": 5.0, "max_misses": 1000}
    return replace(
        shape,
        models={**shape.models, EXPERT: _expert(), SERVED: _served(folder, server)},
        ensemble=shape.ensemble | patient,
        ensembles={
            EXITING: shape.ensemble | patient | {"vote": "segments", "exit": {}},
            MODELS: {"members": [EXPERT, SERVED], "quorum": 2, "max_tokens": 16} | patient,
        },
    )


def _fuser(folder: Path, identity: Identity) -> dict[str, Any]:
    """Its settings: teams, an HTTP door with a certificate, and not too many places."""
    tls = {"certificate": str(identity.certificate), "key": str(identity.key)}
    return {
        "limits": {"requests_in_flight": PLACES},
        "http": {"listen": free_address(), "tls": tls},
        "tenancy": {
            "anonymous": "allow",
            "keys": str(folder / "keys.yaml"),
            "teams": {name: dict(limits) for name, limits in TEAMS.items()},
        },
    }


def _expert() -> dict[str, Any]:
    path = str(expert_named(EXPERT).path)
    local = {"model": path, "local_files_only": True, "threads": 1}
    return {"torch": local | {"kv_cache_bytes": CACHED_BYTES}}


def _served(folder: Path, server: str) -> dict[str, Any]:
    tokenizer = folder / "tokenizer"
    tiny_models.tokenizer(ARCHITECTURE).save_pretrained(tokenizer)
    return {"backend": "vllm", "vllm": {"url": server, "tokenizer": str(tokenizer)}}
