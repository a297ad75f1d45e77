"""One question to a fuser: `specfuse ask`."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console
from rich.text import Text

from specfuse.cli.complaints import requests
from specfuse.cli.report import answer_report
from specfuse.cli.trace import (
    Palette,
    degradation,
    heading,
    resumption,
    round_block,
    summary,
    troubled,
)
from specfuse.cli.tracing import trace_of_environment
from specfuse.client import (
    Answer,
    Client,
    Event,
    Finished,
    Prompt,
    QueryOptions,
    RawPrompt,
    Segment,
    Started,
)
from specfuse.errors import InvalidArgument


class View(Protocol):
    """Shows an answer while it comes."""

    def show(self, event: Event) -> None:
        """The answer's next event."""

    def interrupted(self) -> None:
        """The answer ends here, incomplete."""


def ask(client: Client, prompt: Prompt, options: QueryOptions, view: View) -> None:
    """Asks the fuser, shows the answer as it comes, and closes the client.

    Raises:
        SpecFuseError: whatever goes wrong.
    """
    begun = ""
    with trace_of_environment(), client, closing(client.stream(prompt, **options)) as events:
        try:
            for event in events:
                begun = event.request_id if isinstance(event, Started) else begun
                view.show(event)
        except BaseException as error:
            view.interrupted()
            if isinstance(error, KeyboardInterrupt) and begun:  # errors say it themselves
                sys.stderr.write(f"specfuse: interrupted ({requests([begun])})\n")
            raise


def question_from(argument: str) -> str:
    """The question itself, or, for `-`, what standard input holds, without the newline at its end.

    Raises:
        InvalidArgument: it is not valid UTF-8.
    """
    try:
        if argument == "-":
            return sys.stdin.buffer.read().decode().removesuffix("\n")
        return argument.encode(errors="surrogateescape").decode()
    except UnicodeDecodeError as error:
        raise InvalidArgument("QUESTION", f"not UTF-8 at byte {error.start}") from error


def prompt_from(argument: str, *, raw: bool) -> Prompt:
    """The question as a prompt; `raw` is text to continue, without any chat template.

    Raises:
        InvalidArgument: as `question_from`.
    """
    question = question_from(argument)
    return RawPrompt(question) if raw else question


@dataclass(slots=True)
class PlainView:
    """The answer's text and nothing else on stdout; on stderr what went wrong on the way."""

    written: bool = False

    def show(self, event: Event) -> None:
        """Appends to the answer."""
        if isinstance(event, Segment | Finished):
            sys.stdout.write(event.text)
            sys.stdout.flush()
            self.written |= bool(event.text)
        if isinstance(event, Finished):
            sys.stdout.write("\n")
            if event.resumed:
                sys.stderr.write(f"specfuse: {resumption(event.resumed)}\n")
            if event.degraded:
                sys.stderr.write(f"specfuse: {degradation(event)}\n")
            if troubled(event):
                sys.stderr.write(f"specfuse: {requests(event.request_ids)}\n")

    def interrupted(self) -> None:
        """Ends the line that was begun."""
        if self.written:
            sys.stdout.write("\n")


@dataclass(slots=True)
class TraceView:
    """Every round as it is committed, then the answer, each segment in its winner's colour."""

    console: Console = field(default_factory=lambda: Console(highlight=False, soft_wrap=True))
    palette: Palette = field(default_factory=lambda: Palette(()))
    answer: Text = field(default_factory=Text)

    def show(self, event: Event) -> None:
        """The next round, or the summary at the end."""
        match event:
            case Started():
                self.palette = Palette(event.members)
                self.console.print(heading(event))
            case Segment():
                self.answer.append(event.text, self.palette.colour(event.winner))
                self.console.print(round_block(event, self.palette))
            case Finished():
                self.answer.append(event.text)
                self.console.print(Text(), self.answer, Text(), summary(event), sep="\n")

    def interrupted(self) -> None:
        """The answer as far as it got."""
        if self.answer:
            self.console.print(Text(), self.answer, sep="\n")


@dataclass(slots=True)
class JsonView:
    """One JSON object at the end, and nothing before it."""

    events: list[Event] = field(default_factory=list)

    def show(self, event: Event) -> None:
        """Waits for the last one."""
        self.events.append(event)
        if isinstance(event, Finished):
            json.dump(answer_report(Answer.of(self.events)), sys.stdout, ensure_ascii=False)
            sys.stdout.write("\n")

    def interrupted(self) -> None:
        """No half objects."""
