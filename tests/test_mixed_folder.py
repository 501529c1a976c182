"""A folder of every kind of file, some of them broken: the broken ones named, the rest as computed apart."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import scans
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageCms, ImageOps
from pydicom import dcmread
from standins import contents, words, write_weights

from pipcli.cli import main
from pipcli.models.checkpoint import load_weights

PHOTOS = Path(__file__).parents[2] / "shared" / "data" / "train" / "photos"
HEIGHT, WIDTH = 80, 112
COUNT = 300
STRENGTH = 0.1
"""Little of what the stand-in makes: its wild colours would not survive subsampled chroma."""

Pixels = NDArray[np.float64]


def save(path: Path, picture: PillowImage.Image, **options: object) -> None:
    picture.save(path, **options)


def exif(orientation: int) -> PillowImage.Exif:
    made = PillowImage.Exif()
    made[0x0112] = orientation
    return made


def deep(picture: PillowImage.Image) -> NDArray[np.uint16]:
    return np.asarray(picture).astype(np.uint16) * 257


def with_alpha(picture: PillowImage.Image) -> PillowImage.Image:
    made = picture.copy()
    made.putalpha(PillowImage.linear_gradient("L").resize(picture.size).point(lambda value: max(value, 1)))
    return made


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
KINDS: dict[str, Callable[[Path, PillowImage.Image], object]] = {
    "rgb.png": save,
    "grey.png": lambda path, picture: save(path, picture.convert("L")),
    "palette.png": lambda path, picture: save(path, picture.quantize(64)),
    "alpha.png": lambda path, picture: save(path, with_alpha(picture)),
    "profile.png": lambda path, picture: save(path, picture, icc_profile=SRGB),
    "deep.png": lambda path, picture: path.write_bytes(imagecodecs.png_encode(deep(picture))),
    "rgb.jpg": lambda path, picture: save(path, picture, quality=95, subsampling=0),
    "small.jpeg": lambda path, picture: save(path, picture, quality=90, progressive=True),
    "grey.jpg": lambda path, picture: save(path, picture.convert("L"), quality=95),
    "turned.jpg": lambda path, picture: save(path, picture, quality=95, subsampling=0, exif=exif(6)),
    "lzw.tif": lambda path, picture: save(path, picture, compression="tiff_lzw"),
    "deep.tif": lambda path, picture: tifffile.imwrite(path, deep(picture), photometric="rgb"),
    "float.tiff": lambda path, picture: tifffile.imwrite(
        path, np.asarray(picture).astype(np.float32) / 255, photometric="rgb", compression="zlib"
    ),
    "pages.tif": lambda path, picture: tifffile.imwrite(
        path, np.stack([np.asarray(picture), np.asarray(ImageOps.mirror(picture))]), photometric="rgb"
    ),
    "lossless.webp": lambda path, picture: save(path, picture, lossless=True),
    "lossy.webp": lambda path, picture: save(path, picture, quality=95),
    "rgb.bmp": save,
    "rgb.avif": lambda path, picture: path.write_bytes(
        imagecodecs.avif_encode(np.asarray(picture), level=95)
    ),
    "rgb.jp2": lambda path, picture: path.write_bytes(
        imagecodecs.jpeg2k_encode(np.asarray(picture), level=0, reversible=True)
    ),
    "rgb.jxl": lambda path, picture: path.write_bytes(
        imagecodecs.jpegxl_encode(np.asarray(picture), lossless=True)
    ),
}
LOSSY = {"rgb.jpg", "small.jpeg", "grey.jpg", "turned.jpg", "lossy.webp", "rgb.avif"}


def pages(path: Path) -> list[Pixels]:
    """The colours of each page, upright, H×W×3 in [0, 1], read without this program."""
    data = path.read_bytes()
    if path.suffix.startswith(".tif"):
        stored = tifffile.imread(path)
        stack = stored if stored.ndim == 4 else stored[None]
    elif path.name.endswith("deep.png"):
        stack = imagecodecs.png_decode(data)[None]
    elif path.suffix in (".avif", ".jp2", ".jxl"):
        decode = {".avif": "avif_decode", ".jp2": "jpeg2k_decode", ".jxl": "jpegxl_decode"}[path.suffix]
        stack = getattr(imagecodecs, decode)(data)[None]
    else:
        picture = ImageOps.exif_transpose(PillowImage.open(io.BytesIO(data)))
        stack = np.asarray(picture.convert("RGB"))[None]
    peak = 1.0 if stack.dtype == np.float32 else np.iinfo(stack.dtype).max
    return [page[..., :3].astype(np.float64) / peak for page in stack]


def broken(folder: Path, whole: dict[str, bytes]) -> set[str]:
    """Twenty files that cannot be restored, and their names."""
    made = {f"cut-{name}": data[: len(data) // 2] for name, data in list(whole.items())[:14]}
    made |= {
        "empty.png": b"",
        "text.jpg": b"I am a text, and a long one at that. " * 9,
        "page.webp": b"<!doctype html><title>not found</title>",
        "header.png": whole["rgb.png"][:33],
        "huge.bmp": whole["rgb.bmp"][:18] + (2**31 - 1).to_bytes(4, "little") * 2 + whole["rgb.bmp"][26:],
    }
    for name, data in made.items():
        (folder / name).write_bytes(data)
    os.mkfifo(folder / "pipe.png")
    return {*made, "pipe.png"}


@pytest.mark.slow
@pytest.mark.skipif(not PHOTOS.is_dir(), reason="the photographs are not on this machine")
def test_three_hundred_files_of_all_kinds(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = Path("in")
    names = list(KINDS)
    photos = sorted(PHOTOS.glob("*.jpg"))
    for index in range(COUNT):
        photo = PillowImage.open(photos[index % len(photos)]).convert("RGB")
        kind = names[index % len(names)]
        path = source / f"folder {index % 7}" / f"{index}-{kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        KINDS[kind](path, photo.crop((40, 40, 40 + WIDTH, 40 + HEIGHT)))
        photo.close()
    for index in range(1, 4):
        scans.save(source / "ct" / f"{index}.dcm", scans.scan(instance=index))
    whole = {kind: (source / f"folder {i % 7}" / f"{i}-{kind}").read_bytes() for i, kind in enumerate(names)}
    bad = broken(source / "folder 0", whole)
    assert len(bad) == 20

    weights = write_weights(tmp_path / "tiny.safetensors")
    command = words(weights, source, "out", "--strength", str(STRENGTH), "--json")
    assert main(command) == 3
    out, err = capsys.readouterr()
    entries = [json.loads(line) for line in out.splitlines()]
    failed = {Path(entry["input"]).name for entry in entries if entry["error"]}
    assert failed == bad
    for name in bad:
        assert sum(line.startswith(f"pipcli: error: in/folder 0/{name}: ") for line in err.splitlines()) == 1
    assert f"{COUNT + 3} restored, 20 failed, 0 left alone" in err

    restored = contents(Path("out"))
    good = {str(path.relative_to(source)) for path in source.rglob("*.*") if path.name not in bad}
    assert restored.keys() == good
    model = load_weights(weights)
    for name in sorted(good):
        if name.startswith("ct/"):
            before, after = dcmread(source / name), dcmread(Path("out") / name)
            assert before.pixel_array.shape == after.pixel_array.shape
            continue
        compare(name, pages(source / name), pages(Path("out") / name), model)


def compare(name: str, before: list[Pixels], after: list[Pixels], model: torch.nn.Module) -> None:
    assert len(before) == len(after)
    omega = torch.tensor([[1.0, 0, 0, 0, 0]])
    for x, y in zip(before, after, strict=True):
        with torch.no_grad():
            made = model(torch.from_numpy(x).float().permute(2, 0, 1)[None], omega)
        restored = made[0].permute(1, 2, 0).clamp(0, 1).numpy().astype(np.float64)
        expected = x + STRENGTH * (restored - x)
        if "grey" in name:
            expected = np.repeat(expected.mean(axis=2, keepdims=True), 3, axis=2)
        assert x.shape == y.shape, name
        if any(name.endswith(f"-{kind}") for kind in LOSSY):
            assert -10 * np.log10(np.square(y - expected).mean()) > 27, name
        else:
            assert np.abs(y - expected).max() <= 1.01 / 255, name
