"""Writing: the suffix decides, and nothing is touched before all is encoded."""

import io
from dataclasses import replace

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage

from pipcli.errors import ImageError, OutputError, UsageError
from pipcli.images import Image, Metadata, Wishes, decode_image, encode_image, read_image, write_image
from pipcli.images.colour import profile_of
from pipcli.images.image import TiffCoding
from pipcli.images.writing import encode_for

RED = Image(np.full((8, 8, 3), (200, 10, 10), np.uint8))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("x.png", "PNG"),
        ("x.JPG", "JPEG"),
        ("x.jpeg", "JPEG"),
        ("x.Tif", "TIFF"),
        ("x.webp", "WEBP"),
        ("x.bmp", "BMP"),
        ("x", "PNG"),
    ],
)
def test_the_suffix_names_the_format(tmp_path, name, expected):
    write_image(RED, tmp_path / name)
    with PillowImage.open(tmp_path / name) as picture:
        assert picture.format == expected
        assert np.abs(np.asarray(picture).astype(int) - RED.pixels).max() < 4


def test_without_suffix_the_source_names_the_format(tmp_path):
    write_image(Image(RED.pixels, metadata=Metadata("JPEG")), tmp_path / "x")
    assert read_image(tmp_path / "x").metadata.format == "JPEG"


def test_metadata_crosses_formats_and_what_only_one_can_hold_stays_behind(tmp_path):
    exif = b"II*\0\x08\0\0\0\1\0\x0f\1\2\0\4\0\0\0abc\0\0\0\0\0"
    metadata = Metadata("PNG", b"profile", exif, b"<x/>", (300, 300), ((b"tEXt", b"a\0b"),))
    write_image(Image(RED.pixels, metadata=metadata), tmp_path / "x.jpg")
    read = read_image(tmp_path / "x.jpg").metadata
    assert (read.icc, read.exif, read.xmp, read.dpi) == (b"profile", exif, b"<x/>", (300, 300))
    assert read.blocks == ()


def test_an_unknown_suffix_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"x\.doc: its suffix is none that can be written: \.png"):
        write_image(RED, tmp_path / "x.doc")
    with pytest.raises(UsageError, match="unknown format 'doc': choose from PNG, JPEG, TIFF, WebP, BMP"):
        encode_image(RED, "doc")


def test_what_the_format_cannot_hold_touches_nothing(tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"old")
    with pytest.raises(ImageError, match=r"x\.jpg: JPEG holds 8 bits, not 16 bits: a bit depth of 8 would"):
        write_image(Image(np.zeros((2, 2, 3), np.uint16)), tmp_path / "x.jpg")
    with pytest.raises(ImageError, match=r"y/x\.jpg"):
        write_image(Image(np.zeros((2, 2, 3), np.uint16)), tmp_path / "y" / "x.jpg")
    with pytest.raises(ImageError, match="JPEG holds 8 bits, not 16 bits: a bit depth of 8"):
        write_image(RED, tmp_path / "x.jpg", Wishes(bits=16))
    assert (tmp_path / "x.jpg").read_bytes() == b"old"
    assert not (tmp_path / "y").exists()


def test_what_cannot_be_written_names_the_path(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match=r"file/x\.png: cannot be written"):
        write_image(RED, tmp_path / "file" / "x.png")


def ramp(dtype: str) -> Image:
    values = np.arange(256 * 3, dtype=np.float64).reshape(16, 16, 3) / 767
    peak = 1 if dtype == "float32" else np.iinfo(dtype).max
    return Image((values if dtype == "float32" else np.rint(values * peak)).astype(dtype))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("bits", [8, 16, 32])
def test_bits_asked_for_are_written_rounded(dtype, bits):
    image = ramp(dtype)
    data = encode_image(image, "TIFF", Wishes(bits=bits))
    found = tifffile.imread(io.BytesIO(data))
    assert found.dtype == {8: np.uint8, 16: np.uint16, 32: np.float32}[bits]
    expected = image.pixels / (1 if dtype == "float32" else np.iinfo(dtype).max)
    peak = 1 if bits == 32 else 2**bits - 1
    assert np.abs(found / peak - expected).max() <= (1e-7 if bits == 32 else 0.5001 / peak)


