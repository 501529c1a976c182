"""TIFF 6.0 and BigTIFF, of one page or many: grey, RGB, CMYK, palette, alpha; 1 to 16 bits and floats.

tifffile reads strips, tiles and their compressions, and writes the pages with that of their source, where it
is one that every reader knows; EXIF goes in and out through `folders`. Up to 8 bits come out as 8, 9 to 16
as 16; a palette and CMYK come out as RGB. Floats of 16 and 64 bits are restored in 32, and written back.
Samples of 16 bits of which MaxSampleValue says that fewer are in use are restored as those, and written back.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from pipcli.errors import ImageError
from pipcli.images.exif import turn_upright, upright_exif, xmp_of_turned
from pipcli.images.floats import floats_note, scale_of
from pipcli.images.folders import (
    EXIF_FOLDER,
    GPS_FOLDER,
    Folder,
    Tag,
    exif_block,
    folder_bytes,
    in_order,
    read_exif,
    read_folder,
)
from pipcli.images.image import Array, Image, Metadata, TiffCoding
from pipcli.images.inks import INKS_NOTE, srgb_of_inks
from pipcli.images.jpeg import quality_of_stream
from pipcli.images.nodata import Number, kept_off, nodata_in
from pipcli.images.photoshop import iptc_of, without_thumbnails
from pipcli.images.samples import depth_note, narrowed, widened
from pipcli.images.tiff_checks import check_page, check_sizes
from pipcli.images.tiff_tags import (
    BLACK_IS_ZERO,
    DEFLATE,
    DESCRIBING,
    FLOATS,
    FURTHER_PAGES,
    INCH,
    INKS,
    IPTC,
    JPEG,
    KEPT,
    LAYERS,
    MAKER_NOTES_MOVE,
    MAX_SAMPLE_VALUE,
    MIN_SAMPLE_VALUE,
    NO_UNIT,
    NODATA,
    OLD_DEFLATE,
    ORIENTATION,
    PALETTE,
    PHOTOSHOP,
    PROFILE,
    RGB,
    TRANSFER_FUNCTION,
    UNSPECIFIED,
    WHITE_IS_ZERO,
    XMP,
    YCBCR,
    aspect_of,
    dpi_of,
    fits_curves,
    is_georeferenced,
    is_premultiplied,
    kept_tags,
    left_out_note,
    left_out_tags,
    name_of,
    nodata_of,
    orientation_of,
    stated_resolution,
    used_bits_of,
)

if TYPE_CHECKING:
    from tifffile import TiffPage, TiffWriter

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_STAND_IN = 1
"""Added to the codes of pointers to EXIF and GPS, which tifffile does not write, until it is done; no tags
have these codes."""
_ASCII, _SHORT, _BYTES, _LONG, _LONG8 = 2, 3, 7, 4, 16
_WRITTEN = (1, 5, JPEG, DEFLATE, 32773, 34925, 50000)
_PREDICTED = (5, DEFLATE, 34925, 50000)
_SEPARATE_PLANES = 2
_MASK = 4

_CLASSIC_LIMIT = 2**32 - 2**26
"""Bytes of pixels from which on a BigTIFF is written, whatever the source was."""
_MOST_PAGES = 10_000
_DARK = 2**12
"""Samples of 16 bits that are all below this may be of a camera that gives fewer."""


class _Planes(NamedTuple):
    """What a page's pixels are.

    ``samples`` are H×W×(colours and alpha) as uint8, uint16 or finite float32; ``nodata`` and ``used_bits``
    are as `TiffCoding` has them.
    """

    samples: Array
    has_alpha: bool = False
    nodata: Number | None = None
    used_bits: int | None = None
    notes: tuple[str, ...] = ()


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
            check_sizes(wholes, max_pixels)
            for number, page in enumerate(wholes, start=1):
                check_page(page, number, len(wholes), pages, data)
            images = [_read_page(page, data, file.is_bigtiff, file.byteorder) for page in wholes]
            if len({_used_bits(image) for image in images if image.pixels.dtype == np.uint16}) > 1:
                # Pages stay comparable only where white is one number on all of them.
                images = [_read_page(page, data, file.is_bigtiff, file.byteorder, False) for page in wholes]
            if _are_dark(wholes, images):
                images[0] = _with_note(images[0], _dark_note(images))
            if len(pages) > len(wholes) or any(FURTHER_PAGES in page.tags for page in wholes):
                images[0] = _with_note(images[0], "previews in the file are left out")
            left_out = {code for page in wholes for code in left_out_tags(page)}
            if left_out:
                images[0] = _with_note(images[0], left_out_note(left_out))
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
    lossy = coding.compression == JPEG and image.alpha is None and image.pixels.dtype == np.uint8
    compression = DEFLATE if coding.compression == JPEG and not lossy else coding.compression
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
    used_bits = _used_bits(image)
    if used_bits is not None:
        planes = _narrowed(planes, image, used_bits)
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
        resolution=coding.resolution or metadata.dpi or metadata.aspect,
        resolutionunit=coding.resolution_unit if coding.resolution else INCH if metadata.dpi else NO_UNIT,
        iccprofile=metadata.icc,
        extratags=list(_extra_tags(image, exif, big)),
        software=False,
        metadata=None,
        maxworkers=1,
    )


def _used_bits(image: Image) -> int | None:
    """The bits in use of the 16 in which samples are stored; None for all, and in other types."""
    coding = image.metadata.tiff
    return None if coding is None or image.pixels.dtype != np.uint16 else coding.used_bits


def _narrowed(planes: Array, image: Image, bits: int) -> Array:
    """Planes of 16 bits as samples of fewer; none comes to mean "no data" but where there are none."""
    samples = narrowed(planes, bits)
    nodata, written = image.nodata, _written_nodata(image)
    if nodata is None or written is None:
        return samples
    # What several numbers of 16 bits become one of must still be told apart from it.
    before = image.pixels.astype(np.int32) - int(nodata) + int(written)
    colours = kept_off(samples[:, :, : image.channels], written, before)
    return np.concatenate([colours, samples[:, :, image.channels :]], axis=2)


def _written_nodata(image: Image) -> Number | None:
    """The value that means "no data" in the type in which pixels are written; None where none does."""
    coding = image.metadata.tiff or TiffCoding()
    nodata, used_bits = coding.nodata, _used_bits(image)
    if used_bits is not None and image.nodata is not None:
        narrow: Number = narrowed(np.array([image.nodata]), used_bits)[0]
        return narrow
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
        yield XMP, 1, len(metadata.xmp), metadata.xmp, True
    if metadata.iptc:
        yield IPTC, _BYTES, len(metadata.iptc), metadata.iptc, True
    if exif:
        for tag in exif.tags:
            if tag.code in DESCRIBING:
                yield tag.code, tag.kind, tag.count, tag.numbers(exif.order), True
    for kind, payload in metadata.blocks if metadata.format == "TIFF" else ():
        code, count = int.from_bytes(kind[:2], "big"), int.from_bytes(kind[3:], "big")
        if code == TRANSFER_FUNCTION and not fits_curves(count, image.pixels.dtype):
            continue  # an option asked for other bits
        yield code, kind[2], count, Tag(code, kind[2], count, payload).numbers("<"), True
    if metadata.tiff is not None and metadata.tiff.orientation != 1:
        yield ORIENTATION, _SHORT, 1, (metadata.tiff.orientation,), True
    used_bits = _used_bits(image)
    if used_bits is not None:
        count = image.channels + (image.alpha is not None)
        yield MIN_SAMPLE_VALUE, _SHORT, count, (0,) * count, True
        yield MAX_SAMPLE_VALUE, _SHORT, count, (2**used_bits - 1,) * count, True
    nodata = _written_nodata(image)
    if nodata is not None:
        text = repr(nodata.item()).removesuffix(".0").encode() + b"\0"
        yield NODATA, _ASCII, len(text), text, True
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


def _read_page(page: TiffPage, data: bytes, big: bool, order: str, by_white: bool = True) -> Image:
    """A page as an image; by_white: whether its MaxSampleValue counts."""
    samples, has_alpha, nodata, used_bits, notes = _planes(page, by_white)
    if LAYERS in page.tags:
        notes += ("layers in the file are left out",)
    premultiplied = is_premultiplied(page)
    coding, coding_notes = _coding(page, data, has_alpha, premultiplied, big)
    if coding.unspecified:
        notes += ("an extra channel that is not said to be alpha is carried through",)
    metadata = _metadata(page, data, big, order, (*notes, *coding_notes))
    coding = replace(coding, nodata=nodata, used_bits=used_bits, orientation=orientation_of(page))
    metadata = replace(
        metadata,
        tiff=coding,
        lossless=page.compression != JPEG,
        depth=used_bits if used_bits is not None and used_bits > 8 else None,
    )
    colours = samples.shape[2] - has_alpha
    pixels = np.ascontiguousarray(samples[:, :, :colours])
    alpha = np.ascontiguousarray(samples[:, :, colours]) if has_alpha else None
    if premultiplied and alpha is not None:
        pixels = _divided(pixels, alpha)
    image = Image(pixels, alpha, metadata)
    return image if is_georeferenced(page) and coding.orientation != 1 else upright(image)


def upright(image: Image) -> Image:
    """The image turned as its `TiffCoding.orientation` asks, which is then 1; as it is where it has none."""
    metadata, coding = image.metadata, image.metadata.tiff
    if coding is None:
        return image
    orientation = coding.orientation
    dpi, aspect, resolution = metadata.dpi, metadata.aspect, coding.resolution
    if orientation >= 5:  # rows become columns
        dpi, aspect = dpi and (dpi[1], dpi[0]), aspect and (aspect[1], aspect[0])
        resolution = resolution and (resolution[1], resolution[0])
    metadata = replace(
        metadata,
        exif=upright_exif(metadata.exif) if metadata.exif else None,
        xmp=xmp_of_turned(metadata.xmp, orientation),
        dpi=dpi,
        aspect=aspect,
        tiff=replace(coding, resolution=resolution, orientation=1),
    )
    return replace(
        image,
        pixels=np.ascontiguousarray(turn_upright(image.pixels, orientation)),
        alpha=None if image.alpha is None else np.ascontiguousarray(turn_upright(image.alpha, orientation)),
        metadata=metadata,
    )


def _are_dark(pages: list[TiffPage], images: list[Image]) -> bool:
    """Whether samples are of 16 bits but use no more than 12, and nothing is said of that."""
    deep = [
        (page, image)
        for page, image in zip(pages, images, strict=True)
        if page.bitspersample == 16 and image.pixels.dtype == np.uint16
    ]
    said = any(
        MAX_SAMPLE_VALUE in page.tags or page.photometric not in (BLACK_IS_ZERO, RGB) for page, _ in deep
    )
    return bool(deep) and not said and 0 < max(_highest(image) for _, image in deep) < _DARK


def _highest(image: Image) -> int:
    """The highest sample of whole numbers, alpha's too."""
    return max(int(image.pixels.max()), 0 if image.alpha is None else int(image.alpha.max()))


