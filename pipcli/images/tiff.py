"""TIFF 6.0 and BigTIFF, of one page or many: grey, RGB, CMYK, palette, alpha; 1 to 16 bits and floats.

tifffile reads strips, tiles and their compressions, and writes the pages with that of their source, where it
is one that every reader knows; EXIF goes in and out through `folders`. Up to 8 bits come out as 8, 9 to 16
as 16; a palette and CMYK come out as RGB. Floats of 16 and 64 bits are restored in 32, and written back.
"""

from __future__ import annotations

import io
import math
import re
import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pipcli.errors import ImageError
from pipcli.images.exif import turn_upright, upright_exif, xmp_of_turned
from pipcli.images.floats import floats_note, scale_of
from pipcli.images.folders import (
    EXIF_FOLDER,
    GPS_FOLDER,
    MAKER_NOTE,
    Folder,
    Tag,
    exif_block,
    folder_bytes,
    in_order,
    read_exif,
    read_folder,
)
from pipcli.images.image import (
    Array,
    Image,
    Metadata,
    Resolution,
    TiffCoding,
    plausible_dpi,
)
from pipcli.images.inks import INKS_NOTE, srgb_of_inks
from pipcli.images.jpeg import check_whole, quality_of_stream
from pipcli.images.limits import check_size
from pipcli.images.nodata import Number, kept_off, nodata_in
from pipcli.images.photoshop import iptc_of, without_thumbnails
from pipcli.images.samples import widened

if TYPE_CHECKING:
    from tifffile import TiffPage, TiffWriter

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_ORIENTATION, _XMP, _IPTC, _PHOTOSHOP, _PROFILE = 274, 700, 33723, 34377, 34675
_FURTHER_PAGES, _LAYERS = 330, 37724
_RESOLUTION_UNIT, _X_RESOLUTION, _Y_RESOLUTION = 296, 282, 283
_DESCRIBING = frozenset({270, 271, 272, 305, 306, 315, 316, 18246, 18249, 33432, *range(40091, 40096)})
"""Tags that EXIF has as well: description, maker, model, software, date, artist, host computer, rating,
copyright, and those of Windows."""
_TRANSFER_FUNCTION, _WHITE_POINT, _PRIMARIES, _NODATA = 301, 318, 319, 42113
GEOREFERENCE = (33550, 33922, 34264, 34735, 34736, 34737, 42112)
"""Tags of GeoTIFF and GDAL: where on the earth the picture lies."""
_KEPT = (
    269, 285, 297, _TRANSFER_FUNCTION, _WHITE_POINT, _PRIMARIES, _PHOTOSHOP, *GEOREFERENCE, _NODATA,
)  # fmt: skip
"""Tags written back to a TIFF alone: names of document and page, page number, curves and primaries,
Photoshop's resources, and those of GeoTIFF."""
_CARRIED = frozenset(
    {
        _ORIENTATION, _RESOLUTION_UNIT, _X_RESOLUTION, _Y_RESOLUTION, _XMP, _IPTC, _PROFILE, EXIF_FOLDER,
        GPS_FOLDER,
    }
)  # fmt: skip
"""Tags that go in and out in other ways, or of whose loss other notes tell."""
_STORAGE = frozenset(
    {
        *range(254, 260), *range(262, 267), 273, *range(277, 282), 284, 288, 289, 292, 293, 317,
        *range(320, 329), _FURTHER_PAGES, 332, 333, 334, 336, *range(338, 342), 347, *range(512, 522),
        *range(529, 533), 559, 32997, 32998, _LAYERS, 50674,
    }
)  # fmt: skip
"""Tags that say how the pixels are stored, or are computed from them, such as the lowest and highest: they
are right for the old ones alone."""
_STAND_IN = 1
"""Added to the codes of pointers to EXIF and GPS, which tifffile does not write, until it is done; no tags
have these codes."""
_ASCII, _BYTES, _LONG, _LONG8 = 2, 7, 4, 16

