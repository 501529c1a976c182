"""JPEG: pixels against Pillow, compression and metadata kept, orientation, damage."""

import io
import struct
from dataclasses import replace

import imagecodecs
import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageCms, ImageOps, TiffImagePlugin
from profiles import grey_ink_profile
from skimage import color

from pipcli.errors import ImageError
from pipcli.images import Image, Metadata, decode_image, encode_image

HEIGHT, WIDTH = 45, 70


def scene(channels: int = 3) -> PillowImage.Image:
    """A smooth picture that no turn or mirror leaves as it is."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    planes = np.stack([3 * x, 4 * y, 2 * x + y], axis=2).astype(np.uint8)
    picture = PillowImage.fromarray(planes)
    return picture if channels == 3 else picture.convert("L")


def pillow_jpeg(picture: PillowImage.Image, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, "JPEG", **options)
    return out.getvalue()


def opened(data: bytes) -> PillowImage.Image:
    picture = PillowImage.open(io.BytesIO(data))
    picture.load()
    return picture


def segment(marker: int, payload: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(payload) + 2) + payload


def with_segments(data: bytes, *segments: bytes) -> bytes:
    """The file with further segments behind its start and JFIF header."""
    at = 4 + struct.unpack_from(">H", data, 4)[0]
    return data[:at] + b"".join(segments) + data[at:]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("progressive", [False, True])
def test_pixels_are_those_of_pillow(channels, progressive):
    data = pillow_jpeg(scene(channels), progressive=progressive)
    image = decode_image(data, "x.jpg")
    assert image.pixels.dtype == np.uint8
    assert image.alpha is None
    expected = np.asarray(opened(data)).reshape(HEIGHT, WIDTH, channels)
    np.testing.assert_array_equal(image.pixels, expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("quality", [10, 75, 100])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("progressive", [False, True])
def test_it_is_compressed_as_its_source_was(channels, quality, subsampling, progressive):
    source = pillow_jpeg(scene(channels), quality=quality, subsampling=subsampling, progressive=progressive)
    written = encode_image(decode_image(source, "x.jpg"))
    before, after = opened(source), opened(written)
    assert after.quantization == before.quantization
    if channels == 3:
        assert after.layer == before.layer
    assert after.info.get("progressive") == before.info.get("progressive")
    difference = np.asarray(after).astype(int) - np.asarray(before)
    assert np.abs(difference).mean() < 2


def test_three_different_tables_are_kept():
    tables = [[step + i // 8 for i in range(64)] for step in (3, 9, 17)]
    written = encode_image(decode_image(pillow_jpeg(scene(), qtables=tables, subsampling=0), "x.jpg"))
    assert opened(written).quantization == dict(enumerate(tables))


def test_tables_beyond_a_byte_are_kept():
    tables = [[1] * 62 + [300, 4000]]
    written = encode_image(decode_image(pillow_jpeg(scene(), qtables=tables), "x.jpg"))
    assert list(opened(written).quantization.values()) == tables * len(opened(written).quantization)


@pytest.mark.parametrize("channels", [1, 3])
def test_another_quality_changes_neither_scans_nor_subsampling(channels):
    source = pillow_jpeg(scene(channels), quality=95, subsampling="4:2:0", progressive=True)
    image = decode_image(source, "x.jpg")
    small = encode_image(replace(image, metadata=replace(image.metadata, quality=30)))
    assert len(small) < len(source)
    again = opened(small)
    assert again.info["progressive"]
    if channels == 3:
        assert again.layer[0][1:3] == opened(source).layer[0][1:3] == (2, 2)


@pytest.mark.parametrize("progressive", [False, True])
def test_noise_at_the_finest_tables_fits_the_buffer(progressive, capfd):
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    image = decode_image(pillow_jpeg(scene(), quality=100, subsampling=0, progressive=progressive), "x.jpg")
    data = encode_image(Image(noise, metadata=image.metadata))
    assert np.abs(np.asarray(opened(data)).astype(int) - noise).max() <= 4
    assert capfd.readouterr() == ("", "")


def test_what_came_from_no_jpeg_is_written_well():
    source = np.asarray(scene())
    data = encode_image(Image(source, metadata=Metadata("PNG", dpi=(96, 96))), "jpeg")
    difference = np.asarray(opened(data)).astype(float) - source
    assert np.sqrt(np.mean(difference**2)) < 2
    assert opened(data).layer[0][1:3] == opened(data).layer[1][1:3] == (1, 1)
    assert opened(data).info["dpi"] == (96, 96)


def test_metadata_survives():
    exif = PillowImage.Exif()
    exif[0x010F] = "a maker"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    long_profile = profile + bytes(100_000)  # needs two segments
    source = pillow_jpeg(
        scene(), exif=exif, icc_profile=long_profile, xmp=b"<x:xmpmeta/>", dpi=(300, 150), comment=b"hello"
    )
    iptc = segment(0xED, b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0\0\0\0\0")
    source = with_segments(source, iptc)
    image = decode_image(source, "x.jpg")
    assert image.metadata.icc == long_profile
    assert image.metadata.xmp == b"<x:xmpmeta/>"
    assert image.metadata.dpi == (300, 150)
    assert image.metadata.notes == ()

    written = encode_image(image)
    again = opened(written)
    assert again.getexif()[0x010F] == "a maker"
    assert again.info["icc_profile"] == long_profile
    assert again.info["xmp"] == b"<x:xmpmeta/>"
    assert again.info["dpi"] == (300, 150)
    assert again.info["comment"] == b"hello"
    assert again.info["photoshop"] == opened(source).info["photoshop"]
    assert decode_image(written, "x.jpg").metadata == image.metadata


def test_density_in_centimetres_becomes_inches():
    data = bytearray(pillow_jpeg(scene(), dpi=(100, 50)))
    data[13] = 2
    assert decode_image(bytes(data), "x.jpg").metadata.dpi == pytest.approx((254, 127))


@pytest.mark.parametrize(
    ("unit", "expected"), [(2, (300, 300)), (3, (762, 762)), (1, None), (None, (300, 300))]
)
def test_a_resolution_that_exif_alone_states_is_known_to_other_formats(unit, expected):
    exif = PillowImage.Exif()
    exif[282] = exif[283] = 300.0
    if unit:
        exif[296] = unit
    plain = pillow_jpeg(scene(), exif=exif)
    source = plain[:2] + plain[4 + struct.unpack_from(">H", plain, 4)[0] :]  # as cameras write: without JFIF
    image = decode_image(source, "x.jpg")
    assert image.metadata.dpi == (expected and pytest.approx(expected))
    written = opened(encode_image(image, "PNG")).info.get("dpi")
    assert written == (expected and pytest.approx(expected, abs=0.02))


@pytest.mark.parametrize(("across", "down"), [(300.0, 150.0), (0.0, 0.0), (1e9, 1e9)])
def test_a_resolution_that_makes_no_sense_is_not_taken_from_exif(across, down):
    exif = PillowImage.Exif()
    exif[282], exif[283] = across, down
    assert decode_image(pillow_jpeg(scene(), exif=exif), "x.jpg").metadata.dpi is None


def test_an_exif_block_that_names_itself_twice_is_understood():
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    source = with_segments(pillow_jpeg(scene()), segment(0xE1, b"Exif\0\0" + exif.tobytes()))
    image = decode_image(source, "x.jpg")
    assert (image.height, image.width) == (WIDTH, HEIGHT)
    assert image.metadata.exif.startswith((b"II*", b"MM\0*"))


def test_segments_of_unknown_meaning_are_said_to_be_left_out():
    thermal = segment(0xE1, b"FLIR\0\1\0\0measured") * 2
    source = with_segments(pillow_jpeg(scene()), thermal, segment(0xEB, bytes(range(200, 220))))
    image = decode_image(source, "x.jpg")
    assert image.metadata.notes == ("segments of unknown meaning are left out: APP1 FLIR, APP11",)
    assert decode_image(encode_image(image), "x.jpg").metadata.notes == ()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_orientation_is_applied_once(orientation, byte_order):
    exif = PillowImage.Exif()
    exif.endian = byte_order
    exif[0x0112] = orientation
    exif[0x8769] = {0xA002: WIDTH, 0xA003: HEIGHT, 0x9003: "2020:02:02 02:02:02"}
    xmp = f'<x:xmpmeta><r tiff:Orientation="{orientation}"/></x:xmpmeta>'.encode()
    tables = [[1 + row for row in range(8) for _ in range(8)], [2] * 64]
    source = pillow_jpeg(scene(), exif=exif, xmp=xmp, dpi=(300, 150), qtables=tables, subsampling="4:2:2")
    image = decode_image(source, "x.jpg")
    expected = ImageOps.exif_transpose(opened(source))
    np.testing.assert_array_equal(image.pixels, np.asarray(expected))
    assert image.metadata.dpi == ((300, 150) if orientation < 5 else (150, 300))
    assert image.metadata.xmp == xmp.replace(f'"{orientation}"'.encode(), b'"1"')

    again = opened(encode_image(image))
    assert again.size == expected.size
    assert again.getexif()[0x0112] == 1
    folder = again.getexif().get_ifd(0x8769)
    assert (folder[0xA002], folder[0xA003]) == expected.size
    assert folder[0x9003] == "2020:02:02 02:02:02"
    # The horizontal steps of the tables follow the picture, and chroma loses no more than it had.
    turned = tables[0] if orientation < 5 else np.reshape(tables[0], (8, 8)).T.ravel().tolist()
    assert again.quantization[0] == turned
    assert again.layer[0][1:3] == ((2, 1) if orientation < 5 else (1, 1))
    assert np.abs(np.asarray(again).astype(int) - np.asarray(expected)).max() < 16


def test_the_embedded_thumbnail_goes_since_it_shows_the_old_picture():
    # One tag (the maker), then a second folder with one tag that says where a thumbnail stands.
    first = struct.pack("<HHHI4sI", 1, 0x010F, 2, 4, b"abc\0", 26)
    second = struct.pack("<HHHIII", 1, 0x0201, 4, 1, 44, 0)
    source = with_segments(
        pillow_jpeg(scene()), segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0" + first + second + b"picture")
    )

    def first_folder(data: bytes) -> TiffImagePlugin.ImageFileDirectory_v2:
        block = io.BytesIO(opened(data).info["exif"][6:])
        folder = TiffImagePlugin.ImageFileDirectory_v2(block.read(8))
        folder.load(block)
        return folder

    written = encode_image(decode_image(source, "x.jpg"))
    assert first_folder(source).next == 26
    assert first_folder(written).next == 0
    assert first_folder(written)[0x010F] == "abc"


@pytest.mark.parametrize(
    "exif", [b"", b"II", b"junkjunkjunk", b"MM\0*\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff\1"]
)
def test_damaged_exif_does_no_harm(exif):
    source = with_segments(pillow_jpeg(scene()), segment(0xE1, b"Exif\0\0" + exif))
    image = decode_image(source, "x.jpg")
    np.testing.assert_array_equal(image.pixels, np.asarray(opened(pillow_jpeg(scene()))))
    assert image.metadata.exif == (exif or None)
    encode_image(image)


def test_further_pictures_are_left_out_and_said_so():
    source = with_segments(pillow_jpeg(scene()), segment(0xE2, b"MPF\0II*\0"))
    image = decode_image(source + pillow_jpeg(scene()), "x.jpg")
    assert image.metadata.notes == ("further pictures in the file (previews, gain map) are left out",)
    assert b"MPF\0" not in encode_image(image)


def pillow_pictures(*pictures: PillowImage.Image) -> bytes:
    out = io.BytesIO()
    pictures[0].save(out, "MPO", save_all=True, append_images=pictures[1:])
    return out.getvalue()


def test_pictures_of_equal_rank_are_refused():
    data = pillow_pictures(scene(), scene().rotate(180))
    assert PillowImage.open(io.BytesIO(data)).n_frames == 2
    with pytest.raises(ImageError, match=r"^x\.jpg: is a JPEG of 2 pictures of equal rank"):
        decode_image(data, "x.jpg")
    with pytest.raises(ImageError, match="is a JPEG of 3 pictures"):
        decode_image(pillow_pictures(scene(), scene(), scene()), "x.jpg")


def second_entry(data: bytes) -> int:
    """Where Pillow's file of two pictures tells of the second: its kind, size and place."""
    told = PillowImage.open(io.BytesIO(data)).mpinfo[0xB002][1]
    return data.index(struct.pack("<2I", told["Size"], told["DataOffset"])) - 4


