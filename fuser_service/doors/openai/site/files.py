"""The page's files: what they are, and the headers that keep a browser to them.

`static/` is served as it is; there is no build. Its scripts are small ES modules, those in `views/`
draw. The page asks nothing but this door's public API, and loads nothing from anywhere else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import Response

_ROOT: Final = Path(__file__).parent / "static"
_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_SHARED: Final = frozenset({"icon.svg", "reference.css", "theme.css"})
"""What the description of the API is shown with, too."""

_INDEX: Final = "index.html"
_POLICY: Final = "; ".join(
    (
        "default-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "object-src 'none'",
        "require-trusted-types-for 'script'",  # no script may write HTML: text stays text
        "trusted-types 'none'",
    )
)
_HEADERS: Final = {
    "cache-control": "no-cache",  # kept, but asked about: `etag` says whether it is still the same
    "content-security-policy": _POLICY,
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
_NOT_MODIFIED: Final = 304


@dataclass(frozen=True, slots=True)
class File:
    """A file as it is served."""

    content: bytes
    media_type: str
    etag: str

    def response(self, asked: Headers) -> Response:
        """The file, or that the caller has it already."""
        headers = {**_HEADERS, "etag": self.etag}
        if self.etag in _listed(asked.get("if-none-match", "")):
            return Response(None, _NOT_MODIFIED, headers)
        return Response(self.content, headers={**headers, "content-type": self.media_type})


@dataclass(frozen=True, slots=True)
class Site:
    """The files by their paths below `page/`, and the page itself; None if there is no page."""

    index: File | None
    files: Mapping[str, File]


def site(*, asks: bool) -> Site:
    """The files. Without the page that `asks`, those that describe the API remain."""
    files = dict(_read())
    index = files.pop(_INDEX)
    if asks:
        return Site(index, files)
    return Site(None, {path: file for path, file in files.items() if path in _SHARED})


def _read() -> Iterator[tuple[str, File]]:
    for path in sorted(_ROOT.rglob("*")):
        if path.suffix in _TYPES:
            content = path.read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
            yield str(path.relative_to(_ROOT)), File(content, _TYPES[path.suffix], etag)


def _listed(etags: str) -> set[str]:
    """The tags of an `If-None-Match`; a proxy that compressed the file made its tag a weak one."""
    return {one.strip().removeprefix("W/") for one in etags.split(",")}
