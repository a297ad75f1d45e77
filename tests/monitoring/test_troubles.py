"""Every alert is brought about in a real mesh, or promtool alone has tried it, and we say so."""

from __future__ import annotations

from deploy.monitoring import page
from deploy.monitoring.alerts import catalogue
from tests.monitoring.troubles import LONG, SHORT

ONLY_UNIT_TESTED = {"KVCacheFull", "MixedRevisions", "RecallStorm", "WastedDraftsHigh"}
"""What cannot be brought about in a mesh of scripted models: promtool has tried it."""


def test_every_alert_is_brought_about_or_unit_tested() -> None:
    brought_about = {name for case in (*SHORT, *LONG) for name in (*case.alerts, *case.lasting)}
    assert brought_about | ONLY_UNIT_TESTED == {alert.name for alert in catalogue.ALERTS}
    assert not brought_about & ONLY_UNIT_TESTED


def test_the_page_says_which_trouble_brings_an_alert_about() -> None:
    cases = (*SHORT, *LONG)
    troubles = {name: case.name for case in cases for name in (*case.alerts, *case.lasting)}
    assert troubles == page.BROUGHT_ABOUT
