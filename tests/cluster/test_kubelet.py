"""The kubelet of these tests does what the real one does, as the API shows it and pods see it."""

from __future__ import annotations

import asyncio
import textwrap
import urllib.request
from typing import Any

import pytest

from tests.cluster import manifests
from tests.cluster.api import ApiError, Object, Objects
from tests.cluster.cluster import Cluster
from tests.cluster.manifests import IDLE, container, pod
from tests.cluster.observing import (
    condition_of,
    container_of,
    is_true,
    phase_of,
    ready_addresses_of,
)

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(900),
]


def python(code: str, **more: Any) -> Object:
    """A container that runs this code."""
    return container("-c", textwrap.dedent(code), **more)


def once(name: str, code: str, *, spec: Object | None = None, **more: Any) -> Object:
    """A pod that runs this code to its end; `more` is for the container, `spec` for the pod."""
    return pod(name, python(code, **more), restartPolicy="Never", **(spec or {}))


async def test_a_pod_has_an_address_of_its_own_and_knows_itself(
    cluster: Cluster, namespace: str
) -> None:
    code = """
        import os, socket
        found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        found.connect((os.environ["KUBERNETES_SERVICE_HOST"], 9))
        assert found.getsockname()[0] == os.environ["ADDRESS"]
        assert socket.gethostname() == os.environ["NAME"] == "self"
        assert socket.gethostbyname("self") == os.environ["ADDRESS"]
        print(os.environ["GREETING"], os.environ["CPU"])
    """
    env = [
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
        {"name": "GREETING", "value": "$(NAME) at $(ADDRESS), $$(NAME)"},
    ]
    one = once("self", code, env=env, resources={"limits": {"cpu": "1500m"}})
    log = await cluster.run_to_end(one, namespace)
    status = (await cluster.api.get("pods", "self", namespace))["status"]
    assert log == f"self at {status['podIP']}, $(NAME) 2\n"


