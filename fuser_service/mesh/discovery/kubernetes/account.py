"""Who a pod is on its cluster, and how it reaches the API server."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kubernetes.aio import client
from kubernetes.aio.config.config_exception import ConfigException
from kubernetes.aio.config.incluster_config import InClusterConfigLoader

from specfuse.errors import Misconfigured

_FOLDER: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """The service account of the pod that this process runs in, in files that Kubernetes renews.

    `environment` has the address of the API server, and the name of the pod.
    """

    folder: Path
    environment: Mapping[str, str]

    @classmethod
    def of_this_pod(cls) -> ServiceAccount:
        """Where Kubernetes puts it."""
        return cls(_FOLDER, os.environ)

    @property
    def pod(self) -> str:
        """The pod's name: `POD_NAME`, else `HOSTNAME`, which differs on the host's network only."""
        return self.environment.get("POD_NAME") or self.environment.get("HOSTNAME", "")

    def namespace(self) -> str:
        """The pod's namespace.

        Raises:
            Misconfigured: there is no file that says it.
        """
        try:
            return (self.folder / "namespace").read_text(encoding="utf-8").strip()
        except OSError as error:
            raise _not_in_a_pod(f"{error.filename}: {error.strerror}") from error

    def configuration(self) -> Any:  # noqa: ANN401 (the client has no types that can be checked)
        """Of a client that has the token and the authorities of now, and reads the token again.

        Raises:
            Misconfigured: this is no pod with a service account.
        """
        configuration = client.Configuration()
        # The way to the API server is direct: no proxies and no .netrc of the environment.
        configuration.client_session_kwargs = {"trust_env": False}
        # Chain and name are checked as ever; many clusters' certificates are not strictly RFC 5280.
        configuration.disable_strict_ssl_verification = True
        loader = InClusterConfigLoader(
            token_filename=str(self.folder / "token"),
            cert_filename=str(self.folder / "ca.crt"),
            environ=self.environment,
        )
        try:
            loader.load_and_set(configuration)
        except (ConfigException, OSError) as error:
            raise _not_in_a_pod(str(error)) from error
        return configuration


def _not_in_a_pod(detail: str) -> Misconfigured:
    return Misconfigured(
        f"kubernetes: needs a pod's service account ({detail}); run the fuser in a pod with "
        "automountServiceAccountToken, or use endpoints or dns"
    )
