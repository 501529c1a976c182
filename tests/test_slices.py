"""DICOM files of a run: restored, left alone, failed; and which series are whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scans
import torch
from pydicom import dcmread
from torch import Tensor, nn

from pipcli.batch import slices as slices_module
from pipcli.batch.outcome import Outcome
from pipcli.batch.plan import Job, Plan, plan_batch
from pipcli.batch.run import run_plan
from pipcli.batch.slices import DicomOptions, Treatment, incomplete_series, require_denoising, treat_dicom
from pipcli.degradations import Degradation, parse_passes
from pipcli.errors import DeviceError, ImageError, UsageError
from pipcli.images.dicom_windows import parse_window
from pipcli.inference.decision import Told
from pipcli.inference.device import Precision
from pipcli.inference.engine import Restorer

HASH = "ab" * 32
DENOISE = Told(parse_passes("denoise"))


class Checker(nn.Module):
    """y = x ± 0.05 on the fields of a chessboard."""

    stride = 1
    halo = 4
    degradations = (Degradation.NOISE,)

    def forward(self, x: Tensor, omega: Tensor) -> Tensor:
        return x + 0.05 * torch.from_numpy(scans.chessboard(*x.shape[-2:])).float()


@pytest.fixture
def restorer():
    return Restorer(Checker(), torch.device("cpu"), Precision.FP32)


def options(window: str | None = "-200,300", **others) -> DicomOptions:
    return DicomOptions("pip-unet", HASH, None if window is None else parse_window(window), **others)


def treat(path: Path, restorer: Restorer, chosen: DicomOptions, strength: float = 1.0) -> Treatment:
    target = path.with_name("out")
    job = Job(path, target, home=path.parent, relative=path.name, dicom=True)
    treatment = treat_dicom(job, restorer, DENOISE, strength, chosen)
    if treatment.data is not None:
        target.write_bytes(treatment.data)
    return treatment


def hounsfield(path: Path) -> np.ndarray:
    dataset = dcmread(path)
    return dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)


def change_of(after: np.ndarray, before: np.ndarray, level: float = 40) -> float:
    """The middle of how much the pixels of a tissue changed; 0.05 of the window is what the model does."""
    return float(np.median(np.abs(after - before)[scans.phantom() == level]))


def test_a_slice_of_more_pixels_than_are_allowed_is_refused(tmp_path, restorer):
    path = scans.save(tmp_path / "a", scans.scan())
    job = Job(path, tmp_path / "out", home=tmp_path, relative="a", dicom=True)
    with pytest.raises(ImageError, match=r"a: .* pixels, the limit is 100"):
        treat_dicom(job, restorer, DENOISE, 1.0, options(), max_pixels=100)


@pytest.mark.parametrize(
    ("window", "width"), [("-200,300", 500), ("abdomen", 399), ("auto", 499), (None, 499), ("full", 4095)]
)
def test_a_window_sets_what_changes_and_by_how_much(tmp_path, restorer, window, width):
    path = scans.save(tmp_path / "a", scans.scan())
    treatment = treat(path, restorer, options(window))
    assert (treatment.left_alone, treatment.notes) == (None, ())
    after = hounsfield(tmp_path / "out")
    assert change_of(after, scans.phantom()) == pytest.approx(0.05 * width, rel=0.04)
    bone = scans.phantom() == 700
    assert (after[bone] == 700).all() == (window != "full")
    text = dcmread(tmp_path / "out").DerivationDescription
    assert "model pip-unet" in text
    assert window is None or window in text


def test_strength_and_noise_are_written_down(tmp_path, restorer):
    path = scans.save(tmp_path / "a", scans.scan())
    treat(path, restorer, options(sigma=24.0), strength=0.5)
    after = dcmread(tmp_path / "out")
    assert "strength 0.5, stated noise 24 HU" in after.DerivationDescription
    assert change_of(hounsfield(tmp_path / "out"), scans.phantom()) == pytest.approx(12.5, abs=0.6)


def test_a_ct_without_window_of_its_own_says_what_was_used(tmp_path, restorer):
    dataset = scans.scan()
    del dataset.WindowCenter, dataset.WindowWidth
    treatment = treat(scans.save(tmp_path / "a", dataset), restorer, options("auto"))
    assert treatment.notes == ("names no window, [-200, 300] HU was used",)
    assert change_of(hounsfield(tmp_path / "out"), scans.phantom()) == pytest.approx(25, abs=1)


def test_percentiles_are_a_window_of_the_files_own(tmp_path, restorer):
    treat(scans.save(tmp_path / "a", scans.scan()), restorer, options("percentiles"))
    assert change_of(hounsfield(tmp_path / "out"), scans.phantom()) == pytest.approx(85, abs=3)


def test_an_image_of_one_value_is_written_as_it_is(tmp_path, restorer):
    path = scans.save(tmp_path / "a", scans.scan(np.full((16, 16), 7.0)))
    treat(path, restorer, options("percentiles"))
    np.testing.assert_array_equal(hounsfield(tmp_path / "out"), 7)


def test_every_frame_is_restored_in_its_own_scale(tmp_path, restorer):
    frames = [scans.phantom(), scans.phantom() + 10]
    path = scans.save(tmp_path / "a", scans.enhanced(frames, [-1024.0, -1000.0], shared=False))
    treat(path, restorer, options("auto"))
    after = dcmread(tmp_path / "out").pixel_array.astype(float)
    for index, (values, intercept) in enumerate(zip(frames, (-1024, -1000), strict=True)):
        assert change_of(after[index] + intercept, values) == pytest.approx(25, abs=1)
        bone = scans.phantom() == 700
        np.testing.assert_array_equal(after[index][bone] + intercept, values[bone])


def magnetic(path: Path, **changes: object) -> Path:
    dataset = scans.scan(scans.phantom() + 1000, intercept=0)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = scans.MR
    dataset.Modality, dataset.WindowCenter, dataset.WindowWidth = "MR", 1000, 400
    for keyword in ("RescaleSlope", "RescaleIntercept", "RescaleType"):
        del dataset[keyword]
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    return scans.save(path, dataset)


@pytest.mark.parametrize("window", [None, "abdomen", "-200,300"])
def test_mr_is_left_alone_where_the_window_means_hu(tmp_path, restorer, window):
    treatment = treat(magnetic(tmp_path / "a"), restorer, options(window))
    assert treatment.left_alone == "is no CT image but MR Image"
    assert not (tmp_path / "out").exists()


def test_mr_is_restored_in_its_own_window_with_a_warning(tmp_path, restorer):
    treatment = treat(magnetic(tmp_path / "a"), restorer, options("auto"))
    assert treatment.notes == ("the model was not measured on MR",)
    after = dcmread(tmp_path / "out")
    assert change_of(after.pixel_array - 1000.0, scans.phantom()) == pytest.approx(20, abs=1)
    assert "window [800, 1199] (auto)" in after.DerivationDescription


def test_mr_without_window_takes_percentiles(tmp_path, restorer):
    treatment = treat(magnetic(tmp_path / "a", WindowWidth=None), restorer, options("auto"))
    assert "names no window, percentiles were used" in treatment.notes


def test_what_is_left_alone_is_copied_byte_for_byte(tmp_path, restorer):
    path = magnetic(tmp_path / "a")
    treatment = treat(path, restorer, options(copy_others=True))
    assert treatment.left_alone is not None
    assert (tmp_path / "out").read_bytes() == path.read_bytes()


def test_a_dicomdir_is_never_copied(tmp_path, restorer):
    dataset = scans.scan()
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    path = scans.save(tmp_path / "DICOMDIR", dataset)
    treatment = treat(path, restorer, options(copy_others=True))
    assert (treatment.left_alone, treatment.data) == ("is a DICOMDIR", None)
    assert not (tmp_path / "out").exists()


def test_a_bug_says_nothing_of_the_patient(tmp_path, restorer, monkeypatch):
    def read(*arguments: object, **options: object) -> None:
        raise ValueError(scans.CANARY)

    monkeypatch.setattr(slices_module, "read_dicom", read)
    with pytest.raises(ImageError, match=r"a: internal error: ValueError$") as caught:
        treat(scans.save(tmp_path / "a", scans.scan()), restorer, options())
    assert caught.value.__cause__ is None


def test_what_concerns_all_files_passes_through(tmp_path, restorer, monkeypatch):
    def restore(*arguments: object, **options: object) -> None:
        raise DeviceError("out of memory")

    monkeypatch.setattr(restorer, "restore", restore)
    with pytest.raises(DeviceError):
        treat(scans.save(tmp_path / "a", scans.scan()), restorer, options())


def test_only_noise_is_removed_from_dicom():
    photos, mixed = (
        Plan((Job(Path("a"), Path("b"), home=Path(), relative="a", dicom=dicom),)) for dicom in (False, True)
    )
    require_denoising(mixed, parse_passes("denoise"))
    require_denoising(photos, parse_passes("derain"))
    for task in ("derain", "denoise+derain", "denoise,derain", "enhance"):
        with pytest.raises(UsageError, match="a: is DICOM, on which only --task denoise is allowed"):
            require_denoising(mixed, parse_passes(task))


# Whole runs.


def tree(root: Path) -> Path:
    """Two series in one folder and one in another, a report and a photo beside them."""
    for index in range(1, 5):
        scans.save(root / "a" / f"IM{index}", scans.scan(instance=index))
    for index in range(1, 3):
        scans.save(root / "b" / f"{index}.dcm", scans.scan(series="1.2.7", instance=index))
    magnetic(root / "b" / "mr.dcm")
    return root


def run(root: Path, restorer: Restorer, **others):
    plan = plan_batch(str(root), str(root.parent / "out"))
    plan.make_folders()
    outcomes: list[Outcome] = []
    summary = run_plan(plan, restorer, DENOISE, 1.0, outcomes.append, dicom=options(), **others)
    return summary, outcomes


def test_a_tree_is_restored_and_accounted_for(tmp_path, restorer):
    summary, outcomes = run(tree(tmp_path / "in"), restorer)
    assert (summary.restored, summary.failures, summary.exit_code) == (6, (), 0)
    assert summary.left_alone == {"is no CT image but MR Image": 1}
    assert summary.incomplete == ()
    assert len({outcome.series for outcome in outcomes}) == 3
    assert {path.name for path in (tmp_path / "out" / "a").iterdir()} == {"IM1", "IM2", "IM3", "IM4"}
    series = {dcmread(path).SeriesInstanceUID for path in (tmp_path / "out" / "a").iterdir()}
    assert len(series) == 1


def test_the_slices_that_a_series_lacks_are_named(tmp_path, restorer):
    root = tree(tmp_path / "in")
    (root / "a" / "IM2").write_bytes((root / "a" / "IM2").read_bytes()[:-99])
    (root / "a" / "IM3").write_bytes((root / "a" / "IM3").read_bytes()[:150])
    summary, _ = run(root, restorer)
    assert (summary.restored, summary.exit_code) == (4, 3)
    assert summary.incomplete == (f"{root}/a: a series is not whole: 2 missing: IM2, IM3",)


def test_an_interrupted_series_is_named_too(tmp_path, restorer):
    stops = iter([False, False, True, True])
    summary, _ = run(tree(tmp_path / "in"), restorer, stopping=lambda: next(stops))
    assert summary.exit_code == 130
    assert summary.incomplete == (f"{tmp_path}/in/a: a series is not whole: 2 missing: IM3, IM4",)


def test_series_are_kept_apart():
    restored = [(Path("a/1"), "x"), (Path("a/2"), "y"), (Path("b/1"), "z")]
    failed = [(Path("a/3"), None), (Path("a/4"), "y"), (Path("b/2"), None), (Path("c/1"), "w")]
    assert incomplete_series(restored, failed) == (
        "a: a series is not whole: 1 missing: 4",
        "b: a series is not whole: 1 missing: 2",
    )
    many = [(Path(f"b/{index}"), "z") for index in range(20, 40)]
    (line,) = incomplete_series(restored, many)
    assert line.endswith("27, 28, 29 and 10 more")


def test_a_plan_with_dicom_needs_to_know_what_to_do(tmp_path, restorer):
    plan = plan_batch(str(scans.save(tmp_path / "a.dcm", scans.scan())), str(tmp_path / "b.dcm"))
    with pytest.raises(ValueError, match="DICOM"):
        run_plan(plan, restorer, DENOISE)
