"""How an answer came about, as text for a terminal. Pure: events in, renderables out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from specfuse.cli.complaints import requests
from specfuse.client import Departure, Finished, RoundCandidate, Segment, Started

_COLOURS = (
    "cyan",
    "magenta",
    "yellow",
    "green",
    "blue",
    "bright_red",
    "bright_cyan",
    "bright_black",
)


@dataclass(frozen=True, slots=True)
class Palette:
    """A colour per member, by its place in the ensemble."""

    members: tuple[str, ...]

    def colour(self, member: str) -> str:
        """The member's colour; unknown members have none."""
        if member not in self.members:
            return "default"
        return _COLOURS[self.members.index(member) % len(_COLOURS)]


def heading(started: Started) -> Text:
    """Who answers."""
    palette = Palette(started.members)
    return Text.assemble((started.ensemble, "bold"), ": ", _members(started.members, palette))


def round_block(segment: Segment, palette: Palette) -> RenderableType:
    """One round: who proposed what, with which share; the winner; who left or came back."""
    return Group(
        Text(),
        _round_line(segment),
        _proposals(segment, palette),
        *_watchers(segment.watched, segment.objected),
        *_movements(segment.recalled, segment.left),
    )


def summary(finished: Finished) -> Text:
    """What the answer took, how often it was resumed, who was lost, and where to look that up."""
    line = Text(
        f"{finished.rounds} rounds · {finished.output_tokens} tokens · "
        f"{_milliseconds(finished.total_seconds)} ms · {finished.calls_made} calls made, "
        f"{finished.calls_avoided} avoided · {finished.reason}",
        "dim",
    )
    if finished.resumed:
        line.append(f"\n{resumption(finished.resumed)}", "yellow")
    if finished.degraded:
        line.append(f"\n{degradation(finished)}", "yellow")
    if troubled(finished):
        line.append(f"\n{requests(finished.request_ids)}", "dim")
    return line


def troubled(finished: Finished) -> bool:
    """Whether something went wrong on the way that can be looked up."""
    return bool((finished.resumed or finished.degraded) and finished.request_ids)


def degradation(finished: Finished) -> str:
    """Which members were lost, and why, and which only missed rounds."""
    whys = []
    if finished.lost:
        whys.append("lost " + "; ".join(map(_departure, finished.lost)))
    if finished.absent:
        whys.append(f"rounds without {', '.join(finished.absent)}, late or overloaded")
    return f"degraded: {'; '.join(whys)}"


def resumption(times: int) -> str:
    """How often the answer was interrupted and gone on with."""
    return f"resumed after {times} interruption{'' if times == 1 else 's'}"


def visible(text: str) -> str:
    """The text on one line, with its newlines and edges made visible."""
    return text.replace("\n", "⏎").replace("\t", "⇥")


def _round_line(segment: Segment) -> Text:
    timings = segment.timings
    phases = f"propose {_milliseconds(timings.propose_seconds)}"
    phases += (
        f", score {_milliseconds(timings.score_seconds)}" if timings.score_seconds else ", unscored"
    )
    return Text.assemble(
        (f"round {segment.round}", "bold"),
        (f"  {_milliseconds(timings.total_seconds)} ms ({phases})", "dim"),
    )


def _proposals(segment: Segment, palette: Palette) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for candidate in segment.candidates:
        won = segment.winner in candidate.proposers
        colour = palette.colour(segment.winner) if won else "dim"
        table.add_row(
            Text.assemble(("● " if won else "  "), _members(candidate.proposers, palette)),
            Text(f"{candidate.share:.2f}", "bold" if won else "dim"),
            Text(_proposal(candidate), colour),
        )
    return table


def _proposal(candidate: RoundCandidate) -> str:
    return visible(candidate.text) + (" ■" if candidate.finished else "")


def _watchers(watched: Sequence[str], objected: Sequence[str]) -> list[Text]:
    lines = []
    if watched:
        lines.append(Text(f"  ◦ watched: {', '.join(watched)}", "dim"))
    if objected:
        lines.append(Text(f"  ! objected: {', '.join(objected)}", "yellow"))
    return lines


def _movements(recalled: Sequence[str], left: Sequence[Departure]) -> list[Text]:
    lines = []
    if recalled:
        lines.append(Text(f"  ↩ back: {', '.join(recalled)}", "green"))
    lines += [Text(f"  ↪ left: {_departure(departure)}", "yellow") for departure in left]
    return lines


def _departure(departure: Departure) -> str:
    detail = f": {departure.detail}" if departure.detail else ""
    return f"{departure.member} ({departure.reason}{detail})"


def _members(members: Sequence[str], palette: Palette) -> Text:
    return Text(", ").join(Text(member, palette.colour(member)) for member in members)


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f}"
