"""Classifiers as files: both graph formats against torch, what the files say of themselves, broken ones."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch

from pipcli.degradations import Degradation
from pipcli.errors import ExportError, ModelError, UsageError
from pipcli.export import exporting
from pipcli.export.classifying import compare_classifier, trace_classifier
from pipcli.export.exporting import Export, Format, export_model
from pipcli.models.checkpoint import load_classifier_weights, read_tensors, save_weights
from pipcli.models.classifier import Classifier, ClassifierConfig
from pipcli.models.unet import UNet, UNetConfig

SMALL = ClassifierConfig(
    size=32,
    crops=3,
    widths=(8, 12),
    depth=1,
    features=8,
    scene=UNetConfig(widths=(4, 8), blocks=(1, 1), prompts=(None,), degradations=(Degradation.HAZE,)),
    motion=UNetConfig(widths=(4, 8), blocks=(0, 1), prompts=(None,), degradations=(Degradation.BLUR,)),
)


@pytest.fixture(scope="module")
def model() -> Classifier:
    """Weights that tell one image from another, and a temperature that is not 1."""
    torch.manual_seed(0)
    model = Classifier(SMALL).eval()
    with torch.no_grad():
        model.temperature.fill_(1.7)
        model.offset.fill_(0.3)
        for name, buffer in model.named_buffers():
            if name.endswith("running_var"):
                buffer.uniform_(0.01, 0.1)
        model.heed[-1].weight.normal_(std=0.3)
    return model


@pytest.fixture
def weights(model, tmp_path) -> Path:
    path = tmp_path / "small.safetensors"
    save_weights(model, path, {"minutes": 7})
    return path


@pytest.mark.parametrize("format_", list(Format), ids=str)
def test_a_file_does_what_the_classifier_does(weights, tmp_path, format_):
    if format_ is Format.ONNX:
        for package in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(package, reason="the extra `export` is not installed")
    path = tmp_path / f"out.{format_}"
    parity = export_model(Export(str(weights), path, format_, classifier=True))
    assert parity.passed
    assert [trial.batch for trial in parity.trials] == [2, 1, 3, 1]
    report = json.loads((tmp_path / f"out.{format_}.parity.json").read_text("utf-8"))
    assert report["inputs"]["crops"]["shape"] == ["batch", "crops", 3, 32, 32]
    if format_ is Format.SAFETENSORS:
        assert load_classifier_weights(path).config == SMALL
    elif format_ is Format.ONNX:
        import onnx

        graph = onnx.load(path).graph
        shapes = {
            value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
            for value in (*graph.input, *graph.output)
        }
        assert shapes == {
            "crops": ["batch", "crops", 3, 32, 32],
            "overview": ["batch", 3, 32, 32],
            "logits": ["batch", 5],
            "sigma": ["batch"],
        }


def test_weights_of_full_precision_stay_so(model, tmp_path):
    save_weights(model, tmp_path / "full.safetensors", {}, torch.float32)
    path = tmp_path / "out.safetensors"
    export_model(Export(str(tmp_path / "full.safetensors"), path, Format.SAFETENSORS, classifier=True))
    for name, value in load_classifier_weights(path).state_dict().items():
        torch.testing.assert_close(value, model.state_dict()[name], rtol=0, atol=0, msg=name)


def test_weights_in_half_precision_leave_to_others_what_both_have(model, tmp_path):
    save_weights(model, tmp_path / "full.safetensors", {}, torch.float32)
    scene = tmp_path / "scene.safetensors"
    with_scene = UNet(UNetConfig(widths=(4, 8), blocks=(1, 1), prompts=(None,), scene=SMALL.scene))
    with_scene.scene.load_state_dict(model.scene.state_dict())
    save_weights(with_scene, scene, {})
    path = tmp_path / "thin.safetensors"
    thin = Export(
        str(tmp_path / "full.safetensors"), path, Format.SAFETENSORS, "fp16", classifier=True, beside=scene
    )
    assert export_model(thin).limit == "at most 0.01 apart"
    assert {name for name in model.state_dict() if name.startswith("scene.")}.isdisjoint(read_tensors(path))
    for name, value in load_classifier_weights(path).state_dict().items():
        stored = model.state_dict()[name].half().to(value.dtype)
        torch.testing.assert_close(value, stored, rtol=0, atol=0, msg=name)


def test_a_channel_without_spread_counts_the_same_in_onnx(model, tmp_path):
    """The exporter takes small numbers that are added for zero; the floor of the root must not be one."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="the extra `export` is not installed")
    model = copy.deepcopy(model)
    with torch.no_grad():
        for trunk in (model.closely, model.broadly):
            trunk.blocks[-1].second_norm.bias.fill_(-1e3)  # all dead: ReLU leaves nothing
            trunk.blocks[-1].second_norm.weight.zero_()
            trunk.head.weight.fill_(100.0)
    save_weights(model, tmp_path / "dead.safetensors", {})
    export = Export(str(tmp_path / "dead.safetensors"), tmp_path / "dead.onnx", Format.ONNX, classifier=True)
    assert export_model(export).passed


def test_a_graph_that_does_something_else_is_deleted_and_8(weights, tmp_path, monkeypatch):
    def other(model):
        torch.manual_seed(1)
        return trace_classifier(Classifier(SMALL).eval())

    monkeypatch.setattr(exporting, "trace_classifier", other)
    with pytest.raises(ExportError, match="from the classifier: at most") as raised:
        export_model(Export(str(weights), tmp_path / "out.pt2", Format.PT2, classifier=True))
    assert raised.value.exit_code == 8
    assert not (tmp_path / "out.pt2").exists()


@pytest.mark.parametrize(
    ("run", "problem"),
    [
        (lambda tensors: (torch.zeros(1, 5), torch.zeros(1)), "it gives"),
        (lambda tensors: 1 / 0, "it does not run: division by zero"),
        (
            lambda tensors: (torch.full((len(tensors[0]), 5), torch.nan), torch.zeros(len(tensors[0]))),
            "it gives values that are not finite",
        ),
    ],
    ids=["shape", "error", "nan"],
)
def test_what_is_wrong_is_said(model, run, problem):
    parity = compare_classifier(model, run)
    assert not parity.passed
    assert problem in (parity.trials[0].problem or "")


def test_the_classifier_itself_passes(model):
    parity = compare_classifier(model, lambda tensors: model(*tensors))
    assert [trial.largest for trial in parity.trials] == [0.0] * 4


@pytest.mark.parametrize("extra", [{"precision": "fp16"}, {"size": (96, 96)}])
def test_what_a_classifier_has_not_is_refused(tmp_path, extra):
    with pytest.raises(UsageError, match="a classifier"):
        Export("pip-classifier", tmp_path / "out.onnx", Format.ONNX, classifier=True, **extra)


def test_a_restoration_model_is_no_classifier(tmp_path, weights):
    with pytest.raises(ModelError, match="are a classifier's"):
        export_model(Export(str(weights), tmp_path / "out.pt2", Format.PT2))
