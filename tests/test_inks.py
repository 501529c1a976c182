"""Inks against Pillow's conversion, which is LittleCMS too, and against a plain formula."""

import io

import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageCms
from profiles import grey_ink_profile

from pipcli.errors import ImageError
from pipcli.images.inks import srgb_of_inks

INKS = np.random.default_rng(0).integers(0, 256, (30, 20, 4), dtype=np.uint8)


def test_without_profile_each_ink_is_a_filter():
    expected = np.asarray(PillowImage.fromarray(INKS, "CMYK").convert("RGB")).astype(int)
    np.testing.assert_allclose(srgb_of_inks(INKS, None), expected, atol=1)
    wide = srgb_of_inks(INKS.astype(np.uint16) * 257, None)
    share = INKS / 255
    np.testing.assert_allclose(wide / 65535, (1 - share[:, :, :3]) * (1 - share[:, :, 3:]), atol=1e-5)


def test_a_profile_is_gone_through():
    source = ImageCms.ImageCmsProfile(io.BytesIO(grey_ink_profile()))
    expected = ImageCms.profileToProfile(
        PillowImage.fromarray(INKS, "CMYK"), source, ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    found = srgb_of_inks(INKS, grey_ink_profile())
    np.testing.assert_allclose(found.astype(int), np.asarray(expected).astype(int), atol=1)
    wide = srgb_of_inks(INKS.astype(np.uint16) * 257, grey_ink_profile())
    np.testing.assert_allclose(wide / 257, found, atol=1)


@pytest.mark.parametrize("profile", [b"none", grey_ink_profile()[:200]])
def test_a_damaged_profile_is_refused(profile):
    with pytest.raises(ImageError, match="CMYK colours with a damaged profile"):
        srgb_of_inks(INKS, profile)
