"""The trained models on large images: tiled as whole, within memory, with the statistics that restore best.

Scenes are made of training photographs, which nothing is tuned on here. The figures in the README come from

    pytest -m slow -s tests/test_large_images.py
"""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw
from torch.nn import functional as F

from pipcli.degradations import Degradation, omega_vector
from pipcli.errors import ModelError
from pipcli.images import Image
from pipcli.inference.device import Precision, choose_precision
from pipcli.inference.engine import Restorer
from pipcli.inference.tiling import RAMP, Tiling
from pipcli.metrics import psnr
from pipcli.models import zoo
from pipcli.synthesis import SynthesisRanges, degrade
from pipcli.synthesis.noise import NoiseRanges

CPU = torch.device("cpu")
PHOTOS = Path(__file__).parent.parent.parent / "shared" / "data" / "train" / "photos"
MIB = 2**20

Pixels = NDArray[np.float32]


@pytest.fixture(scope="module", params=zoo.MODELS)
def model(request):
    try:
        return zoo.load_model(request.param)
    except ModelError as error:
        pytest.skip(f"no trained weights: {error}")


def photos(kind: str, height: int, width: int) -> list[Path]:
    """Photographs of at least this size."""
    found = []
    for path in sorted(PHOTOS.glob(f"{kind}_*.jpg")):
        with PillowImage.open(path) as photo:
            if photo.width >= width and photo.height >= height:
                found.append(path)
    if not found:
        pytest.skip(f"no photographs in {PHOTOS}")
    return found


def cut(path: Path, height: int, width: int) -> Pixels:
    """The middle of a photograph, H×W×3 in [0, 1]."""
    with PillowImage.open(path) as photo:
        pixels = np.asarray(photo.convert("RGB"), np.float32) / 255
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return pixels[top : top + height, left : left + width]


