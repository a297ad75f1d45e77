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

from tests.robustness.checker import Demands, check
from tests.robustness.faults import (
    Both,
    Delayed,
    Dripping,
    Fault,
    Hung,
    Killed,
    Refused,
    Reset,
    Restarted,
    Swallowed,
    Terminated,
)
from tests.robustness.measured import Measured, Report, Times, has_recovered, measure
from tests.robustness.mesh import Mesh, experts, running_mesh, scripted
from tests.robustness.traffic import CALLERS, traffic

pytestmark = pytest.mark.asyncio(loop_scope="module")

MEMBER = "gamma-0"
"""The only replica of a member."""
REPLICA = "alpha-0"
"""One replica of two."""
FUSER = "fuser-0"
"""One fuser of two."""

LEAST = 12
"""Questions that must come to their ends before a fault, and under it."""

LONGEST_RECOVERY_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Case:
    """A fault, and what is expected of the mesh.

    `lasting`: it is healed only once answers are whole although it is there, which takes somebody
    to stand in. Otherwise it is healed after some answers. `most_failed` may fail.
    """

    fault: Fault
    lasting: bool = True
    most_failed: int = 0

    def __str__(self) -> str:
        return f"{self.fault}{', lasting' * self.lasting}"


USUAL = [
    Case(Killed(MEMBER), lasting=False),
    Case(Hung(REPLICA)),
    Case(Reset(FUSER), lasting=False),
    Case(Killed(FUSER)),
    Case(Terminated(FUSER)),
]
"""Tried at every opportunity."""

OTHERS = [
    *(
        Case(fault(MEMBER), lasting=False)
        for fault in (Hung, Terminated, Restarted, Swallowed, Delayed, Dripping, Reset, Refused)
    ),
    *(Case(fault(REPLICA)) for fault in (Killed, Terminated, Swallowed, Delayed, Refused)),
    *(Case(fault(REPLICA), lasting=False) for fault in (Hung, Restarted, Dripping, Reset)),
    *(Case(fault(FUSER), lasting=False) for fault in (Hung, Restarted, Swallowed)),
    *(Case(fault(FUSER), lasting=False) for fault in (Delayed, Dripping, Refused)),
    # Until its deadline a caller cannot tell a fuser that hangs from one that thinks.
    *(Case(fault(FUSER), most_failed=CALLERS) for fault in (Hung, Swallowed)),
    Case(Both(Killed(REPLICA), Killed(MEMBER)), lasting=False),
    Case(Both(Killed(FUSER), Killed(MEMBER)), lasting=False),
    Case(Both(Hung(REPLICA), Killed(FUSER))),
    Case(Both(Refused(REPLICA), Delayed(FUSER))),
    # Fewer than the quorum are left: questions wait for some seconds, then they fail.
    Case(Both(Killed("beta-0"), Killed(MEMBER)), lasting=False, most_failed=100),
]

OF_EXPERTS = [
    Case(Killed("capitals-0"), lasting=False),
    Case(Hung("sums-0"), lasting=False),
    Case(Swallowed("colours-0"), lasting=False),
    Case(Killed(FUSER)),
]
"""Tried on the experts that are shipped, each of which knows what no other does."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    async with running_mesh(scripted(), tmp_path_factory.mktemp("mesh")) as mesh:
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
        await history.until(lambda: len(history.ends) >= LEAST)
        before = await mesh.traces()
        faulted = time.monotonic()
        await fault.inject(mesh)
        await history.until(lambda: len(history.ends_of(asked_from=faulted)) >= LEAST)
        if case.lasting:
            await history.until(lambda: has_recovered(history, faulted))
        await fault.heal(mesh)
        healed = time.monotonic()
        await history.until(lambda: has_recovered(history, healed))
        after = await mesh.traces()
    noticed = any(after[source] > count for source, count in before.items())
    demands = Demands(mesh.reference, faulted, LEAST, case.most_failed, noticed)
    assert check(history, demands) == []
    return measure(str(case), history, Times(faulted, healed), lasting=case.lasting)
