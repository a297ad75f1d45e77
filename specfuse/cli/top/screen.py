"""The board on a terminal. Pure: rows in, renderables out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from specfuse.cli.top.board import Board, EnsembleRow, MemberRow, ModelRow
from specfuse.cli.trace import Palette

_NOTHING: Final = "–"
_ENSEMBLE: Final = (
    "ensemble", "answers", "degraded", "failed", "refused", "first", "p99", "per token", "rounds",
    "active",
)  # fmt: skip
_MEMBER: Final = (
    "member", "state", "wins", "propose", "p50", "score", "p50", "watch", "avoided", "exits",
    "lost", "back", "sessions",
)  # fmt: skip
_MODEL: Final = (
    "model", "replicas", "running", "waiting", "batch", "passes", "KV use", "KV hits", "to server",
)  # fmt: skip
_STATES: Final = {"ready": "green", "asleep": "dim", "down": "bold red"}
_BAD: Final = "bold red"
_EXACT_BELOW: Final = 10.0
_MOST_DECIMALS_BELOW: Final = 100.0


def screen_of(board: Board) -> RenderableType:
    """The whole board. Sections that there is nothing for are left out."""
    sections = [
        _ensembles(board.ensembles) if board.ensembles else None,
        _members(board.members) if board.members else None,
        _models(board.models) if board.models else None,
    ]
    lines: list[RenderableType] = [_summary(board)]
    for section in sections:
        if section is not None:
            lines += [Text(), section]
    if board.troubles:
        lines += [Text(), *(Text(f"✗ {trouble}", _BAD) for trouble in board.troubles)]
    return Group(*lines)


def _summary(board: Board) -> Text:
    if board.seconds is None:
        return Text("measuring" if not board.troubles else "no numbers", "dim")
    line = Text(f"over {board.seconds:.1f} s; rates are a second", "dim")
    if board.ensembles:
        now = f"{board.in_flight:g} in flight · {board.waiting:g} waiting · {board.waking:g} waking"
        line.append(f" · {now}")
    return line


def _ensembles(rows: Sequence[EnsembleRow]) -> Table:
    table = _table(_ENSEMBLE)
    for row in rows:
        table.add_row(
            Text("together", "dim") if row.name is None else Text(row.name, "bold"),
            _rate(row.answers),
            _alarming(row.degraded, "yellow"),
            _alarming(row.failed, _BAD),
            _alarming(row.refused, "yellow"),
            _duration(row.first_p50),
            _duration(row.first_p99),
            _duration(row.per_token),
            _mean(row.rounds),
            _mean(row.active),
        )
    return table


def _members(rows: Sequence[MemberRow]) -> Table:
    table = _table(_MEMBER)
    palette = Palette(tuple(row.name for row in rows))
    for row in rows:
        table.add_row(
            Text(row.name, palette.colour(row.name)),
            Text(row.state, _STATES.get(row.state, "yellow")),
            _share(row.wins),
            _rate(row.propose.rate),
            _duration(row.propose.p50),
            _rate(row.score.rate),
            _duration(row.score.p50),
            _rate(row.watched),
            _share(row.avoided),
            _rate(row.exits),
            _alarming(row.lost, _BAD),
            _rate(row.recalls),
            _rate(row.sessions),
        )
    return table


def _models(rows: Sequence[ModelRow]) -> Table:
    table = _table(_MODEL)
    for row in rows:
        table.add_row(
            Text(row.name),
            _rate(row.replicas),
            _rate(row.running),
            _rate(row.waiting),
            _mean(row.batch),
            _rate(row.passes),
            _share(row.kv_use),
            _share(row.kv_hits),
            Text(_NOTHING) if row.server is None else _rate(row.server),
        )
    return table


def _table(titles: Sequence[str]) -> Table:
    """An empty table that fits 80 columns: where it does not, names are cut, and no numbers."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1, 0, 0))
    table.add_column(titles[0], overflow="ellipsis", min_width=len(titles[0]))
    for title in titles[1:]:
        table.add_column(title, justify="right", no_wrap=True)
    return table


def _rate(value: float) -> Text:
    """A number of at most three digits and a few more: 0, 0.25, 12.5, 1250."""
    if value == int(value) or value >= _MOST_DECIMALS_BELOW:
        return Text(f"{value:.0f}")
    return Text(f"{value:.2f}" if value < _EXACT_BELOW else f"{value:.1f}")


def _alarming(value: float, style: str) -> Text:
    text = _rate(value)
    if value:
        text.stylize(style)
    return text


def _mean(value: float | None) -> Text:
    return Text(_NOTHING if value is None else f"{value:.1f}")


def _share(value: float | None) -> Text:
    return Text(_NOTHING if value is None else f"{value:.0%}")


def _duration(seconds: float | None) -> Text:
    """In one word, so that every column is one."""
    if seconds is None:
        return Text(_NOTHING)
    if seconds >= 1:
        return Text(f"{seconds:.1f}s")
    milliseconds = seconds * 1000
    return Text(f"{milliseconds:.1f}ms" if milliseconds < _EXACT_BELOW else f"{milliseconds:.0f}ms")
