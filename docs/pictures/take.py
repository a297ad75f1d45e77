"""Takes the pictures of the page: `make pictures`. It asks the shipped experts, and needs chromium.

python docs/pictures/take.py
"""

from __future__ import annotations

import asyncio
import io
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from PIL import Image

from specfuse.cli.demo import FUSED
from tests.support.browser import MISSING, Visit, open_browser, visiting
from tests.support.command import running_mesh

if TYPE_CHECKING:
    from playwright.async_api import Browser, FloatRect

HERE: Final = Path(__file__).parent
QUESTION: Final = (
    "I have four questions. What is 53 plus 62? What colour would you paint the cherry? "
    "Tell me the capital of Greece. What word means the opposite of rich?"
)
MOST_BYTES: Final = 200_000


class Shot(NamedTuple):
    """What to take a picture of: who answers, which round is shown, how wide, how high at most."""

    name: str
    ensembles: tuple[str, ...] = (FUSED,)
    round: int = 5
    width: int = 1280
    scheme: Any = "light"
    height: int | None = None

    @property
    def clip(self) -> FloatRect | None:
        """The part of the page that is wanted; None is all of it."""
        if self.height is None:
            return None
        return {"x": 0, "y": 0, "width": self.width, "height": self.height}


SHOTS: Final = (
    Shot("page"),
    Shot("page-dark", scheme="dark"),
    Shot("page-compare", (FUSED, "capitals")),
    Shot("page-narrow", width=380, scheme="dark", height=1350),
)


async def take(browser: Browser, address: str, shot: Shot) -> None:
    """Asks, shows a round, and takes the picture."""
    async with visiting(
        browser,
        address,
        color_scheme=shot.scheme,
        viewport={"width": shot.width, "height": 860},
    ) as visit:
        await _ask(visit, shot)
        await visit.segments().nth(shot.round - 1).click()
        await visit.page.mouse.move(0, 0)
        picture = await visit.page.screenshot(full_page=True, clip=shot.clip)
    _save(picture, HERE / f"{shot.name}.png")


async def _ask(visit: Visit, shot: Shot) -> None:
    chosen = visit.page.get_by_label("Ensemble")
    for place, name in enumerate(shot.ensembles):
        if place:
            await visit.page.click("#compare")
        await chosen.nth(place).select_option(name)
    await visit.ask(QUESTION)
    await visit.completes(len(shot.ensembles))


def _save(picture: bytes, path: Path) -> None:
    """As small as a picture of few colours can be."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    image.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise SystemExit(f"{path} has {size} bytes; at most {MOST_BYTES} are wanted")
    print(f"{path}: {size} bytes")


async def main() -> None:
    """Takes all pictures."""
    if MISSING:
        raise SystemExit(MISSING)
    async with AsyncExitStack() as stack:
        mesh = stack.enter_context(running_mesh("--demo"))
        browser = await stack.enter_async_context(open_browser())
        for shot in SHOTS:
            await take(browser, mesh.fuser.http_address, shot)


if __name__ == "__main__":
    asyncio.run(main())
