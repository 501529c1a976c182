"""DICOM files → `DicomImage`, or the reason why a file is left alone.

Messages are made of fixed words, keywords of the standard and numbers: what pydicom or a decoder says may
quote a value, and a value may be a patient's name. For the same reason pydicom's own warnings are held back.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from pipcli.errors import ImageError
from pipcli.images.dicom import DicomImage, LeftAlone, Scale, is_dicom
from pipcli.images.dicom_compression import Loss, bits_of, loss_of
from pipcli.images.dicom_windows import Window, linear_window
from pipcli.images.image import Array
from pipcli.images.limits import MAX_PIXELS, check_size
from pipcli.images.naming import shown
from pipcli.images.warned import heard_warnings

if TYPE_CHECKING:
    from pydicom.dataset import Dataset, FileDataset

_CT = "1.2.840.10008.5.1.4.1.1.2"
_ENHANCED_CT = frozenset({"1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2"})
"""Enhanced CT and legacy converted enhanced CT."""
_OTHER_MODALITIES = {
    "1.2.840.10008.5.1.4.1.1.1": "CR",
    "1.2.840.10008.5.1.4.1.1.1.1": "DX",
    "1.2.840.10008.5.1.4.1.1.1.1.1": "DX",
    "1.2.840.10008.5.1.4.1.1.4": "MR",
}
"""Classes of single-frame images that may be restored although no model was measured on them."""
_DIRECTORY = "1.2.840.10008.1.3.10"

_RAW = frozenset(
    {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"}
)
_RLE = "1.2.840.10008.1.2.5"
_EXTENDED_JPEG = "1.2.840.10008.1.2.4.51"
_WITH_END_MARK = frozenset(
    f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70, 80, 81, 90, 91, 201, 202, 203)
)
"""JPEG, JPEG-LS, JPEG 2000 and HTJ2K, whose frames end with the marker FF D9."""
_END_MARK = b"\xff\xd9"

_CONTRASTS_IN_HU = frozenset({"", "NONE", "MEAN", "FILTERED", "RESAMPLED"})
"""Fourth values of an enhanced ImageType that leave values in HU."""
_AXIAL_COSINE = 0.8
"""Smallest cosine between an axial slice's normal and the body's axis; gantries tilt by up to 30 degrees."""
_GREY = frozenset({"MONOCHROME1", "MONOCHROME2"})


def read_dicom(
    path: str | os.PathLike[str], *, others: bool = False, max_pixels: int = MAX_PIXELS
) -> DicomImage | LeftAlone:
    """The axial CT image in a DICOM file, or why the file is no such image.

    Args:
        path: of a regular file.
        others: take CR, DX and MR images as well.
        max_pixels: refuse files with more, all frames counted, before decoding.

    Raises:
        ImageError: the file should be restored and cannot be read; one line that starts with the path and
            holds nothing of the patient.
    """
    name = shown(path)
    problem: str
    try:
        with open(path, "rb") as file, quiet_pydicom() as heard:
            return _read(file, others, max_pixels, heard)
    except ImageError as error:
        problem = str(error)
    except MemoryError:
        problem = "does not fit into memory"
    except OSError as error:
        # pydicom raises OSError too, without a number.
        problem = (
            f"cannot be read: {error.strerror}" if error.errno else "damaged DICOM: cut short or garbled"
        )
    except Exception as error:  # pydicom and the decoders raise whatever they like, quoting values
        problem = f"damaged DICOM ({type(error).__name__})"
    raise ImageError(f"{name}: {problem}") from None


def series_of(path: str | os.PathLike[str]) -> str | None:
    """SeriesInstanceUID of a CT image, from its header; None where that cannot be read or it is none."""
    from pydicom import dcmread

    with quiet_pydicom():
        try:
            header = dcmread(path, stop_before_pixels=True, force=True)
            wanted = _is_wanted(_text(header, "SOPClassUID"), others=True)
            return (_text(header, "SeriesInstanceUID") or None) if wanted else None
        except Exception:  # a file that failed for whatever reason
            return None


def dicom_size(path: str | os.PathLike[str], *, others: bool = False) -> tuple[int, int, int] | None:
    """Frames, height and width of a file that `read_dicom` would read, by its header; None for others."""
    from pydicom import dcmread

    with quiet_pydicom():
        try:
            header = dcmread(path, stop_before_pixels=True, force=True)
            if _reason_to_leave(header, _text(header, "SOPClassUID"), others) is not None:
                return None
            return _number(header, "NumberOfFrames", 1), _number(header, "Rows"), _number(header, "Columns")
        except Exception:  # a damaged file is refused when its turn comes
            return None


@contextmanager
def quiet_pydicom() -> Iterator[list[warnings.WarningMessage]]:
    """Holds back pydicom's warnings and log, which quote values; gives what was held back so far.

    One thread at a time: filters of warnings, and loggers, belong to the whole process.
    """
    loggers = [logging.getLogger(name) for name in ("pydicom", "pylibjpeg", "openjpeg")]
    with heard_warnings() as heard:
        before = [(logger.propagate, logger.handlers) for logger in loggers]
        try:
            for logger in loggers:
                logger.propagate, logger.handlers = False, [logging.NullHandler()]
            yield heard
        finally:
            for logger, (propagate, handlers) in zip(loggers, before, strict=True):
                logger.propagate, logger.handlers = propagate, handlers


def _read(
    file: BinaryIO, others: bool, max_pixels: int, heard: list[warnings.WarningMessage]
) -> DicomImage | LeftAlone:
    from pydicom import dcmread

    if not is_dicom(file.read(132)):
        raise ImageError("is no DICOM file")
    file.seek(0)
    header = dcmread(file, stop_before_pixels=True, force=True)
    sop_class = _text(header, "SOPClassUID") or _text(header.file_meta, "MediaStorageSOPClassUID")
    # Other threads may have been heard too.
    cut_short = any(
        "end of file" in str(warning.message).lower() and "pydicom" in warning.filename for warning in heard
    )
    wanted = _is_wanted(sop_class, others)
    if wanted or not _class_name(sop_class):
        # What is not to be restored anyway may be damaged.
        missing = "Rows" not in header if wanted else "Modality" not in header
        if cut_short or missing:
            raise ImageError("damaged DICOM: cut short within its header")
    reason = _reason_to_leave(header, sop_class, others)
    if reason is not None:
        return LeftAlone(reason, copyable=sop_class != _DIRECTORY)

    frames = _check_header(header, sop_class, max_pixels)
    scales = tuple(_scale(header, frame, sop_class) for frame in range(frames))
    padding = tuple(padding_values(header).values())
    file.seek(0)
    dataset = dcmread(file, force=True)
    stored, loss = _decode(dataset, frames)
    del dataset.PixelData
    return DicomImage(
        dataset=dataset,
        stored=stored,
        bits=_number(header, "BitsStored"),
        scales=scales,
        windows=tuple(_window(header, frame) for frame in range(frames)),
        padding=(min(padding), max(padding)) if padding else None,
        modality=_OTHER_MODALITIES.get(sop_class, "CT"),
        loss=loss,
    )


# What a file is.


def _is_wanted(sop_class: str, others: bool) -> bool:
    return sop_class == _CT or sop_class in _ENHANCED_CT or (others and sop_class in _OTHER_MODALITIES)


def _reason_to_leave(header: Dataset, sop_class: str, others: bool) -> str | None:
    """Why the file is not to be restored; None where it is."""
    if sop_class == _DIRECTORY:
        return "is a DICOMDIR"
    if not sop_class:
        return "names no SOP class"
    if not _is_wanted(sop_class, others):
        return f"is no CT image but {_class_name(sop_class) or 'an unknown kind of object'}"
    if sop_class in _OTHER_MODALITIES:
        return None
    if sop_class == _CT:
        return _reason_of_type(_texts(header, "ImageType"), header) or _reason_of_rescale(header)
    for frame in range(max(1, _number(header, "NumberOfFrames", 1))):
        item = _functional(header, frame, "CTImageFrameTypeSequence")
        kind = _texts(item, "FrameType") if item is not None else ()
        reason = _reason_of_enhanced(kind or _texts(header, "ImageType"))
        transform = _functional(header, frame, "PixelValueTransformationSequence")
        reason = reason or (_reason_of_rescale(transform) if transform is not None else None)
        if reason is not None:
            return reason
    return None


def _reason_of_type(kind: tuple[str, ...], header: Dataset) -> str | None:
    """Why a classic image of this ImageType is no axial one."""
    if "LOCALIZER" in kind:
        return "is a localizer"
    flavour = kind[2] if len(kind) > 2 else ""
    if flavour == "AXIAL":
        return None
    if flavour:
        return "is no axial image by its ImageType"
    cosines = [_float(value) for value in _texts(header, "ImageOrientationPatient")]
    numbers = [cosine for cosine in cosines if cosine is not None]
    if len(numbers) == 6 and abs(float(np.cross(numbers[:3], numbers[3:])[2])) >= _AXIAL_COSINE:
        return None
    return "names neither an axial ImageType nor an axial orientation"


def _reason_of_enhanced(kind: tuple[str, ...]) -> str | None:
    """Why a frame of this FrameType is none in HU."""
    if "LOCALIZER" in kind:
        return "is a localizer"
    if len(kind) > 3 and kind[3] not in _CONTRASTS_IN_HU:
        return "is a map without HU by its ImageType"
    return None


def _reason_of_rescale(holder: Dataset) -> str | None:
    kind = _text(holder, "RescaleType")
    return None if kind in ("", "HU") else "has values that are not HU by its RescaleType"


def _class_name(sop_class: str) -> str:
    """What DICOM calls a class; empty for one that it does not know."""
    from pydicom.uid import UID

    name = UID(sop_class).name
    # An unknown UID is its own name; it is text from the file.
    return "" if name == sop_class else name.removesuffix(" Storage")


# What must hold before pixels are decoded.


def _check_header(header: FileDataset, sop_class: str, max_pixels: int) -> int:
    """Refuse what would be read wrongly; gives the number of frames."""
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        if not _text(header, keyword):
            raise ImageError(f"has no {keyword}")
    rows, columns = _number(header, "Rows"), _number(header, "Columns")
    frames = _number(header, "NumberOfFrames", 1)
    if frames < 1 or (frames > 1 and sop_class not in _ENHANCED_CT):
        raise ImageError(f"has {frames} frames where one was expected")
    check_size(columns, rows, max_pixels)
    if rows * columns * frames > max_pixels:
        raise ImageError(f"has {frames} frames of {columns}×{rows} pixels, the limit is {max_pixels}")
    samples = _number(header, "SamplesPerPixel", 1)
    colour = _text(header, "PhotometricInterpretation")
    if colour not in _GREY or samples != 1:
        known = colour if colour in ("RGB", "PALETTE COLOR") or colour.startswith("YBR_") else "unknown"
        raise ImageError(f"has {samples} samples a pixel of {known} colours, only grey is supported")
    allocated, stored = _number(header, "BitsAllocated"), _number(header, "BitsStored")
    if allocated not in (8, 16) or not 1 < stored <= allocated:
        raise ImageError(f"has {stored} of {allocated} bits a pixel, only 2 to 16 of 8 or 16 are supported")
    if _number(header, "HighBit", stored - 1) != stored - 1:
        raise ImageError("has its pixels in the upper bits, which is not supported")
    if _number(header, "PixelRepresentation") not in (0, 1):
        raise ImageError("PixelRepresentation is neither 0 nor 1")

    syntax = _syntax(header)
    if syntax == _EXTENDED_JPEG and stored > 8:
        raise ImageError("is 12-bit JPEG Extended, for which there is no free decoder")
    if syntax not in _RAW and syntax not in _WITH_END_MARK and syntax != _RLE:
        raise ImageError(f"has a transfer syntax that is not supported{_syntax_name(syntax)}")
    return frames


def _syntax(dataset: FileDataset) -> str:
    """The transfer syntax; what pydicom took the file for where it names none."""
    named = _text(dataset.file_meta, "TransferSyntaxUID")
    if named:
        return named
    implicit, little = dataset.original_encoding
    if implicit:
        return "1.2.840.10008.1.2"
    return "1.2.840.10008.1.2.1" if little else "1.2.840.10008.1.2.2"


def _syntax_name(syntax: str) -> str:
    from pydicom.uid import UID

    name = UID(syntax).name
    return "" if name == syntax else f": {name}"


def _scale(header: Dataset, frame: int, sop_class: str) -> Scale:
    holder: Dataset | None = header
    if sop_class in _ENHANCED_CT:
        holder = _functional(header, frame, "PixelValueTransformationSequence")
    slope, intercept = (
        _float(_first(holder, keyword)) if holder is not None else None
        for keyword in ("RescaleSlope", "RescaleIntercept")
    )
    if sop_class in _OTHER_MODALITIES:
        if "ModalityLUTSequence" in header:
            raise ImageError("has a table for its values (Modality LUT), which is not supported")
        slope, intercept = 1.0 if slope is None else slope, intercept or 0.0
    if slope is None or intercept is None:
        raise ImageError("has no RescaleSlope and RescaleIntercept: its values cannot be told in HU")
    try:
        return Scale(slope, intercept)
    except ValueError:
        raise ImageError(f"RescaleSlope is {slope:g}: it must be another number than 0") from None


def _window(header: Dataset, frame: int) -> Window | None:
    """The first window that the file names for a frame."""
    holder = _functional(header, frame, "FrameVOILUTSequence")
    holder = header if holder is None else holder
    centre, width = (_float(_first(holder, keyword)) for keyword in ("WindowCenter", "WindowWidth"))
    if centre is None or width is None:
        return None
    try:
        if _text(holder, "VOILUTFunction") in ("", "LINEAR"):
            return linear_window(centre, width)
        return Window(centre - width / 2, centre + width / 2)
    except ValueError:
        return None


def padding_values(header: Dataset) -> dict[str, int]:
    """Keyword → value of what is padding, one end or both, as the pixel's own type reads it.

    Raises:
        ImageError: an element holds something else than one whole number.
    """
    ends: dict[str, int] = {}
    for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        if keyword not in header:
            break
        element = header[keyword]
        value = element.value
        if value is None or value == b"":
            break
        if isinstance(value, bytes) and len(value) == 2:
            value = int.from_bytes(value, "little" if header.original_encoding[1] else "big")
        if not isinstance(value, int):
            raise ImageError(f"{keyword} is not one whole number")
        ends[keyword] = _as_stored(value, header)
    return ends


def _as_stored(value: int, header: Dataset) -> int:
    """A number as a pixel reads it: 63536 is -2000 where pixels are signed, and so is 2096 of 12 bits."""
    allocated, stored = _number(header, "BitsAllocated"), _number(header, "BitsStored")
    value &= (1 << allocated) - 1
    for bits in (stored, allocated):
        # What fits into fewer bits than the pixel has may have been written in as many.
        if _number(header, "PixelRepresentation") and value >> (bits - 1) == 1:
            return value - (1 << bits)
    return value


# Pixels.


def _decode(dataset: FileDataset, frames: int) -> tuple[Array, Loss | None]:
    """N×H×W in the stored type, and what their compression lost."""
    from pydicom.pixels.utils import pixel_array
    from pydicom.uid import UID

    if "PixelData" not in dataset:
        raise ImageError("has no pixel data, or is cut short within it")
    syntax = _syntax(dataset)
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    shape = frames, _number(dataset, "Rows"), _number(dataset, "Columns")
    allocated = _number(dataset, "BitsAllocated")
    dtype = np.dtype(f"{'iu'[1 - _number(dataset, 'PixelRepresentation')]}{allocated // 8}")
    expected = int(np.prod(shape)) * dtype.itemsize
    data = dataset.PixelData
    loss = None
    if syntax in _RAW:
        if dataset["PixelData"].is_undefined_length:
            raise ImageError("has raw pixel data of undefined length")
        if not isinstance(data, bytes) or not expected <= len(data) <= expected + expected % 2:
            raise ImageError(f"has {len(data)} bytes of pixel data where its header asks for {expected}")
    else:
        found = _compressed_frames(data, frames, syntax)
        if syntax in _WITH_END_MARK and any((bits_of(frame) or 0) > allocated for frame in found):
            raise ImageError(f"has compressed pixels of more than the {allocated} bits that its header names")
        loss = loss_of(syntax, found, expected)
    try:
        # Another plugin for RLE panics on damaged data, which is no Exception. Bits above BitsStored, which
        # pydicom and GDCM would drop unseen, are wanted.
        plugin = "pydicom" if syntax == _RLE else ""
        decoded = pixel_array(dataset, raw=True, decoding_plugin=plugin, bits_stored=allocated)
        stored = np.asarray(decoded).reshape(shape)
    except MemoryError:
        raise
    except Exception:
        raise ImageError(f"has pixel data that cannot be decoded{_syntax_name(syntax)}") from None
    stored = stored.astype(dtype, copy=not stored.flags.owndata)
    return _within_bits(stored, _number(dataset, "BitsStored")), loss


def _within_bits(stored: Array, bits: int) -> Array:
    """Pixels as BitsStored has them: what is above it is the sign, or nothing in all of them.

    Raises:
        ImageError: there is something else, an overlay or a value that does not fit: by its lower bits alone
            padding would become bone, and metal air.
    """
    unused = 8 * stored.itemsize - bits
    if (stored << unused >> unused == stored).all():
        return stored
    words = stored.view(f"u{stored.itemsize}")
    if stored.dtype.kind == "u" or (words >> bits).any():
        raise ImageError(f"has pixels that need more than the {bits} bits that its header names")
    signed: Array = stored << unused >> unused
    return signed


def _compressed_frames(data: bytes, frames: int, syntax: str) -> list[bytes]:
    """The frames as they are stored.

    Raises:
        ImageError: some are missing or end early: decoders fill what is missing with grey.
    """
    from pydicom.encaps import generate_frames

    try:
        found = list(generate_frames(data, number_of_frames=frames))
    except Exception:
        raise ImageError("has compressed pixel data whose fragments cannot be told apart") from None
    if len(found) != frames:
        raise ImageError(f"has {len(found)} compressed frames where its header asks for {frames}")
    if syntax in _WITH_END_MARK and not all(
        frame.rstrip(b"\x00\xff").endswith(_END_MARK[1:]) and _END_MARK in frame[-16:] for frame in found
    ):
        raise ImageError("has compressed pixel data that is cut short")
    return found


# Values of elements, whatever the file holds there.


def _functional(dataset: Dataset, frame: int, keyword: str) -> Dataset | None:
    """The item of a functional group for a frame: its own, else the one that all frames share."""
    for groups, index in (
        ("PerFrameFunctionalGroupsSequence", frame),
        ("SharedFunctionalGroupsSequence", 0),
    ):
        items = dataset.get(groups)
        if items and index < len(items):
            inner = items[index].get(keyword)
            if inner:
                item: Dataset = inner[0]
                return item
    return None


def _value(dataset: Dataset, keyword: str) -> Any:
    """The value of an element; None where it is absent, empty or no value of its kind."""
    try:
        return dataset.get(keyword)
    except Exception:  # pydicom converts on access and raises what the conversion raises
        return None


def _first(dataset: Dataset, keyword: str) -> Any:
    value = _value(dataset, keyword)
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        return value
    return next(iter(value), None)


def _text(dataset: Dataset, keyword: str) -> str:
    """The first value as text without spaces around it; empty where there is none."""
    value = _first(dataset, keyword)
    return "" if value is None else str(value).strip()


def _texts(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    value = _value(dataset, keyword)
    if value is None:
        return ()
    values = [value] if isinstance(value, str | bytes) or not hasattr(value, "__iter__") else value
    return tuple(str(each).strip() for each in values)


def _float(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None


def _number(dataset: Dataset, keyword: str, default: int | None = None) -> int:
    """The one whole number of an element.

    Raises:
        ImageError: it is absent and there is no default, or is no such number.
    """
    value = _value(dataset, keyword)
    if value is None or value == "":
        if default is None:
            raise ImageError(f"has no {keyword}, or none that is a number")
        return default
    try:
        return int(value)
    except (TypeError, ValueError):
        raise ImageError(f"{keyword} is not one whole number") from None
