"""Models by name: the table, where weights are found, and the check of their hash."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipcli.errors import ModelError
from pipcli.models import zoo
from pipcli.models.checkpoint import (
    ARCHITECTURES,
    CLASSIFIER,
    build_model,
    read_record,
    save_weights,
    sha256_of,
)
from pipcli.models.classifier import Classifier, ClassifierConfig
from pipcli.models.zoo import (
    CLASSIFIERS,
    DEFAULT_CLASSIFIER,
    DEFAULT_MODEL,
    MODELS,
    WEIGHTS_VARIABLE,
    load_classifier,
    load_model,
    locate,
)

WEIGHTS = Path(zoo.__file__).resolve().parents[2] / "weights"
PLACEHOLDER = "0" * 64
NUMBERS = {"widths": [8, 12], "blocks": [1, 1], "prompts": [{}]}


def tiny(path: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_weights(build_model("unet", NUMBERS), path, {})
    return path


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The package as if installed in a folder with its weights, whose hash stands in the table."""
    monkeypatch.delenv(WEIGHTS_VARIABLE, raising=False)
    monkeypatch.setattr(zoo, "__file__", str(tmp_path / "site/pipcli/models/zoo.py"))
    path = tiny(tmp_path / "site/pipcli/weights" / MODELS[DEFAULT_MODEL].file)
    monkeypatch.setattr(
        zoo, "MODELS", {DEFAULT_MODEL: replace(MODELS[DEFAULT_MODEL], sha256=sha256_of(path))}
    )
    return path


def test_the_defaults_are_in_their_tables():
    assert DEFAULT_MODEL in MODELS
    assert DEFAULT_CLASSIFIER in CLASSIFIERS
    assert not set(MODELS) & set(CLASSIFIERS)


@pytest.mark.parametrize("name", [*MODELS, *CLASSIFIERS])
def test_entries_are_well_formed(name):
    entry = {**MODELS, **CLASSIFIERS}[name]
    assert entry.architecture in (ARCHITECTURES if name in MODELS else {CLASSIFIER})
    assert entry.file == f"{name}.safetensors"
    assert re.fullmatch("[0-9a-f]{64}", entry.sha256)


@pytest.mark.parametrize("name", [*MODELS, *CLASSIFIERS])
def test_shipped_weights_are_those_of_the_table_and_of_their_card(name):
    entry = {**MODELS, **CLASSIFIERS}[name]
    if entry.sha256 == PLACEHOLDER:
        pytest.skip(f"{name} has no weights yet")
    path = WEIGHTS / entry.file
    assert sha256_of(path) == entry.sha256
    assert read_record(path)["architecture"] == entry.architecture
    assert entry.sha256 in (WEIGHTS / "README.md").read_text(encoding="utf-8")


def test_a_name_is_found_in_the_package(installed):
    assert locate(DEFAULT_MODEL).path == installed
    assert locate(DEFAULT_MODEL).expected_sha256 == sha256_of(installed)
    assert not load_model().training


def test_a_name_is_found_beside_the_package(installed):
    beside = installed.parents[2] / "weights" / installed.name
    beside.parent.mkdir()
    installed.rename(beside)
    assert locate(DEFAULT_MODEL).path == beside
    load_model(DEFAULT_MODEL)


def test_missing_weights_are_named(installed):
    installed.unlink()
    with pytest.raises(ModelError, match=rf"weights {installed.name} of model {DEFAULT_MODEL} are missing"):
        load_model()


def test_other_weights_under_the_name_are_refused(installed):
    tiny(installed, seed=1)
    with pytest.raises(ModelError) as caught:
        load_model()
    for word in (str(installed), sha256_of(installed), zoo.MODELS[DEFAULT_MODEL].sha256):
        assert word in str(caught.value)


def test_one_changed_bit_is_found(installed):
    content = bytearray(installed.read_bytes())
    content[-1] ^= 1
    installed.write_bytes(content)
    with pytest.raises(ModelError, match="damaged or was replaced"):
        load_model()


def test_the_variable_overrides_and_is_not_checked(installed, tmp_path, monkeypatch):
    own = tiny(tmp_path / "own" / installed.name, seed=2)
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(own.parent))
    assert locate(DEFAULT_MODEL) == zoo.LocatedWeights(own, None)
    torch.manual_seed(2)
    expected = build_model("unet", NUMBERS).state_dict()["tail.weight"].half().float()
    assert torch.equal(load_model().state_dict()["tail.weight"], expected)


def test_a_folder_without_the_file_does_not_hide_the_package(installed, tmp_path, monkeypatch):
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path))
    assert locate(DEFAULT_MODEL).path == installed


def test_a_path_is_taken_as_it_is(tmp_path):
    path = tiny(tmp_path / "own.safetensors")
    assert locate(str(path)) == zoo.LocatedWeights(path, None)
    load_model(str(path))


@pytest.mark.parametrize("name", ["nonesuch", "", "."])
def test_what_is_neither_name_nor_file_is_refused(name):
    with pytest.raises(ModelError, match=f"model {re.escape(name)} is neither .* nor one of .*pip-unet"):
        locate(name)


@pytest.fixture
def classifier(installed, monkeypatch):
    """A small classifier beside the installed model, its hash in the table."""
    torch.manual_seed(1)
    path = installed.with_name(CLASSIFIERS[DEFAULT_CLASSIFIER].file)
    save_weights(Classifier(ClassifierConfig(size=32, widths=(8, 8), depth=1, features=8)), path, {})
    entry = replace(CLASSIFIERS[DEFAULT_CLASSIFIER], sha256=sha256_of(path))
    monkeypatch.setattr(zoo, "CLASSIFIERS", {DEFAULT_CLASSIFIER: entry})
    return path


def test_a_classifier_is_found_by_name_and_path(classifier):
    model = load_classifier()
    assert not model.training
    assert model.config.size == 32
    assert model.state_dict().keys() == load_classifier(str(classifier)).state_dict().keys()


def test_a_damaged_classifier_is_refused(classifier):
    content = bytearray(classifier.read_bytes())
    content[-1] ^= 1
    classifier.write_bytes(content)
    with pytest.raises(ModelError, match="damaged or was replaced"):
        load_classifier()


def test_one_kind_of_weights_is_not_taken_for_the_other(installed, classifier):
    with pytest.raises(ModelError, match="are a classifier's: it restores nothing"):
        load_model(str(classifier))
    with pytest.raises(ModelError, match="are no classifier's"):
        load_classifier(str(installed))
    with pytest.raises(ModelError, match=f"nor one of {DEFAULT_CLASSIFIER}"):
        load_classifier(DEFAULT_MODEL)
