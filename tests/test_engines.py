"""Other engines: the results of torch within the tolerance, torch where they cannot, broken graphs found."""

from __future__ import annotations

import os

import backbones
import numpy as np
import pytest
import torch

from pipcli.errors import ExportError, UsageError
from pipcli.export import engines
from pipcli.export.engines import Engine, choose_engine, on_engine
from pipcli.export.parts import trace_parts
from pipcli.images import Image
from pipcli.inference.device import Precision
from pipcli.inference.engine import Restorer
from pipcli.models.pip import PromptConfig
from pipcli.models.unet import UNet, UNetConfig

for _package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(_package, reason="the extra `export` is not installed")

CPU = torch.device("cpu")
CONFIG = UNetConfig(widths=(8, 12), blocks=(0, 0), prompts=(PromptConfig(8, 5),), planes=True)
OMEGA = [0.5, 0.0, 0.3, 0.0, 0.2]


@pytest.fixture(scope="module")
def model() -> UNet:
    return backbones.randomised(UNet, CONFIG)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture(scope="module", params=list(Engine), ids=str)
def engine(request) -> Engine:
    pytest.importorskip(str(request.param), reason="the extra `engines` is not installed")
    return request.param


@pytest.fixture(scope="module")
def made(model, engine, cache):
    return on_engine(model, engine, torch.float32, cache)


def picture(height: int, width: int) -> Image:
    return Image(backbones.image(height, width)[0].permute(1, 2, 0).contiguous().numpy())


def restored(model, image: Image, precision: Precision = Precision.FP32) -> np.ndarray:
    return Restorer(model, CPU, precision, tile=192).restore(image, OMEGA).pixels


@pytest.mark.parametrize(("height", "width"), [(61, 83), (70, 301)], ids=["whole", "in tiles"])
def test_the_pipeline_gives_what_it_gives_on_torch(model, made, height, width):
    image = picture(height, width)
    expected = restored(model, image)
    assert np.abs(restored(made, image) - expected).max() < 1e-4
    assert np.abs(expected - image.pixels).max() > 0.01  # there is something to compare


def test_tiles_are_the_engines(made, monkeypatch):
    called = []
    parts = {name: _counted(name, run, called) for name, run in made.loaded.parts.items()}
    monkeypatch.setattr(made, "loaded", engines.Loaded(made.loaded.engine, made.loaded.dtype, parts))
    restored(made, picture(70, 301))
    assert set(called) == {"features", "pairs", "tile"}
    called.clear()
    restored(made, picture(61, 83))
    assert called == ["whole"]


def _counted(name, run, called):
    def counted(tensors):
        called.append(name)
        return run(tensors)

    return counted


def test_another_precision_and_tiny_images_are_torchs(model, made, monkeypatch):
    monkeypatch.setattr(made, "loaded", engines.Loaded(made.loaded.engine, torch.float32, {}))
    for image, precision in ((picture(61, 83), Precision.BF16), (picture(3, 2), Precision.FP32)):
        np.testing.assert_array_equal(restored(made, image, precision), restored(model, image, precision))


def test_results_say_which_engine_it_was(model, made, engine):
    assert Restorer(made, CPU, Precision.FP32).place == f"cpu {engine}"
    assert Restorer(model, CPU, Precision.FP32).place == "cpu"


def test_openvino_computes_in_bf16_only_if_asked(model, made, engine, cache):
    if engine is not Engine.OPENVINO:
        pytest.skip("the only engine here with another precision")
    half = on_engine(model, engine, torch.bfloat16, cache)
    image = picture(61, 83)
    exact = restored(model, image)
    assert np.abs(restored(made, image) - exact).max() < 1e-4
    assert backbones.psnr(torch.tensor(restored(half, image, Precision.BF16)), torch.tensor(exact)) > 50


def test_graphs_are_made_once(model, engine, cache, made):
    on_engine(model, engine, torch.float32, cache, on_making=lambda: pytest.fail("made again"))


def test_other_weights_have_other_graphs(model, made, cache):
    other = backbones.randomised(UNet, CONFIG)
    with torch.no_grad():
        other.tail.weight.mul_(1.5)
    assert engines._key(other) != engines._key(model)


@pytest.mark.slow
def test_a_graph_that_does_something_else_is_found(model, tmp_path, engine, monkeypatch):
    def wrong(given):
        other = backbones.randomised(UNet, CONFIG)
        with torch.no_grad():
            other.tail.weight.mul_(1.5)
        return trace_parts(other)

    monkeypatch.setattr(engines, "trace_parts", wrong)
    with pytest.raises(ExportError, match=r"dB from torch in fp32: 50 are needed") as raised:
        on_engine(model, engine, torch.float32, tmp_path)
    assert raised.value.exit_code == 8


def test_what_fails_while_tracing_leaves_no_folder(model, tmp_path, engine, monkeypatch):
    def failing(given):
        raise RuntimeError("no such\noperation")

    monkeypatch.setattr(engines, "trace_parts", failing)
    with pytest.raises(ExportError, match="cannot run this model: no such operation"):
        on_engine(model, engine, torch.float32, tmp_path)
    assert list((tmp_path / "engines").iterdir()) == []


def test_what_a_killed_process_left_is_cleared(tmp_path):
    names = (".0123456789abcdef", ".fedcba9876543210", ".of somebody", "graphs")
    old, new, foreign, whole = (tmp_path / name for name in names)
    for folder in (old, new, foreign, whole):
        folder.mkdir()
        (folder / "whole.onnx").write_bytes(b"half")
    for folder in (old, foreign, whole):
        os.utime(folder, (0, 0))
    engines._clear_leftovers(tmp_path)
    assert set(tmp_path.iterdir()) == {new, foreign, whole}


@pytest.mark.parametrize(
    ("name", "device", "message"),
    [
        ("tensorrt", "cpu", "unknown engine 'tensorrt': choose from onnxruntime, openvino"),
        ("onnxruntime", "cuda", "runs on the CPU here: use --device cpu"),
    ],
)
def test_what_is_not_there_is_refused(name, device, message):
    with pytest.raises(UsageError, match=message):
        choose_engine(name, torch.device(device))


def test_an_engine_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"needs the package openvino: pip install 'pipcli\[engines\]'"):
        choose_engine("openvino", CPU)


def test_the_folder_of_graphs_can_be_chosen(monkeypatch, tmp_path):
    monkeypatch.setenv("PIPCLI_CACHE", str(tmp_path))
    assert engines._cache() == tmp_path
    monkeypatch.delenv("PIPCLI_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert engines._cache() == tmp_path / "pipcli"
