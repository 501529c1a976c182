"""Atomic writing: the whole file or nothing, and never a trace of the attempt."""

import errno
import os
import stat
from pathlib import Path

import pytest

from pipcli.errors import OutputError
from pipcli.images import atomic
from pipcli.images.atomic import remove_temporaries, write_bytes


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_it_writes_and_makes_the_folders(tmp_path):
    target = tmp_path / "a" / "b" / "x.png"
    write_bytes(target, b"first")
    write_bytes(target, b"second")
    assert target.read_bytes() == b"second"
    assert names(target.parent) == ["x.png"]


def test_new_files_follow_the_umask_and_old_ones_keep_their_permissions(tmp_path):
    before = os.umask(0o027)
    try:
        write_bytes(tmp_path / "new", b"")
        (tmp_path / "old").write_bytes(b"")
        (tmp_path / "old").chmod(0o604)
        write_bytes(tmp_path / "old", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "old").stat().st_mode) == 0o604


def test_what_users_attached_to_a_file_stays(tmp_path):
    target = tmp_path / "rated.jpg"
    target.write_bytes(b"old")
    try:
        os.setxattr(target, "user.rating", b"5")
    except (AttributeError, OSError):
        pytest.skip("the file system here holds no attributes of users")
    write_bytes(target, b"new")
    assert target.read_bytes() == b"new"
    assert os.getxattr(target, "user.rating") == b"5"


def test_the_owner_stays(tmp_path):
    target = tmp_path / "theirs.jpg"
    target.write_bytes(b"old")
    try:
        os.chown(target, 12345, 23456)
    except (AttributeError, OSError):
        pytest.skip("only root may give files away")
    target.chmod(0o640)
    write_bytes(target, b"new")
    known = target.stat()
    assert (known.st_uid, known.st_gid, stat.S_IMODE(known.st_mode)) == (12345, 23456, 0o640)


def test_a_link_is_replaced_and_what_it_points_to_stays(tmp_path):
    (tmp_path / "original").write_bytes(b"precious")
    (tmp_path / "link").symlink_to(tmp_path / "original")
    write_bytes(tmp_path / "link", b"new")
    assert (tmp_path / "original").read_bytes() == b"precious"
    assert (tmp_path / "link").read_bytes() == b"new"
    assert not (tmp_path / "link").is_symlink()


def test_the_longest_name_can_be_written(tmp_path):
    target = tmp_path / ("x" * 251 + ".png")
    write_bytes(target, b"data")
    assert target.read_bytes() == b"data"


def test_while_it_is_written_the_temporary_file_is_hidden_and_no_image(tmp_path, monkeypatch):
    seen = []
    replace = os.replace

    def look(source, target):
        seen.extend(names(tmp_path))
        replace(source, target)

    monkeypatch.setattr(os, "replace", look)
    write_bytes(tmp_path / "x.png", b"data")
    [temporary] = seen
    assert temporary.startswith(".pipcli-")
    assert temporary.endswith(".tmp")


def test_file_and_folder_reach_the_disk_in_order(tmp_path, monkeypatch):
    steps = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(descriptor):
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def noted_replace(source, target):
        steps.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    write_bytes(tmp_path / "x.png", b"data")
    assert steps == ["file", "rename", "folder"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, step, error):
    target = tmp_path / "x.png"
    target.write_bytes(b"old")

    def fail(*_):
        raise error

    monkeypatch.setattr(os, step, fail)
    expected = OutputError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as caught:
        write_bytes(target, b"new")
    assert names(tmp_path) == ["x.png"]
    assert target.read_bytes() == b"old"
    if expected is OutputError:
        assert str(caught.value) == f"{target}: cannot be written: No space left on device"


def test_a_file_on_the_way_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match=r"x\.png: cannot be written: (Not a directory|File exists)"):
        write_bytes(tmp_path / "file" / "x.png", b"")
    with pytest.raises(OutputError, match=r"x\.png: cannot be written: Not a directory"):
        write_bytes(tmp_path / "file" / "folder" / "x.png", b"")