def with_kind(data: bytes, kind: int) -> bytes:
    at = second_entry(data)
    return data[:at] + struct.pack("<I", kind) + data[at + 4 :]


def test_the_kind_of_a_further_picture_counts():
    small = scene().resize((35, 20))
    for kind in (0x020001, 0x020002, 0x020003):
        data = with_kind(pillow_pictures(scene(), small), kind)
        with pytest.raises(ImageError, match="2 pictures of equal rank"):
            decode_image(data, "x.jpg")
    note = ("further pictures in the file (previews, gain map) are left out",)
    for data in (
        pillow_pictures(scene(), small),
        with_kind(pillow_pictures(scene(), scene()), 0x010001),
        pillow_pictures(scene(), scene(1)),
        pillow_pictures(scene(), scene())[:-40],
    ):
        image = decode_image(data, "x.jpg")
        assert image.metadata.notes == note
        np.testing.assert_array_equal(image.pixels[:3], np.asarray(opened(data))[:3])


def test_a_gain_map_as_large_as_its_picture_is_none_of_equal_rank():
    plain = pillow_pictures(scene(), scene())
    words = b"<x:xmpmeta xmlns:hdrgm='http://ns.adobe.com/hdr-gain-map/1.0/'/>"
    packet = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + words)
    second = plain.rindex(b"\xff\xd8\xff")
    at = second_entry(plain) + 4
    data = plain[:at] + struct.pack("<I", len(plain) - second + len(packet)) + plain[at + 4 : second + 2]
    image = decode_image(data + packet + plain[second + 2 :], "x.jpg")
    assert image.metadata.notes == ("further pictures in the file (previews, gain map) are left out",)
    with pytest.raises(ImageError, match="2 pictures"):
        decode_image(data + packet.replace(b"hdrgm", b"other") + plain[second + 2 :], "x.jpg")


