"""Faults under traffic: every fault against a member, a replica and a fuser, and two at once.

What is asserted about times is loose, since machines that run tests are busy. What was measured
goes into the report.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest
import pytest_asyncio

from tests.robustness import clock
from tests.robustness.checker import Demands, check
from tests.robustness.faults import (
    Both,
    ClockAhead,
    ClockBehind,
    Delayed,
    Dripping,
    Fault,
    FullDisk,
    Hung,
    Killed,
    OnTarget,
    Refused,
    Reset,
    Restarted,
    Starved,
    Swallowed,
    Terminated,
)
from tests.robustness.measured import Measured, Report, Times, has_recovered, measure
from tests.robustness.mesh import Mesh, experts, running_mesh, scripted
from tests.robustness.traffic import traffic

pytestmark = pytest.mark.asyncio(loop_scope="module")

MEMBER = "gamma-0"
"""The only replica of a member."""
REPLICA = "alpha-0"
"""One replica of two."""
FUSER = "fuser-0"
"""One fuser of two."""

LONGEST_RECOVERY_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Case:
    """A fault, and what is expected of the mesh.

    `lasting`: it is healed only once answers are whole although it is there, which takes somebody
    to stand in. Otherwise it is healed after some answers. `most_failed` may fail. `quiet`: it need
    not be noticed.
    """

    fault: Fault
    lasting: bool = True
    most_failed: int = 0
    quiet: bool = False

    def __str__(self) -> str:
        return f"{self.fault}{', lasting' * self.lasting}"


EVERY = (
    *(Killed, Terminated, Restarted, Hung, FullDisk, Starved),
    *(Swallowed, Delayed, Dripping, Reset, Refused),
)
"""Every fault of one service but those of its clock, for which it must be prepared."""

CLOCKS = (ClockAhead, ClockBehind)

HARMLESS = (FullDisk, Starved, *CLOCKS)
"""What a service can be expected to bear without anybody noticing."""


def case_of(kind: type[OnTarget], target: str, *, lasting: bool = False) -> Case:
    """The fault, of that service."""
    return Case(kind(target), lasting=lasting, quiet=kind in HARMLESS)


USUAL = [
    case_of(Killed, MEMBER),
    case_of(FullDisk, MEMBER),
    case_of(Hung, REPLICA, lasting=True),
    case_of(Reset, FUSER),
    case_of(Killed, FUSER, lasting=True),
    case_of(Terminated, FUSER, lasting=True),
]
"""Tried at every opportunity."""

OTHERS = [
    *(case_of(fault, MEMBER) for fault in EVERY if fault not in (Killed, FullDisk)),
    *(
        case_of(fault, REPLICA, lasting=True)
        for fault in (Killed, Terminated, Swallowed, Delayed, Refused)
    ),
    *(case_of(fault, REPLICA) for fault in (Hung, Restarted, Starved, Dripping, Reset)),
    *(case_of(fault, FUSER) for fault in (Hung, Restarted, FullDisk, Starved)),
    *(case_of(fault, FUSER) for fault in (Swallowed, Delayed, Dripping, Refused)),
    *(case_of(fault, FUSER, lasting=True) for fault in (Hung, Swallowed)),
    Case(Both(Killed(REPLICA), Killed(MEMBER)), lasting=False),
    Case(Both(Killed(FUSER), Killed(MEMBER)), lasting=False),
    # The fuser has something to log, and cannot.
    Case(Both(FullDisk(FUSER), Killed(MEMBER)), lasting=False),
    Case(Both(Hung(REPLICA), Killed(FUSER))),
    Case(Both(Refused(REPLICA), Delayed(FUSER))),
    # Fewer than the quorum are left: questions wait for some seconds, then they fail.
    Case(Both(Killed("beta-0"), Killed(MEMBER)), lasting=False, most_failed=100),
]

OF_CLOCKS = [case_of(fault, target) for fault in CLOCKS for target in (MEMBER, FUSER)]

EXPERT = "capitals-0"
"""The only replica of an expert."""
EXPERT_REPLICA = "sums-0"
"""One replica of two of an expert."""

OF_EXPERTS = [
    *(case_of(fault, EXPERT) for fault in EVERY),
    *(case_of(fault, EXPERT_REPLICA, lasting=True) for fault in (Killed, Hung, Swallowed, Starved)),
    case_of(Killed, FUSER, lasting=True),
]
"""Tried on the experts that are shipped, each of which knows what no other does."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    async with running_mesh(scripted(), tmp_path_factory.mktemp("mesh")) as mesh:
        yield mesh


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh_with_clocks(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    shape = replace(scripted(), clocked=(MEMBER, FUSER))
    async with running_mesh(shape, tmp_path_factory.mktemp("clocks")) as mesh:
        yield mesh


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh_of_experts(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    async with running_mesh(experts(), tmp_path_factory.mktemp("experts")) as mesh:
        yield mesh


@pytest.mark.parametrize(
    "case",
    [*USUAL, *(pytest.param(case, marks=pytest.mark.robustness) for case in OTHERS)],
    ids=str,
)
async def test_under_a_fault_nothing_is_lost_or_silently_wrong(
    mesh: Mesh, report: Report, case: Case
) -> None:
    row = await run(mesh, case)
    report.rows.append(row)
    assert row.recovered < LONGEST_RECOVERY_SECONDS
    assert not row.recovered_under_fault > LONGEST_RECOVERY_SECONDS


@pytest.mark.robustness
@pytest.mark.skipif(clock.COMPILER is None, reason="needs a C compiler: cc")
@pytest.mark.parametrize("case", OF_CLOCKS, ids=str)
async def test_no_deadline_depends_on_the_wall_clock(
    mesh_with_clocks: Mesh, report: Report, case: Case
) -> None:
    report.rows.append(await run(mesh_with_clocks, case))


@pytest.mark.robustness
@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", OF_EXPERTS, ids=str)
async def test_the_shipped_experts_fare_no_worse(
    mesh_of_experts: Mesh, report: Report, case: Case
) -> None:
    row = await run(mesh_of_experts, case)
    report.rows.append(replace(row, fault=f"{row.fault} (experts)"))


async def run(mesh: Mesh, case: Case) -> Measured:
    """Traffic, the fault, its end, and the recovery: judged, and measured."""
    fault = case.fault
    assert fault.available(mesh)
    await mesh.is_whole()
    shape = mesh.shape
    async with (
        asyncio.timeout(6 * shape.seconds),
        traffic(mesh.addresses, shape.questions, seconds=shape.seconds) as history,
    ):
        await history.until(lambda: len(history.ends) >= shape.least)
        before = await mesh.traces()
        faulted = time.monotonic()
        await fault.inject(mesh)
        await history.until(lambda: len(history.ends_of(asked_from=faulted)) >= shape.least)
        if case.lasting:
            await history.until(lambda: has_recovered(history, faulted))
        await fault.heal(mesh)
        healed = time.monotonic()
        await history.until(lambda: has_recovered(history, healed))
        after = await mesh.traces()
    noticed = case.quiet or any(after[source] > count for source, count in before.items())
    demands = Demands(mesh.reference, faulted, shape.least, case.most_failed, noticed)
    assert check(history, demands) == []
    return measure(str(case), history, Times(faulted, healed), lasting=case.lasting)
