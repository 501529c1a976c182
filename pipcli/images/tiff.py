"""TIFF 6.0 and BigTIFF with one page: grey, RGB, palette, alpha; 1 to 16 bits and 32-bit float.

tifffile reads strips, tiles and their compressions. Written files are Deflate with predictor, which every
reader knows and which loses nothing. Up to 8 bits come out as 8, 9 to 16 as 16; a palette comes out as RGB.
"""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pipcli.errors import ImageError
from pipcli.images.exif import turn_upright, upright_xmp
from pipcli.images.image import Array, Image, Metadata, plausible_dpi
from pipcli.images.limits import check_size

if TYPE_CHECKING:
    from tifffile import TiffPage

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_ORIENTATION, _XMP, _PROFILE, _EXIF = 274, 700, 34675, 34665
_FURTHER_PAGES, _LAYERS = 330, 37724
_RESOLUTION_UNIT, _X_RESOLUTION, _Y_RESOLUTION = 296, 282, 283
_KEPT = (270, 271, 272, 285, 305, 306, 315, 316, 33432, 33723, 34377)
"""Tags written back verbatim: description, maker, model, page name, software, date, artist, host computer,
copyright, IPTC and Photoshop's resources."""
_ASCII, _BYTES = 2, 7

# The values of tags that are told apart here (TIFF 6.0, sections 4 to 8 and 18).
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_JPEG = 7
_SEPARATE_PLANES = 2
_UNASSOCIATED_ALPHA = 2


def read_tiff(data: bytes, max_pixels: int) -> Image:
    """The image in a whole TIFF file, upright.

    Raises:
        ImageError: damaged, cut short, of several pages or of a kind that is not supported, or larger than
            max_pixels; the file's name is not in the message, the caller has it.
    """
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            pages = [page for page in file.pages if isinstance(page, tifffile.TiffPage)]
            wholes = [page for page in pages if not page.is_reduced]
            if not wholes:
                raise ImageError("is a TIFF that holds only previews (a camera's raw file?)")
            if len(wholes) > 1:
                raise ImageError(f"is a TIFF of {len(wholes)} pages, only one is supported")
            page = wholes[0]
            check_size(page.imagewidth, page.imagelength, max_pixels)
            _check_kind(page)
            _check_whole(page, len(data))
            planes, has_alpha, notes = _planes(page)
            if len(pages) > 1 or _FURTHER_PAGES in page.tags:
                notes += ("previews in the file are left out",)
            if _LAYERS in page.tags:
                notes += ("layers in the file are left out",)
            metadata = _metadata(page, data, notes)
            orientation = _orientation(page)
    except ImageError:
        raise
    except (
        Exception
    ) as error:  # tifffile raises whatever its parts raise: struct.error, KeyError, codecs' own
        reason = str(error).strip().splitlines()
        raise ImageError(f"damaged TIFF: {reason[0] if reason else type(error).__name__}") from error

    planes = turn_upright(planes, orientation)
    if metadata.dpi and orientation >= 5:  # rows have become columns
        metadata = replace(metadata, dpi=(metadata.dpi[1], metadata.dpi[0]))
    colours = planes.shape[2] - has_alpha
    return Image(
        pixels=np.ascontiguousarray(planes[:, :, :colours]),
        alpha=np.ascontiguousarray(planes[:, :, colours]) if has_alpha else None,
        metadata=metadata,
    )


def encode_tiff(image: Image) -> bytes:
    """The image as a TIFF file with its metadata but EXIF."""
    import tifffile

    planes = image.pixels
    if image.alpha is not None:
        planes = np.concatenate([planes, image.alpha[:, :, None]], axis=2)
    metadata = image.metadata
    tags: list[tuple[int, int, int, bytes, bool]] = []
    if metadata.xmp:
        tags.append((_XMP, 1, len(metadata.xmp), metadata.xmp, True))
    for kind, payload in metadata.blocks if metadata.format == "TIFF" else ():
        code, tag_type = int.from_bytes(kind[:2], "big"), kind[2]
        tags.append((code, tag_type, len(payload), payload, True))
    out = io.BytesIO()
    tifffile.imwrite(
        out,
        planes[:, :, 0] if planes.shape[2] == 1 else planes,
        photometric="rgb" if image.channels == 3 else "minisblack",
        planarconfig="contig" if planes.shape[2] > 1 else None,
        extrasamples=["unassalpha"] if image.alpha is not None else None,
        compression="zlib",
        predictor=True,
        resolution=metadata.dpi,
        resolutionunit="inch" if metadata.dpi else None,
        iccprofile=metadata.icc,
        extratags=tags,
        software=False,
        metadata=None,
        maxworkers=1,
    )
    return out.getvalue()


