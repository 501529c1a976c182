"""Validation: fixed sets from held-out photographs alone, and scores that are PSNR."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio
from torch import Tensor, nn

from pipcli.degradations import Degradation
from pipcli.training.bank import PixelBank
from pipcli.training.data import Photographs, load_photographs
from pipcli.training.validation import COUNT, DARKER, SIGMA, SIZE, ValidationSet, make_validation, validate

CPU = torch.device("cpu")
ALL = tuple(Degradation)


class Dimmer(nn.Module):
    """Scales its input by a parameter, and notes how it was called."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))
        self.calls: list[tuple[bool, list[float]]] = []

    def forward(self, x: Tensor, omega: Tensor) -> Tensor:
        self.calls.append((self.training, omega[0].tolist()))
        return x * self.factor


@pytest.fixture(scope="module")
def splits(photo_folder) -> tuple[Photographs, Photographs]:
    return load_photographs(photo_folder, CPU)


def test_every_degradation_has_a_set_and_real_ones_stand_beside(splits):
    sets = make_validation(splits[1], ALL)
    synthetic = ["noise", "rain", "haze", "blur", "lowlight"]
    assert list(sets) == [
        *synthetic,
        "haze-built",
        "haze-rooms",
        "blur-moving",
        "blur-frames",
        "lowlight-real",
    ]
    assert [name for name, each in sets.items() if not each.counts] == ["haze-built", "blur-moving"]
    assert sets["blur-frames"].degradation is Degradation.BLUR
    assert sets["lowlight-real"].degradation is Degradation.LOWLIGHT
    for name, chosen in sets.items():
        assert chosen.degraded.shape == chosen.clean.shape
        assert 1 <= len(chosen.clean) <= COUNT * (2 if name in ("haze", "haze-rooms") else 1)
        assert not torch.equal(chosen.degraded, chosen.clean), name


@pytest.fixture(scope="module")
def with_slices(splits) -> Photographs:
    rng = np.random.default_rng(6)
    slices = [(40 + rng.normal(0, 5, (300, 280, 1))).astype(np.int16) for _ in range(3)]
    return replace(splits[1], slices=PixelBank(slices, CPU))


def test_ct_has_a_set_that_leaves_the_others_and_the_mean_alone(splits, with_slices):
    plain, sets = make_validation(splits[1], ALL), make_validation(with_slices, ALL)
    assert list(sets) == [*plain, "noise-ct"]
    for name, chosen in plain.items():
        assert torch.equal(chosen.degraded, sets[name].degraded)
    assert list(make_validation(with_slices, (Degradation.RAIN,))) == ["rain"]
    scores = validate(Dimmer(0.9), sets, ALL, CPU, torch.float32)
    assert scores["mean"] == validate(Dimmer(0.9), plain, ALL, CPU, torch.float32)["mean"]
    assert 10 < scores["noise-ct"] < 40


