"""The frame of a self-contained HTML page: its style and script lie beside this module, and go into it."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from importlib.resources import files


def self_contained_page(title: str, name: str, body: Iterable[str]) -> str:
    """One HTML file that needs nothing beside it.

    Args:
        title: of the page, plain text.
        name: of the style and the script, such as ``benchmark`` for benchmark.css and benchmark.js.
        body: lines of HTML below the heading.
    """
    style, script = (
        files("pipcli.reports").joinpath(f"{name}.{kind}").read_text(encoding="utf-8")
        for kind in ("css", "js")
    )
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
