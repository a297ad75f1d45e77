"""What the NetworkPolicies let through is what the mesh needs."""

from __future__ import annotations

import pytest

from tests.chart.flows import Flow, Party, Port, flows

A = Party("a", "here", {"app": "a"})
B = Party("b", "here", {"app": "b"}, ports={"grpc": 1})
ELSEWHERE = Party("elsewhere", "there", {"app": "a"}, namespace_labels={"team": "x"})
OUTSIDE = Party("outside", address="10.1.2.3")
PORT = Port(1)


def policy(**spec: object) -> dict[str, object]:
    return {
        "metadata": {"namespace": "here"},
        "spec": {"podSelector": {"matchLabels": {"app": "b"}}, **spec},
    }


def callers(*policies: dict[str, object], port: Port = PORT) -> set[str]:
    """Who reaches b."""
    return {
        flow.source
        for flow in flows(policies, (A, B, ELSEWHERE, OUTSIDE), (port,))
        if flow.destination == "b"
    }


def test_without_policies_everybody_reaches_everybody() -> None:
    assert len(list(flows((), (A, B, OUTSIDE), (PORT,)))) == 6


@pytest.mark.parametrize("spec", [{}, {"ingress": []}, {"policyTypes": ["Ingress"]}])
def test_a_policy_without_rules_lets_nobody_in(spec: dict[str, object]) -> None:
    assert callers(policy(**spec)) == set()


@pytest.mark.parametrize(
    ("peer", "reached_by"),
    [
        ({"podSelector": {}}, {"a"}),
        ({"podSelector": {"matchLabels": {"app": "c"}}}, set()),
        ({"namespaceSelector": {}}, {"a", "elsewhere"}),
        (
            {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "there"}}},
            {"elsewhere"},
        ),
        (
            {
                "namespaceSelector": {"matchLabels": {"team": "x"}},
                "podSelector": {"matchLabels": {"app": "b"}},
            },
            set(),
        ),
        ({"ipBlock": {"cidr": "10.0.0.0/8"}}, {"outside"}),
        ({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}, set()),
    ],
)
def test_a_rule_lets_in_whom_it_names(peer: dict[str, object], reached_by: set[str]) -> None:
    assert callers(policy(ingress=[{"from": [peer]}])) == reached_by


@pytest.mark.parametrize(
    ("allowed", "fits"),
    [
        ({"port": 1}, True),
        ({"port": "grpc"}, True),
        ({"port": "http"}, False),
        ({"port": 1, "protocol": "UDP"}, False),
        ({"port": 0, "endPort": 5}, True),
        ({}, True),
    ],
)
def test_a_rule_is_for_its_ports(allowed: dict[str, object], fits: bool) -> None:
    assert ("a" in callers(policy(ingress=[{"ports": [allowed]}]))) is fits


def test_both_ends_have_to_agree() -> None:
    silent = {
        "metadata": {"namespace": "here"},
        "spec": {"podSelector": {"matchLabels": {"app": "a"}}, "policyTypes": ["Egress"]},
    }
    assert callers(policy(ingress=[{}]), silent) == {"elsewhere", "outside"}
    assert Flow("b", "a", PORT) in set(flows([policy(), silent], (A, B), (PORT,)))
