"""Exported files: every architecture in both graph formats, what the files say of themselves, broken ones."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import backbones
import pytest
import torch

from pipcli.errors import ExportError, ModelError, OutputError, UsageError
from pipcli.export import exporting
from pipcli.export.exporting import Export, Format, export_model
from pipcli.export.graph import ExportGraph, smallest_side, trace
from pipcli.export.onnx import require_onnx, run_onnx, write_onnx
from pipcli.export.parity import compare, trial_shapes
from pipcli.export.program import run_program, write_program
from pipcli.models import zoo
from pipcli.models.checkpoint import load_weights, read_record, save_weights
from pipcli.models.nafnet import NAFNet, NAFNetConfig
from pipcli.models.pip import PromptConfig
from pipcli.models.restormer import Restormer, RestormerConfig
from pipcli.models.unet import UNet, UNetConfig

onnx = pytest.importorskip("onnx", reason="the extra `export` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
pytest.importorskip("onnxscript", reason="the extra `export` is not installed")

PROMPT = PromptConfig(12, 5)
UNET = UNetConfig(widths=(8, 12), blocks=(1, 0), prompts=(PROMPT,), planes=True)
RESTORMER = RestormerConfig(
    width=8, blocks=(1, 0, 0), refinement=0, heads=(1, 2, 4), latent_cut=True, prompts=(PROMPT, None)
)
NAFNET = NAFNetConfig(width=8, encoder=(1,), middle=0, decoder=(0,), prompts=(PROMPT,))
BARE = replace(UNET, prompts=(None,), planes=False)
SIZE = (20, 31)


@pytest.fixture(scope="module")
def unet() -> UNet:
    return backbones.randomised(UNet, UNET)


@pytest.fixture(scope="module")
def unet_program(unet):
    """Traced once for all that only reads it."""
    return trace(copy.deepcopy(unet), torch.float32)


@pytest.fixture(scope="module")
def unet_onnx(unet_program, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "unet.onnx"
    write_onnx(unet_program, path, {"pipcli": "{}", "licence": "Apache-2.0"})
    return path


@pytest.fixture
def weights(tmp_path) -> Path:
    """A weights file of a bare network, which is quick to export."""
    path = tmp_path / "bare.safetensors"
    save_weights(backbones.randomised(UNet, BARE), path, {"minutes": 7}, torch.float32)
    return path


def check(model, path, program, half=False):
    """Write the graph in the format of the path's suffix and compare it."""
    if path.suffix == ".onnx":
        write_onnx(program, path, {})
        run = run_onnx(path)
    else:
        write_program(program, path, {})
        run = run_program(path)
    parity = compare(model, run, trial_shapes(smallest_side(model)), half)
    assert parity.passed, parity


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 7), (1, 3, 2), (2, 17, 9), (1, 16, 24)])
@pytest.mark.parametrize(
    ("architecture", "config"), [(UNet, UNET), (Restormer, RESTORMER), (NAFNet, NAFNET)], ids=lambda x: ""
)
def test_the_graph_before_tracing_is_the_model(architecture, config, shape):
    model = backbones.randomised(architecture, config)
    x, omega = backbones.image(shape[1], shape[2], shape[0]), backbones.MIX[: shape[0]]
    with torch.no_grad():
        assert torch.equal(ExportGraph(model, torch.float32)(x, omega), model(x, omega))


def test_prompted_unet_as_program(unet, unet_program, tmp_path):
    check(unet, tmp_path / "unet.pt2", unet_program)


def test_prompted_unet_as_onnx(unet, unet_onnx):
    parity = compare(unet, run_onnx(unet_onnx), trial_shapes(smallest_side(unet)), half=False)
    assert parity.passed, parity