def _dark_note(images: list[Image]) -> str:
    highest = max(_highest(image) for image in images if image.pixels.dtype == np.uint16)
    return (
        f"uses at most {highest} of 65535, taken as a dark picture of 16 bits: "
        "MaxSampleValue (tag 281) would say how many are in use"
    )


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
    """Colours that were multiplied by alpha, without it; `_multiplied` gives them back.

    Whole numbers exactly, floats but for their rounding. Floats where alpha is 0 are light that hides nothing
    behind it, such as a flame's, and stay as they are; of whole numbers there can be none.
    """
    peak = 1.0 if pixels.dtype == np.float32 else float(np.iinfo(pixels.dtype).max)
    shares = np.where(alpha == 0, peak, alpha)[:, :, None] / peak
    if pixels.dtype == np.float32:
        return (pixels / shares).astype(np.float32)
    if (pixels > alpha[:, :, None]).any():
        raise ImageError("damaged TIFF: colours that are multiplied by alpha exceed it")
    return np.rint(pixels / shares).astype(pixels.dtype)


def _multiplied(pixels: Array, alpha: Array) -> Array:
    """The inverse of `_divided`; whole numbers under full transparency become 0."""
    if pixels.dtype == np.float32:
        light: Array = pixels * np.where(alpha == 0, np.float32(1), alpha)[:, :, None]
        return light
    peak = float(np.iinfo(pixels.dtype).max)
    return np.rint(pixels * (alpha[:, :, None] / peak)).astype(pixels.dtype)


