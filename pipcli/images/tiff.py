"""TIFF 6.0 and BigTIFF, of one page or many: grey, RGB, CMYK, palette, alpha; 1 to 16 bits and floats.

tifffile reads strips, tiles and their compressions, and writes the pages with that of their source, where it
is one that every reader knows; EXIF goes in and out through `folders`. Up to 8 bits come out as 8, 9 to 16
as 16; a palette and CMYK come out as RGB. Floats of 16 and 64 bits are restored in 32, and written back.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pipcli.errors import ImageError
from pipcli.images.exif import turn_upright, upright_exif, upright_xmp
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
from pipcli.images.image import Array, Image, Metadata, TiffCoding, plausible_dpi
from pipcli.images.inks import INKS_NOTE, srgb_of_inks
from pipcli.images.jpeg import check_whole, quality_of_stream
from pipcli.images.limits import check_size
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
_KEPT = (285, 33550, 33922, 34264, _PHOTOSHOP, 34735, 34736, 34737, 42112, 42113)
"""Tags written back to a TIFF alone: page name, those of GeoTIFF and GDAL, Photoshop's resources."""
_STAND_IN = 1
"""Added to the codes of pointers to EXIF and GPS, which tifffile does not write, until it is done; no tags
have these codes."""
_BYTES, _LONG, _LONG8 = 7, 4, 16

# The values of tags that are told apart here (TIFF 6.0, sections 4 to 8 and 18).
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _INKS, _YCBCR = 0, 1, 2, 3, 5, 6
_INK_SET, _CMYK = 332, 1
_JPEG, _DEFLATE, _OLD_DEFLATE = 7, 8, 32946
_WRITTEN = (1, 5, _JPEG, _DEFLATE, 32773, 34925, 50000)
_PREDICTED = (5, _DEFLATE, 34925, 50000)
_SEPARATE_PLANES = 2
_UNSPECIFIED, _ASSOCIATED_ALPHA, _PLAIN_ALPHA = 0, 1, 2
_FLOATS = {"float16": 16, "float32": 32, "float64": 64}
_MASK = 4

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
                _check_page(page, number, len(wholes), data)
            images = [_read_page(page, data, file.is_bigtiff, file.byteorder) for page in wholes]
            if len(pages) > len(wholes) or any(_FURTHER_PAGES in page.tags for page in wholes):
                images[0] = _with_note(images[0], "previews in the file are left out")
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
        resolution=metadata.dpi,
        resolutionunit="inch" if metadata.dpi else None,
        iccprofile=metadata.icc,
        extratags=list(_extra_tags(metadata, exif, big)),
        software=False,
        metadata=None,
        maxworkers=1,
    )


def _extra_tags(
    metadata: Metadata, exif: Folder | None, big: bool
) -> Iterator[tuple[int, int, int, bytes | tuple[float, ...], bool]]:
    """(code, kind, count, values, True) of what tifffile does not know; pointers to EXIF are still 0."""
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
        yield code, kind[2], count, Tag(code, kind[2], count, payload).numbers("<"), True
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


def _check_page(page: TiffPage, number: int, count: int, data: bytes) -> None:
    """Refuse a page that would be read wrongly; where there are several, say which."""
    try:
        _check_kind(page)
        _check_whole(page, data)
    except ImageError as error:
        if count == 1:
            raise
        raise ImageError(f"page {number} of {count}: {error}") from error


def _read_page(page: TiffPage, data: bytes, big: bool, order: str) -> Image:
    planes, has_alpha, notes = _planes(page)
    if _LAYERS in page.tags:
        notes += ("layers in the file are left out",)
    premultiplied = bool(has_alpha and page.extrasamples[0] == _ASSOCIATED_ALPHA)
    coding, coding_notes = _coding(page, data, has_alpha, premultiplied, big)
    if coding.unspecified:
        notes += ("an extra channel that is not said to be alpha is carried through",)
    metadata = _metadata(page, data, big, order, (*notes, *coding_notes))
    metadata = replace(metadata, tiff=coding, lossless=page.compression != _JPEG)
    orientation = _orientation(page)
    planes = turn_upright(planes, orientation)
    if metadata.dpi and orientation >= 5:  # rows have become columns
        metadata = replace(metadata, dpi=(metadata.dpi[1], metadata.dpi[0]))
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
    scales = [scale_of(image.pixels) for image in floats]
    scale = min(low for low, _ in scales), max(high for _, high in scales)
    note = floats_note([image.pixels for image in floats], scale)
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
    )
    return coding, notes


def _check_kind(page: TiffPage) -> None:
    """Refuse what would be read wrongly."""
    if page.imagedepth != 1:
        raise ImageError(f"is a TIFF of depth {page.imagedepth}, only flat pictures are supported")
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


def _planes(page: TiffPage) -> tuple[Array, bool, tuple[str, ...]]:
    """Pixels H×W×(colours and alpha) as uint8, uint16 or float32, whether the last is alpha, and notes."""
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
        return table[planes[:, :, 0]], False, ("palette image read as RGB",)

    notes: tuple[str, ...] = ()
    bits = page.bitspersample
    if page.photometric == _INKS:
        profile = page.tags.valueof(_PROFILE)
        colours = srgb_of_inks(planes[:, :, :4], profile if isinstance(profile, bytes) else None)
        return np.concatenate([colours, planes[:, :, 4:]], axis=2), planes.shape[2] == 5, (INKS_NOTE,)
    if planes.dtype.kind == "f":
        if planes.dtype == np.float64:
            notes = ("64-bit numbers restored in 32",)
        with np.errstate(over="ignore"):  # what overflows is found below
            planes = planes.astype(np.float32)
        if not np.isfinite(planes).all():
            raise ImageError("is a TIFF with pixels that are no finite numbers")
    elif bits not in (8, 16):
        planes = widened(planes, bits)
        notes = (f"{bits} bits a channel read as {8 if bits < 8 else 16}",) if bits > 1 else ()
    has_alpha = page.samplesperpixel in (2, 4)
    if page.photometric == _WHITE_IS_ZERO:
        peak = 1.0 if planes.dtype == np.float32 else np.iinfo(planes.dtype).max
        planes = planes.copy()
        planes[:, :, 0] = peak - planes[:, :, 0]
    return planes, has_alpha, notes


def _metadata(page: TiffPage, data: bytes, big: bool, order: str, notes: tuple[str, ...]) -> Metadata:
    """Everything beside the pixels."""
    folder = read_folder(data, page.offset, order, big)
    tags = {tag.code: tag for tag in folder.tags}

    def raw(code: int) -> bytes | None:
        return tags[code].values if code in tags else None

    blocks = []
    for code in _KEPT:
        tag = tags.get(code)
        if tag is None:
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
        xmp=upright_xmp(xmp, _orientation(page)) if xmp else None,
        iptc=raw(_IPTC) or (iptc_of(resources) if resources else None),
        dpi=_dpi(page),
        blocks=tuple(blocks),
        notes=notes,
    )


def _dpi(page: TiffPage) -> tuple[float, float] | None:
    unit = page.tags.valueof(_RESOLUTION_UNIT, 2)
    sides = [page.tags.valueof(code) for code in (_X_RESOLUTION, _Y_RESOLUTION)]
    if unit not in (2, 3) or not all(
        isinstance(side, tuple) and len(side) == 2 and all(side) for side in sides
    ):
        return None
    x, y = (side[0] / side[1] * (1 if unit == 2 else 2.54) for side in sides)
    return plausible_dpi(x, y)


def _orientation(page: TiffPage) -> int:
    value = page.tags.valueof(_ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _name(value: object) -> str:
    return str(getattr(value, "name", value))
