"""Every way to find a member's replicas. A new one is a folder beside this file and a field here.

The field is named like the folder, and its type is that of its section of the settings. In the
folder there are

    settings.py    the section's type, and `contradictions(section)`: what is wrong as a whole
    discovery.py   `open_discovery(section)`, which returns a `Discovery`; imported when first used
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

from fuser_service.mesh.discovery.dns.settings import DnsSection
from fuser_service.mesh.discovery.endpoints.settings import Endpoints
from fuser_service.mesh.discovery.kubernetes.settings import KubernetesSection
from fuser_service.mesh.discovery.port import Discovery
from specfuse.config.settings_file import Problem
from specfuse.config.types import Section
from specfuse.errors import Misconfigured


class Discoveries(Section):
    """The ways to find a member's replicas, of which its settings say one."""

    endpoints: Endpoints | None = None
    """`host:port` of each replica. They must serve the same model."""
    dns: DnsSection | None = None
    """A name that has the address of each replica, and is resolved again and again."""
    kubernetes: KubernetesSection | None = None
    """EndpointSlices that have the replicas, of which the API server tells as they change."""

    def contradictions(self) -> Iterator[Problem]:
        """What is wrong with the chosen way, or that none or several are given."""
        chosen = self._chosen()
        if not chosen:
            first, *others = Discoveries.model_fields
            or_else = f", or else one of: {', '.join(others)}" if others else ""
            yield Problem((first,), f"is required{or_else}")
        for key, section in chosen.items():
            module = import_module(f"{__package__}.{key}.settings")
            for problem in module.contradictions(section):
                yield Problem((key, *problem.key), problem.text)
        for key in list(chosen)[1:]:
            yield Problem((key,), f"contradicts {next(iter(chosen))}; drop one")

    def open(self) -> Discovery:
        """The discovery that the settings, already checked, ask for."""
        ((key, section),) = self._chosen().items()
        try:
            module = import_module(f"{__package__}.{key}.discovery")
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] == __package__.partition(".")[0]:
                raise  # a mistake of ours, which nothing that can be installed would mend
            raise Misconfigured(
                f"{key}: needs the Python package {error.name}, which is not installed"
            ) from error
        discovery: Discovery = module.open_discovery(section)
        return discovery

    def _chosen(self) -> dict[str, Any]:
        sections = {key: getattr(self, key) for key in Discoveries.model_fields}
        return {key: section for key, section in sections.items() if section is not None}
