"""How long each task's gradient is on the flagship, and that its recipe's weights let every one be heard.

The model card and the recipe have the lengths that this prints:

    python -m pytest -m slow -s tests/test_task_weights.py
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipcli.models.native import has_native_bfloat16
from pipcli.models.zoo import load_model
from pipcli.synthesis import SynthesisRanges
from pipcli.training.data import BatchMaker, load_photographs
from pipcli.training.losses import crop_losses
from pipcli.training.recipe import DataShares, Stage, load_recipe

DATA = Path(__file__).parents[2] / "shared/data/train"
CROPS, BATCHES = 4, 6

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_dir(), reason="the training photographs are not here"),
]


def test_no_task_drowns_the_others():
    """Root mean square, over a few batches of one task, of the length of the gradient of all weights."""
    recipe = load_recipe("pip-unet")
    model = load_model("pip-unet").to(memory_format=torch.channels_last).train().requires_grad_()
    photographs, _ = load_photographs(DATA, torch.device("cpu"))
    maker = BatchMaker(photographs, model.degradations, DataShares(rooms=0.5), SynthesisRanges())
    weighed = {}
    native = has_native_bfloat16(torch.device("cpu"))
    for degradation in model.degradations:
        stage = Stage(until=1.0, crop=128, batch={degradation: CROPS})
        squares = []
        for seed in range(BATCHES):
            batch = maker.make(stage, seed)
            with torch.autocast("cpu", torch.bfloat16, enabled=native):
                output = model(batch.inputs.contiguous(memory_format=torch.channels_last), batch.omega)
            loss = crop_losses(output.float(), batch.targets, recipe.loss).mean()
            gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
            squares.append(sum(float(each.square().sum()) for each in gradients if each is not None))
        length = (sum(squares) / BATCHES) ** 0.5
        weighed[degradation] = length * recipe.loss.tasks.get(degradation, 1.0)
        print(f"\n{degradation:10}{length:8.3f}{weighed[degradation]:8.3f}", end="")
    assert max(weighed.values()) < 5 * min(weighed.values())
