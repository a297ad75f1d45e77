"""Mesh files of scripted models: no torch, no weights, ready in a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ANSWER = (
    "In France, Paris is the capital city. Adding 17 to 25 you get 42 as the total."
    " The tomato is red when you look at it outside. House is casa, and that was all."
)
"""What every scripted model knows to say."""

QUESTION = "What is the capital of France, and so on?"
SLOWLY = "Take your time: "
"""A question that begins with this has every call take a fifth of a second."""
NEVER = "Never mind: "
"""A question that begins with this is never answered."""


def scripted(**script: object) -> dict[str, Any]:
    """The section of a model that says the answer; quickly, slowly or never."""
    lines = [
        {"when": NEVER, "hangs": True},
        {"when": SLOWLY, "answer": ANSWER, "seconds": 0.2},
        {"answer": ANSWER},
    ]
    return {"backend": "scripted", "scripted": {"lines": lines} | script}


def mesh_of(*models: str, **fuser: object) -> dict[str, Any]:
    """A mesh of scripted models and the ensemble `all` of them, of four tokens a segment."""
    ensemble = {"members": list(models), "segment_tokens": 4, "exit": {"policy": "none"}}
    return {
        "models": {name: scripted() for name in models},
        "fuser": {"ensembles": {"all": ensemble}} | fuser,
    }


def write_mesh(directory: Path, mesh: dict[str, Any]) -> Path:
    """The mesh as a file in the directory."""
    file = directory / "mesh.yaml"
    file.write_text(yaml.safe_dump(mesh))
    return file
