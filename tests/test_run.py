"""Whole runs: every file right or accounted for, with a model that stands in for the trained ones."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from torch import Tensor, nn

from pipcli.batch import run as run_module
from pipcli.batch.plan import Plan, plan_batch
from pipcli.batch.run import Outcome, run_plan
from pipcli.degradations import Degradation
from pipcli.errors import DeviceError, ImageError, OutputError
from pipcli.inference.device import Precision
from pipcli.inference.engine import Restorer

CPU = torch.device("cpu")


class Inverse(nn.Module):
    """y = 1 - x; pictures of the grey level `bad` come out as NaN in bf16, of `worse` in fp32 too."""

    stride = 1
    halo = 4
    degradations = (Degradation.NOISE,)
    bad, worse = 77, 78

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor, omega: Tensor) -> Tensor:
        level = round(float(x[0, 0, 0, 0]) * 255)
        if level == self.worse or (level == self.bad and self.layer(x).dtype == torch.bfloat16):
            return x * math.nan
        return 1 - x


@pytest.fixture
def restorer():
    return Restorer(Inverse(), CPU, Precision.BF16)


def save(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.new("RGB", (12, 8), (level, level, level)).save(path)


def level_of(path: Path) -> int:
    pixels = np.asarray(PillowImage.open(path))
    assert pixels.shape == (8, 12, 3)
    assert (pixels == pixels[0, 0]).all()
    return int(pixels[0, 0, 0])


def planned(tmp_path: Path) -> Plan:
    plan = plan_batch(str(tmp_path / "in"), str(tmp_path / "out"))
    plan.make_folders()
    return plan


def test_every_file_is_restored_into_the_same_tree(tmp_path, restorer):
    levels = {"a.png": 10, "b/c.png": 20, "b/d/e.png": 30}
    for name, level in levels.items():
        save(tmp_path / "in" / name, level)
    outcomes: list[Outcome] = []
    summary = run_plan(planned(tmp_path), restorer, (1.0,), on_outcome=outcomes.append)
    assert {name: level_of(tmp_path / "out" / name) for name in levels} == {
        name: 255 - level for name, level in levels.items()
    }
    assert (summary.restored, summary.failures, summary.unreached, summary.exit_code) == (3, (), 0, 0)
    assert [outcome.job.source.name for outcome in outcomes] == ["a.png", "c.png", "e.png"]
    assert all(outcome.error is None and outcome.seconds > 0 for outcome in outcomes)
    assert summary.seconds >= sum(outcome.seconds for outcome in outcomes)


def test_nothing_to_do_is_well(tmp_path, restorer):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("no image")
    plan = planned(tmp_path)
    assert plan.left_alone == 1
    assert run_plan(plan, restorer, (1.0,)).exit_code == 0


def test_a_bad_file_is_named_and_the_others_go_on(tmp_path, restorer):
    save(tmp_path / "in" / "1.png", 10)
    (tmp_path / "in" / "2.png").write_text("I am a text")
    (tmp_path / "in" / "3.jpg").write_bytes(b"")
    whole = (tmp_path / "in" / "1.png").read_bytes()
    (tmp_path / "in" / "4.png").write_bytes(whole[: len(whole) // 2])
    save(tmp_path / "in" / "5.png", Inverse.worse)
    save(tmp_path / "in" / "6.png", 50)
    outcomes: list[Outcome] = []
    summary = run_plan(planned(tmp_path), restorer, (1.0,), on_outcome=outcomes.append)
    assert [outcome.error is None for outcome in outcomes] == [True, False, False, False, False, True]
    assert summary.restored == 2
    assert summary.exit_code == 3
    assert len(summary.failures) == 4
    for number, failure in zip("2345", summary.failures, strict=True):
        assert failure.startswith(f"{tmp_path}/in/{number}.")
        assert failure.count(f"{number}.") == 1
        assert "\n" not in failure
    assert "not finite" in summary.failures[3]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"1.png", "6.png"}


def test_all_failed(tmp_path, restorer):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "2.png").write_text("I am a text")
    assert run_plan(planned(tmp_path), restorer, (1.0,)).exit_code == 4


def test_a_folder_that_could_not_be_listed_is_a_failure(tmp_path, restorer):
    save(tmp_path / "in" / "a.png", 10)
    summary = run_plan(replace(planned(tmp_path), unlisted=(tmp_path / "in" / "secret",)), restorer, (1.0,))
    assert summary.failures == (f"{tmp_path}/in/secret: cannot be listed",)
    assert (summary.restored, summary.exit_code) == (1, 3)


def test_a_surprise_costs_one_file_only(tmp_path, restorer, monkeypatch):
    for name in ("a.png", "b.png", "c.png"):
        save(tmp_path / "in" / name, 10)
    real = run_module.read_image

    def read(path: Path) -> object:
        if path.name == "a.png":
            raise ZeroDivisionError("a bug\nin a codec")
        if path.name == "b.png":
            raise MemoryError
        return real(path)

    monkeypatch.setattr(run_module, "read_image", read)
    summary = run_plan(planned(tmp_path), restorer, (1.0,))
    assert summary.restored == 1
    assert summary.failures == (
        f"{tmp_path}/in/a.png: internal error: ZeroDivisionError: a bug in a codec",
        f"{tmp_path}/in/b.png: does not fit into memory",
    )


@pytest.mark.parametrize(
    ("problem", "code"),
    [
        (OutputError("out/b.png: cannot be written: No space left on device"), 7),
        (DeviceError("out of memory: a tile of 512×512 does not fit"), 6),
    ],
)
def test_what_concerns_all_files_stops_the_run(tmp_path, restorer, monkeypatch, problem, code):
    for name in ("a.png", "b.png", "c.png", "d.png"):
        save(tmp_path / "in" / name, 10)
    real = run_module.write_image

    def write(image: object, path: Path) -> None:
        if path.name == "b.png":
            raise problem
        real(image, path)

    monkeypatch.setattr(run_module, "write_image", write)
    summary = run_plan(planned(tmp_path), restorer, (1.0,))
    assert summary.exit_code == code
    assert (summary.restored, summary.failures, summary.unreached) == (1, (str(problem),), 2)


def test_an_image_the_format_cannot_hold_is_that_files_failure(tmp_path, restorer, monkeypatch):
    save(tmp_path / "in" / "a.png", 10)

    def write(image: object, path: Path) -> None:
        raise ImageError(f"{path}: a JPEG holds 8 bits")

    monkeypatch.setattr(run_module, "write_image", write)
    assert run_plan(planned(tmp_path), restorer, (1.0,)).exit_code == 4


def test_redone_tiles_are_counted_and_told(tmp_path, restorer):
    save(tmp_path / "in" / "a.png", 10)
    save(tmp_path / "in" / "b.png", Inverse.bad)
    outcomes: list[Outcome] = []
    summary = run_plan(planned(tmp_path), restorer, (1.0,), on_outcome=outcomes.append)
    assert (summary.redone, summary.exit_code) == (1, 0)
    assert [outcome.redone for outcome in outcomes] == [0, 1]
    assert outcomes[0].warnings == ()
    assert outcomes[1].warnings == ("1 result not finite in bf16, redone in fp32",)
    assert level_of(tmp_path / "out" / "b.png") == 255 - Inverse.bad


def test_notes_of_reading_become_warnings(tmp_path, restorer):
    (tmp_path / "in").mkdir()
    PillowImage.new("P", (12, 8)).save(tmp_path / "in" / "a.png")
    outcomes: list[Outcome] = []
    run_plan(planned(tmp_path), restorer, (1.0,), on_outcome=outcomes.append)
    assert outcomes[0].warnings == ("palette image read as RGB",)


def test_an_interrupted_run_finishes_the_file_in_hand(tmp_path, restorer):
    for name in ("a.png", "b.png", "c.png"):
        save(tmp_path / "in" / name, 10)
    outcomes: list[Outcome] = []
    summary = run_plan(
        planned(tmp_path),
        restorer,
        (1.0,),
        on_outcome=outcomes.append,
        stopping=lambda: len(outcomes) == 2,
    )
    assert (summary.restored, summary.unreached, summary.interrupted) == (2, 1, True)
    assert summary.exit_code == 130
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.png", "b.png"}


def test_strength_is_passed_on(tmp_path, restorer):
    save(tmp_path / "in" / "a.png", 100)
    run_plan(planned(tmp_path), restorer, (1.0,), strength=0.25)
    assert level_of(tmp_path / "out" / "a.png") == round(100 + 0.25 * (155 - 100))