@pytest.mark.parametrize("progressive", [False, True])
def test_every_truncation_is_refused(progressive):
    data = pillow_jpeg(scene().resize((24, 17)), progressive=progressive)
    for length in range(1, len(data)):
        with pytest.raises(ImageError, match=r"^x\.jpg: "):
            decode_image(data[:length], "x.jpg")


def test_a_tail_of_zeros_is_refused():
    data = pillow_jpeg(scene())
    with pytest.raises(ImageError, match="cut short"):
        decode_image(data[:-300] + bytes(300), "x.jpg")


@pytest.mark.parametrize("restarts", [0, 3])
def test_data_that_end_too_early_are_refused_though_an_end_marker_follows(restarts):
    data = pillow_jpeg(scene(), restart_marker_blocks=restarts)
    np.testing.assert_array_equal(decode_image(data, "x.jpg").pixels, np.asarray(opened(data)))
    for length in range(data.index(b"\xff\xda") + 14, len(data) - 8):
        with pytest.raises(ImageError, match="coded data end too early"):
            decode_image(data[:length].rstrip(b"\xff") + b"\xff\xd9", "x.jpg")


@pytest.mark.parametrize("progressive", [False, True])
def test_markers_may_be_filled_up_to(progressive):
    data = pillow_jpeg(scene(), progressive=progressive)
    filled = data[:-2] + b"\xff\xff\xff" + data[-2:]
    if progressive:
        first = data.index(b"\xff\xda") + 14
        second = data.index(b"\xff\xc4", first)
        filled = filled[:second] + b"\xff\xff" + filled[second:]
    np.testing.assert_array_equal(decode_image(filled, "x.jpg").pixels, np.asarray(opened(data)))


