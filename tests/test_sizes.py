"""The size of a picture from its header alone."""

from __future__ import annotations

import os

import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage

from pipcli.images import Image, write_image
from pipcli.images.sizes import size_of


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".bmp", ".avif", ".jp2"])
def test_every_format_tells(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_image(Image(np.zeros((11, 17, 3), np.uint8)), path)
    assert size_of(path) == (1, 11, 17)


def test_the_header_is_enough(tmp_path):
    path = tmp_path / "a.png"
    PillowImage.new("RGB", (30_000, 20)).save(path)
    path.write_bytes(path.read_bytes()[:100])
    assert size_of(path) == (1, 20, 30_000)


def test_pages_count(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3, 11, 17, 3), np.uint8), photometric="rgb")
    assert size_of(tmp_path / "a.tif") == (3, 11, 17)


def test_what_is_no_picture_has_no_size(tmp_path):
    (tmp_path / "text.png").write_text("I am a text")
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("text.png", "none.png", "pipe.png", "."):
        assert size_of(tmp_path / name) is None
