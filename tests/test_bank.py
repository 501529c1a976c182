"""Banks of pixels: crops against numpy."""

from __future__ import annotations

import numpy as np
import torch

from pipcli.training.bank import Crops, PixelBank

CPU = torch.device("cpu")


def oriented(image: np.ndarray, top: int, left: int, size: int, code: int) -> np.ndarray:
    crop = image[top : top + size, left : left + size]
    if code & 1:
        crop = crop[::-1]
    if code & 2:
        crop = crop[:, ::-1]
    return crop.transpose(1, 0, 2) if code & 4 else crop


def test_read_is_numpy_slicing_in_all_eight_orientations():
    rng = np.random.default_rng(4)
    images = [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((20, 31), (16, 16), (40, 17))]
    bank = PixelBank(images, CPU)
    places = [(0, 3, 14), (1, 0, 0), (2, 24, 1)]
    chosen = [(*place, code) for place in places for code in range(8)]
    crops = Crops(*torch.tensor(chosen).T)
    read = bank.read(crops, 16)
    expected = np.stack([oriented(images[i], top, left, 16, code) for i, top, left, code in chosen])
    np.testing.assert_array_equal(read.numpy(), expected.transpose(0, 3, 1, 2) / np.float32(255))
    assert len({crop.tobytes() for crop in expected}) == len(chosen)


def test_places_lie_inside_and_reach_every_edge():
    bank = PixelBank([np.zeros((10, 20, 3), np.uint8), np.zeros((12, 9, 3), np.uint8)], CPU)
    crops = bank.draw(2000, 8, torch.Generator().manual_seed(5))
    for number, (height, width) in enumerate(((10, 20), (12, 9))):
        here = crops.image == number
        assert 850 < here.sum() < 1150
        assert set(crops.top[here].tolist()) == set(range(height - 8 + 1))
        assert set(crops.left[here].tolist()) == set(range(width - 8 + 1))
    assert set(crops.orientation.tolist()) == set(range(8))


def test_upright_crops_are_at_most_mirrored():
    image = np.repeat(np.arange(20, dtype=np.uint8)[:, None, None], 20, axis=1).repeat(3, axis=2)
    bank = PixelBank([image], CPU)
    crops = bank.draw(200, 8, torch.Generator().manual_seed(5), upright=True)
    assert set(crops.orientation.tolist()) == {0, 2}
    rows = bank.stored(crops, 8)[:, 0].int()
    assert (rows.diff(dim=1) == 1).all()
    assert (rows.diff(dim=2) == 0).all()


def test_other_types_and_channels_are_kept_as_they_are():
    image = np.arange(-200, 200, dtype=np.int16).reshape(20, 20, 1)
    bank = PixelBank([image, image - 1000], CPU)
    stored = bank.stored(Crops(*torch.tensor([(1, 2, 3, 0)]).T), 8)
    assert stored.dtype == torch.int16
    np.testing.assert_array_equal(stored[0, 0].numpy(), image[2:10, 3:11, 0] - 1000)


def test_shrunk_images_are_means_of_areas():
    rng = np.random.default_rng(3)
    images = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((40, 60, 3), (90, 30, 3), (8, 9, 3))]
    small = PixelBank(images, torch.device("cpu")).shrunk(10)
    assert small.heights.tolist() == [10, 30, 8]
    assert small.widths.tolist() == [15, 10, 9]
    everywhere = torch.tensor([0]), torch.tensor([0]), torch.tensor([0]), torch.tensor([0])
    corner = (small.read(Crops(*everywhere), 10) * 255).round()[0].permute(1, 2, 0).numpy()
    means = images[0].reshape(10, 4, 15, 4, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(corner, means[:, :10], atol=0.51)
    assert images_equal(small, 2, images[2])


def images_equal(bank: PixelBank, number: int, image: np.ndarray) -> bool:
    start = int(bank.starts[number])
    return np.array_equal(bank.pixels[start : start + image.shape[0] * image.shape[1]], image.reshape(-1, 3))
