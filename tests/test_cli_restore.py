"""`pipcli restore` as a user meets it: files, streams and exit codes, with a model that stands in."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import scans
import torch
from PIL import Image as PillowImage
from standins import ColourClassifier
from torch import Tensor, nn

from pipcli.batch.outcome import Summary
from pipcli.batch.plan import Plan
from pipcli.cli import main
from pipcli.cli.accounts import MOST_KINDS, amount, duration, tell_summary
from pipcli.cli.options import parse_bytes
from pipcli.degradations import Degradation
from pipcli.errors import ModelError
from pipcli.models import zoo


class Dimming(nn.Module):
    """y = x·(what ω says of noise), so that the output tells ω."""

    stride = 1
    halo = 4
    degradations = (Degradation.NOISE, Degradation.RAIN)

    def forward(self, x: Tensor, omega: Tensor) -> Tensor:
        return x * omega[:, :1, None, None]


@pytest.fixture
def loaded(monkeypatch, tmp_path_factory):
    """Names of the models asked for; every one is a Dimming."""
    names: list[str] = []

    def load(name: str) -> nn.Module:
        names.append(name)
        return Dimming()

    weights = tmp_path_factory.mktemp("weights") / "stand-in.safetensors"
    weights.write_bytes(b"weights")
    monkeypatch.setattr(zoo, "load_model", load)
    monkeypatch.setattr(zoo, "locate", lambda name: zoo.LocatedWeights(weights, None))
    return names


@pytest.fixture
def folder(tmp_path, monkeypatch, loaded):
    """The working folder, with in/a.png, in/sub/b.jpg (both of level 200), in/notes.txt, file, there.png."""
    monkeypatch.chdir(tmp_path)
    save("in/a.png")
    save("in/sub/b.jpg")
    Path("in/notes.txt").write_text("no image")
    Path("file").write_text("in the way")
    Path("there.png").write_text("not ours")
    return tmp_path


def save(name: str) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    PillowImage.new("RGB", (24, 16), (200, 200, 200)).save(name)


def level(name: str) -> int:
    return int(np.asarray(PillowImage.open(name))[8, 8, 0])


def files(folder: str) -> set[str]:
    """Paths of all files but the ledger's."""
    found = (path.relative_to(folder) for path in Path(folder).rglob("*") if path.is_file())
    return {str(path) for path in found if ".pipcli" not in path.parts}


def test_pictures_that_are_not_read_are_named(folder, capsys):
    for name in ("a.heic", "b.HEIC", "c.gif"):
        Path("in", name).write_bytes(b"")
    assert main(["restore", "in", "out", "--task", "denoise"]) == 0
    err = capsys.readouterr().err
    assert "left alone: 3 of formats that are not read (1 .gif, 2 .heic), 1 no image\n" in err
    assert "2 restored, 0 failed, 4 left alone" in err


def test_a_folder(folder, loaded, capsys):
    assert main(["restore", "in", "out", "--task", "derain+denoise"]) == 0
    assert files("out") == {"a.png", "sub/b.jpg"}
    assert level("out/a.png") == 100  # half of the mix is noise
    out, err = capsys.readouterr()
    assert out == ""
    first, left, last = err.splitlines()
    assert left == "pipcli: left alone: 1 no image"
    assert first.startswith("pipcli: 2 files to restore with pip-unet on ")
    assert last.startswith("pipcli: 2 restored, 0 failed, 1 left alone in ")
    assert last.endswith(first.split(" with ")[1])
    assert loaded == ["pip-unet"]


def test_one_file_with_every_option(folder, loaded, capsys):
    options = "--task derain --model mine --device cpu --precision fp32 --tile 256 --strength 0.5 --quiet"
    assert main(["restore", "in/a.png", "new.png", *options.split()]) == 0
    assert level("new.png") == 100  # half of the way to black
    assert loaded == ["mine"]
    assert capsys.readouterr() == ("", "")


def test_bad_files_are_listed_and_the_rest_is_done(folder, capsys):
    Path("in/text.png").write_text("I am a text")
    Path("in/empty.jpg").write_bytes(b"")
    assert main(["restore", "in", "out", "--task", "denoise"]) == 3
    assert files("out") == {"a.png", "sub/b.jpg"}
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[1:4] == [
        "pipcli: left alone: 1 no image",
        "pipcli: error: in/empty.jpg: is empty",
        "pipcli: error: in/text.png: is no image of a known format",
    ]
    assert "2 restored, 2 failed, 1 left alone" in err.splitlines()[4]
    assert main(["restore", "in/text.png", "out/", "--task", "denoise", "--quiet"]) == 4
    assert capsys.readouterr() == ("", "pipcli: error: in/text.png: is no image of a known format\n")


def test_json_is_one_line_a_file(folder, capsys):
    Path("in/text.png").write_text("I am a text")
    Path("in/we\nird.png").write_bytes(Path("in/a.png").read_bytes())
    assert main(["restore", "in", "out", "--task", "denoise", "--json"]) == 3
    out, err = capsys.readouterr()
    lines = {entry.pop("input"): entry for entry in map(json.loads, out.splitlines())}
    assert all(entry.pop("seconds") >= 0 for entry in lines.values())
    omega = {"noise": 1.0, "rain": 0.0}
    well = {
        "task": "denoise",
        "omega": omega,
        "decision": None,
        "untouched": False,
        "warnings": [],
        "left_alone": None,
        "kept": False,
        "error": None,
    }
    assert lines == {
        "in/a.png": {"output": "out/a.png", **well},
        "in/sub/b.jpg": {"output": "out/sub/b.jpg", **well},
        "in/we\nird.png": {"output": "out/we\nird.png", **well},
        "in/text.png": {**well, "output": None, "error": "in/text.png: is no image of a known format"},
    }
    assert all(line.startswith("pipcli: ") for line in err.splitlines())


def test_a_name_that_is_no_text_is_restored_and_told(folder, capsys):
    name = os.fsdecode(b"in/\xff.png")
    try:
        save(name)
    except OSError:
        pytest.skip("this file system holds no such names")
    assert main(["restore", "in", "out", "--task", "denoise", "--json"]) == 0
    assert level(os.fsdecode(b"out/\xff.png")) == 200
    assert name in [json.loads(line)["input"] for line in capsys.readouterr().out.splitlines()]


