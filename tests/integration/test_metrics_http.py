"""The /metrics endpoint over real HTTP."""

from __future__ import annotations

from urllib.error import URLError
from urllib.request import urlopen

import pytest
from prometheus_client import CollectorRegistry, Counter

from specfuse.errors import Misconfigured
from specfuse.observability.metrics_endpoint import MetricsEndpoint


def test_metrics_are_those_of_the_registry() -> None:
    registry = CollectorRegistry()
    Counter("specfuse_things", "Things.", registry=registry).inc(3)
    endpoint = MetricsEndpoint.start("127.0.0.1:0", registry)
    try:
        with urlopen(f"http://{endpoint.address}/metrics", timeout=10) as response:
            body = response.read().decode()
    finally:
        endpoint.stop()
    assert "specfuse_things_total 3.0" in body
    assert "python_info" not in body
    with pytest.raises(URLError):
        urlopen(f"http://{endpoint.address}/metrics", timeout=10)


def test_port_in_use_is_an_error_that_names_it() -> None:
    endpoint = MetricsEndpoint.start("127.0.0.1:0", CollectorRegistry())
    try:
        with pytest.raises(Misconfigured, match=f"metrics_listen: cannot bind {endpoint.address}"):
            MetricsEndpoint.start(endpoint.address, CollectorRegistry())
    finally:
        endpoint.stop()


@pytest.mark.parametrize("listen", ["9090", "127.0.0.1:many", "no.such.host.invalid:0"])
def test_malformed_address_is_an_error(listen: str) -> None:
    with pytest.raises(Misconfigured, match="metrics_listen: "):
        MetricsEndpoint.start(listen, CollectorRegistry())
