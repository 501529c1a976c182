"""CT slices in training: the split by names, windows as restoring shows them, noise added before clipping."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scans import SERIES, phantom, save, scan

from pipcli.errors import UsageError
from pipcli.images.dicom_windows import PRESETS, Window
from pipcli.inference.hounsfield import restore_values
from pipcli.synthesis.ctnoise import CtNoiseRanges
from pipcli.training.bank import PixelBank
from pipcli.training.ct import (
    HELD_OUT_SLICES,
    PADDING,
    SLICE_GAP,
    Windows,
    add_ct_noise,
    draw_windows,
    load_slices,
    noisy_slices,
)

CPU = torch.device("cpu")
COUNT = 12
FAINT = CtNoiseRanges(sigma=(0.1, 0.1), white_chance=1.0, streaky_chance=0.0, uneven_chance=0.0)


def level(number: int) -> np.ndarray:
    """A slice that tells its number."""
    return np.full((48, 48), 10.0 * number)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(1, COUNT + 1):
        save(tmp_path / f"ct/a/CT_{number}_x.dcm", scan(level(number), instance=number))
        other = scan(level(100 + number), instance=number, series=f"{SERIES}.9")
        save(tmp_path / f"ct/b/{number}", other)
    return tmp_path / "ct"


def levels(bank: PixelBank) -> list[float]:
    return [float(bank.pixels[start, 0]) / 10 for start in bank.starts.tolist()]


def test_the_last_slices_of_each_series_are_held_out_with_a_gap(folder):
    training, held_out = load_slices(folder, CPU)
    last = COUNT - HELD_OUT_SLICES - SLICE_GAP
    # CT_2 comes before CT_10.
    assert levels(training) == [*range(1, last + 1), *range(101, 101 + last)]
    assert levels(held_out) == [10, 11, 12, 110, 111, 112]
    assert training.pixels.dtype == torch.int16


def test_padding_lies_below_every_window_and_other_dicom_is_left_alone(folder):
    corner = np.zeros((48, 48), bool)
    corner[:5, :5] = True
    padded = scan(level(1), padding=corner, padding_value=0)
    save(folder / "a/CT_1_x.dcm", padded)
    localizer = scan(level(99))
    localizer.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    save(folder / "a/CT_0_localizer.dcm", localizer)
    training, _ = load_slices(folder, CPU)
    first = training.pixels[: 48 * 48, 0].view(48, 48).numpy()
    np.testing.assert_array_equal(first, np.where(corner, PADDING, 10))
    noisy, clean = add_ct_noise(
        torch.from_numpy(first)[None, None].float(),
        Windows(torch.tensor(-1350.0), torch.tensor(1500.0)),
        CtNoiseRanges(),
        torch.Generator().manual_seed(1),
    )
    assert torch.all(noisy[0, :, :5, :5] == 0)
    assert torch.all(clean[0, :, :5, :5] == 0)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            lambda ct: (ct / "a/CT_3_x.dcm").write_bytes((ct / "a/CT_3_x.dcm").read_bytes()[:-900]),
            "CT_3_x.dcm",
        ),
        (lambda ct: save(ct / "a/CT_3_x.dcm", scan(level(3)[:20])), "is 48×20: crops of 32 do not fit"),
        (lambda ct: [path.unlink() for path in ct.rglob("*") if path.is_file()], "6 axial CT slices"),
        (lambda ct: [(ct / f"{place}").unlink() for place in _most()], "6 axial CT slices"),
    ],
)
def test_bad_folders_are_named(folder, spoil, words):
    spoil(folder)
    with pytest.raises(UsageError, match=words) as caught:
        load_slices(folder, CPU, 32)
    assert str(folder) in str(caught.value)


def _most() -> list[str]:
    return [
        f"{place.format(number)}" for place in ("a/CT_{}_x.dcm", "b/{}") for number in range(6, COUNT + 1)
    ]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(UsageError, match="nowhere"):
        load_slices(tmp_path / "nowhere", CPU)


@pytest.mark.parametrize("window", [Window(-200, 300), Window(-1350, 150), Window(0, 80)])
def test_a_slice_is_shown_as_restoring_shows_it(window):
    values = phantom(sigma=30)
    padded = np.zeros(values.shape, bool)
    padded[:6, :6] = True
    seen: list[np.ndarray] = []

    def look(shown: np.ndarray) -> np.ndarray:
        seen.append(shown)
        return shown

    restore_values(values, padded, window, look)
    bank_values = torch.from_numpy(np.where(padded, PADDING, values)).float()[None, None]
    shown = Windows(torch.tensor(window.low), torch.tensor(window.width)).show(bank_values)
    assert shown.shape == (1, 3, 48, 48)
    for channel in shown[0].numpy():
        np.testing.assert_allclose(channel, seen[0], atol=1e-6)


def test_noise_is_whole_hounsfield_units_added_before_the_window_clips():
    low, width = 0.0, 100.0
    values = torch.full((4, 1, 64, 64), 2.0)
    ranges = replace(FAINT, sigma=(51.0, 51.0))
    windows = Windows(torch.full((4, 1, 1, 1), low), torch.full((4, 1, 1, 1), width))
    noisy, clean = add_ct_noise(values, windows, ranges, torch.Generator().manual_seed(2))
    assert torch.allclose(clean, torch.tensor(0.02))
    assert torch.equal(noisy[:, 0], noisy[:, 2])
    # 20 HU: just under a half of 2 ± 20 is cut to the window's end.
    assert 0.4 < (noisy == 0).float().mean() < 0.5
    assert noisy.amin() == 0
    torch.testing.assert_close(noisy * 100, (noisy * 100).round(), atol=1e-4, rtol=0)
    assert (noisy[noisy > 0.02] - 0.02).square().mean().sqrt() == pytest.approx(0.2, rel=0.05)


def test_windows_are_those_of_radiology_a_little_moved_and_any_others():
    windows = draw_windows(2000, torch.Generator().manual_seed(3))
    width, centre = windows.width.flatten().numpy(), (windows.low + windows.width / 2).flatten().numpy()
    near = np.zeros(2000, bool)
    for middle, wide in PRESETS.values():
        near_this = (
            (abs(centre - middle) <= 0.2 * wide + 0.01) & (width >= 0.69 * wide) & (width <= 1.51 * wide)
        )
        assert near_this.mean() > 0.1
        near |= near_this
    assert 0.78 < near.mean() < 0.95
    assert width.min() > 50
    assert centre.min() < -850


def test_crops_show_the_body_and_are_scaled_down():
    values = np.full((96, 96, 1), -1000, np.int16)
    values[56:, 56:] = np.arange(40, dtype=np.int16)[None, :, None]
    bank = PixelBank([values], CPU)
    generator = torch.Generator().manual_seed(4)
    noisy, clean = noisy_slices(bank, 64, 16, 0.8, FAINT, generator)
    assert noisy.shape == clean.shape == (64, 3, 16, 16)
    assert torch.all((noisy >= 0) & (noisy <= 1))
    # At random, one crop of 20 pixels in three would touch the body; the best of eight places nearly always.
    shows = clean.amax(dim=(1, 2, 3)) > clean.amin(dim=(1, 2, 3))
    assert shows.float().mean() > 0.6


def test_the_seed_decides_on_crops():
    rng = np.random.default_rng(5)
    bank = PixelBank([rng.integers(-100, 100, (64, 80, 1)).astype(np.int16)] * 2, CPU)

    def crops(seed: int) -> torch.Tensor:
        return noisy_slices(bank, 3, 32, 0.6, CtNoiseRanges(), torch.Generator().manual_seed(seed))[0]

    assert torch.equal(crops(1), crops(1))
    assert not torch.equal(crops(1), crops(2))


def test_training_without_ct_does_not_load_pydicom(photo_folder):
    code = (
        "import sys, pathlib, torch\n"
        "from pipcli.training.data import load_photographs\n"
        "import pipcli.training.loop\n"
        f"load_photographs(pathlib.Path({str(photo_folder)!r}), torch.device('cpu'))\n"
        "assert 'pydicom' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
