"""Small CT files for tests: a phantom, its DICOM data set, and every transfer syntax."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    HTJ2K,
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLSLossless,
    RLELossless,
)

CANARY = "QUOKKA"
"""Stands in every attribute of the patient; nowhere else may it turn up."""
PATIENT = {
    "PatientName": f"{CANARY}^NAME",
    "PatientID": f"{CANARY}-ID",
    "PatientBirthDate": "19020304",
    "PatientComments": f"{CANARY} comments",
    "OtherPatientIDs": f"{CANARY}-OTHER",
    "ReferringPhysicianName": f"{CANARY}^REFERRER",
    "AccessionNumber": f"{CANARY}-ACC",
    "InstitutionName": f"{CANARY} HOSPITAL",
}
SERIES = "1.2.3.4.5"
MR = "1.2.840.10008.5.1.4.1.1.4"


def phantom(size: int = 48, sigma: float = 0.0, seed: int = 1) -> NDArray[np.float64]:
    """H×W HU: air, and in it a disc of soft tissue (40) with fat (-100), bone (700) and lung (-800)."""
    y, x = np.mgrid[:size, :size] / size - 0.5
    values = np.full((size, size), -1000.0)
    values[x**2 + y**2 < 0.2] = 40
    values[(abs(x - 0.2) < 0.1) & (abs(y) < 0.1)] = -100
    values[(abs(x + 0.2) < 0.06) & (abs(y) < 0.06)] = 700
    values[(abs(x) < 0.06) & (abs(y - 0.2) < 0.1)] = -800
    noise = np.random.default_rng(seed).normal(0, sigma, values.shape) if sigma else 0
    return np.rint(values + noise)


def chessboard(height: int, width: int) -> NDArray[np.float64]:
    """1 and -1 in turn: a change that keeps every local mean."""
    return 1.0 - 2.0 * (np.indices((height, width)).sum(axis=0) % 2)


def scan(
    values: NDArray[np.float64] | None = None,
    *,
    intercept: float = -1024,
    slope: float = 1,
    bits: int = 12,
    signed: bool = False,
    instance: int = 1,
    series: str = SERIES,
    padding: NDArray[np.bool_] | None = None,
    padding_value: int | None = None,
) -> Dataset:
    """A CT slice of these values in HU, as its scanner would send it.

    Args:
        padding: where the stored value is padding_value.
    """
    values = phantom() if values is None else values
    dtype = np.dtype(f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}")
    stored = np.rint((values - intercept) / slope).astype(dtype)
    if padding is not None and padding_value is not None:
        stored[padding] = padding_value
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL", "HELIX"]
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = "20200102", "030405"
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = f"{series}.{instance}"
    dataset.StudyDate, dataset.StudyTime = "20200101", "010203"
    dataset.Modality = "CT"
    dataset.Manufacturer = "MAKER"
    dataset.SeriesDescription = "Thorax 1.0"
    for keyword, value in PATIENT.items():
        setattr(dataset, keyword, value)
    dataset.StudyInstanceUID = "1.2.3.4"
    dataset.SeriesInstanceUID = series
    dataset.StudyID = "1"
    dataset.SeriesNumber, dataset.InstanceNumber = 3, instance
    dataset.FrameOfReferenceUID = "1.2.3.9"
    dataset.ImagePositionPatient = [-100, -100, float(instance)]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing = ["0.70", "0.70"]
    dataset.SliceThickness = "1.0"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = stored.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8 * dtype.itemsize, bits, bits - 1
    dataset.PixelRepresentation = int(signed)
    if padding_value is not None:
        dataset.PixelPaddingValue = padding_value
    dataset.add_new("SmallestImagePixelValue", "SS" if signed else "US", int(stored.min()))
    dataset.add_new("LargestImagePixelValue", "SS" if signed else "US", int(stored.max()))
    dataset.WindowCenter, dataset.WindowWidth = 50, 500
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = intercept, slope, "HU"
    dataset.private_block(0x0029, "MAKER PRIVATE", create=True).add_new(1, "LO", "private words")
    dataset.PixelData = stored.tobytes()
    dataset["PixelData"].VR = "OW" if dtype.itemsize > 1 else "OB"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.preamble = b"\0" * 128
    return dataset


def enhanced(frames: list[NDArray[np.float64]], intercepts: list[float], shared: bool) -> Dataset:
    """An enhanced multi-frame CT; the rescale stands in the shared or in the frames' functional groups."""
    dataset = scan(frames[0])
    stored = [np.rint(values - intercept) for values, intercept in zip(frames, intercepts, strict=True)]
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    dataset.NumberOfFrames = len(frames)
    dataset.PixelData = np.stack(stored).astype(np.uint16).tobytes()
    for keyword in ("RescaleIntercept", "RescaleSlope", "RescaleType", "WindowCenter", "WindowWidth"):
        del dataset[keyword]
    groups = []
    for intercept in intercepts:
        group = Dataset()
        kind = Dataset()
        kind.FrameType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
        group.CTImageFrameTypeSequence = [kind]
        transform = Dataset()
        transform.RescaleIntercept, transform.RescaleSlope, transform.RescaleType = intercept, 1, "HU"
        window = Dataset()
        window.WindowCenter, window.WindowWidth = 50, 500
        group.FrameVOILUTSequence = [window]
        group.PixelValueTransformationSequence = [transform]
        groups.append(group)
    both = Dataset()
    if shared:
        both.PixelValueTransformationSequence = groups[0].PixelValueTransformationSequence
        both.FrameVOILUTSequence = groups[0].FrameVOILUTSequence
        for group in groups:
            del group.PixelValueTransformationSequence
            del group.FrameVOILUTSequence
    dataset.SharedFunctionalGroupsSequence = [both]
    dataset.PerFrameFunctionalGroupsSequence = groups
    return dataset


def save(path: Path, dataset: Dataset, syntax: UID | None = None) -> Path:
    """Write a data set in a transfer syntax; raw pixels are compressed as it asks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    syntax = UID(syntax or ExplicitVRLittleEndian)
    dtype = np.dtype(f"{'iu'[1 - dataset.PixelRepresentation]}{dataset.BitsAllocated // 8}")
    count = dataset.get("NumberOfFrames", 1) * dataset.Rows * dataset.Columns
    pixels = np.frombuffer(dataset.PixelData, dtype, count).reshape(-1, dataset.Rows, dataset.Columns)
    if syntax in (RLELossless, JPEG2000Lossless, JPEGLSLossless):
        dataset.compress(syntax, generate_instance_uid=False)
    elif syntax.is_compressed and syntax.is_encapsulated:
        _encapsulate(dataset, [_encode(syntax, frame, dataset.BitsStored) for frame in pixels])
    elif syntax == ExplicitVRBigEndian:
        dataset.PixelData = pixels.astype(dtype.newbyteorder(">")).tobytes()
    dataset.file_meta.TransferSyntaxUID = syntax
    little = syntax != ExplicitVRBigEndian
    implicit = syntax == ImplicitVRLittleEndian
    dcmwrite(path, dataset, implicit_vr=implicit, little_endian=little, enforce_file_format=True)
    return path


def _encode(syntax: UID, frame: NDArray[Any], bits: int) -> bytes:
    if syntax == JPEGLossless:
        return imagecodecs.ljpeg_encode(frame.view(f"u{frame.itemsize}"), bitspersample=bits)
    if syntax in (HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K):
        return imagecodecs.htj2k_encode(frame)
    raise ValueError(f"no encoder for {syntax.name}")


def _encapsulate(dataset: Dataset, frames: list[bytes]) -> None:
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
