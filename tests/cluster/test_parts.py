"""What the nodes of the tests are made of, as far as it takes no cluster."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.api import Object, path_of, plural_of
from tests.cluster.judging import problems_of
from tests.cluster.kubelet.downward import amount_of, field_of, resource_of
from tests.cluster.kubelet.environment import command_line_of, environment_of, expanded
from tests.cluster.kubelet.identity import Identity, Refused
from tests.cluster.kubelet.images import Image, image_of
from tests.cluster.kubelet.payload import File, Files, Missing, Sources, files_of, places_of
from tests.cluster.kubelet.status import Record, phase_of, status_of
from tests.cluster.kubelet.volumes import swap
from tests.robustness.history import Answered, History

POD: Object = {
    "metadata": {
        "name": "one",
        "namespace": "here",
        "uid": "u-1",
        "labels": {"app": "a", "b": "c"},
    },
    "spec": {"containers": [{"name": "main", "image": "python"}], "nodeName": "node"},
}
OBJECTS: dict[tuple[str, str, str], Object] = {
    ("configmaps", "here", "settings"): {"data": {"a.yaml": "a: 1", "b.yaml": "b: 2"}},
    ("secrets", "here", "keys"): {
        "type": "Opaque",
        "data": {"key": base64.b64encode(b"hidden").decode()},
    },
}
ITEM = {"key": "a.yaml", "path": "x/y"}
OWN_NAME = {"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}
SOURCES = Sources(OBJECTS.get, lambda wanted: f"token for {wanted.get('audience')}", "10.0.0.9")


@pytest.mark.parametrize(
    ("volume", "files"),
    [
        ({"emptyDir": {}}, None),
        (
            {"configMap": {"name": "settings"}},
            {"a.yaml": File(b"a: 1"), "b.yaml": File(b"b: 2")},
        ),
        (
            {"secret": {"secretName": "keys", "defaultMode": 0o400}},
            {"key": File(b"hidden", 0o400)},
        ),
        ({"configMap": {"name": "none", "optional": True}}, {}),
        (
            {
                "projected": {
                    "sources": [
                        {
                            "configMap": {
                                "name": "settings",
                                "items": [{"key": "a.yaml", "path": "x/y"}],
                            }
                        },
                        {"serviceAccountToken": {"path": "token", "audience": "who"}},
                        {
                            "downwardAPI": {
                                "items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]
                            }
                        },
                    ]
                }
            },
            {"x/y": File(b"a: 1"), "token": File(b"token for who"), "n": File(b"one")},
        ),
    ],
    ids=["of no files", "a map", "a secret", "optional", "projected"],
)
def test_files_are_what_a_volume_says(volume: Object, files: Files | None) -> None:
    assert files_of(volume, POD, SOURCES) == files


@pytest.mark.parametrize(
    "volume",
    [
        {"configMap": {"name": "none"}},
        {"secret": {"secretName": "keys", "items": [{"key": "other", "path": "p"}]}},
    ],
    ids=["no object", "no key"],
)
def test_what_is_not_there_and_not_optional_is_missing(volume: Object) -> None:
    with pytest.raises(Missing):
        files_of(volume, POD, SOURCES)


def test_a_token_is_for_its_user_only() -> None:
    context = {"runAsUser": 7, "fsGroup": 8}
    pod = POD | {"spec": POD["spec"] | {"securityContext": context}}
    volume = {"projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
    assert files_of(volume, pod, SOURCES) == {"token": File(b"token for None", 0o600, 7)}


def test_a_pod_needs_the_objects_that_it_names() -> None:
    spec = {
        "volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "s"}}]}}],
        "containers": [
            {
                "name": "main",
                "env": [{"name": "E", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}],
                "envFrom": [{"secretRef": {"name": "f"}}],
            }
        ],
    }
    assert places_of(POD | {"spec": spec}) == {
        ("secrets", "here", "s"),
        ("secrets", "here", "f"),
        ("configmaps", "here", "c"),
    }


def test_files_are_swapped_all_at_once_and_what_is_gone_is_gone(tmp_path: Path) -> None:
    swap(tmp_path, {"a": File(b"1"), "folder/b": File(b"2", 0o400)})
    first = (tmp_path / "..data").resolve()
    swap(tmp_path, {"a": File(b"1"), "folder/b": File(b"2", 0o400)})
    assert (tmp_path / "..data").resolve() == first  # nothing changed
    assert (tmp_path / "folder" / "b").read_bytes() == b"2"
    swap(tmp_path, {"a": File(b"3")})
    assert (tmp_path / "a").read_bytes() == b"3"
    assert not (tmp_path / "folder").is_symlink()
    assert not first.exists()


def test_an_environment_is_made_in_order_of_all_its_sources() -> None:
    container: dict[str, Any] = {
        "name": "main",
        "resources": {"limits": {"memory": "1Gi"}},
        "envFrom": [{"prefix": "K_", "secretRef": {"name": "keys"}}],
        "env": [
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "URL", "value": "http://$(IP):$(PORT)/$$(IP)/$(NOT_THERE)"},
            {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "a.yaml"}}},
            {
                "name": "GONE",
                "valueFrom": {"secretKeyRef": {"name": "none", "key": "k", "optional": True}},
            },
        ],
    }
    assert environment_of(container, POD, SOURCES, {"PORT": "80"}) == {
        "PORT": "80",
        "K_key": "hidden",
        "IP": "10.0.0.9",
        "URL": "http://10.0.0.9:80/$(IP)/$(NOT_THERE)",
        "A": "a: 1",
    }


def test_a_command_takes_the_place_of_the_images_and_arguments_follow() -> None:
    image = Image(("specfuse",))
    assert command_line_of({"args": ["$(A)"]}, image, {"A": "b"}) == ["specfuse", "b"]
    assert command_line_of({"command": ["sh"], "args": ["-c"]}, image, {}) == ["sh", "-c"]
    assert expanded("$$$(A)", {"A": "b"}) == "$b"


def test_a_pod_is_told_of_itself() -> None:
    assert field_of(POD, "metadata.labels['app']", "") == "a"
    assert field_of(POD, "metadata.labels", "") == 'app="a"\nb="c"'
    assert field_of(POD, "spec.nodeName", "") == "node"
    limits = {"limits": {"cpu": "1500m", "memory": "1Gi"}}
    pod = POD | {"spec": {"containers": [{"name": "main", "resources": limits}]}}
    assert resource_of(pod, {"resource": "limits.cpu"}, "main") == "2"
    wanted = {"resource": "limits.memory", "containerName": "main", "divisor": "1Mi"}
    assert resource_of(pod, wanted) == "1024"


def test_quantities_are_numbers() -> None:
    assert [float(amount_of(one)) for one in ("2", "500m", "1k", "2Mi")] == [2, 0.5, 1000, 2 << 20]


def test_what_a_container_says_of_its_user_counts_more_than_what_the_pod_says() -> None:
    image = Image(user=5)
    pod = {"spec": {"securityContext": {"runAsUser": 7, "runAsNonRoot": True, "fsGroup": 8}}}
    assert (Identity.of({}, pod, image).user, Identity.of({}, {"spec": {}}, image).user) == (7, 5)
    one = Identity.of({"securityContext": {"runAsUser": 9, "runAsGroup": 3}}, pod, image)
    assert (one.user, one.group, one.groups) == (9, 3, (8,))
    with pytest.raises(Refused):
        Identity.of({"securityContext": {"runAsUser": 0}}, pod, image)


def test_an_image_is_known_by_the_last_part_of_its_name() -> None:
    known = image_of("specfuse-model")
    assert known is not None
    for reference in (
        "registry.example:5000/ai/specfuse-model:1.0-cuda",
        "specfuse-model@sha256:0",
    ):
        assert image_of(reference) == known
    assert image_of("specfuse") is None


def ended(code: int, **more: Any) -> Record:
    return Record("c", "i", state={"terminated": {"exitCode": code}}, over=True, id="p", **more)


def running(**more: Any) -> Record:
    return Record("c", "i", state={"running": {}}, id="p", started=True, ready=True, **more)


@pytest.mark.parametrize(
    ("first", "main", "phase"),
    [
        ([], [Record("c", "i")], "Pending"),
        ([Record("c", "i")], [Record("c", "i")], "Pending"),
        ([ended(1)], [Record("c", "i")], "Failed"),
        ([ended(0)], [running()], "Running"),
        ([], [running(), ended(1)], "Running"),
        ([], [ended(0), ended(1)], "Failed"),
        ([ended(0)], [ended(0)], "Succeeded"),
        ([running(sidecar=True)], [ended(0)], "Running"),
        ([ended(137, sidecar=True)], [ended(0)], "Succeeded"),
    ],
)
def test_a_phase_follows_from_the_containers(
    first: list[Record], main: list[Record], phase: str
) -> None:
    assert phase_of(first, main) == phase


def test_a_condition_keeps_its_time_until_it_changes() -> None:
    addresses = {"node": "10.0.0.1", "pod": "10.0.0.9"}
    old = {
        "startTime": "then",
        "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "then"},
            {"type": "Initialized", "status": "False", "lastTransitionTime": "then"},
        ],
    }
    status = status_of([], [running()], old, addresses)
    since = {one["type"]: one["lastTransitionTime"] for one in status["conditions"]}
    assert since["Ready"] == "then" != since["Initialized"]
    assert (status["startTime"], status["podIP"]) == ("then", "10.0.0.9")


def test_resources_have_their_paths() -> None:
    assert path_of("pods", "here", "one/status") == "/api/v1/namespaces/here/pods/one/status"
    assert path_of("deployments") == "/apis/apps/v1/deployments"
    kinds = ("Pod", "NetworkPolicy", "Ingress", "EndpointSlice")
    assert [plural_of(one) for one in kinds] == [
        "pods",
        "networkpolicies",
        "ingresses",
        "endpointslices",
    ]


@pytest.mark.parametrize(
    ("text", "resumed", "good"),
    [
        ("a b", 0, True),
        ("a2 b2", 0, True),
        ("a b2", 0, False),
        ("a b2", 1, True),
        ("a c", 1, False),
    ],
)
def test_only_an_answer_that_was_gone_on_with_may_be_of_two_editions(
    text: str, resumed: int, good: bool
) -> None:
    history = History()
    asked = history.ask("q", 0.0, 10.0)
    history.end(Answered(asked.call, 1.0, text, (text,), resumed=resumed))
    assert (problems_of(history, [{"q": "a b"}, {"q": "a2 b2"}]) == []) is good
