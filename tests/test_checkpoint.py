"""Weights files: they come back as they were, and whatever is wrong with one is said with its name."""

from __future__ import annotations

import json
import os
import stat

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from pipcli.degradations import Degradation
from pipcli.errors import ModelError
from pipcli.models.checkpoint import (
    ARCHITECTURES,
    build_model,
    load_classifier_weights,
    load_weights,
    make_config,
    read_record,
    save_weights,
    sha256_of,
)
from pipcli.models.classifier import Classifier, ClassifierConfig

NUMBERS = {
    "unet": {"widths": [8, 12], "blocks": [1, 1], "prompts": [{"channels": 8, "size": 8}]},
    "restormer": {},
    "nafnet": {},
}
TRAINING = {"step": 7, "validation": {"noise": 30.5}, "recipe": {"seed": 0}}


def tiny(**changes):
    torch.manual_seed(0)
    return build_model("unet", {**NUMBERS["unet"], **changes})


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "tiny.safetensors"
    save_weights(tiny(), path, TRAINING)
    return path


def rewritten(path, *, record=None, tensors=None):
    """The file with another description or other tensors."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    if record is not None:
        metadata = {"pipcli": record if isinstance(record, str) else json.dumps(record)}
    save_file(load_file(path) if tensors is None else tensors, path, metadata=metadata)
    return path


def test_a_classifier_with_one_temperature_for_all_has_it_for_each(tmp_path):
    path = tmp_path / "tiny.safetensors"
    save_weights(Classifier(ClassifierConfig(size=32, widths=(8, 8), depth=1, features=4)), path, TRAINING)
    rewritten(path, tensors={**load_file(path), "temperature": torch.tensor(0.75)})
    assert load_classifier_weights(path).temperature.tolist() == [0.75] * 5
    rewritten(path, tensors={**load_file(path), "temperature": torch.ones(4)})
    with pytest.raises(ModelError, match=r"tiny.safetensors do not fit .*: temperature has another shape"):
        load_classifier_weights(path)


def test_weights_come_back_as_they_were(tmp_path):
    model = tiny(degradations=["rain", "noise"])
    path = tmp_path / "tiny.safetensors"
    save_weights(model, path, TRAINING, torch.float32)
    loaded = load_weights(path)
    assert not loaded.training
    assert loaded.config == model.config
    assert loaded.degradations == (Degradation.RAIN, Degradation.NOISE)
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    x, omega = torch.rand(1, 3, 9, 7), torch.tensor([[0.5, 0.5]])
    with torch.no_grad():
        assert torch.equal(loaded(x, omega), model.eval()(x, omega))


def test_weights_are_stored_in_half_precision_and_loaded_in_single(weights):
    assert {tensor.dtype for tensor in load_file(weights).values()} == {torch.float16}
    loaded = load_weights(weights).state_dict()
    for name, tensor in tiny().state_dict().items():
        assert loaded[name].dtype == torch.float32
        assert torch.equal(loaded[name], tensor.half().float())


def test_a_file_describes_itself(weights):
    record = read_record(weights)
    assert record["architecture"] == "unet"
    assert record["training"] == TRAINING
    assert record["licence"] == "Apache-2.0"
    assert record["config"]["degradations"] == ["noise", "rain", "haze", "blur", "lowlight"]


@pytest.fixture
def shared(weights):
    """Weights that leave to others beside them what both have alike, which is all but the tail."""
    model = tiny()
    with torch.no_grad():
        model.tail.weight.add_(1)
    path = weights.with_name("shared.safetensors")
    save_weights(model, path, TRAINING, beside=weights)
    return path


def test_tensors_that_two_files_have_alike_are_stored_once(weights, shared):
    assert list(load_file(shared)) == ["tail.weight"]
    assert read_record(shared)["beside"] == {"file": weights.name, "sha256": sha256_of(weights)}
    expected, found = load_weights(weights).state_dict(), load_weights(shared).state_dict()
    expected["tail.weight"] = (tiny().tail.weight.detach() + 1).half().float()
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_what_is_wrong_with_the_file_beside_is_said(weights, shared):
    save_weights(tiny(), weights, {"step": 8})
    with pytest.raises(
        ModelError, match=r"shared\.safetensors need tiny\.safetensors .* with sha256 \w+: it has"
    ):
        load_weights(shared)
    weights.unlink()
    with pytest.raises(ModelError, match=r"shared\.safetensors need tiny\.safetensors beside them"):
        load_weights(shared)
    for said in ({"file": "../tiny.safetensors"}, {}, "tiny.safetensors"):
        rewritten(shared, record={**read_record(shared), "beside": said})
        with pytest.raises(ModelError, match=r"shared\.safetensors do not say which file beside them"):
            load_weights(shared)


def test_tensors_are_left_to_another_file_of_the_same_folder_alone(weights, tmp_path):
    (tmp_path / "sub").mkdir()
    for path in (weights, tmp_path / "sub/tiny2.safetensors"):
        with pytest.raises(ModelError, match="must be another file in the folder of"):
            save_weights(tiny(), path, TRAINING, beside=weights)
    with pytest.raises(ModelError, match=r"gone\.safetensors cannot be read"):
        save_weights(tiny(), tmp_path / "new.safetensors", TRAINING, beside=tmp_path / "gone.safetensors")
    assert not (tmp_path / "new.safetensors").exists()


def test_the_same_weights_make_the_same_file(weights, tmp_path):
    save_weights(tiny(), tmp_path / "again.safetensors", TRAINING)
    assert sha256_of(weights) == sha256_of(tmp_path / "again.safetensors")


def test_files_have_the_mode_that_the_user_asks_for(tmp_path):
    before = os.umask(0o027)
    try:
        save_weights(tiny(), tmp_path / "tiny.safetensors", {})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "tiny.safetensors").stat().st_mode) == 0o640


def test_a_write_that_fails_leaves_the_older_file(weights, monkeypatch):
    before = weights.read_bytes()

    def fail(source: object, target: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        save_weights(tiny(blocks=[2, 2]), weights, {})
    assert weights.read_bytes() == before


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_has_a_configuration(architecture):
    config = make_config(architecture, NUMBERS[architecture])
    assert config.degradations == tuple(Degradation)


def test_an_unknown_architecture_is_refused():
    with pytest.raises(ValueError, match="unknown architecture 'vgg': choose from unet"):
        build_model("vgg", {})


def truncate(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def without(path, entry):
    record = read_record(path)
    del record[entry]
    rewritten(path, record=record)


def with_entry(path, **entries):
    rewritten(path, record={**read_record(path), **entries})


def without_tensor(path):
    tensors = load_file(path)
    del tensors["tail.weight"]
    rewritten(path, tensors=tensors)


def with_tensor(path, name, tensor):
    rewritten(path, tensors={**load_file(path), name: tensor})


DAMAGE = {
    "missing": (lambda path: path.unlink(), "do not exist"),
    "empty": (lambda path: path.write_bytes(b""), "cannot be read"),
    "text": (lambda path: path.write_text("not weights at all"), "cannot be read"),
    "short": (lambda path: path.write_bytes(b"\x00"), "cannot be read"),
    "cut in the head": (lambda path: truncate(path, 0.05), "cannot be read"),
    "cut in the body": (lambda path: truncate(path, 0.9), "cannot be read"),
    "foreign": (lambda path: save_file({"a": torch.zeros(2)}, path), "do not describe a pipcli model"),
    "no JSON": (lambda path: rewritten(path, record="{"), "no JSON"),
    "JSON of another kind": (lambda path: rewritten(path, record="[1]"), "have format None"),
    "newer": (lambda path: with_entry(path, format=99), "have format 99: this version reads 1"),
    "no architecture": (lambda path: without(path, "architecture"), "no architecture"),
    "no config": (lambda path: without(path, "config"), "no config"),
    "config of another kind": (lambda path: with_entry(path, config=[1]), "no config"),
    "architecture of another kind": (lambda path: with_entry(path, architecture=["unet"]), "no architecture"),
    "other architecture": (lambda path: with_entry(path, architecture="vgg"), "unknown architecture 'vgg'"),
    "unknown entry": (lambda path: with_entry(path, config={"size": 3}), "unknown entry size"),
    "other config": (
        lambda path: with_entry(path, config={**read_record(path)["config"], "widths": [8, 16]}),
        "down.0.weight has another shape",
    ),
    "a tensor missing": (without_tensor, "tail.weight is missing"),
    "a tensor too many": (
        lambda path: with_tensor(path, "neck.weight", torch.zeros(2)),
        "neck.weight is missing or has no place",
    ),
    "a tensor of another shape": (
        lambda path: with_tensor(path, "tail.weight", torch.zeros(3, 8, 1, 1)),
        "tail.weight has another shape",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_wrong_with_a_file_is_said(weights, damage):
    spoil, words = DAMAGE[damage]
    spoil(weights)
    with pytest.raises(ModelError) as caught:
        load_weights(weights)
    assert str(weights) in str(caught.value)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_weights_file(tmp_path):
    with pytest.raises(ModelError, match="cannot be read"):
        load_weights(tmp_path)
