"""`DicomImage` with new pixels → the bytes of a derived DICOM file.

A derived image is a new instance of a new series that says what it was made from and how (PS3.3, C.7.6.1 and
C.12.4; enhanced images, C.7.6.16.2.6). It says nothing of when: the same input gives the same bytes.
"""

from __future__ import annotations

import copy
import io
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipcli import __version__
from pipcli.errors import ImageError
from pipcli.images.dicom import DicomImage
from pipcli.images.dicom_compression import Loss
from pipcli.images.dicom_reading import padding_values, quiet_pydicom
from pipcli.images.image import Array

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_OID, "pipcli derived DICOM instances")

_SMOOTHING = ("113087", "DCM", "Smoothing")
"""The nearest of DICOM's codes for derivations (context group 7203)."""
_SOURCE_IMAGE = ("121322", "DCM", "Source image for image processing operation")
_PROCESSING_EQUIPMENT = ("109102", "DCM", "Processing Equipment")

_SERIES_MARK = "denoised by pipcli"
_SERIES_STEP = 1000
"""Added to a source's SeriesNumber."""
_LARGEST_SERIES_NUMBER = 2**31 - 1
_LONGEST_DESCRIPTION, _LONGEST_TEXT, _LONGEST_VERSION = 64, 1024, 16
"""Characters that elements of LO, ST and SH hold."""

_STALE = (
    "InstanceCreationDate",
    "InstanceCreationTime",
    "InstanceCreatorUID",
    "SmallestImagePixelValue",
    "LargestImagePixelValue",
    "SmallestPixelValueInSeries",
    "LargestPixelValueInSeries",
    "SmallestImagePixelValueInPlane",
    "LargestImagePixelValueInPlane",
    "HistogramSequence",
    "IconImageSequence",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "MACParametersSequence",
    "DigitalSignaturesSequence",
    "DataSetTrailingPadding",
)
"""What is true of the source's pixels or file alone."""


@dataclass(frozen=True)
class Derivation:
    """How images were derived: what names them, and what their files say of it.

    Args:
        model: its name.
        model_sha256: of its weights file.
        window: as asked for, such as "abdomen" or "auto".
        strength: s of x + s·(y - x).
        sigma: standard deviation of the noise in HU as stated by the user, or None.
        setting: what else the pixels depend on, such as device and precision.
        drop_private: leave private elements out.
    """

    model: str
    model_sha256: str
    window: str
    strength: float = 1.0
    sigma: float | None = None
    setting: str = ""
    drop_private: bool = False

    @property
    def method(self) -> str:
        """What tells one derived series of a source from another, as one line."""
        sigma = "" if self.sigma is None else f", noise of {self.sigma:g} HU"
        return f"{self.model_sha256}, window {self.window}, strength {self.strength:g}{sigma}"

    def describe(self, image: DicomImage, windows: Sequence[str]) -> str:
        """DerivationDescription: tool, version, model, window, strength; ASCII, which any file holds."""
        unit = " HU" if image.modality == "CT" else ""
        ranges = list(dict.fromkeys(windows))
        span = ranges[0] + unit if len(ranges) == 1 else f"{ranges[0]}{unit} and {len(ranges) - 1} more"
        asked = "" if self.window == ranges[0] else f" ({self.window})"
        sigma = "" if self.sigma is None else f", stated noise {self.sigma:g}{unit}"
        text = (
            f"Noise removed by pipcli {__version__}, model {self.model} sha256 {self.model_sha256}, "
            f"window {span}{asked}, strength {self.strength:g}{sigma}; outside the window unchanged"
        )
        return text.encode("ascii", "replace").decode()