def _coding(
    page: TiffPage, data: bytes, has_alpha: bool, premultiplied: bool, big: bool
) -> tuple[TiffCoding, tuple[str, ...]]:
    """How the page was stored, as near as it is written again, and a note where that is not near."""
    compression = DEFLATE if page.compression == OLD_DEFLATE else int(page.compression)
    notes: tuple[str, ...] = ()
    if compression not in _WRITTEN or (compression == JPEG and has_alpha):
        notes = (f"compression {name_of(page.compression)} written as Deflate",)
        compression = DEFLATE
    tile = (page.tilelength, page.tilewidth) if page.is_tiled else None
    if tile and any(side % 16 for side in tile):
        tile = None
    rows = page.rowsperstrip if tile is None and 0 < page.rowsperstrip < page.imagelength else None
    if compression == JPEG and rows and rows % 16:
        rows = (rows + 15) // 16 * 16
    quality = None
    if compression == JPEG:
        first = data[page.dataoffsets[0] : page.dataoffsets[0] + page.databytecounts[0]]
        quality = quality_of_stream(page.jpegtables or b"") or quality_of_stream(first)
    subsampling = (1, 1)  # where JPEG held RGB too: it is written as YCbCr
    if page.photometric == YCBCR and page.subsampling in ((2, 1), (2, 2)):
        subsampling = (int(page.subsampling[0]), int(page.subsampling[1]))
    resolution, unit = stated_resolution(page)
    coding = TiffCoding(
        compression=compression,
        predictor=page.predictor != 1 if page.compression in _PREDICTED else True,
        tile=tile,
        rows=rows,
        quality=quality or 95,
        subsampling=subsampling,
        premultiplied=premultiplied,
        unspecified=bool(has_alpha and page.extrasamples[0] == UNSPECIFIED),
        big=big,
        float_bits=FLOATS.get(str(page.dtype), 32),
        resolution=resolution,
        resolution_unit=unit,
    )
    return coding, notes


