"""AVIF (AV1 Image File Format, on ISO/IEC 23008-12): one picture, 8, 10 or 12 bits, grey, RGB, alpha.

libavif codes the pixels by imagecodecs; the boxes of metadata are read and written here. 10 and 12 bits are
read as 16 and written as what they were. A profile that is given as numbers (nclx) becomes an ICC profile.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipcli.errors import ImageError
from pipcli.images.boxes import box, boxes, full_box
from pipcli.images.colour import profile_of_codes, refuse_high_range
from pipcli.images.exif import EXIF_PREFIX, turn_upright, upright_exif, upright_xmp
from pipcli.images.image import Array, Image, Metadata
from pipcli.images.limits import check_size
from pipcli.images.samples import narrowed, widened

QUALITY = 90
"""Of lossy files. AVIF does not record the quality that a file was written at."""

_SPEED = 8
"""Of libavif's 0 to 10: a third of the time of its own choice, for 1 % more bytes."""
_BRANDS = (b"avif", b"avis")
_IDENTITY = 0
_SRGB_CODES = struct.pack(">HH", 1, 13)
_LONGEST_SIDE = 65536
_NUMBERED = b"colrnclx"
_XMP = b"application/rdf+xml"


@dataclass(frozen=True)
class _Item:
    """One item of a file: its kind, for documents the type of their content, and where its bytes stand."""

    number: int
    kind: bytes
    content_type: bytes
    extents: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class _Contents:
    """The boxes of a file that describe its pictures.

    ``properties`` are those of the primary item: (kind, content).
    """

    primary: int
    items: dict[int, _Item]
    properties: tuple[tuple[bytes, bytes], ...]
    references: tuple[tuple[bytes, int, tuple[int, ...]], ...]

    def of(self, kind: bytes) -> bytes | None:
        """The first property of a kind."""
        return next((content for name, content in self.properties if name == kind), None)


def is_avif(head: bytes) -> bool:
    """Whether a file that starts so is AVIF, by its brands."""
    if head[4:8] != b"ftyp":
        return False
    brands = head[8 : min(int.from_bytes(head[:4], "big"), len(head))]
    return any(brands[place : place + 4] in _BRANDS for place in (0, *range(8, len(brands), 4)))


def read_avif(data: bytes, max_pixels: int) -> Image:
    """The image in a whole AVIF file, upright.

    Raises:
        ImageError: damaged, cut short, a sequence, of a kind that is not supported, or larger than
            max_pixels; the file's name is not in the message, the caller has it.
    """
    import imagecodecs

    try:
        contents = _contents(data)
    except (struct.error, IndexError, KeyError) as error:
        raise ImageError("damaged AVIF: its description is cut short") from error
    width, height = _size(contents)
    check_size(width, height, max_pixels)
    for item in contents.items.values():
        if any(offset + length > len(data) for offset, length in item.extents):
            raise ImageError("AVIF is cut short")
    for kind, why in ((b"clap", "a crop"), (b"a1lx", "layers")):
        if contents.of(kind) is not None:
            raise ImageError(f"is an AVIF with {why}, which is not supported")
    if any(kind == b"prem" for kind, _, _ in contents.references):
        raise ImageError("is an AVIF of colours that are multiplied by alpha, which is not supported")
    icc, lossless = _colours(contents)
    bits, grey, subsampled = _coding(contents)
    try:
        planes = imagecodecs.avif_decode(data, numthreads=1)
    except (imagecodecs.AvifError, ValueError, RuntimeError) as error:
        raise ImageError(f"damaged AVIF: {error}") from error
    planes = planes if planes.ndim == 3 else planes[:, :, None]
    if planes.shape[:2] != (height, width) or planes.shape[2] > 4:
        raise ImageError("damaged AVIF: the pixels do not match the description")
    planes = _turned(widened(planes, bits), contents)
    has_alpha = planes.shape[2] in (2, 4)
    colours = planes[:, :, : planes.shape[2] - has_alpha]
    exif, xmp = _documents(contents, data)
    further = any(item.kind == b"tmap" for item in contents.items.values())
    return Image(
        pixels=np.ascontiguousarray(colours[:, :, :1] if grey else colours),
        alpha=np.ascontiguousarray(planes[:, :, -1]) if has_alpha else None,
        metadata=Metadata(
            "AVIF",
            icc=icc,
            exif=upright_exif(exif) if exif else None,
            xmp=upright_xmp(xmp) if xmp else None,
            blocks=((b"subsampling", b"420"),) if subsampled else (),
            # Whether a grey one was, it does not tell: no loss is added then.
            lossless=grey or (lossless and not subsampled),
            notes=("the gain map in the file is left out",) if further else (),
            depth=bits if bits > 8 else None,
        ),
    )


