"""The laptop's example, as its users install it: the shipped experts, on a cluster of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import openai
import pytest
import pytest_asyncio

from specfuse.client import AsyncClient
from tests.cluster import manifests
from tests.cluster.cluster import Cluster
from tests.cluster.release import CHART, Release

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(900),
]

QUESTION = "Please answer: give me the capital of Greece; which word is the opposite of true."
ANSWER = "athens"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def laptop(cluster: Cluster) -> AsyncIterator[Release]:
    """The release, in a namespace that lets nobody be less restricted than that."""
    name = "laptop"
    await cluster.create_namespace(manifests.restricted_namespace(name))
    release = Release(cluster, name)
    await release.install(CHART / "examples" / "laptop" / "values.yaml")
    await release.until_available()
    yield release
    # What Helm runs as a test is not of the release: the next test takes its place.
    await release.uninstall(leaving=["pods/laptop-specfuse-test"])


async def test_the_experts_answer_over_grpc(laptop: Release) -> None:
    async with AsyncClient(await laptop.addresses(50050)) as client:
        answer = await client.generate(QUESTION, timeout=120)
    assert ANSWER in answer.text.lower()
    assert not answer.degraded


async def test_the_experts_answer_an_openai_sdk(laptop: Release) -> None:
    (address,) = await laptop.addresses(8000)
    async with openai.AsyncOpenAI(base_url=f"http://{address}/v1", api_key="none") as client:
        completion = await client.chat.completions.create(
            model="experts", messages=[{"role": "user", "content": QUESTION}], timeout=120
        )
    assert ANSWER in (completion.choices[0].message.content or "").lower()


async def test_helm_test_asks_and_is_answered(laptop: Release) -> None:
    assert "Succeeded" in await laptop.test()
    log = laptop.cluster.log_of("laptop", "laptop-specfuse-test")
    assert ANSWER in log.lower()
