"""Runs whose images share batches, and runs with too little memory: the same bytes, or a word about it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import scans
import torch
from backbones import randomised
from PIL import Image as PillowImage
from standins import contents
from torch import Tensor, nn

from pipcli.batch import stages
from pipcli.batch.keeping import Keeping
from pipcli.batch.ledger import Ledger, read_ledgers
from pipcli.batch.limits import usual_limits
from pipcli.batch.outcome import Outcome, Summary
from pipcli.batch.plan import Plan, plan_batch
from pipcli.batch.run import run_plan
from pipcli.batch.shards import Shard
from pipcli.batch.slices import DicomOptions
from pipcli.degradations import Degradation, parse_passes
from pipcli.images.dicom_windows import parse_window
from pipcli.inference.decision import Told
from pipcli.inference.device import Precision
from pipcli.inference.engine import Restorer
from pipcli.models.pip import PromptConfig
from pipcli.models.unet import UNet, UNetConfig

CPU = torch.device("cpu")
DENOISE = Told(parse_passes("denoise"))
SIZES = [(40, 56), (56, 40), (39, 53)] * 7 + [(24, 24), (130, 40)]
"""Mostly upright and lying pictures; one of its own size, and one larger than a tile."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(2)
    for index, (height, width) in enumerate(SIZES):
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        PillowImage.fromarray(pixels).save(folder / f"{index:02}.png")
    return folder


@pytest.fixture(scope="module")
def model() -> nn.Module:
    config = UNetConfig(widths=(8, 12), blocks=(1, 1), prompts=(PromptConfig(8, 8),))
    model = randomised(UNet, config)
    model.halo = 0
    return model


def plan_of(source: Path, target: Path) -> Plan:
    plan = plan_batch(str(source), str(target))
    plan.make_folders()
    return plan


def run(plan: Plan, model: nn.Module, batch: int, stop_after: int | None = None) -> Summary:
    restorer = Restorer(model, CPU, Precision.BF16, tile=112, batch=batch)
    asked = 0

    def stopping() -> bool:
        nonlocal asked
        asked += 1
        return stop_after is not None and asked > stop_after

    return run_plan(plan, restorer, DENOISE, stopping=stopping, keeping=Keeping(Ledger(), "model"))


def test_a_file_has_the_same_bytes_in_a_fresh_run_a_resumed_run_and_a_shard(folder, model, tmp_path):
    assert run(plan_of(folder, tmp_path / "fresh"), model, 3).restored == len(SIZES)
    expected = contents(tmp_path / "fresh")
    assert len(expected) == len(SIZES)

    plan = plan_of(folder, tmp_path / "resumed")
    first = run(plan, model, 3, stop_after=1)
    assert first.interrupted
    assert 0 < first.restored < len(SIZES)
    removed = sorted((tmp_path / "resumed").glob("*.png"))[1::3]
    for path in removed:
        path.unlink()
    second = run(plan, model, 3)
    assert (second.kept, second.restored) == (
        first.restored - len(removed),
        len(SIZES) - first.restored + len(removed),
    )
    assert contents(tmp_path / "resumed") == expected

    for index in (1, 2, 3):
        run(Shard(index, 3).of(plan_of(folder, tmp_path / "shards")), model, 3)
    assert contents(tmp_path / "shards") == expected


def test_another_batch_is_another_recipe(folder, model, tmp_path):
    plan = plan_of(folder, tmp_path / "out")
    run(plan, model, 3)
    (entry, *_) = read_ledgers(tmp_path / "out")["00.png"]
    assert entry.parameters["batch"] == 3
    assert run(plan, model, 3).kept == len(SIZES)
    assert run(plan, model, 1).kept == 0


