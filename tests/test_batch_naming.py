"""Templates for the names of outputs."""

from __future__ import annotations

import os

import pytest

from pipcli.batch.naming import NameTemplate
from pipcli.errors import UsageError
from pipcli.images.formats import format_named


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("{stem}{suffix}", "a.b.JPG", "a.b.JPG"),
        ("{stem}_restored{suffix}", "a.b.JPG", "a.b_restored.JPG"),
        ("{stem}.png", "a.jpg", "a.png"),
        ("x{{1}}-{stem}", "IM001", "x{1}-IM001"),
        ("{stem}2{suffix}", os.fsdecode(b"\xff.png"), os.fsdecode(b"\xff2.png")),
    ],
)
def test_names(text, name, expected):
    assert NameTemplate(text).apply(name) == expected


@pytest.mark.parametrize(
    "text",
    [
        "{name}",
        "{stem!r}",
        "{stem:>9}",
        "{stem",
        "{}",
        "{0}",
        "{stem.__class__}",
        "a/{stem}",
        "../{stem}",
        "",
        "\0",
    ],
)
def test_other_fields_and_folders_are_refused(text):
    with pytest.raises(UsageError, match="--name is "):
        NameTemplate(text)


def test_a_name_that_is_none_or_too_long_is_refused():
    with pytest.raises(UsageError, match="names no file"):
        NameTemplate("{suffix}").apply("IM001")
    longest = "é" * 125 + ".png"  # 254 bytes
    assert NameTemplate("{stem}+{suffix}").apply(longest) == "é" * 125 + "+.png"
    with pytest.raises(UsageError, match="of over 255 bytes"):
        NameTemplate("{stem}++{suffix}").apply(longest)
    assert NameTemplate().apply("x" * 300) == "x" * 300, "a name that is there is not judged"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.png", "a.jpg"),
        ("a.JPEG", "a.JPEG"),
        ("a.b", "a.b.jpg"),
        ("IM001", "IM001.jpg"),
        ("1.2.tif", "1.2.jpg"),
    ],
)
def test_a_format_asked_for_gives_its_suffix(name, expected):
    assert NameTemplate(format_=format_named("JPEG")).apply(name) == expected
