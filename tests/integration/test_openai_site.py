"""The files of the HTTP door's page: what a browser is sent, and that a wheel has them."""

from __future__ import annotations

import re
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from hatchling.builders.wheel import WheelBuilder

from fuser_service.doors.openai.site.files import site
from tests.support.http_caller import Parsed, answer_to
from tests.support.openai_door import PlayedDoor, open_played
from tests.support.repository import REPOSITORY

STATIC = REPOSITORY / "fuser_service" / "doors" / "openai" / "site" / "static"
FILES = sorted(str(path.relative_to(STATIC)) for path in STATIC.rglob("*") if path.is_file())
TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def door() -> AsyncIterator[PlayedDoor]:
    async with open_played() as door:
        yield door


async def got(door: PlayedDoor, path: str, *headers: str, method: str = "GET") -> Parsed:
    lines = [f"{method} {path} HTTP/1.1", "host: x", "connection: close", *headers, "", ""]
    return await answer_to(door.address, "\r\n".join(lines).encode())


@pytest.mark.asyncio(loop_scope="module")
class TestServed:
    async def test_the_page_lets_a_browser_do_nothing_but_ask_here(self, door: PlayedDoor) -> None:
        response = await got(door, "/")
        assert (response.status, response.headers["content-type"]) == (
            200,
            "text/html; charset=utf-8",
        )
        policy = response.headers["content-security-policy"].split("; ")
        assert policy[0] == "default-src 'self'"
        assert "frame-ancestors 'none'" in policy
        assert "require-trusted-types-for 'script'" in policy
        assert not re.search("unsafe|http:|https:|[*]", response.headers["content-security-policy"])
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["x-frame-options"] == "DENY"

    async def test_nothing_is_written_into_it_but_text(self) -> None:
        page = (STATIC / "index.html").read_text()
        assert not re.search(r"<style|style=|\son\w+=|<script(?! type=\"module\" src=)", page)
        assert not re.search(r"(?:src|href)=\"(?:https?:|//|data:)", page)
        scripts = {name: (STATIC / name).read_text() for name in FILES if name.endswith(".js")}
        writers = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function"
        assert [name for name, text in scripts.items() if re.search(writers, text)] == []
        askers = r"\bfetch\(|XMLHttpRequest|WebSocket|EventSource|sendBeacon"
        assert [name for name, text in scripts.items() if re.search(askers, text)] == ["door.js"]

    @pytest.mark.parametrize("name", [name for name in FILES if name != "index.html"])
    async def test_every_file_has_its_type_and_a_tag(self, door: PlayedDoor, name: str) -> None:
        response = await got(door, f"/page/{name}")
        assert response.status == 200
        assert response.body == (STATIC / name).read_bytes()
        assert response.headers["content-type"] == TYPES[name.rpartition(".")[2]]
        assert response.headers["x-content-type-options"] == "nosniff"

        again = await got(
            door, f"/page/{name}", f'if-none-match: "x", W/{response.headers["etag"]}'
        )
        assert (again.status, again.body) == (304, b"")
        assert again.headers["etag"] == response.headers["etag"]
        changed = await got(door, f"/page/{name}", 'if-none-match: "another"')
        assert changed.status == 200

    async def test_its_head_can_be_asked_for(self, door: PlayedDoor) -> None:
        response = await got(door, "/", method="HEAD")
        assert (response.status, response.body) == (200, b"")
        assert int(response.headers["content-length"]) == len((STATIC / "index.html").read_bytes())

    @pytest.mark.parametrize(
        "path",
        ["/page/", "/page/index.html", "/page/../files.py", "/page/%2e%2e/files.py", "/page/x.js"],
    )
    async def test_nothing_else_is_there(self, door: PlayedDoor, path: str) -> None:
        response = await got(door, path)
        assert response.status == 404
        assert response.headers["content-type"] == "application/json"

    async def test_a_setting_turns_it_off_and_leaves_the_description(self) -> None:
        async with open_played(asks=False) as door:
            assert (await got(door, "/")).status == 404
            assert (await got(door, "/page/main.js")).status == 404
            assert (await got(door, "/page/theme.css")).status == 200
            described = (await got(door, "/docs")).body.decode()
        assert ">Ask<" not in described


def test_every_file_is_served() -> None:
    whole = site(asks=True)
    assert whole.index is not None
    assert sorted([*whole.files, "index.html"]) == FILES


def test_a_wheel_has_every_file(tmp_path: Path) -> None:
    (wheel,) = WheelBuilder(str(REPOSITORY)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    assert {str(STATIC.relative_to(REPOSITORY) / name) for name in FILES} <= packed


def test_every_module_that_is_imported_is_there() -> None:
    for name in FILES:
        for imported in re.findall(r'from "(\.[^"]+)"', (STATIC / name).read_text()):
            assert (STATIC / name).parent.joinpath(imported).is_file(), (name, imported)
