"""`pipcli classify` as a user meets it, with a classifier that goes by colours."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import sys
import zipfile
from pathlib import Path

import pytest
import scans
from PIL import Image as PillowImage
from standins import ColourClassifier

from pipcli.cli import main
from pipcli.errors import ModelError, OutputError
from pipcli.models import zoo

RED_LINE = {
    "file": "in/sub/red.jpg",
    "found": "noise",
    "sigma": 25.0,
    "left_alone": None,
    "error": None,
    "placed": None,
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with in/black.png, in/sub/red.jpg, in/yellow.png and in/notes.txt."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(zoo, "load_classifier", lambda name: ColourClassifier())
    for name, colour in {
        "in/black.png": (0, 0, 0),
        "in/sub/red.jpg": (250, 0, 0),
        "in/yellow.png": (250, 250, 0),
    }.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        PillowImage.new("RGB", (40, 40), colour).save(name)
    Path("in/notes.txt").write_text("no image")
    return tmp_path


def test_a_table(folder, capsys):
    assert main(["classify", "in"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "file            found          sure  sigma",
        "in/black.png    clean          1.00      -",
        "in/sub/red.jpg  noise          1.00   25.0",
        "in/yellow.png   noise+rain     1.00   25.0",
    ]
    found, last = err.splitlines()
    assert found == "pipcli: found: nothing in 1 file, noise in 1, noise and rain in 1"
    assert last.startswith("pipcli: 3 looked at, 0 failed, 1 left alone in ")


def test_the_most_probable_of_each(folder, capsys):
    assert main(["classify", "in/yellow.png", "--top", "2", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[1].split() == ["in/yellow.png", "25.0", "noise", "1.00", "rain", "1.00"]
    assert main(["classify", "in/sub/red.jpg", "--top", "1", "--json"]) == 0
    line = json.loads(capsys.readouterr().out)
    assert list(line["probabilities"]) == ["noise"]


def test_a_table_fits_a_terminal(folder, monkeypatch):
    long = "in/" + "a" * 90 + "/end.png"
    Path(long).parent.mkdir()
    shutil.copy("in/black.png", long)
    monkeypatch.setenv("COLUMNS", "80")
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", stream)
    for options in ([], ["--top", "3"]):
        assert main(["classify", "in", *options]) == 0
    lines = stream.getvalue().splitlines()
    assert len(lines) == 10
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith("…a") and "a/end.png " in line for line in lines) == 2


@pytest.mark.parametrize("top", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("name", ["a.png", "the name of a photograph.png"])
def test_as_many_degradations_as_there_are_fit_a_terminal(folder, monkeypatch, top, name):
    shutil.copy("in/yellow.png", name)
    monkeypatch.setenv("COLUMNS", "80")
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(["classify", name, "--top", str(top), "--threshold", "0"]) == 0
    header, line = stream.getvalue().splitlines()
    assert max(len(header), len(line)) <= 80
    shown, found = line.split("  25.0  ")
    assert name.endswith(shown.rstrip().lstrip("…"))
    assert len(shown) >= min(len(name), 16)
    assert found.split()[1::2] == ["1.00", "1.00", "0.00", "0.00", "0.00"][:top]
    words = {
        word.replace("low", "lowlight") if "is lowlight" in header else word for word in found.split()[::2]
    }
    assert words <= {"noise", "rain", "haze", "blur", "lowlight"}
    assert len(words) == top


def test_a_localizer_that_is_left_alone_has_not_failed(folder):
    localizer = scans.scan()
    localizer.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    scans.save(Path("ct/localizer.dcm"), localizer)
    Path("ct/bad.dcm").write_bytes(b"not DICOM")
    assert main(["classify", "ct"]) == 3
    assert main(["classify", "ct/bad.dcm"]) == 4


def test_json_is_a_line_a_file(folder, capsys):
    Path("in/bad.png").write_text("I am a text")
    assert main(["classify", "in", "--json"]) == 3
    out, err = capsys.readouterr()
    lines = {line["file"]: line for line in map(json.loads, out.splitlines())}
    red = lines["in/sub/red.jpg"]
    assert red.pop("sure") > 0.99
    assert set(red["probabilities"]) == {"noise", "rain", "haze", "blur", "lowlight"}
    assert red.pop("probabilities")["noise"] > 0.99
    assert red == RED_LINE
    bad = lines["in/bad.png"]
    assert (bad["found"], bad["error"]) == (None, "in/bad.png: is no image of a known format")
    assert "pipcli: error: in/bad.png: is no image of a known format\n" in err
    assert "3 looked at, 1 failed, 1 left alone" in err


def test_a_zip_file_that_is_broken_has_a_line_of_its_own(folder, capsys):
    Path("in/broken.zip").write_bytes(b"PK\x03\x04" + bytes(300))
    with zipfile.ZipFile("all.zip", "w") as archive:
        archive.write("in/sub/red.jpg", "red.jpg")
        archive.writestr("bad.png", "I am a text")
    words = ["classify", "in/broken.zip", "all.zip"]
    assert main([*words, "--json"]) == 3
    broken, bad, red = map(json.loads, capsys.readouterr().out.splitlines())
    assert broken.keys() == bad.keys() == red.keys()
    assert broken["error"].startswith("in/broken.zip: is a damaged zip file")
    assert [line["file"] for line in (broken, bad, red)] == [
        "in/broken.zip",
        "all.zip/bad.png",
        "all.zip/red.jpg",
    ]
    assert bad["error"] == "all.zip/bad.png: is no image of a known format"
    assert main([*words, "--csv"]) == 3
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["file"] for row in rows] == ["in/broken.zip", "all.zip/bad.png", "all.zip/red.jpg"]
    # Links to others can be made all the same.
    assert main(["classify", "in/broken.zip", "in/black.png", "--sort-into", "out"]) == 3
    assert Path("out/clean/black.png").is_symlink()


def test_not_all_failed_where_something_was_left_alone(folder):
    Path("bad").mkdir()
    Path("bad/bad.png").write_text("I am a text")
    assert main(["classify", "bad"]) == 4
    Path("bad/notes.txt").write_text("no image")
    assert main(["classify", "bad"]) == 3


def test_csv_has_a_header_and_a_line_a_file(folder, capsys):
    Path("in/bad, too.png").write_text("I am a text")
    assert main(["classify", "in", "--csv"]) == 3
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["file"] for row in rows] == [
        "in/bad, too.png",
        "in/black.png",
        "in/sub/red.jpg",
        "in/yellow.png",
    ]
    assert [row["found"] for row in rows] == ["", "clean", "noise", "noise+rain"]
    assert float(rows[3]["rain"]) > 0.99
    assert rows[0]["error"].startswith("in/bad, too.png: is no image")


def test_stdin(folder, monkeypatch, capsys):
    data = Path("in/sub/red.jpg").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert main(["classify", "-", "--json"]) == 0
    out, err = capsys.readouterr()
    line = json.loads(out)
    assert (line["file"], line["found"], err) == ("-", "noise", "")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"I am a text")))
    assert main(["classify", "-"]) == 4
    assert capsys.readouterr().err == "pipcli: error: standard input: is no image of a known format\n"


def test_patterns_and_lists(folder, monkeypatch, capsys):
    Path("list.txt").write_text("in/black.png\nin/missing.png\n")
    assert main(["classify", "in/**/*.jpg", "@list.txt", "--json"]) == 3
    found = [json.loads(line)["found"] for line in capsys.readouterr().out.splitlines()]
    assert found == ["noise", "clean", None]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"in/yellow.png\0")))
    assert main(["classify", "--files0-from", "-", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["found"] == "noise+rain"


def test_the_threshold(folder, capsys):
    PillowImage.new("RGB", (40, 40), (120, 0, 0)).save("weak.png")
    for threshold, found in (("0.5", "clean"), ("0.3", "noise"), ("0", "noise+rain+haze+blur+lowlight")):
        assert main(["classify", "weak.png", "--threshold", threshold, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["found"] == found


def test_files_are_sorted(folder, capsys):
    assert main(["classify", "in", "--sort-into", "out", "--json"]) == 0
    placed = {line["placed"] for line in map(json.loads, capsys.readouterr().out.splitlines())}
    assert placed == {"out/clean/black.png", "out/noise/sub/red.jpg", "out/noise+rain/yellow.png"}
    assert all(Path(path).is_symlink() for path in placed)
    Path("out/clean/black.png").unlink()
    Path("out/clean/black.png").write_text("not ours")
    assert main(["classify", "in", "--sort-into", "out", "--copy"]) == 3
    assert "out/clean/black.png: is there already and is not in/black.png" in capsys.readouterr().err
    assert Path("out/clean/black.png").read_text() == "not ours"


def test_a_full_disk_ends_the_run_and_all_is_told(folder, monkeypatch, capsys):
    def full(path: Path, data: bytes) -> None:
        raise OutputError(f"{path}: cannot be written: No space left on device")

    monkeypatch.setattr("pipcli.batch.classify.write_bytes", full)
    Path("in/bad.png").write_text("I am a text")
    assert main(["classify", "in/bad.png", "in/black.png", "--sort-into", "out", "--copy", "--json"]) == 7
    out, err = capsys.readouterr()
    assert [json.loads(line)["file"] for line in out.splitlines()] == ["in/bad.png", "in/black.png"]
    bad, black, sums = err.splitlines()
    assert bad == "pipcli: error: in/bad.png: is no image of a known format"
    assert black == "pipcli: error: out/clean/black.png: cannot be written: No space left on device"
    assert sums.startswith("pipcli: 0 looked at, 2 failed, 0 left alone in ")


def test_a_zip_file_is_sorted_as_copies_only(folder, capsys):
    with zipfile.ZipFile("all.zip", "w") as archive:
        archive.write("in/sub/red.jpg", "red.jpg")
    assert main(["classify", "all.zip", "--sort-into", "out"]) == 2
    assert "--copy makes copies" in capsys.readouterr().err
    assert main(["classify", "all.zip", "--sort-into", "out", "--copy"]) == 0
    assert Path("out/noise/red.jpg").read_bytes() == Path("in/sub/red.jpg").read_bytes()


def test_nothing_to_do_is_well(folder, capsys):
    Path("empty").mkdir()
    assert main(["classify", "empty"]) == 0
    assert "0 looked at, 0 failed" in capsys.readouterr().err


REFUSED = {
    "nothing": ([], 2, "IN is missing"),
    "missing": (["none.png"], 2, "none.png: there is no such file"),
    "two outputs": (["in", "--json", "--csv"], 2, "--json and --csv contradict each other"),
    "too many": (["in", "--top", "6"], 2, "--top is 6: it must be from 1 to 5"),
    "none at all": (["in", "--top", "0"], 2, "--top is 0"),
    "no probability": (["in", "--threshold", "1.5"], 2, "--threshold is 1.5"),
    "copies of what": (["in", "--copy"], 2, "--copy is for --sort-into"),
    "a stream sorted": (["-", "--sort-into", "out"], 2, "- stands for one input, which is not sorted"),
    "a stream and more": (["-", "in"], 2, "- stands for one input"),
    "sorted into itself": (["in", "--sort-into", "in/out"], 2, "lies inside the input"),
    "no pixels": (["in", "--max-pixels", "0"], 2, "--max-pixels is 0"),
    "no window": (["in", "--window", "skin"], 2, "skin"),
    "sorted into a file": (["in", "--sort-into", "in/black.png"], 7, "in/black.png: is a file"),
}


@pytest.mark.parametrize(("arguments", "code", "says"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_is_one_line_and_changes_nothing(folder, capsys, arguments, code, says):
    before = set(Path().rglob("*"))
    assert main(["classify", *arguments]) == code
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("pipcli: error: ")
    assert says in err
    assert set(Path().rglob("*")) == before


def test_a_classifier_that_is_not_there(folder, monkeypatch, capsys):
    def load(name: str) -> object:
        raise ModelError(f"weights of {name} are missing")

    monkeypatch.setattr(zoo, "load_classifier", load)
    assert main(["classify", "in"]) == 5
    assert capsys.readouterr() == ("", "pipcli: error: weights of pip-classifier are missing\n")


def test_interrupted_it_finishes_the_file_in_hand(folder, monkeypatch, capfd):
    answer = ColourClassifier.forward

    def forward(self, crops, overview):
        os.kill(os.getpid(), signal.SIGINT)
        return answer(self, crops, overview)

    monkeypatch.setattr(ColourClassifier, "forward", forward)
    assert main(["classify", "in", "--json"]) == 130
    out, err = capfd.readouterr()
    assert len(out.splitlines()) == 1
    assert "1 looked at, 0 failed, 1 left alone, 2 not begun" in err


def test_help_fits_80_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["classify", "--help"]) == 0
    out = capsys.readouterr().out
    assert "--sort-into" in out
    assert max(map(len, out.splitlines())) <= 80
