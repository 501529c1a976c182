"""Colour spaces against LittleCMS, and images of other spaces through a model and back."""

import colorsys
import io
import struct

import imagecodecs
import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageCms

from pipcli.errors import ImageError
from pipcli.images import Image, Metadata
from pipcli.images.colour import MatrixColours, TableColours, colours_of, problem_of, profile_of

D65 = (0.3127, 0.3290, 1.0)
D50 = (0.3457, 0.3585, 1.0)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
STEPS = np.linspace(0, 1, 4096)
SRGB_STEPS = np.where(STEPS <= 0.04045, STEPS / 12.92, ((STEPS + 0.055) / 1.055) ** 2.4).astype(np.float32)


def profile(primaries: tuple[float, ...], white: tuple[float, ...], **curve: object) -> bytes:
    points = [number for i in range(0, 6, 2) for number in (*primaries[i : i + 2], 1.0)]
    return bytes(imagecodecs.cms_profile("rgb", whitepoint=white, primaries=points, **curve))


def parametric(icc: bytes, kind: int, *numbers: float) -> bytes:
    """The profile with the curve that its three channels share replaced by a parametric one at its end."""
    curve = b"para\0\0\0\0" + struct.pack(
        f">HH{len(numbers)}i", kind, 0, *(round(n * 65536) for n in numbers)
    )
    out = bytearray(icc)
    for place in range(132, 132 + 12 * int.from_bytes(icc[128:132], "big"), 12):
        if icc[place : place + 4] in (b"rTRC", b"gTRC", b"bTRC"):
            struct.pack_into(">II", out, place + 4, len(icc), len(curve))
    out += curve + bytes(-len(curve) % 4)
    struct.pack_into(">I", out, 0, len(out))
    return bytes(out)


P3_PRIMARIES = (0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
GAMMA_P3 = profile(P3_PRIMARIES, D65, gamma=2.2)
PROFILES = {
    "Display P3": parametric(GAMMA_P3, 3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045),
    "Display P3 by samples": profile(P3_PRIMARIES, D65, transferfunction=SRGB_STEPS),
    "Adobe RGB": bytes(imagecodecs.cms_profile("adobergb")),
    "ProPhoto": profile((0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001), D50, gamma=1.8),
    "linear Rec. 2020": profile((0.708, 0.292, 0.170, 0.797, 0.131, 0.046), D65, gamma=1.0),
    "kind 1": parametric(GAMMA_P3, 1, 2.0, 0.9, 0.1),
    "kind 2": parametric(GAMMA_P3, 2, 2.0, 0.9, 0.05, 0.01),
    "kind 4": parametric(GAMMA_P3, 4, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045, 0.0, 0.0),
}


def reversed_tables() -> bytes:
    """A profile made of tables alone: LittleCMS links sRGB to it as a device with swapped channels."""
    grid = 9
    steps = np.linspace(0, 1, grid)
    red, green, blue = np.meshgrid(steps, steps, steps, indexing="ij")
    colours = np.stack([blue, green, red], axis=-1).reshape(1, -1, 3).astype(np.float32)
    lab_profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    lab = imagecodecs.cms_transform(
        colours, SRGB, lab_profile, colorspace="rgb", outcolorspace="lab", outdtype="float32"
    ).reshape(-1, 3)
    numbers = np.stack([lab[:, 0] / 100 * 0xFF00, *((lab[:, i] + 128) * 256 for i in (1, 2))], axis=1)
    table = np.clip(np.rint(numbers), 0, 65535).astype(">u2").tobytes()
    a2b = lut16(grid, table)
    # The way back: any colour to its mirror image, coarse but rising; only that it exists matters here.
    lightness, a, b = np.meshgrid(steps, steps, steps, indexing="ij")
    back_lab = np.stack([lightness * 100, a * 255 - 128, b * 255 - 128], axis=-1).reshape(1, -1, 3)
    back = imagecodecs.cms_transform(
        back_lab.astype(np.float32), lab_profile, SRGB, colorspace="lab", outcolorspace="rgb",
        outdtype="float32",
    ).reshape(-1, 3)  # fmt: skip
    back_table = np.clip(np.rint(back[:, ::-1] * 65535), 0, 65535).astype(">u2").tobytes()
    tags = {b"A2B0": a2b, b"B2A0": lut16(grid, back_table), b"wtpt": b"XYZ \0\0\0\0" + white()}
    start = 132 + 12 * len(tags)
    directory, body = struct.pack(">I", len(tags)), b""
    for name, tag in tags.items():
        directory += struct.pack(">4sII", name, start + len(body), len(tag))
        body += tag + bytes(-len(tag) % 4)
    header = bytearray(128)
    struct.pack_into(
        ">I4sI4s4s4s", header, 0, start + len(body), b"test", 0x02400000, b"mntr", b"RGB ", b"Lab "
    )
    header[36:40] = b"acsp"
    header[68:80] = white()
    return bytes(header) + directory + body


def lut16(grid: int, table: bytes) -> bytes:
    identity = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    curve = struct.pack(">2H", 0, 65535)
    return (
        b"mft2\0\0\0\0"
        + bytes([3, 3, grid, 0])
        + identity
        + struct.pack(">HH", 2, 2)
        + 3 * curve
        + (table + 3 * curve)
    )


def white() -> bytes:
    return struct.pack(">3i", round(0.9642 * 65536), 65536, round(0.8249 * 65536))


def grey_profile(gamma: float) -> bytes:
    return bytes(imagecodecs.cms_profile("gray", whitepoint=D50, gamma=gamma))


def every_colour(dtype: type, size: int = 24) -> np.ndarray:
    """A cube of colours, laid out as an image; its corners lie far outside sRGB."""
    steps = np.rint(np.linspace(0, np.iinfo(dtype).max, size)).astype(dtype)
    cube = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1)
    return cube.reshape(size * 8, -1, 3)