# The values of tags that are told apart here (TIFF 6.0, sections 4 to 8 and 18).
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _INKS, _YCBCR = 0, 1, 2, 3, 5, 6
_INK_SET, _CMYK = 332, 1
_JPEG, _DEFLATE, _OLD_DEFLATE = 7, 8, 32946
_JETRAW, _EER = 48124, (65000, 65001, 65002)
"""Known to tifffile, but the decoder of the first is not free and not there, and the others, of electron
microscopes, mean something else in other files."""
_WRITTEN = (1, 5, _JPEG, _DEFLATE, 32773, 34925, 50000)
_PREDICTED = (5, _DEFLATE, 34925, 50000)
_SEPARATE_PLANES = 2
_UNSPECIFIED, _ASSOCIATED_ALPHA, _PLAIN_ALPHA = 0, 1, 2
_FLOATS = {"float16": 16, "float32": 32, "float64": 64}
_MASK = 4
_NO_UNIT, _INCH, _CENTIMETRE, _MICROMETRE = 1, 2, 3, 5
_PLANES_OF_STK = 33629
_SHAPE = re.compile(r"""\A(?:\{.*?"shape": *\[|shape=\()([\d, ]+)[])]""")
"""Dimensions of a stack in the description that tifffile writes."""
_IMAGES = re.compile(r"^images=(\d{1,9})\s*$", re.MULTILINE)
"""Number of planes in the description that ImageJ writes."""

_CLASSIC_LIMIT = 2**32 - 2**26
"""Bytes of pixels from which on a BigTIFF is written, whatever the source was."""
_MOST_PAGES = 10_000


def read_tiff(data: bytes, max_pixels: int) -> Image:
    """The image in a whole TIFF file, upright, its further pages with it.

    Raises:
        ImageError: damaged, cut short, of a kind that is not supported, or larger than max_pixels, all pages
            together; the file's name is not in the message, the caller has it.
    """
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            file.pages.useframes = False  # every page by its own tags
            count = len(file.pages)
            if count > _MOST_PAGES:
                raise ImageError(f"is a TIFF of {count} pages, the limit is {_MOST_PAGES}")
            pages = [page for page in file.pages if isinstance(page, tifffile.TiffPage)]
            wholes = [page for page in pages if not page.is_reduced]
            if len(pages) < count:
                raise ImageError("is a TIFF whose pages cannot all be read")
            if not wholes:
                raise ImageError("is a TIFF that holds only previews (a camera's raw file?)")
            if any(page.subfiletype & _MASK for page in wholes):
                raise ImageError("is a TIFF with a page that masks another, which is not supported")
            _check_sizes(wholes, max_pixels)
            for number, page in enumerate(wholes, start=1):
                _check_page(page, number, len(wholes), pages, data)
            images = [_read_page(page, data, file.is_bigtiff, file.byteorder) for page in wholes]
            if len(pages) > len(wholes) or any(_FURTHER_PAGES in page.tags for page in wholes):
                images[0] = _with_note(images[0], "previews in the file are left out")
            left_out = sorted({code for page in wholes for code in _left_out(page)})
            if left_out:
                numbers = ", ".join(map(str, left_out))
                images[0] = _with_note(images[0], f"tags left out, unknown or no longer right: {numbers}")
    except ImageError:
        raise
    except (
        Exception
    ) as error:  # tifffile raises whatever its parts raise: struct.error, KeyError, codecs' own
        reason = str(error).strip().splitlines()
        raise ImageError(f"damaged TIFF: {reason[0] if reason else type(error).__name__}") from error

    images = _on_one_scale(images)
    if len(images) > 1:
        notes = dict.fromkeys(note for image in images for note in image.metadata.notes)
        images[0] = replace(images[0], metadata=replace(images[0].metadata, notes=tuple(notes)))
    return replace(images[0], further=tuple(images[1:]))


def encode_tiff(image: Image) -> bytes:
    """The image and its further pages as a TIFF file with their metadata."""
    import tifffile

    pages = (image, *image.further)
    coding = image.metadata.tiff or TiffCoding()
    big = coding.big or sum(page.pixels.nbytes for page in pages) * 4 / 3 > _CLASSIC_LIMIT
    folders = [read_exif(page.metadata.exif) if page.metadata.exif else None for page in pages]
    order: Literal["<", ">"] = "<"
    if any(folder and folder.order == ">" for folder in folders):
        order = ">"  # that of the cameras' maker notes
    out = io.BytesIO()
    with tifffile.TiffWriter(out, bigtiff=big, byteorder=order) as file:
        for page, folder in zip(pages, folders, strict=True):
            _write_page(file, page, folder and in_order(folder, order), big)
    if not any(folder and folder.inner for folder in folders):
        return out.getvalue()
    data = bytearray(out.getbuffer())
    for places, folder in zip(_places(data, order, big), folders, strict=True):
        for code, inner in folder.inner if folder else ():
            place = places.get(code + _STAND_IN)
            if place is not None:
                data += bytes(len(data) % 2)
                struct.pack_into(order + "H", data, place, code)
                struct.pack_into(order + ("Q" if big else "I"), data, place + (12 if big else 8), len(data))
                data += folder_bytes(in_order(inner, order), len(data), big)
    return bytes(data)


