"""The frame of a self-contained HTML page: its style and script lie beside this module, and go into it."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from importlib.resources import files


def self_contained_page(title: str, name: str, body: Iterable[str], more: str | None = None) -> str:
    """One HTML file that needs nothing beside it.

    Args:
        title: of the page, plain text.
        name: of the style and the script, such as ``benchmark`` for benchmark.css and benchmark.js.
        body: lines of HTML below the heading.
        more: of one more style, for what only this page has.
    """
    beside = files("pipcli.reports")
    styles = [f"{each}.css" for each in (name, more) if each is not None]
    style = "".join(beside.joinpath(each).read_text(encoding="utf-8") for each in styles)
    script = beside.joinpath(f"{name}.js").read_text(encoding="utf-8")
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            '<head><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
            f"<title>{escape(title)}</title>",
            f"<style>{style}</style></head>",
            f"<body><main><h1>{escape(title)}</h1>",
            *body,
            f"</main><script>{script}</script></body></html>",
            "",
        ]
    )