def test_a_format_asked_for_takes_as_many_bits_as_it_holds_and_says_so(tmp_path):
    notes = write_image(ramp("uint16"), tmp_path / "x.jpg", Wishes("jpg"))
    assert notes == ("16 bits written as 8 bits: JPEG holds no more",)
    assert read_image(tmp_path / "x.jpg").pixels.dtype == np.uint8
    notes = write_image(ramp("float32"), tmp_path / "x.png", Wishes("PNG"))
    assert notes == ("floating-point numbers written as 16 bits: PNG holds no more",)
    steps = read_image(tmp_path / "x.png").pixels.astype(int) - ramp("uint16").pixels
    assert np.abs(steps).max() <= 1  # float32 lies on either side of a half
    assert write_image(ramp("uint16"), tmp_path / "x.png", Wishes("png")) == ()
    notes = write_image(ramp("uint16"), tmp_path / "x.avif", Wishes("avif"))
    assert notes == ("16 bits written as 12 bits: AVIF holds no more",)
    assert write_image(read_image(tmp_path / "x.avif"), tmp_path / "y.avif") == ()


def test_bits_that_a_source_had_are_counted_whatever_holds_them(tmp_path):
    deep, shallow = (Image(ramp("uint16").pixels, metadata=Metadata("JPEG 2000", depth=n)) for n in (14, 12))
    assert write_image(deep, tmp_path / "x.avif") == ("14 bits written as 12 bits: AVIF holds no more",)
    assert write_image(shallow, tmp_path / "x.avif") == ()


def test_what_is_too_long_for_a_jpeg_is_left_out_and_said_so(tmp_path):
    image = Image(RED.pixels, metadata=Metadata("TIFF", exif=b"II*\0", xmp=b"<x/>".ljust(70_000)))
    notes = write_image(image, tmp_path / "x.jpg")
    assert notes == ("JPEG holds at most 65000 bytes of each, left out: XMP of 70000 bytes",)
    read = read_image(tmp_path / "x.jpg").metadata
    assert (read.xmp, read.exif) == (None, b"II*\0")
    assert write_image(image, tmp_path / "x.png") == ()


def test_alpha_that_hides_nothing_is_no_transparency(tmp_path):
    opaque = np.full((8, 8), 255, np.uint8)
    assert write_image(Image(RED.pixels, opaque), tmp_path / "x.jpg") == ()
    almost = opaque.copy()
    almost[3, 4] = 254
    with pytest.raises(ImageError, match="JPEG cannot hold transparency"):
        write_image(Image(RED.pixels, almost), tmp_path / "y.jpg")


def test_a_lossy_jpeg_2000_with_transparency_says_that_it_is_not(tmp_path):
    alpha = np.full((8, 8), 100, np.uint8)
    notes = write_image(Image(RED.pixels, alpha), tmp_path / "x.jp2", Wishes(quality=50))
    assert notes == ("JPEG 2000 with transparency is written without loss",)
    assert write_image(Image(RED.pixels, alpha), tmp_path / "x.jp2") == ()
    assert write_image(RED, tmp_path / "x.jp2", Wishes(quality=50)) == ()


def test_no_data_and_georeference_that_a_file_cannot_hold_are_said_to_be_lost(tmp_path):
    place = (33550).to_bytes(2, "big") + bytes([12]) + (3).to_bytes(8, "big")
    tiff = TiffCoding(nodata=np.uint16(0))
    metadata = Metadata("TIFF", tiff=tiff, blocks=((place, bytes(24)),))
    image = Image(ramp("uint16").pixels, metadata=metadata)
    lost = "the value that means no data is lost"
    assert write_image(image, tmp_path / "x.png") == (
        "left out on the way from TIFF to PNG: georeference",
        lost,
    )
    assert write_image(image, tmp_path / "x.tif", Wishes(bits=8)) == (lost,)
    assert write_image(image, tmp_path / "x.tif", Wishes(bits=32)) == ()


def test_floats_on_another_scale_become_whole_numbers_on_it():
    image = Image(np.array([[[-600.0], [-500.0], [500.0], [1500.0]]], np.float32), scale=(-500, 1500))
    data = encode_image(image, "PNG", Wishes(bits=8))
    np.testing.assert_array_equal(decode_image(data, "x").pixels[0, :, 0], [0, 0, 128, 255])
    clear = Image(image.pixels, np.array([[0, 0.2, 0.6, 1]], np.float32), scale=image.scale)
    again = decode_image(encode_image(clear, "PNG", Wishes(bits=8)), "x")
    np.testing.assert_array_equal(again.alpha[0], [0, 51, 153, 255])


@pytest.mark.parametrize("format_name", ["JPEG", "WebP", "AVIF", "JPEG 2000", "JPEG XL"])
def test_a_quality_asked_for_sets_the_size(format_name):
    rng = np.random.default_rng(1)
    noise = Image(rng.integers(0, 256, (48, 48, 3), dtype=np.uint8))
    sizes = [len(encode_image(noise, format_name, Wishes(quality=quality))) for quality in (10, 60, 95)]
    assert sizes[0] < sizes[1] < sizes[2]