def test_the_same_command_again_keeps_what_is_there(folder, capsys):
    command = ["restore", "in", "out", "--task", "denoise"]
    assert main(command) == 0
    Path("out/a.png").unlink()
    capsys.readouterr()
    assert main([*command, "--json"]) == 0
    out, err = capsys.readouterr()
    kept = {line["input"]: line["kept"] for line in map(json.loads, out.splitlines())}
    assert kept == {"in/a.png": False, "in/sub/b.jpg": True}
    assert "pipcli: 1 restored, 1 there already, 0 failed, 1 left alone in " in err
    assert main([*command, "--overwrite"]) == 0
    assert "pipcli: 2 restored, 0 failed" in capsys.readouterr().err


def test_a_single_file_is_kept_and_replaced_likewise(folder, capsys):
    command = ["restore", "in/a.png", "there.png", "--task", "denoise"]
    assert main([*command, "--skip-existing"]) == 0
    assert Path("there.png").read_text() == "not ours"
    assert main([*command, "--overwrite"]) == 0
    assert level("there.png") == 200
    capsys.readouterr()
    assert main(command) == 0
    assert "0 restored, 1 there already" in capsys.readouterr().err


def test_nothing_to_do_is_well(folder, capsys):
    Path("empty").mkdir()
    assert main(["restore", "empty", "out", "--task", "denoise"]) == 0
    assert not Path("out").exists()
    assert "0 restored, 0 failed, 0 left alone" in capsys.readouterr().err


REFUSED: dict[str, tuple[Sequence[str], int, str]] = {
    "missing input": (["none.png", "out", "--task", "denoise"], 2, "none.png: there is no such file"),
    "no task": (["in", "out", "--task", ""], 2, "unknown task '': choose from auto, denoise, "),
    "unknown task": (
        ["in", "out", "--task", "polish"],
        2,
        "unknown task 'polish': choose from auto, denoise, derain, dehaze, deblur, enhance",
    ),
    "auto among passes": (
        ["in", "out", "--task", "denoise,auto"],
        2,
        "unknown task 'auto': choose from denoise, ",
    ),
    "task and weights": (
        ["in", "out", "--task", "denoise", "--omega", "noise=1"],
        2,
        "--task and --omega contradict each other",
    ),
    "weights that sum to less": (["in", "out", "--omega", "noise=0.5,rain=0.2"], 2, "the weights sum to 0.7"),
    "a negative weight": (["in", "out", "--omega", "noise=1.5,rain=-0.5"], 2, "the weight of rain must be"),
    "a weight of nothing": (["in", "out", "--omega", "snow=1"], 2, "'snow' is none of noise, rain, haze"),
    "a weight twice": (["in", "out", "--omega", "noise=0.5,noise=0.5"], 2, "names noise twice"),
    "a pass twice": (["in", "out", "--task", "denoise,denoise"], 2, "same task twice"),
    "a threshold for a task": (
        ["in", "out", "--task", "denoise", "--threshold", "0.6"],
        2,
        "--threshold is for --task auto",
    ),
    "no abstaining from a task": (
        ["in", "out", "--omega", "noise=1", "--no-abstain"],
        2,
        "--no-abstain is for --task auto",
    ),
    "a classifier for a task": (
        ["in", "out", "--task", "denoise", "--classifier", "mine"],
        2,
        "--classifier is for --task auto",
    ),
    "a threshold above 1": (["in", "out", "--threshold", "1.1"], 2, "--threshold is 1.1"),
    "a threshold no number": (["in", "out", "--threshold", "nan"], 2, "--threshold is nan"),
    "private elements under auto": (
        ["in", "out", "--drop-private"],
        2,
        "--drop-private needs --task denoise",
    ),
    "weights this model does not know": (["in", "out", "--omega", "haze=1"], 2, "not trained for haze"),
    "same task twice": (["in", "out", "--task", "denoise+denoise"], 2, "same task twice"),
    "task this model does not know": (["in", "out", "--task", "dehaze"], 2, "not trained for haze"),
    "strength above 1": (["in", "out", "--task", "denoise", "--strength", "1.5"], 2, "--strength is 1.5"),
    "strength no number": (["in", "out", "--task", "denoise", "--strength", "nan"], 2, "--strength is nan"),
    "strength a word": (["in", "out", "--task", "denoise", "--strength", "much"], 2, "'--strength'"),
    "tile too small": (["in", "out", "--task", "denoise", "--tile", "10"], 2, "tile is 10"),
    "unknown device": (["in", "out", "--task", "denoise", "--device", "tpu"], 2, "'--device'"),
    "unknown precision": (["in", "out", "--task", "denoise", "--precision", "int8"], 2, "'--precision'"),
    "unknown option": (["in", "out", "--task", "denoise", "--magic"], 2, "--magic"),
    "no output": (["in", "--task", "denoise"], 2, "OUT"),
    "same folder": (["in", "in/sub/..", "--task", "denoise"], 2, "same folder"),
    "same file": (["in/a.png", "in/a.png", "--task", "denoise"], 2, "this output is also an input"),
    "output inside the input": (["in", "in/out", "--task", "denoise"], 2, "lies inside the input"),
    "output of no known format": (["in/a.png", "a.xyz", "--task", "denoise"], 2, "a.xyz: its suffix"),
    "a name of another format": (
        ["in/a.png", "b.jpg", "--format", "png", "--task", "denoise"],
        2,
        "b.jpg: this name is that of a JPEG file, --format is PNG",
    ),
    "private elements in copies": (
        ["in", "out", "--drop-private", "--copy-others", "--task", "denoise"],
        2,
        "--drop-private excludes --copy-others: what is copied keeps its private elements",
    ),
    "a stream to a name of no known format": (["-", "a.xyz"], 2, "a.xyz: its suffix is none that can be"),
    "a stream to what is no file": (["-", "/dev/null", "--overwrite"], 7, "/dev/null: is no regular file"),
    "a stream below a file": (["-", "file/a.png"], 7, "file is no folder"),
    "a stream to no name": (["-", ""], 2, "empty name"),
    **{
        f"{options[0]} for a stream": (["-", "-", *options], 2, f"{options[0]} is for files, not for -")
        for options in (
            ["--skip-existing"],
            ["--preserve-times"],
            ["--copy-others"],
            ["--drop-private", "--task", "denoise"],
            ["--window", "lung"],
            ["--sigma-hu", "20"],
        )
    },
    "a stream to a name of another format": (
        ["-", "b.jpg", "--format", "png", "--task", "denoise"],
        2,
        "b.jpg: this name is that of a JPEG file, --format is PNG",
    ),
    "overwrite and skip": (
        ["in", "out", "--task", "denoise", "--overwrite", "--skip-existing"],
        2,
        "contradict",
    ),
    "a stranger's file": (["in/a.png", "there.png", "--task", "denoise"], 2, "there.png: is there already"),
    "no words at all": (["--task", "denoise"], 2, "IN and OUT are missing"),
    "a name in place": (
        ["in", "--in-place", "--name", "x", "--task", "denoise"],
        2,
        "leaves no room for --name,",
    ),
    "no template": (["in", "out", "--name", "{x}", "--task", "denoise"], 2, "--name is '{x}'"),
    "no shard": (["in", "out", "--shard", "3/2", "--task", "denoise"], 2, "--shard is '3/2'"),
    "no format": (["in", "out", "--format", "doc", "--task", "denoise"], 2, "doc"),
    "no quality": (["in", "out", "--quality", "101", "--task", "denoise"], 2, "quality is 101"),
    "no page": (
        ["in", "out", "--report", "page.pdf", "--task", "denoise"],
        2,
        "page.pdf: a report is a file",
    ),
    "page below a file": (
        ["in", "out", "--report", "file/x.html", "--task", "denoise"],
        7,
        "file is no folder",
    ),
    "no pixels": (["in", "out", "--max-pixels", "0", "--task", "denoise"], 2, "--max-pixels is 0"),
    "no list": (["out", "--files0-from", "none", "--task", "denoise"], 2, "none: the list cannot be read"),
    "several files to a file": (
        ["in/a.png", "in", "there.png", "--task", "denoise"],
        7,
        "there.png: is a file",
    ),
    "several to stdout": (["in/a.png", "in/a.png", "-", "--task", "denoise"], 2, "- stands for one input"),
    "a folder to stdout": (
        ["in", "-", "--task", "denoise"],
        2,
        "in: there is no such file; to stdout goes one",
    ),
    "stdin to a folder": (["-", "in", "--task", "denoise"], 2, "in: is a folder; what comes from stdin"),
    "json with stdout": (
        ["in/a.png", "-", "--json", "--task", "denoise"],
        2,
        "--json is for files, not for -",
    ),
    "stdin over a file": (["-", "there.png", "--task", "denoise"], 2, "there.png: is there already"),
    "output is a file": (["in", "file", "--task", "denoise"], 7, "file: is a file"),
    "output below a file": (["in", "file/x", "--task", "denoise"], 7, "file/x: cannot be made"),
    "output not writable": (["in", "/proc/self/x", "--task", "denoise"], 7, "/proc/self/x: cannot be writ"),
}


