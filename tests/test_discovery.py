"""Finding images in a folder: all of them, once, in one order, and the rest counted."""

import os
import sys
from pathlib import Path

import pytest

from pipcli.errors import UsageError
from pipcli.images import find_images


def make(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def listed(found) -> list[str]:
    return [path.as_posix() for path in found.images]


def test_images_are_found_below_and_the_rest_is_counted(tmp_path):
    make(tmp_path, "b.png", "a/z.JPG", "a/b/c.jpeg", "B.PNG", "notes.txt", "a/film.mp4", "none")
    make(tmp_path, ".hidden.png", ".git/x.png", "a/.pipcli-1.tmp")
    found = find_images(tmp_path)
    assert listed(found) == ["B.PNG", "a/b/c.jpeg", "a/z.JPG", "b.png"]
    assert (found.hidden, found.others) == (2, 3)  # .pipcli-1.tmp is our own
    assert found.loops == found.unreadable == ()
    assert found.root == tmp_path


def test_pictures_that_are_not_read_are_counted_by_their_suffix(tmp_path):
    make(tmp_path, "a.png", "b.HEIC", "c/d.heic", "c/e.nef", "notes.txt")
    found = find_images(tmp_path)
    assert listed(found) == ["a.png"]
    assert found.unread == {".heic": 2, ".nef": 1}
    assert found.others == 1


def test_the_order_does_not_depend_on_the_folder(tmp_path):
    names = [f"{index:03}.png" for index in range(50)]
    make(tmp_path / "up", *names)
    make(tmp_path / "down", *reversed(names))
    assert listed(find_images(tmp_path / "up")) == listed(find_images(tmp_path / "down")) == names


def test_a_hidden_root_is_looked_through(tmp_path):
    make(tmp_path, ".photos/a.png")
    assert listed(find_images(tmp_path / ".photos")) == ["a.png"]


def test_links_are_followed_but_not_in_circles(tmp_path):
    make(tmp_path, "in/a/x.png", "elsewhere/y.png")
    (tmp_path / "in" / "a" / "up").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "self").symlink_to("self")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "file.png").symlink_to(tmp_path / "elsewhere" / "y.png")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "in")
    found = find_images(tmp_path / "in")
    assert listed(found) == ["a/x.png", "file.png", "link/y.png"]
    assert found.loops == (Path("a/up"), Path("link/back"))
    assert found.others == 1


def test_a_broken_link_named_as_an_image_is_found_so_that_it_is_reported(tmp_path):
    (tmp_path / "x.png").symlink_to(tmp_path / "nothing")
    assert listed(find_images(tmp_path)) == ["x.png"]


def test_an_output_folder_inside_is_left_out(tmp_path):
    make(tmp_path, "a.png", "out/a.png", "b/out/c.png")
    found = find_images(tmp_path, exclude=[tmp_path / "b" / ".." / "out", tmp_path / "missing"])
    assert listed(found) == ["a.png", "b/out/c.png"]
    assert found.hidden == 0


def test_odd_names_are_found(tmp_path):
    make(tmp_path, "new\nline.png", "é.png", "e\u0301.png", "'\"$.png", "x" * 251 + ".png")
    os.close(os.open(os.fsencode(tmp_path) + b"/\xff\xfe.png", os.O_CREAT))
    assert len(find_images(tmp_path).images) == 6


def test_folders_may_lie_deeper_than_python_calls(tmp_path):
    make(tmp_path, "a/" * 300 + "x.png")
    usual = sys.getrecursionlimit()
    sys.setrecursionlimit(250)
    try:
        found = find_images(tmp_path)
    finally:
        sys.setrecursionlimit(usual)
    assert [len(path.parts) for path in found.images] == [301]


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    make(tmp_path, "a.png", "locked/b.png")
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "locked":
            raise PermissionError("no")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = find_images(tmp_path)
    assert listed(found) == ["a.png"]
    assert found.unreadable == (Path("locked"),)
    with pytest.raises(UsageError, match="locked: cannot be listed"):
        find_images(tmp_path / "locked")


def test_what_is_no_folder_is_refused(tmp_path):
    make(tmp_path, "a.png")
    for path in (tmp_path / "a.png", tmp_path / "missing"):
        with pytest.raises(UsageError, match="is no folder"):
            find_images(path)