def encode_avif(image: Image) -> bytes:
    """The image, of 8 or 16 bits, as an AVIF file with its metadata.

    More than 8 bits are written as 10 where the source had these, else as 12.

    Raises:
        ImageError: AVIF cannot hold the image: a side of more than 65536 pixels.
    """
    import imagecodecs

    metadata = image.metadata
    if max(image.height, image.width) > _LONGEST_SIDE:
        raise ImageError(
            f"AVIF holds at most {_LONGEST_SIDE} pixels a side, not {image.width}×{image.height}"
        )
    bits = 8 if image.pixels.dtype == np.uint8 else 10 if metadata.depth == 10 else 12
    level = (metadata.quality or QUALITY) if metadata.lossy else 100
    planes = image.pixels
    if image.channels == 1 and level < 100:
        # What comes as one plane the codec writes without loss, whatever the level.
        planes = np.repeat(planes, 3, axis=2)
    if image.alpha is not None:
        planes = np.concatenate([planes, image.alpha[:, :, None]], axis=2)
    subsampled = metadata.format == "AVIF" and (b"subsampling", b"420") in metadata.blocks
    samples = np.ascontiguousarray(narrowed(planes, bits))
    encoded = bytes(
        imagecodecs.avif_encode(
            samples[:, :, 0] if samples.shape[2] == 1 else samples,
            level=level,
            speed=_SPEED,
            bitspersample=bits,
            pixelformat="400" if image.channels == 1 else "420" if subsampled else "444",
            numthreads=1,
        )
    )
    documents = [(b"Exif", b"", bytes(4) + metadata.exif)] if metadata.exif else []
    if metadata.xmp:
        documents.append((b"mime", _XMP, metadata.xmp))
    if metadata.icc is None:
        encoded = _declared_srgb(encoded)
    return _with_metadata(encoded, metadata.icc, documents)


def _contents(data: bytes) -> _Contents:
    """The description of a file's pictures (23008-12 and 14496-12, 8.11)."""
    meta = None
    for each in boxes(data, 0, len(data), "AVIF"):
        if each.kind == b"moov":
            raise ImageError("is an animated AVIF, which is not supported")
        if each.kind == b"meta" and meta is None:
            meta = each
    if meta is None:
        raise ImageError("damaged AVIF: it has no description")
    inner = {each.kind: each for each in boxes(data, meta.start + 4, meta.end, "AVIF")}
    for kind in (b"pitm", b"iinf", b"iloc", b"iprp"):
        if kind not in inner:
            raise ImageError(f"damaged AVIF: it has no {kind.decode()} box")
    place = inner[b"pitm"].start
    primary = int.from_bytes(data[place + 4 : place + (8 if data[place] else 6)], "big")
    idat = inner[b"idat"].start if b"idat" in inner else 0
    extents = dict(_locations(data[inner[b"iloc"].start : inner[b"iloc"].end], idat))
    items = {}
    for item in _items(data, inner[b"iinf"].start, inner[b"iinf"].end):
        items[item.number] = _Item(item.number, item.kind, item.content_type, extents.get(item.number, ()))
    references: list[tuple[bytes, int, tuple[int, ...]]] = []
    if b"iref" in inner:
        start = inner[b"iref"].start
        letter = ">I" if data[start] else ">H"
        size = struct.calcsize(letter)
        for each in boxes(data, start + 4, inner[b"iref"].end, "AVIF"):
            (source,) = struct.unpack_from(letter, data, each.start)
            targets = range(each.start + size + 2, each.end - size + 1, size)
            references.append(
                (each.kind, source, tuple(struct.unpack_from(letter, data, at)[0] for at in targets))
            )
    properties = tuple(_properties(data, inner[b"iprp"].start, inner[b"iprp"].end, primary))
    return _Contents(primary, items, properties, tuple(references))


def _items(data: bytes, start: int, end: int) -> Iterator[_Item]:
    for each in boxes(data, start + (8 if data[start] else 6), end, "AVIF"):
        version = data[each.start]
        if each.kind != b"infe" or version not in (2, 3):
            continue
        place = each.start + (8 if version == 3 else 6)
        number = int.from_bytes(data[each.start + 4 : place], "big")
        kind = data[place + 2 : place + 6]
        texts = data[place + 6 : each.end].split(b"\0")
        yield _Item(number, kind, texts[1] if kind == b"mime" and len(texts) > 1 else b"")


