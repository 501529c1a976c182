"""Zip files of series as inputs."""

from __future__ import annotations

import shutil
import tempfile
import time
import warnings
import zipfile
from pathlib import Path, PurePath

import pytest

from pipcli.batch import zips
from pipcli.batch.inputs import Named
from pipcli.batch.plan import list_files
from pipcli.batch.zips import is_zip, unpacked
from pipcli.errors import OutputError, UsageError


def packed(path: Path, **members: bytes) -> Named:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/"), content)
    return Named(path, PurePath(path.name))


def content_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_a_zip_file_is_a_folder_while_the_run_lasts(tmp_path):
    named = packed(tmp_path / "study.zip", a__IM1=b"1", b__c__IM2=b"2")
    with unpacked([named]) as (folder,):
        assert (folder.below, folder.path.name) == (PurePath(), "study.zip")
        assert content_of(folder.path) == {"a/IM1": b"1", "b/c/IM2": b"2"}
        assert folder.path.parents[1].stat().st_mode & 0o077 == 0
    assert not folder.path.exists()


def test_several_inputs_keep_their_names(tmp_path):
    first, second = packed(tmp_path / "x.zip", a=b"1"), packed(tmp_path / "y.ZIP", a=b"2")
    other = Named(tmp_path / "photos", PurePath("photos"))
    with unpacked([first, other, second]) as inputs:
        assert [str(named.below) for named in inputs] == ["x", "photos", "y"]
        assert inputs[1] is other
        assert content_of(inputs[2].path) == {"a": b"2"}


def test_zips_are_told_by_content_and_others_left_as_they_are(tmp_path):
    named = packed(tmp_path / "study", a=b"1")
    assert is_zip(named.path)
    (tmp_path / "text.zip").write_bytes(b"I am a text")
    for path in (tmp_path / "text.zip", tmp_path, tmp_path / "nowhere"):
        assert not is_zip(path)
        with unpacked([Named(path, PurePath())]) as inputs:
            assert inputs == (Named(path, PurePath()),)


def test_nothing_is_restored_in_place(tmp_path):
    named = packed(tmp_path / "a.zip", a=b"1")
    other = Named(tmp_path, PurePath("x"))
    for inputs in ([named], [other, named]):
        with (
            pytest.raises(UsageError, match=r"a\.zip: .*cannot be restored in place"),
            unpacked(inputs, True),
        ):
            pass
    # What only begins like one is refused alone, and fails among others.
    named.path.write_bytes(b"PK\x03\x04" + bytes(300))
    with unpacked([other, named], True) as inputs:
        assert inputs == (other, named)
    with pytest.raises(UsageError, match=r"a\.zip: .*cannot be restored in place"), unpacked([named], True):
        pass


def test_names_stay_within_the_folder(tmp_path):
    named = packed(tmp_path / "evil.zip", **{"..__..__up": b"1", "__top": b"2"})
    with unpacked([named]) as (folder,):
        assert content_of(folder.path) == {"up": b"1", "top": b"2"}


def test_members_of_one_name_are_told(tmp_path):
    # Each of these lands on one path; the last one alone would remain.
    path = tmp_path / "a.zip"
    for name in ("../b.png", "/b.png", "b.png"):
        with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
            warnings.simplefilter("ignore")
            archive.writestr("b.png", b"1")
            archive.writestr(name, b"2")
        named, told = Named(path, PurePath("a.zip")), f"{name}: another file in it has the same name"
        with pytest.raises(UsageError) as refusal, unpacked([named]):
            pass
        assert str(refusal.value) == f"{path}: {told}"
        # Among others it fails alone.
        with unpacked([named, packed(tmp_path / "b.zip", b=b"1")]) as (kept, folder):
            assert (kept.path, kept.broken) == (path, told)
            assert content_of(folder.path) == {"b": b"1"}


def test_what_a_pattern_or_list_takes_in_is_a_zip_by_its_name(tmp_path):
    document, photo = packed(tmp_path / "letter.docx", a=b"1"), packed(tmp_path / "x.ZIP", a=b"2")
    for in_place in (False, True):
        with unpacked([document, Named(tmp_path, PurePath("x"))], in_place) as (kept, _):
            assert kept == document
    with unpacked([document, photo]) as inputs:
        assert [named.known_as for named in inputs] == [None, photo.path]
        listing = list_files(inputs)
        assert [str(file.below) for file in listing.files] == []
        assert (listing.others, listing.failures) == (2, ())
    with unpacked([document]) as (folder,):
        assert content_of(folder.path) == {"a": b"1"}


