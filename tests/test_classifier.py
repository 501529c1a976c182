"""The classifier: shapes, what its answers depend on, and where it looks."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.fft import dctn

from pipcli.degradations import Degradation
from pipcli.models.classifier import (
    BACKBONES,
    Classifier,
    ClassifierConfig,
    PatchCosines,
    candidate_corners,
    choose_crops,
    crops_worth,
    make_overview,
)
from pipcli.models.unet import UNetConfig

TINY = ClassifierConfig(size=32, widths=(8, 16), depth=2, features=8)
SCENE = UNetConfig(widths=(4, 8), blocks=(1, 1), prompts=(None,), degradations=(Degradation.HAZE,))
MOTION = replace(SCENE, degradations=(Degradation.BLUR,))
FROZEN = replace(TINY, scene=SCENE, motion=MOTION)


@pytest.fixture
def model() -> Classifier:
    torch.manual_seed(0)
    return Classifier(TINY).eval()


def looks(crops: int = 3, batch: int = 2, size: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    near = torch.rand((batch, crops, 3, size, size), generator=generator)
    return near, torch.rand((batch, 3, size, size), generator=generator)


@pytest.mark.parametrize("crops", [1, 5])
def test_one_answer_an_image(model, crops):
    logits, sigma = model(*looks(crops))
    assert logits.shape == (2, 5)
    assert sigma.shape == (2,)
    assert bool((sigma >= 0).all())


def test_the_shipped_size_is_within_its_bounds():
    parameters = sum(parameter.numel() for parameter in Classifier(ClassifierConfig()).parameters())
    assert parameters <= 4_000_000
    assert 2 * parameters <= 8_000_000


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_can_look_at_crops(backbone):
    config = ClassifierConfig(backbone=backbone, size=32, widths=(8, 16), features=8)
    # Without numbers where they are many: VGG-16 has half a gigabyte of them.
    with torch.device("cpu" if backbone == "compact" else "meta"):
        assert BACKBONES[backbone](config).eval()(torch.rand(6, 3, 32, 32)).shape == (6, 8)


def test_the_order_of_the_crops_does_not_matter(model):
    crops, overview = looks()
    torch.testing.assert_close(model(crops, overview), model(crops.flip(1), overview))


def test_an_overview_and_its_mirror_image_get_one_answer(model):
    crops, overview = looks(1, 2)
    expected, _ = model(crops, overview)
    mirrored, _ = model(crops, overview.flip(-1))
    torch.testing.assert_close(mirrored, expected)
    other, _ = model(crops, overview.flip(-2))
    assert not torch.allclose(other, expected)


def test_images_of_a_batch_do_not_touch_each_other(model):
    crops, overview = looks()
    logits, sigma = model(crops, overview)
    torch.testing.assert_close(model(crops[1:], overview[1:]), (logits[1:], sigma[1:]))


def test_the_noise_is_told_from_the_crops_alone(model):
    crops, overview = looks()
    other = model(crops, 1 - overview)
    assert torch.equal(model(crops, overview)[1], other[1])
    assert not torch.equal(model(crops, overview)[0], other[0])


def test_temperature_and_offset_calibrate_the_logits_and_travel_with_the_weights(model):
    crops, overview = looks()
    logits, _ = model(crops, overview)
    model.temperature.copy_(torch.tensor([2.0, 1, 1, 1, 4]))
    model.offset[1] = 3
    expected = logits / torch.tensor([2.0, 1, 1, 1, 4]) + torch.tensor([0.0, 3, 0, 0, 0])
    torch.testing.assert_close(model(crops, overview)[0], expected)
    assert model.state_dict()["temperature"].tolist() == [2, 1, 1, 1, 4]
    assert model.state_dict()["offset"].tolist() == [0, 3, 0, 0, 0]


def test_answers_are_float32_under_autocast(model):
    with torch.autocast("cpu", torch.bfloat16):
        logits, sigma = model(*looks())
    assert (logits.dtype, sigma.dtype) == (torch.float32, torch.float32)


def test_every_part_learns():
    model = Classifier(TINY).train()
    logits, sigma = model(*looks())
    (logits.sum() + sigma.sum()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name


def test_patches_are_seen_as_their_cosine_transform():
    image = torch.rand((1, 3, 8, 12), generator=torch.Generator().manual_seed(2))
    seen = PatchCosines()(image)[0]
    patch = image[0, :, 4:8, 8:12].double().numpy() - 0.5
    expected = dctn(patch, axes=(1, 2), norm="ortho")
    flat = expected.reshape(3, 16).T
    np.testing.assert_allclose(seen[:3, 1, 2], flat[0], atol=1e-5)
    np.testing.assert_allclose(seen[3:, 1, 2].view(15, 3), np.arcsinh(flat[1:] / 0.01) / 2, atol=1e-4)


def test_a_deeper_network_answers_as_the_shallower_one_that_it_began_as():
    shallow, deep = (Classifier(replace(TINY, depth=depth, fine=depth - 1)).eval() for depth in (1, 3))
    crops, overview = looks()
    assert not torch.equal(deep(crops, overview)[0], shallow(crops, overview)[0])
    deep.load_state_dict({**deep.state_dict(), **shallow.state_dict()})
    torch.testing.assert_close(deep(crops, overview), shallow(crops, overview))


def test_a_classifier_given_frozen_networks_answers_as_before():
    plain, given = (Classifier(config).eval() for config in (TINY, FROZEN))
    given.load_state_dict({**given.state_dict(), **plain.state_dict()})
    crops, overview = looks()
    torch.testing.assert_close(given(crops, overview), plain(crops, overview))
    assert set(given.frozen) == {"scene", "motion"}
    assert not plain.frozen
    assert not any(value.requires_grad for each in given.frozen.values() for value in each.parameters())


@pytest.mark.parametrize("name", ["scene", "motion"])
def test_what_a_frozen_network_finds_moves_the_answer(name):
    torch.manual_seed(0)
    model = Classifier(replace(TINY, **{name: getattr(FROZEN, name)})).eval()
    torch.nn.init.ones_(model.heed[-1].weight)
    with torch.no_grad():
        model.heed[0].running_var.fill_(1e-4)
        before = model(*looks())[0]
        for value in model.frozen[name].parameters():
            value.zero_()
        assert (model(*looks())[0] - before).abs().max() > 1e-3


def test_change_counts_where_there_is_detail():
    """Of a crop whose left half is a bare wall, the weighted numbers are those of the right half."""

    class Steeper(torch.nn.Module):
        def forward(self, x: torch.Tensor, omega: torch.Tensor) -> torch.Tensor:
            return 0.25 + 1.5 * (x - 0.5) + 0.25

    crops = torch.full((1, 2, 3, 32, 32), 0.5)
    # Columns in turn 0.4 and 0.6, from the middle on: a mean step of 0.2 from each pixel to the next.
    crops[..., 16::2] = 0.4
    crops[..., 17::2] = 0.6
    crops[0, 1] = 0.5
    model = Classifier(replace(TINY, motion=FROZEN.motion))
    model.motion = Steeper()
    (found,) = model._found(crops, crops[:, 0])
    assert found.shape == (1, 9)
    mean, least, most = found[0].view(3, 3)
    torch.testing.assert_close(mean, (least + most) / 2)
    # The second crop is a wall all over, in which nothing changes.
    torch.testing.assert_close(least, torch.tensor([0.001, 0.001, 1.0]).log())
    assert most[0].item() == pytest.approx(math.log(0.05 / 2 + 0.001), abs=1e-4)
    assert most[1].item() == pytest.approx(math.log(0.05 + 0.001), abs=0.1)
    assert most[2].item() == pytest.approx(math.log(1.5), abs=0.01)


def test_a_mirrored_scene_is_looked_at_too_in_use():
    torch.manual_seed(0)
    model = Classifier(FROZEN).eval()
    crops, overview = looks()
    once, again = (model._found(crops, each)[0] for each in (overview, overview.flip(-1)))
    torch.testing.assert_close(once, again)
    model.train()
    once, again = (model._found(crops, each)[0] for each in (overview, overview.flip(-1)))
    assert not torch.equal(once, again)


def test_a_single_streak_can_be_told_by_the_peak(model):
    """What differs in one place of a crop alone moves the answer by more than its share of the mean."""
    trunk = model.closely
    flat = torch.full((1, 3, 32, 32), 0.5)
    streak = flat.clone()
    streak[..., 8:12, 8:12] += 0.4 * torch.rand((3, 4, 4), generator=torch.Generator().manual_seed(3))
    torch.nn.init.ones_(trunk.peak.weight)
    with torch.no_grad():
        with_peak = (trunk(streak) - trunk(flat)).abs().mean()
        torch.nn.init.zeros_(trunk.peak.weight)
        without = (trunk(streak) - trunk(flat)).abs().mean()
    assert with_peak > 2 * without > 0


def test_faint_noise_is_seen_under_autocast_too():
    image = 0.9 + torch.randn((1, 3, 64, 64), generator=torch.Generator().manual_seed(2)) / 255
    cosines = PatchCosines()
    exact = cosines(image)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(cosines(image), exact)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"backbone": "alexnet"}, "backbone is 'alexnet': choose from compact"),
        ({"size": 100}, "size is 100: it must be a multiple of 32"),
        ({"size": 0}, "size is 0"),
        ({"crops": 0}, "crops is 0"),
        ({"depth": 0}, "depth is 0"),
        ({"fine": -1}, "fine is -1"),
        ({"features": 0}, "features is 0"),
        ({"widths": (0, 8)}, "widths is"),
        ({"ratio": 1.0}, "ratio is 1.0"),
        ({"degradations": ()}, "degradations is empty"),
        ({"degradations": (Degradation.RAIN,), "scene": SCENE}, "scene needs a model that knows haze"),
        ({"scene": UNetConfig()}, "scene must be for haze alone"),
    ],
)
def test_a_wrong_configuration_is_refused(wrong, why):
    with pytest.raises(ValueError, match=why):
        ClassifierConfig(**wrong)


def test_fewer_degradations_give_fewer_logits():
    model = Classifier(
        ClassifierConfig(
            size=32, widths=(8, 16), features=8, degradations=(Degradation.NOISE, Degradation.RAIN)
        )
    )
    assert model.eval()(*looks())[0].shape == (2, 2)


@pytest.mark.parametrize("height", [96, 97, 192, 321, 481, 5000])
@pytest.mark.parametrize("width", [96, 250, 9000])
def test_candidates_lie_within_and_reach_both_ends(height, width):
    corners = candidate_corners(height, width, 96)
    tops, lefts = zip(*corners, strict=True)
    assert len(corners) == len(set(corners)) <= 36
    assert (min(tops), min(lefts)) == (0, 0)
    assert (max(tops), max(lefts)) == (height - 96, width - 96)


def test_up_to_six_crops_a_side_every_pixel_is_a_candidate():
    for side in range(96, 6 * 96 + 1, 17):
        starts = sorted({left for _, left in candidate_corners(96, side, 96)})
        assert all(after - before <= 96 for before, after in itertools.pairwise(starts))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (95, 40), (40, 300)])
def test_small_images_have_crops_from_their_corner(height, width):
    corners = candidate_corners(height, width, 96)
    assert (0, 0) in corners
    assert all(top == 0 for top, _ in corners)


def test_half_of_the_crops_are_the_most_detailed():
    flat = torch.full((10, 3, 32, 32), 0.5)
    steps = torch.arange(32) // 8 % 2
    for number in (3, 7):
        flat[number] += 0.01 * number * steps
    chosen = choose_crops(flat, 4).tolist()
    assert chosen[:2] == [7, 3]
    assert len(set(chosen)) == 4


def test_noise_is_not_taken_for_detail():
    noise = 0.05 * torch.randn((1, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    edges = 0.15 * (torch.arange(32) // 8 % 2).expand(1, 3, 32, 32)
    assert choose_crops(0.5 + torch.cat([noise, edges, 0 * edges]), 1).tolist() == [1]


def test_few_candidates_are_all_taken():
    assert choose_crops(torch.rand(3, 3, 32, 32), 8).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("height", "width", "count"),
    [(1, 1, 1), (96, 96, 1), (160, 240, 3), (256, 256, 5), (321, 481, 8), (4000, 6000, 8)],
)
def test_a_small_image_is_looked_at_in_fewer_crops(height: int, width: int, count: int) -> None:
    assert crops_worth(height, width, 96, 8) == count


def test_the_overview_holds_means():
    image = torch.rand(1, 3, 64, 128, generator=torch.Generator().manual_seed(0))
    expected = image.view(1, 3, 32, 2, 32, 4).mean(dim=(3, 5))
    torch.testing.assert_close(make_overview(image, 32), expected)