def _write_page(file: TiffWriter, image: Image, exif: Folder | None, big: bool) -> None:
    metadata = image.metadata
    coding = metadata.tiff or TiffCoding()
    planes = image.pixels
    if image.alpha is not None:
        colours = _multiplied(planes, image.alpha) if coding.premultiplied else planes
        planes = np.concatenate([colours, image.alpha[:, :, None]], axis=2)
    extra = None
    if image.alpha is not None:
        kinds = {coding.unspecified: "unspecified", coding.premultiplied: "assocalpha"}
        extra = [kinds.get(True, "unassalpha")]
    # After an option that asked for more bits, JPEG cannot hold the result.
    lossy = coding.compression == _JPEG and image.alpha is None and image.pixels.dtype == np.uint8
    compression = _DEFLATE if coding.compression == _JPEG and not lossy else coding.compression
    arguments: dict[str, Any] | None = None
    subsampling = None
    if lossy:
        arguments = {"level": metadata.quality or coding.quality}
        subsampling = coding.subsampling if image.channels == 3 else None
    if planes.dtype == np.float32 and coding.float_bits != 32:
        wider = np.dtype(f"float{coding.float_bits}")
        planes = np.clip(planes, np.finfo(wider).min, np.finfo(wider).max).astype(wider)
    nodata = _written_nodata(image)
    without = image.without_data
    if nodata is not None and planes.dtype.kind == "f":
        colours = planes[:, :, : image.channels]
        colours = kept_off(colours, nodata, image.pixels)  # 16 bits round
        if without is not None:
            colours = np.where(without, nodata, colours)
        planes = np.concatenate([colours, planes[:, :, image.channels :]], axis=2)
    file.write(
        planes[:, :, 0] if planes.shape[2] == 1 else planes,
        photometric="rgb" if image.channels == 3 else "minisblack",
        planarconfig="contig" if planes.shape[2] > 1 else None,
        extrasamples=extra,
        compression=compression,
        compressionargs=arguments,
        subsampling=subsampling,
        predictor=coding.predictor and compression in _PREDICTED,
        tile=coding.tile,
        rowsperstrip=coding.rows if coding.tile is None else None,
        resolution=coding.resolution or metadata.dpi,
        resolutionunit=coding.resolution_unit if coding.resolution else _INCH if metadata.dpi else None,
        iccprofile=metadata.icc,
        extratags=list(_extra_tags(image, exif, big)),
        software=False,
        metadata=None,
        maxworkers=1,
    )


def _written_nodata(image: Image) -> Number | None:
    """The value that means "no data" in the type in which pixels are written; None where none does."""
    coding = image.metadata.tiff or TiffCoding()
    nodata = coding.nodata
    if nodata is None or nodata.dtype.kind != "f" or image.pixels.dtype != np.float32:
        return image.nodata
    written = np.dtype(f"float{coding.float_bits}")
    if np.isfinite(nodata):
        nodata = np.clip(nodata, np.finfo(written).min, np.finfo(written).max)
    value: Number = written.type(nodata)
    return value