def test_a_folder_in_the_place_is_named(tmp_path):
    (tmp_path / "x.png").mkdir()
    with pytest.raises(OutputError, match=r"x\.png: cannot be written: Is a directory"):
        write_bytes(tmp_path / "x.png", b"")
    assert names(tmp_path) == ["x.png"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match=r"x\.png: cannot be written: Permission denied"):
        write_bytes(tmp_path / "x.png", b"")


def test_a_message_is_one_line_whatever_the_name(tmp_path):
    with pytest.raises(OutputError) as caught:
        write_bytes(tmp_path / "a\nb\0.png", b"")
    assert "\n" not in str(caught.value)
    assert r"a\nb" in str(caught.value)


def test_times_are_set_before_the_file_is_seen(tmp_path, monkeypatch):
    real, seen = os.replace, []

    def look(source: Path, target: Path) -> None:
        seen.append(os.stat(source).st_mtime_ns)
        real(source, target)

    monkeypatch.setattr(os, "replace", look)
    write_bytes(tmp_path / "a.png", b"new", times=(10**18, 2 * 10**18))
    assert seen == [2 * 10**18]
    assert (tmp_path / "a.png").stat().st_mtime_ns == 2 * 10**18


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    others = {"a.png", ".pipcli-1.png", "x.tmp", ".tmp"}
    for name in {".pipcli-0123.tmp", *others}:
        (tmp_path / name).write_bytes(b"half")
    assert remove_temporaries(tmp_path) == 1
    assert {path.name for path in tmp_path.iterdir()} == others


def test_a_temporary_file_of_a_process_at_work_is_left_alone(tmp_path, monkeypatch):
    real, counts = os.replace, []

    def tidy(source: Path, target: Path) -> None:
        counts.append(remove_temporaries(tmp_path))
        real(source, target)

    monkeypatch.setattr(os, "replace", tidy)
    write_bytes(tmp_path / "a.png", b"new")
    assert counts == [0]
    assert (tmp_path / "a.png").read_bytes() == b"new"


def test_a_temporary_file_that_is_tidied_away_before_it_is_held_is_made_anew(tmp_path, monkeypatch):
    real, removed = atomic._lock, []

    def slow(descriptor: int) -> bool | None:
        if not removed:  # another run begins just now, and finds a file that nobody holds
            removed.extend(names(tmp_path))
            for name in removed:
                (tmp_path / name).unlink()
        return real(descriptor)

    monkeypatch.setattr(atomic, "_lock", slow)
    write_bytes(tmp_path / "a.png", b"new")
    assert len(removed) == 1
    assert names(tmp_path) == ["a.png"]


def test_a_temporary_file_that_another_process_looks_at_is_made_anew(tmp_path, monkeypatch):
    real, asked = atomic._lock, []

    def held(descriptor: int) -> bool | None:
        asked.append(descriptor)
        return real(descriptor) if len(asked) > 1 else False

    monkeypatch.setattr(atomic, "_lock", held)
    write_bytes(tmp_path / "a.png", b"new")
    assert len(asked) == 2
    assert names(tmp_path) == ["a.png"]


def test_where_no_lock_can_tell_only_old_temporary_files_go(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "_lock", lambda descriptor: None)
    for name in (".pipcli-1.tmp", ".pipcli-2.tmp"):
        (tmp_path / name).write_bytes(b"part")
    os.utime(tmp_path / ".pipcli-2.tmp", (0, 0))
    assert remove_temporaries(tmp_path) == 1
    assert names(tmp_path) == [".pipcli-1.tmp"]


def test_a_temporary_file_that_is_somebody_elses_stays(tmp_path, monkeypatch):
    (tmp_path / ".pipcli-1.tmp").write_bytes(b"part")

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "unlink", refuse)
    assert remove_temporaries(tmp_path) == 0
