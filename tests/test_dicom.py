"""DICOM by content, and stored values ⇄ what they mean."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
import scans
from pydicom import dcmwrite
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from pipcli.errors import ImageError
from pipcli.images import decode_image, read_image
from pipcli.images.dicom import DicomImage, Scale, claims_dicom, is_dicom, is_dicom_file
from pipcli.images.dicom_windows import Window


def image_of(stored, bits=12, slope=1.0, intercept=-1024.0, padding=None) -> DicomImage:
    return DicomImage(
        dataset=scans.scan(),
        stored=np.asarray(stored)[None],
        bits=bits,
        scales=(Scale(slope, intercept),),
        windows=(Window(-200, 300),),
        padding=padding,
    )


def test_content_decides(tmp_path):
    path = scans.save(tmp_path / "photo.png", scans.scan())
    assert is_dicom_file(path)
    for name, data in {
        "a.dcm": b"I am a text",
        "b.dcm": b"\x89PNG\r\n\x1a\n" + b"\0" * 200,
        "c.dcm": b"",
        "d.dcm": b"\0" * 400,
        "e.dcm": b"II*\0\x08\0\0\0" + b"\0" * 400,
    }.items():
        (tmp_path / name).write_bytes(data)
        assert not is_dicom_file(tmp_path / name)
        # Yet it claims to be, and is to be reported.
        assert claims_dicom(tmp_path / name)
        assert not claims_dicom((tmp_path / name).rename(tmp_path / name[0]))
    assert claims_dicom(path)
    assert not is_dicom_file(tmp_path / "nowhere")
    assert not is_dicom_file(tmp_path)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_without_preamble(tmp_path, syntax):
    dataset = scans.scan()
    del dataset.file_meta
    path = tmp_path / "a"
    dcmwrite(
        path,
        dataset,
        implicit_vr=syntax.is_implicit_VR,
        little_endian=syntax.is_little_endian,
        enforce_file_format=False,
    )
    assert is_dicom(path.read_bytes().removeprefix(b"\0" * 128 + b"DICM"))


def test_a_dicom_file_that_begins_like_a_tiff_is_dicom(tmp_path):
    path = scans.save(tmp_path / "a.tif", scans.scan())
    path.write_bytes(b"II*\0" + path.read_bytes()[4:])
    assert is_dicom_file(path)
    for read in (read_image, lambda path: decode_image(path.read_bytes(), "a.tif")):
        with pytest.raises(ImageError, match=r"a\.tif: is DICOM, whose values are no colours"):
            read(path)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert not is_dicom_file(tmp_path / "pipe")


def test_only_files_claim_to_be_dicom_by_their_name(tmp_path):
    (tmp_path / "folder.dcm").mkdir()
    os.mkfifo(tmp_path / "pipe.dcm")
    (tmp_path / "lost.DCM").symlink_to(tmp_path / "nowhere")
    assert [claims_dicom(tmp_path / name) for name in ("folder.dcm", "pipe.dcm", "lost.DCM")] == [0, 0, 1]


@pytest.mark.parametrize(("slope", "intercept"), [(1, -1024), (1, 0), (0.1, -1000), (2.5, 7.3), (-1, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16])
def test_values_come_back_as_they_were_stored(dtype, slope, intercept):
    info = np.iinfo(dtype)
    stored = np.linspace(info.min, info.max, 60).astype(dtype).reshape(6, 10)
    image = image_of(stored, info.bits, slope, intercept)
    values = image.values(0)
    np.testing.assert_allclose(values, stored.astype(float) * slope + intercept)
    again = image.store(0, values)
    assert again.dtype == stored.dtype
    np.testing.assert_array_equal(again, stored)
    np.testing.assert_array_equal(image.store(0, values + slope * 1e-9), stored)


def test_storing_rounds_and_stays_within_the_bits():
    image = image_of(np.array([[0, 1024, 4095, 4095]], np.uint16))
    changed = image.values(0) + np.array([-9.0, 0.6, 0.4, 500.0])
    np.testing.assert_array_equal(image.store(0, changed), [[0, 1025, 4095, 4095]])
    signed = image_of(np.array([[-2048, 2047]], np.int16), intercept=0)
    np.testing.assert_array_equal(signed.store(0, signed.values(0) + np.array([-9, 9])), [[-2048, 2047]])


def test_padding_stays_and_nothing_becomes_it():
    stored = np.array([[100, 101, 102, 103, 99, 98, 4000]], np.uint16)
    image = image_of(stored, padding=(100, 102))
    np.testing.assert_array_equal(image.padded(0), [[True, True, True, False, False, False, False]])
    wanted = np.full((1, 7), 101 - 1024.0)
    np.testing.assert_array_equal(image.store(0, wanted), [[100, 101, 102, 103, 99, 99, 103]])
    assert not image_of(stored).padded(0).any()


def test_frames_that_do_not_fit_are_refused():
    image = image_of(np.zeros((4, 4), np.uint16))
    with pytest.raises(ValueError, match="1 frames, 2 scales"):
        replace(image, scales=image.scales * 2)
    with pytest.raises(ValueError, match="not frames of integers"):
        replace(image, stored=np.zeros((1, 4, 4)))
    with pytest.raises(ValueError, match="slope 0"):
        Scale(0, 1)