def test_ct_is_validated_with_noise_like_quarter_doses_and_with_white_noise_in_turn(with_slices):
    chosen = make_validation(with_slices, (Degradation.NOISE,))["noise-ct"]
    assert chosen.clean.shape == (COUNT, 3, SIZE, SIZE)
    assert torch.equal(chosen.degraded[:, 0], chosen.degraded[:, 1])
    # A window of 500 HU around flat tissue: nothing is clipped.
    noise = (chosen.degraded - chosen.clean)[:, 0].double().numpy() * 500
    for image, (level, across, down) in zip(
        noise, [(24, 0.59, 0.37), (25 / 255 * 500, 0, 0)] * (COUNT // 2), strict=True
    ):
        assert image.std() == pytest.approx(level, rel=0.05)
        assert np.corrcoef(image[:, 1:].ravel(), image[:, :-1].ravel())[0, 1] == pytest.approx(
            across, abs=0.03
        )
        assert np.corrcoef(image[1:].ravel(), image[:-1].ravel())[0, 1] == pytest.approx(down, abs=0.03)


def test_sets_are_only_of_what_the_model_knows(splits):
    assert list(make_validation(splits[1], (Degradation.RAIN, Degradation.NOISE))) == ["rain", "noise"]


def test_sets_are_the_same_every_time_whatever_was_drawn_before(splits):
    first = make_validation(splits[1], ALL)
    torch.manual_seed(99)
    torch.rand(7)
    second = make_validation(splits[1], ALL[::-1])
    for name, chosen in first.items():
        assert torch.equal(chosen.degraded, second[name].degraded)
        assert torch.equal(chosen.clean, second[name].clean)


def test_clean_images_are_held_out_ones(splits):
    """Every clean image that is cut from a photograph is the middle of a held-out one, and of no other."""

    def middles(split: Photographs) -> set[bytes]:
        found = set()
        for bank in (split.photos, split.high):
            ends = [*bank.starts.tolist()[1:], len(bank.pixels)]
            for i, (start, end) in enumerate(zip(bank.starts.tolist(), ends, strict=True)):
                image = bank.pixels[start:end].view(int(bank.heights[i]), int(bank.widths[i]), 3)
                height, width = image.shape[:2]
                top, left = (height - 16) // 2, (width - 16) // 2
                found.add(image[top : top + 16, left : left + 16].numpy().tobytes())
        return found

    training, held_out = (middles(split) for split in splits)
    for name, chosen in make_validation(splits[1], ALL).items():
        if name in ("blur-frames", "haze-built"):
            continue
        # The second half of the scenes for haze are the first, darker.
        half = len(chosen.clean) // 2 if name.startswith("haze") else len(chosen.clean)
        for image in chosen.clean[:half]:
            height, width = image.shape[1:]
            top, left = (height - 16) // 2, (width - 16) // 2
            middle = image[:, top : top + 16, left : left + 16].permute(1, 2, 0)
            pixels = (middle * 255).round().byte().numpy().tobytes()
            assert pixels in held_out
            assert pixels not in training


def test_scenes_for_haze_come_again_darker(splits):
    sets = make_validation(splits[1], ALL)
    for name in ("haze", "haze-rooms"):
        bright, dark = sets[name].clean.chunk(2)
        torch.testing.assert_close(dark, bright**DARKER)
        # With haze of their own.
        assert not torch.allclose(*sets[name].degraded.chunk(2), atol=0.2)


def test_noise_is_that_of_the_benchmark(splits):
    noise = make_validation(splits[1], (Degradation.NOISE,))["noise"]
    grey = (noise.clean > 0.45) & (noise.clean < 0.55)
    deviation = (noise.degraded - noise.clean)[grey].std().item() * 255
    assert abs(deviation - SIGMA) < 1.5
    # Stored as 8 bit, as the protocol does.
    assert torch.equal(noise.degraded, (noise.degraded * 255).round() / 255)


def test_scores_are_psnr_under_the_right_omega(splits):
    sets = make_validation(splits[1], ALL)
    model = Dimmer(0.9)
    scores = validate(model, sets, ALL, CPU, torch.float32)
    for name, chosen in sets.items():
        restored = np.clip(chosen.degraded.double().numpy() * 0.9, 0, 1)
        expected = np.mean(
            [
                peak_signal_noise_ratio(clean, output, data_range=1)
                for clean, output in zip(chosen.clean.double().numpy(), restored, strict=True)
            ]
        )
        assert scores[name] == pytest.approx(expected, abs=1e-3)
    asked = iter(model.calls)
    for chosen in sets.values():
        for _ in chosen.clean:
            training, omega = next(asked)
            assert not training
            assert omega == [float(kind is chosen.degradation) for kind in ALL]


def test_the_mean_counts_every_degradation_once():
    clean = torch.full((1, 3, 8, 8), 0.5)

    def off_by(error: float, degradation: Degradation) -> ValidationSet:
        return ValidationSet(degradation, clean + error, clean)

    sets = {
        "noise": off_by(0.1, Degradation.NOISE),
        "blur": off_by(0.01, Degradation.BLUR),
        "blur-frames": off_by(0.001, Degradation.BLUR),
    }
    scores = validate(Dimmer(1.0), sets, ALL, CPU, torch.float32)
    assert scores["noise"] == pytest.approx(20, abs=1e-3)
    assert scores["blur"] == pytest.approx(40, abs=1e-2)
    assert scores["blur-frames"] == pytest.approx(60, abs=0.1)
    assert scores["mean"] == pytest.approx((20 + 50) / 2, abs=0.1)


def test_a_perfect_output_has_a_finite_score():
    clean = torch.full((1, 3, 8, 8), 0.5)
    scores = validate(
        Dimmer(1.0), {"noise": ValidationSet(Degradation.NOISE, clean, clean)}, ALL, CPU, torch.float32
    )
    assert scores["noise"] == pytest.approx(100)


def test_outputs_are_clipped():
    clean = torch.ones(1, 3, 8, 8)
    sets = {"noise": ValidationSet(Degradation.NOISE, clean, clean)}
    assert validate(Dimmer(1.5), sets, ALL, CPU, torch.float32)["noise"] == pytest.approx(100)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(training):
    clean = torch.full((1, 3, 8, 8), 0.5)
    model = Dimmer(0.8).train(training)
    validate(model, {"rain": ValidationSet(Degradation.RAIN, clean, clean)}, ALL, CPU, torch.bfloat16)
    assert model.training is training
    # Not marked by inference mode: the next step still computes gradients.
    model(clean, torch.zeros(1, 5)).sum().backward()
    assert model.factor.grad is not None
