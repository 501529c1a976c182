"""What tests of HTML pages share: the elements of a page, that it is whole, and a browser to open it in."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


class Elements(HTMLParser):
    """Start tags with their attributes, and all text; every element must be closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in {"meta", "img", "input", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def whole_without_network(page: str) -> Elements:
    """The elements of a page, once all of them are closed and nothing in it is fetched from elsewhere."""
    elements = Elements(page)
    assert elements.open == []
    for tag, attributes in elements.tags:
        for name in ("src", "href", "action"):
            assert (attributes.get(name) or "data:").startswith("data:"), (tag, attributes)
    assert not re.search(r"https?://|url\(|@import", page)
    return elements


def body_in_browser(page: str, probe: str, folder: Path) -> dict[str, str | None]:
    """The attributes of a page's body once a browser has run its scripts, and then ``probe``.

    Args:
        probe: a script, without its tags, that leaves what it finds in ``document.body.dataset``.
        folder: for the page's file.
    """
    file = folder / "page.html"
    file.write_text(page.replace("</body>", f"<script>{probe}</script></body>"), encoding="utf-8")
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    (body,) = (attributes for tag, attributes in Elements(done.stdout).tags if tag == "body")
    return body