def test_a_progressive_scan_that_ends_too_early_is_refused():
    data = pillow_jpeg(scene(), progressive=True)
    first = data.index(b"\xff\xda") + 14
    second = data.index(b"\xff\xc4", first)
    with pytest.raises(ImageError, match="coded data end too early"):
        decode_image(data[: (first + second) // 2] + data[second:], "x.jpg")


def test_bytes_behind_the_end_do_not_matter():
    data = pillow_jpeg(scene())
    np.testing.assert_array_equal(
        decode_image(data + b"more", "x.jpg").pixels, decode_image(data, "x.jpg").pixels
    )


PATCHES = np.array(
    [(0, 0, 0, 0), (255, 0, 0, 0), (0, 255, 0, 0), (0, 0, 255, 0), (0, 0, 0, 255), (40, 90, 130, 60)],
    np.uint8,
)
INKS = np.repeat(np.repeat(PATCHES[None], 32, axis=0), 32, axis=1)


def cmyk_jpeg(stored_as: str) -> bytes:
    """A file as Adobe's programs write it: inks inverted, marker APP14."""
    return imagecodecs.jpeg8_encode(255 - INKS, level=100, colorspace="CMYK", outcolorspace=stored_as)


@pytest.mark.parametrize("stored_as", ["CMYK", "YCCK"])
def test_cmyk_without_profile_filters_light(stored_as):
    image = decode_image(cmyk_jpeg(stored_as), "x.jpg")
    inks = PATCHES / 255
    expected = 255 * (1 - inks[:, :3]) * (1 - inks[:, 3:])
    np.testing.assert_allclose(image.pixels[16, 16::32], expected, atol=3)
    assert image.metadata.notes == ("CMYK converted to sRGB",)
    again = opened(encode_image(image))
    assert again.mode == "RGB"
    np.testing.assert_allclose(np.asarray(again)[16, 16::32], image.pixels[16, 16::32], atol=3)


def test_cmyk_with_a_profile_goes_through_it():
    profile = segment(0xE2, b"ICC_PROFILE\0\1\1" + grey_ink_profile())
    data = cmyk_jpeg("CMYK")
    image = decode_image(data[:2] + profile + data[2:], "x.jpg")
    inks = PATCHES / 255
    lightness = 100 * (1 - inks[:, 3] / 2 - inks[:, :3].sum(axis=1) / 6)
    expected = 255 * color.lab2rgb(np.stack([lightness, 0 * lightness, 0 * lightness], axis=1))
    np.testing.assert_allclose(image.pixels[16, 16::32], expected, atol=3)
    assert image.metadata.icc is None


def test_cmyk_with_a_damaged_profile_is_refused():
    profile = segment(0xE2, b"ICC_PROFILE\0\1\1" + grey_ink_profile()[:200])
    data = cmyk_jpeg("CMYK")
    with pytest.raises(ImageError, match="damaged profile"):
        decode_image(data[:2] + profile + data[2:], "x.jpg")


def test_size_is_checked_before_decoding():
    data = pillow_jpeg(scene())
    at = data.index(b"\xff\xc0") + 5
    with pytest.raises(ImageError, match="65535×65535 pixels, the limit is 500000000"):
        decode_image(data[:at] + b"\xff\xff\xff\xff" + data[at + 4 :], "x.jpg")
    with pytest.raises(ImageError, match="70×45 pixels, the limit is 3149"):
        decode_image(data, "x.jpg", max_pixels=HEIGHT * WIDTH - 1)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (Image(np.zeros((2, 2, 3), np.uint16)), "8 bits"),
        (Image(np.zeros((2, 2, 3), np.float32)), "8 bits"),
        (Image(np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.uint8)), "transparency"),
        (Image(np.zeros((65536, 1, 1), np.uint8)), "65535"),
        (Image(np.zeros((2, 2, 1), np.uint8), metadata=Metadata("JPEG", exif=bytes(70_000))), "does not fit"),
    ],
)
def test_what_jpeg_cannot_hold_is_refused(image, reason):
    with pytest.raises(ImageError, match=reason):
        encode_image(image, "JPEG")


