"""What a mesh looks like while it starts, lives and ends."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from specfuse.cli.mesh_view import MeshView, addresses_table
from specfuse.localmesh import Died, Launched, MeshAddresses, Ready, ServiceAddresses, Stopped

ENDPOINT = ServiceAddresses("127.0.0.1:1", "127.0.0.1:2")


def shown(*events, terminal: bool = False) -> str:
    console = Console(file=io.StringIO(), width=80, force_terminal=terminal, _environ={})
    with MeshView(console, ("alpha",)) as view:
        for event in events:
            view.show(event)
    return console.file.getvalue()


def test_without_a_terminal_every_event_is_a_line():
    died = Died("alpha", "killed by SIGKILL", ("one", "two"), Path("/logs/alpha.log"))
    assert shown(
        Launched("alpha", "/opt/llama-server", Path("/logs/alpha-server.log")),
        Ready("alpha", ENDPOINT, 1.26),
        Ready("fuser", replace(ENDPOINT, http_address="127.0.0.1:3"), 0.5),
        died,
        Stopped("fuser", drained=True),
        Stopped("beta", drained=False),
    ).splitlines() == [
        "· alpha waits for llama-server  (/logs/alpha-server.log)",
        "✓ alpha  127.0.0.1:1  1.3 s",
        "✓ fuser  127.0.0.1:1  http://127.0.0.1:3/v1  0.5 s",
        "✗ alpha ended: killed by SIGKILL  (/logs/alpha.log)",
        "  │ one",
        "  │ two",
        "✓ fuser stopped",
        "✗ beta did not end in time and was killed",
    ]


def test_a_terminal_shows_what_still_starts_and_gets_its_cursor_back_when_nothing_does():
    both = Ready("alpha", ENDPOINT, 1.0), Ready("fuser", ENDPOINT, 1.0)
    started = shown(*both, terminal=True)
    assert "starting fuser" in started
    assert started.index("\x1b[?25h") < started.index("fuser\x1b[2m  127.0.0.1:1")


def test_a_terminal_shows_what_a_model_waits_for():
    launched = Launched("alpha", "/opt/llama-server", Path("/logs/alpha-server.log"))
    died = Died("alpha-server", "exit code 1", (), Path("/logs/alpha-server.log"))
    assert "starting alpha (llama-server), fuser" in shown(launched, died, terminal=True)


def test_the_table_has_the_fuser_first():
    table = addresses_table(MeshAddresses(ENDPOINT, {"alpha": ENDPOINT, "beta": ENDPOINT}))
    console = Console(width=80)
    with console.capture() as capture:
        console.print(table)
    rows = [line.split() for line in capture.get().splitlines()]
    assert rows[0] == ["service", "address", "metrics"]
    assert [row[0] for row in rows[1:]] == ["fuser", "alpha", "beta"]
    assert rows[1][1:] == ["127.0.0.1:1", "http://127.0.0.1:2/metrics"]
