"""The profile `restricted` of Kubernetes' Pod Security Standards, and what the chart adds to it.

https://kubernetes.io/docs/concepts/security/pod-security-standards
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from tests.chart.release import Pod

Container = Mapping[str, Any]

_VOLUMES: Final = frozenset(
    {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
)
_SYSCTLS: Final = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_wmem",
    }
)
_SELINUX_TYPES: Final = (
    "",
    "container_t",
    "container_init_t",
    "container_kvm_t",
    "container_engine_t",
)
_SECCOMP: Final = ("RuntimeDefault", "Localhost")
_APPARMOR: Final = (None, "RuntimeDefault", "Localhost")
_PROBES: Final = ("livenessProbe", "readinessProbe", "startupProbe")


def violations(pod: Pod) -> Iterator[str]:
    """Where a pod does not keep to the profile."""
    yield from _of_the_host(pod.spec)
    yield from _of_volumes(pod.spec)
    shared = pod.spec.get("securityContext", {})
    yield from _of_any_context("the pod", shared)
    yield from _of_sysctls(shared)
    for container in pod.containers():
        context = container.get("securityContext", {})
        yield from _of_any_context(container["name"], context)
        for problem in (
            *_of_privileges(context),
            *_of_the_user(context, shared),
            *_of_ports_and_probes(container),
        ):
            yield f"{container['name']}: {problem}"


def _of_the_host(spec: Mapping[str, Any]) -> Iterator[str]:
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            yield f"{key} is set"


def _of_volumes(spec: Mapping[str, Any]) -> Iterator[str]:
    for volume in spec.get("volumes", ()):
        for source in volume.keys() - {"name"} - _VOLUMES:
            yield f"volume {volume['name']}: {source}"


def _of_sysctls(context: Mapping[str, Any]) -> Iterator[str]:
    for sysctl in context.get("sysctls", ()):
        if sysctl["name"] not in _SYSCTLS:
            yield f"sysctl {sysctl['name']}"


def _of_any_context(name: str, context: Mapping[str, Any]) -> Iterator[str]:
    if context.get("appArmorProfile", {}).get("type") not in _APPARMOR:
        yield f"{name}: appArmorProfile.type {context['appArmorProfile']['type']}"
    selinux = context.get("seLinuxOptions", {})
    if selinux.get("type", "") not in _SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
        yield f"{name}: seLinuxOptions {selinux}"
    if context.get("windowsOptions", {}).get("hostProcess"):
        yield f"{name}: windowsOptions.hostProcess"
    if context.get("runAsUser") == 0:
        yield f"{name}: runAsUser 0"


def _of_privileges(context: Mapping[str, Any]) -> Iterator[str]:
    if context.get("privileged"):
        yield "privileged"
    if context.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if context.get("procMount", "Default") != "Default":
        yield f"procMount {context['procMount']}"
    capabilities = context.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", ()):
        yield "capabilities.drop has no ALL"
    if added := set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"}:
        yield f"capabilities.add {added}"


def _of_the_user(context: Mapping[str, Any], shared: Mapping[str, Any]) -> Iterator[str]:
    """What a container says counts; where it says nothing, what the pod says."""
    if context.get("runAsNonRoot", shared.get("runAsNonRoot")) is not True:
        yield "runAsNonRoot is not true"
    seccomp = context.get("seccompProfile", shared.get("seccompProfile", {}))
    if seccomp.get("type") not in _SECCOMP:
        yield f"seccompProfile.type {seccomp.get('type')}"


def _of_ports_and_probes(container: Container) -> Iterator[str]:
    for port in container.get("ports", ()):
        if port.get("hostPort"):
            yield f"hostPort {port['hostPort']}"
    handlers = [container.get(probe, {}) for probe in _PROBES]
    handlers += container.get("lifecycle", {}).values()
    for handler in handlers:
        for kind in ("httpGet", "tcpSocket"):
            if handler.get(kind, {}).get("host"):
                yield f"{kind}.host {handler[kind]['host']}"


def looseness(pod: Pod) -> Iterator[str]:
    """Where a pod does not keep to what the chart promises beyond the profile."""
    may_ask_the_api = pod.spec.get("automountServiceAccountToken") is not False
    if may_ask_the_api and pod.component != "fuser":
        yield "it has a service account's token"
    if pod.spec.get("enableServiceLinks") is not False:
        yield "enableServiceLinks is not false"
    for container in pod.containers():
        for problem in (*_of_files(container), *_of_secrets(container), *_of_resources(container)):
            yield f"{container['name']}: {problem}"


def _of_files(container: Container) -> Iterator[str]:
    if container.get("securityContext", {}).get("readOnlyRootFilesystem") is not True:
        yield "readOnlyRootFilesystem is not true"
    for mount in container.get("volumeMounts", ()):
        if "subPath" in mount:
            yield f"{mount['mountPath']}: what is mounted by subPath is never updated"


def _of_secrets(container: Container) -> Iterator[str]:
    for variable in container.get("env", ()):
        if "secretKeyRef" in variable.get("valueFrom", {}):
            yield f"the variable {variable['name']} is a secret"
    for source in container.get("envFrom", ()):
        if "secretRef" in source:
            yield f"its environment is the Secret {source['secretRef']['name']}"


def _of_resources(container: Container) -> Iterator[str]:
    resources = container.get("resources", {})
    for kind, name in (("requests", "cpu"), ("requests", "memory"), ("limits", "memory")):
        if name not in resources.get(kind, {}):
            yield f"resources.{kind} has no {name}"