def _planes(page: TiffPage, by_white: bool) -> _Planes:
    """What a page's pixels are; by_white: whether its MaxSampleValue counts."""
    raw = np.asarray(page.asarray(maxworkers=1))
    if page.planarconfig == _SEPARATE_PLANES and raw.ndim == 3:
        raw = np.moveaxis(raw, 0, 2)
    planes = raw[:, :, None] if raw.ndim == 2 else raw
    if planes.shape[:2] != (page.imagelength, page.imagewidth) or planes.ndim != 3:
        raise ImageError("damaged TIFF: the pixels do not match the header")
    if page.photometric == PALETTE:
        colours = np.asarray(page.colormap)
        if planes.shape[2] != 1 or planes.max() >= colours.shape[1]:
            raise ImageError("damaged TIFF: a pixel lies outside the palette")
        # Of 16 bits, scaled by 256 or by 257; but some writers leave them at 8, as libtiff knows too.
        table = (colours.T >> (8 if colours.max() > 255 else 0)).astype(np.uint8)
        return _Planes(table[planes[:, :, 0]], notes=("palette image read as RGB",))

    notes: tuple[str, ...] = ()
    bits = page.bitspersample
    if page.photometric == INKS:
        profile = page.tags.valueof(PROFILE)
        colours = srgb_of_inks(planes[:, :, :4], profile if isinstance(profile, bytes) else None)
        colours = np.concatenate([colours, planes[:, :, 4:]], axis=2)
        return _Planes(colours, planes.shape[2] == 5, notes=(INKS_NOTE,))
    has_alpha = page.samplesperpixel in (2, 4)
    nodata = nodata_of(page)
    used_bits = used_bits_of(page) if by_white else None
    if used_bits is not None and planes.max() >= 2**used_bits:
        used_bits = None
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
    elif bits not in (8, 16) or used_bits is not None:
        planes = widened(planes, used_bits or bits)
        nodata = None if nodata is None else widened(np.array([nodata]), used_bits or bits)[0]
        notes = (depth_note(bits),) if used_bits is None else ()
    if page.photometric == WHITE_IS_ZERO:
        peak = 1.0 if planes.dtype == np.float32 else np.iinfo(planes.dtype).max
        planes = planes.copy()
        planes[:, :, 0] = peak - planes[:, :, 0]
        nodata = None if nodata is None else nodata.dtype.type(peak - nodata)
    if without is not None and nodata is not None:
        planes[without] = nodata_in(nodata, planes.dtype)
    return _Planes(planes, has_alpha, nodata, used_bits, notes)


def _metadata(page: TiffPage, data: bytes, big: bool, order: str, notes: tuple[str, ...]) -> Metadata:
    """Everything beside the pixels, as stored."""
    folder = read_folder(data, page.offset, order, big)
    tags = {tag.code: tag for tag in folder.tags}

    def raw(code: int) -> bytes | None:
        return tags[code].values if code in tags else None

    blocks = []
    kept = kept_tags(page)
    for code in KEPT:
        tag = tags.get(code)
        if tag is None or code not in kept:
            continue
        if code == PHOTOSHOP:
            values = without_thumbnails(tag.values)
            tag = replace(tag, kind=_BYTES, count=len(values), values=values)
        (tag,) = in_order(Folder(order, (tag,)), "<").tags
        kind = code.to_bytes(2, "big") + bytes([tag.kind]) + tag.count.to_bytes(8, "big")
        blocks.append((kind, tag.values))
    described = folder.only(DESCRIBING | {ORIENTATION})
    exif = None
    if described.inner or any(tag.code in DESCRIBING for tag in described.tags):
        exif = exif_block(described)
    if folder.has_maker_note:
        notes += (MAKER_NOTES_MOVE,)
    xmp, resources = raw(XMP), raw(PHOTOSHOP)
    return Metadata(
        "TIFF",
        icc=raw(PROFILE) if page.photometric != INKS else None,
        exif=exif,
        xmp=xmp,
        iptc=raw(IPTC) or (iptc_of(resources) if resources else None),
        dpi=dpi_of(page),
        blocks=tuple(blocks),
        notes=notes,
        aspect=aspect_of(page),
    )
