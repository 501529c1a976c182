"""Recipes: those shipped can be trained, and whatever is wrong in one is said with its file and entry."""

from __future__ import annotations

import copy
import dataclasses

import pytest
from photographs import TINY, write_recipe

from pipcli.degradations import Degradation
from pipcli.errors import UsageError
from pipcli.models.checkpoint import build_model, make_config
from pipcli.models.nafnet import PIP_NAFNET
from pipcli.models.restormer import PIP_RESTORMER
from pipcli.training.classifier_recipe import is_classifier_recipe
from pipcli.training.pace import check_length
from pipcli.training.recipe import RECIPES, Recipe, Stage, load_recipe

SHIPPED = sorted(path.stem for path in RECIPES.glob("*.toml") if not is_classifier_recipe(path.stem))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_recipe_loads_and_builds(name):
    recipe = load_recipe(name)
    model = build_model(recipe.architecture, recipe.model)
    assert all(stage.crop % model.stride == 0 for stage in recipe.stages)
    check_length(recipe.minutes, recipe.steps, ())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("unet-blind", "pip-unet-first"),
        ("pip-unet-first", "pip-unet-second"),
        ("pip-unet-second", "pip-unet-third"),
        ("pip-unet-third", "pip-unet-fourth"),
        ("pip-unet-fourth", "pip-unet-fifth"),
        ("pip-unet-fifth", "pip-unet"),
        ("pip-unet-lite-first", "pip-unet-lite"),
    ],
)
def test_the_flagships_runs_go_on_from_each_other(before, after):
    first, second = (
        build_model(recipe.architecture, recipe.model).state_dict()
        for recipe in (load_recipe(before), load_recipe(after))
    )
    assert {name: second[name].shape for name in first} == {name: first[name].shape for name in first}


@pytest.mark.parametrize(
    ("name", "published"), [("pip-restormer", PIP_RESTORMER), ("pip-nafnet", PIP_NAFNET)]
)
def test_the_papers_models_have_their_recipes(name, published):
    recipe = load_recipe(name)
    assert make_config(recipe.architecture, recipe.model, "model") == published
    assert all(sum(stage.batch.values()) == 32 for stage in recipe.stages)


def test_a_file_is_read(tmp_path):
    values = {**TINY, "steps": 7, "data": {"clean": 0.25}, "optimiser": {"betas": [0.8, 0.9], "clip": 2}}
    recipe = load_recipe(str(write_recipe(tmp_path / "mine.toml", values)))
    assert recipe.steps == 7
    assert recipe.data.clean == 0.25
    assert recipe.optimiser.betas == (0.8, 0.9)
    assert recipe.stages[0].batch[Degradation.NOISE] == 2