async def test_a_container_may_do_no_more_than_its_security_context_says(
    cluster: Cluster, namespace: str
) -> None:
    code = """
        import os, pathlib
        assert (os.getuid(), os.getgid(), set(os.getgroups())) == (1234, 2345, {3456})
        status = pathlib.Path("/proc/self/status").read_text()
        for line in ("CapEff:\\t0000000000000000", "CapBnd:\\t0000000000000000", "NoNewPrivs:\\t1"):
            assert line in status, status
        for place in ("/file", "/tmp/file", "/usr/file", "/secret/file"):
            try:
                open(place, "w")
            except OSError:
                continue
            raise AssertionError(place)
        scratch = pathlib.Path("/scratch/file")
        scratch.write_text("mine")
        assert scratch.stat().st_gid == 3456
        assert pathlib.Path("/secret/key").read_text() == "hidden"
    """
    context = {
        "runAsUser": 1234,
        "runAsGroup": 2345,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    mounts = [{"name": one, "mountPath": f"/{one}"} for one in ("scratch", "secret")]
    spec = {
        "securityContext": {"fsGroup": 3456},
        "volumes": [
            {"name": "scratch", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            {"name": "secret", "secret": {"secretName": "s", "defaultMode": 0o400}},
        ],
    }
    await cluster.api.apply(manifests.secret("s", key="hidden"), namespace)
    one = once("bound", code, spec=spec, securityContext=context, volumeMounts=mounts)
    await cluster.run_to_end(one, namespace)


@pytest.mark.parametrize(
    ("container", "reason"),
    [
        (container(image="nowhere/unknown:1"), "ImagePullBackOff"),
        (
            container(image="root-python", securityContext={"runAsNonRoot": True}),
            "CreateContainerConfigError",
        ),
        (
            container(envFrom=[{"configMapRef": {"name": "none"}}]),
            "CreateContainerConfigError",
        ),
    ],
    ids=["unknown image", "root", "no such settings"],
)
async def test_what_cannot_be_started_says_why(
    cluster: Cluster, namespace: str, container: Object, reason: str
) -> None:
    await cluster.api.create("pods", pod("stuck", container), namespace)

    def says_why(pods: Objects) -> bool:
        state = container_of(pods.get(f"{namespace}/stuck")).get("state", {})
        return state.get("waiting", {}).get("reason") == reason

    await cluster.api.until("pods", says_why, namespace)


async def test_files_follow_the_objects_they_show_all_at_once(
    cluster: Cluster, namespace: str
) -> None:
    """Two keys that always change together are never seen apart."""
    code = """
        import pathlib
        folder = pathlib.Path("/settings")
        def read():
            data = (folder / "..data").resolve()
            try:
                return (data / "left").read_text(), (data / "right").read_text()
            except FileNotFoundError:  # it was swapped in between
                return read()
        while read()[0] != "new":
            left, right = read()
            assert left == right, (left, right)
        assert (folder / "left").read_text() == "new"
        assert not (folder / "gone").exists()
        assert (folder / "nested" / "key").read_text() == "k"
        assert (folder / "app").read_text() == "me"
    """
    settings = manifests.config_map("settings", left="old", right="old", gone="x")
    await cluster.api.apply(settings, namespace)
    await cluster.api.apply(manifests.secret("keys", key="k"), namespace)
    sources = [
        {"configMap": {"name": "settings"}},
        {"secret": {"name": "keys", "items": [{"key": "key", "path": "nested/key"}]}},
        {"downwardAPI": {"items": [{"path": "app", "fieldRef": _APP}]}},
    ]
    spec = {"volumes": [{"name": "all", "projected": {"sources": sources}}]}
    mounts = [{"name": "all", "mountPath": "/settings"}]
    one = once("follower", code, spec=spec, volumeMounts=mounts)
    one["metadata"]["labels"] = {"app": "me"}
    running = asyncio.create_task(cluster.run_to_end(one, namespace))
    await cluster.api.until(
        "pods", lambda there: is_true(there.get(f"{namespace}/follower"), "Ready"), namespace
    )
    settings = manifests.config_map("settings", left="new", right="new")
    await cluster.api.replace("configmaps", settings, namespace)
    await running


_APP = {"fieldPath": "metadata.labels['app']"}


async def test_a_pod_asks_the_api_as_its_service_account_and_may_do_no_more(
    cluster: Cluster, namespace: str
) -> None:
    code = """
        import os, pathlib, ssl, urllib.error, urllib.request
        folder = pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount")
        url = "https://{KUBERNETES_SERVICE_HOST}:{KUBERNETES_SERVICE_PORT}/api/v1/namespaces/"
        url = url.format(**os.environ) + (folder / "namespace").read_text()
        trust = ssl.create_default_context(cafile=str(folder / "ca.crt"))
        headers = {"authorization": "Bearer " + (folder / "token").read_text()}
        def ask(what):
            request = urllib.request.Request(url + what, headers=headers)
            try:
                return urllib.request.urlopen(request, context=trust).status
            except urllib.error.HTTPError as error:
                return error.code
        assert ask("/configmaps") == 200
        assert ask("/secrets") == 403
    """
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}]
    role = {"kind": "Role", "name": "reader", "apiGroup": "rbac.authorization.k8s.io"}
    subject = {"kind": "ServiceAccount", "name": "default", "namespace": namespace}
    for kind, more in (
        ("Role", {"rules": rules}),
        ("RoleBinding", {"roleRef": role, "subjects": [subject]}),
    ):
        version = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind}
        await cluster.api.apply(version | {"metadata": {"name": "reader"}} | more, namespace)
    await cluster.run_to_end(once("asker", code), namespace)


async def test_containers_that_come_first_come_first_and_sidecars_stay(
    cluster: Cluster, namespace: str
) -> None:
    write = "import pathlib, sys; open('/log/log', 'a').write(sys.argv[1] + ' ')"
    stay = """
        import signal, sys
        def note(what): open('/log/log', 'a').write(what + ' ')
        signal.signal(signal.SIGTERM, lambda *_: (note('sidecar-ends'), sys.exit()))
        note('sidecar')
        open('/tmp/started', 'w').close()
        signal.pause()
    """
    mounts = [{"name": "log", "mountPath": "/log"}]
    sidecar = python(
        stay,
        name="sidecar",
        restartPolicy="Always",
        volumeMounts=mounts,
        startupProbe={"exec": {"command": ["test", "-e", "/tmp/started"]}, "periodSeconds": 1},
    )
    first = [
        container("-c", write, "first", name="first", volumeMounts=mounts),
        sidecar,
        container("-c", write, "second", name="second", volumeMounts=mounts),
    ]
    reading = "print(open('/log/log').read()); open('/log/log', 'a').write('main ')"
    one = pod(
        "ordered",
        container("-c", reading, volumeMounts=mounts),
        initContainers=first,
        volumes=[{"name": "log", "emptyDir": {}}],
        restartPolicy="Never",
    )
    log = await cluster.run_to_end(one, namespace)
    assert log.split() == ["first", "sidecar", "second"]
    status = (await cluster.api.get("pods", "ordered", namespace))["status"]
    ends = [one["state"]["terminated"] for one in status["initContainerStatuses"]]
    assert [end["exitCode"] for end in ends] == [0, 0, 0]


