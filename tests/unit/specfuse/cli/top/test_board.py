"""The rows of the board, from the real services' own counting."""

from __future__ import annotations

from typing import get_args

import pytest

from fuser_service.core.types import Departure, DepartureReason
from fuser_service.reports import RequestOutcome
from specfuse.cli.top.board import Board, Calls, EnsembleRow, MemberRow, ModelRow, board_of
from specfuse.cli.top.history import History
from specfuse.cli.top.targets import Target
from tests.support.played_mesh import PlayedFuser, PlayedModel

SECONDS = 2.0
FUSER, MODEL = Target("fuser", "f:1"), Target("model", "m:1")


class Watched:
    """Services that are watched from now on."""

    def __init__(self, *services: PlayedFuser | PlayedModel) -> None:
        self.services = services
        self.histories = [
            History(FUSER if isinstance(one, PlayedFuser) else MODEL).seen(one.scrape(0.0))
            for one in services
        ]

    def board(self) -> Board:
        """What they did since."""
        return board_of(
            [
                history.seen(service.scrape(SECONDS))
                for history, service in zip(self.histories, self.services, strict=True)
            ]
        )


def ensemble(board: Board, name: str | None) -> EnsembleRow:
    (row,) = (row for row in board.ensembles if row.name == name)
    return row


def member(board: Board, name: str) -> MemberRow:
    (row,) = (row for row in board.members if row.name == name)
    return row


def answer(fuser: PlayedFuser, of: str = "all", outcome: RequestOutcome = "ok") -> None:
    """A request of three rounds."""
    fuser.metrics.request_started()
    fuser.metrics.first_segment(of, 0.03)
    for _ in range(3):
        fuser.metrics.active_members(of, 2)
    fuser.metrics.answered(of, 3, 0.02)
    fuser.metrics.request_ended(of, outcome, 1.0)


def test_an_ensemble_that_nobody_asks():
    board = Watched(PlayedFuser()).board()
    assert ensemble(board, "all") == EnsembleRow("all", 0, 0, 0, 0, None, None, None, None, None)
    assert (board.seconds, board.in_flight, board.waiting, board.waking) == (SECONDS, 0, 0, 0)


def test_answers():
    fuser = PlayedFuser()
    answer(fuser)  # before the watch
    watched = Watched(fuser)
    for outcome in ("ok", "ok", "degraded"):
        answer(fuser, outcome=outcome)
    fuser.metrics.request_started()
    fuser.metrics.hold_began("all")
    fuser.metrics.watch_waiting(lambda: 4)
    board = watched.board()
    row = ensemble(board, "all")
    assert (row.answers, row.degraded, row.failed, row.refused) == (1.5, 0.5, 0, 0)
    assert (row.rounds, row.active) == (3, 2)
    assert row.per_token == pytest.approx(0.02)
    assert row.first_p50 == pytest.approx(0.03)  # the middle of its bucket
    assert 0.03 < row.first_p99 <= 0.04
    assert ensemble(board, "few").answers == 0
    assert ensemble(board, None).answers == 1.5
    assert (board.in_flight, board.waiting, board.waking) == (1, 4, 1)


@pytest.mark.parametrize("outcome", get_args(RequestOutcome))
def test_a_request_however_it_ends_counts_in_one_place(outcome: RequestOutcome):
    fuser = PlayedFuser()
    watched = Watched(fuser)
    fuser.metrics.request_ended("all", outcome, 1.0)
    row = ensemble(watched.board(), "all")
    counted = row.answers + row.failed + row.refused
    assert counted == (0 if outcome == "cancelled" else 1 / SECONDS)  # left, and nobody's fault


def test_requests_for_no_ensemble_have_a_row_once_there_are_some():
    fuser = PlayedFuser()
    fuser.metrics.request_ended("", "not_found", 0.0)
    watched = Watched(fuser)
    assert {row.name for row in watched.board().ensembles} == {"all", "few", None}
    fuser.metrics.request_ended("", "not_found", 0.0)
    assert ensemble(watched.board(), "unknown").refused == 1 / SECONDS


