"""`pipcli speed`: every row is there, and says what it must."""

from __future__ import annotations

import importlib
import json

import backbones
import pytest

from pipcli.cli import main
from pipcli.errors import UsageError
from pipcli.models.checkpoint import save_weights
from pipcli.models.pip import PromptConfig
from pipcli.models.unet import UNet, UNetConfig

# The package's attribute of this name is the command itself.
speed = importlib.import_module("pipcli.cli.speed")

CONFIG = UNetConfig(widths=(4, 8), blocks=(0, 0), prompts=(PromptConfig(8, 4),))


@pytest.fixture
def weights(tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "SIDE", 192)
    monkeypatch.setattr(speed, "TILED", (200, 300))
    monkeypatch.setattr(speed, "LARGE", (130, 260))
    path = tmp_path / "tiny.safetensors"
    save_weights(backbones.randomised(UNet, CONFIG), path, {})
    return str(path)


def rows(capsys, *options: str) -> dict[str, dict]:
    assert main(["speed", "--runs", "1", "--json", *options]) == 0
    return {line["what"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}


def test_every_row_is_there(weights, capsys, monkeypatch):
    def missing(model, device, engine, precision, *rest):
        if engine != "torch":
            raise UsageError(f"engine {engine} is not there")
        return make(model, device, engine, precision, *rest)

    make = speed.make_restorer
    monkeypatch.setattr(speed, "make_restorer", missing)
    found = rows(capsys, "--model", weights, "--no-slow")
    assert found.pop(f"{weights}, 192x192, onnxruntime fp32")["note"] == "engine onnxruntime is not there"
    assert found[f"{weights}, 192x192, openvino fp32"]["seconds"] is None
    assert found["its network, 192x192, bare"]["seconds"] > 0
    assert "PIP there adds" in found["its network, 192x192, PIP at 1/1 alone"]["note"]
    assert found[f"{weights}, 300x200 in tiles of 192"]["note"].endswith("% for shared statistics")
    assert "nlm, 192x192" in found
    assert not any("pip-restormer" in what for what in found)


def test_from_file_to_file_says_how_much_was_the_model(weights):
    from pipcli.models import zoo

    row = speed._from_file_to_file(zoo.load_model(weights), "tiny", "fp32")
    assert row.what == "tiny, JPEG of 260x130, file to file"
    assert 0 < float(row.note.split(" %")[0]) < 100


def test_no_runs_are_refused(capsys):
    assert main(["speed", "--runs", "0"]) == 2
    assert "--runs must be at least 1" in capsys.readouterr().err
