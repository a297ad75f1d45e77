"""Increases, rates and distributions between two scrapes."""

from __future__ import annotations

from bisect import bisect_left
from math import ceil, inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from specfuse.cli.top.intervals import Distribution, Whole, between, together
from specfuse.cli.top.scrapes import STARTED, Scrape
from tests.support.played_mesh import scrape_of

EDGES = (0.5, 1.0, 2.0, 8.0)
TIMES = st.lists(st.floats(0.01, 7.99), max_size=30)
COUNTS = st.dictionaries(st.sampled_from("abc"), st.integers(0, 1000))
HISTOGRAM = "specfuse_h"


class Service:
    """A process with a counter and a histogram, each by `of`."""

    def __init__(self, started: float | None = 1.0) -> None:
        self.registry = CollectorRegistry()
        self.things = Counter("specfuse_things", ".", ("of",), registry=self.registry)
        self.seconds = Histogram(HISTOGRAM, ".", ("of",), buckets=EDGES, registry=self.registry)
        if started is not None:
            Gauge(STARTED, ".", registry=self.registry).set(started)

    def count(self, counts: dict[str, int]) -> None:
        for of, count in counts.items():
            self.things.labels(of).inc(count)

    def observe(self, times: list[float], of: str = "a") -> None:
        for one in times:
            self.seconds.labels(of).observe(one)

    def scrape(self, at: float = 0.0) -> Scrape:
        return scrape_of(self.registry, at)


def distribution_of(times: list[float]) -> Distribution:
    service = Service()
    before = service.scrape(0.0)
    service.observe(times)
    return between(before, service.scrape(1.0)).distribution(HISTOGRAM)


@given(before=COUNTS, within=COUNTS, seconds=st.floats(0.1, 100))
def test_an_increase_is_what_was_counted_within(before, within, seconds):
    service = Service()
    service.count(before)
    first = service.scrape(5.0)
    service.count(within)
    whole = Whole([between(first, service.scrape(5.0 + seconds))])
    for of in "abc":
        assert whole.increase("specfuse_things_total", of=of) == within.get(of, 0)
    assert whole.increase("specfuse_things_total") == sum(within.values())
    assert whole.rate("specfuse_things_total") == pytest.approx(sum(within.values()) / seconds)


@given(before=COUNTS, since=COUNTS)
def test_after_a_restart_it_is_what_was_counted_since(before, since):
    old, new = Service(started=1.0), Service(started=2.0)
    old.count(before)
    new.count(since)
    whole = Whole([between(old.scrape(0.0), new.scrape(1.0))])
    for of in "abc":
        assert whole.increase("specfuse_things_total", of=of) == since.get(of, 0)


@given(before=COUNTS, since=COUNTS, times=TIMES)
def test_a_restart_is_noticed_by_anything_that_shrank(before, since, times):
    old, new = Service(started=None), Service(started=None)
    old.count({**before, "a": 1001})
    new.count({**since, "a": 0})
    new.observe(times)
    interval = between(old.scrape(0.0), new.scrape(1.0))
    for of in "bc":
        assert Whole([interval]).increase("specfuse_things_total", of=of) == since.get(of, 0)
    assert interval.distribution(HISTOGRAM).count == len(times)


@given(before=TIMES, within=TIMES)
def test_a_distribution_is_of_what_was_observed_within(before, within):
    service = Service()
    service.observe(before)
    first = service.scrape(0.0)
    service.observe(within)
    found = between(first, service.scrape(1.0)).distribution(HISTOGRAM)
    assert found.count == len(within)
    expected = None if not within else pytest.approx(sum(within) / len(within))
    assert found.mean == expected


@given(times=TIMES.filter(bool), part=st.floats(0, 1))
def test_a_quantile_is_in_the_bucket_of_the_true_one(times, part):
    found = distribution_of(times).quantile(part)
    true = sorted(times)[max(0, ceil(part * len(times)) - 1)]
    place = bisect_left(EDGES, true)
    assert found is not None
    assert (EDGES[place - 1] if place else 0.0) <= found <= EDGES[place]


@given(times=TIMES.filter(bool), parts=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_quantiles_are_in_order(times, parts):
    low, high = (distribution_of(times).quantile(part) for part in sorted(parts))
    assert low <= high


@given(st.dictionaries(st.sampled_from([*EDGES, inf]), st.floats(-5, 5)), st.floats(0, 1))
def test_a_quantile_of_a_torn_scrape_is_within_the_edges(up_to, part):
    found = Distribution(up_to).quantile(part)
    assert found is None or 0.0 <= found <= EDGES[-1]


def test_beyond_the_last_finite_edge_a_quantile_is_that_edge():
    assert distribution_of([100.0]).quantile(0.5) == 8.0


def test_what_did_not_happen_has_no_mean_and_no_quantile():
    nothing = distribution_of([])
    assert (nothing.count, nothing.mean, nothing.quantile(0.5)) == (0, None, None)
    assert together([]).mean is None


@given(st.lists(TIMES, max_size=4))
def test_replicas_are_seen_together(replicas):
    whole = together([distribution_of(times) for times in replicas])
    of_all = distribution_of([one for times in replicas for one in times])
    assert whole.count == of_all.count
    assert whole.quantile(0.9) == of_all.quantile(0.9)


def test_replicas_of_other_edges_are_seen_by_those_that_all_have():
    coarse, fine = Distribution({1.0: 1, inf: 4}, 9), Distribution({0.5: 1, 1.0: 2, inf: 2}, 1)
    assert together([coarse, Distribution(), fine]) == Distribution({1.0: 3, inf: 6}, 10)


def test_series_that_shrink_as_they_may_are_no_restart():
    service = Service()
    now = Gauge("specfuse_now", ".", registry=service.registry)
    now.set(5)
    service.count({"a": 2})
    first = service.scrape(0.0)
    now.set(3)
    whole = Whole([between(first, service.scrape(1.0))])
    assert whole.gauges("specfuse_now") == [3]
    assert whole.increase("specfuse_things_total") == 0
