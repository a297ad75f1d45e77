"""The board on a terminal."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from specfuse.cli.top.board import Board, Calls, EnsembleRow, MemberRow, ModelRow
from specfuse.cli.top.screen import screen_of

ROW = EnsembleRow("all", 12.5, 0.25, 0, 1, 0.0042, 1.25, 0.0123, 3.04, 2.0)
BOARD = Board(
    2.04,
    in_flight=3,
    waiting=0,
    waking=5,
    ensembles=(ROW, EnsembleRow(None, 1250, 0, 0, 0, None, None, None, None, None)),
    members=(
        MemberRow("a", "ready", 0.755, Calls(30, 0.01), Calls(0, None), 7.5, 0.5, 0.5, 0, 0, 2),
        MemberRow("[b]", "down", None, Calls(0, None), Calls(0, None), 0, None, 0, 1, 0, 0),
    ),
    models=(ModelRow("a", 2, 1, 0, 3.5, 100.4, 0.25, None, None),),
    troubles=("model [b] m:1 is down: connection refused",),
)


def shown(board: Board, **console: object) -> str:
    out = Console(**{"file": io.StringIO(), "width": 120} | console)
    out.print(screen_of(board))
    return out.file.getvalue()


def test_every_number_is_a_word_under_its_title():
    lines = shown(BOARD, _environ={}).splitlines()
    assert lines[0] == "over 2.0 s; rates are a second · 3 in flight · 0 waiting · 5 waking"
    words = [line.split() for line in lines]
    assert ["all", "12.5", "0.25", "0", "1", "4.2ms", "1.2s", "12ms", "3.0", "2.0"] in words
    assert ["together", "1250", "0", "0", "0", "–", "–", "–", "–", "–"] in words
    assert [
        "a",
        "ready",
        "76%",
        "30",
        "10ms",
        "0",
        "–",
        "7.50",
        "50%",
        "0.50",
        "0",
        "0",
        "2",
    ] in words
    assert ["[b]", "down", "–", "0", "–", "0", "–", "0", "–", "0", "1", "0", "0"] in words
    assert ["a", "2", "1", "0", "3.5", "100", "25%", "–", "–"] in words
    assert lines[-1] == "✗ model [b] m:1 is down: connection refused"


def test_in_80_columns_only_long_names_are_cut():
    name = "a-model-with-a-name-of-many-words"
    long = replace(
        BOARD,
        ensembles=tuple(replace(row, name=name) for row in BOARD.ensembles),
        members=tuple(replace(row, name=name) for row in BOARD.members),
        models=tuple(replace(row, name=name) for row in BOARD.models),
    )
    lines = shown(long, _environ={}, width=80).splitlines()
    assert max(map(len, lines)) <= 80
    assert all(line.count("…") == line.startswith("a-mod") for line in lines)
    wide = shown(long, _environ={}).splitlines()
    assert [line.split()[1:] for line in lines] == [line.split()[1:] for line in wide]


def test_before_the_second_look_there_is_one_line():
    nothing = Board(None, 0, 0, 0, (), (), (), ())
    assert shown(nothing, _environ={}) == "measuring\n"


def test_there_is_colour_only_where_it_is_wanted():
    terminal = {"force_terminal": True, "color_system": "standard"}
    assert "\x1b[1;31m✗ model" in shown(BOARD, **terminal, _environ={})
    plain = shown(BOARD, **terminal, no_color=True, _environ={})
    assert "✗ model" in plain
    assert "\x1b[3" not in plain
    assert ";3" not in plain
