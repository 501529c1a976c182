"""`pipcli models`, on a table of small models made for the test."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch

from pipcli.cli import main
from pipcli.configuration import to_mapping
from pipcli.models import zoo
from pipcli.models.checkpoint import load_weights, save_weights
from pipcli.models.classifier import Classifier, ClassifierConfig
from pipcli.models.pip import PromptConfig
from pipcli.models.unet import UNet, UNetConfig

FILE = "small.safetensors"


@pytest.fixture
def model():
    torch.manual_seed(3)
    return UNet(UNetConfig(widths=(4, 8), blocks=(1, 1), prompts=(PromptConfig(4, 4),)))


@pytest.fixture
def weights(model, tmp_path, monkeypatch):
    """The path of weights that the table's only model, `small`, is found at."""
    folder = tmp_path / "package" / "weights"
    folder.mkdir(parents=True)
    path = folder / FILE
    save_weights(model, path, {"minutes": 0})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    entry = zoo.ZooEntry("unet", FILE, digest, "for tests")
    monkeypatch.setattr(zoo, "MODELS", {"small": entry})
    monkeypatch.setattr(zoo, "CLASSIFIERS", {})
    monkeypatch.setattr(zoo, "__file__", str(tmp_path / "package" / "models" / "zoo.py"))
    monkeypatch.delenv(zoo.WEIGHTS_VARIABLE, raising=False)
    return path


@pytest.fixture
def listing(capsys):
    """A function that runs `pipcli models --json` and gives exit code, listings and stderr."""

    def run(*options: str):
        code = main(["models", "--json", *options])
        out, err = capsys.readouterr()
        return code, [json.loads(line) for line in out.splitlines()], err

    return run


def test_lists_what_is_known_of_a_model(weights, model, listing):
    code, [entry], err = listing()
    assert (code, err) == (0, "")
    assert entry == {
        "name": "small",
        "summary": "for tests",
        "architecture": "unet",
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "bytes": weights.stat().st_size,
        "degradations": ["noise", "rain", "haze", "blur", "lowlight"],
        "path": str(weights),
        "beside": None,
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "own": False,
        "verified": None,
        "config": to_mapping(model.config),
        "training": {"minutes": 0},
        "licence": "Apache-2.0",
        "problem": None,
    }


def test_lists_what_is_known_of_a_classifier(weights, listing, monkeypatch):
    config = ClassifierConfig(size=32, crops=2, widths=(8, 8), depth=1, features=8)
    path = weights.with_name("classifier.safetensors")
    save_weights(Classifier(config), path, {})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    entry = zoo.ZooEntry("classifier", path.name, digest, "finds for tests")
    monkeypatch.setattr(zoo, "CLASSIFIERS", {"finder": entry})
    code, [_, found], err = listing("--verify")
    assert (code, err) == (0, "")
    assert (found["name"], found["summary"], found["path"]) == ("finder", "finds for tests", str(path))
    assert (found["verified"], found["sha256"]) == (True, digest)
    assert found["degradations"] == ["noise", "rain", "haze", "blur", "lowlight"]
    assert found["parameters"] == sum(p.numel() for p in Classifier(config).parameters())


def test_the_file_that_has_the_rest_is_named(weights, listing, monkeypatch, capsys):
    thin = weights.with_name("thin.safetensors")
    save_weights(load_weights(weights), thin, {}, beside=weights)
    digest = hashlib.sha256(thin.read_bytes()).hexdigest()
    monkeypatch.setattr(zoo, "MODELS", {"thin": zoo.ZooEntry("unet", thin.name, digest, "shares")})
    code, [found], _ = listing("--verify")
    assert (code, found["beside"], found["verified"]) == (0, FILE, True)
    assert main(["models"]) == 0
    assert f"               the rest of them in {FILE} beside it\n" in capsys.readouterr().out
    weights.unlink()
    code, [found], err = listing()
    assert (code, found["beside"]) == (0, None)
    assert f"thin.safetensors need {FILE} beside them" in err


def test_verify_accepts_what_is_whole_and_names_what_is_not(weights, listing):
    code, [entry], err = listing("--verify")
    assert (code, entry["verified"], err) == (0, True, "")
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)
    code, [entry], err = listing("--verify")
    assert (code, entry["verified"]) == (5, False)
    assert err.startswith("pipcli: error: ")
    assert str(weights) in err
    assert err.count("\n") == 1


def test_missing_weights_are_told(weights, listing):
    weights.unlink()
    for options, expected in (((), 0), (("--verify",), 5)):
        code, [entry], err = listing(*options)
        assert code == expected
        assert entry["path"] is None
        assert FILE in err
        assert entry["problem"] in err


def test_a_file_that_is_no_weights_file_is_told(weights, listing):
    weights.write_text("nothing of the kind")
    code, [entry], err = listing()
    assert code == 0
    assert entry["parameters"] is None
    assert str(weights) in entry["problem"]
    assert err.count("\n") == 1


def test_weights_of_ones_own_are_exempt_and_their_hash_is_recorded(weights, listing, tmp_path, monkeypatch):
    own = tmp_path / "own" / FILE
    own.parent.mkdir()
    torch.manual_seed(4)
    save_weights(UNet(UNetConfig(widths=(4, 4), blocks=(0, 0), prompts=(None,))), own, {})
    monkeypatch.setenv(zoo.WEIGHTS_VARIABLE, str(own.parent))
    code, [entry], err = listing("--verify")
    assert (code, err) == (0, "")
    assert entry["path"] == str(own)
    assert entry["own"] is True
    assert entry["verified"] is None
    assert entry["sha256"] == hashlib.sha256(own.read_bytes()).hexdigest()


def test_a_classifier_is_verified_too(weights, listing, monkeypatch):
    classifier = Classifier(ClassifierConfig(size=32, widths=(8, 8), depth=1, features=8))
    path = weights.with_name("seer.safetensors")
    save_weights(classifier, path, {})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(zoo, "CLASSIFIERS", {"seer": zoo.ZooEntry("classifier", path.name, digest, "sees")})
    code, [_, entry], err = listing("--verify")
    assert (code, err, entry["verified"], entry["architecture"]) == (0, "", True, "classifier")
    assert entry["degradations"] == ["noise", "rain", "haze", "blur", "lowlight"]
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    code, [_, entry], _ = listing("--verify")
    assert (code, entry["verified"]) == (5, False)


def test_text_for_people_fits_80_columns(weights, capsys, tmp_path):
    assert main(["models", "--verify"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for word in ("small: for tests", "unet", "parameters", "noise, rain, haze, blur, lowlight", "(verified)"):
        assert word in out
    assert hashlib.sha256(weights.read_bytes()).hexdigest() in out
    assert max(len(line.replace(str(tmp_path), "")) for line in out.splitlines()) < 80