def _extra_tags(
    image: Image, exif: Folder | None, big: bool
) -> Iterator[tuple[int, int, int, bytes | tuple[float, ...], bool]]:
    """(code, kind, count, values, True) of what tifffile does not know; pointers to EXIF are still 0."""
    metadata = image.metadata
    if metadata.xmp:
        yield _XMP, 1, len(metadata.xmp), metadata.xmp, True
    if metadata.iptc:
        yield _IPTC, _BYTES, len(metadata.iptc), metadata.iptc, True
    if exif:
        for tag in exif.tags:
            if tag.code in _DESCRIBING:
                yield tag.code, tag.kind, tag.count, tag.numbers(exif.order), True
    for kind, payload in metadata.blocks if metadata.format == "TIFF" else ():
        code, count = int.from_bytes(kind[:2], "big"), int.from_bytes(kind[3:], "big")
        if code == _TRANSFER_FUNCTION and not _fits_curves(count, image.pixels.dtype):
            continue  # an option asked for other bits
        yield code, kind[2], count, Tag(code, kind[2], count, payload).numbers("<"), True
    nodata = _written_nodata(image)
    if nodata is not None:
        text = repr(nodata.item()).removesuffix(".0").encode() + b"\0"
        yield _NODATA, _ASCII, len(text), text, True
    for code, _ in exif.inner if exif else ():
        if code in (EXIF_FOLDER, GPS_FOLDER):
            yield code + _STAND_IN, _LONG8 if big else _LONG, 1, (0,), True


def _places(data: bytearray, order: str, big: bool) -> Iterator[dict[int, int]]:
    """For each page of a file, where its tags stand: code → offset."""
    head, entry = ("Q", 20) if big else ("H", 12)
    pointer = order + ("Q" if big else "I")
    (offset,) = struct.unpack_from(pointer, data, 8 if big else 4)
    while offset:
        (count,) = struct.unpack_from(order + head, data, offset)
        start = offset + struct.calcsize("=" + head)
        yield {
            struct.unpack_from(order + "H", data, place)[0]: place
            for place in range(start, start + entry * count, entry)
        }
        (offset,) = struct.unpack_from(pointer, data, start + entry * count)


def _check_sizes(pages: list[TiffPage], max_pixels: int) -> None:
    for page in pages:
        check_size(page.imagewidth, page.imagelength, max_pixels)
    total = sum(page.imagewidth * page.imagelength for page in pages)
    if total > max_pixels:
        raise ImageError(f"has {total} pixels on {len(pages)} pages, the limit is {max_pixels}")


def _check_page(page: TiffPage, number: int, count: int, pages: list[TiffPage], data: bytes) -> None:
    """Refuse a page that would be read wrongly; where there are several, say which."""
    try:
        _check_kind(page)
        _check_whole(page, data)
        _check_planes(page, pages, data)
    except ImageError as error:
        if count == 1:
            raise
        raise ImageError(f"page {number} of {count}: {error}") from error


def _read_page(page: TiffPage, data: bytes, big: bool, order: str) -> Image:
    planes, has_alpha, nodata, notes = _planes(page)
    if _LAYERS in page.tags:
        notes += ("layers in the file are left out",)
    premultiplied = _is_premultiplied(page)
    coding, coding_notes = _coding(page, data, has_alpha, premultiplied, big)
    if coding.unspecified:
        notes += ("an extra channel that is not said to be alpha is carried through",)
    metadata = _metadata(page, data, big, order, (*notes, *coding_notes))
    orientation = _orientation(page)
    planes = turn_upright(planes, orientation)
    coding = replace(coding, nodata=nodata)
    if orientation >= 5:  # rows have become columns
        coding = replace(coding, resolution=coding.resolution and coding.resolution[::-1])
        metadata = replace(metadata, dpi=metadata.dpi and metadata.dpi[::-1])
    metadata = replace(metadata, tiff=coding, lossless=page.compression != _JPEG)
    colours = planes.shape[2] - has_alpha
    pixels = np.ascontiguousarray(planes[:, :, :colours])
    alpha = np.ascontiguousarray(planes[:, :, colours]) if has_alpha else None
    if premultiplied and alpha is not None:
        pixels = _divided(pixels, alpha)
    return Image(pixels, alpha, metadata)


def _on_one_scale(images: list[Image]) -> list[Image]:
    """Pages of floats on the scale that holds all of them, so that they stay comparable."""
    floats = [image for image in images if image.pixels.dtype == np.float32]
    if not floats:
        return images
    without = [image.without_data for image in floats]
    scales = [scale_of(image.pixels, mask) for image, mask in zip(floats, without, strict=True)]
    scale = min(low for low, _ in scales), max(high for _, high in scales)
    measured = [
        image.pixels if mask is None else image.pixels[~mask]
        for image, mask in zip(floats, without, strict=True)
    ]
    note = floats_note(measured, scale)
    images = [replace(image, scale=scale) if image.pixels.dtype == np.float32 else image for image in images]
    return [_with_note(images[0], note), *images[1:]] if note else images


