"""The page of alerts and panels."""

from __future__ import annotations

import pytest

from deploy.monitoring import page
from deploy.monitoring.boards import ensemble, members


def test_every_alert_and_panel_has_its_proof() -> None:
    text = page.completed(f"# Mine\n{page.MARKER}\nstale\n", [ensemble.BOARD, members.BOARD])
    assert text.startswith(f"# Mine\n{page.MARKER}\n\n## Alerts\n")
    assert "stale" not in text
    assert "| [MemberDown](runbooks/MemberDown.md) | warning | 5m | [promtool](" in text
    assert "in a mesh: a member is dead |" in text
    for panel in (*ensemble.BOARD.panels, *members.BOARD.panels):
        assert f"| {panel.title} | " in text
    assert "| GPU use | Needs NVIDIA's DCGM exporter. " in text
    assert page.completed(text, [ensemble.BOARD, members.BOARD]) == text


def test_a_page_without_the_marker_is_left_alone() -> None:
    with pytest.raises(ValueError, match="has no line <!-- alerts and panels -->"):
        page.completed("# Mine\n", [])
