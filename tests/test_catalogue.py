"""The table of benchmarks, and the copies on this machine where there are any."""

import os
from pathlib import Path

import pytest

from pipcli.errors import UsageError
from pipcli.evaluation.catalogue import DATASETS, find_dataset, is_known
from pipcli.evaluation.datasets import locate
from pipcli.evaluation.reading import pixel_digest, read_pixels

SHARED = Path(os.environ.get("PIPCLI_DATA", "../shared/data"))


def test_names_are_unique_whatever_their_case():
    names = [word.casefold() for dataset in DATASETS for word in (dataset.name, *dataset.aliases)]
    assert len(names) == len(set(names))


def test_weights_are_shares():
    for dataset in DATASETS:
        assert not dataset.weights or sum(dataset.weights.values()) == pytest.approx(1)
        # A set that brings its inputs says what ails them, one that does not leaves that to the noise.
        assert bool(dataset.weights or dataset.beyond) == dataset.paired


def test_all_eleven_folders_of_cdd_are_there_those_with_snow_labelled():
    folders = [dataset for dataset in DATASETS if dataset.name.startswith("CDD-11/")]
    assert len(folders) == 11
    for dataset in folders:
        words = set(dataset.name.removeprefix("CDD-11/").split("_"))
        assert words == {
            "low" if word == "lowlight" else word for word in (*dataset.weights, *dataset.beyond)
        }
        assert ("snow" in words) == ("no task undoes it" in dataset.note)


def test_each_set_says_where_it_comes_from():
    for dataset in DATASETS:
        assert dataset.source
        assert len(dataset.steps.splitlines()) == 3


def test_names_in_any_case_and_by_alias():
    assert find_dataset("rain100l").name == "Rain100L"
    assert find_dataset("BSD68").name == "CBSD68"
    with pytest.raises(UsageError, match="Kodak24"):
        find_dataset("imagenet")


def test_images_are_known_by_their_pixels():
    rain, part = find_dataset("Rain100L"), find_dataset("SOTS-indoor")
    assert is_known(rain, "1", ("0" * 16, "1" * 16)) is False
    # Of a set that is known in part, other images may be right.
    assert is_known(part, "1499_10", ("0" * 16, "1" * 16)) is None
    assert is_known(find_dataset("Kodak24"), "1", ("0" * 16,)) is None


@pytest.mark.parametrize("name", ["CBSD68", "Rain100L", "SOTS-indoor", "LOL", "GoPro-like"])
def test_copies_on_this_machine_are_recognised(name):
    dataset = find_dataset(name)
    located = locate(dataset, [SHARED])
    if located is None:
        pytest.skip(f"{name} is not there")
    assert located.problems == ()
    assert not dataset.verified or len(located.pairs) == dataset.images
    for pair in (located.pairs[0], located.pairs[-1]):
        files = [path for path in (pair.clean, pair.degraded) if path is not None]
        assert is_known(dataset, pair.name, tuple(pixel_digest(read_pixels(path)) for path in files))
