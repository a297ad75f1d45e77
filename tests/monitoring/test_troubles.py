"""Every alert is brought about in a real mesh, and the page says how."""

from __future__ import annotations

from deploy.monitoring import made, page
from deploy.monitoring.alerts import catalogue
from tests.monitoring.troubles import LONG, SHORT, SIGNS

CASES = (*SHORT, *LONG)


def test_every_alert_of_every_severity_is_brought_about() -> None:
    brought_about = [alert for case in CASES for alert in case.alerts]
    known = {(alert.name, alert.severity) for alert in catalogue.ALERTS}
    assert set(brought_about) == known
    assert len(brought_about) == len(known), "one trouble is enough"


def test_the_page_says_which_trouble_brings_an_alert_about() -> None:
    troubles = {alert: case.name for case in CASES for alert in case.alerts}
    assert troubles == page.BROUGHT_ABOUT


def test_the_page_says_by_what_a_trouble_is_known() -> None:
    text = (made.REPOSITORY / "docs" / "monitoring.md").read_text()
    boards = {panel.title: board for board in made.BOARDS for panel in board.panels}
    for name, sign in SIGNS.items():
        board = boards[sign.panel].title.removeprefix("SpecFuse / ")
        assert f"| {name} | *{board}*, *{sign.panel}* |" in text
