"""What compression lost: by the codestreams' headers, against whether the pixels come back."""

from __future__ import annotations

import io

import imagecodecs
import numpy as np
import pytest
import scans
from PIL import Image as PillowImage
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from pipcli.images.dicom_compression import bits_of, loss_of

PIXELS = (scans.phantom(sigma=30) + 1024).clip(0, 4095).astype(np.uint16)


def jpeg_ls(error: int) -> bytes:
    return bytes(imagecodecs.jpegls_encode(PIXELS, level=error))


def jpeg_2000(reversible: bool, container: str = "j2k") -> bytes:
    level = 0 if reversible else 40
    return bytes(imagecodecs.jpeg2k_encode(PIXELS, level=level, codecformat=container, reversible=reversible))


def htj2k(reversible: bool) -> bytes:
    return bytes(imagecodecs.htj2k_encode(PIXELS, level=None if reversible else 0.01, reversible=reversible))


@pytest.mark.parametrize(
    ("syntax", "stream", "decode", "method"),
    [
        (JPEGLSNearLossless, jpeg_ls(3), imagecodecs.jpegls_decode, "ISO_14495_1"),
        (JPEGLSNearLossless, jpeg_ls(0), imagecodecs.jpegls_decode, None),
        (JPEGLSLossless, jpeg_ls(3), imagecodecs.jpegls_decode, "ISO_14495_1"),
        (JPEGLSLossless, jpeg_ls(0), imagecodecs.jpegls_decode, None),
        (JPEG2000, jpeg_2000(False), imagecodecs.jpeg2k_decode, "ISO_15444_1"),
        (JPEG2000, jpeg_2000(False, "jp2"), imagecodecs.jpeg2k_decode, "ISO_15444_1"),
        (JPEG2000, jpeg_2000(True), imagecodecs.jpeg2k_decode, None),
        (JPEG2000Lossless, jpeg_2000(True), imagecodecs.jpeg2k_decode, None),
        (HTJ2K, htj2k(False), imagecodecs.htj2k_decode, "ISO_15444_15"),
        (HTJ2K, htj2k(True), imagecodecs.htj2k_decode, None),
        (HTJ2KLossless, htj2k(True), imagecodecs.htj2k_decode, None),
    ],
)
def test_streams_tell_whether_the_pixels_come_back(syntax, stream, decode, method):
    loss = loss_of(syntax, [stream], PIXELS.nbytes)
    assert (loss is None) == bool((decode(stream) == PIXELS).all()) == (method is None)
    if loss is not None:
        assert loss.method == method
        assert loss.ratio == pytest.approx(PIXELS.nbytes / len(stream))


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_streams_tell_the_bits_of_their_pixels(bits):
    pixels = (PIXELS << 4 >> (16 - bits)).astype(np.uint8 if bits == 8 else np.uint16)
    streams = [
        imagecodecs.ljpeg_encode(pixels, bitspersample=bits),
        imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="j2k", bitspersample=bits),
        imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="jp2", bitspersample=bits),
    ]
    assert [bits_of(bytes(stream)) for stream in streams] == [bits] * 3
    assert bits_of(bytes(imagecodecs.jpegls_encode(pixels))) == 8 * pixels.itemsize
    assert bits_of(b"anything") is None


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEGExtended12Bit])
def test_jpeg_always_loses(syntax):
    out = io.BytesIO()
    PillowImage.fromarray((PIXELS >> 4).astype(np.uint8)).save(out, "JPEG")
    loss = loss_of(syntax, [out.getvalue()], PIXELS.size)
    assert loss is not None
    assert loss.method == "ISO_10918_1"


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEGLosslessSV1])
def test_what_cannot_lose_does_not(syntax):
    assert loss_of(syntax, [b"anything"], 100) is None


def test_one_frame_is_enough_and_the_ratio_is_of_all():
    frames = [jpeg_ls(0), jpeg_ls(3)]
    loss = loss_of(JPEGLSNearLossless, frames, 2 * PIXELS.nbytes)
    assert loss is not None
    assert loss.ratio == pytest.approx(2 * PIXELS.nbytes / sum(map(len, frames)))


@pytest.mark.parametrize(
    "syntax", [JPEGBaseline8Bit, JPEGLSLossless, JPEGLSNearLossless, JPEG2000, HTJ2K], ids=UID.__str__
)
def test_streams_cut_anywhere_cost_no_more_than_the_answer(syntax):
    for stream in (jpeg_ls(3), jpeg_2000(False), htj2k(False)):
        for size in (0, 1, 2, 5, *range(10, 120)):
            loss_of(syntax, [stream[:size]], PIXELS.nbytes)
            bits_of(stream[:size])
    # Where the stream does not tell, the syntax does.
    assert (loss_of(syntax, [b"\xff\xd8"], PIXELS.nbytes) is None) == (syntax == JPEGLSLossless)
