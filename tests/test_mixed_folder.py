"""A folder of every kind of file, some of them broken: the broken ones named, the rest as computed apart.

    pytest -m slow -s tests/test_mixed_folder.py

What the files hold before and after is read by Pillow, tifffile, imagecodecs and pydicom alone, and what they
should hold is made by the model alone, without anything of the engine.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageCms, ImageOps
from pydicom import Dataset, dcmread
from pydicom.misc import is_dicom
from standins import contents, words, write_weights

from pipcli.cli import main
from pipcli.models import zoo
from pipcli.models.checkpoint import load_weights

DATA = Path(__file__).parents[2] / "shared" / "data"
PHOTOS, SLICES = DATA / "train" / "photos", DATA / "ct" / "train"
HEIGHT, WIDTH = 80, 112
COUNT = 300

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


def noisy(picture: PillowImage.Image, sigma: float, seed: int) -> PillowImage.Image:
    pixels = np.asarray(picture) + np.random.default_rng(seed).normal(0, sigma, (HEIGHT, WIDTH, 3))
    return PillowImage.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


P3 = bytes(
    imagecodecs.cms_profile(
        "rgb",
        whitepoint=(0.3127, 0.3290, 1.0),
        primaries=(0.680, 0.320, 1.0, 0.265, 0.690, 1.0, 0.150, 0.060, 1.0),
        gamma=2.2,
    )
)
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
    "grey-deep.png": lambda path, picture: path.write_bytes(
        imagecodecs.png_encode(deep(picture.convert("L")))
    ),
    "grey-bits.png": lambda path, picture: save(path, picture.convert("1")),
    "wide.png": lambda path, picture: save(path, picture, icc_profile=P3, dpi=(300, 300)),
    "inks.jpg": lambda path, picture: save(path, picture.convert("CMYK"), quality=95, subsampling=0),
    "inks.tif": lambda path, picture: save(path, picture.convert("CMYK"), compression="tiff_adobe_deflate"),
    "half.tif": lambda path, picture: tifffile.imwrite(
        path, np.asarray(picture).astype(np.float16) / 255, photometric="rgb", compression="zlib"
    ),
    "big.tif": lambda path, picture: tifffile.imwrite(
        path, np.asarray(picture), photometric="rgb", compression="zstd", tile=(32, 32), bigtiff=True
    ),
}
LOSSY = {"rgb.jpg", "small.jpeg", "grey.jpg", "turned.jpg", "lossy.webp", "rgb.avif", "inks.jpg", "wide.png"}
"""Compared by PSNR; of the profile, since a model sees its pixels in wider primaries where it must."""


def pages(path: Path) -> list[Pixels]:
    """The colours of each page, upright, H×W×3 in [0, 1], read without this program."""
    data = path.read_bytes()
    if path.suffix.startswith(".tif") and "inks" not in path.name:
        stored = tifffile.imread(path)
        stack = stored if stored.ndim == 4 else stored[None]
    elif path.name.endswith("deep.png"):
        stored = imagecodecs.png_decode(data)
        stack = (stored if stored.ndim == 3 else np.repeat(stored[:, :, None], 3, axis=2))[None]
    elif path.suffix in (".avif", ".jp2", ".jxl"):
        decode = {".avif": "avif_decode", ".jp2": "jpeg2k_decode", ".jxl": "jpegxl_decode"}[path.suffix]
        stack = getattr(imagecodecs, decode)(data)[None]
    else:
        picture = ImageOps.exif_transpose(PillowImage.open(io.BytesIO(data)))
        if picture.info.get("icc_profile") == P3:
            picture = ImageCms.profileToProfile(
                picture,
                ImageCms.ImageCmsProfile(io.BytesIO(P3)),
                ImageCms.createProfile("sRGB"),
                renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            )
        stack = np.asarray(picture.convert("RGB"))[None]
    peak = 1.0 if stack.dtype.kind == "f" else np.iinfo(stack.dtype).max
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


@dataclass(frozen=True)
class Setting:
    """A model by which the folder is restored.

    Attributes:
        sigma: of the noise in its photographs.
        strength: little of what the stand-in makes: its wild colours would not survive subsampled chroma.
    """

    shipped: bool
    sigma: float
    strength: float

    def weights(self, folder: Path) -> Path:
        return (
            zoo.locate(zoo.DEFAULT_MODEL).path if self.shipped else write_weights(folder / "tiny.safetensors")
        )


SETTINGS = {"stand-in": Setting(False, 0, 0.1), "pip-unet": Setting(True, 25, 1)}


@pytest.mark.slow
@pytest.mark.skipif(not SLICES.is_dir(), reason="the photographs and slices are not on this machine")
@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_three_hundred_files_of_all_kinds(tmp_path, capsys, monkeypatch, setting):
    weights = setting.weights(tmp_path)
    if not weights.is_file():
        pytest.skip("no trained weights")
    monkeypatch.chdir(tmp_path)
    source = Path("in")
    names = list(KINDS)
    photos = sorted(PHOTOS.glob("*.jpg"))
    clean = {}
    for index in range(COUNT):
        photo = PillowImage.open(photos[index % len(photos)]).convert("RGB")
        kind = names[index % len(names)]
        path = source / f"folder {index % 7}" / f"{index}-{kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = photo.crop((40, 40, 40 + WIDTH, 40 + HEIGHT))
        clean[path.name] = np.asarray(picture) / 255
        KINDS[kind](path, noisy(picture, setting.sigma, index))
        photo.close()
    slices = [path for path in sorted(SLICES.rglob("*")) if path.is_file() and is_dicom(path)][:3]
    for index, path in enumerate(slices):
        (source / "ct").mkdir(exist_ok=True)
        shutil.copyfile(path, source / "ct" / f"{index}.dcm")
    whole = {kind: (source / f"folder {i % 7}" / f"{i}-{kind}").read_bytes() for i, kind in enumerate(names)}
    bad = broken(source / "folder 0", whole)
    assert len(bad) == 20

    command = words(weights, source, "out", "--strength", str(setting.strength), "--json")
    assert main(command) == 3
    out, err = capsys.readouterr()
    entries = [json.loads(line) for line in out.splitlines()]
    failed = {Path(entry["input"]).name for entry in entries if entry["error"]}
    assert failed == bad
    for name in bad:
        assert sum(line.startswith(f"pipcli: error: in/folder 0/{name}: ") for line in err.splitlines()) == 1
    (account,) = (line for line in err.splitlines() if "restored, " in line)
    assert f"{COUNT + len(slices)} restored, 20 failed, 0 left alone" in account

    restored = contents(Path("out"))
    good = {str(path.relative_to(source)) for path in source.rglob("*.*") if path.name not in bad}
    assert restored.keys() == good
    model = load_weights(weights).eval()
    gains = []
    for name in sorted(good):
        path = Path(name)
        if name.startswith("ct/"):
            compare_slices(dcmread(source / name), dcmread(Path("out") / name))
            continue
        before, after = pages(source / name), pages(Path("out") / name)
        compare(name, before, after, model, setting.strength)
        if setting.shipped and path.name.endswith("-rgb.png"):
            gains.append(psnr(after[0], clean[path.name]) - psnr(before[0], clean[path.name]))
        if path.name.endswith("-wide.png"):
            with PillowImage.open(Path("out") / name) as picture:
                assert picture.info["icc_profile"] == P3
                assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.02)
    told = account.removeprefix("pipcli: ")
    if setting.shipped:
        assert min(gains) > 3
        told += f"; noise of σ {setting.sigma} in 8-bit RGB: {np.mean(gains):+.2f} dB"
    with capsys.disabled():
        print(f"\n{told}")


def psnr(a: Pixels, b: Pixels) -> float:
    return float(-10 * np.log10(np.square(a - b).mean()))


def compare(
    name: str, before: list[Pixels], after: list[Pixels], model: torch.nn.Module, strength: float
) -> None:
    assert len(before) == len(after)
    omega = torch.tensor([[1.0, 0, 0, 0, 0]])
    for x, y in zip(before, after, strict=True):
        with torch.no_grad():
            made = model(torch.from_numpy(x).float().permute(2, 0, 1)[None], omega)
        restored = made[0].permute(1, 2, 0).clamp(0, 1).numpy().astype(np.float64)
        expected = x + strength * (restored - x)
        if "grey" in name:
            expected = np.repeat(expected.mean(axis=2, keepdims=True), 3, axis=2)
        assert x.shape == y.shape, name
        if any(name.endswith(f"-{kind}") for kind in LOSSY):
            assert psnr(y, expected) > 27, name
        else:
            assert np.abs(y - expected).max() <= 1.01 / 255, name


def compare_slices(before: Dataset, after: Dataset) -> None:
    """Another series of the same patient, place and size, in HU near the old ones."""
    for keyword in (
        "PatientID",
        "StudyInstanceUID",
        "ImagePositionPatient",
        "PixelSpacing",
        "Rows",
        "Columns",
    ):
        assert before.get(keyword) == after.get(keyword)
    assert before.SeriesInstanceUID != after.SeriesInstanceUID
    hounsfield = [
        each.pixel_array.astype(float) * float(each.RescaleSlope) + float(each.RescaleIntercept)
        for each in (before, after)
    ]
    assert abs(np.mean(hounsfield[1] - hounsfield[0])) < 2
    # The slices have little noise as they are, and a good model changes little of them.
    assert (hounsfield[0] != hounsfield[1]).mean() > 0.005