def test_a_quality_asked_for_replaces_that_of_a_jpeg_source():
    out = io.BytesIO()
    PillowImage.fromarray(RED.pixels).save(out, "JPEG", quality=50, subsampling="4:2:0")
    again = encode_image(decode_image(out.getvalue(), "x"), wishes=Wishes(quality=90))
    reference = io.BytesIO()
    PillowImage.fromarray(RED.pixels).save(reference, "JPEG", quality=90, subsampling="4:2:0")
    with PillowImage.open(io.BytesIO(again)) as found, PillowImage.open(reference) as expected:
        assert found.quantization == expected.quantization
        assert found.layer == expected.layer


@pytest.mark.parametrize(
    ("wishes", "reason"),
    [
        ({"quality": 0}, "quality is 0"),
        ({"quality": 101}, "quality is 101"),
        ({"bits": 12}, "bit depth is 12"),
        ({"format_name": "jpg", "bits": 16}, "JPEG does not hold 16 bits"),
    ],
)
def test_impossible_wishes_are_refused(wishes, reason):
    with pytest.raises(UsageError, match=reason):
        Wishes(**wishes)


def test_a_format_without_pages_refuses_them():
    image = Image(RED.pixels, further=(RED, RED))
    for name in ("PNG", "JPEG", "WebP", "BMP", "AVIF", "JPEG 2000", "JPEG XL"):
        with pytest.raises(ImageError, match=f"^{name} holds one page, the image has 3$"):
            encode_image(image, name)


def test_what_is_lost_on_the_way_to_another_format_is_said(tmp_path):
    metadata = Metadata(
        "JPEG", exif=b"II*\0\x08\0\0\0\0\0\0\0\0\0", iptc=b"\x1c\2", blocks=((b"\xfe", b"hi"),)
    )
    image = Image(RED.pixels, metadata=metadata)
    assert write_image(image, tmp_path / "x.jpg") == ()
    assert write_image(image, tmp_path / "x.png") == (
        "PNG does not hold IPTC, left out",
        "left out on the way from JPEG to PNG: texts",
    )
    assert write_image(image, tmp_path / "x.bmp") == (
        "BMP does not hold EXIF and IPTC, left out",
        "left out on the way from JPEG to BMP: texts",
    )


def test_colours_are_written_with_the_profile_that_they_need_or_not_at_all():
    wide = profile_of((0.708, 0.292, 0.170, 0.797, 0.131, 0.046, 0.3127, 0.3290), 2.2)
    image = Image(RED.pixels, metadata=Metadata(icc=wide))
    for name in ("PNG", "JPEG", "TIFF", "WebP", "BMP", "AVIF", "JPEG 2000"):
        assert decode_image(encode_image(image, name), "x").metadata.icc == wide, name
    with pytest.raises(ImageError, match="JPEG XL is written in sRGB only"):
        encode_image(image, "JPEG XL")


def test_a_missing_codec_is_said(monkeypatch):
    class Absent:
        available = False

    data = encode_image(RED, "JPEG XL")
    monkeypatch.setattr(imagecodecs, "JPEGXL", Absent)
    with pytest.raises(ImageError, match=r"^JPEG XL cannot be written, the codec is not installed$"):
        encode_image(RED, "JPEG XL")
    with pytest.raises(ImageError, match=r"^x\.jxl: JPEG XL cannot be read, the codec is not installed$"):
        decode_image(data, "x.jxl")


def lost(image: Image, format_name: str, wishes: Wishes | None = None) -> tuple[str, ...]:
    notes: list[str] = []
    encode_for(image, "x", replace(wishes or Wishes(), format_name=format_name), notes.append)
    return tuple(notes)


@pytest.mark.parametrize("format_name", ["WebP", "AVIF", "JPEG XL"])
def test_a_resolution_that_says_something_is_missed(format_name):
    def image(dpi: tuple[float, float], exif: bytes | None = None) -> Image:
        return Image(RED.pixels, metadata=Metadata("PNG", dpi=dpi, exif=exif))

    missed = (f"{format_name} does not hold resolution, left out",)
    assert lost(image((300, 300)), format_name) == missed
    for meaningless in ((72, 72), (96.012, 96.012), (1, 1)):
        assert lost(image(meaningless), format_name) == ()
    exif = PillowImage.Exif()
    exif[282], exif[283], exif[296] = 300.0, 300.0, 2
    assert lost(image((300, 300), exif.tobytes()[6:]), format_name) == ()
    assert lost(image((200, 200), exif.tobytes()[6:]), format_name) == missed
    for other in ("PNG", "JPEG", "TIFF", "BMP", "JPEG 2000"):
        assert lost(image((300, 300)), other) == ()