def test_a_grey_image_with_tables_of_a_colour_one_is_written():
    colour = decode_image(pillow_jpeg(scene()), "x.jpg")
    grey = Image(np.asarray(scene(1))[:, :, None], metadata=replace(colour.metadata))
    assert opened(encode_image(grey)).mode == "L"


def test_data_behind_the_picture_are_said_to_be_left_out():
    film = pillow_jpeg(scene()) + b"\0\0\0\x18ftypmp42" + bytes(40)
    image = decode_image(film, "x.jpg")
    assert image.metadata.notes == ("data behind the picture, such as a motion photo's film, are left out",)
    assert decode_image(pillow_jpeg(scene()) + bytes(512), "x.jpg").metadata.notes == ()


@pytest.mark.parametrize(
    "stated", [b'<a GCamera:MotionPhoto="1" b="1"/>', b"<Camera:MicroVideo>1</Camera:MicroVideo>"]
)
def test_a_motion_photo_is_a_still_one_afterwards(stated):
    data = with_segments(pillow_jpeg(scene()), segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + stated))
    xmp = decode_image(data, "x.jpg").metadata.xmp
    assert xmp == stated.replace(b'Photo="1"', b'Photo="0"').replace(b">1<", b">0<")


def test_an_ultra_hdr_photo_no_more_promises_its_gain_map():
    item = '<rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="{}" Item:Length="9"/></rdf:li>'
    packet = (
        '<rdf:Description xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0" a="1">'
        f"<Container:Directory><rdf:Seq>{item.format('Primary')}{item.format('GainMap')}</rdf:Seq>"
        "</Container:Directory><hdrgm:GainMapMax>2.5</hdrgm:GainMapMax></rdf:Description>"
    )
    data = pillow_jpeg(scene())
    stated = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + packet.encode())
    image = decode_image(with_segments(data, stated) + data, "x.jpg")
    assert image.metadata.notes == ("the gain map behind the picture is left out",)
    expected = packet.replace(' hdrgm:Version="1.0"', "").replace(item.format("GainMap"), "")
    assert image.metadata.xmp == expected.replace("<hdrgm:GainMapMax>2.5</hdrgm:GainMapMax>", "").encode()


@pytest.mark.parametrize("orientation", [1, 6])
def test_the_shape_of_pixels_stays(orientation):
    exif = PillowImage.Exif()
    exif[0x0112] = orientation
    exif[282], exif[283], exif[296] = 72.0, 72.0, 2  # as many programs state it whatever the pixels are
    source = bytearray(pillow_jpeg(scene(), exif=exif.tobytes()))
    struct.pack_into(">BHH", source, 13, 0, 2, 1)
    image = decode_image(bytes(source), "x.jpg")
    sides = (2, 1) if orientation == 1 else (1, 2)
    assert (image.metadata.aspect, image.metadata.dpi) == (sides, None)
    again = opened(encode_image(image))
    assert (again.info["jfif_unit"], again.info["jfif_density"]) == (0, sides)
    assert decode_image(pillow_jpeg(scene()), "x.jpg").metadata.aspect is None
