"""Patterns: what Python's glob matches, without its circles."""

from __future__ import annotations

import glob
import os
import sys
from pathlib import Path

import pytest

from pipcli.batch.patterns import fixed_part, matching


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    """The working folder, with a few files in folders, some hidden, and a link to one folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "x/b.png", "x/y/c.png", "x/y/d.jpg", "x/.hid/e.png", ".f.png", "[z]/g.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"")
    os.symlink("x/y", "link")


@pytest.mark.parametrize(
    "pattern",
    [
        "*.png",
        "**",
        "**/*.png",
        "x/**",
        "x/**/*.png",
        "**/y/**/*.png",
        "**/**/c.png",
        "*/**/*.png",
        "x/**/d.jpg",
        "x/.hid/**",
        "**/.hid/*",
        "l*/**/c.*",
        "[[]z]/**/*.png",
        "./x/../**/b.png",
        "a.png/**/*.png",
        "none/**/*.png",
    ],
)
def test_without_circles_it_is_glob(pattern):
    expected = {path for path in glob.glob(pattern, recursive=True) if not os.path.isdir(path)}
    found = matching(pattern)
    assert {os.path.normpath(path) for path in found} == {os.path.normpath(path) for path in expected}
    assert found == sorted(set(found), key=os.fsencode)
    there = os.path.join(os.getcwd(), pattern)
    assert len(matching(there)) == len(expected)


def test_links_in_a_circle_are_not_followed():
    # Python's glob goes round until the system stops it, through two such links for ever.
    os.symlink(".", "x/self")
    os.symlink("..", "x/y/up")
    os.symlink("nowhere", "x/nowhere")
    os.symlink("itself", "x/itself")
    assert matching("x/**/*.png") == ["x/b.png", "x/y/c.png"]
    assert matching("**/*.png") == [
        "[z]/g.png",
        "a.png",
        "link/c.png",
        "link/up/b.png",
        "x/b.png",
        "x/y/c.png",
    ]
    assert matching("x/self/**/b.png") == ["x/self/b.png"], "what is named is followed"


def test_folders_that_cannot_be_listed_hold_nothing(monkeypatch):
    def scandir(path: str) -> object:
        if Path(path).name == "y":
            raise PermissionError(13, "Permission denied")
        return real(path)

    real = os.scandir
    monkeypatch.setattr(os, "scandir", scandir)
    assert matching("x/**/*.png") == ["x/b.png"]


def test_a_slash_at_the_end_stands_for_folders():
    assert matching("x/**/") == matching("*/") == []


def test_trees_may_be_deeper_than_python_calls():
    folder = Path("deep/" + "a/" * 300)
    folder.mkdir(parents=True)
    (folder / "h.png").write_bytes(b"")
    usual = sys.getrecursionlimit()
    sys.setrecursionlimit(250)
    try:
        assert matching("deep/**/*.png") == [str(folder / "h.png")]
    finally:
        sys.setrecursionlimit(usual)


@pytest.mark.parametrize(
    ("pattern", "fixed"),
    [("*.png", "."), ("x/**/*.png", "x"), ("x/y/[ab]/c.png", "x/y"), ("/x/*", "/x"), ("../*", "..")],
)
def test_where_a_pattern_begins(pattern, fixed):
    assert fixed_part(pattern) == fixed
