"""What is affine in an image nearby stays, and what is not goes; a tile has what the whole has."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pipcli.inference.affine import RADIUS, STEP, locally_affine
from pipcli.inference.engine import DEFAULT_HALO


def scene(height: int, width: int) -> Tensor:
    """Something of every size, 1×3×H×W in [0, 1]."""
    generator = torch.Generator().manual_seed(6)
    coarse = torch.rand(1, 3, 5, 6, generator=generator)
    smooth = F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False)
    return (smooth + 0.1 * torch.randn(1, 3, height, width, generator=generator)).clamp(0, 1)


@pytest.mark.parametrize(("height", "width"), [(128, 160), (131, 90), (3, 5)])
def test_an_affine_change_stays(height, width):
    x = scene(height, width)
    y = 1.7 * x - torch.tensor([0.3, 0.2, 0.4])[:, None, None]
    torch.testing.assert_close(locally_affine(x, y), y, atol=2e-3, rtol=0)


def test_haze_that_grows_smoothly_is_undone_as_it_was():
    clean = scene(160, 200)
    transmission = torch.linspace(0.9, 0.3, 200).expand(1, 1, 160, 200)
    hazy = transmission * clean + 0.8 * (1 - transmission)
    assert (locally_affine(hazy, clean) - clean).square().mean().sqrt() < 0.01


def test_mottles_that_the_image_has_not_go():
    wall = torch.full((1, 3, 160, 200), 0.6)
    wall += 0.01 * torch.randn(wall.shape, generator=torch.Generator().manual_seed(7))
    rows, columns = torch.meshgrid(torch.arange(160.0), torch.arange(200.0), indexing="ij")
    mottles = 0.05 * torch.sin(rows / 3) * torch.sin(columns / 1.5)
    after = locally_affine(wall, 2 * wall - 0.5 + mottles) - (2 * wall - 0.5)
    assert after.square().mean() < 0.1 * mottles.square().mean()


def test_a_plain_image_becomes_the_mean_of_what_was_made_of_it():
    made = scene(64, 64)
    after = locally_affine(torch.full((1, 3, 64, 64), 0.5), made)
    assert after[..., 16:48, 16:48].std() < 0.5 * F.avg_pool2d(made, STEP)[..., 4:12, 4:12].std()
    assert float(after.mean()) == pytest.approx(float(made.mean()), abs=0.01)


def test_a_tile_has_what_the_whole_has():
    x, y = scene(160, 200), scene(160, 200).flip(-1)
    whole = locally_affine(x, y)
    part, reach = slice(40, 140), 2 * STEP * (RADIUS + 1)
    assert reach < DEFAULT_HALO
    tile = locally_affine(x[..., part], y[..., part])
    torch.testing.assert_close(
        tile[..., reach:-reach], whole[..., part][..., reach:-reach], atol=1e-4, rtol=0
    )