@pytest.mark.parametrize(
    ("architecture", "config"),
    [
        pytest.param(UNet, BARE, id="unet"),
        pytest.param(Restormer, replace(RESTORMER, latent_cut=False, prompts=(None, None)), id="restormer"),
        pytest.param(NAFNet, replace(NAFNET, prompts=(None,)), id="nafnet"),
        pytest.param(Restormer, RESTORMER, id="pip-restormer", marks=pytest.mark.slow),
        pytest.param(NAFNet, NAFNET, id="pip-nafnet", marks=pytest.mark.slow),
        pytest.param(
            UNet,
            replace(UNET, prompts=(replace(PROMPT, channels=8, degradation_prompt=False),)),
            id="no degradation prompt",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            UNet,
            replace(UNET, prompts=(replace(PROMPT, channels=4, basic_prompt=False, selective=False),)),
            id="no basic prompt",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_architectures(architecture, config, tmp_path):
    model = backbones.randomised(architecture, config)
    program = trace(copy.deepcopy(model), torch.float32)
    for suffix in (".pt2", ".onnx"):
        check(model, tmp_path / f"model{suffix}", program)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "suffixes"), [(torch.float16, (".pt2", ".onnx")), (torch.bfloat16, (".pt2",))]
)
def test_half_precision(unet, dtype, suffixes, tmp_path):
    program = trace(copy.deepcopy(unet), dtype)
    stored = {tensor.dtype for tensor in program.state_dict.values()}
    assert stored == {dtype}
    for suffix in suffixes:
        check(unet, tmp_path / f"unet{suffix}", program, half=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", zoo.MODELS)
@pytest.mark.parametrize(
    ("format_", "precision"),
    [("onnx", "fp32"), ("onnx", "fp16"), ("pt2", "fp32"), ("pt2", "fp16"), ("pt2", "bf16")],
)
def test_shipped_weights(name, format_, precision, tmp_path):
    try:
        zoo.locate(name)
    except ModelError as error:
        pytest.skip(str(error))
    path = tmp_path / f"model.{format_}"
    assert export_model(Export(name, path, Format(format_), precision)).passed
    assert path.exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", zoo.CLASSIFIERS)
@pytest.mark.parametrize("format_", ["onnx", "pt2", "safetensors"])
def test_shipped_classifiers(name, format_, tmp_path):
    try:
        zoo.locate(name, zoo.CLASSIFIERS)
    except ModelError as error:
        pytest.skip(str(error))
    path = tmp_path / f"classifier.{format_}"
    assert export_model(Export(name, path, Format(format_), classifier=True)).passed
    assert path.exists()


def test_axes_have_names_and_nothing_tells_of_this_machine(unet_onnx):
    model = onnx.load(unet_onnx)
    shapes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    image = ["batch", 3, "height", "width"]
    assert shapes == {"x": image, "omega": ["batch", 5], "y": image}
    assert {entry.key: entry.value for entry in model.metadata_props} == {
        "pipcli": "{}",
        "licence": "Apache-2.0",
    }
    assert str(Path(exporting.__file__).parent).encode() not in unet_onnx.read_bytes()


def swap_resize(graph):
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Resize" and attribute.name == "mode":
                attribute.s = b"nearest"


def shift_a_weight(graph):
    tensor = next(entry for entry in graph.initializer if "tail.weight" in entry.name)
    values = onnx.numpy_helper.to_array(tensor).copy()
    values.flat[0] += 0.01
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))


def keep_too_few(graph):
    """The masks of PIP's selection all become that of the smallest share."""
    scores = [node.input[1] for node in graph.node if node.op_type == "TopK"]
    for node in graph.node:
        if node.op_type == "TopK":
            node.input[1] = scores[0]


@pytest.mark.parametrize("break_it", [swap_resize, shift_a_weight, keep_too_few])
def test_a_broken_graph_is_found(unet, unet_onnx, tmp_path, break_it):
    model = onnx.load(unet_onnx)
    break_it(model.graph)
    path = tmp_path / "broken.onnx"
    onnx.save(model, path)
    parity = compare(unet, run_onnx(path), trial_shapes(smallest_side(unet)), half=False)
    assert not parity.passed


@pytest.mark.parametrize("format_", ["onnx", "pt2"])
def test_a_file_says_what_it_is(weights, tmp_path, format_):
    path = tmp_path / f"model.{format_}"
    parity = export_model(Export(str(weights), path, Format(format_), size=SIZE))
    assert parity.passed
    if format_ == "onnx":
        texts = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    else:
        texts = {"pipcli": "", "licence": "", "degradations": "", "model": ""}
        torch.export.load(path, extra_files=texts)
        texts = {name: value if isinstance(value, str) else value.decode() for name, value in texts.items()}
    assert texts["licence"] == "Apache-2.0"
    assert texts["degradations"] == "noise, rain, haze, blur, lowlight"
    record = json.loads(texts["pipcli"])
    assert record["training"] == {"minutes": 7}
    assert record["config"] == read_record(weights)["config"]
    assert record["inputs"]["x"]["shape"] == [1, 3, *SIZE]
    assert record["degradations"] == ["noise", "rain", "haze", "blur", "lowlight"]
    assert record["stride"] == 2
    report = json.loads((tmp_path / f"model.{format_}.parity.json").read_text("utf-8"))
    assert report["passed"] is True
    assert report["bytes"] == path.stat().st_size
    assert [trial["height"] for trial in report["trials"]] == [SIZE[0]] * 4
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        "bare.safetensors",
        f"model.{format_}",
        f"model.{format_}.parity.json",
    ]


def test_the_model_card_of_the_table_goes_along(weights, tmp_path, monkeypatch):
    entry = zoo.ZooEntry("unet", weights.name, "", "for tests")
    monkeypatch.setattr(zoo, "MODELS", {"bare": entry})
    monkeypatch.setenv(zoo.WEIGHTS_VARIABLE, str(tmp_path))
    (tmp_path / "README.md").write_text("# The card\n", encoding="utf-8")
    path = tmp_path / "bare.pt2"
    export_model(Export("bare", path, Format.PT2, size=SIZE))
    texts = {"pipcli": ""}
    torch.export.load(path, extra_files=texts)
    assert json.loads(texts["pipcli"])["card"] == "# The card\n"


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("fp16", torch.float16)])
def test_safetensors(weights, tmp_path, precision, dtype):
    path = tmp_path / "out.safetensors"
    assert export_model(Export(str(weights), path, Format.SAFETENSORS, precision)).passed
    given, found = load_weights(weights).state_dict(), load_weights(path).state_dict()
    assert all(torch.equal(given[name].to(dtype).float(), found[name]) for name in given)
    assert read_record(path) == read_record(weights)


