"""A server's own metrics."""

from __future__ import annotations

import pytest

from model_service.backends.remote.gauges import gauges
from specfuse.errors import ModelFailure


def test_a_gauge_is_summed_over_its_labels_and_others_are_left_out() -> None:
    text = b'# TYPE a gauge\na{x="1"} 1\na{x="2"} 2.5\n# TYPE b counter\nb_total 7\n'
    assert gauges(text) == {"a": 3.5}


@pytest.mark.parametrize("value", [b"NaN", b"+Inf", b"-Inf"])
def test_what_no_count_can_be_made_of_is_left_out(value: bytes) -> None:
    assert gauges(b"# TYPE a gauge\na %b\n# TYPE b gauge\nb 1\n" % value) == {"b": 1.0}


@pytest.mark.parametrize("text", [b"<html>It works!</html>", b"\xff", b"# TYPE a gauge\na one\n"])
def test_another_format_is_an_error(text: bytes) -> None:
    with pytest.raises(ModelFailure, match="Prometheus"):
        gauges(text)
