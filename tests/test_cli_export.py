"""`pipcli export` as a user meets it: what is printed, what is written, and the exit codes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import backbones
import pytest
import torch

from pipcli.cli import main
from pipcli.export import exporting
from pipcli.export.onnx import write_onnx
from pipcli.models.checkpoint import save_weights
from pipcli.models.unet import UNet, UNetConfig

(onnx, *_) = (pytest.importorskip(name) for name in ("onnx", "onnxruntime", "onnxscript"))


@pytest.fixture
def weights(tmp_path) -> Path:
    path = tmp_path / "bare.safetensors"
    model = backbones.randomised(UNet, UNetConfig(widths=(4, 8), blocks=(0, 0), prompts=(None,)))
    save_weights(model, path, {}, torch.float32)
    return path


@pytest.fixture
def export(capsys):
    """A function that runs `pipcli export` and gives exit code, stdout and stderr."""

    def run(*arguments: object):
        code = main(["export", *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


def test_writes_the_file_and_prints_the_report(weights, tmp_path, export):
    path = tmp_path / "model.onnx"
    code, out, err = export(weights, path, "--static", "9x14")
    assert code == 0
    header, *trials, verdict = out.splitlines()
    assert header.split() == ["batch", "height", "width", "largest", "difference", "PSNR"]
    assert [line.split()[:3] for line in trials] == [["1", "9", "14"]] * 4
    assert verdict == "parity passed: at most 0.0001 apart"
    assert err.count("\n") == 1
    assert str(path) in err
    assert json.loads((tmp_path / "model.onnx.parity.json").read_text("utf-8"))["passed"]


def test_the_suffix_or_the_option_says_the_format(weights, tmp_path, export):
    assert export(weights, tmp_path / "a.safetensors")[0] == 0
    assert export(weights, tmp_path / "weights.bin", "--format", "safetensors", "--precision", "fp16")[0] == 0
    assert (tmp_path / "weights.bin").stat().st_size < (tmp_path / "a.safetensors").stat().st_size
    code, out, err = export(weights, tmp_path / "other.bin")
    assert (code, out) == (2, "")
    assert "--format" in err


def test_a_file_is_replaced_where_that_is_asked_for(weights, tmp_path, export):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"the one before")
    code, out, err = export(weights, path)
    assert (code, out) == (2, "")
    assert err == f"pipcli: error: {path}: is there already; --overwrite replaces a file\n"
    assert path.read_bytes() == b"the one before"
    assert export(weights, path, "--overwrite")[0] == 0
    assert path.read_bytes() != b"the one before"


def break_the_graph(program, path, metadata):
    """Padding that reads beyond the last row: a size that needs none does not show it."""
    write_onnx(program, path, metadata)
    model = onnx.load(path)
    for node in model.graph.node:
        if node.op_type == "Abs":
            node.op_type = "Neg"
    onnx.save(model, path)


def test_a_broken_graph_is_8_and_leaves_no_file(weights, tmp_path, export, monkeypatch):
    monkeypatch.setattr(exporting, "write_onnx", break_the_graph)
    path = tmp_path / "model.onnx"
    code, out, err = export(weights, path)
    assert code == 8
    assert "FAILED" in out.splitlines()[-1]
    even, odd, *_ = out.splitlines()[1:]
    assert "does not run" not in even
    assert "does not run" in odd
    assert err.startswith("pipcli: error: ")
    assert err.count("\n") == 1
    assert "model.onnx.parity.json" in err
    report = json.loads((tmp_path / "model.onnx.parity.json").read_text("utf-8"))
    assert report["passed"] is False
    assert {entry.name for entry in tmp_path.iterdir()} == {"bare.safetensors", "model.onnx.parity.json"}


@pytest.mark.parametrize(
    ("name", "options", "expected", "word"),
    [
        ("model.onnx", ["--precision", "bf16"], 2, "bf16"),
        ("model.onnx", ["--static", "12"], 2, "--static"),
        ("model.onnx", ["--static", "0x8"], 2, "0x8"),
        ("model.onnx", ["--format", "tflite"], 2, "tflite"),
        ("nowhere/model.onnx", [], 7, "nowhere"),
    ],
)
def test_wrong_use(weights, tmp_path, export, name, options, expected, word):
    code, out, err = export(weights, tmp_path / name, *options)
    assert (code, out) == (expected, "")
    assert word in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == [weights]


def test_a_model_that_is_not_there_is_5(tmp_path, export):
    code, _, err = export("no-such-model", tmp_path / "model.pt2")
    assert code == 5
    assert "no-such-model" in err


def test_without_the_extra_it_says_what_to_install(weights, tmp_path, export, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    code, _, err = export(weights, tmp_path / "model.onnx")
    assert code == 2
    assert "onnxscript" in err
    assert "pip install 'pipcli[export]'" in err