def _locations(content: bytes, idat: int) -> Iterator[tuple[int, tuple[tuple[int, int], ...]]]:
    """Item → where its bytes stand in the file, (offset, length) each."""
    version = content[0]
    offset_size, length_size = content[4] >> 4, content[4] & 15
    base_size, index_size = content[5] >> 4, content[5] & 15 if version else 0
    wide = 4 if version == 2 else 2
    place = 6

    def number(size: int) -> int:
        nonlocal place
        if place + size > len(content):
            raise ImageError("damaged AVIF: its description is cut short")
        place += size
        return int.from_bytes(content[place - size : place], "big")

    for _ in range(number(wide)):
        item = number(wide)
        method = number(2) & 15 if version else 0
        number(2)
        base = number(base_size) + (idat if method == 1 else 0)
        extents = []
        for _ in range(number(2)):
            number(index_size)
            offset = base + number(offset_size)
            extents.append((offset, number(length_size)))
        yield item, tuple(extents)


def _properties(data: bytes, start: int, end: int, item: int) -> Iterator[tuple[bytes, bytes]]:
    """The properties that are bound to an item."""
    inner = list(boxes(data, start, end, "AVIF"))
    known = [
        (each.kind, data[each.start : each.end])
        for container in inner
        if container.kind == b"ipco"
        for each in boxes(data, container.start, container.end, "AVIF")
    ]
    for container in inner:
        if container.kind != b"ipma":
            continue
        place = container.start
        letter = ">I" if data[place] else ">H"
        wide = 2 if data[place + 3] & 1 else 1
        (count,) = struct.unpack_from(">I", data, place + 4)
        place += 8
        for _ in range(min(count, container.end - place)):
            (number,) = struct.unpack_from(letter, data, place)
            place += struct.calcsize(letter)
            bound = data[place]
            place += 1
            for _ in range(bound):
                index = int.from_bytes(data[place : place + wide], "big") & (0x7F if wide == 1 else 0x7FFF)
                place += wide
                if number == item and 0 < index <= len(known):
                    yield known[index - 1]


def _size(contents: _Contents) -> tuple[int, int]:
    extent = contents.of(b"ispe")
    if extent is None or len(extent) < 12:
        raise ImageError("damaged AVIF: it has no size")
    return struct.unpack_from(">II", extent, 4)


def _colours(contents: _Contents) -> tuple[bytes | None, bool]:
    """The ICC profile, and whether the pixels are stored as RGB, which is what is done without loss."""
    icc = None
    codes = None
    for kind, content in contents.properties:
        if kind == b"colr" and content[:4] in (b"prof", b"rICC"):
            icc = content[4:]
        elif kind == b"colr" and content[:4] == b"nclx" and len(content) >= 10:
            codes = struct.unpack_from(">3H", content, 4)
    if codes is None:
        return icc, False
    try:
        if icc is None:
            icc = profile_of_codes(codes[0], codes[1])
        else:
            refuse_high_range(codes[1])
    except ImageError as error:
        raise ImageError(f"is an AVIF that {error}") from error
    return icc, codes[2] == _IDENTITY


def _coding(contents: _Contents) -> tuple[int, bool, bool]:
    """Bits a channel, whether grey, and whether the chroma is subsampled."""
    coding = contents.of(b"av1C")
    if coding is None:  # a grid: its tiles have the coding
        pixels = contents.of(b"pixi")
        if pixels is None or len(pixels) < 6:
            raise ImageError("damaged AVIF: it has no coding")
        return pixels[5], pixels[4] == 1, True
    if len(coding) < 4:
        raise ImageError("damaged AVIF: its coding is cut short")
    bits = (12 if coding[2] & 0x20 else 10) if coding[2] & 0x40 else 8
    grey = bool(coding[2] & 0x10)
    return bits, grey, bool(coding[2] & 0x08) and not grey


def _turned(planes: Array, contents: _Contents) -> Array:
    """The planes turned and mirrored as the properties say, turned first (23000-22, 7.3.6.7)."""
    angle, axis = contents.of(b"irot"), contents.of(b"imir")
    if angle:
        planes = turn_upright(planes, (1, 8, 3, 6)[angle[0] & 3])
    if axis:
        planes = turn_upright(planes, 2 if axis[0] & 1 else 4)
    return planes


def _documents(contents: _Contents, data: bytes) -> tuple[bytes | None, bytes | None]:
    """EXIF and XMP that describe the primary item."""
    exif = xmp = None
    for kind, source, targets in contents.references:
        item = contents.items.get(source)
        if kind != b"cdsc" or contents.primary not in targets or item is None:
            continue
        content = b"".join(data[offset : offset + length] for offset, length in item.extents)
        if item.kind == b"Exif" and exif is None and len(content) > 4:
            exif = content[4 + int.from_bytes(content[:4], "big") :].removeprefix(EXIF_PREFIX)
        elif item.kind == b"mime" and item.content_type == _XMP and xmp is None:
            xmp = content
    return exif, xmp


