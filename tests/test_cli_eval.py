"""`pipcli eval` as a user meets it, on small sets made for the test."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image as PillowImage
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from pipcli.cli import main
from pipcli.models.checkpoint import save_weights
from pipcli.models.classifier import Classifier, ClassifierConfig
from pipcli.models.pip import PromptConfig
from pipcli.models.unet import UNet, UNetConfig

HEIGHT, WIDTH = 40, 52


def photo(seed: int) -> np.ndarray:
    cells = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)
    return np.asarray(PillowImage.fromarray(cells).resize((WIDTH, HEIGHT), PillowImage.Resampling.BICUBIC))


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(pixels).save(path)


@pytest.fixture
def data(tmp_path):
    """A data root with three images of each of CBSD68, Rain100L and LOL."""
    for seed in range(3):
        save(tmp_path / "data" / "CBSD68" / f"{seed}.png", photo(seed))
        for folder, clean, degraded in (("Rain100L", "target", "input"), ("LOL/eval15", "high", "low")):
            save(tmp_path / "data" / folder / clean / f"{seed}.png", photo(seed))
            save(tmp_path / "data" / folder / degraded / f"{seed}.png", photo(seed) // 3)
    return tmp_path / "data"


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(3)
    path = tmp_path / "tiny.safetensors"
    save_weights(UNet(UNetConfig(widths=(4, 8), blocks=(1, 1), prompts=(PromptConfig(4, 4),))), path, {})
    return path


@pytest.fixture
def run(data, weights, capsys):
    """Runs `pipcli eval` on the data root, in fp32 on the CPU; gives exit code, stdout and stderr."""

    def run(*options: str | Path, root: Path = data, model: str | Path = weights):
        fixed = ["--data-root", root, "--model", model, "--device", "cpu", "--precision", "fp32"]
        code = main(["eval", *map(str, options), *map(str, fixed)])
        return code, *capsys.readouterr()

    return run


def records(out: str) -> list[dict]:
    return [json.loads(line) for line in out.splitlines()]


def method_of(record: dict, name: str) -> dict:
    return next(each for each in record["methods"] if each["method"] == name)


def test_a_table_with_the_input_beside_the_output_and_published_rows_below(run):
    code, out, err = run("--dataset", "bsd68", "--sigma", "25")
    assert code == 0
    assert "CBSD68 σ 25, protocol airnet, 3 of 68 images" in out
    names = [line.split()[0] for line in out.splitlines() if line and line[0] not in " ─"]
    assert names.index("input") < names.index("tiny") < names.index("PIP-Restormer")
    assert "published, 3 tasks" in out
    assert "5 tasks, weights" in out
    assert "input, tiny on cpu in fp32" in err


def test_saved_images_agree_with_scikit_image(run, data, tmp_path):
    code, out, _ = run(
        "--dataset", "CBSD68", "--dataset", "Rain100L", "--json", "--save-images", tmp_path / "saved",
        "--sigma", "25",
    )  # fmt: skip
    assert code == 0
    for record, folder, sub in zip(
        records(out), ("CBSD68_sigma25", "Rain100L+noise_sigma25"), ("", "target"), strict=True
    ):
        name = record["dataset"]
        for method in ("tiny", "input"):
            for image in method_of(record, method)["images"]:
                saved = tifffile.imread(
                    tmp_path / "saved" / f"{folder}_airnet" / method / f"{image['name']}.tif"
                )
                assert saved.dtype == np.float32
                truth = np.asarray(PillowImage.open(data / name / sub / f"{image['name']}.png"))[4:36, 2:50]
                psnr = peak_signal_noise_ratio(truth / 255, saved.astype(np.float64), data_range=1)
                ssim = structural_similarity(truth / 255, saved, data_range=1, channel_axis=-1)
                assert image["psnr"] == pytest.approx(psnr, abs=1e-3)
                assert image["ssim"] == pytest.approx(ssim, abs=1e-4)


def test_under_an_8_bit_protocol_images_are_saved_as_png(run, tmp_path):
    code, out, _ = run("--dataset", "LOL", "--protocol", "y", "--json", "--save-images", tmp_path / "saved")
    assert code == 0
    saved = np.asarray(PillowImage.open(tmp_path / "saved" / "LOL_y" / "tiny" / "1.png"))
    assert saved.shape == (HEIGHT, WIDTH, 3)
    assert records(out)[0]["protocol"] == "y"


def test_every_benchmark_of_a_list(run):
    code, out, _ = run("--dataset", "CBSD68", "--sigma", "15", "--sigma", "50", "--json", "--limit", "2")
    assert code == 0
    assert [(record["sigma"], record["measured"], record["found"]) for record in records(out)] == [
        (15, 2, 3),
        (50, 2, 3),
    ]
    assert all(record["shortfall"] for record in records(out))


def test_weights_beside_the_measured_ones_say_what_is_wrong(run):
    _, out, _ = run("--dataset", "Rain100L", "--dataset", "LOL", "--json")
    assert [record["weights"] for record in records(out)] == [{"rain": 1.0}, {"lowlight": 1.0}]


def test_a_suite_measures_what_is_there_and_names_what_is_not(run, tmp_path):
    out_folder = tmp_path / "out"
    code, out, _ = run(
        "--suite", "five-task", "--json", "--out", out_folder, model=str(tmp_path / "tiny.safetensors,nlm")
    )
    assert code == 0
    found = records(out)
    assert [record["dataset"] for record in found if not record.get("missing")] == [
        "CBSD68", "CBSD68", "CBSD68", "Rain100L", "LOL",
    ]  # fmt: skip
    missing = [record for record in found if record.get("missing")]
    assert [record["dataset"] for record in missing] == ["SOTS", "SOTS-indoor", "GoPro", "GoPro-like"]
    assert all(record["steps"] for record in missing)
    assert method_of(found[5], "nlm")["refusal"] == "does not undo rain"

    written = json.loads((out_folder / "report.json").read_text(encoding="utf-8"))
    assert written["benchmarks"][0]["methods"][1]["mean"] == method_of(found[0], "tiny")["mean"]
    assert written["missing"] == ["SOTS", "SOTS-indoor", "GoPro", "GoPro-like"]
    with (out_folder / "report.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    mine = [float(row["psnr"]) for row in rows if (row["benchmark"], row["method"]) == ("LOL", "tiny")]
    assert np.mean(mine) == pytest.approx(method_of(found[8], "tiny")["mean"]["psnr"], abs=1e-3)
    markdown = (out_folder / "report.md").read_text(encoding="utf-8")
    assert "| tiny (5 tasks) |" in markdown
    assert "GoPro-like" in markdown
    page = (out_folder / "report.html").read_text(encoding="utf-8")
    assert page.count("<h3>worst:") == page.count("<div class=case>") - page.count("<h3>best:") > 0


def test_folders_of_ones_own(run, data):
    code, out, _ = run(
        "--pairs", data / "LOL/eval15/low", data / "LOL/eval15/high", "--task", "enhance", "--json"
    )
    assert code == 0
    _, same, _ = run("--dataset", "LOL", "--json")
    assert records(out)[0]["methods"][0]["mean"] == records(same)[0]["methods"][0]["mean"]
    assert records(out)[0]["weights"] == {"lowlight": 1.0}


def test_clean_images_of_ones_own_degraded(run, data):
    code, out, _ = run("--clean", data / "CBSD68", "--degrade", "noise:25", "--json")
    assert code == 0
    _, same, _ = run("--dataset", "CBSD68", "--sigma", "25", "--json")
    assert records(out)[0]["input_sha256"] == records(same)[0]["input_sha256"]
    code, out, _ = run("--clean", data / "CBSD68", "--degrade", "rain+noise:15", "--json")
    assert code == 0
    assert records(out)[0]["weights"] == {"rain": 0.5, "noise": 0.5}


def test_the_list_says_what_is_there_and_how_to_get_the_rest(run):
    code, out, _ = run("--list")
    assert code == 0
    assert "Rain100L" in out
    assert "https://r0k.us/graphics/kodak" in out
    code, out, _ = run("--list", "--json")
    found = {record["dataset"]: record["found"] for record in records(out)}
    assert found["LOL"] == 3
    assert found["Kodak24"] == 0


@pytest.fixture
def classifier(tmp_path):
    torch.manual_seed(5)
    path = tmp_path / "tiny-classifier.safetensors"
    save_weights(Classifier(ClassifierConfig(size=32, crops=2, widths=(4, 8), depth=1, features=4)), path, {})
    return path


def test_a_classifier_in_place_of_the_true_omega_and_beside_it(run, classifier):
    options = ("--dataset", "LOL", "--json", "--auto", "--classifier", classifier)
    code, out, _ = run(*options, "--true-omega")
    assert code == 0
    (record,) = records(out)
    assert [each["method"] for each in record["methods"]] == ["input", "tiny", "tiny-auto"]
    told, auto = method_of(record, "tiny"), method_of(record, "tiny-auto")
    assert told["classifier"] is None
    assert auto["classifier"]["images"] == 3
    assert auto["classifier"]["right"] == sum(image["found"] == ["lowlight"] for image in auto["images"])
    assert auto["classifier"]["psnr_change"] == pytest.approx(
        auto["mean"]["psnr"] - told["mean"]["psnr"], abs=1e-3
    )
    code, out, _ = run(*options)
    assert code == 0
    assert [each["method"] for each in records(out)[0]["methods"]] == ["input", "tiny-auto"]
    assert method_of(records(out)[0], "tiny-auto")["mean"] == auto["mean"]


def test_a_broken_file_is_named_and_the_others_are_measured(run, data):
    (data / "Rain100L" / "input" / "1.png").write_text("no image")
    (data / "Rain100L" / "target" / "2.png").unlink()
    code, out, err = run("--dataset", "Rain100L", "--json", "--quiet")
    assert code == 3
    assert len(method_of(records(out)[0], "tiny")["images"]) == 1
    assert [line for line in err.splitlines() if "1.png" in line]
    assert [line for line in err.splitlines() if "2.png" in line and "no true image" in line]


def test_nothing_could_be_measured(run, data):
    for seed in range(3):
        (data / "Rain100L" / "input" / f"{seed}.png").write_text("no image")
    code, out, err = run("--dataset", "Rain100L")
    assert code == 4
    assert len(err.splitlines()) == 4
    assert "PIP-Restormer" not in out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "nothing to measure"),
        (("--dataset", "LOL", "--suite", "all"), "exclude each other"),
        (("--dataset", "ImageNet"), "unknown dataset 'ImageNet'"),
        (("--dataset", "Kodak24", "--sigma", "25"), "Kodak24 is not there"),
        (("--dataset", "CBSD68"), "say --sigma"),
        (("--dataset", "CBSD68", "--sigma", "300"), "at most 255"),
        (("--dataset", "CBSD68", "--sigma", "25", "--protocol", "y"), "no synthetic noise"),
        (("--dataset", "LOL", "--protocol", "psnr"), "unknown protocol"),
        (("--dataset", "LOL", "--limit", "0"), "--limit is 0"),
        (("--suite", "best"), "unknown suite"),
        (("--suite", "all", "--sigma", "25"), "--sigma goes with"),
        (("--pairs", "a", "b"), "--pairs needs --task"),
        (("--pairs", "a", "b", "--task", "derain"), "is no folder"),
        (("--clean", "a"), "--clean needs --degrade"),
        (("--clean", "a", "--degrade", "snow"), "unknown degradation"),
        (("--dataset", "LOL", "--out", "file"), "is a file"),
        (("--dataset", "LOL", "--classifier", "mine.safetensors"), "--classifier goes with --auto"),
        (("--suite", "classify", "--auto"), "--auto is for photographs"),
        (("--dataset", "ct:.", "--auto"), "--auto is for photographs"),
        (("--dataset", "ct:.", "--protocol", "y"), "--protocol is not for ct:FOLDER"),
    ],
)
def test_wrong_requests_end_with_2_and_one_line(run, tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("in the way")
    code, out, err = run(*options)
    assert code == 2
    assert words in err
    assert out == ""
    assert len(err.splitlines()) == 1


def test_the_same_method_twice(run, tmp_path):
    code, _, err = run("--dataset", "LOL", model="nlm,nlm")
    assert code == 2
    assert "nlm stands twice" in err


def test_files_of_one_name_are_told_apart(run, weights):
    for folder in ("a", "b"):
        (weights.parent / folder).mkdir()
        (weights.parent / folder / "best.safetensors").write_bytes(weights.read_bytes())
    model = ",".join(str(weights.parent / folder / "best.safetensors") for folder in ("a", "b"))
    code, out, _ = run("--dataset", "LOL", "--limit", "1", "--json", model=model)
    assert code == 0
    assert [each["method"] for each in records(out)[0]["methods"]] == ["input", "a/best", "b/best"]
    code, _, err = run("--dataset", "LOL", model=f"{weights},{weights}")
    assert code == 2
    assert "tiny stands twice" in err


@pytest.mark.parametrize("option", ["--out", "--save-images"])
def test_a_folder_that_is_read_only_is_found_before_anything_is_measured(run, tmp_path, monkeypatch, option):
    (tmp_path / "out").mkdir()
    # Not by its permissions: these tests may be run by root.
    refused = tmp_path / "out"
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK or Path(path) != refused)
    code, out, err = run("--dataset", "LOL", option, tmp_path / "out")
    assert (code, out) == (7, "")
    assert f"{tmp_path / 'out'}: cannot be written to" in err


def test_a_name_is_missing(run):
    code, _, err = run("--dataset", "LOL", model="nlm,")
    assert code == 2
    assert "a name is missing" in err


def test_nothing_is_made_before_all_is_checked(run, tmp_path):
    code, _, _ = run("--dataset", "LOL", "--out", tmp_path / "out", model="missing.safetensors")
    assert code == 5
    assert not (tmp_path / "out").exists()


def test_no_set_of_a_suite(run, tmp_path):
    code, _, err = run("--suite", "unseen", root=tmp_path / "data" / "LOL")
    assert code == 2
    assert "pipcli eval --list" in err


def test_the_first_signal_ends_the_run_after_the_image_in_hand(data, weights, tmp_path):
    """In a process of its own, because signals are for processes."""
    for seed in range(3, 40):
        save(data / "CBSD68" / f"{seed}.png", photo(seed))
    command = [sys.executable, "-m", "pipcli", "eval", "--dataset", "CBSD68", "--sigma", "25", "--json"]
    command += [
        "--save-images",
        str(tmp_path / "saved"),
        "--data-root",
        str(data),
        "--model",
        f"{weights},nlm",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    first = tmp_path / "saved" / "CBSD68_sigma25_airnet" / "nlm" / "0.tif"
    while process.poll() is None and not first.exists():
        os.sched_yield()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    (record,) = records(out)
    assert 1 <= record["measured"] < 40
    assert (
        record["shortfall"]
        == f"{record['measured']} of 68 images, {record['measured']} with other pixels than the published set"
    )
