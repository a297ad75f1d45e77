"""The NetworkPolicies of a release let through what the mesh needs, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Final

import pytest

from tests.chart.flows import Flow, Party, Port, flows
from tests.chart.release import BASE, SCENARIOS, Pod, Release, needs_helm, render

pytestmark = needs_helm

HERE: Final = "specfuse"
CALLER: Final = Party("caller", HERE, {"specfuse.io/caller": "true"})
STRANGER: Final = Party("stranger", HERE, {"app": "stranger"})
FOREIGNER: Final = Party("foreigner", "elsewhere", {"specfuse.io/caller": "true"})
PROMETHEUS: Final = Party("prometheus", "monitoring", {"app.kubernetes.io/name": "prometheus"})
RESOLVER: Final = Party("resolver", "kube-system", {"k8s-app": "kube-dns"})
API_SERVER: Final = Party("api server", address="10.96.0.1")
NODE: Final = Party("node", address="192.168.1.10")
CREDENTIALS: Final = Party("credentials of the node", address="169.254.169.254")
HUB: Final = Party("hub", address="203.0.113.7")
OTHERS: Final = (
    *(CALLER, STRANGER, FOREIGNER, PROMETHEUS, RESOLVER),
    *(API_SERVER, NODE, CREDENTIALS, HUB),
)

DOORS: Final = (Port(50050), Port(8000))
FUSER_METRICS: Final = Port(9090)
MODEL: Final = Port(50051)
MODEL_METRICS: Final = Port(9091)
SERVER: Final = Port(8080)
NAMES: Final = (Port(53), Port(53, "UDP"))
API: Final = (Port(443), Port(6443))
PORTS: Final = (*DOORS, FUSER_METRICS, MODEL, MODEL_METRICS, SERVER, *NAMES, *API, Port(80))

guarded = pytest.mark.parametrize("scenario", [one for one in SCENARIOS if one != "bare"])
"""All scenarios but the one that has no policies."""

KNOWN_API_SERVER: Final = {"networkPolicy": {"apiServer": {"cidrs": ["10.96.0.1/32"]}}}


def party(pod: Pod) -> Party:
    ports = {
        port["name"]: port["containerPort"]
        for container in pod.containers()
        for port in container.get("ports", ())
    }
    return Party(pod.owner, HERE, pod.labels, ports=ports)


def pods(release: Release, component: str) -> list[str]:
    return [pod.owner for pod in release.pods() if pod.component == component]


def let_through(release: Release) -> set[Flow]:
    """What gets through of what one of the release's pods begins or ends."""
    own = [party(pod) for pod in release.pods()]
    names = {one.name for one in own}
    found = flows(release.of("NetworkPolicy"), (*own, *OTHERS), PORTS)
    return {flow for flow in found if names & {flow.source, flow.destination}}


def between(sources: list[str], destinations: list[str], ports: tuple[Port, ...]) -> Iterator[Flow]:
    return (Flow(*ends) for ends in product(sources, destinations, ports))


def test_the_flows_of_a_mesh_are_those_that_it_needs() -> None:
    release = render(BASE, KNOWN_API_SERVER)
    fuser, models, tests = (pods(release, name) for name in ("fuser", "model", "test"))
    assert let_through(release) == {
        *between([CALLER.name], fuser, DOORS),
        *between(fuser, models, (MODEL,)),
        *between(fuser, [API_SERVER.name], API),
        *between([PROMETHEUS.name], fuser, (FUSER_METRICS,)),
        *between([PROMETHEUS.name], models, (MODEL_METRICS,)),
        *between(models, [RESOLVER.name], NAMES),
        *between(models, [HUB.name], (Port(443),)),
        *between(tests, fuser, (Port(50050),)),
        *between(tests, [RESOLVER.name], NAMES),
    }


def test_a_mesh_that_downloads_nothing_resolves_nothing_and_reaches_nothing() -> None:
    offline = {"weights": {"hub": "", "claim": "models"}}
    models = dict.fromkeys(("llama", "qwen"), offline)
    release = render(BASE, {"models": models, "tests": {"enabled": False}}, KNOWN_API_SERVER)
    fuser, owners = pods(release, "fuser"), pods(release, "model")
    assert let_through(release) == {
        *between([CALLER.name], fuser, DOORS),
        *between(fuser, owners, (MODEL,)),
        *between(fuser, [API_SERVER.name], API),
        *between([PROMETHEUS.name], fuser, (FUSER_METRICS,)),
        *between([PROMETHEUS.name], owners, (MODEL_METRICS,)),
    }


def test_without_the_http_door_nobody_is_let_to_it() -> None:
    release = render(BASE, {"fuser": {"http": {"enabled": False}}})
    assert not {flow for flow in let_through(release) if flow.port == Port(8000)}