def _declared_srgb(data: bytes) -> bytes:
    """A file that libavif wrote without saying what its colours are, saying that they are those of sRGB."""
    codes = data.index(_NUMBERED) + len(_NUMBERED)
    return data[:codes] + _SRGB_CODES + data[codes + len(_SRGB_CODES) :]


def _with_metadata(data: bytes, icc: bytes | None, documents: list[tuple[bytes, bytes, bytes]]) -> bytes:
    """A file that libavif wrote, with a profile and further items: (kind, type of content, content)."""
    if icc is None and not documents:
        return data
    outer = {each.kind: each for each in boxes(data, 0, len(data), "AVIF")}
    meta = outer[b"meta"]
    inner = {each.kind: data[each.start : each.end] for each in boxes(data, meta.start + 4, meta.end, "AVIF")}
    contents = _contents(data)
    first = max(contents.items) + 1
    numbers = range(first, first + len(documents))
    if icc is not None:
        inner[b"iprp"] = _with_profile(inner[b"iprp"], contents.primary, icc)
    (count,) = struct.unpack_from(">H", inner[b"iinf"], 4)
    entries = b"".join(
        full_box(b"infe", 2, 1, struct.pack(">HH", number, 0) + kind + b"\0" + (type_ and type_ + b"\0"))
        for number, (kind, type_, _) in zip(numbers, documents, strict=True)
    )
    inner[b"iinf"] = (
        inner[b"iinf"][:4] + struct.pack(">H", count + len(documents)) + inner[b"iinf"][6:] + entries
    )
    links = b"".join(box(b"cdsc", struct.pack(">HHH", number, 1, contents.primary)) for number in numbers)
    inner[b"iref"] = inner.get(b"iref", bytes(4)) + links

    # Offsets depend on the length of the description, in which they have a fixed length themselves.
    where = [(number, item.extents) for number, item in sorted(contents.items.items())]
    moved = len(_meta(inner, where, numbers, documents, 0, 0)) - (8 + meta.end - meta.start)
    body = _meta(inner, where, numbers, documents, moved, len(data) + moved + 8)
    appended = box(b"mdat", b"".join(content for _, _, content in documents)) if documents else b""
    return data[: meta.start - 8] + body + data[meta.end :] + appended


def _meta(
    inner: dict[bytes, bytes],
    where: list[tuple[int, tuple[tuple[int, int], ...]]],
    numbers: range,
    documents: list[tuple[bytes, bytes, bytes]],
    moved: int,
    end: int,
) -> bytes:
    """The description, its old items moved by so many bytes, its documents in a row from end on."""
    entries = [
        (number, [(offset + moved, length) for offset, length in extents]) for number, extents in where
    ]
    for number, (_, _, content) in zip(numbers, documents, strict=True):
        entries.append((number, [(end, len(content))]))
        end += len(content)
    locations = struct.pack(">BBH", 0x44, 0, len(entries))
    for number, extents in entries:
        locations += struct.pack(">HHH", number, 0, len(extents))
        locations += b"".join(struct.pack(">II", *extent) for extent in extents)
    order = (b"hdlr", b"pitm", b"iloc", b"iinf", b"iref", b"iprp")
    parts = {**inner, b"iloc": bytes(4) + locations}
    kinds = [*order, *(kind for kind in parts if kind not in order)]
    return full_box(b"meta", 0, 0, b"".join(box(kind, parts[kind]) for kind in kinds if kind in parts))


def _with_profile(content: bytes, primary: int, icc: bytes) -> bytes:
    """The content of libavif's box of properties with a profile for the primary item."""
    parts = {each.kind: content[each.start : each.end] for each in boxes(content, 0, len(content), "AVIF")}
    index = 1 + sum(1 for _ in boxes(parts[b"ipco"], 0, len(parts[b"ipco"]), "AVIF"))
    container = parts[b"ipco"] + box(b"colr", b"prof" + icc)
    bindings = parts[b"ipma"]
    (count,) = struct.unpack_from(">I", bindings, 4)
    out, place = bindings[:8], 8
    for _ in range(count):
        number, bound = struct.unpack_from(">HB", bindings, place)
        entry = bindings[place + 3 : place + 3 + bound]
        place += 3 + bound
        if number == primary:
            bound, entry = bound + 1, entry + bytes([index])
        out += struct.pack(">HB", number, bound) + entry
    return box(b"ipco", container) + box(b"ipma", out)