def _with_note(image: Image, note: str) -> Image:
    return replace(image, metadata=replace(image.metadata, notes=(*image.metadata.notes, note)))


def _divided(pixels: Array, alpha: Array) -> Array:
    """Colours that were multiplied by alpha, without it; `_multiplied` gives them back exactly."""
    peak = 1.0 if pixels.dtype == np.float32 else float(np.iinfo(pixels.dtype).max)
    shares = np.where(alpha == 0, peak, alpha)[:, :, None] / peak
    if pixels.dtype == np.float32:
        return (pixels / shares).astype(np.float32)
    if (pixels > alpha[:, :, None]).any():
        raise ImageError("damaged TIFF: colours that are multiplied by alpha exceed it")
    return np.rint(pixels / shares).astype(pixels.dtype)


def _multiplied(pixels: Array, alpha: Array) -> Array:
    """The inverse of `_divided`; colours under full transparency become 0."""
    peak = 1.0 if pixels.dtype == np.float32 else float(np.iinfo(pixels.dtype).max)
    product = pixels * (alpha[:, :, None] / peak)
    return (product if pixels.dtype == np.float32 else np.rint(product)).astype(pixels.dtype)


def _coding(
    page: TiffPage, data: bytes, has_alpha: bool, premultiplied: bool, big: bool
) -> tuple[TiffCoding, tuple[str, ...]]:
    """How the page was stored, as near as it is written again, and a note where that is not near."""
    compression = _DEFLATE if page.compression == _OLD_DEFLATE else int(page.compression)
    notes: tuple[str, ...] = ()
    if compression not in _WRITTEN or (compression == _JPEG and has_alpha):
        notes = (f"compression {_name(page.compression)} written as Deflate",)
        compression = _DEFLATE
    tile = (page.tilelength, page.tilewidth) if page.is_tiled else None
    if tile and any(side % 16 for side in tile):
        tile = None
    rows = page.rowsperstrip if tile is None and 0 < page.rowsperstrip < page.imagelength else None
    if compression == _JPEG and rows and rows % 16:
        rows = (rows + 15) // 16 * 16
    quality = None
    if compression == _JPEG:
        first = data[page.dataoffsets[0] : page.dataoffsets[0] + page.databytecounts[0]]
        quality = quality_of_stream(page.jpegtables or b"") or quality_of_stream(first)
    subsampling = (1, 1)  # where JPEG held RGB too: it is written as YCbCr
    if page.photometric == _YCBCR and page.subsampling in ((2, 1), (2, 2)):
        subsampling = (int(page.subsampling[0]), int(page.subsampling[1]))
    resolution, unit = _resolution(page)
    coding = TiffCoding(
        compression=compression,
        predictor=page.predictor != 1 if page.compression in _PREDICTED else True,
        tile=tile,
        rows=rows,
        quality=quality or 95,
        subsampling=subsampling,
        premultiplied=premultiplied,
        unspecified=bool(has_alpha and page.extrasamples[0] == _UNSPECIFIED),
        big=big,
        float_bits=_FLOATS.get(str(page.dtype), 32),
        resolution=resolution,
        resolution_unit=unit,
    )
    return coding, notes


def _check_kind(page: TiffPage) -> None:
    """Refuse what would be read wrongly."""
    if page.imagedepth != 1:
        raise ImageError(f"is a TIFF of depth {page.imagedepth}, only flat pictures are supported")
    _check_compression(page)
    kind = page.photometric
    if kind not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _INKS) and not (
        kind == _YCBCR and page.compression == _JPEG
    ):
        raise ImageError(f"is a TIFF of colour kind {_name(kind)}, which is not supported")
    if page.dtype is None or page.dtype.kind not in "buf":
        raise ImageError(f"is a TIFF of {page.dtype} numbers, which are not supported")
    if page.dtype.name not in ("bool", "uint8", "uint16", *_FLOATS):
        raise ImageError(f"is a TIFF of {page.dtype} numbers, only 1 to 16 bits and floats are supported")
    if kind == _INKS:
        _check_inks(page)
        return
    colours = 1 if kind in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _PALETTE) else 3
    extra = page.samplesperpixel - colours
    if extra < 0 or extra > 1 or len(page.extrasamples) > 1:
        raise ImageError(f"is a TIFF of {page.samplesperpixel} channels, which is not supported")
    if extra and (not page.extrasamples or (colours == 1 and page.extrasamples[0] == _UNSPECIFIED)):
        raise ImageError("is a TIFF of two channels of which none is said to be alpha")


