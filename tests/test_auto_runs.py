"""Whole runs in which a classifier decides for each file: copied, restored, accounted for, and done once."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scans
import tifffile
import torch
from PIL import Image as PillowImage
from pydicom import dcmread
from standins import ColourClassifier
from torch import Tensor, nn

from pipcli.batch.inputs import named_inputs
from pipcli.batch.keeping import Existing, Keeping
from pipcli.batch.ledger import Entry, Ledger, read_ledgers
from pipcli.batch.naming import NameTemplate
from pipcli.batch.outcome import Outcome, Summary
from pipcli.batch.plan import plan_batch
from pipcli.batch.run import finished_jobs, run_plan
from pipcli.batch.shards import Shard
from pipcli.batch.slices import DicomOptions
from pipcli.cli.accounts import decision_line
from pipcli.degradations import Degradation
from pipcli.images import Wishes
from pipcli.images.dicom_windows import parse_window
from pipcli.inference.decision import Auto
from pipcli.inference.device import Precision
from pipcli.inference.diagnosis import Diagnoser
from pipcli.inference.engine import Restorer

CPU = torch.device("cpu")
COLOURS = {
    "black.png": (0, 0, 0),
    "dark.jpg": (40, 30, 20),
    "red.png": (250, 0, 0),
    "sub/green.jpg": (0, 250, 0),
    "yellow.png": (250, 250, 0),
    "white.tif": (250, 250, 250),
}
CLEAN = {"black.png", "dark.jpg"}


class Marking(nn.Module):
    """Noise: y = x - 0.1, rain: y = x²; on the fields of a chessboard, so that DICOM keeps the change."""

    stride = 1
    halo = 4
    degradations = tuple(Degradation)

    def forward(self, x: Tensor, omega: Tensor) -> Tensor:
        changed = (x - 0.1) * omega[0, 0] + x.square() * omega[0, 1] + x * omega[0, 2:].sum()
        fields = torch.from_numpy(scans.chessboard(*x.shape[-2:])).float() > 0
        return torch.where(fields, changed, x)


@pytest.fixture
def restorer():
    return Restorer(Marking(), CPU, Precision.FP32)


@pytest.fixture
def auto():
    return Auto(Diagnoser(ColourClassifier(), CPU), "first", 0.5)


@pytest.fixture
def folder(tmp_path):
    for name, colour in COLOURS.items():
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        PillowImage.new("RGB", (40, 36), colour).save(path)
    return tmp_path


def run(folder: Path, restorer: Restorer, auto: Auto, wishes: Wishes | None = None, **keeping):
    plan = plan_batch(
        str(folder / "in"), str(folder / "out"), NameTemplate(format_=(wishes or Wishes()).format)
    )
    plan.make_folders()
    outcomes: list[Outcome] = []
    kept = Keeping(Ledger(), "model", **keeping)
    return run_plan(plan, restorer, auto, 1.0, outcomes.append, keeping=kept, wishes=wishes), outcomes


def entries(folder: Path) -> dict[str, Entry]:
    return {output: lines[-1] for output, lines in read_ledgers(folder / "out").items()}


def pixels(path: Path) -> np.ndarray:
    with PillowImage.open(path) as image:
        return np.asarray(image).astype(int)


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*.*") if path.is_file() and ".pipcli" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_every_file_gets_what_was_found_in_it(folder, restorer, auto):
    summary, outcomes = run(folder, restorer, auto)
    assert (summary.restored, summary.untouched, summary.exit_code) == (4, 2, 0)
    assert summary.verdicts == {"clean": 2, "noise": 1, "rain": 1, "noise,rain": 2}
    for name in CLEAN:
        assert (folder / "out" / name).read_bytes() == (folder / "in" / name).read_bytes()
    red = pixels(folder / "out" / "red.png")
    assert red[0, 0].tolist() == [round(250 - 25.5), 0, 0]
    assert red[0, 1].tolist() == [250, 0, 0]
    # One pass after the other, and no rounding in between.
    level = (250 / 255 - 0.1) ** 2 * 255
    assert pixels(folder / "out" / "yellow.png")[0, 0].tolist() == [round(level), round(level), 0]
    verdicts = {outcome.job.relative: (outcome.decision or {})["verdict"] for outcome in outcomes}
    assert verdicts == {
        "black.png": "clean",
        "dark.jpg": "clean",
        "red.png": "noise",
        "sub/green.jpg": "rain",
        "yellow.png": "noise,rain",
        "white.tif": "noise,rain",
    }
    assert {outcome.job.relative for outcome in outcomes if outcome.untouched} == CLEAN
    noted = entries(folder)
    assert {name: (entry.decision or {})["verdict"] for name, entry in noted.items()} == verdicts
    black = noted["black.png"]
    assert black.output_sha256 == black.input_sha256
    assert black.parameters["classifier_sha256"] == "first"
    assert black.warnings == ()


def test_every_page_gets_what_was_found_in_it(tmp_path, restorer, auto):
    pages = [np.full((36, 40, 3), colour, np.uint8) for colour in ((250, 0, 0), (0, 0, 0), (250, 250, 0))]
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in" / "differ.tif", np.stack(pages), photometric="rgb")
    tifffile.imwrite(tmp_path / "in" / "same.tif", np.stack(pages[:1] * 2), photometric="rgb")
    tifffile.imwrite(tmp_path / "in" / "clean.tif", np.stack(pages[1:2] * 2), photometric="rgb")
    summary, outcomes = run(tmp_path, restorer, auto)
    assert summary.verdicts == {"mixed": 1, "noise": 1, "clean": 1}
    assert (summary.restored, summary.untouched) == (2, 1)
    red, black, yellow = tifffile.imread(tmp_path / "out" / "differ.tif").astype(int)
    assert red[0, 0].tolist() == [round(250 - 25.5), 0, 0]
    assert (black == 0).all()
    level = (250 / 255 - 0.1) ** 2 * 255
    assert yellow[0, 0].tolist() == [round(level), round(level), 0]
    decision = next(o.decision for o in outcomes if o.job.relative == "differ.tif")
    assert [page["verdict"] for page in decision["pages"]] == ["noise", "clean", "noise,rain"]
    assert decision_line(decision) == ("found noise in 1 page, nothing in 1 page, noise and rain in 1 page")
    same = tifffile.imread(tmp_path / "out" / "same.tif")
    assert (same == red).all()
    assert (tmp_path / "out" / "clean.tif").read_bytes() == (tmp_path / "in" / "clean.tif").read_bytes()
    again, _ = run(tmp_path, restorer, auto)
    assert (again.kept, again.verdicts) == (3, summary.verdicts)


def test_the_same_run_again_keeps_all_and_tells_the_same(folder, restorer, auto):
    _, first = run(folder, restorer, auto)
    made = contents(folder / "out")
    summary, again = run(folder, restorer, auto)
    assert (summary.kept, summary.restored, summary.untouched) == (len(COLOURS), 0, 0)
    assert [outcome.decision for outcome in again] == [outcome.decision for outcome in first]
    assert summary.verdicts == run(folder, restorer, auto, existing=Existing.OVERWRITE)[0].verdicts
    assert contents(folder / "out") == made


@pytest.mark.parametrize("change", [{"classifier_sha256": "second"}, {"threshold": 0.6}, {"abstain": False}])
def test_another_way_of_deciding_does_every_file_again(folder, restorer, auto, change):
    run(folder, restorer, auto)
    plan = plan_batch(str(folder / "in"), str(folder / "out"))
    keeping = Keeping(Ledger(), "model")
    assert len(finished_jobs(plan, restorer, auto, 1.0, None, keeping)) == len(COLOURS)
    other = replace(auto, **change)
    assert finished_jobs(plan, restorer, other, 1.0, None, keeping) == {}


def test_shards_decide_as_one_run_does(folder, restorer, auto):
    run(folder, restorer, auto)
    whole = contents(folder / "out")
    (folder / "out").rename(folder / "whole")
    for index in (1, 2):
        share = Shard(index, 2)
        plan = share.of(plan_batch(str(folder / "in"), str(folder / "out")))
        plan.make_folders()
        run_plan(plan, restorer, auto, keeping=Keeping(Ledger(share.name), "model"))
    assert contents(folder / "out") == whole


def test_without_abstaining_nothing_is_copied(folder, restorer, auto):
    summary, _ = run(folder, restorer, replace(auto, abstain=False))
    assert (summary.untouched, summary.restored) == (0, len(COLOURS))
    assert summary.verdicts["unsure"] == 2


def test_a_wish_changes_an_untouched_file_and_only_that(folder, restorer, auto):
    summary, _ = run(folder, restorer, auto, Wishes(format_name="png"))
    assert summary.untouched == 2
    assert (folder / "out" / "black.png").read_bytes() == (folder / "in" / "black.png").read_bytes()
    assert (pixels(folder / "out" / "dark.png") == pixels(folder / "in" / "dark.jpg")).all()
    run(folder, restorer, auto, Wishes(bits=8), existing=Existing.OVERWRITE)
    assert (pixels(folder / "out" / "black.png") == 0).all()


def test_in_place_an_untouched_file_is_not_written(folder, restorer, auto):
    def in_place() -> Summary:
        plan = plan_batch(named_inputs([str(folder / "in")]), None)
        return run_plan(plan, restorer, auto, keeping=Keeping(Ledger(), "model"))

    os.utime(folder / "in" / "black.png", ns=(10**18, 10**18))
    identity = (folder / "in" / "black.png").stat().st_ino
    summary = in_place()
    assert (summary.restored, summary.untouched) == (4, 2)
    status = (folder / "in" / "black.png").stat()
    assert (status.st_mtime_ns, status.st_ino) == (10**18, identity)
    assert pixels(folder / "in" / "red.png")[0, 0].tolist() == [round(250 - 25.5), 0, 0]
    assert in_place().kept == len(COLOURS)


def test_a_bad_file_is_named_and_an_answer_that_is_no_number_too(folder, restorer, auto, monkeypatch):
    (folder / "in" / "bad.png").write_text("I am a text")
    summary, _ = run(folder, restorer, auto)
    assert (summary.exit_code, len(summary.failures)) == (3, 1)
    answer = ColourClassifier.forward
    monkeypatch.setattr(
        ColourClassifier, "forward", lambda *given: tuple(part * torch.nan for part in answer(*given))
    )
    summary, _ = run(folder, restorer, auto, existing=Existing.OVERWRITE)
    assert summary.exit_code == 4
    assert f"{folder}/in/red.png: the classifier's answer is not finite" in summary.failures


# DICOM: only noise counts, and it is looked for through the window.


def test_dicom_is_denoised_or_copied_byte_for_byte(tmp_path, restorer, auto):
    bright = np.where(scans.phantom() == 40, 250.0, 200.0)
    scans.save(tmp_path / "in" / "a", scans.scan(bright, instance=1))
    scans.save(tmp_path / "in" / "b", scans.scan(instance=2))
    scans.save(tmp_path / "in" / "other" / "c", scans.scan(instance=1, series="1.2.9"))
    plan = plan_batch(str(tmp_path / "in"), str(tmp_path / "out"))
    plan.make_folders()
    outcomes: list[Outcome] = []
    options = DicomOptions("pip-unet", "ab", parse_window("-200,300"))
    keeping = Keeping(Ledger(), "model")
    summary = run_plan(plan, restorer, auto, 1.0, outcomes.append, dicom=options, keeping=keeping)
    assert (summary.restored, summary.untouched, summary.exit_code) == (1, 2, 0)
    assert summary.verdicts == {"noise": 1, "clean": 2}
    for name in ("b", "other/c"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "in" / name).read_bytes()
    assert dcmread(tmp_path / "out" / "a").SeriesInstanceUID != scans.SERIES
    assert summary.incomplete == ()
    (line,) = summary.divided
    assert line.startswith(
        f"{tmp_path}/in: a series was restored in part: 1 slice shows no noise and stays in"
    )
    assert line.endswith(": b")
    again = run_plan(plan, restorer, auto, 1.0, dicom=options, keeping=Keeping(Ledger(), "model"))
    assert (again.kept, again.verdicts, again.divided) == (3, summary.verdicts, summary.divided)
