"""A family's directory: a model for each member, the description, and a mesh to start.

It is made member by member, and one that is whole is never made again.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Final, Protocol

import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from specfuse.demo.saving import save
from specfuse.families.description import Family, Member
from specfuse.families.directory import DESCRIPTION, MESH, MODELS, described
from specfuse.families.measuring import Measured, measure
from specfuse.families.training import Plan, Trainer

MEASURED: Final = "measured.json"


class Watcher(Protocol):
    """Whoever is told how the making of a member goes on."""

    def __call__(self, member: Member, *, step: int, loss: float | None) -> None:
        """A member has come so far. `loss` is None once it is whole."""


def make(family: Family, directory: Path, plan: Plan, watcher: Watcher) -> dict[str, Measured]:
    """Makes what the directory lacks. Returns what the members were measured to do, by name.

    Raises:
        Misconfigured: the directory has another family.
        OSError: it cannot be written.
    """
    begin(family, directory)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    return {
        member.name: _made(family, member, directory / MODELS / member.name, plan, watcher)
        for member in family.members
    }


def begin(family: Family, directory: Path) -> None:
    """Writes all but the models.

    Raises:
        Misconfigured: the directory has another family.
    """
    if (directory / DESCRIPTION).exists():
        described(directory, expected=family)
        return
    (directory / MODELS).mkdir(parents=True, exist_ok=True)
    (directory / MESH).write_text(mesh_of(family), encoding="utf-8")
    (directory / DESCRIPTION).write_bytes(family.to_json())  # the last: from now on it is one


def mesh_of(family: Family) -> str:
    """The mesh file: every member in a process of its own, and an ensemble of all."""
    models = {
        one.name: {
            "torch": {"model": f"{MODELS}/{one.name}", "local_files_only": True, "threads": 1}
        }
        for one in family.members
    }
    fuser = {"ensembles": {"family": {"members": list(models)}}}
    return yaml.safe_dump({"models": models, "fuser": fuser}, sort_keys=False)


def _made(
    family: Family, member: Member, directory: Path, plan: Plan, watcher: Watcher
) -> Measured:
    if not directory.exists():
        trainer = Trainer(family, member, plan)
        for now in trainer.run():
            watcher(member, step=now.step, loss=now.loss)
        save(trainer.model, trainer.tokenizer, directory)
    record = directory / MEASURED
    if not record.exists():
        measured = measured_in(directory, family, member)
        fresh = record.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(measured)) + "\n", encoding="utf-8")
        fresh.rename(record)  # who is stopped here leaves no half of it
    watcher(member, step=plan.steps, loss=None)
    return Measured(**json.loads(record.read_text(encoding="utf-8")))


def measured_in(directory: Path, family: Family, member: Member) -> Measured:
    """Measures a saved member as any user would load it, in float32."""
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    return measure(family, member, model, AutoTokenizer.from_pretrained(directory))