async def test_what_fails_is_started_again_less_and_less_often(
    cluster: Cluster, namespace: str
) -> None:
    failing = pod("failing", container("-c", "raise SystemExit(3)"))
    await cluster.api.create("pods", failing, namespace)

    def backs_off(pods: Objects) -> bool:
        status = container_of(pods.get(f"{namespace}/failing"))
        reason = status.get("state", {}).get("waiting", {}).get("reason")
        return reason == "CrashLoopBackOff" and status["restartCount"] >= 2

    pods = await cluster.api.until("pods", backs_off, namespace)
    failing = pods[f"{namespace}/failing"]
    assert container_of(failing)["lastState"]["terminated"]["exitCode"] == 3
    assert phase_of(failing) == "Running"


SERVING = """
    import http.server, pathlib
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(503 if pathlib.Path("/tmp" + self.path).is_file() else 200)
            self.end_headers()
        def do_POST(self):
            pathlib.Path("/tmp" + self.path).touch()
            self.send_response(200)
            self.end_headers()
    http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"""
"""Answers a path with 200 until that was posted to; then with 503."""


async def test_a_pod_that_is_not_ready_is_no_endpoint_and_one_that_is_not_alive_starts_again(
    cluster: Cluster, namespace: str
) -> None:
    quick = {"periodSeconds": 1, "failureThreshold": 1}
    probes = {
        f"{name}Probe": quick | {"httpGet": {"port": "http", "path": f"/{name}"}}
        for name in ("startup", "readiness", "liveness")
    }
    probes["startupProbe"]["failureThreshold"] = 30
    ports = [{"name": "http", "containerPort": 8000}]
    template = pod("serving", python(SERVING, ports=ports, **probes))
    await cluster.api.apply(manifests.deployment("serving", 2, template), namespace)
    await cluster.api.apply(manifests.service("serving", [8000]), namespace)
    slices = await cluster.api.until(
        "endpointslices", lambda there: len(ready_addresses_of(there)) == 2, namespace
    )
    first, second = ready_addresses_of(slices)

    await post(f"http://{first}:8000/readiness")
    await cluster.api.until(
        "endpointslices", lambda there: ready_addresses_of(there) == [second], namespace
    )
    await post(f"http://{second}:8000/liveness")

    def has_started_again(pods: Objects) -> bool:
        counts = {
            one["status"]["podIP"]: container_of(one)["restartCount"] for one in pods.values()
        }
        return counts == {first: 0, second: 1}

    await cluster.api.until("pods", has_started_again, namespace)


async def test_services_are_reached_by_name_and_by_address(
    cluster: Cluster, namespace: str
) -> None:
    template = pod(
        "serving", python(SERVING, readinessProbe={"tcpSocket": {"port": 8000}, "periodSeconds": 1})
    )
    await cluster.api.apply(manifests.deployment("serving", 2, template), namespace)
    await cluster.api.apply(manifests.service("serving", [8000]), namespace)
    headless = manifests.service("serving-all", [8000], headless=True)
    headless["spec"]["selector"] = {"app": "serving"}
    await cluster.api.apply(headless, namespace)
    await cluster.api.until(
        "endpointslices", lambda there: len(ready_addresses_of(there)) == 4, namespace
    )
    code = f"""
        import socket, urllib.request
        def opens(name):
            try:
                return urllib.request.urlopen(f"http://{{name}}:8000/").status == 200
            except OSError:
                return False
        def found():
            return socket.getaddrinfo("serving-all", 8000, type=socket.SOCK_STREAM)
        # The node and the proxy hear of them as we do, but not before.
        for name in ("serving", "serving.{namespace}.svc.cluster.local", "serving-all"):
            while not opens(name):
                pass
        while len(found()) != 2:
            pass
    """
    await cluster.run_to_end(once("caller", code), namespace)