def derived_uid(*parts: str) -> str:
    """A UID that follows from its parts alone (PS3.5, B.2: 2.25 and a UUID as a number)."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, chr(0).join(parts)).int}"


def encode_dicom(image: DicomImage, stored: Array, windows: Sequence[str], derivation: Derivation) -> bytes:
    """The derived file, Explicit VR Little Endian. The image is not changed.

    Args:
        image: the source.
        stored: N×H×W new stored values in the source's type (:meth:`DicomImage.store`).
        windows: what was restored of each frame, for people to read.
        derivation: how.

    Raises:
        ImageError: an element of the source cannot be written so; without the file's name.
        ValueError: shape or type of the pixels differ from the source's.
    """
    if stored.shape != image.stored.shape or stored.dtype != image.stored.dtype:
        raise ValueError(
            f"stored is {stored.dtype} of {stored.shape}, "
            f"the source {image.stored.dtype} of {image.stored.shape}"
        )
    with quiet_pydicom():
        try:
            return _encode(image, stored, windows, derivation)
        except MemoryError:
            raise
        except Exception as error:  # pydicom's words may quote a value
            raise ImageError(f"holds an element that cannot be written ({type(error).__name__})") from None


def _encode(image: DicomImage, stored: Array, windows: Sequence[str], derivation: Derivation) -> bytes:
    from pydicom import dcmwrite
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID

    source = image.dataset
    dataset = copy.deepcopy(source)
    if not source.original_encoding[1]:
        _turn_words(dataset)
    if derivation.drop_private:
        dataset.remove_private_tags()
    for keyword in _STALE:
        if keyword in dataset:
            del dataset[keyword]

    sop_class = str(source.get("SOPClassUID") or source.file_meta.MediaStorageSOPClassUID)
    series = __version__, derivation.method
    instance = *series, derivation.setting, str(derivation.drop_private)
    dataset.SOPClassUID = UID(sop_class)
    dataset.SOPInstanceUID = UID(derived_uid("instance", source.SOPInstanceUID, *instance))
    dataset.SeriesInstanceUID = UID(derived_uid("series", source.SeriesInstanceUID, *series))
    dataset.SeriesDescription = _marked(" ".join(map(str, _several(source.get("SeriesDescription")))))
    if "ConcatenationUID" in dataset:
        # The parts of a divided image go together as the source's do, but not with these.
        dataset.ConcatenationUID = UID(derived_uid("concatenation", source.ConcatenationUID, *series))
    if "SOPInstanceUIDOfConcatenationSource" in dataset:
        whole = source.SOPInstanceUIDOfConcatenationSource
        dataset.SOPInstanceUIDOfConcatenationSource = UID(derived_uid("instance", whole, *instance))
    number = _series_number(source) + _SERIES_STEP
    dataset.SeriesNumber = number if number <= _LARGEST_SERIES_NUMBER else None
    text = derivation.describe(image, windows)
    _sign_padding(dataset, source)
    _state_loss(dataset, image.loss)
    if "SharedFunctionalGroupsSequence" in dataset or "PerFrameFunctionalGroupsSequence" in dataset:
        _describe_enhanced(dataset, source, sop_class, text)
    else:
        _describe_classic(dataset, source, sop_class, text, image.modality)
    _append(dataset, "ContributingEquipmentSequence", _equipment(text))

    data = stored.astype(stored.dtype.newbyteorder("<")).tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OW" if stored.dtype.itemsize > 1 else "OB"

    dataset.preamble = b"\0" * 128
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(_EXPLICIT_LITTLE_ENDIAN)
    dataset.file_meta.ImplementationClassUID = UID(derived_uid("implementation"))
    dataset.file_meta.ImplementationVersionName = f"PIPCLI_{__version__}"[:_LONGEST_VERSION]
    out = io.BytesIO()
    dcmwrite(out, dataset, implicit_vr=False, little_endian=True, enforce_file_format=True)
    return out.getvalue()


def _sign_padding(dataset: Dataset, source: Dataset) -> None:
    """Padding as numbers of the pixels' kind: other readers compare 63536 with pixels of -2000."""
    for keyword, value in padding_values(source).items():
        dataset.add_new(keyword, "SS" if source.PixelRepresentation else "US", value)


def _state_loss(dataset: Dataset, loss: Loss | None) -> None:
    """State what the source's compression lost; what the source itself states of it stays."""
    if loss is None:
        return
    dataset.LossyImageCompression = "01"
    method, ratio = "LossyImageCompressionMethod", "LossyImageCompressionRatio"
    ratios = dataset[ratio].VM if ratio in dataset else 0
    # Of several steps, method and ratio are listed in one order.
    if not dataset.get(method) and ratios <= 1:
        setattr(dataset, method, loss.method)
        if not ratios:
            setattr(dataset, ratio, f"{loss.ratio:.4g}")


def _describe_classic(dataset: Dataset, source: Dataset, sop_class: str, text: str, modality: str) -> None:
    kind = [str(value) for value in _several(dataset.get("ImageType"))]
    flavour = kind[2:3] if any(kind[2:3]) or modality != "CT" else ["AXIAL"]
    dataset.ImageType = ["DERIVED", "SECONDARY", *flavour, *kind[3:]]
    dataset.DerivationDescription = _joined(source, text)
    _append(dataset, "DerivationCodeSequence", _code(*_SMOOTHING))
    # Sources of the source are named there; this image was made from the one alone.
    dataset.SourceImageSequence = [_source_image(source, sop_class)]


