"""The page at `/` of a real fuser, in a real browser."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from fuser_service.settings.presets import completed
from fuser_service.tenancy.key_file import KeyEntry, change
from fuser_service.tenancy.keys import digest_of, id_of, new_key
from model_service.backends.scripted.settings import Line
from tests.support.browser import Visit, needs_browser, open_browser, visiting
from tests.support.fuser_mesh import FuserMesh, Nodes, open_fuser
from tests.support.openai_door import open_openai_mesh, open_played

if TYPE_CHECKING:
    from playwright.async_api import Browser

pytestmark = [needs_browser, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

PARIS = "The capital of France is Paris and two plus two is five."
FOUR = "The capital of France is Lyon and two plus two is four."
FUSED = "The capital of France is Paris and two plus two is four."
HTTP = {"http": {"listen": "127.0.0.1:0"}}
HOSTILE = (
    "<script>window.hacked = 1</script> <img src=x onerror=window.hacked=2> \u202egnorw "
    "&lt;b&gt; javascript:alert(1) " + "ж" * 4000
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with open_browser() as browser:
        yield browser


def lines(answer: str, sure_from: int, unsure_from: int) -> tuple[Line, ...]:
    """A member that is sure of itself from one segment on, and unsure from another."""
    sure = Line(answer=answer, after_segments=sure_from)
    unsure = Line(answer=answer, after_segments=unsure_from, own_probability=0.15)
    return tuple(sorted((sure, unsure), key=lambda line: -line.after_segments))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh() -> AsyncIterator[FuserMesh]:
    """One member knows the beginning, another the end."""
    async with Nodes() as nodes:
        members = {
            "alpha": await nodes.start("alpha", *lines(PARIS, 0, 2)),
            "beta": await nodes.start("beta", *lines(FOUR, 2, 0)),
            "gamma": await nodes.start("gamma", Line(answer=HOSTILE)),
        }
        ensembles = {
            "all": {
                "members": ["alpha", "beta"],
                "vote": "segments",
                "segment_tokens": 3,
                "exit": {"policy": "none"},
            },
            "alone": {"members": ["alpha"], "vote": "segments"},
            "hostile": {"members": ["gamma"], "vote": "segments", "segment_tokens": 4},
        }
        async with open_fuser(members, top={**HTTP, "ensembles": ensembles}) as mesh:
            await mesh.becomes_ready("alpha", "beta", "alpha", "gamma")
            yield mesh


@pytest.fixture
def visit(browser: Browser, mesh: FuserMesh) -> Callable[..., Any]:
    """Visits the page of the mesh."""
    return lambda **options: visiting(browser, mesh.fuser.http_address, **options)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shown(browser: Browser, mesh: FuserMesh) -> AsyncIterator[Visit]:
    """A page that shows a trace."""
    async with visiting(browser, mesh.fuser.http_address) as page:
        await page.drop(json.dumps(TRACE))
        await page.run().wait_for()
        yield page


async def shows_round(visit: Visit, place: int) -> None:
    await visit.run().get_by_role("heading", name=f"Round {place} of").wait_for()


async def parts_of(visit: Visit, row: int) -> list[str]:
    """What the timeline says that a member did, round by round."""
    cells = visit.run().get_by_role("row").nth(row).get_by_role("cell")
    return [one.partition(",")[0] for one in await cells.locator(".unseen").all_text_contents()]


class TestAnswers:
    async def test_an_answer_streams_in_with_each_segment_in_its_authors_colour(
        self, browser: Browser
    ) -> None:
        async with AsyncExitStack() as stack:
            nodes = await stack.enter_async_context(Nodes())
            member = await nodes.start("a", Line(answer=PARIS), hold_from=2)
            fuser = await stack.enter_async_context(
                open_fuser({"a": member}, top=HTTP, segment_tokens=3)
            )
            visit = await stack.enter_async_context(visiting(browser, fuser.fuser.http_address))
            await visit.ask()
            await member.comes_to_wait()
            await visit.segments().nth(1).wait_for()
            assert await visit.texts() == ["The capital of", "France is Paris"]
            assert await visit.run().get_attribute("aria-busy") == "true"
            assert await visit.page.locator("#ask").inner_text() == "Stop"

            member.backend.opened.set()
            await visit.completes()
            assert " ".join(await visit.texts()) == PARIS

    async def test_a_segment_tells_all_of_its_round(self, visit: Callable[..., Any]) -> None:
        async with visit() as page:
            await page.ask()
            await page.completes()
            assert " ".join(await page.texts()) == FUSED
            classes = [await one.get_attribute("class") for one in await page.segments().all()]
            assert ["colour-0" in one for one in classes] == [True, True, True, False]
            assert await page.segments().locator(".badge").all_inner_texts() == ["Al", "Be"]

            await page.segments().first.hover()
            await shows_round(page, 1)
            assert await page.run().locator(".candidate .who bdi").all_inner_texts() == [
                "alpha",
                "beta",
            ]
            await page.page.mouse.move(0, 0)
            await shows_round(page, 2)
            candidates = page.run().locator(".candidate")
            assert await candidates.locator(".proposal").all_inner_texts() == [
                "France is Paris",
                "France is Lyon",
            ]
            assert await candidates.first.locator(".verdict").inner_text() == "✓ taken"
            shares = [
                int(text.split()[-2])
                for text in await candidates.locator(".share").all_inner_texts()
            ]
            assert sum(shares) == 100
            assert shares[0] > shares[1]
            verifiers = await candidates.first.locator("dt").all_text_contents()
            assert verifiers == ["Alalpha", "Bebeta"]
            bars = candidates.first.locator("dd .bar")
            widths = [
                await one.evaluate("e => e.style.getPropertyValue('--share')")
                for one in await bars.all()
            ]
            numbers = await candidates.first.locator("dd .number").all_inner_texts()
            assert [f"{round(float(width) * 100)} %" for width in widths] == numbers
            assert "proposing" in await page.run().locator(".round .times").inner_text()

            await page.segments().nth(3).click()
            await page.page.mouse.move(0, 0)
            await shows_round(page, 4)
            table = page.run().get_by_role("table")
            assert await table.get_by_role("row").count() == 4
            assert await parts_of(page, 1) == ["won", "won", "won", "proposed"]
            agreed = "proposed what won"
            assert await parts_of(page, 2) == [agreed, "proposed", agreed, "won"]

    async def test_several_ways_side_by_side(self, visit: Callable[..., Any]) -> None:
        async with visit() as page:
            await page.page.click("#compare")
            second = page.page.locator(".wanted").nth(1)
            await second.get_by_label("Ensemble").select_option("all")
            await second.locator("summary").click()
            await second.get_by_label("Start from").select_option(label="nobody leaves")
            await second.get_by_label("Tokens a segment").fill("5")
            await page.ask()
            await page.completes(2)
            assert len(await page.texts(0)) == 4
            assert len(await page.texts(1)) == 3
            bodies = [one.post_data_json for one in page.requests if one.method == "POST"]
            assert [one["specfuse"] for one in bodies] == [
                {"trace": True},
                {"segment_tokens": 5, "exit_policy": "none", "trace": True},
            ]
            assert "5" in await page.run(1).locator(".wishes").inner_text()
            await page.page.click(".remove >> nth=0")
            assert await page.page.locator(".wanted").count() == 1

    async def test_what_cannot_be_asked_is_said_where_it_is(
        self, visit: Callable[..., Any]
    ) -> None:
        async with visit() as page:
            await page.page.click("#ask")
            assert await page.page.locator("#problem").inner_text() == "The question is empty"
            await page.page.locator(".wanted summary").click()
            await page.page.get_by_label("Temperature").fill("7")
            await page.ask()
            said = await page.page.locator("#problem").inner_text()
            assert said == "Temperature must be a number from 0 to 2"
            assert await page.page.input_value("#question") == "Which?"

    async def test_a_link_prepares_a_question_and_asks_nothing(
        self, visit: Callable[..., Any]
    ) -> None:
        async with visit(path="/#question=Why%3F&ensemble=alone&ensemble=all") as page:
            await page.page.locator(".wanted").nth(1).wait_for()
            assert await page.page.input_value("#question") == "Why?"
            selects = await page.page.get_by_label("Ensemble").all()
            assert [await one.input_value() for one in selects] == ["alone", "all"]
            assert not any(one.method == "POST" for one in page.requests)

    async def test_a_link_to_what_there_is_not_says_so(self, visit: Callable[..., Any]) -> None:
        async with visit(path="/#question=Why%3F&ensemble=<b>none") as page:
            problem = page.page.locator("#problem")
            await problem.wait_for()
            said = await problem.inner_text()
            assert said == "The link asks <b>none, and there is no such ensemble for you here"


class TestTrouble:
    async def test_a_refused_key_is_asked_for_and_stays_in_the_tab(
        self, browser: Browser, tmp_path: Path
    ) -> None:
        key, file = new_key(), tmp_path / "keys.yaml"
        entry = KeyEntry(id=id_of(key), sha256=digest_of(key), team="search", expires=None)
        change(file, lambda entries: [*entries, entry])
        tenancy = {"keys": str(file), "teams": {"search": {}}}
        async with (
            open_openai_mesh({"a": PARIS}, top={**HTTP, "tenancy": tenancy}) as (mesh, _, _),
            visiting(browser, mesh.fuser.http_address) as page,
        ):
            complaint = page.page.locator("#complaint")
            await complaint.get_by_role("button", name="Enter a key").click()
            await page.page.keyboard.type("a wrong one")
            await page.page.keyboard.press("Enter")
            assert await page.page.locator("#key-problem").is_visible()
            await page.page.fill("#key-field", "sf-wrong")
            await page.page.keyboard.press("Enter")
            await complaint.get_by_role("button", name="Enter a key").click()
            await page.page.fill("#key-field", key)
            await page.page.keyboard.press("Enter")
            await complaint.wait_for(state="hidden")
            await page.ask()
            await page.completes()
            assert " ".join(await page.texts()) == PARIS
            kept = await page.page.evaluate("[{...sessionStorage}, {...localStorage}]")
            assert kept == [{"specfuse.key": key}, {}]
            assert key not in json.dumps(await page.saved())
            assert await page.page.context.cookies() == []
            carried = [one for one in page.requests if key in one.headers.get("authorization", "")]
            assert {one.url.removeprefix(page.origin) for one in carried} == {
                "v1/models",
                "v1/chat/completions",
            }

            await page.page.reload()
            await page.page.get_by_text("Key: set").click()
            await page.page.click("#forget-key")
            await complaint.get_by_role("button", name="Enter a key").wait_for()
            assert await page.page.evaluate("sessionStorage.length") == 0

    async def test_a_link_waits_for_the_key(self, browser: Browser, tmp_path: Path) -> None:
        key, file = new_key(), tmp_path / "keys.yaml"
        entry = KeyEntry(id=id_of(key), sha256=digest_of(key), team="search", expires=None)
        change(file, lambda entries: [*entries, entry])
        tenancy = {"keys": str(file), "teams": {"search": {}}}
        ensembles = {name: {"members": ["a"]} for name in ("first", "linked")}
        top = {**HTTP, "tenancy": tenancy, "ensembles": ensembles}
        link = "/#question=Why%3F&ensemble=linked"
        async with (
            open_openai_mesh({"a": PARIS}, top=top) as (mesh, _, _),
            visiting(browser, mesh.fuser.http_address, path=link) as page,
        ):
            await page.page.get_by_role("button", name="Enter a key").click()
            await page.page.fill("#key-field", key)
            await page.page.keyboard.press("Enter")
            await page.page.locator(".wanted option").first.wait_for(state="attached")
            assert await page.page.get_by_label("Ensemble").input_value() == "linked"

    async def test_a_full_fuser_says_so_and_can_be_asked_again(self, browser: Browser) -> None:
        top = {**HTTP, "limits": {"requests_in_flight": 1}}
        async with open_openai_mesh({"a": PARIS}, top=top) as (mesh, nodes, _):
            nodes["a"].backend.hold_from = 0
            async with (
                visiting(browser, mesh.fuser.http_address) as first,
                visiting(browser, mesh.fuser.http_address) as page,
            ):
                await first.ask()
                await nodes["a"].comes_to_wait()
                await page.ask()
                await page.completes()
                notice = page.run().locator(".notice")
                assert "The fuser is full. 1 requests are in flight" in await notice.inner_text()
                nodes["a"].backend.opened.set()
                await first.completes()
                await mesh.becomes_idle()
                await notice.get_by_role("button", name="Try again").click()
                await page.completes()
                assert " ".join(await page.texts()) == PARIS
                assert not await notice.is_visible()

    async def test_an_answer_that_lost_its_quorum_is_gone_on_with(self, browser: Browser) -> None:
        async with AsyncExitStack() as stack:
            nodes = await stack.enter_async_context(Nodes())
            member = await nodes.start("a", Line(answer=PARIS), hold_from=2)
            mesh = await stack.enter_async_context(
                open_fuser({"a": member}, top=HTTP, segment_tokens=3)
            )
            page = await stack.enter_async_context(visiting(browser, mesh.fuser.http_address))
            await page.ask()
            await member.comes_to_wait()
            await member.kill()
            resume = page.run().get_by_role("button", name="Resume")
            await resume.wait_for()
            assert await page.texts() == ["The capital of", "France is Paris"]
            status = page.page.get_by_role("status")
            assert "interrupted after 2 segments" in (await status.text_content() or "")

            await nodes.start("a", Line(answer=PARIS), listen=member.address)
            await mesh.becomes_ready("a")
            await resume.click()
            await page.completes()
            assert " ".join(await page.texts()) == PARIS
            assert "resumed once" in await page.run().locator(".facts").inner_text()
            assert await page.run().locator(".segment.resumes").count() == 1
            body = [one.post_data_json for one in page.requests if one.method == "POST"][-1]
            assert body["specfuse"]["resume"] == {
                "committed_segments": ["The capital of", " France is Paris"],
                "committed_tokens": 6,
            }

    async def test_an_answer_can_be_stopped_and_gone_on_with(self, browser: Browser) -> None:
        async with open_openai_mesh({"a": PARIS}, top=HTTP, segment_tokens=3) as (mesh, nodes, _):
            nodes["a"].backend.hold_from = 1
            async with visiting(browser, mesh.fuser.http_address) as page:
                await page.ask()
                await nodes["a"].comes_to_wait()
                await page.segments().first.wait_for()
                await page.page.click("#ask")
                await nodes["a"].is_cancelled()
                await page.run().get_by_text("You stopped it.").wait_for()
                nodes["a"].backend.opened.set()
                await page.run().get_by_role("button", name="Resume").click()
                await page.completes()
                assert " ".join(await page.texts()) == PARIS

    async def test_a_fuser_that_is_gone_is_told_from_one_that_refuses(
        self, browser: Browser
    ) -> None:
        async with open_played() as door, visiting(browser, door.address) as page:
            await (
                page.page.get_by_label("Ensemble")
                .locator("option")
                .first.wait_for(state="attached")
            )
            await door.server.stop()
            await page.ask()
            await page.run().get_by_text("The fuser cannot be reached").first.wait_for()
            assert await page.page.input_value("#question") == "Which?"


class TestTraces:
    async def test_a_saved_trace_is_the_same_when_it_is_dropped_back(
        self, visit: Callable[..., Any], mesh: FuserMesh
    ) -> None:
        async with visit() as page:
            await page.page.click("#compare")
            await page.ask("Which of them?")
            await page.completes(2)
            trace = await page.saved()
            before = [await page.run(place).inner_text() for place in range(2)]
        assert trace["question"] == "Which of them?"
        assert [one["ensemble"] for one in trace["runs"]] == ["all", "alone"]

        async with visit() as page:
            await page.drop(json.dumps(trace))
            await page.run(1).wait_for()
            assert await page.page.locator("#origin").is_visible()
            assert [await page.run(place).inner_text() for place in range(2)] == before
            assert await page.page.evaluate("document.activeElement.id") == "results"
            again = await page.saved()
            assert {**again, "saved": ""} == {**trace, "saved": ""}
            assert not any(one.method == "POST" for one in page.requests)

    async def test_a_trace_is_shared_and_pasted(self, visit: Callable[..., Any]) -> None:
        async with visit(permissions=["clipboard-read", "clipboard-write"]) as page:
            await page.ask()
            await page.completes()
            await page.page.evaluate("navigator.canShare = undefined")
            await page.page.click("#share")
            await page.page.get_by_text("The trace is copied").wait_for()
            await page.page.reload()
            await page.page.locator("h1").click()
            await page.page.keyboard.press("Control+v")
            await page.run().wait_for()
            assert " ".join(await page.texts()) == FUSED

    async def test_an_interrupted_trace_from_a_file_can_be_gone_on_with(
        self, visit: Callable[..., Any], tmp_path: Path
    ) -> None:
        async with visit() as page:
            await page.ask()
            await page.completes()
            trace = await page.saved()
            run = trace["runs"][0]
            run.update(rounds=run["rounds"][:2], finish=None, facts=None, tail="")
            file = tmp_path / "half.json"
            file.write_text(json.dumps(trace))
            await page.page.set_input_files("#trace-file", file)
            await page.run().get_by_text("It was saved before its end.").wait_for()
            await page.run().get_by_role("button", name="Resume").click()
            await page.completes()
            assert " ".join(await page.texts()) == FUSED

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ("", "the file is not JSON"),
            ("{", "the file is not JSON"),
            ("[]", "the file is a list; it must be an object"),
            ("{}", "the file is no trace: it has no specfuse_trace"),
            ({"specfuse_trace": 2}, "specfuse_trace must be 1"),
            ({"runs": []}, "runs is empty"),
            ({"question": 5}, "question is the number 5; it must be a text"),
            ({"runs": [{}]}, "runs[0].rounds is missing"),
            ({"runs.0.rounds.1.shares": {"alpha": 7}}, "runs[0].rounds[1].shares.alpha must be"),
            ({"runs.0.rounds.0.winner": ["<b>"]}, "runs[0].rounds[0].winner is a list"),
            ({"runs.0.rounds.0.left": [{"member": "a", "reason": "<b>"}]}, "left[0].reason must"),
            ({"runs.0.rounds.0.candidates.0.share": -1}, "candidates[0].share is the number -1"),
            ({"runs.0.wishes": {"statistic": "<script>"}}, "wishes.statistic is not among"),
            ({"runs.0.members": ["x" * 300]}, "members[0] is longer than 256 characters"),
            ({"runs.0.rounds": [1] * 5000}, "runs[0].rounds has 5000 entries; at most 4096"),
        ],
    )
    async def test_a_wrong_file_is_refused_by_name_and_nothing_is_lost(
        self, shown: Visit, wrong: Any, said: str
    ) -> None:
        content = wrong if isinstance(wrong, str) else json.dumps(changed(TRACE, wrong))
        await shown.drop(content)
        complaint = shown.page.locator("#complaint")
        await complaint.get_by_text("This trace cannot be opened: ").wait_for()
        assert said in await complaint.inner_text()
        assert await shown.texts() == ["Yes", "it is"]
        await shown.drop(json.dumps(TRACE))
        await complaint.wait_for(state="hidden")

    async def test_hostile_text_stays_text(self, visit: Callable[..., Any]) -> None:
        async with visit(viewport={"width": 380, "height": 700}) as page:
            await page.page.get_by_label("Ensemble").select_option("hostile")
            await page.ask(HOSTILE)
            await page.completes()
            assert HOSTILE.rsplit(maxsplit=1)[-1] in "".join(await page.texts())
            assert await page.fits()

            hostile = changed(
                TRACE,
                {
                    "question": HOSTILE,
                    "saved": HOSTILE[:100],
                    "runs.0.ensemble": HOSTILE[:250],
                    "runs.0.members": ["__proto__", "constructor", HOSTILE[:250]],
                    "runs.0.rounds.0.winner": "__proto__",
                    "runs.0.rounds.0.segment": HOSTILE,
                    "runs.0.rounds.0.shown": HOSTILE,
                    "runs.0.rounds.0.candidates.0.text": HOSTILE,
                    "runs.0.rounds.0.candidates.0.judgements": {HOSTILE[:250]: 1},
                    "runs.0.rounds.0.left": [
                        {"member": "constructor", "reason": "failed", "detail": HOSTILE}
                    ],
                    "runs.0.interruption": {"message": HOSTILE, "code": "<b>"},
                    "runs.0.finish": None,
                },
            )
            await page.page.fill("#question", "something else")
            raw = json.dumps(hostile).replace('"alpha": 1', '"__proto__": 1')
            await page.drop(raw)
            await page.page.locator("#origin").wait_for()
            assert await page.page.locator("h2 bdi").inner_text() == HOSTILE
            assert await page.page.locator("#origin").inner_text() == "From a file."
            assert await page.fits()
            assert await page.page.evaluate("window.hacked") is None
            assert await page.page.evaluate("({}).polluted ?? Object.prototype.toString.call({})")
            scripts = await page.page.locator("script, img, iframe").count()
            assert scripts == 2  # the page's own script and its icon
            assert (await page.saved())["runs"][0]["rounds"] == json.loads(raw)["runs"][0]["rounds"]


class TestEveryone:
    async def test_all_of_it_works_by_keyboard(self, visit: Callable[..., Any]) -> None:
        async with visit() as page:
            press = page.page.keyboard.press
            await (
                page.page.get_by_label("Ensemble")
                .locator("option")
                .first.wait_for(state="attached")
            )
            await press("Tab")
            assert await focused(page) == "Skip to the question"
            await press("Enter")
            await page.page.keyboard.type("Which?")
            await press("Shift+Enter")
            await page.page.keyboard.type("Really?")
            assert await page.page.input_value("#question") == "Which?\nReally?"
            await press("Enter")
            await page.completes()

            for _ in range(12):
                await press("Tab")
                if await page.page.evaluate("document.activeElement.role") == "option":
                    break
            assert "The capital of" in await focused(page)
            outline = await page.page.evaluate(
                "getComputedStyle(document.activeElement).outlineStyle"
            )
            assert outline == "solid"
            await press("ArrowRight")
            await shows_round(page, 2)
            assert "France is Paris (alpha, " in await focused(page)
            await press("End")
            await shows_round(page, 4)
            await press("Tab")
            await press("Enter")
            await shows_round(page, 3)
            label = await page.page.evaluate("document.activeElement.ariaLabel")
            assert label == "The round before"
            assert await page.page.get_by_role("listbox").get_by_role("option").count() == 4

    async def test_the_end_is_told_politely_to_those_who_listen(
        self, visit: Callable[..., Any]
    ) -> None:
        async with visit() as page:
            status = page.page.get_by_role("status")
            assert await status.get_attribute("aria-live") == "polite"
            await page.ask()
            await page.completes()
            said = await status.text_content()
            assert said == f"all answered: {FUSED} Written by alpha, beta."

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    async def test_all_text_stands_out(self, visit: Callable[..., Any], scheme: Any) -> None:
        async with visit(color_scheme=scheme) as page:
            await page.page.click("#key summary")
            await page.page.locator(".wanted summary").click()
            assert await page.page.evaluate(FAINT) == []
            await page.drop(json.dumps(MANY))
            await page.run().wait_for()
            await page.segments().nth(2).hover()
            assert await page.page.evaluate(FAINT) == []

    async def test_it_fits_a_narrow_window(self, visit: Callable[..., Any]) -> None:
        async with visit(viewport={"width": 380, "height": 700}, has_touch=True) as page:
            assert await page.fits()
            await page.page.click("#key summary")
            box = await page.page.locator("#key form").bounding_box()
            assert box is not None
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 380
            await page.page.click("#key summary")
            await page.page.click("#compare")
            await page.page.locator(".wanted summary").first.click()
            await page.ask()
            await page.completes(2)
            await page.segments().nth(1).tap()
            await shows_round(page, 2)
            assert await page.fits()

    async def test_members_differ_by_more_than_colour(self, visit: Callable[..., Any]) -> None:
        async with visit() as page:
            await page.drop(json.dumps(MANY))
            await page.run().wait_for()
            lines = {
                await one.evaluate("e => getComputedStyle(e).textDecorationStyle")
                for one in await page.segments().locator(".text").all()
            }
            assert lines == {"solid", "dashed", "dotted", "double", "wavy"}
            initials = await page.run().locator(".cast .badge").all_inner_texts()
            assert len(set(initials)) == len(initials) == 10

    async def test_the_description_of_the_api_belongs_to_it(
        self, visit: Callable[..., Any]
    ) -> None:
        async with visit(path="/docs", viewport={"width": 380, "height": 700}) as page:
            assert await page.page.evaluate(FAINT) == []
            assert await page.fits()
            sans = "getComputedStyle(document.body).fontFamily"
            family = await page.page.evaluate(sans)
            await page.page.get_by_role("link", name="Ask").click()
            await page.page.locator("#question").wait_for()
            assert await page.page.evaluate(sans) == family


class TestModules:
    """The pure parts, where they run."""

    async def test_events_are_read_however_they_are_cut(self, visit: Callable[..., Any]) -> None:
        stream = 'data: {"a":1}\r\n\r\n: ping\n\ndata:x\ndata: y\n\n\rdata: é\r\rdata: left'
        async with visit() as page:
            read = await page.run_module(
                "events",
                """const all = new Set();
                for (let i = 0; i <= a.length; i++) for (let j = i; j <= a.length; j++) {
                    const reader = new m.EventReader();
                    const parts = [a.slice(0, i), a.slice(i, j), a.slice(j)];
                    all.add(JSON.stringify(parts.flatMap((part) => reader.feed(part))));
                }
                return [...all];""",
                stream,
            )
        assert [json.loads(one) for one in read] == [['{"a":1}', "x\ny", "é"]]

    @pytest.mark.parametrize(
        "names",
        [
            ["capitals", "sums", "colours", "spanish", "opposites"],
            ["llama-8b", "llama-70b", "llama-70b-instruct", "llama"],
            ["", "?", "日本", "日本語", "é"],
            [f"m{number}" for number in range(64)],
        ],
    )
    async def test_initials_are_short_and_all_different(
        self, visit: Callable[..., Any], names: list[str]
    ) -> None:
        async with visit() as page:
            initials = await page.run_module("members", "return m.initialsOf(a)", names)
        assert len(set(initials)) == len(names)
        assert all(1 <= len(one) <= 3 for one in initials)

    async def test_who_was_asked_follows_from_who_left_and_came(
        self, visit: Callable[..., Any]
    ) -> None:
        def one(number: int, *proposers: str, **more: Any) -> dict[str, Any]:
            return round_of(number, proposers, **more)

        rounds = [
            one(1, "a", "b", "c", left=[gone("b", "exit"), gone("c", "failed")]),
            one(2, "a"),
            one(3, "a", "b", recalled=["b"]),
            one(4, "b"),
            one(5, "a", "c"),
        ]
        async with visit() as page:
            parts = await page.run_module(
                "tracefile",
                """const {standings} = await import('/page/trace.js');
                return standings(m.read(a).runs[0]).map(
                    (round) => Object.fromEntries([...round].map(([k, v]) => [k, v.part])));""",
                json.dumps(
                    changed(TRACE, {"runs.0.rounds": rounds, "runs.0.members": ["a", "b", "c"]})
                ),
            )
        assert parts == [
            {"a": "won", "b": "proposed", "c": "proposed"},
            {"a": "won", "b": "idle", "c": "lost"},
            {"a": "won", "b": "proposed", "c": "lost"},
            {"a": "missed", "b": "won", "c": "lost"},
            {"a": "won", "b": "missed", "c": "proposed"},
        ]

    async def test_who_watched_was_asked_to_judge_and_is_not_late(
        self, visit: Callable[..., Any]
    ) -> None:
        rounds = [
            round_of(1, ("a", "b", "c")),
            round_of(2, ("a",), watched=["b", "c"], objected=["c"]),
            round_of(3, ("c", "a"), watched=["b"], left=[gone("b", "exit")]),
            round_of(4, ("c",), watched=["a"]),
        ]
        trace = changed(TRACE, {"runs.0.rounds": rounds, "runs.0.members": ["a", "b", "c"]})
        async with visit() as page:
            parts = await page.run_module(
                "tracefile",
                """const {standings} = await import('/page/trace.js');
                return standings(m.read(a).runs[0]).map((round) => Object.fromEntries(
                    [...round].map(([k, v]) => [k, v.part + (v.objected ? "!" : "")])));""",
                json.dumps(trace),
            )
        assert parts == [
            {"a": "won", "b": "proposed", "c": "proposed"},
            {"a": "won", "b": "watched", "c": "watched!"},
            {"a": "proposed", "b": "watched", "c": "won"},
            {"a": "watched", "b": "idle", "c": "won"},
        ]

    async def test_published_presets_are_those_of_the_settings(
        self, visit: Callable[..., Any]
    ) -> None:
        async with visit() as page:
            presets = await page.run_module(
                "wishes", "return Object.fromEntries(m.PRESETS.map((p) => [p.name, p.wishes]))"
            )
        for name, shown in (
            ("specfuse-paper", "SpecFuse, as published"),
            ("specem-paper", "SpecEM, as published"),
        ):
            settings = completed({"preset": name})
            expected = {
                "segment_tokens": settings["segment_tokens"],
                "statistic": settings["statistic"],
                "weighting": settings["weighting"],
                "self_judgement": settings["self_judgement"] == "include",
                "exit_policy": settings["exit"]["policy"],
                **{key: settings["exit"][key] for key in ("recall",) if key in settings["exit"]},
                **settings.get("sampling", {}),
            }
            assert presets[shown] == expected


async def focused(visit: Visit) -> str:
    """The text of what has the focus."""
    return str(await visit.page.evaluate("document.activeElement.textContent"))


def gone(member: str, reason: str) -> dict[str, str]:
    return {"member": member, "reason": reason, "detail": ""}


def round_of(number: int, proposers: tuple[str, ...], **more: Any) -> dict[str, Any]:
    """A round as a trace has it: each proposes something else, the first one wins."""
    share = 1 / len(proposers)
    text = more.pop("text", f" segment {number}")
    candidates = [
        {
            "text": text if place == 0 else f" other {place}",
            "finished": False,
            "proposers": [member],
            "share": share,
            "judgements": dict.fromkeys(proposers, share),
        }
        for place, member in enumerate(proposers)
    ]
    return {
        "number": number,
        "segment": text,
        "shown": text,
        "tokens": 2,
        "winner": proposers[0],
        "finished": False,
        "shares": dict.fromkeys(proposers, share),
        "left": [],
        "recalled": [],
        "milliseconds": {"propose": 1, "score": 2, "total": 3},
        "candidates": candidates,
        "watched": [],
        "objected": [],
        **more,
    }


def trace_of(members: list[str], rounds: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "specfuse_trace": 1,
        "saved": "2026-01-02T03:04:05Z",
        "question": "Is it?",
        "runs": [
            {
                "ensemble": "all",
                "members": members,
                "wishes": {},
                "rounds": rounds,
                "tail": "",
                "facts": None,
                "finish": "stop",
                "interruption": None,
                "resumed": [],
            }
        ],
    }


def changed(document: Any, changes: dict[str, Any]) -> Any:
    """A copy in which what is at these dotted paths is something else."""
    copy = json.loads(json.dumps(document))
    for path, value in changes.items():
        *above, last = (int(part) if part.isdecimal() else part for part in path.split("."))
        at = copy
        for part in above:
            at = at[part]
        at[last] = value
    return copy


TRACE = trace_of(
    ["alpha"], [round_of(1, ("alpha",), text="Yes"), round_of(2, ("alpha",), text=" it is")]
)
CROWD = [f"{letter}member" for letter in "abcdefghij"]
MANY = changed(
    trace_of(
        CROWD,
        [round_of(place + 1, (one, *CROWD[:place])) for place, one in enumerate(CROWD)],
    ),
    {
        "runs.0.rounds.2.left": [gone("amember", "straggler"), gone("bmember", "exit")],
        "runs.0.rounds.4.recalled": ["bmember"],
        "runs.0.resumed": [5],
        "runs.0.finish": None,
        "runs.0.interruption": {"message": "nobody is left", "code": "unavailable"},
    },
)
"""Ten members that each write a segment, and everything that can be marked."""

FAINT = """() => {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 1;
    const context = canvas.getContext("2d", {willReadFrequently: true});
    const painted = (colours) => {
        context.clearRect(0, 0, 1, 1);
        for (const colour of colours) {
            context.fillStyle = colour;
            context.fillRect(0, 0, 1, 1);
        }
        return [...context.getImageData(0, 0, 1, 1).data.slice(0, 3)];
    };
    const luminance = (rgb) => {
        const [r, g, b] = rgb.map((v) => v / 255)
            .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const faint = [];
    for (const element of document.querySelectorAll("body *")) {
        const written = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
        if (!written || !element.checkVisibility() || element.closest(":disabled, option, .unseen"))
            continue;
        const behind = [];
        for (let at = element; at; at = at.parentElement)
            behind.unshift(getComputedStyle(at).backgroundColor);
        const back = painted(behind);
        const front = painted([...behind, getComputedStyle(element).color]);
        const [low, high] = [luminance(back), luminance(front)].sort((x, y) => x - y);
        const ratio = (high + 0.05) / (low + 0.05);
        if (ratio < 4.5) faint.push(`${element.className}: ${element.textContent} ${ratio}`);
    }
    return faint;
}"""
"""The texts whose contrast to what is behind them is below 4.5."""
