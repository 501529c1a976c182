"""Explaining prompts: against the modules themselves on whole images, and other linear algebra."""

import numpy as np
import pytest
import torch

from pipcli.degradations import Degradation
from pipcli.errors import UsageError
from pipcli.images import Image
from pipcli.inference.device import Precision
from pipcli.inference.engine import Restorer
from pipcli.inference.explaining import (
    Level,
    mean_change,
    principal_plane,
    prompt_angles,
    prompted_levels,
    restored_for_each,
    universal_prompts,
)
from pipcli.models.pip import PromptConfig, PromptedSkip
from pipcli.models.unet import UNet, UNetConfig


def random_unet(prompts: tuple[PromptConfig | None, ...] = (None, PromptConfig(8, 6))) -> UNet:
    torch.manual_seed(1)
    model = UNet(UNetConfig(widths=(8, 16, 16), blocks=(1, 1, 1), prompts=prompts)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 4:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
    return model


def restorer_of(model: UNet, tile: int = 512) -> Restorer:
    return Restorer(model, torch.device("cpu"), Precision.FP32, tile)


def picture(height: int = 40, width: int = 56) -> Image:
    y, x = np.mgrid[:height, :width]
    planes = np.stack([(3 * y + 5 * (c + 1) * x) % 251 for c in range(3)], axis=2)
    return Image(planes.astype(np.uint8))


def test_levels_are_the_skips_that_carry_prompts():
    model = random_unet((PromptConfig(4, 3), PromptConfig(8, 6)))
    assert prompted_levels(model) == (Level(0, 4, 3), Level(1, 8, 6))
    with pytest.raises(UsageError, match="no prompts"):
        prompted_levels(random_unet((None, None)))
    with pytest.raises(UsageError, match="no prompts"):
        prompted_levels(torch.nn.Identity())


def test_each_degradation_has_its_own_restoration():
    restorer, image = restorer_of(random_unet()), picture()
    results = dict(restored_for_each(restorer, image))
    assert tuple(results) == tuple(Degradation)
    one_hot = [0.0, 0.0, 1.0, 0.0, 0.0]
    np.testing.assert_array_equal(results[Degradation.HAZE].pixels, restorer.restore(image, one_hot).pixels)
    assert (results[Degradation.HAZE].pixels != results[Degradation.RAIN].pixels).any()


@pytest.mark.parametrize("tile", [512, 168])
def test_universal_prompts_are_those_of_the_whole_image(tile):
    """Against the module's own, called on the feature of the whole image."""
    model, image = random_unet(), picture(240, 200)
    (found,) = universal_prompts(restorer_of(model, tile), image, Degradation.BLUR)
    skip = model.prompts[1]
    assert isinstance(skip, PromptedSkip)
    with torch.inference_mode():
        x = torch.from_numpy(image.crop_float(0, 240, 0, 200)).permute(2, 0, 1)[None]
        feature = model.encode(x)[0][1]
        small = torch.nn.functional.interpolate(feature, size=(6, 6), mode="bilinear", align_corners=False)
        expected = skip.universal_prompt(small, torch.tensor([[0.0, 0, 0, 1, 0]])).flatten()
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_degradation_that_the_model_does_not_know_is_refused():
    model = UNet(
        UNetConfig(
            widths=(8, 16), blocks=(1, 1), prompts=(PromptConfig(8, 6),), degradations=(Degradation.NOISE,)
        )
    )
    with pytest.raises(UsageError, match="not trained for rain"):
        universal_prompts(restorer_of(model), picture(), Degradation.RAIN)


def test_angles_between_prompts():
    model = random_unet((PromptConfig(4, 3), PromptConfig(8, 6, degradation_prompt=False)))
    skip = model.prompts[0]
    assert isinstance(skip, PromptedSkip)
    with torch.no_grad():
        skip.degradation_prompts.copy_(
            torch.tensor([[1.0, 0, 0, 0], [0, 2, 0, 0], [1, 1, 0, 0], [-3, 0, 0, 0], [1, 0, 0, 0]])
        )
    first, second = prompt_angles(model)
    assert second is None
    np.testing.assert_allclose(first[0], [0, 90, 45, 180, 0], atol=1e-5)
    np.testing.assert_allclose(first, first.T, atol=1e-9)


def test_the_principal_plane_is_that_of_the_covariance():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(30, 12)) * np.linspace(3, 0.1, 12) + 7
    points, shares = principal_plane(list(rows))
    variances = np.sort(np.linalg.eigvalsh(np.cov(rows.T)))[::-1]
    np.testing.assert_allclose(points.var(axis=0, ddof=1), variances[:2])
    np.testing.assert_allclose(shares, variances[:2] / variances.sum())
    np.testing.assert_allclose(points[:, 0] @ points[:, 1], 0, atol=1e-8)
    # Distances in the plane are those of the projections onto its axes, so none is longer than in space.
    apart = np.linalg.norm(rows[0] - rows[1])
    assert np.linalg.norm(points[0] - points[1]) <= apart + 1e-9


def test_equal_vectors_have_a_plane_and_two_have_none():
    points, shares = principal_plane([np.ones(5, np.float32)] * 4)
    np.testing.assert_allclose(points, 0, atol=1e-9)
    assert all(0 <= share <= 1 for share in shares)
    with pytest.raises(ValueError, match="at least 3"):
        principal_plane([np.ones(5)] * 2)


def test_mean_change_counts_every_pixel():
    before = picture(600, 20)
    pixels = before.pixels.copy()
    pixels[:, :10] ^= 1
    assert mean_change(before, before.with_pixels(pixels)) == pytest.approx(0.5, abs=1e-4)
