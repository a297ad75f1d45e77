"""Where the programs are that a cluster is made of. They are no part of this repository."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

from deploy.helm.generate import helm
from tests.support.certificates import OPENSSL

CONTROL_PLANE: Final = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
_USUAL_PLACE: Final = "/usr/local/kubebuilder/bin"
_NAMESPACES: Final = ("ip", "unshare", "nsenter", "mount")


def assets() -> Path:
    """Where the control plane's programs are: where `KUBEBUILDER_ASSETS` says, or usually."""
    return Path(os.environ.get("KUBEBUILDER_ASSETS", _USUAL_PLACE))


def reason_against() -> str:
    """Why there can be no cluster here; empty if there can."""
    if absent := [one for one in CONTROL_PLANE if not (assets() / one).exists()]:
        return f"needs {', '.join(absent)} in {assets()} (or KUBEBUILDER_ASSETS)"
    if os.geteuid() != 0:
        return "needs root, for network and mount namespaces"
    if absent := [one for one in _NAMESPACES if shutil.which(one) is None]:
        return f"needs {', '.join(absent)}: util-linux and iproute2"
    if helm.executable() is None:
        return "needs helm: make helm"
    return "" if OPENSSL else "needs openssl"
