"""Damaged files of every format, the same ones at every call."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import scans
import tifffile
from PIL import Image as PillowImage

from pipcli.images import Image, Metadata, encode_image
from pipcli.images.colour import SRGB_PRIMARIES, profile_of

HEIGHT, WIDTH = 24, 36


def originals(folder: Path) -> dict[str, bytes]:
    """Name → a small whole file of each format and of the kinds within it."""
    numbers = np.random.default_rng(3)
    rgb = numbers.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    deep = numbers.integers(0, 65536, (HEIGHT, WIDTH, 3), dtype=np.uint16)
    picture = PillowImage.fromarray(rgb)
    exif = PillowImage.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    made = {
        "rgb.png": _saved(picture, "PNG", exif=exif, dpi=(72, 72)),
        "palette.png": _saved(picture.quantize(16), "PNG"),
        "grey.png": _saved(picture.convert("L"), "PNG"),
        "alpha.png": _saved(picture.convert("RGBA"), "PNG"),
        "deep.png": imagecodecs.png_encode(deep),
        "rgb.jpg": _saved(picture, "JPEG", exif=exif, quality=90),
        "grey.jpg": _saved(picture.convert("L"), "JPEG"),
        "cmyk.jpg": _saved(picture.convert("CMYK"), "JPEG"),
        "progressive.jpg": _saved(picture, "JPEG", progressive=True),
        "preview.jpg": _saved(picture, "MPO", save_all=True, append_images=[picture.resize((18, 12))]),
        "plain.tif": _tiff(rgb),
        "deep.tif": _tiff(deep, compression="lzw", predictor=True),
        "float.tif": _tiff(rgb.astype(np.float32) / 255, compression="zlib"),
        "half.tif": _tiff(rgb.astype(np.float16) / 255, compression="zlib"),
        "cmyk.tif": _saved(picture.convert("CMYK"), "TIFF", compression="tiff_lzw"),
        "tiles.tif": _tiff(rgb, tile=(16, 16), compression="jpeg"),
        "pages.tif": _tiff(np.stack([rgb, rgb]), compression="zstd"),
        "rgb.webp": _saved(picture, "WEBP", quality=80, exif=exif),
        "alpha.webp": _saved(picture.convert("RGBA"), "WEBP", lossless=True),
        "rgb.bmp": _saved(picture, "BMP"),
        "palette.bmp": _saved(picture.quantize(16), "BMP"),
        "profile.bmp": encode_image(
            Image(rgb, metadata=Metadata(icc=profile_of(SRGB_PRIMARIES, 1.0))), "BMP"
        ),
        "rgb.avif": imagecodecs.avif_encode(rgb),
        "rgb.jp2": imagecodecs.jpeg2k_encode(rgb, level=0),
        "rgb.jxl": imagecodecs.jpegxl_encode(rgb),
        "slice.dcm": scans.save(folder / "slice.dcm", scans.scan()).read_bytes(),
    }
    (folder / "slice.dcm").unlink()
    return made


def _saved(picture: PillowImage.Image, format_: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format_, **options)
    return buffer.getvalue()


def _tiff(pixels: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, photometric="rgb", **options)
    return buffer.getvalue()


def _place(chance: random.Random, data: bytearray) -> int:
    """Anywhere, but rather where headers are."""
    return chance.randrange(min(len(data), 200) if chance.random() < 0.5 else len(data))


def cut(chance: random.Random, data: bytearray) -> None:
    del data[_place(chance, data) :]


def flip(chance: random.Random, data: bytearray) -> None:
    for _ in range(chance.choice((1, 1, 4, 32))):
        data[_place(chance, data)] ^= 1 << chance.randrange(8)


def extreme(chance: random.Random, data: bytearray) -> None:
    place, size = _place(chance, data), chance.choice((1, 2, 4, 8))
    value = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
    data[place : place + size] = bytes([value]) * size


def lose(chance: random.Random, data: bytearray) -> None:
    place = _place(chance, data)
    del data[place : place + chance.randint(1, 64)]


def repeat(chance: random.Random, data: bytearray) -> None:
    place = _place(chance, data)
    data[place:place] = data[place : place + chance.randint(1, 64)] * chance.choice((1, 2, 100))


def insert(chance: random.Random, data: bytearray) -> None:
    place = _place(chance, data)
    data[place:place] = chance.randbytes(chance.randint(1, 64))


def blank(chance: random.Random, data: bytearray) -> None:
    place = _place(chance, data)
    size = min(chance.randint(1, 512), len(data) - place)
    data[place : place + size] = bytes(size)


MUTATIONS: tuple[Callable[[random.Random, bytearray], None], ...] = (
    cut,
    flip,
    extreme,
    lose,
    repeat,
    insert,
    blank,
)


def mutant(data: bytes, seed: str) -> bytes:
    """The file after one to three mutations, which the seed decides."""
    chance = random.Random(seed)
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 3))):
        if changed:
            chance.choice(MUTATIONS)(chance, changed)
    return bytes(changed)