ENDING = """
    import pathlib, signal
    log = pathlib.Path("/tmp/log")
    signal.signal(signal.SIGTERM, lambda *_: print(log.read_text(), "sigterm", flush=True))
    log.write_text("began ")
    while True:
        signal.pause()
"""
"""Does not end by SIGTERM, but says what there was before."""


async def test_a_pod_ends_by_its_hook_then_sigterm_then_sigkill(
    cluster: Cluster, namespace: str
) -> None:
    hook = {"exec": {"command": ["sh", "-c", "echo hook >> /tmp/log"]}}
    began = {"exec": {"command": ["test", "-s", "/tmp/log"]}, "periodSeconds": 1}
    ending = python(ENDING, lifecycle={"preStop": hook}, readinessProbe=began)
    one = pod("ending", ending, terminationGracePeriodSeconds=3)
    one = await ready(cluster, one, namespace)
    await cluster.api.delete("pods", "ending", namespace)
    pods = await cluster.api.until(
        "pods", lambda there: phase_of(there[f"{namespace}/ending"]) == "Failed", namespace
    )
    ended = container_of(pods[f"{namespace}/ending"])["state"]["terminated"]
    assert ended["exitCode"] == 128 + 9
    await cluster.api.until("pods", lambda there: not there, namespace)
    log = cluster.log_of(namespace, "ending")
    assert log.split() == ["began", "hook", "sigterm"]


async def test_nothing_of_a_pod_is_left_on_its_node(cluster: Cluster, namespace: str) -> None:
    mounts = [{"name": "memory", "mountPath": "/memory"}]
    volumes = [{"name": "memory", "emptyDir": {"medium": "Memory"}}]
    forks = container("-c", "import os, signal; os.fork(); signal.pause()", volumeMounts=mounts)
    before = cluster.network.links
    one = await ready(cluster, pod("forking", forks, volumes=volumes), namespace)
    folder = cluster.nodes[one["spec"]["nodeName"]].folder / "pods" / one["metadata"]["uid"]
    assert folder.exists()
    assert cluster.network.links > before
    await cluster.api.delete("pods", "forking", namespace)
    await cluster.api.until("pods", lambda there: not there, namespace)
    assert not folder.exists()
    assert cluster.network.links <= before


async def test_pods_of_a_node_that_is_gone_are_replaced(cluster: Cluster, namespace: str) -> None:
    await cluster.add_node("node-c", zone="c")
    template = pod("moved", container(*IDLE), nodeSelector={"kubernetes.io/os": "linux"})
    template["spec"]["affinity"] = {"nodeAffinity": _RATHER_ON_C}
    await cluster.api.apply(manifests.deployment("moved", 1, template), namespace)

    def runs_on(*nodes: str) -> Any:
        def happened(pods: Objects) -> bool:
            return any(
                is_true(one, "Ready") and one["spec"].get("nodeName") in nodes
                for one in pods.values()
            )

        return happened

    await cluster.api.until("pods", runs_on("node-c"), namespace)
    await cluster.nodes["node-c"].kill()
    await cluster.api.until(
        "nodes", lambda nodes: condition_of(nodes["node-c"], "Ready") == "Unknown"
    )
    await cluster.api.until("pods", runs_on("node-a", "node-b"), namespace)
    await cluster.remove_node("node-c")


_RATHER_ON_C = {
    "preferredDuringSchedulingIgnoredDuringExecution": [
        {
            "weight": 100,
            "preference": {
                "matchExpressions": [
                    {"key": "kubernetes.io/hostname", "operator": "In", "values": ["node-c"]}
                ]
            },
        }
    ]
}


async def test_a_restricted_namespace_takes_no_other_pods(cluster: Cluster) -> None:
    await cluster.create_namespace(manifests.restricted_namespace("restricted"))
    with pytest.raises(ApiError) as refused:
        await cluster.api.create("pods", pod("loose", container(*IDLE)), "restricted")
    assert 'violates PodSecurity "restricted' in refused.value.message


async def ready(cluster: Cluster, one: Object, namespace: str) -> Object:
    """Creates a pod; what the API has of it once it is ready."""
    await cluster.api.create("pods", one, namespace)
    key = f"{namespace}/{one['metadata']['name']}"
    pods = await cluster.api.until(
        "pods", lambda there: is_true(there.get(key), "Ready"), namespace
    )
    return pods[key]


async def post(url: str) -> None:
    request = urllib.request.Request(url, method="POST")
    await asyncio.to_thread(lambda: urllib.request.urlopen(request, timeout=5).close())