def _check_compression(page: TiffPage) -> None:
    """Refuse a compression that nothing here decodes; else it would read as damage."""
    import tifffile

    number = int(page.compression)
    try:
        tifffile.TIFF.DECOMPRESSORS[number]
        known = number != _JETRAW and (number not in _EER or page.parent.is_eer)
    except KeyError:
        known = False
    if known:
        return
    name = _name(page.compression)
    named = name if name == str(number) else f"{name} ({number})"
    raise ImageError(f"is a TIFF of compression {named}, which is not supported")


def _check_inks(page: TiffPage) -> None:
    """Refuse other inks than plain CMYK, with or without alpha."""
    if page.tags.valueof(_INK_SET, _CMYK) != _CMYK:
        raise ImageError("is a TIFF of other inks than CMYK, which are not supported")
    if page.bitspersample not in (8, 16) or page.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"is a CMYK TIFF of {page.bitspersample} bits, only 8 and 16 are supported")
    if page.compression == _JPEG:
        raise ImageError("is a CMYK TIFF of JPEG, which is not supported: programs disagree on its colours")
    extra = page.samplesperpixel - 4
    if extra < 0 or extra > 1 or (extra == 1 and tuple(page.extrasamples) != (_PLAIN_ALPHA,)):
        raise ImageError(f"is a CMYK TIFF of {page.samplesperpixel} channels, which is not supported")


def _check_whole(page: TiffPage, data: bytes) -> None:
    """Refuse a file that ends before its strips or tiles do: tifffile would fill in zeros."""
    if not page.dataoffsets:
        raise ImageError("damaged TIFF: it has no strips or tiles")
    if len(page.dataoffsets) != len(page.databytecounts):
        raise ImageError("damaged TIFF: offsets and lengths of its strips do not match")
    if len(page.dataoffsets) < math.prod(page.chunked):
        # A header of a few bytes could else ask for gigabytes of zeros.
        raise ImageError("damaged TIFF: it has fewer strips or tiles than its size needs")
    for tag in page.tags:
        if tag.valueoffset + tag.valuebytecount > len(data):
            raise ImageError("TIFF is cut short")
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        if offset <= 0 or count <= 0 or offset + count > len(data):
            raise ImageError("TIFF is cut short")
        if page.compression == _JPEG:
            # Its tables, which the pieces share, stand between the marks of start and end.
            tables = (page.jpegtables or b"\xff\xd8\xff\xd9")[:-2]
            check_whole(tables + data[offset + 2 : offset + count])


def _check_planes(page: TiffPage, pages: list[TiffPage], data: bytes) -> None:
    """Refuse a stack of which only the first plane has a page: the others stand behind it without tags.

    What a description says alone does not count, it may be left over from the file that this was made from.
    """
    planes = _planes_said(page)
    if planes < 2 or not page.is_contiguous:
        return
    second = page.dataoffsets[0] + page.nbytes
    others = {other.dataoffsets[0] for other in pages if other.dataoffsets}
    if second + page.nbytes <= len(data) and not any(second <= at < second + page.nbytes for at in others):
        raise ImageError(f"is a TIFF of {planes} planes under one page, the limit is 1")


def _planes_said(page: TiffPage) -> int:
    """How many planes follow each other from a page's first on, as MetaMorph, ImageJ and tifffile tell it."""
    if _PLANES_OF_STK in page.tags:
        return int(page.tags[_PLANES_OF_STK].count)
    images = _IMAGES.search(page.imagej_description or "")
    if images:
        return int(images[1])
    shape = _SHAPE.match(page.shaped_description or "")
    if not shape:
        return 1
    sides = [int(side) for side in re.findall(r"\d+", shape[1])]
    return math.prod(sides) // (page.imagewidth * page.imagelength * page.samplesperpixel)


