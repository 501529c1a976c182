"""The classifier's loop: weights that load, a run that learns, and one that goes on as if never stopped."""

from __future__ import annotations

import json
import math
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from photographs import write_photographs

from pipcli.configuration import to_mapping
from pipcli.degradations import Degradation
from pipcli.errors import ModelError, OutputError, UsageError
from pipcli.models.checkpoint import load_classifier_weights, read_record, save_weights, sha256_of
from pipcli.models.classifier import Classifier
from pipcli.models.unet import UNet, UNetConfig
from pipcli.training.classifier_data import ExampleShares
from pipcli.training.classifier_loop import sigma_loss, train_classifier
from pipcli.training.classifier_recipe import ClassifierRecipe
from pipcli.training.pace import Progress
from pipcli.training.recipe import Optimiser

RECIPE = ClassifierRecipe(
    "classifier",
    model={"size": 32, "crops": 2, "widths": [16, 16], "depth": 1, "features": 8},
    batch=4,
    crops=(1, 2),
    steps=4,
    data=ExampleShares(sides=(32, 40)),
    optimiser=Optimiser(warmup=1),
)

SCENE = UNetConfig(widths=(4, 8), blocks=(0, 1), prompts=(None,), degradations=(Degradation.HAZE,))
MOTION = UNetConfig(
    widths=(4, 4, 4, 8),
    blocks=(0, 0, 0, 1),
    prompts=(None, None, None),
    degradations=(Degradation.BLUR,),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder: Path = tmp_path_factory.mktemp("data")
    write_photographs(folder)
    return folder


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    return load_classifier_weights(path).state_dict()


def test_a_run_leaves_calibrated_weights_that_tell_how_they_came_about(data, tmp_path):
    reports: list[Progress] = []
    path = train_classifier(RECIPE, data, tmp_path / "run", report=reports.append)
    assert path == tmp_path / "run/last.safetensors"
    record = read_record(path)
    assert record["architecture"] == "classifier"
    assert record["training"]["step"] == 4
    assert record["training"]["recipe"]["steps"] == 4
    (line,) = (json.loads(text) for text in (tmp_path / "run/log.jsonl").read_text().splitlines())
    assert set(line["validation"]) == {"loss", "top1", "clean", "noise"}
    model = load_classifier_weights(path)
    assert model.temperature.tolist() == pytest.approx(line["temperature"], rel=1e-3)
    assert model.offset.tolist() == pytest.approx(line["offset"], rel=1e-3, abs=1e-6)
    assert (tmp_path / "run/best.safetensors").is_file()
    assert reports[-1].validation == line["validation"]


def test_clean_examples_weigh_in_a_run_as_its_recipe_says(data, tmp_path):
    once, often = (
        weights_of(train_classifier(replace(RECIPE, clean_weight=weight), data, tmp_path / str(weight)))
        for weight in (1.0, 100.0)
    )
    assert any((once[name] - often[name]).abs().max() > 1e-3 for name in once if name.endswith("weight"))


def test_a_stopped_run_goes_on_as_if_never_stopped(data, tmp_path):
    # Constant over the run, since a rate that falls with progress would differ in a run of other length.
    recipe = replace(RECIPE, optimiser=replace(RECIPE.optimiser, decay_from=1.0))
    train_classifier(recipe, data, tmp_path / "whole")
    train_classifier(replace(recipe, steps=2), data, tmp_path / "halves")
    train_classifier(recipe, data, tmp_path / "halves", resume=True)
    whole, halves = (weights_of(tmp_path / name / "last.safetensors") for name in ("whole", "halves"))
    for name, value in whole.items():
        torch.testing.assert_close(halves[name], value, rtol=0, atol=0, msg=name)


def test_a_run_begins_at_given_weights_at_temperature_one(data, tmp_path):
    first = train_classifier(RECIPE, data, tmp_path / "first")
    deeper = replace(RECIPE, steps=0, model={**RECIPE.model, "depth": 2})
    again = train_classifier(deeper, data, tmp_path / "again", init=[first])
    (origin,) = read_record(again)["training"]["initialised_from"]
    assert (origin["file"], origin["sha256"]) == ("last.safetensors", sha256_of(first))
    assert origin["training"]["step"] == RECIPE.steps
    given, kept = weights_of(first), weights_of(again)
    for name in given.keys() - {"temperature", "offset"}:
        torch.testing.assert_close(kept[name], given[name], rtol=0, atol=0, msg=name)
    assert (tmp_path / "again/log.jsonl").read_text().count("\n") == 1
    with pytest.raises(UsageError, match=r"has no place in it"):
        train_classifier(RECIPE, data, tmp_path / "other", init=[again])
    assert not (tmp_path / "other").exists()


def test_a_run_trains_no_more_than_the_parts_that_its_recipe_names(data, tmp_path):
    first = train_classifier(RECIPE, data, tmp_path / "first")
    recipe = replace(RECIPE, learned=("hidden", "head"))
    again = train_classifier(recipe, data, tmp_path / "again", init=[first])
    given, kept = weights_of(first), weights_of(again)
    moved = {name for name, value in given.items() if not torch.equal(kept[name], value)}
    assert {name.split(".")[0] for name in moved} - {"temperature", "offset"} == {"hidden", "head"}
    with pytest.raises(
        UsageError, match=r"'tail', which the model lacks: choose from broadly, closely, head"
    ):
        train_classifier(replace(RECIPE, learned=("tail",)), data, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_batches_seen_before_are_learned_from_again(data, tmp_path, monkeypatch):
    seen: list[torch.Tensor] = []
    judged: list[torch.Tensor] = []
    look, judge = Classifier.look, Classifier.judge

    def looked(self, *images):
        numbers = look(self, *images)
        if self.training:
            seen.append(numbers[0])
        return numbers

    def judging(self, near, *others):
        if self.training:
            judged.append(near)
        return judge(self, near, *others)

    monkeypatch.setattr(Classifier, "look", looked)
    monkeypatch.setattr(Classifier, "judge", judging)
    train_classifier(replace(RECIPE, learned=("hidden", "head"), replayed=2), data, tmp_path / "run")
    assert torch.equal(judged[0], seen[0])
    for step in range(1, 4):
        fresh, again = judged[step][: len(seen[step])], judged[step][len(seen[step]) :]
        assert torch.equal(fresh, seen[step])
        former = torch.cat(seen[:step])
        assert len(again) >= 8
        assert all((former == row).all(dim=1).any() for row in again)
    with pytest.raises(ValueError, match=r"replayed is 2: learned must name nothing but heed, hidden"):
        replace(RECIPE, learned=("closely", "head"), replayed=2)


def test_a_run_begins_between_several_weights(data, tmp_path):
    starts = [
        train_classifier(replace(RECIPE, seed=seed, steps=1), data, tmp_path / str(seed)) for seed in (1, 2)
    ]
    between = train_classifier(replace(RECIPE, steps=0), data, tmp_path / "between", init=starts)
    origins = read_record(between)["training"]["initialised_from"]
    assert [origin["sha256"] for origin in origins] == [sha256_of(path) for path in starts]
    one, other, kept = (weights_of(path) for path in (*starts, between))
    for name in one.keys() - {"temperature", "offset"}:
        mean = (one[name].float() + other[name].float()) / 2
        torch.testing.assert_close(kept[name].float(), mean, rtol=2e-3, atol=1e-4, msg=name)


def test_frozen_networks_come_from_restoration_models_and_stay(data, tmp_path):
    torch.manual_seed(1)
    haze, blur = UNet(SCENE), UNet(MOTION)
    for name, model in (("haze", haze), ("blur", blur)):
        save_weights(model, tmp_path / f"{name}.safetensors", {})
    plain = train_classifier(replace(RECIPE, steps=1), data, tmp_path / "plain")
    numbers = {"scene": to_mapping(SCENE), "motion": to_mapping(MOTION)}
    recipe = replace(RECIPE, model={**RECIPE.model, **numbers})
    starts = [plain, tmp_path / "haze.safetensors", tmp_path / "blur.safetensors"]
    run = train_classifier(recipe, data, tmp_path / "run", init=starts)
    trained = load_classifier_weights(run)
    for name, part in (("scene", haze), ("motion", blur)):
        for key, value in part.state_dict().items():
            torch.testing.assert_close(trained.frozen[name].state_dict()[key], value.half().float(), msg=key)
    assert trained.heed[-1].weight.abs().max() > 0
    # A run of a classifier that has them needs no other files, nor does one that is resumed.
    longer = replace(recipe, steps=6)
    further = train_classifier(longer, data, tmp_path / "further", init=[run])
    again = train_classifier(longer, data, tmp_path / "run", resume=True)
    for path in (further, again):
        for key, value in trained.scene.state_dict().items():
            torch.testing.assert_close(load_classifier_weights(path).scene.state_dict()[key], value, msg=key)
    with pytest.raises(UsageError, match=r"model\.motion is trained by itself: give its weights"):
        train_classifier(recipe, data, tmp_path / "other", init=starts[:2])
    with pytest.raises(UsageError, match="it has no place for any of them"):
        train_classifier(RECIPE, data, tmp_path / "other", init=starts[:2])
    assert not (tmp_path / "other").exists()


def test_a_signal_ends_the_run_with_a_checkpoint(data, tmp_path):
    recipe = replace(RECIPE, steps=1000, checkpoint_minutes=1e-9)
    stop = lambda progress: os.kill(os.getpid(), signal.SIGTERM)  # noqa: E731
    assert train_classifier(recipe, data, tmp_path / "run", report=stop) is None
    state = json.loads((tmp_path / "run/checkpoint/state.json").read_text())
    assert 0 < state["step"] < 1000


def test_other_models_checkpoints_are_refused(data, tmp_path):
    train_classifier(replace(RECIPE, steps=1), data, tmp_path / "run")
    other = replace(RECIPE, model={**RECIPE.model, "features": 16})
    with pytest.raises(UsageError, match="does not fit"):
        train_classifier(other, data, tmp_path / "run", resume=True)


def test_what_cannot_be_is_refused_before_anything_is_written(data, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="either in minutes or in steps"):
        train_classifier(replace(RECIPE, steps=None), data, tmp_path / "run")
    with pytest.raises(UsageError, match="a run of 0 steps keeps the weights that it starts from"):
        train_classifier(replace(RECIPE, steps=0), data, tmp_path / "run")
    with pytest.raises(ModelError, match="no checkpoint"):
        train_classifier(RECIPE, data, tmp_path / "run", resume=True)
    (tmp_path / "old").mkdir()
    (tmp_path / "old/log.jsonl").touch()
    with pytest.raises(UsageError, match="holds a run already"):
        train_classifier(RECIPE, data, tmp_path / "old")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be made"):
        train_classifier(RECIPE, data, tmp_path / "file/run")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="by one process"):
        train_classifier(RECIPE, data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_loss_of_sigma_counts_relative_errors_where_it_is_known():
    known = torch.tensor([10.0, math.nan, 50.0])
    off = sigma_loss(torch.tensor([20.0, 3.0, 50.0]), known)
    # Smooth L1 beyond its bend: the distance less half of the bend, over two known images.
    assert off.item() == pytest.approx((math.log(21 / 11) - 0.05) / 2, rel=1e-5)
    assert sigma_loss(torch.tensor([20.0]), torch.tensor([math.nan])) == 0