@pytest.mark.parametrize("name", PROFILES)
def test_colours_are_those_of_littlecms(name):
    colours = colours_of(PROFILES[name], 3)
    assert isinstance(colours, MatrixColours)
    values = np.random.default_rng(3).random((1, 5000, 3), dtype=np.float32)
    expected = imagecodecs.cms_transform(
        values, PROFILES[name], SRGB, colorspace="rgb", outcolorspace="rgb", outdtype="float32",
        intent=imagecodecs.CMS.INTENT.RELATIVE_COLORIMETRIC,
    ).reshape(values.shape)  # fmt: skip
    found = colours.to_srgb(values)
    inside = (expected > 0).all(axis=2)
    assert inside.mean() > 0.05
    # Near black the curve of sRGB makes the last bits of LittleCMS's own colorants visible.
    np.testing.assert_allclose(found[inside], expected[inside], atol=3e-3)
    assert np.abs(found[inside] - expected[inside]).mean() < 2e-4
    assert (found.min(axis=2) < 0)[expected.min(axis=2) < -0.1].all()
    np.testing.assert_allclose(colours.from_srgb(found), values, atol=1e-3)  # float32, next to black


def test_grey_profiles_have_their_curve():
    colours = colours_of(grey_profile(1.0), 1)
    assert colours is not None
    values = np.linspace(0, 1, 50, dtype=np.float32).reshape(1, 50, 1)
    expected = np.where(values < 0.0031308, values * 12.92, 1.055 * values ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(colours.to_srgb(values), expected, atol=1e-5)
    np.testing.assert_allclose(colours.from_srgb(colours.to_srgb(values)), values, atol=1e-6)


def test_profiles_of_tables_go_through_littlecms():
    icc = reversed_tables()
    assert problem_of(icc, 3) is None
    colours = colours_of(icc, 3)
    assert isinstance(colours, TableColours)
    values = np.array([[[0.2, 0.5, 0.8], [0.6, 0.4, 0.5]]], np.float32)
    np.testing.assert_allclose(colours.to_srgb(values), values[..., ::-1], atol=0.02)


def test_profiles_made_here_do_not_depend_on_the_time(monkeypatch):
    first = profile_of(P3_PRIMARIES + D65[:2], None)
    real = imagecodecs.cms_profile

    def later(*arguments, **options):
        icc = bytearray(real(*arguments, **options))
        icc[24:36] = struct.pack(">6H", 2031, 2, 3, 4, 5, 6)
        return bytes(icc)

    monkeypatch.setattr(imagecodecs, "cms_profile", later)
    profile_of.cache_clear()
    assert profile_of(P3_PRIMARIES + D65[:2], None) == first
    assert ImageCms.getProfileName(ImageCms.ImageCmsProfile(io.BytesIO(first)))


@pytest.mark.parametrize("icc", [SRGB, bytes(imagecodecs.cms_profile("srgb"))])
def test_srgb_needs_no_conversion(icc):
    assert colours_of(icc, 3) is None
    assert problem_of(icc, 3) is None


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG"), (13, None)])
def test_a_profile_of_high_dynamic_range_is_refused(transfer, name):
    place = GAMMA_P3.index(b"cprt")
    entry = struct.pack(">4sII", b"cicp", len(GAMMA_P3), 12)
    coded = b"cicp" + bytes(4) + bytes([12, transfer, 0, 1])
    icc = GAMMA_P3[:place] + entry + GAMMA_P3[place + 12 :] + coded
    if name is None:
        assert problem_of(icc, 3) is None
    else:
        with pytest.raises(ImageError, match=rf"^is of high dynamic range \({name}\)"):
            problem_of(icc, 3)


@pytest.mark.parametrize(
    ("icc", "channels", "problem"),
    [
        (b"a profile", 3, "it is no ICC profile"),
        (grey_profile(2.2), 3, "it is a profile of GRAY colours"),
        (SRGB[:16] + b"CMYK" + SRGB[20:], 3, "it is a profile of CMYK colours"),
        (GAMMA_P3[:300], 3, "it is damaged"),
        (parametric(GAMMA_P3, 9, 1.0), 3, "its curves are of an unknown kind"),
        (parametric(GAMMA_P3, 0, 0.0), 3, "its curves do not rise"),
        (parametric(GAMMA_P3, 0, 30000.0), 3, "its curves make no sense"),
        (parametric(GAMMA_P3, 3, 2.4, 1.0, 25000.0, 0.1, 0.1), 3, "its curves make no sense"),
    ],
)
def test_profiles_that_cannot_be_used_are_said_to_be_so(icc, channels, problem):
    assert problem_of(icc, channels) == problem
    assert colours_of(icc, channels) is None


def test_no_damage_to_a_profile_raises():
    rng = np.random.default_rng(11)
    for icc in (PROFILES["Display P3"], PROFILES["Display P3 by samples"][:3000]):
        for _ in range(150):
            damaged = bytearray(icc)
            for place in rng.integers(0, 400, 3):
                damaged[place] = rng.integers(256)
            colours_of(bytes(damaged), 3)


@pytest.mark.parametrize("name", [*PROFILES, "tables"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_unchanged_image_is_stored_exactly(name, dtype):
    icc = reversed_tables() if name == "tables" else PROFILES[name]
    image = Image(every_colour(dtype), metadata=Metadata(icc=icc))
    shown = image.crop_float(0, image.height, 0, image.width)
    assert shown.min() >= 0
    assert shown.max() <= 1
    np.testing.assert_array_equal(image.store(shown), image.pixels)
    rounded = shown * (1 + np.random.default_rng(1).uniform(-1e-7, 1e-7, shown.shape))
    np.testing.assert_array_equal(image.store(rounded), image.pixels)


def muted(name: str) -> Image:
    """An image in a wide space, of colours that sRGB has as well."""
    srgb = np.random.default_rng(5).uniform(0.2, 0.8, (40, 48, 3)).astype(np.float32)
    pixels = np.rint(colours_of(PROFILES[name], 3).from_srgb(srgb) * 65535).astype(np.uint16)
    return Image(pixels, metadata=Metadata(icc=PROFILES[name]))


@pytest.mark.parametrize("name", ["Display P3", "Adobe RGB", "ProPhoto"])
def test_a_model_sees_what_pillow_converts_to_srgb(name):
    image = muted(name)
    bytes_ = np.rint(image.pixels / 257).astype(np.uint8)
    expected = ImageCms.profileToProfile(
        PillowImage.fromarray(bytes_),
        ImageCms.ImageCmsProfile(io.BytesIO(PROFILES[name])),
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )
    found = image.crop_float(0, image.height, 0, image.width) * 255
    assert np.abs(found - np.asarray(expected)).max() < 4  # 8 bits of ProPhoto are coarse


def test_a_change_is_that_of_the_same_picture_in_srgb():
    image = muted("Adobe RGB")
    shown = image.crop_float(0, image.height, 0, image.width)
    expected = colours_of(PROFILES["Adobe RGB"], 3).from_srgb(shown**0.8) * 65535
    assert np.abs(image.store(shown**0.8).astype(float) - expected).max() < 2


@pytest.mark.parametrize("name", ["Display P3", "Adobe RGB", "ProPhoto", "linear Rec. 2020"])
def test_vivid_images_are_shown_without_clipping(name):
    """Noise in what is clipped would stay in the picture."""
    image = Image(every_colour(np.uint16), metadata=Metadata(icc=PROFILES[name]))
    shown = image.crop_float(0, image.height, 0, image.width)
    in_srgb = colours_of(PROFILES[name], 3).to_srgb(image.pixels.astype(np.float32) / 65535)
    assert ((in_srgb < 0) | (in_srgb > 1)).any(axis=2).mean() > 0.3
    own = ((image.pixels == 0) | (image.pixels == 65535)).any(axis=2).mean()
    assert ((shown == 0) | (shown == 1)).any(axis=2).mean() < own + 0.02
    greys = (image.pixels == image.pixels[..., :1]).all(axis=2)
    np.testing.assert_allclose(shown[greys], in_srgb[greys], atol=2e-3)


def test_what_an_image_is_shown_in_depends_on_all_of_it():
    whole = np.concatenate([muted("ProPhoto").pixels, every_colour(np.uint16)[:40, :48]])
    image = Image(whole, metadata=Metadata(icc=PROFILES["ProPhoto"]))
    part = image.crop_float(0, 40, 0, 48)
    np.testing.assert_array_equal(part, image.crop_float(0, image.height, 0, 48)[:40])
    assert np.abs(part - muted("ProPhoto").crop_float(0, 40, 0, 48)).max() > 0.02


def test_colours_outside_srgb_keep_their_saturation():
    image = muted("ProPhoto")
    pixels = image.pixels.copy()
    pixels[0, :3] = 0
    pixels[0, np.arange(3), np.arange(3)] = 60000  # too few to count
    image = Image(pixels, metadata=image.metadata)
    shown = image.crop_float(0, 1, 0, 3)
    assert (shown.min(axis=2) == 0).all()
    darker = image.store(shown * 0.9)
    for before, after in zip(pixels[0, :3], darker[0], strict=True):
        hue = [colorsys.rgb_to_hsv(*(colour / 65535)) for colour in (before, after)]
        assert hue[1][1] > 0.97
        assert hue[1][2] < hue[0][2]


def test_profiles_that_exchange_channels_are_gone_through_as_they_are():
    """Half way from such primaries to sRGB's all colours lie in a plane."""
    exchanged = profile((0.265, 0.690, 0.680, 0.320, 0.150, 0.060), D65, gamma=2.2)
    pixels = every_colour(np.uint16)
    image = Image(pixels, metadata=Metadata(icc=exchanged))
    straight = Image(np.ascontiguousarray(pixels[..., [1, 0, 2]]), metadata=Metadata(icc=GAMMA_P3))
    colours = colours_of(exchanged, 3)
    assert colours.fitted(pixels.reshape(-1, 3).astype(np.float32) / 65535) is colours
    seen = np.clip(colours_of(GAMMA_P3, 3).to_srgb(straight.pixels.astype(np.float32) / 65535), 0, 1)
    shown = image.crop_float(0, image.height, 0, image.width)
    np.testing.assert_allclose(shown, seen, atol=2e-3)
    np.testing.assert_array_equal(image.store(shown), pixels)


def test_store_looks_at_the_pixels_of_its_own_place():
    image = Image(every_colour(np.uint16), metadata=Metadata(icc=PROFILES["ProPhoto"]))
    part = image.store(image.crop_float(30, 50, 7, 19), 30, 7)
    np.testing.assert_array_equal(part, image.pixels[30:50, 7:19])
    with pytest.raises(ValueError, match="do not lie within"):
        image.store(image.crop_float(30, 50, 7, 19), image.height - 3, 7)