def test_what_two_files_have_alike_is_stored_once(weights, tmp_path):
    path = tmp_path / "out.safetensors"
    assert export_model(Export(str(weights), path, Format.SAFETENSORS, beside=weights)).passed
    given, found = load_weights(weights).state_dict(), load_weights(path).state_dict()
    torch.testing.assert_close(found, given, rtol=0, atol=0)
    assert path.stat().st_size < weights.stat().st_size / 2
    for beside in (path, tmp_path / "sub/bare.safetensors"):
        with pytest.raises(UsageError, match=r"--beside is .*: it must be another file in the folder of"):
            Export(str(weights), path, Format.SAFETENSORS, beside=beside)
    with pytest.raises(UsageError, match="--beside has no meaning"):
        Export(str(weights), tmp_path / "out.pt2", Format.PT2, beside=weights)


def test_what_does_not_pass_is_not_kept(weights, tmp_path, monkeypatch):
    path = tmp_path / "out.safetensors"
    path.write_bytes(b"the one before")

    def shifted(model, *arguments):
        with torch.no_grad():
            model.tail.weight.add_(0.1)
        save_weights(model, *arguments)

    monkeypatch.setattr(exporting, "save_weights", shifted)
    said = r"out\.safetensors: not written, since it is .* from the model"
    with pytest.raises(ExportError, match=f"{said}.*; the older file stays"):
        export_model(Export(str(weights), path, Format.SAFETENSORS, overwrite=True))
    assert path.read_bytes() == b"the one before"
    assert set(tmp_path.iterdir()) == {weights, path}  # and no report beside it that is another file's
    path.unlink()
    with pytest.raises(ExportError, match=f"{said}.*; see .*parity"):
        export_model(Export(str(weights), path, Format.SAFETENSORS))
    report = tmp_path / "out.safetensors.parity.json"
    assert json.loads(report.read_text("utf-8"))["passed"] is False
    assert set(tmp_path.iterdir()) == {weights, report}


@pytest.mark.parametrize("there", ["out.safetensors", "out.safetensors.parity.json"])
def test_nothing_is_replaced_without_asking(weights, tmp_path, there):
    path = tmp_path / "out.safetensors"
    (tmp_path / there).write_bytes(b"the one before")
    with pytest.raises(UsageError, match=f"{there}: is there already; --overwrite"):
        export_model(Export("no such model", path, Format.SAFETENSORS))
    assert (tmp_path / there).read_bytes() == b"the one before"
    assert export_model(Export(str(weights), path, Format.SAFETENSORS, overwrite=True)).passed
    assert (tmp_path / there).read_bytes() != b"the one before"


def test_what_does_not_go_together_is_refused(tmp_path):
    path = tmp_path / "x"
    for format_, precision, size in (
        (Format.ONNX, "bf16", None),
        (Format.SAFETENSORS, "bf16", None),
        (Format.PT2, "int8", None),
        (Format.SAFETENSORS, "fp32", SIZE),
        (Format.PT2, "fp32", (0, 5)),
    ):
        with pytest.raises(UsageError):
            Export("model", path, format_, precision, size)


def test_the_source_is_not_replaced(weights, tmp_path):
    before = weights.read_bytes()
    (tmp_path / "link.safetensors").symlink_to(weights)
    for path in (weights, tmp_path / "link.safetensors"):
        with pytest.raises(UsageError, match="would replace the weights"):
            export_model(Export(str(weights), path, Format.SAFETENSORS, "fp16", overwrite=True))
    assert weights.read_bytes() == before


def test_a_target_in_no_folder_is_refused_before_anything_is_loaded(tmp_path):
    with pytest.raises(OutputError, match="nowhere"):
        export_model(Export("no such model", tmp_path / "nowhere" / "x.pt2", Format.PT2))


@pytest.mark.parametrize("found", ["0.7.0", "0.6.9", "0.7.0.dev20260101"])
def test_an_onnxscript_that_is_silently_wrong_is_refused(monkeypatch, found):
    monkeypatch.setattr("pipcli.export.onnx.version", lambda package: found)
    with pytest.raises(UsageError, match=rf"onnxscript {found} exports .* needs 0\.7\.1 or later"):
        require_onnx()


@pytest.mark.parametrize("found", ["0.7.1", "0.10.0", "1.0"])
def test_a_newer_onnxscript_is_taken(monkeypatch, found):
    monkeypatch.setattr("pipcli.export.onnx.version", lambda package: found)
    require_onnx()