def test_what_does_not_fit_the_disk_fails_alone_among_others(tmp_path, monkeypatch):
    large, small = packed(tmp_path / "a.zip", a=bytes(9999)), packed(tmp_path / "b.zip", b=b"1")
    monkeypatch.setattr(zips.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 0, 5000))
    with unpacked([large, small]) as (kept, folder):
        assert str(kept.broken).startswith("holds 9999 bytes, of which 4500 fit in ")
        assert content_of(folder.path) == {"b": b"1"}


def test_a_missing_folder_for_temporary_files_is_named(tmp_path, monkeypatch):
    named = packed(tmp_path / "a.zip", a=b"1")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with (
        pytest.raises(OutputError, match=r"gone: .*\(\$TMPDIR\) cannot be used: No such file"),
        unpacked([named]),
    ):
        pass

    def none_usable() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/gone']")

    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_get_default_tempdir", none_usable)
    with pytest.raises(OutputError, match=r"\$TMPDIR.*No usable temporary .* \['/gone'\]"), unpacked([named]):
        pass


def test_files_have_their_times(tmp_path):
    named = packed(tmp_path / "a.zip", new=b"1")
    with zipfile.ZipFile(named.path, "a") as archive:
        archive.writestr(zipfile.ZipInfo("old", (2001, 2, 3, 4, 5, 6)), b"2")
        archive.writestr(zipfile.ZipInfo("odd", (1980, 0, 0, 31, 63, 62)), b"3")
    with unpacked([named]) as (folder,):
        assert time.localtime((folder.path / "old").stat().st_mtime)[:6] == (2001, 2, 3, 4, 5, 6)
        assert content_of(folder.path) == {"new": b"1", "old": b"2", "odd": b"3"}


def test_a_name_of_dots_does_not_lead_out_of_the_output(tmp_path):
    named = packed(tmp_path / "...zip", a=b"1")
    with unpacked([named, Named(tmp_path, PurePath("x"))]) as (folder, _):
        assert folder.below == PurePath("...zip")


def test_what_cannot_be_unpacked_is_refused_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    whole = packed(tmp_path / "a.zip", a=bytes(range(256)) * 9).path.read_bytes()
    damaged = {
        "cut": whole[:-40],
        "clash": packed(tmp_path / "c.zip", a=b"1", a__b=b"2").path.read_bytes(),
        "no zip": b"PK\x03\x04" + bytes(300),
        "garbled": whole[:40] + b"\xff" * 40 + whole[80:],
        "encrypted": whole.replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"),
    }
    for name, content in damaged.items():
        path = tmp_path / f"{name}.zip"
        path.write_bytes(content)
        expected = "is an encrypted zip file" if name == "encrypted" else "is a damaged zip file"
        with pytest.raises(UsageError, match=f"{name}.zip: {expected}"), unpacked([Named(path, PurePath())]):
            pass
        # Among others it stays what it is, and takes no place.
        several = (Named(path, PurePath(path.name)), packed(tmp_path / "b.zip", b=b"1"))
        with unpacked(several) as (kept, folder):
            assert (kept.path, kept.below) == (path, several[0].below)
            assert str(kept.broken).startswith(expected)
            # A damaged file is told as it would be by itself.
            (failure,) = list_files([kept, Named(path.with_name("gone.png"), PurePath("gone.png"))]).failures
            assert failure.startswith(f"{path}: {expected}")
            assert content_of(folder.path.parents[1]) == {"1/b.zip/b": b"1"}
        with unpacked([Named(path, PurePath(path.name), listed=True)]) as (kept,):
            assert kept.path == path
    monkeypatch.setattr(zips, "_SHARE", 0.0)
    with (
        pytest.raises(UsageError, match="holds 2304 bytes"),
        unpacked([Named(tmp_path / "a.zip", PurePath())]),
    ):
        pass
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_disk_that_is_full(tmp_path, monkeypatch):
    def extract(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "extract", extract)
    named = packed(tmp_path / "a.zip", a=b"1")
    with pytest.raises(OutputError, match="cannot be unpacked: No space left"), unpacked([named]):
        pass
