"""The shipped classifier on held-out photographs whose degradations no run has been validated by.

The model card has the figures that this prints:

    python -m pytest -m slow -s tests/test_classifier_draws.py
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipcli.models.native import has_native_bfloat16
from pipcli.models.zoo import load_classifier
from pipcli.synthesis import SynthesisRanges
from pipcli.training.classifier_data import ExampleMaker, ExampleShares
from pipcli.training.classifier_validation import make_views, predict, scores_of
from pipcli.training.data import load_photographs

DATA = Path(__file__).parents[2] / "shared/data/train"
SEEDS = (30_000, 30_001, 30_002)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_dir(), reason="the training photographs are not here"),
]


def test_other_draws_are_told_as_well():
    cpu = torch.device("cpu")
    model = load_classifier()
    dtype = torch.bfloat16 if has_native_bfloat16(cpu) else torch.float32
    _, held_out = load_photographs(DATA, cpu)
    maker = ExampleMaker(held_out, model.degradations, ExampleShares(), SynthesisRanges())
    draws = []
    for seed in SEEDS:
        views = make_views(maker, model.config.size, model.config.crops, seed)
        logits, sigma = predict(model, views, cpu, dtype)
        scores = scores_of(logits, sigma, views)
        # How often what ails a picture is found, at the threshold of 0.5, and is the most probable.
        alone = views.present.isfinite().all(dim=1) & (views.present.nan_to_num().sum(dim=1) == 1)
        for number, kind in enumerate(model.degradations):
            ailing = alone & (views.present[:, number] == 1)
            scores[f"{kind} found"] = float((logits[ailing, number] > 0).float().mean())
            scores[f"{kind} named"] = float((logits[ailing].argmax(dim=1) == number).float().mean())
        draws.append(scores)
        print("\n" + "  ".join(f"{name} {value:.3f}" for name, value in draws[-1].items()), end="")
    mean = {name: sum(scores[name] for scores in draws) / len(draws) for name in draws[0]}
    print("\nmean: " + "  ".join(f"{name} {value:.3f}" for name, value in mean.items()))
    assert mean["top1"] > 0.93
    assert mean["clean"] > 0.95
