"""What a local mesh looks like on a terminal: progress while it starts, then where it listens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from rich.console import Console, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from specfuse.cli.mesh_file import FUSER
from specfuse.localmesh import Died, Event, Launched, MeshAddresses, Ready, Stopped


class MeshView:
    """Shows on `console` what happens to the services `models` and the fuser.

    A context manager: within it, a terminal shows what is still starting until nothing is. Where
    there is no terminal, there is a line per event and no more.
    """

    def __init__(self, console: Console, models: Sequence[str]) -> None:
        self._console = console
        self._starting = Starting((*models, FUSER))
        self._live = Live(self._starting, console=console, transient=True)

    def __enter__(self) -> MeshView:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()

    def show(self, event: Event) -> None:
        """The mesh's listener."""
        self._starting.hear(event)
        if not self._starting.left:
            self._live.stop()
        self._console.print(_told(event))


class Starting:
    """A spinner and the services that are not ready yet, with the servers that they wait for."""

    def __init__(self, names: Sequence[str]) -> None:
        self.left = {name: name for name in names}
        self._spinner = Spinner("dots", style="cyan")

    def hear(self, event: Event) -> None:
        """A service waits for its server, or no longer starts."""
        if isinstance(event, Launched):
            self.left[event.name] = f"{event.name} ({Path(event.command).name})"
        else:
            self.left.pop(event.name, None)

    def __rich__(self) -> RenderableType:
        self._spinner.update(text=Text(f"starting {', '.join(self.left.values())}", "dim"))
        return self._spinner


def _told(event: Event) -> Text:
    match event:
        case Launched(name, command, log):
            return Text(f"· {name} waits for {Path(command).name}  ({log})", "dim")
        case Ready(name, endpoint, seconds):
            http = f"  http://{endpoint.http_address}/v1" if endpoint.http_address else ""
            how = (f"  {endpoint.address}{http}  {seconds:.1f} s", "dim")
            return Text.assemble(("✓ ", "green"), name, how)
        case Stopped(name, drained=True):
            return Text(f"✓ {name} stopped", "dim")
        case Stopped(name):
            return Text(f"✗ {name} did not end in time and was killed", "red")
        case Died():
            return _death(event)


def _death(event: Died) -> Text:
    """The death, with the last lines logged before it."""
    report = Text.assemble((f"✗ {event.name} ended: {event.how}", "bold red"), f"  ({event.log})")
    for line in event.last_lines:
        report.append(f"\n  │ {line}", "dim")
    return report


def addresses_table(addresses: MeshAddresses) -> Table:
    """Where everything listens, the fuser first."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("service", "address", "metrics"):
        table.add_column(column, no_wrap=True)
    for name, one in ((FUSER, addresses.fuser), *addresses.models.items()):
        table.add_row(
            Text(name, "bold" if name == FUSER else ""),
            one.address,
            Text(f"http://{one.metrics_address}/metrics", "dim"),
        )
    return table
