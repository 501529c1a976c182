"""Validation of a classifier: its figures by hand, and a calibration that is found again."""

from __future__ import annotations

import math

import pytest
import torch
from photographs import write_photographs

from pipcli.degradations import Degradation
from pipcli.models.classifier import Classifier, ClassifierConfig
from pipcli.synthesis import SynthesisRanges
from pipcli.training.classifier_data import ExampleMaker, ExampleShares
from pipcli.training.classifier_validation import (
    Views,
    find_calibration,
    make_clean_views,
    make_views,
    predict,
    presence_loss,
    scores_of,
)
from pipcli.training.data import load_photographs

NAN = math.nan


def test_unknown_labels_do_not_count():
    logits = torch.tensor([[2.0, -1.0], [0.5, 3.0]])
    present = torch.tensor([[1.0, 0.0], [NAN, 1.0]])
    sigmoid = [1 / (1 + math.exp(-x)) for x in (2, -1, 3)]
    by_hand = -(math.log(sigmoid[0]) + math.log(1 - sigmoid[1]) + math.log(sigmoid[2])) / 3
    assert presence_loss(logits, present).item() == pytest.approx(by_hand, rel=1e-5)
    assert presence_loss(logits, present * NAN) == 0


def test_clean_pictures_weigh_as_they_are_told_to():
    logits = torch.tensor([[2.0, -1.0], [0.5, 3.0], [1.0, 1.0]])
    # What may be clean but is not known to be, the last, weighs no more than what ails.
    present = torch.tensor([[0.0, 0.0], [0.0, 1.0], [NAN, 0.0]])
    sigmoid = [1 / (1 + math.exp(-x)) for x in (-2, 1, -0.5, 3, -1)]
    clean, others = -math.log(sigmoid[0] * sigmoid[1]), -math.log(math.prod(sigmoid[2:]))
    loss = presence_loss(logits, present, clean_weight=6.0)
    assert loss.item() == pytest.approx((6 * clean + others) / (6 * 2 + 3), rel=1e-5)


def test_smoothing_moves_the_best_answer():
    label = torch.ones(1, 1)
    answers = torch.linspace(0, 8, 801)
    losses = torch.stack([presence_loss(a.view(1, 1), label, 0.05) for a in answers])
    assert answers[losses.argmin()].item() == pytest.approx(math.log(0.95 / 0.05), abs=0.02)


@pytest.mark.parametrize("truth", [0.5, 1.0, 3.0])
def test_temperatures_of_overconfident_logits_are_found(truth):
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn((80000, 5), generator=generator)
    present = (torch.rand(logits.shape, generator=generator) < logits.sigmoid()).float()
    each = truth * torch.tensor([1.0, 1.0, 0.5, 2.0, 1.0])
    temperature, offset = find_calibration(logits * each, present)
    torch.testing.assert_close(temperature, each, rtol=0.1, atol=0)
    # Clean pictures, which are few here, weigh more than all others, and so pull the offsets down.
    assert offset.max() < 0


def test_offsets_of_shy_logits_are_found():
    generator = torch.Generator().manual_seed(0)
    shift = torch.tensor([0.0, 2.0, -1.5])
    logits = 3 * torch.randn((20000, 3), generator=generator) - 2
    present = (torch.rand(logits.shape, generator=generator) < logits.sigmoid()).float()
    _, fair = find_calibration(logits, present)
    temperature, offset = find_calibration(logits - shift, present)
    torch.testing.assert_close(offset, fair + shift / temperature, atol=0.05, rtol=0.02)


def test_without_examples_nothing_is_calibrated():
    logits = torch.randn((6, 2), generator=torch.Generator().manual_seed(0))
    temperature, offset = find_calibration(logits, torch.full((6, 2), NAN))
    assert temperature.tolist() == pytest.approx([1, 1])
    assert offset.tolist() == pytest.approx([0, 0])


def test_figures_by_hand():
    present = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, NAN], [1.0, 1.0]])
    sigma = torch.tensor([NAN, NAN, 10.0, NAN, 20.0, NAN])
    logits = torch.tensor([[-1.0, -1], [1, -1], [2, 1], [1, -1], [-9, 9], [-9, 9]])
    views = Views([], [], present, sigma)
    scores = scores_of(logits, torch.tensor([0.0, 0, 11, 0, 30, 0]), views)
    # Clean: the first is, the second is not. One degradation alone: the third is right, the fourth wrong.
    assert (scores["clean"], scores["top1"]) == (0.5, 0.5)
    assert scores["noise"] == pytest.approx(0.1)


def test_whole_pictures_are_shown_as_they_are_and_alike(tmp_path):
    write_photographs(tmp_path)
    _, held_out = load_photographs(tmp_path, torch.device("cpu"))
    maker = ExampleMaker(held_out, tuple(Degradation), ExampleShares(sides=(32, 48)), SynthesisRanges())
    views = make_views(maker, 32, 3)
    # Two photos clean and in eleven ways, twice dark and then with haze; two pairs, the bright ones with four
    # degradations and three times dark and with haze; one stretch of frames; everything in three forms.
    assert len(views.crops) == 3 * (2 * (12 + 4) + 2 * (2 + 4 + 6) + 2)
    # At half its size a picture of the fixture has room for a single crop, and others are worth only two.
    assert {tuple(each.shape[1:]) for each in views.crops} == {(3, 32, 32)}
    assert {len(each) for each in views.crops} == {1, 2, 3}
    assert {each.dtype for each in views.overviews} == {torch.uint8}
    assert bool(views.sigma[1::3].isnan().all() and views.sigma[2::3].isnan().all())
    assert bool(views.sigma[::3].isfinite().any())
    again = make_views(maker, 32, 3)
    assert all(torch.equal(one, two) for one, two in zip(views.crops, again.crops, strict=True))

    clean = make_clean_views(held_out, 5, 32, 3)
    # Two photos, two bright pictures of pairs and thirteen frames, in two forms.
    assert len(clean.crops) == 2 * (2 + 2 + 13)
    assert torch.equal(clean.present, torch.zeros(34, 5))

    model = Classifier(ClassifierConfig(size=32, widths=(8, 16), depth=1, features=8)).train()
    logits, sigma = predict(model, views, torch.device("cpu"), torch.float32)
    assert model.training
    assert (logits.shape, sigma.shape) == ((len(views.crops), 5), (len(views.crops),))