class Counted(nn.Module):
    """y = 1 - x. NaN where a picture begins with `bad`; no memory for more than so many pixels at once."""

    stride = 1
    halo = 4
    degradations = (Degradation.NOISE,)
    bad = 77

    def __init__(self, pixels: float = math.inf) -> None:
        super().__init__()
        self.pixels = pixels
        self.batches: list[int] = []

    def forward(self, x: Tensor, omega: Tensor) -> Tensor:
        self.batches.append(len(x))
        if x[:, 0].numel() > self.pixels:
            raise torch.OutOfMemoryError("CUDA out of memory")
        bad = (x[:, :1, :1, :1] * 255).round() == self.bad
        return torch.where(bad, math.nan, 1 - x)


def save(path: Path, level: int, size: tuple[int, int] = (12, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.new("RGB", size, (level, level, level)).save(path)


def level_of(path: Path) -> int:
    return int(np.asarray(PillowImage.open(path))[0, 0, 0])


def test_images_of_like_size_share_batches_and_are_told_in_order(folder, tmp_path):
    model, outcomes = Counted(), []
    restorer = Restorer(model, CPU, Precision.FP32, batch=7)
    run_plan(plan_of(folder, tmp_path), restorer, DENOISE, on_outcome=outcomes.append)
    # Three sizes of seven each, for the model pads nothing, one of its own, and a large one.
    assert model.batches == [7] * 5
    assert [outcome.job.source.name for outcome in outcomes] == [f"{i:02}.png" for i in range(len(SIZES))]
    assert all(outcome.seconds > 0 for outcome in outcomes)


def test_what_is_wrong_with_one_of_a_batch_is_that_files_error(tmp_path):
    for index, level in enumerate((10, 20, Counted.bad, 40)):
        save(tmp_path / "in" / f"{index}.png", level)
    model = Counted()
    plan = plan_of(tmp_path / "in", tmp_path / "out")
    summary = run_plan(plan, Restorer(model, CPU, Precision.FP32, batch=4), DENOISE)
    (failure,) = summary.failures
    assert failure.startswith(f"{tmp_path}/in/2.png: the model's output is not finite")
    assert {path.name: level_of(path) for path in (tmp_path / "out").iterdir()} == {
        "0.png": 245,
        "1.png": 235,
        "3.png": 215,
    }


def test_a_file_for_which_memory_is_too_little_is_done_with_less_and_says_so(tmp_path):
    save(tmp_path / "in" / "large.png", 10, (300, 200))
    save(tmp_path / "in" / "small.png", 20)
    plan = plan_of(tmp_path / "in", tmp_path / "out")
    restorer = Restorer(Counted(160**2), CPU, Precision.FP32, tile=256)
    outcomes: list[Outcome] = []
    run_plan(plan, restorer, DENOISE, on_outcome=outcomes.append, keeping=Keeping(Ledger(), "model"))
    step = "out of memory in tiles of 256, begun again in tiles of 128"
    assert [outcome.warnings for outcome in outcomes] == [(step,), ()]
    assert (level_of(tmp_path / "out" / "large.png"), level_of(tmp_path / "out" / "small.png")) == (245, 235)
    ledgers = read_ledgers(tmp_path / "out")
    (large,), (small,) = ledgers["large.png"], ledgers["small.png"]
    assert (large.warnings, small.warnings) == ((step,), ())
    # What is noted is what was asked for, so that the file counts as done.
    assert large.parameters == small.parameters
    assert run_plan(plan, restorer, DENOISE, keeping=Keeping(Ledger(), "model")).kept == 2


def test_a_batch_for_which_memory_is_too_little_is_done_file_by_file(tmp_path):
    for index in range(4):
        save(tmp_path / "in" / f"{index}.png", 10 * index, (40, 40))
    restorer = Restorer(Counted(3 * 40**2), CPU, Precision.FP32, batch=4)
    outcomes: list[Outcome] = []
    run_plan(plan_of(tmp_path / "in", tmp_path / "out"), restorer, DENOISE, on_outcome=outcomes.append)
    assert {outcome.warnings for outcome in outcomes} == {
        ("out of memory in batches of 4, begun again in batches of 2",)
    }
    assert [level_of(tmp_path / "out" / f"{i}.png") for i in range(4)] == [255, 245, 235, 225]


def test_where_nothing_fits_the_run_ends(tmp_path):
    for index in range(3):
        save(tmp_path / "in" / f"{index}.png", 10)
    restorer = Restorer(Counted(0), CPU, Precision.FP32)
    summary = run_plan(plan_of(tmp_path / "in", tmp_path / "out"), restorer, DENOISE)
    assert (summary.exit_code, summary.restored) == (6, 0)
    assert summary.failures[0] == "out of memory on cpu: even a tile of 12 does not fit"


def test_slices_go_with_less_too_and_never_in_batches(tmp_path):
    path = tmp_path / "in" / "slice.dcm"
    path.parent.mkdir()
    scans.save(path, scans.scan(np.pad(scans.phantom(), 51, mode="edge")))
    model = Counted(128**2)
    options = DicomOptions("pip-unet", "ab" * 32, parse_window("-200,300"))
    outcomes: list[Outcome] = []
    restorer = Restorer(model, CPU, Precision.FP32, tile=256, batch=4)
    run_plan(
        plan_of(tmp_path / "in", tmp_path / "out"),
        restorer,
        DENOISE,
        on_outcome=outcomes.append,
        dicom=options,
    )
    (outcome,) = outcomes
    assert outcome.error is None
    assert outcome.warnings[0] == "out of memory in tiles of 256, begun again in tiles of 128"
    assert set(model.batches) == {1}


def test_an_image_that_needs_more_than_the_limit_is_refused_by_name(tmp_path):
    save(tmp_path / "in" / "large.png", 10, (400, 300))
    save(tmp_path / "in" / "small.png", 20)
    save(tmp_path / "in" / "tiff.tif", 20, (400, 300))
    restorer = Restorer(Counted(), CPU, Precision.FP32)
    plan = plan_of(tmp_path / "in", tmp_path / "out")
    summary = run_plan(plan, restorer, DENOISE, memory=2**20)
    assert summary.failures == tuple(
        f"{tmp_path}/in/{name}: takes about {need} MiB, --max-memory leaves 1 MiB for images"
        for name, need in (("large.png", 1), ("tiff.tif", 2))  # which is not compressed
    )
    assert run_plan(plan, restorer, DENOISE, memory=2**21).failures == ()


def test_what_is_refused_is_not_read_first(tmp_path, monkeypatch):
    save(tmp_path / "in" / "large.png", 10, (400, 300))
    with (tmp_path / "in" / "large.png").open("ab") as file:
        file.truncate(2**30)  # a small picture in a file that is not
    scans.save(tmp_path / "in" / "slice.dcm", scans.scan(np.pad(scans.phantom(), 200, mode="edge")))
    monkeypatch.setattr(stages, "read_content", lambda path: pytest.fail("was read"))
    monkeypatch.setattr(stages, "treat_dicom", lambda *_: pytest.fail("was read"))
    restorer = Restorer(Counted(), CPU, Precision.FP32)
    options = DicomOptions("pip-unet", "ab" * 32, None)
    summary = run_plan(
        plan_of(tmp_path / "in", tmp_path / "out"), restorer, DENOISE, memory=2**21, dicom=options
    )
    assert [failure.split(": ")[1] for failure in summary.failures] == [
        "takes about 1025 MiB, --max-memory leaves 2 MiB for images",
        "takes about 7 MiB, --max-memory leaves 2 MiB for images",
    ]


def test_what_is_under_way_is_a_share_of_what_is_free(monkeypatch):
    mib = 2**20
    for free, weight in ((10**12, 512), (1024 * mib, 256), (10 * mib, 64)):
        monkeypatch.setattr("pipcli.batch.limits._free_memory", lambda free=free: free)
        assert usual_limits().weight == weight * mib
    assert usual_limits(memory=7 * mib).weight == 7 * mib
    assert usual_limits().together == 1
    limits = usual_limits(batch=4)
    assert limits.together == 16
    # While so many are computed, others are read and written.
    assert min(limits.ahead, limits.behind) > 16
