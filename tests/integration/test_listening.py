"""Addresses that cannot be listened on are found out before anything is started."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest

from specfuse.errors import Misconfigured
from specfuse.serving.listening import check_free


def test_free_ports_are_free_afterwards_too() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    for _ in range(2):
        check_free({"listen": address, "metrics_listen": "127.0.0.1:0"})


def test_a_port_in_use_is_named_with_its_setting() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(Misconfigured, match=f"metrics_listen: cannot bind {address}: Address"):
            check_free({"listen": "127.0.0.1:0", "metrics_listen": address})


def test_two_services_cannot_have_the_same_port() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(Misconfigured, match=f"second: cannot bind {address}"):
        check_free({"first": address, "second": address})


@pytest.mark.parametrize(
    ("listen", "says"),
    [
        ("foo", "--listen: 'foo' is not host:port"),
        ("127.0.0.1:70000", "--listen: '127.0.0.1:70000' is not host:port"),
        ("192.0.2.1:0", "--listen: cannot bind 192.0.2.1:0: Cannot assign"),
    ],
)
def test_what_is_no_address_of_this_machine_is_refused(listen: str, says: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        check_free({"--listen": listen})
    assert caught.value.message.startswith(says)


def test_a_host_in_brackets_is_one() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("needs IPv6")
    check_free({"listen": "[::]:0"})
