"""A small folder of training photographs, and a recipe for a model that trains on it in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HELD_OUT_STEMS = ("53", "720")
TRAINING_STEMS = ("2", "5", "60", "100")
FRAMES = 36

TINY: dict[str, Any] = {
    "architecture": "unet",
    "model": {"widths": [8, 12], "blocks": [1, 1], "prompts": [{"channels": 16, "size": 8}]},
    "stages": [
        {"until": 1.0, "crop": 32, "batch": {"noise": 2, "rain": 1, "haze": 1, "blur": 1, "lowlight": 1}}
    ],
    "optimiser": {"warmup": 2},
}
"""Without a length: give minutes or steps."""


def texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Smooth blobs with a little grain, H×W×3 uint8."""
    cells = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC))
    grain = rng.integers(-15, 16, smooth.shape)
    return (smooth + grain).clip(0, 255).astype(np.uint8)


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, compress_level=1)


def write_photographs(folder: Path) -> None:
    """40 photos of several sizes, 6 low-light pairs (two of them held out), and a scene that pans."""
    rng = np.random.default_rng(0)
    for number in range(40):
        write(folder / f"photos/{number:03}.png", texture(rng, 56 + number % 3, 64))
    for stem in HELD_OUT_STEMS + TRAINING_STEMS:
        high = texture(rng, 56, 64)
        write(folder / f"lol/high/{stem}.png", high)
        write(folder / f"lol/low/{stem}.png", high // 6)
    panorama = texture(rng, 56, 64 + 2 * FRAMES)
    for number in range(FRAMES):
        write(folder / f"frames/pan/{number:03}.png", panorama[:, 2 * number : 2 * number + 64])


def toml(value: Any) -> str:
    """A TOML value; tables are written inline."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    return f'"{value}"' if isinstance(value, str) else repr(value)


def write_recipe(path: Path, values: dict[str, Any]) -> Path:
    """A recipe file with these entries."""
    path.write_text("".join(f"{key} = {toml(value)}\n" for key, value in values.items()), encoding="utf-8")
    return path
