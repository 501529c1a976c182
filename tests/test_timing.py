"""A model that watches the clock gives what the model gives, and counts each part where it belongs."""

from __future__ import annotations

import backbones
import numpy as np
import torch

from pipcli.images import Image
from pipcli.inference import timing
from pipcli.inference.device import Precision
from pipcli.inference.engine import Restorer
from pipcli.inference.timing import TimedModel
from pipcli.models.pip import PromptConfig
from pipcli.models.unet import UNet, UNetConfig

CONFIG = UNetConfig(widths=(8, 12, 16), blocks=(1, 0, 0), prompts=(None, PromptConfig(12, 5)))


def test_seconds_are_counted_by_part_and_results_are_the_same(monkeypatch):
    model = backbones.randomised(UNet, CONFIG)
    ticks = iter(range(1000))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(ticks)))
    timed = TimedModel(model)
    omega = [1.0, 0.0, 0.0, 0.0, 0.0]
    for width, survey, restoring in ((60, 0, 1), (250, 4, 3)):
        image = Image(backbones.image(50, width)[0].permute(1, 2, 0).contiguous().numpy())
        pixels = [
            Restorer(each, torch.device("cpu"), Precision.FP32, tile=192).restore(image, omega).pixels
            for each in (timed, model)
        ]
        np.testing.assert_array_equal(*pixels)
        # A tick for each call. Tiles are seen once: their features are kept for the second survey.
        assert (timed.survey, timed.restoring) == (survey, restoring)
