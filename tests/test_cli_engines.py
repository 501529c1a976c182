"""The words of `--engine`, `--device` and `--precision` become one Restorer."""

from __future__ import annotations

import backbones
import pytest
import torch

from pipcli.cli import main
from pipcli.cli.engines import engine_precision, make_restorer
from pipcli.errors import DeviceError, UsageError
from pipcli.inference import device
from pipcli.inference.device import Precision
from pipcli.models.checkpoint import save_weights
from pipcli.models.unet import UNet, UNetConfig

BARE = UNetConfig(widths=(4, 8), blocks=(0, 0), prompts=(None,))


@pytest.fixture
def model() -> UNet:
    return backbones.randomised(UNet, BARE)


@pytest.mark.parametrize("engine", ["auto", "torch"])
def test_torch_is_a_restorer_of_the_model_itself(model, engine):
    restorer = make_restorer(model, "cpu", engine, "fp32", 256, 3)
    assert restorer.model is model
    assert (restorer.precision, restorer.tiling.tile, restorer.batch) == (Precision.FP32, 256, 3)
    assert restorer.place == "cpu"


def test_a_batch_of_nothing_is_refused_not_replaced(model):
    with pytest.raises(UsageError, match="batch is 0"):
        make_restorer(model, "cpu", "torch", "fp32", 256, 0)


@pytest.mark.parametrize(("native", "openvino"), [(True, Precision.BF16), (False, Precision.FP32)])
def test_auto_is_bf16_where_processor_and_engine_have_it(monkeypatch, native, openvino):
    engines = pytest.importorskip("pipcli.export.engines")
    monkeypatch.setattr(device, "_cpu_has_native_bf16", lambda: native)
    assert engine_precision("auto", engines.Engine.OPENVINO) is openvino
    assert engine_precision("auto", engines.Engine.ONNXRUNTIME) is Precision.FP32


def test_a_precision_that_an_engine_has_not_is_refused():
    engines = pytest.importorskip("pipcli.export.engines")
    assert engine_precision("bf16", engines.Engine.OPENVINO) is Precision.BF16
    with pytest.raises(DeviceError, match="onnxruntime does not compute in bf16: use --precision fp32"):
        engine_precision("bf16", engines.Engine.ONNXRUNTIME)
    with pytest.raises(DeviceError, match="use --precision fp32 or bf16"):
        engine_precision("fp16", engines.Engine.OPENVINO)


@pytest.mark.slow
def test_restore_on_an_engine_writes_what_torch_writes(model, tmp_path, capsys, monkeypatch):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="the extra `engines` is not installed")
    import numpy as np

    from pipcli.images.reading import read_image

    monkeypatch.setenv("PIPCLI_CACHE", str(tmp_path / "cache"))
    weights, source = tmp_path / "bare.safetensors", tmp_path / "in.png"
    save_weights(model, weights, {}, torch.float32)
    from PIL import Image

    pixels = (255 * backbones.image(40, 56)[0].permute(1, 2, 0)).round().byte().numpy()
    Image.fromarray(pixels).save(source)
    outputs = {}
    for engine in ("torch", "onnxruntime"):
        target = tmp_path / f"{engine}.png"
        options = ["--model", str(weights), "--task", "denoise", "--precision", "fp32", "--engine", engine]
        assert main(["restore", str(source), str(target), *options]) == 0
        outputs[engine] = read_image(target).pixels.astype(int)
        err = capsys.readouterr().err
        assert ("on cpu onnxruntime in fp32" in err) == (engine == "onnxruntime")
    assert np.abs(outputs["torch"] - outputs["onnxruntime"]).max() <= 1
