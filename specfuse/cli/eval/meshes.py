"""What `specfuse eval` asks: a mesh of its own, or a running one."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import yaml

from fuser_service.settings.settings import Ensemble
from specfuse.cli.eval.options import Options
from specfuse.cli.eval.session import Session, carried_out
from specfuse.cli.mesh_file import MeshFile
from specfuse.cli.mesh_run import Interrupted
from specfuse.cli.up import DEMO_MESH, MeshOptions, with_mesh
from specfuse.client import AsyncClient, ClientTls
from specfuse.errors import InvalidArgument
from specfuse.eval.asking import Mesh
from specfuse.eval.configurations import DEFAULT, PRESETS, Configuration, ablations
from specfuse.eval.evaluation import Plan
from specfuse.eval.meshes import fingerprints, mesh_for
from specfuse.localmesh.mesh import MeshAddresses

_ORACLE_TOKENS = (Ensemble.model_fields["segment_tokens"].default, 3)
"""How long the segments are that the best choice is made of: as an ensemble's are, and short."""


def over_own(file: Path | None, options: Options) -> int:
    """Asks the models of a mesh file (None: the demo's) in each way to be compared.

    Returns the exit code.
    """
    file = file or DEMO_MESH
    chosen = _chosen(options)
    document = mesh_for(file, chosen)
    _check_members(options.tried, document["models"])
    # What is run is a file of our own; whatever is wrong is told of the file that was given.
    MeshFile.read(file, {"fuser": document["fuser"]})
    plan = _plan(
        options,
        () if options.ablate or options.tried else tuple(document["models"]),
        [one.name for one in chosen],
        fingerprints(document, options.max_tokens),
    )

    def run(session: Session) -> None:
        if not session.due(plan):
            return
        with tempfile.TemporaryDirectory(prefix="specfuse-eval-") as directory:
            generated = Path(directory) / "mesh.yaml"
            generated.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")

            async def work(addresses: MeshAddresses) -> None:
                verifiers = {name: at.address for name, at in addresses.models.items()}
                fuser = AsyncClient(addresses.fuser.address)
                async with Mesh(fuser, verifiers) as mesh:
                    await session.ask(mesh, plan)

            try:
                with_mesh(MeshOptions(generated, directory=file.parent), work)
            except Interrupted:
                raise KeyboardInterrupt from None

    return carried_out(options, run)


def _chosen(options: Options) -> tuple[Configuration, ...]:
    """The configurations that the options name, and what is tried. Of none, all, or the default."""
    known = {one.name: one for one in (ablations() if options.ablate else PRESETS)}
    for name in options.configurations:
        if name not in known:
            problem = f"there is no {name!r}; there are {', '.join(known)}"
            raise InvalidArgument("--config", problem)
    for one in options.tried:
        if one.name in known:
            raise InvalidArgument("--try", f"there is a {one.name} already; name it otherwise")
    usual = [DEFAULT.name] if options.tried and not options.ablate else known
    names = options.configurations or usual
    return (*(known[name] for name in names), *options.tried)


def _check_members(tried: Iterable[Configuration], models: Collection[str]) -> None:
    for one in tried:
        for member in one.settings.get("members", ()):
            if member not in models:
                known = ", ".join(models)
                problem = f"{one.name}: there is no member {member}; there are {known}"
                raise InvalidArgument("--try", problem)


def over_running(
    fuser: AsyncClient, verifiers: Mapping[str, str], tls: ClientTls | None, options: Options
) -> int:
    """Asks the ensembles of a running fuser. Returns the exit code."""

    async def ask(session: Session) -> None:
        async with Mesh(fuser, verifiers, tls) as mesh:
            plan = running_plan(options, await mesh.ensembles(), mesh.verifiers)
            if session.due(plan):
                await session.ask(mesh, plan)

    def run(session: Session) -> None:
        asyncio.run(ask(session))

    return carried_out(options, run)


def running_plan(
    options: Options, ensembles: Mapping[str, tuple[str, ...]], verifiers: Collection[str]
) -> Plan:
    """Ensembles of one member are singles; the others are all compared, or only those chosen.

    Raises:
        InvalidArgument: a chosen ensemble does not exist, or addresses of members are missing.
    """
    singles = {members[0]: name for name, members in ensembles.items() if len(members) == 1}
    several = [name for name, members in ensembles.items() if len(members) > 1]
    for name in options.configurations:
        if name not in ensembles:
            problem = f"there is no ensemble {name!r}; there are {', '.join(ensembles)}"
            raise InvalidArgument("--config", problem)
    if verifiers and set(verifiers) != set(singles):
        raise InvalidArgument(
            "--member",
            "whole responses need an ensemble of each member alone, and its address: "
            f"alone there are {', '.join(singles) or 'none'}",
        )
    fused = list(options.configurations) or several
    # A fuser does not tell by which rules its ensembles answer, only who is in them.
    settings = {name: f"{members} {options.max_tokens}" for name, members in ensembles.items()}
    return _plan(options, tuple(singles.values()), fused, settings, best_response=bool(verifiers))


def _plan(
    options: Options,
    singles: tuple[str, ...],
    fused: list[str],
    settings: Mapping[str, str],
    *,
    best_response: bool = True,
) -> Plan:
    return Plan(
        suite=options.suite,
        singles=singles,
        best_response=best_response and bool(singles),
        fused=tuple(fused),
        oracles=_ORACLE_TOKENS if options.oracle else (),
        settings=settings,
        max_tokens=options.max_tokens,
        concurrency=options.concurrency,
    )