@pytest.mark.parametrize(
    ("entry", "value", "words"),
    [
        ("epochs", 3, "unknown entry epochs"),
        ("data.blurr", 0.5, "unknown entry data.blurr"),
        ("stages.0.size", 64, "unknown entry stages[0].size"),
        ("model.width", 64, "unknown entry model.width"),
        ("seed", "one", "seed is 'one': it must be of type int"),
        ("compile", 1, "compile is 1: it must be of type bool"),
        ("optimiser.betas", [0.9], "optimiser.betas has 1 entries"),
        ("stages.0.batch", {"snow": 3}, "choose from noise, rain"),
        ("stages.0.batch", {"noise": 1.5}, "stages[0].batch.noise is 1.5"),
        ("stages.0.batch", {"noise": -1}, "stages[0]: batch"),
        ("stages.0.batch", {"noise": 0}, "stages[0]: batch"),
        ("stages.0.crop", 20, "stages[0]: crop is 20"),
        ("stages.0.crop", 8, "stages[0]: crop is 8"),
        ("stages.0.until", 0.5, "stages end at [0.5]"),
        ("stages.0.until", 1.5, "stages[0]: until is 1.5"),
        ("stages", [], "stages end at []"),
        ("minutes", -1, "minutes is -1"),
        ("minutes", float("nan"), "minutes is nan"),
        ("minutes", float("inf"), "minutes is inf"),
        ("steps", -5, "steps is -5"),
        ("checkpoint_minutes", 0, "checkpoint_minutes is 0"),
        ("seed", -1, "seed is -1"),
        ("stages.0.scenes", {"haze": -1}, "stages[0]: scenes.haze is -1"),
        ("stages.0.scenes", {"rain": 1}, "scenes names rain: there are scenes in haze and in lowlight"),
        ("data.smallest_paired", 0.2, "data: smallest_paired is 0.2"),
        ("loss.scenes", 0, "loss: scenes is 0"),
        ("data.clean", 1.2, "data: clean is 1.2"),
        ("data.recoloured", {"haze": 1.5}, "data: recoloured.haze is 1.5"),
        ("data", {"clean": 0.5, "other_prompt": 0.4, "two": 0.2}, "data: clean, other_prompt and two"),
        ("data.smallest_scale", 0.1, "data: smallest_scale is 0.1"),
        ("data.real_blur", float("nan"), "data: real_blur is nan"),
        ("loss.fft", -0.1, "loss: fft is -0.1"),
        ("loss.pixels", "l2", "loss.pixels is 'l2': choose from l1, psnr"),
        ("loss.decoupling", float("nan"), "loss: decoupling is nan"),
        ("optimiser.learning_rate", 0, "optimiser: learning_rate is 0"),
        ("optimiser.learning_rate", float("nan"), "optimiser: learning_rate is nan"),
        ("optimiser.clip", 0, "optimiser: clip is 0"),
        ("optimiser.betas", [0.9, 1.0], "optimiser: betas is [0.9, 1.0]"),
        ("optimiser.weight_decay", -1, "optimiser: weight_decay is -1"),
        ("optimiser.warmup", -1, "optimiser: warmup is -1"),
        ("optimiser.ema", 1.01, "optimiser: ema is 1.01"),
        ("optimiser.decay_from", -0.1, "optimiser: decay_from is -0.1"),
        ("architecture", "vgg", "unknown architecture 'vgg'"),
        ("model.blocks", [1], "model: blocks is (1,)"),
        ("model.prompts", [{"channels": 6, "size": 8}], "model.prompts[0]: prompt channels is 6"),
        ("model.degradations", ["noise", "rain", "haze", "blur"], "stages[0].batch names lowlight"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_entry(tmp_path, entry, value, words):
    values = copy.deepcopy(TINY)
    *path, last = entry.split(".")
    place = values
    for step in path:
        place = place[int(step)] if step.isdigit() else place.setdefault(step, {})
    place[last] = value
    file = write_recipe(tmp_path / "mine.toml", values)
    with pytest.raises(UsageError) as caught:
        load_recipe(str(file))
    message = str(caught.value)
    assert message.startswith(f"recipe {file}: ")
    assert words in message
    assert "\n" not in message


def test_changes_take_the_place_of_entries():
    plain = load_recipe("pip-unet-lite")
    changed = load_recipe(
        "pip-unet-lite", ["loss.fft = 0", "model.prompts=[{}, {}, {}]", "loss.tasks={ blur = 2.0 }", "seed=7"]
    )
    assert changed.loss.fft == 0
    assert changed.loss.tasks == {**plain.loss.tasks, Degradation.BLUR: 2.0}
    assert changed.model["prompts"] == [{}, {}, {}]
    assert changed.model["widths"] == plain.model["widths"]
    assert changed.seed == 7
    assert load_recipe("pip-unet-lite") == plain


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("architecture=unet", "change 'architecture=unet' is no line of TOML"),
        ("loss.fft", "change 'loss.fft' is no line of TOML"),
        ("loss.fft=-1", "fft is -1"),
        ("loss.nonesuch=1", "nonesuch"),
        ("seed.deep=1", "seed"),
    ],
)
def test_a_wrong_change_is_refused(change, words):
    with pytest.raises(UsageError) as caught:
        load_recipe("pip-unet-lite", [change])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_entry_is_named(tmp_path):
    file = write_recipe(tmp_path / "mine.toml", {"architecture": "unet"})
    with pytest.raises(UsageError, match=r"mine\.toml: missing entry model"):
        load_recipe(str(file))


@pytest.mark.parametrize("content", [b"steps = = 3", b"\xff\xfe\x00", b"steps = 3\nsteps = 4\n"])
def test_what_is_no_toml_is_refused(tmp_path, content):
    file = tmp_path / "broken.toml"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=r"recipe .*broken\.toml: "):
        load_recipe(str(file))


def test_a_folder_is_no_recipe(tmp_path):
    with pytest.raises(UsageError, match="is neither a file nor one of the package's"):
        load_recipe(str(tmp_path))


def test_a_folder_does_not_hide_the_recipe_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "unet-blind").mkdir()
    assert load_recipe("unet-blind").architecture == "unet"


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UsageError, match=f"recipe nonesuch .*{', '.join(SHIPPED)}"):
        load_recipe("nonesuch")


def test_the_stage_follows_progress():
    recipe = load_recipe("unet-blind")
    batch = {Degradation.NOISE: 1}
    stages = (Stage(0.5, 32, batch), Stage(0.75, 64, batch), Stage(1.0, 96, batch))
    staged: Recipe = dataclasses.replace(recipe, stages=stages)
    seen = [staged.stage_at(progress).crop for progress in (0, 0.49, 0.5, 0.7, 0.75, 0.99, 1.0)]
    assert seen == [32, 32, 64, 64, 96, 96, 96]


@pytest.mark.parametrize("degradation", ["haze", "lowlight"])
def test_scenes_need_a_model_that_knows_them(tmp_path, degradation):
    values = copy.deepcopy(TINY)
    values["model"]["degradations"] = ["noise", "rain"]
    values["stages"] = [{"until": 1.0, "crop": 32, "batch": {"noise": 2}, "scenes": {degradation: 4}}]
    file = write_recipe(tmp_path / "mine.toml", values)
    with pytest.raises(UsageError, match=rf"stages\[0\].scenes names {degradation}: the model knows noise"):
        load_recipe(str(file))
