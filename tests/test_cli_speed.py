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
    monkeypatch.setattr(speed, "TILES", (192, 256))
    monkeypatch.setattr(speed, "LARGE", (130, 260))
    path = tmp_path / "tiny.safetensors"
    save_weights(backbones.randomised(UNet, CONFIG), path, {})
    return str(path)


def rows(capsys, *options: str) -> dict[str, dict]:
    assert main(["speed", "--runs", "1", "--json", *options]) == 0
    return {line["what"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}


def test_every_row_is_there(weights, capsys, monkeypatch):
    def missing(model, device, engine, precision, *rest, **options):
        if engine != "torch":
            raise UsageError(f"engine {engine} is not there")
        return make(model, device, engine, precision, *rest, **options)

    make = speed.make_restorer
    monkeypatch.setattr(speed, "make_restorer", missing)
    found = rows(capsys, "--model", weights, "--no-slow")
    assert (
        found[f"{weights}, 192×192, onnxruntime fp32"]["note"] == "not run: engine onnxruntime is not there"
    )
    assert found[f"{weights}, 192×192, openvino fp32"]["seconds"] is None
    assert found[f"{weights}, 192×192, torch fp32"]["note"] == ""
    assert found[f"{weights}, bare"]["seconds"] > 0
    assert found[f"{weights}, PIP on 1/1"]["note"].endswith(" %")
    assert found[f"{weights}, 300×200 in tiles of 192"]["note"].endswith(" %")
    assert "opencv-nlm" in found
    share = found[f"{weights}, JPEG of 260×130"]["note"]
    assert 0 < float(share.removesuffix(" %")) < 100
    assert not any("pip-restormer" in what for what in found)
    assert {each["part"] for each in found.values()} == set(speed.PARTS)


def test_tables_are_as_the_readme_has_them(weights, capsys):
    options = ["--model", weights, "--part", "prompts,tiles", "--no-slow", "--runs", "1", "--markdown"]
    assert main(["speed", *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:3] == ["| PIP at 512×512 | s a megapixel | adds |", "| --- | --- | --- |"]
    assert len([line for line in lines if line == ""]) == 2
    assert all(line.count("|") == 4 for line in lines if line)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--runs", "0"], "--runs must be at least 1"),
        (["--part", "engines,tyres"], "unknown part 'tyres': choose from engines, methods"),
        (["--json", "--markdown"], "--markdown and --json contradict each other"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message, capsys):
    assert main(["speed", *options]) == 2
    assert message in capsys.readouterr().err