@pytest.mark.parametrize(("arguments", "code", "says"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_is_one_line_and_changes_nothing(folder, capsys, arguments, code, says):
    before = set(Path().rglob("*"))
    assert main(["restore", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("pipcli: error: ")
    assert err.count("\n") == 1
    assert says in err
    assert set(Path().rglob("*")) == before


def test_usage_is_checked_before_a_model_is_loaded(folder, loaded, capsys):
    for name in ("missing input", "unknown task", "strength above 1", "same folder", "output is a file"):
        main(["restore", *REFUSED[name][0]])
    capsys.readouterr()
    assert loaded == []


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_there(folder, monkeypatch, capsys, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert main(["restore", "in", "out", "--task", "denoise", "--device", device]) == 6
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"pipcli: error: device '{device}' is not there")
    assert not Path("out").exists()


def test_auto_says_what_it_chose(folder, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert main(["restore", "in", "out", "--task", "denoise"]) == 0
    assert "with pip-unet on cpu in fp32" in capsys.readouterr().err


def test_damaged_weights(folder, monkeypatch, capsys):
    def load(name: str) -> nn.Module:
        raise ModelError(f"weights of {name} have sha256 1, expected 2")

    monkeypatch.setattr(zoo, "load_model", load)
    assert main(["restore", "in", "out", "--task", "denoise"]) == 5
    assert capsys.readouterr() == ("", "pipcli: error: weights of pip-unet have sha256 1, expected 2\n")
    assert not Path("out").exists()


def test_a_model_that_is_not_there(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save("a.png")
    assert main(["restore", "a.png", "b.png", "--task", "denoise", "--model", "none"]) == 5
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "model none is neither" in err


def test_no_arguments_show_the_help_and_version_is_told(capsys):
    assert main([]) == 0
    assert "Usage: pipcli" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("pipcli 0.")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (60, "1 min 0 s"), (3599.9, "1 h 0 min"), (34860, "9 h 41 min")],
)
def test_durations_are_told_in_fitting_units(seconds, text):
    assert duration(seconds) == text


def test_help_fits_80_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["restore", "--help"]) == 0
    out = capsys.readouterr().out
    assert "--strength" in out
    assert max(map(len, out.splitlines())) <= 80


def ledger_of(folder: str) -> dict[str, dict[str, object]]:
    lines = (Path(folder) / ".pipcli" / "ledger.jsonl").read_text().splitlines()
    return {entry["output"]: entry for entry in map(json.loads, lines)}


@pytest.mark.parametrize(
    ("arguments", "omega", "task", "becomes"),
    [
        (["--omega", "noise=0.7,rain=0.3"], {"noise": 0.7, "rain": 0.3}, "noise=0.7,rain=0.3", 140),
        (
            ["--task", "denoise,derain"],
            [{"noise": 1.0, "rain": 0.0}, {"noise": 0.0, "rain": 1.0}],
            "denoise,derain",
            0,
        ),
    ],
)
def test_weights_by_hand_and_passes_are_noted_everywhere(folder, capsys, arguments, omega, task, becomes):
    assert main(["restore", "in", "out", *arguments, "--json", "--report", "page.html"]) == 0
    assert level("out/a.png") == becomes
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["task"], line["omega"], line["decision"]) for line in lines] == [(task, omega, None)] * 2
    assert ledger_of("out")["a.png"]["parameters"]["omega"] == omega
    assert f"<dd>{task}</dd>" in Path("page.html").read_text()
    assert main(["restore", "in", "out", *arguments, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "(there already)" in out
    assert f"task: {task}, tile" in out
    assert main(["restore", "in", "out", "--task", "denoise", "--json"]) == 0
    assert [json.loads(line)["kept"] for line in capsys.readouterr().out.splitlines()] == [False, False]


@pytest.mark.parametrize("arguments", [["--omega", "noise=0.7,rain=0.3"], ["--task", "denoise,derain"]])
def test_only_noise_is_removed_from_dicom(folder, capsys, arguments):
    scans.save(Path("ct/a.dcm"), scans.scan())
    assert main(["restore", "ct", "out", *arguments]) == 2
    assert "ct/a.dcm: is DICOM, on which only --task denoise is allowed" in capsys.readouterr().err
    assert not Path("out").exists()


def test_a_stream_in_passes_and_by_weights(folder, monkeypatch):
    for arguments, becomes in ((["--omega", "noise=0.7,rain=0.3"], 140), (["--task", "derain,denoise"], 0)):
        written = piped(monkeypatch, Path("in/a.png").read_bytes())
        assert main(["restore", "-", "-", *arguments, "--quiet"]) == 0
        assert np.asarray(PillowImage.open(io.BytesIO(written.getvalue())))[8, 8, 0] == becomes


@pytest.fixture
def colours(folder, monkeypatch):
    """The classifier goes by colours; in/ holds a red picture, a black one, and two of level 200."""
    monkeypatch.setattr(zoo, "load_classifier", lambda name: ColourClassifier())
    located = zoo.locate("any")
    monkeypatch.setattr(zoo, "locate", lambda name, table=None: located)
    PillowImage.new("RGB", (40, 40), (250, 0, 0)).save("in/red.png")
    PillowImage.new("RGB", (40, 40)).save("in/black.png")


def test_without_a_task_a_classifier_decides(colours, capsys):
    assert main(["restore", "in", "out", "--json", "--report", "page.html"]) == 0
    assert Path("out/black.png").read_bytes() == Path("in/black.png").read_bytes()
    out, err = capsys.readouterr()
    lines = {line["input"]: line for line in map(json.loads, out.splitlines())}
    black, red, grey = (lines[f"in/{name}.png"] for name in ("black", "red", "a"))
    assert (black["omega"], black["untouched"], black["decision"]["verdict"]) == (None, True, "clean")
    assert (red["omega"], red["untouched"]) == ({"noise": 1.0, "rain": 0.0}, False)
    assert red["decision"]["probabilities"]["noise"] > 0.99
    assert red["decision"]["sigma"] == 25
    assert grey["omega"] == [{"noise": 1.0, "rain": 0.0}, {"noise": 0.0, "rain": 1.0}]
    assert {line["task"] for line in lines.values()} == {"auto"}
    assert "pipcli: found: noise and rain in 2 files, nothing in 1, noise in 1\n" in err
    assert "pipcli: 3 restored, 1 untouched, 0 failed, 1 left alone in" in err
    page = Path("page.html").read_text()
    assert "found nothing (" in page
    assert "untouched" in page
    assert "<dt>found</dt><dd>noise and rain in 2 files" in page
    assert "<dt>classifier</dt><dd>pip-classifier, sha256 " in page
    assert ledger_of("out")["red.png"]["decision"]["verdict"] == "noise"
    # What is kept is told as it was told when it was made.
    assert main(["restore", "in", "out", "--json"]) == 0
    again = {line["input"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    for name, line in lines.items():
        if line["left_alone"] is None:
            assert again[name] == {**line, "kept": True, "seconds": again[name]["seconds"]}


def test_the_threshold_and_not_abstaining(colours, capsys):
    assert main(["restore", "in", "out", "--threshold", "0.999", "--task", "auto"]) == 0
    assert "nothing in 3 files, noise in 1\n" in capsys.readouterr().err
    assert main(["restore", "in", "new", "--no-abstain", "--dry-run"]) == 0
    assert "task: auto, tile" in capsys.readouterr().out
    assert main(["restore", "in/a.png", "new/", "--no-abstain", "--threshold", "0.999"]) == 0
    assert "found: nothing sure in 1 file" in capsys.readouterr().err
    assert level("new/a.png") < 200


def test_a_stream_in_which_nothing_is_found_goes_through(colours, monkeypatch, capfd):
    data = Path("in/black.png").read_bytes()
    written = piped(monkeypatch, data)
    assert main(["restore", "-", "-"]) == 0
    assert written.getvalue() == data
    err = capfd.readouterr().err
    assert "pipcli: found nothing (blur 0.00, " in err
    assert "pipcli: 1 untouched with " in err
    assert main(["restore", "in/black.png", "-", "--format", "jpg"]) == 0
    assert b"\xff\xd8\xff" in written.getvalue()
    assert main(["restore", "in/red.png", "red.png", "--quiet"]) == 0
    assert level("red.png") == 250


def test_a_classifier_that_is_not_there(folder, monkeypatch, capsys):
    def load(name: str) -> nn.Module:
        raise ModelError(f"weights of {name} are missing")

    monkeypatch.setattr(zoo, "load_classifier", load)
    assert main(["restore", "in", "out"]) == 5
    assert capsys.readouterr() == ("", "pipcli: error: weights of pip-classifier are missing\n")
    assert not Path("out").exists()


@pytest.fixture
def many(folder):
    """Five images in many/."""
    for index in range(5):
        save(f"many/{index}.png")


def signalling(monkeypatch, at: int, *numbers: int) -> None:
    """Every model sends these signals to this process while it computes the image of that number."""

    class Signalling(Dimming):
        calls = 0

        def forward(self, x: Tensor, omega: Tensor) -> Tensor:
            self.calls += 1
            if self.calls == at:
                for number in numbers:
                    signal.raise_signal(number)
            return super().forward(x, omega)

    monkeypatch.setattr(zoo, "load_model", lambda name: Signalling())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_once_it_finishes_the_file_in_hand(many, monkeypatch, capfd, number):
    signalling(monkeypatch, 2, number)
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert main(["restore", "many", "out", "--task", "denoise"]) == 130
    assert files("out") == {"0.png", "1.png"}
    assert level("out/1.png") == 200
    err = capfd.readouterr().err
    assert "pipcli: stopping after the file in hand" in err
    assert "pipcli: 2 restored, 0 failed, 0 left alone, 3 not begun in " in err
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_before_the_first_file(many, monkeypatch, number):
    def load(name: str) -> nn.Module:
        signal.raise_signal(number)
        return Dimming()

    monkeypatch.setattr(zoo, "load_model", load)
    before = signal.getsignal(signal.SIGTERM)
    assert main(["restore", "many", "out", "--task", "denoise"]) == 130
    assert main(["restore", "in/a.png", "-", "--task", "denoise"]) == 130
    assert not Path("out").exists()
    assert signal.getsignal(signal.SIGTERM) == before


def test_interrupted_twice_it_stops_at_once(many, monkeypatch):
    signalling(monkeypatch, 2, signal.SIGINT, signal.SIGINT)
    assert main(["restore", "many", "out", "--task", "denoise"]) == 130
    assert files("out") == {"0.png"}


def test_a_reader_that_leaves_early_gets_no_traceback():
    command = [sys.executable, "-m", "pipcli", "restore", "--help"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate(timeout=30)
    assert process.returncode == 7
    assert err == b""


def run_unread(monkeypatch, *arguments: str) -> int:
    """The command with a stdout whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as stdout, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", stdout)
        return main(["restore", *arguments])


def test_a_reader_of_json_that_leaves_ends_the_run_after_the_files_in_hand(many, monkeypatch, capfd):
    class Slow(Dimming):
        def forward(self, x: Tensor, omega: Tensor) -> Tensor:
            time.sleep(0.1)  # so that what is done is told before all is begun
            return super().forward(x, omega)

    monkeypatch.setattr(zoo, "load_model", lambda name: Slow())
    assert run_unread(monkeypatch, "many", "out", "--task", "denoise", "--json") == 7
    err = capfd.readouterr().err
    assert " 0 failed, 0 left alone, " in err
    assert " not begun in " in err
    assert "error" not in err
    assert 1 <= len(files("out")) < 5
    assert main(["restore", "many", "out", "--task", "denoise", "--quiet"]) == 0
    assert len(files("out")) == 5


def test_interrupted_with_the_reader_of_json_it_is_interrupted(many, monkeypatch, capfd):
    signalling(monkeypatch, 1, signal.SIGINT)
    assert run_unread(monkeypatch, "many", "out", "--task", "denoise", "--json") == 130
    assert " not begun in " in capfd.readouterr().err


@pytest.mark.parametrize(("terminal", "quiet"), [(True, False), (True, True), (False, False)])
def test_a_bar_is_drawn_on_a_terminal_only(folder, monkeypatch, terminal, quiet):
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    assert main(["restore", "in", "out", "--task", "denoise", *(["--quiet"] if quiet else [])]) == 0
    assert ("/2 [" in stream.getvalue()) == (terminal and not quiet)
    assert "\x1b[" not in stream.getvalue()  # no colours, whether NO_COLOR asks for that or not


@pytest.mark.parametrize("terminal", [True, False])
def test_lines_on_a_terminal_are_not_written_into_a_bar(folder, monkeypatch, terminal):
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(out, "isatty", lambda: terminal)
    monkeypatch.setattr(err, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    assert main(["restore", "in", "out", "--task", "denoise", "--json"]) == 0
    assert ("/2 [" in err.getvalue()) == (not terminal)


def test_warnings_do_not_push_failures_away(capsys):
    warnings = {f"told of 1 file, {chr(97 + kind)}": 1 for kind in range(MOST_KINDS + 2)}
    summary = Summary(2, ("bad.png: is empty",), 0, 0, 1.0, False, None)
    tell_summary(summary, Plan(()), "by hand", warnings | {"told of most": 3}, quiet=False)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "pipcli: warning: told of most (3 files)"
    assert sum("told of" in line for line in lines) == MOST_KINDS
    assert lines[MOST_KINDS:] == [
        "pipcli: warning: and 3 other notes, in --json and the ledger",
        "pipcli: error: bad.png: is empty",
        "pipcli: 2 restored, 1 failed, 0 left alone in 1.0 s, by hand",
    ]


def test_warnings_that_differ_in_numbers_alone_are_one_line(folder, capsys):
    for number in range(30):
        pixels = np.full((24, 16), number + 1.5, np.float32)
        PillowImage.fromarray(pixels).save(f"in/{number:02}.tif")
    assert main(["restore", "in", "out", "--task", "denoise", "--json"]) == 0
    out, err = capsys.readouterr()
    (line,) = [line for line in err.splitlines() if "warning: " in line]
    assert line.endswith(" (30 files, 29 of them with other numbers)")
    told = {note for each in map(json.loads, out.splitlines()) for note in each["warnings"]}
    assert len(told) == 30
    assert line.split("warning: ")[1].split(" (30 files")[0] in told
    noted = {note for entry in ledger_of("out").values() for note in entry["warnings"]}
    assert noted == told, "what the summary leaves out is in the ledger"


def test_a_localizer_that_is_left_alone_has_not_failed(folder, capsys):
    localizer = scans.scan()
    localizer.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    scans.save(Path("ct/localizer.dcm"), localizer)
    Path("ct/bad.dcm").write_bytes(b"not DICOM")
    command = ["restore", "ct", "out", "--task", "denoise"]
    assert main(command) == 3
    assert main([*command, "--copy-others"]) == 3
    assert "1 failed, 1 left alone (1 of them copied)" in capsys.readouterr().err
    assert main(["restore", "ct/bad.dcm", "out/", "--task", "denoise"]) == 4


def test_several_inputs_and_a_name(folder):
    command = ["restore", "in/*.png", "in/sub", "@list.txt", "out", "--task", "denoise"]
    Path("list.txt").write_text("in/a.png\n")
    assert main([*command, "--name", "{stem}-new{suffix}"]) == 0
    assert files("out") == {"a-new.png", "sub/b-new.jpg", "in/a-new.png"}


def test_a_format_for_all(folder, monkeypatch):
    wishes = ["--format", "png", "--bit-depth", "16"]
    assert main(["restore", "in", "out", "--task", "denoise", *wishes]) == 0
    assert files("out") == {"a.png", "sub/b.png"}
    assert Path("out/sub/b.png").read_bytes()[24] == 16  # the bit depth in PNG's header
    written = piped(monkeypatch, Path("in/sub/b.jpg").read_bytes())
    assert main(["restore", "-", "-", "--task", "denoise", *wishes]) == 0
    assert written.getvalue()[24] == 16


@pytest.mark.parametrize("source", ["list", "-"])
def test_lists_that_end_in_nul(folder, monkeypatch, source):
    data = b"in/a.png\0in/sub/b.jpg\0"
    Path("list").write_bytes(data)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert main(["restore", "out", "--files0-from", source, "--task", "denoise"]) == 0
    assert files("out") == {"in/a.png", "in/sub/b.jpg"}


def test_in_place(folder, capsys):
    command = ["restore", "in", "--in-place", "--task", "denoise+derain"]
    for said in ("2 restored", "0 restored, 2 there already"):
        assert main(command) == 0
        assert said in capsys.readouterr().err
        assert level("in/a.png") == 100
    assert files("in") == {"a.png", "sub/b.jpg", "notes.txt"}


def test_shards_share_the_files(folder, capsys):
    for index in range(8):
        save(f"in/{index}.png")
    done = []
    for share in ("1/2", "2/2"):
        assert main(["restore", "in", "out", "--task", "denoise", "--shard", share, "--json"]) == 0
        done.append({json.loads(line)["input"] for line in capsys.readouterr().out.splitlines()})
    assert all(done)
    assert not done[0] & done[1]
    assert files("out") == files("in") - {"notes.txt"}


def test_in_place_with_other_settings(folder, capsys):
    assert main(["restore", "in", "--in-place", "--task", "denoise+derain"]) == 0
    again = ["restore", "in", "--in-place", "--task", "denoise,derain", "--tile", "256"]
    said = "2 restored before with other settings are kept; --overwrite restores them again\n"
    capsys.readouterr()
    assert main([*again, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "files: 0 to restore, 2 there already" in out
    assert said in out
    assert main([*again, "--json"]) == 0
    out, err = capsys.readouterr()
    assert [(line["kept"], line["error"]) for line in map(json.loads, out.splitlines())] == [(True, None)] * 2
    assert f"pipcli: {said}" in err
    assert "0 restored, 2 there already, 0 failed" in err
    assert level("in/a.png") == 100
    assert main([*again, "--overwrite"]) == 0
    assert level("in/a.png") == 0


@pytest.fixture
def zips(folder):
    """A good ph.zip, with a.png in it that is red and bad.png that is none, and a broken zip file."""
    with zipfile.ZipFile("ph.zip", "w") as archive:
        archive.write("in/a.png", "x/a.png")
        archive.writestr("bad.png", "I am a text")
    Path("broken.zip").write_bytes(b"PK\x03\x04" + bytes(300))


def test_what_lies_in_a_zip_file_is_told_by_its_name_there(zips, capsys):
    command = ["restore", "ph.zip", "out", "--task", "denoise", "--json", "--report", "page.html"]
    assert main(command) == 3
    out, err = capsys.readouterr()
    bad, good = map(json.loads, out.splitlines())
    assert (bad["input"], good["input"]) == ("ph.zip/bad.png", "ph.zip/x/a.png")
    assert bad["error"] == "ph.zip/bad.png: is no image of a known format"
    assert good["output"] == "out/x/a.png"
    page = Path("page.html").read_text()
    assert "ph.zip/x/a.png" in page
    assert "/pipcli-" not in out + err + page + Path("out/.pipcli/ledger.jsonl").read_text()
    assert main([*command, "--dry-run"]) == 0
    assert "/pipcli-" not in capsys.readouterr().out


def test_a_zip_file_that_is_broken_has_a_line_of_its_own(zips, capsys):
    command = ["restore", "broken.zip", "in/a.png", "out", "--task", "denoise", "--json"]
    assert main([*command, "--dry-run"]) == 3
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["input"], line["state"]) for line in lines] == [
        ("in/a.png", "to restore"),
        ("broken.zip", "failed"),
    ]
    assert main(command) == 3
    out, err = capsys.readouterr()
    broken, good = map(json.loads, out.splitlines())
    assert broken.keys() == good.keys()
    assert (broken["input"], broken["output"], good["error"]) == ("broken.zip", None, None)
    assert broken["error"].startswith("broken.zip: is a damaged zip file")
    assert f"pipcli: error: {broken['error']}\n" in err
    Path("list.txt").write_text("broken.zip\n")
    for option in ([], ["--dry-run"]):
        assert main(["restore", "@list.txt", "out", "--task", "denoise", *option]) == 4


def test_a_dry_run_tells_what_was_left_alone(folder, capsys):
    localizer = scans.scan()
    localizer.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    scans.save(Path("ct/localizer.dcm"), localizer)
    scans.save(Path("ct/slice.dcm"), scans.scan())
    command = ["restore", "ct", "out", "--task", "denoise"]
    assert main(command) == 0
    capsys.readouterr()
    assert main([*command, "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines()[:3] == [
        "ct/localizer.dcm (left alone)",
        "ct/slice.dcm -> out/slice.dcm (there already)",
        "files: 0 to restore, 1 there already, 1 left alone",
    ]


def test_an_output_that_is_read_only_since_does_no_harm_where_all_is_done(folder, monkeypatch, capsys):
    command = ["restore", "in", "out", "--task", "denoise"]
    assert main(command) == 0

    def refuse(**_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("pipcli.batch.plan.tempfile.TemporaryFile", refuse)
    monkeypatch.setattr("pipcli.batch.plan.os.access", lambda path, mode: not str(path).endswith("out"))
    for option in ([], ["--skip-existing"], ["--dry-run"]):
        assert main([*command, *option]) == 0
        said = capsys.readouterr()
        assert "2 there already" in said.out + said.err
    for option in (["--overwrite"], ["--overwrite", "--dry-run"], ["--strength", "0.5"]):
        assert main([*command, *option]) == 7
        assert "out: cannot be written to: " in capsys.readouterr().err


def test_a_name_with_two_blanks_is_told_as_it_is(folder, capsys):
    Path("in/two  blanks .png").write_text("I am a text")
    Path("in/line\nbreak.png").write_text("I am a text")
    assert main(["restore", "in", "out", "--task", "denoise", "--quiet"]) == 3
    assert capsys.readouterr().err.splitlines() == [
        "pipcli: error: 'in/line\\nbreak.png': is no image of a known format",
        "pipcli: error: in/two  blanks .png: is no image of a known format",
    ]


def test_a_dry_run_prints_the_plan_and_writes_nothing(folder, capsys):
    assert main(["restore", "in", "out", "--task", "denoise"]) == 0
    save("in/new.png")
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    capsys.readouterr()
    assert main(["restore", "in", "out", "--task", "denoise", "--dry-run"]) == 0
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*")} == before
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[:7] == [
        "in/a.png -> out/a.png (there already)",
        "in/new.png -> out/new.png (to restore)",
        "in/sub/b.jpg -> out/sub/b.jpg (there already)",
        "files: 1 to restore, 2 there already, 1 left alone",
        "left alone: 1 no image",
        f"task: denoise, tile 512, {out.split('tile 512, ')[1].splitlines()[0]}",
        "pixels: 0.0 million",
    ]
    assert "time: about " in out
    assert "memory: about " in out
    assert " free\n" in out
    assert main(["restore", "in", "out", "--task", "denoise", "--dry-run", "--json"]) == 0
    out, err = capsys.readouterr()
    assert [json.loads(line)["state"] for line in out.splitlines()] == [
        "there already",
        "to restore",
        "there already",
    ]
    assert all(line.startswith("pipcli: ") for line in err.splitlines())


def piped(monkeypatch, data: bytes) -> io.BytesIO:
    """stdin holds data; what comes back gets stdout."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, write_through=True))
    return written


@pytest.mark.parametrize("name", ["in/a.png", "in/sub/b.jpg"])
def test_stdin_to_stdout_keeps_the_format(folder, monkeypatch, capfd, name):
    written = piped(monkeypatch, Path(name).read_bytes())
    assert main(["restore", "-", "-", "--task", "denoise+derain", "--quiet"]) == 0
    with PillowImage.open(io.BytesIO(written.getvalue())) as picture:
        assert picture.format == ("PNG" if name.endswith("png") else "JPEG")
        assert int(np.asarray(picture)[8, 8, 0]) == 100
    assert capfd.readouterr().err == ""


def test_stdin_to_a_file_and_a_file_to_stdout(folder, monkeypatch):
    written = piped(monkeypatch, Path("in/a.png").read_bytes())
    assert main(["restore", "-", "new.jpg", "--task", "denoise"]) == 0
    assert Path("new.jpg").read_bytes().startswith(b"\xff\xd8")
    assert main(["restore", "in/a.png", "-", "--task", "denoise"]) == 0
    assert PillowImage.open(io.BytesIO(written.getvalue())).format == "PNG"


@pytest.mark.parametrize("target", ["-", "new.jpg"])
def test_what_changes_on_the_way_through_a_stream_is_told(folder, monkeypatch, capfd, target):
    picture = io.BytesIO()
    PillowImage.fromarray(np.full((16, 24), 20000, np.uint16)).save(picture, "PNG")
    written = piped(monkeypatch, picture.getvalue())
    assert main(["restore", "-", target, "--task", "denoise", "--format", "jpg"]) == 0
    content = written.getvalue() if target == "-" else Path(target).read_bytes()
    assert content.startswith(b"\xff\xd8")
    assert "warning: 16 bits written as 8 bits: JPEG holds no more" in capfd.readouterr().err


def test_a_stream_that_could_not_be_written_is_not_computed(folder, monkeypatch, capfd):
    monkeypatch.setattr("pipcli.inference.passes.restore_pages", lambda *_: pytest.fail("computed"))
    picture = io.BytesIO()
    PillowImage.new("RGBA", (12, 8), (10, 20, 30, 40)).save(picture, "PNG")
    for words in (["-", "new.jpg"], ["-", "-", "--format", "jpg"]):
        piped(monkeypatch, picture.getvalue())
        assert main(["restore", *words, "--task", "denoise"]) == 4
        assert "JPEG cannot hold transparency" in capfd.readouterr().err
    assert not Path("new.jpg").exists()


@pytest.mark.parametrize("data", [b"", b"I am a text", bytes(128) + b"DICM" + bytes(99)])
def test_stdin_that_is_no_image_writes_nothing(folder, monkeypatch, capfd, data):
    written = piped(monkeypatch, data)
    assert main(["restore", "-", "-", "--task", "denoise"]) == 4
    assert written.getvalue() == b""
    assert "pipcli: error: standard input: is " in capfd.readouterr().err


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (3 * 2**40, "3.0 TiB")]
)
def test_amounts_are_told_in_fitting_units(size, text):
    assert amount(size) == text


def test_a_report_of_the_run_and_of_the_next(folder, capsys):
    Path("in/text.png").write_text("I am a text")
    for state in ("restored", "there already"):
        assert main(["restore", "in", "out", "--task", "denoise", "--report", "pages/report.html"]) == 3
        page = Path("pages/report.html").read_text()
        assert page.count("<article class=card") == 2
        assert page.count(f"<article class=card data-state='{state}'") == 2
        assert "in/text.png: is no image of a known format" in page
        assert "1 failed, 1 left alone" in page


def test_every_share_has_a_report_of_its_own(folder, capsys):
    for index in range(8):
        save(f"in/{index}.png")
    command = ["restore", "in", "out", "--task", "denoise", "--report", "pages/r.html", "--shard"]
    counts = []
    for share in ("1/2", "2/2"):
        assert main([*command, share]) == 0
        page = f"pages/r-{share.replace('/', 'of')}.html"
        assert f"pipcli: report: {page}\n" in capsys.readouterr().err
        counts.append(Path(page).read_text().count("<tr data-state='restored'"))
    assert min(counts) > 0
    assert sum(counts) == 10
    assert files("pages") == {"r-1of2.html", "r-2of2.html"}


def test_a_report_replaces_no_other_page(folder, capsys):
    command = ["restore", "in", "out", "--task", "denoise", "--report", "index.html"]
    for other in ("", "<!doctype html>\n<title>Restored: mine</title>\n"):
        Path("index.html").write_text(other)
        assert main(command) == 2
        assert capsys.readouterr().err == (
            "pipcli: error: index.html: is there already; --overwrite replaces a file\n"
        )
        assert Path("index.html").read_text() == other
        assert not Path("out").exists()
    assert main([*command, "--overwrite"]) == 0
    page = Path("index.html").read_text()
    assert "<article class=card" in page
    assert main(command) == 0, "an earlier report may be replaced"
    assert Path("index.html").read_text() != page


def test_a_report_of_many_files_shows_some_of_them(folder, monkeypatch):
    monkeypatch.setattr("pipcli.cli.report.MOST_PICTURES", 3)
    for index in range(10):
        save(f"in/{index}.png")
    assert main(["restore", "in", "out", "--task", "denoise", "--report", "report.html"]) == 0
    page = Path("report.html").read_text()
    assert page.count("<article class=card") == 3
    assert "9 more restored files are in the table" in page
    assert page.count("<tr data-state='restored'") == 12


def test_odd_names_are_restored_and_told(folder, capsys):
    names = [
        "new\nline.png",
        "\x1b[31mred.png",
        "'quo\"te'.png",
        " spaces .png",
        "-dash.png",
        "{stem}%s*?.png",
        "é" * 125 + "x.png",  # 255 bytes
        os.fsdecode(b"\xff\xfe\x80.png"),
        "\u202etxt.png",
    ]
    for name in names:
        save(f"odd/{name}")
    Path("odd/bad\n\x1b[0m.png").write_text("I am a text")
    assert main(["restore", "odd", "out", "--task", "denoise", "--json", "--report", "page.html"]) == 3
    out, err = capsys.readouterr()
    assert files("out") == set(names)
    assert [json.loads(line)["input"] for line in out.splitlines() if json.loads(line)["error"] is None] == [
        str(path) for path in sorted((Path("odd", name) for name in names), key=os.fsencode)
    ]
    assert err.count("\n") == len([line for line in err.splitlines() if line.startswith("pipcli: ")])
    assert "\x1b" not in err + out + Path("page.html").read_text()
    assert main(["restore", "odd", "out", "--task", "denoise", "--dry-run"]) == 0
    assert "\x1b" not in capsys.readouterr().out
    assert main(["restore", "odd", "out", "--task", "denoise", "--quiet"]) == 3
    assert files("out") == set(names)


def test_a_batch_is_part_of_the_plan(folder, capsys):
    command = ["restore", "in", "out", "--task", "denoise", "--device", "cpu"]
    assert main([*command, "--batch", "2"]) == 0
    assert {level("out/a.png"), level("out/sub/b.jpg")} == {200}
    capsys.readouterr()
    assert main([*command, "--batch", "2", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "task: denoise, tile 512, batches of 2, cpu in " in out
    assert "2 there already" in out
    assert main([*command, "--dry-run"]) == 0
    assert "2 to restore" in capsys.readouterr().out
    assert main([*command, "--batch", "0"]) == 2
    assert "batch is 0" in capsys.readouterr().err


def test_a_limit_on_memory_chooses_the_tile_and_refuses_what_is_too_large(folder, monkeypatch, capfd):
    command = ["--task", "denoise", "--device", "cpu", "--precision", "fp32", "--max-memory"]
    assert main(["restore", "in", "out", *command, "1G"]) == 0
    assert ", tiles of" not in capfd.readouterr().err
    assert main(["restore", "in", "out", *command, "642M"]) == 0
    # 1 MiB for tiles: input and output of this model are 24 bytes a pixel, and a third more for allocators.
    assert ", tiles of 183 for --max-memory" in capfd.readouterr().err
    PillowImage.new("RGB", (600, 400)).save("large.png")
    for source, name in (("large.png", "large.png"), ("-", "standard input")):
        if source == "-":
            piped(monkeypatch, Path("large.png").read_bytes())
        assert main(["restore", source, "new.png", *command, "642M"]) == 4
        assert f"{name}: takes about " in (err := capfd.readouterr().err)
        assert "--max-memory leaves 1 MiB for images" in err
        assert not Path("new.png").exists()
    for size in ("100M", "12", "0", "-1G", "much", "9" * 400, "9" * 30):
        assert main(["restore", "in", "out", *command, size]) == 2
        assert "--max-memory is " in capfd.readouterr().err


def test_a_model_that_takes_statistics_over_all_it_sees(folder, monkeypatch, capfd):
    class Wide(Dimming):
        local = False

    monkeypatch.setattr(zoo, "load_model", lambda name: Wide())
    PillowImage.new("RGB", (600, 400)).save("large.png")
    command = ["restore", "large.png", "out/", "--task", "denoise", "--device", "cpu", "--overwrite"]
    warning = "in tiles, of which this model's blocks see one at a time"
    for limit, tiled in (([], True), (["--tile", "608"], False), (["--max-memory", "1G"], False)):
        assert main([*command, *limit]) == 0
        assert (warning in (err := capfd.readouterr().err)) == tiled, limit
    assert int(err.split(", tiles of ")[1].split()[0]) > 2000
    assert main([*command, "--max-memory", "1G", "--tile", "512"]) == 0
    assert warning in capfd.readouterr().err
    assert main(["restore", "in", "out", "--task", "denoise", "--device", "cpu"]) == 0
    assert warning not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("text", "size"), [("7", 7), ("800M", 800 * 2**20), ("2g", 2**31), ("1.5 GiB", 1610612736), ("3kb", 3072)]
)
def test_sizes_of_memory(text, size):
    assert parse_bytes("--max-memory", text) == size


def test_out_of_memory_is_told_once_and_the_file_is_done_with_less(folder, monkeypatch, capsys):
    class Full(Dimming):
        def forward(self, x: Tensor, omega: Tensor) -> Tensor:
            if x[:, 0].numel() > 200**2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().forward(x, omega)

    monkeypatch.setattr(zoo, "load_model", lambda name: Full())
    for name in ("x", "y"):
        PillowImage.new("RGB", (380, 300), (200, 200, 200)).save(f"in/{name}.png")
    assert main(["restore", "in", "out", "--task", "denoise", "--json", "--allow-cpu"]) == 0
    out, err = capsys.readouterr()
    step = "out of memory in tiles of 380, begun again in tiles of 190"
    assert err.count("out of memory") == 1
    assert f"pipcli: warning: {step} (2 files)" in err.splitlines()
    told = {Path(line["input"]).name: line["warnings"] for line in map(json.loads, out.splitlines())}
    assert told == {"a.png": [], "b.jpg": [], "x.png": [step], "y.png": [step]}
    piped(monkeypatch, Path("in/x.png").read_bytes())
    assert main(["restore", "-", "new.png", "--task", "denoise"]) == 0
    assert f"pipcli: warning: {step}" in capsys.readouterr().err.splitlines()
    assert Path("new.png").read_bytes() == Path("out/x.png").read_bytes()


def test_images_beyond_the_limit_are_refused(folder, monkeypatch, capfd):
    save("in/a.png")
    assert main(["restore", "in/a.png", "out/", "--task", "denoise", "--max-pixels", "383"]) == 4
    assert "in/a.png: has 24×16 pixels, the limit is 383" in capfd.readouterr().err
    assert main(["restore", "in/a.png", "out/", "--task", "denoise", "--max-pixels", "384"]) == 0
    piped(monkeypatch, Path("in/a.png").read_bytes())
    assert main(["restore", "-", "-", "--task", "denoise", "--max-pixels", "383"]) == 4
    assert "standard input: has 24×16 pixels, the limit is 383" in capfd.readouterr().err