def _check_kind(page: TiffPage) -> None:
    """Refuse what would be read wrongly."""
    if page.imagedepth != 1:
        raise ImageError(f"is a TIFF of depth {page.imagedepth}, only flat pictures are supported")
    kind = page.photometric
    if kind not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE) and not (
        kind == _YCBCR and page.compression == _JPEG
    ):
        raise ImageError(f"is a TIFF of colour kind {_name(kind)}, which is not supported")
    if page.dtype is None or page.dtype.kind not in "buf":
        raise ImageError(f"is a TIFF of {page.dtype} numbers, which are not supported")
    if page.dtype.name not in ("bool", "uint8", "uint16", "float32"):
        raise ImageError(f"is a TIFF of {page.dtype} numbers, only 1 to 16 bits and float32 are supported")
    colours = 1 if kind in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _PALETTE) else 3
    extra = page.samplesperpixel - colours
    if extra < 0 or extra > 1 or len(page.extrasamples) > 1:
        raise ImageError(f"is a TIFF of {page.samplesperpixel} channels, which is not supported")
    if extra and (not page.extrasamples or page.extrasamples[0] != _UNASSOCIATED_ALPHA):
        found = _name(page.extrasamples[0]) if page.extrasamples else "UNSPECIFIED"
        raise ImageError(f"is a TIFF with an extra channel of kind {found}, only UNASSALPHA is supported")


def _check_whole(page: TiffPage, size: int) -> None:
    """Refuse a file that ends before its strips or tiles do: tifffile would fill in zeros."""
    if not page.dataoffsets:
        raise ImageError("damaged TIFF: it has no strips or tiles")
    if len(page.dataoffsets) != len(page.databytecounts):
        raise ImageError("damaged TIFF: offsets and lengths of its strips do not match")
    for tag in page.tags:
        if tag.valueoffset + tag.valuebytecount > size:
            raise ImageError("TIFF is cut short")
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        if offset <= 0 or count <= 0 or offset + count > size:
            raise ImageError("TIFF is cut short")


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
    if planes.dtype == np.float32:
        low, high = planes.min(), planes.max()
        if not (low >= 0 and high <= 1):
            raise ImageError(f"is a TIFF of numbers from {low:g} to {high:g}, only 0 to 1 is supported")
    elif bits not in (8, 16):
        stored = np.uint8 if bits < 8 else np.uint16
        planes = np.rint(planes.astype(np.float64) * (np.iinfo(stored).max / (2**bits - 1))).astype(stored)
        notes = (f"{bits} bits a channel read as {8 if bits < 8 else 16}",) if bits > 1 else ()
    has_alpha = page.samplesperpixel in (2, 4)
    if page.photometric == _WHITE_IS_ZERO:
        peak = 1.0 if planes.dtype == np.float32 else np.iinfo(planes.dtype).max
        planes = planes.copy()
        planes[:, :, 0] = peak - planes[:, :, 0]
    return planes, has_alpha, notes


def _metadata(page: TiffPage, data: bytes, notes: tuple[str, ...]) -> Metadata:
    """Everything beside the pixels."""

    def raw(code: int) -> bytes | None:
        tag = page.tags.get(code)
        return None if tag is None else data[tag.valueoffset : tag.valueoffset + tag.valuebytecount]

    blocks = []
    for code in _KEPT:
        payload = raw(code)
        if payload:
            tag_type = _ASCII if page.tags[code].dtype == _ASCII else _BYTES
            blocks.append((code.to_bytes(2, "big") + bytes([tag_type]), payload))
    if _EXIF in page.tags:
        notes += ("EXIF in a TIFF is left out",)
    xmp = raw(_XMP)
    return Metadata(
        "TIFF",
        icc=raw(_PROFILE),
        xmp=upright_xmp(xmp) if xmp else None,
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
