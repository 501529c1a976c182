"""The shipped models on held-out images under every prompt: what removes what, and what clean ones lose.

The model cards have the matrix that this prints:

    python -m pytest -m slow -s tests/test_matrix.py
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipcli.degradations import Degradation
from pipcli.images import Image
from pipcli.inference.device import choose_precision
from pipcli.inference.engine import Restorer
from pipcli.models.zoo import MODELS, load_model
from pipcli.training.data import load_photographs
from pipcli.training.validation import make_validation

DATA = Path(__file__).parents[2] / "shared/data/train"
CPU = torch.device("cpu")
LEAST_GAIN = {"pip-unet": 0.95, "pip-unet-lite": 0.8}
"""How much better than any other prompt its own undoes each degradation, in dB."""

HARMLESS = (Degradation.NOISE, Degradation.RAIN, Degradation.HAZE, Degradation.BLUR)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_dir(), reason="the training photographs are not here"),
]


@pytest.fixture(scope="module")
def sets():
    _, held_out = load_photographs(DATA, CPU)
    return make_validation(held_out, tuple(Degradation))


def row(restorer: Restorer, degraded: Tensor, clean: Tensor) -> dict[Degradation, float]:
    """PSNR in dB of a set of images, B×3×H×W, under each one-hot ω, in the order of the degradations."""
    values = {}
    for index, degradation in enumerate(restorer.degradations):
        omega = torch.eye(len(restorer.degradations))[index].tolist()
        scores = []
        for x, target in zip(degraded, clean, strict=True):
            y = restorer.restore(Image(x.permute(1, 2, 0).contiguous().numpy()), omega).pixels
            error = torch.from_numpy(y).permute(2, 0, 1) - target
            scores.append(-10 * error.square().mean().log10().item())
        values[degradation] = sum(scores) / len(scores)
    return values


@pytest.mark.parametrize("name", MODELS)
def test_every_prompt_is_the_best_for_its_degradation(name, sets):
    """Each row's best is its own prompt; what does no harm by nature leaves clean images recognisable."""
    restorer = Restorer(load_model(name), CPU, choose_precision("auto", CPU))
    matrix = {kind: row(restorer, sets[kind].degraded, sets[kind].clean) for kind in map(str, Degradation)}
    matrix["clean"] = row(restorer, sets["noise"].clean, sets["noise"].clean)
    print(f"\n{name:10}" + "".join(f"{kind:>10}" for kind in map(str, Degradation)))
    for kind, values in matrix.items():
        print(f"{kind:10}" + "".join(f"{value:10.2f}" for value in values.values()))
    for degradation in Degradation:
        values = dict(matrix[str(degradation)])
        own = values.pop(degradation)
        assert own > max(values.values()) + LEAST_GAIN[name], degradation
    for degradation in HARMLESS:
        assert matrix["clean"][degradation] > 30, degradation
