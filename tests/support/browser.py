"""A real browser that looks at the page of a fuser, and must never do what pages must not."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from playwright.async_api import Browser, ConsoleMessage, Locator, Page, Request

CHROMIUM: Final = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
MISSING: Final = (
    None
    if CHROMIUM and importlib.util.find_spec("playwright")
    else "no browser: apt-get install chromium, and pip install playwright"
)
needs_browser = pytest.mark.skipif(MISSING is not None, reason=MISSING or "there is a browser")

PATIENCE_MS: Final = 30_000
_FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_REFUSALS: Final = "Failed to load resource"
"""What the browser itself says of a response that is an error, whoever deals with it."""


@asynccontextmanager
async def open_browser() -> AsyncIterator[Browser]:
    """The browser, without a window."""
    from playwright.async_api import async_playwright  # noqa: PLC0415 (may not be there)

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(_FLAGS))
        try:
            yield browser
        finally:
            await browser.close()


@dataclass
class Visit:
    """A visit to the page, and what went wrong during it."""

    page: Page
    origin: str
    problems: list[str] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    async def ask(self, question: str = "Which?") -> None:
        """Writes the question and asks it."""
        await self.page.fill("#question", question)
        await self.page.click("#ask")

    async def completes(self, runs: int = 1) -> None:
        """Returns when so many runs have come to an end."""
        await self.run(runs - 1).and_(self.page.locator("[aria-busy=false]")).wait_for()
        await self.page.get_by_role("button", name="Ask", exact=True).wait_for()

    def run(self, place: int = 0) -> Locator:
        """One of the runs."""
        return self.page.locator(".run").nth(place)

    def segments(self, place: int = 0) -> Locator:
        """The segments of a run's answer."""
        return self.run(place).get_by_role("option")

    async def texts(self, place: int = 0) -> list[str]:
        """What the segments of a run say."""
        return await self.segments(place).locator(".text").all_inner_texts()

    async def drop(self, content: str, name: str = "trace.json") -> None:
        """Drops a file on the page."""
        await self.page.evaluate(
            """([content, name]) => {
                const data = new DataTransfer();
                data.items.add(new File([content], name));
                const event = new DragEvent("drop", {dataTransfer: data, bubbles: true});
                document.body.dispatchEvent(event);
            }""",
            [content, name],
        )

    async def saved(self) -> dict[str, Any]:
        """The trace as the page saves it."""
        async with self.page.expect_download() as download:
            await self.page.click("#save")
        path = await (await download.value).path()
        document: dict[str, Any] = json.loads(path.read_text())
        return document

    async def run_module(self, name: str, body: str, argument: Any = None) -> Any:
        """What a function of a module of the page returns: `body` has `m` and `a`."""
        return await self.page.evaluate(
            f"async (a) => {{ const m = await import('/page/{name}.js'); {body} }}", argument
        )

    async def fits(self) -> bool:
        """Whether nothing is wider than the window."""
        return bool(await self.page.evaluate("document.documentElement.scrollWidth <= innerWidth"))

    def note(self, message: ConsoleMessage) -> None:
        """Takes note of what is written to the console."""
        if message.type in {"error", "warning"} and not message.text.startswith(_REFUSALS):
            self.problems.append(message.text)

    def check(self) -> None:
        """Nothing was complained about, and nobody else was asked anything."""
        assert self.problems == []
        asked = {request.url for request in self.requests if not request.url.startswith("blob:")}
        assert [url for url in asked if not url.startswith(self.origin)] == []


@asynccontextmanager
async def visiting(
    browser: Browser, address: str, *, path: str = "/", **options: Any
) -> AsyncIterator[Visit]:
    """A visit in a fresh profile, which is checked at its end."""
    async with await browser.new_context(**options) as context:
        context.set_default_timeout(PATIENCE_MS)
        visit = Visit(await context.new_page(), f"http://{address}/")
        visit.page.on("console", visit.note)
        visit.page.on("pageerror", lambda error: visit.problems.append(str(error)))
        visit.page.on("request", lambda request: visit.requests.append(request))  # noqa: PLW0108 (it marks its listeners)
        await visit.page.goto(f"http://{address}{path}")
        yield visit
        visit.check()
