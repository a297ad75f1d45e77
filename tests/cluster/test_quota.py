"""A release that asks for more than its namespace may have."""

from __future__ import annotations

import pytest

from tests.cluster import manifests
from tests.cluster.api import Object, Objects
from tests.cluster.cluster import Cluster
from tests.cluster.mesh import SMALL
from tests.cluster.release import Release

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(900),
]

NAME = "quota"


def values(pods: int) -> Object:
    """Three pods, where there may be so many."""
    return {
        "modelDefaults": {
            "backend": "scripted",
            "resources": SMALL,
            "startupSeconds": 120,
            "scripted": {"lines": [{"answer": "An answer."}]},
        },
        "models": {"one": {"replicas": 2}},
        "ensembles": {"alone": {"members": ["one"]}},
        "fuser": {"replicas": 1, "resources": SMALL, "tenancy": {"anonymous": "allow"}},
        "resourceQuota": {"enabled": True, "hard": {"pods": str(pods)}},
    }


async def test_what_is_beyond_the_quota_is_not_made_and_named_until_there_is_room(
    cluster: Cluster,
) -> None:
    await cluster.create_namespace(manifests.restricted_namespace(NAME))
    release = Release(cluster, NAME)
    await release.install(values(pods=2))

    deployments = await cluster.api.until("deployments", is_refused, NAME)
    (said,) = refusals_in(deployments)
    assert "exceeded quota" in said
    assert "limited: pods=2" in said
    assert len(await cluster.api.list("pods", NAME)) == 2

    await release.upgrade(values(pods=3))
    await release.until_available()
    await release.uninstall()


def is_refused(deployments: Objects) -> bool:
    return bool(refusals_in(deployments))


def refusals_in(deployments: Objects) -> list[str]:
    """Why pods of Deployments could not be made."""
    return [
        condition["message"]
        for one in deployments.values()
        for condition in one.get("status", {}).get("conditions", ())
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True"
    ]
