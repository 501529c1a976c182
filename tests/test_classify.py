"""Many files looked at: findings in order, failures by name, and files sorted without replacing any."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import scans
import torch
from PIL import Image as PillowImage
from standins import ColourClassifier

from pipcli.batch.classify import (
    Finding,
    Sorter,
    certainty,
    class_name,
    classify_content,
    classify_files,
)
from pipcli.batch.inputs import named_inputs
from pipcli.batch.plan import Listing, list_files, list_for_sorting
from pipcli.degradations import Degradation
from pipcli.errors import DeviceError, ImageError, OutputError, UsageError
from pipcli.images.dicom_windows import parse_window
from pipcli.inference.diagnosis import Diagnoser, Diagnosis

NOISE, RAIN, HAZE, BLUR, LOWLIGHT = Degradation


@pytest.fixture
def diagnoser():
    return Diagnoser(ColourClassifier(), torch.device("cpu"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, colour in {
        "in/black.png": (0, 0, 0),
        "in/sub/red.jpg": (250, 0, 0),
        "in/yellow.png": (250, 250, 0),
    }.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        PillowImage.new("RGB", (40, 40), colour).save(name)
    return tmp_path


def listed(*words: str) -> Listing:
    return list_files(named_inputs(words))


def findings(*words: str, **options) -> dict[str, Finding]:
    diagnoser = Diagnoser(ColourClassifier(), torch.device("cpu"))
    found = list(classify_files(listed(*words).files, diagnoser, **options))
    assert [finding.file for finding in found] == list(listed(*words).files)
    return {finding.file.below.as_posix(): finding for finding in found}


def classes(found: dict[str, Finding]) -> dict[str, str | None]:
    return {name: finding.diagnosis and class_name(finding.diagnosis, 0.5) for name, finding in found.items()}


@pytest.mark.parametrize(
    ("probabilities", "threshold", "name", "sure"),
    [
        ((0.1, 0.2, 0.3, 0.1, 0.1), 0.5, "clean", 0.7),
        ((0.9, 0.2, 0.1, 0.1, 0.1), 0.5, "noise", 0.8),
        ((0.9, 0.1, 0.1, 0.95, 0.1), 0.5, "noise+blur", 0.9),
        ((0.9, 0.1, 0.1, 0.95, 0.1), 0.92, "blur", 0.1),
    ],
)
def test_a_class_is_as_sure_as_the_least_sure_answer(probabilities, threshold, name, sure):
    diagnosis = Diagnosis(dict(zip(Degradation, probabilities, strict=True)), 5.0)
    assert class_name(diagnosis, threshold) == name
    assert certainty(diagnosis, threshold) == pytest.approx(sure)


def test_findings_come_in_order_and_bad_files_are_named(folder):
    Path("in/bad.png").write_text("I am a text")
    Path("in/empty.png").write_bytes(b"")
    found = findings("in")
    assert classes(found) == {
        "bad.png": None,
        "black.png": "clean",
        "empty.png": None,
        "sub/red.jpg": "noise",
        "yellow.png": "noise+rain",
    }
    errors = {name: finding.error for name, finding in found.items() if finding.error}
    assert errors == {
        "bad.png": "in/bad.png: is no image of a known format",
        "empty.png": "in/empty.png: is empty",
    }


def test_too_many_pixels_and_surprises_cost_one_file(folder, monkeypatch):
    assert "the limit is 100" in (findings("in/black.png", max_pixels=100)["black.png"].error or "")
    answer = ColourClassifier.forward

    def forward(self, crops, overview):
        if crops.mean() == 0:
            raise ZeroDivisionError("a\nbug")
        logits, sigma = answer(self, crops, overview)
        return (logits * torch.nan if crops[..., 1, :, :].mean() > 0.5 else logits), sigma

    monkeypatch.setattr(ColourClassifier, "forward", forward)
    found = findings("in")
    assert found["black.png"].error == "in/black.png: internal error: ZeroDivisionError: a bug"
    assert found["yellow.png"].error == "in/yellow.png: the classifier's answer is not finite"
    assert found["sub/red.jpg"].error is None


def test_dicom_is_seen_through_its_window_and_only_noise_counts(folder):
    scans.save(Path("ct/bright"), scans.scan(np.where(scans.phantom() == 40, 250.0, 200.0)))
    scans.save(Path("ct/dark"), scans.scan())
    magnetic = scans.scan()
    magnetic.SOPClassUID = scans.MR
    magnetic.Modality = "MR"
    scans.save(Path("ct/mr"), magnetic)
    found = findings("ct", window=parse_window("-200,300"))
    assert found["bright"].diagnosis is not None
    assert list(found["bright"].diagnosis.probabilities) == [NOISE]
    assert found["bright"].diagnosis.sigma == 25
    assert classes(found) == {"bright": "noise", "dark": "clean", "mr": None}
    assert found["mr"].error is None
    assert "MR Image" in (found["mr"].left_alone or "")
    assert classes(findings("ct", window=parse_window("300,900")))["bright"] == "clean"


def test_the_run_stops_when_asked(folder):
    diagnoser = Diagnoser(ColourClassifier(), torch.device("cpu"))
    answers = iter([False, True])
    found = list(classify_files(listed("in").files, diagnoser, stopping=lambda: next(answers)))
    assert len(found) == 1


@pytest.mark.parametrize("step", ["looking", "placing"])
def test_what_concerns_all_files_ends_the_run_after_its_finding(folder, monkeypatch, step):
    def failing(*given: object) -> None:
        raise DeviceError("no memory") if step == "looking" else OutputError("no space")

    if step == "looking":
        monkeypatch.setattr(Diagnoser, "diagnose", failing)
    else:
        monkeypatch.setattr(Sorter, "place", failing)
    for number in range(99):  # more than can be under way
        PillowImage.new("RGB", (40, 40)).save(f"in/{number}.png")
    found = []
    diagnoser = Diagnoser(ColourClassifier(), torch.device("cpu"))
    sorter = Sorter(Path("out"), 0.5, True)
    with pytest.raises((DeviceError, OutputError), match=r"no memory|no space"):
        found.extend(classify_files(listed("in").files, diagnoser, sorter=sorter))
    assert 0 < len(found) < 99
    assert found[0].error in ("no memory", "no space")


def test_what_is_no_image_is_told_by_name(diagnoser):
    with pytest.raises(ImageError, match=r"^standard input: is no image"):
        classify_content(b"I am a text", "standard input", diagnoser, 100)
    with pytest.raises(ImageError, match=r"^standard input: is DICOM"):
        classify_content(b"\0" * 128 + b"DICM", "standard input", diagnoser, 100)


# Sorting.


@pytest.mark.parametrize("copy", [False, True])
def test_files_are_sorted_and_the_same_again_changes_nothing(folder, copy):
    for _ in range(2):
        found = findings("in", sorter=Sorter(Path("out"), 0.5, copy))
        assert {finding.placed for finding in found.values()} == {
            Path("out/clean/black.png"),
            Path("out/noise/sub/red.jpg"),
            Path("out/noise+rain/yellow.png"),
        }
        placed = sorted(path for path in Path("out").rglob("*.*") if path.is_file())
        assert len(placed) == 3
        assert [path.is_symlink() for path in placed] == [not copy] * 3
        for finding in found.values():
            assert finding.placed is not None
            assert finding.placed.read_bytes() == finding.file.source.read_bytes()
    # Links lead on when both folders move together.
    Path("both").mkdir()
    for name in ("in", "out"):
        Path(name).rename(Path("both") / name)
    assert all(path.is_file() for path in Path("both/out").rglob("*.*") if path.suffix)


def test_copies_are_whole_whatever_they_are_copies_of(folder):
    scans.save(Path("ct/slice"), scans.scan())
    Path("ct/slice").chmod(0o640)
    os.utime("ct/slice", ns=(10**18, 10**18 + 1))
    for _ in range(2):
        (finding,) = findings("ct", sorter=Sorter(Path("out"), 0.5, True)).values()
        assert finding.placed == Path("out/clean/slice")
        assert finding.placed.read_bytes() == Path("ct/slice").read_bytes()
        status = finding.placed.stat()
        assert (status.st_mode & 0o777, status.st_mtime_ns) == (0o640, 10**18 + 1)


@pytest.mark.parametrize("copy", [False, True])
def test_nothing_is_replaced(folder, copy):
    Path("out/clean").mkdir(parents=True)
    Path("out/clean/black.png").write_text("not ours")
    Path("out/noise").mkdir()
    Path("out/noise/sub").mkdir()
    os.symlink("nowhere", "out/noise/sub/red.jpg")
    found = findings("in", sorter=Sorter(Path("out"), 0.5, copy))
    assert found["black.png"].error == "out/clean/black.png: is there already and is not in/black.png"
    assert found["sub/red.jpg"].error == "out/noise/sub/red.jpg: is there already and is not in/sub/red.jpg"
    assert found["yellow.png"].placed == Path("out/noise+rain/yellow.png")
    assert Path("out/clean/black.png").read_text() == "not ours"


@pytest.mark.parametrize("copy", [False, True])
def test_a_name_that_cannot_be_had_concerns_one_file(folder, monkeypatch, copy):
    refused = OSError(errno.EINVAL, "Invalid argument")
    link = Path.symlink_to

    def linking(self, target):
        if self.name == "red.jpg":
            raise refused
        link(self, target)

    def writing(path, data):
        if path.name == "red.jpg":
            raise OutputError(f"{path}: cannot be written: Invalid argument") from refused
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    monkeypatch.setattr(Path, "symlink_to", linking)
    monkeypatch.setattr("pipcli.batch.classify.write_bytes", writing)
    found = findings("in", sorter=Sorter(Path("out"), 0.5, copy))
    assert "out/noise/sub/red.jpg" in str(found["sub/red.jpg"].error)
    assert found["yellow.png"].placed == Path("out/noise+rain/yellow.png")


def test_a_file_system_without_links_ends_the_run(folder, monkeypatch):
    def linking(self, target):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", linking)
    with pytest.raises(OutputError, match=r"no link can be made there \(--copy"):
        findings("in", sorter=Sorter(Path("out"), 0.5, False))


def test_a_folder_that_cannot_be_made_ends_the_run(folder):
    Path("out").mkdir()
    Path("out/clean").write_text("in the way")
    with pytest.raises(OutputError, match=r"out/clean/black\.png: no link can be made there \(--copy"):
        findings("in/black.png", sorter=Sorter(Path("out"), 0.5, False))


@pytest.mark.parametrize(
    ("words", "target", "error", "says"),
    [
        (["in"], "in/out", UsageError, "lies inside the input"),
        (["in"], "in", UsageError, "same folder"),
        (["in/black.png", "in/sub/BLACK.png"], "out", UsageError, "one and the same"),
        (["in"], "in/black.png", OutputError, "is a file"),
    ],
)
def test_what_cannot_be_sorted_is_refused_before_anything_is_done(folder, words, target, error, says):
    PillowImage.new("RGB", (40, 40)).save("in/sub/BLACK.png")
    with pytest.raises(error, match=says):
        list_for_sorting(named_inputs(words), Path(target))