def test_nobody_reads_metrics_where_nobody_is_named() -> None:
    release = render(BASE, {"networkPolicy": {"monitoring": []}})
    metrics = (FUSER_METRICS, MODEL_METRICS)
    assert not {flow for flow in let_through(release) if flow.port in metrics}


def test_where_the_api_server_is_not_told_only_its_ports_are_open() -> None:
    release = render(BASE)
    outside = {one.name for one in (API_SERVER, NODE, CREDENTIALS, HUB)}
    (fuser,) = pods(release, "fuser")
    reached = {flow for flow in let_through(release) if flow.source == fuser}
    assert {flow.port for flow in reached if flow.destination in outside} == set(API)


def test_a_server_elsewhere_is_reached_at_its_port_alone() -> None:
    """Policies know no names, so a URL opens its port to wherever it may be."""
    reached = {flow for flow in to_servers([]) if flow.destination == NODE.name}
    assert {flow.port for flow in reached} == {Port(8000)}


def test_a_server_elsewhere_is_reached_only_where_it_is_said_to_be() -> None:
    there = {"to": [{"ipBlock": {"cidr": "192.168.1.0/24"}}], "ports": [{"port": 8000}]}
    at_its_port = {flow for flow in to_servers([there]) if flow.port == Port(8000)}
    assert {flow.destination for flow in at_its_port} == {NODE.name}


def to_servers(egress: list[object]) -> set[Flow]:
    """What a model whose server is elsewhere begins, with these rules of one's own."""
    qwen = {"backend": "vllm", "vllm": {"url": "http://vllm.example:8000"}, "egress": egress}
    release = render(BASE, {"models": {"qwen": qwen}})
    return {flow for flow in let_through(release) if flow.source.endswith("-model-qwen")}


def test_traces_reach_the_collector_and_nobody_else_at_its_port() -> None:
    collector = Party("collector", "monitoring", {"app": "otel-collector"})
    port = Port(4317)
    tracing = {"tracing": {"endpoint": f"otel-collector.monitoring:{port.number}"}}
    there = [{"podSelector": {"matchLabels": {"app": "otel-collector"}}, "namespaceSelector": {}}]
    release = render(BASE, tracing, {"networkPolicy": {"collector": there}})
    parties = [*(party(pod) for pod in release.pods()), collector, *OTHERS]
    sending = [*pods(release, "fuser"), *pods(release, "model")]
    sent = set(flows(release.of("NetworkPolicy"), parties, (port,)))
    assert {flow for flow in sent if flow.source in sending} == set(
        between(sending, [collector.name], (port,))
    )
    anywhere = render(BASE, tracing).of("NetworkPolicy")
    reached = {flow for flow in flows(anywhere, parties, (port,)) if flow.source in sending}
    assert reached >= set(between(sending, [collector.name], (port,)))


def test_names_are_resolved_where_the_cluster_does_it() -> None:
    elsewhere = {"ports": [5353], "to": [{"namespaceSelector": {"matchLabels": {"a": "dns"}}}]}
    resolver = Party("own resolver", "dns", namespace_labels={"a": "dns"})
    release = render(BASE, {"networkPolicy": {"dns": elsewhere}})
    parties = [*(party(pod) for pod in release.pods()), resolver, RESOLVER]
    own = (Port(5353), Port(5353, "UDP"))
    through = set(flows(release.of("NetworkPolicy"), parties, (*NAMES, *own)))
    asking = [*pods(release, "model"), *pods(release, "test")]
    resolving = {flow for flow in through if flow.source in asking}
    assert resolving == set(between(asking, [resolver.name], own))


@guarded
def test_in_no_scenario_anybody_else_gets_in(scenario: str) -> None:
    release = render(*SCENARIOS[scenario])
    fuser, models, tests = (pods(release, name) for name in ("fuser", "model", "test"))
    for flow in let_through(release):
        if flow.destination in models:
            assert (flow.source in fuser) == (flow.port == MODEL), flow
            assert (flow.source == PROMETHEUS.name) == (flow.port == MODEL_METRICS), flow
            assert flow.port != SERVER, flow
        assert flow.destination not in tests, flow
        assert STRANGER.name not in flow[:2] or flow.port in API, flow
        assert flow.source != HUB.name, flow


@guarded
def test_in_no_scenario_a_model_reaches_the_cluster_or_the_node(scenario: str) -> None:
    release = render(*SCENARIOS[scenario])
    inner = {one.name for one in (API_SERVER, NODE, CREDENTIALS, STRANGER)}
    models = pods(release, "model")
    reached = {flow.destination for flow in let_through(release) if flow.source in models}
    assert not reached & inner