def _describe_enhanced(dataset: Dataset, source: Dataset, sop_class: str, text: str) -> None:
    from pydicom.dataset import Dataset

    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    frames = dataset.get("PerFrameFunctionalGroupsSequence") or []
    # The second value of an enhanced image's type is PRIMARY whatever was computed (PS3.3, C.8.16.1.2).
    dataset.ImageType = ["DERIVED", *_several(dataset.get("ImageType"))[1:]]
    for group in (*shared, *frames):
        for item in group.get("CTImageFrameTypeSequence") or []:
            item.FrameType = ["DERIVED", *_several(item.get("FrameType"))[1:]]

    if dataset.get("ContentQualification") != "SERVICE":
        # PRODUCT would claim that all it was made with is approved.
        dataset.ContentQualification = "RESEARCH"

    # A functional group stands in one of the two places, for every frame.
    own = any("DerivationImageSequence" in group for group in frames)
    for group in frames if own or not shared else shared[:1]:
        derivation = Dataset()
        derivation.DerivationDescription = text
        derivation.DerivationCodeSequence = [_code(*_SMOOTHING)]
        derivation.SourceImageSequence = [_source_image(source, sop_class)]
        _append(group, "DerivationImageSequence", derivation)

    instance = Dataset()
    instance.ReferencedSOPClassUID = sop_class
    instance.ReferencedSOPInstanceUID = source.SOPInstanceUID
    series = Dataset()
    series.ReferencedInstanceSequence = [instance]
    series.SeriesInstanceUID = source.SeriesInstanceUID
    _append(dataset, "ReferencedSeriesSequence", series)
    evidence_series = Dataset()
    evidence_series.ReferencedSOPSequence = [copy.deepcopy(instance)]
    evidence_series.SeriesInstanceUID = source.SeriesInstanceUID
    evidence = Dataset()
    evidence.ReferencedSeriesSequence = [evidence_series]
    evidence.StudyInstanceUID = source.get("StudyInstanceUID")
    _append(dataset, "SourceImageEvidenceSequence", evidence)


def _source_image(source: Dataset, sop_class: str) -> Dataset:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.ReferencedSOPClassUID = sop_class
    item.ReferencedSOPInstanceUID = source.SOPInstanceUID
    item.SpatialLocationsPreserved = "YES"
    item.PurposeOfReferenceCodeSequence = [_code(*_SOURCE_IMAGE)]
    return item


def _equipment(text: str) -> Dataset:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.Manufacturer = "pipcli"
    item.ManufacturerModelName = "pipcli"
    item.SoftwareVersions = __version__
    item.ContributionDescription = text
    item.PurposeOfReferenceCodeSequence = [_code(*_PROCESSING_EQUIPMENT)]
    return item


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.CodeValue = value
    item.CodingSchemeDesignator = scheme
    item.CodeMeaning = meaning
    return item


def _append(dataset: Dataset, keyword: str, item: Dataset) -> None:
    """Add an item to a sequence that may not be there yet."""
    setattr(dataset, keyword, [*(dataset.get(keyword) or []), item])


def _series_number(source: Dataset) -> int:
    """0 where there is none, or none that is a number."""
    try:
        return int(source.get("SeriesNumber") or 0)
    except (TypeError, ValueError):
        return 0


def _marked(description: str) -> str:
    """SeriesDescription with our mark, cut to what the element holds."""
    if not description:
        return _SERIES_MARK
    room = _LONGEST_DESCRIPTION - len(_SERIES_MARK) - 2
    return f"{description[:room].rstrip()}, {_SERIES_MARK}"


def _joined(source: Dataset, text: str) -> str:
    """The derivation behind what the source says of its own, where both fit."""
    before = str(source.get("DerivationDescription") or "").strip()
    joined = f"{before}; {text}" if before else text
    return joined if len(joined) <= _LONGEST_TEXT else text


def _several(value: Any) -> list[Any]:
    """A value that may be absent, one or several, as a list."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)


def _turn_words(dataset: Dataset) -> None:
    """Big-endian words to little-endian ones: pydicom hands the bytes of these elements on as they are."""
    for element in dataset.iterall():
        size = {"OW": 2, "OL": 4, "OF": 4, "OV": 8, "OD": 8}.get(element.VR)
        if size and isinstance(element.value, bytes) and len(element.value) % size == 0:
            element.value = np.frombuffer(element.value, f">u{size}").astype(f"<u{size}").tobytes()
