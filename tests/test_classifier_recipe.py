"""Recipes of classifiers: the shipped one, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipcli.errors import UsageError
from pipcli.training.classifier_recipe import ClassifierRecipe, is_classifier_recipe, load_classifier_recipe


def test_the_shipped_recipe_is_a_classifier():
    recipe = load_classifier_recipe("pip-classifier")
    assert recipe.config.backbone == "compact"
    assert is_classifier_recipe("pip-classifier")
    assert not is_classifier_recipe("pip-unet")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('architecture = "unet"', "architecture is 'unet'"),
        ('architecture = "classifier"\nbatch = 0', "batch is 0"),
        ('architecture = "classifier"\ncrops = [0, 2]', r"crops is \(0, 2\)"),
        ('architecture = "classifier"\ncrops = [4, 3]', r"crops is \(4, 3\)"),
        ('architecture = "classifier"\n[data]\nrooms = 0.9', "rooms is 0.9"),
        ('architecture = "classifier"\nminutes = -1', "minutes is -1"),
        ('architecture = "classifier"\ncheckpoint_minutes = 0', "checkpoint_minutes is 0"),
        ('architecture = "classifier"\nclean_weight = 0', "clean_weight is 0"),
        ('architecture = "classifier"\nsmoothing = 0.5', "smoothing is 0.5"),
        ('architecture = "classifier"\nseed = -1', "seed is -1"),
        ('architecture = "classifier"\n[model]\nsize = 100', "size is 100"),
        ('architecture = "classifier"\n[model]\nsize = 160', "crops of 160 do not fit"),
        ('architecture = "classifier"\n[data]\nrained = 1', "unknown entry data.rained"),
    ],
)
def test_what_does_not_fit_is_refused_with_file_and_entry(tmp_path, text, why):
    path = tmp_path / "own.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=why) as caught:
        load_classifier_recipe(str(path))
    assert str(path) in str(caught.value)


def test_a_missing_recipe_names_those_that_there_are():
    with pytest.raises(UsageError, match=r"nonesuch is neither .* pip-classifier"):
        is_classifier_recipe("nonesuch")


def test_the_second_shipped_recipe_goes_on_from_the_first():
    first, second = (
        load_classifier_recipe(name).config for name in ("pip-classifier-first", "pip-classifier")
    )
    assert replace(first, depth=second.depth) == second
    assert first.depth < second.depth


def test_steps_have_all_numbers_of_crops_and_cost_alike():
    recipe = ClassifierRecipe("classifier", batch=40, crops=(2, 6))
    drawn = [recipe.drawn(seed) for seed in range(100)]
    assert {crops for _, crops in drawn} == {2, 3, 4, 5, 6}
    assert drawn[0] == recipe.drawn(0)
    # An example costs as many looks as it has crops, and one for its overview.
    assert {abs(examples * (crops + 1) - 120) <= crops for examples, crops in drawn} == {True}
    assert ClassifierRecipe("classifier", batch=1, crops=(1, 9)).drawn(3)[0] == 1


def test_by_default_it_trains_the_default_classifier():
    assert ClassifierRecipe("classifier").config.degradations