def test_a_members_part():
    fuser = PlayedFuser()
    fuser.reaches("a")
    watched = Watched(fuser)
    for of in ("all", "all", "few"):
        fuser.metrics.segment_won(of, "a")
    fuser.metrics.segment_won("all", "b")
    for _ in range(4):
        fuser.metrics.call_ended("a", "propose", "ok", 0.015)
    fuser.metrics.call_ended("a", "score", "late", 0.3)
    fuser.metrics.calls_avoided("a", "consensus", 3)
    fuser.metrics.calls_avoided("a", "exit", 1)
    fuser.metrics.calls_avoided("a", "watch", 1)
    fuser.metrics.members_recalled("all", ["a"])
    fuser.metrics.session_began("a")
    board = watched.board()
    assert member(board, "a") == MemberRow(
        "a", "ready", 0.75, Calls(2, pytest.approx(0.015)), Calls(0.5, pytest.approx(0.375)),
        watched=0.5, avoided=0.5, exits=0, lost=0, recalls=0.5, sessions=1,
    )  # fmt: skip
    assert (member(board, "b").state, member(board, "b").wins) == ("down", 0.25)


@pytest.mark.parametrize("reason", DepartureReason)
def test_a_member_that_left_lost_or_was_lost(reason: DepartureReason):
    fuser = PlayedFuser()
    watched = Watched(fuser)
    fuser.metrics.member_left("all", Departure("b", reason))
    row = member(watched.board(), "b")
    expected = (0.5, 0) if reason is DepartureReason.EXIT else (0, 0.5)
    assert (row.exits, row.lost) == expected


def test_who_may_sleep_is_asleep_and_before_any_word_nothing_is_known():
    fuser = PlayedFuser()
    watched = Watched(fuser)
    assert member(watched.board(), "a").state == "unknown"
    fuser.reaches("a", wakes=True)
    assert [row.state for row in watched.board().members] == ["ready", "asleep"]


def test_a_member_that_one_fuser_does_not_reach_is_down():
    one, other = PlayedFuser(), PlayedFuser()
    one.reaches("a", "b")
    other.reaches("a")
    assert [row.state for row in Watched(one, other).board().members] == ["ready", "down"]


def test_fusers_are_seen_together():
    one, other = PlayedFuser(), PlayedFuser()
    watched = Watched(one, other)
    answer(one)
    for fuser in (one, other, other):
        answer(fuser, "few")
    one.metrics.segment_won("all", "b")
    for fuser in (one, other, other):
        fuser.metrics.segment_won("few", "a")
    board = watched.board()
    answers = {row.name: row.answers for row in board.ensembles}
    assert answers == {"all": 0.5, "few": 1.5, None: 2.0}
    assert {row.name: row.wins for row in board.members} == {"a": 0.75, "b": 0.25}


def test_a_model_of_two_replicas():
    one, other = PlayedModel(), PlayedModel()
    watched = Watched(one, other)
    one.metrics.load(waiting=2, running=1)
    other.metrics.load(waiting=1, running=3)
    one.metrics.forward("draft", 0.1, 3)
    other.metrics.forward("score", 0.1, 5)
    one.metrics.ingested(hit=3, miss=1)
    one.metrics.cache(used_bytes=1, budget_bytes=4, sessions=1)
    other.metrics.cache(used_bytes=3, budget_bytes=4, sessions=1)
    assert watched.board().models == (
        ModelRow(
            "a", replicas=2, running=4, waiting=3, batch=4, passes=1, kv_use=0.75, kv_hits=0.75,
            server=None,
        ),
    )  # fmt: skip


def test_a_model_on_a_server_of_another_project():
    model = PlayedModel()
    model.metrics.requested("score", "ok", 0.1)
    watched = Watched(model)
    model.metrics.requested("score", "ok", 0.1)
    (row,) = watched.board().models
    assert (row.server, row.batch, row.kv_hits) == (0.5, None, None)


def test_what_is_down_is_named_and_the_rest_is_there():
    fuser, model = PlayedFuser(), PlayedModel()
    watched = Watched(fuser, model)
    watched.histories[1] = watched.histories[1].lost("is down: connection refused")
    board = board_of([watched.histories[0].seen(fuser.scrape(SECONDS)), watched.histories[1]])
    assert board.troubles == ("model a m:1 is down: connection refused",)
    assert (len(board.ensembles), board.models) == (3, ())


def test_at_first_there_is_nothing_to_tell():
    board = board_of([History(FUSER)])
    assert board == Board(None, 0, 0, 0, (), (), (), ())
