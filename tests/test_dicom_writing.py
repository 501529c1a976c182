"""Derived DICOM files, read back: what changed and why, point by point; the rest stays."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import scans
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSNearLossless,
    RLELossless,
)

import pipcli
from pipcli.errors import ImageError
from pipcli.images.dicom import DicomImage
from pipcli.images.dicom_reading import read_dicom
from pipcli.images.dicom_writing import Derivation, derived_uid, encode_dicom

HASH = "ab" * 32
DERIVATION = Derivation("pip-unet", HASH, "abdomen", strength=0.6, setting="cpu bf16 512")
WINDOW = "[-150, 249]"

CHANGED = {
    "ImageType": "a derived, secondary image",
    "SOPInstanceUID": "a new instance",
    "SeriesInstanceUID": "of a new series",
    "SeriesDescription": "with a mark",
    "SeriesNumber": "and a number of its own",
    "DerivationDescription": "says how it was made",
    "DerivationCodeSequence": "in a code too",
    "SourceImageSequence": "and of what",
    "ContributingEquipmentSequence": "and by what",
    "InstanceCreationDate": "of the source instance; no clock is read for a new one",
    "InstanceCreationTime": "the same",
    "SmallestImagePixelValue": "of the source's pixels",
    "LargestImagePixelValue": "of the source's pixels",
    "PixelData": "the result",
}
"""Every attribute that may differ from the source, and why."""


def image_of(path: Path, **options: bool) -> DicomImage:
    image = read_dicom(path, **options)
    assert isinstance(image, DicomImage)
    return image


def derived(image: DicomImage, change: int = 5, derivation: Derivation = DERIVATION) -> FileDataset:
    """The file that comes of adding a number to every pixel, read by pydicom."""
    stored = image.stored + image.stored.dtype.type(change)
    windows = [WINDOW] * image.frames
    return dcmread(io.BytesIO(encode_dicom(image, stored, windows, derivation)))


@pytest.fixture
def source(tmp_path):
    return image_of(scans.save(tmp_path / "a", scans.scan()))


def keywords_that_differ(before: Dataset, after: Dataset) -> set[str]:
    tags = {element.tag for element in before} | {element.tag for element in after}
    differing = [tag for tag in tags if before.get(tag) != after.get(tag)]
    names = {(after.get(tag) or before.get(tag)).keyword for tag in differing}
    return names


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEG2000Lossless,
    ],
    ids=lambda syntax: syntax.keyword,
)
def test_every_attribute_that_changes_is_listed_and_the_others_stay(tmp_path, syntax):
    image = image_of(scans.save(tmp_path / "a", scans.scan(), syntax))
    before, after = dcmread(tmp_path / "a"), derived(image)
    assert keywords_that_differ(before, after) == set(CHANGED)
    for keyword in ("PatientName", "StudyInstanceUID", "FrameOfReferenceUID", "ImagePositionPatient"):
        assert after[keyword] == before[keyword]
    assert after[0x0029, 0x1001].value in ("private words", b"private words ")


def test_the_pixels_and_how_they_are_stored(source):
    after = derived(source)
    assert after.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert (after["PixelData"].VR, after["PixelData"].is_undefined_length) == ("OW", False)
    np.testing.assert_array_equal(after.pixel_array, source.stored[0] + 5)
    for keyword in ("RescaleSlope", "RescaleIntercept", "RescaleType", "BitsStored", "PixelRepresentation"):
        assert after[keyword] == source.dataset[keyword]


@pytest.mark.parametrize("size", [7, 8])
def test_eight_bits_are_padded_to_an_even_length(tmp_path, size):
    dataset = scans.scan(np.zeros((size, size)), intercept=-100, bits=8)
    after = derived(image_of(scans.save(tmp_path / "a", dataset)))
    assert (after["PixelData"].VR, len(after.PixelData) % 2) == ("OB", 0)
    np.testing.assert_array_equal(after.pixel_array, 105)


def test_a_new_instance_of_a_new_series(source):
    after = derived(source)
    assert after.SOPInstanceUID == after.file_meta.MediaStorageSOPInstanceUID
    assert after.SOPClassUID == after.file_meta.MediaStorageSOPClassUID == source.dataset.SOPClassUID
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        assert after[keyword].value.is_valid
        assert after[keyword].value.startswith("2.25.")
        assert after[keyword].value != source.dataset[keyword].value
    assert after.SeriesNumber == 1003
    assert after.SeriesDescription == "Thorax 1.0, denoised by pipcli"


def test_slices_of_a_series_stay_together_and_apart_from_others(tmp_path):
    first, second = (
        image_of(scans.save(tmp_path / f"{index}", scans.scan(instance=index))) for index in (1, 2)
    )
    stranger = image_of(scans.save(tmp_path / "s", scans.scan(series="1.9.8")))
    one, two, other = derived(first), derived(second), derived(stranger)
    assert one.SeriesInstanceUID == two.SeriesInstanceUID != other.SeriesInstanceUID
    assert len({one.SOPInstanceUID, two.SOPInstanceUID, other.SOPInstanceUID}) == 3


@pytest.mark.parametrize(
    "other",
    [
        replace(DERIVATION, model_sha256="cd" * 32),
        replace(DERIVATION, window="lung"),
        replace(DERIVATION, strength=0.7),
        replace(DERIVATION, sigma=24.0),
    ],
)
def test_another_model_or_parameter_is_another_series(source, other):
    one, two = derived(source), derived(source, derivation=other)
    assert one.SeriesInstanceUID != two.SeriesInstanceUID
    assert one.SOPInstanceUID != two.SOPInstanceUID


def test_what_changes_pixels_by_rounding_alone_is_another_instance_of_the_same_series(source):
    one, two = derived(source), derived(source, derivation=replace(DERIVATION, setting="cuda fp16 512"))
    assert one.SeriesInstanceUID == two.SeriesInstanceUID
    assert one.SOPInstanceUID != two.SOPInstanceUID


def test_uids_follow_from_their_parts_alone():
    assert derived_uid("a", "b") == derived_uid("a", "b") != derived_uid("ab") != derived_uid("a", "c")
    assert UID(derived_uid("x" * 999)).is_valid


def test_what_it_was_made_from_and_how(source):
    after = derived(source)
    assert list(after.ImageType) == ["DERIVED", "SECONDARY", "AXIAL", "HELIX"]
    text = after.DerivationDescription
    for word in (pipcli.__version__, "pip-unet", HASH, "[-150, 249] HU", "abdomen", "strength 0.6"):
        assert word in text
    (code,) = after.DerivationCodeSequence
    assert (code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning) == ("113087", "DCM", "Smoothing")
    (item,) = after.SourceImageSequence
    assert item.ReferencedSOPClassUID == source.dataset.SOPClassUID
    assert item.ReferencedSOPInstanceUID == source.dataset.SOPInstanceUID
    assert item.SpatialLocationsPreserved == "YES"
    (purpose,) = item.PurposeOfReferenceCodeSequence
    assert (purpose.CodeValue, purpose.CodingSchemeDesignator) == ("121322", "DCM")
    (tool,) = after.ContributingEquipmentSequence
    assert (tool.Manufacturer, tool.ManufacturerModelName) == ("pipcli", "pipcli")
    assert tool.SoftwareVersions == pipcli.__version__
    (purpose,) = tool.PurposeOfReferenceCodeSequence
    assert (purpose.CodeValue, purpose.CodingSchemeDesignator) == ("109102", "DCM")


def test_history_is_kept(tmp_path):
    dataset = scans.scan()
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    dataset.DerivationDescription = "lossy"
    dataset.LossyImageCompression, dataset.LossyImageCompressionRatio = "01", "10"
    for keyword in ("DerivationCodeSequence", "ContributingEquipmentSequence", "SourceImageSequence"):
        item = Dataset()
        item.CodeValue = "1"
        setattr(dataset, keyword, [item])
    after = derived(image_of(scans.save(tmp_path / "a", dataset)))
    assert list(after.ImageType) == ["DERIVED", "SECONDARY", "AXIAL"]
    assert after.DerivationDescription.startswith("lossy; Noise removed by pipcli")
    assert (after.LossyImageCompression, after.LossyImageCompressionRatio) == ("01", "10")
    assert [
        len(after[name].value) for name in ("DerivationCodeSequence", "ContributingEquipmentSequence")
    ] == [2, 2]
    assert len(after.SourceImageSequence) == 1


def near_lossless(dataset: Dataset, error: int) -> Dataset:
    """The data set with its pixels as JPEG-LS that allows for an error."""
    pixels = np.frombuffer(dataset.PixelData, "u2").reshape(dataset.Rows, dataset.Columns)
    dataset.PixelData = encapsulate([bytes(imagecodecs.jpegls_encode(pixels, level=error))])
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    dataset.file_meta.TransferSyntaxUID = JPEGLSNearLossless
    return dataset


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((None, None, None), ("01", "ISO_14495_1", "own")),
        (("00", None, None), ("01", "ISO_14495_1", "own")),
        (("01", None, "7"), ("01", "ISO_14495_1", "7")),
        (("01", "ISO_10918_1", None), ("01", "ISO_10918_1", None)),
        # Two steps, of which one ratio is not known by its method.
        (("01", None, ["7", "2"]), ("01", None, ["7", "2"])),
        (("01", ["ISO_10918_1", "ISO_14495_1"], ["7", "2"]),) * 2,
    ],
)
def test_what_a_lossy_source_does_not_state_is_stated(tmp_path, before, after):
    dataset = near_lossless(scans.scan(scans.phantom(sigma=30).clip(-1024)), error=4)
    names = ("LossyImageCompression", "LossyImageCompressionMethod", "LossyImageCompressionRatio")
    for name, value in zip(names, before, strict=True):
        if value is not None:
            setattr(dataset, name, value)
    dataset.save_as(tmp_path / "a")
    image = image_of(tmp_path / "a")
    assert np.abs(image.values(0) - scans.phantom(sigma=30).clip(-1024)).max() == 4
    found = derived(image)
    assert found.LossyImageCompression == after[0]
    assert found.get(names[1]) == after[1]
    if after[2] == "own":
        raw, held = 2 * 48 * 48, len(dataset.PixelData)
        assert float(found[names[2]].value) == pytest.approx(raw / held, rel=0.05)
    else:
        assert found.get(names[2]) == after[2]


def test_a_syntax_that_allows_for_loss_is_none(tmp_path):
    near_lossless(scans.scan(), error=0).save_as(tmp_path / "a")
    assert "LossyImageCompression" not in derived(image_of(tmp_path / "a"))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize(
    ("signed", "value", "limit", "expected"),
    [
        (True, 63536, None, -2000),
        (True, 63536, 63636, -2000),
        (True, 500, None, 500),
        (False, 63536, None, 63536),
    ],
)
def test_padding_is_written_as_numbers_of_the_pixels_kind(tmp_path, syntax, signed, value, limit, expected):
    dataset = scans.scan(intercept=0 if signed else -1024, bits=16, signed=signed)
    dataset.add_new("PixelPaddingValue", "US", value)
    if limit is not None:
        dataset.add_new("PixelPaddingRangeLimit", "US", limit)
    after = derived(image_of(scans.save(tmp_path / "a", dataset, syntax)))
    vr = "SS" if signed else "US"
    assert (after["PixelPaddingValue"].VR, after.PixelPaddingValue) == (vr, expected)
    if limit is not None:
        assert (after["PixelPaddingRangeLimit"].VR, after.PixelPaddingRangeLimit) == (vr, -1900)


def test_padding_that_was_written_signed_is_written_unsigned(tmp_path):
    dataset = scans.scan(bits=16)
    dataset.add_new("PixelPaddingValue", "SS", -2000)
    after = derived(image_of(scans.save(tmp_path / "a", dataset)))
    assert (after["PixelPaddingValue"].VR, after.PixelPaddingValue) == ("US", 63536)


def test_a_model_of_any_name_is_described_in_ascii(source):
    after = derived(source, derivation=replace(DERIVATION, model="modèle 日本"))
    assert "model mod?le ?? sha256" in after.DerivationDescription


def test_long_texts_are_cut_to_what_an_element_holds(tmp_path):
    dataset = scans.scan()
    dataset.SeriesDescription = "x" * 64
    dataset.DerivationDescription = "y" * 1000
    dataset.SeriesNumber = 2**31 - 5
    after = derived(image_of(scans.save(tmp_path / "a", dataset)))
    assert len(after.SeriesDescription) == 64
    assert after.SeriesDescription.endswith("x, denoised by pipcli")
    assert len(after.DerivationDescription) <= 1024
    assert HASH in after.DerivationDescription
    assert after.SeriesNumber is None


def test_a_description_with_a_backslash_is_one_text(tmp_path):
    dataset = scans.scan()
    dataset.SeriesDescription = ["Thorax", "Abdomen"]
    after = derived(image_of(scans.save(tmp_path / "a", dataset)))
    assert after.SeriesDescription == "Thorax Abdomen, denoised by pipcli"


def test_parts_of_a_divided_image_belong_together_but_not_to_the_source(tmp_path):
    parts = []
    for number in (1, 2):
        dataset = scans.scan(instance=number)
        dataset.ConcatenationUID, dataset.SOPInstanceUIDOfConcatenationSource = "1.2.3", "1.2.4"
        parts.append(derived(image_of(scans.save(tmp_path / str(number), dataset))))
    assert parts[0].SOPInstanceUID != parts[1].SOPInstanceUID
    for keyword, before in (("ConcatenationUID", "1.2.3"), ("SOPInstanceUIDOfConcatenationSource", "1.2.4")):
        first, second = (part[keyword].value for part in parts)
        assert first == second != before
        assert first.startswith("2.25.")


def test_a_series_number_that_is_none_costs_nothing(tmp_path):
    path = scans.save(tmp_path / "a", scans.scan())
    number = scans.scan().SeriesNumber
    data = path.read_bytes()
    stored = b"\x20\x00\x11\x00IS\x02\x00" + f"{number} "[:2].encode()
    assert data.count(stored) == 1
    path.write_bytes(data.replace(stored, stored[:-2] + b"x "))
    assert derived(image_of(path)).SeriesNumber == 1000


def test_a_histogram_of_the_source_does_not_stay(tmp_path):
    dataset = scans.scan()
    dataset.HistogramSequence = [Dataset()]
    assert "HistogramSequence" not in derived(image_of(scans.save(tmp_path / "a", dataset)))


def test_what_may_be_missing(tmp_path):
    dataset = scans.scan()
    del dataset.SeriesDescription, dataset.SeriesNumber, dataset.ImageType
    after = derived(image_of(scans.save(tmp_path / "a", dataset)))
    assert after.SeriesDescription == "denoised by pipcli"
    assert after.SeriesNumber == 1000
    assert list(after.ImageType) == ["DERIVED", "SECONDARY", "AXIAL"]


def test_what_is_true_of_the_source_alone_is_dropped(tmp_path):
    dataset = scans.scan()
    icon, signature = Dataset(), Dataset()
    icon.Rows = 1
    dataset.IconImageSequence = [icon]
    dataset.DigitalSignaturesSequence = [signature]
    dataset.InstanceCreatorUID = "1.2"
    after = derived(image_of(scans.save(tmp_path / "a", dataset)))
    for keyword in (
        "IconImageSequence",
        "DigitalSignaturesSequence",
        "InstanceCreatorUID",
        "InstanceCreationDate",
        "SmallestImagePixelValue",
        "LargestImagePixelValue",
    ):
        assert keyword not in after


def test_private_elements_are_dropped_when_asked(source):
    assert any(element.tag.is_private for element in derived(source))
    after = derived(source, derivation=replace(DERIVATION, drop_private=True))
    assert not any(element.tag.is_private for element in after.iterall())


def test_big_endian_words_are_turned(tmp_path):
    dataset = scans.scan()
    dataset.add_new((0x6000, 0x3000), "OW", b"\x12\x34\x56\x78")  # overlay data, in file order
    path = scans.save(tmp_path / "a", dataset, ExplicitVRBigEndian)
    assert derived(image_of(path))[0x6000, 0x3000].value == b"\x34\x12\x78\x56"


def test_enhanced_images_say_it_in_their_own_places(tmp_path):
    frames = [scans.phantom(), scans.phantom(sigma=9).clip(-1000)]
    image = image_of(scans.save(tmp_path / "a", scans.enhanced(frames, [-1024.0, -1000.0], shared=False)))
    before, after = dcmread(tmp_path / "a"), derived(image)
    np.testing.assert_array_equal(after.pixel_array, image.stored + 5)
    assert list(after.ImageType) == ["DERIVED", "PRIMARY", "VOLUME", "NONE"]
    kinds = [group.CTImageFrameTypeSequence[0].FrameType for group in after.PerFrameFunctionalGroupsSequence]
    assert [list(kind) for kind in kinds] == [["DERIVED", "PRIMARY", "VOLUME", "NONE"]] * 2
    (item,) = after.SharedFunctionalGroupsSequence[0].DerivationImageSequence
    assert HASH in item.DerivationDescription
    assert item.SourceImageSequence[0].ReferencedSOPInstanceUID == image.dataset.SOPInstanceUID
    assert after.ReferencedSeriesSequence[0].SeriesInstanceUID == scans.SERIES
    (evidence,) = after.SourceImageEvidenceSequence
    (series,) = evidence.ReferencedSeriesSequence
    assert (evidence.StudyInstanceUID, series.SeriesInstanceUID) == ("1.2.3.4", scans.SERIES)
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == image.dataset.SOPInstanceUID
    expected = set(CHANGED) - {"DerivationDescription", "DerivationCodeSequence", "SourceImageSequence"}
    expected |= {
        "ContentQualification",
        "SharedFunctionalGroupsSequence",
        "PerFrameFunctionalGroupsSequence",
        "ReferencedSeriesSequence",
        "SourceImageEvidenceSequence",
    }
    assert keywords_that_differ(before, after) == expected


def two_frames() -> Dataset:
    return scans.enhanced([scans.phantom(), scans.phantom()], [-1024.0, -1024.0], shared=True)


def test_frames_that_were_original_say_it_where_others_were_derived_before(tmp_path):
    dataset = two_frames()
    earlier = Dataset()
    earlier.DerivationDescription = "earlier"
    dataset.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence = [earlier]
    after = derived(image_of(scans.save(tmp_path / "a", dataset)))
    counts = [len(group.DerivationImageSequence) for group in after.PerFrameFunctionalGroupsSequence]
    assert counts == [2, 1]
    assert "DerivationImageSequence" not in after.SharedFunctionalGroupsSequence[0]
    for group in after.PerFrameFunctionalGroupsSequence:
        assert HASH in group.DerivationImageSequence[-1].DerivationDescription


@pytest.mark.parametrize("empty", [False, True])
def test_enhanced_images_without_shared_groups_say_it_in_each_frame(tmp_path, empty):
    dataset = two_frames()
    (shared,) = dataset.SharedFunctionalGroupsSequence
    for group in dataset.PerFrameFunctionalGroupsSequence:
        group.update(shared)
    if empty:
        dataset.SharedFunctionalGroupsSequence = []
    else:
        del dataset.SharedFunctionalGroupsSequence
    after = derived(image_of(scans.save(tmp_path / "a", dataset)))
    for group in after.PerFrameFunctionalGroupsSequence:
        (item,) = group.DerivationImageSequence
        assert HASH in item.DerivationDescription
    assert "SourceImageSequence" not in after
    assert list(after.ImageType) == ["DERIVED", "PRIMARY", "VOLUME", "NONE"]


@pytest.mark.parametrize(("before", "expected"), [("PRODUCT", "RESEARCH"), ("SERVICE", "SERVICE")])
def test_enhanced_images_do_not_claim_approved_software(tmp_path, before, expected):
    dataset = two_frames()
    dataset.ContentQualification = before
    assert derived(image_of(scans.save(tmp_path / "a", dataset))).ContentQualification == expected


def test_the_same_bytes_under_two_clocks(tmp_path):
    path = scans.save(tmp_path / "a", scans.scan())
    code = (
        "import sys, time, datetime, hashlib\n"
        "shift = float(sys.argv[2])\n"
        "real = time.time\n"
        "time.time = lambda: real() + shift\n"
        "class Date(datetime.datetime):\n"
        "    @classmethod\n"
        "    def now(cls, tz=None):\n"
        "        return super().now(tz) + datetime.timedelta(seconds=shift)\n"
        "datetime.datetime = Date\n"
        "from pipcli.images.dicom_reading import read_dicom\n"
        "from pipcli.images.dicom_writing import Derivation, encode_dicom\n"
        "image = read_dicom(sys.argv[1])\n"
        "data = encode_dicom(image, image.stored, ['[0, 1]'], Derivation('m', 'h', 'full'))\n"
        "print(hashlib.sha256(data).hexdigest())\n"
    )
    sums = [
        subprocess.run(
            [sys.executable, "-c", code, str(path), shift], capture_output=True, text=True, check=True
        ).stdout
        for shift in ("0", "-400000000")
    ]
    assert sums[0] == sums[1]
    assert len(sums[0].strip()) == 64


def test_the_source_is_not_changed(source):
    before = source.dataset.to_json()
    derived(source)
    assert source.dataset.to_json() == before


def test_what_cannot_be_written_says_nothing_of_the_patient(source, monkeypatch):
    def write(*arguments: object, **options: object) -> None:
        raise ValueError(f"{scans.CANARY} is no number")

    monkeypatch.setattr("pydicom.dcmwrite", write)
    with pytest.raises(ImageError, match="holds an element that cannot be written") as caught:
        encode_dicom(source, source.stored, [WINDOW], DERIVATION)
    assert scans.CANARY not in str(caught.value)
    assert caught.value.__cause__ is None


def test_other_pixels_are_refused(source):
    for stored in (source.stored[:, 1:], source.stored.astype(np.int16)):
        with pytest.raises(ValueError, match="stored is"):
            encode_dicom(source, stored, [WINDOW], DERIVATION)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools is not installed")
@pytest.mark.parametrize("kind", ["classic", "enhanced"])
def test_an_independent_validator_finds_no_error_that_the_source_has_not(tmp_path, kind):
    dataset = scans.scan() if kind == "classic" else scans.enhanced([scans.phantom()], [-1024.0], shared=True)
    path = scans.save(tmp_path / "before", dataset)
    image = image_of(path)
    (tmp_path / "after").write_bytes(encode_dicom(image, image.stored, [WINDOW], DERIVATION))

    def errors(name: str) -> set[str]:
        done = subprocess.run(["dciodvfy", tmp_path / name], capture_output=True, text=True, check=False)
        lines = (done.stderr + done.stdout).splitlines()
        assert lines
        return {line for line in lines if line.startswith("Error")}

    assert errors("after") - errors("before") == set()