def test_a_resolution_or_shape_of_pixels_that_only_some_formats_state_is_missed():
    def tiff(x: int, y: int, unit: int) -> Image:
        coding = TiffCoding(resolution=((x, 1), (y, 1)), resolution_unit=unit)
        return Image(RED.pixels, metadata=Metadata("TIFF", tiff=coding))

    for image in (tiff(2000, 2000, 4), tiff(9, 9, 1)):  # by the millimetre; ImageJ's
        assert lost(image, "PNG") == ("PNG does not hold resolution, left out",)
        assert lost(image, "TIFF") == ()
    assert lost(tiff(1, 1, 1), "PNG") == lost(tiff(72, 72, 2), "PNG") == ()
    uneven = Image(RED.pixels, metadata=Metadata("PNG", aspect=(2, 1)))
    for name in ("WebP", "BMP", "AVIF", "JPEG 2000", "JPEG XL"):
        assert lost(uneven, name) == (f"{name} does not hold the shape of pixels, left out",)
    for name in ("PNG", "JPEG", "TIFF"):
        assert lost(uneven, name) == ()


def tiff_block(code: int, payload: bytes) -> tuple[bytes, bytes]:
    return code.to_bytes(2, "big") + bytes([7]) + len(payload).to_bytes(8, "big"), payload


PATH = b"8BIM\x07\xd0\0\0\0\0\0\4path"


@pytest.mark.parametrize(
    ("format_name", "block", "label"),
    [
        ("TIFF", tiff_block(269, b"a ledger\0"), "the names of document and page"),
        ("TIFF", tiff_block(285, b"a page\0"), "the names of document and page"),
        ("TIFF", tiff_block(297, b"\2\0\3\0"), "the number of the page"),
        ("TIFF", tiff_block(297, b"\0\0\1\0"), None),
        ("TIFF", tiff_block(301, bytes(512)), "the transfer function"),
        ("TIFF", tiff_block(34264, bytes(128)), "georeference"),
        ("TIFF", tiff_block(34377, PATH), "clipping paths"),
        ("JPEG", (b"\xed", b"Photoshop 3.0\0" + PATH), "clipping paths"),
        ("JPEG", (b"\xe1", b"http://ns.adobe.com/xmp/extension/\0"), "the extended part of XMP"),
        ("PNG", (b"gAMA", (100_000).to_bytes(4, "big")), "the gamma of grey"),
        ("PNG", (b"gAMA", (45_455).to_bytes(4, "big")), None),
        ("PNG", (b"cHRM", bytes(32)), None),
        ("AVIF", (b"subsampling", b"420"), None),
        ("JPEG 2000", (b"codestream", b""), None),
    ],
)
def test_what_only_the_source_is_written_with_is_said(format_name, block, label):
    grey = Image(RED.pixels[:, :, :1], metadata=Metadata(format_name, blocks=(block,)))
    expected = (f"left out on the way from {format_name} to WebP: {label}",) if label else ()
    assert lost(grey, "WebP") == expected
    assert lost(replace(grey, metadata=replace(grey.metadata, blocks=())), "WebP") == ()


def test_exif_that_becomes_tags_says_what_moves_and_what_stays_behind():
    exif = PillowImage.Exif()
    exif[271], exif[0xC4A5], exif[0x8769] = "maker", b"PrintIM\0", {0x927C: b"MAKER NOTE" * 5}
    image = Image(RED.pixels, metadata=Metadata("JPEG", exif=exif.tobytes()[6:]))
    moved = (
        "tags left out, unknown or no longer right: 50341",
        "the camera's maker notes move, offsets in them may no longer be right",
    )
    assert lost(image, "TIFF") == moved
    assert lost(image, "PNG") == lost(image, "JPEG") == ()
    again = decode_image(encode_image(image, "TIFF"), "x.tif")
    assert again.metadata.notes == moved[1:]
    assert lost(again, "TIFF") == ()  # reading has said it


def test_floats_that_become_whole_numbers_say_so():
    low = np.linspace(-500, 3000, 64, dtype=np.float32).reshape(8, 8, 1)
    outside = Image(low, scale=(-400.0, 2900.0))
    note = "numbers from -400 to 2900 become whole numbers"
    assert lost(outside, "TIFF", Wishes(bits=16)) == (f"{note}, those outside are clipped",)
    within = Image(np.clip(low, -400, 2900), scale=(-400.0, 2900.0))
    assert lost(within, "TIFF", Wishes(bits=8)) == (note,)
    assert lost(outside, "TIFF", Wishes(bits=32)) == ()
    assert lost(Image(low / 10_000 + 0.1), "TIFF", Wishes(bits=16)) == ()
    pages = replace(Image(RED.pixels), further=(outside,))
    assert lost(pages, "TIFF", Wishes(bits=16)) == (f"{note}, those outside are clipped",)
