"""A mesh of scripted models on a cluster, and what it is to answer."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

from specfuse.client import AsyncClient
from tests.cluster import manifests
from tests.cluster.api import Object, Objects
from tests.cluster.cluster import Cluster
from tests.cluster.observing import container_of, is_true
from tests.cluster.release import Release
from tests.robustness import questions

GRPC, HTTP = 50050, 8000
"""The ports of the fuser's Service."""

_MODEL_METRICS: Final = 9091
_MEMBER: Final = "specfuse.io/member"
_COMPONENT: Final = "app.kubernetes.io/component"
_ANSWER_SECONDS: Final = 120.0

EVERYBODY: Final = "everybody"
"""The ensemble of all members that know something."""

SLOW: Final = "slow"
"""A member that takes its time, and an ensemble of it alone."""

SLOW_ANSWER: Final = " ".join(f"word-{number}" for number in range(30))
_SLOW_SECONDS: Final = 0.4

MEMBERS: Final = (*questions.MEMBERS, SLOW)

LINGER_SECONDS: Final = 60
"""How long a pod that is to end serves on at most. It is more than any answer takes."""

SMALL: Final = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}}


def values(edition: str = "") -> dict[str, Any]:
    """The chart's values: each of the members in two replicas, and two fusers.

    Another `edition` of the models knows other answers.
    """
    return {
        "modelDefaults": {
            "backend": "scripted",
            "replicas": 2,
            "resources": SMALL,
            "startupSeconds": 120,
            "lingerSeconds": LINGER_SECONDS,
            "drainSeconds": 5,
        },
        "models": {
            **{name: {"scripted": _script(name, edition)} for name in questions.MEMBERS},
            SLOW: {"scripted": {"lines": [{"answer": SLOW_ANSWER, "seconds": _SLOW_SECONDS}]}},
        },
        "ensembles": {
            EVERYBODY: questions.ensemble() | _PATIENT,
            SLOW: {"members": [SLOW], "segment_tokens": 5, "exit": {"policy": "none"}},
        },
        "fuser": {
            "replicas": 2,
            "resources": SMALL,
            "preStopSeconds": 3,
            "drainSeconds": 15,
            "tenancy": {"anonymous": "allow"},
        },
        # What is at two places at once is what stays when one of them is gone.
        "placement": {"sameZone": "ignore"},
        "tests": {"ensemble": EVERYBODY, "question": questions.QUESTIONS[0]},
    }


_PATIENT: Final = {"straggler_grace_seconds": 30.0, "round_timeout_seconds": 60.0}
"""Nobody is late because the machine is busy."""


def _script(name: str, edition: str) -> dict[str, Any]:
    script: dict[str, Any] = questions.script(name)["scripted"]
    for line in script["lines"]:
        if edition and "answer" in line and line.get("when") != questions.LONG:
            line["answer"] = " ".join(f"{word}{edition}" for word in line["answer"].split())
    return script


@dataclass(frozen=True, slots=True)
class Mesh:
    """A release of such values, how it is asked, and what it answers when nothing is wrong."""

    release: Release
    open_client: Callable[[Sequence[str]], AsyncClient] = AsyncClient
    reference: dict[str, str] = field(default_factory=dict)

    @property
    def cluster(self) -> Cluster:
        """Where it is."""
        return self.release.cluster

    @property
    def namespace(self) -> str:
        """Its namespace."""
        return self.release.name

    def deployment(self, part: str) -> str:
        """The name of the Deployment of the fuser, or of a member."""
        return f"{self.namespace}-specfuse-" + (part if part == "fuser" else f"model-{part}")

    async def pods(self, part: str) -> list[Object]:
        """The pods of the fuser, or of a member, but those that are ending."""
        pods = await self.cluster.api.list("pods", self.namespace)
        return [pod for pod in of(pods, part) if "deletionTimestamp" not in pod["metadata"]]

    async def lives(self) -> dict[str, int]:
        """How often the container of each pod was started again, by the pod's uid."""
        pods = await self.cluster.api.list("pods", self.namespace)
        return {
            pod["metadata"]["uid"]: container_of(pod, one["name"])["restartCount"]
            for pod in pods.values()
            for one in pod["spec"]["containers"]
        }

    async def scale(self, part: str, replicas: int) -> None:
        """Says how many pods there should be."""
        body = {"spec": {"replicas": replicas}}
        name = f"{self.deployment(part)}/scale"
        await self.cluster.api.merge("deployments", name, body, self.namespace)

    async def until_pods_are(self, **counts: int) -> None:
        """Returns when there are so many pods of each part, all ready, and none that is ending."""

        def happened(pods: Objects) -> bool:
            return all(map(_is_there, pods.values())) and all(
                len(of(pods, part)) == count for part, count in counts.items()
            )

        await self.cluster.api.until("pods", happened, self.namespace)

    async def is_whole(self) -> None:
        """Returns when everything is there as it was installed."""
        await self.release.until_available()
        await self.until_pods_are(**dict.fromkeys((*MEMBERS, "fuser"), 2))

    async def addresses(self) -> list[str]:
        """Where callers ask: at the Service."""
        return await self.release.addresses(GRPC)

    async def answers(self) -> dict[str, str]:
        """What it answers to each question, when all have a part in it."""
        found = {}
        async with self.open_client(await self.addresses()) as client:
            for question in questions.QUESTIONS:
                answer = await client.generate(
                    question, ensemble=EVERYBODY, timeout=_ANSWER_SECONDS
                )
                assert not answer.degraded, answer.lost
                found[question] = answer.text
        return found


async def installed_mesh(cluster: Cluster, name: str) -> Mesh:
    """A mesh in a restricted namespace of its own, once it is ready."""
    await cluster.create_namespace(manifests.restricted_namespace(name))
    mesh = Mesh(Release(cluster, name))
    await mesh.release.install(values())
    await mesh.is_whole()
    mesh.reference.update(await mesh.answers())
    return mesh


def _is_there(pod: Object) -> bool:
    """Whether a pod is ready, and here to stay."""
    return is_true(pod, "Ready") and "deletionTimestamp" not in pod["metadata"]


def of(pods: Objects, part: str) -> list[Object]:
    """The pods of the fuser, or of a member, among all."""
    labels = {key: pod["metadata"].get("labels", {}) for key, pod in pods.items()}
    parts = {key: {own.get(_MEMBER), own.get(_COMPONENT)} for key, own in labels.items()}
    return [pod for key, pod in pods.items() if part in parts[key]]


async def live_sessions(pod: Object) -> int:
    """How many sessions a pod of a model was asked about lately."""
    samples = await metrics_of(pod["status"]["podIP"], _MODEL_METRICS)
    return int(samples["specfuse_model_live_sessions"])


async def metrics_of(address: str, port: int) -> dict[str, float]:
    """What a service counts, summed over labels."""
    url = f"http://{address}:{port}/metrics"

    def read() -> str:
        with urllib.request.urlopen(url, timeout=10) as answer:
            text: str = answer.read().decode()
            return text

    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(await asyncio.to_thread(read)):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums
