"""Which EndpointSlices, as the settings say it."""

from __future__ import annotations

import pytest

from fuser_service.mesh.discovery.kubernetes.settings import KubernetesSection
from fuser_service.settings.settings import Settings
from specfuse.errors import Misconfigured


def parsed(member: str) -> Settings:
    text = f"members: {{a: {member}}}\nensembles: {{e: {{members: [a]}}}}"
    return Settings.parse(text, source="fuser.yaml")


def test_only_the_selector_must_be_said() -> None:
    section = parsed("{kubernetes: {selector: specfuse.io/member=llama}}").members["a"].kubernetes
    assert section == KubernetesSection(selector="specfuse.io/member=llama")
    assert (section.port, section.namespace) == ("grpc", None)


@pytest.mark.parametrize(
    "selector",
    [
        "app=llama",
        "app==llama",
        "app!=llama",
        "app=",
        "app",
        "!canary",
        "app=llama,tier = backend , !canary",
        "app in (a, b),tier notin (c)",
        "specfuse.io/member=Llama_3.1-8B",
    ],
)
def test_selectors(selector: str) -> None:
    assert KubernetesSection(selector=selector).selector == selector


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ("{}", r"kubernetes\.selector: is required"),
        ("{selector: ''}", r"kubernetes\.selector: '': must be a label selector"),
        ("{selector: 'app: llama'}", "must be a label selector, as in specfuse.io/member=llama"),
        ("{selector: 'app=a b'}", "must be a label selector"),
        ("{selector: 'app in a'}", "must be a label selector"),
        ("{selector: 'app=a,'}", "must be a label selector"),
        ("{selector: app, port: 0}", r"kubernetes\.port: 0: must be the name of a port"),
        ("{selector: app, port: 65536}", "or its number, 1 to 65535"),
        ("{selector: app, port: true}", "must be the name of a port"),
        ("{selector: app, port: GRPC}", "must be the name of a port, as in grpc"),
        ("{selector: app, port: 1.5}", "must be the name of a port"),
        ("{selector: app, namespace: a.b}", r"kubernetes\.namespace: 'a\.b'"),
        ("{selector: app, label: x}", r"kubernetes\.label: unknown key"),
    ],
)
def test_wrong_settings_are_named(section: str, says: str) -> None:
    with pytest.raises(Misconfigured, match=says):
        parsed(f"{{kubernetes: {section}}}")


def test_a_certificate_has_a_name_and_endpoints_have_none() -> None:
    with pytest.raises(Misconfigured, match="server_name is required with kubernetes"):
        parsed("{kubernetes: {selector: app}, tls: {}}")
    assert parsed("{kubernetes: {selector: app}, tls: {server_name: llama}}")


def test_ways_contradict_each_other() -> None:
    with pytest.raises(Misconfigured, match="kubernetes: contradicts dns; drop one"):
        parsed("{kubernetes: {selector: app}, dns: {name: llama, port: 1}}")
