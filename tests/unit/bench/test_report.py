"""Tables, as people and as pages get them."""

from __future__ import annotations

import pytest
from rich.table import Table
from rich.text import Text

from bench.report import markdown, show


def table() -> Table:
    one = Table("name", title="[bold]what it takes[/]", caption="by the clock")
    one.add_column("ms", justify="right")
    one.add_row("[red]a|b[/]", "1")
    one.add_row(Text("two\nlines"), "2.5")
    return one


def test_a_table_is_markdown_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    show(table(), table())
    expected = [
        "**what it takes**",
        "",
        "| name | ms |",
        "| --- | ---: |",
        "| a\\|b | 1 |",
        "| two lines | 2.5 |",
        "",
        "by the clock",
    ]
    assert capsys.readouterr().out.split("\n") == ["", *expected, "", "", *expected, "", ""]


def test_a_table_without_title_or_rows() -> None:
    assert list(markdown(Table("a", "b"))) == ["| a | b |", "| --- | --- |"]
