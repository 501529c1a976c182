"""What a plan will cost, against what it then costs by a clock that goes by the work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import backbones
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image as PillowImage
from standins import ColourClassifier
from torch import Tensor

from pipcli.batch.estimate import estimate_jobs
from pipcli.batch.plan import plan_batch
from pipcli.batch.run import run_plan
from pipcli.degradations import parse_passes
from pipcli.inference import probe
from pipcli.inference.decision import Auto, Told
from pipcli.inference.device import Precision
from pipcli.inference.diagnosis import Diagnoser
from pipcli.inference.engine import Restorer
from pipcli.models import backbone
from pipcli.models.backbone import StandIn
from pipcli.models.pip import PromptConfig
from pipcli.models.unet import UNet, UNetConfig

CPU = torch.device("cpu")
CONFIG = UNetConfig(widths=(8, 12, 16), blocks=(1, 0, 0), prompts=(None, PromptConfig(12, 5)))


class Ticking(StandIn):
    """Every pixel takes a microsecond in the network, half of one for its features, and a tenth for theirs.

    Attributes:
        clock: seconds so far.
    """

    clock = 0.0

    def forward(self, x: Tensor, omega: Tensor) -> Tensor:
        self.take(1e-6, x)
        return self.model(x, omega)

    def features(self, x: Tensor) -> list[Tensor]:
        self.take(5e-7, x)
        return self.model.features(x)

    def queries_keys(
        self, features: Sequence[Tensor], placed: Sequence[Tensor]
    ) -> list[tuple[Tensor, Tensor]]:
        self.take(4e-7, features[0])  # a level down: a quarter of the pixels
        return self.model.queries_keys(features, placed)

    def prompted_by(self, x: Tensor, placed: Sequence[Tensor], attention: Sequence[Tensor]) -> Tensor:
        self.take(1e-6, x)
        return self.model.prompted_by(x, placed, attention)

    def take(self, seconds: float, x: Tensor) -> None:
        Ticking.clock += seconds * x.shape[0] * x.shape[-2] * x.shape[-1]


class TickingClassifier(ColourClassifier):
    def forward(self, crops: Tensor, overview: Tensor) -> tuple[Tensor, Tensor]:
        Ticking.clock += 0.02
        return super().forward(crops, overview)


@pytest.fixture
def restorer(monkeypatch):
    monkeypatch.setattr(Ticking, "clock", 0.0)
    monkeypatch.setattr(probe.time, "monotonic", lambda: Ticking.clock)
    # So little is kept that most features of the large image are made twice, as are those of 12 megapixels.
    for module in (backbone, probe):
        monkeypatch.setattr(module, "KEPT_FEATURES", 2 * 2**20)
    return Restorer(Ticking(backbones.randomised(UNet, CONFIG)), CPU, Precision.FP32, tile=192)


def save(path: Path, height: int, width: int) -> None:
    path.parent.mkdir(exist_ok=True)
    PillowImage.new("RGB", (width, height), (200, 0, 0)).save(path)


@pytest.mark.parametrize("task", ["denoise", "denoise,derain", "dehaze", "dehaze,denoise"])
def test_the_time_is_what_restoring_takes(restorer, tmp_path, task):
    save(tmp_path / "in" / "small.png", 64, 96)
    save(tmp_path / "in" / "broad.png", 96, 250)
    save(tmp_path / "in" / "large.png", 600, 800)
    tifffile.imwrite(tmp_path / "in" / "pages.tif", np.zeros((3, 48, 64, 3), np.uint8), photometric="rgb")
    plan = plan_batch(str(tmp_path / "in"), str(tmp_path / "out"))
    plan.make_folders()
    choice = Told(parse_passes(task))
    estimate = estimate_jobs(plan.jobs, restorer, choice)
    assert estimate.pixels == 64 * 96 + 96 * 250 + 600 * 800 + 3 * 48 * 64
    assert estimate.unknown == 0
    before = Ticking.clock
    run_plan(plan, restorer, choice)
    assert estimate.seconds == pytest.approx(Ticking.clock - before, rel=0.03)
    # The half that halos, and prompts made in two rounds, add to the pixels themselves.
    assert estimate.seconds > 1.5e-6 * estimate.pixels * len(choice.passes)


def test_the_classifier_counts(restorer, tmp_path):
    for index in range(3):
        save(tmp_path / "in" / f"{index}.png", 64, 96)
    plan = plan_batch(str(tmp_path / "in"), str(tmp_path / "out"))
    plan.make_folders()
    auto = Auto(Diagnoser(TickingClassifier(), CPU), "sha", 0.5)
    estimate = estimate_jobs(plan.jobs, restorer, auto)
    before = Ticking.clock
    run_plan(plan, restorer, auto)  # red is noise: one pass
    assert estimate.seconds == pytest.approx(Ticking.clock - before)
    assert estimate.seconds > 0.06


def test_nothing_to_do_costs_nothing(restorer):
    estimate = estimate_jobs((), restorer, Told(parse_passes("denoise")))
    assert (estimate.pixels, estimate.seconds, estimate.disk, estimate.free) == (0, 0.0, 0, None)


def test_disk_is_that_of_the_sources_or_of_the_pixels(restorer, tmp_path):
    save(tmp_path / "a.png", 64, 96)
    (tmp_path / "odd.png").write_bytes(b"I am a text")
    jobs = [
        *plan_batch(str(tmp_path / "a.png"), str(tmp_path / "b.png")).jobs,
        *plan_batch(str(tmp_path / "a.png"), str(tmp_path / "b.tif")).jobs,
        *plan_batch(str(tmp_path / "odd.png"), str(tmp_path / "c.png")).jobs,
    ]
    estimate = estimate_jobs(jobs, restorer, Told(parse_passes("denoise")))
    assert estimate.disk == (tmp_path / "a.png").stat().st_size + 3 * 64 * 96 + 11
    assert estimate.unknown == 1
    assert estimate.memory is None or estimate.memory > 4 * 3 * 64 * 96