def mosaic(kind: str, rows: int, columns: int, height: int, width: int) -> Pixels:
    """Photographs from all over the folder side by side."""
    paths = photos(kind, height, width)
    chosen = [paths[i * len(paths) // (rows * columns)] for i in range(rows * columns)]
    pieces = [cut(path, height, width) for path in chosen]
    return np.concatenate(
        [np.concatenate(pieces[row * columns : (row + 1) * columns], axis=1) for row in range(rows)]
    )


def enlarged(pixels: Pixels, height: int, width: int) -> Pixels:
    small = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]
    large = F.interpolate(small, size=(height, width), mode="bicubic", antialias=True).clamp(0, 1)
    return large[0].permute(1, 2, 0).numpy()


def one_photo(height: int, width: int) -> Pixels:
    """A photograph with fine detail, enlarged."""
    paths = photos("wall", 720, 1280)
    return enlarged(cut(paths[len(paths) // 2], 720, 1280), height, width)


SCENES = {
    "mosaic of wallpapers": lambda: mosaic("wall", 3, 4, 720, 960),
    "mosaic of BSD photos": lambda: mosaic("bsd", 7, 8, 321, 481),
    "one photo enlarged": lambda: one_photo(2160, 3840),
}
RANGES = SynthesisRanges(noise=NoiseRanges(sigma=(25, 25), poisson_chance=0, grey_chance=0))


def degraded(clean: Pixels, degradation: Degradation) -> Pixels:
    """The scene as a file of 8 bits would have it, degraded as in training; H×W×3 in [0, 1]."""
    generator = torch.Generator().manual_seed(11)
    x = torch.from_numpy(np.ascontiguousarray(clean)).permute(2, 0, 1)[None]
    y = degrade(x, degradation, RANGES, generator).clamp(0, 1)
    return ((y * 255).round() / 255)[0].permute(1, 2, 0).numpy().copy()


def steps(pixels: Pixels, axis: int) -> NDArray[np.float64]:
    """Mean difference of each line from the one before it."""
    return np.abs(np.diff(pixels, axis=axis)).mean(axis=(1 - axis, 2), dtype=np.float64)


def border_lines(tiling: Tiling, length: int) -> list[int]:
    """Where along an axis one tile begins to fade into the next, has done so by half, and has done so."""
    spans = tiling.spans(length)[1:]
    return [span.keep_start + offset for span in spans for offset in (0, RAMP // 2, RAMP)]


def draw_steps(path: Path, tiled: NDArray[np.float64], whole: NDArray[np.float64], lines: list[int]) -> None:
    """The steps along an axis: whole in grey, tiled over it in red, tile borders as ticks."""
    height, top = 300, float(max(tiled.max(), whole.max()))
    canvas = PillowImage.new("RGB", (len(tiled), height + 20), "white")
    draw = ImageDraw.Draw(canvas)
    for values, colour in ((whole, "grey"), (tiled, "red")):
        draw.line([(x, height - height * value / top) for x, value in enumerate(values)], fill=colour)
    for line in lines:
        draw.line([(line, height), (line, height + 20)], fill="blue")
    canvas.save(path)


def compare(model: torch.nn.Module, clean: Pixels, degradation: Degradation, tile: int, folder: Path) -> str:
    """Hold an image restored in tiles against the same restored whole; the figures in words."""
    height, width = clean.shape[:2]
    image = Image(degraded(clean, degradation))
    precision = choose_precision("auto", CPU)
    omega = omega_vector({degradation: 1.0}, model.degradations)
    whole = Restorer(model, CPU, precision, tile=8192).restore(image, omega).pixels
    restorer = Restorer(model, CPU, precision, tile=tile)
    tiled = restorer.restore(image, omega).pixels
    distance = np.abs(tiled - whole)
    agreement = -10 * math.log10(max(1e-12, float(np.mean(np.square(distance, dtype=np.float64)))))
    close = float(np.mean(distance.max(axis=2) <= 2 / 255))

    random = np.random.default_rng(1)
    worst = 0.0
    for axis, length in ((0, height), (1, width)):
        of_tiled, of_whole = steps(tiled, axis), steps(whole, axis)
        # Beside what the same line has in the whole image: a seam of the mosaic is no seam of tiles.
        relative = of_tiled / of_whole
        lines = border_lines(restorer.tiling, length)
        assert lines
        elsewhere = float(np.median(relative[random.integers(0, length - 1, 200)]))
        worst = max(worst, float(relative[np.array(lines) - 1].max()) / elsewhere)
        draw_steps(folder / f"steps-{'down' if axis == 0 else 'across'}.png", of_tiled, of_whole, lines)
    assert agreement >= 48
    assert close >= 0.999
    assert worst <= 1.5
    return f"{agreement:.1f} dB, {100 * close:.3f} % within 2/255, step at borders {worst:.3f} times"


@pytest.mark.parametrize("degradation", list(Degradation))
def test_a_tiled_image_is_the_whole_one(model, degradation, tmp_path):
    """A small one, in the smallest tiles."""
    smooth = np.random.default_rng(3).random((30, 26, 3)).astype(np.float32)
    compare(model, enlarged(smooth, 240, 208), degradation, 176, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("degradation", list(Degradation))
@pytest.mark.parametrize("scene", SCENES)
def test_eight_megapixels_tiled_are_the_whole_image(model, scene, degradation, tmp_path):
    clean = SCENES[scene]()
    assert clean.shape[0] * clean.shape[1] >= 8e6
    print(f"{scene}, {degradation}: {compare(model, clean, degradation, 512, tmp_path)} ({tmp_path})")


SIZES = {"0.2": (1, 1, 400, 480), "2": (2, 3, 640, 520), "12": (5, 5, 600, 800)}
"""Megapixels → rows, columns, height and width of the pieces of a mosaic."""
SIZES_AND_KINDS = [
    ("0.2", "mosaic"),
    ("0.2", "enlarged"),
    ("2", "mosaic"),
    ("2", "enlarged"),
    # Of the largest only the mosaic, whose parts differ most from the whole: here windows have most to win.
    ("12", "mosaic"),
]


def with_windows(model: torch.nn.Module, precision: Precision, side: int) -> Restorer:
    """A restorer whose every tile of so many pixels has prompts of its own."""
    restorer = Restorer(model, CPU, precision, tile=side)
    restorer._image_prompts = lambda image, omega, on_redo: None
    return restorer


@pytest.mark.slow
def test_which_statistics_restore_best(model):
    """PSNR against the clean image: prompts of the whole image, and of sliding windows.

    On one scene or another a window wins (an enlarged dark photo by 1.9 dB), and with pip-unet-lite on the
    average of a task too (haze, by 0.2 dB); over all tasks and scenes none does.
    """
    precision = choose_precision("auto", CPU)
    restorers = {"whole": Restorer(model, CPU, precision, tile=512)} | {
        f"windows of {side}": with_windows(model, precision, side) for side in (176, 512)
    }
    sums = dict.fromkeys(restorers, 0.0)
    for degradation, (size, kind) in itertools.product(Degradation, SIZES_AND_KINDS):
        omega = omega_vector({degradation: 1.0}, model.degradations)
        rows, columns, height, width = SIZES[size]
        if kind == "mosaic":
            clean = mosaic("wall", rows, columns, height, width)
        else:
            clean = one_photo(rows * height, columns * width)
        image = Image(degraded(clean, degradation))
        words = [f"input {psnr(clean, image.pixels, 1):.2f}"]
        for name, restorer in restorers.items():
            figure = psnr(clean, restorer.restore(image, omega).pixels, 1)
            sums[name] += figure
            words.append(f"{name} {figure:.2f}")
        print(f"{size} MP, {kind}, {degradation}: {', '.join(words)}")
    assert sums["whole"] == max(sums.values()), sums


RESTORE = """
import resource, sys
from pipcli.cli import main

code = main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
sys.exit(code)
"""


def peak_of(*arguments: str | Path) -> int:
    """Bytes that ``pipcli`` with these arguments held at most."""
    command = [sys.executable, "-c", RESTORE, *map(str, arguments), "--device", "cpu", "--quiet"]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def write_large(path: Path, height: int, width: int) -> None:
    """A PNG of noisy blobs."""
    random = np.random.default_rng(4)
    cells = random.integers(0, 256, (height // 50, width // 50, 3), dtype=np.uint8)
    smooth = np.asarray(PillowImage.fromarray(cells).resize((width, height), PillowImage.Resampling.BICUBIC))
    noise = random.integers(-20, 21, (height, width, 1), dtype=np.int16)
    pixels = np.clip(smooth + noise, 0, 255).astype(np.uint8)
    PillowImage.fromarray(pixels).save(path, compress_level=1)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux tells it")
def test_a_hundred_megapixels_stay_below_two_gibibytes_and_eight_bytes_a_pixel(tmp_path):
    write_large(tmp_path / "large.png", 10_000, 10_000)
    peak = peak_of("restore", tmp_path / "large.png", tmp_path / "restored.png", "--task", "denoise")
    limit = 2 * 2**30 + 8 * 10**8
    print(f"100 megapixels: at most {peak / MIB:.0f} MiB of {limit / MIB:.0f}")
    assert peak < limit
    assert os.path.getsize(tmp_path / "restored.png") > 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux tells it")
@pytest.mark.parametrize("limit", [800, 1200])
def test_a_limit_on_memory_is_kept(tmp_path, limit):
    write_large(tmp_path / "large.png", 1500, 1600)
    options = ["--task", "denoise", "--max-memory", f"{limit}M"]
    peak = peak_of("restore", tmp_path / "large.png", tmp_path / "restored.png", *options)
    print(f"2.4 megapixels with --max-memory {limit}M: at most {peak / MIB:.0f} MiB")
    assert peak < limit * MIB
