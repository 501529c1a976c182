"""`pipcli restore` on CT archives, as a physicist would run it."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scans
import torch
from PIL import Image as PillowImage
from pydicom import dcmread
from pydicom.uid import JPEGLSLossless
from test_dicom_reading import FAILED, LEFT, ODD, READ
from torch import Tensor, nn

from pipcli.cli import main
from pipcli.degradations import Degradation
from pipcli.images.dicom import DicomImage
from pipcli.images.dicom_reading import read_dicom
from pipcli.models import zoo


class Checker(nn.Module):
    """y = x ± 0.1 on the fields of a chessboard."""

    stride = 1
    halo = 4
    degradations = (Degradation.NOISE, Degradation.RAIN)

    def forward(self, x: Tensor, omega: Tensor) -> Tensor:
        return x + 0.1 * torch.from_numpy(scans.chessboard(*x.shape[-2:])).float()


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """The working folder: in/ with a CT series, an MR, a damaged slice, a DICOMDIR, a text and a photo."""
    monkeypatch.chdir(tmp_path)
    weights = tmp_path / "weights"
    weights.write_bytes(b"weights")
    monkeypatch.setattr(zoo, "load_model", lambda name: Checker())
    monkeypatch.setattr(zoo, "locate", lambda name: zoo.LocatedWeights(weights, None))
    root = Path("in")
    scans.save(root / "study" / "IM1", scans.scan(instance=1))
    scans.save(root / "study" / "IM2.dcm", scans.scan(instance=2), JPEGLSLossless)
    scans.save(root / "study" / "photo.png", scans.scan(instance=3))  # content decides, not the name
    report = scans.scan()
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    scans.save(root / "report.dcm", report)
    directory = scans.scan()
    directory.SOPClassUID = directory.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    scans.save(root / "DICOMDIR", directory)
    (root / "notes.txt").write_text("nothing")
    PillowImage.new("RGB", (24, 16), (200, 200, 200)).save(root / "real.png")
    return tmp_path


def damage(path: str) -> None:
    Path(path).write_bytes(Path(path).read_bytes()[:-50])


def files(folder: str) -> set[str]:
    """Paths of all files but the ledger's."""
    found = (path.relative_to(folder) for path in Path(folder).rglob("*") if path.is_file())
    return {str(path) for path in found if ".pipcli" not in path.parts}


def sums(folder: str) -> dict[str, str]:
    return {name: hashlib.sha256(Path(folder, name).read_bytes()).hexdigest() for name in files(folder)}


def restore(*arguments: str) -> int:
    return main(["restore", "in", "out", "--task", "denoise", "--device", "cpu", *arguments])


def test_photos_and_ct_lie_in_one_tree(archive, capsys):
    assert restore("--window", "abdomen", "--strength", "0.6") == 0
    assert files("out") == {"study/IM1", "study/IM2.dcm", "study/photo.png", "real.png"}
    out, err = capsys.readouterr()
    assert out == ""
    assert "all data of the patients stay in the written files" in err
    assert "left alone: 1 file is a DICOMDIR" in err
    assert "left alone: 1 file is no CT image but Basic Text SR" in err
    assert "4 restored, 0 failed, 3 left alone" in err
    after = dcmread("out/study/IM1")
    change = np.abs(after.pixel_array - 1024.0 - scans.phantom())[scans.phantom() == 40]
    assert np.median(change) == pytest.approx(0.6 * 0.1 * 399, rel=0.05)
    np.testing.assert_array_equal(after.pixel_array[scans.phantom() == 700], 1724)
    assert "abdomen" in after.DerivationDescription
    assert hashlib.sha256(b"weights").hexdigest() in after.DerivationDescription
    assert int(np.asarray(PillowImage.open("out/real.png"))[8, 8, 0]) == round(200 + 0.6 * 0.1 * 255)


def test_the_same_command_writes_the_same_bytes(archive):
    assert restore() == 0
    before = sums("out")
    assert restore("--overwrite") == 0
    assert sums("out") == before
    assert main(["restore", "in/study/IM1", "elsewhere/x", "--task", "denoise", "--device", "cpu"]) == 0
    assert sums("elsewhere").popitem()[1] == before["study/IM1"]


def test_the_same_command_goes_on_where_it_ended(archive, capsys):
    damage("in/study/IM1")
    assert restore("--copy-others") == 3
    before = sums("out")
    scans.save(Path("in/study/IM1"), scans.scan(instance=1))
    Path("out/study/IM2.dcm").write_bytes(b"half")
    capsys.readouterr()
    assert restore("--copy-others") == 0
    assert "2 restored, 2 there already, 0 failed" in capsys.readouterr().err
    assert before.items() < sums("out").items()
    assert len({dcmread(f"out/study/{name}").SeriesInstanceUID for name in ("IM1", "IM2.dcm")}) == 1