def _planes(page: TiffPage) -> tuple[Array, bool, Number | None, tuple[str, ...]]:
    """What a page's pixels are.

    Returns:
        pixels H×W×(colours and alpha) as uint8, uint16 or finite float32; whether the last channel is alpha;
        the value that means "no data", as `TiffCoding` has it; notes.
    """
    raw = np.asarray(page.asarray(maxworkers=1))
    if page.planarconfig == _SEPARATE_PLANES and raw.ndim == 3:
        raw = np.moveaxis(raw, 0, 2)
    planes = raw[:, :, None] if raw.ndim == 2 else raw
    if planes.shape[:2] != (page.imagelength, page.imagewidth) or planes.ndim != 3:
        raise ImageError("damaged TIFF: the pixels do not match the header")
    if page.photometric == _PALETTE:
        colours = np.asarray(page.colormap)
        if planes.shape[2] != 1 or planes.max() >= colours.shape[1]:
            raise ImageError("damaged TIFF: a pixel lies outside the palette")
        table = (colours.T >> 8).astype(np.uint8)  # right for writers that scale by 256 and by 257
        return table[planes[:, :, 0]], False, None, ("palette image read as RGB",)

    notes: tuple[str, ...] = ()
    bits = page.bitspersample
    if page.photometric == _INKS:
        profile = page.tags.valueof(_PROFILE)
        colours = srgb_of_inks(planes[:, :, :4], profile if isinstance(profile, bytes) else None)
        colours = np.concatenate([colours, planes[:, :, 4:]], axis=2)
        return colours, planes.shape[2] == 5, None, (INKS_NOTE,)
    has_alpha = page.samplesperpixel in (2, 4)
    nodata = _nodata(page)
    without = None
    if planes.dtype.kind == "f":
        if planes.dtype == np.float64:
            notes = ("64-bit numbers restored in 32",)
        if nodata is not None:
            without = np.isnan(planes) if np.isnan(nodata) else planes == nodata
            without[:, :, planes.shape[2] - has_alpha :] = False
            nodata = np.float64(nodata)
        with np.errstate(over="ignore"):  # what overflows is found below
            planes = planes.astype(np.float32)
        if without is not None:
            planes[without] = 0
        if not np.isfinite(planes).all():
            raise ImageError("is a TIFF with pixels that are no finite numbers")
    elif bits not in (8, 16):
        planes = widened(planes, bits)
        nodata = None if nodata is None else widened(np.array([nodata]), bits)[0]
        notes = (f"{bits} bits a channel read as {8 if bits < 8 else 16}",) if bits > 1 else ()
    if page.photometric == _WHITE_IS_ZERO:
        peak = 1.0 if planes.dtype == np.float32 else np.iinfo(planes.dtype).max
        planes = planes.copy()
        planes[:, :, 0] = peak - planes[:, :, 0]
        nodata = None if nodata is None else nodata.dtype.type(peak - nodata)
    if without is not None and nodata is not None:
        planes[without] = nodata_in(nodata, planes.dtype)
    return planes, has_alpha, nodata, notes


def _nodata(page: TiffPage) -> Number | None:
    """The value that means "no data" in the type in which a page is stored (GDAL); None where none can."""
    text, dtype = page.tags.valueof(_NODATA), np.dtype(page.dtype)
    if not isinstance(text, str) or page.photometric in (_PALETTE, _INKS) or _is_premultiplied(page):
        return None
    try:
        number = float(text.strip("\0 "))
    except ValueError:
        return None
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            value: Number = dtype.type(number)
        return value if np.isfinite(value) or not math.isfinite(number) else None
    if not number.is_integer() or not 0 <= number < 2**page.bitspersample:
        return None
    return np.uint16(number) if page.bitspersample > 8 else np.uint8(number)


def _is_premultiplied(page: TiffPage) -> bool:
    """Whether colours are stored multiplied by an alpha channel."""
    return page.samplesperpixel in (2, 4) and tuple(page.extrasamples[:1]) == (_ASSOCIATED_ALPHA,)


