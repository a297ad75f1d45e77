"""An endpoint over time: read, lost, and back."""

from __future__ import annotations

from specfuse.cli.top.history import History
from specfuse.cli.top.intervals import Whole
from specfuse.cli.top.targets import Target
from tests.support.played_mesh import PlayedModel

WIDTH = "specfuse_model_batch_size_count"


def test_there_is_an_interval_from_the_second_scrape_on():
    model = PlayedModel()
    first = History(Target("model", "h:1")).seen(model.scrape(10.0))
    assert first.interval is None
    model.metrics.forward("draft", 0.1, 2)
    second = first.seen(model.scrape(12.0))
    assert second.interval is not None
    assert second.interval.seconds == 2.0
    assert Whole([second.interval]).increase(WIDTH) == 1


def test_one_that_is_back_is_measured_anew_and_what_was_missed_is_not_made_up():
    model = PlayedModel()
    lost = History(Target("model", "h:1")).seen(model.scrape(0.0)).lost("is down: refused")
    assert (lost.interval, lost.trouble) == (None, "is down: refused")
    model.metrics.forward("draft", 0.1, 2)
    back = lost.seen(model.scrape(50.0))
    assert (back.interval, back.trouble) == (None, "")
    again = back.seen(model.scrape(51.0))
    assert again.interval is not None
    assert Whole([again.interval]).increase(WIDTH) == 0


def test_a_model_keeps_its_name_while_it_is_down():
    history = History(Target("model", "h:1"))
    assert str(history.lost("is down").target) == "model h:1"
    assert str(history.seen(PlayedModel().scrape(0.0)).lost("is down").target) == "model a h:1"
