"""`pipcli doctor`: it finds what is here, tries it, and says what is wrong."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import json
from pathlib import Path
from types import SimpleNamespace

import backbones
import pytest
import torch

from pipcli.cli import main
from pipcli.images import FORMATS
from pipcli.models import zoo
from pipcli.models.checkpoint import save_weights
from pipcli.models.unet import UNet, UNetConfig

FILE = "small.safetensors"
# The package's attribute of this name is the command itself.
doctor = importlib.import_module("pipcli.cli.doctor")
trials = importlib.import_module("pipcli.cli.trials")


@pytest.fixture
def weights(tmp_path, monkeypatch) -> Path:
    """Shipped weights of a table whose only model, `small`, blurs: enough to denoise a little."""
    model = UNet(UNetConfig(widths=(4, 4), blocks=(0, 0), prompts=(None,)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        # y = x + (mean of 3×3 neighbours − x), colour by colour, through the bare skip.
        for colour in range(3):
            model.head.weight[colour, colour, 1, 1] = 1
            model.tail.weight[colour, colour] = 1 / 9
            model.tail.weight[colour, colour, 1, 1] -= 1
    folder = tmp_path / "package" / "weights"
    folder.mkdir(parents=True)
    path = folder / FILE
    save_weights(model, path, {}, torch.float32)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(zoo, "MODELS", {"small": zoo.ZooEntry("unet", FILE, digest, "for tests")})
    monkeypatch.setattr(zoo, "CLASSIFIERS", {})
    monkeypatch.setattr(zoo, "__file__", str(tmp_path / "package" / "models" / "zoo.py"))
    monkeypatch.delenv(zoo.WEIGHTS_VARIABLE, raising=False)
    return path


@pytest.fixture
def no_engines(monkeypatch):
    """Making graphs for the other engines takes seconds, which one test is to spend."""
    monkeypatch.setattr(doctor, "try_engine", lambda name, image: {})


@pytest.fixture
def examine(capsys, no_engines):
    """A function that runs `pipcli doctor --json` and gives exit code, report and stderr."""

    def run():
        code = main(["doctor", "--json"])
        out, err = capsys.readouterr()
        return code, json.loads(out), err

    return run


def test_all_is_well(weights, examine):
    code, report, err = examine()
    assert (code, report["problems"], err) == (0, [], "")
    assert report["packages"]["torch"] == importlib.metadata.version("torch")
    assert report["codecs"] == {format_.name: True for format_ in FORMATS}
    assert all(report["dicom"].values())
    assert report["engines"]["torch"] == report["packages"]["torch"]
    [listing] = report["weights"]
    assert listing["verified"] is True
    assert listing["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()


def test_a_tiny_restoration_is_measured_on_each_device_in_each_precision(weights, examine):
    _, report, _ = examine()
    assert report["restored_with"] == "small"
    # Noise of 25 of 255 before clipping; a mean of nine halves it where there are no edges.
    assert 20 < report["psnr_before"] < 21
    assert report["psnr_after"] > report["psnr_before"] + 1
    cpu = next(device for device in report["devices"] if device["name"] == "cpu")
    assert set(cpu["precisions"]) == {"fp32", "bf16", "fp16"}
    assert [trial["auto"] for trial in cpu["precisions"].values()].count(True) == 1
    assert cpu["precisions"]["fp32"]["fidelity"] is None  # equal to itself
    assert all(trial["works"] for trial in cpu["precisions"].values())
    assert 40 < cpu["precisions"]["bf16"]["fidelity"] < cpu["precisions"]["fp16"]["fidelity"]
    assert [device["auto"] for device in report["devices"]].count(True) == 1


def test_damaged_weights_are_5_and_an_untrained_network_takes_their_place(weights, examine):
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)
    code, report, err = examine()
    assert code == 5
    assert "sha256" in err
    assert err.count("\n") == 1
    assert report["problems"] == [report["weights"][0]["problem"]]
    assert "untrained" in report["restored_with"]
    assert report["psnr_after"] is None
    assert report["devices"][0]["precisions"]["fp32"]["works"]


def test_weights_that_make_it_worse_are_told(weights, examine, monkeypatch):
    torch.manual_seed(0)
    save_weights(backbones.randomised(UNet, UNetConfig((4, 4), (0, 0), (None,))), weights, {})
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    monkeypatch.setattr(zoo, "MODELS", {"small": zoo.ZooEntry("unet", FILE, digest, "for tests")})
    monkeypatch.setattr(zoo, "CLASSIFIERS", {})
    code, report, err = examine()
    assert code == 5
    assert "small made a noisy picture worse" in err
    assert report["psnr_after"] < report["psnr_before"]


def test_a_precision_that_fails_is_told(weights, examine, monkeypatch):
    from pipcli.inference.engine import Restorer

    restore = Restorer.restore

    def failing(self, *arguments, **named):
        if self.precision.value == "bf16":
            raise RuntimeError("no such\nkernel")
        return restore(self, *arguments, **named)

    monkeypatch.setattr(Restorer, "restore", failing)
    _, report, _ = examine()
    trial = report["devices"][-1]["precisions"]["bf16"]
    assert trial["works"] is False
    assert trial["problem"] == "RuntimeError: no such kernel"


def test_a_device_that_computes_wrongly_is_6(weights, examine, monkeypatch):
    from pipcli.inference.engine import Restorer

    restore = Restorer.restore
    calls = []

    def drifting(self, *arguments, **named):
        image = restore(self, *arguments, **named)
        calls.append(self.precision.value)
        # The first call makes the reference.
        return image if len(calls) == 1 else image.restored(image.pixels + 0.001)

    monkeypatch.setattr(Restorer, "restore", drifting)
    code, report, err = examine()
    assert calls.count("fp32") >= 2
    assert code == 6
    assert "fp32 on cpu is 60.0 dB from fp32 on the CPU: at least 80 are needed" in err
    assert report["devices"][-1]["precisions"]["fp32"]["works"] is True


def test_a_codec_that_fails_is_told(weights, examine, monkeypatch):
    from dataclasses import replace

    import pipcli.images

    def failing(image):
        raise OSError("no library")

    broken = tuple(replace(f, encode=failing) if f.name == "WebP" else f for f in FORMATS)
    monkeypatch.setattr(pipcli.images, "FORMATS", broken)
    code, report, err = examine()
    assert code == 1
    assert report["codecs"]["WebP"] == "OSError: no library"
    assert report["codecs"]["PNG"] is True
    assert "WebP does not work" in err


def test_the_home_folder_is_not_shown(weights, examine, monkeypatch, tmp_path):
    monkeypatch.setattr(Path, "home", classmethod(lambda cls: tmp_path))
    _, report, _ = examine()
    assert report["weights"][0]["path"] == f"~/package/weights/{FILE}"
    assert str(tmp_path) not in json.dumps(report)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_an_engine_is_tried(name):
    for package in (name, "onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="the extra `engines` is not installed")
    tried = trials.try_engine(name, trials.draw_scene()[1])
    assert all(trial.works for trial in tried.values())
    assert [trial.auto for trial in tried.values()].count(True) == 1
    assert tried["fp32"].fidelity is None or tried["fp32"].fidelity > 90
    lines = doctor._engine_lines(name, "1.0", SimpleNamespace(engine_trials={name: tried}))
    assert len(lines) == 1 + len(tried)
    assert "fp32" in lines[1]


def test_an_engine_that_is_not_installed_is_not_tried(monkeypatch):
    monkeypatch.setattr(trials, "installed_version", lambda package: None if package == "openvino" else "1.0")
    assert trials.try_engine("openvino", trials.draw_scene()[1]) == {}


def test_an_engine_that_fails_is_8(weights, examine, monkeypatch):
    broken = {"fp32": trials.PrecisionTrial(False, True, problem="no such kernel")}
    monkeypatch.setattr(doctor, "try_engine", lambda name, image: broken if name == "openvino" else {})
    code, report, err = examine()
    assert code == 8
    assert "fp32 on openvino does not work: no such kernel" in err
    assert report["engine_trials"]["openvino"]["fp32"]["works"] is False


def test_text_for_people_names_all_parts(weights, no_engines, capsys):
    assert main(["doctor"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for word in (
        "packages",
        "engines",
        "formats",
        "PNG",
        "DICOM JPEG-LS",
        "weights",
        "verified",
        "dB before",
    ):
        assert word in out
    assert "cpu" in out
    assert "fp32" in out
