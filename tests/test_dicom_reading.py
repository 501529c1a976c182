"""Reading DICOM: every transfer syntax, every kind of file, every refusal, and nothing of the patient."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scans
from numpy.typing import NDArray
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import (
    HTJ2K,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from pipcli.errors import ImageError
from pipcli.images.dicom import DicomImage, LeftAlone, Scale
from pipcli.images.dicom_reading import dicom_size, read_dicom, series_of
from pipcli.images.dicom_windows import Window

ODD = Path(__file__).parents[2] / "shared" / "data" / "ct" / "odd"


def image_of(path: Path, **options: bool) -> DicomImage:
    image = read_dicom(path, **options)
    assert isinstance(image, DicomImage)
    return image


def reason_of(path: Path, **options: bool) -> str:
    left = read_dicom(path, **options)
    assert isinstance(left, LeftAlone)
    return left.reason


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEGLossless,
        JPEGLSLossless,
        JPEG2000Lossless,
        HTJ2KLossless,
        HTJ2KLosslessRPCL,
        HTJ2K,
    ],
    ids=lambda syntax: syntax.keyword,
)
def test_every_transfer_syntax_gives_the_same_values(tmp_path, syntax):
    values = scans.phantom(sigma=30).clip(-1024, 3071)
    image = image_of(scans.save(tmp_path / "a", scans.scan(values), syntax))
    np.testing.assert_array_equal(image.values(0), values)
    assert (image.stored.dtype, image.bits, image.modality) == (np.uint16, 12, "CT")
    assert image.stored.dtype.isnative
    assert image.windows == (Window(-200, 299),)
    assert image.dataset.PatientName == scans.PATIENT["PatientName"]


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, RLELossless, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize("bits", [12, 14, 16])
def test_signed_pixels_in_every_kind_of_coding(tmp_path, syntax, bits):
    values = scans.phantom(sigma=30).clip(-2048, 2047)
    dataset = scans.scan(values, intercept=0, bits=bits, signed=True)
    np.testing.assert_array_equal(image_of(scans.save(tmp_path / "a", dataset, syntax)).values(0), values)


def test_a_file_is_jpeg_lossless_of_first_order(tmp_path):
    import gdcm

    values = scans.phantom(sigma=30).clip(-1024, 3071)
    scans.save(tmp_path / "raw", scans.scan(values))
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(tmp_path / "raw"))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(tmp_path / "a"))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    assert dcmread(tmp_path / "a").file_meta.TransferSyntaxUID == JPEGLosslessSV1
    np.testing.assert_array_equal(image_of(tmp_path / "a").values(0), values)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [8, 12, 14, 16])
@pytest.mark.parametrize(("intercept", "slope"), [(-1024, 1), (-1000, 1), (0, 1), (-1024, 0.5), (-1024, 16)])
def test_bits_signs_and_scales(tmp_path, signed, bits, intercept, slope):
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    stored = np.linspace(low, high, 64).round().reshape(8, 8)
    dataset = scans.scan(
        stored * slope + intercept, intercept=intercept, slope=slope, bits=bits, signed=signed
    )
    image = image_of(scans.save(tmp_path / "a", dataset))
    np.testing.assert_array_equal(image.stored[0], stored)
    np.testing.assert_array_equal(image.values(0), stored * slope + intercept)


def test_unused_bits_do_not_count(tmp_path):
    dataset = scans.scan(intercept=0, bits=12, signed=True)
    raw = np.frombuffer(dataset.PixelData, "<i2")
    dataset.PixelData = (raw & 0x0FFF).astype("<u2").tobytes()  # the sign is bit 11, not spread to bit 15
    image = image_of(scans.save(tmp_path / "a", dataset))
    np.testing.assert_array_equal(image.values(0), scans.phantom())


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("signed", [False, True])
def test_pixels_that_need_more_bits_than_the_header_names_are_refused(tmp_path, syntax, signed):
    # Reading the low 12 bits would make bone of a padding value of -2000 in 16.
    dataset = scans.scan(intercept=-1024, bits=16, signed=signed)
    stored = np.frombuffer(dataset.PixelData, "<u2").copy()
    stored[:9] = 63536 if not signed else 0x7ABC
    dataset.PixelData = stored.tobytes()
    dataset.BitsStored, dataset.HighBit = 12, 11
    with pytest.raises(ImageError, match="need more than the 12 bits"):
        read_dicom(scans.save(tmp_path / "a", dataset, syntax))


def stored_as_16_bits(words: NDArray[Any], syntax: UID, path: Path, signed: bool) -> Path:
    """A file whose pixels were written as 16 bits, and whose header names 12."""
    dataset = scans.scan(words.astype(float), intercept=0, bits=16, signed=signed)
    saved = dcmread(scans.save(path, dataset, syntax))
    saved.BitsStored, saved.HighBit = 12, 11
    saved.save_as(path)
    return path


SEVEN_BITS = """
import sys
from pipcli.images.dicom_reading import read_dicom
print(read_dicom(sys.argv[1]).values(0).max())
"""


def test_seven_bits_of_eight_do_not_end_the_process(tmp_path):
    # GDCM would throw what Python cannot catch.
    dataset = scans.scan(np.full((8, 8), 100), intercept=0, bits=8)
    saved = dcmread(scans.save(tmp_path / "a", dataset, JPEGLossless))
    saved.BitsStored, saved.HighBit = 7, 6
    saved.save_as(tmp_path / "a")
    done = subprocess.run([sys.executable, "-c", SEVEN_BITS, tmp_path / "a"], capture_output=True, check=True)
    assert float(done.stdout) == 100


@pytest.mark.parametrize(
    "syntax",
    [JPEGLossless, JPEGLSLossless, JPEG2000Lossless, HTJ2KLossless],
    ids=lambda syntax: syntax.keyword,
)
def test_streams_of_more_bits_than_are_allocated_are_refused(tmp_path, syntax):
    dataset = scans.scan(scans.phantom(), intercept=-1024, bits=16)
    saved = dcmread(scans.save(tmp_path / "a", dataset, syntax))
    saved.BitsAllocated, saved.BitsStored, saved.HighBit = 8, 8, 7
    saved.save_as(tmp_path / "a")
    with pytest.raises(ImageError, match="more than the 8 bits"):
        read_dicom(tmp_path / "a")


COMPRESSED = [RLELossless, JPEGLossless, JPEGLSLossless, JPEG2000Lossless, HTJ2KLossless]


@pytest.mark.parametrize("syntax", COMPRESSED, ids=lambda syntax: syntax.keyword)
def test_compressed_pixels_of_more_bits_are_refused_as_raw_ones_are(tmp_path, syntax):
    words = scans.phantom() + 1024
    words[:3, :3] = 63536
    with pytest.raises(ImageError, match="need more than the 12 bits"):
        read_dicom(stored_as_16_bits(words, syntax, tmp_path / "a", signed=False))


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, *COMPRESSED[:4]], ids=lambda syntax: syntax.keyword
)
@pytest.mark.parametrize("value", [-3024, 2100, 5000])
def test_signed_pixels_of_more_bits_are_refused(tmp_path, syntax, value):
    # By their lower 12 bits they would be 1072, -1996 and 904.
    words = scans.phantom()
    words[:3, :3] = value
    with pytest.raises(ImageError, match="need more than the 12 bits"):
        read_dicom(stored_as_16_bits(words, syntax, tmp_path / "a", signed=True))


@pytest.mark.parametrize("syntax", COMPRESSED[:4], ids=lambda syntax: syntax.keyword)
@pytest.mark.parametrize("filled", [False, True])
def test_compressed_pixels_within_their_bits_are_read(tmp_path, syntax, filled):
    words = scans.phantom().astype(np.int16) & (-1 if filled else 0xFFF)
    image = image_of(stored_as_16_bits(words, syntax, tmp_path / "a", signed=True))
    np.testing.assert_array_equal(image.values(0), scans.phantom())
    assert image.bits == 12


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize(
    ("value", "limit", "expected"),
    [(-2000, None, (-2000, -2000)), (63536, None, (-2000, -2000)), (-2000, -1900, (-2000, -1900))],
)
def test_padding_is_read_as_the_pixels_are(tmp_path, syntax, value, limit, expected):
    dataset = scans.scan(intercept=0, bits=16, signed=True)
    dataset.add_new("PixelPaddingValue", "US" if value > 32767 else "SS", value)
    if limit is not None:
        dataset.add_new("PixelPaddingRangeLimit", "SS", limit)
    image = image_of(scans.save(tmp_path / "a", dataset, syntax))
    assert image.padding == expected


@pytest.mark.parametrize("filled", [False, True])
def test_padding_of_twelve_bits_is_read_as_the_pixels_are(tmp_path, filled):
    """-2000 may be written as 2096, without the sign in the bits that no pixel uses."""
    dataset = scans.scan(intercept=0, bits=16, signed=True)
    dataset.BitsStored, dataset.HighBit = 12, 11
    words = np.frombuffer(dataset.PixelData, "<u2").copy() & 0xFFF
    words[:9] = 2096
    dataset.PixelData = (words | np.where(filled & (words > 2047), 0xF000, 0).astype("<u2")).tobytes()
    dataset.add_new("PixelPaddingValue", "US", 2096)
    image = image_of(scans.save(tmp_path / "a", dataset))
    assert image.padding == (-2000, -2000)
    assert image.padded(0).flatten()[:10].tolist() == [True] * 9 + [False]


def test_padding_of_unsigned_pixels_that_was_written_signed(tmp_path):
    dataset = scans.scan(bits=16)
    dataset.add_new("PixelPaddingValue", "SS", -2000)
    assert image_of(scans.save(tmp_path / "a", dataset)).padding == (63536, 63536)


@pytest.mark.parametrize(
    ("centre", "width", "function", "expected"),
    [
        (50, 500, None, Window(-200, 299)),
        ([40, 300], [400, 2000], "LINEAR", Window(-160, 239)),
        (50, 500, "LINEAR_EXACT", Window(-200, 300)),
        (50, 500, "SIGMOID", Window(-200, 300)),
        (50, None, None, None),
        (None, None, None, None),
        (50, 1, None, None),
        ("", "", None, None),
    ],
)
def test_the_files_own_window(tmp_path, centre, width, function, expected):
    dataset = scans.scan()
    del dataset.WindowCenter, dataset.WindowWidth
    for keyword, value in (("WindowCenter", centre), ("WindowWidth", width), ("VOILUTFunction", function)):
        if value is not None:
            setattr(dataset, keyword, value)
    assert image_of(scans.save(tmp_path / "a", dataset)).windows == (expected,)


@pytest.mark.parametrize("shared", [True, False])
def test_frames_take_their_scale_and_window_from_functional_groups(tmp_path, shared):
    frames = [scans.phantom(sigma=30, seed=seed).clip(-1000, 3000) for seed in (1, 2, 3)]
    intercepts = [-1024.0] * 3 if shared else [-1024.0, -1000.0, -1100.0]
    image = image_of(scans.save(tmp_path / "a", scans.enhanced(frames, intercepts, shared)))
    assert image.scales == tuple(Scale(1, intercept) for intercept in intercepts)
    assert image.windows == (Window(-200, 299),) * 3
    for index, values in enumerate(frames):
        np.testing.assert_array_equal(image.values(index), values)


def test_a_file_without_preamble_and_meta(tmp_path):
    dataset = scans.scan()
    path = tmp_path / "IM0001"
    dataset.file_meta = None
    del dataset.file_meta
    dcmwrite(path, dataset, implicit_vr=True, little_endian=True, enforce_file_format=False)
    path.write_bytes(path.read_bytes().removeprefix(b"\0" * 128 + b"DICM"))
    np.testing.assert_array_equal(image_of(path).values(0), scans.phantom())


# What is left alone.


def change_type(*values: str) -> Callable[[Dataset], None]:
    return lambda dataset: setattr(dataset, "ImageType", list(values))


def sagittal_without_type(dataset: Dataset) -> None:
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]


def of_class(uid: str) -> Callable[[Dataset], None]:
    return lambda dataset: setattr(dataset, "SOPClassUID", uid)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (change_type("ORIGINAL", "PRIMARY", "LOCALIZER"), "is a localizer"),
        (change_type("DERIVED", "SECONDARY", "REFORMATTED"), "is no axial image by its ImageType"),
        (sagittal_without_type, "names neither an axial ImageType nor an axial orientation"),
        (of_class("1.2.840.10008.5.1.4.1.1.7"), "is no CT image but Secondary Capture Image"),
        (of_class("1.2.840.10008.5.1.4.1.1.4"), "is no CT image but MR Image"),
        (of_class("1.2.840.10008.5.1.4.1.1.66.4"), "is no CT image but Segmentation"),
        (of_class("1.2.3.4.5.6"), "is no CT image but an unknown kind of object"),
        (lambda dataset: setattr(dataset, "RescaleType", "MGML"), "has values that are not HU"),
    ],
)
def test_what_is_no_axial_ct_is_left_alone(tmp_path, change, reason):
    dataset = scans.scan()
    change(dataset)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    assert reason in reason_of(scans.save(tmp_path / "a", dataset))


def test_an_axial_slice_may_lack_its_type_and_be_tilted(tmp_path):
    dataset = scans.scan()
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, np.cos(0.4).round(6), -np.sin(0.4).round(6)]
    image_of(scans.save(tmp_path / "a", dataset))


@pytest.mark.parametrize(
    ("uid", "modality"),
    [("1.2.840.10008.5.1.4.1.1.1", "CR"), ("1.2.840.10008.5.1.4.1.1.1.1", "DX"), (scans.MR, "MR")],
)
def test_other_images_are_taken_when_asked_for(tmp_path, uid, modality):
    dataset = scans.scan(scans.phantom() + 1000, intercept=0)
    of_class(uid)(dataset)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    del dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType
    path = scans.save(tmp_path / "a", dataset)
    assert "is no CT image" in reason_of(path)
    image = image_of(path, others=True)
    assert (image.modality, image.scales) == (modality, (Scale(1, 0),))


# Refusals.


def without(*keywords: str) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        for keyword in keywords:
            del dataset[keyword]

    return change


def with_(**values: object) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        for keyword, value in values.items():
            setattr(dataset, keyword, value)

    return change


def extended_jpeg(dataset: Dataset) -> None:
    scans._encapsulate(dataset, [b"\xff\xd8\xff\xc1\xff\xd9"])
    dataset.file_meta.TransferSyntaxUID = JPEGExtended12Bit


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("RescaleSlope"), "has no RescaleSlope and RescaleIntercept"),
        (with_(RescaleSlope=0), "RescaleSlope is 0: it must be another number than 0"),
        (without("Rows"), "damaged DICOM: cut short within its header"),
        (without("Columns"), "has no Columns, or none that is a number"),
        (without("SOPInstanceUID"), "has no SOPInstanceUID"),
        (without("PixelData"), "has no pixel data, or is cut short within it"),
        (with_(PixelData=b"\0" * 100), "has 100 bytes of pixel data where its header asks for 4608"),
        (with_(PixelData=b"\0" * 5000), "has 5000 bytes of pixel data where its header asks for 4608"),
        (with_(PhotometricInterpretation="QUOKKA"), "1 samples a pixel of unknown colours"),
        (with_(PhotometricInterpretation="RGB", SamplesPerPixel=3), "3 samples a pixel of RGB colours"),
        (with_(BitsStored=20), "has 20 of 16 bits a pixel"),
        (with_(HighBit=15), "has its pixels in the upper bits"),
        (with_(NumberOfFrames=7), "has 7 frames where one was expected"),
        (with_(PixelPaddingValue=[1, 2, 3]), "PixelPaddingValue is not one whole number"),
        (extended_jpeg, "is 12-bit JPEG Extended, for which there is no free decoder"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, change, message):
    dataset = scans.scan()
    change(dataset)
    path = tmp_path / "a"
    dcmwrite(path, dataset, enforce_file_format=False, implicit_vr=False, little_endian=True)
    with pytest.raises(ImageError) as caught:
        read_dicom(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert scans.CANARY not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "syntax", [RLELossless, JPEGLossless, JPEGLSLossless, JPEG2000Lossless, HTJ2KLossless]
)
def test_compressed_frames_that_end_early_are_refused(tmp_path, syntax):
    whole = scans.save(tmp_path / "whole", scans.scan(scans.phantom(sigma=30).clip(-1024)), syntax)
    dataset = dcmread(whole)
    (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
    scans._encapsulate(dataset, [frame[: len(frame) // 2 // 2 * 2]])
    dataset.save_as(tmp_path / "a")
    with pytest.raises(ImageError, match=r"cut short|cannot be decoded"):
        read_dicom(tmp_path / "a")


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless, JPEGLSLossless]
)
def test_a_file_cut_anywhere_is_refused_or_left_alone(tmp_path, syntax):
    whole = scans.save(tmp_path / "whole", scans.scan(), syntax).read_bytes()
    path = tmp_path / "a"
    for size in range(140, len(whole) - 2, 61):
        path.write_bytes(whole[:size])
        with pytest.raises(ImageError) as caught:
            read_dicom(path)
        assert scans.CANARY not in str(caught.value)


def test_damage_is_found_or_harmless_and_says_nothing_of_the_patient(tmp_path, capfd, caplog):
    rng = np.random.default_rng(4)
    files = [
        bytearray(scans.save(tmp_path / f"{syntax}", scans.scan(), syntax).read_bytes())
        for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, RLELossless)
    ]
    path, heard = tmp_path / "a", []
    for number in range(300):
        data = files[number % len(files)].copy()
        for place in rng.integers(132, min(len(data), 1500), rng.integers(1, 6)):
            data[place] = rng.integers(256)
        path.write_bytes(data)
        try:
            left = read_dicom(path)
        except ImageError as error:
            heard.append(str(error))
        else:
            heard.extend([left.reason] if isinstance(left, LeftAlone) else [])
    assert len(heard) > 30
    said = "\n".join(heard) + "".join(capfd.readouterr()) + caplog.text
    assert scans.CANARY not in said
    assert all("\n" not in line for line in heard)


def test_what_pydicom_says_is_held_back(tmp_path, recwarn, caplog):
    dataset = scans.scan()
    path = scans.save(tmp_path / "a", dataset)
    data = path.read_bytes().replace(b"QUOKKA-ID ", b"QUOKKA\\ID\xff")
    path.write_bytes(data.replace(b"19020304", b"QUOKKA!!"))
    with caplog.at_level(logging.DEBUG):
        image_of(path)
    assert not recwarn.list
    assert scans.CANARY not in caplog.text
    assert logging.getLogger("pydicom").propagate


def test_no_dicom_and_no_file(tmp_path):
    (tmp_path / "a").write_bytes(b"I am a text of some length, but no DICOM file. " * 9)
    with pytest.raises(ImageError, match="is no DICOM file"):
        read_dicom(tmp_path / "a")
    with pytest.raises(ImageError, match="cannot be read: No such file"):
        read_dicom(tmp_path / "b")
    with pytest.raises(ImageError, match="the limit is 100"):
        read_dicom(scans.save(tmp_path / "c", scans.scan()), max_pixels=100)


def test_a_deflated_file_that_is_damaged(tmp_path):
    path = scans.save(tmp_path / "a", scans.scan(), DeflatedExplicitVRLittleEndian)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(ImageError, match="damaged DICOM"):
        read_dicom(path)


def test_the_series_of_a_file_that_failed(tmp_path):
    path = scans.save(tmp_path / "a", scans.scan())
    path.write_bytes(path.read_bytes()[:-100])
    assert series_of(path) == scans.SERIES
    (tmp_path / "b").write_bytes(b"nothing")
    assert series_of(tmp_path / "b") is None


def test_the_size_of_what_would_be_read(tmp_path):
    path = scans.save(tmp_path / "a", scans.enhanced([scans.phantom(32)] * 3, [-1024.0] * 3, shared=True))
    assert dicom_size(path) == (3, 32, 32)
    dataset = scans.scan()
    of_class(scans.MR)(dataset)
    assert dicom_size(scans.save(tmp_path / "b", dataset)) is None
    assert dicom_size(tmp_path / "b", others=True) == (1, 48, 48)
    (tmp_path / "c").write_bytes(b"nothing")
    assert dicom_size(tmp_path / "c") is None


# The files that break tools.

LEFT = {
    "DICOMDIR": "is a DICOMDIR",
    "ExplVR_BigEnd.dcm": "is no CT image but Ultrasound Image",
    "FreezePattern.dcm": "is no CT image but Secondary Capture Image",
    "GH178.dcm": "is no CT image but Secondary Capture Image",
    "GH179A.dcm": "is no CT image but Secondary Capture Image",
    "GH179B.dcm": "is no CT image but Secondary Capture Image",
    "GH342.dcm": "is a localizer",
    "MR_small.dcm": "is no CT image but MR Image",
    "MR_small_bigendian.dcm": "is no CT image but MR Image",
    "MR_truncated.dcm": "is no CT image but MR Image",
    "eCT_Supplemental.dcm": "is a map without HU by its ImageType",
    "gdcm-CT-MONO2-8-abdo": "is no CT image but Secondary Capture Image",
    "image_dfl.dcm": "is no CT image but Secondary Capture Image",
    "liver.dcm": "is no CT image but Segmentation",
    "no-number-rows.dcm": "names no SOP class",
    "reportsi.dcm": "is no CT image but Basic Text SR",
    "rtdose.dcm": "is no CT image but RT Dose",
    "rtplan.dcm": "is no CT image but RT Plan",
    "rtplan_truncated.dcm": "is no CT image but RT Plan",
    "rtstruct.dcm": "is no CT image but RT Structure Set",
    "test-SR.dcm": "is no CT image but Comprehensive SR",
    "test_SR.dcm": "is no CT image but Comprehensive SR",
    "wg04_RG3_J2KI": "is no CT image but Computed Radiography Image",
}
FAILED = {"GH177_D_CLUNIE_CT1_IVRLE_BigEndian_undefined_length.dcm": "damaged DICOM: cut short or garbled"}
# Name → lowest and highest HU, number of padded pixels; the same by gdcm's own reader.
READ = {
    "693_J2KI.dcm": (-3995, 1812, 494),
    "693_UNCI.dcm": (-3995, 1812, 494),
    "CT-JPEGLosslessSV1.dcm": (-1000, 2037, 0),
    "CT_small.dcm": (-896, 1167, 0),
    "D_CLUNIE_CT1_RLE_FRAGS.dcm": (-3024, 1254, 55772),
    "dicompyler-ct.0.dcm": (-1000, 1457, 0),
    "explicit_VR-UN.dcm": (-1024, 1186, 0),
    "wg04_CT1_J2KI": (-3339, 1385, 2284),
    "wg04_CT1_J2KR": (-3024, 1254, 55772),
    "wg04_CT1_JLSL": (-3024, 1254, 55772),
    "wg04_CT1_JLSN": (-3028, 1254, 19161),
    "wg04_CT1_JPLL": (-3024, 1254, 55772),
    "wg04_CT1_RLE": (-3024, 1254, 55772),
    "wg04_CT1_UNC": (-3024, 1254, 55772),
    "wg04_CT2_J2KI": (-2386, 1542, 0),
    "wg04_CT2_J2KR": (-2048, 1433, 0),
    "wg04_CT2_JLSL": (-2048, 1433, 0),
    "wg04_CT2_JLSN": (-2052, 1434, 0),
    "wg04_CT2_JPLL": (-2048, 1433, 0),
    "wg04_CT2_RLE": (-2048, 1433, 0),
    "wg04_CT2_UNC": (-2048, 1433, 0),
}


@pytest.mark.skipif(not ODD.is_dir(), reason="the odd files lie in ../shared/data/ct/odd")
def test_each_of_the_odd_files_is_right_or_accounted_for():
    left, failed, read = {}, {}, {}
    for path in sorted(ODD.iterdir()):
        try:
            image = read_dicom(path)
        except ImageError as error:
            failed[path.name] = str(error).removeprefix(f"{path}: ")
            continue
        if isinstance(image, LeftAlone):
            left[path.name] = image.reason
        else:
            values = image.values(0)
            read[path.name] = (values.min(), values.max(), int(image.padded(0).sum()))
    assert left == LEFT
    assert failed == FAILED
    assert read == READ
    assert len(left) + len(failed) + len(read) == 45


@pytest.mark.skipif(not ODD.is_dir(), reason="the odd files lie in ../shared/data/ct/odd")
def test_one_slice_in_every_lossless_syntax_is_one_image():
    for slice_ in ("CT1", "CT2"):
        expected = image_of(ODD / f"wg04_{slice_}_UNC").stored
        for suffix in ("J2KR", "JLSL", "JPLL", "RLE"):
            np.testing.assert_array_equal(image_of(ODD / f"wg04_{slice_}_{suffix}").stored, expected)
