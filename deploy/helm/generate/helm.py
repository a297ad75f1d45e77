"""A real Helm, and what it makes of values."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).parents[3]
INSTALLED: Final = REPOSITORY / ".tools" / "bin"
"""Where `make helm` puts helm and kubectl."""

NAME: Final = "specfuse"
"""The release and the namespace, if nothing else is said."""

_KUBERNETES: Final = "1.35.0"
"""Which version the cluster is said to have: each Helm has another default."""

_NOBODY: Final = "/nonexistent"
_SECONDS: Final = 60


class HelmFailed(Exception):
    """Helm refused; the text is what it said."""


def executable() -> Path | None:
    """Helm: where the environment's HELM says, else as `make helm` fetched it, else on the path."""
    named = os.environ.get("HELM") or shutil.which("helm", path=INSTALLED) or shutil.which("helm")
    return Path(named) if named else None


def run(*arguments: str) -> str:
    """What Helm answers. It reads no settings of whoever runs it.

    Raises:
        HelmFailed: it refused, or there is no Helm.
    """
    helm = executable()
    if helm is None:
        raise HelmFailed("there is no helm: run make helm, or set HELM to one")
    done = subprocess.run(  # noqa: S603 (arguments of ours)
        [helm, *arguments],
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": _NOBODY},
    )
    if done.returncode:
        raise HelmFailed(done.stderr.strip())
    return done.stdout


def template(
    chart: Path, values: Iterable[Path], *more: str, release: str = NAME, namespace: str = NAME
) -> str:
    """The objects of a release with these files of values, as YAML documents.

    Raises:
        HelmFailed: the chart refuses the values, or there is no Helm.
    """
    files = [argument for file in values for argument in ("--values", str(file))]
    where = ("--namespace", namespace, "--kube-version", _KUBERNETES)
    return run("template", release, str(chart), *where, *files, *more)