def test_another_window_is_another_result_of_ct_alone(archive, capsys):
    assert restore("--window", "abdomen") == 0
    capsys.readouterr()
    assert restore("--window", "lung") == 0
    assert "3 restored, 1 there already" in capsys.readouterr().err
    assert "lung" in dcmread("out/study/IM1").DerivationDescription


@pytest.mark.parametrize("task", ["derain", "denoise+derain"])
def test_another_task_on_dicom_is_refused_before_anything_is_written(archive, capsys, task):
    assert main(["restore", "in", "out", "--task", task]) == 2
    assert "is DICOM, on which only --task denoise is allowed" in capsys.readouterr().err
    assert not Path("out").exists()
    assert main(["restore", "in/real.png", "out/", "--task", task, "--device", "cpu"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--window", "liver"], "unknown window 'liver'"),
        (["--window=300,-200"], "unknown window"),
        (["--sigma-hu", "0"], "--sigma-hu is 0.0: it must be above 0"),
        (["--sigma-hu", "nan"], "--sigma-hu is nan"),
        (["--strength", "1.5"], "--strength is 1.5"),
    ],
)
def test_options_out_of_range_are_refused_before_anything_is_written(archive, capsys, arguments, message):
    assert restore(*arguments) == 2
    assert message in capsys.readouterr().err
    assert not Path("out").exists()


def test_a_window_may_begin_with_a_minus(archive):
    for arguments in (["--window", "-200,300"], ["--window=-200,300"], ["--window", "-600/1500"]):
        assert restore(*arguments) == 0


def test_others_are_copied_but_no_dicomdir(archive, capsys):
    assert restore("--copy-others") == 0
    assert files("out") == {"study/IM1", "study/IM2.dcm", "study/photo.png", "real.png", "report.dcm"}
    assert sums("out")["report.dcm"] == sums("in")["report.dcm"]
    assert "3 left alone (1 of them copied)" in capsys.readouterr().err


def test_json_accounts_for_every_file(archive, capsys):
    damage("in/study/IM1")
    assert restore("--json", "--copy-others") == 3
    out, _ = capsys.readouterr()
    lines = {entry["input"]: entry for entry in map(json.loads, out.splitlines())}
    assert lines["in/report.dcm"]["left_alone"] == "is no CT image but Basic Text SR"
    assert lines["in/report.dcm"]["output"] == "out/report.dcm"
    assert lines["in/DICOMDIR"]["left_alone"] == "is a DICOMDIR"
    assert lines["in/DICOMDIR"]["output"] is None
    assert lines["in/study/IM1"]["output"] is None
    assert "bytes of pixel data" in lines["in/study/IM1"]["error"]
    assert lines["in/study/IM2.dcm"]["left_alone"] is None
    assert len(lines) == 6


def test_the_slices_that_are_missing_are_named_even_quietly(archive, capsys):
    damage("in/study/IM1")
    assert restore("--quiet") == 3
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("pipcli: error: in/study/IM1: has 4558 bytes of pixel data")
    assert second == "pipcli: error: in/study: a series is not whole: 1 missing: IM1"
    assert not Path("out/study/IM1").exists()


def test_what_is_named_as_dicom_and_is_none_is_reported(archive, capsys):
    # As an encrypted slice is, whose content says nothing.
    Path("in/study/IM3.dcm").write_bytes(b"\x30\x82\x10\x00" + bytes(range(256)) * 9)
    Path("in/study/empty.dcm").write_bytes(b"")
    assert restore("--quiet") == 3
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == [
        "pipcli: error: in/study/IM3.dcm: is no DICOM file",
        "pipcli: error: in/study/empty.dcm: is no DICOM file",
    ]
    assert lines[2] == "pipcli: error: in/study: a series is not whole: 2 missing: IM3.dcm, empty.dcm"
    assert files("out") == {"study/IM1", "study/IM2.dcm", "study/photo.png", "real.png"}


