"""What users name: files, folders, patterns and lists, and where each comes to lie below the output."""

from __future__ import annotations

import os
from pathlib import Path, PurePath

import pytest

from pipcli.batch.inputs import Named, named_inputs, read_list
from pipcli.errors import UsageError


@pytest.fixture(autouse=True)
def photos(tmp_path, monkeypatch):
    """The working folder, with photos/a.jpg, photos/x/b.jpg, photos/x/y/c.png, more/d.jpg and [1].jpg."""
    monkeypatch.chdir(tmp_path)
    for name in ("photos/a.jpg", "photos/x/b.jpg", "photos/x/y/c.png", "more/d.jpg", "[1].jpg"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"")


def below(words: list[str], listed: list[bytes] = []) -> dict[str, str]:  # noqa: B006
    return {str(named.path): str(named.below) for named in named_inputs(words, listed)}


def test_one_folder_gives_its_content_several_give_themselves():
    assert below(["photos"]) == {"photos": "."}
    assert below(["photos/"]) == {"photos": "."}
    assert below(["photos", "more/"]) == {"photos": "photos", "more": "more"}
    assert below(["photos", "."]) == {"photos": "photos", ".": Path.cwd().name}


def test_a_folder_called_by_its_place_gets_its_own_name(monkeypatch):
    os.symlink("photos/x/y", "far")
    monkeypatch.chdir("more")
    assert below(["..", "../photos/x/..", "../far/.."]) == {
        "..": Path.cwd().parent.name,
        "../photos/x/..": "photos",
        "../far/..": "x",
    }


def test_files_lie_by_their_names():
    assert below(["photos/x/b.jpg", "more/d.jpg"]) == {"photos/x/b.jpg": "b.jpg", "more/d.jpg": "d.jpg"}


def test_patterns_keep_the_tree_below_their_first_fixed_folder():
    assert below(["photos/**/*.jpg"]) == {"photos/a.jpg": "a.jpg", "photos/x/b.jpg": "x/b.jpg"}
    assert below(["photos/**"]) == {
        "photos/a.jpg": "a.jpg",
        "photos/x/b.jpg": "x/b.jpg",
        "photos/x/y/c.png": "x/y/c.png",
    }
    assert below(["*/*.jpg"]) == {"photos/a.jpg": "photos/a.jpg", "more/d.jpg": "more/d.jpg"}
    assert below([f"{Path.cwd()}/photos/x/*.jpg"]) == {f"{Path.cwd()}/photos/x/b.jpg": "b.jpg"}


def test_a_file_that_looks_like_a_pattern_is_that_file():
    assert below(["[1].jpg"]) == {"[1].jpg": "[1].jpg"}


def test_a_pattern_is_always_in_one_order():
    assert [str(named.path) for named in named_inputs(["photos/**"])] == [
        "photos/a.jpg",
        "photos/x/b.jpg",
        "photos/x/y/c.png",
    ]


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("none.jpg", "none.jpg: there is no such file or folder"),
        ("photos/*.tif", r"photos/\*\.tif: there is no such file, and as a pattern it matches none"),
        ("more/*/", "matches none"),
        ("@none.txt", "none.txt: the list cannot be read: No such file"),
        ("@photos", "photos: the list cannot be read: Is a directory"),
        ("@", "@: there is no such file"),
    ],
)
def test_what_is_not_there_is_refused(word, says):
    with pytest.raises(UsageError, match=says):
        named_inputs([word])


def test_lists_keep_paths_as_they_are_written():
    Path("list.txt").write_text("photos/x/b.jpg\r\n\n./more/d.jpg\nmissing.png\n/abs/olute.png\n")
    assert named_inputs(["@list.txt"]) == (
        Named(Path("photos/x/b.jpg"), PurePath("photos/x/b.jpg"), True),
        Named(Path("more/d.jpg"), PurePath("more/d.jpg"), True),
        Named(Path("missing.png"), PurePath("missing.png"), True),
        Named(Path("/abs/olute.png"), PurePath("abs/olute.png"), True),
    )


def test_a_list_is_no_pattern_and_holds_any_name():
    names = [b"*.jpg", b"@x", b"-", b"with\nnewline.png", b"\xff\xfe.png", b" spaces .png"]
    assert [os.fsencode(named.path) for named in named_inputs([], names)] == names
    assert read_list("list", b"\0", b"\0".join(names) + b"\0") == names


def test_lists_may_lead_out_of_the_working_folder():
    # Whether they may out of an output is the plan's to say: in place there is none.
    assert below([], [b"photos/../../x.png", b"photos/../y.png"]) == {
        "photos/../../x.png": "../x.png",
        "photos/../y.png": "y.png",
    }


def test_a_mark_at_the_beginning_of_a_list_belongs_to_no_path():
    Path("list.txt").write_text("photos/a.jpg\nmore/d.jpg\n", encoding="utf-8-sig")
    assert below(["@list.txt"]) == {"photos/a.jpg": "photos/a.jpg", "more/d.jpg": "more/d.jpg"}
    # What ends in NUL is written by programs.
    assert read_list("list", b"\0", b"\xef\xbb\xbfa\0") == [b"\xef\xbb\xbfa"]


@pytest.mark.parametrize("list_", [None, b"\x89PNG\0\0"])
def test_a_file_whose_name_reads_as_a_list_is_pointed_to(list_):
    Path("@a.png").write_bytes(b"")
    if list_ is not None:
        Path("a.png").write_bytes(list_)
    with pytest.raises(UsageError, match=r"^a\.png: .*; the file @a\.png is called \./@a\.png$"):
        named_inputs(["@a.png"])
    assert below(["./@a.png"]) == {"@a.png": "@a.png"}


@pytest.mark.parametrize("content", ["", "\n\r\n"])
def test_an_empty_list_is_refused(content):
    Path("list.txt").write_text(content)
    with pytest.raises(UsageError, match="the list is empty"):
        named_inputs(["@list.txt"])


def test_lists_of_the_other_kind_are_told():
    with pytest.raises(UsageError, match="--files0-from reads paths that end in NUL"):
        read_list("list", b"\n", b"a.png\0b.png\0")
