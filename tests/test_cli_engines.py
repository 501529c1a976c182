"""The words of `--engine`, `--device` and `--precision` become one Restorer."""

from __future__ import annotations

import backbones
import pytest
import torch
from PIL import Image as PillowImage

from pipcli.cli import main
from pipcli.cli.engines import engine_precision, make_restorer
from pipcli.errors import DeviceError, ExportError, UsageError
from pipcli.images import Image
from pipcli.inference import device
from pipcli.inference.device import Precision
from pipcli.models.checkpoint import save_weights
from pipcli.models.pip import PromptConfig
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


@pytest.mark.parametrize("options", [[], ["--quiet"]])
@pytest.mark.parametrize("engine", [["--engine", "onnxruntime"], ["--compile"]])
def test_what_takes_long_is_told_unless_quiet(model, monkeypatch, tmp_path, capsys, engine, options):
    from pipcli.export import engines

    def on_engine(model, engine, dtype, on_making):
        on_making()
        return model

    monkeypatch.setattr(engines, "on_engine", on_engine)
    monkeypatch.setattr(engines, "choose_engine", lambda name, where: engines.Engine(name))
    monkeypatch.setattr(engines, "compiled", lambda model, dtype: model)
    weights, source = tmp_path / "bare.safetensors", tmp_path / "in.png"
    save_weights(model, weights, {}, torch.float32)
    PillowImage.new("RGB", (40, 40)).save(source)
    command = [
        "restore",
        str(source),
        str(tmp_path / "out.png"),
        "--model",
        str(weights),
        "--task",
        "denoise",
    ]
    assert main([*command, "--precision", "fp32", "--device", "cpu", *engine, *options]) == 0
    err = capsys.readouterr().err
    assert err == "" if options else ("making graphs for onnxruntime" in err or "compiling: minutes" in err)


@pytest.mark.parametrize(
    ("engine", "precision", "error", "message"),
    [
        ("openvino", "fp32", UsageError, "--compile is torch's: it has no meaning for --engine openvino"),
        ("torch", "fp16", DeviceError, "--compile does not compute in fp16"),
    ],
)
def test_what_is_not_compiled_is_refused(model, engine, precision, error, message):
    with pytest.raises(error, match=message):
        make_restorer(model, "cpu", engine, precision, 256, compiled=True)


def test_what_cannot_be_compiled_is_an_error_and_not_something_else(model, monkeypatch, tmp_path):
    def failing(module, **options):
        def call(*given):
            raise RuntimeError("no working\ncompiler found")

        return call

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(torch, "compile", failing)
    with pytest.raises(ExportError, match=r"here: no working compiler found; it needs a C\+\+ compiler"):
        make_restorer(model, "cpu", "torch", "fp32", 256, compiled=True)


def test_a_batch_of_nothing_is_refused_not_replaced(model):
    with pytest.raises(UsageError, match="batch is 0"):
        make_restorer(model, "cpu", "torch", "fp32", 256, 0)


@pytest.mark.parametrize(("native", "openvino"), [(True, Precision.BF16), (False, Precision.FP32)])
def test_auto_is_bf16_where_processor_and_engine_have_it(monkeypatch, native, openvino):
    engines = pytest.importorskip("pipcli.export.engines")
    monkeypatch.setattr(device, "has_native_bfloat16", lambda device: native)
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
    from PIL import Image as Picture

    pixels = (255 * backbones.image(40, 56)[0].permute(1, 2, 0)).round().byte().numpy()
    Picture.fromarray(pixels).save(source)
    outputs = {}
    for engine in ("torch", "onnxruntime"):
        target = tmp_path / f"{engine}.png"
        options = ["--model", str(weights), "--task", "denoise", "--precision", "fp32", "--engine", engine]
        assert main(["restore", str(source), str(target), *options]) == 0
        outputs[engine] = read_image(target).pixels.astype(int)
        err = capsys.readouterr().err
        assert ("on cpu onnxruntime in fp32" in err) == (engine == "onnxruntime")
    assert np.abs(outputs["torch"] - outputs["onnxruntime"]).max() <= 1


@pytest.mark.slow
def test_a_compiled_model_is_the_model(tmp_path, monkeypatch):
    """Minutes, and a C++ compiler."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    model = backbones.randomised(UNet, UNetConfig((8, 12), (0, 0), (PromptConfig(8, 5),)))
    made = make_restorer(model, "cpu", "torch", "fp32", 192, compiled=True)
    assert made.place == "cpu torch compiled"
    plain = make_restorer(model, "cpu", "torch", "fp32", 192)
    for width in (83, 301):  # whole, and in tiles
        image = Image(backbones.image(70, width)[0].permute(1, 2, 0).contiguous().numpy())
        omega = [0.5, 0.0, 0.3, 0.0, 0.2]
        difference = made.restore(image, omega).pixels - plain.restore(image, omega).pixels
        assert abs(difference).max() < 1e-4