def test_nothing_of_the_patient_is_said(archive, capfd):
    damage("in/study/IM1")
    Path("in/study/IM5").write_bytes(Path("in/study/IM2.dcm").read_bytes().replace(b"\xff\xd9", b"\0\0"))
    bad = scans.scan(instance=6)
    del bad.RescaleSlope
    scans.save(Path("in/study/IM6"), bad)
    data = scans.save(Path("in/study/IM7"), scans.scan(instance=7)).read_bytes()
    Path("in/study/IM7").write_bytes(data.replace(b"\x28\x00\x10\x00US", b"\x28\x00\x10\x00LO"))
    assert restore("--json", "--copy-others", "--window", "auto", "--report", "report.html") == 3
    out, err = capfd.readouterr()
    assert "IM7" in err
    report = Path("report.html").read_text()
    assert "IM7" in report
    ledger = Path("out/.pipcli/ledger.jsonl").read_text()
    assert "IM7" in ledger
    for value in (scans.CANARY, "19020304", scans.SERIES):
        assert value not in out + err + ledger + report
    # That it is in the files, as it was, is what the line about the patients' data says.
    assert dcmread("out/study/IM2.dcm").PatientName == scans.PATIENT["PatientName"]


def test_private_elements_are_dropped_when_asked(archive):
    assert restore("--drop-private") == 0
    assert not any(element.tag.is_private for element in dcmread("out/study/IM1").iterall())


def test_a_single_file_and_its_name(archive, capsys):
    command = ["restore", "in/study/IM1", "--task", "denoise", "--device", "cpu"]
    assert main([*command[:2], "one.dcm", *command[2:]]) == 0
    assert main([*command[:2], "folder/", *command[2:]]) == 0
    assert dcmread("one.dcm") == dcmread("folder/IM1")
    assert main([*command[:2], "one.png", *command[2:]]) == 2
    assert "in/study/IM1 is DICOM and is written as such, not as .png" in capsys.readouterr().err
    assert main(["restore", "in/report.dcm", "r.dcm", *command[2:]]) == 0
    assert not Path("r.dcm").exists()
    assert main(["restore", "in/real.png", "r.dcm", *command[2:]]) == 2


@pytest.mark.skipif(not ODD.is_dir(), reason="the odd files lie in ../shared/data/ct/odd")
def test_every_odd_file_is_accounted_for_in_one_command(archive, capsys):
    command = ["restore", str(ODD), "out", "--task", "denoise", "--window", "abdomen", "--device", "cpu"]
    assert main([*command, "--json", "--copy-others"]) == 3
    out, err = capsys.readouterr()
    lines = {Path(entry["input"]).name: entry for entry in map(json.loads, out.splitlines())}
    assert {name for name, entry in lines.items() if entry["error"]} == set(FAILED)
    left = {name: entry["left_alone"] for name, entry in lines.items() if entry["left_alone"]}
    assert left == LEFT
    assert lines.keys() - FAILED.keys() - LEFT.keys() == READ.keys()
    assert files("out") == {*READ, *LEFT} - {"DICOMDIR"}
    for name in READ:
        before, after = (read_dicom(folder / name) for folder in (ODD, Path("out")))
        assert isinstance(before, DicomImage)
        assert isinstance(after, DicomImage)
        np.testing.assert_array_equal(before.padded(0), after.padded(0))
        outside = (before.values(0) <= -150) | (before.values(0) >= 249) | before.padded(0)
        np.testing.assert_array_equal(before.stored[0][outside], after.stored[0][outside])
        assert (before.stored[0] != after.stored[0]).any() == (~outside).any()
    for name in LEFT.keys() - {"DICOMDIR"}:
        assert (ODD / name).read_bytes() == Path("out", name).read_bytes()
    assert "21 restored, 1 failed, 23 left alone (22 of them copied)" in err


def test_a_zip_of_a_series_is_restored_like_its_folder(archive, capsys):
    shutil.make_archive("study", "zip", "in/study")
    command = ["--task", "denoise", "--device", "cpu"]
    assert main(["restore", "study.zip", "out", *command]) == 0
    assert files("out") == {"IM1", "IM2.dcm", "photo.png"}
    assert main(["restore", "in/study", "unzipped", *command]) == 0
    assert sums("out") == sums("unzipped")
    capsys.readouterr()
    assert main(["restore", "study.zip", "out", *command]) == 0
    assert "3 there already" in capsys.readouterr().err
    assert main(["restore", "study.zip", "--in-place", *command]) == 2


def test_a_run_over_photographs_does_not_load_pydicom(tmp_path):
    PillowImage.new("RGB", (8, 8)).save(tmp_path / "a.png")
    code = (
        "import sys\n"
        "from pipcli.batch.plan import plan_batch\n"
        "import pipcli.batch.run, pipcli.inference.hounsfield\n"
        f"plan_batch({str(tmp_path / 'a.png')!r}, {str(tmp_path / 'b.png')!r})\n"
        "assert 'pydicom' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