def _kept(page: TiffPage) -> frozenset[int]:
    """Those of `_KEPT` that are right, as they are, for the pixels as they are read."""
    dtype = np.dtype(page.dtype)
    few = dtype.kind != "f" and page.bitspersample not in (8, 16)
    others = few or page.photometric in (_PALETTE, _INKS, _WHITE_IS_ZERO)
    wrong = {_WHITE_POINT, _PRIMARIES} if page.photometric == _INKS else set()
    curves = page.tags.get(_TRANSFER_FUNCTION)
    if others or (curves is not None and not _fits_curves(curves.count, dtype)):
        wrong.add(_TRANSFER_FUNCTION)
    if others or _nodata(page) is not None:  # which is written from `TiffCoding`
        wrong.add(_NODATA)
    return frozenset(_KEPT) - wrong


def _fits_curves(count: int, dtype: np.dtype[Any]) -> bool:
    """Whether a transfer function of so many numbers has one, or one a channel, for each value of pixels."""
    values = 2 ** (8 * dtype.itemsize)
    return dtype.kind == "u" and count in (values, 3 * values)


def _left_out(page: TiffPage) -> set[int]:
    """Numbers of the tags that are not written back, and of whose loss no other note tells."""
    written = _kept(page) if _nodata(page) is None else _kept(page) | {_NODATA}
    return {tag.code for tag in page.tags} - _DESCRIBING - _CARRIED - _STORAGE - written


def _metadata(page: TiffPage, data: bytes, big: bool, order: str, notes: tuple[str, ...]) -> Metadata:
    """Everything beside the pixels."""
    folder = read_folder(data, page.offset, order, big)
    tags = {tag.code: tag for tag in folder.tags}

    def raw(code: int) -> bytes | None:
        return tags[code].values if code in tags else None

    blocks = []
    kept = _kept(page)
    for code in _KEPT:
        tag = tags.get(code)
        if tag is None or code not in kept:
            continue
        if code == _PHOTOSHOP:
            values = without_thumbnails(tag.values)
            tag = replace(tag, kind=_BYTES, count=len(values), values=values)
        (tag,) = in_order(Folder(order, (tag,)), "<").tags
        kind = code.to_bytes(2, "big") + bytes([tag.kind]) + tag.count.to_bytes(8, "big")
        blocks.append((kind, tag.values))
    described = folder.only(_DESCRIBING | {_ORIENTATION})
    exif = None
    if described.inner or any(tag.code in _DESCRIBING for tag in described.tags):
        exif = upright_exif(exif_block(described))
    if any(tag.code == MAKER_NOTE for _, inner in folder.inner for tag in inner.tags):
        notes += ("the camera's maker notes move, offsets in them may no longer be right",)
    xmp, resources = raw(_XMP), raw(_PHOTOSHOP)
    return Metadata(
        "TIFF",
        icc=raw(_PROFILE) if page.photometric != _INKS else None,
        exif=exif,
        xmp=xmp_of_turned(xmp, _orientation(page)),
        iptc=raw(_IPTC) or (iptc_of(resources) if resources else None),
        dpi=_dpi(page),
        blocks=tuple(blocks),
        notes=notes,
    )


def _resolution(page: TiffPage) -> tuple[Resolution | None, int]:
    """The resolution of the stored picture and its unit, as `TiffCoding` has them."""
    unit = page.tags.valueof(_RESOLUTION_UNIT, _INCH)
    sides = tuple(page.tags.valueof(code) for code in (_X_RESOLUTION, _Y_RESOLUTION))
    stated = isinstance(unit, int) and _NO_UNIT <= unit <= _MICROMETRE and all(map(_is_fraction, sides))
    if not stated or (sides == ((1, 1), (1, 1)) and unit == _NO_UNIT):  # the latter states nothing
        return None, _NO_UNIT
    return sides, int(unit)


def _is_fraction(value: object) -> bool:
    if not isinstance(value, tuple) or len(value) != 2:
        return False
    return all(isinstance(part, int) and 0 <= part < 2**32 for part in value) and value[1] > 0


def _dpi(page: TiffPage) -> tuple[float, float] | None:
    sides, unit = _resolution(page)
    if sides is None or unit not in (_INCH, _CENTIMETRE):
        return None
    x, y = (side[0] / side[1] * (1 if unit == _INCH else 2.54) for side in sides)
    return plausible_dpi(x, y)


def _orientation(page: TiffPage) -> int:
    value = page.tags.valueof(_ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _name(value: object) -> str:
    return str(getattr(value, "name", value))
